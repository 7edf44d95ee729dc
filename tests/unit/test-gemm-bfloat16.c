/*
 * Products of bfloat16 against double precision, over transposes, remainders,
 * gaps between rows, beta, bias and both types of C; the same bits for every
 * team; nothing allocated once prepared, by whichever library. Built twice:
 * test-gemm-widened has factors widened to float, this one what the machine has.
 */
#include "base/random.h"
#include "base/threads.h"
#include "model/kernels/gemm.h"
#include "model/kernels/gemm_pack.h"
#include "model/kernels/gemm_scratch.h"
#ifdef COUNTED
#include "step-path-count.h"
#endif

#include <malloc.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmocka-tap.h"

#define TEAM 3 /* the largest tried */

struct product {
	enum gemm_transpose transpose_a, transpose_b;
	size_t m, n, k;
	size_t gap; /* elements between rows */
	float beta;
	enum element_type c_type;
	bool with_bias;
	size_t lda, ldb, ldc;
	bfloat16 *a, *b;
	float *bias;
	void *c; /* what C begins with */
};

static void *random_values(enum element_type type, size_t count, uint64_t key)
{
	struct random_key random = random_key_numbered(key, 1, 2, 3);
	void *out = malloc(MAX(count, (size_t)1) * element_type_bytes(type));
	uint32_t word[4];

	assert_non_null(out);
	for (size_t i = 0; i < count; i++) {
		float value;

		if (i % 4 == 0)
			random_block(random, 0, i, word);
		value = (float)(int32_t)word[i % 4] * 0x1p-31f;
		if (type == ELEMENT_BF16)
			((bfloat16 *)out)[i] = bfloat16_from_float(value);
		else
			((float *)out)[i] = value;
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
	p->a = random_values(ELEMENT_BF16, (ta ? p->k : p->m) * p->lda, 1);
	p->b = random_values(ELEMENT_BF16, (tb ? p->n : p->k) * p->ldb, 2);
	p->c = random_values(p->c_type, p->m * p->ldc, 3);
	p->bias = p->with_bias ? random_values(ELEMENT_F32, p->n, 4) : NULL;
}

static void product_fini(struct product *p)
{
	free(p->a);
	free(p->b);
	free(p->c);
	free(p->bias);
}

static double value_at(enum element_type type, const void *values, size_t i)
{
	return type == ELEMENT_BF16
		       ? float_from_bfloat16(((const bfloat16 *)values)[i])
		       : ((const float *)values)[i];
}

static double a_at(const struct product *p, size_t i, size_t l)
{
	return float_from_bfloat16(p->transpose_a == GEMM_TRANSPOSED
					   ? p->a[l * p->lda + i]
					   : p->a[i * p->lda + l]);
}

static double b_at(const struct product *p, size_t l, size_t j)
{
	return float_from_bfloat16(p->transpose_b == GEMM_TRANSPOSED
					   ? p->b[j * p->ldb + l]
					   : p->b[l * p->ldb + j]);
}

static int prepare(struct threads *threads, const struct product *p)
{
	return gemm_bfloat16_prepare(threads, p->transpose_a, p->transpose_b,
				     p->m, p->n, p->k, p->lda, p->ldb, p->beta,
				     p->c_type, p->ldc, p->with_bias);
}

static void multiply(struct threads *threads, const struct product *p, void *c)
{
	gemm_bfloat16(threads, p->transpose_a, p->transpose_b, p->m, p->n, p->k,
		      p->a, p->lda, p->b, p->ldb, p->beta, p->c_type, c, p->ldc,
		      p->bias);
}

/* Every stride-th element: all of a small product, many of a large one. */
static void compare(const struct product *p, const void *c)
{
	size_t count = p->m * p->n;
	size_t stride = count * p->k > 1000000 ? 97 : 1;
	double unit = p->c_type == ELEMENT_BF16 ? 0x1p-8 * 1.001 : 0x1p-24;

	for (size_t i = 0; i < count; i += stride) {
		size_t row = i / p->n, column = i % p->n;
		size_t at = row * p->ldc + column;
		double sum = 0.0, size = 0.0, got;

		if (p->beta != 0.0f)
			sum += value_at(p->c_type, p->c, at);
		if (p->bias != NULL)
			sum += p->bias[column];
		size = fabs(sum) + 1.0;
		for (size_t l = 0; l < p->k; l++) {
			double term = a_at(p, row, l) * b_at(p, l, column);

			sum += term;
			size += fabs(term);
		}
		got = value_at(p->c_type, c, at);
		if (!(fabs(got - sum) <= 1e-6 * size + unit * fabs(sum)))
			fail_msg("%zux%zux%zu %d%d beta %g gap %zu type %d: "
				 "[%zu,%zu] is %.9g, not %.9g",
				 p->m, p->n, p->k, p->transpose_a,
				 p->transpose_b, (double)p->beta, p->gap,
				 p->c_type, row, column, got, sum);
	}
}

static struct threads *team_create(unsigned count)
{
	struct threads *threads;

	assert_int_equal(threads_create(count, NULL, &threads), 0);
	assert_int_equal(gemm_prepare(threads), 0);
	return threads;
}

/* What C begins with; where beta is 0, nothing that may be read. */
static void fill(const struct product *p, void *c)
{
	size_t size = element_type_bytes(p->c_type);

	memcpy(c, p->c, p->m * p->ldc * size);
	if (p->beta != 0.0f)
		return;
	for (size_t row = 0; row < p->m; row++) /* a NaN */
		memset((unsigned char *)c + row * p->ldc * size, 0xff,
		       p->n * size);
}

static void gaps_are_untouched(const struct product *p, const void *c)
{
	size_t size = element_type_bytes(p->c_type);

	for (size_t row = 0; row < p->m; row++) {
		size_t at = (row * p->ldc + p->n) * size;

		assert_memory_equal((const unsigned char *)c + at,
				    (const unsigned char *)p->c + at,
				    p->gap * size);
	}
}

static void check_product(struct product p, struct threads *teams[TEAM])
{
	size_t bytes;
	void *first, *again;

	product_init(&p);
	bytes = p.m * p.ldc * element_type_bytes(p.c_type);
	first = malloc(bytes);
	again = malloc(bytes);
	assert_non_null(first);
	assert_non_null(again);
	for (size_t team = 0; team < TEAM; team++) {
		void *c = team == 0 ? first : again;

		fill(&p, c);
		assert_int_equal(prepare(teams[team], &p), 0);
		multiply(teams[team], &p, c);
		if (team == 0) {
			compare(&p, c);
			gaps_are_untouched(&p, c);
		} else {
			assert_memory_equal(first, again, bytes);
		}
	}
	free(first);
	free(again);
	product_fini(&p);
}

static const size_t shapes[][3] = {
	{1, 1, 1},      {1, 7, 3},        {2, 1, 5},       {3, 5, 7},
	{16, 64, 32},   {17, 33, 31},     {1, 300, 700},   {64, 64, 64},
	{65, 63, 129},  {100, 33, 257},   {128, 192, 64},  {255, 257, 100},
	{256, 768, 33}, {513, 520, 770},  {33, 2049, 70},  {1200, 100, 50},
	{5, 900, 1},    {90, 5, 0},       {130, 1, 300},   {48, 1000, 96},
	{20, 30, 5003}, {2100, 70, 1100}, {70, 2100, 600}, {6000, 300, 520},
};

static struct product product_of(const size_t shape[3], unsigned bits)
{
	return (struct product){
		.transpose_a = bits & 1,
		.transpose_b = bits >> 1 & 1,
		.m = shape[0],
		.n = shape[1],
		.k = shape[2],
		.gap = bits & 4 ? 5 : 0,
		.beta = bits & 8 ? 1.0f : 0.0f,
		.c_type = bits & 16 ? ELEMENT_BF16 : ELEMENT_F32,
		.with_bias = bits & 32,
	};
}

/* All sixty-four ways of a small product, some of larger ones. */
static void test_products(void **state)
{
	struct threads *teams[TEAM];

	(void)state;
	for (unsigned i = 0; i < TEAM; i++)
		teams[i] = team_create(i + 1);
	for (size_t i = 0; i < ARRAY_SIZE(shapes); i++) {
		double size = (double)shapes[i][0] * (double)shapes[i][1] *
			      (double)shapes[i][2];
		unsigned step = size > 2e6 ? 13 : size > 2e4 ? 5 : 1;

		for (unsigned bits = 0; bits < 64; bits += step)
			check_product(product_of(shapes[i], bits), teams);
	}
	for (unsigned i = 0; i < TEAM; i++)
		threads_destroy(teams[i]);
}

/* What one row or column holds stays there, also where sizes are odd. */
static void test_rows_apart(void **state)
{
	static const size_t shape[] = {43, 70, 77};
	struct threads *threads = team_create(2);
	struct product p = product_of(shape, 0);
	float *clean, *spoilt;

	(void)state;
	product_init(&p);
	clean = malloc(p.m * p.n * sizeof(float));
	spoilt = malloc(p.m * p.n * sizeof(float));
	assert_non_null(clean);
	assert_non_null(spoilt);
	multiply(threads, &p, clean);
	for (size_t row = 1; row < p.m; row += 2)
		memset(p.a + row * p.lda, 0xff, p.k * sizeof(*p.a)); /* NaN */
	for (size_t l = 0; l < p.k; l++)
		p.b[l * p.ldb + 64] = 0x7f80; /* infinity */
	multiply(threads, &p, spoilt);
	for (size_t row = 0; row < p.m; row++)
		for (size_t i = 0; i < p.n; i++) {
			size_t at = row * p.n + i;

			if (row % 2 == 1)
				assert_true(isnan(spoilt[at]));
			else if (i == 64)
				assert_false(isfinite(spoilt[at]));
			else
				assert_true(clean[at] == spoilt[at]);
		}
	free(clean);
	free(spoilt);
	product_fini(&p);
	threads_destroy(threads);
}

/* ---- packing ---- */

static void test_pack(void **state)
{
	const size_t k = 77, columns = 50;
	bfloat16 *b = random_values(ELEMENT_BF16, 200 * 100, 5);
	bfloat16 *block = malloc(gemm_pack_block(k) * sizeof(*block));
	bfloat16 *a = malloc(96 * k * sizeof(*a));

	(void)state;
	assert_non_null(block);
	assert_non_null(a);
	for (unsigned turned = 0; turned < 2; turned++) {
		size_t ld = turned ? 99 : 60;

		gemm_pack_b(turned, 0, 64, columns, b, ld, block);
		gemm_pack_b(turned, 64, k - 64, columns,
			    b + (turned ? 64 : 64 * ld), ld, block);
		for (size_t l = 0; l < gemm_pack_depth(k); l++)
			for (size_t j = 0; j < GEMM_PACK_COLUMNS; j++)
				assert_int_equal(
					block[(l / 2 * GEMM_PACK_COLUMNS + j) *
						      2 +
					      l % 2],
					l >= k || j >= columns ? 0
					: turned               ? b[j * ld + l]
							       : b[l * ld + j]);
		gemm_pack_a(turned, 83, 96, k, b, ld + 30, a);
		for (size_t i = 0; i < 96; i++)
			for (size_t l = 0; l < k; l++)
				assert_int_equal(
					a[i * k + l],
					i >= 83  ? 0
					: turned ? b[l * (ld + 30) + i]
						 : b[i * (ld + 30) + l]);
	}
	free(a);
	free(b);
	free(block);
}

/* ---- what is counted is what is allocated ---- */

static void count(const struct product *p, unsigned threads,
		  struct gemm_bfloat16_work *work)
{
	gemm_bfloat16_count(threads, p->transpose_a, p->transpose_b, p->m, p->n,
			    p->k, p->lda, p->ldb, work);
}

/* A thread that is new has no work memory; its pieces at the end. */
static void *prepare_alone(void *argument)
{
	static const size_t sizes[][3] = {
		{300, 700, 900}, {1, 4000, 600}, {600, 130, 1500}};
	struct gemm_bfloat16_work *work = argument;
	struct threads *threads;

	if (threads_create(1, NULL, &threads) != 0)
		return "no team";
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
		for (unsigned bits = 0; bits < 4; bits++) {
			struct product p = product_of(sizes[i], bits);

			p.lda = bits & 1 ? p.m : p.k;
			p.ldb = bits & 2 ? p.k : p.n;
			if (prepare(threads, &p) != 0)
				return "not prepared";
			count(&p, 1, work);
		}
	threads_destroy(threads);
	for (enum gemm_piece i = 0; i < GEMM_PIECE_LIBRARY; i++) {
		size_t counted = MAX(work->shared[i], work->each[i]);
		size_t have = malloc_usable_size(gemm_scratch(i));

		if (have < counted || have > counted + 8192)
			return "a piece of another size";
	}
	return NULL;
}

static void test_count(void **state)
{
	/* The gradient of a head's input: Llama-3-8B, of GPT-2. */
	static const size_t large[] = {512, 4096, 128256},
			    small[] = {512, 768, 50257};
	struct gemm_bfloat16_work work = {0};
	struct product p = product_of(large, 0);
	pthread_t thread;
	void *error;

	(void)state;
	assert_int_equal(gemm_bfloat16_work_bytes(&work, 4), 0);
	assert_int_equal(pthread_create(&thread, NULL, prepare_alone, &work),
			 0);
	assert_int_equal(pthread_join(thread, &error), 0);
	if (error != NULL)
		fail_msg("%s", (const char *)error);
	assert_true(gemm_bfloat16_work_bytes(&work, 2) >
		    gemm_bfloat16_work_bytes(&work, 1));
	work = (struct gemm_bfloat16_work){0};
	p.lda = 128512;
	p.ldb = 4096;
	count(&p, 8, &work);
	assert_true(gemm_bfloat16_work_bytes(&work, 8) < (size_t)450 << 20);
	work = (struct gemm_bfloat16_work){0};
	p = product_of(small, 0);
	p.lda = 50304;
	p.ldb = 768;
	count(&p, 2, &work);
	assert_true(gemm_bfloat16_work_bytes(&work, 2) < (size_t)120 << 20);
}

/* ---- nothing is allocated ---- */

#ifdef COUNTED

static void test_no_allocation(void **state)
{
	struct threads *threads = team_create(2);
	static const size_t wide[] = {600, 700, 300}, deep[] = {9, 500, 4000};
	struct product products[] = {product_of(wide, 1), product_of(wide, 26),
				     product_of(deep, 48), product_of(deep, 6)};
	struct count before, after;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(products); i++) {
		product_init(&products[i]);
		assert_int_equal(prepare(threads, &products[i]), 0);
	}
	before = count_read();
	count_open();
	for (size_t i = 0; i < ARRAY_SIZE(products); i++)
		multiply(threads, &products[i], products[i].c);
	count_close();
	after = count_read();
	assert_int_equal(after.calls - before.calls, 0);
	assert_int_equal(after.mappings - before.mappings, 0);
	/* It can count: what was not prepared allocates. */
	products[0].m -= 7;
	products[0].k -= 1;
	count_set_quiet(true);
	count_open();
	multiply(threads, &products[0], products[0].c);
	count_close();
	count_set_quiet(false);
	if (strcmp(gemm_bfloat16_library(), "widened") != 0)
		assert_true(count_read().calls > after.calls);
	for (size_t i = 0; i < ARRAY_SIZE(products); i++)
		product_fini(&products[i]);
	threads_destroy(threads);
}

#endif

static void test_library(void **state)
{
	(void)state;
	printf("# %s\n", gemm_bfloat16_library());
#ifdef WIDENED
	assert_string_equal(gemm_bfloat16_library(), "widened");
#endif
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_library),
		cmocka_unit_test(test_pack),
		cmocka_unit_test(test_products),
		cmocka_unit_test(test_rows_apart),
		cmocka_unit_test(test_count),
#ifdef COUNTED
		cmocka_unit_test(test_no_allocation),
#endif
	};

#ifdef COUNTED
	int error = count_begin();

	if (error != 0)
		printf("# mappings are not counted: %s\n", strerror(-error));
#endif
#ifdef WIDENED
	setenv("STAGECOACH_BFLOAT16", "widened", 1);
#else
	unsetenv("STAGECOACH_BFLOAT16");
#endif
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
