/*
 * The rate of the linked BLAS: every thread of a team multiplies matrices of
 * its own, 768 x 3072 by 3072 x 768, for some time. Prints GFLOP/s.
 *
 *   sgemm-rate THREADS SECONDS
 */
#include "base/clock.h"
#include "base/text.h"
#include "base/threads.h"
#include "model/kernels/gemm.h"

#include <stdio.h>
#include <stdlib.h>

#define M 768
#define N 768
#define K 3072

struct rate {
	int64_t end_ns;
	size_t products[THREADS_MAX];
};

static void multiply(void *argument, size_t index, unsigned thread)
{
	struct rate *rate = argument;
	float *a = calloc((size_t)M * K, sizeof(float));
	float *b = calloc((size_t)K * N, sizeof(float));
	float *c = calloc((size_t)M * N, sizeof(float));

	(void)index;
	if (!a || !b || !c)
		exit(1);
	for (size_t i = 0; i < (size_t)M * K; i++)
		a[i] = b[i] = (float)(i % 7) - 3.0f;
	while (clock_now_ns() < rate->end_ns) {
		gemm_block(GEMM_NORMAL, GEMM_NORMAL, M, N, K, 1.0f, a, K, b, N,
			   0.0f, c, N);
		rate->products[thread]++;
	}
	free(a);
	free(b);
	free(c);
}

int main(int argc, char **argv)
{
	static struct rate rate;
	struct threads *team;
	int64_t threads, begin;
	double seconds, products = 0;

	if (argc != 3 ||
	    text_parse_integer(argv[1], 1, THREADS_MAX, &threads) ||
	    text_parse_real(argv[2], 0.1, 1000, &seconds)) {
		fprintf(stderr, "usage: sgemm-rate THREADS SECONDS\n");
		return 2;
	}
	if (threads_create((unsigned)threads, NULL, &team) ||
	    gemm_prepare(team))
		return 1;
	begin = clock_now_ns();
	rate.end_ns = begin + (int64_t)(seconds * 1e9);
	threads_run_each(team, multiply, &rate);
	seconds = clock_seconds(clock_now_ns() - begin);
	for (int64_t i = 0; i < threads; i++)
		products += (double)rate.products[i];
	printf("%.1f\n", products * 2 * M * N * K / seconds * 1e-9);
	threads_destroy(team);
	return 0;
}
