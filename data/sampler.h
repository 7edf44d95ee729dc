/*
 * Which tokens a training sample holds: a pure function of (seed, global
 * sample index). Nothing to save, nothing that depends on how the samples
 * are divided over micro-batches, replicas or steps.
 *
 * The split is cut into windows of T + 1 tokens at stride T (the last token
 * of a window is the first of the next), N = (tokens - 1) / T of them.
 * Sample i belongs to epoch i / N, and each epoch visits every window once,
 * in an order of its own (random_permute).
 *
 * Of a corpus of examples a window is what is packed into one row of T: whole
 * examples, so that none is cut and little is left free (best fit of the longest
 * first; Johnson 1973). An example of n tokens takes n - 1 places, since its
 * last token is a label only; more than T are cut. Labels that are not
 * supervised, and what is left free, are -1.
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
	/* Of a corpus of examples: */
	bool separate;
	uint64_t examples;
	uint64_t cut;        /* of them, longer than the context */
	uint64_t cut_tokens; /* beyond it */
	uint64_t *first;     /* [examples + 1] tokens; NULL: a corpus of text */
	uint32_t *members;   /* [examples] by window */
	uint32_t *window_first; /* [windows + 1] in that order */
};

/*
 * -EINVAL, with the numbers, when the split has not even one window, or when
 * what is supervised of an example lies beyond the context. After a failure
 * there is nothing to fini.
 */
int sampler_init(struct sampler *sampler, const struct corpus *corpus,
		 enum corpus_split split, enum sampler_order order,
		 uint64_t seed, size_t context) MUST_CHECK;

/* Of a corpus of examples: one example a sample, nothing packed. */
int sampler_init_separate(struct sampler *sampler, const struct corpus *corpus,
			  enum corpus_split split, enum sampler_order order,
			  uint64_t seed, size_t context) MUST_CHECK;

void sampler_fini(struct sampler *sampler); /* all zeros: fine, too */

/* N, the samples of one epoch. */
uint64_t sampler_epoch_samples(const struct sampler *sampler);

/* The window a sample is, in [0, N). */
uint64_t sampler_window(const struct sampler *sampler, uint64_t sample);

/*
 * Samples first_sample .. first_sample + count - 1: tokens [count, T] and
 * labels [count, T], labels[n][t] = the token after tokens[n][t], or -1: not
 * supervised. starts [count, T], of a corpus of examples alone (else NULL):
 * where in the row the token's example begins; what is left free counts as one.
 * Allocates nothing. -EINVAL: an id outside the vocabulary (see corpus_read).
 */
int sampler_fill(const struct sampler *sampler, uint64_t first_sample,
		 size_t count, int32_t *tokens, int32_t *labels,
		 int32_t *starts) MUST_CHECK;

#endif
