/* base/threads.c: every index once, whatever the kernel does with threads. */
#include <errno.h>
#include <float.h>
#include <malloc.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/threads.h"
#include "tests/unit/cmocka-tap.h"

#define MOST 1000

struct job {
	_Atomic int calls[MOST];
	_Atomic unsigned bad_threads;
	unsigned team;
	unsigned plain[MOST]; /* without atomics: TSan proves the ordering */
};

static void count_call(void *argument, size_t index, unsigned thread)
{
	struct job *job = argument;

	atomic_fetch_add(&job->calls[index], 1);
	job->plain[index]++;
	if (thread >= job->team)
		atomic_fetch_add(&job->bad_threads, 1);
}

static void check_team(unsigned team, int rounds)
{
	struct job *job = calloc(1, sizeof(*job));
	struct threads *threads;
	int round;
	size_t i;

	assert_non_null(job);
	job->team = team;
	assert_int_equal(threads_create(team, NULL, &threads), 0);
	assert_int_equal(threads_count(threads), team);
	for (round = 0; round < rounds; round++) {
		size_t tasks = (size_t)(round * 7) % 50;
		bool each = round % 3 == 1;

		memset(job->plain, 0, sizeof(job->plain));
		for (i = 0; i < MOST; i++)
			atomic_store_explicit(&job->calls[i], 0,
					      memory_order_relaxed);
		if (each)
			threads_run_each(threads, count_call, job);
		else
			threads_run(threads, tasks, count_call, job);
		if (each)
			tasks = team;
		for (i = 0; i < tasks; i++) {
			assert_int_equal(atomic_load(&job->calls[i]), 1);
			assert_int_equal(job->plain[i], 1);
		}
		assert_int_equal(atomic_load(&job->calls[tasks]), 0);
		if (round % 50 == 0)
			clock_sleep_ns(NS_PER_MS / 2); /* workers go to sleep */
	}
	assert_int_equal(atomic_load(&job->bad_threads), 0);
	threads_destroy(threads);
	free(job);
}

static void test_every_index_once(void **state)
{
	(void)state;
	check_team(1, 100);
	check_team(2, 3000);
	check_team(4, 1000); /* more threads than cores, probably */
	check_team(16, 200);
}

static void own_index(void *argument, size_t index, unsigned thread)
{
	_Atomic int *wrong = argument;

	if (index != thread)
		atomic_fetch_add(wrong, 1);
}

static void test_each_has_its_own_index(void **state)
{
	struct threads *threads;
	_Atomic int wrong = 0;
	int i;

	(void)state;
	assert_int_equal(threads_create(5, NULL, &threads), 0);
	for (i = 0; i < 200; i++)
		threads_run_each(threads, own_index, &wrong);
	assert_int_equal(atomic_load(&wrong), 0);
	threads_destroy(threads);
}

static void slow(void *argument, size_t index, unsigned thread)
{
	_Atomic unsigned *seen = argument;

	(void)index;
	atomic_fetch_or(seen, 1u << thread);
	clock_sleep_ns(2 * NS_PER_MS);
}

/* The work is shared: both threads get some of many slow tasks. */
static void test_work_is_shared(void **state)
{
	struct threads *threads;
	_Atomic unsigned seen = 0;

	(void)state;
	assert_int_equal(threads_create(2, NULL, &threads), 0);
	threads_run(threads, 20, slow, &seen);
	assert_int_equal(atomic_load(&seen), 3);
	threads_destroy(threads);
}

static void subnormal(void *argument, size_t index, unsigned thread)
{
	volatile float smallest = FLT_MIN;
	volatile float half = smallest * 0.5f;

	(void)index;
	if (half != 0.0f)
		atomic_fetch_or((_Atomic unsigned *)argument, 1u << thread);
}

static void test_float_state(void **state)
{
	struct threads *threads;
	_Atomic unsigned kept = 0;

	(void)state;
#if !defined(__x86_64__) && !defined(__aarch64__)
	skip();
#endif
	assert_int_equal(threads_create(3, NULL, &threads), 0);
	threads_run_each(threads, subnormal, &kept);
	assert_int_equal(atomic_load(&kept), 0);
	threads_destroy(threads);
}

static void where(void *argument, size_t index, unsigned thread)
{
	(void)thread;
	((int *)argument)[index] = sched_getcpu();
}

static void test_pinning(void **state)
{
	struct threads *threads;
	unsigned before;
	int available[64];
	int cores[3];
	int found[3];
	unsigned count;
	int i;

	(void)state;
	before = threads_available_cores(available, 64);
	assert_true(before >= 1);
	count = MIN(before, 64u);
	cores[0] = available[0];
	cores[1] = available[count - 1];
	cores[2] = available[0];
	assert_int_equal(threads_create(3, cores, &threads), 0);
	threads_run_each(threads, where, found);
	for (i = 0; i < 3; i++)
		assert_int_equal(found[i], cores[i]);
	assert_int_equal(threads_available_cores(NULL, 0), 1);
	threads_destroy(threads);
	/* The caller has its cores back. */
	assert_int_equal(threads_available_cores(NULL, 0), before);
}

static void test_refusals(void **state)
{
	struct threads *threads = NULL;

	(void)state;
	assert_int_equal(threads_create(0, NULL, &threads), -EINVAL);
	assert_int_equal(threads_create(THREADS_MAX + 1, NULL, &threads),
			 -EINVAL);
	assert_null(threads);
	threads_destroy(NULL);
}

#ifndef STAGECOACH_SANITIZED
/* Nothing is allocated once the team exists. */
static void test_no_allocation(void **state)
{
	struct threads *threads;
	struct mallinfo2 before;
	struct mallinfo2 after;
	_Atomic int wrong = 0;
	int i;

	(void)state;
	assert_int_equal(threads_create(4, NULL, &threads), 0);
	threads_run_each(threads, own_index, &wrong);
	before = mallinfo2();
	for (i = 0; i < 500; i++)
		threads_run_each(threads, own_index, &wrong);
	after = mallinfo2();
	assert_int_equal(after.uordblks, before.uordblks);
	assert_int_equal(after.hblkhd, before.hblkhd);
	threads_destroy(threads);
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_index_once),
		cmocka_unit_test(test_each_has_its_own_index),
		cmocka_unit_test(test_work_is_shared),
		cmocka_unit_test(test_float_state),
		cmocka_unit_test(test_pinning),
		cmocka_unit_test(test_refusals),
#ifndef STAGECOACH_SANITIZED
		cmocka_unit_test(test_no_allocation),
#endif
	};

	return RUN_TESTS("threads", tests);
}
