/*
 * Machines that are not at hand: a rate of operations instead of a measurement,
 * and links as they are named, for `plan`.
 */
#ifndef STAGECOACH_TOOLS_MACHINE_OPTIONS_H
#define STAGECOACH_TOOLS_MACHINE_OPTIONS_H

#include "tools/train_options.h"

/* clang-format off */
#define MACHINE_OPTIONS                                                        \
	{.name = "flops",                                                      \
	 .kind = OPTION_STRING,                                                \
	 .argument = "RATE",                                                   \
	 .group = "Another machine",                                           \
	 .help = "single-precision operations a second that a host really "    \
		 "does, e.g. 2T: times are counted operations over that, "     \
		 "instead of measured here"},                                  \
	{.name = "memory-rate",                                                \
	 .kind = OPTION_STRING,                                                \
	 .argument = "BYTES/S",                                                \
	 .help = "with --flops: what a host's memory moves, which bounds the " \
		 "optimizer (default: a tenth of --flops)"},                   \
	{.name = "network",                                                    \
	 .kind = OPTION_STRING,                                                \
	 .argument = "BITS/S",                                                 \
	 .help = "what a host's network carries each way, e.g. 100G (default: "\
		 "what is measured, or --costs say)"},                         \
	{.name = "latency",                                                    \
	 .kind = OPTION_REAL,                                                  \
	 .argument = "SECONDS",                                                \
	 .minimum = 0,                                                         \
	 .maximum = 10,                                                        \
	 .help = "of a message between hosts (default with --network: 20e-6)"},\
	{.name = "tensor-network",                                             \
	 .kind = OPTION_STRING,                                                \
	 .argument = "BITS/S",                                                 \
	 .help = "what a rank sends to others of its tensor group (default: "  \
		 "measured, with --flops a tenth of --memory-rate, over "      \
		 "hosts --network)"}
/* clang-format on */

/* Of one host; 0: not given. Bytes a second. */
struct machine {
	double rate; /* operations a second */
	double memory;
	double network;
	double latency;
	double tensor;
};

/* -EINVAL, logged. */
int machine_options_read(const struct options *options,
			 struct machine *out) MUST_CHECK;

/*
 * Costs of the model's layers on such a machine, a rank a host, into
 * out->costs and out->rates: as train_options_costs(), without --costs. --flops
 * must be given.
 */
int machine_options_costs(const struct options *options,
			  const struct machine *machine,
			  const struct model *model, struct job *job,
			  struct train_split *out) MUST_CHECK;

/* The links as they are given, into costs that were had otherwise. */
void machine_options_links(const struct machine *machine, struct costs *costs);

#endif
