/*
 * Arrays of values of either type that layers compute with: float, or bfloat16.
 * Kernels widen what they read to float, compute in float, and round what they
 * write, once (model/kernels/bfloat16.h says how).
 *
 * A kernel's loop is written once, over value_load() and value_store(), and
 * compiled for each type: `type` is a constant where they are inlined.
 */
#ifndef STAGECOACH_MODEL_KERNELS_VALUES_H
#define STAGECOACH_MODEL_KERNELS_VALUES_H

#include "base/threads.h"
#include "model/kernels/bfloat16.h"
#include "model/kernels/element.h"
#include "model/kernels/vector_math.h"

VECTOR_INLINE float value_load(enum element_type type, const void *values,
			       size_t i)
{
	return type == ELEMENT_BF16
		       ? float_from_bfloat16(((const bfloat16 *)values)[i])
		       : ((const float *)values)[i];
}

VECTOR_INLINE void value_store(enum element_type type, void *values, size_t i,
			       float value)
{
	if (type == ELEMENT_BF16)
		((bfloat16 *)values)[i] = bfloat16_from_float(value);
	else
		((float *)values)[i] = value;
}

/* Where element i lies. */
static inline const void *values_at(enum element_type type, const void *values,
				    size_t i)
{
	return (const unsigned char *)values + i * element_type_bytes(type);
}

static inline void *values_at_mutable(enum element_type type, void *values,
				      size_t i)
{
	return (unsigned char *)values + i * element_type_bytes(type);
}

/* Arrays are the same pointer or do not overlap. */
void values_zero(struct threads *threads, enum element_type type, size_t count,
		 void *out);
void values_copy(struct threads *threads, enum element_type type, size_t count,
		 const void *in, void *out);
/* out = a + b. */
void values_add(struct threads *threads, enum element_type type, size_t count,
		const void *a, const void *b, void *out);

/* Floats that were summed to where they stay; `out` does not overlap. */
void values_round(struct threads *threads, size_t count, const float *in,
		  bfloat16 *out);
/* The same of what is there already plus them: out += in, rounded once. */
void values_add_round(struct threads *threads, size_t count, const float *in,
		      bfloat16 *out);

/* Of one thread, for a row. */
void values_row_widen(size_t count, const bfloat16 *in, float *out);
void values_row_round(size_t count, const float *in, bfloat16 *out);

#endif
