#include "engine/pipeline.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/log.h"
#include "engine/ahead.h"
#include "engine/collective.h"
#include "engine/ferry.h"
#include "engine/flights.h"
#include "engine/interpreter.h"
#include "engine/reducer.h"
#include "engine/shards.h"
#include "engine/trace.h"
#include "engine/vote.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define AHEAD_MINIMUM 2

bool pipeline_holds(const struct pipeline *p, unsigned stage)
{
	return p->forward_schedule->rank_of_stage[stage] == p->place.position;
}

unsigned pipeline_rank_with(const struct pipeline *p, unsigned stage)
{
	return grid_rank(&p->grid, p->place.replica,
			 p->forward_schedule->rank_of_stage[stage],
			 p->place.slice);
}

/* Of this rank's tensor group. */
static unsigned group_rank(const struct pipeline *p, unsigned slice)
{
	return grid_rank(&p->grid, p->place.replica, p->place.position, slice);
}

static unsigned stage_count(const struct pipeline *p)
{
	return p->partition->stages;
}

void pipeline_holders(const struct pipeline *p, struct holders *out)
{
	*out = (struct holders){
		.partition = p->partition,
		.position_of_stage = p->forward_schedule->rank_of_stage,
	};
	out->parameters = model_parameters(p->model, &out->count);
	if (p->shards)
		out->shards = shards_ranges(p->shards);
}

bool pipeline_holds_loss(const struct pipeline *p)
{
	return pipeline_holds(p, stage_count(p) - 1);
}

uint64_t pipeline_share_samples(const struct pipeline *p)
{
	return (uint64_t)p->share * p->job->micro_batch_size;
}

/* Of one replica's column. */
static size_t column_elements(const struct pipeline *p)
{
	return (size_t)pipeline_share_samples(p) * p->job->context;
}

struct pipeline_batch *pipeline_batch(const struct pipeline *p,
				      unsigned replica)
{
	return (struct pipeline_batch *)((unsigned char *)p->batch +
					 replica * p->batch_stride);
}

int32_t *pipeline_labels(const struct pipeline *p, unsigned replica)
{
	return pipeline_batch(p, replica)->columns;
}

int32_t *pipeline_starts(const struct pipeline *p, unsigned replica)
{
	return p->job->packed ? pipeline_labels(p, replica) + column_elements(p)
			      : NULL;
}

int32_t *pipeline_tokens(const struct pipeline *p, unsigned replica)
{
	size_t before = p->job->packed ? 2 : 1;

	return pipeline_labels(p, replica) + before * column_elements(p);
}

void pipeline_set_supervised(struct pipeline *p, uint64_t supervised)
{
	for (unsigned d = 0; d < p->grid.replicas; d++)
		pipeline_batch(p, d)->supervised = supervised;
}

/* ---- schedules ---- */

/*
 * What the tie's ends exchange for this replica: both cut a tied parameter
 * alike, so that the plan of the first one's stage tells.
 */
static int cut_tie(struct pipeline *p, unsigned target)
{
	unsigned stage = p->tie.first_stage;
	struct reduction_config config = {
		.model = p->model,
		.partition = p->partition,
		.stages = &stage,
		.stage_count = 1,
		.replicas = p->grid.replicas,
	};
	unsigned replica = p->place.replica;
	struct reduction *reduction;
	int rc = reduction_create(&config, &reduction);

	if (rc)
		return rc;
	p->tie_pieces = reduction_tie_count(reduction, replica, target);
	p->tie_runs = calloc(MAX(p->tie_pieces, 1), sizeof(*p->tie_runs));
	if (p->tie_runs)
		reduction_tie_pieces(reduction, replica, target, p->tie_runs);
	else
		rc = fail(-ENOMEM, "no memory for the pipeline");
	reduction_destroy(reduction);
	return rc;
}

static int find_tie(struct pipeline *p)
{
	unsigned count;
	const struct parameter *all = model_parameters(p->model, &count);

	for (unsigned i = 0; i < count; i++) {
		const struct parameter *target;

		if (all[i].tied_to == PARAMETER_NOT_TIED || !all[i].trainable)
			continue;
		target = &all[all[i].tied_to];
		p->tie = (struct schedule_tie){
			.first_stage = (uint16_t)partition_stage_of(
				p->partition, target->layer),
			.second_stage = (uint16_t)partition_stage_of(
				p->partition, all[i].layer),
		};
		p->tie_count = 1;
		if (job_kind_trains(p->job->kind) && p->grid.replicas == 1 &&
		    p->grid.slices == 1)
			tie_plan_rows(target,
				      pipeline_share_samples(p) *
					      p->job->context,
				      &p->tie_plan);
		return p->brief ? 0 : cut_tie(p, target->id);
	}
	return 0;
}

/*
 * Groups of micro-batches are summed as a tree while they end one by one,
 * which takes them in ascending order.
 */
static int check_order(const struct pipeline *p,
		       const struct schedule *schedule,
		       const struct schedule_report *report)
{
	if (p->accumulation.groups == 1 || schedule->forward_only ||
	    report->bit_identical)
		return 0;
	return fail(-EINVAL,
		    "schedule %s cannot run with --gradient-groups %u: %s",
		    schedule->name, p->accumulation.groups, report->bit_reason);
}

static int validate(const struct pipeline *p, const struct schedule *schedule,
		    unsigned *ahead)
{
	struct schedule_report report;
	int rc = schedule_validate(schedule, SCHEDULE_BUFFERS_ANY, &report);

	if (rc == -EINVAL)
		fail(rc, "schedule %s: %s", schedule->name,
		     report.reason ? report.reason : "is not valid");
	if (!rc)
		rc = check_order(p, schedule, &report);
	if (!rc)
		*ahead = MAX(*ahead, report.buffers_full_speed);
	schedule_report_fini(&report);
	return rc;
}

/*
 * The job's schedule, or for a job that does not train the forward pass. `text`
 * is that of the file, where it came with the job.
 */
static int open_schedule(const struct pipeline *p, const char *name,
			 const char *text, struct schedule **out)
{
	const struct job *job = p->job;
	struct schedule *schedule;
	int rc = text ? schedule_open_text(text, strlen(text), name, job->ranks,
					   p->share, job->chunks,
					   SCHEDULE_DIALECT_AUTO, &schedule)
		      : schedule_open(name, job->ranks, p->share, job->chunks,
				      SCHEDULE_DIALECT_AUTO, &schedule);

	if (rc)
		return rc;
	if (job_kind_trains(job->kind) && schedule->forward_only)
		rc = fail(-EINVAL,
			  "schedule %s has no backward: it cannot train",
			  schedule->name);
	else if (schedule->ranks != job->ranks)
		rc = fail(-EINVAL, "schedule %s is for %u ranks, not for %u",
			  schedule->name, schedule->ranks, job->ranks);
	else if (schedule->micro_batches != p->share)
		rc = fail(
			-EINVAL,
			"schedule %s is for %u micro-batches, each replica has %u",
			schedule->name, schedule->micro_batches, p->share);
	else if (schedule->stages != p->partition->stages)
		rc = fail(
			-EINVAL,
			"schedule %s has %u stages, the model is split into %u",
			schedule->name, schedule->stages, p->partition->stages);
	if (rc)
		schedule_destroy(schedule);
	else
		*out = schedule;
	return rc;
}

/*
 * Messages are placed anew, also for a file that has some: the engine sends
 * where the data are born, and receives ahead.
 */
static int lower(struct pipeline *p, const struct schedule *schedule,
		 bool train, struct schedule **out)
{
	struct schedule_lowering lowering = {
		.ties = &p->tie, .tie_count = p->tie_count, .train = train};
	struct schedule *part, *lowered;
	int rc = train ? schedule_compute_part(schedule, &part)
		       : schedule_forward_part(schedule, &part);

	if (rc)
		return rc;
	rc = schedule_lower(part, &lowering, &lowered);
	schedule_destroy(part);
	if (rc)
		return rc;
	rc = validate(p, lowered, &p->ahead);
	if (rc)
		schedule_destroy(lowered);
	else
		*out = lowered;
	return rc;
}

/* Evaluation between the steps has the placement of the training. */
static int open_schedules(struct pipeline *p)
{
	bool train = job_kind_trains(p->job->kind);
	struct schedule *schedule;
	int rc = find_tie(p);

	if (rc)
		return rc;
	p->ahead = AHEAD_MINIMUM;
	rc = open_schedule(p, train ? p->job->schedule : "forward",
			   train ? p->job->schedule_text : NULL, &schedule);
	if (rc)
		return rc;
	rc = lower(p, schedule, false, &p->forward_schedule);
	if (!rc && train)
		rc = lower(p, schedule, true, &p->train_schedule);
	schedule_destroy(schedule);
	return rc;
}

/* ---- reductions ---- */

const struct reduction *pipeline_reduction(const struct pipeline *p)
{
	return p->reductions ? p->reductions[p->place.position] : NULL;
}

/* The root knows what every rank keeps of the optimizer's state. */
static int create_reductions(struct pipeline *p)
{
	int rc = 0;

	if (!p->train_schedule)
		return 0;
	p->reductions = calloc(p->grid.positions, sizeof(*p->reductions));
	if (!p->reductions)
		return fail(-ENOMEM, "no memory for the pipeline");
	for (unsigned i = 0; !rc && i < p->grid.positions; i++)
		if (i == p->place.position || p->world->rank == ROUTE_ROOT)
			rc = reduction_create_at(
				p->model, p->partition, p->train_schedule, i,
				p->grid.replicas, p->job->shard_optimizer,
				&p->reductions[i]);
	return rc;
}

static void destroy_reductions(struct pipeline *p)
{
	for (unsigned i = 0; p->reductions && i < p->grid.positions; i++)
		reduction_destroy(p->reductions[i]);
	free(p->reductions);
}

/* ---- routes and links ---- */

void pipeline_route_config(const struct pipeline *p, bool train,
			   struct route_config *out)
{
	*out = (struct route_config){
		.schedule = train ? p->train_schedule : p->forward_schedule,
		.grid = p->grid,
		.rank = p->world->rank,
		.needs_batch = p->needs_batch,
		.votes = train,
		.result = !train && p->job->kind != JOB_GENERATE,
		.token = p->job->kind == JOB_GENERATE,
		.ties = &p->tie,
		.tie_pieces = &p->tie_pieces,
		.tie_rows =
			p->tie_plan.by_rows ? &p->tie_plan.row_messages : NULL,
		.tie_count = p->tie_count,
		.reduction = train ? pipeline_reduction(p) : NULL,
	};
}

static int create_routes(struct pipeline *p)
{
	struct route_config config;
	int rc;

	p->needs_batch = calloc(p->grid.positions, sizeof(bool));
	p->needs_tokens = calloc(p->grid.positions, sizeof(bool));
	if (!p->needs_batch || !p->needs_tokens)
		return fail(-ENOMEM, "no memory for the pipeline");
	for (unsigned i = 0; i < model_layer_count(p->model); i++) {
		unsigned stage = partition_stage_of(p->partition, i);
		unsigned position = p->forward_schedule->rank_of_stage[stage];
		unsigned columns = model_layer(p->model, i)->columns;

		if (!p->job->packed)
			columns &= ~COLUMN_BIT(COLUMN_SEGMENTS);
		p->needs_batch[position] |= columns != 0;
		p->needs_tokens[position] |=
			(columns & COLUMN_BIT(COLUMN_TOKENS)) != 0;
	}
	/* Both ends of a tie know which rows the tokens touch. */
	if (p->tie_plan.by_rows)
		p->needs_tokens[p->forward_schedule
					->rank_of_stage[p->tie.second_stage]] =
			true;
	/* In generation the batch also says when to stop. */
	for (unsigned r = 0; r < p->grid.positions; r++)
		p->needs_batch[r] |= p->job->kind == JOB_GENERATE;
	pipeline_route_config(p, false, &config);
	rc = ahead_find(&config, p->ahead, &p->ahead);
	if (!rc)
		rc = route_create(&config, &p->forward_route);
	if (rc || !p->train_schedule)
		return rc;
	pipeline_route_config(p, true, &config);
	rc = ahead_find(&config, p->ahead, &p->ahead);
	return rc ? rc : route_create(&config, &p->train_route);
}

/* What both ends of a link must share: the job and how it is lowered. */
static int fingerprint(const struct pipeline *p,
		       unsigned char out[TRANSPORT_FINGERPRINT_BYTES])
{
	const struct schedule *schedule =
		p->train_schedule ? p->train_schedule : p->forward_schedule;
	char hex[DIGEST_HEX_BYTES];
	char *job = json_dumps(p->world->job, JSON_SORT_KEYS | JSON_COMPACT);
	char *text = schedule_text(schedule);
	struct digest *digest;
	int rc = -ENOMEM;

	if (!job || !text) {
		fail(rc, "no memory for the handshake");
		goto out;
	}
	rc = digest_create(&digest);
	if (rc)
		goto out;
	digest_update(digest, job, strlen(job));
	digest_update(digest, text, strlen(text));
	digest_finish(digest, hex);
	digest_destroy(digest);
	memcpy(out, hex, TRANSPORT_FINGERPRINT_BYTES);
out:
	free(job);
	free(text);
	return rc;
}

/* The other slices of the same layers. */
static void mark_group(const struct pipeline *p, bool *marked)
{
	for (unsigned s = 0; s < p->grid.slices; s++)
		if (s != p->place.slice)
			marked[group_rank(p, s)] = true;
}

static int connect_links(struct pipeline *p)
{
	unsigned char print[TRANSPORT_FINGERPRINT_BYTES];
	unsigned size = p->world->size, count = 0;
	bool *marked = calloc(size, sizeof(*marked));
	unsigned *peers = calloc(size, sizeof(*peers));
	struct route_config config;
	int rc = -ENOMEM;

	if (!marked || !peers) {
		fail(rc, "no memory for %u peers", size);
		goto out;
	}
	pipeline_route_config(p, false, &config);
	route_mark_peers(&config, marked);
	if (p->train_schedule) {
		pipeline_route_config(p, true, &config);
		route_mark_peers(&config, marked);
	}
	mark_group(p, marked);
	for (unsigned r = 0; r < size; r++)
		if (marked[r])
			peers[count++] = r;
	rc = fingerprint(p, print);
	if (!rc)
		rc = world_connect(p->world, peers, count, print);
out:
	free(marked);
	free(peers);
	return rc;
}

/* ---- memory ---- */

static int create_store(struct pipeline *p)
{
	unsigned layers = model_layer_count(p->model);
	bool *holds = calloc(layers, sizeof(*holds));
	struct store_config config = {.model = p->model, .holds_layer = holds};
	int rc;

	if (!holds)
		return fail(-ENOMEM, "no memory for the parameter table");
	for (unsigned i = 0; i < layers; i++)
		holds[i] =
			pipeline_holds(p, partition_stage_of(p->partition, i));
	if (p->train_schedule) {
		config.levels = accumulation_levels(&p->accumulation);
		config.moments = optimizer_moments(&p->job->optimizer);
		config.reduction = pipeline_reduction(p);
		config.replica = p->place.replica;
	}
	rc = store_create(&config, &p->store);
	free(holds);
	return rc;
}

/* Two neighbouring stages between which messages pass. */
bool pipeline_has_link(const struct pipeline *p, unsigned from, unsigned to)
{
	const unsigned *rank_of = p->forward_schedule->rank_of_stage;

	return from < stage_count(p) && to < stage_count(p) &&
	       rank_of[from] != rank_of[to];
}

/* Those in use, and those posted ahead; at most one a micro-batch. */
static unsigned message_slots(const struct pipeline *p, unsigned stage,
			      unsigned from, unsigned in_use)
{
	unsigned ahead = pipeline_has_link(p, from, stage) ? p->ahead : 0;

	return MIN(in_use + ahead, p->share);
}

void pipeline_stage_config(const struct pipeline *p, unsigned stage,
			   struct stage_config *out)
{
	const struct job *job = p->job;
	struct flights flights, more;

	flights_count(p->forward_schedule, stage, &flights);
	if (p->train_schedule) {
		flights_count(p->train_schedule, stage, &more);
		flights_merge(&flights, &more);
	}
	*out = (struct stage_config){
		.model = p->model,
		.store = p->store,
		.index = stage,
		.first_layer = p->partition->first[stage],
		.end_layer = p->partition->first[stage + 1],
		.batch = job->micro_batch_size,
		.time = job->context,
		.prompt = job->prompt_count,
		.micro_batches = p->share,
		.threads = p->world->team,
		.accumulation = p->accumulation,
		.training = p->train_schedule != NULL,
		.decoding = job->kind == JOB_GENERATE,
		.recompute = job->recompute,
		.split_backward = flights.split_backward,
		.activations = flights.activations,
		.pendings = flights.pendings,
		.inputs = message_slots(p, stage, stage - 1, flights.inputs),
		.output_gradients = message_slots(p, stage, stage + 1,
						  flights.output_gradients),
	};
}

/* Cuts one region into pieces; with base NULL it only adds up. */
struct cutter {
	unsigned char *base;
	size_t used;
};

static void *cut(struct cutter *cutter, size_t bytes)
{
	void *piece = cutter->base ? cutter->base + cutter->used : NULL;

	cutter->used += arena_piece_bytes(bytes);
	return piece;
}

static void cut_sender(struct cutter *cutter, struct pipeline_sender *sender,
		       size_t bytes)
{
	for (unsigned i = 0; i < PIPELINE_OUTGOING; i++)
		sender->slots[i].own = cut(cutter, bytes);
}

/* Only the two ranks that share a tied parameter stage its pieces. */
static size_t tie_staging_bytes(const struct pipeline *p)
{
	const unsigned *rank_of = p->train_schedule->rank_of_stage;
	unsigned first = rank_of[p->tie.first_stage];
	unsigned second = rank_of[p->tie.second_stage];
	bool shares = p->place.position == first || p->place.position == second;

	if (p->tie_count == 0 || first == second || !shares)
		return 0;
	if (p->tie_plan.by_rows)
		return tie_region_bytes(&p->tie_plan,
					p->place.position == first);
	return p->ahead * REDUCTION_TIE_PIECE_BYTES;
}

/*
 * The root has one for all it serves, and each of those has one. Adapters are
 * read by the root for all.
 */
static bool needs_ferry(const struct pipeline *p)
{
	bool needs = p->world->size > 1 && p->job->config.adapters.rank > 0;

	for (unsigned r = 0; r < p->world->size; r++)
		if (r == p->world->rank || p->world->rank == ROUTE_ROOT)
			needs |= !p->reach.reads[r] || !p->reach.writes[r];
	return needs;
}

/* Losses of one replica's pass: by micro-batch, or by sample. */
static size_t result_bytes(const struct pipeline *p)
{
	size_t each = job_scores(p->job) ? p->job->micro_batch_size : 1;

	return p->share * each * sizeof(double);
}

/* Everything messages are read from or written to, but the accumulators. */
static int cut_region(struct pipeline *p, struct cutter *cutter)
{
	unsigned batches = p->world->rank == ROUTE_ROOT ? p->grid.replicas : 1;
	bool create = cutter->base != NULL;
	int rc = 0;

	p->batch_stride =
		arena_piece_bytes(sizeof(*p->batch) +
				  (p->job->packed ? 3 : 2) *
					  column_elements(p) * sizeof(int32_t));
	p->batch = cut(cutter, batches * p->batch_stride);
	for (unsigned s = 0; !rc && s < stage_count(p); s++) {
		struct stage_config config;
		struct stage_sizes sizes;
		void *messages;

		if (!pipeline_holds(p, s))
			continue;
		pipeline_stage_config(p, s, &config);
		stage_sizes(&config, &sizes);
		messages = cut(cutter, sizes.message_region_bytes);
		if (pipeline_has_link(p, s, s + 1))
			cut_sender(cutter, &p->forward_senders[s],
				   sizes.output_bytes);
		else if (s + 1 == stage_count(p))
			p->logits = cut(cutter, sizes.output_bytes);
		if (pipeline_has_link(p, s, s - 1))
			cut_sender(cutter, &p->backward_senders[s],
				   sizes.input_gradient_bytes);
		if (create)
			rc = stage_create(&config, messages, &p->stages[s]);
	}
	p->result = cut(cutter, p->grid.replicas * result_bytes(p));
	p->losses = cut(cutter, p->grid.replicas * result_bytes(p));
	p->token = cut(cutter, sizeof(int32_t));
	if (needs_ferry(p))
		p->ferry_memory = cut(cutter, FERRY_BYTES);
	p->collective_memory =
		cut(cutter, collective_region_bytes(p->grid.slices));
	if (!p->train_schedule || rc)
		return rc;
	p->tie_staging = cut(cutter, tie_staging_bytes(p));
	if (p->brief)
		return 0;
	p->reducer_memory =
		cut(cutter, reducer_region_bytes(pipeline_reduction(p),
						 p->place.replica, p->ahead));
	{
		void *votes = cut(cutter, vote_region_bytes(p));

		if (create)
			rc = vote_create(p, votes, &p->vote);
	}
	return rc;
}

static int create_tables(struct pipeline *p)
{
	p->stages = calloc(stage_count(p), sizeof(*p->stages));
	p->forward_senders =
		calloc(stage_count(p), sizeof(*p->forward_senders));
	p->backward_senders =
		calloc(stage_count(p), sizeof(*p->backward_senders));
	p->batch_busy = calloc(p->world->size, sizeof(bool));
	if (!p->stages || !p->forward_senders || !p->backward_senders ||
	    !p->batch_busy)
		return fail(-ENOMEM, "no memory for the pipeline");
	return 0;
}

size_t pipeline_region_bytes(struct pipeline *p)
{
	struct cutter cutter = {0};

	(void)!cut_region(p, &cutter); /* cannot fail without memory to cut */
	return cutter.used;
}

static int create_region(struct pipeline *p)
{
	struct cutter cutter = {0};
	void *base;
	int rc = transport_create_region(p->world->endpoint,
					 pipeline_region_bytes(p), &base);

	if (rc)
		return rc;
	p->region = base;
	cutter.base = base;
	return cut_region(p, &cutter);
}

static int create_collective(struct pipeline *p)
{
	struct collective_config config = {
		.exchange = p->exchange,
		.threads = p->world->team,
		.slices = p->grid.slices,
		.slice = p->place.slice,
		.first_rank = group_rank(p, 0),
		.memory = p->collective_memory,
	};

	return collective_create(&config, &p->collective);
}

static int register_arena(struct pipeline *p, const struct arena *arena,
			  size_t bytes)
{
	int rc = 0;

	if (bytes)
		rc = transport_register(p->world->endpoint, arena->base, bytes);
	if (!rc && bytes)
		p->registered[p->registered_count++] = arena->base;
	return rc;
}

/*
 * Gradients leave from the accumulators themselves, and weights from where they
 * are: those that other replicas, or the other end of a tie, have a part in.
 */
static int register_sums(struct pipeline *p)
{
	struct store *store = p->store;
	bool shares = p->grid.replicas > 1;
	int rc = 0;

	if (!p->train_schedule)
		return 0;
	for (unsigned i = 0; i < store->count; i++)
		shares |= store->rows[i].elsewhere &&
			  store->rows[i].parameter->trainable;
	if (shares)
		rc = register_arena(p, &store->gradient_arena,
				    store->level_bytes);
	if (!rc && shares)
		rc = register_arena(p, &store->sum_arena,
				    store->sum_arena.used_bytes);
	if (!rc && p->grid.replicas > 1 && p->job->shard_optimizer)
		rc = register_arena(p, &store->weight_arena,
				    store->weight_arena.used_bytes);
	return rc;
}

static int create_reducer(struct pipeline *p)
{
	struct reducer_config config = {
		.plan = pipeline_reduction(p),
		.replica = p->place.replica,
		.store = p->store,
		.route = p->train_route,
		.exchange = p->exchange,
		.threads = p->world->team,
		.ahead = p->ahead,
		.memory = p->reducer_memory,
	};
	unsigned *ranks;
	int rc;

	if (!p->train_schedule)
		return 0;
	ranks = calloc(p->grid.replicas, sizeof(*ranks));
	if (!ranks)
		return fail(-ENOMEM, "no memory for the pipeline");
	for (unsigned d = 0; d < p->grid.replicas; d++)
		ranks[d] = grid_rank(&p->grid, d, p->place.position,
				     p->place.slice);
	config.ranks = ranks;
	rc = reducer_create(&config, &p->reducer);
	free(ranks);
	return rc;
}

/* Replicas, whose reducer has work of its own, exchange whole shards. */
static int create_tie(struct pipeline *p)
{
	if (!p->train_schedule || !p->tie_plan.by_rows ||
	    tie_staging_bytes(p) == 0)
		return 0;
	return tie_create(p, p->tie_staging, &p->tied);
}

/* ---- the messages' sizes and fixed places ---- */

size_t pipeline_batch_bytes(const struct pipeline *p, unsigned position)
{
	size_t columns = (p->job->packed ? 2 : 1) + p->needs_tokens[position];

	return sizeof(*p->batch) +
	       columns * column_elements(p) * sizeof(int32_t);
}

/* Of a replica's losses: where the root keeps them. */
static double *result_of(const struct pipeline *p, unsigned rank)
{
	return p->result + grid_place(&p->grid, rank).replica *
				   (result_bytes(p) / sizeof(double));
}

size_t pipeline_edge_bytes(const struct pipeline *p,
			   const struct message *message)
{
	const unsigned *first = p->partition->first;
	unsigned stage = message->stage;

	if (message->kind == MESSAGE_FORWARD)
		return edge_bytes(&model_layer(p->model, first[stage])->input,
				  p->pass.batch, p->pass.time);
	return edge_gradient_bytes(
		&model_layer(p->model, first[stage + 1u] - 1)->output,
		p->pass.batch, p->pass.time);
}

/* Pieces of the head's gradient, or rows of the embedding's. */
static void dress_rows(const struct pipeline *p, struct message *message)
{
	unsigned index = message->micro_batch;

	message->bytes = pipeline_holds(p, p->tie.first_stage)
				 ? p->tie_runs[index].count * sizeof(float)
				 : tie_row_bytes(&p->tie_plan, index);
	message->data = tie_slot(p->tie_staging, index);
	message->ahead = TIE_AHEAD;
}

static void dress_message(const struct pipeline *p, struct message *message)
{
	switch (message->kind) {
	case MESSAGE_BATCH:
		message->bytes = pipeline_batch_bytes(p, p->place.position);
		message->data = p->batch;
		break;
	case MESSAGE_FORWARD:
	case MESSAGE_BACKWARD:
		message->bytes = pipeline_edge_bytes(p, message);
		break;
	case MESSAGE_TIED:
		if (p->tie_plan.by_rows) {
			dress_rows(p, message);
			break;
		}
		message->bytes =
			p->tie_runs[message->micro_batch].count * sizeof(float);
		message->data =
			p->tie_staging + (message->micro_batch % p->ahead) *
						 REDUCTION_TIE_PIECE_BYTES;
		break;
	case MESSAGE_VOTE:
		message->bytes = vote_bytes(p, message->peer);
		message->data = vote_ballot(p->vote, message->peer);
		break;
	case MESSAGE_VERDICT:
		message->bytes = sizeof(struct verdict);
		message->data = vote_verdict_memory(p->vote);
		break;
	case MESSAGE_RESULT:
		message->bytes = result_bytes(p);
		message->data = result_of(p, message->peer);
		break;
	case MESSAGE_TOKEN:
		message->bytes = sizeof(int32_t);
		message->data = p->token;
		break;
	case MESSAGE_REDUCE: /* by reducer_create() */
	case MESSAGE_SLICE:  /* these are in no route */
	case MESSAGE_PIECE:
		break;
	}
}

void pipeline_dress(struct pipeline *p, struct route *route)
{
	for (unsigned i = 0; i < route->inbox_count; i++)
		for (unsigned m = 0; m < route->inboxes[i].count; m++)
			dress_message(p, &route->inboxes[i].messages[m]);
}

static void *place_message(void *argument, const struct message *message)
{
	struct pipeline *p = argument;
	struct stage *stage = p->stages[message->stage];

	if (message->kind == MESSAGE_FORWARD)
		return stage_claim_input(stage, message->micro_batch);
	return stage_claim_output_gradient(stage, message->micro_batch);
}

/* ---- the trace ---- */

static int create_trace(struct pipeline *p)
{
	unsigned layers = model_layer_count(p->model);
	bool *holds;
	int rc;

	if (!p->train_schedule || p->job->trace_steps == 0)
		return 0;
	holds = calloc(layers, sizeof(*holds));
	if (!holds)
		return fail(-ENOMEM, "no memory for the trace");
	for (unsigned i = 0; i < layers; i++)
		holds[i] =
			pipeline_holds(p, partition_stage_of(p->partition, i));
	rc = trace_create(p->job->trace_steps,
			  p->train_schedule->rows[p->place.position].count,
			  layers, holds, &p->trace);
	free(holds);
	return rc;
}

/* ---- life ---- */

/*
 * The numbers come from a user by way of the control channel: what is
 * impossible must not get as far as an ASSERT or an overflow.
 */
static int check_job(const struct world *world, const struct job *job,
		     const struct model *model)
{
	const struct model_config *config = model_config(model);
	uint64_t tokens = (uint64_t)job->micro_batch_size * job->context;
	struct grid grid = job_grid(job);

	if (grid_size(&grid) != world->size)
		return fail(-EINVAL, "the job is for %u ranks, here are %u",
			    grid_size(&grid), world->size);
	if (job->context == 0 || job->context > config->context)
		return fail(-EINVAL,
			    "--context %u: the model has positions for 1 to %u",
			    job->context, config->context);
	if (job->micro_batches == 0 ||
	    job->micro_batches > SCHEDULE_MAX_MICRO_BATCHES)
		return fail(-EINVAL, "--micro-batches must be 1 to %d, not %u",
			    SCHEDULE_MAX_MICRO_BATCHES, job->micro_batches);
	if (tokens == 0 || tokens > INT32_MAX)
		return fail(
			-EINVAL,
			"a micro-batch of %u samples of %u tokens is not possible",
			job->micro_batch_size, job->context);
	if (job->partition.first[job->partition.stages] !=
	    model_layer_count(model))
		return fail(-EINVAL, "the split is for %u layers, not for %u",
			    job->partition.first[job->partition.stages],
			    model_layer_count(model));
	if (job->kind == JOB_GENERATE &&
	    (job->micro_batches != 1 || job->micro_batch_size != 1 ||
	     job->prompt_count == 0 || job->prompt_count > job->context))
		return fail(-EINVAL,
			    "generation takes one prompt of 1 to %u tokens",
			    job->context);
	for (unsigned i = 0; i < job->prompt_count; i++)
		if (job->prompt[i] < 0 ||
		    (unsigned)job->prompt[i] >= config->vocab_size)
			return fail(
				-EINVAL,
				"token %d of the prompt is not in the model's vocabulary of %u",
				job->prompt[i], config->vocab_size);
	return 0;
}

static int sketch(struct world *world, const struct job *job,
		  const struct model *model, bool brief, struct pipeline **out)
{
	struct pipeline *p = calloc(1, sizeof(*p));
	int rc;

	if (!p)
		return fail(-ENOMEM, "no memory for the pipeline");
	p->world = world;
	p->brief = brief;
	p->job = job;
	p->model = model;
	p->partition = &job->partition;
	p->grid = job_grid(job);
	p->place = grid_place(&p->grid, world->rank);
	p->share = job_share(job);
	p->accumulation = (struct accumulation){
		.micro_batches = p->share,
		.groups = MAX(job->gradient_groups, 1) / p->grid.replicas,
	};
	p->pass.batch = job->micro_batch_size;
	p->pass.time = job->context;
	rc = check_job(world, job, model);
	if (!rc)
		rc = job_check_shares(job);
	if (!rc)
		rc = accumulation_check(&p->accumulation);
	if (!rc)
		rc = reach_assume(job, world->size, &p->reach);
	if (!rc)
		rc = open_schedules(p);
	if (!rc && !brief)
		rc = create_reductions(p);
	if (!rc && !brief)
		rc = create_routes(p);
	if (!rc)
		rc = create_tables(p);
	if (rc)
		pipeline_destroy(p);
	else
		*out = p;
	return rc;
}

int pipeline_sketch(struct world *world, const struct job *job,
		    const struct model *model, struct pipeline **out)
{
	return sketch(world, job, model, false, out);
}

int pipeline_sketch_brief(struct world *world, const struct job *job,
			  const struct model *model, struct pipeline **out)
{
	return sketch(world, job, model, true, out);
}

void pipeline_stand_at(struct pipeline *p, unsigned rank)
{
	p->world->rank = rank;
	p->place = grid_place(&p->grid, rank);
}

/* As it is at the root's own position. */
static void tell_of_windows(const struct pipeline *p)
{
	const struct reduction *reduction = pipeline_reduction(p);

	if (p->world->rank == ROUTE_ROOT && reduction && reduction->windows)
		log_info(
			"gradients: only the own share of the sums is kept (ZeRO-2); the %u stages of a rank take turns with %u window%s of accumulators",
			reduction->stage_count, reduction->window_count,
			reduction->window_count == 1 ? "" : "s");
}

int pipeline_create(struct world *world, const struct job *job,
		    const struct model *model, struct pipeline **out)
{
	struct pipeline *p;
	int rc = pipeline_sketch(world, job, model, &p);

	if (rc)
		return rc;
	rc = create_store(p);
	if (!rc)
		rc = reach_find(world, job, &p->reach);
	if (!rc && p->train_schedule && job->shard_optimizer)
		rc = shards_create(p, &p->shards);
	if (!rc)
		rc = connect_links(p);
	if (!rc)
		rc = create_region(p);
	if (!rc)
		rc = register_sums(p);
	if (!rc)
		rc = exchange_create(world, p->ahead, place_message, p,
				     &p->exchange);
	if (!rc)
		rc = create_reducer(p);
	if (!rc)
		rc = create_tie(p);
	if (!rc && p->grid.slices > 1)
		rc = create_collective(p);
	if (!rc && p->ferry_memory)
		rc = ferry_create(p->exchange, p->ferry_memory, &p->ferry);
	if (!rc)
		rc = create_trace(p);
	if (rc) {
		pipeline_destroy(p);
		return rc;
	}
	pipeline_dress(p, p->forward_route);
	if (p->train_route)
		pipeline_dress(p, p->train_route);
	tell_of_windows(p);
	*out = p;
	return 0;
}

/*
 * The transport must let go of the memory before it goes. Links with nothing
 * under way stay: another rank may not be done with what came over them.
 */
static void release_memory(struct pipeline *p)
{
	struct transport_endpoint *endpoint = p->world->endpoint;

	if (!endpoint)
		return;
	/* What a failed step left pending ends here. */
	if (p->exchange && !exchange_is_idle(p->exchange))
		(void)!transport_cancel(endpoint, TRANSPORT_ALL_PEERS,
					NS_PER_SECOND);
	for (unsigned i = 0; i < p->registered_count; i++)
		transport_deregister(endpoint, p->registered[i]);
	if (p->region)
		transport_release_region(endpoint, p->region);
}

void pipeline_destroy(struct pipeline *p)
{
	if (!p)
		return;
	release_memory(p);
	ferry_destroy(p->ferry);
	collective_destroy(p->collective);
	tie_destroy(p->tied);
	reducer_destroy(p->reducer);
	exchange_destroy(p->exchange);
	reach_fini(&p->reach);
	trace_destroy(p->trace);
	vote_destroy(p->vote);
	for (unsigned s = 0; p->stages && s < stage_count(p); s++)
		stage_destroy(p->stages[s]);
	shards_destroy(p->shards);
	store_destroy(p->store);
	route_destroy(p->forward_route);
	route_destroy(p->train_route);
	destroy_reductions(p);
	schedule_destroy(p->forward_schedule);
	schedule_destroy(p->train_schedule);
	free(p->stages);
	free(p->forward_senders);
	free(p->backward_senders);
	free(p->needs_batch);
	free(p->needs_tokens);
	free(p->batch_busy);
	free(p->tie_runs);
	free(p);
}

/* ---- passes ---- */

int pipeline_train_step(struct pipeline *p, uint64_t step,
			uint64_t first_sample, double learning_rate,
			struct verdict *out)
{
	int rc;

	p->pass.mode = LAYER_TRAIN;
	p->pass.seed = p->job->seed;
	p->pass.step = step;
	p->pass.first_sample =
		first_sample + p->place.replica * pipeline_share_samples(p);
	p->learning_rate = learning_rate;
	rc = interpreter_run(p, p->train_schedule, p->train_route);
	if (!rc)
		*out = *vote_verdict(p->vote);
	return rc;
}

/* The root, from the loss rank of each replica but where it is that itself. */
static int hear_of(struct pipeline *p, enum message_kind kind)
{
	unsigned position =
		p->forward_schedule->rank_of_stage[stage_count(p) - 1];
	int rc = 0;

	for (unsigned d = 0; !rc && d < p->grid.replicas; d++) {
		unsigned loss_rank = grid_rank(&p->grid, d, position, 0);
		struct message *expected;

		if (loss_rank == ROUTE_ROOT)
			continue;
		expected = route_find(p->forward_route, loss_rank, kind);
		rc = exchange_await(p->exchange, expected);
		if (!rc)
			rc = exchange_take(p->exchange, expected);
	}
	return rc;
}

/* The loss ranks' findings, made known to the root. */
static int tell_root(struct pipeline *p, enum message_kind kind,
		     const void *data, size_t bytes)
{
	struct message message = {
		.kind = (uint8_t)kind, .peer = ROUTE_ROOT, .bytes = bytes};
	int rc;

	if (p->world->rank == ROUTE_ROOT)
		return hear_of(p, kind);
	if (!pipeline_holds_loss(p) || p->place.slice != 0)
		return 0;
	rc = exchange_send(p->exchange, &message, data, &p->result_busy);
	return rc ? rc : exchange_await_sent(p->exchange, &p->result_busy);
}

int pipeline_evaluate(struct pipeline *p, double *losses)
{
	size_t bytes = result_bytes(p);
	int rc;

	p->pass.mode = LAYER_EVAL;
	rc = interpreter_run(p, p->forward_schedule, p->forward_route);
	if (!rc)
		rc = tell_root(p, MESSAGE_RESULT, p->result, bytes);
	if (!rc)
		memcpy(losses, p->result, p->grid.replicas * bytes);
	return rc;
}

int pipeline_score(struct pipeline *p, size_t time, double *losses)
{
	ASSERT(job_scores(p->job) && time <= p->job->context);
	p->pass.time = time;
	p->pass.sample_losses = p->result;
	pipeline_dress(p, p->forward_route);
	return pipeline_evaluate(p, losses);
}

int pipeline_prepare_score(struct pipeline *p, size_t time)
{
	int rc = 0;

	ASSERT(time <= p->job->context);
	for (unsigned s = 0; !rc && s < stage_count(p); s++)
		if (pipeline_holds(p, s))
			rc = stage_prepare(p->stages[s], time);
	return rc;
}

int pipeline_decode(struct pipeline *p, size_t offset, size_t time,
		    pipeline_choose_fn *choose, void *argument, int32_t *token)
{
	int rc;

	p->pass.mode = LAYER_DECODE;
	p->pass.position_offset = offset;
	p->pass.time = time;
	pipeline_dress(p, p->forward_route);
	rc = interpreter_run(p, p->forward_schedule, p->forward_route);
	if (rc)
		return rc;
	if (pipeline_holds_loss(p))
		*p->token = choose(argument, p->logits,
				   model_config(p->model)->vocab_size);
	rc = tell_root(p, MESSAGE_TOKEN, p->token, sizeof(*p->token));
	if (!rc)
		*token = *p->token;
	return rc;
}
