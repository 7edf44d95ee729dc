#include "base/clock.h"

#include <errno.h>
#include <time.h>

int64_t clock_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * NS_PER_SECOND + now.tv_nsec;
}

double clock_wall_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

double clock_seconds(int64_t ns)
{
	return (double)ns / (double)NS_PER_SECOND;
}

static void sleep_until(int64_t end_ns)
{
	struct timespec until = {
		.tv_sec = (time_t)(end_ns / NS_PER_SECOND),
		.tv_nsec = (long)(end_ns % NS_PER_SECOND),
	};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) ==
	       EINTR)
		;
}

void clock_sleep_ns(int64_t ns)
{
	/* An absolute end does not drift when signals interrupt. */
	if (ns > 0)
		sleep_until(clock_now_ns() + ns);
}

#define SPIN_NS (100 * NS_PER_US)

void clock_sleep_until_ns(int64_t end_ns)
{
	if (clock_now_ns() < end_ns - SPIN_NS)
		sleep_until(end_ns - SPIN_NS);
	while (clock_now_ns() < end_ns)
		;
}
