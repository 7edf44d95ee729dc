/*
 * Checkpoints of any grid: ranks fill what they hold with numbers that follow
 * from the tensor's name and the element's place in the whole, and write a
 * checkpoint. The files must be the same for any D, P and T, with the
 * optimizer's state shared or not, written by each rank or all by the root;
 * and ranks of any other grid must find the right numbers in their memory. The
 * same where the model's file is bfloat16 and the masters stand beside it.
 */
#include "base/digest.h"
#include "base/files.h"
#include "base/log.h"
#include "engine/checkpoint.h"
#include "engine/job.h"
#include "engine/launch.h"
#include "engine/pipeline.h"
#include "engine/reduction.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "cmocka-tap.h"

#define BLOCKS 3
#define VOCAB  61 /* slices of it are not equally long */
#define STEP   7

static const struct setting {
	unsigned replicas, positions, slices, chunks;
	bool shared; /* the optimizer's state */
	enum reach_mode reach;
} settings[] = {
	{1, 1, 1, 1, false, REACH_AUTO}, {1, 3, 1, 1, false, REACH_ROOT},
	{2, 1, 1, 1, true, REACH_AUTO},  {2, 2, 1, 2, true, REACH_ROOT},
	{3, 1, 1, 1, true, REACH_ROOT},  {4, 1, 1, 1, false, REACH_AUTO},
	{1, 1, 3, 1, false, REACH_AUTO}, {2, 2, 3, 1, true, REACH_AUTO},
	{2, 2, 3, 1, true, REACH_ROOT},  {4, 2, 1, 1, true, REACH_SHARED},
};

static char folder[64] =
	"/dev/shm/grid-XXXXXX";     /* where a sync costs nothing */
static bool writing;                /* else reading */
static bool from_model;             /* its weights alone, which are rounded */
static atomic_size_t looked, wrong; /* elements */

/* ---- the numbers ---- */

static float number_of(const char *name, int moment, size_t whole)
{
	uint64_t words[3] = {digest_hash64(name, strlen(name)),
			     (uint64_t)(moment + 1), whole};

	/* 24 bits: exact, and never what memory begins with. */
	return (float)(1 + digest_hash64(words, sizeof(words)) % 16000000);
}

struct visit {
	const struct pipeline *pipeline;
	const char *name;
	const struct parameter *parameter;
	int moment;
	const bfloat16 *copy; /* of the row, beside its weights */
};

/* at NULL: no master. */
static void visit_element(const struct visit *visit, size_t element, float *at)
{
	const struct parameter *parameter = visit->parameter;
	size_t length = parameter->count / parameter_run_count(parameter);
	struct parameter_run run = parameter_run(parameter, element / length);
	float number = number_of(visit->name, visit->moment,
				 run.whole + element - run.local);

	if (from_model)
		number = float_from_bfloat16(bfloat16_from_float(number));
	if (writing)
		*at = number;
	else if (at && *at != number)
		atomic_fetch_add(&wrong, 1);
	if (!writing && visit->copy &&
	    visit->copy[element] != bfloat16_from_float(number))
		atomic_fetch_add(&wrong, 1);
	atomic_fetch_add(&looked, 1);
}

/* What the rank keeps of a moment, packed in the order of the ranges. */
static void visit_shard(const struct visit *visit, float *memory)
{
	const struct pipeline *p = visit->pipeline;
	const struct reduction *reduction = pipeline_reduction(p);
	unsigned id = visit->parameter->id;
	unsigned runs = reduction_shard_count(reduction, p->place.replica, id);
	size_t packed = 0;

	for (unsigned i = 0; i < runs; i++) {
		struct reduction_run run =
			reduction_shard(reduction, p->place.replica, id, i);

		for (size_t k = 0; k < run.count; k++)
			visit_element(visit, run.first + k, memory + packed++);
	}
}

static void visit_row(const struct pipeline *p, const struct store_row *row)
{
	unsigned count;
	const struct parameter *all = model_parameters(p->model, &count);
	struct visit visit = {.pipeline = p, .parameter = row->parameter};
	int tied_to = row->parameter->tied_to;

	visit.name = tied_to == PARAMETER_NOT_TIED ? row->parameter->name
						   : all[tied_to].name;
	for (visit.moment = -1;
	     visit.moment < (from_model ? 0 : (int)p->store->moments);
	     visit.moment++) {
		float *memory = visit.moment < 0 ? row->weights
						 : row->moments[visit.moment];

		visit.copy = visit.moment < 0 ? row->rounded : NULL;
		if (visit.moment >= 0 && p->job->shard_optimizer)
			visit_shard(&visit, memory);
		else
			for (size_t i = 0; i < row->parameter->count; i++)
				visit_element(&visit, i,
					      memory ? memory + i : NULL);
	}
}

static void visit_rows(const struct pipeline *p)
{
	for (unsigned i = 0; i < p->store->count; i++)
		if (p->store->rows[i].target < 0)
			visit_row(p, &p->store->rows[i]);
}

/* ---- ranks ---- */

static int use_pipeline(struct pipeline *p)
{
	int rc;

	if (writing) {
		visit_rows(p);
		return checkpoint_write(p, STEP);
	}
	rc = checkpoint_load_weights(p);
	if (!rc && !from_model)
		rc = checkpoint_load_moments(p);
	if (!rc)
		visit_rows(p);
	return rc ? rc : world_barrier(p->world);
}

static int rank_work(struct world *world)
{
	struct job *job = malloc(sizeof(*job));
	struct model *model = NULL;
	struct pipeline *p;
	int rc = job ? job_from_json(world->job, job) : -ENOMEM;

	if (!rc) {
		struct grid grid = job_grid(job);

		job->config.slices = grid.slices;
		job->config.slice = grid_place(&grid, world->rank).slice;
		rc = model_create(&job->config, &model);
	}
	if (!rc)
		rc = pipeline_create(world, job, model, &p);
	if (!rc) {
		rc = use_pipeline(p);
		pipeline_destroy(p);
	}
	model_destroy(model);
	if (job)
		job_fini(job);
	free(job);
	return rc;
}

static void describe(struct job *job, const struct setting *setting,
		     const char *run)
{
	double costs[BLOCKS + 2] = {1, 1, 1, 1, 1};

	*job = (struct job){.kind = JOB_TRAIN,
			    .ranks = setting->positions,
			    .replicas = setting->replicas,
			    .slices = setting->slices,
			    .chunks = setting->chunks,
			    .shard_optimizer = setting->shared,
			    .reach = setting->reach,
			    .micro_batches = 12,
			    .micro_batch_size = 1,
			    .context = 8,
			    .gradient_groups = setting->replicas,
			    .steps = STEP + 1,
			    .keep_checkpoints = 1};
	assert_int_equal(model_config_default("gpt2", &job->config), 0);
	job->config.vocab_size = VOCAB;
	job->config.context = 8;
	job->config.width = 192; /* many of the optimizer's blocks */
	job->config.layers = BLOCKS;
	job->config.heads = 3;
	job->config.bos_id = job->config.eos_id = -1;
	snprintf(job->schedule, sizeof(job->schedule), "%s",
		 setting->chunks > 1 ? "interleaved" : "1f1b");
	job->optimizer = (struct optimizer_config){.kind = OPTIMIZER_ADAMW,
						   .beta1 = 0.9,
						   .beta2 = 0.95,
						   .epsilon = 1e-8};
	job->learning_rate =
		(struct learning_rate){.peak = 1e-3, .decay_steps = 9};
	snprintf(job->out, sizeof(job->out), "%s/%s", folder, run);
	assert_int_equal(partition_balance(costs, BLOCKS + 2,
					   setting->positions * setting->chunks,
					   &job->partition),
			 0);
}

static void ignore_line(void *argument, enum log_level level, const char *line)
{
	(void)argument;
	(void)level;
	(void)line;
}

/* The types of a run, and what it is. */
struct kind {
	enum element_type type, save_type;
	enum job_kind kind;
};

static const struct kind in_float = {ELEMENT_F32, ELEMENT_F32, JOB_TRAIN};

static void launch(const struct setting *setting, const struct kind *kind,
		   const char *run, const char *source)
{
	struct job *job = malloc(sizeof(*job));
	struct launch_result result;
	struct launch launch = {.ranks = setting->replicas *
					 setting->positions * setting->slices,
				.threads_per_rank = 1,
				.transport = "inproc",
				.rank_main = rank_work,
				.keep_signals = true,
				.quiet = true};
	json_t *json;
	int rc;

	assert_non_null(job);
	describe(job, setting, run);
	job->config.type = kind->type;
	job->save_type = kind->save_type;
	job->kind = kind->kind;
	if (source)
		snprintf(from_model ? job->model : job->resume,
			 FILES_PATH_BYTES, "%s", source);
	json = job_to_json(job);
	assert_non_null(json);
	assert_int_equal(files_make_folder(job->out), 0);
	launch.job = json;
	writing = !source;
	atomic_store(&looked, 0);
	atomic_store(&wrong, 0);
	log_set_sink(ignore_line, NULL);
	rc = launch_run(&launch, &result);
	log_set_sink(NULL, NULL);
	if (rc)
		fail_msg("%u x %u x %u: %s", setting->replicas,
			 setting->positions, setting->slices, result.reason);
	launch_result_fini(&result);
	json_decref(json);
	free(job);
}

/* ---- the cases ---- */

static void digest_of(const char *run, const char *file,
		      char hex[DIGEST_HEX_BYTES])
{
	char path[FILES_PATH_BYTES];

	snprintf(path, sizeof(path), "%s/%s/checkpoints/step-%08d/%s", folder,
		 run, STEP, file);
	assert_int_equal(digest_file(path, hex), 0);
}

static void writes_the_same(void **state)
{
	static const char *const files[] = {"model.safetensors",
					    "optimizer.safetensors"};

	(void)state;
	launch(&settings[0], &in_float, "first", NULL);
	for (size_t i = 1; i < ARRAY_SIZE(settings); i++) {
		const struct setting *s = &settings[i];
		char wanted[DIGEST_HEX_BYTES], got[DIGEST_HEX_BYTES];

		launch(s, &in_float, "run", NULL);
		for (size_t f = 0; f < ARRAY_SIZE(files); f++) {
			digest_of("first", files[f], wanted);
			digest_of("run", files[f], got);
			if (strcmp(wanted, got) != 0)
				fail_msg("%u x %u x %u%s: another %s",
					 s->replicas, s->positions, s->slices,
					 s->shared ? ", shared" : "", files[f]);
		}
	}
}

static void assert_right(const struct setting *s)
{
	assert_true(atomic_load(&looked) > (from_model ? 1 : 3) * VOCAB * 192);
	if (atomic_load(&wrong))
		fail_msg("%u x %u x %u%s: %zu of %zu elements are wrong",
			 s->replicas, s->positions, s->slices,
			 s->shared ? ", shared" : "", atomic_load(&wrong),
			 atomic_load(&looked));
}

static void reads_the_same(void **state)
{
	char from[FILES_PATH_BYTES];

	(void)state;
	snprintf(from, sizeof(from), "%s/first/checkpoints/step-%08d", folder,
		 STEP);
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++) {
		const struct setting *s = &settings[i];

		launch(s, &in_float, "run", from);
		assert_right(s);
	}
}

/*
 * Rounded files: the same for any grid, and the masters' as the model's of a
 * run in float. Who goes on has what was written, to the bit.
 */
static void masters_are_kept(void **state)
{
	static const unsigned tried[] = {0, 1, 3, 7, 8};
	static const struct kind both = {ELEMENT_BF16, ELEMENT_BF16, JOB_TRAIN};
	char from[FILES_PATH_BYTES], wanted[DIGEST_HEX_BYTES];
	char got[DIGEST_HEX_BYTES], rounded[DIGEST_HEX_BYTES];

	(void)state;
	snprintf(from, sizeof(from), "%s/rounded/checkpoints/step-%08d", folder,
		 STEP);
	for (size_t i = 0; i < ARRAY_SIZE(tried); i++) {
		const struct setting *s = &settings[tried[i]];

		launch(s, &both, "rounded", NULL);
		digest_of("first", "model.safetensors", wanted);
		digest_of("rounded", "masters.safetensors", got);
		assert_string_equal(got, wanted);
		digest_of("first", "optimizer.safetensors", wanted);
		digest_of("rounded", "optimizer.safetensors", got);
		assert_string_equal(got, wanted);
		digest_of("rounded", "model.safetensors", got);
		if (i)
			assert_string_equal(got, rounded);
		memcpy(rounded, got, sizeof(rounded));
		launch(s, &both, "run", from);
		assert_right(s);
	}
}

/* The model's file alone: rounded values, with masters or without. */
static void models_are_rounded(void **state)
{
	static const struct kind kinds[] = {
		{ELEMENT_F32, ELEMENT_F32, JOB_TRAIN},
		{ELEMENT_BF16, ELEMENT_F32, JOB_TRAIN},
		{ELEMENT_BF16, ELEMENT_F32, JOB_EVAL},
	};
	char from[FILES_PATH_BYTES];

	(void)state;
	snprintf(from, sizeof(from), "%s/rounded/checkpoints/step-%08d", folder,
		 STEP);
	from_model = true;
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++) {
		const struct setting *s = &settings[i];

		if (kinds[i % 3].kind == JOB_EVAL && s->replicas > 1)
			continue;
		launch(s, &kinds[i % 3], "run", from);
		assert_right(s);
	}
	from_model = false;
}

static int set_up(void **state)
{
	(void)state;
	if (mkdtemp(folder))
		return 0;
	snprintf(folder, sizeof(folder), "/tmp/grid-XXXXXX");
	return mkdtemp(folder) ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	return files_remove_tree(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(writes_the_same),
		cmocka_unit_test(reads_the_same),
		cmocka_unit_test(masters_are_kept),
		cmocka_unit_test(models_are_rounded),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
