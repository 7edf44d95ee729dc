/*
 * The interleaved family: V chunks a rank in a loop, micro-batches in rounds of
 * about P, every round through all chunks before the next.
 *
 * - Interleaved 1F1B: Narayanan et al., "Efficient Large-Scale Language Model
 *   Training on GPU Clusters Using Megatron-LM", SC 2021, section 2.2.
 * - Interleaved zero-bubble, and with one chunk ZB-H1: Qi et al., "Zero Bubble
 *   Pipeline Parallelism", ICLR 2024, section 2.1 (B split into I and W;
 *   W lags behind I by the rank's number, which fills the bubble at the end).
 *
 * The rounds are those of PyTorch (flexible pipelines): max(1, M / P) rounds of
 * equal size, hence M must divide so.
 */
#include "schedules/build.h"
#include "schedules/kinds.h"
#include <errno.h>
#include <stdio.h>

struct lane {
	struct schedule_row *row;
	unsigned ranks;
	unsigned chunks;
	unsigned rank;
	unsigned round; /* micro-batches a round */
};

static unsigned round_size(unsigned ranks, unsigned micro_batches)
{
	return micro_batches / MAX(1u, micro_batches / ranks);
}

static bool rounds_are_equal(unsigned ranks, unsigned micro_batches)
{
	return micro_batches % MAX(1u, micro_batches / ranks) == 0;
}

int schedule_check_rounds(unsigned ranks, unsigned micro_batches,
			  unsigned chunks, char *why, size_t size)
{
	unsigned below = micro_batches;
	unsigned above = micro_batches;

	(void)chunks;
	if (rounds_are_equal(ranks, micro_batches))
		return 0;
	/* Multiples of `ranks` do, so neither is far. */
	while (!rounds_are_equal(ranks, below))
		below--;
	while (!rounds_are_equal(ranks, above))
		above++;
	snprintf(why, size,
		 "%u micro-batches do not divide into %u equal rounds; the "
		 "nearest that do are %u and %u",
		 micro_batches, micro_batches / ranks, below, above);
	return -EINVAL;
}

/* Pass number n of a chunk (counted over all chunks): which, of what. */
static int add_pass(const struct lane *lane, unsigned op, unsigned pass)
{
	unsigned lap = lane->round * lane->chunks;
	unsigned chunk = pass % lap / lane->round;
	unsigned micro_batch = pass / lap * lane->round + pass % lane->round;

	if (op != ACTION_FORWARD)
		chunk = lane->chunks - 1 - chunk;
	return schedule_row_append(lane->row, op,
				   chunk * lane->ranks + lane->rank,
				   micro_batch, 0);
}

/* `ahead` forwards, then one backward for each forward, then the rest. */
static int fill_fused(const struct lane *lane, unsigned ahead, unsigned passes)
{
	unsigned forward = 0;
	unsigned backward = 0;
	int error = 0;

	while (forward < ahead && !error)
		error = add_pass(lane, ACTION_FORWARD, forward++);
	while (backward < passes && !error) {
		if (forward < passes)
			error = add_pass(lane, ACTION_FORWARD, forward++);
		if (!error)
			error = add_pass(lane, ACTION_BACKWARD, backward++);
	}
	return error;
}

/* The same with W apart, `lag` input gradients behind. */
static int fill_split(const struct lane *lane, unsigned ahead, unsigned lag,
		      unsigned passes)
{
	unsigned forward = 0;
	unsigned input = 0;
	unsigned weight = 0;
	int error = 0;

	while (forward < ahead && !error)
		error = add_pass(lane, ACTION_FORWARD, forward++);
	while (input < passes && !error) {
		if (forward < passes)
			error = add_pass(lane, ACTION_FORWARD, forward++);
		if (!error)
			error = add_pass(lane, ACTION_BACKWARD_INPUT, input++);
		if (!error && input > lag)
			error = add_pass(lane, ACTION_BACKWARD_WEIGHT,
					 weight++);
	}
	while (weight < passes && !error)
		error = add_pass(lane, ACTION_BACKWARD_WEIGHT, weight++);
	return error;
}

static struct lane lane_of(struct schedule *schedule, unsigned rank)
{
	return (struct lane){
		.row = &schedule->rows[rank],
		.ranks = schedule->ranks,
		.chunks = schedule->chunks,
		.rank = rank,
		.round = round_size(schedule->ranks, schedule->micro_batches),
	};
}

int schedule_fill_interleaved(struct schedule *schedule)
{
	unsigned passes = schedule->micro_batches * schedule->chunks;
	int error = 0;

	for (unsigned rank = 0; rank < schedule->ranks && !error; rank++) {
		struct lane lane = lane_of(schedule, rank);
		unsigned ahead = (lane.chunks - 1) * lane.round +
				 2 * (schedule->ranks - 1 - rank);

		error = fill_fused(&lane, MIN(ahead, passes), passes);
	}
	return error;
}

int schedule_fill_interleaved_zb(struct schedule *schedule)
{
	unsigned passes = schedule->micro_batches * schedule->chunks;
	int error = 0;

	for (unsigned rank = 0; rank < schedule->ranks && !error; rank++) {
		struct lane lane = lane_of(schedule, rank);
		unsigned ahead = (lane.chunks - 1) * lane.round +
				 schedule->ranks - 1 - rank;

		error = fill_split(&lane, MIN(ahead, passes), rank, passes);
	}
	return error;
}

/* One chunk: rounds do not matter, every M will do. */
int schedule_fill_zb_h1(struct schedule *schedule)
{
	unsigned passes = schedule->micro_batches;
	int error = 0;

	for (unsigned rank = 0; rank < schedule->ranks && !error; rank++) {
		struct lane lane = lane_of(schedule, rank);

		lane.round = 1;
		error = fill_split(&lane,
				   MIN(schedule->ranks - 1 - rank, passes),
				   rank, passes);
	}
	return error;
}

/*
 * ZB-H2 (same paper, section 2.2): twice the forwards ahead, W twice as far
 * behind; the bubble is gone at twice the memory. Fewer than 2P - 1
 * micro-batches cannot fill the longer warm-up: it would only be in the way, and
 * ZB-H1 is shorter.
 */
int schedule_fill_zb_h2(struct schedule *schedule)
{
	unsigned passes = schedule->micro_batches;
	int error = 0;

	if (passes < 2 * schedule->ranks - 1)
		return schedule_fill_zb_h1(schedule);
	for (unsigned rank = 0; rank < schedule->ranks && !error; rank++) {
		struct lane lane = lane_of(schedule, rank);

		lane.round = 1;
		error = fill_split(
			&lane, MIN(2 * (schedule->ranks - rank) - 2, passes),
			2 * rank, passes);
	}
	return error;
}
