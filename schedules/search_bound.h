/*
 * Inside the search: how short no schedule of a shape can be.
 *
 * Earliest times follow from one micro-batch alone on its way: h_s, when F of
 * stage s can start, and g_s, when its I can. From those, and from what the cap
 * lets a rank hold, each rank, stage and wire gives a bound of its own; the
 * greatest counts.
 */
#ifndef STAGECOACH_SCHEDULES_SEARCH_BOUND_H
#define STAGECOACH_SCHEDULES_SEARCH_BOUND_H

#include "schedules/search_problem.h"

struct search_bound {
	double makespan;
	char reason[240]; /* which argument gives it, in words */
};

/* -ENOMEM, logged. */
int search_bound_find(const struct search_problem *problem,
		      struct search_bound *out) MUST_CHECK;

/*
 * The bytes no schedule of the shape can do without on a rank: a micro-batch
 * holds all of the rank's stages up to the one it does I on.
 */
double search_least_bytes(const struct search_problem *problem, unsigned rank);

#endif
