#include "engine/costs_grid.h"
#include "base/log.h"
#include "model/model.h"

#include <errno.h>
#include <stdlib.h>

double costs_half_sum_bytes(unsigned ranks, double bytes)
{
	return ranks > 1 ? bytes * (ranks - 1) / ranks : 0;
}

double costs_half_sum_rounds(unsigned ranks)
{
	double rounds = 0;

	if (ranks & (ranks - 1))
		return 1;
	for (; ranks > 1; ranks /= 2)
		rounds++;
	return rounds;
}

/* ---- between replicas ---- */

struct adding {
	const struct costs *costs;
	const struct schedule *schedule;
	const struct partition *partition;
	const struct costs_replicas *replicas;
	struct schedule_costs *io;
	/* [stages], but for gather: [ranks] */
	double *bytes, *own, *lead, *tail, *gather;
};

double costs_gradients_of_stage(const struct costs *costs,
				const struct schedule *schedule,
				const struct partition *partition,
				unsigned stage)
{
	unsigned rank = schedule->rank_of_stage[stage], held = 0;
	double sum = 0;

	switch (costs->kind) {
	case COSTS_SLICE:
		return costs->rows[0].gradient_bytes / schedule->chunks;
	case COSTS_RANKS:
		for (unsigned s = 0; s < schedule->stages; s++)
			held += schedule->rank_of_stage[s] == rank;
		return costs->rows[rank].gradient_bytes / held;
	case COSTS_STAGES:
		return costs->rows[stage].gradient_bytes;
	case COSTS_LAYERS:
		for (unsigned i = partition->first[stage];
		     i < partition->first[stage + 1]; i++)
			sum += costs->rows[i].gradient_bytes;
		break;
	}
	return sum;
}

static double stage_gradients(const struct adding *a, unsigned stage)
{
	if (a->replicas->gradient_bytes)
		return a->replicas->gradient_bytes[stage];
	return costs_gradients_of_stage(a->costs, a->schedule, a->partition,
					stage);
}

/* What a rank sends to sum `bytes` of gradients, of which `tied` gather later. */
static double sum_bytes(const struct adding *a, double bytes, double tied)
{
	unsigned replicas = a->replicas->replicas;

	if (a->replicas->sharded)
		return costs_half_sum_bytes(replicas, bytes);
	return 2 * costs_half_sum_bytes(replicas, bytes) -
	       costs_half_sum_bytes(replicas, MIN(tied, bytes));
}

static double wire_time(const struct adding *a, double bytes)
{
	double bandwidth = a->io->replica_bandwidth;

	return bandwidth > 0 ? bytes / bandwidth : 0;
}

/* Does the stage's last W stand alone? Else it is a B, layer by layer. */
static bool ends_in_weight(const struct schedule *schedule, unsigned stage)
{
	const struct schedule_row *row =
		&schedule->rows[schedule->rank_of_stage[stage]];

	for (size_t i = row->count; i > 0; i--) {
		const struct action *action = &row->actions[i - 1];

		if (action->stage == stage &&
		    (action->op == ACTION_BACKWARD ||
		     action->op == ACTION_BACKWARD_WEIGHT))
			return action->op == ACTION_BACKWARD_WEIGHT;
	}
	return true;
}

/*
 * Layer by layer, the last one first: each is complete when its W is done, and
 * its bytes follow those of the one before. Times count from the end of the
 * stage's last W, so that they are negative before it.
 */
static void follow_layers(struct adding *a, unsigned stage, bool alone)
{
	const struct costs *costs = a->costs;
	unsigned first = a->partition->first[stage];
	unsigned end = a->partition->first[stage + 1];
	double now = 0, network = 0;
	bool begun = false;

	for (unsigned i = first; i < end; i++)
		now -= costs->rows[i].weight +
		       (alone ? 0 : costs->rows[i].input);
	for (unsigned i = end; i-- > first;) {
		const struct costs_row *row = &costs->rows[i];
		bool tied = i == 0 || i + 1 == costs->count;

		now += row->weight + (alone ? 0 : row->input);
		if (row->gradient_bytes <= 0)
			continue;
		if (!begun)
			a->lead[stage] = MAX(-now, 0);
		network = begun ? MAX(network, now) : now;
		network +=
			wire_time(a, sum_bytes(a, row->gradient_bytes,
					       tied ? costs->tied_bytes : 0));
		begun = true;
	}
	a->tail[stage] = MAX(network, 0);
}

static void follow_share(struct adding *a, unsigned stage, bool alone)
{
	double early = a->costs->replica_early;
	double last = a->io->weight[stage] + (alone ? 0 : a->io->input[stage]);

	a->lead[stage] = early * last;
	a->tail[stage] = (1 - early) * wire_time(a, a->bytes[stage]);
}

static void add_stage(struct adding *a, unsigned stage)
{
	const struct costs *costs = a->costs;
	bool end = stage == 0 || stage + 1 == a->schedule->stages;
	bool alone = ends_in_weight(a->schedule, stage);
	double gradients = stage_gradients(a, stage);

	a->bytes[stage] = sum_bytes(a, gradients, end ? costs->tied_bytes : 0);
	a->own[stage] = costs->add *
			costs_half_sum_bytes(a->replicas->replicas, gradients);
	if (costs->kind == COSTS_LAYERS)
		follow_layers(a, stage, alone);
	else
		follow_share(a, stage, alone);
	a->tail[stage] += a->io->reduce_rounds * a->io->replica_latency;
	if (a->replicas->sharded)
		a->gather[a->schedule->rank_of_stage[stage]] +=
			costs_half_sum_bytes(a->replicas->replicas, gradients);
}

static void add_ends(struct adding *a)
{
	const unsigned *rank_of = a->schedule->rank_of_stage;
	unsigned last = a->schedule->stages - 1;
	double tied = costs_half_sum_bytes(a->replicas->replicas,
					   a->costs->tied_bytes);

	if (!a->replicas->sharded)
		a->io->tied_gather_bytes = tied;
	else if (rank_of[0] == rank_of[last])
		a->gather[rank_of[0]] -= MIN(tied, a->gather[rank_of[0]]);
}

int costs_add_replicas(const struct costs *costs,
		       const struct schedule *lowered,
		       const struct partition *partition,
		       const struct costs_replicas *replicas,
		       struct schedule_costs *io, double **storage)
{
	size_t stages = lowered->stages;
	double rounds = costs_half_sum_rounds(replicas->replicas);
	double *values;
	struct adding a = {
		.costs = costs,
		.schedule = lowered,
		.partition = partition,
		.replicas = replicas,
		.io = io,
	};

	*storage = NULL;
	if (replicas->replicas <= 1)
		return 0;
	values = calloc(4 * stages + lowered->ranks, sizeof(*values));
	if (!values)
		return fail(-ENOMEM, "no memory for the costs of replicas");
	a.bytes = values;
	a.own = values + stages;
	a.lead = values + 2 * stages;
	a.tail = values + 3 * stages;
	a.gather = values + 4 * stages;
	io->reduce_bytes = a.bytes;
	io->stage_reduce = a.own;
	io->reduce_lead = a.lead;
	io->reduce_tail = a.tail;
	io->gather_bytes = a.gather;
	io->reduce_rounds = replicas->sharded ? rounds : 2 * rounds;
	io->gather_rounds = rounds;
	io->replica_latency = costs->replica_latency > 0
				      ? costs->replica_latency
				      : costs->latency;
	io->replica_bandwidth = costs->replica_bandwidth > 0
					? costs->replica_bandwidth
					: costs->bandwidth;
	for (unsigned s = 0; s < stages; s++)
		add_stage(&a, s);
	add_ends(&a);
	*storage = values;
	return 0;
}

/* ---- within a tensor group ---- */

void costs_tensor_of_layer(const struct layer *layer, unsigned slices,
			   size_t batch, size_t time, bool recompute,
			   struct costs_tensor *out)
{
	struct layer_exchanges all;

	*out = (struct costs_tensor){0};
	if (slices <= 1)
		return;
	layer_exchanges(layer, batch, time, LAYER_TRAIN, &all);
	out->forward_sums = all.forward.calls;
	out->input_sums = all.backward_input.calls;
	out->forward_bytes = 2 * costs_half_sum_bytes(slices, sizeof(float)) *
			     (double)all.forward.floats;
	out->input_bytes = 2 * costs_half_sum_bytes(slices, sizeof(float)) *
			   (double)all.backward_input.floats;
	if (recompute && layer->recomputable) {
		out->input_bytes += out->forward_bytes;
		out->input_sums += out->forward_sums;
	}
}

static double tensor_time(const struct costs *costs, unsigned slices,
			  double bytes, size_t sums)
{
	double bandwidth = costs->tensor_bandwidth > 0 ? costs->tensor_bandwidth
						       : costs->bandwidth;
	double latency = costs->tensor_latency > 0 ? costs->tensor_latency
						   : costs->latency;

	/* Two send each other all they have; more scatter, then gather. */
	return (bandwidth > 0 ? bytes / bandwidth : 0) +
	       (double)sums * (slices > 2 ? 2 : 1) * latency +
	       costs->add * bytes / 2;
}

void costs_add_tensor(const struct model *model, unsigned slices, size_t batch,
		      size_t time, bool recompute, struct costs *io)
{
	ASSERT(io->kind == COSTS_LAYERS &&
	       io->count == model_layer_count(model));
	for (unsigned i = 0; slices > 1 && i < io->count; i++) {
		struct costs_tensor sums;

		costs_tensor_of_layer(model_layer(model, i), slices, batch,
				      time, recompute, &sums);
		io->rows[i].forward += tensor_time(
			io, slices, sums.forward_bytes, sums.forward_sums);
		io->rows[i].input += tensor_time(io, slices, sums.input_bytes,
						 sums.input_sums);
	}
}
