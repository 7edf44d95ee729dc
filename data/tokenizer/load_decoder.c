/*
 * Reading "decoder" of a tokenizer.json.
 */
#include "data/tokenizer/load.h"

#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int set_text(struct decode_step *step, const json_t *component,
		    const char *key, const char *fallback, const char *path)
{
	const char *text;
	int err = json_get_string_or(component, key, fallback, path, &text);

	if (err)
		return err;
	step->text = strdup(text);
	return step->text ? 0 : fail(-ENOMEM, "no memory for a decoder");
}

static int load_wordpiece(struct decode_step *step, const json_t *component,
			  const char *path)
{
	int err = set_text(step, component, "prefix", "##", path);

	return err ? err
		   : json_get_boolean_or(component, "cleanup", true, path,
					 &step->clean_up);
}

static int load_metaspace(struct decode_step *step, const json_t *component,
			  const char *path)
{
	const char *scheme;
	char mark[5];
	size_t bytes;
	bool prefix;
	int err = load_character(component, "replacement", "\xE2\x96\x81", path,
				 mark, &bytes);

	if (!err)
		err = set_text(step, component, "replacement", mark, path);
	if (!err)
		err = json_get_boolean_or(component, "add_prefix_space", true,
					  path, &prefix);
	if (!err)
		err = json_get_string_or(component, "prepend_scheme",
					 prefix ? "always" : "never", path,
					 &scheme);
	if (!err)
		step->drop_first = strcmp(scheme, "never") != 0;
	return err;
}

static int load_replace(struct decode_step *step, const json_t *component,
			const char *path)
{
	const char *content;
	int err = json_get_string(component, "content", path, &content);

	if (!err)
		err = set_text(step, component, "content", content, path);
	if (!err)
		err = load_pattern(component, "decoder Replace", path,
				   &step->pattern);
	return err;
}

static int load_strip(struct decode_step *step, const json_t *component,
		      const char *path)
{
	int64_t start, stop;
	char content[5];
	size_t bytes;
	int err = load_character(component, "content", " ", path, content,
				 &bytes);

	if (!err)
		err = set_text(step, component, "content", content, path);
	if (!err)
		err = json_get_integer_or(component, "start", 0, INT32_MAX, 0,
					  path, &start);
	if (!err)
		err = json_get_integer_or(component, "stop", 0, INT32_MAX, 0,
					  path, &stop);
	if (err)
		return err;
	step->start = (size_t)start;
	step->stop = (size_t)stop;
	return 0;
}

static int load_suffix(struct decode_step *step, const json_t *component,
		       const char *path)
{
	int err = set_text(step, component, "suffix", "</w>", path);

	if (!err && !*step->text)
		err = load_refuse(path, "decoder BPEDecoder without", "suffix");
	return err;
}

static int load_nothing(struct decode_step *step, const json_t *component,
			const char *path)
{
	(void)step;
	(void)component;
	(void)path;
	return 0;
}

static int load_one(struct decoder *decoder, const json_t *component,
		    unsigned depth, const char *path)
{
	static const struct {
		const char *type;
		enum decode_kind kind;
		int (*load)(struct decode_step *step, const json_t *component,
			    const char *path);
	} kinds[] = {
		{"ByteLevel", DECODE_BYTE_LEVEL, load_nothing},
		{"WordPiece", DECODE_WORDPIECE, load_wordpiece},
		{"Metaspace", DECODE_METASPACE, load_metaspace},
		{"Replace", DECODE_REPLACE, load_replace},
		{"ByteFallback", DECODE_BYTE_FALLBACK, load_nothing},
		{"Fuse", DECODE_FUSE, load_nothing},
		{"Strip", DECODE_STRIP, load_strip},
		{"BPEDecoder", DECODE_SUFFIX, load_suffix},
	};
	const char *type = load_type(path, component, "decoder");
	struct decode_step *step;
	json_t *list;
	size_t i;
	int err;

	if (!type)
		return -EINVAL;
	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (strcmp(type, kinds[i].type) != 0)
			continue;
		step = decoder_add(decoder, kinds[i].kind, path);
		return step ? kinds[i].load(step, component, path) : -EINVAL;
	}
	if (strcmp(type, "Sequence") != 0)
		return load_refuse(path, "decoder", type);
	err = load_list(component, "decoders", depth, path, &list);
	for (i = 0; !err && i < json_array_size(list); i++)
		err = load_one(decoder, json_array_get(list, i), depth + 1,
			       path);
	return err;
}

int load_decoder(struct tokenizer *tokenizer, const json_t *component,
		 bool byte_level, const char *path)
{
	struct decoder *decoder = &tokenizer->decoder;
	int err;

	/* A tokenizer made here decodes bytes; this one says how. */
	decoder_fini(decoder);
	if (!load_is_absent(component)) {
		err = load_one(decoder, component, 0, path);
		if (err)
			return err;
	} else if (!decoder_add(decoder,
				byte_level ? DECODE_BYTE_LEVEL : DECODE_SPACED,
				path)) {
		return -EINVAL;
	}
	if (!byte_level)
		return 0;
	/* The tokens are bytes already, which only ByteLevel expects. */
	if (!decoder->count || decoder->steps[0].kind != DECODE_BYTE_LEVEL)
		return load_refuse(
			path, "pre_tokenizer ByteLevel with decoder",
			json_string_value(json_object_get(component, "type")));
	decoder->steps[0].kind = DECODE_BYTES;
	return 0;
}
