#include "model/kernels/gemv.h"
#include "model/kernels/gemm_memory.h"
#include "model/kernels/lanes.h"

#include <string.h>

/*
 * What is measured (Zen 4, weights out of the caches): a core reads one stream
 * of whole rows at twice the speed of several rows side by side, each a few KB
 * long: they end before the processor has learnt where they go. Streams that are
 * far apart and long are as good as one.
 *
 *   [n, k]: y[j] is x by row j. Rows one by one; 64 sums side by side hide the
 *           additions' time.
 *   [k, n]: row l is added to the sums, times x[l]. Rows are cut into parts
 *           that follow from the shape, each with sums of its own, added in
 *           order; the four quarters of a part are four streams, so that sums
 *           are read and written once for four rows.
 */
#define SUMS        64
#define STREAMS     4
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

/* sums += x[i] * row i, of one row or of STREAMS. */
VECTOR_INLINE void rows_add(size_t n, bool streams, const float *x,
			    const void *const *w, bool half, float *sums)
{
	const void *w0 = w[0], *w1 = w[1], *w2 = w[2], *w3 = w[3];
	float x0 = x[0], x1 = x[1], x2 = x[2], x3 = x[3];

	VECTOR_LOOP
	for (size_t i = 0; i < n; i++) {
		float sum = x0 * weight_at(w0, i, half);

		if (streams)
			sum = (sum + x1 * weight_at(w1, i, half)) +
			      (x2 * weight_at(w2, i, half) +
			       x3 * weight_at(w3, i, half));
		sums[i] += sum;
	}
}

#define ROWS_ADD(name, streams, half)                                          \
	KERNEL_CLONES static void name(size_t n, const float *x,               \
				       const void *const *w, float *sums)      \
	{                                                                      \
		rows_add(n, streams, x, w, half, sums);                        \
	}
ROWS_ADD(row_add_float, false, false)
ROWS_ADD(row_add_bfloat16, false, true)
ROWS_ADD(rows_add_float, true, false)
ROWS_ADD(rows_add_bfloat16, true, true)

/* Rows first, first + stride, ... of a strip. */
static void add(const struct gemv_work *work, bool streams, size_t first,
		size_t stride, size_t column, size_t columns, float *sums)
{
	float x[STREAMS] = {0};
	const void *w[STREAMS] = {NULL};

	for (size_t i = 0; i < (streams ? STREAMS : 1); i++) {
		x[i] = work->x[first + i * stride];
		w[i] = weight_row(work, first + i * stride, column);
	}
	if (streams)
		(work->half ? rows_add_bfloat16 : rows_add_float)(columns, x, w,
								  sums);
	else
		(work->half ? row_add_bfloat16 : row_add_float)(columns, x, w,
								sums);
}

static void rows_task(void *argument, size_t index, unsigned thread)
{
	const struct gemv_work *work = argument;
	size_t part = index % work->parts, row = part * work->rows;
	size_t column = index / work->parts * work->columns;
	size_t columns = MIN(work->columns, work->n - column);
	size_t rows = MIN(work->rows, work->k - row);
	size_t stream = rows / STREAMS;
	float *sums = work->sums + part * work->n + column;

	(void)thread;
	memset(sums, 0, columns * sizeof(*sums));
	for (size_t l = 0; l < stream; l++)
		add(work, true, row + l, stream, column, columns, sums);
	for (size_t l = stream * STREAMS; l < rows; l++)
		add(work, false, row + l, 0, column, columns, sums);
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
