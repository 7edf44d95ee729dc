/*
 * stagecoach plan: what each rank of a run will hold and how long a step will
 * take, without starting one.
 */
#include "base/log.h"
#include "base/text.h"
#include "data/corpus.h"
#include "engine/host.h"
#include "engine/plan.h"
#include "tools/auto_schedule.h"
#include "tools/commands.h"
#include "tools/job_options.h"
#include "tools/plan_suggest.h"
#include "tools/table.h"
#include "tools/train_options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_BYTES  48
#define SPLIT_BYTES 8192

static const struct option_spec table[] = {
	{.name = "data",
	 .letter = 'd',
	 .kind = OPTION_STRING,
	 .argument = "DIR",
	 .group = "Input",
	 .help = "tokens that say how large the vocabulary is, where --vocab-size does not"},
	{.name = "model",
	 .letter = 'm',
	 .kind = OPTION_STRING,
	 .argument = "DIR",
	 .help = "plan for this Hugging Face model folder; its weights are not read"},
	JOB_OPTIONS_PIPELINE,
	TRAIN_OPTIONS_SCHEDULE,
	TRAIN_OPTION_DTYPE,
	TRAIN_OPTIONS_BALANCE,
	TRAIN_OPTIONS_MODEL,
	TRAIN_OPTIONS_ADAPTERS,
	TRAIN_OPTIONS_BATCH,
	TRAIN_OPTIONS_GRID,
	TRAIN_OPTION_OPTIMIZER,
	TRAIN_OPTION_MOMENTUM,
	MACHINE_OPTIONS,
	PLAN_SUGGEST_OPTIONS,
	{.name = "json",
	 .kind = OPTION_FLAG,
	 .group = "Output",
	 .help = "write JSON for scripts"},
	{.name = NULL},
};

const struct option_command plan_command = {
	.name = "plan",
	.synopsis = "--vocab-size V | --data DIR | --model DIR [options]",
	.summary =
		"say what each stage will hold and how long a step will take",
	.description =
		"Takes the options of train and starts nothing: it divides the layers over the stages as train would, adds up what each rank will allocate, measures for some two seconds what the layers, the optimizer and the links take on this machine (or reads it from --costs), and simulates the schedule with that.\n\nA rank's memory counts everything: weights, gradients, optimizer state, the activations of all micro-batches in flight, messages, scratch, and the program itself. With --costs operations there are no times, but memory, split and bubble are there at once.",
	.table = table,
};

struct planning {
	struct options *options;
	struct job job;
	struct model *model;
	struct train_split split;
	struct auto_schedule chosen;
	struct plan *plan;
	struct plan_parts parts;
	struct grid grid;
	struct machine machine;
	uint64_t free_bytes; /* of this machine; 0: not known */
	uint64_t all_bytes;  /* of all ranks */
};

/* ---- what is planned ---- */

static int vocabulary(struct planning *p, size_t *out)
{
	const char *data = options_string(p->options, "data");
	struct corpus *corpus;
	int rc;

	*out = 0;
	if (!data)
		return 0;
	rc = corpus_open(data, NULL, &corpus);
	if (rc)
		return rc;
	*out = corpus_vocab_size(corpus);
	p->job.packed = corpus_has_examples(corpus);
	corpus_close(corpus);
	return 0;
}

static int make_model(struct planning *p)
{
	const char *data = options_string(p->options, "data");
	size_t vocab_size;
	int rc = vocabulary(p, &vocab_size);

	if (!rc)
		rc = train_options_model(p->options, vocab_size,
					 data ? data : "plan without --data",
					 &p->job);
	if (rc)
		return rc;
	train_options_dropout(p->options, &p->job.config);
	rc = model_create(&p->job.config, &p->model);
	if (!rc)
		p->job.config = *model_config(p->model);
	return rc;
}

static void add_memory(struct planning *p)
{
	for (unsigned r = 0; r < p->plan->ranks; r++)
		p->all_bytes += p->plan->rank[r].total;
	p->all_bytes *= (uint64_t)p->grid.replicas * p->grid.slices;
}

/* The job, up to what is planned for it. */
static int make_job(struct planning *p)
{
	struct optimizer_config *optimizer = &p->job.optimizer;
	int rc = make_model(p);

	if (!rc)
		rc = machine_options_read(p->options, &p->machine);
	if (rc)
		return rc;
	p->free_bytes = p->machine.rate > 0 ? 0 : host_memory_available();
	p->job.kind = JOB_TRAIN;
	job_options_pipeline(p->options, &p->job);
	*optimizer = (struct optimizer_config){
		.beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-8};
	train_options_optimizer(p->options, optimizer);
	rc = train_options_grid(p->options, &p->job);
	if (!rc)
		rc = train_options_batch(p->options, &p->job);
	p->grid = job_grid(&p->job);
	return rc;
}

static int predict(struct planning *p)
{
	const struct costs *costs = &p->split.costs;
	/* Another machine's ranks do not take turns on this one's cores. */
	unsigned copies = p->machine.rate > 0 ? 0 : p->split.calibration.copies;
	int rc;

	machine_options_links(&p->machine, &p->split.costs);
	rc = plan_predict(p->plan, costs, &p->split.rates, copies);
	if (!rc)
		rc = plan_explain(p->plan, costs, &p->split.rates, &p->parts);
	if (!rc)
		add_memory(p);
	return rc;
}

static int make_plan(struct planning *p)
{
	int rc = 0;

	if (p->machine.rate > 0)
		rc = machine_options_costs(p->options, &p->machine, p->model,
					   &p->job, &p->split);
	if (!rc)
		rc = auto_schedule_wanted(p->options)
			     ? auto_schedule_choose(p->options, p->model,
						    &p->job, &p->split,
						    &p->chosen)
			     : train_options_schedule(p->options, &p->job);
	if (!rc)
		rc = train_options_split(p->options, p->model, true, &p->job,
					 &p->split);
	if (!rc)
		rc = train_options_plan(p->options, &p->job, p->model,
					&p->split, &p->plan);
	return rc ? rc : predict(p);
}

/* ---- for people ---- */

/* "embedding + 4", "3", "2 + head": what a stage holds. */
static void describe_layers(const struct planning *p, unsigned first,
			    unsigned end, char *out, size_t size)
{
	unsigned layers = model_layer_count(p->model);
	unsigned blocks = end - first;
	const char *head = NULL, *tail = NULL;
	char number[16] = "";

	if (first == 0) {
		head = model_layer(p->model, 0)->name;
		blocks--;
	}
	if (end == layers && layers > 1) {
		tail = model_layer(p->model, layers - 1)->name;
		blocks--;
	}
	if (blocks)
		snprintf(number, sizeof(number), "%u", blocks);
	snprintf(out, size, "%s%s%s%s%s", head ? head : "",
		 head && (blocks || tail) ? " + " : "", number,
		 tail && blocks ? " + " : "", tail ? tail : "");
}

static void describe_rank(const struct planning *p, unsigned rank, char *out,
			  size_t size)
{
	size_t used = 0;

	*out = '\0';
	for (unsigned s = 0; s < p->plan->stages && used + 1 < size; s++) {
		const struct plan_stage *stage = &p->plan->stage[s];
		char held[3 * NAME_BYTES];

		if (stage->rank != rank)
			continue;
		describe_layers(p, stage->first_layer, stage->end_layer, held,
				sizeof(held));
		used += (size_t)snprintf(out + used, size - used, "%s%s",
					 used ? " | " : "", held);
	}
}

static int write_ranks(const struct planning *p, struct text_builder *out)
{
	static const char *const heads[] = {
		"rank",      "layers",    "parameters",  "weights",
		"gradients", "optimizer", "activations", "messages",
		"scratch",   "other",     "MiB"};
	const struct plan *plan = p->plan;
	struct table t;

	if (table_init(&t, ARRAY_SIZE(heads), plan->ranks + 1, out))
		return -ENOMEM;
	table_heads(&t, heads);
	for (unsigned r = 0; r < plan->ranks; r++, t.rows++) {
		const struct plan_rank *rank = &plan->rank[r];
		const size_t bytes[] = {rank->weights,   rank->gradients,
					rank->optimizer, rank->activations,
					rank->messages,  rank->scratch,
					rank->other,     rank->total};
		char text[TABLE_CELL_BYTES];

		table_put(&t, 0, "%u", r);
		describe_rank(p, r, text, sizeof(text));
		table_put(&t, 1, "%s", text);
		table_put(&t, 2, "%s",
			  text_grouped(text, sizeof(text), rank->parameters));
		for (unsigned i = 0; i < ARRAY_SIZE(bytes); i++)
			table_put_mib(&t, 3 + i, (double)bytes[i]);
	}
	table_write(&t);
	return 0;
}

/* Milliseconds, or shares of all stages' mean where costs have no unit. */
static int write_stages(const struct planning *p, struct text_builder *out)
{
	static const char *const heads[] = {"stage", "rank", "in flight", "F",
					    "I",     "W",    NULL};
	const struct plan *plan = p->plan;
	const char *names[ARRAY_SIZE(heads)];
	double sum = 0, most = 0, unit;
	struct table t;
	int digits;

	for (unsigned s = 0; s < plan->stages; s++) {
		double own = plan->stage[s].forward + plan->stage[s].input +
			     plan->stage[s].weight;

		sum += own;
		most = MAX(most, own);
	}
	unit = plan->seconds ? 1e-3 : sum / plan->stages;
	digits = most < 100 * unit ? 3 : 1;
	if (table_init(&t, ARRAY_SIZE(heads), plan->stages + 1, out))
		return -ENOMEM;
	memcpy(names, heads, sizeof(names));
	names[6] = plan->seconds ? "F+I+W ms" : "F+I+W of mean";
	table_heads(&t, names);
	for (unsigned s = 0; s < plan->stages; s++, t.rows++) {
		const struct plan_stage *stage = &plan->stage[s];
		const double times[] = {
			stage->forward, stage->input, stage->weight,
			stage->forward + stage->input + stage->weight};

		table_put(&t, 0, "%u", s);
		table_put(&t, 1, "%u", stage->rank);
		table_put(&t, 2, "%u", stage->in_flight);
		for (unsigned i = 0; i < ARRAY_SIZE(times); i++)
			table_put(&t, 3 + i, "%.*f", digits,
				  unit > 0 ? times[i] / unit : 0);
	}
	table_write(&t);
	return 0;
}

static bool is_alone(const struct planning *p)
{
	return p->plan->ranks * p->grid.replicas * p->grid.slices == 1;
}

/* What one rank at each position sends in a step. */
static int write_sent(const struct planning *p, struct text_builder *out)
{
	static const char *const heads[] = {"rank",        "sends to stages",
					    "to replicas", "to slices",
					    "control",     "MiB"};
	struct table t;

	if (table_init(&t, ARRAY_SIZE(heads), p->plan->ranks + 1, out))
		return -ENOMEM;
	table_heads(&t, heads);
	for (unsigned r = 0; r < p->plan->ranks; r++, t.rows++) {
		const struct plan_rank *rank = &p->plan->rank[r];

		table_put(&t, 0, "%u", r);
		table_put_mib(&t, 1, (double)rank->sent.stages);
		table_put_mib(&t, 2, (double)rank->sent.replicas);
		table_put_mib(&t, 3, (double)rank->sent.slices);
		table_put_mib(&t, 4, (double)rank->sent.control);
		table_put_mib(&t, 5, (double)traffic_total(&rank->sent));
	}
	table_write(&t);
	return 0;
}

/* "4 replicas of 2 positions x 2 slices: 16 ranks, ..." */
static void write_grid(const struct planning *p, struct text_builder *out)
{
	const struct job *job = &p->job;
	const struct grid *grid = &p->grid;

	if (grid->replicas * grid->slices == 1)
		return;
	text_builder_append(
		out,
		"grid       %u replica%s x %u position%s x %u slice%s: %u ranks; each replica %u micro-batches",
		grid->replicas, grid->replicas == 1 ? "" : "s", grid->positions,
		grid->positions == 1 ? "" : "s", grid->slices,
		grid->slices == 1 ? "" : "s", grid_size(grid), job_share(job));
	if (grid->replicas > 1)
		text_builder_append(
			out, "; %u gradient group%s, optimizer state %s",
			job->gradient_groups,
			job->gradient_groups == 1 ? "" : "s",
			job->shard_optimizer ? "sharded"
					     : "in full everywhere");
	text_builder_append(out, "\n");
}

static void write_head(const struct planning *p, struct text_builder *out)
{
	const struct job *job = &p->job;
	const struct model_config *config = &job->config;
	char parameters[32], vocab[32], *split = malloc(SPLIT_BYTES);
	unsigned threads = p->plan->threads;

	text_builder_append(
		out,
		"model      %s, %u layers, width %u, %u heads, vocabulary %s: %s parameters%s\n",
		config->family, config->layers, config->width, config->heads,
		text_grouped(vocab, sizeof(vocab), config->vocab_size),
		text_grouped(parameters, sizeof(parameters),
			     model_parameter_total(p->model)),
		config->type == ELEMENT_BF16 ? ", in bfloat16" : "");
	text_builder_append(
		out,
		"pipeline   %u stage%s%s, schedule %s, %u micro-batches of %u x %u tokens, %u thread%s a rank%s\n",
		p->plan->stages, p->plan->stages == 1 ? "" : "s",
		job->chunks > 1 ? " in chunks" : "",
		p->chosen.path[0] ? "found by a search" : job->schedule,
		job->micro_batches, job->micro_batch_size, job->context,
		threads, threads == 1 ? "" : "s",
		job->recompute ? ", recomputing activations" : "");
	write_grid(p, out);
	if (p->chosen.words[0])
		text_builder_append(out, "schedule   %s\n", p->chosen.words);
	if (split && p->plan->stages > 1)
		text_builder_append(
			out, "split      layers %s: %s\n",
			partition_text(&job->partition, split, SPLIT_BYTES),
			p->split.reason);
	free(split);
}

static void write_time(const struct planning *p, struct text_builder *out)
{
	const struct plan *plan = p->plan;
	const struct plan_rank *slowest = &plan->rank[plan->slowest_rank];
	bool brief = plan->step < 1;
	char number[32];

	if (plan->seconds)
		text_builder_append(
			out, "step       %.*f %s predicted, %s tokens/s\n",
			brief ? 1 : 2, brief ? 1e3 * plan->step : plan->step,
			brief ? "ms" : "s",
			text_grouped(number, sizeof(number),
				     (uint64_t)plan->tokens_per_second));
	else
		text_builder_append(
			out,
			"step       not known: these costs are no times (--costs measure)\n");
	if (plan->cores_shared)
		text_builder_append(
			out,
			"cores      %u ranks of %u threads take turns on this machine's: that is what bounds the step\n",
			grid_size(&p->grid), plan->threads);
	text_builder_append(
		out,
		"bubble     %.1f %% of the step, the ranks' mean; rank %u works longest: idle %.1f %%\n",
		100 * plan->bubble, plan->slowest_rank,
		plan->step > 0 ? 100 * slowest->idle / plan->step : 0);
}

/* "1.23 s", "45.6 ms", "789 us". */
static const char *duration(double seconds, char *buffer, size_t size)
{
	if (seconds >= 1)
		snprintf(buffer, size, "%.2f s", seconds);
	else if (seconds >= 1e-3)
		snprintf(buffer, size, "%.1f ms", 1e3 * seconds);
	else
		snprintf(buffer, size, "%.0f us", 1e6 * seconds);
	return buffer;
}

static void write_sums(const struct planning *p, struct text_builder *out)
{
	const struct plan *plan = p->plan;
	double most = plan->rank[plan->summing_rank].summing;
	double late = p->parts.replicas;
	char sum[32], rest[32];

	if (!plan->seconds)
		return;
	if (plan->grid.replicas > 1 && most > 0)
		text_builder_append(
			out,
			"replicas   their sums keep the network of rank %u busy for %s, of which %.0f %% pass beside the schedule: the step is %s longer for them\n",
			plan->summing_rank, duration(most, sum, sizeof(sum)),
			100 * (1 - MIN(late / most, 1)),
			duration(late, rest, sizeof(rest)));
	if (plan->grid.slices > 1)
		text_builder_append(
			out, "slices     sums within layers take %s a step\n",
			duration(p->parts.tensor, sum, sizeof(sum)));
}

static void write_memory(const struct planning *p, struct text_builder *out)
{
	const struct plan *plan = p->plan;
	char most[32], all[32], had[32];

	text_builder_append(out, "memory     rank %u holds most: %s; %s in all",
			    plan->largest_rank,
			    text_bytes(most, sizeof(most),
				       plan->rank[plan->largest_rank].total),
			    text_bytes(all, sizeof(all), p->all_bytes));
	if (p->free_bytes)
		text_builder_append(
			out, "; this machine has %s free: %s",
			text_bytes(had, sizeof(had), p->free_bytes),
			p->all_bytes <= p->free_bytes
				? "all ranks fit"
				: "the ranks do not fit on it together");
	text_builder_append(out, "\n");
}

static char *plan_text(const struct planning *p)
{
	struct text_builder out;

	text_builder_init(&out);
	write_head(p, &out);
	text_builder_append(&out, "\n");
	if (write_ranks(p, &out))
		out.failed = true;
	text_builder_append(&out, "\n");
	if (write_stages(p, &out))
		out.failed = true;
	text_builder_append(&out, "\n");
	if (!is_alone(p)) {
		if (write_sent(p, &out))
			out.failed = true;
		text_builder_append(&out, "\n");
	}
	write_time(p, &out);
	write_sums(p, &out);
	write_memory(p, &out);
	return text_builder_finish(&out);
}

/* ---- for scripts ---- */

static json_t *bytes_json(size_t bytes)
{
	return json_integer((json_int_t)bytes);
}

static json_t *rank_json(const struct planning *p, unsigned r)
{
	const struct plan_rank *rank = &p->plan->rank[r];
	json_t *stages = json_array();

	for (unsigned s = 0; s < p->plan->stages; s++)
		if (p->plan->stage[s].rank == r)
			json_array_append_new(stages, json_integer(s));
	return json_pack(
		"{s:i, s:o, s:i, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:f, s:f, s:f, s:o, s:o, s:o, s:o, s:o}",
		"rank", (int)r, "stages", stages, "layers", (int)rank->layers,
		"parameters", (json_int_t)rank->parameters, "weights_bytes",
		bytes_json(rank->weights), "gradients_bytes",
		bytes_json(rank->gradients), "optimizer_bytes",
		bytes_json(rank->optimizer), "activations_bytes",
		bytes_json(rank->activations), "messages_bytes",
		bytes_json(rank->messages), "scratch_bytes",
		bytes_json(rank->scratch), "other_bytes",
		bytes_json(rank->other), "total_bytes", bytes_json(rank->total),
		"busy", rank->busy, "idle", rank->idle, "summing",
		rank->summing, "sent_stages_bytes",
		bytes_json(rank->sent.stages), "sent_replicas_bytes",
		bytes_json(rank->sent.replicas), "sent_slices_bytes",
		bytes_json(rank->sent.slices), "sent_control_bytes",
		bytes_json(rank->sent.control), "sent_bytes",
		bytes_json(traffic_total(&rank->sent)));
}

static json_t *stage_json(const struct planning *p, unsigned s)
{
	const struct plan_stage *stage = &p->plan->stage[s];

	return json_pack("{s:i, s:i, s:i, s:i, s:i, s:f, s:f, s:f}", "stage",
			 (int)s, "rank", (int)stage->rank, "first_layer",
			 (int)stage->first_layer, "end_layer",
			 (int)stage->end_layer, "in_flight",
			 (int)stage->in_flight, "forward", stage->forward,
			 "input", stage->input, "weight", stage->weight);
}

static json_t *parts_json(const struct plan_parts *parts)
{
	return json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "compute",
			 parts->compute, "imbalance", parts->imbalance,
			 "bubble", parts->bubble, "links", parts->links,
			 "replicas", parts->replicas, "end", parts->end,
			 "tensor", parts->tensor);
}

static json_t *grid_json(const struct planning *p)
{
	return json_pack("{s:i, s:i, s:i, s:i, s:i, s:b}", "replicas",
			 (int)p->grid.replicas, "slices", (int)p->grid.slices,
			 "world", (int)grid_size(&p->grid), "share",
			 (int)job_share(&p->job), "gradient_groups",
			 (int)p->job.gradient_groups, "shard_optimizer",
			 p->job.shard_optimizer);
}

/* What stands once. Times are null where costs are no times. */
static json_t *summary_json(const struct planning *p)
{
	const struct plan *plan = p->plan;
	const struct job *job = &p->job;
	json_t *known = p->free_bytes ? bytes_json(p->free_bytes) : json_null();
	json_t *rate = plan->seconds ? json_real(plan->tokens_per_second)
				     : json_null();
	char *split = malloc(SPLIT_BYTES);
	json_t *json;

	if (!split)
		return NULL;
	json = json_pack(
		"{s:s, s:s, s:I, s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:b, s:s, s:s, s:s}",
		"family", job->config.family, "dtype",
		job_options_dtype_name(job->config.type), "parameters",
		(json_int_t)model_parameter_total(p->model), "schedule",
		p->chosen.path[0] ? "auto" : job->schedule, "ranks",
		(int)plan->ranks, "chunks", (int)job->chunks, "threads",
		(int)plan->threads, "micro_batches", (int)job->micro_batches,
		"micro_batch_size", (int)job->micro_batch_size, "context",
		(int)job->context, "recompute", job->recompute, "split",
		partition_text(&job->partition, split, SPLIT_BYTES),
		"split_reason", p->split.reason, "unit",
		plan->seconds ? "seconds" : "");
	free(split);
	if (!json || json_object_update_new(json, grid_json(p)) ||
	    json_object_update_new(
		    json,
		    json_pack("{s:f, s:o, s:f, s:i, s:i, s:b, s:I, s:o, s:I}",
			      "step", plan->step, "tokens_per_second", rate,
			      "bubble", plan->bubble, "slowest_rank",
			      (int)plan->slowest_rank, "largest_rank",
			      (int)plan->largest_rank, "cores_shared",
			      plan->cores_shared, "total_bytes",
			      (json_int_t)p->all_bytes, "free_bytes", known,
			      "largest_bytes",
			      (json_int_t)plan->rank[plan->largest_rank]
				      .total)) ||
	    json_object_set_new(json, "parts", parts_json(&p->parts)))
		return NULL;
	return json;
}

static char *plan_json(const struct planning *p)
{
	json_t *json = summary_json(p);
	json_t *ranks = json_array(), *stages = json_array();
	struct text_builder out;
	char *dump = NULL;

	for (unsigned r = 0; r < p->plan->ranks; r++)
		json_array_append_new(ranks, rank_json(p, r));
	for (unsigned s = 0; s < p->plan->stages; s++)
		json_array_append_new(stages, stage_json(p, s));
	text_builder_init(&out);
	if (json && json_object_set_new(json, "rank", ranks) == 0 &&
	    json_object_set_new(json, "stage", stages) == 0)
		dump = json_dumps(json,
				  JSON_INDENT(2) | JSON_REAL_PRECISION(9));
	text_builder_append(&out, "%s\n", dump ? dump : "");
	out.failed |= !dump;
	free(dump);
	json_decref(json);
	return text_builder_finish(&out);
}

static int print(const struct planning *p)
{
	char *text =
		options_flag(p->options, "json") ? plan_json(p) : plan_text(p);
	int rc = 0;

	if (!text)
		return fail(-ENOMEM, "no memory to print the plan");
	if (fputs(text, stdout) == EOF)
		rc = -EIO; /* main() says so */
	free(text);
	return rc;
}

int cmd_plan(int argc, char **argv)
{
	struct planning *p = calloc(1, sizeof(*p));
	bool suggest;
	int status, rc;

	if (!p)
		return 1;
	rc = options_parse(&plan_command, argc, argv, &p->options);
	if (rc) {
		free(p);
		return rc < 0 ? 2 : 0;
	}
	suggest = options_flag(p->options, "suggest");
	rc = make_job(p);
	if (!rc)
		rc = suggest ? plan_suggest(p->options, &p->machine, p->model,
					    &p->job)
			     : make_plan(p);
	status = rc == -EINVAL || rc == -ENOENT ? 2 : rc ? 1 : 0;
	if (!rc && !suggest)
		status = print(p) ? 1 : 0;
	auto_schedule_fini(&p->chosen);
	plan_destroy(p->plan);
	train_split_fini(&p->split);
	model_destroy(p->model);
	options_destroy(p->options);
	free(p);
	return status;
}
