#include "model/kernels/few_rows.h"
#include "model/layers/primitive.h"

static void few_tokens(const struct layer_context *context,
		       const struct weight_product *product, void *scratch)
{
	struct few_rows few = {
		.m = product->tokens,
		.n = product->out,
		.k = product->in,
		.a = product->x,
		.lda = product->x_stride,
		.b = product->weight,
		.ldb = product->in_out ? product->out : product->in,
		.transposed = !product->in_out,
		.c = product->y,
		.ldc = product->y_stride,
		.bias = product->bias,
	};

	few_rows_multiply(context->threads, &few, scratch);
}

void weight_product_multiply(const struct layer_context *context,
			     const struct weight_product *product,
			     void *scratch)
{
	struct gemm_epilogue epilogue = {.bias = product->bias};

	if (context->mode == LAYER_DECODE && product->tokens <= FEW_ROWS) {
		few_tokens(context, product, scratch);
		return;
	}
	gemm(context->threads, GEMM_NORMAL,
	     product->in_out ? GEMM_NORMAL : GEMM_TRANSPOSED, product->tokens,
	     product->out, product->in, product->x, product->x_stride,
	     product->weight, product->in_out ? product->out : product->in,
	     0.0f, product->y, product->y_stride, &epilogue);
}
