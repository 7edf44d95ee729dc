/*
 * Time: monotonic nanoseconds, and the wall clock for file names and logs.
 */
#ifndef STAGECOACH_BASE_CLOCK_H
#define STAGECOACH_BASE_CLOCK_H

#include "base/compiler.h"

#define NS_PER_SECOND 1000000000LL
#define NS_PER_MS     1000000LL
#define NS_PER_US     1000LL

int64_t clock_now_ns(void);      /* CLOCK_MONOTONIC */
double clock_wall_seconds(void); /* Unix time */
double clock_seconds(int64_t ns);
void clock_sleep_ns(int64_t ns); /* at least this long; EINTR resumed */

/*
 * Until that moment of clock_now_ns(), to a few microseconds: sleeps, and
 * spins over the last tenth of a millisecond, as waking takes some time.
 */
void clock_sleep_until_ns(int64_t end_ns);

#endif
