/*
 * The header of one safetensors file, shared by the reader and the writer.
 * Internal to model/io.
 */
#ifndef STAGECOACH_MODEL_IO_SAFETENSORS_HEADER_H
#define STAGECOACH_MODEL_IO_SAFETENSORS_HEADER_H

#include "model/io/safetensors.h"

/* The length field, and the longest header the reference reader takes. */
#define SAFETENSORS_LENGTH_BYTES     8
#define SAFETENSORS_HEADER_BYTES_MAX 100000000

struct safetensors_header {
	size_t count;
	struct safetensors_tensor *tensors; /* in the order of their data */
	size_t *shapes;                     /* all of them, one after another */
	char *names;                        /* likewise, NUL-terminated */
};

/*
 * Checks the whole of a mapped file; tensors' data point into it, and their
 * file is `path`, which must stay. -EINVAL logged; nothing is kept then.
 */
int safetensors_header_parse(const char *path, const unsigned char *data,
			     size_t length,
			     struct safetensors_header *out) MUST_CHECK;
void safetensors_header_fini(struct safetensors_header *header);

/*
 * Elements and bytes of a shape. Silent: 0, or -EOVERFLOW, or -EINVAL when the
 * bits are no whole number of bytes.
 */
int safetensors_shape_size(enum safetensors_dtype dtype, unsigned rank,
			   const size_t *shape, size_t *count,
			   size_t *bytes) MUST_CHECK;

/* "[2, 3]" into buffer, cut short with "..." when it does not fit. */
const char *safetensors_shape_text(char *buffer, size_t size, unsigned rank,
				   const size_t *shape);

#endif
