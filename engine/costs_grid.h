/*
 * What the grid (engine/grid.h) adds to costs: sums of gradients between
 * replicas, and sums within a tensor group.
 *
 * Half a sum leaves each of n ranks with the sum of 1/n of the values (it
 * scatters), or spreads those again (it gathers). A rank sends (n - 1) / n of
 * the bytes in either half. By recursive halving and doubling that are log2 n
 * messages one after another; where n is no power of two, or within a tensor
 * group, all send at once.
 */
#ifndef STAGECOACH_ENGINE_COSTS_GRID_H
#define STAGECOACH_ENGINE_COSTS_GRID_H

#include "engine/costs.h"

double costs_half_sum_bytes(unsigned ranks, double bytes);
double costs_half_sum_rounds(unsigned ranks);

struct costs_replicas {
	unsigned replicas; /* D */
	bool sharded;      /* the optimizer's state */
	/* [stages] of whole stages; NULL: as the costs' rows say. */
	const double *gradient_bytes;
};

/*
 * What D replicas add to costs that costs_of_stages() made for the same lowered
 * schedule and partition: with D = 1 nothing. Unsharded, a sum scatters and
 * gathers before the vote, but what is tied (costs->tied_bytes, on the first
 * and the last stage) gathers after the tie. Sharded, it scatters, and the weights
 * are gathered after the step. The layers of a stage are summed as their
 * gradients are complete, where the costs are of layers; else
 * costs->replica_early says it. *storage holds the arrays and is the caller's
 * to free (NULL is possible). -ENOMEM, logged.
 */
int costs_add_replicas(const struct costs *costs,
		       const struct schedule *lowered,
		       const struct partition *partition,
		       const struct costs_replicas *replicas,
		       struct schedule_costs *io, double **storage) MUST_CHECK;

/* Bytes of gradients of a stage that replicas sum, as the costs' rows say. */
double costs_gradients_of_stage(const struct costs *costs,
				const struct schedule *schedule,
				const struct partition *partition,
				unsigned stage);

/*
 * What one slice of T sends within its group for one micro-batch, and in how many
 * exchanges: F and I of a slice's layer (layer_exchanges()). Recomputing makes F's
 * once more in I.
 */
struct costs_tensor {
	double forward_bytes;
	double input_bytes;
	size_t forward_sums;
	size_t input_sums;
};
struct layer;
struct model;
void costs_tensor_of_layer(const struct layer *layer, unsigned slices,
			   size_t batch, size_t time, bool recompute,
			   struct costs_tensor *out);

/*
 * Adds the time of all those to costs of the layers of `model`, a slice: by
 * tensor_bandwidth, tensor_latency and add.
 */
void costs_add_tensor(const struct model *model, unsigned slices, size_t batch,
		      size_t time, bool recompute, struct costs *io);

#endif
