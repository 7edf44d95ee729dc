#include "model/kernels/gemv.h"
#include "model/kernels/gemm_memory.h"
#include "model/kernels/lanes.h"

#include <string.h>

/*
 * Two facts make these loops (measured on Zen 4, weights out of the caches): a
 * core reads one stream of whole rows at twice the speed of two or four, for
 * rows of a few KB end before the processor has learnt where several streams
 * go; and a store to the first-level cache for every load costs nothing beside
 * memory. So rows are taken one by one, whichever way the matrix lies.
 *
 *   [n, k]: y[j] is x by row j. 64 sums side by side hide the additions' time.
 *   [k, n]: row l is added to y, times x[l]. Rows are cut into parts that
 *           follow from the shape, each with sums of its own, added in order.
 */
#define SUMS        64
#define PARTS       8
#define PART_ROWS   32                 /* at least */
#define PART_FLOATS ((size_t)8 << 20)  /* of all parts' sums, at most */
#define STRIP       4096               /* columns whose sums stay in a cache */
#define SMALL       ((size_t)32 << 10) /* weights one thread is faster with */
#define TASKS       4                  /* of each thread */
#define AHEAD_BYTES 2048
#define LINE        16 /* outputs in a cache line */

struct gemv_work {
	bool transposed;
	bool half; /* weights are bfloat16 */
	bool add;
	size_t n, k;
	const float *x;
	const void *w;
	size_t ldw;
	float *y;
	float *sums;    /* [parts, n] */
	size_t columns; /* outputs of a task */
	size_t rows;    /* of a part */
	size_t parts;
};

VECTOR_INLINE float weight_at(const void *w, size_t i, bool half)
{
	return half ? float_from_bfloat16(((const bfloat16 *)w)[i])
		    : ((const float *)w)[i];
}

static const void *weight_row(const struct gemv_work *work, size_t row,
			      size_t column)
{
	size_t at = row * work->ldw + column;

	return work->half ? (const void *)((const bfloat16 *)work->w + at)
			  : (const void *)((const float *)work->w + at);
}

/* ---- [n, k] ---- */

/* Floats leave the processor time to be told of the lines to come; twice as
 * many numbers a line do not. */
VECTOR_INLINE void fetch_ahead(const float *w)
{
	for (size_t i = 0; i < SUMS; i += LINE)
		__builtin_prefetch((const char *)(w + i) + AHEAD_BYTES, 0, 1);
}

VECTOR_INLINE float dot(size_t k, const float *restrict x,
			const void *restrict w, bool half)
{
	float sums[SUMS] = {0};
	size_t base = 0;

	for (; base + SUMS <= k; base += SUMS) {
		if (!half)
			fetch_ahead((const float *)w + base);
		for (size_t i = 0; i < SUMS; i++)
			sums[i] += x[base + i] * weight_at(w, base + i, half);
	}
	for (size_t i = 0; i < k - base; i++)
		sums[i] += x[base + i] * weight_at(w, base + i, half);
	for (size_t i = 0; i < LANES; i++)
		sums[i] = (sums[i] + sums[i + LANES]) +
			  (sums[i + 2 * LANES] + sums[i + 3 * LANES]);
	return lanes_sum(sums);
}

KERNEL_CLONES static float dot_float(size_t k, const float *restrict x,
				     const void *restrict w)
{
	return dot(k, x, w, false);
}

KERNEL_CLONES static float dot_bfloat16(size_t k, const float *restrict x,
					const void *restrict w)
{
	return dot(k, x, w, true);
}

static void dots_task(void *argument, size_t index, unsigned thread)
{
	const struct gemv_work *work = argument;
	size_t first = index * work->columns;
	size_t end = MIN(first + work->columns, work->n);

	(void)thread;
	for (size_t j = first; j < end; j++) {
		const void *row = weight_row(work, j, 0);
		float sum = work->half ? dot_bfloat16(work->k, work->x, row)
				       : dot_float(work->k, work->x, row);

		work->y[j] = work->add ? work->y[j] + sum : sum;
	}
}

/* ---- [k, n] ---- */

VECTOR_INLINE void row_add(size_t n, float x, const void *restrict w, bool half,
			   float *restrict sums)
{
	for (size_t i = 0; i < n; i++)
		sums[i] += x * weight_at(w, i, half);
}

KERNEL_CLONES static void
row_add_float(size_t n, float x, const void *restrict w, float *restrict sums)
{
	row_add(n, x, w, false, sums);
}

KERNEL_CLONES static void row_add_bfloat16(size_t n, float x,
					   const void *restrict w,
					   float *restrict sums)
{
	row_add(n, x, w, true, sums);
}

static void rows_task(void *argument, size_t index, unsigned thread)
{
	const struct gemv_work *work = argument;
	size_t part = index % work->parts;
	size_t column = index / work->parts * work->columns;
	size_t columns = MIN(work->columns, work->n - column);
	size_t end = MIN((part + 1) * work->rows, work->k);
	float *sums = work->sums + part * work->n + column;

	(void)thread;
	memset(sums, 0, columns * sizeof(*sums));
	for (size_t l = part * work->rows; l < end; l++) {
		const void *row = weight_row(work, l, column);

		if (work->half)
			row_add_bfloat16(columns, work->x[l], row, sums);
		else
			row_add_float(columns, work->x[l], row, sums);
	}
}

KERNEL_CLONES static void parts_add(size_t parts, size_t n, bool add,
				    const float *restrict sums,
				    float *restrict y)
{
	if (!add)
		memset(y, 0, n * sizeof(*y));
	for (size_t part = 0; part < parts; part++)
		for (size_t i = 0; i < n; i++)
			y[i] += sums[part * n + i];
}

/* ---- sharing ---- */

static size_t parts_of(size_t size, size_t length)
{
	return (size + length - 1) / length;
}

static void cut_rows(struct gemv_work *work)
{
	size_t parts = MIN(parts_of(work->k, PART_ROWS), PARTS);

	parts = MIN(parts, PART_FLOATS / work->n);
	work->rows = parts_of(work->k, MAX(parts, (size_t)1));
	work->parts = parts_of(work->k, work->rows);
}

/* How the columns are shared does not reach the bits. */
static size_t share(size_t n, size_t tasks)
{
	size_t length = parts_of(n, MAX(tasks, (size_t)1));

	return parts_of(length, LINE) * LINE;
}

static void run(struct threads *threads, struct gemv_work *work)
{
	bool small = work->n * work->k <= SMALL;
	size_t wanted = small ? 1 : TASKS * threads_count(threads);
	size_t tasks;

	if (work->n == 0)
		return;
	if (work->transposed || work->k == 0) {
		work->columns = share(work->n, wanted);
		tasks = parts_of(work->n, work->columns);
	} else {
		cut_rows(work);
		work->sums = gemm_memory_borrow();
		work->columns = MIN(share(work->n, wanted / work->parts),
				    (size_t)STRIP);
		tasks = parts_of(work->n, work->columns) * work->parts;
	}
	if (tasks == 1 || small)
		for (size_t i = 0; i < tasks; i++)
			(work->sums ? rows_task : dots_task)(work, i, 0);
	else
		threads_run(threads, tasks, work->sums ? rows_task : dots_task,
			    work);
	if (work->sums)
		parts_add(work->parts, work->n, work->add, work->sums, work->y);
}

void gemv(struct threads *threads, enum gemm_transpose transpose_w, size_t n,
	  size_t k, const float *x, const float *w, size_t ldw, bool add,
	  float *y)
{
	struct gemv_work work = {
		.transposed = transpose_w == GEMM_TRANSPOSED,
		.add = add,
		.n = n,
		.k = k,
		.x = x,
		.w = w,
		.ldw = ldw,
		.y = y,
	};

	run(threads, &work);
}

void gemv_bfloat16(struct threads *threads, enum gemm_transpose transpose_w,
		   size_t n, size_t k, const float *x, const bfloat16 *w,
		   size_t ldw, bool add, float *y)
{
	struct gemv_work work = {
		.transposed = transpose_w == GEMM_TRANSPOSED,
		.half = true,
		.add = add,
		.n = n,
		.k = k,
		.x = x,
		.w = w,
		.ldw = ldw,
		.y = y,
	};

	run(threads, &work);
}

void gemv_reference(enum gemm_transpose transpose_w, size_t n, size_t k,
		    const float *x, const float *w, size_t ldw, double *y)
{
	for (size_t j = 0; j < n; j++) {
		y[j] = 0;
		for (size_t l = 0; l < k; l++)
			y[j] += (double)x[l] *
				(double)(transpose_w == GEMM_TRANSPOSED
						 ? w[j * ldw + l]
						 : w[l * ldw + j]);
	}
}
