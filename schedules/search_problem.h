/*
 * Inside the search: the problem in one shape (ranks, chunks, placement).
 */
#ifndef STAGECOACH_SCHEDULES_SEARCH_PROBLEM_H
#define STAGECOACH_SCHEDULES_SEARCH_PROBLEM_H

#include "schedules/search.h"

/* Costs and limits of one shape: ranks, chunks, placement. */
struct search_problem {
	unsigned ranks;
	unsigned chunks; /* every rank has as many */
	unsigned stages;
	unsigned micro_batches;
	enum schedule_placement placement;
	struct schedule_costs costs;
	struct schedule_lowering lowering;
	const double *cap;       /* [ranks] bytes, or NULL: no limit */
	unsigned *rank_of_stage; /* [stages] */
	unsigned *stage_of_rank; /* [ranks][chunks], ascending */
	double *price;           /* [stages][4], by operation, as the walk's */
	double *kept;            /* [stages] bytes from F until W */
	double *left;            /* [stages] bytes from I until W */
	double *spare;           /* [ranks] the most any of its stages leaves */
	bool *input_here;    /* [stages] the stage before is on the same rank */
	bool *gradient_here; /* [stages] the stage behind is */
	void *owned[12];     /* the arrays of costs and lowering */
	unsigned owned_count;
};

/*
 * 0 or -ENOMEM, logged. The arrays of costs and lowering are copied; `cap` must
 * outlive the problem.
 */
int search_problem_init(struct search_problem *problem, unsigned ranks,
			unsigned micro_batches, unsigned chunks,
			enum schedule_placement placement,
			const struct schedule_costs *costs,
			const struct schedule_lowering *lowering,
			const double *cap) MUST_CHECK;
void search_problem_fini(struct search_problem *problem);

/* Sums of bytes may be off by rounding; a cap is not broken by that. */
static inline bool cap_is_kept(double bytes, double cap)
{
	return bytes <= cap * (1 + 1e-9);
}

/* One operation (F, I, W or B) of a stage. */
static inline uint16_t token_of(unsigned stage, unsigned op)
{
	return (uint16_t)(stage * 4 + op);
}

static inline unsigned token_stage(uint16_t token)
{
	return token / 4;
}

static inline unsigned token_op(uint16_t token)
{
	return token % 4;
}

_Static_assert(SCHEDULE_MAX_STAGES * 4 - 1 <= UINT16_MAX, "tokens by uint16_t");
_Static_assert(ACTION_BACKWARD == 3, "the compute operations come first");

#endif
