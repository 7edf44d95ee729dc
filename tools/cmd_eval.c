#include "base/files.h"
#include "base/log.h"
#include "base/math.h"
#include "data/corpus.h"
#include "tools/commands.h"
#include "tools/job_options.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const struct option_spec table[] = {
	{.name = "model",
	 .letter = 'm',
	 .kind = OPTION_STRING,
	 .argument = "DIR",
	 .group = "Input",
	 .help = "Hugging Face model folder: RUN/model, or a checkpoint"},
	JOB_OPTION_BASE,
	{.name = "data",
	 .letter = 'd',
	 .kind = OPTION_STRING,
	 .argument = "DIR",
	 .help = "tokens, as for train"},
	{.name = "on",
	 .kind = OPTION_CHOICE,
	 .argument = "SPLIT",
	 .choices = "val|train",
	 .fallback = "val",
	 .help = "which split to evaluate"},
	{.name = "samples",
	 .letter = 'n',
	 .kind = OPTION_INTEGER,
	 .argument = "N",
	 .fallback = "0",
	 .minimum = 0,
	 .maximum = 1000000000,
	 .help = "sequences to evaluate, in the order of the text; 0: all"},
	{.name = "context",
	 .letter = 'T',
	 .kind = OPTION_INTEGER,
	 .argument = "T",
	 .minimum = 1,
	 .maximum = 1 << 24,
	 .help = "tokens a sequence (default: the model's positions, at most 1024)"},
	{.name = "json", .kind = OPTION_FLAG, .help = "print a JSON object"},
	JOB_OPTIONS_PIPELINE,
	JOB_OPTION_TENSOR,
	JOB_OPTION_DTYPE(""),
	{.name = "micro-batches",
	 .letter = 'M',
	 .kind = OPTION_INTEGER,
	 .argument = "M",
	 .fallback = "8",
	 .minimum = 1,
	 .maximum = 65535,
	 .help = "micro-batches in the pipeline at once"},
	{.name = "micro-batch-size",
	 .letter = 'B',
	 .kind = OPTION_INTEGER,
	 .argument = "B",
	 .fallback = "1",
	 .minimum = 1,
	 .maximum = 65535,
	 .help = "sequences a micro-batch"},
	HOSTS_OPTIONS,
	{.name = NULL},
};

const struct option_command eval_command = {
	.name = "eval",
	.synopsis = "--model DIR --data DIR [options]",
	.summary = "loss and perplexity of a model on a corpus",
	.table = table,
};

static int fill_job(const struct options *options, struct corpus **corpus,
		    struct model **model, struct job *job)
{
	const char *folder = options_string(options, "model");
	const char *data = options_string(options, "data");
	uint64_t wanted = (uint64_t)options_integer(options, "samples");
	uint64_t windows;
	int rc;

	if (!folder || !data)
		return fail(-EINVAL, "eval needs --model DIR and --data DIR");
	job->kind = JOB_EVAL;
	job->split = strcmp(options_string(options, "on"), "train") == 0
			     ? CORPUS_TRAIN
			     : CORPUS_VALIDATION;
	rc = job_options_model(options, folder, job);
	job->config.type = job_options_dtype(options, "dtype");
	if (!rc)
		rc = model_create(&job->config, model);
	if (!rc)
		rc = corpus_open(data, NULL, corpus);
	if (!rc)
		rc = job_options_path(job->data, data);
	if (rc)
		return rc;
	job->packed = corpus_has_examples(*corpus);
	job_options_compare_tokenizers(*corpus, folder);
	job->context = MIN(job->config.context, 1024u);
	if (options_is_set(options, "context"))
		job->context = (unsigned)options_integer(options, "context");
	if (job->context > job->config.context)
		return fail(
			-EINVAL,
			"--context %u is longer than the model's positions (%u)",
			job->context, job->config.context);
	job_options_pipeline(options, job);
	job->micro_batches =
		(unsigned)options_integer(options, "micro-batches");
	job->micro_batch_size =
		(unsigned)options_integer(options, "micro-batch-size");
	job->gradient_groups = 1;
	rc = job_options_slices(options, job);
	if (!rc)
		rc = job_options_windows(*corpus, job->split, job->context,
					 &windows);
	if (rc)
		return rc;
	job->eval_samples = wanted ? MIN(wanted, windows) : windows;
	return job_options_partition(options, *model, job);
}

static void print_result(const struct options *options, const json_t *result)
{
	double loss = json_number_value(json_object_get(result, "loss"));
	int64_t tokens = json_integer_value(json_object_get(result, "tokens"));

	if (options_flag(options, "json"))
		printf("{\"loss\": %.9g, \"perplexity\": %.9g, \"tokens\": %" PRId64
		       "}\n",
		       loss, math_exp(loss), tokens);
	else
		printf("loss %.6f nats a token, perplexity %.3f, over %" PRId64
		       " tokens\n",
		       loss, math_exp(loss), tokens);
}

int cmd_eval(int argc, char **argv)
{
	struct launch_result result = {0};
	struct options *options;
	struct corpus *corpus = NULL;
	struct model *model = NULL;
	struct job *job;
	int rc = options_parse(&eval_command, argc, argv, &options);
	int status;

	if (rc)
		return rc < 0 ? 2 : 0;
	if (hosts_options_begin(options, NULL, &status)) {
		options_destroy(options);
		return status;
	}
	job = calloc(1, sizeof(*job));
	rc = job ? fill_job(options, &corpus, &model, job) : -ENOMEM;
	status = rc == -EINVAL || rc == -ENOENT ? 2 : 1;
	if (!rc) {
		rc = job_options_launch(options, job, NULL, NULL, &result);
		status = rc ? 1 : 0;
		if (!rc && result.done)
			print_result(options, result.done);
		launch_result_fini(&result);
	}
	corpus_close(corpus);
	model_destroy(model);
	free(job);
	options_destroy(options);
	return status;
}
