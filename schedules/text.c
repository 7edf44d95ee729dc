/*
 * Writing a schedule as PyTorch's CSV, and the small questions of text and
 * files; parse.c reads.
 */
#include "base/text.h"
#include "base/files.h"
#include "base/log.h"
#include "schedules/build.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Far above any schedule within SCHEDULE_MAX_ACTIONS. */
#define FILE_LIMIT_BYTES ((size_t)2 << 30)

static void write_action(char *buffer, size_t size, const struct action *action,
			 bool old)
{
	if (old && action->op == ACTION_BACKWARD_INPUT)
		snprintf(buffer, size, "%uB%u", action->stage,
			 action->micro_batch);
	else if (old && action->op == ACTION_BACKWARD)
		snprintf(buffer, size, "%uBW%u", action->stage,
			 action->micro_batch);
	else
		schedule_action_text(buffer, size, action);
}

/* "{0F3,1B2}" as one cell: returns how many actions it took. */
static size_t write_cell(struct text_builder *text,
			 const struct schedule_row *row, size_t position,
			 bool old)
{
	const struct action *action = &row->actions[position];
	char first[32];
	char second[32];

	write_action(first, sizeof(first), action, old);
	if (action->group == 0 || position + 1 >= row->count ||
	    action[1].group != action->group) {
		text_builder_append(text, "%s", first);
		return 1;
	}
	write_action(second, sizeof(second), action + 1, old);
	text_builder_append(text, "(%s;%s)OVERLAP_F_B", first, second);
	return 2;
}

char *schedule_text(const struct schedule *schedule)
{
	return schedule_text_as(schedule, SCHEDULE_DIALECT_MODERN);
}

char *schedule_text_as(const struct schedule *schedule,
		       enum schedule_dialect dialect)
{
	bool old = dialect == SCHEDULE_DIALECT_OLD;
	struct text_builder text;

	text_builder_init(&text);
	for (unsigned rank = 0; rank < schedule->ranks; rank++) {
		const struct schedule_row *row = &schedule->rows[rank];
		size_t position = 0;

		while (position < row->count) {
			if (position > 0)
				text_builder_append(&text, ",");
			position += write_cell(&text, row, position, old);
		}
		text_builder_append(&text, "\r\n");
	}
	return text_builder_finish(&text);
}

int schedule_dialect_parse(const char *text, enum schedule_dialect *out)
{
	static const char *const names[] = {
		[SCHEDULE_DIALECT_AUTO] = "auto",
		[SCHEDULE_DIALECT_MODERN] = "modern",
		[SCHEDULE_DIALECT_OLD] = "old",
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strcmp(text, names[i]) == 0) {
			*out = (enum schedule_dialect)i;
			return 0;
		}
	return -EINVAL;
}

int schedule_load(const char *path, enum schedule_dialect dialect,
		  struct schedule **out)
{
	char *text;
	size_t length;
	int error = files_read(path, FILE_LIMIT_BYTES, &text, &length);

	if (error)
		return error;
	error = schedule_parse(text, length, path, dialect, out);
	free(text);
	return error;
}

bool schedule_is_file(const char *name)
{
	size_t length = strlen(name);

	if (strchr(name, '/') != NULL)
		return true;
	if (length > 4 && strcmp(name + length - 4, ".csv") == 0)
		return true;
	return schedule_kind_find(name) == NULL && files_exists(name);
}

static int check_asked(const char *path, const char *what, unsigned asked,
		       unsigned has)
{
	if (asked == 0 || asked == has)
		return 0;
	return fail(-EINVAL, "%s: the schedule is for %u %s, not %u", path, has,
		    what, asked);
}

int schedule_open_text(const char *text, size_t length, const char *origin,
		       unsigned ranks, unsigned micro_batches, unsigned chunks,
		       enum schedule_dialect dialect, struct schedule **out)
{
	struct schedule *schedule;
	int error = schedule_parse(text, length, origin, dialect, &schedule);

	if (error)
		return error;
	error = check_asked(origin, "ranks", ranks, schedule->ranks);
	if (!error)
		error = check_asked(origin, "micro-batches", micro_batches,
				    schedule->micro_batches);
	if (!error)
		error = check_asked(origin, "chunks a rank", chunks,
				    schedule->chunks);
	if (error) {
		schedule_destroy(schedule);
		return error;
	}
	*out = schedule;
	return 0;
}

int schedule_open(const char *name_or_file, unsigned ranks,
		  unsigned micro_batches, unsigned chunks,
		  enum schedule_dialect dialect, struct schedule **out)
{
	char *text;
	size_t length;
	int error;

	if (!schedule_is_file(name_or_file))
		return schedule_generate(name_or_file, ranks, micro_batches,
					 chunks, out);
	error = files_read(name_or_file, FILE_LIMIT_BYTES, &text, &length);
	if (error)
		return error;
	error = schedule_open_text(text, length, name_or_file, ranks,
				   micro_batches, chunks, dialect, out);
	free(text);
	return error;
}
