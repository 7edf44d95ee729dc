/*
 * Inside the decoder: one step at work. A stage gets the texts of tokens as
 * stretches, the last of a token with `end`, and `finish` after the last token.
 */
#ifndef STAGECOACH_DATA_TOKENIZER_DECODE_STAGE_H
#define STAGECOACH_DATA_TOKENIZER_DECODE_STAGE_H

#include "data/tokenizer/decoder.h"

struct decode_stage {
	const struct decode_step *step;
	struct decode_stage *next;  /* NULL: the last */
	struct text_builder *sink;  /* of the last */
	struct pattern_work *work;  /* DECODE_REPLACE */
	struct byte_buffer held;    /* text held back */
	struct byte_buffer changed; /* text at work */
	size_t behind;              /* bytes of it for lookbehind only */
	size_t stripped;            /* characters of this token */
	bool inside;                /* there were tokens before */
	bool begun;                 /* this token has text already */
	bool waiting;               /* a token is held back */
	bool matched;               /* a match ended where the search goes on */
};

/* Hands text on; end: the token ends with it. */
int decode_pass(struct decode_stage *stage, const char *text, size_t length,
		bool end) MUST_CHECK;

typedef int decode_push_fn(struct decode_stage *stage, const char *text,
			   size_t length, bool end);
typedef int decode_finish_fn(struct decode_stage *stage);

decode_push_fn decode_bytes_push, decode_byte_level_push, decode_fallback_push,
	decode_replace_push, decode_strip_push;
decode_finish_fn decode_bytes_finish, decode_fallback_finish;

#endif
