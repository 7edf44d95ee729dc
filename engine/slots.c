#include "engine/slots.h"
#include "base/log.h"

#include <errno.h>
#include <stdlib.h>

int slots_init(struct slots *slots, unsigned count, size_t stride_bytes,
	       void *memory)
{
	*slots = (struct slots){.base = memory,
				.stride_bytes = stride_bytes,
				.count = count,
				.free_count = count};
	if (count == 0)
		return 0;
	slots->free = calloc(count, sizeof(*slots->free));
	if (!slots->free)
		return fail(-ENOMEM, "no memory for %u slots", count);
	for (unsigned i = 0; i < count; i++)
		slots->free[i] = count - 1 - i;
	return 0;
}

void slots_fini(struct slots *slots)
{
	free(slots->free);
	slots->free = NULL;
}

void *slots_claim(struct slots *slots)
{
	ASSERT(slots->free_count > 0);
	return slots->base +
	       slots->stride_bytes * slots->free[--slots->free_count];
}

void slots_release(struct slots *slots, void *slot)
{
	size_t offset = (size_t)((unsigned char *)slot - slots->base);

	ASSERT(slots->free_count < slots->count);
	ASSERT(slots->stride_bytes == 0 || offset % slots->stride_bytes == 0);
	slots->free[slots->free_count++] =
		slots->stride_bytes ? (unsigned)(offset / slots->stride_bytes)
				    : 0;
}
