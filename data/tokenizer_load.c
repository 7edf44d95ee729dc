/*
 * Reading tokenizer.json as the Hugging Face library (0.23) writes it:
 * components are {"type": ...} objects, absent and null mean none. A
 * component or setting that would change the tokens and is not implemented
 * here is refused by name.
 */
#include "data/tokenizer_impl.h"

#include "base/files.h"
#include "base/json.h"
#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FILE_BYTES_MAX ((size_t)256 << 20)

struct load {
	struct tokenizer *tokenizer;
	const char *path;
	json_t *root;
	bool byte_level; /* the pre-tokenizer makes bytes of the text */
	json_t *vocabulary;
};

static bool is_absent(const json_t *value)
{
	return !value || json_is_null(value);
}

static int refuse(const struct load *load, const char *where, const char *what)
{
	return fail(-EINVAL,
		    "%s: %s %s is not supported (byte-level BPE with "
		    "splitting expressions, NFC and templates is)",
		    load->path, where, what);
}

/* The "type" of a component; NULL (logged) when it has none. */
static const char *type_of(const struct load *load, const json_t *component,
			   const char *where)
{
	const char *type =
		json_string_value(json_object_get(component, "type"));

	if (!type)
		fail(-EINVAL, "%s: %s has no \"type\"", load->path, where);
	return type;
}

/* ---- normalizer ---- */

static int load_normalizer(struct load *load, const json_t *component,
			   unsigned depth)
{
	const char *type;
	size_t i;
	int err = 0;

	if (is_absent(component))
		return 0;
	type = type_of(load, component, "normalizer");
	if (!type)
		return -EINVAL;
	if (strcmp(type, "NFC") == 0) {
		load->tokenizer->compose = true;
		return 0;
	}
	if (strcmp(type, "Sequence") == 0 && depth < 4) {
		json_t *list = json_object_get(component, "normalizers");

		for (i = 0; i < json_array_size(list) && !err; i++)
			err = load_normalizer(load, json_array_get(list, i),
					      depth + 1);
		return err;
	}
	return refuse(load, "normalizer", type);
}

/* ---- pre_tokenizer ---- */

static int load_split(struct load *load, const json_t *component)
{
	json_t *pattern = json_object_get(component, "pattern");
	const char *regex =
		json_string_value(json_object_get(pattern, "Regex"));
	const char *text =
		json_string_value(json_object_get(pattern, "String"));
	const char *behavior;
	bool invert;
	int err;

	err = json_get_string(component, "behavior", load->path, &behavior);
	if (!err)
		err = json_get_boolean_or(component, "invert", false,
					  load->path, &invert);
	if (err)
		return err;
	if (strcmp(behavior, "Isolated") != 0)
		return refuse(load, "pre_tokenizer Split with behavior",
			      behavior);
	if (invert)
		return refuse(load, "pre_tokenizer Split with", "invert");
	if (!regex && !text)
		return fail(-EINVAL, "%s: pre_tokenizer Split has no pattern",
			    load->path);
	return splitter_add(load->tokenizer->splitter, regex ? regex : text,
			    !regex, load->path);
}

static int load_byte_level(struct load *load, const json_t *component,
			   bool first)
{
	bool prefix, regex;
	int err;

	err = json_get_boolean_or(component, "add_prefix_space", false,
				  load->path, &prefix);
	if (!err)
		err = json_get_boolean_or(component, "use_regex", true,
					  load->path, &regex);
	if (err)
		return err;
	if (prefix && !first)
		return refuse(load,
			      "pre_tokenizer ByteLevel after another "
			      "one with",
			      "add_prefix_space");
	load->byte_level = true;
	splitter_set_prefix_space(load->tokenizer->splitter, prefix);
	if (!regex)
		return 0;
	return splitter_add(load->tokenizer->splitter, SPLIT_GPT2, false,
			    load->path);
}

static int load_digits(struct load *load, const json_t *component)
{
	bool single;
	int err = json_get_boolean_or(component, "individual_digits", false,
				      load->path, &single);

	if (err)
		return err;
	return splitter_add(load->tokenizer->splitter,
			    single ? "\\p{N}" : "\\p{N}+", false, load->path);
}

static int load_pre_tokenizer(struct load *load, const json_t *component,
			      bool first)
{
	const char *type = type_of(load, component, "pre_tokenizer");

	if (!type)
		return -EINVAL;
	if (load->byte_level)
		return refuse(load, "after ByteLevel, pre_tokenizer", type);
	if (strcmp(type, "ByteLevel") == 0)
		return load_byte_level(load, component, first);
	if (strcmp(type, "Split") == 0)
		return load_split(load, component);
	if (strcmp(type, "Digits") == 0)
		return load_digits(load, component);
	return refuse(load, "pre_tokenizer", type);
}

static int load_pre_tokenizers(struct load *load)
{
	json_t *component = json_object_get(load->root, "pre_tokenizer");
	json_t *list = json_object_get(component, "pretokenizers");
	size_t i;
	int err = 0;

	if (is_absent(component))
		return refuse(load, "a tokenizer without", "pre_tokenizer");
	if (!json_is_array(list))
		err = load_pre_tokenizer(load, component, true);
	for (i = 0; i < json_array_size(list) && !err; i++)
		err = load_pre_tokenizer(load, json_array_get(list, i), i == 0);
	if (!err && !load->byte_level)
		err = refuse(load, "pre_tokenizer without", "ByteLevel");
	return err;
}

/* ---- model ---- */

/*
 * The bytes a token of the file stands for. One that uses characters outside
 * the alphabet can only be an added token, and stands for itself.
 */
static int token_unspell(const char *name, size_t length,
			 struct byte_buffer *out)
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

static int load_token(struct load *load, const char *name, const json_t *value,
		      struct byte_buffer *bytes)
{
	json_int_t id = json_is_integer(value) ? json_integer_value(value) : -1;
	int err;

	if (id < 0 || id >= TOKENIZER_IDS_MAX)
		return fail(-EINVAL,
			    "%s: model.vocab: \"%.80s\" has no id in "
			    "[0, %lld)",
			    load->path, name, (long long)TOKENIZER_IDS_MAX);
	err = token_unspell(name, strlen(name), bytes);
	if (!err)
		err = tokenizer_define(load->tokenizer, (int32_t)id,
				       bytes->data ? bytes->data : "",
				       bytes->length);
	if (err == -EINVAL)
		fail(err, "%s: model.vocab: id %lld has two tokens", load->path,
		     (long long)id);
	if (err)
		return err;
	if (bytes->length == 1)
		load->tokenizer->merges.byte_id[(unsigned char)bytes->data[0]] =
			(int32_t)id;
	return 0;
}

static int load_vocabulary(struct load *load)
{
	struct byte_buffer bytes = {0};
	const char *name;
	json_t *value;
	int err = 0;

	json_object_foreach(load->vocabulary, name, value)
	{
		err = load_token(load, name, value, &bytes);
		if (err)
			break;
	}
	byte_buffer_fini(&bytes);
	return err;
}

/* The id of name[0, length); -EINVAL, logged, if there is none. */
static int vocabulary_id(const struct load *load, size_t rank, const char *name,
			 size_t length, int32_t *id)
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
static int merge_parts(const struct load *load, size_t rank,
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

static int load_merge(struct load *load, size_t rank, const json_t *merge,
		      struct byte_buffer *joined)
{
	int32_t left = -1, right = -1, id = -1;
	const char *part[2] = {NULL};
	size_t length[2] = {0};
	int err = merge_parts(load, rank, merge, part, length);

	joined->length = 0;
	if (!err)
		err = byte_buffer_append(joined, part[0], length[0]);
	if (!err)
		err = byte_buffer_append(joined, part[1], length[1]);
	if (!err)
		err = vocabulary_id(load, rank, part[0], length[0], &left);
	if (!err)
		err = vocabulary_id(load, rank, part[1], length[1], &right);
	if (!err)
		err = vocabulary_id(load, rank, joined->data, joined->length,
				    &id);
	if (err)
		return err;
	return merges_add(&load->tokenizer->merges, left, right, (int32_t)rank,
			  id);
}

static int load_merges(struct load *load, const json_t *model)
{
	struct byte_buffer joined = {0};
	json_t *merges;
	size_t i, rank = 0;
	int err = json_get_array(model, "merges", load->path, &merges);

	for (i = 0; !err && i < json_array_size(merges); i++) {
		json_t *merge = json_array_get(merges, i);
		const char *text = json_string_value(merge);

		if (text && strncmp(text, "#version", 8) == 0)
			continue;
		err = load_merge(load, rank++, merge, &joined);
	}
	byte_buffer_fini(&joined);
	return err;
}

/* Refuses what would change the tokens. */
static int check_model(const struct load *load, const json_t *model)
{
	const char *type, *prefix, *suffix;
	double dropout;
	int err;

	err = json_get_string_or(model, "type", "BPE", load->path, &type);
	if (!err && strcmp(type, "BPE") != 0)
		err = refuse(load, "model", type);
	if (!err)
		err = json_get_string_or(model, "continuing_subword_prefix", "",
					 load->path, &prefix);
	if (!err && *prefix)
		err = refuse(load, "model", "continuing_subword_prefix");
	if (!err)
		err = json_get_string_or(model, "end_of_word_suffix", "",
					 load->path, &suffix);
	if (!err && *suffix)
		err = refuse(load, "model", "end_of_word_suffix");
	if (!err)
		err = json_get_real_or(model, "dropout", 0, 1, 0, load->path,
				       &dropout);
	if (!err && dropout > 0)
		err = refuse(load, "model", "dropout");
	return err;
}

static int load_unknown(struct load *load, const json_t *model)
{
	struct merges *merges = &load->tokenizer->merges;
	bool fallback, complete = true;
	const char *unknown;
	json_t *id;
	size_t i;
	int err;

	for (i = 0; i < 256; i++)
		complete &= merges->byte_id[i] >= 0;
	err = json_get_boolean_or(model, "byte_fallback", false, load->path,
				  &fallback);
	if (!err && fallback && !complete)
		err = refuse(load, "model", "byte_fallback");
	if (!err)
		err = json_get_boolean_or(model, "fuse_unk", false, load->path,
					  &merges->fuse_unknown);
	if (!err)
		err = json_get_string_or(model, "unk_token", NULL, load->path,
					 &unknown);
	if (err || !unknown)
		return err;
	id = json_object_get(load->vocabulary, unknown);
	if (id)
		merges->unknown_id = (int32_t)json_integer_value(id);
	else if (!complete)
		return fail(-EINVAL,
			    "%s: model.unk_token \"%.80s\" is not in "
			    "the vocabulary",
			    load->path, unknown);
	return 0;
}

static int load_model(struct load *load)
{
	struct tokenizer *tokenizer = load->tokenizer;
	json_t *model;
	int err = json_get_object(load->root, "model", load->path, &model);

	if (!err)
		err = check_model(load, model);
	if (!err)
		err = json_get_object(model, "vocab", load->path,
				      &load->vocabulary);
	if (!err)
		err = load_vocabulary(load);
	if (!err)
		err = load_merges(load, model);
	if (!err)
		err = load_unknown(load, model);
	if (!err)
		err = json_get_boolean_or(model, "ignore_merges", false,
					  load->path,
					  &tokenizer->ignore_merges);
	if (!err && tokenizer->ignore_merges)
		err = tokenizer_index_pieces(tokenizer);
	return err;
}

/* ---- added_tokens ---- */

static int read_added(const struct load *load, const json_t *json,
		      struct added_token *token)
{
	const char *path = load->path, *content;
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

/*
 * The library goes by the vocabulary's id and ignores the one written here;
 * where they disagree nobody can tell what the model was trained with.
 */
static int load_added(struct load *load, const json_t *json)
{
	struct tokenizer *tokenizer = load->tokenizer;
	struct added_token token = {0};
	json_t *known;
	int err = read_added(load, json, &token);

	if (err || !token.length)
		return err;
	known = json_object_get(load->vocabulary, token.content);
	if (known && json_integer_value(known) != token.id)
		return fail(-EINVAL,
			    "%s: added token \"%.80s\" has id %d, but "
			    "%lld in model.vocab",
			    load->path, token.content, (int)token.id,
			    (long long)json_integer_value(known));
	if (!known) {
		err = tokenizer_define(tokenizer, token.id, token.content,
				       token.length);
		if (err == -EINVAL)
			return fail(err,
				    "%s: added token \"%.80s\": id %d is "
				    "taken",
				    load->path, token.content, (int)token.id);
	}
	if (!err)
		err = added_set_add(&tokenizer->added, &token);
	if (!err)
		tokenizer->tokens[token.id].special |= token.special;
	return err;
}

static int load_added_tokens(struct load *load)
{
	json_t *list = json_object_get(load->root, "added_tokens");
	size_t i;
	int err = 0;

	if (!is_absent(list) && !json_is_array(list))
		return fail(-EINVAL, "%s: added_tokens is not a list",
			    load->path);
	for (i = 0; i < json_array_size(list) && !err; i++)
		err = load_added(load, json_array_get(list, i));
	return err;
}

/* ---- post_processor and decoder ---- */

/* {"SpecialToken": {"id": NAME}}: the ids of NAME in special_tokens. */
static int load_template_part(struct load *load, const json_t *special,
			      const char *name, struct token_buffer *out)
{
	json_t *ids = json_object_get(json_object_get(special, name), "ids");
	size_t i;
	int err = 0;

	if (!json_array_size(ids))
		return fail(-EINVAL, "%s: post_processor: \"%.80s\" has no ids",
			    load->path, name);
	for (i = 0; i < json_array_size(ids) && !err; i++) {
		json_int_t id = json_integer_value(json_array_get(ids, i));
		int32_t value = (int32_t)id;

		if (id < 0 || (size_t)id >= load->tokenizer->count)
			return fail(-EINVAL,
				    "%s: post_processor: id %lld is "
				    "not in the vocabulary",
				    load->path, (long long)id);
		err = token_buffer_append(out, &value, 1);
	}
	return err;
}

static int load_template(struct load *load, const json_t *component)
{
	json_t *special = json_object_get(component, "special_tokens");
	json_t *single;
	struct token_buffer *out = &load->tokenizer->before;
	size_t i;
	int err = json_get_array(component, "single", load->path, &single);

	for (i = 0; !err && i < json_array_size(single); i++) {
		json_t *part = json_array_get(single, i);
		const char *name = json_string_value(json_object_get(
			json_object_get(part, "SpecialToken"), "id"));

		if (name)
			err = load_template_part(load, special, name, out);
		else if (json_object_get(part, "Sequence"))
			out = &load->tokenizer->after;
		else
			err = fail(-EINVAL,
				   "%s: post_processor: \"single\" "
				   "has an unknown part",
				   load->path);
	}
	return err;
}

static int load_post_processor(struct load *load, const json_t *component,
			       unsigned depth)
{
	const char *type;
	json_t *list;
	size_t i;
	int err = 0;

	if (is_absent(component))
		return 0;
	type = type_of(load, component, "post_processor");
	if (!type)
		return -EINVAL;
	if (strcmp(type, "ByteLevel") == 0)
		return 0;
	if (strcmp(type, "TemplateProcessing") == 0)
		return load_template(load, component);
	if (strcmp(type, "Sequence") != 0 || depth >= 4)
		return refuse(load, "post_processor", type);
	list = json_object_get(component, "processors");
	for (i = 0; i < json_array_size(list) && !err; i++)
		err = load_post_processor(load, json_array_get(list, i),
					  depth + 1);
	return err;
}

static int check_decoder(const struct load *load)
{
	json_t *component = json_object_get(load->root, "decoder");
	const char *type;

	if (is_absent(component))
		return 0;
	type = type_of(load, component, "decoder");
	if (!type)
		return -EINVAL;
	return strcmp(type, "ByteLevel") == 0 ? 0
					      : refuse(load, "decoder", type);
}

/* ---- end of text ---- */

/* "eos_token" of the tokenizer_config.json beside the file, if any. */
static int load_config(struct load *load)
{
	static const char name[] = "tokenizer_config.json";
	const char *slash = strrchr(load->path, '/');
	size_t folder = slash ? (size_t)(slash - load->path) + 1 : 0;
	char path[FILES_PATH_BYTES];
	json_t *config, *token;
	const char *content;
	int err;

	if (folder + sizeof(name) > sizeof(path))
		return 0;
	memcpy(path, load->path, folder);
	memcpy(path + folder, name, sizeof(name));
	if (!files_exists(path))
		return 0;
	err = json_read(path, FILE_BYTES_MAX, &config);
	if (err)
		return err;
	token = json_object_get(config, "eos_token");
	content = json_string_value(json_is_object(token)
					    ? json_object_get(token, "content")
					    : token);
	if (content)
		load->tokenizer->end_of_text =
			tokenizer_added_token(load->tokenizer, content);
	json_decref(config);
	return 0;
}

static int load_end_of_text(struct load *load)
{
	static const char *const usual[] = {TOKENIZER_END_OF_TEXT,
					    "<|end_of_text|>", "</s>", "<eos>"};
	struct tokenizer *tokenizer = load->tokenizer;
	size_t i;
	int err = load_config(load);

	for (i = 0; i < ARRAY_SIZE(usual) && tokenizer->end_of_text < 0; i++)
		tokenizer->end_of_text =
			tokenizer_added_token(tokenizer, usual[i]);
	return err;
}

static int load_root(struct load *load)
{
	const char *version;
	int err;

	if (!json_is_object(load->root))
		return fail(-EINVAL, "%s: not a tokenizer: no JSON object",
			    load->path);
	err = json_get_string_or(load->root, "version", "1.0", load->path,
				 &version);
	if (!err && strcmp(version, "1.0") != 0)
		err = refuse(load, "version", version);
	if (!err)
		err = load_normalizer(
			load, json_object_get(load->root, "normalizer"), 0);
	if (!err)
		err = load_model(load);
	if (!err)
		err = load_pre_tokenizers(load);
	if (!err)
		err = load_added_tokens(load);
	if (!err)
		err = load_post_processor(
			load, json_object_get(load->root, "post_processor"), 0);
	if (!err)
		err = check_decoder(load);
	if (!err)
		err = load_end_of_text(load);
	return err;
}

int tokenizer_load(const char *path, struct tokenizer **out)
{
	struct load load = {.path = path};
	int err = tokenizer_allocate("file", &load.tokenizer);

	if (err)
		return err;
	err = files_read(path, FILE_BYTES_MAX, &load.tokenizer->source,
			 &load.tokenizer->source_length);
	if (!err)
		err = json_parse(load.tokenizer->source,
				 load.tokenizer->source_length, path,
				 &load.root);
	if (!err)
		err = load_root(&load);
	json_decref(load.root);
	if (err) {
		tokenizer_destroy(load.tokenizer);
		return err;
	}
	*out = load.tokenizer;
	return 0;
}
