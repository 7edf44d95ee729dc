/*
 * The simulator: costs for the walk, and what it leaves made readable.
 */
#include "schedules/simulate.h"
#include "base/log.h"
#include "schedules/build.h"
#include "schedules/walk.h"
#include <errno.h>
#include <stdlib.h>

static void record(void *argument, unsigned rank, size_t position, double start,
		   double end)
{
	struct schedule_simulation *simulation = argument;

	simulation->times[rank][position].start = start;
	simulation->times[rank][position].end = end;
}

static int simulation_init(struct schedule_simulation *simulation,
			   const struct schedule *schedule, bool times)
{
	unsigned ranks = schedule->ranks;

	*simulation = (struct schedule_simulation){.ranks = ranks};
	simulation->idle = calloc(ranks, sizeof(double));
	simulation->busy = calloc(ranks, sizeof(double));
	simulation->window = calloc(ranks, sizeof(double));
	simulation->peak_bytes = calloc(ranks, sizeof(double));
	simulation->peak_activations = calloc(ranks, sizeof(unsigned));
	if (times)
		simulation->times = calloc(ranks, sizeof(*simulation->times));
	if (simulation->idle == NULL || simulation->busy == NULL ||
	    simulation->window == NULL || simulation->peak_bytes == NULL ||
	    simulation->peak_activations == NULL ||
	    (times && simulation->times == NULL))
		return -ENOMEM;
	for (unsigned rank = 0; times && rank < ranks; rank++) {
		simulation->times[rank] = calloc(schedule->rows[rank].count + 1,
						 sizeof(struct schedule_time));
		if (simulation->times[rank] == NULL)
			return -ENOMEM;
	}
	return 0;
}

void schedule_simulation_fini(struct schedule_simulation *simulation)
{
	for (unsigned rank = 0; simulation->times && rank < simulation->ranks;
	     rank++)
		free(simulation->times[rank]);
	free(simulation->times);
	free(simulation->peak_activations);
	free(simulation->peak_bytes);
	free(simulation->window);
	free(simulation->busy);
	free(simulation->idle);
	*simulation = (struct schedule_simulation){0};
}

/* The loss stage's F with its W in it, the others' as they are. */
static int move_loss_weight(const struct schedule *schedule,
			    struct walk_costs *costs, double **storage)
{
	unsigned stages = schedule->stages;
	double *forward = calloc(2 * (size_t)stages, sizeof(double));
	double *weight = forward + stages;

	if (forward == NULL)
		return -ENOMEM;
	for (unsigned stage = 0; stage < stages; stage++) {
		forward[stage] = costs->forward[stage];
		weight[stage] = costs->weight[stage];
	}
	forward[stages - 1] += weight[stages - 1];
	weight[stages - 1] = 0;
	costs->forward = forward;
	costs->weight = weight;
	*storage = forward;
	return 0;
}

static void read_walk(const struct walk *walk,
		      struct schedule_simulation *simulation)
{
	simulation->makespan = walk_makespan(walk);
	simulation->bubble = 0;
	for (unsigned rank = 0; rank < simulation->ranks; rank++) {
		simulation->busy[rank] = walk_busy(walk, rank);
		simulation->idle[rank] =
			simulation->makespan - simulation->busy[rank];
		simulation->window[rank] = walk_window_idle(walk, rank);
		simulation->bubble += simulation->idle[rank];
	}
	simulation->bubble /= simulation->ranks;
}

static void find_peaks(const struct schedule *schedule,
		       const double *activation_bytes,
		       struct schedule_simulation *simulation)
{
	for (unsigned rank = 0; rank < schedule->ranks; rank++) {
		const struct schedule_row *row = &schedule->rows[rank];
		unsigned *peak = &simulation->peak_activations[rank];
		double *peak_bytes = &simulation->peak_bytes[rank];
		unsigned alive = 0;
		double bytes = 0;

		for (size_t i = 0; i < row->count && !schedule->forward_only;
		     i++) {
			unsigned op = row->actions[i].op;
			unsigned stage = row->actions[i].stage;
			double more =
				activation_bytes ? activation_bytes[stage] : 0;

			if (op == ACTION_FORWARD) {
				alive++;
				bytes += more;
			} else if (op == ACTION_BACKWARD ||
				   op == ACTION_BACKWARD_WEIGHT) {
				alive--;
				bytes -= more;
			}
			*peak = MAX(*peak, alive);
			*peak_bytes = MAX(*peak_bytes, bytes);
		}
	}
}

static int run(const struct schedule *schedule, const struct walk_costs *costs,
	       struct schedule_simulation *simulation)
{
	struct walk *walk;
	bool finished = false;
	int error = walk_create(schedule, &walk);

	if (error)
		return error;
	error = walk_run(walk, costs, simulation->times ? record : NULL,
			 simulation, &finished);
	if (!error && !finished)
		error = fail(-EDEADLK,
			     "schedule %s comes to a deadlock with "
			     "%u posted receives per link",
			     schedule->name, costs->buffers);
	if (!error)
		read_walk(walk, simulation);
	walk_destroy(walk);
	return error;
}

int schedule_simulate(const struct schedule *lowered,
		      const struct schedule_costs *costs, bool times,
		      struct schedule_simulation *out)
{
	struct schedule_simulation simulation;
	struct walk_costs walk_costs = {
		.forward = costs->forward,
		.input = costs->input,
		.weight = costs->weight,
		.latency = costs->latency,
		.transfer = costs->bandwidth > 0
				    ? costs->message_bytes / costs->bandwidth
				    : 0,
		.reduce = costs->reduce,
		.reduce_tied = costs->reduce_tied,
		.vote = costs->vote,
		.buffers = costs->buffers,
	};
	double *storage = NULL;
	int error;

	ASSERT(lowered->lowered);
	error = simulation_init(&simulation, lowered, times);
	if (!error && costs->loss_weight_in_forward)
		error = move_loss_weight(lowered, &walk_costs, &storage);
	if (error)
		log_error("no memory to simulate a schedule of %u ranks",
			  lowered->ranks);
	else
		error = run(lowered, &walk_costs, &simulation);
	free(storage);
	if (error) {
		schedule_simulation_fini(&simulation);
		return error;
	}
	find_peaks(lowered, costs->activation_bytes, &simulation);
	*out = simulation;
	return 0;
}
