#include "model/layers/layer.h"
#include "model/kernels/values.h"
#include "model/layers/plan.h"
#include "model/layers/primitive.h"
#include "model/layers/product.h"
#include <string.h>

static size_t round_up_64(size_t bytes)
{
	return (bytes + 63) / 64 * 64;
}

static size_t edge_entry_bytes(const struct edge_entry *entry, size_t batch,
			       size_t time)
{
	size_t elements = batch * (time * entry->per_token + entry->per_sample);

	return round_up_64(elements * element_type_bytes(entry->type));
}

size_t edge_bytes(const struct edge *edge, size_t batch, size_t time)
{
	size_t bytes = 0;

	for (unsigned e = 0; e < edge->count; e++)
		bytes += edge_entry_bytes(&edge->entry[e], batch, time);
	return bytes;
}

size_t edge_gradient_bytes(const struct edge *edge, size_t batch, size_t time)
{
	size_t bytes = 0;

	for (unsigned e = 0; e < edge->count; e++)
		if (edge->entry[e].needs_gradient)
			bytes += edge_entry_bytes(&edge->entry[e], batch, time);
	return bytes;
}

bool edge_equal(const struct edge *a, const struct edge *b)
{
	if (a->count != b->count)
		return false;
	for (unsigned e = 0; e < a->count; e++) {
		const struct edge_entry *x = &a->entry[e], *y = &b->entry[e];

		if (strcmp(x->name, y->name) != 0 || x->type != y->type ||
		    x->per_token != y->per_token ||
		    x->per_sample != y->per_sample ||
		    x->needs_gradient != y->needs_gradient)
			return false;
	}
	return true;
}

static void leave_values(void *argument, float *values, size_t count)
{
	(void)argument;
	(void)values;
	(void)count;
}

struct layer_collectives layer_collectives_alone(unsigned slices,
						 unsigned slice)
{
	return (struct layer_collectives){
		.slices = slices,
		.slice = slice,
		.sum = leave_values,
		.maximum = leave_values,
	};
}

/* ---- sizes ---- */

static size_t graph_operation_scratch(const struct graph *graph,
				      enum primitive_pass pass, size_t batch,
				      size_t time, enum layer_mode mode,
				      unsigned threads)
{
	size_t most = 0;

	for (unsigned i = 0; i < graph->nodes; i++) {
		const struct node *node = &graph->node[i];

		if (node->row.ops->scratch_bytes)
			most = MAX(most, node->row.ops->scratch_bytes(
						 node, pass, batch, time, mode,
						 threads));
	}
	return round_up_64(most);
}

static const struct pieces *graph_scratch(const struct graph *graph,
					  enum primitive_pass pass,
					  enum layer_mode mode)
{
	if (pass == PASS_INPUT)
		return &graph->input_scratch;
	if (pass == PASS_WEIGHT)
		return &graph->weight_scratch;
	return mode == LAYER_TRAIN ? &graph->train.scratch
				   : &graph->other.scratch;
}

static size_t graph_scratch_bytes(const struct graph *graph,
				  enum primitive_pass pass, size_t batch,
				  size_t time, enum layer_mode mode,
				  unsigned threads)
{
	const struct pieces *pieces = graph_scratch(graph, pass, mode);

	return pieces_offset(pieces, pieces->count, batch * time) +
	       graph_operation_scratch(graph, pass, batch, time, mode, threads);
}

void layer_memory(const struct layer *layer, size_t batch, size_t time,
		  enum layer_mode mode, unsigned threads,
		  struct layer_memory *out)
{
	const struct graph *graph = layer->graph;
	struct layer_memory memory = {0};
	size_t tokens = batch * time;

	memory.scratch_bytes = graph_scratch_bytes(graph, PASS_FORWARD, batch,
						   time, mode, threads);
	if (mode == LAYER_TRAIN) {
		memory.saved_bytes = pieces_offset(&graph->saved,
						   graph->saved.count, tokens);
		memory.pending_bytes = pieces_offset(
			&graph->pending, graph->pending.count, tokens);
		for (int pass = PASS_INPUT; pass <= PASS_WEIGHT; pass++)
			memory.backward_scratch_bytes =
				MAX(memory.backward_scratch_bytes,
				    graph_scratch_bytes(graph, pass, batch,
							time, mode, threads));
		memory.scratch_bytes = MAX(memory.scratch_bytes,
					   memory.backward_scratch_bytes);
	}
	for (unsigned i = 0; mode == LAYER_DECODE && i < graph->nodes; i++) {
		const struct node *node = &graph->node[i];

		if (node->row.ops->cache_bytes)
			memory.cache_bytes += round_up_64(
				node->row.ops->cache_bytes(node, batch));
	}
	*out = memory;
}

void layer_cost(const struct layer *layer, size_t batch, size_t time,
		struct layer_cost *out)
{
	const struct graph *graph = layer->graph;

	*out = (struct layer_cost){0};
	for (unsigned i = 0; i < graph->nodes; i++) {
		const struct node *node = &graph->node[i];

		if (node->row.ops->cost)
			node->row.ops->cost(node, batch, time, out);
	}
}

bool layer_operation(const struct layer *layer, unsigned i,
		     struct layer_operation *out)
{
	const struct node *node = &layer->graph->node[i];

	if (i >= layer->graph->nodes)
		return false;
	*out = (struct layer_operation){
		.kind = node->row.ops->name,
		.name = node->row.name,
		.first_parameter = layer->first_parameter + node->first_weight,
		.parameters = node->weights,
	};
	return true;
}

void layer_exchanges(const struct layer *layer, size_t batch, size_t time,
		     enum layer_mode mode, struct layer_exchanges *out)
{
	const struct graph *graph = layer->graph;

	*out = (struct layer_exchanges){0};
	for (unsigned i = 0; i < graph->nodes; i++) {
		const struct node *node = &graph->node[i];

		if (node->slices == 1 || !node->row.ops->exchange)
			continue;
		node->row.ops->exchange(node, PASS_FORWARD, batch, time, mode,
					&out->forward);
		if (mode == LAYER_TRAIN)
			node->row.ops->exchange(node, PASS_INPUT, batch, time,
						mode, &out->backward_input);
	}
}

void exchange_add(struct layer_exchange *exchange, size_t floats)
{
	exchange->calls++;
	exchange->floats += floats;
	exchange->largest = MAX(exchange->largest, floats);
}

static bool node_is_alike(const struct node *a, const struct node *b)
{
	const struct graph_row *x = &a->row, *y = &b->row;

	return x->ops == y->ops && a->type == b->type &&
	       a->inputs == b->inputs &&
	       memcmp(x->input, y->input, sizeof(x->input)) == 0 &&
	       memcmp(a->input_width, b->input_width, sizeof(a->input_width)) ==
		       0 &&
	       x->output == y->output && a->output_width == b->output_width &&
	       a->statistics_width == b->statistics_width &&
	       a->slices == b->slices && a->weights == b->weights &&
	       x->bias == y->bias && x->layout == y->layout &&
	       x->split_parts == y->split_parts &&
	       (x->dropout > 0) == (y->dropout > 0) && x->heads == y->heads &&
	       x->kv_heads == y->kv_heads && x->head_size == y->head_size &&
	       memcmp(x->map_widths, y->map_widths, sizeof(x->map_widths)) ==
		       0 &&
	       x->rank == y->rank && a->trained == b->trained &&
	       x->context == y->context && x->window == y->window;
}

/* Where values live follows from the operations. */
bool layer_is_alike(const struct layer *a, const struct layer *b)
{
	const struct graph *x = a->graph, *y = b->graph;

	if (x->nodes != y->nodes || x->values != y->values ||
	    a->columns != b->columns || !edge_equal(&a->input, &b->input) ||
	    !edge_equal(&a->output, &b->output))
		return false;
	for (unsigned i = 0; i < x->nodes; i++)
		if (!node_is_alike(&x->node[i], &y->node[i]))
			return false;
	return true;
}

static int prepare_nodes(const struct layer *layer, size_t batch, size_t time,
			 enum layer_mode mode, const struct product_team *team)
{
	const struct graph *graph = layer->graph;

	for (unsigned i = 0; i < graph->nodes; i++) {
		const struct node *node = &graph->node[i];
		int error = 0;

		if (node->row.ops->prepare)
			error = node->row.ops->prepare(node, batch, time, mode,
						       team);
		if (error)
			return error;
	}
	return 0;
}

int layer_prepare(const struct layer *layer, size_t batch, size_t time,
		  enum layer_mode mode, struct threads *threads)
{
	struct product_team team = {.threads = threads};

	return prepare_nodes(layer, batch, time, mode, &team);
}

void layer_count_work(const struct layer *layer, size_t batch, size_t time,
		      enum layer_mode mode, unsigned threads,
		      struct gemm_bfloat16_work *work)
{
	struct product_team team = {.count = threads, .work = work};
	int error = prepare_nodes(layer, batch, time, mode, &team);

	ASSERT(error == 0);
}

/* ---- carrying the plan out ---- */

/* One call of a layer: what places refer to. */
struct frame {
	const struct graph *graph;
	const struct layer_context *context;
	const struct layer_buffers *buffers;
	const struct forward_plan *forward;
	const struct pieces *scratch;
	void *const *weights;
	float *const *gradients;
};

static struct frame frame_begin(const struct layer *layer,
				enum primitive_pass pass,
				const struct layer_context *context,
				const struct layer_buffers *buffers,
				void *const *weights, float *const *gradients)
{
	const struct graph *graph = layer->graph;
	bool train = context->mode == LAYER_TRAIN;

	ASSERT(train || pass == PASS_FORWARD);
	return (struct frame){
		.graph = graph,
		.context = context,
		.buffers = buffers,
		.forward = train ? &graph->train : &graph->other,
		.scratch = graph_scratch(graph, pass, context->mode),
		.weights = weights,
		.gradients = gradients,
	};
}

static void *piece_pointer(const struct frame *frame, void *region,
			   const struct pieces *pieces, unsigned piece)
{
	size_t tokens = context_tokens(frame->context);
	unsigned char *base = region;

	ASSERT(base);
	return (void *)(base + pieces_offset(pieces, piece, tokens));
}

static void *place_pointer(const struct frame *frame, struct place place)
{
	const struct layer_buffers *buffers = frame->buffers;

	switch (place.region) {
	case REGION_NONE:
		return NULL;
	case REGION_INPUT:
		return (void *)(uintptr_t)buffers->input;
	case REGION_OUTPUT:
		return buffers->output;
	case REGION_SAVED:
		return piece_pointer(frame, buffers->saved,
				     &frame->graph->saved, place.piece);
	case REGION_PENDING:
		return piece_pointer(frame, buffers->pending,
				     &frame->graph->pending, place.piece);
	case REGION_SCRATCH:
		return piece_pointer(frame, frame->context->scratch,
				     frame->scratch, place.piece);
	case REGION_INPUT_GRADIENT:
		return buffers->input_gradient;
	case REGION_OUTPUT_GRADIENT:
		return (void *)(uintptr_t)buffers->output_gradient;
	}
	ASSERT(!"a place in no region");
	return NULL;
}

/* What every pass gives a node: its parameters, and scratch of its own. */
static struct operands frame_operands(const struct frame *frame,
				      const struct node *node)
{
	struct operands operands = {0};

	if (node->weights > 0) {
		operands.weights = &frame->weights[node->first_weight];
		if (frame->gradients)
			operands.gradients =
				&frame->gradients[node->first_weight];
	}
	if (node->row.ops->scratch_bytes && frame->context->scratch)
		operands.scratch =
			piece_pointer(frame, frame->context->scratch,
				      frame->scratch, frame->scratch->count);
	return operands;
}

void layer_forward(const struct layer *layer, void *const *weights,
		   float *const *gradients, const struct layer_context *context,
		   const struct layer_buffers *buffers)
{
	struct frame frame = frame_begin(layer, PASS_FORWARD, context, buffers,
					 weights, gradients);
	const struct graph *graph = frame.graph;
	const struct forward_plan *plan = frame.forward;
	unsigned char *cache = buffers->cache;

	for (unsigned i = 0; i < graph->nodes; i++) {
		const struct node *node = &graph->node[i];
		struct operands operands = frame_operands(&frame, node);

		for (unsigned k = 0; k < node->inputs; k++)
			operands.input[k] = place_pointer(
				&frame, plan->value[node->row.input[k]]);
		operands.output =
			node->row.output == VALUE_NONE
				? buffers->output
				: place_pointer(&frame,
						plan->value[node->row.output]);
		operands.statistics =
			place_pointer(&frame, plan->statistics[i]);
		if (node->row.ops->stores_gradient &&
		    context->mode == LAYER_TRAIN)
			operands.input_gradient[0] =
				place_pointer(&frame, graph->stored);
		if (context->mode == LAYER_DECODE &&
		    node->row.ops->cache_bytes) {
			operands.cache = cache;
			cache += round_up_64(node->row.ops->cache_bytes(
				node, context->batch));
		}
		node->row.ops->forward(node, context, &operands);
		layer_breathe(context);
	}
}

/* A value of the forward that a later pass reads: kept, not in scratch. */
static void *frame_kept_value(const struct frame *frame, unsigned value)
{
	struct place place = frame->graph->train.value[value];

	ASSERT(place.region == REGION_INPUT || place.region == REGION_SAVED);
	return place_pointer(frame, place);
}

/* Readies the gradients of a node's inputs; false if none is wanted. */
static bool frame_begin_gradients(const struct frame *frame, unsigned i,
				  struct operands *operands)
{
	const struct node *node = &frame->graph->node[i];
	const struct node_gradients *gradients = &frame->graph->gradients[i];
	bool wanted = false;

	for (unsigned k = 0; k < node->inputs; k++) {
		void *sum = place_pointer(frame, gradients->sum[k]);
		void *part = place_pointer(frame, gradients->part[k]);
		void *whole = place_pointer(frame, gradients->input[k]);

		/* Nor may the engine want the gradient of the edge. */
		if (!whole)
			continue;
		operands->input_gradient[k] = part ? part : whole;
		operands->add[k] = node->adds[k];
		if (operands->add[k] && sum != whole)
			values_copy(frame->context->threads, node->type,
				    context_tokens(frame->context) *
					    node->input_width[k],
				    sum, whole);
		wanted = true;
	}
	return wanted;
}

/* Adds the parts that stand apart to what there was. */
static void frame_end_gradients(const struct frame *frame, unsigned i)
{
	const struct node *node = &frame->graph->node[i];
	const struct node_gradients *gradients = &frame->graph->gradients[i];

	for (unsigned k = 0; k < node->inputs; k++) {
		void *sum = place_pointer(frame, gradients->sum[k]);
		void *part = place_pointer(frame, gradients->part[k]);
		void *whole = place_pointer(frame, gradients->input[k]);

		if (whole && part)
			values_add(frame->context->threads, node->type,
				   context_tokens(frame->context) *
					   node->input_width[k],
				   sum, part, whole);
	}
}

void layer_backward_input(const struct layer *layer, void *const *weights,
			  const struct layer_context *context,
			  const struct layer_buffers *buffers)
{
	struct frame frame =
		frame_begin(layer, PASS_INPUT, context, buffers, weights, NULL);
	const struct graph *graph = frame.graph;

	for (unsigned i = graph->nodes; i-- > 0;) {
		const struct node *node = &graph->node[i];
		const struct primitive_ops *ops = node->row.ops;
		struct operands operands = frame_operands(&frame, node);

		if (!ops->backward_input ||
		    !frame_begin_gradients(&frame, i, &operands))
			continue;
		for (unsigned k = 0; k < node->inputs; k++)
			if (ops->backward_input_reads & READS_INPUT(k))
				operands.input[k] = frame_kept_value(
					&frame, node->row.input[k]);
		if (ops->backward_input_reads & READS_OUTPUT)
			operands.output =
				frame_kept_value(&frame, node->row.output);
		operands.statistics =
			place_pointer(&frame, graph->train.statistics[i]);
		operands.output_gradient =
			place_pointer(&frame, graph->gradients[i].output);
		operands.pending =
			place_pointer(&frame, graph->gradients[i].pending);
		ops->backward_input(node, context, &operands);
		frame_end_gradients(&frame, i);
		layer_breathe(context);
	}
}

/* Runs a cheap node's forward once more, into W's scratch. */
static void *frame_remake(const struct frame *frame, unsigned value)
{
	const struct graph *graph = frame->graph;
	const struct node *node = &graph->node[graph->producer[value]];
	struct operands operands = frame_operands(frame, node);

	for (unsigned k = 0; k < node->inputs; k++)
		operands.input[k] = frame_kept_value(frame, node->row.input[k]);
	operands.output = place_pointer(
		frame, (struct place){REGION_SCRATCH, REMADE_VALUE});
	/* The saved ones stay as they are, even to be written the same. */
	operands.statistics = place_pointer(
		frame, (struct place){REGION_SCRATCH, REMADE_STATISTICS});
	node->row.ops->forward(node, frame->context, &operands);
	return operands.output;
}

static bool node_is_frozen(const struct operands *operands, unsigned weights)
{
	for (unsigned w = 0; w < weights; w++)
		if (operands->gradients[w])
			return false;
	return true;
}

void layer_backward_weight(const struct layer *layer, void *const *weights,
			   float *const *gradients,
			   const struct layer_context *context,
			   const struct layer_buffers *buffers)
{
	struct frame frame = frame_begin(layer, PASS_WEIGHT, context, buffers,
					 weights, gradients);
	const struct graph *graph = frame.graph;
	unsigned remade = VALUE_NONE; /* what the scratch holds */

	for (unsigned i = graph->nodes; i-- > 0;) {
		const struct node *node = &graph->node[i];
		const struct primitive_ops *ops = node->row.ops;
		struct operands operands = frame_operands(&frame, node);

		if (!ops->backward_weight ||
		    node_is_frozen(&operands, node->weights))
			continue;
		for (unsigned k = 0; k < node->inputs; k++) {
			unsigned value = node->row.input[k];

			if (!(ops->backward_weight_reads & READS_INPUT(k)))
				continue;
			if (graph->remade[value] && remade != value) {
				operands.input[k] = frame_remake(&frame, value);
				remade = value;
			} else if (graph->remade[value]) {
				operands.input[k] = place_pointer(
					&frame, (struct place){REGION_SCRATCH,
							       REMADE_VALUE});
			} else {
				operands.input[k] =
					frame_kept_value(&frame, value);
			}
		}
		operands.statistics =
			place_pointer(&frame, graph->train.statistics[i]);
		operands.output_gradient =
			place_pointer(&frame, graph->gradients[i].output);
		operands.pending =
			place_pointer(&frame, graph->gradients[i].pending);
		ops->backward_weight(node, context, &operands);
		layer_breathe(context);
	}
}
