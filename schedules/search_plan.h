/*
 * Inside the search: plans.
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

#include "schedules/search_problem.h"

struct search_plan {
	size_t width;     /* most tokens of a row */
	size_t *count;    /* [ranks] */
	uint16_t *tokens; /* [ranks][width] */
	double makespan;  /* as judged; INFINITY: comes to a deadlock */
};

static inline uint16_t *search_plan_row(const struct search_plan *plan,
					unsigned rank)
{
	return plan->tokens + rank * plan->width;
}

/* Empty rows; -ENOMEM, logged. */
int search_plan_init(struct search_plan *plan,
		     const struct search_problem *problem) MUST_CHECK;
void search_plan_fini(struct search_plan *plan);
void search_plan_copy(struct search_plan *to, const struct search_plan *from,
		      unsigned ranks);

/*
 * One micro-batch at a time: the plan that holds least. No order of the rows
 * can do with less on any rank, nor come to a deadlock less.
 */
void search_plan_fill_sequential(struct search_plan *plan,
				 const struct search_problem *problem);

/* False if the schedule is no plan: some F, I or W does not ascend. */
bool search_plan_read(struct search_plan *plan,
		      const struct search_problem *problem,
		      const struct schedule *schedule);

/* Compute actions only. NULL: no memory, logged. */
struct schedule *search_plan_schedule(const struct search_plan *plan,
				      const struct search_problem *problem,
				      const char *name);

/* Every B as I, then W. */
void search_plan_split(struct search_plan *plan, unsigned ranks);

/* How far a row has come. */
struct search_plan_progress {
	unsigned done[SCHEDULE_SEARCH_MAX_CHUNKS][3]; /* F, I, W by chunk */
	double alive;                                 /* bytes */
	double cap;
};

void search_plan_progress_init(struct search_plan_progress *progress,
			       const struct search_problem *problem,
			       unsigned rank);

/* Is what it needs of its own rank done, and is there memory? */
bool search_plan_progress_can(const struct search_plan_progress *progress,
			      const struct search_problem *problem,
			      uint16_t token);

/*
 * And can the row then go on? An F must leave room for one micro-batch in each
 * later stage of the rank that holds none, and for what an I leaves.
 */
bool search_plan_progress_should(const struct search_plan_progress *progress,
				 const struct search_problem *problem,
				 unsigned rank, uint16_t token);
/* The micro-batch of the next operation of a kind. */
unsigned search_plan_progress_next(const struct search_plan_progress *progress,
				   const struct search_problem *problem,
				   uint16_t token);
void search_plan_progress_do(struct search_plan_progress *progress,
			     const struct search_problem *problem,
			     uint16_t token);

/*
 * Does each operation of the row come after what it needs on its own rank, and
 * does the row keep within the cap?
 */
bool search_plan_row_is_legal(const struct search_problem *problem,
			      unsigned rank, const uint16_t *tokens,
			      size_t count);

#endif
