/*
 * Inside the search: a list scheduler. It lets the ranks run in model time and
 * decides for each, whenever it is free, which of the operations that are
 * possible it does next. What it prefers is a policy; the search tries many.
 */
#ifndef STAGECOACH_SCHEDULES_SEARCH_GREEDY_H
#define STAGECOACH_SCHEDULES_SEARCH_GREEDY_H

#include "schedules/search_plan.h"

struct search_policy {
	unsigned *flights;  /* [stages] F less I, at most; at least 1 */
	unsigned *lag;      /* [stages] I less W, beyond which W goes first */
	bool forward_first; /* F before I where both can be done */
	bool later_forward; /* of two Fs that of the later stage */
	bool later_input;
	/*
	 * Where only a W can be done and an F or I is about to come: wait for
	 * it if W would delay it by more than this share of W.
	 */
	double patience;
};

/* -ENOMEM, logged. */
int search_policy_init(struct search_policy *policy,
		       const struct search_problem *problem) MUST_CHECK;
void search_policy_fini(struct search_policy *policy);
void search_policy_copy(struct search_policy *to,
			const struct search_policy *from, unsigned stages);

struct search_greedy;

int search_greedy_create(const struct search_problem *problem,
			 struct search_greedy **out) MUST_CHECK;
void search_greedy_destroy(struct search_greedy *greedy);

/*
 * Fills the plan, which keeps within the cap; it is not judged. *finished is
 * false where the ranks came to a stop: then the plan is none. -ENOMEM, logged.
 */
int search_greedy_run(struct search_greedy *greedy,
		      const struct search_policy *policy,
		      struct search_plan *plan, bool *finished) MUST_CHECK;

/* Operations scheduled so far: a measure of effort, as search_judge_steps(). */
uint64_t search_greedy_steps(const struct search_greedy *greedy);

#endif
