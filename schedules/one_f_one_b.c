/*
 * 1F1B: a rank runs ahead by as many forwards as there are stages behind it, then
 * alternates one forward with one backward (PipeDream-flush: Narayanan et al.,
 * "Memory-Efficient Pipeline-Parallel DNN Training", ICML 2021, section 2;
 * also "Efficient Large-Scale Language Model Training on GPU Clusters Using
 * Megatron-LM", SC 2021, figure 4).
 */
#include "schedules/build.h"
#include "schedules/kinds.h"

static int fill_rank(struct schedule_row *row, unsigned rank, unsigned ranks,
		     unsigned count)
{
	unsigned ahead = MIN(ranks - rank, count);
	unsigned forward = 0;
	unsigned backward = 0;
	int error = 0;

	while (forward < ahead && !error)
		error = schedule_row_append(row, ACTION_FORWARD, rank,
					    forward++, 0);
	while (backward < count && !error) {
		error = schedule_row_append(row, ACTION_BACKWARD, rank,
					    backward++, 0);
		if (forward < count && !error)
			error = schedule_row_append(row, ACTION_FORWARD, rank,
						    forward++, 0);
	}
	return error;
}

int schedule_fill_1f1b(struct schedule *schedule)
{
	int error = 0;

	for (unsigned rank = 0; rank < schedule->ranks && !error; rank++)
		error = fill_rank(&schedule->rows[rank], rank, schedule->ranks,
				  schedule->micro_batches);
	return error;
}
