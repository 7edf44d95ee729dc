#include "data/tokenizer/lexicon.h"

#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* So many entries are looked through one by one. */
#define FEW 8

int lexicon_add(struct lexicon *lexicon, const char *text, size_t length,
		int32_t value)
{
	size_t capacity = MAX(lexicon->capacity * 2, (size_t)64);
	struct lexicon_entry *entries;

	ASSERT(length && value >= 0);
	if (lexicon->count == lexicon->capacity) {
		entries = reallocarray(lexicon->entries, capacity,
				       sizeof(*entries));
		if (!entries)
			return fail(-ENOMEM, "no memory for %zu words",
				    capacity);
		lexicon->entries = entries;
		lexicon->capacity = capacity;
	}
	lexicon->entries[lexicon->count++] = (struct lexicon_entry){
		lexicon->bytes.length, (uint32_t)length, value};
	return byte_buffer_append(&lexicon->bytes, text, length);
}

static int compare(const void *a, const void *b, void *argument)
{
	const struct lexicon_entry *left = a, *right = b;
	const char *bytes = argument;
	int order = memcmp(bytes + left->offset, bytes + right->offset,
			   MIN(left->length, right->length));

	if (order)
		return order;
	if (left->length != right->length)
		return left->length < right->length ? -1 : 1;
	return left->offset < right->offset ? -1 : 1;
}

static bool equal(const struct lexicon *lexicon, const struct lexicon_entry *a,
		  const struct lexicon_entry *b)
{
	const char *bytes = lexicon->bytes.data;

	return a->length == b->length &&
	       memcmp(bytes + a->offset, bytes + b->offset, a->length) == 0;
}

static void drop_equals(struct lexicon *lexicon)
{
	size_t i, count = 0;

	for (i = 0; i < lexicon->count; i++) {
		if (i + 1 == lexicon->count ||
		    !equal(lexicon, &lexicon->entries[i],
			   &lexicon->entries[i + 1]))
			lexicon->entries[count++] = lexicon->entries[i];
	}
	lexicon->count = count;
}

/* The bytes in the order of the entries: neighbours are looked at together. */
static int lay_out(struct lexicon *lexicon)
{
	struct byte_buffer bytes = {0};
	size_t i;
	int err = byte_buffer_reserve(&bytes, lexicon->bytes.length + 1);

	if (err)
		return err;
	for (i = 0; i < lexicon->count && !err; i++) {
		struct lexicon_entry *entry = &lexicon->entries[i];
		const char *text = lexicon->bytes.data + entry->offset;

		entry->offset = bytes.length;
		err = byte_buffer_append(&bytes, text, entry->length);
	}
	byte_buffer_fini(&lexicon->bytes);
	lexicon->bytes = bytes;
	return err;
}

int lexicon_sort(struct lexicon *lexicon)
{
	size_t i, byte = 0;
	int err;

	if (lexicon->count) {
		qsort_r(lexicon->entries, lexicon->count,
			sizeof(*lexicon->entries), compare,
			lexicon->bytes.data);
		drop_equals(lexicon);
	}
	err = lay_out(lexicon);
	if (err)
		return err;
	for (i = 0; i < lexicon->count; i++) {
		size_t offset = lexicon->entries[i].offset;
		size_t first = (unsigned char)lexicon->bytes.data[offset];

		while (byte <= first)
			lexicon->first[byte++] = (uint32_t)i;
	}
	while (byte <= 256)
		lexicon->first[byte++] = (uint32_t)lexicon->count;
	return 0;
}

void lexicon_fini(struct lexicon *lexicon)
{
	free(lexicon->entries);
	byte_buffer_fini(&lexicon->bytes);
	*lexicon = (struct lexicon){0};
}

void lexicon_begin(const struct lexicon *lexicon, struct lexicon_place *place)
{
	*place = (struct lexicon_place){0, (uint32_t)lexicon->count, 0};
}

/* The first entry of [from, to) whose next byte is at least `byte`. */
static uint32_t bound(const struct lexicon *lexicon, uint32_t from, uint32_t to,
		      uint32_t depth, unsigned byte)
{
	const char *bytes = lexicon->bytes.data + depth;

	while (to - from > FEW) {
		uint32_t middle = from + (to - from) / 2;
		size_t offset = lexicon->entries[middle].offset;

		if ((unsigned char)bytes[offset] < byte)
			from = middle + 1;
		else
			to = middle;
	}
	while (from < to &&
	       (unsigned char)bytes[lexicon->entries[from].offset] < byte)
		from++;
	return from;
}

bool lexicon_step(const struct lexicon *lexicon, struct lexicon_place *place,
		  unsigned char byte)
{
	uint32_t from = place->from, to = place->to;

	if (!place->depth) {
		from = lexicon->first[byte];
		to = lexicon->first[byte + 1];
	} else {
		/* The string itself comes first and does not go on. */
		if (from < to && lexicon->entries[from].length == place->depth)
			from++;
		from = bound(lexicon, from, to, place->depth, byte);
		to = bound(lexicon, from, to, place->depth, byte + 1u);
	}
	if (from >= to)
		return false;
	*place = (struct lexicon_place){from, to, place->depth + 1};
	return true;
}
