/*
 * A training step without data, ranks or files: the layers of a whole model
 * run by the code the ranks run, timed one by one, and the step's end. Rounds
 * of limits, step, step again as control.
 */
#include "tools/bench/step.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/numbers.h"
#include "base/text.h"
#include "engine/calibrate_rig.h"
#include "engine/cores.h"
#include "model/kernels/gemm.h"
#include "model/kernels/optimizer.h"
#include "tools/bench/limits.h"
#include "tools/job_options.h"

static const struct option_spec table[] = {
	{.name = "layers",
	 .kind = OPTION_INTEGER,
	 .argument = "L",
	 .fallback = "12",
	 .minimum = 1,
	 .maximum = 1000,
	 .group = "Model (GPT-2)",
	 .help = "blocks"},
	{.name = "width",
	 .kind = OPTION_INTEGER,
	 .argument = "C",
	 .fallback = "768",
	 .minimum = 1,
	 .maximum = 1 << 20,
	 .help = "numbers a token"},
	{.name = "heads",
	 .kind = OPTION_INTEGER,
	 .argument = "H",
	 .fallback = "12",
	 .minimum = 1,
	 .maximum = 1 << 16,
	 .help = "of attention"},
	{.name = "vocab-size",
	 .kind = OPTION_INTEGER,
	 .argument = "V",
	 .fallback = "50257",
	 .minimum = 2,
	 .maximum = 1 << 24,
	 .help = "tokens known"},
	{.name = "context",
	 .kind = OPTION_INTEGER,
	 .argument = "T",
	 .fallback = "256",
	 .minimum = 1,
	 .maximum = 1 << 20,
	 .group = "Step",
	 .help = "tokens of a sequence"},
	{.name = "micro-batch-size",
	 .kind = OPTION_INTEGER,
	 .argument = "B",
	 .fallback = "4",
	 .minimum = 1,
	 .maximum = 1 << 16,
	 .help = "sequences of a micro-batch"},
	{.name = "micro-batches",
	 .kind = OPTION_INTEGER,
	 .argument = "M",
	 .fallback = "1",
	 .minimum = 1,
	 .maximum = 1 << 16,
	 .help = "of a step"},
	{.name = "recompute",
	 .kind = OPTION_FLAG,
	 .help = "activations are computed again"},
	JOB_OPTION_DTYPE(""),
	BENCH_TEAM_OPTIONS,
	{.name = "json",
	 .kind = OPTION_FLAG,
	 .group = "Output",
	 .help = "one object instead of the table"},
	{.name = NULL},
};

const struct option_command bench_step_command = {
	.name = "bench step",
	.synopsis = "[options]",
	.summary = "where the time of a training step goes, against the limits",
	.description =
		"Runs whole training steps of a model on this process's threads, without data or "
		"files, and says for each kind of layer and action how long it took and what share "
		"that is of the limit: of the rate of matrix products, or of the bandwidth of "
		"memory, both measured before and after the step. Each round does the step twice; where "
		"the two differ by more than 3 % the machine was busy, and the line says so.",
	.table = table,
};

/* Kinds of layers, which are added up. */
enum kind {
	KIND_EMBEDDING,
	KIND_BLOCK,
	KIND_HEAD,
	KINDS,
};

static const char *const kind_names[KINDS] = {"embedding", "blocks", "head"};
static const char *const pass_names[] = {"F", "I", "W"};

#define PASSES 3

/* What one step took, in seconds. */
struct step_times {
	double layer[KINDS][PASSES];
	double norm;
	double update;
	double whole;
	double processor; /* of all threads */
};

struct step_bench {
	const struct options *options;
	struct model *model;
	struct rig rig;
	struct rig_stamps stamps;
	double *seconds; /* [3 * layers] */
	void *scratch;   /* of the norm */
	struct bench_limits_memory *limits_memory;
	struct optimizer_config optimizer;
	unsigned threads;
	unsigned layers; /* all of the model's */
	unsigned micro_batches;
	size_t batch, time;
	uint64_t step;
	size_t weights;              /* updated */
	double update_bytes;         /* that the update moves */
	double flops[KINDS][PASSES]; /* of a step */
	double step_flops;
};

static size_t integer(const struct step_bench *bench, const char *name)
{
	return (size_t)options_integer(bench->options, name);
}

static enum kind kind_of(const struct step_bench *bench, unsigned layer)
{
	if (layer == 0)
		return KIND_EMBEDDING;
	return layer + 1 == bench->layers ? KIND_HEAD : KIND_BLOCK;
}

static void count_flops(struct step_bench *bench)
{
	for (unsigned i = 0; i < bench->layers; i++) {
		enum kind kind = kind_of(bench, i);
		struct layer_cost cost;

		layer_cost(model_layer(bench->model, i), bench->batch,
			   bench->time, &cost);
		bench->flops[kind][0] += bench->micro_batches * cost.forward;
		bench->flops[kind][1] +=
			bench->micro_batches * cost.backward_input;
		bench->flops[kind][2] +=
			bench->micro_batches * cost.backward_weight;
		bench->step_flops += bench->micro_batches *
				     (cost.forward + cost.backward_input +
				      cost.backward_weight);
	}
}

static int create_model(struct step_bench *bench)
{
	struct model_config config;
	int rc = model_config_default("gpt2", &config);

	if (rc)
		return rc;
	config.layers = (unsigned)integer(bench, "layers");
	config.width = (unsigned)integer(bench, "width");
	config.heads = (unsigned)integer(bench, "heads");
	config.vocab_size = (unsigned)integer(bench, "vocab-size");
	config.context = (unsigned)integer(bench, "context");
	config.type = job_options_dtype(bench->options, "dtype");
	config.embedding_dropout = 0;
	config.residual_dropout = 0;
	config.attention_dropout = 0;
	rc = model_create(&config, &bench->model);
	if (!rc)
		bench->layers = model_layer_count(bench->model);
	return rc;
}

static size_t norm_scratch_bytes(const struct store *store)
{
	size_t most = 0;

	for (unsigned i = 0; i < store->count; i++)
		most = MAX(most, square_sum_scratch_bytes(
					 store->rows[i].parameter->count));
	return arena_piece_bytes(MAX(most, (size_t)1));
}

/*
 * Bytes the optimizer cannot but move: for each weight it reads gradient, both
 * moments and weight, and writes these and a zero; and a rounded copy.
 */
static double update_bytes(const struct store *store)
{
	double bytes = 0;

	for (unsigned i = 0; i < store->count; i++) {
		const struct store_row *row = &store->rows[i];

		if (store_row_is_updated(row))
			bytes += (double)row->parameter->count *
				 (row->rounded ? 34 : 32);
	}
	return bytes;
}

static int create_rig(struct step_bench *bench)
{
	int cores[THREADS_MAX];
	unsigned available = threads_available_cores(cores, THREADS_MAX);
	struct rig_config config = {
		.model = bench->model,
		.end_layer = bench->layers,
		.batch = bench->batch,
		.time = bench->time,
		.recompute = options_flag(bench->options, "recompute"),
		.moments = optimizer_moments(&bench->optimizer),
	};
	int rc;

	config.threads = options_is_set(bench->options, "threads")
				 ? (unsigned)integer(bench, "threads")
				 : MIN(available, (unsigned)THREADS_MAX);
	config.cores = config.threads <= available ? cores : NULL;
	bench->threads = config.threads;
	rc = rig_create(&bench->rig, &config);
	if (!rc)
		rc = bench_limits_create(bench->rig.team,
					 &bench->limits_memory);
	if (rc)
		return rc;
	bench->update_bytes = update_bytes(bench->rig.store);
	bench->scratch = aligned_alloc(CACHE_LINE_BYTES,
				       norm_scratch_bytes(bench->rig.store));
	bench->seconds = calloc(3 * bench->layers, sizeof(double));
	bench->stamps.at_ns = calloc(3 * bench->layers, sizeof(int64_t));
	if (!bench->scratch || !bench->seconds || !bench->stamps.at_ns)
		return fail(-ENOMEM, "no memory for the measurements");
	return 0;
}

static void destroy(struct step_bench *bench)
{
	bench_limits_destroy(bench->limits_memory);
	rig_destroy(&bench->rig);
	free(bench->scratch);
	free(bench->seconds);
	free(bench->stamps.at_ns);
	model_destroy(bench->model);
}

/* ---- one step ---- */

static double processor_seconds(void)
{
	struct rusage use;

	getrusage(RUSAGE_SELF, &use);
	return (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
	       1e-6 * (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec);
}

/* As the vote does it: each parameter once. */
static double gradient_norm(struct step_bench *bench)
{
	const struct store *store = bench->rig.store;
	double sum = 0;

	for (unsigned i = 0; i < store->count; i++)
		if (store_row_is_updated(&store->rows[i]))
			sum += square_sum(bench->rig.team,
					  store->rows[i].parameter->count,
					  store->rows[i].accumulators[0],
					  bench->scratch);
	return sqrt(sum);
}

static void run_step(struct step_bench *bench, struct step_times *times)
{
	double processor = processor_seconds();
	int64_t begin = clock_now_ns(), end;

	memset(times, 0, sizeof(*times));
	for (unsigned m = 0; m < bench->micro_batches; m++) {
		rig_pass(&bench->rig, bench->batch, bench->time, &bench->stamps,
			 bench->seconds);
		for (unsigned i = 0; i < bench->layers; i++)
			for (unsigned pass = 0; pass < PASSES; pass++)
				times->layer[kind_of(bench, i)][pass] +=
					bench->seconds[3 * i + pass];
	}
	end = clock_now_ns();
	(void)gradient_norm(bench);
	times->norm = clock_seconds(clock_now_ns() - end);
	end = clock_now_ns();
	bench->weights =
		rig_update(&bench->rig, &bench->optimizer, ++bench->step);
	times->update = clock_seconds(clock_now_ns() - end);
	times->whole = clock_seconds(clock_now_ns() - begin);
	times->processor = processor_seconds() - processor;
}

/* ---- rounds ---- */

struct round {
	struct bench_limits limits;
	struct step_times times;
	double control; /* the second step by the first */
};

#define OF_ROUNDS(rounds, count, values, expression)                           \
	({                                                                     \
		for (unsigned of = 0; of < (count); of++) {                    \
			const struct round *round = &(rounds)[of];             \
			(values)[of] = (expression);                           \
		}                                                              \
		numbers_median(values, count);                                 \
	})

static struct round medians(const struct round *rounds, unsigned count)
{
	double v[BENCH_LIMITS_ROUNDS_MAX];
	struct round out;

#define MEDIAN(member) out.member = OF_ROUNDS(rounds, count, v, round->member)
	MEDIAN(limits.products);
	MEDIAN(limits.read);
	MEDIAN(limits.update);
	MEDIAN(times.norm);
	MEDIAN(times.update);
	MEDIAN(times.whole);
	MEDIAN(times.processor);
	MEDIAN(control);
	for (unsigned kind = 0; kind < KINDS; kind++)
		for (unsigned pass = 0; pass < PASSES; pass++)
			MEDIAN(times.layer[kind][pass]);
#undef MEDIAN
	return out;
}

/* Medians of the rounds' own ratios: the machine's mood is in both. */
struct shares {
	double products; /* of their rate */
	double update;   /* of the bandwidth */
	double norm;
};

#define NORM_BYTES 4.0

static struct shares shares_of(const struct step_bench *bench,
			       const struct round *rounds, unsigned count)
{
	double v[BENCH_LIMITS_ROUNDS_MAX], weights = (double)bench->weights;
	double flops = bench->step_flops * 1e-9;

	return (struct shares){
		.products = OF_ROUNDS(rounds, count, v,
				      flops / round->times.whole /
					      round->limits.products),
		.update = OF_ROUNDS(rounds, count, v,
				    bench->update_bytes * 1e-9 /
					    round->times.update /
					    round->limits.update),
		.norm = OF_ROUNDS(rounds, count, v,
				  weights * NORM_BYTES * 1e-9 /
					  round->times.norm /
					  round->limits.read),
	};
}

static bool is_bfloat16(const struct step_bench *bench)
{
	return model_config(bench->model)->type == ELEMENT_BF16;
}

/* What the machine could do before the step and after, averaged; products are
 * those of the step's type. */
static struct bench_limits around(const struct step_bench *bench,
				  const struct bench_limits *before,
				  const struct bench_limits *after)
{
	double products = before->products + after->products;
	double narrow = before->products_bfloat16 + after->products_bfloat16;

	return (struct bench_limits){
		.products = (is_bfloat16(bench) ? narrow : products) / 2,
		.products_bfloat16 = narrow / 2,
		.read = (before->read + after->read) / 2,
		.update = (before->update + after->update) / 2,
	};
}

static const char *library(const struct step_bench *bench)
{
	return is_bfloat16(bench) ? gemm_bfloat16_library()
				  : gemm_library_core();
}

static void run_rounds(struct step_bench *bench, struct round *rounds,
		       unsigned count)
{
	struct bench_limits before, after;
	struct step_times again;

	run_step(bench, &again); /* warm-up */
	for (unsigned i = 0; i < count; i++) {
		bench_limits_measure(bench->limits_memory, &before);
		run_step(bench, &rounds[i].times);
		bench_limits_measure(bench->limits_memory, &after);
		rounds[i].limits = around(bench, &before, &after);
		run_step(bench, &again);
		rounds[i].control = again.whole / rounds[i].times.whole;
	}
}

/* ---- what is shown ---- */

static bool conclusive(const struct round *round)
{
	return fabs(round->control - 1) <= 0.03;
}

static void print_row(const char *what, double seconds, double whole,
		      double rate, const char *unit, double limit)
{
	printf("%-16s %10.1f ms %6.1f %%", what, seconds * 1e3,
	       100 * seconds / whole);
	if (rate > 0)
		printf("  %8.1f %-8s %5.2f", rate, unit, rate / limit);
	printf("\n");
}

static void print_table(const struct step_bench *bench,
			const struct round *round, const struct shares *shares)
{
	const struct step_times *t = &round->times;
	double weights = (double)bench->weights;
	double tokens =
		(double)(bench->batch * bench->time * bench->micro_batches);

	printf("%.1f M weights, %u x %zu x %zu tokens, %u threads, products: "
	       "%s\n"
	       "limits: products %.1f GFLOP/s, memory read %.1f GB/s, updated "
	       "%.1f GB/s\n\n"
	       "%-16s %13s %8s  %17s %5s\n",
	       weights * 1e-6, bench->micro_batches, bench->batch, bench->time,
	       bench->threads, library(bench), round->limits.products,
	       round->limits.read, round->limits.update, "", "time", "share",
	       "rate", "limit");
	for (unsigned kind = 0; kind < KINDS; kind++)
		for (unsigned pass = 0; pass < PASSES; pass++) {
			char name[32];
			double seconds = t->layer[kind][pass];

			snprintf(name, sizeof(name), "%s %s", kind_names[kind],
				 pass_names[pass]);
			print_row(name, seconds, t->whole,
				  bench->flops[kind][pass] / seconds * 1e-9,
				  "GFLOP/s", round->limits.products);
		}
	print_row("gradient norm", t->norm, t->whole,
		  weights * NORM_BYTES / t->norm * 1e-9, "GB/s",
		  round->limits.read);
	print_row("optimizer", t->update, t->whole,
		  bench->update_bytes / t->update * 1e-9, "GB/s",
		  round->limits.update);
	print_row("step", t->whole, t->whole,
		  bench->step_flops / t->whole * 1e-9, "GFLOP/s",
		  round->limits.products);
	printf("\n%.0f tokens/s; %.3f of the rate of products; processor time "
	       "%.2f x %u threads\n"
	       "control %.3f%s\n",
	       tokens / t->whole, shares->products,
	       t->processor / t->whole / bench->threads, bench->threads,
	       round->control,
	       conclusive(round) ? "" : " (inconclusive: the machine is busy)");
}

static void print_json(const struct step_bench *bench,
		       const struct round *round, const struct shares *shares)
{
	const struct step_times *t = &round->times;
	double tokens =
		(double)(bench->batch * bench->time * bench->micro_batches);

	printf("{\"threads\":%u,\"products\":\"%s\",\"weights\":%zu,"
	       "\"tokens\":%.0f,\"products_gflops\":%.4g,"
	       "\"read_gb_per_second\":%.4g,"
	       "\"update_gb_per_second\":%.4g,\"layers\":[",
	       bench->threads, library(bench), bench->weights, tokens,
	       round->limits.products, round->limits.read,
	       round->limits.update);
	for (unsigned kind = 0; kind < KINDS; kind++)
		for (unsigned pass = 0; pass < PASSES; pass++)
			printf("%s{\"kind\":\"%s\",\"action\":\"%s\","
			       "\"seconds\":%.6g,\"gflop\":%.6g}",
			       kind + pass ? "," : "", kind_names[kind],
			       pass_names[pass], t->layer[kind][pass],
			       bench->flops[kind][pass] * 1e-9);
	printf("],\"norm_seconds\":%.6g,\"update_seconds\":%.6g,"
	       "\"step_seconds\":%.6g,\"processor_seconds\":%.6g,"
	       "\"tokens_per_second\":%.6g,\"of_products\":%.4g,"
	       "\"update_of_bandwidth\":%.4g,"
	       "\"norm_of_bandwidth\":%.4g,\"control\":%.4g,"
	       "\"conclusive\":%s}\n",
	       t->norm, t->update, t->whole, t->processor, tokens / t->whole,
	       shares->products, shares->update, shares->norm, round->control,
	       conclusive(round) ? "true" : "false");
}

int bench_step_run(const struct options *options)
{
	struct step_bench bench = {
		.options = options,
		.optimizer = {.kind = OPTIMIZER_ADAMW,
			      .beta1 = 0.9,
			      .beta2 = 0.999,
			      .epsilon = 1e-8,
			      .weight_decay = 0.1},
	};
	unsigned count = (unsigned)options_integer(options, "rounds");
	struct round rounds[BENCH_LIMITS_ROUNDS_MAX], middle;
	struct shares shares;
	int rc;

	bench.batch = integer(&bench, "micro-batch-size");
	bench.time = integer(&bench, "context");
	bench.micro_batches = (unsigned)integer(&bench, "micro-batches");
	rc = create_model(&bench);
	if (!rc)
		rc = create_rig(&bench);
	if (!rc) {
		count_flops(&bench);
		run_rounds(&bench, rounds, count);
		middle = medians(rounds, count);
		shares = shares_of(&bench, rounds, count);
		if (options_flag(options, "json"))
			print_json(&bench, &middle, &shares);
		else
			print_table(&bench, &middle, &shares);
	}
	destroy(&bench);
	return rc == -EINVAL ? 2 : rc ? 1 : 0;
}
