/*
 * Numbers of other widths, as files hold them, to float. Little endian, any
 * alignment. Exact, subnormal numbers included, whatever the rounding and
 * flushing of the thread.
 */
#ifndef STAGECOACH_MODEL_KERNELS_CONVERT_H
#define STAGECOACH_MODEL_KERNELS_CONVERT_H

#include "base/compiler.h"

/* IEEE 754 binary16. */
void convert_f16_to_floats(size_t count, const void *in, float *out);

/* bfloat16: the upper half of a float. */
void convert_bf16_to_floats(size_t count, const void *in, float *out);

#endif
