/* base/log.c, and the arenas and clock that need no program of their own. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/log.h"
#include "tests/unit/cmocka-tap.h"

struct lines {
	int count;
	enum log_level level;
	char last[8192];
};

static void keep(void *argument, enum log_level level, const char *line)
{
	struct lines *lines = argument;

	lines->count++;
	lines->level = level;
	snprintf(lines->last, sizeof(lines->last), "%s", line);
}

static void test_levels_and_identity(void **state)
{
	struct lines lines = {0};

	(void)state;
	log_set_sink(keep, &lines);
	log_info("plain %d", 1);
	assert_string_equal(lines.last, "plain 1");
	log_debug("hidden");
	assert_int_equal(lines.count, 1);
	log_set_level(LOG_DEBUG);
	log_debug("shown");
	assert_int_equal(lines.count, 2);
	log_set_level(LOG_ERROR);
	log_warning("hidden");
	assert_int_equal(lines.count, 2);
	log_set_level(LOG_INFO);
	log_set_identity("rank 1 (stage 1)");
	log_warning("low");
	assert_string_equal(lines.last, "rank 1 (stage 1): low");
	assert_int_equal(lines.level, LOG_WARNING);
	log_set_identity("");
	log_info("bare");
	assert_string_equal(lines.last, "bare");
	log_set_sink(NULL, NULL);
}

static void test_fail_and_last_error(void **state)
{
	struct lines lines = {0};

	(void)state;
	log_set_sink(keep, &lines);
	log_clear_last_error();
	assert_string_equal(log_last_error(), "");
	log_set_identity("rank 3");
	errno = EAGAIN;
	assert_int_equal(fail(-EIO, "disk %s", "gone"), -EIO);
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(lines.level, LOG_ERROR);
	assert_string_equal(lines.last, "rank 3: disk gone");
	assert_string_equal(log_last_error(), "disk gone");
	log_warning("not an error");
	assert_string_equal(log_last_error(), "disk gone");
	log_set_identity("");
	log_set_sink(NULL, NULL);
}

static void test_long_lines_are_cut(void **state)
{
	struct lines lines = {0};
	char *longest = malloc(10000);

	(void)state;
	assert_non_null(longest);
	memset(longest, 'x', 9999);
	longest[9999] = '\0';
	log_set_sink(keep, &lines);
	log_error("%s", longest);
	log_set_sink(NULL, NULL);
	assert_int_equal(strlen(lines.last), 4095);
	assert_string_equal(lines.last + 4092, "...");
	free(longest);
}

static void chatty(void *argument, enum log_level level, const char *line)
{
	(void)level;
	(void)line;
	++*(int *)argument;
	log_info("# from inside the sink");
}

/* A sink that logs neither recurses nor deadlocks. */
static void test_sink_that_logs(void **state)
{
	int count = 0;

	(void)state;
	log_set_sink(chatty, &count);
	log_info("x");
	log_set_sink(NULL, NULL);
	assert_int_equal(count, 1);
}

static void *other_thread(void *argument)
{
	int i;

	(void)argument;
	log_set_identity("other");
	log_error("theirs");
	for (i = 0; i < 1000; i++)
		log_info("line");
	return NULL;
}

static void test_threads_have_their_own(void **state)
{
	struct lines lines = {0};
	pthread_t thread;
	int i;

	(void)state;
	log_set_sink(keep, &lines);
	log_set_identity("mine");
	log_error("ours");
	assert_int_equal(pthread_create(&thread, NULL, other_thread, NULL), 0);
	for (i = 0; i < 1000; i++)
		log_info("line");
	pthread_join(thread, NULL);
	assert_string_equal(log_identity(), "mine");
	assert_string_equal(log_last_error(), "ours");
	assert_int_equal(lines.count, 2002);
	log_set_identity("");
	log_set_sink(NULL, NULL);
}

/* What a child writes to stderr, and how it ended. */
static int in_child(void (*child)(void), char *out, size_t size)
{
	int ends[2];
	int status;
	size_t length = 0;
	ssize_t n;
	pid_t pid;

	assert_int_equal(pipe(ends), 0);
	pid = fork();
	if (pid == 0) {
		dup2(ends[1], STDERR_FILENO);
		close(ends[0]);
		child();
		_exit(0);
	}
	close(ends[1]);
	while ((n = read(ends[0], out + length, size - 1 - length)) > 0)
		length += (size_t)n;
	out[length] = '\0';
	close(ends[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void clear_line(void)
{
	(void)!write(STDERR_FILENO, "<clear>", 7);
}

static void child_logs(void)
{
	log_set_before_line(clear_line);
	log_set_identity("rank 0");
	log_info("one");
	log_error("two");
}

static void child_asserts(void)
{
	int zero = 0;

	signal(SIGABRT, SIG_DFL);
	ASSERT(zero == 1);
}

static void test_stderr(void **state)
{
	char text[1024];

	(void)state;
	assert_int_equal(in_child(child_logs, text, sizeof(text)), 0);
	assert_string_equal(text,
			    "<clear>rank 0: one\n<clear>error: rank 0: two\n");
	assert_true(WIFSIGNALED(in_child(child_asserts, text, sizeof(text))));
	assert_non_null(strstr(text, "bug: "));
	assert_non_null(strstr(text, "zero == 1"));
}

static void test_arena(void **state)
{
	struct arena arena;
	unsigned char *a;
	unsigned char *b;
	size_t i;

	(void)state;
	assert_int_equal(arena_piece_bytes(0), 0);
	assert_int_equal(arena_piece_bytes(1), 64);
	assert_int_equal(arena_piece_bytes(64), 64);
	assert_int_equal(arena_init(&arena, "step", 200), 0);
	a = arena_allocate(&arena, 65);
	b = arena_allocate(&arena, 64);
	assert_int_equal((uintptr_t)a % 64, 0);
	assert_ptr_equal(b, a + 128);
	for (i = 0; i < 128; i++)
		assert_int_equal(a[i], 0);
	assert_non_null(arena_allocate(&arena, 0));
	assert_int_equal(arena.used_bytes, 192);
	arena_fini(&arena);
	assert_int_equal(arena_init(&arena, "none", 0), 0);
	assert_non_null(arena_allocate(&arena, 0));
	arena_fini(&arena);
	assert_int_equal(arena_init(&arena, "huge", SIZE_MAX / 4), -ENOMEM);
	assert_non_null(strstr(log_last_error(), "arena 'huge'"));
	assert_int_equal(arena_init(&arena, "huger", SIZE_MAX - 1), -ENOMEM);
}

static void child_overruns(void)
{
	struct arena arena;

	if (arena_init(&arena, "x", 64))
		return;
	arena_allocate(&arena, 65);
}

static void child_breaks_the_seal(void)
{
	struct arena arena;

	if (arena_init(&arena, "x", 128))
		return;
	arena_seal(&arena);
	arena_allocate(&arena, 1);
}

static void test_arena_bugs_abort(void **state)
{
	char text[1024];

	(void)state;
	assert_true(WIFSIGNALED(in_child(child_overruns, text, sizeof(text))));
	assert_true(WIFSIGNALED(
		in_child(child_breaks_the_seal, text, sizeof(text))));
}

static void test_clock(void **state)
{
	int64_t start = clock_now_ns();

	(void)state;
	clock_sleep_ns(2 * NS_PER_MS);
	assert_true(clock_now_ns() - start >= 2 * NS_PER_MS);
	clock_sleep_ns(-5);
	assert_true(clock_seconds(1500 * NS_PER_MS) == 1.5);
	assert_true(clock_wall_seconds() > 1.6e9);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_levels_and_identity),
		cmocka_unit_test(test_fail_and_last_error),
		cmocka_unit_test(test_long_lines_are_cut),
		cmocka_unit_test(test_sink_that_logs),
		cmocka_unit_test(test_threads_have_their_own),
		cmocka_unit_test(test_stderr),
		cmocka_unit_test(test_arena),
		cmocka_unit_test(test_arena_bugs_abort),
		cmocka_unit_test(test_clock),
	};

	return RUN_TESTS("log, arena, clock", tests);
}
