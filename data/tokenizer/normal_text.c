/*
 * The steps of a normalizer that put text in, take it out, or replace it.
 */
#include "data/tokenizer/normal_stage.h"

#include <string.h>

int normal_prepend_push(void *argument, const char *text, size_t length,
			bool end)
{
	struct normal_stage *stage = argument;
	int err = 0;

	if (length && !stage->begun) {
		stage->begun = true;
		err = stage->sink(stage->argument, stage->step->text,
				  strlen(stage->step->text), false);
	}
	if (end)
		stage->begun = false;
	return err ? err : stage->sink(stage->argument, text, length, end);
}

/* Bytes of white space that text begins with. */
static size_t space_before(const char *text, size_t length)
{
	size_t at = 0, bytes;

	while (at < length && utf8_is_space(utf8_get(text + at, &bytes)))
		at += bytes;
	return at;
}

/* Where the white space begins that text ends with. */
static size_t space_behind(const char *text, size_t length)
{
	size_t at, bytes;

	while (length) {
		at = utf8_previous(text, length);
		if (!utf8_is_space(utf8_get(text + at, &bytes)))
			break;
		length = at;
	}
	return length;
}

int normal_strip_push(void *argument, const char *text, size_t length, bool end)
{
	struct normal_stage *stage = argument;
	size_t skip = 0, keep;
	int err = 0;

	if (stage->step->left && !stage->begun)
		skip = space_before(text, length);
	text += skip;
	length -= skip;
	stage->begun = !end && (stage->begun || length);
	keep = stage->step->right ? space_behind(text, length) : length;
	/* White space held back is not at the end after all. */
	if (keep) {
		err = byte_buffer_append(&stage->out, stage->held.data,
					 stage->held.length);
		stage->held.length = 0;
	}
	if (!err)
		err = byte_buffer_append(&stage->out, text, keep);
	if (!err)
		err = byte_buffer_append(&stage->held, text + keep,
					 length - keep);
	if (!err)
		err = normal_stage_flush(stage, end);
	if (end)
		stage->held.length = 0;
	return err;
}

/* Replaces what is certain of text; *done: how far that is. */
static int replace_some(struct normal_stage *stage, const char *text,
			size_t length, size_t start, bool end, size_t *done)
{
	const struct normal_step *step = stage->step;
	size_t copied = start, from, to, bytes;
	enum pattern_found found;
	int err = 0;

	for (*done = start; !err && start <= length;) {
		err = pattern_find(&step->pattern, stage->work, text, length,
				   start, !end, &from, &to, &found);
		if (err)
			return err;
		if (found != PATTERN_FOUND)
			break;
		err = byte_buffer_append(&stage->out, text + copied,
					 from - copied);
		if (!err)
			err = byte_buffer_append(&stage->out, step->text,
						 strlen(step->text));
		copied = *done = start = to;
		if (from != to)
			continue;
		/* After an empty match the search goes on one further. */
		if (to == length)
			break;
		utf8_get(text + to, &bytes);
		start += bytes;
	}
	if (err)
		return err;
	if (end || found != PATTERN_FOUND)
		*done = end ? length : MAX(from, copied);
	return byte_buffer_append(&stage->out, text + copied, *done - copied);
}

int normal_replace_push(void *argument, const char *text, size_t length,
			bool end)
{
	struct normal_stage *stage = argument;
	struct byte_buffer *held = &stage->held;
	size_t done, behind;
	int err = byte_buffer_append(held, text, length);

	if (err)
		return err;
	if (!end && held->length < stage->retry_at)
		return 0;
	if (held->length > stage->behind || end) {
		err = replace_some(stage, held->data ? held->data : "",
				   held->length, stage->behind, end, &done);
		if (err)
			return err;
		behind = pattern_bytes_behind(&stage->step->pattern, held->data,
					      done);
		byte_buffer_consume(held, done - behind);
		stage->behind = behind;
		/* As long as it grows, each look is at twice as much. */
		stage->retry_at = behind + (held->length - behind) * 2;
	}
	if (end) {
		held->length = 0;
		stage->behind = 0;
		stage->retry_at = 0;
	}
	return normal_stage_flush(stage, end);
}
