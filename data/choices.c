#include "data/requests_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"

/* A longer line would take many times its length as JSON. */
#define LINE_BYTES_MAX ((size_t)1 << 20)
/* Each is read behind its whole prompt. */
#define CHOICES_MAX 1024
/* What an index of 32 bits leaves room for, of questions and of choices. */
#define CHOICES_TOTAL_MAX ((size_t)UINT32_MAX - CHOICES_MAX)

/* ---- white space ---- */

struct range {
	uint32_t first, last;
};

/* What Python's str.rstrip() takes away (Unicode 14 and the separators). */
static const struct range spaces[] = {
	{0x09, 0x0d},     {0x1c, 0x20},     {0x85, 0x85},     {0xa0, 0xa0},
	{0x1680, 0x1680}, {0x2000, 0x200a}, {0x2028, 0x2029}, {0x202f, 0x202f},
	{0x205f, 0x205f}, {0x3000, 0x3000},
};

/* The character that ends at `end`, of sound UTF-8. */
static uint32_t last_character(const char *text, size_t end, size_t *begin)
{
	const unsigned char *bytes = (const unsigned char *)text;
	uint32_t code;
	size_t at = end - 1;

	while (at > 0 && (bytes[at] & 0xc0) == 0x80)
		at--;
	*begin = at;
	code = bytes[at];
	if (code >= 0x80)
		code &= end - at == 2 ? 0x1f : end - at == 3 ? 0x0f : 0x07;
	for (at++; at < end; at++)
		code = code << 6 | (bytes[at] & 0x3f);
	return code;
}

/* The length of the text without the white space at its end. */
static size_t stripped_length(const char *text, size_t length)
{
	while (length > 0) {
		size_t begin;
		uint32_t code = last_character(text, length, &begin);
		bool space = false;

		for (size_t i = 0; i < ARRAY_SIZE(spaces); i++)
			space |= code >= spaces[i].first &&
				 code <= spaces[i].last;
		if (!space)
			break;
		length = begin;
	}
	return length;
}

/* ---- a line ---- */

struct line {
	struct requests *requests;
	uint64_t number;
	struct asked asked;
	const char *prompt; /* all of it */
	size_t prompt_bytes;
	size_t prompt_tokens; /* of which the last T are kept */
	size_t kept;          /* bytes of the prompt that stay with it */
	bool shortened;       /* to make room for a choice */
	bool begun;           /* its tokens have the begin token before them */
};

#define fail_line(line, format, ...)                                           \
	fail(-EINVAL, "%s: line %" PRIu64 ": " format,                         \
	     (line)->requests->origin, (line)->number, ##__VA_ARGS__)

static int encode(const struct line *line, const char *text, size_t length)
{
	struct requests *r = line->requests;
	size_t before = r->tokens.count;
	int rc = tokenizer_encoder_push(r->encoder, text, length, true,
					&r->tokens);

	if (rc == -EILSEQ) /* not from a sound JSON text */
		return fail_line(line, "a text that is not UTF-8");
	return rc ? rc : requests_check_tokens(r, before, line->number);
}

/*
 * The prompt's tokens, behind the begin token where it is asked for or there is
 * nothing else to predict the first one from.
 */
static int encode_prompt(struct line *line)
{
	struct requests *r = line->requests;
	struct asked *asked = &line->asked;
	int rc = 0;

	line->kept = stripped_length(line->prompt, line->prompt_bytes);
	asked->prompt = r->tokens.count;
	line->begun = r->config.begin >= 0 &&
		      (r->config.begin_prompts || line->kept == 0);
	if (line->begun)
		rc = token_buffer_append(&r->tokens, &r->config.begin, 1);
	if (!rc)
		rc = encode(line, line->prompt, line->kept);
	if (rc)
		return rc;
	line->prompt_tokens = r->tokens.count - asked->prompt;
	asked->prompt_count = MIN(line->prompt_tokens, r->config.context);
	r->tokens.count = asked->prompt + asked->prompt_count;
	memmove(r->tokens.ids + asked->prompt,
		r->tokens.ids + asked->prompt +
			(line->prompt_tokens - asked->prompt_count),
		asked->prompt_count * sizeof(*r->tokens.ids));
	if (asked->prompt_count == 0)
		return fail_line(
			line,
			"'prompt' is empty, and the model has no token to begin with");
	return 0;
}

static int add_choice(struct requests *r, const struct choice *choice)
{
	if (r->count == r->choice_capacity) {
		size_t capacity = MAX(2 * r->choice_capacity, (size_t)64);
		struct choice *grown =
			reallocarray(r->choices, capacity, sizeof(*grown));

		if (!grown)
			return fail(-ENOMEM, "%s: no memory for %zu choices",
				    r->origin, capacity);
		r->choices = grown;
		r->choice_capacity = capacity;
	}
	r->choices[r->count++] = *choice;
	return 0;
}

/*
 * Tokens of prompt and choice together, behind as many as the prompt has. A
 * prompt of white space alone is none: all of it went over to the choice.
 */
static int encode_choice(struct line *line, unsigned i, const char *text,
			 size_t length)
{
	struct requests *r = line->requests;
	const char *delimiter = r->config.delimiter;
	size_t prompt = line->prompt_tokens - line->begun;
	size_t first = r->tokens.count, count;
	struct text_builder both;
	char *whole;
	int rc;

	text_builder_init(&both);
	text_builder_append_bytes(&both, line->prompt, line->prompt_bytes);
	if (delimiter)
		text_builder_append_bytes(&both, delimiter, strlen(delimiter));
	text_builder_append_bytes(&both, text, length);
	count = both.length;
	whole = text_builder_finish(&both);
	if (!whole)
		return fail(-ENOMEM, "%s: no memory for a choice", r->origin);
	rc = encode(line, whole, count);
	free(whole);
	if (rc)
		return rc;
	count = r->tokens.count - first;
	if (count <= prompt)
		return fail_line(
			line,
			"choice %u adds no token to the prompt, so it has no probability",
			i);
	count -= prompt;
	if (count > r->config.context)
		return fail_line(
			line,
			"choice %u has %zu tokens, the model has positions for %zu",
			i, count, r->config.context);
	memmove(r->tokens.ids + first, r->tokens.ids + first + prompt,
		count * sizeof(*r->tokens.ids));
	r->tokens.count = first + count;
	line->shortened |= line->prompt_tokens + count - 1 > r->config.context;
	return add_choice(r, &(struct choice){
				     .tokens = first,
				     .count = (uint32_t)count,
				     .bytes = (uint32_t)length,
				     .question = (uint32_t)r->question_count,
			     });
}

static int read_choices(struct line *line, const json_t *array)
{
	json_t *choices = (json_t *)(uintptr_t)array, *item;
	size_t i;
	int rc = 0;

	if (json_array_size(array) < 2)
		return fail_line(
			line, "'choices' has %zu texts; it takes two or more",
			json_array_size(array));
	if (json_array_size(array) > CHOICES_MAX)
		return fail_line(line,
				 "'choices' has %zu texts; it takes %d at most",
				 json_array_size(array), CHOICES_MAX);
	line->asked.question.first = line->requests->count;
	line->asked.question.choices = (unsigned)json_array_size(array);
	json_array_foreach(choices, i, item)
	{
		if (!json_is_string(item))
			return fail_line(line, "choice %zu is no text", i);
		if (!rc)
			rc = encode_choice(line, (unsigned)i,
					   json_string_value(item),
					   json_string_length(item));
	}
	return rc;
}

/* A choice's text, else a letter: A is the first. */
static int find_answer(const struct line *line, const json_t *choices,
		       const char *answer, unsigned *out)
{
	size_t count = json_array_size(choices), found = count;

	for (size_t i = 0; i < count; i++) {
		const char *text =
			json_string_value(json_array_get(choices, i));

		if (strcmp(text, answer) != 0)
			continue;
		if (found < count)
			return fail_line(
				line,
				"'answer' is choice %zu as well as %zu: give its index",
				found, i);
		found = i;
	}
	if (found == count && answer[0] >= 'A' && answer[0] <= 'Z' &&
	    !answer[1])
		found = (size_t)(answer[0] - 'A');
	if (found >= count)
		return fail_line(line, "'answer' is none of the %zu choices",
				 count);
	*out = (unsigned)found;
	return 0;
}

static int read_answer(struct line *line, const json_t *object,
		       const json_t *choices, const char *origin)
{
	const json_t *answer = json_object_get(object, "answer");
	unsigned *out = &line->asked.question.answer;
	int64_t index;
	int rc;

	if (json_is_string(answer))
		return find_answer(line, choices, json_string_value(answer),
				   out);
	rc = json_get_integer(object, "answer", 0,
			      (int64_t)json_array_size(choices) - 1, origin,
			      &index);
	if (!rc)
		*out = (unsigned)index;
	return rc;
}

static int add_question(struct requests *r, const struct asked *asked)
{
	if (r->question_count == r->question_capacity) {
		size_t capacity = MAX(2 * r->question_capacity, (size_t)64);
		struct asked *grown =
			reallocarray(r->questions, capacity, sizeof(*grown));

		if (!grown)
			return fail(-ENOMEM, "%s: no memory for %zu questions",
				    r->origin, capacity);
		r->questions = grown;
		r->question_capacity = capacity;
	}
	r->questions[r->question_count++] = *asked;
	return 0;
}

static int read_question(struct line *line, const json_t *object,
			 const char *origin)
{
	json_t *choices;
	int rc = 0;

	if (!json_is_object(object))
		return fail_line(line, "expected a JSON object");
	rc = json_get_string(object, "prompt", origin, &line->prompt);
	if (!rc)
		rc = json_get_array(object, "choices", origin, &choices);
	if (rc)
		return rc;
	line->prompt_bytes = strlen(line->prompt);
	line->asked.question.line = line->number;
	rc = encode_prompt(line);
	if (!rc)
		rc = read_choices(line, choices);
	if (!rc)
		rc = read_answer(line, object, choices, origin);
	if (rc)
		return rc;
	line->requests->shortened += line->shortened;
	return add_question(line->requests, &line->asked);
}

static int read_line(struct requests *r, uint64_t number, const char *text,
		     size_t length)
{
	struct line line = {.requests = r, .number = number};
	char origin[256];
	json_t *object;
	int rc;

	if (length > LINE_BYTES_MAX)
		return fail_line(&line, "%zu bytes; the longest may have %zu",
				 length, LINE_BYTES_MAX);
	if (r->count > CHOICES_TOTAL_MAX)
		return fail_line(&line, "too many questions: split the file");
	snprintf(origin, sizeof(origin), "%.200s: line %" PRIu64, r->origin,
		 number);
	rc = json_parse(text, length, origin, &object);
	if (rc)
		return rc;
	rc = read_question(&line, object, origin);
	json_decref(object);
	return rc;
}

/* ---- the file ---- */

/* qsort_r() on numbers: the longest first, else as in the file. */
static int compare_lengths(const void *a, const void *b, void *argument)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	struct requests_item first = requests_choice(argument, x);
	struct requests_item second = requests_choice(argument, y);
	size_t left = requests_item_length(&first),
	       right = requests_item_length(&second);

	if (left != right)
		return left < right ? 1 : -1;
	return x < y ? -1 : x > y;
}

static int sort(struct requests *r)
{
	r->order = calloc(r->count, sizeof(*r->order));
	if (!r->order)
		return fail(-ENOMEM, "%s: no memory for %zu choices", r->origin,
			    r->count);
	for (size_t i = 0; i < r->count; i++)
		r->order[i] = (uint32_t)i;
	qsort_r(r->order, r->count, sizeof(*r->order), compare_lengths, r);
	return 0;
}

static bool is_blank(const char *text, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if (!strchr(" \t\r", text[i]) || !text[i])
			return false;
	return true;
}

int requests_parse_choices(struct requests *r, const char *text, size_t length)
{
	uint64_t number = 0;
	size_t at = 0;

	while (at < length) {
		const char *end = memchr(text + at, '\n', length - at);
		size_t bytes = end ? (size_t)(end - text) - at : length - at;
		int rc = 0;

		number++;
		if (!is_blank(text + at, bytes))
			rc = read_line(r, number, text + at, bytes);
		if (rc)
			return rc;
		at += bytes + 1;
	}
	if (r->question_count == 0)
		return fail(-EINVAL, "%s: no question in it", r->origin);
	return sort(r);
}

struct requests_item requests_choice(const struct requests *r, size_t number)
{
	const struct choice *choice = &r->choices[number];
	const struct asked *asked = &r->questions[choice->question];
	size_t room = r->config.context + 1 - choice->count;
	size_t given = MIN(asked->prompt_count, room);

	return (struct requests_item){
		.given = r->tokens.ids + asked->prompt +
			 (asked->prompt_count - given),
		.given_count = given,
		.scored = r->tokens.ids + choice->tokens,
		.scored_count = choice->count,
	};
}
