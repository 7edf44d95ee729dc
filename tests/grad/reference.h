/*
 * GPT-2's forward in plain double precision: what gradients are checked
 * against. Nothing is shared with the code under test but the parameters'
 * names and the definition of the dropout mask.
 */
#ifndef STAGECOACH_TESTS_GRAD_REFERENCE_H
#define STAGECOACH_TESTS_GRAD_REFERENCE_H

#include "base/random.h"
#include "model/layers/graph.h"
#include "model/model.h"

/* A dropout mask; probability 0: none. */
struct reference_mask {
	struct random_key key;
	double probability;
	const uint64_t *sample_ids;
	size_t time;
	size_t position_offset;
};

/* y[tokens, out]; w as `layout` says; b may be NULL. */
void reference_linear(enum linear_layout layout, size_t tokens, size_t in,
		      size_t out, const double *x, const double *w,
		      const double *b, double *y);
void reference_layernorm(size_t tokens, size_t channels, double epsilon,
			 const double *x, const double *gamma,
			 const double *beta, double *y);
void reference_gelu(size_t count, const double *x, double *y);

/* y[b, t, c] = x, masked. */
void reference_dropout(const struct reference_mask *mask, size_t batch,
		       size_t channels, const double *x, double *y);

/* Causal; qkv[batch, time, (heads + 2 kv_heads) head_size]. */
void reference_attention(const struct reference_mask *mask, size_t batch,
			 size_t time, unsigned heads, unsigned kv_heads,
			 unsigned head_size, const double *qkv, double *out);

/* Sum over supervised tokens of -log p; b may be NULL. */
double reference_loss(size_t tokens, size_t channels, size_t vocab_size,
		      const double *x, const double *w, const double *b,
		      const int32_t *labels);

/* A whole model. */
struct reference {
	const struct model *model;
	double *const *weights; /* by parameter id */
	size_t batch, time;
	const int32_t *tokens, *labels;
	const uint64_t *sample_ids;
	uint64_t seed, step;
	bool train; /* dropout */
	double loss_scale;
};

/*
 * One layer: output from input, [B, T, C]. The last layer returns the loss
 * times loss_scale and writes nothing; the others return 0.
 */
double reference_layer(const struct reference *reference, unsigned layer,
		       const double *input, double *output);

/* The whole model's loss times loss_scale. */
double reference_model(const struct reference *reference);

/* Logits [B, V] of the last position. */
void reference_logits(const struct reference *reference, double *logits);

#endif
