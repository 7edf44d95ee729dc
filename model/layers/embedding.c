/*
 * out = dropout(tokens' rows of one table + positions' rows of another).
 * There is no I; W needs the tokens and the output's gradient.
 *
 * A slice has the rows of a part of the vocabulary: it leaves other tokens to
 * the others, and the sum is what one alone would have looked up, bit by bit.
 * Of bfloat16 values it is made in float, in scratch.
 */
#include "model/kernels/embedding.h"
#include "model/kernels/dropout.h"
#include "model/kernels/values.h"
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
	rows[TOKENS].split_uneven = true;
	rows[TOKENS].rows_by_token = true;
	if (!row->second_name)
		return 1;
	parameter_matrix(&rows[POSITIONS], row->second_name, "weight",
			 row->context, node->output_width, row->deviation);
	return 2;
}

static bool sums_in_scratch(const struct node *node)
{
	return node->slices > 1 && node->type == ELEMENT_BF16;
}

/* F: sums over slices; W: the output's gradient with the mask on it. */
static size_t embedding_scratch_bytes(const struct node *node,
				      enum primitive_pass pass, size_t batch,
				      size_t time, enum layer_mode mode,
				      unsigned threads)
{
	size_t count = batch * time * node->output_width;

	(void)mode;
	(void)threads;
	if (pass == PASS_FORWARD && sums_in_scratch(node))
		return count * sizeof(float);
	if (pass != PASS_WEIGHT || node->row.dropout == 0)
		return 0;
	return count * element_type_bytes(node->type);
}

static void embedding_exchange(const struct node *node,
			       enum primitive_pass pass, size_t batch,
			       size_t time, enum layer_mode mode,
			       struct layer_exchange *exchange)
{
	(void)mode;
	if (pass == PASS_FORWARD)
		exchange_add(exchange, batch * time * node->output_width);
}

/* The rows of the table that are here. */
static struct parameter_share node_share(const struct node *node)
{
	return parameter_share(node->row.vocab_size, node->slices, node->slice);
}

static void embedding_forward_shared(const struct node *node,
				     const struct layer_context *context,
				     const struct operands *operands,
				     const int32_t *tokens)
{
	struct parameter_share share = node_share(node);
	size_t count = context_tokens(context), width = node->output_width;
	float *sums =
		sums_in_scratch(node) ? operands->scratch : operands->output;

	embedding_forward_part(context->threads, node->type, count, width,
			       tokens, share.first, share.count,
			       operands->weights[TOKENS], sums);
	node_sum(node, context, sums, count * width);
	embedding_forward_sum(
		context->threads, node->type, context->batch, context->time,
		width, context->position_offset, context_starts(context), sums,
		node->row.second_name ? operands->weights[POSITIONS] : NULL,
		operands->output);
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
	if (node->slices > 1)
		embedding_forward_shared(node, context, operands, tokens);
	else
		embedding_forward(
			context->threads, node->type, context->batch,
			context->time, node->output_width, tokens,
			context->position_offset, context_starts(context),
			operands->weights[TOKENS],
			node->row.second_name ? operands->weights[POSITIONS]
					      : NULL,
			operands->output);
	if (dropout.probability > 0)
		dropout_apply(context->threads, node->type, &dropout,
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
	const void *dx = operands->output_gradient;
	float *dtokens = operands->gradients[TOKENS];

	if (dropout.probability > 0) {
		dropout_apply(context->threads, node->type, &dropout,
			      context_tokens(context), node->output_width, dx,
			      operands->scratch);
		dx = operands->scratch;
	}
	if (node->slices > 1 && dtokens) {
		struct parameter_share share = node_share(node);

		embedding_backward_weight_part(
			context->threads, node->type, context_tokens(context),
			node->output_width, tokens, share.first, share.count,
			dx, dtokens);
		dtokens = NULL;
	}
	embedding_backward_weight(
		context->threads, node->type, context->batch, context->time,
		node->output_width, tokens, context->position_offset,
		context_starts(context), dx, dtokens,
		node->row.second_name ? operands->gradients[POSITIONS] : NULL);
}

const struct primitive_ops embedding_ops = {
	.name = "embedding",
	.declare = embedding_declare,
	.scratch_bytes = embedding_scratch_bytes,
	.exchange = embedding_exchange,
	.forward = embedding_node_forward,
	.backward_weight = embedding_node_backward_weight,
};
