/*
 * Small statistics over measured numbers.
 */
#ifndef STAGECOACH_BASE_NUMBERS_H
#define STAGECOACH_BASE_NUMBERS_H

#include "base/compiler.h"

/* Sorts values[count] ascending; NaN is not for it. */
void numbers_sort(double *values, size_t count);

/* The median; sorts values[]. 0 when there are none. */
double numbers_median(double *values, size_t count);

#endif
