/*
 * Runs each kernel once, on one thread, each from a function of its own. For
 * test-kernel-counts.sh, which has callgrind count what they take. Prints which
 * vectors the processor has and which kernels the library chose, then each
 * function with the number of elements its count is divided by.
 */
#include "base/threads.h"
#include "model/kernels/activation.h"
#include "model/kernels/attention.h"
#include "model/kernels/bias.h"
#include "model/kernels/cross_entropy.h"
#include "model/kernels/gemm.h"
#include "model/kernels/layernorm.h"
#include "model/kernels/optimizer.h"
#include "model/kernels/reference.h"

#include <stdio.h>
#include <stdlib.h>

#define ROWS     64
#define CHANNELS 192
#define COUNT    (ROWS * CHANNELS * 4)

struct runs {
	struct threads *team;
	float *array[4]; /* [COUNT] */
	void *scratch;
};

static void run_product(struct runs *r)
{
	gemm(r->team, GEMM_NORMAL, GEMM_NORMAL, ROWS, 4 * CHANNELS, CHANNELS,
	     r->array[0], CHANNELS, r->array[1], 4 * CHANNELS, 0.0f,
	     r->array[2], 4 * CHANNELS, NULL);
}

static void run_product_transposed(struct runs *r)
{
	gemm(r->team, GEMM_NORMAL, GEMM_TRANSPOSED, ROWS, CHANNELS, CHANNELS,
	     r->array[0], CHANNELS, r->array[1], CHANNELS, 0.0f, r->array[2],
	     CHANNELS, NULL);
}

static void run_attention(struct runs *r)
{
	struct attention_shape shape = attention_shape_packed(1, ROWS, 3, 64);

	attention_forward(r->team, &shape, r->array[0], r->array[0] + CHANNELS,
			  r->array[0] + 2 * CHANNELS, r->array[1], r->array[3],
			  NULL, r->scratch);
}

static void run_layernorm(struct runs *r)
{
	layernorm_forward(r->team, ELEMENT_F32, ROWS, CHANNELS, 1e-5f,
			  r->array[0], r->array[1], r->array[1], r->array[2],
			  r->array[3], r->array[3] + ROWS);
}

static void run_gelu(struct runs *r)
{
	gelu_forward(r->team, ELEMENT_F32, COUNT, r->array[0], r->array[1]);
}

/* The planted fault: the same values, one at a time. */
static void run_gelu_scalar(struct runs *r)
{
	for (size_t i = 0; i < COUNT; i++)
		r->array[1][i] = (float)gelu_reference((double)r->array[0][i]);
}

static void run_rmsnorm(struct runs *r)
{
	rmsnorm_forward(r->team, ELEMENT_F32, ROWS, CHANNELS, 1e-5f,
			r->array[0], r->array[1], r->array[2], r->array[3]);
}

static void run_swiglu(struct runs *r)
{
	swiglu_forward(r->team, ELEMENT_F32, ROWS, 2 * CHANNELS, r->array[0],
		       r->array[1]);
}

static void run_cross_entropy(struct runs *r)
{
	static const int32_t labels[4] = {1, 2, 3, 4};
	double losses[4];

	cross_entropy_forward_backward(r->team, 4, COUNT / 4, COUNT / 4, labels,
				       1e-3f, ELEMENT_F32, r->array[0], losses);
}

/* The same of bfloat16 values, which the floats' memory is taken for. */

static void run_layernorm_bfloat16(struct runs *r)
{
	layernorm_forward(r->team, ELEMENT_BF16, ROWS, CHANNELS, 1e-5f,
			  r->array[0], r->array[1], r->array[1], r->array[2],
			  r->array[3], r->array[3] + ROWS);
}

static void run_layernorm_input_bfloat16(struct runs *r)
{
	layernorm_backward_input(r->team, ELEMENT_BF16, ROWS, CHANNELS,
				 r->array[0], r->array[1], r->array[1],
				 r->array[3], r->array[3] + ROWS, r->array[2],
				 true);
}

static void run_gelu_bfloat16(struct runs *r)
{
	gelu_forward(r->team, ELEMENT_BF16, COUNT, r->array[0], r->array[1]);
}

static void run_gelu_backward_bfloat16(struct runs *r)
{
	gelu_backward(r->team, ELEMENT_BF16, COUNT, r->array[0], r->array[1],
		      r->array[2]);
}

static void run_swiglu_bfloat16(struct runs *r)
{
	swiglu_forward(r->team, ELEMENT_BF16, ROWS, 2 * CHANNELS, r->array[0],
		       r->array[1]);
}

static void run_swiglu_backward_bfloat16(struct runs *r)
{
	swiglu_backward(r->team, ELEMENT_BF16, ROWS, CHANNELS, r->array[0],
			r->array[1], r->array[2]);
}

static void run_bias_bfloat16(struct runs *r)
{
	bias_backward(r->team, ELEMENT_BF16, ROWS, CHANNELS, CHANNELS,
		      r->array[0], r->array[1], r->scratch);
}

static void run_cross_entropy_bfloat16(struct runs *r)
{
	static const int32_t labels[4] = {1, 2, 3, 4};
	double losses[4];

	cross_entropy_forward_backward(r->team, 4, COUNT / 4, COUNT / 4, labels,
				       1e-3f, ELEMENT_BF16, r->array[0],
				       losses);
}

static void run_adamw(struct runs *r)
{
	static const struct adamw adamw = {.learning_rate = 1e-4,
					   .beta1 = 0.9,
					   .beta2 = 0.999,
					   .epsilon = 1e-8,
					   .bias_correction1 = 0.5,
					   .bias_correction2 = 0.5,
					   .gradient_scale = 1.0f};

	adamw_update(r->team, &adamw, COUNT, r->array[0], r->array[1],
		     r->array[2], r->array[3], NULL);
}

#define NAMED(function) #function, function

static const struct {
	const char *name;
	void (*run)(struct runs *r);
	double elements;
} kernels[] = {
	{NAMED(run_product), (double)(ROWS * 4 * CHANNELS * CHANNELS)},
	{NAMED(run_product_transposed), (double)(ROWS *CHANNELS *CHANNELS)},
	{NAMED(run_attention), (double)(ROWS *ROWS *CHANNELS)},
	{NAMED(run_layernorm), (double)(ROWS *CHANNELS)},
	{NAMED(run_rmsnorm), (double)(ROWS *CHANNELS)},
	{NAMED(run_gelu), COUNT},
	{NAMED(run_gelu_scalar), COUNT},
	{NAMED(run_swiglu), (double)(ROWS * 2 * CHANNELS)},
	{NAMED(run_cross_entropy), COUNT},
	{NAMED(run_layernorm_bfloat16), (double)(ROWS *CHANNELS)},
	{NAMED(run_layernorm_input_bfloat16), (double)(ROWS *CHANNELS)},
	{NAMED(run_gelu_bfloat16), COUNT},
	{NAMED(run_gelu_backward_bfloat16), COUNT},
	{NAMED(run_swiglu_bfloat16), (double)(ROWS * 2 * CHANNELS)},
	{NAMED(run_swiglu_backward_bfloat16), (double)(ROWS *CHANNELS)},
	{NAMED(run_bias_bfloat16), (double)(ROWS *CHANNELS)},
	{NAMED(run_cross_entropy_bfloat16), COUNT},
	{NAMED(run_adamw), COUNT},
};

static int prepare(struct runs *r)
{
	if (threads_create(1, NULL, &r->team) || gemm_prepare(r->team))
		return -1;
	for (unsigned i = 0; i < 4; i++) {
		r->array[i] = aligned_alloc(64, COUNT * sizeof(float));
		if (!r->array[i])
			return -1;
		for (size_t j = 0; j < COUNT; j++)
			r->array[i][j] = (float)(j % 7) * 0.1f;
	}
	r->scratch = aligned_alloc(64, (size_t)1 << 20);
	return r->scratch ? 0 : -1;
}

/* What the loader chose among the clones of our loops. */
static const char *vectors(void)
{
#if defined(__x86_64__)
	__builtin_cpu_init();
	if (__builtin_cpu_supports("avx512f"))
		return "avx512";
	if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
		return "avx2";
#endif
	return "none";
}

int main(void)
{
	struct runs r = {0};

	if (prepare(&r))
		return 1;
	printf("%s %s\n", vectors(), gemm_library_core());
	for (size_t i = 0; i < ARRAY_SIZE(kernels); i++) {
		kernels[i].run(&r);
		printf("%s %.0f\n", kernels[i].name, kernels[i].elements);
	}
	return 0;
}
