/*
 * The search: a schedule for given costs, links and memory.
 *
 * It takes the built-in schedules that fit, plans of its own by list scheduling
 * under many policies, and makes the best of them shorter by small moves on
 * their critical paths, each judged by the simulator. What it returns is valid,
 * bit-identical to any other bit-identical schedule, free of deadlock under the
 * links' posted receives, within the cap, and never slower than the best
 * built-in schedule that is. It also tells how short none can be.
 *
 * The same input gives the same result, unless the time limit cuts it short.
 */
#ifndef STAGECOACH_SCHEDULES_SEARCH_H
#define STAGECOACH_SCHEDULES_SEARCH_H

#include "schedules/schedule.h"
#include "schedules/simulate.h"

#define SCHEDULE_SEARCH_MAX_CHUNKS 64
/* Three to five seconds of one core. */
#define SCHEDULE_SEARCH_EFFORT 500000000ull

/*
 * What schedules of one shape cost: stages = ranks * chunks, placed as a loop or
 * as a V. Fills *costs, with arrays as in simulate.h, and *lowering, which is what
 * the schedule will be lowered with (all zero when called: messages only; with
 * `train` the reductions, the vote and STEP count too). The arrays are copied.
 *
 * 0; -ENOTSUP, silent: there is no such shape (too few layers, say), go on with
 * the others; any other error ends the search.
 */
typedef int schedule_search_costs_fn(void *argument, unsigned chunks,
				     enum schedule_placement placement,
				     struct schedule_costs *costs,
				     struct schedule_lowering *lowering);

struct schedule_search {
	unsigned ranks;
	unsigned micro_batches;
	/*
	 * Stages a rank; with more than one both placements are tried. 0: one,
	 * and two.
	 */
	unsigned chunks;
	schedule_search_costs_fn *costs;
	void *argument;
	/*
	 * [ranks] the most bytes a rank may hold at once, by activation_bytes (which
	 * the costs must then have) and pending_bytes; or NULL.
	 */
	const double *memory_cap;
	/*
	 * Actions to simulate, about: the time it takes is in proportion. 0:
	 * SCHEDULE_SEARCH_EFFORT. The built-in schedules are judged in any case.
	 */
	uint64_t effort;
	int64_t time_limit_ns; /* 0: none */
	uint64_t seed;
};

struct schedule_search_result {
	/* Compute actions only, named "search". */
	struct schedule *schedule;
	unsigned ranks;
	double makespan;    /* simulated, lowered as asked */
	double *peak_bytes; /* [ranks]; zero without activation_bytes */
	/* The best built-in schedule of all shapes; "": none fits. */
	char builtin[SCHEDULE_NAME_BYTES];
	unsigned builtin_chunks;
	double builtin_makespan;
	/* No schedule of any shape tried is shorter, and why (one sentence). */
	double bound;
	char bound_reason[256];
	uint64_t effort; /* spent, in actions simulated */
	bool cut_short;  /* by the time limit */
};

/*
 * -EINVAL, logged: sizes out of range, a cap without activation_bytes, or a cap
 * that no schedule keeps (it says which rank's, and what the least is that
 * would do). -ENOMEM, logged. schedule_search_result_fini() is the caller's on
 * success.
 */
int schedule_search(const struct schedule_search *search,
		    struct schedule_search_result *out) MUST_CHECK;
void schedule_search_result_fini(struct schedule_search_result *result);

#endif
