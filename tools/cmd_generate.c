#include "base/clock.h"
#include "base/files.h"
#include "base/log.h"
#include "data/sft/template.h"
#include "data/tokenizer.h"
#include "tools/commands.h"
#include "tools/job_options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct option_spec table[] = {
	{.name = "model",
	 .letter = 'm',
	 .kind = OPTION_STRING,
	 .argument = "DIR",
	 .group = "Text",
	 .help = "Hugging Face model folder with a tokenizer.json"},
	JOB_OPTION_BASE,
	{.name = "prompt",
	 .letter = 'p',
	 .kind = OPTION_STRING,
	 .argument = "TEXT",
	 .help = "text to go on from (default: the start of a document)"},
	{.name = "template",
	 .kind = OPTION_STRING,
	 .argument = "NAME",
	 .help = "the prompt is what a user asks, in this chat template, and the "
		 "answer is printed up to its end: " CHAT_TEMPLATES},
	{.name = "system",
	 .kind = OPTION_STRING,
	 .argument = "TEXT",
	 .help = "with --template: what the system says before"},
	{.name = "tokens",
	 .letter = 'n',
	 .kind = OPTION_INTEGER,
	 .argument = "N",
	 .fallback = "200",
	 .minimum = 1,
	 .maximum = 1 << 20,
	 .help = "most tokens to generate"},
	{.name = "temperature",
	 .kind = OPTION_REAL,
	 .argument = "X",
	 .fallback = "0.8",
	 .minimum = 0,
	 .maximum = 100,
	 .help = "0: always the likeliest token; 1: as the model says"},
	{.name = "top-k",
	 .kind = OPTION_INTEGER,
	 .argument = "K",
	 .fallback = "50",
	 .minimum = 0,
	 .maximum = 1 << 24,
	 .help = "choose among the K likeliest; 0: among all"},
	{.name = "seed",
	 .kind = OPTION_INTEGER,
	 .argument = "S",
	 .fallback = "1",
	 .minimum = 0,
	 .maximum = 9007199254740992.0,
	 .help = "equal seeds give equal text"},
	JOB_OPTIONS_PIPELINE,
	JOB_OPTION_TENSOR,
	JOB_OPTION_DTYPE("; bf16 reads half the bytes a token"),
	HOSTS_OPTIONS,
	{.name = NULL},
};

const struct option_command generate_command = {
	.name = "generate",
	.synopsis = "--model DIR [--prompt TEXT] [options]",
	.summary = "continue a text",
	.table = table,
};

struct generate {
	struct options *options;
	struct job job;
	struct model *model;
	struct tokenizer *tokenizer;
	struct tokenizer_decoder *decoder;
	unsigned shown;            /* tokens */
	int64_t first_ns, last_ns; /* when the first and the last came */
	int32_t end_of_turn;       /* of a chat template; -1: there is none */
};

static int load_tokenizer(struct generate *g, const char *folder)
{
	char path[FILES_PATH_BYTES];
	int rc = files_join(path, sizeof(path), folder, "tokenizer.json");

	/* Adapters may leave it to their base model. */
	if (!rc && !files_exists(path) && g->job.adapter[0])
		rc = files_join(path, sizeof(path), g->job.model,
				"tokenizer.json");
	if (!rc && !files_exists(path))
		rc = fail(-ENOENT,
			  "%s has no tokenizer.json: text cannot become tokens",
			  folder);
	return rc ? rc : tokenizer_load(path, &g->tokenizer);
}

static int encode_chat(struct generate *g, const struct chat_template *chat,
		       struct token_buffer *out)
{
	const char *prompt = options_string(g->options, "prompt");
	const char *system = options_string(g->options, "system");
	struct example example = {0};
	struct renderer *renderer;
	int rc = renderer_create(chat, g->tokenizer, &renderer);

	if (rc)
		return rc;
	g->end_of_turn = renderer_end(renderer);
	if (system)
		rc = example_add(&example, TURN_SYSTEM, system, strlen(system),
				 false);
	if (!rc)
		rc = example_add(&example, TURN_USER, prompt, strlen(prompt),
				 false);
	if (!rc)
		rc = renderer_prompt(renderer, &example, "--prompt", out);
	example_fini(&example);
	renderer_destroy(renderer);
	return rc;
}

static int check_chat(const struct options *options,
		      const struct chat_template **chat)
{
	const char *name = options_string(options, "template");

	*chat = NULL;
	if (!name && options_string(options, "system"))
		return fail(-EINVAL, "--system is for a chat: say which "
				     "--template");
	if (!name)
		return 0;
	if (!options_string(options, "prompt"))
		return fail(-EINVAL, "--template needs --prompt TEXT: what is "
				     "asked");
	*chat = chat_template_find(name);
	return *chat ? 0 : -EINVAL;
}

static int encode_prompt(struct generate *g, struct token_buffer *out)
{
	const char *prompt = options_string(g->options, "prompt");
	int32_t start = tokenizer_end_of_text(g->tokenizer);
	const struct chat_template *chat;
	int rc = check_chat(g->options, &chat);

	if (rc || chat)
		return rc ? rc : encode_chat(g, chat, out);
	if (prompt && prompt[0]) {
		rc = tokenizer_encode(g->tokenizer, prompt, strlen(prompt),
				      TOKENIZER_SPECIAL | TOKENIZER_TEMPLATE,
				      out);
		return rc == -EILSEQ ? fail(-EINVAL, "--prompt is not UTF-8")
				     : rc;
	}
	if (start < 0)
		return fail(
			-EINVAL,
			"this tokenizer has no token to begin with: give --prompt TEXT");
	return token_buffer_append(out, &start, 1);
}

static int check_prompt(const struct generate *g)
{
	const struct job *job = &g->job;

	if (job->prompt_count > job->config.context)
		return fail(
			-EINVAL,
			"--prompt has %u tokens, the model has positions for %u",
			job->prompt_count, job->config.context);
	for (unsigned i = 0; i < job->prompt_count; i++)
		if (job->prompt[i] < 0 ||
		    (unsigned)job->prompt[i] >= job->config.vocab_size)
			return fail(
				-EINVAL,
				"the tokenizer gives token %d, the model knows %u",
				job->prompt[i], job->config.vocab_size);
	return 0;
}

/*
 * What a token reads as may depend on what stands before it (a space or
 * none), so the decoder sees the prompt too; its text is printed as given.
 */
static int begin_text(struct generate *g)
{
	const struct job *job = &g->job;
	struct text_builder prompt;
	int rc = tokenizer_decoder_create(g->tokenizer, &g->decoder);

	text_builder_init(&prompt);
	for (unsigned i = 0; i < job->prompt_count && !rc; i++)
		rc = tokenizer_decoder_push(g->decoder, job->prompt[i],
					    &prompt);
	text_builder_fini(&prompt);
	return rc;
}

static int fill_job(struct generate *g)
{
	const struct options *o = g->options;
	const char *folder = options_string(o, "model");
	struct token_buffer prompt = {0};
	struct job *job = &g->job;
	int rc;

	if (!folder)
		return fail(-EINVAL, "generate needs --model DIR");
	rc = job_options_model(o, folder, job);
	job->config.type = job_options_dtype(o, "dtype");
	if (!rc)
		rc = model_create(&job->config, &g->model);
	if (!rc)
		rc = load_tokenizer(g, folder);
	if (!rc)
		rc = encode_prompt(g, &prompt);
	job->prompt = prompt.ids; /* job_fini() frees it */
	job->prompt_count = (unsigned)prompt.count;
	if (!rc)
		rc = check_prompt(g);
	if (!rc)
		rc = begin_text(g);
	if (rc)
		return rc;
	job->kind = JOB_GENERATE;
	job->tokens = (unsigned)options_integer(o, "tokens");
	job->temperature = options_real(o, "temperature");
	job->top_k = (unsigned)options_integer(o, "top-k");
	job->seed = (uint64_t)options_integer(o, "seed");
	/* As transformers: the model's own end token comes first. */
	job->end_token = job->config.eos_id;
	if (job->end_token < 0 ||
	    (unsigned)job->end_token >= job->config.vocab_size)
		job->end_token = tokenizer_end_of_text(g->tokenizer);
	if (g->end_of_turn >= 0)
		job->end_token = g->end_of_turn;
	job->micro_batches = 1;
	job->micro_batch_size = 1;
	job->gradient_groups = 1;
	job->context =
		MIN(job->config.context, job->prompt_count + job->tokens);
	model_config_shorten(&job->config, job->context);
	job_options_pipeline(o, job);
	rc = job_options_slices(o, job);
	return rc ? rc : job_options_partition(o, g->model, job);
}

static void print_text(struct text_builder *text)
{
	char *out = text_builder_finish(text);

	if (out) {
		fputs(out, stdout);
		fflush(stdout);
	}
	free(out);
}

static void show_token(void *argument, unsigned rank, const json_t *event)
{
	struct generate *g = argument;
	const json_t *token = json_object_get(event, "token");
	struct text_builder text;

	(void)rank;
	if (!token)
		return;
	g->last_ns = clock_now_ns();
	if (g->shown++ == 0)
		g->first_ns = g->last_ns;
	text_builder_init(&text);
	if (tokenizer_decoder_push(
		    g->decoder, (int32_t)json_integer_value(token), &text) == 0)
		print_text(&text);
	text_builder_fini(&text);
}

/* The first token is the prompt's: what came after it tells the speed. */
static void tell_speed(const struct generate *g)
{
	double seconds = clock_seconds(g->last_ns - g->first_ns);

	if (g->shown > 1 && seconds > 0)
		log_info("%u tokens, %.1f tokens/s after the first", g->shown,
			 (g->shown - 1) / seconds);
}

static int run(struct generate *g)
{
	const char *prompt = options_string(g->options, "prompt");
	struct launch_result result;
	struct text_builder rest;
	int rc;

	/* Of a chat only the answer is told. */
	if (prompt && g->end_of_turn < 0)
		fputs(prompt, stdout);
	fflush(stdout);
	rc = job_options_launch(g->options, &g->job, show_token, g, &result);
	text_builder_init(&rest);
	if (tokenizer_decoder_finish(g->decoder, &rest) == 0)
		print_text(&rest);
	text_builder_fini(&rest);
	puts("");
	tell_speed(g);
	launch_result_fini(&result);
	return rc;
}

int cmd_generate(int argc, char **argv)
{
	struct generate *g = calloc(1, sizeof(*g));
	int status, rc;

	if (!g)
		return 1;
	g->end_of_turn = -1;
	rc = options_parse(&generate_command, argc, argv, &g->options);
	if (rc) {
		free(g);
		return rc < 0 ? 2 : 0;
	}
	if (hosts_options_begin(g->options, NULL, &status)) {
		options_destroy(g->options);
		free(g);
		return status;
	}
	rc = fill_job(g);
	status = rc == -EINVAL || rc == -ENOENT ? 2 : 1;
	if (!rc) {
		rc = run(g);
		status = rc ? 1 : 0;
	}
	job_fini(&g->job);
	tokenizer_decoder_destroy(g->decoder);
	tokenizer_destroy(g->tokenizer);
	model_destroy(g->model);
	options_destroy(g->options);
	free(g);
	return status;
}
