/*
 * Sums over replicas in the simulator, against closed forms: what of them the
 * schedule hides, and what a step is longer by.
 */
#include "schedules/simulate.h"
#include "tests/schedules/support.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STAGES_MAX 16

static const double ones[STAGES_MAX] = {1, 1, 1, 1, 1, 1, 1, 1,
					1, 1, 1, 1, 1, 1, 1, 1};

/* F = I = W = 1; one byte takes one unit of time. */
static struct schedule_costs unit_costs(const double *bytes)
{
	return (struct schedule_costs){
		.forward = ones,
		.input = ones,
		.weight = ones,
		.buffers = SCHEDULE_BUFFERS_ANY,
		.reduce_bytes = bytes,
		.replica_bandwidth = 1,
	};
}

struct run {
	struct schedule *lowered;
	struct schedule_simulation result;
};

/* `tie`: between the first stage and the last. */
static void run_init(struct run *run, struct schedule *schedule, bool tie,
		     const struct schedule_costs *costs)
{
	struct schedule_tie ends = {
		.first_stage = 0,
		.second_stage = (uint16_t)(schedule->stages - 1),
	};
	struct schedule_lowering options = {
		.ties = &ends, .tie_count = tie, .train = true};

	assert_int_equal(schedule_lower(schedule, &options, &run->lowered), 0);
	assert_int_equal(
		schedule_simulate(run->lowered, costs, true, &run->result), 0);
	schedule_destroy(schedule);
}

static void run_fini(struct run *run)
{
	schedule_simulation_fini(&run->result);
	schedule_destroy(run->lowered);
}

static struct schedule *generate(const char *name, unsigned ranks,
				 unsigned micro_batches, unsigned chunks)
{
	struct schedule *schedule;

	assert_int_equal(schedule_generate(name, ranks, micro_batches, chunks,
					   &schedule),
			 0);
	return schedule;
}

static double makespan_of(const char *name, unsigned ranks,
			  unsigned micro_batches, unsigned chunks,
			  const struct schedule_costs *costs)
{
	struct run run;
	double makespan;

	run_init(&run, generate(name, ranks, micro_batches, chunks), false,
		 costs);
	makespan = run.result.makespan;
	run_fini(&run);
	return makespan;
}

static const struct schedule_time *time_of(const struct run *run, unsigned rank,
					   unsigned op, unsigned stage)
{
	const struct schedule_row *row = &run->lowered->rows[rank];

	for (size_t i = 0; i < row->count; i++)
		if (row->actions[i].op == op && row->actions[i].stage == stage)
			return &run->result.times[rank][i];
	fail_msg("rank %u has no such action", rank);
	return NULL;
}

/* 1F1B: stage s has its last B 2 s before stage 0 has, which ends the step. */
static void test_hidden(void **state)
{
	(void)state;
	for (unsigned ranks = 1; ranks <= 6; ranks++)
		for (unsigned stage = 0; stage < ranks; stage++)
			for (unsigned amount = 0; amount < 16; amount++) {
				double bytes[STAGES_MAX] = {0};
				struct schedule_costs costs = unit_costs(bytes);
				double compute = 3.0 * (8 + ranks - 1);
				double late = fmax(0, amount - 2.0 * stage);

				bytes[stage] = amount;
				assert_true(makespan_of("1f1b", ranks, 8, 1,
							&costs) ==
					    compute + late);
			}
}

/* All stages alike: stage 0 hides nothing, and what it waits for is exposed. */
static void test_exposed(void **state)
{
	const double bytes[] = {5, 5, 5};
	struct schedule_costs costs = unit_costs(bytes);
	struct run run;

	(void)state;
	run_init(&run, generate("1f1b", 3, 6, 1), false, &costs);
	assert_true(run.result.makespan == 24 + 5);
	assert_true(run.result.exposed[0] == 5);
	/* Rank 2 is done with its sum at 20 + 5, with its row at 20. */
	assert_true(run.result.exposed[2] == 5);
	for (unsigned rank = 0; rank < 3; rank++) {
		assert_true(run.result.reducing[rank] == 5);
		assert_true(run.result.bytes_reduced[rank] == 5);
		assert_true(run.result.busy[rank] == 18);
		assert_true(run.result.idle[rank] == 11);
	}
	assert_true(time_of(&run, 2, ACTION_REDUCE_GRAD, 2)->start == 20);
	assert_true(time_of(&run, 2, ACTION_REDUCE_GRAD, 2)->end == 20);
	assert_true(time_of(&run, 2, ACTION_REDUCE_GRAD, 2)->arrival == 25);
	assert_true(time_of(&run, 2, ACTION_VOTE, 2)->ready == 29);
	run_fini(&run);
}

/* Without replicas nothing of this counts. */
static void test_none(void **state)
{
	const double gathered[] = {9, 9};
	struct schedule_costs costs = unit_costs(NULL);

	(void)state;
	costs.replica_latency = 4;
	costs.reduce_rounds = 4;
	costs.tied_gather_bytes = 8;
	costs.gather_bytes = gathered;
	assert_true(makespan_of("1f1b", 2, 4, 1, &costs) == 15);
}

/*
 * One stage of many layers: the sum of those whose W is done goes on beside the
 * rest, and 1 - early of it comes after the last.
 */
static void test_early(void **state)
{
	double weight[] = {4};

	(void)state;
	for (unsigned share = 0; share <= 4; share++)
		for (unsigned amount = 0; amount < 12; amount++) {
			double bytes[] = {amount}, early = share / 4.0;
			double lead = early * 5, tail = (1 - early) * amount;
			struct schedule_costs costs = unit_costs(bytes);
			double compute = 3 * (1 + 1 + 4);
			/* 1f1b has B: I and W of each layer in turn. */
			double late =
				fmax((1 - early) * amount, amount - early * 5);

			costs.weight = weight;
			costs.reduce_lead = &lead;
			costs.reduce_tail = &tail;
			assert_true(makespan_of("1f1b", 1, 3, 1, &costs) ==
				    compute + late);
		}
}

/* Where I and W are apart it counts from the end of the last W. */
static void test_early_weight(void **state)
{
	const double bytes[] = {3, 0}, lead[] = {0.5, 0}, tail[] = {1.5, 0};
	struct schedule_costs costs = unit_costs(bytes);
	struct schedule *schedule = schedule_from(
		"0F0,0F1,,,0I0,0I1,0W0,0W1\n,1F0,1I0,1W0,1F1,1I1,1W1\n");
	struct run run;

	(void)state;
	costs.reduce_lead = lead;
	costs.reduce_tail = tail;
	run_init(&run, schedule, false, &costs);
	/* 0I1 waits for 1I1, which ends at 6: 7, and two W: 9. */
	assert_true(time_of(&run, 0, ACTION_REDUCE_GRAD, 0)->start == 9);
	assert_true(time_of(&run, 0, ACTION_REDUCE_GRAD, 0)->arrival == 11.5);
	run_fini(&run);
}

/* Two stages a rank: one sum after the other, the later stage's first. */
static void test_one_after_another(void **state)
{
	const double bytes[] = {7, 7, 20, 7};
	struct schedule_costs costs = unit_costs(bytes);
	struct run run;
	double first, second;

	(void)state;
	run_init(&run, generate("interleaved", 2, 4, 2), false, &costs);
	first = time_of(&run, 0, ACTION_REDUCE_GRAD, 2)->start;
	second = time_of(&run, 0, ACTION_REDUCE_GRAD, 0)->start;
	assert_true(first < second && second < first + 20);
	assert_true(time_of(&run, 0, ACTION_REDUCE_GRAD, 2)->arrival ==
		    first + 20);
	assert_true(time_of(&run, 0, ACTION_REDUCE_GRAD, 0)->arrival ==
		    first + 20 + 7);
	assert_true(run.result.makespan == first + 27);
	assert_true(run.result.bytes_reduced[0] == 27);
	run_fini(&run);
}

/* Rounds of latency, the rank's own additions, a slow network. */
static void test_costs(void **state)
{
	const double bytes[] = {10};
	struct schedule_costs costs = unit_costs(bytes);
	struct run run;

	(void)state;
	costs.reduce_rounds = 4;
	costs.replica_latency = 0.5;
	costs.replica_bandwidth = 2;
	costs.reduce = 1;
	run_init(&run, generate("1f1b", 1, 2, 1), false, &costs);
	assert_true(run.result.makespan == 6 + 4 * 0.5 + 10 / 2);
	assert_true(run.result.busy[0] == 6 + 1);
	assert_true(run.result.exposed[0] == 7 - 1);
	run_fini(&run);
}

/*
 * The tie waits for both sums, its gather for the tie, and the vote for that; the
 * weights are gathered behind the step.
 */
static void test_tail(void **state)
{
	const double bytes[] = {6, 2}, gathered[] = {3, 5}, step[] = {1, 1};
	struct schedule_costs costs = unit_costs(bytes);
	struct run run;

	(void)state;
	costs.reduce_tied = 4;
	costs.tied_gather_bytes = 2;
	costs.gather_bytes = gathered;
	costs.gather_rounds = 2;
	costs.replica_latency = 0.5;
	costs.vote = 1;
	costs.rank_step = step;
	run_init(&run, generate("1f1b", 2, 4, 1), true, &costs);
	/* 15; its sum 21; the tie 25; its gather 28; the vote 29; step 30. */
	assert_true(time_of(&run, 0, ACTION_REDUCE_TIED, 0)->end == 25);
	assert_true(time_of(&run, 1, ACTION_REDUCE_TIED, 1)->end == 25);
	assert_true(time_of(&run, 0, ACTION_VOTE, 0)->ready == 28);
	assert_true(time_of(&run, 0, ACTION_STEP, 0)->end == 30 + 1 + 3);
	assert_true(time_of(&run, 1, ACTION_STEP, 1)->end == 30 + 1 + 5);
	assert_true(run.result.makespan == 36);
	assert_true(run.result.bytes_reduced[0] == 6 + 2 + 3);
	assert_true(run.result.bytes_reduced[1] == 2 + 2 + 5);
	assert_true(run.result.reducing[1] == 2 + (1 + 2) + (1 + 5));
	assert_true(run.result.exposed[0] == 6 + 3 + 4);
	/* Rank 1's row ends at 13, and its sum at 15: it waits for rank 0. */
	assert_true(run.result.exposed[1] == 2 + 3 + 6);
	assert_true(run.result.waiting[1] >= 6);
	run_fini(&run);
}

/* PyTorch's form has REDUCE_GRAD and no vote: the step still waits. */
static void test_without_vote(void **state)
{
	const double bytes[] = {9};
	struct schedule_costs costs = unit_costs(bytes);
	struct schedule_lowering options = {.reduce = true};
	struct schedule *schedule = generate("1f1b", 1, 2, 1), *lowered;
	struct schedule_simulation result;

	(void)state;
	assert_int_equal(schedule_lower(schedule, &options, &lowered), 0);
	assert_int_equal(schedule_simulate(lowered, &costs, false, &result), 0);
	assert_true(result.makespan == 6 + 9);
	schedule_simulation_fini(&result);
	schedule_destroy(lowered);
	schedule_destroy(schedule);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hidden),
		cmocka_unit_test(test_exposed),
		cmocka_unit_test(test_none),
		cmocka_unit_test(test_early),
		cmocka_unit_test(test_early_weight),
		cmocka_unit_test(test_one_after_another),
		cmocka_unit_test(test_costs),
		cmocka_unit_test(test_tail),
		cmocka_unit_test(test_without_vote),
	};

	log_silence();
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("sums over replicas", tests, NULL,
					   NULL);
}
