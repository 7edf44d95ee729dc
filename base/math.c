/*
 * Reduction to a small interval, then a truncated power series with exactly
 * rounded 1/n! or 1/n coefficients. Every operation is one IEEE double
 * operation in the order written (no contraction, see configure.ac): the
 * bits are the same on every processor and C library.
 */
#include "base/math.h"

#include <stdint.h>
#include <string.h>

#define LN2_HIGH    0x1.62e42feep-1 /* 32 bits: k * LN2_HIGH is exact */
#define LN2_LOW     0x1.a39ef35793c76p-33
#define INV_LN2     0x1.71547652b82fep+0
#define ROUND_MAGIC 0x1.8p52 /* adding and taking it away rounds to even */

static uint64_t bits_of(double x)
{
	uint64_t bits;

	memcpy(&bits, &x, sizeof(bits));
	return bits;
}

static double from_bits(uint64_t bits)
{
	double x;

	memcpy(&x, &bits, sizeof(x));
	return x;
}

static double round_to_integer(double x)
{
	return (x + ROUND_MAGIC) - ROUND_MAGIC;
}

/* 2^k for -1022 <= k <= 1023. */
static double power_of_two(int k)
{
	return from_bits((uint64_t)(k + 1023) << 52);
}

/* x * 2^k in two steps where 2^k itself has no normal representation. */
static double scale(double x, int k)
{
	if (k > 1023)
		return x * power_of_two(1023) * power_of_two(k - 1023);
	if (k < -1022)
		return x * power_of_two(-1000) * power_of_two(k + 1000);
	return x * power_of_two(k);
}

static double series(double x, const double *terms, int count)
{
	double sum = terms[count - 1];
	int i;

	for (i = count - 2; i >= 0; i--)
		sum = sum * x + terms[i];
	return sum;
}

/*
 * exp(r + low) - 1 = r + *rest for |r| <= ln2 / 2 and a tiny low:
 * *rest = r^2 (1/2 + r/6 + ...) + low (1 + r). Returns the rounded sum.
 */
static double exp_minus_one_reduced(double r, double low, double *rest)
{
	static const double terms[] = {
		1.0 / 2,
		1.0 / 6,
		1.0 / 24,
		1.0 / 120,
		1.0 / 720,
		1.0 / 5040,
		1.0 / 40320,
		1.0 / 362880,
		1.0 / 3628800,
		1.0 / 39916800,
		1.0 / 479001600.0,
		1.0 / 6227020800.0,
		1.0 / 87178291200.0,
	};
	double tail = r * r * series(r, terms, 13);

	*rest = tail + (low + low * r);
	return r + *rest;
}

/* x = k ln2 + r + low; returns k. */
static int exp_reduce(double x, double *r, double *low)
{
	double k = round_to_integer(x * INV_LN2);
	double high = x - k * LN2_HIGH;
	double product = k * LN2_LOW;

	*r = high - product;
	*low = (high - *r) - product;
	return (int)k;
}

double math_exp(double x)
{
	double rest;
	double r;
	double low;
	int k;

	if (x != x)
		return x;
	if (x > 709.782712893384)
		return __builtin_inf();
	if (x < -745.2)
		return 0.0;
	k = exp_reduce(x, &r, &low);
	return scale(1.0 + exp_minus_one_reduced(r, low, &rest), k);
}

double math_log(double x)
{
	/* 2/(2n+1): the series of 2 atanh(s) / s, from n = 1 on. */
	static const double terms[] = {
		2.0 / 3,  2.0 / 5,  2.0 / 7,  2.0 / 9,  2.0 / 11, 2.0 / 13,
		2.0 / 15, 2.0 / 17, 2.0 / 19, 2.0 / 21, 2.0 / 23,
	};
	uint64_t bits;
	double k;
	double f;
	double s;
	double half;
	double rest;
	int exponent = 0;

	if (x != x || x == __builtin_inf())
		return x;
	if (x == 0.0)
		return -__builtin_inf();
	if (x < 0.0)
		return __builtin_nan("");
	if (x < 0x1p-1022) { /* subnormal */
		x *= 0x1p54;
		exponent = -54;
	}
	bits = bits_of(x);
	exponent += (int)(bits >> 52) - 1023;
	x = from_bits((bits & 0x000fffffffffffffULL) | 0x3ff0000000000000ULL);
	if (x > 1.4142135623730951) {
		x *= 0.5;
		exponent++;
	}
	/* log(1+f) = f - (f^2/2 - s (f^2/2 + R)), s = f / (2+f). */
	f = x - 1.0;
	s = f / (2.0 + f);
	half = 0.5 * f * f;
	rest = s * s * series(s * s, terms, 11);
	k = (double)exponent;
	return k * LN2_HIGH + (f - (half - (s * (half + rest) + k * LN2_LOW)));
}

/* exp(x) - 1 = sum + *lost for 0 <= x < 50; `lost` is below half an ulp. */
static double exp_minus_one(double x, double *lost)
{
	double r;
	double low;
	double rest;
	int k = exp_reduce(x, &r, &low);
	double p = exp_minus_one_reduced(r, low, &rest);
	double p_lost = rest - (p - r);
	double whole = power_of_two(k) - 1.0;
	double scaled = scale(p, k);
	double sum = whole + scaled;

	*lost = k == 0 ? p_lost : (scaled - (sum - whole)) + scale(p_lost, k);
	return sum;
}

double math_tanh(double x)
{
	double magnitude = x < 0 ? -x : x;
	double lost;
	double below;
	double t;
	double y;

	if (x != x || magnitude < 0x1p-28)
		return x; /* the next term, x^3/3, is below half an ulp */
	if (magnitude > 22.0) {
		y = 1.0;
	} else {
		/* t / (t + 2), with what both roundings lost put back. */
		t = exp_minus_one(2.0 * magnitude, &lost);
		below = t + 2.0;
		if (magnitude < 0.55) {
			y = t / below;
			lost -= y * (lost + (t - (below - 2.0)));
			y += lost / below;
		} else {
			y = 1.0 - 2.0 / below;
		}
	}
	return x < 0 ? -y : y;
}

#define PI_2_HIGH   0x1.921fb544p+0 /* 33 bits */
#define PI_2_MIDDLE 0x42d18469p-64  /* the next 31 */
#define PI_2_THIRD  0x898cc517p-96  /* 32 more */
#define PI_2_LOW    0x1.b839a252049c1p-104
#define TWO_OVER_PI 0x1.45f306dc9c883p-1

/* x = k pi/2 + r + low, |r| <= pi/4 or a hair more; returns k modulo 4. */
static unsigned reduce_quarter(double x, double *r, double *low)
{
	double k = round_to_integer(x * TWO_OVER_PI);
	double first = x - k * PI_2_HIGH; /* these products are exact: */
	double part = k * PI_2_MIDDLE;    /* k has 20 bits at most */
	double second = first - part;
	double lost = (first - second) - part; /* what the difference lost */
	double third;
	double last;

	part = k * PI_2_THIRD;
	third = second - part;
	lost += (second - third) - part;
	last = k * PI_2_LOW - lost;
	*r = third - last;
	*low = (third - *r) - last;
	return (unsigned)((int64_t)k & 3);
}

/* Series of sin(r + low) and cos(r + low) on |r| <= pi/4. */
static double sin_reduced(double r, double low)
{
	static const double terms[] = {
		-1.0 / 6,
		1.0 / 120,
		-1.0 / 5040,
		1.0 / 362880,
		-1.0 / 39916800,
		1.0 / 6227020800.0,
		-1.0 / 1307674368000.0,
		1.0 / 355687428096000.0,
	};
	double square = r * r;

	return r + (r * square * series(square, terms, 8) +
		    low * (1.0 - 0.5 * square));
}

static double cos_reduced(double r, double low)
{
	static const double terms[] = {
		1.0 / 24,
		-1.0 / 720,
		1.0 / 40320,
		-1.0 / 3628800,
		1.0 / 479001600,
		-1.0 / 87178291200.0,
		1.0 / 20922789888000.0,
		-1.0 / 6402373705728000.0,
	};
	double square = r * r;
	double half = 0.5 * square;
	double rounded = 1.0 - half;
	double lost = (1.0 - rounded) - half;

	return rounded +
	       (lost + (square * square * series(square, terms, 8) - r * low));
}

static double sin_quarter(unsigned quarter, double r, double low)
{
	double y = quarter & 1 ? cos_reduced(r, low) : sin_reduced(r, low);

	return quarter & 2 ? -y : y;
}

double math_sin(double x)
{
	double r;
	double low;
	unsigned quarter = reduce_quarter(x, &r, &low);

	return sin_quarter(quarter, r, low);
}

double math_cos(double x)
{
	double r;
	double low;
	unsigned quarter = reduce_quarter(x, &r, &low);

	return sin_quarter((quarter + 1) & 3, r, low);
}

double math_power_integer(double base, long exponent)
{
	unsigned long n = exponent < 0 ? 0UL - (unsigned long)exponent
				       : (unsigned long)exponent;
	double result = 1.0;

	for (; n > 0; n >>= 1) {
		if (n & 1)
			result *= base;
		base *= base;
	}
	return exponent < 0 ? 1.0 / result : result;
}

double math_sqrt(double x)
{
	return __builtin_sqrt(x);
}
