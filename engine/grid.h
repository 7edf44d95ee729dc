/*
 * The grid: how the ranks of a job divide its work.
 *
 * D replicas of the pipeline each compute their share of the micro-batches; the
 * pipeline's P positions hold the stages; T ranks of a tensor group share the
 * layers of one position. Ranks are numbered so that the group lies together,
 * then the pipeline, then the replicas:
 *
 *   rank = (replica * P + position) * T + slice
 *
 * A schedule's row r is what all ranks at position r do.
 */
#ifndef STAGECOACH_ENGINE_GRID_H
#define STAGECOACH_ENGINE_GRID_H

struct grid {
	unsigned replicas;  /* D */
	unsigned positions; /* P */
	unsigned slices;    /* T */
};

/* Where one rank stands. */
struct grid_place {
	unsigned replica;
	unsigned position;
	unsigned slice;
};

static inline unsigned grid_size(const struct grid *grid)
{
	return grid->replicas * grid->positions * grid->slices;
}

static inline unsigned grid_rank(const struct grid *grid, unsigned replica,
				 unsigned position, unsigned slice)
{
	return (replica * grid->positions + position) * grid->slices + slice;
}

static inline struct grid_place grid_place(const struct grid *grid,
					   unsigned rank)
{
	return (struct grid_place){
		.replica = rank / (grid->positions * grid->slices),
		.position = rank / grid->slices % grid->positions,
		.slice = rank % grid->slices,
	};
}

#endif
