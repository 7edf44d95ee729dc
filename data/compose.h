/*
 * Unicode normalization form C of a stream of text (UAX #15), on utf8proc's
 * tables.
 */
#ifndef STAGECOACH_DATA_COMPOSE_H
#define STAGECOACH_DATA_COMPOSE_H

#include "base/compiler.h"
#include "data/utf8.h"

struct compose {
	utf8_text_fn *sink;
	void *argument;
	struct byte_buffer held; /* from the last place nothing crosses */
	size_t retry_at;
};

void compose_init(struct compose *compose, utf8_text_fn *sink, void *argument);
void compose_fini(struct compose *compose);
void compose_reset(struct compose *compose);
int compose_push(void *compose, const char *text, size_t length,
		 bool end) MUST_CHECK; /* utf8_text_fn */

#endif
