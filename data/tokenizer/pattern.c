#include "data/tokenizer/pattern.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#define EXPRESSION_BYTES_MAX ((size_t)64 << 10)
#define NESTING_MAX          100
#define JIT_STACK_START      ((size_t)32 << 10)
#define JIT_STACK_MAXIMUM    ((size_t)16 << 20)
#define HEAP_KIBIBYTES       ((uint32_t)512 << 10)
/* One call tries so many places at least and at most; the next goes on. */
#define PLACES_LEAST 64
#define PLACES_MOST  256
/* Backtracking for the machine code, before the interpreter has its turn. */
#define MATCH_LIMIT 1000000

/* Searches between two looks at the clock. */
#define WATCH_SEARCHES 64
/* Such a stretch is slow if it takes more than this and this per byte. */
#define WATCH_NS          1000000
#define WATCH_NS_PER_BYTE 10000
/* Processor time that slow stretches may take, in all, if nothing is said. */
#define WATCH_LIMIT_NS 10000000000

struct pattern_work {
	pcre2_match_data *match;
	pcre2_match_context *context;
	pcre2_jit_stack *stack;
	const PCRE2_SIZE *ends; /* of the match */
	size_t place, limit;    /* the limit was set there, to that */
	/* The watch. */
	unsigned searches; /* left of this stretch */
	size_t bytes;
	int64_t since_ns;
	int64_t since_processor_ns; /* < 0: not looked at */
	int64_t slow_ns, limit_ns;
};

static pcre2_compile_context *compile_context(void)
{
	pcre2_compile_context *context = pcre2_compile_context_create(NULL);

	if (!context)
		return NULL;
	pcre2_set_newline(context, PCRE2_NEWLINE_LF);
	pcre2_set_parens_nest_limit(context, NESTING_MAX);
	return context;
}

static int compile(struct pattern *pattern, const struct byte_buffer *text,
		   const char *origin)
{
	/*
	 * ^ and $ are the ends of lines in Ruby's syntax. What PCRE2 does to
	 * begin with looks at all the text, at each of many calls.
	 */
	uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE |
			   PCRE2_NEVER_BACKSLASH_C | PCRE2_USE_OFFSET_LIMIT |
			   PCRE2_NO_START_OPTIMIZE;
	pcre2_compile_context *context = compile_context();
	PCRE2_UCHAR reason[256];
	PCRE2_SIZE where = 0;
	int code = 0;

	if (!context)
		return fail(-ENOMEM, "no memory for an expression");
	pattern->code = pcre2_compile((PCRE2_SPTR)text->data, text->length,
				      options, &code, &where, context);
	pcre2_compile_context_free(context);
	if (!pattern->code) {
		pcre2_get_error_message(code, reason, sizeof(reason));
		return fail(-EINVAL, "%s: expression: %s (at %zu of \"%.*s\")",
			    origin, (const char *)reason, (size_t)where,
			    (int)MIN(text->length, (size_t)200), text->data);
	}
	pattern->compiled =
		pcre2_jit_compile(pattern->code,
				  PCRE2_JIT_COMPLETE |
					  PCRE2_JIT_PARTIAL_HARD) == 0;
	pcre2_pattern_info(pattern->code, PCRE2_INFO_MAXLOOKBEHIND,
			   &pattern->lookbehind);
	return 0;
}

int pattern_expression(struct pattern *pattern, const char *expression,
		       const char *origin)
{
	struct byte_buffer text = {0};
	int err;

	*pattern = (struct pattern){.kind = PATTERN_EXPRESSION};
	if (!*expression || strlen(expression) > EXPRESSION_BYTES_MAX)
		return fail(-EINVAL,
			    "%s: an expression of %zu bytes (1 to %zu can be)",
			    origin, strlen(expression), EXPRESSION_BYTES_MAX);
	err = pattern_translate(expression, origin, &text);
	if (!err)
		err = compile(pattern, &text, origin);
	byte_buffer_fini(&text);
	return err;
}

int pattern_string(struct pattern *pattern, enum pattern_kind kind,
		   const char *string)
{
	*pattern = (struct pattern){
		.kind = kind,
		.lookbehind = kind == PATTERN_START,
		.string = strdup(string),
		.length = strlen(string),
	};
	ASSERT(pattern->length);
	return pattern->string ? 0 : fail(-ENOMEM, "no memory for a string");
}

void pattern_class(struct pattern *pattern, pattern_class_fn *class)
{
	*pattern = (struct pattern){.kind = PATTERN_CHARACTER, .class = class};
}

void pattern_fini(struct pattern *pattern)
{
	pcre2_code_free(pattern->code);
	free(pattern->string);
	*pattern = (struct pattern){0};
}

void pattern_work_destroy(struct pattern_work *work)
{
	if (!work)
		return;
	pcre2_match_data_free(work->match);
	pcre2_match_context_free(work->context);
	pcre2_jit_stack_free(work->stack);
	free(work);
}

int pattern_work_create(struct pattern_work **out)
{
	struct pattern_work *work = calloc(1, sizeof(*work));

	if (!work)
		return fail(-ENOMEM, "no memory for searching");
	work->since_processor_ns = -1;
	work->searches = 1;
	work->limit_ns = WATCH_LIMIT_NS;
	work->match = pcre2_match_data_create(1, NULL);
	work->context = pcre2_match_context_create(NULL);
	work->stack = pcre2_jit_stack_create(JIT_STACK_START, JIT_STACK_MAXIMUM,
					     NULL);
	if (!work->match || !work->context) {
		pattern_work_destroy(work);
		return fail(-ENOMEM, "no memory for searching");
	}
	if (work->stack)
		pcre2_jit_stack_assign(work->context, NULL, work->stack);
	pcre2_set_heap_limit(work->context, HEAP_KIBIBYTES);
	pcre2_set_match_limit(work->context, MATCH_LIMIT);
	work->ends = pcre2_get_ovector_pointer(work->match);
	*out = work;
	return 0;
}

void pattern_work_limit(struct pattern_work *work, int64_t limit_ns)
{
	work->limit_ns = limit_ns;
}

/* ---- the watch ---- */

static int64_t processor_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/*
 * Ends a stretch of searches. The wall clock, which is cheap, says whether it
 * may have been slow; the processor's time, which a busy or a stopped machine
 * does not add to, decides from the next stretch on.
 */
static int watch_stretch(struct pattern_work *work)
{
	int64_t now = clock_now_ns(), allowed, spent;

	allowed = WATCH_NS + WATCH_NS_PER_BYTE * (int64_t)work->bytes;
	if (work->since_processor_ns >= 0) {
		spent = processor_ns() - work->since_processor_ns;
		if (spent > allowed)
			work->slow_ns += spent;
	}
	if (now - work->since_ns > allowed && work->since_ns)
		work->since_processor_ns = processor_ns();
	else
		work->since_processor_ns = -1;
	/* One that is slow already is looked at each time. */
	work->searches = work->since_processor_ns < 0 ? WATCH_SEARCHES : 1;
	work->since_ns = now;
	work->bytes = 0;
	if (work->slow_ns > work->limit_ns)
		return fail(-EINVAL,
			    "an expression of the tokenizer takes too long on "
			    "this text (under 0.1 MB/s for %lld s)",
			    (long long)(work->limit_ns / 1000000000));
	return 0;
}

static inline int watch(struct pattern_work *work, size_t bytes)
{
	work->bytes += bytes;
	/* A search that went far may have taken long. */
	if (--work->searches && bytes < PLACES_LEAST)
		return 0;
	return watch_stretch(work);
}

/* ---- searching ---- */

static int search_failed(int code, size_t start)
{
	PCRE2_UCHAR reason[256];

	pcre2_get_error_message(code, reason, sizeof(reason));
	return fail(-EINVAL,
		    "searching text with an expression of the "
		    "tokenizer: %s, at byte %zu of the stretch",
		    (const char *)reason, start);
}

/*
 * The interpreter, whose memory is the heap: slower, but it goes further. Tries
 * one place only, and is looked at each time.
 */
static int interpret(const struct pattern_scan *scan, size_t start,
		     uint32_t options)
{
	/* Backtracking over one long run counts for each character. */
	uint64_t limit = MATCH_LIMIT + 16 * (uint64_t)(scan->length - start);
	pcre2_match_context *context = scan->work->context;
	int code;

	pcre2_set_match_limit(context, (uint32_t)MIN(limit, UINT32_MAX));
	scan->work->place = scan->work->limit = start;
	pcre2_set_offset_limit(context, start);
	scan->work->searches = 1;
	code = pcre2_match(scan->pattern->code, (PCRE2_SPTR)scan->text,
			   scan->length, start,
			   options | PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
			   scan->work->match, context);
	pcre2_set_match_limit(context, MATCH_LIMIT);
	return code;
}

/*
 * One call, which tries the next places up to work->limit. The machine code
 * runs on a stack of bounded size; where that is too small the interpreter
 * takes over.
 */
static inline int search_some(const struct pattern_scan *scan, size_t start,
			      uint32_t options)
{
	struct pattern_work *work = scan->work;
	int code = PCRE2_ERROR_JIT_STACKLIMIT;

	if (start < work->place || start + PLACES_LEAST > work->limit) {
		work->place = start;
		work->limit = start + PLACES_MOST;
		pcre2_set_offset_limit(work->context, work->limit);
	}
	if (scan->pattern->compiled)
		code = pcre2_jit_match(scan->pattern->code,
				       (PCRE2_SPTR)scan->text, scan->length,
				       start, options, work->match,
				       work->context);
	if (code == PCRE2_ERROR_JIT_STACKLIMIT ||
	    code == PCRE2_ERROR_MATCHLIMIT)
		code = interpret(scan, start, options);
	return code;
}

static int find_expression(struct pattern_scan *scan)
{
	struct pattern_work *work = scan->work;
	uint32_t options = scan->partial ? PCRE2_PARTIAL_HARD : 0;
	size_t start = scan->start;
	int code, err;

	while ((code = search_some(scan, start, options)) ==
	       PCRE2_ERROR_NOMATCH) {
		size_t tried = work->limit;

		if (scan->length <= tried) {
			scan->from = scan->length;
			return watch(work, scan->length - start);
		}
		err = watch(work, tried - start);
		if (err)
			return err;
		/* The limit itself was tried. */
		for (start = tried + 1; start < scan->length; start++) {
			if (((unsigned char)scan->text[start] & 0xC0) != 0x80)
				break;
		}
	}
	if (code < 0 && code != PCRE2_ERROR_PARTIAL)
		return search_failed(code, start);
	scan->from = work->ends[0];
	scan->to = work->ends[1];
	err = watch(work, scan->to > start ? scan->to - start : 0);
	return err ? err : code >= 0;
}

static int find_string(struct pattern_scan *scan)
{
	const struct pattern *pattern = scan->pattern;
	const char *text = scan->text, *end = text + scan->length;
	const char *at = memmem(text + scan->start, scan->length - scan->start,
				pattern->string, pattern->length);
	size_t tail = MIN(pattern->length - 1, scan->length - scan->start);

	if (at) {
		scan->from = (size_t)(at - text);
		scan->to = scan->from + pattern->length;
		return 1;
	}
	while (tail && (!scan->partial ||
			memcmp(end - tail, pattern->string, tail) != 0))
		tail--;
	scan->from = scan->length - tail;
	return 0;
}

static int find_character(struct pattern_scan *scan)
{
	const struct pattern *pattern = scan->pattern;
	size_t at = scan->start, bytes;

	for (; at < scan->length; at += bytes) {
		if (pattern->class(utf8_get(scan->text + at, &bytes))) {
			scan->from = at;
			scan->to = at + bytes;
			return 1;
		}
	}
	scan->from = at;
	return 0;
}

static int find_start(struct pattern_scan *scan)
{
	const char *mark = scan->pattern->string, *text = scan->text;
	size_t bytes = scan->pattern->length;
	const char *at = text + scan->start, *end = text + scan->length;

	while ((at = memmem(at, (size_t)(end - at), mark, bytes))) {
		size_t place = (size_t)(at - text);

		if (place &&
		    (place < bytes || memcmp(at - bytes, mark, bytes) != 0)) {
			scan->from = scan->to = place;
			return 1;
		}
		at += bytes;
	}
	scan->from = scan->length;
	return 0;
}

/* As pattern_next(), but empty matches are matches like others. */
static inline int find(struct pattern_scan *scan)
{
	switch (scan->pattern->kind) {
	case PATTERN_EXPRESSION:
		return find_expression(scan);
	case PATTERN_STRING:
		return find_string(scan);
	case PATTERN_CHARACTER:
		return find_character(scan);
	case PATTERN_START:
		return find_start(scan);
	case PATTERN_NOTHING:
		break;
	}
	scan->from = scan->length;
	return 0;
}

int pattern_next(struct pattern_scan *scan)
{
	int found;

	while (scan->start <= scan->length) {
		size_t last = scan->last;

		found = find(scan);
		if (found <= 0)
			return found;
		scan->start = scan->last = scan->to;
		if (scan->from != scan->to)
			return 1;
		scan->start +=
			scan->to < scan->length
				? utf8_bytes(
					  (unsigned char)scan->text[scan->to])
				: 1;
		if (scan->to != last)
			return 1;
	}
	scan->from = scan->length;
	return 0;
}

size_t pattern_bytes_behind(const struct pattern *pattern, const char *text,
			    size_t position)
{
	uint32_t characters = MAX(pattern->lookbehind, 1u);
	size_t start = position;

	while (start && characters--)
		start = utf8_previous(text, start);
	return position - start;
}
