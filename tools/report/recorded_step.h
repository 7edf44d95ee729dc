/*
 * What `train --trace` recorded, for the report: trace.json, read back line by
 * line, so that memory stays below the file's size.
 */
#ifndef STAGECOACH_TOOLS_REPORT_RECORDED_STEP_H
#define STAGECOACH_TOOLS_REPORT_RECORDED_STEP_H

#include "engine/timeline.h"

enum recorded_kind {
	RECORDED_FORWARD,
	RECORDED_INPUT,
	RECORDED_WEIGHT,
	RECORDED_BACKWARD, /* I and W in one */
	RECORDED_SEND,
	RECORDED_WAIT,
	RECORDED_END, /* reductions, vote, optimizer */
	RECORDED_IDLE,
	RECORDED_KINDS,
};

enum recorded_kind recorded_kind_of(unsigned op); /* enum action_op */

struct recorded_step {
	char schedule[128];   /* what the trace calls it */
	unsigned ranks;       /* 0: nothing was recorded */
	unsigned steps;       /* recorded */
	uint64_t first, last; /* their numbers */
	uint64_t step;        /* the one of median length; timeline is of it */
	struct timeline timeline;
	unsigned stages;
	unsigned chunks; /* stages of the rank that has most */
	unsigned *chunk; /* [stages] the how-manieth stage of its rank */
	double (*seconds)[RECORDED_KINDS]; /* [ranks] mean of a step */
};

/*
 * Absent, or (said in a warning) no trace of a training: out->ranks is 0, and 0 is
 * returned. -ENOMEM or what reading failed with, logged. The caller's to
 * recorded_step_fini(), in any case.
 */
int recorded_step_read(const char *path, struct recorded_step *out) MUST_CHECK;
void recorded_step_fini(struct recorded_step *recorded);

#endif
