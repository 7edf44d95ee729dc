/*
 * Products of few rows, as decoding makes them: one row a token. Every weight
 * is used once or a few times, so what takes time is its way from memory;
 * beside the library's products (gemm.h), which copy the weights first or read
 * them in pieces, these read them once, in the order in which they lie.
 *
 * Results depend on neither the number of threads nor the instruction set, nor
 * does a row on how many there are; they are not the bits of gemm(). Nothing is
 * allocated; scratch is the caller's, its contents are free before and after.
 */
#ifndef STAGECOACH_MODEL_KERNELS_FEW_ROWS_H
#define STAGECOACH_MODEL_KERNELS_FEW_ROWS_H

#include "model/kernels/gemm.h"

#define FEW_ROWS 4 /* at most; from here on gemm() wins */

struct few_rows {
	size_t m, n, k; /* m <= FEW_ROWS */
	const float *a; /* [m, k], rows lda apart */
	size_t lda;
	/* [k, n], or with `transposed` [n, k]; rows ldb apart */
	const float *b;
	size_t ldb;
	bool transposed;
	float *c; /* [m, n], rows ldc apart; overlaps nothing */
	size_t ldc;
	const float *bias; /* [n], added to every row; NULL: none */
};

/* C = A op(B) + bias. m = 0 or n = 0 does nothing; k = 0 is a product of 0. */
size_t few_rows_scratch_bytes(size_t m, size_t n, size_t k, bool transposed);
void few_rows_multiply(struct threads *threads, const struct few_rows *product,
		       void *scratch);

#endif
