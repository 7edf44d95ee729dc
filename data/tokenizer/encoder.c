/*
 * Encoding: text flows through stages, each holding back what later text
 * could still change.
 *
 *   bytes -> whole characters -> added tokens -> normalizers -> added tokens
 *   that are looked for after them -> pieces -> ids
 */
#include "data/tokenizer/tokenizer_impl.h"

#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

/*
 * Most pieces of a text are words seen before. An entry is one cache line, and
 * has two places: a new piece takes the first, and what was there the second.
 */
#define CACHE_SETS 16384
#define CACHE_TEXT 30
#define CACHE_IDS  8

struct cache_entry {
	uint8_t length; /* 0: free */
	uint8_t count;
	char text[CACHE_TEXT];
	int32_t ids[CACHE_IDS];
};

#define CACHE_BYTES (CACHE_SETS * 2 * sizeof(struct cache_entry))

struct tokenizer_encoder {
	const struct tokenizer *tokenizer;
	unsigned flags;
	struct utf8_feed feed;
	struct added_scan raw;
	struct normal_stream *normal;
	struct added_scan normalized;
	struct split_stream *split;
	struct model_work work;
	void *cache_memory;
	struct cache_entry (*cache)[2]; /* in it */
	struct token_buffer *out;       /* during a push */
	bool begun;
};

void model_work_fini(struct model_work *work)
{
	merge_work_fini(&work->merge);
	free(work->nodes);
}

static int piece_model(struct tokenizer_encoder *encoder, const char *piece,
		       size_t length)
{
	const struct tokenizer *tokenizer = encoder->tokenizer;

	return tokenizer->model->encode(tokenizer, &encoder->work, piece,
					length, encoder->out);
}

static bool is_cached(const struct cache_entry *entry, const char *piece,
		      size_t length)
{
	return entry->length == length &&
	       memcmp(entry->text, piece, length) == 0;
}

static inline int put_cached(struct token_buffer *out,
			     const struct cache_entry *entry)
{
	/* All the ids there could be: a copy of a size known here is fast. */
	int err = out->capacity - out->count >= CACHE_IDS
			  ? 0
			  : token_buffer_reserve(out, CACHE_IDS);

	if (err)
		return err;
	memcpy(out->ids + out->count, entry->ids, sizeof(entry->ids));
	out->count += entry->count;
	return 0;
}

static int piece_encode(void *argument, const char *piece, size_t length)
{
	struct tokenizer_encoder *encoder = argument;
	struct token_buffer *out = encoder->out;
	size_t first = out->count;
	struct cache_entry *entry;
	int err;

	if (length > CACHE_TEXT)
		return piece_model(encoder, piece, length);
	entry = encoder->cache[XXH3_64bits(piece, length) % CACHE_SETS];
	if (is_cached(entry, piece, length))
		return put_cached(out, entry);
	if (is_cached(entry + 1, piece, length))
		return put_cached(out, entry + 1);
	err = piece_model(encoder, piece, length);
	if (err || out->count - first > CACHE_IDS)
		return err;
	entry[1] = entry[0];
	entry->length = (uint8_t)length;
	entry->count = (uint8_t)(out->count - first);
	memcpy(entry->text, piece, length);
	if (entry->count)
		memcpy(entry->ids, out->ids + first,
		       entry->count * sizeof(int32_t));
	return 0;
}

/* Without merges a piece border changes nothing: a byte is a token. */
static int bytes_encode(void *argument, const char *text, size_t length,
			bool end)
{
	struct tokenizer_encoder *encoder = argument;
	struct token_buffer *out = encoder->out;
	int err = token_buffer_reserve(out, length);
	size_t i;

	(void)end;
	if (err)
		return err;
	for (i = 0; i < length; i++)
		out->ids[out->count++] =
			encoder->tokenizer->bpe.byte_id[(unsigned char)text[i]];
	return 0;
}

static int pieces_push(void *argument, const char *text, size_t length,
		       bool end)
{
	struct tokenizer_encoder *encoder = argument;

	if (normal_stream_is_cut(encoder->normal))
		split_stream_skip(encoder->split);
	return split_stream_push(encoder->split, text, length, end);
}

static int normalized_push(void *argument, const char *text, size_t length,
			   bool end)
{
	struct tokenizer_encoder *encoder = argument;

	return added_scan_push(&encoder->normalized, text, length, end);
}

static int normalize(void *argument, const char *text, size_t length, bool end)
{
	struct tokenizer_encoder *encoder = argument;

	return normal_stream_push(encoder->normal, text, length, end);
}

static int added_token_emit(void *argument, int32_t id)
{
	struct tokenizer_encoder *encoder = argument;

	split_stream_skip(encoder->split);
	return token_buffer_append(encoder->out, &id, 1);
}

static bool is_bytes_only(const struct tokenizer *tokenizer)
{
	size_t i;

	if (tokenizer->bpe.merges.count || strcmp(tokenizer->kind, "byte") != 0)
		return false;
	for (i = 0; i < 256; i++) {
		if (tokenizer->bpe.byte_id[i] < 0)
			return false;
	}
	return true;
}

/* Aligned to what an entry is, a cache line; not touched before it is used. */
static int cache_create(struct tokenizer_encoder *encoder)
{
	size_t line = sizeof(struct cache_entry);
	uintptr_t address;

	encoder->cache_memory = calloc(1, CACHE_BYTES + line);
	if (!encoder->cache_memory)
		return fail(-ENOMEM, "no memory for an encoder");
	address = (uintptr_t)encoder->cache_memory + line - 1;
	encoder->cache = (void *)(address - address % line);
	return 0;
}

int tokenizer_encoder_create(const struct tokenizer *tokenizer, unsigned flags,
			     struct tokenizer_encoder **out)
{
	struct tokenizer_encoder *encoder = calloc(1, sizeof(*encoder));
	struct added_sink last = {pieces_push, added_token_emit, encoder};
	struct added_sink first = {normalize, added_token_emit, encoder};
	bool special = flags & TOKENIZER_SPECIAL;
	int err;

	if (!encoder)
		return fail(-ENOMEM, "no memory for an encoder");
	encoder->tokenizer = tokenizer;
	encoder->flags = flags;
	if (is_bytes_only(tokenizer))
		last.text = bytes_encode;
	added_scan_init(&encoder->normalized, &tokenizer->added, true, special,
			last);
	added_scan_init(&encoder->raw, &tokenizer->added, false, special,
			first);
	err = normal_stream_create(&tokenizer->normalizer, normalized_push,
				   encoder, &encoder->normal);
	if (!err)
		err = split_stream_create(&tokenizer->splitter, piece_encode,
					  encoder, &encoder->split);
	if (err)
		goto err_destroy;
	err = cache_create(encoder);
	if (err)
		goto err_destroy;
	*out = encoder;
	return 0;

err_destroy:
	tokenizer_encoder_destroy(encoder);
	return err;
}

void tokenizer_encoder_destroy(struct tokenizer_encoder *encoder)
{
	if (!encoder)
		return;
	added_scan_fini(&encoder->raw);
	added_scan_fini(&encoder->normalized);
	normal_stream_destroy(encoder->normal);
	split_stream_destroy(encoder->split);
	model_work_fini(&encoder->work);
	free(encoder->cache_memory);
	free(encoder);
}

void tokenizer_encoder_reset(struct tokenizer_encoder *encoder)
{
	encoder->feed = (struct utf8_feed){0};
	added_scan_reset(&encoder->raw);
	added_scan_reset(&encoder->normalized);
	normal_stream_reset(encoder->normal);
	split_stream_reset(encoder->split);
	encoder->begun = false;
}

void tokenizer_encoder_continue(struct tokenizer_encoder *encoder, bool within)
{
	if (within)
		normal_stream_skip(encoder->normal);
	split_stream_skip(encoder->split);
}

uint64_t tokenizer_encoder_offset(const struct tokenizer_encoder *encoder)
{
	return encoder->feed.offset;
}

static int push_text(struct tokenizer_encoder *encoder, const char *text,
		     size_t length, bool end)
{
	bool template = encoder->flags & TOKENIZER_TEMPLATE;
	const struct tokenizer *tokenizer = encoder->tokenizer;
	int err = 0;

	if (template && !encoder->begun)
		err = token_buffer_append(encoder->out, tokenizer->before.ids,
					  tokenizer->before.count);
	encoder->begun = true;
	if (!err)
		err = utf8_feed_push(&encoder->feed, text, length, end,
				     added_scan_push, &encoder->raw);
	if (err || !end)
		return err;
	encoder->begun = false;
	split_stream_reset(encoder->split);
	if (template)
		err = token_buffer_append(encoder->out, tokenizer->after.ids,
					  tokenizer->after.count);
	return err;
}

int tokenizer_encoder_push(struct tokenizer_encoder *encoder, const char *text,
			   size_t length, bool end, struct token_buffer *out)
{
	size_t count = out->count;
	int err;

	encoder->out = out;
	err = push_text(encoder, text, length, end);
	encoder->out = NULL;
	if (err)
		out->count = count;
	return err;
}

int tokenizer_encode(const struct tokenizer *tokenizer, const char *text,
		     size_t length, unsigned flags, struct token_buffer *out)
{
	struct tokenizer_encoder *encoder;
	int err = tokenizer_encoder_create(tokenizer, flags, &encoder);

	if (err)
		return err;
	err = tokenizer_encoder_push(encoder, text, length, true, out);
	if (err == -EILSEQ)
		fail(err, "the text is not UTF-8, at byte %llu",
		     (unsigned long long)tokenizer_encoder_offset(encoder));
	tokenizer_encoder_destroy(encoder);
	return err;
}
