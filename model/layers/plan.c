#include "model/layers/plan.h"
#include "model/layers/primitive.h"
#include <string.h>

static unsigned pieces_add(struct pieces *pieces, size_t per_token)
{
	ASSERT(pieces->count < PIECES_MAX);
	pieces->per_token[pieces->count] = per_token;
	return pieces->count++;
}

size_t pieces_offset(const struct pieces *pieces, unsigned piece, size_t tokens)
{
	size_t bytes = 0;

	for (unsigned p = 0; p < piece; p++) {
		size_t exact = pieces->per_token[p] * tokens + pieces->fixed[p];

		bytes += (exact + 63) / 64 * 64;
	}
	return bytes;
}

/*
 * Scratch shared over time: a piece serves one value after another. Moments
 * are numbers of nodes in the order a pass visits them, and pieces are taken
 * in that order.
 */
struct sharing {
	struct pieces *pieces;
	int busy_until[PIECES_MAX];
};

static struct place sharing_take(struct sharing *sharing, size_t bytes,
				 int from, int until)
{
	struct pieces *pieces = sharing->pieces;
	unsigned best = pieces->count;

	for (unsigned p = 0; p < pieces->count; p++) {
		if (sharing->busy_until[p] >= from)
			continue;
		/* The smallest that fits; failing that, the largest. */
		if (best == pieces->count ||
		    (pieces->per_token[best] < bytes
			     ? pieces->per_token[p] > pieces->per_token[best]
			     : pieces->per_token[p] >= bytes &&
				       pieces->per_token[p] <
					       pieces->per_token[best]))
			best = p;
	}
	if (best == pieces->count)
		pieces_add(pieces, bytes);
	pieces->per_token[best] = MAX(pieces->per_token[best], bytes);
	sharing->busy_until[best] = until;
	return (struct place){REGION_SCRATCH, best};
}

/* Bytes a token of a value, and of its gradient. */
static size_t value_bytes(const struct graph *graph, unsigned value)
{
	return graph->width[value] * element_type_bytes(graph->type);
}

static size_t statistics_bytes(const struct node *node)
{
	return node->statistics_width * sizeof(float);
}

static bool node_reads(const struct node *node, unsigned mask, unsigned value)
{
	for (unsigned k = 0; k < node->inputs; k++)
		if (node->row.input[k] == value && (mask & READS_INPUT(k)))
			return true;
	return node->row.output == value && (mask & READS_OUTPUT);
}

/* Does I, or does W, read this value of the forward? */
static bool backward_input_reads(const struct graph *graph, unsigned value)
{
	for (unsigned i = 0; i < graph->nodes; i++) {
		const struct node *node = &graph->node[i];

		if (node_reads(node, node->row.ops->backward_input_reads,
			       value))
			return true;
	}
	return false;
}

static bool backward_weight_reads(const struct graph *graph, unsigned value)
{
	for (unsigned i = 0; i < graph->nodes; i++) {
		const struct node *node = &graph->node[i];

		if (node->trained &&
		    node_reads(node, node->row.ops->backward_weight_reads,
			       value))
			return true;
	}
	return false;
}

/* Can W make this value again out of what it finds? */
static bool value_can_be_remade(const struct graph *graph, unsigned value)
{
	const struct node *node = &graph->node[graph->producer[value]];

	if (!node->row.ops->cheap)
		return false;
	for (unsigned k = 0; k < node->inputs; k++) {
		enum region region =
			graph->train.value[node->row.input[k]].region;

		if (region != REGION_INPUT && region != REGION_SAVED)
			return false;
	}
	return true;
}

static int value_last_use(const struct graph *graph, unsigned value)
{
	int last = (int)graph->producer[value];

	for (unsigned i = 0; i < graph->nodes; i++)
		if (node_reads(&graph->node[i], ~READS_OUTPUT, value))
			last = (int)i;
	return last;
}

/* The place of a value whose producer is at hand; values come in order. */
static struct place place_value(struct graph *graph, unsigned value,
				struct sharing *sharing, bool train)
{
	int from = (int)graph->producer[value];
	bool is_output = graph->has_output && value == graph->values - 1;

	if (train) {
		bool in_input = backward_input_reads(graph, value);
		bool in_weight = backward_weight_reads(graph, value);

		/* A layer's output is not the layer's to keep. */
		ASSERT(!is_output || (!in_input && !in_weight));
		graph->remade[value] = !in_input && in_weight &&
				       value_can_be_remade(graph, value);
		if ((in_input || in_weight) && !graph->remade[value])
			return (struct place){
				REGION_SAVED,
				pieces_add(&graph->saved,
					   value_bytes(graph, value))};
	}
	if (is_output)
		return (struct place){REGION_OUTPUT, 0};
	return sharing_take(sharing, value_bytes(graph, value), from,
			    value_last_use(graph, value));
}

static void plan_one_forward(struct graph *graph, struct forward_plan *plan,
			     bool train)
{
	struct sharing sharing = {.pieces = &plan->scratch};

	if (graph->has_input)
		plan->value[0] = (struct place){REGION_INPUT, 0};
	for (unsigned i = 0; i < graph->nodes; i++) {
		const struct node *node = &graph->node[i];

		if (node->row.output != VALUE_NONE)
			plan->value[node->row.output] = place_value(
				graph, node->row.output, &sharing, train);
		if (train && node->row.ops->stores_gradient)
			graph->stored = (struct place){
				REGION_SAVED,
				pieces_add(&graph->saved,
					   value_bytes(graph,
						       node->row.input[0]))};
		if (node->statistics_width == 0)
			continue;
		plan->statistics[i] =
			train ? (struct place){REGION_SAVED,
					       pieces_add(
						       &graph->saved,
						       statistics_bytes(node))}
			      : sharing_take(&sharing, statistics_bytes(node),
					     (int)i, (int)i);
	}
}

void plan_forward(struct graph *graph)
{
	plan_one_forward(graph, &graph->train, true);
	plan_one_forward(graph, &graph->other, false);
}

/*
 * Gradients are planned in two rounds: who holds each sum, and for how long;
 * then a place for every holder. A holder is named by the value whose gradient
 * it is; the loss's stored gradient has a name of its own.
 */
#define HOLDER_STORED GRAPH_VALUES_MAX
#define HOLDERS       (GRAPH_VALUES_MAX + 1)
#define HOLDER_NONE   VALUE_NONE

struct holder {
	bool pending; /* W reads it */
	int first;    /* moment of the first write; -1: never written by I */
	int last;     /* moment of the last use */
	struct place place;
};

struct node_holders {
	unsigned output;
	unsigned sum[NODE_INPUTS_MAX];
	unsigned input[NODE_INPUTS_MAX];
};

struct gradient_planning {
	struct graph *graph;
	struct holder holder[HOLDERS];
	struct node_holders node[GRAPH_NODES_MAX];
	unsigned current[GRAPH_VALUES_MAX]; /* who holds the sum so far */
	unsigned users_left[GRAPH_VALUES_MAX];
};

static bool value_wants_gradient(const struct graph *graph, unsigned value)
{
	return graph->producer[value] != VALUE_NONE ||
	       graph->input_needs_gradient;
}

/* Input k of node i gets its part of the gradient at `moment`. */
static void plan_contribution(struct gradient_planning *planning, unsigned i,
			      unsigned k, int moment)
{
	struct graph *graph = planning->graph;
	const struct node *node = &graph->node[i];
	const struct primitive_ops *ops = node->row.ops;
	struct node_holders *holders = &planning->node[i];
	unsigned value = node->row.input[k];
	unsigned *current = &planning->current[value];
	bool last_on_edge;

	if (!value_wants_gradient(graph, value))
		return;
	planning->users_left[value]--;
	last_on_edge = graph->producer[value] == VALUE_NONE &&
		       planning->users_left[value] == 0;
	if (ops->stores_gradient) {
		ASSERT(*current == HOLDER_NONE && !last_on_edge);
		*current = HOLDER_STORED;
		return;
	}
	if (*current == HOLDER_NONE && !last_on_edge && ops->passes_gradient &&
	    ops->passes_gradient(node, k)) {
		*current = holders->output;
		return;
	}
	holders->sum[k] = *current;
	if (*current != HOLDER_NONE)
		planning->holder[*current].last = moment;
	holders->input[k] = value;
	if (planning->holder[value].first < 0)
		planning->holder[value].first = moment;
	planning->holder[value].last = moment;
	*current = value;
}

static void plan_holders(struct gradient_planning *planning)
{
	struct graph *graph = planning->graph;

	for (unsigned i = graph->nodes; i-- > 0;) {
		const struct node *node = &graph->node[i];
		int moment = (int)(graph->nodes - 1 - i);

		if (node->row.output != VALUE_NONE) {
			unsigned holder = planning->current[node->row.output];

			ASSERT(holder != HOLDER_NONE); /* else it is unused */
			planning->node[i].output = holder;
			planning->holder[holder].last = moment;
			if (node->trained)
				planning->holder[holder].pending = true;
		}
		for (unsigned k = 0; k < node->inputs; k++)
			plan_contribution(planning, i, k, moment);
	}
}

static void plan_holder_place(struct gradient_planning *planning,
			      struct sharing *sharing, unsigned value)
{
	struct graph *graph = planning->graph;
	struct holder *holder = &planning->holder[value];

	if (graph->producer[value] == VALUE_NONE)
		holder->place = (struct place){REGION_INPUT_GRADIENT, 0};
	else if (holder->pending)
		holder->place = (struct place){
			REGION_PENDING,
			pieces_add(&graph->pending, value_bytes(graph, value))};
	else
		holder->place = sharing_take(sharing, value_bytes(graph, value),
					     holder->first, holder->last);
}

/* The places of all holders, in the order they are first written. */
static void plan_holder_places(struct gradient_planning *planning)
{
	struct graph *graph = planning->graph;
	struct sharing sharing = {.pieces = &graph->input_scratch};

	if (graph->has_output)
		planning->holder[graph->values - 1].place =
			(struct place){REGION_OUTPUT_GRADIENT, 0};
	for (unsigned i = graph->nodes; i-- > 0;) {
		const struct node *node = &graph->node[i];
		int moment = (int)(graph->nodes - 1 - i);

		if (node->row.ops->stores_gradient)
			planning->holder[HOLDER_STORED].place = graph->stored;
		for (unsigned k = 0; k < node->inputs; k++) {
			unsigned value = planning->node[i].input[k];

			if (value == HOLDER_NONE ||
			    planning->holder[value].first != moment ||
			    planning->holder[value].place.region != REGION_NONE)
				continue;
			plan_holder_place(planning, &sharing, value);
		}
	}
}

static struct place holder_place(const struct gradient_planning *planning,
				 unsigned holder)
{
	if (holder == HOLDER_NONE)
		return (struct place){REGION_NONE, 0};
	return planning->holder[holder].place;
}

static void gradient_planning_init(struct gradient_planning *planning,
				   struct graph *graph)
{
	memset(planning, 0, sizeof(*planning));
	planning->graph = graph;
	for (unsigned h = 0; h < HOLDERS; h++)
		planning->holder[h].first = -1;
	for (unsigned v = 0; v < GRAPH_VALUES_MAX; v++)
		planning->current[v] = HOLDER_NONE;
	if (graph->has_output)
		planning->current[graph->values - 1] = graph->values - 1;
	for (unsigned i = 0; i < graph->nodes; i++) {
		planning->node[i].output = HOLDER_NONE;
		for (unsigned k = 0; k < NODE_INPUTS_MAX; k++) {
			planning->node[i].sum[k] = HOLDER_NONE;
			planning->node[i].input[k] = HOLDER_NONE;
		}
		for (unsigned k = 0; k < graph->node[i].inputs; k++)
			planning->users_left[graph->node[i].row.input[k]]++;
	}
	/* Gradients are added in place, but the output's is the engine's. */
	ASSERT(!graph->has_output ||
	       planning->users_left[graph->values - 1] == 0);
}

/* Room for the parts of operations that cannot add, one for each input. */
static void plan_parts(struct graph *graph)
{
	for (unsigned k = 0; k < NODE_INPUTS_MAX; k++) {
		unsigned piece = pieces_add(&graph->input_scratch, 0);
		size_t *most = &graph->input_scratch.per_token[piece];

		for (unsigned i = 0; i < graph->nodes; i++) {
			struct node_gradients *gradients = &graph->gradients[i];
			struct node *node = &graph->node[i];

			if (gradients->sum[k].region == REGION_NONE)
				continue;
			node->adds[k] = node->row.ops->adds &&
					node->row.ops->adds(node);
			if (node->adds[k])
				continue;
			*most = MAX(*most,
				    value_bytes(graph, node->row.input[k]));
			gradients->part[k] =
				(struct place){REGION_SCRATCH, piece};
		}
	}
}

/* What nodes leave for their own W. */
static void plan_pending(struct graph *graph)
{
	for (unsigned i = 0; i < graph->nodes; i++) {
		size_t floats = graph->node[i].pending_floats;
		unsigned piece;

		if (floats == 0)
			continue;
		piece = pieces_add(&graph->pending, 0);
		graph->pending.fixed[piece] = floats * sizeof(float);
		graph->gradients[i].pending =
			(struct place){REGION_PENDING, piece};
	}
}

void plan_backward_input(struct graph *graph)
{
	struct gradient_planning planning;

	gradient_planning_init(&planning, graph);
	plan_holders(&planning);
	plan_holder_places(&planning);
	for (unsigned i = 0; i < graph->nodes; i++) {
		struct node_gradients *gradients = &graph->gradients[i];
		const struct node_holders *holders = &planning.node[i];

		gradients->output = holder_place(&planning, holders->output);
		for (unsigned k = 0; k < NODE_INPUTS_MAX; k++) {
			gradients->sum[k] =
				holder_place(&planning, holders->sum[k]);
			gradients->input[k] =
				holder_place(&planning, holders->input[k]);
		}
	}
	plan_parts(graph);
	plan_pending(graph);
}

void plan_backward_weight(struct graph *graph)
{
	size_t value_most = 0, statistics_most = 0;

	for (unsigned v = 0; v < graph->values; v++) {
		const struct node *node;

		if (!graph->remade[v])
			continue;
		node = &graph->node[graph->producer[v]];
		value_most = MAX(value_most, value_bytes(graph, v));
		statistics_most = MAX(statistics_most, statistics_bytes(node));
	}
	graph->weight_scratch.count = 0;
	pieces_add(&graph->weight_scratch, value_most);
	pieces_add(&graph->weight_scratch, statistics_most);
}
