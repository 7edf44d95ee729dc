/*
 * How much memory a parser takes at most: no more than twice its input and
 * 64 MiB, whatever the input says. Counted at malloc() and its like, in front of the
 * C library's, or by the sanitizer's own hooks.
 */
#ifndef STAGECOACH_TESTS_FUZZ_MEMORY_H
#define STAGECOACH_TESTS_FUZZ_MEMORY_H

#include <stddef.h>

/* Counts from here on. */
void memory_begin(void);

/* Ends the process, as FUZZ_CHECK does, when it was more for `size` bytes. */
void memory_check(size_t size);

/* The most there was since memory_begin(). */
size_t memory_peak(void);

#endif
