/*
 * What the engine works out before a run: the tree of sums, the slots, the
 * order of messages.
 */
#include "base/log.h"
#include "engine/accumulator.h"
#include "engine/ahead.h"
#include "engine/flights.h"
#include "engine/learning_rate.h"
#include "engine/route.h"
#include "engine/slots.h"
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void ignore_line(void *argument, enum log_level level, const char *line)
{
	(void)argument;
	(void)level;
	(void)line;
}

/* ---- accumulator ---- */

static float tree(const float *values, unsigned groups, unsigned group_size)
{
	float sum = 0;

	if (groups > 1)
		return tree(values, groups / 2, group_size) +
		       tree(values + groups / 2 * group_size, groups / 2,
			    group_size);
	for (unsigned i = 0; i < group_size; i++)
		sum += values[i];
	return sum;
}

static double tree_of_losses(const double *values, unsigned groups,
			     unsigned group_size)
{
	double sum = 0;

	if (groups > 1)
		return tree_of_losses(values, groups / 2, group_size) +
		       tree_of_losses(values + groups / 2 * group_size,
				      groups / 2, group_size);
	for (unsigned i = 0; i < group_size; i++)
		sum += values[i];
	return sum;
}

static void check_sums(unsigned groups, unsigned group_size,
		       struct threads *threads)
{
	struct accumulation a = {groups * group_size, groups};
	float values[64], levels[7] = {0};
	float *accumulators[7];
	double losses[64];
	struct parameter parameter = {.count = 1};
	struct store_row row = {.parameter = &parameter,
				.accumulators = accumulators};
	struct loss_sum sum = {{0}};

	assert_int_equal(accumulation_check(&a), 0);
	for (unsigned i = 0; i < 7; i++)
		accumulators[i] = &levels[i];
	for (unsigned m = 0; m < a.micro_batches; m++) {
		unsigned level = accumulation_level(&a, m);

		losses[m] = sin(m * 3.7 + groups) * pow(2, m % 9);
		values[m] = (float)losses[m];
		assert_true(level < accumulation_levels(&a));
		levels[level] += values[m];
		accumulator_merge(threads, &a, m, &row);
		loss_sum_add(&sum, &a, m, losses[m]);
	}
	assert_true(levels[0] == tree(values, groups, group_size));
	assert_true(sum.level[0] == tree_of_losses(losses, groups, group_size));
	for (unsigned i = 1; i < 7; i++)
		assert_true(levels[i] == 0 && sum.level[i] == 0);
}

static void accumulator_sums_a_tree(void **state)
{
	struct threads *threads;

	(void)state;
	assert_int_equal(threads_create(1, NULL, &threads), 0);
	for (unsigned groups = 1; groups <= 64; groups *= 2)
		for (unsigned size = 1; groups * size <= 64; size++)
			check_sums(groups, size, threads);
	threads_destroy(threads);
}

static void accumulator_refuses(void **state)
{
	static const struct accumulation bad[] = {
		{4, 0}, {4, 3}, {4, 8}, {6, 4}, {1u << 17, 1u << 17},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(accumulation_check(&bad[i]), -EINVAL);
}

/* ---- learning rate, slots ---- */

static void learning_rates(void **state)
{
	struct learning_rate rate = {.peak = 1,
				     .floor = 0.1,
				     .warmup_steps = 4,
				     .decay_steps = 14,
				     .decay = DECAY_LINEAR};

	(void)state;
	assert_true(learning_rate_at(&rate, 0) == 0.25);
	assert_true(learning_rate_at(&rate, 3) == 1);
	assert_true(learning_rate_at(&rate, 4) == 1);
	assert_true(fabs(learning_rate_at(&rate, 9) - 0.55) < 1e-12);
	assert_true(learning_rate_at(&rate, 14) == 0.1);
	assert_true(learning_rate_at(&rate, UINT64_MAX) == 0.1);
	rate.decay = DECAY_COSINE;
	assert_true(fabs(learning_rate_at(&rate, 9) - 0.55) < 1e-12);
	assert_true(fabs(learning_rate_at(&rate, 6) -
			 (0.1 + 0.9 * 0.5 * (1 + cos(acos(-1) * 0.2)))) <
		    1e-12);
	rate.decay = DECAY_CONSTANT;
	assert_true(learning_rate_at(&rate, 1000) == 1);
	/* A warm-up longer than the run never divides by zero. */
	rate.decay = DECAY_COSINE;
	rate.decay_steps = 2;
	assert_true(learning_rate_at(&rate, 1) == 0.5);
	assert_true(learning_rate_at(&rate, 4) == 0.1);
}

static void slots_are_distinct(void **state)
{
	static unsigned char memory[5 * 64];
	struct slots slots;
	void *claimed[5];

	(void)state;
	assert_int_equal(slots_init(&slots, 5, 64, memory), 0);
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < 5; i++) {
			size_t offset;

			claimed[i] = slots_claim(&slots);
			offset = (size_t)((unsigned char *)claimed[i] - memory);
			assert_true(offset < sizeof(memory) &&
				    offset % 64 == 0);
			for (unsigned j = 0; j < i; j++)
				assert_ptr_not_equal(claimed[i], claimed[j]);
		}
		for (unsigned i = 0; i < 5; i++)
			slots_release(&slots, claimed[(i * 2 + round) % 5]);
	}
	slots_fini(&slots);
	assert_int_equal(slots_init(&slots, 2, 0, memory), 0);
	slots_release(&slots, slots_claim(&slots));
	slots_fini(&slots);
}

/* ---- schedules ---- */

/* See test-engine-run.c. */
static const char v_shape[] =
	"0F0,3F0,3B0,0F1,3F1,3B1,0F2,3F2,3B2,0F3,3F3,3B3,0B0,0B1,0B2,0B3\n"
	"1F0,2F0,2B0,1B0,1F1,2F1,2B1,1B1,1F2,2F2,2B2,1B2,1F3,2F3,2B3,1B3\n";
static const char loops[] =
	"0F0,0F1,2F0,2F1,0F2,0F3,2F2,2F3,2I0,2W0,2I1,0I0,0I1,2W1,2I2,2I3,"
	"0W0,0W1,2W2,0I2,2W3,0I3,0W2,0W3\n"
	"1F0,1F1,3F0,3B0,3F1,3B1,1F2,1F3,1I0,1I1,3F2,3I2,3F3,3I3,1W0,1W1,"
	"3W2,3W3,1B2,1B3\n";

static struct schedule *lowered(struct schedule *compute, bool tie)
{
	struct schedule_tie ends = {0, (uint16_t)(compute->stages - 1)};
	struct schedule_lowering lowering = {
		.ties = &ends, .tie_count = tie, .train = true};
	struct schedule *out;

	assert_int_equal(schedule_lower(compute, &lowering, &out), 0);
	schedule_destroy(compute);
	return out;
}

/* All schedules these tests walk through; NULL behind the last. */
static struct schedule *schedule_number(unsigned number)
{
	const unsigned ranks_max = 5, batches_max = 7;
	unsigned per_kind = ranks_max * batches_max;
	struct schedule *compute, *part;

	if (number < per_kind * schedule_kind_count()) {
		const struct schedule_kind *kind =
			schedule_kind_at(number / per_kind);
		unsigned ranks = number % per_kind / batches_max + 1;
		unsigned batches = number % batches_max + 1;
		char why[256];

		if (kind->check &&
		    kind->check(ranks, batches, kind->default_chunks, why,
				sizeof(why)))
			assert_int_equal(schedule_generate("gpipe", ranks,
							   batches, 0,
							   &compute),
					 0);
		else
			assert_int_equal(schedule_generate(kind->name, ranks,
							   batches, 0,
							   &compute),
					 0);
		return lowered(compute, number % 2);
	}
	number -= per_kind * (unsigned)schedule_kind_count();
	if (number > 3)
		return NULL;
	assert_int_equal(schedule_parse(number % 2 ? v_shape : loops,
					strlen(number % 2 ? v_shape : loops),
					"test", SCHEDULE_DIALECT_MODERN,
					&compute),
			 0);
	if (number < 2)
		return lowered(compute, true);
	assert_int_equal(schedule_forward_part(compute, &part), 0);
	schedule_destroy(compute);
	return lowered(part, false);
}

/*
 * Counted from what is out, one flag a micro-batch: set when something is
 * written, cleared when W (or a forward alone) has used it.
 */
static unsigned count_flags(const bool *flags, unsigned count)
{
	unsigned sum = 0;

	for (unsigned i = 0; i < count; i++)
		sum += flags[i];
	return sum;
}

static void count_out(const struct schedule *s, unsigned stage,
		      struct flights *out)
{
	bool in[64] = {0}, act[64] = {0}, grad[64] = {0};
	bool pend[64] = {0};
	unsigned rank = s->rank_of_stage[stage];

	*out = (struct flights){0};
	for (size_t i = 0; i < s->rows[rank].count; i++) {
		const struct action *a = &s->rows[rank].actions[i];
		unsigned m = a->micro_batch;
		bool input = a->op == ACTION_BACKWARD ||
			     a->op == ACTION_BACKWARD_INPUT;
		bool mine = a->stage == stage;

		if (a->op == ACTION_FORWARD && a->stage + 1u == stage)
			in[m] = true;
		if (a->op == ACTION_FORWARD && mine)
			in[m] = act[m] = true;
		if (input && a->stage == stage + 1u)
			grad[m] = true;
		if (input && mine)
			grad[m] = pend[m] = true;
		out->split_backward |= mine && a->op == ACTION_BACKWARD_INPUT;
		out->inputs =
			MAX(out->inputs, count_flags(in, s->micro_batches));
		out->activations = MAX(out->activations,
				       count_flags(act, s->micro_batches));
		out->pendings =
			MAX(out->pendings, count_flags(pend, s->micro_batches));
		out->output_gradients =
			MAX(out->output_gradients,
			    count_flags(grad, s->micro_batches));
		if (!mine)
			continue;
		if (a->op == ACTION_BACKWARD ||
		    a->op == ACTION_BACKWARD_WEIGHT ||
		    (a->op == ACTION_FORWARD && s->forward_only))
			in[m] = act[m] = grad[m] = pend[m] = false;
	}
}

static void flights_are_counted(void **state)
{
	struct schedule *s;
	unsigned n;

	(void)state;
	for (n = 0; (s = schedule_number(n)); n++) {
		for (unsigned stage = 0; stage < s->stages; stage++) {
			struct flights found, expected;

			flights_count(s, stage, &found);
			count_out(s, stage, &expected);
			assert_int_equal(found.inputs, expected.inputs);
			assert_int_equal(found.activations,
					 expected.activations);
			assert_int_equal(found.pendings, expected.pendings);
			assert_int_equal(found.output_gradients,
					 expected.output_gradients);
			assert_int_equal(found.split_backward,
					 expected.split_backward);
		}
		schedule_destroy(s);
	}
	assert_true(n > 100);
}

/* ---- routes ---- */

struct sent {
	unsigned to;
	struct message messages[256];
	unsigned count;
};

static void note_sent(void *argument, unsigned to,
		      const struct message *message)
{
	struct sent *sent = argument;

	if (to != sent->to)
		return;
	assert_true(sent->count < ARRAY_SIZE(sent->messages));
	sent->messages[sent->count++] = *message;
}

static bool is_same(const struct message *a, const struct message *b)
{
	return a->kind == b->kind && a->stage == b->stage &&
	       a->micro_batch == b->micro_batch;
}

/* The n-th send towards `to` in the row of `from`, from the actions alone. */
static void check_against_row(const struct schedule *s, unsigned from,
			      const struct sent *sent)
{
	unsigned at = 0;

	for (size_t i = 0; i < s->rows[from].count; i++) {
		const struct action *a = &s->rows[from].actions[i];
		bool forward = a->op == ACTION_SEND_FORWARD;
		unsigned stage = forward ? a->stage + 1u : a->stage - 1u;

		if (!forward && a->op != ACTION_SEND_BACKWARD)
			continue;
		if (s->rank_of_stage[stage] != sent->to)
			continue;
		while (at < sent->count &&
		       sent->messages[at].kind != MESSAGE_FORWARD &&
		       sent->messages[at].kind != MESSAGE_BACKWARD)
			at++;
		assert_true(at < sent->count);
		assert_int_equal(sent->messages[at].kind,
				 forward ? MESSAGE_FORWARD : MESSAGE_BACKWARD);
		assert_int_equal(sent->messages[at].stage, stage);
		assert_int_equal(sent->messages[at].micro_batch,
				 a->micro_batch);
		at++;
	}
}

static void check_link(const struct route_config *config, unsigned from,
		       const struct route *route)
{
	static struct sent sent;
	const struct inbox *inbox = NULL;

	sent.to = route->rank;
	sent.count = 0;
	route_emit(config, from, note_sent, &sent);
	check_against_row(config->schedule, from, &sent);
	for (unsigned i = 0; i < route->inbox_count; i++)
		if (route->inboxes[i].peer == from)
			inbox = &route->inboxes[i];
	assert_int_equal(inbox ? inbox->count : 0, sent.count);
	for (unsigned i = 0; i < sent.count; i++) {
		const struct message *m = &inbox->messages[i];

		assert_true(is_same(m, &sent.messages[i]));
		assert_int_equal(m->peer, from);
		if (m->kind == MESSAGE_FORWARD)
			assert_ptr_equal(
				route_forward(route, m->stage, m->micro_batch),
				m);
		if (m->kind == MESSAGE_BACKWARD)
			assert_ptr_equal(
				route_backward(route, m->stage, m->micro_batch),
				m);
	}
}

/* Every input and gradient comes by a message, or is made on this rank. */
static void check_complete(const struct schedule *s, const struct route *route)
{
	for (unsigned stage = 0; stage < s->stages; stage++) {
		bool here = s->rank_of_stage[stage] == route->rank;
		bool before =
			stage > 0 && s->rank_of_stage[stage - 1] != route->rank;
		bool behind = stage + 1 < s->stages &&
			      s->rank_of_stage[stage + 1] != route->rank;

		for (unsigned m = 0; m < s->micro_batches; m++) {
			assert_int_equal(route_forward(route, stage, m) != NULL,
					 here && before);
			assert_int_equal(route_backward(route, stage, m) !=
						 NULL,
					 here && behind && !s->forward_only);
		}
	}
}

static void configure(const struct schedule *s, struct route_config *config)
{
	static const bool needs[8] = {[4] = true, [1] = true};
	static const unsigned pieces = 3;
	static struct schedule_tie ends;

	ends = (struct schedule_tie){0, (uint16_t)(s->stages - 1)};
	*config = (struct route_config){
		.schedule = s,
		.grid = {1, s->ranks, 1},
		.needs_batch = needs,
		.votes = !s->forward_only,
		.result = s->forward_only,
		.ties = &ends,
		.tie_pieces = &pieces,
		.tie_count = 1,
	};
}

static void both_ends_agree(void **state)
{
	struct schedule *s;
	unsigned n;

	(void)state;
	for (n = 0; (s = schedule_number(n)); n++) {
		bool marked[8][8] = {{false}};
		struct route_config config;

		configure(s, &config);
		for (unsigned rank = 0; rank < s->ranks; rank++) {
			struct route *route;

			config.rank = rank;
			assert_int_equal(route_create(&config, &route), 0);
			for (unsigned from = 0; from < s->ranks; from++)
				if (from != rank)
					check_link(&config, from, route);
			check_complete(s, route);
			route_mark_peers(&config, marked[rank]);
			for (unsigned i = 0; i < route->inbox_count; i++)
				assert_true(
					marked[rank][route->inboxes[i].peer]);
			route_destroy(route);
		}
		for (unsigned a = 0; a < s->ranks; a++)
			for (unsigned b = 0; b < s->ranks; b++)
				assert_int_equal(marked[a][b], marked[b][a]);
		schedule_destroy(s);
	}
	assert_true(n > 100);
}

static void ahead_is_enough(void **state)
{
	struct schedule *s, *compute;
	struct route_config config;
	unsigned n, ahead;

	(void)state;
	for (n = 0; (s = schedule_number(n)); n++) {
		configure(s, &config);
		assert_int_equal(ahead_find(&config, 2, &ahead), 0);
		assert_true(ahead >= 2);
		/* One stage a rank: a receive or two ahead always do. */
		if (s->chunks == 1)
			assert_true(ahead <= 3);
		schedule_destroy(s);
	}
	/*
	 * Rank 0 uses forward 3 of stage 3 while gradients 0 .. 2 of stage 0,
	 * sent between, are still to be used: message 6 while 1 is not.
	 */
	assert_int_equal(schedule_parse(v_shape, strlen(v_shape), "test",
					SCHEDULE_DIALECT_MODERN, &compute),
			 0);
	s = lowered(compute, true);
	configure(s, &config);
	assert_int_equal(ahead_find(&config, 2, &ahead), 0);
	assert_int_equal(ahead, 6);
	schedule_destroy(s);
}

static void parts(void **state)
{
	struct schedule *s, *part, *again;
	struct schedule_report report;

	(void)state;
	assert_int_equal(schedule_parse(v_shape, strlen(v_shape), "test",
					SCHEDULE_DIALECT_MODERN, &s),
			 0);
	s = lowered(s, true);
	assert_int_equal(schedule_forward_part(s, &part), 0);
	assert_true(part->forward_only && !part->lowered);
	assert_int_equal(part->stages, 4);
	for (unsigned stage = 0; stage < 4; stage++)
		assert_int_equal(part->rank_of_stage[stage],
				 s->rank_of_stage[stage]);
	assert_int_equal(part->rows[0].count, 8);
	assert_int_equal(schedule_validate(part, SCHEDULE_BUFFERS_ANY, &report),
			 0);
	schedule_report_fini(&report);
	schedule_destroy(part);
	/* Lowered, taken apart and lowered again is the same. */
	assert_int_equal(schedule_compute_part(s, &part), 0);
	assert_int_equal(part->rows[0].count, 16);
	again = lowered(part, true);
	for (unsigned r = 0; r < 2; r++) {
		assert_int_equal(s->rows[r].count, again->rows[r].count);
		assert_memory_equal(s->rows[r].actions, again->rows[r].actions,
				    s->rows[r].count * sizeof(struct action));
	}
	schedule_destroy(again);
	schedule_destroy(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(accumulator_sums_a_tree),
		cmocka_unit_test(accumulator_refuses),
		cmocka_unit_test(learning_rates),
		cmocka_unit_test(slots_are_distinct),
		cmocka_unit_test(flights_are_counted),
		cmocka_unit_test(both_ends_agree),
		cmocka_unit_test(ahead_is_enough),
		cmocka_unit_test(parts),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	log_set_sink(ignore_line, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
