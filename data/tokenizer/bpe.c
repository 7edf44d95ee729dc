/*
 * Byte-pair encoding of one piece: its bytes or characters as tokens, then the
 * merges.
 */
#include "data/tokenizer/tokenizer_impl.h"

#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Longer tokens are merged anew each time. */
#define WHOLE_BYTES_MAX 64

/* Longest character with prefix and suffix. */
#define CHARACTER_BYTES (4 + 2 * BPE_AFFIX_BYTES_MAX)

void bpe_init(struct bpe *bpe)
{
	*bpe = (struct bpe){.unknown_id = -1};
	memset(bpe->byte_id, -1, sizeof(bpe->byte_id));
	memset(bpe->fallback_id, -1, sizeof(bpe->fallback_id));
}

void bpe_fini(struct bpe *bpe)
{
	merges_fini(&bpe->merges);
	free(bpe->prefix);
	free(bpe->suffix);
}

/* The ids of the bytes; what is unknown may be fused or dropped. */
static size_t split_bytes(const struct bpe *bpe, const char *piece,
			  size_t length, int32_t *ids)
{
	size_t i, count = 0;
	bool unknown = false;

	for (i = 0; i < length; i++) {
		int32_t id = bpe->byte_id[(unsigned char)piece[i]];

		if (id >= 0) {
			ids[count++] = id;
			unknown = false;
			continue;
		}
		if (bpe->unknown_id < 0 || (unknown && bpe->fuse_unknown))
			continue;
		ids[count++] = bpe->unknown_id;
		unknown = true;
	}
	return count;
}

/* One character as it stands in the vocabulary; returns its bytes. */
static size_t spell(const struct bpe *bpe, const char *text, size_t length,
		    bool first, bool last, char out[CHARACTER_BYTES])
{
	size_t at = 0, bytes;

	if (!first && bpe->prefix) {
		at = strlen(bpe->prefix);
		memcpy(out, bpe->prefix, at);
	}
	memcpy(out + at, text, length);
	at += length;
	if (last && bpe->suffix) {
		bytes = strlen(bpe->suffix);
		memcpy(out + at, bpe->suffix, bytes);
		at += bytes;
	}
	return at;
}

static size_t fall_back(const struct bpe *bpe, const char *text, size_t length,
			int32_t *ids)
{
	size_t i;

	for (i = 0; i < length; i++) {
		ids[i] = bpe->fallback_id[(unsigned char)text[i]];
		if (ids[i] < 0)
			return 0;
	}
	return length;
}

/*
 * The ids of the characters. As in the Hugging Face library, an unknown one
 * is written when the next known one is (or at the end), which lets tokens
 * of its bytes pass.
 */
static size_t split_characters(const struct tokenizer *tokenizer,
			       const char *piece, size_t length, int32_t *ids)
{
	const struct bpe *bpe = &tokenizer->bpe;
	bool affixes = bpe->prefix || bpe->suffix;
	size_t at, bytes, spelled, some, count = 0;
	char text[CHARACTER_BYTES];
	bool unknown = false;
	int32_t id;

	for (at = 0; at < length; at += bytes) {
		bytes = utf8_bytes((unsigned char)piece[at]);
		if (bytes == 1 && !affixes) {
			id = bpe->byte_id[(unsigned char)piece[at]];
			text[0] = piece[at];
			spelled = 1;
		} else {
			spelled = spell(bpe, piece + at, bytes, at == 0,
					at + bytes == length, text);
			id = tokenizer_find_piece(tokenizer, text, spelled);
		}
		if (id >= 0) {
			if (unknown)
				ids[count++] = bpe->unknown_id;
			unknown = false;
			ids[count++] = id;
			continue;
		}
		some = fall_back(bpe, text, spelled, ids + count);
		count += some;
		if (some || bpe->unknown_id < 0)
			continue;
		if (unknown && !bpe->fuse_unknown)
			ids[count++] = bpe->unknown_id;
		unknown = true;
	}
	if (unknown)
		ids[count++] = bpe->unknown_id;
	return count;
}

/* Most ids that `length` bytes of a piece make before merging. */
static size_t ids_max(const struct bpe *bpe, size_t length)
{
	size_t affixes = (bpe->prefix ? strlen(bpe->prefix) : 0) +
			 (bpe->suffix ? strlen(bpe->suffix) : 0);

	return length * (1 + affixes) + 1;
}

static int bpe_encode(const struct tokenizer *tokenizer,
		      struct model_work *work, const char *piece, size_t length,
		      struct token_buffer *out)
{
	const struct bpe *bpe = &tokenizer->bpe;
	int32_t *ids, id;
	size_t count;
	int err;

	if (bpe->ignore_merges || bpe->knows_whole) {
		id = tokenizer_find_piece(tokenizer, piece, length);
		if (id >= 0 &&
		    (bpe->ignore_merges || tokenizer->tokens[id].whole))
			return token_buffer_append(out, &id, 1);
	}
	err = token_buffer_reserve(out, ids_max(bpe, length));
	if (err)
		return err;
	ids = out->ids + out->count;
	if (bpe->byte_level)
		count = split_bytes(bpe, piece, length, ids);
	else
		count = split_characters(tokenizer, piece, length, ids);
	err = merges_apply(&bpe->merges, &work->merge, ids, &count);
	if (!err)
		out->count += count;
	return err;
}

int bpe_find_whole(struct tokenizer *tokenizer)
{
	struct model_work work = {0};
	struct token_buffer ids = {0};
	size_t i, length;
	int err = 0;

	for (i = 0; i < tokenizer->count && !err; i++) {
		const char *text =
			tokenizer_token(tokenizer, (int32_t)i, &length);

		ids.count = 0;
		if (!length || length > WHOLE_BYTES_MAX)
			continue;
		err = bpe_encode(tokenizer, &work, text, length, &ids);
		tokenizer->tokens[i].whole =
			ids.count == 1 && ids.ids[0] == (int32_t)i;
	}
	tokenizer->bpe.knows_whole = true;
	token_buffer_fini(&ids);
	model_work_fini(&work);
	return err;
}

const struct model_kind model_bpe = {"BPE", bpe_load, bpe_encode};
