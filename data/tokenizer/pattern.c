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
/* One call tries no more places than this; the next goes on. */
#define PLACES_PER_CALL 64

/* Searches between two looks at the clock. */
#define WATCH_SEARCHES 16
/* Such a stretch is slow if it takes more than this and this per byte. */
#define WATCH_NS          1000000
#define WATCH_NS_PER_BYTE 10000
/* Processor time that slow stretches may take, in all. */
#define WATCH_LIMIT_NS 20000000000

struct pattern_work {
	pcre2_match_data *match;
	pcre2_match_context *context;
	pcre2_jit_stack *stack;
	/* The watch. */
	unsigned searches;
	size_t bytes;
	int64_t since_ns;
	int64_t since_processor_ns; /* < 0: not looked at */
	int64_t slow_ns;
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
	/* ^ and $ are the ends of lines in Ruby's syntax. */
	uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE |
			   PCRE2_NEVER_BACKSLASH_C | PCRE2_USE_OFFSET_LIMIT;
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
	*out = work;
	return 0;
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
	work->since_ns = now;
	work->searches = 0;
	work->bytes = 0;
	if (work->slow_ns > WATCH_LIMIT_NS)
		return fail(-EINVAL,
			    "an expression of the tokenizer takes too long on "
			    "this text (under 0.1 MB/s for %lld s)",
			    (long long)(WATCH_LIMIT_NS / 1000000000));
	return 0;
}

static int watch(struct pattern_work *work, size_t bytes)
{
	work->bytes += bytes;
	/* One that is slow already is looked at each time. */
	if (++work->searches < WATCH_SEARCHES && work->since_processor_ns < 0)
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
 * One call, which tries the next PLACES_PER_CALL places. The machine code runs
 * on a stack of bounded size; where that is too small the interpreter, whose
 * memory is the heap, takes over.
 */
static int search_some(const struct pattern *pattern, struct pattern_work *work,
		       const char *text, size_t length, size_t start,
		       uint32_t options)
{
	int code = PCRE2_ERROR_JIT_STACKLIMIT;

	pcre2_set_offset_limit(work->context, start + PLACES_PER_CALL);
	if (pattern->compiled) {
		pcre2_set_match_limit(work->context, 1000000);
		code = pcre2_jit_match(pattern->code, (PCRE2_SPTR)text, length,
				       start, options, work->match,
				       work->context);
	}
	if (code == PCRE2_ERROR_JIT_STACKLIMIT ||
	    code == PCRE2_ERROR_MATCHLIMIT) {
		/* Backtracking over one long run counts for each character. */
		uint64_t limit = 1000000 + 16 * (uint64_t)(length - start);

		pcre2_set_match_limit(work->context,
				      (uint32_t)MIN(limit, UINT32_MAX));
		code = pcre2_match(pattern->code, (PCRE2_SPTR)text, length,
				   start,
				   options | PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
				   work->match, work->context);
	}
	return code;
}

static int find_expression(const struct pattern *pattern,
			   struct pattern_work *work, const char *text,
			   size_t length, size_t start, bool partial,
			   size_t *from, size_t *to, enum pattern_found *found)
{
	const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(work->match);
	uint32_t options = partial ? PCRE2_PARTIAL_HARD : 0;
	size_t first = start;
	int code, err;

	for (;;) {
		code = search_some(pattern, work, text, length, first, options);
		if (code != PCRE2_ERROR_NOMATCH)
			break;
		if (length - first <= PLACES_PER_CALL) {
			*from = length;
			*found = PATTERN_ABSENT;
			return watch(work, length - start);
		}
		err = watch(work, PLACES_PER_CALL);
		if (err)
			return err;
		/* The limit itself was tried. */
		first += PLACES_PER_CALL + 1;
		while (first < length &&
		       ((unsigned char)text[first] & 0xC0) == 0x80)
			first++;
	}
	if (code < 0 && code != PCRE2_ERROR_PARTIAL)
		return search_failed(code, first);
	*from = ends[0];
	*to = ends[1];
	*found = code < 0 ? PATTERN_ABSENT : PATTERN_FOUND;
	return watch(work, ends[1] > start ? ends[1] - start : 0);
}

static void find_string(const struct pattern *pattern, const char *text,
			size_t length, size_t start, bool partial, size_t *from,
			size_t *to, enum pattern_found *found)
{
	const char *at = memmem(text + start, length - start, pattern->string,
				pattern->length);

	*found = at ? PATTERN_FOUND : PATTERN_ABSENT;
	if (at) {
		*from = (size_t)(at - text);
		*to = *from + pattern->length;
		return;
	}
	*from = length;
	if (partial) {
		size_t tail = MIN(pattern->length - 1, length - start);

		while (tail &&
		       memcmp(text + length - tail, pattern->string, tail) != 0)
			tail--;
		*from = length - tail;
	}
}

static void find_character(const struct pattern *pattern, const char *text,
			   size_t length, size_t start, size_t *from,
			   size_t *to, enum pattern_found *found)
{
	size_t bytes;

	*found = PATTERN_ABSENT;
	for (; start < length; start += bytes) {
		if (pattern->class(utf8_get(text + start, &bytes))) {
			*found = PATTERN_FOUND;
			*to = start + bytes;
			break;
		}
	}
	*from = start;
}

static void find_start(const struct pattern *pattern, const char *text,
		       size_t length, size_t start, size_t *from, size_t *to,
		       enum pattern_found *found)
{
	size_t bytes = pattern->length;
	const char *at = text + start, *end = text + length;

	*found = PATTERN_FOUND;
	while ((at = memmem(at, (size_t)(end - at), pattern->string, bytes))) {
		*from = *to = (size_t)(at - text);
		if (*from && (*from < bytes ||
			      memcmp(at - bytes, pattern->string, bytes) != 0))
			return;
		at += bytes;
	}
	*found = PATTERN_ABSENT;
	*from = length;
}

int pattern_find(const struct pattern *pattern, struct pattern_work *work,
		 const char *text, size_t length, size_t start, bool partial,
		 size_t *from, size_t *to, enum pattern_found *found)
{
	switch (pattern->kind) {
	case PATTERN_EXPRESSION:
		return find_expression(pattern, work, text, length, start,
				       partial, from, to, found);
	case PATTERN_STRING:
		find_string(pattern, text, length, start, partial, from, to,
			    found);
		return 0;
	case PATTERN_CHARACTER:
		find_character(pattern, text, length, start, from, to, found);
		return 0;
	case PATTERN_START:
		find_start(pattern, text, length, start, from, to, found);
		return 0;
	case PATTERN_NOTHING:
		break;
	}
	*from = length;
	*found = PATTERN_ABSENT;
	return 0;
}

int pattern_next(const struct pattern *pattern, struct pattern_work *work,
		 struct pattern_scan *scan, const char *text, size_t length,
		 bool partial, size_t *from, size_t *to,
		 enum pattern_found *found)
{
	bool again;
	int err;

	do {
		if (scan->start > length) {
			*from = length;
			*found = PATTERN_ABSENT;
			return 0;
		}
		err = pattern_find(pattern, work, text, length, scan->start,
				   partial, from, to, found);
		if (err || *found != PATTERN_FOUND)
			return err;
		again = *from == *to && *to == scan->last;
		scan->start = scan->last = *to;
		if (*from == *to)
			scan->start +=
				*to < length
					? utf8_bytes((unsigned char)text[*to])
					: 1;
	} while (again);
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
