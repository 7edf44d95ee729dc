/*
 * Work memory of products in bfloat16, some pieces a thread. They grow when a
 * product is prepared and are freed when the thread ends.
 */
#ifndef STAGECOACH_MODEL_KERNELS_GEMM_SCRATCH_H
#define STAGECOACH_MODEL_KERNELS_GEMM_SCRATCH_H

#include "base/compiler.h"

enum gemm_piece {
	GEMM_PIECE_TILE,     /* of C, in float */
	GEMM_PIECE_PACKED_A, /* of the thread that calls, for all */
	GEMM_PIECE_PACKED_B,
	GEMM_PIECE_WIDE_A, /* parts in float */
	GEMM_PIECE_WIDE_B,
	GEMM_PIECE_LIBRARY, /* the library's own */
	GEMM_PIECES,
};

/*
 * Makes the calling thread's piece at least so large; what it held is lost, and
 * pointers into it end, when it grows. 0 bytes are none. -ENOMEM.
 */
int gemm_scratch_grow(enum gemm_piece piece, size_t bytes) MUST_CHECK;

/* The calling thread's, at the beginning of a cache line. NULL: none yet. */
void *gemm_scratch(enum gemm_piece piece);

#endif
