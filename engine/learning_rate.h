/*
 * The learning rate of each step: linear warm-up, then constant, cosine or
 * linear decay to a floor.
 */
#ifndef STAGECOACH_ENGINE_LEARNING_RATE_H
#define STAGECOACH_ENGINE_LEARNING_RATE_H

#include "base/compiler.h"

enum decay_kind {
	DECAY_CONSTANT,
	DECAY_COSINE,
	DECAY_LINEAR,
};

struct learning_rate {
	double peak;
	double floor;          /* reached at step `decay_steps` */
	uint64_t warmup_steps; /* rises linearly: step 0 has peak / warmup */
	uint64_t decay_steps;  /* counted from step 0, warm-up included */
	enum decay_kind decay;
};

/*
 * The rate of step `step` (from 0). A pure function, computed with
 * base/math.h: the same bits on every host.
 */
double learning_rate_at(const struct learning_rate *rate, uint64_t step);

#endif
