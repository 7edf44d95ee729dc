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

static void test_rows(void **state)
{
	unsigned compared = 0;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		for (size_t j = 0; j < ARRAY_SIZE(sizes); j++) {
			struct schedule *want =
				load_case(&cases[i], sizes[j], ".csv");
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
			want = load_case(&cases[i], sizes[j], ".comms.csv");
			if (want != NULL) {
				compare_lowered(got, want);
				schedule_destroy(want);
			}
			schedule_destroy(got);
			compared++;
		}
	assert_true(compared >= 3 * ARRAY_SIZE(cases));
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

/* Where a generator exists it is used, else the oracle's own rows. */
static struct schedule *schedule_of_line(const char *name, unsigned ranks,
					 unsigned micro_batches)
{
	static const struct oracle_case lines[] = {
		{"gpipe", "gpipe", 1},
		{"1f1b", "1f1b", 1},
		{"int_v2", "interleaved1f1b_v2", 2},
		{"int_v4", "interleaved1f1b_v4", 4},
		{"bfs_v2", "loopedbfs_v2", 2},
		{"zbh1", "interleavedzb_v1", 1},
		{"zbh2", "closed_zbh2", 1},
		{"izb_v2", "interleavedzb_v2", 2},
		{"zbv", "zbv", 2},
		{"dualpipev", "dualpipev", 2},
		{"sail_vhalf", "sail_vhalf", 2},
		{"sail_vmin", "sail_vmin", 2},
	};
	const unsigned size[2] = {ranks, micro_batches};
	struct schedule *schedule = NULL;

	if (schedule_kind_find(name)) {
		assert_int_equal(schedule_generate(name, ranks, micro_batches,
						   0, &schedule),
				 0);
		return schedule;
	}
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
		if (strcmp(lines[i].name, name) == 0)
			return load_case(&lines[i], size, ".csv");
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
	assert_true(checked >= 20);
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
