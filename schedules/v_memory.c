/*
 * V-Half and V-Min: the V schedules at about one half and one third of the
 * memory of 1F1B (see v_block.h for the paper).
 *
 * A building block, repeated, is a correct schedule with idle slots at both
 * ends. Here it is run unit by unit instead: whenever a rank is free it
 * takes, of what is ready, the operation the block has first, but may look a
 * little ahead (the window) for one that does not break the block's memory; W
 * before its time only fills what would be idle. Behind a rank's last F no W
 * makes room for anything any more, while every I has another rank waiting:
 * from there on I comes first, and W only fills. As the first operation in
 * the block's order can always be done by its rank, this ends.
 *
 * Of several blocks and ways of looking ahead the shortest run is taken, in
 * the units of the block; of equally short ones, the one that suffers least
 * where operations differ in length, as those of a transformer do.
 */
#include "base/log.h"
#include "schedules/build.h"
#include "schedules/kinds.h"
#include "schedules/v_block.h"
#include <errno.h>
#include <limits.h>
#include <stdlib.h>

/* How a rank looks beyond what the block has first. */
struct v_look {
	unsigned window; /* units */
	bool early;      /* F from beyond the window rather than idle */
};

struct v_length {
	unsigned even;   /* in the block's units */
	unsigned uneven; /* with the costs below */
};

/*
 * Attention has no weights and twice the work backward: the longer the
 * sequence, the nearer F : I : W come to 1 : 2 : 0. By kind, in any unit.
 */
static const unsigned uneven_costs[V_KINDS] = {2, 2, 3, 3, 1, 1};

struct v_run {
	const struct v_block *block;
	unsigned micro_batches;
	struct v_look look;
	unsigned cap;              /* activations alive on a rank */
	unsigned (*next)[V_KINDS]; /* [ranks]: micro-batch of each kind */
	unsigned (*done)[V_KINDS]; /* the same, as the present unit began */
	unsigned *alive;           /* [ranks] */
	unsigned *clock;           /* [ranks], with uneven costs */
	unsigned *ends; /* [ranks][V_KINDS][micro_batches], likewise */
	struct schedule *schedule; /* to be filled; NULL: only timed */
};

/* What it needs: the neighbour's, or the turn of the V; false: nothing. */
static bool find_need(const struct v_run *run, unsigned rank, unsigned kind,
		      unsigned *from, unsigned *needs)
{
	unsigned last = run->block->ranks - 1;
	bool down = kind == V_FORWARD_0 || kind == V_INPUT_1;

	*from = rank;
	*needs = kind;
	if (kind >= V_WEIGHT_1)
		*needs = kind - 2;
	else if (rank != (down ? 0 : last))
		*from = down ? rank - 1 : rank + 1;
	else if (kind != V_FORWARD_0)
		*needs = kind - 1;
	else
		return false;
	return true;
}

static bool is_ready(const struct v_run *run, unsigned rank, unsigned kind)
{
	unsigned from, needs;

	if (run->next[rank][kind] >= run->micro_batches)
		return false;
	return !find_need(run, rank, kind, &from, &needs) ||
	       run->done[from][needs] > run->next[rank][kind];
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

/* What goes first among the ready; within one the order is the block's. */
enum v_turn {
	TURN_DUE,
	TURN_EARLY,
	TURN_FILLER,
	TURN_NOT
};

static enum v_turn turn_of(const struct v_run *run, unsigned rank,
			   unsigned kind, unsigned now, unsigned limit)
{
	const unsigned *next = run->next[rank];
	unsigned time = v_block_time(run->block, rank, kind, next[kind]);

	if (next[V_FORWARD_1] == run->micro_batches)
		return kind >= V_WEIGHT_1 ? TURN_FILLER : TURN_DUE;
	if (kind <= V_FORWARD_1 && !fits(run, rank, kind))
		return TURN_NOT;
	if (time > limit)
		return kind <= V_FORWARD_1 && run->look.early ? TURN_EARLY
							      : TURN_NOT;
	return kind >= V_WEIGHT_1 && time > now ? TURN_FILLER : TURN_DUE;
}

/* What a free rank does in this unit; V_KINDS: nothing. */
static unsigned choose(const struct v_run *run, unsigned rank, unsigned now)
{
	const unsigned *next = run->next[rank];
	unsigned head = first_before(run, rank, next, UINT_MAX);
	unsigned best = V_KINDS;
	unsigned best_time = 0;
	enum v_turn best_turn = TURN_NOT;
	unsigned limit;

	if (head == V_KINDS)
		return V_KINDS;
	limit = v_block_time(run->block, rank, head, next[head]) +
		run->look.window;
	for (unsigned kind = 0; kind < run->block->kinds; kind++) {
		unsigned time =
			v_block_time(run->block, rank, kind, next[kind]);
		enum v_turn turn;

		if (!is_ready(run, rank, kind))
			continue;
		turn = turn_of(run, rank, kind, now, limit);
		if (turn < best_turn || (turn == best_turn && turn < TURN_NOT &&
					 time <= best_time)) {
			best = kind;
			best_time = time;
			best_turn = turn;
		}
	}
	return best;
}

static unsigned *end_of(const struct v_run *run, unsigned rank, unsigned kind,
			unsigned micro_batch)
{
	size_t lane = (size_t)rank * V_KINDS + kind;

	return &run->ends[lane * run->micro_batches + micro_batch];
}

/* When it ends with uneven costs; what it needs was added before. */
static void add_time(struct v_run *run, unsigned rank, unsigned kind,
		     unsigned micro_batch)
{
	unsigned *clock = &run->clock[rank];
	unsigned from, needs;

	if (find_need(run, rank, kind, &from, &needs))
		*clock = MAX(*clock, *end_of(run, from, needs, micro_batch));
	*clock += uneven_costs[kind];
	*end_of(run, rank, kind, micro_batch) = *clock;
}

static void copy_counts(struct v_run *run)
{
	for (unsigned rank = 0; rank < run->block->ranks; rank++)
		for (unsigned kind = 0; kind < V_KINDS; kind++)
			run->done[rank][kind] = run->next[rank][kind];
}

static void clear_counts(struct v_run *run)
{
	for (unsigned rank = 0; rank < run->block->ranks; rank++) {
		run->alive[rank] = 0;
		run->clock[rank] = 0;
		for (unsigned kind = 0; kind < V_KINDS; kind++)
			run->next[rank][kind] = 0;
	}
}

/* Runs to the end; *length is the time it took. */
static int run_all(struct v_run *run, struct v_length *length)
{
	unsigned ranks = run->block->ranks;
	size_t left = (size_t)ranks * run->block->kinds * run->micro_batches;
	unsigned now = 0;

	clear_counts(run);
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
			add_time(run, rank, kind, micro_batch);
			left--;
			if (run->schedule &&
			    v_block_append(run->schedule, run->block, rank,
					   kind, micro_batch))
				return -ENOMEM;
		}
	}
	*length = (struct v_length){.even = now};
	for (unsigned rank = 0; rank < ranks; rank++)
		length->uneven = MAX(length->uneven, run->clock[rank]);
	return 0;
}

static int run_init(struct v_run *run, unsigned ranks, unsigned micro_batches)
{
	size_t lanes = (size_t)ranks * V_KINDS;

	*run = (struct v_run){.micro_batches = micro_batches};
	run->next = calloc(ranks, sizeof(*run->next));
	run->done = calloc(ranks, sizeof(*run->done));
	run->alive = calloc(ranks, sizeof(*run->alive));
	run->clock = calloc(ranks, sizeof(*run->clock));
	run->ends = calloc(lanes * micro_batches, sizeof(*run->ends));
	if (run->next == NULL || run->done == NULL || run->alive == NULL ||
	    run->clock == NULL || run->ends == NULL)
		return fail(-ENOMEM, "no memory for a schedule of %u ranks",
			    ranks);
	return 0;
}

static void run_fini(struct v_run *run)
{
	free(run->next);
	free(run->done);
	free(run->alive);
	free(run->clock);
	free(run->ends);
}

/* The best of the runs so far. */
struct v_choice {
	struct v_block *block; /* owned; NULL: none yet */
	struct v_look look;
	struct v_length length;
};

static bool is_shorter(const struct v_length *a, const struct v_length *b)
{
	return a->even < b->even ||
	       (a->even == b->even && a->uneven < b->uneven);
}

/* Runs one block with every look; it becomes the choice's, or is destroyed. */
static int try_block(struct v_run *run, struct v_block *block,
		     struct v_choice *best)
{
	static const struct v_look looks[] = {
		{2, false}, {6, false}, {12, false},
		{2, true},  {6, true},  {12, true},
	};
	int error = 0;

	run->block = block;
	for (size_t i = 0; i < ARRAY_SIZE(looks) && !error; i++) {
		struct v_length length = {0};

		run->look = looks[i];
		error = run_all(run, &length);
		if (error ||
		    (best->block && !is_shorter(&length, &best->length)))
			continue;
		if (best->block != block)
			v_block_destroy(best->block);
		*best = (struct v_choice){block, looks[i], length};
	}
	if (best->block != block)
		v_block_destroy(block);
	return error;
}

/* Runs what was chosen once more, for its rows. */
static int fill_rows(struct v_run *run, const struct v_choice *best,
		     struct schedule *schedule)
{
	struct v_length length;

	ASSERT(best->block != NULL);
	run->block = best->block;
	run->look = best->look;
	run->schedule = schedule;
	return run_all(run, &length);
}

/*
 * Of `count` blocks the one that runs shortest, none of them above the memory
 * of the first.
 */
static int fill_from(struct schedule *schedule, const struct v_steps *steps,
		     size_t count)
{
	struct v_choice best = {0};
	struct v_run run;
	int error = run_init(&run, schedule->ranks, schedule->micro_batches);

	for (size_t i = 0; i < count && !error; i++) {
		unsigned peak;
		bool collides;
		struct v_block *block = v_block_create_split(
			schedule->ranks, &steps[i], &collides);

		if (block == NULL) {
			error = collides ? 0 : -ENOMEM;
			continue;
		}
		peak = v_block_peak(block, schedule->micro_batches);
		if (best.block == NULL)
			run.cap = peak;
		if (peak <= run.cap)
			error = try_block(&run, block, &best);
		else
			v_block_destroy(block);
	}
	if (!error)
		error = fill_rows(&run, &best, schedule);
	v_block_destroy(best.block);
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
