/*
 * A curve over the steps of a run, as a figure of HTML with inline SVG, which
 * needs no script: axes, the values as they are and as exponential means, the marks
 * of resumes, the steps of which nothing is known.
 */
#ifndef STAGECOACH_TOOLS_REPORT_CHART_H
#define STAGECOACH_TOOLS_REPORT_CHART_H

#include "base/text.h"
#include "tools/report/columns.h"
#include "tools/report/record.h"

struct chart {
	const char *key;   /* for the script: a name within the page */
	const char *title; /* plain text, as the next one */
	const char *unit;  /* said behind the title; may be "" */
	bool percent;      /* values are shares */
	bool exact;        /* nothing to smooth */
	bool from_zero;    /* the axis begins there */
	unsigned height;   /* pixels */

	const double *step, *value; /* [count] */
	size_t count;
	/* Evaluations, drawn as dots joined by a line; may be NULL. */
	const struct record_evaluation *points;
	size_t point_count;
	const double *resumes; /* [resume_count] steps after which one began */
	size_t resume_count;
	double first, last; /* the axis of steps, for all charts the same */
};

/* Appends the figure; nothing where there is nothing to draw. */
void chart_append(struct text_builder *page, const struct chart *chart);

/*
 * Appends what the script reads of a chart, `"key":{...}`, for the pointer:
 * steps, least, greatest and means, column by column. False: nothing to tell.
 */
bool chart_append_data(struct text_builder *page, const struct chart *chart);

/* 13.2 ms, 1.06 s: with four digits. Returns buffer. */
char *chart_time(char *buffer, size_t size, double seconds);

/* 12.3k, 0.00125, 3.1 %: with four digits. Returns buffer. */
char *chart_number(char *buffer, size_t size, double value, bool percent);

#endif
