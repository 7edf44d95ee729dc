/* base/files.c in a folder of its own. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/files.h"
#include "base/log.h"
#include "base/text.h"
#include "tests/unit/cmocka-tap.h"

static char root[] = "test-files-XXXXXX";

static const char *in_root(const char *name)
{
	static char path[FILES_PATH_BYTES];

	assert_int_equal(files_join(path, sizeof(path), root, name), 0);
	return path;
}

static int setup(void **state)
{
	(void)state;
	return mkdtemp(root) ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	return files_remove_tree(root);
}

static void put(const char *name, const char *text)
{
	assert_int_equal(files_replace(in_root(name), text, strlen(text)), 0);
}

static void test_names(void **state)
{
	char out[8];

	(void)state;
	assert_int_equal(files_join(out, 8, "abc", "def"), 0);
	assert_string_equal(out, "abc/def");
	assert_int_equal(files_join(out, 8, "abc", "defg"), -ENAMETOOLONG);
	assert_int_equal(files_join(out, 8, "abc/", "d"), 0);
	assert_string_equal(out, "abc/d");
	assert_true(files_name_is_plain("a.b"));
	assert_true(files_name_is_plain("..."));
	assert_false(files_name_is_plain(""));
	assert_false(files_name_is_plain("."));
	assert_false(files_name_is_plain(".."));
	assert_false(files_name_is_plain("../x"));
	assert_false(files_name_is_plain("/etc"));
}

static int count_entries(void *argument, const char *path, uint64_t bytes)
{
	(void)path;
	(void)bytes;
	++*(int *)argument;
	return 0;
}

static void test_replace_and_read(void **state)
{
	uint64_t bytes;
	size_t length;
	int entries = 0;
	char *text;

	(void)state;
	put("one", "first");
	put("one", "second");
	assert_int_equal(files_read(in_root("one"), 6, &text, &length), 0);
	assert_string_equal(text, "second");
	assert_int_equal(length, 6);
	free(text);
	assert_int_equal(files_size(in_root("one"), &bytes), 0);
	assert_int_equal(bytes, 6);
	assert_int_equal(files_read(in_root("one"), 5, &text, &length), -EFBIG);
	assert_int_equal(files_read(in_root("no"), 5, &text, &length), -ENOENT);
	assert_non_null(strstr(log_last_error(), "/no: cannot open: No such"));
	assert_int_equal(files_read(root, 5, &text, &length), -EISDIR);
	/* No temporary file stays behind. */
	assert_int_equal(files_walk(root, count_entries, &entries), 0);
	assert_int_equal(entries, 1);
	assert_int_not_equal(files_replace(in_root("no/such"), "x", 1), 0);
}

/* A FIFO is refused rather than waited for. */
static void test_fifo(void **state)
{
	size_t length;
	char *text;

	(void)state;
	assert_int_equal(mkfifo(in_root("fifo"), 0600), 0);
	assert_int_equal(files_read(in_root("fifo"), 5, &text, &length),
			 -EINVAL);
	assert_int_equal(files_remove_tree(in_root("fifo")), 0);
}

static void test_map(void **state)
{
	struct files_mapping mapping;

	(void)state;
	put("map", "mapped");
	put("empty", "");
	assert_int_equal(files_map(in_root("map"), &mapping), 0);
	assert_int_equal(mapping.length, 6);
	assert_memory_equal(mapping.data, "mapped", 6);
	files_unmap(&mapping);
	assert_null(mapping.data);
	assert_int_equal(files_map(in_root("empty"), &mapping), 0);
	assert_null(mapping.data);
	assert_int_equal(mapping.length, 0);
	files_unmap(&mapping);
	assert_int_equal(files_map(in_root("none"), &mapping), -ENOENT);
}

static void test_offsets(void **state)
{
	char path[FILES_PATH_BYTES];
	char back[8] = "";
	int fd;

	(void)state;
	assert_int_equal(text_copy(path, sizeof(path), in_root("at")), 0);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(files_write_all(fd, "0123", 4, path), 0);
	assert_int_equal(files_write_at(fd, "AB", 2, 3, path), 0);
	assert_int_equal(files_read_at(fd, back, 5, 0, path), 0);
	assert_string_equal(back, "012AB");
	assert_int_equal(files_read_at(fd, back, 5, 1, path), -EIO);
	close(fd);
}

static int record(void *argument, const char *path, uint64_t bytes)
{
	struct text_builder *builder = argument;

	text_builder_append(builder, "%s:%d ", path + sizeof(root), (int)bytes);
	return strstr(path, "stop") ? -ECANCELED : 0;
}

static void test_walk(void **state)
{
	struct text_builder builder;
	char *text;

	(void)state;
	assert_int_equal(files_make_folder(in_root("w/a/deep")), 0);
	assert_int_equal(files_make_folder(in_root("w/empty")), 0);
	put("w/a/deep/x", "1");
	put("w/a.c", "22");
	put("w/a/b", "333");
	put("w/Z", "");
	assert_int_equal(symlink("a.c", in_root("w/link")), 0);
	assert_int_equal(symlink("a", in_root("w/loop")), 0);
	assert_int_equal(symlink("nowhere", in_root("w/dangling")), 0);
	text_builder_init(&builder);
	assert_int_equal(files_walk(in_root("w"), record, &builder), 0);
	text = text_builder_finish(&builder);
	assert_string_equal(text,
			    "w/Z:0 w/a.c:2 w/a/b:3 w/a/deep/x:1 w/link:2 ");
	free(text);

	put("w/b-stop", "x");
	text_builder_init(&builder);
	assert_int_equal(files_walk(in_root("w"), record, &builder),
			 -ECANCELED);
	text = text_builder_finish(&builder);
	assert_string_equal(text,
			    "w/Z:0 w/a.c:2 w/a/b:3 w/a/deep/x:1 w/b-stop:1 ");
	free(text);

	text_builder_init(&builder);
	assert_int_equal(files_walk(in_root("w/a.c"), record, &builder), 0);
	text = text_builder_finish(&builder);
	assert_string_equal(text, "w/a.c:2 ");
	free(text);
	assert_int_equal(files_walk(in_root("none"), record, NULL), -ENOENT);
}

static void test_remove_tree(void **state)
{
	(void)state;
	put("keep", "kept");
	assert_int_equal(files_make_folder(in_root("r/s/t")), 0);
	assert_int_equal(symlink("../keep", in_root("r/keep")), 0);
	put("r/s/f", "x");
	assert_int_equal(files_remove_tree(in_root("r")), 0);
	assert_false(files_exists(in_root("r")));
	assert_true(files_exists(in_root("keep"))); /* links not followed */
	assert_int_equal(files_remove_tree(in_root("r")), 0);
}

static void test_folders_and_copies(void **state)
{
	char from[FILES_PATH_BYTES];
	char to[FILES_PATH_BYTES];
	size_t length;
	char *text;

	(void)state;
	assert_int_equal(files_make_folder(in_root("d//e/")), 0);
	assert_int_equal(files_make_folder(in_root("d/e")), 0);
	assert_true(files_is_folder(in_root("d/e")));
	put("d/file", "copied");
	assert_false(files_is_folder(in_root("d/file")));
	assert_int_equal(files_make_folder(in_root("d/file/x")), -ENOTDIR);
	assert_int_equal(files_join(from, sizeof(from), root, "d/file"), 0);
	assert_int_equal(files_join(to, sizeof(to), root, "d/e/copy"), 0);
	assert_int_equal(files_copy(from, to), 0);
	assert_int_equal(files_read(to, 99, &text, &length), 0);
	assert_string_equal(text, "copied");
	free(text);
	assert_int_equal(files_join(to, sizeof(to), root, "d/moved"), 0);
	assert_int_equal(files_rename_durably(from, to), 0);
	assert_false(files_exists(from));
	assert_int_equal(files_rename_durably(from, to), -ENOENT);
	assert_int_equal(files_copy(from, to), -ENOENT);
	assert_int_equal(files_sync(to), 0);
	assert_int_equal(files_sync(in_root("d")), 0);
	assert_int_equal(files_sync(from), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_replace_and_read),
		cmocka_unit_test(test_fifo),
		cmocka_unit_test(test_map),
		cmocka_unit_test(test_offsets),
		cmocka_unit_test(test_walk),
		cmocka_unit_test(test_remove_tree),
		cmocka_unit_test(test_folders_and_copies),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("files", tests, setup, teardown);
}
