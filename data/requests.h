/*
 * Requests: sequences of tokens some of which a model is to say the
 * probability of, given those before. `eval` asks them: of the windows of a
 * text for its perplexity, of the choices of questions for its accuracy.
 *
 * The windows of a text score each of its tokens once (requests_windows):
 *
 *   rolling   as lm-evaluation-harness (loglikelihood_rolling): the first
 *             token is predicted from a begin token; a window reads T tokens
 *             and scores those that are new, `stride` of them behind the first window;
 *             the last one reads further back.
 *   sliding   as transformers' documentation of perplexity: T tokens begin every
 *             `stride`; the first token of the text is not scored.
 *
 * A file of choices has a JSON object a line:
 *
 *   {"prompt": TEXT, "choices": [TEXT, ...], "answer": INDEX or TEXT}
 *
 * The boundary is cut as lm-evaluation-harness does: spaces at the end of the prompt
 * go over to the choice, whose tokens are those of both together behind as many as
 * the prompt has by itself. What is too long loses its beginning.
 */
#ifndef STAGECOACH_DATA_REQUESTS_H
#define STAGECOACH_DATA_REQUESTS_H

#include "base/compiler.h"

struct tokenizer;
struct requests;

enum requests_kind {
	REQUESTS_TEXT,
	REQUESTS_CHOICES,
};

enum requests_windows {
	REQUESTS_ROLLING,
	REQUESTS_SLIDING,
};

struct requests_config {
	enum requests_kind kind;
	const struct tokenizer *tokenizer;
	size_t vocab_size; /* of the model: ids are below */
	size_t context;    /* T: tokens that go in at once, at most */
	int32_t begin;     /* id the text begins with; -1: none */
	/* Text. */
	enum requests_windows windows;
	size_t stride; /* 1 .. T */
	/* Choices. */
	bool begin_prompts; /* `begin` before each prompt, not only empty ones */
	const char *
		delimiter; /* between prompt and choice; not counted in bytes */
};

/* Both parts have at least one token. */
struct requests_item {
	const int32_t *given;
	size_t given_count;
	const int32_t *scored;
	size_t scored_count;
};

/*
 * Reads a file, or what is in memory. -EINVAL, -EILSEQ, logged with file, line or
 * offset and reason. The configuration's tokenizer is needed no longer.
 */
int requests_open(const struct requests_config *config, const char *path,
		  struct requests **out) MUST_CHECK;
int requests_parse(const struct requests_config *config, const char *text,
		   size_t length, const char *origin,
		   struct requests **out) MUST_CHECK;
void requests_destroy(struct requests *requests);

/* Requests in the order in which they are best asked: the longest first. */
size_t requests_count(const struct requests *requests);
struct requests_item requests_get(const struct requests *requests,
				  size_t place);
/* The number of that request in the order of the file, and one by it. */
size_t requests_number(const struct requests *requests, size_t place);
struct requests_item requests_by_number(const struct requests *requests,
					size_t number);

/* Tokens that go in for a request: all but the last. */
size_t requests_item_length(const struct requests_item *request);
/* Tokens [time] and labels [time], -1 where nothing is scored. */
void requests_item_fill(const struct requests_item *request, size_t time,
			int32_t *tokens, int32_t *labels);

/* Of the whole text; bytes as in the file. */
uint64_t requests_scored_tokens(const struct requests *requests);
uint64_t requests_text_bytes(const struct requests *requests);

/* Prompts that lost their beginning. */
uint64_t requests_shortened(const struct requests *requests);

/*
 * Question i, whose choice c is request number first + c; bytes: of the choice's
 * text.
 */
struct requests_question {
	size_t first;
	unsigned choices;
	unsigned answer;
	uint64_t line; /* in the file, from 1 */
};
size_t requests_question_count(const struct requests *requests);
struct requests_question requests_question_get(const struct requests *requests,
					       size_t i);
size_t requests_choice_bytes(const struct requests *requests, size_t number);

/*
 * Passes of `capacity` requests each, in their order: how long those of a pass
 * are, in steps of a 32nd of the longest, so that there are few lengths. *runs holds
 * passes of the same length as one; returns how many runs there are.
 */
#define REQUESTS_RUNS_MAX 40
struct requests_run {
	unsigned time;
	uint64_t passes;
};
unsigned requests_plan(const struct requests *requests, size_t capacity,
		       struct requests_run runs[REQUESTS_RUNS_MAX]);

#endif
