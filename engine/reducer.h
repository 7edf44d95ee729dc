/*
 * The reducer: carries out what a reduction plans (engine/reduction.h), while
 * the rank computes.
 *
 * A layer whose last W of the step is done may be summed; the reducer then
 * sends from the accumulators themselves, and adds or stores what comes,
 * whenever it is given the time: between two layers, and while anything else is
 * waited for (exchange_set_work()). Only the functions that say so wait.
 *
 * On every link it keeps to the order of the plan, for what it sends and for
 * what it takes, whichever layer is ready first; so the replicas may be at
 * different places of their rows.
 *
 * A step: begin; layers and stages become ready; tied_await, the exchange
 * between the ends of the tie, tied_ready; squares; settle; the update;
 * weights. With one replica there are no messages, and the same calls.
 */
#ifndef STAGECOACH_ENGINE_REDUCER_H
#define STAGECOACH_ENGINE_REDUCER_H

#include "engine/exchange.h"
#include "engine/reduction.h"
#include "engine/store.h"

struct reducer;

struct reducer_config {
	const struct reduction *plan;
	unsigned replica;      /* this rank's */
	const unsigned *ranks; /* [replicas]: who is replica d, in the world */
	struct store *store; /* level 0 registered; sharded, the weights, too */
	struct route *route; /* of the training pass */
	struct exchange *exchange;
	struct threads *threads;
	unsigned ahead; /* receives posted ahead a link */
	void *memory;   /* registered, reducer_region_bytes() */
};

/* Memory for messages: halves on their way in, and sums of squares. */
size_t reducer_region_bytes(const struct reduction *plan, unsigned replica,
			    unsigned ahead);

/*
 * Gives the route's messages of kind MESSAGE_REDUCE their bytes and places,
 * and the exchange its work. The arrays of config need not outlive the call,
 * the rest must. -ENOMEM, logged.
 */
int reducer_create(const struct reducer_config *config,
		   struct reducer **out) MUST_CHECK;
void reducer_destroy(struct reducer *reducer); /* NULL is fine */

/* After exchange_begin() of a training pass. */
void reducer_begin(struct reducer *reducer);

/* The layer's, or the stage's, gradients of this replica are complete. */
void reducer_layer_ready(struct reducer *reducer, unsigned layer);
void reducer_stage_ready(struct reducer *reducer, unsigned stage);

/*
 * Where stages share windows: waits until the layer's accumulators, which an
 * earlier stage may have had, are free and zero. Before the layer's first
 * addition in a step. After a failure it returns at once, and exchange_error()
 * says why.
 */
void reducer_layer_await(struct reducer *reducer, unsigned layer);

/*
 * Waits for this replica's chunks of what is tied; after them the caller adds
 * the other end's, and says so.
 */
int reducer_tied_await(struct reducer *reducer) MUST_CHECK;
void reducer_tied_ready(struct reducer *reducer);

/*
 * Waits for all sums. On replica 0 square[i] becomes the sum of squares of the
 * i-th row that counts in the norm (store order), with the bits of
 * square_sum() over all of it; the others help to find it.
 */
int reducer_squares(struct reducer *reducer, double *square) MUST_CHECK;

/* Waits until gradients and weights are this rank's own to change. */
int reducer_settle(struct reducer *reducer) MUST_CHECK;

/* After the update: sharded, waits for the weights the others updated, and
 * rounds their copies. Ends the step. */
int reducer_weights(struct reducer *reducer) MUST_CHECK;

#endif
