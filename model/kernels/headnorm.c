#include "model/kernels/headnorm.h"
#include "model/kernels/column_sums.h"
#include "model/kernels/lanes.h"
#include "model/kernels/values.h"

#include <string.h>

/* Tokens of one task. */
#define ROWS COLUMN_SUMS_ROWS

struct headnorm_work {
	const struct headnorm_shape *shape;
	const void *dy;
	const void *x;
	const float *gain[2]; /* of queries, of keys */
	float *rstd;
	void *out;
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

VECTOR_INLINE void forward(enum element_type type, size_t size, float epsilon,
			   const void *restrict x, const float *restrict gain,
			   void *restrict y, float *rstd_out)
{
	float squares[LANES] = {0};
	float rstd;

	LANES_FOR(size, i, lane,
		  squares[lane] +=
		  value_load(type, x, i) * value_load(type, x, i));
	rstd = 1.0f / sqrtf(lanes_sum(squares) / (float)size + epsilon);
	for (size_t i = 0; i < size; i++)
		value_store(type, y, i,
			    value_load(type, x, i) * rstd * gain[i]);
	*rstd_out = rstd;
}

KERNEL_CLONES static void head_forward(size_t size, float epsilon,
				       const void *restrict x,
				       const float *restrict gain,
				       void *restrict y, float *rstd_out)
{
	forward(ELEMENT_F32, size, epsilon, x, gain, y, rstd_out);
}

KERNEL_CLONES static void head_forward_bfloat16(size_t size, float epsilon,
						const void *restrict x,
						const float *restrict gain,
						void *restrict y,
						float *rstd_out)
{
	forward(ELEMENT_BF16, size, epsilon, x, gain, y, rstd_out);
}

/* dx = (dy gain - x rstd^2 mean(dy gain x)) rstd. */
VECTOR_INLINE void backward(enum element_type type, size_t size,
			    const void *restrict dy, const void *restrict x,
			    const float *restrict gain, float rstd,
			    void *restrict dx)
{
	float dots[LANES] = {0};
	float slope;

	LANES_FOR(size, i, lane,
		  dots[lane] +=
		  value_load(type, dy, i) * gain[i] * value_load(type, x, i));
	slope = lanes_sum(dots) / (float)size * rstd * rstd;
	for (size_t i = 0; i < size; i++)
		value_store(type, dx, i,
			    (value_load(type, dy, i) * gain[i] -
			     value_load(type, x, i) * slope) *
				    rstd);
}

KERNEL_CLONES static void head_backward(size_t size, const void *restrict dy,
					const void *restrict x,
					const float *restrict gain, float rstd,
					void *restrict dx)
{
	backward(ELEMENT_F32, size, dy, x, gain, rstd, dx);
}

KERNEL_CLONES static void head_backward_bfloat16(size_t size,
						 const void *restrict dy,
						 const void *restrict x,
						 const float *restrict gain,
						 float rstd, void *restrict dx)
{
	backward(ELEMENT_BF16, size, dy, x, gain, rstd, dx);
}

VECTOR_INLINE void gain_sums(enum element_type type, size_t size,
			     const void *restrict dy, const void *restrict x,
			     float rstd, float *restrict sums)
{
	for (size_t i = 0; i < size; i++)
		sums[i] += value_load(type, dy, i) *
			   (value_load(type, x, i) * rstd);
}

KERNEL_CLONES static void head_gain(size_t size, const void *restrict dy,
				    const void *restrict x, float rstd,
				    float *restrict sums)
{
	gain_sums(ELEMENT_F32, size, dy, x, rstd, sums);
}

KERNEL_CLONES static void head_gain_bfloat16(size_t size,
					     const void *restrict dy,
					     const void *restrict x, float rstd,
					     float *restrict sums)
{
	gain_sums(ELEMENT_BF16, size, dy, x, rstd, sums);
}

/* Head `head` of row `row` of a packed matrix of the type. */
static const void *head_of(const struct headnorm_work *work, const void *matrix,
			   size_t row, size_t head)
{
	const struct headnorm_shape *shape = work->shape;

	return values_at(shape->type, matrix,
			 row * row_width(shape) + head * shape->head_size);
}

static void *out_head(const struct headnorm_work *work, size_t row, size_t head)
{
	return (void *)(uintptr_t)head_of(work, work->out, row, head);
}

static void copy_values(const struct headnorm_work *work, const void *in,
			size_t row)
{
	const struct headnorm_shape *shape = work->shape;
	size_t first = normed_heads(shape);

	memcpy(out_head(work, row, first), head_of(work, in, row, first),
	       shape->kv_heads * shape->head_size *
		       element_type_bytes(shape->type));
}

static void forward_task(void *argument, size_t index, unsigned thread)
{
	const struct headnorm_work *work = argument;
	const struct headnorm_shape *shape = work->shape;
	bool narrow = shape->type == ELEMENT_BF16;
	size_t heads = normed_heads(shape);

	(void)thread;
	for (size_t row = index * ROWS; row < task_end(work, index); row++) {
		for (size_t head = 0; head < heads; head++)
			(narrow ? head_forward_bfloat16 : head_forward)(
				shape->head_size, shape->epsilon,
				head_of(work, work->x, row, head),
				gain_of(work, head), out_head(work, row, head),
				work->rstd + row * heads + head);
		copy_values(work, work->x, row);
	}
}

void headnorm_forward(struct threads *threads,
		      const struct headnorm_shape *shape, const void *x,
		      const float *query_gain, const float *key_gain, void *y,
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
	bool narrow = shape->type == ELEMENT_BF16;
	size_t heads = normed_heads(shape);

	(void)thread;
	for (size_t row = index * ROWS; row < task_end(work, index); row++) {
		for (size_t head = 0; head < heads; head++)
			(narrow ? head_backward_bfloat16 : head_backward)(
				shape->head_size,
				head_of(work, work->dy, row, head),
				head_of(work, work->x, row, head),
				gain_of(work, head),
				work->rstd[row * heads + head],
				out_head(work, row, head));
		copy_values(work, work->dy, row);
	}
}

void headnorm_backward_input(struct threads *threads,
			     const struct headnorm_shape *shape, const void *dy,
			     const void *x, const float *query_gain,
			     const float *key_gain, const float *rstd, void *dx)
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
	bool narrow = shape->type == ELEMENT_BF16;
	size_t heads = normed_heads(shape), size = shape->head_size;

	(void)thread;
	for (size_t which = 0; which < 2; which++)
		memset(work->partial[which] + index * size, 0,
		       size * sizeof(float));
	for (size_t row = index * ROWS; row < task_end(work, index); row++)
		for (size_t head = 0; head < heads; head++)
			(narrow ? head_gain_bfloat16 : head_gain)(
				size, head_of(work, work->dy, row, head),
				head_of(work, work->x, row, head),
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
			      const void *dy, const void *x, const float *rstd,
			      float *dquery, float *dkey, void *scratch)
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
