/*
 * A layer: the smallest unit that the engine places on a stage.
 *
 * Legend, here and in model/kernels:
 *   B batch (samples of a micro-batch)   T time (tokens of a sample)
 *   C channels (width)   H heads   D head size   F inner width of the MLP
 *   V vocabulary   L layers   P positions (context)
 * Activations are row-major [B, T, C] of the model's type, float or bfloat16.
 *
 * The contract of the three calls, for one layer and one micro-batch:
 *
 *   forward          reads input, writes output and saved
 *   backward_input   "I": reads input, saved, output_gradient; writes
 *                    input_gradient and pending; writes no accumulator
 *   backward_weight  "W": reads input, saved, pending, output_gradient; adds
 *                    into the accumulators
 *
 * input, output_gradient, saved and pending stay valid and unchanged until W
 * has returned; output is not read again; input_gradient is the engine's once
 * I has returned. "B" is I followed by W. Recomputation calls forward again
 * into saved (and any output) before I, with the same context.
 *
 * No call allocates, blocks on anything but its own team of threads, fails, or
 * keeps state outside the buffers. All buffers are 64-byte aligned. Results do
 * not depend on the number of threads.
 */
#ifndef STAGECOACH_MODEL_LAYERS_LAYER_H
#define STAGECOACH_MODEL_LAYERS_LAYER_H

#include "base/compiler.h"
#include "base/threads.h"
#include "model/micro_batch.h"
#include "model/parameter.h"

/*
 * An edge: what passes from a layer to the next, a list of entries, usually
 * one. An edge travels as one piece of memory: its entries one after the
 * other, each rounded up to 64 bytes.
 */
#define EDGE_ENTRIES_MAX 4

struct edge_entry {
	char name[24];
	enum element_type type;
	size_t per_token;  /* elements for each of the B * T tokens */
	size_t per_sample; /* further elements for each of the B samples */
	bool needs_gradient;
};

struct edge {
	unsigned count; /* 0: nothing passes (before the first layer, after
			   the loss) */
	struct edge_entry entry[EDGE_ENTRIES_MAX];
};

size_t edge_bytes(const struct edge *edge, size_t batch, size_t time);
size_t edge_gradient_bytes(const struct edge *edge, size_t batch, size_t time);
bool edge_equal(const struct edge *a, const struct edge *b);

enum layer_mode {
	LAYER_TRAIN,
	LAYER_EVAL,   /* forward only, no dropout; the loss layer: loss only */
	LAYER_DECODE, /* forward only, keys and values cached; the loss layer
			 writes the logits of the last position */
};

struct graph; /* how a layer computes: model/layers/graph.h */

struct layer {
	unsigned index;           /* global, 0 is the first of the model */
	char name[48];            /* "transformer.h.3" */
	unsigned first_parameter; /* id; the layer's local number 0 */
	unsigned parameter_count;
	unsigned columns; /* COLUMN_BIT()s it reads in training and eval;
			     COLUMN_SEGMENTS where there is one */
	struct edge input;
	struct edge output;
	bool loss;           /* the last layer: forward takes gradients */
	bool recomputable;   /* false: forward adds into accumulators */
	size_t vocab_size;   /* V; logits written by the loss layer in decode */
	struct graph *graph; /* the model's */
};

/*
 * Exchanges with the ranks that share a layer under tensor parallelism; NULL
 * in the context when there are none. Each combines `count` floats elementwise
 * over those ranks, in place, in an order that depends on `slices` alone: all end
 * with the same bits. All slices make the same calls in the same order. They
 * cannot fail here: after a failure they return at once, the values mean
 * nothing, and the engine finds out when the layer is done.
 */
struct layer_collectives {
	unsigned slices; /* T */
	unsigned slice;
	void (*sum)(void *argument, float *values, size_t count);
	void (*maximum)(void *argument, float *values, size_t count);
	void *argument;
};

/*
 * Collectives of a slice that is alone, which leave every value as it is: to
 * measure what it computes.
 */
struct layer_collectives layer_collectives_alone(unsigned slices,
						 unsigned slice);

struct layer_context {
	enum layer_mode mode;
	uint64_t seed;
	uint64_t step;
	size_t batch;               /* B */
	size_t time;                /* T */
	const uint64_t *sample_ids; /* [B] global; keys dropout (train) */
	size_t position_offset; /* of the first of the T tokens (decode: what
				   the cache holds already) */
	const struct micro_batch *micro_batch;
	double loss_scale;     /* 1 / supervised tokens in the step */
	double *loss;          /* out, loss layer: sum over supervised tokens of
			 -log p, unscaled, in a fixed order */
	double *sample_losses; /* out, loss layer: [B] the same by sample; may
				  be NULL */
	struct threads *threads;
	void *scratch; /* scratch_bytes; contents mean nothing between calls*/
	const struct layer_collectives *collectives;
	/* Called now and then by the thread that called the layer, between two
	 * pieces of its work: to keep messages moving. May be NULL. */
	void (*breathe)(void *argument);
	void *breathe_argument;
};

static inline void layer_breathe(const struct layer_context *context)
{
	if (context->breathe)
		context->breathe(context->breathe_argument);
}

struct layer_memory {
	size_t saved_bytes;   /* forward leaves for I and W; train only */
	size_t pending_bytes; /* I leaves for W; train only */
	size_t scratch_bytes; /* enough for each of the calls in this mode */
	size_t backward_scratch_bytes; /* enough for I and W; train only */
	size_t cache_bytes; /* decode: keys and values, full context */
};

/*
 * Bytes a layer needs for B samples of T tokens on a team of `threads`.
 * What is enough for T is enough for less.
 */
void layer_memory(const struct layer *layer, size_t batch, size_t time,
		  enum layer_mode mode, unsigned threads,
		  struct layer_memory *out);

/*
 * Readies what the calls with these sizes need of libraries, so that they
 * allocate nothing; again for the same sizes costs next to nothing. -ENOMEM.
 */
int layer_prepare(const struct layer *layer, size_t batch, size_t time,
		  enum layer_mode mode, struct threads *threads) MUST_CHECK;

/*
 * Adds what layer_prepare() would have libraries take for that on a team of
 * `threads` (model/kernels/gemm.h); allocates nothing.
 */
struct gemm_bfloat16_work;
void layer_count_work(const struct layer *layer, size_t batch, size_t time,
		      enum layer_mode mode, unsigned threads,
		      struct gemm_bfloat16_work *work);

/*
 * Floating-point operations of one micro-batch in training, matrix products
 * only (2 m n k each). The loss layer's forward includes its dx and dW.
 */
struct layer_cost {
	double forward;
	double backward_input;
	double backward_weight;
};
void layer_cost(const struct layer *layer, size_t batch, size_t time,
		struct layer_cost *out);

/*
 * What a layer is made of, in the order in which forward does it and breathes
 * after each: for whoever wants to know where the time goes.
 */
struct layer_operation {
	const char *kind; /* "linear", "attention" */
	const char *name; /* of its weights' tensors; NULL: of nothing */
	unsigned first_parameter; /* id */
	unsigned parameters;
};

/* The i-th one; false where there are no more. */
bool layer_operation(const struct layer *layer, unsigned i,
		     struct layer_operation *out);

/*
 * What a layer passes to its collectives for one micro-batch: nothing where it
 * is whole. Decoding and evaluation have no I. The loss leaves out chunks
 * without a supervised token, so that its forward may exchange less.
 */
struct layer_exchange {
	size_t calls;
	size_t floats;  /* of all calls */
	size_t largest; /* floats of one call */
};

struct layer_exchanges {
	struct layer_exchange forward;
	struct layer_exchange backward_input;
};

void layer_exchanges(const struct layer *layer, size_t batch, size_t time,
		     enum layer_mode mode, struct layer_exchanges *out);

/*
 * The same operations on the same sizes, so that both take the same time and
 * memory: of one model or of two. The vocabulary may differ.
 */
bool layer_is_alike(const struct layer *a, const struct layer *b);

/*
 * Whichever a call does not use may be NULL: input before the first layer (it
 * reads its columns), output of the loss layer but in decode ([B, V] logits),
 * saved and pending outside training or of size 0, cache outside decode,
 * input_gradient of the first layer, output_gradient of the loss layer.
 */
struct layer_buffers {
	const void *input;
	void *output;
	void *saved;
	void *pending;
	void *cache;
	const void *output_gradient;
	void *input_gradient;
};

/*
 * weights[] and gradients[] are indexed by the layer's local parameter
 * number; weights are only read, and of their rows' compute_type. A frozen parameter has gradients[i] == NULL
 * and costs nothing.
 *
 * `gradients` of forward: the loss layer in training adds its own there, all
 * others ignore it (NULL).
 */
void layer_forward(const struct layer *layer, void *const *weights,
		   float *const *gradients, const struct layer_context *context,
		   const struct layer_buffers *buffers);
void layer_backward_input(const struct layer *layer, void *const *weights,
			  const struct layer_context *context,
			  const struct layer_buffers *buffers);
void layer_backward_weight(const struct layer *layer, void *const *weights,
			   float *const *gradients,
			   const struct layer_context *context,
			   const struct layer_buffers *buffers);

#endif
