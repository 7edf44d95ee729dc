#include "base/files.h"
#include "base/log.h"
#include "base/math.h"
#include "base/text.h"
#include "data/corpus.h"
#include "data/sampler.h"
#include "data/tokenizer.h"
#include "engine/checkpoint.h"
#include "model/io/hf_adapter.h"
#include "tools/auto_schedule.h"
#include "tools/commands.h"
#include "tools/job_options.h"
#include "tools/progress.h"
#include "tools/train_options.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define RUN_JSON_LIMIT ((size_t)16 << 20)
#define SAMPLES_MAX    1000000000.0

static const struct option_spec table[] = {
	{.name = "data",
	 .letter = 'd',
	 .kind = OPTION_STRING,
	 .argument = "DIR",
	 .group = "Input and output",
	 .help = "tokens: a folder made by prepare, or .bin shards of llm.c or nanoGPT"},
	{.name = "no-packing",
	 .kind = OPTION_FLAG,
	 .help = "examples of prepare --sft: one a sequence, not as many as fit"},
	{.name = "out",
	 .letter = 'o',
	 .kind = OPTION_STRING,
	 .argument = "RUN",
	 .help = "folder for the run's files; must not exist"},
	{.name = "resume",
	 .kind = OPTION_STRING,
	 .argument = "RUN",
	 .help = "go on from the newest checkpoint of RUN, with its options"},
	{.name = "model",
	 .letter = 'm',
	 .kind = OPTION_STRING,
	 .argument = "DIR",
	 .help = "start from this Hugging Face model folder"},
	JOB_OPTIONS_PIPELINE,
	TRAIN_OPTIONS_SCHEDULE,
	TRAIN_OPTION_DTYPE,
	TRAIN_OPTIONS_BALANCE,
	HOSTS_OPTIONS,
	TRAIN_OPTIONS_MODEL,
	TRAIN_OPTIONS_ADAPTERS,
	TRAIN_OPTIONS_GRID,
	TRAIN_OPTIONS_BATCH,
	{.name = "seed",
	 .kind = OPTION_INTEGER,
	 .argument = "S",
	 .fallback = "1",
	 .minimum = 0,
	 .maximum = 9007199254740992.0,
	 .help = "of initial weights, data order and dropout"},
	{.name = "steps",
	 .letter = 'n',
	 .kind = OPTION_INTEGER,
	 .argument = "N",
	 .fallback = "300",
	 .minimum = 1,
	 .maximum = SAMPLES_MAX,
	 .group = "Optimizer",
	 .help = "steps in all, those before a resume included"},
	TRAIN_OPTION_OPTIMIZER,
	{.name = "lr",
	 .kind = OPTION_REAL,
	 .argument = "X",
	 .fallback = "0.001",
	 .minimum = 0,
	 .maximum = 1000,
	 .help = "highest learning rate"},
	{.name = "min-lr",
	 .kind = OPTION_REAL,
	 .argument = "X",
	 .minimum = 0,
	 .maximum = 1000,
	 .help = "rate the decay ends at (default: a tenth of --lr)"},
	{.name = "warmup",
	 .kind = OPTION_INTEGER,
	 .argument = "N",
	 .minimum = 0,
	 .maximum = SAMPLES_MAX,
	 .help = "steps of linear warm-up (default: a twentieth of --decay-steps, at most 100)"},
	{.name = "decay",
	 .kind = OPTION_CHOICE,
	 .argument = "KIND",
	 .choices = "cosine|linear|constant",
	 .fallback = "cosine",
	 .help = "shape of the decay"},
	{.name = "decay-steps",
	 .kind = OPTION_INTEGER,
	 .argument = "N",
	 .minimum = 1,
	 .maximum = SAMPLES_MAX,
	 .help = "step at which the decay ends (default: --steps)"},
	{.name = "beta1",
	 .kind = OPTION_REAL,
	 .argument = "X",
	 .fallback = "0.9",
	 .minimum = 0,
	 .maximum = 0.999999,
	 .help = "adamw: decay of the mean of gradients"},
	{.name = "beta2",
	 .kind = OPTION_REAL,
	 .argument = "X",
	 .fallback = "0.95",
	 .minimum = 0,
	 .maximum = 0.9999999,
	 .help = "adamw: decay of the mean of their squares"},
	{.name = "epsilon",
	 .kind = OPTION_REAL,
	 .argument = "X",
	 .fallback = "1e-8",
	 .minimum = 0,
	 .maximum = 1,
	 .help = "adamw: added to the denominator"},
	TRAIN_OPTION_MOMENTUM,
	{.name = "nesterov",
	 .kind = OPTION_FLAG,
	 .help = "sgd: Nesterov's form of it"},
	{.name = "weight-decay",
	 .kind = OPTION_REAL,
	 .argument = "X",
	 .fallback = "0.1",
	 .minimum = 0,
	 .maximum = 100,
	 .help = "of matrices and embeddings; norms and biases have none"},
	{.name = "clip",
	 .kind = OPTION_REAL,
	 .argument = "X",
	 .fallback = "1",
	 .minimum = 0,
	 .maximum = 1e30,
	 .help = "largest global norm of the gradient; 0: no clipping"},
	{.name = "eval-every",
	 .kind = OPTION_INTEGER,
	 .argument = "N",
	 .fallback = "100",
	 .minimum = 0,
	 .maximum = SAMPLES_MAX,
	 .group = "Evaluation and checkpoints",
	 .help = "steps between evaluations; 0: only before and after"},
	{.name = "eval-samples",
	 .kind = OPTION_INTEGER,
	 .argument = "N",
	 .fallback = "128",
	 .minimum = 0,
	 .maximum = SAMPLES_MAX,
	 .help = "sequences of the validation split to evaluate; 0: none"},
	{.name = "checkpoint-every",
	 .kind = OPTION_INTEGER,
	 .argument = "N",
	 .fallback = "100",
	 .minimum = 0,
	 .maximum = SAMPLES_MAX,
	 .help = "steps between checkpoints; 0: only at the end"},
	{.name = "keep-checkpoints",
	 .kind = OPTION_INTEGER,
	 .argument = "N",
	 .fallback = "2",
	 .minimum = 1,
	 .maximum = 4096,
	 .help = "newest checkpoints to keep"},
	{.name = "save-dtype",
	 .kind = OPTION_CHOICE,
	 .argument = "TYPE",
	 .choices = JOB_OPTIONS_DTYPES,
	 .fallback = "fp32",
	 .help = "of the model's files; bf16: RUN/model in half the bytes; checkpoints keep the float weights beside, for --resume"},
	{.name = "trace",
	 .kind = OPTION_FLAG,
	 .group = "Recording",
	 .help = "record when each action computed, sent and waited: RUN/trace.json for Perfetto, and RUN/costs.json for --costs"},
	{.name = "trace-steps",
	 .kind = OPTION_INTEGER,
	 .argument = "N",
	 .fallback = "20",
	 .minimum = 1,
	 .maximum = 10000,
	 .help = "steps to record, from the second one on"},
	{.name = "tensorboard",
	 .kind = OPTION_FLAG,
	 .help = "write RUN/tensorboard, event files for TensorBoard, as training goes"},
	{.name = NULL},
};

const struct option_command train_command = {
	.name = "train",
	.synopsis = "--data DIR --out RUN [options] | --resume RUN [options]",
	.summary = "train a model, its layers split over stages",
	.description =
		"Trains a new model, or one from a Hugging Face folder, on prepared tokens. The weights that come out depend on the model, the data, the seed, the batch, --gradient-groups, --tensor and --dtype, and on nothing else: not on the stages, the split, the replicas, the schedule, the transport, the threads, --recompute, or an interruption in between.\n\nRUN holds run.json (the options), metrics.jsonl (one line a step), history.jsonl (starts, checkpoints, memory), checkpoints/, and in the end model/, a Hugging Face model folder. Ctrl-C finishes the step, writes a checkpoint and ends.",
	.table = table,
	.takes_config = true,
};

/* What --resume may change: nothing that would change the result. */
static const char *const resume_may_change[] = {
	"resume",
	"base",
	"data",
	"stages",
	"replicas",
	"shard-optimizer",
	"gradient-groups", /* as far as to say what it is: keep_groups() */
	"chunks",
	"split",
	"transport",
	"tcp-io",
	"threads",
	"no-pin",
	"faults",
	"stall-timeout",
	"heartbeat-timeout",
	"store",
	"schedule",
	"recompute",
	"steps",
	"eval-every",
	"eval-samples",
	"checkpoint-every",
	"keep-checkpoints",
	"save-dtype",
	"trace",
	"trace-steps",
	"tensorboard",
	"costs",
	"memory-cap",
	"hosts",
	"hostfile",
	"ssh",
	"remote-program",
	"rank",
	"world-size",
	"coordinator",
	"interface",
	"key-file",
	"wire",
	"start-timeout",
	NULL,
};

struct train {
	struct options *options;
	struct job job;
	struct model *model;
	struct corpus *corpus;
	struct checkpoint checkpoint;
	bool resume;
	struct train_split split;
	struct auto_schedule chosen;
	struct progress progress;
	bool progress_begun;
	double first_loss, last_loss, validation_loss;
};

/* ---- what is to be done ---- */

static int read_run(struct train *t, const char *run)
{
	char path[FILES_PATH_BYTES];
	const char *refused =
		options_first_typed_outside(t->options, resume_may_change);
	json_t *json, *options;
	int rc;

	if (refused)
		return fail(
			-EINVAL,
			"--%s may not change when a run is resumed: it would change the result. Leave it out, or start a new run with --out",
			refused);
	if (!files_is_folder(run))
		return fail(-ENOENT, "--resume %s: there is no such run", run);
	rc = files_join(path, sizeof(path), run, "run.json");
	if (!rc)
		rc = json_read(path, RUN_JSON_LIMIT, &json);
	if (rc)
		return rc;
	rc = json_get_object(json, "options", path, &options);
	if (!rc &&
	    (hosts_options_current() ||
	     options_is_typed(t->options, "stages") ||
	     options_is_typed(t->options, "chunks") ||
	     options_is_typed(t->options, "schedule") ||
	     options_is_typed(t->options, "costs") ||
	     options_is_typed(t->options, "memory-cap")) &&
	    !options_is_typed(t->options, "split"))
		json_object_del(options, "split");
	/* Recording is asked for each time: it would write over what there is. */
	if (!rc)
		json_object_del(options, "trace");
	if (!rc)
		rc = options_merge_json(t->options, options, path);
	json_decref(json);
	if (!rc)
		rc = job_options_path(t->job.out, run);
	return rc ? rc : checkpoint_find(run, &t->checkpoint);
}

static int check_out(struct train *t)
{
	const char *out = options_string(t->options, "out");

	if (!out)
		return fail(
			-EINVAL,
			"train needs --out RUN, a folder for the run's files");
	if (files_exists(out))
		return fail(
			-EEXIST,
			"--out %s exists already; go on with it by `stagecoach train --resume %s`, or choose another folder",
			out, out);
	return job_options_path(t->job.out, out);
}

static int open_corpus(struct train *t)
{
	const char *data = options_string(t->options, "data");
	int rc;

	if (!data)
		return fail(
			-EINVAL,
			"train needs --data DIR: make one with `stagecoach prepare --text FILE --out DIR`");
	if (!files_exists(data))
		return fail(-ENOENT,
			    "--data %s: there is no such file or folder", data);
	rc = corpus_open(data, NULL, &t->corpus);
	if (!rc)
		rc = job_options_path(t->job.data, data);
	if (!rc)
		t->job.data_fingerprint = corpus_fingerprint(t->corpus);
	if (rc)
		return rc;
	t->job.packed = corpus_has_examples(t->corpus);
	t->job.separate = options_flag(t->options, "no-packing");
	if (t->job.separate && !t->job.packed)
		return fail(
			-EINVAL,
			"--no-packing is for examples (prepare --sft), and %s holds text",
			data);
	return 0;
}

static int folder_of(char out[FILES_PATH_BYTES], const char *path)
{
	char *slash;
	int rc = job_options_path(out, path);

	slash = rc ? NULL : strrchr(out, '/');
	if (slash)
		*slash = '\0';
	return rc;
}

/* A model folder brings its tokenizer along; else the data has one. */
static int find_tokenizer(struct train *t)
{
	char path[FILES_PATH_BYTES];
	int rc;

	if (t->job.model[0]) {
		rc = files_join(path, sizeof(path), t->job.model,
				"tokenizer.json");
		if (rc)
			return rc;
		job_options_compare_tokenizers(t->corpus, t->job.model);
		if (files_exists(path))
			return job_options_path(t->job.tokenizer_folder,
						t->job.model);
	}
	if (!corpus_tokenizer_path(t->corpus))
		return 0;
	return folder_of(t->job.tokenizer_folder,
			 corpus_tokenizer_path(t->corpus));
}

static int end_of_text(const struct corpus *corpus, int *id)
{
	const char *path = corpus_tokenizer_path(corpus);
	struct tokenizer *tokenizer;
	int rc;

	*id = -1;
	if (!path)
		return 0;
	rc = tokenizer_load(path, &tokenizer);
	if (rc)
		return rc;
	*id = tokenizer_end_of_text(tokenizer);
	tokenizer_destroy(tokenizer);
	return 0;
}

static int new_model_config(struct train *t)
{
	struct model_config *config = &t->job.config;
	int rc = train_options_model(t->options, corpus_vocab_size(t->corpus),
				     t->job.data, &t->job);

	if (rc || t->job.model[0])
		return rc;
	rc = end_of_text(t->corpus, &config->eos_id);
	config->bos_id = config->eos_id;
	return rc;
}

/* Which adapters those are is told by the checkpoint itself: job.resume. */
static int resumed_config(struct train *t)
{
	int rc = job_options_model(t->options, t->checkpoint.folder, &t->job);

	if (!rc && t->job.config.adapters.rank == 0)
		t->job.model[0] = '\0';
	t->job.adapter[0] = '\0';
	return rc;
}

static int choose_config(struct train *t)
{
	int rc;

	if (!t->resume)
		return new_model_config(t);
	rc = resumed_config(t);
	if (!rc)
		t->job.config.type = job_options_dtype(t->options, "dtype");
	return rc;
}

static int make_model(struct train *t)
{
	struct model_config *config = &t->job.config;
	int rc = choose_config(t);

	if (rc)
		return rc;
	/* A folder of adapters has no config.json to keep it in. */
	if (!t->resume || config->adapters.rank > 0)
		train_options_dropout(t->options, config);
	if (corpus_vocab_size(t->corpus) > config->vocab_size)
		return fail(-EINVAL,
			    "the data has %zu tokens, the model knows %u",
			    corpus_vocab_size(t->corpus), config->vocab_size);
	rc = model_create(config, &t->model);
	if (!rc && config->adapters.rank > 0)
		rc = hf_adapter_base_hash(t->job.model, &t->job.base_weights);
	if (!rc)
		*config = *model_config(t->model);
	return rc;
}

static int fill_batch(struct train *t)
{
	const struct options *o = t->options;
	struct job *job = &t->job;

	job->seed = (uint64_t)options_integer(o, "seed");
	job->steps = (uint64_t)options_integer(o, "steps");
	job->checkpoint_every =
		(uint64_t)options_integer(o, "checkpoint-every");
	job->keep_checkpoints =
		(unsigned)options_integer(o, "keep-checkpoints");
	job->eval_every = (uint64_t)options_integer(o, "eval-every");
	if (options_flag(o, "trace"))
		job->trace_steps = (unsigned)options_integer(o, "trace-steps");
	job->save_type = job_options_dtype(o, "save-dtype");
	job->tensorboard = options_flag(o, "tensorboard");
	return train_options_batch(o, job);
}

static void fill_optimizer(struct train *t)
{
	const struct options *o = t->options;
	struct optimizer_config *optimizer = &t->job.optimizer;
	struct learning_rate *rate = &t->job.learning_rate;
	const char *decay = options_string(o, "decay");

	*optimizer = (struct optimizer_config){
		.beta1 = options_real(o, "beta1"),
		.beta2 = options_real(o, "beta2"),
		.epsilon = options_real(o, "epsilon"),
		.nesterov = options_flag(o, "nesterov"),
		.weight_decay = options_real(o, "weight-decay"),
		.clip = options_real(o, "clip"),
	};
	train_options_optimizer(o, optimizer);
	rate->peak = options_real(o, "lr");
	rate->floor = options_is_set(o, "min-lr") ? options_real(o, "min-lr")
						  : rate->peak / 10;
	rate->decay_steps =
		options_is_set(o, "decay-steps")
			? (uint64_t)options_integer(o, "decay-steps")
			: t->job.steps;
	rate->warmup_steps = options_is_set(o, "warmup")
				     ? (uint64_t)options_integer(o, "warmup")
				     : MIN(rate->decay_steps / 20, 100);
	rate->decay = strcmp(decay, "cosine") == 0   ? DECAY_COSINE
		      : strcmp(decay, "linear") == 0 ? DECAY_LINEAR
						     : DECAY_CONSTANT;
}

static int check_data(struct train *t)
{
	uint64_t wanted = (uint64_t)options_integer(t->options, "eval-samples");
	uint64_t windows;
	int rc = job_options_windows(t->corpus, CORPUS_TRAIN, t->job.context,
				     &windows);

	if (rc || wanted == 0)
		return rc;
	if (t->job.packed && !corpus_examples(t->corpus, CORPUS_VALIDATION)) {
		log_warning(
			"%s has no examples for validation: nothing is evaluated",
			t->job.data);
		return 0;
	}
	if (!t->job.packed &&
	    corpus_tokens(t->corpus, CORPUS_VALIDATION) <= t->job.context) {
		log_warning(
			"%s has no validation split of %u tokens or more: nothing is evaluated",
			t->job.data, t->job.context + 1);
		return 0;
	}
	rc = job_options_windows(t->corpus, CORPUS_VALIDATION, t->job.context,
				 &windows);
	t->job.eval_samples = MIN(wanted, windows);
	return rc;
}

/* What a checkpoint that does not say it has been written with. */
static json_int_t identity_default(const char *key)
{
	return strcmp(key, "slices") == 0;
}

static bool is_identity_default(const char *key, const json_t *value)
{
	if (json_is_number(value))
		return json_number_value(value) ==
		       (double)identity_default(key);
	if (json_is_string(value)) /* no text, or a number that is 0 */
		return strspn(json_string_value(value), "0") ==
		       json_string_length(value);
	return json_is_false(value);
}

static json_int_t identity_integer(const struct train *t, const char *key)
{
	const json_t *value = json_object_get(t->checkpoint.identity, key);

	return json_is_integer(value) ? json_integer_value(value)
				      : identity_default(key);
}

/* The checkpoint was written by a run that would give other bits? */
static int check_identity(struct train *t)
{
	json_t *mine = job_identity(&t->job);
	const char *key;
	json_t *value;
	int rc = 0;

	json_object_foreach(mine, key, value)
	{
		const json_t *theirs =
			json_object_get(t->checkpoint.identity, key);

		if (theirs ? json_equal(value, theirs)
			   : is_identity_default(key, value))
			continue;
		rc = strcmp(key, "data_fingerprint") == 0
			     ? fail(-EINVAL,
				    "--data %s is not the data this run was trained on: its tokens differ",
				    t->job.data)
			     : fail(-EINVAL,
				    "%s was written with another value of '%s'",
				    t->checkpoint.folder, key);
		break;
	}
	json_decref(mine);
	return rc;
}

/* "1, 2 or 4": the powers of two that divide the number of groups. */
static void list_replicas(unsigned groups, char *out, size_t size)
{
	size_t used = (size_t)snprintf(out, size, "1");

	for (unsigned d = 2; d && groups % d == 0 && used < size; d *= 2)
		used += (size_t)snprintf(out + used, size - used, "%s%u",
					 groups % (2 * d) ? " or " : ", ", d);
}

/*
 * A run that goes on with other replicas keeps its gradient groups: they are
 * the order in which gradients are summed. Replicas whose number is no
 * power of two sum in their own order, and so cannot change.
 */
static int keep_groups(struct train *t)
{
	struct job *job = &t->job;
	unsigned groups = (unsigned)identity_integer(t, "gradient_groups");
	unsigned uneven = (unsigned)identity_integer(t, "uneven_replicas");
	char allowed[128];

	groups = MAX(groups, 1u);
	if (options_is_typed(t->options, "gradient-groups") &&
	    job->gradient_groups != groups)
		return fail(
			-EINVAL,
			"--gradient-groups %u: %s has --gradient-groups %u, which may not change when it is resumed: it would change the result. Leave it out, or start a new run with --out",
			job->gradient_groups, job->out, groups);
	job->gradient_groups = groups;
	if (uneven && job->replicas != uneven)
		return fail(
			-EINVAL,
			"--replicas %u: %s sums the gradients of %u replicas in their order, which is part of its result: it goes on with --replicas %u only",
			job->replicas, job->out, uneven, uneven);
	list_replicas(groups, allowed, sizeof(allowed));
	if (!uneven &&
	    (groups % job->replicas || job->replicas & (job->replicas - 1)))
		return fail(
			-EINVAL,
			"--replicas %u: %s has --gradient-groups %u, which its result depends on: it can go on with --replicas %s",
			job->replicas, job->out, groups, allowed);
	/* Asked for when there were more. */
	if (job->replicas == 1 &&
	    !options_is_typed(t->options, "shard-optimizer"))
		job->shard_optimizer = false;
	return 0;
}

/* Other kernels round otherwise: worth a word, and no reason to refuse. */
static int check_numerics(const struct train *t)
{
	char numerics[JOB_OPTIONS_NUMERICS_BYTES];
	int rc = job_options_numerics(t->job.config.type, numerics,
				      sizeof(numerics));
	json_t *mine = rc ? NULL : json_loads(numerics, 0, NULL);

	if (mine && t->checkpoint.numerics &&
	    !json_equal(mine, t->checkpoint.numerics))
		log_warning(
			"this program or processor computes with other kernels than the run did: the last bits will differ");
	json_decref(mine);
	return rc;
}

static bool has_model(const struct job *job)
{
	char path[FILES_PATH_BYTES];

	return files_join(path, sizeof(path), job->out, "model") == 0 &&
	       files_exists(path);
}

static int apply_resume(struct train *t)
{
	struct job *job = &t->job;
	int rc;

	if (!t->resume)
		return 0;
	job->first_step = t->checkpoint.step;
	if (job->first_step > job->steps ||
	    (job->first_step == job->steps && has_model(job)))
		return fail(-EINVAL,
			    "%s has done its %" PRIu64
			    " steps; ask for more with --steps N",
			    job->out, job->first_step);
	rc = check_identity(t);
	if (!rc)
		rc = check_numerics(t);
	return rc ? rc : job_options_path(job->resume, t->checkpoint.folder);
}

static int choose_schedule(struct train *t)
{
	if (!auto_schedule_wanted(t->options))
		return train_options_schedule(t->options, &t->job);
	return auto_schedule_choose(t->options, t->model, &t->job, &t->split,
				    &t->chosen);
}

/* Of the plan only its warnings and refusals are of interest here. */
static int split_layers(struct train *t)
{
	struct plan *plan;
	int rc = train_options_split(t->options, t->model, false, &t->job,
				     &t->split);

	if (!rc)
		rc = train_options_plan(t->options, &t->job, t->model,
					&t->split, &plan);
	if (!rc)
		plan_destroy(plan);
	return rc;
}

static int plan(struct train *t)
{
	const char *run = options_string(t->options, "resume");
	int rc;

	t->resume = run != NULL;
	if (run && options_is_typed(t->options, "out"))
		return fail(-EINVAL,
			    "--resume RUN writes on into RUN: leave out --out");
	rc = run ? read_run(t, run) : check_out(t);
	if (!rc)
		rc = open_corpus(t);
	if (!rc)
		rc = make_model(t);
	if (rc)
		return rc;
	t->job.kind = JOB_TRAIN;
	job_options_pipeline(t->options, &t->job);
	rc = train_options_grid(t->options, &t->job);
	if (!rc)
		rc = fill_batch(t);
	if (!rc && t->resume)
		rc = keep_groups(t);
	if (rc)
		return rc;
	fill_optimizer(t);
	rc = check_data(t);
	if (!rc)
		rc = choose_schedule(t);
	if (!rc)
		rc = split_layers(t);
	if (!rc)
		rc = find_tokenizer(t);
	return rc ? rc : apply_resume(t);
}

/* ---- RUN ---- */

static int write_run_json(const struct train *t)
{
	char path[FILES_PATH_BYTES], numerics[JOB_OPTIONS_NUMERICS_BYTES];
	json_t *options = options_to_json(t->options), *json;
	int rc = files_join(path, sizeof(path), t->job.out, "run.json");

	/* What was derived from --steps must not move with it later. */
	json_object_set_new(
		options, "decay-steps",
		json_integer((json_int_t)t->job.learning_rate.decay_steps));
	json_object_set_new(
		options, "warmup",
		json_integer((json_int_t)t->job.learning_rate.warmup_steps));
	json_object_set_new(options, "context", json_integer(t->job.context));
	json_object_set_new(options, "gradient-groups",
			    json_integer(t->job.gradient_groups));
	json_object_set_new(options, "shard-optimizer",
			    json_boolean(t->job.shard_optimizer));
	json_object_del(options, "resume");
	json_object_set_new(options, "stages", json_integer(t->job.ranks));
	hosts_options_forget(options);
	json_object_set_new(options, "out", json_string(t->job.out));
	if (!rc)
		rc = job_options_numerics(t->job.config.type, numerics,
					  sizeof(numerics));
	json = json_pack("{s:s, s:s, s:o, s:o}", "command", "train", "version",
			 PACKAGE_VERSION, "options", options, "numerics",
			 json_loads(rc ? "{}" : numerics, 0, NULL));
	if (!rc && !json)
		rc = fail(-ENOMEM, "no memory for %s", path);
	if (!rc)
		rc = json_write(path, json);
	json_decref(json);
	return rc;
}

static void introduce_grid(const struct job *job)
{
	unsigned share = job_share(job);

	if (job->replicas > 1)
		log_info(
			"replicas: %u of the pipeline, %u micro-batches each%s; the same bits for %s",
			job->replicas, share,
			job->shard_optimizer
				? ", each keeping its part of the optimizer's state"
				: "",
			job->replicas & (job->replicas - 1)
				? "this number of replicas only (no power of two)"
				: "any number of replicas with these --gradient-groups");
	if (job->slices > 1)
		log_info(
			"tensor parallel: %u ranks share each layer; the bits are those of --tensor %u",
			job->slices, job->slices);
	if (job->gradient_groups > 1)
		log_info(
			"gradient groups: %u, of %u micro-batches each, summed as a binary tree: the bits of --gradient-groups %u",
			job->gradient_groups,
			job->micro_batches / job->gradient_groups,
			job->gradient_groups);
}

/* How full the sequences are, and what did not fit into one. */
static void introduce_examples(const struct train *t)
{
	uint64_t tokens = corpus_tokens(t->corpus, CORPUS_TRAIN);
	char examples[32], supervised[32];
	struct sampler sampler;
	double places;

	if ((t->job.separate ? sampler_init_separate : sampler_init)(
		    &sampler, t->corpus, CORPUS_TRAIN, SAMPLER_SEQUENTIAL, 0,
		    t->job.context))
		return;
	places = (double)sampler.windows * (double)t->job.context;
	log_info(
		"examples: %s in %" PRIu64
		" sequences, %.0f %% full, template %s; the loss is of %s supervised tokens of %.0f",
		text_grouped(examples, sizeof(examples), sampler.examples),
		sampler.windows,
		100 * (double)(tokens - sampler.examples - sampler.cut_tokens) /
			places,
		corpus_template(t->corpus),
		text_grouped(supervised, sizeof(supervised),
			     corpus_supervised(t->corpus, CORPUS_TRAIN)),
		(double)tokens);
	if (sampler.cut)
		log_warning(
			"%" PRIu64
			" examples are longer than the context of %u tokens: what is beyond is left out",
			sampler.cut, t->job.context);
	sampler_fini(&sampler);
}

static void introduce(const struct train *t)
{
	const struct job *job = &t->job;
	uint64_t sequences =
		(uint64_t)job->micro_batches * job->micro_batch_size;
	double entropy = corpus_unigram_entropy(t->corpus);
	char parameters[32], tokens[32], chunks[32], *split = malloc(8192);
	bool bf16 = job->config.type == ELEMENT_BF16;

	text_grouped(parameters, sizeof(parameters),
		     model_parameter_total(t->model));
	text_grouped(tokens, sizeof(tokens), sequences * job->context);
	log_info(
		"model: %s, %u layers, width %u, %u heads, vocabulary %u: %s parameters%s",
		job->config.family, job->config.layers, job->config.width,
		job->config.heads, job->config.vocab_size, parameters,
		bf16 ? ", computed in bf16 and updated in float" : "");
	snprintf(chunks, sizeof(chunks), " of %u chunks", job->chunks);
	if (split)
		log_info("pipeline: %u stage%s%s (layers %s), schedule %s%s",
			 job->ranks, job->ranks == 1 ? "" : "s",
			 job->chunks > 1 ? chunks : "",
			 partition_text(&job->partition, split, 8192),
			 job->schedule,
			 job->recompute ? ", recomputing activations" : "");
	introduce_grid(job);
	if (t->chosen.words[0])
		log_info("schedule: %s", t->chosen.words);
	if (split && job->partition.stages > 1)
		log_info("layers %s: %s", split, t->split.reason);
	log_info(
		"step: %u micro-batches x %u sequences x %u tokens = %s tokens; %" PRIu64
		" steps",
		job->micro_batches, job->micro_batch_size, job->context, tokens,
		job->steps);
	if (job->packed)
		introduce_examples(t);
	if (entropy > 0)
		log_info(
			"yardsticks: a uniform guess has loss %.4f, word frequencies alone %.4f",
			math_log(job->config.vocab_size), entropy);
	if (t->resume)
		log_info("resuming after step %" PRIu64 " from %s",
			 job->first_step, job->resume);
	free(split);
}

/* ---- what the ranks tell ---- */

static void show_evaluation(struct train *t, uint64_t step, double loss)
{
	t->validation_loss = loss;
	log_info("step %" PRIu64 ": validation loss %.4f, perplexity %.2f",
		 step, loss, math_exp(loss));
}

static void show_event(void *argument, unsigned rank, const json_t *event)
{
	struct train *t = argument;
	uint64_t step =
		(uint64_t)json_integer_value(json_object_get(event, "step"));
	const json_t *loss = json_object_get(event, "loss");
	char note[96], rate[32];

	(void)rank;
	if (json_object_get(event, "val_loss")) {
		show_evaluation(
			t, step,
			json_number_value(json_object_get(event, "val_loss")));
		return;
	}
	if (!loss)
		return;
	t->last_loss = json_number_value(loss);
	text_grouped(rate, sizeof(rate),
		     (uint64_t)json_number_value(
			     json_object_get(event, "tokens_per_second")));
	snprintf(note, sizeof(note), "loss %.4f, %s tokens/s, waiting %.1f %%",
		 t->last_loss, rate,
		 100 * json_number_value(json_object_get(event, "bubble")));
	if (!t->progress_begun)
		progress_begin(&t->progress);
	t->progress_begun = true;
	progress_update(&t->progress, step, note);
}

static int make_run(struct train *t)
{
	char path[FILES_PATH_BYTES];
	int rc = files_join(path, sizeof(path), t->job.out, "checkpoints");

	if (!rc)
		rc = files_make_folder(path);
	if (!rc)
		rc = auto_schedule_keep(&t->chosen, &t->job);
	return rc ? rc : write_run_json(t);
}

/* A new run that never finished a step leaves nothing behind. */
static void remove_unborn(const struct train *t)
{
	if (t->resume || t->progress_begun)
		return;
	(void)!files_remove_tree(t->job.out);
}

static void conclude(const struct train *t, const struct launch_result *result)
{
	if (result->stopped) {
		log_info(
			"stopped; the checkpoint is in %s/checkpoints. Go on with: stagecoach train --resume %s",
			t->job.out, t->job.out);
		return;
	}
	log_info(
		"done: the model is in %s/model, a line a step in %s/metrics.jsonl; curves: stagecoach report %s",
		t->job.out, t->job.out, t->job.out);
}

/* It was ended between its last checkpoint and the model made of that. */
static int publish_alone(struct train *t)
{
	struct launch_result result = {0};
	int rc = checkpoint_publish(&t->job, t->job.first_step);

	if (!rc)
		conclude(t, &result);
	return rc;
}

static int run(struct train *t)
{
	struct launch_result result;
	int rc;

	if (t->resume && t->job.first_step == t->job.steps)
		return publish_alone(t);
	rc = make_run(t);
	if (rc)
		return rc;
	introduce(t);
	t->progress = (struct progress){.label = "train",
					.unit = "step",
					.first = t->job.first_step,
					.total = t->job.steps};
	rc = job_options_launch(t->options, &t->job, show_event, t, &result);
	if (t->progress_begun)
		progress_end(&t->progress);
	if (rc)
		remove_unborn(t);
	else
		conclude(t, &result);
	launch_result_fini(&result);
	return rc;
}

static const char *run_folder(const struct options *options)
{
	const char *out = options_string(options, "out");

	return out ? out : options_string(options, "resume");
}

int cmd_train(int argc, char **argv)
{
	struct train *t = calloc(1, sizeof(*t));
	int status, rc;

	if (!t)
		return 1;
	rc = options_parse(&train_command, argc, argv, &t->options);
	if (rc) {
		free(t);
		return rc < 0 ? 2 : 0;
	}
	if (hosts_options_begin(t->options, run_folder(t->options), &status)) {
		options_destroy(t->options);
		free(t);
		return status;
	}
	rc = plan(t);
	status = rc == -EINVAL || rc == -EEXIST || rc == -ENOENT ? 2 : 1;
	if (!rc) {
		rc = run(t);
		status = rc ? 1 : 0;
	}
	train_split_fini(&t->split);
	auto_schedule_fini(&t->chosen);
	model_destroy(t->model);
	corpus_close(t->corpus);
	checkpoint_fini(&t->checkpoint);
	options_destroy(t->options);
	free(t);
	return status;
}
