/* The conformance suite over auto, where all ranks are of one host. */
#include "tests/transport/conformance.h"

#define NO_PORT "ranks of one host have no port to knock at"

static const struct conformance_exclusion exclusions[] = {
	{"query", "it tells of the transport that was chosen"},
	{"strangers", NO_PORT},
	{"bind", "test-tcp-* have it"},
	{"two-step hello", NO_PORT},
	{"wrong version", NO_PORT},
	{"damaged frames", NO_PORT},
	{"damaged payload", NO_PORT},
	{"garbage", NO_PORT},
};

int main(void)
{
	static const struct conformance_transport transport = {
		.name = "auto",
		.kind = "auto",
		.exclusions = exclusions,
		.exclusion_count = ARRAY_SIZE(exclusions),
	};

	return conformance_run(&transport);
}
