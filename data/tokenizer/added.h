/*
 * Added tokens: strings that are tokens wherever they stand in the text,
 * found before anything splits it (leftmost, then longest).
 */
#ifndef STAGECOACH_DATA_TOKENIZER_ADDED_H
#define STAGECOACH_DATA_TOKENIZER_ADDED_H

#include "base/compiler.h"
#include "data/tokenizer/lexicon.h"
#include "data/utf8.h"

struct added_token {
	char *content;
	size_t length;
	/* What it looks like where it is looked for (see `normalized`). */
	char *pattern;
	size_t pattern_length;
	int32_t id;
	bool special;     /* found only when asked for */
	bool single_word; /* no \w may touch it */
	bool left_strip;  /* takes the white space before it along */
	bool right_strip;
	bool normalized; /* looked for after the normalizer */
};

struct added_set {
	struct added_token *tokens;
	size_t count;
	struct lexicon patterns[2]; /* [normalized]: to places in tokens */
};

/* Copies the token (its strings too). Call added_set_index() after the last. */
int added_set_add(struct added_set *set,
		  const struct added_token *token) MUST_CHECK;
int added_set_index(struct added_set *set) MUST_CHECK;
void added_set_fini(struct added_set *set);

/* Where a scan sends what it finds. */
struct added_sink {
	utf8_text_fn *text;
	int (*token)(void *argument, int32_t id);
	void *argument;
};

/*
 * One pass over a stream of text for those tokens of a set that are
 * (not) `normalized`. Text between tokens is a segment of its own.
 */
struct added_scan {
	const struct added_set *set;
	struct added_sink sink;
	bool normalized, special;
	bool active;     /* there is something to look for */
	bool left_strip; /* some token has it */
	size_t longest;
	bool first[256]; /* bytes a token begins with */
	struct byte_buffer held;
	uint32_t before; /* character before the held text, 0 if none */
};

void added_scan_init(struct added_scan *scan, const struct added_set *set,
		     bool normalized, bool special, struct added_sink sink);
void added_scan_fini(struct added_scan *scan);
void added_scan_reset(struct added_scan *scan);
int added_scan_push(void *scan, const char *text, size_t length,
		    bool end) MUST_CHECK; /* utf8_text_fn */

#endif
