/* stagecoach merge: adapters folded into the model they belong to. */
#include "base/log.h"
#include "base/text.h"
#include "engine/merge.h"
#include "model/io/hf_adapter.h"
#include "tools/commands.h"
#include "tools/job_options.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct option_spec table[] = {
	{.name = "model",
	 .letter = 'm',
	 .kind = OPTION_STRING,
	 .argument = "DIR",
	 .group = "Input and output",
	 .help = "folder of adapters: RUN/model, a checkpoint, or one that PEFT wrote"},
	JOB_OPTION_BASE,
	{.name = "out",
	 .letter = 'o',
	 .kind = OPTION_STRING,
	 .argument = "DIR",
	 .help = "folder for the model; must not exist"},
	{.name = "threads",
	 .kind = OPTION_INTEGER,
	 .argument = "N",
	 .fallback = "0",
	 .minimum = 0,
	 .maximum = THREADS_MAX,
	 .help = "threads of the products; 0: one a core"},
	{.name = NULL},
};

const struct option_command merge_command = {
	.name = "merge",
	.synopsis = "--model DIR --out DIR [--base DIR]",
	.summary = "fold adapters (LoRA) into the model they belong to",
	.description =
		"Writes a model folder that computes what the base model and its adapters compute together: each matrix W that has an adapter becomes W + alpha / r B A, in the type it has in the base model. Everything else, the tokenizer and the other files too, is as it is there.",
	.table = table,
};

static int merge_of_options(const struct options *options)
{
	const char *folder = options_string(options, "model");
	char base[FILES_PATH_BYTES];
	struct merge merge = {
		.adapter = folder,
		.base = base,
		.out = options_string(options, "out"),
		.threads = (unsigned)options_integer(options, "threads"),
	};
	int rc;

	if (!folder || !merge.out)
		return fail(-EINVAL, "merge needs --model DIR and --out DIR");
	rc = hf_adapter_read_model(folder, options_string(options, "base"),
				   &merge.config, base);
	if (rc)
		return rc;
	if (!base[0])
		return fail(-EINVAL, "%s is a model, and has no adapters",
			    folder);
	if (merge.threads == 0)
		merge.threads =
			(unsigned)MIN(MAX(sysconf(_SC_NPROCESSORS_ONLN), 1L),
				      (long)THREADS_MAX);
	rc = merge_adapters(&merge);
	if (!rc)
		printf("%s: %s with the adapters of %s\n", merge.out, base,
		       folder);
	return rc;
}

int cmd_merge(int argc, char **argv)
{
	struct options *options;
	int rc = options_parse(&merge_command, argc, argv, &options);

	if (rc)
		return rc < 0 ? 2 : 0;
	rc = merge_of_options(options);
	options_destroy(options);
	return !rc                                               ? 0
	       : rc == -EINVAL || rc == -ENOENT || rc == -EEXIST ? 2
								 : 1;
}
