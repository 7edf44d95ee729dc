/*
 * A bias row added to, and summed out of, a matrix [rows, N], row-major and
 * packed. Bits do not depend on the number of threads.
 */
#ifndef STAGECOACH_MODEL_KERNELS_BIAS_H
#define STAGECOACH_MODEL_KERNELS_BIAS_H

#include "base/threads.h"

/* Every row of y = bias; for a product with beta = 1 to add on. */
void bias_fill(struct threads *threads, size_t rows, size_t columns,
	       const float *bias, float *y);

/* Every row of y += bias. */
void bias_add(struct threads *threads, size_t rows, size_t columns,
	      const float *bias, float *y);

/*
 * dbias[N] += column sums of dy. Scratch: 64-byte aligned, contents free
 * before and after.
 */
size_t bias_backward_scratch_bytes(size_t rows, size_t columns);
void bias_backward(struct threads *threads, size_t rows, size_t columns,
		   const float *dy, float *dbias, void *scratch);

#endif
