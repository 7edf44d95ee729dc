#include "model/layers/graph.h"
#include "base/log.h"
#include "base/text.h"
#include "model/layers/plan.h"
#include "model/layers/primitive.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void parameter_common(struct parameter *row, const char *name,
			     const char *suffix)
{
	memset(row, 0, sizeof(*row));
	/* A name that is cut is found out when the prefix is put before it. */
	snprintf(row->name, sizeof(row->name), "%s.%s", name, suffix);
	row->trainable = true;
	row->tied_to = PARAMETER_NOT_TIED;
	row->split_axis = PARAMETER_NOT_SPLIT;
	row->split_parts = 1;
	row->slices = 1;
	row->compute_type = ELEMENT_F32;
	row->master_type = ELEMENT_F32;
	row->save_type = ELEMENT_F32;
}

void parameter_vector(struct parameter *row, const char *name,
		      const char *suffix, size_t length)
{
	parameter_common(row, name, suffix);
	row->dimensions = 1;
	row->shape[0] = row->whole_shape[0] = length;
	row->count = row->whole_count = length;
	row->decay_group = DECAY_NONE;
	row->initialiser = INITIALISE_ZEROS;
}

void parameter_matrix(struct parameter *row, const char *name,
		      const char *suffix, size_t first, size_t second,
		      float deviation)
{
	parameter_common(row, name, suffix);
	row->dimensions = 2;
	row->shape[0] = row->whole_shape[0] = first;
	row->shape[1] = row->whole_shape[1] = second;
	row->count = row->whole_count = first * second;
	row->decay_group = DECAY_WEIGHT;
	row->initialiser = INITIALISE_NORMAL;
	row->init_deviation = deviation;
}

struct dropout node_dropout(const struct node *node,
			    const struct layer_context *context)
{
	bool active = context->mode == LAYER_TRAIN && node->row.dropout > 0;

	return (struct dropout){
		.key = dropout_key(context->seed, context->step, node->layer,
				   node->row.site),
		.probability = active ? (float)node->row.dropout : 0.0f,
		.rows_per_sample = context->time,
		.position_offset = context->position_offset,
		.sample_ids = context->sample_ids,
	};
}

static const struct layer_collectives *
node_collectives(const struct node *node, const struct layer_context *context)
{
	ASSERT(context->collectives);
	ASSERT(context->collectives->slices == node->slices &&
	       context->collectives->slice == node->slice);
	return context->collectives;
}

void node_sum(const struct node *node, const struct layer_context *context,
	      float *values, size_t count)
{
	const struct layer_collectives *collectives =
		node_collectives(node, context);

	collectives->sum(collectives->argument, values, count);
}

void node_maximum(const struct node *node, const struct layer_context *context,
		  float *values, size_t count)
{
	const struct layer_collectives *collectives =
		node_collectives(node, context);

	collectives->maximum(collectives->argument, values, count);
}

/* The row of this name among the first `count`, or -1. */
static int parameter_named(const struct parameter *parameters, unsigned count,
			   const char *name)
{
	for (unsigned i = 0; i < count; i++)
		if (strcmp(parameters[i].name, name) == 0)
			return (int)i;
	return -1;
}

/* Appends one node's parameters to the table. */
static int node_declare(struct node *node,
			const struct graph_description *description,
			struct parameter *parameters, unsigned *count)
{
	struct parameter rows[NODE_WEIGHTS_MAX];

	if (!node->row.ops->declare)
		return 0;
	node->weights = node->row.ops->declare(node, rows);
	node->trained = node->weights > 0 &&
			(!description->frozen || node->row.ops == &adapter_ops);
	for (unsigned w = 0; w < node->weights; w++) {
		struct parameter *row = &parameters[*count];
		int length;

		*row = rows[w];
		row->id = *count;
		row->layer = node->layer;
		row->trainable = node->trained;
		row->adapter = node->row.ops == &adapter_ops;
		if (row->dimensions > 1)
			row->compute_type = node->type;
		length = snprintf(row->name, sizeof(row->name), "%s%s",
				  description->prefix, rows[w].name);
		if (length < 0 || (size_t)length >= sizeof(row->name) - 1)
			return fail(-ENAMETOOLONG,
				    "parameter name %s%s is too long",
				    description->prefix, rows[w].name);
		if (w == 0 && node->row.tied_to) {
			row->tied_to = parameter_named(parameters, *count,
						       node->row.tied_to);
			ASSERT(row->tied_to >= 0);
		}
		if (!parameter_cut(row, node->slices, node->slice))
			return fail(-EINVAL, "%s cannot be divided among %u",
				    row->name, node->slices);
		(*count)++;
	}
	return 0;
}

static void node_init(struct node *node, const struct graph_row *row,
		      const struct graph_description *description,
		      unsigned layer)
{
	node->row = *row;
	node->layer = layer;
	node->slices = MAX(description->slices, 1);
	node->slice = description->slice;
	node->type = description->type;
	node->inputs = row->ops->inputs;
	for (unsigned k = 0; k < node->inputs; k++) {
		ASSERT(row->input[k] < description->value_count);
		node->input_width[k] = description->widths[row->input[k]];
	}
	if (row->output != VALUE_NONE) {
		ASSERT(row->output < description->value_count);
		node->output_width = description->widths[row->output];
	}
	if (row->ops->statistics_width)
		node->statistics_width = row->ops->statistics_width(node);
	if (row->ops->pending_floats)
		node->pending_floats = row->ops->pending_floats(node);
}

/* Every value is made before it is read, and made once. */
static void graph_set_producers(struct graph *graph)
{
	bool made[GRAPH_VALUES_MAX] = {false};

	for (unsigned v = 0; v < graph->values; v++)
		graph->producer[v] = VALUE_NONE;
	made[0] = graph->has_input;
	for (unsigned i = 0; i < graph->nodes; i++) {
		const struct node *node = &graph->node[i];

		for (unsigned k = 0; k < node->inputs; k++)
			ASSERT(made[node->row.input[k]]);
		if (node->row.output == VALUE_NONE)
			continue;
		ASSERT(!made[node->row.output]);
		made[node->row.output] = true;
		graph->producer[node->row.output] = i;
	}
	for (unsigned v = 0; v < graph->values; v++)
		ASSERT(made[v]);
}

static void graph_plan(struct graph *graph)
{
	graph_set_producers(graph);
	plan_forward(graph);
	plan_backward_input(graph);
	plan_backward_weight(graph);
}

int graph_create(const struct graph_description *description, unsigned layer,
		 struct parameter *parameters, unsigned *count,
		 struct graph **out)
{
	unsigned first = *count, end = *count;
	struct graph *graph;
	int error;

	ASSERT(description->row_count <= GRAPH_NODES_MAX);
	ASSERT(description->value_count <= GRAPH_VALUES_MAX);
	graph = calloc(1, sizeof(*graph));
	if (!graph)
		return fail(-ENOMEM, "no memory for the plan of layer %u",
			    layer);
	graph->nodes = description->row_count;
	graph->values = description->value_count;
	graph->type = description->type;
	graph->has_input = description->has_input;
	graph->input_needs_gradient = description->input_needs_gradient;
	memcpy(graph->width, description->widths,
	       graph->values * sizeof(graph->width[0]));
	for (unsigned i = 0; i < graph->nodes; i++) {
		struct node *node = &graph->node[i];

		node_init(node, &description->rows[i], description, layer);
		node->first_weight = end - first;
		error = node_declare(node, description, parameters, &end);
		if (error)
			goto err_free_graph;
	}
	graph->has_output =
		graph->node[graph->nodes - 1].row.output != VALUE_NONE;
	graph_plan(graph);
	*count = end;
	*out = graph;
	return 0;

err_free_graph:
	free(graph);
	return error;
}

void graph_destroy(struct graph *graph)
{
	free(graph);
}
