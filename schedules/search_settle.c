/*
 * I and W together: see search_settle.h. First all of a stage at once, and
 * where that costs time each half, and so on.
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
	struct search_judge *judge;
	struct search_plan *plan;
	uint16_t *saved; /* a row */
	size_t saved_count;
	uint64_t last_step;
	int64_t until;
};

/* The Is of a stage with numbers [low, high), and what to do with them. */
struct range {
	bool whole; /* a B each; else I, and W behind it */
	unsigned rank;
	unsigned stage;
	unsigned low;
	unsigned high;
};

/* A row being rewritten. */
struct rewrite {
	const struct range *range;
	const uint16_t *old;
	size_t from;
	size_t count;
	uint16_t *row;
	size_t to;
	unsigned inputs; /* of the stage, written */
	unsigned weights;
	unsigned taken; /* Ws written early, to be left out where they stood */
	unsigned changes;
};

static void write_op(struct rewrite *rewrite, unsigned op)
{
	rewrite->row[rewrite->to++] = token_of(rewrite->range->stage, op);
	rewrite->inputs += op != ACTION_BACKWARD_WEIGHT;
	rewrite->weights += op != ACTION_BACKWARD_INPUT;
}

/* An I in the range behind which its W may stand. */
static void join(struct rewrite *rewrite)
{
	uint16_t weight =
		token_of(rewrite->range->stage, ACTION_BACKWARD_WEIGHT);
	bool together = rewrite->taken == 0 &&
			rewrite->from + 1 < rewrite->count &&
			rewrite->old[rewrite->from + 1] == weight;

	rewrite->taken++;
	rewrite->changes += rewrite->range->whole || !together;
	if (rewrite->range->whole) {
		write_op(rewrite, ACTION_BACKWARD);
	} else {
		write_op(rewrite, ACTION_BACKWARD_INPUT);
		write_op(rewrite, ACTION_BACKWARD_WEIGHT);
	}
}

static void rewrite_token(struct rewrite *rewrite, uint16_t token)
{
	const struct range *range = rewrite->range;
	unsigned op = token_op(token);

	if (token_stage(token) != range->stage || op == ACTION_FORWARD)
		rewrite->row[rewrite->to++] = token;
	else if (op == ACTION_BACKWARD_WEIGHT && rewrite->taken > 0)
		rewrite->taken--;
	else if (op == ACTION_BACKWARD_INPUT && rewrite->inputs >= range->low &&
		 rewrite->inputs < range->high &&
		 rewrite->weights == rewrite->inputs)
		join(rewrite);
	else
		write_op(rewrite, op);
}

static void save_row(struct settle *settle, unsigned rank)
{
	settle->saved_count = settle->plan->count[rank];
	memcpy(settle->saved, search_plan_row(settle->plan, rank),
	       settle->saved_count * sizeof(*settle->saved));
}

static void restore_row(struct settle *settle, unsigned rank)
{
	settle->plan->count[rank] = settle->saved_count;
	memcpy(search_plan_row(settle->plan, rank), settle->saved,
	       settle->saved_count * sizeof(*settle->saved));
	search_judge_row(settle->judge, settle->plan, rank);
}

/* From the row saved; returns what it changes. */
static unsigned rewrite_row(struct settle *settle, const struct range *range)
{
	struct rewrite rewrite = {
		.range = range,
		.old = settle->saved,
		.count = settle->saved_count,
		.row = search_plan_row(settle->plan, range->rank),
	};

	for (; rewrite.from < rewrite.count; rewrite.from++)
		rewrite_token(&rewrite, rewrite.old[rewrite.from]);
	settle->plan->count[range->rank] = rewrite.to;
	return rewrite.changes;
}

static bool is_spent(const struct settle *settle)
{
	return search_judge_steps(settle->judge) >= settle->last_step ||
	       (settle->until && clock_now_ns() > settle->until);
}

/* *done says whether all of the range is settled, or nothing of it can be. */
static int try_range(struct settle *settle, const struct range *range,
		     bool *done)
{
	struct search_plan *plan = settle->plan;
	double makespan;
	int error;

	save_row(settle, range->rank);
	*done = rewrite_row(settle, range) == 0;
	if (*done)
		return 0;
	if (!search_plan_row_is_legal(settle->problem, range->rank,
				      search_plan_row(plan, range->rank),
				      plan->count[range->rank])) {
		restore_row(settle, range->rank);
		return 0;
	}
	search_judge_row(settle->judge, plan, range->rank);
	error = search_judge_run(settle->judge, false, plan->makespan,
				 &makespan);
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

int search_settle_plan(const struct search_problem *problem,
		       struct search_judge *judge, struct search_plan *plan,
		       uint64_t steps, int64_t until)
{
	struct settle settle = {
		.problem = problem,
		.judge = judge,
		.plan = plan,
		.saved = malloc(plan->width * sizeof(uint16_t)),
		.last_step = search_judge_steps(judge) + steps,
		.until = until,
	};
	int error = 0;

	if (settle.saved == NULL)
		return fail(-ENOMEM, "no memory to settle a plan");
	search_judge_rows(judge, plan);
	for (unsigned pass = 0; pass < 2; pass++)
		for (unsigned s = 0; s < problem->stages && !error; s++) {
			struct range range = {
				.whole = pass == 1,
				.rank = problem->rank_of_stage[s],
				.stage = s,
				.high = problem->micro_batches,
			};

			error = settle_range(&settle, &range);
		}
	free(settle.saved);
	return error;
}
