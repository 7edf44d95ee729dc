/*
 * A search at the costs of a setting: for `schedule search`, and for training
 * with --schedule auto.
 */
#ifndef STAGECOACH_TOOLS_SCHEDULE_SEARCH_SETTING_H
#define STAGECOACH_TOOLS_SCHEDULE_SEARCH_SETTING_H

#include "schedules/search.h"
#include "tools/schedule/predict.h"

struct search_setting {
	const struct schedule_setting *setting;
	unsigned ranks;
	unsigned micro_batches;
	unsigned chunks;   /* 0: one, and two */
	double memory_cap; /* bytes of activations a rank; 0: none */
	/* How much longer a leaner one may be: a share of the step. */
	double tolerance;
	uint64_t effort; /* 0: the search's own */
	double seconds;  /* to take at most; 0: no limit */
	uint64_t seed;
};

/*
 * As schedule_search(). Without a cap, and where the costs tell bytes: of two
 * schedules as short as each other (see tolerance) the one that fits into the memory of the best
 * built-in one.
 */
int search_at_setting(const struct search_setting *search,
		      struct schedule_search_result *out) MUST_CHECK;

#endif
