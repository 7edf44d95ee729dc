/* The conformance suite over inproc: ranks are threads of this process. */
#include "tests/transport/conformance.h"

static const struct conformance_exclusion exclusions[] = {
	{"peer killed", "ranks are threads: none dies alone"},
	{"peer stopped", "ranks are threads: none is stopped alone"},
	{"wrong key", "who shares the memory needs no key"},
	{"refused", "ranks of one hub have no ports"},
	{"strangers", "there is no port to knock at"},
	{"bind", "there is no address to bind"},
	{"two-step hello", "there is no hello on a wire"},
	{"wrong version", "one process has one version"},
	{"wrong address", "ranks of one hub have no ports"},
	{"damaged frames", "there are no frames"},
	{"damaged payload", "there is no wire"},
	{"garbage", "there is no wire"},
};

int main(void)
{
	static const struct conformance_transport transport = {
		.name = "inproc",
		.kind = "inproc",
		.exclusions = exclusions,
		.exclusion_count = ARRAY_SIZE(exclusions),
	};

	return conformance_run(&transport);
}
