/* The corpus part of `stagecoach inspect`. */
#include "tools/inspect_corpus.h"

#include "base/json.h"
#include "base/log.h"
#include "base/text.h"
#include "data/corpus.h"
#include "data/sft/template.h"
#include "data/tokenizer.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

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

/* ---- examples ---- */

/* The token behind the last of the first example of a split. */
static uint64_t example_end(const struct corpus *corpus,
			    enum corpus_split split)
{
	const unsigned char *marks = corpus_marks(corpus, split);
	uint64_t tokens = corpus_tokens(corpus, split), end = 1;

	while (end < tokens && !(marks[end] & MARK_FIRST))
		end++;
	return end;
}

/* Tokens as text, what is supervised between marks. */
static int decode_marked(const struct tokenizer *tokenizer,
			 const int32_t *tokens, const unsigned char *marks,
			 size_t count, struct text_builder *out)
{
	struct tokenizer_decoder *decoder;
	bool inside = false;
	int err = tokenizer_decoder_create(tokenizer, &decoder);

	if (err)
		return err;
	for (size_t i = 0; i <= count && !err; i++) {
		bool supervised = i < count && marks[i] & MARK_SUPERVISED;

		if (supervised != inside) {
			err = tokenizer_decoder_finish(decoder, out);
			text_builder_append(out, "%s", inside ? "]]" : "[[");
		}
		inside = supervised;
		if (!err && i < count)
			err = tokenizer_decoder_push(decoder, tokens[i], out);
	}
	tokenizer_decoder_destroy(decoder);
	return err;
}

/* The first example of the first split that has one; the caller frees. */
static int render_example(const struct corpus *corpus, char **out)
{
	enum corpus_split split = corpus_examples(corpus, CORPUS_TRAIN)
					  ? CORPUS_TRAIN
					  : CORPUS_VALIDATION;
	uint64_t count = example_end(corpus, split);
	const char *path = corpus_tokenizer_path(corpus);
	struct tokenizer *tokenizer;
	struct text_builder text;
	int32_t *tokens;
	int err;

	*out = NULL;
	if (!path)
		return 0;
	err = tokenizer_load(path, &tokenizer);
	if (err)
		return err;
	text_builder_init(&text);
	tokens = calloc(count, sizeof(*tokens));
	if (tokens)
		err = corpus_read(corpus, split, 0, count, tokens);
	else
		err = fail(-ENOMEM, "no memory for an example");
	if (!err)
		err = decode_marked(tokenizer, tokens,
				    corpus_marks(corpus, split), count, &text);
	*out = err ? NULL : text_builder_finish(&text);
	text_builder_fini(&text);
	free(tokens);
	tokenizer_destroy(tokenizer);
	return err;
}

static json_t *examples_json(const struct corpus *corpus, const char *example)
{
	return json_pack(
		"{s:s, s:I, s:I, s:I, s:I, s:s?}", "template",
		corpus_template(corpus), "train_examples",
		(json_int_t)corpus_examples(corpus, CORPUS_TRAIN),
		"val_examples",
		(json_int_t)corpus_examples(corpus, CORPUS_VALIDATION),
		"train_supervised",
		(json_int_t)corpus_supervised(corpus, CORPUS_TRAIN),
		"val_supervised",
		(json_int_t)corpus_supervised(corpus, CORPUS_VALIDATION),
		"example", example);
}

static void print_examples(const struct corpus *corpus, const char *example)
{
	char examples[32], supervised[32];

	printf("template    %s\n", corpus_template(corpus));
	for (int split = 0; split < CORPUS_SPLITS; split++)
		printf("%-12s%s examples, %s supervised tokens\n",
		       corpus_split_name((enum corpus_split)split),
		       text_grouped(examples, sizeof(examples),
				    corpus_examples(corpus,
						    (enum corpus_split)split)),
		       text_grouped(supervised, sizeof(supervised),
				    corpus_supervised(
					    corpus, (enum corpus_split)split)));
	if (example)
		printf("the first example, what is supervised in [[ ]]:\n%s\n",
		       example);
}

static int print_json(const struct corpus *corpus, const char *example)
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
	if (corpus_has_examples(corpus))
		json_object_set_new(json, "sft",
				    examples_json(corpus, example));
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
	char *example = NULL;
	int err = corpus_open(folder, NULL, &corpus);

	if (err)
		return err;
	err = corpus_verify(corpus);
	if (!err && corpus_has_examples(corpus))
		err = render_example(corpus, &example);
	if (!err && json)
		err = print_json(corpus, example);
	else if (!err)
		print_lines(corpus);
	if (!err && !json && corpus_has_examples(corpus))
		print_examples(corpus, example);
	free(example);
	corpus_close(corpus);
	return err;
}
