/*
 * The walk: see walk.h. A rank runs until it must wait for a link, then stands
 * aside until what it waits for happens on that link; so every action is looked
 * at a bounded number of times.
 */
#include "schedules/walk.h"
#include "base/log.h"
#include "schedules/build.h"
#include <errno.h>
#include <stdlib.h>

#define LEAST_ROOM   8u
#define LINE_ACTIONS (CACHE_LINE_BYTES / sizeof(struct action))

/* One cache line: the walk touches a link for every message. */
struct walk_link {
	/*
	 * By number of the message, modulo its length: when message n
	 * arrives, and once it is received, when that was done.
	 */
	double *ring;
	unsigned room; /* of the ring, a power of two */
	unsigned buffers;
	unsigned sent;
	unsigned received;
	uint16_t sender; /* ranks */
	uint16_t receiver;
	uint16_t wire; /* index of the wire all links of the pair share */
	bool standing; /* the receiver waits for message `received` */
	bool blocked;  /* the sender waits for the receiver */
	double stood;  /* the receiver, since when */
	double transfer;
	double latency;
};

struct walk {
	const struct schedule *schedule;
	const struct schedule_costs *costs;
	const double *most_waiting; /* [ranks], or NULL */
	bool cut;
	int error;
	struct walk_link *links; /* [2 * stages] */
	double *wire_free; /* [2 * stages]; used at the pair's first link */
	double *prices;    /* [stages][compute operations] */
	struct walk_rank *ranks;
	unsigned *queue; /* [ranks]: ranks that may move; a stack */
	bool *queued;    /* [ranks] */
	unsigned queue_count;
	unsigned tied_count;
};

_Static_assert(2 * SCHEDULE_MAX_STAGES <= UINT16_MAX, "links by uint16_t");

#define COMPUTE_OPS (ACTION_BACKWARD + 1)

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
		link->sender =
			(uint16_t)schedule->rank_of_stage[link_sender(i)];
		link->receiver =
			(uint16_t)schedule->rank_of_stage[link_receiver(i)];
		link->wire = (uint16_t)i;
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
	size_t stages = schedule->stages;
	unsigned ranks = schedule->ranks;
	int error;

	if (walk == NULL)
		goto err_memory;
	walk->schedule = schedule;
	walk->links = calloc(2 * stages, sizeof(*walk->links));
	walk->wire_free = calloc(2 * stages, sizeof(double));
	walk->prices = calloc(COMPUTE_OPS * stages, sizeof(double));
	walk->ranks = calloc(ranks, sizeof(*walk->ranks));
	walk->queue = calloc(ranks, sizeof(unsigned));
	walk->queued = calloc(ranks, sizeof(bool));
	walk->tied_count = count_ties(schedule);
	if (walk->links == NULL || walk->wire_free == NULL ||
	    walk->prices == NULL || walk->ranks == NULL ||
	    walk->queue == NULL || walk->queued == NULL)
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
	for (size_t i = 0; walk->links && i < 2 * walk->schedule->stages; i++)
		free(walk->links[i].ring);
	free(walk->queued);
	free(walk->queue);
	free(walk->ranks);
	free(walk->prices);
	free(walk->wire_free);
	free(walk->links);
	free(walk);
}

/* Before a run. */

static void set_prices(struct walk *walk)
{
	const struct schedule_costs *costs = walk->costs;
	unsigned stages = walk->schedule->stages;

	for (unsigned stage = 0; stage < stages; stage++) {
		double *price = &walk->prices[COMPUTE_OPS * (size_t)stage];
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

/*
 * A ring remembers as many messages as may be under way; without limit it grows
 * as it must.
 */
static int prepare_ring(const struct walk *walk, struct walk_link *link)
{
	unsigned wanted = LEAST_ROOM;

	if (link->buffers >= walk->schedule->micro_batches)
		link->buffers = SCHEDULE_BUFFERS_ANY;
	else
		while (wanted < link->buffers)
			wanted *= 2;
	if (wanted <= link->room)
		return 0;
	free(link->ring);
	link->room = 0;
	link->ring = malloc(wanted * sizeof(*link->ring));
	if (link->ring == NULL)
		return fail(-ENOMEM,
			    "no memory to walk a schedule with %u buffers",
			    link->buffers);
	link->room = wanted;
	return 0;
}

static int prepare_link(struct walk *walk, size_t index)
{
	struct walk_link *link = &walk->links[index];

	link->transfer = link_transfer(walk->costs, index);
	link->latency = link_latency(walk->costs, index);
	link->buffers = link_buffers(walk->costs, index);
	link->sent = 0;
	link->received = 0;
	link->standing = false;
	link->blocked = false;
	walk->wire_free[index] = 0;
	return prepare_ring(walk, link);
}

static void wake(struct walk *walk, unsigned rank)
{
	if (walk->queued[rank])
		return;
	walk->queued[rank] = true;
	walk->queue[walk->queue_count++] = rank;
}

static int prepare(struct walk *walk)
{
	int error = 0;

	walk->error = 0;
	walk->cut = false;
	walk->queue_count = 0;
	set_prices(walk);
	for (size_t i = 0; i < 2 * (size_t)walk->schedule->stages && !error;
	     i++)
		if (link_is_used(walk->schedule, i))
			error = prepare_link(walk, i);
	for (unsigned rank = walk->schedule->ranks; rank-- > 0;) {
		walk->ranks[rank] = (struct walk_rank){.first = -1};
		walk->queued[rank] = false;
		wake(walk, rank);
	}
	return error;
}

/* Messages. */

static bool grow_ring(struct walk *walk, struct walk_link *link)
{
	unsigned room = link->room * 2;
	double *ring = malloc(room * sizeof(*ring));

	if (ring == NULL) {
		walk->error = fail(-ENOMEM,
				   "no memory to walk a schedule with %u "
				   "messages under way",
				   room);
		return false;
	}
	for (unsigned n = link->received; n != link->sent; n++)
		ring[n & (room - 1)] = link->ring[n & (link->room - 1)];
	free(link->ring);
	link->ring = ring;
	link->room = room;
	return true;
}

/*
 * May the sender hand over its next message? *ready is when it wants to, then
 * when it may.
 */
static bool find_receive(struct walk_link *link, double *ready)
{
	unsigned buffers = link->buffers;

	if (buffers == 0) {
		if (!link->standing || link->sent != link->received)
			return false;
		*ready = MAX(*ready, link->stood);
	} else if (link->sent >= buffers) { /* never, if without limit */
		double posted;

		if (link->sent - link->received >= buffers)
			return false;
		posted = link->ring[(link->sent - buffers) & (link->room - 1)];
		*ready = MAX(*ready, posted);
	}
	return true;
}

static bool try_send(struct walk *walk, struct walk_link *link,
		     struct schedule_time *time)
{
	double *wire_free = &walk->wire_free[link->wire];

	if (!find_receive(link, &time->ready)) {
		link->blocked = true;
		return false;
	}
	if (link->sent - link->received == link->room && !grow_ring(walk, link))
		return false;
	time->end = time->ready + walk->costs->send;
	*wire_free = MAX(time->end, *wire_free) + link->transfer;
	time->arrival = *wire_free + link->latency;
	link->ring[link->sent++ & (link->room - 1)] = time->arrival;
	if (link->standing)
		wake(walk, link->receiver);
	return true;
}

static bool try_receive(struct walk *walk, struct walk_link *link,
			struct schedule_time *time)
{
	double *slot = &link->ring[link->received & (link->room - 1)];

	if (link->sent == link->received) {
		if (!link->standing)
			link->stood = time->start;
		link->standing = true;
	} else {
		time->ready = MAX(time->ready, *slot);
		time->end = time->ready + walk->costs->receive;
		time->arrival = time->end;
		*slot = time->end;
		link->received++;
		link->standing = false;
	}
	if (link->blocked) {
		link->blocked = false;
		wake(walk, link->sender);
	}
	return !link->standing;
}

/* What a rank does alone. */

static void compute(const struct walk *walk, struct walk_rank *rank,
		    const struct action *action, struct schedule_time *time)
{
	size_t index = COMPUTE_OPS * (size_t)action->stage + action->op;
	double cost = walk->prices[index];

	if (rank->first < 0)
		rank->first = time->start;
	rank->busy += cost;
	rank->computing += cost;
	time->end = time->start + cost;
	time->arrival = time->end;
	rank->last = time->end;
	if (action->op == ACTION_FORWARD &&
	    action->stage + 1u == walk->schedule->stages)
		rank->headed = time->end;
}

/* What a sum or gather takes of a rank's network. */
static double network_time(const struct schedule_costs *costs, double bytes,
			   double rounds)
{
	double wire = costs->replica_bandwidth > 0
			      ? bytes / costs->replica_bandwidth
			      : 0;

	return wire + rounds * costs->replica_latency;
}

/* Stands the rank at a REDUCE_GRAD behind the last W (or B) of its stage? */
static bool follows_weight(const struct walk_rank *rank,
			   const struct action *action)
{
	const struct action *before = action;
	size_t left = rank->position;

	for (; left > 0; left--)
		if (action_is_compute((--before)->op))
			break;
	return left > 0 && before->stage == action->stage &&
	       before->op >= ACTION_BACKWARD_WEIGHT;
}

/* Begins the sum of a stage over the replicas: see simulate.h. */
static void sum_stage(const struct walk *walk, struct walk_rank *rank,
		      const struct action *action, struct schedule_time *time)
{
	const struct schedule_costs *costs = walk->costs;
	unsigned stage = action->stage;
	double whole, begin = time->start, least = 0;

	if (costs->reduce_bytes[stage] <= 0)
		return;
	whole = network_time(costs, costs->reduce_bytes[stage],
			     costs->reduce_rounds);
	if (follows_weight(rank, action)) {
		begin = rank->last;
		if (costs->reduce_tail)
			least = begin + costs->reduce_tail[stage];
		if (costs->reduce_lead)
			begin -= costs->reduce_lead[stage];
	}
	begin = MAX(begin, rank->summed);
	rank->summed = MAX(begin + whole, least);
	rank->reducing += whole;
	time->arrival = MAX(time->end, rank->summed);
}

static void reduce(const struct walk *walk, struct walk_rank *rank,
		   const struct action *action, struct schedule_time *time)
{
	const struct schedule_costs *costs = walk->costs;
	double cost = costs->stage_reduce ? costs->stage_reduce[action->stage]
					  : costs->reduce;

	rank->busy += cost;
	time->end = time->start + cost;
	time->arrival = time->end;
	if (costs->reduce_bytes)
		sum_stage(walk, rank, action, time);
}

/* From a message to the number of its link: see link_of(). */
static const int link_shift[] = {
	[ACTION_SEND_FORWARD] = 2,
	[ACTION_RECV_FORWARD] = 0,
	[ACTION_SEND_BACKWARD] = -1,
	[ACTION_RECV_BACKWARD] = 1,
};

static bool message(struct walk *walk, struct walk_rank *rank,
		    const struct action *action, struct schedule_time *time)
{
	int index = 2 * action->stage + link_shift[action->op];
	struct walk_link *link = &walk->links[index];

	if (!(action_is_send(action->op) ? try_send(walk, link, time)
					 : try_receive(walk, link, time)))
		return false;
	rank->waiting += time->ready - time->start;
	rank->sending += time->end - time->ready;
	if (action_is_send(action->op) &&
	    link->receiver == walk->schedule->rank_of_stage[0])
		rank->headed = time->end;
	return true;
}

/* Has a rank waited too long for this run to be of use? */
static bool is_over(const struct walk *walk, unsigned index,
		    const struct walk_rank *rank)
{
	return walk->most_waiting && rank->waiting > walk->most_waiting[index];
}

/* Runs one rank until it waits, or comes to what gathers several ranks. */
static void advance(struct walk *walk, unsigned index,
		    struct schedule_time *times)
{
	const struct schedule_row *row = &walk->schedule->rows[index];
	struct walk_rank rank = walk->ranks[index];

	for (; rank.position < row->count; rank.position++) {
		const struct action *action = &row->actions[rank.position];
		struct schedule_time time = {.start = rank.now,
					     .ready = rank.now};

		if (action->op <= ACTION_BACKWARD) {
			compute(walk, &rank, action, &time);
		} else if (action->op <= ACTION_RECV_BACKWARD) {
			if (!message(walk, &rank, action, &time))
				break;
			if (is_over(walk, index, &rank)) {
				walk->cut = true;
				break;
			}
		} else if (action->op < ACTION_REDUCE_TIED) {
			reduce(walk, &rank, action, &time);
		} else {
			break;
		}
		rank.now = time.end;
		if (times)
			times[rank.position] = time;
	}
	walk->ranks[index] = rank;
	/* A thousand rows are too many streams for the processor to foresee. */
	if (rank.position + LINE_ACTIONS < row->count)
		__builtin_prefetch(&row->actions[rank.position + LINE_ACTIONS]);
}

static bool rows_are_done(const struct walk *walk)
{
	for (unsigned rank = 0; rank < walk->schedule->ranks; rank++) {
		const struct schedule_row *row = &walk->schedule->rows[rank];
		size_t position = walk->ranks[rank].position;

		if (position < row->count &&
		    row->actions[position].op < ACTION_REDUCE_TIED)
			return false;
	}
	return true;
}

/* When a rank has come to its tail and its sums are done. */
static double settled(const struct walk_rank *rank)
{
	return MAX(rank->now, rank->summed);
}

/*
 * The tails, when all rows stand at them: each tie ends for both its ranks at
 * the later one's time; a vote for all at the last one's. Ties are taken
 * in ascending order, as the row checks made them.
 */
static void finish_action(struct walk *walk, unsigned index, double ready,
			  double cost, struct schedule_time *const *times)
{
	struct walk_rank *rank = &walk->ranks[index];
	double end = ready + cost, own = settled(rank);

	if (times)
		times[index][rank->position] = (struct schedule_time){
			.start = rank->now,
			.ready = ready,
			.end = end,
			.arrival = end,
		};
	rank->exposed += own - rank->now;
	rank->waiting += ready - own;
	rank->now = end;
	rank->position++;
}

/* What a rank tells its replicas, from now on: its own time is not needed. */
static void gather(const struct walk *walk, struct walk_rank *rank,
		   double bytes)
{
	double time;

	if (!walk->costs->reduce_bytes || bytes <= 0)
		return;
	time = network_time(walk->costs, bytes, walk->costs->gather_rounds);
	rank->summed = settled(rank) + time;
	rank->reducing += time;
}

static const struct action *standing_at(const struct walk *walk, unsigned rank,
					unsigned op)
{
	const struct schedule_row *row = &walk->schedule->rows[rank];
	size_t position = walk->ranks[rank].position;

	if (position < row->count && row->actions[position].op == op)
		return &row->actions[position];
	return NULL;
}

/* When the head's gradient has come to the rank of the first stage. */
static double head_arrives(const struct walk *walk)
{
	const unsigned *rank_of = walk->schedule->rank_of_stage;
	unsigned head = rank_of[walk->schedule->stages - 1];

	if (walk->costs->tied_early <= 0 || head == rank_of[0])
		return 0;
	return walk->ranks[head].headed + walk->costs->tied_early;
}

static void finish_tie(struct walk *walk, unsigned tie,
		       struct schedule_time *const *times)
{
	double cost = walk->costs->reduce_tied;
	double ready = head_arrives(walk);

	for (unsigned pass = 0; pass < 2; pass++)
		for (unsigned rank = 0; rank < walk->schedule->ranks; rank++) {
			const struct action *action =
				standing_at(walk, rank, ACTION_REDUCE_TIED);

			if (action == NULL || action->micro_batch != tie)
				continue;
			if (pass == 0) {
				ready = MAX(ready, settled(&walk->ranks[rank]));
				continue;
			}
			walk->ranks[rank].busy += cost;
			finish_action(walk, rank, ready, cost, times);
			gather(walk, &walk->ranks[rank],
			       walk->costs->tied_gather_bytes);
		}
}

static void finish_step(struct walk *walk, unsigned index,
			struct schedule_time *const *times)
{
	const struct schedule_costs *costs = walk->costs;
	struct walk_rank *rank = &walk->ranks[index];
	double step = costs->rank_step ? costs->rank_step[index] : 0;

	rank->busy += step;
	finish_action(walk, index, settled(rank), step, times);
	if (!costs->gather_bytes)
		return;
	gather(walk, rank, costs->gather_bytes[index]);
	rank->exposed += settled(rank) - rank->now;
	rank->now = settled(rank);
	if (times)
		times[index][rank->position - 1].end = rank->now;
}

static void finish_tails(struct walk *walk, struct schedule_time *const *times)
{
	const struct schedule_costs *costs = walk->costs;
	unsigned ranks = walk->schedule->ranks;
	double last = 0;

	for (unsigned tie = 0; tie < walk->tied_count; tie++)
		finish_tie(walk, tie, times);
	for (unsigned rank = 0; rank < ranks; rank++)
		last = MAX(last, settled(&walk->ranks[rank]));
	for (unsigned rank = 0; rank < ranks; rank++) {
		if (standing_at(walk, rank, ACTION_VOTE)) {
			walk->ranks[rank].sending += costs->vote;
			finish_action(walk, rank, last, costs->vote, times);
		}
		if (standing_at(walk, rank, ACTION_STEP))
			finish_step(walk, rank, times);
	}
}

void walk_limit(struct walk *walk, const double *most_waiting)
{
	walk->most_waiting = most_waiting;
}

int walk_run(struct walk *walk, const struct schedule_costs *costs,
	     struct schedule_time *const *times, bool *finished)
{
	int error;

	walk->costs = costs;
	error = prepare(walk);
	if (error)
		return error;
	while (walk->queue_count > 0 && !walk->error && !walk->cut) {
		unsigned rank = walk->queue[--walk->queue_count];

		walk->queued[rank] = false;
		advance(walk, rank, times ? times[rank] : NULL);
	}
	if (walk->error)
		return walk->error;
	*finished = !walk->cut && rows_are_done(walk);
	if (*finished)
		finish_tails(walk, times);
	return 0;
}

const struct walk_rank *walk_rank(const struct walk *walk, unsigned rank)
{
	return &walk->ranks[rank];
}

double walk_makespan(const struct walk *walk)
{
	double makespan = 0;

	for (unsigned rank = 0; rank < walk->schedule->ranks; rank++)
		makespan = MAX(makespan, settled(&walk->ranks[rank]));
	return makespan;
}

unsigned walk_messages(const struct walk *walk, size_t link)
{
	return walk->links[link].sent;
}
