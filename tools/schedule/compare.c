/* schedule compare: a table of schedules, predicted and measured. */
#include "base/log.h"
#include "tools/schedule/common.h"
#include "tools/schedule/comparison.h"
#include "tools/schedule/comparison_output.h"
#include <errno.h>
#include <string.h>

/* clang-format off */
static const struct option_spec compare_specs[] = {
	SCHEDULE_SIZE_OPTIONS,
	{"schedules", 's', OPTION_STRING, .argument = "A,B,...",
	 .group = "Schedules",
	 .help = "names and files to compare (default: all built-in ones)"},
	SCHEDULE_DIALECT_OPTION,
	SCHEDULE_COSTS_OPTIONS,
	SCHEDULE_BUFFERS_OPTION,
	{"memory-cap", 0, OPTION_BYTES, .argument = "BYTES", .group = "Memory",
	 .help = "leave out schedules whose activations need more on a rank; "
		 "with costs that do not tell bytes, micro-batches"},
	{"rehearse", 0, OPTION_FLAG, .group = "Measuring",
	 .help = "rehearse each: real ranks and messages, compute asleep"},
	{"rounds", 0, OPTION_INTEGER, .argument = "N", .fallback = "1",
	 .minimum = 1, .maximum = 1000,
	 .help = "times to measure them all in turn"},
	SCHEDULE_RANK_OPTIONS,
	COMPARISON_OUTPUT_OPTIONS,
	{0},
};

static const struct option_command compare_command = {
	.name = "schedule compare",
	.synopsis = "--stages P --micro-batches M [--chunks V] "
		    "[--costs F,I,W|FILE|RUN] [--rehearse] "
		    "[--schedules A,B,...]",
	.summary = "compare schedules, predicted and measured",
	.table = compare_specs,
};
/* clang-format on */

static int add_all(struct comparison *comparison, enum schedule_dialect dialect)
{
	int rc = 0;

	for (size_t i = 0; !rc && i < schedule_kind_count(); i++) {
		const char *name = schedule_kind_at(i)->name;

		if (strcmp(name, "forward") != 0)
			rc = comparison_add(comparison, name, dialect);
	}
	return rc;
}

static int add_list(struct comparison *comparison, const char *list,
		    enum schedule_dialect dialect)
{
	char *words = strdup(list), *rest = words, *word;
	int rc = words ? 0 : fail(-ENOMEM, "no memory for a list");

	while (!rc && (word = strsep(&rest, ",")))
		if (*word)
			rc = comparison_add(comparison, word, dialect);
	free(words);
	if (!rc && comparison->count == 0)
		rc = fail(-EINVAL, "--schedules %s names none", list);
	return rc;
}

static int compare(const struct options *options, struct comparison *comparison)
{
	const char *list = options_string(options, "schedules");
	enum schedule_dialect dialect;
	int rc = schedule_dialect_parse(options_string(options, "dialect"),
					&dialect);

	if (!rc)
		rc = list ? add_list(comparison, list, dialect)
			  : add_all(comparison, dialect);
	if (rc || !options_flag(options, "rehearse"))
		return rc;
	return comparison_measure(comparison, options,
				  (unsigned)options_integer(options, "rounds"),
				  comparison_rehearse, NULL);
}

static int check(const struct options *options, struct comparison *comparison)
{
	int rc = comparison_check_sizes(options, comparison);

	if (!rc && (!comparison->ranks || !comparison->micro_batches))
		rc = fail(-EINVAL, "schedule compare needs --stages and "
				   "--micro-batches");
	if (!rc && options_flag(options, "rehearse"))
		rc = comparison_check_seconds(comparison);
	if (options_is_set(options, "memory-cap"))
		comparison->memory_cap =
			(double)options_bytes(options, "memory-cap");
	return rc;
}

static int run_compare(const struct options *options)
{
	struct comparison comparison = {.title = "Schedules compared"};
	int status = EXIT_MISUSE;

	if (schedule_setting_read(options, &comparison.setting) == 0 &&
	    check(options, &comparison) == 0)
		status = compare(options, &comparison)
				 ? EXIT_FAILURE
				 : comparison_output(options, &comparison);
	comparison_fini(&comparison);
	return status;
}

const struct schedule_subcommand schedule_compare_subcommand = {
	.name = "compare",
	.command = &compare_command,
	.run = run_compare,
};
