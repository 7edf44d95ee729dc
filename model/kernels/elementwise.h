/*
 * Element-wise work on flat arrays of floats. Arrays are either the same
 * pointer or do not overlap.
 */
#ifndef STAGECOACH_MODEL_KERNELS_ELEMENTWISE_H
#define STAGECOACH_MODEL_KERNELS_ELEMENTWISE_H

#include "base/threads.h"

/* Elements of one task. */
#define ELEMENTWISE_BLOCK 16384

void elementwise_zero(struct threads *threads, size_t count, float *out);
void elementwise_copy(struct threads *threads, size_t count, const float *in,
		      float *out);

/* a += b: merging accumulators, summing gradients. */
void elementwise_accumulate(struct threads *threads, size_t count,
			    const float *b, float *a);

/* out = a + b, out = a * b, out = a * factor. */
void elementwise_add(struct threads *threads, size_t count, const float *a,
		     const float *b, float *out);
void elementwise_multiply(struct threads *threads, size_t count, const float *a,
			  const float *b, float *out);
void elementwise_scale(struct threads *threads, size_t count, float factor,
		       const float *a, float *out);

/* out = the larger of both, and b where they are equal or one is not a number. */
void elementwise_maximum(struct threads *threads, size_t count, const float *a,
			 const float *b, float *out);

/* No NaN and no infinity among the values? */
bool elementwise_all_finite(struct threads *threads, size_t count,
			    const float *values);

#endif
