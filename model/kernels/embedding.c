#include "model/kernels/embedding.h"
#include "model/kernels/vector_math.h"

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
	size_t samples;
	size_t length; /* T */
	size_t channels;
	size_t offset;
	const int32_t *starts; /* [samples, T], NULL: 0 */
	const int32_t *tokens; /* [samples, T] */
	size_t first;          /* the token of row 0 of the table */
	size_t count;          /* its rows */
	const float *wte;
	const float *wpe;
	const float *dx;
	float *out;
};

static size_t position_of(const struct embedding_work *work, size_t row)
{
	size_t place = row % work->length;

	if (work->starts)
		place -= (size_t)work->starts[row];
	return work->offset + place;
}

KERNEL_CLONES static void add_row(size_t channels, const float *restrict row,
				  float *restrict sum)
{
	for (size_t i = 0; i < channels; i++)
		sum[i] += row[i];
}

KERNEL_CLONES static void add_two_rows(size_t channels, const float *restrict a,
				       const float *restrict b,
				       float *restrict out)
{
	for (size_t i = 0; i < channels; i++)
		out[i] = a[i] + b[i];
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
		const float *token =
			work->wte + (size_t)work->tokens[row] * channels;
		size_t position = position_of(work, row);
		float *x = work->out + row * channels;

		if (work->wpe != NULL)
			add_two_rows(channels, token,
				     work->wpe + position * channels, x);
		else
			memcpy(x, token, channels * sizeof(float));
	}
}

void embedding_forward(struct threads *threads, size_t samples, size_t length,
		       size_t channels, const int32_t *tokens,
		       size_t position_offset, const int32_t *starts,
		       const float *wte, const float *wpe, float *x)
{
	struct embedding_work work = {
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
			add_row(channels, work->dx + row * channels,
				work->out + (token - work->first) * channels);
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
			add_row(channels, work->dx + row * channels,
				work->out + position * channels);
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
			add_row(channels,
				work->dx +
					(sample * work->length + t) * channels,
				work->out + (work->offset + t) * channels);
}

void embedding_backward_weight(struct threads *threads, size_t samples,
			       size_t length, size_t channels,
			       const int32_t *tokens, size_t position_offset,
			       const int32_t *starts, const float *dx,
			       float *dwte, float *dwpe)
{
	struct embedding_work work = {
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
		work.out = dwte;
		threads_run(threads, OWNERS, token_gradient_task, &work);
	}
	if (dwpe != NULL) {
		work.out = dwpe;
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
		float *x = work->out + row * channels;

		if (here < work->count)
			memcpy(x, work->wte + here * channels,
			       channels * sizeof(float));
		else
			for (size_t i = 0; i < channels; i++)
				x[i] = -0.0f;
	}
}

void embedding_forward_part(struct threads *threads, size_t tokens_count,
			    size_t channels, const int32_t *tokens,
			    size_t first, size_t count, const float *wte,
			    float *x)
{
	struct embedding_work work = {
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

static void add_positions_task(void *argument, size_t index, unsigned thread)
{
	const struct embedding_work *work = argument;
	size_t channels = work->channels;
	size_t end = MIN(work->samples * work->length, (index + 1) * ROWS);

	(void)thread;
	for (size_t row = index * ROWS; row < end; row++)
		add_row(channels, work->wpe + position_of(work, row) * channels,
			work->out + row * channels);
}

void embedding_add_positions(struct threads *threads, size_t samples,
			     size_t length, size_t channels,
			     size_t position_offset, const int32_t *starts,
			     const float *wpe, float *x)
{
	struct embedding_work work = {
		.samples = samples,
		.length = length,
		.channels = channels,
		.offset = position_offset,
		.starts = starts,
		.wpe = wpe,
		.out = x,
	};

	threads_run(threads, (samples * length + ROWS - 1) / ROWS,
		    add_positions_task, &work);
}

void embedding_backward_weight_part(struct threads *threads,
				    size_t tokens_count, size_t channels,
				    const int32_t *tokens, size_t first,
				    size_t count, const float *dx, float *dwte)
{
	struct embedding_work work = {
		.samples = 1,
		.length = tokens_count,
		.channels = channels,
		.tokens = tokens,
		.first = first,
		.count = count,
		.dx = dx,
		.out = dwte,
	};

	threads_run(threads, OWNERS, token_gradient_task, &work);
}
