/*
 * The conformance suite over tcp on io_uring with every large payload sent by
 * SEND_ZC from registered buffers, as it would be on a network card.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/transport/conformance.h"

static const struct conformance_exclusion exclusions[] = {
	{"acquired slot", "a sender writes into its own memory"},
};

int main(void)
{
	static const struct conformance_transport transport = {
		.name = "tcp-uring-zero-copy",
		.kind = "tcp",
		.io = "uring",
		.zero_copy = TRANSPORT_ZERO_COPY_ALWAYS,
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
