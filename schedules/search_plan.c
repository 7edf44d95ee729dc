/*
 * Plans: made, read, written, checked row by row, and judged by a walk over a
 * lowered schedule that is kept and rewritten in place.
 */
#include "schedules/search_plan.h"
#include "base/log.h"
#include "schedules/build.h"
#include "schedules/walk.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Rounding may be off; a limit on the makespan is not broken by that. */
#define LIMIT_SLACK (1 + 1e-9)

/* The problem. */

static void price_stages(struct search_problem *problem)
{
	const struct schedule_costs *costs = &problem->costs;
	unsigned stages = problem->stages;

	for (unsigned stage = 0; stage < stages; stage++) {
		double *price = &problem->price[4 * (size_t)stage];
		double forward = costs->forward[stage];
		double weight = costs->weight[stage];

		if (costs->loss_weight_in_forward && stage + 1 == stages) {
			forward += weight;
			weight = 0;
		}
		price[ACTION_FORWARD] = forward;
		price[ACTION_BACKWARD_INPUT] = costs->input[stage];
		price[ACTION_BACKWARD_WEIGHT] = weight;
		price[ACTION_BACKWARD] = costs->input[stage] + weight;
	}
}

static void count_bytes(struct search_problem *problem)
{
	const struct schedule_costs *costs = &problem->costs;

	for (unsigned stage = 0; stage < problem->stages; stage++) {
		double *spare = &problem->spare[problem->rank_of_stage[stage]];

		if (costs->activation_bytes)
			problem->kept[stage] = costs->activation_bytes[stage];
		if (costs->pending_bytes)
			problem->left[stage] = costs->pending_bytes[stage];
		*spare = MAX(*spare, problem->left[stage]);
	}
}

static void place_stages(struct search_problem *problem,
			 const struct schedule *schedule)
{
	const unsigned *rank_of = schedule->rank_of_stage;
	unsigned stages = problem->stages;

	for (unsigned stage = 0; stage < stages; stage++) {
		unsigned rank = rank_of[stage];

		problem->rank_of_stage[stage] = rank;
		/* Both placements lay one stage on each rank, lap by lap. */
		problem->stage_of_rank[rank * problem->chunks +
				       stage / problem->ranks] = stage;
		problem->input_here[stage] =
			stage > 0 && rank_of[stage - 1] == rank;
		problem->gradient_here[stage] =
			stage + 1 < stages && rank_of[stage + 1] == rank;
	}
}

/* A copy that the problem owns; NULL stays NULL. */
static int own(struct search_problem *problem, const void **array, size_t bytes)
{
	void *copy;

	if (*array == NULL || bytes == 0)
		return 0;
	copy = malloc(bytes);
	if (copy == NULL)
		return -ENOMEM;
	ASSERT(problem->owned_count < ARRAY_SIZE(problem->owned));
	problem->owned[problem->owned_count++] = copy;
	memcpy(copy, *array, bytes);
	*array = copy;
	return 0;
}

static int own_arrays(struct search_problem *problem)
{
	struct schedule_costs *costs = &problem->costs;
	const struct {
		const double **array;
		size_t count;
	} arrays[] = {
		{&costs->forward, problem->stages},
		{&costs->input, problem->stages},
		{&costs->weight, problem->stages},
		{&costs->link_latency, 2 * (size_t)problem->stages},
		{&costs->link_bandwidth, 2 * (size_t)problem->stages},
		{&costs->link_bytes, 2 * (size_t)problem->stages},
		{&costs->stage_reduce, problem->stages},
		{&costs->rank_step, problem->ranks},
		{&costs->activation_bytes, problem->stages},
		{&costs->pending_bytes, problem->stages},
	};
	int error = 0;

	for (size_t i = 0; i < ARRAY_SIZE(arrays) && !error; i++) {
		const void *array = *arrays[i].array;

		error = own(problem, &array, arrays[i].count * sizeof(double));
		*arrays[i].array = array;
	}
	if (!error) {
		const void *array = costs->link_buffers;

		error = own(problem, &array,
			    2 * (size_t)problem->stages * sizeof(unsigned));
		costs->link_buffers = array;
	}
	if (!error) {
		const void *array = problem->lowering.ties;

		error = own(problem, &array,
			    problem->lowering.tie_count *
				    sizeof(struct schedule_tie));
		problem->lowering.ties = array;
	}
	return error;
}

int search_problem_init(struct search_problem *problem, unsigned ranks,
			unsigned micro_batches, unsigned chunks,
			enum schedule_placement placement,
			const struct schedule_costs *costs,
			const struct schedule_lowering *lowering,
			const double *cap)
{
	struct schedule *schedule =
		schedule_create("", ranks, chunks, micro_batches, placement);
	size_t stages = (size_t)ranks * chunks;

	if (schedule == NULL)
		return -ENOMEM;
	*problem = (struct search_problem){
		.ranks = ranks,
		.chunks = chunks,
		.stages = (unsigned)stages,
		.micro_batches = micro_batches,
		.placement = placement,
		.costs = *costs,
		.lowering = *lowering,
		.cap = cap,
		.rank_of_stage = calloc(stages, sizeof(unsigned)),
		.stage_of_rank = calloc(stages, sizeof(unsigned)),
		.price = calloc(4 * stages, sizeof(double)),
		.kept = calloc(stages, sizeof(double)),
		.left = calloc(stages, sizeof(double)),
		.spare = calloc(ranks, sizeof(double)),
		.input_here = calloc(stages, sizeof(bool)),
		.gradient_here = calloc(stages, sizeof(bool)),
	};
	if (problem->rank_of_stage == NULL || problem->stage_of_rank == NULL ||
	    problem->price == NULL || problem->kept == NULL ||
	    problem->left == NULL || problem->spare == NULL ||
	    problem->input_here == NULL || problem->gradient_here == NULL ||
	    own_arrays(problem)) {
		search_problem_fini(problem);
		schedule_destroy(schedule);
		return fail(-ENOMEM,
			    "no memory to search schedules of %zu "
			    "stages",
			    stages);
	}
	place_stages(problem, schedule);
	price_stages(problem);
	count_bytes(problem);
	schedule_destroy(schedule);
	return 0;
}

void search_problem_fini(struct search_problem *problem)
{
	while (problem->owned_count > 0)
		free(problem->owned[--problem->owned_count]);
	free(problem->gradient_here);
	free(problem->input_here);
	free(problem->spare);
	free(problem->left);
	free(problem->kept);
	free(problem->price);
	free(problem->stage_of_rank);
	free(problem->rank_of_stage);
	*problem = (struct search_problem){0};
}

/* Plans. */

int plan_init(struct plan *plan, const struct search_problem *problem)
{
	plan->width = 3 * (size_t)problem->micro_batches * problem->chunks;
	plan->count = calloc(problem->ranks, sizeof(*plan->count));
	plan->tokens =
		calloc(problem->ranks * plan->width, sizeof(*plan->tokens));
	plan->makespan = INFINITY;
	if (plan->count != NULL && plan->tokens != NULL)
		return 0;
	plan_fini(plan);
	return fail(-ENOMEM, "no memory for a plan of %u ranks",
		    problem->ranks);
}

void plan_fini(struct plan *plan)
{
	free(plan->tokens);
	free(plan->count);
	*plan = (struct plan){0};
}

void plan_copy(struct plan *to, const struct plan *from, unsigned ranks)
{
	memcpy(to->count, from->count, ranks * sizeof(*to->count));
	memcpy(to->tokens, from->tokens,
	       ranks * from->width * sizeof(*to->tokens));
	to->makespan = from->makespan;
}

static void append(struct plan *plan, unsigned rank, unsigned stage,
		   unsigned op)
{
	plan_row(plan, rank)[plan->count[rank]++] = token_of(stage, op);
}

void plan_fill_sequential(struct plan *plan,
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

void plan_progress_init(struct plan_progress *progress,
			const struct search_problem *problem, unsigned rank)
{
	memset(progress->done, 0, problem->chunks * sizeof(progress->done[0]));
	progress->alive = 0;
	progress->cap = problem->cap ? problem->cap[rank] : INFINITY;
}

/* What an operation needs of its own rank. */
static bool is_ready(const struct search_problem *problem,
		     const struct plan_progress *progress, uint16_t token)
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

bool plan_progress_can(const struct plan_progress *progress,
		       const struct search_problem *problem, uint16_t token)
{
	return is_ready(problem, progress, token) &&
	       cap_is_kept(progress->alive + bytes_within(problem, token),
			   progress->cap);
}

/* What an F of the stage must leave free. */
static double bytes_ahead(const struct search_problem *problem,
			  const struct plan_progress *progress, unsigned rank,
			  unsigned stage)
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

bool plan_progress_should(const struct plan_progress *progress,
			  const struct search_problem *problem, unsigned rank,
			  uint16_t token)
{
	double want = progress->alive + bytes_within(problem, token);

	if (!is_ready(problem, progress, token))
		return false;
	if (problem->cap && token_op(token) == ACTION_FORWARD)
		want += bytes_ahead(problem, progress, rank,
				    token_stage(token));
	return cap_is_kept(want, progress->cap);
}

void plan_progress_do(struct plan_progress *progress,
		      const struct search_problem *problem, uint16_t token)
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
	struct plan_progress progress;

	plan_progress_init(&progress, problem, rank);
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
		plan_progress_do(&progress, problem,
				 token_of(action->stage, action->op));
	}
	return true;
}

bool plan_read(struct plan *plan, const struct search_problem *problem,
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

/* The micro-batch of the next action of a token. */
static unsigned next_of(const struct search_problem *problem,
			const struct plan_progress *progress, uint16_t token)
{
	unsigned op = token_op(token);

	if (op == ACTION_BACKWARD)
		op = ACTION_BACKWARD_INPUT;
	return progress->done[token_stage(token) / problem->ranks][op];
}

static int schedule_rank(struct schedule *schedule, const struct plan *plan,
			 const struct search_problem *problem, unsigned rank)
{
	const uint16_t *row = plan_row(plan, rank);
	struct plan_progress progress;
	int error = 0;

	plan_progress_init(&progress, problem, rank);
	for (size_t i = 0; i < plan->count[rank] && !error; i++) {
		error = schedule_row_append(
			&schedule->rows[rank], token_op(row[i]),
			token_stage(row[i]),
			next_of(problem, &progress, row[i]), 0);
		plan_progress_do(&progress, problem, row[i]);
	}
	return error;
}

struct schedule *plan_schedule(const struct plan *plan,
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

void plan_split(struct plan *plan, unsigned ranks)
{
	for (unsigned rank = 0; rank < ranks; rank++)
		split_row(plan_row(plan, rank), &plan->count[rank],
			  plan->width);
}

bool plan_row_is_legal(const struct search_problem *problem, unsigned rank,
		       const uint16_t *tokens, size_t count)
{
	struct plan_progress progress;

	plan_progress_init(&progress, problem, rank);
	for (size_t i = 0; i < count; i++) {
		if (!plan_progress_can(&progress, problem, tokens[i]))
			return false;
		plan_progress_do(&progress, problem, tokens[i]);
	}
	return true;
}

/* The judge. */

struct plan_judge {
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

static int keep_tail(struct plan_judge *judge, unsigned rank)
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
	judge->times[rank] = calloc(room, sizeof(struct schedule_time));
	judge->token[rank] = calloc(room, sizeof(unsigned));
	return judge->times[rank] && judge->token[rank] ? 0 : -ENOMEM;
}

/* A first schedule of this shape, lowered as the caller of the search asks. */
static int lower_first(const struct search_problem *problem,
		       struct schedule **out)
{
	struct schedule *schedule = NULL;
	struct plan plan;
	int error = plan_init(&plan, problem);

	if (error)
		return error;
	plan_fill_sequential(&plan, problem);
	schedule = plan_schedule(&plan, problem, "search");
	error = schedule ? schedule_lower(schedule, &problem->lowering, out)
			 : -ENOMEM;
	schedule_destroy(schedule);
	plan_fini(&plan);
	return error;
}

/* From a run of the first schedule: a rank is as busy in any other. */
static int count_busy(struct plan_judge *judge)
{
	double makespan;
	int error = plan_judge_run(judge, false, INFINITY, &makespan);

	for (unsigned rank = 0; rank < judge->problem->ranks && !error;
	     rank++) {
		const struct walk_rank *state = walk_rank(judge->walk, rank);

		judge->busy[rank] = state->busy + state->sending;
	}
	return error;
}

int plan_judge_create(const struct search_problem *problem,
		      struct plan_judge **out)
{
	struct plan_judge *judge = calloc(1, sizeof(*judge));
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
	plan_judge_destroy(judge);
	return fail(error, "no memory to judge plans of %u ranks", ranks);
}

void plan_judge_destroy(struct plan_judge *judge)
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
			struct plan_progress *progress, unsigned index,
			uint16_t token)
{
	const struct search_problem *problem = writer->problem;
	unsigned stage = token_stage(token);
	unsigned op = token_op(token);
	unsigned m = next_of(problem, progress, token);

	if (op == ACTION_FORWARD)
		write_forward(writer, index, stage, m);
	else if (op == ACTION_BACKWARD_WEIGHT)
		write_action(writer, index, op, stage, m);
	else
		write_backward(writer, index, op, stage, m);
	plan_progress_do(progress, problem, token);
	if (op >= ACTION_BACKWARD_WEIGHT && m + 1 == problem->micro_batches &&
	    (problem->lowering.reduce || problem->lowering.train))
		write_action(writer, index, ACTION_REDUCE_GRAD, stage, 0);
}

void plan_judge_row(struct plan_judge *judge, const struct plan *plan,
		    unsigned rank)
{
	struct schedule_row *row = &judge->lowered->rows[rank];
	const uint16_t *tokens = plan_row(plan, rank);
	struct row_writer writer = {
		.problem = judge->problem,
		.actions = row->actions,
		.token = judge->token[rank],
	};
	struct plan_progress progress;
	size_t tail = judge->tail[rank + 1] - judge->tail[rank];

	plan_progress_init(&progress, judge->problem, rank);
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

void plan_judge_rows(struct plan_judge *judge, const struct plan *plan)
{
	for (unsigned rank = 0; rank < judge->problem->ranks; rank++)
		plan_judge_row(judge, plan, rank);
}

static void set_limit(struct plan_judge *judge, double limit)
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

int plan_judge_run(struct plan_judge *judge, bool times, double limit,
		   double *makespan)
{
	bool finished = false;
	int error;

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

int plan_judge_plan(struct plan_judge *judge, struct plan *plan)
{
	plan_judge_rows(judge, plan);
	return plan_judge_run(judge, false, INFINITY, &plan->makespan);
}

uint64_t plan_judge_steps(const struct plan_judge *judge)
{
	return judge->steps;
}

const struct schedule_row *plan_judge_actions(const struct plan_judge *judge,
					      unsigned rank)
{
	return &judge->lowered->rows[rank];
}

const struct schedule_time *plan_judge_times(const struct plan_judge *judge,
					     unsigned rank)
{
	return judge->times[rank];
}

const unsigned *plan_judge_tokens(const struct plan_judge *judge, unsigned rank)
{
	return judge->token[rank];
}
