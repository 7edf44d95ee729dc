#include "tests/schedules/support.h"
#include "base/log.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void swallow(void *argument, enum log_level level, const char *line)
{
	(void)argument;
	(void)level;
	(void)line;
}

void log_silence(void)
{
	log_set_sink(swallow, NULL);
}

char *oracle_path(const char *file)
{
	const char *source = getenv("srcdir");
	char path[4096];

	snprintf(path, sizeof(path), "%s/tests/schedules/oracle/%s",
		 source ? source : ".", file);
	return strdup(path);
}

struct schedule *oracle_load(const char *file)
{
	struct schedule *schedule = NULL;
	char *path = oracle_path(file);

	if (schedule_load(path, SCHEDULE_DIALECT_MODERN, &schedule))
		fail_msg("%s: %s", path, log_last_error());
	free(path);
	return schedule;
}

struct schedule *schedule_from(const char *text)
{
	struct schedule *schedule = NULL;

	if (schedule_parse(text, strlen(text), "test", SCHEDULE_DIALECT_MODERN,
			   &schedule))
		fail_msg("%s: %s", text, log_last_error());
	return schedule;
}

void assert_rows_equal(const struct schedule *a, const struct schedule *b)
{
	assert_int_equal(a->ranks, b->ranks);
	for (unsigned rank = 0; rank < a->ranks; rank++) {
		assert_int_equal(a->rows[rank].count, b->rows[rank].count);
		for (size_t i = 0; i < a->rows[rank].count; i++) {
			const struct action *x = &a->rows[rank].actions[i];
			const struct action *y = &b->rows[rank].actions[i];
			char want[32];
			char got[32];

			schedule_action_text(got, sizeof(got), x);
			schedule_action_text(want, sizeof(want), y);
			assert_string_equal(got, want);
			assert_int_equal(x->group != 0, y->group != 0);
		}
	}
}
