/*
 * Llama and its relatives: model_type "llama", "mistral", "qwen2", "qwen3";
 * LlamaConfig and so on of transformers.
 */
#include "base/log.h"
#include "model/io/hf_config_family.h"
#include "model/io/hf_config_rope.h"

#include <errno.h>
#include <string.h>

#define FIELD(field) offsetof(struct model_config, field)
#define SIZE_MAXIMUM 1e9

/* clang-format off */
#define SIZE_KEY(NAME, MEMBER)                                                 \
	{.name = NAME, .kind = HF_SIZE, .offset = FIELD(MEMBER),               \
	 .required = true, .minimum = 1, .maximum = SIZE_MAXIMUM}

/* POSITIONS, BOS, EOS and HEAD_SIZE: what an absent key means. */
#define COMMON_KEYS(POSITIONS, BOS, EOS, HEAD_SIZE)                            \
	SIZE_KEY("vocab_size", vocab_size),                                    \
	SIZE_KEY("hidden_size", width),                                        \
	SIZE_KEY("intermediate_size", inner),                                  \
	SIZE_KEY("num_hidden_layers", layers),                                 \
	SIZE_KEY("num_attention_heads", heads),                                \
	{.name = "num_key_value_heads", .kind = HF_SIZE,                       \
	 .offset = FIELD(kv_heads), .minimum = 1, .maximum = SIZE_MAXIMUM,     \
	 .null_when_zero = true},                                              \
	{.name = "head_dim", .kind = HF_SIZE, .offset = FIELD(head_size),      \
	 .fallback = HEAD_SIZE, .minimum = 1, .maximum = SIZE_MAXIMUM,         \
	 .null_when_zero = true},                                              \
	{.name = "max_position_embeddings", .kind = HF_SIZE,                   \
	 .offset = FIELD(rope.positions), .fallback = POSITIONS,               \
	 .minimum = 1, .maximum = SIZE_MAXIMUM},                               \
	{.name = "rms_norm_eps", .kind = HF_REAL,                              \
	 .offset = FIELD(norm_epsilon), .fallback = 1e-6, .maximum = 1},       \
	{.name = "attention_dropout", .kind = HF_REAL,                         \
	 .offset = FIELD(attention_dropout), .maximum = 1},                    \
	{.name = "initializer_range", .kind = HF_REAL,                         \
	 .offset = FIELD(initializer_range), .fallback = 0.02,                 \
	 .maximum = 100},                                                      \
	{.name = "tie_word_embeddings", .kind = HF_BOOLEAN,                    \
	 .offset = FIELD(tied)},                                               \
	{.name = "bos_token_id", .kind = HF_TOKEN_ID,                          \
	 .offset = FIELD(bos_id), .fallback = BOS},                            \
	{.name = "eos_token_id", .kind = HF_TOKEN_ID,                          \
	 .offset = FIELD(eos_id), .fallback = EOS}

/* Of every family here. */
#define COMMON_FIXED                                                           \
	{"hidden_act", {"\"silu\"", "\"swish\""}, true},                       \
	{"add_cross_attention", {"false"}, false},                             \
	{"is_encoder_decoder", {"false"}, false},                              \
	{"pruned_heads", {"{}"}, false},                                       \
	{"quantization_config", {"null"}, false}

static const struct hf_key llama_keys[] = {
	COMMON_KEYS(2048, 1, 2, 0),
	{.name = "attention_bias", .kind = HF_BOOLEAN,
	 .offset = FIELD(qkv_bias)},
	{.name = "mlp_bias", .kind = HF_BOOLEAN, .offset = FIELD(mlp_bias)},
	{.name = NULL},
};

static const struct hf_key mistral_keys[] = {
	COMMON_KEYS(131072, 1, 2, 0),
	{.name = NULL},
};

static const struct hf_key qwen2_keys[] = {
	COMMON_KEYS(32768, -1, -1, 0),
	{.name = NULL},
};

static const struct hf_key qwen3_keys[] = {
	COMMON_KEYS(32768, -1, -1, 128),
	{.name = "attention_bias", .kind = HF_BOOLEAN,
	 .offset = FIELD(qkv_bias)},
	{.name = NULL},
};

static const struct hf_fixed llama_fixed[] = {
	COMMON_FIXED,
	{NULL, {NULL}, false},
};

/* Biases there are in such files by right, or there are none. */
static const struct hf_fixed mistral_fixed[] = {
	COMMON_FIXED,
	{"attention_bias", {"false"}, false},
	{"mlp_bias", {"false"}, false},
	{NULL, {NULL}, false},
};

static const struct hf_fixed qwen_fixed[] = {
	COMMON_FIXED,
	{"mlp_bias", {"false"}, false},
	{"use_mrope", {"false"}, false},
	{NULL, {NULL}, false},
};
/* clang-format on */

/* ---- which layers have a window ---- */

/* `key` of mistral and qwen: absent means 4096, null none. */
static int read_window(const json_t *root, const char *path,
		       struct model_config *config)
{
	const json_t *value = json_object_get(root, "sliding_window");
	int64_t window = 0;
	int code = 0;

	if (value == NULL)
		window = 4096;
	else if (!json_is_null(value))
		code = json_get_integer(root, "sliding_window", 1,
					(int64_t)SIZE_MAXIMUM, path, &window);
	config->window = (unsigned)window;
	return code;
}

/* "sliding_attention" or "full_attention" of layer i; -EINVAL, logged. */
static int layer_slides(const json_t *list, size_t i, const char *path,
			bool *out)
{
	const char *type = json_string_value(json_array_get(list, i));

	if (type == NULL || (strcmp(type, "sliding_attention") != 0 &&
			     strcmp(type, "full_attention") != 0))
		return fail(-EINVAL,
			    "%s: layer_types: '%.60s' is not supported "
			    "(full_attention and sliding_attention are)",
			    path, type ? type : "not a string");
	*out = type[0] == 's';
	return 0;
}

/*
 * layer_types, where it is given, says for each layer what follows from the
 * other keys; full attention below and windows above is what there is.
 */
static int read_layer_types(const json_t *root, const char *path,
			    struct model_config *config)
{
	const json_t *list = json_object_get(root, "layer_types");
	unsigned first = config->layers;

	if (list == NULL || json_is_null(list))
		return 0;
	if (json_array_size(list) != config->layers)
		return fail(-EINVAL,
			    "%s: layer_types: a list of %u is expected", path,
			    config->layers);
	for (unsigned i = 0; i < config->layers; i++) {
		bool slides = false;
		int code = layer_slides(list, i, path, &slides);

		if (code != 0)
			return code;
		if (slides && first == config->layers)
			first = i;
		if (!slides && first < config->layers)
			return fail(-EINVAL,
				    "%s: layer_types: full attention above "
				    "sliding (layer %u) is not supported",
				    path, i);
	}
	if (first < config->layers && config->window == 0)
		return fail(-EINVAL,
			    "%s: layer_types: sliding attention without a "
			    "sliding_window in use",
			    path);
	config->window_first = first;
	return 0;
}

static int read_mistral(const json_t *root, const char *path,
			struct model_config *config)
{
	unsigned first;
	int code = hf_config_rope_read(root, path, config);

	if (code == 0)
		code = read_window(root, path, config);
	if (code == 0)
		code = read_layer_types(root, path, config);
	if (code != 0)
		return code;
	/* Its layers are all alike, whatever the list says. */
	first = config->window_first;
	if (config->window > 0 && first > 0)
		return fail(-EINVAL,
			    "%s: layer_types: mistral has a window in all "
			    "layers or in none",
			    path);
	config->window_first = 0;
	return 0;
}

static int read_qwen(const json_t *root, const char *path,
		     struct model_config *config)
{
	int64_t first = 0;
	bool uses = false;
	int code = hf_config_rope_read(root, path, config);

	if (code == 0)
		code = json_get_boolean_or(root, "use_sliding_window", false,
					   path, &uses);
	if (code == 0 && uses)
		code = read_window(root, path, config);
	if (code == 0)
		code = json_get_integer_or(root, "max_window_layers", 0,
					   (int64_t)SIZE_MAXIMUM, 28, path,
					   &first);
	config->window_first = (unsigned)first;
	if (code == 0)
		code = read_layer_types(root, path, config);
	if (code != 0)
		return code;
	if (config->window == 0 || config->window_first >= config->layers) {
		config->window = 0;
		config->window_first = 0;
	}
	return 0;
}

static int read_qwen2(const json_t *root, const char *path,
		      struct model_config *config)
{
	config->qkv_bias = true;
	return read_qwen(root, path, config);
}

static int read_qwen3(const json_t *root, const char *path,
		      struct model_config *config)
{
	config->head_norm = true;
	config->output_bias = config->qkv_bias;
	return read_qwen(root, path, config);
}

static int read_llama(const json_t *root, const char *path,
		      struct model_config *config)
{
	const json_t *types = json_object_get(root, "layer_types");
	bool slides = false;
	int code = hf_config_rope_read(root, path, config);

	config->output_bias = config->qkv_bias;
	for (size_t i = 0; code == 0 && i < json_array_size(types); i++) {
		code = layer_slides(types, i, path, &slides);
		if (code == 0 && slides)
			code = fail(-EINVAL,
				    "%s: layer_types: llama has no sliding "
				    "attention",
				    path);
	}
	return code;
}

/* ---- writing ---- */

static int check_rope(const struct model_config *config, const char *path)
{
	if (config->rope.kind != ROPE_NONE)
		return 0;
	return fail(-EINVAL, "%s: a %s model has rotary positions", path,
		    config->family);
}

static bool write_mistral(json_t *root, const struct model_config *config)
{
	return hf_config_rope_write(root, config) &&
	       json_object_set_new(root, "sliding_window",
				   config->window ? json_integer(config->window)
						  : json_null()) == 0;
}

static bool write_qwen(json_t *root, const struct model_config *config)
{
	bool uses = config->window > 0;

	return write_mistral(root, config) &&
	       json_object_set_new(root, "use_sliding_window",
				   json_boolean(uses)) == 0 &&
	       json_object_set_new(root, "max_window_layers",
				   json_integer(uses ? config->window_first
						     : config->layers)) == 0;
}

const struct hf_family hf_config_llama = {
	.family = "llama",
	.model_type = "llama",
	.architectures = {"LlamaForCausalLM"},
	.keys = llama_keys,
	.fixed = llama_fixed,
	.read = read_llama,
	.write = hf_config_rope_write,
	.check = check_rope,
};

const struct hf_family hf_config_mistral = {
	.family = "mistral",
	.model_type = "mistral",
	.architectures = {"MistralForCausalLM"},
	.keys = mistral_keys,
	.fixed = mistral_fixed,
	.read = read_mistral,
	.write = write_mistral,
	.check = check_rope,
};

const struct hf_family hf_config_qwen2 = {
	.family = "qwen2",
	.model_type = "qwen2",
	.architectures = {"Qwen2ForCausalLM"},
	.keys = qwen2_keys,
	.fixed = qwen_fixed,
	.read = read_qwen2,
	.write = write_qwen,
	.check = check_rope,
};

const struct hf_family hf_config_qwen3 = {
	.family = "qwen3",
	.model_type = "qwen3",
	.architectures = {"Qwen3ForCausalLM"},
	.keys = qwen3_keys,
	.fixed = qwen_fixed,
	.read = read_qwen3,
	.write = write_qwen,
	.check = check_rope,
};
