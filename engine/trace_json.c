#include "engine/trace_json.h"
#include "base/clock.h"
#include "base/files.h"
#include "base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct process {
	unsigned ranks;
	unsigned first_thread;
};

struct trace_json {
	FILE *file;
	char path[FILES_PATH_BYTES];
	char partial[FILES_PATH_BYTES];
	struct process *processes;
	unsigned process_count;
	/*
	 * Processes and threads are numbered in one row: some viewers know a
	 * thread by its number alone, and take one whose number is its
	 * process's for the main thread.
	 */
	unsigned next_id;
	uint64_t next_arrow;
	bool has_event;
	int error; /* the first; logged */
};

/* ---- the file ---- */

static void put(struct trace_json *trace, const char *format, ...)
	PRINTF_LIKE(2, 3);

static void put(struct trace_json *trace, const char *format, ...)
{
	va_list arguments;
	int printed;

	if (trace->error)
		return;
	va_start(arguments, format);
	errno = EIO;
	printed = vfprintf(trace->file, format, arguments);
	va_end(arguments);
	if (printed < 0)
		trace->error = fail(-errno, "%s: cannot write: %s", trace->path,
				    strerror(errno));
}

/* What stands before every event. */
static void put_separator(struct trace_json *trace)
{
	put(trace, "%s", trace->has_event ? ",\n" : "\n");
	trace->has_event = true;
}

int trace_json_create(const char *path, struct trace_json **out)
{
	struct trace_json *trace = calloc(1, sizeof(*trace));
	int printed, error;

	if (trace == NULL)
		return fail(-ENOMEM, "%s: no memory to write a trace", path);
	printed = snprintf(trace->path, sizeof(trace->path), "%s", path);
	if (printed >= 0 && (size_t)printed < sizeof(trace->path))
		printed = snprintf(trace->partial, sizeof(trace->partial),
				   "%s.partial-%ld-%" PRId64, path,
				   (long)getpid(), (int64_t)clock_now_ns());
	if (printed < 0 || (size_t)printed >= sizeof(trace->partial)) {
		free(trace);
		return fail(-ENAMETOOLONG, "%s: path too long", path);
	}
	trace->file = fopen(trace->partial, "wxe");
	if (trace->file == NULL) {
		error = -errno;
		free(trace);
		return fail(error, "%s: cannot create: %s", path,
			    strerror(-error));
	}
	trace->next_id = 1;
	put(trace, "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[");
	*out = trace;
	return 0;
}

static void trace_free(struct trace_json *trace)
{
	free(trace->processes);
	free(trace);
}

void trace_json_abandon(struct trace_json *trace)
{
	if (trace == NULL)
		return;
	fclose(trace->file);
	unlink(trace->partial);
	trace_free(trace);
}

int trace_json_close(struct trace_json *trace)
{
	int error;

	put(trace, "\n]}\n");
	if (!trace->error &&
	    (fflush(trace->file) || fsync(fileno(trace->file))))
		trace->error = fail(-errno, "%s: cannot make durable: %s",
				    trace->path, strerror(errno));
	if (fclose(trace->file) && !trace->error)
		trace->error = fail(-errno, "%s: cannot close: %s", trace->path,
				    strerror(errno));
	error = trace->error;
	if (!error)
		error = files_rename_durably(trace->partial, trace->path);
	if (error)
		unlink(trace->partial);
	trace_free(trace);
	return error;
}

/* ---- processes and threads ---- */

static void put_name(struct trace_json *trace, unsigned process,
		     unsigned thread, const char *kind, const char *name)
{
	json_t *json = json_string(name);
	char *text = json ? json_dumps(json, JSON_ENCODE_ANY) : NULL;

	put_separator(trace);
	put(trace,
	    "{\"ph\":\"M\",\"pid\":%u,\"tid\":%u,\"name\":\"%s_name\","
	    "\"args\":{\"name\":%s}}",
	    process, thread, kind, text ? text : "\"?\"");
	free(text);
	json_decref(json);
}

static void put_order(struct trace_json *trace, unsigned process,
		      unsigned thread, const char *kind, unsigned order)
{
	put_separator(trace);
	put(trace,
	    "{\"ph\":\"M\",\"pid\":%u,\"tid\":%u,"
	    "\"name\":\"%s_sort_index\",\"args\":{\"sort_index\":%u}}",
	    process, thread, kind, order);
}

unsigned trace_json_add_process(struct trace_json *trace, const char *name,
				unsigned ranks)
{
	unsigned number = trace->process_count;
	unsigned id = trace->next_id++;
	struct process *grown =
		realloc(trace->processes, (number + 1) * sizeof(*grown));

	if (grown == NULL) {
		if (!trace->error)
			trace->error = fail(-ENOMEM,
					    "%s: no memory for a "
					    "process of the trace",
					    trace->path);
		return number;
	}
	grown[number].ranks = ranks;
	grown[number].first_thread = trace->next_id;
	trace->processes = grown;
	trace->process_count++;
	trace->next_id += ranks;
	put_name(trace, id, id, "process", name);
	put_order(trace, id, id, "process", number);
	for (unsigned rank = 0; rank < ranks; rank++) {
		char text[32];

		snprintf(text, sizeof(text), "rank %u", rank);
		put_name(trace, id, id + 1 + rank, "thread", text);
		put_order(trace, id, id + 1 + rank, "thread", rank);
	}
	return number;
}

/* ---- events ---- */

/* An event on the trace's clock. */
struct slice {
	uint64_t key; /* what and which: see key_of() */
	unsigned rank;
	int64_t start_ns;
	int64_t end_ns;
};

/* One timeline on its way into the file. */
struct adding {
	struct trace_json *trace;
	const struct process *process;
	const struct trace_json_place *place;
	struct slice *slices; /* by key */
	size_t count;
};

static uint64_t key_of(unsigned op, unsigned stage, unsigned micro_batch)
{
	return (uint64_t)op << 32 | (uint64_t)stage << 16 | micro_batch;
}

static int64_t ns_of(const struct trace_json_place *place, double time)
{
	return llround((place->offset + time * place->scale) * 1e9);
}

static struct slice slice_of(const struct adding *adding, unsigned rank,
			     const struct timeline_event *event)
{
	const struct action *action = &event->action;

	return (struct slice){
		.key = key_of(action->op, action->stage, action->micro_batch),
		.rank = rank,
		.start_ns = ns_of(adding->place, event->start),
		.end_ns = ns_of(adding->place, event->end),
	};
}

static int compare_slices(const void *a, const void *b)
{
	const struct slice *one = a;
	const struct slice *other = b;

	return (one->key > other->key) - (one->key < other->key);
}

/* NULL where there is none, or none wide enough to have an inside. */
static const struct slice *find_slice(const struct adding *adding, unsigned op,
				      unsigned stage, unsigned micro_batch)
{
	const struct slice wanted = {.key = key_of(op, stage, micro_batch)};
	const struct slice *found =
		bsearch(&wanted, adding->slices, adding->count,
			sizeof(*adding->slices), compare_slices);

	return found && found->end_ns - found->start_ns > 3 ? found : NULL;
}

/* The action whose input or output gradient travels: I, or B. */
static const struct slice *find_backward(const struct adding *adding,
					 unsigned stage, unsigned micro_batch)
{
	const struct slice *found =
		find_slice(adding, ACTION_BACKWARD_INPUT, stage, micro_batch);

	return found ? found
		     : find_slice(adding, ACTION_BACKWARD, stage, micro_batch);
}

static const char *category_of(unsigned op)
{
	switch (op) {
	case ACTION_FORWARD:
	case ACTION_BACKWARD_INPUT:
	case ACTION_BACKWARD_WEIGHT:
	case ACTION_BACKWARD:
		return "compute";
	case ACTION_SEND_FORWARD:
	case ACTION_SEND_BACKWARD:
		return "send";
	case ACTION_RECV_FORWARD:
	case ACTION_RECV_BACKWARD:
		return "wait";
	default:
		return "end";
	}
}

/* The common fields, up to the time: microseconds with three decimals. */
static void put_event(const struct adding *adding, char phase, unsigned rank,
		      int64_t at_ns)
{
	const struct process *process = adding->process;

	put_separator(adding->trace);
	put(adding->trace,
	    "{\"ph\":\"%c\",\"pid\":%u,\"tid\":%u,\"ts\":%" PRId64
	    ".%03" PRId64,
	    phase, process->first_thread - 1, process->first_thread + rank,
	    at_ns / 1000, at_ns % 1000);
}

static void put_slice(const struct adding *adding, const struct action *action,
		      const struct slice *slice)
{
	int64_t length_ns = slice->end_ns - slice->start_ns;
	char name[32];

	put_event(adding, 'X', slice->rank, slice->start_ns);
	put(adding->trace,
	    ",\"dur\":%" PRId64 ".%03" PRId64
	    ",\"cat\":\"%s\",\"name\":\"%s\",\"args\":{\"stage\":%u",
	    length_ns / 1000, length_ns % 1000, category_of(action->op),
	    schedule_action_text(name, sizeof(name), action), action->stage);
	if (action->op < ACTION_REDUCE_GRAD)
		put(adding->trace, ",\"micro_batch\":%u", action->micro_batch);
	if (adding->place->step)
		put(adding->trace, ",\"step\":%" PRIu64, adding->place->step);
	put(adding->trace, "}}");
}

static void put_arrow_end(const struct adding *adding, char phase,
			  unsigned rank, int64_t at_ns, bool forward)
{
	put_event(adding, phase, rank, at_ns);
	put(adding->trace,
	    ",\"cat\":\"message\",\"name\":\"%s\",\"id\":%" PRIu64 "%s}",
	    forward ? "activation" : "gradient", adding->trace->next_arrow,
	    phase == 'f' ? ",\"bp\":\"e\"" : "");
}

/*
 * The arrow of a message, a nanosecond or two inside the slices it joins.
 * None where the ranks' clocks would have it fly backwards.
 */
static void put_arrow(const struct adding *adding, const struct action *send)
{
	bool forward = send->op == ACTION_SEND_FORWARD;
	unsigned here = send->stage;
	unsigned there = forward ? here + 1 : here - 1;
	unsigned micro_batch = send->micro_batch;
	const struct slice *from =
		find_slice(adding, send->op, here, micro_batch);
	const struct slice *to = find_slice(
		adding, forward ? ACTION_RECV_FORWARD : ACTION_RECV_BACKWARD,
		there, micro_batch);
	int64_t from_ns = from ? from->start_ns + 1 : 0;
	int64_t to_ns = to ? to->end_ns - 1 : 0;

	if (!from) {
		from = forward ? find_slice(adding, ACTION_FORWARD, here,
					    micro_batch)
			       : find_backward(adding, here, micro_batch);
		from_ns = from ? from->end_ns - 2 : 0;
	}
	if (!to) {
		to = forward ? find_slice(adding, ACTION_FORWARD, there,
					  micro_batch)
			     : find_backward(adding, there, micro_batch);
		to_ns = to ? to->start_ns + 1 : 0;
	}
	if (!from || !to || to_ns <= from_ns)
		return;
	adding->trace->next_arrow++;
	put_arrow_end(adding, 's', from->rank, from_ns, forward);
	put_arrow_end(adding, 'f', to->rank, to_ns, forward);
}

static void put_row(const struct adding *adding, unsigned rank,
		    const struct timeline_row *row)
{
	for (size_t i = 0; i < row->count; i++) {
		const struct timeline_event *event = &row->events[i];
		struct slice slice = slice_of(adding, rank, event);
		unsigned op = event->action.op;

		if (slice.end_ns > slice.start_ns)
			put_slice(adding, &event->action, &slice);
		if (op == ACTION_SEND_FORWARD || op == ACTION_SEND_BACKWARD)
			put_arrow(adding, &event->action);
	}
}

static int collect_slices(struct adding *adding,
			  const struct timeline *timeline)
{
	size_t count = 0;

	for (unsigned rank = 0; rank < timeline->ranks; rank++)
		count += timeline->rows[rank].count;
	adding->slices = calloc(count + 1, sizeof(*adding->slices));
	if (adding->slices == NULL)
		return fail(-ENOMEM,
			    "%s: no memory for a timeline of %zu "
			    "events",
			    adding->trace->path, count);
	for (unsigned rank = 0; rank < timeline->ranks; rank++)
		for (size_t i = 0; i < timeline->rows[rank].count; i++)
			adding->slices[adding->count++] = slice_of(
				adding, rank, &timeline->rows[rank].events[i]);
	qsort(adding->slices, adding->count, sizeof(*adding->slices),
	      compare_slices);
	return 0;
}

void trace_json_add_timeline(struct trace_json *trace, unsigned process,
			     const struct timeline *timeline,
			     const struct trace_json_place *place)
{
	struct adding adding = {.trace = trace, .place = place};

	if (trace->error)
		return;
	ASSERT(process < trace->process_count);
	adding.process = &trace->processes[process];
	ASSERT(timeline->ranks <= adding.process->ranks);
	trace->error = collect_slices(&adding, timeline);
	for (unsigned rank = 0; rank < timeline->ranks && !trace->error; rank++)
		put_row(&adding, rank, &timeline->rows[rank]);
	free(adding.slices);
}
