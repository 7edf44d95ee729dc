/*
 * Unigram (Kudo 2018, "Subword Regularization"): of all ways to cut a piece
 * into tokens the one whose scores (logarithms of probabilities) add up to
 * most, found by Viterbi's algorithm over the places between characters.
 */
#include "data/tokenizer/load.h"
#include "data/tokenizer/tokenizer_impl.h"

#include "base/log.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* An unknown character scores this much less than the worst token. */
#define UNKNOWN_PENALTY 10.0

/* The best way to a place in the piece. */
struct unigram_node {
	double score;
	uint32_t from; /* where its last token begins; UINT32_MAX: no way */
	uint32_t end;  /* where the next one ends, on the best way of all */
	int32_t id;
};

void unigram_fini(struct unigram *unigram)
{
	lexicon_fini(&unigram->lexicon);
	free(unigram->scores);
}

static int load_piece(struct tokenizer *tokenizer, const json_t *entry,
		      size_t id, const char *path)
{
	struct unigram *unigram = &tokenizer->unigram;
	const char *text = json_string_value(json_array_get(entry, 0));
	const json_t *score = json_array_get(entry, 1);
	int err;

	if (json_array_size(entry) != 2 || !text || !json_is_number(score))
		return fail(-EINVAL,
			    "%s: model.vocab[%zu] is not [\"piece\", score]",
			    path, id);
	unigram->scores[id] = json_number_value(score);
	if (!isfinite(unigram->scores[id]))
		return fail(-EINVAL, "%s: model.vocab[%zu]: no finite score",
			    path, id);
	err = tokenizer_define(tokenizer, (int32_t)id, text, strlen(text));
	if (!err && *text)
		err = lexicon_add(&unigram->lexicon, text, strlen(text),
				  (int32_t)id);
	return err;
}

/* Room for the score of piece `id`. */
static int reserve_score(struct unigram *unigram, size_t id, size_t *capacity,
			 const char *path)
{
	size_t wanted = MAX(2 * *capacity, (size_t)1024);
	double *grown;

	if (id >= (size_t)TOKENIZER_IDS_MAX)
		return fail(-EINVAL, "%s: model.vocab has over %lld pieces",
			    path, (long long)TOKENIZER_IDS_MAX);
	if (id < *capacity)
		return 0;
	grown = reallocarray(unigram->scores, wanted, sizeof(*grown));
	if (!grown)
		return fail(-ENOMEM, "no memory for a vocabulary of %zu",
			    wanted);
	unigram->scores = grown;
	*capacity = wanted;
	return 0;
}

static int load_pieces(struct tokenizer *tokenizer, const json_t *model,
		       const char *path)
{
	struct unigram *unigram = &tokenizer->unigram;
	size_t id = 0, capacity = 0;
	double least = DBL_MAX;
	struct load_array list;
	json_t *piece;
	int err = load_array_begin(tokenizer, model, "vocab", path, &list);

	while (!err && (err = load_array_next(&list, &piece)) > 0) {
		err = reserve_score(unigram, id, &capacity, path);
		if (!err)
			err = load_piece(tokenizer, piece, id, path);
		if (!err)
			least = MIN(least, unigram->scores[id]);
		id++;
		json_decref(piece);
	}
	if (!err && !id)
		err = fail(-EINVAL, "%s: model.vocab has no pieces", path);
	unigram->unknown_score = least - UNKNOWN_PENALTY;
	if (!err)
		err = lexicon_sort(&unigram->lexicon);
	return err ? err : tokenizer_index_pieces(tokenizer);
}

static int unigram_load(struct tokenizer *tokenizer, const json_t *model,
			const char *path)
{
	struct unigram *unigram = &tokenizer->unigram;
	int64_t unknown;
	int err = load_pieces(tokenizer, model, path);

	if (!err)
		err = json_get_integer_or(model, "unk_id", 0,
					  (int64_t)tokenizer->count - 1, -1,
					  path, &unknown);
	if (!err)
		err = json_get_boolean_or(model, "byte_fallback", false, path,
					  &unigram->byte_fallback);
	if (err)
		return err;
	unigram->unknown_id = (int32_t)unknown;
	load_fallback(tokenizer, unigram->fallback_id);
	return 0;
}

static void reach(struct unigram_node *node, double score, size_t from,
		  int32_t id)
{
	if (node->from != UINT32_MAX && score <= node->score)
		return;
	*node = (struct unigram_node){score, (uint32_t)from, 0, id};
}

/* Takes every token that begins at `at` on from there. */
static void go_on(const struct unigram *unigram, struct unigram_node *nodes,
		  const char *piece, size_t length, size_t at)
{
	const struct lexicon *lexicon = &unigram->lexicon;
	size_t character = utf8_bytes((unsigned char)piece[at]), end = at;
	double score = nodes[at].score;
	struct lexicon_place place;
	bool single = false;

	lexicon_begin(lexicon, &place);
	while (end < length &&
	       lexicon_step(lexicon, &place, (unsigned char)piece[end])) {
		int32_t id = lexicon_value(lexicon, &place);

		end++;
		if (id < 0)
			continue;
		reach(&nodes[end], unigram->scores[id] + score, at, id);
		single |= end - at == character;
	}
	if (!single)
		reach(&nodes[at + character], unigram->unknown_score + score,
		      at, unigram->unknown_id);
}

/* A stretch that is no token: its bytes, or one unknown token. */
static int put_unknown(const struct tokenizer *tokenizer, const char *text,
		       size_t length, struct token_buffer *out)
{
	const struct unigram *unigram = &tokenizer->unigram;
	size_t first = out->count, i;
	int err = token_buffer_reserve(out, length);

	if (err)
		return err;
	for (i = 0; unigram->byte_fallback && i < length; i++) {
		int32_t id = unigram->fallback_id[(unsigned char)text[i]];

		if (id < 0)
			break;
		out->ids[out->count++] = id;
	}
	if (unigram->byte_fallback && i == length)
		return 0;
	out->count = first;
	if (unigram->unknown_id < 0)
		return fail(-EINVAL,
			    "the vocabulary has no token for \"%.*s\", and "
			    "none for the unknown",
			    (int)MIN(length, (size_t)80), text);
	return token_buffer_append(out, &unigram->unknown_id, 1);
}

/*
 * Follows the best way from its end, where it is known, to its begin. Leaves
 * in nodes[i].end, for each i where a token begins, where that ends; a run
 * of unknown characters is one token.
 */
static void turn_round(const struct unigram *unigram,
		       struct unigram_node *nodes, size_t length)
{
	size_t at = length, end = length;
	bool unknown_after = false;

	while (at) {
		size_t from = nodes[at].from;
		bool unknown = nodes[at].id == unigram->unknown_id;

		if (!(unknown && unknown_after))
			end = at;
		nodes[from].end = (uint32_t)end;
		unknown_after = unknown;
		at = from;
	}
}

static int put_best(const struct tokenizer *tokenizer,
		    struct unigram_node *nodes, const char *piece,
		    size_t length, struct token_buffer *out)
{
	size_t at = 0, end;
	int32_t id;
	int err = 0;

	turn_round(&tokenizer->unigram, nodes, length);
	for (; at < length && !err; at = end) {
		end = nodes[at].end;
		id = tokenizer_find_piece(tokenizer, piece + at, end - at);
		err = id >= 0 ? token_buffer_append(out, &id, 1)
			      : put_unknown(tokenizer, piece + at, end - at,
					    out);
	}
	return err;
}

static int unigram_encode(const struct tokenizer *tokenizer,
			  struct model_work *work, const char *piece,
			  size_t length, struct token_buffer *out)
{
	const struct unigram *unigram = &tokenizer->unigram;
	struct unigram_node *nodes = work->nodes;
	size_t at;

	if (length >= UINT32_MAX)
		return fail(-EFBIG, "a piece of %zu bytes is too long", length);
	if (work->node_capacity <= length) {
		size_t capacity = MAX(length + 1, (size_t)256);

		nodes = reallocarray(nodes, capacity, sizeof(*nodes));
		if (!nodes)
			return fail(-ENOMEM, "no memory for a piece of %zu",
				    length);
		work->nodes = nodes;
		work->node_capacity = capacity;
	}
	for (at = 0; at <= length; at++)
		nodes[at].from = UINT32_MAX;
	nodes[0].score = 0;
	for (at = 0; at < length; at += utf8_bytes((unsigned char)piece[at]))
		go_on(unigram, nodes, piece, length, at);
	return put_best(tokenizer, nodes, piece, length, out);
}

const struct model_kind model_unigram = {"Unigram", unigram_load,
					 unigram_encode};
