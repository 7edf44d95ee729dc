#include "engine/merge.h"
#include "base/files.h"
#include "base/log.h"
#include "base/threads.h"
#include "engine/carry.h"
#include "model/io/hf_adapter.h"
#include "model/io/hf_config.h"
#include "model/io/safetensors.h"
#include "model/kernels/convert.h"
#include "model/kernels/elementwise.h"
#include "model/kernels/gemm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHARD_BYTES_MAX   ((uint64_t)5000000000) /* as transformers 4 */
#define TENSOR_NAME_BYTES (PARAMETER_NAME_BYTES + 32)

struct merging {
	const struct merge *merge;
	struct model *model;
	struct threads *threads;
	struct safetensors *base, *adapter;
	struct safetensors_layout *layout;
	struct safetensors_writer *writer;
	char folder[FILES_PATH_BYTES]; /* what will be `out` */
	size_t merged;                 /* adapter tensors that were used */
};

/* ---- one tensor ---- */

/* The pair of an adapter. */
struct pair {
	const struct safetensors_tensor *a; /* [r, in] */
	const struct safetensors_tensor *b; /* [out, r] */
};

static const struct safetensors_tensor *
find_half(const struct merging *m, const struct parameter *parameter,
	  size_t module, const char *suffix)
{
	char name[TENSOR_NAME_BYTES], whole[2 * TENSOR_NAME_BYTES];

	snprintf(name, sizeof(name), "%.*s%s", (int)module, parameter->name,
		 suffix);
	hf_adapter_tensor_name(name, whole, sizeof(whole));
	return safetensors_find(m->adapter, whole);
}

/* False: the tensor is none that has an adapter. */
static bool find_pair(const struct merging *m,
		      const struct safetensors_tensor *tensor,
		      const struct parameter **parameter, struct pair *out)
{
	static const char suffix[] = ".weight";
	size_t length;

	*parameter = model_parameter_find(m->model, tensor->name);
	if (!*parameter)
		return false;
	length = strlen((*parameter)->name);
	if (length < sizeof(suffix) ||
	    strcmp((*parameter)->name + length - (sizeof(suffix) - 1),
		   suffix) != 0)
		return false;
	length -= sizeof(suffix) - 1;
	out->a = find_half(m, *parameter, length, ".lora_A.weight");
	out->b = find_half(m, *parameter, length, ".lora_B.weight");
	return out->a || out->b;
}

/* Floats of a tensor; the caller frees. NULL, logged: they cannot be read. */
static float *read_floats(const struct safetensors_tensor *tensor)
{
	float *floats = malloc(MAX(tensor->count, (size_t)1) * sizeof(*floats));

	if (!floats)
		fail(-ENOMEM, "no memory for %s", tensor->name);
	else if (safetensors_read_floats(tensor, 0, tensor->count, floats)) {
		free(floats);
		floats = NULL;
	}
	return floats;
}

/* Both halves, and the matrix, have the shapes the model says. */
static int check_pair(const struct merging *m,
		      const struct safetensors_tensor *tensor,
		      const struct parameter *parameter,
		      const struct pair *pair)
{
	bool transposed = hf_config_transposes(&m->merge->config);
	size_t rank = m->merge->config.adapters.rank;
	size_t a[] = {rank, parameter->whole_shape[transposed ? 0 : 1]};
	size_t b[] = {parameter->whole_shape[transposed ? 1 : 0], rank};
	int rc;

	if (!pair->a || !pair->b)
		return fail(-EINVAL, "%s: the adapter of %s is not whole",
			    m->merge->adapter, parameter->name);
	if (parameter->dimensions != 2)
		return fail(-EINVAL, "%s: %s is no matrix", m->merge->adapter,
			    parameter->name);
	rc = safetensors_check_shape(tensor, 2, parameter->whole_shape);
	if (!rc)
		rc = safetensors_check_shape(pair->a, 2, a);
	return rc ? rc : safetensors_check_shape(pair->b, 2, b);
}

/* weights += s B A, or its transpose. */
static void add_product(const struct merging *m,
			const struct parameter *parameter, const float *a,
			float *b, float *weights)
{
	const struct model_adapters *adapters = &m->merge->config.adapters;
	size_t rows = parameter->whole_shape[0];
	size_t columns = parameter->whole_shape[1], rank = adapters->rank;

	if (hf_config_transposes(&m->merge->config)) {
		elementwise_scale(m->threads, columns * rank,
				  (float)(adapters->alpha / adapters->rank), b,
				  b);
		gemm(m->threads, GEMM_TRANSPOSED, GEMM_TRANSPOSED, rows,
		     columns, rank, a, rows, b, rank, 1.0f, weights, columns,
		     NULL);
	} else {
		elementwise_scale(m->threads, rows * rank,
				  (float)(adapters->alpha / adapters->rank), b,
				  b);
		gemm(m->threads, GEMM_NORMAL, GEMM_NORMAL, rows, columns, rank,
		     b, rank, a, columns, 1.0f, weights, columns, NULL);
	}
}

/* Floats to the tensor's own type, in place. */
static int narrow(const struct safetensors_tensor *tensor, float *weights)
{
	switch (tensor->dtype) {
	case SAFETENSORS_F32:
		return 0;
	case SAFETENSORS_BF16:
		convert_floats_to_bf16(tensor->count, weights, weights);
		return 0;
	case SAFETENSORS_F16:
		convert_floats_to_f16(tensor->count, weights, weights);
		return 0;
	default:
		return fail(-ENOTSUP, "%s: tensor '%s' is of type %s",
			    tensor->file, tensor->name,
			    safetensors_dtype_name(tensor->dtype));
	}
}

static int merge_tensor(struct merging *m, size_t entry,
			const struct safetensors_tensor *tensor,
			const struct parameter *parameter,
			const struct pair *pair)
{
	float *weights = NULL, *a = NULL, *b = NULL;
	int rc = check_pair(m, tensor, parameter, pair);

	if (rc)
		return rc;
	weights = read_floats(tensor);
	a = read_floats(pair->a);
	b = read_floats(pair->b);
	if (!weights || !a || !b) {
		rc = -EIO;
		goto out;
	}
	add_product(m, parameter, a, b, weights);
	rc = narrow(tensor, weights);
	if (!rc)
		rc = safetensors_writer_write(m->writer, entry, 0, weights,
					      tensor->bytes);
	m->merged += 2;
out:
	free(weights);
	free(a);
	free(b);
	return rc;
}

/* ---- all of them ---- */

static int write_tensors(struct merging *m)
{
	int rc = 0;

	for (size_t i = 0; !rc && i < safetensors_count(m->base); i++) {
		const struct safetensors_tensor *tensor =
			safetensors_tensor(m->base, i);
		const struct parameter *parameter;
		struct pair pair;

		if (find_pair(m, tensor, &parameter, &pair))
			rc = merge_tensor(m, i, tensor, parameter, &pair);
		else
			rc = safetensors_writer_write(
				m->writer, i, 0, tensor->data, tensor->bytes);
	}
	if (!rc && m->merged != safetensors_count(m->adapter))
		rc = fail(
			-EINVAL,
			"%s: %zu of its %zu tensors belong to no matrix in %s",
			m->merge->adapter,
			safetensors_count(m->adapter) - m->merged,
			safetensors_count(m->adapter), m->merge->base);
	return rc;
}

static int make_layout(struct merging *m)
{
	size_t count = safetensors_count(m->base);
	struct safetensors_entry *entries = calloc(count, sizeof(*entries));
	int rc;

	if (!entries)
		return fail(-ENOMEM, "no memory to lay out %s", m->merge->out);
	for (size_t i = 0; i < count; i++) {
		const struct safetensors_tensor *tensor =
			safetensors_tensor(m->base, i);

		entries[i] =
			(struct safetensors_entry){tensor->name, tensor->dtype,
						   tensor->rank, tensor->shape};
	}
	rc = safetensors_layout_create(entries, count, SHARD_BYTES_MAX, "model",
				       &m->layout);
	free(entries);
	return rc;
}

/* config.json and whatever else is no weights, unchanged. */
static int copy_others(const struct merging *m)
{
	char from[FILES_PATH_BYTES], to[FILES_PATH_BYTES];
	int rc = files_join(from, sizeof(from), m->merge->base, "config.json");

	if (!rc)
		rc = files_join(to, sizeof(to), m->folder, "config.json");
	if (!rc)
		rc = files_copy(from, to);
	return rc ? rc : carry_over(m->merge->base, m->folder);
}

static int fill_folder(struct merging *m)
{
	int rc = files_make_folder(m->folder);

	if (!rc)
		rc = copy_others(m);
	if (!rc)
		rc = make_layout(m);
	if (!rc)
		rc = safetensors_layout_create_files(m->layout, m->folder);
	if (!rc)
		rc = safetensors_writer_open(m->layout, m->folder, &m->writer);
	if (!rc)
		rc = write_tensors(m);
	if (!rc) {
		rc = safetensors_writer_close(m->writer);
		m->writer = NULL;
	}
	return rc ? rc : files_sync(m->folder);
}

static int open_all(struct merging *m)
{
	const struct merge *merge = m->merge;
	int rc = model_create(&merge->config, &m->model);

	if (!rc)
		rc = safetensors_open(merge->base, &m->base);
	if (!rc)
		rc = hf_adapter_open(merge->adapter, HF_ADAPTER_STEM, m->model,
				     &m->adapter);
	if (!rc)
		rc = threads_create(merge->threads, NULL, &m->threads);
	return rc ? rc : gemm_prepare(m->threads);
}

static void close_all(struct merging *m)
{
	safetensors_writer_abandon(m->writer);
	safetensors_layout_destroy(m->layout);
	safetensors_close(m->adapter);
	safetensors_close(m->base);
	if (m->threads)
		threads_destroy(m->threads);
	model_destroy(m->model);
}

int merge_adapters(const struct merge *merge)
{
	struct merging m = {.merge = merge};
	char out[FILES_PATH_BYTES];
	int rc;

	if (files_exists(merge->out))
		return fail(-EEXIST,
			    "--out %s exists already; choose another folder",
			    merge->out);
	rc = files_partial_names(merge->out, out, m.folder);
	if (rc)
		return rc;
	rc = open_all(&m);
	if (!rc)
		rc = fill_folder(&m);
	if (!rc)
		rc = files_rename_durably(m.folder, out);
	close_all(&m);
	if (rc)
		(void)!files_remove_tree(m.folder);
	return rc;
}
