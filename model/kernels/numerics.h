/*
 * The numerics digest: what besides the data decides how results round, so
 * that ranks that would differ are told apart before the first step.
 */
#ifndef STAGECOACH_MODEL_KERNELS_NUMERICS_H
#define STAGECOACH_MODEL_KERNELS_NUMERICS_H

#include "model/kernels/element.h"

#define NUMERICS_DESCRIPTION_BYTES 1024
#define NUMERICS_DIGEST_BYTES      17 /* 16 hexadecimal digits and a NUL */

/*
 * A JSON object, one line, keys sorted: the instruction set our kernels
 * dispatch to, the BLAS and its kernels, the versions of our own functions, the
 * floating-point state of the calling thread. Written whole or not at all:
 * -ENOSPC (silent) when `size` is too small.
 */
int numerics_describe(char *out, size_t size) MUST_CHECK;

/*
 * The same for a model of this type: with ELEMENT_BF16 it names what
 * multiplies bfloat16, too, which is chosen then.
 */
int numerics_describe_type(enum element_type type, char *out,
			   size_t size) MUST_CHECK;

/* A hash of the description: equal digests round alike. */
int numerics_digest(char out[NUMERICS_DIGEST_BYTES]) MUST_CHECK;

#endif
