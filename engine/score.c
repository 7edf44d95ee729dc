/*
 * Evaluation of requests (data/requests.h): the root reads them, all ranks make
 * the passes the job lists, and the root adds up what the losses mean.
 */
#include "base/log.h"
#include "base/text.h"
#include "data/tokenizer.h"
#include "engine/run.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct score {
	struct pipeline *pipeline;
	struct requests *requests; /* root */
	double *losses;            /* [requests] by number; root */
	size_t done;
};

static size_t pass_capacity(const struct pipeline *p)
{
	return (size_t)p->job->micro_batches * p->job->micro_batch_size;
}

/* ---- reading ---- */

/* The file must be the one that the passes were planned for. */
static int check_plan(const struct score *score)
{
	const struct job_scoring *scoring = &score->pipeline->job->scoring;
	struct requests_run runs[REQUESTS_RUNS_MAX];
	unsigned count = requests_plan(score->requests,
				       pass_capacity(score->pipeline), runs);
	bool same = count == scoring->run_count;

	for (unsigned i = 0; same && i < count; i++)
		same = runs[i].time == scoring->runs[i].time &&
		       runs[i].passes == scoring->runs[i].passes;
	if (same)
		return 0;
	return fail(-EINVAL, "%s has changed since the command began",
		    score->pipeline->job->data);
}

static int open_requests(struct score *score)
{
	const struct job *job = score->pipeline->job;
	struct requests_config config = {
		.kind = (enum requests_kind)job->scoring.kind,
		.vocab_size = job->config.vocab_size,
		.context = job->scoring.window,
		.begin = job->scoring.begin,
		.windows = (enum requests_windows)job->scoring.windows,
		.stride = job->scoring.stride,
		.begin_prompts = job->scoring.begin_prompts,
		.delimiter = job->scoring.delimiter,
	};
	struct tokenizer *tokenizer;
	int rc = tokenizer_load(job->scoring.tokenizer, &tokenizer);

	if (rc)
		return rc;
	config.tokenizer = tokenizer;
	rc = requests_open(&config, job->data, &score->requests);
	tokenizer_destroy(tokenizer);
	if (!rc)
		rc = check_plan(score);
	if (rc)
		return rc;
	score->losses = calloc(requests_count(score->requests), sizeof(double));
	return score->losses ? 0 : fail(-ENOMEM, "no memory for the losses");
}

/* ---- passes ---- */

/* One replica's rows; those past the last request do not count. */
static void fill_share(struct score *score, unsigned replica, size_t first,
		       size_t time)
{
	struct pipeline *p = score->pipeline;
	size_t rows = pipeline_share_samples(p);
	int32_t *tokens = pipeline_tokens(p, replica);
	int32_t *labels = pipeline_labels(p, replica);

	for (size_t i = 0; i < rows; i++) {
		static const int32_t none = 0;
		struct requests_item request = {.given = &none,
						.given_count = 1};

		if (first + i < requests_count(score->requests))
			request = requests_get(score->requests, first + i);
		requests_item_fill(&request, time, tokens + i * time,
				   labels + i * time);
	}
}

static void fill_batch(struct score *score, size_t time)
{
	struct pipeline *p = score->pipeline;
	size_t share = pipeline_share_samples(p);

	pipeline_set_supervised(p, pass_capacity(p) * time);
	for (unsigned d = 0; d < p->grid.replicas; d++)
		fill_share(score, d, score->done + d * share, time);
}

static void take_losses(struct score *score)
{
	const struct pipeline *p = score->pipeline;
	size_t left = requests_count(score->requests) - score->done;
	size_t count = MIN(pass_capacity(p), left);

	for (size_t i = 0; i < count; i++)
		score->losses[requests_number(score->requests,
					      score->done + i)] = p->losses[i];
	score->done += count;
}

static int run_passes(struct score *score)
{
	struct pipeline *p = score->pipeline;
	const struct job_scoring *scoring = &p->job->scoring;
	bool root = p->world->rank == ROUTE_ROOT;
	int rc = 0;

	for (unsigned i = 0; !rc && i < scoring->run_count; i++) {
		const struct requests_run *run = &scoring->runs[i];

		rc = pipeline_prepare_score(p, run->time);
		for (uint64_t n = 0; !rc && n < run->passes; n++) {
			if (root)
				fill_batch(score, run->time);
			rc = pipeline_score(p, run->time, p->losses);
			if (!rc && root)
				take_losses(score);
		}
	}
	return rc;
}

/* ---- what they mean ---- */

static json_t *text_result(const struct score *score)
{
	const struct requests *requests = score->requests;
	uint64_t tokens = requests_scored_tokens(requests);
	double sum = 0;

	for (size_t i = 0; i < requests_count(requests); i++)
		sum += score->losses[i];
	return json_pack("{s:f, s:f, s:I, s:I, s:I}", "loss",
			 sum / (double)tokens, "negative_log_likelihood", sum,
			 "tokens", (json_int_t)tokens, "bytes",
			 (json_int_t)requests_text_bytes(requests), "windows",
			 (json_int_t)requests_count(requests));
}

struct verdicts {
	unsigned choice; /* most likely */
	unsigned by_byte;
};

/* Choices that are equal may differ in the last bits of their losses. */
static bool same_tokens(const struct requests *requests, size_t a, size_t b)
{
	struct requests_item one = requests_by_number(requests, a);
	struct requests_item other = requests_by_number(requests, b);

	return one.scored_count == other.scored_count &&
	       memcmp(one.scored, other.scored,
		      one.scored_count * sizeof(*one.scored)) == 0;
}

/* The most likely choice, by byte or not: the first of equals. */
static unsigned choose(const struct score *score,
		       const struct requests_question *question, bool by_byte)
{
	double most = -INFINITY;
	unsigned best = 0;

	for (unsigned c = 0; c < question->choices; c++) {
		size_t number = question->first + c;
		size_t bytes = requests_choice_bytes(score->requests, number);
		double value = -score->losses[number];

		if (by_byte)
			value /= (double)MAX(bytes, (size_t)1);
		if (value <= most ||
		    (c && same_tokens(score->requests, question->first + best,
				      number)))
			continue;
		most = value;
		best = c;
	}
	return best;
}

static void append_details(const struct score *score,
			   const struct requests_question *question,
			   unsigned choice, unsigned by_byte,
			   struct text_builder *out)
{
	text_builder_append(
		out,
		"{\"line\":%" PRIu64
		",\"answer\":%u,\"choice\":%u,\"choice_norm\":%u,\"log_likelihoods\":[",
		question->line, question->answer, choice, by_byte);
	for (unsigned c = 0; c < question->choices; c++)
		text_builder_append(out, "%s%.9g", c ? "," : "",
				    -score->losses[question->first + c]);
	text_builder_append(out, "]}\n");
}

static int write_details(const struct score *score, struct text_builder *text)
{
	const char *path = score->pipeline->job->scoring.details;
	size_t length = text->length;
	char *data;
	int rc = 0;

	if (!path[0])
		return 0;
	data = text_builder_finish(text);
	rc = data ? files_replace(path, data, length)
		  : fail(-ENOMEM, "%s: no memory for the details", path);
	free(data);
	return rc;
}

static int choices_result(const struct score *score, json_t **out)
{
	const struct requests *requests = score->requests;
	bool wanted = score->pipeline->job->scoring.details[0] != '\0';
	size_t count = requests_question_count(requests);
	size_t right = 0, right_by_byte = 0;
	struct text_builder details;
	int rc;

	text_builder_init(&details);
	for (size_t i = 0; i < count; i++) {
		struct requests_question question =
			requests_question_get(requests, i);
		unsigned choice = choose(score, &question, false);
		unsigned by_byte = choose(score, &question, true);

		right += choice == question.answer;
		right_by_byte += by_byte == question.answer;
		if (wanted)
			append_details(score, &question, choice, by_byte,
				       &details);
	}
	rc = write_details(score, &details);
	text_builder_fini(&details);
	if (!rc)
		*out = json_pack(
			"{s:I, s:I, s:I, s:I, s:I}", "questions",
			(json_int_t)count, "correct", (json_int_t)right,
			"correct_norm", (json_int_t)right_by_byte, "choices",
			(json_int_t)requests_count(requests), "shortened",
			(json_int_t)requests_shortened(requests));
	return rc;
}

/* A loss that is no number would make every comparison false. */
static int check_losses(const struct score *score)
{
	for (size_t i = 0; i < requests_count(score->requests); i++)
		if (!isfinite(score->losses[i]))
			return fail(
				-EDOM,
				"the model's loss is not finite (%g), first in request %zu of %s",
				score->losses[i], i,
				score->pipeline->job->data);
	return 0;
}

static int tell(const struct score *score)
{
	const struct job *job = score->pipeline->job;
	json_t *result = NULL;
	int rc = check_losses(score);

	if (rc)
		return rc;
	if (job->scoring.kind == REQUESTS_CHOICES)
		rc = choices_result(score, &result);
	else
		result = text_result(score);
	if (!rc)
		world_set_result(score->pipeline->world, result);
	return rc;
}

int run_score(struct pipeline *p)
{
	struct score score = {.pipeline = p};
	bool root = p->world->rank == ROUTE_ROOT;
	int rc = root ? open_requests(&score) : 0;

	if (!rc)
		rc = run_passes(&score);
	if (!rc && root)
		rc = tell(&score);
	requests_destroy(score.requests);
	free(score.losses);
	return rc;
}
