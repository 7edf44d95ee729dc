/*
 * Reading a BPE model of a tokenizer.json.
 */
#include "data/tokenizer/load.h"
#include "data/tokenizer/tokenizer_impl.h"

#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct merges_load {
	struct tokenizer *tokenizer;
	const json_t *vocabulary;
	const char *path;
	size_t prefix; /* bytes that the right part leaves out */
	struct byte_buffer joined;
};

/* The id of name[0, length); -EINVAL, logged, if there is none. */
static int vocabulary_id(const struct merges_load *load, size_t rank,
			 const char *name, size_t length, int32_t *id)
{
	json_t *value = json_object_getn(load->vocabulary, name, length);

	if (!value)
		return fail(-EINVAL,
			    "%s: model.merges[%zu]: \"%.*s\" is not in the "
			    "vocabulary",
			    load->path, rank, (int)MIN(length, (size_t)80),
			    name);
	*id = (int32_t)json_integer_value(value);
	return 0;
}

/* Both parts of a merge: ["a", "b"], or "a b". */
static int merge_parts(const struct merges_load *load, size_t rank,
		       const json_t *merge, const char *part[2],
		       size_t length[2])
{
	const char *text = json_string_value(merge), *space;

	if (json_array_size(merge) == 2) {
		part[0] = json_string_value(json_array_get(merge, 0));
		part[1] = json_string_value(json_array_get(merge, 1));
		if (part[0] && part[1]) {
			length[0] = strlen(part[0]);
			length[1] = strlen(part[1]);
			return 0;
		}
	}
	space = text ? strchr(text, ' ') : NULL;
	if (!space || strchr(space + 1, ' '))
		return fail(-EINVAL,
			    "%s: model.merges[%zu] is neither \"a b\" nor "
			    "[\"a\", \"b\"]",
			    load->path, rank);
	part[0] = text;
	length[0] = (size_t)(space - text);
	part[1] = space + 1;
	length[1] = strlen(space + 1);
	return 0;
}

static int load_merge(struct merges_load *load, size_t rank,
		      const json_t *merge)
{
	int32_t left = -1, right = -1, id = -1;
	const char *part[2] = {NULL};
	size_t length[2] = {0}, skip;
	struct byte_buffer *joined = &load->joined;
	int err = merge_parts(load, rank, merge, part, length);

	joined->length = 0;
	skip = MIN(load->prefix, length[1]);
	if (!err)
		err = byte_buffer_append(joined, part[0], length[0]);
	if (!err)
		err = byte_buffer_append(joined, part[1] + skip,
					 length[1] - skip);
	if (!err)
		err = vocabulary_id(load, rank, part[0], length[0], &left);
	if (!err)
		err = vocabulary_id(load, rank, part[1], length[1], &right);
	if (!err)
		err = vocabulary_id(load, rank, joined->data, joined->length,
				    &id);
	if (err)
		return err;
	return merges_add(&load->tokenizer->bpe.merges, left, right,
			  (int32_t)rank, id);
}

static int load_merges(struct tokenizer *tokenizer, const json_t *model,
		       const char *path)
{
	const char *prefix = tokenizer->bpe.prefix;
	struct merges_load load = {
		.tokenizer = tokenizer,
		.vocabulary = json_object_get(model, "vocab"),
		.path = path,
		.prefix = prefix ? strlen(prefix) : 0,
	};
	struct load_array merges;
	json_t *merge;
	size_t rank = 0;
	int err = load_array_begin(tokenizer, model, "merges", path, &merges);

	while (!err && (err = load_array_next(&merges, &merge)) > 0) {
		const char *text = json_string_value(merge);

		err = 0;
		if (!text || strncmp(text, "#version", 8) != 0)
			err = load_merge(&load, rank++, merge);
		json_decref(merge);
	}
	byte_buffer_fini(&load.joined);
	return err;
}

/* A copy of a string that may be absent or empty, which is NULL. */
static int load_affix(const json_t *model, const char *key, bool byte_level,
		      const char *path, char **out)
{
	const char *text;
	int err = json_get_string_or(model, key, "", path, &text);

	if (err || !*text)
		return err;
	if (byte_level)
		return load_refuse(path, "byte-level model with", key);
	if (strlen(text) > BPE_AFFIX_BYTES_MAX)
		return fail(-EINVAL, "%s: model.%s is over %d bytes", path, key,
			    BPE_AFFIX_BYTES_MAX);
	*out = strdup(text);
	return *out ? 0 : fail(-ENOMEM, "no memory for a tokenizer");
}

static int check_dropout(const json_t *model, const char *path)
{
	double dropout;
	int err = json_get_real_or(model, "dropout", 0, 1, 0, path, &dropout);

	if (!err && dropout > 0)
		err = load_refuse(path, "model with", "dropout");
	return err;
}

static int load_unknown(struct tokenizer *tokenizer, const json_t *model,
			const char *path)
{
	struct bpe *bpe = &tokenizer->bpe;
	bool fallback, complete = bpe->byte_level;
	const char *unknown;
	size_t i;
	int err;

	for (i = 0; i < 256; i++)
		complete &= bpe->byte_id[i] >= 0;
	err = json_get_boolean_or(model, "byte_fallback", false, path,
				  &fallback);
	if (!err && fallback && bpe->byte_level && !complete)
		err = load_refuse(path, "byte-level model with",
				  "byte_fallback");
	if (!err && fallback)
		load_fallback(tokenizer, bpe->fallback_id);
	if (!err)
		err = json_get_boolean_or(model, "fuse_unk", false, path,
					  &bpe->fuse_unknown);
	if (!err)
		err = json_get_string_or(model, "unk_token", NULL, path,
					 &unknown);
	if (err || !unknown || complete)
		return err;
	return load_token_id(model, unknown, "model.unk_token", path,
			     &bpe->unknown_id);
}

/* The tokens of single bytes, or of ASCII characters. */
static void find_single_bytes(struct tokenizer *tokenizer)
{
	int limit = tokenizer->bpe.byte_level ? 256 : 128;
	int byte;

	for (byte = 0; byte < limit; byte++) {
		char text[1] = {(char)byte};

		tokenizer->bpe.byte_id[byte] =
			tokenizer_find_piece(tokenizer, text, 1);
	}
}

int bpe_load(struct tokenizer *tokenizer, const json_t *model, const char *path)
{
	struct bpe *bpe = &tokenizer->bpe;
	int err = check_dropout(model, path);

	if (!err)
		err = load_affix(model, "continuing_subword_prefix",
				 bpe->byte_level, path, &bpe->prefix);
	if (!err)
		err = load_affix(model, "end_of_word_suffix", bpe->byte_level,
				 path, &bpe->suffix);
	if (!err)
		err = load_vocabulary(tokenizer, model, bpe->byte_level, path);
	if (err)
		return err;
	find_single_bytes(tokenizer);
	err = load_merges(tokenizer, model, path);
	if (!err)
		err = load_unknown(tokenizer, model, path);
	if (!err)
		err = json_get_boolean_or(model, "ignore_merges", false, path,
					  &bpe->ignore_merges);
	if (!err && !bpe->ignore_merges)
		err = bpe_find_whole(tokenizer);
	return err;
}

/* Has any part of text `mark` behind something else than `mark`? */
static bool has_inside(const char *text, const char *mark)
{
	size_t length = strlen(mark);
	const char *at = text;

	while ((at = strstr(at, mark))) {
		if (at != text && ((size_t)(at - text) < length ||
				   memcmp(at - length, mark, length) != 0))
			return true;
		at += length;
	}
	return false;
}

bool bpe_splits_before(const struct tokenizer *tokenizer, const char *mark)
{
	const struct bpe *bpe = &tokenizer->bpe;
	struct byte_buffer text = {0};
	bool splits = !bpe->byte_level && !bpe->ignore_merges && !bpe->prefix &&
		      !bpe->suffix;
	size_t i;

	if (tokenizer_find_piece(tokenizer, mark, strlen(mark)) < 0)
		return false;
	for (i = 0; i < tokenizer->count && splits; i++) {
		size_t length;
		const char *bytes =
			tokenizer_token(tokenizer, (int32_t)i, &length);

		text.length = 0;
		splits = !byte_buffer_append(&text, bytes, length) &&
			 !byte_buffer_append(&text, "", 1) &&
			 !has_inside(text.data, mark);
	}
	byte_buffer_fini(&text);
	return splits;
}
