#include "tests/transport/flips.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "transport/fault/fault.h"

#define MESSAGES 4u
#define SLOT     256u

static const size_t sizes[MESSAGES] = {40, 0, 200, 1};

bool flips_is_payload(uint64_t position)
{
	uint64_t at = FLIPS_HELLO_BYTES;
	unsigned i;

	for (i = 0; i < MESSAGES; i++) {
		at += 64;
		if (position >= at && position < at + sizes[i])
			return true;
		at += sizes[i];
	}
	return false;
}

static void post_all(struct world *world, unsigned rank, unsigned char *out,
		     unsigned char *in)
{
	unsigned i;
	int status;

	memset(in, 0xee, MESSAGES * SLOT);
	for (i = 0; i < MESSAGES; i++) {
		pattern_fill(out + i * SLOT, sizes[i], 10 * i + rank);
		/* A link may be known to be broken before all is posted. */
		status = transport_post_recv(world->endpoint[rank], !rank, i,
					     in + i * SLOT, sizes[i], NULL);
		if (!status)
			status = transport_post_send(world->endpoint[rank],
						     !rank, i, out + i * SLOT,
						     sizes[i], NULL);
		if (status)
			return;
	}
}

/* True: there is more to come. */
static bool progress(struct world *world, unsigned rank, unsigned *left,
		     struct flips_outcome *outcome)
{
	struct transport_completion done;
	int status = transport_progress(world->endpoint[rank], &done, 1);

	if (status < 0) {
		outcome->failed |= status == -EBADMSG;
		/* The other end of a link that failed here. */
		CHECK(status == -EBADMSG || status == -ECONNRESET);
		return false;
	}
	if (!status)
		return true;
	--*left;
	if (done.event == TRANSPORT_RECEIVED)
		outcome->wrong |= !pattern_holds(done.data, done.bytes,
						 10 * done.tag + !rank);
	return true;
}

static void exchange(struct world *world, struct flips_outcome *outcome)
{
	unsigned char memory[2][2 * MESSAGES * SLOT];
	int64_t deadline = clock_now_ns() + 20 * SECOND;
	unsigned left[2] = {2 * MESSAGES, 2 * MESSAGES};
	bool more[2] = {true, true};
	unsigned i;

	for (i = 0; i < 2; i++) {
		CHECK_EQUAL(transport_register(world->endpoint[i], memory[i],
					       sizeof(memory[i])),
			    0);
		post_all(world, i, memory[i], memory[i] + MESSAGES * SLOT);
	}
	/* To the end, also where one of them has failed before. */
	while (more[0] || more[1]) {
		for (i = 0; i < 2; i++)
			more[i] = more[i] && left[i] &&
				  progress(world, i, &left[i], outcome);
		CHECK(clock_now_ns() < deadline);
		if (more[0] || more[1])
			(void)!transport_wait(world->endpoint[more[0] ? 0 : 1],
					      clock_now_ns() + MS / 5, -1);
	}
	for (i = 0; i < 2; i++) {
		CHECK_EQUAL(
			transport_cancel(world->endpoint[i], !i, 10 * SECOND),
			0);
		CHECK_EQUAL(transport_deregister(world->endpoint[i], memory[i]),
			    0);
	}
}

static void count_flips(const struct world *world,
			struct flips_outcome *outcome)
{
	struct fault_statistics statistics;
	unsigned i;

	for (i = 0; i < 2; i++) {
		if (strcmp(world->endpoint[i]->ops->kind, "fault") != 0)
			continue;
		fault_statistics(world->endpoint[i], &statistics);
		outcome->flips += (unsigned)statistics.happened[FAULT_CORRUPT];
		outcome->connections += (unsigned)statistics.connections;
	}
}

struct flips_outcome flips_try(const struct conformance_transport *transport,
			       uint32_t epoch, bool checksum)
{
	struct flips_outcome outcome = {.met = false};
	struct world world;
	unsigned i;

	log_capture();
	world_init(&world, transport, 2);
	for (i = 0; i < 2; i++) {
		world.config[i].epoch = epoch;
		world.config[i].checksum = checksum;
		world.config[i].no_spin = true;
	}
	world_open(&world);
	world_connect(&world, 250 * MS);
	outcome.met = !world.connected[0] && !world.connected[1];
	if (outcome.met)
		exchange(&world, &outcome);
	count_flips(&world, &outcome);
	world_close(&world);
	outcome.named =
		log_has("damaged") && log_has("rank 0") && log_has("rank 1");
	return outcome;
}

bool flips_unnoticed(const struct flips_outcome *outcome)
{
	return outcome->met && outcome->connections <= 1 &&
	       !(outcome->failed && outcome->named);
}
