#include "engine/timeline.h"
#include "base/log.h"
#include "base/numbers.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/*
 * When the receiver of each message had it, where it stood waiting; 0 where it
 * came later. A message is known by the stage and micro-batch that use it.
 */
struct arrivals {
	double *forward; /* [stages][micro_batches] */
	double *backward;
	size_t micro_batches;
};

static bool is_message(unsigned op)
{
	return op >= ACTION_SEND_FORWARD && op <= ACTION_RECV_BACKWARD;
}

static void arrivals_fini(struct arrivals *arrivals)
{
	free(arrivals->forward);
	free(arrivals->backward);
}

static int arrivals_init(struct arrivals *arrivals,
			 const struct schedule *schedule)
{
	/* Every stage has an F of every micro-batch: no more than actions. */
	size_t count = (size_t)schedule->stages * schedule->micro_batches;

	arrivals->micro_batches = schedule->micro_batches;
	arrivals->forward = calloc(count + 1, sizeof(double));
	arrivals->backward = calloc(count + 1, sizeof(double));
	if (arrivals->forward != NULL && arrivals->backward != NULL)
		return 0;
	arrivals_fini(arrivals);
	return -ENOMEM;
}

static void arrivals_note(struct arrivals *arrivals,
			  const struct schedule *schedule,
			  const struct schedule_simulation *simulation)
{
	for (unsigned rank = 0; rank < schedule->ranks; rank++) {
		const struct schedule_row *row = &schedule->rows[rank];

		for (size_t i = 0; i < row->count; i++) {
			const struct action *action = &row->actions[i];
			const struct schedule_time *time =
				&simulation->times[rank][i];
			size_t at = action->stage * arrivals->micro_batches +
				    action->micro_batch;

			if (time->end <= time->start)
				continue;
			if (action->op == ACTION_RECV_FORWARD)
				arrivals->forward[at] = time->end;
			else if (action->op == ACTION_RECV_BACKWARD)
				arrivals->backward[at] = time->end;
		}
	}
}

static double arrivals_of(const struct arrivals *arrivals,
			  const struct action *action)
{
	size_t before = (action->stage - 1) * arrivals->micro_batches;
	size_t behind = (action->stage + 1) * arrivals->micro_batches;

	if (action->op == ACTION_SEND_FORWARD)
		return arrivals->forward[behind + action->micro_batch];
	if (action->op == ACTION_SEND_BACKWARD)
		return arrivals->backward[before + action->micro_batch];
	return 0;
}

static int fill_row(const struct schedule_row *row,
		    const struct schedule_time *times,
		    const struct arrivals *arrivals, struct timeline_row *out,
		    double *span)
{
	out->events = calloc(row->count + 1, sizeof(*out->events));
	if (out->events == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < row->count; i++) {
		const struct action *action = &row->actions[i];

		*span = MAX(*span, times[i].end);
		if (times[i].end <= times[i].start && !is_message(action->op))
			continue;
		out->events[out->count++] = (struct timeline_event){
			.action = *action,
			.start = times[i].start,
			.end = times[i].end,
			.arrival = arrivals_of(arrivals, action),
		};
	}
	return 0;
}

int timeline_from_simulation(const struct schedule *lowered,
			     const struct schedule_simulation *simulation,
			     struct timeline *out)
{
	struct timeline timeline = {.ranks = lowered->ranks};
	struct arrivals arrivals;
	int error = arrivals_init(&arrivals, lowered);

	ASSERT(lowered->lowered && simulation->times != NULL);
	if (error)
		goto err_log;
	arrivals_note(&arrivals, lowered, simulation);
	timeline.rows = calloc(timeline.ranks, sizeof(*timeline.rows));
	if (timeline.rows == NULL)
		error = -ENOMEM;
	for (unsigned rank = 0; rank < timeline.ranks && !error; rank++)
		error = fill_row(&lowered->rows[rank], simulation->times[rank],
				 &arrivals, &timeline.rows[rank],
				 &timeline.span);
	arrivals_fini(&arrivals);
	if (error)
		goto err_timeline;
	*out = timeline;
	return 0;

err_timeline:
	timeline_fini(&timeline);
err_log:
	return fail(error, "no memory for the timeline of schedule %s",
		    lowered->name);
}

void timeline_keep(struct timeline *timeline, unsigned ranks)
{
	for (unsigned rank = ranks; rank < timeline->ranks; rank++)
		free(timeline->rows[rank].events);
	timeline->ranks = MIN(timeline->ranks, ranks);
}

void timeline_fini(struct timeline *timeline)
{
	for (unsigned rank = 0; timeline->rows && rank < timeline->ranks;
	     rank++)
		free(timeline->rows[rank].events);
	free(timeline->rows);
	*timeline = (struct timeline){0};
}

static double *part_of_share(struct timeline_share *share, unsigned op)
{
	switch (op) {
	case ACTION_FORWARD:
	case ACTION_BACKWARD_INPUT:
	case ACTION_BACKWARD_WEIGHT:
	case ACTION_BACKWARD:
		return &share->compute;
	case ACTION_SEND_FORWARD:
	case ACTION_SEND_BACKWARD:
		return &share->sending;
	case ACTION_RECV_FORWARD:
	case ACTION_RECV_BACKWARD:
		return &share->waiting;
	default:
		return &share->ending;
	}
}

void timeline_share(const struct timeline *timeline, unsigned rank,
		    struct timeline_share *out)
{
	const struct timeline_row *row = &timeline->rows[rank];

	*out = (struct timeline_share){.idle = timeline->span};
	for (size_t i = 0; i < row->count; i++) {
		const struct timeline_event *event = &row->events[i];
		double length = event->end - event->start;

		*part_of_share(out, event->action.op) += length;
		out->idle -= length;
	}
	/* What adding up in another order than the clock's leaves. */
	out->idle = MAX(out->idle, 0);
}

/* With 7 significant digits, so that a page does not carry 17. */
static json_t *json_time(double value)
{
	char text[32];

	snprintf(text, sizeof(text), "%.7g", value);
	return json_real(strtod(text, NULL));
}

static json_t *event_to_json(const struct timeline_event *event)
{
	const struct action *action = &event->action;
	json_t *json =
		json_pack("[siioo]", schedule_op_text(action->op),
			  action->stage, action->micro_batch,
			  json_time(event->start), json_time(event->end));

	if (json != NULL && event->arrival > 0 &&
	    json_array_append_new(json, json_time(event->arrival))) {
		json_decref(json);
		return NULL;
	}
	return json;
}

json_t *timeline_to_json(const struct timeline *timeline)
{
	json_t *rows = json_array();

	for (unsigned rank = 0; rank < timeline->ranks; rank++) {
		const struct timeline_row *row = &timeline->rows[rank];
		json_t *events = json_array();

		if (json_array_append_new(rows, events))
			goto err;
		for (size_t i = 0; i < row->count; i++)
			if (json_array_append_new(
				    events, event_to_json(&row->events[i])))
				goto err;
	}
	return rows;
err:
	json_decref(rows);
	return NULL;
}

/* ---- links ---- */

#define SLOW_FACTOR 4

/* Of one directed link. */
struct travel {
	double sum;
	size_t count;
};

static double mean(const struct travel *travel)
{
	return travel->sum / (double)travel->count;
}

/* The RECV of the message that a SEND gave away, and on which rank; or NULL. */
static const struct timeline_event *
find_receive(const struct timeline *timeline, const struct action *send,
	     unsigned *rank)
{
	bool forward = send->op == ACTION_SEND_FORWARD;
	unsigned op = forward ? ACTION_RECV_FORWARD : ACTION_RECV_BACKWARD;
	unsigned stage = forward ? send->stage + 1u : send->stage - 1u;

	if (!forward && (send->op != ACTION_SEND_BACKWARD || send->stage == 0))
		return NULL;
	for (*rank = 0; *rank < timeline->ranks; ++*rank) {
		const struct timeline_row *row = &timeline->rows[*rank];

		for (size_t i = 0; i < row->count; i++) {
			const struct action *action = &row->events[i].action;

			if (action->op == op && action->stage == stage &&
			    action->micro_batch == send->micro_batch)
				return &row->events[i];
		}
	}
	return NULL;
}

static void add_travels(const struct timeline *timeline, double least,
			struct travel *travels)
{
	for (unsigned from = 0; from < timeline->ranks; from++) {
		const struct timeline_row *row = &timeline->rows[from];

		for (size_t i = 0; i < row->count; i++) {
			const struct timeline_event *send = &row->events[i];
			const struct timeline_event *receive;
			struct travel *travel;
			unsigned to;

			receive = find_receive(timeline, &send->action, &to);
			/* One that nobody waited for came at an unknown time. */
			if (!receive || (receive->start > send->end &&
					 receive->end - receive->start < least))
				continue;
			travel = &travels[from * timeline->ranks + to];
			travel->sum += MAX(receive->end - send->end, 0.0);
			travel->count++;
		}
	}
}

bool timeline_slow_link(const struct timeline *timeline, double least,
			struct timeline_link *out)
{
	size_t pairs = (size_t)timeline->ranks * timeline->ranks;
	struct travel *travels = calloc(pairs, sizeof(*travels));
	double *others = calloc(pairs, sizeof(*others));
	struct timeline_link worst = {.travel = -1};
	size_t count = 0;

	if (travels && others)
		add_travels(timeline, least, travels);
	for (size_t i = 0; travels && others && i < pairs; i++) {
		if (!travels[i].count)
			continue;
		others[count++] = mean(&travels[i]);
		if (mean(&travels[i]) > worst.travel)
			worst = (struct timeline_link){
				.from = (unsigned)(i / timeline->ranks),
				.to = (unsigned)(i % timeline->ranks),
				.travel = mean(&travels[i]),
			};
	}
	for (size_t i = 0; i < count; i++) {
		if (others[i] == worst.travel) {
			others[i] = others[--count];
			break;
		}
	}
	worst.usual = count ? numbers_median(others, count) : 0;
	free(travels);
	free(others);
	if (!count || worst.travel < SLOW_FACTOR * worst.usual ||
	    worst.travel < worst.usual + least)
		return false;
	*out = worst;
	return true;
}
