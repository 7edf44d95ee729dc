/*
 * Findings: what all ranks recorded in their traces, brought together: how long
 * the steps took, one step's timeline, and the costs that follow, for the
 * simulator, the partition and the report.
 *
 * Both functions are collective: every rank calls them at the same point, between
 * steps, and every rank gets the same answer. They allocate.
 */
#ifndef STAGECOACH_ENGINE_FINDINGS_H
#define STAGECOACH_ENGINE_FINDINGS_H

#include "engine/costs.h"
#include "engine/pipeline.h"
#include "engine/timeline.h"
#include "engine/trace.h"

struct findings {
	unsigned steps;
	uint64_t *step;     /* [steps] their numbers, from 0 */
	int64_t *begin_ns;  /* [steps] the first rank began, since origin */
	double *seconds;    /* [steps] until the last rank ended */
	int64_t *offset_ns; /* [ranks] of a rank's clock to the root's */
	unsigned ranks;
	struct trace_traffic *sent; /* [ranks] in the last step recorded */
	struct costs costs;         /* rows: layers */
};

/* The caller's to findings_fini(), in any case. */
int findings_gather(struct pipeline *pipeline, struct findings *out) MUST_CHECK;
void findings_fini(struct findings *findings);

/*
 * {"step": number, from 1, "ranks": [{"rank", "bytes", "messages"}, ...]}: what
 * each rank sent in one step, payloads alone. NULL: no memory.
 */
json_t *findings_traffic(const struct findings *findings);

/* Index of the step of median length (the lower one of two). */
unsigned findings_median_step(const struct findings *findings);

/*
 * The timeline of recorded step `index`; time 0 is when its first rank began.
 * The caller's to timeline_fini().
 */
int findings_timeline(struct pipeline *pipeline,
		      const struct findings *findings, unsigned index,
		      struct timeline *out) MUST_CHECK;

/*
 * The time a message takes from the end of its SEND to its receiver, where that
 * one stood waiting: the median over a timeline, 0 if there is none.
 */
double findings_latency(const struct timeline *timeline);

#endif
