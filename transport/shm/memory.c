/*
 * Shared memory: memfds that cannot shrink. They have no name, so that
 * nothing is left of them when the last process that has one is gone.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "transport/shm/shm.h"

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

/* Up to whole pages; bytes at most SIZE_MAX / 2. */
static size_t round_up(size_t bytes)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	return (bytes + page - 1) / page * page;
}

/* All pages are there and mapped: none is to be fetched in a step. */
static int map(int fd, size_t bytes, void **out)
{
	void *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_POPULATE, fd, 0);

	if (base == MAP_FAILED)
		return -errno;
	*out = base;
	return 0;
}

int shm_memory_create(size_t bytes, int *fd, void **out)
{
	int status;

	if (bytes > SIZE_MAX / 2)
		return fail(-ENOMEM, "shm: a region of %zu bytes", bytes);
	bytes = round_up(bytes);
	*fd = memfd_create("stagecoach", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (*fd < 0)
		return fail(-errno, "shm: memfd_create: %s", strerror(errno));
	/* Where there are too few pages, this says so, and not a signal. */
	if (ftruncate(*fd, (off_t)bytes) ||
	    fallocate(*fd, 0, 0, (off_t)bytes) ||
	    fcntl(*fd, F_ADD_SEALS, SEALS))
		status = -errno;
	else
		status = map(*fd, bytes, out);
	if (!status)
		return 0;
	close(*fd);
	return fail(status, "shm: no %zu bytes of shared memory: %s", bytes,
		    strerror(-status));
}

int shm_memory_map(int fd, size_t bytes, void **out)
{
	struct stat file;
	int seals;

	/* Only of a memfd; what could shrink could kill us by SIGBUS. */
	seals = fcntl(fd, F_GET_SEALS);
	if (seals < 0 || !(seals & F_SEAL_SHRINK) || fstat(fd, &file))
		return -EPROTO;
	/* Nor shall mapping it make us take pages that its maker has not. */
	if (!bytes || bytes > SIZE_MAX / 2 || file.st_size < 0 ||
	    round_up(bytes) > (size_t)file.st_size ||
	    file.st_blocks < file.st_size / 512)
		return -EPROTO;
	return map(fd, round_up(bytes), out);
}

void shm_memory_unmap(void *base, size_t bytes)
{
	munmap(base, round_up(bytes));
}

/* Whole cache lines throughout, since an entry is one. */
size_t shm_ring_bytes(uint64_t slots)
{
	return sizeof(struct shm_head) + 4 * slots * sizeof(struct shm_entry) +
	       2 * SHM_BOUNCE_BYTES;
}

void shm_ring_at(struct shm_ring *ring, void *base, uint64_t slots)
{
	struct shm_entry *entries = (void *)((struct shm_head *)base + 1);
	unsigned char *bytes = (void *)(entries + 4 * slots);

	*ring = (struct shm_ring){
		.head = base,
		.offers = {entries, entries + slots},
		.notices = {entries + 2 * slots, entries + 3 * slots},
		.bytes = {bytes, bytes + SHM_BOUNCE_BYTES},
		.slots = slots,
	};
}
