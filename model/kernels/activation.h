/*
 * Activation functions, element by element over `count` values of a type,
 * float or bfloat16. Outputs may be their inputs (the same pointer, not a
 * shifted one).
 */
#ifndef STAGECOACH_MODEL_KERNELS_ACTIVATION_H
#define STAGECOACH_MODEL_KERNELS_ACTIVATION_H

#include "base/threads.h"
#include "model/kernels/element.h"

/*
 * GELU in the tanh form ("gelu_new" of Hugging Face; Hendrycks, Gimpel 2016):
 * y = x/2 (1 + tanh u), u = sqrt(2/pi) (x + 0.044715 x^3). Computed as the
 * equal x / (1 + e^(-2u)), which stays accurate for negative x.
 * Backward: dx = dy * y'(x), from the forward's input x.
 */
void gelu_forward(struct threads *threads, enum element_type type, size_t count,
		  const void *x, void *y);
void gelu_backward(struct threads *threads, enum element_type type,
		   size_t count, const void *dy, const void *x, void *dx);

/* SiLU: y = x / (1 + e^-x). */
void silu_forward(struct threads *threads, enum element_type type, size_t count,
		  const void *x, void *y);
void silu_backward(struct threads *threads, enum element_type type,
		   size_t count, const void *dy, const void *x, void *dx);

/*
 * SwiGLU (Shazeer 2020): a row of x is [gate | up], `width` values each, and
 * y[rows, width] = silu(gate) * up. Here y does not overlap x, nor dx dy.
 */
void swiglu_forward(struct threads *threads, enum element_type type,
		    size_t rows, size_t width, const void *x, void *y);
void swiglu_backward(struct threads *threads, enum element_type type,
		     size_t rows, size_t width, const void *dy, const void *x,
		     void *dx);

#endif
