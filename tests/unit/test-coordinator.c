/* The coordinator against ranks that the test plays itself. */
#include "base/clock.h"
#include "base/log.h"
#include "engine/control.h"
#include "engine/coordinator.h"
#include "engine/cores.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define RANKS     3
#define SETTLE_NS (60 * NS_PER_MS)

struct play {
	struct coordinator *coordinator;
	struct cores_plan cores;
	struct control_channel rank[RANKS];
	json_t *job;
	unsigned events;
};

static void count_event(void *argument, unsigned rank, const json_t *event)
{
	struct play *play = argument;

	(void)rank;
	assert_true(json_is_object(event));
	play->events++;
}

static void open_play(struct play *play)
{
	struct coordinator_config config = {
		.size = RANKS,
		.transport = "tcp",
		.io = "auto",
		.cores = &play->cores,
		.start_timeout_ns = 400 * NS_PER_MS,
		.settle_ns = SETTLE_NS,
		.event = count_event,
		.argument = play,
	};

	memset(play, 0, sizeof(*play));
	play->job = json_pack("{s:s}", "work", "test");
	config.job = play->job;
	assert_int_equal(cores_divide(NULL, 0, RANKS, 1, false, &play->cores),
			 0);
	assert_int_equal(coordinator_create(&config, &play->coordinator), 0);
	for (unsigned i = 0; i < RANKS; i++) {
		char name[32];
		int fds[2];

		snprintf(name, sizeof(name), "rank %u (pid %u)", i, 100 + i);
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
		assert_int_equal(
			coordinator_add(play->coordinator, i, fds[0], name), 0);
		assert_int_equal(control_channel_init(&play->rank[i], fds[1],
						      1 << 20, 1 << 20, false),
				 0);
	}
}

static void close_play(struct play *play)
{
	for (unsigned i = 0; i < RANKS; i++)
		control_channel_fini(&play->rank[i]);
	coordinator_destroy(play->coordinator);
	cores_plan_fini(&play->cores);
	json_decref(play->job);
}

static void turn(struct play *play, int64_t duration_ns)
{
	int64_t end_ns = clock_now_ns() + duration_ns;

	do {
		assert_int_equal(
			coordinator_poll(play->coordinator, NULL, 0, end_ns),
			0);
	} while (clock_now_ns() < end_ns);
}

static void say(struct play *play, unsigned rank, enum control_kind kind,
		json_t *message)
{
	assert_int_equal(control_queue(&play->rank[rank], kind, message), 0);
	assert_int_equal(control_flush(&play->rank[rank]), 0);
	turn(play, 0);
}

static void say_hello(struct play *play, unsigned rank, const char *numerics)
{
	say(play, rank, CONTROL_HELLO,
	    json_pack("{s:i, s:i, s:s, s:s}", "version", CONTROL_VERSION, "pid",
		      1, "host", "here", "numerics", numerics));
}

/* The next message of `kind` that the rank has been sent; NULL if none. */
static json_t *heard(struct play *play, unsigned rank, enum control_kind want)
{
	enum control_kind kind;
	json_t *message;

	while (control_fill(&play->rank[rank]) > 0)
		;
	while (control_next(&play->rank[rank], "test", &kind, &message) > 0) {
		if (kind == want)
			return message;
		json_decref(message);
	}
	return NULL;
}

static void assert_heard(struct play *play, unsigned rank,
			 enum control_kind want)
{
	json_t *message = heard(play, rank, want);

	assert_non_null(message);
	json_decref(message);
}

static void start(struct play *play)
{
	open_play(play);
	for (unsigned i = 0; i < RANKS; i++)
		say_hello(play, i, "same");
	for (unsigned i = 0; i < RANKS; i++)
		assert_heard(play, i, CONTROL_WELCOME);
}

static void assert_aborted(struct play *play, int rank, const char *words)
{
	const char *reason;
	int who;

	assert_int_equal(coordinator_state(play->coordinator),
			 COORDINATOR_ABORTED);
	assert_true(coordinator_failure(play->coordinator, &who, &reason) < 0);
	if (who != rank || !strstr(reason, words))
		fail_msg("blamed %d: %s", who, reason);
}

static void fail_rank(struct play *play, unsigned rank, int code,
		      const char *message)
{
	say(play, rank, CONTROL_FAILED,
	    json_pack("{s:i, s:i, s:s}", "code", code, "step", 12, "message",
		      message));
}

static void welcomes_and_ends(void **state)
{
	struct play play;

	(void)state;
	open_play(&play);
	for (unsigned i = 0; i < RANKS; i++) {
		json_t *welcome;
		int number, size;
		const char *work;

		say_hello(&play, i, "same");
		welcome = heard(&play, i, CONTROL_WELCOME);
		assert_non_null(welcome);
		assert_int_equal(json_unpack(welcome, "{s:i, s:i, s:{s:s}}",
					     "rank", &number, "size", &size,
					     "job", "work", &work),
				 0);
		assert_int_equal(number, i);
		assert_int_equal(size, RANKS);
		json_decref(welcome);
	}
	say(&play, 1, CONTROL_EVENT,
	    json_pack("{s:{s:i}}", "event", "step", 5));
	assert_int_equal(play.events, 1);
	assert_int_equal(coordinator_last_step(play.coordinator, 1), 5);
	say(&play, 1, CONTROL_PROGRESS,
	    json_pack("{s:i, s:s}", "step", 7, "action", "0F1"));
	assert_int_equal(coordinator_last_step(play.coordinator, 1), 7);
	for (unsigned i = 0; i < RANKS; i++) {
		assert_null(heard(&play, 0, CONTROL_BYE));
		say(&play, i, CONTROL_DONE,
		    json_pack("{s:{s:i}}", "result", "rank", i));
	}
	assert_int_equal(coordinator_state(play.coordinator), COORDINATOR_DONE);
	for (unsigned i = 0; i < RANKS; i++) {
		assert_heard(&play, i, CONTROL_BYE);
		coordinator_rank_ended(play.coordinator, i, NULL);
	}
	assert_int_equal(coordinator_state(play.coordinator), COORDINATOR_DONE);
	assert_non_null(coordinator_result(play.coordinator, 2));
	close_play(&play);
}

static void gathers_in_order(void **state)
{
	struct play play;

	(void)state;
	start(&play);
	for (int round = 0; round < 3; round++) {
		for (int i = RANKS - 1; i >= 0; i--) {
			assert_null(heard(&play, 2, CONTROL_GATHERED));
			say(&play, (unsigned)i, CONTROL_GATHER,
			    json_pack("{s:i, s:i}", "round", round, "value",
				      10 * round + i));
		}
		for (unsigned i = 0; i < RANKS; i++) {
			json_t *got = heard(&play, i, CONTROL_GATHERED);
			json_t *values = json_object_get(got, "values");

			assert_int_equal(json_array_size(values), RANKS);
			for (unsigned j = 0; j < RANKS; j++)
				assert_int_equal(
					json_integer_value(
						json_array_get(values, j)),
					10 * round + (int)j);
			json_decref(got);
		}
	}
	say(&play, 0, CONTROL_GATHER, json_pack("{s:i}", "round", 7));
	turn(&play, 2 * SETTLE_NS);
	assert_aborted(&play, 0, "barrier 7");
	close_play(&play);
}

static void numerics_are_compared(void **state)
{
	struct play play;

	(void)state;
	open_play(&play);
	say_hello(&play, 0, "haswell");
	say_hello(&play, 2, "skylake");
	turn(&play, 2 * SETTLE_NS);
	assert_aborted(&play, 2, "computes differently");
	assert_heard(&play, 0, CONTROL_ABORT);
	close_play(&play);
}

static void hello_has_a_deadline(void **state)
{
	struct play play;

	(void)state;
	open_play(&play);
	say_hello(&play, 0, "");
	say_hello(&play, 2, "");
	turn(&play, 600 * NS_PER_MS);
	assert_aborted(&play, 1, "did not say hello");
	close_play(&play);
}

/* Neighbours report broken links first; then the dead rank is found. */
static void death_outranks_links(void **state)
{
	struct play play;

	(void)state;
	start(&play);
	fail_rank(&play, 0, -ECONNRESET, "link to rank 1 was reset");
	assert_int_equal(coordinator_state(play.coordinator),
			 COORDINATOR_FAILING);
	control_channel_fini(&play.rank[1]);
	turn(&play, 5 * NS_PER_MS);
	assert_int_equal(coordinator_state(play.coordinator),
			 COORDINATOR_FAILING);
	coordinator_rank_ended(play.coordinator, 1,
			       "was killed by signal 9 (Killed)");
	assert_aborted(&play, 1, "rank 1 (pid 101) was killed by signal 9");
	assert_heard(&play, 2, CONTROL_ABORT);
	close_play(&play);
}

static void own_failure_outranks_links(void **state)
{
	struct play play;

	(void)state;
	start(&play);
	fail_rank(&play, 0, -EPIPE, "link");
	fail_rank(&play, 2, -ENOSPC, "the disk is full");
	turn(&play, 2 * SETTLE_NS);
	assert_aborted(&play, 2, "failed at step 12 on here: the disk is full");
	close_play(&play);
}

static void first_failure_wins_among_equals(void **state)
{
	struct play play;

	(void)state;
	start(&play);
	fail_rank(&play, 1, -EIO, "first");
	fail_rank(&play, 2, -EIO, "second");
	turn(&play, 2 * SETTLE_NS);
	assert_aborted(&play, 1, "first");
	close_play(&play);
}

/* Where nobody can tell how a rank ended, its socket does. */
static void closed_socket_is_enough(void **state)
{
	struct play play;

	(void)state;
	start(&play);
	control_channel_fini(&play.rank[2]);
	turn(&play, 2 * SETTLE_NS);
	assert_aborted(&play, 2, "closed its control connection");
	close_play(&play);
}

/* Its last words count although its end is heard of first. */
static void last_words_are_read(void **state)
{
	struct play play;

	(void)state;
	start(&play);
	assert_int_equal(control_queue(&play.rank[1], CONTROL_FAILED,
				       json_pack("{s:i, s:s}", "code", -EIO,
						 "message", "my own fault")),
			 0);
	assert_int_equal(control_flush(&play.rank[1]), 0);
	control_channel_fini(&play.rank[1]);
	coordinator_rank_ended(play.coordinator, 1, "ended with status 1");
	turn(&play, 2 * SETTLE_NS);
	assert_aborted(&play, 1, "my own fault");
	close_play(&play);
}

static void damaged_streams_are_told(void **state)
{
	static const unsigned char huge[] = {0xff, 0xff, 0xff, 0xff};
	static const unsigned char junk[] = {2, 0, 0, 0, '{', 'x'};
	struct play play;

	(void)state;
	start(&play);
	assert_int_equal(send(play.rank[1].fd, huge, 4, 0), 4);
	turn(&play, 2 * SETTLE_NS);
	assert_aborted(&play, 1, "broke the control protocol");
	close_play(&play);
	start(&play);
	assert_int_equal(send(play.rank[2].fd, junk, 6, 0), 6);
	turn(&play, 2 * SETTLE_NS);
	assert_aborted(&play, 2, "broke the control protocol");
	close_play(&play);
	open_play(&play);
	say(&play, 0, CONTROL_DONE, json_object());
	turn(&play, 2 * SETTLE_NS);
	assert_aborted(&play, 0, "before hello");
	close_play(&play);
}

static void wrong_messages_are_refused(void **state)
{
	static const enum control_kind wrong[] = {
		CONTROL_HELLO,    CONTROL_WELCOME, CONTROL_EVENT,
		CONTROL_GATHERED, CONTROL_ABORT,   CONTROL_BYE,
		CONTROL_FAILED,   CONTROL_GATHER,
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		struct play play;

		start(&play);
		say(&play, 1, wrong[i], json_object());
		turn(&play, 2 * SETTLE_NS);
		assert_aborted(&play, 1, "broke the control protocol");
		close_play(&play);
	}
}

static void leaving_a_barrier_is_no_hang(void **state)
{
	struct play play;

	(void)state;
	start(&play);
	say(&play, 0, CONTROL_GATHER, json_pack("{s:i}", "round", 0));
	say(&play, 1, CONTROL_DONE, json_object());
	turn(&play, 2 * SETTLE_NS);
	assert_aborted(&play, 1, "has finished while rank 0");
	close_play(&play);
}

static void stop_reaches_late_ranks_too(void **state)
{
	struct play play;

	(void)state;
	open_play(&play);
	say_hello(&play, 0, "");
	say(&play, 0, CONTROL_STOP, json_pack("{s:i}", "signal", 15));
	assert_true(coordinator_stop_requested(play.coordinator));
	assert_heard(&play, 0, CONTROL_STOP);
	say_hello(&play, 1, "");
	assert_heard(&play, 1, CONTROL_STOP);
	close_play(&play);
}

static void bad_end_after_done_is_a_failure(void **state)
{
	struct play play;

	(void)state;
	start(&play);
	for (unsigned i = 0; i < RANKS; i++)
		say(&play, i, CONTROL_DONE, json_object());
	coordinator_rank_ended(play.coordinator, 1, "ended with status 23");
	assert_aborted(&play, 1, "ended with status 23");
	close_play(&play);
}

static void quiet(void *argument, enum log_level level, const char *line)
{
	(void)argument;
	(void)level;
	(void)line;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(welcomes_and_ends),
		cmocka_unit_test(gathers_in_order),
		cmocka_unit_test(numerics_are_compared),
		cmocka_unit_test(hello_has_a_deadline),
		cmocka_unit_test(death_outranks_links),
		cmocka_unit_test(own_failure_outranks_links),
		cmocka_unit_test(first_failure_wins_among_equals),
		cmocka_unit_test(closed_socket_is_enough),
		cmocka_unit_test(last_words_are_read),
		cmocka_unit_test(damaged_streams_are_told),
		cmocka_unit_test(wrong_messages_are_refused),
		cmocka_unit_test(leaving_a_barrier_is_no_hang),
		cmocka_unit_test(stop_reaches_late_ranks_too),
		cmocka_unit_test(bad_end_after_done_is_a_failure),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	log_set_sink(quiet, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
