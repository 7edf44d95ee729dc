/*
 * Box and Muller's transform, many pairs at once. What random_normal() calls
 * for one pair is written here without branches: Philox4x32-10, and of
 * base/math.c what logarithm, sine and cosine do to numbers of this range. The
 * operations and their order are the same, so the bits are, too.
 */
#include "model/kernels/normal.h"
#include "model/kernels/vector_math.h"

#include <math.h>
#include <string.h>

/* Pairs that are made at once; their intermediate values fit the L1 cache. */
#define GROUP 64

/* base/random.c's USE_NORMAL: the upper half of the counter. */
#define USE_NORMAL 1

/* What a group's pairs are made of: 53 bits each. */
struct group_bits {
	uint64_t radius[GROUP];
	uint64_t angle[GROUP];
};

VECTOR_INLINE uint64_t bits_of(double x)
{
	uint64_t bits;

	__builtin_memcpy(&bits, &x, sizeof(bits));
	return bits;
}

VECTOR_INLINE double from_bits(uint64_t bits)
{
	double x;

	__builtin_memcpy(&x, &bits, sizeof(x));
	return x;
}

/* Of at most 52 bits, exact: AVX2 has no such conversion. */
VECTOR_INLINE double small_double(uint64_t integer)
{
	return from_bits(0x4330000000000000ULL | integer) - 0x1p52;
}

/* Of at most 53 bits and 2^53, exact. */
VECTOR_INLINE double large_double(uint64_t integer)
{
	return small_double(integer >> 32) * 0x1p32 +
	       small_double(integer & 0xffffffff);
}

VECTOR_INLINE double series(double x, const double *terms, int count)
{
	double sum = terms[count - 1];

#pragma GCC unroll 16
	for (int i = count - 2; i >= 0; i--)
		sum = sum * x + terms[i];
	return sum;
}

/* The upper half of each 64-bit word has no meaning: see dropout.c. */
KERNEL_CLONES_AVX512 static void draw_bits(struct random_key key,
					   uint64_t first,
					   struct group_bits *restrict out)
{
	for (size_t i = 0; i < GROUP; i++) {
		uint64_t x0 = first + i, x1 = (first + i) >> 32;
		uint64_t x2 = USE_NORMAL, x3 = 0;
		uint32_t key0 = key.word[0], key1 = key.word[1];

#pragma GCC unroll 10
		for (int round = 0; round < 10; round++) {
			uint64_t p0 = (x0 & 0xffffffff) * 0xD2511F53u;
			uint64_t p1 = (x2 & 0xffffffff) * 0xCD9E8D57u;

			x0 = (p1 >> 32) ^ x1 ^ key0;
			x1 = p1;
			x2 = (p0 >> 32) ^ x3 ^ key1;
			x3 = p0;
			key0 += 0x9E3779B9u;
			key1 += 0xBB67AE85u;
		}
		out->radius[i] = (x1 << 32 | (x0 & 0xffffffff)) >> 11;
		out->angle[i] = (x3 << 32 | (x2 & 0xffffffff)) >> 11;
	}
}

#define LN2_HIGH 0x1.62e42feep-1
#define LN2_LOW  0x1.a39ef35793c76p-33

/* math_log() of a normal number up to 1. */
VECTOR_INLINE double log_of(double x)
{
	static const double terms[] = {
		2.0 / 3,  2.0 / 5,  2.0 / 7,  2.0 / 9,  2.0 / 11, 2.0 / 13,
		2.0 / 15, 2.0 / 17, 2.0 / 19, 2.0 / 21, 2.0 / 23,
	};
	uint64_t bits = bits_of(x);
	double k = small_double(bits >> 52) - 1023;
	double mantissa = from_bits((bits & 0x000fffffffffffffULL) |
				    0x3ff0000000000000ULL);
	bool above = mantissa > 1.4142135623730951;
	double f, s, half, rest;

	k = above ? k + 1 : k;
	f = (above ? mantissa * 0.5 : mantissa) - 1.0;
	s = f / (2.0 + f);
	half = 0.5 * f * f;
	rest = s * s * series(s * s, terms, 11);
	return k * LN2_HIGH + (f - (half - (s * (half + rest) + k * LN2_LOW)));
}

#define PI_2_HIGH   0x1.921fb544p+0
#define PI_2_MIDDLE 0x42d18469p-64
#define PI_2_THIRD  0x898cc517p-96
#define PI_2_LOW    0x1.b839a252049c1p-104
#define TWO_OVER_PI 0x1.45f306dc9c883p-1
#define ROUND_MAGIC 0x1.8p52

VECTOR_INLINE double sin_reduced(double r, double low)
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

VECTOR_INLINE double cos_reduced(double r, double low)
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

/* y with the sign turned where bit 1 of the quarter is set. */
VECTOR_INLINE double turned(double y, uint64_t quarter)
{
	return from_bits(bits_of(y) ^ (quarter & 2) << 62);
}

/* math_sin() and math_cos() of 0 to 2 pi. */
VECTOR_INLINE void sin_cos(double x, double *sine, double *cosine)
{
	double shifted = x * TWO_OVER_PI + ROUND_MAGIC;
	uint64_t quarter = bits_of(shifted); /* in the lowest bits */
	double k = shifted - ROUND_MAGIC;
	double first = x - k * PI_2_HIGH;
	double part = k * PI_2_MIDDLE;
	double second = first - part;
	double lost = (first - second) - part;
	double third, last, r, low, s, c;
	bool odd = quarter & 1;

	part = k * PI_2_THIRD;
	third = second - part;
	lost += (second - third) - part;
	last = k * PI_2_LOW - lost;
	r = third - last;
	low = (third - r) - last;
	s = sin_reduced(r, low);
	c = cos_reduced(r, low);
	*sine = turned(odd ? c : s, quarter);
	*cosine = turned(odd ? s : c, quarter + 1);
}

/* (0, 1] for the radius: the logarithm stays finite. */
KERNEL_CLONES static void transform(const struct group_bits *restrict bits,
				    double deviation, float *restrict cosines,
				    float *restrict sines)
{
	for (size_t i = 0; i < GROUP; i++) {
		double radius = large_double(bits->radius[i] + 1) * 0x1p-53;
		double angle = 6.283185307179586 *
			       (large_double(bits->angle[i]) * 0x1p-53);
		double sine, cosine;

		radius = sqrt(-2.0 * log_of(radius));
		sin_cos(angle, &sine, &cosine);
		cosines[i] = (float)(0.0 + deviation * (radius * cosine));
		sines[i] = (float)(0.0 + deviation * (radius * sine));
	}
}

void normal_fill(struct random_key key, uint64_t first, size_t count,
		 float deviation, float *out)
{
	struct group_bits bits;
	float cosines[GROUP], sines[GROUP], pairs[2 * GROUP];

	while (count > 0) {
		size_t skip = first % 2;
		size_t take = MIN(count, 2 * GROUP - skip);

		draw_bits(key, first / 2, &bits);
		transform(&bits, (double)deviation, cosines, sines);
		for (size_t i = 0; i < GROUP; i++) {
			pairs[2 * i] = cosines[i];
			pairs[2 * i + 1] = sines[i];
		}
		memcpy(out, pairs + skip, take * sizeof(*out));
		first += take;
		count -= take;
		out += take;
	}
}
