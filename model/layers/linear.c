/*
 * y[tokens, out] = x[tokens, in] W + b, for both ways a weight lies on disk.
 * I needs the weight alone, W the input alone.
 *
 * Divided among slices (Shoeybi et al. 2019, "Megatron-LM", section 3): split
 * over its outputs, each slice makes its columns of y from the whole x, and the
 * parts of dx are summed; split over its inputs, each has columns of x, and the
 * parts of y are summed before the bias is added, once. What W reads is here
 * already: a slice's columns of one of x and dy, and the whole of the other.
 * Parts of bfloat16 values are floats in scratch, rounded when they are summed.
 */
#include "model/kernels/bias.h"
#include "model/kernels/values.h"
#include "model/layers/primitive.h"
#include "model/layers/product.h"

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

/* Are the products' results of this pass parts that are rounded as a sum? */
static bool sums_in_scratch(const struct node *node, enum primitive_pass pass)
{
	if (node->type != ELEMENT_BF16)
		return false;
	return (pass == PASS_FORWARD && splits_inputs(node)) ||
	       (pass == PASS_INPUT && splits_outputs(node));
}

static size_t linear_scratch_bytes(const struct node *node,
				   enum primitive_pass pass, size_t batch,
				   size_t time, enum layer_mode mode,
				   unsigned threads)
{
	size_t width = pass == PASS_FORWARD ? node->output_width
					    : node->input_width[0];

	(void)mode;
	(void)threads;
	if (sums_in_scratch(node, pass))
		return batch * time * width * sizeof(float);
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

static struct product linear_product(const struct node *node,
				     enum primitive_pass pass, size_t tokens)
{
	bool in_out = node->row.layout == LINEAR_IN_OUT;
	size_t in = node->input_width[0], out = node->output_width;
	enum element_type type = node->type;
	struct product product = {
		.type = type,
		.c_type = sums_in_scratch(node, pass) ? ELEMENT_F32 : type,
		.m = tokens,
		.n = out,
		.k = in,
		.lda = in,
		.ldb = in_out ? out : in,
		.ldc = out,
	};

	if (pass == PASS_FORWARD) {
		product.transpose_b = in_out ? GEMM_NORMAL : GEMM_TRANSPOSED;
		product.bias = node->row.bias && !splits_inputs(node);
	} else if (pass == PASS_INPUT) {
		product.transpose_b = in_out ? GEMM_TRANSPOSED : GEMM_NORMAL;
		product.n = product.ldc = in;
		product.k = product.lda = out;
		product.add = node->adds[0];
	} else {
		product.c_type = ELEMENT_F32;
		product.transpose_a = GEMM_TRANSPOSED;
		product.m = product.lda = in_out ? in : out;
		product.n = product.ldb = product.ldc = in_out ? out : in;
		product.k = tokens;
		product.add = true;
	}
	return product;
}

static int linear_prepare(const struct node *node, size_t batch, size_t time,
			  enum layer_mode mode, const struct product_team *team)
{
	int last = mode == LAYER_TRAIN ? PASS_WEIGHT : PASS_FORWARD;

	for (int pass = PASS_FORWARD; pass <= last; pass++) {
		struct product product =
			linear_product(node, pass, batch * time);
		int error = product_prepare(team, &product);

		if (error)
			return error;
	}
	return 0;
}

static void linear_forward(const struct node *node,
			   const struct layer_context *context,
			   const struct operands *operands)
{
	size_t out = node->output_width, tokens = context_tokens(context);
	const float *bias = node->row.bias ? operands->weights[BIAS] : NULL;
	struct product product = linear_product(node, PASS_FORWARD, tokens);
	bool rounds = sums_in_scratch(node, PASS_FORWARD);
	void *y = rounds ? operands->scratch : operands->output;

	product_run(context->threads, &product, operands->input[0],
		    operands->weights[WEIGHT], y, bias);
	if (!splits_inputs(node))
		return;
	node_sum(node, context, y, tokens * out);
	if (rounds)
		bias_add_round(context->threads, tokens, out, y, bias,
			       operands->output);
	else if (bias)
		bias_add(context->threads, tokens, out, bias, y);
}

static void linear_backward_input(const struct node *node,
				  const struct layer_context *context,
				  const struct operands *operands)
{
	size_t in = node->input_width[0], tokens = context_tokens(context);
	struct product product = linear_product(node, PASS_INPUT, tokens);
	bool rounds = sums_in_scratch(node, PASS_INPUT);
	void *dx = rounds ? operands->scratch : operands->input_gradient[0];

	product_run(context->threads, &product, operands->output_gradient,
		    operands->weights[WEIGHT], dx, NULL);
	if (splits_outputs(node))
		node_sum(node, context, dx, tokens * in);
	if (rounds)
		values_round(context->threads, tokens * in, dx,
			     operands->input_gradient[0]);
}

static void linear_backward_weight(const struct node *node,
				   const struct layer_context *context,
				   const struct operands *operands)
{
	size_t out = node->output_width, tokens = context_tokens(context);
	struct product product = linear_product(node, PASS_WEIGHT, tokens);
	bool in_out = node->row.layout == LINEAR_IN_OUT;
	const void *x = operands->input[0], *dy = operands->output_gradient;

	if (operands->gradients[WEIGHT])
		product_run(context->threads, &product, in_out ? x : dy,
			    in_out ? dy : x, operands->gradients[WEIGHT], NULL);
	if (node->row.bias && operands->gradients[BIAS])
		bias_backward(context->threads, node->type, tokens, out, out,
			      dy, operands->gradients[BIAS], operands->scratch);
}

const struct primitive_ops linear_ops = {
	.name = "linear",
	.inputs = 1,
	.adds = linear_adds,
	.backward_weight_reads = READS_INPUT(0),
	.declare = linear_declare,
	.scratch_bytes = linear_scratch_bytes,
	.prepare = linear_prepare,
	.cost = linear_cost,
	.exchange = linear_exchange,
	.forward = linear_forward,
	.backward_input = linear_backward_input,
	.backward_weight = linear_backward_weight,
};
