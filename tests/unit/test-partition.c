/*
 * The split of layers over stages: the best of all there are, where all can be
 * tried; quickly, where they cannot; and as the user wrote it.
 */
#include "base/log.h"
#include "base/random.h"
#include "engine/partition.h"
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define LAYERS_MAX 9u
#define STAGES_MAX 9u

static void ignore_line(void *argument, enum log_level level, const char *line)
{
	(void)argument;
	(void)level;
	(void)line;
}

static struct random_key key;
static uint64_t drawn;

/* Quarters, so that sums are exact. */
static double draw(unsigned below)
{
	return floor(random_uniform(key, drawn++) * below) / 4;
}

/* ---- a random problem, and all its splits ---- */

/* Memory as a stage's: a sum, times in flight, and the largest scratch. */
struct memory {
	double fixed[STAGES_MAX];
	double flights[STAGES_MAX];
	double weights[LAYERS_MAX];
	double activations[LAYERS_MAX];
	double scratch[LAYERS_MAX];
};

static double bytes_of(void *argument, unsigned stage, unsigned first,
		       unsigned end)
{
	const struct memory *memory = argument;
	double sum = memory->fixed[stage], scratch = 0;

	assert_true(first < end);
	for (unsigned i = first; i < end; i++) {
		sum += memory->weights[i] +
		       memory->flights[stage] * memory->activations[i];
		scratch = MAX(scratch, memory->scratch[i]);
	}
	return sum + scratch;
}

struct found {
	double rank, stage, squares, bytes;
};

static void weigh(const struct partition_problem *problem,
		  const unsigned *first, struct found *out)
{
	double time[STAGES_MAX] = {0}, bytes[STAGES_MAX] = {0};

	*out = (struct found){0};
	for (unsigned s = 0; s < problem->stages; s++) {
		unsigned rank =
			problem->rank_of_stage ? problem->rank_of_stage[s] : s;
		double own = 0;

		for (unsigned i = first[s]; i < first[s + 1]; i++)
			own += problem->costs[i];
		time[rank] += own;
		out->stage = MAX(out->stage, own);
		out->squares += own * own;
		if (problem->bytes)
			bytes[rank] += problem->bytes(problem->argument, s,
						      first[s], first[s + 1]);
	}
	for (unsigned r = 0; r < problem->ranks; r++) {
		out->rank = MAX(out->rank, time[r]);
		out->bytes = MAX(out->bytes,
				 bytes[r] + (problem->fixed_bytes
						     ? problem->fixed_bytes[r]
						     : 0));
	}
}

static bool is_better(const struct found *a, const struct found *b)
{
	if (a->rank != b->rank)
		return a->rank < b->rank;
	if (a->stage != b->stage)
		return a->stage < b->stage;
	return a->squares < b->squares;
}

/* The best of all splits under the cap, and the least any needs of it. */
static void try_all(const struct partition_problem *problem, unsigned *first,
		    unsigned stage, struct found *best, double *least_bytes)
{
	struct found now;

	if (stage == problem->stages) {
		if (first[stage] != problem->layers)
			return;
		weigh(problem, first, &now);
		*least_bytes = MIN(*least_bytes, now.bytes);
		if ((!problem->bytes || now.bytes <= problem->cap) &&
		    is_better(&now, best))
			*best = now;
		return;
	}
	for (first[stage + 1] = first[stage] + 1;
	     first[stage + 1] <= problem->layers; first[stage + 1]++)
		try_all(problem, first, stage + 1, best, least_bytes);
}

static void check_cover(const struct partition *p, unsigned layers,
			unsigned stages)
{
	assert_int_equal(p->stages, stages);
	assert_int_equal(p->first[0], 0);
	assert_int_equal(p->first[stages], layers);
	for (unsigned s = 0; s < stages; s++)
		assert_true(p->first[s] < p->first[s + 1]);
}

static void check_against_all(const struct partition_problem *problem,
			      bool chunks)
{
	struct found best = {INFINITY, INFINITY, INFINITY, 0}, now;
	unsigned first[STAGES_MAX + 1] = {0};
	double least_bytes = INFINITY;
	static struct partition p;
	struct partition_result result;
	int rc;

	try_all(problem, first, 0, &best, &least_bytes);
	rc = partition_find(problem, &p, &result);
	assert_true(result.exact);
	if (best.rank == INFINITY) {
		assert_int_equal(rc, -ENOSPC);
		assert_true(fabs(result.least_cap - least_bytes) <=
			    1e-9 * least_bytes);
		return;
	}
	assert_int_equal(rc, 0);
	check_cover(&p, problem->layers, problem->stages);
	weigh(problem, p.first, &now);
	assert_true(fabs(now.rank - best.rank) <= 1e-8);
	assert_true(fabs(now.stage - best.stage) <= 1e-8);
	assert_true(fabs(result.slowest_rank - now.rank) <= 1e-8);
	assert_true(fabs(result.slowest_stage - now.stage) <= 1e-8);
	if (problem->bytes)
		assert_true(now.bytes <= problem->cap);
	/* With chunks evenness comes from moves alone. */
	if (!chunks)
		assert_true(fabs(now.squares - best.squares) <= 1e-8);
}

static void draw_memory(struct memory *memory)
{
	for (unsigned s = 0; s < STAGES_MAX; s++) {
		memory->fixed[s] = draw(9);
		memory->flights[s] = floor(draw(20));
	}
	for (unsigned i = 0; i < LAYERS_MAX; i++) {
		memory->weights[i] = draw(40);
		memory->activations[i] = draw(8);
		memory->scratch[i] = draw(30);
	}
}

/* Uniform insides as real models have them, or anything. */
static void draw_costs(double *costs, struct memory *memory, unsigned layers,
		       bool uniform)
{
	for (unsigned i = 0; i < layers; i++)
		costs[i] = draw(20);
	draw_memory(memory);
	for (unsigned i = 2; uniform && i + 1 < layers; i++) {
		costs[i] = costs[1];
		memory->weights[i] = memory->weights[1];
		memory->activations[i] = memory->activations[1];
		memory->scratch[i] = memory->scratch[1];
	}
}

static void check_problem(struct partition_problem *problem, bool chunks)
{
	struct memory *memory = problem->argument;
	struct partition_result result;
	static struct partition p;
	struct found now;

	problem->bytes = NULL;
	check_against_all(problem, chunks);
	/* A cap near to what the best split needs, on both sides of it. */
	assert_int_equal(partition_find(problem, &p, &result), 0);
	problem->bytes = bytes_of;
	problem->argument = memory;
	weigh(problem, p.first, &now);
	for (unsigned i = 0; i < 4; i++) {
		problem->cap = now.bytes * (0.55 + 0.15 * i);
		check_against_all(problem, chunks);
	}
}

static void one_stage_a_rank_is_best(void **state)
{
	double costs[LAYERS_MAX], fixed[STAGES_MAX];
	struct memory memory;

	(void)state;
	for (unsigned round = 0; round < 3; round++)
		for (unsigned layers = 1; layers <= LAYERS_MAX; layers++)
			for (unsigned stages = 1; stages <= layers; stages++) {
				struct partition_problem problem = {
					.layers = layers,
					.stages = stages,
					.costs = costs,
					.ranks = stages,
					.argument = &memory,
					.fixed_bytes = round ? fixed : NULL,
				};

				draw_costs(costs, &memory, layers, round == 2);
				for (unsigned r = 0; r < stages; r++)
					fixed[r] = draw(12) - 1;
				check_problem(&problem, false);
			}
}

/* Loop, V, and any placement that gives each rank a stage. */
static void place(unsigned *rank_of, unsigned ranks, unsigned stages,
		  unsigned kind)
{
	for (unsigned s = 0; s < stages; s++) {
		unsigned turn = s / ranks, at = s % ranks;

		rank_of[s] = kind == 1 && turn % 2 ? ranks - 1 - at : at;
		if (kind == 2 && s >= ranks)
			rank_of[s] = (unsigned)(draw(4 * ranks));
	}
}

static void several_stages_a_rank_are_best(void **state)
{
	unsigned rank_of[STAGES_MAX];
	double costs[LAYERS_MAX], fixed[STAGES_MAX];
	struct memory memory;

	(void)state;
	for (unsigned layers = 3; layers <= LAYERS_MAX; layers++)
		for (unsigned stages = 2; stages <= layers; stages++)
			for (unsigned n = 0; n < 24; n++) {
				unsigned ranks = 1 + n % (stages - 1);
				struct partition_problem problem = {
					.layers = layers,
					.stages = stages,
					.costs = costs,
					.ranks = ranks,
					.rank_of_stage = rank_of,
					.argument = &memory,
					.fixed_bytes = n % 2 ? fixed : NULL,
				};

				place(rank_of, ranks, stages, n % 3);
				draw_costs(costs, &memory, layers, n % 4 < 2);
				for (unsigned r = 0; r < ranks; r++)
					fixed[r] = draw(12) - 1;
				check_problem(&problem, true);
			}
}

/* ---- large ones ---- */

#define LARGE_MAX 256u

/* An embedding, equal blocks, a head: as models are. */
struct large {
	unsigned layers, ranks, chunks, kind;
	double embedding, block, head;
};

/*
 * Blocks are equal, so a rank has room for a number of them, wherever its
 * stages lie: the least total that gives room for all.
 */
static bool has_room(const struct large *large, const unsigned *rank_of,
		     double total)
{
	unsigned stages = large->ranks * large->chunks;
	double blocks = 0;

	for (unsigned r = 0; r < large->ranks; r++) {
		double own = total, needed = large->chunks;

		if (rank_of[0] == r) {
			own -= large->embedding;
			needed--;
		}
		if (rank_of[stages - 1] == r) {
			own -= large->head;
			needed--;
		}
		own = floor(own / large->block + 1e-9);
		if (own < needed)
			return false;
		blocks += own;
	}
	return blocks >= large->layers - 2;
}

static double least_total(const struct large *large, const unsigned *rank_of)
{
	const double extras[] = {0, large->embedding, large->head,
				 large->embedding + large->head};
	double least = INFINITY;

	for (unsigned i = 0; i < 4; i++)
		for (unsigned k = 0; k < large->layers; k++) {
			double total = extras[i] + k * large->block;

			if (total < least && has_room(large, rank_of, total))
				least = total;
		}
	return least;
}

static void check_large(const struct large *large)
{
	static double costs[LARGE_MAX];
	static unsigned rank_of[PARTITION_STAGES_MAX];
	static struct partition p, again;
	unsigned stages = large->ranks * large->chunks;
	struct partition_problem problem = {
		.layers = large->layers,
		.stages = stages,
		.costs = costs,
		.ranks = large->ranks,
		.rank_of_stage = rank_of,
	};
	struct partition_result result;

	for (unsigned i = 0; i < large->layers; i++)
		costs[i] = large->block;
	costs[0] = large->embedding;
	costs[large->layers - 1] = large->head;
	place(rank_of, large->ranks, stages, large->kind);
	assert_int_equal(partition_find(&problem, &p, &result), 0);
	check_cover(&p, large->layers, stages);
	assert_true(result.exact);
	assert_true(fabs(result.slowest_rank - least_total(large, rank_of)) <
		    1e-6 * result.slowest_rank);
	assert_int_equal(partition_find(&problem, &again, &result), 0);
	assert_memory_equal(p.first, again.first,
			    (stages + 1) * sizeof(p.first[0]));
}

static void equal_blocks_are_settled_at_any_size(void **state)
{
	static const struct large sizes[] = {
		{14, 3, 2, 0, 0.02, 1, 5.4},   {14, 3, 2, 1, 0.02, 1, 5.4},
		{26, 4, 2, 0, 0.01, 0.7, 3.1}, {26, 4, 3, 0, 0.01, 0.7, 3.1},
		{50, 8, 2, 1, 0.01, 1, 2.3},   {98, 16, 2, 0, 0, 1, 1.7},
		{98, 16, 2, 1, 0, 1, 1.7},     {98, 8, 4, 0, 0.3, 1.1, 0.2},
		{200, 32, 2, 0, 0.1, 1, 9.9},  {200, 64, 3, 0, 0.1, 1, 0.4},
		{200, 64, 2, 1, 0.1, 1, 4.4},  {200, 4, 8, 0, 0.1, 1, 4.4},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
		check_large(&sizes[i]);
}

/* What cannot be settled ends all the same, and says so or is right. */
static void uneven_ones_end(void **state)
{
	static double costs[100];
	static unsigned rank_of[24];
	static struct partition p;
	struct partition_problem problem = {
		.layers = 100,
		.stages = 24,
		.costs = costs,
		.ranks = 8,
		.rank_of_stage = rank_of,
	};
	struct partition_result result;
	double sum = 0;

	(void)state;
	for (unsigned i = 0; i < 100; i++)
		sum += costs[i] = 1 + random_uniform(key, drawn++);
	place(rank_of, 8, 24, 0);
	assert_int_equal(partition_find(&problem, &p, &result), 0);
	check_cover(&p, 100, 24);
	assert_true(result.slowest_rank >= sum / 8);
	assert_true(result.slowest_rank < 1.05 * sum / 8);
}

static void equal_blocks_spread_evenly(void **state)
{
	static const struct {
		unsigned layers, stages;
		double head;
		const char *split;
	} cases[] = {
		{14, 4, 0, "3,3,3,3"},    {12, 4, 0, "2,2,3,3"},
		{14, 3, 5.4, "6,6,0"},    {14, 2, 5.4, "9,3"},
		{8, 3, 20, "3,3,0"},      {14, 4, 5.4, "4,4,4,0"},
		{6, 6, 1, "0,1,1,1,1,0"},
	};
	static struct partition p;
	char text[64];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		double costs[16];

		for (unsigned k = 0; k < cases[i].layers; k++)
			costs[k] = 0.1;
		costs[0] = 0;
		costs[cases[i].layers - 1] = 0.1 * cases[i].head;
		assert_int_equal(partition_balance(costs, cases[i].layers,
						   cases[i].stages, &p),
				 0);
		partition_text(&p, text, sizeof(text));
		assert_string_equal(text, cases[i].split);
	}
}

static void what_cannot_be_is_refused(void **state)
{
	static const double costs[4] = {1, 1, 1, 1};
	static struct partition p;

	(void)state;
	assert_int_equal(partition_balance(costs, 4, 0, &p), -EINVAL);
	assert_int_equal(partition_balance(costs, 4, 5, &p), -EINVAL);
	assert_non_null(strstr(log_last_error(), "5 stages"));
	assert_int_equal(
		partition_balance(costs, 4, PARTITION_STAGES_MAX + 1, &p),
		-EINVAL);
	assert_int_equal(partition_balance(costs, 4, 4, &p), 0);
}

/* ---- as written ---- */

static void a_split_as_written(void **state)
{
	static const int64_t good[] = {5, 4, 3}, edge[] = {0, 12, 0};
	static const int64_t bad[][3] = {
		{5, 4, 4},  {5, 0, 7},         {-1, 6, 7},
		{5, 4, -3}, {INT64_MAX, 1, 1}, {6, INT64_MIN, 6},
	};
	static struct partition p;
	char text[64];

	(void)state;
	assert_int_equal(partition_explicit(good, 3, 14, 3, &p), 0);
	assert_int_equal(p.first[1], 6);
	assert_int_equal(p.first[2], 10);
	assert_int_equal(p.first[3], 14);
	assert_string_equal(partition_text(&p, text, sizeof(text)), "5,4,3");
	for (unsigned layer = 0; layer < 14; layer++)
		assert_int_equal(partition_stage_of(&p, layer), layer < 6 ? 0
								: layer < 10
									? 1
									: 2);
	assert_int_equal(partition_explicit(edge, 3, 14, 3, &p), 0);
	assert_int_equal(p.first[1], 1);
	assert_int_equal(p.first[2], 13);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(partition_explicit(bad[i], 3, 14, 3, &p),
				 -EINVAL);
	assert_int_equal(partition_explicit(good, 3, 14, 2, &p), -EINVAL);
	assert_int_equal(partition_explicit(good, 3, 4, 3, &p), -EINVAL);
	assert_int_equal(partition_explicit(good, 3, 14, 0, &p), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_stage_a_rank_is_best),
		cmocka_unit_test(several_stages_a_rank_are_best),
		cmocka_unit_test(equal_blocks_are_settled_at_any_size),
		cmocka_unit_test(uneven_ones_end),
		cmocka_unit_test(equal_blocks_spread_evenly),
		cmocka_unit_test(what_cannot_be_is_refused),
		cmocka_unit_test(a_split_as_written),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	log_set_sink(ignore_line, NULL);
	key = random_key_named(3, "partition");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
