/* Waiting: deadlines, other descriptors, sleeping until a message comes. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/transport/world.h"
#include "transport/transport_ops.h"

static void case_deadline(const struct conformance_transport *transport)
{
	unsigned char *to;
	struct world world;
	int64_t start;

	world_up(&world, transport, 2);
	to = region(world.endpoint[0], 10);
	CHECK_EQUAL(transport_post_recv(world.endpoint[0], 1, 0, to, 10, NULL),
		    0);
	start = clock_now_ns();
	CHECK_EQUAL(transport_wait(world.endpoint[0], start + 50 * MS, -1),
		    -ETIMEDOUT);
	CHECK(clock_now_ns() - start >= 50 * MS);
	CHECK(clock_now_ns() - start < SECOND);
	/* Nothing posted, and a deadline that has passed. */
	start = clock_now_ns();
	CHECK_EQUAL(transport_wait(world.endpoint[1], 0, -1), -ETIMEDOUT);
	CHECK_EQUAL(transport_wait(world.endpoint[1], start + 5 * MS, -1),
		    -ETIMEDOUT);
	world_close(&world);
	free(to);
}

static void *write_later(void *argument)
{
	clock_sleep_ns(30 * MS);
	CHECK_EQUAL(write(*(int *)argument, "x", 1), 1);
	return NULL;
}

static void case_wake_fd(const struct conformance_transport *transport)
{
	unsigned char *to;
	struct world world;
	pthread_t thread;
	int64_t start;
	int ends[2];
	char byte;

	world_up(&world, transport, 2);
	CHECK_EQUAL(pipe(ends), 0);
	to = region(world.endpoint[0], 10);
	CHECK_EQUAL(transport_post_recv(world.endpoint[0], 1, 0, to, 10, NULL),
		    0);
	start = clock_now_ns();
	CHECK_EQUAL(transport_wait(world.endpoint[0], start + 10 * MS, ends[0]),
		    -ETIMEDOUT);
	CHECK_EQUAL(pthread_create(&thread, NULL, write_later, &ends[1]), 0);
	CHECK_EQUAL(transport_wait(world.endpoint[0],
				   clock_now_ns() + 10 * SECOND, ends[0]),
		    0);
	CHECK(clock_now_ns() - start < 5 * SECOND);
	pthread_join(thread, NULL);
	/* Still readable: ends at once, also where the deadline is past. */
	CHECK_EQUAL(transport_wait(world.endpoint[0],
				   clock_now_ns() + 10 * SECOND, ends[0]),
		    0);
	CHECK_EQUAL(transport_wait(world.endpoint[0], 0, ends[0]), 0);
	CHECK_EQUAL(read(ends[0], &byte, 1), 1);
	CHECK_EQUAL(transport_wait(world.endpoint[0], clock_now_ns() + 10 * MS,
				   ends[0]),
		    -ETIMEDOUT);
	close(ends[0]);
	close(ends[1]);
	world_close(&world);
	free(to);
}

struct late_sender {
	struct transport_endpoint *endpoint;
	unsigned char *from;
};

static void *send_later(void *argument)
{
	struct late_sender *sender = argument;
	unsigned i;

	for (i = 0; i < 3; i++) {
		clock_sleep_ns(20 * MS);
		CHECK_EQUAL(transport_post_send(sender->endpoint, 1, i,
						sender->from, 1000, NULL),
			    0);
		CHECK(next_completion(sender->endpoint).tag == i);
	}
	return NULL;
}

/* Asleep, with and without a second descriptor, until the message is here. */
static void case_sleep(const struct conformance_transport *transport)
{
	struct transport_completion done;
	struct late_sender sender;
	unsigned char *to;
	struct world world;
	pthread_t thread;
	int ends[2];
	int count;
	unsigned i;

	world_init(&world, transport, 2);
	world.config[1].no_spin = true;
	world_open(&world);
	world_connect(&world, 20 * SECOND);
	CHECK_EQUAL(pipe(ends), 0);
	sender.endpoint = world.endpoint[0];
	sender.from = region(world.endpoint[0], 1000);
	to = region(world.endpoint[1], 1000);
	pattern_fill(sender.from, 1000, 4);
	CHECK_EQUAL(pthread_create(&thread, NULL, send_later, &sender), 0);
	for (i = 0; i < 3; i++) {
		CHECK_EQUAL(transport_post_recv(world.endpoint[1], 0, i, to,
						1000, NULL),
			    0);
		while (!(count = transport_progress(world.endpoint[1], &done,
						    1)))
			CHECK_EQUAL(transport_wait(world.endpoint[1],
						   clock_now_ns() + 10 * SECOND,
						   i == 1 ? ends[0] : -1),
				    0);
		CHECK_EQUAL(count, 1);
		CHECK_EQUAL(done.tag, i);
	}
	pthread_join(thread, NULL);
	close(ends[0]);
	close(ends[1]);
	world_close(&world);
	free(sender.from);
	free(to);
}

/* Of an endpoint that is one of several, by what it gives to poll for. */
static void sleep_by_poll(struct transport_endpoint *endpoint)
{
	struct pollfd fds[4];
	int count = endpoint->ops->begin_sleep(endpoint, fds, 4);

	CHECK(count >= 0 && count <= 4);
	if (count)
		CHECK(poll(fds, (nfds_t)count, 10000) > 0);
	endpoint->ops->end_sleep(endpoint);
}

static void case_sleep_by_poll(const struct conformance_transport *transport)
{
	struct transport_completion done;
	struct late_sender sender;
	struct pollfd fds[4];
	unsigned char *to;
	struct world world;
	pthread_t thread;
	int count;
	unsigned i;

	world_up(&world, transport, 2);
	if (!world.endpoint[1]->ops->begin_sleep ||
	    world.endpoint[1]->ops->begin_sleep(world.endpoint[1], fds, 4) ==
		    -EOPNOTSUPP) {
		printf("# %s sleeps in transport_wait only\n", transport->name);
		world_close(&world);
		return;
	}
	sender.endpoint = world.endpoint[0];
	sender.from = region(world.endpoint[0], 1000);
	to = region(world.endpoint[1], 1000);
	pattern_fill(sender.from, 1000, 4);
	/* Nothing posted: nothing wakes. */
	count = world.endpoint[1]->ops->begin_sleep(world.endpoint[1], fds, 4);
	CHECK(count > 0);
	CHECK_EQUAL(poll(fds, (nfds_t)count, 20), 0);
	world.endpoint[1]->ops->end_sleep(world.endpoint[1]);
	CHECK_EQUAL(pthread_create(&thread, NULL, send_later, &sender), 0);
	for (i = 0; i < 3; i++) {
		CHECK_EQUAL(transport_post_recv(world.endpoint[1], 0, i, to,
						1000, NULL),
			    0);
		while (!(count = transport_progress(world.endpoint[1], &done,
						    1)))
			sleep_by_poll(world.endpoint[1]);
		CHECK_EQUAL(count, 1);
		CHECK_EQUAL(done.tag, i);
		CHECK(pattern_holds(to, 1000, 4));
	}
	pthread_join(thread, NULL);
	/* A peer that goes wakes, too. */
	CHECK_EQUAL(
		transport_post_recv(world.endpoint[1], 0, 3, to, 1000, NULL),
		0);
	transport_close(world.endpoint[0]);
	world.endpoint[0] = NULL;
	while (!(count = transport_progress(world.endpoint[1], &done, 1)))
		sleep_by_poll(world.endpoint[1]);
	CHECK_EQUAL(count, -ECONNRESET);
	world_close(&world);
	free(sender.from);
	free(to);
}

const struct conformance_case conformance_wait_cases[] = {
	{"deadline", case_deadline},
	{"wake fd", case_wake_fd},
	{"sleep", case_sleep},
	{"sleep by poll", case_sleep_by_poll},
	{NULL, NULL},
};
