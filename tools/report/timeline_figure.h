/*
 * A recorded step as a figure: a row a rank, a box an action. Where there are
 * more actions than a picture can tell apart, each sliver of time shows what
 * took most of it, and the caption says so.
 */
#ifndef STAGECOACH_TOOLS_REPORT_TIMELINE_FIGURE_H
#define STAGECOACH_TOOLS_REPORT_TIMELINE_FIGURE_H

#include "base/text.h"
#include "tools/report/record.h"
#include "tools/report/recorded_step.h"

void timeline_figure_append(struct text_builder *page,
			    const struct record *record,
			    const struct recorded_step *recorded);

/* f, i, w, b, send, wait, end, idle: the classes and colours of the page. */
const char *timeline_figure_class(enum recorded_kind kind);
const char *timeline_figure_words(enum recorded_kind kind);

#endif
