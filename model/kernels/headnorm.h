/*
 * RMSNorm of each head of queries and keys (Qwen 3, after Henry et al. 2020),
 * on packed rows [q | k | v]: one gain of a head's size for all heads of
 * queries, one for those of keys. Values are copied.
 *
 * Results do not depend on the number of threads; nothing is allocated.
 */
#ifndef STAGECOACH_MODEL_KERNELS_HEADNORM_H
#define STAGECOACH_MODEL_KERNELS_HEADNORM_H

#include "base/threads.h"
#include "model/kernels/element.h"

struct headnorm_shape {
	enum element_type type; /* of the rows: float or bfloat16 */
	size_t rows;            /* tokens */
	size_t heads;
	size_t kv_heads;
	size_t head_size;
	float epsilon;
};

/*
 * y = x * rstd * gain of each head of q and k, with rstd = 1 / sqrt(mean of
 * squares + epsilon) written to rstd[rows, heads + kv_heads].
 */
void headnorm_forward(struct threads *threads,
		      const struct headnorm_shape *shape, const void *x,
		      const float *query_gain, const float *key_gain, void *y,
		      float *rstd);

/* dx = the input's gradient. */
void headnorm_backward_input(struct threads *threads,
			     const struct headnorm_shape *shape, const void *dy,
			     const void *x, const float *query_gain,
			     const float *key_gain, const float *rstd,
			     void *dx);

/*
 * The gains' gradients are added to dquery and dkey, of a head's size each;
 * NULL: not wanted. Scratch: contents free before and after.
 */
size_t
headnorm_backward_weight_scratch_bytes(const struct headnorm_shape *shape);
void headnorm_backward_weight(struct threads *threads,
			      const struct headnorm_shape *shape,
			      const void *dy, const void *x, const float *rstd,
			      float *dquery, float *dkey, void *scratch);

#endif
