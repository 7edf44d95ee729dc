/*
 * Holdings: which elements of which tensors a rank reads and writes.
 *
 * What is on disk is the whole of every tensor, and nothing of how the work was
 * divided. A rank holds a tensor if its position has the tensor's layer. Of a
 * tensor that tensor parallelism splits it holds its slice, whose elements
 * stand in runs that are strided on disk (parameter_run()); and of the
 * optimizer's state, where that is shared between the replicas, some ranges of
 * the slice. So a holding is a row of segments, each one piece of memory and
 * one piece of the tensor.
 *
 * Reading: each rank what it holds. Writing: every element once. Weights are
 * written by replica 0, and so is the optimizer's state unless it is shared,
 * else each replica writes its ranges; what is whole on all slices is written by
 * slice 0; a tied parameter has nothing of its own on disk.
 *
 * All of it follows from the job, so that the root knows what any other
 * rank holds. Nothing here allocates, and no call fails.
 */
#ifndef STAGECOACH_ENGINE_HOLDING_H
#define STAGECOACH_ENGINE_HOLDING_H

#include "engine/grid.h"
#include "engine/partition.h"
#include "model/model.h"

/* The kinds of cargo, in the order in which they travel. */
enum freight {
	LOAD_WEIGHTS, /* all but adapters */
	LOAD_ADAPTERS,
	LOAD_MOMENTS,
	SAVE_WEIGHTS,
	SAVE_MOMENTS,
	SAVE_MASTERS, /* weights once more, where SAVE_WEIGHTS rounds them */
};

static inline bool freight_is_of_moments(enum freight freight)
{
	return freight == LOAD_MOMENTS || freight == SAVE_MOMENTS;
}

/* Elements [first, first + count) of a slice. */
struct holding_range {
	size_t first;
	size_t count;
};

/*
 * How the replicas share the optimizer's state. The ranges of one parameter on
 * the D ranks of a position and slice are disjoint and make up the slice; a
 * rank keeps its own packed, in their order, which ascends.
 */
struct holding_shards {
	/*
	 * Range `index` of what the rank at `place` keeps of a parameter that its
	 * position holds and updates (not an alias). False: it has no more.
	 */
	bool (*range)(const void *argument, const struct grid_place *place,
		      const struct parameter *parameter, unsigned index,
		      struct holding_range *out);
	const void *argument;
};

/* Everything it follows from. */
struct holders {
	const struct parameter *parameters; /* the whole table, of any slice */
	unsigned count;
	const struct partition *partition;
	const unsigned *position_of_stage; /* [stages], of the schedule */
	/* range NULL: every replica keeps all of the optimizer's state. */
	struct holding_shards shards;
};

struct holding_segment {
	size_t local; /* where it begins in this rank's memory of the tensor */
	size_t whole; /* where it begins in the whole tensor */
	size_t count; /* elements */
};

/* What one rank moves of one parameter. */
struct holding {
	struct parameter parameter; /* the row of that rank's slice */
	struct grid_place place;
	size_t count;                        /* elements in all; 0: nothing */
	size_t run;                          /* length of the slice's runs */
	const struct holding_shards *shards; /* NULL: all of the slice */
	/* The range looked at last: */
	unsigned index;
	size_t begin; /* where it begins in memory */
	struct holding_range range;
};

/* Whether the position has the parameter's layer. */
bool holders_have(const struct holders *holders, unsigned position,
		  const struct parameter *parameter);

/*
 * Whether a tied parameter's target is at the same position: the two share
 * their memory, and the tied one has nothing of its own.
 */
bool holders_alias(const struct holders *holders, unsigned position,
		   const struct parameter *parameter);

/* Tensor parallelism splits it; else it is whole on every slice. */
bool holding_is_split(const struct parameter *parameter);

/*
 * A checkpoint has it under its own name, with moments of its own. What is
 * frozen has not changed since it was read from the base model, where it stays.
 */
bool holding_is_stored(const struct parameter *parameter);
bool holding_has_moments(const struct parameter *parameter);

/* What the rank at `place` moves of a parameter; refers to `holders`. */
void holding_find(const struct holders *holders, const struct grid_place *place,
		  const struct parameter *parameter, enum freight freight,
		  struct holding *out);

/*
 * The segment that begins at element `first` of the memory, or the rest of
 * it where one begins before. The next one begins at local + count. Ascending
 * calls are the fast ones.
 */
struct holding_segment holding_segment(struct holding *holding, size_t first);

#endif
