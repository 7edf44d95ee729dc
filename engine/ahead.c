#include "engine/ahead.h"
#include "base/log.h"

#include <errno.h>
#include <stdlib.h>

/* One directed pair of ranks. */
struct link {
	unsigned count; /* messages of a pass */
	unsigned sent;
	unsigned done;       /* messages [0, done) are used */
	unsigned tied, last; /* number of the first tied, of the last one */
	bool *used;
};

struct walk {
	const struct route_config *config;
	unsigned ranks;
	unsigned ahead;
	struct link *links; /* [from * ranks + to] */
	/* [stage * M + m]: number of the message on its link */
	unsigned *forward;
	unsigned *backward;
	size_t *position; /* [ranks]: in its row */
	unsigned *part;   /* [ranks]: of the action at that position */
	bool *has_batch;  /* [ranks] */
};

static struct link *link_at(const struct walk *walk, unsigned from, unsigned to)
{
	return &walk->links[(size_t)from * walk->ranks + to];
}

struct numbering {
	struct walk *walk;
	unsigned from;
};

static void number_one(void *argument, unsigned to,
		       const struct message *message)
{
	const struct numbering *numbering = argument;
	struct walk *walk = numbering->walk;
	struct grid_place place = grid_place(&walk->config->grid, to);
	struct link *link = link_at(walk, numbering->from, place.position);
	size_t cell =
		(size_t)message->stage * walk->config->schedule->micro_batches +
		message->micro_batch;

	/* Other replicas do the same over links of their own. */
	if (place.replica > 0 || place.slice > 0)
		return;
	if (message->kind == MESSAGE_FORWARD)
		walk->forward[cell] = link->count;
	else if (message->kind == MESSAGE_BACKWARD)
		walk->backward[cell] = link->count;
	else if (message->kind == MESSAGE_TIED && message->micro_batch == 0)
		link->tied = link->count;
	link->last = link->count++;
}

static void walk_fini(struct walk *walk)
{
	size_t pairs = (size_t)walk->ranks * walk->ranks;

	for (size_t i = 0; walk->links && i < pairs; i++)
		free(walk->links[i].used);
	free(walk->links);
	free(walk->forward);
	free(walk->backward);
	free(walk->position);
	free(walk->part);
	free(walk->has_batch);
}

static int walk_init(struct walk *walk, const struct route_config *config)
{
	const struct schedule *s = config->schedule;
	size_t cells = (size_t)s->stages * s->micro_batches;
	size_t pairs = (size_t)s->ranks * s->ranks;

	*walk = (struct walk){.config = config, .ranks = s->ranks};
	walk->links = calloc(pairs, sizeof(*walk->links));
	walk->forward = calloc(cells, sizeof(*walk->forward));
	walk->backward = calloc(cells, sizeof(*walk->backward));
	walk->position = calloc(s->ranks, sizeof(*walk->position));
	walk->part = calloc(s->ranks, sizeof(*walk->part));
	walk->has_batch = calloc(s->ranks, sizeof(*walk->has_batch));
	if (!walk->links || !walk->forward || !walk->backward ||
	    !walk->position || !walk->part || !walk->has_batch)
		goto err;
	for (unsigned from = 0; from < s->ranks; from++) {
		struct numbering numbering = {.walk = walk, .from = from};

		route_emit(config, grid_rank(&config->grid, 0, from, 0),
			   number_one, &numbering);
	}
	for (size_t i = 0; i < pairs; i++) {
		if (!walk->links[i].count)
			continue;
		walk->links[i].used =
			calloc(walk->links[i].count, sizeof(bool));
		if (!walk->links[i].used)
			goto err;
	}
	return 0;

err:
	walk_fini(walk);
	return fail(-ENOMEM, "no memory to walk through a schedule");
}

static void walk_reset(struct walk *walk, unsigned ahead)
{
	size_t pairs = (size_t)walk->ranks * walk->ranks;

	walk->ahead = ahead;
	for (size_t i = 0; i < pairs; i++) {
		struct link *link = &walk->links[i];

		link->sent = 0;
		link->done = 0;
		for (unsigned n = 0; n < link->count; n++)
			link->used[n] = false;
	}
	for (unsigned r = 0; r < walk->ranks; r++) {
		walk->position[r] = 0;
		walk->part[r] = 0;
		walk->has_batch[r] =
			r == ROUTE_ROOT || !walk->config->needs_batch[r];
	}
}

/* Uses message `number`, or false: it cannot have come yet. */
static bool take(const struct walk *walk, struct link *link, unsigned number)
{
	if (number >= link->sent || number >= link->done + walk->ahead)
		return false;
	link->used[number] = true;
	while (link->done < link->count && link->used[link->done])
		link->done++;
	return true;
}

static bool compute(struct walk *walk, unsigned rank,
		    const struct action *action)
{
	const struct schedule *s = walk->config->schedule;
	bool forward = action->op == ACTION_FORWARD;
	size_t cell =
		(size_t)action->stage * s->micro_batches + action->micro_batch;
	unsigned peer;

	if (!walk->has_batch[rank] &&
	    !take(walk, link_at(walk, ROUTE_ROOT, rank), 0))
		return false;
	walk->has_batch[rank] = true;
	if (forward ? action->stage == 0 : action->stage + 1u == s->stages)
		return true;
	peer = s->rank_of_stage[forward ? action->stage - 1u
					: action->stage + 1u];
	return peer == rank ||
	       take(walk, link_at(walk, peer, rank),
		    (forward ? walk->forward : walk->backward)[cell]);
}

static bool send(struct walk *walk, unsigned rank, const struct action *action)
{
	unsigned to = action->op == ACTION_SEND_FORWARD ? action->stage + 1u
							: action->stage - 1u;
	struct link *link =
		link_at(walk, rank, walk->config->schedule->rank_of_stage[to]);

	if (link->sent >= link->done + walk->ahead)
		return false;
	link->sent++;
	return true;
}

/* Sends all its pieces, then takes the other's one by one. */
static bool reduce(struct walk *walk, unsigned rank,
		   const struct action *action)
{
	const struct route_config *config = walk->config;
	const unsigned *rank_of = config->schedule->rank_of_stage;
	unsigned tie = action->micro_batch, pieces;
	unsigned a = rank_of[config->ties[tie].first_stage];
	unsigned b = rank_of[config->ties[tie].second_stage];
	unsigned peer = a == rank ? b : a;
	struct link *in = link_at(walk, peer, rank);

	if (a == b)
		return true;
	if (walk->part[rank] == 0)
		link_at(walk, rank, peer)->sent +=
			route_tie_messages(config, tie, a == rank);
	pieces = route_tie_messages(config, tie, a == peer);
	walk->part[rank] = MAX(walk->part[rank], 1);
	while (walk->part[rank] <= pieces) {
		if (!take(walk, in, in->tied + walk->part[rank] - 1))
			return false;
		walk->part[rank]++;
	}
	return true;
}

static bool vote(struct walk *walk, unsigned rank)
{
	struct link *in;

	if (rank != ROUTE_ROOT) {
		in = link_at(walk, ROUTE_ROOT, rank);
		if (walk->part[rank] == 0)
			link_at(walk, rank, ROUTE_ROOT)->sent++;
		walk->part[rank] = 1;
		return take(walk, in, in->last);
	}
	for (; walk->part[rank] < walk->ranks; walk->part[rank]++) {
		in = link_at(walk, walk->part[rank], ROUTE_ROOT);
		if (walk->part[rank] != ROUTE_ROOT && !take(walk, in, in->last))
			return false;
	}
	for (unsigned r = 0; r < walk->ranks; r++)
		if (r != ROUTE_ROOT)
			link_at(walk, ROUTE_ROOT, r)->sent++;
	return true;
}

static bool act(struct walk *walk, unsigned rank, const struct action *action)
{
	switch (action->op) {
	case ACTION_FORWARD:
	case ACTION_BACKWARD_INPUT:
	case ACTION_BACKWARD:
		return compute(walk, rank, action);
	case ACTION_SEND_FORWARD:
	case ACTION_SEND_BACKWARD:
		return send(walk, rank, action);
	case ACTION_REDUCE_TIED:
		return reduce(walk, rank, action);
	case ACTION_VOTE:
		return vote(walk, rank);
	default:
		return true;
	}
}

/* As far as the rank gets; true: it did something. */
static bool advance(struct walk *walk, unsigned rank)
{
	const struct schedule_row *row = &walk->config->schedule->rows[rank];
	size_t before = walk->position[rank];
	unsigned part = walk->part[rank];

	while (walk->position[rank] < row->count &&
	       act(walk, rank, &row->actions[walk->position[rank]])) {
		walk->position[rank]++;
		walk->part[rank] = 0;
	}
	return walk->position[rank] != before || walk->part[rank] != part;
}

static bool finishes(struct walk *walk)
{
	const struct schedule *s = walk->config->schedule;
	bool moved = true, finished = true;

	for (unsigned r = 0; r < walk->ranks; r++)
		if (r != ROUTE_ROOT && walk->config->needs_batch[r])
			link_at(walk, ROUTE_ROOT, r)->sent++;
	while (moved) {
		moved = false;
		for (unsigned r = 0; r < walk->ranks; r++)
			moved |= advance(walk, r);
	}
	for (unsigned r = 0; r < walk->ranks; r++)
		finished &= walk->position[r] == s->rows[r].count;
	return finished;
}

int ahead_find(const struct route_config *config, unsigned minimum,
	       unsigned *out)
{
	struct walk walk;
	unsigned longest = minimum;
	int rc = walk_init(&walk, config);

	if (rc)
		return rc;
	for (size_t i = 0; i < (size_t)walk.ranks * walk.ranks; i++)
		longest = MAX(longest, walk.links[i].count);
	rc = -EDEADLK;
	for (unsigned ahead = minimum; rc && ahead <= longest; ahead++) {
		walk_reset(&walk, ahead);
		if (!finishes(&walk))
			continue;
		*out = ahead;
		rc = 0;
	}
	walk_fini(&walk);
	if (rc)
		fail(rc,
		     "schedule %s: ranks wait for each other, however many receives are posted",
		     config->schedule->name);
	return rc;
}
