/*
 * RMSNorm of each head of queries and keys in a packed value [q | k | v]. 1 /
 * deviation of each head is kept.
 *
 * The gains are whole on each slice, but a slice has only its own heads to
 * learn them from, and W meets nobody: there I makes this micro-batch's sums,
 * exchanges them, and leaves them for W to add.
 */
#include "model/kernels/headnorm.h"
#include "model/kernels/elementwise.h"
#include "model/layers/primitive.h"

enum {
	QUERY,
	KEY,
};

static struct headnorm_shape node_shape(const struct node *node, size_t tokens)
{
	return (struct headnorm_shape){
		.type = node->type,
		.rows = tokens,
		.heads = node->row.heads,
		.kv_heads = node->row.kv_heads,
		.head_size = node->row.head_size,
		.epsilon = (float)node->row.epsilon,
	};
}

static size_t headnorm_statistics_width(const struct node *node)
{
	return node->row.heads + node->row.kv_heads;
}

static size_t headnorm_pending_floats(const struct node *node)
{
	return node->slices > 1 ? 2 * (size_t)node->row.head_size : 0;
}

static unsigned headnorm_declare(const struct node *node,
				 struct parameter rows[NODE_WEIGHTS_MAX])
{
	parameter_vector(&rows[QUERY], node->row.name, "weight",
			 node->row.head_size);
	parameter_vector(&rows[KEY], node->row.second_name, "weight",
			 node->row.head_size);
	rows[QUERY].initialiser = INITIALISE_ONES;
	rows[KEY].initialiser = INITIALISE_ONES;
	return 2;
}

/* The sums of the gains' gradients are made in W, or in I. */
static size_t headnorm_scratch_bytes(const struct node *node,
				     enum primitive_pass pass, size_t batch,
				     size_t time, enum layer_mode mode,
				     unsigned threads)
{
	struct headnorm_shape shape = node_shape(node, batch * time);

	(void)mode;
	(void)threads;
	if (pass != (node->slices > 1 ? PASS_INPUT : PASS_WEIGHT))
		return 0;
	return headnorm_backward_weight_scratch_bytes(&shape);
}

static void headnorm_exchange(const struct node *node, enum primitive_pass pass,
			      size_t batch, size_t time, enum layer_mode mode,
			      struct layer_exchange *exchange)
{
	(void)batch;
	(void)time;
	(void)mode;
	if (pass == PASS_INPUT)
		exchange_add(exchange, headnorm_pending_floats(node));
}

static void headnorm_node_forward(const struct node *node,
				  const struct layer_context *context,
				  const struct operands *operands)
{
	struct headnorm_shape shape = node_shape(node, context_tokens(context));

	headnorm_forward(context->threads, &shape, operands->input[0],
			 operands->weights[QUERY], operands->weights[KEY],
			 operands->output, operands->statistics);
}

static void headnorm_node_backward_input(const struct node *node,
					 const struct layer_context *context,
					 const struct operands *operands)
{
	struct headnorm_shape shape = node_shape(node, context_tokens(context));
	size_t size = shape.head_size;
	float *sums = operands->pending;

	headnorm_backward_input(context->threads, &shape,
				operands->output_gradient, operands->input[0],
				operands->weights[QUERY],
				operands->weights[KEY], operands->statistics,
				operands->input_gradient[0]);
	if (node->slices == 1)
		return;
	elementwise_zero(context->threads, 2 * size, sums);
	headnorm_backward_weight(context->threads, &shape,
				 operands->output_gradient, operands->input[0],
				 operands->statistics, sums, sums + size,
				 operands->scratch);
	node_sum(node, context, sums, 2 * size);
}

static void headnorm_node_backward_weight(const struct node *node,
					  const struct layer_context *context,
					  const struct operands *operands)
{
	struct headnorm_shape shape = node_shape(node, context_tokens(context));
	size_t size = shape.head_size;
	float *const *gradients = operands->gradients;

	if (node->slices == 1) {
		headnorm_backward_weight(
			context->threads, &shape, operands->output_gradient,
			operands->input[0], operands->statistics,
			gradients[QUERY], gradients[KEY], operands->scratch);
		return;
	}
	if (gradients[QUERY])
		elementwise_accumulate(context->threads, size,
				       operands->pending, gradients[QUERY]);
	if (gradients[KEY])
		elementwise_accumulate(context->threads, size,
				       operands->pending + size,
				       gradients[KEY]);
}

const struct primitive_ops headnorm_ops = {
	.name = "headnorm",
	.inputs = 1,
	.backward_input_reads = READS_INPUT(0),
	.backward_weight_reads = READS_INPUT(0),
	.declare = headnorm_declare,
	.statistics_width = headnorm_statistics_width,
	.pending_floats = headnorm_pending_floats,
	.scratch_bytes = headnorm_scratch_bytes,
	.exchange = headnorm_exchange,
	.forward = headnorm_node_forward,
	.backward_input = headnorm_node_backward_input,
	.backward_weight = headnorm_node_backward_weight,
};
