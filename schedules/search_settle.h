/*
 * Inside the search: puts W right behind its I again, as one B, wherever that
 * costs no time. Such a schedule reads better, holds no more and often less, and the
 * engine need not keep what I leaves for W.
 */
#ifndef STAGECOACH_SCHEDULES_SEARCH_SETTLE_H
#define STAGECOACH_SCHEDULES_SEARCH_SETTLE_H

#include "schedules/search_plan.h"

/*
 * `plan` must be legal and judged; it gets no worse, but may get better. Ends
 * early after about `steps` actions simulated, or at clock_now_ns() `until`
 * (0: never). -ENOMEM, logged.
 */
int settle_plan(const struct search_problem *problem, struct plan_judge *judge,
		struct plan *plan, uint64_t steps, int64_t until) MUST_CHECK;

#endif
