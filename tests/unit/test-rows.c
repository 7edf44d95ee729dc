/* Rows of a table of which few matter: against loops over all elements. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "model/kernels/rows.h"

#define ROWS  37
#define WIDTH 19
#define COUNT ((size_t)ROWS * WIDTH)

static const uint32_t ids[] = {0, 1, 7, 20, 36};
static const struct rows listed = {ids, ARRAY_SIZE(ids), WIDTH};

static void test_tokens(void **state)
{
	static const int32_t tokens[] = {7,  36, 0, 7, -1, 20,
					 37, 1,  1, 7, -9, 1000000};
	unsigned char marks[ROWS] = {0}, none[ROWS] = {0};
	uint32_t found[ARRAY_SIZE(tokens)];

	(void)state;
	for (unsigned again = 0; again < 2; again++) {
		assert_int_equal(rows_of_tokens(tokens, ARRAY_SIZE(tokens),
						ROWS, marks, ARRAY_SIZE(tokens),
						found),
				 ARRAY_SIZE(ids));
		assert_memory_equal(found, ids, sizeof(ids));
		assert_memory_equal(marks, none, sizeof(marks));
	}
	assert_int_equal(rows_of_tokens(tokens, 0, ROWS, marks, 0, found), 0);
}

static bool is_listed(size_t row)
{
	bool found = false;

	for (size_t i = 0; i < ARRAY_SIZE(ids); i++)
		found |= ids[i] == row;
	return found;
}

/* An embedding's gradient: zero but in the listed rows; and a head's. */
static void make(float *embedding, float *head)
{
	struct random_key key = random_key_named(1, "rows");

	random_normal(key, 0, COUNT, 0, 1, embedding);
	random_normal(key, COUNT, COUNT, 0, 1, head);
	for (size_t i = 0; i < COUNT; i++) {
		if (!is_listed(i / WIDTH))
			embedding[i] = 0;
		if (i % 5 == 0)
			head[i] = -0.0f;
		if (i % 10 == 0)
			embedding[i] = is_listed(i / WIDTH) ? -0.0f : 0.0f;
	}
}

/* Both ends come to embedding + head, to the bit, however pieces are cut. */
static void test_both_ends(void **state)
{
	static float embedding[COUNT], head[COUNT], sum[COUNT];
	static float first[COUNT], second[COUNT];
	float aside[ARRAY_SIZE(ids) * WIDTH], sent[ARRAY_SIZE(ids) * WIDTH];

	(void)state;
	make(embedding, head);
	for (size_t i = 0; i < COUNT; i++)
		sum[i] = embedding[i] + head[i];
	for (size_t piece = 1; piece <= COUNT; piece += 1 + piece / 3) {
		memcpy(first, embedding, sizeof(first));
		memcpy(second, head, sizeof(second));
		for (size_t at = 0; at < COUNT; at += piece) {
			size_t count = MIN(piece, COUNT - at);

			rows_take(&listed, at, count, head + at, first, aside);
			rows_take(&listed, at, count, second + at, second,
				  NULL);
		}
		rows_gather(&listed, first, sent);
		rows_accumulate(&listed, aside, first);
		rows_accumulate(&listed, sent, second);
		assert_memory_equal(first, sum, sizeof(sum));
		assert_memory_equal(second, sum, sizeof(sum));
	}
}

static void test_no_rows(void **state)
{
	static const struct rows none = {ids, 0, WIDTH};
	float in[COUNT], table[COUNT];

	(void)state;
	for (size_t i = 0; i < COUNT; i++)
		in[i] = i % 2 ? -0.0f : (float)i;
	rows_take(&none, 0, COUNT, in, table, NULL);
	for (size_t i = 0; i < COUNT; i++)
		in[i] = 0.0f + in[i];
	assert_memory_equal(table, in, sizeof(in));
	rows_accumulate(&none, in, table);
	assert_memory_equal(table, in, sizeof(in));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tokens),
		cmocka_unit_test(test_both_ends),
		cmocka_unit_test(test_no_rows),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
