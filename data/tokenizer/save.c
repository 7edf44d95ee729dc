#include "data/tokenizer/tokenizer_impl.h"

#include "base/files.h"
#include "base/json.h"
#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A token as it stands in the file: one character of the alphabet a byte. */
static int token_spell(const struct tokenizer *tokenizer, int32_t id,
		       struct byte_buffer *out)
{
	size_t i, length;
	const char *bytes = tokenizer_token(tokenizer, id, &length);
	int err = 0;

	if (tokenizer->tokens[id].special)
		return byte_buffer_append(out, bytes, length);
	for (i = 0; i < length && !err; i++) {
		uint32_t character =
			utf8_byte_character((unsigned char)bytes[i]);
		char put[4];

		err = byte_buffer_append(out, put, utf8_put(character, put));
	}
	return err;
}

static json_t *vocabulary_json(const struct tokenizer *tokenizer)
{
	json_t *vocabulary = json_object();
	struct byte_buffer name = {0};
	int failed = !vocabulary;
	size_t id;

	for (id = 0; id < tokenizer->count && !failed; id++) {
		name.length = 0;
		failed = token_spell(tokenizer, (int32_t)id, &name) ||
			 byte_buffer_append(&name, "", 1) ||
			 json_object_set_new(vocabulary, name.data,
					     json_integer((json_int_t)id));
	}
	byte_buffer_fini(&name);
	if (!failed)
		return vocabulary;
	json_decref(vocabulary);
	return NULL;
}

/* "left right": the form that every release of the library reads. */
static json_t *merges_json(const struct tokenizer *tokenizer)
{
	const struct token_buffer *pairs = &tokenizer->merge_pairs;
	json_t *merges = json_array();
	struct byte_buffer line = {0};
	int failed = !merges;
	size_t i;

	for (i = 0; i + 1 < pairs->count && !failed; i += 2) {
		/* A pair that was merged twice counts where it came last. */
		if (merges_find(&tokenizer->bpe.merges, pairs->ids[i],
				pairs->ids[i + 1])
			    ->rank != (int32_t)(i / 2))
			continue;
		line.length = 0;
		failed = token_spell(tokenizer, pairs->ids[i], &line) ||
			 byte_buffer_append(&line, " ", 1) ||
			 token_spell(tokenizer, pairs->ids[i + 1], &line) ||
			 json_array_append_new(
				 merges, json_stringn(line.data, line.length));
	}
	byte_buffer_fini(&line);
	if (!failed)
		return merges;
	json_decref(merges);
	return NULL;
}

static json_t *byte_level_json(void)
{
	return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel",
			 "add_prefix_space", 0, "trim_offsets", 1, "use_regex",
			 1);
}

static json_t *tokenizer_json(const struct tokenizer *tokenizer)
{
	json_t *token =
		json_pack("{s:i, s:s, s:b, s:b, s:b, s:b, s:b}", "id",
			  (int)tokenizer->end_of_text, "content",
			  TOKENIZER_END_OF_TEXT, "single_word", 0, "lstrip", 0,
			  "rstrip", 0, "normalized", 0, "special", 1);
	json_t *model = json_pack(
		"{s:s, s:n, s:n, s:s, s:s, s:b, s:b, s:o*, s:o*}", "type",
		"BPE", "dropout", "unk_token", "continuing_subword_prefix", "",
		"end_of_word_suffix", "", "fuse_unk", 0, "byte_fallback", 0,
		"vocab", vocabulary_json(tokenizer), "merges",
		merges_json(tokenizer));

	return json_pack("{s:s, s:n, s:n, s:[o], s:n, s:o, s:n, s:o, s:o}",
			 "version", "1.0", "truncation", "padding",
			 "added_tokens", token, "normalizer", "pre_tokenizer",
			 byte_level_json(), "post_processor", "decoder",
			 byte_level_json(), "model", model);
}

int tokenizer_save(const struct tokenizer *tokenizer, const char *path)
{
	json_t *json;
	int err;

	if (tokenizer->source)
		return files_replace(path, tokenizer->source,
				     tokenizer->source_length);
	json = tokenizer_json(tokenizer);
	if (!json ||
	    !json_object_get(json_object_get(json, "model"), "merges")) {
		json_decref(json);
		return fail(-ENOMEM, "%s: no memory to write it", path);
	}
	err = json_write(path, json);
	json_decref(json);
	return err;
}

int tokenizer_save_config(const struct tokenizer *tokenizer, const char *path,
			  size_t context)
{
	json_t *json = json_pack("{s:s, s:b}", "tokenizer_class",
				 "PreTrainedTokenizerFast",
				 "clean_up_tokenization_spaces", 0);
	int32_t id = tokenizer->end_of_text;
	int failed = !json, err;

	if (id >= 0) {
		size_t length;
		const char *text = tokenizer_token(tokenizer, id, &length);

		failed |= json_object_set_new(json, "bos_token",
					      json_stringn(text, length));
		failed |= json_object_set_new(json, "eos_token",
					      json_stringn(text, length));
	}
	if (context)
		failed |=
			json_object_set_new(json, "model_max_length",
					    json_integer((json_int_t)context));
	if (failed) {
		json_decref(json);
		return fail(-ENOMEM, "%s: no memory to write it", path);
	}
	err = json_write(path, json);
	json_decref(json);
	return err;
}
