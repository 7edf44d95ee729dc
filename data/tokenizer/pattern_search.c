/*
 * Searching with patterns. An expression is tried on a window of the text at
 * first, with little backtracking. A match that is longer, or takes more, is
 * searched for by a copy of the expression that calls back at each of its parts
 * and so can be stopped.
 */
#include "data/tokenizer/pattern.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#define JIT_STACK_START   ((size_t)32 << 10)
#define JIT_STACK_MAXIMUM ((size_t)16 << 20)
#define HEAP_KIBIBYTES    ((uint32_t)512 << 10)
/* One call tries so many places at least and at most; the next goes on. */
#define PLACES_LEAST 64
#define PLACES_MOST  256
/* The first try: so much text, so much backtracking at a place. */
#define WINDOW_BYTES ((size_t)4096)
#define WINDOW_LIMIT 20000

/* Searches between two looks at the clock. */
#define WATCH_SEARCHES 64
/* Such a stretch is slow if it takes more than this and this per byte. */
#define WATCH_NS          1000000
#define WATCH_NS_PER_BYTE 10000
/* A careful search may take a tenth of that limit, and this per byte. */
#define CAREFUL_NS_PER_BYTE 1000
#define CALLOUTS_PER_LOOK   256
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
	/* Of a careful search. */
	unsigned callouts;
	int64_t deadline_ns;
};

void pattern_work_destroy(struct pattern_work *work)
{
	if (!work)
		return;
	pcre2_match_data_free(work->match);
	pcre2_match_context_free(work->context);
	pcre2_jit_stack_free(work->stack);
	free(work);
}

static int64_t processor_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* PCRE2 calls this before each part of an expression compiled for it. */
static int on_callout(pcre2_callout_block *block, void *argument)
{
	struct pattern_work *work = argument;

	(void)block;
	if (++work->callouts % CALLOUTS_PER_LOOK ||
	    processor_ns() < work->deadline_ns)
		return 0;
	return PCRE2_ERROR_CALLOUT;
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
	pcre2_set_match_limit(work->context, WINDOW_LIMIT);
	pcre2_set_callout(work->context, on_callout, work);
	work->ends = pcre2_get_ovector_pointer(work->match);
	*out = work;
	return 0;
}

void pattern_work_limit(struct pattern_work *work, int64_t limit_ns)
{
	work->limit_ns = limit_ns;
}

/* ---- the watch ---- */

static int too_slow(void)
{
	return fail(-EINVAL, "an expression of the tokenizer takes too long on "
			     "this text");
}

static int check_slow(const struct pattern_work *work)
{
	return work->slow_ns > work->limit_ns ? too_slow() : 0;
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
	return check_slow(work);
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
 * One call, which tries the next places up to work->limit. The machine code
 * runs on a stack of bounded size; where that is too small the interpreter,
 * whose memory is the heap, takes over.
 */
static inline int call(struct pattern_scan *scan, const void *compiled,
		       size_t end, size_t start, bool partial)
{
	struct pattern_work *work = scan->work;
	uint32_t options = partial ? PCRE2_PARTIAL_HARD : 0;
	int code = PCRE2_ERROR_JIT_STACKLIMIT;

	if (start < work->place || start + PLACES_LEAST > work->limit) {
		work->place = start;
		work->limit = start + PLACES_MOST;
		pcre2_set_offset_limit(work->context, work->limit);
	}
	if (scan->pattern->compiled)
		code = pcre2_jit_match(compiled, (PCRE2_SPTR)scan->text, end,
				       start, options, work->match,
				       work->context);
	if (code == PCRE2_ERROR_JIT_STACKLIMIT)
		code = pcre2_match(compiled, (PCRE2_SPTR)scan->text, end, start,
				   options | PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
				   work->match, work->context);
	return code;
}

/*
 * A call on all the text, for a match that is longer than the window or takes
 * much backtracking: stopped when its time is over.
 */
static int call_careful(struct pattern_scan *scan, size_t start, int *code)
{
	struct pattern_work *work = scan->work;
	int64_t begin = processor_ns(), spent, allowed;
	size_t bytes = scan->length - start;

	work->deadline_ns = begin + work->limit_ns / 10 +
			    CAREFUL_NS_PER_BYTE * (int64_t)bytes;
	pcre2_set_match_limit(work->context, UINT32_MAX);
	*code = call(scan, scan->pattern->careful, scan->length, start,
		     scan->partial);
	pcre2_set_match_limit(work->context, WINDOW_LIMIT);
	if (*code == PCRE2_ERROR_CALLOUT)
		return too_slow();
	if (*code >= 0)
		bytes = work->ends[1] - MIN(start, work->ends[1]);
	else if (*code == PCRE2_ERROR_NOMATCH)
		bytes = MIN(work->limit, scan->length) - start;
	spent = processor_ns() - begin;
	allowed = WATCH_NS + WATCH_NS_PER_BYTE * (int64_t)bytes;
	if (spent > allowed)
		work->slow_ns += spent;
	return check_slow(work);
}

/* The end of the window, which a character is not cut by. */
static inline size_t window_end(const struct pattern_scan *scan, size_t start)
{
	size_t end = start + WINDOW_BYTES;

	if (scan->length <= end)
		return scan->length;
	while (((unsigned char)scan->text[end] & 0xC0) == 0x80)
		end--;
	return end;
}

/* Where to go on when the places up to the limit were tried in vain. */
static size_t after_places(const struct pattern_scan *scan, size_t end)
{
	size_t next = scan->work->limit + 1;

	/* At the end of a window more text can make a difference. */
	if (end < scan->length && next > end)
		return end;
	while (next < scan->length &&
	       ((unsigned char)scan->text[next] & 0xC0) == 0x80)
		next++;
	return next;
}

static int find_expression(struct pattern_scan *scan)
{
	struct pattern_work *work = scan->work;
	size_t start = scan->start, end, next;
	int code, err;

	for (;;) {
		end = window_end(scan, start);
		code = call(scan, scan->pattern->code, end, start,
			    scan->partial || end < scan->length);
		if ((code == PCRE2_ERROR_PARTIAL && end < scan->length) ||
		    code == PCRE2_ERROR_MATCHLIMIT) {
			if (code == PCRE2_ERROR_PARTIAL)
				start = work->ends[0];
			end = scan->length;
			err = call_careful(scan, start, &code);
			if (err)
				return err;
		}
		if (code != PCRE2_ERROR_NOMATCH)
			break;
		next = after_places(scan, end);
		err = watch(work, MIN(next, scan->length) - start);
		if (err)
			return err;
		if (next > scan->length) {
			scan->from = scan->length;
			return 0;
		}
		start = next;
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
