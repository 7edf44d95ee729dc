/*
 * Lowering: from compute actions to actions with messages.
 *
 * Sends stand where their data is born; that fixes the order of the messages
 * on every link. A receive stands before its use, together with the receives of
 * all messages sent before it on the same link and not yet taken: so both
 * ends see one order.
 */
#include "base/log.h"
#include "schedules/build.h"
#include <errno.h>
#include <stdlib.h>

struct lowering {
	const struct schedule *from;
	struct schedule *to;
	const struct schedule_lowering *options;
	/* By link and order of sending: the micro-batch; and its inverse. */
	uint16_t *message; /* [2 * stages][micro_batches] */
	uint16_t *turn;
	unsigned *sent;     /* [2 * stages] */
	unsigned *received; /* [2 * stages] */
	unsigned *weights;  /* [stages]: Ws so far */
	bool *reduced;      /* [stages] */
};

/* The link the result of a compute action leaves by; false if by none. */
static bool link_out(const struct schedule *schedule,
		     const struct action *action, size_t *link)
{
	if (action->op == ACTION_FORWARD) {
		if (action->stage + 1u >= schedule->stages)
			return false;
		*link = 2 * ((size_t)action->stage + 1);
	} else if (action->op == ACTION_BACKWARD ||
		   action->op == ACTION_BACKWARD_INPUT) {
		if (action->stage == 0)
			return false;
		*link = 2 * ((size_t)action->stage - 1) + 1;
	} else {
		return false;
	}
	return link_is_used(schedule, *link);
}

/* The link a compute action gets its input or gradient by. */
static bool link_in(const struct schedule *schedule,
		    const struct action *action, size_t *link)
{
	if (!action_is_compute(action->op) ||
	    action->op == ACTION_BACKWARD_WEIGHT)
		return false;
	*link = 2 * (size_t)action->stage + (action->op != ACTION_FORWARD);
	return link_is_used(schedule, *link);
}

static void order_messages(struct lowering *lowering)
{
	const struct schedule *from = lowering->from;

	for (unsigned rank = 0; rank < from->ranks; rank++)
		for (size_t i = 0; i < from->rows[rank].count; i++) {
			const struct action *action =
				&from->rows[rank].actions[i];
			size_t link;
			size_t first;

			if (!link_out(from, action, &link))
				continue;
			first = link * from->micro_batches;
			lowering->turn[first + action->micro_batch] =
				(uint16_t)lowering->sent[link];
			lowering->message[first + lowering->sent[link]++] =
				action->micro_batch;
		}
}

static int add_receives(struct lowering *lowering, struct schedule_row *row,
			const struct action *action)
{
	size_t first;
	size_t link;
	unsigned until;
	int error = 0;

	if (!link_in(lowering->from, action, &link))
		return 0;
	first = link * lowering->from->micro_batches;
	until = lowering->turn[first + action->micro_batch] + 1u;
	while (lowering->received[link] < until && !error)
		error = schedule_row_append(
			row,
			link % 2 == 0 ? ACTION_RECV_FORWARD
				      : ACTION_RECV_BACKWARD,
			action->stage,
			lowering->message[first + lowering->received[link]++],
			0);
	return error;
}

static int add_send(struct lowering *lowering, struct schedule_row *row,
		    const struct action *action)
{
	size_t link;

	if (!link_out(lowering->from, action, &link))
		return 0;
	return schedule_row_append(row,
				   action->op == ACTION_FORWARD
					   ? ACTION_SEND_FORWARD
					   : ACTION_SEND_BACKWARD,
				   action->stage, action->micro_batch, 0);
}

static bool wants_reduce(const struct lowering *lowering)
{
	return lowering->options != NULL && !lowering->from->forward_only &&
	       (lowering->options->reduce || lowering->options->train);
}

static bool wants_train(const struct lowering *lowering)
{
	return lowering->options != NULL && !lowering->from->forward_only &&
	       lowering->options->train;
}

static bool keeps_pairs(const struct lowering *lowering)
{
	return lowering->options != NULL && lowering->options->pairs;
}

static int add_reduce(struct lowering *lowering, struct schedule_row *row,
		      const struct action *action)
{
	if (action->op != ACTION_BACKWARD &&
	    action->op != ACTION_BACKWARD_WEIGHT)
		return 0;
	if (++lowering->weights[action->stage] <
		    lowering->from->micro_batches ||
	    !wants_reduce(lowering))
		return 0;
	lowering->reduced[action->stage] = true;
	return schedule_row_append(row, ACTION_REDUCE_GRAD, action->stage, 0,
				   0);
}

/* One action, or a pair that stays together. */
static int lower_group(struct lowering *lowering, struct schedule_row *row,
		       const struct action *actions, size_t count)
{
	int error = 0;

	for (size_t i = 0; i < count && !error; i++)
		error = add_receives(lowering, row, &actions[i]);
	for (size_t i = 0; i < count && !error; i++)
		error = schedule_row_append(row, actions[i].op,
					    actions[i].stage,
					    actions[i].micro_batch,
					    count > 1 ? actions[i].group : 0);
	for (size_t i = 0; i < count && !error; i++)
		error = add_send(lowering, row, &actions[i]);
	for (size_t i = 0; i < count && !error; i++)
		error = add_reduce(lowering, row, &actions[i]);
	return error;
}

static int lower_row(struct lowering *lowering, unsigned rank)
{
	const struct schedule_row *from = &lowering->from->rows[rank];
	struct schedule_row *row = &lowering->to->rows[rank];
	size_t count;
	int error = 0;

	for (size_t i = 0; i < from->count && !error; i += count) {
		const struct action *action = &from->actions[i];

		count = 1;
		if (wants_train(lowering) && action->op > ACTION_REDUCE_GRAD)
			break;
		if (action->op == ACTION_REDUCE_GRAD &&
		    lowering->reduced[action->stage])
			continue; /* added behind the last W */
		while (keeps_pairs(lowering) && action->group != 0 &&
		       i + count < from->count &&
		       action[count].group == action->group)
			count++;
		error = lower_group(lowering, row, action, count);
	}
	return error;
}

/* REDUCE_GRAD of the rank's stages that have none yet. */
static int add_missing_reduces(struct lowering *lowering, unsigned rank)
{
	const struct schedule *from = lowering->from;
	int error = 0;

	for (unsigned stage = 0;
	     stage < from->stages && wants_reduce(lowering) && !error;
	     stage++) {
		if (lowering->reduced[stage] ||
		    from->rank_of_stage[stage] != rank)
			continue;
		lowering->reduced[stage] = true;
		error = schedule_row_append(&lowering->to->rows[rank],
					    ACTION_REDUCE_GRAD, stage, 0, 0);
	}
	return error;
}

/*
 * A row that has its messages already is taken as it is; what it lacks goes
 * before its tail, which `train` makes anew.
 */
static int copy_row(struct lowering *lowering, unsigned rank)
{
	const struct schedule_row *from = &lowering->from->rows[rank];
	struct schedule_row *row = &lowering->to->rows[rank];
	size_t tail = from->count;
	int error = 0;

	while (tail > 0 && from->actions[tail - 1].op > ACTION_REDUCE_GRAD)
		tail--;
	for (size_t i = 0; i < from->count && !error; i++) {
		const struct action *action = &from->actions[i];

		if (i == tail)
			error = add_missing_reduces(lowering, rank);
		if (error || (i >= tail && wants_train(lowering)))
			break;
		if (action->op == ACTION_REDUCE_GRAD)
			lowering->reduced[action->stage] = true;
		error = schedule_row_append(row, action->op, action->stage,
					    action->micro_batch, action->group);
	}
	return error ? error : add_missing_reduces(lowering, rank);
}

static int add_ties(struct lowering *lowering, unsigned rank)
{
	const unsigned *rank_of = lowering->from->rank_of_stage;
	struct schedule_row *row = &lowering->to->rows[rank];
	int error = 0;

	for (size_t i = 0; i < lowering->options->tie_count && !error; i++) {
		const struct schedule_tie *tie = &lowering->options->ties[i];

		ASSERT(tie->first_stage < lowering->from->stages &&
		       tie->second_stage < lowering->from->stages);
		if (rank_of[tie->first_stage] == rank)
			error = schedule_row_append(row, ACTION_REDUCE_TIED,
						    tie->first_stage,
						    (unsigned)i, 0);
		else if (rank_of[tie->second_stage] == rank)
			error = schedule_row_append(row, ACTION_REDUCE_TIED,
						    tie->second_stage,
						    (unsigned)i, 0);
	}
	return error;
}

static int add_tail(struct lowering *lowering, unsigned rank)
{
	struct schedule_row *row = &lowering->to->rows[rank];
	unsigned stage = schedule_first_stage(lowering->from, rank);
	int error;

	if (!wants_train(lowering))
		return 0;
	error = add_ties(lowering, rank);
	if (!error)
		error = schedule_row_append(row, ACTION_VOTE, stage, 0, 0);
	if (!error)
		error = schedule_row_append(row, ACTION_STEP, stage, 0, 0);
	return error;
}

static int lowering_init(struct lowering *lowering)
{
	size_t links = 2 * (size_t)lowering->from->stages;
	size_t messages = links * lowering->from->micro_batches;

	lowering->to = schedule_create_like(lowering->from);
	if (lowering->to == NULL)
		return -ENOMEM;
	lowering->message = calloc(messages, sizeof(uint16_t));
	lowering->turn = calloc(messages, sizeof(uint16_t));
	lowering->sent = calloc(links, sizeof(unsigned));
	lowering->received = calloc(links, sizeof(unsigned));
	lowering->weights = calloc(lowering->from->stages, sizeof(unsigned));
	lowering->reduced = calloc(lowering->from->stages, sizeof(bool));
	if (lowering->message == NULL || lowering->turn == NULL ||
	    lowering->sent == NULL || lowering->received == NULL ||
	    lowering->weights == NULL || lowering->reduced == NULL)
		return fail(-ENOMEM,
			    "no memory to lower a schedule of %u "
			    "stages and %u micro-batches",
			    lowering->from->stages,
			    lowering->from->micro_batches);
	return 0;
}

static void lowering_fini(struct lowering *lowering)
{
	free(lowering->reduced);
	free(lowering->weights);
	free(lowering->received);
	free(lowering->sent);
	free(lowering->turn);
	free(lowering->message);
	schedule_destroy(lowering->to);
}

int schedule_lower(const struct schedule *schedule,
		   const struct schedule_lowering *options,
		   struct schedule **out)
{
	struct lowering lowering = {.from = schedule, .options = options};
	char *reason;
	int error = schedule_check_rows(schedule, &reason);

	if (error) {
		if (error == -EINVAL)
			log_error("schedule %s: %s", schedule->name, reason);
		free(reason);
		return error;
	}
	error = lowering_init(&lowering);
	if (!error && !schedule->lowered)
		order_messages(&lowering);
	for (unsigned rank = 0; rank < schedule->ranks && !error; rank++) {
		error = schedule->lowered ? copy_row(&lowering, rank)
					  : lower_row(&lowering, rank);
		if (!error)
			error = add_tail(&lowering, rank);
	}
	if (!error) {
		lowering.to->lowered = true;
		*out = lowering.to;
		lowering.to = NULL;
	}
	lowering_fini(&lowering);
	return error;
}
