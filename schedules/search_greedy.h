/*
 * Inside the search: a list scheduler. It lets the ranks run in model time and
 * decides for each, whenever it is free, which of the operations that are
 * possible it does next. What it prefers is a policy; the search tries many.
 */
#ifndef STAGECOACH_SCHEDULES_SEARCH_GREEDY_H
#define STAGECOACH_SCHEDULES_SEARCH_GREEDY_H

#include "schedules/search_plan.h"

struct policy {
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
int policy_init(struct policy *policy,
		const struct search_problem *problem) MUST_CHECK;
void policy_fini(struct policy *policy);
void policy_copy(struct policy *to, const struct policy *from, unsigned stages);

struct greedy;

int greedy_create(const struct search_problem *problem,
		  struct greedy **out) MUST_CHECK;
void greedy_destroy(struct greedy *greedy);

/*
 * Fills the plan, which keeps within the cap; it is not judged. *finished is
 * false where the ranks came to a stop: then the plan is none. -ENOMEM, logged.
 */
int greedy_run(struct greedy *greedy, const struct policy *policy,
	       struct plan *plan, bool *finished) MUST_CHECK;

/* Operations scheduled so far: a measure of effort, as plan_judge_steps(). */
uint64_t greedy_steps(const struct greedy *greedy);

#endif
