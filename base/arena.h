/*
 * Arenas: one block of memory for one lifetime (run, step, slot).
 *
 * An arena is created with its whole size, hands out aligned pieces, and is
 * destroyed whole. Memory comes from mmap (zeroed; huge pages advised when
 * large). Sealing an arena makes any further allocation from it a bug.
 */
#ifndef STAGECOACH_BASE_ARENA_H
#define STAGECOACH_BASE_ARENA_H

#include "base/compiler.h"

struct arena {
	unsigned char *base;
	size_t size_bytes;
	size_t used_bytes;
	bool sealed;
	char name[32];
};

/* -ENOMEM with a message that names the arena and the size. 0 bytes is legal.*/
int arena_init(struct arena *arena, const char *name,
	       size_t size_bytes) MUST_CHECK;
void arena_fini(struct arena *arena);

/*
 * A 64-byte aligned piece, zeroed. Never NULL: a piece that does not fit is a
 * bug of whoever computed the size (ASSERT).
 */
void *arena_allocate(struct arena *arena, size_t bytes);
void arena_seal(struct arena *arena);

/* What arena_allocate() will take for `bytes`: rounded up to 64. */
size_t arena_piece_bytes(size_t bytes);

#endif
