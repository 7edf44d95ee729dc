/*
 * Normalization character by character.
 */
#include "data/tokenizer/normal_stage.h"
#include "data/tokenizer/unicode_late.h"

#include <string.h>
#include <utf8proc.h>

#define MAP_PART_BYTES ((size_t)1024)

int normal_map_push(void *argument, const char *text, size_t length, bool end)
{
	struct normal_stage *stage = argument;
	normal_map_fn *map = stage->step->map;
	struct byte_buffer *out = &stage->out;
	size_t at = 0, part, bytes, put;
	int err = 0;

	while (at < length && !err) {
		/* As much as there is room for whatever it becomes. */
		part = MIN(length, at + MAP_PART_BYTES);
		err = byte_buffer_reserve(out,
					  MAP_PART_BYTES * NORMAL_MAP_BYTES);
		while (at < part && !err) {
			put = map(utf8_get(text + at, &bytes),
				  out->data + out->length);
			if (!stage->written)
				normal_stage_note(stage, put > 0);
			out->length += put;
			at += bytes;
		}
	}
	return err ? err : normal_stage_flush(stage, end);
}

static utf8proc_category_t category_of(uint32_t character)
{
	return utf8proc_category((utf8proc_int32_t)character);
}

size_t normal_lowercase(uint32_t character, char out[NORMAL_MAP_BYTES])
{
	if (character < 0x80) {
		bool upper = character >= 'A' && character <= 'Z';

		out[0] = (char)(upper ? character + 32 : character);
		return 1;
	}
	if (character == 0x130) {
		/* The one whose full mapping has two characters. */
		memcpy(out, "i\xCC\x87", 3);
		return 3;
	}
	return utf8_put((uint32_t)utf8proc_tolower((utf8proc_int32_t)character),
			out);
}

size_t normal_without_marks(uint32_t character, char out[NORMAL_MAP_BYTES])
{
	utf8proc_category_t category = character < 0x300
					       ? UTF8PROC_CATEGORY_CN
					       : category_of(character);

	if ((category == UTF8PROC_CATEGORY_MN ||
	     category == UTF8PROC_CATEGORY_MC ||
	     category == UTF8PROC_CATEGORY_ME) &&
	    !unicode_is_late(UNICODE_MARK, character))
		return 0;
	return utf8_put(character, out);
}

size_t normal_without_nonspacing(uint32_t character, char out[NORMAL_MAP_BYTES])
{
	if (character >= 0x300 &&
	    category_of(character) == UTF8PROC_CATEGORY_MN &&
	    !unicode_is_late(UNICODE_NONSPACING, character))
		return 0;
	return utf8_put(character, out);
}

static bool is_other(uint32_t character)
{
	switch (category_of(character)) {
	case UTF8PROC_CATEGORY_CC:
	case UTF8PROC_CATEGORY_CF:
	case UTF8PROC_CATEGORY_CO:
	case UTF8PROC_CATEGORY_CS:
		return !unicode_is_late(UNICODE_OTHER, character);
	default:
		return false;
	}
}

size_t normal_bert_clean(uint32_t character, char out[NORMAL_MAP_BYTES])
{
	if (character > ' ' && character < 0x7F) {
		out[0] = (char)character;
		return 1;
	}
	if (character == '\t' || character == '\n' || character == '\r') {
		out[0] = ' ';
		return 1;
	}
	if (!character || character == 0xFFFD || is_other(character))
		return 0;
	if (utf8_is_space(character)) {
		out[0] = ' ';
		return 1;
	}
	return utf8_put(character, out);
}

static bool is_ideograph(uint32_t c)
{
	/* The last but two begins where BERT's own code has it. */
	return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) ||
	       (c >= 0x20000 && c <= 0x2A6DF) ||
	       (c >= 0x2A700 && c <= 0x2B73F) ||
	       (c >= 0x2B740 && c <= 0x2B81F) ||
	       (c >= 0x2B920 && c <= 0x2CEAF) || (c >= 0xF900 && c <= 0xFAFF) ||
	       (c >= 0x2F800 && c <= 0x2FA1F);
}

size_t normal_bert_chinese(uint32_t character, char out[NORMAL_MAP_BYTES])
{
	size_t bytes;

	if (character < 0x3400 || !is_ideograph(character))
		return utf8_put(character, out);
	out[0] = ' ';
	bytes = utf8_put(character, out + 1);
	out[1 + bytes] = ' ';
	return bytes + 2;
}

size_t normal_nmt(uint32_t c, char out[NORMAL_MAP_BYTES])
{
	if ((c >= 0x01 && c <= 0x08) || c == 0x0B || (c >= 0x0E && c <= 0x1F) ||
	    c == 0x7F || c == 0x8F || c == 0x9F)
		return 0;
	if (c == 0x09 || c == 0x0A || c == 0x0C || c == 0x0D || c == 0x1680 ||
	    (c >= 0x200B && c <= 0x200F) || c == 0x2028 || c == 0x2029 ||
	    c == 0x2581 || c == 0xFEFF || c == 0xFFFD) {
		out[0] = ' ';
		return 1;
	}
	return utf8_put(c, out);
}

size_t normal_byte_level(uint32_t character, char out[NORMAL_MAP_BYTES])
{
	char bytes[4];
	size_t count = utf8_put(character, bytes), i, length = 0;

	for (i = 0; i < count; i++)
		length += utf8_put(utf8_byte_character((unsigned char)bytes[i]),
				   out + length);
	return length;
}
