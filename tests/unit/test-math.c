/* base/math.c against long double libm, and against fixed bits. */
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/math.h"
#include "base/random.h"
#include "tests/unit/cmocka-tap.h"

#define SAMPLES 200000

static double error_ulps(double got, long double expected)
{
	double nearest = fabs((double)expected);
	double ulp = nextafter(nearest, INFINITY) - nearest;

	return (double)(fabsl((long double)got - expected) / ulp);
}

/* The worst error over [low, high], evenly and randomly covered. */
static double worst(double (*ours)(double), long double (*exact)(long double),
		    double low, double high)
{
	struct random_key key = random_key_named(7, "test-math");
	double largest = 0;
	int i;

	for (i = 0; i < SAMPLES; i++) {
		double x = low + (high - low) * random_uniform(key, i);
		double error = error_ulps(ours(x), exact(x));

		if (!(error <= largest))
			largest = error;
	}
	return largest;
}

static void expect_within(double ulps, double limit, const char *what)
{
	if (!(ulps <= limit))
		fail_msg("%s: %g ulp, at most %g expected", what, ulps, limit);
}

static void test_exp(void **state)
{
	(void)state;
	expect_within(worst(math_exp, expl, -700, 700), 1.0, "exp wide");
	expect_within(worst(math_exp, expl, -1, 1), 1.0, "exp near 0");
	assert_true(math_exp(0) == 1.0);
	assert_true(math_exp(1000) == INFINITY);
	assert_true(math_exp(-1000) == 0.0);
	assert_true(math_exp(INFINITY) == INFINITY);
	assert_true(math_exp(-INFINITY) == 0.0);
	assert_true(isnan(math_exp(NAN)));
	/* The edges of the range, where the scale needs two steps. */
	expect_within(
		error_ulps(math_exp(709.78), expl((long double)(double)709.78)),
		1.0, "exp near overflow");
	assert_true(math_exp(-745.0) > 0.0);
}

static void test_log(void **state)
{
	int i;

	(void)state;
	expect_within(worst(math_log, logl, 1e-3, 3), 1.0, "log near 1");
	expect_within(worst(math_log, logl, 0, 1e300), 1.0, "log wide");
	for (i = -1074; i < 1024; i++) {
		double x = ldexp(1.3, i);

		expect_within(error_ulps(math_log(x), logl(x)), 1.0,
			      "log of every exponent");
	}
	assert_true(math_log(1) == 0.0);
	assert_true(math_log(0) == -INFINITY);
	assert_true(math_log(INFINITY) == INFINITY);
	assert_true(isnan(math_log(-1)));
	assert_true(isnan(math_log(NAN)));
}

static void test_tanh(void **state)
{
	(void)state;
	expect_within(worst(math_tanh, tanhl, -0.01, 0.01), 1.6, "tanh tiny");
	expect_within(worst(math_tanh, tanhl, -1, 1), 1.6, "tanh small");
	expect_within(worst(math_tanh, tanhl, -25, 25), 1.6, "tanh wide");
	assert_true(math_tanh(1e-300) == 1e-300);
	assert_true(math_tanh(INFINITY) == 1.0);
	assert_true(math_tanh(-INFINITY) == -1.0);
	assert_true(math_tanh(-0.3) == -math_tanh(0.3));
	assert_true(isnan(math_tanh(NAN)));
}

static void test_sin_cos(void **state)
{
	double largest = 0;
	long i;

	(void)state;
	expect_within(worst(math_sin, sinl, -7, 7), 1.0, "sin");
	expect_within(worst(math_cos, cosl, -7, 7), 1.0, "cos");
	expect_within(worst(math_sin, sinl, -1e6, 1e6), 1.0, "sin wide");
	expect_within(worst(math_cos, cosl, -1e6, 1e6), 1.0, "cos wide");
	/* Beside multiples of pi/2, where the result cancels almost whole. */
	for (i = 1; i < 600000; i += 7) {
		double x = (double)i * 1.5707963267948966;

		largest = fmax(largest, error_ulps(math_sin(x), sinl(x)));
		largest = fmax(largest, error_ulps(math_cos(x), cosl(x)));
	}
	expect_within(largest, 1.0, "sin and cos at multiples of pi/2");
	assert_true(math_sin(0) == 0.0);
	assert_true(math_cos(0) == 1.0);
}

static void test_power_and_root(void **state)
{
	(void)state;
	assert_true(math_power_integer(2, 10) == 1024.0);
	assert_true(math_power_integer(2, -3) == 0.125);
	assert_true(math_power_integer(5, 0) == 1.0);
	assert_true(math_power_integer(-3, 3) == -27.0);
	expect_within(error_ulps(math_power_integer(0.999, 100000),
				 powl((long double)0.999, 100000)),
		      100000, "0.999^100000");
	assert_true(math_power_integer(0.9, 1000000) == 0.0);
	assert_true(math_sqrt(2) == 0x1.6a09e667f3bcdp+0);
}

/*
 * The bits are a promise: random weights and learning rates follow from them.
 * A change needs a new MATH_VERSION.
 */
static void test_bits_are_fixed(void **state)
{
	struct random_key key = random_key_named(1, "bits");
	uint64_t sum = 0;
	int i;

	(void)state;
	assert_string_equal(MATH_VERSION, "math-1");
	for (i = 0; i < 10000; i++) {
		double u = random_uniform(key, i);
		double values[] = {math_exp(80 * u - 40), math_log(u + 1e-9),
				   math_tanh(6 * u - 3), math_sin(100 * u),
				   math_cos(100 * u)};
		size_t v;

		for (v = 0; v < sizeof(values) / sizeof(values[0]); v++) {
			uint64_t bits;

			memcpy(&bits, &values[v], sizeof(bits));
			sum = sum * 0x100000001b3ULL ^ bits;
		}
	}
	assert_int_equal(sum, 0x3a3ea971b373f794);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exp),
		cmocka_unit_test(test_log),
		cmocka_unit_test(test_tanh),
		cmocka_unit_test(test_sin_cos),
		cmocka_unit_test(test_power_and_root),
		cmocka_unit_test(test_bits_are_fixed),
	};

	return RUN_TESTS("math", tests);
}
