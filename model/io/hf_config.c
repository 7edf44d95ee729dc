#include "model/io/hf_config.h"
#include "base/files.h"
#include "base/json.h"
#include "base/log.h"
#include "base/text.h"
#include "model/io/hf_config_family.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CONFIG_NAME      "config.json"
#define CONFIG_BYTES_MAX (1 << 20)

static const struct hf_family *const families[] = {
	&hf_config_gpt2,  &hf_config_llama, &hf_config_mistral,
	&hf_config_qwen2, &hf_config_qwen3,
};

/* ---- reading ---- */

static const struct hf_family *family_of_type(const char *model_type)
{
	for (size_t i = 0; i < ARRAY_SIZE(families); i++)
		if (strcmp(model_type, families[i]->model_type) == 0)
			return families[i];
	return NULL;
}

static int find_family(const json_t *root, const char *path,
		       const struct hf_family **out)
{
	const char *type = NULL;
	struct text_builder known;
	char *names;
	int code = json_get_string(root, "model_type", path, &type);

	if (code != 0)
		return code;
	*out = family_of_type(type);
	if (*out != NULL)
		return 0;
	text_builder_init(&known);
	for (size_t i = 0; i < ARRAY_SIZE(families); i++)
		text_builder_append(&known, "%s%s", i ? ", " : "",
				    families[i]->model_type);
	names = text_builder_finish(&known);
	code = fail(-EINVAL,
		    "%s: model_type '%.100s' is not supported (supported: %s)",
		    path, type, names != NULL ? names : "");
	free(names);
	return code;
}

/* An absent or empty list of architectures is the family's own. */
static int check_architecture(const struct hf_family *family,
			      const json_t *root, const char *path)
{
	const json_t *list = json_object_get(root, "architectures");
	const char *name;

	if (list == NULL || json_is_null(list) ||
	    (json_is_array(list) && json_array_size(list) == 0))
		return 0;
	name = json_string_value(json_array_get(list, 0));
	if (name == NULL || json_array_size(list) != 1)
		return fail(-EINVAL, "%s: architectures: one name is expected",
			    path);
	for (size_t i = 0; i < ARRAY_SIZE(family->architectures) &&
			   family->architectures[i] != NULL;
	     i++)
		if (strcmp(name, family->architectures[i]) == 0)
			return 0;
	return fail(-EINVAL,
		    "%s: architecture '%.100s' is not supported (of %s: %s)",
		    path, name, family->model_type, family->architectures[0]);
}

static int check_fixed(const struct hf_fixed *fixed, const json_t *root,
		       const char *path)
{
	const json_t *value = json_object_get(root, fixed->name);
	char *text;
	int code;

	if (value == NULL || json_is_null(value))
		return 0;
	text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
	if (text == NULL)
		return fail(-ENOMEM, "%s: no memory to read it", path);
	for (size_t i = 0;
	     i < ARRAY_SIZE(fixed->accepted) && fixed->accepted[i] != NULL; i++)
		if (strcmp(text, fixed->accepted[i]) == 0) {
			free(text);
			return 0;
		}
	code = fail(-EINVAL,
		    "%s: %s = %.100s changes what the model computes and is "
		    "not supported (%s is)",
		    path, fixed->name, text, fixed->accepted[0]);
	free(text);
	return code;
}

static int read_size(const struct hf_key *key, const json_t *root,
		     const char *path, unsigned *out)
{
	int64_t value = 0;
	int code = key->required ? json_get_integer(root, key->name,
						    (int64_t)key->minimum,
						    (int64_t)key->maximum, path,
						    &value)
				 : json_get_integer_or(root, key->name,
						       (int64_t)key->minimum,
						       (int64_t)key->maximum,
						       (int64_t)key->fallback,
						       path, &value);

	if (code == 0)
		*out = (unsigned)value;
	return code;
}

/* An integer, null for none, or a list of which the first counts. */
static int read_token_id(const struct hf_key *key, const json_t *root,
			 const char *path, int *out)
{
	const json_t *value = json_object_get(root, key->name);
	json_int_t id;

	if (value == NULL) {
		*out = (int)key->fallback;
		return 0;
	}
	if (json_is_array(value))
		value = json_array_get(value, 0);
	if (value == NULL || json_is_null(value)) {
		*out = -1;
		return 0;
	}
	id = json_integer_value(value);
	if (!json_is_integer(value) || id < -1 || id > INT32_MAX)
		return fail(-EINVAL, "%s: %s is no token id", path, key->name);
	*out = (int)id;
	return 0;
}

static int read_key(const struct hf_key *key, const json_t *root,
		    const char *path, struct model_config *config)
{
	void *field = (char *)config + key->offset;

	switch (key->kind) {
	case HF_SIZE:
		return read_size(key, root, path, field);
	case HF_REAL:
		return json_get_real_or(root, key->name, key->minimum,
					key->maximum, key->fallback, path,
					field);
	case HF_BOOLEAN:
		return json_get_boolean_or(root, key->name,
					   key->fallback != 0.0, path, field);
	case HF_TOKEN_ID:
		return read_token_id(key, root, path, field);
	}
	return 0;
}

/* An id taken from the family's defaults may lie beyond a small vocabulary. */
static void drop_default_ids(const struct hf_family *family, const json_t *root,
			     struct model_config *config)
{
	for (const struct hf_key *key = family->keys; key->name; key++) {
		int *id = (int *)(void *)((char *)config + key->offset);

		if (key->kind == HF_TOKEN_ID &&
		    json_object_get(root, key->name) == NULL && *id >= 0 &&
		    (unsigned)*id >= config->vocab_size)
			*id = -1;
	}
}

static int read_root(const json_t *root, const char *path,
		     struct model_config *config)
{
	const struct hf_family *family = NULL;
	int code;

	if (!json_is_object(root))
		return fail(-EINVAL, "%s: is not a JSON object", path);
	code = find_family(root, path, &family);
	if (code == 0)
		code = check_architecture(family, root, path);
	if (code != 0)
		return code;
	for (const struct hf_fixed *fixed = family->fixed; fixed->name;
	     fixed++) {
		code = check_fixed(fixed, root, path);
		if (code != 0)
			return code;
	}
	code = text_copy(config->family, sizeof(config->family),
			 family->family);
	ASSERT(code == 0);
	for (const struct hf_key *key = family->keys; key->name; key++) {
		code = read_key(key, root, path, config);
		if (code != 0)
			return code;
	}
	drop_default_ids(family, root, config);
	if (family->read != NULL) {
		code = family->read(root, path, config);
		if (code != 0)
			return code;
	}
	return family->check != NULL ? family->check(config, path) : 0;
}

int hf_config_parse(const char *text, size_t length, const char *path,
		    struct model_config *out)
{
	struct model_config config = {.bos_id = -1, .eos_id = -1};
	json_t *root;
	int code = json_parse(text, length, path, &root);

	if (code != 0)
		return code;
	code = read_root(root, path, &config);
	json_decref(root);
	if (code == 0)
		*out = config;
	return code;
}

int hf_config_read(const char *folder, struct model_config *out)
{
	char path[FILES_PATH_BYTES];
	size_t length;
	char *text;
	int code = files_join(path, sizeof(path), folder, CONFIG_NAME);

	if (code == 0)
		code = files_read(path, CONFIG_BYTES_MAX, &text, &length);
	if (code != 0)
		return code;
	code = hf_config_parse(text, length, path, out);
	free(text);
	return code;
}

/* ---- writing ---- */

static json_t *key_value(const struct hf_key *key,
			 const struct model_config *config)
{
	const void *field = (const char *)config + key->offset;

	switch (key->kind) {
	case HF_SIZE:
		if (*(const unsigned *)field == 0 && key->null_when_zero)
			return json_null();
		return json_integer(*(const unsigned *)field);
	case HF_REAL:
		return json_real(*(const double *)field);
	case HF_BOOLEAN:
		return json_boolean(*(const bool *)field);
	case HF_TOKEN_ID:
		return *(const int *)field < 0
			       ? json_null()
			       : json_integer(*(const int *)field);
	}
	return NULL;
}

/* False when memory runs out, as jansson's functions tell by -1. */
static bool fill_root(json_t *root, const struct hf_family *family,
		      const struct model_config *config, const char *dtype)
{
	int failed =
		json_object_set_new(root, "architectures",
				    json_pack("[s]", family->architectures[0]));

	failed |= json_object_set_new(root, "model_type",
				      json_string(family->model_type));
	for (const struct hf_key *key = family->keys; key->name; key++)
		failed |= json_object_set_new(root, key->name,
					      key_value(key, config));
	for (const struct hf_fixed *fixed = family->fixed; fixed->name; fixed++)
		if (fixed->write)
			failed |= json_object_set_new(
				root, fixed->name,
				json_loads(fixed->accepted[0], JSON_DECODE_ANY,
					   NULL));
	if (family->write != NULL && !family->write(root, config))
		return false;
	/* transformers 5 reads the first, 4 the second. */
	failed |= json_object_set_new(root, "dtype", json_string(dtype));
	failed |= json_object_set_new(root, "torch_dtype", json_string(dtype));
	return failed == 0;
}

static const struct hf_family *family_named(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(families); i++)
		if (strcmp(name, families[i]->family) == 0)
			return families[i];
	return NULL;
}

bool hf_config_transposes(const struct model_config *config)
{
	const struct hf_family *family = family_named(config->family);

	return family != NULL && family->transposes;
}

int hf_config_write(const char *folder, const struct model_config *config,
		    const char *dtype)
{
	const struct hf_family *family = family_named(config->family);
	char path[FILES_PATH_BYTES];
	json_t *root;
	int code = files_join(path, sizeof(path), folder, CONFIG_NAME);

	if (code != 0)
		return code;
	if (family == NULL)
		return fail(-EINVAL, "%s: family '%s' has no config.json", path,
			    config->family);
	code = family->check != NULL ? family->check(config, path) : 0;
	if (code != 0)
		return code;
	root = json_object();
	if (root != NULL && fill_root(root, family, config, dtype))
		code = json_write(path, root);
	else
		code = fail(-ENOMEM, "%s: no memory to write it", path);
	json_decref(root);
	return code;
}

/* ---- carrying over ---- */

/*
 * Spelled otherwise where they say anything, or about the file itself. What is
 * written has those of them that hold.
 */
static const char *const left_behind[] = {
	"dtype",         "torch_dtype",         "transformers_version",
	"rope_theta",    "rope_scaling",        "rope_parameters",
	"architectures", "quantization_config",
};

static bool is_left_behind(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(left_behind); i++)
		if (strcmp(name, left_behind[i]) == 0)
			return true;
	return false;
}

/* A list of ids that says more than the one id written. */
static bool extends(const json_t *list, const json_t *written)
{
	return json_is_array(list) && json_is_integer(written) &&
	       json_equal(json_array_get(list, 0), written);
}

static int carry_keys(json_t *root, json_t *source)
{
	const char *name;
	json_t *value;
	int failed = 0;

	json_object_foreach(source, name, value)
	{
		const json_t *written = json_object_get(root, name);

		if (is_left_behind(name) ||
		    (written != NULL && !extends(value, written)))
			continue;
		failed |= json_object_set(root, name, value);
	}
	return failed;
}

static int read_object(const char *folder, char path[FILES_PATH_BYTES],
		       json_t **out)
{
	int code = files_join(path, FILES_PATH_BYTES, folder, CONFIG_NAME);

	if (code == 0)
		code = json_read(path, CONFIG_BYTES_MAX, out);
	if (code == 0 && !json_is_object(*out)) {
		json_decref(*out);
		*out = NULL;
		code = fail(-EINVAL, "%s: is not a JSON object", path);
	}
	return code;
}

int hf_config_carry_over(const char *folder, const char *source)
{
	char from[FILES_PATH_BYTES], path[FILES_PATH_BYTES];
	json_t *carried = NULL, *root = NULL;
	int code = read_object(source, from, &carried);

	if (code == 0)
		code = read_object(folder, path, &root);
	if (code == 0 && carry_keys(root, carried) != 0)
		code = fail(-ENOMEM, "%s: no memory to write it", path);
	if (code == 0)
		code = json_write(path, root);
	json_decref(root);
	json_decref(carried);
	return code;
}
