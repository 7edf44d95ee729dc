/*
 * Inside schedules/: the generators. Each fills the rows of an empty
 * schedule whose header (ranks, chunks, placement) is set; 0 or -ENOMEM.
 */
#ifndef STAGECOACH_SCHEDULES_KINDS_H
#define STAGECOACH_SCHEDULES_KINDS_H

#include "schedules/schedule.h"

int schedule_fill_gpipe(struct schedule *schedule) MUST_CHECK;
int schedule_fill_1f1b(struct schedule *schedule) MUST_CHECK;
int schedule_fill_forward(struct schedule *schedule) MUST_CHECK;

#endif
