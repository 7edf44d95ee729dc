/*
 * schedule rehearse: the real engine and transport, with sleep for compute.
 */
#include "base/log.h"
#include "tools/hosts_options.h"
#include "tools/schedule/common.h"
#include "tools/schedule/comparison.h"
#include "tools/schedule/comparison_output.h"

/* clang-format off */
static const struct option_spec rehearse_specs[] = {
	SCHEDULE_SIZE_OPTIONS,
	SCHEDULE_DIALECT_OPTION,
	{"costs", 0, OPTION_STRING, .argument = "F,I,W|FILE|RUN",
	 .fallback = "20ms,20ms,20ms", .group = "Costs",
	 .help = "what F, I and W of one micro-batch through a rank's whole "
		 "slice sleep, with a unit; or a costs.json, or a run trained "
		 "with --trace"},
	SCHEDULE_LOSS_OPTION,
	SCHEDULE_LINK_OPTIONS,
	SCHEDULE_BUFFERS_OPTION,
	SCHEDULE_REPLICA_OPTIONS,
	SCHEDULE_RANK_OPTIONS,
	COMPARISON_OUTPUT_OPTIONS,
	HOSTS_OPTIONS,
	{0},
};

static const struct option_command rehearse_command = {
	.name = "schedule rehearse",
	.synopsis = "NAME|FILE... [--stages P --micro-batches M --chunks V] "
		    "--costs F,I,W|FILE|RUN [--message-bytes N]",
	.summary = "run schedules with real ranks and messages, compute asleep",
	.description = "Runs the engine, its ranks and its transport as "
		       "training does, with messages of the right size, but "
		       "sleeps instead of computing. So eight stages can be "
		       "tried on two cores, or a network before the model is "
		       "there. Prediction and measurement stand side by side.",
	.table = rehearse_specs,
	.operands = "NAME|FILE...",
};
/* clang-format on */

static int rehearse(const struct options *options,
		    struct comparison *comparison)
{
	const char *const *names;
	size_t count = options_operands(options, &names);
	enum schedule_dialect dialect;
	int rc = schedule_dialect_parse(options_string(options, "dialect"),
					&dialect);

	for (size_t i = 0; !rc && i < count; i++)
		rc = comparison_add(comparison, names[i], dialect);
	if (rc)
		return rc;
	return comparison_measure(comparison, options, 1, comparison_rehearse,
				  NULL);
}

static int run_rehearse(const struct options *options)
{
	struct comparison comparison = {.title = "Rehearsal"};
	int status = EXIT_MISUSE;

	if (hosts_options_begin(options, NULL, &status))
		return status;
	status = EXIT_MISUSE;
	if (schedule_setting_read(options, &comparison.setting) == 0 &&
	    schedule_setting_replicas(options, &comparison.setting) == 0 &&
	    comparison_check_sizes(options, &comparison) == 0 &&
	    comparison_check_seconds(&comparison) == 0)
		status = rehearse(options, &comparison)
				 ? EXIT_FAILURE
				 : comparison_output(options, &comparison);
	comparison_fini(&comparison);
	return status;
}

const struct schedule_subcommand schedule_rehearse_subcommand = {
	.name = "rehearse",
	.operands_minimum = 1,
	.operands_maximum = SIZE_MAX,
	.command = &rehearse_command,
	.run = run_rehearse,
};
