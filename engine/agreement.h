/*
 * Agreement: before a job begins, ranks that are to hold the same weights find
 * out whether they do.
 *
 * Replicas of a position hold the same; so do the slices of a tensor group, of
 * what is not split; so do the two ends of a tie. Ranks read what they hold
 * themselves, each from what its own host calls by the folder's name, and if
 * these are not the same, training would go on for days with models that have
 * nothing in common. Each rank hashes what it holds (its threads share the
 * work, which takes as long as reading the memory once) and the hashes are
 * compared; only where two differ are more messages spent, on finding the first
 * tensor in which they do.
 */
#ifndef STAGECOACH_ENGINE_AGREEMENT_H
#define STAGECOACH_ENGINE_AGREEMENT_H

#include "base/compiler.h"

struct pipeline;
struct world;

/*
 * All ranks call it, once weights and optimizer state are there. Where nothing
 * is held twice it does nothing. -EINVAL on the root, logged, naming the ranks,
 * their hosts and the first tensor; -ECANCELED, silent, on the others.
 */
int agreement_check(struct pipeline *pipeline) MUST_CHECK;

/*
 * Whether all ranks multiply bfloat16 by the same library, of which `library`
 * is this one's name. All ranks call it, where the model's type is
 * bfloat16: who may join a job is decided before ranks know that. -EINVAL on the
 * root, logged; -ECANCELED, silent, on the others.
 */
int agreement_check_library(struct world *world,
			    const char *library) MUST_CHECK;

#endif
