/*
 * The parameters a rank holds: weights, gradient accumulators, optimizer
 * moments, one row a parameter, in global order.
 *
 * A tied parameter (GPT-2's head) is a row of its own, with accumulators of
 * its own. Where its target lives on the same rank the two rows share their
 * weights, and only the target has moments; else it is a copy that follows
 * the same updates.
 *
 * Gradient accumulators are a stack, `levels` deep (engine/accumulator.h);
 * level 0 holds the step's sum in the end. Between steps all are zero.
 */
#ifndef STAGECOACH_ENGINE_STORE_H
#define STAGECOACH_ENGINE_STORE_H

#include "base/arena.h"
#include "model/model.h"

#define STORE_MOMENTS_MAX 2

struct store_row {
	const struct parameter *parameter;
	float *weights;       /* [parameter->count] */
	float **accumulators; /* [levels], NULL when frozen or not training */
	float *moments[STORE_MOMENTS_MAX];
	int target;     /* row of the tied target on this rank, or -1 */
	int follower;   /* row tied to this one on this rank, or -1 */
	bool elsewhere; /* its tied partner lives on another rank */
};

struct store {
	const struct model *model;
	struct store_row *rows;
	unsigned count;
	unsigned levels;
	unsigned moments;
	int *row_of; /* [all parameters]: row, or -1 when not held here */
	float ***gradients; /* [levels][count]: rows' accumulators */
	float **weights;    /* [count] */
	struct arena weight_arena, gradient_arena, moment_arena;
};

struct store_config {
	const struct model *model;
	const bool *holds_layer; /* [layers] */
	unsigned levels;         /* 0: not training */
	unsigned moments;        /* floats of optimizer state a weight */
};

/* -ENOMEM, logged. All memory is zero. */
int store_create(const struct store_config *config,
		 struct store **out) MUST_CHECK;
void store_destroy(struct store *store);

/* Bytes store_create() will take, for `plan`. */
struct store_sizes {
	unsigned rows;
	size_t weights;
	size_t gradients;
	size_t moments;
};
void store_sizes(const struct store_config *config, struct store_sizes *out);

/* True when this rank updates and saves the row's parameter: it is not an
 * alias; a remote copy of a tied one is updated here but not saved. */
bool store_row_is_updated(const struct store_row *row);
bool store_row_is_saved(const struct store_row *row);

#endif
