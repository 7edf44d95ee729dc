#include "model/kernels/embedding.h"
#include "model/kernels/values.h"

#include <string.h>

/* Rows of one forward task, positions of one position-gradient task. */
#define ROWS 16

/*
 * Token-gradient tasks: task k owns the vocabulary rows v with v % OWNERS == k.
 * Neighbouring ids are about equally frequent (they follow the merges), so
 * this shares the work better than ranges would.
 */
#define OWNERS 64

struct embedding_work {
	enum element_type type; /* of tables, x and dx */
	size_t samples;
	size_t length; /* T */
	size_t channels;
	size_t offset;
	const int32_t *starts; /* [samples, T], NULL: 0 */
	const int32_t *tokens; /* [samples, T] */
	size_t first;          /* the token of row 0 of the table */
	size_t count;          /* its rows */
	const void *wte;
	const void *wpe;
	const void *dx;
	const float *sums; /* of the parts of a table */
	void *out;         /* x */
	float *gradient;
};

static size_t position_of(const struct embedding_work *work, size_t row)
{
	size_t place = row % work->length;

	if (work->starts)
		place -= (size_t)work->starts[row];
	return work->offset + place;
}

/* Row `row` of a matrix [rows, C] of the type. */
static const void *row_of(const struct embedding_work *work, const void *matrix,
			  size_t row)
{
	return values_at(work->type, matrix, row * work->channels);
}

static void *out_row(const struct embedding_work *work, size_t row)
{
	return values_at_mutable(work->type, work->out, row * work->channels);
}

VECTOR_INLINE void add(enum element_type type, size_t channels,
		       const void *restrict row, float *restrict sum)
{
	for (size_t i = 0; i < channels; i++)
		sum[i] += value_load(type, row, i);
}

KERNEL_CLONES static void add_row(size_t channels, const void *restrict row,
				  float *restrict sum)
{
	add(ELEMENT_F32, channels, row, sum);
}

KERNEL_CLONES static void
add_row_bfloat16(size_t channels, const void *restrict row, float *restrict sum)
{
	add(ELEMENT_BF16, channels, row, sum);
}

/* sum[C] += a gradient's row. */
static void accumulate_row(const struct embedding_work *work, size_t row,
			   float *sum)
{
	(work->type == ELEMENT_BF16 ? add_row_bfloat16 : add_row)(
		work->channels, row_of(work, work->dx, row), sum);
}

KERNEL_CLONES static void add_two_rows(size_t channels, const float *restrict a,
				       const float *restrict b,
				       float *restrict out)
{
	for (size_t i = 0; i < channels; i++)
		out[i] = a[i] + b[i];
}

KERNEL_CLONES static void add_two_rows_bfloat16(size_t channels,
						const bfloat16 *restrict a,
						const bfloat16 *restrict b,
						bfloat16 *restrict out)
{
	for (size_t i = 0; i < channels; i++)
		out[i] = bfloat16_from_float(float_from_bfloat16(a[i]) +
					     float_from_bfloat16(b[i]));
}

/* Of a sum of parts and a position. */
KERNEL_CLONES static void add_round_row(size_t channels,
					const float *restrict sum,
					const bfloat16 *restrict row,
					bfloat16 *restrict out)
{
	for (size_t i = 0; i < channels; i++)
		out[i] = bfloat16_from_float(sum[i] +
					     float_from_bfloat16(row[i]));
}

KERNEL_CLONES static size_t find_invalid(size_t count, const int32_t *tokens,
					 uint32_t vocabulary)
{
	uint32_t invalid = 0;

	for (size_t i = 0; i < count; i++)
		invalid |= (uint32_t)tokens[i] >= vocabulary;
	if (!invalid)
		return count;
	for (size_t i = 0; i < count; i++)
		if ((uint32_t)tokens[i] >= vocabulary)
			return i;
	return count;
}

size_t embedding_find_invalid(size_t count, const int32_t *tokens,
			      size_t vocabulary)
{
	return find_invalid(count, tokens,
			    (uint32_t)MIN(vocabulary, (size_t)INT32_MAX));
}

static void forward_task(void *argument, size_t index, unsigned thread)
{
	const struct embedding_work *work = argument;
	size_t channels = work->channels;
	size_t end = MIN(work->samples * work->length, (index + 1) * ROWS);

	(void)thread;
	for (size_t row = index * ROWS; row < end; row++) {
		const void *token =
			row_of(work, work->wte, (size_t)work->tokens[row]);
		size_t position = position_of(work, row);
		void *x = out_row(work, row);

		if (work->wpe == NULL)
			memcpy(x, token,
			       channels * element_type_bytes(work->type));
		else if (work->type == ELEMENT_BF16)
			add_two_rows_bfloat16(channels, token,
					      row_of(work, work->wpe, position),
					      x);
		else
			add_two_rows(channels, token,
				     row_of(work, work->wpe, position), x);
	}
}

void embedding_forward(struct threads *threads, enum element_type type,
		       size_t samples, size_t length, size_t channels,
		       const int32_t *tokens, size_t position_offset,
		       const int32_t *starts, const void *wte, const void *wpe,
		       void *x)
{
	struct embedding_work work = {
		.type = type,
		.samples = samples,
		.length = length,
		.channels = channels,
		.offset = position_offset,
		.starts = starts,
		.tokens = tokens,
		.wte = wte,
		.wpe = wpe,
		.out = x,
	};

	threads_run(threads, (samples * length + ROWS - 1) / ROWS, forward_task,
		    &work);
}

static void token_gradient_task(void *argument, size_t index, unsigned thread)
{
	const struct embedding_work *work = argument;
	size_t channels = work->channels;
	size_t rows = work->samples * work->length;

	(void)thread;
	for (size_t row = 0; row < rows; row++) {
		size_t token = (size_t)work->tokens[row];

		if (token % OWNERS == index &&
		    token - work->first < work->count)
			accumulate_row(work, row,
				       work->gradient + (token - work->first) *
								channels);
	}
}

/* The rows of dx that belong to one position, in ascending order. */
static void started_gradient_task(void *argument, size_t index, unsigned thread)
{
	const struct embedding_work *work = argument;
	size_t channels = work->channels;
	size_t rows = work->samples * work->length;
	size_t first = work->offset + index * ROWS;

	(void)thread;
	for (size_t row = 0; row < rows; row++) {
		size_t position = position_of(work, row);

		if (position - first < ROWS)
			accumulate_row(work, row,
				       work->gradient + position * channels);
	}
}

static void position_gradient_task(void *argument, size_t index,
				   unsigned thread)
{
	const struct embedding_work *work = argument;
	size_t channels = work->channels;
	size_t end = MIN(work->length, (index + 1) * ROWS);

	(void)thread;
	for (size_t t = index * ROWS; t < end; t++)
		for (size_t sample = 0; sample < work->samples; sample++)
			accumulate_row(work, sample * work->length + t,
				       work->gradient +
					       (work->offset + t) * channels);
}

void embedding_backward_weight(struct threads *threads, enum element_type type,
			       size_t samples, size_t length, size_t channels,
			       const int32_t *tokens, size_t position_offset,
			       const int32_t *starts, const void *dx,
			       float *dwte, float *dwpe)
{
	struct embedding_work work = {
		.type = type,
		.samples = samples,
		.length = length,
		.channels = channels,
		.offset = position_offset,
		.starts = starts,
		.tokens = tokens,
		.count = SIZE_MAX,
		.dx = dx,
	};

	if (dwte != NULL) {
		work.gradient = dwte;
		threads_run(threads, OWNERS, token_gradient_task, &work);
	}
	if (dwpe != NULL) {
		work.gradient = dwpe;
		threads_run(threads, (length + ROWS - 1) / ROWS,
			    starts ? started_gradient_task
				   : position_gradient_task,
			    &work);
	}
}

static void forward_part_task(void *argument, size_t index, unsigned thread)
{
	const struct embedding_work *work = argument;
	size_t channels = work->channels;
	size_t end = MIN(work->length, (index + 1) * ROWS);

	(void)thread;
	for (size_t row = index * ROWS; row < end; row++) {
		size_t here = (size_t)work->tokens[row] - work->first;
		float *x = (float *)work->out + row * channels;

		if (here >= work->count)
			for (size_t i = 0; i < channels; i++)
				x[i] = -0.0f;
		else if (work->type == ELEMENT_BF16)
			values_row_widen(channels,
					 row_of(work, work->wte, here), x);
		else
			memcpy(x, row_of(work, work->wte, here),
			       channels * sizeof(float));
	}
}

void embedding_forward_part(struct threads *threads, enum element_type type,
			    size_t tokens_count, size_t channels,
			    const int32_t *tokens, size_t first, size_t count,
			    const void *wte, float *x)
{
	struct embedding_work work = {
		.type = type,
		.length = tokens_count,
		.channels = channels,
		.tokens = tokens,
		.first = first,
		.count = count,
		.wte = wte,
		.out = x,
	};

	threads_run(threads, (tokens_count + ROWS - 1) / ROWS,
		    forward_part_task, &work);
}

static void add_position(const struct embedding_work *work, size_t row)
{
	size_t channels = work->channels;
	const float *sum = work->sums + row * channels;
	const void *position = row_of(work, work->wpe, position_of(work, row));

	if (work->type == ELEMENT_BF16)
		add_round_row(channels, sum, position, out_row(work, row));
	else
		add_row(channels, position, out_row(work, row));
}

static void add_positions_task(void *argument, size_t index, unsigned thread)
{
	const struct embedding_work *work = argument;
	size_t end = MIN(work->samples * work->length, (index + 1) * ROWS);

	(void)thread;
	for (size_t row = index * ROWS; row < end; row++)
		add_position(work, row);
}

void embedding_forward_sum(struct threads *threads, enum element_type type,
			   size_t samples, size_t length, size_t channels,
			   size_t position_offset, const int32_t *starts,
			   const float *sums, const void *wpe, void *x)
{
	struct embedding_work work = {
		.type = type,
		.samples = samples,
		.length = length,
		.channels = channels,
		.offset = position_offset,
		.starts = starts,
		.wpe = wpe,
		.sums = sums,
		.out = x,
	};

	ASSERT(type == ELEMENT_BF16 || (const void *)sums == x);
	if (wpe != NULL)
		threads_run(threads, (samples * length + ROWS - 1) / ROWS,
			    add_positions_task, &work);
	else if (type == ELEMENT_BF16)
		values_round(threads, samples * length * channels, sums, x);
}

void embedding_backward_weight_part(struct threads *threads,
				    enum element_type type, size_t tokens_count,
				    size_t channels, const int32_t *tokens,
				    size_t first, size_t count, const void *dx,
				    float *dwte)
{
	struct embedding_work work = {
		.type = type,
		.samples = 1,
		.length = tokens_count,
		.channels = channels,
		.tokens = tokens,
		.first = first,
		.count = count,
		.dx = dx,
		.gradient = dwte,
	};

	threads_run(threads, OWNERS, token_gradient_task, &work);
}
