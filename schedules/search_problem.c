/*
 * A shape's costs and limits, copied and looked up: see search_problem.h.
 */
#include "schedules/search_problem.h"
#include "base/log.h"
#include "schedules/build.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void price_stages(struct search_problem *problem)
{
	const struct schedule_costs *costs = &problem->costs;
	unsigned stages = problem->stages;

	for (unsigned stage = 0; stage < stages; stage++) {
		double *price = &problem->price[4 * (size_t)stage];
		double forward = costs->forward[stage];
		double weight = costs->weight[stage];

		if (costs->loss_weight_in_forward && stage + 1 == stages) {
			forward += weight;
			weight = 0;
		}
		price[ACTION_FORWARD] = forward;
		price[ACTION_BACKWARD_INPUT] = costs->input[stage];
		price[ACTION_BACKWARD_WEIGHT] = weight;
		price[ACTION_BACKWARD] = costs->input[stage] + weight;
	}
}

static void count_bytes(struct search_problem *problem)
{
	const struct schedule_costs *costs = &problem->costs;

	for (unsigned stage = 0; stage < problem->stages; stage++) {
		double *spare = &problem->spare[problem->rank_of_stage[stage]];

		if (costs->activation_bytes)
			problem->kept[stage] = costs->activation_bytes[stage];
		if (costs->pending_bytes)
			problem->left[stage] = costs->pending_bytes[stage];
		*spare = MAX(*spare, problem->left[stage]);
	}
}

static void place_stages(struct search_problem *problem,
			 const struct schedule *schedule)
{
	const unsigned *rank_of = schedule->rank_of_stage;
	unsigned stages = problem->stages;

	for (unsigned stage = 0; stage < stages; stage++) {
		unsigned rank = rank_of[stage];

		problem->rank_of_stage[stage] = rank;
		/* Both placements lay one stage on each rank, lap by lap. */
		problem->stage_of_rank[rank * problem->chunks +
				       stage / problem->ranks] = stage;
		problem->input_here[stage] =
			stage > 0 && rank_of[stage - 1] == rank;
		problem->gradient_here[stage] =
			stage + 1 < stages && rank_of[stage + 1] == rank;
	}
}

/* A copy that the problem owns; NULL stays NULL. */
static int own(struct search_problem *problem, const void **array, size_t bytes)
{
	void *copy;

	if (*array == NULL || bytes == 0)
		return 0;
	copy = malloc(bytes);
	if (copy == NULL)
		return -ENOMEM;
	ASSERT(problem->owned_count < ARRAY_SIZE(problem->owned));
	problem->owned[problem->owned_count++] = copy;
	memcpy(copy, *array, bytes);
	*array = copy;
	return 0;
}

static int own_arrays(struct search_problem *problem)
{
	struct schedule_costs *costs = &problem->costs;
	const struct {
		const double **array;
		size_t count;
	} arrays[] = {
		{&costs->forward, problem->stages},
		{&costs->input, problem->stages},
		{&costs->weight, problem->stages},
		{&costs->link_latency, 2 * (size_t)problem->stages},
		{&costs->link_bandwidth, 2 * (size_t)problem->stages},
		{&costs->link_bytes, 2 * (size_t)problem->stages},
		{&costs->stage_reduce, problem->stages},
		{&costs->rank_step, problem->ranks},
		{&costs->activation_bytes, problem->stages},
		{&costs->pending_bytes, problem->stages},
	};
	int error = 0;

	for (size_t i = 0; i < ARRAY_SIZE(arrays) && !error; i++) {
		const void *array = *arrays[i].array;

		error = own(problem, &array, arrays[i].count * sizeof(double));
		*arrays[i].array = array;
	}
	if (!error) {
		const void *array = costs->link_buffers;

		error = own(problem, &array,
			    2 * (size_t)problem->stages * sizeof(unsigned));
		costs->link_buffers = array;
	}
	if (!error) {
		const void *array = problem->lowering.ties;

		error = own(problem, &array,
			    problem->lowering.tie_count *
				    sizeof(struct schedule_tie));
		problem->lowering.ties = array;
	}
	return error;
}

int search_problem_init(struct search_problem *problem, unsigned ranks,
			unsigned micro_batches, unsigned chunks,
			enum schedule_placement placement,
			const struct schedule_costs *costs,
			const struct schedule_lowering *lowering,
			const double *cap)
{
	struct schedule *schedule =
		schedule_create("", ranks, chunks, micro_batches, placement);
	size_t stages = (size_t)ranks * chunks;

	if (schedule == NULL)
		return -ENOMEM;
	*problem = (struct search_problem){
		.ranks = ranks,
		.chunks = chunks,
		.stages = (unsigned)stages,
		.micro_batches = micro_batches,
		.placement = placement,
		.costs = *costs,
		.lowering = *lowering,
		.cap = cap,
		.rank_of_stage = calloc(stages, sizeof(unsigned)),
		.stage_of_rank = calloc(stages, sizeof(unsigned)),
		.price = calloc(4 * stages, sizeof(double)),
		.kept = calloc(stages, sizeof(double)),
		.left = calloc(stages, sizeof(double)),
		.spare = calloc(ranks, sizeof(double)),
		.input_here = calloc(stages, sizeof(bool)),
		.gradient_here = calloc(stages, sizeof(bool)),
	};
	if (problem->rank_of_stage == NULL || problem->stage_of_rank == NULL ||
	    problem->price == NULL || problem->kept == NULL ||
	    problem->left == NULL || problem->spare == NULL ||
	    problem->input_here == NULL || problem->gradient_here == NULL ||
	    own_arrays(problem)) {
		search_problem_fini(problem);
		schedule_destroy(schedule);
		return fail(-ENOMEM,
			    "no memory to search schedules of %zu "
			    "stages",
			    stages);
	}
	place_stages(problem, schedule);
	price_stages(problem);
	count_bytes(problem);
	schedule_destroy(schedule);
	return 0;
}

void search_problem_fini(struct search_problem *problem)
{
	while (problem->owned_count > 0)
		free(problem->owned[--problem->owned_count]);
	free(problem->gradient_here);
	free(problem->input_here);
	free(problem->spare);
	free(problem->left);
	free(problem->kept);
	free(problem->price);
	free(problem->stage_of_rank);
	free(problem->rank_of_stage);
	*problem = (struct search_problem){0};
}
