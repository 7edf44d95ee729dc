/*
 * The proofs that look at one row at a time.
 *
 * Two passes over a byte of facts per (stage, micro-batch). The first finds
 * what is doubled, foreign or missing, so that the second, which finds what
 * comes before what it needs, can call that an error of order.
 */
#include "base/log.h"
#include "schedules/build.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum fact {
	FACT_FORWARD = 1,
	FACT_INPUT = 2,
	FACT_WEIGHT = 4,
	FACT_SENT_FORWARD = 8,
	FACT_RECEIVED_FORWARD = 16,
	FACT_SENT_BACKWARD = 32,
	FACT_RECEIVED_BACKWARD = 64,
};

/* (stage, micro-batch) pairs an action, and no more are looked at one by one. */
#define PROPORTION 4

struct check {
	const struct schedule *schedule;
	unsigned char *facts;   /* [stages][micro_batches] */
	unsigned *weights_done; /* [stages]: Ws so far */
	bool *reduced;          /* [stages] */
	char **reason;
};

static const unsigned char op_facts[ACTION_OP_COUNT] = {
	[ACTION_FORWARD] = FACT_FORWARD,
	[ACTION_BACKWARD_INPUT] = FACT_INPUT,
	[ACTION_BACKWARD_WEIGHT] = FACT_WEIGHT,
	[ACTION_BACKWARD] = FACT_INPUT | FACT_WEIGHT,
	[ACTION_SEND_FORWARD] = FACT_SENT_FORWARD,
	[ACTION_RECV_FORWARD] = FACT_RECEIVED_FORWARD,
	[ACTION_SEND_BACKWARD] = FACT_SENT_BACKWARD,
	[ACTION_RECV_BACKWARD] = FACT_RECEIVED_BACKWARD,
};

/* The facts in the order of their bits, as cells say them. */
static const unsigned char fact_ops[] = {
	ACTION_FORWARD,       ACTION_BACKWARD_INPUT, ACTION_BACKWARD_WEIGHT,
	ACTION_SEND_FORWARD,  ACTION_RECV_FORWARD,   ACTION_SEND_BACKWARD,
	ACTION_RECV_BACKWARD,
};

static unsigned char *facts_of(const struct check *check, unsigned stage,
			       unsigned micro_batch)
{
	return &check->facts[(size_t)stage * check->schedule->micro_batches +
			     micro_batch];
}

static int refuse(const struct check *check, unsigned rank, size_t position,
		  const char *why)
{
	char cell[32];
	const struct action *action =
		&check->schedule->rows[rank].actions[position];

	schedule_action_text(cell, sizeof(cell), action);
	schedule_reason(check->reason, "rank %u, action %zu (%s): %s", rank,
			position + 1, cell, why);
	return -EINVAL;
}

static int refuse_about(const struct check *check, unsigned rank,
			size_t position, const char *before, unsigned stage,
			unsigned op, const char *after)
{
	char why[160];
	char cell[32];
	const struct action *action =
		&check->schedule->rows[rank].actions[position];
	struct action other = {
		.op = (uint16_t)op,
		.stage = (uint16_t)stage,
		.micro_batch = action->micro_batch,
	};

	schedule_action_text(cell, sizeof(cell), &other);
	snprintf(why, sizeof(why), "%s %s%s", before, cell, after);
	return refuse(check, rank, position, why);
}

static unsigned op_of_fact(unsigned fact)
{
	return fact_ops[__builtin_ctz(fact)];
}

/* Messages this schedule may hold: along links that join two ranks. */
static bool message_is_legal(const struct schedule *schedule,
			     const struct action *action)
{
	if (action->op == ACTION_SEND_BACKWARD && action->stage == 0)
		return false;
	if (action->op == ACTION_SEND_FORWARD &&
	    action->stage + 1u >= schedule->stages)
		return false;
	return link_is_used(schedule, link_of(action));
}

static int refuse_foreign(const struct check *check, unsigned rank,
			  size_t position)
{
	const struct schedule *schedule = check->schedule;
	unsigned stage = schedule->rows[rank].actions[position].stage;
	char why[80];

	snprintf(why, sizeof(why), "stage %u lives on rank %u", stage,
		 schedule->rank_of_stage[stage]);
	return refuse(check, rank, position, why);
}

static int count_action(const struct check *check, unsigned rank,
			size_t position)
{
	const struct schedule *schedule = check->schedule;
	const struct action *action = &schedule->rows[rank].actions[position];
	unsigned fact;
	unsigned char *facts;

	if (action->op >= ACTION_OP_COUNT)
		return refuse(check, rank, position, "unknown operation");
	if (action->stage >= schedule->stages)
		return refuse(check, rank, position, "no such stage");
	if (schedule->rank_of_stage[action->stage] != rank)
		return refuse_foreign(check, rank, position);
	fact = op_facts[action->op];
	if (fact == 0)
		return 0;
	if (action->micro_batch >= schedule->micro_batches)
		return refuse(check, rank, position, "no such micro-batch");
	if (action_is_message(action->op) &&
	    !message_is_legal(schedule, action))
		return refuse(check, rank, position,
			      "no neighbouring stage on another rank to "
			      "exchange this message with");
	facts = facts_of(check, action->stage, action->micro_batch);
	if (*facts & fact)
		return refuse_about(check, rank, position, "does",
				    action->stage, op_of_fact(*facts & fact),
				    " a second time");
	*facts |= (unsigned char)fact;
	return 0;
}

static unsigned facts_wanted(const struct schedule *schedule, unsigned stage)
{
	bool backward = !schedule->forward_only;
	unsigned wanted = FACT_FORWARD;

	if (backward)
		wanted |= FACT_INPUT | FACT_WEIGHT;
	if (!schedule->lowered)
		return wanted;
	if (link_is_used(schedule, 2 * (size_t)stage)) {
		wanted |= FACT_RECEIVED_FORWARD;
		if (backward)
			wanted |= FACT_SENT_BACKWARD;
	}
	if (link_is_used(schedule, 2 * (size_t)stage + 1)) {
		wanted |= FACT_SENT_FORWARD;
		if (backward)
			wanted |= FACT_RECEIVED_BACKWARD;
	}
	return wanted;
}

static bool has_stage(const struct schedule *schedule, unsigned stage)
{
	const struct schedule_row *row =
		&schedule->rows[schedule->rank_of_stage[stage]];

	for (size_t i = 0; i < row->count; i++)
		if (row->actions[i].stage == stage)
			return true;
	return false;
}

static int refuse_missing(const struct check *check, unsigned stage,
			  unsigned micro_batch, unsigned op)
{
	struct action action = {
		.op = (uint16_t)op,
		.stage = (uint16_t)stage,
		.micro_batch = (uint16_t)micro_batch,
	};
	char cell[32];

	schedule_action_text(cell, sizeof(cell), &action);
	if (has_stage(check->schedule, stage))
		schedule_reason(check->reason, "%s is missing (rank %u)", cell,
				check->schedule->rank_of_stage[stage]);
	else
		schedule_reason(check->reason,
				"%s is missing; no rank has stage %u", cell,
				stage);
	return -EINVAL;
}

static int find_missing(const struct check *check)
{
	const struct schedule *schedule = check->schedule;

	for (unsigned stage = 0; stage < schedule->stages; stage++) {
		unsigned wanted = facts_wanted(schedule, stage);

		for (unsigned m = 0; m < schedule->micro_batches; m++) {
			unsigned got = *facts_of(check, stage, m);
			unsigned absent = wanted & ~got;

			if (absent)
				return refuse_missing(check, stage, m,
						      op_of_fact(absent));
		}
	}
	return 0;
}

static int find_wrong_count(const struct check *check)
{
	const struct schedule *schedule = check->schedule;

	for (unsigned rank = 0; rank < schedule->ranks; rank++)
		for (size_t i = 0; i < schedule->rows[rank].count; i++) {
			int error = count_action(check, rank, i);

			if (error)
				return error;
		}
	return find_missing(check);
}

static const char later[] = ", which this rank does only later";

/* What `action` needs of its own rank, beyond its message. */
static int order_compute(const struct check *check, unsigned rank,
			 size_t position, const struct action *action)
{
	const struct schedule *schedule = check->schedule;
	unsigned stage = action->stage;
	unsigned m = action->micro_batch;
	unsigned have = *facts_of(check, stage, m);
	size_t link = 2 * (size_t)stage + (action->op != ACTION_FORWARD);
	bool forward = action->op == ACTION_FORWARD;
	bool last = forward ? stage == 0 : stage + 1 == schedule->stages;

	if (action->op == ACTION_BACKWARD_WEIGHT)
		return have & FACT_INPUT
			       ? 0
			       : refuse_about(check, rank, position, "needs",
					      stage, ACTION_BACKWARD_INPUT,
					      later);
	if (!forward && !(have & FACT_FORWARD))
		return refuse_about(check, rank, position, "needs", stage,
				    ACTION_FORWARD, later);
	if (last)
		return 0;
	if (!link_is_used(schedule, link)) {
		unsigned neighbour = link_sender(link);
		unsigned fact = forward ? FACT_FORWARD : FACT_INPUT;

		if (*facts_of(check, neighbour, m) & fact)
			return 0;
		return refuse_about(check, rank, position, "needs", neighbour,
				    op_of_fact(fact), later);
	}
	if (!schedule->lowered ||
	    have & (forward ? FACT_RECEIVED_FORWARD : FACT_RECEIVED_BACKWARD))
		return 0;
	return refuse_about(
		check, rank, position, "needs", stage,
		forward ? ACTION_RECV_FORWARD : ACTION_RECV_BACKWARD, later);
}

static int order_send(const struct check *check, unsigned rank, size_t position,
		      const struct action *action)
{
	unsigned have = *facts_of(check, action->stage, action->micro_batch);
	bool forward = action->op == ACTION_SEND_FORWARD;

	if (have & (forward ? FACT_FORWARD : FACT_INPUT))
		return 0;
	return refuse_about(
		check, rank, position, "sends the result of", action->stage,
		forward ? ACTION_FORWARD : ACTION_BACKWARD_INPUT, later);
}

static int order_reduce(const struct check *check, unsigned rank,
			size_t position, const struct action *action)
{
	if (check->weights_done[action->stage] !=
	    check->schedule->micro_batches)
		return refuse(check, rank, position,
			      "the stage's last W is still to come");
	if (action->op != ACTION_REDUCE_GRAD)
		return 0;
	if (check->reduced[action->stage])
		return refuse(check, rank, position, "a second time");
	check->reduced[action->stage] = true;
	return 0;
}

/*
 * An overlapped pair is an F and an I or B, side by side, neither of which
 * needs the other.
 */
static int check_group(const struct check *check, unsigned rank,
		       size_t position)
{
	const struct schedule_row *row = &check->schedule->rows[rank];
	const struct action *first = &row->actions[position];
	const struct action *second = first + 1;

	if (position + 1 >= row->count || second->group != first->group)
		return refuse(check, rank, position,
			      "an overlapped pair of one action only");
	if (position + 2 < row->count && second[1].group == first->group)
		return refuse(check, rank, position,
			      "more than two overlapped actions");
	if (first->op != ACTION_FORWARD ||
	    (second->op != ACTION_BACKWARD &&
	     second->op != ACTION_BACKWARD_INPUT))
		return refuse(check, rank, position,
			      "an overlapped pair must be F and B, or F and I");
	if (first->stage == second->stage &&
	    first->micro_batch == second->micro_batch)
		return refuse(check, rank, position,
			      "the second of an overlapped pair needs the "
			      "first");
	return 0;
}

static int order_action(struct check *check, unsigned rank, size_t position)
{
	const struct action *action =
		&check->schedule->rows[rank].actions[position];
	int error = 0;

	if (action_is_compute(action->op))
		error = order_compute(check, rank, position, action);
	else if (action_is_send(action->op))
		error = order_send(check, rank, position, action);
	else if (action->op == ACTION_REDUCE_GRAD ||
		 action->op == ACTION_REDUCE_TIED)
		error = order_reduce(check, rank, position, action);
	if (error)
		return error;
	if (action->group != 0 &&
	    (position == 0 || action[-1].group != action->group))
		error = check_group(check, rank, position);
	if (op_facts[action->op])
		*facts_of(check, action->stage, action->micro_batch) |=
			op_facts[action->op];
	if (op_facts[action->op] & FACT_WEIGHT)
		check->weights_done[action->stage]++;
	return error;
}

/*
 * REDUCE_TIED, VOTE and STEP wait for other ranks, so they end the row, in
 * this order: there they cannot close a cycle.
 */
static int check_tail(const struct check *check, unsigned rank)
{
	const struct schedule_row *row = &check->schedule->rows[rank];
	const struct action *last = NULL;

	for (size_t i = 0; i < row->count; i++) {
		const struct action *action = &row->actions[i];

		if (last == NULL && action->op < ACTION_REDUCE_TIED)
			continue;
		if (action->op < ACTION_REDUCE_TIED)
			return refuse(check, rank, i,
				      "REDUCE_TIED, VOTE and STEP must end a "
				      "row");
		if (last && (action->op < last->op ||
			     (action->op == last->op &&
			      (action->op != ACTION_REDUCE_TIED ||
			       action->micro_batch <= last->micro_batch))))
			return refuse(check, rank, i,
				      "REDUCE_TIED (ascending), VOTE and STEP "
				      "must be in this order, once");
		last = action;
	}
	if (last && last->op == ACTION_VOTE)
		return refuse(check, rank, row->count - 1,
			      "VOTE without a STEP behind it");
	return 0;
}

/* VOTE gathers all ranks: all of them vote and step, or none. */
static int check_votes(const struct check *check)
{
	const struct schedule *schedule = check->schedule;
	unsigned votes = 0;

	for (unsigned rank = 0; rank < schedule->ranks; rank++) {
		const struct schedule_row *row = &schedule->rows[rank];
		size_t count = row->count;
		bool votes_here =
			count >= 2 && row->actions[count - 2].op == ACTION_VOTE;
		bool steps =
			count >= 1 && row->actions[count - 1].op == ACTION_STEP;

		if (steps && !votes_here)
			return refuse(check, rank, count - 1,
				      "STEP without a VOTE before it");
		votes += votes_here;
	}
	if (votes != 0 && votes != schedule->ranks) {
		schedule_reason(check->reason,
				"%u of %u ranks VOTE; all must, or none", votes,
				schedule->ranks);
		return -EINVAL;
	}
	return 0;
}

static int find_wrong_order(struct check *check)
{
	const struct schedule *schedule = check->schedule;
	size_t cells = (size_t)schedule->stages * schedule->micro_batches;
	int error = 0;

	for (size_t i = 0; i < cells; i++)
		check->facts[i] = 0;
	for (unsigned rank = 0; rank < schedule->ranks && !error; rank++) {
		for (size_t i = 0; i < schedule->rows[rank].count && !error;
		     i++)
			error = order_action(check, rank, i);
		if (!error)
			error = check_tail(check, rank);
	}
	return error ? error : check_votes(check);
}

/*
 * A few bytes may name the last stage and micro-batch. Where there are far
 * more cells than actions, some F is missing: among the first `actions` + 1
 * cells one must be, so memory stays in proportion to the schedule.
 */
static int find_disproportion(const struct check *check)
{
	const struct schedule *schedule = check->schedule;
	size_t cells = (size_t)schedule->stages * schedule->micro_batches;
	size_t actions = 0;
	size_t missing = 0;
	unsigned char *seen;

	for (unsigned rank = 0; rank < schedule->ranks; rank++)
		actions += schedule->rows[rank].count;
	if (cells <= PROPORTION * (actions + 1024))
		return 0;
	seen = calloc(actions + 1, 1);
	if (seen == NULL)
		return fail(-ENOMEM, "no memory to check %zu actions", actions);
	for (unsigned rank = 0; rank < schedule->ranks; rank++)
		for (size_t i = 0; i < schedule->rows[rank].count; i++) {
			const struct action *action =
				&schedule->rows[rank].actions[i];
			size_t cell = (size_t)action->stage *
					      schedule->micro_batches +
				      action->micro_batch;

			if (action->op == ACTION_FORWARD && cell <= actions)
				seen[cell] = 1;
		}
	while (seen[missing])
		missing++;
	free(seen);
	return refuse_missing(
		check, (unsigned)(missing / schedule->micro_batches),
		(unsigned)(missing % schedule->micro_batches), ACTION_FORWARD);
}

int schedule_check_rows(const struct schedule *schedule, char **reason)
{
	struct check check = {.schedule = schedule, .reason = reason};
	int error;

	*reason = NULL;
	error = find_disproportion(&check);
	if (error)
		return error == -EINVAL && *reason == NULL ? -ENOMEM : error;
	error = -ENOMEM;
	check.facts = calloc(schedule->stages, schedule->micro_batches);
	check.weights_done = calloc(schedule->stages, sizeof(unsigned));
	check.reduced = calloc(schedule->stages, sizeof(bool));
	if (check.facts == NULL || check.weights_done == NULL ||
	    check.reduced == NULL)
		log_error("no memory to check a schedule of %u stages and %u "
			  "micro-batches",
			  schedule->stages, schedule->micro_batches);
	else
		error = find_wrong_count(&check);
	if (error == 0)
		error = find_wrong_order(&check);
	if (error == -EINVAL && *reason == NULL)
		error = -ENOMEM;
	free(check.reduced);
	free(check.weights_done);
	free(check.facts);
	return error;
}
