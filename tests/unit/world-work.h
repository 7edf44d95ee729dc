/*
 * What the ranks of the launch tests do, named by the job:
 *   {"work": NAME, "target": RANK, "steps": N}
 */
#ifndef STAGECOACH_TESTS_UNIT_WORLD_WORK_H
#define STAGECOACH_TESTS_UNIT_WORLD_WORK_H

#include "engine/world.h"

int world_work(struct world *world);

#endif
