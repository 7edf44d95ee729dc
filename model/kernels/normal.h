/*
 * Normally distributed numbers for initial weights: base/random.h's
 * random_normal() as vector code, with the same bits on every dispatch path.
 */
#ifndef STAGECOACH_MODEL_KERNELS_NORMAL_H
#define STAGECOACH_MODEL_KERNELS_NORMAL_H

#include "base/random.h"

/*
 * out[i] = deviation * z(first + i), [count]; z is standard normal and pure in
 * (key, first + i). The plain reference is random_normal() with a mean of 0.
 */
void normal_fill(struct random_key key, uint64_t first, size_t count,
		 float deviation, float *out);

#endif
