#include "engine/reduce.h"
#include "engine/pipeline.h"
#include "engine/reducer.h"
#include "engine/tie.h"
#include "model/kernels/elementwise.h"

/* The rows of this rank that are tied to one elsewhere, or to each other. */
static struct store_row *tied_row(const struct store *store)
{
	for (unsigned i = 0; i < store->count; i++)
		if (store->rows[i].elsewhere || store->rows[i].follower >= 0)
			return &store->rows[i];
	return NULL;
}

/* What is not this replica's own, others sum. */
static void reduce_local(struct pipeline *pipeline, struct store_row *row)
{
	struct store_row *head = &pipeline->store->rows[row->follower];

	for (unsigned i = 0; i < pipeline->tie_pieces; i++) {
		const struct reduction_run *run = &pipeline->tie_runs[i];

		elementwise_accumulate(pipeline->world->team, run->count,
				       store_sum(head, run->first),
				       store_sum(row, run->first));
	}
}

struct exchange_pieces {
	struct pipeline *pipeline;
	struct store_row *row;
	unsigned peer;
};

static float *memory_of(const struct exchange_pieces *pieces, unsigned piece)
{
	return store_sum(pieces->row, pieces->pipeline->tie_runs[piece].first);
}

static int send_piece(const struct exchange_pieces *pieces, unsigned piece,
		      bool *busy)
{
	struct message message = {
		.kind = MESSAGE_TIED,
		.micro_batch = (uint16_t)piece,
		.peer = pieces->peer,
		.bytes =
			pieces->pipeline->tie_runs[piece].count * sizeof(float),
	};

	return exchange_send(pieces->pipeline->exchange, &message,
			     memory_of(pieces, piece), busy);
}

/* Addition commutes: embedding + head has the same bits on both sides. */
static int add_piece(const struct exchange_pieces *pieces,
		     struct message *first, unsigned piece, bool *busy)
{
	struct pipeline *pipeline = pieces->pipeline;
	struct message *message = first + piece;
	int rc = exchange_await(pipeline->exchange, message);

	if (!rc)
		rc = exchange_await_sent(pipeline->exchange, busy);
	if (rc)
		return rc;
	elementwise_accumulate(pipeline->world->team,
			       pipeline->tie_runs[piece].count, message->data,
			       memory_of(pieces, piece));
	return exchange_take(pipeline->exchange, message);
}

#define PIECES_UNDER_WAY 4

static int reduce_remote(struct pipeline *pipeline, struct store_row *row)
{
	unsigned first_rank =
		pipeline_rank_with(pipeline, pipeline->tie.first_stage);
	struct exchange_pieces pieces = {
		.pipeline = pipeline,
		.row = row,
		.peer = first_rank == pipeline->world->rank
				? pipeline_rank_with(pipeline,
						     pipeline->tie.second_stage)
				: first_rank,
	};
	struct message *first =
		route_find(pipeline->train_route, pieces.peer, MESSAGE_TIED);
	bool busy[PIECES_UNDER_WAY] = {false};
	unsigned count = pipeline->tie_pieces;
	int rc = 0;

	for (unsigned i = 0; !rc && i < count + PIECES_UNDER_WAY; i++) {
		unsigned behind = i - PIECES_UNDER_WAY;

		if (i >= PIECES_UNDER_WAY)
			rc = add_piece(&pieces, first, behind,
				       &busy[behind % PIECES_UNDER_WAY]);
		if (!rc && i < count)
			rc = send_piece(&pieces, i,
					&busy[i % PIECES_UNDER_WAY]);
	}
	return rc;
}

int reduce_tied(struct pipeline *pipeline)
{
	struct store_row *row = tied_row(pipeline->store);
	int rc;

	if (!row || !row->parameter->trainable)
		return 0;
	rc = reducer_tied_await(pipeline->reducer);
	if (!rc && row->follower >= 0)
		reduce_local(pipeline, row);
	else if (!rc && pipeline->tied)
		rc = tie_finish(pipeline->tied);
	else if (!rc)
		rc = reduce_remote(pipeline, row);
	if (!rc)
		reducer_tied_ready(pipeline->reducer);
	return rc;
}
