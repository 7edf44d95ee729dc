/*
 * What the tests of data/ share: their files, temporary folders, and the log
 * kept quiet while its last error stays readable.
 */
#ifndef STAGECOACH_TESTS_UNIT_DATA_SUPPORT_H
#define STAGECOACH_TESTS_UNIT_DATA_SUPPORT_H

/* Before cmocka, which has a macro named fail. */
#include "base/files.h"
#include "base/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static inline void quiet_sink(void *argument, enum log_level level,
			      const char *line)
{
	(void)argument;
	(void)level;
	(void)line;
}

/* The path of a file of tests/unit/data; the caller frees. */
static inline char *data_path(const char *name)
{
	const char *source = getenv("srcdir");
	char *path;

	assert_true(asprintf(&path, "%s/tests/unit/data/%s",
			     source ? source : ".", name) > 0);
	return path;
}

static inline int folder_setup(void **state)
{
	char pattern[] = "/tmp/stagecoach-test-XXXXXX";

	assert_non_null(mkdtemp(pattern));
	*state = strdup(pattern);
	return 0;
}

static inline int folder_teardown(void **state)
{
	int err = files_remove_tree(*state);

	free(*state);
	return err;
}

static inline void path_in(char out[512], const char *folder, const char *name)
{
	int length = snprintf(out, 512, "%s/%s", folder, name);

	assert_in_range(length, 1, 511);
}

static inline void file_write(const char *path, const void *data, size_t length)
{
	FILE *file = fopen(path, "wb");

	assert_non_null(file);
	assert_int_equal(fwrite(data, 1, length, file), length);
	assert_int_equal(fclose(file), 0);
}

/* The last error names what it should. */
static inline void assert_error(const char *part)
{
	if (!strstr(log_last_error(), part))
		fail_msg("\"%s\" does not say \"%s\"", log_last_error(), part);
}

#endif
