/*
 * Helpers of the conformance suite: a few endpoints that know each other, a
 * captured log, patterns. Checks that fail end the program at once
 * (CHECK), since many run in threads, where cmocka's must not.
 */
#ifndef STAGECOACH_TESTS_TRANSPORT_WORLD_H
#define STAGECOACH_TESTS_TRANSPORT_WORLD_H

#include <stdio.h>
#include <stdlib.h>

#include "tests/transport/conformance.h"

#define WORLD_MAX 6
#define WORLD_JOB 0x57a6ec0ac4ull
#define SECOND    1000000000LL
#define MS        1000000LL

#define CHECK(condition)                                                       \
	do {                                                                   \
		if (!(condition))                                              \
			check_failed(#condition, __FILE__, __LINE__);          \
	} while (0)
#define CHECK_EQUAL(a, b)                                                      \
	check_equal((long long)(a), (long long)(b), #a, #b, __FILE__, __LINE__)

_Noreturn void check_failed(const char *what, const char *file, int line);
void check_equal(long long a, long long b, const char *what_a,
		 const char *what_b, const char *file, int line);

/* The lines since the last log_capture(); the sink is set by the suite. */
void log_capture(void);
bool log_has(const char *text);
unsigned log_count(const char *text);
void log_show(void);

struct world {
	const struct conformance_transport *transport;
	unsigned size;
	struct transport_hub *hub;
	struct transport_config config[WORLD_MAX];
	struct transport_endpoint *endpoint[WORLD_MAX];
	char address[WORLD_MAX][TRANSPORT_ADDRESS_BYTES];
	const char *addresses[WORLD_MAX];
	int connected[WORLD_MAX]; /* what connect returned */
};

/* Time for what takes far less, also on an emulated processor. */
static inline int64_t patience(const struct conformance_transport *transport,
			       int64_t ns)
{
	return transport->patient ? 4 * ns : ns;
}

/* Default configs, which a case may change before world_open(). */
void world_init(struct world *world,
		const struct conformance_transport *transport, unsigned size);
void world_open(struct world *world); /* opens and listens */
/* All to all, each in a thread of its own. Statuses in world->connected. */
void world_connect(struct world *world, int64_t timeout_ns);
void world_close(struct world *world);
/* All of it, and every connect is a success. */
void world_up(struct world *world,
	      const struct conformance_transport *transport, unsigned size);

/* Heap memory, registered; freed by region_free after the endpoint closed. */
unsigned char *region(struct transport_endpoint *endpoint, size_t bytes);

void pattern_fill(unsigned char *data, size_t bytes, uint64_t seed);
bool pattern_holds(const unsigned char *data, size_t bytes, uint64_t seed);
bool all_bytes_are(const unsigned char *data, size_t bytes, unsigned char is);

/* Posts, with progress on all of the world's endpoints while -EAGAIN. */
struct tally {
	struct transport_completion last;
	unsigned sent, received;
	int status; /* of progress, when it was negative */
};
/*
 * Progress on every endpoint until `done` says so or 20 s passed (CHECK).
 * Each completion is given to tallies[rank].
 */
void world_drive(struct world *world, struct tally *tallies,
		 bool (*done)(const struct tally *tallies, void *argument),
		 void *argument);
/* ... until rank r has `received[r]` and `sent[r]` completions in all. */
void world_finish(struct world *world, struct tally *tallies, unsigned rank,
		  unsigned sent, unsigned peer, unsigned received);
/* ... until progress of this endpoint is negative; returns that. */
int world_fails(struct world *world, unsigned rank);

/* One endpoint: waits and progresses until one completion (CHECK: in 20 s). */
struct transport_completion next_completion(struct transport_endpoint *from);

/* Calls of malloc, calloc, realloc and strdup by this program so far. */
unsigned long allocations(void);

/* What this process holds of the things that can leak. */
struct holdings {
	unsigned fds;
	long blocks;             /* of the heap: allocated and not freed */
	unsigned children;       /* processes nobody has waited for */
	unsigned long pinned_kb; /* memory registered with kernel or device */
};
struct holdings holdings_now(void);
/* The same again (the kernel may take a moment to let go of memory). */
void holdings_check(const struct holdings *before);

/* Mappings of this process, and their pages. */
void mappings_count(unsigned *mappings, unsigned long *pages);

#endif
