/* Running a schedule for its times: see measure.h. */
#include "tools/schedule/measure.h"
#include "base/files.h"
#include "base/log.h"
#include "base/text.h"
#include "tools/job_options.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The ends of a tie are told apart from what else their stages sum. */
static double gradients_of(const struct schedule_prediction *prediction,
			   const struct schedule_setting *setting,
			   unsigned stage)
{
	const struct schedule *schedule = prediction->lowered;
	bool end = stage == 0 || stage + 1 == schedule->stages;
	double bytes = costs_gradients_of_stage(&setting->costs, schedule,
						prediction->partition, stage);

	return MAX(bytes - (end ? setting->costs.tied_bytes : 0), 0);
}

int schedule_rehearsal_job(const struct schedule_prediction *prediction,
			   const struct schedule_setting *setting,
			   struct job *job)
{
	const struct schedule *schedule = prediction->lowered;
	const struct costs *costs = &setting->costs;
	unsigned stages = schedule->stages;
	int rc;

	if (stages > PARTITION_STAGES_MAX)
		return fail(-EINVAL,
			    "a rehearsal has %d stages at most, not %u",
			    PARTITION_STAGES_MAX, stages);
	rc = model_config_default("rehearsal", &job->config);
	if (!rc)
		rc = job_rehearsal_create(job, stages);
	if (rc)
		return rc;
	for (unsigned s = 0; s < stages; s++) {
		job->rehearsal.seconds[0][s] = prediction->forward[s];
		job->rehearsal.seconds[1][s] = prediction->input[s];
		job->rehearsal.seconds[2][s] = prediction->weight[s];
		job->rehearsal.gradients[s] =
			gradients_of(prediction, setting, s);
		/* The source goes with the first stage. */
		job->partition.first[s + 1] = 1 + (s + 1) * REHEARSAL_PIECES;
	}
	job->partition.first[0] = 0;
	job->partition.stages = stages;
	job->rehearsal.message_bytes = (size_t)costs->message_bytes;
	job->rehearsal.tied_bytes = (size_t)costs->tied_bytes;
	job->replicas = setting->replicas.replicas;
	job->shard_optimizer = setting->replicas.sharded;
	/* It is to cost as little as can be: one pass over the weights. */
	job->optimizer.kind = OPTIMIZER_SGD;
	job->micro_batch_size = 1;
	job->context = 1;
	return 0;
}

int schedule_write_temporary(const struct schedule *schedule,
			     char path[FILES_PATH_BYTES])
{
	const char *folder = getenv("TMPDIR");
	struct schedule *part;
	char *text;
	int fd, rc = schedule_compute_part(schedule, &part);

	if (rc)
		return rc;
	text = schedule_text(part);
	schedule_destroy(part);
	if (!text)
		return fail(-ENOMEM, "no memory to write a schedule");
	snprintf(path, FILES_PATH_BYTES, "%s/stagecoach-XXXXXX.csv",
		 folder ? folder : "/tmp");
	fd = mkstemps(path, 4);
	if (fd < 0) {
		rc = fail(-errno, "cannot make %s: %s", path, strerror(errno));
	} else {
		rc = files_write_all(fd, text, strlen(text), path);
		close(fd);
		if (rc)
			unlink(path);
	}
	free(text);
	return rc;
}

static int read_seconds(const json_t *done, struct schedule_measurement *out)
{
	const json_t *array = json_object_get(done, "seconds"), *item;
	size_t i;

	out->count = (unsigned)json_array_size(array);
	if (out->count == 0)
		return fail(-EPROTO, "the ranks measured no step");
	out->seconds = calloc(out->count, sizeof(*out->seconds));
	if (!out->seconds)
		return fail(-ENOMEM, "no memory for %u measured steps",
			    out->count);
	json_array_foreach(array, i, item) out->seconds[i] =
		json_number_value(item);
	return 0;
}

/* Also of ranks of other replicas. */
static int read_peaks(const json_t *done, struct schedule_measurement *out)
{
	const json_t *array = json_object_get(done, "peak_bytes"), *item;
	size_t i;

	out->ranks = (unsigned)json_array_size(array);
	out->peak_bytes = calloc(MAX(out->ranks, 1u), sizeof(double));
	if (!out->peak_bytes)
		return fail(-ENOMEM, "no memory for what %u ranks held",
			    out->ranks);
	json_array_foreach(array, i, item) out->peak_bytes[i] =
		json_number_value(item);
	return 0;
}

/* All replicas do the same: the first one's ranks are shown. */
static int read_result(const json_t *done, unsigned ranks,
		       struct schedule_measurement *out)
{
	int rc = read_seconds(done, out);

	if (!rc)
		rc = read_peaks(done, out);
	if (!rc)
		rc = timeline_from_json(json_object_get(done, "timeline"),
					"what the ranks measured",
					&out->timeline);
	if (!rc)
		timeline_keep(&out->timeline, ranks);
	if (!rc)
		rc = costs_from_json(json_object_get(done, "costs"), "measured",
				     &out->costs);
	return rc;
}

static void complete_job(const struct options *options,
			 const struct schedule *schedule, struct job *job)
{
	job->kind = JOB_MEASURE;
	job->ranks = schedule->ranks;
	job->chunks = schedule->chunks;
	job->replicas = MAX(job->replicas, 1u);
	job->micro_batches = schedule->micro_batches * job->replicas;
	job->gradient_groups = job->replicas;
	job->trace_steps = (unsigned)options_integer(options, "steps");
	job->end_token = -1;
}

int schedule_measure(const struct options *options,
		     const struct schedule *schedule, struct job *job,
		     struct schedule_measurement *out)
{
	struct launch_result result;
	int rc;

	*out = (struct schedule_measurement){0};
	complete_job(options, schedule, job);
	rc = schedule_write_temporary(schedule, job->schedule);
	if (rc)
		return rc;
	rc = job_options_launch(options, job, NULL, NULL, &result);
	unlink(job->schedule);
	if (!rc && (result.stopped || !result.done))
		rc = fail(-EINTR, "stopped before it was measured");
	if (!rc)
		rc = read_result(result.done, job->ranks, out);
	launch_result_fini(&result);
	return rc;
}

void schedule_measurement_fini(struct schedule_measurement *measurement)
{
	free(measurement->seconds);
	free(measurement->peak_bytes);
	timeline_fini(&measurement->timeline);
	costs_fini(&measurement->costs);
	*measurement = (struct schedule_measurement){0};
}
