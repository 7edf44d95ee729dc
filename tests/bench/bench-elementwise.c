/*
 * The kernels that memory bounds, each against a plain copy measured right
 * before it: bytes that must move / time, as a share of the copy's rate.
 *
 *     tests/bench/bench-elementwise [THREADS]
 *
 * The working set (GPT-2 124M, 4 samples of 256 tokens) is larger than the
 * caches for most rows; those it fits in may pass 100 %.
 */
#include "base/clock.h"
#include "base/text.h"
#include "base/threads.h"
#include "model/kernels/activation.h"
#include "model/kernels/bias.h"
#include "model/kernels/cross_entropy.h"
#include "model/kernels/dropout.h"
#include "model/kernels/elementwise.h"
#include "model/kernels/embedding.h"
#include "model/kernels/layernorm.h"
#include "model/kernels/optimizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROWS       1024
#define CHANNELS   768
#define INNER      3072
#define VOCABULARY 50257
#define CHUNK      128
#define PARAMETERS ((size_t)24 << 20)
#define TRIALS     9

struct bench {
	struct threads *threads;
	float *array[4]; /* PARAMETERS each */
	float *small[4]; /* CHANNELS each, or ROWS */
	void *scratch;
	int32_t *labels;
	double *losses;
	uint64_t samples[4];
};

struct bench_case {
	const char *name;
	double bytes; /* that must be read and written */
	void (*run)(struct bench *b);
};

static void run_copy(struct bench *b)
{
	elementwise_copy(b->threads, PARAMETERS, b->array[0], b->array[1]);
}

static void run_layernorm(struct bench *b)
{
	layernorm_forward(b->threads, ROWS, CHANNELS, 1e-5f, b->array[0],
			  b->small[0], b->small[1], b->array[1], b->small[2],
			  b->small[3]);
}

static void run_layernorm_input(struct bench *b)
{
	layernorm_backward_input(b->threads, ROWS, CHANNELS, b->array[0],
				 b->array[1], b->small[0], b->small[2],
				 b->small[3], b->array[2], false);
}

static void run_layernorm_weight(struct bench *b)
{
	layernorm_backward_weight(b->threads, ROWS, CHANNELS, b->array[0],
				  b->array[1], b->small[2], b->small[3],
				  b->small[0], b->small[1], b->scratch);
}

static void run_bias(struct bench *b)
{
	bias_backward(b->threads, ROWS, INNER, b->array[0], b->array[3],
		      b->scratch);
}

static void run_gelu(struct bench *b)
{
	gelu_forward(b->threads, (size_t)ROWS * INNER, b->array[0],
		     b->array[1]);
}

static void run_gelu_backward(struct bench *b)
{
	gelu_backward(b->threads, (size_t)ROWS * INNER, b->array[0],
		      b->array[1], b->array[2]);
}

static void run_dropout(struct bench *b)
{
	struct dropout dropout = {
		.key = dropout_key(1, 2, 3, 4),
		.probability = 0.1f,
		.rows_per_sample = ROWS / 4,
		.sample_ids = b->samples,
	};

	dropout_residual_add(b->threads, &dropout, ROWS, CHANNELS, b->array[0],
			     b->array[1], b->array[2]);
}

static void run_cross_entropy(struct bench *b)
{
	/* A gradient as logits: flat, which costs the same. */
	cross_entropy_forward_backward(b->threads, CHUNK, VOCABULARY,
				       VOCABULARY, b->labels, 1e-3f,
				       b->array[0], b->losses);
}

static void run_embedding(struct bench *b)
{
	embedding_backward_weight(b->threads, 4, ROWS / 4, CHANNELS, b->labels,
				  0, b->array[0], b->array[1], b->array[2]);
}

static void run_adamw(struct bench *b)
{
	struct adamw adamw = {
		.learning_rate = 1e-4,
		.beta1 = 0.9,
		.beta2 = 0.999,
		.epsilon = 1e-8,
		.weight_decay = 0.1,
		.bias_correction1 = 0.5,
		.bias_correction2 = 0.5,
		.gradient_scale = 1.0f,
	};

	adamw_update(b->threads, &adamw, PARAMETERS, b->array[0], b->array[1],
		     b->array[2], b->array[3]);
}

static void run_norm(struct bench *b)
{
	b->losses[0] =
		square_sum(b->threads, PARAMETERS, b->array[1], b->scratch);
}

static void run_accumulate(struct bench *b)
{
	elementwise_accumulate(b->threads, PARAMETERS, b->array[1],
			       b->array[0]);
}

#define ACTIVATION (4.0 * ROWS * CHANNELS)
#define HIDDEN     (4.0 * ROWS * INNER)

static const struct bench_case cases[] = {
	{"layernorm forward", 2 * ACTIVATION, run_layernorm},
	{"layernorm backward input", 3 * ACTIVATION, run_layernorm_input},
	{"layernorm backward weight", 2 * ACTIVATION, run_layernorm_weight},
	{"bias backward", HIDDEN, run_bias},
	{"gelu forward", 2 * HIDDEN, run_gelu},
	{"gelu backward", 3 * HIDDEN, run_gelu_backward},
	{"dropout + residual", 3 * ACTIVATION, run_dropout},
	{"cross-entropy, V = 50257", 8.0 * CHUNK *VOCABULARY,
	 run_cross_entropy},
	{"embedding backward", 5 * ACTIVATION, run_embedding},
	{"gradient norm", 4.0 * PARAMETERS, run_norm},
	{"accumulate", 12.0 * PARAMETERS, run_accumulate},
	{"adamw", 28.0 * PARAMETERS, run_adamw},
};

static void bench_init(struct bench *b)
{
	for (int i = 0; i < 4; i++) {
		b->array[i] = aligned_alloc(64, PARAMETERS * sizeof(float));
		b->small[i] = aligned_alloc(64, INNER * sizeof(float));
		b->samples[i] = (uint64_t)i;
		ASSERT(b->array[i] != NULL && b->small[i] != NULL);
		for (size_t k = 0; k < PARAMETERS; k++)
			b->array[i][k] = (float)(k % 977) * 1e-3f;
		for (size_t k = 0; k < INNER; k++)
			b->small[i][k] = 0.5f;
	}
	b->scratch = aligned_alloc(64, (size_t)16 << 20);
	b->labels = calloc(ROWS, sizeof(*b->labels));
	b->losses = calloc(ROWS, sizeof(*b->losses));
	ASSERT(b->scratch && b->labels && b->losses);
	for (int i = 0; i < ROWS; i++)
		b->labels[i] = i * 31 % 20000;
}

static void bench_fini(struct bench *b)
{
	for (int i = 0; i < 4; i++) {
		free(b->array[i]);
		free(b->small[i]);
	}
	free(b->scratch);
	free(b->labels);
	free(b->losses);
	threads_destroy(b->threads);
}

static int compare_times(const void *a, const void *b)
{
	double left = *(const double *)a, right = *(const double *)b;

	return left < right ? -1 : left > right;
}

static double timed(struct bench *b, void (*run)(struct bench *))
{
	int64_t start = clock_now_ns();

	run(b);
	return clock_seconds(clock_now_ns() - start);
}

/* Medians of interleaved trials: the machine's mood is in both. */
static void measure(struct bench *b, const struct bench_case *c)
{
	double kernel[TRIALS], copy[TRIALS], rate, copy_rate;

	c->run(b);
	for (int i = 0; i < TRIALS; i++) {
		copy[i] = timed(b, run_copy);
		kernel[i] = timed(b, c->run);
	}
	qsort(kernel, TRIALS, sizeof(*kernel), compare_times);
	qsort(copy, TRIALS, sizeof(*copy), compare_times);
	rate = c->bytes / kernel[TRIALS / 2] * 1e-9;
	copy_rate = 8.0 * PARAMETERS / copy[TRIALS / 2] * 1e-9;
	printf("%-28s %9.3f ms %8.1f GB/s %8.1f GB/s %7.0f %%\n", c->name,
	       kernel[TRIALS / 2] * 1e3, rate, copy_rate,
	       100.0 * rate / copy_rate);
}

int main(int argc, char **argv)
{
	struct bench bench = {0};
	int64_t count = 2;

	if (argc > 2 ||
	    (argc == 2 &&
	     text_parse_integer(argv[1], 1, THREADS_MAX, &count) != 0)) {
		fprintf(stderr, "usage: %s [THREADS]\n", argv[0]);
		return 2;
	}
	if (threads_create((unsigned)count, NULL, &bench.threads) != 0)
		return 1;
	bench_init(&bench);
	printf("%-28s %12s %13s %13s %9s\n", "kernel", "time", "rate", "copy",
	       "share");
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		measure(&bench, &cases[i]);
	bench_fini(&bench);
	return 0;
}
