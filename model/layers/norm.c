/*
 * LayerNorm and RMSNorm over the channels of each token. Mean and 1 / deviation
 * are kept; the output is cheap to make again.
 */
#include "model/kernels/layernorm.h"
#include "model/layers/primitive.h"

enum {
	GAMMA,
	BETA,
};

/* Statistics: mean[tokens], then rstd[tokens]. */
static size_t layernorm_statistics_width(const struct node *node)
{
	(void)node;
	return 2;
}

static unsigned layernorm_declare(const struct node *node,
				  struct parameter rows[NODE_WEIGHTS_MAX])
{
	parameter_vector(&rows[GAMMA], node->row.name, "weight",
			 node->output_width);
	rows[GAMMA].initialiser = INITIALISE_ONES;
	parameter_vector(&rows[BETA], node->row.name, "bias",
			 node->output_width);
	return 2;
}

/* W: the kernel's, and a row for the sums of a parameter that is frozen. */
static size_t layernorm_scratch_bytes(const struct node *node,
				      enum primitive_pass pass, size_t batch,
				      size_t time, enum layer_mode mode,
				      unsigned threads)
{
	size_t channels = node->output_width;

	(void)mode;
	(void)threads;
	if (pass != PASS_WEIGHT)
		return 0;
	return (layernorm_backward_weight_scratch_bytes(batch * time,
							channels) +
		63) / 64 *
		       64 +
	       channels * sizeof(float);
}

static void layernorm_node_forward(const struct node *node,
				   const struct layer_context *context,
				   const struct operands *operands)
{
	size_t tokens = context_tokens(context);

	layernorm_forward(context->threads, node->type, tokens,
			  node->output_width, (float)node->row.epsilon,
			  operands->input[0], operands->weights[GAMMA],
			  operands->weights[BETA], operands->output,
			  operands->statistics, operands->statistics + tokens);
}

static void layernorm_node_backward_input(const struct node *node,
					  const struct layer_context *context,
					  const struct operands *operands)
{
	size_t tokens = context_tokens(context);

	layernorm_backward_input(context->threads, node->type, tokens,
				 node->output_width, operands->output_gradient,
				 operands->input[0], operands->weights[GAMMA],
				 operands->statistics,
				 operands->statistics + tokens,
				 operands->input_gradient[0], operands->add[0]);
}

static bool layernorm_adds(const struct node *node)
{
	(void)node;
	return true;
}

static void layernorm_node_backward_weight(const struct node *node,
					   const struct layer_context *context,
					   const struct operands *operands)
{
	size_t tokens = context_tokens(context);
	size_t channels = node->output_width;
	size_t own = layernorm_backward_weight_scratch_bytes(tokens, channels);
	unsigned char *scratch = operands->scratch;
	float *unused = (float *)(void *)(scratch + (own + 63) / 64 * 64);
	float *dgamma = operands->gradients[GAMMA];
	float *dbeta = operands->gradients[BETA];

	layernorm_backward_weight(
		context->threads, node->type, tokens, channels,
		operands->output_gradient, operands->input[0],
		operands->statistics, operands->statistics + tokens,
		dgamma ? dgamma : unused, dbeta ? dbeta : unused, scratch);
}

const struct primitive_ops layernorm_ops = {
	.name = "layernorm",
	.inputs = 1,
	.backward_input_reads = READS_INPUT(0),
	.backward_weight_reads = READS_INPUT(0),
	.cheap = true,
	.adds = layernorm_adds,
	.declare = layernorm_declare,
	.statistics_width = layernorm_statistics_width,
	.scratch_bytes = layernorm_scratch_bytes,
	.forward = layernorm_node_forward,
	.backward_input = layernorm_node_backward_input,
	.backward_weight = layernorm_node_backward_weight,
};

/* ---- RMSNorm: no mean, no shift ---- */

static size_t rmsnorm_statistics_width(const struct node *node)
{
	(void)node;
	return 1;
}

static unsigned rmsnorm_declare(const struct node *node,
				struct parameter rows[NODE_WEIGHTS_MAX])
{
	parameter_vector(&rows[GAMMA], node->row.name, "weight",
			 node->output_width);
	rows[GAMMA].initialiser = INITIALISE_ONES;
	return 1;
}

static size_t rmsnorm_scratch_bytes(const struct node *node,
				    enum primitive_pass pass, size_t batch,
				    size_t time, enum layer_mode mode,
				    unsigned threads)
{
	(void)mode;
	(void)threads;
	if (pass != PASS_WEIGHT)
		return 0;
	return rmsnorm_backward_weight_scratch_bytes(batch * time,
						     node->output_width);
}

static void rmsnorm_node_forward(const struct node *node,
				 const struct layer_context *context,
				 const struct operands *operands)
{
	rmsnorm_forward(context->threads, node->type, context_tokens(context),
			node->output_width, (float)node->row.epsilon,
			operands->input[0], operands->weights[GAMMA],
			operands->output, operands->statistics);
}

static void rmsnorm_node_backward_input(const struct node *node,
					const struct layer_context *context,
					const struct operands *operands)
{
	rmsnorm_backward_input(context->threads, node->type,
			       context_tokens(context), node->output_width,
			       operands->output_gradient, operands->input[0],
			       operands->weights[GAMMA], operands->statistics,
			       operands->input_gradient[0], operands->add[0]);
}

static void rmsnorm_node_backward_weight(const struct node *node,
					 const struct layer_context *context,
					 const struct operands *operands)
{
	rmsnorm_backward_weight(context->threads, node->type,
				context_tokens(context), node->output_width,
				operands->output_gradient, operands->input[0],
				operands->statistics,
				operands->gradients[GAMMA], operands->scratch);
}

const struct primitive_ops rmsnorm_ops = {
	.name = "rmsnorm",
	.inputs = 1,
	.backward_input_reads = READS_INPUT(0),
	.backward_weight_reads = READS_INPUT(0),
	.cheap = true,
	.adds = layernorm_adds,
	.declare = rmsnorm_declare,
	.statistics_width = rmsnorm_statistics_width,
	.scratch_bytes = rmsnorm_scratch_bytes,
	.forward = rmsnorm_node_forward,
	.backward_input = rmsnorm_node_backward_input,
	.backward_weight = rmsnorm_node_backward_weight,
};
