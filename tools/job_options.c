#include "tools/job_options.h"
#include "base/log.h"
#include "base/text.h"
#include "base/threads.h"
#include "data/sampler.h"
#include "engine/run.h"
#include "model/kernels/numerics.h"
#include "schedules/schedule.h"
#include "tools/hosts_options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int job_options_path(char out[FILES_PATH_BYTES], const char *path)
{
	if (text_copy(out, FILES_PATH_BYTES, path))
		return fail(-ENAMETOOLONG, "path too long: %.60s...", path);
	return 0;
}

void job_options_pipeline(const struct options *options, struct job *job)
{
	const char *store = options_string(options, "store");
	struct hosts *hosts = hosts_options_current();

	/* Who started the ranks has decided how many stages there are. */
	job->ranks = hosts ? hosts_size(hosts)
			   : (unsigned)options_integer(options, "stages");
	job->chunks = 1;
	job->reach = strcmp(store, "root") == 0     ? REACH_ROOT
		     : strcmp(store, "shared") == 0 ? REACH_SHARED
						    : REACH_AUTO;
}

int job_options_partition(const struct options *options,
			  const struct model *model, struct job *job)
{
	unsigned layers = model_layer_count(model);
	unsigned stages = job->ranks * job->chunks;
	const int64_t *split;
	size_t count = options_list(options, "split", &split);
	double *costs;
	int rc;

	if (count)
		return partition_explicit(split, count, layers, stages,
					  &job->partition);
	costs = calloc(layers, sizeof(*costs));
	if (!costs)
		return fail(-ENOMEM, "no memory to split the model");
	for (unsigned i = 0; i < layers; i++) {
		struct layer_cost cost;

		layer_cost(model_layer(model, i), job->micro_batch_size,
			   job->context, &cost);
		costs[i] = cost.forward + cost.backward_input +
			   cost.backward_weight;
	}
	rc = partition_balance(costs, layers, stages, &job->partition);
	free(costs);
	return rc;
}

int job_options_windows(const struct corpus *corpus, int split,
			unsigned context, uint64_t *windows)
{
	struct sampler sampler;
	int rc = sampler_init(&sampler, corpus, (enum corpus_split)split,
			      SAMPLER_SEQUENTIAL, 0, context);

	if (!rc)
		*windows = sampler_epoch_samples(&sampler);
	return rc;
}

int job_options_numerics(char *out, size_t size)
{
	threads_set_float_state(); /* as the ranks compute */
	return numerics_describe(out, size);
}

/* ---- launching ---- */

/* Which stages a rank has, for its line. */
static void describe_rank(const void *argument, unsigned rank, char *buffer,
			  size_t size)
{
	const struct schedule *schedule = argument;
	unsigned count = 0;
	size_t used;

	if (!schedule) {
		snprintf(buffer, size, "stage %u", rank);
		return;
	}
	used = (size_t)snprintf(buffer, size, "stage%s",
				schedule->chunks > 1 ? "s" : "");
	for (unsigned i = 0; i < schedule->stages && used < size; i++) {
		if (schedule->rank_of_stage[i] == rank)
			used += (size_t)snprintf(buffer + used, size - used,
						 "%s %u", count++ ? "," : "",
						 i);
	}
}

static int launch_on_hosts(const struct job *job, struct launch *launch,
			   struct launch_result *result)
{
	struct schedule *schedule = NULL;
	int rc = 0;

	if (job->schedule[0])
		rc = schedule_open(job->schedule, job->ranks,
				   job->micro_batches, job->chunks,
				   SCHEDULE_DIALECT_AUTO, &schedule);
	if (rc) {
		*result =
			(struct launch_result){.status = rc, .failed_rank = -1};
		return rc;
	}
	launch->hosts = hosts_options_current();
	launch->describe = describe_rank;
	launch->describe_argument = schedule;
	rc = launch_run(launch, result);
	schedule_destroy(schedule);
	return rc;
}

const char *job_options_transport(const struct options *options, unsigned ranks)
{
	const char *transport = options_string(options, "transport");

	return ranks == 1 && !hosts_options_current() &&
			       strcmp(transport, "auto") == 0
		       ? "inproc"
		       : transport;
}

int job_options_launch(const struct options *options, const struct job *job,
		       void (*event)(void *argument, unsigned rank,
				     const json_t *event),
		       void *argument, struct launch_result *result)
{
	char numerics[JOB_OPTIONS_NUMERICS_BYTES];
	json_t *json = job_to_json(job);
	struct launch launch = {
		.ranks = job->ranks,
		.threads_per_rank =
			(unsigned)options_integer(options, "threads"),
		.pin = !options_flag(options, "no-pin"),
		.transport = job_options_transport(options, job->ranks),
		.io = options_string(options, "tcp-io"),
		.wire = options_string(options, "wire"),
		.job = json,
		.quiet = job->kind != JOB_TRAIN,
		.rank_main = run_rank,
		.numerics = numerics,
		.event = event,
		.argument = argument,
	};
	int rc = job_options_numerics(numerics, sizeof(numerics));

	if (!rc && !json)
		rc = fail(-ENOMEM, "no memory for the job");
	if (!rc)
		rc = job_attach_schedule(job, json);
	if (rc)
		*result =
			(struct launch_result){.status = rc, .failed_rank = -1};
	else if (hosts_options_current())
		rc = launch_on_hosts(job, &launch, result);
	else
		rc = launch_run(&launch, result);
	json_decref(json);
	return rc;
}
