#include "tools/report/chart.h"
#include "base/log.h"
#include "tools/page.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The curves' own coordinates; they are stretched to the width there is. */
#define EXTENT 10000.0

/* Gaps drawn one by one; a curve of more has none that the eye could tell. */
#define GAPS_MAX 200

/* One chart on its way to the page. */
struct drawing {
	const struct chart *chart;
	struct text_builder *page;
	struct columns *light, *strong; /* by how far their means reach */
	double low, high;               /* of the axis of values */
	bool logarithmic;
};

char *chart_number(char *buffer, size_t size, double value, bool percent)
{
	double size_of = fabs(value);

	if (!isfinite(value))
		snprintf(buffer, size, "not finite");
	else if (percent)
		snprintf(buffer, size, "%.3g %%", 100 * value);
	else if (size_of >= 1e15)
		snprintf(buffer, size, "%.4g", value);
	else if (size_of >= 1e9)
		snprintf(buffer, size, "%.4gG", value / 1e9);
	else if (size_of >= 1e6)
		snprintf(buffer, size, "%.4gM", value / 1e6);
	else if (size_of >= 1e4)
		snprintf(buffer, size, "%.4gk", value / 1e3);
	else
		snprintf(buffer, size, "%.4g", value);
	return buffer;
}

char *chart_time(char *buffer, size_t size, double seconds)
{
	if (seconds < 1)
		snprintf(buffer, size, "%.4g ms", 1e3 * seconds);
	else
		snprintf(buffer, size, "%.4g s", seconds);
	return buffer;
}

/* ---- scales ---- */

static double x_of(const struct drawing *d, double step)
{
	double length = d->chart->last - d->chart->first;

	return length > 0 ? (step - d->chart->first) / length : 0.5;
}

/* 0 is the top. */
static double y_of(const struct drawing *d, double value)
{
	if (d->logarithmic)
		return 1 - log(value / d->low) / log(d->high / d->low);
	return 1 - (value - d->low) / (d->high - d->low);
}

static void choose_scale(struct drawing *d)
{
	const struct chart *chart = d->chart;
	double room;

	d->low = d->light->low;
	d->high = d->light->high;
	for (size_t i = 0; i < chart->point_count; i++) {
		if (!isfinite(chart->points[i].loss))
			continue;
		d->low = MIN(d->low, chart->points[i].loss);
		d->high = MAX(d->high, chart->points[i].loss);
	}
	d->logarithmic = !chart->percent && !chart->from_zero && d->low > 0 &&
			 d->high > 30 * d->low;
	if (d->logarithmic) {
		room = pow(d->high / d->low, 0.05);
		d->low /= room;
		d->high *= room;
		return;
	}
	if (chart->from_zero && d->low >= 0)
		d->low = 0;
	room = d->high > d->low ? 0.06 * (d->high - d->low)
				: MAX(fabs(d->high) * 0.1, 1e-12);
	d->high += room;
	if (!chart->from_zero || d->low < 0)
		d->low -= room;
}

static unsigned value_ticks(const struct drawing *d,
			    double ticks[COLUMNS_TICKS_MAX])
{
	unsigned count;

	if (!d->logarithmic)
		return columns_ticks(d->low, d->high, false, ticks);
	count = columns_log_ticks(d->low, d->high, ticks);
	return count >= 2 ? count
			  : columns_ticks(d->low, d->high, false, ticks);
}

/* ---- curves ---- */

static void append_point(const struct drawing *d, char command, double step,
			 double value)
{
	text_builder_append(d->page, "%c%.0f %.0f", command,
			    EXTENT * x_of(d, step), EXTENT * y_of(d, value));
}

/* A piece of one point is a dot: a line of no length with round ends. */
static void append_break(const struct drawing *d, double step, double value)
{
	append_point(d, 'M', step, value);
	text_builder_append(d->page, "h0");
}

/* The values themselves, joined where nothing is missing between them. */
static void append_values(const struct drawing *d)
{
	text_builder_append(d->page, "<path class=\"raw\" d=\"");
	for (unsigned i = 0; i < d->light->count; i++) {
		const struct column *column = &d->light->column[i];

		if (column->follows && i)
			append_point(d, 'L', column->step, column->high);
		else
			append_break(d, column->step, column->high);
	}
	text_builder_append(d->page, "\"/>");
}

/* Columns [from, to) as an area between least and greatest. */
static void append_area(const struct drawing *d, unsigned from, unsigned to)
{
	const struct column *column = d->light->column;

	for (unsigned i = from; i < to; i++)
		append_point(d, i == from ? 'M' : 'L', column[i].step,
			     column[i].high);
	for (unsigned i = to; i-- > from;)
		append_point(d, 'L', column[i].step, column[i].low);
	text_builder_append(d->page, "Z");
}

static void append_band(const struct drawing *d)
{
	unsigned from = 0;

	text_builder_append(d->page, "<path class=\"band\" d=\"");
	for (unsigned i = 1; i <= d->light->count; i++) {
		if (i < d->light->count && d->light->column[i].follows)
			continue;
		append_area(d, from, i);
		from = i;
	}
	text_builder_append(d->page, "\"/>");
}

static void append_means(const struct drawing *d, const struct columns *columns,
			 const char *name)
{
	text_builder_append(d->page, "<path class=\"mean %s\" d=\"", name);
	for (unsigned i = 0; i < columns->count; i++) {
		const struct column *column = &columns->column[i];

		if (column->follows && i)
			append_point(d, 'L', column->step, column->smooth);
		else
			append_break(d, column->step, column->smooth);
	}
	text_builder_append(d->page, "\"/>");
}

static void append_points(const struct drawing *d)
{
	const struct chart *chart = d->chart;

	if (!chart->point_count)
		return;
	for (unsigned pass = 0; pass < 2; pass++) {
		char command = 'M';

		text_builder_append(d->page, "<path class=\"%s\" d=\"",
				    pass ? "dots" : "join");
		for (size_t i = 0; i < chart->point_count; i++) {
			const struct record_evaluation *at = &chart->points[i];

			if (!isfinite(at->loss))
				continue;
			append_point(d, command, at->step, at->loss);
			if (pass)
				text_builder_append(d->page, "h0");
			else
				command = 'L';
		}
		text_builder_append(d->page, "\"/>");
	}
}

/* ---- what stands around them ---- */

static void append_grid(const struct drawing *d)
{
	double ticks[COLUMNS_TICKS_MAX];
	unsigned count = value_ticks(d, ticks);

	for (unsigned i = 0; i < count; i++) {
		double y = 100 * y_of(d, ticks[i]);

		text_builder_append(
			d->page,
			"<line class=\"grid\" x2=\"100%%\" y1=\"%.2f%%\" y2=\"%.2f%%\"/>",
			y, y);
	}
}

/* Steps of which metrics.jsonl says nothing. */
static void append_gaps(const struct drawing *d)
{
	const struct chart *chart = d->chart;
	unsigned drawn = 0;

	for (size_t i = 1; i < chart->count && drawn < GAPS_MAX; i++) {
		double from = chart->step[i - 1], to = chart->step[i];

		if (to - from <= 1)
			continue;
		drawn++;
		text_builder_append(
			d->page,
			"<rect class=\"gap\" x=\"%.3f%%\" width=\"%.3f%%\" height=\"100%%\"><title>no metrics of steps %.0f to %.0f</title></rect>",
			100 * x_of(d, from),
			100 * (x_of(d, to) - x_of(d, from)), from + 1, to - 1);
	}
}

static void append_resumes(const struct drawing *d)
{
	for (size_t i = 0; i < d->chart->resume_count; i++) {
		double x = 100 * x_of(d, d->chart->resumes[i]);

		text_builder_append(
			d->page,
			"<line class=\"resume\" x1=\"%.3f%%\" x2=\"%.3f%%\" y2=\"100%%\"><title>resumed after step %.0f</title></line>",
			x, x, d->chart->resumes[i]);
	}
}

static void append_value_axis(const struct drawing *d)
{
	double ticks[COLUMNS_TICKS_MAX];
	unsigned count = value_ticks(d, ticks);
	char text[32];

	text_builder_append(d->page,
			    "<div class=\"values\" aria-hidden=\"true\">");
	for (unsigned i = 0; i < count; i++)
		text_builder_append(d->page,
				    "<span style=\"top:%.2f%%\">%s</span>",
				    100 * y_of(d, ticks[i]),
				    chart_number(text, sizeof(text), ticks[i],
						 d->chart->percent));
	text_builder_append(d->page, "</div>");
}

static void append_step_axis(const struct drawing *d)
{
	double ticks[COLUMNS_TICKS_MAX];
	unsigned count =
		columns_ticks(d->chart->first, d->chart->last, true, ticks);

	text_builder_append(d->page,
			    "<div class=\"steps\" aria-hidden=\"true\">");
	for (unsigned i = 0; i < count; i++) {
		double x = x_of(d, ticks[i]);
		char text[32];

		text_grouped(text, sizeof(text), (uint64_t)ticks[i]);
		text_builder_append(
			d->page, "<span style=\"left:%.2f%%\"%s>%s</span>",
			100 * x, x > 0.97 ? " class=\"end\"" : "", text);
	}
	text_builder_append(d->page, "</div>");
}

/* In words, for those who do not see it, and as the caption. */
static void append_words(const struct drawing *d)
{
	const struct columns *c = d->light;
	const struct column *end = &c->column[c->count - 1];
	bool percent = d->chart->percent;
	char low[32], high[32], now[32];

	text_builder_append(
		d->page, "now %s, least %s, greatest %s",
		chart_number(now, sizeof(now), end->smooth, percent),
		chart_number(low, sizeof(low), c->low, percent),
		chart_number(high, sizeof(high), c->high, percent));
	if (c->lost)
		text_builder_append(d->page, ", %zu not finite or not told",
				    c->lost);
}

static void append_caption(const struct drawing *d)
{
	text_builder_append(d->page, "<figcaption><b>");
	page_append_text(d->page, d->chart->title);
	text_builder_append(d->page, "</b> ");
	if (d->chart->unit[0]) {
		page_append_text(d->page, d->chart->unit);
		text_builder_append(d->page, " \xc2\xb7 ");
	}
	append_words(d);
	if (d->logarithmic)
		text_builder_append(d->page, ", log scale");
	text_builder_append(d->page, "</figcaption>");
}

static void append_plot(const struct drawing *d)
{
	text_builder_append(
		d->page,
		"<div class=\"plot\" style=\"height:%upx\" role=\"img\" tabindex=\"0\" aria-label=\"",
		d->chart->height);
	page_append_text(d->page, d->chart->title);
	text_builder_append(d->page, " over the steps: ");
	append_words(d);
	text_builder_append(d->page, "\"><svg class=\"frame\">");
	append_grid(d);
	append_gaps(d);
	append_resumes(d);
	text_builder_append(
		d->page,
		"<svg viewBox=\"0 0 %.0f %.0f\" preserveAspectRatio=\"none\">",
		EXTENT, EXTENT);
	if (d->light->whole)
		append_values(d);
	else
		append_band(d);
	append_means(d, d->light, "light");
	append_means(d, d->strong, "strong");
	append_points(d);
	text_builder_append(d->page, "</svg></svg></div>");
}

/* ---- a chart ---- */

/* How far the two means reach: to either side: a 150th of what there is, a 30th. */
static bool begin(struct drawing *d, struct text_builder *page,
		  const struct chart *chart)
{
	double count = (double)chart->count;

	*d = (struct drawing){.chart = chart,
			      .page = page,
			      .light = malloc(sizeof(*d->light)),
			      .strong = malloc(sizeof(*d->strong))};
	if (!d->light || !d->strong) {
		page->failed = true;
		return false;
	}
	if (columns_fill(chart->step, chart->value, chart->count,
			 chart->exact ? 1 : count / 150, d->light) ||
	    columns_fill(chart->step, chart->value, chart->count,
			 chart->exact ? 1 : MAX(count / 30, 3.0), d->strong)) {
		page->failed = true;
		return false;
	}
	return d->light->count > 0;
}

static void end(struct drawing *d)
{
	free(d->light);
	free(d->strong);
}

void chart_append(struct text_builder *page, const struct chart *chart)
{
	struct drawing d;

	if (begin(&d, page, chart)) {
		choose_scale(&d);
		text_builder_append(
			page,
			"<figure class=\"chart\" data-key=\"%s\" data-low=\"%.9g\" data-high=\"%.9g\"%s%s>",
			chart->key, d.low, d.high,
			d.logarithmic ? " data-log=\"1\"" : "",
			chart->percent ? " data-percent=\"1\"" : "");
		append_caption(&d);
		append_value_axis(&d);
		append_plot(&d);
		append_step_axis(&d);
		text_builder_append(page, "</figure>\n");
	}
	end(&d);
}

/* ---- its data ---- */

static void append_numbers(const struct drawing *d, const char *key,
			   const struct columns *columns, size_t offset)
{
	text_builder_append(d->page, ",\"%s\":[", key);
	for (unsigned i = 0; i < columns->count; i++)
		text_builder_append(
			d->page, "%s%.6g", i ? "," : "",
			*(const double *)((const char *)&columns->column[i] +
					  offset));
	text_builder_append(d->page, "]");
}

bool chart_append_data(struct text_builder *page, const struct chart *chart)
{
	struct drawing d;
	bool any = begin(&d, page, chart);

	if (any) {
		text_builder_append(page, "\"%s\":{\"whole\":%s", chart->key,
				    d.light->whole ? "true" : "false");
		append_numbers(&d, "step", d.light,
			       offsetof(struct column, step));
		append_numbers(&d, "low", d.light,
			       offsetof(struct column, low));
		if (!d.light->whole)
			append_numbers(&d, "high", d.light,
				       offsetof(struct column, high));
		append_numbers(&d, "light", d.light,
			       offsetof(struct column, smooth));
		append_numbers(&d, "strong", d.strong,
			       offsetof(struct column, smooth));
		text_builder_append(page, "}");
	}
	end(&d);
	return any;
}
