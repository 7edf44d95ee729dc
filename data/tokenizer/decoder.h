/*
 * From the texts of tokens to text: a chain of steps, each of which changes the
 * texts token by token, holding back what the next tokens could still change.
 */
#ifndef STAGECOACH_DATA_TOKENIZER_DECODER_H
#define STAGECOACH_DATA_TOKENIZER_DECODER_H

#include "base/compiler.h"
#include "base/text.h"
#include "data/tokenizer/pattern.h"
#include "data/utf8.h"

#define DECODE_STEPS_MAX 16

enum decode_kind {
	DECODE_SPACED,     /* a space between tokens: no decoder given */
	DECODE_BYTES,      /* tokens are bytes already */
	DECODE_BYTE_LEVEL, /* a visible character a byte */
	DECODE_WORDPIECE,
	DECODE_METASPACE,
	DECODE_REPLACE,
	DECODE_BYTE_FALLBACK,
	DECODE_FUSE, /* all tokens become one */
	DECODE_STRIP,
	DECODE_SUFFIX, /* BPEDecoder */
};

struct decode_step {
	enum decode_kind kind;
	/*
	 * WordPiece: the prefix; Metaspace: the character; Replace: the new
	 * text; Strip: the character; suffix: the suffix.
	 */
	char *text;
	struct pattern pattern; /* Replace */
	bool clean_up;          /* WordPiece */
	bool drop_first;        /* Metaspace: none in the first token */
	size_t start, stop;     /* Strip: at most so many */
};

/* {0} puts the tokens together. Immutable once made. */
struct decoder {
	struct decode_step steps[DECODE_STEPS_MAX];
	size_t count;
};

/* A new step, else zero, for the caller to fill in; NULL, logged: too many. */
struct decode_step *decoder_add(struct decoder *decoder, enum decode_kind kind,
				const char *origin);
void decoder_fini(struct decoder *decoder);

/* One caller's decoding; `decoder` outlives it. */
struct decode_stream;
int decode_stream_create(const struct decoder *decoder,
			 struct decode_stream **out) MUST_CHECK;
void decode_stream_destroy(struct decode_stream *stream);

/* The next token's text; what is certain is appended to *out. */
int decode_stream_push(struct decode_stream *stream, const char *text,
		       size_t length, struct text_builder *out) MUST_CHECK;
/* The rest. The stream is then ready for another text. */
int decode_stream_finish(struct decode_stream *stream,
			 struct text_builder *out) MUST_CHECK;

#endif
