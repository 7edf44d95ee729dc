/*
 * What the subcommands predict with, and the prediction itself: a schedule
 * lowered, proven and simulated at the costs the options give.
 */
#ifndef STAGECOACH_TOOLS_SCHEDULE_PREDICT_H
#define STAGECOACH_TOOLS_SCHEDULE_PREDICT_H

#include "engine/costs.h"
#include "engine/costs_grid.h"
#include "engine/partition.h"
#include "schedules/simulate.h"
#include "tools/options.h"

/* clang-format off */
#define SCHEDULE_LINK_OPTIONS                                                  \
	{"latency", 0, OPTION_REAL, .argument = "S", .minimum = 0,             \
	 .maximum = 1e30, .group = "Links",                                    \
	 .help = "time a message travels, in the unit of the costs (default: " \
		 "what the costs say, what is measured if anything is, or 0)"}, \
	{"bandwidth", 0, OPTION_REAL, .argument = "B", .minimum = 1e-30,       \
	 .maximum = 1e30, .group = "Links",                                    \
	 .help = "bytes a link carries per unit of time (default: what the "   \
		 "costs say, else no limit)"},                                 \
	{"message-bytes", 0, OPTION_REAL, .argument = "N", .minimum = 0,       \
	 .maximum = 1e15, .group = "Links",                                    \
	 .help = "size of a message (default: what the costs say, else 1, so " \
		 "that --bandwidth counts messages)"}

#define SCHEDULE_LOSS_OPTION                                                   \
	{"loss-weight-in-forward", 0, OPTION_FLAG, .group = "Costs",           \
	 .help = "count the loss stage's W within its F"}

#define SCHEDULE_COSTS_OPTIONS                                                 \
	{"costs", 0, OPTION_STRING, .argument = "F,I,W|FILE|RUN",              \
	 .fallback = "1,1,1", .group = "Costs",                                \
	 .help = "time of F, I and W of one micro-batch through a rank's "     \
		 "whole slice (a chunk takes 1/V of it), e.g. 2,3,1 or "       \
		 "20ms,20ms,15ms; or a costs.json, or a run trained with "     \
		 "--trace"},                                                   \
	SCHEDULE_LOSS_OPTION,                                                  \
	SCHEDULE_LINK_OPTIONS
/* clang-format on */

struct schedule_setting {
	struct costs costs;
	bool loss_weight_in_forward;
	unsigned buffers; /* or SCHEDULE_BUFFERS_ANY */
	struct costs_replicas replicas; /* none where D is 0 or 1 */
};

/* The options above and --buffers. -EINVAL or -ENOENT, logged: misuse. */
int schedule_setting_read(const struct options *options,
			  struct schedule_setting *out) MUST_CHECK;
/* The same with costs that are at hand already, which *out takes over. */
void schedule_setting_take(const struct options *options, struct costs *costs,
			   struct schedule_setting *out);
/* SCHEDULE_REPLICA_OPTIONS, into a setting that has its costs. -EINVAL. */
int schedule_setting_replicas(const struct options *options,
			      struct schedule_setting *io) MUST_CHECK;
void schedule_setting_fini(struct schedule_setting *setting);

struct schedule_prediction {
	struct schedule *lowered;
	struct schedule_report report;
	struct schedule_simulation simulation; /* in the costs' unit */
	struct partition *partition;      /* of costs by layer; NULL: none */
	double *forward, *input, *weight; /* [stages] as simulated */
	double *activation_bytes;         /* [stages]; NULL: not known */
	double *between;                  /* what replicas cost; NULL: nothing */
};

/*
 * How schedules of so many stages are lowered under a setting: with what ends a
 * step, if the costs know of it. *tie is pointed to.
 */
void schedule_setting_lowering(const struct schedule_setting *setting,
			       unsigned stages, struct schedule_tie *tie,
			       struct schedule_lowering *out);

/*
 * The costs of a schedule's stages, as the simulator takes them; of layers, the
 * split is *partition, or if that is NULL made and left there (the caller frees
 * it). *storage and *between, the costs of replicas (NULL: there are none), hold
 * the arrays and are the caller's to free. Of the schedule only the shape counts:
 * ranks, chunks, stages, rank_of_stage; and with replicas its rows.
 */
int schedule_setting_costs(const struct schedule_setting *setting,
			   const struct schedule *schedule,
			   struct partition **partition,
			   struct schedule_costs *out,
			   double **storage, double **between) MUST_CHECK;

enum {
	SCHEDULE_PREDICT_TIMES = 1,    /* keep each action's */
	SCHEDULE_PREDICT_UNPROVEN = 2, /* built-in ones need no proof: `report`
					  stays empty */
};

/*
 * Lowers, validates and simulates. Costs by layer are split over the stages as
 * training splits them, or as `partition` says if it is not NULL; that is taken
 * over. -EINVAL, logged, when the schedule is not valid or the costs do not fit
 * it.
 */
int schedule_prediction_init(struct schedule_prediction *prediction,
			     const struct schedule *schedule,
			     const struct schedule_setting *setting,
			     struct partition *partition,
			     unsigned flags) MUST_CHECK;
void schedule_prediction_fini(struct schedule_prediction *prediction);

#endif
