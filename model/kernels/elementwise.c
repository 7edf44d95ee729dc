#include "model/kernels/elementwise.h"
#include "model/kernels/vector_math.h"

#include <string.h>

#define BLOCK ELEMENTWISE_BLOCK

struct elementwise_work {
	size_t count;
	const float *a;
	const float *b;
	float factor;
	float *out;
	void (*block)(const struct elementwise_work *work, size_t first,
		      size_t count);
	bool not_finite; /* only ever set, hence by any number of threads */
};

static void elementwise_task(void *argument, size_t index, unsigned thread)
{
	const struct elementwise_work *work = argument;
	size_t first = index * BLOCK;

	(void)thread;
	work->block(work, first, MIN((size_t)BLOCK, work->count - first));
}

static void elementwise_run(struct threads *threads,
			    struct elementwise_work *work)
{
	threads_run(threads, (work->count + BLOCK - 1) / BLOCK,
		    elementwise_task, work);
}

static void zero_block(const struct elementwise_work *work, size_t first,
		       size_t count)
{
	memset(work->out + first, 0, count * sizeof(float));
}

static void copy_block(const struct elementwise_work *work, size_t first,
		       size_t count)
{
	memcpy(work->out + first, work->a + first, count * sizeof(float));
}

KERNEL_CLONES static void add_floats(size_t count, const float *a,
				     const float *b, float *out)
{
	VECTOR_LOOP
	for (size_t i = 0; i < count; i++)
		out[i] = a[i] + b[i];
}

static void add_block(const struct elementwise_work *work, size_t first,
		      size_t count)
{
	add_floats(count, work->a + first, work->b + first, work->out + first);
}

KERNEL_CLONES static void maximum_floats(size_t count, const float *a,
					 const float *b, float *out)
{
	VECTOR_LOOP
	for (size_t i = 0; i < count; i++)
		out[i] = a[i] > b[i] ? a[i] : b[i];
}

static void maximum_block(const struct elementwise_work *work, size_t first,
			  size_t count)
{
	maximum_floats(count, work->a + first, work->b + first,
		       work->out + first);
}

KERNEL_CLONES static void multiply_floats(size_t count, const float *a,
					  const float *b, float *out)
{
	VECTOR_LOOP
	for (size_t i = 0; i < count; i++)
		out[i] = a[i] * b[i];
}

static void multiply_block(const struct elementwise_work *work, size_t first,
			   size_t count)
{
	multiply_floats(count, work->a + first, work->b + first,
			work->out + first);
}

KERNEL_CLONES static void scale_floats(size_t count, float factor,
				       const float *a, float *out)
{
	VECTOR_LOOP
	for (size_t i = 0; i < count; i++)
		out[i] = a[i] * factor;
}

static void scale_block(const struct elementwise_work *work, size_t first,
			size_t count)
{
	scale_floats(count, work->factor, work->a + first, work->out + first);
}

/* An exponent of all ones, the mark of NaN and infinity, survives in no sum
 * of bits but in a maximum. */
KERNEL_CLONES static int32_t largest_magnitude_bits(size_t count,
						    const float *values)
{
	int32_t largest = 0;

	for (size_t i = 0; i < count; i++) {
		int32_t bits = vector_float_bits(values[i]) & 0x7fffffff;

		largest = bits > largest ? bits : largest;
	}
	return largest;
}

static void finite_task(void *argument, size_t index, unsigned thread)
{
	struct elementwise_work *work = argument;
	size_t first = index * BLOCK;
	size_t count = MIN((size_t)BLOCK, work->count - first);

	(void)thread;
	if (largest_magnitude_bits(count, work->a + first) >= 0x7f800000)
		__atomic_store_n(&work->not_finite, true, __ATOMIC_RELAXED);
}

void elementwise_zero(struct threads *threads, size_t count, float *out)
{
	struct elementwise_work work = {
		.count = count, .out = out, .block = zero_block};

	elementwise_run(threads, &work);
}

void elementwise_copy(struct threads *threads, size_t count, const float *in,
		      float *out)
{
	struct elementwise_work work = {
		.count = count, .a = in, .out = out, .block = copy_block};

	if (in != out)
		elementwise_run(threads, &work);
}

void elementwise_add(struct threads *threads, size_t count, const float *a,
		     const float *b, float *out)
{
	struct elementwise_work work = {
		.count = count, .a = a, .b = b, .out = out, .block = add_block};

	elementwise_run(threads, &work);
}

void elementwise_accumulate(struct threads *threads, size_t count,
			    const float *b, float *a)
{
	elementwise_add(threads, count, a, b, a);
}

void elementwise_multiply(struct threads *threads, size_t count, const float *a,
			  const float *b, float *out)
{
	struct elementwise_work work = {.count = count,
					.a = a,
					.b = b,
					.out = out,
					.block = multiply_block};

	elementwise_run(threads, &work);
}

void elementwise_maximum(struct threads *threads, size_t count, const float *a,
			 const float *b, float *out)
{
	struct elementwise_work work = {.count = count,
					.a = a,
					.b = b,
					.out = out,
					.block = maximum_block};

	elementwise_run(threads, &work);
}

void elementwise_scale(struct threads *threads, size_t count, float factor,
		       const float *a, float *out)
{
	struct elementwise_work work = {.count = count,
					.a = a,
					.factor = factor,
					.out = out,
					.block = scale_block};

	elementwise_run(threads, &work);
}

bool elementwise_all_finite(struct threads *threads, size_t count,
			    const float *values)
{
	struct elementwise_work work = {.count = count, .a = values};

	threads_run(threads, (count + BLOCK - 1) / BLOCK, finite_task, &work);
	return !work.not_finite;
}
