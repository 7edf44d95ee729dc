/*
 * Suggestions against brute force: every plan there is of a small model, made
 * and simulated one by one.
 */
#include "base/log.h"
#include "engine/suggest.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define BLOCKS  6u
#define CONTEXT 24u
#define CHUNKS  8u
/* What a search may miss the best by: see suggest.c. */
#define MARGIN 1.1

static void ignore_line(void *argument, enum log_level level, const char *line)
{
	(void)argument;
	(void)level;
	(void)line;
}

struct setting {
	struct job *job;
	struct model *model;
	struct costs costs;
	struct calibration_rates rates;
	struct suggest_request request;
};

/* Hosts of one rank; bytes a second between them. */
static void setting_init(struct setting *s, unsigned hosts, unsigned samples,
			 double network)
{
	struct calibration calibration = {
		.micro_batch_size = 1, .context = CONTEXT, .threads = 1};
	struct model_config config;

	*s = (struct setting){.job = calloc(1, sizeof(*s->job))};
	assert_non_null(s->job);
	assert_int_equal(model_config_default("gpt2", &config), 0);
	config.vocab_size = 61;
	config.context = CONTEXT;
	config.width = 32;
	config.layers = BLOCKS;
	config.heads = 4;
	config.tied = true;
	config.bos_id = config.eos_id = -1;
	assert_int_equal(model_create(&config, &s->model), 0);
	*s->job = (struct job){
		.kind = JOB_TRAIN,
		.config = *model_config(s->model),
		.context = CONTEXT,
		.end_token = -1,
		.optimizer = {.kind = OPTIMIZER_ADAMW,
			      .beta1 = 0.9,
			      .beta2 = 0.95,
			      .epsilon = 1e-8},
	};
	assert_int_equal(calibrate_by_rate(s->model, &calibration, 1e9, 1e9,
					   &s->costs, &s->rates),
			 0);
	s->costs.bandwidth = network;
	s->costs.latency = 1e-6;
	s->request = (struct suggest_request){
		.job = s->job,
		.model = s->model,
		.hosts = hosts,
		.host_ranks = 1,
		.memory = 1e12,
		.samples = samples,
		.threads = 1,
		.costs = &s->costs,
		.rates = &s->rates,
		.slices_max = 1,
	};
}

static void setting_fini(struct setting *s)
{
	costs_fini(&s->costs);
	model_destroy(s->model);
	free(s->job);
}

/* ---- every plan there is ---- */

struct brute {
	double step;  /* the least of those that fit */
	double bytes; /* the least of all */
	unsigned plans;
};

/* Costs of micro-batches of `size`, kept or recomputed; rows are the caller's. */
static void scale_costs(const struct setting *s, unsigned size, bool recompute,
			struct costs *out)
{
	*out = s->costs;
	out->rows = calloc(s->costs.count, sizeof(*out->rows));
	assert_non_null(out->rows);
	for (unsigned i = 0; i < s->costs.count; i++) {
		struct costs_row *row = &out->rows[i];

		*row = s->costs.rows[i];
		if (recompute && model_layer(s->model, i)->recomputable)
			row->input += row->forward;
		row->forward *= size;
		row->input *= size;
		row->weight *= size;
	}
	out->message_bytes *= size;
	out->micro_batch_size = size;
}

static void plan_one(const struct setting *s, struct job *job,
		     const struct schedule *schedule, struct brute *out)
{
	double total[BLOCKS + 2];
	struct partition_problem problem = {
		.layers = BLOCKS + 2,
		.stages = schedule->stages,
		.costs = total,
		.ranks = schedule->ranks,
		.rank_of_stage = schedule->rank_of_stage,
	};
	struct partition_result result;
	struct costs costs;
	struct plan *plan;
	double bytes;

	scale_costs(s, job->micro_batch_size, job->recompute, &costs);
	for (unsigned i = 0; i < BLOCKS + 2; i++)
		total[i] = costs.rows[i].forward + costs.rows[i].input +
			   costs.rows[i].weight;
	assert_int_equal(partition_find(&problem, &job->partition, &result), 0);
	assert_int_equal(plan_create(job, s->model, 1, &plan), 0);
	assert_int_equal(plan_predict(plan, &costs, &s->rates, 0), 0);
	bytes = (double)plan->rank[plan->largest_rank].total;
	out->bytes = out->plans == 0 || bytes < out->bytes ? bytes : out->bytes;
	if (bytes <= s->request.memory &&
	    (out->step == 0 || plan->step < out->step))
		out->step = plan->step;
	out->plans++;
	plan_destroy(plan);
	free(costs.rows);
}

static void plan_schedules(const struct setting *s, struct job *job,
			   struct brute *out)
{
	for (size_t k = 0; k < schedule_kind_count(); k++)
		for (unsigned v = 1; v <= CHUNKS; v++) {
			const struct schedule_kind *kind = schedule_kind_at(k);
			struct schedule *schedule;
			char why[256];

			if (job->ranks * v > BLOCKS + 2 ||
			    strcmp(kind->name, "forward") == 0 ||
			    schedule_kind_check(kind, job->ranks,
						job_share(job), v, why,
						sizeof(why)))
				continue;
			assert_int_equal(
				schedule_generate(kind->name, job->ranks,
						  job_share(job), v, &schedule),
				0);
			job->chunks = v;
			snprintf(job->schedule, sizeof(job->schedule), "%s",
				 kind->name);
			plan_one(s, job, schedule, out);
			schedule_destroy(schedule);
		}
}

static void plan_sizes(const struct setting *s, struct job *job,
		       struct brute *out)
{
	unsigned share = s->request.samples / job->replicas;

	for (unsigned size = 1; size <= share; size *= 2) {
		if (share % size)
			continue;
		job->micro_batch_size = size;
		job->micro_batches = s->request.samples / size;
		for (unsigned way = 0; way < 4; way++) {
			job->recompute = way & 1;
			job->shard_optimizer = way & 2;
			if (!job->shard_optimizer || job->replicas > 1)
				plan_schedules(s, job, out);
		}
	}
}

static void plan_everything(const struct setting *s, struct brute *out)
{
	struct job *job = malloc(sizeof(*job));

	assert_non_null(job);
	*job = *s->job;
	job->slices = 1;
	*out = (struct brute){.plans = 0};
	for (unsigned d = 1; d <= s->request.hosts; d++)
		for (unsigned p = 1; d * p <= s->request.hosts; p++) {
			if (s->request.samples % d || p > BLOCKS + 2)
				continue;
			job->replicas = job->gradient_groups = d;
			job->ranks = p;
			plan_sizes(s, job, out);
		}
	free(job);
}

/* ---- tests ---- */

static void check_best(const struct setting *s, const struct brute *brute)
{
	struct suggestions found;

	assert_int_equal(suggest_find(&s->request, &found), 0);
	assert_true(found.count > 0 && found.complete);
	for (size_t i = 0; i + 1 < found.count; i++)
		assert_true(found.fitting[i].step <= found.fitting[i + 1].step);
	assert_true(found.planned < brute->plans);
	assert_int_equal(suggest_explain(&s->request, true, &found.fitting[0]),
			 0);
	/* Brute force knows none faster, and the search all but the fastest. */
	assert_true(found.fitting[0].step >= brute->step * (1 - 1e-9));
	assert_true(found.fitting[0].step <= brute->step * MARGIN);
	suggestions_fini(&found);
}

/* From links that are nearly free to such that sending is what takes time. */
static void as_fast_as_the_fastest(void **state)
{
	static const double networks[] = {1e12, 1e8, 1e7, 1e6};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(networks); i++) {
		struct setting s;
		struct brute brute;

		setting_init(&s, 4, 8, networks[i]);
		plan_everything(&s, &brute);
		check_best(&s, &brute);
		setting_fini(&s);
	}
}

/* Less and less memory, until nothing fits. */
static void within_the_memory(void **state)
{
	struct setting s;
	struct brute all;

	(void)state;
	setting_init(&s, 4, 8, 1e8);
	plan_everything(&s, &all);
	for (double share = 2; share > 1.001; share = 1 + (share - 1) / 2) {
		struct suggestions found;
		struct brute brute;

		s.request.memory = all.bytes * share;
		plan_everything(&s, &brute);
		assert_int_equal(suggest_find(&s.request, &found), 0);
		assert_true(found.count > 0);
		assert_true(found.fitting[0].rank_bytes <= s.request.memory);
		assert_true(found.fitting[0].step >= brute.step * (1 - 1e-9));
		assert_true(found.fitting[0].step <= brute.step * MARGIN);
		suggestions_fini(&found);
	}
	s.request.memory = all.bytes - 1;
	{
		struct suggestions found;

		assert_int_equal(suggest_find(&s.request, &found), 0);
		assert_int_equal(found.count, 0);
		assert_true(found.least.rank_bytes >= all.bytes);
		assert_true(found.least.rank_bytes <= all.bytes * 1.02);
		suggestions_fini(&found);
	}
	setting_fini(&s);
}

static void what_is_given_is_kept(void **state)
{
	struct suggestions found;
	struct setting s;

	(void)state;
	setting_init(&s, 8, 8, 1e8);
	s.request.positions = 2;
	s.request.schedule = "gpipe";
	s.request.slices = s.request.slices_max = 2;
	s.request.sharded = true;
	s.request.recompute = true;
	assert_int_equal(suggest_find(&s.request, &found), 0);
	assert_true(found.count > 0);
	for (size_t i = 0; i < found.count; i++) {
		const struct suggestion *one = &found.fitting[i];

		assert_int_equal(one->grid.positions, 2);
		assert_int_equal(one->grid.slices, 2);
		assert_true(one->grid.replicas <= 2);
		assert_string_equal(one->schedule, "gpipe");
		assert_true(one->recompute);
		assert_true(one->sharded || one->grid.replicas == 1);
	}
	suggestions_fini(&found);
	s.request.schedule = NULL;
	s.request.replicas = 3;
	assert_int_equal(suggest_find(&s.request, &found), -EINVAL);
	setting_fini(&s);
}

/* The parts of a step are all of it, and none is a gain. */
static void parts_add_up(void **state)
{
	struct suggestions found;
	struct setting s;

	(void)state;
	setting_init(&s, 8, 16, 1e7);
	s.request.slices_max = 2;
	s.request.host_ranks = 2;
	s.request.hosts = 4;
	assert_int_equal(suggest_find(&s.request, &found), 0);
	for (size_t i = 0; i < MIN(found.count, (size_t)20); i++) {
		struct suggestion *one = &found.fitting[i];
		double brief = one->step, sum;
		const struct plan_parts *p = &one->parts;

		assert_int_equal(suggest_explain(&s.request, true, one), 0);
		assert_true(one->step == brief);
		sum = p->compute + p->imbalance + p->bubble + p->links +
		      p->replicas + p->end;
		assert_true(sum > one->step * (1 - 1e-9) &&
			    sum < one->step * (1 + 1e-9));
		assert_true(p->compute > 0 && p->imbalance >= -1e-12);
		assert_true(p->bubble >= -1e-9 && p->links >= -1e-9);
		assert_true((p->replicas > 0) == (one->grid.replicas > 1));
		assert_true((p->tensor > 0) == (one->grid.slices > 1));
	}
	suggestions_fini(&found);
	setting_fini(&s);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(as_fast_as_the_fastest),
		cmocka_unit_test(within_the_memory),
		cmocka_unit_test(what_is_given_is_kept),
		cmocka_unit_test(parts_add_up),
	};

	log_set_sink(ignore_line, NULL);
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
