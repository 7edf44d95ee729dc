/*
 * A corpus: token shards on disk, mapped into memory, read as one long row of
 * tokens per split.
 *
 * What is read:
 * - a folder made by `prepare`: train_000000.bin ..., val_000000.bin ...,
 *   tokenizer.json, corpus.json (sizes, digests, entropy), of examples
 *   train.marks and val.marks, too;
 * - llm.c shards: a header of 256 little-endian int32 {magic, version,
 *   tokens, 0...}, then tokens; 20240520/1 are uint16, 20240801/7 are uint32;
 * - nanoGPT files: no header, little-endian uint16 (or uint32 when asked).
 *
 * Corpora are immutable once open: any number of threads may read one.
 */
#ifndef STAGECOACH_DATA_CORPUS_H
#define STAGECOACH_DATA_CORPUS_H

#include "base/compiler.h"

struct corpus;

enum corpus_split {
	CORPUS_TRAIN,
	CORPUS_VALIDATION,
	CORPUS_SPLITS,
};

const char *corpus_split_name(enum corpus_split split); /* "train", "val" */

struct corpus_options {
	/*
	 * Ids from here on are an error when read; 0: what the corpus says
	 * of itself, else no limit.
	 */
	size_t vocab_size;
	/* Bytes per token of files without a header: 2 or 4; 0 is 2. */
	unsigned plain_token_bytes;
};

/*
 * path: a prepared folder; a folder with *.bin files; one file; a pattern
 * (fineweb_train_*.bin); or the common beginning of file names. Among plain
 * files those with "val" in their name are the validation split, the others
 * are for training. Shards follow each other in the order of their names.
 * options may be NULL.
 *
 * -EINVAL names the file and what is wrong with it: truncated, a size that
 * does not match the header or corpus.json, another program's magic.
 */
int corpus_open(const char *path, const struct corpus_options *options,
		struct corpus **out) MUST_CHECK;
void corpus_close(struct corpus *corpus);

/* Tokens in a split; 0 if there is no such split. */
uint64_t corpus_tokens(const struct corpus *corpus, enum corpus_split split);

/*
 * out[i] = token first + i of the split, across shards. -ERANGE: past the
 * end; -EINVAL: an id outside the vocabulary. Both logged, with shard and
 * position.
 */
int corpus_read(const struct corpus *corpus, enum corpus_split split,
		uint64_t first, size_t count, int32_t *out) MUST_CHECK;

/* Ids are below this; 0 when the files do not say. */
size_t corpus_vocab_size(const struct corpus *corpus);

/* Nats per token of the training split's unigrams; NaN when not known. */
double corpus_unigram_entropy(const struct corpus *corpus);

/*
 * A corpus of examples for supervised fine-tuning: which tokens are supervised,
 * and where examples begin, a byte a token (enum mark in
 * data/sft/template.h). NULL: a corpus of text.
 */
const unsigned char *corpus_marks(const struct corpus *corpus,
				  enum corpus_split split);
bool corpus_has_examples(const struct corpus *corpus);
uint64_t corpus_examples(const struct corpus *corpus, enum corpus_split split);
uint64_t corpus_supervised(const struct corpus *corpus,
			   enum corpus_split split);
const char *corpus_template(const struct corpus *corpus); /* or NULL */

/* What the text was before it became tokens; 0 when not known. */
uint64_t corpus_documents(const struct corpus *corpus);
uint64_t corpus_text_bytes(const struct corpus *corpus);

/* "byte", "bpe", "file"; "" when not known. */
const char *corpus_tokenizer_kind(const struct corpus *corpus);

/* Path of the tokenizer.json that lies in the folder, NULL if none does. */
const char *corpus_tokenizer_path(const struct corpus *corpus);

/*
 * A number that differs (with near certainty) when the tokens differ: from
 * the digests of a prepared folder, else from sizes and samples of the
 * files. To tell a resumed run that its data changed.
 */
uint64_t corpus_fingerprint(const struct corpus *corpus);

/*
 * Reads everything: compares SHA-256 with corpus.json (if there is one) and
 * looks at every id. -EINVAL or -EIO names the shard.
 */
int corpus_verify(const struct corpus *corpus) MUST_CHECK;

/* The files themselves, for listings. */
struct corpus_shard_info {
	const char *path;
	uint64_t tokens;
	unsigned token_bytes;
	const char *format; /* "llm.c" or "plain" */
};
size_t corpus_shard_count(const struct corpus *corpus, enum corpus_split split);
struct corpus_shard_info corpus_shard(const struct corpus *corpus,
				      enum corpus_split split, size_t index);

#endif
