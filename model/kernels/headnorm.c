#include "model/kernels/headnorm.h"
#include "model/kernels/column_sums.h"
#include "model/kernels/lanes.h"

#include <string.h>

/* Tokens of one task. */
#define ROWS COLUMN_SUMS_ROWS

struct headnorm_work {
	const struct headnorm_shape *shape;
	const float *dy;
	const float *x;
	const float *gain[2]; /* of queries, of keys */
	float *rstd;
	float *out;
	float *partial[2]; /* [blocks, D] */
};

/* Heads that are normalised, and the floats of a row. */
static size_t normed_heads(const struct headnorm_shape *shape)
{
	return shape->heads + shape->kv_heads;
}

static size_t row_width(const struct headnorm_shape *shape)
{
	return (normed_heads(shape) + shape->kv_heads) * shape->head_size;
}

static const float *gain_of(const struct headnorm_work *work, size_t head)
{
	return work->gain[head >= work->shape->heads];
}

static size_t task_end(const struct headnorm_work *work, size_t index)
{
	return MIN(work->shape->rows, (index + 1) * ROWS);
}

KERNEL_CLONES static void head_forward(size_t size, float epsilon,
				       const float *restrict x,
				       const float *restrict gain,
				       float *restrict y, float *rstd_out)
{
	float squares[LANES] = {0};
	float rstd;

	LANES_FOR(size, i, lane, squares[lane] += x[i] * x[i]);
	rstd = 1.0f / sqrtf(lanes_sum(squares) / (float)size + epsilon);
	for (size_t i = 0; i < size; i++)
		y[i] = x[i] * rstd * gain[i];
	*rstd_out = rstd;
}

/* dx = (dy gain - x rstd^2 mean(dy gain x)) rstd. */
KERNEL_CLONES static void head_backward(size_t size, const float *restrict dy,
					const float *restrict x,
					const float *restrict gain, float rstd,
					float *restrict dx)
{
	float dots[LANES] = {0};
	float slope;

	LANES_FOR(size, i, lane, dots[lane] += dy[i] * gain[i] * x[i]);
	slope = lanes_sum(dots) / (float)size * rstd * rstd;
	for (size_t i = 0; i < size; i++)
		dx[i] = (dy[i] * gain[i] - x[i] * slope) * rstd;
}

KERNEL_CLONES static void head_gain(size_t size, const float *restrict dy,
				    const float *restrict x, float rstd,
				    float *restrict sums)
{
	for (size_t i = 0; i < size; i++)
		sums[i] += dy[i] * (x[i] * rstd);
}

static void copy_values(const struct headnorm_shape *shape, const float *in,
			float *out)
{
	size_t first = normed_heads(shape) * shape->head_size;

	memcpy(out + first, in + first,
	       shape->kv_heads * shape->head_size * sizeof(float));
}

static void forward_task(void *argument, size_t index, unsigned thread)
{
	const struct headnorm_work *work = argument;
	const struct headnorm_shape *shape = work->shape;
	size_t heads = normed_heads(shape), size = shape->head_size;
	size_t width = row_width(shape);

	(void)thread;
	for (size_t row = index * ROWS; row < task_end(work, index); row++) {
		const float *x = work->x + row * width;
		float *y = work->out + row * width;

		for (size_t head = 0; head < heads; head++)
			head_forward(size, shape->epsilon, x + head * size,
				     gain_of(work, head), y + head * size,
				     work->rstd + row * heads + head);
		copy_values(shape, x, y);
	}
}

void headnorm_forward(struct threads *threads,
		      const struct headnorm_shape *shape, const float *x,
		      const float *query_gain, const float *key_gain, float *y,
		      float *rstd)
{
	struct headnorm_work work = {
		.shape = shape,
		.x = x,
		.gain = {query_gain, key_gain},
		.rstd = rstd,
		.out = y,
	};

	threads_run(threads, column_sums_blocks(shape->rows), forward_task,
		    &work);
}

static void backward_input_task(void *argument, size_t index, unsigned thread)
{
	const struct headnorm_work *work = argument;
	const struct headnorm_shape *shape = work->shape;
	size_t heads = normed_heads(shape), size = shape->head_size;
	size_t width = row_width(shape);

	(void)thread;
	for (size_t row = index * ROWS; row < task_end(work, index); row++) {
		const float *dy = work->dy + row * width;
		const float *x = work->x + row * width;
		float *dx = work->out + row * width;

		for (size_t head = 0; head < heads; head++)
			head_backward(size, dy + head * size, x + head * size,
				      gain_of(work, head),
				      work->rstd[row * heads + head],
				      dx + head * size);
		copy_values(shape, dy, dx);
	}
}

void headnorm_backward_input(struct threads *threads,
			     const struct headnorm_shape *shape,
			     const float *dy, const float *x,
			     const float *query_gain, const float *key_gain,
			     const float *rstd, float *dx)
{
	struct headnorm_work work = {
		.shape = shape,
		.dy = dy,
		.x = x,
		.gain = {query_gain, key_gain},
		.rstd = (float *)(uintptr_t)rstd, /* only read here */
		.out = dx,
	};

	threads_run(threads, column_sums_blocks(shape->rows),
		    backward_input_task, &work);
}

/* Rows, then heads, ascending. */
static void backward_weight_task(void *argument, size_t index, unsigned thread)
{
	const struct headnorm_work *work = argument;
	const struct headnorm_shape *shape = work->shape;
	size_t heads = normed_heads(shape), size = shape->head_size;
	size_t width = row_width(shape);

	(void)thread;
	for (size_t which = 0; which < 2; which++)
		memset(work->partial[which] + index * size, 0,
		       size * sizeof(float));
	for (size_t row = index * ROWS; row < task_end(work, index); row++)
		for (size_t head = 0; head < heads; head++)
			head_gain(size, work->dy + row * width + head * size,
				  work->x + row * width + head * size,
				  work->rstd[row * heads + head],
				  work->partial[head >= shape->heads] +
					  index * size);
}

size_t
headnorm_backward_weight_scratch_bytes(const struct headnorm_shape *shape)
{
	return 2 * column_sums_scratch_bytes(shape->rows, shape->head_size);
}

void headnorm_backward_weight(struct threads *threads,
			      const struct headnorm_shape *shape,
			      const float *dy, const float *x,
			      const float *rstd, float *dquery, float *dkey,
			      void *scratch)
{
	size_t blocks = column_sums_blocks(shape->rows);
	struct headnorm_work work = {
		.shape = shape,
		.dy = dy,
		.x = x,
		.rstd = (float *)(uintptr_t)rstd, /* only read here */
		.partial = {scratch,
			    (float *)scratch + blocks * shape->head_size},
	};

	if (dquery == NULL && dkey == NULL)
		return;
	threads_run(threads, blocks, backward_weight_task, &work);
	column_sums_combine(threads, blocks, shape->head_size, work.partial[0],
			    dquery);
	column_sums_combine(threads, blocks, shape->head_size, work.partial[1],
			    dkey);
}
