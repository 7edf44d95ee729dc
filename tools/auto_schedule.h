/*
 * --schedule auto: the schedule a search finds at the costs of the model's
 * layers on this machine, instead of one that was named.
 */
#ifndef STAGECOACH_TOOLS_AUTO_SCHEDULE_H
#define STAGECOACH_TOOLS_AUTO_SCHEDULE_H

#include "tools/train_options.h"

struct auto_schedule {
	char path[FILES_PATH_BYTES]; /* of the schedule found; "": none */
	char words[512];             /* what was found, for the log */
};

/* Whether --schedule says so. */
bool auto_schedule_wanted(const struct options *options);

/*
 * Measures (or reads) the costs into split->costs, searches under --memory-cap,
 * and gives the job the schedule found: job->schedule is a temporary file, which
 * auto_schedule_fini() removes, job->chunks its stages a rank. With one rank there
 * is nothing to find, and it is 1f1b. Negative errno, logged.
 */
int auto_schedule_choose(const struct options *options,
			 const struct model *model, struct job *job,
			 struct train_split *split,
			 struct auto_schedule *out) MUST_CHECK;

/* Puts the file into a run's folder, for its ranks and for whoever looks. */
int auto_schedule_keep(struct auto_schedule *chosen,
		       struct job *job) MUST_CHECK;
void auto_schedule_fini(struct auto_schedule *chosen);

#endif
