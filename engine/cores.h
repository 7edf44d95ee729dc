/*
 * Dividing a machine's cores over the ranks that run on it.
 */
#ifndef STAGECOACH_ENGINE_CORES_H
#define STAGECOACH_ENGINE_CORES_H

#include "base/compiler.h"

struct cores_plan {
	unsigned ranks;
	unsigned threads; /* per rank; the most, if they differ */
	bool pinned;      /* all of them */
	int *core;        /* [ranks][threads]; -1 where not pinned */
	unsigned *count;  /* [ranks]: threads of each; NULL: all the same */
};

/* Where a rank runs, and which cores its process may use there. */
struct cores_site {
	const char *machine; /* equal for ranks of one machine */
	const int *available;
	unsigned count;
};

/*
 * threads = 0: count / ranks, at least 1. Pins if `pin` and ranks * threads <=
 * count: rank r gets the r-th run of neighbouring entries of available[].
 * -EINVAL (logged) for ranks = 0 or too many threads; -ENOMEM.
 */
int cores_divide(const int *available, unsigned count, unsigned ranks,
		 unsigned threads, bool pin, struct cores_plan *out) MUST_CHECK;

/*
 * The same for ranks on several machines, or on one where a launcher has
 * divided the cores already: ranks with the same machine and the same cores
 * share them. Ranks whose cores overlap in another way are not pinned.
 */
int cores_divide_sites(const struct cores_site *sites, unsigned ranks,
		       unsigned threads, bool pin,
		       struct cores_plan *out) MUST_CHECK;
void cores_plan_fini(struct cores_plan *plan);

/* The cores of one rank: cores_threads() entries. */
const int *cores_of_rank(const struct cores_plan *plan, unsigned rank);
unsigned cores_threads(const struct cores_plan *plan, unsigned rank);

/* "0-3,8" and back; -EINVAL (silent), -ENOMEM. The caller frees *cores. */
char *cores_to_text(const int *cores, unsigned count, char *buffer,
		    size_t size);
int cores_from_text(const char *text, int **cores, unsigned *count) MUST_CHECK;

/* "2 ranks x 1 thread, pinned to cores 0 | 1"; always terminated. */
char *cores_describe(const struct cores_plan *plan, char *buffer, size_t size);

#endif
