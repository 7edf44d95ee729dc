#include "data/tokenizer/tokenizer_impl.h"

#include "base/digest.h"
#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int token_buffer_reserve(struct token_buffer *buffer, size_t count)
{
	size_t wanted = buffer->count + count, capacity;
	int32_t *grown;

	if (wanted <= buffer->capacity)
		return 0;
	capacity = MAX(wanted, buffer->capacity * 2);
	capacity = MAX(capacity, (size_t)64);
	grown = reallocarray(buffer->ids, capacity, sizeof(*grown));
	if (!grown)
		return fail(-ENOMEM, "no memory for %zu tokens", capacity);
	buffer->ids = grown;
	buffer->capacity = capacity;
	return 0;
}

int token_buffer_append(struct token_buffer *buffer, const int32_t *ids,
			size_t count)
{
	int err = token_buffer_reserve(buffer, count);

	if (err || !count)
		return err;
	memcpy(buffer->ids + buffer->count, ids, count * sizeof(*ids));
	buffer->count += count;
	return 0;
}

void token_buffer_fini(struct token_buffer *buffer)
{
	free(buffer->ids);
	*buffer = (struct token_buffer){0};
}

int tokenizer_allocate(const char *kind, struct tokenizer **out)
{
	struct tokenizer *tokenizer = calloc(1, sizeof(*tokenizer));

	if (!tokenizer)
		return fail(-ENOMEM, "no memory for a tokenizer");
	tokenizer->kind = kind;
	tokenizer->end_of_text = -1;
	tokenizer->model = &model_bpe;
	bpe_init(&tokenizer->bpe);
	tokenizer->bpe.byte_level = true;
	tokenizer->decoder.count = 1;
	tokenizer->decoder.steps[0].kind = DECODE_BYTES;
	*out = tokenizer;
	return 0;
}

void tokenizer_destroy(struct tokenizer *tokenizer)
{
	if (!tokenizer)
		return;
	normalizer_fini(&tokenizer->normalizer);
	splitter_fini(&tokenizer->splitter);
	bpe_fini(&tokenizer->bpe);
	wordpiece_fini(&tokenizer->wordpiece);
	unigram_fini(&tokenizer->unigram);
	decoder_fini(&tokenizer->decoder);
	added_set_fini(&tokenizer->added);
	byte_buffer_fini(&tokenizer->bytes);
	token_buffer_fini(&tokenizer->before);
	token_buffer_fini(&tokenizer->after);
	token_buffer_fini(&tokenizer->merge_pairs);
	free(tokenizer->tokens);
	free(tokenizer->piece_ids);
	free(tokenizer->source);
	free(tokenizer);
}

static int tokens_reserve(struct tokenizer *tokenizer, size_t count)
{
	size_t capacity = MAX(count, tokenizer->capacity * 2);
	struct token *grown;

	if (count <= tokenizer->capacity)
		return 0;
	capacity = MAX(capacity, (size_t)512);
	grown = reallocarray(tokenizer->tokens, capacity, sizeof(*grown));
	if (!grown)
		return fail(-ENOMEM, "no memory for a vocabulary of %zu",
			    capacity);
	memset(grown + tokenizer->capacity, 0,
	       (capacity - tokenizer->capacity) * sizeof(*grown));
	tokenizer->tokens = grown;
	tokenizer->capacity = capacity;
	return 0;
}

int tokenizer_define(struct tokenizer *tokenizer, int32_t id, const char *bytes,
		     size_t length)
{
	struct token *token;
	int err;

	ASSERT(id >= 0);
	err = tokens_reserve(tokenizer, (size_t)id + 1);
	if (err)
		return err;
	token = &tokenizer->tokens[id];
	if (token->present)
		return -EINVAL;
	token->offset = tokenizer->bytes.length;
	token->length = (uint32_t)length;
	err = byte_buffer_append(&tokenizer->bytes, bytes, length);
	if (err)
		return err;
	token->present = true;
	tokenizer->count = MAX(tokenizer->count, (size_t)id + 1);
	return 0;
}

static int define_end_of_text(struct tokenizer *tokenizer)
{
	struct added_token token = {
		.content = (char[]){TOKENIZER_END_OF_TEXT},
		.length = strlen(TOKENIZER_END_OF_TEXT),
		.id = 0,
		.special = true,
	};
	int err = tokenizer_define(tokenizer, 0, token.content, token.length);

	token.pattern = token.content;
	token.pattern_length = token.length;
	if (!err)
		err = added_set_add(&tokenizer->added, &token);
	if (!err)
		err = added_set_index(&tokenizer->added);
	if (err)
		return err;
	tokenizer->tokens[0].special = true;
	tokenizer->end_of_text = 0;
	return 0;
}

int tokenizer_define_base(struct tokenizer *tokenizer)
{
	int32_t id = 1;
	uint32_t character;
	int err = define_end_of_text(tokenizer);

	for (character = 0; character <= 0x143 && !err; character++) {
		int byte = utf8_character_byte(character);
		char bytes[1] = {(char)byte};

		if (byte < 0)
			continue;
		err = tokenizer_define(tokenizer, id, bytes, 1);
		tokenizer->bpe.byte_id[byte] = id++;
	}
	if (!err)
		err = splitter_add_expression(&tokenizer->splitter, SPLIT_GPT2,
					      "GPT-2's tokenizer");
	return err;
}

int tokenizer_define_merge(struct tokenizer *tokenizer, int32_t left,
			   int32_t right, int32_t id)
{
	size_t rank = tokenizer->merge_pairs.count / 2;
	int err = merges_add(&tokenizer->bpe.merges, left, right, (int32_t)rank,
			     id);

	if (!err)
		err = token_buffer_append(&tokenizer->merge_pairs,
					  (int32_t[]){left, right}, 2);
	return err;
}

int tokenizer_bytes(struct tokenizer **out)
{
	struct tokenizer *tokenizer;
	int err = tokenizer_allocate("byte", &tokenizer);

	if (err)
		return err;
	err = tokenizer_define_base(tokenizer);
	if (err) {
		tokenizer_destroy(tokenizer);
		return err;
	}
	*out = tokenizer;
	return 0;
}

size_t tokenizer_vocab_size(const struct tokenizer *tokenizer)
{
	return tokenizer->count;
}

int32_t tokenizer_end_of_text(const struct tokenizer *tokenizer)
{
	return tokenizer->end_of_text;
}

const char *tokenizer_kind(const struct tokenizer *tokenizer)
{
	return tokenizer->kind;
}

static bool has_token(const struct tokenizer *tokenizer, int32_t id)
{
	return id >= 0 && (size_t)id < tokenizer->count &&
	       tokenizer->tokens[id].present;
}

const int32_t *tokenizer_before(const struct tokenizer *tokenizer,
				size_t *count)
{
	*count = tokenizer->before.count;
	return tokenizer->before.ids;
}

bool tokenizer_is_special(const struct tokenizer *tokenizer, int32_t id)
{
	return has_token(tokenizer, id) && tokenizer->tokens[id].special;
}

const char *tokenizer_token(const struct tokenizer *tokenizer, int32_t id,
			    size_t *length)
{
	if (!has_token(tokenizer, id)) {
		*length = 0;
		return NULL;
	}
	*length = tokenizer->tokens[id].length;
	return tokenizer->bytes.data + tokenizer->tokens[id].offset;
}

int32_t tokenizer_added_token(const struct tokenizer *tokenizer,
			      const char *content)
{
	size_t i;

	for (i = 0; i < tokenizer->added.count; i++) {
		if (strcmp(tokenizer->added.tokens[i].content, content) == 0)
			return tokenizer->added.tokens[i].id;
	}
	return -1;
}

static int32_t *piece_slot(const struct tokenizer *tokenizer, const char *piece,
			   size_t length)
{
	size_t mask = tokenizer->piece_slots - 1, held;
	size_t at = digest_hash64(piece, length) & mask;

	for (; tokenizer->piece_ids[at] >= 0; at = (at + 1) & mask) {
		const char *bytes = tokenizer_token(
			tokenizer, tokenizer->piece_ids[at], &held);

		if (held == length && memcmp(bytes, piece, length) == 0)
			break;
	}
	return &tokenizer->piece_ids[at];
}

int tokenizer_index_pieces(struct tokenizer *tokenizer)
{
	size_t i, slots = 1024;

	while (slots < 2 * (tokenizer->count + 1))
		slots *= 2;
	free(tokenizer->piece_ids);
	tokenizer->piece_ids = malloc(slots * sizeof(int32_t));
	if (!tokenizer->piece_ids)
		return fail(-ENOMEM, "no memory for a vocabulary of %zu",
			    tokenizer->count);
	memset(tokenizer->piece_ids, 0xFF, slots * sizeof(int32_t));
	tokenizer->piece_slots = slots;
	for (i = 0; i < tokenizer->count; i++) {
		size_t length;
		const char *bytes =
			tokenizer_token(tokenizer, (int32_t)i, &length);

		if (length)
			*piece_slot(tokenizer, bytes, length) = (int32_t)i;
	}
	return 0;
}

int tokenizer_note_piece(struct tokenizer *tokenizer, int32_t id)
{
	size_t length;
	const char *bytes = tokenizer_token(tokenizer, id, &length);

	if (tokenizer->piece_slots < 2 * (tokenizer->count + 1))
		return tokenizer_index_pieces(tokenizer);
	*piece_slot(tokenizer, bytes, length) = id;
	return 0;
}

int32_t tokenizer_find_piece(const struct tokenizer *tokenizer,
			     const char *piece, size_t length)
{
	return *piece_slot(tokenizer, piece, length);
}
