#include "engine/tie.h"
#include "base/clock.h"
#include "base/log.h"
#include "engine/exchange.h"
#include "engine/pipeline.h"
#include "engine/reduction.h"
#include "engine/trace.h"
#include "model/kernels/rows.h"

#include <errno.h>
#include <stdlib.h>

struct tie {
	struct pipeline *pipeline;
	const struct tie_plan *plan;
	float *table; /* this end's gradient */
	unsigned peer;
	bool rows_end;      /* this is the embedding's */
	size_t last_action; /* behind which the head's gradient is complete, and
			       nothing else goes to the peer before it */
	struct inbox *inbox;
	struct message *first; /* of the peer's */

	/* The rows that the step's tokens touch. */
	struct rows rows;
	uint32_t *ids; /* [plan->rows] */
	unsigned char *marks;

	bool active;    /* in a pass of training */
	bool complete;  /* the head's gradient, on its rank */
	unsigned sent;  /* pieces of it, posted */
	unsigned taken; /* pieces that have left, or have come */
	float *aside;   /* rows end: of the head's gradient, [rows * width] */
	unsigned char *slots; /* rows end: rows on their way out */
	bool busy[TIE_UNDER_WAY];
};

/* ---- sizes ---- */

void tie_plan_rows(const struct parameter *target, uint64_t tokens,
		   struct tie_plan *out)
{
	size_t table = target->shape[0], width = target->shape[1], row_bytes;

	*out = (struct tie_plan){0};
	if (!target->rows_by_token || target->dimensions != 2 ||
	    target->count > UINT32_MAX)
		return;
	row_bytes = width * sizeof(float);
	/* Where most of the table is touched there is little to save. */
	if (tokens > table / 2 || row_bytes > REDUCTION_TIE_PIECE_BYTES)
		return;
	out->by_rows = true;
	out->width = width;
	out->table_rows = table;
	out->rows = (size_t)tokens;
	out->rows_each = REDUCTION_TIE_PIECE_BYTES / row_bytes;
	out->row_messages =
		(unsigned)((out->rows + out->rows_each - 1) / out->rows_each);
}

static size_t rows_in(const struct tie_plan *plan, unsigned message)
{
	return MIN(plan->rows_each, plan->rows - message * plan->rows_each);
}

size_t tie_row_bytes(const struct tie_plan *plan, unsigned message)
{
	return rows_in(plan, message) * plan->width * sizeof(float);
}

/* Received pieces; then, at the rows' end, sent ones and what is put aside. */
#define RECEIVED_BYTES (TIE_AHEAD * REDUCTION_TIE_PIECE_BYTES)
#define SENT_BYTES     (TIE_UNDER_WAY * REDUCTION_TIE_PIECE_BYTES)

size_t tie_region_bytes(const struct tie_plan *plan, bool rows_end)
{
	if (!rows_end)
		return RECEIVED_BYTES;
	return RECEIVED_BYTES + SENT_BYTES +
	       plan->rows * plan->width * sizeof(float);
}

void *tie_slot(void *memory, unsigned index)
{
	return (unsigned char *)memory +
	       index % TIE_AHEAD * REDUCTION_TIE_PIECE_BYTES;
}

/* ---- life ---- */

/*
 * The head's last F and whatever else its rank sends to the other end: what
 * comes later on this link is the vote.
 */
static size_t find_last_action(const struct pipeline *p, unsigned peer)
{
	const struct schedule *schedule = p->train_schedule;
	const struct schedule_row *row = &schedule->rows[p->place.position];
	size_t last = 0;

	for (size_t i = 0; i < row->count; i++) {
		const struct action *action = &row->actions[i];
		bool sends =
			(action->op == ACTION_SEND_FORWARD &&
			 pipeline_rank_with(p, action->stage + 1u) == peer) ||
			(action->op == ACTION_SEND_BACKWARD &&
			 pipeline_rank_with(p, action->stage - 1u) == peer);

		if (sends || (action->op == ACTION_FORWARD &&
			      action->stage == p->tie.second_stage))
			last = i;
	}
	return last;
}

static struct inbox *find_inbox(const struct route *route, unsigned peer)
{
	for (unsigned i = 0; i < route->inbox_count; i++)
		if (route->inboxes[i].peer == peer)
			return &route->inboxes[i];
	ASSERT(!"the other end of a tie sends nothing");
	return NULL;
}

static float *find_table(const struct store *store)
{
	for (unsigned i = 0; i < store->count; i++)
		if (store->rows[i].elsewhere)
			return store->rows[i].accumulators[0];
	ASSERT(!"no tied parameter");
	return NULL;
}

static bool work(void *argument);

int tie_create(struct pipeline *p, void *memory, struct tie **out)
{
	const struct tie_plan *plan = &p->tie_plan;
	struct tie *tie = calloc(1, sizeof(*tie));

	if (!tie)
		return fail(-ENOMEM, "no memory for a tied parameter");
	tie->pipeline = p;
	tie->plan = plan;
	tie->rows_end = pipeline_holds(p, p->tie.first_stage);
	tie->peer = pipeline_rank_with(p, tie->rows_end ? p->tie.second_stage
							: p->tie.first_stage);
	tie->table = find_table(p->store);
	tie->last_action = find_last_action(p, tie->peer);
	tie->inbox = find_inbox(p->train_route, tie->peer);
	tie->first = route_find(p->train_route, tie->peer, MESSAGE_TIED);
	tie->ids = calloc(plan->rows, sizeof(*tie->ids));
	tie->marks = calloc(plan->table_rows, 1);
	tie->slots = (unsigned char *)memory + RECEIVED_BYTES;
	tie->aside = (float *)(void *)(tie->slots + SENT_BYTES);
	if (!tie->ids || !tie->marks) {
		tie_destroy(tie);
		return fail(-ENOMEM, "no memory for a tied parameter");
	}
	exchange_set_work(p->exchange, work, tie);
	*out = tie;
	return 0;
}

void tie_destroy(struct tie *tie)
{
	if (!tie)
		return;
	free(tie->ids);
	free(tie->marks);
	free(tie);
}

/* ---- a pass ---- */

void tie_begin(struct tie *tie)
{
	if (!tie)
		return;
	tie->active = true;
	tie->complete = false;
	tie->sent = 0;
	tie->taken = 0;
	tie->rows = (struct rows){.ids = tie->ids, .width = tie->plan->width};
}

void tie_tokens(struct tie *tie)
{
	struct pipeline *p;

	if (!tie || !tie->active)
		return;
	p = tie->pipeline;
	tie->rows.count = rows_of_tokens(
		pipeline_tokens(p, 0),
		pipeline_share_samples(p) * p->job->context,
		tie->plan->table_rows, tie->marks, tie->plan->rows, tie->ids);
}

void tie_action_done(struct tie *tie, size_t index)
{
	if (tie && tie->active && !tie->rows_end && index == tie->last_action) {
		tie->complete = true;
		trace_note_tied(tie->pipeline->trace, clock_now_ns());
		work(tie);
	}
}

static const struct reduction_run *run_of(const struct tie *tie, unsigned piece)
{
	return &tie->pipeline->tie_runs[piece];
}

/* Posts a piece of the head's gradient. */
static bool send_piece(struct tie *tie)
{
	const struct reduction_run *run = run_of(tie, tie->sent);
	struct message message = {
		.kind = MESSAGE_TIED,
		.micro_batch = (uint16_t)tie->sent,
		.peer = tie->peer,
		.bytes = run->count * sizeof(float),
	};

	if (exchange_try_send(tie->pipeline->exchange, &message,
			      tie->table + run->first,
			      &tie->busy[tie->sent % TIE_UNDER_WAY]))
		return false; /* no room, or an error, which sticks */
	tie->sent++;
	return true;
}

/* What has left gets the zeros of the embedding's other rows. */
static bool work_of_head(struct tie *tie)
{
	const struct reduction_run *run = run_of(tie, tie->taken);

	if (!tie->complete || tie->taken == tie->pipeline->tie_pieces)
		return false;
	if (tie->sent < tie->pipeline->tie_pieces &&
	    tie->sent - tie->taken < TIE_UNDER_WAY && send_piece(tie))
		return true;
	if (tie->taken == tie->sent || tie->busy[tie->taken % TIE_UNDER_WAY])
		return false;
	rows_take(&tie->rows, run->first, run->count, tie->table + run->first,
		  tie->table, NULL);
	tie->taken++;
	return true;
}

/* The embedding's W writes no row but the tokens'. */
static bool work_of_rows(struct tie *tie)
{
	const struct reduction_run *run = run_of(tie, tie->taken);
	struct message *message = tie->first + tie->taken;

	if (tie->taken == tie->pipeline->tie_pieces ||
	    !exchange_poll(tie->pipeline->exchange, tie->inbox, message))
		return false;
	rows_take(&tie->rows, run->first, run->count, message->data, tie->table,
		  tie->aside);
	tie->taken++;
	if (tie->taken == tie->pipeline->tie_pieces)
		trace_note_tied(tie->pipeline->trace, clock_now_ns());
	/* The error sticks. */
	(void)!exchange_take(tie->pipeline->exchange, message);
	return true;
}

static bool work(void *argument)
{
	struct tie *tie = argument;

	if (!tie->active)
		return false;
	return tie->rows_end ? work_of_rows(tie) : work_of_head(tie);
}

/* ---- its end ---- */

/* Those of ids[] that a message carries. */
static struct rows rows_of(const struct tie *tie, unsigned message)
{
	size_t first = MIN(message * tie->plan->rows_each, tie->rows.count);

	return (struct rows){
		.ids = tie->ids + first,
		.count = MIN(tie->plan->rows_each, tie->rows.count - first),
		.width = tie->plan->width,
	};
}

static int send_rows(struct tie *tie)
{
	struct exchange *exchange = tie->pipeline->exchange;
	int rc = 0;

	for (unsigned i = 0; !rc && i < tie->plan->row_messages; i++) {
		bool *busy = &tie->busy[i % TIE_UNDER_WAY];
		struct rows rows = rows_of(tie, i);
		void *slot = tie->slots +
			     (i % TIE_UNDER_WAY) * REDUCTION_TIE_PIECE_BYTES;
		struct message message = {
			.kind = MESSAGE_TIED,
			.micro_batch = (uint16_t)i,
			.peer = tie->peer,
			.bytes = tie_row_bytes(tie->plan, i),
		};

		rc = exchange_await_sent(exchange, busy);
		if (rc)
			break;
		rows_gather(&rows, tie->table, slot);
		rc = exchange_send(exchange, &message, slot, busy);
	}
	return rc;
}

static int take_rows(struct tie *tie)
{
	struct exchange *exchange = tie->pipeline->exchange;
	int rc = 0;

	for (unsigned i = 0; !rc && i < tie->plan->row_messages; i++) {
		struct message *message = tie->first + i;
		struct rows rows = rows_of(tie, i);

		rc = exchange_await(exchange, message);
		if (rc)
			break;
		rows_accumulate(&rows, message->data, tie->table);
		rc = exchange_take(exchange, message);
	}
	return rc;
}

/* Whatever is under way of the head's gradient. */
static int await_pieces(struct tie *tie)
{
	struct pipeline *p = tie->pipeline;
	struct exchange *exchange = p->exchange;
	const struct action waited = {
		.op = ACTION_REDUCE_TIED,
		.stage = tie->rows_end ? p->tie.first_stage
				       : p->tie.second_stage,
	};
	int rc = exchange_error(exchange);

	while (!rc && tie->taken < p->tie_pieces)
		rc = exchange_pause(exchange,
				    tie->rows_end ? LIVENESS_WAITS_DATA
						  : LIVENESS_WAITS_ROOM,
				    tie->peer);
	/* An event of its own: the next one is what the end itself takes. */
	trace_note(p->trace, &waited);
	return rc;
}

int tie_finish(struct tie *tie)
{
	int rc = tie->rows_end ? send_rows(tie) : 0;

	if (!rc)
		rc = await_pieces(tie);
	if (!rc && tie->rows_end)
		rows_accumulate(&tie->rows, tie->aside, tie->table);
	else if (!rc)
		rc = take_rows(tie);
	tie->active = false;
	return rc;
}
