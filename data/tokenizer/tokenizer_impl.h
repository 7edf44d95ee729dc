/*
 * Inside a tokenizer: for the files that make, save and use one.
 */
#ifndef STAGECOACH_DATA_TOKENIZER_TOKENIZER_IMPL_H
#define STAGECOACH_DATA_TOKENIZER_TOKENIZER_IMPL_H

#include "data/tokenizer.h"
#include "data/tokenizer/added.h"
#include "data/tokenizer/decoder.h"
#include "data/tokenizer/model.h"
#include "data/tokenizer/normalizer.h"
#include "data/tokenizer/split.h"
#include "data/utf8.h"

/*
 * Ids from here on are refused: one alone takes memory for all below it. The
 * largest vocabulary in use has 901,629 (XLM-V).
 */
#define TOKENIZER_IDS_MAX ((int64_t)1 << 20)

struct token {
	size_t offset; /* in the tokenizer's bytes */
	uint32_t length;
	bool present, special;
	bool whole; /* BPE: what its text, as a piece, is merged to */
};

/* A piece of the source; NULL: none. */
struct load_span {
	const char *text;
	size_t length;
};

struct tokenizer {
	const char *kind;
	struct token *tokens; /* by id */
	size_t count;         /* highest id + 1 */
	size_t capacity;
	struct byte_buffer bytes;

	struct added_set added;
	struct normalizer normalizer;
	struct splitter splitter;
	const struct model_kind *model;
	struct bpe bpe; /* of these one, as the kind says */
	struct wordpiece wordpiece;
	struct unigram unigram;
	int32_t *piece_ids; /* hash table of the tokens, -1: free */
	size_t piece_slots;
	struct decoder decoder;

	int32_t end_of_text;
	struct token_buffer before, after; /* post-processor's ids */

	/* Merges in order, for saving one made here. */
	struct token_buffer merge_pairs;
	/* The file it was loaded from, else NULL. */
	char *source;
	size_t source_length;
	/* While it is loaded: arrays of "model" that are read item by item. */
	struct load_span merges_span, vocab_span;
};

/* Without tokens; its model is a byte-level BPE, decoded as such. */
int tokenizer_allocate(const char *kind, struct tokenizer **out) MUST_CHECK;

/* Defines an id; -EINVAL, silent, if it has a token already. */
int tokenizer_define(struct tokenizer *tokenizer, int32_t id, const char *bytes,
		     size_t length) MUST_CHECK;

/* <|endoftext|> and the 256 bytes, split as GPT-2 does. */
int tokenizer_define_base(struct tokenizer *tokenizer) MUST_CHECK;

/* A further merge of one made here. */
int tokenizer_define_merge(struct tokenizer *tokenizer, int32_t left,
			   int32_t right, int32_t id) MUST_CHECK;

/* Fills piece_ids from the tokens there are. */
int tokenizer_index_pieces(struct tokenizer *tokenizer) MUST_CHECK;

/* Enters a token defined after that. */
int tokenizer_note_piece(struct tokenizer *tokenizer, int32_t id) MUST_CHECK;

/* The token that is exactly this piece, -1 if none is. */
int32_t tokenizer_find_piece(const struct tokenizer *tokenizer,
			     const char *piece, size_t length);

#endif
