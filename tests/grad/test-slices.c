/*
 * Layers shared by two and four slices against the same layers whole: what they
 * compute, what they exchange, and which bits do not depend on what.
 */
#include "base/log.h"
#include "model/layers/primitive.h"
#include "model/model.h"
#include "tests/grad/rig.h"
#include "tests/grad/slices.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define VOCAB      97 /* divisible by nothing */
#define TOLERANCE  1e-5
#define ROUNDED    2e-2 /* of bfloat16: sums of parts round differently */
#define TRAIN_TIME 140  /* of two samples: more than one chunk of the loss */

static const unsigned slice_numbers[] = {2, 4};

/* ---- families in slices ---- */

static const struct variant {
	const char *family;
	unsigned heads, kv_heads; /* 0: as heads */
	unsigned exchanges;       /* of a block, each way */
	enum element_type type;
} variants[] = {
	{"gpt2", 4, 0, 4, ELEMENT_F32},
	{"qwen2", 8, 4, 4, ELEMENT_F32},
	/* One more: the sums for the gains of its heads' norms. */
	{"qwen3", 8, 4, 5, ELEMENT_F32},
	{"gpt2", 4, 0, 4, ELEMENT_BF16},
	{"qwen3", 8, 4, 5, ELEMENT_BF16},
};

static const struct variant *variant = &variants[0];

static struct model_config tiny(double dropout)
{
	struct model_config config;

	assert_int_equal(model_config_default(variant->family, &config), 0);
	config.type = variant->type;
	config.vocab_size = VOCAB;
	config.context = 150;
	config.width = 32;
	config.heads = variant->heads;
	config.kv_heads = variant->kv_heads;
	config.layers = 2;
	model_config_set_dropout(&config, dropout);
	return config;
}

struct sliced {
	struct model *model[SLICES_MAX];
	struct subject subject[SLICES_MAX];
};

static void sliced_init(struct sliced *sliced, struct model_config config,
			unsigned slices)
{
	memset(sliced, 0, sizeof(*sliced));
	for (unsigned s = 0; s < slices; s++) {
		struct subject *subject = &sliced->subject[s];

		config.slices = slices;
		config.slice = s;
		assert_int_equal(model_create(&config, &sliced->model[s]), 0);
		subject->layers = model_layer_count(sliced->model[s]);
		for (unsigned i = 0; i < subject->layers; i++)
			subject->layer[i] = model_layer(sliced->model[s], i);
		subject->parameters = model_parameters(
			sliced->model[s], &subject->parameter_count);
	}
}

static void sliced_fini(struct sliced *sliced)
{
	for (unsigned s = 0; s < SLICES_MAX; s++)
		model_destroy(sliced->model[s]);
}

static struct exercise exercise_of(enum layer_mode mode, size_t time,
				   unsigned slices)
{
	return (struct exercise){
		.slices = slices,
		.threads = slices == 1 ? 2 : 1,
		.batch = 2,
		.time = time,
		.vocab_size = VOCAB,
		.mode = mode,
		.forgets = EXERCISE_FORGETS_NONE,
	};
}

static void run(const struct model_config *config,
		const struct exercise *exercise, struct outcome *out)
{
	struct sliced sliced;

	sliced_init(&sliced, *config, exercise->slices);
	exercise_run(exercise, sliced.subject, out);
	sliced_fini(&sliced);
}

static void assert_alike(enum element_type type, const struct outcome *got,
			 const struct outcome *expected)
{
	const char *worst;
	double apart = outcome_distance(got, expected, &worst);

	assert_true(got->slices_agree);
	if (!(apart < (type == ELEMENT_BF16 ? ROUNDED : TOLERANCE)))
		fail_msg("%s: apart by %g", worst, apart);
}

/* Slices against one alone, in one mode. */
static void check_mode(enum layer_mode mode, size_t time, double dropout)
{
	struct model_config config = tiny(dropout);
	struct exercise exercise = exercise_of(mode, time, 1);
	struct outcome whole, shared;

	run(&config, &exercise, &whole);
	assert_int_equal(whole.calls, 0);
	for (size_t i = 0; i < ARRAY_SIZE(slice_numbers); i++) {
		exercise = exercise_of(mode, time, slice_numbers[i]);
		run(&config, &exercise, &shared);
		assert_true(shared.calls > 0);
		assert_alike(variant->type, &shared, &whole);
		outcome_fini(&shared);
	}
	outcome_fini(&whole);
}

static void slices_train_as_one(void **state)
{
	(void)state;
	check_mode(LAYER_TRAIN, TRAIN_TIME, 0.0);
}

/* Masks of heads and channels are those of the whole. */
static void with_dropout_too(void **state)
{
	(void)state;
	check_mode(LAYER_TRAIN, TRAIN_TIME, 0.2);
}

static void slices_evaluate_as_one(void **state)
{
	(void)state;
	check_mode(LAYER_EVAL, TRAIN_TIME, 0.2);
}

static void slices_decode_as_one(void **state)
{
	(void)state;
	check_mode(LAYER_DECODE, 30, 0.2);
}

/* Adding what other slices do not have changes no bit. */
static void embedding_has_the_bits_of_one(void **state)
{
	struct model_config config = tiny(0.2);
	struct outcome outcome[2];
	const float *values[2];
	size_t count[2];

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct exercise exercise =
			exercise_of(LAYER_TRAIN, 20, i == 0 ? 1 : 4);

		run(&config, &exercise, &outcome[i]);
		values[i] = outcome_tensor(&outcome[i], "embedding output",
					   &count[i]);
	}
	assert_int_equal(count[0], count[1]);
	assert_memory_equal(values[0], values[1], count[0] * sizeof(float));
	outcome_fini(&outcome[0]);
	outcome_fini(&outcome[1]);
}

/* Threads, and computing once more, change no bit of any slice. */
static void bits_do_not_depend_on_threads(void **state)
{
	struct model_config config = tiny(0.2);
	struct exercise exercise = exercise_of(LAYER_TRAIN, TRAIN_TIME, 2);
	struct outcome one, three;

	(void)state;
	run(&config, &exercise, &one);
	exercise.threads = 3;
	exercise.recompute = true;
	run(&config, &exercise, &three);
	assert_true(one.digest == three.digest);
	outcome_fini(&one);
	outcome_fini(&three);
}

/* ---- what is exchanged ---- */

static void assert_exchanged(const struct layer_exchange *counted,
			     const struct layer_exchange *told)
{
	assert_int_equal(counted->calls, told->calls);
	assert_int_equal(counted->floats, told->floats);
	assert_int_equal(counted->largest, told->largest);
}

static void exchanges_are_as_told(void **state)
{
	struct model_config config = tiny(0.1);
	struct exercise exercise = exercise_of(LAYER_TRAIN, TRAIN_TIME, 2);
	struct sliced sliced;
	struct outcome outcome;

	(void)state;
	sliced_init(&sliced, config, 2);
	exercise_run(&exercise, sliced.subject, &outcome);
	for (unsigned i = 0; i < sliced.subject[0].layers; i++) {
		const struct layer_exchange *counted = outcome.exchanged[i];
		struct layer_exchanges told;

		layer_exchanges(sliced.subject[0].layer[i], exercise.batch,
				exercise.time, LAYER_TRAIN, &told);
		assert_exchanged(&counted[EXERCISE_F], &told.forward);
		assert_exchanged(&counted[EXERCISE_I], &told.backward_input);
		assert_int_equal(counted[EXERCISE_W].calls, 0);
	}
	/* A block: two sums of [B, T, C] each way, and the gains' [2, D]. */
	assert_int_equal(outcome.exchanged[1][EXERCISE_F].floats,
			 2 * 2 * TRAIN_TIME * config.width);
	assert_int_equal(outcome.exchanged[1][EXERCISE_I].floats,
			 2 * 2 * TRAIN_TIME * config.width +
				 (variant->exchanges - 4) * 2 * 4);
	outcome_fini(&outcome);
	sliced_fini(&sliced);
}

/* Whichever exchange is left out, it shows: none is without effect. */
static void every_exchange_counts(void **state)
{
	struct model_config config = tiny(0.0);
	struct exercise exercise = exercise_of(LAYER_TRAIN, 20, 1);
	struct outcome whole, shared;
	size_t calls;

	(void)state;
	run(&config, &exercise, &whole);
	exercise.slices = 2;
	run(&config, &exercise, &shared);
	assert_alike(variant->type, &shared, &whole);
	calls = shared.calls;
	outcome_fini(&shared);
	/* Embedding 1, the loss 3. */
	assert_int_equal(calls, 1 + config.layers * variant->exchanges + 3);
	for (size_t call = 0; call < calls; call++) {
		exercise.forgets = call;
		run(&config, &exercise, &shared);
		if (!(outcome_distance(&shared, &whole, NULL) > TOLERANCE))
			fail_msg("exchange %zu is without effect", call);
		outcome_fini(&shared);
	}
	outcome_fini(&whole);
}

/* ---- a graph GPT-2 has not ---- */

/*
 * Two products split over outputs that read one value, which goes on besides,
 * with weights the other way round; a head with a bias.
 */
enum {
	X,
	LEFT,
	RIGHT,
	JOINED,
	DOWN,
	GATED,
	GATED_VALUES,
};

#define GATED_WIDTH 12
#define GATED_INNER 20

static const struct graph_row gated_rows[] = {
	{&linear_ops, {X}, LEFT, .name = "left", .bias = true},
	{&linear_ops, {X}, RIGHT, .name = "right"},
	{&residual_ops, {LEFT, RIGHT}, JOINED, .site = 0},
	{&linear_ops,
	 {JOINED},
	 DOWN,
	 .name = "down",
	 .bias = true,
	 .split_axis = 1},
	{&residual_ops, {X, DOWN}, GATED, .site = 1},
};

static const struct graph_row head_rows[] = {
	{&layernorm_ops, {0}, 1, .name = "norm", .epsilon = 1e-5},
	{&loss_ops,
	 {1},
	 VALUE_NONE,
	 .name = "head",
	 .bias = true,
	 .vocab_size = VOCAB},
};

struct graphs {
	struct layer layer[SLICES_MAX][2];
	struct parameter parameters[SLICES_MAX][8 * NODE_WEIGHTS_MAX];
	struct subject subject[SLICES_MAX];
};

static void add_graph(struct graphs *graphs, enum element_type type,
		      unsigned index, unsigned slices, unsigned slice,
		      const struct graph_row *rows, unsigned row_count,
		      const size_t *widths, unsigned value_count)
{
	struct layer *layer = &graphs->layer[slice][index];
	struct subject *subject = &graphs->subject[slice];
	const struct graph_description description = {
		.rows = rows,
		.row_count = row_count,
		.widths = widths,
		.value_count = value_count,
		.has_input = true,
		.input_needs_gradient = true,
		.prefix = "",
		.type = type,
		.slices = slices,
		.slice = slice,
	};
	const struct edge edge = {
		.count = 1,
		.entry = {{.name = "x",
			   .type = type,
			   .per_token = GATED_WIDTH,
			   .needs_gradient = true}},
	};

	snprintf(layer->name, sizeof(layer->name), "graph %u", index);
	layer->first_parameter = subject->parameter_count;
	assert_int_equal(graph_create(&description, index,
				      graphs->parameters[slice],
				      &subject->parameter_count, &layer->graph),
			 0);
	layer->parameter_count =
		subject->parameter_count - layer->first_parameter;
	layer->loss = rows == head_rows;
	layer->vocab_size = VOCAB;
	layer->input = edge;
	if (!layer->loss)
		layer->output = edge;
	subject->layer[subject->layers++] = layer;
	subject->parameters = graphs->parameters[slice];
}

static void graphs_init(struct graphs *graphs, enum element_type type,
			unsigned slices)
{
	size_t inner = GATED_INNER / slices;
	const size_t widths[GATED_VALUES] = {
		[X] = GATED_WIDTH, [LEFT] = inner,       [RIGHT] = inner,
		[JOINED] = inner,  [DOWN] = GATED_WIDTH, [GATED] = GATED_WIDTH,
	};

	const size_t head_widths[] = {GATED_WIDTH, GATED_WIDTH};

	memset(graphs, 0, sizeof(*graphs));
	for (unsigned s = 0; s < slices; s++) {
		add_graph(graphs, type, 0, slices, s, gated_rows,
			  ARRAY_SIZE(gated_rows), widths, GATED_VALUES);
		add_graph(graphs, type, 1, slices, s, head_rows,
			  ARRAY_SIZE(head_rows), head_widths, 2);
	}
}

static void graphs_run(enum element_type type, unsigned slices,
		       enum layer_mode mode, struct outcome *out)
{
	struct exercise exercise = exercise_of(mode, 17, slices);
	struct graphs *graphs = malloc(sizeof(*graphs));

	assert_non_null(graphs);
	graphs_init(graphs, type, slices);
	exercise_run(&exercise, graphs->subject, out);
	for (unsigned s = 0; s < slices; s++)
		for (unsigned i = 0; i < 2; i++)
			graph_destroy(graphs->layer[s][i].graph);
	free(graphs);
}

static void check_graphs(enum element_type type, enum layer_mode mode)
{
	struct outcome whole, shared;

	graphs_run(type, 1, mode, &whole);
	for (size_t i = 0; i < ARRAY_SIZE(slice_numbers); i++) {
		graphs_run(type, slice_numbers[i], mode, &shared);
		assert_alike(type, &shared, &whole);
		outcome_fini(&shared);
	}
	outcome_fini(&whole);
}

static void other_graphs_are_shared_too(void **state)
{
	const enum layer_mode modes[] = {LAYER_TRAIN, LAYER_EVAL, LAYER_DECODE};

	(void)state;
	for (size_t m = 0; m < ARRAY_SIZE(modes); m++) {
		check_graphs(ELEMENT_F32, modes[m]);
		check_graphs(ELEMENT_BF16, modes[m]);
	}
}

/* ---- the tables ---- */

static void slices_begin_as_one(void **state)
{
	struct model_config config = tiny(0.1);
	struct sliced whole, shared;

	(void)state;
	sliced_init(&whole, config, 1);
	sliced_init(&shared, config, 4);
	for (unsigned s = 0; s < 4; s++) {
		const struct subject *subject = &shared.subject[s];

		assert_int_equal(model_parameter_total(shared.model[s]),
				 model_parameter_total(whole.model[0]));
		for (unsigned p = 0; p < subject->parameter_count; p++) {
			const struct parameter *row = &subject->parameters[p];
			float *all = rig_allocate(row->whole_count * 4);
			float *here = rig_allocate(row->count * 4);
			size_t middle = row->count / 3;

			assert_int_equal(row->whole_count,
					 whole.subject[0].parameters[p].count);
			model_initialise(whole.model[0], p, 5, 0,
					 row->whole_count, all);
			/* In two pieces, cut anywhere. */
			model_initialise(shared.model[s], p, 5, 0, middle,
					 here);
			model_initialise(shared.model[s], p, 5, middle,
					 row->count - middle, here + middle);
			for (size_t r = 0; r < parameter_run_count(row); r++) {
				struct parameter_run run =
					parameter_run(row, r);

				assert_memory_equal(here + run.local,
						    all + run.whole,
						    run.count * 4);
			}
			free(all);
			free(here);
		}
	}
	sliced_fini(&whole);
	sliced_fini(&shared);
}

/* GPT-2's own vocabulary, 50257, is prime to every useful number. */
static void shapes_are_a_slices(void **state)
{
	const struct {
		const char *name;
		size_t shape[2][2]; /* of the first and the last of four */
	} expected[] = {
		{"wte.weight", {{12565, 768}, {12564, 768}}},
		{"wpe.weight", {{1024, 768}, {1024, 768}}},
		{"h.3.attn.c_attn.weight", {{768, 576}, {768, 576}}},
		{"h.3.attn.c_attn.bias", {{576, 0}, {576, 0}}},
		{"h.3.attn.c_proj.weight", {{192, 768}, {192, 768}}},
		{"h.3.attn.c_proj.bias", {{768, 0}, {768, 0}}},
		{"h.3.mlp.c_fc.weight", {{768, 768}, {768, 768}}},
		{"h.3.mlp.c_fc.bias", {{768, 0}, {768, 0}}},
		{"h.3.mlp.c_proj.weight", {{768, 768}, {768, 768}}},
		{"h.3.ln_1.weight", {{768, 0}, {768, 0}}},
		{"lm_head.weight", {{12565, 768}, {12564, 768}}},
	};
	struct model_config config = tiny(0.1);
	struct layer_cost one, quarter;
	struct sliced whole, shared;

	(void)state;
	config.vocab_size = 50257;
	config.context = 1024;
	config.width = 768;
	config.heads = 12;
	config.layers = 4;
	sliced_init(&whole, config, 1);
	sliced_init(&shared, config, 4);
	for (size_t i = 0; i < ARRAY_SIZE(expected); i++) {
		for (unsigned s = 0; s < 2; s++) {
			const struct parameter *row = model_parameter_find(
				shared.model[3 * s], expected[i].name);

			assert_non_null(row);
			for (unsigned d = 0; d < row->dimensions; d++)
				assert_int_equal(row->shape[d],
						 expected[i].shape[s][d]);
		}
	}
	layer_cost(whole.subject[0].layer[1], 2, 100, &one);
	layer_cost(shared.subject[0].layer[1], 2, 100, &quarter);
	assert_true(4 * quarter.forward == one.forward);
	assert_true(4 * quarter.backward_input == one.backward_input);
	assert_true(4 * quarter.backward_weight == one.backward_weight);
	sliced_fini(&whole);
	sliced_fini(&shared);
}

/* ---- what is refused ---- */

static void swallow(void *argument, enum log_level level, const char *line)
{
	(void)argument;
	(void)level;
	(void)line;
}

static void assert_refused(const struct model_config *config, const char *words)
{
	struct model *model = NULL;

	log_clear_last_error();
	assert_int_equal(model_create(config, &model), -EINVAL);
	assert_null(model);
	if (!strstr(log_last_error(), words))
		fail_msg("\"%s\" does not say \"%s\"", log_last_error(), words);
}

static void impossible_slices_are_refused(void **state)
{
	struct model_config config = tiny(0.1);

	(void)state;
	log_set_sink(swallow, NULL);
	config.width = 36;
	config.heads = 12;
	config.slices = 5;
	assert_refused(&config, "among 5 slices; among 4 or 6 they can");
	config.slices = 13;
	assert_refused(&config, "among 13 slices; among 12 they can");
	config.slices = 4000000000u;
	assert_refused(&config, "among 12 they can");
	config.slices = 4;
	config.inner = 90;
	assert_refused(&config, "among 3 or 6 they can");
	config.inner = 0;
	config.vocab_size = 3;
	assert_refused(&config, "among 3 they can");
	config.vocab_size = VOCAB;
	config.slice = 4;
	assert_refused(&config, "no slice 4 of 4");
	log_set_sink(NULL, NULL);
}

/* A rehearsal sleeps on each slice for as long as it is told. */
static void rehearsals_are_not_divided(void **state)
{
	double seconds[] = {0.25};
	struct model_rehearsal rehearsal = {
		.stages = 1,
		.seconds = {seconds, seconds, seconds},
		.message_bytes = 400,
		.tied_bytes = 44,
	};
	struct model_config config;
	struct sliced whole, shared;

	(void)state;
	assert_int_equal(model_config_default("rehearsal", &config), 0);
	config.rehearsal = &rehearsal;
	sliced_init(&whole, config, 1);
	sliced_init(&shared, config, 3);
	for (unsigned s = 0; s < 3; s++) {
		const struct subject *subject = &shared.subject[s];

		for (unsigned i = 0; i < subject->layers; i++) {
			assert_true(layer_is_alike(subject->layer[i],
						   whole.subject[0].layer[i]));
		}
		for (unsigned p = 0; p < subject->parameter_count; p++) {
			assert_int_equal(subject->parameters[p].slices, 1);
			assert_int_equal(subject->parameters[p].count,
					 whole.subject[0].parameters[p].count);
		}
	}
	sliced_fini(&whole);
	sliced_fini(&shared);
}

static int choose_variant(void **state)
{
	variant = *state;
	return 0;
}

/* clang-format off */
#define OF_VARIANT(test, v)                                                    \
	{#test " (" #v ")", test, choose_variant, NULL,                        \
	 (void *)(uintptr_t)&variants[v]}
#define MOST_OF_VARIANT(v)                                                     \
	OF_VARIANT(slices_train_as_one, v), OF_VARIANT(with_dropout_too, v),   \
	OF_VARIANT(slices_evaluate_as_one, v),                                 \
	OF_VARIANT(slices_decode_as_one, v),                                   \
	OF_VARIANT(embedding_has_the_bits_of_one, v),                          \
	OF_VARIANT(bits_do_not_depend_on_threads, v),                          \
	OF_VARIANT(exchanges_are_as_told, v)
#define ALL_OF_VARIANT(v)                                                      \
	MOST_OF_VARIANT(v), OF_VARIANT(every_exchange_counts, v)
/* clang-format on */

int main(void)
{
	const struct CMUnitTest tests[] = {
		MOST_OF_VARIANT(4),
		MOST_OF_VARIANT(3),
		ALL_OF_VARIANT(2),
		ALL_OF_VARIANT(1),
		ALL_OF_VARIANT(0),
		cmocka_unit_test(other_graphs_are_shared_too),
		cmocka_unit_test(slices_begin_as_one),
		cmocka_unit_test(shapes_are_a_slices),
		cmocka_unit_test(impossible_slices_are_refused),
		cmocka_unit_test(rehearsals_are_not_divided),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
