#include "base/files.h"
#include "base/log.h"
#include "base/text.h"
#include "engine/checkpoint.h"
#include "model/io/hf_adapter.h"
#include "model/io/hf_config.h"
#include "model/io/safetensors.h"
#include "model/model.h"
#include "tools/commands.h"
#include "tools/inspect_corpus.h"

#include <errno.h>

static const struct option_spec table[] = {
	{.name = "tensors",
	 .kind = OPTION_FLAG,
	 .group = "Output",
	 .help = "list every tensor of a model"},
	{.name = "verify",
	 .kind = OPTION_FLAG,
	 .help = "read everything and compare it with its digests"},
	{.name = "json", .kind = OPTION_FLAG, .help = "print a JSON object"},
	{.name = NULL},
};

const struct option_command inspect_command = {
	.name = "inspect",
	.synopsis = "DIR [options]",
	.summary = "what a model, a checkpoint, a run or a corpus holds",
	.table = table,
	.operands = "DIR ...",
};

/* ---- a model folder, or a checkpoint ---- */

static json_t *tensor_json(const struct safetensors_tensor *tensor)
{
	json_t *shape = json_array();

	for (unsigned i = 0; i < tensor->rank; i++)
		json_array_append_new(
			shape, json_integer((json_int_t)tensor->shape[i]));
	return json_pack("{s:s, s:s, s:o, s:I}", "name", tensor->name, "dtype",
			 safetensors_dtype_name(tensor->dtype), "shape", shape,
			 "bytes", (json_int_t)tensor->bytes);
}

static json_t *tensors_json(const struct safetensors *files)
{
	json_t *array = json_array();

	for (size_t i = 0; i < safetensors_count(files); i++)
		json_array_append_new(
			array, tensor_json(safetensors_tensor(files, i)));
	return array;
}

static uint64_t total_bytes(const struct safetensors *files)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < safetensors_count(files); i++)
		bytes += safetensors_tensor(files, i)->bytes;
	return bytes;
}

/* "F32", or "BF16, F32": the types there are, by how many are of them. */
static const char *dtypes_text(const struct safetensors *files, char *out,
			       size_t size)
{
	size_t counts[SAFETENSORS_DTYPES] = {0}, used = 0;

	for (size_t i = 0; i < safetensors_count(files); i++)
		counts[safetensors_tensor(files, i)->dtype]++;
	out[0] = '\0';
	for (;;) {
		unsigned most = 0;

		for (unsigned d = 1; d < SAFETENSORS_DTYPES; d++)
			if (counts[d] > counts[most])
				most = d;
		if (counts[most] == 0 || used >= size)
			return out;
		used += (size_t)snprintf(out + used, size - used, "%s%s",
					 used ? ", " : "",
					 safetensors_dtype_name(most));
		counts[most] = 0;
	}
}

/* Bytes of the masters beside a rounded model; 0: there are none. */
static int measure_masters(const char *folder, uint64_t *bytes)
{
	struct safetensors *masters;
	bool there;
	int rc = checkpoint_has_masters(folder, &there);

	*bytes = 0;
	if (rc || !there)
		return rc;
	rc = safetensors_open_folder(folder, CHECKPOINT_MASTERS, &masters);
	if (rc)
		return rc;
	*bytes = total_bytes(masters);
	safetensors_close(masters);
	return 0;
}

static json_t *model_json(const struct options *options, const char *folder,
			  const struct model *model,
			  const struct safetensors *files, uint64_t masters)
{
	const struct model_config *c = model_config(model);
	char dtypes[64];
	json_t *json = json_pack(
		"{s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:b, s:I, s:I, s:I, s:s}",
		"kind", "model", "folder", folder, "family", c->family,
		"layers", (int)c->layers, "width", (int)c->width, "heads",
		(int)c->heads, "context", (int)c->context, "vocab_size",
		(int)c->vocab_size, "tied", c->tied, "parameters",
		(json_int_t)model_parameter_total(model), "tensors",
		(json_int_t)safetensors_count(files), "bytes",
		(json_int_t)total_bytes(files), "dtype",
		dtypes_text(files, dtypes, sizeof(dtypes)));

	if (masters)
		json_object_set_new(json, "masters_bytes",
				    json_integer((json_int_t)masters));
	if (options_flag(options, "tensors"))
		json_object_set_new(json, "tensor_list", tensors_json(files));
	return json;
}

static void print_shape(const struct safetensors_tensor *tensor)
{
	printf("[");
	for (unsigned i = 0; i < tensor->rank; i++)
		printf("%s%zu", i ? ", " : "", tensor->shape[i]);
	printf("]\n");
}

static void print_tensors(const struct options *options,
			  const struct safetensors *files)
{
	for (size_t i = 0;
	     options_flag(options, "tensors") && i < safetensors_count(files);
	     i++) {
		const struct safetensors_tensor *tensor =
			safetensors_tensor(files, i);

		printf("  %-44s %-5s ", tensor->name,
		       safetensors_dtype_name(tensor->dtype));
		print_shape(tensor);
	}
}

static void print_model(const struct options *options, const char *folder,
			const struct model *model,
			const struct safetensors *files, uint64_t masters)
{
	const struct model_config *c = model_config(model);
	char parameters[32], bytes[32], dtypes[64];

	text_grouped(parameters, sizeof(parameters),
		     model_parameter_total(model));
	text_bytes(bytes, sizeof(bytes), total_bytes(files));
	printf("%s: a %s model\n", folder, c->family);
	printf("  layers %u, width %u, heads %u, MLP %u, context %u, vocabulary %u%s\n",
	       c->layers, c->width, c->heads, c->inner, c->context,
	       c->vocab_size, c->tied ? ", tied head" : "");
	printf("  %s parameters in %zu tensors, %s, %s\n", parameters,
	       safetensors_count(files), bytes,
	       dtypes_text(files, dtypes, sizeof(dtypes)));
	if (masters)
		printf("  float masters beside it, to go on from: %s\n",
		       text_bytes(bytes, sizeof(bytes), masters));
	print_tensors(options, files);
}

static int inspect_model(const struct options *options, const char *folder)
{
	struct model_config config;
	struct model *model;
	struct safetensors *files;
	uint64_t masters = 0;
	int rc = hf_config_read(folder, &config);

	if (!rc)
		rc = model_create(&config, &model);
	if (rc)
		return rc;
	rc = measure_masters(folder, &masters);
	if (!rc)
		rc = safetensors_open(folder, &files);
	if (!rc && options_flag(options, "json")) {
		json_t *json =
			model_json(options, folder, model, files, masters);

		json_dumpf(json, stdout, JSON_INDENT(2));
		puts("");
		json_decref(json);
	} else if (!rc) {
		print_model(options, folder, model, files, masters);
	}
	if (!rc)
		safetensors_close(files);
	model_destroy(model);
	return rc;
}

/* ---- a folder of adapters, or such a checkpoint ---- */

static void print_adapters(const struct options *options, const char *folder,
			   const struct model_adapters *adapters,
			   const char *base, const struct safetensors *files)
{
	char parameters[32], bytes[32];
	uint64_t count = 0;

	for (size_t i = 0; i < safetensors_count(files); i++)
		count += safetensors_tensor(files, i)->count;
	text_grouped(parameters, sizeof(parameters), count);
	text_bytes(bytes, sizeof(bytes), total_bytes(files));
	printf("%s: low-rank adapters\n", folder);
	printf("  rank %u, alpha %g, of %s\n", adapters->rank, adapters->alpha,
	       adapters->targets);
	printf("  base model %s\n", base[0] ? base : "not named");
	printf("  %s parameters in %zu tensors, %s\n", parameters,
	       safetensors_count(files), bytes);
	print_tensors(options, files);
}

static json_t *adapters_json(const struct options *options, const char *folder,
			     const struct model_adapters *adapters,
			     const char *base, const struct safetensors *files)
{
	json_t *json = json_pack(
		"{s:s, s:s, s:s, s:i, s:f, s:s, s:I, s:I}", "kind", "adapters",
		"folder", folder, "base", base, "rank", (int)adapters->rank,
		"alpha", adapters->alpha, "targets", adapters->targets,
		"tensors", (json_int_t)safetensors_count(files), "bytes",
		(json_int_t)total_bytes(files));

	if (options_flag(options, "tensors"))
		json_object_set_new(json, "tensor_list", tensors_json(files));
	return json;
}

/* The base model need not be here. */
static int inspect_adapters(const struct options *options, const char *folder)
{
	struct model_adapters adapters;
	struct safetensors *files;
	char base[FILES_PATH_BYTES];
	int rc = hf_adapter_read(folder, &adapters, base);

	if (!rc)
		rc = safetensors_open_folder(folder, HF_ADAPTER_STEM, &files);
	if (rc)
		return rc;
	if (options_flag(options, "json")) {
		json_t *json =
			adapters_json(options, folder, &adapters, base, files);

		json_dumpf(json, stdout, JSON_INDENT(2));
		puts("");
		json_decref(json);
	} else {
		print_adapters(options, folder, &adapters, base, files);
	}
	safetensors_close(files);
	return 0;
}

/* ---- what kind of folder is it? ---- */

static int inspect_checkpoint(const struct options *options, const char *folder)
{
	int rc =
		options_flag(options, "verify") ? checkpoint_verify(folder) : 0;

	if (!rc && options_flag(options, "verify"))
		log_info("%s: every file is as its manifest says", folder);
	if (rc)
		return rc;
	return hf_adapter_is(folder) ? inspect_adapters(options, folder)
				     : inspect_model(options, folder);
}

/* A run: its finished model, or else its newest checkpoint. */
static int inspect_run(const struct options *options, const char *folder)
{
	char path[FILES_PATH_BYTES];
	struct checkpoint checkpoint = {0};
	int rc = files_join(path, sizeof(path), folder, "model");

	if (rc)
		return rc;
	if (files_is_folder(path))
		return hf_adapter_is(path) ? inspect_adapters(options, path)
					   : inspect_model(options, path);
	rc = checkpoint_find(folder, &checkpoint);
	if (!rc)
		rc = inspect_checkpoint(options, checkpoint.folder);
	checkpoint_fini(&checkpoint);
	return rc;
}

static int inspect_one(const struct options *options, const char *path)
{
	if (!files_exists(path))
		return fail(-ENOENT, "%s: there is no such file or folder",
			    path);
	if (files_holds(path, "run.json"))
		return inspect_run(options, path);
	if (files_holds(path, "manifest.json"))
		return inspect_checkpoint(options, path);
	if (hf_adapter_is(path))
		return inspect_adapters(options, path);
	if (files_holds(path, "config.json"))
		return inspect_model(options, path);
	return inspect_corpus(path, options_flag(options, "json"));
}

int cmd_inspect(int argc, char **argv)
{
	struct options *options;
	const char *const *paths;
	size_t count;
	int status, rc = options_parse(&inspect_command, argc, argv, &options);

	if (rc)
		return rc < 0 ? 2 : 0;
	count = options_operands(options, &paths);
	if (count == 0)
		rc = fail(
			-EINVAL,
			"inspect needs a folder: a model, a run, a checkpoint or a corpus");
	status = rc ? 2 : 1;
	for (size_t i = 0; !rc && i < count; i++)
		rc = inspect_one(options, paths[i]);
	if (!rc)
		status = 0;
	options_destroy(options);
	return status;
}
