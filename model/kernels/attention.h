/*
 * Multi-head attention in blocks: softmax(scale Q K^T) V without the T x T
 * matrix ever being whole, after FlashAttention (Dao, Fu, Ermon, Rudra, Re 2022,
 * algorithms 1 and 4; Dao 2023). What the backward needs beside inputs and
 * output is one float a row: the logarithm of the softmax's denominator.
 *
 * Block sizes follow from the shape alone and every sum has a fixed order, so
 * the bits do not depend on the number of threads. Products go through
 * gemm_block().
 */
#ifndef STAGECOACH_MODEL_KERNELS_ATTENTION_H
#define STAGECOACH_MODEL_KERNELS_ATTENTION_H

#include "base/compiler.h"
#include "base/threads.h"
#include "model/kernels/element.h"

struct dropout; /* model/kernels/dropout.h */

/*
 * Where token t of sample s, head h lies: at
 * s * sample_stride + t * row_stride + h * head_size, in values.
 */
struct attention_layout {
	size_t row_stride;
	size_t sample_stride;
};

struct attention_shape {
	/* Of q, k, v, out and their gradients: float or bfloat16. Products,
	 * softmax and sums are of floats, and what is written rounded once. */
	enum element_type type;
	size_t batch;      /* B */
	size_t time_q;     /* queries of each sample */
	size_t time_k;     /* keys and values of each sample */
	size_t heads;      /* H, of the queries and the output */
	size_t first_head; /* number of head 0 in the dropout's coordinates */
	size_t kv_heads;   /* divides H; head h uses h / (H / kv_heads) */
	size_t head_size;  /* D */
	bool causal;       /* query i sees keys 0 .. position_offset + i */
	size_t window;     /* causal: only the last so many of them; 0: all */
	/*
	 * Several examples in a row: int32 [B, T] of each token's example the
	 * first token, so that it does not descend; a query sees no key before
	 * it. Causal, time_q = time_k, position_offset 0. NULL: one example.
	 */
	const int32_t *starts;
	/* Position of query 0: 0 in training, keys cached before it when
	 * decoding. causal: position_offset + time_q <= time_k. */
	size_t position_offset;
	float scale; /* of the scores, usually 1 / sqrt(D) */
	/* The gradients dq, dk, dv, dout lie like q, k, v, out. */
	struct attention_layout q, k, v, out;
};

/*
 * The usual training shape: qkv packed [B, T, 3 C] (q at 0, k at C, v at 2 C of
 * each row), out [B, T, C], C = heads * head_size, causal, scale
 * 1 / sqrt(head_size).
 */
struct attention_shape attention_shape_packed(size_t batch, size_t time,
					      size_t heads, size_t head_size);

/*
 * Bytes of scratch memory for a call on a team of `threads`, the forward or the
 * backward, which needs no less. Enough for (time_q, time_k) is enough for less
 * of them.
 */
size_t attention_scratch_bytes(const struct attention_shape *shape,
			       bool backward, unsigned threads);

/*
 * Readies the products of these sizes, and of less, on the team: of bfloat16
 * alone is there anything to do. -ENOMEM.
 */
int attention_prepare(struct threads *threads,
		      const struct attention_shape *shape) MUST_CHECK;

/*
 * out = dropout(softmax(scale q k^T)) v, and lse[B, H, time_q] = the logarithm
 * of each row's sum of exponentials (NULL: not wanted). `dropout`: key,
 * probability and sample_ids are used; NULL or probability 0: none. The mask
 * is of (key, sample, first_head + head, position of the query, position of
 * the key), see dropout.h; the backward makes it again.
 */
void attention_forward(struct threads *threads,
		       const struct attention_shape *shape, const void *q,
		       const void *k, const void *v, void *out, float *lse,
		       const struct dropout *dropout, void *scratch);

/*
 * From out, lse (both of the forward) and dout: writes dq, dk, dv. Adds into
 * nothing.
 */
void attention_backward(struct threads *threads,
			const struct attention_shape *shape, const void *q,
			const void *k, const void *v, const void *out,
			const float *lse, const void *dout, void *dq, void *dk,
			void *dv, const struct dropout *dropout, void *scratch);

/*
 * The plain versions, in double, one thread, T x T and all: what the fast ones
 * are tested against. Same meaning; lse and gradients are double arrays with
 * the layouts of the shape. -ENOMEM.
 */
int attention_forward_reference(const struct attention_shape *shape,
				const double *q, const double *k,
				const double *v, double *out, double *lse,
				const struct dropout *dropout) MUST_CHECK;
int attention_backward_reference(const struct attention_shape *shape,
				 const double *q, const double *k,
				 const double *v, const double *dout,
				 double *dq, double *dk, double *dv,
				 const struct dropout *dropout) MUST_CHECK;

#endif
