/*
 * How many receives a link needs posted ahead so that no rank waits for ever.
 *
 * All messages of a pair of ranks share one FIFO, whichever stages they
 * belong to, and a receive is posted only when all but `ahead` of those before it
 * have been used. Where several stages of one rank talk to the same
 * neighbour (chunks, V placement), one of them may need a message that
 * stands behind others that are used later. The validator, which gives every
 * pair of stages its own FIFO, cannot see that. One replica and slice is
 * walked through; what replicas send each other is in one order at all of them
 * and waits for nothing else.
 */
#ifndef STAGECOACH_ENGINE_AHEAD_H
#define STAGECOACH_ENGINE_AHEAD_H

#include "engine/route.h"

/*
 * The smallest number from `minimum` on with which all ranks come to the end
 * of their rows, found by walking through them; config->rank does not
 * matter. A message counts as sent when its receive is posted: whatever the
 * transport queues comes on top. -EDEADLK, logged, if no number will do;
 * -ENOMEM.
 */
int ahead_find(const struct route_config *config, unsigned minimum,
	       unsigned *out) MUST_CHECK;

#endif
