/*
 * Where the Hugging Face library's tables of characters are older than ours.
 */
#ifndef STAGECOACH_DATA_TOKENIZER_UNICODE_LATE_H
#define STAGECOACH_DATA_TOKENIZER_UNICODE_LATE_H

#include "base/compiler.h"

enum unicode_class {
	UNICODE_PUNCTUATION, /* P, of BertPreTokenizer and Punctuation */
	UNICODE_NONSPACING,  /* Mn, of BertNormalizer's strip_accents */
	UNICODE_MARK,        /* M, of StripAccents */
	UNICODE_OTHER,       /* C, of BertNormalizer's clean_text */
};

/*
 * A character of the class that is not of the library's. Meaningless for one
 * that is not of the class.
 */
bool unicode_is_late(enum unicode_class class, uint32_t character);

#endif
