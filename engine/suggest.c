#include "engine/suggest.h"
#include "base/log.h"
#include "engine/costs_grid.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EFFORT 8e6
/* A plan takes that much beside its micro-batches and stages. */
#define EFFORT_OF_PLAN 2000.0
/* What is slower than the best by more is not worth to be looked at. */
#define MARGIN 1.1
/* No schedule has less in flight than one micro-batch for so many positions. */
#define LEANEST 3.0
/* A rank's first sum begins after this share of its work, at the soonest. */
#define SOONEST           0.1
#define MICRO_BATCHES_MAX 65535u
#define GRIDS_LEAST       4u

static const unsigned chunks_tried[] = {1, 2, 3, 4, 5, 6, 8, 10};

/* D x P x T with micro-batches, and what no plan of it falls below. */
struct frame {
	struct grid grid;
	unsigned micro_batch_size;
	bool recompute;
	double bytes;    /* of the fullest rank, at least */
	double bound;    /* of a step */
	double estimate; /* of one, to try the promising ones first */
};

/* A split that was found; costs of other micro-batches have the same. */
struct known_split {
	unsigned positions, chunks;
	enum schedule_placement placement;
	bool recompute;
	struct partition partition;
};

struct finding {
	const struct suggest_request *request;
	struct suggestions *out;
	struct job *job; /* a candidate's */
	struct frame *frames;
	size_t frame_count, frame_room;
	size_t fitting_room;
	double cap;      /* bytes of a rank */
	double effort;   /* left */
	bool *identical; /* [kinds] gives the bits that all such kinds give */
	size_t alone;    /* the kind to take for one position: all are one */
	struct known_split *splits; /* [split_count] */
	size_t split_count;
	/* Of one sample through the whole model: F + I + W, and F again. */
	double work, again, heaviest;
	uint64_t parameters;
	/* Of one sample in all layers: what F leaves, and what it takes in. */
	double kept, inputs;
};

/* ---- frames ---- */

static unsigned ranks_of(const struct suggest_request *request)
{
	return request->hosts * request->host_ranks;
}

static bool heads_divide(const struct suggest_request *request, unsigned slices)
{
	const struct model_config *config = model_config(request->model);

	return slices == 1 ||
	       (config->heads % slices == 0 && config->kv_heads % slices == 0 &&
		config->inner % slices == 0 && config->width % slices == 0 &&
		config->vocab_size >= slices);
}

static void add_layer(struct finding *f, const struct layer *layer)
{
	size_t time = f->request->job->context;
	double input = (double)edge_bytes(&layer->input, 1, time);
	struct layer_memory memory;

	layer_memory(layer, 1, time, LAYER_TRAIN, f->request->threads, &memory);
	f->kept += input + (double)memory.saved_bytes;
	f->inputs += input;
}

static void weigh_model(struct finding *f)
{
	const struct costs *costs = f->request->costs;
	double samples = MAX(costs->micro_batch_size, 1u);

	for (unsigned i = 0; i < costs->count; i++) {
		const struct costs_row *row = &costs->rows[i];
		double own = row->forward + row->input + row->weight;

		f->work += own / samples;
		f->heaviest = MAX(f->heaviest, own / samples);
		if (model_layer(f->request->model, i)->recomputable)
			f->again += row->forward / samples;
		add_layer(f, model_layer(f->request->model, i));
	}
	f->parameters = model_parameter_total(f->request->model);
}

static double replica_rate(const struct costs *costs)
{
	return costs->replica_bandwidth > 0 ? costs->replica_bandwidth
					    : costs->bandwidth;
}

/* Of the work, what the rank that has most blocks does, at least. */
static double largest_share(const struct finding *f, unsigned positions)
{
	unsigned blocks = model_config(f->request->model)->layers;
	unsigned most = (blocks + positions - 1) / positions;
	double inner = 1 - 2 * f->heaviest / f->work;

	return MAX(1.0 / positions, inner * most / blocks);
}

/*
 * Of the rank that holds most, with the leanest of schedules: a third of the
 * pipeline's depth is in flight. Slices share what is kept, but not the inputs.
 */
static double least_activations(const struct finding *f,
				const struct frame *frame)
{
	const struct grid *grid = &frame->grid;
	unsigned size = frame->micro_batch_size;
	unsigned share = f->request->samples / grid->replicas / size;
	double flight = MAX(1, MIN(grid->positions, share) / LEANEST);
	double sample = frame->recompute ? f->inputs : f->kept / grid->slices;

	return flight * size * sample / grid->positions;
}

static void bound_frame(const struct finding *f, struct frame *frame)
{
	const struct suggest_request *request = f->request;
	const struct grid *grid = &frame->grid;
	unsigned share_samples = request->samples / grid->replicas;
	double whole = f->work + (frame->recompute ? f->again : 0);
	double own =
		MAX(whole * largest_share(f, grid->positions), f->heaviest) /
		grid->slices * share_samples;
	double weights = (double)f->parameters / grid->positions / grid->slices;
	double rate = replica_rate(request->costs), sums = 0, update;
	double moments = optimizer_moments(&request->job->optimizer);

	if (rate > 0)
		sums = costs_half_sum_bytes(grid->replicas,
					    weights * sizeof(float)) /
		       rate;
	update = request->rates->update * weights;
	/* Sharded the gather comes after all; else it may be hidden, too. */
	frame->bound = MIN(MAX(own, SOONEST * own + sums) + sums +
				   update / grid->replicas,
			   MAX(own, SOONEST * own + 2 * sums) +
				   (request->sharded ? 1e300 : update));
	frame->estimate = frame->bound + own / share_samples *
						 frame->micro_batch_size *
						 (grid->positions - 1) / 4;
	frame->bytes =
		weights * sizeof(float) * (2 + moments / grid->replicas) +
		least_activations(f, frame);
}

static int add_frame(struct finding *f, const struct frame *frame)
{
	if (f->frame_count == f->frame_room) {
		size_t room = MAX(2 * f->frame_room, (size_t)256);
		struct frame *frames =
			realloc(f->frames, room * sizeof(*frames));

		if (!frames)
			return fail(-ENOMEM, "no memory to look for a grid");
		f->frames = frames;
		f->frame_room = room;
	}
	f->frames[f->frame_count++] = *frame;
	return 0;
}

/* Micro-batch sizes: powers of two, and the whole share. */
static int add_batches(struct finding *f, const struct grid *grid)
{
	const struct suggest_request *request = f->request;
	unsigned share = request->samples / grid->replicas;
	int rc = 0;

	for (unsigned size = 1; !rc && size <= share; size *= 2) {
		struct frame frame = {.grid = *grid, .micro_batch_size = size};

		if (share % size ||
		    (request->micro_batch_size &&
		     request->micro_batch_size != size) ||
		    request->samples / size > MICRO_BATCHES_MAX)
			continue;
		for (int again = request->recompute; !rc && again < 2;
		     again++) {
			frame.recompute = again;
			bound_frame(f, &frame);
			rc = add_frame(f, &frame);
		}
	}
	return rc;
}

/*
 * Numbers of positions: as many as there are ranks for, and of fewer the least
 * that divides the blocks, with or without the ends, in as many to a rank.
 */
static bool is_worth(unsigned positions, unsigned most, unsigned blocks)
{
	if (positions == most)
		return true;
	for (unsigned layers = blocks; layers <= blocks + 2; layers++) {
		unsigned each = (layers + positions - 1) / positions;

		if (positions == (layers + each - 1) / each)
			return true;
	}
	return false;
}

static int add_positions(struct finding *f, unsigned replicas, unsigned slices)
{
	const struct suggest_request *request = f->request;
	unsigned blocks = model_config(request->model)->layers;
	unsigned most = ranks_of(request) / (replicas * slices);
	int rc = 0;

	most = MIN(most, model_layer_count(request->model));
	most = MIN(most, (unsigned)PARTITION_STAGES_MAX);
	for (unsigned p = 1; !rc && p <= most; p++) {
		struct grid grid = {replicas, p, slices};

		if (request->positions ? request->positions == p
				       : is_worth(p, most, blocks))
			rc = add_batches(f, &grid);
	}
	return rc;
}

static int add_frames(struct finding *f)
{
	const struct suggest_request *request = f->request;
	unsigned ranks = ranks_of(request);
	int rc = 0;

	for (unsigned t = 1; !rc && t <= MIN(request->slices_max, ranks);
	     t *= 2) {
		if (!heads_divide(request, t) ||
		    (request->slices && request->slices != t))
			continue;
		for (unsigned d = 1; !rc && d <= ranks / t; d++)
			if (request->samples % d == 0 &&
			    (!request->replicas || request->replicas == d))
				rc = add_positions(f, d, t);
	}
	return rc;
}

static int compare_numbers(double a, double b)
{
	return (a > b) - (a < b);
}

static int by_estimate(const void *a, const void *b)
{
	const struct frame *x = a, *y = b;
	int order = compare_numbers(x->estimate, y->estimate);

	if (order == 0)
		order = compare_numbers(x->bytes, y->bytes);
	return order ? order
		     : (int)x->micro_batch_size - (int)y->micro_batch_size;
}

static int by_bytes(const void *a, const void *b)
{
	const struct frame *x = a, *y = b;
	int order = compare_numbers(x->bytes, y->bytes);

	if (order == 0)
		order = (int)y->recompute - (int)x->recompute;
	return order ? order
		     : (int)x->micro_batch_size - (int)y->micro_batch_size;
}

/* ---- one candidate ---- */

/* Costs of the base, for other micro-batches; the caller's to costs_fini(). */
static int candidate_costs(const struct suggest_request *request,
			   const struct suggestion *s, struct costs *out)
{
	const struct costs *base = request->costs;
	double by =
		(double)s->micro_batch_size / MAX(base->micro_batch_size, 1u);

	*out = *base;
	out->rows = calloc(base->count, sizeof(*out->rows));
	if (!out->rows)
		return fail(-ENOMEM, "no memory for costs");
	for (unsigned i = 0; i < base->count; i++) {
		const struct layer *layer = model_layer(request->model, i);
		struct costs_row *row = &out->rows[i];

		*row = base->rows[i];
		if (s->recompute && layer->recomputable)
			row->input += row->forward;
		row->forward *= by;
		row->input *= by;
		row->weight *= by;
	}
	out->message_bytes *= by;
	out->micro_batch_size = s->micro_batch_size;
	if (s->grid.slices > request->host_ranks) {
		out->tensor_bandwidth = base->bandwidth;
		out->tensor_latency = base->latency;
	}
	return 0;
}

static unsigned rank_of_stage(const struct schedule_kind *kind, unsigned ranks,
			      unsigned stage)
{
	if (kind->placement == SCHEDULE_PLACEMENT_V)
		return stage < ranks ? stage : 2 * ranks - 1 - stage;
	return stage % ranks;
}

static int split(const struct costs *costs, const struct schedule_kind *kind,
		 const struct suggestion *s, struct partition *out)
{
	unsigned stages = s->grid.positions * s->chunks;
	double *total = calloc(costs->count, sizeof(*total));
	unsigned *rank_of = calloc(stages, sizeof(*rank_of));
	struct partition_problem problem = {
		.layers = costs->count,
		.stages = stages,
		.costs = total,
		.ranks = s->grid.positions,
		.rank_of_stage = rank_of,
	};
	struct partition_result result;
	int rc = total && rank_of ? 0
				  : fail(-ENOMEM, "no memory to split a model");

	for (unsigned i = 0; !rc && i < costs->count; i++)
		total[i] = costs->rows[i].forward + costs->rows[i].input +
			   costs->rows[i].weight;
	for (unsigned i = 0; !rc && i < stages; i++)
		rank_of[i] = rank_of_stage(kind, s->grid.positions, i);
	if (!rc)
		rc = partition_find(&problem, out, &result);
	free(total);
	free(rank_of);
	return rc;
}

static void fill_job(const struct suggest_request *request,
		     const struct suggestion *s, struct job *job)
{
	*job = *request->job;
	job->replicas = s->grid.replicas;
	job->ranks = s->grid.positions;
	job->slices = s->grid.slices;
	job->chunks = s->chunks;
	job->micro_batches = s->micro_batches;
	job->micro_batch_size = s->micro_batch_size;
	job->gradient_groups = s->grid.replicas;
	job->recompute = s->recompute;
	job->shard_optimizer = s->sharded;
	snprintf(job->schedule, sizeof(job->schedule), "%s", s->schedule);
}

/* The same, remembered; to search for it may take longer than to plan. */
static int find_split(struct finding *f, const struct costs *costs,
		      const struct suggestion *s, struct partition *out)
{
	const struct schedule_kind *kind = schedule_kind_find(s->schedule);
	struct known_split *splits;
	int rc;

	for (size_t i = 0; i < f->split_count; i++) {
		const struct known_split *known = &f->splits[i];

		if (known->positions == s->grid.positions &&
		    known->chunks == s->chunks &&
		    known->placement == kind->placement &&
		    known->recompute == s->recompute) {
			*out = known->partition;
			return 0;
		}
	}
	rc = split(costs, kind, s, out);
	if (rc)
		return rc;
	splits = realloc(f->splits, (f->split_count + 1) * sizeof(*splits));
	if (!splits)
		return fail(-ENOMEM, "no memory to split a model");
	f->splits = splits;
	splits[f->split_count++] = (struct known_split){
		.positions = s->grid.positions,
		.chunks = s->chunks,
		.placement = kind->placement,
		.recompute = s->recompute,
		.partition = *out,
	};
	return 0;
}

/* The plan of a suggestion, and its costs: the caller's to destroy both. */
static int make_plan(struct finding *f, const struct suggestion *s, bool brief,
		     struct costs *costs, struct plan **plan)
{
	const struct suggest_request *request = f->request;
	struct job *job = f->job;
	int rc = candidate_costs(request, s, costs);

	if (rc)
		return rc;
	fill_job(request, s, job);
	rc = find_split(f, costs, s, &job->partition);
	if (!rc)
		rc = brief ? plan_create_brief(job, request->model,
					       request->threads, plan)
			   : plan_create(job, request->model, request->threads,
					 plan);
	if (rc)
		costs_fini(costs);
	return rc;
}

static void read_plan(const struct plan *plan, struct suggestion *s)
{
	s->step = plan->step;
	s->tokens_per_second = plan->tokens_per_second;
	s->bubble = plan->bubble;
	s->summing = plan->rank[plan->summing_rank].summing;
	for (unsigned r = 0; r < plan->ranks; r++) {
		const struct plan_rank *rank = &plan->rank[r];

		s->sent_stages = MAX(s->sent_stages, (double)rank->sent.stages);
		s->sent_replicas =
			MAX(s->sent_replicas, (double)rank->sent.replicas);
		s->sent_slices = MAX(s->sent_slices, (double)rank->sent.slices);
	}
}

static int keep(struct finding *f, const struct suggestion *s)
{
	struct suggestions *out = f->out;

	if (out->count == f->fitting_room) {
		size_t room = MAX(2 * f->fitting_room, (size_t)64);
		struct suggestion *all =
			realloc(out->fitting, room * sizeof(*all));

		if (!all)
			return fail(-ENOMEM, "no memory for suggestions");
		out->fitting = all;
		f->fitting_room = room;
	}
	out->fitting[out->count++] = *s;
	return 0;
}

/* In brief, and in full where that may decide whether it fits. */
static int plan_well(struct finding *f, const struct suggestion *s,
		     struct costs *costs, struct plan **plan)
{
	int rc = make_plan(f, s, true, costs, plan);
	const struct plan_rank *largest;
	double total;

	if (rc)
		return rc;
	largest = &(*plan)->rank[(*plan)->largest_rank];
	total = (double)largest->total;
	if (total <= f->cap || total - (double)largest->unsure > f->cap)
		return 0;
	plan_destroy(*plan);
	costs_fini(costs);
	return make_plan(f, s, false, costs, plan);
}

static int plan_one(struct finding *f, struct suggestion *s, double *best)
{
	struct costs costs;
	struct plan *plan;
	int rc = plan_well(f, s, &costs, &plan);

	if (rc)
		return rc;
	f->out->planned++;
	f->effort -= EFFORT_OF_PLAN + (double)job_share(f->job) * plan->stages;
	s->rank_bytes = plan->rank[plan->largest_rank].total;
	if (!f->out->least.rank_bytes ||
	    s->rank_bytes < f->out->least.rank_bytes)
		f->out->least = *s;
	if ((double)s->rank_bytes > f->cap) {
		f->out->too_large++;
	} else {
		rc = plan_predict(plan, &costs, f->request->rates, 0);
		read_plan(plan, s);
		if (!rc)
			rc = keep(f, s);
		if (!rc && s->step < *best)
			*best = s->step;
	}
	plan_destroy(plan);
	costs_fini(&costs);
	return rc;
}

/* ---- the candidates of a frame ---- */

static bool is_over(const struct finding *f)
{
	return f->effort <= 0 || (f->request->any && f->out->count > 0);
}

static bool kind_is_wanted(const struct finding *f, const struct frame *frame,
			   size_t index)
{
	const struct schedule_kind *kind = schedule_kind_at(index);

	if (f->request->schedule)
		return strcmp(kind->name, f->request->schedule) == 0;
	return frame->grid.positions == 1 ? index == f->alone
					  : f->identical[index];
}

/* Is a sharded optimizer worth a look where an unsharded one fits? */
static bool shards_well(const struct finding *f, const struct frame *frame)
{
	const struct grid *grid = &frame->grid;
	double rate = replica_rate(f->request->costs);
	double part = costs_half_sum_bytes(grid->replicas, sizeof(float));

	/* The weights travel after the step, while none computes. */
	return rate <= 0 ||
	       f->request->rates->update * (1 - 1.0 / grid->replicas) >
		       part / rate / 2;
}

static int plan_sharding(struct finding *f, const struct frame *frame,
			 struct suggestion *s, double *best)
{
	size_t before = f->out->count;
	int rc = 0;

	if (!f->request->sharded)
		rc = plan_one(f, s, best);
	if (rc || frame->grid.replicas == 1 || is_over(f))
		return rc;
	if (f->out->count > before && !shards_well(f, frame))
		return 0;
	s->sharded = true;
	return plan_one(f, s, best);
}

static int try_chunks(struct finding *f, const struct frame *frame,
		      const struct schedule_kind *kind, unsigned chunks,
		      double *best)
{
	const struct suggest_request *request = f->request;
	unsigned stages = frame->grid.positions * chunks;
	unsigned share = request->samples / frame->grid.replicas /
			 frame->micro_batch_size;
	struct suggestion s = {
		.grid = frame->grid,
		.chunks = chunks,
		.micro_batches = share * frame->grid.replicas,
		.micro_batch_size = frame->micro_batch_size,
		.recompute = frame->recompute,
		.hosts = (grid_size(&frame->grid) + request->host_ranks - 1) /
			 request->host_ranks,
	};
	char why[256];

	if ((request->chunks && request->chunks != chunks) ||
	    stages > model_layer_count(request->model) ||
	    stages > PARTITION_STAGES_MAX ||
	    schedule_kind_check(kind, frame->grid.positions, share, chunks, why,
				sizeof(why)))
		return 0;
	snprintf(s.schedule, sizeof(s.schedule), "%s", kind->name);
	return plan_sharding(f, frame, &s, best);
}

static int try_kinds(struct finding *f, const struct frame *frame, double *best)
{
	int rc = 0;

	for (size_t k = 0; !rc && k < schedule_kind_count(); k++) {
		const struct schedule_kind *kind = schedule_kind_at(k);

		if (!kind_is_wanted(f, frame, k))
			continue;
		for (size_t c = 0; !rc && c < ARRAY_SIZE(chunks_tried); c++) {
			if (is_over(f))
				return 0;
			rc = try_chunks(f, frame, kind, chunks_tried[c], best);
		}
	}
	return rc;
}

/* The fastest found on a frame's grid with fewer sequences a micro-batch. */
static const struct suggestion *find_smaller(const struct finding *f,
					     const struct frame *frame)
{
	const struct suggestion *fastest = NULL;

	for (size_t i = 0; i < f->out->count; i++) {
		const struct suggestion *one = &f->out->fitting[i];

		if (one->grid.replicas == frame->grid.replicas &&
		    one->grid.positions == frame->grid.positions &&
		    one->grid.slices == frame->grid.slices &&
		    one->recompute == frame->recompute &&
		    one->micro_batch_size < frame->micro_batch_size &&
		    (!fastest || one->step < fastest->step))
			fastest = one;
	}
	return fastest;
}

/*
 * Larger micro-batches spare messages, and lengthen the bubble: which of the
 * two counts for more, the schedule tells that was best with smaller ones. Where
 * it gets faster, the others are tried as well.
 */
static int try_frame(struct finding *f, const struct frame *frame, double *best)
{
	const struct suggestion *smaller = find_smaller(f, frame);
	double before;
	size_t count;
	int rc;

	if (!smaller)
		return try_kinds(f, frame, best);
	before = smaller->step;
	count = f->out->count;
	rc = try_chunks(f, frame, schedule_kind_find(smaller->schedule),
			smaller->chunks, best);
	for (size_t i = count; !rc && i < f->out->count; i++)
		if (f->out->fitting[i].step < before)
			return try_kinds(f, frame, best);
	return rc;
}

static int try_frames(struct finding *f, double *best)
{
	int rc = 0;

	for (size_t i = 0; !rc && i < f->frame_count; i++) {
		const struct frame *frame = &f->frames[i];

		if (frame->bytes > f->cap || frame->bound > MARGIN * *best)
			continue;
		if (is_over(f)) {
			f->out->complete = f->request->any;
			break;
		}
		rc = try_frame(f, frame, best);
	}
	return rc;
}

/* So that something can be said of what would fit. */
static int try_least(struct finding *f, double *best)
{
	size_t most = MIN(f->frame_count, (size_t)GRIDS_LEAST);
	int rc = 0;

	qsort(f->frames, f->frame_count, sizeof(*f->frames), by_bytes);
	f->effort = MAX(f->effort, EFFORT / 4);
	for (size_t i = 0; !rc && i < most && !is_over(f); i++)
		rc = try_kinds(f, &f->frames[i], best);
	return rc;
}

/* ---- all of it ---- */

static int by_step(const void *a, const void *b)
{
	const struct suggestion *x = a, *y = b;
	int order = compare_numbers(x->step, y->step);

	if (order == 0)
		order = compare_numbers((double)x->rank_bytes,
					(double)y->rank_bytes);
	return order ? order : strcmp(x->schedule, y->schedule);
}

/* Properties of a schedule, which a small one shows as well as a large one. */
static int look_at_kind(struct finding *f, size_t index, unsigned *least)
{
	const struct schedule_kind *kind = schedule_kind_at(index);
	struct schedule_report report;
	struct schedule *schedule;
	char why[256];
	int rc = schedule_generate(kind->name, 4, 8, 0, &schedule);

	if (rc)
		return rc;
	rc = schedule_validate(schedule, SCHEDULE_BUFFERS_ANY, &report);
	f->identical[index] =
		!rc && report.bit_identical && !schedule->forward_only;
	schedule_report_fini(&report);
	schedule_destroy(schedule);
	if (rc || !f->identical[index] ||
	    schedule_kind_check(kind, 1, 8, 1, why, sizeof(why)))
		return rc;
	rc = schedule_generate(kind->name, 1, 8, 1, &schedule);
	if (rc)
		return rc;
	rc = schedule_validate(schedule, SCHEDULE_BUFFERS_ANY, &report);
	if (!rc && report.peak_of_rank[0] < *least) {
		*least = report.peak_of_rank[0];
		f->alone = index;
	}
	schedule_report_fini(&report);
	schedule_destroy(schedule);
	return rc;
}

static int look_at_kinds(struct finding *f)
{
	unsigned least = UINT32_MAX;
	int rc = 0;

	f->identical = calloc(schedule_kind_count(), sizeof(bool));
	if (!f->identical)
		return fail(-ENOMEM, "no memory to compare schedules");
	for (size_t k = 0; !rc && k < schedule_kind_count(); k++)
		rc = look_at_kind(f, k, &least);
	return rc;
}

/* What was planned in brief may need some KiB more than that said. */
static int confirm_first(struct finding *f)
{
	struct suggestions *out = f->out;

	while (out->count > 0) {
		struct suggestion *first = &out->fitting[0];
		struct costs costs;
		struct plan *plan;
		int rc = make_plan(f, first, false, &costs, &plan);

		if (rc)
			return rc;
		first->rank_bytes = plan->rank[plan->largest_rank].total;
		plan_destroy(plan);
		costs_fini(&costs);
		if ((double)first->rank_bytes <= f->cap)
			return 0;
		if (out->count == 1)
			out->least = *first;
		memmove(first, first + 1, --out->count * sizeof(*first));
		out->too_large++;
	}
	return 0;
}

static int search(struct finding *f)
{
	double best = 1e300;
	int rc = look_at_kinds(f);

	if (rc)
		return rc;
	weigh_model(f);
	rc = add_frames(f);
	if (rc)
		return rc;
	f->out->considered = f->frame_count;
	if (f->frame_count == 0)
		return fail(
			-EINVAL,
			"no grid of %u ranks divides a batch of %u sequences as asked for",
			ranks_of(f->request), f->request->samples);
	qsort(f->frames, f->frame_count, sizeof(*f->frames),
	      f->request->any ? by_bytes : by_estimate);
	rc = try_frames(f, &best);
	if (!rc && f->out->count == 0 && !f->request->any)
		rc = try_least(f, &best);
	if (rc)
		return rc;
	if (f->out->planned == 0)
		return fail(
			-EINVAL,
			"no schedule exists on %u ranks with a batch of %u sequences as asked for",
			ranks_of(f->request), f->request->samples);
	qsort(f->out->fitting, f->out->count, sizeof(*f->out->fitting),
	      by_step);
	return confirm_first(f);
}

int suggest_find(const struct suggest_request *request, struct suggestions *out)
{
	struct finding f = {
		.request = request,
		.out = out,
		.job = malloc(sizeof(*f.job)),
		.cap = request->memory / request->host_ranks,
		.effort = request->effort > 0 ? request->effort : EFFORT,
	};
	int rc;

	*out = (struct suggestions){.complete = true};
	rc = f.job ? search(&f) : fail(-ENOMEM, "no memory for a job");
	free(f.splits);
	free(f.identical);
	free(f.frames);
	free(f.job);
	if (rc)
		suggestions_fini(out);
	return rc;
}

void suggestions_fini(struct suggestions *suggestions)
{
	free(suggestions->fitting);
	*suggestions = (struct suggestions){0};
}

int suggest_explain(const struct suggest_request *request, bool full,
		    struct suggestion *suggestion)
{
	struct finding f = {
		.request = request,
		.job = malloc(sizeof(*f.job)),
	};
	struct costs costs;
	struct plan *plan;
	int rc = f.job ? make_plan(&f, suggestion, !full, &costs, &plan)
		       : fail(-ENOMEM, "no memory for a job");

	if (!rc) {
		suggestion->rank_bytes = plan->rank[plan->largest_rank].total;
		rc = plan_predict(plan, &costs, request->rates, 0);
		read_plan(plan, suggestion);
		if (!rc)
			rc = plan_explain(plan, &costs, request->rates,
					  &suggestion->parts);
		plan_destroy(plan);
		costs_fini(&costs);
	}
	free(f.splits);
	free(f.job);
	return rc;
}
