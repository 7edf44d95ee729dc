/*
 * Tokens generated one after the other, without a tokenizer, ranks or files: the
 * layers of a whole model run by the code the ranks run, each operation timed, and
 * the choice of the token by the code that chooses. What is possible is what
 * reading each weight once a token takes. Rounds of memory, tokens, and tokens
 * again as control.
 */
#include "tools/bench/generate.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/numbers.h"
#include "engine/calibrate_rig.h"
#include "engine/choice.h"
#include "model/kernels/gemm.h"
#include "tools/bench/limits.h"
#include "tools/job_options.h"

#define ROWS_MAX 32

static const struct option_spec table[] = {
	{.name = "arch",
	 .kind = OPTION_STRING,
	 .argument = "NAME",
	 .fallback = "gpt2",
	 .group = "Model",
	 .help = "family, as train has it"},
	{.name = "layers",
	 .kind = OPTION_INTEGER,
	 .argument = "L",
	 .fallback = "12",
	 .minimum = 1,
	 .maximum = 1000,
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
	{.name = "kv-heads",
	 .kind = OPTION_INTEGER,
	 .argument = "H",
	 .minimum = 1,
	 .maximum = 1 << 16,
	 .help = "of keys and values (default: as many)"},
	{.name = "inner",
	 .kind = OPTION_INTEGER,
	 .argument = "F",
	 .minimum = 1,
	 .maximum = 1 << 20,
	 .help = "width of the MLP (default: the family's)"},
	{.name = "vocab-size",
	 .kind = OPTION_INTEGER,
	 .argument = "V",
	 .fallback = "50257",
	 .minimum = 2,
	 .maximum = 1 << 24,
	 .help = "tokens known"},
	JOB_OPTION_DTYPE(""),
	{.name = "context",
	 .kind = OPTION_INTEGER,
	 .argument = "T",
	 .fallback = "128",
	 .minimum = 1,
	 .maximum = 1 << 20,
	 .group = "Text",
	 .help = "tokens, with those that are generated"},
	{.name = "tokens",
	 .kind = OPTION_INTEGER,
	 .argument = "N",
	 .fallback = "32",
	 .minimum = 1,
	 .maximum = 1 << 20,
	 .help = "generated, the last of them"},
	{.name = "temperature",
	 .kind = OPTION_REAL,
	 .argument = "X",
	 .fallback = "0.8",
	 .minimum = 0,
	 .maximum = 100,
	 .help = "as generate has it"},
	{.name = "top-k",
	 .kind = OPTION_INTEGER,
	 .argument = "K",
	 .fallback = "50",
	 .minimum = 0,
	 .maximum = 1 << 24,
	 .help = "as generate has it"},
	BENCH_TEAM_OPTIONS,
	{.name = "json",
	 .kind = OPTION_FLAG,
	 .group = "Output",
	 .help = "one object instead of the table"},
	{.name = NULL},
};

const struct option_command bench_generate_command = {
	.name = "bench generate",
	.synopsis = "[options]",
	.summary =
		"where the time of a generated token goes, against reading the weights",
	.description =
		"Generates tokens with random weights on this process's threads, one after the "
		"other, and says how long each kind of operation took and at what bandwidth "
		"it read its weights. The limit is what reading all weights from end to end takes, "
		"which is measured before and after each round. Each round is done "
		"twice; where the two differ by more than 3 % the machine was busy, and the last "
		"line says so. What messages between ranks take, "
		"'stagecoach generate' shows: it says its tokens a second when it is done.",
	.table = table,
};

/* Operations of a kind, all layers' together. */
struct row {
	const char *name;
	double bytes; /* of weights that a token reads */
};

struct generate_bench {
	const struct options *options;
	struct model *model;
	struct rig rig;
	struct rig_stamps stamps;
	struct choice *choice;
	unsigned threads;
	unsigned *row_of; /* [operations] */
	unsigned operations;
	struct row rows[ROWS_MAX];
	unsigned row_count; /* the last one is the choice */
	size_t context, tokens;
	double bytes;   /* of weights a token reads */
	double weights; /* their number */
};

/* Seconds of one token. */
struct times {
	double row[ROWS_MAX];
	double whole;
};

struct round {
	double read; /* GB/s */
	struct times times;
	double control; /* the second tokens by the first */
};

static size_t integer(const struct generate_bench *bench, const char *name)
{
	return (size_t)options_integer(bench->options, name);
}

/* ---- what a token is made of ---- */

static unsigned row_named(struct generate_bench *bench, const char *name)
{
	for (unsigned i = 0; i < bench->row_count; i++)
		if (!strcmp(bench->rows[i].name, name))
			return i;
	/* What finds no row of its own goes with the last. */
	if (bench->row_count == ROWS_MAX - 1)
		return bench->row_count - 1;
	bench->rows[bench->row_count].name = name;
	return bench->row_count++;
}

/* Products by the name of their weights, others by what they do. */
static const char *row_name(const struct layer_operation *operation)
{
	bool product = !strncmp(operation->kind, "linear", 6);

	return product && operation->name ? operation->name : operation->kind;
}

static void add_operation(struct generate_bench *bench,
			  const struct layer_operation *operation)
{
	unsigned count, row = row_named(bench, row_name(operation));
	const struct parameter *parameters =
		model_parameters(bench->model, &count);

	if (bench->row_of)
		bench->row_of[bench->operations] = row;
	bench->operations++;
	/* A row of the table, of which nobody reads the whole. */
	if (bench->row_of || !strcmp(operation->kind, "embedding"))
		return;
	for (unsigned i = 0; i < operation->parameters; i++) {
		const struct parameter *parameter =
			&parameters[operation->first_parameter + i];
		double bytes =
			(double)parameter->count *
			(double)element_type_bytes(parameter->compute_type);

		bench->rows[row].bytes += bytes;
		bench->bytes += bytes;
		bench->weights += (double)parameter->count;
	}
}

static void walk(struct generate_bench *bench)
{
	struct layer_operation operation;

	bench->operations = 0;
	for (unsigned l = 0; l < model_layer_count(bench->model); l++)
		for (unsigned i = 0; layer_operation(
			     model_layer(bench->model, l), i, &operation);
		     i++)
			add_operation(bench, &operation);
}

/* Once to count the operations, once to note the row of each. */
static int list_operations(struct generate_bench *bench)
{
	walk(bench);
	bench->row_of = calloc(bench->operations, sizeof(*bench->row_of));
	bench->stamps.at_ns = calloc(bench->operations, sizeof(int64_t));
	if (!bench->row_of || !bench->stamps.at_ns)
		return fail(-ENOMEM, "no memory for the measurements");
	walk(bench);
	bench->rows[bench->row_count++].name = "choice";
	return 0;
}

/* ---- life ---- */

static int create_model(struct generate_bench *bench)
{
	struct model_config config;
	int rc = model_config_default(options_string(bench->options, "arch"),
				      &config);

	if (rc)
		return rc;
	config.layers = (unsigned)integer(bench, "layers");
	config.width = (unsigned)integer(bench, "width");
	config.heads = (unsigned)integer(bench, "heads");
	if (options_is_set(bench->options, "kv-heads"))
		config.kv_heads = (unsigned)integer(bench, "kv-heads");
	if (options_is_set(bench->options, "inner"))
		config.inner = (unsigned)integer(bench, "inner");
	config.vocab_size = (unsigned)integer(bench, "vocab-size");
	config.context = (unsigned)bench->context;
	config.type = job_options_dtype(bench->options, "dtype");
	return model_create(&config, &bench->model);
}

static int create_rig(struct generate_bench *bench)
{
	int cores[THREADS_MAX];
	unsigned available = threads_available_cores(cores, THREADS_MAX);
	struct rig_config config = {
		.model = bench->model,
		.end_layer = model_layer_count(bench->model),
		.batch = 1,
		.time = 1,
		.decoding = true,
	};
	int rc;

	config.threads = options_is_set(bench->options, "threads")
				 ? (unsigned)integer(bench, "threads")
				 : MIN(available, (unsigned)THREADS_MAX);
	config.cores = config.threads <= available ? cores : NULL;
	bench->threads = config.threads;
	rc = rig_create(&bench->rig, &config);
	if (!rc)
		rc = choice_create(options_real(bench->options, "temperature"),
				   (unsigned)integer(bench, "top-k"), 1,
				   integer(bench, "vocab-size"),
				   &bench->choice);
	return rc;
}

static void destroy(struct generate_bench *bench)
{
	choice_destroy(bench->choice);
	rig_destroy(&bench->rig);
	free(bench->row_of);
	free(bench->stamps.at_ns);
	model_destroy(bench->model);
}

/* ---- tokens ---- */

/* Adds a token's times. */
static void note(const struct generate_bench *bench, int64_t begin_ns,
		 int64_t decoded_ns, int64_t end_ns, struct times *times)
{
	int64_t last = begin_ns;

	ASSERT(bench->stamps.count == bench->operations);
	for (unsigned i = 0; i < bench->operations; i++) {
		times->row[bench->row_of[i]] +=
			clock_seconds(bench->stamps.at_ns[i] - last);
		last = bench->stamps.at_ns[i];
	}
	times->row[bench->row_count - 1] += clock_seconds(end_ns - decoded_ns);
}

static void run_tokens(struct generate_bench *bench, struct times *times)
{
	size_t vocab = integer(bench, "vocab-size");
	int64_t begin = clock_now_ns(), now = begin;
	int32_t token = 0;

	memset(times, 0, sizeof(*times));
	for (size_t i = 0; i < bench->tokens; i++) {
		const float *logits = rig_decode(
			&bench->rig, token, bench->context - bench->tokens + i,
			&bench->stamps);
		int64_t start = now, decoded = clock_now_ns();

		token = choice_next(bench->choice, logits, vocab);
		now = clock_now_ns();
		note(bench, start, decoded, now, times);
	}
	times->whole = clock_seconds(now - begin) / (double)bench->tokens;
	for (unsigned i = 0; i < bench->row_count; i++)
		times->row[i] /= (double)bench->tokens;
}

/* Of most weights: of the floats, or of their copies in bfloat16. */
static double read_rate(const struct generate_bench *bench)
{
	const struct store *store = bench->rig.store;
	const struct arena *weights =
		store->rounded_arena.used_bytes > store->weight_arena.used_bytes
			? &store->rounded_arena
			: &store->weight_arena;

	return bench_limits_read(bench->rig.team, weights->base,
				 weights->used_bytes);
}

static void run_rounds(struct generate_bench *bench, struct round *rounds,
		       unsigned count)
{
	struct times again;

	run_tokens(bench, &again); /* warm-up */
	for (unsigned i = 0; i < count; i++) {
		double before = read_rate(bench);

		run_tokens(bench, &rounds[i].times);
		run_tokens(bench, &again);
		rounds[i].read = (before + read_rate(bench)) / 2;
		rounds[i].control = again.whole / rounds[i].times.whole;
	}
}

#define OF_ROUNDS(rounds, count, values, expression)                           \
	({                                                                     \
		for (unsigned of = 0; of < (count); of++) {                    \
			const struct round *round = &(rounds)[of];             \
			(values)[of] = (expression);                           \
		}                                                              \
		numbers_median(values, count);                                 \
	})

static struct round medians(const struct generate_bench *bench,
			    const struct round *rounds, unsigned count)
{
	double v[BENCH_LIMITS_ROUNDS_MAX];
	struct round out = {
		.read = OF_ROUNDS(rounds, count, v, round->read),
		.control = OF_ROUNDS(rounds, count, v, round->control),
	};

	out.times.whole = OF_ROUNDS(rounds, count, v, round->times.whole);
	for (unsigned i = 0; i < bench->row_count; i++)
		out.times.row[i] =
			OF_ROUNDS(rounds, count, v, round->times.row[i]);
	return out;
}

/* Of what the limit allows: the median of the rounds' own. */
static double share(const struct generate_bench *bench,
		    const struct round *rounds, unsigned count)
{
	double v[BENCH_LIMITS_ROUNDS_MAX];

	return OF_ROUNDS(rounds, count, v,
			 bench->bytes * 1e-9 / round->times.whole /
				 round->read);
}

/* ---- what is shown ---- */

static bool conclusive(const struct round *round)
{
	return fabs(round->control - 1) <= 0.03;
}

static void print_table(const struct generate_bench *bench,
			const struct round *round, double of_limit)
{
	printf("%.1f M weights, %.3f GB, are read for a token; %zu tokens up to "
	       "position %zu, %u threads\n"
	       "limit: memory read %.1f GB/s, %.1f tokens/s\n\n"
	       "%-16s %13s %8s  %12s %6s\n",
	       bench->weights * 1e-6, bench->bytes * 1e-9, bench->tokens,
	       bench->context, bench->threads, round->read,
	       round->read / (bench->bytes * 1e-9), "", "time", "share", "rate",
	       "limit");
	for (unsigned i = 0; i < bench->row_count; i++) {
		double seconds = round->times.row[i];
		double rate = bench->rows[i].bytes / seconds * 1e-9;

		printf("%-16s %10.3f ms %6.1f %%", bench->rows[i].name,
		       seconds * 1e3, 100 * seconds / round->times.whole);
		if (bench->rows[i].bytes > 0.01 * bench->bytes)
			printf("  %7.1f GB/s %6.2f", rate, rate / round->read);
		printf("\n");
	}
	printf("%-16s %10.3f ms\n"
	       "\n%.1f tokens/s; %.3f of what reading the weights allows\n"
	       "control %.3f%s\n",
	       "token", round->times.whole * 1e3, 1 / round->times.whole,
	       of_limit, round->control,
	       conclusive(round) ? "" : " (inconclusive: the machine is busy)");
}

static void print_json(const struct generate_bench *bench,
		       const struct round *round, double of_limit)
{
	printf("{\"threads\":%u,\"weights\":%.0f,\"bytes\":%.0f,"
	       "\"tokens\":%zu,\"context\":%zu,\"read_gb_per_second\":%.4g,"
	       "\"operations\":[",
	       bench->threads, bench->weights, bench->bytes, bench->tokens,
	       bench->context, round->read);
	for (unsigned i = 0; i < bench->row_count; i++)
		printf("%s{\"name\":\"%s\",\"bytes\":%.0f,\"seconds\":%.6g}",
		       i ? "," : "", bench->rows[i].name, bench->rows[i].bytes,
		       round->times.row[i]);
	printf("],\"token_seconds\":%.6g,\"tokens_per_second\":%.6g,"
	       "\"of_limit\":%.4g,\"control\":%.4g,\"conclusive\":%s}\n",
	       round->times.whole, 1 / round->times.whole, of_limit,
	       round->control, conclusive(round) ? "true" : "false");
}

int bench_generate_run(const struct options *options)
{
	struct generate_bench bench = {.options = options};
	unsigned count = (unsigned)options_integer(options, "rounds");
	struct round rounds[BENCH_LIMITS_ROUNDS_MAX], middle;
	double of_limit;
	int rc = 0;

	bench.context = integer(&bench, "context");
	bench.tokens = integer(&bench, "tokens");
	if (bench.tokens > bench.context)
		rc = fail(-EINVAL, "--tokens %zu does not fit in --context %zu",
			  bench.tokens, bench.context);
	if (!rc)
		rc = create_model(&bench);
	if (!rc)
		rc = list_operations(&bench);
	if (!rc)
		rc = create_rig(&bench);
	if (!rc) {
		run_rounds(&bench, rounds, count);
		middle = medians(&bench, rounds, count);
		of_limit = share(&bench, rounds, count);
		if (options_flag(options, "json"))
			print_json(&bench, &middle, of_limit);
		else
			print_table(&bench, &middle, of_limit);
	}
	destroy(&bench);
	return rc == -EINVAL ? 2 : rc ? 1 : 0;
}
