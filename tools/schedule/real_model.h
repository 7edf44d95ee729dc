/*
 * The model that `schedule compare` measures with: real layers, on made-up
 * tokens, split over the stages of each schedule.
 */
#ifndef STAGECOACH_TOOLS_SCHEDULE_REAL_MODEL_H
#define STAGECOACH_TOOLS_SCHEDULE_REAL_MODEL_H

#include "tools/schedule/comparison.h"
#include "tools/train_options.h"

/* clang-format off */
#define SCHEDULE_MODEL_OPTIONS                                                 \
	{"model", 'm', OPTION_STRING, .argument = "DIR", .group = "Model",     \
	 .help = "with --run or --costs measure: this Hugging Face model "     \
		 "folder, or the new one described below"},                    \
	{"context", 'T', OPTION_INTEGER, .argument = "T", .minimum = 1,        \
	 .maximum = 1 << 24,                                                   \
	 .help = "tokens a sequence (default: 256, or the model's if less)"},  \
	{"micro-batch-size", 'B', OPTION_INTEGER, .argument = "B",             \
	 .fallback = "2", .minimum = 1, .maximum = 65535,                      \
	 .help = "sequences a micro-batch"},                                   \
	{"recompute", 0, OPTION_FLAG,                                          \
	 .help = "keep layer inputs only and run forward again"}
/* clang-format on */

struct real_model {
	struct job job; /* config, context, micro-batch size, recompute */
	struct model *model;
};

/* -EINVAL or -ENOENT, logged: misuse. */
int real_model_read(const struct options *options,
		    struct real_model *out) MUST_CHECK;
void real_model_fini(struct real_model *real);

/* What its layers cost on this machine, for `ranks` ranks at once. */
int real_model_calibrate(const struct real_model *real,
			 const struct options *options, unsigned ranks,
			 struct costs *out) MUST_CHECK;

/* Training steps of an entry, as a comparison_job_fn; argument: the model. */
int real_model_job(void *argument, const struct comparison *comparison,
		   const struct comparison_entry *entry, struct job *job);

#endif
