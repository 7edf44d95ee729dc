/*
 * The ferry: cargoes of every shape arrive as they left, in either direction,
 * over queues and over TCP; nobody runs ahead; failures end where they should.
 *
 * This program is supervisor and rank at once. The job names the case, which
 * the ranks carry out together; a rank that finds a mistake fails the job.
 */
#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "engine/ferry.h"
#include "engine/launch.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmocka-tap.h"

#define ROOT  0u
#define PIECE FERRY_PIECE_BYTES
#define KIND  7

/* ---- one end ---- */

struct end {
	struct world *world;
	struct exchange *exchange;
	struct ferry *ferry;
	void *memory;
};

static int end_init(struct world *world, struct end *end)
{
	static const unsigned char print[TRANSPORT_FINGERPRINT_BYTES];
	unsigned peers[8], count = 0;
	int rc;

	*end = (struct end){.world = world};
	for (unsigned r = 0; r < world->size; r++)
		if ((r == ROOT) != (world->rank == ROOT))
			peers[count++] = r;
	rc = world_connect(world, peers, count, print);
	if (!rc)
		rc = transport_create_region(world->endpoint, FERRY_BYTES,
					     &end->memory);
	if (!rc)
		rc = exchange_create(world, 2, NULL, NULL, &end->exchange);
	if (!rc)
		rc = ferry_create(end->exchange, end->memory, &end->ferry);
	return rc;
}

static void end_fini(struct end *end)
{
	struct transport_endpoint *endpoint = end->world->endpoint;

	if (end->exchange && !exchange_is_idle(end->exchange))
		(void)!transport_cancel(endpoint, TRANSPORT_ALL_PEERS,
					NS_PER_SECOND);
	ferry_destroy(end->ferry);
	exchange_destroy(end->exchange);
	if (end->memory)
		(void)!transport_release_region(endpoint, end->memory);
}

/* ---- cargoes ---- */

/* Ranks under inproc share these: how far the two ends are apart. */
static atomic_size_t filled, emptied, most_apart;

struct load {
	const uint64_t *items;
	unsigned salt;    /* another pattern for another rank */
	size_t next_item; /* what must be moved next */
	uint64_t next_byte;
	uint64_t moved;
	int64_t pause_ns; /* before each part is taken */
	uint64_t fail_at; /* bytes after which move fails; 0: never */
	uint64_t kill_at; /* bytes after which the process is killed */
};

static unsigned char pattern(const struct load *load, size_t item,
			     uint64_t byte)
{
	return (unsigned char)(byte * 31 + (byte >> 9) + item * 7 + load->salt);
}

static uint64_t item_bytes(const void *argument, size_t item)
{
	return ((const struct load *)argument)->items[item];
}

/* In ascending order, each byte once. */
static int advance(struct load *load, size_t item, uint64_t first, size_t bytes)
{
	while (load->next_byte == load->items[load->next_item]) {
		load->next_item++;
		load->next_byte = 0;
	}
	if (item != load->next_item || first != load->next_byte || !bytes ||
	    bytes > load->items[item] - first)
		return fail(-EDOM, "item %zu, byte %llu: not what is next",
			    item, (unsigned long long)first);
	load->next_byte += bytes;
	load->moved += bytes;
	if (load->kill_at && load->moved >= load->kill_at)
		raise(SIGKILL);
	if (load->fail_at && load->moved >= load->fail_at)
		return fail(-ENOSPC, "planted");
	return 0;
}

static int fill(void *argument, size_t item, uint64_t first, void *data,
		size_t bytes)
{
	struct load *load = argument;
	unsigned char *out = data;
	size_t apart;

	for (size_t i = 0; i < bytes; i++)
		out[i] = pattern(load, item, first + i);
	apart = atomic_fetch_add(&filled, bytes) + bytes -
		atomic_load(&emptied);
	if (apart > atomic_load(&most_apart))
		atomic_store(&most_apart, apart);
	return advance(load, item, first, bytes);
}

static int empty(void *argument, size_t item, uint64_t first, void *data,
		 size_t bytes)
{
	struct load *load = argument;
	const unsigned char *in = data;

	if (load->pause_ns)
		clock_sleep_ns(load->pause_ns);
	for (size_t i = 0; i < bytes; i++)
		if (in[i] != pattern(load, item, first + i))
			return fail(-EBADMSG, "item %zu, byte %llu differs",
				    item, (unsigned long long)first + i);
	atomic_fetch_add(&emptied, bytes);
	return advance(load, item, first, bytes);
}

static struct ferry_cargo cargo_of(struct load *load, size_t count, bool sends)
{
	return (struct ferry_cargo){.kind = KIND,
				    .items = count,
				    .bytes = item_bytes,
				    .move = sends ? fill : empty,
				    .argument = load};
}

static int carry(struct end *end, unsigned from, unsigned to, struct load *load,
		 size_t count)
{
	unsigned me = end->world->rank;
	struct ferry_cargo cargo = cargo_of(load, count, me == from);
	uint64_t total = 0;
	int rc = me == from ? ferry_send(end->ferry, to, &cargo)
			    : ferry_receive(end->ferry, from, &cargo);

	for (size_t i = 0; i < count; i++)
		total += load->items[i];
	if (!rc && load->moved != total)
		rc = fail(-EDOM, "%llu of %llu bytes were moved",
			  (unsigned long long)load->moved,
			  (unsigned long long)total);
	return rc;
}

/* ---- the cases, on the ranks ---- */

#define LOAD_ITEMS 8
static const uint64_t shapes[][LOAD_ITEMS] = {
	{0},
	{1},
	{0, 0, 4},
	{PIECE},
	{PIECE - 1, 1},
	{PIECE, 1},
	{PIECE + 4},
	{3, 0, 5 * PIECE + 7, 0, 1, PIECE, 2, 0},
	{2 * PIECE, 2 * PIECE},
	{100, 200, 300, 400, 500, 600, 700, 9 * PIECE + 1},
};

/* To and fro; the same berths serve both ways, one cargo after another. */
static int case_shapes(struct end *end)
{
	int rc = 0;

	for (size_t i = 0; !rc && i < ARRAY_SIZE(shapes); i++)
		for (unsigned to = 0; !rc && to < 2; to++) {
			struct load load = {.items = shapes[i],
					    .salt = (unsigned)i};

			rc = carry(end, 1 - to, to, &load, LOAD_ITEMS);
		}
	return rc;
}

static const uint64_t long_one[1] = {12 * PIECE + 5};

/* A receiver that dawdles holds the sender back. */
static int case_back_pressure(struct end *end)
{
	struct load load = {.items = long_one, .pause_ns = 5 * NS_PER_MS};
	int rc = carry(end, 1, ROOT, &load, 1);

	/* Each end's berths, and what was filled but not yet counted out. */
	if (!rc && atomic_load(&most_apart) > (2 * FERRY_PIECES + 1) * PIECE)
		rc = fail(-EDOM, "the sender was %zu bytes ahead",
			  atomic_load(&most_apart));
	return rc;
}

/* The root takes one rank after another; the last ones wait long. */
static int case_many(struct end *end)
{
	unsigned me = end->world->rank;
	int rc = 0;

	for (unsigned way = 0; !rc && way < 2; way++)
		for (unsigned r = 1; !rc && r < end->world->size; r++) {
			struct load load = {.items = long_one, .salt = r};

			if (me == r || me == ROOT)
				rc = carry(end, way ? ROOT : r, way ? r : ROOT,
					   &load, 1);
		}
	return rc;
}

/* A disk that is full: the sender gets through, and the links still work. */
static int case_receiver_fails(struct end *end)
{
	bool root = end->world->rank == ROOT;
	struct load load = {.items = long_one, .fail_at = root ? 3 * PIECE : 0};
	int rc = carry(end, 1, ROOT, &load, 1);

	if (root && rc != -ENOSPC)
		return fail(-EDOM, "a failure was not told (%d)", rc);
	if (root && load.moved != 3 * PIECE)
		return fail(-EDOM, "moved on after a failure");
	if (root)
		log_clear_last_error();
	else if (rc)
		return rc;
	load = (struct load){.items = long_one, .salt = 3};
	return carry(end, 1, ROOT, &load, 1);
}

static int case_sender_fails(struct end *end)
{
	struct load load = {.items = long_one,
			    .fail_at =
				    end->world->rank == ROOT ? 3 * PIECE : 0};

	return carry(end, ROOT, 1, &load, 1);
}

static int case_killed(struct end *end)
{
	struct load load = {.items = long_one,
			    .kill_at = end->world->rank == 1 ? 5 * PIECE : 0};

	return carry(end, 1, ROOT, &load, 1);
}

/* The ends do not mean the same cargo. */
static int case_disagree(struct end *end)
{
	static const uint64_t shorter[1] = {12 * PIECE + 4};
	bool root = end->world->rank == ROOT;
	struct load load = {.items = root ? shorter : long_one};

	return carry(end, 1, ROOT, &load, 1);
}

static const struct {
	const char *name;
	int (*run)(struct end *end);
} cases[] = {
	{"shapes", case_shapes},
	{"back-pressure", case_back_pressure},
	{"many", case_many},
	{"receiver fails", case_receiver_fails},
	{"sender fails", case_sender_fails},
	{"killed", case_killed},
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

static int launch(const char *name, const char *transport, const char *io,
		  unsigned ranks, struct launch_result *result)
{
	json_t *job = json_pack("{s:s}", "case", name);
	struct launch launch = {.ranks = ranks,
				.threads_per_rank = 1,
				.transport = transport,
				.io = io,
				.job = job,
				.rank_main = rank_work,
				.keep_signals = true,
				.quiet = true};
	int rc;

	atomic_store(&filled, 0);
	atomic_store(&emptied, 0);
	atomic_store(&most_apart, 0);
	rc = launch_run(&launch, result);
	json_decref(job);
	return rc;
}

static void expect(const char *name, const char *transport, const char *io,
		   unsigned ranks, int wanted, const char *reason)
{
	struct launch_result result;
	int rc;

	if (wanted)
		log_set_sink(ignore_line, NULL);
	rc = launch(name, transport, io, ranks, &result);
	log_set_sink(NULL, NULL);
	if (rc != wanted || !strstr(result.reason, reason))
		fail_msg("%s over %s: %d (%s), not %d (%s)", name, transport,
			 rc, result.reason, wanted, reason);
	launch_result_fini(&result);
}

static void arrives(void **state)
{
	(void)state;
	expect("shapes", "inproc", "auto", 2, 0, "");
	expect("shapes", "tcp", "auto", 2, 0, "");
	expect("shapes", "tcp", "sockets", 2, 0, "");
}

static void waits(void **state)
{
	(void)state;
	expect("back-pressure", "inproc", "auto", 2, 0, "");
	assert_true(atomic_load(&most_apart) > 0);
}

static void serves_many(void **state)
{
	(void)state;
	expect("many", "inproc", "auto", 4, 0, "");
	expect("many", "tcp", "auto", 4, 0, "");
}

static void fails_well(void **state)
{
	(void)state;
	log_set_sink(ignore_line, NULL);
	expect("receiver fails", "inproc", "auto", 2, 0, "");
	expect("receiver fails", "tcp", "auto", 2, 0, "");
	expect("sender fails", "inproc", "auto", 2, -ENOSPC, "planted");
	expect("sender fails", "tcp", "auto", 2, -ENOSPC, "planted");
}

static void ends_with_its_peer(void **state)
{
	struct launch_result result;
	int64_t begin_ns = clock_now_ns();

	(void)state;
	log_set_sink(ignore_line, NULL);
	assert_true(launch("killed", "tcp", "auto", 2, &result) < 0);
	log_set_sink(NULL, NULL);
	assert_int_equal(result.failed_rank, 1);
	assert_true(clock_now_ns() - begin_ns < 10 * NS_PER_SECOND);
	launch_result_fini(&result);
}

static void notices_another_cargo(void **state)
{
	(void)state;
	expect("disagree", "inproc", "auto", 2, -EPROTO, "");
	expect("disagree", "tcp", "auto", 2, -EPROTO, "");
}

int main(int count, char **arguments)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(arrives),
		cmocka_unit_test(waits),
		cmocka_unit_test(serves_many),
		cmocka_unit_test(fails_well),
		cmocka_unit_test(ends_with_its_peer),
		cmocka_unit_test(notices_another_cargo),
	};
	int64_t fd;

	if (count == 4 && strcmp(arguments[1], "rank") == 0)
		return text_parse_integer(arguments[3], 3, 1 << 20, &fd) < 0 ||
		       world_rank_main((int)fd, "", rank_work) < 0;
	return RUN_TESTS("ferry", tests);
}
