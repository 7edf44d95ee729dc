/*
 * What the schedule tests share: the oracle's files, comparing rows.
 */
#ifndef STAGECOACH_TESTS_SCHEDULES_SUPPORT_H
#define STAGECOACH_TESTS_SCHEDULES_SUPPORT_H

/* Before cmocka.h, whose macro fail() then hides the function. */
#include "base/log.h"

/* cmocka.h needs these first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "schedules/schedule.h"
#include "tests/schedules/brute-force.h"

/* A schedule of tests/schedules/oracle; fails the test if it does not load. */
struct schedule *oracle_load(const char *file);
char *oracle_path(const char *file); /* the caller frees */

/* From text, modern dialect; fails the test if it does not parse. */
struct schedule *schedule_from(const char *text);

/* Fails unless both rows hold the same actions; group numbers may differ. */
void assert_rows_equal(const struct schedule *a, const struct schedule *b);

/* The log is kept from the terminal; the last error's text stays readable. */
void log_silence(void);

#endif
