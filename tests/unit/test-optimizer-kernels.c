/* AdamW and SGD against a double-precision copy over 20 steps; norms. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "model/kernels/reference.h"
#include "model/kernels/values.h"
#include "tests/unit/kernel-test.h"

struct threads *teams[TEAMS];

#define STEPS 20
#define COUNT ((size_t)2 * OPTIMIZER_BLOCK + 1237)

/* One parameter under training, fast and in double. */
struct trained {
	float *weights, *gradients, *first, *second;
	bfloat16 *copy;
	double *exact, *exact_first, *exact_second;
};

static void trained_init(struct trained *t)
{
	t->weights = test_normal("weights", COUNT, 0, 1);
	t->gradients = test_floats(COUNT);
	t->first = test_floats(COUNT);
	t->second = test_floats(COUNT);
	t->copy = test_bytes(COUNT * sizeof(*t->copy));
	t->exact = test_doubles(COUNT);
	t->exact_first = test_doubles(COUNT);
	t->exact_second = test_doubles(COUNT);
	for (size_t i = 0; i < COUNT; i++) {
		t->exact[i] = (double)t->weights[i];
		t->first[i] = t->second[i] = 0.0f;
		t->exact_first[i] = t->exact_second[i] = 0.0;
	}
}

static void trained_fini(struct trained *t)
{
	void *all[] = {t->weights,     t->gradients,   t->first,
		       t->second,      t->copy,        t->exact,
		       t->exact_first, t->exact_second};

	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		free(all[i]);
}

/* Another gradient for each step; some elements get none, ever. */
static void trained_gradients(struct trained *t, uint64_t step)
{
	random_normal(random_key_named(step, "gradient"), 0, COUNT, 0.1f, 0.5f,
		      t->gradients);
	for (size_t i = 0; i < COUNT; i += 97)
		t->gradients[i] = 0.0f;
}

/* The copy is what the weights of this step round to, one by one. */
static void check_copy(const struct trained *t)
{
	for (size_t i = 0; i < COUNT; i++)
		assert_int_equal(t->copy[i],
				 bfloat16_from_float(t->weights[i]));
}

static void run_adamw(unsigned team, bool exact, struct trained *t)
{
	struct adamw adamw = {
		.learning_rate = 1e-2,
		.beta1 = 0.9,
		.beta2 = 0.95,
		.epsilon = 1e-8,
		.weight_decay = 0.1,
		.gradient_scale = 0.7f,
	};

	for (uint64_t step = 1; step <= STEPS; step++) {
		adamw_set_step(&adamw, step);
		adamw.zero_gradients = step % 2 == 0;
		trained_gradients(t, step);
		if (exact)
			adamw_reference(&adamw, COUNT, t->exact, t->gradients,
					t->exact_first, t->exact_second);
		adamw_update(teams[team], &adamw, COUNT, t->weights,
			     t->gradients, t->first, t->second,
			     step % 3 == 2 ? t->copy : NULL);
		if (step % 3 == 2)
			check_copy(t);
		for (size_t i = 0; i < COUNT && adamw.zero_gradients; i++)
			assert_true(t->gradients[i] == 0.0f);
		if (!adamw.zero_gradients)
			assert_true(t->gradients[1] != 0.0f);
	}
}

static void test_adamw(void **state)
{
	struct trained one, other;

	(void)state;
	trained_init(&one);
	run_adamw(0, true, &one);
	test_close("weights", COUNT, one.weights, one.exact, 2e-6);
	test_close("first moment", COUNT, one.first, one.exact_first, 1e-6);
	test_close("second moment", COUNT, one.second, one.exact_second, 1e-6);
	for (unsigned team = 1; team < TEAMS; team++) {
		trained_init(&other);
		run_adamw(team, false, &other);
		test_same_bits("weights", team, COUNT * sizeof(float),
			       other.weights, one.weights);
		trained_fini(&other);
	}
	trained_fini(&one);
}

static void test_adamw_bias_correction(void **state)
{
	struct adamw adamw = {.beta1 = 0.9, .beta2 = 0.999};

	(void)state;
	adamw_set_step(&adamw, 1);
	assert_true(fabs(adamw.bias_correction1 - 0.1) < 1e-15);
	assert_true(fabs(adamw.bias_correction2 - 0.001) < 1e-15);
	adamw_set_step(&adamw, 3);
	assert_true(fabs(adamw.bias_correction1 - 0.271) < 1e-14);
	adamw_set_step(&adamw, 10000000);
	assert_true(adamw.bias_correction1 == 1.0);
}

static void run_sgd(struct sgd sgd, unsigned team)
{
	struct trained t;

	trained_init(&t);
	for (uint64_t step = 1; step <= STEPS; step++) {
		trained_gradients(&t, step);
		sgd.zero_gradients = step == STEPS;
		sgd_reference(&sgd, COUNT, t.exact, t.gradients, t.exact_first);
		sgd_update(teams[team], &sgd, COUNT, t.weights, t.gradients,
			   sgd.momentum != 0.0 ? t.first : NULL, t.copy);
		check_copy(&t);
	}
	test_close("weights", COUNT, t.weights, t.exact, 5e-6);
	assert_true(t.gradients[1] == 0.0f && t.gradients[COUNT - 1] == 0.0f);
	trained_fini(&t);
}

/* Each upper half, with lower halves on both sides of every tie. */
static void test_rounding(void **state)
{
	static const uint32_t lower[] = {0, 1, 0x7fff, 0x8000, 0x8001, 0xffff};

	(void)state;
	for (uint32_t upper = 0; upper < 0x10000; upper++) {
		float values[ARRAY_SIZE(lower)];
		bfloat16 made[ARRAY_SIZE(lower)];

		for (size_t i = 0; i < ARRAY_SIZE(lower); i++) {
			uint32_t bits = upper << 16 | lower[i];

			memcpy(&values[i], &bits, sizeof(bits));
		}
		values_row_round(ARRAY_SIZE(lower), values, made);
		for (size_t i = 0; i < ARRAY_SIZE(lower); i++) {
			uint32_t up = lower[i] > 0x8000 ||
				      (lower[i] == 0x8000 && upper % 2);

			if (isnan(values[i]))
				assert_int_equal(made[i], upper | 0x40);
			else
				assert_int_equal(made[i], upper + up);
		}
	}
}

static void test_sgd(void **state)
{
	struct sgd sgd = {
		.learning_rate = 0.05,
		.weight_decay = 0.01,
		.gradient_scale = 0.9f,
	};

	(void)state;
	run_sgd(sgd, 0);
	sgd.momentum = 0.9;
	run_sgd(sgd, 1);
	sgd.nesterov = true;
	run_sgd(sgd, 2);
}

static void test_square_sum(void **state)
{
	const size_t counts[] = {
		0,     1,          15, 17, OPTIMIZER_BLOCK, OPTIMIZER_BLOCK + 1,
		COUNT, 10 * COUNT,
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
		size_t count = counts[i];
		float *values = test_normal("values", count, 0.3f, 2.0f);
		void *scratch = test_bytes(square_sum_scratch_bytes(count));
		double want = 0.0, one = 0.0;

		for (size_t k = 0; k < count; k++)
			want += (double)values[k] * (double)values[k];
		for (unsigned team = 0; team < TEAMS; team++) {
			double sum =
				square_sum(teams[team], count, values, scratch);

			if (team == 0)
				one = sum;
			assert_true(fabs(sum - want) <= 1e-12 * want);
			assert_memory_equal(&sum, &one, sizeof(sum));
		}
		free(scratch);
		free(values);
	}
}

/* Any value that is not finite shows, wherever it stands. */
static void test_square_sum_not_finite(void **state)
{
	const float bad[] = {NAN, INFINITY, -INFINITY};
	float *values = test_normal("values", COUNT, 0, 1);
	void *scratch = test_bytes(square_sum_scratch_bytes(COUNT));

	(void)state;
	for (size_t i = 0; i < COUNT; i += 1 + COUNT / 31)
		for (size_t k = 0; k < ARRAY_SIZE(bad); k++) {
			float saved = values[i];

			values[i] = bad[k];
			assert_false(isfinite(
				square_sum(teams[k], COUNT, values, scratch)));
			values[i] = saved;
		}
	/* The largest floats are finite, and so is their sum of squares. */
	for (size_t i = 0; i < COUNT; i++)
		values[i] = 3.4e38f;
	assert_true(isfinite(square_sum(teams[1], COUNT, values, scratch)));
	free(scratch);
	free(values);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_adamw),
		cmocka_unit_test(test_adamw_bias_correction),
		cmocka_unit_test(test_sgd),
		cmocka_unit_test(test_rounding),
		cmocka_unit_test(test_square_sum),
		cmocka_unit_test(test_square_sum_not_finite),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, teams_start, teams_stop);
}
