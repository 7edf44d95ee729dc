#include "data/tokenizer/split.h"

#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct split_stream {
	const struct splitter *splitter;
	splitter_piece_fn *piece;
	void *argument;
	struct pattern_work *work;
	/* Text not split yet, after `behind` bytes kept for lookbehind. */
	struct byte_buffer held;
	size_t behind;
	size_t retry_at; /* do not try again with less text than this */
	bool begun;      /* this segment has text */
	bool inside;     /* text or a token came before this segment */
	struct byte_buffer changed[SPLIT_STEPS_MAX];
};

struct split_step *splitter_add(struct splitter *splitter, const char *origin)
{
	if (splitter->count == SPLIT_STEPS_MAX) {
		fail(-EINVAL, "%s: over %d pre_tokenizers", origin,
		     SPLIT_STEPS_MAX);
		return NULL;
	}
	return &splitter->steps[splitter->count++];
}

int splitter_add_expression(struct splitter *splitter, const char *expression,
			    const char *origin)
{
	struct split_step *step = splitter_add(splitter, origin);

	if (!step)
		return -EINVAL;
	return pattern_expression(&step->pattern, expression, origin);
}

void splitter_fini(struct splitter *splitter)
{
	size_t i;

	for (i = 0; i < splitter->count; i++)
		pattern_fini(&splitter->steps[i].pattern);
	*splitter = (struct splitter){0};
}

void split_stream_destroy(struct split_stream *stream)
{
	size_t i;

	if (!stream)
		return;
	for (i = 0; i < SPLIT_STEPS_MAX; i++)
		byte_buffer_fini(&stream->changed[i]);
	pattern_work_destroy(stream->work);
	byte_buffer_fini(&stream->held);
	free(stream);
}

int split_stream_create(const struct splitter *splitter,
			splitter_piece_fn *piece, void *argument,
			struct split_stream **out)
{
	struct split_stream *stream = calloc(1, sizeof(*stream));
	int err;

	if (!stream)
		return fail(-ENOMEM, "no memory for a text splitter");
	stream->splitter = splitter;
	stream->piece = piece;
	stream->argument = argument;
	err = pattern_work_create(&stream->work);
	if (err) {
		free(stream);
		return err;
	}
	*out = stream;
	return 0;
}

static void segment_reset(struct split_stream *stream)
{
	stream->held.length = 0;
	stream->behind = 0;
	stream->retry_at = 0;
	stream->begun = false;
}

void split_stream_reset(struct split_stream *stream)
{
	segment_reset(stream);
	stream->inside = false;
}

void split_stream_skip(struct split_stream *stream)
{
	stream->inside = true;
}

/* ---- changing a piece ---- */

static bool changes(const struct split_step *step)
{
	return step->prefix_scheme != PREFIX_NONE || step->show_spaces;
}

static int show_spaces(const struct split_step *step, const char *text,
		       size_t length, struct byte_buffer *out)
{
	const char *end = text + length, *space;
	int err = 0;

	while (text < end && !err) {
		space = memchr(text, ' ', (size_t)(end - text));
		err = byte_buffer_append(
			out, text, (size_t)((space ? space : end) - text));
		if (!err && space)
			err = byte_buffer_append(out, step->prefix,
						 step->prefix_bytes);
		text = space ? space + 1 : end;
	}
	return err;
}

/*
 * Appends text as the step wants it. begins: the piece begins here; first:
 * and so does the whole text.
 */
static int change(const struct split_step *step, const char *text,
		  size_t length, bool begins, bool first,
		  struct byte_buffer *out)
{
	size_t prefix = step->prefix_bytes;
	bool wanted = step->prefix_scheme == PREFIX_ALWAYS ||
		      (step->prefix_scheme == PREFIX_FIRST && first);
	int err = 0;

	if (begins && wanted && length &&
	    !(step->show_spaces && *text == ' ') &&
	    !(length >= prefix && memcmp(text, step->prefix, prefix) == 0))
		err = byte_buffer_append(out, step->prefix, prefix);
	if (err)
		return err;
	if (step->show_spaces)
		return show_spaces(step, text, length, out);
	return byte_buffer_append(out, text, length);
}

/* ---- splitting ---- */

/* What has been found of the piece at work: [from, to). */
struct pending {
	size_t from, to;
	bool is_match;
	bool any;
};

static int split_level(struct split_stream *stream, size_t level,
		       const char *text, size_t length, size_t start, bool end,
		       bool first, size_t *done);

/* Hands a piece to step `level`. first: the text begins with it. */
static int emit_to(struct split_stream *stream, size_t level, const char *text,
		   size_t length, bool first)
{
	const struct split_step *step = &stream->splitter->steps[level];
	size_t done;
	int err;

	if (changes(step)) {
		struct byte_buffer *changed = &stream->changed[level];

		changed->length = 0;
		err = change(step, text, length, true, first, changed);
		if (err)
			return err;
		text = changed->data;
		length = changed->length;
	}
	return split_level(stream, level, text, length, 0, true, first, &done);
}

/* To the next step, or out. */
static inline int emit(struct split_stream *stream, size_t level,
		       const char *text, size_t length, bool first)
{
	if (!length)
		return 0;
	if (level == stream->splitter->count)
		return stream->piece(stream->argument, text, length);
	return emit_to(stream, level, text, length, first);
}

/* Does a match or gap belong to the piece before it? */
static bool joins(enum split_behavior behavior, const struct pending *pending,
		  bool is_match)
{
	switch (behavior) {
	case SPLIT_CONTIGUOUS:
		return is_match == pending->is_match;
	case SPLIT_WITH_PREVIOUS:
		return is_match && !pending->is_match;
	case SPLIT_WITH_NEXT:
		return !is_match && pending->is_match;
	case SPLIT_ISOLATED:
	case SPLIT_REMOVED:
		break;
	}
	return false;
}

struct level {
	struct split_stream *stream;
	size_t index;
	const char *text;
	bool first;
	struct pending pending;
};

static int level_finish(struct level *level)
{
	const struct pending *pending = &level->pending;

	if (!pending->any)
		return 0;
	level->pending.any = false;
	return emit(level->stream, level->index + 1,
		    level->text + pending->from, pending->to - pending->from,
		    level->first && pending->from == 0);
}

/* A match or gap that may belong to another. */
static int level_join(struct level *level, enum split_behavior behavior,
		      size_t from, size_t to, bool is_match)
{
	struct pending *pending = &level->pending;
	int err;

	if (pending->any && joins(behavior, pending, is_match)) {
		pending->to = to;
		pending->is_match = is_match;
		return 0;
	}
	err = level_finish(level);
	*pending = (struct pending){from, to, is_match, true};
	return err;
}

/* The next match or gap, [from, to). */
static inline int level_add(struct level *level, size_t from, size_t to,
			    bool is_match)
{
	const struct split_step *step =
		&level->stream->splitter->steps[level->index];

	is_match ^= step->invert;
	if (step->behavior > SPLIT_REMOVED)
		return level_join(level, step->behavior, from, to, is_match);
	if (step->behavior == SPLIT_REMOVED && is_match)
		return 0;
	return emit(level->stream, level->index + 1, level->text + from,
		    to - from, level->first && from == 0);
}

/*
 * Splits text[start, length) by step `level` and hands the pieces to the
 * next one. *done: where the first piece begins that is not certain yet.
 */
static int split_level(struct split_stream *stream, size_t index,
		       const char *text, size_t length, size_t start, bool end,
		       bool first, size_t *done)
{
	struct level level = {stream, index, text, first, {0}};
	struct pattern_scan scan = {
		.pattern = &stream->splitter->steps[index].pattern,
		.work = stream->work,
		.text = text,
		.length = length,
		.start = start,
		.last = SIZE_MAX,
		.partial = !end,
	};
	size_t gap = start;
	int err = 0;

	while (scan.start < length && !err) {
		int found = pattern_next(&scan);

		if (found < 0)
			return found;
		if (!found)
			break;
		if (scan.from > gap)
			err = level_add(&level, gap, scan.from, false);
		if (!err)
			err = level_add(&level, scan.from, scan.to, true);
		gap = scan.to;
	}
	if (!err && end && gap < length)
		err = level_add(&level, gap, length, false);
	if (!err && end)
		err = level_finish(&level);
	*done = end ? length : level.pending.any ? level.pending.from : gap;
	return err;
}

/* Splits what is certain of text, of which `behind` bytes are context. */
static int split_some(struct split_stream *stream, const char *text,
		      size_t length, size_t behind, bool end, size_t *done)
{
	bool first = !stream->inside && behind == 0;

	if (stream->splitter->count)
		return split_level(stream, 0, text, length, behind, end, first,
				   done);
	*done = end ? length : behind;
	return end ? emit(stream, 0, text + behind, length - behind, first) : 0;
}

static size_t bytes_behind(const struct split_stream *stream, const char *text,
			   size_t position)
{
	return pattern_bytes_behind(&stream->splitter->steps[0].pattern, text,
				    position);
}

static int push_held(struct split_stream *stream, bool end)
{
	struct byte_buffer *held = &stream->held;
	size_t done, behind;
	int err;

	if (!end && held->length < stream->retry_at)
		return 0;
	err = split_some(stream, held->data, held->length, stream->behind, end,
			 &done);
	if (err)
		return err;
	behind = bytes_behind(stream, held->data, done);
	byte_buffer_consume(held, done - behind);
	stream->behind = behind;
	/*
	 * A long run that may still grow is looked at again when it has
	 * doubled: n pushes then cost O(n), not O(n^2).
	 */
	stream->retry_at = held->length * 2;
	return 0;
}

static int push_direct(struct split_stream *stream, const char *text,
		       size_t length, bool end)
{
	size_t done, behind;
	int err = split_some(stream, text, length, 0, end, &done);

	if (err || end)
		return err;
	behind = bytes_behind(stream, text, done);
	err = byte_buffer_append(&stream->held, text + done - behind,
				 length - done + behind);
	stream->behind = behind;
	return err;
}

static int push_text(struct split_stream *stream, const char *text,
		     size_t length, bool end)
{
	const struct split_step *step = &stream->splitter->steps[0];
	struct byte_buffer *held = &stream->held;
	bool begins = length && !stream->begun;
	int err;

	stream->begun |= begins;
	if (!held->length && !(stream->splitter->count && changes(step)))
		return length ? push_direct(stream, text, length, end) : 0;
	if (stream->splitter->count)
		err = change(step, text, length, begins, !stream->inside, held);
	else
		err = byte_buffer_append(held, text, length);
	if (err || !held->length)
		return err;
	return push_held(stream, end);
}

int split_stream_push(void *argument, const char *text, size_t length, bool end)
{
	struct split_stream *stream = argument;
	struct byte_buffer *held = &stream->held;
	int err = push_text(stream, text, length, end);

	if (err)
		return err;
	if (end) {
		stream->inside |= stream->begun;
		segment_reset(stream);
		return 0;
	}
	if (held->length - stream->behind > SPLIT_PIECE_BYTES)
		return fail(-EFBIG,
			    "over %zu MiB of text without a place to "
			    "split it: is this text?",
			    SPLIT_PIECE_BYTES >> 20);
	return 0;
}
