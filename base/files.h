/*
 * Files: whole reads, mappings, durable writes.
 *
 * Every failure is logged with path, operation and the system's text, and
 * returned as negative errno. Writing is durable and all or nothing: a folder
 * is filled under a temporary name, synced, renamed, and its parent
 * synced. A failed fsync is final and is never retried.
 */
#ifndef STAGECOACH_BASE_FILES_H
#define STAGECOACH_BASE_FILES_H

#include "base/compiler.h"
#include <stdio.h>

/* Longest path this program handles, terminator included. */
#define FILES_PATH_BYTES 4096

/*
 * For a folder that is to be made whole or not at all: `path` without the
 * slashes it ends with, and the name beside it under which this process fills
 * it. -ENAMETOOLONG logged.
 */
int files_partial_names(const char *path, char final[FILES_PATH_BYTES],
			char partial[FILES_PATH_BYTES]) MUST_CHECK;

/* out = folder/name; -ENAMETOOLONG logged. */
int files_join(char *out, size_t size, const char *folder,
	       const char *name) MUST_CHECK;

/*
 * True when `name` may stand inside a folder: not empty, no '/', no NUL,
 * neither "." nor "..". For names that come from a file.
 */
bool files_name_is_plain(const char *name);

bool files_exists(const char *path);
bool files_holds(const char *folder, const char *name); /* folder/name exists */
bool files_is_folder(const char *path);
int files_size(const char *path, uint64_t *bytes) MUST_CHECK;

/*
 * The whole file as a heap string, terminated by a NUL that *length does not
 * count; more than `limit` bytes is -EFBIG. The caller frees.
 */
int files_read(const char *path, size_t limit, char **data,
	       size_t *length) MUST_CHECK;

/* A read-only mapping of a regular file. An empty file maps to data = NULL. */
struct files_mapping {
	const unsigned char *data;
	size_t length;
};
int files_map(const char *path, struct files_mapping *mapping) MUST_CHECK;
void files_unmap(struct files_mapping *mapping);

/* Reads or writes all bytes at an offset, resuming EINTR and short counts. */
int files_read_at(int fd, void *data, size_t bytes, uint64_t offset,
		  const char *path) MUST_CHECK;
int files_write_at(int fd, const void *data, size_t bytes, uint64_t offset,
		   const char *path) MUST_CHECK;
int files_write_all(int fd, const void *data, size_t bytes,
		    const char *path) MUST_CHECK;

/*
 * Writes one small file durably: temporary name beside it, fsync, rename,
 * fsync of the folder. Replaces what is there.
 */
int files_replace(const char *path, const void *data, size_t length) MUST_CHECK;

int files_make_folder(const char *path) MUST_CHECK; /* parents too */
int files_sync(const char *path) MUST_CHECK;        /* a file or a folder */
int files_remove_tree(const char *path) MUST_CHECK; /* absent is no error */

/* rename(2), then fsync of the parent. */
int files_rename_durably(const char *from, const char *to) MUST_CHECK;

int files_copy(const char *from, const char *to) MUST_CHECK; /* with fsync */

/*
 * Calls `visit` for every regular file below `path` (or `path` itself when it
 * is a file), in bytewise order of the paths, symbolic links to files
 * followed, to folders not. A non-zero return of visit ends the walk and is
 * returned.
 */
typedef int files_visit_fn(void *argument, const char *path, uint64_t bytes);
int files_walk(const char *path, files_visit_fn *visit,
	       void *argument) MUST_CHECK;

#endif
