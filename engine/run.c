#include "engine/run.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "data/sampler.h"
#include "engine/agreement.h"
#include "engine/checkpoint.h"
#include "engine/interpreter.h"
#include "model/kernels/gemm.h"

#include <errno.h>
#include <stdlib.h>

/* From here on a user wonders what takes so long. */
#define TOLD_BYTES ((uint64_t)256 << 20)

/* The root, when all have theirs. */
static void tell_of_weights(const struct pipeline *p, int64_t since_ns)
{
	uint64_t total = model_parameter_total(p->model);
	char parameters[32];

	if (p->world->rank != ROUTE_ROOT || !p->job->model[0] ||
	    total * sizeof(float) < TOLD_BYTES)
		return;
	log_info("weights: %s parameters read in %.2f s",
		 text_grouped(parameters, sizeof(parameters), total),
		 (double)(clock_now_ns() - since_ns) / NS_PER_SECOND);
}

static int load_adapters(struct pipeline *p)
{
	if (p->job->resume[0] || p->job->adapter[0])
		return checkpoint_load_adapters(p);
	checkpoint_initialise_adapters(p);
	return 0;
}

static int load(struct pipeline *p)
{
	const struct job *job = p->job;
	int rc;

	if (!job->resume[0] && !job->model[0]) {
		checkpoint_initialise(p);
		return 0;
	}
	rc = checkpoint_load_weights(p);
	if (!rc && job->config.adapters.rank > 0)
		rc = load_adapters(p);
	return rc || !job->resume[0] ? rc : checkpoint_load_moments(p);
}

static int run_kind(struct pipeline *p)
{
	switch (p->job->kind) {
	case JOB_TRAIN:
		return run_train(p);
	case JOB_EVAL:
		return run_evaluate(p);
	case JOB_GENERATE:
		return run_generate(p);
	case JOB_MEASURE:
		return run_measure(p);
	}
	return fail(-EINVAL, "job: an unknown kind of work (%d)",
		    (int)p->job->kind);
}

static int run_job(struct world *world, const struct job *job)
{
	struct grid grid = job_grid(job);
	struct model_config config = job->config;
	struct model *model;
	struct pipeline *pipeline;
	int rc;

	config.slices = grid.slices;
	config.slice = grid_place(&grid, world->rank).slice;
	rc = model_create(&config, &model);

	if (rc)
		return rc;
	rc = gemm_prepare(world->team);
	if (!rc && config.type == ELEMENT_BF16)
		rc = agreement_check_library(world, gemm_bfloat16_library());
	if (!rc)
		rc = pipeline_create(world, job, model, &pipeline);
	if (!rc) {
		int64_t since_ns = clock_now_ns();

		rc = load(pipeline);
		if (!rc && job->kind != JOB_MEASURE)
			rc = agreement_check(pipeline);
		if (!rc)
			tell_of_weights(pipeline, since_ns);
		if (!rc)
			rc = run_kind(pipeline);
		pipeline_destroy(pipeline);
	}
	model_destroy(model);
	return rc;
}

int run_rank(struct world *world)
{
	struct job *job = malloc(sizeof(*job));
	int rc;

	if (!job)
		return fail(-ENOMEM, "no memory for the job");
	world->describe = interpreter_describe;
	rc = job_from_json(world->job, job);
	if (!rc)
		rc = run_job(world, job);
	job_fini(job);
	free(job);
	return rc;
}

/*
 * A replica's windows, from `first` on. Those past the last one are there for the
 * shape and do not count.
 */
static int fill_share(struct pipeline *p, const struct sampler *sampler,
		      unsigned replica, uint64_t first, uint64_t samples)
{
	size_t time = p->job->context;
	uint64_t capacity = pipeline_share_samples(p);
	uint64_t count = first < samples ? MIN(capacity, samples - first) : 0;
	int32_t *labels = pipeline_labels(p, replica);
	int32_t *tokens = pipeline_tokens(p, replica);
	int32_t *starts = pipeline_starts(p, replica);

	for (size_t i = count * time; i < capacity * time; i++) {
		labels[i] = -1;
		tokens[i] = 0;
		if (starts)
			starts[i] = 0;
	}
	return count ? sampler_fill(sampler, first, count, tokens, labels,
				    starts)
		     : 0;
}

static uint64_t count_supervised(const struct pipeline *p)
{
	uint64_t labels = pipeline_share_samples(p) * p->job->context;
	uint64_t supervised = 0;

	for (unsigned d = 0; d < p->grid.replicas; d++)
		for (uint64_t i = 0; i < labels; i++)
			supervised += pipeline_labels(p, d)[i] >= 0;
	return supervised;
}

static int fill_windows(struct pipeline *p, const struct sampler *sampler,
			uint64_t first, uint64_t samples, uint64_t *tokens)
{
	uint64_t share = pipeline_share_samples(p), supervised;
	int rc = 0;

	for (unsigned d = 0; !rc && d < p->grid.replicas; d++)
		rc = fill_share(p, sampler, d, first + d * share, samples);
	if (rc)
		return rc;
	supervised = count_supervised(p);
	pipeline_set_supervised(p, supervised);
	*tokens += supervised;
	return 0;
}

int run_evaluation(struct pipeline *p, const struct sampler *sampler,
		   uint64_t samples, struct evaluation *out)
{
	unsigned micro_batches = p->job->micro_batches;
	uint64_t capacity = (uint64_t)micro_batches * p->job->micro_batch_size;
	uint64_t tokens = 0;
	double sum = 0;
	int rc = 0;

	for (uint64_t first = 0; !rc && first < samples; first += capacity) {
		if (p->world->rank == ROUTE_ROOT)
			rc = fill_windows(p, sampler, first, samples, &tokens);
		if (!rc)
			rc = pipeline_evaluate(p, p->losses);
		for (unsigned m = 0; !rc && m < micro_batches; m++)
			sum += p->losses[m];
	}
	if (rc)
		return rc;
	/* Right on the root, where the losses are, too. */
	out->tokens = tokens;
	out->loss = sum / (double)MAX(tokens, 1u);
	return 0;
}
