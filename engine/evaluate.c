#include "data/sampler.h"
#include "engine/run.h"

/* A corpus: mean loss over its windows. */
static int evaluate_corpus(struct pipeline *p)
{
	const struct job *job = p->job;
	struct corpus_options options = {.vocab_size = job->config.vocab_size};
	struct corpus *corpus = NULL;
	struct sampler sampler = {0};
	struct evaluation evaluation;
	bool root = p->world->rank == ROUTE_ROOT;
	int rc = 0;

	if (root) {
		rc = corpus_open(job->data, &options, &corpus);
		if (!rc)
			rc = sampler_init(
				&sampler, corpus, (enum corpus_split)job->split,
				SAMPLER_SEQUENTIAL, job->seed, job->context);
	}
	if (!rc)
		rc = run_evaluation(p, &sampler, job->eval_samples,
				    &evaluation);
	if (!rc && root)
		world_set_result(p->world,
				 json_pack("{s:f, s:I}", "loss",
					   evaluation.loss, "tokens",
					   (json_int_t)evaluation.tokens));
	sampler_fini(&sampler);
	corpus_close(corpus);
	return rc;
}

int run_evaluate(struct pipeline *p)
{
	return job_scores(p->job) ? run_score(p) : evaluate_corpus(p);
}
