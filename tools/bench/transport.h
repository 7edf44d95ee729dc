/* stagecoach bench transport */
#ifndef STAGECOACH_TOOLS_BENCH_TRANSPORT_H
#define STAGECOACH_TOOLS_BENCH_TRANSPORT_H

#include "tools/options.h"

extern const struct option_command bench_transport_command;

/* RDMA devices, and why one cannot be used. Returns the exit status. */
int bench_transport_list(bool json);

/* Returns the exit status. */
int bench_transport_run(const struct options *options);

#endif
