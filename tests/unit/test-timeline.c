/*
 * engine/timeline.c: a simulated step as a timeline, its shares, its JSON; and
 * engine/trace_json.c, whose traces are read back.
 */
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/files.h"
#include "base/log.h"
#include "engine/timeline.h"
#include "engine/trace_json.h"
#include "tests/unit/cmocka-tap.h"

static void ignore_line(void *argument, enum log_level level, const char *line)
{
	(void)argument;
	(void)level;
	(void)line;
}

/* F, I and W cost what is given, on every stage. */
struct costs {
	double forward, input, weight;
	double latency;
	double transfer; /* of a message */
	double reduce, reduce_tied, vote;
};

static void timeline_of(const char *name, unsigned ranks,
			unsigned micro_batches, const struct costs *costs,
			bool train, struct timeline *timeline,
			struct schedule_simulation *simulation)
{
	const struct schedule_tie tie = {.first_stage = 0, .second_stage = 0};
	const struct schedule_lowering lowering = {
		.train = train, .ties = &tie, .tie_count = train};
	struct schedule *schedule, *lowered;
	double forward[64], input[64], weight[64];
	struct schedule_costs simulated = {
		.forward = forward,
		.input = input,
		.weight = weight,
		.latency = costs->latency,
		.bandwidth = costs->transfer > 0 ? 1 : 0,
		.message_bytes = costs->transfer,
		.reduce = costs->reduce,
		.reduce_tied = costs->reduce_tied,
		.vote = costs->vote,
		.buffers = SCHEDULE_BUFFERS_ANY,
	};

	assert_int_equal(
		schedule_generate(name, ranks, micro_batches, 0, &schedule), 0);
	assert_int_equal(schedule_lower(schedule, &lowering, &lowered), 0);
	assert_true(lowered->stages <= 64);
	for (unsigned stage = 0; stage < lowered->stages; stage++) {
		forward[stage] = costs->forward;
		input[stage] = costs->input;
		weight[stage] = costs->weight;
	}
	assert_int_equal(
		schedule_simulate(lowered, &simulated, true, simulation), 0);
	assert_int_equal(
		timeline_from_simulation(lowered, simulation, timeline), 0);
	schedule_destroy(lowered);
	schedule_destroy(schedule);
}

/* The event of a rank that is `op` of a micro-batch; there must be one. */
static const struct timeline_event *event_of(const struct timeline *timeline,
					     unsigned rank, unsigned op,
					     unsigned micro_batch)
{
	const struct timeline_row *row = &timeline->rows[rank];

	for (size_t i = 0; i < row->count; i++)
		if (row->events[i].action.op == op &&
		    row->events[i].action.micro_batch == micro_batch)
			return &row->events[i];
	fail_msg("rank %u has no %s%u", rank, schedule_op_text(op),
		 micro_batch);
	return NULL;
}

static void expect(const struct timeline *timeline, unsigned rank, unsigned op,
		   unsigned micro_batch, double start, double end,
		   double arrival)
{
	const struct timeline_event *event =
		event_of(timeline, rank, op, micro_batch);

	if (event->start != start || event->end != end ||
	    event->arrival != arrival)
		fail_msg("rank %u %s%u: %g to %g, there at %g", rank,
			 schedule_op_text(op), micro_batch, event->start,
			 event->end, event->arrival);
}

/*
 * The example worked out in tests/schedules/test-simulate.c: gpipe on two
 * ranks, F 2, I and W 1, 3 on the wire and 1 more to arrive.
 */
static const struct costs wire_costs = {
	.forward = 2, .input = 1, .weight = 1, .latency = 1, .transfer = 3};

static void test_wire(void **state)
{
	struct schedule_simulation simulation;
	struct timeline timeline;
	struct timeline_share share;

	(void)state;
	timeline_of("gpipe", 2, 2, &wire_costs, false, &timeline, &simulation);
	assert_int_equal(timeline.ranks, 2);
	assert_true(timeline.span == 22);
	expect(&timeline, 0, ACTION_FORWARD, 1, 2, 4, 0);
	expect(&timeline, 0, ACTION_SEND_FORWARD, 0, 2, 2, 6);
	expect(&timeline, 1, ACTION_RECV_FORWARD, 0, 0, 6, 0);
	expect(&timeline, 0, ACTION_SEND_FORWARD, 1, 4, 4, 9);
	expect(&timeline, 1, ACTION_BACKWARD, 0, 11, 13, 0);
	expect(&timeline, 1, ACTION_SEND_BACKWARD, 0, 13, 13, 17);
	expect(&timeline, 0, ACTION_RECV_BACKWARD, 0, 4, 17, 0);
	expect(&timeline, 0, ACTION_RECV_BACKWARD, 1, 19, 20, 0);
	timeline_share(&timeline, 0, &share);
	assert_true(share.compute == 8 && share.waiting == 14 &&
		    share.sending == 0 && share.ending == 0 && share.idle == 0);
	timeline_share(&timeline, 1, &share);
	assert_true(share.compute == 8 && share.waiting == 7 &&
		    share.idle == 7);
	timeline_fini(&timeline);
	assert_null(timeline.rows);
	schedule_simulation_fini(&simulation);
}

/* A message that came before it was asked for: nobody knows when. */
static void test_unknown_arrival(void **state)
{
	const struct costs costs = {.forward = 1, .input = 2, .weight = 2};
	struct schedule_simulation simulation;
	struct timeline timeline;

	(void)state;
	timeline_of("1f1b", 2, 2, &costs, false, &timeline, &simulation);
	/* Rank 1: F0 1-2, B0 2-6; F1's input is there since 2. */
	expect(&timeline, 0, ACTION_SEND_FORWARD, 0, 1, 1, 1);
	expect(&timeline, 1, ACTION_RECV_FORWARD, 1, 6, 6, 0);
	expect(&timeline, 0, ACTION_SEND_FORWARD, 1, 2, 2, 0);
	timeline_fini(&timeline);
	schedule_simulation_fini(&simulation);
}

static void check_rows(const char *name, const struct timeline *timeline,
		       const struct schedule_simulation *simulation,
		       const struct costs *costs, unsigned stages_of_rank)
{
	double last = 0;

	for (unsigned rank = 0; rank < timeline->ranks; rank++) {
		const struct timeline_row *row = &timeline->rows[rank];
		double reduced = stages_of_rank * costs->reduce;
		struct timeline_share share;
		double now = 0;

		for (size_t i = 0; i < row->count; i++) {
			const struct timeline_event *event = &row->events[i];
			unsigned op = event->action.op;
			bool message = op >= ACTION_SEND_FORWARD &&
				       op <= ACTION_RECV_BACKWARD;

			assert_true(event->start >= now);
			assert_true(event->end > event->start || message);
			assert_true(event->arrival == 0 ||
				    event->arrival >= event->end);
			now = event->end;
		}
		last = MAX(last, now);
		timeline_share(timeline, rank, &share);
		if (fabs(share.compute + share.sending + share.waiting +
			 share.ending + share.idle - timeline->span) > 1e-9)
			fail_msg("%s: the shares of rank %u are no whole", name,
				 rank);
		if (rank == 0)
			reduced += costs->reduce_tied;
		assert_true(fabs(share.compute + reduced -
				 simulation->busy[rank]) < 1e-9);
	}
	assert_true(last == timeline->span);
	assert_true(timeline->span == simulation->makespan);
}

/* Rows without overlap, shares that add up, every schedule, uneven costs. */
static void test_every_schedule(void **state)
{
	const struct costs costs = {.forward = 1.3,
				    .input = 1.1,
				    .weight = 0.7,
				    .latency = 0.11,
				    .transfer = 0.23,
				    .reduce = 0.4,
				    .reduce_tied = 0.9,
				    .vote = 0.2};
	unsigned trained = 0;

	(void)state;
	for (size_t i = 0; i < schedule_kind_count(); i++) {
		const struct schedule_kind *kind = schedule_kind_at(i);
		struct schedule_simulation simulation;
		struct timeline timeline;

		if (strcmp(kind->name, "forward") == 0)
			continue;
		timeline_of(kind->name, 4, 8, &costs, true, &timeline,
			    &simulation);
		check_rows(kind->name, &timeline, &simulation, &costs,
			   kind->default_chunks);
		timeline_fini(&timeline);
		schedule_simulation_fini(&simulation);
		trained++;
	}
	assert_true(trained >= 12);
}

static void test_json(void **state)
{
	const struct costs costs = {.forward = 1.0 / 3,
				    .input = 2e6 / 3.0,
				    .weight = 1,
				    .latency = 0.25};
	struct schedule_simulation simulation;
	struct timeline timeline;
	json_t *json, *event;
	size_t rank, i, sends = 0;

	(void)state;
	timeline_of("1f1b", 2, 2, &costs, false, &timeline, &simulation);
	json = timeline_to_json(&timeline);
	assert_int_equal(json_array_size(json), 2);
	event = json_array_get(json_array_get(json, 0), 0);
	assert_string_equal(json_string_value(json_array_get(event, 0)), "F");
	assert_int_equal(json_array_size(event), 5);
	/* A third, in seven digits. */
	assert_true(json_real_value(json_array_get(event, 4)) == 0.3333333);
	event = json_array_get(json_array_get(json, 1), 2);
	assert_string_equal(json_string_value(json_array_get(event, 0)), "B");
	assert_int_equal(json_integer_value(json_array_get(event, 1)), 1);
	assert_true(json_real_value(json_array_get(event, 4)) == 666668.6);
	json_array_foreach(json, rank, event)
	{
		const struct timeline_row *row = &timeline.rows[rank];

		assert_int_equal(json_array_size(event), row->count);
		for (i = 0; i < row->count; i++) {
			json_t *item = json_array_get(event, i);

			if (row->events[i].arrival == 0)
				continue;
			assert_int_equal(json_array_size(item), 6);
			sends++;
		}
	}
	assert_true(sends > 0);
	json_decref(json);
	timeline_fini(&timeline);
	schedule_simulation_fini(&simulation);
}

/* ---- traces ---- */

struct folder {
	char path[64];
	char file[96];
};

static int make_folder(void **state)
{
	static struct folder folder;

	snprintf(folder.path, sizeof(folder.path), "test-timeline.XXXXXX");
	if (mkdtemp(folder.path) == NULL)
		return -1;
	snprintf(folder.file, sizeof(folder.file), "%s/trace.json",
		 folder.path);
	*state = &folder;
	return 0;
}

static int remove_folder(void **state)
{
	struct folder *folder = *state;

	return files_remove_tree(folder->path);
}

static const char *text_of(const json_t *event, const char *key)
{
	const char *text = json_string_value(json_object_get(event, key));

	return text ? text : "";
}

static double number_of(const json_t *event, const char *key)
{
	assert_true(json_is_number(json_object_get(event, key)));
	return json_number_value(json_object_get(event, key));
}

/*
 * The one slice of the event's thread within which its time lies; how many
 * such there are must be one, since viewers take any.
 */
static const json_t *enclosing_slice(json_t *events, const json_t *flow)
{
	double at = number_of(flow, "ts");
	const json_t *found = NULL;
	json_t *event;
	size_t i, count = 0;

	json_array_foreach(events, i, event)
	{
		if (strcmp(text_of(event, "ph"), "X") != 0 ||
		    number_of(event, "tid") != number_of(flow, "tid") ||
		    number_of(event, "pid") != number_of(flow, "pid") ||
		    number_of(event, "ts") > at ||
		    number_of(event, "ts") + number_of(event, "dur") < at)
			continue;
		found = event;
		count++;
	}
	assert_int_equal(count, 1);
	return found;
}

static const json_t *flow_end(json_t *events, const json_t *start)
{
	const json_t *found = NULL;
	json_t *event;
	size_t i;

	json_array_foreach(events, i, event)
	{
		if (strcmp(text_of(event, "ph"), "f") != 0 ||
		    number_of(event, "id") != number_of(start, "id"))
			continue;
		assert_null(found);
		assert_string_equal(text_of(event, "bp"), "e");
		assert_string_equal(text_of(event, "name"),
				    text_of(start, "name"));
		assert_string_equal(text_of(event, "cat"),
				    text_of(start, "cat"));
		found = event;
	}
	assert_non_null(found);
	return found;
}

static double argument_of(const json_t *slice, const char *key)
{
	return number_of(json_object_get(slice, "args"), key);
}

/* Every arrow leads from a stage to its neighbour, forwards in time. */
static void check_arrow(json_t *events, const json_t *start)
{
	const json_t *end = flow_end(events, start);
	const json_t *from = enclosing_slice(events, start);
	const json_t *to = enclosing_slice(events, end);
	double step = argument_of(to, "stage") - argument_of(from, "stage");
	bool forward = strcmp(text_of(start, "name"), "activation") == 0;

	assert_true(number_of(end, "ts") > number_of(start, "ts"));
	assert_true(number_of(end, "tid") != number_of(start, "tid"));
	assert_true(argument_of(from, "micro_batch") ==
		    argument_of(to, "micro_batch"));
	assert_true(step == (forward ? 1 : -1));
}

struct tally {
	size_t slices, arrows, processes, threads;
};

static struct tally check_trace(const char *path)
{
	struct tally tally = {0};
	json_t *trace, *events, *event;
	size_t i;

	assert_int_equal(json_read(path, 64 << 20, &trace), 0);
	assert_string_equal(text_of(trace, "displayTimeUnit"), "ms");
	events = json_object_get(trace, "traceEvents");
	json_array_foreach(events, i, event)
	{
		const char *phase = text_of(event, "ph");

		/* The names of threads go by tid alone in some viewers. */
		assert_true(number_of(event, "pid") > 0);
		if (strcmp(phase, "X") == 0) {
			tally.slices++;
			assert_true(number_of(event, "dur") >= 0);
		} else if (strcmp(phase, "s") == 0) {
			tally.arrows++;
			check_arrow(events, event);
		} else if (strcmp(text_of(event, "name"), "process_name") ==
			   0) {
			tally.processes++;
		} else if (strcmp(text_of(event, "name"), "thread_name") == 0) {
			tally.threads++;
		}
	}
	json_decref(trace);
	return tally;
}

static size_t count_messages(const struct timeline *timeline, size_t *slices)
{
	size_t sends = 0;

	for (unsigned rank = 0; rank < timeline->ranks; rank++)
		for (size_t i = 0; i < timeline->rows[rank].count; i++) {
			const struct timeline_event *event =
				&timeline->rows[rank].events[i];

			*slices += event->end > event->start;
			sends += event->action.op == ACTION_SEND_FORWARD ||
				 event->action.op == ACTION_SEND_BACKWARD;
		}
	return sends;
}

/*
 * Two processes, one of them with two steps behind each other. Costs without
 * rounding, so that no wait is a few bits long.
 */
static void test_trace(void **state)
{
	const struct costs costs = {.forward = 1,
				    .input = 1,
				    .weight = 1,
				    .latency = 0.125,
				    .transfer = 0.25,
				    .reduce = 0.125,
				    .vote = 0.5};
	const struct folder *folder = *state;
	struct schedule_simulation simulation[2];
	struct timeline timeline[2];
	struct trace_json *trace;
	struct tally tally;
	size_t slices[2] = {0};
	size_t sends[2];
	unsigned process;

	timeline_of("zb-v", 3, 6, &costs, true, &timeline[0], &simulation[0]);
	timeline_of("1f1b", 2, 4, &costs, true, &timeline[1], &simulation[1]);
	for (int i = 0; i < 2; i++)
		sends[i] = count_messages(&timeline[i], &slices[i]);
	assert_int_equal(trace_json_create(folder->file, &trace), 0);
	process = trace_json_add_process(trace, "zb-v \"x\" \\ <&>, predicted",
					 3);
	trace_json_add_timeline(trace, process, &timeline[0],
				&(struct trace_json_place){.scale = 1e-3});
	process = trace_json_add_process(trace, "1f1b, predicted", 2);
	for (int step = 1; step <= 2; step++)
		trace_json_add_timeline(
			trace, process, &timeline[1],
			&(struct trace_json_place){.scale = 1,
						   .offset = 20.0 * step,
						   .step = (uint64_t)step});
	assert_false(files_exists(folder->file));
	assert_int_equal(trace_json_close(trace), 0);
	tally = check_trace(folder->file);
	assert_int_equal(tally.processes, 2);
	assert_int_equal(tally.threads, 5);
	assert_int_equal(tally.slices, slices[0] + 2 * slices[1]);
	assert_int_equal(tally.arrows, sends[0] + 2 * sends[1]);
	for (int i = 0; i < 2; i++) {
		timeline_fini(&timeline[i]);
		schedule_simulation_fini(&simulation[i]);
	}
}

/* A disk that is full: told at the end, and nothing is left. */
static void test_trace_full_disk(void **state)
{
	const struct folder *folder = *state;
	struct rlimit before, small;
	struct trace_json *trace;
	int error;

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	small = before;
	small.rlim_cur = 10000;
	assert_int_equal(trace_json_create(folder->file, &trace), 0);
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	for (int i = 0; i < 1000; i++)
		trace_json_add_process(trace, "a name of some length", 4);
	error = trace_json_close(trace);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	signal(SIGXFSZ, SIG_DFL);
	assert_int_equal(error, -EFBIG);
	assert_non_null(strstr(log_last_error(), folder->file));
	assert_int_equal(rmdir(folder->path), 0);
	assert_int_equal(mkdir(folder->path, 0777), 0);
}

/* One link of four stages takes 30 times what the others do. */
static void test_slow_link(void **state)
{
	const struct costs costs = {4, 4, 4, 0.1, 0, 0, 0, 0};
	struct schedule_simulation simulation;
	struct timeline timeline;
	struct timeline_link link;

	(void)state;
	timeline_of("1f1b", 4, 4, &costs, true, &timeline, &simulation);
	assert_false(timeline_slow_link(&timeline, 0.5, &link));
	/* Its messages come later, and everything there is that much later. */
	for (unsigned r = 3; r < 4; r++)
		for (size_t i = 0; i < timeline.rows[r].count; i++) {
			struct timeline_event *event =
				&timeline.rows[r].events[i];

			event->end += 3;
			if (i > 0)
				event->start += 3;
		}
	assert_true(timeline_slow_link(&timeline, 0.5, &link));
	assert_int_equal(link.from, 2);
	assert_int_equal(link.to, 3);
	assert_true(fabs(link.travel - 3.1) < 0.2);
	assert_true(fabs(link.usual - 0.1) < 0.05);
	assert_false(timeline_slow_link(&timeline, 5, &link));
	timeline_fini(&timeline);
	schedule_simulation_fini(&simulation);
}

/* Nothing is left of a trace that is given up or cannot be written. */
static void test_trace_failures(void **state)
{
	const struct folder *folder = *state;
	struct trace_json *trace = NULL;
	char path[128];

	assert_int_equal(trace_json_create(folder->file, &trace), 0);
	trace_json_add_process(trace, "a", 1);
	trace_json_abandon(trace);
	assert_int_equal(rmdir(folder->path), 0);
	assert_int_equal(mkdir(folder->path, 0777), 0);
	snprintf(path, sizeof(path), "%s/none/trace.json", folder->path);
	trace = NULL;
	assert_int_equal(trace_json_create(path, &trace), -ENOENT);
	assert_null(trace);
	assert_non_null(strstr(log_last_error(), path));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_wire),
		cmocka_unit_test(test_unknown_arrival),
		cmocka_unit_test(test_every_schedule),
		cmocka_unit_test(test_json),
		cmocka_unit_test(test_slow_link),
		cmocka_unit_test_setup_teardown(test_trace, make_folder,
						remove_folder),
		cmocka_unit_test_setup_teardown(test_trace_full_disk,
						make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_trace_failures,
						make_folder, remove_folder),
	};

	log_set_sink(ignore_line, NULL);
	return RUN_TESTS("timeline", tests);
}
