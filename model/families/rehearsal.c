/*
 * A model to rehearse with: stages that sleep for as long as the real ones
 * would compute, and hand on messages of the real size.
 *
 * Layer 0 is the source, which takes no time (it stands for the embedding,
 * whose input needs no gradient); every stage is REHEARSAL_PIECES layers that
 * share its time, since messages move between the layers of a real stage too.
 * The source and the last layer hold the two ends of a tied parameter, if one
 * is to be exchanged; the others of a stage have parameters as large as the
 * real ones all in all, for replicas to sum. Slices are all alike: the times are
 * those of one rank.
 */
#include "base/log.h"
#include "model/families/family.h"
#include <errno.h>
#include <stdio.h>

static void rehearsal_config_default(struct model_config *config)
{
	config->norm_epsilon = 1e-5;
	config->context = 1;
	config->width = 1;
	config->layers = 1;
	config->heads = 1;
	config->vocab_size = 1;
}

static int rehearsal_config_check(const struct model_config *config)
{
	const struct model_rehearsal *given = config->rehearsal;

	if (!given || given->stages == 0)
		return fail(-EINVAL,
			    "a rehearsal needs the times of its stages");
	if (given->message_bytes / sizeof(float) > UINT32_MAX ||
	    given->tied_bytes / sizeof(float) > UINT32_MAX)
		return fail(-EINVAL,
			    "a rehearsal's messages and tied parameter may "
			    "have 16 GB at most");
	for (unsigned s = 0; given->gradients && s < given->stages; s++)
		if (!(given->gradients[s] >= 0 && given->gradients[s] < 1e12))
			return fail(-EINVAL,
				    "a rehearsal's stage may have gradients of "
				    "1 TB at most, not %g bytes",
				    given->gradients[s]);
	return 0;
}

static unsigned rehearsal_layer_count(const struct model_config *config)
{
	return 1 + config->rehearsal->stages * REHEARSAL_PIECES;
}

/* What passes: a message at the end of a stage, next to nothing within. */
static struct edge rehearsal_edge(const struct model_config *config,
				  unsigned behind)
{
	bool message = behind > 0 && behind % REHEARSAL_PIECES == 0;
	size_t floats = config->rehearsal->message_bytes / sizeof(float);

	return (struct edge){
		.count = 1,
		.entry = {{.name = "message",
			   .type = ELEMENT_F32,
			   .per_token = message ? MAX(floats, 1) : 1,
			   .needs_gradient = true}},
	};
}

/* Whole rows of them, if they are more than a few. */
static size_t rehearsal_tied_floats(const struct model_rehearsal *given)
{
	size_t floats = given->tied_bytes / sizeof(float);

	return floats < 64 * SLEEP_ROW_FLOATS
		       ? floats
		       : floats - floats % SLEEP_ROW_FLOATS;
}

static void rehearsal_source(const struct model_config *config,
			     struct layer_description *out)
{
	snprintf(out->name, sizeof(out->name), "source");
	out->output = rehearsal_edge(config, 0);
	out->widths[0] = out->output.entry[0].per_token;
	out->value_count = 1;
	out->rows[0] = (struct graph_row){
		.ops = &sleep_source_ops,
		.output = 0,
		.name = "source",
		.vocab_size = MAX(rehearsal_tied_floats(config->rehearsal), 1),
	};
}

/* Floats of a piece's parameter: its part of what the stage has to sum. */
static size_t rehearsal_floats(const struct model_rehearsal *given,
			       unsigned stage, bool last)
{
	bool tied = stage + 1 == given->stages && given->tied_bytes > 0;
	double pieces = tied ? REHEARSAL_PIECES - 1 : REHEARSAL_PIECES;

	if (last && tied)
		return rehearsal_tied_floats(given);
	if (!given->gradients)
		return 1;
	return MAX((size_t)(given->gradients[stage] / pieces / sizeof(float)),
		   1);
}

static void rehearsal_piece(const struct model_config *config, unsigned index,
			    struct layer_description *out)
{
	const struct model_rehearsal *given = config->rehearsal;
	unsigned stage = (index - 1) / REHEARSAL_PIECES;
	unsigned piece = (index - 1) % REHEARSAL_PIECES;
	bool last = index + 1 == rehearsal_layer_count(config);
	bool tied = last && given->tied_bytes > 0;
	struct graph_row *row = &out->rows[0];

	snprintf(out->name, sizeof(out->name), "stage.%u.%u", stage, piece);
	snprintf(out->prefix, sizeof(out->prefix), "stage.%u.%u.", stage,
		 piece);
	out->input = rehearsal_edge(config, index - 1);
	out->widths[0] = out->input.entry[0].per_token;
	out->value_count = 1;
	if (!last) {
		out->output = rehearsal_edge(config, index);
		out->widths[1] = out->output.entry[0].per_token;
		out->value_count = 2;
	}
	*row = (struct graph_row){
		.ops = &sleep_ops,
		.input = {0},
		.output = last ? VALUE_NONE : 1,
		.name = "sleep",
		.vocab_size = rehearsal_floats(given, stage, last),
		.tied_to = tied ? "source.weight" : NULL,
	};
	for (unsigned pass = 0; pass < 3; pass++)
		row->seconds[pass] =
			given->seconds[pass][stage] / REHEARSAL_PIECES;
}

static void rehearsal_layer(const struct model_config *config,
			    const struct rope *rope, unsigned index,
			    struct layer_description *out)
{
	(void)rope;
	if (index == 0)
		rehearsal_source(config, out);
	else
		rehearsal_piece(config, index, out);
	out->row_count = 1;
}

/* It has no files. */
static bool rehearsal_tensor_is_ignored(const char *name)
{
	(void)name;
	return false;
}

const struct family_ops rehearsal_family_ops = {
	.name = "rehearsal",
	.optional_prefix = "rehearsal.",
	.config_default = rehearsal_config_default,
	.config_check = rehearsal_config_check,
	.layer_count = rehearsal_layer_count,
	.layer = rehearsal_layer,
	.tensor_is_ignored = rehearsal_tensor_is_ignored,
};
