#include "base/log.h"
#include "tools/report/record.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const keys[RECORD_COLUMNS] = {
	[RECORD_LOSS] = "loss",
	[RECORD_GRADIENT_NORM] = "grad_norm",
	[RECORD_RATE] = "lr",
	[RECORD_TOKENS] = "tokens",
	[RECORD_TOKENS_PER_SECOND] = "tokens_per_second",
	[RECORD_STEP_SECONDS] = "step_seconds",
	[RECORD_BUBBLE] = "bubble",
	[RECORD_TIME] = "time",
};

/* What a line of metrics may tell. */
struct line {
	double step;
	double value[RECORD_COLUMNS];
	double val_loss;
	double val_tokens;
	bool has_loss;     /* null or a number */
	bool has_val_loss; /* the same */
};

static void clear_line(struct line *line)
{
	*line = (struct line){.step = NAN, .val_loss = NAN, .val_tokens = NAN};
	for (unsigned c = 0; c < RECORD_COLUMNS; c++)
		line->value[c] = NAN;
}

static bool is_key(const char *wanted, const char *key, size_t length)
{
	return strncmp(wanted, key, length) == 0 && wanted[length] == '\0';
}

/* Keys that are none of ours are passed over. */
static void set_value(struct line *line, const char *key, size_t length,
		      double value)
{
	for (unsigned c = 0; c < RECORD_COLUMNS; c++)
		if (is_key(keys[c], key, length))
			line->value[c] = value;
	if (is_key("step", key, length))
		line->step = value;
	if (is_key("loss", key, length))
		line->has_loss = true;
	if (is_key("val_tokens", key, length))
		line->val_tokens = value;
	if (is_key("val_loss", key, length)) {
		line->val_loss = value;
		line->has_val_loss = true;
	}
}

/* Any JSON object. -EINVAL, silent. */
static int parse_json(const char *text, size_t length, struct line *line)
{
	json_t *json = json_loadb(text, length, 0, NULL), *value;
	const char *key;
	int rc = json_is_object(json) ? 0 : -EINVAL;

	clear_line(line);
	json_object_foreach(json, key, value) set_value(
		line, key, strlen(key),
		json_is_number(value) ? json_number_value(value) : NAN);
	json_decref(json);
	return rc;
}

static size_t count_digits(const char *at)
{
	return strspn(at, "0123456789");
}

/* A number as JSON has it (RFC 8259, section 6), not too long; 0: none. */
static size_t number_length(const char *text)
{
	const char *at = text + (*text == '-');
	size_t digits = count_digits(at);

	if (digits == 0 || digits > 18 || (digits > 1 && *at == '0'))
		return 0;
	at += digits;
	if (*at == '.') {
		digits = count_digits(++at);
		at += digits;
		if (digits == 0)
			return 0;
	}
	if (*at == 'e' || *at == 'E') {
		at++;
		at += *at == '+' || *at == '-';
		digits = count_digits(at);
		at += digits;
		if (digits == 0)
			return 0;
	}
	return (size_t)(at - text);
}

/* null or a number from *at on, which moves behind it. */
static bool parse_value(const char **at, const char *end, double *value)
{
	size_t length;

	*value = NAN;
	if (end - *at > 4 && memcmp(*at, "null", 4) == 0) {
		*at += 4;
		return true;
	}
	length = number_length(*at);
	if (!length)
		return false;
	*value = strtod(*at, NULL);
	*at += length;
	return isfinite(*value);
}

/* "key": from *at on, of letters and _; *key stands in the line. */
static bool parse_key(const char **at, const char *end, const char **key,
		      size_t *length)
{
	if (end - *at < 4 || **at != '"')
		return false;
	*key = *at + 1;
	*length = strspn(*key, "abcdefghijklmnopqrstuvwxyz_");
	*at = *key + *length + 2;
	return (*key)[*length] == '"' && (*key)[*length + 1] == ':';
}

/*
 * The form a run writes them in, {"key":number,...}, half a million in a
 * second. False for any other, of which parse_json() knows better. The line
 * is followed by a newline, where keys and numbers end.
 */
static bool parse_plain(const char *text, size_t length, struct line *line)
{
	const char *at = text, *end = text + length, *key;
	size_t key_length;
	double value;

	clear_line(line);
	if (length < 2 || *at != '{' || end[-1] != '}')
		return false;
	do {
		at++; /* the brace, or a comma */
		if (!parse_key(&at, end, &key, &key_length) ||
		    !parse_value(&at, end, &value))
			return false;
		set_value(line, key, key_length, value);
	} while (at < end && *at == ',');
	return at == end - 1;
}

static int grow_column(double **column, size_t capacity)
{
	double *grown = realloc(*column, capacity * sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	*column = grown;
	return 0;
}

static int grow_steps(struct record_steps *steps)
{
	size_t capacity = MAX(2 * steps->capacity, (size_t)1024);
	int rc = grow_column(&steps->step, capacity);

	for (unsigned c = 0; !rc && c < RECORD_COLUMNS; c++)
		rc = grow_column(&steps->column[c], capacity);
	if (!rc)
		steps->capacity = capacity;
	return rc;
}

/* What a run wrote before it went back to this step is no longer part of it. */
static void go_back(struct record *record, double step)
{
	struct record_steps *steps = &record->steps;

	if (steps->count && steps->step[steps->count - 1] >= step)
		record->returns++;
	while (steps->count && steps->step[steps->count - 1] >= step)
		steps->count--;
	while (record->evaluation_count &&
	       record->evaluations[record->evaluation_count - 1].step >= step)
		record->evaluation_count--;
}

static int add_step(struct record *record, const struct line *line)
{
	struct record_steps *steps = &record->steps;

	go_back(record, line->step);
	if (steps->count == steps->capacity && grow_steps(steps))
		return -ENOMEM;
	steps->step[steps->count] = line->step;
	for (unsigned c = 0; c < RECORD_COLUMNS; c++)
		steps->column[c][steps->count] = line->value[c];
	steps->count++;
	return 0;
}

static int add_evaluation(struct record *record, const struct line *line)
{
	size_t capacity = record->evaluation_capacity;

	if (record->evaluation_count == capacity) {
		struct record_evaluation *grown;

		capacity = MAX(2 * capacity, (size_t)64);
		grown = realloc(record->evaluations, capacity * sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		record->evaluations = grown;
		record->evaluation_capacity = capacity;
	}
	record->evaluations[record->evaluation_count++] =
		(struct record_evaluation){
			.step = line->step,
			.loss = line->val_loss,
			.tokens = line->val_tokens,
			.time = line->value[RECORD_TIME],
		};
	return 0;
}

/*
 * 0; -ENOMEM; -EINVAL (silent): not a line of metrics. `whole`: a newline
 * follows.
 */
static int add_line(struct record *record, const char *text, size_t length,
		    bool whole)
{
	struct line line;

	if (!(whole && parse_plain(text, length, &line)) &&
	    parse_json(text, length, &line))
		return -EINVAL;
	if (!(line.step >= 0) || line.step > 9007199254740992.0)
		return -EINVAL;
	if (line.has_val_loss)
		return add_evaluation(record, &line);
	if (line.has_loss && line.step >= 1)
		return add_step(record, &line);
	return -EINVAL;
}

int record_read_metrics(const char *text, size_t length, const char *path,
			struct record *out)
{
	size_t number = 0, first_bad = 0;

	for (size_t at = 0; at < length; number++) {
		const char *end = memchr(text + at, '\n', length - at);
		size_t bytes = end ? (size_t)(end - text) - at : length - at;
		int rc = add_line(out, text + at, bytes, end != NULL);

		if (rc == -ENOMEM)
			return fail(rc, "%s: no memory for its steps", path);
		if (rc && end && out->bad_lines++ == 0)
			first_bad = number + 1;
		at += bytes + 1;
	}
	if (out->steps.count == 0 && out->evaluation_count == 0)
		return fail(
			-EINVAL,
			out->bad_lines
				? "%s: no line of it is one of a step or an evaluation"
				: "%s: no step is done yet; try again later",
			path);
	if (out->bad_lines)
		log_warning(
			"%s: line %zu is not one of a step or an evaluation; %zu lines are left out",
			path, first_bad, out->bad_lines);
	return 0;
}
