/*
 * stagecoach prepare: text in, tokenizer and token shards out. The work is
 * data/prepare.c's; here are the options, the progress line, and Ctrl-C.
 */
#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "data/prepare.h"
#include "data/sft/template.h"
#include "tools/commands.h"
#include "tools/progress.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct option_spec table[] = {
	{.name = "text",
	 .kind = OPTION_STRINGS,
	 .argument = "FILE|DIR",
	 .group = "Input",
	 .help = "text in UTF-8: files, and folders with all below them"},
	{.name = "sft",
	 .kind = OPTION_STRINGS,
	 .argument = "FILE",
	 .help = "instead of text: examples for supervised fine-tuning, JSON "
		 "Lines (or one array) of prompt/completion, Alpaca, messages "
		 "or ShareGPT"},
	{.name = "template",
	 .kind = OPTION_STRING,
	 .argument = "NAME",
	 .help = "chat template of the examples: " CHAT_TEMPLATES
		 " (default: plain for prompts, alpaca for Alpaca, for "
		 "conversations what the tokenizer has the tokens of)"},
	{.name = "longest",
	 .kind = OPTION_INTEGER,
	 .argument = "N",
	 .fallback = "0",
	 .minimum = 0,
	 .maximum = 1 << 30,
	 .help = "leave out examples of over N tokens; 0: none"},
	{.name = "pattern",
	 .kind = OPTION_STRING,
	 .argument = "PATTERN",
	 .help = "of folders only the files with such names, e.g. '*.pod'"},
	{.name = "out",
	 .letter = 'o',
	 .kind = OPTION_STRING,
	 .argument = "DIR",
	 .group = "Output",
	 .help = "folder to make; must not exist"},
	{.name = "tokenizer",
	 .kind = OPTION_STRING,
	 .argument = "byte|bpe:N|FILE",
	 .fallback = "bpe:4096",
	 .help = "raw bytes; byte pairs trained on the text to N ids; or a "
		 "tokenizer.json"},
	{.name = "val",
	 .kind = OPTION_REAL,
	 .argument = "FRACTION",
	 .fallback = "0.05",
	 .minimum = 0,
	 .maximum = PREPARE_VALIDATION_MAX,
	 .help = "share of the tokens kept for validation, in evenly spaced "
		 "blocks"},
	{.name = "seed",
	 .letter = 's',
	 .kind = OPTION_INTEGER,
	 .argument = "S",
	 .fallback = "1",
	 .minimum = 0,
	 .maximum = 9007199254740992.0,
	 .help = "shifts the validation blocks"},
	{.name = "json",
	 .kind = OPTION_FLAG,
	 .help = "print a JSON object instead of lines"},
	{.name = NULL},
};

static const struct option_command prepare_command = {
	.name = "prepare",
	.synopsis = "--text FILE|DIR... | --sft FILE... --out DIR [options]",
	.summary = "turn text into a tokenizer and token shards",
	.description =
		"Every file is a document and ends with <|endoftext|>. Files "
		"are read in pieces, so they may be larger than the memory. "
		"The folder made holds tokenizer.json, shards in llm.c's "
		"format and corpus.json.\n\nWith --sft every line is an example "
		"of a question and the answer to it (docs/FINE-TUNING.md): "
		"training packs them into sequences, attention stays inside "
		"each, and the loss is that of the answers alone.",
	.table = table,
};

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal_number)
{
	(void)signal_number;
	interrupted = 1;
}

/* The line of the phase at work. */
struct display {
	struct progress progress;
	enum prepare_phase phase;
	bool begun;
};

static void display_end(struct display *display)
{
	if (display->begun)
		progress_end(&display->progress);
	display->begun = false;
}

static void display_begin(struct display *display, enum prepare_phase phase,
			  uint64_t total)
{
	static const char *const labels[] = {
		[PREPARE_COUNTING] = "read",
		[PREPARE_MERGING] = "merge",
		[PREPARE_ENCODING] = "encode",
	};

	display_end(display);
	display->phase = phase;
	display->begun = true;
	display->progress = (struct progress){
		.label = labels[phase],
		.unit = phase == PREPARE_MERGING ? "id" : "B",
		.total = total,
	};
	progress_begin(&display->progress);
}

static int on_progress(void *argument, enum prepare_phase phase, uint64_t done,
		       uint64_t total)
{
	struct display *display = argument;

	if (interrupted)
		return fail(-EINTR, "interrupted; nothing was written");
	if (!display->begun || display->phase != phase)
		display_begin(display, phase, total);
	progress_update(&display->progress, done, NULL);
	return 0;
}

static void print_json(const struct prepare_result *result, const char *out,
		       double seconds)
{
	json_t *json = json_pack(
		"{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:f, s:f}", "out", out,
		"tokenizer", result->kind, "vocab_size",
		(json_int_t)result->vocab_size, "documents",
		(json_int_t)result->documents, "bytes",
		(json_int_t)result->bytes, "train_tokens",
		(json_int_t)result->train_tokens, "val_tokens",
		(json_int_t)result->validation_tokens, "unigram_entropy",
		result->unigram_entropy, "seconds", seconds);

	if (json && result->template)
		json_object_update_new(
			json,
			json_pack("{s:s, s:I, s:I, s:I, s:I, s:I}", "template",
				  result->template, "train_examples",
				  (json_int_t)result->train_examples,
				  "val_examples",
				  (json_int_t)result->validation_examples,
				  "supervised", (json_int_t)result->supervised,
				  "longest", (json_int_t)result->longest,
				  "left_out", (json_int_t)result->left_out));
	if (json)
		json_dumpf(json, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
	putchar('\n');
	json_decref(json);
}

static void print_examples(const struct prepare_result *result)
{
	uint64_t tokens = result->train_tokens + result->validation_tokens;
	char bytes[32], train[32], val[32], all[32], supervised[32];

	printf("examples    %s: %s for training, %s for validation, template "
	       "%s\n",
	       text_bytes(bytes, sizeof(bytes), result->bytes),
	       text_grouped(train, sizeof(train), result->train_examples),
	       text_grouped(val, sizeof(val), result->validation_examples),
	       result->template);
	printf("tokens      %s, of which %s (%.1f %%) are supervised; the "
	       "longest example has %llu\n",
	       text_grouped(all, sizeof(all), tokens),
	       text_grouped(supervised, sizeof(supervised), result->supervised),
	       100 * (double)result->supervised / (double)tokens,
	       (unsigned long long)result->longest);
	if (result->left_out)
		printf("left out    %llu examples, which are longer than "
		       "--longest\n",
		       (unsigned long long)result->left_out);
}

static void print_text(const struct prepare_result *result)
{
	uint64_t tokens = result->train_tokens + result->validation_tokens;
	char bytes[32], all[32], train[32], val[32];

	printf("text        %s in %llu document%s\n",
	       text_bytes(bytes, sizeof(bytes), result->bytes),
	       (unsigned long long)result->documents,
	       result->documents == 1 ? "" : "s");
	printf("tokens      %s: %s for training, %s for validation\n",
	       text_grouped(all, sizeof(all), tokens),
	       text_grouped(train, sizeof(train), result->train_tokens),
	       text_grouped(val, sizeof(val), result->validation_tokens));
}

static void print_lines(const struct prepare_result *result, const char *out,
			double seconds)
{
	uint64_t tokens = result->train_tokens + result->validation_tokens;
	char time[32];

	if (result->template)
		print_examples(result);
	else
		print_text(result);
	printf("vocabulary  %zu (%s), %.2f bytes per token\n",
	       result->vocab_size, result->kind,
	       (double)result->bytes / (double)tokens);
	printf("entropy     %.4f nats per token for one who knows how often "
	       "each token comes\n",
	       result->unigram_entropy);
	printf("written to  %s in %s\n", out,
	       text_duration(time, sizeof(time), seconds));
}

/* False, logged: options that do not go together. */
static bool choose_inputs(const struct options *options,
			  struct prepare_options *wanted)
{
	const char *const *examples;
	size_t count = options_strings(options, "sft", &examples);

	wanted->input_count = options_strings(options, "text", &wanted->inputs);
	wanted->template = options_string(options, "template");
	wanted->longest = (uint64_t)options_integer(options, "longest");
	if (!wanted->out || count + wanted->input_count == 0)
		log_error("prepare needs --text FILE|DIR or --sft FILE, and "
			  "--out DIR");
	else if (count && wanted->input_count)
		log_error("--text and --sft make different corpora: prepare "
			  "one of them at a time");
	else if (!count && (wanted->template || wanted->longest))
		log_error("--template and --longest are for examples (--sft)");
	else if (!count)
		return true;
	else
		wanted->examples = true;
	wanted->inputs = examples;
	wanted->input_count = count;
	return wanted->examples;
}

static int prepare(const struct options *options)
{
	struct display display = {.begun = false};
	const char *out = options_string(options, "out");
	struct prepare_result result;
	struct prepare_options wanted = {
		.pattern = options_string(options, "pattern"),
		.out = out,
		.tokenizer = options_string(options, "tokenizer"),
		.validation = options_real(options, "val"),
		.seed = (uint64_t)options_integer(options, "seed"),
		.progress = on_progress,
		.argument = &display,
	};
	int64_t start = clock_now_ns();
	double seconds;
	int err;

	if (!choose_inputs(options, &wanted))
		return 2;
	err = prepare_run(&wanted, &result);
	display_end(&display);
	if (err)
		return err == -ENOENT || err == -EEXIST ? 2 : 1;
	seconds = clock_seconds(clock_now_ns() - start);
	if (wanted.validation > 0 && !result.validation_tokens)
		log_warning("there is too little for a validation split: all "
			    "of it is for training");
	if (options_flag(options, "json"))
		print_json(&result, out, seconds);
	else
		print_lines(&result, out, seconds);
	return 0;
}

int cmd_prepare(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = on_interrupt}, before;
	struct options *options;
	int status, rc = options_parse(&prepare_command, argc, argv, &options);

	if (rc)
		return rc < 0 ? 2 : 0;
	interrupted = 0;
	sigemptyset(&action.sa_mask);
	sigaction(SIGINT, &action, &before);
	status = prepare(options);
	sigaction(SIGINT, &before, NULL);
	options_destroy(options);
	return status;
}
