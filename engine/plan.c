#include "engine/plan.h"
#include "base/log.h"
#include "engine/costs_grid.h"
#include "engine/pipeline.h"
#include "engine/reduction.h"
#include "model/kernels/gemm.h"
#include "model/kernels/optimizer.h"

#include <errno.h>
#include <stdlib.h>

/*
 * Measured, in a rank of the smallest model on x86-64 with glibc and OpenBLAS:
 * data of the program and its libraries, heap, and the job (PROGRAM); the work
 * memory of the matrix library that gemm_prepare() touches, and a stack
 * (THREAD). What products of bfloat16 take comes on top.
 */
#define PROGRAM_BYTES ((size_t)1 << 20)
#define THREAD_BYTES  (((size_t)12 << 20) + ((size_t)192 << 10))

/* Largest table of stage bytes, in entries. */
#define MEMO_MAX ((size_t)4 << 20)

struct plan_sketch {
	const struct job *job;
	const struct model *whole;
	const struct model *model; /* a slice of it, or the same */
	struct model *made;        /* either of them, if it is the plan's own */
	struct job *alone;         /* in brief: of one replica by itself */
	struct world world; /* of which only rank, size and team mean anything*/
	struct pipeline *pipeline;
	struct gemm_bfloat16_work work; /* of the rank measured just now */
	bool *holds;                    /* [layers] */
	double *fixed;                  /* [ranks] or NULL */
	double *memo; /* [stages][layers][layers + 1] bytes; 0: not known */
};

/* ---- memory ---- */

static size_t table_bytes(const struct schedule *schedule)
{
	size_t cells = (size_t)schedule->stages * schedule->micro_batches;
	size_t actions = 0;

	for (unsigned r = 0; r < schedule->ranks; r++)
		actions += schedule->rows[r].count;
	/* Its rows, which every rank has all of, and the index of its route. */
	return actions * sizeof(struct action) +
	       2 * cells * sizeof(struct message *);
}

static size_t other_bytes(const struct plan *plan)
{
	const struct pipeline *p = plan->sketch->pipeline;

	return PROGRAM_BYTES + plan->threads * THREAD_BYTES +
	       gemm_bfloat16_work_bytes(&plan->sketch->work, plan->threads) +
	       table_bytes(p->forward_schedule) +
	       table_bytes(p->train_schedule);
}

static void store_config(const struct plan_sketch *sketch,
			 struct store_config *out)
{
	*out = (struct store_config){
		.model = sketch->model,
		.holds_layer = sketch->holds,
		.levels = accumulation_levels(&sketch->pipeline->accumulation),
		.moments = optimizer_moments(&sketch->job->optimizer),
	};
}

/*
 * Of optimizer state shared by D replicas, what one has at most: buckets of a
 * stage are cut at blocks (engine/reduction.h).
 */
static size_t sharded_bytes(const struct plan *plan,
			    const struct store_sizes *all)
{
	size_t blocks = all->moments / REDUCTION_BUCKET_BYTES + all->rows;
	size_t uneven = blocks * OPTIMIZER_BLOCK * sizeof(float);

	return MIN(all->moments, all->moments / plan->grid.replicas + uneven);
}

/* The parameters of the layers held just now; `here`: as the rank has them. */
static void measure_store(const struct plan *plan, bool here,
			  struct store_sizes *out)
{
	const struct plan_sketch *sketch = plan->sketch;
	struct store_config config;

	store_config(sketch, &config);
	if (here && !sketch->alone)
		config.reduction = pipeline_reduction(sketch->pipeline);
	store_sizes(&config, out);
	if (sketch->job->shard_optimizer && !config.reduction)
		out->moments = sharded_bytes(plan, out);
}

static void hold_layers(struct plan_sketch *sketch, unsigned first,
			unsigned end, bool held)
{
	for (unsigned i = first; i < end; i++)
		sketch->holds[i] = held;
}

/* Parameters of held layers, and what their sums of squares take. */
static void measure_parameters(const struct plan_sketch *sketch,
			       uint64_t *parameters, size_t *vote_scratch)
{
	unsigned count;
	const struct parameter *all = model_parameters(sketch->model, &count);

	*parameters = 0;
	*vote_scratch = 0;
	for (unsigned i = 0; i < count; i++) {
		int tied = all[i].tied_to;

		if (!sketch->holds[all[i].layer])
			continue;
		*vote_scratch += square_sum_scratch_bytes(all[i].count);
		if (tied == PARAMETER_NOT_TIED ||
		    !sketch->holds[all[tied].layer])
			*parameters += all[i].count;
	}
}

static void measure_stage(struct plan *plan, unsigned stage,
			  struct plan_rank *rank)
{
	struct stage_config config;
	struct stage_sizes sizes;
	size_t slots;

	pipeline_stage_config(plan->sketch->pipeline, stage, &config);
	stage_sizes(&config, &sizes);
	stage_count_work(&config, &plan->sketch->work);
	slots = config.activations * sizes.activation_bytes +
		config.pendings * sizes.pending_bytes;
	rank->activations += slots;
	rank->scratch += sizes.private_bytes - slots;
	rank->stages++;
	rank->layers += config.end_layer - config.first_layer;
	hold_layers(plan->sketch, config.first_layer, config.end_layer, true);
	plan->stage[stage].in_flight = config.activations;
}

/*
 * In brief: what a rank has for other replicas and the vote, about. The root has
 * their batches; sums arrive in halves of a bucket and less; a square a block.
 */
static void estimate_replicas(struct plan *plan, unsigned number)
{
	const struct pipeline *p = plan->sketch->pipeline;
	struct plan_rank *rank = &plan->rank[number];
	size_t others = plan->grid.replicas - 1, arriving = 0, bytes = 0;
	size_t floats = rank->gradients / sizeof(float);

	if (number == ROUTE_ROOT)
		bytes = others * (p->job->packed ? 3 : 2) * sizeof(int32_t) *
			p->share * p->job->micro_batch_size * p->job->context;
	if (others > 0)
		arriving =
			MIN(p->ahead * reduction_bucket_bytes(p->grid.replicas),
			    rank->gradients);
	rank->unsure = arriving;
	if (plan->sketch->job->shard_optimizer)
		rank->unsure += rank->optimizer -
				floats * sizeof(float) / plan->grid.replicas;
	rank->messages += bytes + arriving +
			  2 * sizeof(double) * floats / OPTIMIZER_BLOCK;
}

static void measure_rank(struct plan *plan, unsigned number)
{
	struct plan_sketch *sketch = plan->sketch;
	struct plan_rank *rank = &plan->rank[number];
	struct store_sizes store;
	size_t vote_scratch;

	/* All replicas and slices of a position are alike; the root has more. */
	sketch->world.rank = grid_rank(&sketch->pipeline->grid, 0, number, 0);
	pipeline_stand_at(sketch->pipeline, sketch->world.rank);
	if (!sketch->alone)
		traffic_count(sketch->pipeline, &rank->sent);
	hold_layers(sketch, 0, model_layer_count(sketch->model), false);
	sketch->work = (struct gemm_bfloat16_work){0};
	for (unsigned s = 0; s < plan->stages; s++)
		if (plan->stage[s].rank == number)
			measure_stage(plan, s, rank);
	measure_store(plan, true, &store);
	measure_parameters(sketch, &rank->parameters, &vote_scratch);
	rank->weights = store.weights + store.rounded;
	rank->gradients = store.gradients + store.sums;
	rank->optimizer = store.moments;
	rank->messages = pipeline_region_bytes(sketch->pipeline);
	rank->scratch += arena_piece_bytes(vote_scratch);
	if (sketch->alone)
		estimate_replicas(plan, number);
	rank->other = other_bytes(plan);
	rank->total = rank->weights + rank->gradients + rank->optimizer +
		      rank->activations + rank->messages + rank->scratch +
		      rank->other;
}

static void measure_all(struct plan *plan)
{
	const struct pipeline *p = plan->sketch->pipeline;

	for (unsigned s = 0; s < plan->stages; s++)
		plan->stage[s] = (struct plan_stage){
			.rank = p->train_schedule->rank_of_stage[s],
			.first_layer = p->partition->first[s],
			.end_layer = p->partition->first[s + 1],
		};
	for (unsigned r = 0; r < plan->ranks; r++) {
		measure_rank(plan, r);
		if (plan->rank[r].total > plan->rank[plan->largest_rank].total)
			plan->largest_rank = r;
	}
}

/* ---- life ---- */

/*
 * Ranks hold one slice of the layers, and costs are of whole ones: the model
 * given is either, and the plan makes the other.
 */
static int cut_model(struct plan_sketch *sketch, const struct model *given,
		     unsigned slices)
{
	struct model_config config = *model_config(given);
	unsigned have = MAX(config.slices, 1u);
	int rc;

	sketch->whole = sketch->model = given;
	if (slices <= 1 && have <= 1)
		return 0;
	config.slices = have > 1 ? 0 : slices;
	config.slice = 0;
	rc = model_create(&config, &sketch->made);
	if (rc)
		return rc;
	*(have > 1 ? &sketch->whole : &sketch->model) = sketch->made;
	return 0;
}

/* One replica's share of the job, as a job by itself. */
static int single_out(struct plan_sketch *sketch)
{
	const struct job *job = sketch->job;
	struct job *alone = malloc(sizeof(*alone));

	if (!alone)
		return fail(-ENOMEM, "no memory for a plan");
	*alone = *job;
	alone->replicas = 1;
	alone->micro_batches = job_share(job);
	alone->gradient_groups =
		MAX(job->gradient_groups, 1) / MAX(job->replicas, 1);
	alone->shard_optimizer = false;
	sketch->alone = alone;
	return 0;
}

static int create_sketch(struct plan *plan, const struct job *job,
			 const struct model *model, bool brief)
{
	struct plan_sketch *sketch = calloc(1, sizeof(*sketch));
	int rc;

	if (!sketch)
		return fail(-ENOMEM, "no memory for a plan");
	plan->sketch = sketch;
	sketch->job = job;
	rc = cut_model(sketch, model, plan->grid.slices);
	if (!rc)
		rc = brief ? single_out(sketch) : 0;
	if (rc)
		return rc;
	sketch->world.size = job_ranks(brief ? sketch->alone : job);
	sketch->holds = calloc(model_layer_count(model), sizeof(bool));
	if (!sketch->holds)
		return fail(-ENOMEM, "no memory for a plan");
	rc = threads_create(plan->threads, NULL, &sketch->world.team);
	if (rc)
		return rc;
	return brief ? pipeline_sketch_brief(&sketch->world, sketch->alone,
					     sketch->model, &sketch->pipeline)
		     : pipeline_sketch(&sketch->world, job, sketch->model,
				       &sketch->pipeline);
}

static int create_plan(const struct job *job, const struct model *model,
		       unsigned threads, bool brief, struct plan **out)
{
	struct plan *plan = calloc(1, sizeof(*plan));
	int rc = -ENOMEM;

	if (!plan)
		return fail(rc, "no memory for a plan");
	plan->grid = job_grid(job);
	plan->ranks = job->ranks;
	plan->stages = job->partition.stages;
	plan->threads = threads;
	plan->rank = calloc(plan->ranks, sizeof(*plan->rank));
	plan->stage = calloc(plan->stages, sizeof(*plan->stage));
	if (plan->rank && plan->stage)
		rc = create_sketch(plan, job, model, brief);
	else
		fail(rc, "no memory for a plan of %u ranks", plan->ranks);
	if (rc) {
		plan_destroy(plan);
		return rc;
	}
	/* The job of one replica by itself would; replicas do not. */
	if (plan->grid.replicas > 1)
		plan->sketch->pipeline->tie_plan.by_rows = false;
	measure_all(plan);
	*out = plan;
	return 0;
}

int plan_create(const struct job *job, const struct model *model,
		unsigned threads, struct plan **out)
{
	return create_plan(job, model, threads, false, out);
}

int plan_create_brief(const struct job *job, const struct model *model,
		      unsigned threads, struct plan **out)
{
	return create_plan(job, model, threads, true, out);
}

void plan_destroy(struct plan *plan)
{
	struct plan_sketch *sketch = plan ? plan->sketch : NULL;

	if (!plan)
		return;
	if (sketch) {
		pipeline_destroy(sketch->pipeline);
		threads_destroy(sketch->world.team);
		model_destroy(sketch->made);
		free(sketch->alone);
		free(sketch->holds);
		free(sketch->fixed);
		free(sketch->memo);
		free(sketch);
	}
	free(plan->rank);
	free(plan->stage);
	free(plan);
}

/* ---- other splits ---- */

const unsigned *plan_rank_of_stage(const struct plan *plan)
{
	return plan->sketch->pipeline->train_schedule->rank_of_stage;
}

/* What engine/pipeline.c cuts out of its region for a stage. */
static size_t region_of_stage(const struct plan *plan, unsigned stage,
			      const struct stage_sizes *sizes)
{
	const struct pipeline *p = plan->sketch->pipeline;
	size_t bytes = arena_piece_bytes(sizes->message_region_bytes);

	if (pipeline_has_link(p, stage, stage + 1))
		bytes += PIPELINE_OUTGOING *
			 arena_piece_bytes(sizes->output_bytes);
	if (pipeline_has_link(p, stage, stage - 1))
		bytes += PIPELINE_OUTGOING *
			 arena_piece_bytes(sizes->input_gradient_bytes);
	return bytes;
}

/*
 * Of its parameters: the sums for the vote, what they are made with, and the same
 * as it comes from replicas.
 */
static size_t vote_of_stage(const struct plan_sketch *sketch, unsigned first,
			    unsigned end)
{
	unsigned count;
	const struct parameter *all = model_parameters(sketch->model, &count);
	size_t squares = 0, scratch = 0;

	for (unsigned i = 0; i < count; i++) {
		if (all[i].layer < first || all[i].layer >= end)
			continue;
		squares += sizeof(double);
		scratch += square_sum_scratch_bytes(all[i].count);
	}
	return arena_piece_bytes(squares) + 2 * arena_piece_bytes(scratch);
}

static double bytes_of_stage(struct plan *plan, unsigned stage, unsigned first,
			     unsigned end)
{
	struct plan_sketch *sketch = plan->sketch;
	struct stage_config config;
	struct stage_sizes sizes;
	struct store_sizes store;
	struct gemm_bfloat16_work work = {0};

	pipeline_stage_config(sketch->pipeline, stage, &config);
	config.first_layer = first;
	config.end_layer = end;
	stage_sizes(&config, &sizes);
	/* Stages of a rank share it; each is held to need it for itself. */
	stage_count_work(&config, &work);
	hold_layers(sketch, 0, model_layer_count(sketch->model), false);
	hold_layers(sketch, first, end, true);
	measure_store(plan, false, &store);
	return (double)(store.weights + store.rounded + store.gradients +
			store.moments + sizes.private_bytes +
			region_of_stage(plan, stage, &sizes) +
			gemm_bfloat16_work_bytes(&work, plan->threads) +
			vote_of_stage(sketch, first, end));
}

double plan_stage_bytes(void *argument, unsigned stage, unsigned first,
			unsigned end)
{
	struct plan *plan = argument;
	struct plan_sketch *sketch = plan->sketch;
	size_t layers = model_layer_count(sketch->model);
	size_t entries = plan->stages * layers * (layers + 1);
	double *known;

	if (!sketch->memo && entries <= MEMO_MAX)
		sketch->memo = calloc(entries, sizeof(*sketch->memo));
	if (!sketch->memo)
		return bytes_of_stage(plan, stage, first, end);
	known = &sketch->memo[(stage * layers + first) * (layers + 1) + end];
	if (*known == 0)
		*known = bytes_of_stage(plan, stage, first, end);
	return *known;
}

/*
 * What the vote may take on a rank beside what plan_stage_bytes() counts: the
 * rounding of its own ballot, and of the replicas' squares; and on the root of
 * all ballots, whose sum no split changes.
 */
static double vote_slack(const struct plan *plan, unsigned rank)
{
	size_t own = (plan->grid.replicas + 3) * (size_t)CACHE_LINE_BYTES;
	unsigned parameters;

	if (rank != ROUTE_ROOT)
		return (double)own;
	(void)model_parameters(plan->sketch->model, &parameters);
	return (double)(own + parameters * sizeof(double) +
			(grid_size(&plan->grid) + 1) *
				(size_t)CACHE_LINE_BYTES);
}

/* Sums on their way in: halves, quarters ... of buckets, which a split cuts. */
static double sums_slack(const struct plan *plan)
{
	if (plan->grid.replicas == 1)
		return 0;
	return (double)(plan->sketch->pipeline->ahead *
			reduction_bucket_bytes(plan->grid.replicas));
}

/*
 * How much of a stage's bytes the rank does not have now: a share of a divided
 * optimizer state that is larger than need be.
 */
static double unused_moments(struct plan *plan, unsigned rank)
{
	struct plan_sketch *sketch = plan->sketch;
	double bytes = 0;

	if (!sketch->job->shard_optimizer)
		return 0;
	for (unsigned s = 0; s < plan->stages; s++) {
		struct store_sizes store;

		if (plan->stage[s].rank != rank)
			continue;
		hold_layers(sketch, 0, model_layer_count(sketch->model), false);
		hold_layers(sketch, plan->stage[s].first_layer,
			    plan->stage[s].end_layer, true);
		measure_store(plan, false, &store);
		bytes += (double)store.moments;
	}
	return bytes - (double)plan->rank[rank].optimizer;
}

/*
 * How much more than the rank has now its stages would need if each had work
 * memory for its products by itself, as plan_stage_bytes() says.
 */
static double shared_work(const struct plan *plan, unsigned rank)
{
	struct gemm_bfloat16_work all = {0};
	double apart = 0;

	for (unsigned s = 0; s < plan->stages; s++) {
		struct gemm_bfloat16_work one = {0};
		struct stage_config config;

		if (plan->stage[s].rank != rank)
			continue;
		pipeline_stage_config(plan->sketch->pipeline, s, &config);
		config.first_layer = plan->stage[s].first_layer;
		config.end_layer = plan->stage[s].end_layer;
		stage_count_work(&config, &one);
		stage_count_work(&config, &all);
		apart += (double)gemm_bfloat16_work_bytes(&one, plan->threads);
	}
	return apart - (double)gemm_bfloat16_work_bytes(&all, plan->threads);
}

const double *plan_fixed_bytes(struct plan *plan)
{
	double *fixed = plan->sketch->fixed;

	if (fixed)
		return fixed;
	fixed = calloc(plan->ranks, sizeof(*fixed));
	if (!fixed)
		return NULL;
	for (unsigned r = 0; r < plan->ranks; r++)
		fixed[r] = (double)plan->rank[r].total + vote_slack(plan, r) +
			   sums_slack(plan) + unused_moments(plan, r) +
			   shared_work(plan, r);
	for (unsigned s = 0; s < plan->stages; s++)
		fixed[plan->stage[s].rank] -=
			plan_stage_bytes(plan, s, plan->stage[s].first_layer,
					 plan->stage[s].end_layer);
	plan->sketch->fixed = fixed;
	return fixed;
}

/* ---- time ---- */

/* Weights of the rank that has the most to add up, or to update. */
static double most_weights(const struct plan *plan)
{
	uint64_t most = 0;

	for (unsigned r = 0; r < plan->ranks; r++)
		most = MAX(most, plan->rank[r].parameters);
	return (double)most;
}

/* Of what goes both ways when all else is done. */
static double tie_bytes(const struct plan *plan, const struct costs *costs)
{
	const struct tie_plan *tie = &plan->sketch->pipeline->tie_plan;

	if (tie->by_rows &&
	    plan->stage[0].rank != plan->stage[plan->stages - 1].rank)
		return (double)(tie->rows * tie->width * sizeof(float));
	return costs->tied_bytes / plan->grid.replicas;
}

/* Of the head's gradient, which by rows leaves before that. */
static double tie_early_seconds(const struct plan *plan,
				const struct costs *costs)
{
	if (!plan->sketch->pipeline->tie_plan.by_rows || costs->bandwidth <= 0)
		return 0;
	return costs->latency + costs->tied_bytes / costs->bandwidth;
}

/*
 * The two gradients of a tied parameter become one, of which each replica has
 * its part. On one rank: added, and one cleared. On two: each sends its own and
 * adds the other's, a message's worth after the other.
 */
static double tie_seconds(const struct plan *plan, const struct costs *costs,
			  const struct calibration_rates *rates)
{
	const struct pipeline *p = plan->sketch->pipeline;
	double bytes = tie_bytes(plan, costs);
	double adding = bytes / sizeof(float) * rates->add, wire = 0, own = 0;

	if (p->tie_count == 0)
		return 0;
	if (plan->stage[p->tie.first_stage].rank ==
	    plan->stage[p->tie.second_stage].rank)
		return 2 * adding;
	if (costs->bandwidth > 0)
		wire = bytes / costs->bandwidth;
	if (costs->message_bytes > 0)
		own = bytes / costs->message_bytes *
		      (costs->send + costs->receive);
	return costs->latency + MAX(wire, own + adding);
}

/*
 * Each replica squares the part it ends up with the sums of; and where it holds
 * no more of the optimizer's state than that, updates no more.
 */
static void complete_costs(const struct plan *plan,
			   const struct calibration_rates *rates,
			   struct costs *costs)
{
	double weights = most_weights(plan), part;

	if (!rates || !costs->seconds)
		return;
	part = weights / plan->grid.replicas;
	if (costs->reduce_tied == 0)
		costs->reduce_tied = tie_seconds(plan, costs, rates);
	if (costs->tied_early == 0)
		costs->tied_early = tie_early_seconds(plan, costs);
	if (costs->vote == 0)
		costs->vote =
			part * rates->square +
			(grid_size(&plan->grid) > 1 ? 2 * costs->latency : 0);
	if (costs->step == 0)
		costs->step =
			rates->update *
			(plan->sketch->job->shard_optimizer ? part : weights);
}

static int copy_costs(const struct costs *from, struct costs *to)
{
	*to = *from;
	to->rows = calloc(from->count, sizeof(*to->rows));
	if (!to->rows)
		return fail(-ENOMEM, "no memory for costs");
	for (unsigned i = 0; i < from->count; i++)
		to->rows[i] = from->rows[i];
	return 0;
}

/* What costs of layers may not say, the model does. */
static void fill_gradients(const struct model *model, struct costs *costs)
{
	unsigned count;
	const struct parameter *all = model_parameters(model, &count);

	for (unsigned i = 0; i < costs->count; i++)
		costs->rows[i].gradient_bytes = 0;
	for (unsigned i = 0; i < count; i++)
		if (all[i].trainable && all[i].layer < costs->count)
			costs->rows[all[i].layer].gradient_bytes +=
				(double)all[i].count * sizeof(float);
}

/* The caller's to costs_fini(). */
static int prepare_costs(const struct plan *plan, const struct costs *given,
			 const struct calibration_rates *rates,
			 struct costs *out)
{
	const struct plan_sketch *sketch = plan->sketch;
	const struct calibration calibration = {
		.micro_batch_size = sketch->job->micro_batch_size,
		.context = sketch->job->context,
		.threads = plan->threads,
		.recompute = sketch->job->recompute,
	};
	int rc = copy_costs(given, out);

	if (!rc && rates && out->seconds && out->add == 0)
		out->add = rates->add / sizeof(float);
	if (!rc && out->kind == COSTS_LAYERS)
		rc = calibrate_slice(sketch->whole, sketch->model, &calibration,
				     out);
	if (rc) {
		costs_fini(out);
		return rc;
	}
	if (out->kind == COSTS_LAYERS)
		fill_gradients(sketch->model, out);
	complete_costs(plan, rates, out);
	return 0;
}

/* [stages] bytes of the gradients that are summed; NULL: no memory. */
static double *gradient_bytes(const struct plan *plan)
{
	double *bytes = calloc(plan->stages, sizeof(*bytes));
	unsigned count;
	const struct parameter *all =
		model_parameters(plan->sketch->model, &count);

	for (unsigned i = 0; bytes && i < count; i++)
		if (all[i].trainable)
			bytes[partition_stage_of(
				plan->sketch->pipeline->partition,
				all[i].layer)] +=
				(double)all[i].count * sizeof(float);
	return bytes;
}

/* What a simulation leaves out. */
enum {
	WITHOUT_LINKS = 1,
	WITHOUT_REPLICAS = 2,
};

struct prediction {
	struct schedule_costs stages;
	double *storage;  /* of those */
	double *replicas; /* and those, or NULL */
	struct schedule_simulation simulation;
};

static void prediction_fini(struct prediction *prediction)
{
	schedule_simulation_fini(&prediction->simulation);
	free(prediction->storage);
	free(prediction->replicas);
}

static int add_replicas(const struct plan *plan, const struct costs *costs,
			struct prediction *prediction)
{
	const struct pipeline *p = plan->sketch->pipeline;
	double *gradients = gradient_bytes(plan);
	const struct costs_replicas replicas = {
		.replicas = plan->grid.replicas,
		.sharded = plan->sketch->job->shard_optimizer,
		.gradient_bytes = gradients,
	};
	int rc = gradients ? costs_add_replicas(costs, p->train_schedule,
						p->partition, &replicas,
						&prediction->stages,
						&prediction->replicas)
			   : fail(-ENOMEM, "no memory for a plan's costs");

	free(gradients);
	return rc;
}

/* On failure nothing is left; the optimizer's time stays out: see conclude(). */
static int predict(const struct plan *plan, const struct costs *costs,
		   unsigned without, struct prediction *out)
{
	const struct pipeline *p = plan->sketch->pipeline;
	struct costs simulated = *costs;
	int rc;

	*out = (struct prediction){.storage = NULL};
	simulated.step = 0;
	if (without & WITHOUT_LINKS)
		simulated.latency = simulated.bandwidth = simulated.send =
			simulated.receive = 0;
	rc = costs_of_stages(&simulated, p->train_schedule, p->partition,
			     &out->stages, &out->storage);
	if (!rc && !(without & WITHOUT_REPLICAS))
		rc = add_replicas(plan, &simulated, out);
	if (!rc)
		rc = schedule_simulate(p->train_schedule, &out->stages, false,
				       &out->simulation);
	if (rc)
		prediction_fini(out);
	return rc;
}

static void read_stages(struct plan *plan, const struct schedule_costs *costs)
{
	double slowest = 0;

	for (unsigned s = 0; s < plan->stages; s++) {
		struct plan_stage *stage = &plan->stage[s];
		double own;

		stage->forward = costs->forward[s];
		stage->input = costs->input[s];
		stage->weight = costs->weight[s];
		own = stage->forward + stage->input + stage->weight;
		if (own > slowest) {
			slowest = own;
			plan->slowest_stage = s;
		}
	}
}

/* In brief messages are not listed; the simulation's will do. */
static void estimate_sent(struct plan *plan, unsigned r,
			  const struct schedule_simulation *simulation)
{
	const struct plan_sketch *sketch = plan->sketch;
	const struct job *job = sketch->job;
	double slices = 0;

	for (unsigned s = 0; s < plan->stages; s++)
		for (unsigned i = plan->stage[s].first_layer;
		     plan->stage[s].rank == r && i < plan->stage[s].end_layer;
		     i++) {
			struct costs_tensor sums;

			costs_tensor_of_layer(
				model_layer(sketch->model, i),
				plan->grid.slices, job->micro_batch_size,
				job->context, job->recompute, &sums);
			slices += sums.forward_bytes + sums.input_bytes;
		}
	plan->rank[r].sent = (struct traffic){
		.stages = (uint64_t)simulation->bytes_sent[r],
		.replicas = (uint64_t)simulation->bytes_reduced[r],
		.slices = (uint64_t)(slices * job_share(job)),
	};
}

static void read_ranks(struct plan *plan,
		       const struct schedule_simulation *simulation)
{
	for (unsigned r = 0; r < plan->ranks; r++) {
		struct plan_rank *rank = &plan->rank[r];

		rank->busy = simulation->busy[r];
		rank->summing = simulation->reducing[r];
		if (plan->sketch->alone)
			estimate_sent(plan, r, simulation);
		if (rank->busy > plan->rank[plan->slowest_rank].busy)
			plan->slowest_rank = r;
		if (rank->summing > plan->rank[plan->summing_rank].summing)
			plan->summing_rank = r;
	}
}

/*
 * The optimizer's step comes after all else on every rank. Where ranks share
 * cores, a step takes no less than all their work on those.
 */
static void conclude(struct plan *plan, const struct costs *costs,
		     const struct schedule_simulation *simulation,
		     unsigned copies)
{
	const struct job *job = plan->sketch->job;
	double work = 0, all;

	for (unsigned r = 0; r < plan->ranks; r++) {
		plan->rank[r].busy += costs->step;
		work += plan->rank[r].busy;
	}
	all = work * plan->grid.replicas * plan->grid.slices;
	plan->step = simulation->makespan + costs->step;
	plan->cores_shared = false;
	if (copies && all / copies > plan->step) {
		plan->cores_shared = true;
		plan->step = all / copies;
	}
	plan->bubble = plan->step > 0 ? 1 - work / plan->ranks / plan->step : 0;
	for (unsigned r = 0; r < plan->ranks; r++)
		plan->rank[r].idle = plan->step - plan->rank[r].busy;
	plan->seconds = costs->seconds;
	plan->tokens_per_second = 0;
	if (plan->seconds && plan->step > 0)
		plan->tokens_per_second = (double)job->micro_batches *
					  job->micro_batch_size * job->context /
					  plan->step;
}

int plan_predict(struct plan *plan, const struct costs *given,
		 const struct calibration_rates *rates, unsigned copies)
{
	struct prediction prediction;
	struct costs costs;
	int rc = prepare_costs(plan, given, rates, &costs);

	if (rc)
		return rc;
	plan->slowest_rank = plan->slowest_stage = plan->summing_rank = 0;
	rc = predict(plan, &costs, 0, &prediction);
	if (!rc) {
		read_stages(plan, &prediction.stages);
		read_ranks(plan, &prediction.simulation);
		conclude(plan, &costs, &prediction.simulation, copies);
		prediction_fini(&prediction);
	}
	costs_fini(&costs);
	return rc;
}

/* ---- why ---- */

static int makespan(const struct plan *plan, const struct costs *costs,
		    unsigned without, double *out)
{
	struct prediction prediction;
	int rc = predict(plan, costs, without, &prediction);

	if (rc)
		return rc;
	*out = prediction.simulation.makespan;
	prediction_fini(&prediction);
	return 0;
}

/* Of the rank that has the most of it, a step. */
static double tensor_seconds(const struct plan *plan, const struct costs *costs)
{
	struct costs none = *costs;
	double most = 0;

	if (plan->grid.slices <= 1 || costs->kind != COSTS_LAYERS)
		return 0;
	none.rows = calloc(costs->count, sizeof(*none.rows));
	if (!none.rows)
		return 0;
	costs_add_tensor(plan->sketch->model, plan->grid.slices,
			 plan->sketch->job->micro_batch_size,
			 plan->sketch->job->context,
			 plan->sketch->job->recompute, &none);
	for (unsigned r = 0; r < plan->ranks; r++) {
		double sum = 0;

		for (unsigned s = 0; s < plan->stages; s++)
			for (unsigned i = plan->stage[s].first_layer;
			     plan->stage[s].rank == r &&
			     i < plan->stage[s].end_layer;
			     i++)
				sum += none.rows[i].forward +
				       none.rows[i].input;
		most = MAX(most, sum);
	}
	free(none.rows);
	return most * job_share(plan->sketch->job);
}

/* What each rank computes in a step, nothing else: the mean, and the most. */
static void compute_of_ranks(const struct plan *plan, double *mean,
			     double *most)
{
	*mean = *most = 0;
	for (unsigned r = 0; r < plan->ranks; r++) {
		double own = 0;

		for (unsigned s = 0; s < plan->stages; s++)
			if (plan->stage[s].rank == r)
				own += plan->stage[s].forward +
				       plan->stage[s].input +
				       plan->stage[s].weight;
		own *= job_share(plan->sketch->job);
		*mean += own / plan->ranks;
		*most = MAX(*most, own);
	}
}

int plan_explain(struct plan *plan, const struct costs *given,
		 const struct calibration_rates *rates, struct plan_parts *out)
{
	struct costs costs, endless;
	double mean, most, bare, free_links, without_sums, all;
	int rc = prepare_costs(plan, given, rates, &costs);

	if (rc)
		return rc;
	endless = costs;
	endless.reduce_tied = endless.tied_early = endless.vote = 0;
	rc = makespan(plan, &endless, WITHOUT_LINKS | WITHOUT_REPLICAS, &bare);
	if (!rc)
		rc = makespan(plan, &costs, WITHOUT_LINKS | WITHOUT_REPLICAS,
			      &free_links);
	if (!rc)
		rc = makespan(plan, &costs, WITHOUT_REPLICAS, &without_sums);
	if (!rc)
		rc = makespan(plan, &costs, 0, &all);
	if (!rc) {
		compute_of_ranks(plan, &mean, &most);
		*out = (struct plan_parts){
			.compute = mean,
			.imbalance = most - mean,
			.bubble = bare - most,
			.links = without_sums - free_links,
			.replicas = all - without_sums,
			.end = free_links - bare + costs.step,
			.tensor = tensor_seconds(plan, &costs),
		};
	}
	costs_fini(&costs);
	return rc;
}
