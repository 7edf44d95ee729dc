/*
 * The simulator where links, ranks and messages differ: against times worked out
 * by hand, and laws that hold for any schedule and costs.
 */
#include "schedules/build.h"
#include "schedules/simulate.h"
#include "tests/schedules/support.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_STAGES 24

/* Of F, I, W: one unit of time each. */
static const double one[MOST_STAGES] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
					1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
static const double two[MOST_STAGES] = {2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,
					2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2};

struct run {
	struct schedule *lowered;
	struct schedule_simulation result;
};

/* Takes the schedule over. */
static void run_init(struct run *run, struct schedule *schedule,
		     const struct schedule_costs *costs)
{
	assert_int_equal(schedule_lower(schedule, NULL, &run->lowered), 0);
	schedule_destroy(schedule);
	assert_int_equal(
		schedule_simulate(run->lowered, costs, true, &run->result), 0);
}

static void run_fini(struct run *run)
{
	schedule_simulation_fini(&run->result);
	schedule_destroy(run->lowered);
}

static struct schedule *gpipe_of_two(unsigned micro_batches)
{
	struct schedule *schedule = NULL;

	assert_int_equal(
		schedule_generate("gpipe", 2, micro_batches, 1, &schedule), 0);
	return schedule;
}

static struct schedule_time time_of(const struct run *run, unsigned rank,
				    unsigned op, unsigned stage,
				    unsigned micro_batch)
{
	const struct schedule_row *row = &run->lowered->rows[rank];

	for (size_t i = 0; i < row->count; i++)
		if (row->actions[i].op == op &&
		    row->actions[i].stage == stage &&
		    row->actions[i].micro_batch == micro_batch)
			return run->result.times[rank][i];
	fail_msg("no such action");
	return (struct schedule_time){0};
}

static void assert_time(struct schedule_time time, double start, double ready,
			double end, double arrival)
{
	if (time.start != start || time.ready != ready || time.end != end ||
	    time.arrival != arrival)
		fail_msg("%g %g %g %g, not %g %g %g %g", time.start, time.ready,
			 time.end, time.arrival, start, ready, end, arrival);
}

/*
 * gpipe, P = 2, M = 2, F = 2, I = W = 1; 3 to travel forward (link 2), 7 back
 * (link 1). Rank 0: F0 0-2, F1 2-4. Rank 1: F0 5-7, F1 7-9, B0 9-11, B1
 * 11-13. Rank 0: B0 18-20, B1 20-22.
 */
static void test_latency(void **state)
{
	static const double latency[] = {99, 7, 3, 99};
	const struct schedule_costs costs = {
		.forward = two,
		.input = one,
		.weight = one,
		.latency = 50,
		.link_latency = latency,
		.buffers = SCHEDULE_BUFFERS_ANY,
	};
	struct run run;

	(void)state;
	run_init(&run, gpipe_of_two(2), &costs);
	assert_true(run.result.makespan == 22);
	assert_true(run.result.waiting[0] == 14);
	assert_true(run.result.waiting[1] == 5);
	assert_time(time_of(&run, 0, ACTION_SEND_FORWARD, 0, 1), 4, 4, 4, 7);
	assert_time(time_of(&run, 1, ACTION_SEND_BACKWARD, 1, 0), 11, 11, 11,
		    18);
	assert_time(time_of(&run, 0, ACTION_RECV_BACKWARD, 0, 0), 4, 18, 18,
		    18);
	run_fini(&run);
}

/*
 * The same with 6 bytes at 2 a unit forward, 4 bytes without limit back. The
 * wire: 2-5, 5-8. Rank 1: F0 5-7, F1 8-10, B0 10-12, B1 12-14. Rank 0: B0
 * 12-14, B1 14-16.
 */
static void test_bandwidth(void **state)
{
	static const double bytes[] = {99, 4, 6, 99};
	static const double bandwidth[] = {1, 0, 2, 1};
	const struct schedule_costs costs = {
		.forward = two,
		.input = one,
		.weight = one,
		.bandwidth = 0.01,
		.message_bytes = 1000,
		.link_bytes = bytes,
		.link_bandwidth = bandwidth,
		.buffers = SCHEDULE_BUFFERS_ANY,
	};
	struct run run;

	(void)state;
	run_init(&run, gpipe_of_two(2), &costs);
	assert_true(run.result.makespan == 16);
	assert_true(run.result.waiting[0] == 8);
	assert_true(run.result.waiting[1] == 6);
	assert_true(run.result.bytes_sent[0] == 12);
	assert_true(run.result.bytes_sent[1] == 8);
	assert_int_equal(run.result.messages_sent[0], 2);
	assert_int_equal(run.result.messages_sent[1], 2);
	assert_time(time_of(&run, 0, ACTION_SEND_FORWARD, 0, 1), 4, 4, 4, 8);
	run_fini(&run);
}

/*
 * gpipe, P = 2, M = 3, F = 1 on rank 0 and 4 on rank 1. With one receive posted
 * rank 0 may send 1 when receive 0 is done, at 1 (it wants to at 2), and 2 when
 * receive 1 is, at 5, when rank 1 has done F0. With two it never waits.
 */
static void test_buffers(void **state)
{
	static const double forward[] = {1, 4};
	static const unsigned links[][4] = {{0, 3, 1, 0}, {0, 3, 2, 0}};
	struct schedule_costs costs = {
		.forward = forward,
		.input = one,
		.weight = one,
		.buffers = 0,
	};
	struct run run;

	(void)state;
	costs.link_buffers = links[0];
	run_init(&run, gpipe_of_two(3), &costs);
	assert_time(time_of(&run, 0, ACTION_SEND_FORWARD, 0, 1), 2, 2, 2, 2);
	assert_time(time_of(&run, 0, ACTION_SEND_FORWARD, 0, 2), 3, 5, 5, 5);
	assert_true(run.result.waiting[0] == 2 + (15 - 5));
	run_fini(&run);
	costs.link_buffers = links[1];
	run_init(&run, gpipe_of_two(3), &costs);
	assert_time(time_of(&run, 0, ACTION_SEND_FORWARD, 0, 2), 3, 3, 3, 3);
	run_fini(&run);
}

/* 1F1B needs a posted receive on one link of each pair, on whichever. */
static void test_buffers_deadlock(void **state)
{
	static const unsigned enough[] = {0, 0, 1, 0};
	static const unsigned none[] = {9, 0, 0, 9};
	struct schedule_costs costs = {
		.forward = one,
		.input = one,
		.weight = one,
		.buffers = 1,
		.link_buffers = enough,
	};
	struct schedule_simulation result;
	struct schedule *schedule = NULL;
	struct schedule *lowered = NULL;

	(void)state;
	assert_int_equal(schedule_generate("1f1b", 2, 4, 1, &schedule), 0);
	assert_int_equal(schedule_lower(schedule, NULL, &lowered), 0);
	assert_int_equal(schedule_simulate(lowered, &costs, false, &result), 0);
	schedule_simulation_fini(&result);
	costs.link_buffers = none;
	assert_int_equal(schedule_simulate(lowered, &costs, false, &result),
			 -EDEADLK);
	assert_non_null(strstr(log_last_error(), "deadlock"));
	schedule_destroy(lowered);
	schedule_destroy(schedule);
}

/*
 * gpipe, P = 2, M = 2, F = 2, B = 2; 1 to hand a message over, 1 to take it in,
 * 0.5 to travel. Rank 0: F0 0-2, send 2-3, F1 3-5, send 5-6. Rank 1: takes in
 * 3.5-4.5, F0 4.5-6.5, takes in 6.5-7.5, F1 7.5-9.5, B0 9.5-11.5, send 11.5-12.5,
 * B1 12.5-14.5, send 14.5-15.5. Rank 0: takes in 13-14, B0 14-16, takes in 16-17
 * (there since 16), B1 17-19.
 */
static void test_handling(void **state)
{
	const struct schedule_costs costs = {
		.forward = two,
		.input = one,
		.weight = one,
		.latency = 0.5,
		.send = 1,
		.receive = 1,
		.buffers = SCHEDULE_BUFFERS_ANY,
	};
	struct run run;

	(void)state;
	run_init(&run, gpipe_of_two(2), &costs);
	assert_true(run.result.makespan == 19);
	assert_true(run.result.busy[0] == 8);
	assert_true(run.result.sending[0] == 4);
	assert_true(run.result.waiting[0] == 7);
	assert_true(run.result.idle[0] == 11);
	assert_true(run.result.busy[1] == 8);
	assert_true(run.result.sending[1] == 4);
	assert_true(run.result.waiting[1] == 3.5);
	assert_time(time_of(&run, 0, ACTION_SEND_FORWARD, 0, 0), 2, 2, 3, 3.5);
	assert_time(time_of(&run, 1, ACTION_RECV_FORWARD, 1, 0), 0, 3.5, 4.5,
		    4.5);
	assert_time(time_of(&run, 0, ACTION_RECV_BACKWARD, 0, 1), 16, 16, 17,
		    17);
	run_fini(&run);
}

/* A receive is posted anew only when the message before it is taken in. */
static void test_handling_and_buffers(void **state)
{
	const struct schedule_costs costs = {
		.forward = one,
		.input = one,
		.weight = one,
		.receive = 3,
		.buffers = 1,
	};
	struct run run;

	(void)state;
	run_init(&run, gpipe_of_two(2), &costs);
	/* Taken in 1-4; so the second goes at 4 and is taken in 5-8. */
	assert_time(time_of(&run, 0, ACTION_SEND_FORWARD, 0, 1), 2, 4, 4, 4);
	assert_time(time_of(&run, 1, ACTION_RECV_FORWARD, 1, 1), 5, 5, 8, 8);
	run_fini(&run);
}

/*
 * Two ranks, two chunks in a loop: links 2 and 6 both lead from rank 0 to rank
 * 1. 0F0 0-1, 0F1 1-2; their outputs take 5 each: 1-6, 6-11. 1F0 6-7; 2F0 7-8, whose
 * output takes 2, but the wire is taken until 11: there at 13.
 */
static void test_shared_wire(void **state)
{
	static const double bytes[] = {0, 0, 5, 0, 0, 0, 2, 0};
	const struct schedule_costs costs = {
		.forward = one,
		.input = one,
		.weight = one,
		.bandwidth = 1,
		.link_bytes = bytes,
		.buffers = SCHEDULE_BUFFERS_ANY,
	};
	struct run run;

	(void)state;
	run_init(&run,
		 schedule_from("0F0,0F1,2F0,2F1,2B0,2B1,0B0,0B1\n"
			       "1F0,1F1,3F0,3F1,3B0,3B1,1B0,1B1\n"),
		 &costs);
	assert_time(time_of(&run, 0, ACTION_SEND_FORWARD, 2, 0), 8, 8, 8, 13);
	/* 1F1 11-12, 2F1 12-13, wire 13-15. */
	assert_time(time_of(&run, 0, ACTION_SEND_FORWARD, 2, 1), 13, 13, 13,
		    15);
	run_fini(&run);
}

/* What the last stage sends before the tie: too long to be hidden, or not. */
static void test_tied_early(void **state)
{
	const struct schedule_tie tie = {0, 1};
	const struct schedule_lowering options = {
		.ties = &tie, .tie_count = 1, .train = true};
	static const struct {
		double early, makespan;
	} rows[] = {
		/* F of stage 1 ends at 2, its B at 4; stage 0's at 6. */
		{0, 7}, {1.5, 7}, {2, 7}, {3, 8}, {10, 15},
	};
	struct schedule *schedule = schedule_from("0F0,0B0\n1F0,1B0\n");
	struct schedule *lowered = NULL;

	(void)state;
	assert_int_equal(schedule_lower(schedule, &options, &lowered), 0);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct schedule_costs costs = {
			.forward = one,
			.input = one,
			.weight = one,
			.reduce_tied = 1,
			.tied_early = rows[i].early,
			.buffers = 1,
		};
		struct schedule_simulation result;

		assert_int_equal(
			schedule_simulate(lowered, &costs, false, &result), 0);
		assert_true(result.makespan == rows[i].makespan);
		assert_true(result.waiting[0] == 3 + rows[i].makespan - 7);
		schedule_simulation_fini(&result);
	}
	schedule_destroy(lowered);
	schedule_destroy(schedule);
}

/* Reductions by stage, steps by rank: rank 0 ends its row at 6, rank 1 at 4. */
static void test_ends(void **state)
{
	const struct schedule_tie tie = {0, 1};
	const struct schedule_lowering options = {
		.ties = &tie, .tie_count = 1, .train = true};
	static const double reduce[] = {2, 7};
	static const double step[] = {3, 1};
	const struct schedule_costs costs = {
		.forward = one,
		.input = one,
		.weight = one,
		.reduce = 100,
		.stage_reduce = reduce,
		.reduce_tied = 5,
		.vote = 1,
		.rank_step = step,
		.buffers = 1,
	};
	struct schedule *schedule = schedule_from("0F0,0B0\n1F0,1B0\n");
	struct schedule_simulation result;
	struct schedule *lowered = NULL;
	size_t last;

	(void)state;
	assert_int_equal(schedule_lower(schedule, &options, &lowered), 0);
	assert_int_equal(schedule_simulate(lowered, &costs, true, &result), 0);
	/* Reduced at 8 and 11; tied at 16; vote 17; steps to 20 and 18. */
	assert_true(result.makespan == 20);
	assert_true(result.busy[0] == 3 + 2 + 5 + 3);
	assert_true(result.busy[1] == 3 + 7 + 5 + 1);
	assert_true(result.waiting[0] == 3 + 3);
	assert_true(result.waiting[1] == 1);
	assert_true(result.sending[0] == 1);
	assert_true(result.window[0] == 3);
	last = lowered->rows[0].count - 1;
	assert_time(result.times[0][last - 2], 8, 11, 16, 16);
	assert_time(result.times[0][last - 1], 16, 16, 17, 17);
	assert_time(result.times[0][last], 17, 17, 20, 20);
	schedule_simulation_fini(&result);
	schedule_destroy(lowered);
	schedule_destroy(schedule);
}

/* What I leaves for W, beside the activations: F F 20, I 23, I 26. */
static void test_pending_bytes(void **state)
{
	static const double kept[] = {10};
	static const double left[] = {3};
	struct schedule_costs costs = {
		.forward = one,
		.input = one,
		.weight = one,
		.activation_bytes = kept,
		.pending_bytes = left,
	};
	struct run run;

	(void)state;
	run_init(&run, schedule_from("0F0,0F1,0I0,0I1,0W0,0W1\n"), &costs);
	assert_true(run.result.peak_bytes[0] == 26);
	assert_int_equal(run.result.peak_activations[0], 2);
	run_fini(&run);
	run_init(&run, schedule_from("0F0,0B0,0F1,0B1\n"), &costs);
	assert_true(run.result.peak_bytes[0] == 13);
	run_fini(&run);
	costs.activation_bytes = NULL;
	run_init(&run, schedule_from("0F0,0I0,0F1,0W0,0I1,0W1\n"), &costs);
	assert_true(run.result.peak_bytes[0] == 3);
	run_fini(&run);
}

/* Laws. */

struct trial {
	struct schedule *lowered;
	struct schedule_costs costs;
	double forward[MOST_STAGES];
	double input[MOST_STAGES];
	double weight[MOST_STAGES];
	double latency[2 * MOST_STAGES];
	double bandwidth[2 * MOST_STAGES];
	double bytes[2 * MOST_STAGES];
	unsigned buffers[2 * MOST_STAGES];
	double reduce[MOST_STAGES];
	double step[MOST_STAGES];
};

static unsigned below(uint64_t *seed, unsigned bound)
{
	return (unsigned)(test_random(seed) % bound);
}

/* Halves: sums of them are exact. */
static void fill(double *values, size_t count, uint64_t *seed, unsigned bound)
{
	for (size_t i = 0; i < count; i++)
		values[i] = below(seed, bound) * 0.5;
}

/* A schedule that fits; false if this draw does not. */
static bool trial_draw(struct trial *trial, uint64_t *seed)
{
	const struct schedule_kind *kind =
		schedule_kind_at(below(seed, (unsigned)schedule_kind_count()));
	unsigned ranks = 1 + below(seed, 6);
	unsigned micro_batches = 1 + below(seed, 14);
	const struct schedule_tie tie = {0, (uint16_t)(ranks - 1)};
	const struct schedule_lowering options = {
		.ties = &tie, .tie_count = 1, .train = below(seed, 2) == 1};
	struct schedule *schedule = NULL;

	if (schedule_generate(kind->name, ranks, micro_batches, 0, &schedule))
		return false;
	assert_int_equal(schedule_lower(schedule, &options, &trial->lowered),
			 0);
	schedule_destroy(schedule);
	return true;
}

static void trial_price(struct trial *trial, uint64_t *seed)
{
	size_t stages = trial->lowered->stages;

	fill(trial->forward, stages, seed, 9);
	fill(trial->input, stages, seed, 9);
	fill(trial->weight, stages, seed, 9);
	fill(trial->reduce, stages, seed, 9);
	fill(trial->step, trial->lowered->ranks, seed, 9);
	trial->costs = (struct schedule_costs){
		.forward = trial->forward,
		.input = trial->input,
		.weight = trial->weight,
		.loss_weight_in_forward = below(seed, 2) == 1,
		.latency = below(seed, 5) * 0.5,
		.bandwidth = below(seed, 3) * 2,
		.message_bytes = below(seed, 5),
		.buffers = 1 + below(seed, 8),
		.send = below(seed, 3) * 0.5,
		.receive = below(seed, 3) * 0.5,
		.stage_reduce = trial->reduce,
		.reduce_tied = 2,
		.vote = 1,
		.rank_step = trial->step,
	};
	for (size_t link = 0; link < 2 * stages; link++) {
		trial->latency[link] = trial->costs.latency;
		trial->bandwidth[link] = trial->costs.bandwidth;
		trial->bytes[link] = trial->costs.message_bytes;
		trial->buffers[link] = trial->costs.buffers;
	}
}

static void trial_link(struct trial *trial)
{
	trial->costs.link_latency = trial->latency;
	trial->costs.link_bandwidth = trial->bandwidth;
	trial->costs.link_bytes = trial->bytes;
	trial->costs.link_buffers = trial->buffers;
	/* Not looked at any more. */
	trial->costs.latency = 1e9;
	trial->costs.bandwidth = 1e-9;
	trial->costs.message_bytes = 1e9;
	trial->costs.buffers = 0;
}

static void assert_same(const struct schedule *lowered,
			const struct schedule_simulation *a,
			const struct schedule_simulation *b)
{
	assert_true(a->makespan == b->makespan);
	for (unsigned rank = 0; rank < lowered->ranks; rank++) {
		assert_true(a->busy[rank] == b->busy[rank]);
		assert_true(a->waiting[rank] == b->waiting[rank]);
		assert_true(a->sending[rank] == b->sending[rank]);
		assert_true(a->bytes_sent[rank] == b->bytes_sent[rank]);
		assert_memory_equal(a->times[rank], b->times[rank],
				    lowered->rows[rank].count *
					    sizeof(struct schedule_time));
	}
}

/* Every instant of a rank is accounted for. */
static void check_sums(const struct schedule *lowered,
		       const struct schedule_simulation *result)
{
	for (unsigned rank = 0; rank < lowered->ranks; rank++) {
		size_t count = lowered->rows[rank].count;
		double at = 0;

		for (size_t i = 0; i < count; i++) {
			const struct schedule_time *time =
				&result->times[rank][i];

			assert_true(time->start == at);
			assert_true(time->ready >= time->start);
			assert_true(time->end >= time->ready);
			assert_true(time->arrival >= time->end);
			at = time->end;
		}
		assert_true(result->busy[rank] + result->waiting[rank] +
				    result->sending[rank] ==
			    at);
		assert_true(at <= result->makespan);
		assert_true(result->idle[rank] ==
			    result->makespan - result->busy[rank]);
	}
}

static double makespan_of(const struct trial *trial)
{
	struct schedule_simulation result;
	double makespan;

	assert_int_equal(schedule_simulate(trial->lowered, &trial->costs, false,
					   &result),
			 0);
	makespan = result.makespan;
	schedule_simulation_fini(&result);
	return makespan;
}

/* How often a change made a difference: a law nothing tries proves nothing. */
struct told {
	unsigned slower;
	unsigned roomier;
};

/* Worse links never help, better ones never harm. */
static void check_monotone(struct trial *trial, uint64_t *seed,
			   struct told *told)
{
	unsigned links = 2 * trial->lowered->stages;
	double first = makespan_of(trial);
	double slower;
	double roomier;

	trial->latency[below(seed, links)] += 3;
	slower = makespan_of(trial);
	assert_true(slower >= first);
	trial->bytes[below(seed, links)] += 3;
	assert_true(makespan_of(trial) >= slower);
	slower = makespan_of(trial);
	for (unsigned i = 0; i < links; i++)
		trial->buffers[i] += below(seed, 3);
	roomier = makespan_of(trial);
	assert_true(roomier <= slower);
	told->slower += slower > first;
	told->roomier += roomier < slower;
}

static void test_laws(void **state)
{
	uint64_t seed = 20240611;
	unsigned run = 0;
	struct told told = {0};

	(void)state;
	while (run < 400) {
		struct schedule_simulation scalars;
		struct schedule_simulation arrays;
		struct trial trial;
		int error;

		if (!trial_draw(&trial, &seed))
			continue;
		trial_price(&trial, &seed);
		error = schedule_simulate(trial.lowered, &trial.costs, true,
					  &scalars);
		if (error == 0) {
			trial_link(&trial);
			assert_int_equal(schedule_simulate(trial.lowered,
							   &trial.costs, true,
							   &arrays),
					 0);
			assert_same(trial.lowered, &scalars, &arrays);
			check_sums(trial.lowered, &arrays);
			check_monotone(&trial, &seed, &told);
			schedule_simulation_fini(&arrays);
			schedule_simulation_fini(&scalars);
			run++;
		} else {
			assert_int_equal(error, -EDEADLK);
		}
		schedule_destroy(trial.lowered);
	}
	assert_true(told.slower > 100);
	assert_true(told.roomier > 10);
}

/*
 * One link of four ranks at a tenth of the others' speed: its messages take 10
 * each, one after another, so 12 of them take 120 from the first one's start, at
 * 3 (two Fs, and a message of 1 between), and then the last one's rest: F of two
 * ranks, B of four, messages of 1 where they cross the fast links.
 */
static void test_slow_link(void **state)
{
	double bandwidth[8];
	struct schedule_costs costs = {
		.forward = one,
		.input = one,
		.weight = one,
		.bandwidth = 1,
		.message_bytes = 1,
		.buffers = SCHEDULE_BUFFERS_ANY,
	};
	struct schedule *schedule = NULL;
	struct run run;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bandwidth); i++)
		bandwidth[i] = i == 4 ? 0.1 : 1;
	costs.link_bandwidth = bandwidth;
	assert_int_equal(schedule_generate("gpipe", 4, 12, 1, &schedule), 0);
	run_init(&run, schedule, &costs);
	/* gpipe's last F is at 3 + 120 + 1 + 1 + 1 = 126; then 12 B of 2. */
	assert_time(time_of(&run, 3, ACTION_FORWARD, 3, 11), 125, 125, 126,
		    126);
	assert_true(run.result.makespan == 126 + 24 + 3 * (1 + 2));
	run_fini(&run);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_latency),
		cmocka_unit_test(test_bandwidth),
		cmocka_unit_test(test_buffers),
		cmocka_unit_test(test_buffers_deadlock),
		cmocka_unit_test(test_handling),
		cmocka_unit_test(test_handling_and_buffers),
		cmocka_unit_test(test_shared_wire),
		cmocka_unit_test(test_ends),
		cmocka_unit_test(test_tied_early),
		cmocka_unit_test(test_pending_bytes),
		cmocka_unit_test(test_laws),
		cmocka_unit_test(test_slow_link),
	};

	log_silence();
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("simulator: links and ranks", tests,
					   NULL, NULL);
}
