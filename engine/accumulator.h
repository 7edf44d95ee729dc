/*
 * The gradient accumulator: how the micro-batches of a step are summed.
 *
 * The M micro-batches of a step form G groups of M / G neighbours (G a power
 * of two). Within a group the sum ascends by micro-batch; the groups are
 * summed as an aligned binary tree: ((0+1)+(2+3))+... That order is a property
 * of (M, G) alone, so that replicas, which each own a subtree, can
 * continue it (DESIGN: the bits law).
 *
 * A stack of accumulators carries it out. Group g adds into level
 * popcount(g), above one finished subtree for each bit of g; when it
 * ends, as many pairs of subtrees are complete as g has trailing ones.
 */
#ifndef STAGECOACH_ENGINE_ACCUMULATOR_H
#define STAGECOACH_ENGINE_ACCUMULATOR_H

#include "engine/store.h"

struct accumulation {
	unsigned micro_batches; /* M of this rank's replica */
	unsigned groups;        /* G, divides M, a power of two */
};

/* 0, or -EINVAL with the reason logged. */
int accumulation_check(const struct accumulation *accumulation) MUST_CHECK;

/* Depth of the stack: log2(G) + 1. */
unsigned accumulation_levels(const struct accumulation *accumulation);

/* The level micro-batch m adds into. */
unsigned accumulation_level(const struct accumulation *accumulation,
			    unsigned micro_batch);

/*
 * How many merges (level - 1 += level, from the micro-batch's own level
 * down) are due once micro-batch m has been added.
 */
unsigned accumulation_merges(const struct accumulation *accumulation,
			     unsigned micro_batch);

/* Carries them out on one row: each merged level is zero afterwards. */
void accumulator_merge(struct threads *threads,
		       const struct accumulation *accumulation,
		       unsigned micro_batch, const struct store_row *row);

/* The same tree over one double a micro-batch: the losses of a step. */
#define ACCUMULATION_LEVELS_MAX 17
struct loss_sum {
	double level[ACCUMULATION_LEVELS_MAX];
};
void loss_sum_add(struct loss_sum *sum, const struct accumulation *accumulation,
		  unsigned micro_batch, double loss);

#endif
