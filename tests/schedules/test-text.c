/*
 * The text form: dialects, idle cells, line ends, errors by line and column, and
 * a small seeded fuzz.
 */
#include "tests/schedules/support.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int parse(const char *text, enum schedule_dialect dialect,
		 struct schedule **out)
{
	log_clear_last_error();
	*out = NULL;
	return schedule_parse(text, strlen(text), "f.csv", dialect, out);
}

static void expect_text(const char *from, enum schedule_dialect dialect,
			const char *to)
{
	struct schedule *schedule;
	char *text;

	if (parse(from, dialect, &schedule))
		fail_msg("%s: %s", from, log_last_error());
	text = schedule_text(schedule);
	assert_string_equal(text, to);
	free(text);
	schedule_destroy(schedule);
}

static void test_forms(void **state)
{
	(void)state;
	expect_text("0F0,0B0\n1F0,1B0", SCHEDULE_DIALECT_AUTO,
		    "0F0,0B0\r\n1F0,1B0\r\n");
	expect_text("0F0,,0B0,,\r\n,1F0 ,\t1B0\r\n\r\n\n", 0,
		    "0F0,0B0\r\n1F0,1B0\r\n");
	expect_text("\xef\xbb\xbf"
		    "0F0,0B0\n",
		    0, "0F0,0B0\r\n");
	expect_text("0F0,(0F1;0B0)OVERLAP_F_B,(0F2;0B1)OVERLAP_F_B,0B2\n", 0,
		    "0F0,(0F1;0B0)OVERLAP_F_B,(0F2;0B1)OVERLAP_F_B,0B2\r\n");
	expect_text("0F0,( 0F1;\t0B0 )OVERLAP_F_B,0B1\n", 0,
		    "0F0,(0F1;0B0)OVERLAP_F_B,0B1\r\n");
	expect_text("0F0,0SEND_F0,0RECV_B0,0B0,0REDUCE_GRAD,0REDUCE_TIED3,"
		    "0VOTE,0STEP\n1RECV_F0,1F0,1I0,1SEND_B0,1W0\n",
		    0,
		    "0F0,0SEND_F0,0RECV_B0,0B0,0REDUCE_GRAD,0REDUCE_TIED3,"
		    "0VOTE,0STEP\r\n1RECV_F0,1F0,1I0,1SEND_B0,1W0\r\n");
}

static void test_dialects(void **state)
{
	const char *split = "0F0,0B0,0W0\n";
	const char *fused = "0F0,0BW0,0F1,0B1,0W1\n";
	struct schedule *schedule;

	(void)state;
	expect_text(split, SCHEDULE_DIALECT_OLD, "0F0,0I0,0W0\r\n");
	expect_text(split, SCHEDULE_DIALECT_AUTO, "0F0,0I0,0W0\r\n");
	expect_text(split, SCHEDULE_DIALECT_MODERN, "0F0,0B0,0W0\r\n");
	expect_text(fused, SCHEDULE_DIALECT_OLD, "0F0,0B0,0F1,0I1,0W1\r\n");
	expect_text(fused, SCHEDULE_DIALECT_AUTO, "0F0,0B0,0F1,0I1,0W1\r\n");
	assert_int_equal(parse(fused, SCHEDULE_DIALECT_MODERN, &schedule),
			 -EINVAL);
	assert_non_null(strstr(log_last_error(), "--dialect old"));
	/* B alone is B in both readings of the word. */
	expect_text("0F0,0B0\n", SCHEDULE_DIALECT_AUTO, "0F0,0B0\r\n");
	expect_text("0F0,0I0,0W0,0F1,0B1\n", SCHEDULE_DIALECT_AUTO,
		    "0F0,0I0,0W0,0F1,0B1\r\n");
}

/* Bytes that C strings do not hold, and cells longer than a message shows. */
static void test_odd_bytes(void **state)
{
	static const char nul[] = "0F0,\0000B0\n";
	struct schedule *schedule = NULL;
	char cell[300];

	(void)state;
	assert_int_equal(
		schedule_parse(nul, sizeof(nul) - 1, "f.csv", 0, &schedule),
		-EINVAL);
	assert_non_null(strstr(log_last_error(),
			       "f.csv:1:5: cell 2 '?0B0': expected a stage"));
	memset(cell, '7', sizeof(cell) - 1);
	cell[sizeof(cell) - 1] = '\0';
	assert_int_equal(parse(cell, 0, &schedule), -EINVAL);
	assert_non_null(strstr(log_last_error(), "777...': expected a stage"));
	assert_true(strlen(log_last_error()) < 120);
	assert_null(schedule);
}

/* What PyTorch has and this program does not is idle time here. */
static void test_foreign(void **state)
{
	(void)state;
	expect_text("0UNSHARD,0F0,0B0,0RESHARD,0REDUCE_GRAD,0WAIT_REDUCE_GRAD,"
		    "7WAIT_SEND_F9,7WAIT_SEND_B9\n",
		    0, "0F0,0B0,0REDUCE_GRAD\r\n");
}

static bool has_op(const struct schedule *schedule, unsigned op)
{
	for (unsigned rank = 0; rank < schedule->ranks; rank++)
		for (size_t i = 0; i < schedule->rows[rank].count; i++)
			if (schedule->rows[rank].actions[i].op == op)
				return true;
	return false;
}

static void expect_round_trip(const char *name, unsigned ranks, unsigned count,
			      bool lowered, enum schedule_dialect dialect)
{
	struct schedule *schedule = NULL;
	struct schedule *again = NULL;
	struct schedule *messages = NULL;
	char *text;

	assert_int_equal(schedule_generate(name, ranks, count, 0, &schedule),
			 0);
	if (lowered) {
		assert_int_equal(schedule_lower(schedule, NULL, &messages), 0);
		schedule_destroy(schedule);
		schedule = messages;
	}
	text = schedule_text_as(schedule, dialect);
	assert_non_null(text);
	if (dialect == SCHEDULE_DIALECT_OLD) {
		assert_null(strchr(text, 'I'));
		assert_int_equal(strstr(text, "BW") != NULL,
				 has_op(schedule, ACTION_BACKWARD));
	}
	/* Told what it is, and left to find out. */
	for (int i = 0; i < 2; i++) {
		if (parse(text, i ? dialect : SCHEDULE_DIALECT_AUTO, &again))
			fail_msg("%s: %s", text, log_last_error());
		assert_rows_equal(again, schedule);
		schedule_destroy(again);
	}
	free(text);
	schedule_destroy(schedule);
}

static void test_round_trip(void **state)
{
	(void)state;
	for (size_t i = 0; i < schedule_kind_count(); i++)
		for (int way = 0; way < 4; way++)
			expect_round_trip(schedule_kind_at(i)->name, 3, 9,
					  way % 2,
					  way / 2 ? SCHEDULE_DIALECT_OLD
						  : SCHEDULE_DIALECT_MODERN);
}

static void test_header(void **state)
{
	struct schedule *schedule;

	(void)state;
	assert_int_equal(
		parse("0F0,3F0,3B0,0B0\n1F0,2F0,2B0,1B0\n", 0, &schedule), 0);
	assert_int_equal(schedule->ranks, 2);
	assert_int_equal(schedule->stages, 4);
	assert_int_equal(schedule->chunks, 2);
	assert_int_equal(schedule->micro_batches, 1);
	assert_int_equal(schedule->placement, SCHEDULE_PLACEMENT_V);
	assert_false(schedule->lowered);
	assert_false(schedule->forward_only);
	assert_string_equal(schedule->name, "f.csv");
	schedule_destroy(schedule);
	assert_int_equal(parse("0F0,2F0\n1F0,3F0\n", 0, &schedule), 0);
	assert_int_equal(schedule->placement, SCHEDULE_PLACEMENT_LOOP);
	assert_true(schedule->forward_only);
	schedule_destroy(schedule);
	/* Any placement will do, as long as a stage has one place. */
	assert_int_equal(parse("1F0,1B0\n0F0,2F0,2B0,0B0\n", 0, &schedule), 0);
	assert_int_equal(schedule->placement, SCHEDULE_PLACEMENT_FREE);
	assert_int_equal(schedule->rank_of_stage[0], 1);
	assert_int_equal(schedule->rank_of_stage[1], 0);
	assert_int_equal(schedule->chunks, 2);
	schedule_destroy(schedule);
}

struct mistake {
	const char *text;
	const char *message;
};

static const struct mistake mistakes[] = {
	{"", "f.csv: expected a row of cells for every rank"},
	{"\r\n,,\n", "f.csv: expected a row of cells for every rank"},
	{"0F0\n\n1F0\n", "f.csv:2: rank 1 has no action"},
	{"0F0,F1\n", "f.csv:1:5: cell 2 'F1': expected a stage number"},
	{"0F0\n1F0,,x\n", "f.csv:2:6: cell 3 'x': expected a stage number"},
	{"0F0, 0X1\n", "f.csv:1:7: cell 2 '0X1': expected an operation: F I W"},
	{"0f0\n", "f.csv:1:2: cell 1 '0f0': expected an operation in capitals"},
	{"0FF0\n", "f.csv:1:2: cell 1 '0FF0': expected an operation"},
	{"0SEND0\n", "expected an operation"},
	{"0F\n", "f.csv:1:3: cell 1 '0F': expected a micro-batch number"},
	{"0F-1\n", "f.csv:1:3: cell 1 '0F-1': expected a micro-batch number"},
	{"0F0x\n", "f.csv:1:4: cell 1 '0F0x': expected the end of the cell"},
	{"0F0 0B0\n", "f.csv:1:4: cell 1 '0F0 0B0': expected a comma between"},
	{"0F0\t0B0\n", "f.csv:1:4: cell 1 '0F0?0B0': expected a comma between"},
	{"0F0,0B0\r1F0\r", "f.csv:1:8: cell 2 '0B0?1F0': expected a line end"},
	{"0STEP0\n", "f.csv:1:6: cell 1 '0STEP0': expected the end"},
	{"4096F0\n", "f.csv:1:1: cell 1 '4096F0': expected a stage number"},
	{"99999999999999999999F0\n", "expected a stage number (0 to 4095)"},
	{"0F65535\n", "expected a micro-batch number (0 to 65534)"},
	{"(0F0;0B0)\n", "f.csv:1:9: cell 1 '(0F0;0B0)': expected )OVERLAP_F_B"},
	{"(0F0;0B0)OVERLAP\n", "expected )OVERLAP_F_B"},
	{"(0F0)OVERLAP_F_B\n", "expected two actions, (F;B)OVERLAP_F_B"},
	{"(0F0;0B0;0B1)OVERLAP_F_B\n", "expected two actions"},
	{"(0F0;)OVERLAP_F_B\n", "f.csv:1:6: cell 1 '(0F0;)OVERLAP_F_B': "
				"expected a stage number"},
	{"(0F0;0SEND_F0)OVERLAP_F_B\n", "expected F, I, W or B within"},
	{"(0F0;0B0\n", "expected )OVERLAP_F_B"},
	{"0I0,0BW0\n", "expected one dialect"},
	{"0F0\001\033[2J\n", "cell 1 '0F0??[2J': expected the end of the cell"},
	{"\"0F0\"\n", "f.csv:1:1: cell 1 '\"0F0\"': expected a cell without"},
	{"0F0,'0B0'\n", "f.csv:1:5: cell 2 ''0B0'': expected a cell without"},
	{"0F0;0B0\n", "expected a comma between cells"},
	{"0UNSHARDx\n", "f.csv:1:9: cell 1 '0UNSHARDx': expected a micro"},
	{"0WAIT_SEND_F70000\n", "expected a micro-batch number"},
	{"0WAIT_F0\n", "expected an operation"},
	{"0UNSHARD,0RESHARD\n", "f.csv: expected a row of cells"},
	{"(0F0;0UNSHARD)OVERLAP_F_B\n", "expected F, I, W or B within"},
	{"\xff\xfe", "f.csv: is UTF-16"},
	{"\xfe\xff", "f.csv: is UTF-16"},
	{"\xef\xbb\xbf\xef\xbb\xbf"
	 "0F0\n",
	 "f.csv:1:1: cell 1 '???0F0'"},
	{"0F0,\xef\xbc\x90"
	 "B0\n",
	 "f.csv:1:5: cell 2 '???B0': expected a stage number"},
};

static void test_mistakes(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(mistakes); i++) {
		struct schedule *schedule;

		assert_int_equal(parse(mistakes[i].text, SCHEDULE_DIALECT_AUTO,
				       &schedule),
				 -EINVAL);
		assert_null(schedule);
		if (strstr(log_last_error(), mistakes[i].message) == NULL)
			fail_msg("'%s' does not say '%s'", log_last_error(),
				 mistakes[i].message);
	}
}

/* A file wherever a name is. */
static void test_open(void **state)
{
	char *path = oracle_path("gpipe_p4_m8.csv");
	struct schedule *schedule = NULL;
	struct schedule *generated = NULL;

	(void)state;
	assert_int_equal(schedule_open(path, 0, 0, 0, 0, &schedule), 0);
	assert_int_equal(schedule_open("gpipe", 4, 8, 0, 0, &generated), 0);
	assert_rows_equal(schedule, generated);
	schedule_destroy(schedule);
	schedule_destroy(generated);
	assert_int_equal(schedule_open(path, 4, 8, 1, 0, &schedule), 0);
	schedule_destroy(schedule);
	assert_int_equal(schedule_open(path, 2, 8, 0, 0, &schedule), -EINVAL);
	assert_non_null(strstr(log_last_error(), "is for 4 ranks, not 2"));
	assert_int_equal(schedule_open(path, 4, 9, 0, 0, &schedule), -EINVAL);
	assert_non_null(strstr(log_last_error(), "8 micro-batches, not 9"));
	assert_int_equal(schedule_open("absent.csv", 4, 8, 0, 0, &schedule),
			 -ENOENT);
	free(path);
}

/*
 * Damaged text: it parses or it does not; what parses can be written, read
 * again to the same rows, checked, and, when valid, run.
 */
static void damage(char *text, size_t *length, uint64_t *seed)
{
	static const char spice[] = "0123456789FIWB,;()\r\n SENDRCV_OLAP\t\"-x";
	unsigned count = 1 + (unsigned)(test_random(seed) % 4);

	while (count-- > 0 && *length > 1) {
		size_t at = test_random(seed) % *length;

		switch (test_random(seed) % 4) {
		case 0:
			text[at] = (char)test_random(seed);
			break;
		case 1:
			text[at] =
				spice[test_random(seed) % (sizeof(spice) - 1)];
			break;
		case 2:
			memmove(text + at, text + at + 1, *length - at - 1);
			(*length)--;
			break;
		default:
			text[at] = text[test_random(seed) % *length];
			break;
		}
	}
}

static void fuzz_once(const char *text, size_t length, unsigned *parsed)
{
	struct schedule_report report;
	struct schedule *schedule = NULL;
	struct schedule *again = NULL;
	char *copy;

	if (schedule_parse(text, length, "fuzz", SCHEDULE_DIALECT_MODERN,
			   &schedule))
		return;
	(*parsed)++;
	copy = schedule_text(schedule);
	assert_non_null(copy);
	assert_int_equal(schedule_parse(copy, strlen(copy), "fuzz",
					SCHEDULE_DIALECT_MODERN, &again),
			 0);
	assert_rows_equal(again, schedule);
	/* Sizes out of all proportion are refused, but cost time here. */
	if (schedule->stages < 64 && schedule->micro_batches < 1024 &&
	    schedule_validate(schedule, SCHEDULE_BUFFERS_ANY, &report) == 0)
		assert_true(schedule->forward_only || report.peak_of_rank[0]);
	if (schedule->stages < 64 && schedule->micro_batches < 1024)
		schedule_report_fini(&report);
	free(copy);
	schedule_destroy(again);
	schedule_destroy(schedule);
}

static void test_fuzz(void **state)
{
	static const char *const files[] = {
		"1f1b_p2_m4.comms.csv",
		"dualpipev_p2_m4.comms.csv",
		"interleavedzb_v2_p2_m4.csv",
		"zbv_p2_m4.csv",
	};
	uint64_t seed = 42;
	unsigned parsed = 0;
	unsigned rounds = 40000;

	(void)state;
	for (unsigned i = 0; i < rounds; i++) {
		static char text[4096];
		char *path = oracle_path(files[i % ARRAY_SIZE(files)]);
		FILE *file = fopen(path, "r");
		size_t length;

		assert_non_null(file);
		length = fread(text, 1, sizeof(text), file);
		fclose(file);
		free(path);
		damage(text, &length, &seed);
		fuzz_once(text, length, &parsed);
	}
	assert_true(parsed > rounds / 100);
	assert_true(parsed < rounds);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forms),
		cmocka_unit_test(test_dialects),
		cmocka_unit_test(test_header),
		cmocka_unit_test(test_mistakes),
		cmocka_unit_test(test_open),
		cmocka_unit_test(test_fuzz),
		cmocka_unit_test(test_odd_bytes),
		cmocka_unit_test(test_foreign),
		cmocka_unit_test(test_round_trip),
	};

	log_silence();
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("schedules as text", tests, NULL,
					   NULL);
}
