/* What data/requests.c and data/choices.c share. */
#ifndef STAGECOACH_DATA_REQUESTS_INTERNAL_H
#define STAGECOACH_DATA_REQUESTS_INTERNAL_H

#include "data/requests.h"
#include "data/tokenizer.h"

/* A choice's tokens; those of its prompt are the question's. */
struct choice {
	size_t tokens; /* where they begin in the buffer */
	uint32_t count;
	uint32_t bytes;
	uint32_t question;
};

struct asked {
	struct requests_question question;
	size_t prompt; /* where its tokens begin in the buffer */
	size_t prompt_count;
};

struct requests {
	struct requests_config config;     /* tokenizer: while reading */
	const char *origin;                /* while reading */
	struct tokenizer_encoder *encoder; /* while reading */
	size_t count;
	struct token_buffer tokens;
	uint64_t bytes;

	struct asked *questions; /* choices: */
	size_t question_count, question_capacity;
	struct choice *choices; /* [count] */
	size_t choice_capacity;
	uint32_t *order; /* [count] numbers by place */
	uint64_t shortened;
};

/* Reads a file of choices into an empty value. */
int requests_parse_choices(struct requests *requests, const char *text,
			   size_t length) MUST_CHECK;
/* By number. */
struct requests_item requests_choice(const struct requests *requests,
				     size_t number);

/* -EINVAL, logged, when the tokens from `first` on are not the model's. */
int requests_check_tokens(const struct requests *requests, size_t first,
			  uint64_t line) MUST_CHECK;

#endif
