/*
 * plan --suggest: which grid, schedule and micro-batches to train a model with.
 */
#ifndef STAGECOACH_TOOLS_PLAN_SUGGEST_H
#define STAGECOACH_TOOLS_PLAN_SUGGEST_H

#include "tools/machine_options.h"

/* clang-format off */
#define PLAN_SUGGEST_OPTIONS                                                   \
	{.name = "suggest",                                                    \
	 .kind = OPTION_FLAG,                                                  \
	 .group = "Suggestions",                                               \
	 .help = "propose replicas, stages, slices, schedule and micro-"       \
		 "batches for --hosts, --memory and --batch; what is given "   \
		 "besides is kept"},                                           \
	{.name = "hosts",                                                      \
	 .kind = OPTION_INTEGER,                                               \
	 .argument = "N",                                                      \
	 .minimum = 1,                                                         \
	 .maximum = 16384,                                                     \
	 .help = "hosts there are"},                                           \
	{.name = "memory",                                                     \
	 .kind = OPTION_BYTES,                                                 \
	 .argument = "BYTES",                                                  \
	 .help = "what a host's ranks may hold together, e.g. 240G"},          \
	{.name = "host-ranks",                                                 \
	 .kind = OPTION_INTEGER,                                               \
	 .argument = "R",                                                      \
	 .fallback = "1",                                                      \
	 .minimum = 1,                                                         \
	 .maximum = 256,                                                       \
	 .help = "ranks a host, which share its memory, cores and network"},   \
	{.name = "tensor-max",                                                 \
	 .kind = OPTION_INTEGER,                                               \
	 .argument = "T",                                                      \
	 .minimum = 1,                                                         \
	 .maximum = 256,                                                       \
	 .help = "largest tensor group to consider (default: --host-ranks)"},  \
	{.name = "batch",                                                      \
	 .kind = OPTION_INTEGER,                                               \
	 .argument = "N",                                                      \
	 .minimum = 1,                                                         \
	 .maximum = 1 << 24,                                                   \
	 .help = "sequences a step, of all replicas together"},                \
	{.name = "batch-tokens",                                               \
	 .kind = OPTION_INTEGER,                                               \
	 .argument = "N",                                                      \
	 .minimum = 1,                                                         \
	 .maximum = 1e12,                                                      \
	 .help = "the same in tokens; a multiple of --context"},               \
	{.name = "best",                                                       \
	 .kind = OPTION_INTEGER,                                               \
	 .argument = "K",                                                      \
	 .fallback = "5",                                                      \
	 .minimum = 1,                                                         \
	 .maximum = 100,                                                       \
	 .help = "grids to show"}
/* clang-format on */

/*
 * `job` has context and optimizer. 0, or the exit status; what went wrong is
 * logged.
 */
int plan_suggest(const struct options *options, const struct machine *machine,
		 const struct model *model, struct job *job) MUST_CHECK;

#endif
