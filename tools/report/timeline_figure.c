#include "tools/report/timeline_figure.h"
#include "schedules/schedule.h"
#include "tools/page.h"
#include "tools/report/chart.h"
#include "tools/report/columns.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Boxes of a figure; beyond, slivers. */
#define BOXES_MAX 6000
#define SLIVERS   2000
/* The width a label takes, in shares of a wide screen. */
#define DIGIT_SHARE 0.0066

static const char *const classes[RECORDED_KINDS] = {
	"f", "i", "w", "b", "send", "wait", "end", "idle"};
static const char *const words[RECORDED_KINDS] = {"F forward",
						  "I input gradient",
						  "W weight gradient",
						  "B both",
						  "send",
						  "wait",
						  "end of step",
						  "idle"};

const char *timeline_figure_class(enum recorded_kind kind)
{
	return classes[kind];
}

const char *timeline_figure_words(enum recorded_kind kind)
{
	return words[kind];
}

struct figure {
	struct text_builder *page;
	const struct recorded_step *recorded;
	unsigned row_height;
};

static unsigned row_height(unsigned ranks)
{
	if (ranks <= 16)
		return ranks <= 4 ? 26 : ranks <= 8 ? 22 : 17;
	return ranks <= 256 ? 12 : 4;
}

/* Later chunks of a rank are darker, as on the page of a comparison. */
static double shade(const struct recorded_step *recorded, unsigned stage)
{
	if (stage >= recorded->stages || recorded->chunks < 2)
		return 0;
	return 0.9 * recorded->chunk[stage] / MAX(2.0, recorded->chunks - 1.0);
}

static void append_fill(const struct figure *f, enum recorded_kind kind,
			double share)
{
	const char *class = classes[kind];

	text_builder_append(f->page, " class=\"k-%s\"", class);
	if (share > 0 && kind <= RECORDED_BACKWARD)
		text_builder_append(
			f->page,
			" style=\"fill:color-mix(in srgb,var(--%s-deep) %.0f%%,var(--%s))\"",
			class, 100 * share, class);
}

static void append_label(const struct figure *f,
			 const struct timeline_event *event, double top,
			 double share)
{
	const struct action *action = &event->action;
	enum recorded_kind kind = recorded_kind_of(action->op);
	double span = f->recorded->timeline.span;
	double width = (event->end - event->start) / span;
	unsigned digits = action->micro_batch < 10     ? 1
			  : action->micro_batch < 100  ? 2
			  : action->micro_batch < 1000 ? 3
						       : 5;
	bool light = kind == RECORDED_WEIGHT || kind == RECORDED_BACKWARD ||
		     share > 0.45;

	if (kind > RECORDED_BACKWARD || f->row_height < 17 ||
	    width < DIGIT_SHARE * digits + 0.004)
		return;
	text_builder_append(
		f->page, "<text class=\"%s\" x=\"%.3f%%\" y=\"%.1f\">%u</text>",
		light ? "light" : "deep",
		50 * (event->start + event->end) / span,
		top + f->row_height / 2.0 + 2.5, action->micro_batch);
}

static void append_box(const struct figure *f, unsigned rank,
		       const struct timeline_event *event)
{
	const struct action *action = &event->action;
	double span = f->recorded->timeline.span;
	double share = shade(f->recorded, action->stage);
	double top = (double)rank * f->row_height;
	unsigned gap = f->row_height >= 12 ? 3 : 1;
	char cell[32];

	text_builder_append(
		f->page,
		"<rect x=\"%.3f%%\" y=\"%.0f\" width=\"%.3f%%\" height=\"%u\"",
		100 * event->start / span, top,
		100 * (event->end - event->start) / span, f->row_height - gap);
	append_fill(f, recorded_kind_of(action->op), share);
	text_builder_append(
		f->page, "><title>%s: %.3f ms, from %.3f ms</title></rect>",
		schedule_action_text(cell, sizeof(cell), action),
		1e3 * (event->end - event->start), 1e3 * event->start);
	append_label(f, event, top, share);
}

/* What took most of each sliver of a rank's time. */
static void fill_slivers(const struct timeline *timeline, unsigned rank,
			 unsigned char kinds[SLIVERS], double *room)
{
	const struct timeline_row *row = &timeline->rows[rank];
	double width = timeline->span / SLIVERS;

	memset(room, 0, SLIVERS * RECORDED_KINDS * sizeof(*room));
	for (size_t i = 0; i < row->count; i++) {
		const struct timeline_event *event = &row->events[i];
		enum recorded_kind kind = recorded_kind_of(event->action.op);
		long first = (long)(event->start / width);

		for (long s = MAX(first, 0L);
		     s < SLIVERS && (double)s * width < event->end; s++) {
			double from = MAX(event->start, (double)s * width);
			double to = MIN(event->end, (double)(s + 1) * width);

			room[s * RECORDED_KINDS + kind] += MAX(to - from, 0.0);
		}
	}
	for (unsigned s = 0; s < SLIVERS; s++) {
		const double *here = room + s * RECORDED_KINDS;
		double idle = width;

		for (unsigned k = 0; k < RECORDED_IDLE; k++)
			idle -= here[k];
		kinds[s] = RECORDED_IDLE;
		for (unsigned k = 0; k < RECORDED_IDLE; k++)
			if (here[k] >
			    (kinds[s] == RECORDED_IDLE ? idle : here[kinds[s]]))
				kinds[s] = (unsigned char)k;
	}
}

static void append_slivers(const struct figure *f, unsigned rank, double *room)
{
	unsigned char kinds[SLIVERS];
	unsigned gap = f->row_height >= 12 ? 3 : 1;
	unsigned from = 0;

	fill_slivers(&f->recorded->timeline, rank, kinds, room);
	for (unsigned s = 1; s <= SLIVERS; s++) {
		if (s < SLIVERS && kinds[s] == kinds[from])
			continue;
		if (kinds[from] != RECORDED_IDLE)
			text_builder_append(
				f->page,
				"<rect x=\"%.2f%%\" y=\"%u\" width=\"%.2f%%\" height=\"%u\" class=\"k-%s\"/>",
				100.0 * from / SLIVERS, rank * f->row_height,
				100.0 * (s - from) / SLIVERS,
				f->row_height - gap, classes[kinds[from]]);
		from = s;
	}
}

static size_t count_boxes(const struct timeline *timeline)
{
	size_t count = 0;

	for (unsigned r = 0; r < timeline->ranks; r++)
		count += timeline->rows[r].count;
	return count;
}

static void append_rows(const struct figure *f, bool slivers)
{
	const struct timeline *timeline = &f->recorded->timeline;
	double *room =
		slivers ? malloc(SLIVERS * RECORDED_KINDS * sizeof(*room))
			: NULL;

	for (unsigned r = 0; r < timeline->ranks; r++) {
		text_builder_append(
			f->page,
			"<rect class=\"track\" y=\"%u\" width=\"100%%\" height=\"%u\"/>",
			r * f->row_height,
			f->row_height - (f->row_height >= 12 ? 3 : 1));
		if (room)
			append_slivers(f, r, room);
		for (size_t i = 0; !slivers && i < timeline->rows[r].count; i++)
			append_box(f, r, &timeline->rows[r].events[i]);
	}
	if (slivers && !room)
		f->page->failed = true;
	free(room);
}

/* Kinds are told apart by a texture, too, as on the page of a comparison. */
static void append_textures(const struct figure *f)
{
	static const char *const textures[][3] = {
		{"w", "6", "<path d=\"M-1 7L7 -1M-1 1L1 -1M5 7L7 5\"/>"},
		{"send", "3", "<path d=\"M.5 0V3\"/>"},
		{"wait", "4", "<path d=\"M1 1.5h1M3 3.5h1\"/>"},
		{"end", "3", "<path d=\"M0 .5H3\"/>"},
	};

	text_builder_append(f->page, "<defs>");
	for (unsigned i = 0; i < ARRAY_SIZE(textures); i++)
		text_builder_append(
			f->page,
			"<pattern id=\"texture-%s\" width=\"%s\" height=\"%s\" patternUnits=\"userSpaceOnUse\"><path class=\"ground-%s\" d=\"M0 0h%sv%sH0Z\"/>%s</pattern>",
			textures[i][0], textures[i][1], textures[i][1],
			textures[i][0], textures[i][1], textures[i][1],
			textures[i][2]);
	text_builder_append(f->page, "</defs>");
}

static void append_time_axis(const struct figure *f)
{
	double span = f->recorded->timeline.span, ticks[COLUMNS_TICKS_MAX];
	bool seconds = span >= 10;
	double unit = seconds ? 1 : 1e3;
	unsigned count = columns_ticks(0, span * unit, false, ticks);

	text_builder_append(f->page,
			    "<div class=\"steps\" aria-hidden=\"true\">");
	for (unsigned i = 0; i < count; i++) {
		double x = ticks[i] / unit / span;

		text_builder_append(
			f->page, "<span style=\"left:%.2f%%\"%s>%g%s</span>",
			100 * x, x > 0.97 ? " class=\"end\"" : "", ticks[i],
			i         ? ""
			: seconds ? " s"
				  : " ms");
	}
	text_builder_append(f->page, "</div>");
}

static void append_names(const struct figure *f, const struct record *record)
{
	unsigned every = (unsigned)ceil(14.0 / f->row_height);

	text_builder_append(f->page,
			    "<div class=\"names\" aria-hidden=\"true\">");
	for (unsigned r = 0; r < f->recorded->timeline.ranks; r += every) {
		char label[96];

		record_rank_label(record, r, label, sizeof(label));
		text_builder_append(
			f->page,
			"<span style=\"top:%.1fpx\" title=\"%s\">rank %u</span>",
			(r + 0.5) * f->row_height - 1.5, label, r);
	}
	text_builder_append(f->page, "</div>");
}

static void append_caption(const struct figure *f, size_t boxes)
{
	const struct recorded_step *recorded = f->recorded;
	char span[32];

	text_builder_append(f->page, "<figcaption><b>Step %llu</b> ",
			    (unsigned long long)recorded->step);
	page_append_text(f->page, recorded->schedule);
	text_builder_append(
		f->page,
		" \xc2\xb7 %s, the median of %u recorded steps (%llu to %llu) \xc2\xb7 ",
		chart_time(span, sizeof(span), recorded->timeline.span),
		recorded->steps, (unsigned long long)recorded->first,
		(unsigned long long)recorded->last);
	if (boxes > BOXES_MAX)
		text_builder_append(
			f->page,
			"%zu actions: each 1/%u of the time shows what took most of it",
			boxes, SLIVERS);
	else
		text_builder_append(f->page, "numbers are micro-batches");
	text_builder_append(f->page, "</figcaption>");
}

void timeline_figure_append(struct text_builder *page,
			    const struct record *record,
			    const struct recorded_step *recorded)
{
	const struct timeline *timeline = &recorded->timeline;
	struct figure f = {.page = page,
			   .recorded = recorded,
			   .row_height = row_height(timeline->ranks)};
	size_t boxes = count_boxes(timeline);
	char span[32];

	if (!(timeline->span > 0))
		return;
	text_builder_append(page, "<figure class=\"timeline\">");
	append_caption(&f, boxes);
	append_names(&f, record);
	text_builder_append(
		page,
		"<div class=\"rows\" role=\"img\" aria-label=\"What %u ranks did in step %llu, over %s; the table above has the sums\"><svg height=\"%u\">",
		timeline->ranks, (unsigned long long)recorded->step,
		chart_time(span, sizeof(span), timeline->span),
		timeline->ranks * f.row_height);
	append_textures(&f);
	append_rows(&f, boxes > BOXES_MAX);
	text_builder_append(page, "</svg></div>");
	append_time_axis(&f);
	text_builder_append(page, "</figure>\n");
}
