/*
 * What the engine writes and reads, and the parameters it holds: metrics,
 * jobs, the store, one optimizer step.
 */
#include "base/files.h"
#include "base/log.h"
#include "engine/job.h"
#include "engine/metrics.h"
#include "engine/optimizer.h"
#include "engine/store.h"
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void ignore_line(void *argument, enum log_level level, const char *line)
{
	(void)argument;
	(void)level;
	(void)line;
}

/* ---- metrics ---- */

static void metrics_lines(void **state)
{
	struct metrics_step step = {.step = 12,
				    .loss = 3.2109876543,
				    .gradient_norm = NAN,
				    .learning_rate = 6e-4,
				    .tokens = 24576,
				    .tokens_per_second = INFINITY,
				    .step_seconds = 0.125,
				    .bubble = 0.5,
				    .time = 1700000000.25};
	struct metrics_evaluation evaluation = {
		.step = 0, .loss = -NAN, .tokens = 7, .time = 3};
	char line[METRICS_LINE_BYTES];

	(void)state;
	metrics_format_step(line, &step);
	assert_string_equal(
		line,
		"{\"step\":12,\"loss\":3.21098765,\"grad_norm\":null,"
		"\"lr\":0.0006,\"tokens\":24576,\"tokens_per_second\":null,"
		"\"step_seconds\":0.125000,\"bubble\":0.5000,"
		"\"time\":1700000000.250}");
	metrics_format_evaluation(line, &evaluation);
	assert_string_equal(line,
			    "{\"step\":0,\"val_loss\":null,\"val_tokens\":7,"
			    "\"time\":3.000}");
}

static void check_cut(const char *folder, const char *before,
		      uint64_t last_step, const char *after)
{
	struct metrics metrics;
	char path[FILES_PATH_BYTES], *data;
	size_t length;

	assert_int_equal(
		files_join(path, sizeof(path), folder, "metrics.jsonl"), 0);
	assert_int_equal(files_replace(path, before, strlen(before)), 0);
	assert_int_equal(metrics_open(&metrics, folder, last_step), 0);
	metrics_append(&metrics, "{\"step\":9}");
	metrics_close(&metrics);
	assert_int_equal(files_read(path, 4096, &data, &length), 0);
	assert_string_equal(data, after);
	free(data);
}

static void metrics_are_cut(void **state)
{
	char folder[] = "/tmp/engine-files-XXXXXX";

	(void)state;
	assert_non_null(mkdtemp(folder));
	check_cut(folder, "", 0, "{\"step\":9}\n");
	check_cut(folder, "{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n", 2,
		  "{\"step\":1}\n{\"step\":2}\n{\"step\":9}\n");
	/* A torn last line, and a whole one that is none of ours. */
	check_cut(folder, "{\"step\":1}\n{\"step\":2}", 5,
		  "{\"step\":1}\n{\"step\":9}\n");
	check_cut(folder, "{\"step\":1}\n{\"st\n{\"step\":2}\n", 5,
		  "{\"step\":1}\n{\"step\":9}\n");
	check_cut(folder, "{\"step\":1}\n{\"step\":1,\"val_loss\":null}\n", 1,
		  "{\"step\":1}\n{\"step\":1,\"val_loss\":null}\n"
		  "{\"step\":9}\n");
	assert_int_equal(files_remove_tree(folder), 0);
}

/* ---- jobs ---- */

static struct job *sample_job(void)
{
	struct job *job = calloc(1, sizeof(*job));

	assert_non_null(job);
	job->kind = JOB_GENERATE;
	snprintf(job->out, sizeof(job->out), "/runs/\"a\" b");
	snprintf(job->schedule, sizeof(job->schedule), "1f1b");
	assert_int_equal(model_config_default("gpt2", &job->config), 0);
	job->config.vocab_size = 50257;
	job->config.eos_id = -1;
	job->ranks = 3;
	job->chunks = 1;
	job->partition.stages = 3;
	job->partition.first[1] = 5;
	job->partition.first[2] = 9;
	job->partition.first[3] = 14;
	job->micro_batches = 8;
	job->seed = UINT64_MAX;
	job->data_fingerprint = 0x8000000000000001;
	job->optimizer.beta2 = 0.1 + 0.2; /* no short decimal */
	job->learning_rate.peak = 1e-300;
	job->learning_rate.decay = DECAY_LINEAR;
	job->recompute = true;
	job->end_token = -1;
	job->prompt = calloc(2, sizeof(*job->prompt));
	assert_non_null(job->prompt);
	job->prompt_count = 2;
	job->prompt[1] = 50256;
	job->reach = REACH_ROOT;
	job->schedule_text = strdup("0F0,0B0\n");
	assert_non_null(job->schedule_text);
	return job;
}

static void jobs_travel(void **state)
{
	struct job *job = sample_job(), *back = malloc(sizeof(*back));
	json_t *json = job_to_json(job), *again;
	char *text;

	(void)state;
	assert_non_null(back);
	text = json_dumps(json, JSON_COMPACT);
	json_decref(json);
	json = json_loads(text, 0, NULL);
	assert_int_equal(job_from_json(json, back), 0);
	assert_true(back->seed == job->seed);
	assert_true(back->data_fingerprint == job->data_fingerprint);
	assert_true(back->optimizer.beta2 == job->optimizer.beta2);
	assert_true(back->learning_rate.peak == job->learning_rate.peak);
	assert_string_equal(back->out, job->out);
	assert_int_equal(back->prompt[1], 50256);
	assert_int_equal(back->end_token, -1);
	assert_true(back->recompute);
	assert_int_equal(back->reach, REACH_ROOT);
	assert_string_equal(back->schedule_text, job->schedule_text);
	assert_memory_equal(back->partition.first, job->partition.first,
			    4 * sizeof(unsigned));
	/* All else: what it writes is what it was read from. */
	again = job_to_json(back);
	assert_true(json_equal(json, again));
	json_decref(again);
	json_decref(json);
	free(text);
	job_fini(job);
	job_fini(back);
	free(job);
	free(back);
}

static void jobs_are_refused(void **state)
{
	static const struct {
		const char *key, *value;
	} bad[] = {
		{"seed", "5"},
		{"seed", "\"5x\""},
		{"ranks", "-1"},
		{"ranks", "4294967296"},
		{"ranks", "\"3\""},
		{"ranks", "null"},
		{"kind", "4"},
		{"kind", "-1"},
		{"optimizer.kind", "2"},
		{"learning_rate.decay", "9"},
		{"reach", "3"},
		{"config.type", "2"},
		{"config.type", "-1"},
		{"save_type", "9"},
		{"schedule_text", "5"},
		{"optimizer.beta1", "\"a\""},
		{"config.family", "\"a name of more than fifteen bytes\""},
		{"first_layers", "[0]"},
		{"first_layers", "[1,5]"},
		{"first_layers", "[0,5,5,14]"},
		{"first_layers", "[0,5,-9,14]"},
		{"first_layers", "[0,\"5\"]"},
		{"prompt", "[-1]"},
		{"prompt", "[4294967296]"},
		{"prompt", "7"},
	};
	struct job *job = sample_job(), *back = malloc(sizeof(*back));

	(void)state;
	assert_non_null(back);
	log_set_sink(ignore_line, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		json_t *json = job_to_json(job);
		json_t *value = json_loads(bad[i].value, JSON_DECODE_ANY, NULL);

		assert_non_null(json_object_get(json, bad[i].key));
		assert_int_equal(json_object_set_new(json, bad[i].key, value),
				 0);
		if (job_from_json(json, back) >= 0)
			fail_msg("%s = %s passed", bad[i].key, bad[i].value);
		job_fini(back);
		json_decref(json);
	}
	log_set_sink(NULL, NULL);
	job_fini(job);
	free(job);
	free(back);
}

/* A file's text goes with the job; a name has none; what is no text ends it. */
static void schedules_travel(void **state)
{
	struct job *job = sample_job();
	char folder[] = "/tmp/engine-files-XXXXXX";
	json_t *json;

	(void)state;
	free(job->schedule_text);
	job->schedule_text = NULL;
	json = job_to_json(job);
	assert_int_equal(job_attach_schedule(job, json), 0);
	assert_null(json_object_get(json, "schedule_text"));
	assert_non_null(mkdtemp(folder));
	assert_int_equal(files_join(job->schedule, sizeof(job->schedule),
				    folder, "mine.csv"),
			 0);
	log_set_sink(ignore_line, NULL);
	assert_int_equal(job_attach_schedule(job, json), -ENOENT);
	assert_int_equal(files_replace(job->schedule, "\xff", 1), 0);
	assert_int_equal(job_attach_schedule(job, json), -EINVAL);
	log_set_sink(NULL, NULL);
	assert_int_equal(files_replace(job->schedule, "0F0\r\n", 5), 0);
	assert_int_equal(job_attach_schedule(job, json), 0);
	assert_string_equal(
		json_string_value(json_object_get(json, "schedule_text")),
		"0F0\r\n");
	assert_int_equal(files_remove_tree(folder), 0);
	json_decref(json);
	job_fini(job);
	free(job);
}

/* ---- store ---- */

#define LAYERS 4

static struct model *model_of_type(enum element_type type, bool tied)
{
	struct model_config config;
	struct model *model;

	assert_int_equal(model_config_default("gpt2", &config), 0);
	config.vocab_size = 19;
	config.context = 8;
	config.width = 16;
	config.layers = LAYERS - 2;
	config.heads = 2;
	config.tied = tied;
	config.type = type;
	assert_int_equal(model_create(&config, &model), 0);
	return model;
}

static struct model *tiny_model(bool tied)
{
	return model_of_type(ELEMENT_F32, tied);
}

static struct store *store_of(const struct model *model, const char *held)
{
	bool holds[LAYERS];
	struct store_config config = {.model = model,
				      .holds_layer = holds,
				      .levels = 2,
				      .moments = 2};
	struct store *store;

	for (unsigned i = 0; i < LAYERS; i++)
		holds[i] = held[i] == 'x';
	assert_int_equal(store_create(&config, &store), 0);
	return store;
}

static struct store_row *tied_end(struct store *store)
{
	for (unsigned i = 0; i < store->count; i++)
		if (store->rows[i].parameter->tied_to != PARAMETER_NOT_TIED)
			return &store->rows[i];
	return NULL;
}

static void store_local_tie(void **state)
{
	struct model *model = tiny_model(true);
	struct store *store = store_of(model, "xxxx");
	struct store_row *head = tied_end(store), *embedding;

	(void)state;
	assert_non_null(head);
	assert_true(head->target >= 0 && !head->elsewhere);
	embedding = &store->rows[head->target];
	assert_ptr_equal(head->weights, embedding->weights);
	assert_ptr_equal(&store->rows[embedding->follower], head);
	assert_false(embedding->elsewhere);
	for (unsigned l = 0; l < 2; l++)
		assert_ptr_not_equal(head->accumulators[l],
				     embedding->accumulators[l]);
	assert_null(head->moments[0]);
	assert_non_null(embedding->moments[1]);
	assert_false(store_row_is_updated(head) || store_row_is_saved(head));
	assert_true(store_row_is_updated(embedding) &&
		    store_row_is_saved(embedding));
	store_destroy(store);
	model_destroy(model);
}

static void store_remote_tie(void **state)
{
	struct model *model = tiny_model(true);
	struct store *front = store_of(model, "xx..");
	struct store *back = store_of(model, "..xx");
	struct store_row *head = tied_end(back), *embedding;
	unsigned count;

	(void)state;
	(void)model_parameters(model, &count);
	assert_int_equal(front->count + back->count, count);
	assert_null(tied_end(front));
	assert_non_null(head);
	assert_true(head->target < 0 && head->elsewhere);
	embedding = &front->rows[front->row_of[head->parameter->tied_to]];
	assert_true(embedding->elsewhere && embedding->follower < 0);
	/* Both copies are updated, one is saved. */
	assert_true(store_row_is_updated(head) &&
		    store_row_is_updated(embedding));
	assert_true(store_row_is_saved(embedding));
	assert_false(store_row_is_saved(head));
	assert_non_null(head->moments[0]);
	store_destroy(front);
	store_destroy(back);
	model_destroy(model);
}

static void store_untied(void **state)
{
	struct model *model = tiny_model(false);
	struct store *store = store_of(model, "xxxx");

	(void)state;
	assert_null(tied_end(store));
	for (unsigned i = 0; i < store->count; i++) {
		const struct store_row *row = &store->rows[i];

		assert_int_equal(store->row_of[row->parameter->id], i);
		assert_true(!row->elsewhere && row->target < 0 &&
			    row->follower < 0);
		assert_ptr_equal(store->weights[i], row->weights);
		assert_ptr_equal(store->gradients[1][i], row->accumulators[1]);
	}
	store_destroy(store);
	model_destroy(model);
}

static bool is_matrix(const struct store_row *row)
{
	return row->parameter->dimensions > 1;
}

static void assert_rounded(const struct store *store)
{
	for (unsigned i = 0; i < store->count; i++) {
		const struct store_row *row = &store->rows[i];

		for (size_t k = 0; row->rounded && k < row->parameter->count;
		     k++)
			assert_int_equal(row->rounded[k],
					 bfloat16_from_float(row->weights[k]));
	}
}

/* In training: matrices have both, and layers get the copy. */
static void store_rounds(void **state)
{
	struct model *model = model_of_type(ELEMENT_BF16, true);
	struct store *store = store_of(model, "xxxx");
	struct store_row *head = tied_end(store);
	struct threads *threads;
	size_t elements = 0;

	(void)state;
	assert_int_equal(threads_create(2, NULL, &threads), 0);
	assert_ptr_equal(head->rounded, store->rows[head->target].rounded);
	for (unsigned i = 0; i < store->count; i++) {
		struct store_row *row = &store->rows[i];

		assert_non_null(row->weights);
		assert_int_equal(row->rounded != NULL, is_matrix(row));
		assert_ptr_equal(store->weights[i],
				 row->rounded ? (void *)row->rounded
					      : row->weights);
		if (row->target < 0 && row->rounded)
			elements += row->parameter->count;
		for (size_t k = 0; k < row->parameter->count; k++)
			row->weights[k] = (float)(i + k) * 1.001f;
	}
	assert_true(store->rounded_arena.size_bytes >= 2 * elements &&
		    store->rounded_arena.size_bytes <
			    2 * elements + store->count * CACHE_LINE_BYTES);
	store_round(store, threads);
	assert_rounded(store);
	threads_destroy(threads);
	store_destroy(store);
	model_destroy(model);
}

/* Else matrices have the copy alone, and what is set is rounded into it. */
static void store_without_masters(void **state)
{
	struct model *model = model_of_type(ELEMENT_BF16, false);
	bool holds[LAYERS] = {true, true, true, true};
	struct store_config config = {.model = model, .holds_layer = holds};
	const float values[] = {1.001f, -2.003f};
	struct store *store;

	(void)state;
	assert_int_equal(store_create(&config, &store), 0);
	for (unsigned i = 0; i < store->count; i++) {
		const struct store_row *row = &store->rows[i];

		assert_int_equal(row->weights == NULL, is_matrix(row));
		assert_int_equal(row->rounded == NULL, !is_matrix(row));
		store_row_set(row, 3, 2, values);
		for (unsigned k = 0; k < 2; k++)
			if (is_matrix(row))
				assert_int_equal(
					row->rounded[3 + k],
					bfloat16_from_float(values[k]));
			else
				assert_true(row->weights[3 + k] == values[k]);
	}
	store_destroy(store);
	model_destroy(model);
}

/* ---- optimizer ---- */

/* AdamW as the paper has it, in double. */
static void adamw_by_hand(const struct optimizer_config *config, double rate,
			  double gradient, double decay, unsigned step,
			  double *w, double *m, double *v)
{
	*m = config->beta1 * *m + (1 - config->beta1) * gradient;
	*v = config->beta2 * *v + (1 - config->beta2) * gradient * gradient;
	*w *= 1 - rate * decay;
	*w -= rate * (*m / (1 - pow(config->beta1, step))) /
	      (sqrt(*v / (1 - pow(config->beta2, step))) + config->epsilon);
}

static void optimizer_updates(void **state)
{
	const struct optimizer_config config = {.kind = OPTIMIZER_ADAMW,
						.beta1 = 0.9,
						.beta2 = 0.999,
						.epsilon = 1e-8,
						.weight_decay = 0.1};
	const double rate = 1e-2, scale = 0.5;
	struct model *model = model_of_type(*(enum element_type *)*state, true);
	struct store *store = store_of(model, "xxxx");
	double w[64] = {0}, m[64] = {0}, v[64] = {0};
	struct threads *threads;

	assert_true(store->count <= 64);
	assert_int_equal(threads_create(1, NULL, &threads), 0);
	for (unsigned step = 1; step <= 3; step++) {
		for (unsigned i = 0; i < store->count; i++)
			store->rows[i].accumulators[0][0] =
				(float)(step + i) * 0.25f;
		optimizer_step(&config, threads, store, step, rate, scale);
		for (unsigned i = 0; i < store->count; i++) {
			const struct store_row *row = &store->rows[i];
			bool decays =
				row->parameter->decay_group == DECAY_WEIGHT;

			if (!store_row_is_updated(row)) {
				/* Its target has had it added before. */
				assert_true(row->accumulators[0][0] == 0);
				continue;
			}
			adamw_by_hand(&config, rate, (step + i) * 0.25 * scale,
				      decays ? config.weight_decay : 0, step,
				      &w[i], &m[i], &v[i]);
			assert_true(fabs(row->weights[0] - w[i]) < 1e-7);
			assert_true(row->accumulators[0][0] == 0);
			assert_true(row->weights[1] == 0);
		}
		assert_rounded(store);
	}
	threads_destroy(threads);
	store_destroy(store);
	model_destroy(model);
}

int main(void)
{
	enum element_type types[] = {ELEMENT_F32, ELEMENT_BF16};
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(metrics_lines),
		cmocka_unit_test(metrics_are_cut),
		cmocka_unit_test(jobs_travel),
		cmocka_unit_test(jobs_are_refused),
		cmocka_unit_test(schedules_travel),
		cmocka_unit_test(store_local_tie),
		cmocka_unit_test(store_remote_tie),
		cmocka_unit_test(store_untied),
		cmocka_unit_test(store_rounds),
		cmocka_unit_test(store_without_masters),
		cmocka_unit_test_prestate(optimizer_updates, &types[0]),
		cmocka_unit_test_prestate(optimizer_updates, &types[1]),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
