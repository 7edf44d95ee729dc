/*
 * The conformance suite over tcp with a job key: see local.mk for IO, WIRE. The
 * excluded cases that talk frames are in test-secure and test-hostile.
 */
#include "tests/transport/conformance.h"

#define NO_KEY "its frames come from somebody without a key"

static const struct conformance_exclusion exclusions[] = {
	{"acquired slot", "a sender writes into its own memory"},
	{"bind", "with a key it may listen beyond loopback"},
	{"two-step hello", NO_KEY},
	{"wrong version", NO_KEY},
	{"damaged frames", NO_KEY},
	{"damaged payload", NO_KEY},
	{"garbage", NO_KEY},
#ifdef OVERLAP
	{"overlap", OVERLAP},
#endif
};

int main(void)
{
	static const struct conformance_transport transport = {
		.name = "tcp-" IO ", " WIRE_NAME,
		.kind = "tcp",
		.io = IO,
		.wire = WIRE,
		.exclusions = exclusions,
		.exclusion_count = ARRAY_SIZE(exclusions),
	};

	return conformance_run(&transport);
}
