#include "data/requests_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/files.h"
#include "base/log.h"

#define PUSH_BYTES ((size_t)1 << 20)
/* Lengths of passes are multiples of the longest one's 32nd, and of this. */
#define STEP_TOKENS_MIN 8
#define STEPS_WANTED    32

int requests_check_tokens(const struct requests *requests, size_t first,
			  uint64_t line)
{
	size_t vocab_size = requests->config.vocab_size;
	char place[40] = "";

	if (line)
		snprintf(place, sizeof(place), " line %" PRIu64 ":", line);
	for (size_t i = first; i < requests->tokens.count; i++) {
		int32_t id = requests->tokens.ids[i];

		if (id < 0 || (size_t)id >= vocab_size)
			return fail(
				-EINVAL,
				"%s:%s token %d of the tokenizer is not in the model's vocabulary of %zu: give the model's own tokenizer",
				requests->origin, place, id, vocab_size);
	}
	return 0;
}

/* ---- windows of a text ---- */

/*
 * The tokens of the text, in which the first one (the begin token, if there is
 * one) is only given. n are to be scored.
 */
static size_t to_score(const struct requests *r)
{
	return r->tokens.count - 1;
}

/* What the first window scores. */
static size_t first_window(const struct requests *r)
{
	size_t reads = r->config.context;

	/* Its last token is not read there, but counts in its length. */
	if (r->config.windows == REQUESTS_SLIDING)
		reads--;
	return MIN(reads, to_score(r));
}

/*
 * A sliding window that shares nothing with the one before has no token to
 * predict its first one from.
 */
static bool loses_first(const struct requests *r)
{
	return r->config.windows == REQUESTS_SLIDING &&
	       r->config.stride == r->config.context;
}

static struct requests_item text_window(const struct requests *r, size_t number)
{
	size_t first = first_window(r), context = r->config.context;
	const int32_t *tokens = r->tokens.ids;
	size_t begin = 0, scored = 1, end = first + 1;

	if (number > 0) {
		size_t stride = r->config.stride;

		scored = first + (number - 1) * stride + 1;
		end = MIN(scored + stride, r->tokens.count);
		begin = r->config.windows == REQUESTS_SLIDING
				? number * stride
				: end - 1 - context;
		if (loses_first(r))
			scored++;
	}
	return (struct requests_item){
		.given = tokens + begin,
		.given_count = scored - begin,
		.scored = tokens + scored,
		.scored_count = end - scored,
	};
}

static size_t count_windows(const struct requests *r)
{
	size_t left = to_score(r) - first_window(r);
	size_t stride = r->config.stride, count = 1;

	count += (left + stride - 1) / stride;
	/* A last window of one token, which nothing predicts. */
	if (loses_first(r) && left % stride == 1)
		count--;
	return count;
}

static int encode_text(struct requests *r, const char *text, size_t length)
{
	size_t done = 0;
	int rc = 0;

	while (!rc && done < length) {
		size_t bytes = MIN(length - done, PUSH_BYTES);

		rc = tokenizer_encoder_push(r->encoder, text + done, bytes,
					    done + bytes == length, &r->tokens);
		done += bytes;
	}
	if (rc == -EILSEQ)
		fail(rc, "%s: not UTF-8 at byte %" PRIu64, r->origin,
		     tokenizer_encoder_offset(r->encoder));
	return rc;
}

static int parse_text(struct requests *r, const char *text, size_t length)
{
	int rc = 0;

	if (r->config.windows == REQUESTS_ROLLING && r->config.begin >= 0)
		rc = token_buffer_append(&r->tokens, &r->config.begin, 1);
	if (!rc)
		rc = encode_text(r, text, length);
	if (!rc)
		rc = requests_check_tokens(r, 0, 0);
	if (rc)
		return rc;
	if (r->tokens.count < 2)
		return fail(
			-EINVAL,
			"%s: the text has %zu tokens; to score one takes one before it",
			r->origin, r->tokens.count);
	r->count = count_windows(r);
	return 0;
}

/* ---- both kinds ---- */

static int check_config(const struct requests_config *config)
{
	size_t least = config->windows == REQUESTS_SLIDING ? 2 : 1;

	if (config->kind != REQUESTS_TEXT)
		return 0;
	if (config->context < least)
		return fail(-EINVAL, "a window of %zu tokens scores none",
			    config->context);
	if (config->stride == 0 || config->stride > config->context)
		return fail(
			-EINVAL,
			"a stride of %zu: windows of %zu tokens take 1 to %zu",
			config->stride, config->context, config->context);
	return 0;
}

/* As the library reads text; sliding, with what it puts around one, too. */
static unsigned encoder_flags(const struct requests_config *config)
{
	bool slides = config->kind == REQUESTS_TEXT &&
		      config->windows == REQUESTS_SLIDING;

	return TOKENIZER_SPECIAL | (slides ? TOKENIZER_TEMPLATE : 0);
}

int requests_parse(const struct requests_config *config, const char *text,
		   size_t length, const char *origin, struct requests **out)
{
	int rc = check_config(config);
	struct requests *r;

	if (rc)
		return rc;
	r = calloc(1, sizeof(*r));
	if (!r)
		return fail(-ENOMEM, "%s: no memory", origin);
	r->config = *config;
	r->origin = origin;
	r->bytes = length;
	rc = tokenizer_encoder_create(config->tokenizer, encoder_flags(config),
				      &r->encoder);
	if (!rc)
		rc = config->kind == REQUESTS_TEXT
			     ? parse_text(r, text, length)
			     : requests_parse_choices(r, text, length);
	tokenizer_encoder_destroy(r->encoder);
	r->encoder = NULL;
	r->origin = NULL;
	r->config.tokenizer = NULL;
	r->config.delimiter = NULL;
	if (rc)
		requests_destroy(r);
	else
		*out = r;
	return rc;
}

int requests_open(const struct requests_config *config, const char *path,
		  struct requests **out)
{
	struct files_mapping mapping;
	int rc = files_map(path, &mapping);

	if (rc)
		return rc;
	rc = requests_parse(config, (const char *)mapping.data, mapping.length,
			    path, out);
	files_unmap(&mapping);
	return rc;
}

void requests_destroy(struct requests *r)
{
	if (!r)
		return;
	token_buffer_fini(&r->tokens);
	free(r->questions);
	free(r->choices);
	free(r->order);
	free(r);
}

size_t requests_count(const struct requests *r)
{
	return r->count;
}

size_t requests_number(const struct requests *r, size_t place)
{
	return r->order ? r->order[place] : place;
}

struct requests_item requests_by_number(const struct requests *r, size_t number)
{
	return r->config.kind == REQUESTS_TEXT ? text_window(r, number)
					       : requests_choice(r, number);
}

struct requests_item requests_get(const struct requests *r, size_t place)
{
	return requests_by_number(r, requests_number(r, place));
}

size_t requests_item_length(const struct requests_item *request)
{
	return request->given_count + request->scored_count - 1;
}

void requests_item_fill(const struct requests_item *request, size_t time,
			int32_t *tokens, int32_t *labels)
{
	size_t given = request->given_count, scored = request->scored_count;

	ASSERT(requests_item_length(request) <= time);
	for (size_t i = 0; i < time; i++) {
		bool reads_scored = i >= given && i + 1 < given + scored;
		bool predicts = i + 1 >= given && i + 1 < given + scored;

		tokens[i] = i < given      ? request->given[i]
			    : reads_scored ? request->scored[i - given]
					   : 0;
		labels[i] = predicts ? request->scored[i + 1 - given] : -1;
	}
}

uint64_t requests_scored_tokens(const struct requests *r)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < r->count; i++)
		sum += requests_get(r, i).scored_count;
	return sum;
}

uint64_t requests_text_bytes(const struct requests *r)
{
	return r->bytes;
}

uint64_t requests_shortened(const struct requests *r)
{
	return r->shortened;
}

size_t requests_question_count(const struct requests *r)
{
	return r->question_count;
}

struct requests_question requests_question_get(const struct requests *r,
					       size_t i)
{
	return r->questions[i].question;
}

size_t requests_choice_bytes(const struct requests *r, size_t number)
{
	return r->choices[number].bytes;
}

/* ---- passes ---- */

static size_t longest_of(const struct requests *r, size_t first, size_t end)
{
	size_t longest = 0;

	for (size_t i = first; i < MIN(end, r->count); i++) {
		struct requests_item request = requests_get(r, i);

		longest = MAX(longest, requests_item_length(&request));
	}
	return longest;
}

unsigned requests_plan(const struct requests *r, size_t capacity,
		       struct requests_run runs[REQUESTS_RUNS_MAX])
{
	size_t longest = longest_of(r, 0, r->count);
	size_t step = MAX((longest + STEPS_WANTED - 1) / STEPS_WANTED,
			  (size_t)STEP_TOKENS_MIN);
	unsigned count = 0;

	for (size_t first = 0; first < r->count; first += capacity) {
		size_t time = longest_of(r, first, first + capacity);

		time = MIN((time + step - 1) / step * step, longest);
		if (count && runs[count - 1].time == time) {
			runs[count - 1].passes++;
			continue;
		}
		/* Lengths descend, but for a text's first and last. */
		ASSERT(count < REQUESTS_RUNS_MAX);
		runs[count++] = (struct requests_run){.time = (unsigned)time,
						      .passes = 1};
	}
	return count;
}
