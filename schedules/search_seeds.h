/*
 * Inside the search: first plans by list scheduling. A set of policies that suit
 * common cases is tried, then the best of them is changed step by step.
 */
#ifndef STAGECOACH_SCHEDULES_SEARCH_SEEDS_H
#define STAGECOACH_SCHEDULES_SEARCH_SEEDS_H

#include "base/random.h"
#include "schedules/search_plan.h"

struct seeds_effort {
	uint64_t steps; /* as plan_judge_steps(); some plans are made anyhow */
	int64_t until;  /* clock_now_ns() at which to stop; 0: never */
	double goal;    /* a makespan as good as any: stop there */
	struct random_key key;
};

/*
 * *common is the best plan of the set, *tuned that after the changes; both
 * legal, all B split, judged (INFINITY where none was found). *steps is the
 * effort it took. -ENOMEM, logged.
 */
int seeds_find(const struct search_problem *problem, struct plan_judge *judge,
	       const struct seeds_effort *effort, struct plan *common,
	       struct plan *tuned, uint64_t *steps) MUST_CHECK;

#endif
