#include "tools/train_options.h"
#include "base/log.h"
#include "base/text.h"
#include "engine/accumulator.h"
#include "engine/host.h"
#include "schedules/schedule.h"
#include "tools/hosts_options.h"
#include "tools/job_options.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the model ---- */

/* What a family has its own idea of. */
static void new_model_shape(const struct options *o,
			    struct model_config *config)
{
	const struct {
		const char *name;
		unsigned *field;
	} sizes[] = {
		{"kv-heads", &config->kv_heads},
		{"head-size", &config->head_size},
		{"inner", &config->inner},
		{"window", &config->window},
	};

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
		if (options_is_set(o, sizes[i].name))
			*sizes[i].field =
				(unsigned)options_integer(o, sizes[i].name);
	if (options_is_set(o, "rope-theta"))
		config->rope.theta = options_real(o, "rope-theta");
	if (options_is_set(o, "tied"))
		config->tied = strcmp(options_string(o, "tied"), "yes") == 0;
}

static int new_model(const struct options *o, size_t vocab_size,
		     const char *source, struct model_config *config)
{
	int rc = model_config_default(options_string(o, "arch"), config);

	if (rc)
		return rc;
	if (options_is_set(o, "vocab-size"))
		vocab_size = (size_t)options_integer(o, "vocab-size");
	if (vocab_size == 0)
		return fail(
			-EINVAL,
			"%s does not say how many tokens there are: give --vocab-size (GPT-2: 50257)",
			source);
	config->vocab_size = (unsigned)vocab_size;
	config->layers = (unsigned)options_integer(o, "layers");
	config->width = (unsigned)options_integer(o, "width");
	config->heads = (unsigned)options_integer(o, "heads");
	config->context = 256;
	if (options_is_set(o, "context"))
		config->context = (unsigned)options_integer(o, "context");
	model_config_set_dropout(config, 0);
	new_model_shape(o, config);
	return 0;
}

/* New ones, where --lora-rank asks for them. */
static int old_model_adapters(const struct options *options, const char *folder,
			      struct job *job)
{
	struct model_adapters *adapters = &job->config.adapters;
	const char *targets = options_string(options, "lora-targets");

	if (!options_is_set(options, "lora-rank")) {
		if (targets || options_is_set(options, "lora-alpha"))
			return fail(-EINVAL, "--lora-alpha and --lora-targets "
					     "belong to --lora-rank R");
		return 0;
	}
	if (adapters->rank > 0)
		return fail(
			-EINVAL,
			"%s holds adapters, which are trained on without --lora-rank; for new ones over them merge these first",
			folder);
	adapters->rank = (unsigned)options_integer(options, "lora-rank");
	adapters->alpha = options_is_set(options, "lora-alpha")
				  ? options_real(options, "lora-alpha")
				  : 2.0 * adapters->rank;
	if (targets &&
	    text_copy(adapters->targets, sizeof(adapters->targets), targets))
		return fail(-EINVAL, "--lora-targets is too long");
	return job_options_whole_path(job->model);
}

static int old_model(const struct options *options, const char *folder,
		     struct job *job)
{
	static const char *const new_only[] = {
		"layers", "width",      "heads", "vocab-size",
		"arch",   "kv-heads",   "inner", "head-size",
		"window", "rope-theta", "tied"};
	int rc;

	for (size_t i = 0; i < ARRAY_SIZE(new_only); i++)
		if (options_is_set(options, new_only[i]))
			return fail(
				-EINVAL,
				"--%s is for new models; the one in %s has its own",
				new_only[i], folder);
	rc = job_options_model(options, folder, job);
	if (rc || !options_has(options, "lora-rank"))
		return rc;
	return old_model_adapters(options, folder, job);
}

static bool wants_adapters(const struct options *options)
{
	static const char *const names[] = {"lora-rank", "lora-alpha",
					    "lora-targets", "base"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (options_has(options, names[i]) &&
		    options_is_set(options, names[i]))
			return true;
	return false;
}

int train_options_model(const struct options *options, size_t vocab_size,
			const char *source, struct job *job)
{
	const char *folder = options_string(options, "model");
	int rc;

	if (!folder && wants_adapters(options))
		return fail(-EINVAL, "adapters are trained beside a model that "
				     "is there: give --model DIR");
	rc = folder ? old_model(options, folder, job)
		    : new_model(options, vocab_size, source, &job->config);
	if (!rc)
		job->config.type = job_options_dtype(options, "dtype");
	return rc;
}

void train_options_dropout(const struct options *options,
			   struct model_config *config)
{
	if (options_is_set(options, "dropout"))
		model_config_set_dropout(config,
					 options_real(options, "dropout"));
}

/* ---- the grid, the batch, the optimizer, the schedule ---- */

int train_options_grid(const struct options *o, struct job *job)
{
	job->replicas = (unsigned)options_integer(o, "replicas");
	job->shard_optimizer = options_flag(o, "shard-optimizer");
	return job_options_slices(o, job);
}

int train_options_batch(const struct options *o, struct job *job)
{
	job->context = MIN(job->config.context, 256u);
	if (options_is_set(o, "context"))
		job->context = (unsigned)options_integer(o, "context");
	job->micro_batches = (unsigned)options_integer(o, "micro-batches");
	job->micro_batch_size =
		(unsigned)options_integer(o, "micro-batch-size");
	job->gradient_groups = job->replicas;
	if (options_is_set(o, "gradient-groups"))
		job->gradient_groups =
			(unsigned)options_integer(o, "gradient-groups");
	job->recompute = options_flag(o, "recompute");
	if (job->context > job->config.context)
		return fail(
			-EINVAL,
			"--context %u is longer than the model's positions (%u)",
			job->context, job->config.context);
	return 0;
}

void train_options_optimizer(const struct options *options,
			     struct optimizer_config *out)
{
	out->kind = strcmp(options_string(options, "optimizer"), "sgd") == 0
			    ? OPTIMIZER_SGD
			    : OPTIMIZER_ADAMW;
	out->momentum = options_real(options, "momentum");
}

static int check_schedule(const struct schedule *schedule)
{
	struct schedule_report report;
	int rc = schedule_validate(schedule, SCHEDULE_BUFFERS_ANY, &report);

	if (rc == -EINVAL)
		fail(rc, "schedule %s: %s", schedule->name, report.reason);
	else if (!rc && schedule->forward_only)
		rc = fail(-EINVAL,
			  "schedule %s has no backward: it cannot train",
			  schedule->name);
	else if (!rc && !report.bit_identical)
		log_warning(
			"schedule %s does not give the same bits as others: %s",
			schedule->name, report.bit_reason);
	schedule_report_fini(&report);
	return rc;
}

int train_options_schedule(const struct options *options, struct job *job)
{
	struct schedule *schedule;
	int rc = job_check_shares(job);

	if (!rc)
		rc = job_options_path(job->schedule,
				      options_string(options, "schedule"));
	if (!rc)
		rc = schedule_open(job->schedule, job->ranks, job_share(job),
				   (unsigned)options_integer(options, "chunks"),
				   SCHEDULE_DIALECT_AUTO, &schedule);
	if (rc)
		return rc;
	job->chunks = schedule->chunks;
	rc = check_schedule(schedule);
	schedule_destroy(schedule);
	return rc;
}

void train_options_place(const struct options *options, const struct job *job,
			 struct calibration *out)
{
	*out = (struct calibration){
		.micro_batch_size = job->micro_batch_size,
		.context = job->context,
		.recompute = job->recompute,
	};
	calibration_place(out, hosts_options_neighbours(job_ranks(job)),
			  (unsigned)options_integer(options, "threads"),
			  !options_flag(options, "no-pin"));
}

/* ---- costs ---- */

/* What the job and its split are worked out from. */
struct splitting {
	const struct options *options;
	const struct model *model;
	struct job *job;
	struct train_split *out;
	bool everything;
	double *layers; /* [layers] F + I + W, what is balanced */
	bool measured;  /* else by operations */
};

/* A measurement that is not possible is no reason not to train. */
static int measure_costs(struct splitting *s)
{
	struct calibration *calibration = &s->out->calibration;
	int rc;

	calibration->budget_ns =
		s->everything ? CALIBRATION_LONG_NS : CALIBRATION_SHORT_NS;
	calibration->optimizer = s->everything ? &s->job->optimizer : NULL;
	rc = calibrate_layers(s->model, calibration, &s->out->costs,
			      &s->out->rates);
	s->measured = !rc;
	if (rc != -ENOMEM)
		return rc;
	log_warning("layers are balanced by operations instead");
	return calibrate_by_operations(s->model, calibration, &s->out->costs);
}

static int read_costs(struct splitting *s, const char *text)
{
	struct costs *costs = &s->out->costs;
	int rc = costs_open(text, costs);

	if (rc)
		return rc;
	/* For a prediction alone costs of ranks or stages will do. */
	if (s->everything && costs->kind != COSTS_LAYERS)
		return 0;
	s->measured = true;
	rc = costs_check_model(costs, s->model);
	if (!rc)
		calibrate_rescale(s->model, &s->out->calibration, costs);
	return rc;
}

/* Where auto chooses: what it takes between ranks of one host, or of several. */
static const char *link_to_measure(const struct splitting *s)
{
	const char *transport =
		job_options_transport(s->options, job_ranks(s->job));

	if (strcmp(transport, "auto") != 0)
		return transport;
	return hosts_options_current() ? "tcp" : "shm";
}

static int find_costs(struct splitting *s)
{
	const char *text = options_string(s->options, "costs");
	int rc;

	if (strcmp(text, "operations") == 0)
		return calibrate_by_operations(s->model, &s->out->calibration,
					       &s->out->costs);
	if (strcmp(text, "measure") != 0)
		return read_costs(s, text);
	rc = measure_costs(s);
	if (!rc && s->measured && s->everything && s->job->ranks > 1)
		rc = calibrate_link(link_to_measure(s),
				    options_string(s->options, "tcp-io"),
				    &s->out->costs);
	return rc;
}

static int sum_layers(struct splitting *s)
{
	const struct costs *costs = &s->out->costs;
	unsigned layers = model_layer_count(s->model);
	struct costs operations = {0};
	int rc = 0;

	s->layers = calloc(layers, sizeof(*s->layers));
	if (!s->layers)
		return fail(-ENOMEM, "no memory to split the model");
	if (costs->kind != COSTS_LAYERS || costs->count == 0) {
		rc = calibrate_by_operations(s->model, &s->out->calibration,
					     &operations);
		costs = &operations;
	}
	for (unsigned i = 0; !rc && i < layers; i++)
		s->layers[i] = costs->rows[i].forward + costs->rows[i].input +
			       costs->rows[i].weight;
	costs_fini(&operations);
	return rc;
}

/* ---- the best split ---- */

static int bytes_of_cap(const struct options *options, double *out)
{
	if (!options_is_set(options, "memory-cap"))
		return 0;
	*out = (double)options_bytes(options, "memory-cap");
	return 1;
}

/*
 * A balance under a cap, or the least cap (`cap` 0) of any split. The plan
 * that knows the bytes needs a split to begin with, which any balance gives.
 */
static int balance_under(const struct options *options,
			 const struct model *model, struct job *job,
			 struct partition_problem *problem, double cap,
			 struct partition_result *result)
{
	struct calibration place;
	struct plan *plan;
	int rc = partition_balance(problem->costs, problem->layers,
				   problem->stages, &job->partition);

	train_options_place(options, job, &place);
	if (!rc)
		rc = plan_create(job, model, place.threads, &plan);
	if (rc)
		return rc;
	problem->bytes = plan_stage_bytes;
	problem->argument = plan;
	problem->fixed_bytes = plan_fixed_bytes(plan);
	problem->rank_of_stage = plan_rank_of_stage(plan);
	problem->cap = cap;
	rc = problem->fixed_bytes
		     ? partition_find(problem, &job->partition, result)
		     : fail(-ENOMEM, "no memory to split the model");
	plan_destroy(plan);
	return rc;
}

static int open_placement(const struct job *job, struct schedule **out)
{
	return schedule_open(job->schedule, job->ranks, job_share(job),
			     job->chunks, SCHEDULE_DIALECT_AUTO, out);
}

/* ---- what would fit ---- */

/* Ways to need less memory, each tried on its own. */
enum way {
	WAY_RECOMPUTE,
	WAY_SHARD,
	WAY_STAGES,
	WAY_BATCH,
	WAY_SCHEDULE,
	WAY_COUNT,
};

/* Changes the job that way, and says how; false: not possible. */
static bool go_way(enum way way, const struct splitting *s, struct job *job,
		   char *text, size_t size)
{
	const struct schedule_kind *kind = schedule_kind_find(job->schedule);
	char why[256];

	switch (way) {
	case WAY_RECOMPUTE:
		snprintf(text, size, "--recompute");
		if (job->recompute)
			return false;
		job->recompute = true;
		return true;
	case WAY_SHARD:
		snprintf(text, size, "--shard-optimizer");
		if (job->replicas <= 1 || job->shard_optimizer)
			return false;
		job->shard_optimizer = true;
		return true;
	case WAY_STAGES:
		job->ranks *= 2;
		snprintf(text, size, "--stages %u", job->ranks);
		return kind && job->ranks <= 1024 &&
		       job->ranks * job->chunks <=
			       model_layer_count(s->model) &&
		       kind->check(job->ranks, job_share(job), job->chunks, why,
				   sizeof(why)) == 0;
	case WAY_BATCH:
		job->micro_batch_size /= 2;
		snprintf(text, size, "--micro-batch-size %u",
			 job->micro_batch_size);
		return job->micro_batch_size > 0;
	case WAY_SCHEDULE:
		snprintf(text, size, "--schedule 1f1b");
		if (strcmp(job->schedule, "1f1b") == 0 || job->chunks > 1)
			return false;
		snprintf(job->schedule, sizeof(job->schedule), "1f1b");
		return true;
	case WAY_COUNT:
		break;
	}
	return false;
}

/* The least cap this job could be run under; 0: not known. */
static double least_cap(const struct splitting *s, struct job *job)
{
	struct partition_problem problem = {
		.layers = model_layer_count(s->model),
		.stages = job->ranks * job->chunks,
		.costs = s->layers,
		.ranks = job->ranks,
	};
	struct partition_result result = {0};
	int rc = balance_under(s->options, s->model, job, &problem, 0, &result);

	return rc == -ENOSPC ? result.least_cap : 0;
}

static void append_way(const struct splitting *s, enum way way, double cap,
		       bool fitting, struct text_builder *text)
{
	struct job *job = malloc(sizeof(*job));
	char words[64], bytes[32];
	double least;

	if (!job)
		return;
	*job = *s->job;
	if (go_way(way, s, job, words, sizeof(words))) {
		least = least_cap(s, job);
		if (least > 0 && (least <= cap) == fitting)
			text_builder_append(text, "%s%s (%s)",
					    text->length ? ", " : "", words,
					    text_bytes(bytes, sizeof(bytes),
						       (uint64_t)least));
	}
	free(job);
}

/* "--recompute (455.1 MiB), --stages 4 (470.2 MiB)"; the caller frees. */
static char *ways(const struct splitting *s, double cap, bool fitting)
{
	struct text_builder text;

	text_builder_init(&text);
	for (unsigned way = 0; way < WAY_COUNT; way++)
		append_way(s, (enum way)way, cap, fitting, &text);
	return text_builder_finish(&text);
}

/* -EINVAL: what is needed, and what would make it fit. */
static int refuse_cap(const struct splitting *s, const char *what, double cap,
		      double needed)
{
	char wanted[32], had[32];
	char *fitting = ways(s, cap, true);
	char *others = fitting && !*fitting ? ways(s, cap, false) : NULL;
	int rc;

	text_bytes(had, sizeof(had), (uint64_t)cap);
	text_bytes(wanted, sizeof(wanted), (uint64_t)needed);
	if (fitting && *fitting)
		rc = fail(
			-EINVAL,
			"--memory-cap %s: %s %s on a rank; what would fit: %s",
			had, what, wanted, fitting);
	else
		rc = fail(
			-EINVAL,
			"--memory-cap %s: %s %s on a rank; not enough on its own: %s",
			had, what, wanted,
			others && *others ? others : "nothing was found");
	free(fitting);
	free(others);
	return rc;
}

/* ---- why ---- */

static void append(char *out, size_t size, const char *text)
{
	size_t used = strlen(out);

	snprintf(out + used, size - used, "%s", text);
}

/* "12.3 ms", or where costs are no times a multiple of the mean. */
static const char *amount(const struct splitting *s, double cost, double mean,
			  char *buffer, size_t size)
{
	if (s->out->costs.seconds && cost >= 1)
		snprintf(buffer, size, "%.2f s", cost);
	else if (s->out->costs.seconds)
		snprintf(buffer, size, "%.3g ms", 1e3 * cost);
	else
		snprintf(buffer, size, "%.3g x the mean",
			 mean > 0 ? cost / mean : 0);
	return buffer;
}

/* The head in blocks, as it is what makes splits uneven. */
static double head_in_blocks(const struct splitting *s)
{
	unsigned layers = model_layer_count(s->model);
	double inner = 0;

	for (unsigned i = 1; i + 1 < layers; i++)
		inner += s->layers[i];
	return inner > 0 ? s->layers[layers - 1] * (layers - 2) / inner : 0;
}

static void explain(struct splitting *s, unsigned stages, double cap)
{
	struct train_split *out = s->out;
	unsigned layers = model_layer_count(s->model);
	char text[128], number[48];
	double sum = 0, head = head_in_blocks(s);

	for (unsigned i = 0; i < layers; i++)
		sum += s->layers[i];
	snprintf(out->reason, sizeof(out->reason), "balanced by %s",
		 !s->measured ? "operations"
		 : strcmp(out->costs.origin, "measured") == 0
			 ? "measured cost"
			 : out->costs.origin);
	if (cap > 0)
		append(out->reason, sizeof(out->reason), " under the cap");
	if (!out->result.exact)
		append(out->reason, sizeof(out->reason), " (the best found)");
	if (stages > s->job->ranks) {
		snprintf(text, sizeof(text), ", slowest rank %s",
			 amount(s, out->result.slowest_rank,
				sum / s->job->ranks, number, sizeof(number)));
		append(out->reason, sizeof(out->reason), text);
	}
	snprintf(text, sizeof(text), ", slowest stage %s of F+I+W",
		 amount(s, out->result.slowest_stage, sum / stages, number,
			sizeof(number)));
	append(out->reason, sizeof(out->reason), text);
	snprintf(text, sizeof(text), ", head = %.1f blocks", head);
	append(out->reason, sizeof(out->reason), text);
}

/* ---- all of it ---- */

static int balance(struct splitting *s, const struct schedule *schedule)
{
	struct partition_problem problem = {
		.layers = model_layer_count(s->model),
		.stages = schedule->stages,
		.costs = s->layers,
		.ranks = schedule->ranks,
		.rank_of_stage = schedule->rank_of_stage,
	};
	double cap = 0;
	int rc;

	if (bytes_of_cap(s->options, &cap))
		rc = balance_under(s->options, s->model, s->job, &problem, cap,
				   &s->out->result);
	else
		rc = partition_find(&problem, &s->job->partition,
				    &s->out->result);
	if (rc == -ENOSPC)
		return refuse_cap(s, "no split holds less than", cap,
				  s->out->result.least_cap);
	if (!rc)
		explain(s, schedule->stages, cap);
	return rc;
}

static int split_over(struct splitting *s, const struct schedule *schedule)
{
	unsigned layers = model_layer_count(s->model);
	const int64_t *blocks;
	size_t count = options_list(s->options, "split", &blocks);
	int rc = 0;

	if (s->out->costs.count > 0)
		s->measured = true; /* found already */
	else if (s->everything || (count == 0 && schedule->stages > 1))
		rc = find_costs(s);
	if (!rc)
		rc = sum_layers(s);
	if (rc)
		return rc;
	if (count == 0)
		return balance(s, schedule);
	snprintf(s->out->reason, sizeof(s->out->reason), "as --split says");
	return partition_explicit(blocks, count, layers, schedule->stages,
				  &s->job->partition);
}

int train_options_costs(const struct options *options,
			const struct model *model, struct job *job,
			struct train_split *out)
{
	struct splitting s = {
		.options = options,
		.model = model,
		.job = job,
		.out = out,
		.everything = true,
	};

	*out = (struct train_split){0};
	train_options_place(options, job, &out->calibration);
	return find_costs(&s);
}

int train_options_split(const struct options *options,
			const struct model *model, bool everything,
			struct job *job, struct train_split *out)
{
	struct splitting s = {
		.options = options,
		.model = model,
		.job = job,
		.out = out,
		.everything = everything,
	};
	struct schedule *schedule;
	int rc;

	if (out->costs.count == 0)
		*out = (struct train_split){0};
	out->result.exact = true;
	train_options_place(options, job, &out->calibration);
	rc = open_placement(job, &schedule);
	if (rc)
		return rc;
	rc = split_over(&s, schedule);
	schedule_destroy(schedule);
	free(s.layers);
	return rc;
}

void train_split_fini(struct train_split *split)
{
	costs_fini(&split->costs);
}

/* ---- memory ---- */

static void warn_of_memory(const struct plan *plan)
{
	uint64_t available = host_memory_available(), all = 0;
	char wanted[32], had[32];

	for (unsigned r = 0; r < plan->ranks; r++)
		all += plan->rank[r].total;
	all *= (uint64_t)plan->grid.replicas * plan->grid.slices;
	if (available == 0 || all <= available)
		return;
	log_warning(
		"the ranks will hold %s together, and this machine has %s free: expect swapping, or the end of a rank; see `stagecoach plan`",
		text_bytes(wanted, sizeof(wanted), all),
		text_bytes(had, sizeof(had), available));
}

static int check_cap(const struct options *options, const struct job *job,
		     const struct model *model, const struct plan *plan)
{
	double most = (double)plan->rank[plan->largest_rank].total, cap;
	struct train_split unused;
	struct splitting s = {
		.options = options,
		.model = model,
		.out = &unused,
	};
	int rc;

	if (!bytes_of_cap(options, &cap) || most <= cap)
		return 0;
	s.job = malloc(sizeof(*s.job));
	if (!s.job)
		return fail(-ENOMEM, "no memory to plan the run");
	*s.job = *job;
	unused = (struct train_split){0};
	train_options_place(options, job, &unused.calibration);
	rc = sum_layers(&s);
	if (!rc)
		rc = refuse_cap(&s, "this split holds", cap, most);
	free(s.layers);
	free(s.job);
	return rc;
}

int train_options_plan(const struct options *options, const struct job *job,
		       const struct model *model,
		       const struct train_split *split, struct plan **out)
{
	struct plan *plan;
	int rc = plan_create(job, model, split->calibration.threads, &plan);

	if (rc)
		return rc;
	rc = check_cap(options, job, model, plan);
	if (rc) {
		plan_destroy(plan);
		return rc;
	}
	if (!split->elsewhere)
		warn_of_memory(plan);
	*out = plan;
	return 0;
}
