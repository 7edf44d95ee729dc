/*
 * The search: see search.h. Each shape has a track of its own; the plans of all
 * of them compete for what effort is left.
 */
#include "schedules/search.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "base/text.h"
#include "schedules/build.h"
#include "schedules/search_bound.h"
#include "schedules/search_climb.h"
#include "schedules/search_judge.h"
#include "schedules/search_plan.h"
#include "schedules/search_problem.h"
#include "schedules/search_seeds.h"
#include "schedules/search_settle.h"
#include "schedules/walk.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_TRACKS 3
#define SEEDS       3 /* plans a track begins with, at most */
/* Loss that a climb may accept at first, as a share of the makespan. */
#define HEAT 0.004
/* A makespan this near its lower bound has reached it. */
#define GOAL_SLACK (1 + 1e-9)

/* A built-in schedule, as it is. */
struct builtin {
	struct schedule *schedule;
	double makespan;
};

/* The search within one shape. */
struct track {
	struct search_problem problem;
	struct search_judge *judge;
	struct builtin best;
	struct search_bound bound;
};

struct candidate {
	unsigned track;
	struct search_plan plan;
};

struct search {
	const struct schedule_search *asked;
	struct track tracks[MOST_TRACKS];
	unsigned track_count;
	struct candidate candidates[MOST_TRACKS * SEEDS];
	unsigned candidate_count;
	uint64_t effort;
	uint64_t spent_on_seeds;
	int64_t until;
	uint64_t runs;
};

/* Why no shape fits: that which comes nearest. */
struct shortage {
	bool found;
	double ratio; /* of what it takes to what is there */
	double least;
	double cap;
	unsigned rank;
	unsigned chunks;
	enum schedule_placement placement;
};

static bool is_late(const struct search *search)
{
	return search->until && clock_now_ns() > search->until;
}

/* What is asked. */

static bool is_too_large(const struct schedule_search *asked, unsigned chunks)
{
	uint64_t stages = (uint64_t)chunks * asked->ranks;

	return stages > SCHEDULE_MAX_STAGES ||
	       stages * asked->micro_batches * 3 > SCHEDULE_MAX_ACTIONS;
}

static int check_asked(const struct schedule_search *asked)
{
	unsigned chunks = MAX(asked->chunks, 1u);

	if (asked->ranks == 0 || asked->micro_batches == 0)
		return fail(-EINVAL,
			    "search: %u stages and %u micro-batches; both must "
			    "be at least 1",
			    asked->ranks, asked->micro_batches);
	if (chunks > SCHEDULE_SEARCH_MAX_CHUNKS)
		return fail(-EINVAL,
			    "search: %u chunks a rank are more than %u", chunks,
			    SCHEDULE_SEARCH_MAX_CHUNKS);
	if (asked->micro_batches > SCHEDULE_MAX_MICRO_BATCHES ||
	    is_too_large(asked, chunks))
		return fail(-EINVAL,
			    "search: %u ranks of %u chunk%s and %u "
			    "micro-batches are too many actions",
			    asked->ranks, chunks, chunks == 1 ? "" : "s",
			    asked->micro_batches);
	return 0;
}

static bool is_cost(double cost)
{
	return cost >= 0 && cost < INFINITY;
}

static int check_costs(const struct schedule_search *asked, unsigned chunks,
		       const struct schedule_costs *costs)
{
	for (unsigned stage = 0; stage < chunks * asked->ranks; stage++)
		if (!is_cost(costs->forward[stage]) ||
		    !is_cost(costs->input[stage]) ||
		    !is_cost(costs->weight[stage]))
			return fail(-EINVAL,
				    "search: the costs of stage %u are "
				    "negative or no numbers",
				    stage);
	if (asked->memory_cap && costs->activation_bytes == NULL)
		return fail(-EINVAL, "search: a memory cap needs the bytes of "
				     "activations");
	return 0;
}

/* Tracks. */

static bool fits_cap(const struct search_problem *problem,
		     struct shortage *shortage)
{
	struct shortage here = {.found = true,
				.chunks = problem->chunks,
				.placement = problem->placement};

	for (unsigned rank = 0; problem->cap && rank < problem->ranks; rank++) {
		double least = search_least_bytes(problem, rank);
		double cap = problem->cap[rank];

		if (cap_is_kept(least, cap) || least / cap <= here.ratio)
			continue;
		here.ratio = least / cap;
		here.least = least;
		here.cap = cap;
		here.rank = rank;
	}
	if (here.ratio == 0)
		return true;
	if (!shortage->found || here.ratio < shortage->ratio)
		*shortage = here;
	return false;
}

static void track_close(struct track *track)
{
	schedule_destroy(track->best.schedule);
	search_judge_destroy(track->judge);
	search_problem_fini(&track->problem);
	*track = (struct track){0};
}

static int track_fill(struct track *track)
{
	int error = search_bound_find(&track->problem, &track->bound);

	return error ? error
		     : search_judge_create(&track->problem, &track->judge);
}

/* Adds a track, unless there is no such shape or it cannot fit. */
static int open_track(struct search *search, unsigned chunks,
		      enum schedule_placement placement,
		      struct shortage *shortage)
{
	const struct schedule_search *asked = search->asked;
	struct track *track = &search->tracks[search->track_count];
	struct schedule_lowering lowering = {0};
	struct schedule_costs costs = {.buffers = SCHEDULE_BUFFERS_ANY};
	int error = asked->costs(asked->argument, chunks, placement, &costs,
				 &lowering);

	if (error)
		return error == -ENOTSUP ? 0 : error;
	error = check_costs(asked, chunks, &costs);
	if (error)
		return error;
	error = search_problem_init(&track->problem, asked->ranks,
				    asked->micro_batches, chunks, placement,
				    &costs, &lowering, asked->memory_cap);
	if (error)
		return error;
	if (!fits_cap(&track->problem, shortage)) {
		track_close(track);
		return 0;
	}
	track->best.makespan = INFINITY;
	error = track_fill(track);
	if (error)
		track_close(track);
	else
		search->track_count++;
	return error;
}

static const char *placement_text(unsigned chunks,
				  enum schedule_placement placement)
{
	if (chunks == 1)
		return "";
	return placement == SCHEDULE_PLACEMENT_V ? " as a V" : " as a loop";
}

static int open_tracks(struct search *search)
{
	unsigned asked = search->asked->chunks;
	/* Two are tried beside one, if there can be so many stages. */
	bool one = asked <= 1;
	unsigned several = asked ? asked : 2;
	bool more = several > 1 && !is_too_large(search->asked, several);
	struct shortage shortage = {0};
	int error = 0;

	if (one)
		error = open_track(search, 1, SCHEDULE_PLACEMENT_LOOP,
				   &shortage);
	if (!error && more)
		error = open_track(search, several, SCHEDULE_PLACEMENT_LOOP,
				   &shortage);
	if (!error && more)
		error = open_track(search, several, SCHEDULE_PLACEMENT_V,
				   &shortage);
	if (error || search->track_count > 0)
		return error;
	if (!shortage.found)
		return fail(-EINVAL,
			    "search: the model has no stages for %u "
			    "ranks",
			    search->asked->ranks);
	return fail(-EINVAL,
		    "search: no schedule keeps the memory cap: on rank %u one "
		    "micro-batch alone holds %.15g bytes in %u chunk%s%s, and "
		    "the cap is %.15g; that is the least any schedule needs",
		    shortage.rank, shortage.least, shortage.chunks,
		    shortage.chunks == 1 ? "" : "s",
		    placement_text(shortage.chunks, shortage.placement),
		    shortage.cap);
}

/* Built-in schedules. */

static bool keeps_cap(const struct search_problem *problem,
		      const struct schedule *schedule)
{
	for (unsigned rank = 0; problem->cap && rank < problem->ranks; rank++)
		if (!cap_is_kept(schedule_peak_bytes(schedule, rank,
						     &problem->costs, NULL),
				 problem->cap[rank]))
			return false;
	return true;
}

/* As schedule_simulate(), but silent about a deadlock. */
static int walk_schedule(const struct search_problem *problem,
			 const struct schedule *schedule, double *makespan)
{
	struct schedule *lowered = NULL;
	struct walk *walk = NULL;
	bool finished = false;
	int error = schedule_lower(schedule, &problem->lowering, &lowered);

	if (!error)
		error = walk_create(lowered, &walk);
	if (!error)
		error = walk_run(walk, &problem->costs, NULL, &finished);
	if (!error)
		*makespan = finished ? walk_makespan(walk) : INFINITY;
	walk_destroy(walk);
	schedule_destroy(lowered);
	return error;
}

/* The built-in schedule of a kind; NULL: it does not fit, or trains nothing. */
static int generate_kind(const struct search_problem *problem,
			 const struct schedule_kind *kind,
			 struct schedule **out)
{
	char why[256];
	int error;

	*out = NULL;
	if (kind->placement != problem->placement ||
	    kind->check(problem->ranks, problem->micro_batches, problem->chunks,
			why, sizeof(why)))
		return 0;
	error = schedule_generate(kind->name, problem->ranks,
				  problem->micro_batches, problem->chunks, out);
	if (!error && ((*out)->forward_only || !keeps_cap(problem, *out))) {
		schedule_destroy(*out);
		*out = NULL;
	}
	return error;
}

/* The best as it is, and the best as a plan with I and W apart. */
static int try_kind(struct track *track, const struct schedule_kind *kind,
		    struct search_plan *plan, struct search_plan *best)
{
	const struct search_problem *problem = &track->problem;
	struct schedule *schedule;
	double makespan = INFINITY;
	int error = generate_kind(problem, kind, &schedule);

	if (error || schedule == NULL)
		return error;
	error = walk_schedule(problem, schedule, &makespan);
	if (!error && search_plan_read(plan, problem, schedule)) {
		search_plan_split(plan, problem->ranks);
		error = search_judge_plan(track->judge, plan);
		if (!error && plan->makespan < best->makespan)
			search_plan_copy(best, plan, problem->ranks);
	}
	if (!error && makespan < track->best.makespan) {
		schedule_destroy(track->best.schedule);
		track->best = (struct builtin){schedule, makespan};
		schedule = NULL;
	}
	schedule_destroy(schedule);
	return error;
}

static int try_kinds(struct track *track, struct search_plan *best)
{
	struct search_plan plan;
	int error = search_plan_init(&plan, &track->problem);

	for (size_t i = 0; i < schedule_kind_count() && !error; i++)
		error = try_kind(track, schedule_kind_at(i), &plan, best);
	search_plan_fini(&plan);
	return error;
}

/* Candidates. */

/* An empty plan to be filled; it counts when candidate_keep() says so. */
static int candidate_open(struct search *search, unsigned track,
			  struct candidate **out)
{
	struct candidate *candidate =
		&search->candidates[search->candidate_count];
	int error = search_plan_init(&candidate->plan,
				     &search->tracks[track].problem);

	if (error)
		return error;
	candidate->track = track;
	search->candidate_count++;
	*out = candidate;
	return 0;
}

static double best_so_far(const struct search *search)
{
	double best = INFINITY;

	for (unsigned i = 0; i < search->candidate_count; i++)
		best = MIN(best, search->candidates[i].plan.makespan);
	return best;
}

static int find_seeds(struct search *search, unsigned index)
{
	struct track *track = &search->tracks[index];
	struct search_seeds_effort effort = {
		.steps = search->effort / 5 / search->track_count,
		.until = search->until,
		.goal = track->bound.makespan * GOAL_SLACK,
		.key = random_key_numbered(search->asked->seed, 0, index, 0),
	};
	struct candidate *first, *common, *tuned;
	uint64_t steps = 0;
	int error = candidate_open(search, index, &first);

	if (!error)
		error = candidate_open(search, index, &common);
	if (!error)
		error = candidate_open(search, index, &tuned);
	if (!error)
		error = try_kinds(track, &first->plan);
	if (!error && track->bound.makespan * GOAL_SLACK < best_so_far(search))
		error = search_seeds_find(&track->problem, track->judge,
					  &effort, &common->plan, &tuned->plan,
					  &steps);
	if (error)
		return error;
	search->spent_on_seeds += steps;
	/* Under a cap so tight, or rendezvous, that nothing else is there. */
	if (first->plan.makespan == INFINITY) {
		search_plan_fill_sequential(&first->plan, &track->problem);
		error = search_judge_plan(track->judge, &first->plan);
	}
	return error;
}

static int compare_candidates(const void *a, const void *b)
{
	const struct candidate *x = a;
	const struct candidate *y = b;

	if (x->plan.makespan != y->plan.makespan)
		return x->plan.makespan < y->plan.makespan ? -1 : 1;
	if (x->track != y->track)
		return x->track < y->track ? -1 : 1;
	return 0;
}

/* Can a candidate still become the best? */
static bool has_hope(const struct search *search,
		     const struct candidate *candidate)
{
	double best = search->candidates[0].plan.makespan;
	double bound = search->tracks[candidate->track].bound.makespan;

	return candidate->plan.makespan < INFINITY && bound * GOAL_SLACK < best;
}

/* Best first; of the rest `keep` - 1 at most that have hope. */
static void keep_candidates(struct search *search, unsigned keep)
{
	unsigned kept = 1;

	qsort(search->candidates, search->candidate_count,
	      sizeof(search->candidates[0]), compare_candidates);
	for (unsigned i = 1; i < search->candidate_count; i++) {
		struct candidate *candidate = &search->candidates[i];

		if (kept < keep && has_hope(search, candidate))
			search->candidates[kept++] = *candidate;
		else
			search_plan_fini(&candidate->plan);
	}
	search->candidate_count = kept;
}

/* The least of the tracks' bounds: nothing can be better. */
static double least_bound(const struct search *search, unsigned *track)
{
	*track = 0;
	for (unsigned i = 1; i < search->track_count; i++)
		if (search->tracks[i].bound.makespan <
		    search->tracks[*track].bound.makespan)
			*track = i;
	return search->tracks[*track].bound.makespan;
}

static int climb_one(struct search *search, struct candidate *candidate,
		     uint64_t steps)
{
	struct track *track = &search->tracks[candidate->track];
	struct search_climb_effort effort = {
		.steps = steps,
		.until = search->until,
		.heat = HEAT,
		.goal = track->bound.makespan * GOAL_SLACK,
		.key = random_key_numbered(search->asked->seed, 1,
					   search->runs++, 0),
	};
	struct search_climb *climb;
	int error = search_climb_create(&track->problem, track->judge, &climb);

	if (error)
		return error;
	error = search_climb_run(climb, &candidate->plan, &effort);
	search_climb_destroy(climb);
	return error;
}

static int climb_all(struct search *search, uint64_t steps)
{
	unsigned count = search->candidate_count;
	unsigned unused;
	double least = least_bound(search, &unused);
	int error = 0;

	for (unsigned i = 0; i < count && !error && !is_late(search); i++) {
		if (best_so_far(search) <= least * GOAL_SLACK)
			break;
		error = climb_one(search, &search->candidates[i],
				  steps / count);
	}
	return error;
}

/* In each round fewer of them, for longer. */
static int climb_rounds(struct search *search)
{
	static const struct {
		unsigned keep;
		double share; /* of the effort */
	} rounds[] = {{MOST_TRACKS * SEEDS, 0.2}, {3, 0.25}, {1, 0.3}};
	int error = 0;

	for (size_t i = 0; i < ARRAY_SIZE(rounds) && !error; i++) {
		keep_candidates(search, rounds[i].keep);
		if (!is_late(search))
			error = climb_all(search,
					  (uint64_t)(rounds[i].share *
						     (double)search->effort));
	}
	keep_candidates(search, 1);
	return error;
}

/* The result. */

static void choose_builtin(const struct search *search,
			   struct schedule_search_result *result,
			   const struct builtin **best, unsigned *track)
{
	result->builtin_makespan = INFINITY;
	*best = NULL;
	for (unsigned i = 0; i < search->track_count; i++) {
		const struct builtin *builtin = &search->tracks[i].best;

		if (builtin->makespan >= result->builtin_makespan)
			continue;
		*best = builtin;
		*track = i;
		result->builtin_makespan = builtin->makespan;
		result->builtin_chunks = builtin->schedule->chunks;
		(void)text_copy(result->builtin, sizeof(result->builtin),
				builtin->schedule->name);
	}
}

/* What the search promises, proven on what it hands out. */
static int prove(const struct schedule *lowered)
{
	struct schedule_report report;
	int error = schedule_validate(lowered, SCHEDULE_BUFFERS_ANY, &report);

	ASSERT(error != -EINVAL && (error || report.bit_identical));
	schedule_report_fini(&report);
	return error;
}

/* Takes over the schedule, and reads off what it is. */
static int describe(struct schedule_search_result *result,
		    const struct search_problem *problem,
		    struct schedule *schedule)
{
	struct schedule_simulation simulation;
	struct schedule *lowered = NULL;
	int error;

	result->schedule = schedule;
	result->ranks = schedule->ranks;
	result->peak_bytes = calloc(schedule->ranks, sizeof(double));
	if (result->peak_bytes == NULL)
		return fail(-ENOMEM, "no memory for a schedule's peaks");
	error = schedule_lower(schedule, &problem->lowering, &lowered);
	if (!error)
		error = prove(lowered);
	if (!error)
		error = schedule_simulate(lowered, &problem->costs, false,
					  &simulation);
	schedule_destroy(lowered);
	if (error)
		return error;
	result->makespan = simulation.makespan;
	memcpy(result->peak_bytes, simulation.peak_bytes,
	       schedule->ranks * sizeof(double));
	schedule_simulation_fini(&simulation);
	return 0;
}

static int finish(struct search *search, struct schedule_search_result *result)
{
	struct candidate *candidate = &search->candidates[0];
	struct track *track = &search->tracks[candidate->track];
	const struct builtin *builtin;
	struct schedule *schedule;
	unsigned builtin_track = 0;
	int error;

	error = search_settle_plan(&track->problem, track->judge,
				   &candidate->plan, search->effort / 20,
				   search->until);
	if (error)
		return error;
	choose_builtin(search, result, &builtin, &builtin_track);
	if (builtin && builtin->makespan < candidate->plan.makespan) {
		track = &search->tracks[builtin_track];
		schedule = track->best.schedule;
		track->best.schedule = NULL;
		(void)text_copy(schedule->name, sizeof(schedule->name),
				"search");
	} else {
		schedule = search_plan_schedule(&candidate->plan,
						&track->problem, "search");
	}
	return schedule ? describe(result, &track->problem, schedule) : -ENOMEM;
}

static void tell_bound(const struct search *search,
		       struct schedule_search_result *result)
{
	unsigned track;

	result->bound = least_bound(search, &track);
	/* Reached, but for rounding. */
	if (result->makespan < result->bound &&
	    result->bound <= result->makespan * GOAL_SLACK)
		result->bound = result->makespan;
	(void)text_copy(result->bound_reason, sizeof(result->bound_reason),
			search->tracks[track].bound.reason);
}

static void search_fini(struct search *search)
{
	for (unsigned i = 0; i < search->candidate_count; i++)
		search_plan_fini(&search->candidates[i].plan);
	for (unsigned i = 0; i < search->track_count; i++)
		track_close(&search->tracks[i]);
}

void schedule_search_result_fini(struct schedule_search_result *result)
{
	schedule_destroy(result->schedule);
	free(result->peak_bytes);
	*result = (struct schedule_search_result){0};
}

static int search_run(struct search *search,
		      struct schedule_search_result *result)
{
	int error = open_tracks(search);

	for (unsigned i = 0; i < search->track_count && !error; i++)
		error = find_seeds(search, i);
	if (!error)
		error = climb_rounds(search);
	if (!error)
		error = finish(search, result);
	if (error)
		return error;
	tell_bound(search, result);
	result->cut_short = is_late(search);
	result->effort = search->spent_on_seeds;
	for (unsigned i = 0; i < search->track_count; i++)
		result->effort += search_judge_steps(search->tracks[i].judge);
	return 0;
}

int schedule_search(const struct schedule_search *asked,
		    struct schedule_search_result *out)
{
	struct schedule_search_result result = {0};
	struct search search = {
		.asked = asked,
		.effort =
			asked->effort ? asked->effort : SCHEDULE_SEARCH_EFFORT,
		.until = asked->time_limit_ns
				 ? clock_now_ns() + asked->time_limit_ns
				 : 0,
	};
	int error = check_asked(asked);

	if (error)
		return error;
	error = search_run(&search, &result);
	search_fini(&search);
	if (error)
		schedule_search_result_fini(&result);
	else
		*out = result;
	return error;
}
