/* schedule search: a schedule for given costs, links and memory. */
#include "base/files.h"
#include "base/log.h"
#include "tools/schedule/common.h"
#include "tools/schedule/search_setting.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* clang-format off */
static const struct option_spec search_specs[] = {
	SCHEDULE_SIZE_OPTIONS,
	SCHEDULE_COSTS_OPTIONS,
	SCHEDULE_BUFFERS_OPTION,
	{"memory-cap", 0, OPTION_BYTES, .argument = "BYTES", .group = "Memory",
	 .help = "most bytes of activations on a rank; with costs that do not "
		 "tell bytes, micro-batches through the slice"},
	{"effort", 0, OPTION_REAL, .argument = "X", .fallback = "1",
	 .minimum = 0.001, .maximum = 1000, .group = "Search",
	 .help = "how long to search: 1 is some seconds"},
	{"time-limit", 0, OPTION_REAL, .argument = "S", .fallback = "0",
	 .minimum = 0, .maximum = 86400,
	 .help = "seconds to stop after; 0: none. The result may then differ "
		 "from time to time"},
	{"seed", 0, OPTION_INTEGER, .argument = "N", .fallback = "1",
	 .minimum = 0, .maximum = 9007199254740992.0,
	 .help = "another one searches elsewhere"},
	{"out", 'o', OPTION_STRING, .argument = "FILE", .group = "Output",
	 .help = "write the schedule there (default: to standard output, and "
		 "what was found to standard error)"},
	{"json", 0, OPTION_FLAG, .help = "write JSON for scripts; needs --out"},
	{0},
};

static const struct option_command search_command = {
	.name = "schedule search",
	.synopsis = "--stages P --micro-batches M [--chunks V] "
		    "[--costs F,I,W|FILE|RUN] [--memory-cap BYTES] "
		    "--out FILE.csv",
	.summary = "find a schedule for given costs and memory",
	.description = "Looks for the shortest schedule at the given costs, "
		       "among the built-in ones and beyond: never longer than "
		       "the best of those that fit, valid, and with the same "
		       "bits as any other. It says how short none can be, and "
		       "why. The file it writes stands wherever a schedule's "
		       "name may, as in train --schedule FILE.",
	.table = search_specs,
};
/* clang-format on */

/* Without bytes in the costs an activation of a whole slice counts as 1. */
static void count_micro_batches(struct costs *costs)
{
	for (unsigned i = 0; i < costs->count; i++)
		if (costs->rows[i].activation_bytes > 0)
			return;
	if (costs->kind == COSTS_LAYERS || costs->kind == COSTS_STAGES)
		return;
	for (unsigned i = 0; i < costs->count; i++)
		costs->rows[i].activation_bytes = 1;
}

static int read_search(const struct options *options,
		       struct schedule_setting *setting,
		       struct search_setting *out)
{
	*out = (struct search_setting){
		.setting = setting,
		.ranks = schedule_command_size(options, "stages"),
		.micro_batches =
			schedule_command_size(options, "micro-batches"),
		.chunks = schedule_command_size(options, "chunks"),
		.effort = (uint64_t)(options_real(options, "effort") *
				     (double)SCHEDULE_SEARCH_EFFORT),
		.seconds = options_real(options, "time-limit"),
		.seed = (uint64_t)options_integer(options, "seed"),
	};
	if (!out->ranks || !out->micro_batches)
		return fail(-EINVAL, "schedule search needs --stages and "
				     "--micro-batches");
	if (options_flag(options, "json") && !options_string(options, "out"))
		return fail(-EINVAL, "schedule search --json needs --out FILE "
				     "for the schedule");
	if (options_is_set(options, "memory-cap")) {
		out->memory_cap = (double)options_bytes(options, "memory-cap");
		if (out->memory_cap <= 0)
			return fail(-EINVAL, "--memory-cap 0 leaves no room "
					     "for any micro-batch");
	}
	count_micro_batches(&setting->costs);
	return 0;
}

/* ---- what was found ---- */

static double share(double more, double than)
{
	return than > 0 ? 100 * (more / than - 1) : 0;
}

static void append_shape(struct text_builder *text,
			 const struct schedule *schedule)
{
	if (schedule->chunks == 1)
		text_builder_append(text, "one stage a rank\n");
	else
		text_builder_append(text, "%u stages a rank, %s\n",
				    schedule->chunks,
				    schedule->placement == SCHEDULE_PLACEMENT_V
					    ? "placed as a V"
					    : "in a loop");
}

static const char *time_words(const struct costs *costs, char *buffer,
			      size_t size, double time)
{
	if (!costs->seconds)
		return schedule_command_number(buffer, size, time);
	snprintf(buffer, size, time >= 1 ? "%.4g s" : "%.4g ms",
		 time >= 1 ? time : time * 1e3);
	return buffer;
}

static char *result_text(const struct costs *costs,
			 const struct schedule_search_result *result)
{
	struct text_builder text;
	char time[40];
	double most = 0;

	for (unsigned r = 0; r < result->ranks; r++)
		most = MAX(most, result->peak_bytes[r]);
	text_builder_init(&text);
	text_builder_append(
		&text, "found          %s a step, ",
		time_words(costs, time, sizeof(time), result->makespan));
	append_shape(&text, result->schedule);
	if (result->builtin[0])
		text_builder_append(
			&text,
			"best built-in  %s, %s (%u a rank): %.2f %% longer\n",
			time_words(costs, time, sizeof(time),
				   result->builtin_makespan),
			result->builtin, result->builtin_chunks,
			share(result->builtin_makespan, result->makespan));
	else
		text_builder_append(&text,
				    "best built-in  none fits the cap\n");
	text_builder_append(
		&text, "lower bound    %s: %s; found: %.2f %% above it\n",
		time_words(costs, time, sizeof(time), result->bound),
		result->bound_reason, share(result->makespan, result->bound));
	if (most > 0) {
		if (most < 65536)
			schedule_command_number(time, sizeof(time), most);
		else
			text_bytes(time, sizeof(time), (uint64_t)most);
		text_builder_append(&text, "peak           %s on a rank\n",
				    time);
	}
	if (result->cut_short)
		text_builder_append(&text, "stopped at the time limit\n");
	return text_builder_finish(&text);
}

static char *result_json(const struct schedule_search_result *result)
{
	json_t *peaks = json_array(), *object;
	char *dump;

	for (unsigned r = 0; r < result->ranks; r++)
		json_array_append_new(peaks, json_real(result->peak_bytes[r]));
	object = json_pack(
		"{s:f, s:i, s:s, s:o, s:s, s:i, s:f, s:f, s:s, s:I, s:b}",
		"makespan", result->makespan, "chunks",
		(int)result->schedule->chunks, "placement",
		result->schedule->placement == SCHEDULE_PLACEMENT_V ? "V"
								    : "loop",
		"peak_bytes", peaks, "builtin", result->builtin,
		"builtin_chunks", (int)result->builtin_chunks,
		"builtin_makespan", result->builtin_makespan, "bound",
		result->bound, "bound_reason", result->bound_reason, "effort",
		(json_int_t)result->effort, "cut_short", result->cut_short);
	dump = json_dumps(object, JSON_INDENT(2) | JSON_REAL_PRECISION(12));
	json_decref(object);
	return dump;
}

static int tell(const struct options *options, const struct costs *costs,
		const struct schedule_search_result *result)
{
	char *text = options_flag(options, "json") ? result_json(result)
						   : result_text(costs, result);
	struct text_builder line;

	text_builder_init(&line);
	if (text)
		text_builder_append(&line, "%s%s", text,
				    options_flag(options, "json") ? "\n" : "");
	free(text);
	return schedule_command_print(text_builder_finish(&line));
}

/* The file, and what was found; or the schedule, and that on the log. */
static int write_result(const struct options *options,
			const struct costs *costs,
			const struct schedule_search_result *result)
{
	const char *path = options_string(options, "out");
	char *csv = schedule_text(result->schedule), *words;
	int rc;

	if (!csv)
		return EXIT_FAILURE;
	if (path) {
		rc = files_replace(path, csv, strlen(csv));
		free(csv);
		return rc ? EXIT_FAILURE : tell(options, costs, result);
	}
	words = result_text(costs, result);
	if (words)
		log_info("%.*s", (int)strlen(words) - 1, words);
	free(words);
	return schedule_command_print(csv);
}

static int run_search(const struct options *options)
{
	struct schedule_setting setting;
	struct search_setting search;
	struct schedule_search_result result;
	int status = EXIT_MISUSE;

	if (schedule_setting_read(options, &setting))
		return EXIT_MISUSE;
	if (read_search(options, &setting, &search) == 0) {
		status = EXIT_FAILURE;
		if (search_at_setting(&search, &result) == 0) {
			status = write_result(options, &setting.costs, &result);
			schedule_search_result_fini(&result);
		}
	}
	schedule_setting_fini(&setting);
	return status;
}

const struct schedule_subcommand schedule_search_subcommand = {
	.name = "search",
	.command = &search_command,
	.run = run_search,
};
