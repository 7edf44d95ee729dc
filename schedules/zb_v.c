/*
 * ZB-V: two chunks a rank placed as a V, so that the loss comes back to the
 * rank that sees the first micro-batch first (Qi et al., "Pipeline Parallelism
 * with Controllable Memory", NeurIPS 2024, and "Zero Bubble Pipeline
 * Parallelism", ICLR 2024, section 6).
 *
 * Built for at least 2P - 1 micro-batches; of fewer, what belongs to the
 * surplus is left out.
 */
#include "schedules/build.h"
#include "schedules/kinds.h"

/* The next micro-batch of each operation; [chunk][F, I, W]. */
struct v_lane {
	struct schedule_row *row;
	unsigned stage[2];
	unsigned next[2][3];
	unsigned micro_batches;
	int error;
};

static void add(struct v_lane *lane, unsigned op, unsigned chunk)
{
	unsigned micro_batch = lane->next[chunk][op]++;

	if (lane->error || micro_batch >= lane->micro_batches)
		return;
	lane->error = schedule_row_append(lane->row, op, lane->stage[chunk],
					  micro_batch, 0);
}

static void add_backward(struct v_lane *lane, unsigned chunk)
{
	add(lane, ACTION_BACKWARD_INPUT, chunk);
	add(lane, ACTION_BACKWARD_WEIGHT, chunk);
}

static void warm_up(struct v_lane *lane, unsigned rank, unsigned ranks)
{
	for (unsigned i = 0; i < 2 * (ranks - rank) - 1; i++)
		add(lane, ACTION_FORWARD, 0);
	for (unsigned i = 0; i < rank; i++) {
		add(lane, ACTION_FORWARD, 1);
		add(lane, ACTION_FORWARD, 0);
	}
	for (unsigned i = 0; i < ranks - rank; i++) {
		add(lane, ACTION_FORWARD, 1);
		add_backward(lane, 1);
	}
}

static void run_steadily(struct v_lane *lane, unsigned full)
{
	unsigned *forwards[2] = {&lane->next[0][ACTION_FORWARD],
				 &lane->next[1][ACTION_FORWARD]};

	while (*forwards[1] < *forwards[0] || *forwards[0] < full) {
		if (*forwards[0] < full)
			add(lane, ACTION_FORWARD, 0);
		add_backward(lane, 0);
		add(lane, ACTION_FORWARD, 1);
		add_backward(lane, 1);
	}
}

static void cool_down(struct v_lane *lane, unsigned rank, unsigned ranks)
{
	for (unsigned i = 0; i < rank; i++) {
		add(lane, ACTION_BACKWARD_INPUT, 0);
		add(lane, ACTION_BACKWARD_INPUT, 1);
	}
	for (unsigned i = 0; i < ranks - rank; i++)
		add_backward(lane, 0);
	for (unsigned chunk = 2; chunk-- > 0;)
		while (lane->next[chunk][ACTION_BACKWARD_WEIGHT] <
		       lane->next[chunk][ACTION_BACKWARD_INPUT])
			add(lane, ACTION_BACKWARD_WEIGHT, chunk);
}

int schedule_fill_zb_v(struct schedule *schedule)
{
	unsigned ranks = schedule->ranks;
	unsigned full = MAX(2 * ranks - 1, schedule->micro_batches);
	int error = 0;

	for (unsigned rank = 0; rank < ranks && !error; rank++) {
		struct v_lane lane = {
			.row = &schedule->rows[rank],
			.stage = {rank, 2 * ranks - 1 - rank},
			.micro_batches = schedule->micro_batches,
		};

		warm_up(&lane, rank, ranks);
		run_steadily(&lane, full);
		cool_down(&lane, rank, ranks);
		error = lane.error;
	}
	return error;
}
