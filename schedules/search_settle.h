/*
 * Inside the search: puts W right behind its I again wherever that costs no
 * time, and makes the two one B wherever the gradient need not go out between
 * them. Such a schedule reads better, holds no more and often less, and the
 * engine need not keep what I leaves for W.
 */
#ifndef STAGECOACH_SCHEDULES_SEARCH_SETTLE_H
#define STAGECOACH_SCHEDULES_SEARCH_SETTLE_H

#include "schedules/search_judge.h"

/*
 * `plan` must be legal and judged; it gets no worse, but may get better. Ends
 * early after about `steps` actions simulated, or at clock_now_ns() `until`
 * (0: never). -ENOMEM, logged.
 */
int search_settle_plan(const struct search_problem *problem,
		       struct search_judge *judge, struct search_plan *plan,
		       uint64_t steps, int64_t until) MUST_CHECK;

#endif
