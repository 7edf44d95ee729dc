/*
 * Expressions of a tokenizer.json: what is translated, what is refused by
 * name, and that a hostile one cannot hang a search.
 */
#include "tests/unit/data/support.h"

#include "base/clock.h"
#include "data/tokenizer/pattern.h"

#include <errno.h>

static void assert_translated(const char *from, const char *to)
{
	struct byte_buffer out = {0};

	assert_int_equal(pattern_translate(from, "test", &out), 0);
	assert_int_equal(byte_buffer_append(&out, "", 1), 0);
	assert_string_equal(out.data, to);
	byte_buffer_fini(&out);
}

static void test_translation(void **state)
{
	(void)state;
	assert_translated("a|b+?c*+", "a|b+?c*+");
	assert_translated("\\p{Lu}\\P{Greek}\\p{^Han}",
			  "\\p{Lu}\\P{sc:Greek}\\P{sc:Han}");
	assert_translated("\\p{Letter}\\p{Any}", "\\p{L}\\p{Any}");
	assert_translated("\\u00e9[\\h-]", "\\x{00e9}[0-9A-Fa-f-]");
	/* Not possessive, and no lower bound. */
	assert_translated("\\d{1,3}+", "(?:\\d{1,3})+");
	assert_translated("(a(b)){2}+c", "(?:(a(b)){2})+c");
	assert_translated("[x(]{,2}", "[x(]{0,2}");
	assert_translated("{a}", "\\{a}");
	assert_translated("(?mi-m:a)(?i)(?<n>b)(?<!c)",
			  "(?si-s:a)(?i)(?<n>b)(?<!c)");
}

static void test_refusals(void **state)
{
	static const char *const cases[][2] = {
		{"a(*UTF)", "(*"},
		{"[a&&b]", "&&"},
		{"[a[b]]", "class within"},
		{"[\\W]", "\\W in a class"},
		{"\\Aab", "escape"},
		{"a\\z", "escape"},
		{"\\X", "escape"},
		{"a\\", "\\ at the end"},
		{"[ab", "without its ]"},
		{"a)", "without its ("},
		{"(?P<n>a)", "group"},
		{"(?#c)", "group"},
		{"\\pL", "without {}"},
		{"\\u12", "four digits"},
		{"(a)\\1", "escape"},
		{"(a", "expression"},
		{"\\p{Nonsense}", "expression"},
		{"", "0 bytes"},
		{"[]a]", "] as the first"},
	};
	struct pattern pattern;
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(
			pattern_expression(&pattern, cases[i][0], "FILE"),
			-EINVAL);
		assert_error(cases[i][1]);
		assert_error("FILE");
		pattern_fini(&pattern);
	}
}

/* Searches the whole of text; the number of matches, or an error. */
static int search(const char *expression, const char *text, size_t length,
		  int64_t limit_ns)
{
	struct pattern pattern;
	struct pattern_work *work;
	struct pattern_scan scan = {
		.pattern = &pattern,
		.text = text,
		.length = length,
		.last = SIZE_MAX,
	};
	int found, count = 0;

	if (pattern_expression(&pattern, expression, "FILE"))
		fail_msg("%s", log_last_error());
	assert_int_equal(pattern_work_create(&work), 0);
	pattern_work_limit(work, limit_ns);
	scan.work = work;
	while ((found = pattern_next(&scan)) > 0) {
		assert_true(scan.from <= scan.to && scan.to <= length);
		count++;
	}
	pattern_work_destroy(work);
	pattern_fini(&pattern);
	return found ? found : count;
}

static void test_matches(void **state)
{
	/* More places than one call tries, with characters across the end. */
	size_t length = 4000, i;
	char text[4002];

	(void)state;
	for (i = 0; i < length; i += 2)
		memcpy(text + i, "\xC3\xA9", 2);
	memcpy(text + 3000, "=1", 2);
	assert_int_equal(search("=\\d", text, length, INT64_MAX), 1);
	assert_int_equal(search("\xC3\xA9=", text, length, INT64_MAX), 1);
	assert_int_equal(search("x", text, length, INT64_MAX), 0);
	assert_int_equal(search("x*", "axb", 3, INT64_MAX), 3);
	assert_int_equal(search("(?=b)|$", "abab", 4, INT64_MAX), 3);
	assert_int_equal(search("^.", "a\nb\n", 4, INT64_MAX), 2);
}

static void test_hostile(void **state)
{
	static const char *const hostile[] = {
		"(a*)*b",        "(a|a)*b",    "(a|aa)+$",       "(.*)*x",
		"(?:\\w*)+=",    "((a*)*)*b",  "(a?){30}a{30}b", "(?:a+)+!",
		"(?:a|b|ab)*c",  "(?:a?a?)*b", "\\w*=",          "a*a*a*a*b",
		"a{0,30000}a*b", "(x+x+)+y",   "(?:(?:a*)*)*$!",
	};
	size_t length = 40000, i, slow = 0;
	char *text = malloc(length);

	(void)state;
	assert_non_null(text);
	memset(text, 'a', length);
	for (i = 0; i < ARRAY_SIZE(hostile); i++) {
		int64_t start = clock_now_ns();
		int found = search(hostile[i], text, length, 200000000);

		/* Without limits most would take longer than the universe. */
		assert_true(found >= 0 || found == -EINVAL);
		if (found < 0)
			slow++;
		if (clock_seconds(clock_now_ns() - start) > 60)
			fail_msg("%s took over a minute", hostile[i]);
	}
	assert_true(slow >= 5);
	assert_error("takes too long");
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_translation),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_matches),
		cmocka_unit_test(test_hostile),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	log_set_sink(quiet_sink, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
