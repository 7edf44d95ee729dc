#include "base/json.h"

#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/files.h"
#include "base/log.h"
#include "base/text.h"

#define MEMORY_FLOOR ((size_t)32 << 20)
/* What malloc() takes for itself. */
#define MALLOC_BYTES sizeof(size_t)

/* ---- memory ---- */

/* What the parse under way in this thread may still take. */
static _Thread_local struct {
	bool limits;
	bool exceeded;
	size_t left;
} budget;

static void *budget_malloc(size_t size)
{
	void *memory = malloc(size);
	size_t taken;

	if (!memory || !budget.limits)
		return memory;
	taken = malloc_usable_size(memory) + MALLOC_BYTES;
	if (taken > budget.left) {
		budget.exceeded = true;
		free(memory);
		return NULL;
	}
	budget.left -= taken;
	return memory;
}

static void budget_free(void *memory)
{
	if (memory && budget.limits)
		budget.left += malloc_usable_size(memory) + MALLOC_BYTES;
	free(memory);
}

/* Before there are threads. What lies outside of a parse is malloc()'s, as ever. */
__attribute__((constructor)) static void install_budget(void)
{
	json_set_alloc_funcs(budget_malloc, budget_free);
}

static void begin_budget(size_t limit)
{
	budget.left = limit;
	budget.exceeded = false;
	budget.limits = true;
}

static int end_parse(json_t *value, size_t limit, const json_error_t *error,
		     const char *origin, json_t **out)
{
	budget.limits = false;
	if (value) {
		*out = value;
		return 0;
	}
	if (budget.exceeded)
		return fail(
			-EINVAL,
			"%s: line %d, column %d: more small values than a file of this size may have (over %zu MiB of memory)",
			origin, error->line, error->column, limit >> 20);
	return fail(-EINVAL, "%s: line %d, column %d: not JSON: %s", origin,
		    error->line, error->column, error->text);
}

/* ---- reading ---- */

size_t json_memory_limit(size_t length)
{
	return MEMORY_FLOOR + MIN(length, SIZE_MAX - MEMORY_FLOOR);
}

int json_parse_limited(const char *text, size_t length, size_t memory_limit,
		       const char *origin, json_t **out)
{
	json_error_t error;
	json_t *value;

	begin_budget(memory_limit);
	value = json_loadb(text, length, JSON_REJECT_DUPLICATES, &error);
	return end_parse(value, memory_limit, &error, origin, out);
}

int json_parse_next(const char *text, size_t length, size_t memory_limit,
		    const char *origin, json_t **out, size_t *used)
{
	size_t flags = JSON_REJECT_DUPLICATES | JSON_DECODE_ANY |
		       JSON_DISABLE_EOF_CHECK;
	json_error_t error;
	json_t *value;
	int rc;

	begin_budget(memory_limit);
	value = json_loadb(text, length, flags, &error);
	rc = end_parse(value, memory_limit, &error, origin, out);
	if (!rc)
		*used = (size_t)error.position;
	return rc;
}

int json_parse(const char *text, size_t length, const char *origin,
	       json_t **out)
{
	return json_parse_limited(text, length, json_memory_limit(length),
				  origin, out);
}

struct pieces {
	json_piece_fn *next;
	void *argument;
	const char *at;
	size_t left;
};

static size_t read_pieces(void *buffer, size_t size, void *argument)
{
	struct pieces *pieces = argument;
	size_t bytes;

	while (pieces->left == 0) {
		pieces->at = pieces->next(pieces->argument, &pieces->left);
		if (!pieces->at)
			return 0;
	}
	bytes = MIN(pieces->left, size);
	memcpy(buffer, pieces->at, bytes);
	pieces->at += bytes;
	pieces->left -= bytes;
	return bytes;
}

int json_parse_pieces(json_piece_fn *next, void *argument, size_t memory_limit,
		      const char *origin, json_t **out)
{
	struct pieces pieces = {.next = next, .argument = argument};
	json_error_t error;
	json_t *value;

	begin_budget(memory_limit);
	value = json_load_callback(read_pieces, &pieces, JSON_REJECT_DUPLICATES,
				   &error);
	return end_parse(value, memory_limit, &error, origin, out);
}

int json_read(const char *path, size_t limit, json_t **out)
{
	size_t length;
	char *text;
	int code = files_read(path, limit, &text, &length);

	if (code)
		return code;
	code = json_parse(text, length, path, out);
	free(text);
	return code;
}

/* The shortest of 15, 16, 17 digits that reads back as the same number. */
static void write_real(struct text_builder *text, double value)
{
	char number[40];
	int digits;

	for (digits = 15; digits <= 17; digits++) {
		snprintf(number, sizeof(number), "%.*g", digits, value);
		if (strtod(number, NULL) == value)
			break;
	}
	text_builder_append(text, "%s", number);
	if (number[strspn(number, "-0123456789")] == '\0')
		text_builder_append(text, ".0"); /* stays a real */
}

static void write_scalar(struct text_builder *text, const json_t *value)
{
	char *dumped;

	if (json_is_real(value)) {
		write_real(text, json_real_value(value));
		return;
	}
	dumped = json_dumps(value, JSON_ENCODE_ANY);
	if (!dumped) {
		text->failed = true;
		return;
	}
	text_builder_append_bytes(text, dumped, strlen(dumped));
	free(dumped);
}

static void write_value(struct text_builder *text, const json_t *value,
			int depth)
{
	json_t *container = (json_t *)(uintptr_t)value; /* jansson's macros */
	const char *separator = "";
	const char *key;
	json_t *item;
	size_t i;

	if (json_is_object(value) && json_object_size(value) > 0) {
		text_builder_append(text, "{");
		json_object_foreach(container, key, item)
		{
			json_t *name = json_string(key);

			text_builder_append(text, "%s\n%*s", separator,
					    2 * depth + 2, "");
			write_scalar(text, name);
			text_builder_append(text, ": ");
			write_value(text, item, depth + 1);
			json_decref(name);
			separator = ",";
		}
		text_builder_append(text, "\n%*s}", 2 * depth, "");
	} else if (json_is_array(value) && json_array_size(value) > 0) {
		text_builder_append(text, "[");
		json_array_foreach(container, i, item)
		{
			text_builder_append(text, "%s\n%*s", separator,
					    2 * depth + 2, "");
			write_value(text, item, depth + 1);
			separator = ",";
		}
		text_builder_append(text, "\n%*s]", 2 * depth, "");
	} else {
		write_scalar(text, value);
	}
}

int json_write(const char *path, const json_t *value)
{
	struct text_builder text;
	size_t length;
	char *data;
	int code;

	text_builder_init(&text);
	write_value(&text, value, 0);
	text_builder_append(&text, "\n");
	length = text.length;
	data = text_builder_finish(&text);
	if (!data)
		return fail(-ENOMEM, "%s: out of memory while writing JSON",
			    path);
	code = files_replace(path, data, length);
	free(data);
	return code;
}

static const char *type_name(const json_t *value)
{
	switch (json_typeof(value)) {
	case JSON_OBJECT:
		return "an object";
	case JSON_ARRAY:
		return "an array";
	case JSON_STRING:
		return "a string";
	case JSON_INTEGER:
		return "an integer";
	case JSON_REAL:
		return "a real number";
	case JSON_TRUE:
	case JSON_FALSE:
		return "a boolean";
	case JSON_NULL:
		break;
	}
	return "null";
}

/* NULL when absent or null. */
static json_t *find(const json_t *object, const char *key)
{
	json_t *value = json_object_get(object, key);

	return json_is_null(value) ? NULL : value;
}

static int find_required(const json_t *object, const char *key,
			 const char *origin, const char *expected, json_t **out)
{
	json_t *value = find(object, key);

	if (!value)
		return fail(-EINVAL, "%s: '%s' is missing (expected %s)",
			    origin, key, expected);
	*out = value;
	return 0;
}

static int wrong_type(const json_t *value, const char *key, const char *origin,
		      const char *expected)
{
	return fail(-EINVAL, "%s: '%s' is %s, expected %s", origin, key,
		    type_name(value), expected);
}

static int check_integer(const json_t *value, const char *key, int64_t minimum,
			 int64_t maximum, const char *origin, int64_t *out)
{
	int64_t number;

	if (!json_is_integer(value))
		return wrong_type(value, key, origin, "an integer");
	number = json_integer_value(value);
	if (number < minimum || number > maximum)
		return fail(-EINVAL,
			    "%s: '%s' is %" PRId64 ", expected %" PRId64
			    " to %" PRId64,
			    origin, key, number, minimum, maximum);
	*out = number;
	return 0;
}

int json_get_integer(const json_t *object, const char *key, int64_t minimum,
		     int64_t maximum, const char *origin, int64_t *out)
{
	json_t *value = NULL;
	int code = find_required(object, key, origin, "an integer", &value);

	return code ? code
		    : check_integer(value, key, minimum, maximum, origin, out);
}

int json_get_integer_or(const json_t *object, const char *key, int64_t minimum,
			int64_t maximum, int64_t fallback, const char *origin,
			int64_t *out)
{
	json_t *value = find(object, key);

	if (value)
		return check_integer(value, key, minimum, maximum, origin, out);
	*out = fallback;
	return 0;
}

static int check_real(const json_t *value, const char *key, double minimum,
		      double maximum, const char *origin, double *out)
{
	double number;

	if (!json_is_number(value))
		return wrong_type(value, key, origin, "a number");
	number = json_number_value(value);
	if (!(number >= minimum && number <= maximum))
		return fail(-EINVAL, "%s: '%s' is %g, expected %g to %g",
			    origin, key, number, minimum, maximum);
	*out = number;
	return 0;
}

int json_get_real(const json_t *object, const char *key, double minimum,
		  double maximum, const char *origin, double *out)
{
	json_t *value = NULL;
	int code = find_required(object, key, origin, "a number", &value);

	return code ? code
		    : check_real(value, key, minimum, maximum, origin, out);
}

int json_get_real_or(const json_t *object, const char *key, double minimum,
		     double maximum, double fallback, const char *origin,
		     double *out)
{
	json_t *value = find(object, key);

	if (value)
		return check_real(value, key, minimum, maximum, origin, out);
	*out = fallback;
	return 0;
}

int json_get_boolean_or(const json_t *object, const char *key, bool fallback,
			const char *origin, bool *out)
{
	json_t *value = find(object, key);

	if (value && !json_is_boolean(value))
		return wrong_type(value, key, origin, "true or false");
	*out = value ? json_is_true(value) : fallback;
	return 0;
}

int json_get_string(const json_t *object, const char *key, const char *origin,
		    const char **out)
{
	json_t *value = NULL;
	int code = find_required(object, key, origin, "a string", &value);

	if (code)
		return code;
	if (!json_is_string(value))
		return wrong_type(value, key, origin, "a string");
	*out = json_string_value(value);
	return 0;
}

int json_get_string_or(const json_t *object, const char *key,
		       const char *fallback, const char *origin,
		       const char **out)
{
	if (find(object, key))
		return json_get_string(object, key, origin, out);
	*out = fallback;
	return 0;
}

int json_get_array(const json_t *object, const char *key, const char *origin,
		   json_t **out)
{
	json_t *value = NULL;
	int code = find_required(object, key, origin, "an array", &value);

	if (code)
		return code;
	if (!json_is_array(value))
		return wrong_type(value, key, origin, "an array");
	*out = value;
	return 0;
}

int json_get_object(const json_t *object, const char *key, const char *origin,
		    json_t **out)
{
	json_t *value = NULL;
	int code = find_required(object, key, origin, "an object", &value);

	if (code)
		return code;
	if (!json_is_object(value))
		return wrong_type(value, key, origin, "an object");
	*out = value;
	return 0;
}
