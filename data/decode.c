/*
 * Decoding: the bytes of the tokens, with ill-formed UTF-8 replaced as the
 * Unicode standard recommends (chapter 3.9, "substitution of maximal
 * subparts"), which is what Rust's from_utf8_lossy and Python do.
 */
#include "data/tokenizer_impl.h"

#include "base/log.h"

#include <errno.h>
#include <string.h>

#define REPLACEMENT "\xEF\xBF\xBD"

/* May `byte` follow the first `held` bytes of a character? (table 3-7) */
static bool continues(const struct tokenizer_stream *stream, unsigned char byte)
{
	unsigned char lead = stream->held[0];
	unsigned char low = 0x80, high = 0xBF;

	if (stream->held_count == 1) {
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

static unsigned bytes_of(unsigned char lead)
{
	if (lead < 0xE0)
		return 2;
	return lead < 0xF0 ? 3 : 4;
}

static void push_byte(struct tokenizer_stream *stream, unsigned char byte,
		      struct text_builder *out)
{
	if (stream->held_count && continues(stream, byte)) {
		stream->held[stream->held_count++] = byte;
		if (stream->held_count == bytes_of(stream->held[0])) {
			text_builder_append_bytes(out, stream->held,
						  stream->held_count);
			stream->held_count = 0;
		}
		return;
	}
	tokenizer_stream_finish(stream, out);
	if (byte < 0x80) {
		text_builder_append_bytes(out, &byte, 1);
	} else if (byte >= 0xC2 && byte <= 0xF4) {
		stream->held[0] = byte;
		stream->held_count = 1;
	} else {
		text_builder_append_bytes(out, REPLACEMENT, 3);
	}
}

int tokenizer_stream_push(const struct tokenizer *tokenizer,
			  struct tokenizer_stream *stream, int32_t id,
			  struct text_builder *out)
{
	size_t i, length;
	const char *bytes = tokenizer_token(tokenizer, id, &length);

	if (!bytes)
		return fail(-EINVAL,
			    "token %d is not in the vocabulary (%zu ids)",
			    (int)id, tokenizer_vocab_size(tokenizer));
	for (i = 0; i < length; i++)
		push_byte(stream, (unsigned char)bytes[i], out);
	return 0;
}

void tokenizer_stream_finish(struct tokenizer_stream *stream,
			     struct text_builder *out)
{
	if (stream->held_count)
		text_builder_append_bytes(out, REPLACEMENT, 3);
	stream->held_count = 0;
}

int tokenizer_decode(const struct tokenizer *tokenizer, const int32_t *ids,
		     size_t count, struct text_builder *out)
{
	struct tokenizer_stream stream = {0};
	size_t i;
	int err;

	for (i = 0; i < count; i++) {
		err = tokenizer_stream_push(tokenizer, &stream, ids[i], out);
		if (err)
			return err;
	}
	tokenizer_stream_finish(&stream, out);
	return 0;
}
