/*
 * Which token comes next, from the logits of the last one.
 */
#ifndef STAGECOACH_ENGINE_CHOICE_H
#define STAGECOACH_ENGINE_CHOICE_H

#include "base/compiler.h"

struct choice; /* what was asked for, and how many tokens were drawn */

/*
 * temperature 0: always the likeliest, the first of equals. Else a token is
 * drawn with probability softmax(logits / temperature) among the top_k
 * likeliest (0: among all); equal seeds draw alike. -ENOMEM, logged.
 */
int choice_create(double temperature, unsigned top_k, uint64_t seed,
		  size_t vocab_size, struct choice **out) MUST_CHECK;
void choice_destroy(struct choice *choice); /* NULL is legal */

/* A pipeline_choose_fn: `choice` is a struct choice. */
int32_t choice_next(void *choice, const float *logits, size_t vocab_size);

#endif
