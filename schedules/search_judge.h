/*
 * Inside the search: the simulator, for the plans of one problem, which differ in
 * a row or two from one time to the next.
 */
#ifndef STAGECOACH_SCHEDULES_SEARCH_JUDGE_H
#define STAGECOACH_SCHEDULES_SEARCH_JUDGE_H

#include "schedules/search_plan.h"

struct search_judge;

int search_judge_create(const struct search_problem *problem,
			struct search_judge **out) MUST_CHECK;
void search_judge_destroy(struct search_judge *judge);

/* Must be called for each row that has changed (all, of another plan). */
void search_judge_row(struct search_judge *judge,
		      const struct search_plan *plan, unsigned rank);
void search_judge_rows(struct search_judge *judge,
		       const struct search_plan *plan);

/*
 * *makespan is INFINITY at a deadlock, and may be where it is above `limit`
 * (INFINITY: none), which is found out early. With `times` the times of all
 * actions stay for search_judge_times(). -ENOMEM, logged.
 */
int search_judge_run(struct search_judge *judge, bool times, double limit,
		     double *makespan) MUST_CHECK;

/* Rows and run together: judges all of a plan into plan->makespan. */
int search_judge_plan(struct search_judge *judge,
		      struct search_plan *plan) MUST_CHECK;

/* Actions simulated so far: the measure of effort. */
uint64_t search_judge_steps(const struct search_judge *judge);

/* The lowered row, its times, and which token each action belongs to. */
const struct schedule_row *
search_judge_actions(const struct search_judge *judge, unsigned rank);
const struct schedule_time *search_judge_times(const struct search_judge *judge,
					       unsigned rank);
const unsigned *search_judge_tokens(const struct search_judge *judge,
				    unsigned rank);

#endif
