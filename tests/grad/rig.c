#include "tests/grad/rig.h"
#include "base/random.h"
#include "model/kernels/gemm.h"
#include "model/kernels/values.h"
#include <stdlib.h>
#include <string.h>

void *rig_allocate(size_t bytes)
{
	size_t rounded = MAX((bytes + 63) / 64 * 64, 64);
	void *memory = aligned_alloc(64, rounded);

	ASSERT(memory);
	memset(memory, 0xff, rounded);
	return memory;
}

void rig_random(uint64_t seed, const char *name, size_t count, float mean,
		float deviation, float *out)
{
	random_normal(random_key_named(seed, name), 0, count, mean, deviation,
		      out);
}

double *rig_doubles(const float *values, size_t count)
{
	double *out = malloc((count ? count : 1) * sizeof(*out));

	ASSERT(out);
	for (size_t i = 0; i < count; i++)
		out[i] = (double)values[i];
	return out;
}

size_t rig_parameter_count(const struct rig *rig, unsigned parameter)
{
	return rig->parameters[parameter].count;
}

void rig_zero_gradients(struct rig *rig)
{
	for (unsigned p = 0; p < rig->layer->parameter_count; p++)
		memset(rig->gradients[p], 0,
		       rig_parameter_count(rig, p) * sizeof(float));
}

/* To what bfloat16 holds of them. */
static void rig_round(size_t count, float *values)
{
	for (size_t i = 0; i < count; i++)
		values[i] = float_from_bfloat16(bfloat16_from_float(values[i]));
}

static void rig_init_parameters(struct rig *rig, uint64_t seed)
{
	ASSERT(rig->layer->parameter_count <= RIG_PARAMETERS_MAX);
	for (unsigned p = 0; p < rig->layer->parameter_count; p++) {
		const struct parameter *row = &rig->parameters[p];
		size_t bytes = row->count * sizeof(float);
		float mean = row->initialiser == INITIALISE_ONES ? 1.0f : 0.0f;

		rig->weights[p] = rig_allocate(bytes);
		rig->layer_weights[p] =
			row->compute_type == ELEMENT_BF16
				? rig_allocate(row->count * sizeof(bfloat16))
				: rig->weights[p];
		rig->gradients[p] = rig_allocate(bytes);
		rig_random(seed, row->name, row->count, mean, 0.2f,
			   rig->weights[p]);
		if (row->compute_type == ELEMENT_BF16)
			rig_round(row->count, rig->weights[p]);
	}
	rig_zero_gradients(rig);
}

/* Every fifth label is unsupervised. */
static void rig_init_columns(struct rig *rig, const struct rig_size *size)
{
	struct random_key key = random_key_named(size->seed, "rig-columns");
	size_t tokens = size->batch * size->time;

	rig->tokens = rig_allocate(tokens * sizeof(int32_t));
	rig->labels = rig_allocate(tokens * sizeof(int32_t));
	rig->sample_ids = rig_allocate(size->batch * sizeof(uint64_t));
	for (size_t i = 0; i < tokens; i++) {
		rig->tokens[i] =
			(int32_t)random_below(key, 2 * i, size->vocab_size);
		rig->labels[i] =
			i % 5 == 3 ? -100
				   : (int32_t)random_below(key, 2 * i + 1,
							   size->vocab_size);
	}
	for (size_t b = 0; b < size->batch; b++)
		rig->sample_ids[b] = 1000 + 7 * b;
	rig->micro_batch.column[COLUMN_TOKENS] = rig->tokens;
	rig->micro_batch.column[COLUMN_LABELS] = rig->labels;
}

static void rig_init_edges(struct rig *rig, const struct rig_size *size)
{
	const struct layer *layer = rig->layer;
	size_t tokens = size->batch * size->time, in, out;

	if (layer->input.count > 0)
		rig->input_count = tokens * layer->input.entry[0].per_token;
	if (layer->output.count > 0)
		rig->output_count = tokens * layer->output.entry[0].per_token;
	if (size->mode == LAYER_DECODE && layer->loss)
		rig->output_count = size->batch * layer->vocab_size;
	in = rig->input_count * sizeof(float);
	out = rig->output_count * sizeof(float);
	rig->input = rig_allocate(in);
	rig->input_gradient = rig_allocate(in);
	rig->output = rig_allocate(out);
	rig->output_gradient = rig_allocate(out);
	rig_random(size->seed, "rig-input", rig->input_count, 0.1f, 1.0f,
		   rig->input);
	rig_random(size->seed, "rig-output-gradient", rig->output_count, 0.0f,
		   1.0f, rig->output_gradient);
	if (rig->type != ELEMENT_BF16)
		return;
	rig_round(rig->input_count, rig->input);
	rig_round(rig->output_count, rig->output_gradient);
	rig->layer_input = rig_allocate(in);
	rig->layer_input_gradient = rig_allocate(in);
	rig->layer_output = rig_allocate(out);
	rig->layer_output_gradient = rig_allocate(out);
}

void rig_init(struct rig *rig, const struct layer *layer,
	      const struct parameter *parameters, const struct rig_size *size)
{
	int error;

	memset(rig, 0, sizeof(*rig));
	rig->layer = layer;
	rig->type = layer->input.count > 0 ? layer->input.entry[0].type
					   : layer->output.entry[0].type;
	rig->parameters = parameters + layer->first_parameter;
	error = threads_create(size->threads, NULL, &rig->threads);
	ASSERT(!error);
	error = gemm_prepare(rig->threads);
	ASSERT(!error);
	rig_init_parameters(rig, size->seed);
	rig_init_columns(rig, size);
	rig_init_edges(rig, size);
	error = layer_prepare(layer, size->batch, size->time, size->mode,
			      rig->threads);
	ASSERT(!error);
	layer_memory(layer, size->batch, size->time, size->mode, size->threads,
		     &rig->memory);
	rig->buffers = (struct layer_buffers){
		.input = rig->input,
		.output = rig->output,
		.saved = rig_allocate(rig->memory.saved_bytes),
		.pending = rig_allocate(rig->memory.pending_bytes),
		.cache = rig_allocate(rig->memory.cache_bytes),
		.output_gradient = rig->output_gradient,
		.input_gradient = rig->input_gradient,
	};
	rig->context = (struct layer_context){
		.mode = size->mode,
		.seed = size->seed,
		.step = 3,
		.batch = size->batch,
		.time = size->time,
		.sample_ids = rig->sample_ids,
		.micro_batch = &rig->micro_batch,
		.loss_scale = 1.0 / (double)(size->batch * size->time),
		.loss = &rig->loss,
		.threads = rig->threads,
		.scratch = rig_allocate(rig->memory.scratch_bytes),
	};
}

void rig_fini(struct rig *rig)
{
	for (unsigned p = 0; p < rig->layer->parameter_count; p++) {
		if (rig->layer_weights[p] != rig->weights[p])
			free(rig->layer_weights[p]);
		free(rig->weights[p]);
		free(rig->gradients[p]);
	}
	free(rig->tokens);
	free(rig->labels);
	free(rig->sample_ids);
	free(rig->input);
	free(rig->input_gradient);
	free(rig->output);
	free(rig->output_gradient);
	free(rig->layer_input);
	free(rig->layer_input_gradient);
	free(rig->layer_output);
	free(rig->layer_output_gradient);
	free(rig->buffers.saved);
	free(rig->buffers.pending);
	free(rig->buffers.cache);
	free(rig->context.scratch);
	threads_destroy(rig->threads);
}

/* Scratch means nothing between calls: fill it so that relying on it fails. */
static void rig_spoil_scratch(struct rig *rig)
{
	memset(rig->context.scratch, 0xff, rig->memory.scratch_bytes);
}

/* Logits are floats always. */
static bool rig_writes_floats(const struct rig *rig)
{
	return rig->type != ELEMENT_BF16 ||
	       (rig->layer->loss && rig->context.mode == LAYER_DECODE);
}

/* The buffers as the layer wants them. */
static struct layer_buffers rig_begin(struct rig *rig)
{
	struct layer_buffers buffers = rig->buffers;

	rig_spoil_scratch(rig);
	if (rig->type != ELEMENT_BF16)
		return buffers;
	for (unsigned p = 0; p < rig->layer->parameter_count; p++)
		if (rig->layer_weights[p] != rig->weights[p])
			values_row_round(rig_parameter_count(rig, p),
					 rig->weights[p],
					 rig->layer_weights[p]);
	values_row_round(rig->input_count, buffers.input, rig->layer_input);
	values_row_round(rig->output_count, buffers.output_gradient,
			 rig->layer_output_gradient);
	buffers.input = rig->layer_input;
	buffers.input_gradient = rig->layer_input_gradient;
	buffers.output_gradient = rig->layer_output_gradient;
	if (!rig_writes_floats(rig))
		buffers.output = rig->layer_output;
	return buffers;
}

void rig_forward(struct rig *rig)
{
	struct layer_buffers buffers = rig_begin(rig);

	layer_forward(rig->layer, rig->layer_weights,
		      rig->context.mode == LAYER_TRAIN ? rig->gradients : NULL,
		      &rig->context, &buffers);
	if (!rig_writes_floats(rig))
		values_row_widen(rig->output_count, rig->layer_output,
				 rig->output);
}

void rig_backward_input(struct rig *rig)
{
	struct layer_buffers buffers = rig_begin(rig);

	layer_backward_input(rig->layer, rig->layer_weights, &rig->context,
			     &buffers);
	if (rig->type == ELEMENT_BF16)
		values_row_widen(rig->input_count, rig->layer_input_gradient,
				 rig->input_gradient);
}

void rig_backward_weight(struct rig *rig)
{
	struct layer_buffers buffers = rig_begin(rig);

	layer_backward_weight(rig->layer, rig->layer_weights, rig->gradients,
			      &rig->context, &buffers);
}

static uint64_t digest_mix(uint64_t digest, const void *data, size_t bytes)
{
	uint64_t pair[2] = {digest, digest_hash64(data, bytes)};

	return digest_hash64(pair, sizeof(pair));
}

uint64_t rig_gradients_digest(const struct rig *rig)
{
	uint64_t digest = 0;

	for (unsigned p = 0; p < rig->layer->parameter_count; p++)
		if (rig->gradients[p])
			digest = digest_mix(digest, rig->gradients[p],
					    rig_parameter_count(rig, p) *
						    sizeof(float));
	return digest;
}

uint64_t rig_results_digest(const struct rig *rig)
{
	uint64_t digest = rig_gradients_digest(rig);

	digest = digest_mix(digest, rig->output,
			    rig->output_count * sizeof(float));
	digest = digest_mix(digest, rig->input_gradient,
			    rig->input_count * sizeof(float));
	return digest_mix(digest, &rig->loss, sizeof(rig->loss));
}

uint64_t rig_saved_digest(const struct rig *rig)
{
	return digest_mix(0, rig->buffers.saved, rig->memory.saved_bytes);
}
