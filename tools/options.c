/* Values: checking, storing, handing out. */
#include "tools/options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/text.h"
#include "tools/options_internal.h"

#define INTEGERS_MAX 4096

size_t options_find(const struct option_command *command, const char *name)
{
	size_t i;

	for (i = 0; command->table[i].name; i++)
		if (!strcmp(command->table[i].name, name))
			return i;
	return OPTION_NONE;
}

static bool has_range(const struct option_spec *spec)
{
	return spec->maximum > spec->minimum;
}

/* The range as integers; a bound beyond int64 is no bound. */
static void integer_range(const struct option_spec *spec, int64_t *minimum,
			  int64_t *maximum)
{
	*minimum = INT64_MIN;
	*maximum = INT64_MAX;
	if (!has_range(spec))
		return;
	if (spec->minimum > -9.2e18)
		*minimum = (int64_t)spec->minimum;
	if (spec->maximum < 9.2e18)
		*maximum = (int64_t)spec->maximum;
}

static void describe_range(const struct option_spec *spec, const char *noun,
			   char *buffer, size_t size)
{
	if (!has_range(spec))
		snprintf(buffer, size, "%s", noun);
	else if (spec->maximum >= 9e15)
		snprintf(buffer, size, "%s of at least %.15g", noun,
			 spec->minimum);
	else
		snprintf(buffer, size, "%s from %.15g to %.15g", noun,
			 spec->minimum, spec->maximum);
}

/* "a|b|c" -> "a, b, c". */
static void describe_choices(const char *choices, char *buffer, size_t size)
{
	size_t used = (size_t)snprintf(buffer, size, "one of ");

	for (; *choices && used + 3 < size; choices++) {
		if (*choices == '|') {
			buffer[used++] = ',';
			buffer[used++] = ' ';
		} else {
			buffer[used++] = *choices;
		}
	}
	buffer[used] = '\0';
}

char *options_accepted(const struct option_spec *spec, char *buffer,
		       size_t size)
{
	switch (spec->kind) {
	case OPTION_INTEGER:
		describe_range(spec, "an integer", buffer, size);
		break;
	case OPTION_REAL:
		describe_range(spec, "a number", buffer, size);
		break;
	case OPTION_LIST:
		describe_range(spec, "a list such as 5,4,3, each an integer",
			       buffer, size);
		break;
	case OPTION_BYTES:
		snprintf(buffer, size, "a size such as 4096, 64K, 3M or 2G");
		break;
	case OPTION_CHOICE:
	case OPTION_OPTIONAL:
		describe_choices(spec->choices, buffer, size);
		break;
	case OPTION_FLAG:
		snprintf(buffer, size, "true or false");
		break;
	case OPTION_STRING:
	case OPTION_STRINGS:
		snprintf(buffer, size, "a text that is not empty");
		break;
	}
	return buffer;
}

static int check_choice(const struct option_spec *spec, const char *text)
{
	size_t length = strlen(text);
	const char *word = spec->choices;

	while (*word) {
		size_t this_length = strcspn(word, "|");

		if (this_length == length && !memcmp(word, text, length))
			return 0;
		word += this_length + (word[this_length] == '|');
	}
	return -EINVAL;
}

static int check_integers(const struct option_spec *spec, const char *text,
			  struct option_value *value)
{
	int64_t minimum;
	int64_t maximum;
	size_t capacity = 1;
	const char *p;
	int code;

	for (p = text; *p; p++)
		capacity += *p == ',';
	if (capacity > INTEGERS_MAX)
		return -EINVAL;
	value->integers = malloc(capacity * sizeof(value->integers[0]));
	if (!value->integers)
		return -ENOMEM;
	integer_range(spec, &minimum, &maximum);
	code = text_parse_list(text, minimum, maximum, value->integers,
			       capacity, &value->integer_count);
	if (code) {
		free(value->integers);
		value->integers = NULL;
	}
	return code;
}

/* Parses `text` by kind into *value; a silent error code. */
static int check(const struct option_spec *spec, const char *text,
		 struct option_value *value)
{
	int64_t minimum;
	int64_t maximum;

	switch (spec->kind) {
	case OPTION_INTEGER:
		integer_range(spec, &minimum, &maximum);
		return text_parse_integer(text, minimum, maximum,
					  &value->integer);
	case OPTION_REAL:
		return text_parse_real(
			text, has_range(spec) ? spec->minimum : -1.7e308,
			has_range(spec) ? spec->maximum : 1.7e308,
			&value->real);
	case OPTION_BYTES:
		return text_parse_bytes(text, &value->bytes);
	case OPTION_CHOICE:
	case OPTION_OPTIONAL:
		return check_choice(spec, text);
	case OPTION_LIST:
		return check_integers(spec, text, value);
	case OPTION_FLAG:
		value->flag = !strcmp(text, "true");
		return value->flag || !strcmp(text, "false") ? 0 : -EINVAL;
	case OPTION_STRING:
	case OPTION_STRINGS:
		return text[0] || spec->minimum < 1 ? 0 : -EINVAL;
	}
	return -EINVAL;
}

static int refuse(const struct option_spec *spec, const char *text,
		  const char *where)
{
	char accepted[512];

	return fail(-EINVAL, "%s: '%s' is not %s", where, text,
		    options_accepted(spec, accepted, sizeof(accepted)));
}

static int append_string(struct option_value *value, const char *text)
{
	char **grown = realloc(value->strings,
			       (value->string_count + 1) * sizeof(grown[0]));
	char *copy = strdup(text);

	if (grown)
		value->strings = grown;
	if (!grown || !copy) {
		free(copy);
		return -ENOMEM;
	}
	value->strings[value->string_count++] = copy;
	return 0;
}

static void value_fini(struct option_value *value)
{
	size_t i;

	for (i = 0; i < value->string_count; i++)
		free(value->strings[i]);
	free(value->strings);
	free(value->integers);
	memset(value, 0, sizeof(*value));
}

void options_reset(struct options *options, size_t index)
{
	value_fini(&options->values[index]);
}

int options_store(struct options *options, size_t index, const char *text,
		  enum option_source source, const char *where)
{
	const struct option_spec *spec = &options->command->table[index];
	struct option_value *value = &options->values[index];
	struct option_value fresh = {.source = source};
	int code = check(spec, text, &fresh);

	if (code == -ENOMEM)
		goto err_memory;
	if (code)
		return refuse(spec, text, where);
	if (spec->kind == OPTION_STRINGS && value->source == source) {
		fresh = *value;
		memset(value, 0, sizeof(*value));
	}
	value_fini(value);
	*value = fresh;
	if (append_string(value, text))
		goto err_memory;
	return 0;

err_memory:
	return fail(-ENOMEM, "%s: out of memory", where);
}

int options_unknown(const struct option_command *command, const char *name,
		    const char *where)
{
	const char *names[256];
	const char *nearest;
	size_t count = 0;
	size_t i;

	for (i = 0; command->table[i].name && count < 254; i++)
		names[count++] = command->table[i].name;
	names[count++] = "help";
	if (command->takes_config)
		names[count++] = "config";
	nearest = text_nearest(name, names, count);
	if (nearest)
		return fail(-EINVAL,
			    "%sunknown option '--%s'; did you mean '--%s'?",
			    where, name, nearest);
	return fail(-EINVAL,
		    "%sunknown option '--%s'; 'stagecoach help %s' lists them",
		    where, name, command->name);
}

void options_destroy(struct options *options)
{
	size_t i;

	if (!options)
		return;
	for (i = 0; options->values && options->command->table[i].name; i++)
		value_fini(&options->values[i]);
	free(options->values);
	free(options->operands);
	free(options);
}

static const struct option_value *lookup(const struct options *options,
					 const char *name)
{
	size_t index = options_find(options->command, name);

	ASSERT(index != OPTION_NONE);
	return &options->values[index];
}

/* The value of a row of that kind, which must exist. */
static const struct option_value *typed(const struct options *options,
					const char *name, enum option_kind kind)
{
	size_t index = options_find(options->command, name);

	ASSERT(index != OPTION_NONE);
	ASSERT(options->command->table[index].kind == kind);
	return &options->values[index];
}

bool options_has(const struct options *options, const char *name)
{
	return options_find(options->command, name) != OPTION_NONE;
}

bool options_is_set(const struct options *options, const char *name)
{
	return lookup(options, name)->source >= SOURCE_CONFIG;
}

bool options_is_typed(const struct options *options, const char *name)
{
	return lookup(options, name)->source == SOURCE_COMMAND_LINE;
}

bool options_flag(const struct options *options, const char *name)
{
	return typed(options, name, OPTION_FLAG)->flag;
}

int64_t options_integer(const struct options *options, const char *name)
{
	const struct option_value *value = typed(options, name, OPTION_INTEGER);

	ASSERT(value->source != SOURCE_NONE);
	return value->integer;
}

double options_real(const struct options *options, const char *name)
{
	const struct option_value *value = typed(options, name, OPTION_REAL);

	ASSERT(value->source != SOURCE_NONE);
	return value->real;
}

uint64_t options_bytes(const struct options *options, const char *name)
{
	const struct option_value *value = typed(options, name, OPTION_BYTES);

	ASSERT(value->source != SOURCE_NONE);
	return value->bytes;
}

const char *options_string(const struct options *options, const char *name)
{
	const struct option_value *value = lookup(options, name);

	return value->string_count > 0 ? value->strings[0] : NULL;
}

size_t options_list(const struct options *options, const char *name,
		    const int64_t **values)
{
	const struct option_value *value = typed(options, name, OPTION_LIST);

	*values = value->integers;
	return value->integer_count;
}

size_t options_strings(const struct options *options, const char *name,
		       const char *const **values)
{
	const struct option_value *value = typed(options, name, OPTION_STRINGS);

	*values = (const char *const *)value->strings;
	return value->string_count;
}

size_t options_operands(const struct options *options,
			const char *const **values)
{
	*values = options->operands;
	return options->operand_count;
}

const char *options_first_typed_outside(const struct options *options,
					const char *const *allowed)
{
	const struct option_spec *table = options->command->table;
	size_t i;
	size_t a;

	for (i = 0; table[i].name; i++) {
		if (options->values[i].source != SOURCE_COMMAND_LINE)
			continue;
		for (a = 0; allowed[a]; a++)
			if (!strcmp(allowed[a], table[i].name))
				break;
		if (!allowed[a])
			return table[i].name;
	}
	return NULL;
}
