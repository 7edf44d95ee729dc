/* Cases in which everything goes well. */
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "base/clock.h"
#include "tests/transport/world.h"

static void one_message(struct world *world, unsigned char *from,
			unsigned char *to, size_t bytes, uint64_t tag)
{
	struct tally tallies[WORLD_MAX] = {0};

	pattern_fill(from, bytes, tag);
	memset(to, 0xee, bytes + 64);
	CHECK_EQUAL(
		transport_post_recv(world->endpoint[1], 0, tag, to, bytes, to),
		0);
	CHECK_EQUAL(transport_post_send(world->endpoint[0], 1, tag, from, bytes,
					from),
		    0);
	world_finish(world, tallies, 0, 1, 1, 1);
	CHECK(pattern_holds(to, bytes, tag));
	CHECK(all_bytes_are(to + bytes, 64, 0xee));
	CHECK(tallies[0].last.event == TRANSPORT_SENT);
	CHECK(tallies[0].last.peer == 1 && tallies[1].last.peer == 0);
	CHECK(tallies[1].last.event == TRANSPORT_RECEIVED);
	CHECK(tallies[1].last.tag == tag && tallies[1].last.bytes == bytes);
	CHECK(tallies[1].last.data == to && tallies[1].last.cookie == to);
	CHECK(tallies[0].last.data == from && tallies[0].last.cookie == from);
}

static void case_sizes(const struct conformance_transport *transport)
{
	static const size_t sizes[] = {
		0,        1,     7,     63,    64,       65,
		4095,     65535, 65536, 70001, 1u << 20, (1u << 20) + 1,
		64u << 20};
	size_t most = (64u << 20) + 64;
	unsigned char *from;
	unsigned char *to;
	struct world world;
	size_t i;

	world_up(&world, transport, 2);
	from = region(world.endpoint[0], most);
	to = region(world.endpoint[1], most);
	for (i = 0; i < ARRAY_SIZE(sizes); i++)
		one_message(&world, from, to, sizes[i], 0xfedc000000000000 + i);
	world_close(&world);
	free(from);
	free(to);
}

#define MANY 300

static size_t size_of(unsigned i)
{
	return (i * 7919u) % 5000u;
}

/* One thread posts on both sides whatever there is room for. */
static void case_order(const struct conformance_transport *transport)
{
	struct transport_completion done;
	unsigned char *from;
	unsigned char *to;
	struct world world;
	unsigned posted_sends = 0;
	unsigned posted_receives = 0;
	unsigned sent = 0;
	unsigned received = 0;
	size_t slot = 5000;

	world_up(&world, transport, 2);
	from = region(world.endpoint[0], MANY * slot);
	to = region(world.endpoint[1], MANY * slot);
	while (received < MANY || sent < MANY) {
		while (posted_sends < MANY) {
			pattern_fill(from + posted_sends * slot,
				     size_of(posted_sends), posted_sends);
			if (transport_post_send(
				    world.endpoint[0], 1, posted_sends,
				    from + posted_sends * slot,
				    size_of(posted_sends), NULL) == -EAGAIN)
				break;
			posted_sends++;
		}
		if (posted_receives < MANY &&
		    transport_post_recv(world.endpoint[1], 0, posted_receives,
					to + posted_receives * slot,
					size_of(posted_receives), NULL) == 0)
			posted_receives++;
		if (transport_progress(world.endpoint[0], &done, 1) > 0)
			CHECK_EQUAL(done.tag, sent++);
		if (transport_progress(world.endpoint[1], &done, 1) > 0) {
			CHECK_EQUAL(done.tag, received);
			CHECK_EQUAL(done.bytes, size_of(received));
			CHECK(pattern_holds(done.data, done.bytes, received));
			received++;
		}
	}
	world_close(&world);
	free(from);
	free(to);
}

static bool both_ways_done(const struct tally *tallies, void *argument)
{
	(void)argument;
	return tallies[0].sent == 1 && tallies[0].received == 1 &&
	       tallies[1].sent == 1 && tallies[1].received == 1;
}

/* Both send more than any socket buffer holds before either receives. */
static void case_both_ways(const struct conformance_transport *transport)
{
	struct tally tallies[WORLD_MAX] = {0};
	size_t bytes = 24u << 20;
	unsigned char *memory[2];
	struct world world;
	unsigned i;

	world_up(&world, transport, 2);
	for (i = 0; i < 2; i++) {
		memory[i] = region(world.endpoint[i], 2 * bytes);
		pattern_fill(memory[i], bytes, i);
		CHECK_EQUAL(transport_post_send(world.endpoint[i], !i, 5,
						memory[i], bytes, NULL),
			    0);
	}
	for (i = 0; i < 2; i++)
		CHECK_EQUAL(transport_post_recv(world.endpoint[i], !i, 5,
						memory[i] + bytes, bytes, NULL),
			    0);
	world_drive(&world, tallies, both_ways_done, NULL);
	for (i = 0; i < 2; i++)
		CHECK(pattern_holds(memory[i] + bytes, bytes, !i));
	world_close(&world);
	free(memory[0]);
	free(memory[1]);
}

#define MESH      5
#define ROUNDS    40
#define MESH_SLOT 20000

struct mesh_rank {
	struct world *world;
	unsigned rank;
	pthread_t thread;
};

static size_t mesh_size(unsigned from, unsigned to, unsigned round)
{
	return (from * 1009u + to * 9176u + round * 7919u) % MESH_SLOT;
}

static uint64_t mesh_tag(unsigned from, unsigned to, unsigned round)
{
	return (uint64_t)from << 40 | (uint64_t)to << 32 | round;
}

static void mesh_post(const struct mesh_rank *mesh, unsigned round,
		      unsigned char *out, unsigned char *in)
{
	struct transport_endpoint *endpoint = mesh->world->endpoint[mesh->rank];
	size_t bytes;
	unsigned i;

	for (i = 0; i < MESH; i++) {
		if (i == mesh->rank)
			continue;
		bytes = mesh_size(i, mesh->rank, round);
		CHECK_EQUAL(transport_post_recv(
				    endpoint, i, mesh_tag(i, mesh->rank, round),
				    in + i * MESH_SLOT, bytes, NULL),
			    0);
		bytes = mesh_size(mesh->rank, i, round);
		pattern_fill(out + i * MESH_SLOT, bytes, round * 31 + i);
		CHECK_EQUAL(transport_post_send(
				    endpoint, i, mesh_tag(mesh->rank, i, round),
				    out + i * MESH_SLOT, bytes, NULL),
			    0);
	}
}

static void *mesh_run(void *argument)
{
	struct mesh_rank *mesh = argument;
	struct transport_endpoint *endpoint = mesh->world->endpoint[mesh->rank];
	unsigned char *out = region(endpoint, MESH * MESH_SLOT);
	unsigned char *in = region(endpoint, MESH * MESH_SLOT);
	struct transport_completion done;
	unsigned round;
	unsigned i;

	for (round = 0; round < ROUNDS; round++) {
		mesh_post(mesh, round, out, in);
		for (i = 0; i < 2 * (MESH - 1); i++) {
			done = next_completion(endpoint);
			if (done.event != TRANSPORT_RECEIVED)
				continue;
			CHECK_EQUAL(done.tag,
				    mesh_tag(done.peer, mesh->rank, round));
			CHECK(pattern_holds(done.data, done.bytes,
					    round * 31 + mesh->rank));
		}
	}
	CHECK_EQUAL(transport_cancel(endpoint, TRANSPORT_ALL_PEERS, SECOND), 0);
	CHECK_EQUAL(transport_deregister(endpoint, out), 0);
	CHECK_EQUAL(transport_deregister(endpoint, in), 0);
	free(out);
	free(in);
	return NULL;
}

/* Five ranks, twenty links, each rank a thread that waits and sleeps. */
static void case_mesh(const struct conformance_transport *transport)
{
	struct mesh_rank mesh[MESH];
	struct world world;
	unsigned i;

	world_up(&world, transport, MESH);
	for (i = 0; i < MESH; i++) {
		mesh[i] = (struct mesh_rank){.world = &world, .rank = i};
		CHECK_EQUAL(pthread_create(&mesh[i].thread, NULL, mesh_run,
					   &mesh[i]),
			    0);
	}
	for (i = 0; i < MESH; i++)
		pthread_join(mesh[i].thread, NULL);
	world_close(&world);
}

/* The queues are full, that is said, and then it goes on. */
static void case_back_pressure(const struct conformance_transport *transport)
{
	struct tally tallies[WORLD_MAX] = {0};
	struct world world;
	unsigned char *memory[2];
	unsigned i;

	world_init(&world, transport, 2);
	world.config[0].depth = 4;
	world.config[1].depth = 4;
	world_open(&world);
	world_connect(&world, 20 * SECOND);
	memory[0] = region(world.endpoint[0], 1000);
	memory[1] = region(world.endpoint[1], 5 * 1000);
	pattern_fill(memory[0], 1000, 9);
	for (i = 0; i < 4; i++)
		CHECK_EQUAL(transport_post_send(world.endpoint[0], 1, i,
						memory[0], 1000, NULL),
			    0);
	CHECK_EQUAL(transport_post_send(world.endpoint[0], 1, 4, memory[0],
					1000, NULL),
		    -EAGAIN);
	for (i = 0; i < 4; i++)
		CHECK_EQUAL(transport_post_recv(world.endpoint[1], 0, i,
						memory[1] + i * 1000, 1000,
						NULL),
			    0);
	CHECK_EQUAL(transport_post_recv(world.endpoint[1], 0, 4,
					memory[1] + 4000, 1000, NULL),
		    -EAGAIN);
	world_finish(&world, tallies, 0, 4, 1, 4);
	CHECK_EQUAL(transport_post_send(world.endpoint[0], 1, 4, memory[0],
					1000, NULL),
		    0);
	CHECK_EQUAL(transport_post_recv(world.endpoint[1], 0, 4,
					memory[1] + 4000, 1000, NULL),
		    0);
	world_finish(&world, tallies, 0, 5, 1, 5);
	for (i = 0; i < 5; i++)
		CHECK(pattern_holds(memory[1] + i * 1000, 1000, 9));
	CHECK(!log_has("EAGAIN") && !log_has("queue"));
	world_close(&world);
	free(memory[0]);
	free(memory[1]);
}

/* What nobody asked for stays with the sender. */
static void case_late_receive(const struct conformance_transport *transport)
{
	struct tally tallies[WORLD_MAX] = {0};
	struct transport_completion done;
	size_t bytes = 64u << 20;
	unsigned char *memory[2];
	struct world world;
	int64_t until;

	world_up(&world, transport, 2);
	memory[0] = region(world.endpoint[0], bytes);
	memory[1] = region(world.endpoint[1], bytes);
	pattern_fill(memory[0], bytes, 77);
	CHECK_EQUAL(transport_post_send(world.endpoint[0], 1, 1, memory[0],
					bytes, NULL),
		    0);
	until = clock_now_ns() + 150 * MS;
	while (clock_now_ns() < until) {
		CHECK_EQUAL(transport_progress(world.endpoint[0], &done, 1), 0);
		CHECK_EQUAL(transport_progress(world.endpoint[1], &done, 1), 0);
	}
	CHECK_EQUAL(transport_post_recv(world.endpoint[1], 0, 1, memory[1],
					bytes, NULL),
		    0);
	world_finish(&world, tallies, 0, 1, 1, 1);
	CHECK(pattern_holds(memory[1], bytes, 77));
	world_close(&world);
	free(memory[0]);
	free(memory[1]);
}

/* Acquire, compute, post; with and without a posted receive, and ahead. */
static void case_acquire(const struct conformance_transport *transport)
{
	struct tally tallies[WORLD_MAX] = {0};
	unsigned char *memory[2];
	void *where[4] = {NULL};
	struct world world;
	unsigned i;

	world_up(&world, transport, 2);
	memory[0] = region(world.endpoint[0], 4 * 1000);
	memory[1] = region(world.endpoint[1], 4 * 1000);
	for (i = 0; i < 2; i++)
		CHECK_EQUAL(transport_post_recv(world.endpoint[1], 0, i,
						memory[1] + i * 1000, 1000,
						NULL),
			    0);
	for (i = 0; i < 4; i++) {
		CHECK_EQUAL(transport_acquire_send(world.endpoint[0], 1, i,
						   1000, memory[0] + i * 1000,
						   &where[i]),
			    0);
		CHECK(where[i] == memory[0] + i * 1000 ||
		      where[i] == memory[1] + i * 1000);
	}
	/* Nothing was posted for the last of them. */
	CHECK(where[3] == memory[0] + 3000);
	CHECK_EQUAL(transport_release_send(world.endpoint[0], 1), 0);
	/* Out of turn. */
	CHECK_EQUAL(transport_post_send(world.endpoint[0], 1, 1, where[1], 1000,
					NULL),
		    -EINVAL);
	for (i = 0; i < 3; i++) {
		pattern_fill(where[i], 1000, i);
		CHECK_EQUAL(transport_post_send(world.endpoint[0], 1, i,
						where[i], 1000, NULL),
			    0);
	}
	CHECK_EQUAL(transport_post_recv(world.endpoint[1], 0, 2,
					memory[1] + 2000, 1000, NULL),
		    0);
	world_finish(&world, tallies, 0, 3, 1, 3);
	for (i = 0; i < 3; i++)
		CHECK(pattern_holds(memory[1] + i * 1000, 1000, i));
	CHECK_EQUAL(transport_release_send(world.endpoint[0], 1), -ENOENT);
	world_close(&world);
	free(memory[0]);
	free(memory[1]);
}

/* The receiver's own slot: no copy, and counted as such. */
static void case_acquired_slot(const struct conformance_transport *transport)
{
	struct tally tallies[WORLD_MAX] = {0};
	struct transport_link_info info;
	struct transport_completion done;
	unsigned char *memory[2];
	struct world world;
	void *where;
	void *slot;

	world_up(&world, transport, 2);
	memory[0] = region(world.endpoint[0], 1000);
	CHECK_EQUAL(transport_create_region(world.endpoint[1], 1000, &slot), 0);
	memory[1] = slot;
	CHECK_EQUAL(transport_post_recv(world.endpoint[1], 0, 7, memory[1],
					1000, NULL),
		    0);
	CHECK_EQUAL(transport_acquire_send(world.endpoint[0], 1, 7, 1000,
					   memory[0], &where),
		    0);
	/* The same memory, be it at another address. */
	pattern_fill(where, 1000, 7);
	CHECK(pattern_holds(memory[1], 1000, 7));
	CHECK_EQUAL(transport_progress(world.endpoint[1], &done, 1), 0);
	CHECK_EQUAL(
		transport_post_send(world.endpoint[0], 1, 7, where, 1000, NULL),
		0);
	world_finish(&world, tallies, 0, 1, 1, 1);
	CHECK(pattern_holds(memory[1], 1000, 7));
	CHECK_EQUAL(transport_query(world.endpoint[0], 1, &info), 0);
	CHECK_EQUAL(info.messages_in_place, 1);

	/* The receiver may not take the memory away from under the sender. */
	CHECK_EQUAL(transport_post_recv(world.endpoint[1], 0, 8, memory[1],
					1000, NULL),
		    0);
	CHECK_EQUAL(transport_acquire_send(world.endpoint[0], 1, 8, 1000,
					   memory[0], &where),
		    0);
	CHECK_EQUAL(transport_cancel(world.endpoint[1], 0, 20 * MS),
		    -ETIMEDOUT);
	CHECK(log_has("still writes into slots of rank 1"));
	CHECK_EQUAL(
		transport_post_send(world.endpoint[0], 1, 8, where, 1000, NULL),
		-ECONNRESET);
	CHECK_EQUAL(transport_cancel(world.endpoint[1], 0, 20 * MS), 0);
	world_close(&world);
	free(memory[0]);
}

/*
 * Two slots, many messages: a slot is used again as soon as its completion
 * says so. Were that too early, a later message would show in an earlier one.
 */
static void case_reuse(const struct conformance_transport *transport)
{
	size_t bytes = 300000;
	unsigned char *memory[2];
	struct transport_completion done;
	unsigned posted = 0;
	unsigned sent = 0;
	unsigned awaited = 0;
	unsigned received = 0;
	struct world world;
	unsigned char *at;

	world_up(&world, transport, 2);
	memory[0] = region(world.endpoint[0], 2 * bytes);
	memory[1] = region(world.endpoint[1], 2 * bytes);
	while (received < 60) {
		while (posted < 60 && posted < sent + 2) {
			at = memory[0] + posted % 2 * bytes;
			pattern_fill(at, bytes, posted);
			CHECK_EQUAL(transport_post_send(world.endpoint[0], 1,
							posted++, at, bytes,
							NULL),
				    0);
		}
		while (awaited < 60 && awaited < received + 2) {
			at = memory[1] + awaited % 2 * bytes;
			memset(at, 0xcc, bytes);
			CHECK_EQUAL(transport_post_recv(world.endpoint[1], 0,
							awaited++, at, bytes,
							NULL),
				    0);
		}
		while (transport_progress(world.endpoint[0], &done, 1) == 1) {
			memset(done.data, 0xdd, bytes);
			sent++;
		}
		while (transport_progress(world.endpoint[1], &done, 1) == 1)
			CHECK(pattern_holds(done.data, bytes, received++));
	}
	world_close(&world);
	free(memory[0]);
	free(memory[1]);
}

#define STREAM_LENGTH 80
#define STREAM_SLOT   ((size_t)1 << 20)

static size_t stream_size(unsigned i)
{
	static const size_t sizes[] = {100, 300000, 70001, 1u << 20, 0, 65536};

	return sizes[i % ARRAY_SIZE(sizes)];
}

struct stream_sender {
	struct transport_endpoint *endpoint;
	unsigned char *from; /* two slots */
	pthread_t thread;
};

static void *stream_send(void *argument)
{
	struct stream_sender *sender = argument;
	unsigned char *slot;
	unsigned i;

	for (i = 0; i < STREAM_LENGTH; i++) {
		if (i >= 2)
			CHECK_EQUAL(next_completion(sender->endpoint).tag,
				    i - 2);
		slot = sender->from + i % 2 * STREAM_SLOT;
		pattern_fill(slot, stream_size(i), i);
		CHECK_EQUAL(transport_post_send(sender->endpoint, 1, i, slot,
						stream_size(i), NULL),
			    0);
	}
	CHECK_EQUAL(next_completion(sender->endpoint).tag, i - 2);
	CHECK_EQUAL(next_completion(sender->endpoint).tag, i - 1);
	return NULL;
}

static void stream_once(const struct conformance_transport *transport,
			bool no_spin)
{
	struct transport_completion done;
	struct stream_sender sender;
	unsigned char *to;
	struct world world;
	unsigned posted = 0;
	unsigned i;

	world_init(&world, transport, 2);
	world.config[0].no_spin = no_spin;
	world.config[1].no_spin = no_spin;
	world.config[0].spin_ns = 20 * MS;
	world.config[1].spin_ns = 20 * MS;
	world_open(&world);
	world_connect(&world, 20 * SECOND);
	CHECK_EQUAL(world.connected[0] | world.connected[1], 0);
	sender.endpoint = world.endpoint[0];
	sender.from = region(world.endpoint[0], 2 * STREAM_SLOT);
	to = region(world.endpoint[1], 2 * STREAM_SLOT);
	CHECK_EQUAL(pthread_create(&sender.thread, NULL, stream_send, &sender),
		    0);
	for (i = 0; i < STREAM_LENGTH; i++) {
		for (; posted < STREAM_LENGTH && posted < i + 2; posted++)
			CHECK_EQUAL(transport_post_recv(
					    world.endpoint[1], 0, posted,
					    to + posted % 2 * STREAM_SLOT,
					    stream_size(posted), NULL),
				    0);
		done = next_completion(world.endpoint[1]);
		CHECK_EQUAL(done.tag, i);
		CHECK(pattern_holds(done.data, done.bytes, i));
		memset(done.data, 0xcc, done.bytes);
	}
	pthread_join(sender.thread, NULL);
	world_close(&world);
	free(sender.from);
	free(to);
}

/*
 * Small and large in turn, by owners that do nothing but wait, spinning and
 * sleeping: whoever receives a message, the kernel or the owner's own call, or
 * one the first half and the other the rest, every byte is in its place.
 */
static void case_stream(const struct conformance_transport *transport)
{
	stream_once(transport, false);
	stream_once(transport, true);
}

struct busy_sender {
	struct world *world;
	unsigned char *from;
	size_t bytes;
};

static void *send_one(void *argument)
{
	struct busy_sender *sender = argument;
	struct transport_endpoint *endpoint = sender->world->endpoint[0];

	clock_sleep_ns(20 * MS);
	CHECK_EQUAL(transport_post_send(endpoint, 1, 3, sender->from,
					sender->bytes, NULL),
		    0);
	CHECK(next_completion(endpoint).event == TRANSPORT_SENT);
	return NULL;
}

/*
 * The owner computes and does not call in; the posted receive is filled all
 * the same. To be sure that the data is in the slot, and not in a socket
 * buffer that progress empties, the slot is looked at before progress.
 */
static void case_overlap(const struct conformance_transport *transport)
{
	struct busy_sender sender;
	struct transport_completion done;
	volatile unsigned spins = 0;
	struct world world;
	pthread_t thread;
	unsigned char *to;
	void *slot;
	int64_t until;

	world_up(&world, transport, 2);
	sender = (struct busy_sender){.world = &world, .bytes = 1u << 20};
	sender.from = region(world.endpoint[0], sender.bytes);
	CHECK_EQUAL(
		transport_create_region(world.endpoint[1], sender.bytes, &slot),
		0);
	to = slot;
	pattern_fill(sender.from, sender.bytes, 3);
	memset(to, 0, sender.bytes);
	CHECK_EQUAL(transport_post_recv(world.endpoint[1], 0, 3, to,
					sender.bytes, NULL),
		    0);
	CHECK_EQUAL(pthread_create(&thread, NULL, send_one, &sender), 0);
	until = clock_now_ns() + 300 * MS;
	while (clock_now_ns() < until)
		spins++;
	/* Where another thread copies, looking before progress is a race. */
	if (transport->io)
		CHECK(pattern_holds(to, sender.bytes, 3));
	CHECK_EQUAL(transport_progress(world.endpoint[1], &done, 1), 1);
	CHECK(done.event == TRANSPORT_RECEIVED && done.tag == 3);
	CHECK(pattern_holds(to, sender.bytes, 3));
	pthread_join(thread, NULL);
	world_close(&world);
	free(sender.from);
}

/* After connect nothing is allocated, whatever happens. */
static void case_no_allocation(const struct conformance_transport *transport)
{
	struct tally tallies[WORLD_MAX] = {0};
	size_t bytes = 100000;
	unsigned char *memory[2];
	unsigned long before;
	struct world world;
	void *where;
	unsigned i;

	world_up(&world, transport, 2);
	memory[0] = region(world.endpoint[0], bytes);
	memory[1] = region(world.endpoint[1], bytes);
	before = allocations();
	for (i = 0; i < 20; i++) {
		CHECK_EQUAL(transport_post_recv(world.endpoint[1], 0, i,
						memory[1], bytes, NULL),
			    0);
		CHECK_EQUAL(transport_acquire_send(world.endpoint[0], 1, i,
						   bytes, memory[0], &where),
			    0);
		CHECK_EQUAL(transport_post_send(world.endpoint[0], 1, i, where,
						bytes, NULL),
			    0);
		world_finish(&world, tallies, 0, i + 1, 1, i + 1);
		CHECK_EQUAL(transport_wait(world.endpoint[0],
					   clock_now_ns() + MS, -1),
			    -ETIMEDOUT);
	}
	CHECK_EQUAL(allocations(), before);
	CHECK(before > 0); /* the counter counts */
	world_close(&world);
	free(memory[0]);
	free(memory[1]);
}

static void case_query(const struct conformance_transport *transport)
{
	struct tally tallies[WORLD_MAX] = {0};
	struct transport_link_info info;
	unsigned char *memory[2];
	struct world world;
	unsigned i;

	world_up(&world, transport, 2);
	memory[0] = region(world.endpoint[0], 200000);
	memory[1] = region(world.endpoint[1], 200000);
	for (i = 0; i < 2; i++) {
		CHECK_EQUAL(transport_post_recv(world.endpoint[1], 0, i,
						memory[1] + i * 100000, 100000,
						NULL),
			    0);
		CHECK_EQUAL(transport_post_send(world.endpoint[0], 1, i,
						memory[0] + i * 100000, 100000,
						NULL),
			    0);
	}
	world_finish(&world, tallies, 0, 2, 1, 2);
	CHECK_EQUAL(transport_query(world.endpoint[0], 1, &info), 0);
	/* "fault:tcp", of "fault:tcp:seed=1" */
	CHECK(info.transport[0] && strncmp(info.transport, transport->kind,
					   strlen(info.transport)) == 0);
	CHECK(!transport->io || strcmp(info.io, transport->io) == 0);
	CHECK(info.reason[0]);
	CHECK_EQUAL(info.status, 0);
	CHECK_EQUAL(info.messages_sent, 2);
	CHECK_EQUAL(info.bytes_sent, 200000);
	CHECK_EQUAL(info.messages_received, 0);
	/* On loopback the kernel copies, and the first message has told. */
	CHECK_EQUAL(info.zero_copy,
		    transport->zero_copy == TRANSPORT_ZERO_COPY_ALWAYS);
	CHECK_EQUAL(transport_query(world.endpoint[1], 0, &info), 0);
	CHECK_EQUAL(info.messages_received, 2);
	CHECK_EQUAL(info.bytes_received, 200000);
	CHECK_EQUAL(transport_query(world.endpoint[1], 1, &info), -ENOTCONN);
	world_close(&world);
	free(memory[0]);
	free(memory[1]);
}

const struct conformance_case conformance_data_cases[] = {
	{"sizes", case_sizes},
	{"order", case_order},
	{"both ways", case_both_ways},
	{"mesh", case_mesh},
	{"back-pressure", case_back_pressure},
	{"late receive", case_late_receive},
	{"acquire", case_acquire},
	{"acquired slot", case_acquired_slot},
	{"reuse", case_reuse},
	{"stream", case_stream},
	{"overlap", case_overlap},
	{"no allocation", case_no_allocation},
	{"query", case_query},
	{NULL, NULL},
};
