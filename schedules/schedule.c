/*
 * Storage of schedules: create, append, destroy; names of operations.
 */
#include "schedules/schedule.h"
#include "base/checked.h"
#include "base/log.h"
#include "base/text.h"
#include "schedules/build.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static unsigned place_stage(enum schedule_placement placement, unsigned ranks,
			    unsigned stage)
{
	unsigned lap = stage / ranks;
	unsigned position = stage % ranks;

	switch (placement) {
	case SCHEDULE_PLACEMENT_V:
		return lap % 2 == 0 ? position : ranks - 1 - position;
	case SCHEDULE_PLACEMENT_LOOP:
		return position;
	default:
		return 0;
	}
}

struct schedule *schedule_create(const char *name, unsigned ranks,
				 unsigned chunks, unsigned micro_batches,
				 enum schedule_placement placement)
{
	struct schedule *schedule = calloc(1, sizeof(*schedule));
	size_t stages = (size_t)ranks * chunks;

	ASSERT(stages > 0 && stages <= SCHEDULE_MAX_STAGES);
	if (schedule == NULL)
		goto err;
	schedule->rank_of_stage = calloc(stages, sizeof(unsigned));
	schedule->rows = calloc(ranks, sizeof(*schedule->rows));
	if (schedule->rank_of_stage == NULL || schedule->rows == NULL)
		goto err;
	(void)text_copy(schedule->name, sizeof(schedule->name), name);
	schedule->ranks = ranks;
	schedule->chunks = chunks;
	schedule->stages = (unsigned)stages;
	schedule->micro_batches = micro_batches;
	schedule->placement = placement;
	for (unsigned stage = 0; stage < stages; stage++)
		schedule->rank_of_stage[stage] =
			place_stage(placement, ranks, stage);
	return schedule;
err:
	log_error("no memory for a schedule of %zu stages", stages);
	schedule_destroy(schedule);
	return NULL;
}

struct schedule *schedule_create_like(const struct schedule *other)
{
	struct schedule *schedule =
		schedule_create(other->name, other->ranks, 1,
				other->micro_batches, SCHEDULE_PLACEMENT_FREE);
	unsigned *rank_of_stage;

	if (schedule == NULL)
		return NULL;
	rank_of_stage = calloc(other->stages, sizeof(*rank_of_stage));
	if (rank_of_stage == NULL) {
		log_error("no memory for a schedule of %u stages",
			  other->stages);
		schedule_destroy(schedule);
		return NULL;
	}
	for (unsigned stage = 0; stage < other->stages; stage++)
		rank_of_stage[stage] = other->rank_of_stage[stage];
	free(schedule->rank_of_stage);
	schedule->rank_of_stage = rank_of_stage;
	schedule->stages = other->stages;
	schedule->chunks = other->chunks;
	schedule->forward_only = other->forward_only;
	schedule->lowered = other->lowered;
	schedule->placement = other->placement;
	return schedule;
}

void schedule_destroy(struct schedule *schedule)
{
	if (schedule == NULL)
		return;
	for (unsigned rank = 0; schedule->rows && rank < schedule->ranks;
	     rank++)
		free(schedule->rows[rank].actions);
	free(schedule->rows);
	free(schedule->rank_of_stage);
	free(schedule);
}

/* Room doubles whenever the count reaches a power of two from 16 on. */
static int row_grow(struct schedule_row *row)
{
	size_t room = row->count == 0 ? 16 : row->count * 2;
	size_t bytes;
	struct action *actions;

	if (row->count != 0 &&
	    (row->count < 16 || (row->count & (row->count - 1)) != 0))
		return 0;
	if (!checked_multiply(room, sizeof(*actions), &bytes))
		return fail(-ENOMEM, "a schedule row of %zu actions", room);
	actions = realloc(row->actions, bytes);
	if (actions == NULL)
		return fail(-ENOMEM,
			    "no memory for a schedule row of %zu "
			    "actions",
			    room);
	row->actions = actions;
	return 0;
}

int schedule_row_append(struct schedule_row *row, unsigned op, unsigned stage,
			unsigned micro_batch, unsigned group)
{
	int error = row_grow(row);

	if (error)
		return error;
	row->actions[row->count++] = (struct action){
		.op = (uint16_t)op,
		.stage = (uint16_t)stage,
		.micro_batch = (uint16_t)micro_batch,
		.group = (uint16_t)group,
	};
	return 0;
}

unsigned schedule_first_stage(const struct schedule *schedule, unsigned rank)
{
	for (unsigned stage = 0; stage < schedule->stages; stage++)
		if (schedule->rank_of_stage[stage] == rank)
			return stage;
	return 0;
}

static const char *const op_texts[ACTION_OP_COUNT] = {
	[ACTION_FORWARD] = "F",
	[ACTION_BACKWARD_INPUT] = "I",
	[ACTION_BACKWARD_WEIGHT] = "W",
	[ACTION_BACKWARD] = "B",
	[ACTION_SEND_FORWARD] = "SEND_F",
	[ACTION_RECV_FORWARD] = "RECV_F",
	[ACTION_SEND_BACKWARD] = "SEND_B",
	[ACTION_RECV_BACKWARD] = "RECV_B",
	[ACTION_REDUCE_GRAD] = "REDUCE_GRAD",
	[ACTION_REDUCE_TIED] = "REDUCE_TIED",
	[ACTION_VOTE] = "VOTE",
	[ACTION_STEP] = "STEP",
};

const char *schedule_op_text(unsigned op)
{
	return op < ACTION_OP_COUNT ? op_texts[op] : "?";
}

char *schedule_action_text(char *buffer, size_t size,
			   const struct action *action)
{
	if (action->op == ACTION_REDUCE_GRAD || action->op == ACTION_VOTE ||
	    action->op == ACTION_STEP)
		snprintf(buffer, size, "%u%s", action->stage,
			 schedule_op_text(action->op));
	else
		snprintf(buffer, size, "%u%s%u", action->stage,
			 schedule_op_text(action->op), action->micro_batch);
	return buffer;
}

void schedule_reason(char **reason, const char *format, ...)
{
	struct text_builder builder;
	char line[512];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	text_builder_init(&builder);
	text_builder_append(&builder, "%s", line);
	*reason = text_builder_finish(&builder);
}
