/*
 * auto with ranks on two hosts, as they say: 0 and 2 on one, 1 and 3 on the
 * other. Links of both kinds, waited for in one sleep.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/transport/world.h"

#define RANKS 4
#define BYTES 5000

static const struct conformance_transport transport = {
	.name = "auto on two hosts",
	.kind = "auto",
};

static void up(struct world *world)
{
	world_init(world, &transport, RANKS);
	for (unsigned i = 0; i < RANKS; i++) {
		world->config[i].host = i % 2 ? "odd" : "even";
		world->config[i].no_spin = i == 0;
	}
	world_open(world);
	world_connect(world, 20 * SECOND);
	for (unsigned i = 0; i < RANKS; i++)
		CHECK_EQUAL(world->connected[i], 0);
}

static const char *kind_between(const struct world *world, unsigned a,
				unsigned b, char *reason, size_t size)
{
	static char kind[sizeof(((struct transport_link_info *)0)->transport)];
	struct transport_link_info info;

	CHECK_EQUAL(transport_query(world->endpoint[a], b, &info), 0);
	snprintf(kind, sizeof(kind), "%s", info.transport);
	snprintf(reason, size, "%s", info.reason);
	return kind;
}

static void case_choice(void)
{
	struct world world;
	char reason[200];

	up(&world);
	for (unsigned a = 0; a < RANKS; a++) {
		for (unsigned b = 0; b < RANKS; b++) {
			const char *kind;

			if (a == b)
				continue;
			kind = kind_between(&world, a, b, reason,
					    sizeof(reason));
			printf("# %u to %u: %s (%s)\n", a, b, kind, reason);
			if (a % 2 == b % 2) {
				CHECK(strcmp(kind, "shm") == 0);
				CHECK(strncmp(reason, "one host", 8) == 0);
			} else {
				CHECK(strcmp(kind, "shm") != 0);
				CHECK(strncmp(reason, "another host", 12) == 0);
			}
		}
	}
	world_close(&world);
}

/* From one region to all peers and from all peers into it. */
static void case_all_to_all(void)
{
	struct tally tallies[WORLD_MAX] = {0};
	unsigned char *memory[RANKS];
	struct world world;

	up(&world);
	for (unsigned i = 0; i < RANKS; i++) {
		void *base;

		CHECK_EQUAL(transport_create_region(world.endpoint[i],
						    2 * RANKS * BYTES, &base),
			    0);
		memory[i] = base;
		for (unsigned j = 0; j < RANKS; j++)
			pattern_fill(memory[i] + j * BYTES, BYTES,
				     i * RANKS + j);
	}
	for (unsigned i = 0; i < RANKS; i++) {
		for (unsigned j = 0; j < RANKS; j++) {
			if (i == j)
				continue;
			CHECK_EQUAL(transport_post_recv(
					    world.endpoint[i], j, 7,
					    memory[i] + (RANKS + j) * BYTES,
					    BYTES, NULL),
				    0);
			CHECK_EQUAL(transport_post_send(world.endpoint[i], j, 7,
							memory[i] + j * BYTES,
							BYTES, NULL),
				    0);
		}
	}
	for (unsigned i = 0; i < RANKS; i++)
		world_finish(&world, tallies, i, RANKS - 1, i, RANKS - 1);
	for (unsigned i = 0; i < RANKS; i++)
		for (unsigned j = 0; j < RANKS; j++)
			CHECK(i == j ||
			      pattern_holds(memory[i] + (RANKS + j) * BYTES,
					    BYTES, j * RANKS + i));
	world_close(&world);
}

struct late {
	struct world *world;
	unsigned char *from;
	unsigned rank;
};

static void *send_late(void *argument)
{
	struct late *late = argument;
	struct transport_endpoint *endpoint = late->world->endpoint[late->rank];

	clock_sleep_ns(30 * MS);
	CHECK_EQUAL(transport_post_send(endpoint, 0, late->rank, late->from,
					BYTES, NULL),
		    0);
	CHECK(next_completion(endpoint).event == TRANSPORT_SENT);
	return NULL;
}

/* Rank 0 sleeps; a neighbour by memory and one by tcp wake it in turn. */
static void case_sleep(void)
{
	unsigned char *from[RANKS] = {NULL};
	struct world world;
	unsigned char *to;
	int ends[2];

	up(&world);
	CHECK_EQUAL(pipe(ends), 0);
	to = region(world.endpoint[0], RANKS * BYTES);
	for (unsigned peer = 1; peer < RANKS; peer++)
		CHECK_EQUAL(transport_post_recv(world.endpoint[0], peer, peer,
						to + peer * BYTES, BYTES, NULL),
			    0);
	CHECK_EQUAL(transport_wait(world.endpoint[0], clock_now_ns() + 20 * MS,
				   ends[0]),
		    -ETIMEDOUT);
	for (unsigned peer = 1; peer < RANKS; peer++) {
		struct late late = {&world, NULL, peer};
		int64_t start = clock_now_ns();
		pthread_t thread;

		late.from = region(world.endpoint[peer], BYTES);
		pattern_fill(late.from, BYTES, peer);
		CHECK_EQUAL(pthread_create(&thread, NULL, send_late, &late), 0);
		CHECK_EQUAL(next_completion(world.endpoint[0]).peer, peer);
		CHECK(clock_now_ns() - start < 5 * SECOND);
		pthread_join(thread, NULL);
		CHECK(pattern_holds(to + peer * BYTES, BYTES, peer));
		from[peer] = late.from;
	}
	/* A descriptor wakes it, past its deadline too. */
	CHECK_EQUAL(write(ends[1], "x", 1), 1);
	CHECK_EQUAL(transport_wait(world.endpoint[0],
				   clock_now_ns() + 5 * SECOND, ends[0]),
		    0);
	CHECK_EQUAL(transport_wait(world.endpoint[0], 0, ends[0]), 0);
	close(ends[0]);
	close(ends[1]);
	world_close(&world);
	for (unsigned peer = 0; peer < RANKS; peer++)
		free(from[peer]);
	free(to);
}

/* One neighbour gone, of either kind: an error that names it, others go on. */
static void case_lost(void)
{
	for (unsigned gone = 1; gone < 3; gone++) {
		unsigned other = 3 - gone;
		struct tally tallies[WORLD_MAX] = {0};
		unsigned char *to, *from;
		struct world world;
		char name[16];

		log_capture();
		up(&world);
		to = region(world.endpoint[0], 2 * BYTES);
		from = region(world.endpoint[other], BYTES);
		CHECK_EQUAL(transport_post_recv(world.endpoint[0], gone, 0, to,
						BYTES, NULL),
			    0);
		transport_close(world.endpoint[gone]);
		world.endpoint[gone] = NULL;
		CHECK(world_fails(&world, 0) < 0);
		snprintf(name, sizeof(name), "rank %u", gone);
		CHECK(log_has(name));
		CHECK_EQUAL(transport_cancel(world.endpoint[0], gone, SECOND),
			    0);
		CHECK_EQUAL(transport_post_recv(world.endpoint[0], other, 0,
						to + BYTES, BYTES, NULL),
			    0);
		CHECK_EQUAL(transport_post_send(world.endpoint[other], 0, 0,
						from, BYTES, NULL),
			    0);
		world_finish(&world, tallies, other, 1, 0, 1);
		world_close(&world);
		free(to);
		free(from);
	}
}

int main(void)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} cases[] = {
		{"what is chosen", case_choice},
		{"all to all", case_all_to_all},
		{"one sleep", case_sleep},
		{"one is lost", case_lost},
	};

	printf("1..%zu\n", ARRAY_SIZE(cases));
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct holdings before = holdings_now();

		log_capture();
		cases[i].run();
		holdings_check(&before);
		printf("ok %u - %s\n", i + 1, cases[i].name);
		fflush(stdout);
	}
	return 0;
}
