/*
 * exp, log, tanh and logistic in single precision, for loops that the compiler
 * turns into vector code. They are branch-free, call nothing, and use only
 * additions, multiplications, divisions and integer operations that round the
 * same way everywhere: with -ffp-contract=off (the whole build has it) their
 * bits are the same on every dispatch path (SSE2, AVX2, AVX-512) and in
 * scalar code. No fused multiply-add is used, for that reason.
 *
 * Method: Cody and Waite's argument reduction, polynomials as in S. Moshier's
 * Cephes (single precision). Errors, measured over all floats of the range
 * by tests/unit/test-vector-math: exp 2 ulp, log 2 ulp, tanh 3 ulp,
 * logistic 3 ulp. Subnormal arguments and results count as zero (FTZ, DAZ).
 */
#ifndef STAGECOACH_MODEL_KERNELS_VECTOR_MATH_H
#define STAGECOACH_MODEL_KERNELS_VECTOR_MATH_H

#include "base/compiler.h"
#include <math.h>

/*
 * Put before a function that holds hot loops: GCC compiles it once per
 * instruction set and the loader picks. Functions with this attribute are
 * never inlined; the small ones they use are `static inline`.
 * Not under sanitizers: the resolver runs before their run time is set up.
 */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) &&         \
	defined(__GLIBC__) && !defined(STAGECOACH_SANITIZED) &&                \
	!defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define KERNEL_CLONES                                                          \
	__attribute__((                                                        \
		target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
/* For loops that gain from AVX-512 and lose from AVX2. */
#define KERNEL_CLONES_AVX512                                                   \
	__attribute__((target_clones("arch=x86-64-v4", "default")))
#else
#define KERNEL_CLONES
#define KERNEL_CLONES_AVX512
#endif

/* Names these implementations in the numerics digest; change with the bits. */
#define VECTOR_MATH_VERSION "vector-math-1"

/*
 * Put before a loop whose arrays are the same or do not overlap: its
 * iterations do not depend on each other. (clang finds out at run time; its
 * pragma warns wherever it is not obeyed, as under sanitizers.)
 */
#if defined(__clang__)
#define VECTOR_LOOP
#else
#define VECTOR_LOOP _Pragma("GCC ivdep")
#endif

#define VECTOR_INLINE static inline __attribute__((always_inline))

VECTOR_INLINE int32_t vector_float_bits(float x)
{
	int32_t bits;

	__builtin_memcpy(&bits, &x, sizeof(bits));
	return bits;
}

VECTOR_INLINE float vector_bits_float(int32_t bits)
{
	float x;

	__builtin_memcpy(&x, &bits, sizeof(x));
	return x;
}

/* e^x. Above 88.72284: infinity; below -87.33654: 0; NaN stays NaN. */
VECTOR_INLINE float vector_exp(float x)
{
	/* Adding 1.5 * 2^23 rounds to an integer, in the low mantissa bits. */
	const float round = 12582912.0f;
	float shifted = x * 1.44269504088896341f + round;
	/* Unsigned: what NaN and infinity leave here may overflow. */
	uint32_t n = (uint32_t)vector_float_bits(shifted) -
		     (uint32_t)vector_float_bits(round);
	float whole = shifted - round;
	/* ln 2 in two parts; the first has so few bits that n * it is exact. */
	float r = x - whole * 0.693359375f + whole * 2.12194440e-4f;
	float p = 1.9875691500e-4f;
	float outside = x + INFINITY;
	float result;

	p = p * r + 1.3981999507e-3f;
	p = p * r + 8.3334519073e-3f;
	p = p * r + 4.1665795894e-2f;
	p = p * r + 1.6666665459e-1f;
	p = p * r + 5.0000001201e-1f;
	p = p * (r * r) + r + 1.0f;
	/* p is in [0.70, 1.42]: n goes straight into its exponent. */
	result = vector_bits_float(
		(int32_t)((uint32_t)vector_float_bits(p) + (n << 23)));
	result = x <= 88.72283f ? result : outside;
	return x < -87.33654f ? 0.0f : result;
}

/* ln x. 0 (or subnormal): -infinity; negative or NaN: NaN. */
VECTOR_INLINE float vector_log(float x)
{
	/* x = 2^n * m with m in [sqrt(1/2), sqrt(2)). */
	uint32_t bits = (uint32_t)vector_float_bits(x);
	int32_t n = (int32_t)(bits - 0x3f3504f3u) >> 23;
	float m = vector_bits_float((int32_t)(bits - ((uint32_t)n << 23)));
	float whole = (float)n;
	float r = m - 1.0f;
	float square = r * r;
	float p = 7.0376836292e-2f;
	float bad = x < 0.0f ? NAN : x; /* NaN and infinity stay */
	float result;

	p = p * r - 1.1514610310e-1f;
	p = p * r + 1.1676998740e-1f;
	p = p * r - 1.2420140846e-1f;
	p = p * r + 1.4249322787e-1f;
	p = p * r - 1.6668057665e-1f;
	p = p * r + 2.0000714765e-1f;
	p = p * r - 2.4999993993e-1f;
	p = p * r + 3.3333331174e-1f;
	p = p * r * square - whole * 2.12194440e-4f;
	result = r + (p - 0.5f * square) + whole * 0.693359375f;
	result = x < INFINITY ? result : bad;
	result = x >= 0.0f ? result : bad;
	return x >= 0.0f && x < 1.17549435e-38f ? -INFINITY : result;
}

/* 1 / (1 + e^-x): the logistic function, accurate in both tails. */
VECTOR_INLINE float vector_logistic(float x)
{
	return 1.0f / (1.0f + vector_exp(-x));
}

/* tanh x. */
VECTOR_INLINE float vector_tanh(float x)
{
	float magnitude = fabsf(x);
	float square = x * x;
	float p = -5.70498872745e-3f;
	float large, small;

	p = p * square + 2.06390887954e-2f;
	p = p * square - 5.37397155531e-2f;
	p = p * square + 1.33314422036e-1f;
	p = p * square - 3.33332819422e-1f;
	small = p * square * x + x;
	large = 1.0f - 2.0f / (vector_exp(magnitude + magnitude) + 1.0f);
	large = copysignf(large, x);
	return magnitude < 0.625f ? small : large;
}

#endif
