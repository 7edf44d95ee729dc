/* What the subcommands share: operands, numbers, output. */
#include "tools/schedule/common.h"
#include "base/log.h"
#include "engine/job.h"
#include "tools/hosts_options.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define OUTPUT_COLUMNS 79

unsigned schedule_command_size(const struct options *options, const char *name)
{
	struct hosts *hosts = hosts_options_current();

	if (options_is_set(options, name))
		return (unsigned)options_integer(options, name);
	return hosts && strcmp(name, "stages") == 0 ? hosts_size(hosts) : 0;
}

unsigned schedule_command_buffers(const struct options *options)
{
	return options_is_set(options, "buffers")
		       ? (unsigned)options_integer(options, "buffers")
		       : SCHEDULE_BUFFERS_ANY;
}

const char *schedule_command_operand(const struct options *options,
				     size_t index)
{
	const char *const *values;
	size_t count = options_operands(options, &values);

	ASSERT(index < count);
	return values[index];
}

/* Under a launcher the ranks are those of all replicas. */
int schedule_command_share(const struct options *options, unsigned *stages,
			   unsigned *micro_batches)
{
	unsigned replicas = (unsigned)options_integer(options, "replicas");
	unsigned ranks = schedule_command_size(options, "stages");
	unsigned all = schedule_command_size(options, "micro-batches");

	if (!options_is_set(options, "stages") && ranks % replicas)
		return fail(-EINVAL,
			    "%u ranks are no %u replicas of a pipeline", ranks,
			    replicas);
	if (job_check_micro_batches(all, replicas))
		return -EINVAL;
	*stages = options_is_set(options, "stages") ? ranks : ranks / replicas;
	*micro_batches = all / replicas;
	return 0;
}

static int open_sized(const struct options *options, size_t index,
		      unsigned ranks, unsigned micro_batches,
		      struct schedule **out)
{
	const char *name = schedule_command_operand(options, index);
	enum schedule_dialect dialect;

	if (schedule_dialect_parse(options_string(options, "dialect"),
				   &dialect))
		return EXIT_MISUSE;
	if (schedule_kind_find(name) && (ranks == 0 || micro_batches == 0)) {
		log_error("schedule %s needs --stages and --micro-batches",
			  name);
		return EXIT_MISUSE;
	}
	return schedule_open(name, ranks, micro_batches,
			     schedule_command_size(options, "chunks"), dialect,
			     out)
		       ? EXIT_FAILURE
		       : 0;
}

int schedule_command_open(const struct options *options, size_t index,
			  struct schedule **out)
{
	return open_sized(options, index,
			  schedule_command_size(options, "stages"),
			  schedule_command_size(options, "micro-batches"), out);
}

int schedule_command_open_share(const struct options *options, size_t index,
				struct schedule **out)
{
	unsigned ranks, micro_batches;

	if (schedule_command_share(options, &ranks, &micro_batches))
		return EXIT_MISUSE;
	return open_sized(options, index, ranks, micro_batches, out);
}

const char *schedule_command_number(char *buffer, size_t size, double number)
{
	for (int digits = 6; digits <= 17; digits++) {
		snprintf(buffer, size, "%.*g", digits, number);
		if (strtod(buffer, NULL) == number)
			break;
	}
	return buffer;
}

void schedule_command_append_wrapped(struct text_builder *text,
				     const char *words, size_t column,
				     size_t indent)
{
	while (*words) {
		size_t length = strcspn(words, " ");

		if (column > indent && column + 1 + length > OUTPUT_COLUMNS) {
			text_builder_append(text, "\n%*s", (int)indent, "");
			column = indent;
		} else if (column > indent) {
			text_builder_append(text, " ");
			column++;
		}
		text_builder_append_bytes(text, words, length);
		column += length;
		words += length;
		words += *words == ' ';
	}
	text_builder_append(text, "\n");
}

bool schedule_command_colour(void)
{
	const char *terminal = getenv("TERM");

	return isatty(STDOUT_FILENO) && getenv("NO_COLOR") == NULL &&
	       terminal != NULL && strcmp(terminal, "dumb") != 0;
}

int schedule_command_print(char *text)
{
	bool good = text != NULL && fputs(text, stdout) != EOF &&
		    fflush(stdout) == 0;

	if (!good)
		log_error("cannot write the output: %s",
			  text ? strerror(errno) : "no memory");
	free(text);
	return good ? EXIT_SUCCESS : EXIT_FAILURE;
}

int schedule_command_check(const struct schedule *schedule, unsigned buffers)
{
	struct schedule_report report;
	int error = schedule_validate(schedule, buffers, &report);

	if (error == -EINVAL)
		log_error("schedule %s: %s", schedule->name, report.reason);
	schedule_report_fini(&report);
	return error;
}

void schedule_command_append_peaks(struct text_builder *text,
				   const unsigned *peaks, unsigned ranks,
				   unsigned chunks, const char *between)
{
	for (unsigned rank = 0; rank < ranks; rank++) {
		char number[40];

		text_builder_append(
			text, "%s%s", rank ? between : "",
			schedule_command_number(number, sizeof(number),
						(double)peaks[rank] / chunks));
	}
}

void schedule_command_append_numbers(struct text_builder *text,
				     const double *numbers, unsigned count,
				     const char *between)
{
	for (unsigned i = 0; i < count; i++) {
		char number[40];

		text_builder_append(text, "%s%s", i ? between : "",
				    schedule_command_number(number,
							    sizeof(number),
							    numbers[i]));
	}
}
