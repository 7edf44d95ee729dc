/*
 * Kernels of bfloat16 values against themselves of float values: on the same
 * numbers the same bits, what is written rounded once. Attention, whose products
 * may be of bfloat16, too, comes near.
 */
#include "model/kernels/activation.h"
#include "model/kernels/attention.h"
#include "model/kernels/bias.h"
#include "model/kernels/cross_entropy.h"
#include "model/kernels/dropout.h"
#include "model/kernels/elementwise.h"
#include "model/kernels/embedding.h"
#include "model/kernels/gemm.h"
#include "model/kernels/headnorm.h"
#include "model/kernels/layernorm.h"
#include "model/kernels/rope.h"
#include "model/kernels/values.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "tests/unit/kernel-test.h"

struct threads *teams[TEAMS];

/* The same numbers in both types. */
struct pair {
	size_t count;
	float *wide;
	bfloat16 *narrow;
};

static struct pair pair_random(const char *name, size_t count)
{
	struct pair pair = {count, test_normal(name, count, 0.1f, 1.0f),
			    test_bytes(count * sizeof(bfloat16))};

	values_row_round(count, pair.wide, pair.narrow);
	values_row_widen(count, pair.narrow, pair.wide);
	return pair;
}

/* To be written: NaN until then. */
static struct pair pair_empty(size_t count)
{
	return (struct pair){count, test_floats(count),
			     test_bytes(count * sizeof(bfloat16))};
}

static void pair_free(struct pair pair)
{
	free(pair.wide);
	free(pair.narrow);
}

/* Is what was written in bfloat16 what was written in float, rounded? */
static void assert_rounded(const char *what, struct pair pair)
{
	for (size_t i = 0; i < pair.count; i++)
		if (pair.narrow[i] != bfloat16_from_float(pair.wide[i]))
			fail_msg("%s[%zu of %zu]: %.9g, of floats %.9g", what,
				 i, pair.count,
				 (double)float_from_bfloat16(pair.narrow[i]),
				 (double)pair.wide[i]);
}

static void assert_same(const char *what, size_t count, const float *a,
			const float *b)
{
	for (size_t i = 0; i < count; i++)
		if (memcmp(a + i, b + i, sizeof(*a)) != 0)
			fail_msg("%s[%zu of %zu]: %.9g, of floats %.9g", what,
				 i, count, (double)a[i], (double)b[i]);
}

/* ---- the format ---- */

static void rounding_is_to_nearest_even(void **state)
{
	const struct {
		uint32_t bits;
		bfloat16 expected;
	} cases[] = {
		{0x3f800000, 0x3f80}, {0x3f807fff, 0x3f80},
		{0x3f808000, 0x3f80}, {0x3f808001, 0x3f81},
		{0x3f818000, 0x3f82}, {0xbf818000, 0xbf82},
		{0x7f7fffff, 0x7f80}, {0x7f800000, 0x7f80},
		{0xff800000, 0xff80}, {0x7f800001, 0x7fc0},
		{0xffffffff, 0xffff}, {0x80000000, 0x8000},
		{0x00018000, 0x0002}, {0x00000001, 0x0000},
	};
	float in[ARRAY_SIZE(cases)];
	bfloat16 out[ARRAY_SIZE(cases)];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		memcpy(&in[i], &cases[i].bits, sizeof(in[i]));
		assert_int_equal(bfloat16_from_float(in[i]), cases[i].expected);
	}
	values_row_round(ARRAY_SIZE(cases), in, out);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(out[i], cases[i].expected);
	/* All there are come back. */
	for (uint32_t bits = 0; bits < 0x10000; bits++) {
		float value = float_from_bfloat16((bfloat16)bits);

		if (isnan(value))
			assert_true(isnan(float_from_bfloat16(
				bfloat16_from_float(value))));
		else
			assert_int_equal(bfloat16_from_float(value), bits);
	}
}

/* ---- element by element ---- */

static void values_are_copied_and_added(void **state)
{
	const size_t count = ELEMENTWISE_BLOCK + 1234;
	struct pair a = pair_random("a", count), b = pair_random("b", count);
	struct pair out = pair_empty(count);
	float *sums = test_normal("sums", count, 0.0f, 1.0f);

	(void)state;
	values_add(teams[0], ELEMENT_F32, count, a.wide, b.wide, out.wide);
	values_add(teams[2], ELEMENT_BF16, count, a.narrow, b.narrow,
		   out.narrow);
	assert_rounded("add", out);
	values_copy(teams[2], ELEMENT_BF16, count, a.narrow, out.narrow);
	assert_memory_equal(out.narrow, a.narrow, count * sizeof(bfloat16));
	elementwise_add(teams[0], count, a.wide, sums, out.wide);
	values_add_round(teams[2], count, sums, out.narrow);
	assert_rounded("add a sum", out);
	memcpy(out.wide, sums, count * sizeof(float));
	values_round(teams[2], count, sums, out.narrow);
	assert_rounded("round", out);
	values_zero(teams[2], ELEMENT_BF16, count - 1, out.narrow);
	for (size_t i = 0; i + 1 < count; i++)
		assert_int_equal(out.narrow[i], 0);
	assert_int_equal(out.narrow[count - 1],
			 bfloat16_from_float(sums[count - 1]));
	free(sums);
	pair_free(a);
	pair_free(b);
	pair_free(out);
}

typedef void forward_fn(struct threads *, enum element_type, size_t,
			const void *, void *);
typedef void backward_fn(struct threads *, enum element_type, size_t,
			 const void *, const void *, void *);

static void check_activation(const char *name, forward_fn *forward,
			     backward_fn *backward)
{
	const size_t count = ELEMENTWISE_BLOCK + 777;
	struct pair x = pair_random("x", count), dy = pair_random("dy", count);
	struct pair out = pair_empty(count);

	forward(teams[0], ELEMENT_F32, count, x.wide, out.wide);
	forward(teams[2], ELEMENT_BF16, count, x.narrow, out.narrow);
	assert_rounded(name, out);
	backward(teams[0], ELEMENT_F32, count, dy.wide, x.wide, out.wide);
	backward(teams[2], ELEMENT_BF16, count, dy.narrow, x.narrow,
		 out.narrow);
	assert_rounded(name, out);
	pair_free(x);
	pair_free(dy);
	pair_free(out);
}

static void activations_round_once(void **state)
{
	(void)state;
	check_activation("gelu", gelu_forward, gelu_backward);
	check_activation("silu", silu_forward, silu_backward);
}

static void swiglu_rounds_once(void **state)
{
	const size_t rows = 37, width = 53;
	struct pair x = pair_random("x", rows * 2 * width);
	struct pair dy = pair_random("dy", rows * width);
	struct pair y = pair_empty(rows * width);
	struct pair dx = pair_empty(rows * 2 * width);

	(void)state;
	swiglu_forward(teams[0], ELEMENT_F32, rows, width, x.wide, y.wide);
	swiglu_forward(teams[2], ELEMENT_BF16, rows, width, x.narrow, y.narrow);
	assert_rounded("swiglu", y);
	swiglu_backward(teams[0], ELEMENT_F32, rows, width, dy.wide, x.wide,
			dx.wide);
	swiglu_backward(teams[2], ELEMENT_BF16, rows, width, dy.narrow,
			x.narrow, dx.narrow);
	assert_rounded("swiglu backward", dx);
	pair_free(x);
	pair_free(dy);
	pair_free(y);
	pair_free(dx);
}

static void dropout_rounds_once(void **state)
{
	const uint64_t sample_ids[] = {5, 6};
	const size_t rows = 34, channels = 150;
	struct dropout dropout = {
		.key = dropout_key(1, 2, 3, 4),
		.probability = 0.3f,
		.rows_per_sample = 17,
		.sample_ids = sample_ids,
	};
	struct pair x = pair_random("x", rows * channels);
	struct pair p = pair_random("p", rows * channels);
	struct pair out = pair_empty(rows * channels);

	(void)state;
	for (int with = 0; with < 2; with++) {
		const struct dropout *which = with ? &dropout : NULL;

		dropout_apply(teams[0], ELEMENT_F32, which, rows, channels,
			      x.wide, out.wide);
		dropout_apply(teams[2], ELEMENT_BF16, which, rows, channels,
			      x.narrow, out.narrow);
		assert_rounded("dropout", out);
		dropout_residual_add(teams[0], ELEMENT_F32, which, rows,
				     channels, x.wide, p.wide, out.wide);
		dropout_residual_add(teams[2], ELEMENT_BF16, which, rows,
				     channels, x.narrow, p.narrow, out.narrow);
		assert_rounded("residual", out);
	}
	pair_free(x);
	pair_free(p);
	pair_free(out);
}

/* ---- rows ---- */

struct norm {
	size_t rows, channels;
	struct pair x, dy, out, sum;
	float *gamma, *beta;
	float *statistics[2]; /* mean, then rstd */
	float *gradients[2];
	void *scratch;
};

static void norm_init(struct norm *norm, size_t rows, size_t channels)
{
	size_t count = rows * channels;

	*norm = (struct norm){
		.rows = rows,
		.channels = channels,
		.x = pair_random("x", count),
		.dy = pair_random("dy", count),
		.out = pair_empty(count),
		.sum = pair_random("sum", count),
		.gamma = test_normal("gamma", channels, 1.0f, 0.2f),
		.beta = test_normal("beta", channels, 0.0f, 0.2f),
		.scratch = test_bytes(layernorm_backward_weight_scratch_bytes(
			rows, channels)),
	};
	for (unsigned i = 0; i < 2; i++) {
		norm->statistics[i] = test_floats(2 * rows);
		norm->gradients[i] =
			test_normal("gradients", 2 * channels, 0.0f, 1.0f);
	}
}

static void norm_fini(struct norm *norm)
{
	pair_free(norm->x);
	pair_free(norm->dy);
	pair_free(norm->out);
	pair_free(norm->sum);
	free(norm->gamma);
	free(norm->beta);
	free(norm->scratch);
	for (unsigned i = 0; i < 2; i++) {
		free(norm->statistics[i]);
		free(norm->gradients[i]);
	}
}

static const void *of(struct pair pair, enum element_type type)
{
	return type == ELEMENT_BF16 ? (const void *)pair.narrow : pair.wide;
}

static void *into(struct pair pair, enum element_type type)
{
	return type == ELEMENT_BF16 ? (void *)pair.narrow : pair.wide;
}

static void run_layernorm(struct norm *norm, enum element_type type)
{
	bool narrow = type == ELEMENT_BF16;
	struct threads *team = teams[narrow ? 2 : 0];
	size_t rows = norm->rows, channels = norm->channels;
	float *mean = norm->statistics[narrow], *rstd = mean + rows;
	float *dgamma = norm->gradients[narrow], *dbeta = dgamma + channels;

	layernorm_forward(team, type, rows, channels, 1e-5f, of(norm->x, type),
			  norm->gamma, norm->beta, into(norm->out, type), mean,
			  rstd);
	layernorm_backward_input(team, type, rows, channels, of(norm->dy, type),
				 of(norm->x, type), norm->gamma, mean, rstd,
				 into(norm->sum, type), true);
	layernorm_backward_weight(team, type, rows, channels,
				  of(norm->dy, type), of(norm->x, type), mean,
				  rstd, dgamma, dbeta, norm->scratch);
}

static void run_rmsnorm(struct norm *norm, enum element_type type)
{
	bool narrow = type == ELEMENT_BF16;
	struct threads *team = teams[narrow ? 2 : 0];
	size_t rows = norm->rows, channels = norm->channels;
	float *rstd = norm->statistics[narrow] + rows;

	rmsnorm_forward(team, type, rows, channels, 1e-5f, of(norm->x, type),
			norm->gamma, into(norm->out, type), rstd);
	rmsnorm_backward_input(team, type, rows, channels, of(norm->dy, type),
			       of(norm->x, type), norm->gamma, rstd,
			       into(norm->sum, type), true);
	rmsnorm_backward_weight(team, type, rows, channels, of(norm->dy, type),
				of(norm->x, type), rstd,
				norm->gradients[narrow], norm->scratch);
}

static void check_norm(const char *name,
		       void (*run)(struct norm *, enum element_type),
		       size_t rows, size_t channels)
{
	struct norm norm;

	norm_init(&norm, rows, channels);
	run(&norm, ELEMENT_F32);
	run(&norm, ELEMENT_BF16);
	assert_rounded(name, norm.out);
	assert_rounded(name, norm.sum);
	assert_same(name, rows, norm.statistics[1] + rows,
		    norm.statistics[0] + rows);
	assert_same(name, 2 * channels, norm.gradients[1], norm.gradients[0]);
	/* Written, not added. */
	rmsnorm_backward_input(teams[0], ELEMENT_F32, rows, channels,
			       norm.dy.wide, norm.x.wide, norm.gamma,
			       norm.statistics[0] + rows, norm.out.wide, false);
	rmsnorm_backward_input(teams[1], ELEMENT_BF16, rows, channels,
			       norm.dy.narrow, norm.x.narrow, norm.gamma,
			       norm.statistics[1] + rows, norm.out.narrow,
			       false);
	assert_rounded(name, norm.out);
	norm_fini(&norm);
}

static void norms_round_once(void **state)
{
	(void)state;
	check_norm("layernorm", run_layernorm, 70, 129);
	check_norm("layernorm", run_layernorm, 1, 5);
	check_norm("rmsnorm", run_rmsnorm, 70, 129);
}

static void headnorm_rounds_once(void **state)
{
	struct headnorm_shape shape = {.rows = 67,
				       .heads = 3,
				       .kv_heads = 2,
				       .head_size = 24,
				       .epsilon = 1e-5f};
	const size_t count = shape.rows * (3 + 2 * 2) * shape.head_size;
	struct pair x = pair_random("x", count), dy = pair_random("dy", count);
	struct pair y = pair_empty(count), dx = pair_empty(count);
	float *gain = test_normal("gain", 2 * shape.head_size, 1.0f, 0.2f);
	float *sums[2], *rstd[2];
	void *scratch =
		test_bytes(headnorm_backward_weight_scratch_bytes(&shape));

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		enum element_type type = i ? ELEMENT_BF16 : ELEMENT_F32;
		const float *key_gain = gain + shape.head_size;

		shape.type = type;
		rstd[i] = test_floats(shape.rows * 5);
		sums[i] = test_normal("sums", 2 * shape.head_size, 0, 1);
		headnorm_forward(teams[2 * i], &shape, of(x, type), gain,
				 key_gain, into(y, type), rstd[i]);
		headnorm_backward_input(teams[2 * i], &shape, of(dy, type),
					of(x, type), gain, key_gain, rstd[i],
					into(dx, type));
		headnorm_backward_weight(teams[2 * i], &shape, of(dy, type),
					 of(x, type), rstd[i], sums[i],
					 sums[i] + shape.head_size, scratch);
	}
	assert_rounded("headnorm", y);
	assert_rounded("headnorm backward", dx);
	assert_same("headnorm gains", 2 * shape.head_size, sums[1], sums[0]);
	for (unsigned i = 0; i < 2; i++) {
		free(rstd[i]);
		free(sums[i]);
	}
	free(scratch);
	free(gain);
	pair_free(x);
	pair_free(dy);
	pair_free(y);
	pair_free(dx);
}

static void rope_rounds_once(void **state)
{
	const struct rope_config config = {
		.kind = ROPE_DEFAULT, .positions = 64, .theta = 10000};
	struct rope_shape shape = {.batch = 2,
				   .time = 33,
				   .position_offset = 3,
				   .heads = 3,
				   .kv_heads = 1,
				   .head_size = 20};
	const size_t count = 2 * 33 * 5 * 20;
	struct pair in = pair_random("in", count), out = pair_empty(count);
	struct pair back = pair_empty(count);
	void *scratch = test_bytes(rope_scratch_bytes(20, TEAMS));
	struct rope *rope;

	(void)state;
	assert_int_equal(rope_create(&config, 20, 64, &rope), 0);
	for (unsigned i = 0; i < 2; i++) {
		enum element_type type = i ? ELEMENT_BF16 : ELEMENT_F32;

		shape.type = type;
		rope_forward(teams[2 * i], rope, &shape, of(in, type),
			     into(out, type), scratch);
		rope_backward(teams[2 * i], rope, &shape, of(in, type),
			      into(back, type), scratch);
	}
	assert_rounded("rope", out);
	assert_rounded("rope backward", back);
	rope_destroy(rope);
	free(scratch);
	pair_free(in);
	pair_free(out);
	pair_free(back);
}

static void bias_rounds_once(void **state)
{
	const size_t rows = 70, columns = 33, stride = 40;
	struct pair dy = pair_random("dy", rows * stride);
	struct pair y = pair_random("y", rows * columns);
	float *bias = test_normal("bias", columns, 0.0f, 1.0f);
	float *sums = test_normal("sums", rows * columns, 0.0f, 1.0f);
	void *scratch = test_bytes(bias_backward_scratch_bytes(rows, columns));
	float *dbias[2];

	(void)state;
	memcpy(y.wide, sums, rows * columns * sizeof(float));
	bias_add_round(teams[2], rows, columns, sums, NULL, y.narrow);
	assert_rounded("no bias", y);
	bias_add(teams[0], rows, columns, bias, y.wide);
	bias_add_round(teams[2], rows, columns, sums, bias, y.narrow);
	assert_rounded("bias", y);
	for (unsigned i = 0; i < 2; i++) {
		enum element_type type = i ? ELEMENT_BF16 : ELEMENT_F32;

		dbias[i] = test_normal("dbias", columns, 0.0f, 1.0f);
		bias_backward(teams[2 * i], type, rows, columns, stride,
			      of(dy, type), dbias[i], scratch);
	}
	assert_same("dbias", columns, dbias[1], dbias[0]);
	for (unsigned i = 0; i < 2; i++)
		free(dbias[i]);
	free(scratch);
	free(sums);
	free(bias);
	pair_free(dy);
	pair_free(y);
}

/* ---- embedding ---- */

static void embedding_rounds_once(void **state)
{
	enum {
		SAMPLES = 2,
		LENGTH = 19,
		ROWS = SAMPLES * LENGTH
	};
	const size_t channels = 37, vocabulary = 23, offset = 2;
	const size_t count = ROWS * channels;
	struct pair wte = pair_random("wte", vocabulary * channels);
	struct pair wpe = pair_random("wpe", (LENGTH + 3) * channels);
	struct pair dx = pair_random("dx", count), x = pair_empty(count);
	int32_t tokens[ROWS];
	float *sums = test_floats(count), *gradients[2];

	(void)state;
	for (size_t i = 0; i < ROWS; i++)
		tokens[i] = (int32_t)(i * i % vocabulary);
	for (unsigned i = 0; i < 2; i++) {
		enum element_type type = i ? ELEMENT_BF16 : ELEMENT_F32;
		size_t both = (vocabulary + LENGTH + 3) * channels;

		embedding_forward(teams[2 * i], type, SAMPLES, LENGTH, channels,
				  tokens, offset, NULL, of(wte, type),
				  of(wpe, type), into(x, type));
		gradients[i] = test_normal("gradients", both, 0.0f, 1.0f);
		embedding_backward_weight(teams[2 * i], type, SAMPLES, LENGTH,
					  channels, tokens, offset, NULL,
					  of(dx, type), gradients[i],
					  gradients[i] + vocabulary * channels);
	}
	assert_rounded("embedding", x);
	assert_same("embedding's gradients",
		    (vocabulary + LENGTH + 3) * channels, gradients[1],
		    gradients[0]);
	/* A table that is here as a whole is one part. */
	embedding_forward_part(teams[1], ELEMENT_BF16, ROWS, channels, tokens,
			       0, vocabulary, wte.narrow, sums);
	embedding_forward_sum(teams[1], ELEMENT_BF16, SAMPLES, LENGTH, channels,
			      offset, NULL, sums, wpe.narrow, x.narrow);
	assert_rounded("embedding in parts", x);
	free(sums);
	free(gradients[0]);
	free(gradients[1]);
	pair_free(wte);
	pair_free(wpe);
	pair_free(dx);
	pair_free(x);
}

/* ---- cross-entropy ---- */

static void cross_entropy_rounds_once(void **state)
{
	enum {
		ROWS = 5
	};
	const size_t vocabulary = 4999, stride = 5008;
	const int32_t labels[ROWS] = {0, 4998, -100, 77, 2048};
	float *logits = test_normal("logits", ROWS * stride, 0.0f, 2.0f);
	float *narrow = test_normal("logits", ROWS * stride, 0.0f, 2.0f);
	const bfloat16 *rows = (const void *)narrow;
	double losses[2][ROWS];

	(void)state;
	cross_entropy_forward_backward(teams[0], ROWS, vocabulary, stride,
				       labels, 1e-2f, ELEMENT_F32, logits,
				       losses[0]);
	cross_entropy_forward_backward(teams[2], ROWS, vocabulary, stride,
				       labels, 1e-2f, ELEMENT_BF16, narrow,
				       losses[1]);
	assert_memory_equal(losses[0], losses[1], sizeof(losses[0]));
	for (size_t r = 0; r < ROWS; r++) {
		struct pair row = {vocabulary, logits + r * stride,
				   test_bytes(vocabulary * sizeof(bfloat16))};

		memcpy(row.narrow, rows + r * 2 * stride,
		       vocabulary * sizeof(bfloat16));
		assert_rounded("dlogits", row);
		free(row.narrow);
	}
	free(logits);
	free(narrow);
}

/* ---- attention ---- */

/* To `tolerance` of the largest there is. */
static void assert_near(const char *what, struct pair pair, double tolerance)
{
	double largest = 0.0;

	for (size_t i = 0; i < pair.count; i++)
		largest = fmax(largest, fabs((double)pair.wide[i]));
	for (size_t i = 0; i < pair.count; i++) {
		double have = (double)float_from_bfloat16(pair.narrow[i]);
		double want = (double)pair.wide[i];

		if (!(fabs(have - want) <= tolerance * largest))
			fail_msg("%s[%zu of %zu]: %.9g, of floats %.9g", what,
				 i, pair.count, have, want);
	}
}

struct attention_test {
	size_t time, heads, kv_heads, size, window;
	float probability;
	bool examples; /* several in a sample */
};

static struct attention_shape shape_of(const struct attention_test *test,
				       const int32_t *starts)
{
	size_t row = (test->heads + 2 * test->kv_heads) * test->size;
	size_t width = test->heads * test->size;

	return (struct attention_shape){
		.batch = 2,
		.time_q = test->time,
		.time_k = test->time,
		.heads = test->heads,
		.kv_heads = test->kv_heads,
		.head_size = test->size,
		.causal = true,
		.window = test->window,
		.starts = test->examples ? starts : NULL,
		.scale = 0.2f,
		.q = {row, row * test->time},
		.k = {row, row * test->time},
		.v = {row, row * test->time},
		.out = {width, width * test->time},
	};
}

static void check_attention(const struct attention_test *test)
{
	const uint64_t sample_ids[] = {8, 9};
	size_t tokens = 2 * test->time, heads = test->heads;
	int32_t *starts = test_bytes(tokens * sizeof(*starts));
	struct attention_shape shape = shape_of(test, starts);
	struct dropout dropout = {.key = dropout_key(1, 2, 3, 4),
				  .probability = test->probability,
				  .sample_ids = sample_ids};
	struct pair qkv = pair_random("qkv", tokens * shape.q.row_stride);
	struct pair dqkv = pair_empty(qkv.count);
	struct pair out = pair_empty(tokens * heads * test->size);
	struct pair dout = pair_random("dout", out.count);
	float *lse = test_floats(tokens * heads);
	size_t k = heads * test->size, v = k + test->kv_heads * test->size;

	for (size_t i = 0; i < tokens; i++)
		starts[i] = (int32_t)(i % test->time / 45 * 45);
	for (unsigned i = 0; i < 2; i++) {
		enum element_type type = i ? ELEMENT_BF16 : ELEMENT_F32;
		const void *q = of(qkv, type);
		void *dq = into(dqkv, type), *scratch;

		shape.type = type;
		scratch = test_bytes(
			attention_scratch_bytes(&shape, true, TEAMS));
		attention_forward(teams[2 * i], &shape, q,
				  values_at(type, q, k), values_at(type, q, v),
				  into(out, type), lse, &dropout, scratch);
		if (i)
			assert_near("attention", out, 1e-2);
		/* Both backward from what bfloat16 can hold. */
		values_row_round(out.count, out.wide, out.narrow);
		values_row_widen(out.count, out.narrow, out.wide);
		attention_backward(
			teams[2 * i], &shape, q, values_at(type, q, k),
			values_at(type, q, v), of(out, type), lse,
			of(dout, type), dq, values_at_mutable(type, dq, k),
			values_at_mutable(type, dq, v), &dropout, scratch);
		free(scratch);
	}
	assert_near("attention backward", dqkv, 1e-2);
	free(starts);
	free(lse);
	pair_free(qkv);
	pair_free(dqkv);
	pair_free(out);
	pair_free(dout);
}

/* One key, a part of a block, several; heads narrower and wider than a pack. */
static void attention_is_near(void **state)
{
	const struct attention_test tests[] = {
		{1, 1, 1, 24, 0, 0.0f, false},
		{63, 2, 2, 24, 0, 0.2f, false},
		{64, 1, 1, 64, 0, 0.0f, false},
		{70, 2, 2, 64, 0, 0.2f, false},
		{300, 4, 2, 24, 0, 0.2f, false},
		{330, 2, 1, 80, 0, 0.0f, false},
		{600, 3, 1, 24, 40, 0.0f, false},
		{300, 2, 2, 24, 0, 0.2f, true},
		{300, 2, 1, 64, 33, 0.0f, true},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(tests); i++)
		check_attention(&tests[i]);
}

/* Which thread does what changes no bit, nor who had prepared it. */
static void attention_has_the_same_bits(void **state)
{
	const struct attention_test test = {200, 4, 2, 40, 0, 0.0f, false};
	struct attention_shape shape = shape_of(&test, NULL);
	struct pair qkv = pair_random("qkv", 400 * shape.q.row_stride);
	size_t k = 4 * 40, v = k + 2 * 40, bytes = 400 * k * sizeof(bfloat16);
	bfloat16 *out[2] = {test_bytes(bytes), test_bytes(bytes)};
	float *lse = test_floats(400 * 4);
	size_t enough;
	unsigned char *scratch;

	(void)state;
	shape.type = ELEMENT_BF16;
	/* What a pass forward needs, and what is behind it stays. */
	enough = attention_scratch_bytes(&shape, false, TEAMS);
	assert_true(enough < attention_scratch_bytes(&shape, true, TEAMS));
	scratch = test_bytes(enough + CACHE_LINE_BYTES);
	memset(scratch + enough, 0x5a, CACHE_LINE_BYTES);
	assert_int_equal(attention_prepare(teams[0], &shape), 0);
	for (unsigned i = 0; i < 2; i++)
		attention_forward(teams[2 * i], &shape, qkv.narrow,
				  qkv.narrow + k, qkv.narrow + v, out[i], lse,
				  NULL, scratch);
	assert_memory_equal(out[0], out[1], bytes);
	for (size_t i = 0; i < CACHE_LINE_BYTES; i++)
		assert_int_equal(scratch[enough + i], 0x5a);
	free(scratch);
	free(lse);
	free(out[0]);
	free(out[1]);
	pair_free(qkv);
}

static int start(void **state)
{
	return teams_start(state) || gemm_prepare(teams[0]) ||
			       gemm_prepare(teams[2])
		       ? -1
		       : 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rounding_is_to_nearest_even),
		cmocka_unit_test(values_are_copied_and_added),
		cmocka_unit_test(activations_round_once),
		cmocka_unit_test(swiglu_rounds_once),
		cmocka_unit_test(dropout_rounds_once),
		cmocka_unit_test(norms_round_once),
		cmocka_unit_test(headnorm_rounds_once),
		cmocka_unit_test(rope_rounds_once),
		cmocka_unit_test(bias_rounds_once),
		cmocka_unit_test(embedding_rounds_once),
		cmocka_unit_test(cross_entropy_rounds_once),
		cmocka_unit_test(attention_is_near),
		cmocka_unit_test(attention_has_the_same_bits),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, start, teams_stop);
}
