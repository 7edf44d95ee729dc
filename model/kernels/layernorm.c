#include "model/kernels/layernorm.h"
#include "model/kernels/column_sums.h"
#include "model/kernels/lanes.h"
#include "model/kernels/values.h"

#include <string.h>

/* Rows of one task. */
#define ROWS COLUMN_SUMS_ROWS

/* What the tasks of one call share; members a call does not use are NULL. */
struct norm_work {
	enum element_type type; /* of dy, x and out */
	size_t rows;
	size_t channels;
	float epsilon;
	bool accumulate;
	const void *dy; /* [rows, C] */
	const void *x;  /* [rows, C] */
	const float *gamma;
	const float *beta;
	float *mean;          /* [rows] */
	float *rstd;          /* [rows] */
	void *out;            /* [rows, C] */
	float *partial_gamma; /* [blocks, C] */
	float *partial_beta;  /* [blocks, C] */
};

static size_t task_end(const struct norm_work *work, size_t index)
{
	return MIN(work->rows, (index + 1) * ROWS);
}

/* Row `row` of a matrix [rows, C] of the type. */
static const void *row_of(const struct norm_work *work, const void *matrix,
			  size_t row)
{
	return values_at(work->type, matrix, row * work->channels);
}

static void *out_row(const struct norm_work *work, size_t row)
{
	return values_at_mutable(work->type, work->out, row * work->channels);
}

/* ---- forward ---- */

VECTOR_INLINE void layernorm(enum element_type type, size_t channels,
			     float epsilon, const void *x, const float *gamma,
			     const float *beta, void *y, float *mean_out,
			     float *rstd_out)
{
	float sums[LANES] = {0}, squares[LANES] = {0};
	float mean, rstd;

	LANES_FOR(channels, i, lane, sums[lane] += value_load(type, x, i));
	mean = lanes_sum(sums) / (float)channels;
	LANES_FOR(channels, i, lane,
		  squares[lane] += (value_load(type, x, i) - mean) *
				   (value_load(type, x, i) - mean));
	rstd = 1.0f / sqrtf(lanes_sum(squares) / (float)channels + epsilon);
	VECTOR_LOOP
	for (size_t i = 0; i < channels; i++)
		value_store(type, y, i,
			    (value_load(type, x, i) - mean) * rstd * gamma[i] +
				    beta[i]);
	*mean_out = mean;
	*rstd_out = rstd;
}

KERNEL_CLONES static void layernorm_row(size_t channels, float epsilon,
					const void *x, const float *gamma,
					const float *beta, void *y,
					float *mean_out, float *rstd_out)
{
	layernorm(ELEMENT_F32, channels, epsilon, x, gamma, beta, y, mean_out,
		  rstd_out);
}

KERNEL_CLONES static void
layernorm_row_bfloat16(size_t channels, float epsilon, const void *x,
		       const float *gamma, const float *beta, void *y,
		       float *mean_out, float *rstd_out)
{
	layernorm(ELEMENT_BF16, channels, epsilon, x, gamma, beta, y, mean_out,
		  rstd_out);
}

static void layernorm_forward_task(void *argument, size_t index,
				   unsigned thread)
{
	const struct norm_work *work = argument;
	bool narrow = work->type == ELEMENT_BF16;

	(void)thread;
	for (size_t row = index * ROWS; row < task_end(work, index); row++)
		(narrow ? layernorm_row_bfloat16 : layernorm_row)(
			work->channels, work->epsilon,
			row_of(work, work->x, row), work->gamma, work->beta,
			out_row(work, row), work->mean + row, work->rstd + row);
}

void layernorm_forward(struct threads *threads, enum element_type type,
		       size_t rows, size_t channels, float epsilon,
		       const void *x, const float *gamma, const float *beta,
		       void *y, float *mean, float *rstd)
{
	struct norm_work work = {
		.type = type,
		.rows = rows,
		.channels = channels,
		.epsilon = epsilon,
		.x = x,
		.gamma = gamma,
		.beta = beta,
		.mean = mean,
		.rstd = rstd,
		.out = y,
	};

	threads_run(threads, column_sums_blocks(rows), layernorm_forward_task,
		    &work);
}

VECTOR_INLINE void rmsnorm(enum element_type type, size_t channels,
			   float epsilon, const void *x, const float *gamma,
			   void *y, float *rstd_out)
{
	float squares[LANES] = {0};
	float rstd;

	LANES_FOR(channels, i, lane,
		  squares[lane] +=
		  value_load(type, x, i) * value_load(type, x, i));
	rstd = 1.0f / sqrtf(lanes_sum(squares) / (float)channels + epsilon);
	VECTOR_LOOP
	for (size_t i = 0; i < channels; i++)
		value_store(type, y, i,
			    value_load(type, x, i) * rstd * gamma[i]);
	*rstd_out = rstd;
}

KERNEL_CLONES static void rmsnorm_row(size_t channels, float epsilon,
				      const void *x, const float *gamma,
				      void *y, float *rstd_out)
{
	rmsnorm(ELEMENT_F32, channels, epsilon, x, gamma, y, rstd_out);
}

KERNEL_CLONES static void rmsnorm_row_bfloat16(size_t channels, float epsilon,
					       const void *x,
					       const float *gamma, void *y,
					       float *rstd_out)
{
	rmsnorm(ELEMENT_BF16, channels, epsilon, x, gamma, y, rstd_out);
}

static void rmsnorm_forward_task(void *argument, size_t index, unsigned thread)
{
	const struct norm_work *work = argument;
	bool narrow = work->type == ELEMENT_BF16;

	(void)thread;
	for (size_t row = index * ROWS; row < task_end(work, index); row++)
		(narrow ? rmsnorm_row_bfloat16
			: rmsnorm_row)(work->channels, work->epsilon,
				       row_of(work, work->x, row), work->gamma,
				       out_row(work, row), work->rstd + row);
}

void rmsnorm_forward(struct threads *threads, enum element_type type,
		     size_t rows, size_t channels, float epsilon, const void *x,
		     const float *gamma, void *y, float *rstd)
{
	struct norm_work work = {
		.type = type,
		.rows = rows,
		.channels = channels,
		.epsilon = epsilon,
		.x = x,
		.gamma = gamma,
		.rstd = rstd,
		.out = y,
	};

	threads_run(threads, column_sums_blocks(rows), rmsnorm_forward_task,
		    &work);
}

/* ---- the input's gradient ---- */

/*
 * With n = (x - mean) rstd and g = dy gamma:
 *   dx = rstd (g - average(g) - n average(g n)).
 * RMSNorm is the same with mean = 0 and without average(g).
 */
VECTOR_INLINE void backward_row(enum element_type type, size_t channels,
				bool centred, bool accumulate, const void *dy,
				const void *x, const float *gamma, float mean,
				float rstd, void *dx)
{
	float sums[LANES] = {0}, products[LANES] = {0};
	float average, slope;

	/* One sum a pass: gcc keeps one in a register, two it does not. */
	if (centred)
		LANES_FOR(channels, i, lane,
			  sums[lane] += value_load(type, dy, i) * gamma[i]);
	LANES_FOR(channels, i, lane,
		  products[lane] += value_load(type, dy, i) * gamma[i] *
				    (value_load(type, x, i) - mean));
	average = centred ? lanes_sum(sums) / (float)channels : 0.0f;
	slope = lanes_sum(products) / (float)channels * rstd * rstd;
	if (accumulate) {
		VECTOR_LOOP
		for (size_t i = 0; i < channels; i++)
			value_store(
				type, dx, i,
				value_load(type, dx, i) +
					(value_load(type, dy, i) * gamma[i] -
					 average -
					 (value_load(type, x, i) - mean) *
						 slope) *
						rstd);
	} else {
		VECTOR_LOOP
		for (size_t i = 0; i < channels; i++)
			value_store(type, dx, i,
				    (value_load(type, dy, i) * gamma[i] -
				     average -
				     (value_load(type, x, i) - mean) * slope) *
					    rstd);
	}
}

KERNEL_CLONES static void layernorm_backward_row(size_t channels,
						 bool accumulate,
						 const void *dy, const void *x,
						 const float *gamma, float mean,
						 float rstd, void *dx)
{
	backward_row(ELEMENT_F32, channels, true, accumulate, dy, x, gamma,
		     mean, rstd, dx);
}

KERNEL_CLONES static void layernorm_backward_row_bfloat16(
	size_t channels, bool accumulate, const void *dy, const void *x,
	const float *gamma, float mean, float rstd, void *dx)
{
	backward_row(ELEMENT_BF16, channels, true, accumulate, dy, x, gamma,
		     mean, rstd, dx);
}

KERNEL_CLONES static void rmsnorm_backward_row(size_t channels, bool accumulate,
					       const void *dy, const void *x,
					       const float *gamma, float rstd,
					       void *dx)
{
	backward_row(ELEMENT_F32, channels, false, accumulate, dy, x, gamma,
		     0.0f, rstd, dx);
}

KERNEL_CLONES static void
rmsnorm_backward_row_bfloat16(size_t channels, bool accumulate, const void *dy,
			      const void *x, const float *gamma, float rstd,
			      void *dx)
{
	backward_row(ELEMENT_BF16, channels, false, accumulate, dy, x, gamma,
		     0.0f, rstd, dx);
}

static void backward_input_task(void *argument, size_t index, unsigned thread)
{
	const struct norm_work *work = argument;
	bool narrow = work->type == ELEMENT_BF16;
	size_t channels = work->channels;

	(void)thread;
	for (size_t row = index * ROWS; row < task_end(work, index); row++) {
		const void *dy = row_of(work, work->dy, row);
		const void *x = row_of(work, work->x, row);
		void *dx = out_row(work, row);

		if (work->mean != NULL)
			(narrow ? layernorm_backward_row_bfloat16
				: layernorm_backward_row)(
				channels, work->accumulate, dy, x, work->gamma,
				work->mean[row], work->rstd[row], dx);
		else
			(narrow ? rmsnorm_backward_row_bfloat16
				: rmsnorm_backward_row)(
				channels, work->accumulate, dy, x, work->gamma,
				work->rstd[row], dx);
	}
}

void layernorm_backward_input(struct threads *threads, enum element_type type,
			      size_t rows, size_t channels, const void *dy,
			      const void *x, const float *gamma,
			      const float *mean, const float *rstd, void *dx,
			      bool accumulate)
{
	struct norm_work work = {
		.type = type,
		.rows = rows,
		.channels = channels,
		.accumulate = accumulate,
		.dy = dy,
		.x = x,
		.gamma = gamma,
		.mean = (float *)mean,
		.rstd = (float *)rstd,
		.out = dx,
	};

	threads_run(threads, column_sums_blocks(rows), backward_input_task,
		    &work);
}

void rmsnorm_backward_input(struct threads *threads, enum element_type type,
			    size_t rows, size_t channels, const void *dy,
			    const void *x, const float *gamma,
			    const float *rstd, void *dx, bool accumulate)
{
	layernorm_backward_input(threads, type, rows, channels, dy, x, gamma,
				 NULL, rstd, dx, accumulate);
}

/* ---- the gains' and biases' gradients ---- */

VECTOR_INLINE void weight_sums(enum element_type type, size_t channels,
			       const void *restrict dy, const void *restrict x,
			       float mean, float rstd,
			       float *restrict gamma_sums,
			       float *restrict beta_sums)
{
	for (size_t i = 0; i < channels; i++) {
		float gradient = value_load(type, dy, i);

		gamma_sums[i] +=
			gradient * ((value_load(type, x, i) - mean) * rstd);
		beta_sums[i] += gradient;
	}
}

KERNEL_CLONES static void weight_row(size_t channels, const void *restrict dy,
				     const void *restrict x, float mean,
				     float rstd, float *restrict gamma_sums,
				     float *restrict beta_sums)
{
	weight_sums(ELEMENT_F32, channels, dy, x, mean, rstd, gamma_sums,
		    beta_sums);
}

KERNEL_CLONES static void
weight_row_bfloat16(size_t channels, const void *restrict dy,
		    const void *restrict x, float mean, float rstd,
		    float *restrict gamma_sums, float *restrict beta_sums)
{
	weight_sums(ELEMENT_BF16, channels, dy, x, mean, rstd, gamma_sums,
		    beta_sums);
}

VECTOR_INLINE void weight_sums_gamma(enum element_type type, size_t channels,
				     const void *restrict dy,
				     const void *restrict x, float rstd,
				     float *restrict gamma_sums)
{
	for (size_t i = 0; i < channels; i++)
		gamma_sums[i] += value_load(type, dy, i) *
				 (value_load(type, x, i) * rstd);
}

KERNEL_CLONES static void weight_row_gamma(size_t channels,
					   const void *restrict dy,
					   const void *restrict x, float rstd,
					   float *restrict gamma_sums)
{
	weight_sums_gamma(ELEMENT_F32, channels, dy, x, rstd, gamma_sums);
}

KERNEL_CLONES static void weight_row_gamma_bfloat16(size_t channels,
						    const void *restrict dy,
						    const void *restrict x,
						    float rstd,
						    float *restrict gamma_sums)
{
	weight_sums_gamma(ELEMENT_BF16, channels, dy, x, rstd, gamma_sums);
}

static void backward_weight_task(void *argument, size_t index, unsigned thread)
{
	const struct norm_work *work = argument;
	bool narrow = work->type == ELEMENT_BF16;
	size_t channels = work->channels;
	float *gamma_sums = work->partial_gamma + index * channels;
	float *beta_sums = work->partial_beta;

	(void)thread;
	memset(gamma_sums, 0, channels * sizeof(float));
	if (beta_sums != NULL) {
		beta_sums += index * channels;
		memset(beta_sums, 0, channels * sizeof(float));
	}
	for (size_t row = index * ROWS; row < task_end(work, index); row++) {
		const void *dy = row_of(work, work->dy, row);
		const void *x = row_of(work, work->x, row);

		if (beta_sums != NULL)
			(narrow ? weight_row_bfloat16 : weight_row)(
				channels, dy, x, work->mean[row],
				work->rstd[row], gamma_sums, beta_sums);
		else
			(narrow ? weight_row_gamma_bfloat16 : weight_row_gamma)(
				channels, dy, x, work->rstd[row], gamma_sums);
	}
}

size_t layernorm_backward_weight_scratch_bytes(size_t rows, size_t channels)
{
	return 2 * column_sums_scratch_bytes(rows, channels);
}

size_t rmsnorm_backward_weight_scratch_bytes(size_t rows, size_t channels)
{
	return column_sums_scratch_bytes(rows, channels);
}

void layernorm_backward_weight(struct threads *threads, enum element_type type,
			       size_t rows, size_t channels, const void *dy,
			       const void *x, const float *mean,
			       const float *rstd, float *dgamma, float *dbeta,
			       void *scratch)
{
	size_t blocks = column_sums_blocks(rows);
	struct norm_work work = {
		.type = type,
		.rows = rows,
		.channels = channels,
		.dy = dy,
		.x = x,
		.mean = (float *)mean,
		.rstd = (float *)rstd,
		.partial_gamma = scratch,
		.partial_beta = (float *)scratch + blocks * channels,
	};

	if (dgamma == NULL && dbeta == NULL)
		return;
	threads_run(threads, blocks, backward_weight_task, &work);
	column_sums_combine(threads, blocks, channels, work.partial_gamma,
			    dgamma);
	column_sums_combine(threads, blocks, channels, work.partial_beta,
			    dbeta);
}

void rmsnorm_backward_weight(struct threads *threads, enum element_type type,
			     size_t rows, size_t channels, const void *dy,
			     const void *x, const float *rstd, float *dgamma,
			     void *scratch)
{
	size_t blocks = column_sums_blocks(rows);
	struct norm_work work = {
		.type = type,
		.rows = rows,
		.channels = channels,
		.dy = dy,
		.x = x,
		.rstd = (float *)rstd,
		.partial_gamma = scratch,
	};

	if (dgamma == NULL)
		return;
	threads_run(threads, blocks, backward_weight_task, &work);
	column_sums_combine(threads, blocks, channels, work.partial_gamma,
			    dgamma);
}
