/* The detector, fed with times: nothing here waits. */
#include "base/clock.h"
#include "engine/liveness.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define RANKS      4
#define SILENCE_NS (3500 * NS_PER_MS)
#define STALL_NS   (20 * NS_PER_SECOND)

/* Ranks that beat on time, unless a test says otherwise. */
struct play {
	struct liveness *liveness;
	int64_t now_ns;
	bool mute[RANKS];
	bool works[RANKS]; /* does something all the time */
	struct liveness_state state[RANKS];
	struct liveness_verdict verdict; /* the first that is not fine */
	int64_t verdict_ns;
};

static void open_play(struct play *play, int64_t silence_ns, int64_t stall_ns)
{
	*play = (struct play){.now_ns = 1000 * NS_PER_SECOND};
	assert_int_equal(
		liveness_create(RANKS, silence_ns, stall_ns, &play->liveness),
		0);
	for (unsigned i = 0; i < RANKS; i++) {
		play->works[i] = true;
		liveness_expect(play->liveness, i, play->now_ns);
	}
}

static void close_play(struct play *play)
{
	liveness_destroy(play->liveness);
}

static void look(struct play *play)
{
	struct liveness_verdict verdict =
		liveness_look(play->liveness, play->now_ns);

	if (play->verdict.finding != LIVENESS_FINE ||
	    verdict.finding == LIVENESS_FINE)
		return;
	play->verdict = verdict;
	play->verdict_ns = play->now_ns;
}

static void pass(struct play *play, int64_t duration_ns)
{
	int64_t end_ns = play->now_ns + duration_ns;

	while (play->now_ns < end_ns) {
		play->now_ns += LIVENESS_BEAT_NS;
		for (unsigned i = 0; i < RANKS; i++) {
			play->state[i].moves += play->works[i];
			play->state[i].step += play->works[i];
			if (!play->mute[i])
				liveness_told(play->liveness, i, play->now_ns,
					      &play->state[i]);
		}
		look(play);
	}
}

static void assert_fine(const struct play *play)
{
	assert_int_equal(play->verdict.finding, LIVENESS_FINE);
}

/* Rank `rank` does nothing any more but wait for `peer`. */
static void waits_for(struct play *play, unsigned rank, unsigned peer)
{
	play->works[rank] = false;
	play->state[rank].wait = LIVENESS_WAITS_DATA;
	play->state[rank].peer = peer;
}

static void silence_is_found(void **state)
{
	struct play play;
	int64_t begin_ns;

	(void)state;
	open_play(&play, SILENCE_NS, STALL_NS);
	pass(&play, 10 * NS_PER_SECOND);
	assert_fine(&play);
	play.mute[2] = true;
	begin_ns = play.now_ns;
	pass(&play, 2 * NS_PER_SECOND);
	assert_fine(&play);
	assert_true(liveness_in_doubt(play.liveness, play.now_ns));
	pass(&play, 10 * NS_PER_SECOND);
	assert_int_equal(play.verdict.finding, LIVENESS_SILENT);
	assert_int_equal(play.verdict.rank, 2);
	assert_true(play.verdict_ns - begin_ns >= SILENCE_NS);
	assert_true(play.verdict_ns - begin_ns <=
		    SILENCE_NS + LIVENESS_BEAT_NS);
	close_play(&play);
}

static void a_late_beat_is_forgiven(void **state)
{
	struct play play;

	(void)state;
	open_play(&play, SILENCE_NS, STALL_NS);
	for (unsigned i = 0; i < 10; i++) {
		play.mute[1] = true;
		pass(&play, SILENCE_NS - LIVENESS_BEAT_NS);
		play.mute[1] = false;
		pass(&play, LIVENESS_BEAT_NS);
	}
	assert_fine(&play);
	assert_false(liveness_in_doubt(play.liveness, play.now_ns));
	close_play(&play);
}

static void silence_can_be_allowed(void **state)
{
	struct play play;

	(void)state;
	open_play(&play, 0, 0);
	play.mute[1] = true;
	pass(&play, 100 * NS_PER_SECOND);
	assert_fine(&play);
	close_play(&play);
}

/* Who has ended, or was never expected, is not missed. */
static void the_gone_are_not_missed(void **state)
{
	struct play play;

	(void)state;
	open_play(&play, SILENCE_NS, STALL_NS);
	play.mute[3] = true;
	liveness_forget(play.liveness, 3);
	pass(&play, 60 * NS_PER_SECOND);
	assert_fine(&play);
	assert_int_equal(liveness_silence_ns(play.liveness, 3, play.now_ns), 0);
	close_play(&play);
}

/* The detector was stopped, alone or with all: nobody is to blame for it. */
static void a_jump_begins_anew(void **state)
{
	struct play play;
	int64_t begin_ns;

	(void)state;
	open_play(&play, SILENCE_NS, STALL_NS);
	pass(&play, NS_PER_SECOND);
	play.now_ns += 3600 * NS_PER_SECOND;
	look(&play); /* before anyone had time to say anything */
	assert_fine(&play);
	pass(&play, 2 * NS_PER_SECOND);
	assert_fine(&play);
	/* One that did not come back is found, a whole silence later. */
	play.mute[0] = true;
	play.now_ns += 100 * NS_PER_SECOND;
	look(&play);
	begin_ns = play.now_ns;
	pass(&play, 10 * NS_PER_SECOND);
	assert_int_equal(play.verdict.finding, LIVENESS_SILENT);
	assert_true(play.verdict_ns - begin_ns >= SILENCE_NS);
	assert_true(play.verdict_ns - begin_ns <=
		    SILENCE_NS + LIVENESS_BEAT_NS);
	close_play(&play);
}

/* Everyone waits in a chain for rank 3, which computes and never ends. */
static void the_awaited_is_named(void **state)
{
	struct play play;

	(void)state;
	open_play(&play, SILENCE_NS, STALL_NS);
	pass(&play, NS_PER_SECOND);
	waits_for(&play, 0, 1);
	waits_for(&play, 1, 2);
	waits_for(&play, 2, 3);
	play.state[2].wait = LIVENESS_WAITS_ROOM;
	play.works[3] = false;
	pass(&play, STALL_NS - NS_PER_SECOND);
	assert_fine(&play);
	pass(&play, 2 * NS_PER_SECOND);
	assert_int_equal(play.verdict.finding, LIVENESS_STALLED);
	assert_int_equal(play.verdict.rank, 3);
	close_play(&play);
}

/* Waiting for long for one that gets on is no stall. */
static void waiting_for_one_that_works_is_fine(void **state)
{
	struct play play;

	(void)state;
	open_play(&play, SILENCE_NS, STALL_NS);
	waits_for(&play, 0, 1);
	waits_for(&play, 1, 2);
	play.works[3] = false;
	play.state[3].wait = LIVENESS_WAITS_ALL;
	pass(&play, 10 * STALL_NS);
	assert_fine(&play);
	close_play(&play);
}

/* A lost message: rank 1 waits for it, and its sender for an answer. */
static void a_circle_is_found(void **state)
{
	struct play play;

	(void)state;
	open_play(&play, SILENCE_NS, STALL_NS);
	waits_for(&play, 0, 1);
	waits_for(&play, 1, 2);
	waits_for(&play, 2, 1);
	waits_for(&play, 3, 0);
	pass(&play, 2 * STALL_NS);
	assert_int_equal(play.verdict.finding, LIVENESS_CIRCLE);
	assert_true(play.verdict.rank == 1 || play.verdict.rank == 2);
	assert_int_equal(play.verdict.peer, 3 - play.verdict.rank);
	close_play(&play);
}

/* A barrier: who has not come is named; who waits for the gone is, too. */
static void barriers_are_followed(void **state)
{
	struct play play;

	(void)state;
	open_play(&play, SILENCE_NS, STALL_NS);
	for (unsigned i = 0; i < RANKS; i++) {
		play.works[i] = false;
		if (i != 2)
			play.state[i].wait = LIVENESS_WAITS_ALL;
	}
	pass(&play, 2 * STALL_NS);
	assert_int_equal(play.verdict.finding, LIVENESS_STALLED);
	assert_int_equal(play.verdict.rank, 2);
	close_play(&play);

	open_play(&play, SILENCE_NS, STALL_NS);
	waits_for(&play, 0, 1);
	liveness_forget(play.liveness, 1);
	pass(&play, 2 * STALL_NS);
	assert_int_equal(play.verdict.finding, LIVENESS_CIRCLE);
	assert_int_equal(play.verdict.rank, 0);
	assert_int_equal(play.verdict.peer, 1);
	close_play(&play);
}

/* The limit learns what a long action is; files may take longer still. */
static void the_limit_follows_the_actions(void **state)
{
	struct play play;

	(void)state;
	open_play(&play, SILENCE_NS, LIVENESS_STALL_AUTO);
	play.works[1] = false; /* 20 s for one action */
	pass(&play, 20 * NS_PER_SECOND);
	play.works[1] = true;
	pass(&play, NS_PER_SECOND);
	play.works[1] = false;
	pass(&play, 190 * NS_PER_SECOND);
	assert_fine(&play);
	pass(&play, 30 * NS_PER_SECOND);
	assert_int_equal(play.verdict.finding, LIVENESS_STALLED);
	assert_int_equal(play.verdict.rank, 1);
	assert_true(play.verdict.limit_ns >= 195 * NS_PER_SECOND);
	close_play(&play);

	open_play(&play, SILENCE_NS, LIVENESS_STALL_AUTO);
	play.works[1] = false;
	play.state[1].between = true;
	pass(&play, LIVENESS_STALL_UNKNOWN_MIN_NS - 10 * NS_PER_SECOND);
	assert_fine(&play);
	pass(&play, 20 * NS_PER_SECOND);
	assert_int_equal(play.verdict.finding, LIVENESS_STALLED);
	close_play(&play);

	open_play(&play, SILENCE_NS, LIVENESS_STALL_AUTO);
	pass(&play, NS_PER_SECOND);
	play.works[1] = false;
	pass(&play, LIVENESS_STALL_MIN_NS - NS_PER_SECOND);
	assert_fine(&play);
	pass(&play, 2 * NS_PER_SECOND);
	assert_int_equal(play.verdict.finding, LIVENESS_STALLED);
	close_play(&play);

	/* In its first step nobody knows yet what is long. */
	open_play(&play, SILENCE_NS, LIVENESS_STALL_AUTO);
	play.works[1] = false;
	pass(&play, 5 * LIVENESS_STALL_MIN_NS);
	assert_fine(&play);
	close_play(&play);
}

/* What ranks say about each other is not to be trusted blindly. */
static void nonsense_is_harmless(void **state)
{
	struct play play;

	(void)state;
	open_play(&play, SILENCE_NS, STALL_NS);
	waits_for(&play, 0, 0);
	waits_for(&play, 1, 4000000000u);
	pass(&play, 2 * STALL_NS);
	assert_int_equal(play.verdict.finding, LIVENESS_STALLED);
	assert_int_equal(play.verdict.rank, 0);
	close_play(&play);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(silence_is_found),
		cmocka_unit_test(a_late_beat_is_forgiven),
		cmocka_unit_test(silence_can_be_allowed),
		cmocka_unit_test(the_gone_are_not_missed),
		cmocka_unit_test(a_jump_begins_anew),
		cmocka_unit_test(the_awaited_is_named),
		cmocka_unit_test(waiting_for_one_that_works_is_fine),
		cmocka_unit_test(a_circle_is_found),
		cmocka_unit_test(barriers_are_followed),
		cmocka_unit_test(the_limit_follows_the_actions),
		cmocka_unit_test(nonsense_is_harmless),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
