/*
 * Reading "normalizer" of a tokenizer.json.
 */
#include "data/tokenizer/load.h"

#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int add_form(struct normalizer *normalizer, bool compose,
		    bool compatible, const char *path)
{
	struct normal_step *step =
		normalizer_add(normalizer, NORMAL_FORM, path);

	if (!step)
		return -EINVAL;
	step->compose = compose;
	step->compatible = compatible;
	return 0;
}

static int add_map(struct normalizer *normalizer, normal_map_fn *map,
		   const char *path)
{
	struct normal_step *step = normalizer_add(normalizer, NORMAL_MAP, path);

	if (!step)
		return -EINVAL;
	step->map = map;
	return 0;
}

static int load_bert(struct normalizer *normalizer, const json_t *component,
		     const char *path)
{
	bool clean, chinese, accents, lower;
	int err = json_get_boolean_or(component, "clean_text", true, path,
				      &clean);

	if (!err)
		err = json_get_boolean_or(component, "handle_chinese_chars",
					  true, path, &chinese);
	if (!err)
		err = json_get_boolean_or(component, "lowercase", true, path,
					  &lower);
	if (!err)
		err = json_get_boolean_or(component, "strip_accents", lower,
					  path, &accents);
	if (!err && clean)
		err = add_map(normalizer, normal_bert_clean, path);
	if (!err && chinese)
		err = add_map(normalizer, normal_bert_chinese, path);
	if (!err && accents)
		err = add_form(normalizer, false, false, path);
	if (!err && accents)
		err = add_map(normalizer, normal_without_nonspacing, path);
	if (!err && lower)
		err = add_map(normalizer, normal_lowercase, path);
	return err;
}

static int load_strip(struct normalizer *normalizer, const json_t *component,
		      const char *path)
{
	struct normal_step *step =
		normalizer_add(normalizer, NORMAL_STRIP, path);
	int err;

	if (!step)
		return -EINVAL;
	err = json_get_boolean_or(component, "strip_left", true, path,
				  &step->left);
	if (!err)
		err = json_get_boolean_or(component, "strip_right", true, path,
					  &step->right);
	return err;
}

/* Copies a string, which may be empty. */
static int load_text(const json_t *component, const char *key, const char *path,
		     char **out)
{
	const char *text;
	int err = json_get_string(component, key, path, &text);

	if (err)
		return err;
	*out = strdup(text);
	return *out ? 0 : fail(-ENOMEM, "no memory for a normalizer");
}

static int load_prepend(struct normalizer *normalizer, const json_t *component,
			const char *path)
{
	struct normal_step *step =
		normalizer_add(normalizer, NORMAL_PREPEND, path);

	return step ? load_text(component, "prepend", path, &step->text)
		    : -EINVAL;
}

static int load_replace(struct normalizer *normalizer, const json_t *component,
			const char *path)
{
	struct normal_step *step =
		normalizer_add(normalizer, NORMAL_REPLACE, path);
	int err;

	if (!step)
		return -EINVAL;
	err = load_text(component, "content", path, &step->text);
	if (err)
		return err;
	return load_pattern(component, "normalizer Replace", path,
			    &step->pattern);
}

static int load_precompiled(struct normalizer *normalizer,
			    const json_t *component, const char *path)
{
	struct normal_step *step =
		normalizer_add(normalizer, NORMAL_CHARSMAP, path);
	const char *table;
	int err;

	if (!step)
		return -EINVAL;
	err = json_get_string(component, "precompiled_charsmap", path, &table);
	return err ? err : charsmap_read(&step->charsmap, table, path);
}

/* Those without settings. */
static int load_plain(struct normalizer *normalizer, const char *type,
		      const char *path)
{
	if (strcmp(type, "NFC") == 0)
		return add_form(normalizer, true, false, path);
	if (strcmp(type, "NFD") == 0)
		return add_form(normalizer, false, false, path);
	if (strcmp(type, "NFKC") == 0)
		return add_form(normalizer, true, true, path);
	if (strcmp(type, "NFKD") == 0)
		return add_form(normalizer, false, true, path);
	if (strcmp(type, "Lowercase") == 0)
		return add_map(normalizer, normal_lowercase, path);
	if (strcmp(type, "StripAccents") == 0)
		return add_map(normalizer, normal_without_marks, path);
	if (strcmp(type, "Nmt") == 0)
		return add_map(normalizer, normal_nmt, path);
	if (strcmp(type, "ByteLevel") == 0)
		return add_map(normalizer, normal_byte_level, path);
	return load_refuse(path, "normalizer", type);
}

static int load_one(struct normalizer *normalizer, const json_t *component,
		    unsigned depth, const char *path)
{
	static const struct {
		const char *type;
		int (*load)(struct normalizer *normalizer,
			    const json_t *component, const char *path);
	} kinds[] = {
		{"BertNormalizer", load_bert},     {"Strip", load_strip},
		{"Prepend", load_prepend},         {"Replace", load_replace},
		{"Precompiled", load_precompiled},
	};
	const char *type = load_type(path, component, "normalizer");
	json_t *list;
	size_t i;
	int err;

	if (!type)
		return -EINVAL;
	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (strcmp(type, kinds[i].type) == 0)
			return kinds[i].load(normalizer, component, path);
	}
	if (strcmp(type, "Sequence") != 0)
		return load_plain(normalizer, type, path);
	err = load_list(component, "normalizers", depth, path, &list);
	for (i = 0; !err && i < json_array_size(list); i++)
		err = load_one(normalizer, json_array_get(list, i), depth + 1,
			       path);
	return err;
}

int load_normalizer(struct tokenizer *tokenizer, const json_t *component,
		    const char *path)
{
	if (load_is_absent(component))
		return 0;
	return load_one(&tokenizer->normalizer, component, 0, path);
}
