/*
 * Rotary positions: queries and keys of a packed value [q | k | v] turned by
 * the positions of their tokens. Nothing is kept: I turns back. A slice has its
 * heads, and all heads turn alike.
 */
#include "model/kernels/rope.h"
#include "model/layers/primitive.h"

static struct rope_shape node_shape(const struct node *node,
				    const struct layer_context *context)
{
	return (struct rope_shape){
		.type = node->type,
		.batch = context->batch,
		.time = context->time,
		.position_offset = context->position_offset,
		.starts = context_starts(context),
		.heads = node->row.heads,
		.kv_heads = node->row.kv_heads,
		.head_size = node->row.head_size,
	};
}

static size_t rope_node_scratch_bytes(const struct node *node,
				      enum primitive_pass pass, size_t batch,
				      size_t time, enum layer_mode mode,
				      unsigned threads)
{
	(void)batch;
	(void)time;
	(void)mode;
	if (pass == PASS_WEIGHT)
		return 0;
	return rope_scratch_bytes(node->row.head_size, threads);
}

static void rope_node_forward(const struct node *node,
			      const struct layer_context *context,
			      const struct operands *operands)
{
	struct rope_shape shape = node_shape(node, context);

	rope_forward(context->threads, node->row.rope, &shape,
		     operands->input[0], operands->output, operands->scratch);
}

static void rope_node_backward_input(const struct node *node,
				     const struct layer_context *context,
				     const struct operands *operands)
{
	struct rope_shape shape = node_shape(node, context);

	rope_backward(context->threads, node->row.rope, &shape,
		      operands->output_gradient, operands->input_gradient[0],
		      operands->scratch);
}

const struct primitive_ops rope_ops = {
	.name = "rope",
	.inputs = 1,
	.scratch_bytes = rope_node_scratch_bytes,
	.forward = rope_node_forward,
	.backward_input = rope_node_backward_input,
};
