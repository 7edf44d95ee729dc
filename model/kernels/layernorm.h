/*
 * Normalisation of rows: LayerNorm (Ba, Kiros, Hinton 2016) and RMSNorm
 * (Zhang, Sennrich 2019).
 *
 * Matrices are [rows, C], row-major and packed. Results do not depend on the
 * number of threads. Nothing is allocated; scratch is the caller's, of the
 * size told, 64-byte aligned, its contents are free before and after.
 */
#ifndef STAGECOACH_MODEL_KERNELS_LAYERNORM_H
#define STAGECOACH_MODEL_KERNELS_LAYERNORM_H

#include "base/threads.h"

/*
 * y = (x - mean) * rstd * gamma + beta, with mean and rstd = 1 / sqrt(variance
 * + epsilon) of each row written to mean[rows] and rstd[rows] for the backward.
 * y may be x.
 */
void layernorm_forward(struct threads *threads, size_t rows, size_t channels,
		       float epsilon, const float *x, const float *gamma,
		       const float *beta, float *y, float *mean, float *rstd);

/* dx = (or, with accumulate, +=) the input's gradient. dx may be dy. */
void layernorm_backward_input(struct threads *threads, size_t rows,
			      size_t channels, const float *dy, const float *x,
			      const float *gamma, const float *mean,
			      const float *rstd, float *dx, bool accumulate);

/* dgamma += column sums of dy * normalised x, dbeta += column sums of dy. */
size_t layernorm_backward_weight_scratch_bytes(size_t rows, size_t channels);
void layernorm_backward_weight(struct threads *threads, size_t rows,
			       size_t channels, const float *dy, const float *x,
			       const float *mean, const float *rstd,
			       float *dgamma, float *dbeta, void *scratch);

/* y = x * rstd * gamma with rstd = 1 / sqrt(mean of squares + epsilon). */
void rmsnorm_forward(struct threads *threads, size_t rows, size_t channels,
		     float epsilon, const float *x, const float *gamma,
		     float *y, float *rstd);
void rmsnorm_backward_input(struct threads *threads, size_t rows,
			    size_t channels, const float *dy, const float *x,
			    const float *gamma, const float *rstd, float *dx,
			    bool accumulate);
size_t rmsnorm_backward_weight_scratch_bytes(size_t rows, size_t channels);
void rmsnorm_backward_weight(struct threads *threads, size_t rows,
			     size_t channels, const float *dy, const float *x,
			     const float *rstd, float *dgamma, void *scratch);

#endif
