/*
 * The walk: see walk.h. A rank runs until it must wait for a link, then stands
 * aside until an event on that link wakes it; so every action is looked at
 * a bounded number of times.
 */
#include "schedules/walk.h"
#include "base/log.h"
#include "schedules/build.h"
#include <errno.h>
#include <stdlib.h>

struct walk_link {
	unsigned sender; /* ranks */
	unsigned receiver;
	size_t wire; /* index of the wire all links of the pair share */
	unsigned sent;
	unsigned received;
	bool standing;    /* k = 0: the receiver stands at its next receive */
	double stood;     /* since when */
	double *arrival;  /* [ring]: by number of the message */
	double *released; /* [ring]: when receive n was done */
};

/* From a rank's first compute action to its last. */
struct walk_window {
	bool seen;
	double first;
	double last;
	double busy;
};

struct walk {
	const struct schedule *schedule;
	const struct walk_costs *costs;
	walk_record_fn *record;
	void *argument;
	struct walk_link *links; /* [2 * stages] */
	double *wire_free; /* [2 * stages]; used at the pair's first link*/
	size_t *position;  /* [ranks] */
	double *now;       /* [ranks] */
	double *busy;      /* [ranks] */
	struct walk_window *windows; /* [ranks] */
	unsigned *queue;             /* [ranks]: ranks that may move; a stack */
	bool *queued;                /* [ranks] */
	unsigned queue_count;
	unsigned ring; /* messages remembered per link */
	double *ring_storage;
	unsigned ring_capacity;
	unsigned tied_count;
};

static unsigned count_ties(const struct schedule *schedule)
{
	unsigned count = 0;

	for (unsigned rank = 0; rank < schedule->ranks; rank++) {
		const struct schedule_row *row = &schedule->rows[rank];

		for (size_t i = row->count; i > 0; i--) {
			const struct action *action = &row->actions[i - 1];

			if (action->op < ACTION_REDUCE_TIED)
				break;
			if (action->op == ACTION_REDUCE_TIED)
				count = MAX(count, action->micro_batch + 1u);
		}
	}
	return count;
}

/*
 * Gives all links from one rank to another the number of the first of them.
 * A rank sends by at most 2 * chunks links.
 */
static int join_wires(struct walk *walk)
{
	const struct schedule *schedule = walk->schedule;
	size_t links = 2 * (size_t)schedule->stages;
	/* Chains of links by sender: next[link], first[rank]; links + 1. */
	size_t *next = calloc(links + schedule->ranks, sizeof(*next));
	size_t *first = next ? next + links : NULL;

	if (next == NULL)
		return fail(-ENOMEM, "no memory to walk a schedule");
	for (size_t i = 0; i < links; i++) {
		struct walk_link *link = &walk->links[i];
		size_t other;

		if (!link_is_used(schedule, i))
			continue;
		link->sender = schedule->rank_of_stage[link_sender(i)];
		link->receiver = schedule->rank_of_stage[link_receiver(i)];
		link->wire = i;
		for (other = first[link->sender]; other != 0;
		     other = next[other - 1])
			if (walk->links[other - 1].receiver == link->receiver)
				link->wire = walk->links[other - 1].wire;
		next[i] = first[link->sender];
		first[link->sender] = i + 1;
	}
	free(next);
	return 0;
}

int walk_create(const struct schedule *schedule, struct walk **out)
{
	struct walk *walk = calloc(1, sizeof(*walk));
	size_t links = 2 * (size_t)schedule->stages;
	unsigned ranks = schedule->ranks;
	int error;

	if (walk == NULL)
		goto err_memory;
	walk->schedule = schedule;
	walk->links = calloc(links, sizeof(*walk->links));
	walk->wire_free = calloc(links, sizeof(double));
	walk->position = calloc(ranks, sizeof(size_t));
	walk->now = calloc(ranks, sizeof(double));
	walk->busy = calloc(ranks, sizeof(double));
	walk->windows = calloc(ranks, sizeof(*walk->windows));
	walk->queue = calloc(ranks, sizeof(unsigned));
	walk->queued = calloc(ranks, sizeof(bool));
	walk->tied_count = count_ties(schedule);
	if (walk->links == NULL || walk->wire_free == NULL ||
	    walk->position == NULL || walk->now == NULL || walk->busy == NULL ||
	    walk->windows == NULL || walk->queue == NULL ||
	    walk->queued == NULL)
		goto err_memory;
	error = join_wires(walk);
	if (error) {
		walk_destroy(walk);
		return error;
	}
	*out = walk;
	return 0;
err_memory:
	walk_destroy(walk);
	return fail(-ENOMEM, "no memory to walk a schedule of %u ranks", ranks);
}

void walk_destroy(struct walk *walk)
{
	if (walk == NULL)
		return;
	free(walk->ring_storage);
	free(walk->queued);
	free(walk->queue);
	free(walk->windows);
	free(walk->busy);
	free(walk->now);
	free(walk->position);
	free(walk->wire_free);
	free(walk->links);
	free(walk);
}

/*
 * Of the messages of a link at most k are under way, so a ring of k
 * remembers enough (of one at k = 0).
 */
static int prepare_rings(struct walk *walk)
{
	size_t links = 2 * (size_t)walk->schedule->stages;
	unsigned ring =
		MIN(walk->costs->buffers, walk->schedule->micro_batches);

	ring = MAX(ring, 1u);
	if (ring > walk->ring_capacity) {
		free(walk->ring_storage);
		walk->ring_capacity = 0;
		walk->ring_storage =
			calloc(links * 2 * ring, sizeof(*walk->ring_storage));
		if (walk->ring_storage == NULL)
			return fail(-ENOMEM,
				    "no memory to walk a schedule "
				    "with %u buffers",
				    ring);
		walk->ring_capacity = ring;
	}
	walk->ring = ring;
	for (size_t i = 0; i < links; i++) {
		struct walk_link *link = &walk->links[i];

		link->arrival = walk->ring_storage + 2 * i * ring;
		link->released = link->arrival + ring;
		link->sent = 0;
		link->received = 0;
		link->standing = false;
		walk->wire_free[i] = 0;
	}
	return 0;
}

static void wake(struct walk *walk, unsigned rank)
{
	if (walk->queued[rank])
		return;
	walk->queued[rank] = true;
	walk->queue[walk->queue_count++] = rank;
}

/* True when done: *end is then the time the sender goes on. */
static bool try_send(struct walk *walk, size_t index, double *end)
{
	struct walk_link *link = &walk->links[index];
	unsigned k = walk->costs->buffers;
	double *wire_free = &walk->wire_free[link->wire];
	double start = *end;

	if (k == 0) {
		if (!link->standing || link->sent != link->received)
			return false;
		start = MAX(start, link->stood);
	} else if (link->sent >= k && k < walk->schedule->micro_batches) {
		if (link->sent - link->received >= k)
			return false;
		start = MAX(start, link->released[link->sent % walk->ring]);
	}
	*end = start;
	start = MAX(start, *wire_free) + walk->costs->transfer;
	*wire_free = start;
	link->arrival[link->sent % walk->ring] = start + walk->costs->latency;
	link->sent++;
	wake(walk, link->receiver);
	return true;
}

static bool try_receive(struct walk *walk, size_t index, double *end)
{
	struct walk_link *link = &walk->links[index];
	unsigned slot = link->received % walk->ring;

	if (link->sent == link->received) {
		if (!link->standing) {
			link->standing = true;
			link->stood = *end;
			wake(walk, link->sender);
		}
		return false;
	}
	*end = MAX(*end, link->arrival[slot]);
	link->released[slot] = *end;
	link->received++;
	link->standing = false;
	wake(walk, link->sender);
	return true;
}

static double compute_cost(const struct walk_costs *costs,
			   const struct action *action)
{
	switch (action->op) {
	case ACTION_FORWARD:
		return costs->forward[action->stage];
	case ACTION_BACKWARD_INPUT:
		return costs->input[action->stage];
	case ACTION_BACKWARD_WEIGHT:
		return costs->weight[action->stage];
	case ACTION_BACKWARD:
		return costs->input[action->stage] +
		       costs->weight[action->stage];
	case ACTION_REDUCE_GRAD:
		return costs->reduce;
	default:
		return 0;
	}
}

static double compute(struct walk *walk, unsigned rank,
		      const struct action *action, double now)
{
	double cost = compute_cost(walk->costs, action);
	struct walk_window *window = &walk->windows[rank];

	walk->busy[rank] += cost;
	if (!action_is_compute(action->op))
		return now + cost;
	if (!window->seen) {
		window->seen = true;
		window->first = now;
	}
	window->busy += cost;
	window->last = now + cost;
	return now + cost;
}

/* Runs one rank until it waits, or comes to what gathers several ranks. */
static void advance(struct walk *walk, unsigned rank)
{
	const struct schedule_row *row = &walk->schedule->rows[rank];
	size_t position = walk->position[rank];
	double now = walk->now[rank];

	for (; position < row->count; position++) {
		const struct action *action = &row->actions[position];
		double start = now;

		if (action->op >= ACTION_REDUCE_TIED)
			break;
		if (action_is_send(action->op)) {
			if (!try_send(walk, link_of(action), &now))
				break;
		} else if (action_is_recv(action->op)) {
			if (!try_receive(walk, link_of(action), &now))
				break;
		} else {
			now = compute(walk, rank, action, now);
		}
		if (walk->record)
			walk->record(walk->argument, rank, position, start,
				     now);
	}
	walk->position[rank] = position;
	walk->now[rank] = now;
}

static bool rows_are_done(const struct walk *walk)
{
	for (unsigned rank = 0; rank < walk->schedule->ranks; rank++) {
		const struct schedule_row *row = &walk->schedule->rows[rank];
		size_t position = walk->position[rank];

		if (position < row->count &&
		    row->actions[position].op < ACTION_REDUCE_TIED)
			return false;
	}
	return true;
}

/*
 * The tails, when all rows stand at them: each tie ends for both its ranks at
 * the later one's time; a vote for all at the last one's. Ties are taken
 * in ascending order, as the row checks made them.
 */
static void finish_action(struct walk *walk, unsigned rank, double until)
{
	double start = walk->now[rank];

	walk->now[rank] = until;
	if (walk->record)
		walk->record(walk->argument, rank, walk->position[rank], start,
			     until);
	walk->position[rank]++;
}

static const struct action *standing_at(const struct walk *walk, unsigned rank,
					unsigned op)
{
	const struct schedule_row *row = &walk->schedule->rows[rank];
	size_t position = walk->position[rank];

	if (position < row->count && row->actions[position].op == op)
		return &row->actions[position];
	return NULL;
}

static void finish_tie(struct walk *walk, unsigned tie)
{
	const struct action *action;
	double until = 0;

	for (unsigned pass = 0; pass < 2; pass++)
		for (unsigned rank = 0; rank < walk->schedule->ranks; rank++) {
			action = standing_at(walk, rank, ACTION_REDUCE_TIED);
			if (action == NULL || action->micro_batch != tie)
				continue;
			if (pass == 0) {
				until = MAX(until,
					    walk->now[rank] +
						    walk->costs->reduce_tied);
				continue;
			}
			walk->busy[rank] += walk->costs->reduce_tied;
			finish_action(walk, rank, until);
		}
}

static void finish_tails(struct walk *walk)
{
	unsigned ranks = walk->schedule->ranks;
	double last = 0;

	for (unsigned tie = 0; tie < walk->tied_count; tie++)
		finish_tie(walk, tie);
	for (unsigned rank = 0; rank < ranks; rank++)
		last = MAX(last, walk->now[rank]);
	for (unsigned rank = 0; rank < ranks; rank++) {
		if (standing_at(walk, rank, ACTION_VOTE))
			finish_action(walk, rank, last + walk->costs->vote);
		if (standing_at(walk, rank, ACTION_STEP))
			finish_action(walk, rank, walk->now[rank]);
	}
}

int walk_run(struct walk *walk, const struct walk_costs *costs,
	     walk_record_fn *record, void *argument, bool *finished)
{
	unsigned ranks = walk->schedule->ranks;
	int error;

	walk->costs = costs;
	walk->record = record;
	walk->argument = argument;
	error = prepare_rings(walk);
	if (error)
		return error;
	walk->queue_count = 0;
	for (unsigned rank = ranks; rank-- > 0;) {
		walk->position[rank] = 0;
		walk->now[rank] = 0;
		walk->busy[rank] = 0;
		walk->windows[rank] = (struct walk_window){0};
		walk->queued[rank] = false;
		wake(walk, rank);
	}
	while (walk->queue_count > 0) {
		unsigned rank = walk->queue[--walk->queue_count];

		walk->queued[rank] = false;
		advance(walk, rank);
	}
	*finished = rows_are_done(walk);
	if (*finished)
		finish_tails(walk);
	return 0;
}

double walk_makespan(const struct walk *walk)
{
	double makespan = 0;

	for (unsigned rank = 0; rank < walk->schedule->ranks; rank++)
		makespan = MAX(makespan, walk->now[rank]);
	return makespan;
}

double walk_busy(const struct walk *walk, unsigned rank)
{
	return walk->busy[rank];
}

double walk_window_idle(const struct walk *walk, unsigned rank)
{
	const struct walk_window *window = &walk->windows[rank];

	return window->seen ? window->last - window->first - window->busy : 0;
}

size_t walk_position(const struct walk *walk, unsigned rank)
{
	return walk->position[rank];
}
