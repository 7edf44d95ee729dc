/*
 * The table that SentencePiece normalizes with, as tokenizer.json carries it
 * ("precompiled_charsmap", base64): little-endian u32 bytes of the trie, the
 * trie's units (u32, as the Darts-clone double array has them), then the
 * replacements, each ended by a zero byte.
 */
#ifndef STAGECOACH_DATA_TOKENIZER_CHARSMAP_H
#define STAGECOACH_DATA_TOKENIZER_CHARSMAP_H

#include "base/compiler.h"

struct charsmap {
	unsigned char *bytes;
	size_t unit_count;
	const unsigned char *units; /* in bytes */
	const char *replacements;   /* in bytes; the last one is ended too */
	size_t replacement_bytes;
};

/* -EINVAL, logged: not such a table. "" is an empty one. */
int charsmap_read(struct charsmap *charsmap, const char *base64,
		  const char *origin) MUST_CHECK;
void charsmap_fini(struct charsmap *charsmap);

/* What a text becomes as a whole, NULL: it stays. Zero-terminated. */
const char *charsmap_find(const struct charsmap *charsmap, const char *text,
			  size_t length);

#endif
