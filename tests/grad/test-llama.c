/*
 * The Llama family against transformers: for each case of tests/grad/llama, loss
 * and logits of a tiny model that transformers has written. Gradients and
 * steps: test-llama-train.sh.
 */
#include "model/io/hf_config.h"
#include "tests/grad/golden.h"
#include "tests/grad/rig.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define LAYERS_MAX 8
#define BATCH      2
#define TIME       23
#define VOCAB      45

/* As in make-golden.py. */
static const char *const cases[] = {
	"plain",
	"groups-tied",
	"one-key-biases",
	"linear",
	"dynamic",
	"llama3",
	"yarn",
	"window",
	"window-yarn",
	"biases",
	"biases-upper-window",
	"normed-tied",
	"normed-biases",
	"normed-bf16",
	"plain-f16",
};

struct network {
	struct safetensors *golden, *weights;
	struct model *model;
	unsigned layers;
	const struct parameter *parameters; /* the whole table */
	struct rig rig[LAYERS_MAX];
};

static const char *case_path(const char *name, const char *file)
{
	char below[128];

	snprintf(below, sizeof(below), "../llama/%s%s", name, file);
	return golden_path(below);
}

static void load_weights(struct network *network, unsigned layer)
{
	struct rig *rig = &network->rig[layer];

	for (unsigned p = 0; p < rig->layer->parameter_count; p++) {
		const struct parameter *row =
			&network->parameters[rig->layer->first_parameter + p];
		const struct safetensors_tensor *tensor;

		if (row->tied_to != PARAMETER_NOT_TIED)
			row = &network->parameters[row->tied_to];
		tensor = golden_find(network->weights, "", row->name);
		assert_int_equal(safetensors_check_shape(
					 tensor, row->dimensions, row->shape),
				 0);
		assert_int_equal(safetensors_read_floats(tensor, 0, row->count,
							 rig->weights[p]),
				 0);
	}
}

static void load_column(const struct network *network, const char *name,
			int32_t *out)
{
	const size_t shape[] = {BATCH, TIME};
	const struct safetensors_tensor *tensor =
		golden_find(network->golden, name, "");

	assert_int_equal(safetensors_check_shape(tensor, 2, shape), 0);
	memcpy(out, tensor->data, sizeof(int32_t) * BATCH * TIME);
}

/* Every tensor of the file is a parameter's, and they are as many. */
static void check_tensors(const struct network *network, unsigned parameters)
{
	size_t stored = 0;

	for (unsigned i = 0; i < parameters; i++)
		stored += network->parameters[i].tied_to == PARAMETER_NOT_TIED;
	assert_int_equal(safetensors_count(network->weights), stored);
}

/* `change` (NULL: none) sees the configuration that was read. */
static void network_init(struct network *network, const char *name,
			 enum layer_mode mode,
			 void (*change)(struct model_config *config))
{
	struct rig_size size = {.batch = BATCH,
				.time = TIME,
				.threads = 2,
				.mode = mode,
				.vocab_size = VOCAB,
				.seed = 1};
	struct model_config config;
	unsigned count;

	assert_int_equal(
		safetensors_open(case_path(name, "/golden.safetensors"),
				 &network->golden),
		0);
	assert_int_equal(
		safetensors_open(case_path(name, ""), &network->weights), 0);
	assert_int_equal(hf_config_read(case_path(name, ""), &config), 0);
	if (change)
		change(&config);
	assert_int_equal(model_create(&config, &network->model), 0);
	network->parameters = model_parameters(network->model, &count);
	network->layers = model_layer_count(network->model);
	check_tensors(network, count);
	for (unsigned i = 0; i < network->layers; i++) {
		struct rig *rig = &network->rig[i];

		rig_init(rig, model_layer(network->model, i),
			 network->parameters, &size);
		load_weights(network, i);
		load_column(network, "tokens", rig->tokens);
		load_column(network, "labels", rig->labels);
		if (i > 0)
			rig->buffers.input = network->rig[i - 1].output;
	}
}

static void network_fini(struct network *network)
{
	for (unsigned i = 0; i < network->layers; i++)
		rig_fini(&network->rig[i]);
	model_destroy(network->model);
	safetensors_close(network->weights);
	safetensors_close(network->golden);
}

static struct rig *network_head(struct network *network)
{
	return &network->rig[network->layers - 1];
}

static void loss_is_theirs(void **state)
{
	(void)state;
	for (size_t c = 0; c < ARRAY_SIZE(cases); c++) {
		struct network network;
		double supervised = 0, got;
		float *wanted;

		network_init(&network, cases[c], LAYER_EVAL, NULL);
		for (unsigned i = 0; i < network.layers; i++)
			rig_forward(&network.rig[i]);
		for (size_t i = 0; i < BATCH * TIME; i++)
			supervised += network_head(&network)->labels[i] >= 0;
		got = network_head(&network)->loss / supervised;
		wanted = golden_floats(golden_find(network.golden, "loss", ""));
		print_message("# %s: loss %.8g, transformers %.8g\n", cases[c],
			      got, (double)*wanted);
		assert_true(fabs(got - (double)*wanted) <=
			    1e-5 * (double)*wanted);
		free(wanted);
		network_fini(&network);
	}
}

/* Tokens [first, first + count) of each sample through the caches. */
static void decode(struct network *network, const int32_t *tokens, size_t first,
		   size_t count)
{
	for (unsigned i = 0; i < network->layers; i++) {
		struct rig *rig = &network->rig[i];

		rig->context.time = count;
		rig->context.position_offset = first;
		for (size_t b = 0; b < BATCH; b++)
			memcpy(rig->tokens + b * count,
			       tokens + b * TIME + first,
			       count * sizeof(*tokens));
		rig_forward(rig);
	}
}

/*
 * The worst difference of logits, when the tokens come `step` at a time: each
 * call tells those of its last position.
 */
static double decoding_error(struct network *network, size_t step)
{
	float *wanted =
		golden_floats(golden_find(network->golden, "logits", ""));
	int32_t tokens[BATCH * TIME];
	double worst = 0.0;

	load_column(network, "tokens", tokens);
	for (size_t first = 0; first < TIME; first += step) {
		size_t count = MIN(step, TIME - first);
		const float *logits = network_head(network)->output;

		decode(network, tokens, first, count);
		for (size_t b = 0; b < BATCH; b++)
			worst = fmax(worst,
				     golden_difference(VOCAB,
						       wanted + (b * TIME +
								 first + count -
								 1) * VOCAB,
						       logits + b * VOCAB));
	}
	free(wanted);
	return worst;
}

static void logits_are_theirs(void **state)
{
	static const size_t steps[] = {1, 7, TIME};

	(void)state;
	for (size_t c = 0; c < ARRAY_SIZE(cases); c++) {
		/* Keys in the cache were turned for a shorter sequence. */
		bool grows = strcmp(cases[c], "dynamic") == 0;

		for (size_t s = grows ? 2 : 0; s < ARRAY_SIZE(steps); s++) {
			struct network network;
			double worst;

			network_init(&network, cases[c], LAYER_DECODE, NULL);
			worst = decoding_error(&network, steps[s]);
			print_message("# %s by %zu: off by %.2g\n", cases[c],
				      steps[s], worst);
			assert_true(worst < 2e-5);
			network_fini(&network);
		}
	}
}

static void change_theta(struct model_config *config)
{
	config->rope.theta *= 2;
}

static void change_window(struct model_config *config)
{
	config->window++;
}

static void change_epsilon(struct model_config *config)
{
	config->norm_epsilon *= 100;
}

/* The comparison can fail. */
static void other_models_differ(void **state)
{
	void (*const changes[])(struct model_config * config) = {
		change_theta, change_window, change_epsilon};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(changes); i++) {
		struct network network;

		network_init(&network, "window", LAYER_DECODE, changes[i]);
		assert_true(decoding_error(&network, 1) > 1e-4);
		network_fini(&network);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(loss_is_theirs),
		cmocka_unit_test(logits_are_theirs),
		cmocka_unit_test(other_models_differ),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
