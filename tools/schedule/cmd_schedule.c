/*
 * stagecoach schedule: finds the subcommand and hands it its words. A
 * subcommand computes nothing; it asks schedules/ and prints.
 */
#include "base/log.h"
#include "tools/commands.h"
#include "tools/schedule/common.h"
#include <stdio.h>
#include <string.h>

/* In the order the help shows them. */
static const struct schedule_subcommand *const subcommands[] = {
	&schedule_list_subcommand,     &schedule_show_subcommand,
	&schedule_check_subcommand,    &schedule_simulate_subcommand,
	&schedule_rehearse_subcommand, &schedule_compare_subcommand,
	&schedule_search_subcommand,
};

static void print_help(FILE *out)
{
	fprintf(out, "Usage: stagecoach schedule COMMAND [options]\n\n");
	for (size_t i = 0; i < ARRAY_SIZE(subcommands); i++)
		fprintf(out, "  %-10s %s\n", subcommands[i]->name,
			subcommands[i]->command->summary);
	fprintf(out, "\n'stagecoach schedule COMMAND --help' says more.\n");
}

static int fail_subcommand(const char *name)
{
	const char *names[ARRAY_SIZE(subcommands)];
	const char *nearest;
	char all[256] = "";

	for (size_t i = 0; i < ARRAY_SIZE(subcommands); i++) {
		size_t used = strlen(all);

		names[i] = subcommands[i]->name;
		snprintf(all + used, sizeof(all) - used, "%s%s", i ? ", " : "",
			 names[i]);
	}
	nearest = text_nearest(name, names, ARRAY_SIZE(subcommands));
	log_error("stagecoach schedule has no command '%s'%s%s%s; it has %s",
		  name, nearest ? "; did you mean '" : "",
		  nearest ? nearest : "", nearest ? "'?" : "", all);
	return EXIT_MISUSE;
}

static int check_operands(const struct schedule_subcommand *subcommand,
			  const struct options *options)
{
	const char *const *values;
	size_t count = options_operands(options, &values);

	if (count < subcommand->operands_minimum)
		log_error("schedule %s needs the name or the file of a "
			  "schedule; 'stagecoach schedule list' names the "
			  "built-in ones",
			  subcommand->name);
	else if (count > subcommand->operands_maximum)
		log_error("schedule %s: '%s' is one word too many",
			  subcommand->name,
			  values[subcommand->operands_maximum]);
	else
		return EXIT_SUCCESS;
	return EXIT_MISUSE;
}

int cmd_schedule(int argc, char **argv)
{
	const struct schedule_subcommand *found = NULL;
	struct options *options;
	int error;
	int status;

	if (argc < 2) {
		print_help(stderr);
		return EXIT_MISUSE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
		print_help(stdout);
		return EXIT_SUCCESS;
	}
	for (size_t i = 0; i < ARRAY_SIZE(subcommands); i++)
		if (strcmp(argv[1], subcommands[i]->name) == 0)
			found = subcommands[i];
	if (found == NULL)
		return fail_subcommand(argv[1]);
	error = options_parse(found->command, argc - 1, argv + 1, &options);
	if (error)
		return error > 0 ? EXIT_SUCCESS : EXIT_MISUSE;
	status = check_operands(found, options);
	if (status == EXIT_SUCCESS)
		status = found->run(options);
	options_destroy(options);
	return status;
}
