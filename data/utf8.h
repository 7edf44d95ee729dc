/*
 * UTF-8 in a stream: the alphabet of byte-level tokens, character steps over
 * text known to be sound, and a feed that checks text cut anywhere.
 */
#ifndef STAGECOACH_DATA_UTF8_H
#define STAGECOACH_DATA_UTF8_H

#include "base/compiler.h"

/*
 * GPT-2's byte-level alphabet: every byte has a visible character that stands
 * for it in tokenizer.json; the printable ones of Latin-1 their own, the
 * other 68 U+0100 onwards.
 */
uint32_t utf8_byte_character(unsigned char byte);
int utf8_character_byte(uint32_t character); /* -1: stands for no byte */

/* Bytes 1..4 written to out. character must be a scalar value. */
size_t utf8_put(uint32_t character, char out[4]);

/* Bytes of a character, by its first; the text must be sound UTF-8. */
static inline size_t utf8_bytes(unsigned char lead)
{
	if (lead < 0x80)
		return 1;
	if (lead < 0xE0)
		return 2;
	return lead < 0xF0 ? 3 : 4;
}

/* Characters in a text. */
size_t utf8_count(const char *text, size_t length);

/* The character at text, which must be sound UTF-8; *length its bytes. */
uint32_t utf8_get(const char *text, size_t *length);

/* Start of the character that ends before `position` (> 0). */
size_t utf8_previous(const char *text, size_t position);

/* Unicode White_Space, which is what \s means to the Hugging Face library. */
bool utf8_is_space(uint32_t character);

/* ASCII punctuation, symbols too, and category P: what BERT splits at. */
bool utf8_is_punctuation(uint32_t character);

/* Category N. */
bool utf8_is_number(uint32_t character);

/* Rust's \w: Alphabetic, marks, decimal numbers, connectors, joiners. */
bool utf8_is_word(uint32_t character);

/*
 * Where text goes, piece by piece. A segment is a stretch of text
 * that later stages see as a text of its own; `end` closes it (with length 0
 * too). The text is sound UTF-8, never cut inside a character, and is the
 * caller's again after the return. Negative errno stops everything.
 */
typedef int utf8_text_fn(void *argument, const char *text, size_t length,
			 bool end);

/* Text cut anywhere: whole characters go on, the rest waits. {0} is fresh. */
struct utf8_feed {
	char held[4];
	unsigned held_count;
	uint64_t offset; /* bytes of this text found sound */
};
/* -EILSEQ, silent: not UTF-8 at feed->offset. After `end` it is fresh. */
int utf8_feed_push(struct utf8_feed *feed, const char *text, size_t length,
		   bool end, utf8_text_fn *sink, void *argument) MUST_CHECK;

/* A growing buffer of bytes. {0} is empty. */
struct byte_buffer {
	char *data;
	size_t length;
	size_t capacity;
};
int byte_buffer_append(struct byte_buffer *buffer, const char *data,
		       size_t length) MUST_CHECK;
/* Room for `count` more bytes behind the last. */
int byte_buffer_reserve(struct byte_buffer *buffer, size_t count) MUST_CHECK;
/* Drops the first `count` bytes. */
void byte_buffer_consume(struct byte_buffer *buffer, size_t count);
void byte_buffer_fini(struct byte_buffer *buffer);

#endif
