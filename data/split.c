#include "data/split.h"

#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#define STEPS_MAX         16
#define JIT_STACK_START   ((size_t)32 << 10)
#define JIT_STACK_MAXIMUM ((size_t)16 << 20)

/* White_Space and its complement, as they stand inside a class. */
#define SPACE                                                                  \
	"\\x{9}-\\x{D}\\x{20}\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}"       \
	"\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}"
#define NOT_SPACE                                                              \
	"\\x{0}-\\x{8}\\x{E}-\\x{1F}\\x{21}-\\x{84}\\x{86}-\\x{9F}"            \
	"\\x{A1}-\\x{167F}\\x{1681}-\\x{1FFF}\\x{200B}-\\x{2027}"              \
	"\\x{202A}-\\x{202E}\\x{2030}-\\x{205E}\\x{2060}-\\x{2FFF}"            \
	"\\x{3001}-\\x{D7FF}\\x{E000}-\\x{10FFFF}"

struct step {
	pcre2_code *code;
	bool compiled;       /* to machine code */
	uint32_t lookbehind; /* characters */
};

struct splitter {
	struct step steps[STEPS_MAX];
	size_t count;
	bool prefix_space;
};

struct split_stream {
	const struct splitter *splitter;
	splitter_piece_fn *piece;
	void *argument;
	pcre2_match_data *match[STEPS_MAX];
	pcre2_match_context *context;
	pcre2_jit_stack *stack;
	/* Text not split yet, after `behind` bytes kept for lookbehind. */
	struct byte_buffer held;
	size_t behind;
	size_t retry_at; /* do not try again with less text than this */
	bool begun;      /* this text has begun */
};

int splitter_create(struct splitter **out)
{
	struct splitter *splitter = calloc(1, sizeof(*splitter));

	if (!splitter)
		return fail(-ENOMEM, "no memory for a text splitter");
	*out = splitter;
	return 0;
}

void splitter_destroy(struct splitter *splitter)
{
	size_t i;

	if (!splitter)
		return;
	for (i = 0; i < splitter->count; i++)
		pcre2_code_free(splitter->steps[i].code);
	free(splitter);
}

void splitter_set_prefix_space(struct splitter *splitter, bool prefix)
{
	splitter->prefix_space = prefix;
}

/* Writes \s and \S out in full; everything else is PCRE2's own syntax. */
static int pattern_translate(const char *pattern, struct byte_buffer *out)
{
	bool in_class = false;
	int err = 0;

	for (; *pattern && !err; pattern++) {
		const char *text = pattern;
		size_t length = 1;

		if (*pattern == '\\' && pattern[1]) {
			bool space = pattern[1] == 's';

			length = 2;
			if (space || pattern[1] == 'S') {
				text = in_class ? (space ? SPACE : NOT_SPACE)
				       : space  ? "[" SPACE "]"
						: "[^" SPACE "]";
				length = strlen(text);
			}
			pattern++;
		} else if (*pattern == '[') {
			in_class = true;
		} else if (*pattern == ']') {
			in_class = false;
		}
		err = byte_buffer_append(out, text, length);
	}
	return err;
}

static int step_compile(struct step *step, const char *pattern, size_t length,
			bool literal, const char *origin)
{
	uint32_t options = PCRE2_UTF | (literal ? PCRE2_LITERAL : PCRE2_UCP);
	PCRE2_UCHAR reason[256];
	PCRE2_SIZE where = 0;
	int code = 0;

	step->code = pcre2_compile((PCRE2_SPTR)pattern, length, options, &code,
				   &where, NULL);
	if (!step->code) {
		pcre2_get_error_message(code, reason, sizeof(reason));
		return fail(-EINVAL,
			    "%s: splitting expression: %s (at %zu of "
			    "\"%.*s\")",
			    origin, (const char *)reason, (size_t)where,
			    (int)MIN(length, (size_t)200), pattern);
	}
	step->compiled = pcre2_jit_compile(step->code,
					   PCRE2_JIT_COMPLETE |
						   PCRE2_JIT_PARTIAL_HARD) == 0;
	pcre2_pattern_info(step->code, PCRE2_INFO_MAXLOOKBEHIND,
			   &step->lookbehind);
	return 0;
}

int splitter_add(struct splitter *splitter, const char *pattern, bool literal,
		 const char *origin)
{
	struct byte_buffer translated = {0};
	int err;

	if (splitter->count == STEPS_MAX)
		return fail(-EINVAL, "%s: over %d splitting expressions",
			    origin, STEPS_MAX);
	if (literal)
		err = byte_buffer_append(&translated, pattern, strlen(pattern));
	else
		err = pattern_translate(pattern, &translated);
	if (!err)
		err = step_compile(&splitter->steps[splitter->count],
				   translated.data ? translated.data : "",
				   translated.length, literal, origin);
	byte_buffer_fini(&translated);
	if (err)
		return err;
	splitter->count++;
	return 0;
}

void split_stream_destroy(struct split_stream *stream)
{
	size_t i;

	if (!stream)
		return;
	for (i = 0; i < STEPS_MAX; i++)
		pcre2_match_data_free(stream->match[i]);
	pcre2_match_context_free(stream->context);
	pcre2_jit_stack_free(stream->stack);
	byte_buffer_fini(&stream->held);
	free(stream);
}

int split_stream_create(const struct splitter *splitter,
			splitter_piece_fn *piece, void *argument,
			struct split_stream **out)
{
	struct split_stream *stream = calloc(1, sizeof(*stream));
	size_t i;

	if (!stream)
		return fail(-ENOMEM, "no memory for a text splitter");
	stream->splitter = splitter;
	stream->piece = piece;
	stream->argument = argument;
	stream->context = pcre2_match_context_create(NULL);
	stream->stack = pcre2_jit_stack_create(JIT_STACK_START,
					       JIT_STACK_MAXIMUM, NULL);
	if (!stream->context)
		goto err_destroy;
	if (stream->stack)
		pcre2_jit_stack_assign(stream->context, NULL, stream->stack);
	for (i = 0; i < splitter->count; i++) {
		stream->match[i] = pcre2_match_data_create(1, NULL);
		if (!stream->match[i])
			goto err_destroy;
	}
	*out = stream;
	return 0;

err_destroy:
	split_stream_destroy(stream);
	return fail(-ENOMEM, "no memory for a text splitter");
}

void split_stream_reset(struct split_stream *stream)
{
	stream->held.length = 0;
	stream->behind = 0;
	stream->retry_at = 0;
	stream->begun = false;
}

enum found {
	FOUND_MATCH,
	FOUND_NOTHING,
	FOUND_PARTIAL, /* more text could change the answer */
};

static int match_failed(int code, size_t start)
{
	PCRE2_UCHAR reason[256];

	pcre2_get_error_message(code, reason, sizeof(reason));
	return fail(-EINVAL, "splitting text: %s, at byte %zu of the stretch",
		    (const char *)reason, start);
}

/*
 * The first match at or after `start`. The machine code runs on a stack of
 * bounded size; where that is too small the interpreter, whose memory is
 * the heap, takes over.
 */
static int find(struct split_stream *stream, size_t level, const char *text,
		size_t length, size_t start, bool partial, size_t *from,
		size_t *to, enum found *found)
{
	const struct step *step = &stream->splitter->steps[level];
	pcre2_match_data *match = stream->match[level];
	uint32_t options = partial ? PCRE2_PARTIAL_HARD : 0;
	const PCRE2_SIZE *ends;
	int code = PCRE2_ERROR_JIT_STACKLIMIT;

	if (step->compiled)
		code = pcre2_jit_match(step->code, (PCRE2_SPTR)text, length,
				       start, options, match, stream->context);
	if (code == PCRE2_ERROR_JIT_STACKLIMIT ||
	    code == PCRE2_ERROR_MATCHLIMIT) {
		/* Backtracking over one long run counts for each character. */
		uint64_t limit = 10000000 + 16 * (uint64_t)length;

		pcre2_set_match_limit(stream->context,
				      (uint32_t)MIN(limit, UINT32_MAX));
		code = pcre2_match(step->code, (PCRE2_SPTR)text, length, start,
				   options | PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
				   match, stream->context);
	}
	if (code == PCRE2_ERROR_PARTIAL) {
		*found = FOUND_PARTIAL;
		return 0;
	}
	if (code == PCRE2_ERROR_NOMATCH) {
		*found = FOUND_NOTHING;
		return 0;
	}
	if (code < 0)
		return match_failed(code, start);
	ends = pcre2_get_ovector_pointer(match);
	*found = FOUND_MATCH;
	*from = ends[0];
	*to = ends[1];
	return 0;
}

static int split_level(struct split_stream *stream, size_t level,
		       const char *text, size_t length, size_t start, bool end,
		       size_t *done);

static int emit(struct split_stream *stream, size_t level, const char *text,
		size_t length)
{
	size_t done;

	if (!length)
		return 0;
	if (level == stream->splitter->count)
		return stream->piece(stream->argument, text, length);
	return split_level(stream, level, text, length, 0, true, &done);
}

/*
 * Splits text[start, length) by expression `level` and hands the pieces to the
 * next one. *done: where the first piece begins that is not certain yet.
 */
static int split_level(struct split_stream *stream, size_t level,
		       const char *text, size_t length, size_t start, bool end,
		       size_t *done)
{
	size_t gap = start, from = 0, to = 0;
	enum found found = FOUND_NOTHING;
	int err;

	while (start < length) {
		err = find(stream, level, text, length, start, !end, &from, &to,
			   &found);
		if (err)
			return err;
		if (found != FOUND_MATCH)
			break;
		err = emit(stream, level + 1, text + gap, from - gap);
		if (!err)
			err = emit(stream, level + 1, text + from, to - from);
		if (err)
			return err;
		gap = start = to;
		if (from == to && start < length) {
			utf8_get(text + start, &from);
			start += from;
		}
	}
	if (end) {
		err = emit(stream, level + 1, text + gap, length - gap);
		if (err)
			return err;
		gap = length;
	}
	*done = gap;
	return 0;
}

/* How many bytes before `position` lookbehind may want to see. */
static size_t bytes_behind(const struct split_stream *stream, const char *text,
			   size_t position)
{
	uint32_t characters = MAX(stream->splitter->steps[0].lookbehind, 1u);
	size_t start = position;

	while (start && characters--)
		start = utf8_previous(text, start);
	return position - start;
}

/* Splits what is certain of text, of which `behind` bytes are context. */
static int split_some(struct split_stream *stream, const char *text,
		      size_t length, size_t behind, bool end, size_t *done)
{
	if (stream->splitter->count)
		return split_level(stream, 0, text, length, behind, end, done);
	*done = end ? length : behind;
	return end ? emit(stream, 0, text + behind, length - behind) : 0;
}

static int push_held(struct split_stream *stream, const char *text,
		     size_t length, bool end)
{
	struct byte_buffer *held = &stream->held;
	size_t done, behind;
	int err = byte_buffer_append(held, text, length);

	if (err)
		return err;
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

int split_stream_push(void *argument, const char *text, size_t length, bool end)
{
	struct split_stream *stream = argument;
	struct byte_buffer *held = &stream->held;
	int err = 0;

	if (length && !stream->begun) {
		stream->begun = true;
		if (stream->splitter->prefix_space && text[0] != ' ')
			err = byte_buffer_append(held, " ", 1);
		if (err)
			return err;
	}
	if (held->length)
		err = push_held(stream, text, length, end);
	else if (length)
		err = push_direct(stream, text, length, end);
	if (err)
		return err;
	if (end) {
		split_stream_reset(stream);
		return 0;
	}
	if (held->length - stream->behind > SPLIT_PIECE_BYTES)
		return fail(-EFBIG,
			    "over %zu MiB of text without a place to "
			    "split it: is this text?",
			    SPLIT_PIECE_BYTES >> 20);
	return 0;
}
