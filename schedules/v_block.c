#include "schedules/v_block.h"
#include "base/log.h"
#include "schedules/build.h"
#include <stdlib.h>

static struct v_block *block_create(unsigned ranks, unsigned kinds)
{
	struct v_block *block = calloc(1, sizeof(*block));

	if (block != NULL)
		block->time = calloc(ranks, sizeof(*block->time));
	if (block == NULL || block->time == NULL) {
		log_error("no memory for a schedule of %u ranks", ranks);
		free(block);
		return NULL;
	}
	block->ranks = ranks;
	block->kinds = kinds;
	return block;
}

void v_block_destroy(struct v_block *block)
{
	if (block == NULL)
		return;
	free(block->time);
	free(block);
}

/* Marks a slot of the six; false if it is taken. */
static bool take_slot(unsigned *taken, unsigned time)
{
	unsigned bit = 1u << (time % V_PERIOD);

	if (*taken & bit)
		return false;
	*taken |= bit;
	return true;
}

/* The Ws of a rank: the first free slot behind each I. */
static bool place_weights(unsigned *time)
{
	unsigned taken = 0;

	for (unsigned kind = 0; kind <= V_INPUT_0; kind++)
		if (!take_slot(&taken, time[kind]))
			return false;
	for (unsigned kind = V_WEIGHT_1; kind <= V_WEIGHT_0; kind++) {
		time[kind] = time[kind - 2] + 1;
		while (!take_slot(&taken, time[kind]))
			time[kind]++;
	}
	return true;
}

struct v_block *v_block_create_split(unsigned ranks,
				     const struct v_steps *steps,
				     bool *collides)
{
	struct v_block *block = block_create(ranks, V_KINDS);
	unsigned last = ranks - 1;
	/* The times of the first rank to do each. */
	unsigned forward = steps->first * last + steps->turn[0];
	unsigned input_1 = forward + steps->second * last + steps->turn[1];
	unsigned input_0 = input_1 + steps->first * last + steps->turn[2];

	*collides = false;
	for (unsigned r = 0; block != NULL && r < ranks; r++) {
		unsigned *time = block->time[r];

		time[V_FORWARD_0] = steps->first * r;
		time[V_FORWARD_1] = forward + steps->second * (last - r);
		time[V_INPUT_1] = input_1 + steps->first * r;
		time[V_INPUT_0] = input_0 + steps->second * (last - r);
		if (!place_weights(time)) {
			*collides = true;
			v_block_destroy(block);
			return NULL;
		}
	}
	return block;
}

/*
 * Forwards down and up in single steps; backwards in steps of two, with three
 * units left free after every third, so that of a rank's six slots each is
 * used once.
 */
struct v_block *v_block_create_fused(unsigned ranks)
{
	struct v_block *block = block_create(ranks, 4);
	unsigned time = 2 * ranks + (ranks % 3 == 0 ? 3 : 0);
	unsigned since = (3 - (ranks + 2) % 3) % 3;

	if (block == NULL)
		return NULL;
	for (unsigned r = 0; r < ranks; r++) {
		block->time[r][V_FORWARD_0] = r;
		block->time[r][V_FORWARD_1] = 2 * ranks - 1 - r;
	}
	for (unsigned i = 0; i < 2 * ranks; i++) {
		if (i < ranks)
			block->time[i][V_INPUT_1] = time;
		else
			block->time[2 * ranks - 1 - i][V_INPUT_0] = time;
		time += 2;
		if (++since == 3) {
			since = 0;
			time += 3;
		}
	}
	return block;
}

static unsigned rank_peak(const struct v_block *block, unsigned rank,
			  unsigned micro_batches)
{
	unsigned next[V_KINDS] = {0};
	unsigned peak = 0;
	int alive = 0;

	while (next[V_FORWARD_1] < micro_batches) {
		unsigned first = 0;

		for (unsigned kind = 1; kind < block->kinds; kind++)
			if (v_block_time(block, rank, kind, next[kind]) <
			    v_block_time(block, rank, first, next[first]))
				first = kind;
		if (next[first]++ >= micro_batches)
			continue;
		alive += v_block_change(block, first);
		peak = MAX(peak, (unsigned)alive);
	}
	return peak;
}

unsigned v_block_peak(const struct v_block *block, unsigned micro_batches)
{
	unsigned peak = 0;

	for (unsigned rank = 0; rank < block->ranks; rank++)
		peak = MAX(peak, rank_peak(block, rank, micro_batches));
	return peak;
}

int v_block_append(struct schedule *schedule, const struct v_block *block,
		   unsigned rank, unsigned kind, unsigned micro_batch)
{
	static const unsigned char ops[V_KINDS] = {
		ACTION_FORWARD,         ACTION_FORWARD,
		ACTION_BACKWARD_INPUT,  ACTION_BACKWARD_INPUT,
		ACTION_BACKWARD_WEIGHT, ACTION_BACKWARD_WEIGHT,
	};
	bool second =
		kind == V_FORWARD_1 || kind == V_INPUT_1 || kind == V_WEIGHT_1;
	unsigned stage = second ? 2 * block->ranks - 1 - rank : rank;
	unsigned op = ops[kind];

	if (op == ACTION_BACKWARD_INPUT && block->kinds < V_KINDS)
		op = ACTION_BACKWARD;
	return schedule_row_append(&schedule->rows[rank], op, stage,
				   micro_batch, 0);
}
