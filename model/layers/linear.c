/*
 * y[tokens, out] = x[tokens, in] W + b, for both ways a weight lies on disk.
 * I needs the weight alone, W the input alone.
 *
 * Divided among slices (Shoeybi et al. 2019, "Megatron-LM", section 3): split
 * over its outputs, each slice makes its columns of y from the whole x, and the
 * parts of dx are summed; split over its inputs, each has columns of x, and the
 * parts of y are summed before the bias is added, once. What W reads is here
 * already: a slice's columns of one of x and dy, and the whole of the other.
 */
#include "model/kernels/bias.h"
#include "model/kernels/gemm.h"
#include "model/layers/primitive.h"

enum {
	WEIGHT,
	BIAS,
};

static bool splits_outputs(const struct node *node)
{
	return node->slices > 1 &&
	       node->row.split_axis ==
		       (node->row.layout == LINEAR_IN_OUT ? 1 : 0);
}

static bool splits_inputs(const struct node *node)
{
	return node->slices > 1 &&
	       node->row.split_axis ==
		       (node->row.layout == LINEAR_IN_OUT ? 0 : 1);
}

/* A part cannot be added to what all slices have: it would count T times. */
static bool linear_adds(const struct node *node)
{
	return !splits_outputs(node);
}

static unsigned linear_declare(const struct node *node,
			       struct parameter rows[NODE_WEIGHTS_MAX])
{
	const struct graph_row *row = &node->row;
	bool in_out = row->layout == LINEAR_IN_OUT;
	size_t in =
		node->input_width[0] * (splits_inputs(node) ? node->slices : 1);
	size_t out =
		node->output_width * (splits_outputs(node) ? node->slices : 1);
	int out_axis = in_out ? 1 : 0;

	parameter_matrix(&rows[WEIGHT], row->name, "weight", in_out ? in : out,
			 in_out ? out : in, row->deviation);
	rows[WEIGHT].split_axis = row->split_axis;
	rows[WEIGHT].split_parts = MAX(row->split_parts, 1);
	if (!row->bias)
		return 1;
	parameter_vector(&rows[BIAS], row->name, "bias", out);
	if (row->split_axis == out_axis) {
		rows[BIAS].split_axis = 0;
		rows[BIAS].split_parts = rows[WEIGHT].split_parts;
	}
	return 2;
}

static size_t linear_scratch_bytes(const struct node *node,
				   enum primitive_pass pass, size_t batch,
				   size_t time, enum layer_mode mode,
				   unsigned threads)
{
	(void)mode;
	(void)threads;
	if (pass != PASS_WEIGHT || !node->row.bias)
		return 0;
	return bias_backward_scratch_bytes(batch * time, node->output_width);
}

static void linear_cost(const struct node *node, size_t batch, size_t time,
			struct layer_cost *cost)
{
	double product = 2.0 * (double)(batch * time) *
			 (double)node->input_width[0] *
			 (double)node->output_width;

	cost->forward += product;
	cost->backward_input += product;
	cost->backward_weight += product;
}

static void linear_exchange(const struct node *node, enum primitive_pass pass,
			    size_t batch, size_t time, enum layer_mode mode,
			    struct layer_exchange *exchange)
{
	(void)mode;
	if (pass == PASS_FORWARD && splits_inputs(node))
		exchange_add(exchange, batch * time * node->output_width);
	if (pass == PASS_INPUT && splits_outputs(node))
		exchange_add(exchange, batch * time * node->input_width[0]);
}

static void linear_forward(const struct node *node,
			   const struct layer_context *context,
			   const struct operands *operands)
{
	bool in_out = node->row.layout == LINEAR_IN_OUT;
	size_t in = node->input_width[0], out = node->output_width;
	size_t tokens = context_tokens(context);
	const float *bias = node->row.bias ? operands->weights[BIAS] : NULL;
	bool partial = splits_inputs(node);
	struct gemm_epilogue epilogue = {
		.bias = partial ? NULL : bias,
	};

	gemm(context->threads, GEMM_NORMAL,
	     in_out ? GEMM_NORMAL : GEMM_TRANSPOSED, tokens, out, in,
	     operands->input[0], in, operands->weights[WEIGHT],
	     in_out ? out : in, 0.0f, operands->output, out, &epilogue);
	if (!partial)
		return;
	node_sum(node, context, operands->output, tokens * out);
	if (bias)
		bias_add(context->threads, tokens, out, bias, operands->output);
}

static void linear_backward_input(const struct node *node,
				  const struct layer_context *context,
				  const struct operands *operands)
{
	bool in_out = node->row.layout == LINEAR_IN_OUT;
	size_t in = node->input_width[0], out = node->output_width;
	size_t tokens = context_tokens(context);

	gemm(context->threads, GEMM_NORMAL,
	     in_out ? GEMM_TRANSPOSED : GEMM_NORMAL, tokens, in, out,
	     operands->output_gradient, out, operands->weights[WEIGHT],
	     in_out ? out : in, operands->add[0] ? 1.0f : 0.0f,
	     operands->input_gradient[0], in, NULL);
	if (splits_outputs(node))
		node_sum(node, context, operands->input_gradient[0],
			 tokens * in);
}

static void linear_backward_weight(const struct node *node,
				   const struct layer_context *context,
				   const struct operands *operands)
{
	size_t in = node->input_width[0], out = node->output_width;
	size_t tokens = context_tokens(context);
	const float *x = operands->input[0];
	const float *dy = operands->output_gradient;
	float *dweight = operands->gradients[WEIGHT];

	if (dweight && node->row.layout == LINEAR_IN_OUT)
		gemm(context->threads, GEMM_TRANSPOSED, GEMM_NORMAL, in, out,
		     tokens, x, in, dy, out, 1.0f, dweight, out, NULL);
	else if (dweight)
		gemm(context->threads, GEMM_TRANSPOSED, GEMM_NORMAL, out, in,
		     tokens, dy, out, x, in, 1.0f, dweight, in, NULL);
	if (node->row.bias && operands->gradients[BIAS])
		bias_backward(context->threads, tokens, out, dy,
			      operands->gradients[BIAS], operands->scratch);
}

const struct primitive_ops linear_ops = {
	.name = "linear",
	.inputs = 1,
	.adds = linear_adds,
	.backward_weight_reads = READS_INPUT(0),
	.declare = linear_declare,
	.scratch_bytes = linear_scratch_bytes,
	.cost = linear_cost,
	.exchange = linear_exchange,
	.forward = linear_forward,
	.backward_input = linear_backward_input,
	.backward_weight = linear_backward_weight,
};
