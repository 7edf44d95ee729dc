/* The corpus part of `stagecoach inspect`. */
#include "tools/inspect_corpus.h"

#include "base/json.h"
#include "base/log.h"
#include "base/text.h"
#include "data/corpus.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

static json_t *shards_json(const struct corpus *corpus, enum corpus_split split)
{
	json_t *list = json_array();
	size_t i;

	for (i = 0; i < corpus_shard_count(corpus, split); i++) {
		struct corpus_shard_info info = corpus_shard(corpus, split, i);

		json_array_append_new(
			list,
			json_pack("{s:s, s:I, s:i, s:s}", "path", info.path,
				  "tokens", (json_int_t)info.tokens,
				  "token_bytes", (int)info.token_bytes,
				  "format", info.format));
	}
	return list;
}

static int print_json(const struct corpus *corpus)
{
	double entropy = corpus_unigram_entropy(corpus);
	char fingerprint[20];
	json_t *json;

	snprintf(fingerprint, sizeof(fingerprint), "%016" PRIx64,
		 corpus_fingerprint(corpus));
	json = json_pack(
		"{s:s, s:I, s:I, s:I, s:I, s:I, s:o, s:s, s:{s:o, s:o}}",
		"tokenizer", corpus_tokenizer_kind(corpus), "vocab_size",
		(json_int_t)corpus_vocab_size(corpus), "documents",
		(json_int_t)corpus_documents(corpus), "bytes",
		(json_int_t)corpus_text_bytes(corpus), "train_tokens",
		(json_int_t)corpus_tokens(corpus, CORPUS_TRAIN), "val_tokens",
		(json_int_t)corpus_tokens(corpus, CORPUS_VALIDATION),
		"unigram_entropy",
		isnan(entropy) ? json_null() : json_real(entropy),
		"fingerprint", fingerprint, "shards", "train",
		shards_json(corpus, CORPUS_TRAIN), "val",
		shards_json(corpus, CORPUS_VALIDATION));
	if (!json)
		return fail(-ENOMEM, "no memory to describe a corpus");
	json_dumpf(json, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
	putchar('\n');
	json_decref(json);
	return 0;
}

static void print_split(const struct corpus *corpus, enum corpus_split split)
{
	size_t count = corpus_shard_count(corpus, split), i;
	char tokens[32];

	printf("%-12s%s tokens in %zu file%s\n", corpus_split_name(split),
	       text_grouped(tokens, sizeof(tokens),
			    corpus_tokens(corpus, split)),
	       count, count == 1 ? "" : "s");
	for (i = 0; i < count; i++) {
		struct corpus_shard_info info = corpus_shard(corpus, split, i);

		printf("  %s  %s tokens of %u bytes, %s format\n", info.path,
		       text_grouped(tokens, sizeof(tokens), info.tokens),
		       info.token_bytes, info.format);
	}
}

static void print_lines(const struct corpus *corpus)
{
	const char *kind = corpus_tokenizer_kind(corpus);
	double entropy = corpus_unigram_entropy(corpus);
	char number[32];

	if (corpus_vocab_size(corpus))
		printf("vocabulary  %zu (%s)\n", corpus_vocab_size(corpus),
		       *kind ? kind : "unknown tokenizer");
	if (corpus_documents(corpus))
		printf("text        %s in %" PRIu64 " documents\n",
		       text_bytes(number, sizeof(number),
				  corpus_text_bytes(corpus)),
		       corpus_documents(corpus));
	if (!isnan(entropy))
		printf("entropy     %.4f nats per token (unigram)\n", entropy);
	print_split(corpus, CORPUS_TRAIN);
	print_split(corpus, CORPUS_VALIDATION);
	printf("fingerprint %016" PRIx64 "\n", corpus_fingerprint(corpus));
}

int inspect_corpus(const char *folder, bool json)
{
	struct corpus *corpus;
	int err = corpus_open(folder, NULL, &corpus);

	if (err)
		return err;
	err = corpus_verify(corpus);
	if (!err && json)
		err = print_json(corpus);
	else if (!err)
		print_lines(corpus);
	corpus_close(corpus);
	return err;
}
