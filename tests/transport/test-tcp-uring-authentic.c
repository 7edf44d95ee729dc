/* The conformance suite over tcp on io_uring, authentic. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/transport/conformance.h"

#define HAND_MADE "a peer made by hand has no key: see test-tcp-tamper"

static const struct conformance_exclusion exclusions[] = {
	{"acquired slot", "a sender writes into its own memory"},
	{"two-step hello", HAND_MADE},
	{"wrong version", HAND_MADE},
	{"damaged frames", HAND_MADE},
	{"damaged payload", HAND_MADE},
	{"garbage", HAND_MADE},
};

int main(void)
{
	static const struct conformance_transport transport = {
		.name = "tcp-uring-authentic",
		.kind = "tcp",
		.io = "uring",
		.wire = TRANSPORT_WIRE_AUTHENTIC,
		.exclusions = exclusions,
		.exclusion_count = ARRAY_SIZE(exclusions),
	};

	if (syscall(SYS_io_uring_setup, 1, NULL) < 0 && errno != EFAULT) {
		printf("1..0 # SKIP the kernel refuses io_uring (%s)\n",
		       strerror(errno));
		return 0;
	}

	return conformance_run(&transport);
}
