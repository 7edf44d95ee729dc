#include "engine/holding.h"

bool holders_have(const struct holders *holders, unsigned position,
		  const struct parameter *parameter)
{
	unsigned stage =
		partition_stage_of(holders->partition, parameter->layer);

	return holders->position_of_stage[stage] == position;
}

bool holders_alias(const struct holders *holders, unsigned position,
		   const struct parameter *parameter)
{
	return parameter->tied_to != PARAMETER_NOT_TIED &&
	       holders_have(holders, position,
			    &holders->parameters[parameter->tied_to]);
}

bool holding_is_stored(const struct parameter *parameter)
{
	return parameter->tied_to == PARAMETER_NOT_TIED && parameter->trainable;
}

bool holding_has_moments(const struct parameter *parameter)
{
	return holding_is_stored(parameter);
}

bool holding_is_split(const struct parameter *parameter)
{
	return parameter->split_axis != PARAMETER_NOT_SPLIT &&
	       parameter->slices > 1;
}

/* The row as it is in another slice's table. */
static struct parameter row_of_slice(const struct parameter *parameter,
				     unsigned slice)
{
	struct parameter row = *parameter;

	if (!holding_is_split(parameter))
		return row;
	for (unsigned i = 0; i < row.dimensions; i++)
		row.shape[i] = row.whole_shape[i];
	row.count = row.whole_count;
	ASSERT(parameter_cut(&row, parameter->slices, slice));
	return row;
}

/* One of the replicas, and one of the slices that have the same, writes. */
static bool writes(const struct holders *holders,
		   const struct grid_place *place,
		   const struct parameter *parameter, enum freight freight)
{
	bool shared = freight == SAVE_MOMENTS && holders->shards.range;

	return (place->replica == 0 || shared) &&
	       (place->slice == 0 || holding_is_split(parameter));
}

static bool moves(const struct holders *holders, const struct grid_place *place,
		  const struct parameter *parameter, enum freight freight)
{
	if (!holders_have(holders, place->position, parameter))
		return false;
	switch (freight) {
	case LOAD_WEIGHTS:
		return !parameter->adapter &&
		       !holders_alias(holders, place->position, parameter);
	case LOAD_ADAPTERS:
		return parameter->adapter;
	case LOAD_MOMENTS:
		return parameter->trainable &&
		       !holders_alias(holders, place->position, parameter);
	case SAVE_WEIGHTS:
	case SAVE_MASTERS:
		return holding_is_stored(parameter) &&
		       writes(holders, place, parameter, freight);
	case SAVE_MOMENTS:
		return holding_has_moments(parameter) &&
		       writes(holders, place, parameter, freight);
	}
	return false;
}

/* False: there is none of this number. */
static bool find_range(const struct holding *holding, unsigned index,
		       struct holding_range *out)
{
	const struct holding_shards *shards = holding->shards;
	const struct parameter *parameter = &holding->parameter;

	if (shards)
		return shards->range(shards->argument, &holding->place,
				     parameter, index, out);
	*out = (struct holding_range){.count = parameter->count};
	return index == 0;
}

/* Back to before the first range. */
static void rewind_ranges(struct holding *holding)
{
	holding->index = 0;
	holding->begin = 0;
	if (!find_range(holding, 0, &holding->range))
		holding->range = (struct holding_range){0};
}

static size_t count_elements(const struct holding *holding)
{
	struct holding_range range;
	size_t count = 0;

	for (unsigned i = 0; find_range(holding, i, &range); i++) {
		ASSERT(range.count <= holding->parameter.count &&
		       range.first <= holding->parameter.count - range.count);
		count += range.count;
	}
	return count;
}

void holding_find(const struct holders *holders, const struct grid_place *place,
		  const struct parameter *parameter, enum freight freight,
		  struct holding *out)
{
	*out = (struct holding){.place = *place};
	if (!moves(holders, place, parameter, freight))
		return;
	out->parameter = row_of_slice(parameter, place->slice);
	out->run = out->parameter.count / parameter_run_count(&out->parameter);
	if (freight_is_of_moments(freight) && holders->shards.range)
		out->shards = &holders->shards;
	out->count = count_elements(out);
	rewind_ranges(out);
}

struct holding_segment holding_segment(struct holding *holding, size_t first)
{
	struct parameter_run run;
	size_t into, element;

	ASSERT(first < holding->count);
	if (first < holding->begin)
		rewind_ranges(holding);
	while (first - holding->begin >= holding->range.count) {
		holding->begin += holding->range.count;
		ASSERT(find_range(holding, ++holding->index, &holding->range));
	}
	into = first - holding->begin;
	element = holding->range.first + into;
	run = parameter_run(&holding->parameter, element / holding->run);
	return (struct holding_segment){
		.local = first,
		.whole = run.whole + (element - run.local),
		.count = MIN(holding->range.count - into,
			     run.count - (element - run.local)),
	};
}
