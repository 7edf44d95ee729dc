/*
 * Dividing this machine's cores over the ranks that run on it.
 */
#ifndef STAGECOACH_ENGINE_CORES_H
#define STAGECOACH_ENGINE_CORES_H

#include "base/compiler.h"

struct cores_plan {
	unsigned ranks;
	unsigned threads; /* per rank */
	bool pinned;
	int *core; /* [ranks][threads]; -1 where not pinned */
};

/*
 * threads = 0: count / ranks, at least 1. Pins if `pin` and ranks * threads <=
 * count: rank r gets the r-th run of neighbouring entries of available[].
 * -EINVAL (logged) for ranks = 0 or too many threads; -ENOMEM.
 */
int cores_divide(const int *available, unsigned count, unsigned ranks,
		 unsigned threads, bool pin, struct cores_plan *out) MUST_CHECK;
void cores_plan_fini(struct cores_plan *plan);

/* The cores of one rank: plan->threads entries. */
const int *cores_of_rank(const struct cores_plan *plan, unsigned rank);

/* "2 ranks x 1 thread, pinned to cores 0 | 1"; always terminated. */
char *cores_describe(const struct cores_plan *plan, char *buffer, size_t size);

#endif
