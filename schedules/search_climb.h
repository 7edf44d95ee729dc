/*
 * Inside the search: improves a plan by small moves along its critical path,
 * judged by the simulator. It accepts some that make it worse, fewer and fewer
 * (simulated annealing), and keeps the best.
 *
 * As in job-shop scheduling (Nowicki and Smutnicki, "A fast taboo search
 * algorithm for the job shop problem", Management Science 42(6), 1996; Balas and
 * Vazacopoulos, 44(2), 1998) only a move that takes an operation out of a
 * block of the critical path, to before its first or behind its last
 * operation, can make the whole shorter.
 */
#ifndef STAGECOACH_SCHEDULES_SEARCH_CLIMB_H
#define STAGECOACH_SCHEDULES_SEARCH_CLIMB_H

#include "base/random.h"
#include "schedules/search_judge.h"

struct search_climb;

int search_climb_create(const struct search_problem *problem,
			struct search_judge *judge,
			struct search_climb **out) MUST_CHECK;
void search_climb_destroy(struct search_climb *climb);

struct search_climb_effort {
	uint64_t steps; /* actions to simulate, about */
	int64_t until;  /* clock_now_ns() at which to stop; 0: never */
	double heat;    /* share of the makespan accepted as loss at first */
	double goal;    /* a makespan as good as any: stop there */
	struct random_key key;
};

/*
 * `plan` must be legal and judged; all its B are split. It is replaced by the
 * best plan found, never a worse one. -ENOMEM, logged.
 */
int search_climb_run(struct search_climb *climb, struct search_plan *plan,
		     const struct search_climb_effort *effort) MUST_CHECK;

#endif
