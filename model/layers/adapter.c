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
#include "model/kernels/values.h"
#include "model/layers/primitive.h"
#include "model/layers/product.h"

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

/*
 * A product's floats before they are rounded, and dt in the values' type, one
 * behind the other.
 */
static size_t adapter_scratch_bytes(const struct node *node,
				    enum primitive_pass pass, size_t batch,
				    size_t time, enum layer_mode mode,
				    unsigned threads)
{
	(void)pass;
	(void)mode;
	(void)threads;
	return 2 * batch * time * node->row.rank * sizeof(float);
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

/* ---- the products of one adapter ---- */

enum {
	DOWN,          /* t' = x A^T */
	UP,            /* z += t B^T */
	DOWN_GRADIENT, /* dt' = dz B */
	UP_GRADIENT,   /* dB += dz^T t */
	INPUT_GRADIENT,
	MATRIX_GRADIENT, /* dA += dt^T x */
	PRODUCTS,
};

static struct product adapter_product(const struct node *node, unsigned which,
				      const struct adapted *adapted,
				      size_t tokens, bool add)
{
	size_t rank = node->row.rank, in = node->input_width[X];
	size_t out = node->output_width, width = adapted->width;
	struct product products[PRODUCTS] = {
		[DOWN] = {.transpose_b = GEMM_TRANSPOSED,
			  .m = tokens,
			  .n = rank,
			  .k = in,
			  .lda = in,
			  .ldb = in,
			  .ldc = rank,
			  .c_type = ELEMENT_F32},
		[UP] = {.transpose_b = GEMM_TRANSPOSED,
			.m = tokens,
			.n = width,
			.k = rank,
			.lda = rank,
			.ldb = rank,
			.ldc = out,
			.c_type = node->type,
			.add = true},
		[DOWN_GRADIENT] = {.m = tokens,
				   .n = rank,
				   .k = width,
				   .lda = out,
				   .ldb = rank,
				   .ldc = rank,
				   .c_type = ELEMENT_F32},
		[UP_GRADIENT] = {.transpose_a = GEMM_TRANSPOSED,
				 .m = width,
				 .n = rank,
				 .k = tokens,
				 .lda = out,
				 .ldb = rank,
				 .ldc = rank,
				 .c_type = ELEMENT_F32,
				 .add = true},
		[INPUT_GRADIENT] = {.m = tokens,
				    .n = in,
				    .k = rank,
				    .lda = rank,
				    .ldb = in,
				    .ldc = in,
				    .c_type = node->type,
				    .add = add},
		[MATRIX_GRADIENT] = {.transpose_a = GEMM_TRANSPOSED,
				     .m = rank,
				     .n = in,
				     .k = tokens,
				     .lda = rank,
				     .ldb = in,
				     .ldc = in,
				     .c_type = ELEMENT_F32,
				     .add = true},
	};

	products[which].type = node->type;
	return products[which];
}

static void run(const struct node *node, const struct layer_context *context,
		unsigned which, const struct adapted *adapted, bool add,
		const void *a, const void *b, void *c)
{
	struct product product = adapter_product(node, which, adapted,
						 context_tokens(context), add);

	product_run(context->threads, &product, a, b, c, NULL);
}

static int adapter_prepare(const struct node *node, size_t batch, size_t time,
			   enum layer_mode mode,
			   const struct product_team *team)
{
	unsigned last = mode == LAYER_TRAIN ? PRODUCTS : UP + 1;
	struct adapted adapted;
	unsigned map = 0;
	int rc = 0;

	while (next_adapted(node, &map, &adapted))
		for (unsigned i = 0; !rc && i < 2 * last; i++) {
			struct product product = adapter_product(
				node, i / 2, &adapted, batch * time, i % 2);

			rc = product_prepare(team, &product);
		}
	return rc;
}

/* ---- passes ---- */

/* Where a thing of the values' type stands, elements behind `base`. */
static void *at(const struct node *node, const void *base, size_t elements)
{
	return (unsigned char *)(uintptr_t)base +
	       elements * element_type_bytes(node->type);
}

/* floats[tokens, rank] times s, in the values' type; `out` may be `floats`. */
static void scale(const struct node *node, const struct layer_context *context,
		  float *floats, void *out)
{
	size_t count = context_tokens(context) * node->row.rank;

	elementwise_scale(context->threads, count, node->row.scale, floats,
			  floats);
	if (node->type == ELEMENT_BF16)
		values_round(context->threads, count, floats, out);
}

static void adapter_forward(const struct node *node,
			    const struct layer_context *context,
			    const struct operands *operands)
{
	size_t tokens = context_tokens(context);
	bool rounds = node->type == ELEMENT_BF16;
	struct adapted adapted;
	unsigned map = 0;

	values_copy(context->threads, node->type, tokens * node->output_width,
		    operands->input[Y], operands->output);
	while (next_adapted(node, &map, &adapted)) {
		float *t = operands->statistics + adapted.kept * tokens;
		float *floats = rounds ? operands->scratch : t;
		void *const *weights = &operands->weights[adapted.weight];

		run(node, context, DOWN, &adapted, false, operands->input[X],
		    weights[A], floats);
		scale(node, context, floats, t);
		run(node, context, UP, &adapted, true, t, weights[B],
		    at(node, operands->output, adapted.column));
	}
}

/* dt = s dz B, in scratch. */
static void *rank_gradient(const struct node *node,
			   const struct layer_context *context,
			   const struct operands *operands,
			   const struct adapted *adapted)
{
	float *floats = operands->scratch;
	void *dt = node->type == ELEMENT_BF16
			   ? floats + context_tokens(context) * node->row.rank
			   : floats;

	run(node, context, DOWN_GRADIENT, adapted, false,
	    at(node, operands->output_gradient, adapted->column),
	    operands->weights[adapted->weight + B], floats);
	scale(node, context, floats, dt);
	return dt;
}

static void adapter_backward_input(const struct node *node,
				   const struct layer_context *context,
				   const struct operands *operands)
{
	size_t tokens = context_tokens(context);
	bool add = operands->add[X];
	struct adapted adapted;
	unsigned map = 0;

	if (operands->input_gradient[Y])
		values_copy(context->threads, node->type,
			    tokens * node->output_width,
			    operands->output_gradient,
			    operands->input_gradient[Y]);
	if (!operands->input_gradient[X])
		return;
	while (next_adapted(node, &map, &adapted)) {
		const void *dt =
			rank_gradient(node, context, operands, &adapted);

		run(node, context, INPUT_GRADIENT, &adapted, add, dt,
		    operands->weights[adapted.weight + A],
		    operands->input_gradient[X]);
		add = true;
	}
}

static void adapter_backward_weight(const struct node *node,
				    const struct layer_context *context,
				    const struct operands *operands)
{
	size_t tokens = context_tokens(context);
	struct adapted adapted;
	unsigned map = 0;

	while (next_adapted(node, &map, &adapted)) {
		float *const *gradients = &operands->gradients[adapted.weight];
		const void *dt;

		run(node, context, UP_GRADIENT, &adapted, true,
		    at(node, operands->output_gradient, adapted.column),
		    operands->statistics + adapted.kept * tokens, gradients[B]);
		dt = rank_gradient(node, context, operands, &adapted);
		run(node, context, MATRIX_GRADIENT, &adapted, true, dt,
		    operands->input[X], gradients[A]);
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
	.prepare = adapter_prepare,
	.cost = adapter_cost,
	.forward = adapter_forward,
	.backward_input = adapter_backward_input,
	.backward_weight = adapter_backward_weight,
};
