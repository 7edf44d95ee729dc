/*
 * A model: its configuration, its layers, its parameters. Immutable once
 * created, so any number of stages may read one; it holds no weights.
 */
#ifndef STAGECOACH_MODEL_MODEL_H
#define STAGECOACH_MODEL_MODEL_H

#include "base/compiler.h"
#include "model/kernels/rope.h"
#include "model/layers/layer.h"
#include "model/parameter.h"

/*
 * What the family "rehearsal" needs in place of sizes: times to sleep instead of
 * computing, and how much to send. The arrays are the caller's and must outlive
 * the model.
 */
#define REHEARSAL_PIECES 4u /* layers a stage */

struct model_rehearsal {
	unsigned stages;
	double *seconds[3]; /* F, I, W: [stages], of one micro-batch */
	double *gradients;  /* [stages] bytes replicas sum, tied ones left out;
				 NULL: next to none */
	size_t message_bytes; /* between stages, either way */
	size_t tied_bytes;    /* of a parameter both ends hold; 0: none */
};

/*
 * Low-rank adapters (Hu et al. 2021, "LoRA"): r, alpha, and the linear maps that
 * get one, as PEFT's target_modules name them ("q_proj,v_proj": the last parts
 * of module names); "all-linear": every one but the head; empty: the family's
 * usual ones.
 */
#define ADAPTER_TARGETS_BYTES 256
#define ADAPTER_TARGET_BYTES  64 /* of one name */
#define ADAPTER_RANK_MAX      4096

struct model_adapters {
	unsigned rank;
	double alpha;
	char targets[ADAPTER_TARGETS_BYTES];
};

/* What a family needs to know, in words of no family's config.json. */
struct model_config {
	char family[16]; /* "gpt2" */
	unsigned vocab_size;
	unsigned context; /* longest sequence, P */
	unsigned width;   /* C */
	unsigned layers;  /* blocks; embedding and head not counted */
	unsigned heads;
	unsigned kv_heads;  /* 0: as heads */
	unsigned head_size; /* 0: width / heads */
	unsigned inner;     /* of the MLP; 0: as the family has it */
	double norm_epsilon;
	double embedding_dropout;
	double residual_dropout;
	double attention_dropout;
	bool tied; /* the head shares the token embedding */
	/* Rotary positions; kind ROPE_NONE: others. rope.positions 0: the
	 * context. */
	struct rope_config rope;
	bool qkv_bias;    /* of the queries', keys' and values' products */
	bool output_bias; /* of attention's output */
	bool mlp_bias;
	bool head_norm;        /* each head of queries and keys is normalised */
	unsigned window;       /* positions attention sees; 0: all before */
	unsigned window_first; /* the first block that has the window */
	double initializer_range;
	/*
	 * Of activations, their gradients, and the matrices that products read:
	 * ELEMENT_F32 or ELEMENT_BF16. Vectors (biases, norms), sums and
	 * gradients of weights are float.
	 */
	enum element_type type;
	/* Low-rank adapters, which alone are trained; rank 0: none. */
	struct model_adapters adapters;
	int bos_id; /* -1: none */
	int eos_id;
	/*
	 * Tensor parallelism: this model is slice `slice` of `slices` that
	 * compute each layer together (docs/ARCHITECTURE.md, "Shared layers").
	 * 0 slices: as 1, whole layers. The sizes above are the whole's.
	 */
	unsigned slices;
	unsigned slice;
	const struct model_rehearsal *rehearsal; /* NULL: a real model */
};

struct model;

/*
 * -EINVAL with one clear line when the configuration makes no model; -ENOMEM.
 * The zeros that mean "derived" are filled in in the model's own copy.
 */
int model_create(const struct model_config *config,
		 struct model **out) MUST_CHECK;
void model_destroy(struct model *model); /* NULL is fine */

/*
 * A family's own defaults, sizes left 0. -EINVAL: an unknown family; the
 * message names the known ones.
 */
int model_config_default(const char *family,
			 struct model_config *out) MUST_CHECK;

/* Sets all dropouts the family has to one probability. */
void model_config_set_dropout(struct model_config *config, double probability);

/*
 * For sequences of at most `context` tokens: shorter caches. Nothing changes
 * where positions are parameters.
 */
void model_config_shorten(struct model_config *config, unsigned context);

const struct model_config *model_config(const struct model *model);
unsigned model_layer_count(const struct model *model);
const struct layer *model_layer(const struct model *model, unsigned index);
const struct parameter *model_parameters(const struct model *model,
					 unsigned *count);

/*
 * The row with this Hugging Face name, with or without the family's optional
 * prefix ("transformer."); NULL if there is none.
 */
const struct parameter *model_parameter_find(const struct model *model,
					     const char *name);

/*
 * A tensor that files of this family may hold and that carries no parameter
 * (attention mask buffers and the like): may be ignored when loading.
 */
bool model_tensor_is_ignored(const struct model *model, const char *name);

/*
 * Initial values [first, first + count) of what is here of a parameter: a pure
 * function of (seed, parameter name, index in the whole). A tied row has its
 * target's.
 */
void model_initialise(const struct model *model, unsigned parameter,
		      uint64_t seed, size_t first, size_t count, float *out);

/* Without tied rows, of all slices: 124439808 for GPT-2's smallest. */
uint64_t model_parameter_total(const struct model *model);

#endif
