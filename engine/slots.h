/*
 * A pool of equal slots: claim one, release it. Whoever sizes the pool has
 * counted how many are ever out at once, so that an empty pool is a bug.
 */
#ifndef STAGECOACH_ENGINE_SLOTS_H
#define STAGECOACH_ENGINE_SLOTS_H

#include "base/compiler.h"

struct slots {
	unsigned char *base;
	size_t stride_bytes;
	unsigned count;
	unsigned free_count;
	unsigned *free; /* the next to hand out is free[free_count - 1] */
};

/* `memory` holds count * stride bytes and stays the caller's. -ENOMEM. */
int slots_init(struct slots *slots, unsigned count, size_t stride_bytes,
	       void *memory) MUST_CHECK;
void slots_fini(struct slots *slots);

void *slots_claim(struct slots *slots);
void slots_release(struct slots *slots, void *slot);

#endif
