#include "engine/findings.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/numbers.h"
#include "engine/trace.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ORIGIN "a rank's trace"

/* ---- what one rank tells ---- */

static double event_seconds(const struct trace_event *event)
{
	return clock_seconds(event->end_ns - event->begin_ns);
}

/* The median length of all recorded events of two kinds. */
static double median_of(const struct trace *trace, double *room, unsigned op,
			unsigned other_op)
{
	size_t count = 0;

	for (unsigned s = 0; s < trace->recorded; s++)
		for (unsigned i = 0; i < trace->step[s].count; i++) {
			const struct trace_event *event =
				&trace->step[s].events[i];

			if (event->action.op == op ||
			    event->action.op == other_op)
				room[count++] = event_seconds(event);
		}
	return numbers_median(room, count);
}

/* Step by step: the length of the step's last event of a kind, or 0. */
static json_t *lengths_of(const struct trace *trace, unsigned op)
{
	json_t *array = json_array();

	for (unsigned s = 0; s < trace->recorded; s++) {
		double seconds = 0;

		for (unsigned i = 0; i < trace->step[s].count; i++)
			if (trace->step[s].events[i].action.op == op)
				seconds = event_seconds(
					&trace->step[s].events[i]);
		json_array_append_new(array, json_real(seconds));
	}
	return array;
}

static json_t *spans_of(const struct trace *trace)
{
	json_t *array = json_array();

	for (unsigned s = 0; s < trace->recorded; s++) {
		const struct trace_step *step = &trace->step[s];

		json_array_append_new(
			array,
			json_pack(
				"[I, I, I, I]", (json_int_t)step->step,
				(json_int_t)(step->begin_ns - trace->origin_ns),
				(json_int_t)(step->end_ns - trace->origin_ns),
				(json_int_t)(step->tied_ns -
					     trace->origin_ns)));
	}
	return array;
}

static json_t *sent_of(const struct trace *trace)
{
	const struct trace_step *last = &trace->step[trace->recorded - 1];

	return json_pack("[I, I]", (json_int_t)last->sent.bytes,
			 (json_int_t)last->sent.messages);
}

static json_t *layers_of(const struct trace *trace)
{
	json_t *array = json_array();

	for (unsigned i = 0; i < trace->layer_count; i++)
		if (trace->layers[i])
			json_array_append_new(
				array,
				json_pack(
					"[i, f, f, f]", (int)i,
					trace_layer_median(trace, i,
							   LAYER_PASS_FORWARD),
					trace_layer_median(trace, i,
							   LAYER_PASS_INPUT),
					trace_layer_median(trace, i,
							   LAYER_PASS_WEIGHT)));
	return array;
}

static json_t *tell(const struct pipeline *p)
{
	const struct trace *trace = p->trace;
	double *room = calloc((size_t)trace->steps * trace->events_per_step + 1,
			      sizeof(*room));
	json_t *told;

	if (!room)
		return NULL;
	told = json_pack("{s:s, s:o, s:I, s:o, s:o, s:o, s:o, s:f, s:f}",
			 "host", p->world->host, "sent", sent_of(trace),
			 "origin", (json_int_t)trace->origin_ns, "spans",
			 spans_of(trace), "layers", layers_of(trace), "vote",
			 lengths_of(trace, ACTION_VOTE), "tied",
			 lengths_of(trace, ACTION_REDUCE_TIED), "send",
			 median_of(trace, room, ACTION_SEND_FORWARD,
				   ACTION_SEND_BACKWARD),
			 "step",
			 median_of(trace, room, ACTION_STEP, ACTION_STEP));
	free(room);
	return told;
}

/* ---- what they all told ---- */

/* On one host all clocks are one; across hosts the barrier aligns them. */
static void align(const json_t *all, struct findings *out)
{
	const json_t *root = json_array_get(all, 0);
	const char *host = json_string_value(json_object_get(root, "host"));
	json_int_t origin = json_integer_value(json_object_get(root, "origin"));

	for (unsigned r = 0; r < out->ranks; r++) {
		const json_t *told = json_array_get(all, r);
		const char *here =
			json_string_value(json_object_get(told, "host"));

		if (host && here && strcmp(host, here) == 0)
			out->offset_ns[r] = json_integer_value(json_object_get(
						    told, "origin")) -
					    origin;
	}
}

static int64_t span_part(const json_t *all, unsigned rank, unsigned step,
			 unsigned part)
{
	const json_t *spans =
		json_object_get(json_array_get(all, rank), "spans");

	return json_integer_value(
		json_array_get(json_array_get(spans, step), part));
}

static void join_spans(const json_t *all, struct findings *out)
{
	for (unsigned s = 0; s < out->steps; s++) {
		int64_t begin = INT64_MAX, end = INT64_MIN;

		for (unsigned r = 0; r < out->ranks; r++) {
			int64_t offset = out->offset_ns[r];

			begin = MIN(begin, span_part(all, r, s, 1) + offset);
			end = MAX(end, span_part(all, r, s, 2) + offset);
		}
		out->step[s] = (uint64_t)span_part(all, 0, s, 0);
		out->begin_ns[s] = begin;
		out->seconds[s] = clock_seconds(end - begin);
	}
}

static void join_sent(const json_t *all, struct findings *out)
{
	for (unsigned r = 0; r < out->ranks; r++) {
		const json_t *sent =
			json_object_get(json_array_get(all, r), "sent");

		out->sent[r] = (struct trace_traffic){
			.bytes = (uint64_t)json_integer_value(
				json_array_get(sent, 0)),
			.messages = (uint64_t)json_integer_value(
				json_array_get(sent, 1)),
		};
	}
}

static void join_layers(const json_t *all, struct costs *costs)
{
	const json_t *told, *row;
	size_t r, i;

	json_array_foreach(all, r, told)
	{
		json_array_foreach(json_object_get(told, "layers"), i, row)
		{
			json_int_t layer =
				json_integer_value(json_array_get(row, 0));
			struct costs_row *out;

			if (layer < 0 || layer >= costs->count)
				continue;
			out = &costs->rows[layer];
			out->forward =
				json_number_value(json_array_get(row, 1));
			out->input = json_number_value(json_array_get(row, 2));
			out->weight = json_number_value(json_array_get(row, 3));
		}
	}
}

/*
 * Of a meeting of ranks the last to come waits least: its time is what the
 * meeting itself takes. The median of that over the steps.
 */
static double meeting(const json_t *all, const struct findings *findings,
		      const char *key, double *room)
{
	for (unsigned s = 0; s < findings->steps; s++) {
		double least = 0;

		for (unsigned r = 0; r < findings->ranks; r++) {
			double seconds = json_number_value(json_array_get(
				json_object_get(json_array_get(all, r), key),
				s));

			if (seconds > 0 && (least == 0 || seconds < least))
				least = seconds;
		}
		room[s] = least;
	}
	return numbers_median(room, findings->steps);
}

/* Of a number each rank told: the greatest, or the median of those above 0. */
static double greatest(const json_t *all, const char *key)
{
	const json_t *told;
	double most = 0;
	size_t r;

	json_array_foreach(all, r, told) most =
		MAX(most, json_number_value(json_object_get(told, key)));
	return most;
}

static double usual(const json_t *all, const char *key, double *room)
{
	const json_t *told;
	size_t r, count = 0;

	json_array_foreach(all, r, told)
	{
		double value = json_number_value(json_object_get(told, key));

		if (value > 0)
			room[count++] = value;
	}
	return numbers_median(room, count);
}

/* The median over the steps of how long a head's gradient was on its way. */
static double tied_early(const struct pipeline *p, const json_t *all,
			 const struct findings *findings, double *room)
{
	const unsigned *rank_of = p->train_schedule->rank_of_stage;
	unsigned from = rank_of[p->tie.second_stage];
	unsigned to = rank_of[p->tie.first_stage];

	if (!p->tie_plan.by_rows || from == to)
		return 0;
	for (unsigned s = 0; s < findings->steps; s++)
		room[s] = MAX(clock_seconds(span_part(all, to, s, 3) +
					    findings->offset_ns[to] -
					    span_part(all, from, s, 3) -
					    findings->offset_ns[from]),
			      0);
	return numbers_median(room, findings->steps);
}

static int fill_costs(struct pipeline *p, const json_t *all,
		      struct findings *out)
{
	struct costs *costs = &out->costs;
	double *room = calloc(MAX(out->steps, out->ranks), sizeof(*room));
	int rc;

	if (!room)
		return fail(-ENOMEM, "no memory for measured costs");
	rc = costs_describe_model(p->model, p->job->micro_batch_size,
				  p->job->context, p->job->recompute,
				  threads_count(p->world->team), costs);
	if (!rc) {
		snprintf(costs->origin, sizeof(costs->origin), "measured");
		join_layers(all, costs);
		costs->vote = meeting(all, out, "vote", room);
		costs->reduce_tied = meeting(all, out, "tied", room);
		costs->tied_early = tied_early(p, all, out, room);
		costs->step = greatest(all, "step");
		costs->send = usual(all, "send", room);
	}
	free(room);
	return rc;
}

static int allocate(struct findings *out)
{
	out->step = calloc(MAX(out->steps, 1), sizeof(*out->step));
	out->begin_ns = calloc(MAX(out->steps, 1), sizeof(*out->begin_ns));
	out->seconds = calloc(MAX(out->steps, 1), sizeof(*out->seconds));
	out->offset_ns = calloc(out->ranks, sizeof(*out->offset_ns));
	out->sent = calloc(out->ranks, sizeof(*out->sent));
	if (out->step && out->begin_ns && out->seconds && out->offset_ns &&
	    out->sent)
		return 0;
	return fail(-ENOMEM, "no memory for what %u ranks recorded",
		    out->ranks);
}

int findings_gather(struct pipeline *p, struct findings *out)
{
	json_t *told = tell(p), *all = NULL;
	int rc;

	*out = (struct findings){.ranks = p->world->size,
				 .steps = p->trace->recorded};
	if (!told)
		return fail(-ENOMEM, "no memory to tell what was recorded");
	rc = world_all_gather(p->world, told, &all);
	json_decref(told);
	if (!rc)
		rc = allocate(out);
	if (!rc) {
		align(all, out);
		join_spans(all, out);
		join_sent(all, out);
		rc = fill_costs(p, all, out);
	}
	json_decref(all);
	return rc;
}

void findings_fini(struct findings *findings)
{
	free(findings->step);
	free(findings->begin_ns);
	free(findings->seconds);
	free(findings->offset_ns);
	free(findings->sent);
	costs_fini(&findings->costs);
	*findings = (struct findings){0};
}

json_t *findings_traffic(const struct findings *findings)
{
	json_t *ranks = json_array();

	for (unsigned r = 0; r < findings->ranks; r++)
		json_array_append_new(
			ranks,
			json_pack("{s:i, s:I, s:I}", "rank", (int)r, "bytes",
				  (json_int_t)findings->sent[r].bytes,
				  "messages",
				  (json_int_t)findings->sent[r].messages));
	return json_pack("{s:I, s:o}", "step",
			 (json_int_t)findings->step[findings->steps - 1] + 1,
			 "ranks", ranks);
}

unsigned findings_median_step(const struct findings *findings)
{
	for (unsigned s = 0; s < findings->steps; s++) {
		unsigned below = 0;

		/* Equal ones have an order, too. */
		for (unsigned o = 0; o < findings->steps; o++)
			below +=
				findings->seconds[o] < findings->seconds[s] ||
				(findings->seconds[o] == findings->seconds[s] &&
				 o < s);
		if (below == (findings->steps - 1) / 2)
			return s;
	}
	return 0;
}

int findings_timeline(struct pipeline *p, const struct findings *findings,
		      unsigned index, struct timeline *out)
{
	json_t *told =
		trace_step_to_json(&p->trace->step[index], p->trace->origin_ns);
	json_t *all = NULL;
	int rc;

	*out = (struct timeline){.ranks = findings->ranks,
				 .span = findings->seconds[index]};
	out->rows = calloc(out->ranks, sizeof(*out->rows));
	if (!told || !out->rows) {
		json_decref(told);
		return fail(-ENOMEM, "no memory for a timeline");
	}
	rc = world_all_gather(p->world, told, &all);
	json_decref(told);
	for (unsigned r = 0; !rc && r < out->ranks; r++)
		rc = trace_step_from_json(json_array_get(all, r),
					  findings->begin_ns[index] -
						  findings->offset_ns[r],
					  &out->rows[r]);
	json_decref(all);
	if (rc)
		timeline_fini(out);
	return rc;
}

/* ---- latency ---- */

static const struct timeline_event *find(const struct timeline *timeline,
					 unsigned op, unsigned stage,
					 unsigned micro_batch)
{
	for (unsigned r = 0; r < timeline->ranks; r++)
		for (size_t i = 0; i < timeline->rows[r].count; i++) {
			const struct timeline_event *event =
				&timeline->rows[r].events[i];

			if (event->action.op == op &&
			    event->action.stage == stage &&
			    event->action.micro_batch == micro_batch)
				return event;
		}
	return NULL;
}

/* The RECV that a SEND ends in; NULL: it is no SEND, or nobody waited. */
static const struct timeline_event *
receive_of(const struct timeline *timeline, const struct timeline_event *send)
{
	const struct action *action = &send->action;

	if (action->op == ACTION_SEND_FORWARD)
		return find(timeline, ACTION_RECV_FORWARD, action->stage + 1u,
			    action->micro_batch);
	if (action->op == ACTION_SEND_BACKWARD && action->stage > 0)
		return find(timeline, ACTION_RECV_BACKWARD, action->stage - 1u,
			    action->micro_batch);
	return NULL;
}

/* Enough of them say what the usual one is. */
#define LATENCY_SAMPLES 256

double findings_latency(const struct timeline *timeline)
{
	double samples[LATENCY_SAMPLES];
	size_t count = 0;

	for (unsigned r = 0; r < timeline->ranks; r++)
		for (size_t i = 0;
		     i < timeline->rows[r].count && count < LATENCY_SAMPLES;
		     i++) {
			const struct timeline_event *send =
				&timeline->rows[r].events[i];
			const struct timeline_event *receive =
				receive_of(timeline, send);

			if (receive && receive->start < send->start)
				samples[count++] =
					MAX(receive->end - send->end, 0.0);
		}
	return numbers_median(samples, count);
}
