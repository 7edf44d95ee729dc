/* Dropout: definition, purity, statistics, and the same bits for any team. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "model/kernels/reference.h"
#include "tests/unit/kernel-test.h"

struct threads *teams[TEAMS];

static void test_words_follow_definition(void **state)
{
	static const size_t spans[][2] = {{0, 64},   {0, 1},    {63, 2},
					  {5, 300},  {64, 128}, {130, 1000},
					  {1000, 0}, {17, 47}};
	struct random_key key = dropout_key(42, 1000000, 11, 2);
	const uint64_t sample = 0x123456789abcdefULL;
	const uint64_t coordinate = dropout_attention_coordinate(65535, 70000);
	uint32_t words[1001];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(spans); i++) {
		size_t first = spans[i][0], count = spans[i][1];

		words[count] = 77;
		dropout_words(key, sample, coordinate, first, count, words);
		for (size_t k = 0; k < count; k++)
			assert_int_equal(words[k],
					 dropout_word_reference(key, sample,
								coordinate,
								first + k));
		assert_int_equal(words[count], 77);
	}
}

static void test_keys_differ(void **state)
{
	struct random_key keys[] = {
		dropout_key(1, 1, 1, 1), dropout_key(2, 1, 1, 1),
		dropout_key(1, 2, 1, 1), dropout_key(1, 1, 2, 1),
		dropout_key(1, 1, 1, 2), random_key_numbered(1, 1, 1, 1),
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		for (size_t k = 0; k < i; k++)
			assert_memory_not_equal(&keys[i], &keys[k],
						sizeof(keys[i]));
}

#define SAMPLES  3
#define LENGTH   37
#define CHANNELS 1100
#define COUNT    (SAMPLES * LENGTH * CHANNELS)

static const uint64_t sample_ids[SAMPLES] = {900, 7, 1ULL << 40};

static struct dropout whole(float probability)
{
	return (struct dropout){
		.key = dropout_key(3, 4, 5, 6),
		.probability = probability,
		.rows_per_sample = LENGTH,
		.sample_ids = sample_ids,
	};
}

static void test_values(void **state)
{
	struct dropout dropout = whole(0.25f);
	float *in = test_normal("in", COUNT, 0, 1);
	float *out = test_floats(COUNT);

	(void)state;
	dropout_apply(teams[1], ELEMENT_F32, &dropout, SAMPLES * LENGTH,
		      CHANNELS, in, out);
	for (size_t i = 0; i < COUNT; i++) {
		size_t row = i / CHANNELS;
		uint32_t word = dropout_word_reference(
			dropout.key, sample_ids[row / LENGTH], row % LENGTH,
			i % CHANNELS);
		float want = word < 0x40000000u ? 0.0f : in[i] * (1 / 0.75f);

		assert_true(out[i] == want);
	}
	free(out);
	free(in);
}

/* One sample, or the tail of one, alone gets the mask it has in the whole. */
static void test_splits_agree(void **state)
{
	struct dropout dropout = whole(0.1f);
	const size_t tail = 10;
	float *in = test_normal("in", COUNT, 0, 1);
	float *all = test_floats(COUNT), *part = test_floats(COUNT);
	const size_t sample_floats = (size_t)LENGTH * CHANNELS;

	(void)state;
	dropout_apply(teams[0], ELEMENT_F32, &dropout, SAMPLES * LENGTH,
		      CHANNELS, in, all);
	for (size_t sample = 0; sample < SAMPLES; sample++) {
		struct dropout one = dropout;
		size_t at = sample * sample_floats;

		one.sample_ids = &sample_ids[sample];
		dropout_apply(teams[2], ELEMENT_F32, &one, LENGTH, CHANNELS,
			      in + at, part);
		assert_memory_equal(part, all + at,
				    sample_floats * sizeof(float));
		one.position_offset = tail;
		one.rows_per_sample = LENGTH - tail;
		at += tail * CHANNELS;
		dropout_apply(teams[3], ELEMENT_F32, &one, LENGTH - tail,
			      CHANNELS, in + at, part);
		assert_memory_equal(part, all + at,
				    (LENGTH - tail) * CHANNELS * sizeof(float));
	}
	free(part);
	free(all);
	free(in);
}

static void test_threads_and_residual(void **state)
{
	struct dropout dropout = whole(0.5f);
	float *x = test_normal("x", COUNT, 0, 1);
	float *p = test_normal("p", COUNT, 0, 1);
	float *one = test_floats(COUNT), *y = test_floats(COUNT);

	(void)state;
	dropout_apply(teams[0], ELEMENT_F32, &dropout, SAMPLES * LENGTH,
		      CHANNELS, p, one);
	for (unsigned team = 0; team < TEAMS; team++) {
		dropout_apply(teams[team], ELEMENT_F32, &dropout,
			      SAMPLES * LENGTH, CHANNELS, p, y);
		test_same_bits("mask", team, COUNT * sizeof(float), y, one);
		dropout_residual_add(teams[team], ELEMENT_F32, &dropout,
				     SAMPLES * LENGTH, CHANNELS, x, p, y);
		for (size_t i = 0; i < COUNT; i++)
			assert_true(y[i] == x[i] + one[i]);
	}
	/* Nothing to drop: a copy, and a sum. */
	dropout.probability = 0.0f;
	dropout_apply(teams[1], ELEMENT_F32, &dropout, SAMPLES * LENGTH,
		      CHANNELS, p, y);
	assert_memory_equal(y, p, COUNT * sizeof(float));
	dropout_residual_add(teams[1], ELEMENT_F32, NULL, SAMPLES * LENGTH,
			     CHANNELS, x, p, y);
	for (size_t i = 0; i < COUNT; i++)
		assert_true(y[i] == x[i] + p[i]);
	free(y);
	free(one);
	free(p);
	free(x);
}

/*
 * Share kept within five deviations; neighbours along the channel, the
 * position and the sample are uncorrelated; and so are two steps.
 */
static double agreement(const float *a, const float *b, size_t count)
{
	size_t same = 0;

	for (size_t i = 0; i < count; i++)
		same += (a[i] == 0.0f) == (b[i] == 0.0f);
	return (double)same / (double)count;
}

static void test_statistics(void **state)
{
	static const float probabilities[] = {0.1f, 0.5f, 0.9f};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(probabilities); i++) {
		double p = (double)probabilities[i];
		double chance = p * p + (1 - p) * (1 - p);
		double spread = 6.0 * sqrt(0.25 / COUNT);
		struct dropout dropout = whole(probabilities[i]);
		float *ones = test_floats(COUNT), *out = test_floats(COUNT);
		float *next = test_floats(COUNT);
		size_t dropped = 0;

		for (size_t k = 0; k < COUNT; k++)
			ones[k] = 1.0f;
		dropout_apply(teams[1], ELEMENT_F32, &dropout, SAMPLES * LENGTH,
			      CHANNELS, ones, out);
		dropout.key = dropout_key(3, 5, 5, 6);
		dropout_apply(teams[1], ELEMENT_F32, &dropout, SAMPLES * LENGTH,
			      CHANNELS, ones, next);
		for (size_t k = 0; k < COUNT; k++)
			dropped += out[k] == 0.0f;
		assert_true(fabs((double)dropped / COUNT - p) < spread);
		assert_true(fabs(agreement(out, next, COUNT) - chance) <
			    spread);
		assert_true(fabs(agreement(out, out + 1, COUNT - 1) - chance) <
			    spread);
		assert_true(
			fabs(agreement(out, out + CHANNELS, COUNT - CHANNELS) -
			     chance) < spread);
		free(next);
		free(out);
		free(ones);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_words_follow_definition),
		cmocka_unit_test(test_keys_differ),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_splits_agree),
		cmocka_unit_test(test_threads_and_residual),
		cmocka_unit_test(test_statistics),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, teams_start, teams_stop);
}
