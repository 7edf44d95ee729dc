/* --help and the manual page, from the same table. */
#include <string.h>

#include "tools/options_internal.h"

#define HELP_COLUMN 26
#define HELP_WIDTH  79

/* "  -s, --stages P", "      --csv[=WHICH]". */
static void option_forms(const struct option_spec *spec, char *buffer,
			 size_t size)
{
	const char *argument = spec->argument ? spec->argument : "VALUE";
	char letter[8] = "    ";

	if (spec->letter)
		snprintf(letter, sizeof(letter), "-%c, ", spec->letter);
	if (spec->kind == OPTION_FLAG)
		snprintf(buffer, size, "  %s--%s", letter, spec->name);
	else if (spec->kind == OPTION_OPTIONAL)
		snprintf(buffer, size, "  %s--%s[=%s]", letter, spec->name,
			 argument);
	else
		snprintf(buffer, size, "  %s--%s %s%s", letter, spec->name,
			 argument, spec->kind == OPTION_STRINGS ? "..." : "");
}

/* The help text with choices and default. */
static void option_text(const struct option_spec *spec, char *buffer,
			size_t size)
{
	char choices[512] = "";
	size_t used;
	size_t i;

	if (spec->choices) {
		snprintf(choices, sizeof(choices), ": %s", spec->choices);
		for (i = 0; choices[i]; i++)
			if (choices[i] == '|')
				choices[i] = ' ';
	}
	snprintf(buffer, size, "%s%s", spec->help, choices);
	used = strlen(buffer);
	if (spec->fallback)
		snprintf(buffer + used, size - used, " [%s]", spec->fallback);
}

/* Prints words from `column` on, breaking lines before HELP_WIDTH. */
static void print_wrapped(FILE *out, const char *text, int column, int indent)
{
	while (*text) {
		int length = (int)strcspn(text, " \n");

		if (column > indent && column + 1 + length > HELP_WIDTH) {
			fprintf(out, "\n%*s", indent, "");
			column = indent;
		} else if (column > indent) {
			fputc(' ', out);
			column++;
		}
		fprintf(out, "%.*s", length, text);
		column += length;
		text += length;
		if (*text == '\n') {
			fprintf(out, "\n%*s", indent, "");
			column = indent;
		}
		text += *text != '\0';
	}
	fputc('\n', out);
}

static void help_option(FILE *out, const struct option_spec *spec)
{
	char forms[128];
	char text[1024];
	int length;

	option_forms(spec, forms, sizeof(forms));
	option_text(spec, text, sizeof(text));
	length = (int)strlen(forms);
	fputs(forms, out);
	if (length + 2 > HELP_COLUMN)
		fprintf(out, "\n%*s", HELP_COLUMN, "");
	else
		fprintf(out, "%*s", HELP_COLUMN - length, "");
	print_wrapped(out, text, HELP_COLUMN, HELP_COLUMN);
}

static const struct option_spec builtin_config = {
	.name = "config",
	.kind = OPTION_STRING,
	.argument = "FILE",
	.help = "take options from a JSON file such as a run's run.json; the "
		"command line wins",
};

static const struct option_spec builtin_help = {
	.name = "help",
	.letter = 'h',
	.kind = OPTION_FLAG,
	.help = "show this help",
};

typedef void print_option_fn(FILE *out, const struct option_spec *spec);
typedef void print_group_fn(FILE *out, const char *group);

/* Walks the visible rows, announcing each group once, then the built-ins. */
static void walk(FILE *out, const struct option_command *command,
		 print_group_fn *print_group, print_option_fn *print_option)
{
	const char *group = "";
	const struct option_spec *spec;

	for (spec = command->table; spec->name; spec++) {
		if ((spec->group && strcmp(group, spec->group)) || !group[0]) {
			group = spec->group ? spec->group : "Options";
			print_group(out, group);
		}
		print_option(out, spec);
	}
	print_group(out, "General");
	if (command->takes_config)
		print_option(out, &builtin_config);
	print_option(out, &builtin_help);
}

static void help_group(FILE *out, const char *group)
{
	fprintf(out, "\n%s\n", group);
}

void options_help(FILE *out, const struct option_command *command)
{
	char usage[512];

	snprintf(usage, sizeof(usage), "stagecoach %s %s", command->name,
		 command->synopsis);
	fputs("Usage: ", out);
	print_wrapped(out, usage, 7, 7);
	fprintf(out, "\nstagecoach %s: %s.\n", command->name, command->summary);
	if (command->description) {
		fputc('\n', out);
		print_wrapped(out, command->description, 0, 0);
	}
	walk(out, command, help_group, help_option);
}

/* Text for roff: hyphens that stay hyphens, no accidental requests. */
static void man_text(FILE *out, const char *text)
{
	bool line_start = true;

	for (; *text; text++) {
		if (line_start && (*text == '.' || *text == '\''))
			fputs("\\&", out);
		line_start = *text == '\n';
		if (*text == '\\')
			fputs("\\e", out);
		else if (*text == '-')
			fputs("\\-", out);
		else
			fputc(*text, out);
	}
}

static void man_group(FILE *out, const char *group)
{
	fprintf(out, ".SS \"%s\"\n", group);
}

static void man_option(FILE *out, const struct option_spec *spec)
{
	char forms[128];
	char text[1024];

	option_forms(spec, forms, sizeof(forms));
	option_text(spec, text, sizeof(text));
	fputs(".TP\n\\fB", out);
	man_text(out, forms + strspn(forms, " "));
	fputs("\\fR\n", out);
	man_text(out, text);
	fputc('\n', out);
}

/* "schedule show" -> "SCHEDULE\-SHOW", or in small letters. */
static void man_name(FILE *out, const char *name, bool capitals)
{
	for (; *name; name++) {
		bool letter = *name >= 'a' && *name <= 'z';

		if (*name == ' ')
			fputs("\\-", out);
		else
			fputc(letter && capitals ? *name - 'a' + 'A' : *name,
			      out);
	}
}

void options_manual(FILE *out, const struct option_command *command)
{
	fputs(".TH STAGECOACH\\-", out);
	man_name(out, command->name, true);
	fprintf(out, " 1 \"\" \"stagecoach %s\"\n.SH NAME\nstagecoach\\-",
		PACKAGE_VERSION);
	man_name(out, command->name, false);
	fputs(" \\- ", out);
	man_text(out, command->summary);
	fputs("\n.SH SYNOPSIS\n\\fBstagecoach ", out);
	man_text(out, command->name);
	fputs("\\fR ", out);
	man_text(out, command->synopsis);
	fputc('\n', out);
	if (command->description) {
		fputs(".SH DESCRIPTION\n", out);
		man_text(out, command->description);
		fputc('\n', out);
	}
	fputs(".SH OPTIONS\n", out);
	walk(out, command, man_group, man_option);
	fputs(".SH EXIT STATUS\n0 done, 1 failed, 2 misuse.\n", out);
}
