/*
 * Attention as the formula has it, in double precision: whole rows, no blocks.
 */
#include "base/log.h"
#include "base/math.h"
#include "model/kernels/attention.h"
#include "model/kernels/dropout.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* One row of one head: a query and all keys it sees. */
struct row {
	const struct attention_shape *shape;
	const struct dropout *dropout;
	size_t sample, head, kv_head, query;
	size_t first; /* key that is seen */
	size_t seen;  /* up to here */
	double *p;    /* probabilities */
	double *mask; /* what dropout multiplies them with */
	double *dp;
};

static size_t at(struct attention_layout layout, const struct row *row,
		 size_t token, size_t head)
{
	return row->sample * layout.sample_stride + token * layout.row_stride +
	       head * row->shape->head_size;
}

static double dot(size_t count, const double *a, const double *b)
{
	double sum = 0.0;

	for (size_t i = 0; i < count; i++)
		sum += a[i] * b[i];
	return sum;
}

static void add_scaled(size_t count, double factor, const double *x, double *y)
{
	for (size_t i = 0; i < count; i++)
		y[i] += factor * x[i];
}

static void row_mask(const struct row *row)
{
	size_t position = row->shape->position_offset + row->query;
	uint64_t coordinate = dropout_attention_coordinate(
		row->shape->first_head + row->head, position);
	const struct dropout *dropout = row->dropout;

	for (size_t key = row->first; key < row->seen; key++) {
		uint32_t block[4];

		row->mask[key] = 1.0;
		if (dropout == NULL || dropout->probability <= 0.0f)
			continue;
		random_block(dropout->key, dropout->sample_ids[row->sample],
			     coordinate << 24 | (key / 64 * 16 + key % 16),
			     block);
		row->mask[key] =
			block[key / 16 % 4] <
					dropout_threshold(dropout->probability)
				? 0.0
				: 1.0 / (1.0 - (double)dropout->probability);
	}
}

/* Probabilities and mask of the row; returns the logarithm of the sum. */
static double row_softmax(const struct row *row, const double *q,
			  const double *k)
{
	const struct attention_shape *shape = row->shape;
	double maximum = 0.0, sum = 0.0;

	for (size_t key = row->first; key < row->seen; key++) {
		row->p[key] = (double)shape->scale *
			      dot(shape->head_size,
				  q + at(shape->q, row, row->query, row->head),
				  k + at(shape->k, row, key, row->kv_head));
		if (key == row->first || row->p[key] > maximum)
			maximum = row->p[key];
	}
	for (size_t key = row->first; key < row->seen; key++) {
		row->p[key] = math_exp(row->p[key] - maximum);
		sum += row->p[key];
	}
	for (size_t key = row->first; key < row->seen; key++)
		row->p[key] /= sum;
	row_mask(row);
	return maximum + math_log(sum);
}

static void row_place(struct row *row, size_t index)
{
	const struct attention_shape *shape = row->shape;
	size_t head = index / shape->time_q;

	row->query = index % shape->time_q;
	row->sample = head / shape->heads;
	row->head = head % shape->heads;
	row->kv_head = row->head / (shape->heads / shape->kv_heads);
	row->seen = shape->causal ? shape->position_offset + row->query + 1
				  : shape->time_k;
	row->first = 0;
	if (shape->causal && shape->window > 0 && row->seen > shape->window)
		row->first = row->seen - shape->window;
	if (shape->starts)
		row->first =
			MAX(row->first,
			    (size_t)shape->starts[row->sample * shape->time_q +
						  row->query]);
}

static int row_init(struct row *row, const struct attention_shape *shape,
		    const struct dropout *dropout)
{
	double *memory = calloc(3 * shape->time_k, sizeof(*memory));

	if (memory == NULL)
		return fail(-ENOMEM, "no memory for rows of %zu keys",
			    shape->time_k);
	*row = (struct row){
		.shape = shape,
		.dropout = dropout,
		.p = memory,
		.mask = memory + shape->time_k,
		.dp = memory + 2 * shape->time_k,
	};
	return 0;
}

int attention_forward_reference(const struct attention_shape *shape,
				const double *q, const double *k,
				const double *v, double *out, double *lse,
				const struct dropout *dropout)
{
	size_t rows = shape->batch * shape->heads * shape->time_q;
	struct row row = {.shape = shape};
	int error = row_init(&row, shape, dropout);

	if (error != 0)
		return error;
	for (size_t index = 0; index < rows; index++) {
		double *y;

		row_place(&row, index);
		lse[index] = row_softmax(&row, q, k);
		y = out + at(shape->out, &row, row.query, row.head);
		memset(y, 0, shape->head_size * sizeof(*y));
		for (size_t key = row.first; key < row.seen; key++)
			add_scaled(shape->head_size, row.p[key] * row.mask[key],
				   v + at(shape->v, &row, key, row.kv_head), y);
	}
	free(row.p);
	return 0;
}

static void clear(const struct attention_shape *shape,
		  struct attention_layout layout, size_t time, size_t heads,
		  double *x)
{
	for (size_t sample = 0; sample < shape->batch; sample++)
		for (size_t token = 0; token < time; token++)
			memset(x + sample * layout.sample_stride +
				       token * layout.row_stride,
			       0, heads * shape->head_size * sizeof(*x));
}

static void backward_row(const struct row *row, const double *q,
			 const double *k, const double *v, const double *dout,
			 double *dq, double *dk, double *dv)
{
	const struct attention_shape *shape = row->shape;
	size_t size = shape->head_size;
	size_t query = at(shape->q, row, row->query, row->head);
	const double *dy = dout + at(shape->out, row, row->query, row->head);
	double mean = 0.0;

	row_softmax(row, q, k);
	for (size_t key = row->first; key < row->seen; key++) {
		size_t value = at(shape->v, row, key, row->kv_head);

		add_scaled(size, row->p[key] * row->mask[key], dy, dv + value);
		row->dp[key] = row->mask[key] * dot(size, dy, v + value);
		mean += row->p[key] * row->dp[key];
	}
	for (size_t key = row->first; key < row->seen; key++) {
		size_t place = at(shape->k, row, key, row->kv_head);
		double ds = row->p[key] * (row->dp[key] - mean) *
			    (double)shape->scale;

		add_scaled(size, ds, k + place, dq + query);
		add_scaled(size, ds, q + query, dk + place);
	}
}

int attention_backward_reference(const struct attention_shape *shape,
				 const double *q, const double *k,
				 const double *v, const double *dout,
				 double *dq, double *dk, double *dv,
				 const struct dropout *dropout)
{
	size_t rows = shape->batch * shape->heads * shape->time_q;
	struct row row = {.shape = shape};
	int error = row_init(&row, shape, dropout);

	if (error != 0)
		return error;
	clear(shape, shape->q, shape->time_q, shape->heads, dq);
	clear(shape, shape->k, shape->time_k, shape->kv_heads, dk);
	clear(shape, shape->v, shape->time_k, shape->kv_heads, dv);
	for (size_t index = 0; index < rows; index++) {
		row_place(&row, index);
		backward_row(&row, q, k, v, dout, dq, dk, dv);
	}
	free(row.p);
	return 0;
}
