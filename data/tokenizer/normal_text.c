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
	if (skip)
		normal_stage_note(stage, false);
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

/*
 * Puts the new text in the place of a match of `count` characters. To the
 * library the new text stands where the last of them did.
 */
static int replace_match(struct normal_stage *stage, const char *before,
			 size_t length, size_t count)
{
	const char *text = stage->step->text;
	int err = byte_buffer_append(&stage->out, before, length);

	if (err)
		return err;
	if (!length && (count > 1 || (count && !*text)))
		normal_stage_note(stage, false);
	if (length || *text)
		normal_stage_note(stage, true);
	return byte_buffer_append(&stage->out, text, strlen(text));
}

/* Replaces what is certain of what is held; *done: how far that is. */
static int replace_some(struct normal_stage *stage, bool end, size_t *done)
{
	const char *text = stage->held.data;
	size_t length = stage->held.length, copied = stage->behind;
	struct pattern_scan scan = {
		.pattern = &stage->step->pattern,
		.work = stage->work,
		.text = text,
		.length = length,
		.start = copied,
		.last = stage->matched ? copied : SIZE_MAX,
		.partial = !end,
	};
	int found, err = 0;

	while (!err && (found = pattern_next(&scan))) {
		if (found < 0)
			return found;
		err = replace_match(
			stage, text + copied, scan.from - copied,
			utf8_count(text + scan.from, scan.to - scan.from));
		copied = scan.to;
	}
	if (err)
		return err;
	*done = end ? length : MAX(scan.from, copied);
	stage->matched = scan.last == *done;
	if (*done > copied)
		normal_stage_note(stage, true);
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
	stage->begun |= held->length > 0;
	if (stage->begun) {
		err = replace_some(stage, end, &done);
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
		stage->begun = false;
		stage->matched = false;
	}
	return normal_stage_flush(stage, end);
}
