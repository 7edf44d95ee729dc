/* Real layers to measure with: see real_model.h. */
#include "tools/schedule/real_model.h"
#include "base/log.h"
#include <errno.h>

/* A vocabulary the size of GPT-2's, where nothing says otherwise. */
#define VOCAB_SIZE 50257

int real_model_read(const struct options *options, struct real_model *out)
{
	struct job *job = &out->job;
	int rc;

	*out = (struct real_model){0};
	rc = train_options_model(options, VOCAB_SIZE, "--vocab-size", job);
	if (rc)
		return rc;
	train_options_dropout(options, &job->config);
	job->context = MIN(job->config.context, 256u);
	if (options_is_set(options, "context"))
		job->context = (unsigned)options_integer(options, "context");
	if (job->context > job->config.context)
		return fail(-EINVAL,
			    "--context %u is longer than the model's positions "
			    "(%u)",
			    job->context, job->config.context);
	job->micro_batch_size =
		(unsigned)options_integer(options, "micro-batch-size");
	job->recompute = options_flag(options, "recompute");
	/* Nothing is to be learned, but the update takes its time. */
	job->optimizer = (struct optimizer_config){
		.kind = OPTIMIZER_ADAMW,
		.beta1 = 0.9,
		.beta2 = 0.95,
		.epsilon = 1e-8,
		.clip = 1,
	};
	return model_create(&job->config, &out->model);
}

void real_model_fini(struct real_model *real)
{
	model_destroy(real->model);
	real->model = NULL;
}

int real_model_calibrate(const struct real_model *real,
			 const struct options *options, unsigned ranks,
			 struct costs *out)
{
	struct calibration calibration = {
		.micro_batch_size = real->job.micro_batch_size,
		.context = real->job.context,
		.recompute = real->job.recompute,
		.budget_ns = CALIBRATION_LONG_NS,
	};

	calibration_place(&calibration, hosts_options_neighbours(ranks),
			  (unsigned)options_integer(options, "threads"),
			  !options_flag(options, "no-pin"));
	return calibrate_layers(real->model, &calibration, out, NULL);
}

int real_model_job(void *argument, const struct comparison *comparison,
		   const struct comparison_entry *entry, struct job *job)
{
	const struct real_model *real = argument;

	*job = real->job;
	job->replicas = comparison->setting.replicas.replicas;
	job->shard_optimizer = comparison->setting.replicas.sharded;
	if (!entry->prediction.partition)
		return fail(-EINVAL, "the costs do not tell how the model's "
				     "layers are to be split: they are not by "
				     "layer");
	job->partition = *entry->prediction.partition;
	return 0;
}
