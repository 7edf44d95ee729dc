#include "model/kernels/cross_entropy.h"
#include "base/math.h"
#include "model/kernels/lanes.h"
#include "model/kernels/values.h"

#include <string.h>

/* Elements whose exponentials are summed in single precision before the sum
 * goes on in double. Part of the bits. */
#define STRIP 2048

struct cross_entropy_work {
	size_t vocabulary;
	size_t stride;
	const int32_t *labels;
	float scale;
	enum element_type type; /* of gradients */
	float *logits;          /* [rows, stride] */
	bool backward;          /* gradients take their place */
	double *losses;
};

/* NaN is not seen here, but by the exponentials. */
KERNEL_CLONES static float row_maximum(size_t count, const float *x)
{
	float lanes[LANES];

	for (size_t lane = 0; lane < LANES; lane++)
		lanes[lane] = -INFINITY;
	LANES_FOR(count, i, lane,
		  lanes[lane] = x[i] > lanes[lane] ? x[i] : lanes[lane]);
	return lanes_maximum(lanes);
}

/* e = exp(x - maximum), returns their sum; count <= STRIP. e may be x. */
KERNEL_CLONES static float exponentials(size_t count, float maximum,
					const float *x, float *e)
{
	float sums[LANES] = {0};

	VECTOR_LOOP
	for (size_t i = 0; i < count; i++)
		e[i] = vector_exp(x[i] - maximum);
	LANES_FOR(count, i, lane, sums[lane] += e[i]);
	return lanes_sum(sums);
}

KERNEL_CLONES static void scale_row(size_t count, float factor, float *x)
{
	for (size_t i = 0; i < count; i++)
		x[i] *= factor;
}

KERNEL_CLONES static void scale_round(size_t count, float factor,
				      const float *restrict x,
				      bfloat16 *restrict out)
{
	for (size_t i = 0; i < count; i++)
		out[i] = bfloat16_from_float(x[i] * factor);
}

/* A row's exponentials to bfloat16 at its beginning, by way of a strip. */
static void scale_row_bfloat16(size_t vocabulary, float factor, float *row)
{
	unsigned char *out = (unsigned char *)row;
	bfloat16 strip[STRIP];

	for (size_t first = 0; first < vocabulary; first += STRIP) {
		size_t count = MIN((size_t)STRIP, vocabulary - first);

		scale_round(count, factor, row + first, strip);
		memcpy(out + first * sizeof(*strip), strip,
		       count * sizeof(*strip));
	}
}

/*
 * Exponentials of a row to its gradients; `label` may be V: another part has
 * it.
 */
static void row_gradients(enum element_type type, size_t vocabulary, double sum,
			  float scale, size_t label, float *row)
{
	float factor = (float)((double)scale / sum);
	float target = label < vocabulary ? row[label] * factor - scale : 0.0f;
	bfloat16 rounded = bfloat16_from_float(target);

	if (type == ELEMENT_BF16)
		scale_row_bfloat16(vocabulary, factor, row);
	else
		scale_row(vocabulary, factor, row);
	if (label >= vocabulary)
		return;
	if (type == ELEMENT_BF16)
		memcpy((unsigned char *)row + label * sizeof(rounded), &rounded,
		       sizeof(rounded));
	else
		row[label] = target;
}

/* Fills e[V] with exponentials; with e NULL they go no further than here. */
static double row_sum(size_t vocabulary, float maximum, const float *x,
		      float *e)
{
	float strip[STRIP];
	double sum = 0.0;

	for (size_t first = 0; first < vocabulary; first += STRIP) {
		size_t count = MIN((size_t)STRIP, vocabulary - first);

		sum += (double)exponentials(count, maximum, x + first,
					    e != NULL ? e + first : strip);
	}
	return sum;
}

static void cross_entropy_task(void *argument, size_t row, unsigned thread)
{
	const struct cross_entropy_work *work = argument;
	float *logits = work->logits + row * work->stride;
	int32_t label = work->labels[row];
	float maximum, target;
	double sum;

	(void)thread;
	if (label < 0) {
		work->losses[row] = 0.0;
		if (work->backward)
			memset(logits, 0,
			       work->vocabulary *
				       element_type_bytes(work->type));
		return;
	}
	target = logits[label];
	maximum = row_maximum(work->vocabulary, logits);
	sum = row_sum(work->vocabulary, maximum, logits,
		      work->backward ? logits : NULL);
	work->losses[row] = math_log(sum) + ((double)maximum - (double)target);
	if (work->backward)
		row_gradients(work->type, work->vocabulary, sum, work->scale,
			      (size_t)label, logits);
}

void cross_entropy_forward_backward(struct threads *threads, size_t rows,
				    size_t vocabulary, size_t stride,
				    const int32_t *labels, float scale,
				    enum element_type type, float *logits,
				    double *losses)
{
	struct cross_entropy_work work = {
		.vocabulary = vocabulary,
		.stride = stride,
		.labels = labels,
		.scale = scale,
		.type = type,
		.logits = logits,
		.backward = true,
		.losses = losses,
	};

	threads_run(threads, rows, cross_entropy_task, &work);
}

void cross_entropy_forward(struct threads *threads, size_t rows,
			   size_t vocabulary, size_t stride,
			   const int32_t *labels, const float *logits,
			   double *losses)
{
	struct cross_entropy_work work = {
		.vocabulary = vocabulary,
		.stride = stride,
		.labels = labels,
		.logits = (float *)(uintptr_t)logits, /* only read here */
		.losses = losses,
	};

	threads_run(threads, rows, cross_entropy_task, &work);
}

/* ---- in parts ---- */

struct part_work {
	const struct cross_entropy_part *part;
	double *losses;
};

static float *part_row(const struct cross_entropy_part *part, size_t row)
{
	return part->logits + row * part->stride;
}

/* The label's column in this part, or V: it is in another. */
static size_t part_label(const struct cross_entropy_part *part, size_t row)
{
	size_t column = (size_t)part->labels[row] - part->first;

	return MIN(column, part->vocabulary);
}

static void part_maximum_task(void *argument, size_t row, unsigned thread)
{
	const struct part_work *work = argument;
	const struct cross_entropy_part *part = work->part;

	(void)thread;
	part->maxima[row] =
		part->labels[row] < 0
			? 0.0f
			: row_maximum(part->vocabulary, part_row(part, row));
}

static void part_sum_task(void *argument, size_t row, unsigned thread)
{
	const struct part_work *work = argument;
	const struct cross_entropy_part *part = work->part;
	float *logits = part_row(part, row);
	size_t label = part_label(part, row);

	(void)thread;
	part->sums[row] = 0.0f;
	part->targets[row] = -0.0f;
	if (part->labels[row] < 0)
		return;
	if (label < part->vocabulary)
		part->targets[row] = logits[label];
	part->sums[row] =
		(float)row_sum(part->vocabulary, part->maxima[row], logits,
			       part->backward ? logits : NULL);
}

static void part_finish_task(void *argument, size_t row, unsigned thread)
{
	const struct part_work *work = argument;
	const struct cross_entropy_part *part = work->part;
	double sum = (double)part->sums[row];
	float *logits = part_row(part, row);
	size_t label = part_label(part, row);

	(void)thread;
	if (part->labels[row] < 0) {
		work->losses[row] = 0.0;
		if (part->backward)
			memset(logits, 0,
			       part->vocabulary *
				       element_type_bytes(part->type));
		return;
	}
	work->losses[row] = math_log(sum) + ((double)part->maxima[row] -
					     (double)part->targets[row]);
	if (part->backward)
		row_gradients(part->type, part->vocabulary, sum, part->scale,
			      label, logits);
}

void cross_entropy_part_maxima(struct threads *threads,
			       const struct cross_entropy_part *part)
{
	struct part_work work = {.part = part};

	threads_run(threads, part->rows, part_maximum_task, &work);
}

void cross_entropy_part_sums(struct threads *threads,
			     const struct cross_entropy_part *part)
{
	struct part_work work = {.part = part};

	threads_run(threads, part->rows, part_sum_task, &work);
}

void cross_entropy_part_finish(struct threads *threads,
			       const struct cross_entropy_part *part,
			       double *losses)
{
	struct part_work work = {.part = part, .losses = losses};

	threads_run(threads, part->rows, part_finish_task, &work);
}
