/*
 * cmocka with what it needs before it, and a main() that prints TAP.
 */
#ifndef STAGECOACH_TESTS_CMOCKA_TAP_H
#define STAGECOACH_TESTS_CMOCKA_TAP_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* fail() is base/log.h's; cmocka's fail_msg() must not expand to it. */
#undef fail
#undef fail_msg
#define fail_msg(...)                                                          \
	do {                                                                   \
		print_error("ERROR: " __VA_ARGS__);                            \
		print_error("\n");                                             \
		_fail(__FILE__, __LINE__);                                     \
	} while (0)

#define RUN_TESTS(name, tests)                                                 \
	(cmocka_set_message_output(CM_OUTPUT_TAP),                             \
	 cmocka_run_group_tests_name(name, tests, NULL, NULL))

#endif
