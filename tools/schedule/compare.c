/* schedule compare: a table of schedules, predicted and measured. */
#include "base/log.h"
#include "tools/hosts_options.h"
#include "tools/schedule/common.h"
#include "tools/schedule/comparison.h"
#include "tools/schedule/comparison_output.h"
#include "tools/schedule/real_model.h"
#include <errno.h>
#include <string.h>

/* clang-format off */
static const struct option_spec compare_specs[] = {
	SCHEDULE_SIZE_OPTIONS,
	{"schedules", 's', OPTION_STRING, .argument = "A,B,...",
	 .group = "Schedules",
	 .help = "names and files to compare (default: all built-in ones)"},
	SCHEDULE_DIALECT_OPTION,
	{"costs", 0, OPTION_STRING, .argument = "F,I,W|FILE|RUN|measure",
	 .fallback = "1,1,1", .group = "Costs",
	 .help = "time of F, I and W of one micro-batch through a rank's "
		 "whole slice, e.g. 2,3,1 or 20ms,20ms,15ms; or a costs.json, "
		 "or a run trained with --trace; or those of the model below, "
		 "measured now (default with --run)"},
	SCHEDULE_LOSS_OPTION,
	SCHEDULE_LINK_OPTIONS,
	SCHEDULE_BUFFERS_OPTION,
	SCHEDULE_REPLICA_OPTIONS,
	{"memory-cap", 0, OPTION_BYTES, .argument = "BYTES", .group = "Memory",
	 .help = "leave out schedules whose activations need more on a rank; "
		 "with costs that do not tell bytes, micro-batches"},
	{"rehearse", 0, OPTION_FLAG, .group = "Measuring",
	 .help = "rehearse each: real ranks and messages, compute asleep"},
	{"run", 0, OPTION_FLAG,
	 .help = "train with each for some steps, on made-up tokens"},
	{"rounds", 0, OPTION_INTEGER, .argument = "N", .fallback = "1",
	 .minimum = 1, .maximum = 1000,
	 .help = "times to measure them all in turn"},
	SCHEDULE_RANK_OPTIONS,
	SCHEDULE_MODEL_OPTIONS,
	TRAIN_OPTIONS_MODEL,
	TRAIN_OPTION_DTYPE,
	TRAIN_OPTIONS_ADAPTERS,
	COMPARISON_OUTPUT_OPTIONS,
	HOSTS_OPTIONS,
	{0},
};

static const struct option_command compare_command = {
	.name = "schedule compare",
	.synopsis = "--stages P --micro-batches M [--chunks V] "
		    "[--costs F,I,W|FILE|RUN|measure] [--rehearse|--run] "
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

/* What a comparison on the command line is made of. */
struct request {
	const struct options *options;
	struct comparison comparison;
	struct real_model *real; /* NULL: none is needed */
	bool rehearse;
	bool run;
};

static int measure(struct request *request)
{
	unsigned rounds = (unsigned)options_integer(request->options, "rounds");

	if (request->run)
		return comparison_measure(&request->comparison,
					  request->options, rounds,
					  real_model_job, request->real);
	if (request->rehearse)
		return comparison_measure(&request->comparison,
					  request->options, rounds,
					  comparison_rehearse, NULL);
	return 0;
}

static int compare(struct request *request)
{
	const char *list = options_string(request->options, "schedules");
	enum schedule_dialect dialect;
	int rc = schedule_dialect_parse(
		options_string(request->options, "dialect"), &dialect);

	if (!rc)
		rc = list ? add_list(&request->comparison, list, dialect)
			  : add_all(&request->comparison, dialect);
	return rc ? rc : measure(request);
}

/* ---- before it ---- */

static bool measures_costs(const struct request *request)
{
	const char *costs = options_string(request->options, "costs");

	if (!options_is_set(request->options, "costs"))
		return request->run;
	return strcmp(costs, "measure") == 0;
}

static int read_real(struct request *request)
{
	request->real = malloc(sizeof(*request->real));
	if (!request->real)
		return fail(-ENOMEM, "no memory for a model");
	return real_model_read(request->options, request->real);
}

static int read_costs(struct request *request)
{
	struct comparison *comparison = &request->comparison;
	struct costs costs;
	int rc;

	if (!measures_costs(request))
		return schedule_setting_read(request->options,
					     &comparison->setting);
	rc = real_model_calibrate(request->real, request->options,
				  comparison->ranks, &costs);
	if (rc)
		return rc;
	schedule_setting_take(request->options, &costs, &comparison->setting);
	comparison->costs_to_measure = request->run;
	return 0;
}

static int check_sizes(struct request *request)
{
	struct comparison *comparison = &request->comparison;
	int rc = comparison_check_sizes(request->options, comparison);

	if (rc)
		return rc;
	if (!comparison->ranks || !comparison->micro_batches)
		return fail(-EINVAL, "schedule compare needs --stages and "
				     "--micro-batches");
	if (request->run && request->rehearse)
		return fail(-EINVAL, "--run computes, --rehearse sleeps: "
				     "choose one");
	return 0;
}

static int prepare(struct request *request)
{
	const struct options *options = request->options;
	int rc;

	request->rehearse = options_flag(options, "rehearse");
	request->run = options_flag(options, "run");
	if (options_is_set(options, "memory-cap"))
		request->comparison.memory_cap =
			(double)options_bytes(options, "memory-cap");
	rc = check_sizes(request);
	if (!rc && (request->run || measures_costs(request)))
		rc = read_real(request);
	if (!rc)
		rc = read_costs(request);
	if (!rc)
		rc = schedule_setting_replicas(options,
					       &request->comparison.setting);
	if (!rc && request->run)
		rc = costs_check_model(&request->comparison.setting.costs,
				       request->real->model);
	if (!rc && request->rehearse)
		rc = comparison_check_seconds(&request->comparison);
	return rc;
}

static int run_compare(const struct options *options)
{
	struct request request = {
		.options = options,
		.comparison = {.title = "Schedules compared"},
	};
	int status = EXIT_MISUSE;

	if (hosts_options_begin(options, NULL, &status))
		return status;
	status = EXIT_MISUSE;
	if (prepare(&request) == 0)
		status = compare(&request)
				 ? EXIT_FAILURE
				 : comparison_output(options,
						     &request.comparison);
	comparison_fini(&request.comparison);
	if (request.real)
		real_model_fini(request.real);
	free(request.real);
	return status;
}

const struct schedule_subcommand schedule_compare_subcommand = {
	.name = "compare",
	.command = &compare_command,
	.run = run_compare,
};
