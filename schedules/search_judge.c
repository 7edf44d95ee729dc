/*
 * The judge: a walk over a lowered schedule that is kept, and rewritten row by
 * row. See search_judge.h.
 */
#include "schedules/search_judge.h"
#include "base/log.h"
#include "schedules/build.h"
#include "schedules/walk.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Rounding may be off; a limit on the makespan is not broken by that. */
#define LIMIT_SLACK (1 + 1e-9)

struct search_judge {
	const struct search_problem *problem;
	struct schedule *lowered;
	struct walk *walk;
	struct schedule_time **times; /* [ranks][actions] */
	unsigned **token;             /* [ranks][actions] */
	uint64_t steps;
	/* What ends a row of rank r: actions [tail[r], tail[r + 1]). */
	struct action *tails;
	size_t *tail;
	double *busy;         /* [ranks] a row's time less its waiting */
	double *most_waiting; /* [ranks] under the present limit */
};

/* Room for a row of I and W apart, with all messages and what ends it. */
static size_t row_room(const struct search_problem *problem, size_t tail)
{
	return problem->chunks * (7 * (size_t)problem->micro_batches + 1) +
	       tail;
}

static int keep_tail(struct search_judge *judge, unsigned rank)
{
	struct schedule_row *row = &judge->lowered->rows[rank];
	size_t first = row->count;
	size_t room;
	struct action *actions;

	while (first > 0 && row->actions[first - 1].op >= ACTION_REDUCE_TIED)
		first--;
	judge->tail[rank + 1] = judge->tail[rank] + row->count - first;
	actions = realloc(judge->tails,
			  (judge->tail[rank + 1] + 1) * sizeof(*actions));
	if (actions == NULL)
		return -ENOMEM;
	judge->tails = actions;
	memcpy(actions + judge->tail[rank], row->actions + first,
	       (row->count - first) * sizeof(*actions));
	room = row_room(judge->problem, row->count - first);
	actions = realloc(row->actions, room * sizeof(*actions));
	if (actions == NULL)
		return -ENOMEM;
	row->actions = actions;
	judge->token[rank] = calloc(room, sizeof(unsigned));
	return judge->token[rank] ? 0 : -ENOMEM;
}

/* When first asked for: of a large schedule they are large, too. */
static int keep_times(struct search_judge *judge)
{
	for (unsigned rank = 0; rank < judge->problem->ranks; rank++) {
		size_t tail = judge->tail[rank + 1] - judge->tail[rank];

		if (judge->times[rank])
			continue;
		judge->times[rank] = calloc(row_room(judge->problem, tail),
					    sizeof(struct schedule_time));
		if (judge->times[rank] == NULL)
			return fail(-ENOMEM,
				    "no memory for the times of a schedule of "
				    "%u ranks",
				    judge->problem->ranks);
	}
	return 0;
}

/* A first schedule of this shape, lowered as the caller of the search asks. */
static int lower_first(const struct search_problem *problem,
		       struct schedule **out)
{
	struct schedule *schedule = NULL;
	struct search_plan plan;
	int error = search_plan_init(&plan, problem);

	if (error)
		return error;
	search_plan_fill_sequential(&plan, problem);
	schedule = search_plan_schedule(&plan, problem, "search");
	error = schedule ? schedule_lower(schedule, &problem->lowering, out)
			 : -ENOMEM;
	schedule_destroy(schedule);
	search_plan_fini(&plan);
	return error;
}

/* From a run of the first schedule: a rank is as busy in any other. */
static int count_busy(struct search_judge *judge)
{
	double makespan;
	int error = search_judge_run(judge, false, INFINITY, &makespan);

	for (unsigned rank = 0; rank < judge->problem->ranks && !error;
	     rank++) {
		const struct walk_rank *state = walk_rank(judge->walk, rank);

		judge->busy[rank] = state->busy + state->sending;
	}
	return error;
}

int search_judge_create(const struct search_problem *problem,
			struct search_judge **out)
{
	struct search_judge *judge = calloc(1, sizeof(*judge));
	unsigned ranks = problem->ranks;
	int error = -ENOMEM;

	if (judge == NULL)
		goto err;
	judge->problem = problem;
	judge->times = calloc(ranks, sizeof(*judge->times));
	judge->token = calloc(ranks, sizeof(*judge->token));
	judge->tail = calloc(ranks + 1u, sizeof(*judge->tail));
	judge->busy = calloc(ranks, sizeof(*judge->busy));
	judge->most_waiting = calloc(ranks, sizeof(*judge->most_waiting));
	if (judge->times == NULL || judge->token == NULL ||
	    judge->tail == NULL || judge->busy == NULL ||
	    judge->most_waiting == NULL)
		goto err;
	error = lower_first(problem, &judge->lowered);
	for (unsigned rank = 0; rank < ranks && !error; rank++)
		error = keep_tail(judge, rank);
	if (!error)
		error = walk_create(judge->lowered, &judge->walk);
	if (!error)
		error = count_busy(judge);
	if (error)
		goto err;
	*out = judge;
	return 0;
err:
	search_judge_destroy(judge);
	return fail(error, "no memory to judge plans of %u ranks", ranks);
}

void search_judge_destroy(struct search_judge *judge)
{
	if (judge == NULL)
		return;
	walk_destroy(judge->walk);
	for (unsigned rank = 0; rank < judge->problem->ranks; rank++) {
		if (judge->times)
			free(judge->times[rank]);
		if (judge->token)
			free(judge->token[rank]);
	}
	schedule_destroy(judge->lowered);
	free(judge->most_waiting);
	free(judge->busy);
	free(judge->tails);
	free(judge->tail);
	free(judge->token);
	free(judge->times);
	free(judge);
}

/* Lowers a row as schedule_lower() does: see there. */
struct row_writer {
	const struct search_problem *problem;
	struct action *actions;
	unsigned *token;
	size_t count;
};

static void write_action(struct row_writer *writer, unsigned token, unsigned op,
			 unsigned stage, unsigned micro_batch)
{
	writer->actions[writer->count] = (struct action){
		.op = (uint16_t)op,
		.stage = (uint16_t)stage,
		.micro_batch = (uint16_t)micro_batch,
	};
	writer->token[writer->count++] = token;
}

static void write_forward(struct row_writer *writer, unsigned token,
			  unsigned stage, unsigned m)
{
	const struct search_problem *problem = writer->problem;

	if (stage > 0 && !problem->input_here[stage])
		write_action(writer, token, ACTION_RECV_FORWARD, stage, m);
	write_action(writer, token, ACTION_FORWARD, stage, m);
	if (stage + 1 < problem->stages && !problem->gradient_here[stage])
		write_action(writer, token, ACTION_SEND_FORWARD, stage, m);
}

static void write_backward(struct row_writer *writer, unsigned token,
			   unsigned op, unsigned stage, unsigned m)
{
	const struct search_problem *problem = writer->problem;

	if (stage + 1 < problem->stages && !problem->gradient_here[stage])
		write_action(writer, token, ACTION_RECV_BACKWARD, stage, m);
	write_action(writer, token, op, stage, m);
	if (stage > 0 && !problem->input_here[stage])
		write_action(writer, token, ACTION_SEND_BACKWARD, stage, m);
}

static void write_token(struct row_writer *writer,
			struct search_plan_progress *progress, unsigned index,
			uint16_t token)
{
	const struct search_problem *problem = writer->problem;
	unsigned stage = token_stage(token);
	unsigned op = token_op(token);
	unsigned m = search_plan_progress_next(progress, problem, token);

	if (op == ACTION_FORWARD)
		write_forward(writer, index, stage, m);
	else if (op == ACTION_BACKWARD_WEIGHT)
		write_action(writer, index, op, stage, m);
	else
		write_backward(writer, index, op, stage, m);
	search_plan_progress_do(progress, problem, token);
	if (op >= ACTION_BACKWARD_WEIGHT && m + 1 == problem->micro_batches &&
	    (problem->lowering.reduce || problem->lowering.train))
		write_action(writer, index, ACTION_REDUCE_GRAD, stage, 0);
}

void search_judge_row(struct search_judge *judge,
		      const struct search_plan *plan, unsigned rank)
{
	struct schedule_row *row = &judge->lowered->rows[rank];
	const uint16_t *tokens = search_plan_row(plan, rank);
	struct row_writer writer = {
		.problem = judge->problem,
		.actions = row->actions,
		.token = judge->token[rank],
	};
	struct search_plan_progress progress;
	size_t tail = judge->tail[rank + 1] - judge->tail[rank];

	search_plan_progress_init(&progress, judge->problem, rank);
	for (size_t i = 0; i < plan->count[rank]; i++)
		write_token(&writer, &progress, (unsigned)i, tokens[i]);
	for (size_t i = 0; i < tail; i++) {
		writer.token[writer.count] = (unsigned)plan->count[rank];
		writer.actions[writer.count++] =
			judge->tails[judge->tail[rank] + i];
	}
	row->count = writer.count;
	judge->steps += plan->count[rank];
}

void search_judge_rows(struct search_judge *judge,
		       const struct search_plan *plan)
{
	for (unsigned rank = 0; rank < judge->problem->ranks; rank++)
		search_judge_row(judge, plan, rank);
}

static void set_limit(struct search_judge *judge, double limit)
{
	if (limit == INFINITY) {
		walk_limit(judge->walk, NULL);
		return;
	}
	for (unsigned rank = 0; rank < judge->problem->ranks; rank++)
		judge->most_waiting[rank] =
			limit * LIMIT_SLACK - judge->busy[rank];
	walk_limit(judge->walk, judge->most_waiting);
}

int search_judge_run(struct search_judge *judge, bool times, double limit,
		     double *makespan)
{
	bool finished = false;
	int error = times ? keep_times(judge) : 0;

	if (error)
		return error;
	set_limit(judge, limit);
	error = walk_run(judge->walk, &judge->problem->costs,
			 times ? judge->times : NULL, &finished);
	if (error)
		return error;
	for (unsigned rank = 0; rank < judge->problem->ranks; rank++)
		judge->steps += walk_rank(judge->walk, rank)->position;
	*makespan = finished ? walk_makespan(judge->walk) : INFINITY;
	return 0;
}

int search_judge_plan(struct search_judge *judge, struct search_plan *plan)
{
	search_judge_rows(judge, plan);
	return search_judge_run(judge, false, INFINITY, &plan->makespan);
}

uint64_t search_judge_steps(const struct search_judge *judge)
{
	return judge->steps;
}

const struct schedule_row *
search_judge_actions(const struct search_judge *judge, unsigned rank)
{
	return &judge->lowered->rows[rank];
}

const struct schedule_time *search_judge_times(const struct search_judge *judge,
					       unsigned rank)
{
	return judge->times[rank];
}

const unsigned *search_judge_tokens(const struct search_judge *judge,
				    unsigned rank)
{
	return judge->token[rank];
}
