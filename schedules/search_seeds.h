/*
 * Inside the search: first plans by list scheduling. A set of policies that suit
 * common cases is tried, then the best of them is changed step by step.
 */
#ifndef STAGECOACH_SCHEDULES_SEARCH_SEEDS_H
#define STAGECOACH_SCHEDULES_SEARCH_SEEDS_H

#include "base/random.h"
#include "schedules/search_judge.h"

struct search_seeds_effort {
	uint64_t
		steps; /* as search_judge_steps(); some plans are made anyhow */
	int64_t until; /* clock_now_ns() at which to stop; 0: never */
	double goal;   /* a makespan as good as any: stop there */
	struct random_key key;
};

/*
 * *common is the best plan of the set, *tuned that after the changes; both
 * legal, all B split, judged (INFINITY where none was found). *steps is the
 * effort it took beside the judge's own. -ENOMEM, logged.
 */
int search_seeds_find(const struct search_problem *problem,
		      struct search_judge *judge,
		      const struct search_seeds_effort *effort,
		      struct search_plan *common, struct search_plan *tuned,
		      uint64_t *steps) MUST_CHECK;

#endif
