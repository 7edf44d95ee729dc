#include "data/compose.h"

#include "base/checked.h"
#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* No canonical decomposition is longer than this (Unicode has 4). */
#define DECOMPOSITION_MAX 16

void compose_init(struct compose *compose, utf8_text_fn *sink, void *argument)
{
	*compose = (struct compose){.sink = sink, .argument = argument};
}

void compose_fini(struct compose *compose)
{
	byte_buffer_fini(&compose->held);
}

void compose_reset(struct compose *compose)
{
	compose->held.length = 0;
	compose->retry_at = 0;
}

/*
 * May a text be cut before this character without changing what is
 * composed? Marks and the vowels and finals of Hangul join what is before.
 */
static bool is_boundary(uint32_t character)
{
	utf8proc_category_t category;

	if (character < 0x300)
		return true;
	if ((character >= 0x1100 && character <= 0x11FF) ||
	    (character >= 0xD7B0 && character <= 0xD7FF))
		return false;
	category = utf8proc_category((utf8proc_int32_t)character);
	return category != UTF8PROC_CATEGORY_MN &&
	       category != UTF8PROC_CATEGORY_MC &&
	       category != UTF8PROC_CATEGORY_ME;
}

/* The last place to cut at, 0 if there is none but the beginning. */
static size_t last_boundary(const char *text, size_t length)
{
	size_t at = length, bytes;

	while (at) {
		at = utf8_previous(text, at);
		if (is_boundary(utf8_get(text + at, &bytes)))
			return at;
	}
	return 0;
}

/* Nothing from U+0300 on: such text is in form C already. */
static bool is_plain(const char *text, size_t length)
{
	size_t i;

	for (i = 0; i < length; i++) {
		if ((unsigned char)text[i] >= 0xCC)
			return false;
	}
	return true;
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

static size_t decompose(const char *text, size_t length, utf8proc_int32_t *out)
{
	size_t at = 0, count = 0, bytes;

	while (at < length) {
		utf8proc_int32_t part[DECOMPOSITION_MAX];
		uint32_t character = utf8_get(text + at, &bytes);
		utf8proc_ssize_t parts;
		int last_class = 0;

		parts = utf8proc_decompose_char(
			(utf8proc_int32_t)character, part, DECOMPOSITION_MAX,
			UTF8PROC_STABLE | UTF8PROC_DECOMPOSE, &last_class);
		ASSERT(parts > 0 && parts <= DECOMPOSITION_MAX);
		memcpy(out + count, part, (size_t)parts * sizeof(*part));
		count += (size_t)parts;
		at += bytes;
	}
	return count;
}

/*
 * Two characters per byte are enough: what 2 bytes encode decomposes into at
 * most 3 characters (U+0390), what 3 or 4 bytes encode into at most 4.
 */
static int compose_text(struct compose *compose, const char *text,
			size_t length, bool end)
{
	struct byte_buffer out = {0};
	utf8proc_int32_t *characters = NULL, *scratch = NULL;
	size_t count, i, bytes;
	int err = -ENOMEM;

	if (is_plain(text, length))
		return compose->sink(compose->argument, text, length, end);
	if (checked_multiply(length, 2 * sizeof(*characters), &bytes)) {
		characters = malloc(bytes);
		scratch = malloc(bytes);
	}
	if (!characters || !scratch) {
		fail(err, "no memory to normalize %zu bytes of text", length);
		goto out_free;
	}
	count = decompose(text, length, characters);
	sort_marks(characters, scratch, count);
	count = (size_t)utf8proc_normalize_utf32(
		characters, (utf8proc_ssize_t)count,
		UTF8PROC_STABLE | UTF8PROC_COMPOSE);
	for (err = 0, i = 0; i < count && !err; i++) {
		char put[4];

		err = byte_buffer_append(
			&out, put, utf8_put((uint32_t)characters[i], put));
	}
	if (!err)
		err = compose->sink(compose->argument, out.data, out.length,
				    end);
out_free:
	byte_buffer_fini(&out);
	free(scratch);
	free(characters);
	return err;
}

int compose_push(void *argument, const char *text, size_t length, bool end)
{
	struct compose *compose = argument;
	struct byte_buffer *held = &compose->held;
	size_t cut;
	int err = byte_buffer_append(held, text, length);

	if (err)
		return err;
	if (!end && held->length < compose->retry_at)
		return 0;
	cut = end ? held->length : last_boundary(held->data, held->length);
	if (cut || end)
		err = compose_text(compose, held->data, cut, end);
	if (err)
		return err;
	byte_buffer_consume(held, cut);
	compose->retry_at = end ? 0 : held->length * 2;
	return 0;
}
