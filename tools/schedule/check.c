/* schedule check: one line of proof a schedule. */
#include "tools/schedule/common.h"
#include <errno.h>

/* clang-format off */
static const struct option_spec check_specs[] = {
	SCHEDULE_SIZE_OPTIONS,
	SCHEDULE_DIALECT_OPTION,
	SCHEDULE_BUFFERS_OPTION,
	{0},
};

static const struct option_command check_command = {
	.name = "schedule check",
	.synopsis = "NAME|FILE... [--stages P "
		    "--micro-batches M --chunks V]",
	.summary = "prove that schedules run",
	.table = check_specs,
	.operands = "NAME|FILE...",
};
/* clang-format on */

static char *report_line(const char *name, const struct schedule *schedule,
			 const struct schedule_report *report)
{
	struct text_builder text;

	text_builder_init(&text);
	if (!report->valid) {
		text_builder_append(&text, "%s: invalid: %s\n", name,
				    report->reason);
		return text_builder_finish(&text);
	}
	text_builder_append(&text,
			    "%s: valid: ranks %u, stages %u, micro-batches "
			    "%u, posted receives safe %u, at full speed %u, "
			    "peak activations ",
			    name, schedule->ranks, schedule->stages,
			    schedule->micro_batches, report->buffers_safe,
			    report->buffers_full_speed);
	schedule_command_append_peaks(&text, report->peak_of_rank,
				      report->ranks, schedule->chunks, " ");
	if (report->bit_identical)
		text_builder_append(&text, ", bit-identical\n");
	else
		text_builder_append(&text, ", not bit-identical: %s\n",
				    report->bit_reason);
	return text_builder_finish(&text);
}

static int check_operand(const struct options *options, size_t index)
{
	struct schedule_report report;
	struct schedule *schedule;
	int status = schedule_command_open(options, index, &schedule);
	int error;

	if (status)
		return status;
	error = schedule_validate(schedule, schedule_command_buffers(options),
				  &report);
	status = EXIT_FAILURE;
	if (error == 0 || error == -EINVAL)
		status = schedule_command_print(
			report_line(schedule_command_operand(options, index),
				    schedule, &report));
	if (error)
		status = EXIT_FAILURE;
	schedule_report_fini(&report);
	schedule_destroy(schedule);
	return status;
}

static int run_check(const struct options *options)
{
	const char *const *values;
	size_t count = options_operands(options, &values);
	int worst = EXIT_SUCCESS;

	for (size_t i = 0; i < count; i++) {
		int status = check_operand(options, i);

		worst = MAX(worst, status);
	}
	return worst;
}

const struct schedule_subcommand schedule_check_subcommand = {
	.name = "check",
	.operands_minimum = 1,
	.operands_maximum = SIZE_MAX,
	.command = &check_command,
	.run = run_check,
};
