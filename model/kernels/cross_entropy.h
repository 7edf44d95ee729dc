/*
 * Softmax and cross-entropy over rows of logits [rows, V]; consecutive rows
 * are `stride` >= V floats apart. A label below 0 is not supervised: loss 0,
 * gradient 0. Labels must be below V; whoever takes them from a file checks.
 * Parallel over rows, each by one thread: bits do not depend on their number,
 * nor on how the rows are cut into calls.
 */
#ifndef STAGECOACH_MODEL_KERNELS_CROSS_ENTROPY_H
#define STAGECOACH_MODEL_KERNELS_CROSS_ENTROPY_H

#include "base/threads.h"

/*
 * losses[r] = -ln softmax(logits[r])[labels[r]], in nats, and logits become
 * their gradient: (softmax - onehot(label)) * scale. scale is usually 1 / the
 * step's supervised tokens.
 */
void cross_entropy_forward_backward(struct threads *threads, size_t rows,
				    size_t vocabulary, size_t stride,
				    const int32_t *labels, float scale,
				    float *logits, double *losses);

/* The losses alone; logits are left as they are. The same bits of losses. */
void cross_entropy_forward(struct threads *threads, size_t rows,
			   size_t vocabulary, size_t stride,
			   const int32_t *labels, const float *logits,
			   double *losses);

#endif
