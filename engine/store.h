/*
 * The parameters a rank holds: weights, gradient accumulators, optimizer
 * moments, one row a parameter, in global order.
 *
 * A tied parameter (GPT-2's head) is a row of its own, with accumulators of
 * its own. Where its target lives on the same rank the two rows share their
 * weights, and only the target has moments; else it is a copy that follows
 * the same updates.
 *
 * What the optimizer updates and checkpoints hold is float: the master. A
 * matrix that layers compute with in bfloat16 (its compute_type) has a rounded
 * copy beside it, which store->weights names in its place; whoever changes
 * the master rounds it anew. Where nothing is trained such a matrix has no
 * master, and the copy is all there is.
 *
 * Gradient accumulators are a stack, `levels` deep (engine/accumulator.h);
 * level 0 holds the step's sum in the end. Between steps all are zero.
 *
 * Rows lie one behind the other in global order, each rounded up to whole
 * cache lines: all weights, and all of an accumulator's level. What lies
 * between two rows is zero and stays so. A bucket of a reduction
 * (engine/reduction.h) is thus one piece of memory.
 *
 * Where replicas share the optimizer's state a row has moments for its own
 * pieces alone, packed one behind the other. Where stages take turns with a
 * window of accumulators (engine/reduction.h), so are the sums that are kept;
 * rows of a window's stages lie over each other, each stage's at its end.
 */
#ifndef STAGECOACH_ENGINE_STORE_H
#define STAGECOACH_ENGINE_STORE_H

#include "base/arena.h"
#include "model/kernels/bfloat16.h"
#include "model/model.h"

#define STORE_MOMENTS_MAX 2

/* Elements [first, first + count) of a row, which this rank updates. */
struct store_piece {
	size_t first;
	size_t count;
	float *sums; /* [count] the step's sum, in the end */
	float *moments[STORE_MOMENTS_MAX]; /* [count]; of a row updated here */
};

struct store_row {
	const struct parameter *parameter;
	/* [parameter->count] the master; NULL: only `rounded` is held. */
	float *weights;
	bfloat16 *rounded;    /* [parameter->count] of weights; NULL: none */
	float **accumulators; /* [levels], NULLs when frozen or not training */
	float *moments[STORE_MOMENTS_MAX]; /* of all pieces; NULL: none */
	float *sums; /* of all pieces, apart from accumulators[0]; or NULL */
	/* Of a row that is trained: all of it, or this replica's share. */
	struct store_piece *pieces;
	unsigned piece_count;
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
	struct store_piece *pieces; /* of all rows */
	int *row_of; /* [all parameters]: row, or -1 when not held here */
	float ***gradients; /* [levels][count]: rows' accumulators */
	void **weights;     /* [count]: as layers compute with them */
	struct arena weight_arena, rounded_arena;
	struct arena gradient_arena, sum_arena, moment_arena;
	size_t level_bytes; /* of one level of all accumulators */
};

struct threads;
struct reduction; /* engine/reduction.h */

struct store_config {
	const struct model *model;
	const bool *holds_layer; /* [layers] */
	unsigned levels;         /* 0: not training */
	unsigned moments;        /* floats of optimizer state a weight */
	/* How replicas share the state; NULL: they do not. */
	const struct reduction *reduction;
	unsigned replica; /* this rank's */
};

/* -ENOMEM, logged. All memory is zero. */
int store_create(const struct store_config *config,
		 struct store **out) MUST_CHECK;
void store_destroy(struct store *store);

/* Bytes store_create() will take, for `plan`. */
struct store_sizes {
	unsigned rows;
	size_t weights; /* masters */
	size_t rounded; /* copies in bfloat16 */
	size_t gradients;
	size_t sums; /* that are kept beside windows of gradients */
	size_t moments;
};
void store_sizes(const struct store_config *config, struct store_sizes *out);

/*
 * Where the step's sum of an element of this rank's pieces is, and of those
 * behind it in the piece.
 */
float *store_sum(const struct store_row *row, size_t element);

/*
 * Elements [first, first + count) of the weights become `values`: in the
 * master, unless they are there already (values == row->weights + first), and
 * rounded in the copy. Of a row that is no alias.
 */
void store_row_set(const struct store_row *row, size_t first, size_t count,
		   const float *values);

/* Rounds all of the masters anew, where there are copies. */
void store_round(const struct store *store, struct threads *threads);
/* The same outside of this rank's pieces: what other replicas updated. */
void store_round_others(const struct store *store, struct threads *threads);

/* True when this rank updates and saves the row's parameter: it is not an
 * alias; a remote copy of a tied one is updated here but not saved. */
bool store_row_is_updated(const struct store_row *row);
bool store_row_is_saved(const struct store_row *row);

#endif
