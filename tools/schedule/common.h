/*
 * What the subcommands of 'stagecoach schedule' share. One is a file of this
 * folder that defines a struct schedule_subcommand, declared here, and a row
 * in cmd_schedule.c.
 */
#ifndef STAGECOACH_TOOLS_SCHEDULE_COMMON_H
#define STAGECOACH_TOOLS_SCHEDULE_COMMON_H

#include "base/text.h"
#include "schedules/schedule.h"
#include "tools/options.h"
#include <stdlib.h>

#define EXIT_MISUSE 2

struct schedule_subcommand {
	const char *name; /* "list" */
	size_t operands_minimum;
	size_t operands_maximum;
	const struct option_command *command; /* its name: "schedule list" */
	/* Returns the exit status. */
	int (*run)(const struct options *options);
};

extern const struct schedule_subcommand schedule_list_subcommand;
extern const struct schedule_subcommand schedule_show_subcommand;
extern const struct schedule_subcommand schedule_check_subcommand;
extern const struct schedule_subcommand schedule_simulate_subcommand;
extern const struct schedule_subcommand schedule_rehearse_subcommand;
extern const struct schedule_subcommand schedule_compare_subcommand;
extern const struct schedule_subcommand schedule_search_subcommand;

/* Rows of option tables. */

/* clang-format off */
#define SCHEDULE_SIZE_OPTIONS                                                  \
	{"stages", 'P', OPTION_INTEGER, .argument = "P", .minimum = 1,         \
	 .maximum = SCHEDULE_MAX_STAGES, .group = "Sizes",                     \
	 .help = "ranks of the pipeline (a file brings its own)"},             \
	{"micro-batches", 'M', OPTION_INTEGER, .argument = "M", .minimum = 1,  \
	 .maximum = SCHEDULE_MAX_MICRO_BATCHES, .group = "Sizes",              \
	 .help = "micro-batches a step"},                                      \
	{"chunks", 'V', OPTION_INTEGER, .argument = "V", .minimum = 1,         \
	 .maximum = 256, .group = "Sizes",                                     \
	 .help = "stages a rank holds (default: what the schedule asks for)"}

#define SCHEDULE_DIALECT_OPTION                                                \
	{"dialect", 0, OPTION_CHOICE, .fallback = "auto",                      \
	 .choices = "auto|modern|old", .group = "Files",                       \
	 .help = "how a file writes the backward: I, W, B (modern), or B, W, " \
		 "BW (old)"}

#define SCHEDULE_BUFFERS_OPTION                                                \
	{"buffers", 0, OPTION_INTEGER, .argument = "K", .minimum = 0,          \
	 .maximum = SCHEDULE_MAX_MICRO_BATCHES, .group = "Links",              \
	 .help = "receives posted ahead per link (default: as many as it "     \
		 "takes)"}

#define SCHEDULE_REPLICA_OPTIONS                                               \
	{"replicas", 'D', OPTION_INTEGER, .argument = "D", .fallback = "1",    \
	 .minimum = 1, .maximum = 1024, .group = "Replicas",                   \
	 .help = "copies of the pipeline that share the micro-batches and sum "\
		 "their gradients"},                                           \
	{"shard-optimizer", 0, OPTION_FLAG,                                    \
	 .help = "each replica updates 1/D of the weights, which are then "    \
		 "gathered"},                                                  \
	{"gradient-bytes", 0, OPTION_REAL, .argument = "N", .minimum = 0,      \
	 .maximum = 1e15,                                                      \
	 .help = "gradients of a rank's whole slice (default: what the costs " \
		 "say)"},                                                      \
	{"replica-latency", 0, OPTION_REAL, .argument = "S", .minimum = 0,     \
	 .maximum = 1e30, .help = "as --latency, between replicas"},           \
	{"replica-bandwidth", 0, OPTION_REAL, .argument = "B",                 \
	 .minimum = 1e-30, .maximum = 1e30,                                    \
	 .help = "as --bandwidth, between replicas"}

#define SCHEDULE_JSON_OPTION                                                   \
	{"json", 0, OPTION_FLAG, .group = "Output",                            \
	 .help = "write JSON for scripts"}
/* clang-format on */

/* The value of an integer option of SCHEDULE_SIZE_OPTIONS; 0: not given. */
unsigned schedule_command_size(const struct options *options, const char *name);
/* --buffers, or SCHEDULE_BUFFERS_ANY. */
unsigned schedule_command_buffers(const struct options *options);
const char *schedule_command_operand(const struct options *options,
				     size_t index);

/*
 * Of tables with SCHEDULE_REPLICA_OPTIONS: the stages of one replica, and its
 * share of --micro-batches (0: not given). -EINVAL, logged, where they do not
 * divide.
 */
int schedule_command_share(const struct options *options, unsigned *stages,
			   unsigned *micro_batches) MUST_CHECK;

/*
 * The schedule an operand names, by the size options and --dialect; or, by
 * schedule_command_open_share(), that of one replica. 0, or the exit status when it could not be had (logged). The caller destroys *out.
 */
int schedule_command_open(const struct options *options, size_t index,
			  struct schedule **out) MUST_CHECK;

int schedule_command_open_share(const struct options *options, size_t index,
				struct schedule **out) MUST_CHECK;

/* schedule_validate(), its reason logged. */
int schedule_command_check(const struct schedule *schedule,
			   unsigned buffers) MUST_CHECK;

/* A number as short as reads back the same. Returns buffer (40 bytes do). */
const char *schedule_command_number(char *buffer, size_t size, double number);
void schedule_command_append_numbers(struct text_builder *text,
				     const double *numbers, unsigned count,
				     const char *between);
/* Peaks of ranks, in micro-batches through a rank's whole slice. */
void schedule_command_append_peaks(struct text_builder *text,
				   const unsigned *peaks, unsigned ranks,
				   unsigned chunks, const char *between);

/*
 * Words and a newline, broken so that lines fit a terminal of 80 columns; the
 * text stands at `column`, and further lines begin at `indent`.
 */
void schedule_command_append_wrapped(struct text_builder *text,
				     const char *words, size_t column,
				     size_t indent);

/* Whether standard output is to be coloured: a terminal that can. */
bool schedule_command_colour(void);

/* Writes to standard output and frees; NULL: no memory. The exit status. */
int schedule_command_print(char *text);

#endif
