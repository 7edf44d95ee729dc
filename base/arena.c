#include "base/arena.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/log.h"
#include "base/text.h"

#define ARENA_ALIGN           ((size_t)CACHE_LINE_BYTES)
#define ARENA_HUGE_FROM_BYTES ((size_t)4 << 20)

size_t arena_piece_bytes(size_t bytes)
{
	ASSERT(bytes <= SIZE_MAX - ARENA_ALIGN);
	return (bytes + ARENA_ALIGN - 1) & ~(ARENA_ALIGN - 1);
}

int arena_init(struct arena *arena, const char *name, size_t size_bytes)
{
	char readable[32];
	void *base = NULL;
	size_t size;

	if (size_bytes > SIZE_MAX / 2)
		return fail(-ENOMEM, "arena '%s': impossible size", name);
	size = arena_piece_bytes(size_bytes);
	if (size > 0) {
		base = mmap(NULL, size, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (base == MAP_FAILED)
			return fail(
				-ENOMEM, "arena '%s': no memory for %s: %s",
				name,
				text_bytes(readable, sizeof(readable), size),
				strerror(errno));
		/* Only advice: the kernel may have no huge pages. */
		if (size >= ARENA_HUGE_FROM_BYTES)
			(void)madvise(base, size, MADV_HUGEPAGE);
	}
	memset(arena, 0, sizeof(*arena));
	arena->base = base;
	arena->size_bytes = size;
	/* A name that is too long is cut: it only labels messages. */
	(void)!text_copy(arena->name, sizeof(arena->name), name);
	return 0;
}

void arena_fini(struct arena *arena)
{
	if (arena->base)
		munmap(arena->base, arena->size_bytes);
	memset(arena, 0, sizeof(*arena));
}

void *arena_allocate(struct arena *arena, size_t bytes)
{
	/* A piece of 0 bytes still needs an address that is not NULL. */
	static unsigned char nothing[CACHE_LINE_BYTES]
		__attribute__((aligned(CACHE_LINE_BYTES)));
	size_t piece = arena_piece_bytes(bytes);
	void *result;

	ASSERT(!arena->sealed);
	ASSERT(piece <= arena->size_bytes - arena->used_bytes);
	if (!arena->base)
		return nothing;
	result = arena->base + arena->used_bytes;
	arena->used_bytes += piece;
	return result;
}

void arena_seal(struct arena *arena)
{
	arena->sealed = true;
}
