/*
 * Every primitive operation in every variant, alone and in small graphs that
 * use a value several times, against differences of plain double versions.
 */
#include "model/kernels/dropout.h"
#include "model/layers/primitive.h"
#include "tests/grad/check.h"
#include "tests/grad/reference.h"
#include "tests/grad/rig.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TOLERANCE 3e-4
/* Of bfloat16: what several roundings to 8 bits do. */
#define TOLERANCE_BF16 3e-2
#define LAYER          5 /* its global index, which keys dropout */

struct bench {
	struct graph_description description;
	struct parameter parameters[RIG_PARAMETERS_MAX];
	struct layer layer;
	struct rig rig;
	double *weights[RIG_PARAMETERS_MAX];
	double *values[GRAPH_VALUES_MAX];
};

/* ---- the reference: rows one after the other, in double ---- */

static unsigned adapter_weights(const struct graph_row *row)
{
	return 2u * ((row->name != NULL) + (row->second_name != NULL) +
		     (row->third_name != NULL));
}

/* z = base + scale (x A^T) B^T in the columns of each map that is named. */
static void reference_adapter(const struct graph_row *row, size_t tokens,
			      size_t in, size_t out, const double *x,
			      const double *base, double *const *weights,
			      double *z)
{
	const char *const names[] = {row->name, row->second_name,
				     row->third_name};
	size_t column = 0;

	memcpy(z, base, tokens * out * sizeof(*z));
	for (unsigned map = 0; map < 3; column += row->map_widths[map++]) {
		const double *a = weights[0], *b = weights[1];

		if (!names[map])
			continue;
		weights += 2;
		for (size_t t = 0; t < tokens; t++)
			for (size_t o = 0; o < row->map_widths[map]; o++)
				for (size_t r = 0; r < row->rank; r++)
					for (size_t i = 0; i < in; i++)
						z[t * out + column + o] +=
							(double)row->scale *
							x[t * in + i] *
							a[r * in + i] *
							b[o * row->rank + r];
	}
}

/* Returns the loss, if the row is one. */
static double reference_row(struct bench *bench, const struct graph_row *row,
			    double *const *weights)
{
	const struct rig *rig = &bench->rig;
	const size_t *widths = bench->description.widths;
	size_t batch = rig->context.batch, time = rig->context.time;
	size_t tokens = batch * time;
	size_t in = widths[row->input[0]];
	size_t out = row->output == VALUE_NONE ? 0 : widths[row->output];
	const double *x = bench->values[row->input[0]];
	double *y =
		row->output == VALUE_NONE ? NULL : bench->values[row->output];
	struct reference_mask mask = {
		.key = dropout_key(rig->context.seed, rig->context.step, LAYER,
				   row->site),
		.probability = row->dropout,
		.sample_ids = rig->sample_ids,
		.time = time,
	};

	if (row->ops == &linear_ops) {
		reference_linear(row->layout, tokens, in, out, x, weights[0],
				 row->bias ? weights[1] : NULL, y);
	} else if (row->ops == &layernorm_ops) {
		reference_layernorm(tokens, out, row->epsilon, x, weights[0],
				    weights[1], y);
	} else if (row->ops == &gelu_ops) {
		reference_gelu(tokens * out, x, y);
	} else if (row->ops == &adapter_ops) {
		reference_adapter(row, tokens, in, out, x,
				  bench->values[row->input[1]], weights, y);
	} else if (row->ops == &attention_ops) {
		reference_attention(&mask, batch, time, row->heads,
				    row->kv_heads, row->head_size, x, y);
	} else if (row->ops == &residual_ops) {
		reference_dropout(&mask, batch, out,
				  bench->values[row->input[1]], y);
		for (size_t i = 0; i < tokens * out; i++)
			y[i] += x[i];
	} else if (row->ops == &embedding_ops) {
		for (size_t i = 0; i < tokens * out; i++) {
			size_t token = (size_t)rig->tokens[i / out];
			size_t position = i / out % time;

			y[i] = weights[0][token * out + i % out];
			if (row->second_name)
				y[i] += weights[1][position * out + i % out];
		}
		reference_dropout(&mask, batch, out, y, y);
	} else {
		assert_ptr_equal(row->ops, &loss_ops);
		return reference_loss(tokens, in, row->vocab_size, x,
				      weights[0], row->bias ? weights[1] : NULL,
				      rig->labels) *
		       rig->context.loss_scale;
	}
	return 0.0;
}

static double evaluate(void *argument)
{
	struct bench *bench = argument;
	const struct graph_description *description = &bench->description;
	const struct rig *rig = &bench->rig;
	unsigned weight = 0;
	double sum = 0.0;

	for (unsigned i = 0; i < description->row_count; i++) {
		const struct graph_row *row = &description->rows[i];
		unsigned weights = 0;

		sum += reference_row(bench, row, &bench->weights[weight]);
		if (row->ops == &linear_ops || row->ops == &loss_ops)
			weights = row->bias ? 2 : 1;
		if (row->ops == &layernorm_ops)
			weights = 2;
		if (row->ops == &adapter_ops)
			weights = adapter_weights(row);
		if (row->ops == &embedding_ops)
			weights = row->second_name ? 2 : 1;
		weight += weights;
	}
	for (size_t i = 0; i < rig->output_count; i++)
		sum += bench->values[description->value_count - 1][i] *
		       (double)rig->output_gradient[i];
	return sum;
}

/* ---- a graph as a layer ---- */

static struct edge edge_of(enum element_type type, size_t width)
{
	return (struct edge){
		.count = 1,
		.entry = {{.name = "x",
			   .type = type,
			   .per_token = width,
			   .needs_gradient = true}},
	};
}

static void bench_init(struct bench *bench, enum element_type type,
		       const struct graph_row *rows, unsigned row_count,
		       const size_t *widths, unsigned value_count, size_t time)
{
	bool has_input = rows[0].ops != &embedding_ops;
	bool has_output = rows[row_count - 1].output != VALUE_NONE;
	struct rig_size size = {
		.batch = 2,
		.time = time,
		.threads = 2,
		.mode = LAYER_TRAIN,
		.vocab_size = 41,
		.seed = 11,
	};
	unsigned count = 0;

	memset(bench, 0, sizeof(*bench));
	bench->description = (struct graph_description){
		.rows = rows,
		.row_count = row_count,
		.widths = widths,
		.value_count = value_count,
		.has_input = has_input,
		.input_needs_gradient = has_input,
		.prefix = "",
		.type = type,
	};
	assert_int_equal(graph_create(&bench->description, LAYER,
				      bench->parameters, &count,
				      &bench->layer.graph),
			 0);
	bench->layer.parameter_count = count;
	bench->layer.loss = !has_output;
	bench->layer.vocab_size = size.vocab_size;
	if (has_input)
		bench->layer.input = edge_of(type, widths[0]);
	if (has_output)
		bench->layer.output = edge_of(type, widths[value_count - 1]);
	rig_init(&bench->rig, &bench->layer, bench->parameters, &size);
	for (unsigned p = 0; p < count; p++)
		bench->weights[p] = rig_doubles(bench->rig.weights[p],
						bench->parameters[p].count);
	for (unsigned v = 0; v < value_count; v++) {
		bench->values[v] =
			calloc(size.batch * time * widths[v], sizeof(double));
		assert_non_null(bench->values[v]);
	}
	for (size_t i = 0; i < bench->rig.input_count; i++)
		bench->values[0][i] = (double)bench->rig.input[i];
}

static void bench_fini(struct bench *bench)
{
	for (unsigned p = 0; p < bench->layer.parameter_count; p++)
		free(bench->weights[p]);
	for (unsigned v = 0; v < bench->description.value_count; v++)
		free(bench->values[v]);
	rig_fini(&bench->rig);
	graph_destroy(bench->layer.graph);
}

static void check_values(struct bench *bench)
{
	const struct rig *rig = &bench->rig;
	bool narrow = rig->type == ELEMENT_BF16;
	double expected = evaluate(bench);

	if (bench->layer.loss)
		assert_true(fabs(rig->loss * rig->context.loss_scale -
				 expected) < (narrow ? 1e-2 : 1e-5));
	for (size_t i = 0; i < rig->output_count; i++) {
		double y = bench->values[bench->description.value_count - 1][i];

		assert_true(fabs(y - (double)rig->output[i]) <
			    (narrow ? TOLERANCE_BF16 : 2e-5) * (1.0 + fabs(y)));
	}
}

/* Values, gradients of all parameters and of the input, for one graph. */
static void check_rows(const char *what, enum element_type type,
		       const struct graph_row *rows, unsigned row_count,
		       const size_t *widths, unsigned value_count, size_t time)
{
	struct bench *bench = malloc(sizeof(*bench));
	struct rig *rig = &bench->rig;
	double worst,
		tolerance = type == ELEMENT_BF16 ? TOLERANCE_BF16 : TOLERANCE;

	assert_non_null(bench);
	bench_init(bench, type, rows, row_count, widths, value_count, time);
	rig_forward(rig);
	rig_backward_input(rig);
	rig_backward_weight(rig);
	check_values(bench);
	for (unsigned p = 0; p < bench->layer.parameter_count; p++) {
		worst = check_gradient(evaluate, bench, bench->weights[p],
				       bench->parameters[p].count,
				       rig->gradients[p], tolerance);
		if (!(worst < 1.0))
			fail_msg("%s, %s: error %g of what is tolerated", what,
				 bench->parameters[p].name, worst);
	}
	if (rig->input_count > 0) {
		worst = check_gradient(evaluate, bench, bench->values[0],
				       rig->input_count, rig->input_gradient,
				       tolerance);
		if (!(worst < 1.0))
			fail_msg("%s, input: error %g of what is tolerated",
				 what, worst);
	}
	bench_fini(bench);
	free(bench);
}

/* In both types. */
#define CHECK(what, rows, widths, time)                                        \
	do {                                                                   \
		check_rows(what, ELEMENT_F32, rows, ARRAY_SIZE(rows), widths,  \
			   ARRAY_SIZE(widths), time);                          \
		check_rows(what " of bfloat16", ELEMENT_BF16, rows,            \
			   ARRAY_SIZE(rows), widths, ARRAY_SIZE(widths),       \
			   time);                                              \
	} while (0)

/* ---- alone ---- */

/*
 * An adapter beside one map, and beside the first and the third of three; the
 * map itself is trained here, so that what an adapter passes on is seen, too.
 */
static void adapter_is_right(void **state)
{
	const size_t widths[] = {19, 37, 37};
	const struct graph_row one[] = {
		{&linear_ops, {0}, 1, .name = "l", .bias = true},
		{&adapter_ops,
		 {0, 1},
		 2,
		 .name = "l",
		 .map_widths = {37},
		 .rank = 5,
		 .scale = 1.7f,
		 .deviation = 0.1f},
	};
	const struct graph_row two[] = {
		{&linear_ops, {0}, 1, .name = "l"},
		{&adapter_ops,
		 {0, 1},
		 2,
		 .name = "q",
		 .third_name = "v",
		 .map_widths = {17, 9, 11},
		 .rank = 3,
		 .scale = 0.6f,
		 .deviation = 0.1f},
	};

	(void)state;
	CHECK("adapter", one, widths, 7);
	CHECK("two adapters", two, widths, 7);
}

static void linear_is_right(void **state)
{
	const size_t widths[] = {19, 37};

	(void)state;
	for (int layout = LINEAR_OUT_IN; layout <= LINEAR_IN_OUT; layout++) {
		for (int bias = 0; bias < 2; bias++) {
			const struct graph_row rows[] = {
				{&linear_ops,
				 {0},
				 1,
				 .name = "l",
				 .layout = layout,
				 .bias = bias},
			};

			CHECK("linear", rows, widths, 9);
		}
	}
}

static void layernorm_is_right(void **state)
{
	const size_t widths[] = {75, 75};
	const struct graph_row rows[] = {
		{&layernorm_ops, {0}, 1, .name = "n", .epsilon = 1e-5},
	};

	(void)state;
	CHECK("layernorm", rows, widths, 70);
}

static void gelu_is_right(void **state)
{
	const size_t widths[] = {33, 33};
	const struct graph_row rows[] = {{&gelu_ops, {0}, 1, .name = NULL}};

	(void)state;
	CHECK("gelu", rows, widths, 9);
}

/*
 * Attention past one block of 64 keys, with grouped heads and dropout. Its
 * output is kept, so a layer cannot end with it.
 */
static void attention_is_right(void **state)
{
	const struct {
		unsigned heads, kv_heads;
		double dropout;
		size_t time;
	} cases[] = {
		{3, 3, 0.0, 11},
		{4, 2, 0.0, 70},
		{4, 1, 0.3, 70},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const size_t widths[] = {
			(cases[i].heads + 2 * cases[i].kv_heads) * 8,
			cases[i].heads * 8,
			5,
		};
		const struct graph_row rows[] = {
			{&attention_ops,
			 {0},
			 1,
			 .site = 2,
			 .head_size = 8,
			 .heads = cases[i].heads,
			 .kv_heads = cases[i].kv_heads,
			 .dropout = cases[i].dropout,
			 .context = 100},
			{&linear_ops, {1}, 2, .name = "l"},
		};

		CHECK("attention", rows, widths, cases[i].time);
	}
}

/* Wider than the 64 words a group of the mask's blocks makes. */
static void residual_is_right(void **state)
{
	const size_t widths[] = {150, 150, 150};
	const struct graph_row with[] = {
		{&gelu_ops, {0}, 1, .name = NULL},
		{&residual_ops, {0, 1}, 2, .site = 1, .dropout = 0.4},
	};
	const struct graph_row without[] = {
		{&gelu_ops, {0}, 1, .name = NULL},
		{&residual_ops, {0, 1}, 2, .site = 1},
	};

	(void)state;
	CHECK("residual, dropout", with, widths, 9);
	CHECK("residual", without, widths, 9);
}

static void embedding_is_right(void **state)
{
	const size_t widths[] = {90};

	(void)state;
	for (int positions = 0; positions < 2; positions++) {
		for (int dropout = 0; dropout < 2; dropout++) {
			const struct graph_row rows[] = {
				{&embedding_ops,
				 {0},
				 0,
				 .name = "tokens",
				 .second_name = positions ? "positions" : NULL,
				 .vocab_size = 41,
				 .context = 20,
				 .deviation = 0.02f,
				 .dropout = dropout ? 0.25 : 0.0},
			};

			CHECK("embedding", rows, widths, 17);
		}
	}
}

static void loss_is_right(void **state)
{
	const size_t widths[] = {12, 12};

	(void)state;
	for (int bias = 0; bias < 2; bias++) {
		const struct graph_row rows[] = {
			{&layernorm_ops, {0}, 1, .name = "n", .epsilon = 1e-5},
			{&loss_ops,
			 {1},
			 VALUE_NONE,
			 .name = "head",
			 .vocab_size = 41,
			 .bias = bias},
		};

		CHECK("loss", rows, widths, 150);
	}
}

/* ---- values used more than once ---- */

/* Three linears on one norm (as q, k, v of most families), summed up. */
static void shared_norm_sums_gradients(void **state)
{
	const size_t widths[] = {20, 20, 16, 16, 16, 16, 16};
	const struct graph_row rows[] = {
		{&layernorm_ops, {0}, 1, .name = "n", .epsilon = 1e-5},
		{&linear_ops, {1}, 2, .name = "q"},
		{&linear_ops, {1}, 3, .name = "k", .bias = true},
		{&linear_ops, {1}, 4, .name = "v", .layout = LINEAR_IN_OUT},
		{&residual_ops, {2, 3}, 5, .site = 0},
		{&residual_ops, {5, 4}, 6, .site = 1, .dropout = 0.2},
	};

	(void)state;
	CHECK("shared norm", rows, widths, 9);
}

/*
 * The input passed on by two residuals, its gradient standing for others';
 * norms after the sum (as in BERT).
 */
static void norms_after_residuals_sum_gradients(void **state)
{
	const size_t widths[] = {20, 20, 20, 20, 30, 30, 20, 20, 20};
	const struct graph_row rows[] = {
		{&linear_ops, {0}, 1, .name = "a", .bias = true},
		{&residual_ops, {0, 1}, 2, .site = 0},
		{&layernorm_ops, {2}, 3, .name = "n", .epsilon = 1e-5},
		{&linear_ops, {3}, 4, .name = "b", .bias = true},
		{&gelu_ops, {4}, 5, .name = NULL},
		{&linear_ops, {5}, 6, .name = "c", .bias = true},
		{&residual_ops, {3, 6}, 7, .site = 1, .dropout = 0.2},
		{&layernorm_ops, {7}, 8, .name = "m", .epsilon = 1e-5},
	};

	(void)state;
	CHECK("norms after residuals", rows, widths, 9);
}

/* The edge's gradient gets only what a residual passes on: a copy. */
static void input_used_by_residual_alone(void **state)
{
	const size_t widths[] = {20, 20, 20, 20};
	const struct graph_row rows[] = {
		{&linear_ops, {0}, 1, .name = "a"},
		{&residual_ops, {0, 1}, 2, .site = 0},
		{&residual_ops, {2, 1}, 3, .site = 1},
	};
	(void)state;
	CHECK("input in residuals", rows, widths, 9);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(linear_is_right),
		cmocka_unit_test(adapter_is_right),
		cmocka_unit_test(layernorm_is_right),
		cmocka_unit_test(gelu_is_right),
		cmocka_unit_test(attention_is_right),
		cmocka_unit_test(residual_is_right),
		cmocka_unit_test(embedding_is_right),
		cmocka_unit_test(loss_is_right),
		cmocka_unit_test(shared_norm_sums_gradients),
		cmocka_unit_test(norms_after_residuals_sum_gradients),
		cmocka_unit_test(input_used_by_residual_alone),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
