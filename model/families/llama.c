/*
 * Llama (Touvron et al. 2023) and its relatives, named as Hugging Face's
 * LlamaForCausalLM names them: rotary positions, RMSNorm before each part,
 * attention whose heads share keys and values in groups, SwiGLU.
 *
 *   llama    the plain one; SmolLM, TinyLlama and others are of it
 *   mistral  attention sees a window of positions
 *   qwen2    queries, keys and values have biases
 *   qwen3    each head of queries and keys is normalised
 *
 * They differ in their defaults and in what their config.json can say; the
 * layers are the same.
 *
 * Layer 0 is the embedding, 1 .. L the blocks, L + 1 final norm, head, loss.
 */
#include "base/log.h"
#include "model/families/family.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define PREFIX "model."

/* The dropout site of a block. */
#define SITE_ATTENTION 0

/* The MLP of a new model: 8/3 of the width, in steps of this. */
#define INNER_STEP 64

/* Values of the embedding layer. */
enum {
	EMBEDDED,
	EMBEDDING_VALUES,
};

static const struct graph_row embedding_rows[] = {
	{&embedding_ops, {0}, EMBEDDED, .name = "embed_tokens"},
};

/* Values of a block. */
enum {
	X,
	NORM_1,
	QKV,
	NORMED, /* where heads are normalised, else left out */
	TURNED,
	MIXED,
	ATTENDED,
	MIDDLE,
	NORM_2,
	GATED, /* [gate | up] */
	ACTIVE,
	MLP,
	Y,
	BLOCK_VALUES,
};

/* clang-format off */
static const struct graph_row block_rows[] = {
	{&rmsnorm_ops,   {X},           NORM_1,  .name = "input_layernorm"},
	{&linears_ops,   {NORM_1},      QKV,     .name = "self_attn.q_proj",
	 .second_name = "self_attn.k_proj", .third_name = "self_attn.v_proj"},
	{&headnorm_ops,  {QKV},         NORMED,  .name = "self_attn.q_norm",
	 .second_name = "self_attn.k_norm"},
	{&rope_ops,      {NORMED},      TURNED,  .name = NULL},
	{&attention_ops, {TURNED},      MIXED,   .site = SITE_ATTENTION},
	{&linear_ops,    {MIXED},       ATTENDED, .name = "self_attn.o_proj",
	 .split_axis = 1},
	{&residual_ops,  {X, ATTENDED}, MIDDLE,  .name = NULL},
	{&rmsnorm_ops,   {MIDDLE},      NORM_2,
	 .name = "post_attention_layernorm"},
	{&linears_ops,   {NORM_2},      GATED,   .name = "mlp.gate_proj",
	 .second_name = "mlp.up_proj"},
	{&swiglu_ops,    {GATED},       ACTIVE,  .name = NULL},
	{&linear_ops,    {ACTIVE},      MLP,     .name = "mlp.down_proj",
	 .split_axis = 1},
	{&residual_ops,  {MIDDLE, MLP}, Y,       .name = NULL},
};

/* Values of the head, over X. */
enum {
	NORM_F = 1,
	HEAD_VALUES,
};

static const struct graph_row head_rows[] = {
	{&rmsnorm_ops, {X},      NORM_F,     .name = PREFIX "norm"},
	{&loss_ops,    {NORM_F}, VALUE_NONE, .name = "lm_head"},
};
/* clang-format on */

/* ---- configuration ---- */

static void llama_config_default(struct model_config *config)
{
	config->norm_epsilon = 1e-5;
	config->initializer_range = 0.02;
	config->rope.kind = ROPE_DEFAULT;
	config->rope.theta = 10000.0;
}

static void mistral_config_default(struct model_config *config)
{
	llama_config_default(config);
	config->window = 4096;
}

static void qwen2_config_default(struct model_config *config)
{
	llama_config_default(config);
	config->norm_epsilon = 1e-6;
	config->rope.theta = 1e6;
	config->qkv_bias = true;
}

static void qwen3_config_default(struct model_config *config)
{
	llama_config_default(config);
	config->norm_epsilon = 1e-6;
	config->rope.theta = 1e6;
	config->head_norm = true;
}

static void llama_set_dropout(struct model_config *config, double probability)
{
	config->attention_dropout = probability;
}

static unsigned llama_inner(const struct model_config *config)
{
	uint64_t inner = (uint64_t)config->width * 8 / 3;

	return (unsigned)((inner + INNER_STEP - 1) / INNER_STEP * INNER_STEP);
}

/* What a member of the family may be: what its config.json can say. */
struct ability {
	bool qkv_bias, no_qkv_bias; /* may have them; may lack them */
	bool output_bias;           /* goes with the others */
	bool mlp_bias;
	bool head_norm; /* always, or never */
	bool window, window_first;
};

static int refuse(const struct model_config *config, const char *what)
{
	return fail(-EINVAL, "a %s model cannot have %s", config->family, what);
}

static int check_biases(const struct model_config *config,
			const struct ability *able)
{
	bool output = able->output_bias && config->qkv_bias;

	if (config->qkv_bias && !able->qkv_bias)
		return refuse(config, "biases of queries, keys and values");
	if (!config->qkv_bias && !able->no_qkv_bias)
		return refuse(config, "no biases of queries, keys and values");
	if (config->output_bias != output)
		return refuse(config, output ? "no bias of attention's output"
					     : "a bias of attention's output");
	if (config->mlp_bias && !able->mlp_bias)
		return refuse(config, "biases in its MLP");
	return 0;
}

static int check_ability(const struct model_config *config,
			 const struct ability *able)
{
	int error = check_biases(config, able);

	if (error)
		return error;
	if (config->rope.kind == ROPE_NONE)
		return refuse(config, "no rotary positions");
	if (config->embedding_dropout > 0 || config->residual_dropout > 0)
		return refuse(config, "dropout anywhere but in attention");
	if (config->head_norm != able->head_norm)
		return refuse(config, config->head_norm
					      ? "a norm of queries and keys"
					      : "no norm of queries and keys");
	if (config->window > 0 && !able->window)
		return refuse(config, "a window (mistral can)");
	if (config->window > 0 && config->window_first > 0 &&
	    !able->window_first)
		return refuse(config, "a window in some layers only");
	return rope_config_check(&config->rope, config->head_size);
}

static int llama_config_check(const struct model_config *config)
{
	static const struct ability able = {.qkv_bias = true,
					    .no_qkv_bias = true,
					    .output_bias = true,
					    .mlp_bias = true};

	return check_ability(config, &able);
}

static int mistral_config_check(const struct model_config *config)
{
	static const struct ability able = {.no_qkv_bias = true,
					    .window = true};

	return check_ability(config, &able);
}

static int qwen2_config_check(const struct model_config *config)
{
	static const struct ability able = {
		.qkv_bias = true, .window = true, .window_first = true};

	return check_ability(config, &able);
}

static int qwen3_config_check(const struct model_config *config)
{
	static const struct ability able = {.qkv_bias = true,
					    .no_qkv_bias = true,
					    .output_bias = true,
					    .head_norm = true,
					    .window = true,
					    .window_first = true};

	return check_ability(config, &able);
}

/* ---- layers ---- */

static unsigned llama_layer_count(const struct model_config *config)
{
	return config->layers + 2;
}

/* Widths of queries, and of keys or values, on a slice. */
static size_t query_width(const struct model_config *config)
{
	return (size_t)config->heads / config->slices * config->head_size;
}

static size_t key_width(const struct model_config *config)
{
	return (size_t)config->kv_heads / config->slices * config->head_size;
}

static void linears_row(const struct model_config *config,
			struct graph_row *row)
{
	size_t inner = config->inner / config->slices;

	if (row->third_name) {
		row->map_widths[0] = query_width(config);
		row->map_widths[1] = key_width(config);
		row->map_widths[2] = key_width(config);
		row->bias = config->qkv_bias;
	} else {
		row->map_widths[0] = inner;
		row->map_widths[1] = inner;
		row->bias = config->mlp_bias;
	}
}

/* Fills a row in; each operation reads what it knows. */
static void llama_row(const struct model_config *config,
		      const struct rope *rope, struct graph_row *row)
{
	row->layout = LINEAR_OUT_IN;
	row->epsilon = config->norm_epsilon;
	row->heads = config->heads / config->slices;
	row->kv_heads = config->kv_heads / config->slices;
	row->head_size = config->head_size;
	row->context = config->context;
	row->vocab_size = config->vocab_size;
	row->deviation = (float)config->initializer_range;
	row->rope = rope;
	if (row->ops != &linear_ops)
		row->split_axis = PARAMETER_NOT_SPLIT;
	else
		row->bias = row->input[0] == MIXED ? config->output_bias
						   : config->mlp_bias;
	if (row->ops == &linears_ops)
		linears_row(config, row);
	if (row->ops == &attention_ops)
		row->dropout = config->attention_dropout;
	if (row->ops == &loss_ops && config->tied)
		row->tied_to = PREFIX "embed_tokens.weight";
}

static void llama_rows(const struct model_config *config,
		       const struct rope *rope, const struct graph_row *rows,
		       unsigned count, struct layer_description *out)
{
	ASSERT(count <= GRAPH_NODES_MAX);
	for (unsigned i = 0; i < count; i++) {
		out->rows[i] = rows[i];
		llama_row(config, rope, &out->rows[i]);
	}
	out->row_count = count;
}

/* Takes the row that makes `value` out, and the value; its input stands in. */
static void leave_out(struct layer_description *out, unsigned char value)
{
	struct graph_row *rows = out->rows;
	unsigned count = out->row_count, at = 0;
	unsigned char instead;

	while (rows[at].output != value)
		at++;
	instead = rows[at].input[0];
	memmove(rows + at, rows + at + 1, (count - at - 1) * sizeof(*rows));
	out->row_count = --count;
	out->value_count--;
	memmove(out->widths + value, out->widths + value + 1,
		(out->value_count - value) * sizeof(out->widths[0]));
	for (unsigned i = 0; i < count; i++) {
		for (unsigned k = 0; k < rows[i].ops->inputs; k++) {
			if (rows[i].input[k] == value)
				rows[i].input[k] = instead;
			else if (rows[i].input[k] > value)
				rows[i].input[k]--;
		}
		if (rows[i].output > value)
			rows[i].output--;
	}
}

static void llama_embedding(const struct model_config *config,
			    const struct rope *rope,
			    struct layer_description *out)
{
	snprintf(out->name, sizeof(out->name), "embedding");
	snprintf(out->prefix, sizeof(out->prefix), PREFIX);
	llama_rows(config, rope, embedding_rows, ARRAY_SIZE(embedding_rows),
		   out);
	out->value_count = EMBEDDING_VALUES;
	out->widths[EMBEDDED] = config->width;
	out->columns = COLUMN_BIT(COLUMN_TOKENS);
}

static void llama_block(const struct model_config *config,
			const struct rope *rope, unsigned block,
			struct layer_description *out)
{
	size_t width = config->width, query = query_width(config);
	size_t packed = query + 2 * key_width(config);
	size_t inner = config->inner / config->slices;
	const size_t widths[BLOCK_VALUES] = {
		[X] = width,         [NORM_1] = width,  [QKV] = packed,
		[NORMED] = packed,   [TURNED] = packed, [MIXED] = query,
		[ATTENDED] = width,  [MIDDLE] = width,  [NORM_2] = width,
		[GATED] = 2 * inner, [ACTIVE] = inner,  [MLP] = width,
		[Y] = width,
	};

	snprintf(out->name, sizeof(out->name), PREFIX "layers.%u", block);
	snprintf(out->prefix, sizeof(out->prefix), PREFIX "layers.%u.", block);
	llama_rows(config, rope, block_rows, ARRAY_SIZE(block_rows), out);
	out->value_count = BLOCK_VALUES;
	out->columns = COLUMN_BIT(COLUMN_SEGMENTS);
	memcpy(out->widths, widths, sizeof(widths));
	for (unsigned i = 0; i < out->row_count; i++)
		if (out->rows[i].ops == &attention_ops &&
		    block >= config->window_first)
			out->rows[i].window = config->window;
	if (!config->head_norm)
		leave_out(out, NORMED);
}

static void llama_head(const struct model_config *config,
		       const struct rope *rope, struct layer_description *out)
{
	snprintf(out->name, sizeof(out->name), "head");
	llama_rows(config, rope, head_rows, ARRAY_SIZE(head_rows), out);
	out->value_count = HEAD_VALUES;
	out->widths[X] = config->width;
	out->widths[NORM_F] = config->width;
	out->columns = COLUMN_BIT(COLUMN_LABELS);
}

static void llama_layer(const struct model_config *config,
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

	if (index > 0)
		out->input = hidden;
	if (index <= config->layers)
		out->output = hidden;
	if (index == 0)
		llama_embedding(config, rope, out);
	else if (index <= config->layers)
		llama_block(config, rope, index - 1, out);
	else
		llama_head(config, rope, out);
}

/* Buffers of old files: layers.I.self_attn.rotary_emb.inv_freq. */
static bool llama_tensor_is_ignored(const char *name)
{
	unsigned block;
	int end = 0;

	if (strcmp(name, "rotary_emb.inv_freq") == 0)
		return true;
	if (sscanf(name, "layers.%u.self_attn.%n", &block, &end) != 1 ||
	    end == 0)
		return false;
	return strcmp(name + end, "rotary_emb.inv_freq") == 0;
}

#define LLAMA_OPS(NAME)                                                        \
	{                                                                      \
		.name = #NAME, .optional_prefix = PREFIX, .divides = true,     \
		.config_default = NAME##_config_default,                       \
		.set_dropout = llama_set_dropout, .inner = llama_inner,        \
		.config_check = NAME##_config_check,                           \
		.layer_count = llama_layer_count, .layer = llama_layer,        \
		.adapter_targets = "q_proj,v_proj",                            \
		.tensor_is_ignored = llama_tensor_is_ignored,                  \
	}

const struct family_ops llama_family_ops = LLAMA_OPS(llama);
const struct family_ops mistral_family_ops = LLAMA_OPS(mistral);
const struct family_ops qwen2_family_ops = LLAMA_OPS(qwen2);
const struct family_ops qwen3_family_ops = LLAMA_OPS(qwen3);
