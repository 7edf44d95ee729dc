/*
 * The generators and the lowering against rows made by independent code (see
 * oracle/README.md).
 *
 * Compute rows are equal action for action; idle cells are no actions.
 * Lowered rows are equal but for this freedom: a receive may stand
 * anywhere before its use as long as each link's receives keep their order, and
 * REDUCE_GRAD anywhere behind its stage's last W. So the rows are compared
 * without receives and REDUCE_GRAD, and the receives link by link.
 */
#include "base/log.h"
#include "tests/schedules/support.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct oracle_case {
	const char *name;
	const char *file; /* stem */
	unsigned chunks;
};

static const struct oracle_case cases[] = {
	{"gpipe", "gpipe", 1},
	{"1f1b", "1f1b", 1},
	{"1f1b", "sail_1f1b", 1},
	{"interleaved", "interleaved1f1b_v2", 2},
	{"interleaved", "interleaved1f1b_v4", 4},
	{"looped-bfs", "loopedbfs_v2", 2},
	{"zb-h1", "interleavedzb_v1", 1},
	{"zb-h1", "closed_zbh1", 1},
	{"zb-h2", "closed_zbh2", 1},
	{"interleaved-zb", "interleavedzb_v1", 1},
	{"interleaved-zb", "interleavedzb_v2", 2},
	{"zb-v", "zbv", 2},
	{"dualpipe-v", "dualpipev", 2},
};

static const unsigned sizes[][2] = {{2, 4}, {2, 8}, {4, 4}, {4, 8}};

static struct schedule *load_case(const struct oracle_case *test,
				  const unsigned *size, const char *ending)
{
	char file[128];
	char *path;
	FILE *probe;

	snprintf(file, sizeof(file), "%s_p%u_m%u%s", test->file, size[0],
		 size[1], ending);
	path = oracle_path(file);
	probe = fopen(path, "r");
	free(path);
	if (probe == NULL)
		return NULL; /* the schedule does not exist at this size */
	fclose(probe);
	return oracle_load(file);
}

/* The row without what `drop` names. */
static void strip(struct schedule *schedule, bool (*drop)(unsigned op))
{
	for (unsigned rank = 0; rank < schedule->ranks; rank++) {
		struct schedule_row *row = &schedule->rows[rank];
		size_t kept = 0;

		for (size_t i = 0; i < row->count; i++)
			if (!drop(row->actions[i].op))
				row->actions[kept++] = row->actions[i];
		row->count = kept;
	}
}

static bool is_receive_or_reduce(unsigned op)
{
	return op == ACTION_RECV_FORWARD || op == ACTION_RECV_BACKWARD ||
	       op == ACTION_REDUCE_GRAD;
}

/* The micro-batches one stage receives in one direction, as text. */
static char *receives(const struct schedule *schedule, unsigned stage,
		      unsigned op)
{
	const struct schedule_row *row =
		&schedule->rows[schedule->rank_of_stage[stage]];
	size_t room = row->count * 8 + 1;
	char *text = calloc(1, room);
	size_t length = 0;

	assert_non_null(text);
	for (size_t i = 0; i < row->count; i++)
		if (row->actions[i].op == op && row->actions[i].stage == stage)
			length += (size_t)snprintf(text + length, room - length,
						   "%u ",
						   row->actions[i].micro_batch);
	return text;
}

static void compare_receives(const struct schedule *a, const struct schedule *b)
{
	for (unsigned stage = 0; stage < a->stages; stage++)
		for (unsigned op = ACTION_RECV_FORWARD;
		     op <= ACTION_RECV_BACKWARD;
		     op += ACTION_RECV_BACKWARD - ACTION_RECV_FORWARD) {
			char *got = receives(a, stage, op);
			char *want = receives(b, stage, op);

			assert_string_equal(got, want);
			free(got);
			free(want);
		}
}

static unsigned count_op(const struct schedule *schedule, unsigned op)
{
	unsigned count = 0;

	for (unsigned rank = 0; rank < schedule->ranks; rank++)
		for (size_t i = 0; i < schedule->rows[rank].count; i++)
			count += schedule->rows[rank].actions[i].op == op;
	return count;
}

static void compare_lowered(struct schedule *compute, struct schedule *want)
{
	struct schedule_lowering options = {.reduce = true, .pairs = true};
	struct schedule_report report;
	struct schedule *lowered = NULL;

	assert_int_equal(schedule_lower(compute, &options, &lowered), 0);
	assert_int_equal(schedule_validate(want, SCHEDULE_BUFFERS_ANY, &report),
			 0);
	schedule_report_fini(&report);
	assert_int_equal(
		schedule_validate(lowered, SCHEDULE_BUFFERS_ANY, &report), 0);
	schedule_report_fini(&report);
	compare_receives(lowered, want);
	assert_int_equal(count_op(lowered, ACTION_REDUCE_GRAD),
			 count_op(want, ACTION_REDUCE_GRAD));
	assert_int_equal(count_op(want, ACTION_REDUCE_GRAD), want->stages);
	strip(lowered, is_receive_or_reduce);
	strip(want, is_receive_or_reduce);
	assert_rows_equal(lowered, want);
	schedule_destroy(lowered);
}

/*
 * PyTorch's looped BFS sends its micro-batches backward in descending order,
 * ours ascend: with the numbers of the backward turned round, they are the
 * same.
 */
static void turn_backward(struct schedule *schedule)
{
	for (unsigned rank = 0; rank < schedule->ranks; rank++)
		for (size_t i = 0; i < schedule->rows[rank].count; i++) {
			struct action *action =
				&schedule->rows[rank].actions[i];

			if (action->op == ACTION_BACKWARD ||
			    action->op == ACTION_SEND_BACKWARD ||
			    action->op == ACTION_RECV_BACKWARD)
				action->micro_batch =
					(uint16_t)(schedule->micro_batches - 1 -
						   action->micro_batch);
		}
}

static struct schedule *load_wanted(const struct oracle_case *test,
				    const unsigned *size, const char *ending)
{
	/* ZB-H2 of less than 2P - 1 micro-batches is ZB-H1. */
	const struct oracle_case h1 = {"zb-h1", "closed_zbh1", 1};
	bool small =
		strcmp(test->name, "zb-h2") == 0 && size[1] < 2 * size[0] - 1;
	struct schedule *schedule = load_case(small ? &h1 : test, size, ending);

	if (schedule != NULL && strcmp(test->name, "looped-bfs") == 0)
		turn_backward(schedule);
	return schedule;
}

static void test_rows(void **state)
{
	unsigned compared = 0;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		for (size_t j = 0; j < ARRAY_SIZE(sizes); j++) {
			struct schedule *want =
				load_wanted(&cases[i], sizes[j], ".csv");
			struct schedule *got = NULL;

			if (want == NULL)
				continue;
			assert_int_equal(
				schedule_generate(cases[i].name, sizes[j][0],
						  sizes[j][1], cases[i].chunks,
						  &got),
				0);
			assert_rows_equal(got, want);
			schedule_destroy(want);
			want = load_wanted(&cases[i], sizes[j], ".comms.csv");
			if (want != NULL) {
				compare_lowered(got, want);
				schedule_destroy(want);
			}
			schedule_destroy(got);
			compared++;
		}
	assert_true(compared == 4 * ARRAY_SIZE(cases) - 1);
}

/*
 * Any compute rows the oracle has, lowered here, agree with the rows its own
 * lowering made.
 */
static void test_lowering_of_oracle(void **state)
{
	static const char *const stems[] = {
		"gpipe",
		"1f1b",
		"interleaved1f1b_v2",
		"interleaved1f1b_v4",
		"loopedbfs_v2",
		"interleavedzb_v1",
		"interleavedzb_v2",
		"zbv",
		"dualpipev",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(stems); i++)
		for (size_t j = 0; j < ARRAY_SIZE(sizes); j++) {
			struct oracle_case test = {.file = stems[i]};
			struct schedule *compute =
				load_case(&test, sizes[j], ".csv");
			struct schedule *want =
				load_case(&test, sizes[j], ".comms.csv");

			assert_true((compute != NULL) == (want != NULL));
			if (want == NULL)
				continue;
			compare_lowered(compute, want);
			schedule_destroy(compute);
			schedule_destroy(want);
		}
}

/* "gpipe      4  8 | 0 | 0  (unbounded ...)" */
static void check_buffers_line(const struct schedule *schedule, unsigned safe,
			       unsigned full_speed)
{
	struct schedule_report report;

	assert_int_equal(
		schedule_validate(schedule, SCHEDULE_BUFFERS_ANY, &report), 0);
	assert_int_equal(report.buffers_safe, safe);
	assert_int_equal(report.buffers_full_speed, full_speed);
	schedule_report_fini(&report);
}

/* Where a generator makes these rows it is used, else the oracle's own. */
static struct schedule *schedule_of_line(const char *name, unsigned ranks,
					 unsigned micro_batches)
{
	static const struct {
		const char *line;
		const char *name; /* of the generator; NULL: none */
		const char *file;
		unsigned chunks;
	} lines[] = {
		{"gpipe", "gpipe", NULL, 1},
		{"1f1b", "1f1b", NULL, 1},
		{"int_v2", "interleaved", NULL, 2},
		{"int_v4", "interleaved", NULL, 4},
		{"bfs_v2", "looped-bfs", NULL, 2},
		{"zbh1", "zb-h1", NULL, 1},
		{"zbh2", "zb-h2", NULL, 1},
		{"izb_v2", "interleaved-zb", NULL, 2},
		{"zbv", "zb-v", NULL, 2},
		{"dualpipev", "dualpipe-v", NULL, 2},
		{"sail_vhalf", NULL, "sail_vhalf", 2},
		{"sail_vmin", NULL, "sail_vmin", 2},
	};
	const unsigned size[2] = {ranks, micro_batches};
	struct schedule *schedule = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		struct oracle_case test = {.file = lines[i].file};

		if (strcmp(lines[i].line, name) != 0)
			continue;
		if (lines[i].name == NULL)
			return load_case(&test, size, ".csv");
		assert_int_equal(schedule_generate(lines[i].name, ranks,
						   micro_batches,
						   lines[i].chunks, &schedule),
				 0);
		return schedule;
	}
	fail_msg("the oracle's line '%s' is unknown", name);
	return NULL;
}

static void test_buffers(void **state)
{
	char *path = oracle_path("buffers-per-link.txt");
	FILE *file = fopen(path, "r");
	char line[256];
	unsigned checked = 0;

	(void)state;
	assert_non_null(file);
	while (fgets(line, sizeof(line), file)) {
		struct schedule *schedule;
		unsigned ranks, micro_batches, safe, full;
		char name[32];

		if (sscanf(line, "%31s %u %u | %u | %u", name, &ranks,
			   &micro_batches, &safe, &full) != 5)
			continue;
		schedule = schedule_of_line(name, ranks, micro_batches);
		if (schedule == NULL)
			continue; /* no rows at this size */
		check_buffers_line(schedule, safe, full);
		schedule_destroy(schedule);
		checked++;
	}
	fclose(file);
	free(path);
	assert_int_equal(checked, 44);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_lowering_of_oracle),
		cmocka_unit_test(test_buffers),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("schedules against the oracle",
					   tests, NULL, NULL);
}
