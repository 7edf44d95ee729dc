/*
 * Collectives: sums and maxima of every length have the bits of the tree on all
 * slices, over each transport; small things are handed on and gathered; what
 * goes over the links is what is said; nothing stays under way; a peer that
 * fails or means another call ends it.
 *
 * This program is supervisor and rank at once. The job names the case, which
 * the ranks carry out together; a rank that finds a mistake fails the job.
 */
#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "engine/collective.h"
#include "engine/launch.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "cmocka-tap.h"

#define SLOT       (COLLECTIVE_SLOT_BYTES / sizeof(float))
#define SLICES_MAX 8u
#define COUNT_MAX  (SLICES_MAX * SLOT + 3 * SLOT + 7)

/* ---- one end ---- */

struct end {
	struct world *world;
	struct route route; /* of no message */
	struct exchange *exchange;
	struct collective *collective;
	void *memory;
	float *values; /* [COUNT_MAX] */
};

static int end_init(struct world *world, struct end *end)
{
	static const unsigned char print[TRANSPORT_FINGERPRINT_BYTES];
	struct collective_config config = {.threads = world->team,
					   .slices = world->size,
					   .slice = world->rank};
	unsigned peers[SLICES_MAX], count = 0;
	int rc;

	*end = (struct end){.world = world};
	end->values = malloc(COUNT_MAX * sizeof(float));
	if (!end->values)
		return fail(-ENOMEM, "no memory");
	for (unsigned r = 0; r < world->size; r++)
		if (r != world->rank)
			peers[count++] = r;
	rc = world_connect(world, peers, count, print);
	if (!rc)
		rc = transport_create_region(
			world->endpoint, collective_region_bytes(world->size),
			&end->memory);
	if (!rc)
		rc = exchange_create(world, 2, NULL, NULL, &end->exchange);
	if (rc)
		return rc;
	config.exchange = end->exchange;
	config.memory = end->memory;
	return collective_create(&config, &end->collective);
}

static void end_fini(struct end *end)
{
	struct transport_endpoint *endpoint = end->world->endpoint;

	if (end->exchange && !exchange_is_idle(end->exchange))
		(void)!transport_cancel(endpoint, TRANSPORT_ALL_PEERS,
					NS_PER_SECOND);
	collective_destroy(end->collective);
	exchange_destroy(end->exchange);
	if (end->memory)
		(void)!transport_release_region(endpoint, end->memory);
	free(end->values);
}

static int begin_pass(struct end *end, uint64_t step)
{
	int rc = exchange_begin(end->exchange, &end->route, step);

	collective_begin(end->collective);
	return rc;
}

/* ---- values, and what is to become of them ---- */

/* Of many magnitudes, so that another order of addition shows. */
static float value_of(unsigned slice, size_t i, unsigned salt)
{
	uint32_t x = (uint32_t)i * 2654435761u + slice * 40503u + salt * 977u;

	x ^= x >> 15;
	x *= 2246822519u;
	x ^= x >> 13;
	x *= 3266489917u;
	x ^= x >> 16;
	if (x % 64 == 0) /* both zeros occur, too */
		return x & 64 ? 0.0f : -0.0f;
	return ((float)(x >> 8) / (1 << 23) - 1) * (float)(1u << x % 12);
}

static void fill(float *out, size_t count, unsigned slice, unsigned salt)
{
	for (size_t i = 0; i < count; i++)
		out[i] = value_of(slice, i, salt);
}

static float combine_two(float low, float high, bool adds)
{
	if (adds)
		return low + high;
	return low > high ? low : high;
}

/* The aligned tree over slices [first, first + span) of `slices`. */
static float reference(unsigned slices, unsigned first, unsigned span, size_t i,
		       unsigned salt, bool adds)
{
	unsigned half = span / 2;
	float low;

	if (span == 1)
		return value_of(first, i, salt);
	low = reference(slices, first, half, i, salt, adds);
	if (first + half >= slices)
		return low;
	return combine_two(low,
			   reference(slices, first + half, half, i, salt, adds),
			   adds);
}

/* Of many values some: whatever goes astray takes its neighbours with it. */
static int check(const struct end *end, size_t count, unsigned salt, bool adds)
{
	unsigned slices = end->world->size, span = 1;
	size_t stride = count > 5000 ? 11 : 1;

	while (span < slices)
		span *= 2;
	for (size_t i = (count - 1) % stride; i < count; i += stride) {
		float expected = reference(slices, 0, span, i, salt, adds);

		if (memcmp(&end->values[i], &expected, sizeof(float)) != 0)
			return fail(-EDOM, "%s of %zu: value %zu is %a, not %a",
				    adds ? "sum" : "maximum", count, i,
				    (double)end->values[i], (double)expected);
	}
	return 0;
}

static int combine(const struct end *end, size_t count, unsigned salt,
		   bool adds)
{
	const struct layer_collectives *layers =
		collective_layers(end->collective);

	fill(end->values, count, end->world->rank, salt);
	if (adds)
		layers->sum(layers->argument, end->values, count);
	else
		layers->maximum(layers->argument, end->values, count);
	return exchange_error(end->exchange);
}

/* What the transport has sent to all peers. */
static uint64_t sent_bytes(const struct end *end)
{
	uint64_t sum = 0;

	for (unsigned r = 0; r < end->world->size; r++) {
		struct transport_link_info info;

		if (r != end->world->rank &&
		    !transport_query(end->world->endpoint, r, &info))
			sum += info.bytes_sent;
	}
	return sum;
}

/* ---- the cases, on the ranks ---- */

static const size_t counts[] = {
	0,
	1,
	7,
	4096,
	4097,
	5000,
	SLOT,
	SLOT + 1,
	2 * SLOT,
	5 * SLOT + 7,
	9,
	3 * SLOT,
	4 * SLOT + 5,
	COUNT_MAX,
};

static int case_values(struct end *end)
{
	unsigned slices = end->world->size, slice = end->world->rank;
	int rc = 0;

	for (unsigned pass = 0; !rc && pass < 2; pass++) {
		uint64_t before = sent_bytes(end), due = 0;

		rc = begin_pass(end, pass);
		for (unsigned i = 0; !rc && i < ARRAY_SIZE(counts); i++) {
			bool adds = (i + pass) % 2 == 0;
			unsigned salt = i + pass * 100;

			rc = combine(end, counts[i], salt, adds);
			if (!rc)
				rc = check(end, counts[i], salt, adds);
			due += collective_sum_bytes(slices, slice, counts[i]);
			if (!rc && !exchange_is_idle(end->exchange))
				rc = fail(-EDOM, "a call left something");
		}
		if (!rc && collective_bytes_sent(end->collective) != due)
			rc = fail(-EDOM, "%llu bytes were counted, not %llu",
				  (unsigned long long)collective_bytes_sent(
					  end->collective),
				  (unsigned long long)due);
		if (!rc && sent_bytes(end) - before != due)
			rc = fail(
				-EDOM, "%llu bytes were sent, not %llu",
				(unsigned long long)(sent_bytes(end) - before),
				(unsigned long long)due);
	}
	return rc;
}

/* Slices that come late, each in its turn; small calls one after another. */
static int case_late(struct end *end)
{
	int rc = begin_pass(end, 0);

	for (unsigned i = 0; !rc && i < 60; i++) {
		size_t count = i % 3 == 0 ? 5 * SLOT + 7 : 64;

		if (i % (end->world->size + 2) == end->world->rank)
			clock_sleep_ns(3 * NS_PER_MS);
		rc = combine(end, count, i, true);
		if (!rc)
			rc = check(end, count, i, true);
	}
	return rc;
}

#define BYTES_MAX (3 * COLLECTIVE_SLOT_BYTES + 11)

static const size_t lengths[] = {0,        1, 33, 4000, COLLECTIVE_SLOT_BYTES,
				 BYTES_MAX};

static unsigned char byte_of(unsigned slice, size_t i, size_t length)
{
	return (unsigned char)(i * 31 + (i >> 9) + slice * 7 + length);
}

static int hand_on(struct end *end, unsigned char *data, size_t length)
{
	int rc;

	for (size_t i = 0; i < length; i++)
		data[i] = byte_of(end->world->rank, i, length);
	rc = collective_broadcast(end->collective, data, length);
	for (size_t i = 0; !rc && i < length; i++)
		if (data[i] != byte_of(0, i, length))
			rc = fail(-EDOM, "byte %zu was not handed on", i);
	return rc;
}

static int collect(struct end *end, unsigned char *data, size_t length)
{
	unsigned char *mine = data, *all = data + length;
	int rc;

	for (size_t i = 0; i < length; i++)
		mine[i] = byte_of(end->world->rank, i, length);
	rc = collective_all_gather(end->collective, mine, length, all);
	for (unsigned s = 0; s < end->world->size; s++)
		for (size_t i = 0; !rc && i < length; i++)
			if (all[s * length + i] != byte_of(s, i, length))
				rc = fail(-EDOM, "byte %zu of slice %u differs",
					  i, s);
	return rc;
}

static int case_bytes(struct end *end)
{
	unsigned char *data = malloc((end->world->size + 1) * BYTES_MAX);
	int rc = data ? begin_pass(end, 3) : fail(-ENOMEM, "no memory");

	for (unsigned i = 0; !rc && i < 2 * ARRAY_SIZE(lengths); i++) {
		size_t length = lengths[i % ARRAY_SIZE(lengths)];

		rc = hand_on(end, data, length);
		if (!rc)
			rc = collect(end, data, length);
		if (!rc && i % 2)
			rc = combine(end, 100, i, true);
		if (!rc && i % 2)
			rc = check(end, 100, i, true);
		if (!rc && !exchange_is_idle(end->exchange))
			rc = fail(-EDOM, "a call left something");
	}
	free(data);
	return rc;
}

/* Between passes the links are free for others. */
static int case_between(struct end *end)
{
	unsigned me = end->world->rank;
	struct message message = {.kind = MESSAGE_PIECE,
				  .peer = !me,
				  .bytes = 100,
				  .data = end->memory};
	bool busy = false;
	int rc = 0;

	for (unsigned pass = 0; !rc && pass < 3; pass++) {
		rc = begin_pass(end, pass);
		if (!rc)
			rc = combine(end, 2 * SLOT + pass, pass, true);
		if (!rc)
			rc = check(end, 2 * SLOT + pass, pass, true);
		if (!rc && me == pass % 2)
			rc = exchange_expect(end->exchange, &message);
		else if (!rc)
			rc = exchange_send(end->exchange, &message, end->memory,
					   &busy);
		if (!rc && me == pass % 2)
			rc = exchange_await_expected(end->exchange, &message);
		if (!rc)
			rc = exchange_await_sent(end->exchange, &busy);
	}
	return rc;
}

/* The call ends, and so does the next one, at once; the error is there. */
static int expect_failure(struct end *end, size_t count)
{
	int64_t begin_ns;
	unsigned char byte = 0;
	int rc = combine(end, count, 0, true);

	if (!rc)
		return fail(-EDOM, "a call ended well without a peer");
	begin_ns = clock_now_ns();
	if (combine(end, COUNT_MAX, 0, false) != rc ||
	    collective_broadcast(end->collective, &byte, 1) != rc)
		return fail(-EDOM, "another error than before");
	if (clock_now_ns() - begin_ns > NS_PER_SECOND)
		return fail(-EDOM, "a call after a failure took its time");
	return rc;
}

static int case_peer_fails(struct end *end)
{
	int rc = begin_pass(end, 0);

	if (!rc)
		rc = combine(end, SLOT, 0, true);
	if (!rc && end->world->rank == end->world->size - 1)
		return fail(-ENOSPC, "planted");
	return rc ? rc : expect_failure(end, COUNT_MAX);
}

static int case_killed(struct end *end)
{
	int rc = begin_pass(end, 0);

	if (!rc)
		rc = combine(end, SLOT, 0, true);
	if (!rc && end->world->rank == 1)
		raise(SIGKILL);
	return rc ? rc : expect_failure(end, COUNT_MAX);
}

/* One slice means to sum something else. */
static int case_disagree(struct end *end)
{
	int rc = begin_pass(end, 0);

	return rc ? rc : expect_failure(end, 5000 + end->world->rank * 100);
}

static const struct {
	const char *name;
	int (*run)(struct end *end);
} cases[] = {
	{"values", case_values},         {"late", case_late},
	{"bytes", case_bytes},           {"between", case_between},
	{"peer fails", case_peer_fails}, {"killed", case_killed},
	{"disagree", case_disagree},
};

static int rank_work(struct world *world)
{
	const char *name =
		json_string_value(json_object_get(world->job, "case"));
	struct end end;
	int rc = end_init(world, &end);

	for (size_t i = 0; !rc && i < ARRAY_SIZE(cases); i++)
		if (strcmp(cases[i].name, name) == 0)
			rc = cases[i].run(&end);
	if (!rc && !exchange_is_idle(end.exchange))
		rc = fail(-EDOM, "something was left under way");
	if (!rc)
		rc = world_barrier(world);
	end_fini(&end);
	return rc;
}

/* ---- the cases, seen by the supervisor ---- */

static void ignore_line(void *argument, enum log_level level, const char *line)
{
	(void)argument;
	(void)level;
	(void)line;
}

static int launch(const char *name, const char *transport, unsigned ranks,
		  unsigned threads, struct launch_result *result)
{
	json_t *job = json_pack("{s:s}", "case", name);
	struct launch launch = {.ranks = ranks,
				.threads_per_rank = threads,
				.transport = transport,
				.io = "auto",
				.job = job,
				.rank_main = rank_work,
				.keep_signals = true,
				.quiet = true};
	int rc = launch_run(&launch, result);

	json_decref(job);
	return rc;
}

static void expect(const char *name, const char *transport, unsigned ranks,
		   unsigned threads, int wanted, const char *reason)
{
	struct launch_result result;
	int rc;

	if (wanted)
		log_set_sink(ignore_line, NULL);
	rc = launch(name, transport, ranks, threads, &result);
	log_set_sink(NULL, NULL);
	if (rc != wanted || !strstr(result.reason, reason))
		fail_msg("%s, %u ranks over %s: %d (%s), not %d (%s)", name,
			 ranks, transport, rc, result.reason, wanted, reason);
	launch_result_fini(&result);
}

/* Another order of the same values has other bits: check() can fail. */
static void order_shows(void **state)
{
	size_t differ = 0;

	(void)state;
	for (size_t i = 0; i < 1000; i++) {
		float v[4];

		for (unsigned s = 0; s < 4; s++)
			v[s] = value_of(s, i, 1);
		differ += (v[0] + v[1]) + (v[2] + v[3]) !=
			  ((v[0] + v[1]) + v[2]) + v[3];
	}
	assert_true(differ > 100);
}

static void values_in_threads(void **state)
{
	(void)state;
	expect("values", "inproc", 2, 1, 0, "");
	expect("values", "inproc", 3, 2, 0, "");
	expect("values", "inproc", 4, 1, 0, "");
	expect("values", "inproc", 6, 1, 0, "");
	expect("values", "inproc", 8, 1, 0, "");
}

static void values_in_processes(void **state)
{
	(void)state;
	expect("values", "shm", 2, 2, 0, "");
	expect("values", "shm", 3, 1, 0, "");
	expect("values", "shm", 4, 1, 0, "");
	expect("values", "shm", 8, 1, 0, "");
	expect("values", "tcp", 2, 1, 0, "");
	expect("values", "tcp", 4, 1, 0, "");
}

static void slices_come_late(void **state)
{
	(void)state;
	expect("late", "inproc", 4, 1, 0, "");
	expect("late", "shm", 2, 1, 0, "");
	expect("late", "shm", 4, 1, 0, "");
	expect("late", "tcp", 3, 1, 0, "");
}

static void bytes_arrive(void **state)
{
	(void)state;
	expect("bytes", "inproc", 2, 1, 0, "");
	expect("bytes", "inproc", 3, 1, 0, "");
	expect("bytes", "shm", 4, 1, 0, "");
	expect("bytes", "tcp", 3, 1, 0, "");
}

static void leaves_the_links(void **state)
{
	(void)state;
	expect("between", "inproc", 2, 1, 0, "");
	expect("between", "shm", 2, 1, 0, "");
	expect("between", "tcp", 2, 1, 0, "");
}

static void ends_with_its_peer(void **state)
{
	struct launch_result result;

	(void)state;
	expect("peer fails", "inproc", 3, 1, -ENOSPC, "planted");
	expect("peer fails", "shm", 4, 1, -ENOSPC, "planted");
	expect("peer fails", "tcp", 2, 1, -ENOSPC, "planted");
	log_set_sink(ignore_line, NULL);
	assert_true(launch("killed", "shm", 3, 1, &result) < 0);
	log_set_sink(NULL, NULL);
	assert_int_equal(result.failed_rank, 1);
	launch_result_fini(&result);
}

static void notices_another_call(void **state)
{
	(void)state;
	expect("disagree", "inproc", 2, 1, -EPROTO, "");
	expect("disagree", "shm", 3, 1, -EPROTO, "");
	expect("disagree", "tcp", 2, 1, -EPROTO, "");
}

/* The formula itself: of many values 2 (T - 1) / T, give or take a line. */
static void counts_bytes(void **state)
{
	(void)state;
	assert_int_equal(collective_region_bytes(1), 0);
	assert_true(collective_sum_bytes(2, 0, 1000) == 4000);
	assert_true(collective_sum_bytes(2, 1, SLOT * 9 + 1) ==
		    (SLOT * 9 + 1) * 4);
	assert_true(collective_sum_bytes(4, 2, 100) == 3 * 400);
	for (unsigned t = 3; t <= 8; t++) {
		uint64_t count = 7 * SLOT + 13, sum = 0;

		for (unsigned s = 0; s < t; s++)
			sum += collective_sum_bytes(t, s, count);
		assert_true(sum == 2 * (t - 1) * count * sizeof(float));
	}
}

int main(int count, char **arguments)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(order_shows),
		cmocka_unit_test(counts_bytes),
		cmocka_unit_test(values_in_threads),
		cmocka_unit_test(values_in_processes),
		cmocka_unit_test(slices_come_late),
		cmocka_unit_test(bytes_arrive),
		cmocka_unit_test(leaves_the_links),
		cmocka_unit_test(ends_with_its_peer),
		cmocka_unit_test(notices_another_call),
	};
	int64_t fd;

	if (count == 4 && strcmp(arguments[1], "rank") == 0)
		return text_parse_integer(arguments[3], 3, 1 << 20, &fd) < 0 ||
		       world_rank_main((int)fd, "", rank_work) < 0;
	return RUN_TESTS("collective", tests);
}
