#include "engine/costs.h"
#include "base/files.h"
#include "base/log.h"
#include "base/text.h"
#include "model/model.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FORMAT         "stagecoach-costs-1"
#define FILE_NAME      "costs.json"
#define FILE_BYTES_MAX ((size_t)16 << 20)
#define NUMBER_MAX     1e30
#define PLACE_BYTES    192
#define SAMPLE_BYTES   48
#define KEYS_MAX       32
#define FORMS_ACCEPTED                                                         \
	"three numbers F,I,W, none negative, all with a unit (20ms) or none, or a file, or the folder of a run"

enum field_kind {
	FIELD_TIME,
	FIELD_EXTRA, /* a time that is left out where it is 0 */
	FIELD_SHARE, /* 0 to 1 */
	FIELD_BYTES,
	FIELD_RATE,
	FIELD_COUNT,
};

struct field {
	const char *key;
	enum field_kind kind;
	size_t offset;
};

#define ROW_FIELD(key, kind, member)                                           \
	{                                                                      \
		key, kind, offsetof(struct costs_row, member)                  \
	}
#define FIELD(kind, member)                                                    \
	{                                                                      \
#member, kind, offsetof(struct costs, member)                  \
	}

static const struct field row_fields[] = {
	ROW_FIELD("forward", FIELD_TIME, forward),
	ROW_FIELD("input", FIELD_TIME, input),
	ROW_FIELD("weight", FIELD_TIME, weight),
	ROW_FIELD("activation_bytes", FIELD_BYTES, activation_bytes),
	ROW_FIELD("pending_bytes", FIELD_BYTES, pending_bytes),
	ROW_FIELD("gradient_bytes", FIELD_BYTES, gradient_bytes),
};

static const struct field fields[] = {
	FIELD(FIELD_COUNT, micro_batch_size),
	FIELD(FIELD_COUNT, context),
	FIELD(FIELD_COUNT, threads),
	FIELD(FIELD_COUNT, value_bytes),
	FIELD(FIELD_BYTES, message_bytes),
	FIELD(FIELD_BYTES, tied_bytes),
	FIELD(FIELD_TIME, latency),
	FIELD(FIELD_RATE, bandwidth),
	FIELD(FIELD_TIME, send),
	FIELD(FIELD_TIME, receive),
	FIELD(FIELD_TIME, reduce_tied),
	FIELD(FIELD_EXTRA, tied_early),
	FIELD(FIELD_TIME, vote),
	FIELD(FIELD_TIME, step),
	FIELD(FIELD_COUNT, slices),
	FIELD(FIELD_EXTRA, replica_latency),
	FIELD(FIELD_RATE, replica_bandwidth),
	FIELD(FIELD_EXTRA, tensor_latency),
	FIELD(FIELD_RATE, tensor_bandwidth),
	FIELD(FIELD_SHARE, replica_early),
	FIELD(FIELD_EXTRA, add),
};

static const char *const rows_names[] = {
	[COSTS_SLICE] = "slice",
	[COSTS_RANKS] = "ranks",
	[COSTS_STAGES] = "stages",
	[COSTS_LAYERS] = "layers",
};

const char *costs_rows_name(enum costs_rows kind)
{
	return rows_names[kind];
}

void costs_fini(struct costs *costs)
{
	free(costs->rows);
	*costs = (struct costs){0};
}

/* ---- reading ---- */

/* Where a value stands: "costs.json: layers[3].". */
struct place {
	const char *origin;
	char prefix[PLACE_BYTES];
	bool seconds;
};

static const char *expected(enum field_kind kind, bool seconds)
{
	switch (kind) {
	case FIELD_TIME:
	case FIELD_EXTRA:
		return seconds ? "a number of seconds" : "a number";
	case FIELD_SHARE:
		return "a number from 0 to 1";
	case FIELD_BYTES:
		return "a number of bytes";
	case FIELD_RATE:
		return seconds ? "bytes a second" : "bytes a unit of time";
	case FIELD_COUNT:
		break;
	}
	return "a whole number";
}

/* A value as it stands in the file, cut short where it is long. */
static const char *sample(const json_t *value, char *buffer)
{
	char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);

	if (text_copy(buffer, SAMPLE_BYTES, text ? text : "..."))
		memcpy(buffer + SAMPLE_BYTES - 4, "...", 4);
	free(text);
	return buffer;
}

static int refuse(const struct place *place, const char *key,
		  const char *wanted, const json_t *value)
{
	char text[SAMPLE_BYTES];

	return fail(-EINVAL, "%s: %s%s: expected %s, not %s", place->origin,
		    place->prefix, key, wanted, sample(value, text));
}

static int count_from_json(const struct place *place, const struct field *field,
			   const json_t *value, void *at)
{
	json_int_t number = json_integer_value(value);

	if (!json_is_integer(value) || number < 0 || number > INT_MAX)
		return refuse(place, field->key,
			      expected(field->kind, place->seconds), value);
	*(unsigned *)at = (unsigned)number;
	return 0;
}

static int field_from_json(const struct place *place, const struct field *field,
			   const json_t *object, void *base)
{
	const json_t *value = json_object_get(object, field->key);
	void *at = (char *)base + field->offset;
	double number;

	if (!value)
		return 0;
	if (field->kind == FIELD_COUNT)
		return count_from_json(place, field, value, at);
	if (!json_is_number(value))
		return refuse(place, field->key,
			      expected(field->kind, place->seconds), value);
	number = json_number_value(value);
	if (field->kind == FIELD_SHARE && !(number >= 0 && number <= 1))
		return refuse(place, field->key,
			      expected(field->kind, place->seconds), value);
	if (!(number >= 0 && number <= NUMBER_MAX))
		return refuse(place, field->key, "a number from 0 to 1e30",
			      value);
	*(double *)at = number;
	return 0;
}

/* A misspelt key would count as absent, which is zero: better refused. */
static int check_keys(const struct place *place, const json_t *object,
		      const char *const *keys, size_t count)
{
	json_t *container = (json_t *)(uintptr_t)object; /* jansson's macro */
	const char *key, *nearest;
	json_t *value;

	json_object_foreach(container, key, value)
	{
		bool known = false;

		for (size_t i = 0; i < count; i++)
			known |= strcmp(keys[i], key) == 0;
		if (known)
			continue;
		nearest = text_nearest(key, keys, count);
		return fail(-EINVAL, "%s: %s%.40s: no such key%s%s%s",
			    place->origin, place->prefix, key,
			    nearest ? "; did you mean '" : "",
			    nearest ? nearest : "", nearest ? "'?" : "");
	}
	return 0;
}

static bool is_printable(const char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			return false;
	return true;
}

static int name_from_json(const struct place *place, const json_t *object,
			  struct costs_row *row)
{
	const json_t *value = json_object_get(object, "name");
	const char *name = json_string_value(value);

	if (!value)
		return 0;
	if (!name || !is_printable(name) ||
	    text_copy(row->name, sizeof(row->name), name))
		return refuse(place, "name",
			      "the name of a layer, at most 47 bytes", value);
	return 0;
}

static int row_from_json(const struct place *place, enum costs_rows kind,
			 const json_t *object, struct costs_row *row)
{
	const char *keys[KEYS_MAX];
	size_t count = 0;
	int rc;

	for (size_t i = 0; i < ARRAY_SIZE(row_fields); i++)
		keys[count++] = row_fields[i].key;
	if (kind == COSTS_LAYERS)
		keys[count++] = "name";
	rc = check_keys(place, object, keys, count);
	for (size_t i = 0; !rc && i < ARRAY_SIZE(row_fields); i++)
		rc = field_from_json(place, &row_fields[i], object, row);
	return rc ? rc : name_from_json(place, object, row);
}

static int rows_from_json(const struct place *above, enum costs_rows kind,
			  const json_t *array, struct costs *out)
{
	size_t most = kind == COSTS_SLICE ? 1 : COSTS_ROWS_MAX;
	size_t count = json_array_size(array);
	int rc = 0;

	if (!json_is_array(array))
		return refuse(above, rows_names[kind], "an array", array);
	if (count == 0 || count > most)
		return fail(-EINVAL, "%s: %s: expected 1 to %zu rows, not %zu",
			    above->origin, rows_names[kind], most, count);
	out->kind = kind;
	out->count = (unsigned)count;
	out->rows = calloc(count, sizeof(*out->rows));
	if (!out->rows)
		return fail(-ENOMEM, "%s: no memory for %zu rows",
			    above->origin, count);
	for (size_t i = 0; !rc && i < count; i++) {
		const json_t *row = json_array_get(array, i);
		struct place place = *above;

		snprintf(place.prefix, sizeof(place.prefix), "%s[%zu]",
			 rows_names[kind], i);
		if (!json_is_object(row))
			return refuse(&place, "", "an object", row);
		strncat(place.prefix, ".", 2);
		rc = row_from_json(&place, kind, row, &out->rows[i]);
	}
	return rc;
}

/* Exactly one of "layers", "ranks", "stages", "slice". */
static int find_rows(const struct place *place, const json_t *json,
		     struct costs *out)
{
	size_t found = ARRAY_SIZE(rows_names);

	for (size_t i = 0; i < ARRAY_SIZE(rows_names); i++) {
		if (!json_object_get(json, rows_names[i]))
			continue;
		if (found < ARRAY_SIZE(rows_names))
			return fail(
				-EINVAL,
				"%s: has both \"%s\" and \"%s\"; one of them it must be",
				place->origin, rows_names[found],
				rows_names[i]);
		found = i;
	}
	if (found == ARRAY_SIZE(rows_names))
		return fail(
			-EINVAL,
			"%s: has no rows: \"layers\", \"ranks\", \"stages\" or \"slice\"",
			place->origin);
	return rows_from_json(place, (enum costs_rows)found,
			      json_object_get(json, rows_names[found]), out);
}

static int head_from_json(struct place *place, const json_t *json,
			  struct costs *out)
{
	const json_t *format = json_object_get(json, "format");
	const json_t *unit = json_object_get(json, "unit");
	const char *text = unit ? json_string_value(unit) : "";

	if (!json_is_object(json))
		return refuse(place, "costs", "an object", json);
	if (!format || !json_is_string(format) ||
	    strcmp(json_string_value(format), FORMAT) != 0)
		return fail(-EINVAL, "%s: \"format\" is not \"" FORMAT "\"",
			    place->origin);
	if (!text || (text[0] && strcmp(text, "seconds") != 0))
		return refuse(place, "unit", "\"seconds\" or \"\"", unit);
	out->seconds = text[0] != '\0';
	place->seconds = out->seconds;
	return 0;
}

static int all_from_json(struct place *place, const json_t *json,
			 struct costs *out)
{
	const char *keys[KEYS_MAX] = {"format", "unit"};
	size_t count = 2;
	int rc = head_from_json(place, json, out);

	_Static_assert(2 + ARRAY_SIZE(fields) + ARRAY_SIZE(rows_names) <=
			       KEYS_MAX,
		       "more keys than room for them");
	for (size_t i = 0; i < ARRAY_SIZE(rows_names); i++)
		keys[count++] = rows_names[i];
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
		keys[count++] = fields[i].key;
	if (!rc)
		rc = check_keys(place, json, keys, count);
	for (size_t i = 0; !rc && i < ARRAY_SIZE(fields); i++)
		rc = field_from_json(place, &fields[i], json, out);
	return rc ? rc : find_rows(place, json, out);
}

/* The end of a long path says more than its beginning. */
static void set_origin(struct costs *costs, const char *origin)
{
	size_t length = strlen(origin), room = sizeof(costs->origin) - 1;

	if (length <= room)
		snprintf(costs->origin, sizeof(costs->origin), "%s", origin);
	else
		snprintf(costs->origin, sizeof(costs->origin), "...%s",
			 origin + length - room + 3);
}

int costs_from_json(const json_t *json, const char *origin, struct costs *out)
{
	struct place place = {.origin = origin};
	int rc;

	*out = (struct costs){0};
	set_origin(out, origin);
	rc = all_from_json(&place, json, out);
	if (rc)
		costs_fini(out);
	return rc;
}

/* Takes a unit off the end of a word: what it is of a second, or 0: none. */
static double take_unit(char *word)
{
	static const struct {
		const char *name;
		double seconds;
	} units[] = {{"ms", 1e-3}, {"us", 1e-6}, {"ns", 1e-9}, {"s", 1}};
	size_t length = strlen(word);

	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		size_t unit = strlen(units[i].name);

		if (length <= unit ||
		    strcmp(word + length - unit, units[i].name) != 0)
			continue;
		word[length - unit] = '\0';
		return units[i].seconds;
	}
	return 0;
}

/*
 * Three numbers, none negative, all with a unit of time or none; false:
 * something else.
 */
static bool parse_slice(const char *text, double *numbers, bool *seconds)
{
	for (unsigned i = 0; i < 3; i++) {
		size_t length = strcspn(text, ",");
		double unit;
		char word[64];

		if (length >= sizeof(word) || (text[length] == ',') != (i < 2))
			return false;
		memcpy(word, text, length);
		word[length] = '\0';
		unit = take_unit(word);
		if (text_parse_real(word, 0, NUMBER_MAX, &numbers[i]))
			return false;
		if (i > 0 && (unit > 0) != *seconds)
			return false;
		*seconds = unit > 0;
		if (unit > 0)
			numbers[i] *= unit;
		text += length + 1;
	}
	return true;
}

static int make_slice(const char *text, const double *numbers,
		      struct costs *out)
{
	char origin[sizeof(out->origin)];

	snprintf(origin, sizeof(origin), "--costs %.100s", text);
	set_origin(out, origin);
	out->rows = calloc(1, sizeof(*out->rows));
	if (!out->rows)
		return fail(-ENOMEM, "no memory for costs");
	out->kind = COSTS_SLICE;
	out->count = 1;
	out->rows[0].forward = numbers[0];
	out->rows[0].input = numbers[1];
	out->rows[0].weight = numbers[2];
	return 0;
}

static int open_path(const char *path, struct costs *out)
{
	char inside[FILES_PATH_BYTES];
	json_t *json;
	int rc;

	if (files_is_folder(path)) {
		rc = files_join(inside, sizeof(inside), path, FILE_NAME);
		if (rc)
			return rc;
		if (!files_exists(inside))
			return fail(
				-ENOENT,
				"%s has no " FILE_NAME
				": a run started with `stagecoach train --trace` makes one",
				path);
		path = inside;
	}
	rc = json_read(path, FILE_BYTES_MAX, &json);
	if (rc)
		return rc;
	rc = costs_from_json(json, path, out);
	json_decref(json);
	return rc;
}

int costs_open(const char *text, struct costs *out)
{
	double numbers[3];
	bool seconds = false;
	int rc;

	*out = (struct costs){0};
	if (parse_slice(text, numbers, &seconds)) {
		rc = make_slice(text, numbers, out);
		out->seconds = seconds;
		return rc;
	}
	if (files_exists(text))
		return open_path(text, out);
	if (strchr(text, ',') && !strchr(text, '/'))
		return fail(-EINVAL, "--costs %s: expected " FORMS_ACCEPTED,
			    text);
	return fail(
		-ENOENT,
		"--costs %s: there is no such file or folder; expected " FORMS_ACCEPTED,
		text);
}

/* ---- writing ---- */

static int field_to_json(const struct field *field, const void *base,
			 json_t *object)
{
	const void *at = (const char *)base + field->offset;
	double number;

	if (field->kind == FIELD_COUNT)
		return *(const unsigned *)at == 0
			       ? 0
			       : json_object_set_new(
					 object, field->key,
					 json_integer(*(const unsigned *)at));
	number = *(const double *)at;
	if (number == 0 && field->kind != FIELD_TIME)
		return 0;
	/* Bytes are whole; a reader expects to see them so. */
	if (field->kind == FIELD_BYTES && number < 9e15 &&
	    number == (double)(json_int_t)number)
		return json_object_set_new(object, field->key,
					   json_integer((json_int_t)number));
	return json_object_set_new(object, field->key, json_real(number));
}

static json_t *row_to_json(const struct costs *costs,
			   const struct costs_row *row)
{
	json_t *object = json_object();
	int rc = 0;

	if (costs->kind == COSTS_LAYERS && row->name[0])
		rc = json_object_set_new(object, "name",
					 json_string(row->name));
	for (size_t i = 0; !rc && i < ARRAY_SIZE(row_fields); i++)
		rc = field_to_json(&row_fields[i], row, object);
	if (!rc)
		return object;
	json_decref(object);
	return NULL;
}

json_t *costs_to_json(const struct costs *costs)
{
	json_t *json = json_pack("{s:s, s:s}", "format", FORMAT, "unit",
				 costs->seconds ? "seconds" : "");
	json_t *rows = json_array();
	int rc = json && rows ? 0 : -1;

	for (unsigned i = 0; !rc && i < costs->count; i++)
		rc = json_array_append_new(rows,
					   row_to_json(costs, &costs->rows[i]));
	if (!rc)
		rc = json_object_set(json, rows_names[costs->kind], rows);
	for (size_t i = 0; !rc && i < ARRAY_SIZE(fields); i++)
		rc = field_to_json(&fields[i], costs, json);
	json_decref(rows);
	if (!rc)
		return json;
	json_decref(json);
	return NULL;
}

int costs_write(const struct costs *costs, const char *path)
{
	json_t *json = costs_to_json(costs);
	int rc;

	if (!json)
		return fail(-ENOMEM, "no memory for %s", path);
	rc = json_write(path, json);
	json_decref(json);
	return rc;
}

/* ---- what they are good for ---- */

/* Layers take other times in bfloat16 than in float. */
static int check_type(const struct costs *costs, enum element_type type)
{
	size_t bytes = element_type_bytes(type);

	if (costs->value_bytes == 0 || costs->value_bytes == bytes)
		return 0;
	return fail(
		-EINVAL,
		"%s: was measured with numbers of %u bytes between layers, this model has %zu (%s): measure with the same --dtype",
		costs->origin, costs->value_bytes, bytes,
		element_type_name(type));
}

int costs_check_model(const struct costs *costs, const struct model *model)
{
	unsigned layers = model_layer_count(model);

	if (costs->kind != COSTS_LAYERS)
		return fail(
			-EINVAL,
			"%s: has costs of %s, which do not say what each layer takes",
			costs->origin, rows_names[costs->kind]);
	for (unsigned i = 0; i < MIN(costs->count, layers); i++) {
		const char *theirs = costs->rows[i].name;
		const char *ours = model_layer(model, i)->name;

		if (theirs[0] && strcmp(theirs, ours) != 0)
			return fail(
				-EINVAL,
				"%s: has the costs of another model: layers[%u] is '%s' there, '%s' here",
				costs->origin, i, theirs, ours);
	}
	if (costs->count != layers)
		return fail(
			-EINVAL,
			"%s: has the costs of another model: %u layers there, %u here",
			costs->origin, costs->count, layers);
	return check_type(costs, model_config(model)->type);
}

static int check_fit(const struct costs *costs, const struct schedule *schedule,
		     const struct partition *partition)
{
	const unsigned wanted[] = {
		[COSTS_SLICE] = 1,
		[COSTS_RANKS] = schedule->ranks,
		[COSTS_STAGES] = schedule->stages,
		[COSTS_LAYERS] =
			partition ? partition->first[partition->stages] : 0,
	};

	if (costs->kind == COSTS_LAYERS && !partition)
		return fail(
			-EINVAL,
			"%s: has costs of layers, and no split of them into stages is known here; give costs of ranks or stages",
			costs->origin);
	if (costs->kind == COSTS_LAYERS &&
	    partition->stages != schedule->stages)
		return fail(
			-EINVAL,
			"schedule %s has %u stages, the model is split into %u",
			schedule->name, schedule->stages, partition->stages);
	if (costs->count != wanted[costs->kind])
		return fail(-EINVAL, "%s: has %u %s, schedule %s takes %u",
			    costs->origin, costs->count,
			    rows_names[costs->kind], schedule->name,
			    wanted[costs->kind]);
	return 0;
}

static unsigned stages_of_rank(const struct schedule *schedule, unsigned rank)
{
	unsigned count = 0;

	for (unsigned s = 0; s < schedule->stages; s++)
		count += schedule->rank_of_stage[s] == rank;
	return count;
}

static void add_row(struct costs_row *to, const struct costs_row *row,
		    double parts)
{
	to->forward += row->forward / parts;
	to->input += row->input / parts;
	to->weight += row->weight / parts;
	to->activation_bytes += row->activation_bytes / parts;
	to->pending_bytes += row->pending_bytes / parts;
}

static struct costs_row stage_row(const struct costs *costs,
				  const struct schedule *schedule,
				  const struct partition *partition,
				  unsigned stage)
{
	unsigned rank = schedule->rank_of_stage[stage];
	struct costs_row sum = {.forward = 0};

	switch (costs->kind) {
	case COSTS_SLICE:
		add_row(&sum, &costs->rows[0], schedule->chunks);
		break;
	case COSTS_RANKS:
		add_row(&sum, &costs->rows[rank],
			stages_of_rank(schedule, rank));
		break;
	case COSTS_STAGES:
		add_row(&sum, &costs->rows[stage], 1);
		break;
	case COSTS_LAYERS:
		for (unsigned i = partition->first[stage];
		     i < partition->first[stage + 1]; i++)
			add_row(&sum, &costs->rows[i], 1);
		break;
	}
	return sum;
}

int costs_of_stages(const struct costs *costs, const struct schedule *schedule,
		    const struct partition *partition,
		    struct schedule_costs *out, double **storage)
{
	size_t stages = schedule->stages, ranks = schedule->ranks;
	double *values;
	int rc = check_fit(costs, schedule, partition);

	if (rc)
		return rc;
	values = calloc(5 * stages + ranks, sizeof(*values));
	if (!values)
		return fail(-ENOMEM, "no memory for the costs of %zu stages",
			    stages);
	for (unsigned s = 0; s < stages; s++) {
		struct costs_row row = stage_row(costs, schedule, partition, s);

		values[s] = row.forward;
		values[stages + s] = row.input;
		values[2 * stages + s] = row.weight;
		values[3 * stages + s] = row.activation_bytes;
		values[4 * stages + s] = row.pending_bytes;
	}
	for (size_t r = 0; r < ranks; r++)
		values[5 * stages + r] = costs->step;
	*out = (struct schedule_costs){
		.forward = values,
		.input = values + stages,
		.weight = values + 2 * stages,
		.activation_bytes = values + 3 * stages,
		.pending_bytes = values + 4 * stages,
		.rank_step = values + 5 * stages,
		.latency = costs->latency,
		.bandwidth = costs->bandwidth,
		.message_bytes = costs->message_bytes,
		.send = costs->send,
		.receive = costs->receive,
		.reduce_tied = costs->reduce_tied,
		.tied_early = costs->tied_early,
		.vote = costs->vote,
		.buffers = SCHEDULE_BUFFERS_ANY,
	};
	*storage = values;
	return 0;
}
