/*
 * The optimizer: one update of every parameter this rank holds.
 */
#ifndef STAGECOACH_ENGINE_OPTIMIZER_H
#define STAGECOACH_ENGINE_OPTIMIZER_H

#include "base/compiler.h"

struct store;
struct threads;

enum optimizer_kind {
	OPTIMIZER_ADAMW, /* Loshchilov, Hutter 2019 */
	OPTIMIZER_SGD,   /* with momentum, as PyTorch's */
};

struct optimizer_config {
	enum optimizer_kind kind;
	double beta1, beta2, epsilon; /* adamw */
	double momentum;              /* sgd */
	bool nesterov;
	double weight_decay; /* of matrices and embeddings; 0 elsewhere */
	double clip;         /* largest global gradient norm; 0: none */
};

/* Floats of state a weight: 2, 1 or 0. */
unsigned optimizer_moments(const struct optimizer_config *config);

/* Name of moment i in a checkpoint: "exp_avg", "exp_avg_sq", "momentum". */
const char *optimizer_moment_name(const struct optimizer_config *config,
				  unsigned moment);

/*
 * Updates weights and moments of this rank's pieces from the accumulators
 * (level 0), times gradient_scale, and leaves zeros in all of level 0. Rounded
 * copies of the pieces are written along.
 * `step` counts from 1.
 */
void optimizer_step(const struct optimizer_config *config,
		    struct threads *threads, struct store *store, uint64_t step,
		    double learning_rate, double gradient_scale);

#endif
