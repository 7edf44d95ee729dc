#include "engine/vote.h"
#include "base/clock.h"
#include "base/log.h"
#include "engine/collective.h"
#include "engine/pipeline.h"
#include "engine/reducer.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

/* What a rank sends: this, then a double for each parameter it answers for. */
struct ballot {
	double loss;
	double waiting;
	uint32_t stop;
	uint32_t squares;
	double square[];
};

struct vote {
	struct ballot **ballots; /* [ranks]; on other ranks only one's own */
	unsigned char *group;    /* [slices] ballots; NULL: whole layers */
	double *losses;          /* [replicas] */
	struct verdict *verdict;
	bool busy;          /* this rank's ballot is on its way */
	bool *verdict_busy; /* [ranks], root */
};

/* Does this parameter's gradient count in the norm? A tied one once. */
static bool counts(const struct parameter *parameter)
{
	return parameter->trainable && parameter->tied_to == PARAMETER_NOT_TIED;
}

/* After the reduction all replicas have the same gradient: the first tells. */
static unsigned rank_of_layer(const struct pipeline *pipeline, unsigned layer)
{
	unsigned stage = partition_stage_of(pipeline->partition, layer);
	unsigned position = pipeline->train_schedule->rank_of_stage[stage];

	return grid_rank(&pipeline->grid, 0, position, 0);
}

/* In a rank's ballot; those of a tensor group have as many. */
static unsigned count_squares(const struct pipeline *pipeline, unsigned rank)
{
	unsigned count, squares = 0;
	const struct parameter *all = model_parameters(pipeline->model, &count);

	rank -= grid_place(&pipeline->grid, rank).slice;
	for (unsigned i = 0; i < count; i++)
		squares += counts(&all[i]) &&
			   rank_of_layer(pipeline, all[i].layer) == rank;
	return squares;
}

/* Only the first slice of a tensor group votes, for all of them. */
static bool votes(const struct pipeline *pipeline, unsigned rank)
{
	return grid_place(&pipeline->grid, rank).slice == 0;
}

/* Ranks from which the root gets a ballot. */
static bool is_heard(const struct pipeline *pipeline, unsigned rank)
{
	return rank != ROUTE_ROOT && votes(pipeline, rank);
}

size_t vote_bytes(const struct pipeline *pipeline, unsigned rank)
{
	return sizeof(struct ballot) +
	       count_squares(pipeline, rank) * sizeof(double);
}

size_t vote_region_bytes(const struct pipeline *pipeline)
{
	size_t bytes = arena_piece_bytes(sizeof(struct verdict));
	unsigned me = pipeline->world->rank;

	for (unsigned r = 0; r < pipeline->world->size; r++)
		if (r == me || (me == ROUTE_ROOT && votes(pipeline, r)))
			bytes += arena_piece_bytes(vote_bytes(pipeline, r));
	return bytes;
}

int vote_create(struct pipeline *pipeline, void *memory, struct vote **out)
{
	struct vote *vote = calloc(1, sizeof(*vote));
	unsigned char *at = memory;
	unsigned me = pipeline->world->rank;

	if (!vote)
		return fail(-ENOMEM, "no memory for the vote");
	vote->ballots = calloc(pipeline->world->size, sizeof(*vote->ballots));
	vote->losses = calloc(pipeline->grid.replicas, sizeof(double));
	vote->verdict_busy =
		calloc(pipeline->world->size, sizeof(*vote->verdict_busy));
	if (pipeline->grid.slices > 1)
		vote->group =
			calloc(pipeline->grid.slices, vote_bytes(pipeline, me));
	if (!vote->ballots || !vote->losses || !vote->verdict_busy ||
	    (pipeline->grid.slices > 1 && !vote->group)) {
		vote_destroy(vote);
		return fail(-ENOMEM, "no memory for the vote");
	}
	vote->verdict = (struct verdict *)at;
	at += arena_piece_bytes(sizeof(struct verdict));
	for (unsigned r = 0; r < pipeline->world->size; r++) {
		if (r != me && (me != ROUTE_ROOT || !votes(pipeline, r)))
			continue;
		vote->ballots[r] = (struct ballot *)at;
		at += arena_piece_bytes(vote_bytes(pipeline, r));
	}
	*out = vote;
	return 0;
}

void vote_destroy(struct vote *vote)
{
	if (!vote)
		return;
	free(vote->ballots);
	free(vote->group);
	free(vote->losses);
	free(vote->verdict_busy);
	free(vote);
}

static int fill_ballot(struct pipeline *pipeline, struct ballot *ballot,
		       double loss)
{
	unsigned me = pipeline->world->rank;
	double elapsed =
		clock_seconds(clock_now_ns() - pipeline->pass_begin_ns);
	double waited = clock_seconds(exchange_waited_ns(pipeline->exchange));

	ballot->loss = loss;
	ballot->waiting = elapsed > 0 ? waited / elapsed : 0;
	ballot->stop = world_stop_requested(pipeline->world);
	/* The first replica tells what all have found. */
	ballot->squares = count_squares(pipeline, me);
	return reducer_squares(pipeline->reducer, ballot->square);
}

static const struct ballot *group_ballot(const struct pipeline *pipeline,
					 unsigned slice)
{
	return (const struct ballot *)(pipeline->vote->group +
				       slice * vote_bytes(
						       pipeline,
						       pipeline->world->rank));
}

/* Of a divided parameter the slices' squares, ascending; else it is one. */
static void add_slices(const struct pipeline *pipeline, struct ballot *ballot)
{
	const struct store *store = pipeline->store;
	unsigned square = 0;

	for (unsigned s = 1; s < pipeline->grid.slices; s++)
		ballot->stop |= group_ballot(pipeline, s)->stop;
	if (!ballot->squares)
		return;
	for (unsigned i = 0; i < store->count; i++) {
		const struct parameter *parameter = store->rows[i].parameter;

		if (!counts(parameter))
			continue;
		for (unsigned s = 1; s < parameter->slices; s++)
			ballot->square[square] +=
				group_ballot(pipeline, s)->square[square];
		square++;
	}
}

/* The first slice speaks for all of its group. */
static int confer(struct pipeline *pipeline)
{
	unsigned me = pipeline->world->rank;
	struct ballot *ballot = pipeline->vote->ballots[me];
	int rc;

	if (!pipeline->collective)
		return 0;
	rc = collective_all_gather(pipeline->collective, ballot,
				   vote_bytes(pipeline, me),
				   pipeline->vote->group);
	if (!rc && pipeline->place.slice == 0)
		add_slices(pipeline, ballot);
	return rc;
}

/* The squares of all ranks, in global parameter order. */
static double add_squares(const struct pipeline *pipeline, int32_t *bad)
{
	unsigned count;
	const struct parameter *all = model_parameters(pipeline->model, &count);
	double sum = 0;

	for (unsigned r = 0; r < pipeline->world->size; r++)
		if (votes(pipeline, r)) /* read again below */
			pipeline->vote->ballots[r]->squares = 0;
	for (unsigned i = 0; i < count; i++) {
		struct ballot *ballot;
		double square;

		if (!counts(&all[i]))
			continue;
		ballot = pipeline->vote->ballots[rank_of_layer(pipeline,
							       all[i].layer)];
		square = ballot->square[ballot->squares++];
		if (!isfinite(square) && *bad < 0)
			*bad = (int32_t)i;
		sum += square;
	}
	return sum;
}

/*
 * The losses of the replicas, as their gradients are summed: a power of two of
 * them as an aligned binary tree, which goes on with that of their gradient
 * groups; others one after the other.
 */
static double add_losses(const struct pipeline *pipeline)
{
	const struct vote *vote = pipeline->vote;
	unsigned replicas = pipeline->grid.replicas;
	bool tree = (replicas & (replicas - 1)) == 0;
	double *losses = vote->losses;

	for (unsigned d = 0; d < replicas; d++)
		losses[d] = 0;
	for (unsigned r = 0; r < pipeline->world->size; r++)
		if (votes(pipeline, r)) /* all but the loss rank's are 0 */
			losses[grid_place(&pipeline->grid, r).replica] +=
				vote->ballots[r]->loss;
	for (unsigned d = 1; !tree && d < replicas; d++)
		losses[0] += losses[d];
	for (unsigned half = 1; tree && half < replicas; half *= 2)
		for (unsigned d = 0; d < replicas; d += 2 * half)
			losses[d] += losses[d + half];
	return losses[0];
}

static void judge(const struct pipeline *pipeline, struct verdict *verdict)
{
	const struct vote *vote = pipeline->vote;
	double clip = pipeline->job->optimizer.clip;
	unsigned voters = pipeline->grid.replicas * pipeline->grid.positions;

	*verdict = (struct verdict){.bad_parameter = -1, .gradient_scale = 1};
	for (unsigned r = 0; r < pipeline->world->size; r++) {
		if (!votes(pipeline, r))
			continue;
		verdict->waiting += vote->ballots[r]->waiting / voters;
		verdict->stop |= vote->ballots[r]->stop;
	}
	verdict->loss =
		add_losses(pipeline) / (double)pipeline->batch->supervised;
	verdict->gradient_norm =
		sqrt(add_squares(pipeline, &verdict->bad_parameter));
	verdict->commit =
		isfinite(verdict->loss) && isfinite(verdict->gradient_norm);
	/* As torch.nn.utils.clip_grad_norm_. */
	if (clip > 0 && verdict->gradient_norm > clip)
		verdict->gradient_scale =
			clip / (verdict->gradient_norm + 1e-6);
}

static int collect(struct pipeline *pipeline)
{
	struct vote *vote = pipeline->vote;

	for (unsigned r = 0; r < pipeline->world->size; r++) {
		struct message *message;
		int rc;

		if (!is_heard(pipeline, r))
			continue;
		message = route_find(pipeline->train_route, r, MESSAGE_VOTE);
		rc = exchange_await(pipeline->exchange, message);
		if (!rc)
			rc = exchange_take(pipeline->exchange, message);
		/* The verdict of the last step has long left. */
		if (!rc)
			rc = exchange_await_sent(pipeline->exchange,
						 &vote->verdict_busy[r]);
		if (rc)
			return rc;
	}
	return 0;
}

static int tell(struct pipeline *pipeline)
{
	struct vote *vote = pipeline->vote;

	for (unsigned r = 0; r < pipeline->world->size; r++) {
		struct message message = {.kind = MESSAGE_VERDICT,
					  .peer = r,
					  .bytes = sizeof(struct verdict)};
		int rc;

		if (!is_heard(pipeline, r))
			continue;
		rc = exchange_send(pipeline->exchange, &message, vote->verdict,
				   &vote->verdict_busy[r]);
		if (rc)
			return rc;
	}
	return 0;
}

static int vote_as_root(struct pipeline *pipeline)
{
	int rc = collect(pipeline);

	if (rc)
		return rc;
	judge(pipeline, pipeline->vote->verdict);
	return tell(pipeline);
}

static int vote_as_other(struct pipeline *pipeline)
{
	struct vote *vote = pipeline->vote;
	unsigned me = pipeline->world->rank;
	struct message mine = {.kind = MESSAGE_VOTE,
			       .peer = ROUTE_ROOT,
			       .bytes = vote_bytes(pipeline, me)};
	struct message *answer =
		route_find(pipeline->train_route, ROUTE_ROOT, MESSAGE_VERDICT);
	int rc = exchange_send(pipeline->exchange, &mine, vote->ballots[me],
			       &vote->busy);

	if (!rc)
		rc = exchange_await(pipeline->exchange, answer);
	if (!rc)
		rc = exchange_take(pipeline->exchange, answer);
	return rc;
}

static const char *bad_place(const struct pipeline *pipeline, int32_t bad,
			     unsigned *stage)
{
	unsigned count;
	const struct parameter *all = model_parameters(pipeline->model, &count);

	if (bad < 0 || (unsigned)bad >= count) {
		*stage = pipeline->partition->stages - 1;
		return "the loss";
	}
	*stage = partition_stage_of(pipeline->partition, all[bad].layer);
	return all[bad].name;
}

int vote_run(struct pipeline *pipeline, double loss)
{
	struct vote *vote = pipeline->vote;
	unsigned stage;
	const char *name;
	int rc = exchange_await_sent(pipeline->exchange, &vote->busy);

	if (rc)
		return rc;
	rc = fill_ballot(pipeline, vote->ballots[pipeline->world->rank], loss);
	if (!rc)
		rc = confer(pipeline);
	if (!rc && pipeline->world->rank == ROUTE_ROOT)
		rc = vote_as_root(pipeline);
	else if (!rc && votes(pipeline, pipeline->world->rank))
		rc = vote_as_other(pipeline);
	if (!rc && pipeline->collective)
		rc = collective_broadcast(pipeline->collective, vote->verdict,
					  sizeof(*vote->verdict));
	if (rc || vote->verdict->commit)
		return rc;
	if (pipeline->world->rank != ROUTE_ROOT)
		return -ECANCELED; /* the root has found it, and says so */
	name = bad_place(pipeline, vote->verdict->bad_parameter, &stage);
	return fail(
		-EDOM,
		"step %llu: %s%s is not finite (stage %u); no weight was changed. Lower --lr, or go on from the last checkpoint with another --seed or data",
		(unsigned long long)pipeline->pass.step + 1,
		vote->verdict->bad_parameter < 0 ? "" : "the gradient of ",
		name, stage);
}

const struct verdict *vote_verdict(const struct vote *vote)
{
	return vote->verdict;
}

void *vote_ballot(const struct vote *vote, unsigned rank)
{
	return vote->ballots[rank];
}

void *vote_verdict_memory(const struct vote *vote)
{
	return vote->verdict;
}
