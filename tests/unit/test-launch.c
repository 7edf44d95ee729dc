/* Launch and supervision, with ranks as processes and as threads. */
#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "engine/launch.h"
#include "world-work.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define RANKS        3
#define GONE_NS      (2 * NS_PER_SECOND)
#define HEARTBEAT_NS (1200 * NS_PER_MS)
#define THREADS      true
#define PROCESSES    false

/* What happens to a running job, from its event function. */
enum act {
	ACT_NONE,
	ACT_SIGNAL_SELF,
	ACT_SIGNAL_SELF_TWICE,
	ACT_SIGNAL_RANK,
	ACT_STOP_FUNCTION,
};

struct run {
	enum act act;
	int number;
	unsigned rank; /* whose event it waits for, and who is signalled */
	int64_t step;  /* at which event */
	bool acted;
	int64_t acted_ns;
	pid_t pid[RANKS];
	unsigned events;
	int report_fd;                  /* writes pids there */
	int64_t heartbeat_ns, stall_ns; /* as in struct launch */
	struct launch_result result;
	int64_t duration_ns, gone_ns;
	char log[4096];
};

static char rank_program[4096];

static void keep_log(void *argument, enum log_level level, const char *line)
{
	struct run *run = argument;
	size_t used = strlen(run->log);

	(void)level;
	snprintf(run->log + used, sizeof(run->log) - used, "%s\n", line);
}

static void act(struct run *run)
{
	run->acted = true;
	run->acted_ns = clock_now_ns();
	switch (run->act) {
	case ACT_SIGNAL_SELF_TWICE:
		kill(getpid(), run->number);
		/* fall through */
	case ACT_SIGNAL_SELF:
		kill(getpid(), run->number);
		break;
	case ACT_SIGNAL_RANK:
		kill(run->pid[run->rank], run->number);
		break;
	case ACT_NONE:
	case ACT_STOP_FUNCTION:
		break;
	}
}

static void take_event(void *argument, unsigned rank, const json_t *event)
{
	const json_t *pid = json_object_get(event, "pid");
	const json_t *step = json_object_get(event, "step");
	struct run *run = argument;

	run->events++;
	if (pid)
		run->pid[rank] = (pid_t)json_integer_value(pid);
	if (pid && run->report_fd > 0 &&
	    write(run->report_fd, &run->pid[rank], sizeof(pid_t)) < 0)
		_exit(9);
	if (step && rank == run->rank && !run->acted && run->act &&
	    json_integer_value(step) >= run->step)
		act(run);
}

static bool wants_stop(void *argument)
{
	const struct run *run = argument;

	return run->acted && run->act == ACT_STOP_FUNCTION;
}

static unsigned count_descriptors(void)
{
	DIR *folder = opendir("/proc/self/fd");
	unsigned count = 0;

	assert_non_null(folder);
	while (readdir(folder))
		count++;
	closedir(folder);
	return count;
}

static unsigned count_threads(void)
{
	DIR *folder = opendir("/proc/self/task");
	unsigned count = 0;

	assert_non_null(folder);
	while (readdir(folder))
		count++;
	closedir(folder);
	return count;
}

/* A joined thread may stand in /proc for a moment still. */
static bool threads_come_down_to(unsigned tasks)
{
	int64_t end_ns = clock_now_ns() + NS_PER_SECOND;

#ifdef __SANITIZE_THREAD__
	tasks++; /* its own, begun with the first thread */
#endif
	while (count_threads() > tasks && clock_now_ns() < end_ns)
		clock_sleep_ns(NS_PER_MS);
	return count_threads() <= tasks;
}

/* Of ranks that are processes. */
static const char *process_transport = "tcp";

/* Runs a job and checks that nothing of it is left, however it ended. */
static int run_job(struct run *run, bool threads, const char *work, int target,
		   int steps)
{
	const char *const program[] = {rank_program, NULL};
	json_t *job = json_pack("{s:s, s:i, s:i}", "work", work, "target",
				target, "steps", steps);
	struct launch launch = {
		.ranks = RANKS,
		.threads_per_rank = 1,
		.transport = threads ? "inproc" : process_transport,
		.job = job,
		.rank_main = world_work,
		.numerics = "test",
		.program = program,
		.event = take_event,
		.stop = wants_stop,
		.argument = run,
		.heartbeat_timeout_ns = run->heartbeat_ns,
		.stall_timeout_ns = run->stall_ns,
	};
	unsigned descriptors = count_descriptors();
	unsigned tasks = count_threads();
	int64_t start_ns = clock_now_ns();
	int rc;

	run->log[0] = '\0';
	rc = launch_run(&launch, &run->result);
	run->duration_ns = clock_now_ns() - start_ns;
	run->gone_ns = clock_now_ns() - run->acted_ns;
	json_decref(job);
	assert_int_equal(rc, run->result.status);
	assert_int_equal(count_descriptors(), descriptors);
	assert_true(threads_come_down_to(tasks));
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
	for (unsigned i = 0; i < RANKS && !threads; i++)
		assert_true(!run->pid[i] || kill(run->pid[i], 0) < 0);
	return rc;
}

static void assert_failed(struct run *run, int rank, const char *words)
{
	char name[32];

	snprintf(name, sizeof(name), "rank %d", rank);
	if (!run->result.status || run->result.failed_rank != rank ||
	    !strstr(run->result.reason, words) ||
	    strncmp(run->result.reason, name, strlen(name)) != 0 ||
	    !strstr(run->log, run->result.reason))
		fail_msg("status %d, rank %d: %s\nwanted %d: %s\nlog: %s",
			 run->result.status, run->result.failed_rank,
			 run->result.reason, rank, words, run->log);
}

#define RUN(variable, ...)                                                     \
	struct run variable = {__VA_ARGS__};                                   \
	log_set_sink(keep_log, &variable)

static void finish(struct run *run)
{
	launch_result_fini(&run->result);
	log_set_sink(NULL, NULL);
}

static void works(bool threads)
{
	RUN(run, .act = ACT_NONE);
	if (run_job(&run, threads, "train", -1, 20) != 0)
		fail_msg("%s", run.log);
	assert_int_equal(run.events, RANKS * 21);
	assert_int_equal(run.result.failed_rank, -1);
	assert_false(run.result.stopped);
	assert_int_equal(
		json_integer_value(json_object_get(run.result.done, "threads")),
		1);
	assert_non_null(strstr(run.log, "3 ranks x 1 thread"));
	finish(&run);
}

static void rank_fails(bool threads)
{
	RUN(run, .act = ACT_NONE);
	assert_int_equal(run_job(&run, threads, "error", 1, 1000), -ENOSPC);
	assert_failed(&run, 1, "failed at step 3 on ");
	assert_failed(&run, 1, ": disk is f?ull");
	assert_true(run.duration_ns < GONE_NS);
	finish(&run);
}

static void cause_is_found_late(bool threads)
{
	RUN(run, .act = ACT_NONE);
	assert_true(run_job(&run, threads, "last", 2, 0) < 0);
	assert_failed(&run, 2,
		      threads ? "the real reason" : "was killed by signal 9");
	assert_true(run.duration_ns < GONE_NS);
	finish(&run);
}

static void waiting_rank_is_woken(bool threads)
{
	RUN(run, .act = ACT_NONE);
	assert_int_equal(run_job(&run, threads, "starve", 0, 0), -EIO);
	assert_failed(&run, 0, "somebody failed");
	assert_true(run.duration_ns < GONE_NS);
	finish(&run);
}

/* world_connect() and world_wait(), over the real transports. */
static void links(bool threads)
{
	RUN(run, .act = ACT_NONE);
	if (run_job(&run, threads, "ring", -1, 0) != 0)
		fail_msg("%s", run.log);
	run.log[0] = '\0';
	assert_int_equal(run_job(&run, threads, "link starve", 1, 0), -EIO);
	assert_failed(&run, 1, "somebody failed");
	assert_true(run.duration_ns < GONE_NS);
	finish(&run);
}

static void leaving_early_is_no_hang(bool threads)
{
	RUN(run, .act = ACT_NONE);
	assert_int_equal(run_job(&run, threads, "leave", 1, 0), -EPROTO);
	assert_failed(&run, 1, "has finished while rank");
	assert_true(run.duration_ns < GONE_NS);
	finish(&run);
}

static void events_never_stall(bool threads)
{
	RUN(run, .act = ACT_NONE);
	if (run_job(&run, threads, "flood", -1, 0) != 0)
		fail_msg("%s", run.log);
	assert_true(run.duration_ns < 10 * NS_PER_SECOND);
	/* The worst call: bounded by the scheduler, not by the reader. */
	assert_true(json_integer_value(json_object_get(
			    run.result.done, "most_ns")) < 250 * NS_PER_MS);
	finish(&run);
}

static void stops(bool threads, enum act how, int number)
{
	RUN(run, .act = how, .number = number, .rank = 1, .step = 5);
	if (run_job(&run, threads, "train", -1, 1 << 30) != 0)
		fail_msg("%s", run.log);
	assert_true(run.acted);
	assert_true(run.result.stopped);
	assert_false(run.result.interrupted);
	assert_true(run.gone_ns < GONE_NS);
	if (how == ACT_SIGNAL_SELF)
		assert_non_null(strstr(run.log, "again to stop at once"));
	finish(&run);
}

static void stops_at_once(bool threads)
{
	RUN(run, .act = ACT_SIGNAL_SELF_TWICE, .number = SIGINT, .rank = 1,
	    .step = 5);
	assert_int_equal(run_job(&run, threads, "train", -1, 1 << 30), -EINTR);
	assert_true(run.result.stopped);
	assert_true(run.result.interrupted);
	assert_true(run.gone_ns < GONE_NS);
	finish(&run);
}

static void process_works(void **state)
{
	(void)state;
	works(PROCESSES);
}
static void thread_works(void **state)
{
	(void)state;
	works(THREADS);
}
static void process_fails(void **state)
{
	(void)state;
	rank_fails(PROCESSES);
}
static void thread_fails(void **state)
{
	(void)state;
	rank_fails(THREADS);
}
static void process_cause_is_found_late(void **state)
{
	(void)state;
	cause_is_found_late(PROCESSES);
}
static void thread_cause_is_found_late(void **state)
{
	(void)state;
	cause_is_found_late(THREADS);
}
static void process_is_woken(void **state)
{
	(void)state;
	waiting_rank_is_woken(PROCESSES);
}
static void thread_is_woken(void **state)
{
	(void)state;
	waiting_rank_is_woken(THREADS);
}
static void process_links(void **state)
{
	(void)state;
	links(PROCESSES);
}
static void thread_links(void **state)
{
	(void)state;
	links(THREADS);
}
static void process_leaves_early(void **state)
{
	(void)state;
	leaving_early_is_no_hang(PROCESSES);
}
static void thread_leaves_early(void **state)
{
	(void)state;
	leaving_early_is_no_hang(THREADS);
}
static void process_events_never_stall(void **state)
{
	(void)state;
	events_never_stall(PROCESSES);
}
static void thread_events_never_stall(void **state)
{
	(void)state;
	events_never_stall(THREADS);
}
static void process_stops(void **state)
{
	(void)state;
	stops(PROCESSES, ACT_SIGNAL_SELF, SIGINT);
	stops(PROCESSES, ACT_SIGNAL_SELF, SIGHUP);
	stops(PROCESSES, ACT_SIGNAL_RANK, SIGTERM);
	stops(PROCESSES, ACT_STOP_FUNCTION, 0);
}
static void thread_stops(void **state)
{
	(void)state;
	stops(THREADS, ACT_SIGNAL_SELF, SIGTERM);
	stops(THREADS, ACT_STOP_FUNCTION, 0);
}
static void process_stops_at_once(void **state)
{
	(void)state;
	stops_at_once(PROCESSES);
}
static void thread_stops_at_once(void **state)
{
	(void)state;
	stops_at_once(THREADS);
}

static void kill_one(uint64_t trial)
{
	RUN(run, .act = ACT_SIGNAL_RANK, .number = SIGKILL);
	struct random_key key = random_key_named(3, "kill");
	char words[80];

	run.rank = (unsigned)random_below(key, 2 * trial, RANKS);
	run.step = (int64_t)random_below(key, 2 * trial + 1, 300);
	assert_true(run_job(&run, PROCESSES, "train", -1, 1 << 30) < 0);
	snprintf(words, sizeof(words),
		 "(pid %d) was killed by signal 9 (Killed) at step",
		 (int)run.pid[run.rank]);
	assert_failed(&run, (int)run.rank, words);
	assert_true(run.gone_ns < GONE_NS);
	finish(&run);
}

/* The same over memory that processes share. */
static void processes_share_memory(void **state)
{
	(void)state;
	process_transport = "shm";
	works(PROCESSES);
	links(PROCESSES);
	for (uint64_t trial = 0; trial < 3; trial++)
		kill_one(trial);
	process_transport = "tcp";
}

static void silent_exit_is_told(void **state)
{
	RUN(run, .act = ACT_NONE);
	(void)state;
	assert_true(run_job(&run, PROCESSES, "exit", 1, 1000) < 0);
	assert_failed(&run, 1, "ended with status 3 at step 3");
	finish(&run);
}

static void crash_is_told(void **state)
{
	RUN(run, .act = ACT_NONE);
	(void)state;
	assert_true(run_job(&run, PROCESSES, "killed", 2, 1000) < 0);
	assert_failed(&run, 2, "was killed by signal 9 (Killed) at step 3");
	finish(&run);
}

/* kill -9 of any rank at any moment. */
static void kill_at_any_moment(void **state)
{
	(void)state;
	for (uint64_t trial = 0; trial < 12; trial++)
		kill_one(trial);
}

/* One that is stopped is missed, named and ended, and the others told. */
static void stopped_rank_is_missed(void **state)
{
	RUN(run, .act = ACT_SIGNAL_RANK, .number = SIGSTOP, .rank = 1,
	    .step = 20, .heartbeat_ns = HEARTBEAT_NS);

	(void)state;
	assert_int_equal(run_job(&run, PROCESSES, "train", -1, 1 << 30),
			 -ETIMEDOUT);
	assert_failed(&run, 1, "gives no sign of life for 1.");
	assert_failed(&run, 1, "at step ");
	assert_true(run.gone_ns > HEARTBEAT_NS - LIVENESS_BEAT_NS - NS_PER_MS);
	assert_true(run.gone_ns < HEARTBEAT_NS + NS_PER_SECOND);
	finish(&run);
}

/* Alive and at the same place for ever: it is named, not those who wait. */
static void stalls(bool threads)
{
	RUN(run, .act = ACT_NONE, .stall_ns = NS_PER_SECOND);

	assert_int_equal(run_job(&run, threads, "stall", 2, 1 << 30),
			 -ETIMEDOUT);
	assert_failed(&run, 2, "is alive and has not gone on for");
	assert_failed(&run, 2, "at step 3 ");
	assert_true(run.duration_ns < GONE_NS + NS_PER_SECOND);
	/* What threads log comes to us: each rank its wait state. */
	if (threads) {
		assert_non_null(strstr(run.log, "rank 2: state: step 3, "));
		assert_non_null(strstr(run.log, "waiting for nobody"));
		assert_non_null(strstr(run.log, "rank 0: state: step 3, "));
		assert_non_null(strstr(run.log, "s waiting for all ranks"));
	}
	finish(&run);
}

static void stalled_process_is_named(void **state)
{
	(void)state;
	stalls(PROCESSES);
}

static void stalled_thread_is_named(void **state)
{
	(void)state;
	stalls(THREADS);
}

static void circle_is_found(void **state)
{
	RUN(run, .act = ACT_NONE, .stall_ns = NS_PER_SECOND);

	(void)state;
	assert_int_equal(run_job(&run, PROCESSES, "circle", -1, 1 << 30),
			 -ETIMEDOUT);
	assert_non_null(strstr(run.result.reason, "wait for each other"));
	assert_non_null(
		strstr(run.result.reason, "waiting for data from rank 2"));
	finish(&run);
}

static void slow_is_not_stalled(void **state)
{
	RUN(run, .act = ACT_NONE, .stall_ns = NS_PER_SECOND);

	(void)state;
	if (run_job(&run, PROCESSES, "slow", 1, 3) != 0)
		fail_msg("%s", run.log);
	finish(&run);
}

/* A connect that waits for one that has failed ends with the abort. */
static void connect_is_woken(void **state)
{
	(void)state;
	for (unsigned threads = 0; threads < 2; threads++) {
		RUN(run, .act = ACT_NONE);

		assert_int_equal(run_job(&run, threads, "no show", 1, 0), -EIO);
		assert_failed(&run, 1, "somebody failed");
		assert_true(run.duration_ns < NS_PER_SECOND);
		finish(&run);
	}
}

/* Nothing but SIGKILL ends a stopped process. */
static void hanging_ranks_are_ended(void **state)
{
	static const char *const works[] = {"hang", "stopped"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(works); i++) {
		RUN(run, .act = ACT_NONE);
		assert_true(run_job(&run, PROCESSES, works[i], 1, 0) < 0);
		assert_non_null(strstr(run.result.reason, "somebody failed"));
		assert_true(run.duration_ns < GONE_NS + 500 * NS_PER_MS);
		finish(&run);
	}
}

static void missing_program_is_told(void **state)
{
	char before[sizeof(rank_program)];
	RUN(run, .act = ACT_NONE);

	(void)state;
	memcpy(before, rank_program, sizeof(before));
	strncat(rank_program, "-missing", 16);
	assert_int_equal(run_job(&run, PROCESSES, "train", -1, 1), -ENOENT);
	memcpy(rank_program, before, sizeof(before));
	assert_non_null(strstr(run.result.reason, "starting rank 0"));
	assert_non_null(strstr(run.result.reason, "-missing"));
	finish(&run);
}

static void nonsense_is_refused(void **state)
{
	struct launch launch = {.ranks = 0};
	struct launch_result result;
	RUN(run, .act = ACT_NONE);

	(void)state;
	assert_int_equal(launch_run(&launch, &result), -EINVAL);
	assert_true(result.reason[0] != '\0');
	launch.ranks = LAUNCH_RANKS_MAX + 1;
	assert_int_equal(launch_run(&launch, &result), -EINVAL);
	launch.ranks = 1;
	launch.transport = "inproc";
	assert_int_equal(launch_run(&launch, &result), -EINVAL);
	finish(&run);
}

/* ---- the supervisor itself: in a process of its own ---- */

/* Starts a supervisor that writes its ranks' pids to *read_fd. */
static pid_t start_supervisor(const char *work, int *read_fd)
{
	int fds[2];
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	pid = fork();
	if (pid == 0) {
		static struct run run;

		close(fds[0]);
		fcntl(fds[1], F_SETFD, FD_CLOEXEC);
		run.report_fd = fds[1];
		run.heartbeat_ns = HEARTBEAT_NS;
		log_set_sink(keep_log, &run);
		_exit(run_job(&run, PROCESSES, work, -1, 1 << 30) != 0);
	}
	close(fds[1]);
	*read_fd = fds[0];
	return pid;
}

static void read_pids(int fd, pid_t pids[RANKS])
{
	for (unsigned i = 0; i < RANKS; i++)
		assert_int_equal(read(fd, &pids[i], sizeof(pid_t)),
				 sizeof(pid_t));
}

/* Waits for any of our (adopted) children, at most two seconds. */
static pid_t wait_child(pid_t pid, int *status)
{
	int64_t end_ns = clock_now_ns() + GONE_NS;

	while (clock_now_ns() < end_ns) {
		pid_t got = waitpid(pid, status, WNOHANG);

		if (got != 0)
			return got;
		clock_sleep_ns(5 * NS_PER_MS);
	}
	return 0;
}

static void ranks_die_with_the_supervisor(void **state)
{
	pid_t supervisor, pids[RANKS];
	int fd, status;

	(void)state;
	assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
	supervisor = start_supervisor("train", &fd);
	read_pids(fd, pids);
	kill(supervisor, SIGKILL);
	assert_int_equal(wait_child(supervisor, &status), supervisor);
	for (unsigned i = 0; i < RANKS; i++) {
		assert_int_equal(wait_child(pids[i], &status), pids[i]);
		assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) == 1);
	}
	assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 0), 0);
	close(fd);
}

static char process_state(pid_t pid)
{
	char path[64], text[256] = "";
	FILE *file;
	const char *name_end;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	file = fopen(path, "r");
	if (!file)
		return '-';
	if (!fgets(text, sizeof(text), file))
		text[0] = '\0';
	fclose(file);
	name_end = strrchr(text, ')');
	return name_end && strlen(name_end) > 2 ? name_end[2] : '?';
}

static bool becomes(pid_t pid, bool stopped)
{
	int64_t end_ns = clock_now_ns() + GONE_NS;

	while (clock_now_ns() < end_ns) {
		if ((process_state(pid) == 'T') == stopped)
			return true;
		clock_sleep_ns(5 * NS_PER_MS);
	}
	return false;
}

/* Ctrl-Z suspends the ranks too, fg lets them go on. */
static void suspends_and_goes_on(void **state)
{
	pid_t supervisor, pids[RANKS];
	int fd, status;

	(void)state;
	supervisor = start_supervisor("train", &fd);
	read_pids(fd, pids);
	kill(supervisor, SIGTSTP);
	assert_true(becomes(supervisor, true));
	for (unsigned i = 0; i < RANKS; i++)
		assert_true(becomes(pids[i], true));
	/* Nobody was heard meanwhile, and nobody is to blame. */
	clock_sleep_ns(2 * HEARTBEAT_NS);
	kill(supervisor, SIGCONT);
	for (unsigned i = 0; i < RANKS; i++)
		assert_true(becomes(pids[i], false));
	clock_sleep_ns(2 * HEARTBEAT_NS);
	kill(supervisor, SIGINT);
	assert_int_equal(wait_child(supervisor, &status), supervisor);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	close(fd);
}

/* A thread cannot be killed: the caller is told, to end the process. */
static void hanging_thread_is_abandoned(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		json_t *job =
			json_pack("{s:s, s:i}", "work", "hang", "target", 1);
		struct launch launch = {.ranks = RANKS,
					.threads_per_rank = 1,
					.transport = "inproc",
					.job = job,
					.rank_main = world_work,
					.grace_ns = 200 * NS_PER_MS};
		struct launch_result result;
		struct run run = {.act = ACT_NONE};
		int rc;

		log_set_sink(keep_log, &run);
		rc = launch_run(&launch, &result);
		_exit(rc == -EIO && result.abandoned ? 0 : 1);
	}
	assert_int_equal(wait_child(pid, &status), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

#ifdef __SANITIZE_THREAD__
/* An abandoned thread is what hanging_thread_is_abandoned() is about. */
const char *__tsan_default_options(void);
__attribute__((visibility("default"))) const char *__tsan_default_options(void)
{
	return "report_thread_leaks=0";
}
#endif

static void find_rank_program(void)
{
	ssize_t length = readlink("/proc/self/exe", rank_program,
				  sizeof(rank_program) - 64);

	assert_true(length > 0);
	rank_program[length] = '\0';
	dirname(rank_program);
	strncat(rank_program, "/world-rank", 16);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(process_works),
		cmocka_unit_test(thread_works),
		cmocka_unit_test(process_fails),
		cmocka_unit_test(thread_fails),
		cmocka_unit_test(process_cause_is_found_late),
		cmocka_unit_test(thread_cause_is_found_late),
		cmocka_unit_test(process_is_woken),
		cmocka_unit_test(thread_is_woken),
		cmocka_unit_test(process_links),
		cmocka_unit_test(thread_links),
		cmocka_unit_test(process_leaves_early),
		cmocka_unit_test(thread_leaves_early),
		cmocka_unit_test(process_events_never_stall),
		cmocka_unit_test(thread_events_never_stall),
		cmocka_unit_test(process_stops),
		cmocka_unit_test(thread_stops),
		cmocka_unit_test(process_stops_at_once),
		cmocka_unit_test(thread_stops_at_once),
		cmocka_unit_test(silent_exit_is_told),
		cmocka_unit_test(crash_is_told),
		cmocka_unit_test(kill_at_any_moment),
		cmocka_unit_test(processes_share_memory),
		cmocka_unit_test(stopped_rank_is_missed),
		cmocka_unit_test(stalled_process_is_named),
		cmocka_unit_test(stalled_thread_is_named),
		cmocka_unit_test(circle_is_found),
		cmocka_unit_test(slow_is_not_stalled),
		cmocka_unit_test(connect_is_woken),
		cmocka_unit_test(hanging_ranks_are_ended),
		cmocka_unit_test(missing_program_is_told),
		cmocka_unit_test(nonsense_is_refused),
		cmocka_unit_test(ranks_die_with_the_supervisor),
		cmocka_unit_test(suspends_and_goes_on),
		cmocka_unit_test(hanging_thread_is_abandoned),
	};

	/* A shell that put us in the background has the ranks ignore it. */
	signal(SIGINT, SIG_DFL);

	cmocka_set_message_output(CM_OUTPUT_TAP);
	find_rank_program();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
