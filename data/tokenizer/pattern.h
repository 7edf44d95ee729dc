/*
 * What text is split or changed at: a regular expression, a string, or a
 * class of characters.
 *
 * Expressions are written for Oniguruma's Ruby syntax, which the Hugging Face
 * library uses, and run on PCRE2 with Unicode properties, compiled to
 * machine code where the system allows. Where the two mean different things
 * by the same text, the expression is written anew for PCRE2, or refused.
 *
 * A file chooses its expressions, so they are not trusted: memory, backtracking
 * and time are bounded, and a search that goes beyond fails.
 */
#ifndef STAGECOACH_DATA_TOKENIZER_PATTERN_H
#define STAGECOACH_DATA_TOKENIZER_PATTERN_H

#include "base/compiler.h"
#include "data/utf8.h"

enum pattern_kind {
	PATTERN_NOTHING, /* is found nowhere */
	PATTERN_EXPRESSION,
	PATTERN_STRING,
	PATTERN_CHARACTER, /* one character of a class */
	/* The place before a string that does not follow the same string. */
	PATTERN_START,
};

typedef bool pattern_class_fn(uint32_t character);

/* {0} finds nothing. Immutable once made. */
struct pattern {
	enum pattern_kind kind;
	void *code;          /* pcre2_code */
	void *careful;       /* the same, which can be stopped */
	bool compiled;       /* both to machine code */
	uint32_t lookbehind; /* characters */
	char *string;
	size_t length;
	pattern_class_fn *class;
};

/* `origin` names the file in messages. -EINVAL: says what is wrong. */
int pattern_expression(struct pattern *pattern, const char *expression,
		       const char *origin) MUST_CHECK;
/* string must not be empty. */
int pattern_string(struct pattern *pattern, enum pattern_kind kind,
		   const char *string) MUST_CHECK;
void pattern_class(struct pattern *pattern, pattern_class_fn *class);
void pattern_fini(struct pattern *pattern);

/*
 * Oniguruma's syntax to PCRE2's. -EINVAL, logged: uses something that has no
 * equal there.
 */
int pattern_translate(const char *expression, const char *origin,
		      struct byte_buffer *out) MUST_CHECK;

/* One caller's memory for searching, with any number of patterns. */
struct pattern_work;
int pattern_work_create(struct pattern_work **out) MUST_CHECK;
void pattern_work_destroy(struct pattern_work *work);
/* The processor time that searches under 0.1 MB/s may take before they fail. */
void pattern_work_limit(struct pattern_work *work, int64_t limit_ns);

/* A search for one match after the other. */
struct pattern_scan {
	const struct pattern *pattern;
	struct pattern_work *work;
	const char *text;
	size_t length;
	/*
	 * Where to look on, the begin of a character. Text before it is there
	 * for lookbehind.
	 */
	size_t start;
	size_t last;  /* where the last match ended, SIZE_MAX: none yet */
	bool partial; /* more text will follow */
	/* The match; or if there is none, where one may begin at the earliest. */
	size_t from, to;
};

/*
 * The next match: 1, or 0 if there is none, or negative. `partial`: what later
 * text could change does not count as found. There is no empty match right
 * behind a match, and after an empty one the search goes on a character
 * further.
 */
int pattern_next(struct pattern_scan *scan) MUST_CHECK;

/* Bytes before `position` that a search from there on may want to see. */
size_t pattern_bytes_behind(const struct pattern *pattern, const char *text,
			    size_t position);

#endif
