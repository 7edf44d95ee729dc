#include "engine/stage.h"
#include "base/clock.h"
#include "base/log.h"
#include "model/kernels/gemm.h"

#include <errno.h>
#include <stdlib.h>

/* Where one layer's things stand inside the slots. */
struct stage_layer {
	const struct layer *layer;
	unsigned row; /* of its first parameter in the store */
	struct layer_memory memory;
	size_t output;   /* activation slot: its output, unless the last */
	size_t saved;    /* activation slot, or see saved_of() */
	size_t pending;  /* pending slot */
	size_t gradient; /* pending slot: gradient of its input */
	void *cache;
};

struct stage_flight {
	void *input;
	void *activation;
	void *output_gradient;
	void *pending;
	double loss;
};

struct stage {
	struct stage_config config;
	struct stage_sizes sizes;
	unsigned layer_count;
	struct stage_layer *layers;
	struct stage_flight *flights; /* [micro_batches] */
	uint64_t *sample_ids;         /* [B] of the call under way */
	unsigned weight_passes;       /* Ws of this training pass */
	struct slots inputs, activations, output_gradients, pendings;
	struct arena arena;
	void *scratch;
	void *discard;        /* recompute: what F's layers save */
	void *discard_output; /* recompute: the last layer's output again */
	size_t discard_bytes;
	size_t discard_output_bytes;
};

static const struct layer *layer_at(const struct stage_config *config,
				    unsigned i)
{
	return model_layer(config->model, config->first_layer + i);
}

static unsigned layer_count(const struct stage_config *config)
{
	return config->end_layer - config->first_layer;
}

static enum layer_mode mode_of(const struct stage_config *config)
{
	if (config->training)
		return LAYER_TRAIN;
	return config->decoding ? LAYER_DECODE : LAYER_EVAL;
}

static bool recomputed(const struct stage_config *config,
		       const struct layer *layer)
{
	return config->recompute && config->training && layer->recomputable;
}

static size_t round_up(size_t bytes)
{
	return arena_piece_bytes(bytes);
}

/* A layout under way: how far each kind of slot has been filled. */
struct layout {
	const struct stage_config *config;
	size_t widest_output; /* of the edges between this stage's layers */
	size_t widest_gradient;
	size_t widest_pending;
	size_t activation;
	size_t pending;
	size_t discard;
	size_t scratch;
	size_t backward_scratch; /* of what runs while a pending slot is used */
	size_t cache;
};

static void find_widest(struct layout *layout)
{
	const struct stage_config *config = layout->config;

	for (unsigned i = 0; i + 1 < layer_count(config); i++) {
		const struct edge *edge = &layer_at(config, i)->output;
		size_t output = edge_bytes(edge, config->batch, config->time);
		size_t gradient =
			edge_gradient_bytes(edge, config->batch, config->time);

		layout->widest_output =
			MAX(layout->widest_output, round_up(output));
		layout->widest_gradient =
			MAX(layout->widest_gradient, round_up(gradient));
	}
}

static void measure_layer(struct layout *layout, struct stage_layer *here)
{
	const struct stage_config *config = layout->config;
	unsigned threads = threads_count(config->threads);
	struct layer_memory evaluation = {0};

	layer_memory(here->layer, config->batch, config->time, mode_of(config),
		     threads, &here->memory);
	/* Evaluation between steps uses the same stage. */
	if (config->training)
		layer_memory(here->layer, config->batch, config->time,
			     LAYER_EVAL, threads, &evaluation);
	layout->scratch = MAX(layout->scratch, here->memory.scratch_bytes);
	layout->scratch = MAX(layout->scratch, evaluation.scratch_bytes);
	layout->backward_scratch =
		MAX(layout->backward_scratch,
		    recomputed(config, here->layer)
			    ? here->memory.scratch_bytes
			    : here->memory.backward_scratch_bytes);
	layout->cache += round_up(here->memory.cache_bytes);
}

/* Outputs stay until W in training; else two places take turns. */
static void place_output(struct layout *layout, unsigned i,
			 struct stage_layer *here)
{
	const struct stage_config *config = layout->config;

	if (i + 1 == layer_count(config))
		return;
	if (!config->training) {
		here->output = (i % 2) * layout->widest_output;
		return;
	}
	here->output = layout->activation;
	layout->activation += round_up(
		edge_bytes(&here->layer->output, config->batch, config->time));
}

static void place_saved(struct layout *layout, struct stage_layer *here)
{
	size_t saved = here->memory.saved_bytes;

	if (!recomputed(layout->config, here->layer)) {
		here->saved = layout->activation;
		layout->activation += round_up(saved);
		return;
	}
	layout->discard = MAX(layout->discard, saved);
	if (!layout->config->split_backward)
		return;
	here->saved = layout->pending;
	layout->pending += round_up(saved);
}

/* From I until W where the two come apart; else layers take turns. */
static void place_gradient(struct layout *layout, unsigned i,
			   struct stage_layer *here)
{
	const struct stage_config *config = layout->config;
	size_t pending = here->memory.pending_bytes;

	if (!config->split_backward) {
		here->gradient = (i % 2) * layout->widest_gradient;
		here->pending = 2 * layout->widest_gradient;
		layout->widest_pending = MAX(layout->widest_pending, pending);
		return;
	}
	here->pending = layout->pending;
	layout->pending += round_up(pending);
	if (i == 0)
		return;
	here->gradient = layout->pending;
	layout->pending += round_up(edge_gradient_bytes(
		&here->layer->input, config->batch, config->time));
}

/*
 * Where the two halves of B come together, no forward runs while the pending
 * slot is used: the scratch of forward, which the head's logits make long, may
 * run over into it.
 */
static size_t scratch_before_pendings(const struct layout *layout)
{
	const struct stage_config *config = layout->config;
	size_t pendings = config->pendings * round_up(layout->pending);
	size_t scratch = round_up(layout->scratch);

	if (!config->training || config->split_backward)
		return scratch;
	return MAX(round_up(layout->backward_scratch),
		   scratch - MIN(scratch, pendings));
}

/*
 * Lays the layers' things out in the slots; layers[] may be NULL when only
 * the sizes are wanted.
 */
static void lay_out(const struct stage_config *config,
		    struct stage_layer *layers, struct stage_sizes *sizes,
		    size_t *discard_bytes)
{
	struct layout layout = {.config = config};

	find_widest(&layout);
	for (unsigned i = 0; i < layer_count(config); i++) {
		struct stage_layer here = {.layer = layer_at(config, i)};

		measure_layer(&layout, &here);
		place_output(&layout, i, &here);
		place_saved(&layout, &here);
		place_gradient(&layout, i, &here);
		if (layers)
			layers[i] = here;
	}
	if (!config->training)
		layout.activation = 2 * layout.widest_output;
	if (!config->split_backward)
		layout.pending = 2 * layout.widest_gradient +
				 round_up(layout.widest_pending);
	sizes->activation_bytes = layout.activation;
	sizes->pending_bytes = config->training ? layout.pending : 0;
	sizes->scratch_bytes = scratch_before_pendings(&layout);
	sizes->cache_bytes = layout.cache;
	*discard_bytes = round_up(layout.discard);
}

static size_t decode_output_bytes(const struct stage_config *config,
				  const struct layer *last)
{
	return config->batch * last->vocab_size * sizeof(float);
}

static void measure(const struct stage_config *config,
		    struct stage_layer *layers, struct stage_sizes *sizes,
		    size_t *discard_bytes, size_t *discard_output_bytes)
{
	size_t batch = config->batch, time = config->time;
	const struct layer *first = layer_at(config, 0);
	const struct layer *last = layer_at(config, layer_count(config) - 1);

	*sizes = (struct stage_sizes){0};
	lay_out(config, layers, sizes, discard_bytes);
	sizes->input_bytes = edge_bytes(&first->input, batch, time);
	sizes->output_bytes = edge_bytes(&last->output, batch, time);
	if (last->loss && config->decoding)
		sizes->output_bytes = decode_output_bytes(config, last);
	if (config->training) {
		sizes->input_gradient_bytes =
			edge_gradient_bytes(&first->input, batch, time);
		sizes->output_gradient_bytes =
			edge_gradient_bytes(&last->output, batch, time);
	}
	*discard_output_bytes =
		config->recompute ? round_up(sizes->output_bytes) : 0;
	sizes->message_region_bytes =
		config->inputs * round_up(sizes->input_bytes) +
		config->output_gradients *
			round_up(sizes->output_gradient_bytes);
	sizes->private_bytes = config->activations * sizes->activation_bytes +
			       config->pendings * sizes->pending_bytes +
			       sizes->scratch_bytes + sizes->cache_bytes +
			       *discard_bytes + *discard_output_bytes;
}

void stage_sizes(const struct stage_config *config, struct stage_sizes *out)
{
	size_t discard, discard_output;

	measure(config, NULL, out, &discard, &discard_output);
}

const struct stage_sizes *stage_get_sizes(const struct stage *stage)
{
	return &stage->sizes;
}

static int create_slots(struct stage *stage, unsigned char *messages)
{
	const struct stage_config *config = &stage->config;
	const struct stage_sizes *sizes = &stage->sizes;
	size_t input = round_up(sizes->input_bytes);
	size_t gradient = round_up(sizes->output_gradient_bytes);
	int rc;

	rc = slots_init(&stage->inputs, input ? config->inputs : 0, input,
			messages);
	if (rc)
		return rc;
	rc = slots_init(&stage->output_gradients,
			gradient ? config->output_gradients : 0, gradient,
			messages + config->inputs * input);
	if (rc)
		return rc;
	rc = slots_init(
		&stage->activations, config->activations,
		sizes->activation_bytes,
		arena_allocate(&stage->arena,
			       config->activations * sizes->activation_bytes));
	if (rc)
		return rc;
	/* One piece after the other: scratch may run over into the slots. */
	stage->scratch = arena_allocate(&stage->arena, sizes->scratch_bytes);
	return slots_init(
		&stage->pendings, config->pendings, sizes->pending_bytes,
		arena_allocate(&stage->arena,
			       config->pendings * sizes->pending_bytes));
}

/* Or counts what that takes. */
static int prepare_layer(const struct stage_config *config,
			 const struct layer *layer, size_t time,
			 enum layer_mode mode, struct gemm_bfloat16_work *work)
{
	if (!work)
		return layer_prepare(layer, config->batch, time, mode,
				     config->threads);
	layer_count_work(layer, config->batch, time, mode,
			 threads_count(config->threads), work);
	return 0;
}

/* For all that will be asked of the layers, so that no step allocates. */
static int prepare_layers(const struct stage_config *config,
			  struct gemm_bfloat16_work *work)
{
	enum layer_mode mode = mode_of(config);
	size_t time = config->decoding ? config->prompt : config->time;
	int rc = 0;

	for (unsigned i = 0; !rc && i < layer_count(config); i++) {
		const struct layer *layer = layer_at(config, i);

		/* Its products are those counted already. */
		if (work && i > 0 &&
		    layer_is_alike(layer, layer_at(config, i - 1)))
			continue;
		rc = prepare_layer(config, layer, time, mode, work);
		/* Evaluation between steps uses the same stage. */
		if (!rc && config->training)
			rc = prepare_layer(config, layer, config->time,
					   LAYER_EVAL, work);
		if (!rc && config->decoding)
			rc = prepare_layer(config, layer, 1, mode, work);
	}
	return rc;
}

void stage_count_work(const struct stage_config *config,
		      struct gemm_bfloat16_work *work)
{
	(void)!prepare_layers(config, work); /* a count cannot fail */
}

int stage_prepare(struct stage *stage, size_t time)
{
	const struct stage_config *config = &stage->config;
	enum layer_mode mode = config->decoding ? LAYER_DECODE : LAYER_EVAL;
	int rc = 0;

	ASSERT(time <= config->time);
	for (unsigned i = 0; !rc && i < layer_count(config); i++)
		rc = prepare_layer(config, layer_at(config, i), time, mode,
				   NULL);
	return rc;
}

int stage_create(const struct stage_config *config, void *messages,
		 struct stage **out)
{
	struct stage *stage = calloc(1, sizeof(*stage));
	unsigned count = layer_count(config);
	int rc = -ENOMEM;

	if (!stage)
		return fail(-ENOMEM, "no memory for stage %u", config->index);
	stage->config = *config;
	stage->layer_count = count;
	stage->layers = calloc(count, sizeof(*stage->layers));
	stage->flights = calloc(config->micro_batches, sizeof(*stage->flights));
	stage->sample_ids = calloc(config->batch, sizeof(uint64_t));
	if (!stage->layers || !stage->flights || !stage->sample_ids) {
		fail(rc, "no memory for stage %u", config->index);
		goto err_destroy;
	}
	rc = prepare_layers(config, NULL);
	if (rc)
		goto err_destroy;
	measure(config, stage->layers, &stage->sizes, &stage->discard_bytes,
		&stage->discard_output_bytes);
	rc = arena_init(&stage->arena, "stage",
			stage->sizes.private_bytes +
				(6 + count) * CACHE_LINE_BYTES);
	if (rc)
		goto err_destroy;
	rc = create_slots(stage, messages);
	if (rc)
		goto err_destroy;
	stage->discard = arena_allocate(&stage->arena, stage->discard_bytes);
	stage->discard_output =
		arena_allocate(&stage->arena, stage->discard_output_bytes);
	for (unsigned i = 0; i < count; i++) {
		struct stage_layer *here = &stage->layers[i];
		unsigned id = here->layer->first_parameter;

		if (here->layer->parameter_count)
			here->row = (unsigned)config->store->row_of[id];
		here->cache =
			arena_allocate(&stage->arena, here->memory.cache_bytes);
	}
	arena_seal(&stage->arena);
	*out = stage;
	return 0;

err_destroy:
	stage_destroy(stage);
	return rc;
}

void stage_destroy(struct stage *stage)
{
	if (!stage)
		return;
	slots_fini(&stage->inputs);
	slots_fini(&stage->activations);
	slots_fini(&stage->output_gradients);
	slots_fini(&stage->pendings);
	arena_fini(&stage->arena);
	free(stage->layers);
	free(stage->flights);
	free(stage->sample_ids);
	free(stage);
}

void *stage_claim_input(struct stage *stage, unsigned micro_batch)
{
	struct stage_flight *flight = &stage->flights[micro_batch];

	ASSERT(!flight->input);
	flight->input = slots_claim(&stage->inputs);
	return flight->input;
}

void *stage_claim_output_gradient(struct stage *stage, unsigned micro_batch)
{
	struct stage_flight *flight = &stage->flights[micro_batch];

	ASSERT(!flight->output_gradient);
	flight->output_gradient = slots_claim(&stage->output_gradients);
	return flight->output_gradient;
}

static void release(struct slots *slots, void **slot)
{
	if (*slot)
		slots_release(slots, *slot);
	*slot = NULL;
}

static void fill_context(struct stage *stage, const struct stage_pass *pass,
			 unsigned micro_batch, struct micro_batch *columns,
			 struct layer_context *context)
{
	size_t tokens = pass->batch * pass->time;

	for (unsigned c = 0; c < COLUMN_COUNT; c++)
		columns->column[c] =
			pass->columns[c]
				? pass->columns[c] + micro_batch * tokens
				: NULL;
	for (size_t b = 0; b < pass->batch; b++)
		stage->sample_ids[b] =
			pass->first_sample + micro_batch * pass->batch + b;
	*context = (struct layer_context){
		.mode = pass->mode,
		.seed = pass->seed,
		.step = pass->step,
		.batch = pass->batch,
		.time = pass->time,
		.sample_ids = stage->sample_ids,
		.position_offset = pass->position_offset,
		.micro_batch = columns,
		.loss_scale = pass->loss_scale,
		.loss = &stage->flights[micro_batch].loss,
		.sample_losses = pass->sample_losses
					 ? pass->sample_losses +
						   micro_batch * pass->batch
					 : NULL,
		.threads = stage->config.threads,
		.scratch = stage->scratch,
		.collectives = pass->collectives,
		.breathe = pass->breathe_often,
		.breathe_argument = pass->argument,
	};
}

/* Between two layers: messages move, and the one just done is timed. */
static void breathe(const struct stage *stage, const struct stage_pass *pass,
		    unsigned i, enum layer_pass layer_pass, int64_t *since_ns)
{
	int64_t now;

	if (pass->breathe)
		pass->breathe(pass->argument);
	if (!pass->trace)
		return;
	now = clock_now_ns();
	trace_note_layer(pass->trace, stage->config.first_layer + i, layer_pass,
			 now - *since_ns);
	*since_ns = now;
}

static int64_t begin_layers(const struct stage_pass *pass)
{
	return pass->trace ? clock_now_ns() : 0;
}

static void *at(void *slot, size_t offset)
{
	return (unsigned char *)slot + offset;
}

static const void *input_of(const struct stage *stage,
			    const struct stage_flight *flight, unsigned i)
{
	return i ? at(flight->activation, stage->layers[i - 1].output)
		 : flight->input;
}

/* The layer's `saved` between I and W. */
static void *saved_of(const struct stage *stage,
		      const struct stage_flight *flight, unsigned i)
{
	const struct stage_layer *here = &stage->layers[i];

	if (!recomputed(&stage->config, here->layer))
		return at(flight->activation, here->saved);
	if (stage->config.split_backward)
		return at(flight->pending, here->saved);
	return stage->discard;
}

static void *const *weights_of(const struct stage *stage, unsigned i)
{
	return stage->config.store->weights + stage->layers[i].row;
}

static float *const *gradients_of(const struct stage *stage, unsigned i,
				  unsigned micro_batch)
{
	unsigned level =
		accumulation_level(&stage->config.accumulation, micro_batch);

	return stage->config.store->gradients[level] + stage->layers[i].row;
}

/* Sums over finished groups, for the parameters that F, or else W, adds to. */
static void merge_groups(struct stage *stage, unsigned i, unsigned micro_batch,
			 bool forward)
{
	const struct stage_config *config = &stage->config;
	const struct stage_layer *here = &stage->layers[i];

	if (!accumulation_merges(&config->accumulation, micro_batch))
		return;
	for (unsigned p = 0; p < here->layer->parameter_count; p++) {
		const struct store_row *row =
			&config->store->rows[here->row + p];

		if (row->parameter->trainable &&
		    row->parameter->accumulates_in_forward == forward)
			accumulator_merge(config->threads,
					  &config->accumulation, micro_batch,
					  row);
	}
}

void stage_forward(struct stage *stage, const struct stage_pass *pass,
		   unsigned micro_batch, void *output)
{
	struct stage_flight *flight = &stage->flights[micro_batch];
	bool training = pass->mode == LAYER_TRAIN;
	struct micro_batch columns;
	struct layer_context context;
	int64_t since_ns = begin_layers(pass);

	flight->activation = slots_claim(&stage->activations);
	flight->loss = 0;
	fill_context(stage, pass, micro_batch, &columns, &context);
	for (unsigned i = 0; i < stage->layer_count; i++) {
		struct stage_layer *here = &stage->layers[i];
		bool last = i + 1 == stage->layer_count;
		bool discard = recomputed(&stage->config, here->layer);
		bool adds = training && here->layer->loss;
		struct layer_buffers buffers = {
			.input = input_of(stage, flight, i),
			.output = last ? output
				       : at(flight->activation, here->output),
			.saved = discard ? stage->discard
					 : at(flight->activation, here->saved),
			.cache = here->cache,
		};

		if (adds && pass->await)
			pass->await(pass->reducer,
				    stage->config.first_layer + i);
		layer_forward(here->layer, weights_of(stage, i),
			      adds ? gradients_of(stage, i, micro_batch) : NULL,
			      &context, &buffers);
		if (adds)
			merge_groups(stage, i, micro_batch, true);
		breathe(stage, pass, i, LAYER_PASS_FORWARD, &since_ns);
	}
	if (!training) {
		release(&stage->activations, &flight->activation);
		release(&stage->inputs, &flight->input);
	}
}

static void gradient_buffers(struct stage *stage, struct stage_flight *flight,
			     unsigned i, void *input_gradient,
			     struct layer_buffers *out)
{
	const struct stage_layer *here = &stage->layers[i];
	bool last = i + 1 == stage->layer_count;

	*out = (struct layer_buffers){
		.input = input_of(stage, flight, i),
		.saved = saved_of(stage, flight, i),
		.pending = at(flight->pending, here->pending),
		.output_gradient = last ? flight->output_gradient
					: at(flight->pending,
					     stage->layers[i + 1].gradient),
		.input_gradient = i ? at(flight->pending, here->gradient)
				    : input_gradient,
	};
}

static void forward_again(struct stage *stage, unsigned i,
			  const struct layer_context *context,
			  const struct layer_buffers *buffers,
			  struct stage_flight *flight)
{
	const struct stage_layer *here = &stage->layers[i];
	struct layer_buffers again = *buffers;

	if (!recomputed(&stage->config, here->layer))
		return;
	again.output = i + 1 == stage->layer_count
			       ? stage->discard_output
			       : at(flight->activation, here->output);
	layer_forward(here->layer, weights_of(stage, i), NULL, context, &again);
}

static void layer_input_gradient(struct stage *stage,
				 struct stage_flight *flight, unsigned i,
				 const struct layer_context *context,
				 void *input_gradient)
{
	struct layer_buffers buffers;

	gradient_buffers(stage, flight, i, input_gradient, &buffers);
	forward_again(stage, i, context, &buffers, flight);
	layer_backward_input(stage->layers[i].layer, weights_of(stage, i),
			     context, &buffers);
}

/* Counts the Ws of a training pass, each once per micro-batch. */
static void count_weight_pass(struct stage *stage)
{
	if (stage->weight_passes == stage->config.micro_batches)
		stage->weight_passes = 0;
	stage->weight_passes++;
}

static void layer_weight_gradient(struct stage *stage,
				  const struct stage_pass *pass,
				  struct stage_flight *flight, unsigned i,
				  unsigned micro_batch,
				  const struct layer_context *context)
{
	struct layer_buffers buffers;

	gradient_buffers(stage, flight, i, NULL, &buffers);
	if (pass->await && stage->weight_passes == 1)
		pass->await(pass->reducer, stage->config.first_layer + i);
	layer_backward_weight(stage->layers[i].layer, weights_of(stage, i),
			      gradients_of(stage, i, micro_batch), context,
			      &buffers);
	merge_groups(stage, i, micro_batch, false);
	if (pass->ready && stage->weight_passes == stage->config.micro_batches)
		pass->ready(pass->reducer, stage->config.first_layer + i);
}

static void release_flight(struct stage *stage, struct stage_flight *flight)
{
	release(&stage->inputs, &flight->input);
	release(&stage->activations, &flight->activation);
	release(&stage->output_gradients, &flight->output_gradient);
	release(&stage->pendings, &flight->pending);
}

void stage_backward_input(struct stage *stage, const struct stage_pass *pass,
			  unsigned micro_batch, void *input_gradient)
{
	struct stage_flight *flight = &stage->flights[micro_batch];
	struct micro_batch columns;
	struct layer_context context;
	int64_t since_ns = begin_layers(pass);

	ASSERT(stage->config.split_backward);
	flight->pending = slots_claim(&stage->pendings);
	fill_context(stage, pass, micro_batch, &columns, &context);
	for (unsigned i = stage->layer_count; i-- > 0;) {
		layer_input_gradient(stage, flight, i, &context,
				     input_gradient);
		breathe(stage, pass, i, LAYER_PASS_INPUT, &since_ns);
	}
}

void stage_backward_weight(struct stage *stage, const struct stage_pass *pass,
			   unsigned micro_batch)
{
	struct stage_flight *flight = &stage->flights[micro_batch];
	struct micro_batch columns;
	struct layer_context context;
	int64_t since_ns = begin_layers(pass);

	count_weight_pass(stage);
	fill_context(stage, pass, micro_batch, &columns, &context);
	for (unsigned i = stage->layer_count; i-- > 0;) {
		layer_weight_gradient(stage, pass, flight, i, micro_batch,
				      &context);
		breathe(stage, pass, i, LAYER_PASS_WEIGHT, &since_ns);
	}
	release_flight(stage, flight);
}

void stage_backward(struct stage *stage, const struct stage_pass *pass,
		    unsigned micro_batch, void *input_gradient)
{
	struct stage_flight *flight = &stage->flights[micro_batch];
	struct micro_batch columns;
	struct layer_context context;
	int64_t since_ns = begin_layers(pass);

	count_weight_pass(stage);
	flight->pending = slots_claim(&stage->pendings);
	fill_context(stage, pass, micro_batch, &columns, &context);
	for (unsigned i = stage->layer_count; i-- > 0;) {
		layer_input_gradient(stage, flight, i, &context,
				     input_gradient);
		breathe(stage, pass, i, LAYER_PASS_INPUT, &since_ns);
		layer_weight_gradient(stage, pass, flight, i, micro_batch,
				      &context);
		breathe(stage, pass, i, LAYER_PASS_WEIGHT, &since_ns);
	}
	release_flight(stage, flight);
}

double stage_loss(const struct stage *stage, unsigned micro_batch)
{
	return stage->flights[micro_batch].loss;
}
