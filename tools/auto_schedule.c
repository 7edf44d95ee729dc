#include "tools/auto_schedule.h"
#include "base/files.h"
#include "base/log.h"
#include "base/text.h"
#include "tools/job_options.h"
#include "tools/schedule/measure.h"
#include "tools/schedule/search_setting.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define AUTO      "auto"
#define FILE_NAME "schedule.csv"
/* A run waits for it: some seconds at most. */
#define SECONDS 3.0
/* A hundredth of a step is not worth twice the memory. */
#define TOLERANCE 0.01

bool auto_schedule_wanted(const struct options *options)
{
	return strcmp(options_string(options, "schedule"), AUTO) == 0;
}

/* The trial split: a stage a rank. */
static int balance(const struct costs *costs, struct job *job)
{
	double *total = calloc(costs->count, sizeof(*total));
	int rc;

	if (!total)
		return fail(-ENOMEM, "no memory to split %u layers",
			    costs->count);
	for (unsigned i = 0; i < costs->count; i++)
		total[i] = costs->rows[i].forward + costs->rows[i].input +
			   costs->rows[i].weight;
	rc = partition_balance(total, costs->count, job->ranks,
			       &job->partition);
	free(total);
	return rc;
}

/*
 * What is left for activations under the cap on everything: the cap less what
 * the rank that holds most has beside them.
 */
static int activation_cap(const struct options *options,
			  const struct model *model, const struct job *job,
			  const struct train_split *split, double *out)
{
	struct job *trial = malloc(sizeof(*trial));
	struct plan *plan;
	double fixed = 0;
	int rc;

	*out = 0;
	if (!trial)
		return fail(-ENOMEM, "no memory to plan the run");
	*trial = *job;
	rc = balance(&split->costs, trial);
	if (!rc)
		rc = plan_create(trial, model, split->calibration.threads,
				 &plan);
	free(trial);
	if (rc)
		return rc;
	for (unsigned r = 0; r < plan->ranks; r++)
		fixed = MAX(fixed, (double)(plan->rank[r].total -
					    plan->rank[r].activations));
	plan_destroy(plan);
	*out = (double)options_bytes(options, "memory-cap") - fixed;
	if (*out > 0)
		return 0;
	return fail(-EINVAL,
		    "--memory-cap: a rank holds more than that beside its "
		    "activations");
}

/* ---- the search ---- */

static const char *seconds_text(char *buffer, size_t size, double seconds,
				bool known)
{
	if (!known)
		snprintf(buffer, size, "%.4g", seconds);
	else if (seconds >= 1)
		snprintf(buffer, size, "%.3f s", seconds);
	else
		snprintf(buffer, size, "%.1f ms", 1e3 * seconds);
	return buffer;
}

static void describe(const struct schedule_search_result *found, bool known,
		     char *out, size_t size)
{
	char time[32], builtin[32], bound[32];

	snprintf(
		out, size,
		"%u stage%s a rank%s, %s of compute a step predicted; the best built-in one is %s with %s, and none can take less than %s",
		found->schedule->chunks,
		found->schedule->chunks == 1 ? "" : "s",
		found->schedule->chunks == 1 ? ""
		: found->schedule->placement == SCHEDULE_PLACEMENT_V
			? " placed as a V"
			: " in a loop",
		seconds_text(time, sizeof(time), found->makespan, known),
		found->builtin[0] ? found->builtin : "none",
		seconds_text(builtin, sizeof(builtin), found->builtin_makespan,
			     known),
		seconds_text(bound, sizeof(bound), found->bound, known));
}

static int search(const struct options *options, const struct model *model,
		  const struct job *job, struct train_split *split,
		  struct schedule_search_result *found)
{
	const struct schedule_setting setting = {
		.costs = split->costs,
		.buffers = SCHEDULE_BUFFERS_ANY,
	};
	struct search_setting ask = {
		.setting = &setting,
		.ranks = job->ranks,
		.micro_batches = job_share(job),
		.chunks = (unsigned)options_integer(options, "chunks"),
		.tolerance = TOLERANCE,
		.seconds = SECONDS,
		.seed = 1,
	};
	int rc = 0;

	if (split->costs.kind != COSTS_LAYERS)
		return fail(-EINVAL,
			    "--schedule auto needs costs by layer, and %s has "
			    "them by %s",
			    split->costs.origin,
			    costs_rows_name(split->costs.kind));
	if (options_is_set(options, "memory-cap"))
		rc = activation_cap(options, model, job, split,
				    &ask.memory_cap);
	return rc ? rc : search_at_setting(&ask, found);
}

int auto_schedule_choose(const struct options *options,
			 const struct model *model, struct job *job,
			 struct train_split *split, struct auto_schedule *out)
{
	struct schedule_search_result found;
	int rc;

	*out = (struct auto_schedule){0};
	job->chunks = 1;
	rc = job_options_path(job->schedule, "1f1b");
	if (rc || job->ranks == 1)
		return rc;
	rc = train_options_costs(options, model, job, split);
	if (!rc)
		rc = search(options, model, job, split, &found);
	if (rc)
		return rc;
	describe(&found, split->costs.seconds, out->words, sizeof(out->words));
	rc = schedule_write_temporary(found.schedule, out->path);
	if (rc)
		out->path[0] = '\0';
	else
		rc = job_options_path(job->schedule, out->path);
	job->chunks = found.schedule->chunks;
	schedule_search_result_fini(&found);
	return rc;
}

int auto_schedule_keep(struct auto_schedule *chosen, struct job *job)
{
	char path[FILES_PATH_BYTES];
	int rc;

	if (!chosen->path[0])
		return 0;
	rc = files_join(path, sizeof(path), job->out, FILE_NAME);
	/* A resumed run has one already, for other stages perhaps. */
	if (!rc && unlink(path) && errno != ENOENT)
		rc = fail(-errno, "cannot replace %s: %s", path,
			  strerror(errno));
	if (!rc)
		rc = files_copy(chosen->path, path);
	return rc ? rc : job_options_path(job->schedule, path);
}

void auto_schedule_fini(struct auto_schedule *chosen)
{
	if (chosen->path[0])
		unlink(chosen->path);
	chosen->path[0] = '\0';
}
