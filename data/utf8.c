#include "data/utf8.h"

#include "base/log.h"
#include "base/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

uint32_t utf8_byte_character(unsigned char byte)
{
	if (byte <= 0x20)
		return 0x100u + byte;
	if (byte >= 0x7F && byte <= 0xA0)
		return 0x121u + byte - 0x7Fu;
	if (byte == 0xAD)
		return 0x143;
	return byte;
}

int utf8_character_byte(uint32_t character)
{
	if (character >= 0x100 && character <= 0x120)
		return (int)character - 0x100;
	if (character >= 0x121 && character <= 0x142)
		return (int)character - 0x121 + 0x7F;
	if (character == 0x143)
		return 0xAD;
	if (character > 0xFF ||
	    utf8_byte_character((unsigned char)character) != character)
		return -1;
	return (int)character;
}

size_t utf8_put(uint32_t character, char out[4])
{
	return (size_t)utf8proc_encode_char((utf8proc_int32_t)character,
					    (utf8proc_uint8_t *)out);
}

size_t utf8_count(const char *text, size_t length)
{
	size_t i, count = 0;

	for (i = 0; i < length; i++)
		count += ((unsigned char)text[i] & 0xC0) != 0x80;
	return count;
}

uint32_t utf8_get(const char *text, size_t *length)
{
	const unsigned char *byte = (const unsigned char *)text;
	size_t bytes = utf8_bytes(byte[0]);

	*length = bytes;
	switch (bytes) {
	case 1:
		return byte[0];
	case 2:
		return (byte[0] & 0x1Fu) << 6 | (byte[1] & 0x3Fu);
	case 3:
		return (byte[0] & 0x0Fu) << 12 | (byte[1] & 0x3Fu) << 6 |
		       (byte[2] & 0x3Fu);
	default:
		return (byte[0] & 0x07u) << 18 | (byte[1] & 0x3Fu) << 12 |
		       (byte[2] & 0x3Fu) << 6 | (byte[3] & 0x3Fu);
	}
}

size_t utf8_previous(const char *text, size_t position)
{
	do
		position--;
	while (position && ((unsigned char)text[position] & 0xC0) == 0x80);
	return position;
}

bool utf8_is_space(uint32_t character)
{
	if (character < 0x80)
		return character == ' ' || (character >= 9 && character <= 13);
	switch (character) {
	case 0x85:
	case 0xA0:
	case 0x1680:
	case 0x2028:
	case 0x2029:
	case 0x202F:
	case 0x205F:
	case 0x3000:
		return true;
	default:
		return character >= 0x2000 && character <= 0x200A;
	}
}

bool utf8_is_word(uint32_t character)
{
	switch (utf8proc_category((utf8proc_int32_t)character)) {
	case UTF8PROC_CATEGORY_LU:
	case UTF8PROC_CATEGORY_LL:
	case UTF8PROC_CATEGORY_LT:
	case UTF8PROC_CATEGORY_LM:
	case UTF8PROC_CATEGORY_LO:
	case UTF8PROC_CATEGORY_MN:
	case UTF8PROC_CATEGORY_MC:
	case UTF8PROC_CATEGORY_ME:
	case UTF8PROC_CATEGORY_ND:
	case UTF8PROC_CATEGORY_NL:
	case UTF8PROC_CATEGORY_PC:
		return true;
	default:
		/* Joiners, and letters in circles and squares. */
		return character == 0x200C || character == 0x200D ||
		       (character >= 0x24B6 && character <= 0x24E9) ||
		       (character >= 0x1F130 && character <= 0x1F149) ||
		       (character >= 0x1F150 && character <= 0x1F169) ||
		       (character >= 0x1F170 && character <= 0x1F189);
	}
}

bool utf8_is_punctuation(uint32_t character)
{
	if (character < 0x80)
		return character > ' ' && character < 0x7F &&
		       !(character >= '0' && character <= '9') &&
		       !((character | 0x20) >= 'a' &&
			 (character | 0x20) <= 'z');
	switch (utf8proc_category((utf8proc_int32_t)character)) {
	case UTF8PROC_CATEGORY_PC:
	case UTF8PROC_CATEGORY_PD:
	case UTF8PROC_CATEGORY_PS:
	case UTF8PROC_CATEGORY_PE:
	case UTF8PROC_CATEGORY_PI:
	case UTF8PROC_CATEGORY_PF:
	case UTF8PROC_CATEGORY_PO:
		return true;
	default:
		return false;
	}
}

bool utf8_is_number(uint32_t character)
{
	if (character < 0x80)
		return character >= '0' && character <= '9';
	switch (utf8proc_category((utf8proc_int32_t)character)) {
	case UTF8PROC_CATEGORY_ND:
	case UTF8PROC_CATEGORY_NL:
	case UTF8PROC_CATEGORY_NO:
		return true;
	default:
		return false;
	}
}

/* Bytes at the end of text that begin a character the text does not end. */
static size_t incomplete_tail(const char *text, size_t length)
{
	size_t back;

	for (back = 1; back <= 3 && back <= length; back++) {
		unsigned char byte = (unsigned char)text[length - back];

		if ((byte & 0xC0) == 0x80)
			continue;
		if (byte >= 0xC2 && byte <= 0xF4 && utf8_bytes(byte) > back)
			return back;
		return 0;
	}
	return 0;
}

/* Passes on text that should be whole characters. */
static int feed_checked(struct utf8_feed *feed, const char *text, size_t length,
			bool end, utf8_text_fn *sink, void *argument)
{
	size_t bad = 0;

	if (length && !text_is_utf8(text, length, &bad)) {
		feed->offset += bad;
		return -EILSEQ;
	}
	feed->offset += length;
	return sink(argument, text, length, end);
}

/* Completes the character held back; how many bytes of text it took. */
static int feed_held(struct utf8_feed *feed, const char *text, size_t length,
		     size_t *taken, utf8_text_fn *sink, void *argument)
{
	size_t bytes = utf8_bytes((unsigned char)feed->held[0]);
	size_t missing = bytes - feed->held_count;
	size_t take = MIN(missing, length);

	if (take)
		memcpy(feed->held + feed->held_count, text, take);
	feed->held_count += (unsigned)take;
	*taken = take;
	if (take < missing)
		return 0;
	feed->held_count = 0;
	return feed_checked(feed, feed->held, bytes, false, sink, argument);
}

int utf8_feed_push(struct utf8_feed *feed, const char *text, size_t length,
		   bool end, utf8_text_fn *sink, void *argument)
{
	size_t taken = 0, tail;
	int err;

	if (feed->held_count) {
		err = feed_held(feed, text, length, &taken, sink, argument);
		if (err)
			return err;
		text += taken;
		length -= taken;
	}
	if (end && feed->held_count)
		return -EILSEQ;
	tail = end ? 0 : incomplete_tail(text, length);
	err = feed_checked(feed, text, length - tail, end, sink, argument);
	if (err)
		return err;
	if (tail) {
		memcpy(feed->held, text + length - tail, tail);
		feed->held_count = (unsigned)tail;
	}
	if (end)
		*feed = (struct utf8_feed){0};
	return 0;
}

int byte_buffer_reserve(struct byte_buffer *buffer, size_t count)
{
	size_t wanted = buffer->length + count;
	size_t capacity = MAX(wanted, buffer->capacity * 2);
	char *grown;

	if (wanted <= buffer->capacity)
		return 0;
	capacity = MAX(capacity, (size_t)256);
	grown = realloc(buffer->data, capacity);
	if (!grown)
		return fail(-ENOMEM, "no memory for %zu bytes of text",
			    capacity);
	buffer->data = grown;
	buffer->capacity = capacity;
	return 0;
}

int byte_buffer_append(struct byte_buffer *buffer, const char *data,
		       size_t length)
{
	int err = byte_buffer_reserve(buffer, length);

	if (err)
		return err;
	if (length)
		memcpy(buffer->data + buffer->length, data, length);
	buffer->length += length;
	return 0;
}

void byte_buffer_consume(struct byte_buffer *buffer, size_t count)
{
	if (!count)
		return;
	buffer->length -= count;
	memmove(buffer->data, buffer->data + count, buffer->length);
}

void byte_buffer_fini(struct byte_buffer *buffer)
{
	free(buffer->data);
	*buffer = (struct byte_buffer){0};
}
