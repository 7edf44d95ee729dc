/* exp, log, tanh and logistic against base/math.h, over the whole range. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/math.h"
#include "model/kernels/vector_math.h"

/* Every STEP-th float is tried; prime, so that mantissas vary. */
#define STEP 1009

/* Distance of `have` from the exact value, in units of its last place. */
static double error_ulp(float have, double exact)
{
	float rounded = (float)exact;
	double ulp;

	if (isinf(rounded) || isinf(have))
		return have == rounded ? 0.0 : INFINITY;
	ulp = (double)(nextafterf(fabsf(rounded), INFINITY) - fabsf(rounded));
	return fabs((double)have - exact) / ulp;
}

static double worst_error(float (*function)(float), double (*exact)(double),
			  float first, float last)
{
	double worst = 0.0;
	int32_t end = vector_float_bits(fabsf(last));

	for (int32_t bits = vector_float_bits(fabsf(first)); bits <= end;
	     bits += STEP) {
		float x = copysignf(vector_bits_float(bits), last);
		double error = error_ulp(function(x), exact((double)x));

		if (!(error <= worst))
			worst = error;
	}
	return worst;
}

static float exp_of(float x)
{
	return vector_exp(x);
}

static float log_of(float x)
{
	return vector_log(x);
}

static float tanh_of(float x)
{
	return vector_tanh(x);
}

static float logistic_of(float x)
{
	return vector_logistic(x);
}

static double exact_logistic(double x)
{
	return 1.0 / (1.0 + math_exp(-x));
}

#define TINY 1.17549435e-38f

static void test_errors(void **state)
{
	double exp_error = fmax(worst_error(exp_of, math_exp, TINY, 88.7228f),
				worst_error(exp_of, math_exp, -TINY, -87.336f));
	double log_error = worst_error(log_of, math_log, TINY, 3.4e38f);
	double tanh_error =
		fmax(worst_error(tanh_of, math_tanh, TINY, 3.4e38f),
		     worst_error(tanh_of, math_tanh, -TINY, -3.4e38f));
	double logistic_error =
		fmax(worst_error(logistic_of, exact_logistic, TINY, 3.4e38f),
		     worst_error(logistic_of, exact_logistic, -TINY, -87.0f));

	(void)state;
	print_message("# worst error in ulp: exp %.2f, log %.2f, tanh %.2f, "
		      "logistic %.2f\n",
		      exp_error, log_error, tanh_error, logistic_error);
	assert_true(exp_error <= 2.0);
	assert_true(log_error <= 2.0);
	assert_true(tanh_error <= 3.0);
	assert_true(logistic_error <= 3.0);
}

static void test_edges(void **state)
{
	(void)state;
	assert_true(vector_exp(0.0f) == 1.0f);
	assert_true(vector_exp(-INFINITY) == 0.0f);
	assert_true(vector_exp(-88.0f) == 0.0f);
	assert_true(vector_exp(-3.4e38f) == 0.0f);
	assert_true(isinf(vector_exp(INFINITY)) && vector_exp(INFINITY) > 0);
	assert_true(isinf(vector_exp(88.73f)) && isinf(vector_exp(3.4e38f)));
	assert_true(isfinite(vector_exp(88.7228f)));
	assert_true(isnan(vector_exp(NAN)) && isnan(vector_exp(-NAN)));
	assert_true(vector_log(1.0f) == 0.0f);
	assert_true(vector_log(0.0f) == -INFINITY);
	assert_true(vector_log(INFINITY) == INFINITY);
	assert_true(isnan(vector_log(-1.0f)) && isnan(vector_log(NAN)) &&
		    isnan(vector_log(-INFINITY)));
	assert_true(vector_tanh(0.0f) == 0.0f);
	assert_true(vector_tanh(INFINITY) == 1.0f);
	assert_true(vector_tanh(-INFINITY) == -1.0f);
	assert_true(isnan(vector_tanh(NAN)));
	assert_true(vector_logistic(INFINITY) == 1.0f);
	assert_true(vector_logistic(-INFINITY) == 0.0f);
	assert_true(isnan(vector_logistic(NAN)));
}

/* The vector code of this machine's best path, against scalar code. */
KERNEL_CLONES static void exp_block(size_t count, const float *x, float *y)
{
	VECTOR_LOOP
	for (size_t i = 0; i < count; i++)
		y[i] = vector_exp(x[i]);
}

KERNEL_CLONES static void tanh_block(size_t count, const float *x, float *y)
{
	VECTOR_LOOP
	for (size_t i = 0; i < count; i++)
		y[i] = vector_tanh(x[i]);
}

static void test_paths_agree(void **state)
{
	enum {
		COUNT = 4096
	};
	static float x[COUNT], y[COUNT];

	(void)state;
	for (int round = 0; round < 16; round++) {
		for (int i = 0; i < COUNT; i++)
			x[i] = (float)(i * 16 + round - 32768) * 0.0027f;
		exp_block(COUNT, x, y);
		for (int i = 0; i < COUNT; i++)
			assert_int_equal(vector_float_bits(y[i]),
					 vector_float_bits(vector_exp(x[i])));
		tanh_block(COUNT, x, y);
		for (int i = 0; i < COUNT; i++)
			assert_int_equal(vector_float_bits(y[i]),
					 vector_float_bits(vector_tanh(x[i])));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_edges),
		cmocka_unit_test(test_paths_agree),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
