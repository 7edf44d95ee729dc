/*
 * The merges of a byte-pair encoding, and applying them to one piece of text.
 */
#ifndef STAGECOACH_DATA_TOKENIZER_MERGES_H
#define STAGECOACH_DATA_TOKENIZER_MERGES_H

#include "base/compiler.h"

struct merge_slot {
	uint64_t pair; /* left id << 32 | right id; UINT64_MAX: free */
	int32_t rank;
	int32_t id; /* what the pair becomes */
};

/* {0} is empty. */
struct merges {
	struct merge_slot *slots; /* open addressing, power of two */
	size_t slot_count;
	size_t count;
};

void merges_fini(struct merges *merges);

/* A pair that is there already gets the new rank. */
int merges_add(struct merges *merges, int32_t left, int32_t right, int32_t rank,
	       int32_t id) MUST_CHECK;
const struct merge_slot *merges_find(const struct merges *merges, int32_t left,
				     int32_t right);

/* Memory for applying merges, one per caller. {0} is empty. */
struct merge_work {
	struct merge_symbol *symbols;
	size_t symbol_capacity;
	struct merge_entry *heap;
	size_t heap_capacity;
};
void merge_work_fini(struct merge_work *work);

/*
 * Merges ids[0, *count) in place: the pair of lowest rank first, the leftmost
 * of equals, until none is left. Few ids by looking for the lowest rank
 * each time, many with a heap in O(n log n).
 */
int merges_apply(const struct merges *merges, struct merge_work *work,
		 int32_t *ids, size_t *count) MUST_CHECK;

#endif
