/*
 * Reading "added_tokens" of a tokenizer.json.
 */
#include "data/tokenizer/load.h"

#include "base/log.h"

#include <errno.h>
#include <string.h>

static int read_added(const json_t *json, const char *path,
		      struct added_token *token)
{
	const char *content;
	int64_t id;
	int err = json_get_string(json, "content", path, &content);

	if (!err)
		err = json_get_integer(json, "id", 0, TOKENIZER_IDS_MAX - 1,
				       path, &id);
	if (!err)
		err = json_get_boolean_or(json, "special", false, path,
					  &token->special);
	if (!err)
		err = json_get_boolean_or(json, "normalized", !token->special,
					  path, &token->normalized);
	if (!err)
		err = json_get_boolean_or(json, "single_word", false, path,
					  &token->single_word);
	if (!err)
		err = json_get_boolean_or(json, "lstrip", false, path,
					  &token->left_strip);
	if (!err)
		err = json_get_boolean_or(json, "rstrip", false, path,
					  &token->right_strip);
	if (err)
		return err;
	token->id = (int32_t)id;
	token->content = (char *)(uintptr_t)content;
	token->length = strlen(content);
	return 0;
}

/* The id that the model's vocabulary has for a text; -1: none. */
static json_int_t vocabulary_id(const struct tokenizer *tokenizer,
				const json_t *vocabulary, const char *text)
{
	json_t *known = json_object_get(vocabulary, text);

	if (json_is_array(vocabulary))
		return tokenizer_find_piece(tokenizer, text, strlen(text));
	return known ? json_integer_value(known) : -1;
}

/* What the text of a token looks like once it is normalized. */
static int set_pattern(const struct tokenizer *tokenizer,
		       struct added_token *token, struct byte_buffer *out)
{
	int err;

	token->pattern = token->content;
	token->pattern_length = token->length;
	if (!token->normalized)
		return 0;
	out->length = 0;
	err = normalizer_apply(&tokenizer->normalizer, token->content,
			       token->length, out);
	token->pattern = out->data;
	token->pattern_length = out->length;
	return err;
}

/*
 * The library goes by the vocabulary's id and ignores the one written here;
 * where they disagree nobody can tell what the model was trained with.
 */
static int load_added(struct tokenizer *tokenizer, const json_t *vocabulary,
		      const json_t *json, const char *path,
		      struct byte_buffer *normalized)
{
	struct added_token token = {0};
	int err = read_added(json, path, &token);
	json_int_t known;

	if (err || !token.length)
		return err;
	known = vocabulary_id(tokenizer, vocabulary, token.content);
	if (known >= 0 && known != token.id)
		return fail(-EINVAL,
			    "%s: added token \"%.80s\" has id %d, but "
			    "%lld in model.vocab",
			    path, token.content, (int)token.id,
			    (long long)known);
	if (known < 0) {
		err = tokenizer_define(tokenizer, token.id, token.content,
				       token.length);
		if (err == -EINVAL)
			return fail(err,
				    "%s: added token \"%.80s\": id %d is "
				    "taken",
				    path, token.content, (int)token.id);
	}
	if (!err)
		err = set_pattern(tokenizer, &token, normalized);
	if (!err)
		err = added_set_add(&tokenizer->added, &token);
	if (!err)
		tokenizer->tokens[token.id].special |= token.special;
	return err;
}

int load_added_tokens(struct tokenizer *tokenizer, const json_t *root,
		      const char *path)
{
	json_t *list = json_object_get(root, "added_tokens");
	json_t *vocabulary =
		json_object_get(json_object_get(root, "model"), "vocab");
	struct byte_buffer normalized = {0};
	size_t i;
	int err = 0;

	if (!load_is_absent(list) && !json_is_array(list))
		return fail(-EINVAL, "%s: added_tokens is not a list", path);
	for (i = 0; i < json_array_size(list) && !err; i++)
		err = load_added(tokenizer, vocabulary, json_array_get(list, i),
				 path, &normalized);
	byte_buffer_fini(&normalized);
	return err ? err : added_set_index(&tokenizer->added);
}
