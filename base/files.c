#include "base/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"

/* Logs "<path>: cannot <operation>: <errno's text>", returns -errno. */
static int file_error(const char *path, const char *operation)
{
	int code = errno > 0 ? -errno : -EIO;

	return fail(code, "%s: cannot %s: %s", path, operation,
		    strerror(-code));
}

int files_join(char *out, size_t size, const char *folder, const char *name)
{
	size_t length = strlen(folder);
	const char *separator =
		length > 0 && folder[length - 1] != '/' ? "/" : "";
	int printed;

	if (length + strlen(name) + 2 > size)
		return fail(-ENAMETOOLONG, "%s/%s: path too long", folder,
			    name);
	printed = snprintf(out, size, "%s%s%s", folder, separator, name);
	ASSERT(printed >= 0 && (size_t)printed < size);
	return 0;
}

bool files_name_is_plain(const char *name)
{
	return name[0] != '\0' && !strchr(name, '/') && strcmp(name, ".") &&
	       strcmp(name, "..");
}

int files_partial_names(const char *path, char final[FILES_PATH_BYTES],
			char partial[FILES_PATH_BYTES])
{
	size_t length = strlen(path);
	int written;

	while (length > 1 && path[length - 1] == '/')
		length--;
	written = snprintf(partial, FILES_PATH_BYTES, "%.*s.partial-%ld",
			   (int)length, path, (long)getpid());
	if (written < 0 || written >= FILES_PATH_BYTES)
		return fail(-ENAMETOOLONG, "%s: path too long", path);
	memcpy(final, path, length);
	final[length] = '\0';
	return 0;
}

bool files_holds(const char *folder, const char *name)
{
	char path[FILES_PATH_BYTES];

	return files_join(path, sizeof(path), folder, name) == 0 &&
	       files_exists(path);
}

bool files_exists(const char *path)
{
	struct stat status;

	return lstat(path, &status) == 0;
}

bool files_is_folder(const char *path)
{
	struct stat status;

	return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

int files_size(const char *path, uint64_t *bytes)
{
	struct stat status;

	if (stat(path, &status))
		return file_error(path, "look up");
	*bytes = (uint64_t)status.st_size;
	return 0;
}

/* Opens a regular file and tells its size. */
static int open_regular(const char *path, int *out, uint64_t *bytes)
{
	struct stat status;
	int code = 0;
	/* O_NONBLOCK: a FIFO in the place of a file must not hang us. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return file_error(path, "open");
	if (fstat(fd, &status))
		code = file_error(path, "look up");
	else if (S_ISDIR(status.st_mode))
		code = fail(-EISDIR, "%s: is a folder, expected a file", path);
	else if (!S_ISREG(status.st_mode))
		code = fail(-EINVAL, "%s: is not a regular file", path);
	if (code) {
		close(fd);
		return code;
	}
	*out = fd;
	*bytes = (uint64_t)status.st_size;
	return 0;
}

int files_read(const char *path, size_t limit, char **data, size_t *length)
{
	uint64_t bytes;
	char *text;
	int fd;
	int code = open_regular(path, &fd, &bytes);

	if (code)
		return code;
	if (bytes > limit || bytes >= SIZE_MAX) {
		code = fail(-EFBIG, "%s: %llu bytes, expected at most %zu",
			    path, (unsigned long long)bytes, limit);
		goto err_close;
	}
	text = malloc((size_t)bytes + 1);
	if (!text) {
		code = fail(-ENOMEM, "%s: no memory for %llu bytes", path,
			    (unsigned long long)bytes);
		goto err_close;
	}
	code = files_read_at(fd, text, (size_t)bytes, 0, path);
	if (code)
		goto err_free;
	close(fd);
	text[bytes] = '\0';
	*data = text;
	*length = (size_t)bytes;
	return 0;

err_free:
	free(text);
err_close:
	close(fd);
	return code;
}

int files_map(const char *path, struct files_mapping *mapping)
{
	uint64_t bytes;
	void *data = NULL;
	int fd;
	int code = open_regular(path, &fd, &bytes);

	if (code)
		return code;
	if (bytes > SIZE_MAX) {
		code = fail(-EFBIG, "%s: too large to map", path);
	} else if (bytes > 0) {
		data = mmap(NULL, (size_t)bytes, PROT_READ, MAP_PRIVATE, fd, 0);
		if (data == MAP_FAILED)
			code = file_error(path, "map");
	}
	close(fd);
	if (code)
		return code;
	mapping->data = data;
	mapping->length = (size_t)bytes;
	return 0;
}

void files_unmap(struct files_mapping *mapping)
{
	if (mapping->data)
		munmap((void *)(uintptr_t)mapping->data, mapping->length);
	mapping->data = NULL;
	mapping->length = 0;
}

int files_read_at(int fd, void *data, size_t bytes, uint64_t offset,
		  const char *path)
{
	unsigned char *to = data;

	while (bytes > 0) {
		ssize_t n = pread(fd, to, bytes, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return file_error(path, "read");
		if (n == 0)
			return fail(-EIO, "%s: ends at byte %llu, %zu missing",
				    path, (unsigned long long)offset, bytes);
		to += n;
		offset += (uint64_t)n;
		bytes -= (size_t)n;
	}
	return 0;
}

int files_write_at(int fd, const void *data, size_t bytes, uint64_t offset,
		   const char *path)
{
	const unsigned char *from = data;

	while (bytes > 0) {
		ssize_t n = pwrite(fd, from, bytes, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return file_error(path, "write");
		from += n;
		offset += (uint64_t)n;
		bytes -= (size_t)n;
	}
	return 0;
}

int files_write_all(int fd, const void *data, size_t bytes, const char *path)
{
	const unsigned char *from = data;

	while (bytes > 0) {
		ssize_t n = write(fd, from, bytes);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return file_error(path, "write");
		from += n;
		bytes -= (size_t)n;
	}
	return 0;
}

/* The folder a path lies in: "a/b" -> "a", "b" -> ".", "/b" -> "/". */
static int parent_of(const char *path, char out[FILES_PATH_BYTES])
{
	size_t length = strlen(path);

	if (length >= FILES_PATH_BYTES)
		return fail(-ENAMETOOLONG, "%s: path too long", path);
	while (length > 1 && path[length - 1] == '/')
		length--;
	while (length > 0 && path[length - 1] != '/')
		length--;
	while (length > 1 && path[length - 1] == '/')
		length--;
	if (length == 0) {
		memcpy(out, ".", 2);
		return 0;
	}
	memcpy(out, path, length);
	out[length] = '\0';
	return 0;
}

int files_sync(const char *path)
{
	int code = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return file_error(path, "open");
	if (fsync(fd))
		code = file_error(path, "make durable (fsync)");
	close(fd);
	return code;
}

static int sync_parent(const char *path)
{
	char parent[FILES_PATH_BYTES];
	int code = parent_of(path, parent);

	return code ? code : files_sync(parent);
}

int files_rename_durably(const char *from, const char *to)
{
	if (rename(from, to)) {
		int code = -errno;

		return fail(code, "%s: cannot rename to %s: %s", from, to,
			    strerror(-code));
	}
	return sync_parent(to);
}

/* A new file beside `path`, whose name nobody else uses. */
static int create_beside(const char *path, char out[FILES_PATH_BYTES])
{
	int attempt;

	for (attempt = 0; attempt < 100; attempt++) {
		int fd;
		int printed = snprintf(
			out, FILES_PATH_BYTES, "%s.partial-%ld-%lld", path,
			(long)getpid(), (long long)clock_now_ns());

		if (printed < 0 || printed >= FILES_PATH_BYTES)
			return fail(-ENAMETOOLONG, "%s: path too long", path);
		fd = open(out, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
		if (fd >= 0)
			return fd;
		if (errno != EEXIST)
			break;
	}
	return file_error(path, "create");
}

/* fsync and close; both can report a write that failed. */
static int finish_file(int fd, const char *path)
{
	int code = 0;

	if (fsync(fd))
		code = file_error(path, "make durable (fsync)");
	if (close(fd) && !code)
		code = file_error(path, "close");
	return code;
}

int files_replace(const char *path, const void *data, size_t length)
{
	char partial[FILES_PATH_BYTES];
	int fd = create_beside(path, partial);
	int code;

	if (fd < 0)
		return fd;
	code = files_write_all(fd, data, length, path);
	if (code) {
		close(fd);
		goto err_unlink;
	}
	code = finish_file(fd, path);
	if (code)
		goto err_unlink;
	code = files_rename_durably(partial, path);
	if (code)
		goto err_unlink;
	return 0;

err_unlink:
	unlink(partial);
	return code;
}

static int make_one_folder(const char *path)
{
	if (mkdir(path, 0777) == 0)
		return 0;
	if (errno != EEXIST)
		return file_error(path, "create the folder");
	if (!files_is_folder(path))
		return fail(-ENOTDIR, "%s: exists and is not a folder", path);
	return 0;
}

int files_make_folder(const char *path)
{
	char prefix[FILES_PATH_BYTES];
	size_t length = strlen(path);
	size_t i;

	if (length == 0 || length >= sizeof(prefix))
		return fail(length ? -ENAMETOOLONG : -ENOENT,
			    "'%s': not a usable path", path);
	memcpy(prefix, path, length + 1);
	for (i = 1; i <= length; i++) {
		char kept = prefix[i];
		int code;

		if ((kept != '/' && kept != '\0') || prefix[i - 1] == '/')
			continue;
		prefix[i] = '\0';
		code = make_one_folder(prefix);
		if (code)
			return code;
		prefix[i] = kept;
	}
	return 0;
}

/* One thing in a folder. Its name has a '/' behind it when it is a folder. */
struct entry {
	char *name;
	uint64_t bytes;
	bool is_folder;
	bool is_file;
};

struct listing {
	struct entry *entries;
	size_t count;
	size_t capacity;
};

static void listing_fini(struct listing *listing)
{
	size_t i;

	for (i = 0; i < listing->count; i++)
		free(listing->entries[i].name);
	free(listing->entries);
}

static int compare_entries(const void *a, const void *b)
{
	return strcmp(((const struct entry *)a)->name,
		      ((const struct entry *)b)->name);
}

static int listing_add(struct listing *listing, int folder_fd, const char *name)
{
	struct entry entry = {0};
	struct stat status;
	size_t length = strlen(name);

	if (fstatat(folder_fd, name, &status, AT_SYMLINK_NOFOLLOW))
		return errno == ENOENT ? 0 : -errno; /* gone meanwhile */
	entry.is_folder = S_ISDIR(status.st_mode);
	if (S_ISLNK(status.st_mode) && fstatat(folder_fd, name, &status, 0))
		memset(&status, 0, sizeof(status)); /* dangling */
	entry.is_file = S_ISREG(status.st_mode);
	entry.bytes = (uint64_t)status.st_size;
	if (listing->count == listing->capacity) {
		size_t capacity = MAX((size_t)32, 2 * listing->capacity);
		struct entry *grown =
			realloc(listing->entries, capacity * sizeof(grown[0]));

		if (!grown)
			return -ENOMEM;
		listing->entries = grown;
		listing->capacity = capacity;
	}
	entry.name = malloc(length + 2);
	if (!entry.name)
		return -ENOMEM;
	memcpy(entry.name, name, length + 1);
	if (entry.is_folder)
		memcpy(entry.name + length, "/", 2);
	listing->entries[listing->count++] = entry;
	return 0;
}

static int listing_init(struct listing *listing, const char *path)
{
	struct dirent *found;
	int code = 0;
	DIR *folder = opendir(path);

	memset(listing, 0, sizeof(*listing));
	if (!folder)
		return file_error(path, "open the folder");
	while (!code) {
		errno = 0;
		found = readdir(folder);
		if (!found) {
			code = -errno;
			break;
		}
		if (strcmp(found->d_name, ".") && strcmp(found->d_name, ".."))
			code = listing_add(listing, dirfd(folder),
					   found->d_name);
	}
	closedir(folder);
	if (code) {
		listing_fini(listing);
		return fail(code, "%s: cannot list the folder: %s", path,
			    strerror(-code));
	}
	/* With the '/' the order is that of whole paths: "a.c" < "a/b". */
	if (listing->count > 0)
		qsort(listing->entries, listing->count, sizeof(struct entry),
		      compare_entries);
	return 0;
}

/* `path` is a buffer of FILES_PATH_BYTES whose tail the recursion uses. */
static int walk_folder(char *path, files_visit_fn *visit, void *argument)
{
	size_t length = strlen(path);
	struct listing listing;
	size_t i;
	int code = listing_init(&listing, path);

	if (code)
		return code;
	for (i = 0; i < listing.count && !code; i++) {
		const struct entry *entry = &listing.entries[i];
		char folder[FILES_PATH_BYTES];

		memcpy(folder, path, length + 1);
		code = files_join(path, FILES_PATH_BYTES, folder, entry->name);
		if (code)
			break;
		if (entry->is_folder) {
			path[strlen(path) - 1] = '\0';
			code = walk_folder(path, visit, argument);
		} else if (entry->is_file) {
			code = visit(argument, path, entry->bytes);
		}
		path[length] = '\0';
	}
	listing_fini(&listing);
	return code;
}

int files_walk(const char *path, files_visit_fn *visit, void *argument)
{
	char buffer[FILES_PATH_BYTES];
	struct stat status;

	if (stat(path, &status))
		return file_error(path, "look up");
	if (S_ISREG(status.st_mode))
		return visit(argument, path, (uint64_t)status.st_size);
	if (!S_ISDIR(status.st_mode))
		return fail(-EINVAL, "%s: neither a file nor a folder", path);
	if (text_copy(buffer, sizeof(buffer), path))
		return fail(-ENAMETOOLONG, "%s: path too long", path);
	return walk_folder(buffer, visit, argument);
}

static int remove_folder(const char *path)
{
	struct listing listing;
	char child[FILES_PATH_BYTES];
	size_t i;
	int code = listing_init(&listing, path);

	if (code)
		return code;
	for (i = 0; i < listing.count && !code; i++) {
		const struct entry *entry = &listing.entries[i];

		code = files_join(child, sizeof(child), path, entry->name);
		if (code)
			break;
		if (entry->is_folder) {
			child[strlen(child) - 1] = '\0';
			code = remove_folder(child);
		} else if (unlink(child) && errno != ENOENT) {
			code = file_error(child, "remove");
		}
	}
	listing_fini(&listing);
	if (!code && rmdir(path) && errno != ENOENT)
		code = file_error(path, "remove the folder");
	return code;
}

int files_remove_tree(const char *path)
{
	struct stat status;

	if (lstat(path, &status))
		return errno == ENOENT ? 0 : file_error(path, "look up");
	if (S_ISDIR(status.st_mode))
		return remove_folder(path);
	return unlink(path) && errno != ENOENT ? file_error(path, "remove") : 0;
}

static int copy_bytes(int from_fd, const char *from, int to_fd, const char *to)
{
	unsigned char buffer[65536];

	for (;;) {
		ssize_t n = read(from_fd, buffer, sizeof(buffer));
		int code;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return file_error(from, "read");
		if (n == 0)
			return 0;
		code = files_write_all(to_fd, buffer, (size_t)n, to);
		if (code)
			return code;
	}
}

int files_copy(const char *from, const char *to)
{
	char partial[FILES_PATH_BYTES];
	uint64_t bytes;
	int from_fd;
	int to_fd;
	int code = open_regular(from, &from_fd, &bytes);

	if (code)
		return code;
	to_fd = create_beside(to, partial);
	if (to_fd < 0) {
		code = to_fd;
		goto err_from;
	}
	code = copy_bytes(from_fd, from, to_fd, to);
	if (code) {
		close(to_fd);
		goto err_partial;
	}
	code = finish_file(to_fd, to);
	if (code)
		goto err_partial;
	code = files_rename_durably(partial, to);
	if (code)
		goto err_partial;
	close(from_fd);
	return 0;

err_partial:
	unlink(partial);
err_from:
	close(from_fd);
	return code;
}
