/*
 * out = dropout(tokens' rows of one table + positions' rows of another).
 * There is no I; W needs the tokens and the output's gradient.
 */
#include "model/kernels/embedding.h"
#include "model/kernels/dropout.h"
#include "model/layers/primitive.h"

enum {
	TOKENS,
	POSITIONS,
};

static unsigned embedding_declare(const struct node *node,
				  struct parameter rows[NODE_WEIGHTS_MAX])
{
	const struct graph_row *row = &node->row;

	parameter_matrix(&rows[TOKENS], row->name, "weight", row->vocab_size,
			 node->output_width, row->deviation);
	rows[TOKENS].split_axis = 0;
	if (!row->second_name)
		return 1;
	parameter_matrix(&rows[POSITIONS], row->second_name, "weight",
			 row->context, node->output_width, row->deviation);
	return 2;
}

/* W: the output's gradient with the mask on it. */
static size_t embedding_scratch_bytes(const struct node *node,
				      enum primitive_pass pass, size_t batch,
				      size_t time, enum layer_mode mode,
				      unsigned threads)
{
	(void)mode;
	(void)threads;
	if (pass != PASS_WEIGHT || node->row.dropout == 0)
		return 0;
	return batch * time * node->output_width * sizeof(float);
}

static void embedding_node_forward(const struct node *node,
				   const struct layer_context *context,
				   const struct operands *operands)
{
	const int32_t *tokens =
		micro_batch_i32(context->micro_batch, COLUMN_TOKENS);
	struct dropout dropout = node_dropout(node, context);

	ASSERT(!node->row.second_name ||
	       context->position_offset + context->time <= node->row.context);
	embedding_forward(context->threads, context->batch, context->time,
			  node->output_width, tokens, context->position_offset,
			  operands->weights[TOKENS],
			  node->row.second_name ? operands->weights[POSITIONS]
						: NULL,
			  operands->output);
	if (dropout.probability > 0)
		dropout_apply(context->threads, &dropout,
			      context_tokens(context), node->output_width,
			      operands->output, operands->output);
}

static void embedding_node_backward_weight(const struct node *node,
					   const struct layer_context *context,
					   const struct operands *operands)
{
	const int32_t *tokens =
		micro_batch_i32(context->micro_batch, COLUMN_TOKENS);
	struct dropout dropout = node_dropout(node, context);
	const float *dx = operands->output_gradient;

	if (dropout.probability > 0) {
		dropout_apply(context->threads, &dropout,
			      context_tokens(context), node->output_width, dx,
			      operands->scratch);
		dx = operands->scratch;
	}
	embedding_backward_weight(
		context->threads, context->batch, context->time,
		node->output_width, tokens, context->position_offset, dx,
		operands->gradients[TOKENS],
		node->row.second_name ? operands->gradients[POSITIONS] : NULL);
}

const struct primitive_ops embedding_ops = {
	.name = "embedding",
	.declare = embedding_declare,
	.scratch_bytes = embedding_scratch_bytes,
	.forward = embedding_node_forward,
	.backward_weight = embedding_node_backward_weight,
};
