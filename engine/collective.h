/*
 * Collectives: what the ranks of a tensor group exchange while they carry out
 * the same actions, each with its slice of the layers.
 *
 * The T ranks of a group are neighbours in the world and make the same calls in
 * the same order, a stream. In a pass the links between them carry nothing but
 * this stream; between passes nothing of it is under way, for every call
 * waits until what it sent has left and what it expected has come.
 *
 * Values are combined in an order that depends on T alone: element by element
 * as an aligned binary tree over the slices, ((0 + 1) + (2 + 3)) + (4 + 5),
 * whatever the number of values. All slices end with the same bits.
 *
 * How: of few values, and of any number where T is 2, each slice sends all it
 * has to each other one, and all add. Of many, each slice owns 1/T of them:
 * it gets the others' versions of its part, combines them, and sends out what
 * came of it (reduce-scatter and all-gather, without the intermediate steps of
 * recursive halving, which would cost 2 log2 T waits instead of two and save
 * nothing inside a host). Both send what any algorithm must for large counts,
 * 2 (T - 1) / T of the values a slice: collective_sum_bytes().
 *
 * Layers' memory is not registered, so that values go through slots of memory
 * that is: written straight into the receiver's where the transport can, and
 * combined where they arrive. Long arrays go in pieces of a slot, several
 * under way at once.
 */
#ifndef STAGECOACH_ENGINE_COLLECTIVE_H
#define STAGECOACH_ENGINE_COLLECTIVE_H

#include "engine/exchange.h"
#include "model/layers/layer.h"

/* The most values' bytes that travel as one message. */
#define COLLECTIVE_SLOT_BYTES ((size_t)256 << 10)

struct collective;

struct collective_config {
	struct exchange *exchange; /* outlives the collective */
	struct threads *threads;   /* copy and add */
	unsigned slices;           /* T, at least 2 */
	unsigned slice;            /* this rank's */
	unsigned first_rank;       /* of the group: that of slice 0 */
	void *memory;              /* registered, collective_region_bytes() */
};

/* What collective_create() needs of memory the transport knows; T = 1: 0. */
size_t collective_region_bytes(unsigned slices);

/* The memory stays the caller's. -ENOMEM, logged. */
int collective_create(const struct collective_config *config,
		      struct collective **out) MUST_CHECK;
void collective_destroy(struct collective *collective);

/*
 * A pass begins (exchange_begin() has been called): messages and bytes are
 * counted anew. NULL is legal.
 */
void collective_begin(struct collective *collective);

/*
 * What layers are given in their context; its calls block until all slices have
 * made them, or something has failed: then, and from then on, they return at
 * once, and exchange_error() says why. NULL for NULL.
 */
const struct layer_collectives *
collective_layers(const struct collective *collective);

/* What slice 0 has in `data`, all have afterwards. The bytes are known to all. */
int collective_broadcast(struct collective *collective, void *data,
			 size_t bytes) MUST_CHECK;

/* all[s * bytes ...] becomes what slice s has in `mine`; they do not overlap. */
int collective_all_gather(struct collective *collective, const void *mine,
			  size_t bytes, void *all) MUST_CHECK;

/* Sent since collective_begin(), payload. */
uint64_t collective_bytes_sent(const struct collective *collective);

/* What a slice sends for a sum or a maximum of so many floats. */
uint64_t collective_sum_bytes(unsigned slices, unsigned slice, size_t count);

#endif
