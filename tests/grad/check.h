/*
 * Gradients against four-point central differences of a double-precision
 * objective:  f'(x) = (f(x - 2h) - 8 f(x - h) + 8 f(x + h) - f(x + 2h)) / 12h,
 * whose error is O(h^4).
 */
#ifndef STAGECOACH_TESTS_GRAD_CHECK_H
#define STAGECOACH_TESTS_GRAD_CHECK_H

#include "base/compiler.h"

typedef double check_objective_fn(void *argument);

/*
 * Compares gradient[count] with the differences of the objective when
 * variable[count] (which the objective reads) is moved: along random
 * directions over the whole of it, which no wrong element escapes, and at some
 * single elements, the largest among them. Returns the worst error divided
 * by what is tolerated: below 1 is right.
 */
double check_gradient(check_objective_fn *objective, void *argument,
		      double *variable, size_t count, const float *gradient,
		      double tolerance);

#endif
