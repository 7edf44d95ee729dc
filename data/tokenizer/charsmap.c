#include "data/tokenizer/charsmap.h"
#include "data/tokenizer/normal_stage.h"

#include "base/log.h"
#include "base/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* A grapheme of more bytes is looked up character by character. */
#define GRAPHEME_BYTES_MAX 5

static int base64_digit(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == '+')
		return 62;
	return c == '/' ? 63 : -1;
}

/* RFC 4648 with padding; false if it is not that. */
static bool base64_decode(const char *text, unsigned char *out, size_t *count)
{
	size_t length = strlen(text), digits = length, i;
	uint32_t bits = 0;

	if (length % 4)
		return false;
	while (digits && length - digits < 2 && text[digits - 1] == '=')
		digits--;
	*count = 0;
	for (i = 0; i < digits; i++) {
		int digit = base64_digit(text[i]);

		if (digit < 0)
			return false;
		bits = bits << 6 | (uint32_t)digit;
		if (i % 4)
			out[(*count)++] =
				(unsigned char)(bits >> (6 - 2 * (i % 4)));
	}
	return true;
}

static uint32_t read_u32(const unsigned char *bytes)
{
	return bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
	       (uint32_t)bytes[3] << 24;
}

int charsmap_read(struct charsmap *charsmap, const char *base64,
		  const char *origin)
{
	size_t count, trie_bytes, bad;

	*charsmap = (struct charsmap){0};
	if (!*base64)
		return 0;
	/* One more, to end the last replacement. */
	charsmap->bytes = malloc(strlen(base64) / 4 * 3 + 1);
	if (!charsmap->bytes)
		return fail(-ENOMEM, "no memory for a table of characters");
	if (!base64_decode(base64, charsmap->bytes, &count) || count < 4)
		return fail(-EINVAL,
			    "%s: precompiled_charsmap: not base64, or too "
			    "short",
			    origin);
	trie_bytes = read_u32(charsmap->bytes);
	if (!trie_bytes || trie_bytes % 4 || trie_bytes > count - 4)
		return fail(-EINVAL,
			    "%s: precompiled_charsmap: a trie of %zu bytes "
			    "in a table of %zu",
			    origin, trie_bytes, count);
	charsmap->units = charsmap->bytes + 4;
	charsmap->unit_count = trie_bytes / 4;
	charsmap->replacements = (char *)charsmap->units + trie_bytes;
	charsmap->replacement_bytes = count - 4 - trie_bytes;
	charsmap->bytes[count] = '\0';
	if (!text_is_utf8(charsmap->replacements, charsmap->replacement_bytes,
			  &bad))
		return fail(-EINVAL,
			    "%s: precompiled_charsmap: a replacement is not "
			    "UTF-8",
			    origin);
	return 0;
}

void charsmap_fini(struct charsmap *charsmap)
{
	free(charsmap->bytes);
	*charsmap = (struct charsmap){0};
}

/* NULL: outside the table, or within a character. */
static const char *replacement_at(const struct charsmap *charsmap, size_t at)
{
	if (at > charsmap->replacement_bytes ||
	    ((unsigned char)charsmap->replacements[at] & 0xC0) == 0x80)
		return NULL;
	return charsmap->replacements + at;
}

static uint32_t unit_offset(uint32_t unit)
{
	return (unit >> 10) << ((unit & 0x200u) >> 6);
}

/*
 * Walks the double array. The shortest key that text begins with decides for
 * the whole of text: so does SentencePiece's port in the Hugging Face library.
 */
const char *charsmap_find(const struct charsmap *charsmap, const char *text,
			  size_t length)
{
	size_t position, i;
	uint32_t unit;

	if (!charsmap->unit_count)
		return NULL;
	position = unit_offset(read_u32(charsmap->units));
	for (i = 0; i < length && text[i]; i++) {
		unsigned char byte = (unsigned char)text[i];

		position ^= byte;
		if (position >= charsmap->unit_count)
			return NULL;
		unit = read_u32(charsmap->units + 4 * position);
		if ((unit & 0x800000FFu) != byte)
			return NULL;
		position ^= unit_offset(unit);
		if (!(unit & 0x100u))
			continue;
		if (position >= charsmap->unit_count)
			return NULL;
		return replacement_at(charsmap,
				      read_u32(charsmap->units + 4 * position) &
					      0x7FFFFFFFu);
	}
	return NULL;
}

static int replace_part(struct normal_stage *stage, const char *text,
			size_t length, bool *replaced)
{
	const char *part = charsmap_find(&stage->step->charsmap, text, length);

	*replaced = part != NULL;
	if (!part)
		return 0;
	return byte_buffer_append(&stage->out, part, strlen(part));
}

static int replace_grapheme(struct normal_stage *stage, const char *text,
			    size_t length)
{
	bool replaced = false;
	size_t at = 0, bytes;
	int err = 0;

	if (length <= GRAPHEME_BYTES_MAX)
		err = replace_part(stage, text, length, &replaced);
	for (; at < length && !err && !replaced; at += bytes) {
		bool known;

		utf8_get(text + at, &bytes);
		err = replace_part(stage, text + at, bytes, &known);
		if (!err && !known)
			err = byte_buffer_append(&stage->out, text + at, bytes);
	}
	return err;
}

/* Grapheme by grapheme (UAX #29); the last waits for what may extend it. */
int normal_charsmap_push(void *argument, const char *text, size_t length,
			 bool end)
{
	struct normal_stage *stage = argument;
	struct byte_buffer *held = &stage->held;
	size_t from = 0, at, bytes;
	utf8proc_int32_t previous, state = 0;
	int err = byte_buffer_append(held, text, length);

	if (err)
		return err;
	if (!end && held->length < stage->retry_at)
		return 0;
	previous =
		held->length ? (utf8proc_int32_t)utf8_get(held->data, &at) : 0;
	for (at = held->length ? at : 0; at < held->length && !err;) {
		utf8proc_int32_t next =
			(utf8proc_int32_t)utf8_get(held->data + at, &bytes);

		if (utf8proc_grapheme_break_stateful(previous, next, &state)) {
			err = replace_grapheme(stage, held->data + from,
					       at - from);
			from = at;
		}
		previous = next;
		at += bytes;
	}
	if (!err && end && held->length > from)
		err = replace_grapheme(stage, held->data + from,
				       held->length - from);
	if (err)
		return err;
	byte_buffer_consume(held, end ? held->length : from);
	stage->retry_at = held->length * 2;
	return normal_stage_flush(stage, end);
}
