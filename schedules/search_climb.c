/*
 * Moves along the critical path: see search_climb.h.
 */
#include "schedules/search_climb.h"
#include "base/clock.h"
#include "base/log.h"
#include "schedules/build.h"
#include "schedules/walk.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/*
 * A stretch of a row that the critical path runs along without a wait: tokens
 * [first, last]. Before it the rank waited (or the row began); behind it the
 * path goes on with a message to another rank (or the row ended).
 */
struct block {
	unsigned rank;
	unsigned first;
	unsigned last;
	bool begins; /* the row */
	bool ends;
};

struct move {
	unsigned rank;
	unsigned from; /* token */
	unsigned to;   /* its place when done */
};

/* How far an operation is moved that is not on the path. */
#define KICK 8
/* Draws without a move after which the path is left for a while. */
#define DEAD_END 300
/* And after which there is nothing at all to be moved. */
#define STUCK 3000

struct search_climb {
	const struct search_problem *problem;
	struct search_judge *judge;
	struct search_plan plan;
	struct search_plan best;
	struct block *blocks;
	size_t block_count;
	size_t block_room;
	size_t token_count; /* of all blocks */
	unsigned *sends;    /* [2 * stages][micro_batches]: place in its row */
	unsigned *receives;
	struct random_key key;
	uint64_t counter;
};

int search_climb_create(const struct search_problem *problem,
			struct search_judge *judge, struct search_climb **out)
{
	struct search_climb *climb = calloc(1, sizeof(*climb));
	size_t messages = 2 * (size_t)problem->stages * problem->micro_batches;
	int error = -ENOMEM;

	if (climb == NULL)
		goto err;
	climb->problem = problem;
	climb->judge = judge;
	/* The path passes through each operation once at most. */
	climb->block_room =
		3 * (size_t)problem->stages * problem->micro_batches;
	climb->blocks = calloc(climb->block_room, sizeof(*climb->blocks));
	climb->sends = calloc(messages, sizeof(unsigned));
	climb->receives = calloc(messages, sizeof(unsigned));
	if (climb->blocks == NULL || climb->sends == NULL ||
	    climb->receives == NULL)
		goto err;
	error = search_plan_init(&climb->plan, problem);
	if (!error)
		error = search_plan_init(&climb->best, problem);
	if (error)
		goto err;
	*out = climb;
	return 0;
err:
	search_climb_destroy(climb);
	return fail(error, "no memory to search schedules of %u ranks",
		    problem->ranks);
}

void search_climb_destroy(struct search_climb *climb)
{
	if (climb == NULL)
		return;
	search_plan_fini(&climb->best);
	search_plan_fini(&climb->plan);
	free(climb->receives);
	free(climb->sends);
	free(climb->blocks);
	free(climb);
}

static uint64_t draw(struct search_climb *climb, uint64_t bound)
{
	return random_below(climb->key, climb->counter++, bound);
}

/* The critical path. */

static void find_messages(struct search_climb *climb)
{
	const struct search_problem *problem = climb->problem;

	for (unsigned rank = 0; rank < problem->ranks; rank++) {
		const struct schedule_row *row =
			search_judge_actions(climb->judge, rank);

		for (unsigned i = 0; i < row->count; i++) {
			const struct action *action = &row->actions[i];
			unsigned *places = action_is_send(action->op)
						   ? climb->sends
						   : climb->receives;

			if (action_is_message(action->op))
				places[link_of(action) *
					       problem->micro_batches +
				       action->micro_batch] = i;
		}
	}
}

/* A place in a row; the path comes to the end of that action. */
struct place {
	unsigned rank;
	unsigned action;
};

static bool find_before_tail(const struct schedule_row *row, unsigned *action)
{
	size_t count = row->count;

	while (count > 0 && row->actions[count - 1].op >= ACTION_REDUCE_TIED)
		count--;
	*action = (unsigned)count - 1;
	return count > 0;
}

/* The row that all wait for in the end. */
static struct place find_end(const struct search_climb *climb)
{
	struct place place = {0};
	double latest = -1;

	for (unsigned rank = 0; rank < climb->problem->ranks; rank++) {
		const struct schedule_row *row =
			search_judge_actions(climb->judge, rank);
		double end;
		unsigned last;

		if (!find_before_tail(row, &last))
			continue;
		end = search_judge_times(climb->judge, rank)[last].end;
		if (row->count > last + 1 &&
		    row->actions[last + 1].op == ACTION_REDUCE_TIED)
			end += climb->problem->costs.reduce_tied;
		if (end > latest) {
			latest = end;
			place = (struct place){rank, last};
		}
	}
	return place;
}

/* Was the wire still taken when the message of this send was handed over? */
static bool found_wire_taken(const struct search_climb *climb,
			     struct place place, size_t link)
{
	const struct schedule_costs *costs = &climb->problem->costs;
	const struct schedule_time *time =
		&search_judge_times(climb->judge, place.rank)[place.action];
	double travel = link_transfer(costs, link) + link_latency(costs, link);

	return time->arrival > (time->end + travel) * (1 + 1e-12);
}

/*
 * Where a message comes from that the path waited for. As long as the wire was
 * taken, the path goes on with the message before it.
 */
static struct place find_sender(const struct search_climb *climb, size_t link,
				unsigned m)
{
	const struct search_problem *problem = climb->problem;
	unsigned receiver = problem->rank_of_stage[link_receiver(link)];
	struct place place = {
		.rank = problem->rank_of_stage[link_sender(link)],
		.action = climb->sends[link * problem->micro_batches + m],
	};
	const struct schedule_row *row =
		search_judge_actions(climb->judge, place.rank);

	for (unsigned i = place.action;
	     i > 0 && found_wire_taken(climb, place, link); i--) {
		const struct action *action = &row->actions[i - 1];
		size_t other;

		if (!action_is_send(action->op))
			continue;
		other = link_of(action);
		if (problem->rank_of_stage[link_receiver(other)] != receiver)
			continue;
		place.action = i - 1;
		link = other;
	}
	return place;
}

/* What posts the receive that a send waited for. */
static struct place find_receiver(const struct search_climb *climb, size_t link,
				  unsigned m)
{
	const struct search_problem *problem = climb->problem;
	unsigned buffers = link_buffers(&problem->costs, link);
	struct place place = {
		.rank = problem->rank_of_stage[link_receiver(link)],
	};

	place.action =
		climb->receives[link * problem->micro_batches + m - buffers];
	/* At rendezvous the receiver must have come to it, no more. */
	if (buffers == 0 && place.action > 0)
		place.action--;
	return place;
}

static struct place find_cause(const struct search_climb *climb,
			       struct place place)
{
	const struct action *action =
		&search_judge_actions(climb->judge, place.rank)
			 ->actions[place.action];
	size_t link = link_of(action);

	return action_is_send(action->op)
		       ? find_receiver(climb, link, action->micro_batch)
		       : find_sender(climb, link, action->micro_batch);
}

/* Did the rank wait at this action? */
static bool is_wait(const struct search_climb *climb, struct place place)
{
	const struct schedule_time *time =
		&search_judge_times(climb->judge, place.rank)[place.action];

	return time->ready > time->start;
}

/*
 * A message that came just when its rank did: two paths are critical from here
 * on, and either will do.
 */
static bool turns_off(struct search_climb *climb, struct place place)
{
	const struct action *action =
		&search_judge_actions(climb->judge, place.rank)
			 ->actions[place.action];
	struct place cause;

	if (!action_is_recv(action->op))
		return false;
	cause = find_cause(climb, place);
	return search_judge_times(climb->judge, cause.rank)[cause.action]
			       .arrival ==
		       search_judge_times(climb->judge,
					  place.rank)[place.action]
			       .start &&
	       draw(climb, 2) == 0;
}

/* Goes back along the row to where the path comes from another rank, or 0. */
static bool find_turn(struct search_climb *climb, struct place *place)
{
	while (!is_wait(climb, *place) && !turns_off(climb, *place)) {
		if (place->action == 0)
			return false;
		place->action--;
	}
	return true;
}

static void find_blocks(struct search_climb *climb)
{
	struct place place = find_end(climb);
	bool ends = true;

	climb->block_count = 0;
	climb->token_count = 0;
	while (climb->block_count < climb->block_room) {
		const unsigned *tokens =
			search_judge_tokens(climb->judge, place.rank);
		struct block block = {
			.rank = place.rank,
			.last = tokens[place.action],
			.ends = ends,
		};

		block.begins = !find_turn(climb, &place);
		block.first = tokens[place.action];
		climb->blocks[climb->block_count++] = block;
		climb->token_count += block.last - block.first + 1;
		if (block.begins)
			break;
		place = find_cause(climb, place);
		ends = false;
	}
}

/* Moves. */

static void shift(uint16_t *row, unsigned from, unsigned to)
{
	uint16_t token = row[from];

	if (from < to)
		memmove(row + from, row + from + 1, (to - from) * sizeof(*row));
	else
		memmove(row + to + 1, row + to, (from - to) * sizeof(*row));
	row[to] = token;
}

/* Any operation of the path, each with the same chance. */
static const struct block *draw_block(struct search_climb *climb,
				      unsigned *token)
{
	uint64_t at = draw(climb, climb->token_count);

	for (size_t i = 0;; i++) {
		const struct block *block = &climb->blocks[i];
		unsigned count = block->last - block->first + 1;

		if (at < count) {
			*token = block->first + (unsigned)at;
			return block;
		}
		at -= count;
	}
}

/* False: this draw gives none. */
static bool draw_move(struct search_climb *climb, struct move *move)
{
	unsigned token;
	const struct block *block = draw_block(climb, &token);
	const uint16_t *row = search_plan_row(&climb->plan, block->rank);
	bool later = draw(climb, 2) == 0;

	*move = (struct move){.rank = block->rank, .from = token};
	if (later ? block->ends || token == block->last
		  : block->begins || token == block->first)
		return false;
	move->to = later ? block->last : block->first;
	return row[move->from] != row[move->to];
}

/* Anywhere, a little way. */
static bool draw_kick(struct search_climb *climb, struct move *move)
{
	unsigned rank = (unsigned)draw(climb, climb->problem->ranks);
	const uint16_t *row = search_plan_row(&climb->plan, rank);
	unsigned count = (unsigned)climb->plan.count[rank];
	unsigned way = 1 + (unsigned)draw(climb, KICK);

	*move = (struct move){.rank = rank,
			      .from = (unsigned)draw(climb, count)};
	if (draw(climb, 2) == 0) {
		if (move->from + way >= count)
			return false;
		move->to = move->from + way;
	} else {
		if (way > move->from)
			return false;
		move->to = move->from - way;
	}
	return row[move->from] != row[move->to];
}

static bool move_is_legal(struct search_climb *climb, const struct move *move)
{
	uint16_t *row = search_plan_row(&climb->plan, move->rank);

	shift(row, move->from, move->to);
	if (search_plan_row_is_legal(climb->problem, move->rank, row,
				     climb->plan.count[move->rank]))
		return true;
	shift(row, move->to, move->from);
	return false;
}

static void take_back(struct search_climb *climb, const struct move *move)
{
	shift(search_plan_row(&climb->plan, move->rank), move->to, move->from);
	search_judge_row(climb->judge, &climb->plan, move->rank);
}

/* The longest makespan to accept, drawn before it is known. */
static double draw_limit(struct search_climb *climb, double heat)
{
	double chance = random_uniform(climb->key, climb->counter++);

	return climb->plan.makespan - heat * log(1 - chance);
}

static int try_move(struct search_climb *climb, const struct move *move,
		    double heat, unsigned *idle)
{
	double limit = draw_limit(climb, heat);
	double makespan;
	int error;

	search_judge_row(climb->judge, &climb->plan, move->rank);
	error = search_judge_run(climb->judge, true, limit, &makespan);
	if (error)
		return error;
	if (makespan > limit) {
		take_back(climb, move);
		return 0;
	}
	*idle = 0;
	climb->plan.makespan = makespan;
	if (makespan < climb->best.makespan)
		search_plan_copy(&climb->best, &climb->plan,
				 climb->problem->ranks);
	find_messages(climb);
	find_blocks(climb);
	return 0;
}

static int climb_start(struct search_climb *climb,
		       const struct search_plan *plan)
{
	int error;

	search_plan_copy(&climb->plan, plan, climb->problem->ranks);
	search_plan_copy(&climb->best, plan, climb->problem->ranks);
	search_judge_rows(climb->judge, &climb->plan);
	error = search_judge_run(climb->judge, true, INFINITY,
				 &climb->plan.makespan);
	if (error || climb->plan.makespan == INFINITY)
		return error;
	find_messages(climb);
	find_blocks(climb);
	return 0;
}

int search_climb_run(struct search_climb *climb, struct search_plan *plan,
		     const struct search_climb_effort *effort)
{
	uint64_t first = search_judge_steps(climb->judge);
	uint64_t used = 0;
	unsigned idle = 0; /* draws that gave nothing, in a row */
	int error;

	climb->key = effort->key;
	climb->counter = 0;
	error = climb_start(climb, plan);
	while (!error && climb->plan.makespan < INFINITY &&
	       climb->best.makespan > effort->goal && used < effort->steps &&
	       idle < STUCK) {
		double left = 1 - (double)used / (double)effort->steps;
		double heat = effort->heat * climb->plan.makespan * left * left;
		struct move move;

		if (!(idle < DEAD_END ? draw_move(climb, &move)
				      : draw_kick(climb, &move)) ||
		    !move_is_legal(climb, &move)) {
			idle++;
			continue;
		}
		/* A path that is left for a kick that is of no use stays left. */
		idle = idle < DEAD_END ? 0 : DEAD_END;
		error = try_move(climb, &move, heat, &idle);
		used = search_judge_steps(climb->judge) - first;
		if (effort->until && clock_now_ns() > effort->until)
			break;
	}
	if (!error)
		search_plan_copy(plan, &climb->best, climb->problem->ranks);
	return error;
}
