/* schedule show: the picture, or the rows as CSV. */
#include "base/log.h"
#include "schedules/draw.h"
#include "tools/schedule/common.h"
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* clang-format off */
static const struct option_spec show_specs[] = {
	SCHEDULE_SIZE_OPTIONS,
	SCHEDULE_DIALECT_OPTION,
	{"csv", 0, OPTION_OPTIONAL, .choices = "compute|comms",
	 .fallback = "compute", .group = "Output",
	 .help = "write rows of cells as torch.distributed.pipelining does: "
		 "compute actions only, or with messages"},
	{"csv-dialect", 0, OPTION_CHOICE, .choices = "modern|old",
	 .help = "the dialect --csv writes (default: that of --dialect, and "
		 "modern for auto)"},
	{"colour", 0, OPTION_CHOICE, .fallback = "auto",
	 .choices = "auto|always|never", .group = "Output",
	 .help = "colour the picture (auto: on a terminal)"},
	{0},
};

static const struct option_command show_command = {
	.name = "schedule show",
	.synopsis = "NAME|FILE [--stages P "
		    "--micro-batches M --chunks V] [--csv[=comms]]",
	.summary = "draw a schedule, or write it as CSV",
	.description =
		"The CSV is that of torch.distributed.pipelining: a row a "
		"rank, a cell an action. Both of its dialects are read and "
		"written: the modern one, whose backward is I, W and B (both), "
		"and the old one, where these are B, W and BW. 'show FILE "
		"--csv --csv-dialect old' turns a file into the old one.",
	.table = show_specs,
	.operands = "NAME|FILE",
};
/* clang-format on */

static size_t terminal_width(void)
{
	struct winsize size;

	if (!isatty(STDOUT_FILENO))
		return 0;
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) || size.ws_col == 0)
		return 80;
	return size.ws_col;
}

static bool wants_colour(const struct options *options)
{
	const char *colour = options_string(options, "colour");

	if (strcmp(colour, "auto") != 0)
		return strcmp(colour, "always") == 0;
	return schedule_command_colour();
}

static enum schedule_dialect written_dialect(const struct options *options)
{
	const char *text = options_string(options, "csv-dialect");
	enum schedule_dialect dialect;

	if (text == NULL)
		text = options_string(options, "dialect");
	/* The parser of options let nothing else through. */
	return schedule_dialect_parse(text, &dialect) ? SCHEDULE_DIALECT_AUTO
						      : dialect;
}

static int show_csv(const struct options *options,
		    const struct schedule *schedule)
{
	struct schedule_lowering lowering = {.reduce = true, .pairs = true};
	bool messages = strcmp(options_string(options, "csv"), "comms") == 0;
	struct schedule *part;
	int status;

	if (messages ? schedule_lower(schedule, &lowering, &part)
		     : schedule_compute_part(schedule, &part))
		return EXIT_FAILURE;
	/* Written as PyTorch does, overlapped pairs may wait for themselves. */
	status = EXIT_FAILURE;
	if (!messages ||
	    schedule_command_check(part, SCHEDULE_BUFFERS_ANY) == 0)
		status = schedule_command_print(
			schedule_text_as(part, written_dialect(options)));
	schedule_destroy(part);
	return status;
}

static int show_picture(const struct options *options,
			const struct schedule *schedule)
{
	struct schedule_drawing drawing = {
		.colour = wants_colour(options),
		.width = terminal_width(),
	};
	char *text;

	if (schedule_command_check(schedule, SCHEDULE_BUFFERS_ANY) ||
	    schedule_draw(schedule, &drawing, &text))
		return EXIT_FAILURE;
	return schedule_command_print(text);
}

static int run_show(const struct options *options)
{
	struct schedule *schedule;
	int status = schedule_command_open(options, 0, &schedule);

	if (status)
		return status;
	if (options_is_set(options, "csv"))
		status = show_csv(options, schedule);
	else
		status = show_picture(options, schedule);
	schedule_destroy(schedule);
	return status;
}

const struct schedule_subcommand schedule_show_subcommand = {
	.name = "show",
	.operands_minimum = 1,
	.operands_maximum = 1,
	.command = &show_command,
	.run = run_show,
};
