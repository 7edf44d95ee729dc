/*
 * Reading "model" of a tokenizer.json, as far as the kinds have it in common.
 */
#include "data/tokenizer/load.h"

#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct model_kind *const kinds[] = {
	&model_bpe,
	&model_wordpiece,
	&model_wordlevel,
	&model_unigram,
};

/*
 * The bytes a token of a byte-level file stands for. One that uses characters
 * outside the alphabet can only be an added token, and stands for itself.
 */
static int unspell(const char *name, size_t length, struct byte_buffer *out)
{
	size_t at = 0, bytes;
	int err = 0;

	out->length = 0;
	while (at < length && !err) {
		int byte = utf8_character_byte(utf8_get(name + at, &bytes));
		char put[1] = {(char)byte};

		if (byte < 0) {
			out->length = 0;
			return byte_buffer_append(out, name, length);
		}
		err = byte_buffer_append(out, put, 1);
		at += bytes;
	}
	return err;
}

static int load_token(struct tokenizer *tokenizer, const char *name,
		      const json_t *value, bool byte_level, const char *path,
		      struct byte_buffer *bytes)
{
	json_int_t id = json_is_integer(value) ? json_integer_value(value) : -1;
	int err;

	if (id < 0 || id >= TOKENIZER_IDS_MAX)
		return fail(-EINVAL,
			    "%s: model.vocab: \"%.80s\" has no id in "
			    "[0, %lld)",
			    path, name, (long long)TOKENIZER_IDS_MAX);
	bytes->length = 0;
	err = byte_level ? unspell(name, strlen(name), bytes)
			 : byte_buffer_append(bytes, name, strlen(name));
	if (!err)
		err = tokenizer_define(tokenizer, (int32_t)id,
				       bytes->data ? bytes->data : "",
				       bytes->length);
	if (err == -EINVAL)
		fail(err, "%s: model.vocab: id %lld has two tokens", path,
		     (long long)id);
	return err;
}

int load_vocabulary(struct tokenizer *tokenizer, const json_t *model,
		    bool byte_level, const char *path)
{
	struct byte_buffer bytes = {0};
	json_t *vocabulary, *value;
	const char *name;
	int err = json_get_object(model, "vocab", path, &vocabulary);

	if (err)
		return err;
	json_object_foreach(vocabulary, name, value)
	{
		err = load_token(tokenizer, name, value, byte_level, path,
				 &bytes);
		if (err)
			break;
	}
	byte_buffer_fini(&bytes);
	return err ? err : tokenizer_index_pieces(tokenizer);
}

void load_fallback(const struct tokenizer *tokenizer, int32_t ids[256])
{
	char text[8];
	int byte;

	for (byte = 0; byte < 256; byte++) {
		snprintf(text, sizeof(text), "<0x%02X>", (unsigned)byte);
		ids[byte] = tokenizer_find_piece(tokenizer, text, strlen(text));
	}
}

/*
 * Where SentencePiece's mark can only begin a token, words are pieces: the same
 * ids, but a text need not be held back as a whole, and words are cached.
 */
static int split_at_marks(struct tokenizer *tokenizer, const char *path)
{
	static const char mark[] = "\xE2\x96\x81";
	struct splitter *splitter = &tokenizer->splitter;
	struct split_step *step;

	if (!bpe_splits_before(tokenizer, mark))
		return 0;
	step = splitter->count ? &splitter->steps[splitter->count - 1] : NULL;
	if (!step || step->pattern.kind != PATTERN_NOTHING)
		step = splitter_add(splitter, path);
	if (!step)
		return -EINVAL;
	step->behavior = SPLIT_ISOLATED;
	return pattern_string(&step->pattern, PATTERN_START, mark);
}

/* Files from before there was a "type" are told apart by what they have. */
static const char *guess_type(const json_t *model)
{
	if (json_object_get(model, "merges"))
		return "BPE";
	if (json_object_get(model, "max_input_chars_per_word"))
		return "WordPiece";
	return json_is_array(json_object_get(model, "vocab")) ? "Unigram"
							      : "WordLevel";
}

int load_model(struct tokenizer *tokenizer, const json_t *root, bool byte_level,
	       const char *path)
{
	const struct model_kind *kind = NULL;
	const char *type;
	json_t *model;
	size_t i;
	int err = json_get_object(root, "model", path, &model);

	if (!err)
		err = json_get_string_or(model, "type", guess_type(model), path,
					 &type);
	if (err)
		return err;
	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (strcmp(type, kinds[i]->name) == 0)
			kind = kinds[i];
	}
	if (!kind)
		return load_refuse(path, "model", type);
	if (byte_level && kind != &model_bpe)
		return load_refuse(path, "pre_tokenizer ByteLevel with model",
				   type);
	tokenizer->model = kind;
	tokenizer->bpe.byte_level = byte_level;
	err = kind->load(tokenizer, model, path);
	if (!err && kind == &model_bpe)
		err = split_at_marks(tokenizer, path);
	return err;
}
