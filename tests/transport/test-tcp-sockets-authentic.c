/* The conformance suite over tcp on plain sockets, authentic. */
#include "tests/transport/conformance.h"

#define HAND_MADE "a peer made by hand has no key: see test-tcp-tamper"

static const struct conformance_exclusion exclusions[] = {
	{"acquired slot", "a sender writes into its own memory"},
	{"overlap", "bytes move only while the owner calls progress"},
	{"two-step hello", HAND_MADE},
	{"wrong version", HAND_MADE},
	{"damaged frames", HAND_MADE},
	{"damaged payload", HAND_MADE},
	{"garbage", HAND_MADE},
};

int main(void)
{
	static const struct conformance_transport transport = {
		.name = "tcp-sockets-authentic",
		.kind = "tcp",
		.io = "sockets",
		.wire = TRANSPORT_WIRE_AUTHENTIC,
		.exclusions = exclusions,
		.exclusion_count = ARRAY_SIZE(exclusions),
	};

	return conformance_run(&transport);
}
