/*
 * Helpers of the kernel tests: teams of threads, filled arrays, comparison
 * by tolerance and by bits. Included after cmocka.
 */
#ifndef STAGECOACH_TESTS_UNIT_KERNEL_TEST_H
#define STAGECOACH_TESTS_UNIT_KERNEL_TEST_H

#include "base/random.h"
#include "base/threads.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define TEAMS 4 /* of 1 .. 4 threads */

extern struct threads *teams[TEAMS];

static inline int teams_start(void **state)
{
	(void)state;
	for (unsigned i = 0; i < TEAMS; i++)
		if (threads_create(i + 1, NULL, &teams[i]) != 0)
			return -1;
	return 0;
}

static inline int teams_stop(void **state)
{
	(void)state;
	for (unsigned i = 0; i < TEAMS; i++)
		threads_destroy(teams[i]);
	return 0;
}

static inline void *test_bytes(size_t bytes)
{
	void *made = aligned_alloc(64, (bytes + 127) / 64 * 64);

	assert_non_null(made);
	/* NaN everywhere: what a kernel forgets to write is seen. */
	memset(made, 0xff, (bytes + 127) / 64 * 64);
	return made;
}

static inline float *test_floats(size_t count)
{
	return test_bytes(count * sizeof(float));
}

static inline double *test_doubles(size_t count)
{
	return test_bytes(count * sizeof(double));
}

/* Normal numbers; another `name`, others. */
static inline float *test_normal(const char *name, size_t count, float mean,
				 float deviation)
{
	float *made = test_floats(count);

	random_normal(random_key_named(7, name), 0, count, mean, deviation,
		      made);
	return made;
}

/* |have - want| <= tolerance * (1 + |want|), for all. */
static inline void test_close(const char *what, size_t count, const float *have,
			      const double *want, double tolerance)
{
	for (size_t i = 0; i < count; i++)
		if (!(fabs((double)have[i] - want[i]) <=
		      tolerance * (1.0 + fabs(want[i]))))
			fail_msg("%s[%zu of %zu]: %.9g, reference %.9g", what,
				 i, count, (double)have[i], want[i]);
}

static inline void test_same_bits(const char *what, unsigned team, size_t bytes,
				  const void *have, const void *want)
{
	if (memcmp(have, want, bytes) != 0)
		fail_msg("%s: %u threads give other bits than one", what,
			 team + 1);
}

#endif
