/*
 * Normalisation of rows: LayerNorm (Ba, Kiros, Hinton 2016) and RMSNorm
 * (Zhang, Sennrich 2019).
 *
 * Matrices are [rows, C] of values of a type, float or bfloat16, row-major and
 * packed; gains, statistics and sums are float. Results do not depend on the
 * number of threads. Nothing is allocated; scratch is the caller's, of the
 * size told, 64-byte aligned, its contents are free before and after.
 */
#ifndef STAGECOACH_MODEL_KERNELS_LAYERNORM_H
#define STAGECOACH_MODEL_KERNELS_LAYERNORM_H

#include "base/threads.h"
#include "model/kernels/element.h"

/*
 * y = (x - mean) * rstd * gamma + beta, with mean and rstd = 1 / sqrt(variance
 * + epsilon) of each row written to mean[rows] and rstd[rows] for the backward.
 * y may be x.
 */
void layernorm_forward(struct threads *threads, enum element_type type,
		       size_t rows, size_t channels, float epsilon,
		       const void *x, const float *gamma, const float *beta,
		       void *y, float *mean, float *rstd);

/* dx = (or, with accumulate, +=) the input's gradient. dx may be dy. */
void layernorm_backward_input(struct threads *threads, enum element_type type,
			      size_t rows, size_t channels, const void *dy,
			      const void *x, const float *gamma,
			      const float *mean, const float *rstd, void *dx,
			      bool accumulate);

/* dgamma += column sums of dy * normalised x, dbeta += column sums of dy. */
size_t layernorm_backward_weight_scratch_bytes(size_t rows, size_t channels);
void layernorm_backward_weight(struct threads *threads, enum element_type type,
			       size_t rows, size_t channels, const void *dy,
			       const void *x, const float *mean,
			       const float *rstd, float *dgamma, float *dbeta,
			       void *scratch);

/* y = x * rstd * gamma with rstd = 1 / sqrt(mean of squares + epsilon). */
void rmsnorm_forward(struct threads *threads, enum element_type type,
		     size_t rows, size_t channels, float epsilon, const void *x,
		     const float *gamma, void *y, float *rstd);
void rmsnorm_backward_input(struct threads *threads, enum element_type type,
			    size_t rows, size_t channels, const void *dy,
			    const void *x, const float *gamma,
			    const float *rstd, void *dx, bool accumulate);
size_t rmsnorm_backward_weight_scratch_bytes(size_t rows, size_t channels);
void rmsnorm_backward_weight(struct threads *threads, enum element_type type,
			     size_t rows, size_t channels, const void *dy,
			     const void *x, const float *rstd, float *dgamma,
			     void *scratch);

#endif
