/*
 * The reducer: over every transport, and whatever the order in which layers
 * become ready on each replica, the sums have the bits that were promised, the
 * norm those of one replica, the weights come round, and the bytes are those of
 * the plan. A replica that dies ends it.
 *
 * This program is supervisor and rank at once: the ranks are the replicas of
 * one position that holds both ends of a tied model, and the job names the
 * case. A rank that finds a mistake fails the job.
 */
#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "base/text.h"
#include "engine/launch.h"
#include "engine/reducer.h"
#include "model/kernels/elementwise.h"
#include "model/kernels/optimizer.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "cmocka-tap.h"

#define BLOCKS       5u
#define LAYERS       (BLOCKS + 2)
#define REPLICAS_MAX 8u
#define AHEAD        2u
#define PASSES       2u

static const struct partition partition = {
	.stages = 2,
	.first = {0, 2, LAYERS},
};
/* As their REDUCE_GRAD would stand in a row. */
static const unsigned stages[] = {1, 0};

struct replica {
	struct world *world;
	struct model *model;
	struct reduction *plan;
	struct store *store;
	struct inbox inboxes[REPLICAS_MAX];
	struct route route;
	struct exchange *exchange;
	struct reducer *reducer;
	void *memory;
	uint64_t random;
	double squares[128];
};

/* ---- the messages of a pass, as the route would have them ---- */

struct filler {
	unsigned to;
	struct inbox *inbox;
};

static void fill_one(void *argument, unsigned to, const struct message *message)
{
	struct filler *filler = argument;
	struct inbox *inbox = filler->inbox;

	if (to != filler->to)
		return;
	if (inbox->messages) {
		inbox->messages[inbox->count] = *message;
		inbox->messages[inbox->count].peer = inbox->peer;
	}
	inbox->count++;
}

static void emit_all(const struct reduction *plan, unsigned from,
		     struct filler *filler)
{
	filler->inbox->count = 0;
	for (unsigned s = 0; s < ARRAY_SIZE(stages); s++)
		reduction_emit(plan, from, REDUCTION_REDUCE, stages[s],
			       fill_one, filler);
	reduction_emit(plan, from, REDUCTION_TIED, 0, fill_one, filler);
	reduction_emit(plan, from, REDUCTION_SQUARES, 0, fill_one, filler);
	reduction_emit(plan, from, REDUCTION_WEIGHTS, 0, fill_one, filler);
}

static int make_route(struct replica *r)
{
	r->route.rank = r->world->rank;
	r->route.inboxes = r->inboxes;
	for (unsigned d = 0; d < r->world->size; d++) {
		struct inbox *inbox = &r->inboxes[r->route.inbox_count];
		struct filler filler = {r->world->rank, inbox};

		if (d == r->world->rank)
			continue;
		inbox->peer = d;
		emit_all(r->plan, d, &filler);
		inbox->messages =
			calloc(MAX(inbox->count, 1), sizeof(struct message));
		if (!inbox->messages)
			return fail(-ENOMEM, "no memory");
		emit_all(r->plan, d, &filler);
		r->route.inbox_count++;
	}
	return 0;
}

/* ---- life of a replica ---- */

static int make_plan(struct replica *r, bool sharded, bool windowed)
{
	static const unsigned one_window[ARRAY_SIZE(stages)] = {0, 0};

	struct model_config config;
	struct reduction_config plan = {
		.partition = &partition,
		.stages = stages,
		.stage_count = ARRAY_SIZE(stages),
		.replicas = r->world->size,
		.sharded = sharded,
	};
	int rc = model_config_default("gpt2", &config);

	config.vocab_size = 3001;
	config.context = 64;
	config.width = 208;
	config.layers = BLOCKS;
	config.heads = 4;
	/* What the others update is rounded where it is gathered. */
	config.type = sharded ? ELEMENT_BF16 : ELEMENT_F32;
	if (!rc)
		rc = model_create(&config, &r->model);
	plan.model = r->model;
	if (!rc)
		rc = reduction_create(&plan, &r->plan);
	if (!rc && windowed)
		rc = reduction_share(r->plan, one_window);
	return rc;
}

static int make_store(struct replica *r)
{
	static const bool holds[LAYERS] = {true, true, true, true,
					   true, true, true};
	struct store_config config = {
		.model = r->model,
		.holds_layer = holds,
		.levels = 1,
		.moments = 1,
		.reduction = r->plan,
		.replica = r->world->rank,
	};
	struct transport_endpoint *endpoint = r->world->endpoint;
	int rc = store_create(&config, &r->store);

	if (!rc)
		rc = transport_register(endpoint, r->store->gradient_arena.base,
					r->store->level_bytes);
	if (!rc && r->plan->sharded)
		rc = transport_register(endpoint, r->store->weight_arena.base,
					r->store->weight_arena.used_bytes);
	return rc;
}

static int make_reducer(struct replica *r)
{
	static const unsigned ranks[REPLICAS_MAX] = {0, 1, 2, 3, 4, 5, 6, 7};
	struct reducer_config config = {
		.plan = r->plan,
		.replica = r->world->rank,
		.ranks = ranks,
		.store = r->store,
		.route = &r->route,
		.threads = r->world->team,
		.ahead = AHEAD,
	};
	int rc = transport_create_region(
		r->world->endpoint,
		MAX(reducer_region_bytes(r->plan, r->world->rank, AHEAD), 1),
		&r->memory);

	if (!rc)
		rc = exchange_create(r->world, AHEAD, NULL, NULL, &r->exchange);
	config.exchange = r->exchange;
	config.memory = r->memory;
	return rc ? rc : reducer_create(&config, &r->reducer);
}

static int replica_init(struct world *world, bool sharded, bool windowed,
			struct replica *r)
{
	static const unsigned char print[TRANSPORT_FINGERPRINT_BYTES];
	unsigned peers[REPLICAS_MAX], count = 0;
	int rc;

	*r = (struct replica){.world = world};
	for (unsigned d = 0; d < world->size; d++)
		if (d != world->rank)
			peers[count++] = d;
	rc = make_plan(r, sharded, windowed);
	if (!rc)
		rc = make_route(r);
	if (!rc)
		rc = world_connect(world, peers, count, print);
	if (!rc)
		rc = make_store(r);
	return rc ? rc : make_reducer(r);
}

static void replica_fini(struct replica *r)
{
	struct transport_endpoint *endpoint = r->world->endpoint;

	if (r->exchange && !exchange_is_idle(r->exchange))
		(void)!transport_cancel(endpoint, TRANSPORT_ALL_PEERS,
					NS_PER_SECOND);
	reducer_destroy(r->reducer);
	exchange_destroy(r->exchange);
	if (r->store && endpoint) {
		transport_deregister(endpoint, r->store->gradient_arena.base);
		if (r->plan->sharded)
			transport_deregister(endpoint,
					     r->store->weight_arena.base);
	}
	if (r->memory)
		(void)!transport_release_region(endpoint, r->memory);
	store_destroy(r->store);
	for (unsigned i = 0; i < r->route.inbox_count; i++)
		free(r->inboxes[i].messages);
	reduction_destroy(r->plan);
	model_destroy(r->model);
}

/* ---- values, and what is to become of them ---- */

static float table[4096];

/* Of many magnitudes, so that another order of addition shows. */
static void fill_table(void)
{
	struct random_key key = random_key_named(5, "values");

	for (unsigned i = 0; i < ARRAY_SIZE(table); i++)
		table[i] = (float)((random_uniform(key, i) - 0.5) *
				   (double)(1u << i % 13));
}

static float value_of(unsigned replica, unsigned parameter, size_t i,
		      unsigned pass)
{
	return table[(i * 7 + (i >> 12) * 31 + replica * 1237u +
		      parameter * 59u + pass * 401u) %
		     ARRAY_SIZE(table)];
}

static float weight_of(unsigned parameter, size_t i, unsigned pass)
{
	return value_of(99, parameter, i, pass);
}

static float tree(unsigned first, unsigned count, unsigned parameter, size_t i,
		  unsigned pass)
{
	unsigned half = count / 2;

	if (count == 1)
		return value_of(first, parameter, i, pass);
	return tree(first, half, parameter, i, pass) +
	       tree(first + half, half, parameter, i, pass);
}

/* Powers of two as a tree, others one after the other. */
static float sum_of(const struct replica *r, unsigned parameter, size_t i,
		    unsigned pass)
{
	unsigned replicas = r->world->size;
	float sum = value_of(0, parameter, i, pass);

	if ((replicas & (replicas - 1)) == 0)
		return tree(0, replicas, parameter, i, pass);
	for (unsigned d = 1; d < replicas; d++)
		sum += value_of(d, parameter, i, pass);
	return sum;
}

/* The tie's ends are both here. */
static float final_of(const struct replica *r, const struct store_row *row,
		      size_t i, unsigned pass)
{
	float sum = sum_of(r, row->parameter->id, i, pass);

	if (row->follower < 0)
		return sum;
	return sum +
	       sum_of(r, r->store->rows[row->follower].parameter->id, i, pass);
}

static void fill_layer(struct replica *r, unsigned layer, unsigned pass)
{
	for (unsigned n = 0; n < r->store->count; n++) {
		const struct store_row *row = &r->store->rows[n];

		for (size_t i = 0; row->parameter->layer == layer &&
				   i < row->parameter->count;
		     i++)
			row->accumulators[0][i] = value_of(
				r->world->rank, row->parameter->id, i, pass);
	}
}

static void spoil_weights(struct replica *r)
{
	for (unsigned n = 0; n < r->store->count; n++)
		memset(r->store->rows[n].weights, 0xff,
		       r->store->rows[n].parameter->count * sizeof(float));
}

static int check_run(const struct replica *r, const struct store_row *row,
		     size_t first, size_t count, unsigned pass)
{
	for (size_t i = first; i < first + count; i++) {
		float wanted = final_of(r, row, i, pass);

		float found = *store_sum(row, i);

		if (memcmp(&found, &wanted, sizeof(float)))
			return fail(-EDOM, "%s[%zu] is %a, not %a",
				    row->parameter->name, i, (double)found,
				    (double)wanted);
	}
	return 0;
}

static int check_sums(const struct replica *r, unsigned pass)
{
	int rc = 0;

	for (unsigned n = 0; !rc && n < r->store->count; n++) {
		const struct store_row *row = &r->store->rows[n];

		if (row->target >= 0)
			continue;
		for (unsigned p = 0; !rc && p < row->piece_count; p++)
			rc = check_run(r, row, row->pieces[p].first,
				       row->pieces[p].count, pass);
	}
	return rc;
}

static int check_squares(struct replica *r, unsigned pass)
{
	const double *found = r->squares;
	size_t most = 3001 * 208;
	float *sums = malloc(most * sizeof(float));
	void *scratch = aligned_alloc(
		CACHE_LINE_BYTES,
		arena_piece_bytes(square_sum_scratch_bytes(most)));
	int rc = sums && scratch ? 0 : fail(-ENOMEM, "no memory");

	for (unsigned n = 0; !rc && n < r->store->count; n++) {
		const struct store_row *row = &r->store->rows[n];
		size_t count = row->parameter->count;
		double wanted;

		if (row->target >= 0)
			continue;
		for (size_t i = 0; i < count; i++)
			sums[i] = final_of(r, row, i, pass);
		wanted = square_sum(r->world->team, count, sums, scratch);
		if (wanted != *found++)
			rc = fail(-EDOM, "the square of %s is %a, not %a",
				  row->parameter->name, found[-1], wanted);
	}
	free(sums);
	free(scratch);
	return rc;
}

/* ---- a step ---- */

static double draw(struct replica *r)
{
	struct random_key key = random_key_named(r->world->rank, "order");

	return random_uniform(key, r->random++);
}

static void shuffle(struct replica *r, unsigned *layers, unsigned count)
{
	for (unsigned i = count; i > 1; i--) {
		unsigned other = (unsigned)(draw(r) * i);
		unsigned layer = layers[other];

		layers[other] = layers[i - 1];
		layers[i - 1] = layer;
	}
}

static int check_free(const struct replica *r, unsigned layer)
{
	for (unsigned n = 0; n < r->store->count; n++) {
		const struct store_row *row = &r->store->rows[n];

		for (size_t i = 0; row->parameter->layer == layer &&
				   i < row->parameter->count;
		     i++)
			if (row->accumulators[0][i] != 0)
				return fail(-EDOM, "%s[%zu] is not free",
					    row->parameter->name, i);
	}
	return 0;
}

/* In any order, with pauses. */
static void become_ready(struct replica *r, unsigned *layers, unsigned count)
{
	shuffle(r, layers, count);
	for (unsigned i = 0; i < count; i++) {
		reducer_layer_ready(r->reducer, layers[i]);
		if (draw(r) < 0.7)
			exchange_breathe(r->exchange);
		if (draw(r) < 0.3)
			clock_sleep_ns((int64_t)(draw(r) * 3 * NS_PER_MS));
	}
}

/* A bucket is ready with its lowest layer: all are filled before any is. */
static int run_layers(struct replica *r, unsigned pass)
{
	int rc = 0;

	for (unsigned s = 0; !rc && s < ARRAY_SIZE(stages); s++) {
		unsigned layers[LAYERS], count = 0;

		for (unsigned l = partition.first[stages[s] + 1];
		     !rc && l-- > partition.first[stages[s]];) {
			reducer_layer_await(r->reducer, l);
			rc = exchange_error(r->exchange);
			if (!rc && r->plan->windows)
				rc = check_free(r, l);
			fill_layer(r, l, pass);
			layers[count++] = l;
		}
		become_ready(r, layers, count);
		reducer_stage_ready(r->reducer, stages[s]);
	}
	return rc;
}

static int sum_tie(struct replica *r)
{
	unsigned target = (unsigned)reduction_tied(r->plan);
	struct store_row *row = &r->store->rows[r->store->row_of[target]];
	struct store_row *head = &r->store->rows[row->follower];
	unsigned count = reduction_shard_count(r->plan, r->world->rank, target);
	int rc = reducer_tied_await(r->reducer);

	for (unsigned i = 0; !rc && i < count; i++) {
		struct reduction_run run =
			reduction_shard(r->plan, r->world->rank, target, i);

		elementwise_accumulate(r->world->team, run.count,
				       store_sum(head, run.first),
				       store_sum(row, run.first));
	}
	if (!rc)
		reducer_tied_ready(r->reducer);
	return rc;
}

/*
 * Own pieces as the optimizer would. What others update may have come by now:
 * it was made wrong before anything was sent.
 */
static void update(struct replica *r, unsigned pass)
{
	for (unsigned n = 0; n < r->store->count; n++) {
		struct store_row *row = &r->store->rows[n];

		if (row->target >= 0)
			continue;
		for (unsigned p = 0; p < row->piece_count; p++) {
			const struct store_piece *piece = &row->pieces[p];

			for (size_t i = 0; i < piece->count; i++)
				row->weights[piece->first + i] =
					weight_of(row->parameter->id,
						  piece->first + i, pass);
			store_row_set(row, piece->first, piece->count,
				      row->weights + piece->first);
		}
	}
}

static bool is_rounded(const struct store_row *row, size_t i)
{
	return !row->rounded ||
	       row->rounded[i] == bfloat16_from_float(row->weights[i]);
}

static int check_weights(const struct replica *r, unsigned pass)
{
	for (unsigned n = 0; n < r->store->count; n++) {
		const struct store_row *row = &r->store->rows[n];

		for (size_t i = 0; row->target < 0 && i < row->parameter->count;
		     i++)
			if (!is_rounded(row, i) ||
			    row->weights[i] !=
				    weight_of(row->parameter->id, i, pass))
				return fail(-EDOM, "weight %zu of %s differs",
					    i, row->parameter->name);
	}
	return 0;
}

static int run_step(struct replica *r, unsigned pass)
{
	int rc = exchange_begin(r->exchange, &r->route, pass);

	spoil_weights(r);
	reducer_begin(r->reducer);
	if (!rc)
		rc = run_layers(r, pass);
	if (!rc)
		rc = sum_tie(r);
	if (!rc)
		rc = reducer_squares(r->reducer, r->squares);
	if (!rc)
		rc = check_sums(r, pass);
	if (!rc && r->world->rank == 0)
		rc = check_squares(r, pass);
	if (!rc)
		rc = reducer_settle(r->reducer);
	if (!rc)
		update(r, pass);
	if (!rc)
		rc = reducer_weights(r->reducer);
	if (!rc)
		rc = check_weights(r, pass);
	if (!rc && !exchange_is_idle(r->exchange))
		rc = fail(-EDOM, "something was left under way");
	return rc;
}

static uint64_t sent_bytes(const struct replica *r)
{
	uint64_t sum = 0;

	for (unsigned d = 0; d < r->world->size; d++) {
		struct transport_link_info info;

		if (d != r->world->rank &&
		    !transport_query(r->world->endpoint, d, &info))
			sum += info.bytes_sent;
	}
	return sum;
}

static int run_steps(struct replica *r)
{
	struct reduction_traffic traffic;
	uint64_t before = sent_bytes(r), sent;
	int rc = 0;

	for (unsigned pass = 0; !rc && pass < PASSES; pass++)
		rc = run_step(r, pass);
	reduction_count(r->plan, r->world->rank, &traffic);
	sent = sent_bytes(r) - before;
	if (!rc && sent != PASSES * traffic.bytes)
		rc = fail(-EDOM, "%llu bytes were sent, not %llu",
			  (unsigned long long)sent,
			  (unsigned long long)(PASSES * traffic.bytes));
	return rc;
}

/* One dies when the others count on it. */
static int run_killed(struct replica *r)
{
	int rc = exchange_begin(r->exchange, &r->route, 0);

	reducer_begin(r->reducer);
	fill_layer(r, LAYERS - 1, 0);
	reducer_layer_ready(r->reducer, LAYERS - 1);
	exchange_breathe(r->exchange);
	if (r->world->rank == 1)
		raise(SIGKILL);
	if (!rc)
		rc = run_layers(r, 0);
	if (!rc)
		rc = sum_tie(r);
	if (!rc)
		rc = reducer_squares(r->reducer, r->squares);
	return rc ? rc : fail(-EDOM, "sums without a replica");
}

static int rank_work(struct world *world)
{
	const char *name =
		json_string_value(json_object_get(world->job, "case"));
	struct replica replica;
	int rc;

	rc = replica_init(world, strcmp(name, "whole") != 0,
			  !strcmp(name, "windowed"), &replica);
	if (!rc)
		rc = strcmp(name, "killed") ? run_steps(&replica)
					    : run_killed(&replica);
	if (!rc)
		rc = world_barrier(world);
	replica_fini(&replica);
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
		   unsigned threads)
{
	struct launch_result result;
	int rc = launch(name, transport, ranks, threads, &result);

	if (rc)
		fail_msg("%s, %u ranks over %s: %d (%s)", name, ranks,
			 transport, rc, result.reason);
	launch_result_fini(&result);
}

static void expect_killed(const char *transport, unsigned ranks)
{
	struct launch_result result;

	log_set_sink(ignore_line, NULL);
	assert_true(launch("killed", transport, ranks, 1, &result) < 0);
	log_set_sink(NULL, NULL);
	assert_int_equal(result.failed_rank, 1);
	launch_result_fini(&result);
}

/* Another order of the same values has other bits: the checks can fail. */
static void order_shows(void **state)
{
	size_t differ = 0;

	(void)state;
	for (size_t i = 0; i < 4096; i++) {
		float a = value_of(0, 3, i, 0), b = value_of(1, 3, i, 0);
		float c = value_of(2, 3, i, 0), d = value_of(3, 3, i, 0);

		differ += (a + b) + (c + d) != (a + c) + (b + d);
	}
	assert_true(differ > 400);
}

static void sums_in_threads(void **state)
{
	(void)state;
	expect("whole", "inproc", 1, 1);
	for (unsigned replicas = 2; replicas <= 6; replicas++)
		expect(replicas % 2 ? "whole" : "sharded", "inproc", replicas,
		       1);
	expect("whole", "inproc", 4, 1);
	expect("sharded", "inproc", 3, 2);
	expect("windowed", "inproc", 2, 1);
	expect("windowed", "inproc", 3, 1);
	expect("windowed", "inproc", 8, 1);
}

static void sums_in_processes(void **state)
{
	(void)state;
	expect("whole", "shm", 2, 1);
	expect("sharded", "shm", 4, 1);
	expect("sharded", "tcp", 2, 1);
	expect("windowed", "tcp", 2, 1);
	expect("whole", "tcp", 3, 1);
}

static void a_lost_replica_ends_it(void **state)
{
	(void)state;
	expect_killed("shm", 3);
	expect_killed("tcp", 4);
}

int main(int count, char **arguments)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(order_shows),
		cmocka_unit_test(sums_in_threads),
		cmocka_unit_test(sums_in_processes),
		cmocka_unit_test(a_lost_replica_ends_it),
	};
	int64_t fd;

	fill_table();
	if (count == 4 && strcmp(arguments[1], "rank") == 0)
		return text_parse_integer(arguments[3], 3, 1 << 20, &fd) < 0 ||
		       world_rank_main((int)fd, "", rank_work) < 0;
	return RUN_TESTS("reducer", tests);
}
