#include "data/bpe_train.h"
#include "data/tokenizer/tokenizer_impl.h"

#include "base/digest.h"
#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- counting distinct pieces ---- */

struct piece {
	size_t offset; /* in the text of all pieces */
	uint32_t length;
	uint64_t count;
};

struct bpe_train {
	struct tokenizer *tokenizer; /* the base, then what becomes of it */
	struct utf8_feed feed;
	struct split_stream *split;
	struct byte_buffer text;
	struct piece *pieces;
	size_t piece_count, piece_capacity;
	uint32_t *slots; /* hash table: piece + 1, 0 is free */
	size_t slot_count;
};

static uint32_t *piece_slot(const struct bpe_train *train, const char *text,
			    size_t length)
{
	size_t mask = train->slot_count - 1;
	size_t at = digest_hash64(text, length) & mask;

	for (; train->slots[at]; at = (at + 1) & mask) {
		const struct piece *piece =
			&train->pieces[train->slots[at] - 1];

		if (piece->length == length &&
		    memcmp(train->text.data + piece->offset, text, length) == 0)
			break;
	}
	return &train->slots[at];
}

static int pieces_grow(struct bpe_train *train)
{
	size_t capacity = MAX(train->piece_capacity * 2, (size_t)4096), i;
	struct piece *pieces;
	uint32_t *slots;

	if (capacity > UINT32_MAX / 4)
		return fail(-EFBIG,
			    "over %zu distinct pieces of text to train "
			    "a tokenizer on; train on a part of it",
			    train->piece_capacity);
	pieces = reallocarray(train->pieces, capacity, sizeof(*pieces));
	if (!pieces)
		return fail(-ENOMEM, "no memory for %zu pieces", capacity);
	train->pieces = pieces;
	slots = calloc(capacity * 2, sizeof(*slots));
	if (!slots)
		return fail(-ENOMEM, "no memory for %zu pieces", capacity);
	free(train->slots);
	train->slots = slots;
	train->slot_count = capacity * 2;
	train->piece_capacity = capacity;
	for (i = 0; i < train->piece_count; i++)
		*piece_slot(train, train->text.data + pieces[i].offset,
			    pieces[i].length) = (uint32_t)i + 1;
	return 0;
}

static int piece_count(void *argument, const char *text, size_t length)
{
	struct bpe_train *train = argument;
	uint32_t *slot;
	size_t offset = train->text.length;
	int err;

	if (length > SPLIT_PIECE_BYTES)
		return fail(-EFBIG, "a piece of text of %zu bytes", length);
	if (train->piece_count == train->piece_capacity) {
		err = pieces_grow(train);
		if (err)
			return err;
	}
	slot = piece_slot(train, text, length);
	if (*slot) {
		train->pieces[*slot - 1].count++;
		return 0;
	}
	err = byte_buffer_append(&train->text, text, length);
	if (err)
		return err;
	train->pieces[train->piece_count++] =
		(struct piece){offset, (uint32_t)length, 1};
	*slot = (uint32_t)train->piece_count;
	return 0;
}

int bpe_train_create(struct bpe_train **out)
{
	struct bpe_train *train = calloc(1, sizeof(*train));
	int err;

	if (!train)
		return fail(-ENOMEM, "no memory to train a tokenizer");
	err = tokenizer_allocate("bpe", &train->tokenizer);
	if (!err)
		err = tokenizer_define_base(train->tokenizer);
	if (!err)
		err = split_stream_create(&train->tokenizer->splitter,
					  piece_count, train, &train->split);
	if (err) {
		bpe_train_destroy(train);
		return err;
	}
	*out = train;
	return 0;
}

void bpe_train_destroy(struct bpe_train *train)
{
	if (!train)
		return;
	split_stream_destroy(train->split);
	tokenizer_destroy(train->tokenizer);
	byte_buffer_fini(&train->text);
	free(train->pieces);
	free(train->slots);
	free(train);
}

int bpe_train_push(struct bpe_train *train, const char *text, size_t length,
		   bool end)
{
	return utf8_feed_push(&train->feed, text, length, end,
			      split_stream_push, train->split);
}

uint64_t bpe_train_offset(const struct bpe_train *train)
{
	return train->feed.offset;
}

/* ---- merging ---- */

/*
 * A word is a distinct piece as the ids it consists of so far. For each pair
 * there is its count, and in the queue one entry or more, each with the words
 * in which the pair came up since the last one. As in the library
 * the count of a pair is not taken back when it is merged, and an entry whose
 * count is out of date is put back with the count of now.
 */
struct word {
	int32_t *ids;
	uint32_t length;
	uint64_t count;
};

struct pair_count {
	uint64_t pair; /* left << 32 | right; UINT64_MAX: free */
	int64_t count;
	/* Words it came up in during this merge, and their last. */
	uint32_t *words;
	uint32_t word_count, word_capacity;
};

struct entry {
	uint64_t pair;
	int64_t count;
	uint32_t *words; /* owned */
	uint32_t word_count;
};

struct merging {
	struct bpe_train *train;
	int32_t *ids; /* of all words */
	struct word *words;
	struct pair_count *pairs; /* hash table */
	size_t pair_count, pair_slots;
	uint64_t *touched; /* pairs that came up during this merge */
	size_t touched_count, touched_capacity;
	struct entry *heap;
	size_t heap_count, heap_capacity;
};

static uint64_t pair_of(int32_t left, int32_t right)
{
	return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

static struct pair_count *pair_slot(struct pair_count *pairs, size_t slots,
				    uint64_t pair)
{
	uint64_t hash = pair * 0x9E3779B97F4A7C15u;
	size_t at = (hash ^ hash >> 32) & (slots - 1);

	while (pairs[at].pair != pair && pairs[at].pair != UINT64_MAX)
		at = (at + 1) & (slots - 1);
	return &pairs[at];
}

static int pairs_grow(struct merging *merging)
{
	size_t slots = MAX(merging->pair_slots * 2, (size_t)8192), i;
	struct pair_count *grown = calloc(slots, sizeof(*grown));

	if (!grown)
		return fail(-ENOMEM, "no memory for %zu pairs", slots);
	for (i = 0; i < slots; i++)
		grown[i].pair = UINT64_MAX;
	for (i = 0; i < merging->pair_slots; i++) {
		if (merging->pairs[i].pair != UINT64_MAX)
			*pair_slot(grown, slots, merging->pairs[i].pair) =
				merging->pairs[i];
	}
	free(merging->pairs);
	merging->pairs = grown;
	merging->pair_slots = slots;
	return 0;
}

static int pair_get(struct merging *merging, uint64_t pair,
		    struct pair_count **out)
{
	struct pair_count *slot;
	int err;

	if (merging->pair_count * 2 >= merging->pair_slots) {
		err = pairs_grow(merging);
		if (err)
			return err;
	}
	slot = pair_slot(merging->pairs, merging->pair_slots, pair);
	if (slot->pair == UINT64_MAX) {
		slot->pair = pair;
		merging->pair_count++;
	}
	*out = slot;
	return 0;
}

static int touched_append(struct merging *merging, uint64_t pair)
{
	if (merging->touched_count == merging->touched_capacity) {
		size_t capacity =
			MAX(merging->touched_capacity * 2, (size_t)1024);
		uint64_t *grown = reallocarray(merging->touched, capacity,
					       sizeof(*grown));

		if (!grown)
			return fail(-ENOMEM, "no memory for %zu pairs",
				    capacity);
		merging->touched = grown;
		merging->touched_capacity = capacity;
	}
	merging->touched[merging->touched_count++] = pair;
	return 0;
}

/* The pair came up in (change > 0) or went from a word. */
static int pair_change(struct merging *merging, uint64_t pair, int64_t change,
		       uint32_t word)
{
	struct pair_count *slot;
	int err = pair_get(merging, pair, &slot);

	if (err)
		return err;
	slot->count += change;
	if (change < 0 ||
	    (slot->word_count && slot->words[slot->word_count - 1] == word))
		return 0;
	if (slot->word_count == slot->word_capacity) {
		uint32_t capacity = MAX(slot->word_capacity * 2, 4u);
		uint32_t *grown =
			reallocarray(slot->words, capacity, sizeof(*grown));

		if (!grown)
			return fail(-ENOMEM, "no memory for %u words",
				    (unsigned)capacity);
		slot->words = grown;
		slot->word_capacity = capacity;
	}
	if (!slot->word_count) {
		err = touched_append(merging, pair);
		if (err)
			return err;
	}
	slot->words[slot->word_count++] = word;
	return 0;
}

/* Highest count first, then the pair of smaller ids. */
static bool entry_before(const struct entry *a, const struct entry *b)
{
	return a->count > b->count ||
	       (a->count == b->count && a->pair < b->pair);
}

static int heap_push(struct merging *merging, struct entry entry)
{
	size_t at = merging->heap_count;
	struct entry *heap = merging->heap;

	if (at == merging->heap_capacity) {
		size_t capacity = MAX(at * 2, (size_t)4096);

		heap = reallocarray(heap, capacity, sizeof(*heap));
		if (!heap)
			return fail(-ENOMEM, "no memory for %zu pairs",
				    capacity);
		merging->heap = heap;
		merging->heap_capacity = capacity;
	}
	merging->heap_count++;
	while (at && entry_before(&entry, &heap[(at - 1) / 2])) {
		heap[at] = heap[(at - 1) / 2];
		at = (at - 1) / 2;
	}
	heap[at] = entry;
	return 0;
}

static struct entry heap_pop(struct merging *merging)
{
	struct entry *heap = merging->heap;
	size_t count = --merging->heap_count, at = 0, child;
	struct entry top = heap[0], last = heap[count];

	while ((child = 2 * at + 1) < count) {
		if (child + 1 < count &&
		    entry_before(&heap[child + 1], &heap[child]))
			child++;
		if (!entry_before(&heap[child], &last))
			break;
		heap[at] = heap[child];
		at = child;
	}
	heap[at] = last;
	return top;
}

/* An entry for each pair that came up; the words are its own then. */
static int queue_touched(struct merging *merging)
{
	size_t i;
	int err;

	for (i = 0; i < merging->touched_count; i++) {
		struct pair_count *slot =
			pair_slot(merging->pairs, merging->pair_slots,
				  merging->touched[i]);
		struct entry entry = {slot->pair, slot->count, slot->words,
				      slot->word_count};

		if (slot->count > 0) {
			err = heap_push(merging, entry);
			if (err)
				return err;
		} else {
			free(slot->words);
		}
		slot->words = NULL;
		slot->word_count = slot->word_capacity = 0;
	}
	merging->touched_count = 0;
	return 0;
}

static int words_create(struct merging *merging)
{
	const struct bpe_train *train = merging->train;
	const int32_t *byte_id = train->tokenizer->bpe.byte_id;
	size_t i, at;
	int err;

	merging->ids = reallocarray(NULL, train->text.length + 1,
				    sizeof(*merging->ids));
	merging->words =
		calloc(train->piece_count + 1, sizeof(*merging->words));
	if (!merging->ids || !merging->words)
		return fail(-ENOMEM, "no memory for %zu pieces of text",
			    train->piece_count);
	for (i = 0; i < train->text.length; i++)
		merging->ids[i] = byte_id[(unsigned char)train->text.data[i]];
	for (i = 0; i < train->piece_count; i++) {
		const struct piece *piece = &train->pieces[i];
		struct word *word = &merging->words[i];

		*word = (struct word){merging->ids + piece->offset,
				      piece->length, piece->count};
		for (at = 0; at + 1 < word->length; at++) {
			err = pair_change(
				merging,
				pair_of(word->ids[at], word->ids[at + 1]),
				(int64_t)word->count, (uint32_t)i);
			if (err)
				return err;
		}
	}
	return queue_touched(merging);
}

/* Merges every (left, right) of one word, from the left. */
static int word_merge(struct merging *merging, uint32_t index, int32_t left,
		      int32_t right, int32_t id)
{
	struct word *word = &merging->words[index];
	int32_t *ids = word->ids;
	int64_t count = (int64_t)word->count;
	uint32_t from = 0, to = 0;
	int err = 0;

	while (from < word->length && !err) {
		if (from + 1 == word->length || ids[from] != left ||
		    ids[from + 1] != right) {
			ids[to++] = ids[from++];
			continue;
		}
		if (to) {
			err = pair_change(merging, pair_of(ids[to - 1], left),
					  -count, index);
			if (!err)
				err = pair_change(merging,
						  pair_of(ids[to - 1], id),
						  count, index);
		}
		if (!err && from + 2 < word->length) {
			err = pair_change(merging,
					  pair_of(right, ids[from + 2]), -count,
					  index);
			if (!err)
				err = pair_change(merging,
						  pair_of(id, ids[from + 2]),
						  count, index);
		}
		ids[to++] = id;
		from += 2;
	}
	word->length = to;
	return err;
}

/* The id of left + right: a new one, unless the string is a token already. */
static int joined_id(struct merging *merging, int32_t left, int32_t right,
		     struct byte_buffer *joined, int32_t *id)
{
	struct tokenizer *tokenizer = merging->train->tokenizer;
	const char *bytes;
	size_t length;
	int err;

	joined->length = 0;
	bytes = tokenizer_token(tokenizer, left, &length);
	err = byte_buffer_append(joined, bytes, length);
	bytes = tokenizer_token(tokenizer, right, &length);
	if (!err)
		err = byte_buffer_append(joined, bytes, length);
	if (err)
		return err;
	*id = tokenizer_find_piece(tokenizer, joined->data, joined->length);
	if (*id >= 0)
		return 0;
	*id = (int32_t)tokenizer->count;
	err = tokenizer_define(tokenizer, *id, joined->data, joined->length);
	if (err)
		return err;
	return tokenizer_note_piece(tokenizer, *id);
}

static int merge_entry(struct merging *merging, const struct entry *entry,
		       struct byte_buffer *joined)
{
	int32_t left = (int32_t)(entry->pair >> 32);
	int32_t right = (int32_t)(entry->pair & UINT32_MAX), id;
	uint32_t i;
	int err = joined_id(merging, left, right, joined, &id);

	if (!err)
		err = tokenizer_define_merge(merging->train->tokenizer, left,
					     right, id);
	for (i = 0; i < entry->word_count && !err; i++)
		err = word_merge(merging, entry->words[i], left, right, id);
	return err ? err : queue_touched(merging);
}

static int merge_until(struct merging *merging, size_t vocab_size,
		       int64_t minimum, bpe_train_progress_fn *progress,
		       void *argument, struct byte_buffer *joined)
{
	struct tokenizer *tokenizer = merging->train->tokenizer;
	int err = 0;

	while (tokenizer->count < vocab_size && merging->heap_count && !err) {
		struct entry entry = heap_pop(merging);
		int64_t count = pair_slot(merging->pairs, merging->pair_slots,
					  entry.pair)
					->count;

		if (entry.count != count) {
			entry.count = count;
			err = heap_push(merging, entry);
			continue;
		}
		if (entry.count < minimum) {
			free(entry.words);
			break;
		}
		err = merge_entry(merging, &entry, joined);
		free(entry.words);
		if (!err && progress && tokenizer->count % 64 == 0)
			err = progress(argument, tokenizer->count, vocab_size);
	}
	return err;
}

static void merging_fini(struct merging *merging)
{
	size_t i;

	for (i = 0; i < merging->heap_count; i++)
		free(merging->heap[i].words);
	for (i = 0; i < merging->pair_slots; i++)
		free(merging->pairs[i].words);
	free(merging->heap);
	free(merging->pairs);
	free(merging->touched);
	free(merging->words);
	free(merging->ids);
}

int bpe_train_finish(struct bpe_train *train, size_t vocab_size,
		     uint64_t minimum_count, bpe_train_progress_fn *progress,
		     void *argument, struct tokenizer **out)
{
	struct merging merging = {.train = train};
	struct byte_buffer joined = {0};
	int64_t minimum =
		(int64_t)MIN(MAX(minimum_count, 1u), (uint64_t)INT64_MAX);
	int err = -EINVAL;

	if (vocab_size < BPE_TRAIN_MINIMUM_VOCAB ||
	    vocab_size > BPE_TRAIN_MAXIMUM_VOCAB)
		return fail(err, "a vocabulary has %d to %d ids, not %zu",
			    BPE_TRAIN_MINIMUM_VOCAB, BPE_TRAIN_MAXIMUM_VOCAB,
			    vocab_size);
	err = tokenizer_index_pieces(train->tokenizer);
	if (!err)
		err = words_create(&merging);
	if (!err)
		err = merge_until(&merging, vocab_size, minimum, progress,
				  argument, &joined);
	if (!err)
		err = bpe_find_whole(train->tokenizer);
	byte_buffer_fini(&joined);
	merging_fini(&merging);
	if (err)
		return err;
	*out = train->tokenizer;
	train->tokenizer = NULL;
	split_stream_destroy(train->split); /* it used the tokenizer's */
	train->split = NULL;
	return 0;
}
