/* The conformance suite over shm, in threads and processes. */
#include "tests/transport/conformance.h"

static const struct conformance_exclusion exclusions[] = {
	{"strangers", "there is no port to knock at; test-shm-memory has it"},
	{"bind", "there is no address to bind"},
	{"two-step hello", "these knock at a TCP port"},
	{"wrong version", "these knock at a TCP port"},
	{"damaged frames", "there are no frames"},
	{"damaged payload", "there is no wire"},
	{"garbage", "these knock at a TCP port"},
};

int main(void)
{
	static const struct conformance_transport transport = {
		.name = "shm",
		.kind = "shm",
		.exclusions = exclusions,
		.exclusion_count = ARRAY_SIZE(exclusions),
	};

	return conformance_run(&transport);
}
