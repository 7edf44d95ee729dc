/*
 * Products of bfloat16: factors are packed, C is computed tile by tile in
 * float, and each finished tile is put where it belongs.
 */
#include "base/log.h"
#include "model/kernels/gemm.h"
#include "model/kernels/gemm_dnnl.h"
#include "model/kernels/gemm_pack.h"
#include "model/kernels/gemm_scratch.h"
#include "model/kernels/gemv.h"
#include "model/kernels/vector_math.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* ---- which library ---- */

static pthread_once_t choose_once = PTHREAD_ONCE_INIT;
static const char *chosen; /* NULL: factors are widened */

static void choose(void)
{
	const char *wish = getenv("STAGECOACH_BFLOAT16");

	if (wish != NULL && strcmp(wish, "widened") == 0)
		return;
	if (wish != NULL && wish[0] != '\0')
		log_warning("STAGECOACH_BFLOAT16=%s is not known and "
			    "ignored; widened is what it may be",
			    wish);
	chosen = gemm_dnnl_open();
}

bool gemm_bfloat16_is_widened(void)
{
	pthread_once(&choose_once, choose);
	return chosen == NULL;
}

const char *gemm_bfloat16_library(void)
{
	return gemm_bfloat16_is_widened() ? "widened" : chosen;
}

/* ---- the grid of tiles ---- */

/*
 * Measured with the products of GPT-2, packed: all tiles of 128..256 rows and
 * 128..384 columns are within 3 % of each other. A float tile of 256 x 256 is a
 * quarter of a second-level cache. So tiles are cut for the sake of even shares,
 * and no smaller than it takes. Where k is small, what counts is how C is read
 * and written: in long runs (8 % of the head's gradient of weights).
 */
#define SHALLOW ((size_t)512) /* k */

static const struct gemm_tile most = {256, 256}, most_shallow = {128, 768};

#define ROW_GRAIN      16
#define EDGE_COST      8.0 /* rows and columns that a tile's rim costs */
#define ROW_CHOICES    4
#define COLUMN_CHOICES 4

static const struct {
	double threads;
	double weight;
} teams[] = {{1, 0.3}, {2, 0.3}, {3, 0.1}, {4, 0.2}, {8, 0.1}};

static size_t parts_of(size_t size, size_t length)
{
	return (size + length - 1) / length;
}

static size_t rounded_up(size_t size, size_t grain)
{
	return parts_of(size, grain) * grain;
}

static double grid_cost(size_t m, size_t n, size_t rows, size_t columns)
{
	double tiles = (double)(parts_of(m, rows) * parts_of(n, columns));
	double one = ((double)rows + EDGE_COST) * ((double)columns + EDGE_COST);
	double cost = 0.0;

	for (size_t i = 0; i < ARRAY_SIZE(teams); i++) {
		double threads = teams[i].threads;
		double rounds =
			(double)(size_t)((tiles + threads - 1.0) / threads);

		cost += teams[i].weight * rounds * threads * one;
	}
	return cost;
}

/* Tries the grids around the coarsest one. */
static struct gemm_tile grid_choose(size_t m, size_t n, size_t k)
{
	struct gemm_tile limit = k <= SHALLOW ? most_shallow : most;
	size_t row_parts = parts_of(m, limit.rows);
	size_t column_parts = parts_of(n, limit.columns);
	struct gemm_tile best = {0, 0};
	double best_cost = 0.0;

	for (size_t r = row_parts; r < row_parts + ROW_CHOICES; r++)
		for (size_t c = column_parts; c < column_parts + COLUMN_CHOICES;
		     c++) {
			size_t rows = rounded_up(parts_of(m, r), ROW_GRAIN);
			size_t columns =
				rounded_up(parts_of(n, c), GEMM_PACK_COLUMNS);
			double cost = grid_cost(m, n, rows, columns);

			if (best.rows == 0 || cost < best_cost) {
				best_cost = cost;
				best = (struct gemm_tile){rows, columns};
			}
		}
	return best;
}

/* ---- one product ---- */

/*
 * Packed factors are to be found in a shared cache: a large product is done
 * group by group, each some columns of tiles and some rows of them. A group is
 * no smaller than this many tiles a thread, or than one where they would take
 * more than GROUP_MOST_BYTES; no bit depends on it.
 */
#define GROUP_A_BYTES    ((size_t)4 << 20)
#define GROUP_B_BYTES    ((size_t)8 << 20)
#define GROUP_TILES      2
#define GROUP_MOST_BYTES ((size_t)96 << 20)

/* Rows of k that one task packs, and of A. */
#define PACK_DEPTH 1024
#define PACK_ROWS  64

struct work {
	enum gemm_transpose transpose_a, transpose_b;
	size_t m, n, k;
	const bfloat16 *a;
	size_t lda;
	const bfloat16 *b;
	size_t ldb;
	float beta;
	enum element_type c_type;
	void *c;
	size_t ldc;
	const float *bias;

	struct gemm_tile tile;
	size_t row_tiles, column_tiles;             /* of the whole */
	size_t group_row_tiles, group_column_tiles; /* of a group */
	bool packs_a;  /* all of it; else A is used where it is, but for */
	size_t ragged; /* the rows of the last tile, where this is not 0 */

	/* The group under way: */
	size_t row, rows, column, columns;
	bfloat16 *packed_a, *packed_b;
	size_t a_tasks, depth_tasks;
};

/* Of `tiles` in one direction, where a group has `across` in the other. */
static size_t group_of(size_t tiles, size_t across, size_t tile_bytes,
		       size_t limit, unsigned threads)
{
	size_t enough = parts_of((size_t)threads * GROUP_TILES, across);

	return MIN(tiles, MAX(limit / MAX(tile_bytes, (size_t)1), enough));
}

/* Packed, of a tile; A may be used where it is. */
static size_t tile_a_bytes(const struct work *work)
{
	return work->packs_a ? work->tile.rows * work->k * sizeof(bfloat16) : 0;
}

static size_t tile_b_bytes(const struct work *work)
{
	return work->tile.columns * gemm_pack_depth(work->k) * sizeof(bfloat16);
}

static size_t group_bytes(const struct work *work)
{
	return work->group_row_tiles * tile_a_bytes(work) +
	       work->group_column_tiles * tile_b_bytes(work);
}

/* The group of one tile a thread, or nearly, that takes the least memory. */
static void group_least(struct work *work, unsigned threads)
{
	struct work best = *work;
	size_t at_once = 0; /* tiles */

	for (unsigned rows = 1; rows <= threads; rows++) {
		size_t tiles;

		if (threads % rows != 0)
			continue;
		work->group_row_tiles =
			MIN(work->packs_a ? rows : work->row_tiles,
			    work->row_tiles);
		work->group_column_tiles =
			MIN(parts_of(threads, work->group_row_tiles),
			    work->column_tiles);
		tiles = MIN(work->group_row_tiles * work->group_column_tiles,
			    (size_t)threads);
		if (tiles > at_once ||
		    (tiles == at_once &&
		     group_bytes(work) < group_bytes(&best))) {
			at_once = tiles;
			best = *work;
		}
	}
	*work = best;
}

static void work_plan(struct work *work, unsigned threads)
{
	work->tile = grid_choose(work->m, work->n, work->k);
	work->row_tiles = parts_of(work->m, work->tile.rows);
	work->column_tiles = parts_of(work->n, work->tile.columns);
	work->packs_a =
		work->transpose_a == GEMM_TRANSPOSED || work->lda != work->k;
	work->ragged =
		work->m % ROW_GRAIN == 0
			? 0
			: work->m - (work->row_tiles - 1) * work->tile.rows;
	work->group_row_tiles = work->row_tiles;
	if (work->packs_a)
		work->group_row_tiles =
			group_of(work->row_tiles, work->column_tiles,
				 tile_a_bytes(work), GROUP_A_BYTES, threads);
	work->group_column_tiles =
		group_of(work->column_tiles, work->group_row_tiles,
			 tile_b_bytes(work), GROUP_B_BYTES, threads);
	if (work->group_column_tiles * tile_b_bytes(work) > GROUP_MOST_BYTES)
		group_least(work, threads);
}

/* ---- putting a finished tile in its place ---- */

VECTOR_INLINE void tile_put(const float *tile, size_t tile_columns, void *c,
			    size_t ldc, enum element_type c_type,
			    const float *bias, float beta, size_t rows,
			    size_t columns)
{
	for (size_t row = 0; row < rows; row++) {
		const float *from = tile + row * tile_columns;
		float *floats = (float *)c + row * ldc;
		bfloat16 *halves = (bfloat16 *)c + row * ldc;

		VECTOR_LOOP
		for (size_t i = 0; i < columns; i++) {
			float value = from[i];

			if (beta != 0.0f)
				value +=
					c_type == ELEMENT_BF16
						? float_from_bfloat16(halves[i])
						: floats[i];
			if (bias != NULL)
				value += bias[i];
			if (c_type == ELEMENT_BF16)
				halves[i] = bfloat16_from_float(value);
			else
				floats[i] = value;
		}
	}
}

#define TILE_PUT(name, c_type, bias, beta)                                     \
	KERNEL_CLONES static void name(                                        \
		const float *restrict tile, size_t tile_columns,               \
		void *restrict c, size_t ldc, const float *restrict of_column, \
		size_t rows, size_t columns)                                   \
	{                                                                      \
		(void)of_column;                                               \
		tile_put(tile, tile_columns, c, ldc, c_type, bias, beta, rows, \
			 columns);                                             \
	}
TILE_PUT(put_float, ELEMENT_F32, NULL, 0.0f)
TILE_PUT(put_float_bias, ELEMENT_F32, of_column, 0.0f)
TILE_PUT(put_float_add, ELEMENT_F32, NULL, 1.0f)
TILE_PUT(put_float_add_bias, ELEMENT_F32, of_column, 1.0f)
TILE_PUT(put_bfloat16, ELEMENT_BF16, NULL, 0.0f)
TILE_PUT(put_bfloat16_bias, ELEMENT_BF16, of_column, 0.0f)
TILE_PUT(put_bfloat16_add, ELEMENT_BF16, NULL, 1.0f)
TILE_PUT(put_bfloat16_add_bias, ELEMENT_BF16, of_column, 1.0f)

static void (*const puts_tile[2][2][2])(const float *, size_t, void *, size_t,
					const float *, size_t, size_t) = {
	{{put_float, put_float_bias}, {put_float_add, put_float_add_bias}},
	{{put_bfloat16, put_bfloat16_bias},
	 {put_bfloat16_add, put_bfloat16_add_bias}},
};

/* The size of the tile in memory, beyond the edges of C too. */
static size_t padded_rows(const struct work *work, size_t row)
{
	return MIN(work->tile.rows, rounded_up(work->m - row, ROW_GRAIN));
}

static size_t padded_columns(const struct work *work, size_t column)
{
	return MIN(work->tile.columns,
		   rounded_up(work->n - column, GEMM_PACK_COLUMNS));
}

static void put(const struct work *work, const float *tile, size_t row,
		size_t column, size_t rows, size_t columns)
{
	bool narrow = work->c_type == ELEMENT_BF16;
	bool bias = work->bias != NULL;

	puts_tile[narrow][work->beta != 0.0f][bias](
		tile, padded_columns(work, column),
		(unsigned char *)work->c +
			(row * work->ldc + column) *
				element_type_bytes(work->c_type),
		work->ldc, bias ? work->bias + column : NULL, rows, columns);
}

/* Where element [row][column] of op(A) is, or of op(B). */
static const bfloat16 *at(enum gemm_transpose transpose, const bfloat16 *from,
			  size_t stride, size_t row, size_t column)
{
	return transpose == GEMM_TRANSPOSED ? from + column * stride + row
					    : from + row * stride + column;
}

/* ---- oneDNN's tiles ---- */

static void pack_a_task(const struct work *work, size_t index)
{
	size_t row = work->packs_a ? work->row : work->m - work->ragged;
	size_t end = row + (work->packs_a ? work->rows : work->ragged);
	size_t first = row + index * PACK_ROWS;
	size_t rows = MIN(end - first, (size_t)PACK_ROWS);

	gemm_pack_a(work->transpose_a, rows,
		    end == work->m ? rounded_up(rows, ROW_GRAIN) : rows,
		    work->k,
		    at(work->transpose_a, work->a, work->lda, first, 0),
		    work->lda, work->packed_a + (first - row) * work->k);
}

static void pack_b_task(const struct work *work, size_t index)
{
	size_t block = index / work->depth_tasks;
	size_t first = index % work->depth_tasks * PACK_DEPTH;
	size_t column = work->column + block * GEMM_PACK_COLUMNS;

	gemm_pack_b(work->transpose_b, first,
		    MIN(work->k - first, (size_t)PACK_DEPTH),
		    MIN(work->column + work->columns - column,
			(size_t)GEMM_PACK_COLUMNS),
		    at(work->transpose_b, work->b, work->ldb, first, column),
		    work->ldb,
		    work->packed_b + block * gemm_pack_block(work->k));
}

static void pack_task(void *argument, size_t index, unsigned thread)
{
	const struct work *work = argument;

	(void)thread;
	if (index < work->a_tasks)
		pack_a_task(work, index);
	else
		pack_b_task(work, index - work->a_tasks);
}

static const bfloat16 *rows_of_a(const struct work *work, size_t row)
{
	if (work->packs_a)
		return work->packed_a + (row - work->row) * work->k;
	if (work->ragged > 0 && row + work->tile.rows > work->m)
		return work->packed_a;
	return work->a + row * work->lda;
}

static void packed_tile(const struct work *work, size_t row, size_t column,
			float *tile)
{
	size_t columns = padded_columns(work, column);

	gemm_dnnl_tile(
		padded_rows(work, row), columns, work->k, rows_of_a(work, row),
		work->packed_b + (column - work->column) / GEMM_PACK_COLUMNS *
					 gemm_pack_block(work->k),
		tile);
}

static void packed_group(struct threads *threads, struct work *work)
{
	size_t blocks = parts_of(work->columns, GEMM_PACK_COLUMNS);
	bool again = work->row > 0; /* B is packed already */

	work->packed_a = gemm_scratch(GEMM_PIECE_PACKED_A);
	work->packed_b = gemm_scratch(GEMM_PIECE_PACKED_B);
	work->a_tasks =
		parts_of(work->packs_a ? work->rows : work->ragged, PACK_ROWS);
	work->depth_tasks = parts_of(work->k, PACK_DEPTH);
	threads_run(threads,
		    work->a_tasks + (again ? 0 : blocks * work->depth_tasks),
		    pack_task, work);
}

static void packed_count(const struct work *work, size_t bytes[GEMM_PIECES])
{
	size_t rows = work->packs_a      ? work->group_row_tiles
		      : work->ragged > 0 ? 1
					 : 0;

	bytes[GEMM_PIECE_PACKED_A] =
		rows * work->tile.rows * work->k * sizeof(bfloat16);
	bytes[GEMM_PIECE_PACKED_B] =
		work->group_column_tiles * tile_b_bytes(work);
}

/* ---- tiles of widened factors ---- */

/*
 * Of k at once: what is widened is to stay in a cache. It follows from nothing,
 * so the bits law holds.
 */
#define WIDE_DEPTH 1024

KERNEL_CLONES static void widen(size_t rows, size_t columns,
				const bfloat16 *restrict from, size_t stride,
				float *restrict to, size_t to_stride)
{
	for (size_t row = 0; row < rows; row++)
		for (size_t i = 0; i < columns; i++)
			to[row * to_stride + i] =
				float_from_bfloat16(from[row * stride + i]);
}

/*
 * With columns beyond the edge, whatever they hold: OpenBLAS 0.3.21 allocates
 * in small products whose columns are no multiple of 16.
 */
static void widened_tile(const struct work *work, size_t row, size_t column,
			 size_t rows, size_t columns, float *tile)
{
	bool turned_a = work->transpose_a == GEMM_TRANSPOSED;
	bool turned_b = work->transpose_b == GEMM_TRANSPOSED;
	size_t padded = padded_columns(work, column);
	float *a = gemm_scratch(GEMM_PIECE_WIDE_A);
	float *b = gemm_scratch(GEMM_PIECE_WIDE_B);

	for (size_t l = 0; l < work->k; l += WIDE_DEPTH) {
		size_t depth = MIN(work->k - l, (size_t)WIDE_DEPTH);
		size_t stride_a = turned_a ? rows : depth;
		size_t stride_b = turned_b ? depth : padded;

		widen(turned_a ? depth : rows, stride_a,
		      at(work->transpose_a, work->a, work->lda, row, l),
		      work->lda, a, stride_a);
		widen(turned_b ? columns : depth, turned_b ? depth : columns,
		      at(work->transpose_b, work->b, work->ldb, l, column),
		      work->ldb, b, stride_b);
		gemm_block(work->transpose_a, work->transpose_b, rows, padded,
			   depth, 1.0f, a, stride_a, b, stride_b,
			   l == 0 ? 0.0f : 1.0f, tile, padded);
	}
}

static void widened_count(const struct work *work, size_t bytes[GEMM_PIECES])
{
	size_t depth = MIN(work->k, (size_t)WIDE_DEPTH) * sizeof(float);

	bytes[GEMM_PIECE_WIDE_A] = work->tile.rows * depth;
	bytes[GEMM_PIECE_WIDE_B] = work->tile.columns * depth;
}

/* ---- a product shared by a team ---- */

/* What the thread that calls has for the team. */
static void team_count(const struct work *work, size_t bytes[GEMM_PIECES])
{
	if (!gemm_bfloat16_is_widened())
		packed_count(work, bytes);
}

/* What each thread has. */
static void thread_count(const struct work *work, size_t bytes[GEMM_PIECES])
{
	bytes[GEMM_PIECE_TILE] =
		work->tile.rows * work->tile.columns * sizeof(float);
	if (gemm_bfloat16_is_widened())
		widened_count(work, bytes);
}

static int pieces_grow(const size_t bytes[GEMM_PIECES])
{
	int error = 0;

	for (size_t piece = 0; piece < GEMM_PIECES && error == 0; piece++)
		error = gemm_scratch_grow(piece, bytes[piece]);
	return error;
}

static int team_grow(const struct work *work)
{
	size_t bytes[GEMM_PIECES] = {0};

	team_count(work, bytes);
	return pieces_grow(bytes);
}

/* Makes ready what the calling thread needs for the tile at C[row][column]. */
static int tile_prepare(const struct work *work, size_t row, size_t column)
{
	size_t bytes[GEMM_PIECES] = {0};
	int error;

	thread_count(work, bytes);
	error = pieces_grow(bytes);
	if (error != 0 || work->k == 0 || gemm_bfloat16_is_widened())
		return error;
	return gemm_dnnl_prepare(padded_rows(work, row),
				 padded_columns(work, column), work->k);
}

/* Tiles go down the rows first: neighbours share their part of B. */
static void tile_task(void *argument, size_t index, unsigned thread)
{
	const struct work *work = argument;
	size_t row_tiles = parts_of(work->rows, work->tile.rows);
	size_t row = work->row + index % row_tiles * work->tile.rows;
	size_t column = work->column + index / row_tiles * work->tile.columns;
	size_t rows = MIN(work->tile.rows, work->m - row);
	size_t columns = MIN(work->tile.columns, work->n - column);
	int error = tile_prepare(work, row, column);
	float *tile = gemm_scratch(GEMM_PIECE_TILE);

	(void)thread;
	ASSERT(error == 0); /* prepared, this does nothing */
	if (work->k == 0)
		memset(tile, 0,
		       rows * padded_columns(work, column) * sizeof(*tile));
	else if (gemm_bfloat16_is_widened())
		widened_tile(work, row, column, rows, columns, tile);
	else
		packed_tile(work, row, column, tile);
	put(work, tile, row, column, rows, columns);
}

static void group_run(struct threads *threads, struct work *work)
{
	if (work->k > 0 && !gemm_bfloat16_is_widened())
		packed_group(threads, work);
	threads_run(threads,
		    parts_of(work->rows, work->tile.rows) *
			    parts_of(work->columns, work->tile.columns),
		    tile_task, work);
}

static void work_run(struct threads *threads, struct work *work)
{
	size_t rows = work->group_row_tiles * work->tile.rows;
	size_t columns = work->group_column_tiles * work->tile.columns;

	for (work->column = 0; work->column < work->n;
	     work->column += columns) {
		work->columns = MIN(columns, work->n - work->column);
		for (work->row = 0; work->row < work->m; work->row += rows) {
			work->rows = MIN(rows, work->m - work->row);
			group_run(threads, work);
		}
	}
}

/* ---- one row ---- */

/*
 * A token of decoding: its weights are used once, so that packing them costs
 * more than multiplying. The row is widened, and so is each weight.
 */
static bool is_row(const struct work *work)
{
	return work->m == 1 && work->transpose_a == GEMM_NORMAL;
}

static void row_count(const struct work *work, size_t bytes[GEMM_PIECES])
{
	bytes[GEMM_PIECE_WIDE_A] = work->k * sizeof(float);
	bytes[GEMM_PIECE_TILE] = work->n * sizeof(float);
}

static int row_grow(const struct work *work)
{
	size_t bytes[GEMM_PIECES] = {0};

	row_count(work, bytes);
	return pieces_grow(bytes);
}

static void row_run(struct threads *threads, const struct work *work)
{
	bool narrow = work->c_type == ELEMENT_BF16;
	float *x = gemm_scratch(GEMM_PIECE_WIDE_A);
	float *y = gemm_scratch(GEMM_PIECE_TILE);

	widen(1, work->k, work->a, work->k, x, work->k);
	gemv_bfloat16(threads, work->transpose_b, work->n, work->k, x, work->b,
		      work->ldb, false, y);
	puts_tile[narrow][work->beta != 0.0f][work->bias != NULL](
		y, work->n, work->c, work->ldc, work->bias, 1, work->n);
}

void gemm_bfloat16(struct threads *threads, enum gemm_transpose transpose_a,
		   enum gemm_transpose transpose_b, size_t m, size_t n,
		   size_t k, const bfloat16 *a, size_t lda, const bfloat16 *b,
		   size_t ldb, float beta, enum element_type c_type, void *c,
		   size_t ldc, const float *bias)
{
	struct work work = {
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
		.c_type = c_type,
		.c = c,
		.ldc = ldc,
		.bias = bias,
	};
	int error;

	ASSERT(beta == 0.0f || beta == 1.0f);
	ASSERT(c_type == ELEMENT_F32 || c_type == ELEMENT_BF16);
	if (m == 0 || n == 0)
		return;
	if (is_row(&work)) {
		error = row_grow(&work);
		ASSERT(error == 0); /* prepared, this does nothing */
		row_run(threads, &work);
		return;
	}
	work_plan(&work, threads_count(threads));
	error = team_grow(&work);
	ASSERT(error == 0); /* prepared, this does nothing */
	work_run(threads, &work);
}

/* ---- preparing ---- */

struct preparation {
	struct work work;
	atomic_int error;
};

/* A tile of each size there is: at most four. */
static void prepare_task(void *argument, size_t index, unsigned thread)
{
	struct preparation *preparation = argument;
	const struct work *work = &preparation->work;
	size_t rows[] = {0, (work->row_tiles - 1) * work->tile.rows};
	size_t columns[] = {0, (work->column_tiles - 1) * work->tile.columns};
	int error = 0;

	(void)index;
	(void)thread;
	for (size_t i = 0; i < 4 && error == 0; i++)
		error = tile_prepare(work, rows[i & 1], columns[i >> 1]);
	if (error != 0)
		atomic_store(&preparation->error, error);
}

int gemm_bfloat16_prepare(struct threads *threads,
			  enum gemm_transpose transpose_a,
			  enum gemm_transpose transpose_b, size_t m, size_t n,
			  size_t k, size_t lda, size_t ldb, float beta,
			  enum element_type c_type, size_t ldc, bool bias)
{
	struct preparation preparation = {.work = {
						  .transpose_a = transpose_a,
						  .transpose_b = transpose_b,
						  .m = m,
						  .n = n,
						  .k = k,
						  .lda = lda,
						  .ldb = ldb,
					  }};
	int error;

	/* A tile is the same whatever becomes of it. */
	(void)beta, (void)c_type, (void)ldc, (void)bias;
	if (m == 0 || n == 0)
		return 0;
	if (is_row(&preparation.work))
		return row_grow(&preparation.work);
	work_plan(&preparation.work, threads_count(threads));
	error = team_grow(&preparation.work);
	if (error != 0)
		return error;
	threads_run_each(threads, prepare_task, &preparation);
	return atomic_load(&preparation.error);
}

/* ---- counting ---- */

/*
 * Measured with oneDNN 2.7 on x86-64: its data, and what it makes for the sizes
 * of tiles; and the state of a thread.
 */
#define LIBRARY_BYTES        ((size_t)3 << 19)
#define LIBRARY_THREAD_BYTES ((size_t)64 << 10)

static void raise_to(size_t have[GEMM_PIECES], const size_t bytes[GEMM_PIECES])
{
	for (size_t piece = 0; piece < GEMM_PIECES; piece++)
		have[piece] = MAX(have[piece], bytes[piece]);
}

void gemm_bfloat16_count(unsigned threads, enum gemm_transpose transpose_a,
			 enum gemm_transpose transpose_b, size_t m, size_t n,
			 size_t k, size_t lda, size_t ldb,
			 struct gemm_bfloat16_work *work)
{
	struct work planned = {
		.transpose_a = transpose_a,
		.transpose_b = transpose_b,
		.m = m,
		.n = n,
		.k = k,
		.lda = lda,
		.ldb = ldb,
	};
	size_t shared[GEMM_PIECES] = {0}, each[GEMM_PIECES] = {0};

	if (m == 0 || n == 0)
		return;
	if (is_row(&planned)) {
		row_count(&planned, shared);
	} else {
		work_plan(&planned, threads);
		team_count(&planned, shared);
		thread_count(&planned, each);
	}
	raise_to(work->shared, shared);
	raise_to(work->each, each);
}

size_t gemm_bfloat16_work_bytes(const struct gemm_bfloat16_work *work,
				unsigned threads)
{
	size_t bytes = 0, tiles = work->each[GEMM_PIECE_TILE];

	for (size_t piece = 0; piece < GEMM_PIECES; piece++)
		bytes += MAX(work->shared[piece], work->each[piece]) +
			 (threads - 1) * work->each[piece];
	if (tiles > 0 && !gemm_bfloat16_is_widened())
		bytes += LIBRARY_BYTES + threads * LIBRARY_THREAD_BYTES;
	return bytes;
}
