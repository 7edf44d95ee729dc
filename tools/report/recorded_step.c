#include "tools/report/recorded_step.h"
#include "base/files.h"
#include "base/log.h"
#include "base/text.h"
#include "schedules/schedule.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define RANKS_MAX 65536

/* An action that took time, on the trace's clock. */
struct slice {
	uint64_t step;
	unsigned rank;
	struct action action;
	double start; /* seconds */
	double end;
};

struct reading {
	const char *path;
	struct recorded_step *out;
	struct slice *slices;
	size_t count, capacity;
	double first_thread; /* the number of rank 0's; -1: not known */
	double process;      /* the first */
};

enum recorded_kind recorded_kind_of(unsigned op)
{
	switch (op) {
	case ACTION_FORWARD:
		return RECORDED_FORWARD;
	case ACTION_BACKWARD_INPUT:
		return RECORDED_INPUT;
	case ACTION_BACKWARD_WEIGHT:
		return RECORDED_WEIGHT;
	case ACTION_BACKWARD:
		return RECORDED_BACKWARD;
	case ACTION_SEND_FORWARD:
	case ACTION_SEND_BACKWARD:
		return RECORDED_SEND;
	case ACTION_RECV_FORWARD:
	case ACTION_RECV_BACKWARD:
		return RECORDED_WAIT;
	default:
		return RECORDED_END;
	}
}

/* ---- lines ---- */

/* The operation of a cell such as 2SEND_F5; ACTION_OP_COUNT: none. */
static unsigned op_of(const char *cell)
{
	char text[32] = "";
	size_t length;

	while (cell && isdigit((unsigned char)*cell))
		cell++;
	length = cell ? strcspn(cell, "0123456789") : 0;
	if (length && length < sizeof(text))
		memcpy(text, cell, length);
	for (unsigned op = 0; op < ACTION_OP_COUNT; op++)
		if (strcmp(schedule_op_text(op), text) == 0)
			return op;
	return ACTION_OP_COUNT;
}

static double number_of(const json_t *object, const char *key, double fallback)
{
	const json_t *value = json_object_get(object, key);

	return json_is_number(value) ? json_number_value(value) : fallback;
}

static int add_slice(struct reading *reading, const struct slice *slice)
{
	if (reading->count == reading->capacity) {
		size_t capacity = MAX(2 * reading->capacity, (size_t)1024);
		struct slice *grown =
			realloc(reading->slices, capacity * sizeof(*grown));

		if (!grown)
			return fail(-ENOMEM, "%s: no memory for its events",
				    reading->path);
		reading->slices = grown;
		reading->capacity = capacity;
	}
	reading->slices[reading->count++] = *slice;
	return 0;
}

/* The process is called like the schedule; rank 0's thread tells its number. */
static void read_name(struct reading *reading, const json_t *line)
{
	const char *what = json_string_value(json_object_get(line, "name"));
	const char *name = json_string_value(
		json_object_get(json_object_get(line, "args"), "name"));

	if (!what || !name)
		return;
	if (strcmp(what, "process_name") == 0 && reading->process < 0) {
		reading->process = number_of(line, "pid", -1);
		(void)!text_copy(reading->out->schedule,
				 sizeof(reading->out->schedule), name);
	}
	if (strcmp(what, "thread_name") == 0 && strcmp(name, "rank 0") == 0 &&
	    number_of(line, "pid", -1) == reading->process)
		reading->first_thread = number_of(line, "tid", -1);
}

/* What is not an action of a training's step is passed over. */
static int read_slice(struct reading *reading, const json_t *line)
{
	const json_t *arguments = json_object_get(line, "args");
	double rank = number_of(line, "tid", -1) - reading->first_thread;
	double start = number_of(line, "ts", -1) / 1e6;
	double length = number_of(line, "dur", -1) / 1e6;
	double stage = number_of(arguments, "stage", -1);
	double micro_batch = number_of(arguments, "micro_batch", 0);
	double step = number_of(arguments, "step", -1);
	unsigned op = op_of(json_string_value(json_object_get(line, "name")));
	struct slice slice;

	if (op == ACTION_OP_COUNT || reading->first_thread < 0 ||
	    number_of(line, "pid", -1) != reading->process || rank < 0 ||
	    rank >= RANKS_MAX || start < 0 || length < 0 || stage < 0 ||
	    stage >= SCHEDULE_MAX_STAGES || micro_batch < 0 ||
	    micro_batch > UINT16_MAX || step < 1 || step > 1e15)
		return 0;
	slice = (struct slice){
		.step = (uint64_t)step,
		.rank = (unsigned)rank,
		.action = {.op = (uint16_t)op,
			   .stage = (uint16_t)stage,
			   .micro_batch = (uint16_t)micro_batch},
		.start = start,
		.end = start + length,
	};
	return add_slice(reading, &slice);
}

static int read_line(struct reading *reading, const char *text, size_t length)
{
	const char *phase;
	json_t *line;
	int rc = 0;

	while (length && (text[length - 1] == ',' || text[length - 1] == '\r'))
		length--;
	line = json_loadb(text, length, 0, NULL);
	phase = json_string_value(json_object_get(line, "ph"));
	if (phase && strcmp(phase, "M") == 0)
		read_name(reading, line);
	else if (phase && strcmp(phase, "X") == 0)
		rc = read_slice(reading, line);
	json_decref(line);
	return rc;
}

static int read_lines(struct reading *reading)
{
	struct files_mapping mapping;
	const char *text;
	int rc = files_map(reading->path, &mapping);

	if (rc)
		return rc;
	text = (const char *)mapping.data;
	for (size_t at = 0; !rc && at < mapping.length;) {
		const char *end = memchr(text + at, '\n', mapping.length - at);
		size_t bytes =
			end ? (size_t)(end - text) - at : mapping.length - at;

		rc = read_line(reading, text + at, bytes);
		at += bytes + 1;
	}
	files_unmap(&mapping);
	return rc;
}

/* ---- steps ---- */

static int compare_slices(const void *a, const void *b)
{
	const struct slice *one = a, *other = b;

	if (one->step != other->step)
		return one->step < other->step ? -1 : 1;
	if (one->rank != other->rank)
		return one->rank < other->rank ? -1 : 1;
	return (one->start > other->start) - (one->start < other->start);
}

/* The slices of one step. */
struct part {
	uint64_t step;
	size_t from, to;
	double begin, length;
};

static int compare_parts(const void *a, const void *b)
{
	const struct part *one = a, *other = b;

	return (one->length > other->length) - (one->length < other->length);
}

static struct part *split_steps(const struct reading *reading, size_t *count)
{
	struct part *parts = calloc(reading->count, sizeof(*parts));
	struct part *part = NULL;

	*count = 0;
	for (size_t i = 0; parts && i < reading->count; i++) {
		const struct slice *slice = &reading->slices[i];
		double end;

		if (!part || part->step != slice->step) {
			part = &parts[(*count)++];
			*part = (struct part){.step = slice->step,
					      .from = i,
					      .begin = slice->start};
		}
		end = MAX(part->begin + part->length, slice->end);
		part->begin = MIN(part->begin, slice->start);
		part->length = end - part->begin;
		part->to = i + 1;
	}
	return parts;
}

static int build_timeline(const struct reading *reading,
			  const struct part *part, struct timeline *out)
{
	out->rows = calloc(reading->out->ranks, sizeof(*out->rows));
	if (!out->rows)
		return -ENOMEM;
	out->ranks = reading->out->ranks;
	out->span = part->length;
	for (size_t i = part->from; i < part->to; i++)
		out->rows[reading->slices[i].rank].count++;
	for (unsigned r = 0; r < out->ranks; r++) {
		struct timeline_row *row = &out->rows[r];

		row->events = calloc(MAX(row->count, (size_t)1),
				     sizeof(*row->events));
		row->count = 0;
		if (!row->events)
			return -ENOMEM;
	}
	for (size_t i = part->from; i < part->to; i++) {
		const struct slice *slice = &reading->slices[i];
		struct timeline_row *row = &out->rows[slice->rank];

		row->events[row->count++] = (struct timeline_event){
			.action = slice->action,
			.start = slice->start - part->begin,
			.end = slice->end - part->begin,
		};
	}
	return 0;
}

static int add_up(const struct reading *reading, const struct part *parts,
		  size_t count)
{
	struct recorded_step *out = reading->out;
	double span = 0;

	out->seconds = calloc(out->ranks, sizeof(*out->seconds));
	if (!out->seconds)
		return -ENOMEM;
	for (size_t i = 0; i < reading->count; i++) {
		const struct slice *slice = &reading->slices[i];

		out->seconds[slice->rank][recorded_kind_of(slice->action.op)] +=
			(slice->end - slice->start) / (double)count;
	}
	for (size_t i = 0; i < count; i++)
		span += parts[i].length / (double)count;
	for (unsigned r = 0; r < out->ranks; r++) {
		double busy = 0;

		for (unsigned kind = 0; kind < RECORDED_IDLE; kind++)
			busy += out->seconds[r][kind];
		out->seconds[r][RECORDED_IDLE] = MAX(span - busy, 0.0);
	}
	return 0;
}

/* A rank's stages are its chunks, in ascending order. */
static int find_chunks(const struct reading *reading)
{
	struct recorded_step *out = reading->out;
	unsigned *holder, *held;

	out->chunk = calloc(out->stages, sizeof(*out->chunk));
	holder = calloc(out->stages, sizeof(*holder));
	held = calloc(out->ranks, sizeof(*held));
	if (out->chunk && holder && held) {
		/* Replicas hold the same stages: any of them will do. */
		for (size_t i = 0; i < reading->count; i++)
			holder[reading->slices[i].action.stage] =
				reading->slices[i].rank;
		for (unsigned s = 0; s < out->stages; s++) {
			out->chunk[s] = held[holder[s]]++;
			out->chunks = MAX(out->chunks, held[holder[s]]);
		}
	}
	free(holder);
	free(held);
	return out->chunks ? 0 : -ENOMEM;
}

static int digest(struct reading *reading)
{
	struct recorded_step *out = reading->out;
	struct part *parts;
	size_t count;
	int rc;

	qsort(reading->slices, reading->count, sizeof(*reading->slices),
	      compare_slices);
	for (size_t i = 0; i < reading->count; i++) {
		const struct slice *slice = &reading->slices[i];

		out->ranks = MAX(out->ranks, slice->rank + 1);
		out->stages = MAX(out->stages, slice->action.stage + 1u);
	}
	parts = split_steps(reading, &count);
	if (!parts)
		return fail(-ENOMEM, "%s: no memory for its steps",
			    reading->path);
	out->steps = (unsigned)count;
	out->first = parts[0].step;
	out->last = parts[count - 1].step;
	rc = add_up(reading, parts, count);
	if (!rc)
		rc = find_chunks(reading);
	qsort(parts, count, sizeof(*parts), compare_parts);
	out->step = parts[(count - 1) / 2].step;
	if (!rc)
		rc = build_timeline(reading, &parts[(count - 1) / 2],
				    &out->timeline);
	free(parts);
	return rc ? fail(rc, "%s: no memory for its steps", reading->path) : 0;
}

int recorded_step_read(const char *path, struct recorded_step *out)
{
	struct reading reading = {
		.path = path, .out = out, .first_thread = -1, .process = -1};
	int rc;

	*out = (struct recorded_step){0};
	if (!files_exists(path))
		return 0;
	rc = read_lines(&reading);
	if (!rc && reading.count == 0)
		log_warning(
			"%s is not a trace that train --trace writes: the report goes without",
			path);
	else if (!rc)
		rc = digest(&reading);
	free(reading.slices);
	return rc;
}

void recorded_step_fini(struct recorded_step *recorded)
{
	timeline_fini(&recorded->timeline);
	free(recorded->chunk);
	free(recorded->seconds);
	*recorded = (struct recorded_step){0};
}
