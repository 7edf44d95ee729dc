#include "engine/store.h"
#include "base/log.h"
#include "engine/reduction.h"
#include "model/kernels/values.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/*
 * The row, if its tied target is on this rank too, gets that target's
 * weights; every function below asks this of a parameter.
 */
static bool is_alias(const struct store_config *config,
		     const struct parameter *all,
		     const struct parameter *parameter)
{
	return parameter->tied_to != PARAMETER_NOT_TIED &&
	       config->holds_layer[all[parameter->tied_to].layer];
}

/* Do replicas share the optimizer's state? */
static bool is_shared(const struct store_config *config)
{
	return config->reduction && config->reduction->sharded;
}

static unsigned piece_count(const struct store_config *config,
			    const struct parameter *parameter)
{
	if (is_shared(config))
		return reduction_shard_count(config->reduction, config->replica,
					     parameter->id);
	return 1;
}

static struct reduction_run piece_at(const struct store_config *config,
				     const struct parameter *parameter,
				     unsigned index)
{
	if (is_shared(config))
		return reduction_shard(config->reduction, config->replica,
				       parameter->id, index);
	return (struct reduction_run){.count = parameter->count};
}

/* Of a parameter that is updated here: elements with moments. */
static size_t own_elements(const struct store_config *config,
			   const struct parameter *parameter)
{
	unsigned count = piece_count(config, parameter);
	size_t elements = 0;

	for (unsigned i = 0; i < count; i++)
		elements += piece_at(config, parameter, i).count;
	return elements;
}

/* Do stages take turns with their accumulators? */
static bool is_windowed(const struct store_config *config)
{
	return config->reduction && config->reduction->windows;
}

static size_t window_bytes(const struct store_config *config)
{
	const struct reduction *reduction = config->reduction;
	size_t bytes = 0;

	for (unsigned i = 0; i < reduction->window_count; i++)
		bytes += reduction->window_floats[i] * sizeof(float);
	return bytes;
}

static bool is_rounded(const struct parameter *parameter)
{
	return parameter->compute_type == ELEMENT_BF16;
}

/* Decoding and evaluation do with the rounded copy. */
static bool has_master(unsigned levels, const struct parameter *parameter)
{
	return (levels > 0 && parameter->trainable) || !is_rounded(parameter);
}

static size_t rounded_bytes(const struct parameter *parameter)
{
	return parameter->count * sizeof(bfloat16);
}

void store_sizes(const struct store_config *config, struct store_sizes *out)
{
	unsigned count;
	const struct parameter *all = model_parameters(config->model, &count);

	*out = (struct store_sizes){0};
	if (is_windowed(config))
		out->gradients = window_bytes(config) * config->levels;
	for (unsigned i = 0; i < count; i++) {
		size_t bytes = arena_piece_bytes(all[i].count * sizeof(float));
		bool alias = is_alias(config, all, &all[i]);

		if (!config->holds_layer[all[i].layer])
			continue;
		out->rows++;
		if (!alias && has_master(config->levels, &all[i]))
			out->weights += bytes;
		if (!alias && is_rounded(&all[i]))
			out->rounded +=
				arena_piece_bytes(rounded_bytes(&all[i]));
		if (!all[i].trainable)
			continue;
		if (is_windowed(config))
			out->sums += arena_piece_bytes(
				own_elements(config, &all[i]) * sizeof(float));
		else
			out->gradients += bytes * config->levels;
		if (!alias)
			out->moments += config->moments *
					arena_piece_bytes(
						own_elements(config, &all[i]) *
						sizeof(float));
	}
}

static int allocate_tables(struct store *store, unsigned parameters)
{
	store->rows = calloc(store->count, sizeof(*store->rows));
	store->row_of = calloc(parameters, sizeof(*store->row_of));
	store->weights = calloc(store->count, sizeof(*store->weights));
	store->gradients =
		calloc(MAX(store->levels, 1), sizeof(*store->gradients));
	if (!store->rows || !store->row_of || !store->weights ||
	    !store->gradients)
		return fail(-ENOMEM, "no memory for the parameter table");
	for (unsigned level = 0; level < store->levels; level++) {
		store->gradients[level] =
			calloc(store->count, sizeof(**store->gradients));
		if (!store->gradients[level])
			return fail(-ENOMEM,
				    "no memory for the parameter table");
	}
	for (unsigned i = 0; i < store->count; i++) {
		store->rows[i].accumulators =
			calloc(MAX(store->levels, 1), sizeof(float *));
		if (!store->rows[i].accumulators)
			return fail(-ENOMEM,
				    "no memory for the parameter table");
	}
	return 0;
}

static void fill_weights(struct store *store, struct store_row *row)
{
	const struct parameter *parameter = row->parameter;

	if (has_master(store->levels, parameter))
		row->weights = arena_allocate(&store->weight_arena,
					      parameter->count * sizeof(float));
	if (is_rounded(parameter))
		row->rounded = arena_allocate(&store->rounded_arena,
					      rounded_bytes(parameter));
}

static void fill_row(struct store *store, unsigned index,
		     const struct parameter *parameter)
{
	struct store_row *row = &store->rows[index];

	row->parameter = parameter;
	row->target = -1;
	row->follower = -1;
	if (parameter->tied_to != PARAMETER_NOT_TIED) {
		row->target = store->row_of[parameter->tied_to];
		row->elsewhere = row->target < 0;
	}
	if (row->target >= 0) {
		row->weights = store->rows[row->target].weights;
		row->rounded = store->rows[row->target].rounded;
		store->rows[row->target].follower = (int)index;
	} else {
		fill_weights(store, row);
	}
	store->weights[index] =
		row->rounded ? (void *)row->rounded : row->weights;
}

static void set_accumulator(struct store *store, unsigned row, unsigned level,
			    float *memory)
{
	store->rows[row].accumulators[level] = memory;
	store->gradients[level][row] = memory;
}

static void fill_gradients(struct store *store)
{
	for (unsigned level = 0; level < store->levels; level++)
		for (unsigned i = 0; i < store->count; i++) {
			const struct parameter *parameter =
				store->rows[i].parameter;

			if (parameter->trainable)
				set_accumulator(
					store, i, level,
					arena_allocate(&store->gradient_arena,
						       parameter->count *
							       sizeof(float)));
		}
}

/* The rows of a stage, at the end of its window in one level. */
static void fill_stage(struct store *store, const struct reduction *reduction,
		       unsigned stage, unsigned level, float *window_end)
{
	float *at = window_end - reduction_stage_floats(reduction, stage);

	for (unsigned i = 0; i < store->count; i++) {
		const struct parameter *parameter = store->rows[i].parameter;
		unsigned bucket =
			reduction->parameters[parameter->id].first_bucket;

		if (!parameter->trainable ||
		    reduction->buckets[bucket].stage != stage)
			continue;
		set_accumulator(store, i, level, at);
		at += arena_piece_bytes(parameter->count * sizeof(float)) /
		      sizeof(float);
	}
	ASSERT(at == window_end);
}

static void fill_windows(struct store *store, const struct reduction *reduction)
{
	for (unsigned level = 0; level < store->levels; level++)
		for (unsigned w = 0; w < reduction->window_count; w++) {
			size_t floats = reduction->window_floats[w];
			float *base = arena_allocate(&store->gradient_arena,
						     floats * sizeof(float));

			for (unsigned s = 0; s < reduction->stage_count; s++)
				if (reduction->windows[s] == w)
					fill_stage(store, reduction,
						   reduction->stages[s], level,
						   base + floats);
		}
}

static void lay_gradients(struct store *store,
			  const struct store_config *config)
{
	if (is_windowed(config))
		fill_windows(store, config->reduction);
	else
		fill_gradients(store);
	if (store->levels)
		store->level_bytes =
			store->gradient_arena.used_bytes / store->levels;
}

static void fill_pieces(struct store *store, const struct store_config *config,
			struct store_row *row, struct store_piece *pieces)
{
	const struct parameter *parameter = row->parameter;
	size_t bytes = own_elements(config, parameter) * sizeof(float), at = 0;
	unsigned moments = row->target < 0 ? store->moments : 0;

	row->pieces = pieces;
	row->piece_count = piece_count(config, parameter);
	for (unsigned m = 0; m < moments; m++)
		row->moments[m] = arena_allocate(&store->moment_arena, bytes);
	if (is_windowed(config))
		row->sums = arena_allocate(&store->sum_arena, bytes);
	for (unsigned i = 0; i < row->piece_count; i++) {
		struct reduction_run run = piece_at(config, parameter, i);

		pieces[i] = (struct store_piece){.first = run.first,
						 .count = run.count};
		pieces[i].sums = row->sums ? row->sums + at
					   : row->accumulators[0] + run.first;
		for (unsigned m = 0; m < moments; m++)
			pieces[i].moments[m] = row->moments[m] + at;
		at += run.count;
	}
}

static int create_pieces(struct store *store, const struct store_config *config)
{
	size_t count = 0;

	if (store->levels == 0)
		return 0;
	for (unsigned i = 0; i < store->count; i++)
		if (store->rows[i].parameter->trainable)
			count += piece_count(config, store->rows[i].parameter);
	store->pieces = calloc(MAX(count, 1), sizeof(*store->pieces));
	if (!store->pieces)
		return fail(-ENOMEM, "no memory for the parameter table");
	count = 0;
	for (unsigned i = 0; i < store->count; i++) {
		struct store_row *row = &store->rows[i];

		if (!row->parameter->trainable)
			continue;
		fill_pieces(store, config, row, store->pieces + count);
		count += row->piece_count;
	}
	return 0;
}

/* A target whose tied row is not here has its partner elsewhere. */
static void mark_targets(struct store *store, const struct parameter *all,
			 unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		int target = all[i].tied_to;

		if (target == PARAMETER_NOT_TIED || store->row_of[i] >= 0 ||
		    store->row_of[target] < 0)
			continue;
		store->rows[store->row_of[target]].elsewhere = true;
	}
}

int store_create(const struct store_config *config, struct store **out)
{
	unsigned parameters, row = 0;
	const struct parameter *all =
		model_parameters(config->model, &parameters);
	struct store_sizes sizes;
	struct store *store = calloc(1, sizeof(*store));
	int rc;

	if (!store)
		return fail(-ENOMEM, "no memory for the parameter table");
	store_sizes(config, &sizes);
	store->model = config->model;
	store->count = sizes.rows;
	store->levels = config->levels;
	store->moments = config->moments;
	rc = allocate_tables(store, parameters);
	if (rc)
		goto err_destroy;
	rc = arena_init(&store->weight_arena, "weights", sizes.weights);
	if (rc)
		goto err_destroy;
	rc = arena_init(&store->rounded_arena, "rounded weights",
			sizes.rounded);
	if (rc)
		goto err_destroy;
	rc = arena_init(&store->gradient_arena, "gradients", sizes.gradients);
	if (rc)
		goto err_destroy;
	rc = arena_init(&store->sum_arena, "sums of gradients", sizes.sums);
	if (rc)
		goto err_destroy;
	rc = arena_init(&store->moment_arena, "optimizer state", sizes.moments);
	if (rc)
		goto err_destroy;
	for (unsigned i = 0; i < parameters; i++) {
		store->row_of[i] = -1;
		if (!config->holds_layer[all[i].layer])
			continue;
		fill_row(store, row, &all[i]);
		store->row_of[i] = (int)row++;
	}
	mark_targets(store, all, parameters);
	lay_gradients(store, config);
	rc = create_pieces(store, config);
	if (rc)
		goto err_destroy;
	arena_seal(&store->weight_arena);
	arena_seal(&store->rounded_arena);
	arena_seal(&store->gradient_arena);
	arena_seal(&store->sum_arena);
	arena_seal(&store->moment_arena);
	*out = store;
	return 0;

err_destroy:
	store_destroy(store);
	return rc;
}

void store_destroy(struct store *store)
{
	if (!store)
		return;
	for (unsigned i = 0; store->rows && i < store->count; i++)
		free(store->rows[i].accumulators);
	for (unsigned i = 0; store->gradients && i < store->levels; i++)
		free(store->gradients[i]);
	arena_fini(&store->weight_arena);
	arena_fini(&store->rounded_arena);
	arena_fini(&store->gradient_arena);
	arena_fini(&store->sum_arena);
	arena_fini(&store->moment_arena);
	free(store->rows);
	free(store->pieces);
	free(store->row_of);
	free(store->weights);
	free(store->gradients);
	free(store);
}

float *store_sum(const struct store_row *row, size_t element)
{
	const struct store_piece *piece = row->pieces;

	while (element >= piece->first + piece->count)
		piece++;
	return piece->sums + (element - piece->first);
}

void store_row_set(const struct store_row *row, size_t first, size_t count,
		   const float *values)
{
	if (row->weights && values != row->weights + first)
		memcpy(row->weights + first, values, count * sizeof(float));
	if (row->rounded)
		values_row_round(count, values, row->rounded + first);
}

/* Elements [first, end) of a row that has both. */
static void round_range(struct threads *threads, const struct store_row *row,
			size_t first, size_t end)
{
	values_round(threads, end - first, row->weights + first,
		     row->rounded + first);
}

/* A copy of a master of its own. */
static bool is_copy(const struct store_row *row)
{
	return row->target < 0 && row->rounded && row->weights;
}

void store_round(const struct store *store, struct threads *threads)
{
	for (unsigned i = 0; i < store->count; i++) {
		const struct store_row *row = &store->rows[i];

		if (is_copy(row))
			round_range(threads, row, 0, row->parameter->count);
	}
}

void store_round_others(const struct store *store, struct threads *threads)
{
	for (unsigned i = 0; i < store->count; i++) {
		const struct store_row *row = &store->rows[i];
		size_t at = 0;

		if (!is_copy(row) || !row->parameter->trainable)
			continue;
		for (unsigned k = 0; k < row->piece_count; k++) {
			const struct store_piece *piece = &row->pieces[k];

			round_range(threads, row, at, piece->first);
			at = piece->first + piece->count;
		}
		round_range(threads, row, at, row->parameter->count);
	}
}

bool store_row_is_updated(const struct store_row *row)
{
	return row->parameter->trainable && row->target < 0;
}

bool store_row_is_saved(const struct store_row *row)
{
	return row->parameter->tied_to == PARAMETER_NOT_TIED;
}
