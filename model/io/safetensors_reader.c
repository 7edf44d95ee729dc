#include "base/files.h"
#include "base/json.h"
#include "base/log.h"
#include "model/io/safetensors_header.h"
#include "model/kernels/convert.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Longest index read: 300,000 tensors or so. */
#define INDEX_BYTES_MAX (64 << 20)

struct shard {
	char *path;
	struct files_mapping mapping;
	struct safetensors_header header;
	int fd; /* for those who stream; -1: not opened */
};

struct safetensors {
	size_t shard_count;
	struct shard *shards;
	size_t count;
	const struct safetensors_tensor **tensors; /* by name */
};

/* ---- opening ---- */

static int compare_names(const void *a, const void *b)
{
	const struct safetensors_tensor *const *left = a;
	const struct safetensors_tensor *const *right = b;

	return strcmp((*left)->name, (*right)->name);
}

static int shard_open(struct shard *shard, const char *path)
{
	int code;

	shard->path = strdup(path);
	if (shard->path == NULL)
		return fail(-ENOMEM, "%s: no memory to open it", path);
	code = files_map(path, &shard->mapping);
	if (code != 0)
		return code;
	shard->fd = open(path, O_RDONLY | O_CLOEXEC);
	if (shard->fd < 0)
		return fail(-errno, "%s: open: %s", path, strerror(errno));
	/* Only advice: read ahead by more. */
	(void)posix_fadvise(shard->fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	return safetensors_header_parse(shard->path, shard->mapping.data,
					shard->mapping.length, &shard->header);
}

static int create(size_t shards, struct safetensors **out)
{
	struct safetensors *made = calloc(1, sizeof(*made));

	if (made != NULL)
		made->shards = calloc(shards + 1, sizeof(*made->shards));
	if (made == NULL || made->shards == NULL) {
		free(made);
		return fail(-ENOMEM, "no memory for %zu model files", shards);
	}
	made->shard_count = shards;
	for (size_t i = 0; i < shards; i++)
		made->shards[i].fd = -1;
	*out = made;
	return 0;
}

void safetensors_close(struct safetensors *safetensors)
{
	if (safetensors == NULL)
		return;
	for (size_t i = 0; i < safetensors->shard_count; i++) {
		struct shard *shard = &safetensors->shards[i];

		safetensors_header_fini(&shard->header);
		files_unmap(&shard->mapping);
		if (shard->fd >= 0)
			close(shard->fd);
		free(shard->path);
	}
	free(safetensors->tensors);
	free(safetensors->shards);
	free(safetensors);
}

/* Sorts the tensors of all shards by name; a name must occur once. */
static int collect(struct safetensors *safetensors)
{
	size_t count = 0;

	for (size_t i = 0; i < safetensors->shard_count; i++)
		count += safetensors->shards[i].header.count;
	safetensors->tensors = calloc(count + 1, sizeof(*safetensors->tensors));
	if (safetensors->tensors == NULL)
		return fail(-ENOMEM, "no memory for a list of %zu tensors",
			    count);
	for (size_t i = 0; i < safetensors->shard_count; i++) {
		const struct shard *shard = &safetensors->shards[i];

		for (size_t k = 0; k < shard->header.count; k++)
			safetensors->tensors[safetensors->count++] =
				&shard->header.tensors[k];
	}
	qsort(safetensors->tensors, count, sizeof(*safetensors->tensors),
	      compare_names);
	for (size_t i = 1; i < count; i++) {
		const struct safetensors_tensor *a =
			safetensors->tensors[i - 1];
		const struct safetensors_tensor *b = safetensors->tensors[i];

		if (strcmp(a->name, b->name) == 0)
			return fail(-EINVAL,
				    "tensor '%.200s' occurs twice: in %s and "
				    "in %s",
				    a->name, a->file, b->file);
	}
	return 0;
}

static int open_file(const char *path, struct safetensors **out)
{
	struct safetensors *made = NULL;
	int code = create(1, &made);

	if (code != 0)
		return code;
	code = shard_open(&made->shards[0], path);
	if (code == 0)
		code = collect(made);
	if (code != 0) {
		safetensors_close(made);
		return code;
	}
	*out = made;
	return 0;
}

/* ---- a sharded folder ---- */

static int compare_strings(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The distinct file names of a weight map, sorted; borrowed from it. */
static int index_files(const char *index, json_t *map, const char ***out,
		       size_t *out_count)
{
	const char **names = calloc(json_object_size(map) + 1, sizeof(*names));
	size_t count = 0, distinct = 0;
	const char *tensor;
	json_t *value;

	if (names == NULL)
		return fail(-ENOMEM, "%s: no memory to read it", index);
	json_object_foreach(map, tensor, value)
	{
		const char *name = json_string_value(value);

		if (name == NULL || !files_name_is_plain(name)) {
			free(names);
			return fail(-EINVAL,
				    "%s: tensor '%.200s': '%.200s' is no name "
				    "of a file in this folder",
				    index, tensor,
				    name != NULL ? name : "(not a string)");
		}
		names[count++] = name;
	}
	qsort(names, count, sizeof(*names), compare_strings);
	for (size_t i = 0; i < count; i++)
		if (i == 0 || strcmp(names[i], names[i - 1]) != 0)
			names[distinct++] = names[i];
	*out = names;
	*out_count = distinct;
	return 0;
}

/* Index and files must agree about every tensor. */
static int check_index(const char *index, json_t *map,
		       const struct safetensors *safetensors)
{
	const char *name;
	json_t *value;

	json_object_foreach(map, name, value)
	{
		const struct safetensors_tensor *tensor =
			safetensors_find(safetensors, name);
		const char *file = json_string_value(value);
		const char *found =
			tensor != NULL ? strrchr(tensor->file, '/') : NULL;

		if (found == NULL || strcmp(found + 1, file) != 0)
			return fail(-EINVAL,
				    "%s: tensor '%.200s' is not in '%s', where "
				    "the index says it is",
				    index, name, file);
	}
	for (size_t i = 0; i < safetensors->count; i++)
		if (json_object_get(map, safetensors->tensors[i]->name) == NULL)
			return fail(-EINVAL,
				    "%s: tensor '%.200s' of %s is not in the "
				    "index",
				    index, safetensors->tensors[i]->name,
				    safetensors->tensors[i]->file);
	return 0;
}

static int open_shards(const char *folder, const char *const *names,
		       struct safetensors *safetensors)
{
	char path[FILES_PATH_BYTES];

	for (size_t i = 0; i < safetensors->shard_count; i++) {
		int code = files_join(path, sizeof(path), folder, names[i]);

		if (code == 0)
			code = shard_open(&safetensors->shards[i], path);
		if (code != 0)
			return code;
	}
	return collect(safetensors);
}

static int open_map(const char *folder, const char *index, json_t *map,
		    struct safetensors **out)
{
	struct safetensors *made = NULL;
	const char **names = NULL;
	size_t count = 0;
	int code = index_files(index, map, &names, &count);

	if (code != 0)
		return code;
	code = create(count, &made);
	if (code != 0)
		goto err_names;
	code = open_shards(folder, names, made);
	if (code == 0)
		code = check_index(index, map, made);
	if (code != 0)
		goto err_close;
	free(names);
	*out = made;
	return 0;

err_close:
	safetensors_close(made);
err_names:
	free(names);
	return code;
}

static int open_index(const char *folder, const char *index,
		      struct safetensors **out)
{
	json_t *root, *map;
	int code = json_read(index, INDEX_BYTES_MAX, &root);

	if (code != 0)
		return code;
	if (json_is_object(root))
		code = json_get_object(root, "weight_map", index, &map);
	else
		code = fail(-EINVAL, "%s: is not a JSON object", index);
	if (code == 0)
		code = open_map(folder, index, map, out);
	json_decref(root);
	return code;
}

static bool folder_has(const char *folder, const char *name)
{
	char path[FILES_PATH_BYTES];

	return snprintf(path, sizeof(path), "%s/%s", folder, name) <
		       (int)sizeof(path) &&
	       files_exists(path);
}

int safetensors_open_folder(const char *folder, const char *stem,
			    struct safetensors **out)
{
	char name[256], path[FILES_PATH_BYTES];
	int code;

	snprintf(name, sizeof(name), "%s.safetensors", stem);
	code = files_join(path, sizeof(path), folder, name);
	if (code != 0)
		return code;
	if (files_exists(path))
		return open_file(path, out);
	snprintf(name, sizeof(name), "%s.safetensors.index.json", stem);
	code = files_join(path, sizeof(path), folder, name);
	if (code != 0)
		return code;
	if (files_exists(path))
		return open_index(folder, path, out);
	if (strcmp(stem, "model") == 0 &&
	    (folder_has(folder, "pytorch_model.bin") ||
	     folder_has(folder, "pytorch_model.bin.index.json")))
		return fail(-ENOENT,
			    "%s: has only pytorch_model.bin, a Python pickle, "
			    "which can run code and is not read; save the "
			    "model as safetensors first",
			    folder);
	return fail(-ENOENT,
		    "%s: neither %s.safetensors nor "
		    "%s.safetensors.index.json is there",
		    folder, stem, stem);
}

int safetensors_open(const char *path, struct safetensors **out)
{
	return files_is_folder(path)
		       ? safetensors_open_folder(path, "model", out)
		       : open_file(path, out);
}

/* ---- tensors ---- */

size_t safetensors_count(const struct safetensors *safetensors)
{
	return safetensors->count;
}

const struct safetensors_tensor *
safetensors_tensor(const struct safetensors *safetensors, size_t index)
{
	ASSERT(index < safetensors->count);
	return safetensors->tensors[index];
}

const struct safetensors_tensor *
safetensors_find(const struct safetensors *safetensors, const char *name)
{
	const struct safetensors_tensor wanted = {.name = name};
	const struct safetensors_tensor *key = &wanted;
	const struct safetensors_tensor **found =
		bsearch(&key, safetensors->tensors, safetensors->count,
			sizeof(*safetensors->tensors), compare_names);

	return found != NULL ? *found : NULL;
}

/* 0, -ERANGE or -ENOTSUP, logged. */
static int check_read(const struct safetensors_tensor *tensor, size_t first,
		      size_t count)
{
	if (first > tensor->count || count > tensor->count - first)
		return fail(-ERANGE,
			    "%s: tensor '%.200s': elements %zu to %zu of %zu",
			    tensor->file, tensor->name, first, first + count,
			    tensor->count);
	switch (tensor->dtype) {
	case SAFETENSORS_F32:
	case SAFETENSORS_F16:
	case SAFETENSORS_BF16:
		return 0;
	default:
		return fail(-ENOTSUP,
			    "%s: tensor '%.200s': dtype %s is not supported "
			    "(F32, F16 and BF16 are)",
			    tensor->file, tensor->name,
			    safetensors_dtype_name(tensor->dtype));
	}
}

/* Of one of the types that check_read() lets pass. */
static void convert(enum safetensors_dtype dtype, size_t count,
		    const unsigned char *data, float *out)
{
	if (dtype == SAFETENSORS_F32)
		memcpy(out, data, 4 * count);
	else if (dtype == SAFETENSORS_F16)
		convert_f16_to_floats(count, data, out);
	else
		convert_bf16_to_floats(count, data, out);
}

int safetensors_read_floats(const struct safetensors_tensor *tensor,
			    size_t first, size_t count, float *out)
{
	size_t bytes = safetensors_dtype_bits(tensor->dtype) / 8;
	int code = check_read(tensor, first, count);

	if (code == 0 && count > 0)
		convert(tensor->dtype, count, tensor->data + bytes * first,
			out);
	return code;
}

/* The file a tensor stands in. */
static const struct shard *shard_of(const struct safetensors *files,
				    const struct safetensors_tensor *tensor)
{
	for (size_t i = 0; i < files->shard_count; i++)
		if (files->shards[i].path == tensor->file)
			return &files->shards[i];
	ASSERT(!"a tensor of other files");
	return NULL;
}

int safetensors_stream_floats(const struct safetensors *files,
			      const struct safetensors_tensor *tensor,
			      size_t first, size_t count, void *room,
			      float *out)
{
	const struct shard *shard = shard_of(files, tensor);
	size_t bytes = safetensors_dtype_bits(tensor->dtype) / 8;
	int code = check_read(tensor, first, count);
	uint64_t offset;

	if (code != 0 || count == 0)
		return code;
	offset = (uint64_t)(tensor->data - shard->mapping.data) + bytes * first;
	if (tensor->dtype == SAFETENSORS_F32)
		return files_read_at(shard->fd, out, bytes * count, offset,
				     tensor->file);
	for (size_t at = 0; code == 0 && at < count;) {
		size_t piece = MIN(count - at, SAFETENSORS_ROOM_BYTES / bytes);

		code = files_read_at(shard->fd, room, bytes * piece,
				     offset + bytes * at, tensor->file);
		if (code == 0)
			convert(tensor->dtype, piece, room, out + at);
		at += piece;
	}
	return code;
}

void safetensors_expect(const struct safetensors_tensor *tensor, size_t bytes)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	uintptr_t begin = (uintptr_t)tensor->data / page * page;
	uintptr_t end = (uintptr_t)tensor->data + MIN(bytes, tensor->bytes);

	/* Only advice. */
	if (tensor->bytes > 0)
		(void)madvise((void *)begin, end - begin, MADV_WILLNEED);
}

int safetensors_check_shape(const struct safetensors_tensor *tensor,
			    unsigned rank, const size_t *shape)
{
	char have[128], want[128];

	if (tensor->rank == rank &&
	    (rank == 0 ||
	     memcmp(tensor->shape, shape, rank * sizeof(*shape)) == 0))
		return 0;
	return fail(-EINVAL, "%s: tensor '%.200s' has shape %s; %s is expected",
		    tensor->file, tensor->name,
		    safetensors_shape_text(have, sizeof(have), tensor->rank,
					   tensor->shape),
		    safetensors_shape_text(want, sizeof(want), rank, shape));
}
