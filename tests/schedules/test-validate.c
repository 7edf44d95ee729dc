/*
 * The validator against schedules each broken in one way, and against brute
 * force on shuffled ones.
 */
#include "tests/schedules/support.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct broken {
	const char *what;
	const char *text;
	unsigned buffers;
	const char *reason; /* must occur in the report's */
};

#define ANY SCHEDULE_BUFFERS_ANY

static const struct broken corpus[] = {
	{"F missing", "0F0,0F1,0B0,0B1\n1F0,1B0,1B1\n", ANY,
	 "1F1 is missing (rank 1)"},
	{"B missing", "0F0,0F1,0B0\n1F0,1B0,1F1,1B1\n", ANY, "0I1 is missing"},
	{"W missing", "0F0,0I0\n1F0,1I0,1W0\n", ANY, "0W0 is missing"},
	{"a whole stage missing", "0F0,0B0\n2F0,2B0\n", ANY,
	 "1F0 is missing; no rank has stage 1"},
	{"sizes out of all proportion", "0F0,4095B65534\n", ANY,
	 "0F1 is missing (rank 0)"},
	{"one cell of 268 million", "4095F65534\n", ANY,
	 "0F0 is missing; no rank has stage 0"},
	{"F doubled", "0F0,0F0,0B0\n1F0,1B0\n", ANY,
	 "rank 0, action 2 (0F0): does 0F0 a second time"},
	{"W within B again", "0F0,0B0,0W0\n1F0,1B0\n", ANY,
	 "does 0W0 a second time"},
	{"I within B again", "0F0,0I0,0B0\n1F0,1B0\n", ANY,
	 "does 0I0 a second time"},
	{"the stage of another rank", "0F0,0B0\n1F0,0F1,1B0\n", ANY,
	 "rank 1, action 2 (0F1): stage 0 lives on rank 0"},
	{"B before F", "0B0,0F0\n1F0,1B0\n", ANY,
	 "rank 0, action 1 (0B0): needs 0F0, which this rank does only later"},
	{"W before I", "0F0,0W0,0I0\n1F0,1B0\n", ANY, "needs 0I0"},
	{"chunk before its neighbour here", "1F0,0F0,1B0,0B0\n", ANY,
	 "rank 0, action 1 (1F0): needs 0F0"},
	{"gradient before its neighbour's here", "0F0,1F0,0B0,1B0\n", ANY,
	 "(0B0): needs 1I0"},
	{"deadlock at any number", "0F0,0B0,0F1,0B1\n1F1,1B1,1F0,1B0\n", ANY,
	 "deadlock, however many receives are posted per link"},
	{"one buffer too few", "0F0,0F1,0B0,0B1\n1F0,1B0,1F1,1B1\n", 0,
	 "deadlock with 0 posted receives per link; the cycle of waits:\n"
	 "  rank 0 stands at 0SEND_F1 (action 4) and waits for rank 1 to come "
	 "to 1RECV_F1 (its action 5)\n"
	 "  rank 1 stands at 1SEND_B0 (action 4) and waits for rank 0 to come "
	 "to 0RECV_B0 (its action 5)\n"
	 "  and so back to rank 0"},
	{"receive missing", "0F0,0SEND_F0,0RECV_B0,0B0\n1F0,1B0,1SEND_B0\n",
	 ANY, "1RECV_F0 is missing"},
	{"send missing", "0F0,0RECV_B0,0B0\n1RECV_F0,1F0,1B0,1SEND_B0\n", ANY,
	 "0SEND_F0 is missing"},
	{"send doubled",
	 "0F0,0SEND_F0,0SEND_F0,0RECV_B0,0B0\n1RECV_F0,1F0,1B0,1SEND_B0\n", ANY,
	 "does 0SEND_F0 a second time"},
	{"send before its data",
	 "0SEND_F0,0F0,0RECV_B0,0B0\n1RECV_F0,1F0,1B0,1SEND_B0\n", ANY,
	 "sends the result of 0F0, which this rank does only later"},
	{"receive after its use",
	 "0F0,0SEND_F0,0RECV_B0,0B0\n1F0,1RECV_F0,1B0,1SEND_B0\n", ANY,
	 "needs 1RECV_F0"},
	{"send to nobody",
	 "0F0,0SEND_F0,0RECV_B0,0B0\n1RECV_F0,1F0,1SEND_F0,1B0,1SEND_B0\n", ANY,
	 "no neighbouring stage"},
	{"gradient to nobody",
	 "0F0,0SEND_F0,0RECV_B0,0B0,0SEND_B0\n1RECV_F0,1F0,1B0,1SEND_B0\n", ANY,
	 "no neighbouring stage"},
	{"messages crossed",
	 "0F0,0F1,0SEND_F0,0SEND_F1,0RECV_B0,0B0,0RECV_B1,0B1\n"
	 "1RECV_F1,1RECV_F0,1F0,1F1,1B0,1SEND_B0,1B1,1SEND_B1\n",
	 ANY, "receives micro-batch 1 as number 1 of its link"},
	{"wait cycle of receives",
	 "0F0,0RECV_B0,0SEND_F0,0B0\n1RECV_F0,1F0,1B0,1SEND_B0\n", ANY,
	 "rank 0 stands at 0RECV_B0 (action 2) and waits for rank 1 to do "
	 "1SEND_B0 (its action 4)"},
	{"reduce too early",
	 "0F0,0SEND_F0,0RECV_B0,0I0,0REDUCE_GRAD,0W0\n"
	 "1RECV_F0,1F0,1B0,1SEND_B0\n",
	 ANY, "(0REDUCE_GRAD): the stage's last W is still to come"},
	{"reduce twice", "0F0,0B0,0REDUCE_GRAD,0REDUCE_GRAD\n", ANY,
	 "a second time"},
	{"compute after the vote", "0F0,0I0,0VOTE,0STEP,0W0\n", ANY,
	 "must end a row"},
	{"step without vote", "0F0,0B0,0STEP\n", ANY, "STEP without a VOTE"},
	{"vote without step", "0F0,0B0,0VOTE\n", ANY, "VOTE without a STEP"},
	{"step before vote", "0F0,0B0,0STEP,0VOTE\n", ANY,
	 "must be in this order"},
	{"one rank votes",
	 "0F0,0SEND_F0,0RECV_B0,0B0,0VOTE,0STEP\n"
	 "1RECV_F0,1F0,1B0,1SEND_B0\n",
	 ANY, "1 of 2 ranks VOTE"},
	{"overlap of what depends", "(0F0;0B0)OVERLAP_F_B\n", ANY,
	 "needs the first"},
	{"overlap the wrong way round", "0F0,(0B0;0F1)OVERLAP_F_B,0B1\n", ANY,
	 "must be F and B"},
	{"micro-batch numbers with a gap", "0F0,0F2,0B0,0B2\n", ANY,
	 "0F1 is missing"},
	{"forward-only, one missing", "0F0,0F1\n1F0\n", ANY, "1F1 is missing"},
};

static void test_corpus(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(corpus); i++) {
		struct schedule *schedule = schedule_from(corpus[i].text);
		struct schedule_report report;
		int error =
			schedule_validate(schedule, corpus[i].buffers, &report);

		if (error != -EINVAL || report.valid || !report.reason ||
		    !strstr(report.reason, corpus[i].reason))
			fail_msg("%s: %d, %s", corpus[i].what, error,
				 report.reason ? report.reason : "no reason");
		schedule_report_fini(&report);
		schedule_destroy(schedule);
	}
}

/* The reasons above come from what is broken: mended, each passes. */
static void test_mended(void **state)
{
	static const char *const texts[] = {
		"0F0,0F1,0B0,0B1\n1F0,1B0,1F1,1B1\n",
		"0F0,0I0,0W0\n1F0,1I0,1W0\n",
		"0F0,1F0,1B0,0B0\n",
		"0F0,0SEND_F0,0RECV_B0,0B0\n1RECV_F0,1F0,1B0,1SEND_B0\n",
		"0F0,0I0,0W0,0REDUCE_GRAD,0VOTE,0STEP\n",
		"0F0,0F1,0B0,0B1,0REDUCE_TIED0,0REDUCE_TIED1,0VOTE,0STEP\n",
		"0F0,(0F1;0B0)OVERLAP_F_B,0B1\n",
		"0F0,0F1\n1F0,1F1\n",
		"0F0\n",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		struct schedule *schedule = schedule_from(texts[i]);
		struct schedule_report report;

		if (schedule_validate(schedule, ANY, &report))
			fail_msg("%s: %s", texts[i], report.reason);
		assert_true(report.valid);
		assert_null(report.reason);
		schedule_report_fini(&report);
		schedule_destroy(schedule);
	}
}

static void expect_bits(const char *text, bool identical, const char *why)
{
	struct schedule *schedule = schedule_from(text);
	struct schedule_report report;

	assert_int_equal(schedule_validate(schedule, ANY, &report), 0);
	assert_int_equal(report.bit_identical, identical);
	if (strstr(report.bit_reason, why) == NULL)
		fail_msg("%s: %s", text, report.bit_reason);
	schedule_report_fini(&report);
	schedule_destroy(schedule);
}

static void test_bits(void **state)
{
	(void)state;
	expect_bits("0F0,0F1,0B0,0B1\n", true, "");
	expect_bits("0F0,0F1,0I1,0I0,0W0,0W1\n", true, "");
	expect_bits("0F0,0F1,0B1,0B0\n", false,
		    "W of stage 0 does not ascend by micro-batch (1 where 0 is "
		    "due, rank 0, action 3)");
	expect_bits("0F0,0F1,0I0,0I1,0W1,0W0\n", false, "W of stage 0");
	/* Only the loss stage's F has an order that counts. */
	expect_bits("0F1,0F0,0B0,0B1\n1F0,1F1,1B0,1B1\n", true, "");
	expect_bits("0F0,0F1,0B0,0B1\n1F1,1F0,1B0,1B1\n", false,
		    "F on the loss stage");
}

/* Peaks of the rows with two chunks, by hand. */
static void test_peaks(void **state)
{
	struct schedule *schedule = schedule_from(
		"0F0,0F1,3F0,3I0,0F2,3W0,3F1,3B1,0B0,3F2,3B2,0B1,0B2\n"
		"1F0,2F0,1F1,2B0,2F1,1B0,2B1,1F2,1B1,2F2,2B2,1B2\n");
	struct schedule_report report;

	(void)state;
	if (schedule_validate(schedule, ANY, &report))
		fail_msg("%s", report.reason);
	assert_int_equal(report.peak_of_rank[0], 4);
	assert_int_equal(report.peak_of_rank[1], 3);
	assert_int_equal(report.peak_of_stage[0], 3);
	assert_int_equal(report.peak_of_stage[1], 2);
	assert_int_equal(report.peak_of_stage[2], 1);
	assert_int_equal(report.peak_of_stage[3], 1);
	assert_int_equal(schedule->placement, SCHEDULE_PLACEMENT_V);
	schedule_report_fini(&report);
	schedule_destroy(schedule);
}

/* Shuffled schedules: the validator says what brute force finds. */

static void shuffle(struct schedule *schedule, uint64_t *seed)
{
	unsigned count = 1 + (unsigned)(test_random(seed) % 3);

	while (count-- > 0) {
		struct schedule_row *row =
			&schedule->rows[test_random(seed) % schedule->ranks];
		struct action *a =
			&row->actions[test_random(seed) % row->count];
		struct action *b =
			&row->actions[test_random(seed) % row->count];
		struct action swap = *a;

		switch (test_random(seed) % 16) {
		case 0: /* doubled */
			*a = *b;
			break;
		case 1: /* wrong micro-batch */
			a->micro_batch = (uint16_t)(test_random(seed) %
						    schedule->micro_batches);
			break;
		case 2: /* missing */
			if (row->count > 1)
				*a = row->actions[--row->count];
			break;
		case 3:
		case 4:
		case 5: /* far apart */
			*a = *b;
			*b = swap;
			break;
		default: /* neighbours */
			b = a == row->actions ? a : a - 1;
			*a = *b;
			*b = swap;
			break;
		}
	}
}

static struct schedule *random_schedule(uint64_t *seed)
{
	static const char *const files[] = {
		"interleaved1f1b_v2_p2_m4.csv", "zbv_p4_m4.csv",
		"interleavedzb_v2_p2_m4.csv",   "loopedbfs_v2_p4_m4.csv",
		"interleavedzb_v1_p4_m8.csv",   "sail_vmin_p2_m4.csv",
	};
	static const char *const names[] = {"gpipe", "1f1b", "forward"};
	struct schedule *compute = NULL;
	struct schedule *lowered = NULL;
	unsigned pick = (unsigned)(test_random(seed) %
				   (ARRAY_SIZE(files) + ARRAY_SIZE(names)));

	if (pick < ARRAY_SIZE(files))
		compute = oracle_load(files[pick]);
	else
		assert_int_equal(
			schedule_generate(names[pick - ARRAY_SIZE(files)],
					  1 + test_random(seed) % 4,
					  1 + test_random(seed) % 6, 0,
					  &compute),
			0);
	assert_int_equal(schedule_lower(compute, NULL, &lowered), 0);
	schedule_destroy(compute);
	return lowered;
}

static void compare_verdicts(const struct schedule *schedule, uint64_t *seed,
			     unsigned *accepted)
{
	struct schedule_report report;
	int error = schedule_validate(schedule, ANY, &report);
	const char *wrong = brute_force(schedule, 1u << 20, test_random(seed));

	if ((error == 0) != (wrong == NULL))
		fail_msg("the validator: %s; brute force: %s",
			 report.reason ? report.reason : "valid",
			 wrong ? wrong : "valid");
	if (error == 0) {
		unsigned k = report.buffers_safe;

		(*accepted)++;
		wrong = brute_force(schedule, k, test_random(seed));
		if (wrong)
			fail_msg("with the safe %u buffers: %s", k, wrong);
		if (k > 0) {
			wrong = brute_force(schedule, k - 1, test_random(seed));
			assert_non_null(wrong);
			assert_string_equal(wrong, "stuck");
		}
	}
	schedule_report_fini(&report);
}

static void test_shuffled(void **state)
{
	uint64_t seed = 20240611;
	unsigned accepted = 0;
	unsigned rounds = 6000;

	(void)state;
	for (unsigned i = 0; i < rounds; i++) {
		struct schedule *schedule = random_schedule(&seed);

		shuffle(schedule, &seed);
		compare_verdicts(schedule, &seed, &accepted);
		schedule_destroy(schedule);
	}
	/* Both verdicts must have been put to the test. */
	assert_true(accepted > rounds / 50);
	assert_true(accepted < rounds - rounds / 50);
}

/* Every generated schedule, broken in every way at every action. */

enum breakage {
	BREAK_REMOVE,
	BREAK_DOUBLE,
	BREAK_MICRO_BATCH,
	BREAK_STAGE,
	BREAK_RANK, /* the action goes to the end of another row */
	BREAK_COUNT
};

static void insert(struct schedule_row *row, size_t position,
		   struct action action)
{
	struct action *actions = malloc((row->count + 1) * sizeof(*actions));

	assert_non_null(actions);
	for (size_t i = 0; i <= row->count; i++)
		actions[i] = i < position    ? row->actions[i]
			     : i == position ? action
					     : row->actions[i - 1];
	free(row->actions);
	row->actions = actions;
	row->count++;
}

static void take_out(struct schedule_row *row, size_t position)
{
	memmove(&row->actions[position], &row->actions[position + 1],
		(row->count - position - 1) * sizeof(*row->actions));
	row->count--;
}

static void break_action(struct schedule *schedule, unsigned rank,
			 size_t position, enum breakage how)
{
	struct schedule_row *row = &schedule->rows[rank];
	struct schedule_row *other =
		&schedule->rows[(rank + 1) % schedule->ranks];
	struct action *action = &row->actions[position];
	struct action copy = *action;

	switch (how) {
	case BREAK_REMOVE:
		take_out(row, position);
		break;
	case BREAK_DOUBLE:
		insert(row, position, copy);
		break;
	case BREAK_MICRO_BATCH:
		action->micro_batch = (uint16_t)((copy.micro_batch + 1) %
						 schedule->micro_batches);
		break;
	case BREAK_STAGE:
		action->stage = (uint16_t)((copy.stage + 1) % schedule->stages);
		break;
	default:
		take_out(row, position);
		copy.group = 0;
		insert(other, other->count, copy);
		break;
	}
}

static struct schedule *fresh(const char *name, unsigned ranks, unsigned count,
			      bool lowered)
{
	struct schedule *schedule = NULL;
	struct schedule *messages = NULL;

	assert_int_equal(schedule_generate(name, ranks, count, 0, &schedule),
			 0);
	if (!lowered)
		return schedule;
	assert_int_equal(schedule_lower(schedule, NULL, &messages), 0);
	schedule_destroy(schedule);
	return messages;
}

static void expect_refused(struct schedule *schedule, const char *what)
{
	struct schedule_report report;
	char *text = schedule_text(schedule);

	assert_non_null(text);
	if (schedule_validate(schedule, ANY, &report) != -EINVAL ||
	    report.valid || !report.reason || !report.reason[0])
		fail_msg("%s passes:\n%s", what, text);
	free(text);
	schedule_report_fini(&report);
	schedule_destroy(schedule);
}

/* Exchanged with the next: refused or not, as brute force finds. */
static void check_exchanged(struct schedule *schedule, unsigned rank,
			    size_t position, unsigned *accepted)
{
	struct action *action = &schedule->rows[rank].actions[position];
	struct action first = action[0];
	struct schedule_report report;
	const char *wrong;
	int error;

	/* Brute force does not look at pairs. */
	if (first.group == 0 && action[1].group == 0) {
		action[0] = action[1];
		action[1] = first;
		error = schedule_validate(schedule, ANY, &report);
		wrong = brute_force(schedule, 1u << 20, position + 1);
		if ((error == 0) != (wrong == NULL))
			fail_msg("rank %u, %zu exchanged: %s; brute force: %s",
				 rank, position,
				 report.reason ? report.reason : "valid",
				 wrong ? wrong : "valid");
		*accepted += error == 0;
		schedule_report_fini(&report);
	}
	schedule_destroy(schedule);
}

static void break_everywhere(const char *name, unsigned ranks, unsigned count,
			     bool lowered, unsigned *accepted)
{
	struct schedule *whole = fresh(name, ranks, count, lowered);

	for (unsigned rank = 0; rank < ranks; rank++)
		for (size_t i = 0; i < whole->rows[rank].count; i++) {
			for (unsigned how = 0; how < BREAK_COUNT; how++) {
				struct schedule *broken =
					fresh(name, ranks, count, lowered);

				break_action(broken, rank, i, how);
				expect_refused(broken, name);
			}
			if (i + 1 < whole->rows[rank].count)
				check_exchanged(
					fresh(name, ranks, count, lowered),
					rank, i, accepted);
		}
	schedule_destroy(whole);
}

static void test_every_break(void **state)
{
	static const unsigned sizes[][2] = {{2, 4}, {3, 6}, {4, 8}};
	unsigned accepted = 0;

	(void)state;
	for (size_t k = 0; k < schedule_kind_count(); k++)
		for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
			for (int lowered = 0; lowered < 2; lowered++)
				break_everywhere(schedule_kind_at(k)->name,
						 sizes[i][0], sizes[i][1],
						 lowered, &accepted);
	/* Both verdicts were put to the test. */
	assert_true(accepted > 100);
}

/* One posted receive too few, wherever one is needed. */
static void test_one_receive_too_few(void **state)
{
	unsigned refused = 0;

	(void)state;
	for (size_t k = 0; k < schedule_kind_count(); k++)
		for (unsigned ranks = 2; ranks <= 6; ranks++) {
			struct schedule *schedule =
				fresh(schedule_kind_at(k)->name, ranks,
				      3 * ranks, false);
			struct schedule_report report;
			struct schedule_report fewer;

			assert_int_equal(
				schedule_validate(schedule, ANY, &report), 0);
			assert_int_equal(schedule_validate(schedule,
							   report.buffers_safe,
							   &fewer),
					 0);
			schedule_report_fini(&fewer);
			if (report.buffers_safe > 0) {
				refused++;
				assert_int_equal(
					schedule_validate(schedule,
							  report.buffers_safe -
								  1,
							  &fewer),
					-EINVAL);
				assert_non_null(
					strstr(fewer.reason, "deadlock with "));
				assert_non_null(strstr(fewer.reason,
						       "and so back to rank "));
				schedule_report_fini(&fewer);
			}
			schedule_report_fini(&report);
			schedule_destroy(schedule);
		}
	assert_true(refused > 20);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_corpus),
		cmocka_unit_test(test_mended),
		cmocka_unit_test(test_bits),
		cmocka_unit_test(test_peaks),
		cmocka_unit_test(test_shuffled),
		cmocka_unit_test(test_every_break),
		cmocka_unit_test(test_one_receive_too_few),
	};

	log_silence();
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("validator", tests, NULL, NULL);
}
