/*
 * Between options.c (values), options_parse.c (words) and options_help.c.
 */
#ifndef STAGECOACH_TOOLS_OPTIONS_INTERNAL_H
#define STAGECOACH_TOOLS_OPTIONS_INTERNAL_H

#include "tools/options.h"

enum option_source {
	SOURCE_NONE,
	SOURCE_DEFAULT,
	SOURCE_CONFIG,
	SOURCE_COMMAND_LINE,
};

struct option_value {
	enum option_source source;
	bool flag;
	int64_t integer;
	double real;
	uint64_t bytes;
	char **strings; /* heap copies; a single-valued kind has one */
	size_t string_count;
	int64_t *integers;
	size_t integer_count;
};

struct options {
	const struct option_command *command;
	struct option_value *values; /* one a row of the table */
	const char **operands;
	size_t operand_count;
	const char *config; /* path of --config, or NULL */
};

/* Index in the table, or OPTION_NONE. */
#define OPTION_NONE SIZE_MAX
size_t options_find(const struct option_command *command, const char *name);

/*
 * Checks `text` and stores it as the value of row `index` (appends, for
 * OPTION_STRINGS). `where` is how messages call it: "option '--lr'".
 */
int options_store(struct options *options, size_t index, const char *text,
		  enum option_source source, const char *where) MUST_CHECK;

/* "an integer from 1 to 64", into `buffer`; returns it. */
char *options_accepted(const struct option_spec *spec, char *buffer,
		       size_t size);

/* Forgets the value of a row. */
void options_reset(struct options *options, size_t index);

/* Reads a config file into the rows the command line left alone. */
int options_read_config(struct options *options) MUST_CHECK;

/* Logs `where` and the unknown name with the nearest known one; -EINVAL. */
int options_unknown(const struct option_command *command, const char *name,
		    const char *where);

#endif
