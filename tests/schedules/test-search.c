/*
 * The search against the built-in schedules, against all schedules there are
 * where they can be counted, and against what it promises of any result.
 */
#include "base/clock.h"
#include "schedules/search.h"
#include "tests/schedules/support.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_STAGES 32
#define MOST_RANKS  16

/* One problem in the words of the command line: costs of a rank's slice. */
struct problem {
	unsigned ranks;
	unsigned micro_batches;
	unsigned chunks;
	double forward, input, weight;
	double head; /* the last stage costs so many times as much */
	double scale[MOST_RANKS]; /* and a rank's slice; 0: once */
	double latency;
	unsigned slow_link; /* n: between ranks n - 1 and n; 0: none */
	double slow_latency;
	unsigned buffers;
	double send, receive;
	double cap; /* slices of one micro-batch; 0: none */
	double pending;
	bool train;
	bool no_v;
};

/* Arrays for one shape; the search copies them. */
struct arrays {
	double forward[MOST_STAGES];
	double input[MOST_STAGES];
	double weight[MOST_STAGES];
	double kept[MOST_STAGES];
	double left[MOST_STAGES];
	double reduce[MOST_STAGES];
	double step[MOST_RANKS];
	double latency[2 * MOST_STAGES];
	struct schedule_tie tie;
};

static unsigned rank_of(const struct problem *problem,
			enum schedule_placement placement, unsigned stage)
{
	unsigned lap = stage / problem->ranks;
	unsigned rank = stage % problem->ranks;

	return placement == SCHEDULE_PLACEMENT_V && lap % 2
		       ? problem->ranks - 1 - rank
		       : rank;
}

static void fill_stage(const struct problem *problem, struct arrays *arrays,
		       unsigned chunks, enum schedule_placement placement,
		       unsigned stage)
{
	unsigned rank = rank_of(problem, placement, stage);
	double scale = problem->scale[rank] > 0 ? problem->scale[rank] : 1;

	if (stage + 1 == problem->ranks * chunks && problem->head > 0)
		scale *= problem->head;
	arrays->forward[stage] = problem->forward * scale / chunks;
	arrays->input[stage] = problem->input * scale / chunks;
	arrays->weight[stage] = problem->weight * scale / chunks;
	arrays->kept[stage] = 1.0 / chunks;
	arrays->left[stage] = problem->pending / chunks;
	arrays->reduce[stage] = 0.5;
	arrays->latency[2 * stage] = problem->latency;
	arrays->latency[2 * stage + 1] = problem->latency;
}

static void slow_down(const struct problem *problem, struct arrays *arrays,
		      unsigned stages, enum schedule_placement placement)
{
	for (unsigned s = 1; s < stages && problem->slow_link; s++) {
		unsigned a = rank_of(problem, placement, s - 1);
		unsigned b = rank_of(problem, placement, s);

		if (MAX(a, b) != problem->slow_link ||
		    MIN(a, b) + 1 != problem->slow_link)
			continue;
		arrays->latency[2 * s] = problem->slow_latency;
		arrays->latency[2 * s - 1] = problem->slow_latency;
	}
}

/* Shared by the callback and by what checks its result. */
static void price(const struct problem *problem, unsigned chunks,
		  enum schedule_placement placement, struct arrays *arrays,
		  struct schedule_costs *costs,
		  struct schedule_lowering *lowering)
{
	unsigned stages = problem->ranks * chunks;

	assert_true(stages <= MOST_STAGES);
	for (unsigned s = 0; s < stages; s++)
		fill_stage(problem, arrays, chunks, placement, s);
	slow_down(problem, arrays, stages, placement);
	for (unsigned rank = 0; rank < problem->ranks; rank++)
		arrays->step[rank] = 0.25 * (rank % 3);
	*costs = (struct schedule_costs){
		.forward = arrays->forward,
		.input = arrays->input,
		.weight = arrays->weight,
		.link_latency = arrays->latency,
		.buffers = problem->buffers,
		.send = problem->send,
		.receive = problem->receive,
		.activation_bytes = arrays->kept,
		.pending_bytes = arrays->left,
		.stage_reduce = arrays->reduce,
		.reduce_tied = 0.5,
		.vote = 0.25,
		.rank_step = arrays->step,
	};
	arrays->tie = (struct schedule_tie){0, (uint16_t)(stages - 1)};
	*lowering = (struct schedule_lowering){0};
	if (problem->train)
		*lowering = (struct schedule_lowering){
			.train = true, .ties = &arrays->tie, .tie_count = 1};
}

/* One array for all shapes, so that what is not copied shows. */
static int costs_of(void *argument, unsigned chunks,
		    enum schedule_placement placement,
		    struct schedule_costs *costs,
		    struct schedule_lowering *lowering)
{
	static struct arrays arrays;
	const struct problem *problem = argument;

	if (problem->no_v && placement == SCHEDULE_PLACEMENT_V)
		return -ENOTSUP;
	assert_int_equal(costs->buffers, SCHEDULE_BUFFERS_ANY);
	price(problem, chunks, placement, &arrays, costs, lowering);
	return 0;
}

static int run(struct problem *problem, uint64_t effort, uint64_t seed,
	       struct schedule_search_result *result)
{
	static double cap[MOST_RANKS];
	const struct schedule_search search = {
		.ranks = problem->ranks,
		.micro_batches = problem->micro_batches,
		.chunks = problem->chunks,
		.costs = costs_of,
		.argument = problem,
		.memory_cap = problem->cap > 0 ? cap : NULL,
		.effort = effort,
		.seed = seed,
	};

	for (unsigned rank = 0; rank < problem->ranks; rank++)
		cap[rank] = problem->cap;
	return schedule_search(&search, result);
}

/* Its makespan; INFINITY if it breaks the cap or comes to a deadlock. */
static double makespan_of(const struct problem *problem,
			  const struct schedule *schedule)
{
	struct schedule_simulation simulation;
	struct schedule_lowering lowering;
	struct schedule_costs costs;
	struct arrays arrays;
	struct schedule *lowered = NULL;
	double makespan = INFINITY;
	bool fits = true;

	price(problem, schedule->chunks, schedule->placement, &arrays, &costs,
	      &lowering);
	assert_int_equal(schedule_lower(schedule, &lowering, &lowered), 0);
	if (schedule_simulate(lowered, &costs, false, &simulation) == 0) {
		for (unsigned rank = 0; rank < schedule->ranks; rank++)
			fits = fits && (problem->cap <= 0 ||
					simulation.peak_bytes[rank] <=
						problem->cap * (1 + 1e-9));
		if (fits)
			makespan = simulation.makespan;
		schedule_simulation_fini(&simulation);
	}
	schedule_destroy(lowered);
	return makespan;
}

/* The best built-in schedule of a number of chunks, found without the search. */
static double best_builtin(const struct problem *problem, unsigned chunks,
			   double best)
{
	for (size_t i = 0; i < schedule_kind_count(); i++) {
		const struct schedule_kind *kind = schedule_kind_at(i);
		struct schedule *schedule = NULL;
		char why[256];

		if (strcmp(kind->name, "forward") == 0 ||
		    (problem->no_v &&
		     kind->placement == SCHEDULE_PLACEMENT_V) ||
		    kind->check(problem->ranks, problem->micro_batches, chunks,
				why, sizeof(why)))
			continue;
		assert_int_equal(schedule_generate(kind->name, problem->ranks,
						   problem->micro_batches,
						   chunks, &schedule),
				 0);
		best = MIN(best, makespan_of(problem, schedule));
		schedule_destroy(schedule);
	}
	return best;
}

static double best_of_shapes(const struct problem *problem)
{
	double best = INFINITY;

	if (problem->chunks <= 1)
		best = best_builtin(problem, 1, best);
	if (problem->chunks != 1)
		best = best_builtin(
			problem, problem->chunks ? problem->chunks : 2, best);
	return best;
}

static bool is_near(double a, double b)
{
	return fabs(a - b) <= 1e-9 * MAX(fabs(a), fabs(b));
}

static void check_runs(const struct problem *problem,
		       const struct schedule *schedule)
{
	struct schedule_report report;
	struct schedule *lowered = NULL;
	const char *wrong;

	assert_int_equal(schedule_validate(schedule, problem->buffers, &report),
			 0);
	assert_true(report.bit_identical);
	schedule_report_fini(&report);
	assert_int_equal(schedule_lower(schedule, NULL, &lowered), 0);
	wrong = brute_force(lowered, problem->buffers, 7);
	if (wrong)
		fail_msg("found schedule: %s", wrong);
	schedule_destroy(lowered);
}

/* All that is promised of a result. */
static void check_result(const struct problem *problem,
			 const struct schedule_search_result *result)
{
	double builtin = best_of_shapes(problem);

	assert_string_equal(result->schedule->name, "search");
	assert_false(result->schedule->lowered);
	assert_int_equal(result->ranks, problem->ranks);
	check_runs(problem, result->schedule);
	assert_true(is_near(makespan_of(problem, result->schedule),
			    result->makespan));
	for (unsigned rank = 0; rank < problem->ranks && problem->cap > 0;
	     rank++)
		assert_true(result->peak_bytes[rank] <=
			    problem->cap * (1 + 1e-9));
	assert_true(isinf(builtin)
			    ? result->builtin[0] == '\0' &&
				      isinf(result->builtin_makespan)
			    : is_near(builtin, result->builtin_makespan));
	assert_true(result->makespan <= builtin * (1 + 1e-9));
	assert_true(result->bound > 0);
	if (result->bound > result->makespan * (1 + 1e-9))
		fail_msg("bound %g above a makespan of %g: %s", result->bound,
			 result->makespan, result->bound_reason);
	assert_true(strlen(result->bound_reason) > 20);
	assert_false(result->cut_short);
}

/*
 * Cases in which no built-in schedule is best. `gain` is the least by which the
 * search must be better, in per cent (infinite: no built-in schedule fits).
 */
struct stated {
	const char *name;
	double gain;
	struct problem problem;
};

#define ANY SCHEDULE_BUFFERS_ANY

static const struct stated stated_cases[] = {
	{"a head half as heavy again",
	 2,
	 {.ranks = 8,
	  .micro_batches = 32,
	  .forward = 1,
	  .input = 1,
	  .weight = 1,
	  .head = 1.5,
	  .buffers = 4,
	  .cap = 8}},
	{"W three times F and I",
	 2,
	 {.ranks = 8,
	  .micro_batches = 32,
	  .forward = 1,
	  .input = 1,
	  .weight = 3,
	  .latency = 0.1,
	  .buffers = 4,
	  .cap = 8}},
	{"one slow link, one chunk",
	 35,
	 {.ranks = 8,
	  .micro_batches = 32,
	  .chunks = 1,
	  .forward = 1,
	  .input = 1,
	  .weight = 1,
	  .latency = 0.1,
	  .slow_link = 4,
	  .slow_latency = 3,
	  .buffers = 4,
	  .cap = 10}},
	{"one slow link",
	 24,
	 {.ranks = 8,
	  .micro_batches = 32,
	  .forward = 1,
	  .input = 1,
	  .weight = 1,
	  .latency = 0.1,
	  .slow_link = 4,
	  .slow_latency = 2,
	  .buffers = 4,
	  .cap = 10}},
	{"half the memory of 1F1B, unequal costs",
	 15,
	 {.ranks = 8,
	  .micro_batches = 32,
	  .chunks = 2,
	  .forward = 2,
	  .input = 3,
	  .weight = 1,
	  .head = 1.5,
	  .latency = 0.6,
	  .buffers = 4,
	  .cap = 4}},
	{"three quarters of the memory, what I leaves counted",
	 5,
	 {.ranks = 8,
	  .micro_batches = 32,
	  .forward = 1,
	  .input = 1,
	  .weight = 1,
	  .latency = 0.1,
	  .buffers = 4,
	  .cap = 6,
	  .pending = 0.5}},
	{"half the memory of 1F1B",
	 0.5,
	 {.ranks = 8,
	  .micro_batches = 32,
	  .forward = 1,
	  .input = 1,
	  .weight = 1,
	  .buffers = ANY,
	  .cap = 4}},
	{"three quarters of the memory, one chunk",
	 INFINITY,
	 {.ranks = 8,
	  .micro_batches = 32,
	  .chunks = 1,
	  .forward = 1,
	  .input = 1,
	  .weight = 1,
	  .buffers = ANY,
	  .cap = 6}},
	{"a short step with a heavy head",
	 2,
	 {.ranks = 4,
	  .micro_batches = 8,
	  .forward = 1,
	  .input = 1.3,
	  .weight = 0.7,
	  .head = 1.7,
	  .latency = 0.1,
	  .buffers = 2,
	  .cap = 4}},
};

static void test_stated(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(stated_cases); i++) {
		const struct stated *stated = &stated_cases[i];
		struct problem problem = stated->problem;
		struct schedule_search_result result;
		double gain;

		assert_int_equal(run(&problem, 40000000, 1, &result), 0);
		check_result(&problem, &result);
		gain = isinf(result.builtin_makespan)
			       ? INFINITY
			       : 100 * (1 - result.makespan /
						    result.builtin_makespan);
		printf("# %s: %s %g, search %g (%.1f %% less), bound %g\n",
		       stated->name,
		       result.builtin[0] ? result.builtin : "nothing fits",
		       result.builtin_makespan, result.makespan, gain,
		       result.bound);
		if (!(gain >= stated->gain))
			fail_msg("%s: %g %% better, not %g", stated->name, gain,
				 stated->gain);
		schedule_search_result_fini(&result);
	}
}

/* Every row there is of one stage: F, I, W or B of each micro-batch in turn. */

struct rows {
	char (*row)[16];
	size_t count;
	unsigned micro_batches;
};

static void add_rows(struct rows *rows, char *row, unsigned length,
		     const unsigned *done)
{
	static const char ops[] = "FIWB";
	unsigned m = rows->micro_batches;

	if (done[2] == m) {
		rows->row = realloc(rows->row,
				    (rows->count + 1) * sizeof(*rows->row));
		assert_non_null(rows->row);
		row[length] = '\0';
		memcpy(rows->row[rows->count++], row, sizeof(*rows->row));
		return;
	}
	for (unsigned op = 0; op < 4; op++) {
		unsigned next[3] = {done[0], done[1], done[2]};

		next[0] += op == 0;
		next[1] += op == 1 || op == 3;
		next[2] += op == 2 || op == 3;
		if (next[0] > m || next[1] > next[0] || next[2] > next[1] ||
		    (op == 3 && done[1] != done[2]))
			continue;
		row[length] = ops[op];
		add_rows(rows, row, length + 1, next);
	}
}

static struct schedule *schedule_of_rows(const struct rows *rows,
					 const size_t *which, unsigned ranks)
{
	struct schedule *schedule;
	char text[512] = "";

	for (unsigned rank = 0; rank < ranks; rank++) {
		unsigned done[128] = {0};

		for (const char *op = rows->row[which[rank]]; *op; op++) {
			unsigned m = *op == 'B' ? done['I']
						: done[(unsigned char)*op];
			size_t length = strlen(text);

			snprintf(text + length, sizeof(text) - length,
				 "%s%u%c%u",
				 op == rows->row[which[rank]] ? "" : ",", rank,
				 *op, m);
			done[(unsigned char)*op]++;
			if (*op == 'B') {
				done['I']++;
				done['W']++;
			}
		}
		strncat(text, "\n", sizeof(text) - strlen(text) - 1);
	}
	schedule = schedule_from(text);
	schedule->placement = SCHEDULE_PLACEMENT_LOOP;
	return schedule;
}

static double best_of_all(const struct problem *problem)
{
	struct rows rows = {.micro_batches = problem->micro_batches};
	const unsigned none[3] = {0};
	size_t which[3] = {0};
	double best = INFINITY;
	char row[16] = "";
	unsigned rank;

	assert_true(problem->ranks <= ARRAY_SIZE(which));
	add_rows(&rows, row, 0, none);
	do {
		struct schedule *schedule =
			schedule_of_rows(&rows, which, problem->ranks);

		best = MIN(best, makespan_of(problem, schedule));
		schedule_destroy(schedule);
		for (rank = 0; rank < problem->ranks; rank++) {
			if (++which[rank] < rows.count)
				break;
			which[rank] = 0;
		}
	} while (rank < problem->ranks);
	free(rows.row);
	return best;
}

static double pick(uint64_t *seed, const double *values, unsigned count)
{
	return values[test_random(seed) % count];
}

static void draw_costs(struct problem *problem, uint64_t *seed)
{
	static const double costs[] = {0.5, 1, 1, 1.5, 2, 3, 4.5};
	static const double heads[] = {1, 1, 1.5, 2.5};
	static const double latencies[] = {0, 0, 0.25, 1, 3};
	static const unsigned buffers[] = {1, 2, 4, ANY};
	static const double handling[] = {0, 0, 0.25};
	static const double pending[] = {0, 0, 0.5};

	problem->forward = pick(seed, costs, 7);
	problem->input = pick(seed, costs, 7);
	problem->weight = pick(seed, costs, 7);
	problem->head = pick(seed, heads, 4);
	for (unsigned rank = 0; rank < problem->ranks; rank++)
		problem->scale[rank] = pick(seed, heads, 3);
	problem->latency = pick(seed, latencies, 5);
	problem->slow_latency = pick(seed, latencies, 5);
	problem->slow_link = (unsigned)(test_random(seed) % problem->ranks);
	problem->buffers = buffers[test_random(seed) % 4];
	problem->send = pick(seed, handling, 3);
	problem->receive = pick(seed, handling, 3);
	problem->pending = pick(seed, pending, 3);
	problem->train = test_random(seed) % 3 == 0;
}

static void check_exact(struct problem *problem)
{
	struct schedule_search_result result;
	double best = best_of_all(problem);

	assert_int_equal(run(problem, 4000000, 3, &result), 0);
	check_result(problem, &result);
	if (!is_near(result.makespan, best))
		fail_msg("P=%u M=%u cap %g: found %g, best %g", problem->ranks,
			 problem->micro_batches, problem->cap, result.makespan,
			 best);
	assert_true(result.bound <= best * (1 + 1e-9));
	schedule_search_result_fini(&result);
}

static void test_exact(void **state)
{
	static const unsigned sizes[][2] = {{1, 3}, {2, 2}, {2, 3}, {3, 2}};
	uint64_t seed = 77;

	(void)state;
	for (unsigned i = 0; i < 24; i++) {
		struct problem problem = {
			.ranks = sizes[i % 4][0],
			.micro_batches = sizes[i % 4][1],
			.chunks = 1,
		};

		draw_costs(&problem, &seed);
		if (i % 3)
			problem.cap = problem.pending + 1 + i % 2;
		check_exact(&problem);
	}
}

/* Random small problems with little effort. */
static void test_random_cases(void **state)
{
	uint64_t seed = 12345;
	unsigned better = 0;
	unsigned reached = 0;

	(void)state;
	for (unsigned i = 0; i < 300; i++) {
		struct problem problem = {
			.ranks = 1 + (unsigned)(test_random(&seed) % 5),
			.micro_batches = 1 + (unsigned)(test_random(&seed) % 9),
			.chunks = (unsigned)(test_random(&seed) % 4),
			.no_v = test_random(&seed) % 8 == 0,
		};
		struct schedule_search_result result;

		draw_costs(&problem, &seed);
		if (i % 2)
			problem.cap = 1 + problem.pending +
				      (double)(test_random(&seed) % 8) / 2;
		assert_int_equal(run(&problem, 300000, i, &result), 0);
		check_result(&problem, &result);
		better +=
			result.makespan < result.builtin_makespan * (1 - 1e-6);
		reached += is_near(result.makespan, result.bound);
		schedule_search_result_fini(&result);
	}
	printf("# better in %u of 300 cases, at the bound in %u\n", better,
	       reached);
	assert_true(better > 100);
	assert_true(reached > 50);
}

/* Rendezvous: 1F1B comes to a deadlock, GPipe and one at a time do not. */
static void test_rendezvous(void **state)
{
	struct problem problem = {
		.ranks = 3,
		.micro_batches = 6,
		.forward = 1,
		.input = 1,
		.weight = 1,
		.buffers = 0,
		.cap = 1,
	};
	struct schedule_search_result result;

	(void)state;
	assert_int_equal(run(&problem, 1000000, 1, &result), 0);
	check_result(&problem, &result);
	assert_true(isinf(result.builtin_makespan));
	schedule_search_result_fini(&result);
	problem.cap = 0;
	assert_int_equal(run(&problem, 1000000, 1, &result), 0);
	check_result(&problem, &result);
	schedule_search_result_fini(&result);
}

static void test_deterministic(void **state)
{
	struct problem problem = stated_cases[5].problem;
	struct schedule_search_result first;
	struct schedule_search_result second;
	char *a;
	char *b;

	(void)state;
	assert_int_equal(run(&problem, 3000000, 9, &first), 0);
	assert_int_equal(run(&problem, 3000000, 9, &second), 0);
	a = schedule_text(first.schedule);
	b = schedule_text(second.schedule);
	assert_string_equal(a, b);
	assert_int_equal(first.effort, second.effort);
	free(b);
	schedule_search_result_fini(&second);
	assert_int_equal(run(&problem, 3000000, 10, &second), 0);
	b = schedule_text(second.schedule);
	assert_string_not_equal(a, b);
	free(b);
	free(a);
	schedule_search_result_fini(&second);
	schedule_search_result_fini(&first);
}

/* One rank has nothing to gain from W apart: every backward is one B. */
static void test_settled(void **state)
{
	struct problem problem = {
		.ranks = 1,
		.micro_batches = 5,
		.forward = 1,
		.input = 1,
		.weight = 1,
		.buffers = ANY,
		.cap = 3,
	};
	struct schedule_search_result result;

	(void)state;
	assert_int_equal(run(&problem, 100000, 1, &result), 0);
	check_result(&problem, &result);
	assert_true(result.makespan == 15);
	assert_true(result.bound == 15);
	for (size_t i = 0; i < result.schedule->rows[0].count; i++)
		assert_true(result.schedule->rows[0].actions[i].op ==
				    ACTION_FORWARD ||
			    result.schedule->rows[0].actions[i].op ==
				    ACTION_BACKWARD);
	schedule_search_result_fini(&result);
}

/* Actions of one kind in a row; with `behind`, right behind another's. */
static unsigned count_op(const struct schedule_row *row, unsigned op,
			 unsigned behind)
{
	unsigned count = 0;

	for (size_t i = 0; i < row->count; i++)
		count += row->actions[i].op == op &&
			 (behind == op ||
			  (i > 0 && row->actions[i - 1].op == behind &&
			   row->actions[i - 1].micro_batch ==
				   row->actions[i].micro_batch));
	return count;
}

/*
 * Of two ranks the last must send each gradient before it does W, and at the end
 * two of them; the first gains nothing from W apart.
 */
static void test_settled_in_part(void **state)
{
	struct problem problem = {
		.ranks = 2,
		.micro_batches = 8,
		.chunks = 1,
		.forward = 1,
		.input = 1,
		.weight = 1,
		.buffers = ANY,
		.cap = 2,
	};
	struct schedule_search_result result;
	const struct schedule_row *rows;

	(void)state;
	assert_int_equal(run(&problem, 100000, 1, &result), 0);
	check_result(&problem, &result);
	assert_true(result.makespan == 25);
	rows = result.schedule->rows;
	assert_int_equal(count_op(&rows[0], ACTION_BACKWARD, ACTION_BACKWARD),
			 8);
	assert_int_equal(count_op(&rows[1], ACTION_BACKWARD_WEIGHT,
				  ACTION_BACKWARD_WEIGHT),
			 8);
	assert_true(count_op(&rows[1], ACTION_BACKWARD_WEIGHT,
			     ACTION_BACKWARD_INPUT) >= 4);
	schedule_search_result_fini(&result);
}

/* At the least cap there is a schedule, below it none, and it says why. */
static void test_least_cap(void **state)
{
	struct problem problem = {
		.ranks = 4,
		.micro_batches = 6,
		.forward = 1,
		.input = 1,
		.weight = 1,
		.buffers = 1,
		.pending = 0.5,
		.cap = 1.25,
	};
	struct schedule_search_result result;

	(void)state;
	/* Two chunks: 1/2, 1/2, and 1/4 of what one of them leaves. */
	assert_int_equal(run(&problem, 1000000, 1, &result), 0);
	check_result(&problem, &result);
	assert_int_equal(result.schedule->chunks, 2);
	schedule_search_result_fini(&result);
	problem.cap = 1.2;
	assert_int_equal(run(&problem, 1000000, 1, &result), -EINVAL);
	assert_non_null(strstr(log_last_error(), "1.25 bytes in 2 chunks"));
	assert_non_null(strstr(log_last_error(), "the cap is 1.2;"));
	problem.chunks = 1;
	problem.cap = 1.25;
	assert_int_equal(run(&problem, 1000000, 1, &result), -EINVAL);
	assert_non_null(strstr(log_last_error(), "1.5 bytes in 1 chunk,"));
	problem.cap = 1.5;
	assert_int_equal(run(&problem, 1000000, 1, &result), 0);
	check_result(&problem, &result);
	schedule_search_result_fini(&result);
}

static int no_shapes(void *argument, unsigned chunks,
		     enum schedule_placement placement,
		     struct schedule_costs *costs,
		     struct schedule_lowering *lowering)
{
	const int *error = argument;

	(void)chunks;
	(void)placement;
	(void)costs;
	(void)lowering;
	return *error;
}

static int bare_costs(void *argument, unsigned chunks,
		      enum schedule_placement placement,
		      struct schedule_costs *costs,
		      struct schedule_lowering *lowering)
{
	(void)chunks;
	(void)placement;
	(void)lowering;
	costs->forward = costs->input = costs->weight = argument;
	return 0;
}

static void test_refused(void **state)
{
	double values[MOST_STAGES] = {0};
	int error = -ENOTSUP;
	struct schedule_search search = {
		.ranks = 2,
		.micro_batches = 2,
		.costs = no_shapes,
		.argument = &error,
	};
	struct schedule_search_result result;

	(void)state;
	assert_int_equal(schedule_search(&search, &result), -EINVAL);
	assert_non_null(strstr(log_last_error(), "no stages for 2 ranks"));
	error = -EIO;
	assert_int_equal(schedule_search(&search, &result), -EIO);
	search.costs = bare_costs;
	search.argument = values;
	search.memory_cap = values;
	assert_int_equal(schedule_search(&search, &result), -EINVAL);
	assert_non_null(strstr(log_last_error(), "bytes of activations"));
	search.memory_cap = NULL;
	values[1] = NAN;
	assert_int_equal(schedule_search(&search, &result), -EINVAL);
	assert_non_null(strstr(log_last_error(), "stage 1"));
	search.ranks = 0;
	assert_int_equal(schedule_search(&search, &result), -EINVAL);
	search.ranks = 4097;
	assert_int_equal(schedule_search(&search, &result), -EINVAL);
	search.ranks = 4;
	search.chunks = 65;
	assert_int_equal(schedule_search(&search, &result), -EINVAL);
}

/* Costs of nothing at all: whatever it finds takes no time. */
static void test_nothing_costs(void **state)
{
	struct problem problem = {
		.ranks = 2, .micro_batches = 3, .buffers = ANY};
	struct schedule_search_result result;

	(void)state;
	assert_int_equal(run(&problem, 100000, 1, &result), 0);
	assert_true(result.makespan == 0);
	check_runs(&problem, result.schedule);
	schedule_search_result_fini(&result);
}

/* Cut short it still keeps what it promises, save that it is the same again. */
static void test_time_limit(void **state)
{
	struct problem problem = stated_cases[4].problem;
	static double cap[MOST_RANKS];
	const struct schedule_search search = {
		.ranks = problem.ranks,
		.micro_batches = problem.micro_batches,
		.chunks = problem.chunks,
		.costs = costs_of,
		.argument = &problem,
		.memory_cap = cap,
		.effort = (uint64_t)1 << 60,
		.time_limit_ns = 100 * NS_PER_MS,
	};
	struct schedule_search_result result;

	(void)state;
	for (unsigned rank = 0; rank < problem.ranks; rank++)
		cap[rank] = problem.cap;
	assert_int_equal(schedule_search(&search, &result), 0);
	assert_true(result.cut_short);
	result.cut_short = false;
	check_result(&problem, &result);
	schedule_search_result_fini(&result);
}

/* The size users meet, with the effort they get; the time is told. */
static void test_default_effort(void **state)
{
	struct problem problem = stated_cases[4].problem;
	struct schedule_search_result result;
	int64_t begin = clock_now_ns();
	double seconds;

	(void)state;
	problem.chunks = 0;
	assert_int_equal(run(&problem, 0, 0, &result), 0);
	seconds = clock_seconds(clock_now_ns() - begin);
	printf("# P = 8, M = 32: %.1f s, %s %g, search %g, bound %g\n", seconds,
	       result.builtin, result.builtin_makespan, result.makespan,
	       result.bound);
	check_result(&problem, &result);
	assert_true(result.effort < 2 * SCHEDULE_SEARCH_EFFORT);
	assert_true(seconds < 120);
	schedule_search_result_fini(&result);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stated),
		cmocka_unit_test(test_exact),
		cmocka_unit_test(test_random_cases),
		cmocka_unit_test(test_rendezvous),
		cmocka_unit_test(test_deterministic),
		cmocka_unit_test(test_settled),
		cmocka_unit_test(test_settled_in_part),
		cmocka_unit_test(test_least_cap),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_nothing_costs),
		cmocka_unit_test(test_time_limit),
		cmocka_unit_test(test_default_effort),
	};

	log_silence();
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("search", tests, NULL, NULL);
}
