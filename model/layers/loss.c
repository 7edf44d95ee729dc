/*
 * The head and the loss in one: logits = x W^T (+ b), softmax, cross-entropy,
 * in chunks of tokens, so that the full logits never exist. In training forward
 * also does the backward of each chunk while its logits are at hand: dx goes
 * into statistics, dW into the accumulator. Hence there is neither I nor W.
 *
 * Chunks start at multiples of LOSS_CHUNK of the micro-batch: a fixed order.
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
	rows[WEIGHT].accumulates_in_forward = true;
	if (!row->bias)
		return 1;
	parameter_vector(&rows[BIAS], row->name, "bias", row->vocab_size);
	rows[BIAS].split_axis = 0;
	rows[BIAS].accumulates_in_forward = true;
	return 2;
}

/* The gradient of the input. */
static size_t loss_statistics_width(const struct node *node)
{
	return node->input_width[0];
}

/* What a chunk of `rows` tokens works with; sizes and places agree. */
struct chunk_scratch {
	size_t losses_bytes; /* double [rows], first */
	size_t logits_bytes; /* float [rows, V], then */
	size_t bias_bytes;   /* of bias_backward, last */
};

static struct chunk_scratch chunk_scratch(const struct node *node, size_t rows)
{
	size_t logits = rows * node->row.vocab_size * sizeof(float);

	return (struct chunk_scratch){
		.losses_bytes = (rows * sizeof(double) + 63) / 64 * 64,
		.logits_bytes = (logits + 63) / 64 * 64,
		.bias_bytes = node->row.bias
				      ? bias_backward_scratch_bytes(
						rows, node->row.vocab_size)
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
	return scratch.losses_bytes + scratch.logits_bytes + scratch.bias_bytes;
}

static void loss_cost(const struct node *node, size_t batch, size_t time,
		      struct layer_cost *cost)
{
	cost->forward += 6.0 * (double)(batch * time) *
			 (double)node->input_width[0] *
			 (double)node->row.vocab_size;
}

static bool any_supervised(const int32_t *labels, size_t rows)
{
	for (size_t r = 0; r < rows; r++)
		if (labels[r] >= 0)
			return true;
	return false;
}

/* logits[rows, V] of rows of x that are `stride` floats apart. */
static void loss_logits(const struct node *node,
			const struct layer_context *context,
			const struct operands *operands, const float *x,
			size_t stride, size_t rows, float *logits)
{
	size_t width = node->input_width[0], vocab = node->row.vocab_size;
	struct gemm_epilogue epilogue = {
		.bias = node->row.bias ? operands->weights[BIAS] : NULL,
	};

	gemm(context->threads, GEMM_NORMAL, GEMM_TRANSPOSED, rows, vocab, width,
	     x, stride, operands->weights[WEIGHT], width, 0.0f, logits, vocab,
	     &epilogue);
}

/* dx = dlogits W; dW += dlogits^T x; db += column sums of dlogits. */
static void loss_chunk_backward(const struct node *node,
				const struct layer_context *context,
				const struct operands *operands, size_t rows,
				const float *dlogits, const float *x, float *dx,
				void *scratch)
{
	size_t width = node->input_width[0], vocab = node->row.vocab_size;
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

/* One chunk; returns its loss. */
static double loss_chunk(const struct node *node,
			 const struct layer_context *context,
			 const struct operands *operands, const int32_t *labels,
			 size_t first, size_t rows)
{
	struct chunk_scratch place = chunk_scratch(node, rows);
	size_t width = node->input_width[0], vocab = node->row.vocab_size;
	unsigned char *scratch = operands->scratch;
	double *losses = (double *)(void *)scratch;
	float *logits = (float *)(void *)(scratch + place.losses_bytes);
	const float *x = operands->input[0] + first * width;
	float *dx = operands->statistics + first * width;
	bool train = context->mode == LAYER_TRAIN;
	double loss = 0.0;

	if (!any_supervised(labels, rows)) {
		if (train)
			elementwise_zero(context->threads, rows * width, dx);
		return 0.0;
	}
	loss_logits(node, context, operands, x, width, rows, logits);
	if (train) {
		cross_entropy_forward_backward(
			context->threads, rows, vocab, vocab, labels,
			(float)context->loss_scale, logits, losses);
		loss_chunk_backward(
			node, context, operands, rows, logits, x, dx,
			scratch + place.losses_bytes + place.logits_bytes);
	} else {
		cross_entropy_forward(context->threads, rows, vocab, vocab,
				      labels, logits, losses);
	}
	for (size_t r = 0; r < rows; r++)
		loss += losses[r];
	return loss;
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
		/* The last position of each sample alone. */
		loss_logits(node, context, operands,
			    operands->input[0] + (context->time - 1) * width,
			    context->time * width, context->batch,
			    operands->output);
		return;
	}
	labels = micro_batch_i32(context->micro_batch, COLUMN_LABELS);
	for (size_t first = 0; first < tokens; first += LOSS_CHUNK)
		loss += loss_chunk(node, context, operands, labels + first,
				   first, MIN(tokens - first, LOSS_CHUNK));
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
	.forward = loss_forward,
};
