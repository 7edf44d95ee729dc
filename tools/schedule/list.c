/* schedule list: the built-in schedules, and what each costs. */
#include "base/json.h"
#include "base/log.h"
#include "tools/schedule/common.h"
#include "tools/schedule/predict.h"
#include <errno.h>
#include <stdio.h>

#define FIGURES_COLUMN                                                         \
	24 /* where a row of the table says why it does not fit */
#define ENTRY_COLUMN 13

/* clang-format off */
static const struct option_spec list_specs[] = {
	SCHEDULE_SIZE_OPTIONS,
	{"verbose", 'v', OPTION_FLAG, .group = "Output",
	 .help = "the whole entry of every schedule, with its paper, as for a "
		 "NAME"},
	SCHEDULE_JSON_OPTION,
	{0},
};

static const struct option_command list_command = {
	.name = "schedule list",
	.synopsis = "[NAME...] [--stages P --micro-batches M [--chunks V]] "
		    "[--verbose | --json]",
	.summary = "name the built-in schedules, and what each costs",
	.description =
		"A table of the built-in schedules, or the whole entries of "
		"those named. With --stages and --micro-batches the bubble "
		"and the peak of activations at these sizes stand there too, "
		"as the simulator finds them with F = I = W = 1 for a rank's "
		"whole slice, or why the schedule does not fit.",
	.table = list_specs,
	.operands = "NAME...",
};
/* clang-format on */

struct sizes {
	unsigned ranks; /* 0: none are given */
	unsigned micro_batches;
	unsigned chunks; /* 0: each schedule's own */
};

/* What a kind does at the given sizes. */
struct figures {
	bool fits;
	char why[256]; /* it does not fit */
	unsigned chunks;
	double bubble;  /* with F = I = W = 1 of a slice */
	double percent; /* of the makespan */
	double peak;    /* the highest of any rank */
};

static void read_prediction(const struct schedule_prediction *prediction,
			    struct figures *out)
{
	const struct schedule_simulation *simulation = &prediction->simulation;
	unsigned most = 0;

	for (unsigned rank = 0; rank < simulation->ranks; rank++)
		most = MAX(most, simulation->peak_activations[rank]);
	out->chunks = prediction->lowered->chunks;
	out->bubble = simulation->bubble;
	out->percent = 100 * simulation->bubble / simulation->makespan;
	out->peak = (double)most / out->chunks;
}

static int measure_kind(const struct schedule_kind *kind,
			const struct sizes *sizes, struct figures *out)
{
	struct costs_row one = {.forward = 1, .input = 1, .weight = 1};
	const struct schedule_setting unit = {
		.costs = {.kind = COSTS_SLICE, .count = 1, .rows = &one},
		.buffers = SCHEDULE_BUFFERS_ANY,
	};
	struct schedule_prediction prediction;
	struct schedule *schedule;
	int error;

	*out = (struct figures){0};
	if (schedule_kind_check(kind, sizes->ranks, sizes->micro_batches,
				sizes->chunks, out->why, sizeof(out->why)))
		return 0;
	out->fits = true;
	error = schedule_generate(kind->name, sizes->ranks,
				  sizes->micro_batches, sizes->chunks,
				  &schedule);
	if (error)
		return error;
	error = schedule_prediction_init(&prediction, schedule, &unit, NULL,
					 SCHEDULE_PREDICT_UNPROVEN);
	schedule_destroy(schedule);
	if (error)
		return error;
	read_prediction(&prediction, out);
	schedule_prediction_fini(&prediction);
	return 0;
}

static const char *placement_text(enum schedule_placement placement)
{
	return placement == SCHEDULE_PLACEMENT_V ? "V" : "loop";
}

static const char *brief(const char *brief_form, const char *whole)
{
	return brief_form ? brief_form : whole;
}

/* Which schedules are asked for. */
struct selection {
	const struct schedule_kind **kinds;
	size_t count;
	struct sizes sizes;
};

/* The table. */

static void append_formula_row(struct text_builder *text,
			       const struct schedule_kind *kind)
{
	text_builder_append(
		text, "%-16s%-8s%-22s%-15s%s\n", kind->name,
		placement_text(kind->placement),
		brief(kind->bubble_brief, kind->bubble),
		brief(kind->memory_brief, kind->memory),
		brief(kind->restrictions_brief, kind->restrictions));
}

static void append_formula_table(struct text_builder *text,
				 const struct selection *selection)
{
	text_builder_append(text, "%-16s%-8s%-22s%-15s%s\n", "schedule",
			    "placed", "bubble", "memory", "needs");
	for (size_t i = 0; i < selection->count; i++)
		append_formula_row(text, selection->kinds[i]);
	text_builder_append(text, "\n");
	schedule_command_append_wrapped(
		text,
		"P ranks, M micro-batches, V chunks a rank; F, I, W, B = I + "
		"W: cost of a rank's whole slice. Bubble: idle time of a rank. "
		"Memory: micro-batches through the slice whose activations the "
		"fullest rank holds, F until W, M large. Equal rounds: M is a "
		"multiple of M/P rounded down.",
		0, 0);
	schedule_command_append_wrapped(
		text,
		"'stagecoach schedule list NAME' says more of one, and its "
		"paper; with --stages and --micro-batches the table has "
		"figures.",
		0, 0);
}

/* Bubble and peak in their columns, or why there are none. */
static void append_figures_row(struct text_builder *text,
			       const struct schedule_kind *kind,
			       const struct figures *figures)
{
	text_builder_append(text, "%-16s%-8s", kind->name,
			    placement_text(kind->placement));
	if (figures->fits)
		text_builder_append(
			text, "%-4u%-10.6g%-9.1f%-12.6g%s\n", figures->chunks,
			figures->bubble, figures->percent, figures->peak,
			brief(kind->restrictions_brief, kind->restrictions));
	else
		schedule_command_append_wrapped(text, figures->why,
						FIGURES_COLUMN, FIGURES_COLUMN);
}

static int append_figures_table(struct text_builder *text,
				const struct selection *selection)
{
	const struct sizes *sizes = &selection->sizes;

	text_builder_append(text,
			    "%u ranks, %u micro-batches, F = I = W = 1 for a "
			    "rank's whole slice:\n\n"
			    "%-16s%-8s%-4s%-10s%-9s%-12s%s\n",
			    sizes->ranks, sizes->micro_batches, "schedule",
			    "placed", "V", "bubble", "percent", "peak",
			    "needs");
	for (size_t i = 0; i < selection->count; i++) {
		struct figures figures;
		int error = measure_kind(selection->kinds[i], sizes, &figures);

		if (error)
			return error;
		append_figures_row(text, selection->kinds[i], &figures);
	}
	text_builder_append(text, "\n");
	schedule_command_append_wrapped(
		text,
		"Bubble: mean idle time of a rank, and its percentage of the "
		"step. Peak: micro-batches through the slice whose activations "
		"the fullest rank holds, F until W. 'stagecoach schedule "
		"simulate' takes other costs, and links.",
		0, 0);
	return 0;
}

/* Whole entries. */

static void append_field(struct text_builder *text, const char *name,
			 const char *value)
{
	text_builder_append(text, "  %-11s", name);
	schedule_command_append_wrapped(text, value, ENTRY_COLUMN,
					ENTRY_COLUMN);
}

static int append_figures(struct text_builder *text,
			  const struct schedule_kind *kind,
			  const struct sizes *sizes)
{
	struct figures figures;
	char bubble[40];
	char peak[40];
	char line[400];
	int error = measure_kind(kind, sizes, &figures);

	if (error)
		return error;
	if (figures.fits)
		snprintf(line, sizeof(line),
			 "bubble %s (%.1f %%), peak activations %s; "
			 "V = %u, F = I = W = 1",
			 schedule_command_number(bubble, sizeof(bubble),
						 figures.bubble),
			 figures.percent,
			 schedule_command_number(peak, sizeof(peak),
						 figures.peak),
			 figures.chunks);
	else
		snprintf(line, sizeof(line), "does not fit: %s", figures.why);
	append_field(text, "here", line);
	return 0;
}

static int append_entries(struct text_builder *text,
			  const struct selection *selection)
{
	int error = 0;

	for (size_t i = 0; i < selection->count && !error; i++) {
		const struct schedule_kind *kind = selection->kinds[i];

		text_builder_append(text, "%s%s: %s\n", i ? "\n" : "",
				    kind->name, kind->title);
		append_field(text, "placement",
			     kind->placement == SCHEDULE_PLACEMENT_V
				     ? "V: stages r and 2P-1-r on rank r"
				     : "loop: stage s on rank s mod P");
		append_field(text, "bubble", kind->bubble);
		append_field(text, "memory", kind->memory);
		append_field(text, "needs", kind->restrictions);
		append_field(text, "paper", kind->paper);
		if (selection->sizes.ranks)
			error = append_figures(text, kind, &selection->sizes);
	}
	return error;
}

/* JSON: everything. */

static json_t *figures_json(const struct figures *figures)
{
	return json_pack("{s:i, s:f, s:f, s:f}", "chunks", (int)figures->chunks,
			 "bubble", figures->bubble, "bubble_percent",
			 figures->percent, "peak_activations", figures->peak);
}

static int append_kind_json(json_t *array, const struct schedule_kind *kind,
			    const struct sizes *sizes)
{
	json_t *object =
		json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:i}", "name",
			  kind->name, "title", kind->title, "placement",
			  placement_text(kind->placement), "bubble",
			  kind->bubble, "memory", kind->memory, "restrictions",
			  kind->restrictions, "paper", kind->paper,
			  "default_chunks", (int)kind->default_chunks);
	struct figures figures;
	int error = sizes->ranks ? measure_kind(kind, sizes, &figures) : 0;
	int bad = 0;

	if (error) {
		json_decref(object);
		return error;
	}
	if (sizes->ranks && figures.fits)
		bad = json_object_set_new(object, "here",
					  figures_json(&figures));
	else if (sizes->ranks)
		bad = json_object_set_new(object, "does_not_fit",
					  json_string(figures.why));
	if (json_array_append_new(array, object) || bad)
		return fail(-ENOMEM, "no memory to list schedules");
	return 0;
}

static int append_json(struct text_builder *text,
		       const struct selection *selection)
{
	json_t *array = json_array();
	char *dump = NULL;
	int error = 0;

	for (size_t i = 0; i < selection->count && !error; i++)
		error = append_kind_json(array, selection->kinds[i],
					 &selection->sizes);
	if (!error)
		dump = json_dumps(array,
				  JSON_INDENT(2) | JSON_REAL_PRECISION(15));
	json_decref(array);
	if (error)
		return error;
	if (dump == NULL)
		return fail(-ENOMEM, "no memory to list schedules");
	text_builder_append(text, "%s\n", dump);
	free(dump);
	return 0;
}

/* The command. */

static int fail_unknown(const char *name)
{
	const char **names = calloc(schedule_kind_count(), sizeof(*names));
	const char *nearest = NULL;

	for (size_t i = 0; names && i < schedule_kind_count(); i++)
		names[i] = schedule_kind_at(i)->name;
	if (names)
		nearest = text_nearest(name, names, schedule_kind_count());
	free(names);
	return fail(-EINVAL, "no built-in schedule is called '%s'%s%s%s", name,
		    nearest ? "; did you mean '" : "", nearest ? nearest : "",
		    nearest ? "'?" : "; 'stagecoach schedule list' names them");
}

/* The kinds named, or all. *out needs free(out->kinds). */
static int select_kinds(const struct options *options, struct selection *out)
{
	const char *const *names;
	size_t named = options_operands(options, &names);
	size_t count = named ? named : schedule_kind_count();

	out->kinds = calloc(count, sizeof(struct schedule_kind *));
	if (out->kinds == NULL)
		return fail(-ENOMEM, "no memory to list schedules");
	for (size_t i = 0; i < count; i++) {
		out->kinds[i] = named ? schedule_kind_find(names[i])
				      : schedule_kind_at(i);
		if (out->kinds[i] == NULL)
			return fail_unknown(names[i]);
	}
	out->count = count;
	return 0;
}

static int read_sizes(const struct options *options, struct sizes *out)
{
	*out = (struct sizes){
		.ranks = schedule_command_size(options, "stages"),
		.micro_batches =
			schedule_command_size(options, "micro-batches"),
		.chunks = schedule_command_size(options, "chunks"),
	};
	if ((out->ranks == 0) != (out->micro_batches == 0))
		return fail(-EINVAL, "give both --stages and --micro-batches, "
				     "or neither");
	if (out->chunks && out->ranks == 0)
		return fail(-EINVAL, "--chunks goes with --stages and "
				     "--micro-batches");
	return 0;
}

static int append_list(struct text_builder *text, const struct options *options,
		       const struct selection *selection)
{
	const char *const *names;

	if (options_flag(options, "json"))
		return append_json(text, selection);
	if (options_flag(options, "verbose") ||
	    options_operands(options, &names) > 0)
		return append_entries(text, selection);
	if (selection->sizes.ranks)
		return append_figures_table(text, selection);
	append_formula_table(text, selection);
	return 0;
}

static int run_list(const struct options *options)
{
	struct selection selection = {0};
	struct text_builder text;
	int status = EXIT_MISUSE;

	text_builder_init(&text);
	if (read_sizes(options, &selection.sizes) == 0 &&
	    select_kinds(options, &selection) == 0)
		status = append_list(&text, options, &selection) ? EXIT_FAILURE
								 : EXIT_SUCCESS;
	free(selection.kinds);
	if (status == EXIT_SUCCESS)
		return schedule_command_print(text_builder_finish(&text));
	text_builder_fini(&text);
	return status;
}

const struct schedule_subcommand schedule_list_subcommand = {
	.name = "list",
	.operands_minimum = 0,
	.operands_maximum = SIZE_MAX,
	.command = &list_command,
	.run = run_list,
};
