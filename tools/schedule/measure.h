/*
 * Runs a schedule for its times: the real engine, its ranks and messages, with
 * compute asleep (a rehearsal) or at work.
 */
#ifndef STAGECOACH_TOOLS_SCHEDULE_MEASURE_H
#define STAGECOACH_TOOLS_SCHEDULE_MEASURE_H

#include "engine/job.h"
#include "engine/timeline.h"
#include "tools/job_options.h"
#include "tools/schedule/predict.h"

/* clang-format off */
#define SCHEDULE_RANK_OPTIONS                                                  \
	{"transport", 0, OPTION_CHOICE, .argument = "KIND",                    \
	 .choices = JOB_OPTIONS_TRANSPORTS, .fallback = "auto",                \
	 .group = "Ranks", .help = JOB_OPTIONS_TRANSPORTS_HELP},               \
	{"tcp-io", 0, OPTION_CHOICE, .argument = "HOW",                        \
	 .choices = "auto|uring|sockets", .fallback = "auto",                  \
	 .help = "how tcp moves bytes; auto: io_uring where the kernel "       \
		 "allows it"},                                                 \
	JOB_OPTIONS_FAULTS,                                                    \
	{"threads", 't', OPTION_INTEGER, .argument = "N", .fallback = "0",     \
	 .minimum = 0, .maximum = 256,                                         \
	 .help = "compute threads a rank; 0: the cores divided by the ranks"}, \
	{"no-pin", 0, OPTION_FLAG,                                             \
	 .help = "leave threads free to move between cores"},                  \
	JOB_OPTIONS_LIVENESS,                                                  \
	{"steps", 'n', OPTION_INTEGER, .argument = "N", .fallback = "5",       \
	 .minimum = 1, .maximum = 1000,                                        \
	 .help = "steps to measure each time, after one that warms up"}
/* clang-format on */

struct schedule_measurement {
	double *seconds; /* [count] of each step */
	unsigned count;
	struct timeline timeline; /* of the median step */
	struct costs costs;       /* what the layers took */
	unsigned ranks;
	double *peak_bytes; /* [ranks] the most memory a rank held */
};

/*
 * Fills in what a rehearsal's job needs: the stages' times as the prediction
 * has them, the replicas, and the sizes. job_fini() is the caller's.
 */
int schedule_rehearsal_job(const struct schedule_prediction *prediction,
			   const struct schedule_setting *setting,
			   struct job *job) MUST_CHECK;

/*
 * The compute actions into a new file in TMPDIR, whose path goes to path[]; the
 * caller unlinks it.
 */
int schedule_write_temporary(const struct schedule *schedule,
			     char path[FILES_PATH_BYTES]) MUST_CHECK;

/*
 * Runs the job (kind JOB_MEASURE) by the rows of SCHEDULE_RANK_OPTIONS and
 * takes its findings in. The schedule goes by way of a file of its own, so it
 * may come from anywhere. 0, or negative errno, the reason logged; the
 * caller's to schedule_measurement_fini(), in any case.
 */
int schedule_measure(const struct options *options,
		     const struct schedule *schedule, struct job *job,
		     struct schedule_measurement *out) MUST_CHECK;
void schedule_measurement_fini(struct schedule_measurement *measurement);

#endif
