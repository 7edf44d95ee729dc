#include "engine/calibrate_rig.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "model/kernels/gemm.h"
#include "model/kernels/values.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Values that are drawn; what is longer repeats them. A prime: no two rows of a
 * matrix that stand near each other are alike. */
#define DRAWN 1021

static unsigned layer_count(const struct rig *rig)
{
	return rig->config.end_layer - rig->config.first_layer;
}

/* ---- contents ---- */

/*
 * As in a run for as many as are drawn; drawing all takes too long. Writing
 * the gradients' zeros makes the kernel find memory for them now.
 */
static void fill_weights(struct rig *rig)
{
	for (unsigned i = 0; i < rig->store->count; i++) {
		const struct store_row *row = &rig->store->rows[i];
		size_t count = row->parameter->count;
		size_t drawn = MIN(count, DRAWN);
		float values[DRAWN];

		/* It is trained, and not frozen. */
		if (row->accumulators && row->accumulators[0])
			memset(row->accumulators[0], 0, count * sizeof(float));
		if (row->target >= 0)
			continue;
		model_initialise(rig->config.model, row->parameter->id, 1, 0,
				 drawn, values);
		for (size_t at = 0; at < count; at += drawn)
			store_row_set(row, at, MIN(drawn, count - at), values);
	}
}

/* Whether all that passes over the edge is of this type. */
static bool holds(const struct edge *edge, enum element_type type)
{
	for (unsigned e = 0; e < edge->count; e++)
		if (edge->entry[e].type != type)
			return false;
	return true;
}

/*
 * What would come from other stages: small numbers of the edge's type. Other
 * types than those two stay zero.
 */
static void fill_messages(struct rig *rig, size_t bytes)
{
	const struct layer *first =
		model_layer(rig->config.model, rig->config.first_layer);
	bool floats = holds(&first->input, ELEMENT_F32);
	size_t width = element_type_bytes(floats ? ELEMENT_F32 : ELEMENT_BF16);
	size_t count = bytes / width, drawn = MIN(count, DRAWN);
	float values[DRAWN];

	if (!floats && !holds(&first->input, ELEMENT_BF16))
		return;
	random_normal(random_key_named(1, "calibration"), 0, drawn, 0, 0.02f,
		      values);
	if (floats)
		memcpy(rig->messages, values, drawn * width);
	else
		values_row_round(drawn, values,
				 (bfloat16 *)(void *)rig->messages);
	for (size_t at = drawn; at < count; at += drawn)
		memcpy(rig->messages + at * width, rig->messages,
		       MIN(drawn, count - at) * width);
}

static int fill_columns(struct rig *rig)
{
	const struct rig_config *config = &rig->config;
	size_t tokens = config->batch * config->time;
	unsigned vocab = model_config(config->model)->vocab_size;
	struct random_key key = random_key_named(1, "calibration tokens");

	rig->columns = calloc(2 * tokens, sizeof(*rig->columns));
	if (!rig->columns)
		return fail(-ENOMEM, "no memory for %zu tokens", tokens);
	for (size_t i = 0; i < 2 * tokens; i++)
		rig->columns[i] = (int32_t)random_below(key, i, vocab);
	return 0;
}

/* ---- life ---- */

static int create_store(struct rig *rig)
{
	const struct rig_config *config = &rig->config;
	unsigned layers = model_layer_count(config->model);
	bool *holds = calloc(layers, sizeof(*holds));
	struct store_config store = {
		.model = config->model,
		.holds_layer = holds,
		.levels = config->decoding ? 0 : 1,
		.moments = config->moments,
	};
	int rc;

	if (!holds)
		return fail(-ENOMEM, "no memory for the parameter table");
	for (unsigned i = config->first_layer; i < config->end_layer; i++)
		holds[i] = true;
	rc = store_create(&store, &rig->store);
	free(holds);
	return rc;
}

static void *allocate(size_t bytes)
{
	return aligned_alloc(CACHE_LINE_BYTES,
			     MAX(arena_piece_bytes(bytes), CACHE_LINE_BYTES));
}

static int create_stage(struct rig *rig)
{
	const struct rig_config *config = &rig->config;
	struct stage_config stage = {
		.model = config->model,
		.store = rig->store,
		.first_layer = config->first_layer,
		.end_layer = config->end_layer,
		.batch = config->batch,
		.time = config->time,
		.prompt = config->time,
		.micro_batches = 1,
		.threads = rig->team,
		.accumulation = {.micro_batches = 1, .groups = 1},
		.training = !config->decoding,
		.decoding = config->decoding,
		.recompute = config->recompute,
		.inputs = 1,
		.activations = 1,
		.output_gradients = 1,
		.pendings = 1,
	};
	struct stage_sizes sizes;

	stage_sizes(&stage, &sizes);
	rig->messages = allocate(sizes.message_region_bytes);
	rig->output = allocate(sizes.output_bytes);
	rig->input_gradient = allocate(sizes.input_gradient_bytes);
	if (!rig->messages || !rig->output || !rig->input_gradient)
		return fail(-ENOMEM, "no memory for a stage's messages");
	memset(rig->messages, 0, sizes.message_region_bytes);
	fill_messages(rig, sizes.message_region_bytes);
	return stage_create(&stage, rig->messages, &rig->stage);
}

static void prepare_pass(struct rig *rig)
{
	size_t tokens = rig->config.batch * rig->config.time;
	const struct model_config *model = model_config(rig->config.model);

	rig->alone = layer_collectives_alone(model->slices, model->slice);
	rig->pass = (struct stage_pass){
		.mode = LAYER_TRAIN,
		.seed = 1,
		.loss_scale = 1 / (double)tokens,
		.columns = {[COLUMN_TOKENS] = rig->columns,
			    [COLUMN_LABELS] = rig->columns + tokens},
		.collectives = &rig->alone,
	};
}

int rig_create(struct rig *rig, const struct rig_config *config)
{
	int rc;

	*rig = (struct rig){.config = *config};
	threads_set_float_state();
	rc = threads_create(config->threads, config->cores, &rig->team);
	if (!rc)
		rc = gemm_prepare_untouched(rig->team);
	if (!rc)
		rc = create_store(rig);
	if (!rc)
		rc = create_stage(rig);
	if (!rc)
		rc = fill_columns(rig);
	if (rc)
		return rc;
	fill_weights(rig);
	prepare_pass(rig);
	return 0;
}

void rig_destroy(struct rig *rig)
{
	stage_destroy(rig->stage);
	store_destroy(rig->store);
	threads_destroy(rig->team);
	free(rig->messages);
	free(rig->output);
	free(rig->input_gradient);
	free(rig->columns);
	*rig = (struct rig){0};
}

/* ---- work ---- */

/* The stage calls this after each layer's F, I and W. */
static void stamp(void *argument)
{
	struct rig_stamps *stamps = argument;

	stamps->at_ns[stamps->count++] = clock_now_ns();
}

static double seconds_between(int64_t begin, int64_t end)
{
	return clock_seconds(end - begin);
}

/* F ascends; B descends, I and W of a layer one after the other. */
static void read_stamps(const struct rig_stamps *stamps, unsigned layers,
			int64_t forward_ns, int64_t backward_ns,
			double *seconds)
{
	const int64_t *at = stamps->at_ns;
	int64_t last = forward_ns;

	for (unsigned i = 0; i < layers; i++) {
		seconds[3 * i] = seconds_between(last, *at);
		last = *at++;
	}
	last = backward_ns;
	for (unsigned i = layers; i-- > 0;) {
		seconds[3 * i + 1] = seconds_between(last, at[0]);
		seconds[3 * i + 2] = seconds_between(at[0], at[1]);
		last = at[1];
		at += 2;
	}
}

void rig_pass(struct rig *rig, size_t batch, size_t time,
	      struct rig_stamps *stamps, double *seconds)
{
	bool last = model_layer(rig->config.model, rig->config.end_layer - 1)
			    ->output.count == 0;
	bool first = model_layer(rig->config.model, rig->config.first_layer)
			     ->input.count == 0;
	int64_t forward_ns, backward_ns;

	rig->pass.batch = batch;
	rig->pass.time = time;
	rig->pass.breathe = stamps ? stamp : NULL;
	rig->pass.argument = stamps;
	if (stamps)
		stamps->count = 0;
	if (!first)
		stage_claim_input(rig->stage, 0);
	forward_ns = clock_now_ns();
	stage_forward(rig->stage, &rig->pass, 0, last ? NULL : rig->output);
	if (!last)
		stage_claim_output_gradient(rig->stage, 0);
	backward_ns = clock_now_ns();
	stage_backward(rig->stage, &rig->pass, 0,
		       first ? NULL : rig->input_gradient);
	if (!stamps)
		return;
	ASSERT(stamps->count == 3 * layer_count(rig));
	read_stamps(stamps, layer_count(rig), forward_ns, backward_ns, seconds);
}

const float *rig_decode(struct rig *rig, int32_t token, size_t position,
			struct rig_stamps *stamps)
{
	ASSERT(rig->config.decoding);
	rig->columns[0] = token;
	rig->pass.mode = LAYER_DECODE;
	rig->pass.batch = 1;
	rig->pass.time = 1;
	rig->pass.position_offset = position;
	rig->pass.breathe_often = stamps ? stamp : NULL;
	rig->pass.argument = stamps;
	if (stamps)
		stamps->count = 0;
	stage_forward(rig->stage, &rig->pass, 0, rig->output);
	return rig->output;
}

size_t rig_update(struct rig *rig, const struct optimizer_config *optimizer,
		  uint64_t step)
{
	size_t weights = 0;

	/* A rate of 0: the weights stay what they are. */
	optimizer_step(optimizer, rig->team, rig->store, step, 0, 1);
	for (unsigned i = 0; i < rig->store->count; i++)
		if (store_row_is_updated(&rig->store->rows[i]))
			weights += rig->store->rows[i].parameter->count;
	return weights;
}
