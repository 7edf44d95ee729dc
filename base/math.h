/*
 * Scalar functions whose bits do not depend on the C library: exp, log, tanh,
 * sin, cos, power. Double precision, error below 1 ulp or so (tested
 * against libm to 2 ulp). Vectorised single-precision versions live in
 * model/kernels and are tested against these.
 */
#ifndef STAGECOACH_BASE_MATH_H
#define STAGECOACH_BASE_MATH_H

double math_exp(double x);
double math_log(double x); /* x > 0; -inf at 0, NaN below */
double math_tanh(double x);
double math_sin(double x); /* |x| < 1e6 */
double math_cos(double x);
double math_power_integer(double base, long exponent);
double math_sqrt(double x); /* the processor's, correctly rounded */

/* Names these implementations in the numerics digest; change with the bits. */
#define MATH_VERSION "math-1"

#endif
