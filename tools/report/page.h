/*
 * The page of `stagecoach report`: one file of HTML that needs no network, and
 * no script to be read: the curves are inline SVG.
 */
#ifndef STAGECOACH_TOOLS_REPORT_PAGE_H
#define STAGECOACH_TOOLS_REPORT_PAGE_H

#include "engine/costs.h"
#include "tools/options.h"
#include "tools/report/record.h"
#include "tools/report/recorded_step.h"

struct report {
	const struct record *record;
	const struct recorded_step *recorded; /* ranks 0: none */
	const struct costs *costs;            /* count 0: none */
	const struct option_spec *options;    /* train's table: their groups */
};

/*
 * Writes the page durably, replacing what is there, or not at all: a negative
 * errno, logged. No text of the run can become markup.
 */
int report_page_write(const char *path, const struct report *report) MUST_CHECK;

#endif
