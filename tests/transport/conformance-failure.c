/* Peers that end, die, or disagree; operations that are called off. */
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "tests/transport/world.h"

/* The memory of a cancelled receive is ours: nothing arrives any more. */
static void case_cancel(const struct conformance_transport *transport)
{
	struct tally tallies[WORLD_MAX] = {0};
	struct transport_completion done;
	size_t bytes = 32u << 20;
	unsigned char *memory[2];
	struct world world;
	unsigned i;

	world_up(&world, transport, 2);
	for (i = 0; i < 2; i++)
		memory[i] = region(world.endpoint[i], 2 * bytes);
	pattern_fill(memory[0], bytes, 1);
	CHECK_EQUAL(transport_post_send(world.endpoint[0], 1, 1, memory[0],
					bytes, NULL),
		    0);
	CHECK_EQUAL(transport_post_recv(world.endpoint[1], 0, 1, memory[1],
					bytes, NULL),
		    0);
	CHECK_EQUAL(transport_post_recv(world.endpoint[1], 0, 2,
					memory[1] + bytes, bytes, NULL),
		    0);
	CHECK_EQUAL(transport_post_send(world.endpoint[1], 0, 2,
					memory[1] + bytes, bytes, NULL),
		    0);
	/* Somewhere in the middle of it. */
	CHECK(transport_progress(world.endpoint[1], &done, 1) >= 0);
	CHECK_EQUAL(transport_cancel(world.endpoint[1], 0, 10 * SECOND), 0);
	memset(memory[1], 0x5a, 2 * bytes);
	CHECK_EQUAL(transport_deregister(world.endpoint[1], memory[1]), 0);
	CHECK_EQUAL(transport_register(world.endpoint[1], memory[1], 100), 0);
	CHECK_EQUAL(transport_post_recv(world.endpoint[1], 0, 3, memory[1], 100,
					NULL),
		    -ECANCELED);
	CHECK_EQUAL(transport_post_send(world.endpoint[1], 0, 3, memory[1], 100,
					NULL),
		    -ECANCELED);
	/* The peer has it as a closed link: its next message fails. */
	tallies[0].status = transport_post_send(world.endpoint[0], 1, 2,
						memory[0], bytes, NULL);
	CHECK(tallies[0].status == 0 || tallies[0].status == -ECONNRESET);
	if (!tallies[0].status)
		CHECK_EQUAL(world_fails(&world, 0), -ECONNRESET);
	clock_sleep_ns(20 * MS);
	CHECK(all_bytes_are(memory[1], 2 * bytes, 0x5a));
	/* A cancelled link is no failure. */
	while (transport_progress(world.endpoint[1], &done, 1) == 1)
		;
	CHECK_EQUAL(transport_progress(world.endpoint[1], &done, 1), 0);
	CHECK_EQUAL(transport_cancel(world.endpoint[0], TRANSPORT_ALL_PEERS,
				     10 * SECOND),
		    0);
	while (transport_progress(world.endpoint[0], &done, 1) == 1)
		;
	CHECK_EQUAL(transport_progress(world.endpoint[0], &done, 1), 0);
	world_close(&world);
	free(memory[0]);
	free(memory[1]);
}

static void case_peer_closed(const struct conformance_transport *transport)
{
	struct transport_completion done;
	unsigned char *memory;
	struct world world;
	int64_t deadline;

	world_up(&world, transport, 2);
	memory = region(world.endpoint[0], 100);
	CHECK_EQUAL(transport_post_recv(world.endpoint[0], 1, 0xabc, memory,
					100, NULL),
		    0);
	transport_close(world.endpoint[1]);
	world.endpoint[1] = NULL;
	deadline = clock_now_ns() + 5 * SECOND;
	CHECK_EQUAL(transport_wait(world.endpoint[0], deadline, -1), 0);
	CHECK_EQUAL(world_fails(&world, 0), -ECONNRESET);
	CHECK(log_has("rank 0") && log_has("rank 1"));
	/* Said once, returned always; wait does not sleep on it. */
	CHECK_EQUAL(log_count("\n"), 1);
	CHECK_EQUAL(transport_progress(world.endpoint[0], &done, 1),
		    -ECONNRESET);
	CHECK_EQUAL(transport_wait(world.endpoint[0],
				   clock_now_ns() + 5 * SECOND, -1),
		    0);
	CHECK_EQUAL(
		transport_post_recv(world.endpoint[0], 1, 1, memory, 100, NULL),
		-ECONNRESET);
	CHECK_EQUAL(log_count("\n"), 1);
	world_close(&world);
	free(memory);
}

/* Done, and closed: no error, and what was sent is not lost. */
static void case_orderly_close(const struct conformance_transport *transport)
{
	struct tally tallies[WORLD_MAX] = {0};
	struct transport_completion done;
	unsigned char *memory[2];
	struct world world;
	unsigned i;

	world_up(&world, transport, 2);
	for (i = 0; i < 2; i++)
		memory[i] = region(world.endpoint[i], 200000);
	pattern_fill(memory[0], 200000, 8);
	CHECK_EQUAL(transport_post_recv(world.endpoint[1], 0, 1, memory[1],
					200000, NULL),
		    0);
	CHECK_EQUAL(transport_post_send(world.endpoint[0], 1, 1, memory[0],
					200000, NULL),
		    0);
	while (!tallies[0].sent) {
		tallies[0].sent =
			transport_progress(world.endpoint[0], &done, 1) == 1;
		if (!tallies[0].sent &&
		    transport_progress(world.endpoint[1], &done, 1) == 1)
			tallies[1].received = 1;
	}
	transport_close(world.endpoint[0]);
	world.endpoint[0] = NULL;
	while (!tallies[1].received) {
		i = (unsigned)transport_progress(world.endpoint[1], &done, 1);
		CHECK(i <= 1);
		tallies[1].received = i;
	}
	CHECK(pattern_holds(memory[1], 200000, 8));
	for (i = 0; i < 10; i++) {
		CHECK_EQUAL(transport_progress(world.endpoint[1], &done, 1), 0);
		clock_sleep_ns(MS);
	}
	CHECK_EQUAL(log_count("\n"), 0);
	/* ... until something is expected of it. */
	if (transport_post_recv(world.endpoint[1], 0, 2, memory[1], 10, NULL) ==
	    0)
		CHECK_EQUAL(world_fails(&world, 1), -ECONNRESET);
	CHECK_EQUAL(log_count("\n"), 1);
	world_close(&world);
	free(memory[0]);
	free(memory[1]);
}

/* False: not even SENT before the peer takes it. */
static bool close_after_reset(const struct conformance_transport *transport,
			      size_t bytes)
{
	struct world world;
	struct transport_completion done;
	int64_t begin_ns;
	unsigned char *memory;
	int count = 0;

	world_up(&world, transport, 2);
	memory = region(world.endpoint[0], bytes);
	CHECK_EQUAL(transport_post_send(world.endpoint[0], 1, 1, memory, bytes,
					NULL),
		    0);
	begin_ns = clock_now_ns();
	while (count == 0 && clock_now_ns() - begin_ns < 100 * MS)
		count = transport_progress(world.endpoint[0], &done, 1);
	transport_close(world.endpoint[1]);
	world.endpoint[1] = NULL;
	if (count == 1) {
		CHECK_EQUAL(transport_cancel(world.endpoint[0],
					     TRANSPORT_ALL_PEERS, SECOND),
			    0);
		begin_ns = clock_now_ns();
		transport_close(world.endpoint[0]);
		world.endpoint[0] = NULL;
		CHECK(clock_now_ns() - begin_ns < 800 * MS);
	}
	world_close(&world);
	free(memory);
	return count == 1;
}

/*
 * The peer has gone without taking what was sent: nobody will, and close does
 * not wait for it. How much is under way then is the kernel's business.
 */
static void
case_close_after_reset(const struct conformance_transport *transport)
{
	size_t bytes = 64 << 10;

	while (bytes <= 64 << 20 && close_after_reset(transport, bytes))
		bytes *= 2;
}

/* Whatever is in flight, close comes back, and the memory is ours again. */
static void case_close_pending(const struct conformance_transport *transport)
{
	size_t bytes = 16u << 20;
	unsigned char *memory[2];
	struct world world;
	unsigned round;
	int64_t start;
	unsigned i;

	for (round = 0; round < 4; round++) {
		world_up(&world, transport, 2);
		for (i = 0; i < 2; i++) {
			memory[i] = region(world.endpoint[i], 2 * bytes);
			CHECK_EQUAL(transport_post_send(world.endpoint[i], !i,
							1, memory[i], bytes,
							NULL),
				    0);
			if (round & 1)
				CHECK_EQUAL(transport_post_recv(
						    world.endpoint[i], !i, 1,
						    memory[i] + bytes, bytes,
						    NULL),
					    0);
		}
		start = clock_now_ns();
		transport_close(world.endpoint[round / 2]);
		memset(memory[round / 2], 0x11, 2 * bytes);
		CHECK(clock_now_ns() - start < patience(transport, 5 * SECOND));
		world.endpoint[round / 2] = NULL;
		if (round == 3 &&
		    transport_post_recv(world.endpoint[0], 1, 2,
					memory[0] + bytes, bytes, NULL) == 0)
			CHECK(world_fails(&world, 0) < 0);
		transport_close(world.endpoint[!(round / 2)]);
		world.endpoint[!(round / 2)] = NULL;
		CHECK(all_bytes_are(memory[round / 2], 2 * bytes, 0x11));
		world_close(&world);
		free(memory[0]);
		free(memory[1]);
	}
}

static void mismatch(const struct conformance_transport *transport,
		     uint64_t tag, size_t bytes, const char *want_word,
		     const char *got_word)
{
	unsigned char *memory[2];
	struct world world;
	int status;
	unsigned i;

	log_capture();
	world_up(&world, transport, 2);
	for (i = 0; i < 2; i++)
		memory[i] = region(world.endpoint[i], 2000);
	CHECK_EQUAL(transport_post_recv(world.endpoint[1], 0, 0x77, memory[1],
					1000, NULL),
		    0);
	CHECK_EQUAL(transport_post_send(world.endpoint[0], 1, tag, memory[0],
					bytes, NULL),
		    0);
	status = world_fails(&world, 1);
	CHECK_EQUAL(status, -EPROTO);
	CHECK(log_has(want_word) && log_has(got_word));
	CHECK(log_has("rank 0") && log_has("rank 1"));
	world_close(&world);
	free(memory[0]);
	free(memory[1]);
}

static void case_wrong_tag(const struct conformance_transport *transport)
{
	mismatch(transport, 0x88, 1000, "0x77", "0x88");
}

/* Also when less comes than the receiver waits for: no waiting for the rest. */
static void case_wrong_length(const struct conformance_transport *transport)
{
	mismatch(transport, 0x77, 1001, "1000 bytes", "1001 bytes");
	mismatch(transport, 0x77, 10, "1000 bytes", "10 bytes");
	mismatch(transport, 0x77, 0, "1000 bytes", "0 bytes");
}

/* One link fails; the others of the same endpoint go on. */
static void case_other_links(const struct conformance_transport *transport)
{
	struct transport_completion done;
	unsigned char *memory[3];
	struct world world;
	unsigned i;
	int count;

	world_up(&world, transport, 3);
	for (i = 0; i < 3; i++)
		memory[i] = region(world.endpoint[i], 100);
	CHECK_EQUAL(transport_post_recv(world.endpoint[0], 1, 1, memory[0], 10,
					NULL),
		    0);
	transport_close(world.endpoint[1]);
	world.endpoint[1] = NULL;
	CHECK_EQUAL(world_fails(&world, 0), -ECONNRESET);
	CHECK_EQUAL(transport_post_recv(world.endpoint[0], 2, 9, memory[0] + 50,
					10, NULL),
		    0);
	CHECK_EQUAL(transport_post_send(world.endpoint[2], 0, 9, memory[2], 10,
					NULL),
		    0);
	while ((count = transport_progress(world.endpoint[0], &done, 1)) != 1) {
		CHECK_EQUAL(count, -ECONNRESET);
		CHECK(transport_progress(world.endpoint[2], &done, 1) >= 0);
	}
	CHECK_EQUAL(done.tag, 9);
	/* With the broken link cancelled there is no complaint left. */
	CHECK_EQUAL(transport_cancel(world.endpoint[0], 1, SECOND), 0);
	CHECK_EQUAL(transport_progress(world.endpoint[0], &done, 1), 0);
	world_close(&world);
	for (i = 0; i < 3; i++)
		free(memory[i]);
}

const struct conformance_case conformance_failure_cases[] = {
	{"cancel", case_cancel},
	{"peer closed", case_peer_closed},
	{"orderly close", case_orderly_close},
	{"close after a reset", case_close_after_reset},
	{"close while pending", case_close_pending},
	{"wrong tag", case_wrong_tag},
	{"wrong length", case_wrong_length},
	{"other links", case_other_links},
	{NULL, NULL},
};
