/*
 * Products and attention against the limit measured in the same run: what the
 * library's own sgemm reaches when every thread of the team multiplies
 * whole, untiled matrices of the same shape for itself. Interleaved, medians.
 *
 *   bench-kernels [ROUNDS]
 */
#include "base/clock.h"
#include "base/text.h"
#include "base/threads.h"
#include "model/kernels/attention.h"
#include "model/kernels/dropout.h"
#include "model/kernels/gemm.h"
#include "model/kernels/numerics.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEAM_MAX   2
#define ROUNDS_MAX 99

struct product {
	const char *name;
	enum gemm_transpose transpose_a, transpose_b;
	size_t m, n, k;
	float beta;
};

#define N GEMM_NORMAL
#define T GEMM_TRANSPOSED
static const struct product products[] = {
	{"qkv", N, N, 256, 2304, 768, 0},
	{"proj", N, N, 256, 768, 768, 0},
	{"mlp up", N, N, 256, 3072, 768, 0},
	{"mlp down", N, N, 256, 768, 3072, 0},
	{"qkv dx", N, T, 256, 768, 2304, 0},
	{"proj dx", N, T, 256, 768, 768, 0},
	{"mlp up dx", N, T, 256, 768, 3072, 0},
	{"mlp down dx", N, T, 256, 3072, 768, 0},
	{"qkv dW", T, N, 768, 2304, 256, 1},
	{"proj dW", T, N, 768, 768, 256, 1},
	{"mlp up dW", T, N, 768, 3072, 256, 1},
	{"mlp down dW", T, N, 3072, 768, 256, 1},
	{"head", N, T, 256, 50257, 768, 0},
	{"head dx", N, N, 256, 768, 50257, 0},
	{"head dW", T, N, 50257, 768, 256, 1},
	{"qkv", N, N, 1024, 2304, 768, 0},
	{"proj", N, N, 1024, 768, 768, 0},
	{"mlp up", N, N, 1024, 3072, 768, 0},
	{"mlp down", N, N, 1024, 768, 3072, 0},
	{"mlp up dx", N, T, 1024, 768, 3072, 0},
	{"mlp down dx", N, T, 1024, 3072, 768, 0},
	{"proj dW", T, N, 768, 768, 1024, 1},
	{"mlp up dW", T, N, 768, 3072, 1024, 1},
	{"small up", N, N, 256, 1024, 256, 0},
	{"small proj", N, N, 256, 256, 256, 0},
	{"tiny", N, N, 64, 256, 64, 0},
};
#undef N
#undef T

static const struct attention_case {
	size_t batch, time, heads, size;
	float dropout;
} attentions[] = {
	{4, 256, 12, 64, 0.0f},  {1, 256, 12, 64, 0.0f},
	{1, 1024, 12, 64, 0.0f}, {1, 1024, 12, 64, 0.1f},
	{8, 256, 4, 64, 0.0f},   {8, 64, 4, 16, 0.0f},
};

struct bench {
	struct threads *team[TEAM_MAX];
	int rounds;
	float *a, *b, *c[TEAM_MAX];
	double limit[TEAM_MAX]; /* GFLOP/s of a plain large product */
};

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double median(double *values, int count)
{
	qsort(values, (size_t)count, sizeof(*values), compare_doubles);
	return values[count / 2];
}

/* ---- products ---- */

struct whole {
	const struct product *product;
	struct bench *bench;
};

static size_t lda_of(const struct product *p)
{
	return p->transpose_a == GEMM_TRANSPOSED ? p->m : p->k;
}

static size_t ldb_of(const struct product *p)
{
	return p->transpose_b == GEMM_TRANSPOSED ? p->k : p->n;
}

static void whole_task(void *argument, size_t index, unsigned thread)
{
	const struct whole *whole = argument;
	const struct product *p = whole->product;

	(void)index;
	gemm_block(p->transpose_a, p->transpose_b, p->m, p->n, p->k, 1.0f,
		   whole->bench->a, lda_of(p), whole->bench->b, ldb_of(p),
		   p->beta, whole->bench->c[thread], p->n);
}

static double flops_of(const struct product *p)
{
	return 2.0 * (double)p->m * (double)p->n * (double)p->k;
}

/* GFLOP/s of `repeats` whole products on each thread. */
static double measure_limit(struct bench *bench, const struct product *p,
			    unsigned threads, int repeats)
{
	struct whole whole = {p, bench};
	int64_t start = clock_now_ns();

	for (int i = 0; i < repeats; i++)
		threads_run_each(bench->team[threads - 1], whole_task, &whole);
	return flops_of(p) * threads * repeats /
	       (double)(clock_now_ns() - start);
}

static double measure_ours(struct bench *bench, const struct product *p,
			   unsigned threads, int repeats)
{
	int64_t start = clock_now_ns();

	for (int i = 0; i < repeats; i++)
		gemm(bench->team[threads - 1], p->transpose_a, p->transpose_b,
		     p->m, p->n, p->k, bench->a, lda_of(p), bench->b, ldb_of(p),
		     p->beta, bench->c[0], p->n, NULL);
	return flops_of(p) * repeats / (double)(clock_now_ns() - start);
}

static void bench_product(struct bench *bench, const struct product *p)
{
	struct gemm_tile tile = gemm_tile_size(p->m, p->n, p->k);
	int repeats = 1 + (int)(4e8 / flops_of(p));
	char shape[40], tiles[24];

	snprintf(shape, sizeof(shape), "%zux%zux%zu %c%c", p->m, p->n, p->k,
		 p->transpose_a == GEMM_TRANSPOSED ? 'T' : 'N',
		 p->transpose_b == GEMM_TRANSPOSED ? 'T' : 'N');
	snprintf(tiles, sizeof(tiles), "%zux%zu", tile.rows, tile.columns);
	printf("%-12s %-20s %-9s", p->name, shape, tiles);
	for (unsigned threads = 1; threads <= TEAM_MAX; threads++) {
		double limit[ROUNDS_MAX], ours[ROUNDS_MAX], ratio[ROUNDS_MAX];

		for (int i = -1; i < bench->rounds; i++) {
			double x = measure_limit(bench, p, threads, repeats);
			double y = measure_ours(bench, p, threads, repeats);

			if (i < 0) /* warm-up */
				continue;
			limit[i] = x;
			ours[i] = y;
			ratio[i] = y / x;
		}
		printf("  %6.1f %6.1f %5.3f", median(limit, bench->rounds),
		       median(ours, bench->rounds),
		       median(ratio, bench->rounds));
	}
	printf("\n");
	fflush(stdout);
}

/* ---- attention ---- */

struct attention_memory {
	struct attention_shape shape;
	struct dropout dropout;
	float *qkv, *gradient, *out, *dout, *lse;
	void *scratch;
};

static void attention_once(struct bench *bench, struct attention_memory *m,
			   unsigned threads, bool backward)
{
	struct threads *team = bench->team[threads - 1];
	size_t c = m->shape.heads * m->shape.head_size;

	if (!backward)
		attention_forward(team, &m->shape, m->qkv, m->qkv + c,
				  m->qkv + 2 * c, m->out, m->lse, &m->dropout,
				  m->scratch);
	else
		attention_backward(
			team, &m->shape, m->qkv, m->qkv + c, m->qkv + 2 * c,
			m->out, m->lse, m->dout, m->gradient, m->gradient + c,
			m->gradient + 2 * c, &m->dropout, m->scratch);
}

/* Ratio to a large product's rate, of the causal half's operations. */
static void bench_attention_pass(struct bench *bench,
				 struct attention_memory *m, bool backward)
{
	const struct product large = {
		"", GEMM_NORMAL, GEMM_NORMAL, 512, 1024, 768, 0};
	double time = (double)m->shape.time_q;
	double flops =
		(backward ? 10.0 : 4.0) * 0.5 * time * (time + 1.0) *
		(double)(m->shape.batch * m->shape.heads * m->shape.head_size);
	int repeats = 1 + (int)(2e8 / flops);

	for (unsigned threads = 1; threads <= TEAM_MAX; threads++) {
		double rate[ROUNDS_MAX], ratio[ROUNDS_MAX];

		attention_once(bench, m, threads, backward);
		for (int i = 0; i < bench->rounds; i++) {
			double limit = measure_limit(bench, &large, threads, 1);
			int64_t start = clock_now_ns();

			for (int j = 0; j < repeats; j++)
				attention_once(bench, m, threads, backward);
			rate[i] = flops * repeats /
				  (double)(clock_now_ns() - start);
			ratio[i] = rate[i] / limit;
		}
		printf("  %6.1f %5.3f", median(rate, bench->rounds),
		       median(ratio, bench->rounds));
	}
}

static void fill(float *x, size_t count)
{
	for (size_t i = 0; i < count; i++)
		x[i] = (float)(i * 2654435761u % 1000u) * 1e-3f - 0.5f;
}

static float *floats(size_t count)
{
	float *x = aligned_alloc(64, (count * sizeof(*x) + 63) / 64 * 64);

	if (x == NULL) {
		fprintf(stderr, "no memory\n");
		exit(1);
	}
	fill(x, count);
	return x;
}

static void bench_attention(struct bench *bench, const struct attention_case *c)
{
	static const uint64_t samples[] = {1, 2, 3, 4, 5, 6, 7, 8};
	size_t count = c->batch * c->time * c->heads * c->size;
	struct attention_memory m = {
		.shape = attention_shape_packed(c->batch, c->time, c->heads,
						c->size),
		.dropout = {.key = dropout_key(1, 2, 3, 4),
			    .probability = c->dropout,
			    .sample_ids = samples},
		.qkv = floats(3 * count),
		.gradient = floats(3 * count),
		.out = floats(count),
		.dout = floats(count),
		.lse = floats(c->batch * c->heads * c->time),
	};

	m.scratch = floats(attention_scratch_bytes(&m.shape, TEAM_MAX) / 4);
	printf("B %zu T %4zu H %2zu D %2zu dropout %.1f ", c->batch, c->time,
	       c->heads, c->size, (double)c->dropout);
	bench_attention_pass(bench, &m, false);
	printf("  |");
	bench_attention_pass(bench, &m, true);
	printf("\n");
	fflush(stdout);
	free(m.qkv);
	free(m.gradient);
	free(m.out);
	free(m.dout);
	free(m.lse);
	free(m.scratch);
}

/* ---- all ---- */

static int bench_init(struct bench *bench, int argc, char **argv)
{
	size_t largest = (size_t)50257 * 1024;
	int cores[TEAM_MAX];
	bool pin = threads_available_cores(cores, TEAM_MAX) >= TEAM_MAX;
	int64_t rounds = 5;

	if (argc > 1 &&
	    text_parse_integer(argv[1], 1, ROUNDS_MAX, &rounds) != 0) {
		fprintf(stderr, "usage: bench-kernels [ROUNDS, 1 to %d]\n",
			ROUNDS_MAX);
		return 2;
	}
	bench->rounds = (int)rounds;
	for (unsigned i = 0; i < TEAM_MAX; i++) {
		if (threads_create(i + 1, pin ? cores : NULL,
				   &bench->team[i]) != 0 ||
		    gemm_prepare(bench->team[i]) != 0)
			return 1;
		bench->c[i] = floats(largest);
	}
	bench->a = floats(largest);
	bench->b = floats(largest);
	return 0;
}

int main(int argc, char **argv)
{
	struct bench bench;
	char numerics[NUMERICS_DESCRIPTION_BYTES];
	int status = bench_init(&bench, argc, argv);

	if (status != 0)
		return status;
	if (numerics_describe(numerics, sizeof(numerics)) == 0)
		printf("%s\n\n", numerics);
	printf("products, GFLOP/s: whole sgemm on each thread, ours, ratio\n"
	       "%-12s %-20s %-9s  %-20s  %-20s\n",
	       "", "m x n x k", "tile", "1 thread", "2 threads");
	for (size_t i = 0; i < ARRAY_SIZE(products); i++)
		bench_product(&bench, &products[i]);
	printf("\nattention, GFLOP/s of the causal half, and the ratio to "
	       "sgemm\n%-36s%-14s %-14s | %-14s %-14s\n",
	       "", "fwd 1 thread", "2 threads", "bwd 1 thread", "2 threads");
	for (size_t i = 0; i < ARRAY_SIZE(attentions); i++)
		bench_attention(&bench, &attentions[i]);
	for (unsigned i = 0; i < TEAM_MAX; i++) {
		threads_destroy(bench.team[i]);
		free(bench.c[i]);
	}
	free(bench.a);
	free(bench.b);
	return 0;
}
