/*
 * Trains byte-level BPE on a stream of text, with the semantics of the
 * Hugging Face library's BpeTrainer (Sennrich, Haddow, Birch, "Neural machine
 * translation of rare words with subword units", ACL 2016): the text is
 * split by GPT-2's regular expression, distinct pieces are counted,
 * and the most frequent pair of tokens is merged again and again, the pair
 * of smaller ids first when counts are equal. Deterministic.
 *
 * Ids: 0 is <|endoftext|>, 1..256 the bytes in the order of the byte-level
 * alphabet, then the merges in their order.
 *
 * Memory grows with the number of distinct pieces, not with the text.
 */
#ifndef STAGECOACH_DATA_BPE_TRAIN_H
#define STAGECOACH_DATA_BPE_TRAIN_H

#include "base/compiler.h"

struct tokenizer;
struct bpe_train;

/* Smallest vocabulary: the 256 bytes and <|endoftext|>. */
#define BPE_TRAIN_MINIMUM_VOCAB 257
#define BPE_TRAIN_MAXIMUM_VOCAB 1000000

int bpe_train_create(struct bpe_train **out) MUST_CHECK;
void bpe_train_destroy(struct bpe_train *train);

/*
 * The next bytes of the text, cut anywhere; `end` ends a document. The result
 * does not depend on the cuts. -EILSEQ (silent): not UTF-8 at
 * bpe_train_offset() of this document.
 */
int bpe_train_push(struct bpe_train *train, const char *text, size_t length,
		   bool end) MUST_CHECK;
uint64_t bpe_train_offset(const struct bpe_train *train);

/*
 * Merges until the vocabulary has vocab_size ids or no pair occurs
 * minimum_count times (at least 1). The tokenizer may thus be smaller than
 * asked for. `progress` (may be NULL) is called now and then; non-zero from
 * it ends the training and is returned. Call once.
 */
typedef int bpe_train_progress_fn(void *argument, size_t done, size_t total);
int bpe_train_finish(struct bpe_train *train, size_t vocab_size,
		     uint64_t minimum_count, bpe_train_progress_fn *progress,
		     void *argument, struct tokenizer **out) MUST_CHECK;

#endif
