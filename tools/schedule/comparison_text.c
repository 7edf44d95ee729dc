/* A comparison as a table, as JSON, as a trace: see comparison.h. */
#include "base/log.h"
#include "base/text.h"
#include "engine/trace_json.h"
#include "tools/schedule/common.h"
#include "tools/schedule/comparison.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* ---- figures ---- */

/* 0.66 s, 33.1 ms, or a plain number. */
static const char *time_text(const struct comparison *comparison, char *buffer,
			     size_t size, double time)
{
	if (!comparison->setting.costs.seconds)
		return schedule_command_number(buffer, size, time);
	if (time >= 1)
		snprintf(buffer, size, "%.3f s", time);
	else if (time >= 1e-3)
		snprintf(buffer, size, "%.2f ms", time * 1e3);
	else
		snprintf(buffer, size, "%.1f us", time * 1e6);
	return buffer;
}

static double predicted_bubble(const struct comparison_entry *entry)
{
	const struct schedule_simulation *simulation =
		&entry->prediction.simulation;

	return simulation->makespan > 0
		       ? simulation->bubble / simulation->makespan
		       : 0;
}

/* The mean share of a rank's step that computing did not take. */
static double measured_bubble(const struct comparison_entry *entry)
{
	double busy = 0;

	for (unsigned r = 0; r < entry->measured.ranks; r++) {
		struct timeline_share share;

		timeline_share(&entry->measured, r, &share);
		busy += share.compute;
	}
	return 1 - busy / (entry->measured.ranks * entry->measured.span);
}

/* Bytes a rank sends a step: its messages, and its half of a tie. */
static double bytes_sent(const struct comparison *comparison,
			 const struct comparison_entry *entry, unsigned rank)
{
	const struct schedule *lowered = entry->prediction.lowered;
	const struct schedule_row *row = &lowered->rows[rank];
	double bytes = 0;

	for (size_t i = 0; i < row->count; i++)
		switch (row->actions[i].op) {
		case ACTION_SEND_FORWARD:
		case ACTION_SEND_BACKWARD:
			bytes += comparison->setting.costs.message_bytes;
			break;
		case ACTION_REDUCE_TIED:
			if (lowered->rank_of_stage[0] !=
			    lowered->rank_of_stage[lowered->stages - 1])
				bytes += comparison->setting.costs.tied_bytes;
			break;
		}
	return bytes;
}

static double total_sent(const struct comparison *comparison,
			 const struct comparison_entry *entry)
{
	double bytes = 0;

	for (unsigned r = 0; r < entry->prediction.lowered->ranks; r++)
		bytes += bytes_sent(comparison, entry, r);
	return bytes;
}

static const char *size_text(char *buffer, size_t size, double bytes)
{
	return text_bytes(buffer, size, (uint64_t)bytes);
}

/* A time in a sentence: 20 ms, 0.2119 ms, or a plain number. */
static const char *time_words(const struct comparison *comparison, char *buffer,
			      size_t size, double time)
{
	if (!comparison->setting.costs.seconds)
		return schedule_command_number(buffer, size, time);
	if (time >= 1)
		snprintf(buffer, size, "%.4g s", time);
	else
		snprintf(buffer, size, "%.4g ms", time * 1e3);
	return buffer;
}

static void describe_costs(const struct comparison *comparison, char *buffer,
			   size_t size)
{
	const struct costs *costs = &comparison->setting.costs;
	char f[40], i[40], w[40];

	if (costs->kind == COSTS_SLICE)
		snprintf(buffer, size, "F %s, I %s, W %s of a rank's slice",
			 time_words(comparison, f, sizeof(f),
				    costs->rows[0].forward),
			 time_words(comparison, i, sizeof(i),
				    costs->rows[0].input),
			 time_words(comparison, w, sizeof(w),
				    costs->rows[0].weight));
	else
		snprintf(buffer, size, "%s: %u %s", costs->origin, costs->count,
			 costs_rows_name(costs->kind));
}

static void describe_links(const struct comparison *comparison, char *buffer,
			   size_t size)
{
	const struct costs *costs = &comparison->setting.costs;
	char latency[40], limit[64] = "no bandwidth limit", message[40];
	char send[40];

	if (costs->latency <= 0 && costs->bandwidth <= 0 && costs->send <= 0) {
		snprintf(buffer, size, "messages take no time");
		return;
	}
	if (costs->bandwidth > 0)
		snprintf(limit, sizeof(limit), "%.4g B/%s", costs->bandwidth,
			 costs->seconds ? "s" : "unit");
	if (comparison->links_measured)
		snprintf(limit, sizeof(limit), "%s to hand over (measured)",
			 time_words(comparison, send, sizeof(send),
				    costs->send));
	if (costs->message_bytes > 1)
		size_text(message, sizeof(message), costs->message_bytes);
	else
		snprintf(message, sizeof(message), "no size");
	snprintf(buffer, size, "messages of %s, latency %s, %s", message,
		 time_words(comparison, latency, sizeof(latency),
			    costs->latency),
		 limit);
}

/* ---- the table ---- */

static bool any_measured(const struct comparison *comparison)
{
	for (size_t i = 0; i < comparison->count; i++)
		if (comparison->entries[i].seconds_count)
			return true;
	return false;
}

static bool any_bytes(const struct comparison *comparison)
{
	for (size_t i = 0; i < comparison->count; i++)
		if (comparison->entries[i].prediction.activation_bytes)
			return true;
	return false;
}

static void append_entry(struct text_builder *text,
			 const struct comparison *comparison,
			 const struct comparison_entry *entry, bool measured,
			 bool bytes)
{
	char predicted[40], real[40], peak[40], sent[40];

	text_builder_append(text, "%-16s %6u %12s", entry->name,
			    entry->schedule->chunks,
			    time_text(comparison, predicted, sizeof(predicted),
				      entry->prediction.simulation.makespan));
	if (measured)
		text_builder_append(text, " %12s %+7.2f %%",
				    time_text(comparison, real, sizeof(real),
					      comparison_step_time(entry)),
				    100 * comparison_error(entry));
	text_builder_append(text, " %6.1f %%", 100 * predicted_bubble(entry));
	if (measured)
		text_builder_append(text, " %6.1f %%",
				    100 * measured_bubble(entry));
	if (bytes)
		size_text(peak, sizeof(peak), entry->peak_bytes);
	else
		schedule_command_number(peak, sizeof(peak),
					comparison_peak_micro_batches(entry));
	text_builder_append(
		text, " %10s %10s %7u%s\n", peak,
		comparison->setting.costs.message_bytes > 1
			? size_text(sent, sizeof(sent),
				    total_sent(comparison, entry))
			: schedule_command_number(
				  sent, sizeof(sent),
				  total_sent(comparison, entry)),
		entry->prediction.report.buffers_full_speed,
		entry->prediction.report.bit_identical ? "" : "  other bits");
}

static void append_heading(struct text_builder *text,
			   const struct comparison *comparison, bool measured,
			   bool colour)
{
	bool sizes = comparison->setting.costs.message_bytes > 1;

	text_builder_append(text, "%s%-16s %6s %12s", colour ? "\033[1m" : "",
			    "schedule", "chunks", "predicted");
	if (measured)
		text_builder_append(text, " %12s %9s", "measured", "error");
	text_builder_append(text, " %8s", "bubble");
	if (measured)
		text_builder_append(text, " %8s", "measured");
	text_builder_append(text, " %10s %10s %7s%s\n", "peak",
			    sizes ? "sent" : "messages", "buffers",
			    colour ? "\033[0m" : "");
}

/* What the columns are, for whoever has not read the manual. */
static void append_legend(struct text_builder *text,
			  const struct comparison *comparison)
{
	char words[512];

	snprintf(
		words, sizeof(words),
		"Times of a step; bubble: share of it that a rank does not compute, the mean; peak: activations on the fullest rank%s; %s by all ranks; buffers: posted receives a link, at full speed.",
		any_bytes(comparison) ? ""
				      : ", micro-batches through its slice",
		comparison->setting.costs.message_bytes > 1 ? "bytes sent"
							    : "messages sent");
	text_builder_append(text, "\n");
	schedule_command_append_wrapped(text, words, 0, 0);
	text_builder_append(text, "\n");
}

static void append_entries(struct text_builder *text,
			   const struct comparison *comparison, bool measured)
{
	bool bytes = any_bytes(comparison);

	for (size_t i = 0; i < comparison->count; i++) {
		const struct comparison_entry *entry = &comparison->entries[i];

		if (entry->why[0])
			text_builder_append(text, "%-16s not compared: %s\n",
					    entry->name, entry->why);
		else
			append_entry(text, comparison, entry, measured, bytes);
	}
}

char *comparison_table(const struct comparison *comparison, bool colour)
{
	bool measured = any_measured(comparison);
	struct text_builder text;
	char costs[256], links[256];

	text_builder_init(&text);
	describe_costs(comparison, costs, sizeof(costs));
	describe_links(comparison, links, sizeof(links));
	text_builder_append(&text, "%u ranks, %u micro-batches; %s;\n%s\n\n",
			    comparison->ranks, comparison->micro_batches, costs,
			    links);
	append_heading(&text, comparison, measured, colour);
	append_entries(&text, comparison, measured);
	append_legend(&text, comparison);
	return text_builder_finish(&text);
}

/* ---- JSON ---- */

static json_t *numbers_json(const double *numbers, size_t count)
{
	json_t *array = json_array();

	for (size_t i = 0; i < count; i++)
		json_array_append_new(array, json_real(numbers[i]));
	return array;
}

static json_t *predicted_json(const struct comparison *comparison,
			      const struct comparison_entry *entry)
{
	const struct schedule_prediction *prediction = &entry->prediction;
	const struct schedule_simulation *simulation = &prediction->simulation;
	json_t *peaks = json_array(), *sent = json_array(), *object;

	for (unsigned r = 0; r < simulation->ranks; r++) {
		json_array_append_new(
			peaks,
			json_real((double)simulation->peak_activations[r] /
				  prediction->lowered->chunks));
		json_array_append_new(
			sent, json_real(bytes_sent(comparison, entry, r)));
	}
	object = json_pack(
		"{s:f, s:f, s:o, s:o, s:i, s:i}", "step_time",
		simulation->makespan, "bubble", predicted_bubble(entry),
		"peak_activations", peaks, "bytes_sent", sent, "buffers_safe",
		(int)prediction->report.buffers_safe, "buffers_full_speed",
		(int)prediction->report.buffers_full_speed);
	json_object_set_new(object, "peak_bytes",
			    prediction->activation_bytes
				    ? numbers_json(simulation->peak_bytes,
						   simulation->ranks)
				    : json_null());
	return object;
}

static json_t *measured_json(const struct comparison_entry *entry)
{
	double best = entry->seconds[0], worst = entry->seconds[0];

	for (size_t i = 0; i < entry->seconds_count; i++) {
		best = MIN(best, entry->seconds[i]);
		worst = MAX(worst, entry->seconds[i]);
	}
	return json_pack(
		"{s:f, s:f, s:f, s:i, s:f, s:f}", "step_time",
		comparison_step_time(entry), "bubble", measured_bubble(entry),
		"error", comparison_error(entry), "steps",
		(int)entry->seconds_count, "best", best, "worst", worst);
}

static const char *placement_text(enum schedule_placement placement)
{
	return placement == SCHEDULE_PLACEMENT_LOOP ? "loop"
	       : placement == SCHEDULE_PLACEMENT_V  ? "V"
						    : "free";
}

static void set_timelines(json_t *object, const struct comparison_entry *entry)
{
	const struct schedule_prediction *prediction = &entry->prediction;
	const struct schedule *lowered = prediction->lowered;
	json_t *ranks = json_array();

	for (unsigned s = 0; s < lowered->stages; s++)
		json_array_append_new(ranks,
				      json_integer(lowered->rank_of_stage[s]));
	json_object_set_new(object, "rank_of_stage", ranks);
	json_object_set_new(object, "activation_bytes",
			    prediction->activation_bytes
				    ? numbers_json(prediction->activation_bytes,
						   lowered->stages)
				    : json_null());
	json_object_set_new(object, "predicted_timeline",
			    timeline_to_json(&entry->predicted));
	if (entry->seconds_count)
		json_object_set_new(object, "measured_timeline",
				    timeline_to_json(&entry->measured));
}

static json_t *entry_json(const struct comparison *comparison,
			  const struct comparison_entry *entry, bool timelines)
{
	const struct schedule_kind *kind = schedule_kind_find(entry->name);
	json_t *object;

	if (entry->why[0])
		return json_pack("{s:s, s:s}", "name", entry->name, "refused",
				 entry->why);
	object = json_pack(
		"{s:s, s:s, s:i, s:s, s:b, s:o}", "name", entry->name, "title",
		kind ? kind->title : "a schedule from a file", "chunks",
		(int)entry->schedule->chunks, "placement",
		placement_text(entry->schedule->placement), "bit_identical",
		entry->prediction.report.bit_identical, "predicted",
		predicted_json(comparison, entry));
	if (object && entry->seconds_count)
		json_object_set_new(object, "measured", measured_json(entry));
	if (object && timelines)
		set_timelines(object, entry);
	return object;
}

json_t *comparison_json(const struct comparison *comparison, bool timelines)
{
	char costs[256], links[256];
	json_t *array = json_array(), *object;

	describe_costs(comparison, costs, sizeof(costs));
	describe_links(comparison, links, sizeof(links));
	for (size_t i = 0; i < comparison->count; i++)
		json_array_append_new(array, entry_json(comparison,
							&comparison->entries[i],
							timelines));
	object = json_pack("{s:s, s:i, s:i, s:s, s:s, s:s, s:s, s:o}", "title",
			   comparison->title, "ranks", (int)comparison->ranks,
			   "micro_batches", (int)comparison->micro_batches,
			   "unit", comparison->setting.costs.seconds ? "s" : "",
			   "costs", costs, "links", links, "activation_unit",
			   any_bytes(comparison) ? "bytes" : "micro-batches",
			   "schedules", array);
	json_object_set_new(object, "memory_cap",
			    comparison->memory_cap > 0
				    ? json_real(comparison->memory_cap)
				    : json_null());
	return object;
}

/* ---- the trace ---- */

int comparison_trace(const struct comparison *comparison, const char *path)
{
	/* Plain numbers are shown as milliseconds. */
	struct trace_json_place place = {
		.scale = comparison->setting.costs.seconds ? 1 : 1e-3};
	struct trace_json *trace;
	int rc = trace_json_create(path, &trace);

	for (size_t i = 0; !rc && i < comparison->count; i++) {
		const struct comparison_entry *entry = &comparison->entries[i];
		char name[96];

		if (entry->why[0])
			continue;
		snprintf(name, sizeof(name), "%s, predicted", entry->name);
		trace_json_add_timeline(
			trace,
			trace_json_add_process(trace, name,
					       entry->predicted.ranks),
			&entry->predicted, &place);
		if (!entry->seconds_count)
			continue;
		snprintf(name, sizeof(name), "%s, measured", entry->name);
		trace_json_add_timeline(
			trace,
			trace_json_add_process(trace, name,
					       entry->measured.ranks),
			&entry->measured, &place);
	}
	return rc ? rc : trace_json_close(trace);
}
