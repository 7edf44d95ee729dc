/*
 * A job that measures: training steps on made-up tokens, each begun by all ranks
 * at once, and what they took. With a rehearsal's model it is a rehearsal.
 */
#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "engine/findings.h"
#include "engine/memory_use.h"
#include "engine/run.h"
#include "engine/trace.h"
#include "engine/vote.h"

#include <errno.h>
#include <sched.h>
#include <sys/prctl.h>

static void fill_share(struct pipeline *p, unsigned replica)
{
	uint64_t count = pipeline_share_samples(p) * p->job->context;
	struct random_key key = random_key_named(p->job->seed, "measure");
	unsigned vocab_size = model_config(p->model)->vocab_size;
	int32_t *tokens = pipeline_tokens(p, replica);
	int32_t *labels = pipeline_labels(p, replica);

	for (uint64_t i = 0; i < count; i++) {
		uint64_t at = 2 * (replica * count + i);

		tokens[i] = (int32_t)random_below(key, at, vocab_size);
		labels[i] = (int32_t)random_below(key, at + 1, vocab_size);
	}
}

static void fill_batch(struct pipeline *p)
{
	for (unsigned d = 0; d < p->grid.replicas; d++)
		fill_share(p, d);
	pipeline_set_supervised(p, p->grid.replicas *
					   pipeline_share_samples(p) *
					   p->job->context);
}

/* The weights stay as they are: nothing is to be learned. */
static int run_steps(struct pipeline *p)
{
	int rc = 0;

	for (uint64_t step = 0; !rc && step <= p->job->trace_steps; step++) {
		struct verdict verdict;

		rc = world_barrier(p->world);
		if (rc)
			return rc;
		if (step == 0)
			p->trace->origin_ns = clock_now_ns();
		else
			trace_begin_step(p->trace, step);
		rc = pipeline_train_step(p, step, 0, 0.0, &verdict);
		trace_end_step(p->trace);
		if (!rc && verdict.stop)
			return fail(-EINTR, "stopped while measuring");
	}
	return rc;
}

/* [ranks] the most memory each rank's process has held. Collective. */
static int gather_peaks(struct pipeline *p, json_t **out)
{
	struct memory_use use;
	json_t *mine;
	int rc;

	memory_use_read(&use);
	mine = json_integer((json_int_t)use.peak);
	rc = world_all_gather(p->world, mine, out);
	json_decref(mine);
	return rc;
}

static int set_result(struct pipeline *p, struct findings *findings,
		      json_t *peaks)
{
	unsigned median = findings_median_step(findings);
	struct timeline timeline;
	json_t *seconds = json_array(), *result;
	int rc = findings_timeline(p, findings, median, &timeline);

	if (rc) {
		json_decref(seconds);
		return rc;
	}
	for (unsigned s = 0; s < findings->steps; s++)
		json_array_append_new(seconds, json_real(findings->seconds[s]));
	findings->costs.latency = findings_latency(&timeline);
	result = json_pack(
		"{s:o, s:i, s:o, s:o, s:O}", "seconds", seconds, "median",
		(int)median, "timeline", timeline_to_json(&timeline), "costs",
		costs_to_json(&findings->costs), "peak_bytes", peaks);
	timeline_fini(&timeline);
	if (!result)
		return fail(-ENOMEM, "no memory for what was measured");
	world_set_result(p->world, result);
	return 0;
}

/*
 * A rehearsal is as good as its sleep: on a busy machine a thread that wakes may
 * wait milliseconds for a core. So it asks for real-time scheduling, which root
 * has and others may; it computes next to nothing in that time.
 */
static void wake_punctually(void)
{
	struct sched_param parameter = {.sched_priority = 1};

	(void)!prctl(PR_SET_TIMERSLACK, 1UL);
	(void)!sched_setscheduler(0, SCHED_RR, &parameter);
}

int run_measure(struct pipeline *p)
{
	struct findings findings;
	json_t *peaks;
	int rc;

	if (p->job->config.rehearsal)
		wake_punctually();
	if (p->world->rank == ROUTE_ROOT)
		fill_batch(p);
	rc = run_steps(p);
	if (rc)
		return rc;
	rc = gather_peaks(p, &peaks);
	if (rc)
		return rc;
	rc = findings_gather(p, &findings);
	if (!rc)
		rc = set_result(p, &findings, peaks);
	json_decref(peaks);
	findings_fini(&findings);
	return rc;
}
