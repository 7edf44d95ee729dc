/*
 * bfloat16: the upper half of a float, and how a float becomes one: to the
 * nearest, ties to even. Infinity stays what it is; a NaN stays one. Subnormal
 * numbers are kept.
 */
#ifndef STAGECOACH_MODEL_KERNELS_BFLOAT16_H
#define STAGECOACH_MODEL_KERNELS_BFLOAT16_H

#include "base/compiler.h"

typedef uint16_t bfloat16;

static inline float float_from_bfloat16(bfloat16 value)
{
	uint32_t bits = (uint32_t)value << 16;
	float result;

	__builtin_memcpy(&result, &bits, sizeof(result));
	return result;
}

static inline bfloat16 bfloat16_from_float(float value)
{
	uint32_t bits, rounded;

	__builtin_memcpy(&bits, &value, sizeof(bits));
	rounded = bits + 0x7fff + (bits >> 16 & 1);
	/* A NaN: quiet, for its set bits may all be in the lower half. */
	if ((bits & 0x7fffffff) > 0x7f800000)
		rounded = bits | 0x400000;
	return (bfloat16)(rounded >> 16);
}

#endif
