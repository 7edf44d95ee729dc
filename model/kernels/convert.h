/*
 * Numbers of other widths, as files hold them, to float and back. Little endian,
 * any alignment. To float it is exact; subnormal numbers are kept, whatever the
 * rounding and flushing of the thread.
 */
#ifndef STAGECOACH_MODEL_KERNELS_CONVERT_H
#define STAGECOACH_MODEL_KERNELS_CONVERT_H

#include "base/compiler.h"

/* IEEE 754 binary16. */
void convert_f16_to_floats(size_t count, const void *in, float *out);

/* bfloat16: the upper half of a float. */
void convert_bf16_to_floats(size_t count, const void *in, float *out);

/*
 * Back, rounded to the nearest, ties to even; what is too large becomes
 * infinite, a NaN stays one. `out` may be where `in` is.
 */
void convert_floats_to_f16(size_t count, const float *in, void *out);
void convert_floats_to_bf16(size_t count, const float *in, void *out);

#endif
