/* schedule list: the built-in schedules, and what each costs. */
#include "base/json.h"
#include "base/log.h"
#include "tools/schedule/common.h"
#include "tools/schedule/predict.h"
#include <errno.h>

struct sizes {
	unsigned ranks;
	unsigned micro_batches;
	unsigned chunks; /* 0: each schedule's own */
};

/* clang-format off */
static const struct option_spec list_specs[] = {
	SCHEDULE_SIZE_OPTIONS,
	SCHEDULE_JSON_OPTION,
	{0},
};

static const struct option_command list_command = {
	.name = "schedule list",
	.synopsis = "[--stages P --micro-batches M]",
	.summary = "name the built-in schedules",
	.table = list_specs,
};
/* clang-format on */

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
	static const struct schedule_slice_costs unit = {
		.forward = 1,
		.input = 1,
		.weight = 1,
		.buffers = SCHEDULE_BUFFERS_ANY,
	};
	struct schedule_prediction prediction;
	struct schedule *schedule;
	unsigned most = 0;
	int error = schedule_generate(kind->name, sizes->ranks,
				      sizes->micro_batches, sizes->chunks,
				      &schedule);

	if (error)
		return error;
	error = schedule_prediction_init(&prediction, schedule, &unit);
	if (error)
		goto out;
	for (unsigned rank = 0; rank < schedule->ranks; rank++)
		most = MAX(most, prediction.simulation.peak_activations[rank]);
	*bubble = prediction.simulation.bubble;
	*peak = (double)most / schedule->chunks;
	schedule_prediction_fini(&prediction);
out:
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
			schedule_command_number(first, sizeof(first), bubble),
			schedule_command_number(second, sizeof(second), peak));
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
		.ranks = schedule_command_size(options, "stages"),
		.micro_batches =
			schedule_command_size(options, "micro-batches"),
		.chunks = schedule_command_size(options, "chunks"),
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
	return schedule_command_print(text);
}

const struct schedule_subcommand schedule_list_subcommand = {
	.name = "list",
	.operands_minimum = 0,
	.operands_maximum = 0,
	.command = &list_command,
	.run = run_list,
};
