/*
 * Inside the normalizer: one step at work on a stream of text.
 */
#ifndef STAGECOACH_DATA_TOKENIZER_NORMAL_STAGE_H
#define STAGECOACH_DATA_TOKENIZER_NORMAL_STAGE_H

#include "data/tokenizer/normalizer.h"

struct normal_stage {
	const struct normal_step *step;
	utf8_text_fn *sink;
	void *argument;
	struct pattern_work *work; /* NORMAL_REPLACE */
	struct byte_buffer held;   /* text that later text may change */
	size_t behind;             /* bytes of it kept for lookbehind only */
	size_t retry_at;           /* do not look again with less than this */
	bool begun;                /* this segment has text */
	bool matched;              /* a match ended where the search goes on */
	bool written;              /* something came out of this segment */
	bool *cut;                 /* see normal_stream_is_cut() */
	struct byte_buffer out;
};

/* utf8_text_fn, each for its kind; argument is the stage. */
int normal_form_push(void *stage, const char *text, size_t length,
		     bool end) MUST_CHECK;
int normal_map_push(void *stage, const char *text, size_t length,
		    bool end) MUST_CHECK;
int normal_strip_push(void *stage, const char *text, size_t length,
		      bool end) MUST_CHECK;
int normal_prepend_push(void *stage, const char *text, size_t length,
			bool end) MUST_CHECK;
int normal_replace_push(void *stage, const char *text, size_t length,
			bool end) MUST_CHECK;
int normal_charsmap_push(void *stage, const char *text, size_t length,
			 bool end) MUST_CHECK;

/* Text of the segment has been written, or dropped. */
static inline void normal_stage_note(struct normal_stage *stage, bool written)
{
	if (!written && !stage->written)
		*stage->cut = true;
	stage->written |= written;
}

/* Hands over what is in stage->out, and empties it. */
int normal_stage_flush(struct normal_stage *stage, bool end) MUST_CHECK;

#endif
