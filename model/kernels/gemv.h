/*
 * One row by a matrix: what a token of decoding is made of. Each weight is read
 * once and used once, so that such a product takes as long as memory takes to
 * hand over the matrix; these loops read it as one stream a thread, which is
 * what processors fetch ahead best.
 *
 * Sums are float, in an order that follows from n, k and the matrix's layout
 * alone: the bits are the same for every team and instruction set.
 */
#ifndef STAGECOACH_MODEL_KERNELS_GEMV_H
#define STAGECOACH_MODEL_KERNELS_GEMV_H

#include "base/threads.h"
#include "model/kernels/bfloat16.h"
#include "model/kernels/gemm.h"

/*
 * y[n] = x[k] op(W), or with `add` y += that. W is stored [k, n], or [n, k] when
 * transposed; its rows are ldw elements apart. y overlaps neither x nor W.
 * n = 0 does nothing, k = 0 counts as a product of zeros.
 *
 * Allocates nothing on a thread that has run gemm_prepare() or
 * gemm_prepare_thread(), whose work memory it takes for the time of the call.
 */
void gemv(struct threads *threads, enum gemm_transpose transpose_w, size_t n,
	  size_t k, const float *x, const float *w, size_t ldw, bool add,
	  float *y);

/* The same with weights in bfloat16, which are widened as they are read. */
void gemv_bfloat16(struct threads *threads, enum gemm_transpose transpose_w,
		   size_t n, size_t k, const float *x, const bfloat16 *w,
		   size_t ldw, bool add, float *y);

/* Both once more as plain loops in double, w[n k] widened, for tests. */
void gemv_reference(enum gemm_transpose transpose_w, size_t n, size_t k,
		    const float *x, const float *w, size_t ldw, double *y);

#endif
