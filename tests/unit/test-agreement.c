/*
 * Ranks that are to hold the same weights, and do not: who is named, and which
 * tensor. One float of one rank is planted each time.
 */
#include "base/log.h"
#include "base/text.h"
#include "engine/agreement.h"
#include "engine/checkpoint.h"
#include "engine/job.h"
#include "engine/launch.h"
#include "engine/pipeline.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cmocka-tap.h"

#define BLOCKS 4

static struct planted {
	unsigned ranks;  /* bit r: rank r has another value */
	const char *row; /* there, which it must hold */
	int moment;      /* -1: the weight */
	bool resumed;    /* as far as words go */
} planted;
static bool of_libraries; /* compared; the planted ranks have another */

static int plant(struct pipeline *p)
{
	if (!(planted.ranks >> p->world->rank & 1))
		return 0;
	for (unsigned i = 0; i < p->store->count; i++) {
		const struct store_row *row = &p->store->rows[i];
		float *data = planted.moment < 0 ? row->weights
						 : row->moments[planted.moment];

		if (strcmp(row->parameter->name, planted.row) != 0)
			continue;
		data[row->parameter->count - 1] += 0.5f;
		return 0;
	}
	return fail(-EDOM, "rank %u holds no %s", p->world->rank, planted.row);
}

static int check(struct world *world, struct job *job, struct model *model)
{
	struct pipeline *p;
	int rc = pipeline_create(world, job, model, &p);

	if (rc)
		return rc;
	checkpoint_initialise(p);
	rc = plant(p);
	if (planted.resumed)
		snprintf(job->resume, sizeof(job->resume), "/a/checkpoint");
	if (!rc)
		rc = agreement_check(p);
	/* Nobody leaves before all are through. */
	if (!rc)
		rc = world_barrier(world);
	pipeline_destroy(p);
	return rc;
}

static int rank_work(struct world *world)
{
	struct job *job = malloc(sizeof(*job));
	struct model *model = NULL;
	int rc = job ? job_from_json(world->job, job) : -ENOMEM;

	if (!rc) {
		struct grid grid = job_grid(job);

		job->config.slices = grid.slices;
		job->config.slice = grid_place(&grid, world->rank).slice;
		rc = model_create(&job->config, &model);
	}
	if (!rc && of_libraries)
		rc = agreement_check_library(
			world, planted.ranks >> world->rank & 1 ? "widened"
								: "oneDNN");
	else if (!rc)
		rc = check(world, job, model);
	model_destroy(model);
	if (job)
		job_fini(job);
	free(job);
	return rc;
}

static void describe(struct job *job, unsigned replicas, unsigned positions,
		     unsigned slices)
{
	double costs[BLOCKS + 2] = {1, 1, 1, 1, 1, 1};

	*job = (struct job){.kind = JOB_TRAIN,
			    .ranks = positions,
			    .replicas = replicas,
			    .slices = slices,
			    .chunks = 1,
			    .micro_batches = 6,
			    .micro_batch_size = 1,
			    .context = 8,
			    .gradient_groups = replicas,
			    .seed = 3,
			    .steps = 1};
	assert_int_equal(model_config_default("gpt2", &job->config), 0);
	job->config.vocab_size = 64;
	job->config.context = 8;
	job->config.width = 32;
	job->config.layers = BLOCKS;
	job->config.heads = 4;
	job->config.bos_id = job->config.eos_id = -1;
	snprintf(job->schedule, sizeof(job->schedule), "1f1b");
	job->optimizer = (struct optimizer_config){.kind = OPTIMIZER_ADAMW,
						   .beta1 = 0.9,
						   .beta2 = 0.95,
						   .epsilon = 1e-8};
	job->learning_rate =
		(struct learning_rate){.peak = 1e-3, .decay_steps = 1};
	assert_int_equal(partition_balance(costs, BLOCKS + 2, positions,
					   &job->partition),
			 0);
}

static void ignore_line(void *argument, enum log_level level, const char *line)
{
	(void)argument;
	(void)level;
	(void)line;
}

static int launch(unsigned replicas, unsigned positions, unsigned slices,
		  struct launch_result *result)
{
	struct job *job = malloc(sizeof(*job));
	struct launch launch = {.ranks = replicas * positions * slices,
				.threads_per_rank = 1,
				.transport = "inproc",
				.rank_main = rank_work,
				.keep_signals = true,
				.quiet = true};
	json_t *json;
	int rc;

	assert_non_null(job);
	describe(job, replicas, positions, slices);
	json = job_to_json(job);
	assert_non_null(json);
	launch.job = json;
	log_set_sink(ignore_line, NULL);
	rc = launch_run(&launch, result);
	log_set_sink(NULL, NULL);
	json_decref(json);
	job_fini(job);
	free(job);
	return rc;
}

/* `words`: what the message must have, up to a NULL; none: all is well. */
static void expect(unsigned replicas, unsigned positions, unsigned slices,
		   const struct planted *what, const char *const *words)
{
	struct launch_result result;
	int rc;

	planted = *what;
	rc = launch(replicas, positions, slices, &result);
	if (rc != (words[0] ? -EINVAL : 0))
		fail_msg("%u x %u x %u: %d (%s)", replicas, positions, slices,
			 rc, result.reason);
	for (; *words; words++)
		if (!strstr(result.reason, *words))
			fail_msg("%u x %u x %u: '%s' does not say '%s'",
				 replicas, positions, slices, result.reason,
				 *words);
	launch_result_fini(&result);
}

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})
#define NOTHING    ((const char *const[]){NULL})

static void the_same(void **state)
{
	static const struct planted none = {.moment = -1};

	(void)state;
	expect(1, 1, 1, &none, NOTHING);
	expect(1, 2, 1, &none, NOTHING);
	expect(2, 2, 1, &none, NOTHING);
	expect(3, 1, 1, &none, NOTHING);
	expect(2, 2, 2, &none, NOTHING);
}

/* Nobody else has what one rank has changed: it is not for us to see. */
static void held_once(void **state)
{
	static const struct planted norm = {2, "transformer.h.3.ln_1.weight",
					    -1, false};

	(void)state;
	expect(1, 2, 1, &norm, NOTHING);
}

static void replicas(void **state)
{
	static const struct planted norm = {
		1 << 3, "transformer.h.3.ln_1.weight", -1, true};
	static const struct planted several = {
		1 << 2 | 1 << 4, "transformer.h.0.mlp.c_fc.bias", -1, true};
	static const struct planted first = {1, "transformer.wpe.weight", -1,
					     false};

	(void)state;
	expect(2, 2, 1, &norm,
	       WORDS("rank 3 (replica 1", "than rank 1 (replica 0",
		     "other weights", "first in transformer.h.3.ln_1.weight"));
	expect(3, 2, 1, &several,
	       WORDS("rank 2 (replica 1", "than rank 0 (replica 0",
		     "first in transformer.h.0.mlp.c_fc.bias",
		     "so do ranks 4"));
	expect(2, 1, 1, &first,
	       WORDS("rank 1 (replica 1", "other initial weights",
		     "first in transformer.wpe.weight"));
}

static void moments(void **state)
{
	static const struct planted second = {
		1 << 1, "transformer.h.2.ln_2.bias", 1, true};

	(void)state;
	expect(2, 1, 1, &second,
	       WORDS("rank 1 (replica 1", "other optimizer state",
		     "first in exp_avg_sq.transformer.h.2.ln_2.bias"));
}

static void slices(void **state)
{
	static const struct planted norm = {
		1 << 3, "transformer.h.3.ln_1.weight", -1, true};

	(void)state;
	expect(1, 2, 2, &norm,
	       WORDS("rank 3 (slice 1", "than rank 2 (slice 0",
		     "first in transformer.h.3.ln_1.weight"));
}

/* The embedding's copy at the head, without any replicas. */
static void ends_of_a_tie(void **state)
{
	static const struct planted head = {1 << 1, "lm_head.weight", -1, true};
	static const struct planted embedding = {1, "transformer.wte.weight",
						 -1, true};
	static const struct planted *const both[] = {&head, &embedding};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(both); i++)
		expect(1, 2, 1, both[i],
		       WORDS("rank 1 (position 1", "than rank 0 (position 0",
			     "first in transformer.wte.weight"));
}

static void libraries(void **state)
{
	static const struct planted none = {.ranks = 0};
	static const struct planted two = {.ranks = 1 << 2 | 1 << 3};
	static const struct planted root = {.ranks = 1};

	(void)state;
	of_libraries = true;
	expect(1, 1, 1, &none, NOTHING);
	expect(2, 2, 1, &none, NOTHING);
	expect(2, 2, 1, &two,
	       WORDS("rank 2 on", "bfloat16 by widened", "rank 0 on",
		     "by oneDNN", "--dtype fp32"));
	expect(1, 2, 1, &root, WORDS("rank 1 on", "bfloat16 by oneDNN"));
	of_libraries = false;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_same),  cmocka_unit_test(held_once),
		cmocka_unit_test(replicas),  cmocka_unit_test(moments),
		cmocka_unit_test(slices),    cmocka_unit_test(ends_of_a_tie),
		cmocka_unit_test(libraries),
	};

	return RUN_TESTS("agreement", tests);
}
