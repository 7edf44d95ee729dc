/*
 * safetensors files: tensors by name, alone or as a sharded folder.
 *
 * Format: https://github.com/huggingface/safetensors (README, "Format"):
 * 8 bytes little-endian header length, a JSON header, the data. Every rule of
 * its reference reader is enforced, and names that occur twice are refused.
 * All errors are logged naming file, tensor and reason, and are -EINVAL for a
 * file that breaks a rule, else the system's.
 */
#ifndef STAGECOACH_MODEL_IO_SAFETENSORS_H
#define STAGECOACH_MODEL_IO_SAFETENSORS_H

#include "base/compiler.h"

/* In the format's own order, which the layout of a file depends on. */
enum safetensors_dtype {
	SAFETENSORS_BOOL,
	SAFETENSORS_F4,
	SAFETENSORS_F6_E2M3,
	SAFETENSORS_F6_E3M2,
	SAFETENSORS_U8,
	SAFETENSORS_I8,
	SAFETENSORS_F8_E5M2,
	SAFETENSORS_F8_E4M3,
	SAFETENSORS_F8_E8M0,
	SAFETENSORS_F8_E4M3FNUZ,
	SAFETENSORS_F8_E5M2FNUZ,
	SAFETENSORS_I16,
	SAFETENSORS_U16,
	SAFETENSORS_F16,
	SAFETENSORS_BF16,
	SAFETENSORS_I32,
	SAFETENSORS_U32,
	SAFETENSORS_F32,
	SAFETENSORS_C64,
	SAFETENSORS_F64,
	SAFETENSORS_I64,
	SAFETENSORS_U64,
	SAFETENSORS_DTYPES,
};

const char *safetensors_dtype_name(enum safetensors_dtype dtype);
unsigned safetensors_dtype_bits(enum safetensors_dtype dtype);

/* ---- reading ---- */

struct safetensors; /* one opened file, or the files of one folder, mapped */

struct safetensors_tensor {
	const char *name;
	const char *file; /* the path it stands in, for messages */
	enum safetensors_dtype dtype;
	unsigned rank; /* 0: a scalar */
	const size_t *shape;
	size_t count;              /* product of shape */
	size_t bytes;              /* of data */
	const unsigned char *data; /* little endian; may be unaligned */
};

/*
 * Opens a file, or in a folder `model.safetensors`, else the shards that
 * `model.safetensors.index.json` names (which must lie in that folder, hold
 * every tensor the index says and no other). -ENOENT: none of them is there
 * (a pytorch_model.bin is refused by name). Blocks on reading the headers
 * only; data are mapped.
 */
int safetensors_open(const char *path, struct safetensors **out) MUST_CHECK;

/* The same with another stem than "model", e.g. "optimizer", in a folder. */
int safetensors_open_folder(const char *folder, const char *stem,
			    struct safetensors **out) MUST_CHECK;

/* NULL is fine. Tensors and their data are gone afterwards. */
void safetensors_close(struct safetensors *safetensors);

/* Tensors, in bytewise order of their names. */
size_t safetensors_count(const struct safetensors *safetensors);
const struct safetensors_tensor *
safetensors_tensor(const struct safetensors *safetensors, size_t index);

/* NULL if there is none of this name (silent). */
const struct safetensors_tensor *
safetensors_find(const struct safetensors *safetensors, const char *name);

/*
 * Elements first .. first + count - 1 of an F32, F16 or BF16 tensor (row-major
 * order, so also a range of rows) as floats; exact. -ENOTSUP, logged: another
 * dtype; -ERANGE, logged: beyond the tensor.
 */
int safetensors_read_floats(const struct safetensors_tensor *tensor,
			    size_t first, size_t count, float *out) MUST_CHECK;

/*
 * The same with calls of read(2) in place of the mapping, for whoever reads files
 * of many gigabytes once: pages need not be mapped, and the kernel reads ahead.
 * `files` is what the tensor is of; room: SAFETENSORS_ROOM_BYTES of the
 * caller's thread. Several threads may read at once. Also -EIO, logged.
 */
#define SAFETENSORS_ROOM_BYTES ((size_t)1 << 20)
int safetensors_stream_floats(const struct safetensors *files,
			      const struct safetensors_tensor *tensor,
			      size_t first, size_t count, void *room,
			      float *out) MUST_CHECK;

/*
 * Says that the tensor's data, up to the first `bytes` of them, will be read
 * soon: the kernel begins to. Does not wait; silent.
 */
void safetensors_expect(const struct safetensors_tensor *tensor, size_t bytes);

/* 0, or -EINVAL, logged with both shapes, when the shape is not this one. */
int safetensors_check_shape(const struct safetensors_tensor *tensor,
			    unsigned rank, const size_t *shape) MUST_CHECK;

/* ---- writing ---- */

/*
 * Where every tensor will stand, computed before any data exist: the same for
 * everyone who knows the same entries, so that each of several processes can
 * write what it owns. Entries are divided in the order given into files of at
 * most max_shard_bytes of data (a larger tensor has a file to itself; 0: one
 * file); within a file tensors stand by dtype descending, then by name.
 */
struct safetensors_layout;

struct safetensors_entry {
	const char *name; /* only read during the call */
	enum safetensors_dtype dtype;
	unsigned rank;
	const size_t *shape;
};

/*
 * Files are `<stem>.safetensors`, or `<stem>-00001-of-00003.safetensors` with
 * `<stem>.safetensors.index.json`. -EINVAL: a name twice, an impossible shape.
 */
int safetensors_layout_create(const struct safetensors_entry *entries,
			      size_t count, uint64_t max_shard_bytes,
			      const char *stem,
			      struct safetensors_layout **out) MUST_CHECK;
void safetensors_layout_destroy(struct safetensors_layout *layout);

size_t safetensors_layout_files(const struct safetensors_layout *layout);
const char *
safetensors_layout_file_name(const struct safetensors_layout *layout,
			     size_t file);
uint64_t safetensors_layout_file_bytes(const struct safetensors_layout *layout,
				       size_t file);

/* Where entry `entry` (as given) stands: file, its byte offset, its bytes. */
void safetensors_layout_place(const struct safetensors_layout *layout,
			      size_t entry, size_t *file, uint64_t *offset,
			      uint64_t *bytes);

/*
 * Creates the files in an existing folder, with headers and their full length
 * (data are zeros until written), and the index if there are several. One
 * process does this, before the others write. A file that exists is refused
 * (-EEXIST). Headers are synced.
 */
int safetensors_layout_create_files(const struct safetensors_layout *layout,
				    const char *folder) MUST_CHECK;

/*
 * A writer into files that exist. Several, in any processes, may write at
 * once. It refers to the layout until it is closed.
 */
struct safetensors_writer;
int safetensors_writer_open(const struct safetensors_layout *layout,
			    const char *folder,
			    struct safetensors_writer **out) MUST_CHECK;

/* `bytes` of little-endian data at byte `first` of an entry. Blocks. */
int safetensors_writer_write(struct safetensors_writer *writer, size_t entry,
			     uint64_t first, const void *data,
			     size_t bytes) MUST_CHECK;

/* Syncs what was written, closes and frees, whatever the result. A failed
 * sync is final. */
int safetensors_writer_close(struct safetensors_writer *writer) MUST_CHECK;

/* Gives up: closes and frees without syncing. NULL is fine. */
void safetensors_writer_abandon(struct safetensors_writer *writer);

#endif
