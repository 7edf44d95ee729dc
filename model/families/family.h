/*
 * A family of models: how a configuration becomes layers. Adding one is a file
 * here with a family_ops table, and its line in model.c.
 */
#ifndef STAGECOACH_MODEL_FAMILIES_FAMILY_H
#define STAGECOACH_MODEL_FAMILIES_FAMILY_H

#include "model/layers/graph.h"
#include "model/layers/primitive.h"
#include "model/model.h"

/* One layer as its family describes it. */
struct layer_description {
	char name[48];   /* for messages: "transformer.h.3" */
	char prefix[48]; /* of its parameters' names: "transformer.h.3." */
	unsigned row_count;
	struct graph_row rows[GRAPH_NODES_MAX];
	unsigned value_count;
	size_t widths[GRAPH_VALUES_MAX]; /* floats per token */
	unsigned columns;                /* COLUMN_BIT()s */
	struct edge input;
	struct edge output;
};

struct family_ops {
	const char *name;
	/* Of parameter names; files may lack it ("transformer."). */
	const char *optional_prefix;
	/* Everything but the sizes, as the family's own defaults have it. */
	void (*config_default)(struct model_config *config);
	/* One probability for all its dropouts. NULL: it has none. */
	void (*set_dropout)(struct model_config *config, double probability);
	/* The MLP's inner width where none is given. NULL: 4 * width. */
	unsigned (*inner)(const struct model_config *config);
	/* Positions are rows of a parameter: their number is not free. */
	bool learns_positions;
	/* Its layers are divided among slices; false: each slice has them
	 * whole. Then widths and heads of a description are a slice's. */
	bool divides;
	/* What only this family asks of a configuration whose derived fields
	 * are filled in; -EINVAL, logged. */
	int (*config_check)(const struct model_config *config);
	unsigned (*layer_count)(const struct model_config *config);
	/* *out is all zeros. `rope`: the model's, NULL: it has none. */
	void (*layer)(const struct model_config *config,
		      const struct rope *rope, unsigned index,
		      struct layer_description *out);
	/* Maps that get low-rank adapters where none are named: PEFT's. */
	const char *adapter_targets;
	/* See model_tensor_is_ignored(); the name without optional prefix. */
	bool (*tensor_is_ignored)(const char *name);
};

extern const struct family_ops gpt2_family_ops;
extern const struct family_ops llama_family_ops;
extern const struct family_ops mistral_family_ops;
extern const struct family_ops qwen2_family_ops;
extern const struct family_ops qwen3_family_ops;
extern const struct family_ops rehearsal_family_ops;

#endif
