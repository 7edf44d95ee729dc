/*
 * Where everything in a layer lives: the plan graph_create() makes and
 * layer.c carries out. Private to model/layers.
 */
#ifndef STAGECOACH_MODEL_LAYERS_PLAN_H
#define STAGECOACH_MODEL_LAYERS_PLAN_H

#include "model/layers/graph.h"

enum region {
	REGION_NONE,
	REGION_INPUT,
	REGION_OUTPUT,
	REGION_SAVED,
	REGION_PENDING,
	REGION_SCRATCH,
	REGION_INPUT_GRADIENT,
	REGION_OUTPUT_GRADIENT,
};

struct place {
	enum region region;
	unsigned piece; /* of saved, pending or this pass's scratch */
};

/*
 * A region is pieces one after the other; piece p takes per_token[p] bytes for
 * each token and fixed[p] more, rounded up to 64 bytes.
 */
#define PIECES_MAX (GRAPH_VALUES_MAX + GRAPH_NODES_MAX)

struct pieces {
	unsigned count;
	size_t per_token[PIECES_MAX];
	size_t fixed[PIECES_MAX];
};

/* Where forward finds and puts things. */
struct forward_plan {
	struct place value[GRAPH_VALUES_MAX];
	struct place statistics[GRAPH_NODES_MAX];
	struct pieces scratch;
};

/* Where the gradients of one node are, during I. */
struct node_gradients {
	struct place output;
	/* None: not wanted, or the output's stands for it. */
	struct place input[NODE_INPUTS_MAX];
	/* What has to be added, none: nothing. It may be input[] itself. */
	struct place sum[NODE_INPUTS_MAX];
	/* Where an operation that cannot add writes its part, none: direct. */
	struct place part[NODE_INPUTS_MAX];
	/* pending_floats of the node, none: it has none. */
	struct place pending;
};

struct graph {
	unsigned nodes;
	struct node node[GRAPH_NODES_MAX];
	unsigned values;
	enum element_type type; /* of values and their gradients */
	size_t width[GRAPH_VALUES_MAX];
	unsigned producer[GRAPH_VALUES_MAX]; /* VALUE_NONE: the edge */
	bool has_input;
	bool input_needs_gradient;
	bool has_output;

	struct forward_plan train;
	struct forward_plan other; /* eval and decode: nothing is saved */
	struct place stored;       /* the gradient that the loss leaves */
	struct node_gradients gradients[GRAPH_NODES_MAX];
	bool remade[GRAPH_VALUES_MAX]; /* made again by W, in its scratch */
	struct pieces saved;
	struct pieces pending;
	struct pieces input_scratch;
	/* W's scratch: a value made again, and its statistics. */
	struct pieces weight_scratch;
};

enum {
	REMADE_VALUE,
	REMADE_STATISTICS,
};

size_t pieces_offset(const struct pieces *pieces, unsigned piece,
		     size_t tokens); /* bytes; piece == count: the total */

void plan_forward(struct graph *graph);
void plan_backward_input(struct graph *graph);
void plan_backward_weight(struct graph *graph);

#endif
