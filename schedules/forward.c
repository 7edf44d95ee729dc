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
	unsigned count = schedule->micro_batches;
	unsigned last;
	int error = 0;

	schedule->forward_only = true;
	/*
	 * With several chunks a rank runs a block of `ranks` micro-batches
	 * through one chunk before the next, so that a block just fills the
	 * pipeline; the last block takes what is left over, as less than
	 * `ranks` would not.
	 */
	for (unsigned first = 0; first < count; first = last) {
		last = count - first < 2 * ranks ? count : first + ranks;
		for (unsigned i = 0; i < ranks * chunks; i++)
			for (unsigned m = first; m < last && !error; m++)
				error = schedule_row_append(
					&schedule->rows[i % ranks],
					ACTION_FORWARD, i, m, 0);
	}
	return error;
}
