#include "model/kernels/layernorm.h"
#include "model/kernels/column_sums.h"
#include "model/kernels/lanes.h"

#include <string.h>

/* Rows of one task. */
#define ROWS COLUMN_SUMS_ROWS

/* What the tasks of one call share; members a call does not use are NULL. */
struct norm_work {
	size_t rows;
	size_t channels;
	float epsilon;
	bool accumulate;
	const float *dy; /* [rows, C] */
	const float *x;  /* [rows, C] */
	const float *gamma;
	const float *beta;
	float *mean;          /* [rows] */
	float *rstd;          /* [rows] */
	float *out;           /* [rows, C] */
	float *partial_gamma; /* [blocks, C] */
	float *partial_beta;  /* [blocks, C] */
};

static size_t task_end(const struct norm_work *work, size_t index)
{
	return MIN(work->rows, (index + 1) * ROWS);
}

/* ---- forward ---- */

KERNEL_CLONES static void layernorm_row(size_t channels, float epsilon,
					const float *x, const float *gamma,
					const float *beta, float *y,
					float *mean_out, float *rstd_out)
{
	float sums[LANES] = {0}, squares[LANES] = {0};
	float mean, rstd;

	LANES_FOR(channels, i, lane, sums[lane] += x[i]);
	mean = lanes_sum(sums) / (float)channels;
	LANES_FOR(channels, i, lane,
		  squares[lane] += (x[i] - mean) * (x[i] - mean));
	rstd = 1.0f / sqrtf(lanes_sum(squares) / (float)channels + epsilon);
	VECTOR_LOOP
	for (size_t i = 0; i < channels; i++)
		y[i] = (x[i] - mean) * rstd * gamma[i] + beta[i];
	*mean_out = mean;
	*rstd_out = rstd;
}

static void layernorm_forward_task(void *argument, size_t index,
				   unsigned thread)
{
	const struct norm_work *work = argument;
	size_t channels = work->channels;

	(void)thread;
	for (size_t row = index * ROWS; row < task_end(work, index); row++)
		layernorm_row(channels, work->epsilon, work->x + row * channels,
			      work->gamma, work->beta,
			      work->out + row * channels, work->mean + row,
			      work->rstd + row);
}

void layernorm_forward(struct threads *threads, size_t rows, size_t channels,
		       float epsilon, const float *x, const float *gamma,
		       const float *beta, float *y, float *mean, float *rstd)
{
	struct norm_work work = {
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

KERNEL_CLONES static void rmsnorm_row(size_t channels, float epsilon,
				      const float *x, const float *gamma,
				      float *y, float *rstd_out)
{
	float squares[LANES] = {0};
	float rstd;

	LANES_FOR(channels, i, lane, squares[lane] += x[i] * x[i]);
	rstd = 1.0f / sqrtf(lanes_sum(squares) / (float)channels + epsilon);
	VECTOR_LOOP
	for (size_t i = 0; i < channels; i++)
		y[i] = x[i] * rstd * gamma[i];
	*rstd_out = rstd;
}

static void rmsnorm_forward_task(void *argument, size_t index, unsigned thread)
{
	const struct norm_work *work = argument;
	size_t channels = work->channels;

	(void)thread;
	for (size_t row = index * ROWS; row < task_end(work, index); row++)
		rmsnorm_row(channels, work->epsilon, work->x + row * channels,
			    work->gamma, work->out + row * channels,
			    work->rstd + row);
}

void rmsnorm_forward(struct threads *threads, size_t rows, size_t channels,
		     float epsilon, const float *x, const float *gamma,
		     float *y, float *rstd)
{
	struct norm_work work = {
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
VECTOR_INLINE void backward_row(size_t channels, bool centred, bool accumulate,
				const float *dy, const float *x,
				const float *gamma, float mean, float rstd,
				float *dx)
{
	float sums[LANES] = {0}, products[LANES] = {0};
	float average, slope;

	/* One sum a pass: gcc keeps one in a register, two it does not. */
	if (centred)
		LANES_FOR(channels, i, lane, sums[lane] += dy[i] * gamma[i]);
	LANES_FOR(channels, i, lane,
		  products[lane] += dy[i] * gamma[i] * (x[i] - mean));
	average = centred ? lanes_sum(sums) / (float)channels : 0.0f;
	slope = lanes_sum(products) / (float)channels * rstd * rstd;
	if (accumulate) {
		VECTOR_LOOP
		for (size_t i = 0; i < channels; i++)
			dx[i] += (dy[i] * gamma[i] - average -
				  (x[i] - mean) * slope) *
				 rstd;
	} else {
		VECTOR_LOOP
		for (size_t i = 0; i < channels; i++)
			dx[i] = (dy[i] * gamma[i] - average -
				 (x[i] - mean) * slope) *
				rstd;
	}
}

KERNEL_CLONES static void
layernorm_backward_row(size_t channels, bool accumulate, const float *dy,
		       const float *x, const float *gamma, float mean,
		       float rstd, float *dx)
{
	backward_row(channels, true, accumulate, dy, x, gamma, mean, rstd, dx);
}

KERNEL_CLONES static void rmsnorm_backward_row(size_t channels, bool accumulate,
					       const float *dy, const float *x,
					       const float *gamma, float rstd,
					       float *dx)
{
	backward_row(channels, false, accumulate, dy, x, gamma, 0.0f, rstd, dx);
}

static void backward_input_task(void *argument, size_t index, unsigned thread)
{
	const struct norm_work *work = argument;
	size_t channels = work->channels;

	(void)thread;
	for (size_t row = index * ROWS; row < task_end(work, index); row++) {
		const float *dy = work->dy + row * channels;
		const float *x = work->x + row * channels;
		float *dx = work->out + row * channels;

		if (work->mean != NULL)
			layernorm_backward_row(channels, work->accumulate, dy,
					       x, work->gamma, work->mean[row],
					       work->rstd[row], dx);
		else
			rmsnorm_backward_row(channels, work->accumulate, dy, x,
					     work->gamma, work->rstd[row], dx);
	}
}

void layernorm_backward_input(struct threads *threads, size_t rows,
			      size_t channels, const float *dy, const float *x,
			      const float *gamma, const float *mean,
			      const float *rstd, float *dx, bool accumulate)
{
	struct norm_work work = {
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

void rmsnorm_backward_input(struct threads *threads, size_t rows,
			    size_t channels, const float *dy, const float *x,
			    const float *gamma, const float *rstd, float *dx,
			    bool accumulate)
{
	layernorm_backward_input(threads, rows, channels, dy, x, gamma, NULL,
				 rstd, dx, accumulate);
}

/* ---- the gains' and biases' gradients ---- */

KERNEL_CLONES static void weight_row(size_t channels, const float *restrict dy,
				     const float *restrict x, float mean,
				     float rstd, float *restrict gamma_sums,
				     float *restrict beta_sums)
{
	for (size_t i = 0; i < channels; i++) {
		gamma_sums[i] += dy[i] * ((x[i] - mean) * rstd);
		beta_sums[i] += dy[i];
	}
}

KERNEL_CLONES static void weight_row_gamma(size_t channels,
					   const float *restrict dy,
					   const float *restrict x, float rstd,
					   float *restrict gamma_sums)
{
	for (size_t i = 0; i < channels; i++)
		gamma_sums[i] += dy[i] * (x[i] * rstd);
}

static void backward_weight_task(void *argument, size_t index, unsigned thread)
{
	const struct norm_work *work = argument;
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
		const float *dy = work->dy + row * channels;
		const float *x = work->x + row * channels;

		if (beta_sums != NULL)
			weight_row(channels, dy, x, work->mean[row],
				   work->rstd[row], gamma_sums, beta_sums);
		else
			weight_row_gamma(channels, dy, x, work->rstd[row],
					 gamma_sums);
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

void layernorm_backward_weight(struct threads *threads, size_t rows,
			       size_t channels, const float *dy, const float *x,
			       const float *mean, const float *rstd,
			       float *dgamma, float *dbeta, void *scratch)
{
	size_t blocks = column_sums_blocks(rows);
	struct norm_work work = {
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

void rmsnorm_backward_weight(struct threads *threads, size_t rows,
			     size_t channels, const float *dy, const float *x,
			     const float *rstd, float *dgamma, void *scratch)
{
	size_t blocks = column_sums_blocks(rows);
	struct norm_work work = {
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
