/*
 * history.jsonl: what happened to a run, a line an event, never cut:
 *
 *   {"event":"start","time":..,"step":100,"steps":300,"version":"0.1.0",
 *    "replicas":1,"positions":2,"slices":1,"chunks":1,"schedule":"1f1b",
 *    "micro_batches":8,"transport":"shm","layers":[3,3],"hosts":["a","a"]}
 *   {"event":"checkpoint","time":..,"step":200,"seconds":0.41,"written":true,
 *    "resident_bytes":[..],"peak_bytes":[..]}
 *   {"event":"end","time":..,"step":300,"stopped":false}
 *
 * time is Unix time in seconds; step: how many were done. A start at a step above 0
 * is a resume. hosts, resident_bytes and peak_bytes have an entry a rank
 * (engine/grid.h numbers them); null stands for a rank that is a thread of
 * rank 0's process. A run that was killed has a start without an end.
 *
 * The functions are collective: all ranks call them at the same point, between
 * steps. They allocate. The root has the file open, for the others it is closed.
 */
#ifndef STAGECOACH_ENGINE_HISTORY_H
#define STAGECOACH_ENGINE_HISTORY_H

#include "engine/journal.h"

struct job;
struct tensorboard;
struct world;

struct history {
	struct world *world;
	const struct job *job;
	struct journal journal; /* the root's */
};

/* The root opens RUN/history.jsonl. A negative errno, logged. */
int history_open(struct history *history, struct world *world,
		 const struct job *job) MUST_CHECK;
void history_close(struct history *history);

int history_start(struct history *history) MUST_CHECK;

/*
 * After a checkpoint, or the attempt at one, that took so long; what memory the
 * ranks hold goes to the board as well.
 */
int history_checkpoint(struct history *history, uint64_t step, bool written,
		       double seconds, struct tensorboard *board) MUST_CHECK;

/* The root's alone. */
void history_end(struct history *history, uint64_t step, bool stopped);

#endif
