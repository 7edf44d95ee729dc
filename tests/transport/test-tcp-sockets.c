/* The conformance suite over tcp on plain sockets. */
#include "tests/transport/conformance.h"

static const struct conformance_exclusion exclusions[] = {
	{"overlap", "bytes move only while the owner calls progress"},
	{"acquired slot", "a sender writes into its own memory"},
};

int main(void)
{
	static const struct conformance_transport transport = {
		.name = "tcp-sockets",
		.kind = "tcp",
		.io = "sockets",
		.exclusions = exclusions,
		.exclusion_count = ARRAY_SIZE(exclusions),
	};

	return conformance_run(&transport);
}
