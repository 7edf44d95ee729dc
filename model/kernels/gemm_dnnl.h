/*
 * oneDNN, as far as products in bfloat16 need it: the only door to dnnl.h.
 *
 * The library is loaded by the first who asks, not by the linker: a rank that
 * computes in float pays nothing for it. Each tile is one matmul primitive on
 * the calling thread. oneDNN 2 has one kind that is fast and takes no memory
 * of its own, brgemm; it wants A and C without gaps between rows, and is fastest
 * when B is packed (gemm_pack.h).
 */
#ifndef STAGECOACH_MODEL_KERNELS_GEMM_DNNL_H
#define STAGECOACH_MODEL_KERNELS_GEMM_DNNL_H

#include "model/kernels/bfloat16.h"

/*
 * Loads it, once a process. NULL: it is not there, or has no fast product in
 * bfloat16 for this processor, which is logged at debug level. Else what it is:
 * name, version, instruction set and hints in effect, kind of product.
 */
const char *gemm_dnnl_open(void);

/* Makes a tile's primitive ready on the calling thread. Idempotent. -ENOMEM. */
int gemm_dnnl_prepare(size_t rows, size_t columns, size_t k) MUST_CHECK;

/*
 * c[rows, columns] = a[rows, k] b, where b is packed: columns / 64 blocks; columns is a
 * multiple of 64. c begins a cache line. Prepared on this thread.
 */
void gemm_dnnl_tile(size_t rows, size_t columns, size_t k, const bfloat16 *a,
		    const bfloat16 *b, float *c);

#endif
