/*
 * Optimizer updates of one parameter (a flat array of `count` floats), and the
 * norm they are clipped by. Where products read a copy of the weights in
 * bfloat16, the update writes that, too, while the weights are in the cache. Element-wise and in fixed blocks: bits do not
 * depend on the number of threads, nor on where the array is cut as long as
 * cuts fall on multiples of OPTIMIZER_BLOCK.
 */
#ifndef STAGECOACH_MODEL_KERNELS_OPTIMIZER_H
#define STAGECOACH_MODEL_KERNELS_OPTIMIZER_H

#include "base/threads.h"
#include "model/kernels/bfloat16.h"

/* Elements of one task, and of one partial sum of square_sum(). */
#define OPTIMIZER_BLOCK 16384

/* One AdamW step's scalars (Loshchilov, Hutter 2019; as PyTorch's AdamW). */
struct adamw {
	double learning_rate;
	double beta1;
	double beta2;
	double epsilon;
	double weight_decay;     /* of this parameter's decay group */
	double bias_correction1; /* 1 - beta1^step, step from 1 */
	double bias_correction2; /* 1 - beta2^step */
	float gradient_scale;    /* the clip factor: 1 when not clipped */
	bool zero_gradients;     /* leave zeros in gradients */
};

/* Fills the bias corrections for step >= 1 from beta1 and beta2. */
void adamw_set_step(struct adamw *adamw, uint64_t step);

/*
 * g = gradient * gradient_scale; m = beta1 m + (1 - beta1) g;
 * v = beta2 v + (1 - beta2) g^2; w = w (1 - learning_rate weight_decay)
 *   - learning_rate (m / correction1) / (sqrt(v / correction2) + epsilon).
 */
void adamw_update(struct threads *threads, const struct adamw *adamw,
		  size_t count, float *weights, float *gradients,
		  float *first_moment, float *second_moment,
		  bfloat16 *copy); /* [count] rounded weights; NULL: none */

/* SGD as PyTorch's: momentum without dampening, L2 decay into the gradient. */
struct sgd {
	double learning_rate;
	double momentum; /* 0: the momentum array may be NULL */
	double weight_decay;
	float gradient_scale;
	bool nesterov;
	bool zero_gradients;
};

/* g = gradient * scale + decay w; b = momentum b + g; w -= lr (b or, with
 * nesterov, g + momentum b). The momentum array starts as zeros. */
void sgd_update(struct threads *threads, const struct sgd *sgd, size_t count,
		float *weights, float *gradients, float *momentum,
		bfloat16 *copy);

/*
 * Sum of squares in double: fixed element blocks, partials in scratch (64-byte
 * aligned), added in ascending order. Any NaN or infinity among the values,
 * and nothing else, makes the result NaN or infinite: test it with isfinite().
 */
size_t square_sum_scratch_bytes(size_t count);
double square_sum(struct threads *threads, size_t count, const float *values,
		  void *scratch);

/*
 * The partials alone: partials[ceil(count / OPTIMIZER_BLOCK)]. Those of pieces
 * that begin at multiples of OPTIMIZER_BLOCK, added one after the other to
 * 0, are square_sum() of the whole.
 */
void square_partials(struct threads *threads, size_t count, const float *values,
		     double *partials);

#endif
