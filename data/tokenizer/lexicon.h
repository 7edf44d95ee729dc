/*
 * A sorted set of strings, walked byte by byte: which of them does a text
 * begin with? Takes little more memory than the strings.
 */
#ifndef STAGECOACH_DATA_TOKENIZER_LEXICON_H
#define STAGECOACH_DATA_TOKENIZER_LEXICON_H

#include "base/compiler.h"
#include "data/utf8.h"

struct lexicon_entry {
	size_t offset; /* in bytes */
	uint32_t length;
	int32_t value; /* >= 0 */
};

/* {0} is empty. */
struct lexicon {
	struct lexicon_entry *entries; /* sorted, once it is */
	size_t count, capacity;
	struct byte_buffer bytes;
	uint32_t first[257]; /* entries by their first byte: [b], [b + 1] */
};

/* Not empty strings. */
int lexicon_add(struct lexicon *lexicon, const char *text, size_t length,
		int32_t value) MUST_CHECK;
/* After the last. Of equal strings the one added last counts. */
int lexicon_sort(struct lexicon *lexicon) MUST_CHECK;
void lexicon_fini(struct lexicon *lexicon);

/* The entries that begin with the `depth` bytes walked so far. */
struct lexicon_place {
	uint32_t from, to, depth;
};

void lexicon_begin(const struct lexicon *lexicon, struct lexicon_place *place);
/* false: no entry goes on with that byte. */
bool lexicon_step(const struct lexicon *lexicon, struct lexicon_place *place,
		  unsigned char byte);

/* The value of the string walked, -1 if it is no entry. */
static inline int32_t lexicon_value(const struct lexicon *lexicon,
				    const struct lexicon_place *place)
{
	const struct lexicon_entry *entry = &lexicon->entries[place->from];

	return entry->length == place->depth ? entry->value : -1;
}

#endif
