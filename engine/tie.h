/*
 * The two gradients of a tied parameter become one on the ranks of both its
 * ends, beside the end of the pass.
 *
 * The head's is complete once the loss stage has done its last F. Its rank sends
 * it as soon as nothing else is to go that way, while both ranks compute; the
 * other takes it in whenever it is given the time (exchange_set_work()). The
 * embedding's is complete when the row ends, but zero save in the rows of the
 * step's tokens, and these alone are sent, last. So of a table's two journeys
 * one is short, and the other begins early.
 *
 * The sums are embedding + head, to the bit, as where both are on one rank.
 * Here without replicas and slices; those exchange whole shards
 * (engine/reduce.c).
 */
#ifndef STAGECOACH_ENGINE_TIE_H
#define STAGECOACH_ENGINE_TIE_H

#include "base/compiler.h"

/* Pieces of the head's gradient for which a receive is posted at once. */
#define TIE_AHEAD 16
/* Pieces and rows on their way out. */
#define TIE_UNDER_WAY 8

/* How the ends exchange; the same on all ranks. */
struct tie_plan {
	bool by_rows;          /* else whole shards, both ways */
	size_t width;          /* floats of a row */
	size_t table_rows;     /* of the tied parameter */
	size_t rows;           /* most that a step's tokens touch */
	size_t rows_each;      /* a message carries */
	unsigned row_messages; /* in a step, always of all `rows` */
};

/* Where piece or message i is received, in tie_region_bytes(). */
void *tie_slot(void *memory, unsigned index);

struct parameter;
/* For a target of this kind, and so many tokens a step. */
void tie_plan_rows(const struct parameter *target, uint64_t tokens,
		   struct tie_plan *out);
/* Of one message of rows, and of the registered memory of one end. */
size_t tie_row_bytes(const struct tie_plan *plan, unsigned message);
size_t tie_region_bytes(const struct tie_plan *plan, bool rows_end);

struct pipeline;
struct tie;

/*
 * For a rank that holds one end, whose route has been dressed. memory:
 * registered, tie_region_bytes(). Sets the exchange's work. -ENOMEM, logged.
 */
int tie_create(struct pipeline *pipeline, void *memory,
	       struct tie **out) MUST_CHECK;
void tie_destroy(struct tie *tie); /* NULL is legal */

/* Unless tie is NULL: training's pass begins; its tokens are there; action i of
 * the row is done. */
void tie_begin(struct tie *tie);
void tie_tokens(struct tie *tie);
void tie_action_done(struct tie *tie, size_t index);

/* What is left, and waits for it. Errors are the exchange's. */
int tie_finish(struct tie *tie) MUST_CHECK;

#endif
