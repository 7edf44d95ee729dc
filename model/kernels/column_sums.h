/*
 * Sums down the columns of a matrix, as the gradients of gains and biases
 * need: rows are summed in fixed blocks, one task each, into scratch; then the
 * blocks' partial sums are added in ascending order, and once to the result.
 */
#ifndef STAGECOACH_MODEL_KERNELS_COLUMN_SUMS_H
#define STAGECOACH_MODEL_KERNELS_COLUMN_SUMS_H

#include "base/threads.h"

/* Rows of one block. Part of the bits. */
#define COLUMN_SUMS_ROWS 32

size_t column_sums_blocks(size_t rows);
size_t column_sums_scratch_bytes(size_t rows, size_t columns);

/*
 * out[columns] += sum over blocks, ascending, of partials[block][columns],
 * which whoever calls this has filled. out NULL: nothing is done.
 */
void column_sums_combine(struct threads *threads, size_t blocks, size_t columns,
			 const float *partials, float *out);

#endif
