/*
 * A schedule as a picture for the terminal: one line a rank, one column a unit
 * of time, F, I and W taking one unit each (B two), messages none.
 */
#ifndef STAGECOACH_SCHEDULES_DRAW_H
#define STAGECOACH_SCHEDULES_DRAW_H

#include "schedules/schedule.h"

struct schedule_drawing {
	bool colour;  /* ECMA-48 colours, 256 of them; else plain ASCII */
	size_t width; /* of the terminal; longer pictures go on below; 0: any */
};

/*
 * A cell reads "F3", or with several chunks "2F3" (the stage first); B is
 * followed by "=" for its second unit; "." is an idle unit. In colour F is blue, I
 * orange, W green (B orange, then green), odd chunks darker.
 * The caller frees *text. The schedule must be valid; -EFBIG, logged, for more
 * than some millions of cells; -EDEADLK; -ENOMEM.
 */
int schedule_draw(const struct schedule *schedule,
		  const struct schedule_drawing *drawing,
		  char **text) MUST_CHECK;

#endif
