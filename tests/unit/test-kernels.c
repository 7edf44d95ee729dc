/*
 * The row-wise kernels against their plain references over many shapes, and
 * the same bits for 1 to 4 threads.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "model/kernels/activation.h"
#include "model/kernels/bias.h"
#include "model/kernels/cross_entropy.h"
#include "model/kernels/elementwise.h"
#include "model/kernels/embedding.h"
#include "model/kernels/layernorm.h"
#include "model/kernels/reference.h"
#include "tests/unit/kernel-test.h"

struct threads *teams[TEAMS];

#define EPSILON 1e-5

static const struct {
	size_t rows;
	size_t columns;
} shapes[] = {
	{1, 1},   {1, 7},   {3, 16},   {5, 17},    {31, 33},
	{32, 64}, {33, 65}, {65, 255}, {100, 257}, {129, 768},
};

/* ---- LayerNorm and RMSNorm ---- */

struct norm_case {
	size_t rows, channels, count;
	float *x, *gamma, *beta, *dy, *start;
	double *y, *mean, *rstd, *dx, *dgamma, *dbeta;
};

static void norm_case_init(struct norm_case *t, size_t rows, size_t channels)
{
	t->rows = rows;
	t->channels = channels;
	t->count = rows * channels;
	t->x = test_normal("x", t->count, 0.5f, 2.0f);
	t->gamma = test_normal("gamma", channels, 1.0f, 0.3f);
	t->beta = test_normal("beta", channels, 0.0f, 0.3f);
	t->dy = test_normal("dy", t->count, 0.0f, 1.0f);
	t->start = test_normal("start", t->count, 0.0f, 1.0f);
	t->y = test_doubles(t->count);
	t->mean = test_doubles(rows);
	t->rstd = test_doubles(rows);
	t->dx = test_doubles(t->count);
	t->dgamma = test_doubles(channels);
	t->dbeta = test_doubles(channels);
}

static void norm_case_fini(struct norm_case *t)
{
	void *all[] = {t->x,    t->gamma, t->beta, t->dy,     t->start, t->y,
		       t->mean, t->rstd,  t->dx,   t->dgamma, t->dbeta};

	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		free(all[i]);
}

/* What one team computes; `centred` tells LayerNorm from RMSNorm. */
struct norm_result {
	float *y, *mean, *rstd, *dx, *added, *dgamma, *dbeta;
};

static void norm_run(struct threads *team, const struct norm_case *t,
		     bool centred, struct norm_result *r)
{
	size_t rows = t->rows, channels = t->channels;
	size_t scratch_bytes =
		layernorm_backward_weight_scratch_bytes(rows, channels);
	void *scratch = test_bytes(scratch_bytes);

	r->y = test_floats(t->count);
	r->mean = test_floats(rows);
	r->rstd = test_floats(rows);
	r->dx = test_floats(t->count);
	r->added = test_floats(t->count);
	r->dgamma = test_normal("dgamma", channels, 0.0f, 1.0f);
	r->dbeta = test_normal("dbeta", channels, 0.0f, 1.0f);
	memcpy(r->added, t->start, t->count * sizeof(float));
	if (centred) {
		layernorm_forward(team, ELEMENT_F32, rows, channels,
				  (float)EPSILON, t->x, t->gamma, t->beta, r->y,
				  r->mean, r->rstd);
		layernorm_backward_input(team, ELEMENT_F32, rows, channels,
					 t->dy, t->x, t->gamma, r->mean,
					 r->rstd, r->dx, false);
		layernorm_backward_input(team, ELEMENT_F32, rows, channels,
					 t->dy, t->x, t->gamma, r->mean,
					 r->rstd, r->added, true);
		layernorm_backward_weight(team, ELEMENT_F32, rows, channels,
					  t->dy, t->x, r->mean, r->rstd,
					  r->dgamma, r->dbeta, scratch);
	} else {
		memset(r->mean, 0, rows * sizeof(float));
		rmsnorm_forward(team, ELEMENT_F32, rows, channels,
				(float)EPSILON, t->x, t->gamma, r->y, r->rstd);
		rmsnorm_backward_input(team, ELEMENT_F32, rows, channels, t->dy,
				       t->x, t->gamma, r->rstd, r->dx, false);
		rmsnorm_backward_input(team, ELEMENT_F32, rows, channels, t->dy,
				       t->x, t->gamma, r->rstd, r->added, true);
		rmsnorm_backward_weight(team, ELEMENT_F32, rows, channels,
					t->dy, t->x, r->rstd, r->dgamma,
					scratch);
	}
	free(scratch);
}

static void norm_result_fini(struct norm_result *r)
{
	void *all[] = {r->y,     r->mean,   r->rstd, r->dx,
		       r->added, r->dgamma, r->dbeta};

	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		free(all[i]);
}

static void norm_check(struct norm_case *t, bool centred,
		       const struct norm_result *r)
{
	float *dgamma = test_normal("dgamma", t->channels, 0.0f, 1.0f);
	float *dbeta = test_normal("dbeta", t->channels, 0.0f, 1.0f);

	if (centred)
		layernorm_forward_reference(t->rows, t->channels, EPSILON, t->x,
					    t->gamma, t->beta, t->y, t->mean,
					    t->rstd);
	else
		rmsnorm_forward_reference(t->rows, t->channels, EPSILON, t->x,
					  t->gamma, t->y, t->rstd);
	norm_backward_reference(t->rows, t->channels, centred, t->dy, t->x,
				t->gamma, t->mean, t->rstd, t->dx, t->dgamma,
				t->dbeta);
	test_close("rstd", t->rows, r->rstd, t->rstd, 1e-5);
	test_close("y", t->count, r->y, t->y, 2e-5);
	/* One channel: x - mean is 0, and rounding of rstd ~ 316 shows. */
	test_close("dx", t->count, r->dx, t->dx, 2e-4);
	for (size_t i = 0; i < t->count; i++)
		t->dx[i] += (double)t->start[i];
	test_close("dx added", t->count, r->added, t->dx, 2e-4);
	for (size_t i = 0; i < t->channels; i++) {
		t->dgamma[i] += (double)dgamma[i];
		t->dbeta[i] = (double)dbeta[i] + (centred ? t->dbeta[i] : 0.0);
	}
	test_close("dgamma", t->channels, r->dgamma, t->dgamma, 5e-5);
	test_close("dbeta", t->channels, r->dbeta, t->dbeta, 5e-5);
	free(dgamma);
	free(dbeta);
}

static void norm_same(const struct norm_case *t, unsigned team,
		      const struct norm_result *r,
		      const struct norm_result *one)
{
	size_t bytes = t->count * sizeof(float);

	test_same_bits("y", team, bytes, r->y, one->y);
	test_same_bits("dx", team, bytes, r->dx, one->dx);
	test_same_bits("added", team, bytes, r->added, one->added);
	test_same_bits("dgamma", team, t->channels * sizeof(float), r->dgamma,
		       one->dgamma);
	test_same_bits("dbeta", team, t->channels * sizeof(float), r->dbeta,
		       one->dbeta);
}

static void check_norm(bool centred)
{
	for (size_t i = 0; i < ARRAY_SIZE(shapes); i++) {
		struct norm_result results[TEAMS];
		struct norm_case t;

		norm_case_init(&t, shapes[i].rows, shapes[i].columns);
		for (unsigned team = 0; team < TEAMS; team++)
			norm_run(teams[team], &t, centred, &results[team]);
		norm_check(&t, centred, &results[0]);
		for (unsigned team = 0; team < TEAMS; team++) {
			norm_same(&t, team, &results[team], &results[0]);
			if (team > 0)
				norm_result_fini(&results[team]);
		}
		norm_result_fini(&results[0]);
		norm_case_fini(&t);
	}
}

static void test_layernorm(void **state)
{
	(void)state;
	check_norm(true);
}

static void test_rmsnorm(void **state)
{
	(void)state;
	check_norm(false);
}

/* ---- bias ---- */

static void test_bias(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(shapes); i++) {
		size_t rows = shapes[i].rows, columns = shapes[i].columns;
		float *dy = test_normal("dy", rows * columns, 0.1f, 1.0f);
		float *bias = test_normal("bias", columns, 0.0f, 1.0f);
		float *y = test_floats(rows * columns);
		double *want = test_doubles(columns);
		void *scratch =
			test_bytes(bias_backward_scratch_bytes(rows, columns));
		float *first = NULL;

		bias_backward_reference(rows, columns, dy, want);
		for (size_t k = 0; k < columns; k++)
			want[k] += (double)bias[k];
		for (unsigned team = 0; team < TEAMS; team++) {
			float *dbias = test_normal("bias", columns, 0, 1);

			bias_backward(teams[team], ELEMENT_F32, rows, columns,
				      columns, dy, dbias, scratch);
			test_close("dbias", columns, dbias, want, 2e-5);
			if (first == NULL) {
				first = dbias;
				continue;
			}
			test_same_bits("dbias", team, columns * sizeof(float),
				       dbias, first);
			free(dbias);
		}
		bias_fill(teams[1], rows, columns, bias, y);
		bias_add(teams[2], rows, columns, bias, y);
		for (size_t k = 0; k < rows * columns; k++)
			assert_true(y[k] ==
				    bias[k % columns] + bias[k % columns]);
		free(first);
		free(scratch);
		free(want);
		free(y);
		free(bias);
		free(dy);
	}
}

/* ---- activations ---- */

typedef void forward_fn(struct threads *, enum element_type, size_t,
			const void *, void *);
typedef void backward_fn(struct threads *, enum element_type, size_t,
			 const void *, const void *, void *);

static void check_activation(const char *name, forward_fn *forward,
			     backward_fn *backward, double (*value)(double),
			     double (*gradient)(double))
{
	/* Over two blocks and a remainder. */
	const size_t count = 2 * ELEMENTWISE_BLOCK + 4321;
	float *x = test_floats(count), *y = test_floats(count);
	float *dy = test_normal("dy", count, 0.0f, 1.0f);
	double *want = test_doubles(count), *slope = test_doubles(count);

	for (size_t i = 0; i < count; i++) {
		x[i] = (float)i / (float)count * 40.0f - 20.0f;
		want[i] = value((double)x[i]);
		slope[i] = gradient((double)x[i]) * (double)dy[i];
	}
	for (unsigned team = 0; team < TEAMS; team++) {
		float *dx = test_floats(count);

		forward(teams[team], ELEMENT_F32, count, x, y);
		test_close(name, count, y, want, 5e-7);
		backward(teams[team], ELEMENT_F32, count, dy, x, dx);
		test_close(name, count, dx, slope, 2e-6);
		memcpy(y, dy, count * sizeof(float));
		backward(teams[team], ELEMENT_F32, count, y, x, y);
		test_same_bits(name, team, count * sizeof(float), y, dx);
		free(dx);
	}
	free(slope);
	free(want);
	free(dy);
	free(y);
	free(x);
}

static void test_gelu(void **state)
{
	float far[3] = {-30.0f, 30.0f, NAN}, y[3];

	(void)state;
	check_activation("gelu", gelu_forward, gelu_backward, gelu_reference,
			 gelu_gradient_reference);
	gelu_forward(teams[0], ELEMENT_F32, 3, far, y);
	assert_true(y[0] == 0.0f && y[1] == 30.0f && isnan(y[2]));
}

static void test_silu(void **state)
{
	(void)state;
	check_activation("silu", silu_forward, silu_backward, silu_reference,
			 silu_gradient_reference);
}

/* ---- embedding ---- */

static void check_embedding(size_t samples, size_t length, size_t channels,
			    size_t vocabulary, size_t offset)
{
	size_t rows = samples * length, positions = offset + length + 1;
	float *wte = test_normal("wte", vocabulary * channels, 0, 1);
	float *wpe = test_normal("wpe", positions * channels, 0, 1);
	float *dx = test_normal("dx", rows * channels, 0, 1);
	float *x = test_floats(rows * channels);
	double *want_wte = test_doubles(vocabulary * channels);
	double *want_wpe = test_doubles(positions * channels);
	int32_t *tokens = test_bytes(rows * sizeof(*tokens));
	float *first[2] = {NULL, NULL};

	for (size_t i = 0; i < rows; i++)
		tokens[i] = (int32_t)random_below(random_key_named(1, "t"), i,
						  vocabulary);
	assert_int_equal(embedding_find_invalid(rows, tokens, vocabulary),
			 rows);
	embedding_forward(teams[2], ELEMENT_F32, samples, length, channels,
			  tokens, offset, NULL, wte, wpe, x);
	for (size_t i = 0; i < rows * channels; i++) {
		size_t row = i / channels, c = i % channels;
		size_t t = offset + row % length;

		assert_true(x[i] == wte[(size_t)tokens[row] * channels + c] +
					    wpe[t * channels + c]);
	}
	for (size_t i = 0; i < vocabulary * channels; i++)
		want_wte[i] = (double)wte[i];
	for (size_t i = 0; i < positions * channels; i++)
		want_wpe[i] = (double)wpe[i];
	embedding_backward_reference(samples, length, channels, tokens, offset,
				     dx, want_wte, want_wpe);
	for (unsigned team = 0; team < TEAMS; team++) {
		float *dwte = test_normal("wte", vocabulary * channels, 0, 1);
		float *dwpe = test_normal("wpe", positions * channels, 0, 1);

		embedding_backward_weight(teams[team], ELEMENT_F32, samples,
					  length, channels, tokens, offset,
					  NULL, dx, dwte, dwpe);
		test_close("dwte", vocabulary * channels, dwte, want_wte, 1e-5);
		test_close("dwpe", positions * channels, dwpe, want_wpe, 1e-5);
		if (team == 0) {
			first[0] = dwte;
			first[1] = dwpe;
			continue;
		}
		test_same_bits("dwte", team,
			       vocabulary * channels * sizeof(float), dwte,
			       first[0]);
		test_same_bits("dwpe", team,
			       positions * channels * sizeof(float), dwpe,
			       first[1]);
		free(dwte);
		free(dwpe);
	}
	free(first[0]);
	free(first[1]);
	free(tokens);
	free(want_wpe);
	free(want_wte);
	free(x);
	free(dx);
	free(wpe);
	free(wte);
}

/* Positions count from where a token's example begins. */
static void test_embedding_starts(void **state)
{
	enum {
		SAMPLES = 2,
		LENGTH = 40,
		WIDTH = 20,
		TOKENS = SAMPLES * LENGTH,
		COUNT = TOKENS * WIDTH
	};
	float *wte = test_normal("wte", WIDTH, 0, 1);
	float *wpe = test_normal("wpe", LENGTH * WIDTH, 0, 1);
	float *dx = test_normal("dx", COUNT, 0, 1);
	float *x = test_floats(COUNT), *first = NULL;
	double *want = test_doubles(LENGTH * WIDTH);
	int32_t tokens[TOKENS] = {0}, starts[TOKENS];

	(void)state;
	for (size_t i = 0; i < TOKENS; i++) {
		size_t t = i % LENGTH;

		starts[i] = i >= LENGTH ? 0 : t < 3 ? 0 : t < 21 ? 3 : 21;
	}
	embedding_forward(teams[2], ELEMENT_F32, SAMPLES, LENGTH, WIDTH, tokens,
			  0, starts, wte, wpe, x);
	for (size_t i = 0; i < LENGTH * WIDTH; i++)
		want[i] = 0;
	for (size_t i = 0; i < COUNT; i++) {
		size_t row = i / WIDTH, c = i % WIDTH;
		size_t position = row % LENGTH - (size_t)starts[row];

		assert_true(x[i] == wte[c] + wpe[position * WIDTH + c]);
		want[position * WIDTH + c] += (double)dx[i];
	}
	for (unsigned team = 0; team < TEAMS; team++) {
		float *dwpe = test_floats(LENGTH * WIDTH);

		memset(dwpe, 0, LENGTH * WIDTH * sizeof(*dwpe));
		embedding_backward_weight(teams[team], ELEMENT_F32, SAMPLES,
					  LENGTH, WIDTH, tokens, 0, starts, dx,
					  NULL, dwpe);
		test_close("dwpe", LENGTH * WIDTH, dwpe, want, 1e-5);
		if (first)
			test_same_bits("dwpe", team,
				       LENGTH * WIDTH * sizeof(float), dwpe,
				       first);
		if (first)
			free(dwpe);
		else
			first = dwpe;
	}
	free(first);
	free(want);
	free(x);
	free(dx);
	free(wpe);
	free(wte);
}

static void test_embedding(void **state)
{
	int32_t bad[] = {0, 4, 5, -1};

	(void)state;
	check_embedding(1, 1, 1, 1, 0);
	check_embedding(3, 17, 5, 7, 2);
	check_embedding(2, 33, 48, 300, 0);
	check_embedding(5, 100, 65, 11, 9);
	assert_int_equal(embedding_find_invalid(4, bad, 5), 2);
	assert_int_equal(embedding_find_invalid(4, bad, 6), 3);
}

/* ---- cross-entropy ---- */

static void check_cross_entropy(size_t rows, size_t vocabulary, size_t stride)
{
	const float scale = 0.125f;
	float *logits = test_normal("logits", rows * stride, 1.0f, 5.0f);
	float *first = NULL;
	double *want = test_doubles(vocabulary);
	double *losses = test_doubles(rows), *evaluated = test_doubles(rows);
	int32_t *labels = test_bytes(rows * sizeof(*labels));

	for (size_t row = 0; row < rows; row++)
		labels[row] = row % 5 == 3 ? -100
					   : (int32_t)(row * 7919 % vocabulary);
	for (unsigned team = 0; team < TEAMS; team++) {
		float *gradients = test_normal("logits", rows * stride, 1, 5);

		cross_entropy_forward(teams[team], rows, vocabulary, stride,
				      labels, gradients, evaluated);
		test_same_bits("logits in evaluation", team,
			       rows * stride * sizeof(float), gradients,
			       logits);
		cross_entropy_forward_backward(teams[team], rows, vocabulary,
					       stride, labels, scale,
					       ELEMENT_F32, gradients, losses);
		test_same_bits("losses", team, rows * sizeof(double), losses,
			       evaluated);
		if (first == NULL) {
			first = gradients;
			continue;
		}
		test_same_bits("gradients", team, rows * stride * sizeof(float),
			       gradients, first);
		free(gradients);
	}
	for (size_t row = 0; row < rows; row++) {
		double loss = cross_entropy_reference(
			vocabulary, logits + row * stride, labels[row],
			(double)scale, want);

		assert_true(fabs(loss - losses[row]) <= 1e-6 * (1.0 + loss));
		test_close("dlogits", vocabulary, first + row * stride, want,
			   3e-7);
		/* What lies between the rows is not touched. */
		test_same_bits("padding", 0,
			       (stride - vocabulary) * sizeof(float),
			       first + row * stride + vocabulary,
			       logits + row * stride + vocabulary);
	}
	free(labels);
	free(evaluated);
	free(losses);
	free(want);
	free(first);
	free(logits);
}

static void test_cross_entropy(void **state)
{
	(void)state;
	check_cross_entropy(1, 1, 1);
	check_cross_entropy(9, 17, 17);
	check_cross_entropy(7, 257, 272);
	check_cross_entropy(11, 5003, 5056);
	check_cross_entropy(2, 50257, 50272);
}

static void test_cross_entropy_extremes(void **state)
{
	float row[4] = {1e4f, -1e4f, 0.0f, -INFINITY};
	float bad[3] = {0.0f, NAN, 1.0f};
	float high[3] = {INFINITY, 0.0f, 1.0f};
	int32_t label = 1;
	double loss;

	(void)state;
	cross_entropy_forward_backward(teams[0], 1, 4, 4, &label, 1.0f,
				       ELEMENT_F32, row, &loss);
	assert_true(loss == 2e4);
	assert_true(row[0] == 1.0f && row[1] == -1.0f && row[2] == 0.0f &&
		    row[3] == 0.0f);
	/* A model that has diverged must be seen to. */
	label = 0;
	cross_entropy_forward(teams[0], 1, 3, 3, &label, bad, &loss);
	assert_true(isnan(loss));
	cross_entropy_forward(teams[0], 1, 3, 3, &label, high, &loss);
	assert_false(isfinite(loss));
}

/* ---- element by element ---- */

static void test_elementwise(void **state)
{
	const size_t count = 3 * ELEMENTWISE_BLOCK + 77;
	float *a = test_normal("a", count, 0, 1);
	float *b = test_normal("b", count, 0, 1);
	float *out = test_floats(count);

	(void)state;
	elementwise_add(teams[1], count, a, b, out);
	for (size_t i = 0; i < count; i++)
		assert_true(out[i] == a[i] + b[i]);
	elementwise_multiply(teams[2], count, a, b, out);
	for (size_t i = 0; i < count; i++)
		assert_true(out[i] == a[i] * b[i]);
	elementwise_maximum(teams[2], count, a, b, out);
	for (size_t i = 0; i < count; i++)
		assert_true(out[i] == fmaxf(a[i], b[i]));
	elementwise_scale(teams[3], count, 0.3f, a, out);
	for (size_t i = 0; i < count; i++)
		assert_true(out[i] == a[i] * 0.3f);
	elementwise_copy(teams[3], count, a, out);
	elementwise_accumulate(teams[1], count, b, out);
	for (size_t i = 0; i < count; i++)
		assert_true(out[i] == a[i] + b[i]);
	elementwise_zero(teams[1], count, out);
	for (size_t i = 0; i < count; i++)
		assert_true(out[i] == 0.0f);
	free(out);
	free(b);
	free(a);
}

static void test_finite(void **state)
{
	const float bad[] = {NAN, -NAN, INFINITY, -INFINITY};
	const size_t count = 2 * ELEMENTWISE_BLOCK + 5;
	float *values = test_normal("values", count, 0, 1e30f);

	(void)state;
	assert_true(elementwise_all_finite(teams[2], count, values));
	assert_true(elementwise_all_finite(teams[2], 0, values));
	for (size_t i = 0; i < count; i += 1 + count / 29)
		for (size_t k = 0; k < ARRAY_SIZE(bad); k++) {
			float saved = values[i];

			values[i] = bad[k];
			assert_false(elementwise_all_finite(teams[k], count,
							    values));
			values[i] = saved;
		}
	free(values);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_layernorm),
		cmocka_unit_test(test_rmsnorm),
		cmocka_unit_test(test_bias),
		cmocka_unit_test(test_gelu),
		cmocka_unit_test(test_silu),
		cmocka_unit_test(test_embedding),
		cmocka_unit_test(test_embedding_starts),
		cmocka_unit_test(test_cross_entropy),
		cmocka_unit_test(test_cross_entropy_extremes),
		cmocka_unit_test(test_elementwise),
		cmocka_unit_test(test_finite),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, teams_start, teams_stop);
}
