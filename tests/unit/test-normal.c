/* Initial weights: the vector code has the bits of the plain reference. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/random.h"
#include "model/kernels/normal.h"

#define MANY 400000

static void compare(struct random_key key, uint64_t first, size_t count,
		    float deviation)
{
	float *wanted = malloc((count + 1) * sizeof(*wanted));
	float *out = malloc((count + 1) * sizeof(*out));

	assert_non_null(wanted);
	assert_non_null(out);
	wanted[count] = out[count] = 77;
	random_normal(key, first, count, 0, deviation, wanted);
	normal_fill(key, first, count, deviation, out);
	assert_memory_equal(out, wanted, (count + 1) * sizeof(*out));
	free(out);
	free(wanted);
}

static void test_cuts(void **state)
{
	struct random_key key = random_key_named(7, "cuts");

	(void)state;
	for (size_t first = 0; first < 5; first++)
		for (size_t count = 0; count < 300; count += 1 + count / 7)
			compare(key, first, count, 0.02f);
	/* Where a counter's lower word overflows, between and inside groups. */
	compare(key, ((uint64_t)1 << 33) - 128, 256, 0.02f);
	compare(key, ((uint64_t)1 << 33) - 77, 300, 1);
	compare(key, ((uint64_t)1 << 50) + 1, 300, 1);
}

/* So many that every quarter and most exponents of a radius come. */
static void test_many(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < 3; seed++)
		compare(random_key_named(seed, "many"), 0, MANY, 1);
	compare(random_key_named(1, "narrow"), 1, MANY, 0.0125f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cuts),
		cmocka_unit_test(test_many),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
