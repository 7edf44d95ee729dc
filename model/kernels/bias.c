#include "model/kernels/bias.h"
#include "model/kernels/column_sums.h"
#include "model/kernels/vector_math.h"

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

KERNEL_CLONES static void sum_rows(size_t rows, size_t columns,
				   const float *restrict dy,
				   float *restrict partial)
{
	memset(partial, 0, columns * sizeof(float));
	for (size_t row = 0; row < rows; row++)
		for (size_t i = 0; i < columns; i++)
			partial[i] += dy[row * columns + i];
}

static void backward_task(void *argument, size_t index, unsigned thread)
{
	const struct bias_work *work = argument;

	(void)thread;
	sum_rows(task_rows(work, index), work->columns,
		 work->in + index * ROWS * work->columns,
		 work->out + index * work->columns);
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

void bias_backward(struct threads *threads, size_t rows, size_t columns,
		   const float *dy, float *dbias, void *scratch)
{
	size_t blocks = column_sums_blocks(rows);
	struct bias_work work = {rows, columns, dy, scratch};

	if (dbias == NULL)
		return;
	threads_run(threads, blocks, backward_task, &work);
	column_sums_combine(threads, blocks, columns, scratch, dbias);
}
