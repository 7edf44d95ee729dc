/*
 * Shards: which ranges of the optimizer's state each rank keeps, of any rank,
 * where the replicas share it (--shard-optimizer). The plans of reduction
 * (engine/reduction.h) say it, one for each position and slice, of which the
 * pipeline has those of its own slice: the root reads and writes for ranks of
 * other slices, too, that see no files (engine/checkpoint_tensors.h).
 */
#ifndef STAGECOACH_ENGINE_SHARDS_H
#define STAGECOACH_ENGINE_SHARDS_H

#include "engine/holding.h"

struct pipeline;
struct shards;

/*
 * Of this rank, and on the root those of all whose tensors pass through it
 * (pipeline->reach): nothing is left to fail when tensors are under way. Of a
 * pipeline that trains, which outlives them. -ENOMEM, logged.
 */
int shards_create(const struct pipeline *pipeline,
		  struct shards **out) MUST_CHECK;
void shards_destroy(struct shards *shards); /* NULL is fine */

struct holding_shards shards_ranges(const struct shards *shards);

#endif
