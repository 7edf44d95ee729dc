/*
 * What a rank does with its job: builds its part of the pipeline, loads what
 * it needs, and trains, evaluates or generates.
 */
#ifndef STAGECOACH_ENGINE_RUN_H
#define STAGECOACH_ENGINE_RUN_H

#include "engine/pipeline.h"

/* The rank_main_fn of all jobs (engine/world.h). */
int run_rank(struct world *world) MUST_CHECK;

/* Their four kinds; weights are in place, links stand. */
int run_train(struct pipeline *pipeline) MUST_CHECK;
int run_evaluate(struct pipeline *pipeline) MUST_CHECK; /* a corpus, or: */
int run_score(struct pipeline *pipeline) MUST_CHECK;    /* requests of a file */
int run_generate(struct pipeline *pipeline) MUST_CHECK;
int run_measure(struct pipeline *pipeline) MUST_CHECK;

/*
 * Mean loss over the first `samples` windows of a split (0: all), in the order
 * of the text. The root's data; the result is right on the root.
 */
struct evaluation {
	double loss; /* nats per token */
	uint64_t tokens;
};
struct sampler;
int run_evaluation(struct pipeline *pipeline, const struct sampler *sampler,
		   uint64_t samples, struct evaluation *out) MUST_CHECK;

#endif
