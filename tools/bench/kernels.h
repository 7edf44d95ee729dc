/* stagecoach bench kernels */
#ifndef STAGECOACH_TOOLS_BENCH_KERNELS_H
#define STAGECOACH_TOOLS_BENCH_KERNELS_H

#include "tools/options.h"

extern const struct option_command bench_kernels_command;

/* Returns the exit status. */
int bench_kernels_run(const struct options *options);

#endif
