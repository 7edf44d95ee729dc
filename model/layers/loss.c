/*
 * The head and the loss in one: logits = x W^T (+ b), softmax, cross-entropy,
 * in chunks of tokens, so that the full logits never exist. In training forward
 * also does the backward of each chunk while its logits are at hand: dx goes
 * into statistics, dW into the accumulator. Hence there is neither I nor W.
 *
 * Chunks start at multiples of LOSS_CHUNK of the micro-batch: a fixed order.
 *
 * A slice has the logits of a part of the vocabulary, which never leave it:
 * slices exchange three floats a token (a row's maximum, the sum of its
 * exponentials, the label's logit) and, once for all chunks, the parts of dx.
 * The loss and dx are then whole on each.
 */
#include "model/kernels/bias.h"
#include "model/kernels/cross_entropy.h"
#include "model/kernels/elementwise.h"
#include "model/kernels/gemm.h"
#include "model/layers/primitive.h"

#define LOSS_CHUNK 256

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

/* The gradient of the input. */
static size_t loss_statistics_width(const struct node *node)
{
	return node->input_width[0];
}

/* What a chunk of `rows` tokens works with; sizes and places agree. */
struct chunk_scratch {
	size_t losses_bytes; /* double [rows], first */
	size_t logits_bytes; /* float [rows, V], then; V: what is here */
	size_t shared_bytes; /* float [3, rows] that slices exchange, then */
	size_t bias_bytes;   /* of bias_backward, last */
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
		.logits_bytes = round_up_64(rows * vocab * sizeof(float)),
		.shared_bytes = node->slices > 1
					? round_up_64(3 * rows * sizeof(float))
					: 0,
		.bias_bytes = node->row.bias
				      ? bias_backward_scratch_bytes(rows, vocab)
				      : 0,
	};
}

static size_t loss_scratch_bytes(const struct node *node,
				 enum primitive_pass pass, size_t batch,
				 size_t time, enum layer_mode mode,
				 unsigned threads)
{
	struct chunk_scratch scratch =
		chunk_scratch(node, MIN(batch * time, LOSS_CHUNK));

	(void)threads;
	if (pass != PASS_FORWARD || mode == LAYER_DECODE)
		return 0;
	return scratch.losses_bytes + scratch.logits_bytes +
	       scratch.shared_bytes + scratch.bias_bytes;
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
 * logits[rows, V] of rows of x that are `stride` floats apart; they are
 * written `pitch` apart.
 */
static void loss_logits(const struct node *node,
			const struct layer_context *context,
			const struct operands *operands, const float *x,
			size_t stride, size_t rows, float *logits, size_t pitch)
{
	size_t width = node->input_width[0], vocab = node_share(node).count;
	struct gemm_epilogue epilogue = {
		.bias = node->row.bias ? operands->weights[BIAS] : NULL,
	};

	gemm(context->threads, GEMM_NORMAL, GEMM_TRANSPOSED, rows, vocab, width,
	     x, stride, operands->weights[WEIGHT], width, 0.0f, logits, pitch,
	     &epilogue);
}

/* dx = dlogits W; dW += dlogits^T x; db += column sums of dlogits. */
static void loss_chunk_backward(const struct node *node,
				const struct layer_context *context,
				const struct operands *operands, size_t rows,
				const float *dlogits, const float *x, float *dx,
				void *scratch)
{
	size_t width = node->input_width[0], vocab = node_share(node).count;
	float *const *gradients = operands->gradients;

	gemm(context->threads, GEMM_NORMAL, GEMM_NORMAL, rows, width, vocab,
	     dlogits, vocab, operands->weights[WEIGHT], width, 0.0f, dx, width,
	     NULL);
	if (gradients && gradients[WEIGHT])
		gemm(context->threads, GEMM_TRANSPOSED, GEMM_NORMAL, vocab,
		     width, rows, dlogits, vocab, x, width, 1.0f,
		     gradients[WEIGHT], width, NULL);
	if (node->row.bias && gradients && gradients[BIAS])
		bias_backward(context->threads, rows, vocab, dlogits,
			      gradients[BIAS], scratch);
}

/* Losses and, in training, dlogits in place of logits, from whole logits. */
static void loss_rows(const struct layer_context *context, size_t rows,
		      size_t vocab, const int32_t *labels, float *logits,
		      double *losses)
{
	if (context->mode == LAYER_TRAIN)
		cross_entropy_forward_backward(
			context->threads, rows, vocab, vocab, labels,
			(float)context->loss_scale, logits, losses);
	else
		cross_entropy_forward(context->threads, rows, vocab, vocab,
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
		.stride = share.count,
		.first = share.first,
		.labels = labels,
		.logits = logits,
		.backward = context->mode == LAYER_TRAIN,
		.scale = (float)context->loss_scale,
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

/* One chunk; returns its loss. dx is this slice's part. */
static double loss_chunk(const struct node *node,
			 const struct layer_context *context,
			 const struct operands *operands, const int32_t *labels,
			 size_t first, size_t rows)
{
	struct chunk_scratch place = chunk_scratch(node, rows);
	size_t width = node->input_width[0], vocab = node_share(node).count;
	unsigned char *scratch = operands->scratch;
	double *losses = (double *)(void *)scratch;
	float *logits = (float *)(void *)(scratch += place.losses_bytes);
	float *shared = (float *)(void *)(scratch += place.logits_bytes);
	const float *x = operands->input[0] + first * width;
	float *dx = operands->statistics + first * width;
	bool train = context->mode == LAYER_TRAIN;
	double loss = 0.0;

	if (!any_supervised(labels, rows)) {
		if (train)
			elementwise_zero(context->threads, rows * width, dx);
		return 0.0;
	}
	loss_logits(node, context, operands, x, width, rows, logits, vocab);
	if (node->slices > 1)
		loss_rows_shared(node, context, rows, labels, logits, shared,
				 losses);
	else
		loss_rows(context, rows, vocab, labels, logits, losses);
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
	const float *x = operands->input[0] + (context->time - 1) * width;

	if (node->slices > 1)
		elementwise_zero(context->threads, count, operands->output);
	loss_logits(node, context, operands, x, context->time * width,
		    context->batch, operands->output + node_share(node).first,
		    vocab);
	if (node->slices > 1)
		node_sum(node, context, operands->output, count);
}

static void loss_forward(const struct node *node,
			 const struct layer_context *context,
			 const struct operands *operands)
{
	size_t tokens = context_tokens(context);
	size_t width = node->input_width[0];
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
		node_sum(node, context, operands->statistics, tokens * width);
	*context->loss = loss;
}

const struct primitive_ops loss_ops = {
	.name = "loss",
	.inputs = 1,
	.stores_gradient = true,
	.declare = loss_declare,
	.statistics_width = loss_statistics_width,
	.scratch_bytes = loss_scratch_bytes,
	.cost = loss_cost,
	.exchange = loss_exchange,
	.forward = loss_forward,
};
