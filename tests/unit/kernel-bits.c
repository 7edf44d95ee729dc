/*
 * Runs each loop of our own once, on one thread, for numbers and for bfloat16,
 * and prints a digest of what it wrote. For test-kernel-bits.sh, which runs it on
 * processors with other vectors. Products of the library are not ours and left
 * out, and attention, which is made of them. First line: the path that was
 * chosen; last: a sum whose order is that of the vectors', which must differ.
 */
#include "base/digest.h"
#include "base/random.h"
#include "base/threads.h"
#include "model/kernels/activation.h"
#include "model/kernels/bias.h"
#include "model/kernels/convert.h"
#include "model/kernels/cross_entropy.h"
#include "model/kernels/dropout.h"
#include "model/kernels/elementwise.h"
#include "model/kernels/embedding.h"
#include "model/kernels/gemm.h"
#include "model/kernels/gemv.h"
#include "model/kernels/headnorm.h"
#include "model/kernels/layernorm.h"
#include "model/kernels/numerics.h"
#include "model/kernels/optimizer.h"
#include "model/kernels/rope.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Remainders of every vector's length. */
#define ROWS     37
#define CHANNELS 100 /* two heads of queries, one of keys and of values */
#define HEADS    2
#define SIZE     (CHANNELS / (HEADS + 2) / 2 * 2)
#define COUNT    (ROWS * CHANNELS)
#define ARRAYS   5
#define VOCAB    (COUNT / ROWS)

struct bits {
	struct threads *team;
	enum element_type type;
	float *in[ARRAYS]; /* [COUNT] in [-2, 2]; as bfloat16 where that is */
	float *small[ARRAYS]; /* [COUNT] floats in (0, 2] */
	float *out[ARRAYS];   /* [COUNT] written by a kernel */
	void *scratch;
	int32_t ids[ROWS];
};

static void run_gelu(struct bits *b)
{
	gelu_forward(b->team, b->type, COUNT, b->in[0], b->out[0]);
	gelu_backward(b->team, b->type, COUNT, b->in[1], b->in[0], b->out[1]);
}

static void run_silu(struct bits *b)
{
	silu_forward(b->team, b->type, COUNT, b->in[0], b->out[0]);
	silu_backward(b->team, b->type, COUNT, b->in[1], b->in[0], b->out[1]);
}

static void run_swiglu(struct bits *b)
{
	swiglu_forward(b->team, b->type, ROWS, CHANNELS / 2, b->in[0],
		       b->out[0]);
	swiglu_backward(b->team, b->type, ROWS, CHANNELS / 2, b->in[1],
			b->in[0], b->out[1]);
}

static void run_bias(struct bits *b)
{
	bias_add(b->team, ROWS, CHANNELS, b->small[0], b->out[0]);
	bias_add_round(b->team, ROWS, CHANNELS, b->small[1], b->small[0],
		       (bfloat16 *)(void *)b->out[1]);
	bias_backward(b->team, b->type, ROWS, CHANNELS, CHANNELS, b->in[0],
		      b->out[2], b->scratch);
}

static void run_convert(struct bits *b)
{
	convert_floats_to_bf16(COUNT, b->small[0], b->out[0]);
	convert_bf16_to_floats(COUNT, b->out[0], b->out[1]);
	convert_f16_to_floats(COUNT, b->out[0], b->out[2]);
}

static void run_cross_entropy(struct bits *b)
{
	double losses[ROWS];

	for (unsigned i = 0; i < 2; i++)
		memcpy(b->out[i], b->small[i], COUNT * sizeof(float));
	cross_entropy_forward(b->team, ROWS, VOCAB, VOCAB, b->ids, b->small[0],
			      losses);
	memcpy(b->out[2], losses, sizeof(losses));
	cross_entropy_forward_backward(b->team, ROWS, VOCAB, VOCAB, b->ids,
				       0.01f, b->type, b->out[0], losses);
	memcpy(b->out[3], losses, sizeof(losses));
}

static void run_dropout(struct bits *b)
{
	static const uint64_t samples[] = {3};
	struct dropout dropout = {
		.key = dropout_key(1, 2, 3, 4),
		.probability = 0.3f,
		.rows_per_sample = ROWS,
		.sample_ids = samples,
	};

	dropout_apply(b->team, b->type, &dropout, ROWS, CHANNELS, b->in[0],
		      b->out[0]);
	dropout_residual_add(b->team, b->type, &dropout, ROWS, CHANNELS,
			     b->in[0], b->in[1], b->out[1]);
}

static void run_elementwise(struct bits *b)
{
	elementwise_add(b->team, COUNT, b->small[0], b->small[1], b->out[0]);
	elementwise_multiply(b->team, COUNT, b->small[0], b->small[1],
			     b->out[1]);
	elementwise_scale(b->team, COUNT, 0.3f, b->small[0], b->out[2]);
	elementwise_maximum(b->team, COUNT, b->small[0], b->small[1],
			    b->out[3]);
	elementwise_accumulate(b->team, COUNT, b->small[2], b->out[3]);
}

static void run_embedding(struct bits *b)
{
	embedding_forward(b->team, b->type, 1, ROWS, CHANNELS, b->ids, 0, NULL,
			  b->in[0], b->in[1], b->out[0]);
	embedding_backward_weight(b->team, b->type, 1, ROWS, CHANNELS, b->ids,
				  0, NULL, b->in[2], b->out[1], b->out[2]);
}

static void run_gemv(struct bits *b)
{
	bool half = b->type == ELEMENT_BF16;

	for (unsigned t = 0; t < 2; t++) {
		size_t n = t ? ROWS : CHANNELS, k = t ? CHANNELS : ROWS;

		if (half)
			gemv_bfloat16(b->team, t, n, k, b->small[0],
				      (const bfloat16 *)(void *)b->in[0],
				      CHANNELS, false, b->out[t]);
		else
			gemv(b->team, t, n, k, b->small[0], b->in[0], CHANNELS,
			     false, b->out[t]);
	}
}

static void run_headnorm(struct bits *b)
{
	struct headnorm_shape shape = {
		.type = b->type,
		.rows = ROWS,
		.heads = HEADS,
		.kv_heads = 1,
		.head_size = SIZE,
		.epsilon = 1e-5f,
	};

	headnorm_forward(b->team, &shape, b->in[0], b->small[0], b->small[1],
			 b->out[0], b->out[1]);
	headnorm_backward_input(b->team, &shape, b->in[1], b->in[0],
				b->small[0], b->small[1], b->out[1], b->out[2]);
	headnorm_backward_weight(b->team, &shape, b->in[1], b->in[0], b->out[1],
				 b->out[3], b->out[4], b->scratch);
}

static void run_layernorm(struct bits *b)
{
	float *mean = b->out[3], *rstd = b->out[4];

	layernorm_forward(b->team, b->type, ROWS, CHANNELS, 1e-5f, b->in[0],
			  b->small[0], b->small[1], b->out[0], mean, rstd);
	layernorm_backward_input(b->team, b->type, ROWS, CHANNELS, b->in[1],
				 b->in[0], b->small[0], mean, rstd, b->out[1],
				 false);
	layernorm_backward_weight(b->team, b->type, ROWS, CHANNELS, b->in[1],
				  b->in[0], mean, rstd, b->out[2],
				  b->out[2] + CHANNELS, b->scratch);
}

static void run_rmsnorm(struct bits *b)
{
	float *rstd = b->out[4];

	rmsnorm_forward(b->team, b->type, ROWS, CHANNELS, 1e-5f, b->in[0],
			b->small[0], b->out[0], rstd);
	rmsnorm_backward_input(b->team, b->type, ROWS, CHANNELS, b->in[1],
			       b->in[0], b->small[0], rstd, b->out[1], false);
	rmsnorm_backward_weight(b->team, b->type, ROWS, CHANNELS, b->in[1],
				b->in[0], rstd, b->out[2], b->scratch);
}

static void run_rope(struct bits *b)
{
	struct rope_config config = {
		.kind = ROPE_DEFAULT, .positions = ROWS, .theta = 10000};
	struct rope_shape shape = {
		.type = b->type,
		.batch = 1,
		.time = ROWS,
		.heads = HEADS,
		.kv_heads = 1,
		.head_size = SIZE,
	};
	struct rope *rope;

	if (rope_create(&config, SIZE, ROWS, &rope))
		exit(1);
	rope_forward(b->team, rope, &shape, b->in[0], b->out[0], b->scratch);
	rope_backward(b->team, rope, &shape, b->in[1], b->out[1], b->scratch);
	rope_destroy(rope);
}

static void run_optimizers(struct bits *b)
{
	struct adamw adamw = {.learning_rate = 1e-3,
			      .beta1 = 0.9,
			      .beta2 = 0.999,
			      .epsilon = 1e-8,
			      .weight_decay = 0.1,
			      .gradient_scale = 0.7f};
	struct sgd sgd = {.learning_rate = 1e-3,
			  .momentum = 0.9,
			  .weight_decay = 0.1,
			  .gradient_scale = 0.7f,
			  .nesterov = true};
	double sum = square_sum(b->team, COUNT, b->small[0], b->scratch);

	adamw_set_step(&adamw, 3);
	for (unsigned i = 0; i < 3; i++)
		memcpy(b->out[i], b->small[i], COUNT * sizeof(float));
	adamw_update(b->team, &adamw, COUNT, b->out[0], b->small[3], b->out[1],
		     b->out[2], (bfloat16 *)(void *)b->out[3]);
	sgd_update(b->team, &sgd, COUNT, b->out[0], b->small[3], b->out[1],
		   NULL);
	memcpy(b->out[4], &sum, sizeof(sum));
}

/* The planted fault: as many partial sums as the vectors have numbers. */
static void run_planted(struct bits *b)
{
	size_t lanes = 4;
	float sums[16] = {0};

#if defined(__x86_64__)
	__builtin_cpu_init();
	if (__builtin_cpu_supports("avx512f"))
		lanes = 16;
	else if (__builtin_cpu_supports("avx2"))
		lanes = 8;
#endif
	for (size_t i = 0; i < COUNT; i++)
		sums[i % lanes] += b->small[0][i];
	for (size_t lane = 0; lane < lanes; lane++)
		b->out[0][0] += sums[lane];
}

#define NAMED(function) #function, function

static const struct {
	const char *name;
	void (*run)(struct bits *b);
} kernels[] = {
	{NAMED(run_gelu)},       {NAMED(run_silu)},
	{NAMED(run_swiglu)},     {NAMED(run_bias)},
	{NAMED(run_convert)},    {NAMED(run_cross_entropy)},
	{NAMED(run_dropout)},    {NAMED(run_elementwise)},
	{NAMED(run_embedding)},  {NAMED(run_gemv)},
	{NAMED(run_headnorm)},   {NAMED(run_layernorm)},
	{NAMED(run_rmsnorm)},    {NAMED(run_rope)},
	{NAMED(run_optimizers)}, {NAMED(run_planted)},
};

static void *room(size_t bytes)
{
	void *memory = aligned_alloc(64, (bytes + 63) / 64 * 64);

	if (!memory)
		exit(1);
	memset(memory, 0, (bytes + 63) / 64 * 64);
	return memory;
}

static void prepare(struct bits *b)
{
	struct random_key key = random_key_named(1, "kernel bits");

	threads_set_float_state();
	if (threads_create(1, NULL, &b->team) ||
	    gemm_prepare_untouched(b->team))
		exit(1);
	for (unsigned i = 0; i < ARRAYS; i++) {
		b->in[i] = room(COUNT * sizeof(float));
		b->small[i] = room(COUNT * sizeof(float));
		b->out[i] = room(COUNT * sizeof(float));
		for (size_t j = 0; j < COUNT; j++)
			b->small[i][j] =
				(float)(2 -
					2 * random_uniform(key, i * COUNT + j));
	}
	b->scratch = room((size_t)1 << 20);
	for (unsigned i = 0; i < ROWS; i++)
		b->ids[i] = (int32_t)random_below(key, i, ROWS);
}

static void fill(struct bits *b, enum element_type type)
{
	struct random_key key = random_key_named(2, "kernel bits");

	b->type = type;
	for (unsigned i = 0; i < ARRAYS; i++)
		for (size_t j = 0; j < COUNT; j++) {
			float value =
				(float)(4 * random_uniform(key, i * COUNT + j) -
					2);

			if (type == ELEMENT_F32)
				b->in[i][j] = value;
			else
				((bfloat16 *)(void *)b->in[i])[j] =
					bfloat16_from_float(value);
		}
}

static void run(struct bits *b, unsigned kernel)
{
	uint64_t digest = 0;

	for (unsigned i = 0; i < ARRAYS; i++)
		memset(b->out[i], 0, COUNT * sizeof(float));
	kernels[kernel].run(b);
	for (unsigned i = 0; i < ARRAYS; i++)
		digest = 31 * digest +
			 digest_hash64(b->out[i], COUNT * sizeof(float));
	printf("%s %s %016" PRIx64 "\n", kernels[kernel].name,
	       element_type_name(b->type), digest);
}

int main(void)
{
	static const enum element_type types[] = {ELEMENT_F32, ELEMENT_BF16};
	char text[NUMERICS_DESCRIPTION_BYTES];
	struct bits b = {0};
	const char *path;

	prepare(&b);
	if (numerics_describe(text, sizeof(text)))
		return 1;
	path = strstr(text, "\"dispatch\":\"");
	printf("path %.*s\n", (int)strcspn(path + 12, "\""), path + 12);
	for (unsigned i = 0; i < ARRAY_SIZE(kernels); i++)
		for (unsigned t = 0; t < ARRAY_SIZE(types); t++) {
			fill(&b, types[t]);
			run(&b, i);
		}
	return 0;
}
