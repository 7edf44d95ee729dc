#include "base/threads.h"
#include "model/kernels/gemm.h"
#include "model/kernels/numerics.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_description(void **state)
{
	static const char *const keys[] = {
		"\"blas\":\"",        "\"blas_core\":\"", "\"dispatch\":\"",
		"\"float_state\":\"", "\"gemm\":\"",      "\"math\":\"",
		"\"vector_math\":\""};
	char text[NUMERICS_DESCRIPTION_BYTES], again[sizeof(text)];

	(void)state;
	assert_int_equal(numerics_describe(text, sizeof(text)), 0);
	assert_int_equal(numerics_describe(again, sizeof(again)), 0);
	assert_string_equal(text, again);
	print_message("# %s\n", text);
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		assert_non_null(strstr(text, keys[i]));
	assert_int_equal(text[0], '{');
	assert_int_equal(text[strlen(text) - 1], '}');
}

/* What multiplies bfloat16 is told where a model needs it, and then only. */
static void test_of_type(void **state)
{
	char plain[NUMERICS_DESCRIPTION_BYTES], rounded[sizeof(plain)];
	const char *library;

	(void)state;
	assert_int_equal(numerics_describe(plain, sizeof(plain)), 0);
	assert_int_equal(
		numerics_describe_type(ELEMENT_F32, rounded, sizeof(rounded)),
		0);
	assert_string_equal(plain, rounded);
	assert_int_equal(
		numerics_describe_type(ELEMENT_BF16, rounded, sizeof(rounded)),
		0);
	print_message("# %s\n", rounded);
	library = strstr(rounded, gemm_bfloat16_library());
	assert_non_null(library);
	assert_memory_equal(rounded, "{\"bfloat16\":\"", 13);
	/* The rest is the same. */
	assert_string_equal(strstr(rounded, "\"blas\""), plain + 1);
}

static void test_too_small(void **state)
{
	char text[NUMERICS_DESCRIPTION_BYTES], small[40] = "untouched";
	size_t length;

	(void)state;
	assert_int_equal(numerics_describe(small, sizeof(small)), -ENOSPC);
	assert_string_equal(small, "untouched");
	assert_int_equal(numerics_describe(text, sizeof(text)), 0);
	length = strlen(text);
	assert_int_equal(numerics_describe(text, length), -ENOSPC);
	assert_int_equal(numerics_describe(text, length + 1), 0);
}

/* A thread that does not flush to zero rounds differently: it must show. */
static void test_float_state_shows(void **state)
{
#if defined(__x86_64__)
	char plain[NUMERICS_DIGEST_BYTES], set[NUMERICS_DIGEST_BYTES];

	(void)state;
	__builtin_ia32_ldmxcsr(0x1f80);
	assert_int_equal(numerics_digest(plain), 0);
	threads_set_float_state();
	assert_int_equal(numerics_digest(set), 0);
	assert_int_equal(strlen(set), 16);
	assert_string_not_equal(plain, set);
#else
	(void)state;
	skip();
#endif
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_description),
		cmocka_unit_test(test_of_type),
		cmocka_unit_test(test_too_small),
		cmocka_unit_test(test_float_state_shows),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
