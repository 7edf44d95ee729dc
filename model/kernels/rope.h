/*
 * Rotary positions (Su et al. 2021, "RoFormer"): each head of a query or key is
 * D / 2 pairs (x[i], x[i + D/2]); the pair i of a token at position p is turned by
 * the angle p * f[i]. Which frequencies f, is what the kinds differ in; all
 * follow `modeling_rope_utils.py` of transformers, in single precision where
 * that rounds, so that long sequences turn by the same angles.
 */
#ifndef STAGECOACH_MODEL_KERNELS_ROPE_H
#define STAGECOACH_MODEL_KERNELS_ROPE_H

#include "base/compiler.h"
#include "base/threads.h"
#include "model/kernels/element.h"

/* Numbers that travel with jobs and stand in checkpoints: they do not change. */
enum rope_kind {
	ROPE_NONE,    /* no rotation */
	ROPE_DEFAULT, /* f[i] = theta^(-2i/D) */
	ROPE_LINEAR,  /* all divided by factor (Chen et al. 2023) */
	ROPE_DYNAMIC, /* theta grows with sequences beyond `positions` ("NTK") */
	ROPE_LLAMA3,  /* the slow ones divided by factor, the fast ones not */
	ROPE_YARN,    /* the same by another ramp (Peng et al. 2023) */
};

#define ROPE_KINDS (ROPE_YARN + 1)

const char *rope_kind_name(enum rope_kind kind); /* as config.json has it */

struct rope_config {
	enum rope_kind kind;
	unsigned positions; /* the model's longest sequence but for dynamic */
	double theta;
	double factor; /* all kinds but the default */
	/* Llama 3 and YaRN: positions before the scaling. */
	unsigned original_positions;
	double low_frequency_factor; /* Llama 3 */
	double high_frequency_factor;
	double beta_fast; /* YaRN */
	double beta_slow;
	double attention_factor;   /* of cosine and sine; 0: from the factor */
	double mscale, mscale_all; /* what it is made of; 0: not given */
	bool untruncated;          /* the ramp's ends are not rounded */
};

/* 0, or -EINVAL, logged, when the numbers make no rotation. */
int rope_config_check(const struct rope_config *config,
		      size_t head_size) MUST_CHECK;

/* Frequencies, and the cosines and sines of the first positions. Immutable. */
struct rope;

/* `longest`: positions there will be at most. -ENOMEM. The config was checked. */
int rope_create(const struct rope_config *config, size_t head_size,
		size_t longest, struct rope **out) MUST_CHECK;
void rope_destroy(struct rope *rope); /* NULL is fine */

/*
 * A packed row is [q | k | v]: `heads` heads of queries, `kv_heads` of keys, as
 * many of values, which are copied as they are.
 */
struct rope_shape {
	enum element_type type; /* of the rows: float or bfloat16 */
	size_t batch;
	size_t time;
	size_t position_offset; /* of the first of the `time` tokens */
	/* int32 [B, T]: token t is at position t - starts[t]; NULL: at t. */
	const int32_t *starts;
	size_t heads;
	size_t kv_heads;
	size_t head_size;
};

size_t rope_scratch_bytes(size_t head_size, unsigned threads);

/* out = in, turned; of packed rows [batch, time]. They do not overlap. */
void rope_forward(struct threads *threads, const struct rope *rope,
		  const struct rope_shape *shape, const void *in, void *out,
		  void *scratch);

/* The gradient of `in` from that of `out`: turned back. */
void rope_backward(struct threads *threads, const struct rope *rope,
		   const struct rope_shape *shape, const void *dout, void *din,
		   void *scratch);

#endif
