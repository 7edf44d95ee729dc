/*
 * A control connection over a network that goes silent: the real coordinator
 * and a rank that is a thread, on a TCP connection to one end of which, or both,
 * no packet comes any more (a socket filter drops them).
 */
#include "base/clock.h"
#include "base/log.h"
#include "engine/control.h"
#include "engine/coordinator.h"
#include "engine/cores.h"
#include "engine/liveness.h"
#include "engine/world.h"
#include <errno.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define SILENCE_NS (1500 * NS_PER_MS)
#define LATEST_NS  (SILENCE_NS + NS_PER_SECOND)

struct play {
	struct coordinator *coordinator;
	struct cores_plan cores;
	json_t *job;
	int rank_fd, coordinator_fd;
	pthread_t thread;
	_Atomic bool ended;
	int result;
	char log[8192];
	pthread_mutex_t lock;
};

static void keep_log(void *argument, enum log_level level, const char *line)
{
	struct play *play = argument;
	size_t used;

	(void)level;
	pthread_mutex_lock(&play->lock);
	used = strlen(play->log);
	snprintf(play->log + used, sizeof(play->log) - used, "%s\n", line);
	pthread_mutex_unlock(&play->lock);
}

/* Works until it is told not to. */
static int work(struct world *world)
{
	int64_t step = 0;

	while (world_check(world) == 0) {
		world_note_progress(world, step++, 0);
		clock_sleep_ns(10 * NS_PER_MS);
	}
	return -ECANCELED;
}

static void *rank_thread(void *argument)
{
	struct play *play = argument;

	play->result = world_thread_main(play->rank_fd, "same", work, NULL);
	play->ended = true;
	return NULL;
}

static void connect_both(struct play *play)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	socklen_t length = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(listener >= 0);
	assert_int_equal(bind(listener, (void *)&address, length), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (void *)&address, &length), 0);
	play->rank_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(play->rank_fd, (void *)&address, length), 0);
	play->coordinator_fd = accept(listener, NULL, NULL);
	assert_true(play->coordinator_fd >= 0);
	close(listener);
}

/* Polls until the job is over, and the rank with it; or for so long. */
static void turn(struct play *play, int64_t duration_ns)
{
	int64_t end_ns = clock_now_ns() + duration_ns;

	while (clock_now_ns() < end_ns) {
		if (play->ended &&
		    coordinator_state(play->coordinator) == COORDINATOR_ABORTED)
			return;
		assert_int_equal(
			coordinator_poll(
				play->coordinator, NULL, 0,
				MIN(end_ns, clock_now_ns() + 20 * NS_PER_MS)),
			0);
	}
}

static void open_play(struct play *play)
{
	struct coordinator_config config = {
		.size = 1,
		.transport = "tcp",
		.io = "auto",
		.cores = &play->cores,
		.start_timeout_ns = 5 * NS_PER_SECOND,
		.settle_ns = 100 * NS_PER_MS,
		.silence_ns = SILENCE_NS,
		.stall_ns = LIVENESS_STALL_AUTO,
	};

	memset(play, 0, sizeof(*play));
	pthread_mutex_init(&play->lock, NULL);
	log_set_sink(keep_log, play);
	play->job = json_pack("{s:s}", "work", "test");
	config.job = play->job;
	connect_both(play);
	assert_int_equal(cores_divide(NULL, 0, 1, 1, false, &play->cores), 0);
	assert_int_equal(coordinator_create(&config, &play->coordinator), 0);
	assert_int_equal(coordinator_add(play->coordinator, 0,
					 play->coordinator_fd, "rank 0"),
			 0);
	assert_int_equal(pthread_create(&play->thread, NULL, rank_thread, play),
			 0);
	/* Longer than a silence: both beats are needed, and come. */
	turn(play, 2 * SILENCE_NS);
	assert_false(play->ended);
	assert_int_equal(coordinator_state(play->coordinator),
			 COORDINATOR_RUNNING);
}

static void close_play(struct play *play)
{
	pthread_join(play->thread, NULL);
	coordinator_destroy(play->coordinator);
	cores_plan_fini(&play->cores);
	json_decref(play->job);
	log_set_sink(NULL, NULL);
	pthread_mutex_destroy(&play->lock);
}

static void deafen(int fd)
{
	struct sock_filter code[] = {BPF_STMT(BPF_RET | BPF_K, 0)};
	struct sock_fprog program = {.len = 1, .filter = code};

	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program,
				    sizeof(program)),
			 0);
}

static void assert_over(struct play *play, const char *words)
{
	int64_t begin_ns = clock_now_ns();
	const char *reason;
	int rank;

	turn(play, 10 * NS_PER_SECOND);
	assert_true(clock_now_ns() - begin_ns < LATEST_NS);
	assert_true(play->ended);
	assert_true(play->result < 0);
	assert_int_equal(coordinator_state(play->coordinator),
			 COORDINATOR_ABORTED);
	assert_true(coordinator_failure(play->coordinator, &rank, &reason) < 0);
	assert_int_equal(rank, 0);
	if (!strstr(reason, words))
		fail_msg("blamed: %s\nlog: %s", reason, play->log);
}

/* Each end misses the other. */
static void cut_both_ways(void **state)
{
	struct play play;

	(void)state;
	open_play(&play);
	deafen(play.rank_fd);
	deafen(play.coordinator_fd);
	assert_over(&play, "gives no sign of life for");
	assert_non_null(
		strstr(play.log, "no sign of life from the coordinator for"));
	close_play(&play);
}

/*
 * One way is enough: what is not acknowledged is soon not sent any more. The
 * rank hears nothing; the coordinator may hear it say so, or miss it.
 */
static void the_rank_is_deaf(void **state)
{
	struct play play;

	(void)state;
	open_play(&play);
	deafen(play.rank_fd);
	assert_over(&play, "no sign of life ");
	assert_non_null(
		strstr(play.log, "no sign of life from the coordinator for"));
	close_play(&play);
}

/* The coordinator hears nothing, and cannot tell the rank for long. */
static void the_coordinator_is_deaf(void **state)
{
	struct play play;

	(void)state;
	open_play(&play);
	deafen(play.coordinator_fd);
	assert_over(&play, "gives no sign of life for");
	close_play(&play);
}

/*
 * A coordinator that is stopped for a while, as its host answers: the rank is
 * patient, and the coordinator blames nobody for what it did not see.
 */
static void a_stopped_coordinator_goes_on(void **state)
{
	struct play play;

	(void)state;
	open_play(&play);
	clock_sleep_ns(3 * SILENCE_NS);
	assert_false(play.ended);
	turn(&play, 2 * SILENCE_NS);
	assert_false(play.ended);
	assert_int_equal(coordinator_state(play.coordinator),
			 COORDINATOR_RUNNING);
	coordinator_abort(play.coordinator, -EINTR, "enough");
	turn(&play, NS_PER_SECOND);
	assert_true(play.ended);
	close_play(&play);
}

/* They wait for most of their time, so all of them run at once. */
int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(cut_both_ways),
		cmocka_unit_test(the_rank_is_deaf),
		cmocka_unit_test(the_coordinator_is_deaf),
		cmocka_unit_test(a_stopped_coordinator_goes_on),
	};
	pid_t pids[ARRAY_SIZE(tests)];
	int failures = 0, status;

	printf("1..%zu\n", ARRAY_SIZE(tests));
	fflush(stdout);
	for (size_t i = 0; i < ARRAY_SIZE(tests); i++) {
		pids[i] = fork();
		if (pids[i] == 0) {
			const struct CMUnitTest one[] = {tests[i]};

			dup2(STDERR_FILENO, STDOUT_FILENO);
			_exit(cmocka_run_group_tests(one, NULL, NULL) != 0);
		}
	}
	for (size_t i = 0; i < ARRAY_SIZE(tests); i++) {
		status = pids[i] > 0 && waitpid(pids[i], &status, 0) == pids[i]
				 ? status
				 : -1;
		failures += status != 0;
		printf("%sok %zu - %s\n", status ? "not " : "", i + 1,
		       tests[i].name);
	}
	return failures != 0;
}
