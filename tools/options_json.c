/* Options from a config file, and into run.json. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/text.h"
#include "tools/options_internal.h"

#define CONFIG_BYTES_MAX ((size_t)16 << 20)
#define WHERE_BYTES      4200 /* a path and a name */

/* A JSON scalar as one would type it; false for null, objects, arrays. */
static bool scalar_text(const json_t *value, char *buffer, size_t size,
			const char **out)
{
	*out = buffer;
	if (json_is_string(value))
		*out = json_string_value(value);
	else if (json_is_integer(value))
		snprintf(buffer, size, "%" JSON_INTEGER_FORMAT,
			 json_integer_value(value));
	else if (json_is_real(value))
		snprintf(buffer, size, "%.17g", json_real_value(value));
	else if (json_is_boolean(value))
		snprintf(buffer, size, "%s",
			 json_is_true(value) ? "true" : "false");
	else
		return false;
	return true;
}

static int store_scalar(struct options *options, size_t index,
			const json_t *value, const char *where)
{
	const struct option_spec *spec = &options->command->table[index];
	bool quoted_flag = spec->kind == OPTION_FLAG && !json_is_boolean(value);
	char accepted[512];
	char buffer[64];
	const char *text;

	if (quoted_flag || !scalar_text(value, buffer, sizeof(buffer), &text))
		return fail(-EINVAL, "%s: expected %s", where,
			    options_accepted(spec, accepted, sizeof(accepted)));
	return options_store(options, index, text, SOURCE_CONFIG, where);
}

/* [5, 4, 3] -> "5,4,3", for one check and one message. */
static int store_list(struct options *options, size_t index,
		      const json_t *array, const char *where)
{
	struct text_builder text;
	char *list;
	size_t i;
	int code;

	text_builder_init(&text);
	for (i = 0; i < json_array_size(array); i++) {
		const json_t *item = json_array_get(array, i);

		if (!json_is_integer(item)) {
			text_builder_fini(&text);
			return fail(-EINVAL, "%s: expected a list of integers",
				    where);
		}
		text_builder_append(&text, "%s%" JSON_INTEGER_FORMAT,
				    i > 0 ? "," : "", json_integer_value(item));
	}
	list = text_builder_finish(&text);
	if (!list)
		return fail(-ENOMEM, "%s: out of memory", where);
	code = options_store(options, index, list, SOURCE_CONFIG, where);
	free(list);
	return code;
}

static int store_json(struct options *options, size_t index,
		      const json_t *value, const char *where)
{
	const struct option_spec *spec = &options->command->table[index];
	size_t i;

	if (!json_is_array(value))
		return store_scalar(options, index, value, where);
	if (spec->kind == OPTION_LIST)
		return store_list(options, index, value, where);
	if (spec->kind != OPTION_STRINGS)
		return fail(-EINVAL, "%s: takes one value, found a list",
			    where);
	for (i = 0; i < json_array_size(value); i++) {
		int code = store_scalar(options, index,
					json_array_get(value, i), where);

		if (code)
			return code;
	}
	return 0;
}

int options_merge_json(struct options *options, const json_t *json,
		       const char *origin)
{
	json_t *object = (json_t *)(uintptr_t)json; /* jansson's macro */
	char where[WHERE_BYTES];
	json_t *value;
	const char *key;

	if (!json_is_object(json))
		return fail(-EINVAL, "%s: expected an object of options",
			    origin);
	json_object_foreach(object, key, value)
	{
		size_t index = options_find(options->command, key);
		int code = 0;

		snprintf(where, sizeof(where), "%s: ", origin);
		if (index == OPTION_NONE)
			return options_unknown(options->command, key, where);
		snprintf(where, sizeof(where), "%s: '%s'", origin, key);
		if (options->values[index].source < SOURCE_COMMAND_LINE) {
			options_reset(options, index);
			code = store_json(options, index, value, where);
		}
		if (code)
			return code;
	}
	return 0;
}

int options_read_config(struct options *options)
{
	json_t *document;
	json_t *object;
	int code = json_read(options->config, CONFIG_BYTES_MAX, &document);

	if (code)
		return code;
	/* A run.json keeps them under "options", beside other facts. */
	object = json_object_get(document, "options");
	code = options_merge_json(options, object ? object : document,
				  options->config);
	json_decref(document);
	return code;
}

static json_t *strings_to_json(const struct option_value *value)
{
	json_t *array = json_array();
	size_t i;

	for (i = 0; i < value->string_count; i++)
		json_array_append_new(array, json_string(value->strings[i]));
	return array;
}

static json_t *value_to_json(const struct option_spec *spec,
			     const struct option_value *value)
{
	switch (spec->kind) {
	case OPTION_FLAG:
		return json_boolean(value->flag);
	case OPTION_INTEGER:
		return json_integer(value->integer);
	case OPTION_REAL:
		return json_real(value->real);
	case OPTION_BYTES:
		return json_integer((json_int_t)value->bytes);
	case OPTION_STRINGS:
		return strings_to_json(value);
	case OPTION_STRING:
	case OPTION_CHOICE:
	case OPTION_OPTIONAL:
	case OPTION_LIST:
		break;
	}
	return json_string(value->strings[0]);
}

json_t *options_to_json(const struct options *options)
{
	const struct option_spec *table = options->command->table;
	json_t *object = json_object();
	size_t i;

	for (i = 0; object && table[i].name; i++) {
		const struct option_value *value = &options->values[i];

		if (value->source == SOURCE_NONE &&
		    table[i].kind != OPTION_FLAG)
			continue;
		if (json_object_set_new(object, table[i].name,
					value_to_json(&table[i], value))) {
			json_decref(object);
			object = NULL;
		}
	}
	return object;
}
