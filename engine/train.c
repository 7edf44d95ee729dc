#include "base/clock.h"
#include "base/log.h"
#include "data/sampler.h"
#include "engine/checkpoint.h"
#include "engine/findings.h"
#include "engine/history.h"
#include "engine/metrics.h"
#include "engine/run.h"
#include "engine/tensorboard.h"
#include "engine/trace.h"
#include "engine/trace_json.h"
#include "engine/vote.h"

#include <errno.h>

/* What the training of one run needs beside the pipeline. */
struct training {
	struct pipeline *pipeline;
	const struct job *job;
	bool root;
	struct history history;
	uint64_t samples_per_step;
	uint64_t tokens_per_step;
	/* The root's. */
	struct corpus *corpus;
	struct sampler train;
	struct sampler validation;
	struct metrics metrics;
	struct tensorboard board; /* closed without --tensorboard */
	uint64_t saved_step;      /* of the newest checkpoint */
	bool trace_told;          /* the recorded steps have been written */
	double latency;           /* of a message, in the median one of them */
};

static int open_data(struct training *t)
{
	const struct job *job = t->job;
	struct corpus_options options = {.vocab_size = job->config.vocab_size};
	int rc = corpus_open(job->data, &options, &t->corpus);

	if (rc)
		return rc;
	rc = (job->separate ? sampler_init_separate : sampler_init)(
		&t->train, t->corpus, CORPUS_TRAIN, SAMPLER_SHUFFLED, job->seed,
		job->context);
	if (!rc && job->eval_samples)
		rc = sampler_init(&t->validation, t->corpus, CORPUS_VALIDATION,
				  SAMPLER_SEQUENTIAL, job->seed, job->context);
	if (!rc)
		rc = metrics_open(&t->metrics, job->out, job->first_step);
	if (!rc && job->tensorboard)
		rc = tensorboard_open(&t->board, job->out,
				      t->pipeline->world->host,
				      job->first_step);
	return rc;
}

/* A line for metrics.jsonl is an event for whoever watches, too. */
static void publish(struct training *t, const char *line)
{
	metrics_append(&t->metrics, line);
	/* Nobody waits for a watcher that does not read. */
	(void)!world_event_text(t->pipeline->world, line);
}

static int evaluate(struct training *t, uint64_t step)
{
	struct evaluation evaluation;
	struct metrics_evaluation line;
	char text[METRICS_LINE_BYTES];
	int rc = run_evaluation(t->pipeline, &t->validation,
				t->job->eval_samples, &evaluation);

	if (rc || !t->root)
		return rc;
	line = (struct metrics_evaluation){.step = step,
					   .loss = evaluation.loss,
					   .tokens = evaluation.tokens,
					   .time = clock_wall_seconds()};
	metrics_format_evaluation(text, &line);
	publish(t, text);
	tensorboard_evaluation(&t->board, &line);
	return 0;
}

static void report_step(struct training *t, uint64_t step, double rate,
			int64_t begin_ns, const struct verdict *verdict)
{
	double seconds = clock_seconds(clock_now_ns() - begin_ns);
	char text[METRICS_LINE_BYTES];
	struct metrics_step line = {
		.step = step + 1,
		.loss = verdict->loss,
		.gradient_norm = verdict->gradient_norm,
		.learning_rate = rate,
		.tokens = (step + 1) * t->tokens_per_step,
		.tokens_per_second = (double)t->tokens_per_step / seconds,
		.step_seconds = seconds,
		.bubble = verdict->waiting,
		.time = clock_wall_seconds(),
	};

	metrics_format_step(text, &line);
	publish(t, text);
	tensorboard_step(&t->board, &line);
}

static uint64_t count_supervised(const int32_t *labels, uint64_t count)
{
	uint64_t supervised = 0;

	for (uint64_t i = 0; i < count; i++)
		supervised += labels[i] >= 0;
	return supervised;
}

/* The root: each replica's share of the step's samples. */
static int fill_batch(struct training *t, uint64_t first)
{
	struct pipeline *p = t->pipeline;
	uint64_t samples = pipeline_share_samples(p), supervised = 0;
	int rc = 0;

	for (unsigned d = 0; !rc && d < p->grid.replicas; d++) {
		int32_t *labels = pipeline_labels(p, d);

		rc = sampler_fill(&t->train, first + d * samples, samples,
				  pipeline_tokens(p, d), labels,
				  pipeline_starts(p, d));
		supervised +=
			count_supervised(labels, samples * t->job->context);
	}
	pipeline_set_supervised(p, supervised);
	return rc;
}

/* ---- the trace ---- */

/* One recorded step into trace.json, which the root has open. */
static int tell_step(struct training *t, const struct findings *findings,
		     unsigned index, struct trace_json *file)
{
	struct trace_json_place place = {
		.scale = 1,
		.offset = clock_seconds(findings->begin_ns[index] -
					findings->begin_ns[0]),
		.step = findings->step[index] + 1,
	};
	struct timeline timeline;
	int rc = findings_timeline(t->pipeline, findings, index, &timeline);

	if (rc)
		return rc;
	if (file)
		trace_json_add_timeline(file, 0, &timeline, &place);
	if (index == findings_median_step(findings))
		t->latency = findings_latency(&timeline);
	timeline_fini(&timeline);
	return 0;
}

static int write_costs(struct training *t, struct findings *findings)
{
	char path[FILES_PATH_BYTES];
	int rc = files_join(path, sizeof(path), t->job->out, "costs.json");

	findings->costs.latency = t->latency;
	return rc ? rc : costs_write(&findings->costs, path);
}

static int write_traffic(struct training *t, const struct findings *findings)
{
	json_t *json = findings_traffic(findings);
	char path[FILES_PATH_BYTES];
	int rc = files_join(path, sizeof(path), t->job->out, "traffic.json");

	if (!rc && !json)
		rc = fail(-ENOMEM, "no memory for %s", path);
	if (!rc)
		rc = json_write(path, json);
	json_decref(json);
	return rc;
}

static int open_trace_file(const struct training *t, struct trace_json **out)
{
	char path[FILES_PATH_BYTES];
	int rc = files_join(path, sizeof(path), t->job->out, "trace.json");

	if (!rc)
		rc = trace_json_create(path, out);
	if (!rc)
		(void)trace_json_add_process(*out, t->job->schedule,
					     t->pipeline->world->size);
	return rc;
}

/* The root's files; a disk that is full ends no training. */
static void close_trace_file(struct training *t, struct findings *findings,
			     struct trace_json *file)
{
	if (!file || trace_json_close(file) || write_costs(t, findings) ||
	    write_traffic(t, findings)) {
		log_warning("the trace could not be written; training goes on");
		return;
	}
	log_info(
		"recorded %u steps: %s/trace.json (for Perfetto), their costs in costs.json, what each rank sent in traffic.json beside it",
		findings->steps, t->job->out);
}

/* All ranks go through the same exchanges, whatever happens to the files. */
static int tell_trace(struct training *t)
{
	struct trace_json *file = NULL;
	struct findings findings;
	int rc = findings_gather(t->pipeline, &findings);

	t->trace_told = true;
	if (!rc && t->root)
		/* Said in a log line; there is no file then. */
		(void)!open_trace_file(t, &file);
	for (unsigned s = 0; !rc && s < findings.steps; s++)
		rc = tell_step(t, &findings, s, file);
	if (!rc && t->root)
		close_trace_file(t, &findings, file);
	else if (file)
		trace_json_abandon(file);
	findings_fini(&findings);
	return rc;
}

/* The first step warms up; a barrier gives the clocks of hosts a common zero. */
static int begin_trace_step(struct training *t, uint64_t step)
{
	struct trace *trace = t->pipeline->trace;
	int rc = 0;

	if (!trace || step == t->job->first_step)
		return 0;
	if (trace->recorded == 0) {
		rc = world_barrier(t->pipeline->world);
		trace->origin_ns = clock_now_ns();
	}
	if (!rc)
		trace_begin_step(trace, step);
	return rc;
}

static int end_trace_step(struct training *t, bool last)
{
	struct trace *trace = t->pipeline->trace;

	if (!trace)
		return 0;
	trace_end_step(trace);
	if (t->trace_told || trace->recorded == 0 ||
	    (trace->recorded < trace->steps && !last))
		return 0;
	return tell_trace(t);
}

static int train_step(struct training *t, uint64_t step,
		      struct verdict *verdict)
{
	struct pipeline *p = t->pipeline;
	uint64_t first = step * t->samples_per_step;
	double rate = learning_rate_at(&t->job->learning_rate, step);
	int64_t begin_ns = clock_now_ns();
	int rc = begin_trace_step(t, step);

	if (!rc && t->root)
		rc = fill_batch(t, first);
	if (!rc)
		rc = pipeline_train_step(p, step, first, rate, verdict);
	if (!rc && t->root)
		report_step(t, step, rate, begin_ns, verdict);
	return rc;
}

/*
 * A checkpoint that cannot be written does not end the training, unless it
 * is the last one: the ones before it still stand. A broken link does.
 */
static int save(struct training *t, uint64_t step, bool last)
{
	int64_t begin_ns = clock_now_ns();
	int rc = checkpoint_write(t->pipeline, step);

	if (rc == -ECANCELED ||
	    (rc && (last || exchange_error(t->pipeline->exchange))))
		return rc;
	if (!rc)
		t->saved_step = step;
	else if (t->root)
		log_warning(
			"the checkpoint of step %llu could not be written; training goes on",
			(unsigned long long)step);
	return history_checkpoint(&t->history, step, !rc,
				  clock_seconds(clock_now_ns() - begin_ns),
				  &t->board);
}

static bool is_due(uint64_t every, uint64_t step)
{
	return every && step % every == 0;
}

static int train_all(struct training *t, bool *stopped)
{
	const struct job *job = t->job;
	int rc;

	*stopped = false;
	t->saved_step = job->first_step;
	rc = history_start(&t->history);
	if (!rc && job->eval_samples && job->first_step == 0)
		rc = evaluate(t, 0);
	for (uint64_t step = job->first_step; !rc && step < job->steps;
	     step++) {
		uint64_t done = step + 1;
		struct verdict verdict;
		bool last;

		rc = train_step(t, step, &verdict);
		if (rc)
			return rc;
		*stopped = verdict.stop && done < job->steps;
		last = *stopped || done == job->steps;
		rc = end_trace_step(t, last);
		if (!rc && job->eval_samples && !*stopped &&
		    (is_due(job->eval_every, done) || last))
			rc = evaluate(t, done);
		if (!rc && (is_due(job->checkpoint_every, done) || last))
			rc = save(t, done, last);
		if (*stopped)
			break;
	}
	return rc;
}

static int finish(struct training *t, bool stopped)
{
	json_t *result;
	int rc;

	if (!t->root)
		return 0;
	result = json_pack("{s:I, s:b}", "step", (json_int_t)t->saved_step,
			   "stopped", stopped);
	world_set_result(t->pipeline->world, result);
	rc = stopped ? 0 : checkpoint_publish(t->job, t->saved_step);
	if (!rc)
		history_end(&t->history, t->saved_step, stopped);
	return rc;
}

int run_train(struct pipeline *pipeline)
{
	const struct job *job = pipeline->job;
	struct training t = {
		.pipeline = pipeline,
		.job = job,
		.root = pipeline->world->rank == ROUTE_ROOT,
		.samples_per_step =
			(uint64_t)job->micro_batches * job->micro_batch_size,
		.metrics = {.journal = {.fd = -1}},
		.board = {.journal = {.fd = -1}},
	};
	bool stopped;
	int rc;

	t.tokens_per_step = t.samples_per_step * job->context;
	rc = history_open(&t.history, pipeline->world, job);
	if (!rc && t.root)
		rc = open_data(&t);
	if (!rc)
		rc = train_all(&t, &stopped);
	if (!rc)
		rc = finish(&t, stopped);
	history_close(&t.history);
	tensorboard_close(&t.board);
	metrics_close(&t.metrics);
	sampler_fini(&t.train);
	sampler_fini(&t.validation);
	corpus_close(t.corpus);
	return rc;
}
