/*
 * V-Half and V-Min: the V schedules at about one half and one third of the
 * memory of 1F1B (see v_block.h for the paper).
 *
 * A building block, repeated, is a correct schedule with idle slots at both
 * ends. Here it is run unit by unit instead: whenever a rank is free it
 * takes, of what is ready, the operation the block has first, but may look a
 * little ahead (the window) for one that does not break the block's memory; W
 * before its time only fills what would be idle. As the first operation in
 * the block's order can always be done by its rank, this ends. Of several
 * blocks and windows the shortest run is taken.
 */
#include "base/log.h"
#include "schedules/build.h"
#include "schedules/kinds.h"
#include "schedules/v_block.h"
#include <errno.h>
#include <limits.h>
#include <stdlib.h>

struct v_run {
	const struct v_block *block;
	unsigned micro_batches;
	unsigned window;
	unsigned cap;              /* activations alive on a rank */
	unsigned (*next)[V_KINDS]; /* [ranks]: micro-batch of each kind */
	unsigned (*done)[V_KINDS]; /* the same, as the present unit began */
	unsigned *alive;           /* [ranks] */
	struct schedule *schedule; /* to be filled; NULL: only timed */
};

/* What a kind needs is done: the neighbour, or the turn of the V. */
static bool is_ready(const struct v_run *run, unsigned rank, unsigned kind)
{
	unsigned micro_batch = run->next[rank][kind];
	unsigned last = run->block->ranks - 1;
	bool down = kind == V_FORWARD_0 || kind == V_INPUT_1;
	unsigned from = rank;
	unsigned needs = kind;

	if (kind >= V_WEIGHT_1)
		needs = kind - 2;
	else if (rank == (down ? 0 : last))
		needs = kind - 1;
	else
		from = down ? rank - 1 : rank + 1;
	if (kind == V_FORWARD_0 && rank == 0)
		return true;
	return run->done[from][needs] > micro_batch;
}

/* The undone operation that the block has first, before `limit`; or none. */
static unsigned first_before(const struct v_run *run, unsigned rank,
			     const unsigned *next, unsigned limit)
{
	unsigned first = V_KINDS;

	for (unsigned kind = 0; kind < run->block->kinds; kind++) {
		unsigned time;

		if (next[kind] >= run->micro_batches)
			continue;
		time = v_block_time(run->block, rank, kind, next[kind]);
		if (time < limit) {
			limit = time;
			first = kind;
		}
	}
	return first;
}

/* Done now, would F overfill the rank before its time in the block comes? */
static bool fits(const struct v_run *run, unsigned rank, unsigned kind)
{
	unsigned next[V_KINDS];
	unsigned alive = run->alive[rank] + 1;
	unsigned time =
		v_block_time(run->block, rank, kind, run->next[rank][kind]);

	for (unsigned i = 0; i < V_KINDS; i++)
		next[i] = run->next[rank][i];
	next[kind]++;
	while (alive <= run->cap) {
		unsigned other = first_before(run, rank, next, time);

		if (other == V_KINDS)
			return true;
		alive += (unsigned)v_block_change(run->block, other);
		next[other]++;
	}
	return false;
}

/* What a free rank does in this unit; V_KINDS: nothing. */
static unsigned choose(const struct v_run *run, unsigned rank, unsigned now)
{
	unsigned head = first_before(run, rank, run->next[rank], UINT_MAX);
	unsigned best = V_KINDS;
	unsigned best_time = 0;
	bool best_filler = false;
	unsigned limit;

	if (head == V_KINDS)
		return V_KINDS;
	limit = v_block_time(run->block, rank, head, run->next[rank][head]) +
		run->window;
	for (unsigned kind = 0; kind < run->block->kinds; kind++) {
		unsigned micro_batch = run->next[rank][kind];
		unsigned time =
			v_block_time(run->block, rank, kind, micro_batch);
		bool filler = kind >= V_WEIGHT_1 && time > now;

		if (micro_batch >= run->micro_batches || time > limit ||
		    !is_ready(run, rank, kind))
			continue;
		if (kind <= V_FORWARD_1 && !fits(run, rank, kind))
			continue;
		if (best != V_KINDS &&
		    (filler > best_filler ||
		     (filler == best_filler && time > best_time)))
			continue;
		best = kind;
		best_time = time;
		best_filler = filler;
	}
	return best;
}

static void copy_counts(struct v_run *run)
{
	for (unsigned rank = 0; rank < run->block->ranks; rank++)
		for (unsigned kind = 0; kind < V_KINDS; kind++)
			run->done[rank][kind] = run->next[rank][kind];
}

/* Runs to the end; *length is the time it took. */
static int run_all(struct v_run *run, unsigned *length)
{
	unsigned ranks = run->block->ranks;
	size_t left = (size_t)ranks * run->block->kinds * run->micro_batches;
	unsigned now = 0;

	for (unsigned rank = 0; rank < ranks; rank++) {
		run->alive[rank] = 0;
		for (unsigned kind = 0; kind < V_KINDS; kind++)
			run->next[rank][kind] = 0;
	}
	for (; left > 0; now++) {
		copy_counts(run);
		for (unsigned rank = 0; rank < ranks; rank++) {
			unsigned kind = choose(run, rank, now);
			unsigned micro_batch;

			if (kind == V_KINDS)
				continue;
			micro_batch = run->next[rank][kind]++;
			run->alive[rank] +=
				(unsigned)v_block_change(run->block, kind);
			left--;
			if (run->schedule &&
			    v_block_append(run->schedule, run->block, rank,
					   kind, micro_batch))
				return -ENOMEM;
		}
	}
	*length = now;
	return 0;
}

static int run_init(struct v_run *run, unsigned ranks, unsigned micro_batches)
{
	*run = (struct v_run){.micro_batches = micro_batches};
	run->next = calloc(ranks, sizeof(*run->next));
	run->done = calloc(ranks, sizeof(*run->done));
	run->alive = calloc(ranks, sizeof(*run->alive));
	if (run->next == NULL || run->done == NULL || run->alive == NULL)
		return fail(-ENOMEM, "no memory for a schedule of %u ranks",
			    ranks);
	return 0;
}

static void run_fini(struct v_run *run)
{
	free(run->next);
	free(run->done);
	free(run->alive);
}

/* The window of looking ahead that gives the shortest run of one block. */
static int try_block(struct v_run *run, const struct v_block *block,
		     unsigned *best_window, unsigned *best_length)
{
	static const unsigned windows[] = {2, 6, 12};
	int error = 0;

	run->block = block;
	for (size_t i = 0; i < ARRAY_SIZE(windows) && !error; i++) {
		unsigned length = UINT_MAX;

		run->window = windows[i];
		error = run_all(run, &length);
		if (length < *best_length) {
			*best_length = length;
			*best_window = windows[i];
		}
	}
	return error;
}

/*
 * Of `count` blocks the one that runs shortest, none of them above the memory
 * of the first.
 */
static int fill_from(struct schedule *schedule, const struct v_steps *steps,
		     size_t count)
{
	struct v_block *best = NULL;
	unsigned best_length = UINT_MAX;
	unsigned best_window = 0;
	struct v_run run;
	int error = run_init(&run, schedule->ranks, schedule->micro_batches);

	for (size_t i = 0; i < count && !error; i++) {
		unsigned before = best_length;
		unsigned peak;
		bool collides;
		struct v_block *block = v_block_create_split(
			schedule->ranks, &steps[i], &collides);

		if (block == NULL) {
			error = collides ? 0 : -ENOMEM;
			continue;
		}
		peak = v_block_peak(block, schedule->micro_batches);
		if (best == NULL)
			run.cap = peak;
		if (peak <= run.cap)
			error = try_block(&run, block, &best_window,
					  &best_length);
		if (best_length < before) {
			v_block_destroy(best);
			best = block;
		} else {
			v_block_destroy(block);
		}
	}
	if (!error) {
		ASSERT(best != NULL);
		run.block = best;
		run.window = best_window;
		run.schedule = schedule;
		error = run_all(&run, &best_length);
	}
	v_block_destroy(best);
	run_fini(&run);
	return error;
}

int schedule_fill_v_half(struct schedule *schedule)
{
	/* Three units more where the slots would collide otherwise. */
	unsigned turn = schedule->ranks % 2 == 0 ? 4 : 1;
	const struct v_steps steps[] = {
		{2, 1, {1, turn, 2}},
		{2, 1, {2, 4, 1}},
	};

	return fill_from(schedule, steps, ARRAY_SIZE(steps));
}

int schedule_fill_v_min(struct schedule *schedule)
{
	unsigned turn = schedule->ranks % 3 == 0 ? 3 : 1;
	const struct v_steps steps[] = {{1, 1, {1, turn, 1}}};

	return fill_from(schedule, steps, ARRAY_SIZE(steps));
}
