/*
 * Unicode normalization forms C, D, KC and KD of a stream of text (UAX #15), on
 * utf8proc's tables.
 */
#include "data/tokenizer/normal_stage.h"

#include "base/checked.h"
#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* No decomposition is longer than this (Unicode has 18, of U+FDFA). */
#define DECOMPOSITION_MAX 32
/*
 * Most characters that one byte of text decomposes into: canonically 3 from 2
 * bytes (U+0390), with compatibility 18 from 3 (U+FDFA).
 */
#define CHARACTERS_PER_BYTE            2
#define CHARACTERS_PER_BYTE_COMPATIBLE 6
#define PART_BYTES                     ((size_t)64 << 10)

static size_t decompose_character(const struct normal_step *step,
				  uint32_t character,
				  utf8proc_int32_t out[DECOMPOSITION_MAX])
{
	utf8proc_option_t options = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE;
	utf8proc_ssize_t count;
	int last_class = 0;

	if (step->compatible)
		options |= UTF8PROC_COMPAT;
	count = utf8proc_decompose_char((utf8proc_int32_t)character, out,
					DECOMPOSITION_MAX, options,
					&last_class);
	ASSERT(count > 0 && count <= DECOMPOSITION_MAX);
	return (size_t)count;
}

/*
 * May a text be cut before this character without changing what is
 * composed? Marks and the vowels and finals of Hangul join what is before.
 */
static bool is_boundary(const struct normal_step *step, uint32_t character)
{
	utf8proc_int32_t part[DECOMPOSITION_MAX];
	utf8proc_category_t category;

	if (character < 0x300)
		return !step->compatible || character < 0xA0;
	decompose_character(step, character, part);
	if ((part[0] >= 0x1100 && part[0] <= 0x11FF) ||
	    (part[0] >= 0xD7B0 && part[0] <= 0xD7FF))
		return false;
	category = utf8proc_category(part[0]);
	return category != UTF8PROC_CATEGORY_MN &&
	       category != UTF8PROC_CATEGORY_MC &&
	       category != UTF8PROC_CATEGORY_ME;
}

/* The last place to cut at, 0 if there is none but the beginning. */
static size_t last_boundary(const struct normal_step *step, const char *text,
			    size_t length)
{
	size_t at = length, bytes;

	while (at) {
		at = utf8_previous(text, at);
		if (is_boundary(step, utf8_get(text + at, &bytes)))
			return at;
	}
	return 0;
}

/*
 * Such text is in the form already: nothing from U+0300 on for C, ASCII for the
 * others.
 */
static bool is_plain(const struct normal_step *step, const char *text,
		     size_t length)
{
	unsigned char limit = step->compose && !step->compatible ? 0xCC : 0x80;
	unsigned char above = 0;
	size_t i;

	for (i = 0; i < length; i++)
		above |= (unsigned char)text[i] >= limit;
	return !above;
}

static unsigned combining_class(utf8proc_int32_t character)
{
	return (unsigned)utf8proc_get_property(character)->combining_class;
}

/*
 * Canonical order: each run of marks sorted by class, stably. By counting,
 * because utf8proc's own exchange sort is quadratic in the run.
 */
static void sort_run(utf8proc_int32_t *run, utf8proc_int32_t *scratch,
		     size_t count)
{
	size_t start[257] = {0}, i;

	for (i = 0; i < count; i++)
		start[combining_class(run[i]) + 1]++;
	for (i = 0; i < 256; i++)
		start[i + 1] += start[i];
	for (i = 0; i < count; i++)
		scratch[start[combining_class(run[i])]++] = run[i];
	memcpy(run, scratch, count * sizeof(*run));
}

static void sort_marks(utf8proc_int32_t *characters, utf8proc_int32_t *scratch,
		       size_t count)
{
	size_t i = 0, from;

	while (i < count) {
		if (!combining_class(characters[i])) {
			i++;
			continue;
		}
		from = i;
		while (i < count && combining_class(characters[i]))
			i++;
		if (i - from > 1)
			sort_run(characters + from, scratch, i - from);
	}
}

static size_t decompose(const struct normal_step *step, const char *text,
			size_t length, utf8proc_int32_t *out)
{
	size_t at = 0, count = 0, bytes;

	while (at < length) {
		utf8proc_int32_t part[DECOMPOSITION_MAX];
		uint32_t character = utf8_get(text + at, &bytes);
		size_t parts = decompose_character(step, character, part);

		memcpy(out + count, part, parts * sizeof(*part));
		count += parts;
		at += bytes;
	}
	return count;
}

static int put_characters(struct byte_buffer *out,
			  const utf8proc_int32_t *characters, size_t count)
{
	int err = byte_buffer_reserve(out, 4 * count);
	size_t i;

	for (i = 0; i < count && !err; i++)
		out->length += utf8_put((uint32_t)characters[i],
					out->data + out->length);
	return err;
}

static int normalize(struct normal_stage *stage, const char *text,
		     size_t length)
{
	const struct normal_step *step = stage->step;
	size_t per_byte = step->compatible ? CHARACTERS_PER_BYTE_COMPATIBLE
					   : CHARACTERS_PER_BYTE;
	utf8proc_int32_t *characters = NULL, *scratch = NULL;
	size_t count, bytes;
	int err = -ENOMEM;

	if (checked_multiply(length, per_byte * sizeof(*characters), &bytes)) {
		characters = malloc(bytes);
		scratch = malloc(bytes);
	}
	if (!characters || !scratch) {
		fail(err, "no memory to normalize %zu bytes of text", length);
		goto out_free;
	}
	count = decompose(step, text, length, characters);
	sort_marks(characters, scratch, count);
	if (step->compose)
		count = (size_t)utf8proc_normalize_utf32(
			characters, (utf8proc_ssize_t)count,
			UTF8PROC_STABLE | UTF8PROC_COMPOSE);
	err = put_characters(&stage->out, characters, count);
out_free:
	free(scratch);
	free(characters);
	return err;
}

/* Text that is certain: normalized in parts, so that memory stays small. */
static int normalize_parts(struct normal_stage *stage, const char *text,
			   size_t length)
{
	int err = 0;

	while (length && !err) {
		size_t part = length;

		if (part > PART_BYTES) {
			part = PART_BYTES;
			while (((unsigned char)text[part] & 0xC0) == 0x80)
				part--;
			part = last_boundary(stage->step, text, part);
		}
		if (!part)
			part = length;
		err = is_plain(stage->step, text, part)
			      ? byte_buffer_append(&stage->out, text, part)
			      : normalize(stage, text, part);
		text += part;
		length -= part;
	}
	return err;
}

static int push_held(struct normal_stage *stage, const char *text,
		     size_t length, bool end)
{
	struct byte_buffer *held = &stage->held;
	int err = byte_buffer_append(held, text, length);
	size_t cut;

	if (err)
		return err;
	if (!end && held->length < stage->retry_at)
		return 0;
	cut = end ? held->length
		  : last_boundary(stage->step, held->data, held->length);
	err = normalize_parts(stage, held->data, cut);
	if (err)
		return err;
	byte_buffer_consume(held, cut);
	stage->retry_at = held->length * 2;
	return normal_stage_flush(stage, end);
}

int normal_form_push(void *argument, const char *text, size_t length, bool end)
{
	struct normal_stage *stage = argument;
	size_t cut;
	int err;

	if (stage->held.length)
		return push_held(stage, text, length, end);
	/* Most text is in the form already, and is not copied then. */
	if (!is_plain(stage->step, text, length))
		return push_held(stage, text, length, end);
	cut = length && !end ? utf8_previous(text, length) : length;
	err = stage->sink(stage->argument, text, cut, end);
	if (!err)
		err = byte_buffer_append(&stage->held, text + cut,
					 length - cut);
	stage->retry_at = 0;
	return err;
}
