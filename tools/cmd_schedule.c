/*
 * stagecoach schedule: list, show, check and simulate schedules. Nothing here
 * computes; it asks schedules/ and prints.
 */
#include "base/log.h"
#include "base/text.h"
#include "schedules/draw.h"
#include "schedules/schedule.h"
#include "schedules/simulate.h"
#include "tools/commands.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define EXIT_MISUSE 2

/* clang-format off */
#define SIZE_OPTIONS                                                           \
	{"stages", 'P', OPTION_INTEGER, .argument = "P", .minimum = 1,         \
	 .maximum = SCHEDULE_MAX_STAGES, .group = "Sizes",                     \
	 .help = "ranks of the pipeline (a file brings its own)"},             \
	{"micro-batches", 'M', OPTION_INTEGER, .argument = "M", .minimum = 1,  \
	 .maximum = SCHEDULE_MAX_MICRO_BATCHES, .group = "Sizes",              \
	 .help = "micro-batches a step"},                                      \
	{"chunks", 'V', OPTION_INTEGER, .argument = "V", .minimum = 1,         \
	 .maximum = 256, .group = "Sizes",                                     \
	 .help = "stages a rank holds (default: what the schedule asks for)"}

#define DIALECT_OPTION                                                         \
	{"dialect", 0, OPTION_CHOICE, .fallback = "auto",                      \
	 .choices = "auto|modern|old", .group = "Files",                       \
	 .help = "how a file writes the backward: I, W, B (modern), or B, W, " \
		 "BW (old)"}

#define JSON_OPTION                                                            \
	{"json", 0, OPTION_FLAG, .group = "Output",                            \
	 .help = "write JSON for scripts"}

static const struct option_spec list_specs[] = {
	SIZE_OPTIONS,
	JSON_OPTION,
	{0},
};

static const struct option_spec show_specs[] = {
	SIZE_OPTIONS,
	DIALECT_OPTION,
	{"csv", 0, OPTION_OPTIONAL, .choices = "compute|comms",
	 .fallback = "compute", .group = "Output",
	 .help = "write rows of cells as torch.distributed.pipelining does: "
		 "compute actions only, or with messages"},
	{"colour", 0, OPTION_CHOICE, .fallback = "auto",
	 .choices = "auto|always|never", .group = "Output",
	 .help = "colour the picture (auto: on a terminal)"},
	{0},
};

static const struct option_spec check_specs[] = {
	SIZE_OPTIONS,
	DIALECT_OPTION,
	{"buffers", 0, OPTION_INTEGER, .argument = "K", .minimum = 0,
	 .maximum = SCHEDULE_MAX_MICRO_BATCHES, .group = "Links",
	 .help = "receives posted ahead per link (default: as many as it "
		 "takes)"},
	{0},
};

static const struct option_spec simulate_specs[] = {
	SIZE_OPTIONS,
	DIALECT_OPTION,
	{"costs", 0, OPTION_STRING, .argument = "F,I,W", .fallback = "1,1,1",
	 .minimum = 1, .group = "Costs",
	 .help = "time of F, I and W of one micro-batch through a rank's whole "
		 "slice; a chunk takes 1/V of it"},
	{"loss-weight-in-forward", 0, OPTION_FLAG, .group = "Costs",
	 .help = "count the loss stage's W within its F"},
	{"latency", 0, OPTION_REAL, .argument = "S", .fallback = "0",
	 .minimum = 0, .maximum = 1e30, .group = "Links",
	 .help = "time a message travels, in the unit of the costs"},
	{"bandwidth", 0, OPTION_REAL, .argument = "B", .minimum = 1e-30,
	 .maximum = 1e30, .group = "Links",
	 .help = "bytes a link carries per unit of time (default: no limit)"},
	{"message-bytes", 0, OPTION_REAL, .argument = "N", .fallback = "1",
	 .minimum = 0, .maximum = 1e18, .group = "Links",
	 .help = "size of a message; with 1, --bandwidth counts messages"},
	{"buffers", 0, OPTION_INTEGER, .argument = "K", .minimum = 0,
	 .maximum = SCHEDULE_MAX_MICRO_BATCHES, .group = "Links",
	 .help = "receives posted ahead per link (default: as many as it "
		 "takes)"},
	JSON_OPTION,
	{0},
};

static const struct option_command list_command = {
	.name = "schedule list",
	.synopsis = "[--stages P --micro-batches M]",
	.summary = "name the built-in schedules",
	.table = list_specs,
};

static const struct option_command show_command = {
	.name = "schedule show",
	.synopsis = "NAME|FILE [--stages P "
		    "--micro-batches M --chunks V] [--csv[=comms]]",
	.summary = "draw a schedule, or write it as CSV",
	.table = show_specs,
	.operands = "NAME|FILE",
};

static const struct option_command check_command = {
	.name = "schedule check",
	.synopsis = "NAME|FILE... [--stages P "
		    "--micro-batches M --chunks V]",
	.summary = "prove that schedules run",
	.table = check_specs,
	.operands = "NAME|FILE...",
};

static const struct option_command simulate_command = {
	.name = "schedule simulate",
	.synopsis = "NAME|FILE [--stages P "
		    "--micro-batches M --chunks V] --costs F,I,W [--json]",
	.summary = "predict the time a schedule takes",
	.table = simulate_specs,
	.operands = "NAME|FILE",
};
/* clang-format on */

static unsigned size_option(const struct options *options, const char *name)
{
	return options_is_set(options, name)
		       ? (unsigned)options_integer(options, name)
		       : 0;
}

static unsigned buffers_option(const struct options *options)
{
	return options_is_set(options, "buffers")
		       ? (unsigned)options_integer(options, "buffers")
		       : SCHEDULE_BUFFERS_ANY;
}

static const char *operand(const struct options *options, size_t index)
{
	const char *const *values;
	size_t count = options_operands(options, &values);

	ASSERT(index < count);
	return values[index];
}

/* 0, or the exit status of a schedule that could not be had. */
static int open_operand(const struct options *options, size_t index,
			struct schedule **out)
{
	const char *name = operand(options, index);
	unsigned ranks = size_option(options, "stages");
	unsigned micro_batches = size_option(options, "micro-batches");
	enum schedule_dialect dialect;

	if (schedule_dialect_parse(options_string(options, "dialect"),
				   &dialect))
		return EXIT_MISUSE;
	if (schedule_kind_find(name) && (ranks == 0 || micro_batches == 0)) {
		log_error("schedule %s needs --stages and --micro-batches",
			  name);
		return EXIT_MISUSE;
	}
	return schedule_open(name, ranks, micro_batches,
			     size_option(options, "chunks"), dialect, out)
		       ? EXIT_FAILURE
		       : 0;
}

/* A number as short as reads back the same. */
static const char *number_text(char *buffer, size_t size, double number)
{
	for (int digits = 6; digits <= 17; digits++) {
		snprintf(buffer, size, "%.*g", digits, number);
		if (strtod(buffer, NULL) == number)
			break;
	}
	return buffer;
}

static int print_text(char *text)
{
	bool good = text != NULL && fputs(text, stdout) != EOF &&
		    fflush(stdout) == 0;

	if (!good)
		log_error("cannot write the output: %s",
			  text ? strerror(errno) : "no memory");
	free(text);
	return good ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* show */

static size_t terminal_width(void)
{
	struct winsize size;

	if (!isatty(STDOUT_FILENO))
		return 0;
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) || size.ws_col == 0)
		return 80;
	return size.ws_col;
}

static bool wants_colour(const struct options *options)
{
	const char *colour = options_string(options, "colour");
	const char *terminal = getenv("TERM");

	if (strcmp(colour, "auto") != 0)
		return strcmp(colour, "always") == 0;
	return isatty(STDOUT_FILENO) && getenv("NO_COLOR") == NULL &&
	       terminal != NULL && strcmp(terminal, "dumb") != 0;
}

static int check_valid(const struct schedule *schedule, unsigned buffers)
{
	struct schedule_report report;
	int error = schedule_validate(schedule, buffers, &report);

	if (error == -EINVAL)
		log_error("schedule %s: %s", schedule->name, report.reason);
	schedule_report_fini(&report);
	return error;
}

static void drop_messages(struct schedule *schedule)
{
	for (unsigned rank = 0; rank < schedule->ranks; rank++) {
		struct schedule_row *row = &schedule->rows[rank];
		size_t kept = 0;

		for (size_t i = 0; i < row->count; i++)
			if (row->actions[i].op <= ACTION_BACKWARD)
				row->actions[kept++] = row->actions[i];
		row->count = kept;
	}
	schedule->lowered = false;
}

static int show_csv(struct schedule *schedule, bool messages)
{
	struct schedule_lowering options = {.reduce = true, .pairs = true};
	struct schedule *lowered;
	int status;

	if (!messages) {
		drop_messages(schedule);
		return print_text(schedule_text(schedule));
	}
	if (schedule_lower(schedule, &options, &lowered))
		return EXIT_FAILURE;
	status = print_text(schedule_text(lowered));
	schedule_destroy(lowered);
	return status;
}

static int show_picture(const struct options *options,
			const struct schedule *schedule)
{
	struct schedule_drawing drawing = {
		.colour = wants_colour(options),
		.width = terminal_width(),
	};
	char *text;

	if (check_valid(schedule, SCHEDULE_BUFFERS_ANY) ||
	    schedule_draw(schedule, &drawing, &text))
		return EXIT_FAILURE;
	return print_text(text);
}

static int run_show(const struct options *options)
{
	struct schedule *schedule;
	int status = open_operand(options, 0, &schedule);

	if (status)
		return status;
	if (options_is_set(options, "csv"))
		status = show_csv(
			schedule,
			strcmp(options_string(options, "csv"), "comms") == 0);
	else
		status = show_picture(options, schedule);
	schedule_destroy(schedule);
	return status;
}

/* check */

static void append_peaks(struct text_builder *text, const unsigned *peaks,
			 unsigned ranks, unsigned chunks, const char *between)
{
	for (unsigned rank = 0; rank < ranks; rank++) {
		char number[40];

		text_builder_append(text, "%s%s", rank ? between : "",
				    number_text(number, sizeof(number),
						(double)peaks[rank] / chunks));
	}
}

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
	append_peaks(&text, report->peak_of_rank, report->ranks,
		     schedule->chunks, " ");
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
	int status = open_operand(options, index, &schedule);
	int error;

	if (status)
		return status;
	error = schedule_validate(schedule, buffers_option(options), &report);
	status = EXIT_FAILURE;
	if (error == 0 || error == -EINVAL)
		status = print_text(report_line(operand(options, index),
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

/* simulate */

/* "F,I,W", each a number that is not negative. */
static int parse_costs(const char *text, double *costs)
{
	const char *at = text;

	for (unsigned i = 0; i < 3; i++) {
		size_t length = strcspn(at, ",");
		char word[64];

		if (length >= sizeof(word) || (at[length] == ',') != (i < 2))
			goto err;
		memcpy(word, at, length);
		word[length] = '\0';
		if (text_parse_real(word, 0, 1e30, &costs[i]))
			goto err;
		at += length + 1;
	}
	return 0;
err:
	return fail(-EINVAL,
		    "--costs %s: expected three numbers F,I,W, none "
		    "negative",
		    text);
}

struct prediction {
	struct schedule *lowered;
	struct schedule_report report;
	struct schedule_simulation simulation;
};

static void prediction_fini(struct prediction *prediction)
{
	schedule_simulation_fini(&prediction->simulation);
	schedule_report_fini(&prediction->report);
	schedule_destroy(prediction->lowered);
}

/*
 * A chunk costs 1/V of the slice. All is simulated V times as long and divided at
 * the end, so that whole numbers stay exact.
 */
static int predict_times(const struct options *options, const double *slice,
			 struct prediction *prediction)
{
	const struct schedule *lowered = prediction->lowered;
	unsigned stages = lowered->stages;
	double chunks = lowered->chunks;
	double *values = calloc(3 * (size_t)stages, sizeof(*values));
	struct schedule_costs costs = {
		.forward = values,
		.input = values + stages,
		.weight = values + 2 * (size_t)stages,
		.loss_weight_in_forward =
			options_flag(options, "loss-weight-in-forward"),
		.latency = options_real(options, "latency") * chunks,
		.message_bytes = options_real(options, "message-bytes"),
		.buffers = buffers_option(options),
	};
	int error;

	if (values == NULL)
		return fail(-ENOMEM, "no memory to simulate a schedule");
	if (options_is_set(options, "bandwidth"))
		costs.bandwidth = options_real(options, "bandwidth") / chunks;
	for (size_t i = 0; i < 3 * (size_t)stages; i++)
		values[i] = slice[i / stages];
	error = schedule_simulate(lowered, &costs, false,
				  &prediction->simulation);
	free(values);
	if (error)
		return error;
	prediction->simulation.makespan /= chunks;
	prediction->simulation.bubble /= chunks;
	for (unsigned rank = 0; rank < lowered->ranks; rank++) {
		prediction->simulation.idle[rank] /= chunks;
		prediction->simulation.busy[rank] /= chunks;
	}
	return 0;
}

static int predict(const struct options *options,
		   const struct schedule *schedule, const double *slice,
		   struct prediction *out)
{
	int error;

	*out = (struct prediction){0};
	error = schedule_lower(schedule, NULL, &out->lowered);
	if (!error)
		error = schedule_validate(out->lowered, buffers_option(options),
					  &out->report);
	if (error == -EINVAL && out->report.reason)
		log_error("schedule %s: %s", schedule->name,
			  out->report.reason);
	if (!error)
		error = predict_times(options, slice, out);
	if (error)
		prediction_fini(out);
	return error;
}

static void append_numbers(struct text_builder *text, const double *numbers,
			   unsigned count, const char *between)
{
	for (unsigned i = 0; i < count; i++) {
		char number[40];

		text_builder_append(
			text, "%s%s", i ? between : "",
			number_text(number, sizeof(number), numbers[i]));
	}
}

static char *prediction_json(const struct prediction *prediction)
{
	const struct schedule_simulation *simulation = &prediction->simulation;
	struct text_builder text;
	char makespan[40];
	char bubble[40];

	text_builder_init(&text);
	text_builder_append(
		&text, "{\"makespan\": %s, \"bubble\": %s, \"idle\": [",
		number_text(makespan, sizeof(makespan), simulation->makespan),
		number_text(bubble, sizeof(bubble), simulation->bubble));
	append_numbers(&text, simulation->idle, simulation->ranks, ", ");
	text_builder_append(&text, "], \"peak_activations\": [");
	append_peaks(&text, simulation->peak_activations, simulation->ranks,
		     prediction->lowered->chunks, ", ");
	text_builder_append(&text,
			    "], \"buffers_safe\": %u, "
			    "\"buffers_full_speed\": %u}\n",
			    prediction->report.buffers_safe,
			    prediction->report.buffers_full_speed);
	return text_builder_finish(&text);
}

static char *prediction_text(const struct prediction *prediction)
{
	const struct schedule_simulation *simulation = &prediction->simulation;
	const struct schedule *schedule = prediction->lowered;
	struct text_builder text;
	char makespan[40];
	char bubble[40];

	text_builder_init(&text);
	text_builder_append(
		&text,
		"%s: %u ranks, %u stages, %u micro-batches\n"
		"makespan          %s\n"
		"bubble            %s (%.1f %%)\n"
		"idle              ",
		schedule->name, schedule->ranks, schedule->stages,
		schedule->micro_batches,
		number_text(makespan, sizeof(makespan), simulation->makespan),
		number_text(bubble, sizeof(bubble), simulation->bubble),
		simulation->makespan > 0
			? 100 * simulation->bubble / simulation->makespan
			: 0);
	append_numbers(&text, simulation->idle, simulation->ranks, " ");
	text_builder_append(&text, "\npeak activations  ");
	append_peaks(&text, simulation->peak_activations, simulation->ranks,
		     schedule->chunks, " ");
	text_builder_append(&text,
			    "\nposted receives   %u safe, %u at full speed\n",
			    prediction->report.buffers_safe,
			    prediction->report.buffers_full_speed);
	return text_builder_finish(&text);
}

static int run_simulate(const struct options *options)
{
	struct prediction prediction;
	struct schedule *schedule;
	double slice[3];
	int status;

	if (parse_costs(options_string(options, "costs"), slice))
		return EXIT_MISUSE;
	status = open_operand(options, 0, &schedule);
	if (status)
		return status;
	status = EXIT_FAILURE;
	if (predict(options, schedule, slice, &prediction) == 0) {
		status = print_text(options_flag(options, "json")
					    ? prediction_json(&prediction)
					    : prediction_text(&prediction));
		prediction_fini(&prediction);
	}
	schedule_destroy(schedule);
	return status;
}

/* list */

struct sizes {
	unsigned ranks;
	unsigned micro_batches;
	unsigned chunks; /* 0: each schedule's own */
};

/* The schedule of a kind at the given sizes; false: it does not fit. */
static bool kind_fits(const struct schedule_kind *kind,
		      const struct sizes *sizes, char *why, size_t size)
{
	unsigned chunks = sizes->chunks ? sizes->chunks : kind->default_chunks;

	return kind->check(sizes->ranks, sizes->micro_batches, chunks, why,
			   size) == 0;
}

/* Bubble with F = I = W = 1 of a slice, and the highest peak of any rank. */
static int measure_kind(const struct schedule_kind *kind,
			const struct sizes *sizes, double *bubble, double *peak)
{
	static const double one[3] = {1, 1, 1};
	struct schedule *schedule;
	struct prediction prediction = {0};
	struct schedule_costs costs = {.buffers = SCHEDULE_BUFFERS_ANY};
	double *values = NULL;
	unsigned most = 0;
	int error = schedule_generate(kind->name, sizes->ranks,
				      sizes->micro_batches, sizes->chunks,
				      &schedule);

	if (error)
		return error;
	error = schedule_lower(schedule, NULL, &prediction.lowered);
	if (!error) {
		values = calloc(schedule->stages, sizeof(*values));
		error = values ? 0 : fail(-ENOMEM, "no memory for a schedule");
	}
	for (unsigned i = 0; !error && i < schedule->stages; i++)
		values[i] = one[0];
	costs.forward = costs.input = costs.weight = values;
	if (!error)
		error = schedule_simulate(prediction.lowered, &costs, false,
					  &prediction.simulation);
	for (unsigned rank = 0; !error && rank < schedule->ranks; rank++)
		most = MAX(most, prediction.simulation.peak_activations[rank]);
	if (!error) {
		*bubble = prediction.simulation.bubble / schedule->chunks;
		*peak = (double)most / schedule->chunks;
	}
	free(values);
	prediction_fini(&prediction);
	schedule_destroy(schedule);
	return error;
}

static const char *placement_text(enum schedule_placement placement)
{
	return placement == SCHEDULE_PLACEMENT_V ? "V" : "loop";
}

static int append_sizes(struct text_builder *text,
			const struct schedule_kind *kind,
			const struct sizes *sizes)
{
	char why[256];
	char first[40];
	char second[40];
	double bubble;
	double peak;
	int error;

	if (!kind_fits(kind, sizes, why, sizeof(why))) {
		text_builder_append(text, "  here       does not fit: %s\n",
				    why);
		return 0;
	}
	error = measure_kind(kind, sizes, &bubble, &peak);
	if (!error)
		text_builder_append(
			text,
			"  here       bubble %s, peak activations %s "
			"(F = I = W = 1)\n",
			number_text(first, sizeof(first), bubble),
			number_text(second, sizeof(second), peak));
	return error;
}

static int list_text(const struct sizes *sizes, char **out)
{
	struct text_builder text;
	int error = 0;

	text_builder_init(&text);
	text_builder_append(&text,
			    "P ranks (r from 0), M micro-batches, V "
			    "chunks a rank; F, I, W, B = I + W: cost of a "
			    "rank's\nwhole slice. Memory in micro-batches "
			    "through the slice, F until W, M large.\n");
	for (size_t i = 0; i < schedule_kind_count() && !error; i++) {
		const struct schedule_kind *kind = schedule_kind_at(i);

		text_builder_append(&text,
				    "\n%s: %s\n"
				    "  placement  %s\n"
				    "  bubble     %s\n"
				    "  memory     %s\n"
				    "  needs      %s\n"
				    "  paper      %s\n",
				    kind->name, kind->title,
				    placement_text(kind->placement),
				    kind->bubble, kind->memory,
				    kind->restrictions, kind->paper);
		if (sizes->ranks)
			error = append_sizes(&text, kind, sizes);
	}
	if (error) {
		text_builder_fini(&text);
		return error;
	}
	*out = text_builder_finish(&text);
	return 0;
}

static json_t *kind_json(const struct schedule_kind *kind,
			 const struct sizes *sizes)
{
	json_t *object =
		json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:i}", "name",
			  kind->name, "title", kind->title, "placement",
			  placement_text(kind->placement), "bubble",
			  kind->bubble, "memory", kind->memory, "restrictions",
			  kind->restrictions, "paper", kind->paper,
			  "default_chunks", (int)kind->default_chunks);
	char why[256];
	double bubble;
	double peak;

	if (object == NULL || sizes->ranks == 0)
		return object;
	if (!kind_fits(kind, sizes, why, sizeof(why)))
		json_object_set_new(object, "does_not_fit", json_string(why));
	else if (measure_kind(kind, sizes, &bubble, &peak) == 0)
		json_object_set_new(object, "here",
				    json_pack("{s:f, s:f}", "bubble", bubble,
					      "peak_activations", peak));
	return object;
}

static int list_json(const struct sizes *sizes, char **out)
{
	json_t *array = json_array();
	char *dump;
	struct text_builder text;

	for (size_t i = 0; i < schedule_kind_count(); i++)
		json_array_append_new(array,
				      kind_json(schedule_kind_at(i), sizes));
	dump = json_dumps(array, JSON_INDENT(2) | JSON_REAL_PRECISION(15));
	json_decref(array);
	text_builder_init(&text);
	text_builder_append(&text, "%s\n", dump ? dump : "");
	*out = text_builder_finish(&text);
	if (dump == NULL)
		return fail(-ENOMEM, "no memory to list schedules");
	free(dump);
	return 0;
}

static int run_list(const struct options *options)
{
	struct sizes sizes = {
		.ranks = size_option(options, "stages"),
		.micro_batches = size_option(options, "micro-batches"),
		.chunks = size_option(options, "chunks"),
	};
	char *text = NULL;
	int error;

	if ((sizes.ranks == 0) != (sizes.micro_batches == 0)) {
		log_error("give both --stages and --micro-batches, or neither");
		return EXIT_MISUSE;
	}
	error = options_flag(options, "json") ? list_json(&sizes, &text)
					      : list_text(&sizes, &text);
	if (error) {
		free(text);
		return EXIT_FAILURE;
	}
	return print_text(text);
}

/* The four of them. */

struct subcommand {
	const char *name;
	size_t operands_minimum;
	size_t operands_maximum;
	const struct option_command *command;
	int (*run)(const struct options *options);
};

static const struct subcommand subcommands[] = {
	{"list", 0, 0, &list_command, run_list},
	{"show", 1, 1, &show_command, run_show},
	{"check", 1, SIZE_MAX, &check_command, run_check},
	{"simulate", 1, 1, &simulate_command, run_simulate},
};

static void print_help(FILE *out)
{
	fprintf(out, "usage: stagecoach schedule COMMAND [options]\n\n");
	for (size_t i = 0; i < ARRAY_SIZE(subcommands); i++)
		fprintf(out, "  %-10s %s\n", subcommands[i].name,
			subcommands[i].command->summary);
	fprintf(out, "\n'stagecoach schedule COMMAND --help' says more.\n");
}

static int fail_subcommand(const char *name)
{
	const char *names[ARRAY_SIZE(subcommands)];
	const char *nearest;

	for (size_t i = 0; i < ARRAY_SIZE(subcommands); i++)
		names[i] = subcommands[i].name;
	nearest = text_nearest(name, names, ARRAY_SIZE(subcommands));
	log_error("stagecoach schedule has no command '%s'%s%s%s; it has list, "
		  "show, check, simulate",
		  name, nearest ? "; did you mean '" : "",
		  nearest ? nearest : "", nearest ? "'?" : "");
	return EXIT_MISUSE;
}

static int check_operands(const struct subcommand *subcommand,
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
	const struct subcommand *found = NULL;
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
		if (strcmp(argv[1], subcommands[i].name) == 0)
			found = &subcommands[i];
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
