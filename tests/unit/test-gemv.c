/*
 * A row by a matrix against double precision, in both layouts and types of
 * weights; the same bits for every team; bfloat16 as if its weights were floats;
 * nothing allocated.
 */
#include "base/random.h"
#include "base/threads.h"
#include "model/kernels/gemm_memory.h"
#include "model/kernels/gemv.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TEAM 5 /* the largest tried */

struct product {
	enum gemm_transpose transpose;
	size_t n, k, ldw;
	bool add;
	float *x, *w, *y; /* y: what there was */
	bfloat16 *half;   /* w, whose values it can hold */
};

static float *random_floats(size_t count, uint64_t number)
{
	struct random_key key = random_key_numbered(number, 1, 2, 3);
	float *out = malloc(MAX(count, (size_t)1) * sizeof(*out));

	assert_non_null(out);
	for (size_t i = 0; i < count; i++)
		out[i] = (float)(2 * random_uniform(key, i) - 1);
	return out;
}

static void product_init(struct product *p, size_t gap)
{
	bool transposed = p->transpose == GEMM_TRANSPOSED;
	size_t count;

	p->ldw = (transposed ? p->k : p->n) + gap;
	count = (transposed ? p->n : p->k) * p->ldw;
	p->x = random_floats(p->k, 1);
	p->w = random_floats(count, 2);
	p->y = random_floats(p->n, 3);
	p->half = malloc(MAX(count, (size_t)1) * sizeof(*p->half));
	assert_non_null(p->half);
	for (size_t i = 0; i < count; i++) {
		p->half[i] = bfloat16_from_float(p->w[i]);
		p->w[i] = float_from_bfloat16(p->half[i]);
	}
}

static void product_fini(struct product *p)
{
	free(p->x);
	free(p->w);
	free(p->y);
	free(p->half);
}

static void compare(const struct product *p, const float *y)
{
	double *wanted = malloc(p->n * sizeof(*wanted));

	assert_non_null(wanted);
	gemv_reference(p->transpose, p->n, p->k, p->x, p->w, p->ldw, wanted);
	for (size_t j = 0; j < p->n; j++) {
		double was = p->add ? (double)p->y[j] : 0;

		/* |x| and |w| are at most 1. */
		if (!(fabs((double)y[j] - was - wanted[j]) <=
		      2e-7 * ((double)p->k + 1)))
			fail_msg("%zu x %zu, transposed %d, add %d: y[%zu] is "
				 "%.9g, not %.9g",
				 p->n, p->k, p->transpose, p->add, j,
				 (double)y[j], was + wanted[j]);
	}
	free(wanted);
}

static void check_product(struct product p, size_t gap,
			  struct threads *teams[TEAM])
{
	float *first, *again;
	size_t bytes;

	product_init(&p, gap);
	bytes = p.n * sizeof(float);
	first = malloc(bytes);
	again = malloc(bytes);
	assert_non_null(first);
	assert_non_null(again);
	for (unsigned i = 0; i < 2 * TEAM; i++) {
		float *y = i == 0 ? first : again;

		for (size_t j = 0; j < p.n; j++) /* not read but to add */
			y[j] = p.add ? p.y[j] : NAN;
		if (i < TEAM)
			gemv(teams[i], p.transpose, p.n, p.k, p.x, p.w, p.ldw,
			     p.add, y);
		else
			gemv_bfloat16(teams[i - TEAM], p.transpose, p.n, p.k,
				      p.x, p.half, p.ldw, p.add, y);
		if (i == 0)
			compare(&p, y);
		else
			assert_memory_equal(first, again, bytes);
	}
	free(first);
	free(again);
	product_fini(&p);
}

static void create_teams(struct threads *teams[TEAM])
{
	for (unsigned i = 0; i < TEAM; i++) {
		assert_int_equal(threads_create(i + 1, NULL, &teams[i]), 0);
		assert_int_equal(gemm_prepare_untouched(teams[i]), 0);
	}
}

static void destroy_teams(struct threads *teams[TEAM])
{
	for (unsigned i = 0; i < TEAM; i++)
		threads_destroy(teams[i]);
}

/* n, k: remainders of lanes and parts, one and several tasks and strips. */
static const size_t shapes[][2] = {
	{1, 1},    {1, 700},  {7, 3},      {16, 16},   {33, 31},   {64, 257},
	{300, 63}, {300, 64}, {300, 65},   {257, 129}, {5, 0},     {768, 769},
	{3, 9000}, {9000, 3}, {5000, 130}, {33, 2049}, {770, 300}, {1000, 96},
};

static void test_products(void **state)
{
	struct threads *teams[TEAM];

	(void)state;
	create_teams(teams);
	for (size_t i = 0; i < ARRAY_SIZE(shapes); i++)
		for (unsigned bits = 0; bits < 8; bits++)
			check_product(
				(struct product){
					.transpose = bits & 1,
					.n = shapes[i][0],
					.k = shapes[i][1],
					.add = bits & 2,
				},
				bits & 4 ? 5 : 0, teams);
	destroy_teams(teams);
}

/* gemm() takes one row the same way, and its epilogue comes after. */
static void negate(void *argument, float *c, size_t ldc, size_t row,
		   size_t column, size_t rows, size_t columns)
{
	(void)argument;
	(void)ldc;
	(void)row;
	(void)column;
	assert_int_equal(rows, 1);
	for (size_t j = 0; j < columns; j++)
		c[j] = -c[j];
}

static void test_gemm_row(void **state)
{
	struct threads *threads;
	struct product p = {.n = 300, .k = 500};
	struct gemm_epilogue epilogue = {.finish = negate};
	float plain[300], whole[300];

	(void)state;
	assert_int_equal(threads_create(2, NULL, &threads), 0);
	assert_int_equal(gemm_prepare_untouched(threads), 0);
	product_init(&p, 0);
	epilogue.bias = p.y;
	gemv(threads, GEMM_NORMAL, p.n, p.k, p.x, p.w, p.ldw, false, plain);
	gemm(threads, GEMM_NORMAL, GEMM_NORMAL, 1, p.n, p.k, p.x, p.k, p.w,
	     p.ldw, 0.0f, whole, p.n, &epilogue);
	for (size_t j = 0; j < p.n; j++)
		assert_true(whole[j] == -(plain[j] + p.y[j]));
	product_fini(&p);
	threads_destroy(threads);
}

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
	struct threads *threads;
	struct product p = {.n = 3000, .k = 1000};
	size_t before;

	(void)state;
	assert_int_equal(threads_create(2, NULL, &threads), 0);
	assert_int_equal(gemm_prepare(threads), 0);
	product_init(&p, 0);
	before = mappings();
	gemv(threads, GEMM_NORMAL, p.n, p.k, p.x, p.w, p.ldw, false, p.y);
	assert_int_equal(mappings(), before);
	product_fini(&p);
	threads_destroy(threads);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_products),
		cmocka_unit_test(test_gemm_row),
		cmocka_unit_test(test_no_memory_later),
	};

	threads_set_float_state();
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
