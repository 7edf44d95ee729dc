/*
 * The parts of a report's page, from top to bottom. Each appends nothing where
 * the run does not tell what it would show.
 */
#ifndef STAGECOACH_TOOLS_REPORT_SECTIONS_H
#define STAGECOACH_TOOLS_REPORT_SECTIONS_H

#include "base/text.h"
#include "tools/report/page.h"

/* The last part of the run's path. */
void sections_run_name(const struct report *report, char *name, size_t size);

void sections_append_head(struct text_builder *page,
			  const struct report *report);
void sections_append_tiles(struct text_builder *page,
			   const struct report *report);
void sections_append_curves(struct text_builder *page,
			    const struct report *report);
void sections_append_time(struct text_builder *page,
			  const struct report *report);
void sections_append_memory(struct text_builder *page,
			    const struct report *report);

/* sections_tables.c */
void sections_append_layers(struct text_builder *page,
			    const struct report *report);
void sections_append_history(struct text_builder *page,
			     const struct report *report);
void sections_append_options(struct text_builder *page,
			     const struct report *report);
/* The curves as a table. */
void sections_append_steps(struct text_builder *page,
			   const struct report *report);

/* What the script reads of the curves: an object of JSON. */
void sections_append_data(struct text_builder *page,
			  const struct report *report);

#endif
