/*
 * Dropout (Srivastava et al. 2014), inverted: what is kept is scaled by
 * 1 / (1 - probability).
 *
 * The mask is a pure function of a key (seed, step, global layer, site), a
 * global sample id and coordinates within the sample; there is no state and
 * it does not matter how the work is split or how often it is repeated. The
 * random word of (sample, coordinate, index) is word index / 16 % 4 of the
 * Philox4x32-10 block with counter {high = sample, low = coordinate << 24 |
 * (index / 64 * 16 + index % 16)}: 64 consecutive words are the four words of
 * 16 consecutive blocks, which vector code makes without a transposition.
 */
#ifndef STAGECOACH_MODEL_KERNELS_DROPOUT_H
#define STAGECOACH_MODEL_KERNELS_DROPOUT_H

#include "base/random.h"
#include "base/threads.h"
#include "model/kernels/element.h"

/* Room of the coordinates: coordinate < 2^40, index < 2^26. */
#define DROPOUT_COORDINATE_BITS 40
#define DROPOUT_INDEX_BITS      26

/* `site` tells the dropouts of one layer apart. */
struct random_key dropout_key(uint64_t seed, uint64_t step, uint32_t layer,
			      uint32_t site);

/*
 * Words first .. first + count - 1 of one coordinate's row, into out[count].
 * Attention uses dropout_attention_coordinate(head, query) and the key's
 * position as the index; rows of activations use the position in the sample
 * and the channel.
 */
void dropout_words(struct random_key key, uint64_t sample_id,
		   uint64_t coordinate, size_t first, size_t count,
		   uint32_t *out);

/* head < 2^16, query position < 2^24. */
static inline uint64_t dropout_attention_coordinate(size_t head, size_t query)
{
	return (uint64_t)head << 24 | (uint64_t)query;
}

/* An element is dropped when its word is below this. probability in [0, 1). */
static inline uint32_t dropout_threshold(float probability)
{
	return (uint32_t)((double)probability * 4294967296.0);
}

/* What a kept element is multiplied with. */
static inline float dropout_scale(float probability)
{
	return 1.0f / (1.0f - probability);
}

/* One dropout over the rows of a micro-batch. */
struct dropout {
	struct random_key key;
	float probability;          /* of dropping, in [0, 1); 0: identity */
	size_t rows_per_sample;     /* T: row r belongs to sample r / T ... */
	size_t position_offset;     /* ... at position offset + r % T */
	const uint64_t *sample_ids; /* global, one per sample */
};

/*
 * out[rows, C] = in where kept, scaled; 0 elsewhere; of values of `type`. The forward and, with
 * gradients, the backward. out may be in. `dropout` NULL or of probability
 * 0 copies.
 */
void dropout_apply(struct threads *threads, enum element_type type,
		   const struct dropout *dropout, size_t rows, size_t channels,
		   const void *in, void *out);

/*
 * y = x + drop(p): a residual connection. y may be x or p. Its backward is
 * dropout_apply() from dy to dp, and dy itself for x.
 */
void dropout_residual_add(struct threads *threads, enum element_type type,
			  const struct dropout *dropout, size_t rows,
			  size_t channels, const void *x, const void *p,
			  void *y);

#endif
