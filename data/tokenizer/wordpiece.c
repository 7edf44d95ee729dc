/*
 * WordPiece, as BERT has it: the longest token that the rest of the word begins
 * with, again and again, those inside a word with a prefix ("##"); a word
 * that does not come out is one unknown token. And WordLevel, where a piece
 * is a token or unknown.
 */
#include "data/tokenizer/load.h"
#include "data/tokenizer/tokenizer_impl.h"

#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void wordpiece_fini(struct wordpiece *wordpiece)
{
	lexicon_fini(&wordpiece->lexicon);
}

static int index_tokens(struct tokenizer *tokenizer)
{
	struct lexicon *lexicon = &tokenizer->wordpiece.lexicon;
	size_t i, length;
	int err = 0;

	for (i = 0; i < tokenizer->count && !err; i++) {
		const char *text =
			tokenizer_token(tokenizer, (int32_t)i, &length);

		if (length)
			err = lexicon_add(lexicon, text, length, (int32_t)i);
	}
	return err ? err : lexicon_sort(lexicon);
}

/* Where tokens inside a word are looked up. */
static void find_inside(struct wordpiece *wordpiece, const char *prefix)
{
	lexicon_begin(&wordpiece->lexicon, &wordpiece->inside);
	wordpiece->continues = true;
	for (; *prefix && wordpiece->continues; prefix++)
		wordpiece->continues =
			lexicon_step(&wordpiece->lexicon, &wordpiece->inside,
				     (unsigned char)*prefix);
}

static int wordpiece_load(struct tokenizer *tokenizer, const json_t *model,
			  const char *path)
{
	struct wordpiece *wordpiece = &tokenizer->wordpiece;
	const char *unknown, *prefix;
	int64_t characters;
	int err = load_vocabulary(tokenizer, model, false, path);

	if (!err)
		err = index_tokens(tokenizer);
	if (!err)
		err = json_get_string_or(model, "unk_token", "[UNK]", path,
					 &unknown);
	if (!err)
		err = load_token_id(model, unknown, "model.unk_token", path,
				    &wordpiece->unknown_id);
	if (!err)
		err = json_get_string_or(model, "continuing_subword_prefix",
					 "##", path, &prefix);
	if (!err)
		err = json_get_integer_or(model, "max_input_chars_per_word", 0,
					  INT64_MAX, 100, path, &characters);
	if (err)
		return err;
	wordpiece->word_characters_max = (size_t)characters;
	find_inside(wordpiece, prefix);
	return 0;
}

/* The longest token from `place` on; its bytes of text, 0: none. */
static size_t longest(const struct lexicon *lexicon, struct lexicon_place place,
		      const char *text, size_t length, int32_t *id)
{
	size_t at = 0, found = 0;

	while (at < length &&
	       lexicon_step(lexicon, &place, (unsigned char)text[at])) {
		int32_t value = lexicon_value(lexicon, &place);

		at++;
		if (value >= 0) {
			*id = value;
			found = at;
		}
	}
	return found;
}

static int wordpiece_encode(const struct tokenizer *tokenizer,
			    struct model_work *work, const char *piece,
			    size_t length, struct token_buffer *out)
{
	const struct wordpiece *wordpiece = &tokenizer->wordpiece;
	size_t first = out->count, at = 0, bytes;
	struct lexicon_place place;
	int32_t id = -1;
	int err = 0;

	(void)work;
	lexicon_begin(&wordpiece->lexicon, &place);
	if (utf8_count(piece, length) > wordpiece->word_characters_max)
		return token_buffer_append(out, &wordpiece->unknown_id, 1);
	while (at < length && !err) {
		if (at && !wordpiece->continues)
			break;
		bytes = longest(&wordpiece->lexicon, place, piece + at,
				length - at, &id);
		if (!bytes)
			break;
		err = token_buffer_append(out, &id, 1);
		place = wordpiece->inside;
		at += bytes;
	}
	if (err || at == length)
		return err;
	out->count = first;
	return token_buffer_append(out, &wordpiece->unknown_id, 1);
}

const struct model_kind model_wordpiece = {"WordPiece", wordpiece_load,
					   wordpiece_encode};

static int wordlevel_load(struct tokenizer *tokenizer, const json_t *model,
			  const char *path)
{
	const char *unknown;
	int err = load_vocabulary(tokenizer, model, false, path);

	if (!err)
		err = json_get_string_or(model, "unk_token", "<unk>", path,
					 &unknown);
	tokenizer->wordpiece.unknown_id = -1;
	if (!err && json_object_get(json_object_get(model, "vocab"), unknown))
		err = load_token_id(model, unknown, "model.unk_token", path,
				    &tokenizer->wordpiece.unknown_id);
	return err;
}

static int wordlevel_encode(const struct tokenizer *tokenizer,
			    struct model_work *work, const char *piece,
			    size_t length, struct token_buffer *out)
{
	int32_t id = tokenizer_find_piece(tokenizer, piece, length);

	(void)work;
	if (id < 0)
		id = tokenizer->wordpiece.unknown_id;
	if (id < 0)
		return fail(-EINVAL,
			    "the vocabulary has neither \"%.*s\" nor an "
			    "unknown token",
			    (int)MIN(length, (size_t)80), piece);
	return token_buffer_append(out, &id, 1);
}

const struct model_kind model_wordlevel = {"WordLevel", wordlevel_load,
					   wordlevel_encode};
