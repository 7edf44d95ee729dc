/*
 * Fusing I and W: see search_settle.h. First all of a stage at once, and where
 * that costs time each half, and so on.
 */
#include "schedules/search_settle.h"
#include "base/clock.h"
#include "base/log.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct settle {
	const struct search_problem *problem;
	struct plan_judge *judge;
	struct plan *plan;
	uint16_t *saved; /* a row */
	size_t saved_count;
	uint64_t last_step;
	int64_t until;
};

/* The Is of a stage with numbers [low, high). */
struct range {
	unsigned rank;
	unsigned stage;
	unsigned low;
	unsigned high;
};

/*
 * Rewrites the row with every I of the range, where no earlier W is owed, as a
 * B; the W that it takes along is left out where it stood. Returns how many.
 */
static unsigned fuse_row(struct settle *settle, const struct range *range)
{
	uint16_t *row = plan_row(settle->plan, range->rank);
	size_t count = settle->plan->count[range->rank];
	unsigned inputs = 0;
	unsigned weights = 0;
	unsigned taken = 0; /* Ws left out are still to come */
	unsigned fused = 0;
	size_t to = 0;

	for (size_t i = 0; i < count; i++) {
		unsigned op = token_op(row[i]);
		uint16_t token = row[i];

		if (token_stage(token) != range->stage ||
		    op == ACTION_FORWARD) {
			row[to++] = token;
			continue;
		}
		if (op == ACTION_BACKWARD_WEIGHT && taken > 0) {
			taken--;
			continue;
		}
		if (op == ACTION_BACKWARD_INPUT && inputs >= range->low &&
		    inputs < range->high && weights == inputs) {
			token = token_of(range->stage, ACTION_BACKWARD);
			op = ACTION_BACKWARD;
			taken++;
			fused++;
		}
		inputs += op != ACTION_BACKWARD_WEIGHT;
		weights += op != ACTION_BACKWARD_INPUT;
		row[to++] = token;
	}
	settle->plan->count[range->rank] = to;
	return fused;
}

static void save_row(struct settle *settle, unsigned rank)
{
	settle->saved_count = settle->plan->count[rank];
	memcpy(settle->saved, plan_row(settle->plan, rank),
	       settle->saved_count * sizeof(*settle->saved));
}

static void restore_row(struct settle *settle, unsigned rank)
{
	settle->plan->count[rank] = settle->saved_count;
	memcpy(plan_row(settle->plan, rank), settle->saved,
	       settle->saved_count * sizeof(*settle->saved));
	plan_judge_row(settle->judge, settle->plan, rank);
}

static bool is_spent(const struct settle *settle)
{
	return plan_judge_steps(settle->judge) >= settle->last_step ||
	       (settle->until && clock_now_ns() > settle->until);
}

/* *done says whether all of the range is settled, or nothing of it can be. */
static int try_range(struct settle *settle, const struct range *range,
		     bool *done)
{
	struct plan *plan = settle->plan;
	double makespan;
	int error;

	save_row(settle, range->rank);
	*done = fuse_row(settle, range) == 0;
	if (*done)
		return 0;
	if (!plan_row_is_legal(settle->problem, range->rank,
			       plan_row(plan, range->rank),
			       plan->count[range->rank])) {
		restore_row(settle, range->rank);
		return 0;
	}
	plan_judge_row(settle->judge, plan, range->rank);
	error = plan_judge_run(settle->judge, false, plan->makespan, &makespan);
	if (error)
		return error;
	*done = makespan <= plan->makespan;
	if (*done)
		plan->makespan = makespan;
	else
		restore_row(settle, range->rank);
	return 0;
}

static int settle_range(struct settle *settle, const struct range *range)
{
	struct range half = *range;
	bool done;
	int error;

	if (is_spent(settle))
		return 0;
	error = try_range(settle, range, &done);
	if (error || done || range->high - range->low == 1)
		return error;
	half.high = range->low + (range->high - range->low) / 2;
	error = settle_range(settle, &half);
	half.low = half.high;
	half.high = range->high;
	return error ? error : settle_range(settle, &half);
}

int settle_plan(const struct search_problem *problem, struct plan_judge *judge,
		struct plan *plan, uint64_t steps, int64_t until)
{
	struct settle settle = {
		.problem = problem,
		.judge = judge,
		.plan = plan,
		.saved = malloc(plan->width * sizeof(uint16_t)),
		.last_step = plan_judge_steps(judge) + steps,
		.until = until,
	};
	int error = 0;

	if (settle.saved == NULL)
		return fail(-ENOMEM, "no memory to settle a plan");
	plan_judge_rows(judge, plan);
	for (unsigned stage = 0; stage < problem->stages && !error; stage++) {
		struct range range = {
			.rank = problem->rank_of_stage[stage],
			.stage = stage,
			.high = problem->micro_batches,
		};

		error = settle_range(&settle, &range);
	}
	free(settle.saved);
	return error;
}
