/*
 * The trace of a rank: what is recorded, what is left out, and the way to the
 * other ranks and back.
 */
#include "base/clock.h"
#include "base/log.h"
#include "base/numbers.h"
#include "engine/trace.h"
#include "tests/unit/cmocka-tap.h"
#include <errno.h>
#include <stdlib.h>

static const struct action forward = {ACTION_FORWARD, 2, 5, 0};
static const struct action receive = {ACTION_RECV_FORWARD, 2, 5, 0};

static void drop_line(void *argument, enum log_level level, const char *line)
{
	(void)argument;
	(void)level;
	(void)line;
}

static struct trace *make_trace(unsigned steps, size_t actions)
{
	const bool holds[3] = {false, true, true};
	struct trace *trace = NULL;

	assert_int_equal(trace_create(steps, actions, 3, holds, &trace), 0);
	return trace;
}

static void wait_a_little(void)
{
	clock_sleep_until_ns(clock_now_ns() + 200 * NS_PER_US);
}

static void test_events_follow_each_other(void **state)
{
	struct trace *trace = make_trace(2, 4);
	const struct trace_step *step = &trace->step[0];

	(void)state;
	assert_true(trace_begin_step(trace, 7));
	wait_a_little();
	trace_note(trace, &receive);
	wait_a_little();
	trace_note(trace, &forward);
	wait_a_little();
	trace_skip(trace);
	wait_a_little();
	trace_note(trace, &forward);
	trace_end_step(trace);
	assert_int_equal(step->step, 7);
	assert_int_equal(step->count, 3);
	assert_int_equal(step->events[0].begin_ns, step->begin_ns);
	assert_int_equal(step->events[0].action.op, ACTION_RECV_FORWARD);
	assert_int_equal(step->events[1].begin_ns, step->events[0].end_ns);
	/* What was skipped belongs to no event. */
	assert_true(step->events[2].begin_ns >=
		    step->events[1].end_ns + 200 * NS_PER_US);
	assert_true(step->end_ns >= step->events[2].end_ns);
	trace_destroy(trace);
}

static void test_only_while_a_step_is_open(void **state)
{
	struct trace *trace = make_trace(1, 1);

	(void)state;
	trace_note(trace, &forward);
	trace_note_layer(trace, 1, LAYER_PASS_FORWARD, 10);
	assert_int_equal(trace->step[0].count, 0);
	assert_true(trace_layer_median(trace, 1, LAYER_PASS_FORWARD) == 0);
	assert_true(trace_begin_step(trace, 0));
	/* Room for three events an action, and no more. */
	for (unsigned i = 0; i < 9; i++) {
		wait_a_little();
		trace_note(trace, &forward);
	}
	assert_int_equal(trace->step[0].count, 3);
	trace_end_step(trace);
	trace_note(trace, &forward);
	assert_false(trace_begin_step(trace, 1));
	assert_int_equal(trace->recorded, 1);
	trace_note(NULL, &forward); /* training without a trace */
	trace_end_step(NULL);
	assert_false(trace_begin_step(NULL, 0));
	trace_destroy(trace);
}

static void test_layers(void **state)
{
	struct trace *trace = make_trace(1, 1);

	(void)state;
	assert_true(trace_begin_step(trace, 0));
	for (unsigned i = 1; i <= 5; i++)
		trace_note_layer(trace, 2, LAYER_PASS_INPUT,
				 i * NS_PER_MS * (i == 5 ? 1000 : 1));
	assert_true(trace_layer_median(trace, 2, LAYER_PASS_INPUT) == 0.003);
	/* Only the newest are kept. */
	for (unsigned i = 0; i < 2 * TRACE_SAMPLES; i++)
		trace_note_layer(trace, 2, LAYER_PASS_INPUT, 9 * NS_PER_MS);
	assert_true(trace_layer_median(trace, 2, LAYER_PASS_INPUT) == 0.009);
	assert_true(trace_layer_median(trace, 2, LAYER_PASS_WEIGHT) == 0);
	assert_true(trace_layer_median(trace, 0, LAYER_PASS_FORWARD) == 0);
	trace_end_step(trace);
	trace_destroy(trace);
}

static void test_json_and_back(void **state)
{
	struct trace *trace = make_trace(1, 2);
	struct trace_step *step = &trace->step[0];
	struct timeline_row row;
	json_t *json;

	(void)state;
	assert_true(trace_begin_step(trace, 3));
	step->events[0] = (struct trace_event){1000500, 1002500, receive};
	step->events[1] = (struct trace_event){1002500, 1005000, forward};
	step->count = 2;
	trace_end_step(trace);
	json = trace_step_to_json(step, 1000000);
	assert_non_null(json);
	assert_int_equal(trace_step_from_json(json, 500, &row), 0);
	assert_int_equal(row.count, 2);
	assert_int_equal(row.events[0].action.op, ACTION_RECV_FORWARD);
	assert_int_equal(row.events[1].action.stage, 2);
	assert_int_equal(row.events[1].action.micro_batch, 5);
	assert_true(row.events[0].start == 0);
	assert_true(row.events[1].end == 4.5e-6);
	free(row.events);
	/* From another process: nothing in it is to be believed. */
	json_array_set_new(json_object_get(json, "events"), 0,
			   json_integer(ACTION_OP_COUNT));
	assert_int_equal(trace_step_from_json(json, 0, &row), -EINVAL);
	json_array_remove(json_object_get(json, "events"), 0);
	assert_int_equal(trace_step_from_json(json, 0, &row), -EINVAL);
	json_object_del(json, "events");
	assert_int_equal(trace_step_from_json(json, 0, &row), -EINVAL);
	json_decref(json);
	trace_destroy(trace);
}

static void test_median(void **state)
{
	double odd[] = {5, 1, 3}, even[] = {4, 1, 3, 2};

	(void)state;
	assert_true(numbers_median(odd, 3) == 3);
	assert_true(numbers_median(even, 4) == 2.5);
	assert_true(numbers_median(NULL, 0) == 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_events_follow_each_other),
		cmocka_unit_test(test_only_while_a_step_is_open),
		cmocka_unit_test(test_layers),
		cmocka_unit_test(test_json_and_back),
		cmocka_unit_test(test_median),
	};

	log_set_sink(drop_line, NULL);
	return RUN_TESTS("trace", tests);
}
