/*
 * Causal self-attention over a packed row [q | k | v]: H heads of D values of
 * queries, then K heads of keys, then K of values. Kept for I: the packed row,
 * the output, and one float a query and head.
 *
 * Decoding keeps keys and values of all positions so far in the cache: [B,
 * context, K D] of keys, then the same of values.
 *
 * A slice has heads of its own, and nothing to exchange.
 */
#include "model/kernels/attention.h"
#include "base/math.h"
#include "model/kernels/dropout.h"
#include "model/kernels/values.h"
#include "model/layers/primitive.h"
#include "model/layers/product.h"

#include <string.h>

struct packing {
	size_t query_width; /* H D */
	size_t key_width;   /* K D */
	size_t row;         /* of the packed value */
};

static struct packing node_packing(const struct node *node)
{
	size_t query = (size_t)node->row.heads * node->row.head_size;
	size_t key = (size_t)node->row.kv_heads * node->row.head_size;

	return (struct packing){query, key, query + 2 * key};
}

static struct attention_shape node_shape(const struct node *node, size_t batch,
					 size_t time)
{
	struct packing packing = node_packing(node);
	struct attention_layout packed = {packing.row, packing.row * time};
	double head_size = node->row.head_size;

	return (struct attention_shape){
		.type = node->type,
		.batch = batch,
		.time_q = time,
		.time_k = time,
		.heads = node->row.heads,
		.first_head = (size_t)node->slice * node->row.heads,
		.kv_heads = node->row.kv_heads,
		.head_size = node->row.head_size,
		.causal = true,
		.window = node->row.window < time ? node->row.window : 0,
		.scale = (float)(1.0 / math_sqrt(head_size)),
		.q = packed,
		.k = packed,
		.v = packed,
		.out = {packing.query_width, packing.query_width * time},
	};
}

/* The same with keys and values from a cache of `context` positions. */
static struct attention_shape node_cached_shape(const struct node *node,
						size_t batch, size_t time,
						size_t position_offset)
{
	struct attention_shape shape = node_shape(node, batch, time);
	size_t width = node_packing(node).key_width;

	shape.time_k = position_offset + time;
	shape.window = node->row.window < shape.time_k ? node->row.window : 0;
	shape.position_offset = position_offset;
	shape.k = (struct attention_layout){width, width * node->row.context};
	shape.v = shape.k;
	return shape;
}

static size_t attention_statistics_width(const struct node *node)
{
	return node->row.heads;
}

static size_t attention_node_scratch_bytes(const struct node *node,
					   enum primitive_pass pass,
					   size_t batch, size_t time,
					   enum layer_mode mode,
					   unsigned threads)
{
	struct attention_shape shape = node_shape(node, batch, time);

	if (pass == PASS_WEIGHT)
		return 0;
	if (mode == LAYER_DECODE) {
		size_t past =
			node->row.context > time ? node->row.context - time : 0;

		shape = node_cached_shape(node, batch, time, past);
	}
	return attention_scratch_bytes(&shape, pass == PASS_INPUT, threads);
}

static int attention_node_prepare(const struct node *node, size_t batch,
				  size_t time, enum layer_mode mode,
				  const struct product_team *team)
{
	struct attention_shape shape = node_shape(node, batch, time);

	(void)mode;
	/* What it packs is in the layer's scratch. */
	return team->threads ? attention_prepare(team->threads, &shape) : 0;
}

static size_t attention_cache_bytes(const struct node *node, size_t batch)
{
	return 2 * batch * node->row.context * node_packing(node).key_width *
	       element_type_bytes(node->type);
}

/*
 * Query i meets i + 1 keys, or a window of them, twice (scores, values);
 * backward five products.
 */
static void attention_cost(const struct node *node, size_t batch, size_t time,
			   struct layer_cost *cost)
{
	size_t window = node->row.window;
	size_t far = window > 0 && window < time ? time - window : 0;
	double pairs = (double)time * (double)(time + 1) / 2.0 -
		       (double)far * (double)(far + 1) / 2.0;
	double product = 2.0 * (double)batch * pairs *
			 (double)node_packing(node).query_width;

	cost->forward += 2.0 * product;
	cost->backward_input += 5.0 * product;
}

/* Puts the keys and values of the new tokens behind those of the past. */
static void attention_extend_cache(const struct node *node,
				   const struct layer_context *context,
				   const void *packed, void *keys, void *values)
{
	struct packing packing = node_packing(node);
	enum element_type type = node->type;
	size_t width = packing.key_width;
	size_t bytes = width * element_type_bytes(type);

	for (size_t b = 0; b < context->batch; b++) {
		for (size_t t = 0; t < context->time; t++) {
			size_t key = (b * context->time + t) * packing.row +
				     packing.query_width;
			size_t at = (b * node->row.context +
				     context->position_offset + t) *
				    width;

			memcpy(values_at_mutable(type, keys, at),
			       values_at(type, packed, key), bytes);
			memcpy(values_at_mutable(type, values, at),
			       values_at(type, packed, key + width), bytes);
		}
	}
}

static void attention_decode(const struct node *node,
			     const struct layer_context *context,
			     const struct operands *operands)
{
	struct attention_shape shape = node_cached_shape(
		node, context->batch, context->time, context->position_offset);
	void *keys = operands->cache;
	void *values = values_at_mutable(node->type, keys,
					 context->batch * node->row.context *
						 node_packing(node).key_width);

	ASSERT(context->position_offset + context->time <= node->row.context);
	attention_extend_cache(node, context, operands->input[0], keys, values);
	attention_forward(context->threads, &shape, operands->input[0], keys,
			  values, operands->output, NULL, NULL,
			  operands->scratch);
}

static void attention_node_forward(const struct node *node,
				   const struct layer_context *context,
				   const struct operands *operands)
{
	struct packing packing = node_packing(node);
	struct attention_shape shape =
		node_shape(node, context->batch, context->time);
	struct dropout dropout = node_dropout(node, context);
	const void *q = operands->input[0];
	size_t key = packing.query_width;
	size_t value = packing.query_width + packing.key_width;

	if (context->mode == LAYER_DECODE) {
		attention_decode(node, context, operands);
		return;
	}
	shape.starts = context_starts(context);
	attention_forward(context->threads, &shape, q,
			  values_at(node->type, q, key),
			  values_at(node->type, q, value), operands->output,
			  operands->statistics, &dropout, operands->scratch);
}

static void attention_node_backward_input(const struct node *node,
					  const struct layer_context *context,
					  const struct operands *operands)
{
	struct packing packing = node_packing(node);
	struct attention_shape shape =
		node_shape(node, context->batch, context->time);
	struct dropout dropout = node_dropout(node, context);
	size_t key = packing.query_width;
	size_t value = packing.query_width + packing.key_width;
	const void *q = operands->input[0];
	void *dq = operands->input_gradient[0];

	shape.starts = context_starts(context);
	attention_backward(context->threads, &shape, q,
			   values_at(node->type, q, key),
			   values_at(node->type, q, value), operands->output,
			   operands->statistics, operands->output_gradient, dq,
			   values_at_mutable(node->type, dq, key),
			   values_at_mutable(node->type, dq, value), &dropout,
			   operands->scratch);
}

const struct primitive_ops attention_ops = {
	.name = "attention",
	.inputs = 1,
	.backward_input_reads = READS_INPUT(0) | READS_OUTPUT,
	.statistics_width = attention_statistics_width,
	.scratch_bytes = attention_node_scratch_bytes,
	.prepare = attention_node_prepare,
	.cache_bytes = attention_cache_bytes,
	.cost = attention_cost,
	.forward = attention_node_forward,
	.backward_input = attention_node_backward_input,
};
