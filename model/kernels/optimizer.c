#include "model/kernels/optimizer.h"
#include "base/math.h"
#include "model/kernels/lanes.h"
#include "model/kernels/values.h"

#include <string.h>

#define BLOCK OPTIMIZER_BLOCK

static size_t block_count(size_t count)
{
	return (count + BLOCK - 1) / BLOCK;
}

/* ---- AdamW ---- */

/* A step's scalars as the loop uses them, rounded once from double. */
struct adamw_scalars {
	float gradient_scale;
	float beta1, rest1; /* 1 - beta1 */
	float beta2, rest2;
	float keep;          /* 1 - learning_rate * weight_decay */
	float step;          /* learning_rate / bias_correction1 */
	float second_factor; /* 1 / sqrt(bias_correction2) */
	float epsilon;
};

struct adamw_work {
	struct adamw_scalars scalars;
	bool zero_gradients;
	size_t count;
	float *weights;
	float *gradients;
	float *first_moment;
	float *second_moment;
	bfloat16 *copy;
};

void adamw_set_step(struct adamw *adamw, uint64_t step)
{
	adamw->bias_correction1 =
		1.0 - math_power_integer(adamw->beta1, (long)step);
	adamw->bias_correction2 =
		1.0 - math_power_integer(adamw->beta2, (long)step);
}

KERNEL_CLONES static void adamw_block(const struct adamw_scalars *scalars,
				      size_t count, float *restrict weights,
				      const float *restrict gradients,
				      float *restrict first_moment,
				      float *restrict second_moment)
{
	const struct adamw_scalars s = *scalars;

	for (size_t i = 0; i < count; i++) {
		float g = gradients[i] * s.gradient_scale;
		float m = s.beta1 * first_moment[i] + s.rest1 * g;
		float v = s.beta2 * second_moment[i] + s.rest2 * (g * g);
		float divisor = sqrtf(v) * s.second_factor + s.epsilon;

		first_moment[i] = m;
		second_moment[i] = v;
		weights[i] = weights[i] * s.keep - s.step * (m / divisor);
	}
}

static void adamw_task(void *argument, size_t index, unsigned thread)
{
	const struct adamw_work *work = argument;
	size_t first = index * BLOCK;
	size_t count = MIN((size_t)BLOCK, work->count - first);

	(void)thread;
	adamw_block(&work->scalars, count, work->weights + first,
		    work->gradients + first, work->first_moment + first,
		    work->second_moment + first);
	if (work->copy)
		values_row_round(count, work->weights + first,
				 work->copy + first);
	if (work->zero_gradients)
		memset(work->gradients + first, 0, count * sizeof(float));
}

void adamw_update(struct threads *threads, const struct adamw *adamw,
		  size_t count, float *weights, float *gradients,
		  float *first_moment, float *second_moment, bfloat16 *copy)
{
	double rate = adamw->learning_rate;
	struct adamw_work work = {
		.scalars =
			{
				.gradient_scale = adamw->gradient_scale,
				.beta1 = (float)adamw->beta1,
				.rest1 = (float)(1.0 - adamw->beta1),
				.beta2 = (float)adamw->beta2,
				.rest2 = (float)(1.0 - adamw->beta2),
				.keep = (float)(1.0 -
						rate * adamw->weight_decay),
				.step = (float)(rate / adamw->bias_correction1),
				.second_factor =
					(float)(1.0 /
						math_sqrt(
							adamw->bias_correction2)),
				.epsilon = (float)adamw->epsilon,
			},
		.zero_gradients = adamw->zero_gradients,
		.count = count,
		.weights = weights,
		.gradients = gradients,
		.first_moment = first_moment,
		.second_moment = second_moment,
		.copy = copy,
	};

	threads_run(threads, block_count(count), adamw_task, &work);
}

/* ---- SGD ---- */

struct sgd_work {
	const struct sgd *sgd;
	size_t count;
	float *weights;
	float *gradients;
	float *momentum;
	bfloat16 *copy;
};

KERNEL_CLONES static void sgd_block(float rate, float decay, float scale,
				    size_t count, float *restrict weights,
				    const float *restrict gradients)
{
	for (size_t i = 0; i < count; i++)
		weights[i] -=
			rate * (gradients[i] * scale + decay * weights[i]);
}

/* `ahead` is the momentum with Nesterov's look ahead, else 0, and `direct` the
 * part of the gradient that goes into the weights at once. */
KERNEL_CLONES static void momentum_block(float rate, float decay, float scale,
					 float keep, float direct, float ahead,
					 size_t count, float *restrict weights,
					 const float *restrict gradients,
					 float *restrict momentum)
{
	for (size_t i = 0; i < count; i++) {
		float g = gradients[i] * scale + decay * weights[i];
		float b = keep * momentum[i] + g;

		momentum[i] = b;
		weights[i] -= rate * (direct * g + ahead * b);
	}
}

static void sgd_task(void *argument, size_t index, unsigned thread)
{
	const struct sgd_work *work = argument;
	const struct sgd *sgd = work->sgd;
	size_t first = index * BLOCK;
	size_t count = MIN((size_t)BLOCK, work->count - first);
	float rate = (float)sgd->learning_rate;
	float decay = (float)sgd->weight_decay;
	float keep = (float)sgd->momentum;

	(void)thread;
	if (sgd->momentum == 0.0)
		sgd_block(rate, decay, sgd->gradient_scale, count,
			  work->weights + first, work->gradients + first);
	else
		momentum_block(rate, decay, sgd->gradient_scale, keep,
			       sgd->nesterov ? 1.0f : 0.0f,
			       sgd->nesterov ? keep : 1.0f, count,
			       work->weights + first, work->gradients + first,
			       work->momentum + first);
	if (work->copy)
		values_row_round(count, work->weights + first,
				 work->copy + first);
	if (sgd->zero_gradients)
		memset(work->gradients + first, 0, count * sizeof(float));
}

void sgd_update(struct threads *threads, const struct sgd *sgd, size_t count,
		float *weights, float *gradients, float *momentum,
		bfloat16 *copy)
{
	struct sgd_work work = {sgd, count, weights, gradients, momentum, copy};

	threads_run(threads, block_count(count), sgd_task, &work);
}

/* ---- norm ---- */

struct square_work {
	size_t count;
	const float *values;
	double *partials; /* [blocks] */
};

KERNEL_CLONES static double square_block(size_t count, const float *values)
{
	double sums[LANES] = {0};

	LANES_FOR(count, i, lane,
		  sums[lane] += (double)values[i] * (double)values[i]);
	return lanes_sum_double(sums);
}

/* A thread reads so many blocks in a row: memory is fastest read on and on. */
#define SQUARE_BLOCKS 16

static void square_task(void *argument, size_t index, unsigned thread)
{
	const struct square_work *work = argument;
	size_t begin = index * SQUARE_BLOCKS;
	size_t end = MIN(begin + SQUARE_BLOCKS, block_count(work->count));

	(void)thread;
	for (size_t block = begin; block < end; block++) {
		size_t first = block * BLOCK;

		work->partials[block] =
			square_block(MIN((size_t)BLOCK, work->count - first),
				     work->values + first);
	}
}

size_t square_sum_scratch_bytes(size_t count)
{
	return block_count(count) * sizeof(double);
}

void square_partials(struct threads *threads, size_t count, const float *values,
		     double *partials)
{
	struct square_work work = {count, values, partials};

	threads_run(threads,
		    (block_count(count) + SQUARE_BLOCKS - 1) / SQUARE_BLOCKS,
		    square_task, &work);
}

double square_sum(struct threads *threads, size_t count, const float *values,
		  void *scratch)
{
	const double *partials = scratch;
	double sum = 0.0;

	square_partials(threads, count, values, scratch);
	for (size_t block = 0; block < block_count(count); block++)
		sum += partials[block];
	return sum;
}
