/*
 * Traces for Perfetto (ui.perfetto.dev) and chrome://tracing: timelines as the
 * JSON of the Trace Event Format (Google, "Trace Event Format", in its JSON
 * object form).
 *
 * A process stands for a schedule, predicted or measured; its threads are
 * the ranks. What lasts is a complete event ("X") named like a schedule's
 * cell, e.g. 2F5, of category compute, send, wait or end; flow events
 * ("s", "f") draw an arrow for every message, from the SEND to the RECV that
 * waited for it. Viewers tie an arrow to the slice its time lies in; where a
 * SEND or RECV took no time the arrow begins in the action that bore the data,
 * or ends in the one that uses it.
 *
 * A trace is written as it grows and kept nowhere else: memory is
 * bounded by the largest timeline added, however many follow each other. The
 * file appears under its name when it is complete and durable, or not at all.
 */
#ifndef STAGECOACH_ENGINE_TRACE_JSON_H
#define STAGECOACH_ENGINE_TRACE_JSON_H

#include "engine/timeline.h"

struct trace_json;

/*
 * Begins a trace beside `path`, which trace_json_close() replaces. A negative
 * errno, logged, where no file can be made there.
 */
int trace_json_create(const char *path, struct trace_json **out) MUST_CHECK;

/*
 * A process of `ranks` threads, shown under `name`, in the order of the calls.
 * Returns its number, for trace_json_add_timeline(). Errors of this and of the
 * next function are kept for trace_json_close().
 */
unsigned trace_json_add_process(struct trace_json *trace, const char *name,
				unsigned ranks);

/* Where on the trace's clock a timeline lies. */
struct trace_json_place {
	double scale;  /* seconds a unit of the timeline's time */
	double offset; /* seconds: its time 0 */
	uint64_t step; /* told with every event; 0: of none */
};

/*
 * Adds a timeline, of as many ranks as the process has. The steps of a run go
 * into one process one after another.
 */
void trace_json_add_timeline(struct trace_json *trace, unsigned process,
			     const struct timeline *timeline,
			     const struct trace_json_place *place);

/*
 * Ends the file and gives it its name; or, with a negative errno, logged,
 * removes it. Frees the trace either way. May block on the disk.
 */
int trace_json_close(struct trace_json *trace) MUST_CHECK;

/* Frees the trace and removes what was written. NULL is legal. */
void trace_json_abandon(struct trace_json *trace);

#endif
