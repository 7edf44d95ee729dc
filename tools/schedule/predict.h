/*
 * The simulator as the commands ask for it: one cost of F, I and W for every
 * rank's slice, times in the unit of those costs.
 */
#ifndef STAGECOACH_TOOLS_SCHEDULE_PREDICT_H
#define STAGECOACH_TOOLS_SCHEDULE_PREDICT_H

#include "schedules/simulate.h"
#include "tools/options.h"

/* clang-format off */
#define SCHEDULE_COSTS_OPTIONS                                                 \
	{"costs", 0, OPTION_STRING, .argument = "F,I,W", .fallback = "1,1,1",  \
	 .minimum = 1, .group = "Costs",                                       \
	 .help = "time of F, I and W of one micro-batch through a rank's "     \
		 "whole slice; a chunk takes 1/V of it"},                      \
	{"loss-weight-in-forward", 0, OPTION_FLAG, .group = "Costs",           \
	 .help = "count the loss stage's W within its F"},                     \
	{"latency", 0, OPTION_REAL, .argument = "S", .fallback = "0",          \
	 .minimum = 0, .maximum = 1e30, .group = "Links",                      \
	 .help = "time a message travels, in the unit of the costs"},          \
	{"bandwidth", 0, OPTION_REAL, .argument = "B", .minimum = 1e-30,       \
	 .maximum = 1e30, .group = "Links",                                    \
	 .help = "bytes a link carries per unit of time (default: no limit)"}, \
	{"message-bytes", 0, OPTION_REAL, .argument = "N", .fallback = "1",    \
	 .minimum = 0, .maximum = 1e18, .group = "Links",                      \
	 .help = "size of a message; with 1, --bandwidth counts messages"}
/* clang-format on */

struct schedule_slice_costs {
	/* Of one micro-batch through a rank's slice; a chunk costs 1/V of it. */
	double forward;
	double input;
	double weight;
	bool loss_weight_in_forward;
	double latency;
	double bandwidth; /* 0: without limit */
	double message_bytes;
	unsigned buffers; /* or SCHEDULE_BUFFERS_ANY */
};

struct schedule_prediction {
	struct schedule *lowered;
	struct schedule_report report;
	struct schedule_simulation simulation; /* in units of a slice's costs */
};

/* SCHEDULE_COSTS_OPTIONS and --buffers. -EINVAL, logged: misuse. */
int schedule_slice_costs_read(const struct options *options,
			      struct schedule_slice_costs *out) MUST_CHECK;

/*
 * Lowers, validates and simulates. -EINVAL, logged, when the schedule is not
 * valid. On success schedule_prediction_fini() is the caller's.
 */
int schedule_prediction_init(
	struct schedule_prediction *prediction, const struct schedule *schedule,
	const struct schedule_slice_costs *costs) MUST_CHECK;
/* Without the proof, which built-in schedules need not: `report` is empty. */
int schedule_prediction_init_unproven(
	struct schedule_prediction *prediction, const struct schedule *schedule,
	const struct schedule_slice_costs *costs) MUST_CHECK;
void schedule_prediction_fini(struct schedule_prediction *prediction);

#endif
