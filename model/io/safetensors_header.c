#include "model/io/safetensors_header.h"
#include "base/checked.h"
#include "base/json.h"
#include "base/log.h"
#include "base/text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define METADATA "__metadata__"

int safetensors_shape_size(enum safetensors_dtype dtype, unsigned rank,
			   const size_t *shape, size_t *count, size_t *bytes)
{
	size_t product = 1, bits;

	for (unsigned axis = 0; axis < rank; axis++)
		if (!checked_multiply(product, shape[axis], &product))
			return -EOVERFLOW;
	if (!checked_multiply(product, safetensors_dtype_bits(dtype), &bits))
		return -EOVERFLOW;
	if (bits % 8 != 0)
		return -EINVAL;
	*count = product;
	*bytes = bits / 8;
	return 0;
}

const char *safetensors_shape_text(char *buffer, size_t size, unsigned rank,
				   const size_t *shape)
{
	size_t used = (size_t)snprintf(buffer, size, "[");

	for (unsigned axis = 0; axis < rank; axis++) {
		if (used + 32 > size) {
			snprintf(buffer + used, size - used, ", ...");
			return buffer;
		}
		used += (size_t)snprintf(buffer + used, size - used, "%s%zu",
					 axis ? ", " : "", shape[axis]);
	}
	snprintf(buffer + used, size - used, "]");
	return buffer;
}

/* ---- one entry of the header ---- */

/* What is being parsed; `path` for messages. */
struct parse {
	const char *path;
	const unsigned char *data; /* first byte after the header */
	size_t data_bytes;
	struct safetensors_header header;
	size_t shapes_used;
	size_t names_used;
};

static int parse_error(const struct parse *parse, const char *name,
		       const char *reason)
{
	return fail(-EINVAL, "%s: tensor '%.200s': %s", parse->path, name,
		    reason);
}

static int parse_dtype(const struct parse *parse, const char *name,
		       const json_t *entry, enum safetensors_dtype *out)
{
	const char *text = json_string_value(json_object_get(entry, "dtype"));

	if (text == NULL)
		return parse_error(parse, name, "has no dtype");
	for (unsigned i = 0; i < SAFETENSORS_DTYPES; i++)
		if (strcmp(text, safetensors_dtype_name(i)) == 0) {
			*out = (enum safetensors_dtype)i;
			return 0;
		}
	return fail(-EINVAL, "%s: tensor '%.200s': unknown dtype '%.40s'",
		    parse->path, name, text);
}

/* A JSON integer that is no real, not negative and fits a size. */
static bool read_size(const json_t *value, size_t *out)
{
	json_int_t number = json_integer_value(value);

	if (!json_is_integer(value) || number < 0 ||
	    (uint64_t)number > SIZE_MAX)
		return false;
	*out = (size_t)number;
	return true;
}

static int parse_shape(struct parse *parse, const json_t *entry,
		       struct safetensors_tensor *tensor)
{
	const json_t *shape = json_object_get(entry, "shape");
	size_t *sizes = parse->header.shapes + parse->shapes_used;
	size_t rank = json_array_size(shape);

	if (!json_is_array(shape))
		return parse_error(parse, tensor->name, "has no shape");
	for (size_t axis = 0; axis < rank; axis++)
		if (!read_size(json_array_get(shape, axis), &sizes[axis]))
			return parse_error(
				parse, tensor->name,
				"its shape holds something other than integers "
				"from 0");
	switch (safetensors_shape_size(tensor->dtype, (unsigned)rank, sizes,
				       &tensor->count, &tensor->bytes)) {
	case 0:
		break;
	case -EOVERFLOW:
		return parse_error(parse, tensor->name,
				   "its shape is too large for any memory");
	default:
		return parse_error(parse, tensor->name,
				   "its size is not a whole number of bytes");
	}
	parse->shapes_used += rank;
	tensor->shape = sizes;
	tensor->rank = (unsigned)rank;
	return 0;
}

static int parse_offsets(const struct parse *parse, const json_t *entry,
			 struct safetensors_tensor *tensor)
{
	const json_t *offsets = json_object_get(entry, "data_offsets");
	size_t begin, end;

	if (json_array_size(offsets) != 2 ||
	    !read_size(json_array_get(offsets, 0), &begin) ||
	    !read_size(json_array_get(offsets, 1), &end))
		return parse_error(parse, tensor->name,
				   "data_offsets must be two integers from 0");
	if (end < begin || end > parse->data_bytes)
		return fail(-EINVAL,
			    "%s: tensor '%.200s': data_offsets [%zu, %zu] do "
			    "not fit the file, which has %zu bytes of data",
			    parse->path, tensor->name, begin, end,
			    parse->data_bytes);
	if (end - begin != tensor->bytes) {
		char text[128];

		return fail(-EINVAL,
			    "%s: tensor '%.200s': data_offsets [%zu, %zu] are "
			    "%zu bytes, but %s %s takes %zu",
			    parse->path, tensor->name, begin, end, end - begin,
			    safetensors_dtype_name(tensor->dtype),
			    safetensors_shape_text(text, sizeof(text),
						   tensor->rank, tensor->shape),
			    tensor->bytes);
	}
	/* An empty file's data are NULL; offsets are then all 0. */
	tensor->data = begin == 0 ? parse->data : parse->data + begin;
	return 0;
}

static int parse_entry(struct parse *parse, const char *name,
		       const json_t *entry)
{
	struct safetensors_tensor *tensor =
		&parse->header.tensors[parse->header.count];
	size_t name_bytes = strlen(name) + 1;
	int code;

	if (!json_is_object(entry))
		return parse_error(parse, name, "is described by no object");
	tensor->file = parse->path;
	tensor->name = memcpy(parse->header.names + parse->names_used, name,
			      name_bytes);
	parse->names_used += name_bytes;
	code = parse_dtype(parse, name, entry, &tensor->dtype);
	if (code == 0)
		code = parse_shape(parse, entry, tensor);
	if (code == 0)
		code = parse_offsets(parse, entry, tensor);
	if (code == 0)
		parse->header.count++;
	return code;
}

static int check_metadata(const struct parse *parse, const json_t *metadata)
{
	const char *key;
	json_t *value;

	if (metadata == NULL || json_is_null(metadata))
		return 0;
	if (!json_is_object(metadata))
		return fail(-EINVAL, "%s: " METADATA " is not an object",
			    parse->path);
	json_object_foreach((json_t *)(uintptr_t)metadata, key, value)
	{
		if (!json_is_string(value))
			return fail(-EINVAL,
				    "%s: " METADATA
				    ": '%.200s' is not a string",
				    parse->path, key);
	}
	return 0;
}

/* ---- the whole header ---- */

static int compare_places(const void *a, const void *b)
{
	const struct safetensors_tensor *left = a, *right = b;

	if (left->data != right->data)
		return left->data < right->data ? -1 : 1;
	if (left->bytes != right->bytes)
		return left->bytes < right->bytes ? -1 : 1;
	return strcmp(left->name, right->name);
}

/* The data must be covered without hole or overlap, to the last byte. */
static int check_coverage(struct parse *parse)
{
	struct safetensors_header *header = &parse->header;
	size_t expected = 0;

	qsort(header->tensors, header->count, sizeof(*header->tensors),
	      compare_places);
	for (size_t i = 0; i < header->count; i++) {
		const struct safetensors_tensor *tensor = &header->tensors[i];
		size_t begin = (size_t)(tensor->data - parse->data);

		if (begin != expected)
			return fail(-EINVAL,
				    "%s: tensor '%.200s': its data begin at "
				    "byte %zu, %s (expected %zu)",
				    parse->path, tensor->name, begin,
				    begin < expected
					    ? "overlapping another tensor's"
					    : "leaving a hole before them",
				    expected);
		expected = begin + tensor->bytes;
	}
	if (expected != parse->data_bytes)
		return fail(-EINVAL,
			    "%s: %zu bytes follow the last tensor's data",
			    parse->path, parse->data_bytes - expected);
	return 0;
}

static int allocate(struct parse *parse, json_t *root)
{
	size_t ranks = 0, names = 0, count = 0;
	const char *key;
	json_t *entry;

	json_object_foreach(root, key, entry)
	{
		ranks += json_array_size(json_object_get(entry, "shape"));
		names += strlen(key) + 1;
		count++;
	}
	/* One more each, so that none asks for 0 bytes. */
	parse->header.tensors =
		calloc(count + 1, sizeof(*parse->header.tensors));
	parse->header.shapes = calloc(ranks + 1, sizeof(size_t));
	parse->header.names = malloc(names + 1);
	if (parse->header.tensors != NULL && parse->header.shapes != NULL &&
	    parse->header.names != NULL)
		return 0;
	return fail(-ENOMEM, "%s: no memory for a header of %zu tensors",
		    parse->path, count);
}

static int parse_root(struct parse *parse, json_t *root)
{
	const char *key;
	json_t *entry;
	int code;

	if (!json_is_object(root))
		return fail(-EINVAL, "%s: the header is not a JSON object",
			    parse->path);
	code = allocate(parse, root);
	if (code == 0)
		code = check_metadata(parse, json_object_get(root, METADATA));
	if (code != 0)
		return code;
	json_object_foreach(root, key, entry)
	{
		if (strcmp(key, METADATA) == 0)
			continue;
		code = parse_entry(parse, key, entry);
		if (code != 0)
			return code;
	}
	return check_coverage(parse);
}

static int header_length(const char *path, const unsigned char *data,
			 size_t length, size_t *out)
{
	uint64_t bytes = 0;

	if (length < SAFETENSORS_LENGTH_BYTES)
		return fail(-EINVAL,
			    "%s: %zu bytes are too few for a safetensors file",
			    path, length);
	for (int i = SAFETENSORS_LENGTH_BYTES - 1; i >= 0; i--)
		bytes = bytes << 8 | data[i];
	if (bytes > SAFETENSORS_HEADER_BYTES_MAX)
		return fail(-EINVAL,
			    "%s: a header of %llu bytes (the limit is %d): not "
			    "a safetensors file",
			    path, (unsigned long long)bytes,
			    SAFETENSORS_HEADER_BYTES_MAX);
	if (bytes > length - SAFETENSORS_LENGTH_BYTES)
		return fail(-EINVAL,
			    "%s: cut off: a header of %llu bytes in a file of "
			    "%zu",
			    path, (unsigned long long)bytes, length);
	*out = (size_t)bytes;
	return 0;
}

int safetensors_header_parse(const char *path, const unsigned char *data,
			     size_t length, struct safetensors_header *out)
{
	struct parse parse = {.path = path};
	size_t bytes = 0, bad;
	const char *text;
	json_t *root;
	int code = header_length(path, data, length, &bytes);

	if (code != 0)
		return code;
	text = (const char *)data + SAFETENSORS_LENGTH_BYTES;
	if (!text_is_utf8(text, bytes, &bad))
		return fail(-EINVAL, "%s: the header is not UTF-8 at byte %zu",
			    path, bad);
	/* Described at more length than in JSON; by the file's own size. */
	code = json_parse_limited(text, bytes, json_memory_limit(length), path,
				  &root);
	if (code != 0)
		return code;
	parse.data = data + SAFETENSORS_LENGTH_BYTES + bytes;
	parse.data_bytes = length - SAFETENSORS_LENGTH_BYTES - bytes;
	code = parse_root(&parse, root);
	json_decref(root);
	if (code != 0) {
		safetensors_header_fini(&parse.header);
		return code;
	}
	*out = parse.header;
	return 0;
}

void safetensors_header_fini(struct safetensors_header *header)
{
	free(header->tensors);
	free(header->shapes);
	free(header->names);
	*header = (struct safetensors_header){0};
}
