/*
 * The conformance suite over transports wrapped by fault: with a plan in which
 * nothing happens, and with delays, which are no errors. What breaks links is
 * in test-fault-plans.c.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/transport/conformance.h"

#define OF_INPROC                                                              \
	{"peer killed", "ranks are threads: none dies alone"},                 \
		{"peer stopped", "ranks are threads: none is stopped alone"},  \
		{"wrong key", "who shares the memory needs no key"},           \
		{"refused", "ranks of one hub have no ports"},                 \
		{"strangers", "there is no port to knock at"},                 \
		{"bind", "there is no address to bind"},                       \
		{"two-step hello", "there is no hello on a wire"},             \
		{"wrong version", "one process has one version"},              \
		{"wrong address", "ranks of one hub have no ports"},           \
		{"damaged frames", "there are no frames"},                     \
		{"damaged payload", "there is no wire"},                       \
	{                                                                      \
		"garbage", "there is no wire"                                  \
	}
#define OF_SHM                                                                 \
	{"strangers", "there is no port to knock at"},                         \
		{"bind", "there is no address to bind"},                       \
		{"two-step hello", "these knock at a TCP port"},               \
		{"wrong version", "these knock at a TCP port"},                \
		{"damaged frames", "there are no frames"},                     \
		{"damaged payload", "there is no wire"},                       \
	{                                                                      \
		"garbage", "these knock at a TCP port"                         \
	}
#define OF_TCP                                                                 \
	{                                                                      \
		"acquired slot", "a sender writes into its own memory"         \
	}
#define OF_SOCKETS                                                             \
	{                                                                      \
		"overlap", "bytes move only while the owner calls progress"    \
	}

#define OF_RELAY                                                               \
	{                                                                      \
		"refused", "the relay answers in the peer's place"             \
	}

static const struct conformance_exclusion of_inproc[] = {OF_INPROC};
static const struct conformance_exclusion of_shm[] = {OF_SHM};
static const struct conformance_exclusion of_uring[] = {OF_TCP};
static const struct conformance_exclusion of_sockets[] = {OF_TCP, OF_SOCKETS};
static const struct conformance_exclusion of_slow_uring[] = {OF_TCP, OF_RELAY};
static const struct conformance_exclusion of_slow_sockets[] = {
	OF_TCP, OF_SOCKETS, OF_RELAY};

#define ROW(row_name, row_kind, row_io, row_exclusions)                        \
	{                                                                      \
		.name = row_name, .kind = row_kind, .io = row_io,              \
		.exclusions = row_exclusions,                                  \
		.exclusion_count = ARRAY_SIZE(row_exclusions),                 \
	}
#define DELAYS "seed=3,delay=2ms:0.2"
#define SLOWLY "seed=3,level=wire,delay=1ms:0.02"

int main(void)
{
	/* Those over io_uring last: they are left out where it is refused. */
	static const struct conformance_transport transports[] = {
		ROW("fault:inproc", "fault:inproc", NULL, of_inproc),
		ROW("fault:shm", "fault:shm", NULL, of_shm),
		ROW("fault:tcp/sockets", "fault:tcp", "sockets", of_sockets),
		ROW("delayed inproc", "fault:inproc:" DELAYS, NULL, of_inproc),
		ROW("delayed shm", "fault:shm:" DELAYS, NULL, of_shm),
		ROW("delayed tcp/sockets", "fault:tcp:" DELAYS, "sockets",
		    of_sockets),
		ROW("slow wire, sockets", "fault:tcp:" SLOWLY, "sockets",
		    of_slow_sockets),
		ROW("fault:tcp/uring", "fault:tcp", "uring", of_uring),
		ROW("delayed tcp/uring", "fault:tcp:" DELAYS, "uring",
		    of_uring),
		ROW("slow wire, uring", "fault:tcp:" SLOWLY, "uring",
		    of_slow_uring),
	};
	unsigned count = ARRAY_SIZE(transports);

	if (syscall(SYS_io_uring_setup, 1, NULL) < 0 && errno != EFAULT) {
		printf("# the kernel refuses io_uring (%s): not over it\n",
		       strerror(errno));
		while (strcmp(transports[count - 1].io, "uring") == 0)
			count--;
	}
	return conformance_run_all(transports, count);
}
