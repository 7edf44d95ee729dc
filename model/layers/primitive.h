/*
 * The primitive operations of a layer's graph, and what each of them is given.
 * Adding one is a file here with an ops table.
 */
#ifndef STAGECOACH_MODEL_LAYERS_PRIMITIVE_H
#define STAGECOACH_MODEL_LAYERS_PRIMITIVE_H

#include "model/kernels/dropout.h"
#include "model/layers/graph.h"

struct product_team; /* product.h */

/*
 * The memory of one call of one node, by the numbers of node->row.input.
 * What a call does not use may be NULL. Values and their gradients have the
 * type node->type; a weight has its row's compute_type; the rest is float.
 */
struct operands {
	const void *input[NODE_INPUTS_MAX];
	void *output;
	float *statistics;    /* [B, T, statistics_width] in any layout of the
			      node's own; kept from forward to W in training */
	void *const *weights; /* the node's own, from 0 */
	float *const *gradients; /* NULL entries: frozen */
	const void *output_gradient;
	float *pending; /* [pending_floats], left by I for W */
	/*
	 * I: this node's part is written to input_gradient[i], or added to it
	 * where add[i], which only operations that can are asked to. NULL: not
	 * wanted. The loss writes input_gradient[0] in forward.
	 */
	void *input_gradient[NODE_INPUTS_MAX];
	bool add[NODE_INPUTS_MAX];
	void *cache;
	void *scratch;
};

enum primitive_pass {
	PASS_FORWARD,
	PASS_INPUT,
	PASS_WEIGHT,
};

/* What a pass reads, as bits: its inputs, and its own output. */
#define READS_INPUT(i) (1u << (i))
#define READS_OUTPUT   (1u << NODE_INPUTS_MAX)

struct primitive_ops {
	const char *name;
	unsigned inputs;
	unsigned backward_input_reads;
	unsigned backward_weight_reads;
	/* Forward may run again in W, rather than its output be saved; it
	 * needs no scratch. */
	bool cheap;
	/* Can I add to what is in its input_gradient? NULL: no. */
	bool (*adds)(const struct node *node);
	/*
	 * The loss: in training forward writes the gradient of input 0, which
	 * is kept, and there is no I.
	 */
	bool stores_gradient;
	/* May the gradient of input i stand for the output's, unchanged? */
	bool (*passes_gradient)(const struct node *node, unsigned input);
	/* Fills in rows of its parameters (all but id and layer, which are
	 * set); returns how many. NULL: none. */
	unsigned (*declare)(const struct node *node,
			    struct parameter rows[NODE_WEIGHTS_MAX]);
	size_t (*statistics_width)(const struct node *node);
	/* What I leaves for W beside gradients. NULL: nothing. */
	size_t (*pending_floats)(const struct node *node);
	size_t (*scratch_bytes)(const struct node *node,
				enum primitive_pass pass, size_t batch,
				size_t time, enum layer_mode mode,
				unsigned threads);
	/* Readies what the calls need of libraries, or counts it. NULL:
	 * nothing. -ENOMEM. */
	int (*prepare)(const struct node *node, size_t batch, size_t time,
		       enum layer_mode mode, const struct product_team *team);
	size_t (*cache_bytes)(const struct node *node, size_t batch);
	void (*cost)(const struct node *node, size_t batch, size_t time,
		     struct layer_cost *cost); /* adds */
	/* Adds what a slice exchanges in F or in I. NULL: nothing. */
	void (*exchange)(const struct node *node, enum primitive_pass pass,
			 size_t batch, size_t time, enum layer_mode mode,
			 struct layer_exchange *exchange);
	void (*forward)(const struct node *node,
			const struct layer_context *context,
			const struct operands *operands);
	/* NULL: it has no input, or it stores its gradient. */
	void (*backward_input)(const struct node *node,
			       const struct layer_context *context,
			       const struct operands *operands);
	void (*backward_weight)(const struct node *node,
				const struct layer_context *context,
				const struct operands *operands);
};

/*
 * y = x W + b. Fields: name, bias, layout, split_*, deviation. Split over
 * outputs: a slice has their columns; over inputs: theirs, and the whole of y.
 */
extern const struct primitive_ops linear_ops;

/*
 * Two or three linear maps of one input, side by side in the output. Fields:
 * name, second_name, third_name (NULL: two), map_widths (a slice's), bias,
 * deviation. Weights are [out, in]; a slice has their outputs' columns.
 */
extern const struct primitive_ops linears_ops;

/*
 * What low-rank adapters of a linear map, or of up to three of a linears row,
 * add to its output: input 0 is the map's input, input 1 its output. Fields:
 * name, second_name, third_name (NULL: that map has none), map_widths, rank,
 * scale, deviation (of A; B starts as zeros). Whole layers only.
 */
extern const struct primitive_ops adapter_ops;

/* LayerNorm. Fields: name, epsilon. */
extern const struct primitive_ops layernorm_ops;

/* RMSNorm. Fields: name, epsilon. */
extern const struct primitive_ops rmsnorm_ops;

/*
 * RMSNorm of each head of q and k of a packed value [q | k | v]. Fields: name
 * (of q's gain), second_name (of k's), epsilon, heads, kv_heads (a slice's),
 * head_size. The gains are whole on each slice.
 */
extern const struct primitive_ops headnorm_ops;

/*
 * Rotary positions of q and k of a packed value [q | k | v]. Fields: rope,
 * heads, kv_heads (a slice's), head_size.
 */
extern const struct primitive_ops rope_ops;

/*
 * Causal self-attention over a packed value [q | k | v]. Fields: heads,
 * kv_heads (a slice's), head_size, window, dropout, site, context. A slice has
 * its own heads' columns of everything.
 */
extern const struct primitive_ops attention_ops;

/* GELU in its tanh form. */
extern const struct primitive_ops gelu_ops;

/* silu(gate) * up of an input [gate | up], twice the output's width. */
extern const struct primitive_ops swiglu_ops;

/* out = input 0 + dropout(input 1). Fields: dropout, site. */
extern const struct primitive_ops residual_ops;

/*
 * Rows of a table by token, plus rows of a second one by position, then
 * dropout. Fields: name, second_name (NULL: no positions), vocab_size, context,
 * deviation, dropout, site. No inputs: it reads COLUMN_TOKENS. The table is
 * split over the vocabulary; each slice has the whole output.
 */
extern const struct primitive_ops embedding_ops;

/*
 * Linear head, softmax and cross-entropy in one, in chunks of tokens. Fields:
 * name, bias, vocab_size, tied_to, deviation. Reads COLUMN_LABELS. The head is
 * split over the vocabulary; each slice has the whole loss and the whole
 * gradient of the input.
 */
extern const struct primitive_ops loss_ops;

/*
 * Sleeps for the time given, in F, I and W, and computes nothing: for rehearsals.
 * Fields: name, vocab_size (elements of its parameter), seconds, tied_to. The
 * source is the same without input, and so without I.
 */
extern const struct primitive_ops sleep_ops;
/* A parameter of whole rows of so many is a table of them. */
#define SLEEP_ROW_FLOATS 256u
extern const struct primitive_ops sleep_source_ops;

/* For implementations. */

static inline size_t context_tokens(const struct layer_context *context)
{
	return context->batch * context->time;
}

/* Where each token's example begins; NULL: a sample is one example. */
static inline const int32_t *context_starts(const struct layer_context *context)
{
	const struct micro_batch *micro_batch = context->micro_batch;

	return micro_batch && context->mode != LAYER_DECODE
		       ? micro_batch->column[COLUMN_SEGMENTS]
		       : NULL;
}

/* The dropout of a node for one call; probability 0 outside training. */
struct dropout node_dropout(const struct node *node,
			    const struct layer_context *context);

/* Sum and maximum over the slices, in place; all end with the same bits. */
void node_sum(const struct node *node, const struct layer_context *context,
	      float *values, size_t count);
void node_maximum(const struct node *node, const struct layer_context *context,
		  float *values, size_t count);

/* Counts one of these calls. */
void exchange_add(struct layer_exchange *exchange, size_t floats);

/*
 * Parameter rows with what most have in common: a vector (no decay, zeros),
 * and a matrix [first, second] (decay, normal). The name is name.suffix.
 */
void parameter_vector(struct parameter *row, const char *name,
		      const char *suffix, size_t length);
void parameter_matrix(struct parameter *row, const char *name,
		      const char *suffix, size_t first, size_t second,
		      float deviation);

#endif
