/*
 * Each kernel of a training step by itself, against its limit: the time its
 * multiplications take at the rate of products, or its bytes at the bandwidth of
 * memory, whichever is longer; both measured in the same round.
 */
#include "tools/bench/kernels.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/numbers.h"
#include "model/kernels/activation.h"
#include "model/kernels/attention.h"
#include "model/kernels/bias.h"
#include "model/kernels/cross_entropy.h"
#include "model/kernels/dropout.h"
#include "model/kernels/elementwise.h"
#include "model/kernels/embedding.h"
#include "model/kernels/gemm.h"
#include "model/kernels/layernorm.h"
#include "model/kernels/optimizer.h"
#include "model/kernels/rope.h"
#include "model/kernels/values.h"
#include "tools/bench/limits.h"

#define CHUNK 512 /* tokens the head does at once */

static const struct option_spec table[] = {
	{.name = "width",
	 .kind = OPTION_INTEGER,
	 .argument = "C",
	 .fallback = "768",
	 .minimum = 1,
	 .maximum = 1 << 16,
	 .group = "Sizes",
	 .help = "numbers a token"},
	{.name = "heads",
	 .kind = OPTION_INTEGER,
	 .argument = "H",
	 .fallback = "12",
	 .minimum = 1,
	 .maximum = 1 << 10,
	 .help = "of attention; divides the width"},
	{.name = "vocab-size",
	 .kind = OPTION_INTEGER,
	 .argument = "V",
	 .fallback = "50257",
	 .minimum = 2,
	 .maximum = 1 << 20,
	 .help = "tokens known"},
	{.name = "context",
	 .kind = OPTION_INTEGER,
	 .argument = "T",
	 .fallback = "256",
	 .minimum = 1,
	 .maximum = 1 << 16,
	 .help = "tokens of a sequence"},
	{.name = "micro-batch-size",
	 .kind = OPTION_INTEGER,
	 .argument = "B",
	 .fallback = "4",
	 .minimum = 1,
	 .maximum = 1 << 10,
	 .help = "sequences"},
	BENCH_TEAM_OPTIONS,
	{.name = "json",
	 .kind = OPTION_FLAG,
	 .group = "Output",
	 .help = "an object a line instead of the table"},
	{.name = NULL},
};

const struct option_command bench_kernels_command = {
	.name = "bench kernels",
	.synopsis = "[options]",
	.summary = "each kernel of a step against its limit",
	.description =
		"Runs every kernel of a step of GPT-2, and those that Llama's blocks have beside "
		"them, by itself and compares its time with what the machine allows: its multiplications at the rate of products, or its bytes at "
		"the bandwidth of memory, whichever takes longer. Both are measured in every round. "
		"What fits the caches may pass the limit of memory.",
	.table = table,
};

struct kernels {
	struct threads *team;
	size_t batch, time, width, heads, vocab;
	size_t tokens; /* B T */
	size_t chunk;  /* rows of the head's products */
	size_t floats; /* of each array */
	float *array[4];
	bfloat16 *narrow[4]; /* the same, rounded */
	float *small[4];     /* [MAX(4 C, tokens)] */
	float *lse;          /* [B, H, T] */
	void *scratch;
	int32_t *labels; /* [tokens] */
	double *losses;  /* [tokens] */
	struct attention_shape attention;
	struct rope *rope; /* NULL: heads of an odd size are not turned */
};

struct kernel_case {
	const char *name;
	double flops;           /* of a run */
	double bytes;           /* that must be read or written */
	bool reads;             /* next to nothing is written */
	enum element_type type; /* of values */
	void (*run)(struct kernels *k, const struct kernel_case *c);
	/* products: */
	enum gemm_transpose transpose_a, transpose_b;
	size_t m, n, k;
	float beta;
	bool narrow; /* factors are bfloat16 */
	enum element_type c_type;
};

/* ---- the kernels ---- */

/* Array `i` of the case's type, from element `at` on. */
static void *values(struct kernels *k, const struct kernel_case *c, unsigned i,
		    size_t at)
{
	if (c->type == ELEMENT_BF16)
		return k->narrow[i] + at;
	return k->array[i] + at;
}

static void run_product(struct kernels *k, const struct kernel_case *c)
{
	gemm(k->team, c->transpose_a, c->transpose_b, c->m, c->n, c->k,
	     k->array[0], c->transpose_a == GEMM_TRANSPOSED ? c->m : c->k,
	     k->array[1], c->transpose_b == GEMM_TRANSPOSED ? c->k : c->n,
	     c->beta, k->array[2], c->n, NULL);
}

static void run_product_bfloat16(struct kernels *k, const struct kernel_case *c)
{
	gemm_bfloat16(
		k->team, c->transpose_a, c->transpose_b, c->m, c->n, c->k,
		k->narrow[0], c->transpose_a == GEMM_TRANSPOSED ? c->m : c->k,
		k->narrow[1], c->transpose_b == GEMM_TRANSPOSED ? c->k : c->n,
		c->beta, c->c_type, k->array[2], c->n, NULL);
}

static void run_attention(struct kernels *k, const struct kernel_case *c)
{
	struct attention_shape shape = k->attention;

	shape.type = c->type;
	attention_forward(k->team, &shape, values(k, c, 0, 0),
			  values(k, c, 0, k->width),
			  values(k, c, 0, 2 * k->width), values(k, c, 1, 0),
			  k->lse, NULL, k->scratch);
}

static void run_attention_backward(struct kernels *k,
				   const struct kernel_case *c)
{
	struct attention_shape shape = k->attention;

	shape.type = c->type;
	attention_backward(k->team, &shape, values(k, c, 0, 0),
			   values(k, c, 0, k->width),
			   values(k, c, 0, 2 * k->width), values(k, c, 1, 0),
			   k->lse, values(k, c, 2, 0), values(k, c, 3, 0),
			   values(k, c, 3, k->width),
			   values(k, c, 3, 2 * k->width), NULL, k->scratch);
}

static void run_layernorm(struct kernels *k, const struct kernel_case *c)
{
	layernorm_forward(k->team, c->type, k->tokens, k->width, 1e-5f,
			  values(k, c, 0, 0), k->small[0], k->small[1],
			  values(k, c, 1, 0), k->small[2], k->small[3]);
}

static void run_layernorm_input(struct kernels *k, const struct kernel_case *c)
{
	layernorm_backward_input(k->team, c->type, k->tokens, k->width,
				 values(k, c, 0, 0), values(k, c, 1, 0),
				 k->small[0], k->small[2], k->small[3],
				 values(k, c, 2, 0), false);
}

static void run_layernorm_weight(struct kernels *k, const struct kernel_case *c)
{
	layernorm_backward_weight(k->team, c->type, k->tokens, k->width,
				  values(k, c, 0, 0), values(k, c, 1, 0),
				  k->small[2], k->small[3], k->small[0],
				  k->small[1], k->scratch);
}

static void run_bias(struct kernels *k, const struct kernel_case *c)
{
	bias_backward(k->team, c->type, k->tokens, 4 * k->width, 4 * k->width,
		      values(k, c, 0, 0), k->small[0], k->scratch);
}

static void run_gelu(struct kernels *k, const struct kernel_case *c)
{
	gelu_forward(k->team, c->type, k->tokens * 4 * k->width,
		     values(k, c, 0, 0), values(k, c, 1, 0));
}

static void run_gelu_backward(struct kernels *k, const struct kernel_case *c)
{
	gelu_backward(k->team, c->type, k->tokens * 4 * k->width,
		      values(k, c, 0, 0), values(k, c, 1, 0),
		      values(k, c, 2, 0));
}

static void run_rmsnorm(struct kernels *k, const struct kernel_case *c)
{
	rmsnorm_forward(k->team, c->type, k->tokens, k->width, 1e-5f,
			values(k, c, 0, 0), k->small[0], values(k, c, 1, 0),
			k->small[3]);
}

static void run_rmsnorm_input(struct kernels *k, const struct kernel_case *c)
{
	rmsnorm_backward_input(k->team, c->type, k->tokens, k->width,
			       values(k, c, 0, 0), values(k, c, 1, 0),
			       k->small[0], k->small[3], values(k, c, 2, 0),
			       false);
}

static void run_rmsnorm_weight(struct kernels *k, const struct kernel_case *c)
{
	rmsnorm_backward_weight(k->team, c->type, k->tokens, k->width,
				values(k, c, 0, 0), values(k, c, 1, 0),
				k->small[3], k->small[0], k->scratch);
}

static void run_swiglu(struct kernels *k, const struct kernel_case *c)
{
	swiglu_forward(k->team, c->type, k->tokens, 2 * k->width,
		       values(k, c, 0, 0), values(k, c, 1, 0));
}

static void run_swiglu_backward(struct kernels *k, const struct kernel_case *c)
{
	swiglu_backward(k->team, c->type, k->tokens, 2 * k->width,
			values(k, c, 0, 0), values(k, c, 1, 0),
			values(k, c, 2, 0));
}

static void run_rope(struct kernels *k, const struct kernel_case *c)
{
	struct rope_shape shape = {.type = c->type,
				   .batch = k->batch,
				   .time = k->time,
				   .heads = k->heads,
				   .kv_heads = k->heads,
				   .head_size = k->width / k->heads};

	rope_forward(k->team, k->rope, &shape, values(k, c, 0, 0),
		     values(k, c, 1, 0), k->scratch);
}

static void run_residual(struct kernels *k, const struct kernel_case *c)
{
	values_add(k->team, c->type, k->tokens * k->width, values(k, c, 0, 0),
		   values(k, c, 1, 0), values(k, c, 2, 0));
}

static void run_cross_entropy(struct kernels *k, const struct kernel_case *c)
{
	/* A gradient as logits: flat, which costs the same. */
	cross_entropy_forward_backward(k->team, k->chunk, k->vocab, k->vocab,
				       k->labels, 1e-3f, c->type, k->array[0],
				       k->losses);
}

static void run_embedding(struct kernels *k, const struct kernel_case *c)
{
	embedding_forward(k->team, c->type, k->batch, k->time, k->width,
			  k->labels, 0, NULL, values(k, c, 0, 0),
			  values(k, c, 1, 0), values(k, c, 2, 0));
}

static void run_embedding_weight(struct kernels *k, const struct kernel_case *c)
{
	embedding_backward_weight(k->team, c->type, k->batch, k->time, k->width,
				  k->labels, 0, NULL, values(k, c, 2, 0),
				  k->array[0], k->array[1]);
}

static void run_norm(struct kernels *k, const struct kernel_case *c)
{
	(void)c;
	k->losses[0] = square_sum(k->team, k->floats, k->array[1], k->scratch);
}

static void run_accumulate(struct kernels *k, const struct kernel_case *c)
{
	(void)c;
	elementwise_accumulate(k->team, k->floats, k->array[1], k->array[0]);
}

static void update_adamw(struct kernels *k, bfloat16 *copy)
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
		.zero_gradients = true,
	};

	adamw_update(k->team, &adamw, k->floats, k->array[0], k->array[1],
		     k->array[2], k->array[3], copy);
}

static void run_adamw(struct kernels *k, const struct kernel_case *c)
{
	(void)c;
	update_adamw(k, NULL);
}

static void run_adamw_bfloat16(struct kernels *k, const struct kernel_case *c)
{
	(void)c;
	update_adamw(k, k->narrow[0]);
}

/* ---- the list of them ---- */

#define CASES_MAX 96

struct case_list {
	unsigned count;
	struct kernel_case cases[CASES_MAX];
};

static void add(struct case_list *list, const char *name, double flops,
		double bytes,
		void (*run)(struct kernels *, const struct kernel_case *))
{
	ASSERT(list->count < CASES_MAX);
	list->cases[list->count++] = (struct kernel_case){
		.name = name, .flops = flops, .bytes = bytes, .run = run};
}

static void add_product(struct case_list *list, const char *name,
			enum gemm_transpose transpose_a,
			enum gemm_transpose transpose_b, size_t m, size_t n,
			size_t k, float beta)
{
	double dm = (double)m, dn = (double)n, dk = (double)k;
	struct kernel_case *c;

	add(list, name, 2 * dm * dn * dk,
	    4 * (dm * dk + dk * dn + dm * dn * (1 + (double)beta)),
	    run_product);
	c = &list->cases[list->count - 1];
	c->transpose_a = transpose_a;
	c->transpose_b = transpose_b;
	c->m = m;
	c->n = n;
	c->k = k;
	c->beta = beta;
}

/* The same of bfloat16. */
static void add_narrow(struct case_list *list, const char *name,
		       enum gemm_transpose transpose_a,
		       enum gemm_transpose transpose_b, size_t m, size_t n,
		       size_t k, float beta, enum element_type c_type)
{
	double dm = (double)m, dn = (double)n, dk = (double)k;
	double size = (double)element_type_bytes(c_type);
	struct kernel_case *c;

	add_product(list, name, transpose_a, transpose_b, m, n, k, beta);
	c = &list->cases[list->count - 1];
	c->run = run_product_bfloat16;
	c->bytes =
		2 * (dm * dk + dk * dn) + size * dm * dn * (1 + (double)beta);
	c->narrow = true;
	c->c_type = c_type;
}

/* A linear layer's three, weights stored [in, out]. */
static void add_linear(struct case_list *list, const char *const names[3],
		       size_t rows, size_t in, size_t out)
{
	add_product(list, names[0], GEMM_NORMAL, GEMM_NORMAL, rows, out, in, 0);
	add_product(list, names[1], GEMM_NORMAL, GEMM_TRANSPOSED, rows, in, out,
		    0);
	add_product(list, names[2], GEMM_TRANSPOSED, GEMM_NORMAL, in, out, rows,
		    1);
}

static void add_linear_narrow(struct case_list *list,
			      const char *const names[3], size_t rows,
			      size_t in, size_t out)
{
	add_narrow(list, names[0], GEMM_NORMAL, GEMM_NORMAL, rows, out, in, 0,
		   ELEMENT_BF16);
	add_narrow(list, names[1], GEMM_NORMAL, GEMM_TRANSPOSED, rows, in, out,
		   0, ELEMENT_BF16);
	add_narrow(list, names[2], GEMM_TRANSPOSED, GEMM_NORMAL, in, out, rows,
		   1, ELEMENT_F32);
}

static void add_products_narrow(struct case_list *list, const struct kernels *k)
{
	static const char *const qkv[] = {"bf16 qkv", "bf16 qkv I",
					  "bf16 qkv W"};
	static const char *const out[] = {
		"bf16 projection", "bf16 projection I", "bf16 projection W"};
	static const char *const up[] = {"bf16 mlp up", "bf16 mlp up I",
					 "bf16 mlp up W"};
	static const char *const down[] = {"bf16 mlp down", "bf16 mlp down I",
					   "bf16 mlp down W"};
	size_t c = k->width;

	add_linear_narrow(list, qkv, k->tokens, c, 3 * c);
	add_linear_narrow(list, out, k->tokens, c, c);
	add_linear_narrow(list, up, k->tokens, c, 4 * c);
	add_linear_narrow(list, down, k->tokens, 4 * c, c);
	add_narrow(list, "bf16 head", GEMM_NORMAL, GEMM_TRANSPOSED, k->chunk,
		   k->vocab, c, 0, ELEMENT_F32);
	add_narrow(list, "bf16 head I", GEMM_NORMAL, GEMM_NORMAL, k->chunk, c,
		   k->vocab, 0, ELEMENT_BF16);
	add_narrow(list, "bf16 head W", GEMM_TRANSPOSED, GEMM_NORMAL, k->vocab,
		   c, k->chunk, 1, ELEMENT_F32);
}

static void add_products(struct case_list *list, const struct kernels *k)
{
	static const char *const qkv[] = {"qkv", "qkv I", "qkv W"};
	static const char *const out[] = {"projection", "projection I",
					  "projection W"};
	static const char *const up[] = {"mlp up", "mlp up I", "mlp up W"};
	static const char *const down[] = {"mlp down", "mlp down I",
					   "mlp down W"};
	size_t c = k->width;

	add_linear(list, qkv, k->tokens, c, 3 * c);
	add_linear(list, out, k->tokens, c, c);
	add_linear(list, up, k->tokens, c, 4 * c);
	add_linear(list, down, k->tokens, 4 * c, c);
	add_product(list, "head", GEMM_NORMAL, GEMM_TRANSPOSED, k->chunk,
		    k->vocab, c, 0);
	add_product(list, "head I", GEMM_NORMAL, GEMM_NORMAL, k->chunk, c,
		    k->vocab, 0);
	add_product(list, "head W", GEMM_TRANSPOSED, GEMM_NORMAL, k->vocab, c,
		    k->chunk, 1);
	add_product(list, "one token, mlp up", GEMM_NORMAL, GEMM_NORMAL, 1,
		    4 * c, c, 0);
	add_product(list, "one token, head", GEMM_NORMAL, GEMM_TRANSPOSED, 1,
		    k->vocab, c, 0);
	list->cases[list->count - 2].reads = true;
	list->cases[list->count - 1].reads = true;
}

/* What computes with values of one type. */
static void add_typed(struct case_list *list, const struct kernels *k,
		      enum element_type type)
{
	double values = (double)(k->tokens * k->width);
	double pairs = (double)k->time * (double)(k->time + 1) / 2 *
		       (double)(k->batch * k->width);
	double bytes = values * (double)element_type_bytes(type);
	unsigned first = list->count;

	add(list, "attention", 4 * pairs, 4 * bytes, run_attention);
	add(list, "attention I", 10 * pairs, 8 * bytes, run_attention_backward);
	add(list, "layernorm", 0, 2 * bytes, run_layernorm);
	add(list, "layernorm I", 0, 3 * bytes, run_layernorm_input);
	add(list, "layernorm W", 0, 2 * bytes, run_layernorm_weight);
	add(list, "bias W", 0, 4 * bytes, run_bias);
	add(list, "gelu", 0, 8 * bytes, run_gelu);
	add(list, "gelu I", 0, 12 * bytes, run_gelu_backward);
	add(list, "rmsnorm", 0, 2 * bytes, run_rmsnorm);
	add(list, "rmsnorm I", 0, 3 * bytes, run_rmsnorm_input);
	add(list, "rmsnorm W", 0, 2 * bytes, run_rmsnorm_weight);
	add(list, "swiglu", 0, 6 * bytes, run_swiglu);
	add(list, "swiglu I", 0, 10 * bytes, run_swiglu_backward);
	if (k->rope)
		add(list, "rope", 0, 6 * bytes, run_rope);
	add(list, "residual", 0, 3 * bytes, run_residual);
	add(list, "cross-entropy", 0,
	    (double)(k->chunk * k->vocab) *
		    (double)(4 + element_type_bytes(type)),
	    run_cross_entropy);
	add(list, "embedding", 0, 3 * bytes, run_embedding);
	add(list, "embedding W", 0, bytes + 16 * values, run_embedding_weight);
	for (unsigned i = first; i < list->count; i++)
		list->cases[i].type = type;
}

static void add_others(struct case_list *list, const struct kernels *k)
{
	double all = (double)k->floats;

	add_typed(list, k, ELEMENT_F32);
	add_typed(list, k, ELEMENT_BF16);
	add(list, "gradient norm", 0, 4 * all, run_norm);
	list->cases[list->count - 1].reads = true;
	add(list, "accumulate", 0, 12 * all, run_accumulate);
	add(list, "adamw", 0, 32 * all, run_adamw);
	add(list, "adamw, bf16 copy", 0, 34 * all, run_adamw_bfloat16);
}

/* ---- memory ---- */

static void *piece(size_t bytes)
{
	return aligned_alloc(CACHE_LINE_BYTES, (bytes + CACHE_LINE_BYTES) /
						       CACHE_LINE_BYTES *
						       CACHE_LINE_BYTES);
}

static size_t scratch_bytes(const struct kernels *k, unsigned threads)
{
	struct attention_shape attention = k->attention;
	size_t most = attention_scratch_bytes(&attention, true, threads);

	attention.type = ELEMENT_BF16;
	most = MAX(most, attention_scratch_bytes(&attention, true, threads));

	most = MAX(most, layernorm_backward_weight_scratch_bytes(k->tokens,
								 k->width));
	most = MAX(most,
		   rmsnorm_backward_weight_scratch_bytes(k->tokens, k->width));
	most = MAX(most, rope_scratch_bytes(k->width / k->heads, threads));
	most = MAX(most, bias_backward_scratch_bytes(k->tokens, 4 * k->width));
	return MAX(most, square_sum_scratch_bytes(k->floats));
}

static void fill_task(void *argument, size_t index, unsigned thread)
{
	struct kernels *k = argument;
	float *array = k->array[index];

	(void)thread;
	for (size_t i = 0; i < k->floats; i++)
		array[i] = (float)(i % 977) * 1e-3f;
	values_row_round(k->floats, array, k->narrow[index]);
}

static int create_rope(struct kernels *k)
{
	struct rope_config config = {.kind = ROPE_DEFAULT,
				     .positions = (unsigned)k->time,
				     .theta = 10000};
	size_t head_size = k->width / k->heads;

	if (head_size % 2)
		return 0;
	return rope_create(&config, head_size, k->time, &k->rope);
}

static int create(struct kernels *k, unsigned threads)
{
	size_t small = MAX(4 * k->width, k->tokens);
	bool complete = true;

	k->floats = MAX(k->vocab * k->width,
			MAX(k->tokens * 4 * k->width, k->chunk * k->vocab));
	k->floats = MAX(k->floats, 4 * k->width * k->width);
	for (unsigned i = 0; i < 4; i++) {
		k->array[i] = piece(k->floats * sizeof(float));
		k->narrow[i] = piece(k->floats * sizeof(bfloat16));
		k->small[i] = piece(small * sizeof(float));
		complete =
			complete && k->array[i] && k->narrow[i] && k->small[i];
		for (size_t j = 0; complete && j < small; j++)
			k->small[i][j] = 0.5f;
	}
	k->lse = piece(k->tokens * k->heads * sizeof(float));
	k->scratch = piece(scratch_bytes(k, threads));
	k->labels = piece(k->tokens * sizeof(*k->labels));
	k->losses = piece(k->tokens * sizeof(*k->losses));
	if (!complete || !k->lse || !k->scratch || !k->labels || !k->losses)
		return fail(-ENOMEM, "no memory for kernels of this size");
	threads_run(k->team, 4, fill_task, k);
	for (size_t i = 0; i < k->tokens; i++)
		k->labels[i] = (int32_t)(i * 31 % k->vocab);
	return create_rope(k);
}

static void destroy(struct kernels *k)
{
	for (unsigned i = 0; i < 4; i++) {
		free(k->array[i]);
		free(k->narrow[i]);
		free(k->small[i]);
	}
	free(k->lse);
	free(k->scratch);
	free(k->labels);
	free(k->losses);
	rope_destroy(k->rope);
}

/* ---- measuring ---- */

#define RUN_NS (10 * NS_PER_MS)

static double seconds_of(struct kernels *k, const struct kernel_case *c)
{
	int64_t begin = clock_now_ns(), now;
	unsigned runs = 0;

	do {
		c->run(k, c);
		runs++;
		now = clock_now_ns();
	} while (now < begin + RUN_NS);
	return clock_seconds(now - begin) / runs;
}

struct score {
	double seconds[BENCH_LIMITS_ROUNDS_MAX];
	double share[BENCH_LIMITS_ROUNDS_MAX]; /* of the limit */
	bool by_memory;                        /* in most rounds */
};

static double limit_of(const struct kernel_case *c,
		       const struct bench_limits *limits, bool *by_memory)
{
	double compute =
		c->flops * 1e-9 /
		(c->narrow ? limits->products_bfloat16 : limits->products);
	double memory =
		c->bytes * 1e-9 / (c->reads ? limits->read : limits->update);

	*by_memory = memory > compute;
	return MAX(memory, compute);
}

static void print_line(const struct kernel_case *c, const struct score *score,
		       double seconds, double share, bool json)
{
	double rate = (score->by_memory ? c->bytes : c->flops) / seconds * 1e-9;
	const char *bound = score->by_memory ? "memory" : "products";
	const char *type = c->type == ELEMENT_BF16 ? "bf16 " : "";

	if (json)
		printf("{\"kernel\":\"%s%s\",\"seconds\":%.6g,\"gflop\":%.6g,"
		       "\"gb\":%.6g,\"bound\":\"%s\",\"of_limit\":%.4g}\n",
		       type, c->name, seconds, c->flops * 1e-9, c->bytes * 1e-9,
		       bound, share);
	else
		printf("%s%-*s %10.3f ms %8.1f %-8s %6.2f of %s\n", type,
		       (int)(20 - strlen(type)), c->name, seconds * 1e3, rate,
		       score->by_memory ? "GB/s" : "GFLOP/s", share, bound);
}

static void measure(struct kernels *k, const struct case_list *list,
		    struct score *scores, struct bench_limits_memory *memory,
		    unsigned rounds, bool json)
{
	double products[BENCH_LIMITS_ROUNDS_MAX],
		narrow[BENCH_LIMITS_ROUNDS_MAX];
	double update[BENCH_LIMITS_ROUNDS_MAX], read[BENCH_LIMITS_ROUNDS_MAX];
	struct bench_limits limits;

	for (unsigned i = 0; i < list->count; i++)
		list->cases[i].run(k, &list->cases[i]);
	for (unsigned round = 0; round < rounds; round++) {
		bench_limits_measure(memory, &limits);
		products[round] = limits.products;
		narrow[round] = limits.products_bfloat16;
		update[round] = limits.update;
		read[round] = limits.read;
		for (unsigned i = 0; i < list->count; i++) {
			const struct kernel_case *c = &list->cases[i];
			double seconds = seconds_of(k, c);

			scores[i].seconds[round] = seconds;
			scores[i].share[round] =
				limit_of(c, &limits, &scores[i].by_memory) /
				seconds;
		}
	}
	if (!json)
		printf("%u threads, products: %s, %.1f GFLOP/s; of bfloat16: "
		       "%s, %.1f GFLOP/s; memory read %.1f GB/s, updated %.1f "
		       "GB/s\n\n",
		       threads_count(k->team), gemm_library_core(),
		       numbers_median(products, rounds),
		       gemm_bfloat16_library(), numbers_median(narrow, rounds),
		       numbers_median(read, rounds),
		       numbers_median(update, rounds));
	for (unsigned i = 0; i < list->count; i++)
		print_line(&list->cases[i], &scores[i],
			   numbers_median(scores[i].seconds, rounds),
			   numbers_median(scores[i].share, rounds), json);
}

static int run(struct kernels *k, const struct options *options)
{
	unsigned rounds = (unsigned)options_integer(options, "rounds");
	struct case_list *list = calloc(1, sizeof(*list));
	struct score *scores = calloc(CASES_MAX, sizeof(*scores));
	struct bench_limits_memory *memory = NULL;
	int rc = -ENOMEM;

	if (list && scores)
		rc = bench_limits_create(k->team, &memory);
	if (!rc)
		rc = create(k, threads_count(k->team));
	if (!rc) {
		add_products(list, k);
		add_products_narrow(list, k);
		add_others(list, k);
		measure(k, list, scores, memory, rounds,
			options_flag(options, "json"));
	}
	bench_limits_destroy(memory);
	destroy(k);
	free(list);
	free(scores);
	return rc;
}

int bench_kernels_run(const struct options *options)
{
	struct kernels k = {
		.batch = (size_t)options_integer(options, "micro-batch-size"),
		.time = (size_t)options_integer(options, "context"),
		.width = (size_t)options_integer(options, "width"),
		.heads = (size_t)options_integer(options, "heads"),
		.vocab = (size_t)options_integer(options, "vocab-size"),
	};
	int cores[THREADS_MAX];
	unsigned available = threads_available_cores(cores, THREADS_MAX);
	unsigned threads =
		options_is_set(options, "threads")
			? (unsigned)options_integer(options, "threads")
			: MIN(available, (unsigned)THREADS_MAX);
	int rc;

	if (k.width % k.heads) {
		log_error("--heads must divide --width");
		return 2;
	}
	k.tokens = k.batch * k.time;
	k.chunk = MIN(k.tokens, (size_t)CHUNK);
	k.attention = attention_shape_packed(k.batch, k.time, k.heads,
					     k.width / k.heads);
	threads_set_float_state();
	rc = threads_create(threads, threads <= available ? cores : NULL,
			    &k.team);
	if (rc)
		return 1;
	rc = run(&k, options);
	threads_destroy(k.team);
	return rc ? 1 : 0;
}
