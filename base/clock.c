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

void clock_sleep_ns(int64_t ns)
{
	struct timespec until;
	int64_t end;

	if (ns <= 0)
		return;
	/* An absolute end does not drift when signals interrupt. */
	end = clock_now_ns() + ns;
	until.tv_sec = (time_t)(end / NS_PER_SECOND);
	until.tv_nsec = (long)(end % NS_PER_SECOND);
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) ==
	       EINTR)
		;
}
