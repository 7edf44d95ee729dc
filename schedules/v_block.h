/*
 * Inside schedules/: the building blocks of the V schedules with controllable
 * memory (Qi et al., "Pipeline Parallelism with Controllable Memory", NeurIPS
 * 2024, sections 3 and 4). A block says at what time each rank does each of
 * its operations for micro-batch 0; micro-batch m comes 6 units later m
 * times. The distance between F and W (or B) sets the memory.
 */
#ifndef STAGECOACH_SCHEDULES_V_BLOCK_H
#define STAGECOACH_SCHEDULES_V_BLOCK_H

#include "schedules/schedule.h"

#define V_PERIOD 6

/* In the order a micro-batch passes through them; 0 and 1 are the chunks. */
enum v_kind {
	V_FORWARD_0,
	V_FORWARD_1,
	V_INPUT_1, /* B where W is not apart */
	V_INPUT_0,
	V_WEIGHT_1,
	V_WEIGHT_0,
	V_KINDS
};

struct v_block {
	unsigned ranks;
	unsigned kinds; /* V_KINDS, or 4 where I and W are one B of two units */
	unsigned (*time)[V_KINDS]; /* [ranks] */
};

/* How the passes follow one another; see v_block_create_split(). */
struct v_steps {
	unsigned first, second; /* from rank to rank: chunk 0, chunk 1 */
	unsigned turn[3];       /* F0 to F1, F1 to I1, I1 to I0 */
};

/*
 * Blocks with W apart: F of chunk 0 goes down the ranks in steps of `first`, F
 * of chunk 1 up in steps of `second`, I down and up likewise; Ws take the two
 * slots of the six that are left. NULL: no memory, or, with
 * *collides set, two operations of a rank would share a slot.
 */
struct v_block *v_block_create_split(unsigned ranks,
				     const struct v_steps *steps,
				     bool *collides);
/* 1F1B-V: B whole. NULL: no memory. */
struct v_block *v_block_create_fused(unsigned ranks);
void v_block_destroy(struct v_block *block);

static inline unsigned v_block_time(const struct v_block *block, unsigned rank,
				    unsigned kind, unsigned micro_batch)
{
	return block->time[rank][kind] + V_PERIOD * micro_batch;
}

/* What an operation of a kind adds to the activations alive. */
static inline int v_block_change(const struct v_block *block, unsigned kind)
{
	if (kind <= V_FORWARD_1)
		return 1;
	return kind >= block->kinds - 2 ? -1 : 0;
}

/* The most activations alive on any rank when it keeps to the block's times. */
unsigned v_block_peak(const struct v_block *block, unsigned micro_batches);

/* Appends one operation to its rank's row. */
int v_block_append(struct schedule *schedule, const struct v_block *block,
		   unsigned rank, unsigned kind,
		   unsigned micro_batch) MUST_CHECK;

#endif
