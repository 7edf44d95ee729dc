/*
 * Inside schedules/: the generators. Each fills the rows of an empty
 * schedule whose header (ranks, chunks, placement) is set; 0 or -ENOMEM.
 */
#ifndef STAGECOACH_SCHEDULES_KINDS_H
#define STAGECOACH_SCHEDULES_KINDS_H

#include "schedules/schedule.h"

int schedule_fill_gpipe(struct schedule *schedule) MUST_CHECK;
int schedule_fill_1f1b(struct schedule *schedule) MUST_CHECK;
int schedule_fill_interleaved(struct schedule *schedule) MUST_CHECK;
int schedule_fill_looped_bfs(struct schedule *schedule) MUST_CHECK;
int schedule_fill_zb_h1(struct schedule *schedule) MUST_CHECK;
int schedule_fill_zb_h2(struct schedule *schedule) MUST_CHECK;
int schedule_fill_interleaved_zb(struct schedule *schedule) MUST_CHECK;
int schedule_fill_zb_v(struct schedule *schedule) MUST_CHECK;
int schedule_fill_v_half(struct schedule *schedule) MUST_CHECK;
int schedule_fill_v_min(struct schedule *schedule) MUST_CHECK;
int schedule_fill_1f1b_v(struct schedule *schedule) MUST_CHECK;
int schedule_fill_dualpipe_v(struct schedule *schedule) MUST_CHECK;
int schedule_fill_forward(struct schedule *schedule) MUST_CHECK;

/* Restrictions, as schedule_kind.check. */
int schedule_check_rounds(unsigned ranks, unsigned micro_batches,
			  unsigned chunks, char *why, size_t size);
int schedule_check_dualpipe_v(unsigned ranks, unsigned micro_batches,
			      unsigned chunks, char *why, size_t size);

#endif
