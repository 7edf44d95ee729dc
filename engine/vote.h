/*
 * The vote: where all ranks commit to a step, or none does.
 *
 * Each rank tells the root the sum of squares of every parameter's gradient it
 * answers for, the loss if it has it, how long it waited, and whether someone
 * asked it to stop. The root adds the squares in global parameter order, in
 * double, whatever the split; judges; and tells all ranks one verdict. Only
 * then does anyone touch a weight.
 */
#ifndef STAGECOACH_ENGINE_VOTE_H
#define STAGECOACH_ENGINE_VOTE_H

#include "base/compiler.h"

struct pipeline;

/* The root's answer; travels as it is between hosts of one byte order. */
struct verdict {
	uint32_t commit;       /* 0: a gradient or the loss is not finite */
	uint32_t stop;         /* somebody asked to stop after this step */
	double loss;           /* mean over the step's supervised tokens */
	double gradient_norm;  /* before clipping */
	double gradient_scale; /* 1, or less when clipped */
	double waiting;        /* share of the step the ranks waited, mean */
	int32_t bad_parameter; /* id of the first not finite; -1: the loss */
	int32_t reserved;
};

struct vote;

/* Bytes of a rank's vote, on the wire. */
size_t vote_bytes(const struct pipeline *pipeline, unsigned rank);

/*
 * `memory`: registered; vote_region_bytes() of it, for this rank's own vote,
 * the verdict, and on the root everyone's votes. -ENOMEM.
 */
size_t vote_region_bytes(const struct pipeline *pipeline);
int vote_create(struct pipeline *pipeline, void *memory,
		struct vote **out) MUST_CHECK;
void vote_destroy(struct vote *vote);

/*
 * Votes, and waits for the verdict. `loss` is the sum of this rank's losses
 * over the step (0 on ranks that have none). Where no one may commit, -EDOM on
 * the root, which logs why, and -ECANCELED on the others.
 */
int vote_run(struct pipeline *pipeline, double loss) MUST_CHECK;
const struct verdict *vote_verdict(const struct vote *vote);

/* Where the messages go that the vote receives. */
void *vote_ballot(const struct vote *vote, unsigned rank);
void *vote_verdict_memory(const struct vote *vote);

#endif
