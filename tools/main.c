/* stagecoach COMMAND ...: finds the command and hands it its words. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/compiler.h"
#include "base/log.h"
#include "base/text.h"
#include "tools/commands.h"
#include "tools/hosts_options.h"

#define PURPOSE "train transformers whose layers are split into stages"

struct command {
	const char *name;
	const char *summary; /* NULL: not shown */
	int (*run)(int argc, char **argv);
};

/* In the order a newcomer meets them. */
static const struct command commands[] = {
	{"prepare", "turn text into a tokenizer and token shards", cmd_prepare},
	{"train", "train a model, its layers split over stages", cmd_train},
	{"plan", "say what each stage will hold and how long a step will take",
	 cmd_plan},
	{"eval", "measure the loss of a model on a corpus", cmd_eval},
	{"generate", "continue a prompt with a model", cmd_generate},
	{"schedule", "prove, predict, rehearse, compare, search schedules",
	 cmd_schedule},
	{"merge", "fold adapters into the model they belong to", cmd_merge},
	{"inspect", "describe a model, a checkpoint or a corpus", cmd_inspect},
	{"report", "one page about a run: curves, time, memory", cmd_report},
	{"bench", "measure the transports beside yardsticks", cmd_bench},
	{"key", "make a job key, for ranks on several hosts", cmd_key},
	{"rank", NULL, cmd_rank},
};

static void print_usage(FILE *out)
{
	size_t i;

	fprintf(out,
		"Usage: stagecoach COMMAND [options]\n\n"
		"stagecoach: %s.\n\nCommands\n",
		PURPOSE);
	for (i = 0; i < ARRAY_SIZE(commands); i++)
		if (commands[i].summary)
			fprintf(out, "  %-10s  %s\n", commands[i].name,
				commands[i].summary);
	fprintf(out,
		"\n'stagecoach help COMMAND' lists a command's options.\n");
}

static const struct command *find(const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(commands); i++)
		if (!strcmp(commands[i].name, name))
			return &commands[i];
	return NULL;
}

static int unknown_command(const char *name)
{
	const char *names[ARRAY_SIZE(commands)];
	const char *nearest;
	size_t count = 0;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(commands); i++)
		if (commands[i].summary)
			names[count++] = commands[i].name;
	nearest = text_nearest(name, names, count);
	if (nearest)
		log_error("unknown command '%s'; did you mean '%s'?", name,
			  nearest);
	else
		log_error("unknown command '%s'; 'stagecoach --help' lists "
			  "the commands",
			  name);
	return 2;
}

static void print_manual(FILE *out)
{
	size_t i;

	fprintf(out,
		".TH STAGECOACH 1 \"\" \"stagecoach %s\"\n"
		".SH NAME\nstagecoach \\- %s\n"
		".SH SYNOPSIS\n\\fBstagecoach\\fR COMMAND [options]\n"
		".SH COMMANDS\n",
		PACKAGE_VERSION, PURPOSE);
	for (i = 0; i < ARRAY_SIZE(commands); i++)
		if (commands[i].summary)
			fprintf(out, ".TP\n\\fB%s\\fR\n%s\n", commands[i].name,
				commands[i].summary);
	fprintf(out, ".SH EXIT STATUS\n0 done, 1 failed, 2 misuse.\n");
}

/*
 * help [COMMAND [SUBCOMMAND]]; and, for `make`, the same with --manual: roff.
 */
static int help(int argc, char **argv)
{
	char help_word[] = "--help";
	char manual_word[] = "--manual";
	bool manual = argc > 1 && !strcmp(argv[1], manual_word);
	char *words[4] = {NULL};
	const struct command *command;

	if (manual) {
		argc--;
		argv++;
	}
	if (argc < 2) {
		if (manual)
			print_manual(stdout);
		else
			print_usage(stdout);
		return 0;
	}
	command = find(argv[1]);
	if (!command)
		return unknown_command(argv[1]);
	if (argc > 3) {
		log_error("help: '%s' is one word too many; help COMMAND says "
			  "what a command takes",
			  argv[3]);
		return 2;
	}
	for (int i = 1; i < argc; i++)
		words[i - 1] = argv[i];
	words[argc - 1] = manual ? manual_word : help_word;
	return command->run(argc, words);
}

static int dispatch(int argc, char **argv)
{
	const struct command *command;

	if (argc < 2) {
		print_usage(stderr);
		return 2;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
		print_usage(stdout);
		return 0;
	}
	if (!strcmp(argv[1], "--version")) {
		printf("stagecoach %s\n", PACKAGE_VERSION);
		return 0;
	}
	if (!strcmp(argv[1], "help"))
		return help(argc - 1, argv + 1);
	command = find(argv[1]);
	if (!command)
		return unknown_command(argv[1]);
	return command->run(argc - 1, argv + 1);
}

int main(int argc, char **argv)
{
	int status;

	/*
	 * A peer that closed its socket is an error code, not the end of the
	 * process; 'stagecoach ... | head' ends by the failed write below.
	 */
	signal(SIGPIPE, SIG_IGN);
	/* Asks what a job waits for: no harm where none runs yet, or any more. */
	signal(SIGUSR1, SIG_IGN);
	status = dispatch(argc, argv);
	hosts_options_end(status);
	if (fflush(stdout) || ferror(stdout)) {
		if (errno != EPIPE && status == 0)
			log_error("cannot write to standard output: %s",
				  strerror(errno));
		return status ? status : 1;
	}
	return status;
}
