/*
 * Matrix products: the only door to BLAS. Everything is row-major; float, but
 * for gemm_bfloat16(). (A single row of A goes by loops of our own, gemv.h.)
 *
 * The bits of a product are a function of its shape, transposes, leading
 * dimensions and operands, never of the number of threads: C is cut into
 * tiles whose sizes follow from (m, n, k) alone, each tile is one call to the
 * library with the whole of k, and the library runs single-threaded inside.
 * The team shares the tiles. (Products of different shape may round
 * differently: rows 0..255 of a product with 256 rows need not equal the
 * same rows of one with 1024.)
 *
 * No call allocates once gemm_prepare() has run on the team.
 */
#ifndef STAGECOACH_MODEL_KERNELS_GEMM_H
#define STAGECOACH_MODEL_KERNELS_GEMM_H

#include "base/compiler.h"
#include "base/threads.h"
#include "model/kernels/bfloat16.h"
#include "model/kernels/element.h"
#include "model/kernels/gemm_scratch.h"

enum gemm_transpose {
	GEMM_NORMAL,
	GEMM_TRANSPOSED,
};

/*
 * What is done to each finished tile by the thread that made it, while the
 * tile is in its cache: first the bias, then `finish`. `finish` sees the tile
 * of `rows` x `columns` at C[row][column]; `c` points at the tile's first
 * element, rows are ldc apart. It must treat each element for itself: how
 * C is cut into tiles is not part of the contract.
 */
struct gemm_epilogue {
	const float *bias; /* [n], added to every row; NULL: none */
	void (*finish)(void *argument, float *c, size_t ldc, size_t row,
		       size_t column, size_t rows, size_t columns);
	void *argument; /* of finish; finish NULL: none */
};

/*
 * C[m, n] = op(A)[m, k] op(B)[k, n] + beta C, then the epilogue (NULL: none).
 *
 * op(A) is A, stored [m, k] with rows lda apart, or the transpose of what is
 * stored [k, m]; B likewise ([k, n], or [n, k] when transposed). beta is
 * 0 (C is written, never read) or 1. m = 0 or n = 0 does nothing; k = 0 counts
 * as a product of zeros. C overlaps neither A nor B. Not reentrant on one team.
 */
void gemm(struct threads *threads, enum gemm_transpose transpose_a,
	  enum gemm_transpose transpose_b, size_t m, size_t n, size_t k,
	  const float *a, size_t lda, const float *b, size_t ldb, float beta,
	  float *c, size_t ldc, const struct gemm_epilogue *epilogue);

/*
 * The same product, scaled by alpha, in one call on the calling thread: for
 * the blocks of a task that has its own parallelism (attention). The thread
 * has run gemm_prepare() as a member of some team, or gemm_prepare_thread().
 */
void gemm_block(enum gemm_transpose transpose_a,
		enum gemm_transpose transpose_b, size_t m, size_t n, size_t k,
		float alpha, const float *a, size_t lda, const float *b,
		size_t ldb, float beta, float *c, size_t ldc);

/*
 * Readies BLAS on every thread of the team: one thread inside the library,
 * work memory mapped and touched. Call once after threads_create(), before the
 * memory is sealed. -ENOMEM. What a thread got is freed when it ends.
 */
int gemm_prepare(struct threads *threads) MUST_CHECK;
int gemm_prepare_thread(void) MUST_CHECK; /* the calling thread alone */
/* The same but for touching the memory: for a team that lives shortly. */
int gemm_prepare_untouched(struct threads *threads) MUST_CHECK;

/*
 * C[m, n] = op(A)[m, k] op(B)[k, n] + beta C, then the bias [n] (NULL: none) is
 * added to every row. A and B are bfloat16, sums are float; C is ELEMENT_F32,
 * or ELEMENT_BF16, to which it is rounded once. beta, overlap, m, n and k as
 * in gemm(), the law of the bits too.
 *
 * Sizes that were not prepared are made ready by the first such call, which
 * allocates, and aborts where there is no memory.
 */
void gemm_bfloat16(struct threads *threads, enum gemm_transpose transpose_a,
		   enum gemm_transpose transpose_b, size_t m, size_t n,
		   size_t k, const bfloat16 *a, size_t lda, const bfloat16 *b,
		   size_t ldb, float beta, enum element_type c_type, void *c,
		   size_t ldc, const float *bias);

/*
 * Makes ready what that product needs on this team, so that gemm_bfloat16()
 * allocates nothing: called by the thread that will call it. Idempotent;
 * several teams may do it at once. What a thread got is freed when it ends.
 * -ENOMEM.
 */
int gemm_bfloat16_prepare(struct threads *threads,
			  enum gemm_transpose transpose_a,
			  enum gemm_transpose transpose_b, size_t m, size_t n,
			  size_t k, size_t lda, size_t ldb, float beta,
			  enum element_type c_type, size_t ldc,
			  bool bias) MUST_CHECK;

/*
 * Work memory that products of bfloat16 on one team come to have, each piece as
 * large as the product that needs most of it. Starts as zeros.
 */
struct gemm_bfloat16_work {
	size_t shared[GEMM_PIECES]; /* bytes, of the thread that calls */
	size_t each[GEMM_PIECES];   /* of every thread */
};

/*
 * Adds a product as gemm_bfloat16_prepare() would ready it on a team of
 * `threads`; allocates nothing.
 */
void gemm_bfloat16_count(unsigned threads, enum gemm_transpose transpose_a,
			 enum gemm_transpose transpose_b, size_t m, size_t n,
			 size_t k, size_t lda, size_t ldb,
			 struct gemm_bfloat16_work *work);

/* Of all threads, and what the library takes beside; 0 without a product. */
size_t gemm_bfloat16_work_bytes(const struct gemm_bfloat16_work *work,
				unsigned threads);

/*
 * What multiplies bfloat16 on this machine, chosen at the first call: oneDNN,
 * its version and instruction set, or "widened": factors become floats and
 * gemm_library() multiplies. STAGECOACH_BFLOAT16=widened in the environment
 * asks for the latter. A static string.
 */
const char *gemm_bfloat16_library(void);
bool gemm_bfloat16_is_widened(void); /* it is the latter */

/* The size of the tiles of an (m, n, k) product; at the edges less. */
struct gemm_tile {
	size_t rows;
	size_t columns;
};
struct gemm_tile gemm_tile_size(size_t m, size_t n, size_t k);

/* Names tiles, attention's blocks, and what else decides the bits. */
#define GEMM_VERSION "gemm-2"

/*
 * What is linked, for the numerics digest and the start line: name, version
 * and configuration; the kernels chosen for this processor. Static strings.
 */
const char *gemm_library(void);
const char *gemm_library_core(void);

#endif
