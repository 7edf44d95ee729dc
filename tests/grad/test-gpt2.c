/*
 * GPT-2 as a whole: the table of its parameters, its loss and gradients
 * against the reference, decoding with a cache, what is refused.
 */
#include "base/log.h"
#include "base/random.h"
#include "model/kernels/gemm.h"
#include "tests/grad/check.h"
#include "tests/grad/reference.h"
#include "tests/grad/rig.h"
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define LAYERS_MAX 8
#define VOCAB      97
#define BATCH      2

static struct model_config tiny(double dropout)
{
	struct model_config config;

	assert_int_equal(model_config_default("gpt2", &config), 0);
	config.vocab_size = VOCAB;
	config.context = 48;
	config.width = 32;
	config.heads = 4;
	config.layers = 3;
	config.embedding_dropout = dropout;
	config.attention_dropout = dropout;
	config.residual_dropout = dropout;
	return config;
}

/* ---- a network: a rig for each layer, edges joined ---- */

struct network {
	struct model *model;
	unsigned layers;
	struct rig rig[LAYERS_MAX];
	double **weights; /* doubles by parameter id, for the reference */
};

static void network_init(struct network *network,
			 const struct model_config *config,
			 const struct rig_size *size)
{
	const struct parameter *parameters;
	unsigned count;

	assert_int_equal(model_create(config, &network->model), 0);
	parameters = model_parameters(network->model, &count);
	network->layers = model_layer_count(network->model);
	network->weights = calloc(count, sizeof(double *));
	assert_non_null(network->weights);
	for (unsigned i = 0; i < network->layers; i++) {
		struct rig *rig = &network->rig[i];

		rig_init(rig, model_layer(network->model, i), parameters, size);
		/* All see the same columns: rigs of one seed are alike. */
		for (unsigned p = 0; p < rig->layer->parameter_count; p++)
			network->weights[rig->layer->first_parameter + p] =
				rig_doubles(rig->weights[p],
					    rig_parameter_count(rig, p));
		if (i == 0)
			continue;
		assert_true(edge_equal(&rig->layer->input,
				       &network->rig[i - 1].layer->output));
		rig->buffers.input = network->rig[i - 1].output;
		network->rig[i - 1].buffers.output_gradient =
			rig->input_gradient;
	}
}

static void network_fini(struct network *network)
{
	unsigned count;

	model_parameters(network->model, &count);
	for (unsigned p = 0; p < count; p++)
		free(network->weights[p]);
	free(network->weights);
	for (unsigned i = 0; i < network->layers; i++)
		rig_fini(&network->rig[i]);
	model_destroy(network->model);
}

static struct rig *network_head(struct network *network)
{
	return &network->rig[network->layers - 1];
}

static void network_forward(struct network *network)
{
	for (unsigned i = 0; i < network->layers; i++)
		rig_forward(&network->rig[i]);
}

static void network_backward(struct network *network)
{
	for (unsigned i = network->layers; i-- > 0;) {
		rig_backward_input(&network->rig[i]);
		rig_backward_weight(&network->rig[i]);
	}
}

static struct reference network_reference(struct network *network, bool train)
{
	const struct rig *head = network_head(network);

	return (struct reference){
		.model = network->model,
		.weights = network->weights,
		.batch = head->context.batch,
		.time = head->context.time,
		.tokens = head->tokens,
		.labels = head->labels,
		.sample_ids = head->sample_ids,
		.seed = head->context.seed,
		.step = head->context.step,
		.train = train,
		.loss_scale = head->context.loss_scale,
	};
}

static struct rig_size size_of(size_t time, enum layer_mode mode)
{
	return (struct rig_size){
		.batch = BATCH,
		.time = time,
		.threads = 2,
		.mode = mode,
		.vocab_size = VOCAB,
		.seed = 7,
	};
}

/* ---- loss and gradients ---- */

static double evaluate(void *argument)
{
	return reference_model(argument);
}

static void check_network(double dropout)
{
	struct model_config config = tiny(dropout);
	struct rig_size size = size_of(23, LAYER_TRAIN);
	struct reference reference;
	struct network network;

	network_init(&network, &config, &size);
	network_forward(&network);
	network_backward(&network);
	reference = network_reference(&network, true);
	assert_true(fabs(network_head(&network)->loss * reference.loss_scale -
			 reference_model(&reference)) < 1e-5);
	for (unsigned i = 0; i < network.layers; i++) {
		const struct rig *rig = &network.rig[i];

		for (unsigned p = 0; p < rig->layer->parameter_count; p++) {
			double worst = check_gradient(
				evaluate, &reference,
				network.weights[rig->layer->first_parameter +
						p],
				rig_parameter_count(rig, p), rig->gradients[p],
				1e-3);

			if (!(worst < 1.0))
				fail_msg("%s: error %g of what is tolerated",
					 rig->parameters[p].name, worst);
		}
	}
	network_fini(&network);
}

static void loss_and_gradients_are_right(void **state)
{
	(void)state;
	check_network(0.0);
}

static void with_dropout_too(void **state)
{
	(void)state;
	check_network(0.2);
}

/* Evaluation has no dropout and no step; its loss is the reference's. */
static void evaluation_is_right(void **state)
{
	struct model_config config = tiny(0.2);
	struct rig_size size = size_of(23, LAYER_EVAL);
	struct reference reference;
	struct network network;
	double expected;

	(void)state;
	network_init(&network, &config, &size);
	network_forward(&network);
	reference = network_reference(&network, false);
	expected = reference_model(&reference);
	assert_true(fabs(network_head(&network)->loss * reference.loss_scale -
			 expected) < 1e-5);
	for (unsigned i = 0; i < network.layers; i++)
		assert_int_equal(network.rig[i].memory.saved_bytes, 0);
	network_fini(&network);
}

/* Feeds tokens [first, first + count) of each sample. */
static void decode(struct network *network, const int32_t *tokens, size_t time,
		   size_t first, size_t count)
{
	for (unsigned i = 0; i < network->layers; i++) {
		struct rig *rig = &network->rig[i];

		rig->context.time = count;
		rig->context.position_offset = first;
		for (size_t b = 0; b < BATCH; b++)
			memcpy(rig->tokens + b * count,
			       tokens + b * time + first,
			       count * sizeof(int32_t));
		rig_forward(rig);
	}
}

/* A prompt, then token after token: always the whole sequence's logits. */
static void decoding_equals_whole_sequence(void **state)
{
	enum {
		TIME = 37,
		PROMPT = 20
	};
	struct model_config config = tiny(0.2);
	struct rig_size size = size_of(TIME, LAYER_DECODE);
	int32_t tokens[BATCH * TIME], prefix[BATCH * TIME];
	double expected[BATCH * VOCAB];
	struct network network;

	(void)state;
	network_init(&network, &config, &size);
	memcpy(tokens, network.rig[0].tokens, sizeof(tokens));
	for (size_t done = 0; done < TIME;) {
		size_t count = done == 0 ? PROMPT : 1;
		struct reference reference = network_reference(&network, false);
		const float *logits = network_head(&network)->output;

		decode(&network, tokens, TIME, done, count);
		done += count;
		for (size_t b = 0; b < BATCH; b++)
			memcpy(prefix + b * done, tokens + b * TIME,
			       done * sizeof(int32_t));
		reference.time = done;
		reference.tokens = prefix;
		reference_logits(&reference, expected);
		for (size_t i = 0; i < BATCH * VOCAB; i++)
			assert_true(fabs(expected[i] - (double)logits[i]) <
				    1e-4 * (1.0 + fabs(expected[i])));
	}
	network_fini(&network);
}

/* The norm of the whole, summed over tied rows, is the tied model's. */
static void tied_gradients_sum_to_the_tied_derivative(void **state)
{
	struct model_config config = tiny(0.0);
	struct rig_size size = size_of(23, LAYER_TRAIN);
	const struct parameter *head;
	struct reference reference;
	struct network network;
	const float *of_embedding;
	float *sum;

	(void)state;
	network_init(&network, &config, &size);
	head = model_parameter_find(network.model, "lm_head.weight");
	assert_non_null(head);
	assert_int_equal(head->tied_to, 0);
	/* The head's copy becomes the embedding's values, in both worlds. */
	memcpy(network_head(&network)->weights[2], network.rig[0].weights[0],
	       head->count * sizeof(float));
	free(network.weights[head->id]);
	network.weights[head->id] = network.weights[0];
	network_forward(&network);
	network_backward(&network);
	reference = network_reference(&network, true);
	of_embedding = network.rig[0].gradients[0];
	sum = rig_allocate(head->count * sizeof(float));
	for (size_t i = 0; i < head->count; i++)
		sum[i] = of_embedding[i] +
			 network_head(&network)->gradients[2][i];
	assert_true(check_gradient(evaluate, &reference, network.weights[0],
				   head->count, sum, 1e-3) < 1.0);
	assert_true(check_gradient(evaluate, &reference, network.weights[0],
				   head->count, of_embedding, 1e-3) >= 1.0);
	free(sum);
	network.weights[head->id] = NULL;
	network_fini(&network);
}

/* ---- the tables ---- */

static void table_is_gpt2s(void **state)
{
	struct model_config config;
	const struct parameter *rows, *row;
	struct model *model;
	unsigned count;

	(void)state;
	assert_int_equal(model_config_default("gpt2", &config), 0);
	config.vocab_size = 50257;
	config.context = 1024;
	config.width = 768;
	config.heads = 12;
	config.layers = 12;
	assert_int_equal(model_create(&config, &model), 0);
	assert_int_equal(model_parameter_total(model), 124439808);
	assert_int_equal(model_layer_count(model), 14);
	rows = model_parameters(model, &count);
	assert_int_equal(count, 2 + 12 * 12 + 3);
	for (unsigned i = 0; i < count; i++) {
		size_t product = 1;

		assert_int_equal(rows[i].id, i);
		for (unsigned d = 0; d < rows[i].dimensions; d++)
			product *= rows[i].shape[d];
		assert_int_equal(rows[i].count, product);
		assert_int_equal(rows[i].decay_group == DECAY_WEIGHT,
				 rows[i].dimensions == 2);
		assert_ptr_equal(model_parameter_find(model, rows[i].name),
				 &rows[i]);
	}
	row = model_parameter_find(model, "h.11.attn.c_attn.weight");
	assert_non_null(row);
	assert_string_equal(row->name, "transformer.h.11.attn.c_attn.weight");
	assert_int_equal(row->layer, 12);
	assert_int_equal(row->shape[0], 768);
	assert_int_equal(row->shape[1], 3 * 768);
	assert_int_equal(row->split_axis, 1);
	assert_int_equal(row->split_parts, 3);
	row = model_parameter_find(model, "transformer.h.0.mlp.c_proj.weight");
	assert_int_equal(row->shape[0], 4 * 768);
	assert_true(fabsf(row->init_deviation - 0.02f / sqrtf(24.0f)) < 1e-8f);
	row = model_parameter_find(model, "lm_head.weight");
	assert_int_equal(row->tied_to,
			 (int)model_parameter_find(model, "wte.weight")->id);
	assert_null(model_parameter_find(model, "h.12.ln_1.weight"));
	assert_true(model_tensor_is_ignored(model, "h.3.attn.bias"));
	assert_true(model_tensor_is_ignored(
		model, "transformer.h.3.attn.masked_bias"));
	assert_false(model_tensor_is_ignored(model, "h.3.attn.c_attn.bias"));
	assert_false(model_tensor_is_ignored(model, "h.3.ln_1.bias"));
	model_destroy(model);
}

static void initial_values_depend_on_name_and_index(void **state)
{
	struct model_config config = tiny(0.1);
	float whole[VOCAB * 32], part[100], other[VOCAB * 32];
	const struct parameter *head, *row;
	struct model *model;
	double sum = 0.0, squares = 0.0;

	(void)state;
	assert_int_equal(model_create(&config, &model), 0);
	head = model_parameter_find(model, "lm_head.weight");
	model_initialise(model, 0, 1, 0, VOCAB * 32, whole);
	model_initialise(model, 0, 1, 333, 100, part);
	assert_memory_equal(part, whole + 333, sizeof(part));
	model_initialise(model, head->id, 1, 0, VOCAB * 32, other);
	assert_memory_equal(whole, other, sizeof(whole));
	model_initialise(model, 0, 2, 0, VOCAB * 32, other);
	assert_memory_not_equal(whole, other, sizeof(whole));
	for (size_t i = 0; i < ARRAY_SIZE(whole); i++) {
		sum += (double)whole[i];
		squares += (double)whole[i] * (double)whole[i];
	}
	assert_true(fabs(sum / ARRAY_SIZE(whole)) < 0.002);
	assert_true(fabs(sqrt(squares / ARRAY_SIZE(whole)) - 0.02) < 0.001);
	row = model_parameter_find(model, "h.1.ln_1.weight");
	model_initialise(model, row->id, 1, 0, 32, part);
	assert_true(part[0] == 1.0f && part[31] == 1.0f);
	row = model_parameter_find(model, "h.1.ln_1.bias");
	model_initialise(model, row->id, 1, 0, 32, part);
	assert_true(part[0] == 0.0f && part[31] == 0.0f);
	model_destroy(model);
}

/* An untied head is a parameter like others. */
static void untied_head_stands_alone(void **state)
{
	struct model_config config = tiny(0.1);
	const struct parameter *head;
	struct model *tied, *untied;

	(void)state;
	assert_int_equal(model_create(&config, &tied), 0);
	config.tied = false;
	assert_int_equal(model_create(&config, &untied), 0);
	head = model_parameter_find(untied, "lm_head.weight");
	assert_int_equal(head->tied_to, PARAMETER_NOT_TIED);
	assert_int_equal(model_parameter_total(untied),
			 model_parameter_total(tied) + head->count);
	model_destroy(tied);
	model_destroy(untied);
}

/* ---- what is refused ---- */

static void swallow(void *argument, enum log_level level, const char *line)
{
	(void)argument;
	(void)level;
	(void)line;
}

static void assert_refused(const struct model_config *config, const char *word)
{
	struct model *model = NULL;

	log_clear_last_error();
	assert_int_equal(model_create(config, &model), -EINVAL);
	assert_null(model);
	if (!strstr(log_last_error(), word))
		fail_msg("\"%s\" does not say \"%s\"", log_last_error(), word);
}

static void impossible_models_are_refused(void **state)
{
	struct model_config config;

	(void)state;
	log_set_sink(swallow, NULL);
	config = tiny(0.1);
	config.heads = 5;
	assert_refused(&config, "5 heads do not divide width 32");
	config = tiny(0.1);
	config.kv_heads = 2;
	assert_refused(&config, "key-value heads");
	config = tiny(0.1);
	config.head_size = 16;
	assert_refused(&config, "width 32");
	config = tiny(0.1);
	config.layers = 0;
	assert_refused(&config, "number of layers");
	config = tiny(0.1);
	config.vocab_size = 1u << 31;
	assert_refused(&config, "vocabulary size");
	config = tiny(1.0);
	assert_refused(&config, "dropout");
	config = tiny((double)NAN);
	assert_refused(&config, "dropout");
	config = tiny(0.1);
	config.norm_epsilon = 0.0;
	assert_refused(&config, "epsilon");
	config = tiny(0.1);
	memcpy(config.family, "gpt3", 5);
	assert_refused(&config, "gpt2");
	assert_int_equal(model_config_default("bloom", &config), -EINVAL);
	log_set_sink(NULL, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(loss_and_gradients_are_right),
		cmocka_unit_test(with_dropout_too),
		cmocka_unit_test(evaluation_is_right),
		cmocka_unit_test(decoding_equals_whole_sequence),
		cmocka_unit_test(tied_gradients_sum_to_the_tied_derivative),
		cmocka_unit_test(table_is_gpt2s),
		cmocka_unit_test(initial_values_depend_on_name_and_index),
		cmocka_unit_test(untied_head_stands_alone),
		cmocka_unit_test(impossible_models_are_refused),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
