/*
 * What a model's layers hold and send, as costs: names and bytes, no times.
 */
#include "base/arena.h"
#include "base/log.h"
#include "base/text.h"
#include "engine/costs.h"
#include "model/model.h"

#include <errno.h>
#include <stdlib.h>

static double piece(size_t bytes)
{
	return (double)arena_piece_bytes(bytes);
}

/*
 * As engine/stage.c lays a stage out, message slots included: a stage's bytes
 * are the sum of its layers'. A layer's input stays until W.
 */
void costs_describe_layer(const struct layer *layer, size_t batch, size_t time,
			  bool recompute, unsigned threads,
			  struct costs_row *out)
{
	struct layer_memory memory;
	bool again = recompute && layer->recomputable;

	layer_memory(layer, batch, time, LAYER_TRAIN, threads, &memory);
	/* A layer's name has room: both have 48 bytes. */
	(void)!text_copy(out->name, sizeof(out->name), layer->name);
	out->activation_bytes = piece(edge_bytes(&layer->input, batch, time));
	out->pending_bytes =
		piece(edge_gradient_bytes(&layer->output, batch, time)) +
		piece(memory.pending_bytes);
	*(again ? &out->pending_bytes : &out->activation_bytes) +=
		piece(memory.saved_bytes);
}

static double tied_bytes(const struct model *model)
{
	unsigned count;
	const struct parameter *all = model_parameters(model, &count);

	for (unsigned i = 0; i < count; i++)
		if (all[i].tied_to != PARAMETER_NOT_TIED && all[i].trainable)
			return (double)all[i].count * sizeof(float);
	return 0;
}

/* Every row of the table that is trained, tied ones at both ends. */
static void add_gradients(const struct model *model, struct costs *costs)
{
	unsigned count;
	const struct parameter *all = model_parameters(model, &count);

	for (unsigned i = 0; i < count; i++)
		if (all[i].trainable)
			costs->rows[all[i].layer].gradient_bytes +=
				(double)all[i].count * sizeof(float);
}

int costs_describe_model(const struct model *model, unsigned micro_batch_size,
			 unsigned context, bool recompute, unsigned threads,
			 struct costs *out)
{
	unsigned count = model_layer_count(model);
	unsigned slices = model_config(model)->slices;
	double message = 0;

	*out = (struct costs){
		.seconds = true,
		.kind = COSTS_LAYERS,
		.count = count,
		.micro_batch_size = micro_batch_size,
		.context = context,
		.threads = threads,
		.value_bytes =
			(unsigned)element_type_bytes(model_config(model)->type),
		.tied_bytes = tied_bytes(model),
		.slices = slices > 1 ? slices : 0,
	};
	out->rows = calloc(count, sizeof(*out->rows));
	if (!out->rows)
		return fail(-ENOMEM, "no memory for the costs of %u layers",
			    count);
	for (unsigned i = 0; i < count; i++) {
		const struct layer *layer = model_layer(model, i);

		costs_describe_layer(layer, micro_batch_size, context,
				     recompute, threads, &out->rows[i]);
		message = MAX(message,
			      (double)edge_bytes(&layer->input,
						 micro_batch_size, context));
	}
	add_gradients(model, out);
	out->message_bytes = message;
	return 0;
}
