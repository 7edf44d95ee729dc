#include "data/prepare_impl.h"

#include "base/digest.h"
#include "base/json.h"
#include "base/log.h"
#include "base/math.h"
#include "base/random.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHUNK_BYTES      ((size_t)1 << 20)
#define SHARD_TOKENS     ((uint64_t)100000000)
#define BLOCK_TOKENS_MIN 64
#define BLOCK_TOKENS_MAX 8192
#define BLOCKS_WANTED    16
/* A pair of tokens seen once is no pattern. */
#define MINIMUM_COUNT 2

static const char *const split_names[PREPARE_SPLITS] = {"train", "val"};

/* ---- which files ---- */

/* Is any part of the path below the input hidden? */
static bool is_hidden(const char *input, const char *path)
{
	const char *below = path + strlen(input);

	for (; *below; below++) {
		if (*below == '/' && below[1] == '.')
			return true;
	}
	return false;
}

static int document_add(void *argument, const char *path, uint64_t bytes)
{
	struct prepare *prepare = argument;
	const char *pattern = prepare->options->pattern;
	const char *slash = strrchr(path, '/');
	struct prepare_document *grown;
	bool in_folder = strcmp(path, prepare->input) != 0;

	if (in_folder && is_hidden(prepare->input, path))
		return 0;
	if (in_folder && pattern && fnmatch(pattern, slash + 1, 0) != 0)
		return 0;
	if (!bytes)
		return 0;
	if (prepare->document_count == prepare->document_capacity) {
		size_t capacity =
			MAX(prepare->document_capacity * 2, (size_t)64);

		grown = reallocarray(prepare->documents, capacity,
				     sizeof(*grown));
		if (!grown)
			return fail(-ENOMEM, "no memory for %zu file names",
				    capacity);
		prepare->documents = grown;
		prepare->document_capacity = capacity;
	}
	grown = &prepare->documents[prepare->document_count];
	grown->path = strdup(path);
	grown->bytes = bytes;
	if (!grown->path)
		return fail(-ENOMEM, "no memory for a file name");
	prepare->document_count++;
	prepare->total_bytes += bytes;
	return 0;
}

static int documents_find(struct prepare *prepare)
{
	const struct prepare_options *options = prepare->options;
	size_t i;
	int err;

	for (i = 0; i < options->input_count; i++) {
		size_t before = prepare->document_count;

		prepare->input = options->inputs[i];
		if (!files_exists(prepare->input))
			return fail(-ENOENT, "%s: no such file or folder",
				    prepare->input);
		err = files_walk(prepare->input, document_add, prepare);
		if (err)
			return err;
		if (prepare->document_count > before)
			continue;
		if (files_is_folder(prepare->input))
			return fail(-EINVAL, "%s: no text in this folder%s%s",
				    prepare->input,
				    options->pattern ? " matches " : "",
				    options->pattern ? options->pattern : "");
		return fail(-EINVAL, "%s: the file is empty", prepare->input);
	}
	return 0;
}

/* ---- reading them ---- */

typedef int push_fn(struct prepare *prepare, const char *text, size_t length,
		    bool end, uint64_t *offset);

int prepare_report(struct prepare *prepare, uint64_t done, uint64_t total)
{
	const struct prepare_options *options = prepare->options;

	if (!options->progress)
		return 0;
	return options->progress(options->argument, prepare->phase, done,
				 total);
}

static int text_refuse(const char *path, uint64_t offset, const char *what)
{
	return fail(-EILSEQ,
		    "%s: %s at byte %llu; leave the file out (--pattern "
		    "chooses by name) or convert it to UTF-8",
		    path, what, (unsigned long long)offset);
}

static int chunk_push(struct prepare *prepare, const char *path,
		      uint64_t position, size_t length, push_fn *push)
{
	const char *nul = length ? memchr(prepare->chunk, 0, length) : NULL;
	uint64_t offset = 0;
	int err;

	if (nul)
		return text_refuse(path,
				   position + (uint64_t)(nul - prepare->chunk),
				   "not text: a zero byte");
	err = push(prepare, prepare->chunk, length, length == 0, &offset);
	if (err == -EILSEQ)
		return text_refuse(path, offset, "not UTF-8");
	if (err)
		return err;
	prepare->done_bytes += length;
	return prepare_report(prepare, prepare->done_bytes,
			      prepare->total_bytes);
}

static int document_read(struct prepare *prepare, const char *path,
			 push_fn *push)
{
	uint64_t position = 0;
	ssize_t got;
	int fd = open(path, O_RDONLY | O_CLOEXEC), err = 0;

	if (fd < 0)
		return fail(-errno, "%s: cannot open it: %s", path,
			    strerror(errno));
	do {
		got = read(fd, prepare->chunk, prepare->chunk_bytes);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			err = fail(-errno, "%s: cannot read it: %s", path,
				   strerror(errno));
		else
			err = chunk_push(prepare, path, position, (size_t)got,
					 push);
		position += got > 0 ? (uint64_t)got : 0;
	} while (!err && got != 0);
	close(fd);
	return err;
}

static int documents_read(struct prepare *prepare, enum prepare_phase phase,
			  push_fn *push)
{
	size_t i;
	int err = 0;

	prepare->phase = phase;
	prepare->done_bytes = 0;
	for (i = 0; i < prepare->document_count && !err; i++)
		err = document_read(prepare, prepare->documents[i].path, push);
	return err;
}

/* ---- the tokenizer ---- */

static int merging_progress(void *argument, size_t done, size_t total)
{
	struct prepare *prepare = argument;

	prepare->phase = PREPARE_MERGING;
	return prepare_report(prepare, done, total);
}

static int train_push(struct prepare *prepare, const char *text, size_t length,
		      bool end, uint64_t *offset)
{
	int err = bpe_train_push(prepare->train, text, length, end);

	*offset = bpe_train_offset(prepare->train);
	return err;
}

static int tokenizer_train(struct prepare *prepare, size_t vocab_size)
{
	int err = bpe_train_create(&prepare->train);

	if (!err)
		err = prepare->options->examples
			      ? prepare_sft_train(prepare)
			      : documents_read(prepare, PREPARE_COUNTING,
					       train_push);
	if (!err)
		err = bpe_train_finish(prepare->train, vocab_size,
				       MINIMUM_COUNT, merging_progress, prepare,
				       &prepare->tokenizer);
	bpe_train_destroy(prepare->train);
	prepare->train = NULL;
	if (err)
		return err;
	if (tokenizer_vocab_size(prepare->tokenizer) < vocab_size)
		log_warning("the text has patterns for a vocabulary of %zu "
			    "only, not %zu",
			    tokenizer_vocab_size(prepare->tokenizer),
			    vocab_size);
	return 0;
}

static int tokenizer_make(struct prepare *prepare)
{
	const char *name = prepare->options->tokenizer;
	int64_t vocab_size;

	if (strcmp(name, "byte") == 0)
		return tokenizer_bytes(&prepare->tokenizer);
	if (strncmp(name, "bpe:", 4) == 0) {
		if (text_parse_integer(name + 4, BPE_TRAIN_MINIMUM_VOCAB,
				       BPE_TRAIN_MAXIMUM_VOCAB, &vocab_size))
			return fail(-EINVAL,
				    "tokenizer %s: a vocabulary has "
				    "%d to %d ids",
				    name, BPE_TRAIN_MINIMUM_VOCAB,
				    BPE_TRAIN_MAXIMUM_VOCAB);
		return tokenizer_train(prepare, (size_t)vocab_size);
	}
	if (!files_exists(name))
		return fail(-EINVAL,
			    "tokenizer %s: neither byte, bpe:N nor a "
			    "tokenizer.json",
			    name);
	prepare->tokenizer_path = name;
	return tokenizer_load(name, &prepare->tokenizer);
}

/* ---- the splits ---- */

/* Sizes the blocks for about BLOCKS_WANTED of them for validation. */
static void split_plan(struct prepare *prepare)
{
	double fraction = prepare->options->validation;
	double wanted = (double)prepare->total_bytes * fraction / BLOCKS_WANTED;
	uint64_t block = BLOCK_TOKENS_MIN;

	while (block < BLOCK_TOKENS_MAX && (double)block * 2 <= wanted)
		block *= 2;
	prepare->block_tokens = block;
	prepare->fraction = (uint64_t)(fraction * 4294967296.0 + 0.5);
	prepare->shift = random_u64(random_key_named(prepare->options->seed,
						     "validation blocks"),
				    0) >>
			 32;
}

/*
 * Block j is for validation when j * fraction + shift passes a whole number
 * on the way to j + 1 (all in units of 2^-32): evenly spaced, and
 * as many as the fraction says.
 */
bool prepare_is_validation(const struct prepare *prepare, uint64_t block)
{
	uint64_t low =
		(block * prepare->fraction + prepare->shift) & UINT32_MAX;

	return low + prepare->fraction > UINT32_MAX;
}

/* Distributes tokens block by block. */
static int tokens_write(struct prepare *prepare, const int32_t *tokens,
			size_t count)
{
	size_t i;
	int err = 0;

	while (count && !err) {
		uint64_t block = prepare->position / prepare->block_tokens;
		uint64_t left =
			(block + 1) * prepare->block_tokens - prepare->position;
		size_t part = (size_t)MIN((uint64_t)count, left);
		bool validation = prepare_is_validation(prepare, block);

		for (i = 0; i < part && !validation; i++)
			prepare->counts[tokens[i]]++;
		err = shard_writer_append(
			&prepare->writers[validation ? PREPARE_VALIDATION
						     : PREPARE_TRAIN],
			tokens, part);
		prepare->position += part;
		tokens += part;
		count -= part;
	}
	return err;
}

static int encode_push(struct prepare *prepare, const char *text, size_t length,
		       bool end, uint64_t *offset)
{
	int32_t end_of_text = tokenizer_end_of_text(prepare->tokenizer);
	int err = tokenizer_encoder_push(prepare->encoder, text, length, end,
					 &prepare->tokens);

	*offset = tokenizer_encoder_offset(prepare->encoder);
	if (!err && end && end_of_text >= 0)
		err = token_buffer_append(&prepare->tokens, &end_of_text, 1);
	if (!err)
		err = tokens_write(prepare, prepare->tokens.ids,
				   prepare->tokens.count);
	prepare->tokens.count = 0;
	return err;
}

static int corpus_encode(struct prepare *prepare)
{
	uint64_t shard_tokens = prepare->options->shard_tokens;
	size_t vocab_size = tokenizer_vocab_size(prepare->tokenizer), split;
	int err = tokenizer_encoder_create(prepare->tokenizer, 0,
					   &prepare->encoder);

	if (err)
		return err;
	if (tokenizer_end_of_text(prepare->tokenizer) < 0 &&
	    !prepare->options->examples)
		log_warning("the tokenizer has no end-of-text token: documents "
			    "follow each other without one");
	prepare->counts = calloc(vocab_size, sizeof(*prepare->counts));
	if (!prepare->counts)
		return fail(-ENOMEM, "no memory for %zu counters", vocab_size);
	split_plan(prepare);
	for (split = 0; split < PREPARE_SPLITS && !err; split++)
		err = shard_writer_init(
			&prepare->writers[split], prepare->folder,
			split_names[split], vocab_size,
			shard_tokens ? shard_tokens : SHARD_TOKENS);
	if (!err)
		err = prepare->options->examples
			      ? prepare_sft_encode(prepare)
			      : documents_read(prepare, PREPARE_ENCODING,
					       encode_push);
	for (split = 0; split < PREPARE_SPLITS && !err; split++)
		err = shard_writer_finish(&prepare->writers[split]);
	return err;
}

/* ---- what is written beside the shards ---- */

static double entropy_of(const struct prepare *prepare)
{
	size_t vocab_size = tokenizer_vocab_size(prepare->tokenizer), i;
	uint64_t tokens = prepare->options->examples
				  ? prepare->sft.marks[PREPARE_TRAIN].supervised
				  : prepare->writers[PREPARE_TRAIN].tokens;
	double total = (double)tokens, sum = 0;

	for (i = 0; i < vocab_size; i++) {
		double share = (double)prepare->counts[i] / total;

		if (prepare->counts[i])
			sum -= share * math_log(share);
	}
	return sum;
}

static int shards_json(const struct prepare *prepare, size_t split,
		       json_t *list)
{
	const struct shard_writer *writer = &prepare->writers[split];
	char name[64], path[FILES_PATH_BYTES], digest[DIGEST_HEX_BYTES];
	unsigned i;
	int err = 0;

	for (i = 0; i < writer->shards && !err; i++) {
		uint64_t tokens = i + 1 < writer->shards ? writer->shard_tokens
							 : writer->in_shard;

		shard_writer_file_name(split_names[split], i, name,
				       sizeof(name));
		err = files_join(path, sizeof(path), prepare->folder, name);
		if (!err)
			err = digest_file(path, digest);
		if (!err &&
		    json_array_append_new(
			    list,
			    json_pack("{s:s, s:I, s:s}", "file", name, "tokens",
				      (json_int_t)tokens, "sha256", digest)))
			err = fail(-ENOMEM, "no memory for corpus.json");
	}
	return err;
}

static json_t *manifest_json(const struct prepare *prepare,
			     const struct prepare_result *result)
{
	return json_pack("{s:i, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:f, "
			 "s:{s:f, s:I, s:I}, s:{s:[], s:[]}}",
			 "version", 1, "tokenizer", result->kind, "vocab_size",
			 (json_int_t)result->vocab_size, "end_of_text",
			 (json_int_t)tokenizer_end_of_text(prepare->tokenizer),
			 "train_tokens", (json_int_t)result->train_tokens,
			 "val_tokens", (json_int_t)result->validation_tokens,
			 "documents", (json_int_t)result->documents, "bytes",
			 (json_int_t)result->bytes, "unigram_entropy",
			 result->unigram_entropy, "validation", "fraction",
			 prepare->options->validation, "block_tokens",
			 (json_int_t)prepare->block_tokens, "seed",
			 (json_int_t)prepare->options->seed, "shards",
			 split_names[PREPARE_TRAIN],
			 split_names[PREPARE_VALIDATION]);
}

static int manifest_write(struct prepare *prepare,
			  const struct prepare_result *result)
{
	json_t *manifest = manifest_json(prepare, result);
	json_t *shards = json_object_get(manifest, "shards");
	json_t *sft = NULL;
	char path[FILES_PATH_BYTES];
	size_t split;
	int err = manifest ? 0 : fail(-ENOMEM, "no memory for corpus.json");

	for (split = 0; split < PREPARE_SPLITS && !err; split++)
		err = shards_json(prepare, split,
				  json_object_get(shards, split_names[split]));
	if (!err && prepare->options->examples) {
		sft = prepare_sft_json(prepare);
		if (!sft || json_object_set_new(manifest, "sft", sft) ||
		    json_object_set_new(manifest, "version", json_integer(2)))
			err = fail(-ENOMEM, "no memory for corpus.json");
	}
	if (!err)
		err = files_join(path, sizeof(path), prepare->folder,
				 "corpus.json");
	if (!err)
		err = json_write(path, manifest);
	json_decref(manifest);
	return err;
}

/* The tokenizer_config.json beside a loaded tokenizer, if there is one. */
static bool config_beside(const struct prepare *prepare, char *path,
			  size_t size)
{
	char folder[FILES_PATH_BYTES];
	char *slash;

	if (!prepare->tokenizer_path ||
	    text_copy(folder, sizeof(folder), prepare->tokenizer_path))
		return false;
	slash = strrchr(folder, '/');
	if (slash)
		*slash = '\0';
	return !files_join(path, size, slash ? folder : ".",
			   "tokenizer_config.json") &&
	       files_exists(path);
}

static int tokenizer_write(struct prepare *prepare)
{
	char path[FILES_PATH_BYTES], beside[FILES_PATH_BYTES];
	int err = files_join(path, sizeof(path), prepare->folder,
			     "tokenizer.json");

	if (!err)
		err = tokenizer_save(prepare->tokenizer, path);
	if (!err)
		err = files_join(path, sizeof(path), prepare->folder,
				 "tokenizer_config.json");
	if (err)
		return err;
	if (config_beside(prepare, beside, sizeof(beside)))
		return files_copy(beside, path);
	return tokenizer_save_config(prepare->tokenizer, path, 0);
}

/* ---- all of it ---- */

static int folder_fill(struct prepare *prepare, struct prepare_result *result)
{
	int err = tokenizer_make(prepare);

	if (!err)
		err = corpus_encode(prepare);
	if (err)
		return err;
	*result = (struct prepare_result){
		.kind = tokenizer_kind(prepare->tokenizer),
		.vocab_size = tokenizer_vocab_size(prepare->tokenizer),
		.documents = prepare->document_count,
		.bytes = prepare->done_bytes,
		.train_tokens = prepare->writers[PREPARE_TRAIN].tokens,
		.validation_tokens =
			prepare->writers[PREPARE_VALIDATION].tokens,
	};
	if (prepare->options->examples)
		prepare_sft_result(prepare, result);
	if (!result->train_tokens)
		return fail(-EINVAL, "no tokens are left for training");
	result->unigram_entropy = entropy_of(prepare);
	err = tokenizer_write(prepare);
	if (!err)
		err = manifest_write(prepare, result);
	return err ? err : files_sync(prepare->folder);
}

static int options_check(const struct prepare_options *options)
{
	if (!(options->validation >= 0 &&
	      options->validation <= PREPARE_VALIDATION_MAX))
		return fail(-EINVAL,
			    "a validation split of %g: the fraction "
			    "is 0 to %g",
			    options->validation, PREPARE_VALIDATION_MAX);
	if (options->shard_tokens > SHARD_TOKENS_MAX)
		return fail(-EINVAL, "shards of %llu tokens: at most %llu",
			    (unsigned long long)options->shard_tokens,
			    (unsigned long long)SHARD_TOKENS_MAX);
	if (options->template && !chat_template_find(options->template))
		return -EINVAL;
	if (files_exists(options->out))
		return fail(-EEXIST, "%s exists; prepare makes a new folder",
			    options->out);
	return 0;
}

/* A temporary name beside the final one: "OUT.partial-PID". */
static int folder_begin(struct prepare *prepare)
{
	int err = files_partial_names(prepare->options->out, prepare->final,
				      prepare->folder);

	return err ? err : files_make_folder(prepare->folder);
}

static void prepare_fini(struct prepare *prepare)
{
	size_t i;

	for (i = 0; i < PREPARE_SPLITS; i++) {
		if (prepare->writers[i].buffer)
			shard_writer_fini(&prepare->writers[i]);
	}
	for (i = 0; i < prepare->document_count; i++)
		free(prepare->documents[i].path);
	prepare_sft_fini(prepare);
	tokenizer_encoder_destroy(prepare->encoder);
	tokenizer_destroy(prepare->tokenizer);
	token_buffer_fini(&prepare->tokens);
	free(prepare->counts);
	free(prepare->documents);
	free(prepare->chunk);
}

static int folder_make(struct prepare *prepare, struct prepare_result *result)
{
	int err = folder_begin(prepare);

	if (err)
		return err;
	err = folder_fill(prepare, result);
	if (!err && files_exists(prepare->final))
		err = fail(-EEXIST, "%s has come to exist meanwhile",
			   prepare->final);
	if (!err)
		err = files_rename_durably(prepare->folder, prepare->final);
	if (err && files_remove_tree(prepare->folder))
		log_warning("%s: left behind", prepare->folder);
	return err;
}

int prepare_run(const struct prepare_options *options,
		struct prepare_result *result)
{
	struct prepare prepare = {.options = options};
	struct prepare_result made;
	int err = options_check(options);

	if (err)
		return err;
	prepare.chunk_bytes =
		options->chunk_bytes ? options->chunk_bytes : CHUNK_BYTES;
	prepare.chunk = malloc(prepare.chunk_bytes);
	if (!prepare.chunk)
		err = fail(-ENOMEM, "no memory to read text");
	if (!err)
		err = documents_find(&prepare);
	if (!err)
		err = folder_make(&prepare, &made);
	prepare_fini(&prepare);
	if (err)
		return err;
	*result = made;
	return 0;
}
