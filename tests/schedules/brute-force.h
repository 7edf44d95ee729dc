/*
 * An executor that knows nothing of the validator or the walk.
 */
#ifndef STAGECOACH_TESTS_SCHEDULES_BRUTE_FORCE_H
#define STAGECOACH_TESTS_SCHEDULES_BRUTE_FORCE_H

#include "schedules/schedule.h"

/* A small seeded generator of its own; the state must not be 0. */
uint64_t test_random(uint64_t *state);

/*
 * Runs a schedule by brute force: queues of at most k messages a link, ranks
 * polled in random order, every action checked against what has happened. k =
 * 0: a message passes when both ends stand at it. Without messages
 * (schedule->lowered is false) an action waits until its neighbour's is done.
 * Overlapped pairs, reductions and votes are not looked at.
 * NULL when all rows end and every F, I and W was done once; else what
 * went wrong (a static string). Without memory it ends the process.
 */
const char *brute_force(const struct schedule *schedule, unsigned k,
			uint64_t seed);

#endif
