/*
 * What a pipeline loses beside its schedule's bubble: training steps of one
 * process on all cores, and of stages that share the same cores, in turn. Rounds
 * of one process, each schedule, one process again as control.
 */
#include "tools/bench/pipeline.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "base/numbers.h"
#include "tools/schedule/common.h"
#include "tools/schedule/measure.h"
#include "tools/schedule/real_model.h"
#include "tools/table.h"

#define ENTRIES_MAX 16

/* clang-format off */
static const struct option_spec table[] = {
	{"stages", 'P', OPTION_INTEGER, .argument = "P", .fallback = "2",
	 .minimum = 2, .maximum = 256, .group = "Pipeline",
	 .help = "ranks of the pipeline"},
	{"micro-batches", 'M', OPTION_INTEGER, .argument = "M",
	 .fallback = "8", .minimum = 1, .maximum = SCHEDULE_MAX_MICRO_BATCHES,
	 .help = "micro-batches a step"},
	{"schedules", 's', OPTION_STRING, .argument = "A,B,...",
	 .fallback = "gpipe,1f1b,zb-h1",
	 .help = "names and files to measure"},
	{"chunks", 'V', OPTION_INTEGER, .argument = "V", .minimum = 1,
	 .maximum = 256,
	 .help = "stages a rank holds (default: what the schedule asks for)"},
	{"split", 0, OPTION_LIST, .argument = "N,N,...", .minimum = 0,
	 .maximum = 100000,
	 .help = "blocks a stage, e.g. 9,3 (default: balanced by measured "
		 "costs)"},
	{"transport", 0, OPTION_CHOICE, .argument = "KIND",
	 .choices = "shm|tcp", .fallback = "shm", .help = "of the links"},
	{"tcp-io", 0, OPTION_CHOICE, .argument = "HOW",
	 .choices = "auto|uring|sockets", .fallback = "auto",
	 .help = "how tcp moves bytes"},
	{"no-pin", 0, OPTION_FLAG,
	 .help = "leave threads free to move between cores"},
	{"model", 'm', OPTION_STRING, .argument = "DIR", .group = "Model",
	 .help = "this Hugging Face model folder, or the new one described "
		 "below"},
	{"context", 'T', OPTION_INTEGER, .argument = "T", .minimum = 1,
	 .maximum = 1 << 24,
	 .help = "tokens a sequence (default: 256, or the model's if less)"},
	{"micro-batch-size", 'B', OPTION_INTEGER, .argument = "B",
	 .fallback = "1", .minimum = 1, .maximum = 65535,
	 .help = "sequences a micro-batch"},
	{"recompute", 0, OPTION_FLAG,
	 .help = "keep layer inputs only and run forward again"},
	TRAIN_OPTIONS_MODEL,
	TRAIN_OPTION_DTYPE,
	TRAIN_OPTIONS_ADAPTERS,
	{"steps", 'n', OPTION_INTEGER, .argument = "N", .fallback = "3",
	 .minimum = 1, .maximum = 1000, .group = "How",
	 .help = "steps to measure each time, after one that warms up"},
	{"rounds", 0, OPTION_INTEGER, .argument = "N", .fallback = "3",
	 .minimum = 1, .maximum = 99,
	 .help = "times to measure them all in turn"},
	JOB_OPTIONS_LIVENESS,
	{"threads", 't', OPTION_INTEGER, .argument = "N", .fallback = "0",
	 .minimum = 0, .maximum = 256,
	 .help = "compute threads of each process; 0: all cores for one, "
		 "divided by the ranks for several"},
	JOB_OPTIONS_FAULTS,
	{"json", 0, OPTION_FLAG, .group = "Output",
	 .help = "an object a schedule instead of the table"},
	HOSTS_OPTIONS,
	{0},
};
/* clang-format on */

const struct option_command bench_pipeline_command = {
	.name = "bench pipeline",
	.synopsis = "[options]",
	.summary = "what a pipeline loses beside the bubble of its schedule",
	.description =
		"Trains a model (GPT-2 of 124 million weights, unless another is described) on made-up tokens: by one process on all cores, and by stages that share these cores, with each schedule. Each round does all of them in turn and ends with the one process again; where the two differ by more than 3 % the machine was busy, and the last line says so.\n\n'ratio' is a schedule's rate by that of one process; 'bubble' what the simulator says the schedule leaves idle with the layers' measured times, and nothing else; 'quotient' is the ratio by what the bubble leaves. 'wait' is the share of the step for which the rank that fared worst waited beyond that, for whatever reason. 'predicted' is the simulator's step with all that was measured, 'error' by how much the step was longer.",
	.table = table,
};

/* What one schedule came to; figures are medians in the end. */
struct entry {
	char name[SCHEDULE_NAME_BYTES];
	struct schedule *schedule;
	struct partition *partition;
	double *seconds; /* [rounds] a step */
	double *ratio;
	double *bubble;
	double *quotient;
	double *wait;
	double *predicted;
	double *error;
	double *idle; /* [ranks] of the newest round: the schedule's own */
	struct schedule_measurement last; /* likewise */
};

struct pipeline_bench {
	const struct options *options;
	struct real_model real;
	struct costs guess; /* what splits the layers */
	struct entry one;   /* a process alone */
	struct entry entries[ENTRIES_MAX];
	unsigned count;
	unsigned rounds;
	double *control; /* [rounds] the second of one process by the first */
};

static unsigned integer(const struct pipeline_bench *bench, const char *name)
{
	return (unsigned)options_integer(bench->options, name);
}

/* ---- schedules and splits ---- */

static int allocate_figures(struct entry *entry, unsigned rounds)
{
	double **arrays[] = {&entry->seconds,  &entry->ratio, &entry->bubble,
			     &entry->quotient, &entry->wait,  &entry->predicted,
			     &entry->error};

	for (size_t i = 0; i < ARRAY_SIZE(arrays); i++) {
		*arrays[i] = calloc(rounds, sizeof(double));
		if (!*arrays[i])
			return fail(-ENOMEM, "no memory for %u rounds", rounds);
	}
	return 0;
}

static void entry_fini(struct entry *entry)
{
	schedule_destroy(entry->schedule);
	schedule_measurement_fini(&entry->last);
	free(entry->partition);
	free(entry->seconds);
	free(entry->ratio);
	free(entry->bubble);
	free(entry->quotient);
	free(entry->wait);
	free(entry->predicted);
	free(entry->error);
	free(entry->idle);
}

/* The costs are lent to the setting for as long as it is used. */
static int predict(const struct schedule *schedule, const struct costs *costs,
		   const struct partition *partition,
		   struct schedule_prediction *out)
{
	struct schedule_setting setting = {
		.costs = *costs,
		.buffers = SCHEDULE_BUFFERS_ANY,
	};
	struct partition *own = NULL;

	if (partition) {
		own = malloc(sizeof(*own));
		if (!own)
			return fail(-ENOMEM, "no memory for a split");
		*own = *partition;
	}
	return schedule_prediction_init(out, schedule, &setting, own, 0);
}

static int split(struct pipeline_bench *bench, struct entry *entry)
{
	unsigned layers = model_layer_count(bench->real.model);
	struct schedule_prediction prediction;
	const int64_t *given;
	size_t count = options_list(bench->options, "split", &given);
	int rc;

	if (count && entry != &bench->one) {
		entry->partition = calloc(1, sizeof(*entry->partition));
		if (!entry->partition)
			return fail(-ENOMEM, "no memory for a split");
		return partition_explicit(given, count, layers,
					  entry->schedule->stages,
					  entry->partition);
	}
	rc = predict(entry->schedule, &bench->guess, NULL, &prediction);
	if (rc)
		return rc;
	entry->partition = prediction.partition;
	prediction.partition = NULL;
	schedule_prediction_fini(&prediction);
	return 0;
}

static int open_entry(struct pipeline_bench *bench, struct entry *entry,
		      const char *name, unsigned ranks)
{
	unsigned chunks = ranks > 1 && options_is_set(bench->options, "chunks")
				  ? integer(bench, "chunks")
				  : 0;
	int rc = allocate_figures(entry, bench->rounds);

	if (!rc)
		rc = schedule_open(name, ranks, integer(bench, "micro-batches"),
				   chunks, SCHEDULE_DIALECT_AUTO,
				   &entry->schedule);
	if (rc)
		return rc;
	entry->idle = calloc(ranks, sizeof(*entry->idle));
	if (!entry->idle)
		return fail(-ENOMEM, "no memory for %u ranks", ranks);
	snprintf(entry->name, sizeof(entry->name), "%s", entry->schedule->name);
	return split(bench, entry);
}

static int open_entries(struct pipeline_bench *bench)
{
	const char *list = options_string(bench->options, "schedules");
	char *words = strdup(list), *rest = words, *word;
	int rc = words ? 0 : fail(-ENOMEM, "no memory for a list");

	if (!rc)
		rc = open_entry(bench, &bench->one, "1f1b", 1);
	while (!rc && (word = strsep(&rest, ","))) {
		if (!*word)
			continue;
		if (bench->count == ENTRIES_MAX)
			rc = fail(-EINVAL, "--schedules: %d at most",
				  ENTRIES_MAX);
		else
			rc = open_entry(bench, &bench->entries[bench->count++],
					word, integer(bench, "stages"));
	}
	free(words);
	if (!rc && bench->count == 0)
		rc = fail(-EINVAL, "--schedules %s names none", list);
	return rc;
}

/* ---- one run ---- */

/* Median seconds of a step; the rest is in entry->last. */
static int measure(struct pipeline_bench *bench, struct entry *entry,
		   double *seconds)
{
	struct job *job = malloc(sizeof(*job));
	int rc;

	if (!job)
		return fail(-ENOMEM, "no memory for a job");
	*job = bench->real.job;
	job->partition = *entry->partition;
	schedule_measurement_fini(&entry->last);
	rc = schedule_measure(bench->options, entry->schedule, job,
			      &entry->last);
	job_fini(job);
	free(job);
	if (rc)
		return rc;
	*seconds = numbers_median(entry->last.seconds, entry->last.count);
	log_info("%s, %u rank%s: %.3f s a step", entry->name,
		 entry->schedule->ranks, entry->schedule->ranks > 1 ? "s" : "",
		 *seconds);
	return 0;
}

/* Seconds of a rank's step that went to one kind of action. */
static double time_of(const struct timeline *timeline, unsigned rank,
		      unsigned op)
{
	const struct timeline_row *row = &timeline->rows[rank];
	double sum = 0;

	for (size_t i = 0; i < row->count; i++)
		if (row->events[i].action.op == op)
			sum += row->events[i].end - row->events[i].start;
	return sum;
}

/* What a rank did not compute, the optimizer's step included, in seconds. */
static double measured_wait(const struct timeline *timeline, unsigned rank)
{
	struct timeline_share share;

	timeline_share(timeline, rank, &share);
	return timeline->span - share.compute -
	       time_of(timeline, rank, ACTION_STEP);
}

/* Links and the end of a step that take no time: the schedule by itself. */
static int predict_alone(const struct entry *entry,
			 const struct costs_row *rows,
			 struct schedule_prediction *out)
{
	struct costs costs = entry->last.costs;

	costs.rows = (struct costs_row *)(uintptr_t)rows;
	costs.latency = costs.bandwidth = costs.send = costs.receive = 0;
	costs.tied_bytes = costs.reduce_tied = costs.tied_early = 0;
	costs.vote = costs.step = 0;
	return predict(entry->schedule, &costs, entry->partition, out);
}

/*
 * The layers' times are medians. To tell waiting from computing that took
 * longer than that, each rank's are made to add up to what it computed.
 */
static void stretch_rows(const struct entry *entry,
			 const struct schedule_simulation *simulation,
			 struct costs_row *rows)
{
	for (unsigned i = 0; i < entry->last.costs.count; i++) {
		unsigned stage = partition_stage_of(entry->partition, i);
		unsigned rank = entry->schedule->rank_of_stage[stage];
		struct timeline_share share;
		double factor;

		timeline_share(&entry->last.timeline, rank, &share);
		factor = share.compute / simulation->busy[rank];
		rows[i].forward *= factor;
		rows[i].input *= factor;
		rows[i].weight *= factor;
	}
}

/* The most that a rank waited beyond what the schedule made it. */
static int find_wait(struct entry *entry, struct costs_row *rows,
		     unsigned round)
{
	const struct timeline *timeline = &entry->last.timeline;
	struct schedule_prediction prediction;
	double worst = -INFINITY;
	int rc = predict_alone(entry, rows, &prediction);

	if (rc)
		return rc;
	for (unsigned r = 0; r < timeline->ranks; r++) {
		entry->idle[r] = prediction.simulation.idle[r];
		worst = fmax(worst,
			     measured_wait(timeline, r) - entry->idle[r]);
	}
	entry->wait[round] = worst / timeline->span;
	schedule_prediction_fini(&prediction);
	return 0;
}

static int find_bubble(struct entry *entry, unsigned round)
{
	const struct costs *costs = &entry->last.costs;
	struct costs_row *rows = calloc(costs->count, sizeof(*rows));
	struct schedule_prediction prediction;
	int rc;

	if (!rows)
		return fail(-ENOMEM, "no memory for costs");
	memcpy(rows, costs->rows, costs->count * sizeof(*rows));
	rc = predict_alone(entry, rows, &prediction);
	if (!rc) {
		entry->bubble[round] = prediction.simulation.bubble /
				       prediction.simulation.makespan;
		stretch_rows(entry, &prediction.simulation, rows);
		schedule_prediction_fini(&prediction);
		rc = find_wait(entry, rows, round);
	}
	free(rows);
	return rc;
}

static int find_prediction(struct entry *entry, unsigned round)
{
	struct schedule_prediction prediction;
	int rc = predict(entry->schedule, &entry->last.costs, entry->partition,
			 &prediction);

	if (rc)
		return rc;
	entry->predicted[round] = prediction.simulation.makespan;
	entry->error[round] =
		entry->seconds[round] / prediction.simulation.makespan - 1;
	schedule_prediction_fini(&prediction);
	return 0;
}

static int measure_entry(struct pipeline_bench *bench, struct entry *entry,
			 unsigned round)
{
	int rc = measure(bench, entry, &entry->seconds[round]);

	if (!rc)
		rc = find_bubble(entry, round);
	if (!rc)
		rc = find_prediction(entry, round);
	return rc;
}

/* The rate of one process is that of its two runs, before and after. */
static void compare(struct pipeline_bench *bench, unsigned round, double before,
		    double after)
{
	bench->one.seconds[round] = (before + after) / 2;
	bench->control[round] = after / before;
	for (unsigned i = 0; i < bench->count; i++) {
		struct entry *entry = &bench->entries[i];

		entry->ratio[round] =
			bench->one.seconds[round] / entry->seconds[round];
		entry->quotient[round] =
			entry->ratio[round] / (1 - entry->bubble[round]);
	}
}

static int run_rounds(struct pipeline_bench *bench)
{
	int rc = 0;

	for (unsigned round = 0; !rc && round < bench->rounds; round++) {
		double before, after;

		rc = measure(bench, &bench->one, &before);
		for (unsigned i = 0; !rc && i < bench->count; i++)
			rc = measure_entry(bench, &bench->entries[i], round);
		if (!rc)
			rc = measure(bench, &bench->one, &after);
		if (!rc)
			compare(bench, round, before, after);
	}
	return rc;
}

/* ---- what is shown ---- */

static double median(const struct pipeline_bench *bench, const double *values)
{
	double room[100];

	memcpy(room, values, bench->rounds * sizeof(*room));
	return numbers_median(room, bench->rounds);
}

static double tokens(const struct pipeline_bench *bench)
{
	return (double)integer(bench, "micro-batches") *
	       bench->real.job.micro_batch_size * bench->real.job.context;
}

static bool conclusive(const struct pipeline_bench *bench)
{
	return fabs(median(bench, bench->control) - 1) <= 0.03;
}

static void put_memory(struct table *rows, unsigned column,
		       const struct schedule_measurement *found)
{
	char text[TABLE_CELL_BYTES] = "";
	size_t used = 0;

	for (unsigned r = 0; r < found->ranks && used < sizeof(text); r++)
		used += (size_t)snprintf(text + used, sizeof(text) - used,
					 "%s%.0f", r ? ", " : "",
					 found->peak_bytes[r] / 1e6);
	table_put(rows, column, "%s", text);
}

static const char *const heads[] = {
	"schedule", "step s", "tokens/s",    "ratio", "bubble",
	"quotient", "wait",   "predicted s", "error", "peak MB a rank"};

static void put_entry(const struct pipeline_bench *bench, struct table *rows,
		      const struct entry *entry)
{
	double seconds = median(bench, entry->seconds);

	table_put(rows, 0, "%s",
		  entry == &bench->one ? "one process" : entry->name);
	table_put(rows, 1, "%.3f", seconds);
	table_put(rows, 2, "%.1f", tokens(bench) / seconds);
	if (entry != &bench->one) {
		table_put(rows, 3, "%.3f", median(bench, entry->ratio));
		table_put(rows, 4, "%.2f %%",
			  100 * median(bench, entry->bubble));
		table_put(rows, 5, "%.3f", median(bench, entry->quotient));
		table_put(rows, 6, "%.2f %%", 100 * median(bench, entry->wait));
		table_put(rows, 7, "%.3f", median(bench, entry->predicted));
		table_put(rows, 8, "%+.1f %%",
			  100 * median(bench, entry->error));
	}
	put_memory(rows, 9, &entry->last);
	rows->rows++;
}

/* Where each rank's time went in the newest median step. */
static void print_rank(const struct entry *entry, unsigned rank)
{
	const struct timeline *timeline = &entry->last.timeline;
	struct timeline_share share;

	timeline_share(timeline, rank, &share);
	printf("%s, rank %u: compute %.3f s, sending %.3f, waiting %.3f, "
	       "tie %.3f, vote %.3f, optimizer %.3f, rest %.3f; idle by the "
	       "schedule %.3f\n",
	       entry->name, rank, share.compute, share.sending, share.waiting,
	       time_of(timeline, rank, ACTION_REDUCE_TIED),
	       time_of(timeline, rank, ACTION_VOTE),
	       time_of(timeline, rank, ACTION_STEP), share.idle,
	       entry->idle[rank]);
}

static void print_ranks(const struct pipeline_bench *bench)
{
	for (unsigned i = 0; i < bench->count; i++)
		for (unsigned r = 0; r < bench->entries[i].last.timeline.ranks;
		     r++)
			print_rank(&bench->entries[i], r);
}

static int print_table(const struct pipeline_bench *bench)
{
	struct text_builder out;
	struct table rows;
	char split[1024];
	int rc;

	text_builder_init(&out);
	rc = table_init(&rows, ARRAY_SIZE(heads), bench->count + 2, &out);
	if (rc)
		return rc;
	table_heads(&rows, heads);
	put_entry(bench, &rows, &bench->one);
	for (unsigned i = 0; i < bench->count; i++)
		put_entry(bench, &rows, &bench->entries[i]);
	table_write(&rows);
	printf("%u stages (layers %s), %u x %u x %u tokens, %s, links: %s\n\n",
	       integer(bench, "stages"),
	       partition_text(bench->entries[0].partition, split,
			      sizeof(split)),
	       integer(bench, "micro-batches"),
	       bench->real.job.micro_batch_size, bench->real.job.context,
	       options_string(bench->options, "dtype"),
	       options_string(bench->options, "transport"));
	rc = schedule_command_print(text_builder_finish(&out));
	printf("\n");
	print_ranks(bench);
	printf("\ncontrol %.3f%s\n", median(bench, bench->control),
	       conclusive(bench) ? "" : " (inconclusive: the machine is busy)");
	return rc;
}

static void print_peaks(const struct schedule_measurement *found)
{
	printf("\"peak_bytes\":[");
	for (unsigned r = 0; r < found->ranks; r++)
		printf("%s%.0f", r ? "," : "", found->peak_bytes[r]);
	printf("]");
}

static void print_json(const struct pipeline_bench *bench)
{
	double one = median(bench, bench->one.seconds);

	for (unsigned i = 0; i < bench->count; i++) {
		const struct entry *entry = &bench->entries[i];
		double seconds = median(bench, entry->seconds);

		printf("{\"schedule\":\"%s\",\"transport\":\"%s\","
		       "\"dtype\":\"%s\","
		       "\"stages\":%u,\"micro_batches\":%u,"
		       "\"step_seconds\":%.6g,\"tokens_per_second\":%.6g,"
		       "\"one_process_seconds\":%.6g,\"ratio\":%.4g,"
		       "\"bubble\":%.4g,\"quotient\":%.4g,\"wait\":%.4g,"
		       "\"predicted_seconds\":%.6g,\"error\":%.4g,",
		       entry->name, options_string(bench->options, "transport"),
		       options_string(bench->options, "dtype"),
		       entry->schedule->ranks, entry->schedule->micro_batches,
		       seconds, tokens(bench) / seconds, one,
		       median(bench, entry->ratio),
		       median(bench, entry->bubble),
		       median(bench, entry->quotient),
		       median(bench, entry->wait),
		       median(bench, entry->predicted),
		       median(bench, entry->error));
		print_peaks(&entry->last);
		printf(",\"control\":%.4g,\"conclusive\":%s}\n",
		       median(bench, bench->control),
		       conclusive(bench) ? "true" : "false");
	}
}

/* ---- all of it ---- */

static bool describes_model(const struct options *options)
{
	static const char *const names[] = {"model",     "arch",    "layers",
					    "width",     "heads",   "inner",
					    "head-size", "kv-heads"};
	bool described = false;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		described |= options_is_set(options, names[i]);
	return described;
}

/* GPT-2's smallest size, where nothing describes another model. */
static int read_model(struct pipeline_bench *bench)
{
	struct model_config *config = &bench->real.job.config;
	int rc = real_model_read(bench->options, &bench->real);

	if (rc || describes_model(bench->options))
		return rc;
	config->layers = 12;
	config->width = 768;
	config->heads = 12;
	config->head_size = 0;
	config->inner = 0;
	model_destroy(bench->real.model);
	bench->real.model = NULL;
	return model_create(config, &bench->real.model);
}

static int prepare(struct pipeline_bench *bench)
{
	int rc = read_model(bench);

	bench->rounds = integer(bench, "rounds");
	bench->control = calloc(bench->rounds, sizeof(*bench->control));
	if (!rc && !bench->control)
		rc = fail(-ENOMEM, "no memory for %u rounds", bench->rounds);
	if (!rc)
		rc = real_model_calibrate(&bench->real, bench->options,
					  integer(bench, "stages"),
					  &bench->guess);
	return rc ? rc : open_entries(bench);
}

int bench_pipeline_run(const struct options *options)
{
	struct pipeline_bench bench = {.options = options};
	int rc = prepare(&bench);

	if (!rc)
		rc = run_rounds(&bench);
	if (!rc && options_flag(options, "json"))
		print_json(&bench);
	else if (!rc)
		rc = print_table(&bench);
	entry_fini(&bench.one);
	for (unsigned i = 0; i < bench.count; i++)
		entry_fini(&bench.entries[i]);
	costs_fini(&bench.guess);
	real_model_fini(&bench.real);
	free(bench.control);
	return rc == -EINVAL || rc == -ENOENT ? 2 : rc ? 1 : 0;
}
