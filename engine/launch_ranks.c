#include "engine/launch_ranks.h"

#include "base/log.h"
#include "engine/launch_signals.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

#define CHILD_CONTROL_FD 3
#define HOW_BYTES        96

struct one_rank {
	struct launch_ranks *ranks;
	unsigned rank;
	bool running;
	pid_t pid; /* process */
	pthread_t thread;
	int control_fd; /* thread: handed over to it */
	_Atomic bool finished;
};

struct launch_ranks {
	unsigned count;
	bool threads;
	struct one_rank *one;
	int wake_fd;

	/* processes */
	char **arguments;
	char **environment;

	/* threads */
	rank_main_fn *rank_main;
	char *numerics;
	struct transport_hub *hub;
};

/* ---- what processes are started with ---- */

static int make_arguments(struct launch_ranks *ranks,
			  const char *const *program)
{
	static const char *const own[] = {"/proc/self/exe", "rank", NULL};
	size_t count = 0;
	char **arguments;

	if (!program)
		program = own;
	while (program[count])
		count++;
	arguments = calloc(count + 3, sizeof(*arguments));
	if (!arguments)
		return -ENOMEM;
	ranks->arguments = arguments;
	for (size_t i = 0; i < count; i++) {
		arguments[i] = strdup(program[i]);
		if (!arguments[i])
			return -ENOMEM;
	}
	arguments[count] = strdup("--control-fd");
	if (!arguments[count] ||
	    asprintf(&arguments[count + 1], "%d", CHILD_CONTROL_FD) < 0) {
		arguments[count + 1] = NULL;
		return -ENOMEM;
	}
	return 0;
}

/* Our threads share the work of a product; the libraries' own stay off. */
static int make_environment(struct launch_ranks *ranks)
{
	static const char *const set[] = {"OPENBLAS_NUM_THREADS=1",
					  "OMP_NUM_THREADS=1"};
	size_t count = 0, kept = 0;

	while (environ[count])
		count++;
	ranks->environment = calloc(count + ARRAY_SIZE(set) + 1,
				    sizeof(*ranks->environment));
	if (!ranks->environment)
		return -ENOMEM;
	for (size_t i = 0; i < ARRAY_SIZE(set); i++)
		ranks->environment[kept++] = (char *)(uintptr_t)set[i];
	for (size_t i = 0; i < count; i++) {
		bool ours = false;

		for (size_t j = 0; j < ARRAY_SIZE(set); j++) {
			size_t name = (size_t)(strchr(set[j], '=') - set[j]);

			ours |= strncmp(environ[i], set[j], name + 1) == 0;
		}
		if (!ours)
			ranks->environment[kept++] = environ[i];
	}
	return 0;
}

static int make_threads(struct launch_ranks *ranks, const struct launch *launch)
{
	ranks->rank_main = launch->rank_main;
	ranks->numerics = strdup(launch->numerics ? launch->numerics : "");
	ranks->hub = transport_hub_create(launch->ranks);
	if (!ranks->numerics || !ranks->hub)
		return -ENOMEM;
	ranks->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (ranks->wake_fd < 0)
		return -errno;
	return 0;
}

int launch_ranks_create(const struct launch *launch, struct launch_ranks **out)
{
	struct launch_ranks *ranks = calloc(1, sizeof(*ranks));
	int rc = -ENOMEM;

	if (!ranks)
		return fail(rc, "no memory for %u ranks", launch->ranks);
	ranks->wake_fd = -1;
	ranks->count = launch->ranks;
	ranks->threads =
		launch->transport && strcmp(launch->transport, "inproc") == 0;
	ranks->one = calloc(launch->ranks, sizeof(*ranks->one));
	if (!ranks->one)
		goto err_destroy;
	for (unsigned i = 0; i < launch->ranks; i++) {
		ranks->one[i].ranks = ranks;
		ranks->one[i].rank = i;
	}
	if (ranks->threads)
		rc = make_threads(ranks, launch);
	else
		rc = make_arguments(ranks, launch->program);
	if (!rc && !ranks->threads)
		rc = make_environment(ranks);
	if (rc < 0)
		goto err_destroy;
	*out = ranks;
	return 0;

err_destroy:
	launch_ranks_destroy(ranks);
	return fail(rc, "cannot prepare %u ranks: %s", launch->ranks,
		    strerror(-rc));
}

void launch_ranks_destroy(struct launch_ranks *ranks)
{
	if (!ranks)
		return;
	for (unsigned i = 0; ranks->one && i < ranks->count; i++) {
		if (ranks->one[i].running)
			return;
	}
	for (size_t i = 0; ranks->arguments && ranks->arguments[i]; i++)
		free(ranks->arguments[i]);
	if (ranks->wake_fd >= 0)
		close(ranks->wake_fd);
	transport_hub_destroy(ranks->hub);
	free(ranks->arguments);
	free(ranks->environment);
	free(ranks->numerics);
	free(ranks->one);
	free(ranks);
}

/* ---- processes ---- */

/*
 * In the child, between fork and exec: only what POSIX calls
 * async-signal-safe. The signals the supervisor handles stay blocked through
 * the exec: the rank takes them from there (world_rank_main()).
 */
static int child_prepare(int control_fd, pid_t parent)
{
	int null_fd;

	if (setpgid(0, 0) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		return -errno;
	if (getppid() != parent)
		_exit(1); /* it died before we asked to die with it */
	/* A log nobody reads must not kill, nor a terminal stop, a rank. */
	signal(SIGPIPE, SIG_IGN);
	signal(SIGTTOU, SIG_IGN);
	signal(SIGTTIN, SIG_IGN);
	null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null_fd < 0 || dup2(null_fd, STDIN_FILENO) < 0 ||
	    dup2(STDERR_FILENO, STDOUT_FILENO) < 0 ||
	    dup2(control_fd, CHILD_CONTROL_FD) < 0)
		return -errno;
#ifdef SYS_close_range
	/* 4 is CLOSE_RANGE_CLOEXEC. Older kernels: ours are CLOEXEC anyway. */
	syscall(SYS_close_range, CHILD_CONTROL_FD + 1, ~0u, 4);
#endif
	return 0;
}

static _Noreturn void child_main(const struct launch_ranks *ranks,
				 int control_fd, int report_fd, pid_t parent)
{
	int code;

	/* Out of the way of the numbers that are about to be given out. */
	control_fd = fcntl(control_fd, F_DUPFD_CLOEXEC, 16);
	report_fd = fcntl(report_fd, F_DUPFD_CLOEXEC, 16);
	if (control_fd < 0 || report_fd < 0)
		_exit(127);
	code = child_prepare(control_fd, parent);
	if (code == 0) {
		execve(ranks->arguments[0], ranks->arguments,
		       ranks->environment);
		code = -errno;
	}
	if (write(report_fd, &code, sizeof(code)) < 0)
		_exit(126);
	_exit(127);
}

/* 0 when the program runs, else what the child reported. */
static int read_report(int fd)
{
	int code = 0;
	ssize_t got;

	do {
		got = read(fd, &code, sizeof(code));
	} while (got < 0 && errno == EINTR);
	return got == sizeof(code) ? code : 0;
}

static int start_process(struct launch_ranks *ranks, unsigned rank,
			 int control_fd)
{
	struct one_rank *one = &ranks->one[rank];
	pid_t pid, parent = getpid();
	sigset_t before;
	int report[2], rc;

	if (pipe2(report, O_CLOEXEC) < 0) {
		close(control_fd);
		return fail(-errno, "starting rank %u: pipe: %s", rank,
			    strerror(errno));
	}
	launch_signals_block(&before);
	pid = fork();
	if (pid == 0)
		child_main(ranks, control_fd, report[1], parent);
	rc = pid < 0 ? -errno : 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	close(control_fd);
	close(report[1]);
	if (!rc)
		rc = read_report(report[0]);
	close(report[0]);
	if (rc < 0) {
		if (pid > 0)
			waitpid(pid, NULL, 0);
		return fail(rc, "starting rank %u: %s: %s", rank,
			    pid < 0 ? "fork" : ranks->arguments[0],
			    strerror(-rc));
	}
	one->pid = pid;
	one->running = true;
	return 0;
}

/* True if it has ended; *how as in coordinator_rank_ended(). */
static bool reap_process(struct one_rank *one, char *buffer, size_t size,
			 const char **how)
{
	int status;
	pid_t got;

	do {
		got = waitpid(one->pid, &status, WNOHANG);
	} while (got < 0 && errno == EINTR);
	if (got == 0)
		return false;
	*how = buffer;
	if (got < 0)
		snprintf(buffer, size, "ended in an unknown way (%s)",
			 strerror(errno));
	else if (WIFSIGNALED(status))
		snprintf(buffer, size, "was killed by signal %d (%s)",
			 WTERMSIG(status), strsignal(WTERMSIG(status)));
	else if (WEXITSTATUS(status))
		snprintf(buffer, size, "ended with status %d",
			 WEXITSTATUS(status));
	else
		*how = NULL;
	return true;
}

/* ---- threads ---- */

static void *thread_main(void *argument)
{
	struct one_rank *one = argument;
	struct launch_ranks *ranks = one->ranks;
	uint64_t tick = 1;
	int wake_fd = ranks->wake_fd;

	/* Its failure is told over the control socket, and logged. */
	if (world_thread_main(one->control_fd, ranks->numerics,
			      ranks->rank_main, ranks->hub) < 0)
		log_debug("rank %u ended with an error", one->rank);
	one->finished = true;
	if (write(wake_fd, &tick, sizeof(tick)) < 0)
		log_debug("rank %u: eventfd: %s", one->rank, strerror(errno));
	return NULL;
}

static int start_thread(struct launch_ranks *ranks, unsigned rank,
			int control_fd)
{
	struct one_rank *one = &ranks->one[rank];
	sigset_t all, before;
	int rc;

	one->control_fd = control_fd;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = pthread_create(&one->thread, NULL, thread_main, one);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc) {
		close(control_fd);
		return fail(-rc, "starting rank %u: thread: %s", rank,
			    strerror(rc));
	}
	one->running = true;
	return 0;
}

static bool reap_thread(struct one_rank *one, const char **how)
{
	if (!one->finished)
		return false;
	pthread_join(one->thread, NULL);
	*how = NULL;
	return true;
}

/* ---- both ---- */

int launch_ranks_start(struct launch_ranks *ranks, unsigned rank,
		       int control_fd)
{
	return ranks->threads ? start_thread(ranks, rank, control_fd)
			      : start_process(ranks, rank, control_fd);
}

char *launch_ranks_name(const struct launch_ranks *ranks, unsigned rank,
			char *buffer, size_t size)
{
	if (ranks->threads)
		snprintf(buffer, size, "rank %u", rank);
	else
		snprintf(buffer, size, "rank %u (pid %ld)", rank,
			 (long)ranks->one[rank].pid);
	return buffer;
}

long launch_ranks_pid(const struct launch_ranks *ranks, unsigned rank)
{
	return (long)ranks->one[rank].pid;
}

int launch_ranks_wake_fd(const struct launch_ranks *ranks)
{
	return ranks->wake_fd;
}

bool launch_ranks_are_threads(const struct launch_ranks *ranks)
{
	return ranks->threads;
}

bool launch_ranks_running(const struct launch_ranks *ranks, unsigned rank)
{
	return ranks->one[rank].running;
}

unsigned launch_ranks_reap(struct launch_ranks *ranks,
			   launch_ranks_ended_fn *ended, void *argument)
{
	char buffer[HOW_BYTES];
	unsigned running = 0;
	uint64_t ticks;

	if (ranks->wake_fd >= 0 &&
	    read(ranks->wake_fd, &ticks, sizeof(ticks)) < 0)
		ticks = 0; /* nothing new; still look */
	for (unsigned i = 0; i < ranks->count; i++) {
		struct one_rank *one = &ranks->one[i];
		const char *how;
		bool over;

		if (!one->running)
			continue;
		over = ranks->threads ? reap_thread(one, &how)
				      : reap_process(one, buffer,
						     sizeof(buffer), &how);
		one->running = !over;
		running += !over;
		if (over)
			ended(argument, i, how);
	}
	return running;
}

void launch_ranks_signal(struct launch_ranks *ranks, int number)
{
	if (ranks->threads)
		return;
	for (unsigned i = 0; i < ranks->count; i++) {
		/* Not reaped yet, so the pid cannot be anyone else's. */
		if (ranks->one[i].running)
			kill(ranks->one[i].pid, number);
	}
}

void launch_ranks_kill(struct launch_ranks *ranks, unsigned rank)
{
	if (!ranks->threads && ranks->one[rank].running)
		kill(ranks->one[rank].pid, SIGKILL);
}
