/* Words of the command line into values. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/text.h"
#include "tools/options_internal.h"

#define HELP_ASKED   1
#define MANUAL_ASKED 2 /* for `make`: the manual page in roff */

/* The words still to be read. */
struct words {
	char **next;
	char **end;
};

/* A word that cannot be a value unless written --name=value. */
static bool looks_like_option(const char *word)
{
	if (word[0] != '-' || word[1] == '\0')
		return false;
	return !(word[1] >= '0' && word[1] <= '9') && word[1] != '.';
}

static int needs_value(const struct option_spec *spec, const char *where,
		       const struct words *words)
{
	char accepted[512];

	if (words->next < words->end && spec->kind == OPTION_STRING)
		return fail(-EINVAL,
			    "%s needs a value (write --%s=%s if that "
			    "is the value)",
			    where, spec->name, *words->next);
	return fail(
		-EINVAL, "%s needs a value: %s", where,
		spec->argument && spec->kind >= OPTION_STRING &&
				spec->kind != OPTION_CHOICE
			? spec->argument
			: options_accepted(spec, accepted, sizeof(accepted)));
}

/* Every following word that is no option. At least one. */
static int take_strings(struct options *options, size_t index,
			struct words *words, const char *where)
{
	int code;

	if (words->next == words->end || looks_like_option(*words->next))
		return needs_value(&options->command->table[index], where,
				   words);
	while (words->next < words->end && !looks_like_option(*words->next)) {
		code = options_store(options, index, *words->next,
				     SOURCE_COMMAND_LINE, where);
		if (code)
			return code;
		words->next++;
	}
	return 0;
}

/* One option; `value` is what stood behind '=' (or -n), or NULL. */
static int take(struct options *options, size_t index, const char *value,
		struct words *words)
{
	const struct option_spec *spec = &options->command->table[index];
	char where[80];

	snprintf(where, sizeof(where), "option '--%s'", spec->name);
	if (!value && spec->kind == OPTION_FLAG)
		value = "true";
	if (!value && spec->kind == OPTION_OPTIONAL)
		value = spec->fallback;
	if (!value && spec->kind == OPTION_STRINGS)
		return take_strings(options, index, words, where);
	if (!value) {
		if (words->next == words->end ||
		    looks_like_option(*words->next))
			return needs_value(spec, where, words);
		value = *words->next++;
	}
	return options_store(options, index, value, SOURCE_COMMAND_LINE, where);
}

static int take_config(struct options *options, const char *value,
		       struct words *words)
{
	if (!value) {
		if (words->next == words->end)
			return fail(-EINVAL, "option '--config' needs a value: "
					     "a JSON file such as run.json");
		value = *words->next++;
	}
	options->config = value;
	return 0;
}

static int take_long(struct options *options, const char *word,
		     struct words *words)
{
	const struct option_command *command = options->command;
	const char *equals = strchr(word, '=');
	const char *value = equals ? equals + 1 : NULL;
	char name[64];
	size_t index;

	if (text_copy(name, sizeof(name), word) && !equals)
		return fail(-EINVAL, "unknown option '--%s'", word);
	if (equals)
		name[MIN((size_t)(equals - word), sizeof(name) - 1)] = '\0';
	if (!strcmp(name, "help") && !value)
		return HELP_ASKED;
	if (!strcmp(name, "manual") && !value)
		return MANUAL_ASKED;
	if (!strcmp(name, "config") && command->takes_config)
		return take_config(options, value, words);
	index = options_find(command, name);
	if (index != OPTION_NONE)
		return take(options, index, value, words);
	if (!strncmp(name, "no-", 3) && !value) {
		index = options_find(command, name + 3);
		if (index != OPTION_NONE &&
		    command->table[index].kind == OPTION_FLAG)
			return take(options, index, "false", words);
	}
	return options_unknown(command, name, "");
}

static int take_short(struct options *options, const char *word,
		      struct words *words)
{
	const struct option_command *command = options->command;
	const char *rest = word + 1;
	size_t i;

	if (word[0] == 'h' && rest[0] == '\0')
		return HELP_ASKED;
	for (i = 0; command->table[i].name; i++)
		if (command->table[i].letter == word[0])
			break;
	if (!command->table[i].name)
		return fail(-EINVAL,
			    "unknown option '-%c'; 'stagecoach help %s' lists "
			    "them",
			    word[0], command->name);
	if (*rest && command->table[i].kind == OPTION_FLAG)
		return fail(-EINVAL, "option '-%c' takes no value, found '%s'",
			    word[0], rest);
	return take(options, i, *rest ? rest : NULL, words);
}

static int take_operand(struct options *options, const char *word)
{
	const struct option_command *command = options->command;

	if (!command->operands)
		return fail(-EINVAL,
			    "unexpected word '%s'; usage: stagecoach %s %s",
			    word, command->name, command->synopsis);
	options->operands[options->operand_count++] = word;
	return 0;
}

static int take_all(struct options *options, struct words *words)
{
	bool only_operands = false;
	int code = 0;

	while (words->next < words->end && !code) {
		const char *word = *words->next++;

		if (only_operands || word[0] != '-' || word[1] == '\0')
			code = take_operand(options, word);
		else if (!strcmp(word, "--"))
			only_operands = true;
		else if (word[1] == '-')
			code = take_long(options, word + 2, words);
		else
			code = take_short(options, word + 1, words);
	}
	return code;
}

static int store_defaults(struct options *options)
{
	const struct option_command *command = options->command;
	size_t i;

	for (i = 0; command->table[i].name; i++) {
		const char *fallback = command->table[i].fallback;
		int code;

		if (!fallback || command->table[i].kind == OPTION_OPTIONAL)
			continue;
		code = options_store(options, i, fallback, SOURCE_DEFAULT,
				     command->table[i].name);
		if (code == -ENOMEM)
			return code;
		ASSERT(!code); /* the table contradicts itself */
	}
	return 0;
}

static size_t table_rows(const struct option_command *command)
{
	size_t rows = 0;

	while (command->table[rows].name)
		rows++;
	return rows;
}

int options_parse(const struct option_command *command, int argc, char **argv,
		  struct options **out)
{
	struct words words = {argv + 1, argv + MAX(argc, 1)};
	struct options *options = calloc(1, sizeof(*options));
	int code;

	if (!options)
		goto err_memory;
	options->command = command;
	options->values =
		calloc(table_rows(command) + 1, sizeof(options->values[0]));
	options->operands =
		calloc((size_t)MAX(argc, 1) + 1, sizeof(options->operands[0]));
	if (!options->values || !options->operands)
		goto err_memory;
	code = store_defaults(options);
	if (!code)
		code = take_all(options, &words);
	if (code == HELP_ASKED)
		options_help(stdout, command);
	if (code == MANUAL_ASKED) {
		options_manual(stdout, command);
		code = HELP_ASKED;
	}
	if (!code && options->config)
		code = options_read_config(options);
	if (code) {
		options_destroy(options);
		return code;
	}
	*out = options;
	return 0;

err_memory:
	options_destroy(options);
	return fail(-ENOMEM, "out of memory while reading the options");
}
