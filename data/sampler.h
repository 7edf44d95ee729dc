/*
 * Which tokens a training sample holds: a pure function of (seed, global
 * sample index). Nothing to save, nothing that depends on how the samples
 * are divided over micro-batches, replicas or steps.
 *
 * The split is cut into windows of T + 1 tokens at stride T (the last token
 * of a window is the first of the next), N = (tokens - 1) / T of them.
 * Sample i belongs to epoch i / N, and each epoch visits every window once,
 * in an order of its own (random_permute).
 */
#ifndef STAGECOACH_DATA_SAMPLER_H
#define STAGECOACH_DATA_SAMPLER_H

#include "base/random.h"
#include "data/corpus.h"

enum sampler_order {
	SAMPLER_SHUFFLED,   /* training */
	SAMPLER_SEQUENTIAL, /* evaluation: sample i is window i mod N */
};

struct sampler {
	const struct corpus *corpus; /* not owned */
	enum corpus_split split;
	enum sampler_order order;
	uint64_t seed;
	size_t context;   /* T */
	uint64_t windows; /* N */
};

/*
 * -EINVAL, with the numbers, when the split has not even one window.
 * No memory of its own: there is no fini.
 */
int sampler_init(struct sampler *sampler, const struct corpus *corpus,
		 enum corpus_split split, enum sampler_order order,
		 uint64_t seed, size_t context) MUST_CHECK;

/* N, the samples of one epoch. */
uint64_t sampler_epoch_samples(const struct sampler *sampler);

/* The window a sample is, in [0, N). */
uint64_t sampler_window(const struct sampler *sampler, uint64_t sample);

/*
 * Samples first_sample .. first_sample + count - 1: tokens [count, T] and
 * labels [count, T], labels[n][t] = the token after tokens[n][t]. Allocates
 * nothing. -EINVAL: an id outside the vocabulary (see corpus_read).
 */
int sampler_fill(const struct sampler *sampler, uint64_t first_sample,
		 size_t count, int32_t *tokens, int32_t *labels) MUST_CHECK;

#endif
