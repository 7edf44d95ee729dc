/*
 * A stage's bits: fused, split, cut into three, recomputed, on 1 to 3
 * threads, all accumulators must come out the same; and the test can tell,
 * since W in another order gives others.
 */
#include "base/arena.h"
#include "engine/stage.h"
#include "model/kernels/gemm.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define M          4u
#define B          2u
#define T          40u
#define VOCAB      67u
#define BLOCKS     3u
#define LAYERS     (BLOCKS + 2)
#define STAGES_MAX 3

enum order {
	FUSED,
	SPLIT,
	REVERSED
};

struct variant {
	enum order order;
	unsigned stages;
	bool recompute;
	bool evaluate; /* between the passes */
	unsigned threads;
};

struct rig {
	struct model *model;
	struct store *store;
	struct threads *threads;
	struct stage *stages[STAGES_MAX];
	void *messages[STAGES_MAX];
	unsigned count;
	struct stage_pass pass;
	int32_t tokens[M * B * T], labels[M * B * T];
	double losses[M];
};

static struct model *tiny_model(void)
{
	struct model_config config;
	struct model *model;

	assert_int_equal(model_config_default("gpt2", &config), 0);
	config.vocab_size = VOCAB;
	config.context = T;
	config.width = 32;
	config.layers = BLOCKS;
	config.heads = 2;
	assert_int_equal(model_create(&config, &model), 0);
	return model;
}

static void fill_columns(struct rig *rig)
{
	for (unsigned i = 0; i < M * B * T; i++) {
		rig->tokens[i] = (int32_t)((i * 2654435761u >> 7) % VOCAB);
		rig->labels[i] = (int32_t)((i * 40503u >> 3) % VOCAB);
		if (i % 11 == 0)
			rig->labels[i] = -1;
	}
}

static void create_stages(struct rig *rig, const struct variant *v,
			  unsigned groups)
{
	static const unsigned cuts[STAGES_MAX + 1][STAGES_MAX + 1] = {
		[1] = {0, LAYERS},
		[2] = {0, 2, LAYERS},
		[3] = {0, 2, 3, LAYERS},
	};

	rig->count = v->stages;
	for (unsigned s = 0; s < v->stages; s++) {
		struct stage_config config = {
			.model = rig->model,
			.store = rig->store,
			.index = s,
			.first_layer = cuts[v->stages][s],
			.end_layer = cuts[v->stages][s + 1],
			.batch = B,
			.time = T,
			.micro_batches = M,
			.threads = rig->threads,
			.accumulation = {.micro_batches = M, .groups = groups},
			.training = true,
			.recompute = v->recompute,
			.split_backward = v->order != FUSED,
			.inputs = M,
			.activations = M,
			.output_gradients = M,
			.pendings = M,
		};
		struct stage_sizes sizes;

		stage_sizes(&config, &sizes);
		rig->messages[s] = aligned_alloc(
			CACHE_LINE_BYTES,
			MAX(arena_piece_bytes(sizes.message_region_bytes),
			    CACHE_LINE_BYTES));
		assert_non_null(rig->messages[s]);
		/* What was never received must show. */
		memset(rig->messages[s], 0xff, sizes.message_region_bytes);
		assert_int_equal(stage_create(&config, rig->messages[s],
					      &rig->stages[s]),
				 0);
	}
}

static void rig_init(struct rig *rig, const struct variant *v, unsigned groups)
{
	bool holds[LAYERS] = {true, true, true, true, true};
	struct store_config config = {.holds_layer = holds};
	struct accumulation accumulation = {.micro_batches = M,
					    .groups = groups};

	rig->model = tiny_model();
	config.model = rig->model;
	config.levels = accumulation_levels(&accumulation);
	assert_int_equal(store_create(&config, &rig->store), 0);
	assert_int_equal(threads_create(v->threads, NULL, &rig->threads), 0);
	assert_int_equal(gemm_prepare(rig->threads), 0);
	for (unsigned i = 0; i < rig->store->count; i++) {
		struct store_row *row = &rig->store->rows[i];

		if (row->target < 0)
			model_initialise(rig->model, row->parameter->id, 7, 0,
					 row->parameter->count, row->weights);
	}
	fill_columns(rig);
	create_stages(rig, v, groups);
	rig->pass = (struct stage_pass){
		.mode = LAYER_TRAIN,
		.seed = 7,
		.step = 3,
		.first_sample = 100,
		.batch = B,
		.time = T,
		.loss_scale = 1.0 / (M * B * T),
		.columns = {[COLUMN_TOKENS] = rig->tokens,
			    [COLUMN_LABELS] = rig->labels},
	};
}

static void rig_fini(struct rig *rig)
{
	for (unsigned s = 0; s < rig->count; s++) {
		stage_destroy(rig->stages[s]);
		free(rig->messages[s]);
	}
	store_destroy(rig->store);
	threads_destroy(rig->threads);
	model_destroy(rig->model);
}

static void forward(struct rig *rig, unsigned m)
{
	for (unsigned s = 0; s < rig->count; s++) {
		void *output =
			s + 1 < rig->count
				? stage_claim_input(rig->stages[s + 1], m)
				: NULL;

		stage_forward(rig->stages[s], &rig->pass, m, output);
	}
	rig->losses[m] = stage_loss(rig->stages[rig->count - 1], m);
}

static void backward(struct rig *rig, unsigned m, bool fused)
{
	for (unsigned s = rig->count; s-- > 0;) {
		void *gradient =
			s ? stage_claim_output_gradient(rig->stages[s - 1], m)
			  : NULL;

		if (fused)
			stage_backward(rig->stages[s], &rig->pass, m, gradient);
		else
			stage_backward_input(rig->stages[s], &rig->pass, m,
					     gradient);
	}
}

static void weight(struct rig *rig, unsigned m)
{
	for (unsigned s = 0; s < rig->count; s++)
		stage_backward_weight(rig->stages[s], &rig->pass, m);
}

/* One pass: 'F', 'B', 'I', 'W' and a micro-batch, in this order. */
static void run(struct rig *rig, const char *order)
{
	for (; *order; order += 2) {
		unsigned m = (unsigned)(order[1] - '0');

		if (order[0] == 'F')
			forward(rig, m);
		else if (order[0] == 'W')
			weight(rig, m);
		else
			backward(rig, m, order[0] == 'B');
	}
}

static void evaluate(struct rig *rig)
{
	rig->pass.mode = LAYER_EVAL;
	for (unsigned m = 0; m < M; m++) {
		forward(rig, m);
		assert_true(isfinite(rig->losses[m]) && rig->losses[m] > 0);
	}
	rig->pass.mode = LAYER_TRAIN;
}

static const char *const orders[] = {
	[FUSED] = "F0F1B0F2B1F3B2B3",
	/* Zero-bubble fashion, with one B among them. */
	[SPLIT] = "F0F1I0F2I1W0F3W1B2I3W3",
	[REVERSED] = "F0F1F2F3I0I1I2I3W3W2W1W0",
};

struct result {
	float *sums;
	size_t count;
	double losses[M];
};

static void compute(const struct variant *v, unsigned groups,
		    struct result *out)
{
	struct rig *rig = calloc(1, sizeof(*rig));
	const char *order = orders[v->order];
	size_t at = 0;

	assert_non_null(rig);
	rig_init(rig, v, groups);
	run(rig, order);
	if (v->evaluate)
		evaluate(rig);
	run(rig, order); /* every slot was given back */
	out->count = 0;
	for (unsigned i = 0; i < rig->store->count; i++)
		out->count += rig->store->rows[i].parameter->count;
	out->sums = calloc(out->count, sizeof(float));
	assert_non_null(out->sums);
	for (unsigned i = 0; i < rig->store->count; i++) {
		const struct store_row *row = &rig->store->rows[i];

		memcpy(out->sums + at, row->accumulators[0],
		       row->parameter->count * sizeof(float));
		at += row->parameter->count;
		for (unsigned l = 1; l < rig->store->levels; l++)
			for (size_t n = 0; n < row->parameter->count; n++)
				assert_true(row->accumulators[l][n] == 0);
	}
	memcpy(out->losses, rig->losses, sizeof(out->losses));
	rig_fini(rig);
	free(rig);
}

static bool same(const struct result *a, const struct result *b)
{
	return a->count == b->count &&
	       memcmp(a->sums, b->sums, a->count * sizeof(float)) == 0 &&
	       memcmp(a->losses, b->losses, sizeof(a->losses)) == 0;
}

static const struct variant variants[] = {
	{.order = FUSED, .stages = 1, .threads = 2},
	{.order = FUSED, .stages = 1, .threads = 3, .evaluate = true},
	{.order = SPLIT, .stages = 1, .threads = 1},
	{.order = FUSED, .stages = 2, .threads = 1},
	{.order = FUSED, .stages = 3, .threads = 2, .evaluate = true},
	{.order = SPLIT, .stages = 3, .threads = 1, .evaluate = true},
	{.order = FUSED, .stages = 1, .threads = 1, .recompute = true},
	{.order = SPLIT, .stages = 1, .threads = 2, .recompute = true},
	{.order = FUSED,
	 .stages = 3,
	 .threads = 1,
	 .recompute = true,
	 .evaluate = true},
	{.order = SPLIT, .stages = 3, .threads = 3, .recompute = true},
};

static void same_bits(void **state)
{
	static const struct variant plain = {
		.order = FUSED, .stages = 1, .threads = 1};
	struct result last = {0};

	(void)state;
	for (unsigned groups = 1; groups <= 4; groups *= 2) {
		struct result expected;

		compute(&plain, groups, &expected);
		for (size_t i = 0; i < ARRAY_SIZE(variants); i++) {
			struct result found;

			compute(&variants[i], groups, &found);
			if (!same(&expected, &found))
				fail_msg("G %u: variant %zu differs", groups,
					 i);
			free(found.sums);
		}
		/* Groups are summed as a tree, and that is seen. */
		if (last.sums)
			assert_false(same(&last, &expected));
		free(last.sums);
		last = expected;
	}
	free(last.sums);
}

static void order_shows(void **state)
{
	static const struct variant plain = {
		.order = FUSED, .stages = 1, .threads = 1};
	static const struct variant reversed = {
		.order = REVERSED, .stages = 1, .threads = 1};
	struct result a, b;

	(void)state;
	compute(&plain, 1, &a);
	compute(&reversed, 1, &b);
	assert_false(same(&a, &b));
	/* Yet it is the same sum. */
	for (size_t i = 0; i < a.count; i++)
		assert_true(fabsf(a.sums[i] - b.sums[i]) < 1e-4f);
	free(a.sums);
	free(b.sums);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(same_bits),
		cmocka_unit_test(order_shows),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
