/*
 * The plan against what is really allocated, on every rank of pipelines of
 * many shapes; its bytes of other splits against the plans of those; and the
 * times against closed forms.
 */
#include "base/files.h"
#include "base/log.h"
#include "engine/ferry.h"
#include "engine/launch.h"
#include "engine/pipeline.h"
#include "engine/plan.h"
#include "model/kernels/optimizer.h"
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define BLOCKS  7u
#define LAYERS  (BLOCKS + 2)
#define VOCAB   61u
#define CONTEXT 24u

static void ignore_line(void *argument, enum log_level level, const char *line)
{
	(void)argument;
	(void)level;
	(void)line;
}

struct variant {
	const char *schedule;
	unsigned ranks, chunks;
	bool recompute;
	unsigned groups;
	enum optimizer_kind optimizer;
	bool tied;
	unsigned replicas;
	bool sharded;
	unsigned slices;
};

static const struct variant variants[] = {
	{"1f1b", 1, 1, false, 1, OPTIMIZER_ADAMW, true, 1, false, 1},
	{"1f1b", 2, 1, false, 1, OPTIMIZER_ADAMW, true, 1, false, 1},
	{"1f1b", 3, 1, true, 2, OPTIMIZER_ADAMW, true, 1, false, 1},
	{"gpipe", 4, 1, false, 1, OPTIMIZER_SGD, true, 1, false, 1},
	{"gpipe", 2, 1, true, 4, OPTIMIZER_ADAMW, false, 1, false, 1},
	{"interleaved", 2, 2, false, 1, OPTIMIZER_ADAMW, true, 1, false, 1},
	{"interleaved", 2, 3, true, 1, OPTIMIZER_ADAMW, true, 1, false, 1},
	{"zb-v", 2, 2, false, 1, OPTIMIZER_ADAMW, true, 1, false, 1},
	{"zb-v", 2, 2, true, 2, OPTIMIZER_SGD, true, 1, false, 1},
	{"dualpipe-v", 3, 2, true, 1, OPTIMIZER_ADAMW, false, 1, false, 1},
	{"1f1b", 2, 1, false, 2, OPTIMIZER_ADAMW, true, 2, false, 1},
	{"1f1b", 2, 1, false, 4, OPTIMIZER_ADAMW, true, 2, true, 1},
	{"gpipe", 1, 1, false, 4, OPTIMIZER_ADAMW, true, 4, true, 1},
	{"zb-v", 2, 2, false, 2, OPTIMIZER_SGD, true, 2, true, 1},
	{"1f1b", 2, 1, true, 2, OPTIMIZER_ADAMW, true, 2, true, 2},
};

static void describe_in(enum element_type type, struct job *job,
			const struct variant *v, struct model **model)
{
	double costs[LAYERS];

	*job = (struct job){.kind = JOB_TRAIN};
	assert_int_equal(model_config_default("gpt2", &job->config), 0);
	job->config.vocab_size = VOCAB;
	job->config.context = CONTEXT;
	job->config.width = 32;
	job->config.layers = BLOCKS;
	job->config.heads = 2;
	job->config.tied = v->tied;
	job->config.type = type;
	job->config.bos_id = job->config.eos_id = -1;
	snprintf(job->schedule, sizeof(job->schedule), "%s", v->schedule);
	job->ranks = v->ranks;
	job->replicas = v->replicas;
	job->slices = v->slices;
	job->shard_optimizer = v->sharded;
	job->chunks = v->chunks;
	job->micro_batches = 8;
	job->micro_batch_size = 2;
	job->context = CONTEXT;
	job->gradient_groups = v->groups;
	job->recompute = v->recompute;
	job->seed = 5;
	job->steps = 1;
	job->end_token = -1;
	job->optimizer = (struct optimizer_config){.kind = v->optimizer,
						   .beta1 = 0.9,
						   .beta2 = 0.95,
						   .epsilon = 1e-8};
	for (unsigned i = 0; i < LAYERS; i++)
		costs[i] = i && i <= BLOCKS ? 1 : 0.3;
	assert_int_equal(partition_balance(costs, LAYERS, v->ranks * v->chunks,
					   &job->partition),
			 0);
	assert_int_equal(model_create(&job->config, model), 0);
}

static void describe(struct job *job, const struct variant *v,
		     struct model **model)
{
	describe_in(ELEMENT_F32, job, v, model);
}

/* ---- what is allocated ---- */

static const struct plan *expected; /* of the job the ranks build */

static int check_pipeline(const struct pipeline *p,
			  const struct plan_rank *rank)
{
	size_t private_bytes = 0, scratch = 0;

	for (unsigned s = 0; s < p->partition->stages; s++)
		if (p->stages[s])
			private_bytes +=
				stage_get_sizes(p->stages[s])->private_bytes;
	for (unsigned i = 0; i < p->store->count; i++)
		scratch += square_sum_scratch_bytes(
			p->store->rows[i].parameter->count);
	/* Of slices the first has most; a replica's part of the state is that
	 * of the first one, more or less. */
	if ((p->place.slice == 0 &&
	     (p->store->weight_arena.size_bytes +
			      p->store->rounded_arena.size_bytes !=
		      rank->weights ||
	      p->store->gradient_arena.size_bytes != rank->gradients)) ||
	    (p->place.slice == 0 && p->place.replica == 0 &&
	     p->store->moment_arena.size_bytes != rank->optimizer) ||
	    private_bytes + arena_piece_bytes(scratch) !=
		    rank->activations + rank->scratch)
		return -EDOM;
	return 0;
}

static int build_and_check(struct world *world)
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
		rc = check_pipeline(p, &expected->rank[p->place.position]);
		pipeline_destroy(p);
	}
	model_destroy(model);
	free(job);
	return rc;
}

static void launch_and_check(const struct job *job, unsigned threads)
{
	json_t *json = job_to_json(job);
	struct launch launch = {
		.ranks = job_ranks(job),
		.threads_per_rank = threads,
		.transport = "inproc",
		.io = "auto",
		.job = json,
		.quiet = true,
		.rank_main = build_and_check,
		.numerics = "{}",
	};
	struct launch_result result;

	assert_int_equal(launch_run(&launch, &result), 0);
	launch_result_fini(&result);
	json_decref(json);
}

static void ranks_hold_what_is_planned(void **state)
{
	(void)state;
	for (size_t i = 0; i < 2 * ARRAY_SIZE(variants); i++) {
		struct job *job = malloc(sizeof(*job));
		enum element_type type = i % 2 ? ELEMENT_BF16 : ELEMENT_F32;
		unsigned threads = 1 + (i + i / 2) % 2;
		struct model *model;
		struct plan *plan;
		uint64_t parameters = 0;
		unsigned layers = 0;

		assert_non_null(job);
		describe_in(type, job, &variants[i / 2], &model);
		assert_int_equal(plan_create(job, model, threads, &plan), 0);
		expected = plan;
		launch_and_check(job, threads);
		for (unsigned r = 0; r < plan->ranks; r++) {
			const struct plan_rank *rank = &plan->rank[r];

			parameters += rank->parameters;
			layers += rank->layers;
			assert_int_equal(rank->total,
					 rank->weights + rank->gradients +
						 rank->optimizer +
						 rank->activations +
						 rank->messages +
						 rank->scratch + rank->other);
			assert_true(rank->total <=
				    plan->rank[plan->largest_rank].total);
		}
		assert_int_equal(layers, LAYERS);
		/* A tied parameter on two ranks is on both; a slice has
		 * less than all. */
		assert_true(job->slices > 1 ||
			    parameters == model_parameter_total(model) ||
			    parameters ==
				    model_parameter_total(model) + VOCAB * 32);
		plan_destroy(plan);
		model_destroy(model);
		free(job);
	}
}

/* ---- other splits ---- */

/* All splits whose stages hold one or two layers, one or all the others. */
static bool next_split(struct partition *p)
{
	for (unsigned s = p->stages - 1; s >= 1; s--) {
		unsigned room = LAYERS - (p->stages - 1 - s);

		if (p->first[s] + 1 >= room)
			continue;
		p->first[s]++;
		for (unsigned t = s + 1; t < p->stages; t++)
			p->first[t] = p->first[t - 1] + 1;
		return true;
	}
	return false;
}

static void check_split(struct plan *known, const struct job *job,
			const struct model *model)
{
	const double *fixed = plan_fixed_bytes(known);
	double slack = 4096;
	struct plan *plan;

	assert_non_null(fixed);
	assert_int_equal(plan_create(job, model, known->threads, &plan), 0);
	if (job->config.type == ELEMENT_BF16)
		slack += (plan->stages / plan->ranks - 1) * 0x1p21;
	for (unsigned r = 0; r < plan->ranks; r++) {
		double bytes = fixed[r], really = (double)plan->rank[r].total;

		for (unsigned s = 0; s < plan->stages; s++)
			if (plan->stage[s].rank == r)
				bytes += plan_stage_bytes(
					known, s, plan->stage[s].first_layer,
					plan->stage[s].end_layer);
		/*
		 * Never less, and more by the vote's sums alone, and the work
		 * memory for products of bfloat16 that stages share; between
		 * replicas by what the cuts of buckets may waste, too.
		 */
		assert_true(bytes >= really);
		assert_true(job->replicas > 1 || bytes <= really + slack);
	}
	plan_destroy(plan);
}

static void bytes_of_other_splits(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(variants); i++) {
		struct job *job = malloc(sizeof(*job));
		struct model *model;
		struct plan *known;
		unsigned splits = 0;

		assert_non_null(job);
		describe_in(i % 2 ? ELEMENT_BF16 : ELEMENT_F32, job,
			    &variants[i], &model);
		assert_int_equal(plan_create(job, model, 1, &known), 0);
		for (unsigned s = 0; s < job->partition.stages; s++)
			job->partition.first[s] = s;
		do {
			check_split(known, job, model);
			splits++;
		} while (job->partition.stages > 1 &&
			 next_split(&job->partition));
		assert_true(splits > 20 || job->partition.stages < 3);
		plan_destroy(known);
		model_destroy(model);
		free(job);
	}
}

/* A split found under a cap keeps it, and one byte less would not. */
static void caps_are_kept(void **state)
{
	static const double costs[LAYERS] = {0.1, 1, 1, 1, 1, 1, 1, 1, 3};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(variants); i++) {
		struct job *job = malloc(sizeof(*job));
		struct partition_problem problem = {.layers = LAYERS,
						    .costs = costs};
		struct partition_result result;
		struct model *model;
		struct plan *plan;

		assert_non_null(job);
		describe_in(i % 2 ? ELEMENT_BF16 : ELEMENT_F32, job,
			    &variants[i], &model);
		assert_int_equal(plan_create(job, model, 1, &plan), 0);
		problem.stages = plan->stages;
		problem.ranks = plan->ranks;
		problem.rank_of_stage = plan_rank_of_stage(plan);
		problem.bytes = plan_stage_bytes;
		problem.argument = plan;
		problem.fixed_bytes = plan_fixed_bytes(plan);
		assert_int_equal(
			partition_find(&problem, &job->partition, &result),
			-ENOSPC);
		problem.cap = result.least_cap;
		assert_int_equal(
			partition_find(&problem, &job->partition, &result), 0);
		plan_destroy(plan);
		assert_int_equal(plan_create(job, model, 1, &plan), 0);
		assert_true((double)plan->rank[plan->largest_rank].total <=
			    problem.cap);
		plan_destroy(plan);
		model_destroy(model);
		free(job);
	}
}

/* Where the root reads and writes for all, each rank has pieces in memory. */
static void pieces_are_counted(void **state)
{
	struct job *job = malloc(sizeof(*job));
	struct plan *without, *with;
	struct model *model;

	(void)state;
	assert_non_null(job);
	describe(job, &variants[2], &model);
	assert_int_equal(plan_create(job, model, 1, &without), 0);
	job->reach = REACH_ROOT;
	assert_int_equal(plan_create(job, model, 1, &with), 0);
	for (unsigned r = 0; r < with->ranks; r++) {
		assert_int_equal(with->rank[r].messages,
				 without->rank[r].messages + FERRY_BYTES);
		assert_int_equal(with->rank[r].total,
				 without->rank[r].total + FERRY_BYTES);
	}
	plan_destroy(without);
	plan_destroy(with);
	model_destroy(model);
	free(job);
}

/* ---- times ---- */

static void costs_of_blocks(struct costs *costs, struct costs_row *rows)
{
	*costs = (struct costs){.kind = COSTS_LAYERS,
				.seconds = true,
				.count = LAYERS,
				.rows = rows};
	for (unsigned i = 0; i < LAYERS; i++)
		rows[i] = (struct costs_row){
			.forward = 1, .input = 1.5, .weight = 0.5};
}

/* Nine equal layers, three a rank: 1F1B's closed form, F = 3, B = 6. */
static void a_step_by_hand(void **state)
{
	const struct variant v = {"1f1b",          3,    1, false, 1,
				  OPTIMIZER_ADAMW, true, 1, false, 1};
	struct job *job = malloc(sizeof(*job));
	struct costs_row rows[LAYERS];
	struct costs costs;
	struct model *model;
	struct plan *plan;

	(void)state;
	assert_non_null(job);
	describe(job, &v, &model);
	job->partition = (struct partition){3, {0, 3, 6, 9}};
	costs_of_blocks(&costs, rows);
	assert_int_equal(plan_create(job, model, 1, &plan), 0);
	assert_int_equal(plan_predict(plan, &costs, NULL, 3), 0);
	assert_true(fabs(plan->step - (8 + 2) * 9) < 1e-9);
	assert_true(fabs(plan->bubble - 0.2) < 1e-9);
	assert_true(fabs(plan->tokens_per_second - 8 * 2 * CONTEXT / 90.0) <
		    1e-9);
	assert_true(plan->seconds && !plan->cores_shared);
	assert_true(fabs(plan->rank[1].busy - 72) < 1e-9);
	assert_true(fabs(plan->rank[1].idle - 18) < 1e-9);
	assert_true(fabs(plan->stage[1].forward - 3) < 1e-9);
	assert_int_equal(plan->stage[0].in_flight, 3);
	assert_int_equal(plan->stage[2].in_flight, 1);
	/* The end of the step: the tie, the vote, the optimizer, in turn. */
	costs.reduce_tied = 4;
	costs.vote = 2;
	costs.step = 7;
	assert_int_equal(plan_predict(plan, &costs, NULL, 3), 0);
	assert_true(fabs(plan->step - (90 + 4 + 2 + 7)) < 1e-9);
	/* One core's worth for three ranks. */
	assert_int_equal(plan_predict(plan, &costs, NULL, 1), 0);
	assert_true(plan->cores_shared);
	assert_true(plan->step >= 3 * 72);
	/* A slow stage is found. */
	costs_of_blocks(&costs, rows);
	rows[4].weight = 50;
	assert_int_equal(plan_predict(plan, &costs, NULL, 3), 0);
	assert_int_equal(plan->slowest_stage, 1);
	assert_int_equal(plan->slowest_rank, 1);
	plan_destroy(plan);
	model_destroy(model);
	free(job);
}

/* Bytes of the gradients of one layer. */
static double gradients_of(const struct model *model, unsigned layer)
{
	unsigned count;
	const struct parameter *all = model_parameters(model, &count);
	double bytes = 0;

	for (unsigned i = 0; i < count; i++)
		if (all[i].layer == layer)
			bytes += (double)all[i].count * sizeof(float);
	return bytes;
}

/*
 * The same, two replicas of it, untied: stage s has its last B 6 s before the
 * end, layer by layer, 2 each. Each layer's sum follows when it is complete and
 * the network is free; the step waits for the last.
 */
static void sums_by_hand(void **state)
{
	const struct variant v = {"1f1b",          3,     1, false, 2,
				  OPTIMIZER_ADAMW, false, 2, false, 1};
	struct job *job = malloc(sizeof(*job));
	struct costs_row rows[LAYERS];
	struct costs costs;
	struct model *model;

	(void)state;
	assert_non_null(job);
	describe(job, &v, &model);
	job->partition = (struct partition){3, {0, 3, 6, 9}};
	costs_of_blocks(&costs, rows);
	for (double rate = 1e3; rate < 1e7; rate *= 3) {
		double end = (4 + 2) * 9, done = 0;
		struct plan_parts parts;
		struct plan *plan;

		costs.replica_bandwidth = rate;
		for (unsigned s = 0; s < 3; s++) {
			double network = 0;

			for (unsigned i = 0; i < 3; i++) {
				double ready = end - 6 * s - 4 + 2 * i;
				double bytes =
					gradients_of(model, 3 * s + 2 - i);

				/* Half of it to the other, and half back. */
				network = fmax(network, ready) + bytes / rate;
			}
			done = fmax(done, network);
		}
		assert_int_equal(plan_create(job, model, 1, &plan), 0);
		assert_int_equal(plan_predict(plan, &costs, NULL, 6), 0);
		assert_true(fabs(plan->step - fmax(end, done)) < 1e-9 * done);
		assert_int_equal(plan_explain(plan, &costs, NULL, &parts), 0);
		assert_true(fabs(parts.replicas - fmax(0, done - end)) <
			    1e-9 * done);
		assert_true(fabs(parts.compute - 36) < 1e-9);
		assert_true(fabs(parts.bubble - 18) < 1e-9);
		plan_destroy(plan);
	}
	model_destroy(model);
	free(job);
}

/* What is sent in brief, by the simulator, is what the lists of messages say. */
static void brief_plans_are_close(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(variants); i++) {
		struct job *job = malloc(sizeof(*job));
		struct costs_row rows[LAYERS];
		struct plan *brief, *full;
		struct model *model;
		struct costs costs;

		assert_non_null(job);
		describe(job, &variants[i], &model);
		costs_of_blocks(&costs, rows);
		costs.message_bytes = 2.0 * CONTEXT * 32 * sizeof(float);
		costs.tied_bytes = job->config.tied ? VOCAB * 32 * 4.0 : 0;
		assert_int_equal(plan_create(job, model, 1, &full), 0);
		assert_int_equal(plan_create_brief(job, model, 1, &brief), 0);
		assert_int_equal(plan_predict(full, &costs, NULL, 0), 0);
		assert_int_equal(plan_predict(brief, &costs, NULL, 0), 0);
		assert_true(brief->step == full->step);
		for (unsigned r = 0; r < full->ranks; r++) {
			const struct plan_rank *a = &brief->rank[r];
			const struct plan_rank *b = &full->rank[r];

			assert_int_equal(a->weights, b->weights);
			assert_int_equal(a->activations, b->activations);
			assert_true(a->total <= b->total + a->unsure + 65536);
			assert_true(b->total <= a->total + 65536);
			/* Squares and the rounding of chunks apart. */
			assert_true(fabs((double)a->sent.replicas -
					 (double)b->sent.replicas) <=
				    0.02 * (double)b->sent.replicas + 1024);
			assert_true(fabs((double)a->sent.slices -
					 (double)b->sent.slices) <=
				    0.02 * (double)b->sent.slices);
		}
		plan_destroy(brief);
		plan_destroy(full);
		model_destroy(model);
		free(job);
	}
}

/* What costs leave open follows from the rates; what they say stays. */
static void rates_complete_the_step(void **state)
{
	const struct variant v = {"1f1b",          1,    1, false, 1,
				  OPTIMIZER_ADAMW, true, 1, false, 1};
	struct calibration_rates rates = {
		.update = 1e-3, .square = 2e-3, .add = 4e-3};
	struct job *job = malloc(sizeof(*job));
	struct costs_row rows[LAYERS];
	struct costs costs;
	struct model *model;
	struct plan *plan;
	double weights;

	(void)state;
	assert_non_null(job);
	describe(job, &v, &model);
	weights = (double)model_parameter_total(model);
	costs_of_blocks(&costs, rows);
	costs.tied_bytes = VOCAB * 32 * sizeof(float);
	assert_int_equal(plan_create(job, model, 1, &plan), 0);
	assert_int_equal(plan_predict(plan, &costs, &rates, 1), 0);
	/* Without a neighbour the tied gradient is added and cleared. */
	assert_true(fabs(plan->step - (8 * 27 + weights * 3e-3 +
				       2 * VOCAB * 32 * 4e-3)) < 1e-6);
	costs.step = 5;
	costs.vote = 3;
	costs.reduce_tied = 2;
	assert_int_equal(plan_predict(plan, &costs, &rates, 1), 0);
	assert_true(fabs(plan->step - (8 * 27 + 10)) < 1e-9);
	/* Plain numbers stand for themselves. */
	costs.seconds = false;
	costs.step = costs.vote = costs.reduce_tied = 0;
	assert_int_equal(plan_predict(plan, &costs, &rates, 1), 0);
	assert_true(fabs(plan->step - 8 * 27) < 1e-9);
	assert_true(plan->tokens_per_second == 0);
	/* Costs that do not fit are refused. */
	costs.count--;
	assert_int_equal(plan_predict(plan, &costs, &rates, 1), -EINVAL);
	plan_destroy(plan);
	model_destroy(model);
	free(job);
}

static void what_no_rank_accepts_is_refused(void **state)
{
	struct job *job = malloc(sizeof(*job));
	struct model *model;
	struct plan *plan;

	(void)state;
	assert_non_null(job);
	describe(job, &variants[1], &model);
	snprintf(job->schedule, sizeof(job->schedule), "no-such-schedule");
	assert_int_equal(plan_create(job, model, 1, &plan), -EINVAL);
	snprintf(job->schedule, sizeof(job->schedule), "1f1b");
	job->partition.stages = 1; /* for two ranks */
	job->partition.first[1] = LAYERS;
	assert_int_equal(plan_create(job, model, 1, &plan), -EINVAL);
	job->partition = (struct partition){2, {0, 4, LAYERS}};
	job->context = CONTEXT + 1;
	assert_int_equal(plan_create(job, model, 1, &plan), -EINVAL);
	job->context = CONTEXT;
	job->gradient_groups = 3;
	assert_int_equal(plan_create(job, model, 1, &plan), -EINVAL);
	plan_destroy(NULL);
	model_destroy(model);
	free(job);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ranks_hold_what_is_planned),
		cmocka_unit_test(bytes_of_other_splits),
		cmocka_unit_test(caps_are_kept),
		cmocka_unit_test(pieces_are_counted),
		cmocka_unit_test(a_step_by_hand),
		cmocka_unit_test(sums_by_hand),
		cmocka_unit_test(brief_plans_are_close),
		cmocka_unit_test(rates_complete_the_step),
		cmocka_unit_test(what_no_rank_accepts_is_refused),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	log_set_sink(ignore_line, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
