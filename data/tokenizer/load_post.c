/*
 * Reading "post_processor" of a tokenizer.json: which ids go around a text.
 */
#include "data/tokenizer/load.h"

#include "base/log.h"

#include <errno.h>
#include <string.h>

/* What one processor puts around the text. */
struct around {
	struct token_buffer before, after;
};

static int add_id(const struct tokenizer *tokenizer, const json_t *value,
		  const char *path, struct token_buffer *out)
{
	json_int_t id = json_is_integer(value) ? json_integer_value(value) : -1;
	int32_t token = (int32_t)id;

	if (id < 0 || (size_t)id >= tokenizer->count)
		return fail(-EINVAL,
			    "%s: post_processor: id %lld is not in the "
			    "vocabulary",
			    path, (long long)id);
	return token_buffer_append(out, &token, 1);
}

/* {"SpecialToken": {"id": NAME}}: the ids of NAME in special_tokens. */
static int add_special(const struct tokenizer *tokenizer, const json_t *special,
		       const char *name, const char *path,
		       struct token_buffer *out)
{
	json_t *ids = json_object_get(json_object_get(special, name), "ids");
	size_t i;
	int err = 0;

	if (!json_array_size(ids))
		return fail(-EINVAL, "%s: post_processor: \"%.80s\" has no ids",
			    path, name);
	for (i = 0; i < json_array_size(ids) && !err; i++)
		err = add_id(tokenizer, json_array_get(ids, i), path, out);
	return err;
}

static int load_template(const struct tokenizer *tokenizer,
			 const json_t *component, const char *path,
			 struct around *around)
{
	json_t *special = json_object_get(component, "special_tokens");
	struct token_buffer *out = &around->before;
	json_t *single;
	size_t i, texts = 0;
	int err = json_get_array(component, "single", path, &single);

	for (i = 0; !err && i < json_array_size(single); i++) {
		json_t *part = json_array_get(single, i);
		const char *name = json_string_value(json_object_get(
			json_object_get(part, "SpecialToken"), "id"));

		if (name) {
			err = add_special(tokenizer, special, name, path, out);
		} else if (json_object_get(part, "Sequence")) {
			out = &around->after;
			texts++;
		} else {
			err = fail(-EINVAL,
				   "%s: post_processor: \"single\" has an "
				   "unknown part",
				   path);
		}
	}
	if (!err && texts != 1)
		err = fail(-EINVAL,
			   "%s: post_processor: \"single\" has the text %zu "
			   "times",
			   path, texts);
	return err;
}

/* "cls": [text, id] before the text, "sep" after it. */
static int load_bert(const struct tokenizer *tokenizer, const json_t *component,
		     const char *path, struct around *around)
{
	json_t *before, *after;
	int err = json_get_array(component, "cls", path, &before);

	if (!err)
		err = json_get_array(component, "sep", path, &after);
	if (!err)
		err = add_id(tokenizer, json_array_get(before, 1), path,
			     &around->before);
	if (!err)
		err = add_id(tokenizer, json_array_get(after, 1), path,
			     &around->after);
	return err;
}

/* Puts what a further processor adds around what there is. */
static int wrap(struct tokenizer *tokenizer, struct around *around)
{
	int err = token_buffer_append(&around->before, tokenizer->before.ids,
				      tokenizer->before.count);
	struct token_buffer inner = tokenizer->before;

	if (err)
		return err;
	tokenizer->before = around->before;
	around->before = inner;
	return token_buffer_append(&tokenizer->after, around->after.ids,
				   around->after.count);
}

static int load_one(struct tokenizer *tokenizer, const json_t *component,
		    unsigned depth, const char *path)
{
	const char *type = load_type(path, component, "post_processor");
	struct around around = {0};
	json_t *list;
	size_t i;
	int err;

	if (!type)
		return -EINVAL;
	if (strcmp(type, "Sequence") == 0) {
		err = load_list(component, "processors", depth, path, &list);
		for (i = 0; !err && i < json_array_size(list); i++)
			err = load_one(tokenizer, json_array_get(list, i),
				       depth + 1, path);
		return err;
	}
	if (strcmp(type, "ByteLevel") == 0)
		return 0; /* about offsets only */
	if (strcmp(type, "TemplateProcessing") == 0)
		err = load_template(tokenizer, component, path, &around);
	else if (strcmp(type, "BertProcessing") == 0 ||
		 strcmp(type, "RobertaProcessing") == 0)
		err = load_bert(tokenizer, component, path, &around);
	else
		return load_refuse(path, "post_processor", type);
	if (!err)
		err = wrap(tokenizer, &around);
	token_buffer_fini(&around.before);
	token_buffer_fini(&around.after);
	return err;
}

int load_post_processor(struct tokenizer *tokenizer, const json_t *component,
			const char *path)
{
	if (load_is_absent(component))
		return 0;
	return load_one(tokenizer, component, 0, path);
}
