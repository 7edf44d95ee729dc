/*
 * Every layer of GPT-2: its gradients against differences of the reference; and
 * the promises of model/layers/layer.h, for GPT-2 and Qwen 3.
 */
#include "base/random.h"
#include "tests/grad/check.h"
#include "tests/grad/reference.h"
#include "tests/grad/rig.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TOLERANCE 2e-4

enum {
	EMBEDDING,
	BLOCK,
	HEAD = 3,
	VOCAB = 61,
};

static const struct variant {
	const char *family;
	enum element_type type;
} variants[] = {
	{"gpt2", ELEMENT_F32},
	{"qwen3", ELEMENT_F32},
	{"gpt2", ELEMENT_BF16},
	{"qwen3", ELEMENT_BF16},
};

/* The reference computes GPT-2; the promises are every family's. */
static const struct variant *variant = &variants[0];

/* What rounding may do, against what it does in float. */
static double tolerance(double of_floats)
{
	return variant->type == ELEMENT_BF16 ? 3e-2 : of_floats;
}

static struct model *make_model(double dropout)
{
	struct model_config config;
	struct model *model;

	assert_int_equal(model_config_default(variant->family, &config), 0);
	config.type = variant->type;
	config.vocab_size = VOCAB;
	config.context = 160;
	config.width = 24;
	config.heads = 3;
	config.layers = 2;
	config.inner = 52;
	if (strcmp(variant->family, "gpt2") == 0) {
		config.embedding_dropout = dropout;
		config.attention_dropout = dropout * 1.5;
		config.residual_dropout = dropout * 2.0;
	} else {
		/* All that a block may have, over GPT-2's. */
		config.heads = 6;
		config.kv_heads = 2;
		config.attention_dropout = dropout;
		config.qkv_bias = config.output_bias = true;
		config.window = 5;
	}
	assert_int_equal(model_create(&config, &model), 0);
	return model;
}

static struct rig_size small(void)
{
	return (struct rig_size){
		.batch = 2,
		.time = 13,
		.threads = 2,
		.mode = LAYER_TRAIN,
		.vocab_size = VOCAB,
		.seed = 42,
	};
}

static void make_rig(struct rig *rig, const struct model *model, unsigned layer,
		     const struct rig_size *size)
{
	unsigned count;

	rig_init(rig, model_layer(model, layer),
		 model_parameters(model, &count), size);
}

static void whole_pass(struct rig *rig)
{
	rig_forward(rig);
	rig_backward_input(rig);
	rig_backward_weight(rig);
}

/* ---- gradients ---- */

struct objective {
	struct reference reference;
	const struct rig *rig;
	unsigned layer;
	double **weights; /* by global id */
	double *input;
	double *output;
};

/* The layer's loss, or its output weighed with the output gradient. */
static double evaluate(void *argument)
{
	struct objective *objective = argument;
	const struct rig *rig = objective->rig;
	double sum = reference_layer(&objective->reference, objective->layer,
				     objective->input, objective->output);

	for (size_t i = 0; i < rig->output_count; i++)
		sum += objective->output[i] * (double)rig->output_gradient[i];
	return sum;
}

static void objective_init(struct objective *objective, const struct rig *rig,
			   const struct model *model, unsigned layer)
{
	const struct layer_context *context = &rig->context;
	unsigned count;

	model_parameters(model, &count);
	objective->rig = rig;
	objective->layer = layer;
	objective->weights = calloc(count, sizeof(double *));
	assert_non_null(objective->weights);
	for (unsigned p = 0; p < rig->layer->parameter_count; p++)
		objective->weights[rig->layer->first_parameter + p] =
			rig_doubles(rig->weights[p],
				    rig_parameter_count(rig, p));
	objective->input = rig_doubles(rig->input, rig->input_count);
	objective->output = rig_doubles(rig->output, rig->output_count);
	objective->reference = (struct reference){
		.model = model,
		.weights = objective->weights,
		.batch = context->batch,
		.time = context->time,
		.tokens = rig->tokens,
		.labels = rig->labels,
		.sample_ids = rig->sample_ids,
		.seed = context->seed,
		.step = context->step,
		.train = true,
		.loss_scale = context->loss_scale,
	};
}

static void objective_fini(struct objective *objective)
{
	const struct layer *layer = objective->rig->layer;

	for (unsigned p = 0; p < layer->parameter_count; p++)
		free(objective->weights[layer->first_parameter + p]);
	free(objective->weights);
	free(objective->input);
	free(objective->output);
}

static void check_output(struct objective *objective)
{
	const struct rig *rig = objective->rig;

	evaluate(objective);
	for (size_t i = 0; i < rig->output_count; i++) {
		double y = objective->output[i];

		assert_true(fabs(y - (double)rig->output[i]) <
			    tolerance(2e-5) * fmax(1.0, fabs(y)));
	}
}

static void check_layer(double dropout, unsigned layer,
			const struct rig_size *size)
{
	struct model *model = make_model(dropout);
	struct objective objective;
	struct rig rig;

	make_rig(&rig, model, layer, size);
	whole_pass(&rig);
	objective_init(&objective, &rig, model, layer);
	if (rig.layer->loss)
		assert_true(fabs(rig.loss * rig.context.loss_scale -
				 evaluate(&objective)) < tolerance(1e-6));
	else
		check_output(&objective);
	for (unsigned p = 0; p < rig.layer->parameter_count; p++) {
		double worst = check_gradient(
			evaluate, &objective,
			objective.weights[rig.layer->first_parameter + p],
			rig_parameter_count(&rig, p), rig.gradients[p],
			tolerance(TOLERANCE));

		if (!(worst < 1.0))
			fail_msg("%s: error %g of what is tolerated",
				 rig.parameters[p].name, worst);
	}
	if (rig.input_count > 0)
		assert_true(check_gradient(evaluate, &objective,
					   objective.input, rig.input_count,
					   rig.input_gradient,
					   tolerance(TOLERANCE)) < 1.0);
	objective_fini(&objective);
	rig_fini(&rig);
	model_destroy(model);
}

static void gradients_are_right(void **state)
{
	struct rig_size size = small();

	(void)state;
	check_layer(0.0, EMBEDDING, &size);
	check_layer(0.0, BLOCK, &size);
	check_layer(0.0, HEAD, &size);
}

static void gradients_with_dropout_are_right(void **state)
{
	struct rig_size size = small();

	(void)state;
	check_layer(0.1, EMBEDDING, &size);
	check_layer(0.1, BLOCK, &size);
	check_layer(0.1, HEAD, &size);
}

/* More tokens than one chunk of the loss, and a rest. */
static void loss_in_chunks_is_right(void **state)
{
	struct rig_size size = small();

	(void)state;
	size.time = 150;
	check_layer(0.0, HEAD, &size);
}

/* The checker must see a wrong element, a wrong factor, another mask. */
static void checker_sees_wrong_gradients(void **state)
{
	struct model *model = make_model(0.1);
	struct rig_size size = small();
	struct objective objective;
	struct rig rig;
	double *variable;
	float *gradient;
	size_t count;

	(void)state;
	make_rig(&rig, model, BLOCK, &size);
	whole_pass(&rig);
	objective_init(&objective, &rig, model, BLOCK);
	variable = objective.weights[rig.layer->first_parameter + 2];
	gradient = rig.gradients[2];
	count = rig_parameter_count(&rig, 2);
	assert_true(check_gradient(evaluate, &objective, variable, count,
				   gradient, TOLERANCE) < 1.0);

	gradient[count / 2] += 0.2f * fabsf(gradient[0]) + 0.2f;
	assert_true(check_gradient(evaluate, &objective, variable, count,
				   gradient, TOLERANCE) >= 1.0);
	rig_zero_gradients(&rig);
	rig_backward_weight(&rig);
	for (size_t i = 0; i < count; i++)
		gradient[i] *= 1.001f;
	assert_true(check_gradient(evaluate, &objective, variable, count,
				   gradient, TOLERANCE) >= 1.0);
	rig_zero_gradients(&rig);
	rig.context.step++;
	whole_pass(&rig);
	assert_true(check_gradient(evaluate, &objective, variable, count,
				   gradient, TOLERANCE) >= 1.0);
	objective_fini(&objective);
	rig_fini(&rig);
	model_destroy(model);
}

/* ---- bfloat16 against float ---- */

/* The largest difference, in units of the largest element. */
static double distance(const float *a, const float *b, size_t count)
{
	double apart = 0.0, largest = 0.0;

	for (size_t i = 0; i < count; i++) {
		if (!isfinite(a[i]))
			return (double)INFINITY;
		apart = fmax(apart, fabs((double)a[i] - (double)b[i]));
		largest = fmax(largest, fabs((double)b[i]));
	}
	return apart == 0.0 ? 0.0 : apart / largest;
}

static void assert_near(const char *what, const float *a, const float *b,
			size_t count)
{
	double apart = distance(a, b, count);

	if (!(apart < 2e-2))
		fail_msg("%s: apart by %g", what, apart);
}

/* A layer of floats with the rounded numbers of one of bfloat16. */
static void take_numbers(struct rig *to, const struct rig *from)
{
	memcpy(to->input, from->input, from->input_count * sizeof(float));
	memcpy(to->output_gradient, from->output_gradient,
	       from->output_count * sizeof(float));
	for (unsigned p = 0; p < to->layer->parameter_count; p++)
		memcpy(to->weights[p], from->weights[p],
		       rig_parameter_count(to, p) * sizeof(float));
}

static void compare_types(const struct model *narrow, const struct model *wide,
			  unsigned layer)
{
	struct rig_size size = small();
	struct rig rig, expected;

	size.time = 150; /* more than a block, and a chunk */
	make_rig(&rig, narrow, layer, &size);
	make_rig(&expected, wide, layer, &size);
	take_numbers(&expected, &rig);
	whole_pass(&rig);
	whole_pass(&expected);
	assert_near("output", rig.output, expected.output, rig.output_count);
	assert_near("input gradient", rig.input_gradient,
		    expected.input_gradient, rig.input_count);
	assert_true(fabs(rig.loss - expected.loss) <= 1e-2 * expected.loss);
	for (unsigned p = 0; p < rig.layer->parameter_count; p++)
		assert_near(rig.parameters[p].name, rig.gradients[p],
			    expected.gradients[p],
			    rig_parameter_count(&rig, p));
	rig_fini(&rig);
	rig_fini(&expected);
}

static void bfloat16_is_near_float(void **state)
{
	struct variant wide = *variant;
	struct model *narrow = make_model(0.1), *model;

	(void)state;
	wide.type = ELEMENT_F32;
	variant = &wide;
	model = make_model(0.1);
	for (unsigned layer = 0; layer < model_layer_count(model); layer++)
		compare_types(narrow, model, layer);
	model_destroy(narrow);
	model_destroy(model);
}

/* ---- the contract ---- */

/* Runs `body` for a fresh rig of every layer, with dropout. */
static void for_each_layer(const struct rig_size *size,
			   void (*body)(struct rig *rig,
					const struct model *model,
					unsigned layer))
{
	struct model *model = make_model(0.1);

	for (unsigned layer = 0; layer < model_layer_count(model); layer++) {
		struct rig rig;

		make_rig(&rig, model, layer, size);
		body(&rig, model, layer);
		rig_fini(&rig);
	}
	model_destroy(model);
}

static void body_input_pass(struct rig *rig, const struct model *model,
			    unsigned layer)
{
	uint64_t gradients, saved;

	(void)model;
	(void)layer;
	rig_forward(rig);
	gradients = rig_gradients_digest(rig);
	saved = rig_saved_digest(rig);
	rig_backward_input(rig);
	assert_int_equal(rig_gradients_digest(rig), gradients);
	assert_int_equal(rig_saved_digest(rig), saved);
	rig_backward_weight(rig);
	assert_int_not_equal(rig_gradients_digest(rig), gradients);
	assert_int_equal(rig_saved_digest(rig), saved);
}

static void input_pass_touches_no_accumulator(void **state)
{
	struct rig_size size = small();

	(void)state;
	for_each_layer(&size, body_input_pass);
}

#define MICRO_BATCHES 3

/*
 * Three micro-batches, each with buffers of its own: all F, all I, all W (as
 * a zero-bubble schedule may), against F and B one after the other.
 */
static void body_delayed(struct rig *rig, const struct model *model,
			 unsigned layer)
{
	struct rig_size size = small();
	struct rig other[MICRO_BATCHES];
	uint64_t expected;

	for (unsigned m = 0; m < MICRO_BATCHES; m++) {
		make_rig(&other[m], model, layer, &size);
		rig_random(m, "delayed", other[m].input_count, 0.0f, 1.0f,
			   other[m].input);
		for (size_t b = 0; b < size.batch; b++)
			other[m].sample_ids[b] += 100 * m;
	}
	for (unsigned m = 0; m < MICRO_BATCHES; m++) {
		for (unsigned p = 0; p < rig->layer->parameter_count; p++)
			free(other[m].gradients[p]);
		memcpy(other[m].gradients, rig->gradients,
		       sizeof(rig->gradients));
		whole_pass(&other[m]);
	}
	expected = rig_gradients_digest(rig);
	rig_zero_gradients(rig);
	for (unsigned m = 0; m < MICRO_BATCHES; m++)
		rig_forward(&other[m]);
	for (unsigned m = MICRO_BATCHES; m-- > 0;)
		rig_backward_input(&other[m]);
	for (unsigned m = 0; m < MICRO_BATCHES; m++)
		rig_backward_weight(&other[m]);
	assert_int_equal(rig_gradients_digest(rig), expected);
	for (unsigned m = 0; m < MICRO_BATCHES; m++) {
		for (unsigned p = 0; p < rig->layer->parameter_count; p++)
			other[m].gradients[p] = NULL;
		rig_fini(&other[m]);
	}
}

static void delayed_weight_pass_gives_same_bits(void **state)
{
	struct rig_size size = small();

	(void)state;
	for_each_layer(&size, body_delayed);
}

static void body_recompute(struct rig *rig, const struct model *model,
			   unsigned layer)
{
	uint64_t saved, results;

	(void)model;
	(void)layer;
	if (!rig->layer->recomputable) {
		assert_true(rig->layer->loss);
		return;
	}
	memset(rig->buffers.saved, 0, rig->memory.saved_bytes);
	rig_forward(rig);
	saved = rig_saved_digest(rig);
	rig_backward_input(rig);
	rig_backward_weight(rig);
	results = rig_results_digest(rig);

	rig_zero_gradients(rig);
	memset(rig->buffers.saved, 0, rig->memory.saved_bytes);
	rig_forward(rig);
	assert_int_equal(rig_saved_digest(rig), saved);
	rig_backward_input(rig);
	rig_backward_weight(rig);
	assert_int_equal(rig_results_digest(rig), results);
}

static void recomputation_gives_same_bits(void **state)
{
	struct rig_size size = small();

	(void)state;
	for_each_layer(&size, body_recompute);
}

static void threads_give_same_bits(void **state)
{
	struct model *model = make_model(0.1);

	(void)state;
	for (unsigned layer = 0; layer < model_layer_count(model); layer++) {
		uint64_t expected = 0;

		for (unsigned threads = 1; threads <= 3; threads++) {
			struct rig_size size = small();
			struct rig rig;

			size.threads = threads;
			size.time = 150;
			make_rig(&rig, model, layer, &size);
			whole_pass(&rig);
			if (threads == 1)
				expected = rig_results_digest(&rig);
			assert_int_equal(rig_results_digest(&rig), expected);
			rig_fini(&rig);
		}
	}
	model_destroy(model);
}

/* Sample b of a rig of two as a micro-batch of its own, into `sums`. */
static void one_sample(const struct rig *both, const struct model *model,
		       unsigned layer, size_t b, float *const *sums)
{
	struct rig_size size = small();
	struct rig one;
	size_t time = size.time;

	size.batch = 1;
	make_rig(&one, model, layer, &size);
	for (unsigned p = 0; p < one.layer->parameter_count; p++) {
		free(one.gradients[p]);
		one.gradients[p] = sums[p];
	}
	memcpy(one.input, both->input + b * one.input_count,
	       one.input_count * sizeof(float));
	memcpy(one.output_gradient,
	       both->output_gradient + b * one.output_count,
	       one.output_count * sizeof(float));
	memcpy(one.tokens, both->tokens + b * time, time * sizeof(int32_t));
	memcpy(one.labels, both->labels + b * time, time * sizeof(int32_t));
	one.sample_ids[0] = both->sample_ids[b];
	one.context.loss_scale = both->context.loss_scale;
	whole_pass(&one);
	for (size_t i = 0; i < one.output_count; i++)
		assert_true(
			fabs((double)one.output[i] -
			     (double)both->output[b * one.output_count + i]) <
			tolerance(1e-5));
	for (unsigned p = 0; p < one.layer->parameter_count; p++)
		one.gradients[p] = NULL;
	rig_fini(&one);
}

static void body_micro_batches(struct rig *rig, const struct model *model,
			       unsigned layer)
{
	float *sums[RIG_PARAMETERS_MAX];

	whole_pass(rig);
	for (unsigned p = 0; p < rig->layer->parameter_count; p++) {
		size_t bytes = rig_parameter_count(rig, p) * sizeof(float);

		sums[p] = rig_allocate(bytes);
		memset(sums[p], 0, bytes);
	}
	one_sample(rig, model, layer, 0, sums);
	one_sample(rig, model, layer, 1, sums);
	for (unsigned p = 0; p < rig->layer->parameter_count; p++) {
		for (size_t i = 0; i < rig_parameter_count(rig, p); i++)
			assert_true(fabs((double)sums[p][i] -
					 (double)rig->gradients[p][i]) <=
				    tolerance(1e-4) *
					    (1.0 + fabs((double)sums[p][i])));
		free(sums[p]);
	}
}

static void micro_batches_add_up(void **state)
{
	struct rig_size size = small();

	(void)state;
	for_each_layer(&size, body_micro_batches);
}

/* Freezes the parameters whose bit is set; the others' bits must not move. */
static void check_frozen(struct rig *rig, float *const *expected, unsigned bits)
{
	float *all[RIG_PARAMETERS_MAX];

	rig_zero_gradients(rig);
	memcpy(all, rig->gradients, sizeof(all));
	for (unsigned p = 0; p < rig->layer->parameter_count; p++)
		if (bits & (1u << p))
			rig->gradients[p] = NULL;
	whole_pass(rig);
	for (unsigned p = 0; p < rig->layer->parameter_count; p++) {
		size_t bytes = rig_parameter_count(rig, p) * sizeof(float);

		if (rig->gradients[p])
			assert_memory_equal(rig->gradients[p], expected[p],
					    bytes);
		for (size_t i = 0; !rig->gradients[p] && i < bytes / 4; i++)
			assert_true(all[p][i] == 0.0f);
	}
	memcpy(rig->gradients, all, sizeof(all));
}

static void body_frozen(struct rig *rig, const struct model *model,
			unsigned layer)
{
	float *expected[RIG_PARAMETERS_MAX] = {NULL};
	unsigned count = rig->layer->parameter_count;

	(void)model;
	(void)layer;
	whole_pass(rig);
	for (unsigned p = 0; p < count; p++) {
		size_t bytes = rig_parameter_count(rig, p) * sizeof(float);

		expected[p] = rig_allocate(bytes);
		memcpy(expected[p], rig->gradients[p], bytes);
	}
	for (unsigned p = 0; p < count; p++)
		check_frozen(rig, expected, 1u << p);
	check_frozen(rig, expected, (1u << count) - 1);
	for (unsigned p = 0; p < count; p++)
		free(expected[p]);
}

static void frozen_parameters_stay_out(void **state)
{
	struct rig_size size = small();

	(void)state;
	for_each_layer(&size, body_frozen);
}

/* Labels of which a whole chunk is unsupervised. */
static void unsupervised_chunk_has_no_gradient(void **state)
{
	struct model *model = make_model(0.0);
	struct rig_size size = small();
	struct rig rig;

	(void)state;
	size.batch = 3;
	size.time = 128;
	make_rig(&rig, model, HEAD, &size);
	for (size_t i = 0; i < 256; i++)
		rig.labels[i] = -100;
	whole_pass(&rig);
	for (size_t i = 0; i < rig.input_count; i++) {
		bool supervised = rig.labels[i / 24] >= 0;

		assert_int_equal(supervised, rig.input_gradient[i] != 0.0f);
	}
	assert_true(rig.loss > 0.0);
	rig_fini(&rig);
	model_destroy(model);
}

/* What layer_memory() says for T is enough for less. */
static void memory_grows_with_time(void **state)
{
	struct model *model = make_model(0.1);

	(void)state;
	for (unsigned layer = 0; layer < model_layer_count(model); layer++) {
		for (int mode = LAYER_TRAIN; mode <= LAYER_DECODE; mode++) {
			struct layer_memory less, more;

			for (size_t time = 1; time < 150; time++) {
				layer_memory(model_layer(model, layer), 2, time,
					     mode, 2, &less);
				layer_memory(model_layer(model, layer), 2,
					     time + 1, mode, 2, &more);
				assert_true(less.saved_bytes <=
					    more.saved_bytes);
				assert_true(less.pending_bytes <=
					    more.pending_bytes);
				assert_true(less.scratch_bytes <=
					    more.scratch_bytes);
				assert_int_equal(less.cache_bytes,
						 more.cache_bytes);
			}
		}
	}
	model_destroy(model);
}

static int choose(void **state)
{
	variant = *state;
	return 0;
}

/* clang-format off */
#define OF(name, test, which)                                                  \
	{name, test, choose, NULL, (void *)(uintptr_t)&variants[which]}
#define OF_ALL(test)                                                           \
	OF(#test, test, 0), OF(#test " (qwen3)", test, 1),                     \
	OF(#test " (bf16)", test, 2), OF(#test " (qwen3, bf16)", test, 3)
#define OF_GPT2(test) OF(#test, test, 0), OF(#test " (bf16)", test, 2)
/* clang-format on */

int main(void)
{
	const struct CMUnitTest tests[] = {
		OF_GPT2(gradients_are_right),
		OF_GPT2(gradients_with_dropout_are_right),
		OF_GPT2(loss_in_chunks_is_right),
		OF("checker_sees_wrong_gradients", checker_sees_wrong_gradients,
		   0),
		OF("bfloat16_is_near_float", bfloat16_is_near_float, 2),
		OF("bfloat16_is_near_float (qwen3)", bfloat16_is_near_float, 3),
		OF_ALL(input_pass_touches_no_accumulator),
		OF_ALL(delayed_weight_pass_gives_same_bits),
		OF_ALL(recomputation_gives_same_bits),
		OF_ALL(threads_give_same_bits),
		OF_ALL(micro_batches_add_up),
		OF_ALL(frozen_parameters_stay_out),
		OF_ALL(unsupervised_chunk_has_no_gradient),
		OF_ALL(memory_grows_with_time),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
