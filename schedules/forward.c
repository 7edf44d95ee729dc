/*
 * Forward only, for evaluation and generation: each micro-batch passes
 * through all stages; nothing is kept for a backward pass.
 */
#include "schedules/build.h"
#include "schedules/kinds.h"

int schedule_fill_forward(struct schedule *schedule)
{
	unsigned chunks = schedule->chunks;
	unsigned ranks = schedule->ranks;
	int error = 0;

	schedule->forward_only = true;
	/*
	 * With several chunks a rank runs a block of `ranks` micro-batches
	 * through one chunk before the next, so that a block just fills the
	 * pipeline.
	 */
	for (unsigned first = 0; first < schedule->micro_batches;
	     first += ranks) {
		unsigned last = MIN(first + ranks, schedule->micro_batches);

		for (unsigned i = 0; i < ranks * chunks; i++)
			for (unsigned m = first; m < last && !error; m++)
				error = schedule_row_append(
					&schedule->rows[i % ranks],
					ACTION_FORWARD, i, m, 0);
	}
	return error;
}
