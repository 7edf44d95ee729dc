/*
 * Text in, a corpus folder out: tokenizer.json, tokenizer_config.json, token
 * shards of the training and validation split, and corpus.json:
 *
 *   {"version": 1, "tokenizer": KIND, "vocab_size", "end_of_text",
 *    "train_tokens", "val_tokens", "documents", "bytes",
 *    "unigram_entropy": nats per token of the training split,
 *    "validation": {"fraction", "block_tokens", "seed"},
 *    "shards": {"train": [{"file", "tokens", "sha256"}, ...], "val": [...]}}
 *
 * Or, of examples for supervised fine-tuning (data/sft/example.h), the same
 * with version 2 and
 *
 *    "sft": {"template", "longest": tokens of the longest example,
 *            "train": {"examples", "supervised": tokens, "marks": file,
 *                      "sha256"}, "val": {...}}
 *
 * where the marks say for each token whether it is supervised and whether an
 * example begins there, and the entropy is that of supervised tokens. The split is
 * by examples.
 *
 * Every file is a document, in bytewise order of the paths, and ends with
 * <|endoftext|>. Files are read in chunks: memory does not grow with them.
 *
 * The split is by blocks of the row of all tokens: evenly spaced blocks,
 * whose place the seed shifts, are for validation. No token is in
 * both splits, and both see every part of a long text. A block has
 * 64 to 8192 tokens, the fewer the smaller the text, so that a small
 * text has a validation split too.
 */
#ifndef STAGECOACH_DATA_PREPARE_H
#define STAGECOACH_DATA_PREPARE_H

#include "base/compiler.h"

#define PREPARE_VALIDATION_MAX 0.5

enum prepare_phase {
	PREPARE_COUNTING, /* bytes: distinct pieces of the text */
	PREPARE_MERGING,  /* ids: of the vocabulary */
	PREPARE_ENCODING, /* bytes */
};

/* Non-zero ends the work: nothing is left behind, and it is returned. */
typedef int prepare_progress_fn(void *argument, enum prepare_phase phase,
				uint64_t done, uint64_t total);

struct prepare_options {
	const char *const *inputs; /* files and folders */
	size_t input_count;
	/*
	 * Shell pattern for the names of files in folders; NULL: all
	 * but hidden ones.
	 */
	const char *pattern;
	const char *out;       /* must not exist */
	const char *tokenizer; /* "byte", "bpe:N", or path of a tokenizer.json*/
	double validation;     /* fraction, 0 to PREPARE_VALIDATION_MAX */
	uint64_t seed;
	/*
	 * The inputs are examples, in this chat template (NULL: chosen by
	 * their shape and the tokenizer), those of more than `longest` tokens
	 * left out (0: none).
	 */
	bool examples;
	const char *template;
	uint64_t longest;
	size_t chunk_bytes;            /* read at a time; 0: 1 MiB */
	uint64_t shard_tokens;         /* at most; 0: 100 million */
	prepare_progress_fn *progress; /* may be NULL */
	void *argument;
};

struct prepare_result {
	const char *kind; /* of the tokenizer */
	size_t vocab_size;
	uint64_t documents, bytes;
	uint64_t train_tokens, validation_tokens;
	double unigram_entropy;
	/* Of examples: */
	const char *template;
	uint64_t train_examples, validation_examples;
	uint64_t supervised; /* tokens of both splits */
	uint64_t longest;    /* tokens of the longest example */
	uint64_t left_out;   /* examples that were longer than wanted */
};

/*
 * -EEXIST: `out` exists. -EILSEQ: a file is not UTF-8 (file and offset are
 * named), -EINVAL: no text, or an unknown tokenizer.
 */
int prepare_run(const struct prepare_options *options,
		struct prepare_result *result) MUST_CHECK;

#endif
