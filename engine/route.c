#include "engine/route.h"
#include "base/log.h"
#include "engine/reduction.h"

#include <errno.h>
#include <stdlib.h>

const char *message_kind_name(enum message_kind kind)
{
	static const char *const names[] = {
		[MESSAGE_BATCH] = "batch",
		[MESSAGE_FORWARD] = "activation",
		[MESSAGE_BACKWARD] = "gradient",
		[MESSAGE_TIED] = "tied gradient",
		[MESSAGE_VOTE] = "vote",
		[MESSAGE_VERDICT] = "verdict",
		[MESSAGE_RESULT] = "result",
		[MESSAGE_TOKEN] = "token",
		[MESSAGE_SLICE] = "values of a slice",
		[MESSAGE_PIECE] = "piece of tensors",
		[MESSAGE_REDUCE] = "sum of gradients",
	};

	return names[kind];
}

/* The rank that holds a stage in the replica and slice of another. */
static unsigned rank_with(const struct route_config *config, unsigned stage,
			  const struct grid_place *place)
{
	return grid_rank(&config->grid, place->replica,
			 config->schedule->rank_of_stage[stage], place->slice);
}

unsigned route_tie_messages(const struct route_config *config, unsigned tie,
			    bool from_first)
{
	return from_first && config->tie_rows ? config->tie_rows[tie]
					      : config->tie_pieces[tie];
}

static void emit_tie(const struct route_config *config, unsigned from,
		     const struct action *action, route_emit_fn *emit,
		     void *argument)
{
	struct grid_place place = grid_place(&config->grid, from);
	unsigned tie = action->micro_batch;
	unsigned a = rank_with(config, config->ties[tie].first_stage, &place);
	unsigned b = rank_with(config, config->ties[tie].second_stage, &place);

	if (a == b)
		return;
	for (unsigned piece = 0;
	     piece < route_tie_messages(config, tie, a == from); piece++)
		emit(argument, a == from ? b : a,
		     &(struct message){.kind = MESSAGE_TIED,
				       .stage = (uint16_t)tie,
				       .micro_batch = (uint16_t)piece});
}

/* To all first slices but its own. */
static void emit_from_root(const struct route_config *config,
			   enum message_kind kind, route_emit_fn *emit,
			   void *argument)
{
	const struct grid *grid = &config->grid;

	for (unsigned d = 0; d < grid->replicas; d++)
		for (unsigned p = 0; p < grid->positions; p++) {
			unsigned to = grid_rank(grid, d, p, 0);

			if (to != ROUTE_ROOT &&
			    (kind != MESSAGE_BATCH || config->needs_batch[p]))
				emit(argument, to,
				     &(struct message){.kind = (uint8_t)kind});
		}
}

static void emit_vote(const struct route_config *config, unsigned from,
		      route_emit_fn *emit, void *argument)
{
	if (from == ROUTE_ROOT)
		emit_from_root(config, MESSAGE_VERDICT, emit, argument);
	else if (grid_place(&config->grid, from).slice == 0)
		emit(argument, ROUTE_ROOT,
		     &(struct message){.kind = MESSAGE_VOTE});
}

struct between_replicas {
	const struct route_config *config;
	struct grid_place place; /* of who sends */
	route_emit_fn *emit;
	void *argument;
};

static void emit_to_replica(void *argument, unsigned replica,
			    const struct message *message)
{
	const struct between_replicas *between = argument;
	const struct grid_place *place = &between->place;

	between->emit(between->argument,
		      grid_rank(&between->config->grid, replica,
				place->position, place->slice),
		      message);
}

/*
 * What stays within a position concerns its own ranks alone, and so config
 * knows the reduction of one position.
 */
static void emit_reduction(const struct route_config *config, unsigned from,
			   enum reduction_phase phase, unsigned stage,
			   route_emit_fn *emit, void *argument)
{
	struct grid_place own = grid_place(&config->grid, config->rank);
	struct between_replicas between = {
		.config = config,
		.place = grid_place(&config->grid, from),
		.emit = emit,
		.argument = argument};

	if (config->reduction && between.place.position == own.position)
		reduction_emit(config->reduction, between.place.replica, phase,
			       stage, emit_to_replica, &between);
}

static void emit_action(const struct route_config *config, unsigned from,
			const struct action *action, route_emit_fn *emit,
			void *argument)
{
	struct grid_place place = grid_place(&config->grid, from);
	struct message message = {.stage = action->stage,
				  .micro_batch = action->micro_batch};

	switch (action->op) {
	case ACTION_SEND_FORWARD:
		message.kind = MESSAGE_FORWARD;
		message.stage++;
		emit(argument, rank_with(config, message.stage, &place),
		     &message);
		break;
	case ACTION_SEND_BACKWARD:
		message.kind = MESSAGE_BACKWARD;
		message.stage--;
		emit(argument, rank_with(config, message.stage, &place),
		     &message);
		break;
	case ACTION_REDUCE_GRAD:
		emit_reduction(config, from, REDUCTION_REDUCE, action->stage,
			       emit, argument);
		break;
	case ACTION_REDUCE_TIED:
		emit_tie(config, from, action, emit, argument);
		emit_reduction(config, from, REDUCTION_TIED, 0, emit, argument);
		break;
	case ACTION_VOTE:
		emit_reduction(config, from, REDUCTION_SQUARES, 0, emit,
			       argument);
		emit_vote(config, from, emit, argument);
		break;
	case ACTION_STEP:
		emit_reduction(config, from, REDUCTION_WEIGHTS, 0, emit,
			       argument);
		break;
	default:
		break;
	}
}

void route_emit(const struct route_config *config, unsigned from,
		route_emit_fn *emit, void *argument)
{
	const struct schedule *s = config->schedule;
	struct grid_place place = grid_place(&config->grid, from);
	const struct schedule_row *row = &s->rows[place.position];

	if (from == ROUTE_ROOT)
		emit_from_root(config, MESSAGE_BATCH, emit, argument);
	for (size_t i = 0; i < row->count; i++)
		emit_action(config, from, &row->actions[i], emit, argument);
	if (from == ROUTE_ROOT || place.slice != 0 ||
	    place.position != s->rank_of_stage[s->stages - 1])
		return;
	if (config->result)
		emit(argument, ROUTE_ROOT,
		     &(struct message){.kind = MESSAGE_RESULT});
	if (config->token)
		emit(argument, ROUTE_ROOT,
		     &(struct message){.kind = MESSAGE_TOKEN});
}

struct counter {
	unsigned to;
	unsigned count;
};

static void count_one(void *argument, unsigned to,
		      const struct message *message)
{
	struct counter *counter = argument;

	(void)message;
	counter->count += to == counter->to;
}

struct filler {
	unsigned to;
	struct inbox *inbox;
};

static void fill_one(void *argument, unsigned to, const struct message *message)
{
	struct filler *filler = argument;

	if (to != filler->to)
		return;
	filler->inbox->messages[filler->inbox->count] = *message;
	filler->inbox->messages[filler->inbox->count++].peer =
		filler->inbox->peer;
}

static int fill_inbox(const struct route_config *config, unsigned peer,
		      struct route *route)
{
	struct counter counter = {.to = config->rank};
	struct inbox *inbox = &route->inboxes[route->inbox_count];
	struct filler filler = {.to = config->rank, .inbox = inbox};

	route_emit(config, peer, count_one, &counter);
	if (counter.count == 0)
		return 0;
	inbox->peer = peer;
	inbox->messages = calloc(counter.count, sizeof(*inbox->messages));
	if (!inbox->messages)
		return fail(-ENOMEM, "no memory for %u messages",
			    counter.count);
	route->inbox_count++;
	route_emit(config, peer, fill_one, &filler);
	return 0;
}

static void index_messages(struct route *route)
{
	for (unsigned i = 0; i < route->inbox_count; i++) {
		struct inbox *inbox = &route->inboxes[i];

		for (unsigned m = 0; m < inbox->count; m++) {
			struct message *message = &inbox->messages[m];
			size_t where =
				(size_t)message->stage * route->micro_batches +
				message->micro_batch;

			if (message->kind == MESSAGE_FORWARD)
				route->forward[where] = message;
			else if (message->kind == MESSAGE_BACKWARD)
				route->backward[where] = message;
		}
	}
}

int route_create(const struct route_config *config, struct route **out)
{
	const struct schedule *s = config->schedule;
	size_t cells = (size_t)s->stages * s->micro_batches;
	struct route *route = calloc(1, sizeof(*route));
	int rc = -ENOMEM;

	if (!route)
		return fail(rc, "no memory for the message lists");
	route->rank = config->rank;
	route->stages = s->stages;
	route->micro_batches = s->micro_batches;
	route->inboxes =
		calloc(grid_size(&config->grid), sizeof(*route->inboxes));
	route->forward = calloc(cells, sizeof(*route->forward));
	route->backward = calloc(cells, sizeof(*route->backward));
	if (!route->inboxes || !route->forward || !route->backward) {
		fail(rc, "no memory for the message lists");
		goto err_destroy;
	}
	for (unsigned peer = 0; peer < grid_size(&config->grid); peer++) {
		if (peer == config->rank)
			continue;
		rc = fill_inbox(config, peer, route);
		if (rc)
			goto err_destroy;
	}
	index_messages(route);
	*out = route;
	return 0;

err_destroy:
	route_destroy(route);
	return rc;
}

void route_destroy(struct route *route)
{
	if (!route)
		return;
	for (unsigned i = 0; route->inboxes && i < route->inbox_count; i++)
		free(route->inboxes[i].messages);
	free(route->inboxes);
	free(route->forward);
	free(route->backward);
	free(route);
}

void route_reset(struct route *route)
{
	for (unsigned i = 0; i < route->inbox_count; i++) {
		struct inbox *inbox = &route->inboxes[i];

		inbox->posted = 0;
		inbox->done = 0;
		for (unsigned m = 0; m < inbox->count; m++) {
			struct message *message = &inbox->messages[m];

			message->arrived = false;
			message->taken = false;
			if (message->kind == MESSAGE_FORWARD ||
			    message->kind == MESSAGE_BACKWARD)
				message->data = NULL;
		}
	}
}

struct message *route_forward(const struct route *route, unsigned stage,
			      unsigned micro_batch)
{
	return route
		->forward[(size_t)stage * route->micro_batches + micro_batch];
}

struct message *route_backward(const struct route *route, unsigned stage,
			       unsigned micro_batch)
{
	return route
		->backward[(size_t)stage * route->micro_batches + micro_batch];
}

struct message *route_find(const struct route *route, unsigned peer,
			   enum message_kind kind)
{
	for (unsigned i = 0; i < route->inbox_count; i++) {
		const struct inbox *inbox = &route->inboxes[i];

		if (inbox->peer != peer)
			continue;
		for (unsigned m = 0; m < inbox->count; m++)
			if (inbox->messages[m].kind == kind)
				return &inbox->messages[m];
	}
	return NULL;
}

struct marker {
	unsigned rank, from;
	bool *peers;
};

static void mark_one(void *argument, unsigned to, const struct message *message)
{
	struct marker *marker = argument;

	(void)message;
	if (marker->from == marker->rank)
		marker->peers[to] = true;
	else if (to == marker->rank)
		marker->peers[marker->from] = true;
}

void route_mark_peers(const struct route_config *config, bool *peers)
{
	struct marker marker = {.rank = config->rank, .peers = peers};

	for (marker.from = 0; marker.from < grid_size(&config->grid);
	     marker.from++)
		route_emit(config, marker.from, mark_one, &marker);
	for (unsigned r = 0; r < grid_size(&config->grid); r++)
		if (r == ROUTE_ROOT || config->rank == ROUTE_ROOT)
			peers[r] = true;
	peers[config->rank] = false;
}
