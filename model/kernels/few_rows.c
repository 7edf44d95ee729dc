#include "model/kernels/few_rows.h"
#include "model/kernels/lanes.h"

#include <string.h>

#define SMALL ((size_t)1 << 15) /* weights one thread multiplies alone */

/* Half of the lanes: what the registers of AVX2 take. */
#define HALF (LANES / 2)
typedef float half __attribute__((vector_size(HALF * sizeof(float))));

/*
 * ---- rows of B across: all columns go down k together ----
 *
 * Threads share pieces of k, not columns: memory is fastest at whole rows. Each
 * piece leaves its sums, which are added in order.
 */

#define DEPTH 128  /* of a piece; part of the bits */
#define CHUNK 3072 /* columns whose sums stay near */

struct across {
	const struct few_rows *product;
	float *sums; /* [pieces][m][n] */
};

static size_t pieces_of(size_t k)
{
	return (k + DEPTH - 1) / DEPTH;
}

size_t few_rows_scratch_bytes(size_t m, size_t n, size_t k, bool transposed)
{
	return transposed ? 0 : pieces_of(k) * m * n * sizeof(float);
}

/* sums += a0 b0 + a1 b1: two rows, for the sums' way is the longer one. */
VECTOR_INLINE void add_rows(size_t count, const float a[2],
			    const float *restrict b0, const float *restrict b1,
			    float *restrict sums)
{
	for (size_t i = 0; i < count; i++)
		sums[i] = (sums[i] + a[0] * b0[i]) + a[1] * b1[i];
}

/* sums[count] of one row of A and `depth` rows of B. */
KERNEL_CLONES static void add_piece(size_t depth, size_t count, const float *a,
				    const float *b, size_t ldb, float *sums)
{
	size_t l = 0;

	memset(sums, 0, count * sizeof(*sums));
	for (; l + 2 <= depth; l += 2)
		add_rows(count, a + l, b + l * ldb, b + (l + 1) * ldb, sums);
	for (; l < depth; l++)
		for (size_t i = 0; i < count; i++)
			sums[i] += a[l] * b[l * ldb + i];
}

static void across_task(void *argument, size_t index, unsigned thread)
{
	const struct across *across = argument;
	const struct few_rows *p = across->product;
	size_t l = index * DEPTH, depth = MIN((size_t)DEPTH, p->k - l);

	(void)thread;
	for (size_t column = 0; column < p->n; column += CHUNK)
		for (size_t row = 0; row < p->m; row++)
			add_piece(depth, MIN((size_t)CHUNK, p->n - column),
				  p->a + row * p->lda + l,
				  p->b + l * p->ldb + column, p->ldb,
				  across->sums + (index * p->m + row) * p->n +
					  column);
}

KERNEL_CLONES static void combine(size_t n, size_t pieces, size_t stride,
				  const float *restrict sums,
				  const float *restrict bias, float *restrict c)
{
	memset(c, 0, n * sizeof(*c));
	for (size_t piece = 0; piece < pieces; piece++)
		for (size_t i = 0; i < n; i++)
			c[i] += sums[piece * stride + i];
	if (bias != NULL)
		for (size_t i = 0; i < n; i++)
			c[i] += bias[i];
}

static void multiply_across(struct threads *threads, const struct few_rows *p,
			    float *sums)
{
	struct across across = {.product = p, .sums = sums};
	size_t pieces = pieces_of(p->k);

	if (p->n * p->k <= SMALL)
		for (size_t piece = 0; piece < pieces; piece++)
			across_task(&across, piece, 0);
	else
		threads_run(threads, pieces, across_task, &across);
	for (size_t row = 0; row < p->m; row++)
		combine(p->n, pieces, p->m * p->n, sums + row * p->n, p->bias,
			p->c + row * p->ldc);
}

/* ---- rows of B along k: a sum of products for each ---- */

#define TASK_WEIGHTS ((size_t)1 << 16)

/* out[rows] = the first `rows` rows of A times one row of B. */
VECTOR_INLINE void dot_rows(const struct few_rows *p, const size_t rows,
			    const float *b, float *out)
{
	half sum[FEW_ROWS][2] = {{{0}}};
	float lanes[LANES];
	size_t l = 0;

	for (; l + LANES <= p->k; l += LANES) {
		half low, high, a_low, a_high;

		memcpy(&low, b + l, sizeof(half));
		memcpy(&high, b + l + HALF, sizeof(half));
#pragma GCC unroll 4
		for (size_t row = 0; row < rows; row++) {
			const float *a = p->a + row * p->lda + l;

			memcpy(&a_low, a, sizeof(half));
			memcpy(&a_high, a + HALF, sizeof(half));
			sum[row][0] += a_low * low;
			sum[row][1] += a_high * high;
		}
	}
	for (size_t row = 0; row < rows; row++) {
		memcpy(lanes, sum[row], sizeof(lanes));
		for (size_t rest = l; rest < p->k; rest++)
			lanes[rest - l] += p->a[row * p->lda + rest] * b[rest];
		out[row] = lanes_sum(lanes);
	}
}

VECTOR_INLINE void dot_columns(const struct few_rows *p, const size_t rows,
			       size_t column, size_t end)
{
	float sums[FEW_ROWS];

	for (; column < end; column++) {
		dot_rows(p, rows, p->b + column * p->ldb, sums);
		for (size_t row = 0; row < rows; row++)
			p->c[row * p->ldc + column] =
				p->bias ? sums[row] + p->bias[column]
					: sums[row];
	}
}

/* For each number of rows, sums that stay in registers. */
#define DOT_COLUMNS(rows)                                                      \
	KERNEL_CLONES static void dot_columns_##rows(                          \
		const struct few_rows *p, size_t column, size_t end)           \
	{                                                                      \
		dot_columns(p, rows, column, end);                             \
	}
DOT_COLUMNS(1)
DOT_COLUMNS(2)
DOT_COLUMNS(3)
DOT_COLUMNS(4)

struct along {
	const struct few_rows *product;
	size_t columns; /* of a task */
};

static void along_task(void *argument, size_t index, unsigned thread)
{
	static void (*const dot[FEW_ROWS])(const struct few_rows *, size_t,
					   size_t) = {
		dot_columns_1, dot_columns_2, dot_columns_3, dot_columns_4};
	const struct along *along = argument;
	const struct few_rows *p = along->product;
	size_t column = index * along->columns;

	(void)thread;
	dot[p->m - 1](p, column, MIN(column + along->columns, p->n));
}

static void multiply_along(struct threads *threads, const struct few_rows *p)
{
	struct along along = {.product = p, .columns = p->n};
	size_t least = LANES; /* a cache line of C is one task's */

	if (p->n * p->k > SMALL)
		along.columns = MAX(TASK_WEIGHTS / p->k / LANES * LANES, least);
	if (along.columns >= p->n)
		along_task(&along, 0, 0);
	else
		threads_run(threads, (p->n + along.columns - 1) / along.columns,
			    along_task, &along);
}

void few_rows_multiply(struct threads *threads, const struct few_rows *product,
		       void *scratch)
{
	ASSERT(product->m <= FEW_ROWS);
	if (product->m == 0 || product->n == 0)
		return;
	if (product->transposed)
		multiply_along(threads, product);
	else
		multiply_across(threads, product, scratch);
}
