/*
 * The conformance suite over rdma. Where there is no device, tests/vm runs it
 * in a guest that has some. An argument is a kind to take instead, such as
 * "fault:rdma:seed=3,delay=2ms:0.2".
 */
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/transport/world.h"
#include "transport/rdma/devices.h"

#ifdef WITHOUT_IMMEDIATE /* as on iWARP */
#define NAME "rdma-send"
#define IO   "write-send"
#else
#define NAME "rdma"
#define IO   "write-imm"
#endif

#define NO_STREAM "messages are no frames on a byte stream"

static const struct conformance_exclusion exclusions[] = {
	{"acquired slot", "a sender computes into its own memory"},
	{"two-step hello", NO_STREAM},
	{"damaged frames", NO_STREAM},
	{"damaged payload", NO_STREAM},
	{"garbage", NO_STREAM},
};

/* In a process of its own: this one is to fork later. */
static bool has_device(char *why, size_t size, unsigned *kept_fds)
{
	struct sockaddr_storage local;
	unsigned before;
	ssize_t length;
	int ends[2];
	pid_t child;

	CHECK_EQUAL(pipe(ends), 0);
	child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		before = holdings_now().fds;
		if (rdma_devices_choose("127.0.0.1", &local, why, size)) {
			CHECK(write(ends[1], why, strlen(why)) > 0);
			_exit(0);
		}
		before = holdings_now().fds - before;
		CHECK_EQUAL(write(ends[1], "", 1), 1);
		CHECK_EQUAL(write(ends[1], &before, sizeof(before)),
			    sizeof(before));
		_exit(0);
	}
	close(ends[1]);
	waitpid(child, NULL, 0);
	length = read(ends[0], why, 1);
	if (length == 1 && why[0])
		length += read(ends[0], why + 1, size - 2);
	CHECK(length > 0);
	why[length] = '\0';
	if (!why[0])
		CHECK_EQUAL(read(ends[0], kept_fds, sizeof(*kept_fds)),
			    sizeof(*kept_fds));
	close(ends[0]);
	return !why[0];
}

int main(int argc, char **argv)
{
	struct conformance_transport transport = {
		.name = NAME,
		.kind = argc > 1 ? argv[1] : "rdma",
		.io = IO,
		.isolated = true,
		.patient = true,
		/* Nothing is copied on the way, which "query" compares. */
		.zero_copy = TRANSPORT_ZERO_COPY_ALWAYS,
		.exclusions = exclusions,
		.exclusion_count = ARRAY_SIZE(exclusions),
	};
	char why[160];

	if (!has_device(why, sizeof(why), &transport.kept_fds)) {
		printf("1..0 # SKIP %s\n", why);
		return 0;
	}
	return conformance_run(&transport);
}
