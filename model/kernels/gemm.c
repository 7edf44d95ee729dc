#include "model/kernels/gemm.h"
#include "base/log.h"
#include "model/kernels/gemm_memory.h"
#include "model/kernels/gemv.h"
#include "model/kernels/vector_math.h"

#include <cblas.h>
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Another BLAS has none of these. */
#pragma weak openblas_get_config
#pragma weak openblas_get_corename
#pragma weak openblas_get_parallel
#pragma weak openblas_set_num_threads

/* ---- the library ---- */

/*
 * A library that neither takes its memory from us nor locks inside is entered
 * by one thread at a time. A fact about the process, found once.
 */
static atomic_bool library_unsafe;
static pthread_mutex_t library_lock = PTHREAD_MUTEX_INITIALIZER;

static bool library_enter(void)
{
	bool unsafe =
		atomic_load_explicit(&library_unsafe, memory_order_relaxed);

	if (unsafe)
		pthread_mutex_lock(&library_lock);
	return unsafe;
}

static void library_leave(bool locked)
{
	if (locked)
		pthread_mutex_unlock(&library_lock);
}

const char *gemm_library(void)
{
	return openblas_get_config != NULL ? openblas_get_config()
					   : "unknown BLAS";
}

const char *gemm_library_core(void)
{
	return openblas_get_corename != NULL ? openblas_get_corename()
					     : "unknown";
}

/*
 * Only our team shares work. The OpenMP build asks OpenMP, which keeps a
 * number for each thread; the pthread build has one for the process.
 */
static void library_use_one_thread(void)
{
	void (*set)(int) = NULL;
	void *symbol;

	if (openblas_get_parallel == NULL)
		return;
	if (openblas_get_parallel() == OPENBLAS_OPENMP) {
		symbol = dlsym(RTLD_DEFAULT, "omp_set_num_threads");
		memcpy(&set, &symbol, sizeof(set));
		if (set != NULL)
			set(1);
	} else if (openblas_set_num_threads != NULL) {
		openblas_set_num_threads(1);
	}
}

static void library_warn_unsafe(void)
{
	if (atomic_exchange(&library_unsafe, true))
		return;
	log_warning("%s is not safe to call from several threads at once: "
		    "matrix products run one at a time; use the pthread build "
		    "(Debian: apt-get install libopenblas0-pthread)",
		    gemm_library());
}

/* Rows and columns of a product no special kernel for small ones takes. */
#define TRIAL 192

/*
 * Multiplies once: what the library sets up late is set up now, and whether it
 * takes its memory from us is seen.
 */
static int library_try(void)
{
	uint64_t before = gemm_memory_requests();
	float *zeros = calloc((size_t)TRIAL * TRIAL, sizeof(*zeros));
	float *out = calloc((size_t)TRIAL * TRIAL, sizeof(*out));
	int error = -ENOMEM;

	if (zeros == NULL || out == NULL) {
		log_error("no memory to try a matrix product");
		goto out_free;
	}
	gemm_block(GEMM_NORMAL, GEMM_NORMAL, TRIAL, TRIAL, TRIAL, 1.0f, zeros,
		   TRIAL, zeros, TRIAL, 1.0f, out, TRIAL);
	if (gemm_memory_requests() == before && openblas_get_parallel != NULL &&
	    openblas_get_parallel() == OPENBLAS_SEQUENTIAL)
		library_warn_unsafe();
	error = 0;
out_free:
	free(zeros);
	free(out);
	return error;
}

static int prepare_thread(bool touch)
{
	int error = gemm_memory_prepare(touch);

	if (error != 0)
		return error;
	library_use_one_thread();
	return library_try();
}

int gemm_prepare_thread(void)
{
	return prepare_thread(true);
}

struct preparation {
	bool touch;
	atomic_int error;
};

static void prepare_task(void *argument, size_t index, unsigned thread)
{
	struct preparation *preparation = argument;
	int error = prepare_thread(preparation->touch);

	(void)index;
	(void)thread;
	if (error != 0)
		atomic_store(&preparation->error, error);
}

static int prepare_team(struct threads *threads, bool touch)
{
	struct preparation preparation = {.touch = touch};

	threads_run_each(threads, prepare_task, &preparation);
	return atomic_load(&preparation.error);
}

int gemm_prepare(struct threads *threads)
{
	return prepare_team(threads, true);
}

int gemm_prepare_untouched(struct threads *threads)
{
	return prepare_team(threads, false);
}

/* ---- one product, one thread ---- */

static enum CBLAS_TRANSPOSE cblas_transpose(enum gemm_transpose transpose)
{
	return transpose == GEMM_TRANSPOSED ? CblasTrans : CblasNoTrans;
}

static blasint blas_int(size_t value)
{
	ASSERT(value <= INT_MAX);
	return (blasint)value;
}

/*
 * One row: a matrix and a vector. The general product would copy the whole
 * matrix first, to use it once. For blocks, which are small; whole matrices by
 * gemv().
 */
static void row_product(enum gemm_transpose transpose_a,
			enum gemm_transpose transpose_b, size_t n, size_t k,
			float alpha, const float *a, size_t lda, const float *b,
			size_t ldb, float beta, float *c)
{
	blasint step = transpose_a == GEMM_TRANSPOSED ? blas_int(lda) : 1;

	if (beta == 0.0f)
		memset(c, 0, n * sizeof(*c));
	if (transpose_b == GEMM_TRANSPOSED)
		cblas_sgemv(CblasRowMajor, CblasNoTrans, blas_int(n),
			    blas_int(k), alpha, b, blas_int(ldb), a, step, 1.0f,
			    c, 1);
	else
		cblas_sgemv(CblasRowMajor, CblasTrans, blas_int(k), blas_int(n),
			    alpha, b, blas_int(ldb), a, step, 1.0f, c, 1);
}

static void clear(size_t m, size_t n, float *c, size_t ldc)
{
	for (size_t row = 0; row < m; row++)
		memset(c + row * ldc, 0, n * sizeof(*c));
}

void gemm_block(enum gemm_transpose transpose_a,
		enum gemm_transpose transpose_b, size_t m, size_t n, size_t k,
		float alpha, const float *a, size_t lda, const float *b,
		size_t ldb, float beta, float *c, size_t ldc)
{
	bool locked;

	if (m == 0 || n == 0)
		return;
	if (k == 0) {
		if (beta == 0.0f)
			clear(m, n, c, ldc);
		return;
	}
	locked = library_enter();
	if (m == 1)
		row_product(transpose_a, transpose_b, n, k, alpha, a, lda, b,
			    ldb, beta, c);
	else
		cblas_sgemm(CblasRowMajor, cblas_transpose(transpose_a),
			    cblas_transpose(transpose_b), blas_int(m),
			    blas_int(n), blas_int(k), alpha, a, blas_int(lda),
			    b, blas_int(ldb), beta, c, blas_int(ldc));
	library_leave(locked);
}

/* ---- tiles ---- */

/*
 * What a tile costs beside its multiplications, in the time of one
 * multiplication: OpenBLAS copies B's part once for each tile, which is
 * repeated for every block of rows, and A's part, repeated for every block of
 * columns. Round middles of what pairs of grids of 128..1024 x 192..1536 told,
 * with the Cooperlake kernels of 0.3.21 on one and on two threads, weights out
 * of the caches as in a step: docs/PERFORMANCE.md.
 */
#define COPY_ROWS    11.0
#define COPY_COLUMNS 17.0
#define TILE_START   100e3

#define ROWS_MAX       1024
#define COLUMNS_MAX    1536
#define GRANULE        16 /* tiles are multiples of this: a cache line */
#define COLUMN_GRANULE 64 /* 768 columns ran faster than 720 */
#define SMALL          ((double)(1 << 20)) /* multiplications of one tile */

/* For how many threads a grid is to be even, and how much each counts. */
static const struct {
	double threads;
	double weight;
} teams[] = {{1, 0.4}, {2, 0.4}, {3, 0.02}, {4, 0.18}};

static size_t part(size_t size, size_t parts, size_t granule)
{
	size_t length = (size + parts - 1) / parts;

	return (length + granule - 1) / granule * granule;
}

static size_t parts_of(size_t size, size_t length)
{
	return (size + length - 1) / length;
}

/* Time of a grid relative to one perfect tile shared perfectly. */
static double grid_cost(size_t m, size_t n, size_t k, struct gemm_tile tile)
{
	double tiles =
		(double)(parts_of(m, tile.rows) * parts_of(n, tile.columns));
	double area = (double)tile.rows * (double)tile.columns;
	double whole = (double)m * (double)n;
	double copies = 1.0 + COPY_ROWS / (double)tile.rows +
			COPY_COLUMNS / (double)tile.columns;
	double cost = tiles * TILE_START / (whole * (double)k);

	for (size_t i = 0; i < ARRAY_SIZE(teams); i++) {
		double threads = teams[i].threads;
		double rounds =
			(double)(size_t)((tiles + threads - 1.0) / threads);
		double share = rounds * threads * area / whole;

		cost += teams[i].weight * copies * MAX(share, 1.0);
	}
	return cost;
}

/* Tries the grids around the coarsest one. A few hundred steps, no state. */
struct gemm_tile gemm_tile_size(size_t m, size_t n, size_t k)
{
	struct gemm_tile best = {MAX(m, (size_t)1), MAX(n, (size_t)1)};
	size_t rows_first = parts_of(m, ROWS_MAX);
	size_t columns_first = parts_of(n, COLUMNS_MAX);
	double best_cost = 0.0;

	if (m <= 1 || (double)m * (double)n * (double)k <= SMALL)
		return best;
	for (size_t r = rows_first; r < rows_first + 8; r++)
		for (size_t c = columns_first; c < columns_first + 16; c++) {
			struct gemm_tile tile = {
				part(m, r, GRANULE),
				part(n, c, COLUMN_GRANULE),
			};
			double cost = grid_cost(m, n, k, tile);

			if (best_cost == 0.0 || cost < best_cost) {
				best_cost = cost;
				best = tile;
			}
		}
	return best;
}

/* ---- a product shared by a team ---- */

struct gemm_work {
	enum gemm_transpose transpose_a, transpose_b;
	size_t m, n, k;
	const float *a;
	size_t lda;
	const float *b;
	size_t ldb;
	float beta;
	float *c;
	size_t ldc;
	const struct gemm_epilogue *epilogue;
	struct gemm_tile tile;
	size_t row_tiles;
};

KERNEL_CLONES static void bias_add(float *restrict c, size_t ldc,
				   const float *restrict bias, size_t rows,
				   size_t columns)
{
	for (size_t row = 0; row < rows; row++)
		for (size_t column = 0; column < columns; column++)
			c[row * ldc + column] += bias[column];
}

static void epilogue_apply(const struct gemm_epilogue *epilogue, float *c,
			   size_t ldc, size_t row, size_t column, size_t rows,
			   size_t columns)
{
	if (epilogue == NULL)
		return;
	if (epilogue->bias != NULL)
		bias_add(c, ldc, epilogue->bias + column, rows, columns);
	if (epilogue->finish != NULL)
		epilogue->finish(epilogue->argument, c, ldc, row, column, rows,
				 columns);
}

/* Tiles go down the rows first: neighbours share their part of B. */
static void tile_task(void *argument, size_t index, unsigned thread)
{
	const struct gemm_work *work = argument;
	size_t row = index % work->row_tiles * work->tile.rows;
	size_t column = index / work->row_tiles * work->tile.columns;
	size_t rows = MIN(work->tile.rows, work->m - row);
	size_t columns = MIN(work->tile.columns, work->n - column);
	const float *a = work->transpose_a == GEMM_TRANSPOSED
				 ? work->a + row
				 : work->a + row * work->lda;
	const float *b = work->transpose_b == GEMM_TRANSPOSED
				 ? work->b + column * work->ldb
				 : work->b + column;
	float *c = work->c + row * work->ldc + column;

	(void)thread;
	gemm_block(work->transpose_a, work->transpose_b, rows, columns, work->k,
		   1.0f, a, work->lda, b, work->ldb, work->beta, c, work->ldc);
	epilogue_apply(work->epilogue, c, work->ldc, row, column, rows,
		       columns);
}

void gemm(struct threads *threads, enum gemm_transpose transpose_a,
	  enum gemm_transpose transpose_b, size_t m, size_t n, size_t k,
	  const float *a, size_t lda, const float *b, size_t ldb, float beta,
	  float *c, size_t ldc, const struct gemm_epilogue *epilogue)
{
	struct gemm_work work = {
		.transpose_a = transpose_a,
		.transpose_b = transpose_b,
		.m = m,
		.n = n,
		.k = k,
		.a = a,
		.lda = lda,
		.b = b,
		.ldb = ldb,
		.beta = beta,
		.c = c,
		.ldc = ldc,
		.epilogue = epilogue,
		.tile = gemm_tile_size(m, n, k),
	};
	size_t tiles;

	ASSERT(beta == 0.0f || beta == 1.0f);
	if (m == 0 || n == 0)
		return;
	if (m == 1 && transpose_a == GEMM_NORMAL) {
		gemv(threads, transpose_b, n, k, a, b, ldb, beta != 0.0f, c);
		epilogue_apply(epilogue, c, ldc, 0, 0, 1, n);
		return;
	}
	work.row_tiles = parts_of(m, work.tile.rows);
	tiles = work.row_tiles * parts_of(n, work.tile.columns);
	if (tiles == 1)
		tile_task(&work, 0, 0);
	else
		threads_run(threads, tiles, tile_task, &work);
}
