/*
 * The products of attention's blocks where factors are bfloat16: packed as the
 * library wants them (gemm_pack.h), multiplied into float tiles. Masks and the
 * softmax are attention.c's, private to which this is.
 *
 * Probabilities and the scores' gradients are rounded to bfloat16 to be factors
 * in their turn; sums of all products are float.
 */
#ifndef STAGECOACH_MODEL_KERNELS_ATTENTION_NARROW_H
#define STAGECOACH_MODEL_KERNELS_ATTENTION_NARROW_H

#include "base/threads.h"
#include "model/kernels/bfloat16.h"

/* Queries of a block forward, keys backward; and the other side of it. */
#define ATTENTION_NARROW 64
#define ATTENTION_LONG   256

/* Has this machine such products? Otherwise all is widened. */
bool attention_narrow_is_there(void);

/* One thread's factors: D head size, T queries. */
struct attention_narrow {
	size_t size;                /* D */
	size_t time;                /* T */
	bfloat16 *queries, *douts;  /* [T, D] without gaps */
	bfloat16 *packed_queries;   /* the same as right factors ... */
	bfloat16 *packed_douts;     /* ... [T deep, D wide] */
	bfloat16 *packed_keys;      /* [D deep, keys wide] */
	bfloat16 *packed_values;    /* the same, or [keys deep, D wide] */
	bfloat16 *packed_keys_deep; /* [keys deep, D wide] */
	bfloat16 *rounded, *turned; /* [LONG x NARROW] */
	float *part;                /* [LONG, D] of a product */
};

size_t attention_narrow_bytes(size_t time, size_t size);
struct attention_narrow attention_narrow_place(size_t time, size_t size,
					       void *memory);

/* Readies all products of up to T queries and keys on the team. -ENOMEM. */
int attention_narrow_prepare(struct threads *threads, size_t time,
			     size_t size) MUST_CHECK;

/* Floats from a row of scores to the next: forward, of so many keys. */
static inline size_t attention_narrow_stride(size_t keys)
{
	return (keys + ATTENTION_NARROW - 1) / ATTENTION_NARROW *
	       ATTENTION_NARROW;
}

/* ---- forward: a block of at most NARROW queries ---- */

void attention_narrow_queries(const struct attention_narrow *narrow,
			      size_t queries, const bfloat16 *q, size_t stride);

/* scores[queries, stride] = q k^T of at most LONG keys. */
void attention_narrow_scores(const struct attention_narrow *narrow, size_t keys,
			     const bfloat16 *k, size_t stride, float *scores);

/* out[queries, D] = (or, with add, +=) p v, p as the scores. */
void attention_narrow_values(const struct attention_narrow *narrow,
			     size_t queries, size_t keys, const float *p,
			     const bfloat16 *v, size_t stride, bool add,
			     float *out);

/* ---- backward: one head, then blocks of at most NARROW keys ---- */

void attention_narrow_head(const struct attention_narrow *narrow,
			   const bfloat16 *q, size_t q_stride,
			   const bfloat16 *dout, size_t dout_stride);
void attention_narrow_keys(const struct attention_narrow *narrow, size_t keys,
			   const bfloat16 *k, size_t k_stride,
			   const bfloat16 *v, size_t v_stride);

/*
 * Of queries [query, query + queries), at most LONG, query a multiple of
 * NARROW: scores[queries, NARROW] = q k^T, dp the same = dout v^T.
 */
void attention_narrow_both(const struct attention_narrow *narrow, size_t query,
			   size_t queries, float *scores, float *dp);

/*
 * dv[keys, D] = p^T dout and dk = ds^T q (with add: +=); dq[queries, D] = ds k
 * (with add_dq: +=). p and ds as the scores.
 */
struct attention_narrow_sums {
	size_t query, queries, keys;
	const float *p, *ds;
	bool add, add_dq;
	float *dq; /* from `query` on */
	float *dk, *dv;
};
void attention_narrow_gradients(const struct attention_narrow *narrow,
				const struct attention_narrow_sums *sums);

#endif
