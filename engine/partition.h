/*
 * Which layers each stage holds.
 *
 * A model is a row of layers 0 .. count-1: the embedding, the blocks, the
 * head. A stage holds a contiguous piece of at least one layer; the embedding
 * goes with the first blocks and the head with the last ones.
 */
#ifndef STAGECOACH_ENGINE_PARTITION_H
#define STAGECOACH_ENGINE_PARTITION_H

#include "base/compiler.h"

#define PARTITION_STAGES_MAX 1024

struct partition {
	unsigned stages;
	/* Stage s holds layers [first[s], first[s + 1]). */
	unsigned first[PARTITION_STAGES_MAX + 1];
};

/*
 * The split of `layers` layers with the given costs that minimises the
 * costliest stage; among those, the one whose cuts come earliest. Exact
 * (dynamic programming, O(stages layers^2)). -EINVAL, logged, when there are
 * more stages than layers.
 */
int partition_balance(const double *costs, unsigned layers, unsigned stages,
		      struct partition *out) MUST_CHECK;

/*
 * The split the user wrote: `blocks[s]` blocks on stage s, where layer 0 and
 * the last layer, which are no blocks, join the first and the last
 * stage. -EINVAL, logged, when the numbers do not add up.
 */
int partition_explicit(const int64_t *blocks, size_t count, unsigned layers,
		       unsigned stages, struct partition *out) MUST_CHECK;

/* The stage that holds a layer. */
unsigned partition_stage_of(const struct partition *partition, unsigned layer);

/* "5,4,3": blocks a stage, for messages and run.json. Returns buffer. */
char *partition_text(const struct partition *partition, char *buffer,
		     size_t size);

#endif
