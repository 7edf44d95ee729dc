/* base/json.c: what is refused, and by which words. */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/files.h"
#include "base/json.h"
#include "base/log.h"
#include "tests/unit/cmocka-tap.h"

static json_t *parsed(const char *text)
{
	json_t *value;

	assert_int_equal(json_parse(text, strlen(text), "t.json", &value), 0);
	return value;
}

static void test_bad_text(void **state)
{
	static const char *const bad[] = {
		"",     "{",           "{\"a\":1,\"a\":2}", "[1,]",
		"{} x", "{\"a\":nan}", "\"\xff\""};
	json_t *value = NULL;
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(
			json_parse(bad[i], strlen(bad[i]), "t.json", &value),
			-EINVAL);
		assert_null(value);
		assert_non_null(strstr(log_last_error(), "t.json: line 1"));
	}
}

static void test_integers(void **state)
{
	json_t *object = parsed("{\"n\":12,\"x\":1.5,\"s\":\"12\",\"z\":null}");
	int64_t n = 77;

	(void)state;
	assert_int_equal(json_get_integer(object, "n", 0, 20, "t", &n), 0);
	assert_int_equal(n, 12);
	n = 77;
	assert_int_equal(json_get_integer(object, "n", 0, 11, "t", &n),
			 -EINVAL);
	assert_string_equal(log_last_error(), "t: 'n' is 12, expected 0 to 11");
	assert_int_equal(json_get_integer(object, "x", 0, 20, "t", &n),
			 -EINVAL);
	assert_string_equal(log_last_error(),
			    "t: 'x' is a real number, expected an integer");
	assert_int_equal(json_get_integer(object, "s", 0, 20, "t", &n),
			 -EINVAL);
	assert_int_equal(json_get_integer(object, "z", 0, 20, "t", &n),
			 -EINVAL);
	assert_int_equal(json_get_integer(object, "none", 0, 20, "t", &n),
			 -EINVAL);
	assert_string_equal(log_last_error(),
			    "t: 'none' is missing (expected an integer)");
	assert_int_equal(n, 77);
	assert_int_equal(json_get_integer_or(object, "z", 0, 9, 5, "t", &n), 0);
	assert_int_equal(n, 5);
	assert_int_equal(json_get_integer_or(object, "n", 0, 9, 5, "t", &n),
			 -EINVAL);
	json_decref(object);
}

static void test_other_types(void **state)
{
	json_t *object = parsed("{\"n\":2,\"x\":1.5,\"b\":true,\"s\":\"t\","
				"\"a\":[1],\"o\":{}}");
	const char *text = NULL;
	json_t *inner = NULL;
	double x = 0;
	bool b = false;

	(void)state;
	assert_int_equal(json_get_real(object, "n", 0, 9, "t", &x), 0);
	assert_true(x == 2);
	assert_int_equal(json_get_real_or(object, "x", 0, 9, 1, "t", &x), 0);
	assert_true(x == 1.5);
	assert_int_equal(json_get_real(object, "x", 0, 1, "t", &x), -EINVAL);
	assert_int_equal(json_get_real(object, "b", 0, 1, "t", &x), -EINVAL);
	assert_int_equal(json_get_real_or(object, "q", 0, 1, 0.1, "t", &x), 0);
	assert_true(x == 0.1);
	assert_int_equal(json_get_boolean_or(object, "b", false, "t", &b), 0);
	assert_true(b);
	assert_int_equal(json_get_boolean_or(object, "n", false, "t", &b),
			 -EINVAL);
	assert_int_equal(json_get_string(object, "s", "t", &text), 0);
	assert_string_equal(text, "t");
	assert_int_equal(json_get_string(object, "a", "t", &text), -EINVAL);
	assert_int_equal(json_get_string_or(object, "q", "f", "t", &text), 0);
	assert_string_equal(text, "f");
	assert_int_equal(json_get_string_or(object, "n", "f", "t", &text),
			 -EINVAL);
	assert_int_equal(json_get_array(object, "a", "t", &inner), 0);
	assert_int_equal(json_array_size(inner), 1);
	assert_int_equal(json_get_array(object, "o", "t", &inner), -EINVAL);
	assert_int_equal(json_get_object(object, "o", "t", &inner), 0);
	assert_int_equal(json_get_object(object, "q", "t", &inner), -EINVAL);
	json_decref(object);
}

/* Not an object at all: an error, not a crash. */
static void test_not_an_object(void **state)
{
	json_t *array = parsed("[1]");
	int64_t n;

	(void)state;
	assert_int_equal(json_get_integer(array, "n", 0, 9, "t", &n), -EINVAL);
	json_decref(array);
}

static void test_write(void **state)
{
	static const char path[] = "test-json.tmp";
	static const char expected[] =
		"{\n  \"lr\": 0.0003,\n  \"third\": 0.3333333333333333,\n"
		"  \"two\": 2.0,\n  \"big\": 1e+300,\n  \"a\": [\n    1,\n"
		"    true\n  ],\n  \"none\": {},\n  \"s\": \"\\\"\u00e9\"\n}\n";
	json_t *value = json_pack("{s:f,s:f,s:f,s:f,s:[i,b],s:{},s:s}", "lr",
				  3e-4, "third", 1.0 / 3, "two", 2.0, "big",
				  1e300, "a", 1, 1, "none", "s", "\"\u00e9");
	json_t *back;
	char *text;
	size_t length;

	(void)state;
	assert_non_null(value);
	assert_int_equal(json_write(path, value), 0);
	assert_int_equal(files_read(path, 1000, &text, &length), 0);
	assert_string_equal(text, expected);
	assert_int_equal(json_read(path, 1000, &back), 0);
	assert_true(json_equal(value, back));
	assert_int_equal(json_read(path, 10, &back), -EFBIG);
	free(text);
	json_decref(back);
	json_decref(value);
	assert_int_equal(files_remove_tree(path), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bad_text),
		cmocka_unit_test(test_integers),
		cmocka_unit_test(test_other_types),
		cmocka_unit_test(test_not_an_object),
		cmocka_unit_test(test_write),
	};

	return RUN_TESTS("json", tests);
}
