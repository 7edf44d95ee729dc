/*
 * How a layer computes: a straight list of primitive operations (nodes) over
 * values, planned once.
 *
 * A family describes a layer as a table of rows; graph_create() turns it into
 * nodes and decides for every value and every gradient where it lives: in the
 * engine's input or output, in `saved` (forward to I and W), in `pending` (I
 * to W), or in scratch, where places are reused as soon as a value is dead. A
 * value that only W reads and that is cheap to make again (a norm's output,
 * an activation's) is not saved: W makes it again with the same kernel.
 *
 * Gradients of a value used several times are summed in descending order of
 * the nodes that use it.
 *
 * All values are [B, T, width], of the layer's one type. Only sizes depend on B
 * and T, never the plan.
 *
 * Slice t of T (tensor parallelism) has a graph of its own, whose widths and
 * heads are what it computes. Operations with a split parameter know what that
 * means for them (primitive.h), and exchange within F and I by
 * context->collectives; W never exchanges.
 */
#ifndef STAGECOACH_MODEL_LAYERS_GRAPH_H
#define STAGECOACH_MODEL_LAYERS_GRAPH_H

#include "base/compiler.h"
#include "model/layers/layer.h"
#include "model/parameter.h"

#define GRAPH_NODES_MAX  32
#define GRAPH_VALUES_MAX 40
#define NODE_INPUTS_MAX  3
#define NODE_WEIGHTS_MAX 6
#define NODE_MAPS_MAX    3
#define VALUE_NONE       255

enum linear_layout {
	LINEAR_OUT_IN, /* nn.Linear: weight [out, in], y = x W^T + b */
	LINEAR_IN_OUT, /* GPT-2's Conv1D: weight [in, out], y = x W + b */
};

struct primitive_ops;
struct rope; /* model/kernels/rope.h */

/*
 * One operation as a family writes it down. Value 0 is the layer's input (if
 * it has one); the highest number is its output (if it has one). Rows are in
 * the order they compute. What an operation reads of the fields below is told
 * at its ops table in model/layers/primitive.h.
 */
struct graph_row {
	const struct primitive_ops *ops;
	unsigned char input[NODE_INPUTS_MAX]; /* ops->inputs of them */
	unsigned char output;                 /* VALUE_NONE: the loss */
	const char *name; /* of its parameters: "attn.c_attn"; or NULL */
	const char *second_name;
	const char *third_name;
	bool bias;
	enum linear_layout layout;
	unsigned split_parts; /* q|k|v in one matrix: 3; 0 means 1 */
	int split_axis;       /* of the weight, PARAMETER_NOT_SPLIT */
	float deviation;      /* of its matrices' initial values */
	bool into_residual;   /* for families that start those smaller */
	double epsilon;       /* norm */
	double dropout;       /* probability */
	unsigned site;        /* tells the dropouts of one layer apart */
	unsigned heads, kv_heads, head_size;
	size_t map_widths[NODE_MAPS_MAX]; /* linears: of each map's output */
	const struct rope *rope;          /* the model's */
	size_t window;       /* attention: positions seen, 0: all before */
	size_t context;      /* positions: of the embedding, of the cache */
	size_t vocab_size;   /* embedding, loss: of all slices */
	const char *tied_to; /* full name of the parameter it shares */
	unsigned rank;       /* adapter: r */
	float scale;         /* adapter: alpha / r */
	double seconds[3];   /* sleep: F, I, W */
};

/* A row in its graph. */
struct node {
	struct graph_row row;
	unsigned inputs;
	size_t input_width[NODE_INPUTS_MAX];
	size_t output_width;   /* 0: no output */
	unsigned first_weight; /* the layer's local number */
	unsigned weights;
	size_t statistics_width; /* floats per token kept beside the output */
	size_t pending_floats;   /* that I leaves for W beside gradients */
	unsigned layer;          /* global index, keys dropout */
	unsigned slices, slice;  /* 1 and 0: it is whole */
	enum element_type type;  /* of its values and their gradients */
	bool trained;            /* it has weights, and not frozen ones */
	bool adds[NODE_INPUTS_MAX]; /* I adds to what is there of a gradient */
};

/*
 * What a family says about one layer: rows over values of the given widths
 * (elements per token).
 */
struct graph_description {
	const struct graph_row *rows;
	unsigned row_count;
	const size_t *widths;
	unsigned value_count;
	bool has_input; /* value 0 comes over the edge */
	bool input_needs_gradient;
	const char *prefix;     /* of parameter names: "transformer.h.0." */
	enum element_type type; /* of values: ELEMENT_F32, ELEMENT_BF16 */
	bool frozen;            /* all parameters but the adapters' */
	unsigned slices;        /* that compute the layer together; 0: as 1 */
	unsigned slice;
};

/*
 * Makes a layer's graph and appends its parameters' rows to parameters[]
 * (room for NODE_WEIGHTS_MAX a row): name, shape (the slice's), decay, split,
 * initialiser and, by name, tied_to among the *count rows that stand there
 * already. -ENOMEM, -ENAMETOOLONG for a parameter's name, -EINVAL for one that
 * cannot be divided.
 */
int graph_create(const struct graph_description *description, unsigned layer,
		 struct parameter *parameters, unsigned *count,
		 struct graph **out) MUST_CHECK;
void graph_destroy(struct graph *graph);

#endif
