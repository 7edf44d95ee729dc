/*
 * Traffic: the bytes a rank sends in a training step, counted from the lists by
 * which it sends them (engine/route.h), before anything runs.
 */
#ifndef STAGECOACH_ENGINE_TRAFFIC_H
#define STAGECOACH_ENGINE_TRAFFIC_H

#include "base/compiler.h"

struct pipeline;

/* Payloads, in bytes; frames and acknowledgements of a transport left out. */
struct traffic {
	uint64_t stages;   /* activations, their gradients, a tied gradient */
	uint64_t replicas; /* sums of gradients, squares, sharded weights */
	uint64_t slices;   /* sums within layers */
	uint64_t control;  /* batches, votes, verdicts */
};

/*
 * Of the rank that a sketch stands at (pipeline_stand_at()), in the replica it was
 * made for. What slices send is exact where every chunk of the loss has a
 * supervised token.
 */
void traffic_count(struct pipeline *sketch, struct traffic *out);
uint64_t traffic_total(const struct traffic *traffic);

#endif
