/*
 * The steps of a decoder that deal with bytes, and those that change text
 * within a token that may be as long as the whole (after Fuse).
 *
 * Ill-formed UTF-8 is replaced as the Unicode standard recommends (chapter 3.9,
 * "substitution of maximal subparts"), which is what Rust's from_utf8_lossy and
 * Python do.
 */
#include "data/tokenizer/decode_stage.h"

#include <string.h>

#define REPLACEMENT "\xEF\xBF\xBD"

/* ---- bytes ---- */

/* May `byte` follow what is held of a character? (table 3-7) */
static bool continues(const struct byte_buffer *held, unsigned char byte)
{
	unsigned char lead = (unsigned char)held->data[0];
	unsigned char low = 0x80, high = 0xBF;

	if (held->length == 1) {
		if (lead == 0xE0)
			low = 0xA0;
		else if (lead == 0xED)
			high = 0x9F;
		else if (lead == 0xF0)
			low = 0x90;
		else if (lead == 0xF4)
			high = 0x8F;
	}
	return byte >= low && byte <= high;
}

int decode_bytes_finish(struct decode_stage *stage)
{
	bool cut = stage->held.length;

	stage->held.length = 0;
	return decode_pass(stage, REPLACEMENT, cut ? 3 : 0, true);
}

static int push_byte(struct decode_stage *stage, char byte)
{
	struct byte_buffer *held = &stage->held, *out = &stage->changed;
	unsigned char value = (unsigned char)byte;
	int err = 0;

	if (held->length && continues(held, value)) {
		err = byte_buffer_append(held, &byte, 1);
		if (err ||
		    held->length < utf8_bytes((unsigned char)held->data[0]))
			return err;
		err = byte_buffer_append(out, held->data, held->length);
		held->length = 0;
		return err;
	}
	if (held->length)
		err = byte_buffer_append(out, REPLACEMENT, 3);
	held->length = 0;
	if (err)
		return err;
	if (value < 0x80)
		return byte_buffer_append(out, &byte, 1);
	if (value >= 0xC2 && value <= 0xF4)
		return byte_buffer_append(held, &byte, 1);
	return byte_buffer_append(out, REPLACEMENT, 3);
}

static int push_changed(struct decode_stage *stage)
{
	size_t length = stage->changed.length;

	stage->changed.length = 0;
	return decode_pass(stage, stage->changed.data, length, false);
}

int decode_bytes_push(struct decode_stage *stage, const char *text,
		      size_t length, bool end)
{
	size_t i;
	int err = 0;

	(void)end;
	for (i = 0; i < length && !err; i++)
		err = push_byte(stage, text[i]);
	return err ? err : push_changed(stage);
}

static bool is_byte_level(const char *text, size_t length)
{
	size_t at, bytes;

	for (at = 0; at < length; at += bytes) {
		if (utf8_character_byte(utf8_get(text + at, &bytes)) < 0)
			return false;
	}
	return true;
}

/* A token that is not made of visible bytes stands for itself. */
int decode_byte_level_push(struct decode_stage *stage, const char *text,
			   size_t length, bool end)
{
	size_t at, bytes;
	int err = 0;

	if (!is_byte_level(text, length))
		return decode_bytes_push(stage, text, length, end);
	for (at = 0; at < length && !err; at += bytes)
		err = push_byte(stage, (char)utf8_character_byte(
					       utf8_get(text + at, &bytes)));
	return err ? err : push_changed(stage);
}

/* ---- "<0x0A>" ---- */

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte that a token stands for, -1: none. */
static int fallback_byte(const char *text, size_t length)
{
	int high, low;

	if (length != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>')
		return -1;
	high = hex_digit(text[3]);
	low = hex_digit(text[4]);
	return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* A run of bytes is text as a whole, or as many U+FFFD. */
int decode_fallback_finish(struct decode_stage *stage)
{
	size_t length = stage->held.length, bad, i;
	int err = 0;

	stage->held.length = 0;
	if (!length)
		return 0;
	if (text_is_utf8(stage->held.data, length, &bad))
		return decode_pass(stage, stage->held.data, length, true);
	for (i = 0; i < length && !err; i++)
		err = decode_pass(stage, REPLACEMENT, 3, true);
	return err;
}

int decode_fallback_push(struct decode_stage *stage, const char *text,
			 size_t length, bool end)
{
	char byte[1];
	int value, err;

	/* Tokens in stretches (after Fuse) are put together first. */
	err = byte_buffer_append(&stage->changed, text, length);
	if (err || !end)
		return err;
	length = stage->changed.length;
	stage->changed.length = 0;
	value = fallback_byte(stage->changed.data, length);
	if (value >= 0) {
		byte[0] = (char)value;
		return byte_buffer_append(&stage->held, byte, 1);
	}
	err = decode_fallback_finish(stage);
	return err ? err
		   : decode_pass(stage, stage->changed.data, length, true);
}

/* ---- within a token ---- */

static int replace_some(struct decode_stage *stage, bool end, size_t *done)
{
	const struct decode_step *step = stage->step;
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
		err = decode_pass(stage, text + copied, scan.from - copied,
				  false);
		if (!err)
			err = decode_pass(stage, step->text, strlen(step->text),
					  false);
		copied = scan.to;
	}
	if (err)
		return err;
	*done = end ? length : MAX(scan.from, copied);
	stage->matched = scan.last == *done;
	return decode_pass(stage, text + copied, *done - copied, false);
}

int decode_replace_push(struct decode_stage *stage, const char *text,
			size_t length, bool end)
{
	struct byte_buffer *held = &stage->held;
	size_t done, behind;
	int err = byte_buffer_append(held, text, length);

	stage->begun |= length > 0;
	if (!err && stage->begun) {
		err = replace_some(stage, end, &done);
		if (err)
			return err;
		behind = pattern_bytes_behind(&stage->step->pattern, held->data,
					      done);
		byte_buffer_consume(held, done - behind);
		stage->behind = behind;
	}
	if (err || !end)
		return err;
	held->length = 0;
	stage->behind = 0;
	stage->begun = false;
	stage->matched = false;
	return decode_pass(stage, NULL, 0, true);
}

/* Bytes of `text` that are its last characters, each `character`, of `most`. */
static size_t tail_of(const char *text, size_t length, const char *character,
		      size_t most)
{
	size_t bytes = strlen(character), tail = 0;

	while (most-- && tail + bytes <= length &&
	       memcmp(text + length - tail - bytes, character, bytes) == 0)
		tail += bytes;
	return tail;
}

/*
 * Strips the begin of a token as it comes; what its end may lose is held
 * back until something follows, or the token ends.
 */
int decode_strip_push(struct decode_stage *stage, const char *text,
		      size_t length, bool end)
{
	const struct decode_step *step = stage->step;
	struct byte_buffer *held = &stage->held;
	size_t bytes = strlen(step->text), tail;
	int err;

	while (!stage->begun && length && stage->stripped < step->start &&
	       length >= bytes && memcmp(text, step->text, bytes) == 0) {
		text += bytes;
		length -= bytes;
		stage->stripped++;
	}
	if (length)
		stage->begun = true;
	err = byte_buffer_append(held, text, length);
	if (err)
		return err;
	tail = tail_of(held->data, held->length, step->text, step->stop);
	err = decode_pass(stage, held->data, held->length - tail, false);
	byte_buffer_consume(held, held->length - tail);
	if (err || !end)
		return err;
	held->length = 0;
	stage->begun = false;
	stage->stripped = 0;
	return decode_pass(stage, NULL, 0, true);
}
