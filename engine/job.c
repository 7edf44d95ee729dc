#include "engine/job.h"
#include "base/log.h"
#include "base/text.h"
#include "engine/control.h"
#include "schedules/schedule.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define ORIGIN "job"

/* Half of what a control message carries; a longer text is read by all. */
#define SCHEDULE_TEXT_BYTES_MAX ((size_t)CONTROL_MESSAGE_BYTES / 2)

/*
 * The job's plain fields as tables: one row serves writing and reading.
 * Numbers that do not fit a JSON integer (seeds) travel as hexadecimal text.
 */
enum field_type {
	FIELD_UNSIGNED,
	FIELD_INT,
	FIELD_U64, /* small: a count */
	FIELD_HEX, /* any 64 bits */
	FIELD_REAL,
	FIELD_BOOL,
	FIELD_PATH,
	FIELD_NAME, /* a shorter text */
};

struct field {
	const char *name;
	enum field_type type;
	size_t offset;
	size_t size;
	bool identity; /* determines the bits of the result */
};

#define FIELD(type, member, identity)                                          \
	{                                                                      \
#member, type, offsetof(struct job, member),                   \
			sizeof(((struct job *)0)->member), identity            \
	}

/* Enumerations are written as the numbers they are. */
static const struct field fields[] = {
	FIELD(FIELD_PATH, out, false),
	FIELD(FIELD_PATH, data, false),
	FIELD(FIELD_PATH, model, false),
	FIELD(FIELD_PATH, resume, false),
	FIELD(FIELD_PATH, adapter, false),
	FIELD(FIELD_PATH, tokenizer_folder, false),
	FIELD(FIELD_PATH, schedule, false),
	FIELD(FIELD_NAME, config.family, true),
	FIELD(FIELD_UNSIGNED, config.vocab_size, true),
	FIELD(FIELD_UNSIGNED, config.context, true),
	FIELD(FIELD_UNSIGNED, config.width, true),
	FIELD(FIELD_UNSIGNED, config.layers, true),
	FIELD(FIELD_UNSIGNED, config.heads, true),
	FIELD(FIELD_UNSIGNED, config.kv_heads, true),
	FIELD(FIELD_UNSIGNED, config.head_size, true),
	FIELD(FIELD_UNSIGNED, config.inner, true),
	FIELD(FIELD_REAL, config.norm_epsilon, true),
	FIELD(FIELD_REAL, config.embedding_dropout, true),
	FIELD(FIELD_REAL, config.residual_dropout, true),
	FIELD(FIELD_REAL, config.attention_dropout, true),
	FIELD(FIELD_BOOL, config.tied, true),
	FIELD(FIELD_REAL, config.initializer_range, true),
	FIELD(FIELD_INT, config.rope.kind, true),
	FIELD(FIELD_UNSIGNED, config.rope.positions, true),
	FIELD(FIELD_REAL, config.rope.theta, true),
	FIELD(FIELD_REAL, config.rope.factor, true),
	FIELD(FIELD_UNSIGNED, config.rope.original_positions, true),
	FIELD(FIELD_REAL, config.rope.low_frequency_factor, true),
	FIELD(FIELD_REAL, config.rope.high_frequency_factor, true),
	FIELD(FIELD_REAL, config.rope.beta_fast, true),
	FIELD(FIELD_REAL, config.rope.beta_slow, true),
	FIELD(FIELD_REAL, config.rope.attention_factor, true),
	FIELD(FIELD_REAL, config.rope.mscale, true),
	FIELD(FIELD_REAL, config.rope.mscale_all, true),
	FIELD(FIELD_BOOL, config.rope.untruncated, true),
	FIELD(FIELD_BOOL, config.qkv_bias, true),
	FIELD(FIELD_BOOL, config.output_bias, true),
	FIELD(FIELD_BOOL, config.mlp_bias, true),
	FIELD(FIELD_BOOL, config.head_norm, true),
	FIELD(FIELD_UNSIGNED, config.window, true),
	FIELD(FIELD_UNSIGNED, config.window_first, true),
	FIELD(FIELD_UNSIGNED, config.adapters.rank, true),
	FIELD(FIELD_REAL, config.adapters.alpha, true),
	FIELD(FIELD_NAME, config.adapters.targets, true),
	FIELD(FIELD_HEX, base_weights, true),
	FIELD(FIELD_INT, config.type, true),
	FIELD(FIELD_INT, config.bos_id, true),
	FIELD(FIELD_INT, config.eos_id, true),
	FIELD(FIELD_UNSIGNED, ranks, false),
	FIELD(FIELD_UNSIGNED, replicas, false),
	FIELD(FIELD_UNSIGNED, slices, true),
	FIELD(FIELD_UNSIGNED, chunks, false),
	FIELD(FIELD_UNSIGNED, micro_batches, true),
	FIELD(FIELD_UNSIGNED, micro_batch_size, true),
	FIELD(FIELD_UNSIGNED, context, true),
	FIELD(FIELD_UNSIGNED, gradient_groups, true),
	FIELD(FIELD_BOOL, shard_optimizer, false),
	FIELD(FIELD_BOOL, recompute, false),
	FIELD(FIELD_HEX, seed, true),
	FIELD(FIELD_HEX, data_fingerprint, true),
	FIELD(FIELD_U64, first_step, false),
	FIELD(FIELD_U64, steps, false),
	FIELD(FIELD_INT, optimizer.kind, true),
	FIELD(FIELD_REAL, optimizer.beta1, true),
	FIELD(FIELD_REAL, optimizer.beta2, true),
	FIELD(FIELD_REAL, optimizer.epsilon, true),
	FIELD(FIELD_REAL, optimizer.momentum, true),
	FIELD(FIELD_BOOL, optimizer.nesterov, true),
	FIELD(FIELD_REAL, optimizer.weight_decay, true),
	FIELD(FIELD_REAL, optimizer.clip, true),
	FIELD(FIELD_REAL, learning_rate.peak, true),
	FIELD(FIELD_REAL, learning_rate.floor, true),
	FIELD(FIELD_U64, learning_rate.warmup_steps, true),
	FIELD(FIELD_U64, learning_rate.decay_steps, true),
	FIELD(FIELD_INT, learning_rate.decay, true),
	FIELD(FIELD_INT, save_type, false),
	FIELD(FIELD_U64, checkpoint_every, false),
	FIELD(FIELD_UNSIGNED, keep_checkpoints, false),
	FIELD(FIELD_U64, eval_every, false),
	FIELD(FIELD_U64, eval_samples, false),
	FIELD(FIELD_INT, split, false),
	FIELD(FIELD_BOOL, scoring.requests, false),
	FIELD(FIELD_INT, scoring.kind, false),
	FIELD(FIELD_INT, scoring.windows, false),
	FIELD(FIELD_UNSIGNED, scoring.window, false),
	FIELD(FIELD_UNSIGNED, scoring.stride, false),
	FIELD(FIELD_INT, scoring.begin, false),
	FIELD(FIELD_BOOL, scoring.begin_prompts, false),
	FIELD(FIELD_NAME, scoring.delimiter, false),
	FIELD(FIELD_PATH, scoring.tokenizer, false),
	FIELD(FIELD_PATH, scoring.details, false),
	FIELD(FIELD_UNSIGNED, tokens, false),
	FIELD(FIELD_REAL, temperature, false),
	FIELD(FIELD_UNSIGNED, top_k, false),
	FIELD(FIELD_INT, end_token, false),
	FIELD(FIELD_INT, kind, false),
	FIELD(FIELD_UNSIGNED, trace_steps, false),
	FIELD(FIELD_BOOL, tensorboard, false),
	FIELD(FIELD_BOOL, packed, false),
	FIELD(FIELD_BOOL, separate, true),
	FIELD(FIELD_INT, reach, false),
};

static json_t *field_to_json(const struct job *job, const struct field *field)
{
	const void *at = (const char *)job + field->offset;
	char hex[20];

	switch (field->type) {
	case FIELD_UNSIGNED:
		return json_integer(*(const unsigned *)at);
	case FIELD_INT:
		return json_integer(*(const int *)at);
	case FIELD_U64:
		return json_integer((json_int_t) * (const uint64_t *)at);
	case FIELD_HEX:
		snprintf(hex, sizeof(hex), "%016llx",
			 (unsigned long long)*(const uint64_t *)at);
		return json_string(hex);
	case FIELD_REAL:
		return json_real(*(const double *)at);
	case FIELD_BOOL:
		return json_boolean(*(const bool *)at);
	case FIELD_PATH:
	case FIELD_NAME:
		return json_string(at);
	}
	return NULL;
}

static int hex_from_json(const json_t *json, const char *name, uint64_t *out)
{
	const char *text;
	char *end;
	int rc = json_get_string(json, name, ORIGIN, &text);

	if (rc)
		return rc;
	errno = 0;
	*out = strtoull(text, &end, 16);
	if (errno || *end || end == text)
		return fail(-EINVAL, "%s: '%s' is no hexadecimal number",
			    ORIGIN, name);
	return 0;
}

static int integer_from_json(const json_t *json, const struct field *field,
			     void *at)
{
	int64_t minimum = field->type == FIELD_INT ? INT_MIN : 0;
	int64_t maximum = field->type == FIELD_INT   ? INT_MAX
			  : field->type == FIELD_U64 ? INT64_MAX
						     : UINT_MAX;
	int64_t value;
	int rc = json_get_integer(json, field->name, minimum, maximum, ORIGIN,
				  &value);

	if (rc)
		return rc;
	if (field->type == FIELD_INT)
		*(int *)at = (int)value;
	else if (field->type == FIELD_U64)
		*(uint64_t *)at = (uint64_t)value;
	else
		*(unsigned *)at = (unsigned)value;
	return 0;
}

static int text_from_json(const json_t *json, const struct field *field,
			  void *at)
{
	const char *text;
	int rc = json_get_string(json, field->name, ORIGIN, &text);

	if (!rc && text_copy(at, field->size, text))
		rc = fail(-ENAMETOOLONG, "%s: '%s' is too long", ORIGIN,
			  field->name);
	return rc;
}

static int field_from_json(const json_t *json, const struct field *field,
			   struct job *job)
{
	void *at = (char *)job + field->offset;

	switch (field->type) {
	case FIELD_UNSIGNED:
	case FIELD_INT:
	case FIELD_U64:
		return integer_from_json(json, field, at);
	case FIELD_HEX:
		return hex_from_json(json, field->name, at);
	case FIELD_REAL:
		return json_get_real(json, field->name, -1e300, 1e300, ORIGIN,
				     at);
	case FIELD_BOOL:
		return json_get_boolean_or(json, field->name, false, ORIGIN,
					   at);
	case FIELD_PATH:
	case FIELD_NAME:
		return text_from_json(json, field, at);
	}
	return -EINVAL;
}

static json_t *numbers_to_json(const unsigned *numbers, size_t count)
{
	json_t *array = json_array();

	for (size_t i = 0; i < count; i++)
		json_array_append_new(array, json_integer(numbers[i]));
	return array;
}

/* [time, passes] a run. */
static json_t *runs_to_json(const struct job_scoring *scoring)
{
	json_t *array = json_array();
	int rc = 0;

	for (unsigned i = 0; i < scoring->run_count; i++)
		rc |= json_array_append_new(
			array,
			json_pack("[I, I]", (json_int_t)scoring->runs[i].time,
				  (json_int_t)scoring->runs[i].passes));
	if (!rc)
		return array;
	json_decref(array);
	return NULL;
}

static json_t *rehearsal_to_json(const struct model_rehearsal *given)
{
	json_t *times = json_array(), *gradients = json_array();
	int rc = 0;

	for (unsigned i = 0; i < 3 * given->stages; i++)
		rc |= json_array_append_new(times,
					    json_real(given->seconds[0][i]));
	for (unsigned i = 0; i < given->stages; i++)
		rc |= json_array_append_new(gradients,
					    json_real(given->gradients[i]));
	if (!rc)
		return json_pack("{s:o, s:o, s:I, s:I}", "seconds", times,
				 "gradients", gradients, "message_bytes",
				 (json_int_t)given->message_bytes, "tied_bytes",
				 (json_int_t)given->tied_bytes);
	json_decref(times);
	json_decref(gradients);
	return NULL;
}

struct grid job_grid(const struct job *job)
{
	return (struct grid){
		.replicas = MAX(job->replicas, 1u),
		.positions = job->ranks,
		.slices = MAX(job->slices, 1u),
	};
}

unsigned job_ranks(const struct job *job)
{
	struct grid grid = job_grid(job);

	return grid_size(&grid);
}

unsigned job_share(const struct job *job)
{
	return job->micro_batches / MAX(job->replicas, 1u);
}

static bool is_power_of_two(unsigned value)
{
	return value && !(value & (value - 1));
}

/* M a multiple of `unit`: the two nearest, said in words. */
static int refuse_micro_batches(unsigned micro_batches, unsigned unit,
				const char *why)
{
	unsigned below = micro_batches / unit * unit;

	if (below == 0)
		return fail(
			-EINVAL,
			"--micro-batches %u: %s; the smallest that works is %u",
			micro_batches, why, unit);
	return fail(
		-EINVAL,
		"--micro-batches %u: %s; the nearest that work are %u and %u",
		micro_batches, why, below, below + unit);
}

int job_check_micro_batches(unsigned micro_batches, unsigned replicas)
{
	char why[128];

	if (micro_batches % replicas == 0)
		return 0;
	snprintf(why, sizeof(why),
		 "they cannot be shared evenly by --replicas %u", replicas);
	return refuse_micro_batches(micro_batches, replicas, why);
}

int job_check_shares(const struct job *job)
{
	unsigned replicas = MAX(job->replicas, 1u);
	unsigned groups = MAX(job->gradient_groups, 1u);
	char why[128];
	int rc;

	if (replicas == 1 && !is_power_of_two(groups))
		return fail(-EINVAL,
			    "--gradient-groups must be a power of two, not %u",
			    groups);
	if (groups % replicas || !is_power_of_two(groups / replicas))
		return fail(
			-EINVAL,
			"--gradient-groups %u: each of %u replicas must have 1, 2, 4, ... groups, so G is %u, %u, %u, ...",
			groups, replicas, replicas, 2 * replicas, 4 * replicas);
	rc = job_check_micro_batches(job->micro_batches, replicas);
	if (rc)
		return rc;
	if (job->micro_batches % groups) {
		snprintf(why, sizeof(why),
			 "--gradient-groups %u does not divide them", groups);
		return refuse_micro_batches(job->micro_batches, groups, why);
	}
	if (job->shard_optimizer && replicas == 1)
		return fail(
			-EINVAL,
			"--shard-optimizer shares the optimizer's state between replicas: give --replicas of 2 or more");
	return 0;
}

json_t *job_to_json(const struct job *job)
{
	json_t *json = json_object(), *prompt = json_array();
	int rc = 0;

	for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
		rc |= json_object_set_new(json, fields[i].name,
					  field_to_json(job, &fields[i]));
	rc |= json_object_set_new(json, "first_layers",
				  numbers_to_json(job->partition.first,
						  job->partition.stages + 1));
	for (unsigned i = 0; i < job->prompt_count; i++)
		rc |= json_array_append_new(prompt,
					    json_integer(job->prompt[i]));
	rc |= json_object_set_new(json, "prompt", prompt);
	if (job->config.rehearsal)
		rc |= json_object_set_new(
			json, "rehearsal",
			rehearsal_to_json(job->config.rehearsal));
	if (job_scores(job))
		rc |= json_object_set_new(json, "runs",
					  runs_to_json(&job->scoring));
	if (job->schedule_text)
		rc |= json_object_set_new(json, "schedule_text",
					  json_string(job->schedule_text));
	if (!rc)
		return json;
	json_decref(json);
	return NULL;
}

int job_attach_schedule(const struct job *job, json_t *json)
{
	uint64_t bytes;
	size_t length;
	char *text;
	int rc;

	if (!schedule_is_file(job->schedule))
		return 0;
	rc = files_size(job->schedule, &bytes);
	if (rc || bytes > SCHEDULE_TEXT_BYTES_MAX)
		return rc;
	rc = files_read(job->schedule, SCHEDULE_TEXT_BYTES_MAX, &text, &length);
	if (rc)
		return rc;
	if (json_object_set_new(json, "schedule_text",
				json_stringn(text, length)))
		rc = fail(-EINVAL, "%s: the schedule is no UTF-8 text",
			  job->schedule);
	free(text);
	return rc;
}

json_t *job_identity(const struct job *job)
{
	json_t *json = json_object();
	int rc = 0;

	for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
		if (fields[i].identity)
			rc |= json_object_set_new(
				json, fields[i].name,
				field_to_json(job, &fields[i]));
	/* Such replicas are summed in an order of their own. */
	rc |= json_object_set_new(
		json, "uneven_replicas",
		json_integer(is_power_of_two(MAX(job->replicas, 1u))
				     ? 0
				     : job->replicas));
	if (!rc)
		return json;
	json_decref(json);
	return NULL;
}

static int partition_from_json(const json_t *json, struct partition *out)
{
	json_t *array, *item;
	size_t i;
	int rc = json_get_array(json, "first_layers", ORIGIN, &array);

	if (rc)
		return rc;
	if (json_array_size(array) < 2 ||
	    json_array_size(array) > ARRAY_SIZE(out->first))
		return fail(-EINVAL, "%s: a split into %zu stages", ORIGIN,
			    json_array_size(array));
	out->stages = (unsigned)json_array_size(array) - 1;
	json_array_foreach(array, i, item)
	{
		json_int_t first = json_integer_value(item);

		if (!json_is_integer(item) || first < 0 || first > UINT_MAX ||
		    (i == 0 ? first != 0 : first <= out->first[i - 1]))
			return fail(-EINVAL,
				    "%s: 'first_layers' does not ascend from 0",
				    ORIGIN);
		out->first[i] = (unsigned)first;
	}
	return 0;
}

static bool is_trained_in(enum element_type type)
{
	return type == ELEMENT_F32 || type == ELEMENT_BF16;
}

/* Enumerations travel as numbers. */
static int check_kinds(const struct job *job)
{
	if ((unsigned)job->kind > JOB_MEASURE)
		return fail(-EINVAL, "%s: an unknown kind of work (%d)", ORIGIN,
			    (int)job->kind);
	if ((unsigned)job->optimizer.kind > OPTIMIZER_SGD)
		return fail(-EINVAL, "%s: an unknown optimizer (%d)", ORIGIN,
			    (int)job->optimizer.kind);
	if ((unsigned)job->learning_rate.decay > DECAY_LINEAR)
		return fail(-EINVAL, "%s: an unknown decay (%d)", ORIGIN,
			    (int)job->learning_rate.decay);
	if (!is_trained_in(job->config.type))
		return fail(-EINVAL, "%s: a model of an unknown type (%d)",
			    ORIGIN, (int)job->config.type);
	if (!is_trained_in(job->save_type))
		return fail(-EINVAL, "%s: files of an unknown type (%d)",
			    ORIGIN, (int)job->save_type);
	if ((unsigned)job->reach > REACH_ROOT)
		return fail(-EINVAL, "%s: an unknown kind of store (%d)",
			    ORIGIN, (int)job->reach);
	return 0;
}

/* How long the passes are of an evaluation of a file. */
static int runs_from_json(const json_t *json, struct job *out)
{
	struct job_scoring *scoring = &out->scoring;
	json_t *array, *item;
	size_t i;
	int rc;

	if (!job_scores(out))
		return 0;
	if ((unsigned)scoring->kind > REQUESTS_CHOICES ||
	    (unsigned)scoring->windows > REQUESTS_SLIDING)
		return fail(-EINVAL, "%s: an unknown kind of evaluation",
			    ORIGIN);
	rc = json_get_array(json, "runs", ORIGIN, &array);
	if (rc)
		return rc;
	if (json_array_size(array) > REQUESTS_RUNS_MAX)
		return fail(-EINVAL, "%s: passes of %zu lengths", ORIGIN,
			    json_array_size(array));
	json_array_foreach(array, i, item)
	{
		json_int_t time = json_integer_value(json_array_get(item, 0));
		json_int_t passes = json_integer_value(json_array_get(item, 1));

		if (time < 1 || time > out->context || passes < 1)
			return fail(
				-EINVAL,
				"%s: %lld passes of %lld tokens, of 1 to %u",
				ORIGIN, (long long)passes, (long long)time,
				out->context);
		scoring->runs[scoring->run_count++] = (struct requests_run){
			.time = (unsigned)time, .passes = (uint64_t)passes};
	}
	return 0;
}

static int schedule_text_from_json(const json_t *json, struct job *out)
{
	const json_t *text = json_object_get(json, "schedule_text");

	if (!text)
		return 0;
	if (!json_is_string(text))
		return fail(-EINVAL, "%s: 'schedule_text' is no text", ORIGIN);
	out->schedule_text = strdup(json_string_value(text));
	return out->schedule_text ? 0
				  : fail(-ENOMEM, "no memory for a schedule");
}

static int prompt_from_json(const json_t *json, struct job *out)
{
	json_t *array, *item;
	size_t i;
	int rc = json_get_array(json, "prompt", ORIGIN, &array);

	if (rc || json_array_size(array) == 0)
		return rc;
	if (json_array_size(array) > JOB_PROMPT_TOKENS_MAX)
		return fail(-EINVAL, "%s: a prompt of %zu tokens", ORIGIN,
			    json_array_size(array));
	out->prompt = calloc(json_array_size(array), sizeof(*out->prompt));
	if (!out->prompt)
		return fail(-ENOMEM, "no memory for the prompt");
	out->prompt_count = (unsigned)json_array_size(array);
	json_array_foreach(array, i, item)
	{
		json_int_t token = json_integer_value(item);

		if (!json_is_integer(item) || token < 0 || token > INT32_MAX)
			return fail(-EINVAL, "%s: 'prompt' holds no token ids",
				    ORIGIN);
		out->prompt[i] = (int32_t)token;
	}
	return 0;
}

int job_rehearsal_create(struct job *job, unsigned stages)
{
	struct model_rehearsal *given = &job->rehearsal;

	given->stages = stages;
	given->seconds[0] = calloc(4 * (size_t)stages, sizeof(double));
	if (!given->seconds[0])
		return fail(-ENOMEM, "no memory for a rehearsal");
	given->seconds[1] = given->seconds[0] + stages;
	given->seconds[2] = given->seconds[1] + stages;
	given->gradients = given->seconds[2] + stages;
	job->config.rehearsal = given;
	return 0;
}

/* The longest an action may sleep; a mistyped unit is found before. */
#define REHEARSAL_SECONDS_MAX 3600.0

static int rehearsal_times(const json_t *times, struct model_rehearsal *out)
{
	for (unsigned i = 0; i < 3 * out->stages; i++) {
		const json_t *item = json_array_get(times, i);
		double seconds = json_number_value(item);

		if (!json_is_number(item) || !(seconds >= 0) ||
		    seconds > REHEARSAL_SECONDS_MAX)
			return fail(-EINVAL,
				    "%s: a rehearsal of %g s an action", ORIGIN,
				    seconds);
		out->seconds[0][i] = seconds;
	}
	return 0;
}

/* Their size is checked where the model is made. */
static int rehearsal_gradients(const json_t *gradients,
			       struct model_rehearsal *out)
{
	for (unsigned i = 0; i < out->stages; i++) {
		const json_t *item = json_array_get(gradients, i);

		if (!json_is_number(item))
			return fail(-EINVAL,
				    "%s: a rehearsal's gradients of %u stages",
				    ORIGIN, out->stages);
		out->gradients[i] = json_number_value(item);
	}
	return 0;
}

static int rehearsal_from_json(const json_t *json, struct job *out)
{
	json_t *given = json_object_get(json, "rehearsal");
	json_t *times, *gradients;
	int64_t message_bytes, tied_bytes;
	int rc;

	if (!given)
		return 0;
	rc = json_get_array(given, "seconds", ORIGIN, &times);
	if (!rc)
		rc = json_get_array(given, "gradients", ORIGIN, &gradients);
	if (!rc)
		rc = json_get_integer(given, "message_bytes", 0, INT64_MAX,
				      ORIGIN, &message_bytes);
	if (!rc)
		rc = json_get_integer(given, "tied_bytes", 0, INT64_MAX, ORIGIN,
				      &tied_bytes);
	if (rc)
		return rc;
	if (json_array_size(times) != 3 * (size_t)out->partition.stages)
		return fail(-EINVAL, "%s: a rehearsal's times for %u stages",
			    ORIGIN, out->partition.stages);
	rc = job_rehearsal_create(out, out->partition.stages);
	if (rc)
		return rc;
	out->rehearsal.message_bytes = (size_t)message_bytes;
	out->rehearsal.tied_bytes = (size_t)tied_bytes;
	rc = rehearsal_times(times, &out->rehearsal);
	return rc ? rc : rehearsal_gradients(gradients, &out->rehearsal);
}

int job_from_json(const json_t *json, struct job *out)
{
	int rc = 0;

	*out = (struct job){0};
	for (size_t i = 0; !rc && i < ARRAY_SIZE(fields); i++)
		rc = field_from_json(json, &fields[i], out);
	if (!rc)
		rc = check_kinds(out);
	if (!rc)
		rc = partition_from_json(json, &out->partition);
	if (!rc)
		rc = rehearsal_from_json(json, out);
	if (!rc)
		rc = schedule_text_from_json(json, out);
	if (!rc)
		rc = runs_from_json(json, out);
	return rc ? rc : prompt_from_json(json, out);
}

void job_fini(struct job *job)
{
	free(job->rehearsal.seconds[0]);
	job->rehearsal = (struct model_rehearsal){0};
	job->config.rehearsal = NULL;
	free(job->schedule_text);
	job->schedule_text = NULL;
	free(job->prompt);
	job->prompt = NULL;
}
