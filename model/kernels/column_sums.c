#include "model/kernels/column_sums.h"
#include "model/kernels/vector_math.h"

/* Columns of one combining task. */
#define COLUMNS 256

size_t column_sums_blocks(size_t rows)
{
	return (rows + COLUMN_SUMS_ROWS - 1) / COLUMN_SUMS_ROWS;
}

size_t column_sums_scratch_bytes(size_t rows, size_t columns)
{
	return column_sums_blocks(rows) * columns * sizeof(float);
}

struct combine {
	size_t blocks;
	size_t columns;
	const float *partials;
	float *out;
};

KERNEL_CLONES static void combine_columns(size_t blocks, size_t stride,
					  size_t count,
					  const float *restrict partials,
					  float *restrict out)
{
	float sums[COLUMNS] = {0};

	for (size_t block = 0; block < blocks; block++)
		for (size_t i = 0; i < count; i++)
			sums[i] += partials[block * stride + i];
	for (size_t i = 0; i < count; i++)
		out[i] += sums[i];
}

static void combine_task(void *argument, size_t index, unsigned thread)
{
	const struct combine *work = argument;
	size_t first = index * COLUMNS;
	size_t count = MIN((size_t)COLUMNS, work->columns - first);

	(void)thread;
	combine_columns(work->blocks, work->columns, count,
			work->partials + first, work->out + first);
}

void column_sums_combine(struct threads *threads, size_t blocks, size_t columns,
			 const float *partials, float *out)
{
	struct combine work = {blocks, columns, partials, out};

	if (out == NULL || blocks == 0)
		return;
	threads_run(threads, (columns + COLUMNS - 1) / COLUMNS, combine_task,
		    &work);
}
