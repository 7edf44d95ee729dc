/* stagecoach bench generate */
#ifndef STAGECOACH_TOOLS_BENCH_GENERATE_H
#define STAGECOACH_TOOLS_BENCH_GENERATE_H

#include "tools/options.h"

extern const struct option_command bench_generate_command;

/* Returns the exit status. */
int bench_generate_run(const struct options *options);

#endif
