#include "model/model.h"
#include "base/log.h"
#include "base/random.h"
#include "base/text.h"
#include "model/adapters.h"
#include "model/families/family.h"
#include "model/kernels/normal.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct family_ops *const families[] = {
	&gpt2_family_ops,  &llama_family_ops, &mistral_family_ops,
	&qwen2_family_ops, &qwen3_family_ops, &rehearsal_family_ops,
};

struct model {
	struct model_config config;
	const struct family_ops *family;
	struct rope *rope; /* NULL: it has no rotary positions */
	unsigned layer_count;
	struct layer *layers;
	unsigned parameter_count;
	struct parameter *parameters;
};

/* ---- configuration ---- */

/* Sizes beyond these are typing errors, and products of them stay in 64 bits. */
#define VOCAB_MAX   (1u << 24)
#define CONTEXT_MAX (1u << 24)
#define WIDTH_MAX   (1u << 20)
#define LAYERS_MAX  4096u

static int family_find(const char *name, const struct family_ops **out)
{
	struct text_builder known;
	char *list;

	for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
		if (strcmp(families[i]->name, name) == 0) {
			*out = families[i];
			return 0;
		}
	}
	text_builder_init(&known);
	for (size_t i = 0; i < ARRAY_SIZE(families); i++)
		text_builder_append(&known, " %s", families[i]->name);
	list = text_builder_finish(&known);
	log_error("no model family is called '%s'; known:%s", name,
		  list ? list : " (no memory)");
	free(list);
	return -EINVAL;
}

int model_config_default(const char *family, struct model_config *out)
{
	struct model_config config = {.bos_id = -1, .eos_id = -1};
	const struct family_ops *ops;
	int error;

	error = family_find(family, &ops);
	if (error)
		return error;
	error = text_copy(config.family, sizeof(config.family), family);
	ASSERT(!error); /* a known family's name has room */
	ops->config_default(&config);
	*out = config;
	return 0;
}

/* NULL, silently, for a family there is not. */
static const struct family_ops *family_of(const struct model_config *config)
{
	for (size_t i = 0; i < ARRAY_SIZE(families); i++)
		if (strcmp(families[i]->name, config->family) == 0)
			return families[i];
	return NULL;
}

void model_config_set_dropout(struct model_config *config, double probability)
{
	const struct family_ops *family = family_of(config);

	if (family && family->set_dropout)
		family->set_dropout(config, probability);
}

void model_config_shorten(struct model_config *config, unsigned context)
{
	const struct family_ops *family = family_of(config);

	if (!family || family->learns_positions || context >= config->context)
		return;
	if (config->rope.positions == 0)
		config->rope.positions = config->context;
	config->context = context;
}

static int check_size(const char *what, unsigned value, unsigned maximum)
{
	if (value == 0)
		return fail(-EINVAL, "model: %s is 0", what);
	if (value > maximum)
		return fail(-EINVAL, "model: %s is %u, more than %u", what,
			    value, maximum);
	return 0;
}

static int check_probability(const char *what, double value)
{
	if (value >= 0.0 && value < 1.0)
		return 0;
	return fail(-EINVAL, "model: %s is %g, not in [0, 1)", what, value);
}

static int config_check_sizes(const struct model_config *config)
{
	const struct {
		const char *what;
		unsigned value, maximum;
	} sizes[] = {
		{"vocabulary size", config->vocab_size, VOCAB_MAX},
		{"context", config->context, CONTEXT_MAX},
		{"width", config->width, WIDTH_MAX},
		{"number of layers", config->layers, LAYERS_MAX},
		{"number of heads", config->heads, WIDTH_MAX},
	};

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		int error = check_size(sizes[i].what, sizes[i].value,
				       sizes[i].maximum);

		if (error)
			return error;
	}
	return 0;
}

static int config_check_rates(const struct model_config *config)
{
	const struct {
		const char *what;
		double value;
	} rates[] = {
		{"embedding dropout", config->embedding_dropout},
		{"residual dropout", config->residual_dropout},
		{"attention dropout", config->attention_dropout},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rates); i++) {
		int error = check_probability(rates[i].what, rates[i].value);

		if (error)
			return error;
	}
	if (!(config->norm_epsilon > 0.0 && config->norm_epsilon < 1.0))
		return fail(-EINVAL, "model: norm epsilon is %g, not in (0, 1)",
			    config->norm_epsilon);
	if (!(config->initializer_range >= 0.0 &&
	      config->initializer_range < 100.0))
		return fail(-EINVAL, "model: initializer range is %g",
			    config->initializer_range);
	return 0;
}

/* Fills in what follows from the rest, and checks that it all fits. */
static int config_complete(const struct family_ops *family,
			   struct model_config *config)
{
	int error = config_check_sizes(config);

	if (!error)
		error = config_check_rates(config);
	if (error)
		return error;
	if (config->head_size == 0) {
		if (config->width % config->heads != 0)
			return fail(-EINVAL,
				    "model: %u heads do not divide width %u",
				    config->heads, config->width);
		config->head_size = config->width / config->heads;
	}
	if (config->kv_heads == 0)
		config->kv_heads = config->heads;
	if (config->heads % config->kv_heads != 0)
		return fail(-EINVAL,
			    "model: %u key-value heads do not divide %u heads",
			    config->kv_heads, config->heads);
	if (config->inner == 0)
		config->inner = family->inner ? family->inner(config)
					      : 4 * config->width;
	if (config->rope.kind != ROPE_NONE && config->rope.positions == 0)
		config->rope.positions = config->context;
	if (config->slices == 0)
		config->slices = 1;
	if (config->slice >= config->slices)
		return fail(-EINVAL, "model: there is no slice %u of %u",
			    config->slice, config->slices);
	error = check_size("head size", config->head_size, WIDTH_MAX);
	if (error)
		return error;
	return check_size("inner width", config->inner, 16 * WIDTH_MAX);
}

static bool slices_fit(const struct model_config *config, unsigned slices)
{
	return config->heads % slices == 0 && config->kv_heads % slices == 0 &&
	       config->inner % slices == 0 && config->vocab_size >= slices;
}

/* Can each layer be divided among the slices? */
static int config_check_slices(const struct model_config *config)
{
	unsigned below = MIN(config->slices, config->heads);
	unsigned above = config->slices;
	char or_above[24] = "";

	if (slices_fit(config, config->slices))
		return 0;
	while (below > 1 && !slices_fit(config, below))
		below--;
	while (above <= config->heads && !slices_fit(config, above))
		above++;
	if (above <= config->heads)
		snprintf(or_above, sizeof(or_above), " or %u", above);
	return fail(-EINVAL,
		    "model: %u heads (%u of keys and values), inner width %u "
		    "and %u tokens cannot be divided among %u slices; among "
		    "%u%s they can",
		    config->heads, config->kv_heads, config->inner,
		    config->vocab_size, config->slices, below, or_above);
}

/* ---- layers ---- */

/* Adds one layer and its parameters. */
static int model_add_layer(struct model *model, unsigned index)
{
	struct layer *layer = &model->layers[index];
	struct layer_description description;
	struct graph_description graph;
	const struct graph_row *last;
	int error;

	memset(&description, 0, sizeof(description));
	model->family->layer(&model->config, model->rope, index, &description);
	if (model->config.adapters.rank > 0)
		adapters_insert(&model->config.adapters, &description);
	graph = (struct graph_description){
		.rows = description.rows,
		.row_count = description.row_count,
		.widths = description.widths,
		.value_count = description.value_count,
		.has_input = description.input.count > 0,
		.input_needs_gradient =
			description.input.count > 0 &&
			description.input.entry[0].needs_gradient,
		.prefix = description.prefix,
		.type = model->config.type,
		.frozen = model->config.adapters.rank > 0,
		.slices = model->family->divides ? model->config.slices : 1,
		.slice = model->family->divides ? model->config.slice : 0,
	};
	last = &description.rows[description.row_count - 1];
	layer->index = index;
	memcpy(layer->name, description.name, sizeof(layer->name));
	layer->first_parameter = model->parameter_count;
	layer->columns = description.columns;
	layer->input = description.input;
	layer->output = description.output;
	layer->loss = last->ops->stores_gradient;
	layer->recomputable = !layer->loss;
	layer->vocab_size = model->config.vocab_size;
	error = graph_create(&graph, index, model->parameters,
			     &model->parameter_count, &layer->graph);
	if (error)
		return error;
	layer->parameter_count =
		model->parameter_count - layer->first_parameter;
	return 0;
}

int model_create(const struct model_config *config, struct model **out)
{
	struct model *model = calloc(1, sizeof(*model));
	size_t room;
	int error;

	if (!model)
		return fail(-ENOMEM, "no memory for a model");
	model->config = *config;
	model->config.family[sizeof(model->config.family) - 1] = '\0';
	error = family_find(model->config.family, &model->family);
	if (!error)
		error = config_complete(model->family, &model->config);
	if (!error)
		error = model->family->config_check(&model->config);
	if (!error && model->family->divides)
		error = config_check_slices(&model->config);
	if (!error)
		error = adapters_complete(model->family, &model->config);
	if (!error && model->config.rope.kind != ROPE_NONE)
		error = rope_create(&model->config.rope,
				    model->config.head_size,
				    model->config.context, &model->rope);
	if (error)
		goto err_destroy_model;
	model->layer_count = model->family->layer_count(&model->config);
	model->layers = calloc(model->layer_count, sizeof(model->layers[0]));
	room = (size_t)model->layer_count * GRAPH_NODES_MAX * NODE_WEIGHTS_MAX;
	model->parameters = calloc(room, sizeof(model->parameters[0]));
	if (!model->layers || !model->parameters) {
		error = fail(-ENOMEM, "no memory for a model of %u layers",
			     model->layer_count);
		goto err_destroy_model;
	}
	for (unsigned i = 0; i < model->layer_count; i++) {
		error = model_add_layer(model, i);
		if (error)
			goto err_destroy_model;
	}
	error = adapters_check_targets(&model->config.adapters,
				       model->parameters,
				       model->parameter_count);
	if (error)
		goto err_destroy_model;
	*out = model;
	return 0;

err_destroy_model:
	model_destroy(model);
	return error;
}

void model_destroy(struct model *model)
{
	if (!model)
		return;
	for (unsigned i = 0; model->layers && i < model->layer_count; i++)
		graph_destroy(model->layers[i].graph);
	free(model->layers);
	free(model->parameters);
	rope_destroy(model->rope);
	free(model);
}

/* ---- questions ---- */

const struct model_config *model_config(const struct model *model)
{
	return &model->config;
}

unsigned model_layer_count(const struct model *model)
{
	return model->layer_count;
}

const struct layer *model_layer(const struct model *model, unsigned index)
{
	ASSERT(index < model->layer_count);
	return &model->layers[index];
}

const struct parameter *model_parameters(const struct model *model,
					 unsigned *count)
{
	*count = model->parameter_count;
	return model->parameters;
}

/* What follows the prefix, or NULL if `name` does not start with it. */
static const char *after_prefix(const char *name, const char *prefix)
{
	size_t length = strlen(prefix);

	return strncmp(name, prefix, length) == 0 ? name + length : NULL;
}

const struct parameter *model_parameter_find(const struct model *model,
					     const char *name)
{
	for (unsigned i = 0; i < model->parameter_count; i++) {
		const struct parameter *row = &model->parameters[i];
		const char *bare =
			after_prefix(row->name, model->family->optional_prefix);

		if (strcmp(row->name, name) == 0 ||
		    (bare && strcmp(bare, name) == 0))
			return row;
	}
	return NULL;
}

bool model_tensor_is_ignored(const struct model *model, const char *name)
{
	const char *bare = after_prefix(name, model->family->optional_prefix);

	return model->family->tensor_is_ignored(bare ? bare : name);
}

/* What is here of a tensor is drawn where it stands in the whole. */
static void initialise_normal(const struct parameter *row, uint64_t seed,
			      size_t first, size_t count, float *out)
{
	struct random_key key = random_key_named(seed, row->name);
	size_t length = parameter_run(row, 0).count;

	while (count > 0) {
		struct parameter_run run = parameter_run(row, first / length);
		size_t skip = first - run.local;
		size_t take = MIN(count, run.count - skip);

		normal_fill(key, run.whole + skip, take, row->init_deviation,
			    out);
		first += take;
		count -= take;
		out += take;
	}
}

void model_initialise(const struct model *model, unsigned parameter,
		      uint64_t seed, size_t first, size_t count, float *out)
{
	const struct parameter *row;

	ASSERT(parameter < model->parameter_count);
	row = &model->parameters[parameter];
	if (row->tied_to != PARAMETER_NOT_TIED)
		row = &model->parameters[row->tied_to];
	ASSERT(first <= row->count && count <= row->count - first);
	switch (row->initialiser) {
	case INITIALISE_NORMAL:
		initialise_normal(row, seed, first, count, out);
		return;
	case INITIALISE_ZEROS:
	case INITIALISE_ONES:
		for (size_t i = 0; i < count; i++)
			out[i] = row->initialiser == INITIALISE_ONES ? 1.0f
								     : 0.0f;
		return;
	}
	ASSERT(!"an unknown initialiser");
}

uint64_t model_parameter_total(const struct model *model)
{
	uint64_t total = 0;

	for (unsigned i = 0; i < model->parameter_count; i++)
		if (model->parameters[i].tied_to == PARAMETER_NOT_TIED)
			total += model->parameters[i].whole_count;
	return total;
}
