/*
 * Inside a tokenizer: what makes ids of one piece of text. A kind of model is
 * one file with a struct model_kind; load_model.c has the table of them.
 */
#ifndef STAGECOACH_DATA_TOKENIZER_MODEL_H
#define STAGECOACH_DATA_TOKENIZER_MODEL_H

#include "base/compiler.h"
#include "base/json.h"
#include "data/tokenizer.h"
#include "data/tokenizer/lexicon.h"
#include "data/tokenizer/merges.h"

/* Longest prefix or suffix of characters. */
#define BPE_AFFIX_BYTES_MAX 64

/* Byte-pair encoding. */
struct bpe {
	struct merges merges;
	bool byte_level;    /* a piece is bytes, else characters */
	bool ignore_merges; /* a piece that is a token is that token */
	bool knows_whole;   /* bpe_find_whole() was called */
	bool fuse_unknown;  /* one unknown token for a run */
	/* Byte-level: the token of each byte; else of ASCII. -1: none. */
	int32_t byte_id[256];
	int32_t fallback_id[256]; /* "<0x00>" ..., -1: none */
	int32_t unknown_id;       /* -1: what is unknown is dropped */
	char *prefix;             /* of characters inside a piece, or NULL */
	char *suffix;             /* of the last one, or NULL */
};

/* WordPiece: the longest token that fits, again and again; and WordLevel. */
struct wordpiece {
	struct lexicon lexicon;
	struct lexicon_place inside; /* after the prefix of continuations */
	bool continues;              /* some token has it */
	size_t word_characters_max;
	int32_t unknown_id; /* -1: none (WordLevel) */
};

/* Unigram: the most likely segmentation (Viterbi). */
struct unigram {
	struct lexicon lexicon;
	double *scores; /* by id */
	double unknown_score;
	int32_t unknown_id; /* -1: none */
	bool byte_fallback;
	int32_t fallback_id[256];
};

struct unigram_node;

/* Memory for encoding, one per caller. {0} is empty. */
struct model_work {
	struct merge_work merge;
	struct unigram_node *nodes;
	size_t node_capacity;
};
void model_work_fini(struct model_work *work);

struct model_kind {
	const char *name;
	/* Of "model" in a tokenizer.json; also enters its tokens. */
	int (*load)(struct tokenizer *tokenizer, const json_t *model,
		    const char *path);
	/* Appends the ids of one piece, which is not empty. */
	int (*encode)(const struct tokenizer *tokenizer,
		      struct model_work *work, const char *piece, size_t length,
		      struct token_buffer *out);
};

extern const struct model_kind model_bpe;
extern const struct model_kind model_wordpiece;
extern const struct model_kind model_wordlevel;
extern const struct model_kind model_unigram;

void bpe_init(struct bpe *bpe);
void bpe_fini(struct bpe *bpe);
void wordpiece_fini(struct wordpiece *wordpiece);
void unigram_fini(struct unigram *unigram);

int bpe_load(struct tokenizer *tokenizer, const json_t *model,
	     const char *path) MUST_CHECK;

/*
 * Finds the tokens that their own text is merged to, nearly all: a piece that
 * is one of them needs no merging then.
 */
int bpe_find_whole(struct tokenizer *tokenizer) MUST_CHECK;

/*
 * No token has `mark` behind something else than `mark`: text can then be split
 * before it, with the same result.
 */
bool bpe_splits_before(const struct tokenizer *tokenizer, const char *mark);

/*
 * byte_level: a token stands in the file with one visible character a byte,
 * and pieces are taken as bytes.
 */
int load_model(struct tokenizer *tokenizer, const json_t *root, bool byte_level,
	       const char *path) MUST_CHECK;

/* Enters "vocab": {text: id}. */
int load_vocabulary(struct tokenizer *tokenizer, const json_t *model,
		    bool byte_level, const char *path) MUST_CHECK;

/* The ids of "<0x00>" to "<0xFF>", -1 where there is none. */
void load_fallback(const struct tokenizer *tokenizer, int32_t ids[256]);

#endif
