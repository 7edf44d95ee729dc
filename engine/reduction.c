#include "engine/reduction.h"
#include "base/arena.h"
#include "base/log.h"
#include "model/kernels/optimizer.h"

#include <errno.h>
#include <stdlib.h>

#define BLOCK ((size_t)OPTIMIZER_BLOCK)

/* ---- the buckets ---- */

struct block {
	unsigned parameter;
	size_t first;
	size_t count;
	size_t offset; /* floats from the stretch's beginning */
};

/* Neighbouring parameters that may share buckets, cut into blocks. */
struct stretch {
	struct block *blocks;
	size_t count;
	size_t floats;
};

struct builder {
	struct reduction *reduction;
	const struct parameter *all;
	unsigned parameter_count;
	const struct partition *partition;
	bool *is_target; /* [parameters]: of a tie */
	size_t bucket_floats;
	struct stretch stretch;
};

static size_t padded_floats(size_t count)
{
	return arena_piece_bytes(count * sizeof(float)) / sizeof(float);
}

static size_t blocks_in(size_t count)
{
	return (count + BLOCK - 1) / BLOCK;
}

static bool is_tied(const struct builder *builder, unsigned id)
{
	return builder->is_target[id] ||
	       builder->all[id].tied_to != PARAMETER_NOT_TIED;
}

static bool is_of_stage(const struct builder *builder, unsigned id,
			unsigned stage)
{
	return partition_stage_of(builder->partition, builder->all[id].layer) ==
	       stage;
}

static void stretch_add(struct stretch *stretch,
			const struct parameter *parameter)
{
	for (size_t first = 0; first < parameter->count; first += BLOCK)
		stretch->blocks[stretch->count++] = (struct block){
			.parameter = parameter->id,
			.first = first,
			.count = MIN(BLOCK, parameter->count - first),
			.offset = stretch->floats + first,
		};
	stretch->floats += padded_floats(parameter->count);
}

static void note_bucket(struct reduction *reduction, unsigned parameter)
{
	struct reduction_parameter *here = &reduction->parameters[parameter];

	if (!here->held)
		*here = (struct reduction_parameter){
			.held = true, .first_bucket = reduction->bucket_count};
	here->end_bucket = reduction->bucket_count + 1;
}

static void add_piece(struct reduction *reduction,
		      struct reduction_bucket *bucket,
		      const struct block *block, size_t offset)
{
	struct reduction_piece *last =
		&reduction->pieces[reduction->piece_count];

	if (bucket->piece_count > 0 && last[-1].parameter == block->parameter) {
		last[-1].count += block->count;
		return;
	}
	*last = (struct reduction_piece){block->parameter, block->first,
					 block->count, offset};
	reduction->piece_count++;
	bucket->piece_count++;
	note_bucket(reduction, block->parameter);
}

/* Each cut goes to the block boundary nearest to an even division. */
static void cut_chunks(struct reduction *reduction,
		       const struct reduction_bucket *bucket,
		       const struct block *blocks, size_t count)
{
	unsigned replicas = reduction->replicas;
	size_t *cuts = reduction->cuts +
		       (size_t)reduction->bucket_count * (replicas + 1);
	size_t block = 0, here = 0;

	for (unsigned c = 1; c < replicas; c++) {
		size_t even = bucket->floats / replicas * c +
			      bucket->floats % replicas * c / replicas;

		while (block < count) {
			size_t next = block + 1 < count
					      ? blocks[block + 1].offset -
							blocks[0].offset
					      : bucket->floats;

			if (here + next > 2 * even)
				break;
			here = next;
			block++;
		}
		cuts[c] = here;
	}
	cuts[replicas] = bucket->floats;
}

/* Blocks [first, end) of the stretch become the next bucket. */
static void add_bucket(struct builder *builder, unsigned stage, size_t first,
		       size_t end)
{
	struct reduction *reduction = builder->reduction;
	const struct stretch *stretch = &builder->stretch;
	const struct block *blocks = stretch->blocks + first;
	const struct parameter *lowest = &builder->all[blocks->parameter];
	struct reduction_bucket *bucket =
		&reduction->buckets[reduction->bucket_count];
	size_t until = end < stretch->count ? stretch->blocks[end].offset
					    : stretch->floats;

	*bucket = (struct reduction_bucket){
		.stage = stage,
		.layer = lowest->layer,
		.first_piece = reduction->piece_count,
		.floats = until - blocks->offset,
		.tied = is_tied(builder, lowest->id),
		.counts = lowest->tied_to == PARAMETER_NOT_TIED,
	};
	for (size_t i = 0; i < end - first; i++)
		add_piece(reduction, bucket, &blocks[i],
			  blocks[i].offset - blocks->offset);
	cut_chunks(reduction, bucket, blocks, end - first);
	reduction->bucket_count++;
}

/* From the top down: what is last in memory is ready first. */
static void cut_stretch(struct builder *builder, unsigned stage)
{
	const struct stretch *stretch = &builder->stretch;
	size_t pieces = MAX((stretch->floats + builder->bucket_floats / 2) /
				    builder->bucket_floats,
			    1);
	size_t wanted = stretch->floats / pieces;
	size_t least = builder->reduction->replicas;
	size_t end = stretch->count, until = stretch->floats;

	for (size_t i = stretch->count; i-- > 0;) {
		size_t floats = until - stretch->blocks[i].offset;

		if (i > 0 && (floats < wanted || end - i < least || i < least))
			continue;
		add_bucket(builder, stage, i, end);
		end = i;
		until = stretch->blocks[i].offset;
	}
}

/* Trained parameters of the stage, in stretches from the top down. */
static void cut_stage(struct builder *builder, unsigned stage)
{
	struct stretch *stretch = &builder->stretch;
	unsigned i = builder->parameter_count;

	while (i-- > 0) {
		unsigned end = i + 1;

		if (!is_of_stage(builder, i, stage) ||
		    !builder->all[i].trainable)
			continue;
		while (!is_tied(builder, i) && i > 0 &&
		       is_of_stage(builder, i - 1, stage) &&
		       builder->all[i - 1].trainable &&
		       !is_tied(builder, i - 1))
			i--;
		stretch->count = 0;
		stretch->floats = 0;
		for (unsigned id = i; id < end; id++)
			stretch_add(stretch, &builder->all[id]);
		if (stretch->count)
			cut_stretch(builder, stage);
	}
}

static const size_t *cuts_of(const struct reduction *reduction, unsigned bucket)
{
	return reduction->cuts + (size_t)bucket * (reduction->replicas + 1);
}

/* ---- life ---- */

size_t reduction_bucket_bytes(unsigned replicas)
{
	return MAX(REDUCTION_BUCKET_BYTES,
		   (size_t)replicas * OPTIMIZER_BLOCK * sizeof(float));
}

/*
 * By the whole model: a tie's ends must cut alike. Small enough that a stage
 * has several, or its last W would end before its sums begin; not so small that
 * messages cost more than their bytes, or that chunks come out uneven.
 */
static size_t wanted_floats(const struct reduction_config *config,
			    size_t floats)
{
	size_t most = reduction_bucket_bytes(config->replicas) / sizeof(float);
	size_t least = REDUCTION_BUCKET_BYTES_LEAST / sizeof(float);
	size_t even = (size_t)config->replicas * 4 * OPTIMIZER_BLOCK;
	size_t wanted = floats / ((size_t)config->partition->stages *
				  REDUCTION_BUCKETS_OF_STAGE);

	return MIN(MAX(MAX(wanted, least), even), most);
}

static int builder_init(struct builder *builder,
			const struct reduction_config *config,
			struct reduction *reduction)
{
	size_t floats = 0, most = MAX((size_t)REDUCTION_BUCKETS_MAX / 2, 1);

	*builder = (struct builder){.reduction = reduction,
				    .partition = config->partition};
	builder->all =
		model_parameters(config->model, &builder->parameter_count);
	builder->is_target =
		calloc(MAX(builder->parameter_count, 1), sizeof(bool));
	if (!builder->is_target)
		return fail(-ENOMEM, "no memory for the reduction's plan");
	for (unsigned i = 0; i < builder->parameter_count; i++) {
		floats += padded_floats(builder->all[i].count);
		if (builder->all[i].tied_to != PARAMETER_NOT_TIED &&
		    builder->all[i].trainable)
			builder->is_target[builder->all[i].tied_to] = true;
	}
	builder->bucket_floats =
		MAX(wanted_floats(config, floats), floats / most);
	return 0;
}

/* Bounds, from what is held: blocks of a stretch, buckets, and pieces. */
struct bounds {
	size_t blocks;
	size_t buckets;
	size_t pieces;
};

static void find_bounds(const struct builder *builder,
			const struct reduction_config *config,
			struct bounds *out)
{
	*out = (struct bounds){0};
	for (unsigned i = 0; i < builder->parameter_count; i++)
		for (unsigned s = 0; s < config->stage_count; s++) {
			const struct parameter *parameter = &builder->all[i];

			if (!parameter->trainable ||
			    !is_of_stage(builder, i, config->stages[s]))
				continue;
			out->blocks += blocks_in(parameter->count);
			/* Any parameter may begin a stretch, whose last bucket
			 * may be smaller than wanted. */
			out->buckets += 2 + 2 * (parameter->count /
						 builder->bucket_floats);
			out->pieces++;
		}
	/* A cut makes two pieces of one. */
	out->pieces += out->buckets;
}

static int allocate(struct builder *builder,
		    const struct reduction_config *config)
{
	struct reduction *reduction = builder->reduction;
	struct bounds bounds;

	find_bounds(builder, config, &bounds);
	reduction->buckets =
		calloc(MAX(bounds.buckets, 1), sizeof(*reduction->buckets));
	reduction->pieces =
		calloc(MAX(bounds.pieces, 1), sizeof(*reduction->pieces));
	reduction->cuts = calloc(MAX(bounds.buckets, 1),
				 (reduction->replicas + (size_t)1) *
					 sizeof(*reduction->cuts));
	reduction->stages =
		calloc(MAX(config->stage_count, 1), sizeof(*reduction->stages));
	reduction->parameters = calloc(MAX(builder->parameter_count, 1),
				       sizeof(*reduction->parameters));
	builder->stretch.blocks =
		calloc(MAX(bounds.blocks, 1), sizeof(*builder->stretch.blocks));
	if (!reduction->buckets || !reduction->pieces || !reduction->cuts ||
	    !reduction->stages || !reduction->parameters ||
	    !builder->stretch.blocks)
		return fail(-ENOMEM, "no memory for the reduction's plan");
	return 0;
}

/* A follower whose target is here, too, has no weights of its own. */
static void mark_aliases(struct builder *builder)
{
	struct reduction *reduction = builder->reduction;

	for (unsigned i = 0; i < reduction->bucket_count; i++) {
		struct reduction_bucket *bucket = &reduction->buckets[i];
		unsigned id = reduction->pieces[bucket->first_piece].parameter;
		int target = builder->all[id].tied_to;

		bucket->alias = target != PARAMETER_NOT_TIED &&
				reduction->parameters[target].held;
	}
}

static int build(struct builder *builder, const struct reduction_config *config)
{
	struct reduction *reduction = builder->reduction;
	int rc = allocate(builder, config);

	if (rc)
		return rc;
	for (unsigned s = 0; s < config->stage_count; s++) {
		reduction->stages[s] = config->stages[s];
		cut_stage(builder, config->stages[s]);
	}
	reduction->stage_count = config->stage_count;
	mark_aliases(builder);
	return 0;
}

static bool is_power_of_two(unsigned number)
{
	return (number & (number - 1)) == 0;
}

int reduction_create(const struct reduction_config *config,
		     struct reduction **out)
{
	struct reduction *reduction = calloc(1, sizeof(*reduction));
	struct builder builder;
	int rc;

	if (!reduction)
		return fail(-ENOMEM, "no memory for the reduction's plan");
	reduction->model = config->model;
	reduction->replicas = MAX(config->replicas, 1);
	reduction->sharded = config->sharded;
	reduction->scatter_rounds =
		is_power_of_two(reduction->replicas)
			? (unsigned)__builtin_ctz(reduction->replicas)
			: 1;
	rc = builder_init(&builder, config, reduction);
	if (!rc)
		rc = build(&builder, config);
	free(builder.stretch.blocks);
	free(builder.is_target);
	if (rc)
		reduction_destroy(reduction);
	else
		*out = reduction;
	return rc;
}

/* ---- windows ---- */

unsigned reduction_stage_place(const struct reduction *reduction,
			       unsigned stage)
{
	unsigned place = 0;

	while (reduction->stages[place] != stage)
		place++;
	return place;
}

size_t reduction_stage_floats(const struct reduction *reduction, unsigned stage)
{
	size_t floats = 0;

	for (unsigned i = 0; i < reduction->bucket_count; i++)
		if (reduction->buckets[i].stage == stage)
			floats += reduction->buckets[i].floats;
	return floats;
}

int reduction_share(struct reduction *reduction, const unsigned *windows)
{
	unsigned stages = reduction->stage_count;

	reduction->windows = calloc(MAX(stages, 1), sizeof(unsigned));
	reduction->window_floats = calloc(MAX(stages, 1), sizeof(size_t));
	if (!reduction->windows || !reduction->window_floats)
		return fail(-ENOMEM, "no memory for the reduction's plan");
	for (unsigned i = 0; i < stages; i++) {
		size_t *floats = &reduction->window_floats[windows[i]];

		reduction->windows[i] = windows[i];
		*floats =
			MAX(*floats, reduction_stage_floats(
					     reduction, reduction->stages[i]));
		reduction->window_count =
			MAX(reduction->window_count, windows[i] + 1);
	}
	return 0;
}

/* When a stage uses its accumulators: actions [begin, end] of the row. */
struct interval {
	size_t begin, end;
};

static bool adds_in_forward(const struct reduction *reduction, unsigned stage)
{
	unsigned count;
	const struct parameter *all =
		model_parameters(reduction->model, &count);

	for (unsigned i = 0; i < count; i++) {
		const struct reduction_parameter *here =
			&reduction->parameters[i];

		if (here->held && all[i].accumulates_in_forward &&
		    reduction->buckets[here->first_bucket].stage == stage)
			return true;
	}
	return false;
}

static struct interval find_interval(const struct reduction *reduction,
				     const struct schedule_row *row,
				     unsigned stage)
{
	bool forward = adds_in_forward(reduction, stage);
	struct interval interval = {.begin = row->count};

	for (size_t i = 0; i < row->count; i++) {
		const struct action *action = &row->actions[i];

		if (action->stage != stage)
			continue;
		if (action->op == ACTION_BACKWARD ||
		    action->op == ACTION_BACKWARD_WEIGHT ||
		    (forward && action->op == ACTION_FORWARD))
			interval.begin = MIN(interval.begin, i);
		if (action->op == ACTION_REDUCE_GRAD)
			interval.end = i;
	}
	return interval;
}

/* Has a stage before this one in the order not ended when it begins? */
static bool is_taken(const struct interval *intervals, const unsigned *windows,
		     unsigned place, unsigned window)
{
	for (unsigned i = 0; i < place; i++)
		if (windows[i] == window &&
		    intervals[i].end > intervals[place].begin)
			return true;
	return false;
}

/* Stages in the order in which they end: each takes the first window free. */
static void assign_windows(const struct reduction *reduction,
			   const struct schedule_row *row,
			   struct interval *intervals, unsigned *windows)
{
	for (unsigned i = 0; i < reduction->stage_count; i++) {
		intervals[i] =
			find_interval(reduction, row, reduction->stages[i]);
		windows[i] = 0;
		while (is_taken(intervals, windows, i, windows[i]))
			windows[i]++;
	}
}

static void unshare(struct reduction *reduction)
{
	free(reduction->windows);
	free(reduction->window_floats);
	reduction->windows = NULL;
	reduction->window_floats = NULL;
	reduction->window_count = 0;
}

/* Beside the windows a replica keeps its own sums. */
static bool saves(const struct reduction *reduction)
{
	size_t all = 0, shared = 0;

	for (unsigned i = 0; i < reduction->bucket_count; i++)
		all += reduction->buckets[i].floats;
	for (unsigned i = 0; i < reduction->window_count; i++)
		shared += reduction->window_floats[i];
	return shared + all / reduction->replicas < all;
}

static int find_windows(struct reduction *reduction,
			const struct schedule_row *row)
{
	unsigned stages = reduction->stage_count;
	struct interval *intervals;
	unsigned *windows;
	int rc = -ENOMEM;

	if (!reduction->sharded || reduction->replicas == 1 || stages < 2)
		return 0;
	intervals = calloc(stages, sizeof(*intervals));
	windows = calloc(stages, sizeof(*windows));
	if (intervals && windows) {
		assign_windows(reduction, row, intervals, windows);
		rc = reduction_share(reduction, windows);
	} else {
		fail(rc, "no memory for the reduction's plan");
	}
	if (!rc && !saves(reduction))
		unshare(reduction);
	free(intervals);
	free(windows);
	return rc;
}

/* ---- of a schedule ---- */

int reduction_create_at(const struct model *model,
			const struct partition *partition,
			const struct schedule *schedule, unsigned position,
			unsigned replicas, bool sharded, struct reduction **out)
{
	const struct schedule_row *row = &schedule->rows[position];
	struct reduction_config config = {
		.model = model,
		.partition = partition,
		.replicas = replicas,
		.sharded = sharded,
	};
	unsigned *stages = calloc(MAX(schedule->stages, 1), sizeof(*stages));
	struct reduction *reduction;
	int rc;

	if (!stages)
		return fail(-ENOMEM, "no memory for the reduction's plan");
	for (size_t i = 0; i < row->count; i++)
		if (row->actions[i].op == ACTION_REDUCE_GRAD &&
		    config.stage_count < schedule->stages)
			stages[config.stage_count++] = row->actions[i].stage;
	config.stages = stages;
	rc = reduction_create(&config, &reduction);
	free(stages);
	if (rc)
		return rc;
	rc = find_windows(reduction, row);
	if (rc)
		reduction_destroy(reduction);
	else
		*out = reduction;
	return rc;
}

void reduction_destroy(struct reduction *reduction)
{
	if (!reduction)
		return;
	free(reduction->buckets);
	free(reduction->pieces);
	free(reduction->cuts);
	free(reduction->stages);
	unshare(reduction);
	free(reduction->parameters);
	free(reduction);
}

/* ---- transfers ---- */

unsigned reduction_transfers(const struct reduction *reduction)
{
	return is_power_of_two(reduction->replicas) ? 1
						    : reduction->replicas - 1;
}

/* The chunks a replica still sums before round `round` of the halving. */
static unsigned halved(unsigned replicas, unsigned replica, unsigned round)
{
	unsigned first = 0;

	for (unsigned k = 0; k < round; k++)
		if (replica >> k & 1)
			first += replicas >> (k + 1);
	return first;
}

static struct reduction_transfer halving(unsigned replicas, unsigned rounds,
					 unsigned replica, unsigned round)
{
	bool gathers = round >= rounds;
	unsigned k = gathers ? 2 * rounds - 1 - round : round;
	unsigned half = replicas >> (k + 1);
	unsigned kept = halved(replicas, replica, k + 1);
	unsigned peer = replica ^ (1u << k);
	unsigned given = halved(replicas, peer, k + 1);

	if (gathers)
		return (struct reduction_transfer){peer, kept, kept + half,
						   given, given + half};
	return (struct reduction_transfer){peer, given, given + half, kept,
					   kept + half};
}

struct reduction_transfer reduction_transfer(const struct reduction *reduction,
					     unsigned replica, unsigned round,
					     unsigned index)
{
	unsigned peer;

	if (is_power_of_two(reduction->replicas))
		return halving(reduction->replicas, reduction->scatter_rounds,
			       replica, round);
	peer = index < replica ? index : index + 1;
	if (round == 0)
		return (struct reduction_transfer){peer, peer, peer + 1,
						   replica, replica + 1};
	return (struct reduction_transfer){peer, replica, replica + 1, peer,
					   peer + 1};
}

unsigned reduction_chunk(const struct reduction *reduction, unsigned replica)
{
	if (is_power_of_two(reduction->replicas))
		return halved(reduction->replicas, replica,
			      reduction->scatter_rounds);
	return replica;
}

struct reduction_span reduction_span(const struct reduction *reduction,
				     unsigned bucket, unsigned first,
				     unsigned end)
{
	const size_t *cuts = cuts_of(reduction, bucket);

	return (struct reduction_span){
		.offset = cuts[first],
		.count = cuts[end] - cuts[first],
	};
}

/* ---- the order of the rounds ---- */

static bool takes_part(const struct reduction *reduction,
		       const struct reduction_bucket *bucket,
		       enum reduction_phase phase, unsigned stage,
		       unsigned round)
{
	bool gathers = round >= reduction->scatter_rounds;

	switch (phase) {
	case REDUCTION_REDUCE:
		return bucket->stage == stage &&
		       (!gathers || (!reduction->sharded && !bucket->tied));
	case REDUCTION_TIED:
		return gathers && !reduction->sharded && bucket->tied &&
		       !bucket->alias;
	case REDUCTION_WEIGHTS:
		return gathers && reduction->sharded && !bucket->alias;
	case REDUCTION_SQUARES:
		break;
	}
	return false;
}

/* Buckets [*first, *end) are all that may take part. */
static void find_buckets(const struct reduction *reduction,
			 enum reduction_phase phase, unsigned stage,
			 unsigned *first, unsigned *end)
{
	*first = 0;
	*end = reduction->bucket_count;
	if (phase != REDUCTION_REDUCE)
		return;
	while (*first < *end && reduction->buckets[*first].stage != stage)
		++*first;
	while (*end > *first && reduction->buckets[*end - 1].stage != stage)
		--*end;
}

/*
 * In waves: each bucket is a round behind the one before. A bucket's first
 * messages go before the last ones of those ahead of it, whose answers are
 * still on their way.
 */
void reduction_walk(const struct reduction *reduction,
		    enum reduction_phase phase, unsigned stage,
		    reduction_visit_fn *visit, void *argument)
{
	unsigned rounds = 2 * reduction->scatter_rounds, first, end;

	if (rounds == 0)
		return;
	find_buckets(reduction, phase, stage, &first, &end);
	for (unsigned wave = 0; wave < end - first + rounds - 1; wave++)
		for (unsigned round = 0; round < rounds; round++) {
			unsigned bucket = first + wave - round;

			if (round <= wave && bucket < end &&
			    takes_part(reduction, &reduction->buckets[bucket],
				       phase, stage, round))
				visit(argument, bucket, round);
		}
}

/* ---- messages ---- */

struct message reduction_message(enum reduction_phase phase, unsigned round,
				 unsigned bucket, size_t bytes)
{
	return (struct message){
		.kind = MESSAGE_REDUCE,
		.stage = (uint16_t)((unsigned)phase << 8 | round),
		.micro_batch = (uint16_t)bucket,
		.bytes = bytes,
	};
}

enum reduction_phase reduction_message_phase(const struct message *message)
{
	return (enum reduction_phase)(message->stage >> 8);
}

unsigned reduction_message_round(const struct message *message)
{
	return message->stage & 0xff;
}

unsigned reduction_message_bucket(const struct message *message)
{
	return message->micro_batch;
}

struct emitter {
	const struct reduction *reduction;
	unsigned from;
	enum reduction_phase phase;
	reduction_emit_fn *emit;
	void *argument;
};

static void emit_round(void *argument, unsigned bucket, unsigned round)
{
	const struct emitter *emitter = argument;
	const struct reduction *reduction = emitter->reduction;

	for (unsigned i = 0; i < reduction_transfers(reduction); i++) {
		struct reduction_transfer transfer =
			reduction_transfer(reduction, emitter->from, round, i);
		struct reduction_span span =
			reduction_span(reduction, bucket, transfer.send_first,
				       transfer.send_end);
		struct message message =
			reduction_message(emitter->phase, round, bucket,
					  span.count * sizeof(float));

		if (span.count)
			emitter->emit(emitter->argument, transfer.peer,
				      &message);
	}
}

void reduction_emit(const struct reduction *reduction, unsigned from,
		    enum reduction_phase phase, unsigned stage,
		    reduction_emit_fn *emit, void *argument)
{
	struct emitter emitter = {reduction, from, phase, emit, argument};
	size_t squares;

	if (phase != REDUCTION_SQUARES) {
		reduction_walk(reduction, phase, stage, emit_round, &emitter);
		return;
	}
	squares = from ? reduction_squares(reduction, from) : 0;
	if (squares) {
		struct message message = reduction_message(
			phase, 0, 0, squares * sizeof(double));

		emit(argument, 0, &message);
	}
}

static void count_message(void *argument, unsigned to,
			  const struct message *message)
{
	struct reduction_traffic *traffic = argument;

	(void)to;
	traffic->bytes += message->bytes;
	traffic->messages++;
}

void reduction_count(const struct reduction *reduction, unsigned replica,
		     struct reduction_traffic *out)
{
	*out = (struct reduction_traffic){0};
	for (unsigned s = 0; s < reduction->stage_count; s++)
		reduction_emit(reduction, replica, REDUCTION_REDUCE,
			       reduction->stages[s], count_message, out);
	reduction_emit(reduction, replica, REDUCTION_TIED, 0, count_message,
		       out);
	reduction_emit(reduction, replica, REDUCTION_SQUARES, 0, count_message,
		       out);
	reduction_emit(reduction, replica, REDUCTION_WEIGHTS, 0, count_message,
		       out);
}

/* ---- shards ---- */

/* What of a piece lies in a replica's own chunk of its bucket. */
static struct reduction_run own_part(const struct reduction *reduction,
				     unsigned replica, unsigned bucket,
				     const struct reduction_piece *piece)
{
	const size_t *cuts = cuts_of(reduction, bucket) +
			     reduction_chunk(reduction, replica);
	size_t first = MAX(cuts[0], piece->offset);
	size_t end = MIN(cuts[1], piece->offset + piece->count);

	if (end <= first)
		return (struct reduction_run){0};
	return (struct reduction_run){piece->first + (first - piece->offset),
				      end - first};
}

static const struct reduction_piece *
piece_in_bucket(const struct reduction *reduction, unsigned bucket,
		unsigned parameter)
{
	const struct reduction_bucket *from = &reduction->buckets[bucket];
	const struct reduction_piece *piece =
		&reduction->pieces[from->first_piece];

	while (piece->parameter != parameter)
		piece++;
	return piece;
}

/* How many runs there are; *out becomes number `wanted`, if there is one. */
static unsigned walk_shard(const struct reduction *reduction, unsigned replica,
			   unsigned parameter, unsigned wanted,
			   struct reduction_run *out)
{
	const struct reduction_parameter *here =
		&reduction->parameters[parameter];
	struct reduction_run last = {0};
	unsigned count = 0;

	for (unsigned b = here->end_bucket; b-- > here->first_bucket;) {
		struct reduction_run run =
			own_part(reduction, replica, b,
				 piece_in_bucket(reduction, b, parameter));

		if (run.count == 0)
			continue;
		if (count && run.first == last.first + last.count) {
			last.count += run.count;
		} else {
			last = run;
			count++;
		}
		if (count == wanted + 1)
			*out = last;
	}
	return count;
}

unsigned reduction_shard_count(const struct reduction *reduction,
			       unsigned replica, unsigned parameter)
{
	struct reduction_run unused;

	return walk_shard(reduction, replica, parameter, ~0u - 1, &unused);
}

struct reduction_run reduction_shard(const struct reduction *reduction,
				     unsigned replica, unsigned parameter,
				     unsigned index)
{
	struct reduction_run run = {0};

	(void)walk_shard(reduction, replica, parameter, index, &run);
	return run;
}

/* ---- ties ---- */

#define TIE_FLOATS (REDUCTION_TIE_PIECE_BYTES / sizeof(float))

unsigned reduction_tie_count(const struct reduction *reduction,
			     unsigned replica, unsigned parameter)
{
	unsigned runs = reduction_shard_count(reduction, replica, parameter);
	size_t pieces = 0;

	for (unsigned i = 0; i < runs; i++)
		pieces += (reduction_shard(reduction, replica, parameter, i)
				   .count +
			   TIE_FLOATS - 1) /
			  TIE_FLOATS;
	return (unsigned)pieces;
}

void reduction_tie_pieces(const struct reduction *reduction, unsigned replica,
			  unsigned parameter, struct reduction_run *pieces)
{
	unsigned runs = reduction_shard_count(reduction, replica, parameter);

	for (unsigned i = 0; i < runs; i++) {
		struct reduction_run run =
			reduction_shard(reduction, replica, parameter, i);

		for (size_t at = 0; at < run.count; at += TIE_FLOATS)
			*pieces++ = (struct reduction_run){
				run.first + at,
				MIN(TIE_FLOATS, run.count - at)};
	}
}

int reduction_tied(const struct reduction *reduction)
{
	int found = -1;

	for (unsigned i = 0; i < reduction->bucket_count; i++) {
		const struct reduction_bucket *bucket = &reduction->buckets[i];

		if (bucket->tied && !bucket->alias)
			found = (int)reduction->pieces[bucket->first_piece]
					.parameter;
	}
	return found;
}

/* ---- squares ---- */

struct reduction_run reduction_own_part(const struct reduction *reduction,
					unsigned replica, unsigned bucket,
					unsigned piece)
{
	return own_part(
		reduction, replica, bucket,
		&reduction->pieces[reduction->buckets[bucket].first_piece +
				   piece]);
}

size_t reduction_squares(const struct reduction *reduction, unsigned replica)
{
	size_t squares = 0;

	for (unsigned b = 0; b < reduction->bucket_count; b++) {
		const struct reduction_bucket *bucket = &reduction->buckets[b];

		for (unsigned i = 0; bucket->counts && i < bucket->piece_count;
		     i++)
			squares += blocks_in(
				reduction_own_part(reduction, replica, b, i)
					.count);
	}
	return squares;
}
