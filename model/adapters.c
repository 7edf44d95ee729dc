#include "model/adapters.h"
#include "base/log.h"
#include "base/math.h"
#include "base/text.h"
#include "model/layers/primitive.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define ALL_LINEAR "all-linear"

/* The first name of a comma-separated list; moves the list on. */
struct list_name {
	const char *name;
	size_t length;
};

static bool list_next(const char **list, struct list_name *out)
{
	*list += strspn(*list, ",");
	*out = (struct list_name){*list, strcspn(*list, ",")};
	*list += out->length;
	return out->length > 0;
}

static bool list_has(const char *list, const struct list_name *wanted)
{
	struct list_name name;

	while (list_next(&list, &name))
		if (name.length == wanted->length &&
		    memcmp(name.name, wanted->name, name.length) == 0)
			return true;
	return false;
}

/*
 * Each name once, none empty: the same list is read back from a folder of
 * adapters, and is part of what a resumed run must share.
 */
static int targets_complete(struct model_adapters *adapters)
{
	const char *list = adapters->targets;
	struct model_adapters kept = {.targets = ""};
	struct list_name name;
	size_t used = 0;

	while (list_next(&list, &name)) {
		if (name.length >= ADAPTER_TARGET_BYTES)
			return fail(-EINVAL,
				    "adapters: '%.*s' is longer than the name "
				    "of a linear map",
				    (int)name.length, name.name);
		if (list_has(kept.targets, &name))
			continue;
		used += (size_t)snprintf(
			kept.targets + used, sizeof(kept.targets) - used,
			"%s%.*s", used ? "," : "", (int)name.length, name.name);
	}
	if (used == 0)
		return fail(-EINVAL,
			    "adapters: the list of targets names none");
	memcpy(adapters->targets, kept.targets, sizeof(kept.targets));
	return 0;
}

int adapters_complete(const struct family_ops *family,
		      struct model_config *config)
{
	struct model_adapters *adapters = &config->adapters;

	if (adapters->rank == 0)
		return 0;
	if (adapters->rank > MIN(config->width, ADAPTER_RANK_MAX))
		return fail(-EINVAL,
			    "adapters: rank %u is more than the width %u; 8 or "
			    "16 are usual",
			    adapters->rank, config->width);
	if (!(adapters->alpha > 0.0 && adapters->alpha <= 1e6))
		return fail(-EINVAL, "adapters: alpha is %g, not in (0, 1e6]",
			    adapters->alpha);
	if (config->slices > 1)
		return fail(-EINVAL,
			    "adapters: layers divided among slices have none; "
			    "train without tensor parallelism");
	if (adapters->targets[0])
		return targets_complete(adapters);
	if (!family->adapter_targets)
		return fail(-EINVAL,
			    "adapters: %s has no usual targets; name "
			    "some",
			    family->name);
	return text_copy(adapters->targets, sizeof(adapters->targets),
			 family->adapter_targets);
}

/* Is `module` ("attn.c_attn") called so, or does its last part or parts? */
static bool module_is(const char *module, size_t length,
		      const struct list_name *target)
{
	size_t before = length - target->length;

	return target->length <= length &&
	       memcmp(module + before, target->name, target->length) == 0 &&
	       (before == 0 || module[before - 1] == '.');
}

static bool is_target(const char *targets, const char *module)
{
	struct list_name target;

	if (strcmp(targets, ALL_LINEAR) == 0)
		return true;
	while (list_next(&targets, &target))
		if (module_is(module, strlen(module), &target))
			return true;
	return false;
}

/*
 * The map's output becomes a new value, which the adapter reads; what it
 * writes has the old number, so that all others go on reading that. The
 * highest number stays the layer's output.
 */
static void insert_row(struct layer_description *description, unsigned at,
		       struct graph_row adapter)
{
	struct graph_row *rows = description->rows;
	unsigned last = description->value_count - 1;
	unsigned char fresh = (unsigned char)last, output = rows[at].output;

	ASSERT(description->row_count < GRAPH_NODES_MAX);
	ASSERT(description->value_count < GRAPH_VALUES_MAX);
	for (unsigned i = 0; i < description->row_count; i++) {
		for (unsigned k = 0; k < rows[i].ops->inputs; k++)
			if (rows[i].input[k] == last)
				rows[i].input[k] = (unsigned char)(last + 1);
		if (rows[i].output == last)
			rows[i].output = (unsigned char)(last + 1);
	}
	output = rows[at].output;
	description->widths[last + 1] = description->widths[last];
	description->widths[fresh] = description->widths[output];
	description->value_count++;
	adapter.input[0] = rows[at].input[0];
	adapter.input[1] = fresh;
	adapter.output = output;
	rows[at].output = fresh;
	memmove(&rows[at + 2], &rows[at + 1],
		(description->row_count - at - 1) * sizeof(rows[0]));
	rows[at + 1] = adapter;
	description->row_count++;
}

/* The maps of a row that get an adapter, as the adapter's own row. */
static bool adapter_row(const struct model_adapters *adapters,
			const struct layer_description *description,
			const struct graph_row *row, struct graph_row *out)
{
	const char *names[NODE_MAPS_MAX] = {row->name, row->second_name,
					    row->third_name};
	size_t in = description->widths[row->input[0]];
	unsigned maps = 0;

	for (unsigned map = 0; map < NODE_MAPS_MAX; map++) {
		if (names[map] && is_target(adapters->targets, names[map]))
			maps++;
		else
			names[map] = NULL;
	}
	*out = (struct graph_row){
		.ops = &adapter_ops,
		.name = names[0],
		.second_name = names[1],
		.third_name = names[2],
		.rank = adapters->rank,
		.scale = (float)(adapters->alpha / adapters->rank),
		/* As deep as uniform numbers within 1 / sqrt(in). */
		.deviation = (float)(1.0 / math_sqrt(3.0 * (double)in)),
		.split_axis = PARAMETER_NOT_SPLIT,
	};
	memcpy(out->map_widths, row->map_widths, sizeof(out->map_widths));
	if (row->ops == &linear_ops)
		out->map_widths[0] = description->widths[row->output];
	return maps > 0;
}

void adapters_insert(const struct model_adapters *adapters,
		     struct layer_description *description)
{
	for (unsigned i = 0; i < description->row_count; i++) {
		const struct graph_row *row = &description->rows[i];
		struct graph_row adapter;

		if (row->ops != &linear_ops && row->ops != &linears_ops)
			continue;
		if (!adapter_row(adapters, description, row, &adapter))
			continue;
		insert_row(description, i, adapter);
		i++; /* the adapter itself */
	}
}

static const char adapter_suffix[] = ".lora_A.weight";

/* Length of the module's name an adapter's parameter belongs to, or 0. */
static size_t adapted_module(const struct parameter *parameter)
{
	size_t suffix = sizeof(adapter_suffix) - 1;
	size_t length = strlen(parameter->name);

	if (length <= suffix ||
	    strcmp(parameter->name + length - suffix, adapter_suffix) != 0)
		return 0;
	return length - suffix;
}

int adapters_check_targets(const struct model_adapters *adapters,
			   const struct parameter *parameters, unsigned count)
{
	const char *list = adapters->targets;
	struct list_name target;

	if (adapters->rank == 0 || strcmp(list, ALL_LINEAR) == 0)
		return 0;
	while (list_next(&list, &target)) {
		bool found = false;

		for (unsigned i = 0; i < count && !found; i++) {
			size_t length = adapted_module(&parameters[i]);

			found = length > 0 &&
				module_is(parameters[i].name, length, &target);
		}
		if (!found)
			return fail(-EINVAL,
				    "adapters: the model has no linear map "
				    "called '%.*s'; `stagecoach inspect` lists "
				    "its names, " ALL_LINEAR " takes all",
				    (int)target.length, target.name);
	}
	return 0;
}
