/*
 * The kernels once more, as plain loops in double precision: what the fast
 * ones are tested against. One thread, no care for speed. Arguments are those
 * of the fast kernel of the same name, see its header.
 */
#ifndef STAGECOACH_MODEL_KERNELS_REFERENCE_H
#define STAGECOACH_MODEL_KERNELS_REFERENCE_H

#include "model/kernels/dropout.h"
#include "model/kernels/optimizer.h"

void layernorm_forward_reference(size_t rows, size_t channels, double epsilon,
				 const float *x, const float *gamma,
				 const float *beta, double *y, double *mean,
				 double *rstd);

/* centred: LayerNorm; else RMSNorm, whose mean is not used (NULL). */
void norm_backward_reference(size_t rows, size_t channels, bool centred,
			     const float *dy, const float *x,
			     const float *gamma, const double *mean,
			     const double *rstd, double *dx, double *dgamma,
			     double *dbeta);
void rmsnorm_forward_reference(size_t rows, size_t channels, double epsilon,
			       const float *x, const float *gamma, double *y,
			       double *rstd);

/* dbias = column sums of dy. */
void bias_backward_reference(size_t rows, size_t columns, const float *dy,
			     double *dbias);

double gelu_reference(double x);
double gelu_gradient_reference(double x);
double silu_reference(double x);
double silu_gradient_reference(double x);

/* One word, straight from its definition in dropout.h. */
uint32_t dropout_word_reference(struct random_key key, uint64_t sample_id,
				uint64_t coordinate, size_t index);

/* dwte and dwpe are added to. */
void embedding_backward_reference(size_t samples, size_t length,
				  size_t channels, const int32_t *tokens,
				  size_t position_offset, const float *dx,
				  double *dwte, double *dwpe);

/* One row; gradient[V] is written. Returns the loss. */
double cross_entropy_reference(size_t vocabulary, const float *logits,
			       int32_t label, double scale, double *gradient);

void adamw_reference(const struct adamw *adamw, size_t count, double *weights,
		     const float *gradients, double *first_moment,
		     double *second_moment);
void sgd_reference(const struct sgd *sgd, size_t count, double *weights,
		   const float *gradients, double *momentum);

#endif
