#include "engine/cores.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(divides_and_pins),
		cmocka_unit_test(does_not_pin_what_does_not_fit),
		cmocka_unit_test(refuses_nonsense),
		cmocka_unit_test(describes_within_the_buffer),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
