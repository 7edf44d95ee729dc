/*
 * What PyTorch says about a tiny GPT-2: the files of tests/grad/torch, made
 * by make-golden.py there, which says what each tensor is.
 */
#ifndef STAGECOACH_TESTS_GRAD_GOLDEN_H
#define STAGECOACH_TESTS_GRAD_GOLDEN_H

#include "model/io/safetensors.h"

/* A path below $srcdir/tests/grad/torch; valid until the next call. */
const char *golden_path(const char *name);

/* The tensor <prefix><name>; ends the program if there is none. */
const struct safetensors_tensor *golden_find(const struct safetensors *golden,
					     const char *prefix,
					     const char *name);

/* All of a floating-point tensor, to be freed; ends the program on errors. */
float *golden_floats(const struct safetensors_tensor *tensor);

/* The worst difference, divided by the largest |wanted|. */
double golden_difference(size_t count, const float *wanted, const float *got);

#endif
