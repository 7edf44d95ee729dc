/* GPT-2: model_type "gpt2", GPT2Config of transformers. */
#include "base/log.h"
#include "model/io/hf_config_family.h"

#include <errno.h>

#define FIELD(field) offsetof(struct model_config, field)
#define SIZE_MAXIMUM 1e9

static const struct hf_key keys[] = {
	{.name = "vocab_size",
	 .kind = HF_SIZE,
	 .offset = FIELD(vocab_size),
	 .required = true,
	 .minimum = 1,
	 .maximum = SIZE_MAXIMUM},
	{.name = "n_positions",
	 .kind = HF_SIZE,
	 .offset = FIELD(context),
	 .required = true,
	 .minimum = 1,
	 .maximum = SIZE_MAXIMUM},
	{.name = "n_embd",
	 .kind = HF_SIZE,
	 .offset = FIELD(width),
	 .required = true,
	 .minimum = 1,
	 .maximum = SIZE_MAXIMUM},
	{.name = "n_layer",
	 .kind = HF_SIZE,
	 .offset = FIELD(layers),
	 .required = true,
	 .minimum = 1,
	 .maximum = 1e6},
	{.name = "n_head",
	 .kind = HF_SIZE,
	 .offset = FIELD(heads),
	 .required = true,
	 .minimum = 1,
	 .maximum = 1e6},
	{.name = "n_inner",
	 .kind = HF_SIZE,
	 .offset = FIELD(inner),
	 .minimum = 1,
	 .maximum = SIZE_MAXIMUM,
	 .null_when_zero = true},
	{.name = "layer_norm_epsilon",
	 .kind = HF_REAL,
	 .offset = FIELD(norm_epsilon),
	 .fallback = 1e-5,
	 .maximum = 1},
	{.name = "embd_pdrop",
	 .kind = HF_REAL,
	 .offset = FIELD(embedding_dropout),
	 .fallback = 0.1,
	 .maximum = 1},
	{.name = "resid_pdrop",
	 .kind = HF_REAL,
	 .offset = FIELD(residual_dropout),
	 .fallback = 0.1,
	 .maximum = 1},
	{.name = "attn_pdrop",
	 .kind = HF_REAL,
	 .offset = FIELD(attention_dropout),
	 .fallback = 0.1,
	 .maximum = 1},
	{.name = "initializer_range",
	 .kind = HF_REAL,
	 .offset = FIELD(initializer_range),
	 .fallback = 0.02,
	 .maximum = 100},
	{.name = "tie_word_embeddings",
	 .kind = HF_BOOLEAN,
	 .offset = FIELD(tied),
	 .fallback = 1},
	{.name = "bos_token_id",
	 .kind = HF_TOKEN_ID,
	 .offset = FIELD(bos_id),
	 .fallback = 50256},
	{.name = "eos_token_id",
	 .kind = HF_TOKEN_ID,
	 .offset = FIELD(eos_id),
	 .fallback = 50256},
	{.name = NULL},
};

static const struct hf_fixed fixed[] = {
	/* Two names of the same function. */
	{"activation_function",
	 {"\"gelu_new\"", "\"gelu_pytorch_tanh\""},
	 true},
	{"scale_attn_weights", {"true"}, true},
	{"scale_attn_by_inverse_layer_idx", {"false"}, true},
	{"reorder_and_upcast_attn", {"false"}, true},
	{"add_cross_attention", {"false"}, false},
	{"is_encoder_decoder", {"false"}, false},
	{"pruned_heads", {"{}"}, false},
	{"quantization_config", {"null"}, false},
	{NULL, {NULL}, false},
};

static int check(const struct model_config *config, const char *path)
{
	if (config->kv_heads != 0 && config->kv_heads != config->heads)
		return fail(-EINVAL,
			    "%s: GPT-2 has as many key-value heads as heads, "
			    "not %u for %u",
			    path, config->kv_heads, config->heads);
	if (config->head_size != 0 &&
	    (uint64_t)config->head_size * config->heads != config->width)
		return fail(-EINVAL,
			    "%s: GPT-2's %u heads of size %u do not make up "
			    "its width of %u",
			    path, config->heads, config->head_size,
			    config->width);
	if (config->heads == 0 || config->width % config->heads != 0)
		return fail(-EINVAL,
			    "%s: n_head = %u does not divide n_embd = %u", path,
			    config->heads, config->width);
	return 0;
}

const struct hf_family hf_config_gpt2 = {
	.family = "gpt2",
	.model_type = "gpt2",
	.architectures = {"GPT2LMHeadModel", "GPT2Model"},
	.transposes = true,
	.keys = keys,
	.fixed = fixed,
	.check = check,
};
