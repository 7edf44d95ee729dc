/*
 * Low-rank adapters of linear maps (Hu et al. 2021, "LoRA", equation 3):
 *
 *   z = y + s (x A^T) B^T        A [r, in], B [out, r], s = alpha / r
 *
 * where y is what the frozen map made of x. An adapter beside several maps in
 * one row (linears) has A and B for each that is to have one, and adds to that
 * map's columns. Kept from forward: t = s x A^T, [tokens, r] for each.
 *
 * I makes dt = s dz B, which dx needs; so does W, for dA: made again, it is
 * cheaper than kept.
 */
#include "model/kernels/elementwise.h"
#include "model/kernels/gemm.h"
#include "model/layers/primitive.h"

enum {
	X,
	Y,
};

enum {
	A, /* [r, in] */
	B, /* [out, r] */
	PER_MAP,
};

static const char *map_name(const struct node *node, unsigned map)
{
	const char *const names[NODE_MAPS_MAX] = {
		node->row.name, node->row.second_name, node->row.third_name};

	return names[map];
}

/* One adapter: which weights, which columns of y, which part of t. */
struct adapted {
	unsigned weight;
	size_t column, width;
	size_t kept; /* floats of t before it, for each token */
};

/* The next adapter at or after map *map; false: there is none. */
static bool next_adapted(const struct node *node, unsigned *map,
			 struct adapted *adapted)
{
	size_t rank = node->row.rank;

	for (; *map < NODE_MAPS_MAX; ++*map) {
		if (map_name(node, *map))
			break;
	}
	if (*map == NODE_MAPS_MAX)
		return false;
	*adapted = (struct adapted){.width = node->row.map_widths[*map]};
	for (unsigned before = 0; before < *map; before++) {
		adapted->column += node->row.map_widths[before];
		if (map_name(node, before)) {
			adapted->weight += PER_MAP;
			adapted->kept += rank;
		}
	}
	++*map;
	return true;
}

static unsigned adapter_declare(const struct node *node,
				struct parameter rows[NODE_WEIGHTS_MAX])
{
	struct adapted adapted;
	unsigned map = 0;
	unsigned count = 0;

	while (next_adapted(node, &map, &adapted)) {
		const char *name = map_name(node, map - 1);

		parameter_matrix(&rows[count + A], name, "lora_A.weight",
				 node->row.rank, node->input_width[X],
				 node->row.deviation);
		parameter_matrix(&rows[count + B], name, "lora_B.weight",
				 adapted.width, node->row.rank, 0.0f);
		rows[count + B].initialiser = INITIALISE_ZEROS;
		count += PER_MAP;
	}
	return count;
}

static size_t adapter_statistics_width(const struct node *node)
{
	struct adapted adapted;
	unsigned map = 0;
	size_t width = 0;

	while (next_adapted(node, &map, &adapted))
		width += node->row.rank;
	return width;
}

/* dt. */
static size_t adapter_scratch_bytes(const struct node *node,
				    enum primitive_pass pass, size_t batch,
				    size_t time, enum layer_mode mode,
				    unsigned threads)
{
	(void)mode;
	(void)threads;
	if (pass == PASS_FORWARD)
		return 0;
	return batch * time * node->row.rank * sizeof(float);
}

static void adapter_cost(const struct node *node, size_t batch, size_t time,
			 struct layer_cost *cost)
{
	struct adapted adapted;
	unsigned map = 0;

	while (next_adapted(node, &map, &adapted)) {
		double down = 2.0 * (double)(batch * time) *
			      (double)node->input_width[X] *
			      (double)node->row.rank;
		double up = 2.0 * (double)(batch * time) *
			    (double)adapted.width * (double)node->row.rank;

		cost->forward += down + up;
		cost->backward_input += down + up;
		cost->backward_weight += down + 2.0 * up;
	}
}

static void adapter_forward(const struct node *node,
			    const struct layer_context *context,
			    const struct operands *operands)
{
	size_t tokens = context_tokens(context), rank = node->row.rank;
	size_t in = node->input_width[X], out = node->output_width;
	struct adapted adapted;
	unsigned map = 0;

	elementwise_copy(context->threads, tokens * out, operands->input[Y],
			 operands->output);
	while (next_adapted(node, &map, &adapted)) {
		float *t = operands->statistics + adapted.kept * tokens;
		float *z = (float *)operands->output + adapted.column;

		gemm(context->threads, GEMM_NORMAL, GEMM_TRANSPOSED, tokens,
		     rank, in, operands->input[X], in,
		     operands->weights[adapted.weight + A], in, 0.0f, t, rank,
		     NULL);
		elementwise_scale(context->threads, tokens * rank,
				  node->row.scale, t, t);
		gemm(context->threads, GEMM_NORMAL, GEMM_TRANSPOSED, tokens,
		     adapted.width, rank, t, rank,
		     operands->weights[adapted.weight + B], rank, 1.0f, z, out,
		     NULL);
	}
}

/* dt = s dz B. */
static void adapter_rank_gradient(const struct node *node,
				  const struct layer_context *context,
				  const struct operands *operands,
				  const struct adapted *adapted, float *dt)
{
	size_t tokens = context_tokens(context), rank = node->row.rank;
	const float *dz =
		(const float *)operands->output_gradient + adapted->column;

	gemm(context->threads, GEMM_NORMAL, GEMM_NORMAL, tokens, rank,
	     adapted->width, dz, node->output_width,
	     operands->weights[adapted->weight + B], rank, 0.0f, dt, rank,
	     NULL);
	elementwise_scale(context->threads, tokens * rank, node->row.scale, dt,
			  dt);
}

static void adapter_backward_input(const struct node *node,
				   const struct layer_context *context,
				   const struct operands *operands)
{
	size_t tokens = context_tokens(context), in = node->input_width[X];
	float *dt = operands->scratch, *dx = operands->input_gradient[X];
	bool add = operands->add[X];
	struct adapted adapted;
	unsigned map = 0;

	if (operands->input_gradient[Y])
		elementwise_copy(context->threads, tokens * node->output_width,
				 operands->output_gradient,
				 operands->input_gradient[Y]);
	if (!dx)
		return;
	while (next_adapted(node, &map, &adapted)) {
		adapter_rank_gradient(node, context, operands, &adapted, dt);
		gemm(context->threads, GEMM_NORMAL, GEMM_NORMAL, tokens, in,
		     node->row.rank, dt, node->row.rank,
		     operands->weights[adapted.weight + A], in,
		     add ? 1.0f : 0.0f, dx, in, NULL);
		add = true;
	}
}

static void adapter_backward_weight(const struct node *node,
				    const struct layer_context *context,
				    const struct operands *operands)
{
	size_t tokens = context_tokens(context), rank = node->row.rank;
	size_t in = node->input_width[X], out = node->output_width;
	float *const *gradients = operands->gradients;
	struct adapted adapted;
	unsigned map = 0;

	while (next_adapted(node, &map, &adapted)) {
		const float *t = operands->statistics + adapted.kept * tokens;
		const float *dz = (const float *)operands->output_gradient +
				  adapted.column;
		float *dt = operands->scratch;

		gemm(context->threads, GEMM_TRANSPOSED, GEMM_NORMAL,
		     adapted.width, rank, tokens, dz, out, t, rank, 1.0f,
		     gradients[adapted.weight + B], rank, NULL);
		adapter_rank_gradient(node, context, operands, &adapted, dt);
		gemm(context->threads, GEMM_TRANSPOSED, GEMM_NORMAL, rank, in,
		     tokens, dt, rank, operands->input[X], in, 1.0f,
		     gradients[adapted.weight + A], in, NULL);
	}
}

static bool adapter_passes_gradient(const struct node *node, unsigned input)
{
	(void)node;
	return input == Y;
}

static bool adapter_adds(const struct node *node)
{
	(void)node;
	return true;
}

const struct primitive_ops adapter_ops = {
	.name = "adapter",
	.inputs = 2,
	.backward_weight_reads = READS_INPUT(X),
	.adds = adapter_adds,
	.passes_gradient = adapter_passes_gradient,
	.declare = adapter_declare,
	.statistics_width = adapter_statistics_width,
	.scratch_bytes = adapter_scratch_bytes,
	.cost = adapter_cost,
	.forward = adapter_forward,
	.backward_input = adapter_backward_input,
	.backward_weight = adapter_backward_weight,
};
