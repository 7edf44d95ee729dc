/*
 * Calibration: what it must say whatever the machine's speed, and that it
 * leaves nothing behind. No time that it measures is judged.
 */
#include "base/log.h"
#include "engine/calibrate.h"
#include "engine/cores.h"
#include "engine/stage.h"
#include "model/model.h"
#include <errno.h>
#include <math.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void ignore_line(void *argument, enum log_level level, const char *line)
{
	(void)argument;
	(void)level;
	(void)line;
}

static struct model *make_slice(unsigned layers, unsigned vocab,
				unsigned context, unsigned slices,
				unsigned slice)
{
	struct model_config config;
	struct model *model;

	assert_int_equal(model_config_default("gpt2", &config), 0);
	config.vocab_size = vocab;
	config.context = context;
	config.width = 32;
	config.heads = 2;
	config.layers = layers;
	config.slices = slices;
	config.slice = slice;
	assert_int_equal(model_create(&config, &model), 0);
	return model;
}

static struct model *make_model(unsigned layers, unsigned vocab,
				unsigned context)
{
	return make_slice(layers, vocab, context, 1, 0);
}

static struct calibration small(void)
{
	return (struct calibration){
		.micro_batch_size = 2,
		.context = 24,
		.threads = 1,
		.copies = 1,
		.budget_ns = 5 * NS_PER_MS,
	};
}

static void check_times(const struct costs *costs)
{
	for (unsigned i = 0; i < costs->count; i++) {
		const struct costs_row *row = &costs->rows[i];

		assert_true(isfinite(row->forward) && row->forward > 0);
		assert_true(isfinite(row->input) && row->input >= 0);
		assert_true(isfinite(row->weight) && row->weight >= 0);
	}
}

/* Blocks are alike: the same to the last digit, however many there are. */
static void check_blocks(const struct costs *costs)
{
	for (unsigned i = 2; i + 1 < costs->count; i++) {
		assert_true(costs->rows[i].forward == costs->rows[1].forward);
		assert_true(costs->rows[i].input == costs->rows[1].input);
		assert_true(costs->rows[i].weight == costs->rows[1].weight);
	}
	assert_true(costs->rows[1].input > 0 && costs->rows[1].weight > 0);
}

static void every_layer_has_its_cost(void **state)
{
	static const unsigned layers[] = {1, 2, 5, 40};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(layers); i++) {
		struct model *model = make_model(layers[i], 67, 24);
		struct calibration calibration = small();
		struct costs costs;

		assert_int_equal(
			calibrate_layers(model, &calibration, &costs, NULL), 0);
		assert_true(costs.seconds);
		assert_int_equal(costs.kind, COSTS_LAYERS);
		assert_int_equal(costs_check_model(&costs, model), 0);
		assert_int_equal(costs.micro_batch_size, 2);
		assert_int_equal(costs.context, 24);
		assert_int_equal(costs.value_bytes, 4);
		assert_int_equal(costs.threads, 1);
		assert_true(costs.message_bytes == 2 * 24 * 32 * 4);
		assert_true(costs.tied_bytes == 67 * 32 * 4);
		check_times(&costs);
		check_blocks(&costs);
		costs_fini(&costs);
		model_destroy(model);
	}
}

/* Tables, tokens and samples that the sample has fewer of. */
static void what_is_large_is_scaled(void **state)
{
	struct model *model = make_model(3, 60000, 700);
	struct calibration calibration = small();
	struct costs costs;

	(void)state;
	calibration.micro_batch_size = 5;
	calibration.context = 700;
	calibration.budget_ns = 0;
	assert_int_equal(calibrate_layers(model, &calibration, &costs, NULL),
			 0);
	check_times(&costs);
	check_blocks(&costs);
	assert_true(costs.message_bytes == 5 * 700 * 32 * 4);
	assert_true(costs.tied_bytes == 60000.0 * 32 * 4);
	costs_fini(&costs);
	model_destroy(model);
}

/* What one slice computes; it meets nobody, and holds its part of the tie. */
static void a_slice_is_measured_alone(void **state)
{
	static const unsigned vocabularies[] = {67, 30001};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(vocabularies); i++) {
		unsigned vocab = vocabularies[i];
		struct model *model = make_slice(3, vocab, 24, 2, 1);
		struct calibration calibration = small();
		struct costs costs;

		assert_int_equal(
			calibrate_layers(model, &calibration, &costs, NULL), 0);
		assert_int_equal(costs_check_model(&costs, model), 0);
		check_times(&costs);
		check_blocks(&costs);
		assert_true(costs.message_bytes == 2 * 24 * 32 * 4);
		assert_true(costs.tied_bytes == vocab / 2 * 32.0 * 4);
		costs_fini(&costs);
		model_destroy(model);
	}
}

static void several_teams_and_threads(void **state)
{
	struct optimizer_config optimizers[] = {
		{.kind = OPTIMIZER_ADAMW,
		 .beta1 = 0.9,
		 .beta2 = 0.95,
		 .epsilon = 1e-8},
		{.kind = OPTIMIZER_SGD},
	};
	struct model *model = make_model(4, 300, 24);
	struct calibration calibration = small();
	struct calibration_rates rates;
	struct costs costs;

	(void)state;
	calibration.copies = 3;
	calibration.threads = 2;
	for (unsigned i = 0; i < 4; i++) {
		calibration.recompute = i % 2;
		calibration.pin = i % 2;
		calibration.optimizer = &optimizers[i / 2];
		rates = (struct calibration_rates){0};
		assert_int_equal(
			calibrate_layers(model, &calibration, &costs, &rates),
			0);
		check_times(&costs);
		check_blocks(&costs);
		assert_true(rates.update > 0 && isfinite(rates.update));
		assert_true(rates.square > 0 && isfinite(rates.square));
		assert_true(rates.add > 0 && isfinite(rates.add));
		costs_fini(&costs);
	}
	model_destroy(model);
}

/* ---- nothing stays ---- */

static unsigned count_threads(void)
{
	FILE *file = fopen("/proc/self/status", "r");
	unsigned count = 0;
	char line[256];

	assert_non_null(file);
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "Threads: %u", &count) == 1)
			break;
	fclose(file);
	return count;
}

static unsigned float_state(void)
{
#if defined(__x86_64__)
	return __builtin_ia32_stmxcsr() & ~0x3fu; /* less what has happened */
#else
	return 0;
#endif
}

static void the_caller_is_left_alone(void **state)
{
	struct model *model = make_model(2, 67, 24);
	struct calibration calibration = small();
	cpu_set_t before, after;
	struct costs costs;
	unsigned mxcsr = float_state(), threads = count_threads();

	(void)state;
	calibration.pin = true;
	assert_int_equal(sched_getaffinity(0, sizeof(before), &before), 0);
	assert_int_equal(calibrate_layers(model, &calibration, &costs, NULL),
			 0);
	costs_fini(&costs);
	assert_int_equal(sched_getaffinity(0, sizeof(after), &after), 0);
	assert_true(CPU_EQUAL(&before, &after));
	assert_int_equal(float_state(), mxcsr);
	assert_int_equal(count_threads(), threads);
	model_destroy(model);
}

/* ---- bytes ---- */

/* What engine/stage.c takes for layers [first, end), a flight of each kind. */
static void stage_bytes(struct model *model, const struct calibration *c,
			unsigned first, unsigned end, bool split,
			double *activation, double *pending)
{
	struct stage_config stage = {
		.model = model,
		.first_layer = first,
		.end_layer = end,
		.batch = c->micro_batch_size,
		.time = c->context,
		.micro_batches = 1,
		.training = true,
		.recompute = c->recompute,
		.split_backward = split,
	};
	struct stage_sizes sizes;

	assert_int_equal(threads_create(1, NULL, &stage.threads), 0);
	stage_sizes(&stage, &sizes);
	*activation = (double)(sizes.activation_bytes + sizes.input_bytes);
	*pending = (double)(sizes.pending_bytes + sizes.output_gradient_bytes);
	threads_destroy(stage.threads);
}

static void bytes_add_up_to_a_stage(void **state)
{
	struct model *model = make_model(4, 67, 24);
	struct calibration calibration = small();

	(void)state;
	for (unsigned recompute = 0; recompute < 2; recompute++) {
		struct costs costs;

		calibration.recompute = recompute;
		assert_int_equal(
			calibrate_by_operations(model, &calibration, &costs),
			0);
		for (unsigned first = 0; first < 6; first++) {
			double activation = 0, pending = 0;

			for (unsigned end = first + 1; end <= 6; end++) {
				double wanted, wanted_pending;
				const struct costs_row *row =
					&costs.rows[end - 1];

				activation += row->activation_bytes;
				pending += row->pending_bytes;
				stage_bytes(model, &calibration, first, end,
					    true, &wanted, &wanted_pending);
				assert_true(activation == wanted);
				assert_true(pending == wanted_pending);
			}
		}
		costs_fini(&costs);
	}
	model_destroy(model);
}

static void operations_are_counted(void **state)
{
	struct model *model = make_model(3, 67, 24);
	struct calibration calibration = small();
	struct costs costs;

	(void)state;
	calibration.recompute = true;
	assert_int_equal(calibrate_by_operations(model, &calibration, &costs),
			 0);
	assert_false(costs.seconds);
	assert_int_equal(costs_check_model(&costs, model), 0);
	for (unsigned i = 0; i < costs.count; i++) {
		const struct layer *layer = model_layer(model, i);
		struct layer_cost cost;

		layer_cost(layer, 2, 24, &cost);
		assert_true(costs.rows[i].forward == cost.forward);
		assert_true(costs.rows[i].input ==
			    cost.backward_input +
				    (layer->loss ? 0 : cost.forward));
		assert_true(costs.rows[i].weight == cost.backward_weight);
	}
	costs_fini(&costs);
	model_destroy(model);
}

/* ---- places and links ---- */

static void places_are_those_of_a_launch(void **state)
{
	unsigned cores = threads_available_cores(NULL, 0);
	struct calibration c = {0};

	(void)state;
	calibration_place(&c, 1, 0, true);
	assert_int_equal(c.threads, MIN(cores, THREADS_MAX));
	assert_int_equal(c.copies, 1);
	assert_true(c.pin);
	calibration_place(&c, cores, 0, true);
	assert_int_equal(c.threads, 1);
	assert_int_equal(c.copies, cores);
	assert_true(c.pin);
	calibration_place(&c, cores, 0, false);
	assert_false(c.pin);
	/* More ranks than cores take turns, unpinned. */
	calibration_place(&c, 2 * cores, 0, true);
	assert_int_equal(c.threads, 1);
	assert_int_equal(c.copies, cores);
	assert_false(c.pin);
	calibration_place(&c, 3, 2 * cores, true);
	assert_int_equal(c.threads, MIN(2 * cores, THREADS_MAX));
	assert_int_equal(c.copies, 1);
	assert_false(c.pin);
}

static void links_are_measured(void **state)
{
	static const char *const kinds[][2] = {
		{"inproc", "auto"}, {"tcp", "auto"}, {"tcp", "sockets"}};
	static const double bytes[] = {10, 100000, 5 << 20};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(kinds) * ARRAY_SIZE(bytes); i++) {
		struct costs costs = {.message_bytes = bytes[i % 3],
				      .latency = -1,
				      .bandwidth = -1,
				      .send = -1,
				      .receive = -1};

		assert_int_equal(calibrate_link(kinds[i / 3][0],
						kinds[i / 3][1], &costs),
				 0);
		assert_true(isfinite(costs.latency) && costs.latency > 0);
		assert_true(isfinite(costs.bandwidth) && costs.bandwidth >= 0);
		assert_true(isfinite(costs.send) && costs.send >= 0);
		assert_true(isfinite(costs.receive) && costs.receive >= 0);
		assert_true(costs.message_bytes == bytes[i % 3]);
		if (strcmp(kinds[i / 3][0], "inproc") == 0)
			assert_true(costs.bandwidth == 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_layer_has_its_cost),
		cmocka_unit_test(what_is_large_is_scaled),
		cmocka_unit_test(a_slice_is_measured_alone),
		cmocka_unit_test(several_teams_and_threads),
		cmocka_unit_test(the_caller_is_left_alone),
		cmocka_unit_test(bytes_add_up_to_a_stage),
		cmocka_unit_test(operations_are_counted),
		cmocka_unit_test(places_are_those_of_a_launch),
		cmocka_unit_test(links_are_measured),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	log_set_sink(ignore_line, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
