/*
 * out = x + dropout(branch). Nothing is kept: the mask is made again from its
 * key.
 */
#include "model/kernels/dropout.h"
#include "model/kernels/values.h"
#include "model/layers/primitive.h"

enum {
	SKIP,
	BRANCH,
};

static bool residual_passes_gradient(const struct node *node, unsigned input)
{
	return input == SKIP || node->row.dropout == 0;
}

static void residual_forward(const struct node *node,
			     const struct layer_context *context,
			     const struct operands *operands)
{
	struct dropout dropout = node_dropout(node, context);

	dropout_residual_add(context->threads, node->type, &dropout,
			     context_tokens(context), node->output_width,
			     operands->input[SKIP], operands->input[BRANCH],
			     operands->output);
}

static void residual_backward_input(const struct node *node,
				    const struct layer_context *context,
				    const struct operands *operands)
{
	struct dropout dropout = node_dropout(node, context);
	size_t tokens = context_tokens(context), width = node->output_width;
	const void *dy = operands->output_gradient;

	if (operands->input_gradient[SKIP])
		values_copy(context->threads, node->type, tokens * width, dy,
			    operands->input_gradient[SKIP]);
	if (operands->input_gradient[BRANCH])
		dropout_apply(context->threads, node->type, &dropout, tokens,
			      width, dy, operands->input_gradient[BRANCH]);
}

const struct primitive_ops residual_ops = {
	.name = "residual",
	.inputs = 2,
	.passes_gradient = residual_passes_gradient,
	.forward = residual_forward,
	.backward_input = residual_backward_input,
};
