/*
 * Several linear maps of one input, their outputs side by side: queries, keys
 * and values of one token, or a gate and what it lets through. Each weight is
 * [out, in] as nn.Linear has it, y = x W^T + b.
 *
 * Divided among slices over their outputs, the parts of dx of all maps are
 * summed in one exchange. Of bfloat16 the maps' parts of dx are summed in
 * float, in scratch, and rounded once.
 */
#include "model/kernels/bias.h"
#include "model/kernels/elementwise.h"
#include "model/kernels/values.h"
#include "model/layers/primitive.h"
#include "model/layers/product.h"

static unsigned map_count(const struct node *node)
{
	return node->row.third_name ? 3 : 2;
}

static const char *map_name(const struct node *node, unsigned map)
{
	const char *const names[] = {node->row.name, node->row.second_name,
				     node->row.third_name};

	return names[map];
}

/* A map's weight among the node's: with biases, each follows its weight. */
static unsigned weight_of(const struct node *node, unsigned map)
{
	return node->row.bias ? 2 * map : map;
}

/* A part cannot be added to what all slices have: it would count T times. */
static bool linears_adds(const struct node *node)
{
	return node->slices == 1;
}

static unsigned linears_declare(const struct node *node,
				struct parameter rows[NODE_WEIGHTS_MAX])
{
	const struct graph_row *row = &node->row;
	size_t total = 0;

	for (unsigned map = 0; map < map_count(node); map++) {
		size_t out = row->map_widths[map] * node->slices;
		struct parameter *weight = &rows[weight_of(node, map)];

		total += row->map_widths[map];
		parameter_matrix(weight, map_name(node, map), "weight", out,
				 node->input_width[0], row->deviation);
		weight->split_axis = 0;
		if (!row->bias)
			continue;
		parameter_vector(weight + 1, map_name(node, map), "bias", out);
		weight[1].split_axis = 0;
	}
	ASSERT(total == node->output_width);
	return map_count(node) * (row->bias ? 2 : 1);
}

/* I: dx in float; W: the biases' sums, and what they are made with. */
static size_t linears_scratch_bytes(const struct node *node,
				    enum primitive_pass pass, size_t batch,
				    size_t time, enum layer_mode mode,
				    unsigned threads)
{
	size_t sums = (node->output_width * sizeof(float) + 63) / 64 * 64;

	(void)mode;
	(void)threads;
	if (pass == PASS_INPUT && node->type == ELEMENT_BF16)
		return batch * time * node->input_width[0] * sizeof(float);
	if (pass != PASS_WEIGHT || !node->row.bias)
		return 0;
	return sums +
	       bias_backward_scratch_bytes(batch * time, node->output_width);
}

static void linears_cost(const struct node *node, size_t batch, size_t time,
			 struct layer_cost *cost)
{
	double product = 2.0 * (double)(batch * time) *
			 (double)node->input_width[0] *
			 (double)node->output_width;

	cost->forward += product;
	cost->backward_input += product;
	cost->backward_weight += product;
}

static void linears_exchange(const struct node *node, enum primitive_pass pass,
			     size_t batch, size_t time, enum layer_mode mode,
			     struct layer_exchange *exchange)
{
	(void)mode;
	if (pass == PASS_INPUT)
		exchange_add(exchange, batch * time * node->input_width[0]);
}

/* One map's. */
static struct product linears_product(const struct node *node,
				      enum primitive_pass pass, unsigned map,
				      size_t tokens)
{
	size_t in = node->input_width[0], row = node->output_width;
	size_t width = node->row.map_widths[map];
	struct product product = {
		.type = node->type,
		.c_type = ELEMENT_F32,
		.m = tokens,
		.n = width,
		.k = in,
		.lda = in,
		.ldb = in,
		.ldc = row,
	};

	if (pass == PASS_FORWARD) {
		product.c_type = node->type;
		product.transpose_b = GEMM_TRANSPOSED;
		product.bias = node->row.bias;
	} else if (pass == PASS_INPUT) {
		product.n = product.ldc = in;
		product.k = width;
		product.lda = row;
		product.add =
			map > 0 || (node->adds[0] && node->type == ELEMENT_F32);
	} else {
		product.transpose_a = GEMM_TRANSPOSED;
		product.m = width;
		product.lda = row;
		product.n = product.ldc = in;
		product.k = tokens;
		product.add = true;
	}
	return product;
}

static int linears_prepare(const struct node *node, size_t batch, size_t time,
			   enum layer_mode mode,
			   const struct product_team *team)
{
	int last = mode == LAYER_TRAIN ? PASS_WEIGHT : PASS_FORWARD;

	for (int pass = PASS_FORWARD; pass <= last; pass++) {
		for (unsigned map = 0; map < map_count(node); map++) {
			struct product product =
				linears_product(node, pass, map, batch * time);
			int error = product_prepare(team, &product);

			if (error)
				return error;
		}
	}
	return 0;
}

/* Where a map's columns begin in a row. */
static size_t map_column(const struct node *node, unsigned map)
{
	size_t column = 0;

	for (unsigned m = 0; m < map; m++)
		column += node->row.map_widths[m];
	return column;
}

static void linears_forward(const struct node *node,
			    const struct layer_context *context,
			    const struct operands *operands)
{
	for (unsigned map = 0; map < map_count(node); map++) {
		void *const *weight = &operands->weights[weight_of(node, map)];
		struct product product = linears_product(
			node, PASS_FORWARD, map, context_tokens(context));

		product_run(context->threads, &product, operands->input[0],
			    weight[0],
			    values_at_mutable(node->type, operands->output,
					      map_column(node, map)),
			    node->row.bias ? weight[1] : NULL);
	}
}

static void linears_backward_input(const struct node *node,
				   const struct layer_context *context,
				   const struct operands *operands)
{
	size_t tokens = context_tokens(context);
	size_t count = tokens * node->input_width[0];
	bool rounds = node->type == ELEMENT_BF16;
	void *dx = rounds ? operands->scratch : operands->input_gradient[0];

	for (unsigned map = 0; map < map_count(node); map++) {
		struct product product =
			linears_product(node, PASS_INPUT, map, tokens);

		product_run(context->threads, &product,
			    values_at(node->type, operands->output_gradient,
				      map_column(node, map)),
			    operands->weights[weight_of(node, map)], dx, NULL);
	}
	if (node->slices > 1)
		node_sum(node, context, dx, count);
	if (rounds)
		(operands->add[0] ? values_add_round
				  : values_round)(context->threads, count, dx,
						  operands->input_gradient[0]);
}

/* Sums of all columns at once, then each map's to its own. */
static void backward_biases(const struct node *node,
			    const struct layer_context *context,
			    const struct operands *operands)
{
	size_t row = node->output_width;
	float *sums = operands->scratch;
	unsigned char *scratch = operands->scratch;

	elementwise_zero(context->threads, row, sums);
	bias_backward(context->threads, node->type, context_tokens(context),
		      row, row, operands->output_gradient, sums,
		      scratch + (row * sizeof(float) + 63) / 64 * 64);
	for (unsigned map = 0; map < map_count(node); map++) {
		float *dbias = operands->gradients[weight_of(node, map) + 1];

		if (dbias)
			elementwise_accumulate(context->threads,
					       node->row.map_widths[map], sums,
					       dbias);
		sums += node->row.map_widths[map];
	}
}

static void linears_backward_weight(const struct node *node,
				    const struct layer_context *context,
				    const struct operands *operands)
{
	for (unsigned map = 0; map < map_count(node); map++) {
		float *dweight = operands->gradients[weight_of(node, map)];
		struct product product = linears_product(
			node, PASS_WEIGHT, map, context_tokens(context));

		if (dweight)
			product_run(context->threads, &product,
				    values_at(node->type,
					      operands->output_gradient,
					      map_column(node, map)),
				    operands->input[0], dweight, NULL);
	}
	if (node->row.bias)
		backward_biases(node, context, operands);
}

const struct primitive_ops linears_ops = {
	.name = "linears",
	.inputs = 1,
	.adds = linears_adds,
	.backward_weight_reads = READS_INPUT(0),
	.declare = linears_declare,
	.scratch_bytes = linears_scratch_bytes,
	.prepare = linears_prepare,
	.cost = linears_cost,
	.exchange = linears_exchange,
	.forward = linears_forward,
	.backward_input = linears_backward_input,
	.backward_weight = linears_backward_weight,
};
