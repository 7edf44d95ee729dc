#include "engine/trace.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/numbers.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>

/*
 * An action makes at most three events: a wait for its message, a wait for
 * room to send, itself.
 */
#define EVENTS_PER_ACTION 3

static int allocate_layers(struct trace *trace, const bool *holds_layer)
{
	trace->layers = calloc(trace->layer_count, sizeof(*trace->layers));
	if (!trace->layers)
		return -ENOMEM;
	for (unsigned i = 0; i < trace->layer_count; i++) {
		if (!holds_layer[i])
			continue;
		trace->layers[i] = calloc(1, sizeof(*trace->layers[i]));
		if (!trace->layers[i])
			return -ENOMEM;
	}
	return 0;
}

int trace_create(unsigned steps, size_t actions, unsigned layers,
		 const bool *holds_layer, struct trace **out)
{
	struct trace *trace = calloc(1, sizeof(*trace));
	size_t events = actions * EVENTS_PER_ACTION;

	if (!trace || events > UINT_MAX)
		goto err_memory;
	trace->steps = steps;
	trace->events_per_step = (unsigned)events;
	trace->layer_count = layers;
	trace->step = calloc(steps, sizeof(*trace->step));
	trace->events = calloc((size_t)steps * events, sizeof(*trace->events));
	if (!trace->step || !trace->events ||
	    allocate_layers(trace, holds_layer))
		goto err_memory;
	for (unsigned i = 0; i < steps; i++)
		trace->step[i].events = trace->events + i * events;
	*out = trace;
	return 0;

err_memory:
	trace_destroy(trace);
	return fail(-ENOMEM,
		    "no memory to record %u steps of %zu actions: record fewer",
		    steps, actions);
}

void trace_destroy(struct trace *trace)
{
	if (!trace)
		return;
	for (unsigned i = 0; trace->layers && i < trace->layer_count; i++)
		free(trace->layers[i]);
	free(trace->layers);
	free(trace->events);
	free(trace->step);
	free(trace);
}

/* ---- recording ---- */

static struct trace_step *current(struct trace *trace)
{
	return trace && trace->open ? &trace->step[trace->recorded - 1] : NULL;
}

bool trace_begin_step(struct trace *trace, uint64_t step)
{
	struct trace_step *here;

	if (!trace || trace->recorded == trace->steps)
		return false;
	here = &trace->step[trace->recorded++];
	here->step = step;
	here->count = 0;
	here->sent = (struct trace_traffic){0};
	here->begin_ns = clock_now_ns();
	here->end_ns = here->begin_ns;
	trace->cursor_ns = here->begin_ns;
	trace->open = true;
	return true;
}

void trace_note_tied(struct trace *trace, int64_t now_ns)
{
	struct trace_step *here = current(trace);

	if (here)
		here->tied_ns = now_ns;
}

void trace_note_traffic(struct trace *trace, const struct trace_traffic *sent)
{
	struct trace_step *here = current(trace);

	if (!here)
		return;
	here->sent.bytes += sent->bytes;
	here->sent.messages += sent->messages;
}

void trace_end_step(struct trace *trace)
{
	struct trace_step *here = current(trace);

	if (!here)
		return;
	here->end_ns = clock_now_ns();
	trace->open = false;
}

void trace_note(struct trace *trace, const struct action *action)
{
	struct trace_step *here = current(trace);
	int64_t now;

	if (!here)
		return;
	now = clock_now_ns();
	if (now > trace->cursor_ns && here->count < trace->events_per_step) {
		here->events[here->count++] = (struct trace_event){
			.begin_ns = trace->cursor_ns,
			.end_ns = now,
			.action = *action,
		};
	}
	trace->cursor_ns = now;
}

void trace_skip(struct trace *trace)
{
	if (current(trace))
		trace->cursor_ns = clock_now_ns();
}

void trace_note_layer(struct trace *trace, unsigned layer, enum layer_pass pass,
		      int64_t ns)
{
	struct trace_layer *here;

	if (!current(trace))
		return;
	here = trace->layers[layer];
	here->ns[pass][here->count[pass]++ % TRACE_SAMPLES] = ns;
}

double trace_layer_median(const struct trace *trace, unsigned layer,
			  enum layer_pass pass)
{
	const struct trace_layer *here = trace->layers[layer];
	double seconds[TRACE_SAMPLES];
	unsigned count;

	if (!here || here->count[pass] == 0)
		return 0;
	count = MIN(here->count[pass], TRACE_SAMPLES);
	for (unsigned i = 0; i < count; i++)
		seconds[i] = clock_seconds(here->ns[pass][i]);
	return numbers_median(seconds, count);
}

/* ---- a step as JSON ---- */

#define EVENT_NUMBERS 5

static int append_event(json_t *array, const struct trace_event *event,
			int64_t origin_ns)
{
	const json_int_t numbers[EVENT_NUMBERS] = {
		event->action.op,
		event->action.stage,
		event->action.micro_batch,
		event->begin_ns - origin_ns,
		event->end_ns - event->begin_ns,
	};
	int rc = 0;

	for (unsigned i = 0; i < EVENT_NUMBERS; i++)
		rc |= json_array_append_new(array, json_integer(numbers[i]));
	return rc;
}

json_t *trace_step_to_json(const struct trace_step *step, int64_t origin_ns)
{
	json_t *events = json_array();
	int rc = 0;

	for (unsigned i = 0; i < step->count; i++)
		rc |= append_event(events, &step->events[i], origin_ns);
	if (!rc)
		return json_pack("{s:I, s:I, s:I, s:o}", "step",
				 (json_int_t)step->step, "begin",
				 (json_int_t)(step->begin_ns - origin_ns),
				 "end", (json_int_t)(step->end_ns - origin_ns),
				 "events", events);
	json_decref(events);
	return NULL;
}

static int event_from_json(const json_t *array, size_t first, int64_t zero_ns,
			   struct timeline_event *out)
{
	json_int_t number[EVENT_NUMBERS];

	for (unsigned i = 0; i < EVENT_NUMBERS; i++) {
		const json_t *item = json_array_get(array, first + i);

		if (!json_is_integer(item))
			return -EINVAL;
		number[i] = json_integer_value(item);
	}
	if (number[0] < 0 || number[0] >= ACTION_OP_COUNT || number[1] < 0 ||
	    number[1] > UINT16_MAX || number[2] < 0 || number[2] > UINT16_MAX)
		return -EINVAL;
	*out = (struct timeline_event){
		.action = {.op = (uint16_t)number[0],
			   .stage = (uint16_t)number[1],
			   .micro_batch = (uint16_t)number[2]},
		.start = clock_seconds(number[3] - zero_ns),
		.end = clock_seconds(number[3] + number[4] - zero_ns),
	};
	return 0;
}

int trace_step_from_json(const json_t *json, int64_t zero_ns,
			 struct timeline_row *row)
{
	const json_t *array = json_object_get(json, "events");
	size_t count = json_array_size(array) / EVENT_NUMBERS;
	struct timeline_event *events = calloc(MAX(count, 1), sizeof(*events));
	int rc = events ? 0 : -ENOMEM;

	if (!json_is_array(array) ||
	    json_array_size(array) % EVENT_NUMBERS != 0)
		rc = -EINVAL;
	for (size_t i = 0; !rc && i < count; i++)
		rc = event_from_json(array, i * EVENT_NUMBERS, zero_ns,
				     &events[i]);
	if (rc) {
		free(events);
		return fail(rc, rc == -ENOMEM ? "no memory for a trace"
					      : "a rank's trace is damaged");
	}
	*row = (struct timeline_row){.events = events, .count = count};
	return 0;
}
