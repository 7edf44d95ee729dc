/*
 * A stage: consecutive layers of the model, and F, I and W over them.
 *
 * The stage owns the memory that a micro-batch in flight needs here, in four
 * pools of slots, sized from the schedule:
 *
 *   input             what the stage before sent; from its receive until W
 *   activation        what the layers keep; from F until W
 *   output_gradient   what the stage behind sent; from its receive until W
 *   pending           what I leaves for W; from I until W
 *
 * Inputs and output gradients are messages, so they lie in memory the
 * transport has registered. Where the message that a stage makes goes is the
 * caller's to say: a place the transport gave, or the next stage's slot.
 *
 * The stage knows layers but no model family, and no schedule: any order of calls
 * that respects F before I before W of a micro-batch is right.
 */
#ifndef STAGECOACH_ENGINE_STAGE_H
#define STAGECOACH_ENGINE_STAGE_H

#include "engine/accumulator.h"
#include "engine/slots.h"
#include "engine/store.h"
#include "engine/trace.h"
#include "model/model.h"

struct stage_config {
	const struct model *model;
	struct store *store;  /* the layers' weights; stage_sizes(): NULL */
	unsigned index;       /* global stage number */
	unsigned first_layer; /* layers [first_layer, end_layer) */
	unsigned end_layer;
	size_t batch; /* B and T of a micro-batch, at most */
	size_t time;
	size_t prompt; /* decoding: T of the first pass; the others have 1 */
	unsigned micro_batches; /* of a pass, at most */
	struct threads *threads;
	struct accumulation accumulation;

	bool training;       /* F alone else */
	bool decoding;       /* keeps keys and values */
	bool recompute;      /* keep layer inputs only; forward again for I */
	bool split_backward; /* I and W come apart */
	/* Micro-batches in flight at once, see above. */
	unsigned inputs, activations, output_gradients, pendings;
};

/* What a stage's memory amounts to, without allocating: for `plan`. */
struct stage_sizes {
	size_t input_bytes; /* of one message; 0: none */
	size_t output_bytes;
	size_t output_gradient_bytes;
	size_t input_gradient_bytes;
	size_t activation_bytes; /* a slot */
	size_t pending_bytes;    /* a slot */
	size_t scratch_bytes;    /* runs over into pending slots where it may */
	size_t cache_bytes;
	size_t message_region_bytes; /* inputs and output gradients */
	size_t private_bytes;        /* everything else */
};
void stage_sizes(const struct stage_config *config, struct stage_sizes *out);

/*
 * Adds what its products take of libraries, which all stages of a rank share
 * (model/kernels/gemm.h); allocates nothing.
 */
void stage_count_work(const struct stage_config *config,
		      struct gemm_bfloat16_work *work);

/* What all micro-batches of a pass have in common. */
struct stage_pass {
	enum layer_mode mode;
	uint64_t seed;
	uint64_t step;
	uint64_t first_sample; /* global id of micro-batch 0's first sample */
	size_t batch;
	size_t time;
	size_t position_offset;
	double loss_scale;
	double *sample_losses; /* of each micro-batch's samples, [M, B]: takes
				  their losses on the loss stage; may be NULL */
	/* Columns of micro-batch 0; the others follow behind it, [B, T] each. */
	const int32_t *columns[COLUMN_COUNT];
	struct trace *trace; /* takes the layers' times; may be NULL */
	/* With the other slices of the layers; NULL: there are none. */
	const struct layer_collectives *collectives;
	/* Called between layers, to keep messages moving. May be NULL. */
	void (*breathe)(void *argument);
	void (*breathe_often)(void *argument); /* within layers, likewise */
	void *argument;
	/* Called before a layer's first addition to its accumulators in a
	 * training pass, and after its last W. May be NULL. */
	void (*await)(void *argument, unsigned layer);
	void (*ready)(void *argument, unsigned layer);
	void *reducer;
};

struct stage;

/*
 * `messages` is memory the transport knows, message_region_bytes long, and
 * stays the caller's. -ENOMEM, logged.
 */
int stage_create(const struct stage_config *config, void *messages,
		 struct stage **out) MUST_CHECK;
void stage_destroy(struct stage *stage);

/* Readies passes outside training of another T, up to config.time. -ENOMEM. */
int stage_prepare(struct stage *stage, size_t time) MUST_CHECK;
const struct stage_sizes *stage_get_sizes(const struct stage *stage);

/* Claims the slot that micro-batch m's message will be written to. */
void *stage_claim_input(struct stage *stage, unsigned micro_batch);
void *stage_claim_output_gradient(struct stage *stage, unsigned micro_batch);

/*
 * F. `output` takes output_bytes (NULL on the loss stage outside decode;
 * [B, V] logits there in decode). Outside training the slots are free again
 * when this returns.
 */
void stage_forward(struct stage *stage, const struct stage_pass *pass,
		   unsigned micro_batch, void *output);
/* I, W, and both at once. input_gradient is NULL on the first stage. */
void stage_backward_input(struct stage *stage, const struct stage_pass *pass,
			  unsigned micro_batch, void *input_gradient);
void stage_backward_weight(struct stage *stage, const struct stage_pass *pass,
			   unsigned micro_batch);
void stage_backward(struct stage *stage, const struct stage_pass *pass,
		    unsigned micro_batch, void *input_gradient);

/* Loss stage: the sum that the last F of this micro-batch found. */
double stage_loss(const struct stage *stage, unsigned micro_batch);

#endif
