/*
 * Reading the two long arrays of a tokenizer.json item by item. They are found by
 * skimming the text, which looks at strings and brackets alone; whatever
 * it takes for an array is then read as one, to its very end, so that no
 * text passes that JSON's grammar would refuse.
 */
#include "data/tokenizer/load.h"

#include "base/files.h"
#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Items of these arrays are small. */
#define ITEM_BYTES_MAX ((size_t)1 << 20)

/* ---- skimming ---- */

struct skim {
	const char *at, *end;
};

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static void skip_spaces(struct skim *skim)
{
	while (skim->at < skim->end && is_space(*skim->at))
		skim->at++;
}

static bool skip_character(struct skim *skim, char c)
{
	skip_spaces(skim);
	if (skim->at == skim->end || *skim->at != c)
		return false;
	skim->at++;
	return true;
}

/* From behind the opening quote to behind the closing one. */
static bool skip_string(struct skim *skim)
{
	while (skim->at < skim->end && *skim->at != '"')
		skim->at +=
			*skim->at == '\\' && skim->at + 1 < skim->end ? 2 : 1;
	if (skim->at >= skim->end)
		return false;
	skim->at++;
	return true;
}

/* A value: a string, what is in brackets, or up to the next delimiter. */
static bool skip_value(struct skim *skim)
{
	size_t depth = 0;

	do {
		char c;

		if (skim->at == skim->end)
			return false;
		c = *skim->at;
		if (depth == 0 && (c == ',' || c == '}' || c == ']'))
			return true; /* behind a number or a word */
		skim->at++;
		if (c == '"' && !skip_string(skim))
			return false;
		if (c == '{' || c == '[')
			depth++;
		else if (c == '}' || c == ']')
			depth--;
		if (depth == 0 && (c == '"' || c == '}' || c == ']'))
			return true;
	} while (true);
}

/*
 * To the value of the object's member of this name; false: there is none, or
 * this is no object. From within the object.
 */
static bool find_member(struct skim *skim, const char *name)
{
	size_t length = strlen(name);

	while (skip_character(skim, '"')) {
		const char *key = skim->at;
		size_t bytes;

		if (!skip_string(skim))
			return false;
		bytes = (size_t)(skim->at - key) - 1;
		if (!skip_character(skim, ':'))
			return false;
		skip_spaces(skim);
		if (bytes == length && memcmp(key, name, length) == 0)
			return true;
		if (!skip_value(skim) || !skip_character(skim, ','))
			return false;
	}
	return false;
}

/* The array that is model.NAME, brackets included. */
static struct load_span find_array(const struct tokenizer *tokenizer,
				   const char *name)
{
	struct skim skim = {tokenizer->source,
			    tokenizer->source + tokenizer->source_length};
	const char *begin;

	if (!skip_character(&skim, '{') || !find_member(&skim, "model") ||
	    !skip_character(&skim, '{') || !find_member(&skim, name))
		return (struct load_span){0};
	begin = skim.at;
	if (begin == skim.end || *begin != '[' || !skip_value(&skim))
		return (struct load_span){0};
	return (struct load_span){begin, (size_t)(skim.at - begin)};
}

/* ---- the rest of the file ---- */

/* Hands over a text with gaps, in which there are empty arrays. */
struct gaps {
	const char *at, *end;
	const struct load_span *spans[2]; /* as they follow each other */
	unsigned next;
	const char *inside; /* of a gap: how far its lines have been told */
};

/* Line ends stay, so that messages name the lines of the file. */
static const char *gap_piece(struct gaps *gaps, size_t *length)
{
	const struct load_span *span = gaps->spans[gaps->next];
	const char *end = span->text + span->length;
	const char *line =
		memchr(gaps->inside, '\n', (size_t)(end - gaps->inside));

	*length = 1;
	if (line) {
		gaps->inside = line + 1;
		return "\n";
	}
	gaps->inside = NULL;
	gaps->at = end;
	gaps->next++;
	return "]";
}

static const char *next_piece(void *argument, size_t *length)
{
	struct gaps *gaps = argument;
	const struct load_span *span;
	const char *piece = gaps->at;

	if (gaps->inside)
		return gap_piece(gaps, length);
	span = gaps->next < 2 ? gaps->spans[gaps->next] : NULL;
	if (span && gaps->at == span->text) {
		gaps->inside = span->text;
		*length = 1;
		return "[";
	}
	*length = (size_t)((span ? span->text : gaps->end) - piece);
	gaps->at += *length;
	return *length ? piece : NULL;
}

int load_parse(struct tokenizer *tokenizer, const char *path, json_t **root)
{
	struct load_span *merges = &tokenizer->merges_span;
	struct load_span *vocab = &tokenizer->vocab_span;
	struct gaps gaps = {.at = tokenizer->source,
			    .end = tokenizer->source +
				   tokenizer->source_length};
	unsigned count = 0;

	*merges = find_array(tokenizer, "merges");
	*vocab = find_array(tokenizer, "vocab");
	if (merges->text)
		gaps.spans[count++] = merges;
	if (vocab->text)
		gaps.spans[count++] = vocab;
	if (count == 2 && vocab->text < merges->text) {
		gaps.spans[0] = vocab;
		gaps.spans[1] = merges;
	}
	return json_parse_pieces(next_piece, &gaps,
				 json_memory_limit(tokenizer->source_length),
				 path, root);
}

/* ---- items ---- */

static int array_error(const struct load_array *array, const char *what)
{
	return fail(-EINVAL, "%s: model.%s[%zu]: not JSON: %s", array->path,
		    array->key, array->index, what);
}

int load_array_begin(const struct tokenizer *tokenizer, const json_t *model,
		     const char *key, const char *path, struct load_array *out)
{
	struct load_span span = strcmp(key, "merges") == 0
					? tokenizer->merges_span
					: tokenizer->vocab_span;
	json_t *list;
	int err = json_get_array(model, key, path, &list);

	if (err)
		return err;
	*out = (struct load_array){.key = key, .path = path, .list = list};
	if (span.text) {
		out->list = NULL;
		out->left = (struct load_span){span.text + 1, span.length - 1};
	}
	return 0;
}

static int read_item(struct load_array *array, struct skim *skim, json_t **item)
{
	size_t length = MIN((size_t)(skim->end - skim->at), ITEM_BYTES_MAX);
	char origin[FILES_PATH_BYTES];
	size_t used = 0;
	int err;

	snprintf(origin, sizeof(origin), "%s: model.%s[%zu]", array->path,
		 array->key, array->index);
	err = json_parse_next(skim->at, length, json_memory_limit(length),
			      origin, item, &used);
	if (err)
		return err;
	skim->at += used;
	array->left =
		(struct load_span){skim->at, (size_t)(skim->end - skim->at)};
	array->index++;
	return 1;
}

int load_array_next(struct load_array *array, json_t **item)
{
	struct skim skim = {array->left.text,
			    array->left.text + array->left.length};

	if (array->list) {
		*item = json_incref(json_array_get(array->list, array->index));
		return *item ? (array->index++, 1) : 0;
	}
	if (skip_character(&skim, ']'))
		return skim.at == skim.end
			       ? (array->left.length = 0, 0)
			       : array_error(array, "something behind its end");
	if (array->index > 0 && !skip_character(&skim, ','))
		return array_error(array, "',' or ']' is missing before it");
	return read_item(array, &skim, item);
}
