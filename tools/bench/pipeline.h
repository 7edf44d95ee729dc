/* stagecoach bench pipeline */
#ifndef STAGECOACH_TOOLS_BENCH_PIPELINE_H
#define STAGECOACH_TOOLS_BENCH_PIPELINE_H

#include "tools/options.h"

extern const struct option_command bench_pipeline_command;

/* Returns the exit status. */
int bench_pipeline_run(const struct options *options);

#endif
