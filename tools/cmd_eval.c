#include "base/files.h"
#include "base/log.h"
#include "base/math.h"
#include "base/text.h"
#include "data/corpus.h"
#include "data/tokenizer.h"
#include "tools/commands.h"
#include "tools/job_options.h"

#include <errno.h>
#include <math.h>
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
	{.name = "text",
	 .kind = OPTION_STRING,
	 .argument = "FILE",
	 .group = "A text, instead of --data",
	 .help = "score each token of a text file"},
	{.name = "windows",
	 .kind = OPTION_CHOICE,
	 .argument = "HOW",
	 .choices = "rolling|sliding",
	 .fallback = "rolling",
	 .help = "rolling, as lm-evaluation-harness: from a begin token on; sliding, as transformers' documentation: the first token is not scored"},
	{.name = "stride",
	 .kind = OPTION_INTEGER,
	 .argument = "S",
	 .minimum = 1,
	 .maximum = 1 << 24,
	 .help = "tokens a window scores behind the first one, the others are read again (default: all of them)"},
	{.name = "choices",
	 .kind = OPTION_STRING,
	 .argument = "FILE",
	 .group = "Multiple choice, instead of --data",
	 .help = "a JSON object a line: {\"prompt\": TEXT, \"choices\": [TEXT, ...], \"answer\": INDEX or TEXT}"},
	{.name = "delimiter",
	 .kind = OPTION_STRING,
	 .argument = "TEXT",
	 .fallback = "",
	 .help = "between prompt and choice, such as a space (lm-evaluation-harness' target_delimiter)"},
	{.name = "bos",
	 .kind = OPTION_FLAG,
	 .help = "put the model's begin token before each prompt"},
	{.name = "details",
	 .kind = OPTION_STRING,
	 .argument = "FILE",
	 .help = "write a JSON object a question there: log-likelihoods and what they choose"},
	{.name = "tokenizer",
	 .kind = OPTION_STRING,
	 .argument = "FILE",
	 .group = "Output and sequences",
	 .help = "tokenizer.json for --text and --choices (default: the model's)"},
	{.name = "context",
	 .letter = 'T',
	 .kind = OPTION_INTEGER,
	 .argument = "T",
	 .minimum = 1,
	 .maximum = 1 << 24,
	 .help = "tokens a sequence (default: the model's positions, at most 1024; for --choices all of them)"},
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
	 .help = "sequences a micro-batch (--text and --choices: by default about 1024 tokens)"},
	HOSTS_OPTIONS,
	{.name = NULL},
};

const struct option_command eval_command = {
	.name = "eval",
	.synopsis =
		"--model DIR --data DIR|--text FILE|--choices FILE [options]",
	.summary = "perplexity of a model, or its accuracy in multiple choice",
	.table = table,
};

struct eval {
	struct options *options;
	const char *folder; /* of the model */
	struct corpus *corpus;
	struct model *model;
	struct job job;
	uint64_t bytes; /* of the text scored; 0: not known */
};

/* ---- a corpus ---- */

static int fill_corpus(struct eval *e)
{
	struct options *options = e->options;
	const char *data = options_string(options, "data");
	uint64_t wanted = (uint64_t)options_integer(options, "samples");
	struct job *job = &e->job;
	uint64_t windows;
	int rc = corpus_open(data, NULL, &e->corpus);

	if (rc)
		return rc;
	job->packed = corpus_has_examples(e->corpus);
	job_options_compare_tokenizers(e->corpus, e->folder);
	job->split = strcmp(options_string(options, "on"), "train") == 0
			     ? CORPUS_TRAIN
			     : CORPUS_VALIDATION;
	rc = job_options_path(job->data, data);
	if (!rc)
		rc = job_options_windows(e->corpus, job->split, job->context,
					 &windows);
	if (!rc)
		job->eval_samples = wanted ? MIN(wanted, windows) : windows;
	return rc;
}

#define COUNT_TOKENS 65536

/* Bytes of a piece of the corpus's text; special tokens are none of it. */
static int count_piece(const struct tokenizer *tokenizer,
		       struct tokenizer_decoder *decoder, const int32_t *tokens,
		       size_t count, uint64_t *bytes)
{
	struct text_builder text;
	int rc = 0;

	text_builder_init(&text);
	for (size_t i = 0; !rc && i < count; i++)
		if (!tokenizer_is_special(tokenizer, tokens[i]))
			rc = tokenizer_decoder_push(decoder, tokens[i], &text);
	*bytes += text.length;
	text_builder_fini(&text);
	return rc;
}

static int count_tokens(const struct eval *e, const struct tokenizer *tokenizer,
			int32_t *room, uint64_t *bytes)
{
	uint64_t end = 1 + e->job.eval_samples * e->job.context;
	struct tokenizer_decoder *decoder;
	int rc = tokenizer_decoder_create(tokenizer, &decoder);

	if (rc)
		return rc;
	for (uint64_t at = 1; !rc && at < end; at += COUNT_TOKENS) {
		size_t count = (size_t)MIN(end - at, (uint64_t)COUNT_TOKENS);

		rc = corpus_read(e->corpus, (enum corpus_split)e->job.split, at,
				 count, room);
		if (!rc)
			rc = count_piece(tokenizer, decoder, room, count,
					 bytes);
	}
	tokenizer_decoder_destroy(decoder);
	return rc;
}

/*
 * The bytes of the text that was scored, where its tokenizer is known. Of
 * examples only answers are.
 */
static int count_bytes(struct eval *e)
{
	const char *path = corpus_tokenizer_path(e->corpus);
	struct tokenizer *tokenizer;
	int32_t *room;
	int rc;

	if (!path || corpus_has_examples(e->corpus))
		return 0;
	rc = tokenizer_load(path, &tokenizer);
	if (rc)
		return rc;
	room = calloc(COUNT_TOKENS, sizeof(*room));
	rc = room ? count_tokens(e, tokenizer, room, &e->bytes)
		  : fail(-ENOMEM, "no memory to count bytes");
	free(room);
	tokenizer_destroy(tokenizer);
	return rc;
}

/* ---- a file of text or choices ---- */

#define BATCH_TOKENS 1024

static int fill_scoring(const struct eval *e, const char *file, struct job *job)
{
	const char *tokenizer = options_string(e->options, "tokenizer");
	const char *delimiter = options_string(e->options, "delimiter");
	const char *details = options_string(e->options, "details");
	struct job_scoring *scoring = &job->scoring;
	int rc = job_options_path(job->data, file);

	scoring->requests = true;
	scoring->kind = options_string(e->options, "text") ? REQUESTS_TEXT
							   : REQUESTS_CHOICES;
	scoring->windows =
		strcmp(options_string(e->options, "windows"), "sliding") == 0
			? REQUESTS_SLIDING
			: REQUESTS_ROLLING;
	scoring->begin_prompts = options_flag(e->options, "bos");
	scoring->window = job->context;
	scoring->stride = job->context;
	if (options_is_set(e->options, "stride"))
		scoring->stride =
			(unsigned)options_integer(e->options, "stride");
	if (text_copy(scoring->delimiter, sizeof(scoring->delimiter),
		      delimiter))
		return fail(-EINVAL,
			    "--delimiter has %zu bytes, it may have %zu",
			    strlen(delimiter), sizeof(scoring->delimiter) - 1);
	if (!rc && details)
		rc = job_options_path(scoring->details, details);
	if (rc)
		return rc;
	if (tokenizer)
		return job_options_path(scoring->tokenizer, tokenizer);
	rc = files_join(scoring->tokenizer, sizeof(scoring->tokenizer),
			e->folder, "tokenizer.json");
	/* Adapters may leave it with their base. */
	if (!rc && !files_exists(scoring->tokenizer))
		rc = files_join(scoring->tokenizer, sizeof(scoring->tokenizer),
				job->model, "tokenizer.json");
	if (!rc && !files_exists(scoring->tokenizer))
		rc = fail(-ENOENT,
			  "%s has no tokenizer.json: give --tokenizer FILE",
			  e->folder);
	return rc;
}

static bool is_token(int id, const struct model_config *config)
{
	return id >= 0 && (unsigned)id < config->vocab_size;
}

/* As lm-evaluation-harness: the begin token, else the end token. */
static int find_begin(const struct model_config *config,
		      const struct tokenizer *tokenizer)
{
	int end = tokenizer_end_of_text(tokenizer);

	if (is_token(config->bos_id, config))
		return config->bos_id;
	if (is_token(config->eos_id, config))
		return config->eos_id;
	return is_token(end, config) ? end : -1;
}

static int open_requests(struct job *job, struct requests **out)
{
	struct job_scoring *scoring = &job->scoring;
	struct requests_config config = {
		.kind = (enum requests_kind)scoring->kind,
		.vocab_size = job->config.vocab_size,
		.context = scoring->window,
		.windows = (enum requests_windows)scoring->windows,
		.stride = scoring->stride,
		.begin_prompts = scoring->begin_prompts,
		.delimiter = scoring->delimiter,
	};
	struct tokenizer *tokenizer;
	int rc = tokenizer_load(scoring->tokenizer, &tokenizer);

	if (rc)
		return rc;
	scoring->begin = find_begin(&job->config, tokenizer);
	config.begin = scoring->begin;
	config.tokenizer = tokenizer;
	if (scoring->begin_prompts && scoring->begin < 0)
		rc = fail(
			-EINVAL,
			"--bos: the model has neither a begin token nor an end token");
	else
		rc = requests_open(&config, job->data, out);
	tokenizer_destroy(tokenizer);
	return rc;
}

/* Batches of about the same work, and no more of them than there is to do. */
static void choose_batch(const struct eval *e, const struct requests *requests,
			 struct job *job)
{
	size_t count = requests_count(requests), batches;

	if (!options_is_typed(e->options, "micro-batch-size"))
		job->micro_batch_size = (unsigned)MIN(
			MAX(BATCH_TOKENS / job->context, 1u), count);
	batches = (count + job->micro_batch_size - 1) / job->micro_batch_size;
	if (!options_is_typed(e->options, "micro-batches"))
		job->micro_batches =
			(unsigned)MIN((size_t)job->micro_batches, batches);
}

static int fill_requests(struct eval *e, const char *file)
{
	struct job *job = &e->job;
	struct job_scoring *scoring = &job->scoring;
	struct requests *requests;
	struct requests_item longest;
	int rc = fill_scoring(e, file, job);

	if (!rc)
		rc = open_requests(job, &requests);
	if (rc)
		return rc;
	if (requests_shortened(requests))
		log_warning(
			"%s: %llu prompts are longer than the model's positions (%u) and lose their beginning",
			file, (unsigned long long)requests_shortened(requests),
			scoring->window);
	/* Of a text the first or the second window is the longest. */
	for (size_t i = 0; i < MIN(requests_count(requests), (size_t)2); i++) {
		longest = requests_get(requests, i);
		job->context = i ? MAX(job->context,
				       (unsigned)requests_item_length(&longest))
				 : (unsigned)requests_item_length(&longest);
	}
	model_config_shorten(&job->config, job->context);
	choose_batch(e, requests, job);
	scoring->run_count = requests_plan(
		requests, (size_t)job->micro_batches * job->micro_batch_size,
		scoring->runs);
	requests_destroy(requests);
	return 0;
}

/* ---- the job ---- */

static int choose_source(const struct eval *e, const char **file)
{
	const char *data = options_string(e->options, "data");
	const char *text = options_string(e->options, "text");
	const char *choices = options_string(e->options, "choices");

	if (!e->folder || !data + !text + !choices != 2)
		return fail(
			-EINVAL,
			"eval needs --model DIR and one of --data DIR, --text FILE, --choices FILE");
	*file = text ? text : choices;
	if (!text && (options_is_typed(e->options, "stride") ||
		      options_is_typed(e->options, "windows")))
		return fail(-EINVAL,
			    "--windows and --stride go with --text FILE");
	if (!choices && (options_is_typed(e->options, "details") ||
			 options_is_typed(e->options, "delimiter") ||
			 options_flag(e->options, "bos")))
		return fail(
			-EINVAL,
			"--details, --delimiter and --bos go with --choices FILE");
	if (!data && (options_is_typed(e->options, "samples") ||
		      options_is_typed(e->options, "on")))
		return fail(-EINVAL, "--on and --samples go with --data DIR");
	if (data && options_is_typed(e->options, "tokenizer"))
		return fail(-EINVAL,
			    "--tokenizer goes with --text and --choices");
	return 0;
}

static int choose_context(const struct eval *e, struct job *job)
{
	unsigned positions = job->config.context;
	bool choices = options_string(e->options, "choices") != NULL;

	job->context = choices ? positions : MIN(positions, 1024u);
	if (options_is_set(e->options, "context"))
		job->context = (unsigned)options_integer(e->options, "context");
	if (job->context > positions)
		return fail(
			-EINVAL,
			"--context %u is longer than the model's positions (%u)",
			job->context, positions);
	return 0;
}

static int fill_job(struct eval *e)
{
	const struct options *options = e->options;
	struct job *job = &e->job;
	const char *file = NULL;
	int rc;

	e->folder = options_string(options, "model");
	rc = choose_source(e, &file);
	if (!rc)
		rc = job_options_model(options, e->folder, job);
	job->config.type = job_options_dtype(options, "dtype");
	if (!rc)
		rc = model_create(&job->config, &e->model);
	if (!rc)
		rc = choose_context(e, job);
	if (rc)
		return rc;
	job->kind = JOB_EVAL;
	job->micro_batches =
		(unsigned)options_integer(options, "micro-batches");
	job->micro_batch_size =
		(unsigned)options_integer(options, "micro-batch-size");
	job->gradient_groups = 1;
	rc = file ? fill_requests(e, file) : fill_corpus(e);
	if (rc)
		return rc;
	job_options_pipeline(options, job);
	rc = job_options_slices(options, job);
	return rc ? rc : job_options_partition(options, e->model, job);
}

/* ---- results ---- */

static double number(const json_t *result, const char *key)
{
	return json_number_value(json_object_get(result, key));
}

static void print_loss(const struct eval *e, const json_t *result)
{
	double loss = number(result, "loss");
	double tokens = number(result, "tokens");
	double bytes = e->corpus ? (double)e->bytes : number(result, "bytes");
	double bits = bytes > 0 ? loss * tokens / bytes / math_log(2) : 0;

	if (options_flag(e->options, "json")) {
		printf("{\"loss\": %.9g, \"perplexity\": %.9g, \"tokens\": %.0f",
		       loss, math_exp(loss), tokens);
		if (bytes > 0)
			printf(", \"bits_per_byte\": %.9g, \"bytes\": %.0f",
			       bits, bytes);
		puts("}");
		return;
	}
	printf("loss %.6f nats a token, perplexity %.3f", loss, math_exp(loss));
	if (bytes > 0)
		printf(", %.4f bits a byte, over %.0f tokens of %.0f bytes\n",
		       bits, tokens, bytes);
	else
		printf(", over %.0f tokens\n", tokens);
}

/* Of a share of n: the standard deviation of its mean. */
static double standard_error(double share, double n)
{
	return n > 1 ? sqrt(share * (1 - share) / (n - 1)) : 0;
}

static void print_accuracy(const struct eval *e, const json_t *result)
{
	double n = number(result, "questions");
	double acc = number(result, "correct") / n;
	double acc_norm = number(result, "correct_norm") / n;

	if (options_flag(e->options, "json"))
		printf("{\"acc\": %.9g, \"acc_stderr\": %.9g, \"acc_norm\": %.9g, \"acc_norm_stderr\": %.9g, \"questions\": %.0f, \"choices\": %.0f, \"shortened\": %.0f}\n",
		       acc, standard_error(acc, n), acc_norm,
		       standard_error(acc_norm, n), n,
		       number(result, "choices"), number(result, "shortened"));
	else
		printf("accuracy %.4f +- %.4f, by length %.4f +- %.4f, over %.0f questions\n",
		       acc, standard_error(acc, n), acc_norm,
		       standard_error(acc_norm, n), n);
}

static int run(struct eval *e)
{
	struct launch_result result = {0};
	int rc = job_options_launch(e->options, &e->job, NULL, NULL, &result);

	if (!rc && e->corpus)
		rc = count_bytes(e);
	if (!rc && result.done && options_string(e->options, "choices"))
		print_accuracy(e, result.done);
	else if (!rc && result.done)
		print_loss(e, result.done);
	launch_result_fini(&result);
	return rc;
}

int cmd_eval(int argc, char **argv)
{
	struct eval *e = calloc(1, sizeof(*e));
	int status, rc;

	if (!e)
		return 1;
	rc = options_parse(&eval_command, argc, argv, &e->options);
	if (rc) {
		free(e);
		return rc < 0 ? 2 : 0;
	}
	if (hosts_options_begin(e->options, NULL, &status)) {
		options_destroy(e->options);
		free(e);
		return status;
	}
	rc = fill_job(e);
	status = rc == -EINVAL || rc == -ENOENT || rc == -EILSEQ ? 2 : 1;
	if (!rc)
		status = run(e) ? 1 : 0;
	corpus_close(e->corpus);
	model_destroy(e->model);
	options_destroy(e->options);
	free(e);
	return status;
}
