#include "model/parameter.h"

struct parameter_share parameter_share(size_t length, unsigned slices,
				       unsigned slice)
{
	size_t least = length / slices, longer = length % slices;

	ASSERT(slice < slices);
	return (struct parameter_share){
		.first = slice * least + MIN(slice, longer),
		.count = least + (slice < longer),
	};
}

/* Elements of the whole tensor in one index of the split axis. */
static size_t elements_behind(const struct parameter *parameter)
{
	size_t elements = 1;

	for (unsigned i = (unsigned)parameter->split_axis + 1;
	     i < parameter->dimensions; i++)
		elements *= parameter->whole_shape[i];
	return elements;
}

static bool is_whole(const struct parameter *parameter)
{
	return parameter->split_axis == PARAMETER_NOT_SPLIT ||
	       parameter->slices <= 1;
}

size_t parameter_run_count(const struct parameter *parameter)
{
	size_t runs = parameter->split_parts;

	if (is_whole(parameter))
		return 1;
	for (int i = 0; i < parameter->split_axis; i++)
		runs *= parameter->whole_shape[i];
	return runs;
}

struct parameter_run parameter_run(const struct parameter *parameter,
				   size_t index)
{
	struct parameter_share share;
	size_t part, behind;

	ASSERT(index < parameter_run_count(parameter));
	if (is_whole(parameter))
		return (struct parameter_run){.count = parameter->whole_count};
	part = parameter->whole_shape[parameter->split_axis] /
	       parameter->split_parts;
	behind = elements_behind(parameter);
	share = parameter_share(part, parameter->slices, parameter->slice);
	return (struct parameter_run){
		.local = index * share.count * behind,
		.whole = (index * part + share.first) * behind,
		.count = share.count * behind,
	};
}

bool parameter_cut(struct parameter *parameter, unsigned slices, unsigned slice)
{
	size_t *axis, whole, part;

	ASSERT(slice < slices);
	if (parameter->split_axis == PARAMETER_NOT_SPLIT)
		return true;
	axis = &parameter->shape[parameter->split_axis];
	whole = *axis;
	part = whole / parameter->split_parts;
	if (part * parameter->split_parts != whole ||
	    (parameter->split_uneven ? part < slices : part % slices != 0))
		return false;
	*axis = parameter->split_parts *
		parameter_share(part, slices, slice).count;
	parameter->count = parameter->count / whole * *axis;
	parameter->slices = slices;
	parameter->slice = slice;
	return true;
}
