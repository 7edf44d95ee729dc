/* Activation functions: nothing is kept but the input. */
#include "model/kernels/activation.h"
#include "model/layers/primitive.h"

static size_t node_elements(const struct node *node,
			    const struct layer_context *context)
{
	return context_tokens(context) * node->output_width;
}

static void gelu_node_forward(const struct node *node,
			      const struct layer_context *context,
			      const struct operands *operands)
{
	gelu_forward(context->threads, node->type, node_elements(node, context),
		     operands->input[0], operands->output);
}

static void gelu_node_backward_input(const struct node *node,
				     const struct layer_context *context,
				     const struct operands *operands)
{
	gelu_backward(context->threads, node->type,
		      node_elements(node, context), operands->output_gradient,
		      operands->input[0], operands->input_gradient[0]);
}

const struct primitive_ops gelu_ops = {
	.name = "gelu",
	.inputs = 1,
	.backward_input_reads = READS_INPUT(0),
	.cheap = true,
	.forward = gelu_node_forward,
	.backward_input = gelu_node_backward_input,
};

/* ---- gates: the input is [gate | up], twice as wide as the output ---- */

static void swiglu_node_forward(const struct node *node,
				const struct layer_context *context,
				const struct operands *operands)
{
	swiglu_forward(context->threads, node->type, context_tokens(context),
		       node->output_width, operands->input[0],
		       operands->output);
}

static void swiglu_node_backward_input(const struct node *node,
				       const struct layer_context *context,
				       const struct operands *operands)
{
	swiglu_backward(context->threads, node->type, context_tokens(context),
			node->output_width, operands->output_gradient,
			operands->input[0], operands->input_gradient[0]);
}

const struct primitive_ops swiglu_ops = {
	.name = "swiglu",
	.inputs = 1,
	.backward_input_reads = READS_INPUT(0),
	.cheap = true,
	.forward = swiglu_node_forward,
	.backward_input = swiglu_node_backward_input,
};
