#include "tools/page.h"
#include "tools/report/chart.h"
#include "tools/report/sections.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Rows of the table of steps, about. */
#define STEP_ROWS 60
/* Layers shown without being asked for. */
#define LAYERS_OPEN 40
/* Lines of history shown, the newest. */
#define HISTORY_ROWS 400

/* ---- layers ---- */

static double layer_total(const struct costs_row *row)
{
	return row->forward + row->input + row->weight;
}

static void append_layer(struct text_builder *page, const struct costs_row *row,
			 double most)
{
	static const char *const classes[] = {"f", "i", "w"};
	const double parts[] = {row->forward, row->input, row->weight};

	text_builder_append(page, "<tr><th scope=\"row\">");
	page_append_text(page, row->name);
	text_builder_append(page,
			    "</th><td class=\"wide\"><div class=\"stack\">");
	for (unsigned i = 0; i < ARRAY_SIZE(parts); i++)
		text_builder_append(
			page, "<i class=\"box %s\" style=\"width:%.2f%%\"></i>",
			classes[i], 100 * parts[i] / most);
	text_builder_append(page, "</div></td>");
	for (unsigned i = 0; i < ARRAY_SIZE(parts); i++)
		text_builder_append(page, "<td>%.3f ms</td>", 1e3 * parts[i]);
	text_builder_append(page, "</tr>\n");
}

void sections_append_layers(struct text_builder *page,
			    const struct report *report)
{
	const struct costs *costs = report->costs;
	double most = 0;

	for (unsigned i = 0; i < costs->count; i++)
		most = MAX(most, layer_total(&costs->rows[i]));
	if (!(most > 0) || costs->kind != COSTS_LAYERS || !costs->seconds)
		return;
	text_builder_append(
		page,
		"<section aria-labelledby=\"layers\">\n<details%s><summary><h2 id=\"layers\">Time by layer</h2></summary>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Time by layer\"><table>\n<caption>Medians of the recorded steps, for one micro-batch. The loss layer\xe2\x80\x99s forward includes its weight gradient.</caption>\n<thead><tr><th scope=\"col\">Layer</th><th scope=\"col\" class=\"left\"></th><th scope=\"col\">F forward</th><th scope=\"col\">I input</th><th scope=\"col\">W weight</th></tr></thead>\n<tbody>\n",
		costs->count <= LAYERS_OPEN ? " open" : "");
	for (unsigned i = 0; i < costs->count; i++)
		append_layer(page, &costs->rows[i], most);
	text_builder_append(page,
			    "</tbody></table></div>\n</details>\n</section>\n");
}

/* ---- history ---- */

static double number_in(const json_t *line, const char *key)
{
	const json_t *value = json_object_get(line, key);

	return json_is_number(value) ? json_number_value(value) : NAN;
}

/* 2026-11-25 10:30:00, of the reader's zone when the page was written. */
static void append_time(struct text_builder *page, double seconds)
{
	time_t at = (time_t)seconds;
	char text[64];
	struct tm local;

	if (seconds > 0 && seconds < 1e11 && localtime_r(&at, &local) &&
	    strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &local))
		text_builder_append(page, "%s", text);
}

static void append_start(struct text_builder *page, const json_t *line)
{
	const char *schedule =
		json_string_value(json_object_get(line, "schedule"));
	const char *transport =
		json_string_value(json_object_get(line, "transport"));
	double replicas = number_in(line, "replicas");
	double slices = number_in(line, "slices");
	char last[32];

	text_builder_append(page, "%.0f stages", number_in(line, "positions"));
	if (replicas > 1)
		text_builder_append(page, " in %.0f replicas", replicas);
	if (slices > 1)
		text_builder_append(page, ", %.0f slices", slices);
	text_builder_append(page, ", ");
	page_append_text(page, schedule ? schedule : "");
	text_builder_append(page, ", ");
	page_append_text(page, transport ? transport : "");
	text_builder_append(
		page, ", to step %s",
		text_grouped(last, sizeof(last),
			     (uint64_t)json_integer_value(
				     json_object_get(line, "steps"))));
}

static const struct record_checkpoint *
checkpoint_of(const struct record *record, double step)
{
	for (size_t i = 0; i < record->checkpoint_count; i++)
		if ((double)record->checkpoints[i].step == step &&
		    !record->checkpoints[i].damaged)
			return &record->checkpoints[i];
	return NULL;
}

static void append_saved(struct text_builder *page, const struct record *record,
			 const json_t *line)
{
	const struct record_checkpoint *kept =
		checkpoint_of(record, number_in(line, "step"));
	char bytes[32];

	if (!json_is_true(json_object_get(line, "written"))) {
		text_builder_append(
			page,
			"<span class=\"warn\">could not be written</span>");
		return;
	}
	text_builder_append(page, "written in %.2f s",
			    number_in(line, "seconds"));
	if (kept)
		text_builder_append(
			page, "; kept, %s",
			text_bytes(bytes, sizeof(bytes), kept->bytes));
}

static void append_event(struct text_builder *page, const struct record *record,
			 const json_t *line)
{
	const char *event = json_string_value(json_object_get(line, "event"));
	double step = number_in(line, "step");
	bool start = strcmp(event, "start") == 0;
	bool end = strcmp(event, "end") == 0;
	bool stopped = json_is_true(json_object_get(line, "stopped"));
	char done[32];

	text_builder_append(page, "<tr><td>");
	append_time(page, number_in(line, "time"));
	text_builder_append(page, "</td><td>%s</td><th scope=\"row\">",
			    text_grouped(done, sizeof(done),
					 step >= 0 ? (uint64_t)step : 0));
	if (start)
		text_builder_append(page, step > 0 ? "Resumed" : "Started");
	else if (end)
		text_builder_append(page, stopped ? "Stopped" : "Finished");
	else if (strcmp(event, "checkpoint") == 0)
		text_builder_append(page, "Checkpoint");
	else
		page_append_text(page, event);
	text_builder_append(page, "</th><td class=\"left\">");
	if (start)
		append_start(page, line);
	else if (strcmp(event, "checkpoint") == 0)
		append_saved(page, record, line);
	else if (stopped)
		text_builder_append(page, "as somebody asked for");
	text_builder_append(page, "</td></tr>\n");
}

/* Of a run without a history, and what no line of it tells of. */
static void append_kept(struct text_builder *page, const struct record *record)
{
	if (!record->checkpoint_count)
		return;
	text_builder_append(page, "<p class=\"note\">On disk: ");
	for (size_t i = 0; i < record->checkpoint_count; i++) {
		char bytes[32];

		text_builder_append(page, i ? ", " : "");
		page_append_text(page, record->checkpoints[i].name);
		text_builder_append(page, " (%s)",
				    text_bytes(bytes, sizeof(bytes),
					       record->checkpoints[i].bytes));
	}
	text_builder_append(page, record->has_model ? ", and the model.</p>\n"
						    : ".</p>\n");
}

void sections_append_history(struct text_builder *page,
			     const struct report *report)
{
	const struct record *record = report->record;
	size_t lines = json_array_size(record->history);
	size_t from = lines > HISTORY_ROWS ? lines - HISTORY_ROWS : 0;

	if (!lines && !record->checkpoint_count)
		return;
	text_builder_append(
		page,
		"<section aria-labelledby=\"history\">\n<div class=\"top\"><h2 id=\"history\">History</h2></div>\n");
	if (lines)
		text_builder_append(
			page,
			"<div class=\"scroll history\" tabindex=\"0\" role=\"region\" aria-label=\"History\"><table>\n<thead><tr><th scope=\"col\">Time</th><th scope=\"col\">Step</th><th scope=\"col\" class=\"left\">Event</th><th scope=\"col\" class=\"left\"></th></tr></thead>\n<tbody>\n");
	for (size_t i = from; i < lines; i++)
		append_event(page, record, json_array_get(record->history, i));
	if (lines)
		text_builder_append(page, "</tbody></table></div>\n");
	if (from)
		text_builder_append(
			page,
			"<p class=\"note\">%zu lines before these are in history.jsonl.</p>\n",
			from);
	append_kept(page, record);
	text_builder_append(page, "</section>\n");
}

/* ---- options ---- */

/* As a user would write it. */
static void append_value(struct text_builder *page, const json_t *value)
{
	char *text =
		json_is_string(value)
			? NULL
			: json_dumps(value,
				     JSON_ENCODE_ANY | JSON_REAL_PRECISION(9));

	if (json_is_true(value))
		text_builder_append(page, "yes");
	else if (json_is_false(value))
		text_builder_append(page, "no");
	else if (json_is_string(value))
		page_append_text(page, json_string_value(value));
	else if (text)
		page_append_text(page, text);
	free(text);
}

/* The same as the option's default? */
static bool is_usual(const struct option_spec *option, const json_t *value)
{
	if (option->kind == OPTION_FLAG)
		return json_is_false(value);
	if (!option->fallback)
		return false;
	if (json_is_string(value))
		return strcmp(json_string_value(value), option->fallback) == 0;
	return json_is_number(value) &&
	       json_number_value(value) == strtod(option->fallback, NULL);
}

static void append_option(struct text_builder *page, const char *name,
			  const char *help, const json_t *value, bool usual)
{
	text_builder_append(page, "<div%s title=\"",
			    usual ? " class=\"usual\"" : "");
	page_append_text(page, help);
	text_builder_append(page, "\"><dt>");
	page_append_text(page, name);
	text_builder_append(page, "</dt><dd>");
	append_value(page, value);
	text_builder_append(page, "</dd></div>");
}

static void end_group(struct text_builder *page, bool open)
{
	if (open)
		text_builder_append(page, "</dl></div>\n");
}

static void begin_group(struct text_builder *page, const char *name)
{
	text_builder_append(page, "<div class=\"group\"><h3>");
	page_append_text(page, name);
	text_builder_append(page, "</h3><dl>");
}

/* Those of the table, under its headings. */
static void append_known(struct text_builder *page, const struct report *report)
{
	const struct option_spec *option;
	const char *group = "Options", *shown = NULL;

	for (option = report->options; option->name; option++) {
		const json_t *value =
			json_object_get(report->record->options, option->name);

		if (option->group)
			group = option->group;
		if (!value)
			continue;
		if (shown != group) {
			end_group(page, shown != NULL);
			begin_group(page, group);
		}
		shown = group;
		append_option(page, option->name, option->help, value,
			      is_usual(option, value));
	}
	end_group(page, shown != NULL);
}

static bool is_known(const struct option_spec *options, const char *name)
{
	for (; options->name; options++)
		if (strcmp(options->name, name) == 0)
			return true;
	return false;
}

/* What another version has written. */
static void append_others(struct text_builder *page,
			  const struct report *report)
{
	const char *name;
	json_t *value;
	bool open = false;

	json_object_foreach(report->record->options, name, value)
	{
		if (is_known(report->options, name))
			continue;
		if (!open)
			begin_group(page, "Others");
		open = true;
		append_option(page, name, "", value, false);
	}
	end_group(page, open);
}

static void append_numerics(struct text_builder *page,
			    const struct report *report)
{
	const char *name;
	json_t *value;

	begin_group(page, "Numerics");
	append_option(page, "version", "of stagecoach",
		      json_object_get(report->record->json, "version"), false);
	json_object_foreach(report->record->numerics, name, value)
		append_option(page, name, "", value, false);
	end_group(page, true);
}

void sections_append_options(struct text_builder *page,
			     const struct report *report)
{
	text_builder_append(
		page,
		"<section aria-labelledby=\"options\">\n<div class=\"top\"><h2 id=\"options\">Options</h2><span class=\"quiet\">defaults are grey</span></div>\n<div class=\"options\">\n");
	append_known(page, report);
	append_others(page, report);
	append_numerics(page, report);
	text_builder_append(page, "</div>\n</section>\n");
}

/* ---- the curves as a table ---- */

static void append_cell(struct text_builder *page, double value, bool percent)
{
	char text[32];

	text_builder_append(page, "<td>%s</td>",
			    isfinite(value) ? chart_number(text, sizeof(text),
							   value, percent)
					    : "\xe2\x80\x93");
}

/* The newest evaluation after the row before. */
static double evaluation_until(const struct record *record, size_t *next,
			       double step)
{
	double loss = NAN;

	for (; *next < record->evaluation_count &&
	       record->evaluations[*next].step <= step;
	     (*next)++)
		loss = record->evaluations[*next].loss;
	return loss;
}

static void append_step(struct text_builder *page, const struct record *record,
			size_t i, size_t *next)
{
	static const enum record_column columns[] = {
		RECORD_GRADIENT_NORM, RECORD_RATE, RECORD_TOKENS_PER_SECOND,
		RECORD_STEP_SECONDS, RECORD_BUBBLE};
	const struct record_steps *steps = &record->steps;

	text_builder_append(page, "<tr><th scope=\"row\">%.0f</th>",
			    steps->step[i]);
	if (isfinite(steps->column[RECORD_LOSS][i]))
		text_builder_append(page, "<td>%.5f</td>",
				    steps->column[RECORD_LOSS][i]);
	else
		append_cell(page, NAN, false);
	append_cell(page, evaluation_until(record, next, steps->step[i]),
		    false);
	for (unsigned c = 0; c < ARRAY_SIZE(columns); c++)
		append_cell(page, steps->column[columns[c]][i],
			    columns[c] == RECORD_BUBBLE);
	text_builder_append(page, "</tr>\n");
}

void sections_append_steps(struct text_builder *page,
			   const struct report *report)
{
	const struct record *record = report->record;
	size_t count = record->steps.count, next = 0;
	size_t every = count / STEP_ROWS + 1;

	if (!count)
		return;
	text_builder_append(
		page,
		"<section aria-labelledby=\"steps\">\n<details><summary><h2 id=\"steps\">The curves as a table</h2></summary>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Steps\"><table>\n<caption>%s %zu steps, and the last; the newest evaluation up to each. All are in metrics.jsonl.</caption>\n<thead><tr><th scope=\"col\">Step</th><th scope=\"col\">Loss</th><th scope=\"col\">Validation</th><th scope=\"col\">Gradient norm</th><th scope=\"col\">Learning rate</th><th scope=\"col\">Tokens/s</th><th scope=\"col\">Seconds</th><th scope=\"col\">Waiting</th></tr></thead>\n<tbody>\n",
		every == 1 ? "Every one of" : "A sample of", count);
	for (size_t i = 0; i < count; i += every)
		append_step(page, record, i, &next);
	if ((count - 1) % every)
		append_step(page, record, count - 1, &next);
	text_builder_append(page,
			    "</tbody></table></div>\n</details>\n</section>\n");
}
