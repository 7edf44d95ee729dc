/* stagecoach bench step */
#ifndef STAGECOACH_TOOLS_BENCH_STEP_H
#define STAGECOACH_TOOLS_BENCH_STEP_H

#include "tools/options.h"

extern const struct option_command bench_step_command;

/* Returns the exit status. */
int bench_step_run(const struct options *options);

#endif
