#include "base/log.h"
#include "engine/timeline.h"
#include "schedules/schedule.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The operation a cell calls so; ACTION_OP_COUNT: none. */
static unsigned op_of(const char *text)
{
	unsigned op = 0;

	while (op < ACTION_OP_COUNT &&
	       (!text || strcmp(schedule_op_text(op), text) != 0))
		op++;
	return op;
}

static int number_at(const json_t *json, size_t index, double *out)
{
	const json_t *item = json_array_get(json, index);

	*out = json_number_value(item);
	return json_is_number(item) && *out >= 0 ? 0 : -EINVAL;
}

static int event_from_json(const json_t *json, struct timeline_event *out)
{
	unsigned op = op_of(json_string_value(json_array_get(json, 0)));
	double stage, micro_batch;

	if (op == ACTION_OP_COUNT || number_at(json, 1, &stage) ||
	    number_at(json, 2, &micro_batch) ||
	    number_at(json, 3, &out->start) || number_at(json, 4, &out->end) ||
	    stage > UINT16_MAX || micro_batch > UINT16_MAX ||
	    out->end < out->start)
		return -EINVAL;
	out->action = (struct action){.op = (uint16_t)op,
				      .stage = (uint16_t)stage,
				      .micro_batch = (uint16_t)micro_batch};
	if (json_array_size(json) > 5 && number_at(json, 5, &out->arrival))
		return -EINVAL;
	return 0;
}

static int row_from_json(const json_t *json, struct timeline_row *out)
{
	size_t count = json_array_size(json);

	out->events = calloc(MAX(count, 1), sizeof(*out->events));
	if (!out->events)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		int rc = event_from_json(json_array_get(json, i),
					 &out->events[i]);

		if (rc)
			return rc;
		out->count++;
	}
	return 0;
}

int timeline_from_json(const json_t *json, const char *origin,
		       struct timeline *out)
{
	size_t ranks = json_array_size(json);
	int rc = 0;

	*out = (struct timeline){0};
	if (ranks == 0 || ranks > SCHEDULE_MAX_STAGES)
		return fail(-EINVAL, "%s: a timeline of %zu ranks", origin,
			    ranks);
	out->rows = calloc(ranks, sizeof(*out->rows));
	if (!out->rows)
		return fail(-ENOMEM, "no memory for a timeline");
	out->ranks = (unsigned)ranks;
	for (unsigned r = 0; !rc && r < out->ranks; r++) {
		struct timeline_row *row = &out->rows[r];

		rc = row_from_json(json_array_get(json, r), row);
		for (size_t i = 0; i < row->count; i++)
			out->span = MAX(out->span, row->events[i].end);
	}
	if (!rc)
		return 0;
	timeline_fini(out);
	return fail(rc,
		    rc == -ENOMEM ? "no memory for %s" : "%s: not a timeline",
		    origin);
}
