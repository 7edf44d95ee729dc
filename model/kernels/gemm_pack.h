/*
 * Factors of a product in bfloat16, put in the order in which it is fastest.
 *
 * A is wanted as plain rows, [rows, k] without gaps. B is wanted in blocks of
 * 64 columns: a block is k / 2 pairs of rows (k rounded up to a multiple of
 * 32), and in each pair the two elements of a column are neighbours, as
 * instructions that multiply pairs read them (oneDNN calls it BA16a64b2a).
 * What is behind the last row or column is zero.
 */
#ifndef STAGECOACH_MODEL_KERNELS_GEMM_PACK_H
#define STAGECOACH_MODEL_KERNELS_GEMM_PACK_H

#include "model/kernels/gemm.h"

#define GEMM_PACK_COLUMNS 64 /* of a block of B */
#define GEMM_PACK_DEPTH   32 /* rows of B that are packed together */

static inline size_t gemm_pack_depth(size_t k)
{
	return (k + GEMM_PACK_DEPTH - 1) / GEMM_PACK_DEPTH * GEMM_PACK_DEPTH;
}

/* Elements of a block of B. */
static inline size_t gemm_pack_block(size_t k)
{
	return gemm_pack_depth(k) * GEMM_PACK_COLUMNS;
}

/*
 * Rows [first, first + depth) of one block of B, `columns` wide; first is a
 * multiple of 32, depth too or reaches k. `b` is op(B)[first][0 of the block]
 * where it is stored, rows ldb apart; `block` begins the whole block.
 */
void gemm_pack_b(enum gemm_transpose transpose, size_t first, size_t depth,
		 size_t columns, const bfloat16 *b, size_t ldb,
		 bfloat16 *block);

/*
 * `rows` rows of op(A), whose first element is stored at `a`, to [rows, k];
 * then rows of zeros up to `padded`.
 */
void gemm_pack_a(enum gemm_transpose transpose, size_t rows, size_t padded,
		 size_t k, const bfloat16 *a, size_t lda, bfloat16 *out);

#endif
