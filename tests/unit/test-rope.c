/*
 * Rotary positions: what is kept in a table and what is computed are the same,
 * far positions turn as the formula has it, the backward is the transpose.
 */
#include "model/kernels/rope.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SIZE 16

static const struct rope_config plain = {
	.kind = ROPE_DEFAULT,
	.positions = 131072,
	.theta = 10000,
};

/* Turns one row [q | k | v] of one head each. */
static void turn_one(const struct rope *rope, size_t position, size_t length,
		     const float *in, float *out, bool back)
{
	struct rope_shape shape = {
		.batch = 1,
		.time = 1,
		.position_offset = position,
		.heads = 1,
		.kv_heads = 1,
		.head_size = SIZE,
	};
	struct threads *threads;
	float *rows = calloc(length * 3 * SIZE, sizeof(float));
	float *turned = calloc(length * 3 * SIZE, sizeof(float));
	void *scratch = malloc(rope_scratch_bytes(SIZE, 2));

	assert_int_equal(threads_create(2, NULL, &threads), 0);
	/* As the last token of `length` from there on. */
	shape.time = length;
	shape.position_offset = position + 1 - length;
	memcpy(rows + (length - 1) * 3 * SIZE, in, 3 * SIZE * sizeof(float));
	(back ? rope_backward : rope_forward)(threads, rope, &shape, rows,
					      turned, scratch);
	memcpy(out, turned + (length - 1) * 3 * SIZE, 3 * SIZE * sizeof(float));
	threads_destroy(threads);
	free(scratch);
	free(turned);
	free(rows);
}

static void fill(float *row)
{
	for (size_t i = 0; i < 3 * SIZE; i++)
		row[i] = (float)((i * 7 + 3) % 11) / 11.0f - 0.4f;
}

static void table_and_computed_agree(void **state)
{
	static const size_t positions[] = {0, 1, 77, 4095};
	struct rope *short_one, *long_one;
	float in[3 * SIZE], a[3 * SIZE], b[3 * SIZE];

	(void)state;
	fill(in);
	assert_int_equal(rope_create(&plain, SIZE, 1, &short_one), 0);
	assert_int_equal(rope_create(&plain, SIZE, 100000, &long_one), 0);
	for (size_t i = 0; i < 4; i++) {
		turn_one(short_one, positions[i], 1, in, a, false);
		turn_one(long_one, positions[i], 1, in, b, false);
		assert_memory_equal(a, b, sizeof(a));
	}
	rope_destroy(short_one);
	rope_destroy(long_one);
}

/* The angles that single precision gives, and with them the formula. */
static void far_positions_turn_as_the_formula(void **state)
{
	static const size_t positions[] = {1, 500, 4096, 100001};
	struct rope *rope;
	float in[3 * SIZE], out[3 * SIZE];

	(void)state;
	fill(in);
	assert_int_equal(rope_create(&plain, SIZE, 131072, &rope), 0);
	for (size_t p = 0; p < 4; p++) {
		turn_one(rope, positions[p], 1, in, out, false);
		for (size_t i = 0; i < SIZE / 2; i++) {
			float f = 1.0f /
				  (float)pow(10000.0, 2.0 * (double)i / SIZE);
			double angle = (double)((float)positions[p] * f);
			double x = in[i], y = in[i + SIZE / 2];

			assert_true(fabs((double)out[i] - x * cos(angle) +
					 y * sin(angle)) < 1e-6);
			assert_true(fabs((double)out[i + SIZE / 2] -
					 y * cos(angle) - x * sin(angle)) <
				    1e-6);
		}
		assert_memory_equal(out + 2 * SIZE, in + 2 * SIZE,
				    SIZE * sizeof(float));
	}
	rope_destroy(rope);
}

/* Turned there and back again: a rotation's transpose is its inverse. */
static void backward_is_the_transpose(void **state)
{
	struct rope *rope;
	float in[3 * SIZE], out[3 * SIZE], again[3 * SIZE];

	(void)state;
	fill(in);
	assert_int_equal(rope_create(&plain, SIZE, 64, &rope), 0);
	turn_one(rope, 41, 5, in, out, false);
	turn_one(rope, 41, 5, out, again, true);
	for (size_t i = 0; i < 3 * SIZE; i++)
		assert_true(fabsf(again[i] - in[i]) < 1e-6f);
	rope_destroy(rope);
}

/* Within its positions nothing is scaled, beyond them theta follows. */
static void dynamic_begins_beyond_its_positions(void **state)
{
	struct rope_config config = plain, stretched = plain;
	struct rope *dynamic, *other;
	float in[3 * SIZE], a[3 * SIZE], b[3 * SIZE];

	(void)state;
	fill(in);
	config.kind = ROPE_DYNAMIC;
	config.positions = 32;
	config.factor = 2.0;
	assert_int_equal(rope_create(&config, SIZE, 64, &dynamic), 0);
	assert_int_equal(rope_create(&plain, SIZE, 64, &other), 0);
	turn_one(dynamic, 31, 32, in, a, false);
	turn_one(other, 31, 32, in, b, false);
	assert_memory_equal(a, b, sizeof(a));
	turn_one(dynamic, 32, 33, in, a, false);
	turn_one(other, 32, 33, in, b, false);
	assert_memory_not_equal(a, b, sizeof(a));
	rope_destroy(other);
	stretched.theta *= pow(2.0 * 33 / 32 - 1, SIZE / (SIZE - 2.0));
	assert_int_equal(rope_create(&stretched, SIZE, 64, &other), 0);
	turn_one(other, 32, 33, in, b, false);
	for (size_t i = 0; i < 3 * SIZE; i++)
		assert_true(fabsf(a[i] - b[i]) < 1e-5f);
	rope_destroy(other);
	rope_destroy(dynamic);
}

/* Tokens [from, from + length) of `rows`, in `starts` (NULL: one example). */
static void turn_rows(const struct rope *rope, size_t length,
		      const int32_t *starts, const float *rows, float *out)
{
	struct rope_shape shape = {
		.batch = 1,
		.time = length,
		.starts = starts,
		.heads = 1,
		.kv_heads = 1,
		.head_size = SIZE,
	};
	void *scratch = malloc(rope_scratch_bytes(SIZE, 2));
	struct threads *threads;

	assert_int_equal(threads_create(2, NULL, &threads), 0);
	rope_forward(threads, rope, &shape, rows, out, scratch);
	threads_destroy(threads);
	free(scratch);
}

/* Positions begin anew with each example, and so does what is dynamic. */
static void examples_turn_as_alone(void **state)
{
	enum {
		FIRST = 20,
		SECOND = 27,
		ALL = FIRST + SECOND
	};
	struct rope_config config = plain;
	float rows[ALL * 3 * SIZE], packed[ALL * 3 * SIZE];
	float alone[SECOND * 3 * SIZE];
	int32_t starts[ALL];
	struct rope *rope;

	(void)state;
	for (size_t t = 0; t < ALL; t++) {
		fill(rows + t * 3 * SIZE);
		starts[t] = t < FIRST ? 0 : FIRST;
	}
	config.kind = ROPE_DYNAMIC;
	config.positions = 32; /* more than each has, fewer than both */
	config.factor = 2.0;
	assert_int_equal(rope_create(&config, SIZE, 64, &rope), 0);
	turn_rows(rope, ALL, starts, rows, packed);
	turn_rows(rope, FIRST, NULL, rows, alone);
	assert_memory_equal(packed, alone, FIRST * 3 * SIZE * sizeof(float));
	turn_rows(rope, SECOND, NULL, rows + FIRST * 3 * SIZE, alone);
	assert_memory_equal(packed + FIRST * 3 * SIZE, alone,
			    SECOND * 3 * SIZE * sizeof(float));
	turn_rows(rope, ALL, NULL, rows, packed);
	assert_memory_not_equal(packed + FIRST * 3 * SIZE, alone,
				SECOND * 3 * SIZE * sizeof(float));
	rope_destroy(rope);
}

static void impossible_ones_are_refused(void **state)
{
	struct rope_config config = plain;

	(void)state;
	assert_int_equal(rope_config_check(&config, SIZE), 0);
	assert_int_not_equal(rope_config_check(&config, 7), 0);
	assert_int_not_equal(rope_config_check(&config, 2), 0);
	config.theta = 0.5;
	assert_int_not_equal(rope_config_check(&config, SIZE), 0);
	config.theta = NAN;
	assert_int_not_equal(rope_config_check(&config, SIZE), 0);
	config = plain;
	config.kind = ROPE_LINEAR;
	assert_int_not_equal(rope_config_check(&config, SIZE), 0);
	config.kind = ROPE_LLAMA3;
	config.factor = 8;
	config.original_positions = 10;
	config.low_frequency_factor = 4;
	config.high_frequency_factor = 4;
	assert_int_not_equal(rope_config_check(&config, SIZE), 0);
	config.high_frequency_factor = 5;
	assert_int_equal(rope_config_check(&config, SIZE), 0);
	config.kind = ROPE_YARN;
	config.beta_fast = 32;
	config.beta_slow = 1;
	assert_int_equal(rope_config_check(&config, SIZE), 0);
	config.theta = 1 + 1e-12;
	assert_int_not_equal(rope_config_check(&config, SIZE), 0);
	config = plain;
	config.kind = ROPE_DYNAMIC;
	config.factor = 0.5;
	assert_int_not_equal(rope_config_check(&config, SIZE), 0);
	config.kind = (enum rope_kind)77;
	assert_int_not_equal(rope_config_check(&config, SIZE), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(table_and_computed_agree),
		cmocka_unit_test(far_positions_turn_as_the_formula),
		cmocka_unit_test(backward_is_the_transpose),
		cmocka_unit_test(dynamic_begins_beyond_its_positions),
		cmocka_unit_test(examples_turn_as_alone),
		cmocka_unit_test(impossible_ones_are_refused),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
