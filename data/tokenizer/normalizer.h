/*
 * Normalizers: a chain of steps, each of which changes a stream of text, holding
 * back what later text could still change.
 */
#ifndef STAGECOACH_DATA_TOKENIZER_NORMALIZER_H
#define STAGECOACH_DATA_TOKENIZER_NORMALIZER_H

#include "base/compiler.h"
#include "data/tokenizer/charsmap.h"
#include "data/tokenizer/pattern.h"
#include "data/utf8.h"

#define NORMAL_STEPS_MAX 32
/* Most bytes that one character becomes in a step of kind NORMAL_MAP. */
#define NORMAL_MAP_BYTES 16

enum normal_kind {
	NORMAL_FORM, /* a Unicode normalization form (UAX #15) */
	NORMAL_MAP,  /* character by character */
	NORMAL_STRIP,
	NORMAL_PREPEND,
	NORMAL_REPLACE,
	NORMAL_CHARSMAP, /* SentencePiece's table */
};

/* Writes what a character becomes; returns its bytes, 0: nothing. */
typedef size_t normal_map_fn(uint32_t character, char out[NORMAL_MAP_BYTES]);

struct normal_step {
	enum normal_kind kind;
	bool compose, compatible; /* NORMAL_FORM: C or D, K or not */
	bool left, right;         /* NORMAL_STRIP: of white space */
	normal_map_fn *map;       /* NORMAL_MAP */
	char *text;               /* NORMAL_PREPEND, NORMAL_REPLACE */
	struct pattern pattern;   /* NORMAL_REPLACE */
	struct charsmap charsmap; /* NORMAL_CHARSMAP */
};

/* {0} changes nothing. Immutable once made. */
struct normalizer {
	struct normal_step *steps;
	size_t count;
};

/*
 * A new step at the end, of `kind` and else zero, for the caller to fill in;
 * NULL, logged: too many, or no memory.
 */
struct normal_step *normalizer_add(struct normalizer *normalizer,
				   enum normal_kind kind, const char *origin);
void normalizer_fini(struct normalizer *normalizer);

/* Maps for NORMAL_MAP. */
normal_map_fn normal_lowercase;          /* full mapping, no context */
normal_map_fn normal_without_marks;      /* drops category M */
normal_map_fn normal_without_nonspacing; /* drops category Mn */
normal_map_fn normal_bert_clean;         /* no controls, plain spaces */
normal_map_fn normal_bert_chinese;       /* spaces around ideographs */
normal_map_fn normal_nmt;
normal_map_fn normal_byte_level; /* bytes to their visible characters */

/* One caller's work with a normalizer. */
struct normal_stream;
int normal_stream_create(const struct normalizer *normalizer,
			 utf8_text_fn *sink, void *argument,
			 struct normal_stream **out) MUST_CHECK;
void normal_stream_destroy(struct normal_stream *stream);
int normal_stream_push(void *stream, const char *text, size_t length,
		       bool end) MUST_CHECK; /* utf8_text_fn */
void normal_stream_reset(struct normal_stream *stream);
/* The text goes on from other text: nothing is put before it. */
void normal_stream_skip(struct normal_stream *stream);

/*
 * The segment has lost what it began with. To the library what is left of a
 * text does then not stand at its begin.
 */
bool normal_stream_is_cut(const struct normal_stream *stream);

/* Appends what a whole text becomes. */
int normalizer_apply(const struct normalizer *normalizer, const char *text,
		     size_t length, struct byte_buffer *out) MUST_CHECK;

#endif
