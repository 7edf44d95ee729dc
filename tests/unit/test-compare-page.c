/*
 * tools/compare_page.c: the comparison comes out of the page as it went in,
 * whatever its texts are, and a page is written whole or not at all.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/files.h"
#include "base/log.h"
#include "tests/unit/cmocka-tap.h"
#include "tools/compare_page.h"

#define PAGE_LIMIT ((size_t)4 << 20)

static const char json_begin[] =
	"<script type=\"application/json\" id=\"comparison\">";

static void ignore_line(void *argument, enum log_level level, const char *line)
{
	(void)argument;
	(void)level;
	(void)line;
}

struct folder {
	char path[64];
	char page[96];
};

static int make_folder(void **state)
{
	static struct folder folder;

	snprintf(folder.path, sizeof(folder.path), "test-compare-page.XXXXXX");
	if (mkdtemp(folder.path) == NULL)
		return -1;
	snprintf(folder.page, sizeof(folder.page), "%s/page.html", folder.path);
	*state = &folder;
	return 0;
}

static int remove_folder(void **state)
{
	struct folder *folder = *state;

	return files_remove_tree(folder->path);
}

static json_t *document_of(const char *title, const char *name)
{
	json_t *document =
		json_pack("{s:s, s:i, s:[{s:s, s:s}]}", "title", title, "ranks",
			  2, "schedules", "name", name, "refused", name);

	assert_non_null(document);
	json_object_set_new(document, "third", json_real(0.3333333));
	json_object_set_new(document, "large", json_real(1.234567e20));
	return document;
}

static size_t count_of(const char *text, const char *part)
{
	size_t count = 0;

	for (text = strstr(text, part); text; text = strstr(text + 1, part))
		count++;
	return count;
}

/* The page, and the JSON in it parsed; the caller frees both. */
static char *write_and_read(const char *path, const json_t *document,
			    json_t **inside)
{
	size_t length;
	char *page;
	const char *begin, *end;

	assert_int_equal(compare_page_write(path, document), 0);
	assert_int_equal(files_read(path, PAGE_LIMIT, &page, &length), 0);
	assert_int_equal(strlen(page), length);
	begin = strstr(page, json_begin);
	assert_non_null(begin);
	begin += strlen(json_begin);
	end = strstr(begin, "</script>");
	assert_non_null(end);
	assert_int_equal(json_parse(begin, (size_t)(end - begin), path, inside),
			 0);
	return page;
}

static void test_round_trip(void **state)
{
	static const char *const texts[] = {
		"zb-v",
		"</script><script>alert(1)</script>",
		"<!-- <script> \" ' & \\ &lt; </title>",
		"@TITLE@ @DOCUMENT@ \xe2\x80\xa8 \xc3\xa9 \t\n",
	};
	const struct folder *folder = *state;
	size_t scripts = 0;

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		json_t *document = document_of(texts[i], texts[i]);
		json_t *inside;
		char *page = write_and_read(folder->page, document, &inside);

		assert_true(json_equal(document, inside));
		/* As many elements as with a harmless name. */
		if (i == 0)
			scripts = count_of(page, "<script");
		assert_int_equal(count_of(page, "<script"), scripts);
		assert_int_equal(count_of(page, "</title>"), 1);
		assert_int_equal(count_of(page, "</html>"), 1);
		free(page);
		json_decref(inside);
		json_decref(document);
	}
	assert_int_equal(scripts, 2);
}

static void test_title(void **state)
{
	const struct folder *folder = *state;
	json_t *document = document_of("a < b & c > d", "x");
	json_t *inside;
	char *page = write_and_read(folder->page, document, &inside);

	assert_non_null(strstr(page, "<title>a &lt; b &amp; c &gt; d</title>"));
	free(page);
	json_decref(inside);
	json_decref(document);
}

/* What stood there stays when the new page cannot be written. */
static void test_failure(void **state)
{
	const struct folder *folder = *state;
	json_t *document = document_of("title", "name");
	char path[128];

	snprintf(path, sizeof(path), "%s/none/page.html", folder->path);
	assert_int_equal(compare_page_write(path, document), -ENOENT);
	assert_non_null(strstr(log_last_error(), path));
	assert_int_equal(mkdir(folder->page, 0777), 0);
	assert_true(compare_page_write(folder->page, document) < 0);
	assert_true(files_is_folder(folder->page));
	assert_int_equal(rmdir(folder->page), 0);
	/* Nothing else was left beside it. */
	assert_int_equal(rmdir(folder->path), 0);
	assert_int_equal(mkdir(folder->path, 0777), 0);
	json_decref(document);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_round_trip, make_folder,
						remove_folder),
		cmocka_unit_test_setup_teardown(test_title, make_folder,
						remove_folder),
		cmocka_unit_test_setup_teardown(test_failure, make_folder,
						remove_folder),
	};

	log_set_sink(ignore_line, NULL);
	return RUN_TESTS("compare page", tests);
}
