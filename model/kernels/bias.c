#include "model/kernels/bias.h"
#include "model/kernels/column_sums.h"
#include "model/kernels/values.h"

#include <string.h>

/* Rows of one task. */
#define ROWS COLUMN_SUMS_ROWS

struct bias_work {
	size_t rows;
	size_t columns;
	const float *in;
	float *out;
};

static size_t task_rows(const struct bias_work *work, size_t index)
{
	return MIN((size_t)ROWS, work->rows - index * ROWS);
}

static void fill_task(void *argument, size_t index, unsigned thread)
{
	const struct bias_work *work = argument;
	float *y = work->out + index * ROWS * work->columns;

	(void)thread;
	for (size_t row = 0; row < task_rows(work, index); row++)
		memcpy(y + row * work->columns, work->in,
		       work->columns * sizeof(float));
}

KERNEL_CLONES static void add_rows(size_t rows, size_t columns,
				   const float *restrict bias,
				   float *restrict y)
{
	for (size_t row = 0; row < rows; row++)
		for (size_t i = 0; i < columns; i++)
			y[row * columns + i] += bias[i];
}

static void add_task(void *argument, size_t index, unsigned thread)
{
	const struct bias_work *work = argument;

	(void)thread;
	add_rows(task_rows(work, index), work->columns, work->in,
		 work->out + index * ROWS * work->columns);
}

/* ---- rounding ---- */

struct round_work {
	size_t rows;
	size_t columns;
	const float *sums;
	const float *bias;
	bfloat16 *y;
};

KERNEL_CLONES static void add_round_rows(size_t rows, size_t columns,
					 const float *restrict sums,
					 const float *restrict bias,
					 bfloat16 *restrict y)
{
	for (size_t row = 0; row < rows; row++)
		for (size_t i = 0; i < columns; i++)
			y[row * columns + i] = bfloat16_from_float(
				sums[row * columns + i] + bias[i]);
}

static void add_round_task(void *argument, size_t index, unsigned thread)
{
	const struct round_work *work = argument;
	size_t first = index * ROWS;

	(void)thread;
	add_round_rows(MIN((size_t)ROWS, work->rows - first), work->columns,
		       work->sums + first * work->columns, work->bias,
		       work->y + first * work->columns);
}

void bias_add_round(struct threads *threads, size_t rows, size_t columns,
		    const float *sums, const float *bias, bfloat16 *y)
{
	struct round_work work = {rows, columns, sums, bias, y};

	if (bias == NULL)
		values_round(threads, rows * columns, sums, y);
	else
		threads_run(threads, column_sums_blocks(rows), add_round_task,
			    &work);
}

/* ---- backward ---- */

struct sum_work {
	enum element_type type;
	size_t rows;
	size_t columns;
	size_t stride;
	const void *dy;
	float *partials;
};

VECTOR_INLINE void sum(enum element_type type, size_t rows, size_t columns,
		       size_t stride, const void *restrict dy,
		       float *restrict partial)
{
	memset(partial, 0, columns * sizeof(float));
	for (size_t row = 0; row < rows; row++)
		for (size_t i = 0; i < columns; i++)
			partial[i] += value_load(type, dy, row * stride + i);
}

KERNEL_CLONES static void sum_rows(size_t rows, size_t columns, size_t stride,
				   const void *restrict dy,
				   float *restrict partial)
{
	sum(ELEMENT_F32, rows, columns, stride, dy, partial);
}

KERNEL_CLONES static void sum_rows_bfloat16(size_t rows, size_t columns,
					    size_t stride,
					    const void *restrict dy,
					    float *restrict partial)
{
	sum(ELEMENT_BF16, rows, columns, stride, dy, partial);
}

static void backward_task(void *argument, size_t index, unsigned thread)
{
	const struct sum_work *work = argument;
	size_t first = index * ROWS;

	(void)thread;
	(work->type == ELEMENT_BF16 ? sum_rows_bfloat16 : sum_rows)(
		MIN((size_t)ROWS, work->rows - first), work->columns,
		work->stride,
		values_at(work->type, work->dy, first * work->stride),
		work->partials + index * work->columns);
}

void bias_fill(struct threads *threads, size_t rows, size_t columns,
	       const float *bias, float *y)
{
	struct bias_work work = {rows, columns, bias, y};

	threads_run(threads, column_sums_blocks(rows), fill_task, &work);
}

void bias_add(struct threads *threads, size_t rows, size_t columns,
	      const float *bias, float *y)
{
	struct bias_work work = {rows, columns, bias, y};

	threads_run(threads, column_sums_blocks(rows), add_task, &work);
}

size_t bias_backward_scratch_bytes(size_t rows, size_t columns)
{
	return column_sums_scratch_bytes(rows, columns);
}

void bias_backward(struct threads *threads, enum element_type type, size_t rows,
		   size_t columns, size_t stride, const void *dy, float *dbias,
		   void *scratch)
{
	size_t blocks = column_sums_blocks(rows);
	struct sum_work work = {type, rows, columns, stride, dy, scratch};

	if (dbias == NULL)
		return;
	threads_run(threads, blocks, backward_task, &work);
	column_sums_combine(threads, blocks, columns, scratch, dbias);
}
