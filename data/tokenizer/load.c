/*
 * Reading tokenizer.json as the Hugging Face library (0.23) writes it:
 * components are {"type": ...} objects, absent and null mean none. A
 * component or setting that would change the tokens and is not implemented
 * here is refused by name.
 */
#include "data/tokenizer/load.h"

#include "base/files.h"
#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FILE_BYTES_MAX ((size_t)256 << 20)

int load_refuse(const char *path, const char *where, const char *what)
{
	return fail(-EINVAL,
		    "%s: %s %s is not supported (docs/TOKENIZERS.md "
		    "lists what is)",
		    path, where, what);
}

const char *load_type(const char *path, const json_t *component,
		      const char *where)
{
	const char *type =
		json_string_value(json_object_get(component, "type"));

	if (!type)
		fail(-EINVAL, "%s: %s has no \"type\"", path, where);
	return type;
}

int load_list(const json_t *component, const char *key, unsigned depth,
	      const char *path, json_t **list)
{
	if (depth >= LOAD_DEPTH_MAX)
		return fail(-EINVAL, "%s: %s within each other over %d deep",
			    path, key, LOAD_DEPTH_MAX);
	return json_get_array(component, key, path, list);
}

int load_pattern(const json_t *component, const char *where, const char *path,
		 struct pattern *out)
{
	json_t *pattern = json_object_get(component, "pattern");
	const char *regex =
		json_string_value(json_object_get(pattern, "Regex"));
	const char *text =
		json_string_value(json_object_get(pattern, "String"));

	/* Very old files have the string by itself. */
	if (json_is_string(pattern))
		text = json_string_value(pattern);
	if (regex)
		return pattern_expression(out, regex, path);
	if (!text || !*text)
		return fail(-EINVAL, "%s: %s has no pattern", path, where);
	return pattern_string(out, PATTERN_STRING, text);
}

int load_token_id(const json_t *model, const char *text, const char *where,
		  const char *path, int32_t *id)
{
	json_t *value = json_object_get(json_object_get(model, "vocab"), text);

	if (!value)
		return fail(-EINVAL,
			    "%s: %s \"%.80s\" is not in the vocabulary", path,
			    where, text);
	*id = (int32_t)json_integer_value(value);
	return 0;
}

int load_character(const json_t *component, const char *key,
		   const char *fallback, const char *path, char out[5],
		   size_t *bytes)
{
	const char *text;
	size_t length;
	int err = fallback ? json_get_string_or(component, key, fallback, path,
						&text)
			   : json_get_string(component, key, path, &text);

	if (err)
		return err;
	length = strlen(text);
	if (!length || utf8_bytes((unsigned char)*text) != length)
		return fail(-EINVAL, "%s: %s \"%.80s\" is not one character",
			    path, key, text);
	memcpy(out, text, length + 1);
	*bytes = length;
	return 0;
}

/* ---- end of text ---- */

/* "eos_token" of the tokenizer_config.json beside the file, if any. */
static int load_config(struct tokenizer *tokenizer, const char *file)
{
	static const char name[] = "tokenizer_config.json";
	const char *slash = strrchr(file, '/');
	size_t folder = slash ? (size_t)(slash - file) + 1 : 0;
	char path[FILES_PATH_BYTES];
	json_t *config, *token;
	const char *content;
	int32_t id;
	int err;

	if (folder + sizeof(name) > sizeof(path))
		return 0;
	memcpy(path, file, folder);
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
	id = content ? tokenizer_added_token(tokenizer, content) : -1;
	if (id >= 0)
		tokenizer->end_of_text = id;
	json_decref(config);
	return 0;
}

static void find_end_of_text(struct tokenizer *tokenizer)
{
	static const char *const usual[] = {TOKENIZER_END_OF_TEXT,
					    "<|end_of_text|>", "</s>", "<eos>",
					    "[SEP]"};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(usual) && tokenizer->end_of_text < 0; i++)
		tokenizer->end_of_text =
			tokenizer_added_token(tokenizer, usual[i]);
}

/* ---- the file ---- */

static int load_root(struct tokenizer *tokenizer, const json_t *root,
		     const char *path)
{
	bool byte_level = false;
	const char *version;
	int err;

	if (!json_is_object(root))
		return fail(-EINVAL, "%s: not a tokenizer: no JSON object",
			    path);
	err = json_get_string_or(root, "version", "1.0", path, &version);
	if (!err && strcmp(version, "1.0") != 0)
		err = load_refuse(path, "version", version);
	if (!err)
		err = load_normalizer(
			tokenizer, json_object_get(root, "normalizer"), path);
	if (!err)
		err = load_pre_tokenizer(tokenizer,
					 json_object_get(root, "pre_tokenizer"),
					 path, &byte_level);
	if (!err)
		err = load_model(tokenizer, root, byte_level, path);
	if (!err)
		err = load_added_tokens(tokenizer, root, path);
	if (!err)
		err = load_post_processor(
			tokenizer, json_object_get(root, "post_processor"),
			path);
	if (!err)
		err = load_decoder(tokenizer, json_object_get(root, "decoder"),
				   byte_level, path);
	if (!err)
		find_end_of_text(tokenizer);
	return err;
}

/* Takes over `source`, whatever comes of it. */
static int parse(char *source, size_t length, const char *origin,
		 struct tokenizer **out)
{
	struct tokenizer *tokenizer;
	json_t *root = NULL;
	int err = tokenizer_allocate("file", &tokenizer);

	if (err) {
		free(source);
		return err;
	}
	tokenizer->source = source;
	tokenizer->source_length = length;
	err = load_parse(tokenizer, origin, &root);
	if (!err)
		err = load_root(tokenizer, root, origin);
	json_decref(root);
	tokenizer->merges_span = (struct load_span){0};
	tokenizer->vocab_span = (struct load_span){0};
	if (err) {
		tokenizer_destroy(tokenizer);
		return err;
	}
	*out = tokenizer;
	return 0;
}

int tokenizer_parse(const char *text, size_t length, const char *origin,
		    struct tokenizer **out)
{
	char *source = malloc(length + 1);

	if (!source)
		return fail(-ENOMEM, "%s: no memory to read it", origin);
	memcpy(source, text, length);
	source[length] = '\0';
	return parse(source, length, origin, out);
}

int tokenizer_load(const char *path, struct tokenizer **out)
{
	struct tokenizer *tokenizer;
	char *source;
	size_t length;
	int err = files_read(path, FILE_BYTES_MAX, &source, &length);

	if (!err)
		err = parse(source, length, path, &tokenizer);
	if (err)
		return err;
	err = load_config(tokenizer, path);
	if (err) {
		tokenizer_destroy(tokenizer);
		return err;
	}
	*out = tokenizer;
	return 0;
}
