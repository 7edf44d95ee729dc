/*
 * 1F1B-V: the V schedule with B whole, at about three quarters of the memory of
 * 1F1B and less bubble (see v_block.h for the paper).
 *
 * The repeated block is squeezed: its operations, in the order of their
 * times, each move to the earliest free slot in which what they need is done and,
 * for F, the rank's memory stays within the block's from there on.
 */
#include "base/log.h"
#include "schedules/build.h"
#include "schedules/kinds.h"
#include "schedules/v_block.h"
#include <errno.h>
#include <stdlib.h>

struct squeeze {
	const struct v_block *block;
	unsigned micro_batches;
	unsigned length; /* slots */
	unsigned cap;
	/* [ranks][length]: 1 + the kind that starts here; busy; 0: free */
	unsigned char *slots;
	unsigned *alive; /* [ranks][length]: activations during a slot */
	unsigned *ends;  /* [ranks][kinds][micro_batches] */
};

#define SLOT_BUSY 255

static unsigned duration(unsigned kind)
{
	return kind <= V_FORWARD_1 ? 1 : 2;
}

static unsigned *end_of(const struct squeeze *squeeze, unsigned rank,
			unsigned kind, unsigned micro_batch)
{
	size_t lane = (size_t)rank * squeeze->block->kinds + kind;

	return &squeeze->ends[lane * squeeze->micro_batches + micro_batch];
}

/* The first moment at which what the operation needs is done. */
static unsigned earliest(const struct squeeze *squeeze, unsigned rank,
			 unsigned kind, unsigned micro_batch)
{
	unsigned last = squeeze->block->ranks - 1;
	bool down = kind == V_FORWARD_0 || kind == V_INPUT_1;
	unsigned time = 0;

	if (rank != (down ? 0 : last))
		time = *end_of(squeeze, down ? rank - 1 : rank + 1, kind,
			       micro_batch);
	else if (kind != V_FORWARD_0)
		time = *end_of(squeeze, rank, kind - 1, micro_batch);
	if (micro_batch > 0)
		time = MAX(time, *end_of(squeeze, rank, kind, micro_batch - 1));
	return time;
}

static bool is_free(const unsigned char *slots, unsigned time, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (slots[time + i])
			return false;
	return true;
}

static void move(struct squeeze *squeeze, unsigned rank, unsigned kind,
		 unsigned micro_batch)
{
	unsigned time = v_block_time(squeeze->block, rank, kind, micro_batch);
	unsigned start = earliest(squeeze, rank, kind, micro_batch);
	unsigned char *slots = squeeze->slots + (size_t)rank * squeeze->length;
	unsigned *alive = squeeze->alive + (size_t)rank * squeeze->length;

	if (kind <= V_FORWARD_1) {
		unsigned room = time;

		while (room > start && alive[room - 1] < squeeze->cap)
			room--;
		start = room;
	}
	while (start < time && !is_free(slots, start, duration(kind)))
		start++;
	slots[start] = (unsigned char)(1 + kind);
	if (duration(kind) == 2)
		slots[start + 1] = SLOT_BUSY;
	*end_of(squeeze, rank, kind, micro_batch) = start + duration(kind);
	if (kind <= V_FORWARD_1)
		for (unsigned i = start; i < time; i++)
			alive[i]++;
	else
		for (unsigned i = start + 2; i < time + 2; i++)
			alive[i]--;
}

/* Calls move() for every operation in the order of the block's times. */
static void move_all(struct squeeze *squeeze)
{
	const struct v_block *block = squeeze->block;

	for (unsigned time = 0; time < squeeze->length; time++)
		for (unsigned rank = 0; rank < block->ranks; rank++)
			for (unsigned kind = 0; kind < block->kinds; kind++) {
				unsigned first = block->time[rank][kind];
				unsigned m = (time - first) / V_PERIOD;

				if (time >= first &&
				    (time - first) % V_PERIOD == 0 &&
				    m < squeeze->micro_batches)
					move(squeeze, rank, kind, m);
			}
}

/* Activations alive in each slot while all keep to the block's times. */
static void count_alive(struct squeeze *squeeze)
{
	const struct v_block *block = squeeze->block;

	for (unsigned rank = 0; rank < block->ranks; rank++) {
		unsigned *alive =
			squeeze->alive + (size_t)rank * squeeze->length;
		unsigned sum = 0;

		for (unsigned m = 0; m < squeeze->micro_batches; m++)
			for (unsigned kind = 0; kind < block->kinds; kind++) {
				unsigned time =
					v_block_time(block, rank, kind, m);

				if (kind <= V_FORWARD_1)
					alive[time]++;
				else
					alive[time + 2]--;
			}
		for (unsigned i = 0; i < squeeze->length; i++) {
			sum += alive[i];
			alive[i] = sum;
			squeeze->cap = MAX(squeeze->cap, sum);
		}
	}
}

static int write_rows(const struct squeeze *squeeze, struct schedule *schedule)
{
	int error = 0;

	for (unsigned rank = 0; rank < schedule->ranks; rank++) {
		const unsigned char *slots =
			squeeze->slots + (size_t)rank * squeeze->length;
		unsigned next[V_KINDS] = {0};

		for (unsigned i = 0; i < squeeze->length && !error; i++) {
			unsigned kind = slots[i] - 1u;

			if (slots[i] != 0 && slots[i] != SLOT_BUSY)
				error = v_block_append(schedule, squeeze->block,
						       rank, kind,
						       next[kind]++);
		}
	}
	return error;
}

static unsigned block_length(const struct v_block *block,
			     unsigned micro_batches)
{
	unsigned length = 0;

	for (unsigned rank = 0; rank < block->ranks; rank++)
		for (unsigned kind = 0; kind < block->kinds; kind++)
			length = MAX(length, v_block_time(block, rank, kind,
							  micro_batches));
	return length + 3;
}

int schedule_fill_1f1b_v(struct schedule *schedule)
{
	struct squeeze squeeze = {.micro_batches = schedule->micro_batches};
	struct v_block *block = v_block_create_fused(schedule->ranks);
	size_t cells;
	int error = -ENOMEM;

	if (block == NULL)
		return -ENOMEM;
	squeeze.block = block;
	squeeze.length = block_length(block, schedule->micro_batches);
	cells = (size_t)schedule->ranks * squeeze.length;
	squeeze.slots = calloc(cells, 1);
	squeeze.alive = calloc(cells, sizeof(unsigned));
	squeeze.ends = calloc((size_t)schedule->ranks * block->kinds *
				      schedule->micro_batches,
			      sizeof(unsigned));
	if (squeeze.slots && squeeze.alive && squeeze.ends) {
		count_alive(&squeeze);
		move_all(&squeeze);
		error = write_rows(&squeeze, schedule);
	} else {
		log_error("no memory for a schedule of %u ranks",
			  schedule->ranks);
	}
	free(squeeze.ends);
	free(squeeze.alive);
	free(squeeze.slots);
	v_block_destroy(block);
	return error;
}
