/*
 * A bias row added to, and summed out of, a matrix [rows, N], row-major and
 * packed. Bits do not depend on the number of threads.
 */
#ifndef STAGECOACH_MODEL_KERNELS_BIAS_H
#define STAGECOACH_MODEL_KERNELS_BIAS_H

#include "base/threads.h"
#include "model/kernels/bfloat16.h"
#include "model/kernels/element.h"

/* Every row of y = bias; for a product with beta = 1 to add on. */
void bias_fill(struct threads *threads, size_t rows, size_t columns,
	       const float *bias, float *y);

/* Every row of y += bias. */
void bias_add(struct threads *threads, size_t rows, size_t columns,
	      const float *bias, float *y);

/* y = sums + bias (NULL: none) of every row, rounded once. */
void bias_add_round(struct threads *threads, size_t rows, size_t columns,
		    const float *sums, const float *bias, bfloat16 *y);

/*
 * dbias[N] += column sums of dy, whose values are of `type` and whose rows are
 * `stride` of them apart. Scratch: 64-byte aligned, contents free before and
 * after.
 */
size_t bias_backward_scratch_bytes(size_t rows, size_t columns);
void bias_backward(struct threads *threads, enum element_type type, size_t rows,
		   size_t columns, size_t stride, const void *dy, float *dbias,
		   void *scratch);

#endif
