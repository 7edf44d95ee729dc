#include "model/kernels/gemm_pack.h"
#include "model/kernels/vector_math.h"

#include <string.h>

/*
 * Everything is made of squares of 16 x 16 words, a word being two elements
 * that are neighbours in k.
 */
#define SIDE 16

typedef uint32_t words __attribute__((vector_size(SIDE * sizeof(uint32_t))));
typedef bfloat16 halves __attribute__((vector_size(SIDE * sizeof(bfloat16))));

/* (By pointer: how vectors are passed depends on the instruction set.) */
VECTOR_INLINE void words_load(words *out, const bfloat16 *from)
{
	memcpy(out, from, sizeof(*out));
}

VECTOR_INLINE void words_store(const words *values, bfloat16 *to)
{
	memcpy(to, values, sizeof(*values));
}

/* (low[i], high[i]) for each i, in the order of memory. */
VECTOR_INLINE void words_pair(words *out, const bfloat16 *low,
			      const bfloat16 *high)
{
	halves l, h;

	memcpy(&l, low, sizeof(l));
	memcpy(&h, high, sizeof(h));
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	*out = __builtin_convertvector(l, words) |
	       __builtin_convertvector(h, words) << 16;
#else
	*out = __builtin_convertvector(h, words) |
	       __builtin_convertvector(l, words) << 16;
#endif
}

#if defined(__clang__)
#define INTERLEAVE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define INTERLEAVE(a, b, ...) __builtin_shuffle(a, b, (words){__VA_ARGS__})
#endif

/*
 * Transposes: dealing row i and row i + 8 out alternately, into rows 2 i and
 * 2 i + 1, four times brings each word's bits of row and column about.
 */
VECTOR_INLINE void words_transpose(words square[SIDE])
{
	words dealt[SIDE];

	for (int round = 0; round < 4; round++) {
		for (int i = 0; i < SIDE / 2; i++) {
			words a = square[i], b = square[i + SIDE / 2];

			dealt[2 * i] =
				INTERLEAVE(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4,
					   20, 5, 21, 6, 22, 7, 23);
			dealt[2 * i + 1] =
				INTERLEAVE(a, b, 8, 24, 9, 25, 10, 26, 11, 27,
					   12, 28, 13, 29, 14, 30, 15, 31);
		}
		for (int i = 0; i < SIDE; i++)
			square[i] = dealt[i];
	}
}

/* `rows` x `columns` of a matrix with zeros around, [2 SIDE or SIDE rows]. */
static const bfloat16 *padded(size_t rows, size_t columns, const bfloat16 *from,
			      size_t stride, size_t full_rows,
			      size_t full_columns, bfloat16 *buffer)
{
	memset(buffer, 0, full_rows * full_columns * sizeof(*buffer));
	for (size_t row = 0; row < rows; row++)
		memcpy(buffer + row * full_columns, from + row * stride,
		       columns * sizeof(*buffer));
	return buffer;
}

/* ---- squares: 32 elements of k times 16 of the other side ---- */

/*
 * Stored by k: from[32 of k][16]. Its transpose is to[16][32 of k].
 */
KERNEL_CLONES_AVX512 static void square_turn(const bfloat16 *from,
					     size_t from_stride, bfloat16 *to,
					     size_t to_stride)
{
	words square[SIDE];

	for (size_t i = 0; i < SIDE; i++)
		words_pair(&square[i], from + 2 * i * from_stride,
			   from + (2 * i + 1) * from_stride);
	words_transpose(square);
	for (size_t i = 0; i < SIDE; i++)
		words_store(&square[i], to + i * to_stride);
}

/* Stored by column: from[16][32 of k]. To pairs: to[16][16 of (2)]. */
KERNEL_CLONES_AVX512 static void
square_pair_turned(const bfloat16 *from, size_t from_stride, bfloat16 *to)
{
	words square[SIDE];

	for (size_t i = 0; i < SIDE; i++)
		words_load(&square[i], from + i * from_stride);
	words_transpose(square);
	for (size_t i = 0; i < SIDE; i++)
		words_store(&square[i], to + 2 * i * GEMM_PACK_COLUMNS);
}

/* Stored by k: from[32 of k][64] to a whole block's pairs. */
KERNEL_CLONES_AVX512 static void block_pair(const bfloat16 *from,
					    size_t from_stride, bfloat16 *to)
{
	for (size_t i = 0; i < GEMM_PACK_DEPTH; i += 2)
		for (size_t j = 0; j < GEMM_PACK_COLUMNS; j += SIDE) {
			const bfloat16 *pair = from + i * from_stride + j;
			words paired;

			words_pair(&paired, pair, pair + from_stride);
			words_store(&paired,
				    to + i * GEMM_PACK_COLUMNS + 2 * j);
		}
}

/* ---- B ---- */

static void pack_b_plain(size_t depth, size_t columns, const bfloat16 *b,
			 size_t ldb, bfloat16 *out)
{
	bfloat16 buffer[GEMM_PACK_DEPTH * GEMM_PACK_COLUMNS];

	for (size_t i = 0; i < depth; i += GEMM_PACK_DEPTH) {
		size_t rows = MIN(depth - i, (size_t)GEMM_PACK_DEPTH);
		bfloat16 *to = out + i * GEMM_PACK_COLUMNS;

		if (rows == GEMM_PACK_DEPTH && columns == GEMM_PACK_COLUMNS)
			block_pair(b + i * ldb, ldb, to);
		else
			block_pair(padded(rows, columns, b + i * ldb, ldb,
					  GEMM_PACK_DEPTH, GEMM_PACK_COLUMNS,
					  buffer),
				   GEMM_PACK_COLUMNS, to);
	}
}

static void pack_b_turned(size_t depth, size_t columns, const bfloat16 *b,
			  size_t ldb, bfloat16 *out)
{
	bfloat16 buffer[SIDE * GEMM_PACK_DEPTH];

	for (size_t i = 0; i < depth; i += GEMM_PACK_DEPTH) {
		size_t rows = MIN(depth - i, (size_t)GEMM_PACK_DEPTH);

		for (size_t j = 0; j < GEMM_PACK_COLUMNS; j += SIDE) {
			size_t width =
				MIN(columns - MIN(columns, j), (size_t)SIDE);
			const bfloat16 *from = b + j * ldb + i;
			bfloat16 *to = out + i * GEMM_PACK_COLUMNS + 2 * j;

			if (rows == GEMM_PACK_DEPTH && width == SIDE)
				square_pair_turned(from, ldb, to);
			else
				square_pair_turned(
					padded(width, rows, from, ldb, SIDE,
					       GEMM_PACK_DEPTH, buffer),
					GEMM_PACK_DEPTH, to);
		}
	}
}

void gemm_pack_b(enum gemm_transpose transpose, size_t first, size_t depth,
		 size_t columns, const bfloat16 *b, size_t ldb, bfloat16 *block)
{
	bfloat16 *out = block + first * GEMM_PACK_COLUMNS;

	if (transpose == GEMM_TRANSPOSED)
		pack_b_turned(depth, columns, b, ldb, out);
	else
		pack_b_plain(depth, columns, b, ldb, out);
}

/* ---- A ---- */

static void pack_a_turned(size_t rows, size_t k, const bfloat16 *a, size_t lda,
			  bfloat16 *out)
{
	bfloat16 buffer[GEMM_PACK_DEPTH * SIDE], turned[SIDE * GEMM_PACK_DEPTH];

	for (size_t i = 0; i < k; i += GEMM_PACK_DEPTH) {
		size_t depth = MIN(k - i, (size_t)GEMM_PACK_DEPTH);

		for (size_t j = 0; j < rows; j += SIDE) {
			size_t width = MIN(rows - j, (size_t)SIDE);
			const bfloat16 *from = a + i * lda + j;

			if (depth == GEMM_PACK_DEPTH && width == SIDE) {
				square_turn(from, lda, out + j * k + i, k);
				continue;
			}
			square_turn(padded(depth, width, from, lda,
					   GEMM_PACK_DEPTH, SIDE, buffer),
				    SIDE, turned, GEMM_PACK_DEPTH);
			for (size_t row = 0; row < width; row++)
				memcpy(out + (j + row) * k + i,
				       turned + row * GEMM_PACK_DEPTH,
				       depth * sizeof(*out));
		}
	}
}

void gemm_pack_a(enum gemm_transpose transpose, size_t rows, size_t padded_rows,
		 size_t k, const bfloat16 *a, size_t lda, bfloat16 *out)
{
	if (transpose == GEMM_TRANSPOSED)
		pack_a_turned(rows, k, a, lda, out);
	else
		for (size_t row = 0; row < rows; row++)
			memcpy(out + row * k, a + row * lda, k * sizeof(*out));
	memset(out + rows * k, 0, (padded_rows - rows) * k * sizeof(*out));
}
