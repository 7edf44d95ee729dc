/*
 * GPipe: all forwards, then all backwards (Huang et al., "GPipe: Efficient
 * Training of Giant Neural Networks using Pipeline Parallelism", NeurIPS 2019,
 * section 2.3).
 * Both passes ascend by micro-batch.
 */
#include "schedules/build.h"
#include "schedules/kinds.h"

int schedule_fill_gpipe(struct schedule *schedule)
{
	unsigned count = schedule->micro_batches;
	int error = 0;

	for (unsigned rank = 0; rank < schedule->ranks; rank++) {
		struct schedule_row *row = &schedule->rows[rank];

		for (unsigned m = 0; m < count && !error; m++)
			error = schedule_row_append(row, ACTION_FORWARD, rank,
						    m, 0);
		for (unsigned m = 0; m < count && !error; m++)
			error = schedule_row_append(row, ACTION_BACKWARD, rank,
						    m, 0);
	}
	return error;
}
