/*
 * DualPipeV: the two halves of the V run against each other, a forward of one
 * overlapped with a backward of the other (DeepSeek-AI, "DeepSeek-V3 Technical
 * Report", arXiv 2412.19437, section 3.2.1, and its V-shaped half, "DualPipeV",
 * 2025). The steps are numbered as in that description.
 */
#include "schedules/build.h"
#include "schedules/kinds.h"
#include <errno.h>
#include <stdio.h>

struct dual_lane {
	struct schedule_row *row;
	unsigned stage[2];
	unsigned forwards[2];
	unsigned backwards[2]; /* I or B */
	/* Ws owed, oldest first; never more than the last steps' few. */
	unsigned owed_chunk[SCHEDULE_MAX_STAGES];
	unsigned owed_micro_batch[SCHEDULE_MAX_STAGES];
	unsigned owed_first;
	unsigned owed_count;
	unsigned group;
	int error;
};

static void append(struct dual_lane *lane, unsigned op, unsigned chunk,
		   unsigned micro_batch, unsigned group)
{
	if (!lane->error)
		lane->error = schedule_row_append(
			lane->row, op, lane->stage[chunk], micro_batch, group);
}

static void forward(struct dual_lane *lane, unsigned chunk)
{
	append(lane, ACTION_FORWARD, chunk, lane->forwards[chunk]++, 0);
}

static void backward(struct dual_lane *lane, unsigned chunk)
{
	append(lane, ACTION_BACKWARD, chunk, lane->backwards[chunk]++, 0);
}

static void input(struct dual_lane *lane, unsigned chunk)
{
	unsigned owed = lane->owed_count++;

	ASSERT(owed < SCHEDULE_MAX_STAGES);
	lane->owed_chunk[owed] = chunk;
	lane->owed_micro_batch[owed] = lane->backwards[chunk];
	append(lane, ACTION_BACKWARD_INPUT, chunk, lane->backwards[chunk]++, 0);
}

static void weight(struct dual_lane *lane)
{
	unsigned owed = lane->owed_first;

	if (owed == lane->owed_count)
		return;
	lane->owed_first++;
	append(lane, ACTION_BACKWARD_WEIGHT, lane->owed_chunk[owed],
	       lane->owed_micro_batch[owed], 0);
}

/* F of one chunk overlapped with B of the other. */
static void overlap(struct dual_lane *lane, unsigned forward_chunk)
{
	unsigned backward_chunk = 1 - forward_chunk;

	lane->group = lane->group % UINT16_MAX + 1;
	append(lane, ACTION_FORWARD, forward_chunk,
	       lane->forwards[forward_chunk]++, lane->group);
	append(lane, ACTION_BACKWARD, backward_chunk,
	       lane->backwards[backward_chunk]++, lane->group);
}

/* Steps 1 to 3: F0; F0 F1; I1 W1 F1. */
static void warm_up(struct dual_lane *lane, unsigned rank, unsigned ranks)
{
	for (unsigned i = 0; i < 2 * (ranks - rank - 1); i++)
		forward(lane, 0);
	for (unsigned i = 0; i < rank + 1; i++) {
		forward(lane, 0);
		forward(lane, 1);
	}
	for (unsigned i = 0; i < ranks - rank - 1; i++) {
		input(lane, 1);
		weight(lane);
		forward(lane, 1);
	}
}

/* Steps 4 and 5: F0 with B1, F1 with B0; B1, F1 with B0. */
static void run_steadily(struct dual_lane *lane, unsigned rank, unsigned ranks,
			 unsigned micro_batches)
{
	for (unsigned i = 0; i < micro_batches - 2 * ranks + rank + 1; i++) {
		/* Not overlapped: the backward could only start later. */
		if (i == 0 && rank == ranks - 1) {
			forward(lane, 0);
			backward(lane, 1);
		} else {
			overlap(lane, 0);
		}
		overlap(lane, 1);
	}
	for (unsigned i = 0; i < ranks - rank - 1; i++) {
		backward(lane, 1);
		overlap(lane, 1);
	}
}

/* Steps 6 to 8: B1 B0, its second half with W put off; W B0; W. */
static void cool_down(struct dual_lane *lane, unsigned rank, unsigned ranks)
{
	/* Of the 2 (rank + 1) backwards of step 6, those up to the middle. */
	unsigned fused = rank + 1;

	for (unsigned i = 0; i < 2 * (rank + 1); i++) {
		unsigned chunk = 1 - i % 2;

		if (i < fused)
			backward(lane, chunk);
		else
			input(lane, chunk);
	}
	for (unsigned i = 0; i < ranks - rank - 1; i++) {
		weight(lane);
		input(lane, 0);
	}
	while (lane->owed_first < lane->owed_count)
		weight(lane);
}

int schedule_check_dualpipe_v(unsigned ranks, unsigned micro_batches,
			      unsigned chunks, char *why, size_t size)
{
	if (chunks != 2) {
		snprintf(why, size, "it has two chunks a rank, not %u", chunks);
		return -EINVAL;
	}
	if (micro_batches < 2 * ranks) {
		snprintf(why, size, "it needs at least %u micro-batches (2P)",
			 2 * ranks);
		return -EINVAL;
	}
	return 0;
}

int schedule_fill_dualpipe_v(struct schedule *schedule)
{
	unsigned ranks = schedule->ranks;
	int error = 0;

	for (unsigned rank = 0; rank < ranks && !error; rank++) {
		struct dual_lane lane = {
			.row = &schedule->rows[rank],
			.stage = {rank, 2 * ranks - 1 - rank},
		};

		warm_up(&lane, rank, ranks);
		run_steadily(&lane, rank, ranks, schedule->micro_batches);
		cool_down(&lane, rank, ranks);
		error = lane.error;
	}
	return error;
}
