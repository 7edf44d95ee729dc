/*
 * Which layers each stage holds.
 *
 * A model is a row of layers 0 .. count-1: the embedding, the blocks, the
 * head. A stage holds a contiguous piece of at least one layer; the embedding
 * or the head may be a stage alone.
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
 * A split to be found.
 *
 * What bounds a step is the rank that works longest: with M micro-batches it
 * computes M times what its stages take together, whatever the schedule, and
 * the others wait for it. How its time is spread over its stages only moves
 * the bubble. So with several stages a rank (chunks) the slowest rank's total
 * is made least first, then the slowest stage; where each rank has one stage
 * these are the same. What is left open goes to the most even split.
 */
struct partition_problem {
	unsigned layers;
	unsigned stages;
	const double *costs; /* [layers] of one micro-batch, in any unit */
	unsigned ranks;
	const unsigned *rank_of_stage; /* [stages]; NULL: stage s on rank s */

	/*
	 * Bytes of a stage that holds layers [first, end), and of a rank beside
	 * its stages (may be negative: what its stages share); never fewer for
	 * more layers. A rank may have `cap` in all. bytes NULL: no cap.
	 */
	double (*bytes)(void *argument, unsigned stage, unsigned first,
			unsigned end);
	void *argument;
	const double *fixed_bytes; /* [ranks]; NULL: none */
	double cap;
};

struct partition_result {
	double slowest_rank;
	double slowest_stage;
	double least_cap; /* when nothing fits: the cap that would do */
	/*
	 * No split is better. True with one stage a rank; with more, where the
	 * search came to its end within its bounds (as it does for models of
	 * equal blocks), else what it had found by then is taken, and least_cap
	 * may be too high.
	 */
	bool exact;
};

/*
 * The best split. One stage a rank: dynamic programming, the least sum of
 * squares among those with the least slowest stage, and of these the one whose
 * last cut, then the one before, and so on, comes earliest. Several: branch and bound on the two limits.
 * Deterministic.
 *
 * -EINVAL, logged, for more stages than layers; -ENOSPC, silent, when no split
 * fits the cap: result->least_cap is set (*out is not). -ENOMEM.
 */
int partition_find(const struct partition_problem *problem,
		   struct partition *out,
		   struct partition_result *result) MUST_CHECK;

/* The same for a stage a rank, without a cap. */
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
