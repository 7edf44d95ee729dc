/*
 * Products of few rows against double precision, over both ways B lies,
 * remainders, gaps between rows and bias; the same bits for every team and
 * however many rows there are.
 */
#include "model/kernels/few_rows.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/unit/kernel-test.h"

struct threads *teams[TEAMS];

struct shape {
	size_t n, k, gap;
};

static const struct shape shapes[] = {
	{1, 1, 0},    {7, 3, 2},      {16, 16, 0},   {17, 129, 5},  {40, 0, 0},
	{64, 127, 0}, {300, 1000, 1}, {3200, 50, 0}, {33, 2305, 0},
};

static void product_init(struct few_rows *p, const struct shape *shape,
			 size_t m, bool transposed, bool bias)
{
	*p = (struct few_rows){.m = m,
			       .n = shape->n,
			       .k = shape->k,
			       .lda = shape->k + shape->gap,
			       .transposed = transposed,
			       .ldc = shape->n + shape->gap};
	p->ldb = (transposed ? p->k : p->n) + shape->gap;
	p->a = test_normal("a", m * p->lda, 0, 1);
	p->b = test_normal("b", (transposed ? p->n : p->k) * p->ldb, 0, 1);
	p->bias = bias ? test_normal("bias", p->n, 0, 1) : NULL;
}

static void product_fini(struct few_rows *p)
{
	free((void *)(uintptr_t)p->a);
	free((void *)(uintptr_t)p->b);
	free((void *)(uintptr_t)p->bias);
}

/* C of `m` rows, with what lies between its rows. The caller frees it. */
static float *multiply(struct few_rows p, struct threads *team, size_t m)
{
	void *scratch =
		test_bytes(few_rows_scratch_bytes(m, p.n, p.k, p.transposed));

	p.m = m;
	p.c = test_floats(m * p.ldc);
	few_rows_multiply(team, &p, scratch);
	free(scratch);
	return p.c;
}

static double wanted(const struct few_rows *p, size_t row, size_t column,
		     double *size)
{
	double sum = p->bias ? (double)p->bias[column] : 0;

	*size = fabs(sum);
	for (size_t l = 0; l < p->k; l++) {
		double term = (double)p->a[row * p->lda + l] *
			      (double)p->b[p->transposed ? column * p->ldb + l
							 : l * p->ldb + column];

		sum += term;
		*size += fabs(term);
	}
	return sum;
}

static void check_values(const struct few_rows *p, const float *c)
{
	for (size_t row = 0; row < p->m; row++) {
		for (size_t column = 0; column < p->n; column++) {
			double size, want = wanted(p, row, column, &size);
			double have = (double)c[row * p->ldc + column];

			if (!(fabs(have - want) <= 1e-6 * size))
				fail_msg("%zu x %zu, C[%zu][%zu]: %.9g, not "
					 "%.9g",
					 p->n, p->k, row, column, have, want);
		}
		for (size_t column = p->n; column < p->ldc; column++)
			assert_true(isnan(c[row * p->ldc + column]));
	}
}

static void check(const struct shape *shape, size_t m, bool transposed,
		  bool bias)
{
	struct few_rows p;
	float *c, *other;

	product_init(&p, shape, m, transposed, bias);
	c = multiply(p, teams[0], m);
	check_values(&p, c);
	for (unsigned team = 1; team < TEAMS; team++) {
		other = multiply(p, teams[team], m);
		test_same_bits("few rows", team, m * p.ldc * sizeof(*c), other,
			       c);
		free(other);
	}
	other = multiply(p, teams[0], 1);
	if (memcmp(other, c, p.n * sizeof(*c)) != 0)
		fail_msg("%zu x %zu: a row alone has other bits", p.n, p.k);
	free(other);
	free(c);
	product_fini(&p);
}

static void test_rows(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(shapes); i++)
		for (size_t m = 1; m <= FEW_ROWS; m++)
			for (unsigned way = 0; way < 4; way++)
				check(&shapes[i], m, way & 1, way & 2);
}

static void test_nothing(void **state)
{
	struct few_rows p = {.m = 0, .n = 5, .k = 5};

	(void)state;
	few_rows_multiply(teams[1], &p, NULL);
	p.transposed = true;
	few_rows_multiply(teams[1], &p, NULL);
	p.m = 2;
	p.n = 0;
	few_rows_multiply(teams[1], &p, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_nothing),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, teams_start, teams_stop);
}
