#include "model/layers/product.h"

void product_run(struct threads *threads, const struct product *product,
		 const void *a, const void *b, void *c, const float *bias)
{
	struct gemm_epilogue epilogue = {.bias = product->bias ? bias : NULL};
	float beta = product->add ? 1.0f : 0.0f;

	if (product->type == ELEMENT_BF16) {
		gemm_bfloat16(threads, product->transpose_a,
			      product->transpose_b, product->m, product->n,
			      product->k, a, product->lda, b, product->ldb,
			      beta, product->c_type, c, product->ldc,
			      epilogue.bias);
		return;
	}
	ASSERT(product->c_type == ELEMENT_F32);
	gemm(threads, product->transpose_a, product->transpose_b, product->m,
	     product->n, product->k, a, product->lda, b, product->ldb, beta, c,
	     product->ldc, &epilogue);
}

int product_prepare(const struct product_team *team,
		    const struct product *product)
{
	if (product->type != ELEMENT_BF16)
		return 0;
	if (!team->threads) {
		gemm_bfloat16_count(team->count, product->transpose_a,
				    product->transpose_b, product->m,
				    product->n, product->k, product->lda,
				    product->ldb, team->work);
		return 0;
	}
	return gemm_bfloat16_prepare(
		team->threads, product->transpose_a, product->transpose_b,
		product->m, product->n, product->k, product->lda, product->ldb,
		product->add ? 1.0f : 0.0f, product->c_type, product->ldc,
		product->bias);
}
