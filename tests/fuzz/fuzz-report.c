/*
 * What a report reads of a run. The first byte says what the rest is: '0' lines
 * of metrics.jsonl, '1' a trace.json.
 *
 * Lines of metrics are read as the run writes them and, with a space put before
 * each, by way of the JSON library: both find the same.
 */
#include "base/log.h"
#include "tests/fuzz/fuzz.h"
#include "tools/report/record.h"
#include "tools/report/recorded_step.h"
#include <errno.h>
#include <math.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void swallow(void *argument, enum log_level level, const char *line)
{
	(void)argument;
	(void)level;
	FUZZ_CHECK(line[0] != '\0');
}

/* ---- metrics ---- */

/* The same lines, which no longer begin as a run writes them. */
static char *spaced(const char *text, size_t size, size_t *length)
{
	char *out = malloc(2 * size + 1);
	bool begins = true;

	FUZZ_CHECK(out != NULL);
	*length = 0;
	for (size_t i = 0; i < size; i++) {
		if (begins)
			out[(*length)++] = ' ';
		begins = text[i] == '\n';
		out[(*length)++] = text[i];
	}
	return out;
}

static bool same(double a, double b)
{
	return a == b || (isnan(a) && isnan(b));
}

static void compare(const struct record *a, const struct record *b)
{
	FUZZ_CHECK(a->steps.count == b->steps.count);
	FUZZ_CHECK(a->evaluation_count == b->evaluation_count);
	FUZZ_CHECK(a->bad_lines == b->bad_lines);
	FUZZ_CHECK(a->returns == b->returns);
	for (size_t i = 0; i < a->steps.count; i++) {
		FUZZ_CHECK(a->steps.step[i] == b->steps.step[i]);
		FUZZ_CHECK(i == 0 || a->steps.step[i] > a->steps.step[i - 1]);
		for (unsigned c = 0; c < RECORD_COLUMNS; c++)
			FUZZ_CHECK(same(a->steps.column[c][i],
					b->steps.column[c][i]));
	}
	for (size_t i = 0; i < a->evaluation_count; i++)
		FUZZ_CHECK(
			same(a->evaluations[i].loss, b->evaluations[i].loss));
}

static void read_metrics(const char *text, size_t size)
{
	struct record one = {0}, other = {0};
	size_t length;
	char *again = spaced(text, size, &length);
	int rc = record_read_metrics(text, size, "fuzz", &one);

	FUZZ_CHECK(rc == 0 || rc == -EINVAL);
	FUZZ_CHECK(rc == 0 || strncmp(log_last_error(), "fuzz:", 5) == 0);
	FUZZ_CHECK(record_read_metrics(again, length, "fuzz", &other) == rc);
	compare(&one, &other);
	record_fini(&one);
	record_fini(&other);
	free(again);
}

/* ---- traces ---- */

static void check_recorded(const struct recorded_step *recorded)
{
	const struct timeline *timeline = &recorded->timeline;

	FUZZ_CHECK(recorded->steps > 0 && recorded->stages > 0);
	FUZZ_CHECK(recorded->first <= recorded->step &&
		   recorded->step <= recorded->last);
	FUZZ_CHECK(timeline->ranks == recorded->ranks);
	for (unsigned r = 0; r < timeline->ranks; r++) {
		const struct timeline_row *row = &timeline->rows[r];

		for (size_t i = 0; i < row->count; i++) {
			FUZZ_CHECK(row->events[i].start >= 0);
			FUZZ_CHECK(row->events[i].end >= row->events[i].start);
			FUZZ_CHECK(row->events[i].action.stage <
				   recorded->stages);
		}
	}
}

static void read_trace(const char *text, size_t size)
{
	int fd = memfd_create("trace", MFD_CLOEXEC);
	struct recorded_step recorded;
	char path[64];

	FUZZ_CHECK(fd >= 0 && write(fd, text, size) == (ssize_t)size);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	FUZZ_CHECK(recorded_step_read(path, &recorded) == 0);
	if (recorded.ranks)
		check_recorded(&recorded);
	recorded_step_fini(&recorded);
	close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	log_set_sink(swallow, NULL);
	log_clear_last_error();
	if (data[0] % 2)
		read_trace((const char *)data + 1, size - 1);
	else
		read_metrics((const char *)data + 1, size - 1);
	return 0;
}
