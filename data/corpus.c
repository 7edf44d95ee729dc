#include "data/corpus.h"
#include "data/sft/template.h"
#include "data/shard.h"

#include "base/digest.h"
#include "base/json.h"
#include "base/log.h"
#include "base/text.h"

#include <errno.h>
#include <glob.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MANIFEST           "corpus.json"
#define MANIFEST_BYTES_MAX ((size_t)64 << 20)
#define VERIFY_TOKENS      65536

struct row {
	struct shard *shards;
	uint64_t *first;                   /* of each shard, in the split */
	char (*digests)[DIGEST_HEX_BYTES]; /* "" when not known */
	size_t count;
	uint64_t tokens;
	struct {
		char *path; /* NULL: a corpus of text */
		struct files_mapping mapping;
		char digest[DIGEST_HEX_BYTES];
		uint64_t examples, supervised;
	} marks;
};

struct corpus {
	struct row rows[CORPUS_SPLITS];
	size_t vocab_size;
	uint32_t limit; /* ids are below this */
	double entropy;
	uint64_t documents, text_bytes;
	char kind[16];
	char template[32]; /* "": a corpus of text */
	char *tokenizer_path;
	unsigned plain_token_bytes;
};

const char *corpus_split_name(enum corpus_split split)
{
	return split == CORPUS_TRAIN ? "train" : "val";
}

static int row_add(struct corpus *corpus, enum corpus_split split,
		   const char *path, const char *digest)
{
	struct row *row = &corpus->rows[split];
	size_t count = row->count + 1;
	void *grown;
	int err;

	grown = reallocarray(row->shards, count, sizeof(*row->shards));
	if (!grown)
		return fail(-ENOMEM, "%s: no memory to open it", path);
	row->shards = grown;
	grown = reallocarray(row->first, count, sizeof(*row->first));
	if (!grown)
		return fail(-ENOMEM, "%s: no memory to open it", path);
	row->first = grown;
	grown = reallocarray(row->digests, count, sizeof(*row->digests));
	if (!grown)
		return fail(-ENOMEM, "%s: no memory to open it", path);
	row->digests = grown;
	err = shard_open(&row->shards[row->count], path,
			 corpus->plain_token_bytes);
	if (err)
		return err;
	row->first[row->count] = row->tokens;
	row->digests[row->count][0] = '\0';
	if (digest &&
	    text_copy(row->digests[row->count], DIGEST_HEX_BYTES, digest))
		row->digests[row->count][0] = '\0';
	row->tokens += row->shards[row->count].tokens;
	row->count = count;
	return 0;
}

void corpus_close(struct corpus *corpus)
{
	size_t split, i;

	if (!corpus)
		return;
	for (split = 0; split < CORPUS_SPLITS; split++) {
		struct row *row = &corpus->rows[split];

		for (i = 0; i < row->count; i++)
			shard_close(&row->shards[i]);
		free(row->shards);
		free(row->first);
		free(row->digests);
		if (row->marks.path)
			files_unmap(&row->marks.mapping);
		free(row->marks.path);
	}
	free(corpus->tokenizer_path);
	free(corpus);
}

/* ---- a folder that prepare made ---- */

static int manifest_shard(struct corpus *corpus, const char *folder,
			  const char *origin, enum corpus_split split,
			  const json_t *entry)
{
	char path[FILES_PATH_BYTES];
	const char *name, *digest;
	const struct row *row = &corpus->rows[split];
	int64_t tokens;
	int err = json_get_string(entry, "file", origin, &name);

	if (!err && !files_name_is_plain(name))
		err = fail(-EINVAL, "%s: \"%.80s\" is not a file name", origin,
			   name);
	if (!err)
		err = json_get_integer(entry, "tokens", 1, INT32_MAX, origin,
				       &tokens);
	if (!err)
		err = json_get_string(entry, "sha256", origin, &digest);
	if (!err && strlen(digest) != DIGEST_HEX_BYTES - 1)
		err = fail(-EINVAL, "%s: the sha256 of %s is malformed", origin,
			   name);
	if (!err)
		err = files_join(path, sizeof(path), folder, name);
	if (!err)
		err = row_add(corpus, split, path, digest);
	if (err)
		return err;
	if (row->shards[row->count - 1].tokens != (uint64_t)tokens)
		return fail(
			-EINVAL, "%s: %llu tokens, but %s says %lld", path,
			(unsigned long long)row->shards[row->count - 1].tokens,
			origin, (long long)tokens);
	return 0;
}

static int manifest_shards(struct corpus *corpus, const char *folder,
			   const char *origin, const json_t *manifest)
{
	json_t *shards, *list;
	size_t split, i;
	int err = json_get_object(manifest, "shards", origin, &shards);

	for (split = 0; split < CORPUS_SPLITS && !err; split++) {
		err = json_get_array(shards, corpus_split_name(split), origin,
				     &list);
		for (i = 0; !err && i < json_array_size(list); i++)
			err = manifest_shard(corpus, folder, origin, split,
					     json_array_get(list, i));
	}
	return err;
}

static int manifest_numbers(struct corpus *corpus, const char *origin,
			    const json_t *manifest)
{
	static const char *const totals[] = {"train_tokens", "val_tokens"};
	int64_t vocab_size, number;
	const char *kind;
	size_t split;
	int err;

	err = json_get_integer(manifest, "vocab_size", 1, INT32_MAX, origin,
			       &vocab_size);
	if (err)
		return err;
	corpus->vocab_size = (size_t)vocab_size;
	for (split = 0; split < CORPUS_SPLITS && !err; split++) {
		err = json_get_integer(manifest, totals[split], 0, INT64_MAX,
				       origin, &number);
		if (!err && (uint64_t)number != corpus->rows[split].tokens)
			err = fail(
				-EINVAL,
				"%s: %s is %lld, the shards have "
				"%llu",
				origin, totals[split], (long long)number,
				(unsigned long long)corpus->rows[split].tokens);
	}
	if (!err)
		err = json_get_integer_or(manifest, "documents", 0, INT64_MAX,
					  0, origin, &number);
	if (!err) {
		corpus->documents = (uint64_t)number;
		err = json_get_integer_or(manifest, "bytes", 0, INT64_MAX, 0,
					  origin, &number);
	}
	if (!err) {
		corpus->text_bytes = (uint64_t)number;
		err = json_get_real_or(manifest, "unigram_entropy", 0, 64, -1,
				       origin, &corpus->entropy);
	}
	if (!err)
		err = json_get_string_or(manifest, "tokenizer", "", origin,
					 &kind);
	if (!err && text_copy(corpus->kind, sizeof(corpus->kind), kind))
		err = fail(-EINVAL, "%s: unknown tokenizer kind", origin);
	if (!err && corpus->entropy < 0)
		corpus->entropy = NAN;
	return err;
}

static int marks_check(struct row *row, const char *origin)
{
	const unsigned char *marks = row->marks.mapping.data;
	uint64_t examples = 0, supervised = 0;
	unsigned char all = 0;

	if (row->marks.mapping.length != row->tokens)
		return fail(-EINVAL,
			    "%s: %zu bytes, but a byte a token of %llu is "
			    "expected",
			    row->marks.path, row->marks.mapping.length,
			    (unsigned long long)row->tokens);
	for (uint64_t i = 0; i < row->tokens; i++) {
		all |= marks[i];
		examples += marks[i] >> 1 & 1;
		supervised += marks[i] & 1;
	}
	if (all > (MARK_SUPERVISED | MARK_FIRST) ||
	    (row->tokens && !(marks[0] & MARK_FIRST)) ||
	    examples != row->marks.examples ||
	    supervised != row->marks.supervised)
		return fail(-EINVAL, "%s: not the marks that %s describes",
			    row->marks.path, origin);
	return 0;
}

static int manifest_marks(struct row *row, const char *folder,
			  const char *origin, const json_t *entry)
{
	char path[FILES_PATH_BYTES];
	const char *name, *digest;
	int64_t examples, supervised;
	int err = json_get_string(entry, "marks", origin, &name);

	if (!err && !files_name_is_plain(name))
		err = fail(-EINVAL, "%s: \"%.80s\" is not a file name", origin,
			   name);
	if (!err)
		err = json_get_string(entry, "sha256", origin, &digest);
	if (!err && (strlen(digest) != DIGEST_HEX_BYTES - 1 ||
		     text_copy(row->marks.digest, DIGEST_HEX_BYTES, digest)))
		err = fail(-EINVAL, "%s: the sha256 of %s is malformed", origin,
			   name);
	if (!err)
		err = json_get_integer(entry, "examples", 0, INT64_MAX, origin,
				       &examples);
	if (!err)
		err = json_get_integer(entry, "supervised", 0, INT64_MAX,
				       origin, &supervised);
	if (!err)
		err = files_join(path, sizeof(path), folder, name);
	if (!err)
		err = files_map(path, &row->marks.mapping);
	if (err)
		return err;
	row->marks.path = strdup(path);
	if (!row->marks.path) {
		files_unmap(&row->marks.mapping);
		return fail(-ENOMEM, "%s: no memory to open it", path);
	}
	row->marks.examples = (uint64_t)examples;
	row->marks.supervised = (uint64_t)supervised;
	return marks_check(row, origin);
}

static int manifest_sft(struct corpus *corpus, const char *folder,
			const char *origin, const json_t *manifest)
{
	json_t *sft, *entry;
	const char *template;
	size_t split;
	int err = json_get_object(manifest, "sft", origin, &sft);
	if (!err)
		err = json_get_string(sft, "template", origin, &template);
	if (!err &&
	    text_copy(corpus->template, sizeof(corpus->template), template))
		err = fail(-EINVAL, "%s: unknown chat template", origin);
	for (split = 0; split < CORPUS_SPLITS && !err; split++) {
		err = json_get_object(sft, corpus_split_name(split), origin,
				      &entry);
		if (!err)
			err = manifest_marks(&corpus->rows[split], folder,
					     origin, entry);
	}
	return err;
}

static int open_prepared(struct corpus *corpus, const char *folder,
			 const char *manifest_path)
{
	json_t *manifest;
	int64_t version;
	int err = json_read(manifest_path, MANIFEST_BYTES_MAX, &manifest);

	if (err)
		return err;
	err = json_get_integer(manifest, "version", 1, 2, manifest_path,
			       &version);
	if (!err)
		err = manifest_shards(corpus, folder, manifest_path, manifest);
	if (!err)
		err = manifest_numbers(corpus, manifest_path, manifest);
	if (!err && version == 2)
		err = manifest_sft(corpus, folder, manifest_path, manifest);
	json_decref(manifest);
	return err;
}

/* ---- files of other programs ---- */

static enum corpus_split split_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return strstr(slash ? slash + 1 : path, "val") ? CORPUS_VALIDATION
						       : CORPUS_TRAIN;
}

/* Files that match a shell pattern, in the order of their names. */
static int open_pattern(struct corpus *corpus, const char *pattern)
{
	glob_t found;
	size_t i;
	int err = 0, code = glob(pattern, GLOB_ERR, NULL, &found);

	if (code == GLOB_NOMATCH)
		return -ENOENT;
	if (code)
		return fail(code == GLOB_NOSPACE ? -ENOMEM : -EIO,
			    "%s: cannot look for files", pattern);
	for (i = 0; i < found.gl_pathc && !err; i++) {
		if (!files_is_folder(found.gl_pathv[i]))
			err = row_add(corpus, split_of(found.gl_pathv[i]),
				      found.gl_pathv[i], NULL);
	}
	globfree(&found);
	return err;
}

/* `text` is taken literally, `tail` is a pattern. */
static int open_beginning(struct corpus *corpus, const char *text,
			  const char *tail)
{
	struct text_builder builder;
	char *pattern;
	int err;

	text_builder_init(&builder);
	for (; *text; text++)
		text_builder_append(&builder, "%s%c",
				    strchr("*?[]\\", *text) ? "\\" : "", *text);
	text_builder_append(&builder, "%s", tail);
	pattern = text_builder_finish(&builder);
	if (!pattern)
		return fail(-ENOMEM, "no memory to look for files");
	err = open_pattern(corpus, pattern);
	free(pattern);
	return err;
}

static int open_folder(struct corpus *corpus, const char *folder)
{
	char manifest[FILES_PATH_BYTES], tokenizer[FILES_PATH_BYTES];
	int err = files_join(manifest, sizeof(manifest), folder, MANIFEST);

	if (!err)
		err = files_join(tokenizer, sizeof(tokenizer), folder,
				 "tokenizer.json");
	if (err)
		return err;
	if (files_exists(tokenizer)) {
		corpus->tokenizer_path = strdup(tokenizer);
		if (!corpus->tokenizer_path)
			return fail(-ENOMEM, "no memory to open a corpus");
	}
	if (files_exists(manifest))
		return open_prepared(corpus, folder, manifest);
	err = open_beginning(corpus, folder, "/*.bin");
	if (err == -ENOENT)
		err = fail(err,
			   "%s: neither " MANIFEST " nor *.bin in this "
			   "folder; `stagecoach prepare` makes one",
			   folder);
	return err;
}

static int open_path(struct corpus *corpus, const char *path)
{
	int err;

	if (files_is_folder(path))
		return open_folder(corpus, path);
	if (files_exists(path))
		return row_add(corpus, split_of(path), path, NULL);
	err = strpbrk(path, "*?[") ? open_pattern(corpus, path)
				   : open_beginning(corpus, path, "*.bin");
	if (err == -ENOENT)
		err = fail(err,
			   "%s: no such file or folder, and no file name "
			   "matches or begins so",
			   path);
	return err;
}

int corpus_open(const char *path, const struct corpus_options *options,
		struct corpus **out)
{
	struct corpus *corpus = calloc(1, sizeof(*corpus));
	size_t limit;
	int err;

	if (!corpus)
		return fail(-ENOMEM, "no memory to open a corpus");
	corpus->entropy = NAN;
	corpus->plain_token_bytes =
		options && options->plain_token_bytes == 4 ? 4 : 2;
	err = open_path(corpus, path);
	if (!err && !corpus->rows[CORPUS_TRAIN].tokens &&
	    !corpus->rows[CORPUS_VALIDATION].tokens)
		err = fail(-EINVAL, "%s: holds no tokens", path);
	if (err) {
		corpus_close(corpus);
		return err;
	}
	limit = options && options->vocab_size ? options->vocab_size
					       : corpus->vocab_size;
	corpus->limit =
		limit && limit < INT32_MAX ? (uint32_t)limit : INT32_MAX;
	*out = corpus;
	return 0;
}

/* ---- reading ---- */

uint64_t corpus_tokens(const struct corpus *corpus, enum corpus_split split)
{
	return corpus->rows[split].tokens;
}

/* The shard a token lies in; `token` must exist. */
static size_t shard_of(const struct row *row, uint64_t token)
{
	size_t low = 0, high = row->count;

	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;

		if (row->first[middle] <= token)
			low = middle;
		else
			high = middle;
	}
	return low;
}

int corpus_read(const struct corpus *corpus, enum corpus_split split,
		uint64_t first, size_t count, int32_t *out)
{
	const struct row *row = &corpus->rows[split];
	size_t index;
	int err = 0;

	if (first > row->tokens || count > row->tokens - first)
		return fail(-ERANGE,
			    "tokens %llu to %llu of the %s split, "
			    "which has %llu",
			    (unsigned long long)first,
			    (unsigned long long)(first + count),
			    corpus_split_name(split),
			    (unsigned long long)row->tokens);
	if (!count)
		return 0;
	for (index = shard_of(row, first); count && !err; index++) {
		const struct shard *shard = &row->shards[index];
		uint64_t inside = first - row->first[index];
		size_t part =
			(size_t)MIN(shard->tokens - inside, (uint64_t)count);

		err = shard_read(shard, inside, part, corpus->limit, out);
		out += part;
		first += part;
		count -= part;
	}
	return err;
}

size_t corpus_vocab_size(const struct corpus *corpus)
{
	return corpus->vocab_size;
}

double corpus_unigram_entropy(const struct corpus *corpus)
{
	return corpus->entropy;
}

const unsigned char *corpus_marks(const struct corpus *corpus,
				  enum corpus_split split)
{
	return corpus->rows[split].marks.mapping.data;
}

bool corpus_has_examples(const struct corpus *corpus)
{
	return corpus->template[0] != '\0';
}

uint64_t corpus_examples(const struct corpus *corpus, enum corpus_split split)
{
	return corpus->rows[split].marks.examples;
}

uint64_t corpus_supervised(const struct corpus *corpus, enum corpus_split split)
{
	return corpus->rows[split].marks.supervised;
}

const char *corpus_template(const struct corpus *corpus)
{
	return corpus_has_examples(corpus) ? corpus->template : NULL;
}

uint64_t corpus_documents(const struct corpus *corpus)
{
	return corpus->documents;
}

uint64_t corpus_text_bytes(const struct corpus *corpus)
{
	return corpus->text_bytes;
}

const char *corpus_tokenizer_kind(const struct corpus *corpus)
{
	return corpus->kind;
}

const char *corpus_tokenizer_path(const struct corpus *corpus)
{
	return corpus->tokenizer_path;
}

size_t corpus_shard_count(const struct corpus *corpus, enum corpus_split split)
{
	return corpus->rows[split].count;
}

struct corpus_shard_info corpus_shard(const struct corpus *corpus,
				      enum corpus_split split, size_t index)
{
	const struct shard *shard = &corpus->rows[split].shards[index];

	ASSERT(index < corpus->rows[split].count);
	return (struct corpus_shard_info){shard->path, shard->tokens,
					  shard->token_bytes,
					  shard->plain ? "plain" : "llm.c"};
}

static uint64_t mix(uint64_t seed, const void *data, size_t length)
{
	uint64_t words[2] = {seed, digest_hash64(data, length)};

	return digest_hash64(words, sizeof(words));
}

/* Both ends and the middle of the file, and how long it is. */
static uint64_t shard_sample(const struct shard *shard)
{
	const struct files_mapping *mapping = &shard->mapping;
	size_t part = MIN(mapping->length, (size_t)4096);
	uint64_t length = mapping->length, sum;

	sum = mix(0, &length, sizeof(length));
	sum = mix(sum, mapping->data, part);
	sum = mix(sum, mapping->data + (mapping->length - part) / 2, part);
	return mix(sum, mapping->data + mapping->length - part, part);
}

uint64_t corpus_fingerprint(const struct corpus *corpus)
{
	uint64_t sum = 0;
	size_t split, i;

	for (split = 0; split < CORPUS_SPLITS; split++) {
		const struct row *row = &corpus->rows[split];

		sum = mix(sum, &row->tokens, sizeof(row->tokens));
		for (i = 0; i < row->count; i++) {
			uint64_t part = shard_sample(&row->shards[i]);

			if (row->digests[i][0])
				part = digest_hash64(row->digests[i],
						     strlen(row->digests[i]));
			sum = mix(sum, &part, sizeof(part));
		}
		if (row->marks.path)
			sum = mix(sum, row->marks.digest, DIGEST_HEX_BYTES);
	}
	return sum;
}

static int digest_check(const char *path, const char *wanted)
{
	char digest[DIGEST_HEX_BYTES];
	int err = digest_file(path, digest);

	if (!err && strcmp(digest, wanted) != 0)
		err = fail(-EINVAL,
			   "%s: its SHA-256 is not the one in " MANIFEST
			   ": the file was changed",
			   path);
	return err;
}

static int shard_verify(const struct corpus *corpus, const struct shard *shard,
			const char *wanted, int32_t *buffer)
{
	uint64_t first;
	int err = *wanted ? digest_check(shard->path, wanted) : 0;

	for (first = 0; first < shard->tokens && !err; first += VERIFY_TOKENS)
		err = shard_read(shard, first,
				 (size_t)MIN(shard->tokens - first,
					     (uint64_t)VERIFY_TOKENS),
				 corpus->limit, buffer);
	return err;
}

int corpus_verify(const struct corpus *corpus)
{
	int32_t *buffer = malloc(VERIFY_TOKENS * sizeof(*buffer));
	size_t split, i;
	int err = 0;

	if (!buffer)
		return fail(-ENOMEM, "no memory to verify a corpus");
	for (split = 0; split < CORPUS_SPLITS; split++) {
		const struct row *row = &corpus->rows[split];

		for (i = 0; i < row->count && !err; i++)
			err = shard_verify(corpus, &row->shards[i],
					   row->digests[i], buffer);
		if (!err && row->marks.path)
			err = digest_check(row->marks.path, row->marks.digest);
	}
	free(buffer);
	return err;
}
