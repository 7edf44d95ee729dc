/*
 * A run's files for TensorBoard: RUN/tensorboard/events.out.tfevents.<time>.
 * <host>.<pid>.<n>, one a start of the run, shown by
 *
 *   tensorboard --logdir RUN/tensorboard
 *
 * Tags: train/loss, train/grad_norm, train/lr, train/tokens_per_sec,
 * train/step_seconds, train/bubble; val/loss; memory/rank_N_GiB. Steps count as in
 * metrics.jsonl. A resumed run begins a file whose session starts behind its
 * checkpoint, by which readers drop what an interrupted one wrote past it.
 *
 * Nothing here allocates after tensorboard_open(), or waits for a disk; a full
 * one loses records (engine/journal.h).
 */
#ifndef STAGECOACH_ENGINE_TENSORBOARD_H
#define STAGECOACH_ENGINE_TENSORBOARD_H

#include "engine/journal.h"
#include "engine/metrics.h"

struct tensorboard {
	struct journal journal; /* fd -1: all functions do nothing */
};

/*
 * Begins a file, whose name sorts behind those that are there. A negative
 * errno, logged.
 */
int tensorboard_open(struct tensorboard *board, const char *run,
		     const char *host, uint64_t first_step) MUST_CHECK;
void tensorboard_close(struct tensorboard *board);

/* What is not finite is written so: TensorBoard marks it. */
void tensorboard_step(struct tensorboard *board,
		      const struct metrics_step *step);
void tensorboard_evaluation(struct tensorboard *board,
			    const struct metrics_evaluation *evaluation);

/* Resident bytes [ranks] of the ranks' processes; 0: nothing known. */
void tensorboard_memory(struct tensorboard *board, uint64_t step, double time,
			const uint64_t *resident, unsigned ranks);

#endif
