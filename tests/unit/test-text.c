/* base/text.c: numbers, quantities, distances, UTF-8, the builder. */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/text.h"
#include "tests/unit/cmocka-tap.h"

static void test_integers(void **state)
{
	static const struct {
		const char *text;
		int code;
		int64_t value;
	} rows[] = {
		{"0", 0, 0},
		{"-12", 0, -12},
		{"+12", 0, 12},
		{"9223372036854775807", 0, INT64_MAX},
		{"-9223372036854775808", 0, INT64_MIN},
		{"9223372036854775808", -ERANGE, 0},
		{"-9223372036854775809", -ERANGE, 0},
		{"99999999999999999999999", -ERANGE, 0},
		{"", -EINVAL, 0},
		{"-", -EINVAL, 0},
		{" 1", -EINVAL, 0},
		{"1 ", -EINVAL, 0},
		{"1e3", -EINVAL, 0},
		{"0x10", -EINVAL, 0},
		{"1.0", -EINVAL, 0},
	};
	int64_t value;
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		value = 77;
		assert_int_equal(text_parse_integer(rows[i].text, INT64_MIN,
						    INT64_MAX, &value),
				 rows[i].code);
		assert_int_equal(value, rows[i].code ? 77 : rows[i].value);
	}
	assert_int_equal(text_parse_integer("5", 6, 9, &value), -ERANGE);
	assert_int_equal(text_parse_integer("10", 6, 9, &value), -ERANGE);
	assert_int_equal(text_parse_integer("6", 6, 9, &value), 0);
}

static void test_reals(void **state)
{
	static const char *const bad[] = {
		"",   "nan", "inf", "1e999", "0x1p3", " 1",    "1 ",
		"1e", "e3",  "1-2", "1,5",   "--1",   "1.2.3", "."};
	double value;
	size_t i;

	(void)state;
	assert_int_equal(text_parse_real("3e-4", 0, 1, &value), 0);
	assert_true(value == 3e-4);
	assert_int_equal(text_parse_real("-.5", -1, 1, &value), 0);
	assert_true(value == -0.5);
	assert_int_equal(text_parse_real("2", 0, 1, &value), -ERANGE);
	assert_true(value == -0.5);
	for (i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(text_parse_real(bad[i], -1e308, 1e308, &value),
				 -EINVAL);
}

static void test_byte_sizes(void **state)
{
	uint64_t bytes = 1;

	(void)state;
	assert_int_equal(text_parse_bytes("512", &bytes), 0);
	assert_int_equal(bytes, 512);
	assert_int_equal(text_parse_bytes("3K", &bytes), 0);
	assert_int_equal(bytes, 3072);
	assert_int_equal(text_parse_bytes("2T", &bytes), 0);
	assert_int_equal(bytes, 2ULL << 40);
	assert_int_equal(text_parse_bytes("", &bytes), -EINVAL);
	assert_int_equal(text_parse_bytes("K", &bytes), -EINVAL);
	assert_int_equal(text_parse_bytes("-1", &bytes), -EINVAL);
	assert_int_equal(text_parse_bytes("1k", &bytes), -EINVAL);
	assert_int_equal(text_parse_bytes("8388608T", &bytes), -ERANGE);
	assert_int_equal(bytes, 2ULL << 40);
}

static void test_lists(void **state)
{
	static const int64_t untouched[3] = {7, 7, 7};
	int64_t out[3] = {7, 7, 7};
	size_t count = 9;

	(void)state;
	assert_int_equal(text_parse_list("5,4,x", 1, 9, out, 3, &count),
			 -EINVAL);
	assert_int_equal(text_parse_list("5,4,10", 1, 9, out, 3, &count),
			 -ERANGE);
	assert_int_equal(text_parse_list("1,2,3,4", 1, 9, out, 3, &count),
			 -ERANGE);
	assert_int_equal(text_parse_list("1,,2", 1, 9, out, 3, &count),
			 -EINVAL);
	assert_int_equal(text_parse_list("", 1, 9, out, 3, &count), -EINVAL);
	assert_int_equal(text_parse_list("1,", 1, 9, out, 3, &count), -EINVAL);
	assert_memory_equal(out, untouched, sizeof(out));
	assert_int_equal(count, 9);
	assert_int_equal(text_parse_list("5,4,3", 1, 9, out, 3, &count), 0);
	assert_int_equal(count, 3);
	assert_int_equal(out[0], 5);
	assert_int_equal(out[2], 3);
}

static void test_quantities(void **state)
{
	char b[32];

	(void)state;
	assert_string_equal(text_bytes(b, sizeof(b), 0), "0 B");
	assert_string_equal(text_bytes(b, sizeof(b), 1023), "1023 B");
	assert_string_equal(text_bytes(b, sizeof(b), 1536), "1.5 KiB");
	assert_string_equal(text_bytes(b, sizeof(b), 1048575), "1.0 MiB");
	assert_string_equal(text_bytes(b, sizeof(b), UINT64_MAX), "16.0 EiB");
	assert_string_equal(text_duration(b, sizeof(b), 0.25), "250 ms");
	assert_string_equal(text_duration(b, sizeof(b), 0.9999), "1.0 s");
	assert_string_equal(text_duration(b, sizeof(b), 59.97), "1 m 0 s");
	assert_string_equal(text_duration(b, sizeof(b), 192), "3 m 12 s");
	assert_string_equal(text_duration(b, sizeof(b), 7260), "2 h 1 m");
	assert_string_equal(text_duration(b, sizeof(b), 200000), "2 d 7 h");
	assert_string_equal(text_duration(b, sizeof(b), -1), "0 ms");
	assert_string_equal(text_grouped(b, sizeof(b), 0), "0");
	assert_string_equal(text_grouped(b, sizeof(b), 999), "999");
	assert_string_equal(text_grouped(b, sizeof(b), 124439808),
			    "124,439,808");
	/* Too small a buffer cuts, and terminates. */
	assert_string_equal(text_grouped(b, 4, 124439808), "124");
}

static void test_nearest(void **state)
{
	static const char *const names[] = {"stages", "steps", "seed", "lr"};

	(void)state;
	assert_int_equal(text_distance("kitten", "sitting", 9), 3);
	assert_int_equal(text_distance("ab", "ba", 9), 1);
	assert_int_equal(text_distance("", "abc", 9), 3);
	assert_int_equal(text_distance("abcdef", "uvwxyz", 4), 4);
	assert_string_equal(text_nearest("stage", names, 4), "stages");
	assert_string_equal(text_nearest("setps", names, 4), "steps");
	assert_null(text_nearest("tokenizer", names, 4));
	assert_null(text_nearest("k", names, 4));
}

static void test_utf8(void **state)
{
	static const struct {
		const char *bytes;
		size_t length;
		size_t bad; /* length: valid */
	} rows[] = {
		{"", 0, 0},
		{"plain", 5, 5},
		{"h\xc3\xa9", 3, 3},
		{"\xe2\x82\xac", 3, 3},
		{"\xf0\x9f\x98\x80", 4, 4},
		{"\xf4\x8f\xbf\xbf", 4, 4},
		{"a\x80", 2, 1},            /* a stray continuation */
		{"a\xc0\x80", 3, 1},        /* overlong */
		{"\xe0\x9f\xbf", 3, 0},     /* overlong */
		{"\xed\xa0\x80", 3, 0},     /* surrogate */
		{"\xf0\x8f\xbf\xbf", 4, 0}, /* overlong */
		{"\xf4\x90\x80\x80", 4, 0}, /* above U+10FFFF */
		{"ok\xe2\x82", 4, 2},       /* cut */
		{"\xff", 1, 0},
	};
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		size_t bad = rows[i].length;

		assert_int_equal(
			text_is_utf8(rows[i].bytes, rows[i].length, &bad),
			rows[i].bad == rows[i].length);
		assert_int_equal(bad, rows[i].bad);
	}
}

static void test_builder(void **state)
{
	struct text_builder builder;
	char *text;
	int i;

	(void)state;
	text_builder_init(&builder);
	text = text_builder_finish(&builder);
	assert_string_equal(text, "");
	free(text);
	text_builder_init(&builder);
	for (i = 0; i < 1000; i++)
		text_builder_append(&builder, "%d,", i % 10);
	text_builder_append_bytes(&builder, "\0end", 4);
	assert_int_equal(builder.length, 2004);
	text = text_builder_finish(&builder);
	assert_memory_equal(text, "0,1,2,3,", 8);
	assert_memory_equal(text + 2000, "\0end", 5);
	free(text);
	text_builder_append_bytes(&builder, "x", SIZE_MAX);
	assert_true(builder.failed);
	assert_null(text_builder_finish(&builder));
	text_builder_fini(&builder);
}

static void test_copy_and_checked(void **state)
{
	char out[4] = "???";
	size_t result = 5;

	(void)state;
	assert_int_equal(text_copy(out, sizeof(out), "abc"), 0);
	assert_string_equal(out, "abc");
	assert_int_equal(text_copy(out, sizeof(out), "defg"), -ENAMETOOLONG);
	assert_string_equal(out, "def");
	assert_false(checked_add(SIZE_MAX, 1, &result));
	assert_false(checked_multiply(SIZE_MAX / 2, 3, &result));
	assert_int_equal(result, 5);
	assert_true(checked_multiply(6, 7, &result));
	assert_int_equal(result, 42);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_integers),
		cmocka_unit_test(test_reals),
		cmocka_unit_test(test_byte_sizes),
		cmocka_unit_test(test_lists),
		cmocka_unit_test(test_quantities),
		cmocka_unit_test(test_nearest),
		cmocka_unit_test(test_utf8),
		cmocka_unit_test(test_builder),
		cmocka_unit_test(test_copy_and_checked),
	};

	return RUN_TESTS("text", tests);
}
