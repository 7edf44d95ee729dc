/*
 * What rehearse and compare share on the command line: where a comparison goes,
 * and the checks before it.
 */
#ifndef STAGECOACH_TOOLS_SCHEDULE_COMPARISON_OUTPUT_H
#define STAGECOACH_TOOLS_SCHEDULE_COMPARISON_OUTPUT_H

#include "tools/schedule/comparison.h"

/* clang-format off */
#define COMPARISON_OUTPUT_OPTIONS                                              \
	{"html", 0, OPTION_STRING, .argument = "FILE", .group = "Output",      \
	 .help = "write one self-contained page with the timelines"},          \
	{"trace", 0, OPTION_STRING, .argument = "FILE",                        \
	 .help = "write the timelines as Chrome trace JSON, for Perfetto"},    \
	{"json", 0, OPTION_FLAG, .help = "write JSON for scripts"}
/* clang-format on */

/*
 * --stages, --micro-batches and --chunks into the comparison. -EINVAL, logged:
 * a built-in schedule among the operands needs sizes that are not given.
 */
int comparison_check_sizes(const struct options *options,
			   struct comparison *comparison) MUST_CHECK;

/* The costs must be seconds, for something is going to take that time. */
int comparison_check_seconds(const struct comparison *comparison) MUST_CHECK;

/* Prints the table or JSON, writes page and trace. The exit status. */
int comparison_output(const struct options *options,
		      struct comparison *comparison);

#endif
