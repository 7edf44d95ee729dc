#include "data/tokenizer/merges.h"

#include "base/checked.h"
#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FREE_PAIR UINT64_MAX
#define NO_RANK   INT32_MAX
/* Looking at every pair of so many is faster than a heap. */
#define FEW 64

struct merge_symbol {
	int32_t id; /* -1: merged into the one before */
	uint32_t previous, next;
};

struct merge_entry {
	int32_t rank;
	int32_t id;
	uint32_t position;
};

static uint64_t pair_of(int32_t left, int32_t right)
{
	return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

static size_t pair_slot(uint64_t pair, size_t slot_count)
{
	pair *= 0x9E3779B97F4A7C15u;
	return (pair ^ pair >> 32) & (slot_count - 1);
}

void merges_fini(struct merges *merges)
{
	free(merges->slots);
	merges->slots = NULL;
}

static struct merge_slot *slot_of(const struct merges *merges, uint64_t pair)
{
	size_t at = pair_slot(pair, merges->slot_count);

	while (merges->slots[at].pair != pair &&
	       merges->slots[at].pair != FREE_PAIR)
		at = (at + 1) & (merges->slot_count - 1);
	return &merges->slots[at];
}

static int merges_grow(struct merges *merges)
{
	struct merges grown = *merges;
	size_t i;

	grown.slot_count = MAX(merges->slot_count * 2, (size_t)1024);
	grown.slots = malloc(grown.slot_count * sizeof(*grown.slots));
	if (!grown.slots)
		return fail(-ENOMEM, "no memory for %zu merges",
			    grown.slot_count);
	memset(grown.slots, 0xFF, grown.slot_count * sizeof(*grown.slots));
	for (i = 0; i < merges->slot_count; i++) {
		if (merges->slots[i].pair != FREE_PAIR)
			*slot_of(&grown, merges->slots[i].pair) =
				merges->slots[i];
	}
	free(merges->slots);
	*merges = grown;
	return 0;
}

int merges_add(struct merges *merges, int32_t left, int32_t right, int32_t rank,
	       int32_t id)
{
	struct merge_slot *slot;
	int err;

	if (merges->count * 2 >= merges->slot_count) {
		err = merges_grow(merges);
		if (err)
			return err;
	}
	slot = slot_of(merges, pair_of(left, right));
	if (slot->pair == FREE_PAIR)
		merges->count++;
	*slot = (struct merge_slot){pair_of(left, right), rank, id};
	return 0;
}

const struct merge_slot *merges_find(const struct merges *merges, int32_t left,
				     int32_t right)
{
	const struct merge_slot *slot;

	if (!merges->slot_count)
		return NULL;
	slot = slot_of(merges, pair_of(left, right));
	return slot->pair == FREE_PAIR ? NULL : slot;
}

void merge_work_fini(struct merge_work *work)
{
	free(work->symbols);
	free(work->heap);
	*work = (struct merge_work){0};
}

static int32_t rank_of(const struct merges *merges, int32_t left, int32_t right)
{
	const struct merge_slot *slot = merges_find(merges, left, right);

	return slot ? slot->rank : NO_RANK;
}

static void apply_few(const struct merges *merges, int32_t *ids, size_t *result)
{
	int32_t ranks[FEW];
	size_t count = *result, i;

	for (i = 0; i + 1 < count; i++)
		ranks[i] = rank_of(merges, ids[i], ids[i + 1]);
	while (count > 1) {
		int32_t best = NO_RANK;
		size_t at = 0;

		for (i = 0; i + 1 < count; i++) {
			if (ranks[i] < best) {
				best = ranks[i];
				at = i;
			}
		}
		if (best == NO_RANK)
			break;
		ids[at] = merges_find(merges, ids[at], ids[at + 1])->id;
		count--;
		for (i = at + 1; i < count; i++) {
			ids[i] = ids[i + 1];
			ranks[i] = ranks[i + 1];
		}
		if (at > 0)
			ranks[at - 1] = rank_of(merges, ids[at - 1], ids[at]);
		if (at + 1 < count)
			ranks[at] = rank_of(merges, ids[at], ids[at + 1]);
	}
	*result = count;
}

static bool entry_before(struct merge_entry a, struct merge_entry b)
{
	return a.rank < b.rank || (a.rank == b.rank && a.position < b.position);
}

static void heap_push(struct merge_entry *heap, size_t *count,
		      struct merge_entry entry)
{
	size_t at = (*count)++;

	while (at && entry_before(entry, heap[(at - 1) / 2])) {
		heap[at] = heap[(at - 1) / 2];
		at = (at - 1) / 2;
	}
	heap[at] = entry;
}

static struct merge_entry heap_pop(struct merge_entry *heap, size_t *count)
{
	struct merge_entry top = heap[0], last = heap[--*count];
	size_t at = 0, child;

	while ((child = 2 * at + 1) < *count) {
		if (child + 1 < *count &&
		    entry_before(heap[child + 1], heap[child]))
			child++;
		if (!entry_before(heap[child], last))
			break;
		heap[at] = heap[child];
		at = child;
	}
	heap[at] = last;
	return top;
}

/* Each merge adds at most two entries to the n - 1 of the start. */
static int work_reserve(struct merge_work *work, size_t length)
{
	size_t entries = 3 * length;

	if (work->symbol_capacity < length) {
		free(work->symbols);
		work->symbols = malloc(length * sizeof(*work->symbols));
		work->symbol_capacity = work->symbols ? length : 0;
	}
	if (work->heap_capacity < entries) {
		free(work->heap);
		work->heap = malloc(entries * sizeof(*work->heap));
		work->heap_capacity = work->heap ? entries : 0;
	}
	if (!work->symbols || !work->heap)
		return fail(-ENOMEM, "no memory for a piece of %zu parts",
			    length);
	return 0;
}

static void push_pair(const struct merges *merges, struct merge_work *work,
		      size_t *entries, uint32_t left, uint32_t right)
{
	const struct merge_slot *slot = merges_find(
		merges, work->symbols[left].id, work->symbols[right].id);

	if (slot)
		heap_push(work->heap, entries,
			  (struct merge_entry){slot->rank, slot->id, left});
}

/* Merges the pair of an entry, unless it is not there any more. */
static void merge_entry_apply(const struct merges *merges,
			      struct merge_work *work, size_t *entries,
			      struct merge_entry entry, uint32_t count)
{
	struct merge_symbol *symbols = work->symbols;
	struct merge_symbol *left = &symbols[entry.position], *right;
	const struct merge_slot *slot;

	if (left->id < 0 || left->next >= count)
		return;
	right = &symbols[left->next];
	slot = merges_find(merges, left->id, right->id);
	if (!slot || slot->rank != entry.rank)
		return;
	left->id = entry.id;
	right->id = -1;
	left->next = right->next;
	if (left->next < count) {
		symbols[left->next].previous = entry.position;
		push_pair(merges, work, entries, entry.position, left->next);
	}
	if (left->previous < count)
		push_pair(merges, work, entries, left->previous,
			  entry.position);
}

static int apply_many(const struct merges *merges, struct merge_work *work,
		      int32_t *ids, size_t *result)
{
	uint32_t i, count = (uint32_t)*result, left = 0;
	size_t entries = 0;
	int err = work_reserve(work, count);

	if (err)
		return err;
	for (i = 0; i < count; i++)
		work->symbols[i] = (struct merge_symbol){ids[i], i - 1, i + 1};
	for (i = 0; i + 1 < count; i++)
		push_pair(merges, work, &entries, i, i + 1);
	while (entries)
		merge_entry_apply(merges, work, &entries,
				  heap_pop(work->heap, &entries), count);
	for (i = 0; i < count; i = work->symbols[i].next)
		ids[left++] = work->symbols[i].id;
	*result = left;
	return 0;
}

int merges_apply(const struct merges *merges, struct merge_work *work,
		 int32_t *ids, size_t *count)
{
	if (*count <= FEW) {
		apply_few(merges, ids, count);
		return 0;
	}
	if (*count >= UINT32_MAX / 4)
		return fail(-EFBIG, "a piece of %zu parts is too long", *count);
	return apply_many(merges, work, ids, count);
}
