/*
 * The JSON facade over jansson: typed look-ups whose errors name file, key and
 * what was expected; numbers are locale-free. Values are `json_t`
 * (jansson's reference counting applies: these functions return borrowed
 * references unless they say otherwise).
 */
#ifndef STAGECOACH_BASE_JSON_H
#define STAGECOACH_BASE_JSON_H

#include "base/compiler.h"
#include <jansson.h>

/*
 * Parses a file of at most `limit` bytes (the caller decrefs *out). Duplicate
 * keys are refused. -EINVAL names file, line, column. A value of three bytes
 * ("[],") can take a hundred of memory: what would take more than
 * json_memory_limit() of the text is refused, too.
 */
int json_read(const char *path, size_t limit, json_t **out) MUST_CHECK;
int json_parse(const char *text, size_t length, const char *origin,
	       json_t **out) MUST_CHECK;

/* The text's length and 32 MiB: no file in use comes near it. */
size_t json_memory_limit(size_t length);

/* The same, of a text that is handed over in pieces: the next one, its length
 * in *length; NULL at the end. And with a limit of its own. */
typedef const char *json_piece_fn(void *argument, size_t *length);
int json_parse_pieces(json_piece_fn *next, void *argument, size_t memory_limit,
		      const char *origin, json_t **out) MUST_CHECK;
int json_parse_limited(const char *text, size_t length, size_t memory_limit,
		       const char *origin, json_t **out) MUST_CHECK;

/*
 * One value, of which there may be more behind it: *used bytes of the text are
 * its own, white space before it included.
 */
int json_parse_next(const char *text, size_t length, size_t memory_limit,
		    const char *origin, json_t **out, size_t *used) MUST_CHECK;

/* Indented by 2, keys in insertion order, final newline; durable. */
int json_write(const char *path, const json_t *value) MUST_CHECK;

/*
 * Look-ups in `object`. `origin` names the file in messages. Absent or null
 * with a default: the _or forms; without: -EINVAL, logged. Wrong type or
 * outside the range: always -EINVAL, logged.
 */
int json_get_integer(const json_t *object, const char *key, int64_t minimum,
		     int64_t maximum, const char *origin,
		     int64_t *out) MUST_CHECK;
int json_get_integer_or(const json_t *object, const char *key, int64_t minimum,
			int64_t maximum, int64_t fallback, const char *origin,
			int64_t *out) MUST_CHECK;
int json_get_real(const json_t *object, const char *key, double minimum,
		  double maximum, const char *origin, double *out) MUST_CHECK;
int json_get_real_or(const json_t *object, const char *key, double minimum,
		     double maximum, double fallback, const char *origin,
		     double *out) MUST_CHECK;
int json_get_boolean_or(const json_t *object, const char *key, bool fallback,
			const char *origin, bool *out) MUST_CHECK;
int json_get_string(const json_t *object, const char *key, const char *origin,
		    const char **out) MUST_CHECK;
int json_get_string_or(const json_t *object, const char *key,
		       const char *fallback, const char *origin,
		       const char **out) MUST_CHECK;
int json_get_array(const json_t *object, const char *key, const char *origin,
		   json_t **out) MUST_CHECK;
int json_get_object(const json_t *object, const char *key, const char *origin,
		    json_t **out) MUST_CHECK;

#endif
