/*
 * Every generated schedule over many sizes: valid, run by brute force with the
 * buffers the validator names, at the memory the formulas promise, and the
 * same again after a trip through text.
 */
#include "tests/schedules/support.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_RANKS         16
#define MOST_MICRO_BATCHES 64
#define MOST_CHUNKS        4

/* Peaks of rank r in micro-batches through one stage. */
struct property {
	const char *name;
	unsigned (*peak)(unsigned p, unsigned r, unsigned m, unsigned v);
	bool bound;         /* at most, not exactly */
	bool exact_from_2p; /* exactly from M = 2P - 1 on, below at most */
};

/* Micro-batches a round: P, or about P where M is no multiple. */
static unsigned round_of(unsigned p, unsigned m)
{
	return m / MAX(1u, m / p);
}

static unsigned peak_all(unsigned p, unsigned r, unsigned m, unsigned v)
{
	(void)p;
	(void)r;
	return m * v;
}

static unsigned peak_1f1b(unsigned p, unsigned r, unsigned m, unsigned v)
{
	(void)v;
	return MIN(m, p - r);
}

static unsigned peak_none(unsigned p, unsigned r, unsigned m, unsigned v)
{
	(void)p;
	(void)r;
	(void)m;
	(void)v;
	return 0;
}

static unsigned peak_interleaved(unsigned p, unsigned r, unsigned m, unsigned v)
{
	return MIN(m * v, (v - 1) * round_of(p, m) + 2 * (p - 1 - r) + 1);
}

static unsigned peak_interleaved_zb(unsigned p, unsigned r, unsigned m,
				    unsigned v)
{
	(void)r;
	return MIN(m * v, (v - 1) * round_of(p, m) + p);
}

static unsigned peak_ranks(unsigned p, unsigned r, unsigned m, unsigned v)
{
	(void)r;
	return MIN(m, p) * v;
}

static unsigned peak_zb_h2(unsigned p, unsigned r, unsigned m, unsigned v)
{
	(void)r;
	(void)v;
	return m >= 2 * p - 1 ? 2 * p - 1 : MIN(m, p);
}

static unsigned peak_dualpipe_v(unsigned p, unsigned r, unsigned m, unsigned v)
{
	(void)r;
	(void)m;
	(void)v;
	return 2 * p + 1;
}

/* Bounds rather than values: half, a third, three quarters of 1F1B's. */
static unsigned peak_v_half(unsigned p, unsigned r, unsigned m, unsigned v)
{
	(void)r;
	(void)m;
	(void)v;
	return p + 2;
}

static unsigned peak_v_min(unsigned p, unsigned r, unsigned m, unsigned v)
{
	(void)r;
	(void)m;
	(void)v;
	return 2 * p / 3 + 3;
}

static unsigned peak_1f1b_v(unsigned p, unsigned r, unsigned m, unsigned v)
{
	(void)r;
	(void)m;
	(void)v;
	return 3 * p / 2 + 2;
}

static const struct property properties[] = {
	{"gpipe", peak_all, false, false},
	{"1f1b", peak_1f1b, false, false},
	{"forward", peak_none, false, false},
	{"interleaved", peak_interleaved, false, false},
	{"looped-bfs", peak_all, false, false},
	{"zb-h1", peak_ranks, false, false},
	{"zb-h2", peak_zb_h2, false, false},
	{"interleaved-zb", peak_interleaved_zb, false, false},
	{"zb-v", peak_ranks, false, true},
	{"dualpipe-v", peak_dualpipe_v, false, false},
	{"v-half", peak_v_half, true, false},
	{"v-min", peak_v_min, true, false},
	{"1f1b-v", peak_1f1b_v, true, false},
};

static void check_round_trip(const struct schedule *schedule)
{
	char *text = schedule_text(schedule);
	struct schedule *again;

	assert_non_null(text);
	again = schedule_from(text);
	assert_rows_equal(again, schedule);
	assert_int_equal(again->lowered,
			 schedule->lowered || schedule->ranks == 1);
	assert_int_equal(again->forward_only, schedule->forward_only);
	assert_int_equal(again->stages, schedule->stages);
	assert_int_equal(again->chunks, schedule->chunks);
	assert_int_equal(again->micro_batches, schedule->micro_batches);
	schedule_destroy(again);
	free(text);
}

static bool fits(const char *name, unsigned p, unsigned m, unsigned v)
{
	char why[160] = "";

	if (schedule_kind_check(schedule_kind_find(name), p, m, v, why,
				sizeof(why)) == 0)
		return true;
	assert_true(why[0] != '\0');
	/* Not cut short. */
	assert_true(strlen(why) < sizeof(why) - 1);
	return false;
}

static void check_peaks(const struct property *property,
			const struct schedule_report *report, unsigned p,
			unsigned m, unsigned v)
{
	bool bound =
		property->bound || (property->exact_from_2p && m < 2 * p - 1);

	for (unsigned rank = 0; rank < p; rank++) {
		unsigned want = property->peak(p, rank, m, v);
		unsigned got = report->peak_of_rank[rank];

		if (bound ? got > want : got != want)
			fail_msg("%s P=%u M=%u V=%u rank %u: peak %u, not %u",
				 property->name, p, m, v, rank, got, want);
	}
}

/* Brute force and text take their time: all of the small, some of the large. */
static bool is_sample(unsigned p, unsigned m, unsigned v)
{
	return p * m * v <= 60 || (p * 31 + m * 7 + v) % 61 == 0;
}

static void check_one(const struct property *property, unsigned p, unsigned m,
		      unsigned v)
{
	const struct schedule_tie tie = {0, (uint16_t)(p * v - 1)};
	struct schedule_lowering options = {
		.ties = &tie, .tie_count = 1, .train = true};
	struct schedule_report report;
	struct schedule *schedule = NULL;
	struct schedule *lowered = NULL;

	assert_int_equal(schedule_generate(property->name, p, m, v, &schedule),
			 0);
	assert_int_equal(schedule_lower(schedule, &options, &lowered), 0);
	if (schedule_validate(lowered, SCHEDULE_BUFFERS_ANY, &report))
		fail_msg("%s P=%u M=%u V=%u: %s", property->name, p, m, v,
			 report.reason);
	assert_true(report.bit_identical);
	check_peaks(property, &report, p, m, v);
	if (is_sample(p, m, v)) {
		uint64_t seed = p * 1000 + m;

		assert_null(brute_force(lowered, report.buffers_safe, seed));
		if (report.buffers_safe > 0)
			assert_non_null(brute_force(
				lowered, report.buffers_safe - 1, seed));
		check_round_trip(schedule);
		check_round_trip(lowered);
	}
	schedule_report_fini(&report);
	schedule_destroy(lowered);
	schedule_destroy(schedule);
}

static void test_all_sizes(void **state)
{
	(void)state;
	assert_int_equal(ARRAY_SIZE(properties), schedule_kind_count());
	for (size_t i = 0; i < ARRAY_SIZE(properties); i++)
		for (unsigned p = 1; p <= MOST_RANKS; p++)
			for (unsigned m = 1; m <= MOST_MICRO_BATCHES; m++)
				for (unsigned v = 1; v <= MOST_CHUNKS; v++)
					if (fits(properties[i].name, p, m, v))
						check_one(&properties[i], p, m,
							  v);
}

/* The rules of PyTorch's generators, and of those it lacks. */
static bool should_fit(const char *name, unsigned p, unsigned m, unsigned v)
{
	static const char *const single[] = {"gpipe", "1f1b", "zb-h1", "zb-h2"};
	static const char *const two[] = {"zb-v", "v-half", "v-min", "1f1b-v"};

	for (size_t i = 0; i < ARRAY_SIZE(single); i++)
		if (strcmp(name, single[i]) == 0)
			return v == 1;
	for (size_t i = 0; i < ARRAY_SIZE(two); i++)
		if (strcmp(name, two[i]) == 0)
			return v == 2;
	if (strcmp(name, "dualpipe-v") == 0)
		return v == 2 && m >= 2 * p;
	if (strncmp(name, "interleaved", 11) == 0)
		return m % MAX(1u, m / p) == 0;
	return true; /* looped-bfs, forward */
}

/* A refusal of M names the nearest that fit; here, from its text. */
static void check_nearest(const char *name, unsigned p, unsigned m, unsigned v)
{
	unsigned below;
	unsigned above;
	const char *text = strstr(log_last_error(), "nearest that do are ");

	if (strncmp(name, "interleaved", 11) != 0)
		return;
	assert_non_null(text);
	assert_int_equal(
		sscanf(text, "nearest that do are %u and %u", &below, &above),
		2);
	assert_true(below < m && m < above);
	for (unsigned other = below; other <= above; other++)
		assert_int_equal(should_fit(name, p, other, v),
				 other == below || other == above);
}

static void test_restrictions(void **state)
{
	(void)state;
	for (size_t i = 0; i < schedule_kind_count(); i++) {
		const char *name = schedule_kind_at(i)->name;

		for (unsigned p = 1; p <= MOST_RANKS; p++)
			for (unsigned m = 1; m <= MOST_MICRO_BATCHES; m++)
				for (unsigned v = 1; v <= MOST_CHUNKS; v++) {
					struct schedule *schedule = NULL;
					bool fit = should_fit(name, p, m, v);

					assert_int_equal(fits(name, p, m, v),
							 fit);
					if (fit)
						continue;
					assert_int_equal(
						schedule_generate(name, p, m, v,
								  &schedule),
						-EINVAL);
					check_nearest(name, p, m, v);
				}
	}
}

static unsigned count_op(const struct schedule *schedule, unsigned rank,
			 unsigned op)
{
	unsigned count = 0;

	for (size_t i = 0; i < schedule->rows[rank].count; i++)
		count += schedule->rows[rank].actions[i].op == op;
	return count;
}

/* What training adds, and where; twice is once. */
static void test_tail(void **state)
{
	const struct schedule_tie ties[] = {{0, 3}, {1, 1}};
	struct schedule_lowering options = {
		.ties = ties, .tie_count = 2, .train = true};
	struct schedule *schedule = NULL;
	struct schedule *lowered = NULL;
	struct schedule *again = NULL;
	struct schedule *messages = NULL;

	(void)state;
	assert_int_equal(schedule_generate("1f1b", 4, 8, 0, &schedule), 0);
	assert_int_equal(schedule_lower(schedule, &options, &lowered), 0);
	for (unsigned rank = 0; rank < 4; rank++) {
		const struct schedule_row *row = &lowered->rows[rank];

		assert_int_equal(count_op(lowered, rank, ACTION_REDUCE_GRAD),
				 1);
		assert_int_equal(count_op(lowered, rank, ACTION_REDUCE_TIED),
				 rank != 2);
		assert_int_equal(row->actions[row->count - 2].op, ACTION_VOTE);
		assert_int_equal(row->actions[row->count - 1].op, ACTION_STEP);
	}
	assert_int_equal(lowered->rows[1]
				 .actions[lowered->rows[1].count - 3]
				 .micro_batch,
			 1);
	assert_int_equal(schedule_lower(lowered, &options, &again), 0);
	assert_rows_equal(again, lowered);
	schedule_destroy(again);
	/* Messages first, the rest later: the same but for REDUCE_GRAD's place,
	 * which is the end of the compute here. */
	assert_int_equal(schedule_lower(schedule, NULL, &messages), 0);
	assert_int_equal(schedule_lower(messages, &options, &again), 0);
	assert_rows_equal(again, lowered);
	schedule_destroy(again);
	schedule_destroy(messages);
	schedule_destroy(lowered);
	schedule_destroy(schedule);
}

static void expect_lowered(const char *from, bool train, const char *to)
{
	struct schedule_lowering options = {.reduce = true, .train = train};
	struct schedule *schedule = schedule_from(from);
	struct schedule *want = schedule_from(to);
	struct schedule *lowered = NULL;
	struct schedule_report report;

	assert_int_equal(schedule_lower(schedule, &options, &lowered), 0);
	if (schedule_validate(lowered, SCHEDULE_BUFFERS_ANY, &report))
		fail_msg("%s: %s", from, report.reason);
	assert_rows_equal(lowered, want);
	schedule_report_fini(&report);
	schedule_destroy(lowered);
	schedule_destroy(want);
	schedule_destroy(schedule);
}

/* A schedule that has some of what is added keeps it, and gets the rest. */
static void test_partly_lowered(void **state)
{
	static const char all[] =
		"0F0,0SEND_F0,0RECV_B0,0B0,0REDUCE_GRAD,0VOTE,0STEP\n"
		"1RECV_F0,1F0,1B0,1SEND_B0,1REDUCE_GRAD,1VOTE,1STEP\n";

	(void)state;
	for (int train = 0; train < 2; train++) {
		/* a tail, but no REDUCE_GRAD before it */
		expect_lowered("0F0,0SEND_F0,0RECV_B0,0B0,0VOTE,0STEP\n"
			       "1RECV_F0,1F0,1B0,1SEND_B0,1VOTE,1STEP\n",
			       train, all);
		/* the same without messages */
		expect_lowered("0F0,0B0,0VOTE,0STEP\n1F0,1B0,1VOTE,1STEP\n",
			       train, all);
		expect_lowered("0F0,0B0,0REDUCE_GRAD,0VOTE,0STEP\n"
			       "1F0,1B0,1VOTE,1STEP\n",
			       train, all);
		expect_lowered(all, train, all);
	}
	/* REDUCE_GRAD without messages, as PyTorch tells of its GPipe */
	expect_lowered("0F0,0B0,0REDUCE_GRAD\n1F0,1B0,1REDUCE_GRAD\n", true,
		       all);
}

static void expect_refusal(const char *name, unsigned ranks, unsigned count,
			   unsigned chunks, const char *why)
{
	struct schedule *schedule = NULL;

	log_clear_last_error();
	assert_int_equal(
		schedule_generate(name, ranks, count, chunks, &schedule),
		-EINVAL);
	assert_null(schedule);
	if (strstr(log_last_error(), why) == NULL)
		fail_msg("'%s' does not say '%s'", log_last_error(), why);
}

static void test_refusals(void **state)
{
	(void)state;
	expect_refusal("1f1", 2, 4, 0, "did you mean '1f1b'?");
	expect_refusal("xyzzy", 2, 4, 0, "no schedule is called 'xyzzy'");
	expect_refusal("gpipe", 0, 4, 0, "at least 1");
	expect_refusal("gpipe", 2, 0, 0, "at least 1");
	expect_refusal("gpipe", 2, 4, 2, "one chunk a rank, not 2");
	expect_refusal("1f1b", 2, 4, 3, "one chunk a rank, not 3");
	expect_refusal("interleaved", 2, 5, 2,
		       "into 2 equal rounds; the nearest that do are 4 and 6");
	expect_refusal(
		"interleaved-zb", 5, 17, 2,
		"into 3 equal rounds; the nearest that do are 15 and 18");
	expect_refusal("zb-v", 4, 8, 1, "two chunks a rank, not 1");
	expect_refusal("zb-h1", 4, 8, 2, "one chunk a rank, not 2");
	expect_refusal("dualpipe-v", 4, 7, 2, "at least 8 micro-batches (2P)");
	expect_refusal("1f1b", 5000, 4, 0, "at most 4096 stages, not 5000");
	expect_refusal("1f1b", 2, 70000, 0, "at most 65535 micro-batches");
	expect_refusal("1f1b", 4096, 65535, 0, "too many actions");
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_sizes),
		cmocka_unit_test(test_restrictions),
		cmocka_unit_test(test_tail),
		cmocka_unit_test(test_partly_lowered),
		cmocka_unit_test(test_refusals),
	};

	log_silence();
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("properties of schedules", tests,
					   NULL, NULL);
}
