/*
 * Arithmetic on sizes that come from a file, a peer or a user: false on
 * overflow, and *out is then untouched.
 */
#ifndef STAGECOACH_BASE_CHECKED_H
#define STAGECOACH_BASE_CHECKED_H

#include "base/compiler.h"

static inline bool checked_add(size_t a, size_t b, size_t *out)
{
	size_t result;

	if (__builtin_add_overflow(a, b, &result))
		return false;
	*out = result;
	return true;
}

static inline bool checked_multiply(size_t a, size_t b, size_t *out)
{
	size_t result;

	if (__builtin_mul_overflow(a, b, &result))
		return false;
	*out = result;
	return true;
}

#endif
