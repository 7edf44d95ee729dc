/*
 * The trace: what a rank did, action by action, over some steps, and how long
 * each layer took. Recording costs two looks at the clock an action and one a
 * layer; all memory is taken before the first step, and nothing is written or
 * sent while a step is under way.
 *
 * Waiting and sending are told apart from computing: see engine/timeline.h for
 * what an event is. Times are of this host's monotonic clock; ranks of several
 * hosts are aligned by a barrier before the first step.
 */
#ifndef STAGECOACH_ENGINE_TRACE_H
#define STAGECOACH_ENGINE_TRACE_H

#include "engine/timeline.h"
#include "model/model.h"

struct trace_event {
	int64_t begin_ns;
	int64_t end_ns;
	struct action action;
};

/* Payloads that left a rank in a step, over all of its links. */
struct trace_traffic {
	uint64_t bytes;
	uint64_t messages;
};

struct trace_step {
	uint64_t step;
	int64_t begin_ns; /* the rank began the pass */
	int64_t end_ns;
	struct trace_event *events; /* inside the trace's one block */
	unsigned count;
	struct trace_traffic sent;
	/* A tied head's gradient begins its way, or has come; 0: no such end. */
	int64_t tied_ns;
};

enum layer_pass {
	LAYER_PASS_FORWARD,
	LAYER_PASS_INPUT,
	LAYER_PASS_WEIGHT,
	LAYER_PASSES,
};

/* The newest durations of each layer's F, I and W. */
#define TRACE_SAMPLES 64

struct trace_layer {
	int64_t ns[LAYER_PASSES][TRACE_SAMPLES];
	unsigned count[LAYER_PASSES]; /* of all, more than are kept */
};

struct trace {
	unsigned steps;    /* room for so many */
	unsigned recorded; /* begun so far */
	bool open;         /* a step is being recorded */
	int64_t cursor_ns; /* where the next event begins */
	int64_t origin_ns; /* when all ranks passed the barrier */
	unsigned events_per_step;
	struct trace_step *step;    /* [steps] */
	struct trace_event *events; /* [steps * events_per_step] */
	unsigned layer_count;
	struct trace_layer **layers; /* [layer_count]; NULL: on another rank */
};

/* `actions`: of the rank's row. -ENOMEM, logged. */
int trace_create(unsigned steps, size_t actions, unsigned layers,
		 const bool *holds_layer, struct trace **out) MUST_CHECK;
void trace_destroy(struct trace *trace); /* NULL is legal */

/* All of the following do nothing when trace is NULL or has no step open. */

/* Opens a step; false when there is no room for another. */
bool trace_begin_step(struct trace *trace, uint64_t step);
void trace_end_step(struct trace *trace);

/*
 * The action took the time from the last note (or the step's begin) until
 * now. A note of length 0 or of a step already full is left out.
 */
void trace_note(struct trace *trace, const struct action *action);
/* What went on since the last note has no name. */
void trace_skip(struct trace *trace);

void trace_note_layer(struct trace *trace, unsigned layer, enum layer_pass pass,
		      int64_t ns);

void trace_note_tied(struct trace *trace, int64_t now_ns);
void trace_note_traffic(struct trace *trace, const struct trace_traffic *sent);

/* Seconds: the median of the samples kept; 0 when there are none. */
double trace_layer_median(const struct trace *trace, unsigned layer,
			  enum layer_pass pass);

/*
 * One step as JSON integers, for the other ranks: {"step", "begin", "end",
 * "events": [op, stage, micro_batch, begin, length, ...]}, nanoseconds, begin
 * and end since `origin_ns`. NULL: no memory. And back, appended to *row as seconds
 * since zero_ns (of the same origin); -EINVAL, logged, for what is no
 * such step.
 */
json_t *trace_step_to_json(const struct trace_step *step, int64_t origin_ns);
int trace_step_from_json(const json_t *json, int64_t zero_ns,
			 struct timeline_row *row) MUST_CHECK;

#endif
