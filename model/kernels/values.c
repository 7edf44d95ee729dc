#include "model/kernels/values.h"
#include "model/kernels/elementwise.h"

#include <string.h>

#define BLOCK ELEMENTWISE_BLOCK

struct values_work {
	size_t count;
	size_t bytes; /* of an element of out */
	const void *a;
	const void *b;
	void *out;
};

static size_t block_count(size_t count)
{
	return (count + BLOCK - 1) / BLOCK;
}

static size_t task_count(const struct values_work *work, size_t index)
{
	return MIN((size_t)BLOCK, work->count - index * BLOCK);
}

static void zero_task(void *argument, size_t index, unsigned thread)
{
	const struct values_work *work = argument;
	unsigned char *out = work->out;

	(void)thread;
	memset(out + index * BLOCK * work->bytes, 0,
	       task_count(work, index) * work->bytes);
}

void values_zero(struct threads *threads, enum element_type type, size_t count,
		 void *out)
{
	struct values_work work = {
		.count = count, .bytes = element_type_bytes(type), .out = out};

	threads_run(threads, block_count(count), zero_task, &work);
}

static void copy_task(void *argument, size_t index, unsigned thread)
{
	const struct values_work *work = argument;
	const unsigned char *in = work->a;
	unsigned char *out = work->out;
	size_t at = index * BLOCK * work->bytes;

	(void)thread;
	memcpy(out + at, in + at, task_count(work, index) * work->bytes);
}

void values_copy(struct threads *threads, enum element_type type, size_t count,
		 const void *in, void *out)
{
	struct values_work work = {.count = count,
				   .bytes = element_type_bytes(type),
				   .a = in,
				   .out = out};

	if (in != out)
		threads_run(threads, block_count(count), copy_task, &work);
}

KERNEL_CLONES static void add_bfloat16(size_t count, const bfloat16 *a,
				       const bfloat16 *b, bfloat16 *out)
{
	VECTOR_LOOP
	for (size_t i = 0; i < count; i++)
		out[i] = bfloat16_from_float(float_from_bfloat16(a[i]) +
					     float_from_bfloat16(b[i]));
}

static void add_task(void *argument, size_t index, unsigned thread)
{
	const struct values_work *work = argument;
	const bfloat16 *a = work->a, *b = work->b;
	bfloat16 *out = work->out;
	size_t first = index * BLOCK;

	(void)thread;
	add_bfloat16(task_count(work, index), a + first, b + first,
		     out + first);
}

void values_add(struct threads *threads, enum element_type type, size_t count,
		const void *a, const void *b, void *out)
{
	struct values_work work = {.count = count, .a = a, .b = b, .out = out};

	if (type == ELEMENT_BF16)
		threads_run(threads, block_count(count), add_task, &work);
	else
		elementwise_add(threads, count, a, b, out);
}

KERNEL_CLONES void values_row_widen(size_t count, const bfloat16 *in,
				    float *out)
{
	VECTOR_LOOP
	for (size_t i = 0; i < count; i++)
		out[i] = float_from_bfloat16(in[i]);
}

KERNEL_CLONES void values_row_round(size_t count, const float *in,
				    bfloat16 *out)
{
	VECTOR_LOOP
	for (size_t i = 0; i < count; i++)
		out[i] = bfloat16_from_float(in[i]);
}

static void round_task(void *argument, size_t index, unsigned thread)
{
	const struct values_work *work = argument;
	const float *in = work->a;
	bfloat16 *out = work->out;

	(void)thread;
	values_row_round(task_count(work, index), in + index * BLOCK,
			 out + index * BLOCK);
}

void values_round(struct threads *threads, size_t count, const float *in,
		  bfloat16 *out)
{
	struct values_work work = {.count = count, .a = in, .out = out};

	threads_run(threads, block_count(count), round_task, &work);
}

KERNEL_CLONES static void add_round(size_t count, const float *in,
				    bfloat16 *out)
{
	VECTOR_LOOP
	for (size_t i = 0; i < count; i++)
		out[i] = bfloat16_from_float(float_from_bfloat16(out[i]) +
					     in[i]);
}

static void add_round_task(void *argument, size_t index, unsigned thread)
{
	const struct values_work *work = argument;
	const float *in = work->a;
	bfloat16 *out = work->out;

	(void)thread;
	add_round(task_count(work, index), in + index * BLOCK,
		  out + index * BLOCK);
}

void values_add_round(struct threads *threads, size_t count, const float *in,
		      bfloat16 *out)
{
	struct values_work work = {.count = count, .a = in, .out = out};

	threads_run(threads, block_count(count), add_round_task, &work);
}
