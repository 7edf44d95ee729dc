#include "tools/report/sections.h"
#include "base/math.h"
#include "base/numbers.h"
#include "tools/page.h"
#include "tools/report/chart.h"
#include "tools/report/timeline_figure.h"

#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define DOT " \xc2\xb7 "

/* ---- what is told in several places ---- */

void sections_run_name(const struct report *report, char *name, size_t size)
{
	char resolved[PATH_MAX];
	const char *path = report->record->run;
	const char *slash;

	if (realpath(path, resolved))
		path = resolved;
	slash = strrchr(path, '/');
	(void)!text_copy(name, size, slash && slash[1] ? slash + 1 : path);
}

static const double *column_of(const struct report *report,
			       enum record_column column)
{
	return report->record->steps.column[column];
}

/* The last finite value of a column; NAN: there is none. */
static double last_of(const struct report *report, enum record_column column)
{
	const double *values = column_of(report, column);

	for (size_t i = report->record->steps.count; i-- > 0;)
		if (isfinite(values[i]))
			return values[i];
	return NAN;
}

static double median_of(const struct report *report, enum record_column column)
{
	size_t count = report->record->steps.count, finite = 0;
	const double *values = column_of(report, column);
	double *copy = calloc(MAX(count, (size_t)1), sizeof(*copy));
	double median;

	for (size_t i = 0; copy && i < count; i++)
		if (isfinite(values[i]))
			copy[finite++] = values[i];
	median = copy && finite ? numbers_median(copy, finite) : NAN;
	free(copy);
	return median;
}

static const char *option_text(const struct report *report, const char *name)
{
	const char *text = json_string_value(
		json_object_get(report->record->options, name));

	return text ? text : "";
}

static double option_number(const struct report *report, const char *name)
{
	return json_number_value(
		json_object_get(report->record->options, name));
}

/* ---- the head ---- */

static void append_fact(struct text_builder *page, const char *name,
			const char *text)
{
	if (!text[0])
		return;
	text_builder_append(page, "<div><dt>%s</dt><dd>", name);
	page_append_text(page, text);
	text_builder_append(page, "</dd></div>");
}

static void append_model(struct text_builder *page, const struct report *report)
{
	const char *from = option_text(report, "model");
	char text[512], parameters[32];
	int used;

	if (from[0])
		used = snprintf(text, sizeof(text), "from %.300s", from);
	else
		used = snprintf(text, sizeof(text),
				"%.32s, %.0f layers, width %.0f, %.0f heads",
				option_text(report, "arch"),
				option_number(report, "layers"),
				option_number(report, "width"),
				option_number(report, "heads"));
	if (report->record->parameters)
		used += snprintf(text + used, sizeof(text) - (size_t)used,
				 ", %s parameters",
				 text_grouped(parameters, sizeof(parameters),
					      report->record->parameters));
	if (strcmp(option_text(report, "dtype"), "bf16") == 0)
		snprintf(text + used, sizeof(text) - (size_t)used,
			 ", computed in bf16");
	append_fact(page, "Model", text);
}

static void append_pipeline(struct text_builder *page,
			    const struct report *report)
{
	const struct grid *grid = &report->record->grid;
	const char *schedule = json_string_value(
		json_object_get(report->record->start, "schedule"));
	char text[512];
	int used = 0;

	if (!schedule)
		schedule = option_text(report, "schedule");
	if (grid->replicas > 1)
		used += snprintf(text + used, sizeof(text) - (size_t)used,
				 "%u replicas of ", grid->replicas);
	used += snprintf(text + used, sizeof(text) - (size_t)used, "%u stage%s",
			 grid->positions, grid->positions == 1 ? "" : "s");
	if (grid->slices > 1)
		used += snprintf(text + used, sizeof(text) - (size_t)used,
				 " of %u slices", grid->slices);
	snprintf(text + used, sizeof(text) - (size_t)used, ", %.300s",
		 schedule);
	append_fact(page, "Pipeline", text);
}

static void append_batch(struct text_builder *page, const struct report *report)
{
	double micro_batches = option_number(report, "micro-batches");
	double size = option_number(report, "micro-batch-size");
	double context = option_number(report, "context");
	char text[160], tokens[32];

	if (!(micro_batches > 0 && size > 0 && context > 0) ||
	    micro_batches * size * context > 1e15)
		return;
	snprintf(
		text, sizeof(text),
		"%.0f micro-batches \xc3\x97 %.0f sequences \xc3\x97 %.0f = %s tokens",
		micro_batches, size, context,
		text_grouped(tokens, sizeof(tokens),
			     (uint64_t)(micro_batches * size * context)));
	append_fact(page, "A step", text);
}

static void append_state(struct text_builder *page, const struct report *report)
{
	static const char *const classes[] = {"running", "finished", "stopped",
					      "broken"};
	static const char *const names[] = {"Running", "Finished", "Stopped",
					    "Interrupted"};
	const struct record *record = report->record;
	double last = record_last_step(record);
	char done[32], all[32], idle[32];

	text_builder_append(page, "<p class=\"state\"><b class=\"%s\">%s</b> ",
			    classes[record->state], names[record->state]);
	text_grouped(done, sizeof(done), (uint64_t)last);
	text_grouped(all, sizeof(all), record->planned);
	if ((double)record->planned > last)
		text_builder_append(page, "after step %s of %s (%.3g %%)", done,
				    all, 100 * last / (double)record->planned);
	else
		text_builder_append(page, "after step %s", done);
	if (record->state == RECORD_RUNNING)
		text_builder_append(
			page,
			". This page shows what there was when it was written.");
	if (record->state == RECORD_BROKEN)
		text_builder_append(page, ", and no step since for %s",
				    text_duration(idle, sizeof(idle),
						  MAX(record->idle, 0.0)));
	if (record->state == RECORD_STOPPED || record->state == RECORD_BROKEN) {
		text_builder_append(
			page, ". Go on with <code>stagecoach train --resume ");
		page_append_text(page, record->run);
		text_builder_append(page, "</code>");
	}
	text_builder_append(page, "</p>\n");
}

void sections_append_head(struct text_builder *page,
			  const struct report *report)
{
	char name[256];

	sections_run_name(report, name, sizeof(name));
	text_builder_append(
		page,
		"<header>\n<p class=\"eyebrow\">stagecoach report</p>\n<h1>");
	page_append_text(page, name);
	text_builder_append(page, "</h1>\n");
	append_state(page, report);
	text_builder_append(page, "<dl class=\"facts\">");
	append_model(page, report);
	append_pipeline(page, report);
	append_batch(page, report);
	append_fact(page, "Data", option_text(report, "data"));
	text_builder_append(
		page,
		"</dl>\n<div class=\"switch\" id=\"theme\" role=\"group\" aria-label=\"Colours\"></div>\n</header>\n");
}

/* ---- the tiles ---- */

static void append_tile(struct text_builder *page, const char *name,
			const char *value, const char *note)
{
	text_builder_append(
		page,
		"<div class=\"tile\"><dt>%s</dt><dd>%s<small>%s</small></dd></div>\n",
		name, value, note);
}

static void append_loss_tiles(struct text_builder *page,
			      const struct report *report)
{
	const struct record *record = report->record;
	const double *loss = column_of(report, RECORD_LOSS);
	size_t best = SIZE_MAX, count = record->evaluation_count;
	char value[64], note[128], step[32];

	if (isfinite(last_of(report, RECORD_LOSS))) {
		snprintf(value, sizeof(value), "%.4f",
			 last_of(report, RECORD_LOSS));
		snprintf(note, sizeof(note),
			 "of the last step; %.4f at step %.0f", loss[0],
			 record->steps.step[0]);
		append_tile(page, "Training loss", value,
			    isfinite(loss[0]) ? note : "of the last step");
	}
	for (size_t i = 0; i < count; i++)
		if (isfinite(record->evaluations[i].loss) &&
		    (best == SIZE_MAX ||
		     record->evaluations[i].loss <
			     record->evaluations[best].loss))
			best = i;
	if (best == SIZE_MAX)
		return;
	snprintf(value, sizeof(value), "%.4f",
		 record->evaluations[count - 1].loss);
	snprintf(note, sizeof(note), "perplexity %.2f; best %.4f at step %s",
		 math_exp(record->evaluations[count - 1].loss),
		 record->evaluations[best].loss,
		 text_grouped(step, sizeof(step),
			      (uint64_t)record->evaluations[best].step));
	append_tile(page, "Validation loss", value, note);
}

static void append_token_tile(struct text_builder *page, double tokens)
{
	char grouped[32], value[64], note[128];

	text_grouped(grouped, sizeof(grouped), (uint64_t)tokens);
	if (tokens < 1e9) {
		append_tile(page, "Tokens", grouped, "trained on so far");
		return;
	}
	snprintf(value, sizeof(value), tokens < 1e12 ? "%.4g bn" : "%.4g tn",
		 tokens / (tokens < 1e12 ? 1e9 : 1e12));
	snprintf(note, sizeof(note), "trained on so far: %s", grouped);
	append_tile(page, "Tokens", value, note);
}

static void append_speed_tiles(struct text_builder *page,
			       const struct report *report)
{
	double rate = median_of(report, RECORD_TOKENS_PER_SECOND);
	double seconds = median_of(report, RECORD_STEP_SECONDS);
	double waiting = median_of(report, RECORD_BUBBLE);
	double tokens = last_of(report, RECORD_TOKENS);
	char value[64], note[128];

	if (tokens >= 0 && tokens < 1e18)
		append_token_tile(page, tokens);
	if (rate >= 0 && rate < 1e18) {
		text_grouped(value, sizeof(value), (uint64_t)(rate + 0.5));
		append_tile(page, "Tokens a second", value,
			    "median of the steps");
	}
	if (seconds > 0) {
		chart_time(value, sizeof(value), seconds);
		if (isfinite(waiting))
			snprintf(note, sizeof(note),
				 "median; %.1f %% of it waiting",
				 100 * waiting);
		append_tile(page, "A step", value,
			    isfinite(waiting) ? note : "median");
	}
}

/* Wall time between a start and the last line before the next one. */
static void append_duration_tile(struct text_builder *page,
				 const struct report *report)
{
	const double *seconds = column_of(report, RECORD_STEP_SECONDS);
	double total = 0;
	char value[64];

	for (size_t i = 0; i < report->record->steps.count; i++)
		if (isfinite(seconds[i]))
			total += seconds[i];
	if (!(total > 0) || total > 1e12)
		return;
	text_duration(value, sizeof(value), total);
	append_tile(page, "Time in steps", value,
		    "without evaluations and checkpoints");
}

static void append_memory_tile(struct text_builder *page,
			       const struct report *report)
{
	const json_t *bytes =
		json_object_get(report->record->memory, "resident_bytes");
	const json_t *entry;
	json_int_t most = 0;
	char value[64];
	size_t i;

	json_array_foreach(bytes, i, entry) most =
		MAX(most, json_integer_value(entry));
	if (most <= 0)
		return;
	text_bytes(value, sizeof(value), (uint64_t)most);
	append_tile(page, "Memory", value, "of the process that holds most");
}

void sections_append_tiles(struct text_builder *page,
			   const struct report *report)
{
	text_builder_append(page, "<dl class=\"tiles\">\n");
	append_loss_tiles(page, report);
	append_speed_tiles(page, report);
	append_duration_tile(page, report);
	append_memory_tile(page, report);
	text_builder_append(page, "</dl>\n");
	if (report->record->bad_lines)
		text_builder_append(
			page,
			"<p class=\"note\">%zu lines of metrics.jsonl could not be read and are left out.</p>\n",
			report->record->bad_lines);
}

/* ---- the curves ---- */

#define RESUMES_MAX 256

/* Steps after which the run was started again. */
static size_t find_resumes(const struct report *report,
			   double steps[RESUMES_MAX])
{
	const json_t *line;
	size_t count = 0, i;

	json_array_foreach(report->record->history, i, line)
	{
		double step = json_number_value(json_object_get(line, "step"));
		const char *event =
			json_string_value(json_object_get(line, "event"));

		if (strcmp(event, "start") == 0 && step > 0 &&
		    step <= record_last_step(report->record) &&
		    count < RESUMES_MAX)
			steps[count++] = step;
	}
	return count;
}

#define CHARTS 5

struct charts {
	struct chart chart[CHARTS];
	double resumes[RESUMES_MAX];
};

static void make_charts(const struct report *report, struct charts *out)
{
	const struct record *record = report->record;
	struct chart common = {
		.unit = "",
		.height = 170,
		.step = record->steps.step,
		.count = record->steps.count,
		.resumes = out->resumes,
		.resume_count = find_resumes(report, out->resumes),
		.last = MAX(record_last_step(record), 1.0),
	};

	/* An evaluation before the first step stands at 0. */
	if (record->steps.count)
		common.first = record->steps.step[0];
	if (record->evaluation_count)
		common.first = MIN(common.first, record->evaluations[0].step);
	for (unsigned i = 0; i < CHARTS; i++)
		out->chart[i] = common;
	out->chart[0].key = "loss";
	out->chart[0].title = "Training loss";
	out->chart[0].unit = "nats a token";
	out->chart[0].height = 320;
	out->chart[0].value = record->steps.column[RECORD_LOSS];
	out->chart[0].points = record->evaluations;
	out->chart[0].point_count = record->evaluation_count;
	out->chart[1].key = "norm";
	out->chart[1].title = "Gradient norm";
	out->chart[1].unit = "before clipping";
	out->chart[1].value = record->steps.column[RECORD_GRADIENT_NORM];
	out->chart[2].key = "rate";
	out->chart[2].title = "Learning rate";
	out->chart[2].from_zero = true;
	out->chart[2].exact = true;
	out->chart[2].value = record->steps.column[RECORD_RATE];
	out->chart[3].key = "speed";
	out->chart[3].title = "Throughput";
	out->chart[3].unit = "tokens a second";
	out->chart[3].from_zero = true;
	out->chart[3].value = record->steps.column[RECORD_TOKENS_PER_SECOND];
	out->chart[4].key = "waiting";
	out->chart[4].title = "Waiting";
	out->chart[4].unit = "mean of the ranks";
	out->chart[4].from_zero = true;
	out->chart[4].percent = true;
	out->chart[4].value = record->steps.column[RECORD_BUBBLE];
}

static void append_smoothing(struct text_builder *page)
{
	static const char *const names[] = {"none", "light", "strong"};
	static const char *const words[] = {"None", "Light", "Strong"};

	text_builder_append(
		page,
		"<fieldset class=\"switch\" id=\"smoothing\"><legend>Smoothing</legend>");
	for (unsigned i = 0; i < 3; i++)
		text_builder_append(
			page,
			"<label><input type=\"radio\" name=\"smoothing\" id=\"smooth-%s\"%s><span>%s</span></label>",
			names[i], i == 1 ? " checked" : "", words[i]);
	text_builder_append(page, "</fieldset>");
}

/* What the lines of the charts are. */
static void append_key(struct text_builder *page, const struct charts *charts)
{
	const struct chart *loss = &charts->chart[0];

	text_builder_append(page,
			    "<ul class=\"legend\" aria-label=\"Legend\">");
	text_builder_append(
		page,
		loss->count > COLUMNS_MAX
			? "<li><i class=\"key-band\"></i>least to greatest</li>"
			: "<li><i class=\"key-raw\"></i>each step</li>");
	text_builder_append(page,
			    "<li><i class=\"key-mean\"></i>smoothed</li>");
	if (loss->point_count)
		text_builder_append(
			page, "<li><i class=\"key-dots\"></i>validation</li>");
	if (loss->resume_count)
		text_builder_append(
			page, "<li><i class=\"key-resume\"></i>resumed</li>");
	text_builder_append(page, "</ul>");
}

void sections_append_curves(struct text_builder *page,
			    const struct report *report)
{
	struct charts *charts = calloc(1, sizeof(*charts));

	if (!charts) {
		page->failed = true;
		return;
	}
	make_charts(report, charts);
	text_builder_append(
		page,
		"<section aria-labelledby=\"curves\">\n<div class=\"top\"><h2 id=\"curves\">Curves</h2>");
	append_key(page, charts);
	append_smoothing(page);
	text_builder_append(page, "</div>\n<div class=\"charts\">\n");
	for (unsigned i = 0; i < CHARTS; i++)
		chart_append(page, &charts->chart[i]);
	text_builder_append(page, "</div>\n</section>\n");
	free(charts);
}

void sections_append_data(struct text_builder *page,
			  const struct report *report)
{
	struct charts *charts = calloc(1, sizeof(*charts));
	bool any = false;

	if (!charts) {
		page->failed = true;
		return;
	}
	make_charts(report, charts);
	text_builder_append(page, "{\"first\":%.0f,\"last\":%.0f,\"charts\":{",
			    charts->chart[0].first, charts->chart[0].last);
	for (unsigned i = 0; i < CHARTS; i++) {
		if (any)
			text_builder_append(page, ",");
		any = chart_append_data(page, &charts->chart[i]);
	}
	text_builder_append(page, "},\"evaluations\":[");
	for (size_t i = 0, told = 0; i < report->record->evaluation_count; i++)
		if (isfinite(report->record->evaluations[i].loss))
			text_builder_append(
				page, "%s[%.0f,%.6g]", told++ ? "," : "",
				report->record->evaluations[i].step,
				report->record->evaluations[i].loss);
	text_builder_append(page, "]}");
	free(charts);
}

/* ---- where a step's time goes ---- */

static void append_time_legend(struct text_builder *page,
			       const struct recorded_step *recorded)
{
	text_builder_append(page,
			    "<ul class=\"legend\" aria-label=\"Legend\">");
	for (unsigned kind = 0; kind < RECORDED_KINDS; kind++) {
		double sum = 0;

		for (unsigned r = 0; r < recorded->ranks; r++)
			sum += recorded->seconds[r][kind];
		if (sum > 0)
			text_builder_append(
				page, "<li><i class=\"box %s\"></i>%s</li>",
				timeline_figure_class(kind),
				timeline_figure_words(kind));
	}
	text_builder_append(page, "</ul>");
}

/* The number in bold, where it stands in small. */
static void append_rank_name(struct text_builder *page, const char *label)
{
	size_t number = strcspn(label, ",");

	text_builder_append_bytes(page, label, number);
	if (label[number])
		text_builder_append(page, "<small>%s</small>",
				    label + number + 2);
}

/* What was recorded may be of an earlier start, with other ranks. */
static void recorded_label(const struct report *report, unsigned rank,
			   char *label, size_t size)
{
	if (report->recorded->ranks == record_ranks(report->record))
		record_rank_label(report->record, rank, label, size);
	else
		snprintf(label, size, "rank %u", rank);
}

static void append_rank_time(struct text_builder *page,
			     const struct report *report, unsigned rank)
{
	const double *seconds = report->recorded->seconds[rank];
	double total = 0, compute = 0, waiting;
	char label[96];

	for (unsigned kind = 0; kind < RECORDED_KINDS; kind++)
		total += seconds[kind];
	for (unsigned kind = 0; kind <= RECORDED_BACKWARD; kind++)
		compute += seconds[kind];
	waiting = seconds[RECORDED_WAIT] + seconds[RECORDED_IDLE];
	recorded_label(report, rank, label, sizeof(label));
	text_builder_append(page, "<tr><th scope=\"row\">");
	append_rank_name(page, label);
	text_builder_append(page,
			    "</th><td class=\"wide\"><div class=\"stack\">");
	for (unsigned kind = 0; kind < RECORDED_KINDS; kind++)
		if (seconds[kind] > 0 && total > 0)
			text_builder_append(
				page,
				"<i class=\"box %s\" style=\"width:%.2f%%\" title=\"%s: %.3g ms\"></i>",
				timeline_figure_class(kind),
				100 * seconds[kind] / total,
				timeline_figure_words(kind),
				1e3 * seconds[kind]);
	text_builder_append(
		page,
		"</div></td><td>%.1f ms</td><td>%.1f ms</td><td>%.1f ms</td><td>%.1f ms</td><td>%.1f %%</td></tr>\n",
		1e3 * compute, 1e3 * seconds[RECORDED_SEND], 1e3 * waiting,
		1e3 * seconds[RECORDED_END],
		total > 0 ? 100 * compute / total : 0);
}

static void append_recorded_time(struct text_builder *page,
				 const struct report *report)
{
	text_builder_append(
		page,
		"<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Time by action\"><table>\n<caption>Mean of %u recorded steps. Waiting: for messages of other ranks, and with nothing to do. Ends: reductions, the vote, the optimizer.</caption>\n<thead><tr><th scope=\"col\">Rank</th><th scope=\"col\" class=\"left\">Of a step</th><th scope=\"col\">Computes</th><th scope=\"col\">Sends</th><th scope=\"col\">Waits</th><th scope=\"col\">Ends</th><th scope=\"col\">Busy</th></tr></thead>\n<tbody>\n",
		report->recorded->steps);
	for (unsigned r = 0; r < report->recorded->ranks; r++)
		append_rank_time(page, report, r);
	text_builder_append(page, "</tbody></table></div>\n");
}

/* Without a recording the metrics tell the waiting, the mean of the ranks. */
static void append_waiting(struct text_builder *page,
			   const struct report *report)
{
	double waiting = median_of(report, RECORD_BUBBLE);
	double seconds = median_of(report, RECORD_STEP_SECONDS);

	waiting = MIN(MAX(waiting, 0.0), 1.0);
	text_builder_append(
		page,
		"<div class=\"stack tall\"><i class=\"box f\" style=\"width:%.2f%%\">computing, sending %.1f ms</i><i class=\"box wait\" style=\"width:%.2f%%\">waiting %.1f ms</i></div>\n<p class=\"note\">A step of median length, the mean of the ranks. <code>train --trace</code> records what each rank does: this page then shows it action by action.</p>\n",
		100 * (1 - waiting), 1e3 * seconds * (1 - waiting),
		100 * waiting, 1e3 * seconds * waiting);
}

void sections_append_time(struct text_builder *page,
			  const struct report *report)
{
	if (!report->recorded->ranks &&
	    !(isfinite(median_of(report, RECORD_BUBBLE)) &&
	      median_of(report, RECORD_STEP_SECONDS) > 0))
		return;
	text_builder_append(
		page,
		"<section aria-labelledby=\"time\">\n<div class=\"top\"><h2 id=\"time\">Where a step\xe2\x80\x99s time goes</h2>");
	if (report->recorded->ranks) {
		append_time_legend(page, report->recorded);
		text_builder_append(page, "</div>\n");
		append_recorded_time(page, report);
		timeline_figure_append(page, report->record, report->recorded);
	} else {
		text_builder_append(page, "</div>\n");
		append_waiting(page, report);
	}
	text_builder_append(page, "</section>\n");
}

/* ---- memory ---- */

static void append_rank_memory(struct text_builder *page,
			       const struct report *report, unsigned rank,
			       const char *label, double most)
{
	const struct record *record = report->record;
	uint64_t resident = (uint64_t)json_integer_value(json_array_get(
		json_object_get(record->memory, "resident_bytes"), rank));
	uint64_t peak = (uint64_t)json_integer_value(json_array_get(
		json_object_get(record->memory, "peak_bytes"), rank));
	const char *host = json_string_value(
		json_array_get(json_object_get(record->start, "hosts"), rank));
	char holds[32], high[32];

	text_bytes(holds, sizeof(holds), resident);
	text_bytes(high, sizeof(high), peak);
	text_builder_append(page, "<tr><th scope=\"row\">");
	append_rank_name(page, label);
	if (host && host[0]) {
		text_builder_append(page, "<small>");
		page_append_text(page, host);
		text_builder_append(page, "</small>");
	}
	text_builder_append(
		page,
		"</th><td class=\"wide\"><div class=\"meter\"><i class=\"peak\" style=\"width:%.2f%%\"></i><i class=\"holds\" style=\"width:%.2f%%\"></i></div></td><td>%s</td><td>%s</td></tr>\n",
		100 * (double)peak / most, 100 * (double)resident / most, holds,
		high);
}

static double most_bytes(const json_t *memory)
{
	static const char *const keys[] = {"resident_bytes", "peak_bytes"};
	json_int_t most = 0;
	const json_t *entry;
	size_t i;

	for (unsigned k = 0; k < ARRAY_SIZE(keys); k++)
		json_array_foreach(json_object_get(memory, keys[k]), i, entry)
			most = MAX(most, json_integer_value(entry));
	return (double)most;
}

/* Ranks that are threads have no memory of their own: null in all but one. */
static bool one_process(const json_t *bytes)
{
	return json_array_size(bytes) > 1 &&
	       json_is_null(json_array_get(bytes, 1));
}

void sections_append_memory(struct text_builder *page,
			    const struct report *report)
{
	const struct record *record = report->record;
	const json_t *bytes = json_object_get(record->memory, "resident_bytes");
	double most = most_bytes(record->memory);
	char step[32];

	if (!(most > 0))
		return;
	text_builder_append(
		page,
		"<section aria-labelledby=\"memory\">\n<div class=\"top\"><h2 id=\"memory\">Memory</h2></div>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Memory by rank\"><table>\n<caption><i class=\"holds\"></i>at the checkpoint of step %s: own pages and shared memory <i class=\"peak\"></i>most so far, mapped files included</caption>\n<thead><tr><th scope=\"col\">Rank</th><th scope=\"col\" class=\"left\"></th><th scope=\"col\">Holds</th><th scope=\"col\">Peak</th></tr></thead>\n<tbody>\n",
		text_grouped(step, sizeof(step),
			     (uint64_t)json_integer_value(
				     json_object_get(record->memory, "step"))));
	if (one_process(bytes)) {
		append_rank_memory(page, report, 0,
				   "all ranks, threads of one process", most);
	} else {
		for (unsigned r = 0; r < json_array_size(bytes); r++) {
			char label[96];

			record_rank_label(record, r, label, sizeof(label));
			append_rank_memory(page, report, r, label, most);
		}
	}
	text_builder_append(page, "</tbody></table></div>\n</section>\n");
}
