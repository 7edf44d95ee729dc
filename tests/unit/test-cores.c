#include "engine/cores.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const int available[] = {2, 3, 5, 7, 11};

static void divides_and_pins(void **state)
{
	struct cores_plan plan;
	char text[128];

	(void)state;
	assert_int_equal(cores_divide(available, 5, 2, 0, true, &plan), 0);
	assert_int_equal(plan.threads, 2);
	assert_true(plan.pinned);
	assert_int_equal(cores_of_rank(&plan, 0)[0], 2);
	assert_int_equal(cores_of_rank(&plan, 0)[1], 3);
	assert_int_equal(cores_of_rank(&plan, 1)[0], 5);
	assert_int_equal(cores_of_rank(&plan, 1)[1], 7);
	assert_string_equal(cores_describe(&plan, text, sizeof(text)),
			    "2 ranks x 2 threads, pinned to cores 2,3 | 5,7");
	cores_plan_fini(&plan);
}

static void does_not_pin_what_does_not_fit(void **state)
{
	struct cores_plan plan;
	char text[128];

	(void)state;
	assert_int_equal(cores_divide(available, 5, 6, 0, true, &plan), 0);
	assert_int_equal(plan.threads, 1);
	assert_false(plan.pinned);
	assert_int_equal(cores_of_rank(&plan, 5)[0], -1);
	assert_string_equal(cores_describe(&plan, text, sizeof(text)),
			    "6 ranks x 1 thread, not pinned");
	cores_plan_fini(&plan);
	assert_int_equal(cores_divide(available, 5, 2, 3, true, &plan), 0);
	assert_false(plan.pinned);
	cores_plan_fini(&plan);
	assert_int_equal(cores_divide(available, 5, 5, 1, false, &plan), 0);
	assert_false(plan.pinned);
	cores_plan_fini(&plan);
}

static void refuses_nonsense(void **state)
{
	struct cores_plan plan;

	(void)state;
	assert_int_not_equal(cores_divide(available, 5, 0, 1, true, &plan), 0);
	assert_int_not_equal(cores_divide(available, 5, 1, 257, true, &plan),
			     0);
}

static void describes_within_the_buffer(void **state)
{
	struct cores_plan plan;
	char text[20];

	(void)state;
	assert_int_equal(cores_divide(available, 5, 5, 1, true, &plan), 0);
	memset(text, 'x', sizeof(text));
	cores_describe(&plan, text, 12);
	assert_int_equal(strlen(text), 11);
	assert_int_equal(text[12], 'x');
	cores_plan_fini(&plan);
}

/* Two ranks share a, one has b to itself, one a's other core. */
static void divides_by_machine(void **state)
{
	static const int first[] = {0, 1, 2}, second[] = {5};
	const struct cores_site sites[] = {
		{"a", first, 3},
		{"b", first, 3},
		{"a", first, 3},
		{"a", second, 1},
	};
	struct cores_plan plan;

	(void)state;
	assert_int_equal(cores_divide_sites(sites, 4, 0, true, &plan), 0);
	assert_int_equal(cores_threads(&plan, 0), 1);
	assert_int_equal(cores_of_rank(&plan, 0)[0], 0);
	assert_int_equal(cores_threads(&plan, 1), 3);
	assert_int_equal(cores_of_rank(&plan, 1)[2], 2);
	assert_int_equal(cores_threads(&plan, 2), 1);
	assert_int_equal(cores_of_rank(&plan, 2)[0], 1);
	assert_int_equal(cores_of_rank(&plan, 3)[0], 5);
	assert_true(plan.pinned);
	cores_plan_fini(&plan);
}

/* Neither apart nor the same: nobody is pinned onto another's core. */
static void does_not_pin_what_overlaps(void **state)
{
	static const int first[] = {0, 1}, second[] = {1, 2};
	const struct cores_site sites[] = {{"a", first, 2}, {"a", second, 2}};
	struct cores_plan plan;

	(void)state;
	assert_int_equal(cores_divide_sites(sites, 2, 0, true, &plan), 0);
	assert_false(plan.pinned);
	assert_int_equal(cores_of_rank(&plan, 0)[0], -1);
	assert_int_equal(cores_of_rank(&plan, 1)[1], -1);
	cores_plan_fini(&plan);
}

static void lists_become_text_and_back(void **state)
{
	static const int cores[] = {0, 1, 2, 5, 7, 8};
	static const char *const bad[] = {"",        "x",    "1-",
					  "3-1",     "1,,2", "-1",
					  "0-99999", "1;2",  "0-9999,0-9999,0"};
	char text[64];
	unsigned count;
	int *back;

	(void)state;
	assert_string_equal(cores_to_text(cores, 6, text, sizeof(text)),
			    "0-2,5,7-8");
	assert_int_equal(cores_from_text(text, &back, &count), 0);
	assert_int_equal(count, 6);
	assert_memory_equal(back, cores, sizeof(cores));
	free(back);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_true(cores_from_text(bad[i], &back, &count) < 0);
	cores_to_text(cores, 6, text, 4);
	assert_int_equal(strlen(text), 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(divides_and_pins),
		cmocka_unit_test(does_not_pin_what_does_not_fit),
		cmocka_unit_test(refuses_nonsense),
		cmocka_unit_test(describes_within_the_buffer),
		cmocka_unit_test(divides_by_machine),
		cmocka_unit_test(does_not_pin_what_overlaps),
		cmocka_unit_test(lists_become_text_and_back),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
