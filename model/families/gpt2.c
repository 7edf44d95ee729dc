/*
 * GPT-2 (Radford et al. 2019), named as Hugging Face's GPT2LMHeadModel names
 * it: learned positions, LayerNorm before each part, attention and MLP with
 * biases, tanh-GELU, the head tied to the token embedding.
 *
 * Layer 0 is the embedding, 1 .. L the blocks, L + 1 final norm, head, loss.
 */
#include "base/log.h"
#include "base/math.h"
#include "model/families/family.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define PREFIX "transformer."

/* Dropout sites of a layer. */
enum {
	SITE_EMBEDDING,
	SITE_ATTENTION,
	SITE_ATTENTION_OUTPUT,
	SITE_MLP_OUTPUT,
};

/* Values of the embedding layer. */
enum {
	EMBEDDED,
	EMBEDDING_VALUES,
};

static const struct graph_row embedding_rows[] = {
	{&embedding_ops,
	 {0},
	 EMBEDDED,
	 .name = "wte",
	 .second_name = "wpe",
	 .site = SITE_EMBEDDING},
};

/* Values of a block. */
enum {
	X,
	NORM_1,
	QKV,
	MIXED,
	ATTENDED,
	MIDDLE,
	NORM_2,
	INNER,
	ACTIVE,
	MLP,
	Y,
	BLOCK_VALUES,
};

/* clang-format off */
static const struct graph_row block_rows[] = {
	{&layernorm_ops, {X},           NORM_1,   .name = "ln_1"},
	{&linear_ops,    {NORM_1},      QKV,      .name = "attn.c_attn",
	 .split_axis = 1, .split_parts = 3},
	{&attention_ops, {QKV},         MIXED,    .site = SITE_ATTENTION},
	{&linear_ops,    {MIXED},       ATTENDED, .name = "attn.c_proj",
	 .split_axis = 0, .into_residual = true},
	{&residual_ops,  {X, ATTENDED}, MIDDLE,   .site = SITE_ATTENTION_OUTPUT},
	{&layernorm_ops, {MIDDLE},      NORM_2,   .name = "ln_2"},
	{&linear_ops,    {NORM_2},      INNER,    .name = "mlp.c_fc",
	 .split_axis = 1},
	{&gelu_ops,      {INNER},       ACTIVE,   .name = NULL},
	{&linear_ops,    {ACTIVE},      MLP,      .name = "mlp.c_proj",
	 .split_axis = 0, .into_residual = true},
	{&residual_ops,  {MIDDLE, MLP}, Y,        .site = SITE_MLP_OUTPUT},
};

/* Values of the head, over X. */
enum {
	NORM_F = 1,
	HEAD_VALUES,
};

static const struct graph_row head_rows[] = {
	{&layernorm_ops, {X},      NORM_F,     .name = PREFIX "ln_f"},
	{&loss_ops,      {NORM_F}, VALUE_NONE, .name = "lm_head"},
};
/* clang-format on */

static void gpt2_config_default(struct model_config *config)
{
	config->norm_epsilon = 1e-5;
	config->embedding_dropout = 0.1;
	config->residual_dropout = 0.1;
	config->attention_dropout = 0.1;
	config->tied = true;
	config->initializer_range = 0.02;
}

static void gpt2_set_dropout(struct model_config *config, double probability)
{
	config->embedding_dropout = probability;
	config->residual_dropout = probability;
	config->attention_dropout = probability;
}

static int gpt2_config_check(const struct model_config *config)
{
	if (config->kv_heads != config->heads)
		return fail(-EINVAL,
			    "gpt2 has as many key-value heads as heads: %u, "
			    "not %u",
			    config->heads, config->kv_heads);
	if ((uint64_t)config->head_size * config->heads != config->width)
		return fail(-EINVAL, "%u heads of size %u do not make width %u",
			    config->heads, config->head_size, config->width);
	if (config->rope.kind != ROPE_NONE || config->rope.theta > 0)
		return fail(-EINVAL, "gpt2 has no rotary positions");
	if (config->window > 0)
		return fail(-EINVAL, "gpt2 has no window (mistral has)");
	return 0;
}

static unsigned gpt2_layer_count(const struct model_config *config)
{
	return config->layers + 2;
}

/* Fills a description's rows in; each operation reads what it knows. */
static void gpt2_rows(const struct model_config *config,
		      const struct graph_row *rows, unsigned count,
		      struct layer_description *out)
{
	double shrink = 1.0 / math_sqrt(2.0 * config->layers);

	ASSERT(count <= GRAPH_NODES_MAX);
	for (unsigned i = 0; i < count; i++) {
		struct graph_row *row = &out->rows[i];
		double deviation = config->initializer_range;

		*row = rows[i];
		if (row->ops != &linear_ops)
			row->split_axis = PARAMETER_NOT_SPLIT;
		row->layout = LINEAR_IN_OUT;
		row->bias = row->ops == &linear_ops;
		row->epsilon = config->norm_epsilon;
		row->heads = config->heads / config->slices;
		row->kv_heads = config->kv_heads / config->slices;
		row->head_size = config->head_size;
		row->context = config->context;
		row->vocab_size = config->vocab_size;
		row->deviation = (float)(row->into_residual ? deviation * shrink
							    : deviation);
		if (row->ops == &embedding_ops)
			row->dropout = config->embedding_dropout;
		if (row->ops == &attention_ops)
			row->dropout = config->attention_dropout;
		if (row->ops == &residual_ops)
			row->dropout = config->residual_dropout;
		if (row->ops == &loss_ops && config->tied)
			row->tied_to = PREFIX "wte.weight";
	}
	out->row_count = count;
}

static void gpt2_embedding(const struct model_config *config,
			   struct layer_description *out)
{
	snprintf(out->name, sizeof(out->name), "embedding");
	snprintf(out->prefix, sizeof(out->prefix), PREFIX);
	gpt2_rows(config, embedding_rows, ARRAY_SIZE(embedding_rows), out);
	out->value_count = EMBEDDING_VALUES;
	out->widths[EMBEDDED] = config->width;
	out->columns = COLUMN_BIT(COLUMN_TOKENS) | COLUMN_BIT(COLUMN_SEGMENTS);
}

static void gpt2_block(const struct model_config *config, unsigned block,
		       struct layer_description *out)
{
	size_t width = config->width, mine = width / config->slices;
	size_t inner = config->inner / config->slices;
	const size_t widths[BLOCK_VALUES] = {
		[X] = width,      [NORM_1] = width,   [QKV] = 3 * mine,
		[MIXED] = mine,   [ATTENDED] = width, [MIDDLE] = width,
		[NORM_2] = width, [INNER] = inner,    [ACTIVE] = inner,
		[MLP] = width,    [Y] = width,
	};

	snprintf(out->name, sizeof(out->name), PREFIX "h.%u", block);
	snprintf(out->prefix, sizeof(out->prefix), PREFIX "h.%u.", block);
	gpt2_rows(config, block_rows, ARRAY_SIZE(block_rows), out);
	out->value_count = BLOCK_VALUES;
	out->columns = COLUMN_BIT(COLUMN_SEGMENTS);
	memcpy(out->widths, widths, sizeof(widths));
}

static void gpt2_head(const struct model_config *config,
		      struct layer_description *out)
{
	snprintf(out->name, sizeof(out->name), "head");
	gpt2_rows(config, head_rows, ARRAY_SIZE(head_rows), out);
	out->value_count = HEAD_VALUES;
	out->widths[X] = config->width;
	out->widths[NORM_F] = config->width;
	out->columns = COLUMN_BIT(COLUMN_LABELS);
}

static void gpt2_layer(const struct model_config *config,
		       const struct rope *rope, unsigned index,
		       struct layer_description *out)
{
	struct edge hidden = {
		.count = 1,
		.entry = {{.name = "hidden",
			   .type = config->type,
			   .per_token = config->width,
			   .needs_gradient = true}},
	};

	(void)rope;
	if (index > 0)
		out->input = hidden;
	if (index <= config->layers)
		out->output = hidden;
	if (index == 0)
		gpt2_embedding(config, out);
	else if (index <= config->layers)
		gpt2_block(config, index - 1, out);
	else
		gpt2_head(config, out);
}

/* Buffers of old files: h.I.attn.bias (the mask), h.I.attn.masked_bias. */
static bool gpt2_tensor_is_ignored(const char *name)
{
	unsigned block;
	int end = 0;

	if (sscanf(name, "h.%u.attn.%n", &block, &end) != 1 || end == 0)
		return false;
	return strcmp(name + end, "bias") == 0 ||
	       strcmp(name + end, "masked_bias") == 0;
}

const struct family_ops gpt2_family_ops = {
	.name = "gpt2",
	.optional_prefix = PREFIX,
	.divides = true,
	.config_default = gpt2_config_default,
	.set_dropout = gpt2_set_dropout,
	.learns_positions = true,
	.config_check = gpt2_config_check,
	.layer_count = gpt2_layer_count,
	.layer = gpt2_layer,
	.adapter_targets = "c_attn",
	.tensor_is_ignored = gpt2_tensor_is_ignored,
};
