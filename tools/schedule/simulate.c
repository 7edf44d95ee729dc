/* schedule simulate: what a schedule would take at given costs. */
#include "tools/schedule/common.h"
#include "tools/schedule/predict.h"

/* clang-format off */
static const struct option_spec simulate_specs[] = {
	SCHEDULE_SIZE_OPTIONS,
	SCHEDULE_DIALECT_OPTION,
	SCHEDULE_COSTS_OPTIONS,
	SCHEDULE_BUFFERS_OPTION,
	SCHEDULE_REPLICA_OPTIONS,
	SCHEDULE_JSON_OPTION,
	{0},
};

static const struct option_command simulate_command = {
	.name = "schedule simulate",
	.synopsis = "NAME|FILE [--stages P "
		    "--micro-batches M --chunks V] --costs F,I,W|FILE|RUN [--json]",
	.summary = "predict the time a schedule takes",
	.table = simulate_specs,
	.operands = "NAME|FILE",
};
/* clang-format on */

static char *prediction_json(const struct schedule_prediction *prediction)
{
	const struct schedule_simulation *simulation = &prediction->simulation;
	struct text_builder text;
	char makespan[40];
	char bubble[40];

	text_builder_init(&text);
	text_builder_append(&text,
			    "{\"makespan\": %s, \"bubble\": %s, \"idle\": [",
			    schedule_command_number(makespan, sizeof(makespan),
						    simulation->makespan),
			    schedule_command_number(bubble, sizeof(bubble),
						    simulation->bubble));
	schedule_command_append_numbers(&text, simulation->idle,
					simulation->ranks, ", ");
	text_builder_append(&text, "], \"reducing\": [");
	schedule_command_append_numbers(&text, simulation->reducing,
					simulation->ranks, ", ");
	text_builder_append(&text, "], \"peak_activations\": [");
	schedule_command_append_peaks(&text, simulation->peak_activations,
				      simulation->ranks,
				      prediction->lowered->chunks, ", ");
	text_builder_append(&text,
			    "], \"buffers_safe\": %u, "
			    "\"buffers_full_speed\": %u}\n",
			    prediction->report.buffers_safe,
			    prediction->report.buffers_full_speed);
	return text_builder_finish(&text);
}

static char *prediction_text(const struct schedule_prediction *prediction,
			     unsigned replicas)
{
	const struct schedule_simulation *simulation = &prediction->simulation;
	const struct schedule *schedule = prediction->lowered;
	struct text_builder text;
	char makespan[40];
	char bubble[40];

	text_builder_init(&text);
	text_builder_append(&text,
			    "%s: %u ranks, %u stages, %u micro-batches\n"
			    "makespan          %s\n"
			    "bubble            %s (%.1f %%)\n"
			    "idle              ",
			    schedule->name, schedule->ranks, schedule->stages,
			    schedule->micro_batches,
			    schedule_command_number(makespan, sizeof(makespan),
						    simulation->makespan),
			    schedule_command_number(bubble, sizeof(bubble),
						    simulation->bubble),
			    simulation->makespan > 0
				    ? 100 * simulation->bubble /
					      simulation->makespan
				    : 0);
	schedule_command_append_numbers(&text, simulation->idle,
					simulation->ranks, " ");
	if (simulation->reducing && replicas > 1) {
		text_builder_append(&text, "\nsums of replicas  ");
		schedule_command_append_numbers(&text, simulation->reducing,
						simulation->ranks, " ");
	}
	text_builder_append(&text, "\npeak activations  ");
	schedule_command_append_peaks(&text, simulation->peak_activations,
				      simulation->ranks, schedule->chunks, " ");
	text_builder_append(&text,
			    "\nposted receives   %u safe, %u at full speed\n",
			    prediction->report.buffers_safe,
			    prediction->report.buffers_full_speed);
	return text_builder_finish(&text);
}

static int run_simulate(const struct options *options)
{
	struct schedule_prediction prediction;
	struct schedule *schedule;
	struct schedule_setting setting;
	int status;

	if (schedule_setting_read(options, &setting))
		return EXIT_MISUSE;
	status = schedule_setting_replicas(options, &setting)
			 ? EXIT_MISUSE
			 : schedule_command_open_share(options, 0, &schedule);
	if (status) {
		schedule_setting_fini(&setting);
		return status;
	}
	status = EXIT_FAILURE;
	if (schedule_prediction_init(&prediction, schedule, &setting, NULL,
				     0) == 0) {
		status = schedule_command_print(
			options_flag(options, "json")
				? prediction_json(&prediction)
				: prediction_text(&prediction,
						  setting.replicas.replicas));
		schedule_prediction_fini(&prediction);
	}
	schedule_destroy(schedule);
	schedule_setting_fini(&setting);
	return status;
}

const struct schedule_subcommand schedule_simulate_subcommand = {
	.name = "simulate",
	.operands_minimum = 1,
	.operands_maximum = 1,
	.command = &simulate_command,
	.run = run_simulate,
};
