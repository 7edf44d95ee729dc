/*
 * Products of a layer's values and matrices, of either type. Private to
 * model/layers.
 */
#ifndef STAGECOACH_MODEL_LAYERS_PRODUCT_H
#define STAGECOACH_MODEL_LAYERS_PRODUCT_H

#include "model/kernels/gemm.h"

/* C[m, n] = op(A)[m, k] op(B)[k, n] + beta C (+ bias), see gemm.h. */
struct product {
	enum element_type type; /* of A and B */
	enum element_type c_type;
	enum gemm_transpose transpose_a, transpose_b;
	size_t m, n, k;
	size_t lda, ldb, ldc;
	bool add;  /* beta is 1 */
	bool bias; /* [n], float */
};

void product_run(struct threads *threads, const struct product *product,
		 const void *a, const void *b, void *c, const float *bias);

/* Whose products are readied, or only what they would take is counted. */
struct product_team {
	struct threads *threads; /* NULL: count */
	unsigned count;          /* of threads */
	struct gemm_bfloat16_work *work;
};

/* So that it allocates nothing. -ENOMEM, but not of a count. */
int product_prepare(const struct product_team *team,
		    const struct product *product) MUST_CHECK;

#endif
