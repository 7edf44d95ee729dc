#include "engine/metrics.h"
#include "base/files.h"
#include "base/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define METRICS_NAME       "metrics.jsonl"
#define METRICS_FILE_LIMIT ((size_t)4 << 30)

struct line {
	char *text;
	size_t used;
};

static void put(struct line *line, const char *key, const char *format,
		double value)
{
	size_t left = METRICS_LINE_BYTES - line->used;
	char *at = line->text + line->used;
	int n = snprintf(at, left, "%s\"%s\":", line->used > 1 ? "," : "", key);

	line->used += (size_t)n;
	left -= (size_t)n;
	at += n;
	if (!isfinite(value))
		n = snprintf(at, left, "null");
	else
		n = snprintf(at, left, format, value);
	line->used += (size_t)n;
}

static void finish(struct line *line)
{
	snprintf(line->text + line->used, METRICS_LINE_BYTES - line->used, "}");
}

static struct line begin(char *text)
{
	text[0] = '{';
	return (struct line){.text = text, .used = 1};
}

void metrics_format_step(char text[METRICS_LINE_BYTES],
			 const struct metrics_step *step)
{
	struct line line = begin(text);

	put(&line, "step", "%.0f", (double)step->step);
	put(&line, "loss", "%.9g", step->loss);
	put(&line, "grad_norm", "%.6g", step->gradient_norm);
	put(&line, "lr", "%.6g", step->learning_rate);
	put(&line, "tokens", "%.0f", (double)step->tokens);
	put(&line, "tokens_per_second", "%.1f", step->tokens_per_second);
	put(&line, "step_seconds", "%.6f", step->step_seconds);
	put(&line, "bubble", "%.4f", step->bubble);
	put(&line, "time", "%.3f", step->time);
	finish(&line);
}

void metrics_format_evaluation(char text[METRICS_LINE_BYTES],
			       const struct metrics_evaluation *evaluation)
{
	struct line line = begin(text);

	put(&line, "step", "%.0f", (double)evaluation->step);
	put(&line, "val_loss", "%.9g", evaluation->loss);
	put(&line, "val_tokens", "%.0f", (double)evaluation->tokens);
	put(&line, "time", "%.3f", evaluation->time);
	finish(&line);
}

/* The step of a whole line, or -1 for what is none of ours. */
static int64_t step_of(const char *line, size_t length)
{
	json_t *json = json_loadb(line, length, 0, NULL);
	const json_t *step = json_object_get(json, "step");
	int64_t value = json_is_integer(step) ? json_integer_value(step) : -1;

	json_decref(json);
	return value;
}

/* Bytes of the leading lines that belong to steps up to last_step. */
static size_t bytes_to_keep(const char *data, size_t length, uint64_t last_step)
{
	size_t kept = 0;

	while (kept < length) {
		const char *line = data + kept;
		const char *end = memchr(line, '\n', length - kept);
		int64_t step;

		if (!end)
			break;
		step = step_of(line, (size_t)(end - line));
		if (step < 0 || (uint64_t)step > last_step)
			break;
		kept += (size_t)(end - line) + 1;
	}
	return kept;
}

/* How much of a run's metrics a resume keeps; 0: there are none. */
static int find_end(const char *run, uint64_t last_step, uint64_t *keep)
{
	char path[FILES_PATH_BYTES], *data;
	size_t length;
	int rc = files_join(path, sizeof(path), run, METRICS_NAME);

	*keep = 0;
	if (rc || !files_exists(path))
		return rc;
	rc = files_read(path, METRICS_FILE_LIMIT, &data, &length);
	if (rc)
		return rc;
	*keep = bytes_to_keep(data, length, last_step);
	free(data);
	return 0;
}

int metrics_open(struct metrics *metrics, const char *run, uint64_t last_step)
{
	uint64_t keep;
	int rc = find_end(run, last_step, &keep);

	metrics->journal.fd = -1;
	if (rc)
		return rc;
	return journal_open(&metrics->journal, run, METRICS_NAME, keep);
}

void metrics_close(struct metrics *metrics)
{
	journal_close(&metrics->journal);
}

void metrics_append(struct metrics *metrics, const char *line)
{
	char buffer[METRICS_LINE_BYTES + 1];
	int length = snprintf(buffer, sizeof(buffer), "%s\n", line);

	journal_append(&metrics->journal, buffer, (size_t)length);
}
