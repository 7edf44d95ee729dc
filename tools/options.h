/*
 * Options: one table per command feeds the parser, --help, and the man page.
 *
 * A table is an array of struct option_spec, ended by a row without a name.
 * Parsing gives a struct options, whose getters name options by their long
 * name; asking for one that is not in the table, or by another kind, is a bug
 * (ASSERT). Every error is one line on the log that names the option, what was
 * given and what is accepted.
 */
#ifndef STAGECOACH_TOOLS_OPTIONS_H
#define STAGECOACH_TOOLS_OPTIONS_H

#include "base/json.h"
#include <stdio.h>

enum option_kind {
	OPTION_FLAG,    /* --recompute; no argument */
	OPTION_INTEGER, /* minimum .. maximum */
	OPTION_REAL,    /* minimum .. maximum */
	OPTION_STRING,
	OPTION_CHOICE,   /* one of choices, "a|b|c" */
	OPTION_BYTES,    /* 4096, 64M, 2G */
	OPTION_LIST,     /* integers: 5,4,3; minimum .. maximum each */
	OPTION_STRINGS,  /* takes all words up to the next option; repeatable */
	OPTION_OPTIONAL, /* --csv or --csv=comms; fallback when no value */
};

struct option_spec {
	const char *name; /* long name, without dashes; NULL ends the table */
	char letter;      /* short name, or 0 */
	enum option_kind kind;
	const char *argument; /* what help calls the value: "N", "DIR" */
	const char
		*fallback;   /* default in words the parser reads; NULL: none */
	const char *choices; /* OPTION_CHOICE, or OPTION_OPTIONAL */
	double minimum, maximum;
	const char *group; /* heading in help; NULL: as the row before */
	const char *help;  /* one sentence */
};

/* What a command is, for its help and manual page. */
struct option_command {
	const char *name;        /* "train" */
	const char *synopsis;    /* "--data DIR --out RUN [options]" */
	const char *summary;     /* one line */
	const char *description; /* paragraphs for the manual; may be NULL */
	const struct option_spec *table;
	const char *operands; /* "NAME|FILE ..." or NULL: none are taken */
	/* --config FILE (a run.json) is read first, the command line wins. */
	bool takes_config;
};

struct options;

/*
 * argv[0] is the command's name. -EINVAL, logged: misuse (the caller exits 2).
 * --help prints the help on stdout and returns 1 (the caller exits 0).
 * Unknown options suggest the nearest known one.
 */
int options_parse(const struct option_command *command, int argc, char **argv,
		  struct options **out) MUST_CHECK;
void options_destroy(struct options *options);

/* Does the command have such an option? All below are asked for those alone. */
bool options_has(const struct options *options, const char *name);

/* Given on the command line or in --config (not merely a default). */
bool options_is_set(const struct options *options, const char *name);
/* Given on the command line itself. */
bool options_is_typed(const struct options *options, const char *name);

bool options_flag(const struct options *options, const char *name);
int64_t options_integer(const struct options *options, const char *name);
double options_real(const struct options *options, const char *name);
uint64_t options_bytes(const struct options *options, const char *name);
/* NULL when neither given nor defaulted. Also for CHOICE and OPTIONAL. */
const char *options_string(const struct options *options, const char *name);
size_t options_list(const struct options *options, const char *name,
		    const int64_t **values);
size_t options_strings(const struct options *options, const char *name,
		       const char *const **values);
size_t options_operands(const struct options *options,
			const char *const **values);

/*
 * All options with a value, given or default, as a JSON object by long name
 * (flags true or false, lists as text, strings as arrays). New reference. And
 * back: values from `json` stand where the command line gave none.
 */
json_t *options_to_json(const struct options *options);
int options_merge_json(struct options *options, const json_t *json,
		       const char *origin) MUST_CHECK;

/* The first option typed on the command line that is not in `allowed`
 * (NULL-terminated long names); NULL if all are. */
const char *options_first_typed_outside(const struct options *options,
					const char *const *allowed);

void options_help(FILE *out, const struct option_command *command);
void options_manual(FILE *out, const struct option_command *command); /* roff */

#endif
