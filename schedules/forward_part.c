/*
 * Parts of a schedule: its compute actions without the messages, and the
 * forwards alone.
 */
#include "schedules/build.h"
#include <errno.h>

static bool belongs(const struct action *action, bool forward_only)
{
	return forward_only ? action->op == ACTION_FORWARD
			    : action_is_compute(action->op);
}

static int take_part(const struct schedule *schedule, bool forward_only,
		     struct schedule **out)
{
	struct schedule *part = schedule_create_like(schedule);
	int error = 0;

	if (part == NULL)
		return -ENOMEM;
	part->lowered = false;
	part->forward_only = forward_only || schedule->forward_only;
	for (unsigned rank = 0; rank < schedule->ranks; rank++) {
		const struct schedule_row *row = &schedule->rows[rank];

		for (size_t i = 0; i < row->count && !error; i++) {
			const struct action *action = &row->actions[i];

			if (!belongs(action, forward_only))
				continue;
			error = schedule_row_append(
				&part->rows[rank], action->op, action->stage,
				action->micro_batch,
				forward_only ? 0 : action->group);
		}
	}
	if (error)
		schedule_destroy(part);
	else
		*out = part;
	return error;
}

int schedule_forward_part(const struct schedule *schedule,
			  struct schedule **out)
{
	return take_part(schedule, true, out);
}

int schedule_compute_part(const struct schedule *schedule,
			  struct schedule **out)
{
	return take_part(schedule, false, out);
}
