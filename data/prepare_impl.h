/*
 * What the parts of prepare have in common: prepare.c (texts, folders, what
 * is written) and prepare_sft.c (examples).
 */
#ifndef STAGECOACH_DATA_PREPARE_IMPL_H
#define STAGECOACH_DATA_PREPARE_IMPL_H

#include "data/bpe_train.h"
#include "data/prepare.h"
#include "data/sft/template.h"
#include "data/shard_writer.h"
#include "data/tokenizer.h"

enum {
	PREPARE_TRAIN,
	PREPARE_VALIDATION,
	PREPARE_SPLITS
};

struct prepare_document {
	char *path;
	uint64_t bytes;
};

/* A split's marks, a byte a token: "train.marks" (docs/FORMATS.md). */
struct prepare_marks {
	char path[FILES_PATH_BYTES];
	FILE *file;
	uint64_t examples, supervised;
};

struct prepare_sft {
	enum example_form form; /* the first example's, which chose chat */
	const struct chat_template *chat; /* NULL: not chosen yet */
	struct renderer *renderer;
	struct marked_tokens rendered;
	struct prepare_marks marks[PREPARE_SPLITS];
	uint64_t examples; /* read so far */
	uint64_t left_out; /* of them, for their length */
	uint64_t longest;  /* tokens of the longest one kept */
};

struct prepare {
	const struct prepare_options *options;
	struct prepare_document *documents;
	size_t document_count, document_capacity;
	const char *input; /* while walking */
	uint64_t total_bytes, done_bytes;
	enum prepare_phase phase;
	char *chunk;
	size_t chunk_bytes;

	struct bpe_train *train; /* while training */
	struct tokenizer *tokenizer;
	const char *tokenizer_path; /* of a loaded one */
	struct tokenizer_encoder *encoder;
	struct token_buffer tokens;

	char final[FILES_PATH_BYTES];
	char folder[FILES_PATH_BYTES]; /* under its temporary name */
	struct shard_writer writers[PREPARE_SPLITS];
	uint64_t *counts; /* of each id in the training split */
	uint64_t block_tokens, fraction, shift; /* see is_validation */
	uint64_t position;                      /* tokens so far */

	struct prepare_sft sft; /* of examples */
};

/* Tells how far the phase is; non-zero ends the work. */
int prepare_report(struct prepare *prepare, uint64_t done,
		   uint64_t total) MUST_CHECK;

/* Whether block (or example) number j is for validation. */
bool prepare_is_validation(const struct prepare *prepare, uint64_t block);

/* The text of all examples to prepare->train. */
int prepare_sft_train(struct prepare *prepare) MUST_CHECK;

/* Their tokens to the writers, their marks beside them. */
int prepare_sft_encode(struct prepare *prepare) MUST_CHECK;

/* What corpus.json says of them: a new reference, NULL: no memory. */
json_t *prepare_sft_json(struct prepare *prepare);
void prepare_sft_result(const struct prepare *prepare,
			struct prepare_result *result);
void prepare_sft_fini(struct prepare *prepare);

#endif
