#include "data/tokenizer/decode_stage.h"

#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct decode_stream {
	size_t count;
	struct decode_stage stages[DECODE_STEPS_MAX];
};

struct decode_step *decoder_add(struct decoder *decoder, enum decode_kind kind,
				const char *origin)
{
	struct decode_step *step;

	if (decoder->count == DECODE_STEPS_MAX) {
		fail(-EINVAL, "%s: over %d decoders", origin, DECODE_STEPS_MAX);
		return NULL;
	}
	step = &decoder->steps[decoder->count++];
	*step = (struct decode_step){.kind = kind};
	return step;
}

void decoder_fini(struct decoder *decoder)
{
	size_t i;

	for (i = 0; i < decoder->count; i++) {
		free(decoder->steps[i].text);
		pattern_fini(&decoder->steps[i].pattern);
	}
	*decoder = (struct decoder){0};
}

/* ---- steps that need no more than a token at a time ---- */

static int spaced_push(struct decode_stage *stage, const char *text,
		       size_t length, bool end)
{
	int err = 0;

	if (!stage->begun && stage->inside)
		err = decode_pass(stage, " ", 1, false);
	stage->begun = !end;
	stage->inside = true;
	return err ? err : decode_pass(stage, text, length, end);
}

static void replace_all(struct byte_buffer *text, const char *from,
			const char *to)
{
	size_t length = strlen(from), size = strlen(to), at = 0;

	/* Nothing grows: it is done in place. */
	ASSERT(size <= length);
	while (at + length <= text->length) {
		char *place = memmem(text->data + at, text->length - at, from,
				     length);

		if (!place)
			return;
		at = (size_t)(place - text->data);
		memcpy(place, to, size);
		memmove(place + size, place + length,
			text->length - at - length);
		text->length -= length - size;
		at += size;
	}
}

/* What transformers calls clean_up_tokenization, within one token. */
static void clean_up(struct byte_buffer *text)
{
	static const char *const changes[][2] = {
		{" .", "."},     {" ?", "?"},           {" !", "!"},
		{" ,", ","},     {" ' ", "'"},          {" n't", "n't"},
		{" 'm", "'m"},   {" do not", " don't"}, {" 's", "'s"},
		{" 've", "'ve"}, {" 're", "'re"},
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(changes); i++)
		replace_all(text, changes[i][0], changes[i][1]);
}

/* Puts the stretches of a token together; *whole: this was the last. */
static int gather(struct decode_stage *stage, const char *text, size_t length,
		  bool end, bool *whole)
{
	*whole = end;
	return byte_buffer_append(&stage->changed, text, length);
}

static int wordpiece_token(struct decode_stage *stage)
{
	struct byte_buffer *token = &stage->changed;
	const char *prefix = stage->step->text;
	size_t length = strlen(prefix);
	int err = 0;

	if (stage->inside) {
		if (token->length >= length &&
		    memcmp(token->data, prefix, length) == 0) {
			byte_buffer_consume(token, length);
		} else {
			err = byte_buffer_reserve(token, 1);
			if (err)
				return err;
			memmove(token->data + 1, token->data, token->length);
			token->data[0] = ' ';
			token->length++;
		}
	}
	if (stage->step->clean_up)
		clean_up(token);
	return decode_pass(stage, token->data, token->length, true);
}

static int wordpiece_push(struct decode_stage *stage, const char *text,
			  size_t length, bool end)
{
	bool whole;
	int err = gather(stage, text, length, end, &whole);

	if (err || !whole)
		return err;
	err = byte_buffer_reserve(&stage->changed, 1);
	if (!err)
		err = wordpiece_token(stage);
	stage->changed.length = 0;
	stage->inside = true;
	return err;
}

static int metaspace_push(struct decode_stage *stage, const char *text,
			  size_t length, bool end)
{
	const char *mark = stage->step->text;
	size_t bytes = strlen(mark);
	bool drop = stage->step->drop_first && !stage->inside;
	int err = 0;

	while (length && !err) {
		const char *at = memmem(text, length, mark, bytes);
		size_t before = at ? (size_t)(at - text) : length;

		err = decode_pass(stage, text, before, false);
		if (!err && at && !drop)
			err = decode_pass(stage, " ", 1, false);
		text += before + (at ? bytes : 0);
		length -= before + (at ? bytes : 0);
	}
	if (end)
		stage->inside = true;
	return err || !end ? err : decode_pass(stage, NULL, 0, true);
}

static int fuse_push(struct decode_stage *stage, const char *text,
		     size_t length, bool end)
{
	(void)end;
	stage->inside = true;
	return decode_pass(stage, text, length, false);
}

static int fuse_finish(struct decode_stage *stage)
{
	return stage->inside ? decode_pass(stage, NULL, 0, true) : 0;
}

/*
 * The suffix of every token but the last becomes a space, that of the last
 * nothing: text is held back from the first suffix on.
 */
static int suffix_flush(struct decode_stage *stage, const char *instead)
{
	const char *suffix = stage->step->text;
	const char *text = stage->held.data;
	size_t bytes = strlen(suffix), length = stage->held.length;
	int err = 0;

	while (length && !err) {
		const char *at = memmem(text, length, suffix, bytes);
		size_t before = at ? (size_t)(at - text) : length;

		err = decode_pass(stage, text, before, false);
		if (!err && at)
			err = decode_pass(stage, instead, strlen(instead),
					  false);
		text += before + (at ? bytes : 0);
		length -= before + (at ? bytes : 0);
	}
	stage->held.length = 0;
	return err ? err : decode_pass(stage, NULL, 0, true);
}

static int suffix_push(struct decode_stage *stage, const char *text,
		       size_t length, bool end)
{
	const char *suffix = stage->step->text;
	size_t bytes = strlen(suffix), before = length;
	const char *at;
	int err = 0;

	if (stage->waiting)
		err = suffix_flush(stage, " ");
	stage->waiting = end;
	if (!stage->held.length) {
		at = length ? memmem(text, length, suffix, bytes) : NULL;
		/* Within a token in stretches a suffix could be cut. */
		before = at ? (size_t)(at - text) : end ? length : 0;
	} else {
		before = 0;
	}
	if (!err)
		err = decode_pass(stage, text, before, false);
	return err ? err
		   : byte_buffer_append(&stage->held, text + before,
					length - before);
}

static int suffix_finish(struct decode_stage *stage)
{
	return stage->waiting ? suffix_flush(stage, "") : 0;
}

/* ---- the chain ---- */

static int no_finish(struct decode_stage *stage)
{
	(void)stage;
	return 0;
}

static const struct {
	decode_push_fn *push;
	decode_finish_fn *finish;
} kinds[] = {
	[DECODE_SPACED] = {spaced_push, no_finish},
	[DECODE_BYTES] = {decode_bytes_push, decode_bytes_finish},
	[DECODE_BYTE_LEVEL] = {decode_byte_level_push, decode_bytes_finish},
	[DECODE_WORDPIECE] = {wordpiece_push, no_finish},
	[DECODE_METASPACE] = {metaspace_push, no_finish},
	[DECODE_REPLACE] = {decode_replace_push, no_finish},
	[DECODE_BYTE_FALLBACK] = {decode_fallback_push, decode_fallback_finish},
	[DECODE_FUSE] = {fuse_push, fuse_finish},
	[DECODE_STRIP] = {decode_strip_push, no_finish},
	[DECODE_SUFFIX] = {suffix_push, suffix_finish},
};

int decode_pass(struct decode_stage *stage, const char *text, size_t length,
		bool end)
{
	struct decode_stage *next = stage->next;

	if (!length && !end)
		return 0;
	if (next)
		return kinds[next->step->kind].push(next, text, length, end);
	if (length)
		text_builder_append_bytes(stage->sink, text, length);
	return 0;
}

void decode_stream_destroy(struct decode_stream *stream)
{
	size_t i;

	if (!stream)
		return;
	for (i = 0; i < stream->count; i++) {
		pattern_work_destroy(stream->stages[i].work);
		byte_buffer_fini(&stream->stages[i].held);
		byte_buffer_fini(&stream->stages[i].changed);
	}
	free(stream);
}

int decode_stream_create(const struct decoder *decoder,
			 struct decode_stream **out)
{
	struct decode_stream *stream = calloc(1, sizeof(*stream));
	size_t i;
	int err = 0;

	if (!stream)
		return fail(-ENOMEM, "no memory for a decoder");
	stream->count = decoder->count;
	for (i = 0; i < decoder->count && !err; i++) {
		struct decode_stage *stage = &stream->stages[i];

		stage->step = &decoder->steps[i];
		stage->next = i + 1 < decoder->count ? stage + 1 : NULL;
		if (stage->step->kind == DECODE_REPLACE)
			err = pattern_work_create(&stage->work);
	}
	if (err) {
		decode_stream_destroy(stream);
		return err;
	}
	*out = stream;
	return 0;
}

int decode_stream_push(struct decode_stream *stream, const char *text,
		       size_t length, struct text_builder *out)
{
	struct decode_stage *first = &stream->stages[0];

	if (!stream->count) {
		text_builder_append_bytes(out, text, length);
		return 0;
	}
	stream->stages[stream->count - 1].sink = out;
	return kinds[first->step->kind].push(first, text, length, true);
}

static void stage_reset(struct decode_stage *stage)
{
	stage->held.length = 0;
	stage->changed.length = 0;
	stage->behind = 0;
	stage->stripped = 0;
	stage->inside = false;
	stage->begun = false;
	stage->waiting = false;
	stage->matched = false;
}

int decode_stream_finish(struct decode_stream *stream, struct text_builder *out)
{
	size_t i;
	int err = 0;

	if (stream->count)
		stream->stages[stream->count - 1].sink = out;
	for (i = 0; i < stream->count && !err; i++) {
		struct decode_stage *stage = &stream->stages[i];

		err = kinds[stage->step->kind].finish(stage);
	}
	for (i = 0; i < stream->count; i++)
		stage_reset(&stream->stages[i]);
	return err;
}
