/*
 * 1,024 ranks and 4,096 micro-batches of 1F1B, the whole way that 'stagecoach
 * schedule simulate' takes: generated, lowered, proven, simulated. Memory is
 * counted allocation by allocation (the linker sends the malloc family through
 * this file). Of the time only the order of magnitude is asserted: machines
 * are busy.
 */
#include "base/clock.h"
#include "schedules/simulate.h"
#include "tests/schedules/support.h"
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

#define RANKS         1024u
#define MICRO_BATCHES 4096u
#define MOST_BYTES    ((long long)1 << 30)
#define MOST_SECONDS  30

static long long bytes_now;
static long long bytes_peak;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void __real_free(void *pointer);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
void __wrap_free(void *pointer);

static void *count(void *pointer)
{
	bytes_now += (long long)malloc_usable_size(pointer);
	bytes_peak = MAX(bytes_peak, bytes_now);
	return pointer;
}

void *__wrap_malloc(size_t size)
{
	return count(__real_malloc(size));
}

void *__wrap_calloc(size_t number, size_t size)
{
	return count(__real_calloc(number, size));
}

void *__wrap_realloc(void *old, size_t size)
{
	bytes_now -= (long long)malloc_usable_size(old);
	return count(__real_realloc(old, size));
}

void __wrap_free(void *pointer)
{
	bytes_now -= (long long)malloc_usable_size(pointer);
	__real_free(pointer);
}

static void test_size(void **state)
{
	static double one[RANKS];
	const struct schedule_costs costs = {
		.forward = one,
		.input = one,
		.weight = one,
		.buffers = SCHEDULE_BUFFERS_ANY,
	};
	struct schedule_simulation result;
	struct schedule_report report;
	struct schedule *schedule = NULL;
	struct schedule *lowered = NULL;
	int64_t begin = clock_now_ns();
	double seconds;

	(void)state;
	for (unsigned stage = 0; stage < RANKS; stage++)
		one[stage] = 1;
	assert_int_equal(
		schedule_generate("1f1b", RANKS, MICRO_BATCHES, 1, &schedule),
		0);
	assert_int_equal(schedule_lower(schedule, NULL, &lowered), 0);
	assert_int_equal(
		schedule_validate(lowered, SCHEDULE_BUFFERS_ANY, &report), 0);
	assert_int_equal(schedule_simulate(lowered, &costs, false, &result), 0);
	seconds = clock_seconds(clock_now_ns() - begin);
	assert_true(result.makespan == 3.0 * (MICRO_BATCHES + RANKS - 1));
	assert_true(result.peak_activations[0] == RANKS);
	assert_int_equal(report.buffers_safe, 1);
	schedule_simulation_fini(&result);
	schedule_report_fini(&report);
	schedule_destroy(lowered);
	schedule_destroy(schedule);
	printf("# %.2f s, %.0f MB at most\n", seconds,
	       (double)bytes_peak / 1e6);
	/* What the two schedules alone take; were it less, nothing counts. */
	assert_true(bytes_peak > (long long)RANKS * MICRO_BATCHES * 8 * 8);
	assert_true(bytes_peak < MOST_BYTES);
	assert_true(bytes_now < 1 << 20);
	assert_true(seconds < MOST_SECONDS);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_size),
	};

	log_silence();
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("simulator: size", tests, NULL,
					   NULL);
}
