/*
 * Policies for the list scheduler: see search_seeds.h.
 */
#include "schedules/search_seeds.h"
#include "base/clock.h"
#include "base/log.h"
#include "schedules/search_greedy.h"
#include "schedules/walk.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>

/* What a decision of the list scheduler costs, in actions simulated. */
#define GREEDY_STEP 12
/* Policies tried whatever the effort: the first of the set. */
#define LEAST_TRIES 24

struct seeds {
	const struct search_problem *problem;
	struct search_judge *judge;
	const struct search_seeds_effort *effort;
	struct search_greedy *greedy;
	struct search_policy policy;
	struct search_policy best;
	unsigned
		*base; /* [stages] Fs it takes to fill the way there and back */
	struct search_plan plan;
	uint64_t first_steps;
	uint64_t counter;
	unsigned tries;
};

static uint64_t steps_of(const struct seeds *seeds)
{
	return search_judge_steps(seeds->judge) - seeds->first_steps +
	       GREEDY_STEP * search_greedy_steps(seeds->greedy);
}

static bool is_spent(const struct seeds *seeds)
{
	if (seeds->effort->until && clock_now_ns() > seeds->effort->until)
		return true;
	return seeds->tries >= LEAST_TRIES &&
	       steps_of(seeds) >= seeds->effort->steps;
}

static unsigned draw(struct seeds *seeds, unsigned bound)
{
	return (unsigned)random_below(seeds->effort->key, seeds->counter++,
				      bound);
}

/* The plan of seeds->policy, judged. */
static int try_policy(struct seeds *seeds)
{
	bool finished;
	int error = search_greedy_run(seeds->greedy, &seeds->policy,
				      &seeds->plan, &finished);

	seeds->tries++;
	if (error || !finished)
		return error;
	return search_judge_plan(seeds->judge, &seeds->plan);
}

/*
 * As many Fs as keep a stage from running dry until its first gradient is back, at
 * the pace of the slowest rank.
 */
static void find_base(struct seeds *seeds)
{
	const struct search_problem *problem = seeds->problem;
	double slowest = 0;
	double way = 0;

	for (unsigned rank = 0; rank < problem->ranks; rank++) {
		const unsigned *stages =
			&problem->stage_of_rank[rank * problem->chunks];
		double work = 0;

		for (unsigned c = 0; c < problem->chunks; c++)
			work += problem->price[token_of(stages[c],
							ACTION_FORWARD)] +
				problem->price[token_of(stages[c],
							ACTION_BACKWARD)];
		slowest = MAX(slowest, work);
	}
	for (unsigned s = problem->stages; s-- > 0;) {
		way += problem->price[token_of(s, ACTION_FORWARD)] +
		       problem->price[token_of(s, ACTION_BACKWARD_INPUT)];
		if (s + 1 < problem->stages && !problem->gradient_here[s])
			way += link_latency(&problem->costs,
					    2 * (size_t)s + 2) +
			       link_latency(&problem->costs, 2 * (size_t)s + 1);
		seeds->base[s] = problem->micro_batches;
		if (slowest > 0)
			seeds->base[s] =
				(unsigned)MIN(ceil(way / slowest),
					      (double)problem->micro_batches);
	}
}

/* The set. */

/* Flights: the base and a few more, twice the base, any number. */
static void set_flights(struct seeds *seeds, unsigned kind)
{
	unsigned most = seeds->problem->micro_batches;

	for (unsigned s = 0; s < seeds->problem->stages; s++) {
		unsigned flights = seeds->base[s];

		if (kind < 4)
			flights += kind;
		else if (kind < 6)
			flights = 2 * flights + kind - 4;
		else
			flights = most;
		seeds->policy.flights[s] = MAX(1u, MIN(flights, most));
	}
}

static void set_lag(struct seeds *seeds, unsigned kind)
{
	for (unsigned s = 0; s < seeds->problem->stages; s++)
		seeds->policy.lag[s] =
			kind == 2 ? seeds->problem->micro_batches : kind;
}

#define FLIGHT_KINDS 7
#define LAG_KINDS    3
#define ORDER_KINDS  8 /* three choices of two */
#define WAIT_KINDS   3

static void set_policy(struct seeds *seeds, unsigned index)
{
	struct search_policy *policy = &seeds->policy;

	set_flights(seeds, index % FLIGHT_KINDS);
	index /= FLIGHT_KINDS;
	/* W last of all first: it is best as a rule. */
	set_lag(seeds, LAG_KINDS - 1 - index % LAG_KINDS);
	index /= LAG_KINDS;
	policy->patience = index % WAIT_KINDS * 0.5;
	index /= WAIT_KINDS;
	policy->forward_first = index & 1;
	policy->later_forward = !(index & 2);
	policy->later_input = index & 4;
}

static int try_set(struct seeds *seeds, struct search_plan *common)
{
	unsigned orders = seeds->problem->chunks > 1 ? ORDER_KINDS : 2;
	unsigned count = FLIGHT_KINDS * LAG_KINDS * WAIT_KINDS * orders;
	int error = 0;

	for (unsigned i = 0; i < count && !error && !is_spent(seeds) &&
			     common->makespan > seeds->effort->goal;
	     i++) {
		/* Spread over the set, as it may end early: 17 divides none. */
		set_policy(seeds, i * 17 % count);
		error = try_policy(seeds);
		if (error || seeds->plan.makespan >= common->makespan)
			continue;
		search_plan_copy(common, &seeds->plan, seeds->problem->ranks);
		search_policy_copy(&seeds->best, &seeds->policy,
				   seeds->problem->stages);
	}
	return error;
}

/* Changes. */

static unsigned nudge(struct seeds *seeds, unsigned value, unsigned least,
		      unsigned by)
{
	unsigned most = seeds->problem->micro_batches;
	unsigned step = 1 + draw(seeds, by);

	if (draw(seeds, 2))
		return value > least + step ? value - step : least;
	return MIN(value + step, most);
}

static void change_order(struct seeds *seeds)
{
	struct search_policy *policy = &seeds->policy;

	switch (draw(seeds, 4)) {
	case 0:
		policy->forward_first = !policy->forward_first;
		break;
	case 1:
		policy->later_forward = !policy->later_forward;
		break;
	case 2:
		policy->later_input = !policy->later_input;
		break;
	default:
		policy->patience = draw(seeds, 3) * 0.5;
	}
}

static void change_policy(struct seeds *seeds)
{
	struct search_policy *policy = &seeds->policy;
	unsigned stages = seeds->problem->stages;
	unsigned stage = draw(seeds, stages);
	unsigned end = stage + 1;
	unsigned what = draw(seeds, 10);

	if (what == 9) {
		change_order(seeds);
		return;
	}
	/* One stage, or a few next to each other. */
	if (draw(seeds, 3) == 0)
		end = stage + 1 + draw(seeds, stages - stage);
	for (; stage < end; stage++)
		if (what < 6)
			policy->flights[stage] =
				nudge(seeds, policy->flights[stage], 1, 2);
		else if (what < 8)
			policy->lag[stage] =
				nudge(seeds, policy->lag[stage], 0, 2);
		else
			policy->lag[stage] =
				policy->lag[stage]
					? 0
					: seeds->problem->micro_batches;
}

/* Accepts what is no worse, and at first what is little worse. */
static int tune(struct seeds *seeds, struct search_plan *tuned)
{
	unsigned stages = seeds->problem->stages;
	double present = tuned->makespan;
	uint64_t begin = steps_of(seeds); /* the set may have used all */
	int error = 0;

	while (!error && !is_spent(seeds) && begin < seeds->effort->steps &&
	       tuned->makespan > seeds->effort->goal) {
		double left = (double)(seeds->effort->steps - steps_of(seeds)) /
			      (double)(seeds->effort->steps - begin);
		double limit =
			present * (1 + 0.003 * left * draw(seeds, 1024) / 1024);

		search_policy_copy(&seeds->policy, &seeds->best, stages);
		for (unsigned changes = 1 + draw(seeds, 3); changes > 0;
		     changes--)
			change_policy(seeds);
		error = try_policy(seeds);
		if (error || seeds->plan.makespan > limit)
			continue;
		present = seeds->plan.makespan;
		search_policy_copy(&seeds->best, &seeds->policy, stages);
		if (present < tuned->makespan)
			search_plan_copy(tuned, &seeds->plan,
					 seeds->problem->ranks);
	}
	return error;
}

static int seeds_init(struct seeds *seeds)
{
	int error = search_greedy_create(seeds->problem, &seeds->greedy);

	if (!error)
		error = search_policy_init(&seeds->policy, seeds->problem);
	if (!error)
		error = search_policy_init(&seeds->best, seeds->problem);
	if (!error)
		error = search_plan_init(&seeds->plan, seeds->problem);
	if (error)
		return error;
	seeds->base = calloc(seeds->problem->stages, sizeof(unsigned));
	if (seeds->base == NULL)
		return fail(-ENOMEM,
			    "no memory to search schedules of %u "
			    "stages",
			    seeds->problem->stages);
	find_base(seeds);
	return 0;
}

int search_seeds_find(const struct search_problem *problem,
		      struct search_judge *judge,
		      const struct search_seeds_effort *effort,
		      struct search_plan *common, struct search_plan *tuned,
		      uint64_t *steps)
{
	struct seeds seeds = {
		.problem = problem,
		.judge = judge,
		.effort = effort,
		.first_steps = search_judge_steps(judge),
	};
	int error = seeds_init(&seeds);

	common->makespan = INFINITY;
	tuned->makespan = INFINITY;
	if (!error)
		error = try_set(&seeds, common);
	if (!error && common->makespan < INFINITY) {
		search_plan_copy(tuned, common, problem->ranks);
		error = tune(&seeds, tuned);
	}
	if (!error)
		*steps = GREEDY_STEP * search_greedy_steps(seeds.greedy);
	free(seeds.base);
	search_plan_fini(&seeds.plan);
	search_policy_fini(&seeds.best);
	search_policy_fini(&seeds.policy);
	search_greedy_destroy(seeds.greedy);
	return error;
}
