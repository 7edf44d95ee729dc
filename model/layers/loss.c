/*
 * The head and the loss in one: logits = x W^T (+ b), softmax, cross-entropy,
 * in chunks of tokens, so that the full logits never exist. In training forward
 * also does the backward of each chunk while its logits are at hand: dx goes
 * where it is kept, dW into the accumulator. Hence there is neither I nor W.
 *
 * Chunks start at multiples of LOSS_CHUNK of the micro-batch: a fixed order.
 *
 * A slice has the logits of a part of the vocabulary, which never leave it:
 * slices exchange three floats a token (a row's maximum, the sum of its
 * exponentials, the label's logit) and, once for all chunks, the parts of dx.
 * The loss and dx are then whole on each.
 *
 * Of bfloat16 values the logits are floats still, and the loss is that of them;
 * their gradients are rounded, and a slice's part of dx waits in scratch to be
 * rounded with the others.
 */
#include "model/kernels/bias.h"
#include "model/kernels/cross_entropy.h"
#include "model/kernels/elementwise.h"
#include "model/kernels/values.h"
#include "model/layers/primitive.h"
#include "model/layers/product.h"

#define LOSS_CHUNK 512

enum {
	WEIGHT, /* [V, C] */
	BIAS,   /* [V] */
};

static unsigned loss_declare(const struct node *node,
			     struct parameter rows[NODE_WEIGHTS_MAX])
{
	const struct graph_row *row = &node->row;

	parameter_matrix(&rows[WEIGHT], row->name, "weight", row->vocab_size,
			 node->input_width[0], row->deviation);
	rows[WEIGHT].split_axis = 0;
	rows[WEIGHT].split_uneven = true;
	rows[WEIGHT].accumulates_in_forward = true;
	if (!row->bias)
		return 1;
	parameter_vector(&rows[BIAS], row->name, "bias", row->vocab_size);
	rows[BIAS].split_axis = 0;
	rows[BIAS].split_uneven = true;
	rows[BIAS].accumulates_in_forward = true;
	return 2;
}

/* The part of the vocabulary that is here. */
static struct parameter_share node_share(const struct node *node)
{
	return parameter_share(node->row.vocab_size, node->slices, node->slice);
}

static bool sums_in_scratch(const struct node *node)
{
	return node->slices > 1 && node->type == ELEMENT_BF16;
}

/* Floats from a row of logits to the next. */
static size_t logits_pitch(const struct node *node)
{
	size_t vocab = node_share(node).count;

	/* Rows of what the library multiplies are whole cache lines. */
	return node->type == ELEMENT_BF16 ? (vocab + 15) / 16 * 16 : vocab;
}

/* Elements from a row of their gradients, which lie in their place, to the next. */
static size_t gradients_pitch(const struct node *node)
{
	return logits_pitch(node) *
	       (sizeof(float) / element_type_bytes(node->type));
}

/* What a chunk of `rows` tokens works with; sizes and places agree. */
struct chunk_scratch {
	size_t losses_bytes; /* double [rows], first */
	size_t logits_bytes; /* float [rows, pitch], then */
	size_t shared_bytes; /* float [3, rows] that slices exchange, then */
	size_t bias_bytes;   /* of bias_backward, then */
};

static size_t round_up_64(size_t bytes)
{
	return (bytes + 63) / 64 * 64;
}

static struct chunk_scratch chunk_scratch(const struct node *node, size_t rows)
{
	size_t vocab = node_share(node).count;

	return (struct chunk_scratch){
		.losses_bytes = round_up_64(rows * sizeof(double)),
		.logits_bytes =
			round_up_64(rows * logits_pitch(node) * sizeof(float)),
		.shared_bytes = node->slices > 1
					? round_up_64(3 * rows * sizeof(float))
					: 0,
		.bias_bytes = node->row.bias
				      ? round_up_64(bias_backward_scratch_bytes(
						rows, vocab))
				      : 0,
	};
}

/* Of the largest chunk; the slice's part of dx is behind it. */
static size_t chunk_scratch_bytes(const struct node *node, size_t tokens)
{
	struct chunk_scratch scratch =
		chunk_scratch(node, MIN(tokens, LOSS_CHUNK));

	return scratch.losses_bytes + scratch.logits_bytes +
	       scratch.shared_bytes + scratch.bias_bytes;
}

static size_t loss_scratch_bytes(const struct node *node,
				 enum primitive_pass pass, size_t batch,
				 size_t time, enum layer_mode mode,
				 unsigned threads)
{
	size_t tokens = batch * time;
	size_t bytes = chunk_scratch_bytes(node, tokens);

	(void)threads;
	if (pass != PASS_FORWARD || mode == LAYER_DECODE)
		return 0;
	if (mode == LAYER_TRAIN && sums_in_scratch(node))
		bytes += tokens * node->input_width[0] * sizeof(float);
	return bytes;
}

static void loss_cost(const struct node *node, size_t batch, size_t time,
		      struct layer_cost *cost)
{
	cost->forward += 6.0 * (double)(batch * time) *
			 (double)node->input_width[0] *
			 (double)node_share(node).count;
}

/* A maximum and a sum a chunk, and the sum of dx. */
static void loss_exchange(const struct node *node, enum primitive_pass pass,
			  size_t batch, size_t time, enum layer_mode mode,
			  struct layer_exchange *exchange)
{
	size_t tokens = batch * time;

	if (pass != PASS_FORWARD)
		return;
	if (mode == LAYER_DECODE) {
		exchange_add(exchange, batch * node->row.vocab_size);
		return;
	}
	for (size_t first = 0; first < tokens; first += LOSS_CHUNK) {
		size_t rows = MIN(tokens - first, LOSS_CHUNK);

		exchange_add(exchange, rows);
		exchange_add(exchange, 2 * rows);
	}
	if (mode == LAYER_TRAIN)
		exchange_add(exchange, tokens * node->input_width[0]);
}

static bool any_supervised(const int32_t *labels, size_t rows)
{
	for (size_t r = 0; r < rows; r++)
		if (labels[r] >= 0)
			return true;
	return false;
}

/*
 * logits[rows, V] of rows of x that are `stride` elements apart; they are
 * written `pitch` floats apart.
 */
static struct product logits_product(const struct node *node, size_t rows,
				     size_t stride, size_t pitch)
{
	return (struct product){
		.type = node->type,
		.c_type = ELEMENT_F32,
		.transpose_b = GEMM_TRANSPOSED,
		.m = rows,
		.n = node_share(node).count,
		.k = node->input_width[0],
		.lda = stride,
		.ldb = node->input_width[0],
		.ldc = pitch,
		.bias = node->row.bias,
	};
}

static void loss_logits(const struct node *node,
			const struct layer_context *context,
			const struct operands *operands, const void *x,
			size_t stride, size_t rows, float *logits, size_t pitch)
{
	struct product product = logits_product(node, rows, stride, pitch);

	product_run(context->threads, &product, x, operands->weights[WEIGHT],
		    logits, node->row.bias ? operands->weights[BIAS] : NULL);
}

/* dx = dlogits W. */
static struct product input_product(const struct node *node, size_t rows)
{
	return (struct product){
		.type = node->type,
		.c_type = sums_in_scratch(node) ? ELEMENT_F32 : node->type,
		.m = rows,
		.n = node->input_width[0],
		.k = node_share(node).count,
		.lda = gradients_pitch(node),
		.ldb = node->input_width[0],
		.ldc = node->input_width[0],
	};
}

/* dW += dlogits^T x. */
static struct product weight_product(const struct node *node, size_t rows)
{
	return (struct product){
		.type = node->type,
		.c_type = ELEMENT_F32,
		.transpose_a = GEMM_TRANSPOSED,
		.m = node_share(node).count,
		.n = node->input_width[0],
		.k = rows,
		.lda = gradients_pitch(node),
		.ldb = node->input_width[0],
		.ldc = node->input_width[0],
		.add = true,
	};
}

static int chunk_prepare(const struct node *node, size_t rows,
			 enum layer_mode mode, const struct product_team *team)
{
	struct product logits = logits_product(node, rows, node->input_width[0],
					       logits_pitch(node));
	struct product input = input_product(node, rows);
	struct product weight = weight_product(node, rows);
	int error = product_prepare(team, &logits);

	if (!error && mode == LAYER_TRAIN)
		error = product_prepare(team, &input);
	if (!error && mode == LAYER_TRAIN)
		error = product_prepare(team, &weight);
	return error;
}

/* Of whole chunks, and of the rest. */
static int loss_prepare(const struct node *node, size_t batch, size_t time,
			enum layer_mode mode, const struct product_team *team)
{
	size_t tokens = batch * time;
	struct product last = logits_product(
		node, batch, time * node->input_width[0], node->row.vocab_size);
	int error = 0;

	if (mode == LAYER_DECODE)
		return product_prepare(team, &last);
	if (tokens >= LOSS_CHUNK)
		error = chunk_prepare(node, LOSS_CHUNK, mode, team);
	if (!error && tokens % LOSS_CHUNK > 0)
		error = chunk_prepare(node, tokens % LOSS_CHUNK, mode, team);
	return error;
}

/* The two products, and db += column sums of dlogits. */
static void loss_chunk_backward(const struct node *node,
				const struct layer_context *context,
				const struct operands *operands, size_t rows,
				const void *dlogits, const void *x, void *dx,
				void *scratch)
{
	struct product input = input_product(node, rows);
	struct product weight = weight_product(node, rows);
	float *const *gradients = operands->gradients;

	product_run(context->threads, &input, dlogits,
		    operands->weights[WEIGHT], dx, NULL);
	if (gradients && gradients[WEIGHT])
		product_run(context->threads, &weight, dlogits, x,
			    gradients[WEIGHT], NULL);
	if (node->row.bias && gradients && gradients[BIAS])
		bias_backward(context->threads, node->type, rows,
			      node_share(node).count, gradients_pitch(node),
			      dlogits, gradients[BIAS], scratch);
}

/* Losses and, in training, dlogits in place of logits, from whole logits. */
static void loss_rows(const struct node *node,
		      const struct layer_context *context, size_t rows,
		      const int32_t *labels, float *logits, double *losses)
{
	size_t vocab = node->row.vocab_size, pitch = logits_pitch(node);

	if (context->mode == LAYER_TRAIN)
		cross_entropy_forward_backward(
			context->threads, rows, vocab, pitch, labels,
			(float)context->loss_scale, node->type, logits, losses);
	else
		cross_entropy_forward(context->threads, rows, vocab, pitch,
				      labels, logits, losses);
}

/* The same where each slice has columns; shared[3, rows] is exchanged. */
static void loss_rows_shared(const struct node *node,
			     const struct layer_context *context, size_t rows,
			     const int32_t *labels, float *logits,
			     float *shared, double *losses)
{
	struct parameter_share share = node_share(node);
	struct cross_entropy_part part = {
		.rows = rows,
		.vocabulary = share.count,
		.stride = logits_pitch(node),
		.first = share.first,
		.labels = labels,
		.logits = logits,
		.backward = context->mode == LAYER_TRAIN,
		.scale = (float)context->loss_scale,
		.type = node->type,
		.maxima = shared,
		.sums = shared + rows,
		.targets = shared + 2 * rows,
	};

	cross_entropy_part_maxima(context->threads, &part);
	node_maximum(node, context, part.maxima, rows);
	cross_entropy_part_sums(context->threads, &part);
	node_sum(node, context, part.sums, 2 * rows); /* and the targets */
	cross_entropy_part_finish(context->threads, &part, losses);
}

/* Where a chunk's dx goes, from row `first` on: this slice's part. */
static void *chunk_gradient(const struct node *node,
			    const struct layer_context *context,
			    const struct operands *operands, size_t first)
{
	size_t tokens = context_tokens(context), width = node->input_width[0];
	unsigned char *scratch = operands->scratch;

	if (!sums_in_scratch(node))
		return values_at_mutable(
			node->type, operands->input_gradient[0], first * width);
	return (float *)(void *)(scratch + chunk_scratch_bytes(node, tokens)) +
	       first * width;
}

/* One chunk; returns its loss. */
static double loss_chunk(const struct node *node,
			 const struct layer_context *context,
			 const struct operands *operands, const int32_t *labels,
			 size_t first, size_t rows)
{
	struct chunk_scratch place = chunk_scratch(node, rows);
	size_t width = node->input_width[0];
	unsigned char *scratch = operands->scratch;
	double *losses = (double *)(void *)scratch;
	float *logits = (float *)(void *)(scratch += place.losses_bytes);
	float *shared = (float *)(void *)(scratch += place.logits_bytes);
	const void *x =
		values_at(node->type, operands->input[0], first * width);
	bool train = context->mode == LAYER_TRAIN;
	void *dx =
		train ? chunk_gradient(node, context, operands, first) : NULL;
	double loss = 0.0;

	if (!any_supervised(labels, rows)) {
		if (train)
			values_zero(context->threads,
				    input_product(node, rows).c_type,
				    rows * width, dx);
		return 0.0;
	}
	loss_logits(node, context, operands, x, width, rows, logits,
		    logits_pitch(node));
	if (node->slices > 1)
		loss_rows_shared(node, context, rows, labels, logits, shared,
				 losses);
	else
		loss_rows(node, context, rows, labels, logits, losses);
	if (train)
		loss_chunk_backward(node, context, operands, rows, logits, x,
				    dx, scratch + place.shared_bytes);
	for (size_t r = 0; r < rows; r++)
		loss += losses[r];
	for (size_t r = 0; context->sample_losses && r < rows; r++)
		context->sample_losses[(first + r) / context->time] +=
			losses[r];
	return loss;
}

/*
 * Logits of the last position of each sample, [B, V]; each slice writes its
 * columns into zeros, and the sum is whole.
 */
static void loss_decode(const struct node *node,
			const struct layer_context *context,
			const struct operands *operands)
{
	size_t width = node->input_width[0], vocab = node->row.vocab_size;
	size_t count = context->batch * vocab;
	float *logits = operands->output;
	const void *x = values_at(node->type, operands->input[0],
				  (context->time - 1) * width);

	if (node->slices > 1)
		elementwise_zero(context->threads, count, operands->output);
	loss_logits(node, context, operands, x, context->time * width,
		    context->batch, logits + node_share(node).first, vocab);
	if (node->slices > 1)
		node_sum(node, context, operands->output, count);
}

/* The slices' parts of dx, all chunks at once. */
static void loss_sum_gradients(const struct node *node,
			       const struct layer_context *context,
			       const struct operands *operands)
{
	size_t count = context_tokens(context) * node->input_width[0];
	float *parts = chunk_gradient(node, context, operands, 0);

	node_sum(node, context, parts, count);
	if (sums_in_scratch(node))
		values_round(context->threads, count, parts,
			     operands->input_gradient[0]);
}

static void loss_forward(const struct node *node,
			 const struct layer_context *context,
			 const struct operands *operands)
{
	size_t tokens = context_tokens(context);
	const int32_t *labels;
	double loss = 0.0;

	if (context->mode == LAYER_DECODE) {
		loss_decode(node, context, operands);
		return;
	}
	labels = micro_batch_i32(context->micro_batch, COLUMN_LABELS);
	for (size_t b = 0; context->sample_losses && b < context->batch; b++)
		context->sample_losses[b] = 0;
	for (size_t first = 0; first < tokens; first += LOSS_CHUNK) {
		loss += loss_chunk(node, context, operands, labels + first,
				   first, MIN(tokens - first, LOSS_CHUNK));
		layer_breathe(context);
	}
	if (node->slices > 1 && context->mode == LAYER_TRAIN)
		loss_sum_gradients(node, context, operands);
	*context->loss = loss;
}

const struct primitive_ops loss_ops = {
	.name = "loss",
	.inputs = 1,
	.stores_gradient = true,
	.declare = loss_declare,
	.scratch_bytes = loss_scratch_bytes,
	.prepare = loss_prepare,
	.cost = loss_cost,
	.exchange = loss_exchange,
	.forward = loss_forward,
};
