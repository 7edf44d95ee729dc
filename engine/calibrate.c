#include "engine/calibrate.h"
#include "base/log.h"
#include "base/numbers.h"
#include "base/text.h"
#include "engine/calibrate_rig.h"
#include "engine/cores.h"
#include "engine/costs_grid.h"
#include "engine/host.h"
#include "model/kernels/elementwise.h"
#include "model/kernels/gemm.h"
#include "model/kernels/optimizer.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * Blocks of the sample: so many that the caches do not hold their weights, but
 * not more than this.
 */
#define SAMPLE_BLOCKS      3u
#define SAMPLE_BLOCK_BYTES ((size_t)16 << 20)
/* Rows of the sample's token tables, at least; a product's tile, to round to. */
#define SAMPLE_VOCAB 4096u
#define VOCAB_TILE   512u
/* Of a micro-batch: the loss layer's chunk, so that it costs as in a run. */
#define TOKENS_LEAST 256u
#define PROBE_TOKENS 32u
#define PASSES_MAX   9u
/* So many will do, once they have taken this long together. */
#define PASSES_ENOUGH    3u
#define PASSES_ENOUGH_NS (4 * NS_PER_MS)
#define CORES_MAX        4096

/* ---- where ---- */

void calibration_place(struct calibration *calibration, unsigned ranks,
		       unsigned threads, bool pin)
{
	unsigned cores = MAX(threads_available_cores(NULL, 0), 1u);

	if (threads == 0)
		threads = MAX(cores / MAX(ranks, 1u), 1u);
	calibration->threads = MIN(threads, (unsigned)THREADS_MAX);
	calibration->copies =
		MIN(MAX(ranks, 1u), MAX(cores / calibration->threads, 1u));
	calibration->pin =
		pin && (uint64_t)ranks * calibration->threads <= cores;
}

/* ---- what is measured ---- */

/* The most that F, I and W of one layer between the ends take. */
static double inner_operations(const struct model *model)
{
	double most = 0;

	for (unsigned i = 1; i + 1 < model_layer_count(model); i++) {
		struct layer_cost cost;

		layer_cost(model_layer(model, i), 1, 1, &cost);
		most = MAX(most, cost.forward + cost.backward_input +
					 cost.backward_weight);
	}
	return most;
}

/*
 * So many tokens that the head costs no more than a block does, but more than
 * the caches hold of a narrow model.
 */
static unsigned sample_vocab(const struct model *model)
{
	unsigned vocab = model_config(model)->vocab_size;
	unsigned layers = model_layer_count(model);
	double inner = inner_operations(model), wanted;
	struct layer_cost head;

	layer_cost(model_layer(model, layers - 1), 1, 1, &head);
	wanted = head.forward + head.backward_input + head.backward_weight;
	wanted = wanted > 0 ? vocab * inner / wanted : 0;
	if (wanted < SAMPLE_VOCAB)
		wanted = SAMPLE_VOCAB;
	if (wanted >= vocab)
		return vocab;
	return MIN(vocab, ((unsigned)wanted + VOCAB_TILE - 1) / VOCAB_TILE *
				  VOCAB_TILE);
}

static bool covers(const struct model *sample, const struct model *model)
{
	for (unsigned i = 0; i < model_layer_count(model); i++) {
		bool found = false;

		for (unsigned k = 0; !found && k < model_layer_count(sample);
		     k++)
			found = layer_is_alike(model_layer(sample, k),
					       model_layer(model, i));
		if (!found)
			return false;
	}
	return true;
}

static unsigned sample_blocks(const struct model *model)
{
	unsigned blocks = model_config(model)->layers, parameters;
	const struct parameter *all = model_parameters(model, &parameters);
	size_t bytes = 0;

	for (unsigned i = 0; i < parameters; i++)
		if (all[i].layer == 1)
			bytes += all[i].count * sizeof(float);
	return MIN(blocks,
		   bytes ? MIN(SAMPLE_BLOCKS, SAMPLE_BLOCK_BYTES / bytes + 1)
			 : SAMPLE_BLOCKS);
}

/* The same model with fewer blocks and tokens, but every kind of layer. */
static int create_sample(const struct model *model, struct model **out)
{
	struct model_config config = *model_config(model);
	unsigned blocks = config.layers;

	config.vocab_size = sample_vocab(model);
	config.layers = sample_blocks(model);
	for (;;) {
		struct model *sample;
		int rc = model_create(&config, &sample);

		if (rc)
			return rc;
		if (config.layers == blocks || covers(sample, model)) {
			*out = sample;
			return 0;
		}
		model_destroy(sample);
		config.layers = MIN(blocks, 2 * config.layers);
	}
}

/* ---- the bench: one rig that is timed, and others that keep cores busy ---- */

enum phase {
	PHASE_COMPUTE,
	PHASE_UPDATE,
	PHASE_END,
};

struct shape {
	size_t batch;
	size_t time;
};

struct bench {
	const struct calibration *calibration;
	const struct model *sample;
	struct shape most;    /* the shape of a run */
	struct shape largest; /* what the rigs have room for */
	unsigned copies;
	struct cores_plan cores;
	int64_t begin_ns;
	pthread_mutex_t lock;
	pthread_cond_t all_ready;
	unsigned awaited; /* rigs not yet created, or known to fail */
	atomic_int error; /* of any rig */
	_Atomic unsigned phase;
	_Atomic size_t batch, time; /* what the timed rig runs just now */

	/* The timed rig's findings. */
	struct shape used;
	unsigned passes;
	double *seconds; /* [PASSES_MAX][3 * layers] */
	struct calibration_rates rates;
};

struct worker {
	struct bench *bench;
	unsigned copy;
	pthread_t thread;
};

static double layer_operations(const struct layer *layer, struct shape shape,
			       bool recompute)
{
	struct layer_cost cost;

	layer_cost(layer, shape.batch, shape.time, &cost);
	return cost.forward * (recompute && layer->recomputable ? 2 : 1) +
	       cost.backward_input + cost.backward_weight;
}

static double operations(const struct bench *bench, struct shape shape)
{
	double sum = 0;

	for (unsigned i = 0; i < model_layer_count(bench->sample); i++)
		sum += layer_operations(model_layer(bench->sample, i), shape,
					bench->calibration->recompute);
	return sum;
}

static void run_pass(struct bench *bench, struct rig *rig, struct shape shape,
		     struct rig_stamps *stamps, double *seconds)
{
	atomic_store(&bench->batch, shape.batch);
	atomic_store(&bench->time, shape.time);
	rig_pass(rig, shape.batch, shape.time, stamps, seconds);
}

static double remaining(const struct bench *bench)
{
	return clock_seconds(bench->calibration->budget_ns -
			     (clock_now_ns() - bench->begin_ns));
}

/* The next smaller shape to try; false: there is none. */
static bool shrink(struct shape *shape)
{
	if (shape->batch > 1) {
		shape->batch = (shape->batch + 1) / 2;
		return true;
	}
	if (shape->time <= TOKENS_LEAST)
		return false;
	shape->time = MAX((shape->time + 1) / 2, TOKENS_LEAST);
	return true;
}

/*
 * Two passes over few tokens, the first of which touches all weights, say how
 * fast this machine is: the shape is the largest that two passes fit the time
 * with.
 */
static void choose_shape(struct bench *bench, struct rig *rig, double *estimate)
{
	struct shape probe = {1, MIN(bench->most.time, PROBE_TOKENS)};
	struct shape shape = bench->largest;
	int64_t begin_ns;
	double rate;

	run_pass(bench, rig, probe, NULL, NULL);
	begin_ns = clock_now_ns();
	run_pass(bench, rig, probe, NULL, NULL);
	rate = operations(bench, probe) /
	       clock_seconds(MAX(clock_now_ns() - begin_ns, 1));
	do
		*estimate = operations(bench, shape) / rate;
	while (2 * *estimate > remaining(bench) && shrink(&shape));
	bench->used = shape;
}

static bool wants_another(const struct bench *bench, int64_t begin_ns,
			  int64_t pass_ns)
{
	int64_t now_ns = clock_now_ns();

	if (bench->passes == PASSES_MAX ||
	    clock_seconds(now_ns - pass_ns) >= remaining(bench))
		return false;
	return bench->passes < PASSES_ENOUGH || bench->calibration->optimizer ||
	       now_ns - begin_ns < PASSES_ENOUGH_NS;
}

static void time_layers(struct bench *bench, struct rig *rig,
			struct rig_stamps *stamps)
{
	unsigned width = 3 * model_layer_count(bench->sample);
	double estimate;
	int64_t begin_ns, pass_ns;

	choose_shape(bench, rig, &estimate);
	/*
	 * The first pass of a size touches new memory. Among many it does not
	 * move the median.
	 */
	if (3 * estimate < remaining(bench) &&
	    PASSES_ENOUGH * 3 * estimate > remaining(bench))
		run_pass(bench, rig, bench->used, NULL, NULL);
	begin_ns = clock_now_ns();
	do {
		pass_ns = clock_now_ns();
		run_pass(bench, rig, bench->used, stamps,
			 bench->seconds + bench->passes++ * width);
	} while (wants_another(bench, begin_ns, pass_ns));
}

/* The optimizer's step twice: the first touches its memory. */
static double time_update(struct bench *bench, struct rig *rig)
{
	const struct optimizer_config *optimizer =
		bench->calibration->optimizer;
	int64_t begin_ns;
	size_t weights;

	rig_update(rig, optimizer, 1);
	begin_ns = clock_now_ns();
	weights = rig_update(rig, optimizer, 2);
	return clock_seconds(clock_now_ns() - begin_ns) / (double)weights;
}

static double time_square(struct rig *rig, void *scratch)
{
	int64_t begin_ns = clock_now_ns();
	double sum = 0, count = 0;

	for (unsigned i = 0; i < rig->store->count; i++) {
		const struct store_row *row = &rig->store->rows[i];

		if (!row->accumulators[0])
			continue; /* frozen */
		sum += square_sum(rig->team, row->parameter->count,
				  row->accumulators[0], scratch);
		count += (double)row->parameter->count;
	}
	/* The sum is of zeros or small numbers; it is here to be used. */
	return clock_seconds(clock_now_ns() - begin_ns + (sum < 0)) / count;
}

static double time_add(struct rig *rig, const struct store_row *largest)
{
	size_t count = largest->parameter->count;
	int64_t begin_ns = clock_now_ns();

	elementwise_accumulate(rig->team, count, largest->weights,
			       largest->accumulators[0]);
	return clock_seconds(clock_now_ns() - begin_ns) / (double)count;
}

/* The largest row that is trained: some row of a block is. */
static const struct store_row *largest_row(const struct store *store)
{
	const struct store_row *largest = NULL;

	for (unsigned i = 0; i < store->count; i++) {
		const struct store_row *row = &store->rows[i];

		if (row->accumulators[0] &&
		    (!largest ||
		     row->parameter->count > largest->parameter->count))
			largest = row;
	}
	ASSERT(largest);
	return largest;
}

static int time_rates(struct bench *bench, struct rig *rig)
{
	const struct store_row *largest = largest_row(rig->store);
	void *scratch;

	scratch = aligned_alloc(CACHE_LINE_BYTES,
				MAX(arena_piece_bytes(square_sum_scratch_bytes(
					    largest->parameter->count)),
				    CACHE_LINE_BYTES));
	if (!scratch)
		return fail(-ENOMEM, "no memory to measure the optimizer");
	atomic_store(&bench->phase, PHASE_UPDATE);
	bench->rates.update = time_update(bench, rig);
	bench->rates.square = time_square(rig, scratch);
	bench->rates.add = time_add(rig, largest);
	free(scratch);
	return 0;
}

static int time_all(struct bench *bench, struct rig *rig)
{
	unsigned width = 3 * model_layer_count(bench->sample);
	struct rig_stamps stamps = {
		.at_ns = calloc(width, sizeof(*stamps.at_ns)),
	};
	int rc = 0;

	bench->seconds =
		calloc((size_t)PASSES_MAX * width, sizeof(*bench->seconds));
	if (!stamps.at_ns || !bench->seconds)
		rc = fail(-ENOMEM, "no memory to measure the layers");
	if (!rc)
		time_layers(bench, rig, &stamps);
	if (!rc && bench->calibration->optimizer)
		rc = time_rates(bench, rig);
	free(stamps.at_ns);
	return rc;
}

/* Work as of a rank in the middle, for as long as the timed rig works. */
static void keep_busy(struct bench *bench, struct rig *rig)
{
	for (uint64_t step = 1;; step++) {
		switch (atomic_load(&bench->phase)) {
		case PHASE_COMPUTE:
			rig_pass(rig, atomic_load(&bench->batch),
				 atomic_load(&bench->time), NULL, NULL);
			break;
		case PHASE_UPDATE:
			rig_update(rig, bench->calibration->optimizer, step);
			break;
		default:
			return;
		}
	}
}

static void configure_rig(const struct worker *worker, struct rig_config *out)
{
	const struct bench *bench = worker->bench;
	const struct calibration *calibration = bench->calibration;
	unsigned layers = model_layer_count(bench->sample);
	bool middle = worker->copy > 0 && layers > 2;

	*out = (struct rig_config){
		.model = bench->sample,
		.first_layer = middle ? 1 : 0,
		.end_layer = middle ? layers - 1 : layers,
		.batch = bench->largest.batch,
		.time = bench->largest.time,
		.threads = calibration->threads,
		.cores = cores_of_rank(&bench->cores, worker->copy),
		.recompute = calibration->recompute,
		.moments = calibration->optimizer
				   ? optimizer_moments(calibration->optimizer)
				   : 0,
	};
}

static void note_error(struct bench *bench, int rc)
{
	int none = 0;

	if (rc)
		atomic_compare_exchange_strong(&bench->error, &none, rc);
}

/* Waits until every rig stands, or is known never to. */
static void await_all(struct bench *bench)
{
	pthread_mutex_lock(&bench->lock);
	if (--bench->awaited == 0)
		pthread_cond_broadcast(&bench->all_ready);
	while (bench->awaited > 0)
		pthread_cond_wait(&bench->all_ready, &bench->lock);
	pthread_mutex_unlock(&bench->lock);
}

static void give_up(struct bench *bench, unsigned missing)
{
	pthread_mutex_lock(&bench->lock);
	bench->awaited -= missing;
	if (bench->awaited == 0)
		pthread_cond_broadcast(&bench->all_ready);
	pthread_mutex_unlock(&bench->lock);
}

static void *work(void *argument)
{
	struct worker *worker = argument;
	struct bench *bench = worker->bench;
	struct rig_config config;
	struct rig rig;

	configure_rig(worker, &config);
	note_error(bench, rig_create(&rig, &config));
	await_all(bench);
	if (!atomic_load(&bench->error)) {
		if (worker->copy > 0)
			keep_busy(bench, &rig);
		else
			note_error(bench, time_all(bench, &rig));
	}
	atomic_store(&bench->phase, PHASE_END);
	rig_destroy(&rig);
	return NULL;
}

static int divide_cores(struct bench *bench)
{
	const struct calibration *calibration = bench->calibration;
	int *available = calloc(CORES_MAX, sizeof(*available));
	unsigned count;
	int rc;

	if (!available)
		return fail(-ENOMEM, "no memory for the list of cores");
	count = threads_available_cores(available, CORES_MAX);
	rc = cores_divide(available, MIN(count, CORES_MAX), bench->copies,
			  calibration->threads, calibration->pin,
			  &bench->cores);
	free(available);
	return rc;
}

static int run_workers(struct bench *bench, struct worker *workers,
		       unsigned count)
{
	unsigned started = 0;

	bench->awaited = count;
	for (; started < count; started++) {
		struct worker *worker = &workers[started];

		*worker = (struct worker){.bench = bench, .copy = started};
		if (pthread_create(&worker->thread, NULL, work, worker)) {
			note_error(
				bench,
				fail(-EAGAIN,
				     "cannot start a thread to measure with"));
			give_up(bench, count - started);
			break;
		}
	}
	for (unsigned i = 0; i < started; i++)
		pthread_join(workers[i].thread, NULL);
	return atomic_load(&bench->error);
}

/* About: what a rig's store and its stage's slots and scratch come to. */
static double rig_bytes(const struct bench *bench)
{
	const struct calibration *calibration = bench->calibration;
	struct shape shape = bench->largest;
	unsigned parameters, copies = 2; /* of a weight: itself, its gradient */
	const struct parameter *all =
		model_parameters(bench->sample, &parameters);
	double sum = 0, scratch = 0;
	struct gemm_bfloat16_work work = {0};

	if (calibration->optimizer)
		copies += optimizer_moments(calibration->optimizer);
	for (unsigned i = 0; i < parameters; i++) {
		sum += (double)(all[i].count * sizeof(float)) * copies;
		if (all[i].compute_type != ELEMENT_F32)
			sum += (double)(all[i].count *
					element_type_bytes(
						all[i].compute_type));
	}
	for (unsigned i = 0; i < model_layer_count(bench->sample); i++) {
		const struct layer *layer = model_layer(bench->sample, i);
		struct layer_memory memory;

		layer_memory(layer, shape.batch, shape.time, LAYER_TRAIN,
			     calibration->threads, &memory);
		layer_count_work(layer, shape.batch, shape.time, LAYER_TRAIN,
				 calibration->threads, &work);
		scratch = MAX(scratch, (double)memory.scratch_bytes);
		sum += (double)(memory.saved_bytes + memory.pending_bytes);
		sum += 2 * (double)edge_bytes(&layer->output, shape.batch,
					      shape.time);
	}
	return sum + scratch +
	       (double)gemm_bfloat16_work_bytes(&work, calibration->threads);
}

/*
 * Memory that is promised and not there ends the process when it is touched,
 * so what is known not to fit is not begun.
 */
static int fit_memory(struct bench *bench)
{
	double available = (double)host_memory_available() / 2;
	char wanted[32], had[32];

	bench->largest = bench->most;
	bench->copies = MAX(bench->calibration->copies, 1u);
	if (available <= 0)
		return 0;
	while (bench->copies * rig_bytes(bench) > available &&
	       shrink(&bench->largest))
		;
	while (bench->copies > 1 &&
	       bench->copies * rig_bytes(bench) > available)
		bench->copies--;
	if (rig_bytes(bench) <= available)
		return 0;
	return fail(
		-ENOMEM,
		"measuring the layers needs %s, half of the free memory is %s",
		text_bytes(wanted, sizeof(wanted), (uint64_t)rig_bytes(bench)),
		text_bytes(had, sizeof(had), (uint64_t)available));
}

/* In threads of its own, whose state and memory end with them. */
static int run_bench(struct bench *bench)
{
	unsigned count = bench->copies;
	struct worker *workers = calloc(count, sizeof(*workers));
	int rc;

	if (!workers)
		return fail(-ENOMEM, "no memory for %u teams", count);
	rc = divide_cores(bench);
	if (!rc)
		rc = run_workers(bench, workers, count);
	cores_plan_fini(&bench->cores);
	free(workers);
	return rc;
}

/* ---- from the sample to the model ---- */

/* The median over all passes of the sample's layers alike to this one. */
static double median(const struct bench *bench, const struct layer *layer,
		     unsigned which, double *room,
		     const struct layer **sample_layer)
{
	unsigned layers = model_layer_count(bench->sample);
	size_t count = 0;

	for (unsigned k = 0; k < layers; k++) {
		const struct layer *other = model_layer(bench->sample, k);

		if (!layer_is_alike(other, layer))
			continue;
		*sample_layer = other;
		for (unsigned pass = 0; pass < bench->passes; pass++)
			room[count++] =
				bench->seconds[(pass * layers + k) * 3 + which];
	}
	ASSERT(count > 0);
	return numbers_median(room, count);
}

static void operations_of(const struct layer *layer, struct shape shape,
			  bool recompute, double out[3])
{
	struct layer_cost cost;

	layer_cost(layer, shape.batch, shape.time, &cost);
	out[0] = cost.forward;
	out[1] = cost.backward_input;
	out[2] = cost.backward_weight;
	if (recompute && layer->recomputable)
		out[1] += cost.forward;
}

/*
 * How much longer a layer's F, I or W takes than one alike did in another
 * shape. What has no products is as many tokens' work.
 */
static double ratio(const struct layer *layer, struct shape shape,
		    const struct layer *other, struct shape other_shape,
		    bool recompute, unsigned which)
{
	double wanted[3], measured[3];

	operations_of(layer, shape, recompute, wanted);
	operations_of(other, other_shape, recompute, measured);
	if (measured[which] > 0)
		return wanted[which] / measured[which];
	return (double)(shape.batch * shape.time) /
	       (double)(other_shape.batch * other_shape.time);
}

static int fill_times(const struct bench *bench, const struct model *model,
		      struct costs *out)
{
	size_t most = (size_t)PASSES_MAX * 3 * model_layer_count(bench->sample);
	double *room = calloc(most, sizeof(*room));

	if (!room)
		return fail(-ENOMEM, "no memory to measure the layers");
	for (unsigned i = 0; i < out->count; i++) {
		const struct layer *layer = model_layer(model, i), *other;
		double times[3];

		for (unsigned which = 0; which < 3; which++) {
			times[which] =
				median(bench, layer, which, room, &other);
			times[which] *=
				ratio(layer, bench->most, other, bench->used,
				      bench->calibration->recompute, which);
		}
		out->rows[i].forward = times[0];
		out->rows[i].input = times[1];
		out->rows[i].weight = times[2];
	}
	free(room);
	return 0;
}

/* A row a layer, times still 0, and what does not need to be measured. */
static int describe(const struct model *model,
		    const struct calibration *calibration, const char *origin,
		    struct costs *out)
{
	int rc = costs_describe_model(
		model, calibration->micro_batch_size, calibration->context,
		calibration->recompute, calibration->threads, out);

	if (rc)
		return rc;
	out->seconds = false;
	snprintf(out->origin, sizeof(out->origin), "%s", origin);
	return 0;
}

int calibrate_by_operations(const struct model *model,
			    const struct calibration *calibration,
			    struct costs *out)
{
	struct shape shape = {calibration->micro_batch_size,
			      calibration->context};
	int rc = describe(model, calibration, "operations", out);

	for (unsigned i = 0; !rc && i < out->count; i++) {
		double counts[3];

		operations_of(model_layer(model, i), shape,
			      calibration->recompute, counts);
		out->rows[i].forward = counts[0];
		out->rows[i].input = counts[1];
		out->rows[i].weight = counts[2];
	}
	return rc;
}

void calibrate_rescale(const struct model *model,
		       const struct calibration *calibration,
		       struct costs *costs)
{
	struct shape now = {calibration->micro_batch_size,
			    calibration->context};
	struct shape then = {costs->micro_batch_size, costs->context};
	bool again = calibration->recompute;

	if (then.batch == 0 || then.time == 0 ||
	    (then.batch == now.batch && then.time == now.time))
		return;
	for (unsigned i = 0; i < costs->count; i++) {
		const struct layer *layer = model_layer(model, i);
		struct costs_row *row = &costs->rows[i];

		row->forward *= ratio(layer, now, layer, then, again, 0);
		row->input *= ratio(layer, now, layer, then, again, 1);
		row->weight *= ratio(layer, now, layer, then, again, 2);
		costs_describe_layer(layer, now.batch, now.time, again,
				     calibration->threads, row);
	}
	costs->message_bytes *= (double)(now.batch * now.time) /
				(double)(then.batch * then.time);
	costs->micro_batch_size = calibration->micro_batch_size;
	costs->context = calibration->context;
	log_info(
		"%s: measured with micro-batches of %zu x %zu tokens, scaled by operations to %zu x %zu",
		costs->origin, then.batch, then.time, now.batch, now.time);
}

static int check_slices(const struct costs *costs, unsigned slices)
{
	if (costs->slices <= 1 || costs->slices == slices)
		return 0;
	return fail(
		-EINVAL,
		"%s: has the costs of layers shared by %u ranks (--tensor %u), not by %u",
		costs->origin, costs->slices, costs->slices, slices);
}

/* Times of whole layers, as many operations longer as a slice has fewer. */
static void slice_times(const struct model *whole, const struct model *slice,
			const struct calibration *calibration,
			const struct costs *from, struct costs *to)
{
	struct shape shape = {calibration->micro_batch_size,
			      calibration->context};
	bool again = calibration->recompute;

	for (unsigned i = 0; i < to->count; i++) {
		const struct layer *all = model_layer(whole, i);
		const struct layer *part = model_layer(slice, i);
		const struct costs_row *row = &from->rows[i];

		to->rows[i].forward =
			row->forward * ratio(part, shape, all, shape, again, 0);
		to->rows[i].input =
			row->input * ratio(part, shape, all, shape, again, 1);
		to->rows[i].weight =
			row->weight * ratio(part, shape, all, shape, again, 2);
	}
}

int calibrate_slice(const struct model *whole, const struct model *slice,
		    const struct calibration *calibration, struct costs *costs)
{
	unsigned slices = model_config(slice)->slices;
	struct costs described;
	int rc = check_slices(costs, slices);

	if (rc || slices <= 1 || costs->slices == slices)
		return rc;
	rc = costs_describe_model(slice, calibration->micro_batch_size,
				  calibration->context, calibration->recompute,
				  calibration->threads, &described);
	if (rc)
		return rc;
	slice_times(whole, slice, calibration, costs, &described);
	free(costs->rows);
	costs->rows = described.rows;
	costs->tied_bytes = described.tied_bytes;
	costs->slices = slices;
	costs_add_tensor(slice, slices, calibration->micro_batch_size,
			 calibration->context, calibration->recompute, costs);
	return 0;
}

int calibrate_by_rate(const struct model *model,
		      const struct calibration *calibration, double rate,
		      double memory, struct costs *out,
		      struct calibration_rates *rates)
{
	enum element_type type = model_config(model)->type;
	size_t copy = type == ELEMENT_F32 ? 0 : element_type_bytes(type);
	int rc = calibrate_by_operations(model, calibration, out);

	if (rc)
		return rc;
	for (unsigned i = 0; i < out->count; i++) {
		out->rows[i].forward /= rate;
		out->rows[i].input /= rate;
		out->rows[i].weight /= rate;
	}
	out->seconds = true;
	snprintf(out->origin, sizeof(out->origin), "%.4g operations a second",
		 rate);
	/* Weight, gradient and two moments read, all but the gradient written,
	 * and a rounded copy; a gradient read; two read and one written. */
	*rates = (struct calibration_rates){
		.update = (double)(7 * sizeof(float) + copy) / memory,
		.square = sizeof(float) / memory,
		.add = 3 * sizeof(float) / memory,
	};
	return 0;
}

int calibrate_layers(const struct model *model,
		     const struct calibration *calibration, struct costs *out,
		     struct calibration_rates *rates)
{
	struct bench bench = {
		.calibration = calibration,
		.most = {calibration->micro_batch_size, calibration->context},
		.begin_ns = clock_now_ns(),
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.all_ready = PTHREAD_COND_INITIALIZER,
		.batch = 1,
		.time = MIN(calibration->context, PROBE_TOKENS),
	};
	struct model *sample;
	int rc = create_sample(model, &sample);

	if (rc)
		return rc;
	bench.sample = sample;
	rc = fit_memory(&bench);
	if (!rc)
		rc = run_bench(&bench);
	if (!rc)
		rc = describe(model, calibration, "measured", out);
	if (!rc) {
		out->seconds = true;
		rc = fill_times(&bench, model, out);
		if (rc)
			costs_fini(out);
		else if (rates)
			*rates = bench.rates;
	}
	free(bench.seconds);
	model_destroy(sample);
	return rc;
}
