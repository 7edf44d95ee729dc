/*
 * Fault plans: reading them, what they say, and that under plans that break
 * links everything ends in time, in success or in an error that says what
 * has happened, and never in bytes that nobody sent.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "tests/transport/world.h"
#include "transport/fault/fault.h"

/* ---- plans ---- */

static void test_parse(void **state)
{
	struct fault_plan plan;

	(void)state;
	log_capture();
	assert_int_equal(fault_plan_parse("", &plan), 0);
	assert_int_equal(plan.seed, 1);
	assert_false(plan.wire);
	assert_int_equal(
		fault_plan_parse("seed=7,delay=1ms:0.01,cut=after:100,"
				 "drop=0.001,corrupt=0.25,duplicate=1,"
				 "stall=after:0,links=0-1+2>3,level=wire",
				 &plan),
		0);
	assert_int_equal(plan.seed, 7);
	assert_true(plan.wire);
	assert_int_equal(plan.delay_ns, NS_PER_MS);
	assert_true(plan.rules[FAULT_CUT].once);
	assert_int_equal(plan.rules[FAULT_CUT].after, 100);
	assert_true(plan.rules[FAULT_CORRUPT].probability == 0.25);
	assert_int_equal(plan.filter_count, 2);
	assert_true(plan.filters[0].both_ways);
	assert_false(plan.filters[1].both_ways);
	assert_int_equal(log_count("\n"), 0);
}

/* What is wrong, and the word of the message that says so. */
static void test_refuse(void **state)
{
	static const char *const wrong[][2] = {
		{"seed", "NAME=VALUE"},
		{"seed=", "NAME=VALUE"},
		{"seed=-1", "a seed is a number"},
		{"seed=1,", "comma"},
		{",seed=1", "comma"},
		{"seed=1,,cut=1", "comma"},
		{"seed=1,seed=2", "said before"},
		{"corupt=1", "did you mean corrupt?"},
		{"sharks=1", "there is no \"sharks\""},
		{"drop=1.5", "\"1.5\" is neither"},
		{"drop=-0.1", "neither a probability"},
		{"drop=nan", "neither a probability"},
		{"cut=after:", "not a number of messages"},
		{"cut=after:-3", "\"-3\" is not a number"},
		{"cut=at:3", "nor after:N"},
		{"delay=0.1", "how often is missing"},
		{"delay=5:0.1", "\"5\" is not a time"},
		{"delay=5m:0.1", "\"5m\" is not a time"},
		{"delay=61s:0.1", "60s at most"},
		{"delay=99999999999999999999s:0.1", "60s at most"},
		{"delay=5ms:2", "neither a probability"},
		{"level=atom", "message or wire"},
		{"links=0", "two ranks"},
		{"links=0-0", "two ranks"},
		{"links=0-x", "two ranks"},
		{"links=0-1+", "two ranks"},
	};
	struct transport_endpoint *endpoint;
	struct transport_config config;
	struct fault_plan plan;
	unsigned i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(wrong); i++) {
		log_capture();
		assert_int_equal(fault_plan_parse(wrong[i][0], &plan), -EINVAL);
		CHECK(log_has(wrong[i][1]));
		CHECK_EQUAL(log_count("\n"), 1);
	}
	transport_config_default(&config);
	config.size = 2;
	config.job = 1;
	config.kind = "fault:";
	CHECK_EQUAL(transport_open(&config, &endpoint), -EINVAL);
	config.kind = "fault:fault:tcp";
	CHECK_EQUAL(transport_open(&config, &endpoint), -EINVAL);
	config.kind = "fault:pigeon";
	CHECK_EQUAL(transport_open(&config, &endpoint), -EOPNOTSUPP);
	config.kind = "fault:inproc:level=wire";
	CHECK_EQUAL(transport_open(&config, &endpoint), -EINVAL);
	CHECK(log_has("inproc has no wire"));
	config.kind = "fault";
	CHECK_EQUAL(transport_open(&config, &endpoint), -EOPNOTSUPP);
}

/* The same again and again, another for each link, kind, direction, seed. */
static void test_pure(void **state)
{
	struct fault_stream stream = {.from = 0, .to = 1, .receiver = true};
	struct fault_stream other = stream;
	struct fault_plan plans[2];
	unsigned same[4] = {0};
	unsigned hits = 0;
	unsigned i;

	(void)state;
	CHECK_EQUAL(fault_plan_parse("seed=5,drop=0.1,corrupt=0.1", &plans[0]),
		    0);
	CHECK_EQUAL(fault_plan_parse("seed=6,drop=0.1,corrupt=0.1", &plans[1]),
		    0);
	for (i = 0; i < 20000; i++) {
		bool hit = fault_plan_hits(&plans[0], FAULT_DROP, &stream, i);

		CHECK_EQUAL(hit,
			    fault_plan_hits(&plans[0], FAULT_DROP, &stream, i));
		hits += hit;
		same[0] += hit &&
			   fault_plan_hits(&plans[1], FAULT_DROP, &stream, i);
		same[1] += hit && fault_plan_hits(&plans[0], FAULT_CORRUPT,
						  &stream, i);
		other.from = 1;
		other.to = 0;
		same[2] += hit &&
			   fault_plan_hits(&plans[0], FAULT_DROP, &other, i);
		other = stream;
		other.to = 2;
		same[3] += hit &&
			   fault_plan_hits(&plans[0], FAULT_DROP, &other, i);
	}
	/* 2,000 expected, 200 by chance: five deviations around them. */
	CHECK(hits > 1780 && hits < 2220);
	for (i = 0; i < 4; i++)
		CHECK(same[i] > 120 && same[i] < 280);
}

/* Positions on a wire do not depend on how the bytes come in. */
static void test_positions(void **state)
{
	struct fault_stream stream = {.from = 2, .to = 3};
	struct fault_plan plan;
	uint64_t found[64];
	unsigned count = 0;
	uint64_t at = 0;
	uint64_t asked;
	uint64_t next;
	unsigned i;

	(void)state;
	CHECK_EQUAL(fault_plan_parse("level=wire,corrupt=0.01", &plan), 0);
	while (count < ARRAY_SIZE(found)) {
		next = fault_plan_next(&plan, FAULT_CORRUPT, &stream, at,
				       &asked);
		if (next == FAULT_NEVER) {
			CHECK(asked > at);
			at = asked;
			continue;
		}
		CHECK(next >= at);
		found[count++] = next;
		at = next + 1;
	}
	/* One in 100 KiB or so. */
	CHECK(at > 2500000 && at < 16000000);
	for (i = 1; i < ARRAY_SIZE(found); i++) {
		at = found[i - 1] + 1 + (found[i] - found[i - 1]) / 2;
		CHECK_EQUAL(fault_plan_next(&plan, FAULT_CORRUPT, &stream,
					    MIN(at, found[i]), &asked),
			    found[i]);
	}
	CHECK_EQUAL(
		fault_plan_parse("level=wire,cut=after:100,links=2>3", &plan),
		0);
	CHECK_EQUAL(fault_plan_next(&plan, FAULT_CUT, &stream, 7, &asked), 100);
	CHECK_EQUAL(fault_plan_next(&plan, FAULT_CUT, &stream, 101, &asked),
		    FAULT_NEVER);
	stream.attempt = 1;
	CHECK_EQUAL(fault_plan_next(&plan, FAULT_CUT, &stream, 7, &asked),
		    FAULT_NEVER);
	stream = (struct fault_stream){.from = 3, .to = 2};
	CHECK_EQUAL(fault_plan_next(&plan, FAULT_CUT, &stream, 7, &asked),
		    FAULT_NEVER);
}

/* ---- traffic under plans that break things ---- */

#define RANKS    3u
#define MESSAGES 30u
#define SLOT     3000u
#define PATIENCE (400 * MS) /* without anything: it has stopped */

struct rank {
	struct world *world;
	unsigned rank;
	pthread_t thread;
	int status;   /* 0: all messages came */
	bool stopped; /* nothing came for a while, no error */
	bool wrong;
};

static size_t size_of(unsigned from, unsigned to, unsigned number)
{
	return (from * 1009u + to * 917u + number * 769u) % SLOT;
}

/* One message each way with each peer. */
static int post_round(struct rank *rank, unsigned number, unsigned char *out,
		      unsigned char *in)
{
	struct transport_endpoint *endpoint = rank->world->endpoint[rank->rank];
	unsigned peer;
	size_t bytes;
	int status = 0;

	for (peer = 0; !status && peer < RANKS; peer++) {
		if (peer == rank->rank)
			continue;
		bytes = size_of(peer, rank->rank, number);
		memset(in + peer * SLOT, 0xee, SLOT);
		status = transport_post_recv(endpoint, peer, number,
					     in + peer * SLOT, bytes, NULL);
		if (status)
			break;
		bytes = size_of(rank->rank, peer, number);
		pattern_fill(out + peer * SLOT, bytes,
			     100 * number + 10 * rank->rank + peer);
		status = transport_post_send(endpoint, peer, number,
					     out + peer * SLOT, bytes, NULL);
	}
	return status;
}

static void look_at(struct rank *rank, const struct transport_completion *done)
{
	if (done->event == TRANSPORT_RECEIVED &&
	    !pattern_holds(done->data, done->bytes,
			   100 * done->tag + 10 * done->peer + rank->rank))
		rank->wrong = true;
}

static int finish_round(struct rank *rank)
{
	struct transport_endpoint *endpoint = rank->world->endpoint[rank->rank];
	int64_t deadline = clock_now_ns() + PATIENCE;
	struct transport_completion done;
	unsigned left = 2 * (RANKS - 1);
	int status;

	while (left) {
		status = transport_progress(endpoint, &done, 1);
		if (status < 0)
			return status;
		if (status) {
			look_at(rank, &done);
			left--;
			deadline = clock_now_ns() + PATIENCE;
		} else if (transport_wait(endpoint, deadline, -1)) {
			rank->stopped = true;
			return 0;
		}
	}
	return 0;
}

static void *rank_run(void *argument)
{
	struct rank *rank = argument;
	struct transport_endpoint *endpoint = rank->world->endpoint[rank->rank];
	unsigned char *out = region(endpoint, RANKS * SLOT);
	unsigned char *in = region(endpoint, RANKS * SLOT);
	unsigned i;

	for (i = 0; !rank->status && !rank->stopped && i < MESSAGES; i++) {
		rank->status = post_round(rank, i, out, in);
		if (!rank->status)
			rank->status = finish_round(rank);
	}
	/* As an engine does: whoever has failed lets go of everything. */
	CHECK_EQUAL(
		transport_cancel(endpoint, TRANSPORT_ALL_PEERS, 10 * SECOND),
		0);
	CHECK_EQUAL(transport_deregister(endpoint, out), 0);
	CHECK_EQUAL(transport_deregister(endpoint, in), 0);
	free(out);
	free(in);
	return NULL;
}

struct end {
	bool connected; /* all of them */
	bool all;       /* messages came, everywhere */
	bool wrong;
	bool stopped;
	bool damaged; /* somebody got -EBADMSG */
	bool reset;
	bool protocol;
	uint64_t happened[FAULT_KINDS];
};

static void note(struct end *end, const struct rank *rank)
{
	end->all &= !rank->status && !rank->stopped;
	end->wrong |= rank->wrong;
	end->stopped |= rank->stopped;
	end->damaged |= rank->status == -EBADMSG;
	end->reset |= rank->status == -ECONNRESET;
	end->protocol |= rank->status == -EPROTO;
	CHECK(!rank->status || rank->status == -EBADMSG ||
	      rank->status == -ECONNRESET || rank->status == -EPROTO);
}

static void run_ranks(struct world *world, struct end *end)
{
	struct rank ranks[RANKS];
	unsigned i;

	for (i = 0; i < RANKS; i++) {
		ranks[i] = (struct rank){.world = world, .rank = i};
		CHECK_EQUAL(pthread_create(&ranks[i].thread, NULL, rank_run,
					   &ranks[i]),
			    0);
	}
	for (i = 0; i < RANKS; i++) {
		pthread_join(ranks[i].thread, NULL);
		note(end, &ranks[i]);
	}
}

/* A small job from beginning to end; the same for the same plan. */
static struct end live(const char *inner, const char *io, const char *plan)
{
	struct conformance_transport transport = {.name = "plan", .io = io};
	struct end end = {.connected = true, .all = true};
	struct fault_statistics statistics;
	struct world world;
	char kind[256];
	int64_t start = clock_now_ns();
	unsigned i;
	unsigned j;

	log_capture();
	snprintf(kind, sizeof(kind), "fault:%s:%s", inner, plan);
	transport.kind = kind;
	world_init(&world, &transport, RANKS);
	world_open(&world);
	world_connect(&world, 500 * MS);
	for (i = 0; i < RANKS; i++)
		end.connected &= !world.connected[i];
	if (end.connected)
		run_ranks(&world, &end);
	else
		end.all = false;
	for (i = 0; i < RANKS; i++) {
		fault_statistics(world.endpoint[i], &statistics);
		for (j = 0; j < FAULT_KINDS; j++)
			end.happened[j] += statistics.happened[j];
	}
	world_close(&world);
	CHECK(!end.wrong);
	CHECK(clock_now_ns() - start < 15 * SECOND);
	/* Nothing ends badly without a word, but what has just stopped. */
	CHECK(end.all || end.stopped || log_count("\n") > 0);
	return end;
}

static const struct {
	const char *inner, *io;
} inners[] = {
	{"inproc", NULL},
	{"tcp", "sockets"},
	{"tcp", "auto"},
};

static void test_message_cut(void **state)
{
	struct end end;
	unsigned i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(inners); i++) {
		end = live(inners[i].inner, inners[i].io,
			   "cut=after:12,links=0>1");
		CHECK(end.reset && !end.all);
		CHECK_EQUAL(end.happened[FAULT_CUT], 1);
		CHECK(log_has("rank 1: the link with rank 0 is cut"));
	}
}

static void test_message_corrupt(void **state)
{
	struct end end;
	unsigned i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(inners); i++) {
		end = live(inners[i].inner, inners[i].io,
			   "corrupt=after:7,links=2>0");
		CHECK(end.damaged && !end.all);
		CHECK(log_has("tag 0x7 ") && log_has("from rank 2 is damaged"));
		end = live(inners[i].inner, inners[i].io,
			   "duplicate=after:7,links=2>0");
		CHECK(end.protocol && !end.all);
		CHECK(log_has("came twice"));
	}
}

static void test_message_drop(void **state)
{
	struct end end;
	unsigned i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(inners); i++) {
		end = live(inners[i].inner, inners[i].io,
			   "drop=after:3,links=1>2");
		CHECK(end.stopped && !end.all);
		end = live(inners[i].inner, inners[i].io,
			   "stall=after:3,links=1>2");
		CHECK(end.stopped && !end.all);
	}
}

/* The control: plans that leave the messages alone. */
static void test_message_delay(void **state)
{
	struct end end;
	unsigned i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(inners); i++) {
		end = live(inners[i].inner, inners[i].io, "");
		CHECK(end.all);
		end = live(inners[i].inner, inners[i].io,
			   "delay=3ms:0.1,cut=after:1000");
		CHECK(end.all);
		CHECK(end.happened[FAULT_DELAY] > 10);
		CHECK_EQUAL(log_count("\n"), 0);
	}
}

static void test_wire(void **state)
{
	static const char *const plans[] = {
		"level=wire,corrupt=after:20000,links=0>1",
		"level=wire,drop=after:20000,links=0>1",
		"level=wire,duplicate=after:20000,links=0>1",
		"level=wire,cut=after:20000,links=0>1",
		"level=wire,stall=after:20000,links=0>1",
		"level=wire,delay=50ms:0.01",
	};
	struct end end;
	unsigned i;
	unsigned j;

	(void)state;
	for (i = 1; i < ARRAY_SIZE(inners); i++) {
		for (j = 0; j < ARRAY_SIZE(plans); j++) {
			end = live("tcp", inners[i].io, plans[j]);
			/* Lost or repeated bytes shift all that follows. */
			CHECK_EQUAL(end.damaged, j < 3);
			CHECK_EQUAL(end.all, j == 5);
			if (j == 3)
				CHECK(end.reset && log_has("rank 0"));
			if (j == 4)
				CHECK(end.stopped);
		}
	}
}

/* In handshakes, headers, anywhere, by many seeds. */
static void test_wire_at_random(void **state)
{
	struct end end;
	unsigned connected = 0;
	unsigned all = 0;
	unsigned seed;
	uint64_t happened;
	char plan[160];

	(void)state;
	for (seed = 0; seed < 40; seed++) {
		snprintf(plan, sizeof(plan),
			 "seed=%u,level=wire,corrupt=0.004,drop=0.002,"
			 "duplicate=0.002,cut=0.001,stall=0.0003,"
			 "delay=1ms:0.01",
			 seed);
		end = live("tcp", seed % 2 ? "sockets" : "auto", plan);
		happened = end.happened[FAULT_CORRUPT] +
			   end.happened[FAULT_DROP] +
			   end.happened[FAULT_DUPLICATE] +
			   end.happened[FAULT_CUT] + end.happened[FAULT_STALL];
		/* A broken handshake is tried again, and may then succeed. */
		CHECK(end.all || happened);
		connected += end.connected;
		all += end.all;
	}
	printf("# %u of 40 linked, %u came to their end\n", connected, all);
	CHECK(connected > 20 && all < 20);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_refuse),
		cmocka_unit_test(test_pure),
		cmocka_unit_test(test_positions),
		cmocka_unit_test(test_message_delay),
		cmocka_unit_test(test_message_cut),
		cmocka_unit_test(test_message_corrupt),
		cmocka_unit_test(test_message_drop),
		cmocka_unit_test(test_wire),
		cmocka_unit_test(test_wire_at_random),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
