/*
 * Products against double precision, over transposes, remainders, gaps between
 * rows and beta; the same bits for every team; nothing allocated; and what
 * went wrong before gemm_memory.c existed: two threads at once.
 */
#include "base/random.h"
#include "base/threads.h"
#include "model/kernels/gemm.h"
#include "model/kernels/gemm_memory.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TEAM 4 /* the largest tried */

struct product {
	enum gemm_transpose transpose_a, transpose_b;
	size_t m, n, k;
	size_t gap; /* floats between rows */
	float beta;
	size_t lda, ldb, ldc;
	float *a, *b, *c;
};

static float *random_floats(size_t count, uint64_t key)
{
	struct random_key random = random_key_numbered(key, 1, 2, 3);
	float *out = malloc(MAX(count, (size_t)1) * sizeof(*out));

	assert_non_null(out);
	for (size_t i = 0; i < count; i += 4) {
		uint32_t word[4];

		random_block(random, 0, i, word);
		for (size_t j = i; j < MIN(i + 4, count); j++)
			out[j] = (float)(int32_t)word[j - i] * 0x1p-31f;
	}
	return out;
}

static void product_init(struct product *p)
{
	bool ta = p->transpose_a == GEMM_TRANSPOSED;
	bool tb = p->transpose_b == GEMM_TRANSPOSED;

	p->lda = (ta ? p->m : p->k) + p->gap;
	p->ldb = (tb ? p->k : p->n) + p->gap;
	p->ldc = p->n + p->gap;
	p->a = random_floats((ta ? p->k : p->m) * p->lda, 1);
	p->b = random_floats((tb ? p->n : p->k) * p->ldb, 2);
	p->c = random_floats(p->m * p->ldc, 3);
}

static void product_fini(struct product *p)
{
	free(p->a);
	free(p->b);
	free(p->c);
}

static double a_at(const struct product *p, size_t i, size_t l)
{
	return p->transpose_a == GEMM_TRANSPOSED ? p->a[l * p->lda + i]
						 : p->a[i * p->lda + l];
}

static double b_at(const struct product *p, size_t l, size_t j)
{
	return p->transpose_b == GEMM_TRANSPOSED ? p->b[j * p->ldb + l]
						 : p->b[l * p->ldb + j];
}

static void multiply(struct threads *threads, const struct product *p, float *c)
{
	gemm(threads, p->transpose_a, p->transpose_b, p->m, p->n, p->k, p->a,
	     p->lda, p->b, p->ldb, p->beta, c, p->ldc, NULL);
}

/* Every stride-th element: all of a small product, many of a large one. */
static void compare(const struct product *p, const float *c)
{
	size_t count = p->m * p->n;
	size_t stride = count * p->k > 4000000 ? 97 : 1;

	for (size_t i = 0; i < count; i += stride) {
		size_t row = i / p->n, column = i % p->n;
		double sum = 0.0, size = 1.0;
		float got = c[row * p->ldc + column];

		if (p->beta != 0.0f)
			sum = p->c[row * p->ldc + column];
		for (size_t l = 0; l < p->k; l++) {
			double term = a_at(p, row, l) * b_at(p, l, column);

			sum += term;
			size += fabs(term);
		}
		if (!(fabs(got - sum) <= 1e-6 * size))
			fail_msg("%zux%zux%zu %d%d beta %g gap %zu: [%zu,%zu] "
				 "is %.9g, not %.9g",
				 p->m, p->n, p->k, p->transpose_a,
				 p->transpose_b, (double)p->beta, p->gap, row,
				 column, (double)got, sum);
	}
	for (size_t row = 0; row < p->m; row++) /* the gaps are untouched */
		assert_memory_equal(c + row * p->ldc + p->n,
				    p->c + row * p->ldc + p->n,
				    p->gap * sizeof(*c));
}

static struct threads *team_create(unsigned count)
{
	struct threads *threads;

	assert_int_equal(threads_create(count, NULL, &threads), 0);
	assert_int_equal(gemm_prepare(threads), 0);
	return threads;
}

static void check_product(struct product p, struct threads *teams[TEAM])
{
	size_t bytes;
	float *first, *again;

	product_init(&p);
	bytes = p.m * p.ldc * sizeof(float);
	first = malloc(bytes);
	again = malloc(bytes);
	assert_non_null(first);
	assert_non_null(again);
	for (size_t team = 0; team < TEAM; team++) {
		float *c = team == 0 ? first : again;

		memcpy(c, p.c, bytes);
		if (p.beta == 0.0f) /* beta 0 does not read */
			for (size_t row = 0; row < p.m; row++)
				for (size_t i = 0; i < p.n; i++)
					c[row * p.ldc + i] = NAN;
		multiply(teams[team], &p, c);
		if (team == 0)
			compare(&p, c);
		else
			assert_memory_equal(first, again, bytes);
	}
	free(first);
	free(again);
	product_fini(&p);
}

static const size_t shapes[][3] = {
	{1, 1, 1},       {1, 7, 3},       {2, 1, 5},      {3, 5, 7},
	{16, 16, 16},    {17, 33, 31},    {1, 300, 700},  {64, 64, 64},
	{65, 63, 129},   {100, 33, 257},  {128, 192, 64}, {255, 257, 100},
	{256, 768, 130}, {513, 520, 770}, {33, 2049, 70}, {1200, 100, 50},
	{5, 900, 1},     {90, 5, 0},      {130, 1, 300},  {48, 1000, 96},
};

static void test_products(void **state)
{
	struct threads *teams[TEAM];

	(void)state;
	for (unsigned i = 0; i < TEAM; i++)
		teams[i] = team_create(i + 1);
	for (size_t i = 0; i < ARRAY_SIZE(shapes); i++)
		for (unsigned bits = 0; bits < 16; bits++)
			check_product(
				(struct product){
					.transpose_a = bits & 1,
					.transpose_b = bits >> 1 & 1,
					.m = shapes[i][0],
					.n = shapes[i][1],
					.k = shapes[i][2],
					.gap = bits & 4 ? 5 : 0,
					.beta = bits & 8 ? 1.0f : 0.0f,
				},
				teams);
	for (unsigned i = 0; i < TEAM; i++)
		threads_destroy(teams[i]);
}

/* The corners of the tile function: whatever it says covers the product. */
static void test_tiles(void **state)
{
	static const size_t sizes[] = {1,   2,    16,   17,   64,    256,
				       768, 1000, 1024, 3072, 50257, 500000};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
		for (size_t j = 0; j < ARRAY_SIZE(sizes); j++)
			for (size_t l = 0; l < ARRAY_SIZE(sizes); l++) {
				struct gemm_tile tile = gemm_tile_size(
					sizes[i], sizes[j], sizes[l]);

				assert_true(tile.rows > 0);
				assert_true(tile.columns > 0);
			}
	assert_int_equal(gemm_tile_size(64, 64, 64).rows, 64);
	/* Even for two and for four threads, rows and columns alike. */
	assert_int_equal(gemm_tile_size(256, 768, 768).columns, 384);
	assert_int_equal(gemm_tile_size(256, 768, 768).rows, 128);
	/* A product with few tiles has large ones. */
	assert_int_equal(gemm_tile_size(1024, 768, 3072).columns, 768);
	assert_int_equal(gemm_tile_size(1024, 768, 3072).rows, 256);
}

static void finish_double(void *argument, float *c, size_t ldc, size_t row,
			  size_t column, size_t rows, size_t columns)
{
	const float *factor = argument;

	(void)column;
	for (size_t i = 0; i < rows; i++)
		for (size_t j = 0; j < columns; j++)
			c[i * ldc + j] *= factor[row + i];
}

static void test_epilogue(void **state)
{
	struct threads *threads = team_create(2);
	struct product p = {.m = 300, .n = 500, .k = 200, .gap = 3};
	float *bias = random_floats(500, 4), *factor = random_floats(300, 5);
	struct gemm_epilogue epilogue = {bias, finish_double, factor};
	size_t bytes;
	float *plain, *fused;

	(void)state;
	product_init(&p);
	bytes = p.m * p.ldc * sizeof(float);
	plain = calloc(1, bytes);
	fused = calloc(1, bytes);
	multiply(threads, &p, plain);
	gemm(threads, p.transpose_a, p.transpose_b, p.m, p.n, p.k, p.a, p.lda,
	     p.b, p.ldb, 0.0f, fused, p.ldc, &epilogue);
	for (size_t i = 0; i < p.m; i++)
		for (size_t j = 0; j < p.n; j++) {
			float *c = &plain[i * p.ldc + j];

			*c = (*c + bias[j]) * factor[i];
		}
	assert_memory_equal(plain, fused, bytes);
	free(plain);
	free(fused);
	free(bias);
	free(factor);
	product_fini(&p);
	threads_destroy(threads);
}

static void test_block_alpha(void **state)
{
	struct product p = {
		.transpose_b = GEMM_TRANSPOSED, .m = 70, .n = 90, .k = 64};
	float *whole, *half;

	(void)state;
	product_init(&p);
	whole = malloc(p.m * p.n * sizeof(float));
	half = malloc(p.m * p.n * sizeof(float));
	assert_int_equal(gemm_prepare_thread(), 0);
	gemm_block(GEMM_NORMAL, GEMM_TRANSPOSED, p.m, p.n, p.k, 1.0f, p.a,
		   p.lda, p.b, p.ldb, 0.0f, whole, p.n);
	gemm_block(GEMM_NORMAL, GEMM_TRANSPOSED, p.m, p.n, p.k, 0.5f, p.a,
		   p.lda, p.b, p.ldb, 0.0f, half, p.n);
	for (size_t i = 0; i < p.m * p.n; i++)
		assert_true(fabsf(whole[i] * 0.5f - half[i]) < 1e-5f);
	free(whole);
	free(half);
	product_fini(&p);
}

/* ---- several threads inside the library at once ---- */

#define ROUNDS 3000

struct crowd {
	struct product p;
	float *expected;
	size_t wrong[TEAM];
};

static void crowd_task(void *argument, size_t index, unsigned thread)
{
	struct crowd *crowd = argument;
	const struct product *p = &crowd->p;
	size_t bytes = p->m * p->n * sizeof(float);
	float *c = malloc(bytes);

	(void)index;
	for (int i = 0; i < ROUNDS && c != NULL; i++) {
		gemm_block(GEMM_NORMAL, GEMM_NORMAL, p->m, p->n, p->k, 1.0f,
			   p->a, p->lda, p->b, p->ldb, 0.0f, c, p->n);
		crowd->wrong[thread] += memcmp(c, crowd->expected, bytes) != 0;
	}
	crowd->wrong[thread] += c == NULL;
	free(c);
}

static void test_crowd(void **state)
{
	struct threads *threads = team_create(TEAM);
	struct crowd crowd = {.p = {.m = 96, .n = 96, .k = 120}};

	(void)state;
	product_init(&crowd.p);
	crowd.expected = malloc(96 * 96 * sizeof(float));
	assert_non_null(crowd.expected);
	gemm_block(GEMM_NORMAL, GEMM_NORMAL, 96, 96, 120, 1.0f, crowd.p.a, 120,
		   crowd.p.b, 96, 0.0f, crowd.expected, 96);
	threads_run_each(threads, crowd_task, &crowd);
	for (size_t i = 0; i < TEAM; i++)
		assert_int_equal(crowd.wrong[i], 0);
	free(crowd.expected);
	product_fini(&crowd.p);
	threads_destroy(threads);
}

/* ---- nothing is mapped after gemm_prepare() ---- */

static size_t mappings(void)
{
	FILE *file = fopen("/proc/self/statm", "re");
	unsigned long pages = 0;

	if (file == NULL || fscanf(file, "%lu", &pages) != 1)
		fail_msg("cannot read /proc/self/statm");
	fclose(file);
	return pages;
}

static void test_no_memory_later(void **state)
{
	struct threads *threads = team_create(2);
	struct product p = {
		.transpose_a = GEMM_TRANSPOSED, .m = 1500, .n = 1100, .k = 300};
	size_t before;

	(void)state;
	product_init(&p);
	before = mappings();
	multiply(threads, &p, p.c);
	p.transpose_a = GEMM_NORMAL;
	p.lda = p.k;
	multiply(threads, &p, p.c);
	assert_int_equal(mappings(), before);
	product_fini(&p);
	threads_destroy(threads);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_products),
		cmocka_unit_test(test_tiles),
		cmocka_unit_test(test_epilogue),
		cmocka_unit_test(test_block_alpha),
		cmocka_unit_test(test_crowd),
		cmocka_unit_test(test_no_memory_later),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
