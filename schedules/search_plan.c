/*
 * Plans: made, read, written, and checked row by row. See search_plan.h.
 */
#include "schedules/search_plan.h"
#include "base/log.h"
#include "schedules/build.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

int search_plan_init(struct search_plan *plan,
		     const struct search_problem *problem)
{
	plan->width = 3 * (size_t)problem->micro_batches * problem->chunks;
	plan->count = calloc(problem->ranks, sizeof(*plan->count));
	plan->tokens =
		calloc(problem->ranks * plan->width, sizeof(*plan->tokens));
	plan->makespan = INFINITY;
	if (plan->count != NULL && plan->tokens != NULL)
		return 0;
	search_plan_fini(plan);
	return fail(-ENOMEM, "no memory for a plan of %u ranks",
		    problem->ranks);
}

void search_plan_fini(struct search_plan *plan)
{
	free(plan->tokens);
	free(plan->count);
	*plan = (struct search_plan){0};
}

void search_plan_copy(struct search_plan *to, const struct search_plan *from,
		      unsigned ranks)
{
	memcpy(to->count, from->count, ranks * sizeof(*to->count));
	memcpy(to->tokens, from->tokens,
	       ranks * from->width * sizeof(*to->tokens));
	to->makespan = from->makespan;
}

static void append(struct search_plan *plan, unsigned rank, unsigned stage,
		   unsigned op)
{
	search_plan_row(plan, rank)[plan->count[rank]++] = token_of(stage, op);
}

void search_plan_fill_sequential(struct search_plan *plan,
				 const struct search_problem *problem)
{
	for (unsigned rank = 0; rank < problem->ranks; rank++) {
		const unsigned *stages =
			&problem->stage_of_rank[rank * problem->chunks];

		plan->count[rank] = 0;
		for (unsigned m = 0; m < problem->micro_batches; m++) {
			for (unsigned c = 0; c < problem->chunks; c++)
				append(plan, rank, stages[c], ACTION_FORWARD);
			for (unsigned c = problem->chunks; c-- > 0;) {
				append(plan, rank, stages[c],
				       ACTION_BACKWARD_INPUT);
				append(plan, rank, stages[c],
				       ACTION_BACKWARD_WEIGHT);
			}
		}
	}
}

/* Bytes alive within and behind an operation, more than before it. */
static double bytes_within(const struct search_problem *problem, uint16_t token)
{
	unsigned stage = token_stage(token);

	switch (token_op(token)) {
	case ACTION_FORWARD:
		return problem->kept[stage];
	case ACTION_BACKWARD_WEIGHT:
		return 0;
	default:
		return problem->left[stage];
	}
}

static double bytes_behind(const struct search_problem *problem, uint16_t token)
{
	unsigned stage = token_stage(token);

	switch (token_op(token)) {
	case ACTION_FORWARD:
		return problem->kept[stage];
	case ACTION_BACKWARD_INPUT:
		return problem->left[stage];
	case ACTION_BACKWARD_WEIGHT:
		return -problem->kept[stage] - problem->left[stage];
	default:
		return -problem->kept[stage];
	}
}

/* A row from its beginning up to somewhere. */

void search_plan_progress_init(struct search_plan_progress *progress,
			       const struct search_problem *problem,
			       unsigned rank)
{
	memset(progress->done, 0, problem->chunks * sizeof(progress->done[0]));
	progress->alive = 0;
	progress->cap = problem->cap ? problem->cap[rank] : INFINITY;
}

/* What an operation needs of its own rank. */
static bool is_ready(const struct search_problem *problem,
		     const struct search_plan_progress *progress,
		     uint16_t token)
{
	unsigned stage = token_stage(token);
	unsigned op = token_op(token);
	const unsigned *done = progress->done[stage / problem->ranks];

	if (op == ACTION_FORWARD)
		return !problem->input_here[stage] ||
		       progress->done[(stage - 1) / problem->ranks]
				     [ACTION_FORWARD] > done[ACTION_FORWARD];
	if (op == ACTION_BACKWARD_WEIGHT)
		return done[ACTION_BACKWARD_INPUT] >
		       done[ACTION_BACKWARD_WEIGHT];
	if (op == ACTION_BACKWARD &&
	    done[ACTION_BACKWARD_INPUT] != done[ACTION_BACKWARD_WEIGHT])
		return false;
	return done[ACTION_FORWARD] > done[ACTION_BACKWARD_INPUT] &&
	       (!problem->gradient_here[stage] ||
		progress->done[(stage + 1) / problem->ranks]
			      [ACTION_BACKWARD_INPUT] >
			done[ACTION_BACKWARD_INPUT]);
}

bool search_plan_progress_can(const struct search_plan_progress *progress,
			      const struct search_problem *problem,
			      uint16_t token)
{
	return is_ready(problem, progress, token) &&
	       cap_is_kept(progress->alive + bytes_within(problem, token),
			   progress->cap);
}

/* What an F of the stage must leave free. */
static double bytes_ahead(const struct search_problem *problem,
			  const struct search_plan_progress *progress,
			  unsigned rank, unsigned stage)
{
	const unsigned *stages =
		&problem->stage_of_rank[rank * problem->chunks];
	double bytes = problem->spare[rank];

	for (unsigned c = stage / problem->ranks + 1; c < problem->chunks;
	     c++) {
		const unsigned *done = progress->done[c];

		if (done[ACTION_FORWARD] == done[ACTION_BACKWARD_WEIGHT])
			bytes += problem->kept[stages[c]];
	}
	return bytes;
}

bool search_plan_progress_should(const struct search_plan_progress *progress,
				 const struct search_problem *problem,
				 unsigned rank, uint16_t token)
{
	double want = progress->alive + bytes_within(problem, token);

	if (!is_ready(problem, progress, token))
		return false;
	if (problem->cap && token_op(token) == ACTION_FORWARD)
		want += bytes_ahead(problem, progress, rank,
				    token_stage(token));
	return cap_is_kept(want, progress->cap);
}

void search_plan_progress_do(struct search_plan_progress *progress,
			     const struct search_problem *problem,
			     uint16_t token)
{
	unsigned *done = progress->done[token_stage(token) / problem->ranks];
	unsigned op = token_op(token);

	progress->alive += bytes_behind(problem, token);
	if (op == ACTION_BACKWARD) {
		done[ACTION_BACKWARD_INPUT]++;
		done[ACTION_BACKWARD_WEIGHT]++;
	} else {
		done[op]++;
	}
}

static bool row_ascends(const struct search_problem *problem, unsigned rank,
			const struct schedule_row *row)
{
	struct search_plan_progress progress;

	search_plan_progress_init(&progress, problem, rank);
	for (size_t i = 0; i < row->count; i++) {
		const struct action *action = &row->actions[i];
		const unsigned *done =
			progress.done[action->stage / problem->ranks];
		unsigned m = action->micro_batch;

		if (!action_is_compute(action->op))
			continue;
		if (action->op == ACTION_BACKWARD
			    ? done[ACTION_BACKWARD_INPUT] != m ||
				      done[ACTION_BACKWARD_WEIGHT] != m
			    : done[action->op] != m)
			return false;
		search_plan_progress_do(&progress, problem,
					token_of(action->stage, action->op));
	}
	return true;
}

bool search_plan_read(struct search_plan *plan,
		      const struct search_problem *problem,
		      const struct schedule *schedule)
{
	for (unsigned rank = 0; rank < problem->ranks; rank++) {
		const struct schedule_row *row = &schedule->rows[rank];

		if (!row_ascends(problem, rank, row))
			return false;
		plan->count[rank] = 0;
		for (size_t i = 0; i < row->count; i++)
			if (action_is_compute(row->actions[i].op))
				append(plan, rank, row->actions[i].stage,
				       row->actions[i].op);
	}
	return true;
}

unsigned search_plan_progress_next(const struct search_plan_progress *progress,
				   const struct search_problem *problem,
				   uint16_t token)
{
	unsigned op = token_op(token);

	if (op == ACTION_BACKWARD)
		op = ACTION_BACKWARD_INPUT;
	return progress->done[token_stage(token) / problem->ranks][op];
}

static int schedule_rank(struct schedule *schedule,
			 const struct search_plan *plan,
			 const struct search_problem *problem, unsigned rank)
{
	const uint16_t *row = search_plan_row(plan, rank);
	struct search_plan_progress progress;
	int error = 0;

	search_plan_progress_init(&progress, problem, rank);
	for (size_t i = 0; i < plan->count[rank] && !error; i++) {
		error = schedule_row_append(
			&schedule->rows[rank], token_op(row[i]),
			token_stage(row[i]),
			search_plan_progress_next(&progress, problem, row[i]),
			0);
		search_plan_progress_do(&progress, problem, row[i]);
	}
	return error;
}

struct schedule *search_plan_schedule(const struct search_plan *plan,
				      const struct search_problem *problem,
				      const char *name)
{
	struct schedule *schedule =
		schedule_create(name, problem->ranks, problem->chunks,
				problem->micro_batches, problem->placement);
	int error = schedule ? 0 : -ENOMEM;

	for (unsigned rank = 0; rank < problem->ranks && !error; rank++)
		error = schedule_rank(schedule, plan, problem, rank);
	if (error == 0)
		return schedule;
	schedule_destroy(schedule);
	return NULL;
}

static void split_row(uint16_t *tokens, size_t *count, size_t room)
{
	size_t from = *count;
	size_t to = room;

	/* A row of all I and W apart is as long as a row can be. */
	while (from > 0) {
		uint16_t token = tokens[--from];

		if (token_op(token) != ACTION_BACKWARD) {
			tokens[--to] = token;
			continue;
		}
		tokens[--to] =
			token_of(token_stage(token), ACTION_BACKWARD_WEIGHT);
		tokens[--to] =
			token_of(token_stage(token), ACTION_BACKWARD_INPUT);
	}
	ASSERT(to == 0);
	*count = room;
}

void search_plan_split(struct search_plan *plan, unsigned ranks)
{
	for (unsigned rank = 0; rank < ranks; rank++)
		split_row(search_plan_row(plan, rank), &plan->count[rank],
			  plan->width);
}

bool search_plan_row_is_legal(const struct search_problem *problem,
			      unsigned rank, const uint16_t *tokens,
			      size_t count)
{
	struct search_plan_progress progress;

	search_plan_progress_init(&progress, problem, rank);
	for (size_t i = 0; i < count; i++) {
		if (!search_plan_progress_can(&progress, problem, tokens[i]))
			return false;
		search_plan_progress_do(&progress, problem, tokens[i]);
	}
	return true;
}
