/*
 * The list scheduler: see search_greedy.h.
 *
 * It is not to come to a stop. An operation is begun only when the receive for
 * its message is posted, so no rank is ever held up in a send; and an F only when
 * the stages behind it on its rank that hold nothing could still hold one
 * micro-batch, so the oldest micro-batch can go on to its end. (Two things are
 * taken roughly: rendezvous as one posted receive, which the judge then tells; and
 * what an I needs, by which the tightest cap of all can be missed.)
 */
#include "schedules/search_greedy.h"
#include "base/log.h"
#include "schedules/build.h"
#include "schedules/walk.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The end of what a rank does, or a moment at which it looks what it can do. */
struct event {
	double time;
	bool look; /* ends come first */
	unsigned rank;
};

struct greedy_link {
	double *arrival; /* [micro_batches] */
	unsigned sent;
	unsigned taken;
	unsigned buffers;
	unsigned wire;
	unsigned sender; /* ranks */
	unsigned receiver;
	double transfer;
	double latency;
};

struct greedy_rank {
	bool busy;
	uint16_t token; /* what it does, if busy */
	double end;     /* and until when */
	struct search_plan_progress progress;
};

struct search_greedy {
	const struct search_problem *problem;
	const struct search_policy *policy;
	struct search_plan *plan;
	struct greedy_link *links; /* [2 * stages] */
	double *arrivals;          /* [2 * stages][micro_batches] */
	double *wire_free;         /* [2 * ranks] */
	struct greedy_rank *ranks;
	struct event *events; /* a heap */
	size_t event_count;
	size_t event_room;
	uint64_t steps;
};

/* Policies. */

int search_policy_init(struct search_policy *policy,
		       const struct search_problem *problem)
{
	*policy = (struct search_policy){
		.flights = calloc(problem->stages, sizeof(unsigned)),
		.lag = calloc(problem->stages, sizeof(unsigned)),
	};
	if (policy->flights && policy->lag)
		return 0;
	search_policy_fini(policy);
	return fail(-ENOMEM, "no memory for a policy of %u stages",
		    problem->stages);
}

void search_policy_fini(struct search_policy *policy)
{
	free(policy->lag);
	free(policy->flights);
	*policy = (struct search_policy){0};
}

void search_policy_copy(struct search_policy *to,
			const struct search_policy *from, unsigned stages)
{
	unsigned *flights = to->flights;
	unsigned *lag = to->lag;

	memcpy(flights, from->flights, stages * sizeof(*flights));
	memcpy(lag, from->lag, stages * sizeof(*lag));
	*to = *from;
	to->flights = flights;
	to->lag = lag;
}

/* The list scheduler's state. */

/* Both placements send to the rank behind or to the rank before. */
static void prepare_link(const struct search_problem *problem,
			 struct greedy_link *link, size_t index)
{
	link->sender = problem->rank_of_stage[link_sender(index)];
	link->receiver = problem->rank_of_stage[link_receiver(index)];
	link->wire = 2 * link->sender +
		     (link->receiver == (link->sender + 1) % problem->ranks);
	link->buffers = MAX(link_buffers(&problem->costs, index), 1u);
	link->transfer = link_transfer(&problem->costs, index);
	link->latency = link_latency(&problem->costs, index);
}

static void prepare_links(struct search_greedy *greedy)
{
	const struct search_problem *problem = greedy->problem;

	for (size_t i = 0; i < 2 * (size_t)problem->stages; i++) {
		unsigned stage = link_receiver(i);
		struct greedy_link *link = &greedy->links[i];

		link->arrival = greedy->arrivals + i * problem->micro_batches;
		if (i % 2 == 0 ? stage > 0 && !problem->input_here[stage]
			       : stage + 1 < problem->stages &&
					 !problem->gradient_here[stage])
			prepare_link(problem, link, i);
	}
}

int search_greedy_create(const struct search_problem *problem,
			 struct search_greedy **out)
{
	struct search_greedy *greedy = calloc(1, sizeof(*greedy));
	size_t links = 2 * (size_t)problem->stages;

	if (greedy == NULL)
		goto err;
	greedy->problem = problem;
	greedy->links = calloc(links, sizeof(*greedy->links));
	greedy->arrivals =
		calloc(links * problem->micro_batches, sizeof(double));
	greedy->wire_free = calloc(2 * (size_t)problem->ranks, sizeof(double));
	greedy->ranks = calloc(problem->ranks, sizeof(*greedy->ranks));
	if (greedy->links == NULL || greedy->arrivals == NULL ||
	    greedy->wire_free == NULL || greedy->ranks == NULL)
		goto err;
	prepare_links(greedy);
	*out = greedy;
	return 0;
err:
	search_greedy_destroy(greedy);
	return fail(-ENOMEM, "no memory to search schedules of %u ranks",
		    problem->ranks);
}

void search_greedy_destroy(struct search_greedy *greedy)
{
	if (greedy == NULL)
		return;
	free(greedy->events);
	free(greedy->ranks);
	free(greedy->wire_free);
	free(greedy->arrivals);
	free(greedy->links);
	free(greedy);
}

uint64_t search_greedy_steps(const struct search_greedy *greedy)
{
	return greedy->steps;
}

/* F, I and W of a stage that its rank has begun. */
static const unsigned *done_of(const struct search_greedy *greedy,
			       unsigned stage)
{
	const struct search_problem *problem = greedy->problem;

	return greedy->ranks[problem->rank_of_stage[stage]]
		.progress.done[stage / problem->ranks];
}

/* Events: a binary heap, earliest first; of one time ends first, then by rank. */

static bool comes_before(const struct event *a, const struct event *b)
{
	if (a->time != b->time)
		return a->time < b->time;
	if (a->look != b->look)
		return b->look;
	return a->rank < b->rank;
}

static int push_event(struct search_greedy *greedy, double time, bool look,
		      unsigned rank)
{
	struct event event = {.time = time, .look = look, .rank = rank};
	size_t at = greedy->event_count;

	if (at == greedy->event_room) {
		size_t room = MAX((size_t)64, 2 * greedy->event_room);
		struct event *events =
			realloc(greedy->events, room * sizeof(*events));

		if (events == NULL)
			return fail(-ENOMEM, "no memory to search schedules");
		greedy->events = events;
		greedy->event_room = room;
	}
	greedy->event_count++;
	while (at > 0 && comes_before(&event, &greedy->events[(at - 1) / 2])) {
		greedy->events[at] = greedy->events[(at - 1) / 2];
		at = (at - 1) / 2;
	}
	greedy->events[at] = event;
	return 0;
}

static struct event pop_event(struct search_greedy *greedy)
{
	struct event first = greedy->events[0];
	struct event last = greedy->events[--greedy->event_count];
	size_t at = 0;

	for (;;) {
		size_t child = 2 * at + 1;

		if (child >= greedy->event_count)
			break;
		if (child + 1 < greedy->event_count &&
		    comes_before(&greedy->events[child + 1],
				 &greedy->events[child]))
			child++;
		if (!comes_before(&greedy->events[child], &last))
			break;
		greedy->events[at] = greedy->events[child];
		at = child;
	}
	greedy->events[at] = last;
	return first;
}

/* What a rank can do. */

/* Does the link's receiver still have a receive posted? */
static bool has_room(const struct greedy_link *link)
{
	return link->sent - link->taken < link->buffers;
}

/* When message n of a link is there: now, at a known time, or INFINITY. */
static double arrival_of(const struct search_greedy *greedy, size_t index,
			 unsigned n, unsigned op)
{
	const struct greedy_link *link = &greedy->links[index];
	const struct greedy_rank *sender = &greedy->ranks[link->sender];

	if (n < link->sent)
		return link->arrival[n];
	/* Its sender may just be at it. */
	if (sender->busy && sender->token == token_of(link_sender(index), op) &&
	    n == link->sent)
		return sender->end + greedy->problem->costs.send +
		       link->transfer + link->latency;
	return INFINITY;
}

/* From when on F (I) of the stage can be done; INFINITY: not, as yet. */
static double forward_from(const struct search_greedy *greedy, unsigned rank,
			   unsigned stage)
{
	const struct search_problem *problem = greedy->problem;
	const unsigned *done = done_of(greedy, stage);
	unsigned n = done[ACTION_FORWARD];

	if (n == problem->micro_batches ||
	    n - done[ACTION_BACKWARD_INPUT] >= greedy->policy->flights[stage] ||
	    !search_plan_progress_should(&greedy->ranks[rank].progress, problem,
					 rank, token_of(stage, ACTION_FORWARD)))
		return INFINITY;
	if (stage + 1 < problem->stages && !problem->gradient_here[stage] &&
	    !has_room(&greedy->links[2 * (size_t)stage + 2]))
		return INFINITY;
	if (stage == 0 || problem->input_here[stage])
		return 0;
	return arrival_of(greedy, 2 * (size_t)stage, n, ACTION_FORWARD);
}

static double input_from(const struct search_greedy *greedy, unsigned rank,
			 unsigned stage)
{
	const struct search_problem *problem = greedy->problem;
	unsigned n = done_of(greedy, stage)[ACTION_BACKWARD_INPUT];

	if (!search_plan_progress_should(
		    &greedy->ranks[rank].progress, problem, rank,
		    token_of(stage, ACTION_BACKWARD_INPUT)))
		return INFINITY;
	if (stage > 0 && !problem->input_here[stage] &&
	    !has_room(&greedy->links[2 * (size_t)stage - 1]))
		return INFINITY;
	if (stage + 1 == problem->stages || problem->gradient_here[stage])
		return 0;
	return arrival_of(greedy, 2 * (size_t)stage + 1, n,
			  ACTION_BACKWARD_INPUT);
}

/* What a rank may choose from, at one moment. */
struct choice {
	uint16_t forward, input, weight;
	bool has_forward, has_input, has_weight;
	bool weight_due; /* its lag is more than the policy allows */
	double next;     /* when an F or I comes that is not there yet */
};

static void weigh_forward(const struct search_greedy *greedy,
			  struct choice *choice, unsigned stage, double from,
			  double now)
{
	if (from > now)
		choice->next = MIN(choice->next, from);
	else if (!choice->has_forward || greedy->policy->later_forward) {
		choice->forward = token_of(stage, ACTION_FORWARD);
		choice->has_forward = true;
	}
}

static void weigh_input(const struct search_greedy *greedy,
			struct choice *choice, unsigned stage, double from,
			double now)
{
	if (from > now)
		choice->next = MIN(choice->next, from);
	else if (!choice->has_input || greedy->policy->later_input) {
		choice->input = token_of(stage, ACTION_BACKWARD_INPUT);
		choice->has_input = true;
	}
}

static void find_choice(const struct search_greedy *greedy, unsigned rank,
			double now, struct choice *choice)
{
	const struct search_problem *problem = greedy->problem;
	unsigned most = 0;

	*choice = (struct choice){.next = INFINITY};
	for (unsigned c = 0; c < problem->chunks; c++) {
		unsigned stage =
			problem->stage_of_rank[rank * problem->chunks + c];
		const unsigned *done = done_of(greedy, stage);
		unsigned backlog = done[ACTION_BACKWARD_INPUT] -
				   done[ACTION_BACKWARD_WEIGHT];
		bool due = backlog > greedy->policy->lag[stage];

		weigh_forward(greedy, choice, stage,
			      forward_from(greedy, rank, stage), now);
		weigh_input(greedy, choice, stage,
			    input_from(greedy, rank, stage), now);
		if (backlog == 0 || (choice->weight_due && !due) ||
		    (choice->weight_due == due && backlog < most))
			continue;
		most = backlog;
		choice->weight_due = due;
		choice->has_weight = true;
		choice->weight = token_of(stage, ACTION_BACKWARD_WEIGHT);
	}
}

static double price_of(const struct search_greedy *greedy, uint16_t token)
{
	return greedy->problem->price[token];
}

/* False: nothing, as yet. */
static bool choose(const struct search_greedy *greedy,
		   const struct choice *choice, double now, uint16_t *token)
{
	const struct search_policy *policy = greedy->policy;
	bool forward = choice->has_forward &&
		       (policy->forward_first || !choice->has_input);
	double late;

	if (choice->weight_due) {
		*token = choice->weight;
		return true;
	}
	if (choice->has_forward || choice->has_input) {
		*token = forward ? choice->forward : choice->input;
		return true;
	}
	if (!choice->has_weight)
		return false;
	*token = choice->weight;
	late = now + price_of(greedy, *token) - choice->next;
	return policy->patience >= 1 ||
	       late <= policy->patience * price_of(greedy, *token);
}

/* What happens. */

/* A rank that stands idle looks again at the time given. */
static int alert(struct search_greedy *greedy, unsigned rank, double time)
{
	return greedy->ranks[rank].busy ? 0
					: push_event(greedy, time, true, rank);
}

static int take_message(struct search_greedy *greedy, size_t index, double now)
{
	struct greedy_link *link = &greedy->links[index];

	link->taken++;
	/* Its sender may have waited for the posted receive. */
	return alert(greedy, link->sender, now);
}

static int begin(struct search_greedy *greedy, unsigned rank, uint16_t token,
		 double now)
{
	const struct search_problem *problem = greedy->problem;
	struct greedy_rank *state = &greedy->ranks[rank];
	unsigned stage = token_stage(token);
	unsigned op = token_op(token);
	bool takes = op == ACTION_FORWARD
			     ? stage > 0 && !problem->input_here[stage]
			     : op == ACTION_BACKWARD_INPUT &&
				       stage + 1 < problem->stages &&
				       !problem->gradient_here[stage];
	int error = 0;

	search_plan_row(greedy->plan, rank)[greedy->plan->count[rank]++] =
		token;
	greedy->steps++;
	search_plan_progress_do(&state->progress, problem, token);
	if (takes) {
		now += problem->costs.receive;
		error = take_message(
			greedy,
			2 * (size_t)stage + (op == ACTION_BACKWARD_INPUT), now);
	}
	state->busy = true;
	state->token = token;
	state->end = now + price_of(greedy, token);
	return error ? error : push_event(greedy, state->end, false, rank);
}

static int send_message(struct search_greedy *greedy, size_t index, double *now)
{
	struct greedy_link *link = &greedy->links[index];
	double *wire_free = &greedy->wire_free[link->wire];
	double arrival;

	*now += greedy->problem->costs.send;
	*wire_free = MAX(*now, *wire_free) + link->transfer;
	arrival = *wire_free + link->latency;
	link->arrival[link->sent++] = arrival;
	return alert(greedy, link->receiver, arrival);
}

/* The rank is done with what it did: what comes of it goes on its way. */
static int finish(struct search_greedy *greedy, unsigned rank, double now)
{
	const struct search_problem *problem = greedy->problem;
	struct greedy_rank *state = &greedy->ranks[rank];
	unsigned stage = token_stage(state->token);
	unsigned op = token_op(state->token);
	int error = 0;

	state->busy = false;
	if (op == ACTION_FORWARD && stage + 1 < problem->stages &&
	    !problem->gradient_here[stage])
		error = send_message(greedy, 2 * (size_t)stage + 2, &now);
	else if (op == ACTION_BACKWARD_INPUT && stage > 0 &&
		 !problem->input_here[stage])
		error = send_message(greedy, 2 * (size_t)stage - 1, &now);
	state->end = now;
	return error ? error : push_event(greedy, now, true, rank);
}

static int look(struct search_greedy *greedy, unsigned rank, double now)
{
	struct choice choice;
	uint16_t token;

	/* Still at it, or handing over: it looks again when that is done. */
	if (greedy->ranks[rank].busy || now < greedy->ranks[rank].end)
		return 0;
	find_choice(greedy, rank, now, &choice);
	if (choose(greedy, &choice, now, &token))
		return begin(greedy, rank, token, now);
	/* What is on its way alerts nobody who was busy when it was sent. */
	return choice.next < INFINITY ? alert(greedy, rank, choice.next) : 0;
}

static int start(struct search_greedy *greedy)
{
	const struct search_problem *problem = greedy->problem;
	int error = 0;

	greedy->event_count = 0;
	for (size_t i = 0; i < 2 * (size_t)problem->stages; i++) {
		greedy->links[i].sent = 0;
		greedy->links[i].taken = 0;
	}
	for (unsigned rank = 0; rank < problem->ranks && !error; rank++) {
		greedy->ranks[rank].busy = false;
		greedy->ranks[rank].end = 0;
		search_plan_progress_init(&greedy->ranks[rank].progress,
					  problem, rank);
		greedy->plan->count[rank] = 0;
		greedy->wire_free[2 * (size_t)rank] = 0;
		greedy->wire_free[2 * (size_t)rank + 1] = 0;
		error = push_event(greedy, 0, true, rank);
	}
	return error;
}

int search_greedy_run(struct search_greedy *greedy,
		      const struct search_policy *policy,
		      struct search_plan *plan, bool *finished)
{
	int error;

	greedy->policy = policy;
	greedy->plan = plan;
	error = start(greedy);
	while (greedy->event_count > 0 && !error) {
		struct event event = pop_event(greedy);

		error = event.look ? look(greedy, event.rank, event.time)
				   : finish(greedy, event.rank, event.time);
	}
	plan->makespan = INFINITY;
	*finished = true;
	for (unsigned rank = 0; rank < greedy->problem->ranks; rank++)
		*finished = *finished && plan->count[rank] == plan->width;
	return error;
}
