/*
 * Strings: strict number parsing, readable quantities, a bounded builder, and
 * the nearest name to a mistyped one.
 */
#ifndef STAGECOACH_BASE_TEXT_H
#define STAGECOACH_BASE_TEXT_H

#include "base/compiler.h"

/*
 * The whole string must be a number; -EINVAL if it is not, -ERANGE outside
 * [minimum, maximum]. Silent: the caller knows which option to name.
 * text_parse_bytes accepts suffixes K M G T (powers of 1024).
 */
int text_parse_integer(const char *text, int64_t minimum, int64_t maximum,
		       int64_t *out) MUST_CHECK;
int text_parse_real(const char *text, double minimum, double maximum,
		    double *out) MUST_CHECK; /* NaN and infinity: -EINVAL */
int text_parse_bytes(const char *text, uint64_t *out) MUST_CHECK;

/*
 * "5,4,3" -> {5,4,3}; at most `capacity` items, each in [minimum, maximum];
 * *count written on success.
 */
int text_parse_list(const char *text, int64_t minimum, int64_t maximum,
		    int64_t *out, size_t capacity, size_t *count) MUST_CHECK;

/* "1.5 GiB", "3 m 12 s", "124,439,808"; always terminated. Returns buffer. */
char *text_bytes(char *buffer, size_t size, uint64_t bytes);
char *text_duration(char *buffer, size_t size, double seconds);
char *text_grouped(char *buffer, size_t size, uint64_t number);

/* Edit distance, capped at `limit` (returns limit when it is reached). */
unsigned text_distance(const char *a, const char *b, unsigned limit);

/*
 * The candidate nearest to `name` if it is near enough to suggest (distance
 * at most 2, or a third of the length), else NULL.
 */
const char *text_nearest(const char *name, const char *const *candidates,
			 size_t count);

/* Valid UTF-8? *bad is the offset of the first byte that is not. */
bool text_is_utf8(const void *bytes, size_t length, size_t *bad);

/*
 * A growing string. Append never fails visibly: `failed` is set when memory
 * ran out, and text_builder_finish() then returns NULL. Finish hands the
 * heap string to the caller (free()).
 */
struct text_builder {
	char *data;
	size_t length;
	size_t capacity;
	bool failed;
};
void text_builder_init(struct text_builder *builder);
void text_builder_append(struct text_builder *builder, const char *format, ...)
	PRINTF_LIKE(2, 3);
void text_builder_append_bytes(struct text_builder *builder, const void *bytes,
			       size_t length);
char *text_builder_finish(struct text_builder *builder);
void text_builder_fini(struct text_builder *builder);

/* Bounded copy, always terminated; -ENAMETOOLONG (silent) when cut. */
int text_copy(char *out, size_t size, const char *text);

#endif
