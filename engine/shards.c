#include "engine/shards.h"
#include "base/log.h"
#include "engine/pipeline.h"
#include "engine/reduction.h"

#include <errno.h>
#include <stdlib.h>

struct shards {
	const struct pipeline *pipeline;
	/* Of other slices than this rank's; NULL: not needed so far. */
	struct reduction **reductions; /* [slices][positions] */
	struct model **models;         /* [slices] */
};

void shards_destroy(struct shards *shards)
{
	const struct grid *grid;

	if (!shards)
		return;
	grid = &shards->pipeline->grid;
	for (unsigned i = 0;
	     shards->reductions && i < grid->positions * grid->slices; i++)
		reduction_destroy(shards->reductions[i]);
	for (unsigned s = 0; shards->models && s < grid->slices; s++)
		model_destroy(shards->models[s]);
	free(shards->reductions);
	free(shards->models);
	free(shards);
}

static struct reduction **reduction_at(const struct shards *shards,
				       const struct grid_place *place)
{
	const struct pipeline *p = shards->pipeline;

	if (place->slice == p->place.slice)
		return &p->reductions[place->position];
	return &shards->reductions[place->slice * p->grid.positions +
				   place->position];
}

/* Slices need not be equally large: another's has a table of its own. */
static int model_of_slice(struct shards *shards, unsigned slice)
{
	struct model_config config = *model_config(shards->pipeline->model);

	config.slice = slice;
	return shards->models[slice]
		       ? 0
		       : model_create(&config, &shards->models[slice]);
}

static int prepare(struct shards *shards, const struct grid_place *place)
{
	const struct pipeline *p = shards->pipeline;
	struct reduction **reduction = reduction_at(shards, place);
	int rc;

	if (*reduction)
		return 0;
	rc = model_of_slice(shards, place->slice);
	return rc ? rc
		  : reduction_create_at(shards->models[place->slice],
					p->partition, p->train_schedule,
					place->position, p->grid.replicas, true,
					reduction);
}

/* Whether this rank moves tensors of another, or its own. */
static bool serves(const struct pipeline *p, unsigned rank)
{
	return rank == p->world->rank ||
	       (p->world->rank == ROUTE_ROOT &&
		!(p->reach.reads[rank] && p->reach.writes[rank]));
}

int shards_create(const struct pipeline *p, struct shards **out)
{
	struct shards *shards = calloc(1, sizeof(*shards));
	int rc = 0;

	if (!shards)
		return fail(-ENOMEM, "no memory for the optimizer's shards");
	shards->pipeline = p;
	shards->reductions = calloc((size_t)p->grid.positions * p->grid.slices,
				    sizeof(struct reduction *));
	shards->models = calloc(p->grid.slices, sizeof(struct model *));
	if (!shards->reductions || !shards->models)
		rc = fail(-ENOMEM, "no memory for the optimizer's shards");
	for (unsigned r = 0; !rc && r < p->world->size; r++) {
		struct grid_place place = grid_place(&p->grid, r);

		if (serves(p, r))
			rc = prepare(shards, &place);
	}
	if (rc)
		shards_destroy(shards);
	else
		*out = shards;
	return rc;
}

static bool find_range(const void *argument, const struct grid_place *place,
		       const struct parameter *parameter, unsigned index,
		       struct holding_range *out)
{
	const struct reduction *reduction = *reduction_at(argument, place);
	struct reduction_run run;

	ASSERT(reduction);
	if (index >=
	    reduction_shard_count(reduction, place->replica, parameter->id))
		return false;
	run = reduction_shard(reduction, place->replica, parameter->id, index);
	*out = (struct holding_range){run.first, run.count};
	return true;
}

struct holding_shards shards_ranges(const struct shards *shards)
{
	return (struct holding_shards){find_range, shards};
}
