#include "base/checked.h"
#include "base/files.h"
#include "base/json.h"
#include "base/log.h"
#include "base/text.h"
#include "model/io/safetensors_header.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Data begin at a multiple of this, hence every tensor is aligned. */
#define HEADER_ALIGNMENT 8

#define NAME_BYTES 256

struct placed_entry {
	char *name;
	enum safetensors_dtype dtype;
	unsigned rank;
	size_t *shape;
	size_t bytes;
	size_t file;
	uint64_t offset; /* in the file, header included */
};

struct layout_file {
	char name[NAME_BYTES];
	char *header; /* length field, JSON, padding */
	size_t header_bytes;
	uint64_t data_bytes;
};

struct safetensors_layout {
	char stem[NAME_BYTES / 2];
	size_t count;
	struct placed_entry *entries; /* in the caller's order */
	struct placed_entry **order;  /* by file, then by place in it */
	size_t file_count;
	struct layout_file *files;
	uint64_t data_bytes;
};

/* ---- the layout ---- */

static int compare_order(const void *a, const void *b)
{
	const struct placed_entry *left = *(struct placed_entry *const *)a;
	const struct placed_entry *right = *(struct placed_entry *const *)b;

	if (left->file != right->file)
		return left->file < right->file ? -1 : 1;
	if (left->dtype != right->dtype)
		return left->dtype > right->dtype ? -1 : 1;
	return strcmp(left->name, right->name);
}

static int compare_order_by_name(const void *a, const void *b)
{
	return strcmp((*(struct placed_entry *const *)a)->name,
		      (*(struct placed_entry *const *)b)->name);
}

static int copy_entry(const struct safetensors_entry *entry,
		      struct placed_entry *placed)
{
	size_t count, bad;

	if (!text_is_utf8(entry->name, strlen(entry->name), &bad) ||
	    strcmp(entry->name, "__metadata__") == 0)
		return fail(-EINVAL, "'%.200s' cannot be a tensor's name",
			    entry->name);
	if (safetensors_shape_size(entry->dtype, entry->rank, entry->shape,
				   &count, &placed->bytes) != 0)
		return fail(-EINVAL, "tensor '%.200s': impossible shape",
			    entry->name);
	placed->dtype = entry->dtype;
	placed->rank = entry->rank;
	placed->name = strdup(entry->name);
	placed->shape = calloc(entry->rank + 1, sizeof(*placed->shape));
	if (placed->name == NULL || placed->shape == NULL)
		return fail(-ENOMEM, "no memory for tensor '%.200s'",
			    entry->name);
	if (entry->rank != 0)
		memcpy(placed->shape, entry->shape,
		       entry->rank * sizeof(*placed->shape));
	return 0;
}

static int copy_entries(struct safetensors_layout *layout,
			const struct safetensors_entry *entries, size_t count)
{
	layout->entries = calloc(count + 1, sizeof(*layout->entries));
	layout->order = calloc(count + 1, sizeof(*layout->order));
	if (layout->entries == NULL || layout->order == NULL)
		return fail(-ENOMEM, "no memory to lay out %zu tensors", count);
	for (size_t i = 0; i < count; i++) {
		layout->order[i] = &layout->entries[i];
		layout->count = i + 1;
		int code = copy_entry(&entries[i], &layout->entries[i]);

		if (code != 0)
			return code;
	}
	qsort(layout->order, count, sizeof(*layout->order),
	      compare_order_by_name);
	for (size_t i = 1; i < count; i++)
		if (compare_order_by_name(&layout->order[i - 1],
					  &layout->order[i]) == 0)
			return fail(-EINVAL, "tensor '%.200s' is given twice",
				    layout->order[i]->name);
	return 0;
}

/* Gives entries to files, in the order given, and each file its size. */
static int divide(struct safetensors_layout *layout, uint64_t limit)
{
	uint64_t filled = 0;
	size_t file = 0, total = 0;
	bool empty = true;

	for (size_t i = 0; i < layout->count; i++) {
		struct placed_entry *entry = &layout->entries[i];

		if (!checked_add(total, entry->bytes, &total))
			return fail(-EOVERFLOW,
				    "tensors larger than any memory");
		if (limit != 0 && !empty &&
		    (entry->bytes > limit || filled > limit - entry->bytes)) {
			file++;
			filled = 0;
		}
		entry->file = file;
		filled += entry->bytes;
		empty = false;
	}
	layout->data_bytes = total;
	layout->file_count = file + 1;
	layout->files = calloc(layout->file_count, sizeof(*layout->files));
	if (layout->files == NULL)
		return fail(-ENOMEM, "no memory for %zu files",
			    layout->file_count);
	return 0;
}

static void name_files(struct safetensors_layout *layout)
{
	if (layout->file_count == 1) {
		snprintf(layout->files[0].name, NAME_BYTES, "%s.safetensors",
			 layout->stem);
		return;
	}
	for (size_t i = 0; i < layout->file_count; i++)
		snprintf(layout->files[i].name, NAME_BYTES,
			 "%s-%05zu-of-%05zu.safetensors", layout->stem, i + 1,
			 layout->file_count);
}

static void append_entry(struct text_builder *text,
			 const struct placed_entry *entry)
{
	json_t *name = json_string(entry->name);
	char *quoted = json_dumps(name, JSON_ENCODE_ANY);

	if (quoted == NULL)
		text->failed = true;
	else
		text_builder_append(text, ",%s:{\"dtype\":\"%s\",\"shape\":[",
				    quoted,
				    safetensors_dtype_name(entry->dtype));
	free(quoted);
	json_decref(name);
	for (unsigned axis = 0; axis < entry->rank; axis++)
		text_builder_append(text, "%s%zu", axis ? "," : "",
				    entry->shape[axis]);
	text_builder_append(text, "],\"data_offsets\":[%llu,%llu]}",
			    (unsigned long long)entry->offset,
			    (unsigned long long)(entry->offset + entry->bytes));
}

/*
 * Makes the header of one file; its entries are order[first .. end - 1]. Their
 * offsets, first relative to the data, then include the header.
 */
static int make_header(struct safetensors_layout *layout, size_t file,
		       size_t first, size_t end)
{
	struct layout_file *made = &layout->files[file];
	struct text_builder text;
	uint64_t length;

	text_builder_init(&text);
	text_builder_append_bytes(&text, "\0\0\0\0\0\0\0\0",
				  SAFETENSORS_LENGTH_BYTES);
	text_builder_append(&text, "{\"__metadata__\":{\"format\":\"pt\"}");
	for (size_t i = first; i < end; i++) {
		layout->order[i]->offset = made->data_bytes;
		made->data_bytes += layout->order[i]->bytes;
		append_entry(&text, layout->order[i]);
	}
	text_builder_append(&text, "}");
	while (text.length % HEADER_ALIGNMENT != 0 && !text.failed)
		text_builder_append(&text, " ");
	made->header_bytes = text.length;
	made->header = text_builder_finish(&text);
	if (made->header == NULL)
		return fail(-ENOMEM, "no memory for the header of %s",
			    made->name);
	length = made->header_bytes - SAFETENSORS_LENGTH_BYTES;
	if (length > SAFETENSORS_HEADER_BYTES_MAX)
		return fail(-EINVAL, "%s: the header would be too long",
			    made->name);
	for (int i = 0; i < SAFETENSORS_LENGTH_BYTES; i++)
		made->header[i] = (char)(length >> (8 * i));
	for (size_t i = first; i < end; i++)
		layout->order[i]->offset += made->header_bytes;
	return 0;
}

static int make_headers(struct safetensors_layout *layout)
{
	size_t first = 0;

	qsort(layout->order, layout->count, sizeof(*layout->order),
	      compare_order);
	for (size_t file = 0; file < layout->file_count; file++) {
		size_t end = first;
		int code;

		while (end < layout->count && layout->order[end]->file == file)
			end++;
		code = make_header(layout, file, first, end);
		if (code != 0)
			return code;
		first = end;
	}
	return 0;
}

int safetensors_layout_create(const struct safetensors_entry *entries,
			      size_t count, uint64_t max_shard_bytes,
			      const char *stem, struct safetensors_layout **out)
{
	struct safetensors_layout *layout = calloc(1, sizeof(*layout));
	int code;

	if (layout == NULL)
		return fail(-ENOMEM, "no memory to lay out %zu tensors", count);
	code = text_copy(layout->stem, sizeof(layout->stem), stem);
	if (code != 0 || !files_name_is_plain(stem)) {
		code = fail(-EINVAL, "'%.200s' cannot begin a file's name",
			    stem);
		goto err_layout;
	}
	code = copy_entries(layout, entries, count);
	if (code == 0)
		code = divide(layout, max_shard_bytes);
	if (code != 0)
		goto err_layout;
	name_files(layout);
	code = make_headers(layout);
	if (code != 0)
		goto err_layout;
	*out = layout;
	return 0;

err_layout:
	safetensors_layout_destroy(layout);
	return code;
}

void safetensors_layout_destroy(struct safetensors_layout *layout)
{
	if (layout == NULL)
		return;
	for (size_t i = 0; i < layout->count; i++) {
		free(layout->entries[i].name);
		free(layout->entries[i].shape);
	}
	if (layout->files != NULL)
		for (size_t i = 0; i < layout->file_count; i++)
			free(layout->files[i].header);
	free(layout->entries);
	free(layout->order);
	free(layout->files);
	free(layout);
}

size_t safetensors_layout_files(const struct safetensors_layout *layout)
{
	return layout->file_count;
}

const char *
safetensors_layout_file_name(const struct safetensors_layout *layout,
			     size_t file)
{
	ASSERT(file < layout->file_count);
	return layout->files[file].name;
}

uint64_t safetensors_layout_file_bytes(const struct safetensors_layout *layout,
				       size_t file)
{
	ASSERT(file < layout->file_count);
	return layout->files[file].header_bytes +
	       layout->files[file].data_bytes;
}

void safetensors_layout_place(const struct safetensors_layout *layout,
			      size_t entry, size_t *file, uint64_t *offset,
			      uint64_t *bytes)
{
	ASSERT(entry < layout->count);
	*file = layout->entries[entry].file;
	*offset = layout->entries[entry].offset;
	*bytes = layout->entries[entry].bytes;
}

/* ---- creating the files ---- */

static int fill_file(const struct safetensors_layout *layout, size_t file,
		     int fd, const char *path)
{
	const struct layout_file *made = &layout->files[file];
	int code =
		files_write_at(fd, made->header, made->header_bytes, 0, path);

	if (code != 0)
		return code;
	if (ftruncate(fd, (off_t)safetensors_layout_file_bytes(layout, file)))
		return fail(-errno, "%s: ftruncate: %s", path, strerror(errno));
	if (fsync(fd) != 0)
		return fail(-errno, "%s: fsync: %s", path, strerror(errno));
	return 0;
}

static int create_file(const struct safetensors_layout *layout,
		       const char *folder, size_t file)
{
	char path[FILES_PATH_BYTES];
	int code = files_join(path, sizeof(path), folder,
			      layout->files[file].name);
	int fd;

	if (code != 0)
		return code;
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	if (fd < 0)
		return fail(-errno, "%s: create: %s", path, strerror(errno));
	code = fill_file(layout, file, fd, path);
	close(fd);
	if (code != 0)
		unlink(path);
	return code;
}

static void remove_file(const struct safetensors_layout *layout,
			const char *folder, size_t file)
{
	char path[FILES_PATH_BYTES];

	if (files_join(path, sizeof(path), folder, layout->files[file].name) ==
	    0)
		unlink(path);
}

/* {"metadata": {"total_size": n}, "weight_map": {tensor: file, ...}} */
static json_t *index_json(const struct safetensors_layout *layout,
			  struct placed_entry **by_name)
{
	json_t *map = json_object();
	json_t *root =
		json_pack("{s:{s:I},s:O}", "metadata", "total_size",
			  (json_int_t)layout->data_bytes, "weight_map", map);
	bool failed = root == NULL;

	for (size_t i = 0; i < layout->count && !failed; i++) {
		const struct placed_entry *entry = by_name[i];
		const char *file = layout->files[entry->file].name;

		failed = json_object_set_new(map, entry->name,
					     json_string(file)) != 0;
	}
	json_decref(map);
	if (!failed)
		return root;
	json_decref(root);
	return NULL;
}

static int write_index(const struct safetensors_layout *layout,
		       const char *folder)
{
	char name[NAME_BYTES], path[FILES_PATH_BYTES];
	struct placed_entry **by_name;
	json_t *root = NULL;
	int code;

	snprintf(name, sizeof(name), "%s.safetensors.index.json", layout->stem);
	code = files_join(path, sizeof(path), folder, name);
	if (code != 0)
		return code;
	by_name = calloc(layout->count + 1, sizeof(struct placed_entry *));
	if (by_name != NULL) {
		memcpy(by_name, layout->order,
		       layout->count * sizeof(*by_name));
		qsort(by_name, layout->count, sizeof(*by_name),
		      compare_order_by_name);
		root = index_json(layout, by_name);
	}
	free(by_name);
	if (root == NULL)
		return fail(-ENOMEM, "%s: no memory to write it", path);
	code = json_write(path, root);
	json_decref(root);
	return code;
}

int safetensors_layout_create_files(const struct safetensors_layout *layout,
				    const char *folder)
{
	size_t made = 0;
	int code = 0;

	while (made < layout->file_count) {
		code = create_file(layout, folder, made);
		if (code != 0)
			goto err_files;
		made++;
	}
	code = layout->file_count > 1 ? write_index(layout, folder)
				      : files_sync(folder);
	if (code != 0)
		goto err_files;
	return 0;

err_files:
	while (made-- > 0)
		remove_file(layout, folder, made);
	return code;
}

/* ---- writing data ---- */

struct safetensors_writer {
	const struct safetensors_layout *layout;
	char folder[FILES_PATH_BYTES];
	/* One per file; -1 and NULL until something is written to it. */
	struct written_file {
		int fd;
		char *path;
	} files[];
};

int safetensors_writer_open(const struct safetensors_layout *layout,
			    const char *folder, struct safetensors_writer **out)
{
	struct safetensors_writer *writer =
		calloc(1, sizeof(*writer) + layout->file_count *
						    sizeof(writer->files[0]));

	if (writer == NULL)
		return fail(-ENOMEM, "%s: no memory to write tensors", folder);
	if (text_copy(writer->folder, sizeof(writer->folder), folder) != 0) {
		free(writer);
		return fail(-ENAMETOOLONG, "%.200s...: path too long", folder);
	}
	writer->layout = layout;
	for (size_t i = 0; i < layout->file_count; i++)
		writer->files[i].fd = -1;
	*out = writer;
	return 0;
}

static int open_written(struct safetensors_writer *writer, size_t file)
{
	struct written_file *written = &writer->files[file];
	char path[FILES_PATH_BYTES];
	int code = files_join(path, sizeof(path), writer->folder,
			      writer->layout->files[file].name);

	if (code != 0)
		return code;
	written->path = strdup(path);
	if (written->path == NULL)
		return fail(-ENOMEM, "%s: no memory to open it", path);
	written->fd = open(path, O_WRONLY | O_CLOEXEC);
	if (written->fd >= 0)
		return 0;
	code = fail(-errno, "%s: open: %s", path, strerror(errno));
	free(written->path);
	written->path = NULL;
	return code;
}

int safetensors_writer_write(struct safetensors_writer *writer, size_t entry,
			     uint64_t first, const void *data, size_t bytes)
{
	const struct safetensors_layout *layout = writer->layout;
	const struct placed_entry *placed;
	struct written_file *written;

	ASSERT(entry < layout->count);
	placed = &layout->entries[entry];
	ASSERT(first <= placed->bytes && bytes <= placed->bytes - first);
	written = &writer->files[placed->file];
	if (written->fd < 0) {
		int code = open_written(writer, placed->file);

		if (code != 0)
			return code;
	}
	return files_write_at(written->fd, data, bytes, placed->offset + first,
			      written->path);
}

int safetensors_writer_close(struct safetensors_writer *writer)
{
	int code = 0;

	for (size_t i = 0; i < writer->layout->file_count; i++) {
		const struct written_file *written = &writer->files[i];

		if (written->fd >= 0 && fsync(written->fd) != 0 && code == 0)
			code = fail(-errno, "%s: fsync: %s", written->path,
				    strerror(errno));
	}
	safetensors_writer_abandon(writer);
	return code;
}

void safetensors_writer_abandon(struct safetensors_writer *writer)
{
	if (writer == NULL)
		return;
	for (size_t i = 0; i < writer->layout->file_count; i++) {
		if (writer->files[i].fd >= 0)
			close(writer->files[i].fd);
		free(writer->files[i].path);
	}
	free(writer);
}
