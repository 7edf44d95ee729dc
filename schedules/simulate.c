/*
 * The simulator: a walk with the caller's costs, and what it leaves made
 * readable.
 */
#include "schedules/simulate.h"
#include "base/log.h"
#include "schedules/build.h"
#include "schedules/walk.h"
#include <errno.h>
#include <stdlib.h>

static int times_init(struct schedule_simulation *simulation,
		      const struct schedule *schedule)
{
	unsigned ranks = schedule->ranks;

	simulation->times = calloc(ranks, sizeof(*simulation->times));
	if (simulation->times == NULL)
		return -ENOMEM;
	for (unsigned rank = 0; rank < ranks; rank++) {
		simulation->times[rank] = calloc(schedule->rows[rank].count + 1,
						 sizeof(struct schedule_time));
		if (simulation->times[rank] == NULL)
			return -ENOMEM;
	}
	return 0;
}

static int simulation_init(struct schedule_simulation *simulation,
			   const struct schedule *schedule, bool times)
{
	unsigned ranks = schedule->ranks;
	double **const columns[] = {
		&simulation->idle,       &simulation->busy,
		&simulation->window,     &simulation->waiting,
		&simulation->sending,    &simulation->bytes_sent,
		&simulation->peak_bytes, &simulation->reducing,
		&simulation->exposed,    &simulation->bytes_reduced,
	};

	*simulation = (struct schedule_simulation){.ranks = ranks};
	for (size_t i = 0; i < ARRAY_SIZE(columns); i++) {
		*columns[i] = calloc(ranks, sizeof(double));
		if (*columns[i] == NULL)
			return -ENOMEM;
	}
	simulation->messages_sent = calloc(ranks, sizeof(uint64_t));
	simulation->peak_activations = calloc(ranks, sizeof(unsigned));
	if (simulation->messages_sent == NULL ||
	    simulation->peak_activations == NULL)
		return -ENOMEM;
	return times ? times_init(simulation, schedule) : 0;
}

void schedule_simulation_fini(struct schedule_simulation *simulation)
{
	for (unsigned rank = 0; simulation->times && rank < simulation->ranks;
	     rank++)
		free(simulation->times[rank]);
	free(simulation->times);
	free(simulation->peak_activations);
	free(simulation->messages_sent);
	free(simulation->bytes_reduced);
	free(simulation->exposed);
	free(simulation->reducing);
	free(simulation->peak_bytes);
	free(simulation->bytes_sent);
	free(simulation->sending);
	free(simulation->waiting);
	free(simulation->window);
	free(simulation->busy);
	free(simulation->idle);
	*simulation = (struct schedule_simulation){0};
}

static void read_ranks(const struct walk *walk,
		       struct schedule_simulation *simulation)
{
	simulation->makespan = walk_makespan(walk);
	simulation->bubble = 0;
	for (unsigned i = 0; i < simulation->ranks; i++) {
		const struct walk_rank *rank = walk_rank(walk, i);

		simulation->busy[i] = rank->busy;
		simulation->idle[i] = simulation->makespan - rank->busy;
		simulation->waiting[i] = rank->waiting;
		simulation->sending[i] = rank->sending;
		simulation->reducing[i] = rank->reducing;
		simulation->exposed[i] = rank->exposed;
		simulation->window[i] = 0;
		if (rank->first >= 0)
			simulation->window[i] =
				rank->last - rank->first - rank->computing;
		simulation->bubble += simulation->idle[i];
	}
	simulation->bubble /= simulation->ranks;
}

static void read_links(const struct schedule *schedule, const struct walk *walk,
		       const struct schedule_costs *costs,
		       struct schedule_simulation *simulation)
{
	for (size_t i = 0; i < 2 * (size_t)schedule->stages; i++) {
		unsigned count;
		unsigned rank;

		if (!link_is_used(schedule, i))
			continue;
		count = walk_messages(walk, i);
		rank = schedule->rank_of_stage[link_sender(i)];
		simulation->messages_sent[rank] += count;
		simulation->bytes_sent[rank] +=
			count * (costs->link_bytes ? costs->link_bytes[i]
						   : costs->message_bytes);
	}
}

/* Between replicas: what each action of a row makes its rank send. */
static double bytes_between(const struct schedule_costs *costs, unsigned rank,
			    const struct action *action)
{
	switch (action->op) {
	case ACTION_REDUCE_GRAD:
		return costs->reduce_bytes[action->stage];
	case ACTION_REDUCE_TIED:
		return costs->tied_gather_bytes;
	case ACTION_STEP:
		return costs->gather_bytes ? costs->gather_bytes[rank] : 0;
	default:
		return 0;
	}
}

static void read_replicas(const struct schedule *schedule,
			  const struct schedule_costs *costs,
			  struct schedule_simulation *simulation)
{
	if (!costs->reduce_bytes)
		return;
	for (unsigned rank = 0; rank < schedule->ranks; rank++) {
		const struct schedule_row *row = &schedule->rows[rank];

		for (size_t i = 0; i < row->count; i++)
			simulation->bytes_reduced[rank] +=
				bytes_between(costs, rank, &row->actions[i]);
	}
}

/* What is alive on a rank, and was at most. */
struct tally {
	unsigned activations;
	unsigned most_activations;
	double bytes;
	double most_bytes;
};

static void count_action(struct tally *tally, const struct action *action,
			 const struct schedule_costs *costs)
{
	unsigned stage = action->stage;
	double kept =
		costs->activation_bytes ? costs->activation_bytes[stage] : 0;
	double left = costs->pending_bytes ? costs->pending_bytes[stage] : 0;

	if (action->op == ACTION_FORWARD) {
		tally->activations++;
		tally->bytes += kept;
	}
	if (action->op == ACTION_BACKWARD_INPUT ||
	    action->op == ACTION_BACKWARD)
		tally->bytes += left;
	tally->most_activations =
		MAX(tally->most_activations, tally->activations);
	tally->most_bytes = MAX(tally->most_bytes, tally->bytes);
	if (action->op == ACTION_BACKWARD_WEIGHT ||
	    action->op == ACTION_BACKWARD) {
		tally->activations--;
		tally->bytes -= kept + left;
	}
}

double schedule_peak_bytes(const struct schedule *schedule, unsigned rank,
			   const struct schedule_costs *costs,
			   unsigned *activations)
{
	const struct schedule_row *row = &schedule->rows[rank];
	struct tally tally = {0};

	for (size_t i = 0; i < row->count && !schedule->forward_only; i++)
		if (action_is_compute(row->actions[i].op))
			count_action(&tally, &row->actions[i], costs);
	if (activations)
		*activations = tally.most_activations;
	return tally.most_bytes;
}

static int run(const struct schedule *schedule,
	       const struct schedule_costs *costs,
	       struct schedule_simulation *simulation)
{
	struct walk *walk;
	bool finished = false;
	int error = walk_create(schedule, &walk);

	if (error)
		return error;
	error = walk_run(walk, costs, simulation->times, &finished);
	if (!error && !finished && costs->link_buffers)
		error = fail(-EDEADLK,
			     "schedule %s comes to a deadlock with the posted "
			     "receives its links have",
			     schedule->name);
	else if (!error && !finished)
		error = fail(-EDEADLK,
			     "schedule %s comes to a deadlock with %u posted "
			     "receives per link",
			     schedule->name, costs->buffers);
	if (!error) {
		read_ranks(walk, simulation);
		read_links(schedule, walk, costs, simulation);
		read_replicas(schedule, costs, simulation);
	}
	walk_destroy(walk);
	return error;
}

int schedule_simulate(const struct schedule *lowered,
		      const struct schedule_costs *costs, bool times,
		      struct schedule_simulation *out)
{
	struct schedule_simulation simulation;
	int error;

	ASSERT(lowered->lowered);
	error = simulation_init(&simulation, lowered, times);
	if (error)
		log_error("no memory to simulate a schedule of %u ranks",
			  lowered->ranks);
	else
		error = run(lowered, costs, &simulation);
	if (error) {
		schedule_simulation_fini(&simulation);
		return error;
	}
	for (unsigned rank = 0; rank < lowered->ranks; rank++)
		simulation.peak_bytes[rank] =
			schedule_peak_bytes(lowered, rank, costs,
					    &simulation.peak_activations[rank]);
	*out = simulation;
	return 0;
}
