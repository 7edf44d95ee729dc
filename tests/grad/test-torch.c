/*
 * The layers against PyTorch: loss, logits and gradients of a tiny GPT-2
 * whose weights are read from a file, as transformers saves it.
 */
#include "model/io/hf_config.h"
#include "tests/grad/golden.h"
#include "tests/grad/rig.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define LAYERS_MAX 8
#define BATCH      2
#define TIME       19
#define VOCAB      61

struct network {
	struct safetensors *golden, *weights;
	struct model *model;
	unsigned layers;
	const struct parameter *parameters; /* the whole table */
	struct rig rig[LAYERS_MAX];
};

/* The name under which a row's values are stored: the target's if tied. */
static const char *stored_name(const struct network *network,
			       const struct parameter *row)
{
	if (row->tied_to != PARAMETER_NOT_TIED)
		row = &network->parameters[row->tied_to];
	return row->name;
}

static const struct parameter *row_of(const struct network *network,
				      unsigned layer, unsigned local)
{
	unsigned first = network->rig[layer].layer->first_parameter;

	return &network->parameters[first + local];
}

static void load_weights(struct network *network, unsigned layer)
{
	struct rig *rig = &network->rig[layer];

	for (unsigned p = 0; p < rig->layer->parameter_count; p++) {
		const struct parameter *row = row_of(network, layer, p);
		const struct safetensors_tensor *tensor = golden_find(
			network->weights, "", stored_name(network, row));

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

	assert_int_equal(tensor->dtype, SAFETENSORS_I32);
	assert_int_equal(safetensors_check_shape(tensor, 2, shape), 0);
	memcpy(out, tensor->data, sizeof(int32_t) * BATCH * TIME);
}

static void network_init(struct network *network, enum layer_mode mode)
{
	struct rig_size size = {.batch = BATCH,
				.time = TIME,
				.threads = 2,
				.mode = mode,
				.vocab_size = VOCAB,
				.seed = 1};
	struct model_config config;
	unsigned count;

	assert_int_equal(safetensors_open(golden_path("golden.safetensors"),
					  &network->golden),
			 0);
	assert_int_equal(safetensors_open(golden_path(""), &network->weights),
			 0);
	assert_int_equal(hf_config_read(golden_path(""), &config), 0);
	assert_int_equal(config.vocab_size, VOCAB);
	assert_int_equal(model_create(&config, &network->model), 0);
	network->parameters = model_parameters(network->model, &count);
	network->layers = model_layer_count(network->model);
	assert_true(network->layers <= LAYERS_MAX);
	for (unsigned i = 0; i < network->layers; i++) {
		struct rig *rig = &network->rig[i];

		rig_init(rig, model_layer(network->model, i),
			 network->parameters, &size);
		load_weights(network, i);
		load_column(network, "tokens", rig->tokens);
		load_column(network, "labels", rig->labels);
		if (i == 0)
			continue;
		rig->buffers.input = network->rig[i - 1].output;
		network->rig[i - 1].buffers.output_gradient =
			rig->input_gradient;
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

/* The mean loss: the sum the head leaves times the scale it was told. */
static double run_forward(struct network *network)
{
	const int32_t *labels = network_head(network)->labels;
	size_t supervised = 0;

	for (size_t i = 0; i < BATCH * TIME; i++)
		supervised += labels[i] >= 0;
	assert_true(supervised < BATCH * TIME);
	for (unsigned i = 0; i < network->layers; i++) {
		network->rig[i].context.loss_scale = 1.0 / (double)supervised;
		rig_forward(&network->rig[i]);
	}
	return network_head(network)->loss / (double)supervised;
}

static double golden_loss(const struct network *network)
{
	float *loss = golden_floats(golden_find(network->golden, "loss", ""));
	double value = (double)*loss;

	free(loss);
	return value;
}

static void loss_is_torchs(void **state)
{
	static const enum layer_mode modes[] = {LAYER_TRAIN, LAYER_EVAL};
	struct network network;
	double wanted, got;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		network_init(&network, modes[i]);
		wanted = golden_loss(&network);
		got = run_forward(&network);
		print_message("# loss %.9g, torch %.9g\n", got, wanted);
		assert_true(fabs(got - wanted) <= 1e-6 * wanted);
		network_fini(&network);
	}
}

/* One token after another through the cache: logits of every position. */
static void logits_are_torchs(void **state)
{
	struct network network;
	int32_t tokens[BATCH * TIME];
	float got[BATCH * TIME * VOCAB], *wanted;
	double worst;

	(void)state;
	network_init(&network, LAYER_DECODE);
	load_column(&network, "tokens", tokens);
	for (size_t t = 0; t < TIME; t++) {
		for (unsigned i = 0; i < network.layers; i++) {
			struct rig *rig = &network.rig[i];

			rig->context.time = 1;
			rig->context.position_offset = t;
			for (size_t b = 0; b < BATCH; b++)
				rig->tokens[b] = tokens[b * TIME + t];
			rig_forward(rig);
		}
		for (size_t b = 0; b < BATCH; b++)
			memcpy(got + (b * TIME + t) * VOCAB,
			       network_head(&network)->output + b * VOCAB,
			       sizeof(float) * VOCAB);
	}
	wanted = golden_floats(golden_find(network.golden, "logits", ""));
	worst = golden_difference(ARRAY_SIZE(got), wanted, got);
	print_message("# logits: worst difference %.2g of the largest\n",
		      worst);
	assert_true(worst < 1e-5);
	free(wanted);
	network_fini(&network);
}

/* A row's gradient; that of a tied row goes to its target. */
static void add_tied(const struct network *network, const struct parameter *row,
		     float *gradient)
{
	for (unsigned i = 0; i < network->layers; i++) {
		const struct rig *rig = &network->rig[i];

		for (unsigned p = 0; p < rig->layer->parameter_count; p++) {
			if (row_of(network, i, p)->tied_to != (int)row->id)
				continue;
			for (size_t j = 0; j < row->count; j++)
				gradient[j] += rig->gradients[p][j];
		}
	}
}

static double gradient_error(const struct network *network,
			     const struct parameter *row, float *gradient)
{
	float *wanted = golden_floats(
		golden_find(network->golden, "gradient.", row->name));
	double error;

	add_tied(network, row, gradient);
	error = golden_difference(row->count, wanted, gradient);
	free(wanted);
	return error;
}

static void gradients_are_torchs(void **state)
{
	struct network network;
	unsigned compared = 0;
	double worst = 0.0;

	(void)state;
	network_init(&network, LAYER_TRAIN);
	run_forward(&network);
	for (unsigned i = network.layers; i-- > 0;) {
		rig_backward_input(&network.rig[i]);
		rig_backward_weight(&network.rig[i]);
	}
	for (unsigned i = 0; i < network.layers; i++) {
		struct rig *rig = &network.rig[i];

		for (unsigned p = 0; p < rig->layer->parameter_count; p++) {
			const struct parameter *row = row_of(&network, i, p);
			double error;

			if (row->tied_to != PARAMETER_NOT_TIED)
				continue;
			error = gradient_error(&network, row,
					       rig->gradients[p]);
			if (!(error < 2e-5))
				fail_msg("%s: off by %g of its largest",
					 row->name, error);
			worst = fmax(worst, error);
			compared++;
		}
	}
	print_message(
		"# gradients: worst difference %.2g of the tensor's largest\n",
		worst);
	assert_int_equal(compared, 2 + 3 * 12 + 2);
	network_fini(&network);
}

/* A wrong gradient is noticed: the head's part of the tied one left out. */
static void a_missing_part_is_noticed(void **state)
{
	struct network network;
	float *wanted;
	double error;

	(void)state;
	network_init(&network, LAYER_TRAIN);
	run_forward(&network);
	for (unsigned i = network.layers; i-- > 0;) {
		rig_backward_input(&network.rig[i]);
		rig_backward_weight(&network.rig[i]);
	}
	wanted = golden_floats(golden_find(network.golden, "gradient.",
					   network.parameters[0].name));
	error = golden_difference(network.parameters[0].count, wanted,
				  network.rig[0].gradients[0]);
	assert_true(error > 1e-2);
	free(wanted);
	network_fini(&network);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(loss_is_torchs),
		cmocka_unit_test(logits_are_torchs),
		cmocka_unit_test(gradients_are_torchs),
		cmocka_unit_test(a_missing_part_is_noticed),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
