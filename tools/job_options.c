#include "tools/job_options.h"
#include "base/digest.h"
#include "base/files.h"
#include "base/json.h"
#include "base/log.h"
#include "base/text.h"
#include "base/threads.h"
#include "data/corpus.h"
#include "data/sampler.h"
#include "engine/run.h"
#include "model/io/hf_adapter.h"
#include "model/kernels/numerics.h"
#include "schedules/schedule.h"
#include "tools/hosts_options.h"
#include "transport/fault/plan.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int job_options_path(char out[FILES_PATH_BYTES], const char *path)
{
	if (text_copy(out, FILES_PATH_BYTES, path))
		return fail(-ENAMETOOLONG, "path too long: %.60s...", path);
	return 0;
}

int job_options_whole_path(char path[FILES_PATH_BYTES])
{
	char *whole = realpath(path, NULL);
	int rc = whole ? job_options_path(path, whole) : 0;

	free(whole);
	return rc;
}

int job_options_model(const struct options *options, const char *folder,
		      struct job *job)
{
	/* Not what a resumed run was given: its adapters know the whole path. */
	const char *base = options_has(options, "base") &&
					   options_is_typed(options, "base")
				   ? options_string(options, "base")
				   : NULL;
	int rc = hf_adapter_read_model(folder, base, &job->config, job->model);

	if (rc)
		return rc;
	if (job->config.adapters.rank == 0)
		return job_options_path(job->model, folder);
	rc = job_options_path(job->adapter, folder);
	return rc ? rc : job_options_whole_path(job->model);
}

enum element_type job_options_dtype(const struct options *options,
				    const char *name)
{
	return strcmp(options_string(options, name), "bf16") == 0 ? ELEMENT_BF16
								  : ELEMENT_F32;
}

const char *job_options_dtype_name(enum element_type type)
{
	return type == ELEMENT_BF16 ? "bf16" : "fp32";
}

void job_options_pipeline(const struct options *options, struct job *job)
{
	const char *store = options_string(options, "store");
	struct hosts *hosts = hosts_options_current();

	/* Who started the ranks has decided how many stages there are. */
	job->ranks = hosts ? hosts_size(hosts)
			   : (unsigned)options_integer(options, "stages");
	job->chunks = 1;
	job->reach = strcmp(store, "root") == 0     ? REACH_ROOT
		     : strcmp(store, "shared") == 0 ? REACH_SHARED
						    : REACH_AUTO;
}

/* Each rank makes its slice of the model: that it can is told here, once. */
static int check_slices(const struct job *job)
{
	struct model_config config = job->config;
	struct model *model;
	int rc;

	config.slices = job->slices;
	rc = model_create(&config, &model);
	if (!rc)
		model_destroy(model);
	return rc;
}

/* Who started the ranks has decided how many there are in all. */
static int share_ranks(const struct options *options, unsigned size,
		       struct job *job)
{
	unsigned pipelines = MAX(job->replicas, 1u) * job->slices;
	int64_t stages = options_integer(options, "stages");
	bool typed = options_is_typed(options, "stages");
	char each[80] = "";

	if (pipelines > 1)
		snprintf(each, sizeof(each), " for %u replica%s of %u slice%s",
			 MAX(job->replicas, 1u), job->replicas > 1 ? "s" : "",
			 job->slices, job->slices > 1 ? "s" : "");
	if (size % pipelines)
		return fail(
			-EINVAL,
			"%u ranks were started, which --replicas %u times --tensor %u does not divide: start a multiple of %u",
			size, MAX(job->replicas, 1u), job->slices, pipelines);
	job->ranks = size / pipelines;
	if (typed && stages != (int64_t)job->ranks)
		return fail(
			-EINVAL,
			"--stages %lld, but there are %u ranks%s: give --stages %u or leave it out, or start %lld ranks",
			(long long)stages, size, each, job->ranks,
			(long long)stages * pipelines);
	return 0;
}

int job_options_slices(const struct options *options, struct job *job)
{
	int rc;

	job->slices = (unsigned)options_integer(options, "tensor");
	rc = check_slices(job);
	if (rc)
		return rc;
	return hosts_options_current() ? share_ranks(options, job->ranks, job)
				       : 0;
}

int job_options_partition(const struct options *options,
			  const struct model *model, struct job *job)
{
	unsigned layers = model_layer_count(model);
	unsigned stages = job->ranks * job->chunks;
	const int64_t *split;
	size_t count = options_list(options, "split", &split);
	double *costs;
	int rc;

	if (count)
		return partition_explicit(split, count, layers, stages,
					  &job->partition);
	costs = calloc(layers, sizeof(*costs));
	if (!costs)
		return fail(-ENOMEM, "no memory to split the model");
	for (unsigned i = 0; i < layers; i++) {
		struct layer_cost cost;

		layer_cost(model_layer(model, i), job->micro_batch_size,
			   job->context, &cost);
		costs[i] = cost.forward + cost.backward_input +
			   cost.backward_weight;
	}
	rc = partition_balance(costs, layers, stages, &job->partition);
	free(costs);
	return rc;
}

int job_options_windows(const struct corpus *corpus, int split,
			unsigned context, uint64_t *windows)
{
	struct sampler sampler;
	int rc = sampler_init(&sampler, corpus, (enum corpus_split)split,
			      SAMPLER_SEQUENTIAL, 0, context);

	if (!rc) {
		*windows = sampler_epoch_samples(&sampler);
		sampler_fini(&sampler);
	}
	return rc;
}

#define TOKENIZER_LIMIT ((size_t)256 << 20)

/* What decides which text becomes which token; the files' layout does not. */
static bool same_tokens(const char *path, const char *other)
{
	static const char *const parts[] = {"normalizer", "pre_tokenizer",
					    "model", "added_tokens"};
	json_t *a = NULL, *b = NULL;
	bool same = json_read(path, TOKENIZER_LIMIT, &a) == 0 &&
		    json_read(other, TOKENIZER_LIMIT, &b) == 0;

	for (size_t i = 0; same && i < ARRAY_SIZE(parts); i++) {
		json_t *x = json_object_get(a, parts[i]);
		json_t *y = json_object_get(b, parts[i]);

		same = x && y ? json_equal(x, y) : x == y;
	}
	json_decref(a);
	json_decref(b);
	return same;
}

void job_options_compare_tokenizers(const struct corpus *corpus,
				    const char *model_folder)
{
	const char *of_data = corpus_tokenizer_path(corpus);
	char of_model[FILES_PATH_BYTES];
	char hex[DIGEST_HEX_BYTES], other[DIGEST_HEX_BYTES];

	if (!of_data ||
	    files_join(of_model, sizeof(of_model), model_folder,
		       "tokenizer.json") ||
	    !files_exists(of_model) || digest_file(of_data, hex) ||
	    digest_file(of_model, other) || strcmp(hex, other) == 0 ||
	    same_tokens(of_data, of_model))
		return;
	log_warning(
		"%s is not the model's tokenizer (%s): its tokens may mean other text to the model. Prepare the text with --tokenizer %s",
		of_data, of_model, of_model);
}

int job_options_numerics(enum element_type type, char *out, size_t size)
{
	threads_set_float_state(); /* as the ranks compute */
	return numerics_describe_type(type, out, size);
}

/* As struct launch takes it: 0 means the default there, and never here. */
static int64_t timeout_ns(const struct options *options, const char *name)
{
	double seconds;

	if (strcmp(name, "stall-timeout") == 0 &&
	    !options_is_set(options, name))
		return 0;
	seconds = options_real(options, name);
	return seconds > 0 ? (int64_t)(seconds * 1e9) : -1;
}

/* Below that a busy machine looks like a dead one. */
static int check_heartbeat(const struct options *options)
{
	double seconds = options_real(options, "heartbeat-timeout");

	if (seconds > 0 && seconds < 1)
		return fail(-EINVAL,
			    "--heartbeat-timeout %g: at least 1 second, or 0 "
			    "for never",
			    seconds);
	return 0;
}

/* ---- launching ---- */

struct description {
	struct grid grid;
	const struct schedule *schedule; /* NULL: a stage a position */
};

static size_t describe_stages(const struct description *description,
			      unsigned position, char *buffer, size_t size)
{
	const struct schedule *schedule = description->schedule;
	unsigned count = 0;
	size_t used;

	if (!schedule)
		return (size_t)snprintf(buffer, size, "stage %u", position);
	used = (size_t)snprintf(buffer, size, "stage%s",
				schedule->chunks > 1 ? "s" : "");
	for (unsigned i = 0; i < schedule->stages && used < size; i++) {
		if (schedule->rank_of_stage[i] == position)
			used += (size_t)snprintf(buffer + used, size - used,
						 "%s %u", count++ ? "," : "",
						 i);
	}
	return used;
}

/* Which stages a rank has, of which replica and slice, for its line. */
static void describe_rank(const void *argument, unsigned rank, char *buffer,
			  size_t size)
{
	const struct description *description = argument;
	const struct grid *grid = &description->grid;
	struct grid_place place = grid_place(grid, rank);
	size_t used =
		describe_stages(description, place.position, buffer, size);

	if (grid->replicas > 1 && used < size)
		used += (size_t)snprintf(buffer + used, size - used,
					 " of replica %u", place.replica);
	if (grid->slices > 1 && used < size)
		snprintf(buffer + used, size - used, ", slice %u", place.slice);
}

static int launch_on_hosts(const struct job *job, struct launch *launch,
			   struct launch_result *result)
{
	struct description description = {.grid = job_grid(job)};
	struct schedule *schedule = NULL;
	int rc = 0;

	if (job->schedule[0])
		rc = schedule_open(job->schedule, job->ranks, job_share(job),
				   job->chunks, SCHEDULE_DIALECT_AUTO,
				   &schedule);
	description.schedule = schedule;
	if (rc) {
		*result =
			(struct launch_result){.status = rc, .failed_rank = -1};
		return rc;
	}
	launch->hosts = hosts_options_current();
	launch->describe = describe_rank;
	launch->describe_argument = &description;
	rc = launch_run(launch, result);
	schedule_destroy(schedule);
	return rc;
}

const char *job_options_transport(const struct options *options, unsigned ranks)
{
	const char *transport = options_string(options, "transport");

	return ranks == 1 && !hosts_options_current() &&
			       strcmp(transport, "auto") == 0
		       ? "inproc"
		       : transport;
}

/*
 * The transport wrapped by --faults, in `room`. Only where it was typed: a run
 * that goes on has its options from run.json, but not its misfortunes.
 */
static int wrap_transport(const struct options *options, char *room,
			  size_t size, const char **transport)
{
	const char *text = options_string(options, "faults");
	struct fault_plan plan;
	int rc;

	if (!text || !options_is_typed(options, "faults"))
		return 0;
	rc = fault_plan_parse(text, &plan);
	if (rc)
		return rc;
	if (strcmp(*transport, "inproc") == 0)
		return fail(-EINVAL,
			    "--faults needs links between processes: two "
			    "stages or more, and not --transport inproc");
	if ((size_t)snprintf(room, size, "fault:%s:%s", *transport, text) >=
	    size)
		return fail(-EINVAL, "--faults: the plan is too long");
	log_warning("the links are made to fail by --faults %s", text);
	*transport = room;
	return 0;
}

/*
 * A key given for ranks that are all on this host asks for links that prove
 * one: launch_run() then makes a key of its own for them.
 */
static const char *choose_wire(const struct options *options)
{
	const char *wire = options_string(options, "wire");

	if (strcmp(wire, "auto") == 0 && options_string(options, "key-file"))
		return "authentic";
	return wire;
}

int job_options_launch(const struct options *options, const struct job *job,
		       void (*event)(void *argument, unsigned rank,
				     const json_t *event),
		       void *argument, struct launch_result *result)
{
	char numerics[JOB_OPTIONS_NUMERICS_BYTES];
	char wrapped[TRANSPORT_KIND_BYTES];
	json_t *json = job_to_json(job);
	struct launch launch = {
		.ranks = job_ranks(job),
		.threads_per_rank =
			(unsigned)options_integer(options, "threads"),
		.pin = !options_flag(options, "no-pin"),
		.transport = job_options_transport(options, job_ranks(job)),
		.io = options_string(options, "tcp-io"),
		.heartbeat_timeout_ns =
			timeout_ns(options, "heartbeat-timeout"),
		.stall_timeout_ns = timeout_ns(options, "stall-timeout"),
		.wire = choose_wire(options),
		.job = json,
		.quiet = job->kind != JOB_TRAIN,
		.rank_main = run_rank,
		.numerics = numerics,
		.event = event,
		.argument = argument,
	};
	/* What multiplies bfloat16 the ranks compare when they have the job. */
	int rc = job_options_numerics(ELEMENT_F32, numerics, sizeof(numerics));

	if (!rc)
		rc = check_heartbeat(options);
	if (!rc && !json)
		rc = fail(-ENOMEM, "no memory for the job");
	if (!rc)
		rc = wrap_transport(options, wrapped, sizeof(wrapped),
				    &launch.transport);
	if (!rc)
		rc = job_attach_schedule(job, json);
	if (rc)
		*result =
			(struct launch_result){.status = rc, .failed_rank = -1};
	else if (hosts_options_current())
		rc = launch_on_hosts(job, &launch, result);
	else
		rc = launch_run(&launch, result);
	json_decref(json);
	return rc;
}
