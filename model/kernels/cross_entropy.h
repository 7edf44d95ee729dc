/*
 * Softmax and cross-entropy over rows of logits [rows, V]; consecutive rows
 * are `stride` >= V floats apart. A label below 0 is not supervised: loss 0,
 * gradient 0. Labels must be below V; whoever takes them from a file checks.
 * Parallel over rows, each by one thread: bits do not depend on their number,
 * nor on how the rows are cut into calls.
 */
#ifndef STAGECOACH_MODEL_KERNELS_CROSS_ENTROPY_H
#define STAGECOACH_MODEL_KERNELS_CROSS_ENTROPY_H

#include "base/threads.h"
#include "model/kernels/element.h"

/*
 * losses[r] = -ln softmax(logits[r])[labels[r]], in nats, and logits become
 * their gradient: (softmax - onehot(label)) * scale. scale is usually 1 / the
 * step's supervised tokens. Gradients of type bfloat16 lie at the beginning of
 * their row's memory: they are 2 stride apart.
 */
void cross_entropy_forward_backward(struct threads *threads, size_t rows,
				    size_t vocabulary, size_t stride,
				    const int32_t *labels, float scale,
				    enum element_type type, float *logits,
				    double *losses);

/* The losses alone; logits are left as they are. The same bits of losses. */
void cross_entropy_forward(struct threads *threads, size_t rows,
			   size_t vocabulary, size_t stride,
			   const int32_t *labels, const float *logits,
			   double *losses);

/*
 * The same with the vocabulary cut into parts: columns [first, first + V) of
 * the logits are here. Between the three calls the parts exchange floats, by
 * row: the largest of the maxima; then the sums of sums and of targets.
 */
struct cross_entropy_part {
	size_t rows;
	size_t vocabulary; /* V: of this part */
	size_t stride;
	size_t first;
	const int32_t *labels;  /* [rows], in the whole vocabulary */
	float *logits;          /* [rows, stride] */
	bool backward;          /* logits become exponentials, then gradients */
	float scale;            /* of the gradients */
	enum element_type type; /* of the gradients */
	float *maxima;          /* [rows] */
	float *sums;            /* [rows] of exp(logit - maximum) */
	float *targets;         /* [rows] the label's logit; -0.0: not here */
};

/* Writes maxima; of rows that are not supervised 0. */
void cross_entropy_part_maxima(struct threads *threads,
			       const struct cross_entropy_part *part);
/* Reads maxima; writes sums and targets. */
void cross_entropy_part_sums(struct threads *threads,
			     const struct cross_entropy_part *part);
/* Reads maxima, sums and targets; losses[rows] of the whole vocabulary. */
void cross_entropy_part_finish(struct threads *threads,
			       const struct cross_entropy_part *part,
			       double *losses);

#endif
