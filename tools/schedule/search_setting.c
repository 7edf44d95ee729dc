/* What the search asks for, from a setting: see search_setting.h. */
#include "tools/schedule/search_setting.h"
#include "base/clock.h"
#include "base/log.h"
#include <errno.h>
#include <stdio.h>

struct asked {
	const struct search_setting *search;
	/* What the last answer points to. */
	unsigned *rank_of_stage;
	struct partition *partition;
	double *storage;
	struct schedule_tie tie;
};

static void forget(struct asked *asked)
{
	free(asked->rank_of_stage);
	free(asked->partition);
	free(asked->storage);
	asked->rank_of_stage = NULL;
	asked->partition = NULL;
	asked->storage = NULL;
}

/* A schedule of that shape, as far as costs are concerned. */
static int make_shape(struct asked *asked, unsigned chunks,
		      enum schedule_placement placement, struct schedule *out)
{
	unsigned ranks = asked->search->ranks;

	*out = (struct schedule){
		.ranks = ranks,
		.chunks = chunks,
		.stages = ranks * chunks,
		.micro_batches = asked->search->micro_batches,
		.placement = placement,
	};
	asked->rank_of_stage =
		calloc(out->stages, sizeof(*asked->rank_of_stage));
	if (!asked->rank_of_stage)
		return fail(-ENOMEM, "no memory to search a schedule");
	for (unsigned s = 0; s < out->stages; s++) {
		bool back = placement == SCHEDULE_PLACEMENT_V &&
			    (s / ranks) % 2 == 1;

		asked->rank_of_stage[s] =
			back ? ranks - 1 - s % ranks : s % ranks;
	}
	out->rank_of_stage = asked->rank_of_stage;
	return 0;
}

static int answer(void *argument, unsigned chunks,
		  enum schedule_placement placement,
		  struct schedule_costs *costs,
		  struct schedule_lowering *lowering)
{
	struct asked *asked = argument;
	const struct schedule_setting *setting = asked->search->setting;
	struct schedule shape;
	double *between = NULL;
	int rc;

	forget(asked);
	if (setting->costs.kind == COSTS_LAYERS &&
	    asked->search->ranks * chunks > setting->costs.count)
		return -ENOTSUP;
	if (setting->costs.kind == COSTS_STAGES &&
	    asked->search->ranks * chunks != setting->costs.count)
		return -ENOTSUP;
	rc = make_shape(asked, chunks, placement, &shape);
	if (!rc)
		rc = schedule_setting_costs(setting, &shape, &asked->partition,
					    costs, &asked->storage, &between);
	/* The options of a search have no replicas. */
	ASSERT(!between);
	if (!rc)
		schedule_setting_lowering(setting, shape.stages, &asked->tie,
					  lowering);
	return rc;
}

static int search_under(const struct search_setting *search, double cap,
			struct schedule_search_result *out)
{
	struct asked asked = {.search = search};
	double *caps = NULL;
	struct schedule_search ask = {
		.ranks = search->ranks,
		.micro_batches = search->micro_batches,
		.chunks = search->chunks,
		.costs = answer,
		.argument = &asked,
		.effort = search->effort,
		.time_limit_ns =
			(int64_t)(search->seconds * (double)NS_PER_SECOND),
		.seed = search->seed,
	};
	int rc;

	if (cap > 0) {
		caps = calloc(search->ranks, sizeof(*caps));
		if (!caps)
			return fail(-ENOMEM, "no memory to search a schedule");
		for (unsigned r = 0; r < search->ranks; r++)
			caps[r] = cap;
		ask.memory_cap = caps;
	}
	rc = schedule_search(&ask, out);
	forget(&asked);
	free(caps);
	return rc;
}

/* The most bytes on a rank of the built-in schedule that did best; 0: none. */
static int builtin_peak(const struct search_setting *search,
			const struct schedule_search_result *found, double *out)
{
	struct schedule_prediction prediction;
	struct schedule *schedule;
	int rc;

	*out = 0;
	if (!found->builtin[0])
		return 0;
	rc = schedule_generate(found->builtin, search->ranks,
			       search->micro_batches, found->builtin_chunks,
			       &schedule);
	if (rc)
		return rc;
	rc = schedule_prediction_init(&prediction, schedule, search->setting,
				      NULL, SCHEDULE_PREDICT_UNPROVEN);
	schedule_destroy(schedule);
	if (rc)
		return rc;
	for (unsigned r = 0;
	     prediction.activation_bytes && r < prediction.simulation.ranks;
	     r++)
		*out = MAX(*out, prediction.simulation.peak_bytes[r]);
	schedule_prediction_fini(&prediction);
	return 0;
}

/*
 * Without a cap the search may fill a rank with every micro-batch there is,
 * for nothing: what is as short within the memory of the best built-in schedule
 * is better.
 */
static int prefer_lean(const struct search_setting *search,
		       struct schedule_search_result *found)
{
	struct schedule_search_result lean;
	double most = 0, cap;
	int rc = builtin_peak(search, found, &cap);

	for (unsigned r = 0; r < found->ranks; r++)
		most = MAX(most, found->peak_bytes[r]);
	if (rc || cap <= 0 || most <= cap)
		return rc;
	rc = search_under(search, cap, &lean);
	if (rc)
		return rc;
	if (lean.makespan <= found->makespan * (1 + search->tolerance)) {
		struct schedule_search_result swap = lean;

		/* What was proven without the cap holds for all. */
		swap.bound = found->bound;
		snprintf(swap.bound_reason, sizeof(swap.bound_reason), "%s",
			 found->bound_reason);
		lean = *found;
		*found = swap;
	}
	schedule_search_result_fini(&lean);
	return 0;
}

int search_at_setting(const struct search_setting *search,
		      struct schedule_search_result *out)
{
	int rc = search_under(search, search->memory_cap, out);

	if (rc || search->memory_cap > 0)
		return rc;
	rc = prefer_lean(search, out);
	if (rc)
		schedule_search_result_fini(out);
	return rc;
}
