/*
 * How many micro-batches are in flight at once on a stage, counted by walking
 * through its rank's row: what the slot pools of engine/stage.h need.
 */
#ifndef STAGECOACH_ENGINE_FLIGHTS_H
#define STAGECOACH_ENGINE_FLIGHTS_H

#include "schedules/schedule.h"

struct flights {
	unsigned activations;      /* F until W */
	unsigned pendings;         /* I until W */
	unsigned inputs;           /* as activations; from the F of the stage
				      before if that is on the same rank */
	unsigned output_gradients; /* as pendings, likewise */
	bool split_backward;       /* some I and W come apart */
};

/* `stage` is a stage of the schedule, which is valid. */
void flights_count(const struct schedule *schedule, unsigned stage,
		   struct flights *out);

/* Entry by entry the larger: a stage serves several schedules. */
void flights_merge(struct flights *into, const struct flights *other);

#endif
