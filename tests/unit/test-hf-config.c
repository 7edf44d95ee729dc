/* config.json: round trip, defaults, and refusals that name the key. */
#include "base/files.h"
#include "base/log.h"
#include "model/io/hf_config.h"
#include "model/model.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

/* After base/log.h, whose fail() its macro would hide. */
#include <cmocka.h>

static char folder[64];

static int folder_make(void **state)
{
	(void)state;
	snprintf(folder, sizeof(folder), "hf-config-test.XXXXXX");
	return mkdtemp(folder) == NULL ? -1 : 0;
}

static int folder_remove(void **state)
{
	(void)state;
	return files_remove_tree(folder);
}

static void quiet(void *argument, enum log_level level, const char *line)
{
	(void)argument;
	(void)level;
	(void)line;
}

static int read_text(const char *text, struct model_config *out)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/config.json", folder);
	assert_int_equal(files_replace(path, text, strlen(text)), 0);
	return hf_config_read(folder, out);
}

/* The config.json of the hub's "gpt2", its keys shuffled by age. */
static void test_hub_file(void **state)
{
	static const char text[] =
		"{\"activation_function\": \"gelu_new\", \"architectures\": "
		"[\"GPT2LMHeadModel\"], \"attn_pdrop\": 0.1, "
		"\"bos_token_id\": 50256, \"embd_pdrop\": 0.1, "
		"\"eos_token_id\": 50256, \"initializer_range\": 0.02, "
		"\"layer_norm_epsilon\": 1e-05, \"model_type\": \"gpt2\", "
		"\"n_ctx\": 1024, \"n_embd\": 768, \"n_head\": 12, "
		"\"n_layer\": 12, \"n_positions\": 1024, \"resid_pdrop\": "
		"0.1, \"summary_activation\": null, \"summary_first_dropout\": "
		"0.1, \"summary_proj_to_labels\": true, \"summary_type\": "
		"\"cls_index\", \"summary_use_proj\": true, "
		"\"task_specific_params\": {\"text-generation\": "
		"{\"do_sample\": true, \"max_length\": 50}}, \"vocab_size\": "
		"50257}";
	struct model_config config;

	(void)state;
	assert_int_equal(read_text(text, &config), 0);
	assert_string_equal(config.family, "gpt2");
	assert_int_equal(config.vocab_size, 50257);
	assert_int_equal(config.context, 1024);
	assert_int_equal(config.width, 768);
	assert_int_equal(config.layers, 12);
	assert_int_equal(config.heads, 12);
	assert_int_equal(config.inner, 0);
	assert_true(config.norm_epsilon == 1e-5);
	assert_true(config.residual_dropout == 0.1);
	assert_true(config.tied);
	assert_int_equal(config.eos_id, 50256);
}

#define SIZES                                                                  \
	"\"model_type\": \"gpt2\", \"vocab_size\": 100, \"n_positions\": 32, " \
	"\"n_embd\": 24, \"n_layer\": 2, \"n_head\": 4"

static void test_defaults(void **state)
{
	struct model_config config;

	(void)state;
	assert_int_equal(read_text("{" SIZES "}", &config), 0);
	assert_true(config.norm_epsilon == 1e-5);
	assert_true(config.attention_dropout == 0.1);
	assert_true(config.initializer_range == 0.02);
	assert_true(config.tied);
	/* 50256 is no token of a vocabulary of 100. */
	assert_int_equal(config.bos_id, -1);
	assert_int_equal(config.eos_id, -1);
	assert_int_equal(read_text("{" SIZES ", \"eos_token_id\": [7, 8], "
				   "\"bos_token_id\": null, \"n_inner\": 50, "
				   "\"embd_pdrop\": 0, \"activation_function\""
				   ": \"gelu_pytorch_tanh\"}",
				   &config),
			 0);
	assert_int_equal(config.eos_id, 7);
	assert_int_equal(config.bos_id, -1);
	assert_int_equal(config.inner, 50);
	assert_true(config.embedding_dropout == 0.0);
}

static void test_round_trip(void **state)
{
	struct model_config config = {
		.family = "gpt2",
		.vocab_size = 2048,
		.context = 256,
		.width = 256,
		.layers = 4,
		.heads = 8,
		.norm_epsilon = 1e-6,
		.embedding_dropout = 0.05,
		.residual_dropout = 0.0,
		.attention_dropout = 0.3,
		.tied = true,
		.initializer_range = 0.017,
		.bos_id = 3,
		.eos_id = -1,
	};
	struct model_config again;
	char path[128];
	char *text;
	size_t length;

	(void)state;
	for (int round = 0; round < 2; round++) {
		assert_int_equal(hf_config_write(folder, &config, "float32"),
				 0);
		assert_int_equal(hf_config_read(folder, &again), 0);
		assert_string_equal(again.family, config.family);
		assert_int_equal(again.vocab_size, config.vocab_size);
		assert_int_equal(again.context, config.context);
		assert_int_equal(again.width, config.width);
		assert_int_equal(again.layers, config.layers);
		assert_int_equal(again.heads, config.heads);
		assert_int_equal(again.inner, config.inner);
		assert_true(again.norm_epsilon == config.norm_epsilon);
		assert_true(again.embedding_dropout ==
			    config.embedding_dropout);
		assert_true(again.residual_dropout == config.residual_dropout);
		assert_true(again.attention_dropout ==
			    config.attention_dropout);
		assert_true(again.initializer_range ==
			    config.initializer_range);
		assert_int_equal(again.tied, config.tied);
		assert_int_equal(again.bos_id, config.bos_id);
		assert_int_equal(again.eos_id, config.eos_id);
		config.inner = 300;
		config.tied = false;
	}
	snprintf(path, sizeof(path), "%s/config.json", folder);
	assert_int_equal(files_read(path, 1 << 16, &text, &length), 0);
	assert_non_null(strstr(text, "\"GPT2LMHeadModel\""));
	assert_non_null(strstr(text, "\"model_type\": \"gpt2\""));
	assert_non_null(strstr(text, "\"dtype\": \"float32\""));
	assert_non_null(strstr(text, "\"torch_dtype\": \"float32\""));
	assert_non_null(strstr(text, "\"activation_function\": \"gelu_new\""));
	free(text);
}

/* ---- the Llama family ---- */

#define LLAMA_SIZES                                                            \
	"\"vocab_size\": 100, \"hidden_size\": 24, \"intermediate_size\": "    \
	"40, \"num_hidden_layers\": 4, \"num_attention_heads\": 4"
#define LLAMA   "{\"model_type\": \"llama\", " LLAMA_SIZES
#define MISTRAL "{\"model_type\": \"mistral\", " LLAMA_SIZES
#define QWEN2   "{\"model_type\": \"qwen2\", " LLAMA_SIZES
#define QWEN3   "{\"model_type\": \"qwen3\", " LLAMA_SIZES
#define SCALED  "\"type\": \"linear\", \"factor\": 4"
#define PLAIN   "\"full_attention\""
#define SLIDING "\"sliding_attention\""

/* What a text says, as few numbers as tell it. */
static const struct {
	const char *text;
	const char *family;
	enum rope_kind kind;
	double theta, factor;
	unsigned kv_heads, head_size, window, window_first, context;
	bool qkv_bias, output_bias, head_norm, tied;
} readings[] = {
	{LLAMA "}", "llama", ROPE_DEFAULT, 1e4, .context = 2048},
	{LLAMA ", \"num_key_value_heads\": 2, \"head_dim\": 10, "
	       "\"tie_word_embeddings\": true, \"attention_bias\": true}",
	 "llama", ROPE_DEFAULT, 1e4, .kv_heads = 2, .head_size = 10,
	 .qkv_bias = true, .output_bias = true, .tied = true, .context = 2048},
	/* Null and absent, old and new. */
	{LLAMA ", \"num_key_value_heads\": null, \"rope_scaling\": null, "
	       "\"rope_theta\": 500000.0, \"pretraining_tp\": 2, "
	       "\"max_position_embeddings\": 64}",
	 "llama", ROPE_DEFAULT, 5e5, .context = 64},
	{LLAMA ", \"rope_theta\": 5e5, \"rope_scaling\": {" SCALED "}}",
	 "llama", ROPE_LINEAR, 5e5, 4, .context = 2048},
	{LLAMA ", \"rope_parameters\": {\"rope_type\": \"linear\", "
	       "\"factor\": 4.0, \"rope_theta\": 500000}}",
	 "llama", ROPE_LINEAR, 5e5, 4, .context = 2048},
	/* Both: the new one counts. */
	{LLAMA ", \"rope_theta\": 1e4, \"rope_scaling\": null, "
	       "\"rope_parameters\": {\"rope_type\": \"default\", "
	       "\"rope_theta\": 7}}",
	 "llama", ROPE_DEFAULT, 7, .context = 2048},
	{LLAMA ", \"rope_parameters\": {\"full_attention\": {\"rope_type\": "
	       "\"default\", \"rope_theta\": 9}, \"sliding_attention\": "
	       "{\"rope_type\": \"default\", \"rope_theta\": 9}}}",
	 "llama", ROPE_DEFAULT, 9, .context = 2048},
	{LLAMA ", \"max_position_embeddings\": 50, \"rope_scaling\": "
	       "{\"type\": \"dynamic\", \"factor\": 3}}",
	 "llama", ROPE_DYNAMIC, 1e4, 3, .context = 150},
	/* No factor: the ratio of positions. */
	{LLAMA ", \"max_position_embeddings\": 50, \"rope_scaling\": "
	       "{\"type\": \"yarn\", \"factor\": null, "
	       "\"original_max_position_embeddings\": 20}}",
	 "llama", ROPE_YARN, 1e4, 2.5, .context = 50},
	{MISTRAL "}", "mistral", ROPE_DEFAULT, 1e4, .window = 4096,
	 .context = 131072},
	{MISTRAL ", \"sliding_window\": null}", "mistral", ROPE_DEFAULT, 1e4,
	 .context = 131072},
	{MISTRAL ", \"sliding_window\": 12}", "mistral", ROPE_DEFAULT, 1e4,
	 .window = 12, .context = 131072},
	{QWEN2 ", \"sliding_window\": 12, \"use_sliding_window\": false}",
	 "qwen2", ROPE_DEFAULT, 1e4, .qkv_bias = true, .context = 32768},
	{QWEN2 ", \"sliding_window\": 12, \"use_sliding_window\": true, "
	       "\"max_window_layers\": 3}",
	 "qwen2", ROPE_DEFAULT, 1e4, .window = 12, .window_first = 3,
	 .qkv_bias = true, .context = 32768},
	{QWEN2 ", \"sliding_window\": 12, \"use_sliding_window\": true}",
	 "qwen2", ROPE_DEFAULT, 1e4, .qkv_bias = true, .context = 32768},
	{QWEN3 ", \"use_sliding_window\": true, \"layer_types\": [" PLAIN
	       ", " PLAIN ", " SLIDING ", " SLIDING "]}",
	 "qwen3", ROPE_DEFAULT, 1e4, .head_size = 128, .head_norm = true,
	 .window = 4096, .window_first = 2, .context = 32768},
	{QWEN3 ", \"head_dim\": 6, \"attention_bias\": true}", "qwen3",
	 ROPE_DEFAULT, 1e4, .head_size = 6, .head_norm = true, .qkv_bias = true,
	 .output_bias = true, .context = 32768},
};

static void assert_reading(const struct model_config *config, size_t i)
{
	bool good = strcmp(config->family, readings[i].family) == 0 &&
		    config->rope.kind == readings[i].kind &&
		    config->rope.theta == readings[i].theta &&
		    config->rope.factor == readings[i].factor &&
		    config->kv_heads == readings[i].kv_heads &&
		    config->head_size == readings[i].head_size &&
		    config->window == readings[i].window &&
		    config->window_first == readings[i].window_first &&
		    config->context == readings[i].context &&
		    config->qkv_bias == readings[i].qkv_bias &&
		    config->output_bias == readings[i].output_bias &&
		    config->head_norm == readings[i].head_norm &&
		    config->tied == readings[i].tied;

	if (!good)
		fail_msg("read otherwise: %s", readings[i].text);
}

/* Read, and read again after it has been written. */
static void test_llama_readings(void **state)
{
	struct model_config config, again;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(readings); i++) {
		assert_int_equal(read_text(readings[i].text, &config), 0);
		assert_reading(&config, i);
		assert_int_equal(hf_config_write(folder, &config, "float32"),
				 0);
		assert_int_equal(hf_config_read(folder, &again), 0);
		assert_reading(&again, i);
	}
}

/* All the numbers of a rotation come back. */
static void test_llama_rotations(void **state)
{
	static const char *const texts[] = {
		LLAMA ", \"max_position_embeddings\": 70, \"rope_theta\": 3, "
		      "\"rope_scaling\": {\"rope_type\": \"llama3\", "
		      "\"factor\": 8, \"low_freq_factor\": 1.5, "
		      "\"high_freq_factor\": 4, "
		      "\"original_max_position_embeddings\": 60}}",
		LLAMA ", \"rope_scaling\": {\"rope_type\": \"yarn\", "
		      "\"factor\": 8, \"beta_fast\": 20, \"beta_slow\": 2, "
		      "\"attention_factor\": 0.5, \"mscale\": 0.7, "
		      "\"mscale_all_dim\": 0.9, \"truncate\": false}}",
	};
	struct model_config config, again;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		memset(&config, 0, sizeof(config));
		memset(&again, 0, sizeof(again));
		assert_int_equal(read_text(texts[i], &config), 0);
		assert_int_equal(hf_config_write(folder, &config, "float32"),
				 0);
		assert_int_equal(hf_config_read(folder, &again), 0);
		assert_true(again.rope.low_frequency_factor ==
			    config.rope.low_frequency_factor);
		assert_true(again.rope.high_frequency_factor ==
			    config.rope.high_frequency_factor);
		assert_int_equal(again.rope.original_positions,
				 config.rope.original_positions);
		assert_int_equal(again.rope.positions, config.rope.positions);
		assert_true(again.rope.beta_fast == config.rope.beta_fast);
		assert_true(again.rope.beta_slow == config.rope.beta_slow);
		assert_true(again.rope.attention_factor ==
			    config.rope.attention_factor);
		assert_true(again.rope.mscale == config.rope.mscale);
		assert_true(again.rope.mscale_all == config.rope.mscale_all);
		assert_int_equal(again.rope.untruncated,
				 config.rope.untruncated);
	}
	assert_true(config.rope.untruncated);
	assert_true(config.rope.mscale_all == 0.9);
	assert_int_equal(config.rope.original_positions, 2048);
}

static const struct {
	const char *text;
	const char *message;
} refusals[] = {
	{"[]", "object"},
	{"{}", "model_type"},
	{"{\"model_type\": \"mamba\"}", "'mamba' is not supported"},
	{"{\"model_type\": 3}", "model_type"},
	{"{" SIZES ", \"architectures\": [\"GPT2ForSequenceClassification\"]}",
	 "GPT2ForSequenceClassification"},
	{"{" SIZES ", \"architectures\": \"GPT2LMHeadModel\"}",
	 "architectures"},
	{"{" SIZES ", \"activation_function\": \"relu\"}",
	 "activation_function = \"relu\""},
	{"{" SIZES ", \"activation_function\": \"gelu\"}",
	 "activation_function"},
	{"{" SIZES ", \"scale_attn_weights\": false}", "scale_attn_weights"},
	{"{" SIZES ", \"scale_attn_by_inverse_layer_idx\": true}",
	 "scale_attn_by_inverse_layer_idx"},
	{"{" SIZES ", \"reorder_and_upcast_attn\": true}",
	 "reorder_and_upcast_attn"},
	{"{" SIZES ", \"add_cross_attention\": true}", "add_cross_attention"},
	{"{" SIZES ", \"quantization_config\": {\"bits\": 4}}",
	 "quantization_config"},
	{"{" SIZES ", \"resid_pdrop\": 1.5}", "resid_pdrop"},
	{"{" SIZES ", \"resid_pdrop\": \"0.1\"}", "resid_pdrop"},
	{"{" SIZES ", \"tie_word_embeddings\": 1}", "tie_word_embeddings"},
	{"{" SIZES ", \"eos_token_id\": \"x\"}", "eos_token_id"},
	{"{" SIZES ", \"n_inner\": -1}", "n_inner"},
	{"{\"model_type\": \"gpt2\", \"vocab_size\": 5}", "n_positions"},
	{"{\"model_type\": \"gpt2\", \"vocab_size\": 0}", "vocab_size"},
	{"{\"model_type\": \"gpt2\", \"vocab_size\": 1e3}", "vocab_size"},
	{"{\"model_type\": \"gpt2\", \"vocab_size\": 100, \"n_positions\": 32,"
	 "\"n_embd\": 24, \"n_layer\": 2, \"n_head\": 5}",
	 "n_head = 5 does not divide"},
	{LLAMA ", \"hidden_act\": \"gelu\"}", "hidden_act = \"gelu\""},
	{LLAMA ", \"architectures\": [\"LlamaForSequenceClassification\"]}",
	 "LlamaForSequenceClassification"},
	{LLAMA ", \"quantization_config\": {\"bits\": 4}}",
	 "quantization_config"},
	{LLAMA ", \"rope_scaling\": {\"type\": \"longrope\"}}", "'longrope'"},
	{LLAMA ", \"rope_scaling\": {" SCALED ", \"mrope_section\": [1]}}",
	 "'mrope_section'"},
	{LLAMA ", \"rope_scaling\": {\"type\": \"linear\"}}", "factor"},
	{LLAMA ", \"rope_scaling\": 3}", "rope_scaling"},
	{LLAMA ", \"rope_scaling\": {\"type\": \"llama3\", \"factor\": 8}}",
	 "low_freq_factor"},
	{LLAMA ", \"partial_rotary_factor\": 0.5}", "partial_rotary_factor"},
	{LLAMA ", \"rope_parameters\": {\"partial_rotary_factor\": 0.5}}",
	 "partial_rotary_factor"},
	{LLAMA ", \"rope_parameters\": {\"full_attention\": "
	       "{\"rope_theta\": 1}, \"sliding_attention\": {\"rope_theta\": "
	       "2}}}",
	 "differ between layers"},
	{LLAMA ", \"layer_types\": [" SLIDING "]}", "layer_types"},
	{MISTRAL ", \"attention_bias\": true}", "attention_bias"},
	{MISTRAL ", \"sliding_window\": 0}", "sliding_window"},
	{QWEN2 ", \"use_mrope\": true}", "use_mrope"},
	{QWEN3 ", \"use_sliding_window\": true, \"layer_types\": [" SLIDING
	       ", " PLAIN ", " PLAIN ", " PLAIN "]}",
	 "layer_types"},
	{QWEN3 ", \"layer_types\": [" PLAIN ", " PLAIN ", " PLAIN ", " SLIDING
	       "]}",
	 "sliding_window"},
	{QWEN3 ", \"layer_types\": [" PLAIN "]}", "layer_types"},
	{QWEN3 ", \"layer_types\": [" PLAIN ", " PLAIN ", " PLAIN
	       ", \"linear_attention\"]}",
	 "linear_attention"},
	{"{\"model_type\": \"qwen3_moe\"}", "'qwen3_moe' is not supported"},
};

static void test_refusals(void **state)
{
	(void)state;
	log_set_sink(quiet, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(refusals); i++) {
		struct model_config config = {.vocab_size = 77};

		assert_int_equal(read_text(refusals[i].text, &config), -EINVAL);
		assert_int_equal(config.vocab_size, 77);
		if (strstr(log_last_error(), refusals[i].message) == NULL ||
		    strstr(log_last_error(), "config.json") == NULL)
			fail_msg("%s: message '%s'", refusals[i].text,
				 log_last_error());
	}
	log_set_sink(NULL, NULL);
}

static void test_unwritable(void **state)
{
	struct model_config config = {
		.family = "gpt2", .width = 24, .heads = 4, .kv_heads = 2};
	struct model_config unknown = {.family = "nosuch"};
	struct model_config unturned = {.family = "llama"};

	(void)state;
	log_set_sink(quiet, NULL);
	assert_int_equal(hf_config_write(folder, &config, "float32"), -EINVAL);
	assert_int_equal(hf_config_write(folder, &unknown, "float32"), -EINVAL);
	config.kv_heads = 0;
	config.heads = 0;
	assert_int_equal(hf_config_write(folder, &config, "float32"), -EINVAL);
	assert_int_equal(hf_config_write(folder, &unturned, "float32"),
			 -EINVAL);
	log_set_sink(NULL, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hub_file),
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_llama_readings),
		cmocka_unit_test(test_llama_rotations),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_unwritable),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, folder_make, folder_remove);
}
