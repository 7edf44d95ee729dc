/* base/random.c: Philox against known answers, and the numbers made of it. */
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "tests/unit/cmocka-tap.h"

/* philox4x32 10 of kat_vectors in Random123. */
static void test_philox_known_answers(void **state)
{
	static const struct {
		uint32_t key[2];
		uint64_t high, low;
		uint32_t expected[4];
	} rows[] = {
		{{0, 0},
		 0,
		 0,
		 {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
		{{0xffffffff, 0xffffffff},
		 UINT64_MAX,
		 UINT64_MAX,
		 {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
		{{0xa4093822, 0x299f31d0},
		 0x0370734413198a2e,
		 0x85a308d3243f6a88,
		 {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
	};
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		struct random_key key = {{rows[i].key[0], rows[i].key[1]}};
		uint32_t out[4];

		random_block(key, rows[i].high, rows[i].low, out);
		assert_memory_equal(out, rows[i].expected, sizeof(out));
	}
}

static bool same_key(struct random_key a, struct random_key b)
{
	return a.word[0] == b.word[0] && a.word[1] == b.word[1];
}

static void test_keys_differ(void **state)
{
	struct random_key keys[] = {
		random_key_named(1, "a"),
		random_key_named(2, "a"),
		random_key_named(1, "b"),
		random_key_named(1, ""),
		random_key_numbered(1, 0, 0, 0),
		random_key_numbered(1, 1, 0, 0),
		random_key_numbered(1, 0, 1, 0),
		random_key_numbered(1, 0, 0, 1),
		random_key_numbered(2, 0, 0, 0),
	};
	size_t i;
	size_t j;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(keys); i++)
		for (j = 0; j < i; j++)
			assert_false(same_key(keys[i], keys[j]));
	assert_true(same_key(random_key_named(1, "a"), keys[0]));
}

/* Any cut of a range gives the numbers of the whole. */
static void test_normal_is_pure(void **state)
{
	struct random_key key = random_key_named(3, "w");
	float whole[257];
	float part[257];
	size_t first;

	(void)state;
	random_normal(key, 1000, 257, 0.5f, 0.02f, whole);
	for (first = 0; first < 257; first += 13) {
		size_t count = MIN((size_t)13, 257 - first);

		random_normal(key, 1000 + first, count, 0.5f, 0.02f, part);
		assert_memory_equal(part, whole + first, count * sizeof(float));
	}
}

static void test_normal_moments(void **state)
{
	enum {
		COUNT = 200000
	};
	float *z = malloc(COUNT * sizeof(*z));
	double sum[5] = {0};
	double beyond = 0;
	double pairs = 0;
	size_t i;

	(void)state;
	assert_non_null(z);
	random_normal(random_key_named(5, "moments"), 0, COUNT, 0, 1, z);
	for (i = 0; i < COUNT; i++) {
		double power = 1;
		int p;

		for (p = 1; p < 5; p++)
			sum[p] += power *= z[i];
		beyond += fabs(z[i]) > 1.959964;
		if (i > 0)
			pairs += z[i] * (double)z[i - 1];
	}
	/* Four standard errors of each moment. */
	assert_true(fabs(sum[1] / COUNT) < 4 / sqrt(COUNT));
	assert_true(fabs(sum[2] / COUNT - 1) < 4 * sqrt(2.0 / COUNT));
	assert_true(fabs(sum[3] / COUNT) < 4 * sqrt(15.0 / COUNT));
	assert_true(fabs(sum[4] / COUNT - 3) < 4 * sqrt(96.0 / COUNT));
	assert_true(fabs(beyond / COUNT - 0.05) < 4 * sqrt(0.0475 / COUNT));
	assert_true(fabs(pairs / COUNT) < 4 / sqrt(COUNT));
	free(z);
}

static void test_uniform_and_below(void **state)
{
	struct random_key key = random_key_named(9, "below");
	int counts[7] = {0};
	double sum = 0;
	uint64_t i;

	(void)state;
	for (i = 0; i < 70000; i++) {
		double u = random_uniform(key, i);
		uint64_t n = random_below(key, i, 7);

		assert_true(u >= 0 && u < 1);
		assert_true(n < 7);
		sum += u;
		counts[n]++;
	}
	assert_true(fabs(sum / 70000 - 0.5) < 4 * sqrt(1 / 12.0 / 70000));
	for (i = 0; i < 7; i++)
		assert_true(abs(counts[i] - 10000) < 4 * 93);
	assert_int_equal(random_below(key, 5, 1), 0);
	/* Half of all draws are rejected here: the second draw must come. */
	for (i = 0; i < 100; i++)
		assert_true(random_below(key, i, (1ULL << 63) + 1) <=
			    1ULL << 63);
}

static void test_permute_is_bijective(void **state)
{
	static const uint64_t counts[] = {1,  2,  3,   4,    5,
					  16, 17, 255, 1000, 4097};
	size_t c;

	(void)state;
	for (c = 0; c < ARRAY_SIZE(counts); c++) {
		uint64_t n = counts[c];
		unsigned char *seen = calloc(n, 1);
		uint64_t seed;
		uint64_t i;

		assert_non_null(seen);
		for (seed = 0; seed < 5; seed++) {
			struct random_key key = random_key_named(seed, "p");

			memset(seen, 0, n);
			for (i = 0; i < n; i++) {
				uint64_t at = random_permute(key, n, i);

				assert_true(at < n);
				assert_false(seen[at]++);
			}
		}
		free(seen);
	}
	/* A large domain must at least stay inside and move things. */
	assert_true(random_permute(random_key_named(1, "p"), 1ULL << 40, 3) <
		    1ULL << 40);
}

/* The order is mixed: few fixed points and no trace of the old neighbours. */
static void test_permute_mixes(void **state)
{
	struct random_key key = random_key_named(11, "mix");
	const uint64_t n = 10000;
	int fixed = 0;
	int neighbours = 0;
	uint64_t i;

	(void)state;
	for (i = 0; i + 1 < n; i++) {
		uint64_t a = random_permute(key, n, i);
		uint64_t b = random_permute(key, n, i + 1);

		fixed += a == i;
		neighbours += b == a + 1;
	}
	assert_true(fixed < 10);
	assert_true(neighbours < 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_philox_known_answers),
		cmocka_unit_test(test_keys_differ),
		cmocka_unit_test(test_normal_is_pure),
		cmocka_unit_test(test_normal_moments),
		cmocka_unit_test(test_uniform_and_below),
		cmocka_unit_test(test_permute_is_bijective),
		cmocka_unit_test(test_permute_mixes),
	};

	return RUN_TESTS("random", tests);
}
