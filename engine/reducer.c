#include "engine/reducer.h"
#include "base/log.h"
#include "model/kernels/elementwise.h"
#include "model/kernels/optimizer.h"

#include <errno.h>
#include <stdlib.h>

/* One message of a link. */
struct transfer {
	struct message *message; /* received: the route's */
	struct message out;      /* sent */
	unsigned bucket;
	unsigned round;
	bool squares; /* no bucket's: sums of squares */
	bool adds;    /* of a scattering round: the receiver adds it */
	bool busy;    /* sent: the transport has not let go */
	void *data;   /* own memory */
	size_t count; /* floats */
};

/* The messages of one link and direction, in their order. */
struct queue {
	struct transfer *transfers;
	unsigned count;
	unsigned next;   /* [0, next) are posted, or received */
	unsigned gone;   /* [0, gone) have left */
	unsigned before; /* [0, before) come before the vote */
};

/* Both links with one replica. */
struct lane {
	unsigned replica;
	unsigned rank;
	struct queue out, in;
	struct inbox *inbox;    /* of what comes; NULL: nothing does */
	unsigned char *staging; /* slots for what is to be added */
	size_t slot_bytes;
	unsigned slots;
	unsigned staged; /* how many have been given a slot */
};

struct bucket_state {
	unsigned completed;   /* rounds */
	unsigned open;        /* rounds [0, open) may begin */
	unsigned left;        /* messages still to come in this round */
	unsigned leaving;     /* scattered messages the transport still reads */
	unsigned turn;        /* no halving: the lane to be added next */
	struct message *held; /* no halving: the sum of those before it */
};

struct reducer {
	const struct reduction *plan;
	unsigned replica;
	struct store *store;
	struct exchange *exchange;
	struct threads *threads;
	struct lane *lanes;
	unsigned lane_count;
	struct bucket_state *buckets;
	double **squares;    /* [replicas] as they travel; replica 0 has all */
	size_t *first_block; /* [rows]: of `blocks` */
	double *blocks;      /* replica 0: sums of squares, row by row */
	unsigned next_drain; /* windows: buckets [0, next_drain) are drained */
	unsigned *needs;     /* [layers] of them, before it may add */
	unsigned awaited;    /* of them, just now */
	unsigned adds_at_once;
	bool active; /* in a training step */
	bool squares_ready;
};

/* ---- lanes: halving, one a round; else one with every other replica ---- */

static bool halves(const struct reduction *plan)
{
	return reduction_transfers(plan) == 1;
}

static unsigned lane_count(const struct reduction *plan)
{
	return halves(plan) ? plan->scatter_rounds : plan->replicas - 1;
}

static unsigned lane_of(const struct reduction *plan, unsigned round,
			unsigned index)
{
	if (!halves(plan))
		return index;
	return round < plan->scatter_rounds
		       ? round
		       : 2 * plan->scatter_rounds - 1 - round;
}

/* Those for sums of squares alone, which replica 0 takes from all others. */
static unsigned extra_lanes(const struct reduction *plan, unsigned replica)
{
	if (!halves(plan) || plan->replicas == 1)
		return 0;
	if (replica)
		return (replica & (replica - 1)) != 0;
	return plan->replicas - 1 - plan->scatter_rounds;
}

/* How a lane scatters. */
static struct reduction_transfer scatter_of(const struct reduction *plan,
					    unsigned replica, unsigned lane)
{
	return halves(plan) ? reduction_transfer(plan, replica, lane, 0)
			    : reduction_transfer(plan, replica, 0, lane);
}

/* Slots, and bytes of one, for what a lane receives to be added. */
static unsigned measure_staging(const struct reduction *plan, unsigned replica,
				unsigned lane, unsigned ahead,
				size_t *slot_bytes)
{
	struct reduction_transfer transfer = scatter_of(plan, replica, lane);
	unsigned count = 0;
	size_t most = 0;

	for (unsigned b = 0; b < plan->bucket_count; b++) {
		struct reduction_span span = reduction_span(
			plan, b, transfer.receive_first, transfer.receive_end);

		count += span.count > 0;
		most = MAX(most, span.count);
	}
	*slot_bytes = arena_piece_bytes(most * sizeof(float));
	return MIN(count, ahead);
}

static size_t squares_bytes(const struct reduction *plan, unsigned replica)
{
	return arena_piece_bytes(reduction_squares(plan, replica) *
				 sizeof(double));
}

size_t reducer_region_bytes(const struct reduction *plan, unsigned replica,
			    unsigned ahead)
{
	size_t bytes = squares_bytes(plan, replica), slot;

	for (unsigned d = 1; replica == 0 && d < plan->replicas; d++)
		bytes += squares_bytes(plan, d);
	for (unsigned i = 0; i < lane_count(plan); i++) {
		unsigned slots =
			measure_staging(plan, replica, i, ahead, &slot);

		bytes += slots * slot;
	}
	return bytes;
}

/* ---- creation: the messages of every lane ---- */

/* Lists the messages twice: to count them, and to take them down. */
struct listing {
	struct reducer *reducer;
	enum reduction_phase phase;
	bool counting;
};

static void *bucket_memory(const struct reducer *reducer, unsigned bucket,
			   bool weights)
{
	const struct reduction *plan = reducer->plan;
	const struct reduction_piece *piece =
		&plan->pieces[plan->buckets[bucket].first_piece];
	const struct store_row *row =
		&reducer->store->rows[reducer->store->row_of[piece->parameter]];

	return (weights ? row->weights : row->accumulators[0]) + piece->first;
}

/*
 * What is gathered arrives where this replica's part of it was, which has been
 * scattered from there: whoever sends it has had ours.
 */
static void list_message(const struct listing *listing, struct queue *queue,
			 unsigned bucket, unsigned round,
			 const struct reduction_span *span)
{
	bool weights = listing->phase == REDUCTION_WEIGHTS;
	float *memory;

	if (span->count == 0)
		return;
	if (!listing->counting) {
		memory = bucket_memory(listing->reducer, bucket, weights);
		queue->transfers[queue->count] = (struct transfer){
			.bucket = bucket,
			.round = round,
			.adds = round < listing->reducer->plan->scatter_rounds,
			.data = memory + span->offset,
			.count = span->count,
		};
	}
	queue->count++;
	queue->before += !weights;
}

static void list_round(void *argument, unsigned bucket, unsigned round)
{
	struct listing *listing = argument;
	struct reducer *reducer = listing->reducer;
	const struct reduction *plan = reducer->plan;

	for (unsigned i = 0; i < reduction_transfers(plan); i++) {
		struct reduction_transfer transfer =
			reduction_transfer(plan, reducer->replica, round, i);
		struct lane *lane = &reducer->lanes[lane_of(plan, round, i)];
		struct reduction_span send = reduction_span(
			plan, bucket, transfer.send_first, transfer.send_end);
		struct reduction_span receive =
			reduction_span(plan, bucket, transfer.receive_first,
				       transfer.receive_end);

		ASSERT(lane->replica == transfer.peer);
		list_message(listing, &lane->out, bucket, round, &send);
		list_message(listing, &lane->in, bucket, round, &receive);
	}
}

static void list_phase(struct listing *listing, enum reduction_phase phase,
		       unsigned stage)
{
	listing->phase = phase;
	reduction_walk(listing->reducer->plan, phase, stage, list_round,
		       listing);
}

static void list_squares_of(const struct listing *listing, struct queue *queue,
			    unsigned from)
{
	const struct reducer *reducer = listing->reducer;

	if (reduction_squares(reducer->plan, from) == 0)
		return;
	if (!listing->counting)
		queue->transfers[queue->count] = (struct transfer){
			.squares = true, .data = reducer->squares[from]};
	queue->count++;
	queue->before++;
}

static bool lane_with(const struct reducer *reducer, unsigned replica,
		      struct lane **out)
{
	for (unsigned i = 0; i < reducer->lane_count; i++) {
		*out = &reducer->lanes[i];
		if ((*out)->replica == replica)
			return true;
	}
	return false;
}

static void list_squares(const struct listing *listing)
{
	struct reducer *reducer = listing->reducer;
	struct lane *lane;

	for (unsigned d = 1; d < reducer->plan->replicas; d++)
		if (reducer->replica == 0 && lane_with(reducer, d, &lane))
			list_squares_of(listing, &lane->in, d);
	if (reducer->replica && lane_with(reducer, 0, &lane))
		list_squares_of(listing, &lane->out, reducer->replica);
}

static void list_all(struct reducer *reducer, bool counting)
{
	struct listing listing = {.reducer = reducer, .counting = counting};
	const struct reduction *plan = reducer->plan;

	for (unsigned i = 0; i < reducer->lane_count; i++) {
		struct lane *lane = &reducer->lanes[i];

		lane->out.count = lane->out.before = 0;
		lane->in.count = lane->in.before = 0;
	}
	for (unsigned s = 0; s < plan->stage_count; s++)
		list_phase(&listing, REDUCTION_REDUCE, plan->stages[s]);
	list_phase(&listing, REDUCTION_TIED, 0);
	list_squares(&listing);
	list_phase(&listing, REDUCTION_WEIGHTS, 0);
}

static int create_lanes(struct reducer *reducer,
			const struct reducer_config *config)
{
	const struct reduction *plan = reducer->plan;
	unsigned count = lane_count(plan), d = 0;
	struct lane *unused;

	reducer->lanes =
		calloc(MAX(count + extra_lanes(plan, reducer->replica), 1),
		       sizeof(*reducer->lanes));
	if (!reducer->lanes)
		return fail(-ENOMEM, "no memory for the reducer");
	for (; reducer->lane_count < count; reducer->lane_count++)
		reducer->lanes[reducer->lane_count].replica =
			scatter_of(plan, reducer->replica, reducer->lane_count)
				.peer;
	for (count += extra_lanes(plan, reducer->replica);
	     reducer->lane_count < count; reducer->lane_count++) {
		while (d == reducer->replica || lane_with(reducer, d, &unused))
			d++;
		reducer->lanes[reducer->lane_count].replica = d;
	}
	for (unsigned i = 0; i < count; i++)
		reducer->lanes[i].rank =
			config->ranks[reducer->lanes[i].replica];
	return 0;
}

static int create_queue(struct queue *queue)
{
	queue->transfers =
		calloc(MAX(queue->count, 1), sizeof(*queue->transfers));
	return queue->transfers ? 0
				: fail(-ENOMEM, "no memory for the reducer");
}

static int create_queues(struct reducer *reducer)
{
	int rc = 0;

	list_all(reducer, true);
	for (unsigned i = 0; !rc && i < reducer->lane_count; i++) {
		rc = create_queue(&reducer->lanes[i].out);
		if (!rc)
			rc = create_queue(&reducer->lanes[i].in);
	}
	if (!rc)
		list_all(reducer, false);
	return rc;
}

/* Cuts what reducer_region_bytes() has added up. */
static void cut_memory(struct reducer *reducer,
		       const struct reducer_config *config)
{
	const struct reduction *plan = reducer->plan;
	unsigned char *at = config->memory;

	for (unsigned d = 0; d < plan->replicas; d++) {
		if (d != reducer->replica && reducer->replica)
			continue;
		reducer->squares[d] = (double *)at;
		at += squares_bytes(plan, d);
	}
	for (unsigned i = 0; i < lane_count(plan); i++) {
		struct lane *lane = &reducer->lanes[i];

		lane->slots = measure_staging(plan, reducer->replica, i,
					      config->ahead, &lane->slot_bytes);
		lane->staging = at;
		at += lane->slots * lane->slot_bytes;
	}
}

/* ---- creation: messages and places ---- */

static size_t bytes_of(const struct reducer *reducer, const struct lane *lane,
		       const struct transfer *transfer, bool out)
{
	unsigned from = out ? reducer->replica : lane->replica;

	if (transfer->squares)
		return reduction_squares(reducer->plan, from) * sizeof(double);
	return transfer->count * sizeof(float);
}

/* Scattering, gathering sums and gathering weights are told apart. */
static enum reduction_phase phase_of(const struct reducer *reducer,
				     const struct transfer *transfer)
{
	const struct reduction *plan = reducer->plan;

	if (transfer->squares)
		return REDUCTION_SQUARES;
	if (transfer->round < plan->scatter_rounds)
		return REDUCTION_REDUCE;
	if (plan->sharded)
		return REDUCTION_WEIGHTS;
	return plan->buckets[transfer->bucket].tied ? REDUCTION_TIED
						    : REDUCTION_REDUCE;
}

static void dress_out(const struct reducer *reducer, struct lane *lane)
{
	for (unsigned i = 0; i < lane->out.count; i++) {
		struct transfer *transfer = &lane->out.transfers[i];

		transfer->out = reduction_message(
			phase_of(reducer, transfer), transfer->round,
			transfer->bucket,
			bytes_of(reducer, lane, transfer, true));
		transfer->out.peer = lane->rank;
	}
}

/* The route was made from the same plan, so that the two agree. */
static void dress_in(const struct reducer *reducer, struct lane *lane,
		     struct message *message, unsigned number)
{
	struct transfer *transfer = &lane->in.transfers[number];

	ASSERT(number < lane->in.count);
	ASSERT(reduction_message_bucket(message) == transfer->bucket &&
	       reduction_message_round(message) == transfer->round);
	transfer->message = message;
	message->bytes = bytes_of(reducer, lane, transfer, false);
	message->data = transfer->data;
	if (transfer->adds)
		message->data = lane->staging +
				lane->staged++ % lane->slots * lane->slot_bytes;
}

static void dress_lane(const struct reducer *reducer, struct route *route,
		       struct lane *lane)
{
	unsigned number = 0;

	dress_out(reducer, lane);
	for (unsigned i = 0; i < route->inbox_count; i++) {
		struct inbox *inbox = &route->inboxes[i];

		if (inbox->peer != lane->rank)
			continue;
		lane->inbox = inbox;
		for (unsigned m = 0; m < inbox->count; m++)
			if (inbox->messages[m].kind == MESSAGE_REDUCE)
				dress_in(reducer, lane, &inbox->messages[m],
					 number++);
	}
	ASSERT(number == lane->in.count);
}

/* A bucket is one piece of memory: the store's rows stand in its order. */
static void check_memory(const struct reducer *reducer)
{
	const struct reduction *plan = reducer->plan;

	for (unsigned b = 0; b < plan->bucket_count; b++) {
		const struct reduction_bucket *bucket = &plan->buckets[b];
		const float *gradients = bucket_memory(reducer, b, false);
		const float *weights = bucket_memory(reducer, b, true);

		for (unsigned i = 0; i < bucket->piece_count; i++) {
			const struct reduction_piece *piece =
				&plan->pieces[bucket->first_piece + i];
			const struct store_row *row =
				&reducer->store
					 ->rows[reducer->store->row_of
							[piece->parameter]];

			ASSERT(row->accumulators[0] + piece->first ==
			       gradients + piece->offset);
			ASSERT(row->weights + piece->first ==
			       weights + piece->offset);
		}
	}
}

/* Do the accumulators of a layer lie over those of a bucket? */
static bool lies_over(const struct reducer *reducer, unsigned layer,
		      unsigned bucket)
{
	const struct layer *from = model_layer(reducer->plan->model, layer);
	const struct store *store = reducer->store;
	uintptr_t begin = (uintptr_t)bucket_memory(reducer, bucket, false);
	uintptr_t end =
		begin + reducer->plan->buckets[bucket].floats * sizeof(float);

	for (unsigned i = 0; i < from->parameter_count; i++) {
		const struct store_row *row =
			&store->rows[store->row_of[from->first_parameter + i]];
		uintptr_t first;

		if (!row->accumulators[0])
			continue; /* frozen */
		first = (uintptr_t)row->accumulators[0];
		if (first < end &&
		    begin < first + row->parameter->count * sizeof(float))
			return true;
	}
	return false;
}

/*
 * Buckets are drained in order, and those of stages that had the window before
 * stand before the layer's own.
 */
static unsigned needs_of_layer(const struct reducer *reducer, unsigned layer)
{
	const struct reduction *plan = reducer->plan;
	const struct layer *from = model_layer(plan->model, layer);
	const struct reduction_parameter *first =
		&plan->parameters[from->first_parameter];
	unsigned place, needs = 0, i = 0;

	while (i < from->parameter_count && !first[i].held)
		i++;
	if (i == from->parameter_count)
		return 0;
	place = reduction_stage_place(
		plan, plan->buckets[first[i].first_bucket].stage);
	for (unsigned b = 0; b < plan->bucket_count; b++) {
		unsigned other =
			reduction_stage_place(plan, plan->buckets[b].stage);

		if (other < place &&
		    plan->windows[other] == plan->windows[place] &&
		    lies_over(reducer, layer, b))
			needs = b + 1;
	}
	return needs;
}

static int find_needs(struct reducer *reducer)
{
	const struct reduction *plan = reducer->plan;
	unsigned layers = model_layer_count(plan->model);

	reducer->needs = calloc(layers, sizeof(*reducer->needs));
	if (!reducer->needs)
		return fail(-ENOMEM, "no memory for the reducer");
	for (unsigned l = 0; plan->windows && l < layers; l++)
		reducer->needs[l] = needs_of_layer(reducer, l);
	return 0;
}

/* ---- life ---- */

static bool row_counts(const struct store_row *row)
{
	return row->parameter->trainable &&
	       row->parameter->tied_to == PARAMETER_NOT_TIED;
}

static size_t blocks_in(size_t count)
{
	return (count + OPTIMIZER_BLOCK - 1) / OPTIMIZER_BLOCK;
}

static int create_tables(struct reducer *reducer)
{
	const struct store *store = reducer->store;
	size_t blocks = 0;

	reducer->squares =
		calloc(reducer->plan->replicas, sizeof(*reducer->squares));
	reducer->buckets = calloc(MAX(reducer->plan->bucket_count, 1),
				  sizeof(*reducer->buckets));
	reducer->first_block =
		calloc(MAX(store->count, 1), sizeof(*reducer->first_block));
	if (!reducer->squares || !reducer->buckets || !reducer->first_block)
		return fail(-ENOMEM, "no memory for the reducer");
	for (unsigned i = 0; i < store->count; i++) {
		reducer->first_block[i] = blocks;
		if (row_counts(&store->rows[i]))
			blocks += blocks_in(store->rows[i].parameter->count);
	}
	if (reducer->replica)
		return 0;
	reducer->blocks = calloc(MAX(blocks, 1), sizeof(*reducer->blocks));
	return reducer->blocks ? 0 : fail(-ENOMEM, "no memory for the reducer");
}

static bool work(void *argument);

/* Nobody waits for what this position computes last in a step. */
#define EAGER_ADDS 8

static bool holds_first(const struct reduction *plan)
{
	for (unsigned i = 0; i < plan->stage_count; i++)
		if (plan->stages[i] == 0)
			return true;
	return false;
}

int reducer_create(const struct reducer_config *config, struct reducer **out)
{
	struct reducer *reducer = calloc(1, sizeof(*reducer));
	int rc;

	if (!reducer)
		return fail(-ENOMEM, "no memory for the reducer");
	reducer->plan = config->plan;
	reducer->replica = config->replica;
	reducer->store = config->store;
	reducer->exchange = config->exchange;
	reducer->threads = config->threads;
	reducer->adds_at_once = holds_first(config->plan) ? EAGER_ADDS : 1;
	rc = create_tables(reducer);
	if (!rc)
		rc = create_lanes(reducer, config);
	if (!rc)
		rc = find_needs(reducer);
	if (!rc) {
		cut_memory(reducer, config);
		rc = create_queues(reducer);
	}
	if (rc) {
		reducer_destroy(reducer);
		return rc;
	}
	check_memory(reducer);
	for (unsigned i = 0; i < reducer->lane_count; i++)
		dress_lane(reducer, config->route, &reducer->lanes[i]);
	if (reducer->lane_count)
		exchange_set_work(reducer->exchange, work, reducer);
	*out = reducer;
	return 0;
}

void reducer_destroy(struct reducer *reducer)
{
	if (!reducer)
		return;
	for (unsigned i = 0; reducer->lanes && i < reducer->lane_count; i++) {
		free(reducer->lanes[i].out.transfers);
		free(reducer->lanes[i].in.transfers);
	}
	free(reducer->lanes);
	free(reducer->buckets);
	free(reducer->squares);
	free(reducer->first_block);
	free(reducer->needs);
	free(reducer->blocks);
	free(reducer);
}

/* ---- the rounds of a bucket ---- */

static unsigned gather_end(const struct reducer *reducer)
{
	return 2 * reducer->plan->scatter_rounds;
}

/* Messages that this replica receives for a bucket in a round. */
static unsigned count_arrivals(const struct reducer *reducer, unsigned bucket,
			       unsigned round)
{
	const struct reduction *plan = reducer->plan;
	unsigned count = 0;

	for (unsigned i = 0; i < reduction_transfers(plan); i++) {
		struct reduction_transfer transfer =
			reduction_transfer(plan, reducer->replica, round, i);

		count += reduction_span(plan, bucket, transfer.receive_first,
					transfer.receive_end)
				 .count > 0;
	}
	return count;
}

/* Goes through rounds that are done, or in which nothing comes. */
static void settle_rounds(struct reducer *reducer, unsigned bucket)
{
	struct bucket_state *state = &reducer->buckets[bucket];

	while (state->completed < state->open && state->left == 0) {
		state->completed++;
		if (state->completed < gather_end(reducer))
			state->left = count_arrivals(reducer, bucket,
						     state->completed);
	}
}

/* Rounds [0, rounds) may begin. */
static void open_rounds(struct reducer *reducer, unsigned bucket,
			unsigned rounds)
{
	struct bucket_state *state = &reducer->buckets[bucket];

	state->open = MAX(state->open, rounds);
	settle_rounds(reducer, bucket);
}

/* Those of the phase REDUCE, when the gradients are complete. */
static void open_sums(struct reducer *reducer, unsigned bucket)
{
	const struct reduction *plan = reducer->plan;
	bool gathers = !plan->sharded && !plan->buckets[bucket].tied;

	open_rounds(reducer, bucket,
		    gathers ? gather_end(reducer) : plan->scatter_rounds);
}

/* ---- moving ---- */

static bool may_send(const struct reducer *reducer,
		     const struct transfer *transfer)
{
	const struct bucket_state *state = &reducer->buckets[transfer->bucket];

	if (transfer->squares)
		return reducer->squares_ready;
	return transfer->round < state->open &&
	       transfer->round <= state->completed;
}

static void note_gone(struct reducer *reducer, struct queue *queue)
{
	while (queue->gone < queue->next &&
	       !queue->transfers[queue->gone].busy) {
		const struct transfer *transfer =
			&queue->transfers[queue->gone++];

		if (transfer->adds)
			reducer->buckets[transfer->bucket].leaving--;
	}
}

static bool send_some(struct reducer *reducer, struct lane *lane)
{
	struct queue *queue = &lane->out;
	bool moved = false;

	note_gone(reducer, queue);
	while (queue->next < queue->count) {
		struct transfer *transfer = &queue->transfers[queue->next];

		/* -EAGAIN: no room; any other error sticks. */
		if (!may_send(reducer, transfer) ||
		    exchange_try_send(reducer->exchange, &transfer->out,
				      transfer->data, &transfer->busy))
			break;
		queue->next++;
		moved = true;
	}
	return moved;
}

static bool may_take(const struct reducer *reducer, const struct lane *lane,
		     const struct transfer *transfer)
{
	const struct bucket_state *state = &reducer->buckets[transfer->bucket];

	if (transfer->squares)
		return true;
	if (transfer->round >= state->open ||
	    transfer->round != state->completed)
		return false;
	return !transfer->adds || halves(reducer->plan) ||
	       lane == &reducer->lanes[state->turn];
}

static void add(struct reducer *reducer, const struct transfer *transfer,
		const void *from, void *to)
{
	elementwise_accumulate(reducer->threads, transfer->count, from, to);
}

static void take(struct reducer *reducer, struct message *message)
{
	(void)!exchange_take(reducer->exchange, message); /* errors stick */
}

/*
 * No halving: replicas are added in order. What comes from those before this
 * one is summed in the slot of the first, and then added to its own: addition
 * commutes, so that has the bits of its own added to the sum.
 */
static void add_in_turn(struct reducer *reducer, struct transfer *transfer)
{
	struct bucket_state *state = &reducer->buckets[transfer->bucket];
	struct message *message = transfer->message;
	unsigned turn = state->turn++;

	if (turn >= reducer->replica) {
		add(reducer, transfer, message->data, transfer->data);
		take(reducer, message);
		return;
	}
	if (turn == 0) {
		state->held = message;
	} else {
		add(reducer, transfer, message->data, state->held->data);
		take(reducer, message);
	}
	if (turn + 1 == reducer->replica) {
		add(reducer, transfer, state->held->data, transfer->data);
		take(reducer, state->held);
	}
}

/* Takes the lane's next message, if it has come and its turn has. */
static bool take_next(struct reducer *reducer, struct lane *lane, bool *added)
{
	struct queue *queue = &lane->in;
	struct transfer *transfer = &queue->transfers[queue->next];

	if (queue->next == queue->count || !may_take(reducer, lane, transfer) ||
	    !exchange_poll(reducer->exchange, lane->inbox, transfer->message))
		return false;
	queue->next++;
	*added = transfer->adds;
	if (!transfer->adds) {
		take(reducer, transfer->message);
	} else if (halves(reducer->plan)) {
		add(reducer, transfer, transfer->message->data, transfer->data);
		take(reducer, transfer->message);
	} else {
		add_in_turn(reducer, transfer);
	}
	if (!transfer->squares) {
		reducer->buckets[transfer->bucket].left--;
		settle_rounds(reducer, transfer->bucket);
	}
	return true;
}

/* Moves the own chunk to the sums that are kept, and frees the window. */
static void drain(struct reducer *reducer, unsigned index)
{
	const struct reduction *plan = reducer->plan;
	const struct reduction_bucket *bucket = &plan->buckets[index];
	struct store *store = reducer->store;

	for (unsigned i = 0; i < bucket->piece_count; i++) {
		unsigned parameter =
			plan->pieces[bucket->first_piece + i].parameter;
		const struct store_row *row =
			&store->rows[store->row_of[parameter]];
		struct reduction_run run =
			reduction_own_part(plan, reducer->replica, index, i);

		if (run.count)
			elementwise_copy(reducer->threads, run.count,
					 row->accumulators[0] + run.first,
					 store_sum(row, run.first));
	}
	elementwise_zero(reducer->threads, bucket->floats,
			 bucket_memory(reducer, index, false));
}

/* One bucket at most that has been scattered. */
static bool drain_some(struct reducer *reducer)
{
	const struct reduction *plan = reducer->plan;

	while (reducer->next_drain < plan->bucket_count) {
		const struct bucket_state *state =
			&reducer->buckets[reducer->next_drain];

		if (state->completed < plan->scatter_rounds || state->leaving)
			return false;
		drain(reducer, reducer->next_drain++);
		return true;
	}
	return false;
}

/*
 * Sends what can be sent, and adds a few messages at most: one where a stage
 * before this one waits for what the rank computes.
 */
static bool work(void *argument)
{
	struct reducer *reducer = argument;
	unsigned adds = reducer->adds_at_once;
	bool moved = false, added = false;

	if (!reducer->active)
		return false;
	for (unsigned i = 0; i < reducer->lane_count; i++)
		moved |= send_some(reducer, &reducer->lanes[i]);
	for (unsigned i = 0; adds > 0 && i < reducer->lane_count; i++)
		while (adds > 0 &&
		       take_next(reducer, &reducer->lanes[i], &added)) {
			moved = true;
			adds -= added;
			send_some(reducer, &reducer->lanes[i]);
		}
	if (adds > 0 && reducer->plan->windows)
		moved |= drain_some(reducer);
	return moved && !exchange_error(reducer->exchange);
}

/* ---- waiting ---- */

typedef bool condition_fn(const struct reducer *reducer);

/* Whom to name while waiting: one that has something to send, or to take. */
static int pause_for_some(struct reducer *reducer)
{
	const struct lane *lane = reducer->lanes;
	enum liveness_wait wait = LIVENESS_WAITS_ROOM;

	for (unsigned i = 0; i < reducer->lane_count; i++) {
		const struct lane *here = &reducer->lanes[i];

		if (here->in.next < here->in.before) {
			lane = here;
			wait = LIVENESS_WAITS_DATA;
		} else if (wait == LIVENESS_WAITS_ROOM &&
			   here->out.gone < here->out.next) {
			lane = here;
		}
	}
	return exchange_pause(reducer->exchange, wait, lane->rank);
}

static int wait_until(struct reducer *reducer, condition_fn *met)
{
	int rc = exchange_error(reducer->exchange);

	while (!rc && !met(reducer)) {
		rc = pause_for_some(reducer);
		if (!rc)
			rc = exchange_error(reducer->exchange);
	}
	return rc;
}

/* ---- a step ---- */

void reducer_begin(struct reducer *reducer)
{
	for (unsigned b = 0; b < reducer->plan->bucket_count; b++)
		reducer->buckets[b] = (struct bucket_state){
			.left = gather_end(reducer)
					? count_arrivals(reducer, b, 0)
					: 0};
	for (unsigned i = 0; i < reducer->lane_count; i++) {
		struct lane *lane = &reducer->lanes[i];

		lane->out.next = lane->out.gone = lane->in.next = 0;
		for (unsigned n = 0; n < lane->out.count; n++)
			if (lane->out.transfers[n].adds)
				reducer->buckets[lane->out.transfers[n].bucket]
					.leaving++;
	}
	reducer->next_drain = 0;
	reducer->squares_ready = false;
	reducer->active = true;
}

void reducer_layer_ready(struct reducer *reducer, unsigned layer)
{
	const struct reduction *plan = reducer->plan;

	for (unsigned b = 0; b < plan->bucket_count; b++)
		if (plan->buckets[b].layer == layer)
			open_sums(reducer, b);
}

void reducer_stage_ready(struct reducer *reducer, unsigned stage)
{
	const struct reduction *plan = reducer->plan;

	for (unsigned b = 0; b < plan->bucket_count; b++)
		if (plan->buckets[b].stage == stage)
			open_sums(reducer, b);
}

/* The own chunk is summed, and is where it belongs. */
static bool is_summed(const struct reducer *reducer, unsigned bucket)
{
	if (reducer->plan->windows)
		return bucket < reducer->next_drain;
	return reducer->buckets[bucket].completed >=
	       reducer->plan->scatter_rounds;
}

static bool enough_is_drained(const struct reducer *reducer)
{
	return reducer->next_drain >= reducer->awaited;
}

void reducer_layer_await(struct reducer *reducer, unsigned layer)
{
	reducer->awaited = reducer->needs[layer];
	(void)!wait_until(reducer, enough_is_drained); /* the error sticks */
}

static bool tied_are_summed(const struct reducer *reducer)
{
	const struct reduction *plan = reducer->plan;

	for (unsigned b = 0; b < plan->bucket_count; b++)
		if (plan->buckets[b].tied && !is_summed(reducer, b))
			return false;
	return true;
}

int reducer_tied_await(struct reducer *reducer)
{
	return wait_until(reducer, tied_are_summed);
}

void reducer_tied_ready(struct reducer *reducer)
{
	const struct reduction *plan = reducer->plan;

	for (unsigned b = 0; !plan->sharded && b < plan->bucket_count; b++)
		if (plan->buckets[b].tied && !plan->buckets[b].alias)
			open_rounds(reducer, b, gather_end(reducer));
}

static bool all_are_summed(const struct reducer *reducer)
{
	for (unsigned b = 0; b < reducer->plan->bucket_count; b++)
		if (!is_summed(reducer, b))
			return false;
	return true;
}

/* All there is before the vote has been posted, and has come. */
static bool sums_are_done(const struct reducer *reducer)
{
	for (unsigned i = 0; i < reducer->lane_count; i++) {
		const struct lane *lane = &reducer->lanes[i];

		if (lane->out.next < lane->out.before ||
		    lane->in.next < lane->in.before)
			return false;
	}
	return true;
}

static bool nothing_is_leaving(const struct reducer *reducer)
{
	for (unsigned i = 0; i < reducer->lane_count; i++) {
		const struct queue *queue = &reducer->lanes[i].out;

		for (unsigned n = queue->gone; n < queue->next; n++)
			if (queue->transfers[n].busy)
				return false;
	}
	return true;
}

static bool all_is_done(const struct reducer *reducer)
{
	for (unsigned i = 0; i < reducer->lane_count; i++) {
		const struct lane *lane = &reducer->lanes[i];

		if (lane->out.next < lane->out.count ||
		    lane->in.next < lane->in.count)
			return false;
	}
	return nothing_is_leaving(reducer);
}

/* Calls back for what is a replica's own and counts in the norm, in order. */
typedef void own_fn(struct reducer *reducer, const struct store_row *row,
		    const struct reduction_run *run, double *partials);

static void for_own(struct reducer *reducer, unsigned replica, own_fn *call)
{
	const struct reduction *plan = reducer->plan;
	const struct store *store = reducer->store;
	double *partials = reducer->squares[replica];

	for (unsigned b = 0; b < plan->bucket_count; b++) {
		const struct reduction_bucket *bucket = &plan->buckets[b];

		for (unsigned i = 0; bucket->counts && i < bucket->piece_count;
		     i++) {
			struct reduction_run run =
				reduction_own_part(plan, replica, b, i);
			unsigned parameter =
				plan->pieces[bucket->first_piece + i].parameter;

			if (run.count == 0)
				continue;
			call(reducer, &store->rows[store->row_of[parameter]],
			     &run, partials);
			partials += blocks_in(run.count);
		}
	}
}

static void square_own(struct reducer *reducer, const struct store_row *row,
		       const struct reduction_run *run, double *partials)
{
	square_partials(reducer->threads, run->count,
			store_sum(row, run->first), partials);
}

static void place_partials(struct reducer *reducer, const struct store_row *row,
			   const struct reduction_run *run, double *partials)
{
	double *blocks = reducer->blocks +
			 reducer->first_block[row - reducer->store->rows] +
			 run->first / OPTIMIZER_BLOCK;

	for (size_t i = 0; i < blocks_in(run->count); i++)
		blocks[i] = partials[i];
}

static void add_partials(struct reducer *reducer, double *square)
{
	const struct store *store = reducer->store;

	for (unsigned d = 0; d < reducer->plan->replicas; d++)
		for_own(reducer, d, place_partials);
	for (unsigned i = 0; i < store->count; i++) {
		const struct store_row *row = &store->rows[i];
		const double *blocks =
			reducer->blocks + reducer->first_block[i];
		double sum = 0.0;

		if (!row_counts(row))
			continue;
		for (size_t b = 0; b < blocks_in(row->parameter->count); b++)
			sum += blocks[b];
		*square++ = sum;
	}
}

int reducer_squares(struct reducer *reducer, double *square)
{
	int rc = wait_until(reducer, all_are_summed);

	if (rc)
		return rc;
	for_own(reducer, reducer->replica, square_own);
	reducer->squares_ready = true;
	rc = wait_until(reducer, sums_are_done);
	if (!rc && reducer->replica == 0)
		add_partials(reducer, square);
	return rc;
}

int reducer_settle(struct reducer *reducer)
{
	return wait_until(reducer, nothing_is_leaving);
}

int reducer_weights(struct reducer *reducer)
{
	const struct reduction *plan = reducer->plan;
	int rc;

	for (unsigned b = 0; plan->sharded && b < plan->bucket_count; b++)
		if (!plan->buckets[b].alias)
			open_rounds(reducer, b, gather_end(reducer));
	rc = wait_until(reducer, all_is_done);
	reducer->active = false;
	if (!rc && plan->sharded)
		store_round_others(reducer->store, reducer->threads);
	return rc;
}
