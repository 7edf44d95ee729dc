/*
 * The two ends of a tie, at the end of a step.
 */
#ifndef STAGECOACH_ENGINE_REDUCE_H
#define STAGECOACH_ENGINE_REDUCE_H

#include "base/compiler.h"

struct pipeline;

/*
 * Sums the two accumulators of a tied parameter: the embedding's first, the
 * head's second, of the elements that are this replica's own, when their sums
 * over the replicas are there. On one rank that is one addition; on two, each
 * sends its own to the other piece by piece and adds what comes, so that both
 * end with the same bits and update alike.
 */
int reduce_tied(struct pipeline *pipeline) MUST_CHECK;

#endif
