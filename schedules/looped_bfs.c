/*
 * Looped breadth-first: all micro-batches through one chunk before the next
 * (Lamy-Poirier, "Breadth-First Pipeline Parallelism", MLSys 2023, section 4).
 * The backward passes the chunks the other way round; its micro-batches
 * ascend, so that weight gradients are summed in the one order all schedules
 * share (PyTorch's descend).
 */
#include "schedules/build.h"
#include "schedules/kinds.h"

static int fill_rank(struct schedule *schedule, unsigned rank)
{
	struct schedule_row *row = &schedule->rows[rank];
	unsigned count = schedule->micro_batches;
	unsigned chunks = schedule->chunks;
	int error = 0;

	for (unsigned chunk = 0; chunk < chunks; chunk++)
		for (unsigned m = 0; m < count && !error; m++)
			error = schedule_row_append(
				row, ACTION_FORWARD,
				chunk * schedule->ranks + rank, m, 0);
	for (unsigned chunk = chunks; chunk-- > 0;)
		for (unsigned m = 0; m < count && !error; m++)
			error = schedule_row_append(
				row, ACTION_BACKWARD,
				chunk * schedule->ranks + rank, m, 0);
	return error;
}

int schedule_fill_looped_bfs(struct schedule *schedule)
{
	int error = 0;

	for (unsigned rank = 0; rank < schedule->ranks && !error; rank++)
		error = fill_rank(schedule, rank);
	return error;
}
