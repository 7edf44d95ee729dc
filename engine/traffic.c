#include "engine/traffic.h"
#include "engine/collective.h"
#include "engine/pipeline.h"
#include "engine/reduction.h"
#include "engine/vote.h"

struct counting {
	struct pipeline *pipeline;
	struct traffic *traffic;
};

static void count_message(void *argument, unsigned to,
			  const struct message *message)
{
	const struct counting *counting = argument;
	const struct pipeline *p = counting->pipeline;
	struct traffic *traffic = counting->traffic;
	unsigned position = grid_place(&p->grid, to).position;

	switch (message->kind) {
	case MESSAGE_FORWARD:
	case MESSAGE_BACKWARD:
		traffic->stages += pipeline_edge_bytes(p, message);
		break;
	case MESSAGE_TIED:
		traffic->stages +=
			p->tie_plan.by_rows &&
					pipeline_holds(p, p->tie.first_stage)
				? tie_row_bytes(&p->tie_plan,
						message->micro_batch)
				: p->tie_runs[message->micro_batch].count *
					  sizeof(float);
		break;
	case MESSAGE_REDUCE:
		traffic->replicas += message->bytes;
		break;
	case MESSAGE_BATCH:
		traffic->control += pipeline_batch_bytes(p, position);
		break;
	case MESSAGE_VOTE:
		traffic->control += vote_bytes(p, p->world->rank);
		break;
	case MESSAGE_VERDICT:
		traffic->control += sizeof(struct verdict);
		break;
	default: /* evaluation, generation, checkpoints */
		break;
	}
}

/*
 * Long calls of a layer are equally long; what else there is are the loss's few
 * floats for each chunk of tokens, which go to everybody.
 */
static uint64_t count_exchange(const struct pipeline *p,
			       const struct layer_exchange *exchange)
{
	size_t largest = exchange->largest;
	size_t calls = largest ? exchange->floats / largest : 0;
	size_t rest = exchange->floats - calls * largest;

	return calls * collective_sum_bytes(p->grid.slices, p->place.slice,
					    largest) +
	       (p->grid.slices - 1) * rest * sizeof(float);
}

/* What the layers of one stage sum over a group for one micro-batch. */
static uint64_t count_sums(const struct pipeline *p, unsigned stage)
{
	const struct job *job = p->job;
	uint64_t bytes = 0;

	for (unsigned i = p->partition->first[stage];
	     i < p->partition->first[stage + 1]; i++) {
		const struct layer *layer = model_layer(p->model, i);
		struct layer_exchanges sums;
		bool again = job->recompute && layer->recomputable;

		layer_exchanges(layer, job->micro_batch_size, job->context,
				LAYER_TRAIN, &sums);
		bytes += (again ? 2 : 1) * count_exchange(p, &sums.forward);
		bytes += count_exchange(p, &sums.backward_input);
	}
	return bytes;
}

/* The first slice hands on what the root says; all tell each other votes. */
static uint64_t count_within_group(const struct pipeline *p)
{
	uint64_t bytes = vote_bytes(p, p->world->rank);

	if (p->place.slice == 0) {
		bytes += sizeof(struct verdict);
		if (p->needs_batch[p->place.position])
			bytes += pipeline_batch_bytes(p, p->place.position);
	}
	return (p->grid.slices - 1) * bytes;
}

void traffic_count(struct pipeline *p, struct traffic *out)
{
	struct counting counting = {.pipeline = p, .traffic = out};
	struct route_config config;

	*out = (struct traffic){0};
	pipeline_route_config(p, true, &config);
	route_emit(&config, p->world->rank, count_message, &counting);
	if (p->grid.slices == 1)
		return;
	for (unsigned s = 0; s < p->partition->stages; s++)
		if (pipeline_holds(p, s))
			out->slices += p->share * count_sums(p, s);
	out->control += count_within_group(p);
}

uint64_t traffic_total(const struct traffic *traffic)
{
	return traffic->stages + traffic->replicas + traffic->slices +
	       traffic->control;
}
