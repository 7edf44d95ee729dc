/*
 * Inside the search: plans, and what they cost.
 *
 * A plan is the order of a schedule's F, I and W, rank by rank, without their
 * micro-batches: the nth F of a stage in its row is the F of micro-batch n, and so
 * with I and W. That loses nothing, as all micro-batches cost the same: in any
 * schedule the nth F done on a stage may be called micro-batch n, and so on, and
 * what it needs is then there no later than before. It makes every plan
 * bit-identical to every other, and every link first in, first out.
 */
#ifndef STAGECOACH_SCHEDULES_SEARCH_PLAN_H
#define STAGECOACH_SCHEDULES_SEARCH_PLAN_H

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

struct plan {
	size_t width;     /* most tokens of a row */
	size_t *count;    /* [ranks] */
	uint16_t *tokens; /* [ranks][width] */
	double makespan;  /* as judged; INFINITY: comes to a deadlock */
};

static inline uint16_t *plan_row(const struct plan *plan, unsigned rank)
{
	return plan->tokens + rank * plan->width;
}

/* Empty rows; -ENOMEM, logged. */
int plan_init(struct plan *plan,
	      const struct search_problem *problem) MUST_CHECK;
void plan_fini(struct plan *plan);
void plan_copy(struct plan *to, const struct plan *from, unsigned ranks);

/*
 * One micro-batch at a time: the plan that holds least. No order of the rows
 * can do with less on any rank, nor come to a deadlock less.
 */
void plan_fill_sequential(struct plan *plan,
			  const struct search_problem *problem);

/* False if the schedule is no plan: some F, I or W does not ascend. */
bool plan_read(struct plan *plan, const struct search_problem *problem,
	       const struct schedule *schedule);

/* Compute actions only. NULL: no memory, logged. */
struct schedule *plan_schedule(const struct plan *plan,
			       const struct search_problem *problem,
			       const char *name);

/* Every B as I, then W. */
void plan_split(struct plan *plan, unsigned ranks);

/* How far a row has come. */
struct plan_progress {
	unsigned done[SCHEDULE_SEARCH_MAX_CHUNKS][3]; /* F, I, W by chunk */
	double alive;                                 /* bytes */
	double cap;
};

void plan_progress_init(struct plan_progress *progress,
			const struct search_problem *problem, unsigned rank);

/* Is what it needs of its own rank done, and is there memory? */
bool plan_progress_can(const struct plan_progress *progress,
		       const struct search_problem *problem, uint16_t token);

/*
 * And can the row then go on? An F must leave room for one micro-batch in each
 * later stage of the rank that holds none, and for what an I leaves.
 */
bool plan_progress_should(const struct plan_progress *progress,
			  const struct search_problem *problem, unsigned rank,
			  uint16_t token);
void plan_progress_do(struct plan_progress *progress,
		      const struct search_problem *problem, uint16_t token);

/*
 * Does each operation of the row come after what it needs on its own rank, and
 * does the row keep within the cap?
 */
bool plan_row_is_legal(const struct search_problem *problem, unsigned rank,
		       const uint16_t *tokens, size_t count);

/* The simulator, for plans of one problem. */
struct plan_judge;

int plan_judge_create(const struct search_problem *problem,
		      struct plan_judge **out) MUST_CHECK;
void plan_judge_destroy(struct plan_judge *judge);

/* Must be called for each row that has changed (all, of another plan). */
void plan_judge_row(struct plan_judge *judge, const struct plan *plan,
		    unsigned rank);
void plan_judge_rows(struct plan_judge *judge, const struct plan *plan);

/*
 * *makespan is INFINITY at a deadlock, and may be where it is above `limit`
 * (INFINITY: none), which is found out early. With `times` the times of all
 * actions stay for plan_judge_times(). -ENOMEM, logged.
 */
int plan_judge_run(struct plan_judge *judge, bool times, double limit,
		   double *makespan) MUST_CHECK;

/* Rows and run together: judges all of a plan into plan->makespan. */
int plan_judge_plan(struct plan_judge *judge, struct plan *plan) MUST_CHECK;

/* Actions simulated so far: the measure of effort. */
uint64_t plan_judge_steps(const struct plan_judge *judge);

/* The lowered row, its times, and which token each action belongs to. */
const struct schedule_row *plan_judge_actions(const struct plan_judge *judge,
					      unsigned rank);
const struct schedule_time *plan_judge_times(const struct plan_judge *judge,
					     unsigned rank);
const unsigned *plan_judge_tokens(const struct plan_judge *judge,
				  unsigned rank);

#endif
