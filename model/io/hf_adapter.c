#include "model/io/hf_adapter.h"
#include "base/digest.h"
#include "base/json.h"
#include "base/log.h"
#include "base/text.h"
#include "model/io/hf_config.h"
#include "model/io/safetensors.h"
#include "model/model.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define CONFIG_NAME      "adapter_config.json"
#define CONFIG_BYTES_MAX ((size_t)1 << 20)
#define TENSOR_PREFIX    "base_model.model."
#define ALL_LINEAR       "all-linear"

bool hf_adapter_is(const char *folder)
{
	return files_holds(folder, CONFIG_NAME);
}

/* ---- reading ---- */

/* Keys that would change the result, and the values that leave it alone. */
static const struct {
	const char *key;
	const char *accepted[6];
} plain_only[] = {
	{"peft_type", {"\"LORA\""}},
	{"bias", {"\"none\""}},
	/* Others take s B A off the base model's weights first. */
	{"init_lora_weights",
	 {"true", "false", "null", "\"gaussian\"", "\"eva\"",
	  "\"orthogonal\""}},
	{"use_rslora", {"false", "null"}},
	{"use_dora", {"false", "null"}},
	{"use_qalora", {"false", "null"}},
	{"alora_invocation_tokens", {"null"}},
	{"lora_bias", {"false", "null"}},
	{"layers_to_transform", {"null"}},
	{"rank_pattern", {"{}", "null"}},
	{"alpha_pattern", {"{}", "null"}},
	{"modules_to_save", {"null", "[]"}},
	{"exclude_modules", {"null", "[]"}},
	{"trainable_token_indices", {"null"}},
	{"target_parameters", {"null", "[]"}},
	{"megatron_config", {"null"}},
	{"layer_replication", {"null"}},
	{"use_bdlora", {"null", "false"}},
	{"arrow_config", {"null"}},
	{"kasa_config", {"null"}},
	{"monteclora_config", {"null"}},
	{"velora_config", {"null"}},
};

static bool is_accepted(const json_t *value, const char *const *accepted)
{
	char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
	bool found = false;

	for (size_t i = 0;
	     text && i < ARRAY_SIZE(plain_only[0].accepted) && accepted[i]; i++)
		found = found || strcmp(text, accepted[i]) == 0;
	free(text);
	return found;
}

static int check_plain(const json_t *root, const char *path)
{
	for (size_t i = 0; i < ARRAY_SIZE(plain_only); i++) {
		const json_t *value = json_object_get(root, plain_only[i].key);

		if (value && !is_accepted(value, plain_only[i].accepted))
			return fail(-EINVAL,
				    "%s: '%s' is not %s, and other adapters "
				    "are not supported",
				    path, plain_only[i].key,
				    plain_only[i].accepted[0]);
	}
	return 0;
}

/*
 * PEFT writes "all-linear" out as the paths of all modules: model.layers.0.mlp.up,
 * model.layers.1.mlp.up, ... Here a target is what follows the layer's number,
 * in every layer.
 */
struct target {
	char name[ADAPTER_TARGET_BYTES];
	size_t layers; /* that are named with their number; 0: without */
};

#define TARGETS_MAX 32

struct targets {
	struct target list[TARGETS_MAX];
	size_t count;
};

/* What follows "layers.12."; the whole name if there is no number. */
static const char *after_number(const char *name, bool *numbered)
{
	const char *part = name;

	*numbered = false;
	while (part) {
		size_t digits = strspn(part, "0123456789");

		if (digits > 0 && part[digits] == '.') {
			*numbered = true;
			return part + digits + 1;
		}
		part = strchr(part, '.');
		part = part ? part + 1 : NULL;
	}
	return name;
}

static int add_target(struct targets *targets, const char *path,
		      const char *name)
{
	bool numbered;
	const char *rest = after_number(name, &numbered);
	size_t i = 0;

	while (i < targets->count && strcmp(targets->list[i].name, rest) != 0)
		i++;
	if (i == TARGETS_MAX ||
	    (i == targets->count &&
	     text_copy(targets->list[i].name, sizeof(targets->list[i].name),
		       rest)))
		return fail(-EINVAL,
			    "%s: 'target_modules' has more, or longer, names "
			    "than a model has linear maps (%.64s)",
			    path, rest);
	if (i == targets->count)
		targets->count++;
	targets->list[i].layers += numbered;
	return 0;
}

/* Each is in all of the model's layers; `layers` 0: not known. */
static int join_targets(const struct targets *targets, const char *path,
			unsigned layers, struct model_adapters *out)
{
	for (size_t i = 0; i < targets->count; i++) {
		const struct target *target = &targets->list[i];
		size_t used = strlen(out->targets);
		int length;

		if (layers && target->layers && target->layers != layers)
			return fail(
				-EINVAL,
				"%s: '%s' has adapters in %zu of %u layers; "
				"only all or none are supported",
				path, target->name, target->layers, layers);
		length = snprintf(out->targets + used,
				  sizeof(out->targets) - used, "%s%s",
				  used ? "," : "", target->name);
		if (length < 0 || (size_t)length >= sizeof(out->targets) - used)
			return fail(-EINVAL,
				    "%s: the names in 'target_modules' are "
				    "longer than %zu bytes",
				    path, sizeof(out->targets) - 1);
	}
	return 0;
}

static int read_targets(const json_t *root, const char *path, unsigned layers,
			struct model_adapters *out)
{
	const json_t *list = json_object_get(root, "target_modules");
	const char *all = json_string_value(list);
	struct targets targets = {.count = 0};
	const json_t *target;
	size_t index;

	if (all && strcmp(all, ALL_LINEAR) == 0)
		return text_copy(out->targets, sizeof(out->targets), all);
	if (!json_is_array(list) || json_array_size(list) == 0)
		return fail(-EINVAL,
			    "%s: 'target_modules' is neither a list of names "
			    "nor \"" ALL_LINEAR "\"",
			    path);
	json_array_foreach(list, index, target)
	{
		const char *name = json_string_value(target);
		int rc;

		if (!name || !*name || strchr(name, ','))
			return fail(-EINVAL,
				    "%s: entry %zu of 'target_modules' is no "
				    "name of a module",
				    path, index);
		rc = add_target(&targets, path, name);
		if (rc)
			return rc;
	}
	return join_targets(&targets, path, layers, out);
}

static int read_root(const json_t *root, const char *path, unsigned layers,
		     struct model_adapters *out, char base[FILES_PATH_BYTES])
{
	const char *name;
	int64_t rank;
	int rc;

	if (!json_is_object(root))
		return fail(-EINVAL, "%s: not a JSON object", path);
	rc = check_plain(root, path);
	if (!rc)
		rc = json_get_integer(root, "r", 1, ADAPTER_RANK_MAX, path,
				      &rank);
	if (!rc)
		rc = json_get_real_or(root, "lora_alpha", 1e-6, 1e6, 8.0, path,
				      &out->alpha);
	if (!rc)
		rc = read_targets(root, path, layers, out);
	if (rc)
		return rc;
	out->rank = (unsigned)rank;
	name = json_string_value(
		json_object_get(root, "base_model_name_or_path"));
	if (text_copy(base, FILES_PATH_BYTES, name ? name : ""))
		return fail(-EINVAL,
			    "%s: 'base_model_name_or_path' is too long", path);
	return 0;
}

static int read_folder(const char *folder, unsigned layers,
		       struct model_adapters *out, char base[FILES_PATH_BYTES])
{
	struct model_adapters adapters = {0};
	char path[FILES_PATH_BYTES];
	json_t *root;
	int rc = files_join(path, sizeof(path), folder, CONFIG_NAME);

	if (!rc)
		rc = json_read(path, CONFIG_BYTES_MAX, &root);
	if (rc)
		return rc;
	rc = read_root(root, path, layers, &adapters, base);
	json_decref(root);
	if (!rc)
		*out = adapters;
	return rc;
}

int hf_adapter_read(const char *folder, struct model_adapters *out,
		    char base[FILES_PATH_BYTES])
{
	return read_folder(folder, 0, out, base);
}

int hf_adapter_read_model(const char *folder, const char *given,
			  struct model_config *out, char base[FILES_PATH_BYTES])
{
	char unused[FILES_PATH_BYTES];
	struct model_adapters adapters;
	struct model_config config;
	int rc;

	base[0] = '\0';
	if (!hf_adapter_is(folder))
		return given ? fail(-EINVAL,
				    "%s holds no adapters, so --base has "
				    "nothing to say",
				    folder)
			     : hf_config_read(folder, out);
	rc = hf_adapter_read(folder, &adapters, base);
	if (!rc && given && text_copy(base, FILES_PATH_BYTES, given))
		rc = fail(-ENAMETOOLONG, "path too long: %.60s...", given);
	if (rc)
		return rc;
	if (!files_is_folder(base))
		return fail(-ENOENT,
			    "%s: the base model of these adapters, '%s', is no "
			    "folder here; say where it is with --base DIR",
			    folder, base);
	if (hf_adapter_is(base))
		return fail(-EINVAL,
			    "%s: the base model, %s, holds adapters itself; "
			    "merge them first",
			    folder, base);
	rc = hf_config_read(base, &config);
	if (!rc) /* once more, now that the number of layers is known */
		rc = read_folder(folder, config.layers, &config.adapters,
				 unused);
	if (!rc)
		*out = config;
	return rc;
}

/* ---- writing ---- */

static json_t *targets_to_json(const char *targets)
{
	json_t *list;

	if (strcmp(targets, ALL_LINEAR) == 0)
		return json_string(ALL_LINEAR);
	list = json_array();
	while (*targets) {
		size_t length = strcspn(targets, ",");

		if (length > 0 &&
		    json_array_append_new(list, json_stringn(targets, length)))
			break; /* no memory: too short, and found so */
		targets += length;
		targets += *targets == ',';
	}
	return list;
}

/* PEFT's type is int, though fractions work. */
static json_t *alpha_to_json(double alpha)
{
	return alpha == (double)(int)alpha ? json_integer((int)alpha)
					   : json_real(alpha);
}

int hf_adapter_write(const char *folder, const struct model_config *config,
		     const char *base)
{
	char path[FILES_PATH_BYTES];
	json_t *root;
	int rc = files_join(path, sizeof(path), folder, CONFIG_NAME);

	if (rc)
		return rc;
	root = json_pack("{s:s, s:s, s:s, s:i, s:o, s:f, s:o, s:s, s:b, s:b, "
			 "s:b, s:b}",
			 "peft_type", "LORA", "task_type", "CAUSAL_LM",
			 "base_model_name_or_path", base, "r",
			 (int)config->adapters.rank, "lora_alpha",
			 alpha_to_json(config->adapters.alpha), "lora_dropout",
			 0.0, "target_modules",
			 targets_to_json(config->adapters.targets), "bias",
			 "none", "fan_in_fan_out", hf_config_transposes(config),
			 "inference_mode", 1, "use_rslora", 0, "use_dora", 0);
	rc = root ? json_write(path, root)
		  : fail(-ENOMEM, "%s: no memory to write it", path);
	json_decref(root);
	return rc;
}

/* ---- tensors ---- */

void hf_adapter_tensor_name(const char *name, char *out, size_t size)
{
	snprintf(out, size, TENSOR_PREFIX "%s", name);
}

static bool is_adapter_of(const struct model *model, const char *name)
{
	size_t prefix = sizeof(TENSOR_PREFIX) - 1;
	const struct parameter *parameter;

	if (strncmp(name, TENSOR_PREFIX, prefix) != 0)
		return false;
	parameter = model_parameter_find(model, name + prefix);
	return parameter && parameter->adapter;
}

int hf_adapter_open(const char *folder, const char *stem,
		    const struct model *model, struct safetensors **out)
{
	struct safetensors *files;
	int rc = safetensors_open_folder(folder, stem, &files);

	if (rc)
		return rc;
	for (size_t i = 0; i < safetensors_count(files); i++) {
		const struct safetensors_tensor *tensor =
			safetensors_tensor(files, i);

		if (is_adapter_of(model, tensor->name))
			continue;
		rc = fail(-EINVAL,
			  "%s: tensor '%s' belongs to no adapter of this model",
			  tensor->file, tensor->name);
		safetensors_close(files);
		return rc;
	}
	*out = files;
	return 0;
}

/* Bytes of the begin, the middle and the end of each tensor. */
#define SAMPLE_BYTES ((size_t)4096)

static uint64_t tensor_hash(const struct safetensors_tensor *tensor)
{
	size_t most = MIN(SAMPLE_BYTES, tensor->bytes);
	size_t places[] = {0, (tensor->bytes - most) / 2, tensor->bytes - most};
	uint64_t parts[ARRAY_SIZE(places) + 3] = {
		digest_hash64(tensor->name, strlen(tensor->name)),
		(uint64_t)tensor->dtype,
		digest_hash64(tensor->shape,
			      tensor->rank * sizeof(*tensor->shape)),
	};

	for (size_t i = 0; i < ARRAY_SIZE(places); i++)
		parts[3 + i] = digest_hash64(tensor->data + places[i], most);
	return digest_hash64(parts, sizeof(parts));
}

int hf_adapter_base_hash(const char *base, uint64_t *out)
{
	struct safetensors *files;
	uint64_t pair[2] = {0};
	int rc = safetensors_open(base, &files);

	if (rc)
		return rc;
	for (size_t i = 0; i < safetensors_count(files); i++) {
		pair[1] = tensor_hash(safetensors_tensor(files, i));
		pair[0] = digest_hash64(pair, sizeof(pair));
	}
	safetensors_close(files);
	*out = pair[0];
	return 0;
}
