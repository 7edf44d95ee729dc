/*
 * Layers computed by several slices, each a thread here, which meet in memory
 * for sums and maxima; and what came of it put together, to be compared with
 * what one computes alone.
 */
#ifndef STAGECOACH_TESTS_GRAD_SLICES_H
#define STAGECOACH_TESTS_GRAD_SLICES_H

#include "model/layers/layer.h"

#define SLICES_MAX            8
#define SUBJECT_LAYERS_MAX    8
#define SUBJECT_PARAMETERS    64
#define EXERCISE_FORGETS_NONE SIZE_MAX

/* Layers one after the other, as one slice has them. */
struct subject {
	unsigned layers;
	const struct layer *layer[SUBJECT_LAYERS_MAX];
	const struct parameter *parameters; /* the table they stand in */
	unsigned parameter_count;
};

struct exercise {
	unsigned slices;
	unsigned threads; /* of each slice */
	size_t batch, time;
	size_t vocab_size;
	enum layer_mode mode; /* decode: a prompt, then token by token */
	bool recompute;       /* forward once more before I */
	size_t forgets; /* the number of a call to the collectives that does
			   nothing, on any slice; or EXERCISE_FORGETS_NONE */
};

#define EXERCISE_STEPS 5 /* of decoding, the prompt's included */

enum exercise_pass {
	EXERCISE_F,
	EXERCISE_I,
	EXERCISE_W,
	EXERCISE_PASSES,
};

struct outcome {
	double loss;
	size_t calls; /* of one slice to the collectives */
	struct layer_exchange exchanged[SUBJECT_LAYERS_MAX][EXERCISE_PASSES];
	/* Tensors, each whole: outputs and input gradients by layer,
	 * gradients by parameter, logits by step of decoding. */
	unsigned tensors;
	struct {
		char name[128];
		float *values;
		size_t count;
	} tensor[SUBJECT_PARAMETERS + 2 * SUBJECT_LAYERS_MAX + EXERCISE_STEPS];
	/* What each slice has whole has the same bits on all. */
	bool slices_agree;
	uint64_t digest; /* of everything on every slice */
};

/* subjects[slices]; everything random follows from names and a fixed seed. */
void exercise_run(const struct exercise *exercise,
		  const struct subject *subjects, struct outcome *out);
void outcome_fini(struct outcome *outcome);

/*
 * The largest difference between tensors, each in units of its largest element,
 * and between losses; infinite where there is a NaN. `worst` (may be NULL):
 * the tensor's name.
 */
double outcome_distance(const struct outcome *a, const struct outcome *b,
			const char **worst);
const float *outcome_tensor(const struct outcome *outcome, const char *name,
			    size_t *count);

#endif
