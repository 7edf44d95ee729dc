#include "engine/launch.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/threads.h"
#include "engine/coordinator.h"
#include "engine/cores.h"
#include "engine/hosts.h"
#include "engine/launch_ranks.h"
#include "engine/launch_signals.h"
#include "engine/liveness.h"
#include "transport/secure/secure.h"
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define TICK_NS          (100 * NS_PER_MS)
#define START_TIMEOUT_NS (60 * NS_PER_SECOND)
#define SETTLE_NS        (200 * NS_PER_MS)
#define GRACE_NS         (1500 * NS_PER_MS)
#define LEAVE_NS         (10 * NS_PER_SECOND) /* after bye */
#define REAP_NS          (5 * NS_PER_SECOND)  /* after SIGKILL */
#define GIVE_UP_NS       (2 * NS_PER_SECOND)  /* after it, on other hosts */
#define CORES_MAX        4096
#define LINKS_BYTES      1024

struct supervisor {
	const struct launch *launch;
	char (*links)[LINKS_BYTES]; /* [ranks]: what each uses; NULL: quiet */
	char alike[LINKS_BYTES];    /* what all links are, or "" */
	unsigned links_known;
	char key[SECURE_KEY_TEXT_BYTES]; /* of links on this host, if any */
	struct launch_ranks *ranks;
	struct coordinator *coordinator;
	struct launch_signals signals;
	struct cores_plan cores;
	unsigned stops; /* times somebody asked */
	bool interrupted;
	bool killed;
	int64_t aborted_ns; /* when that state was first seen; 0: not yet */
	int64_t done_ns;
};

static int64_t or_default(int64_t value, int64_t fallback)
{
	return value ? value : fallback;
}

/* As the coordinator takes it: 0 is never. */
static int64_t or_never(int64_t value, int64_t fallback)
{
	return value < 0 ? 0 : or_default(value, fallback);
}

static int divide_cores(struct supervisor *supervisor)
{
	const struct launch *launch = supervisor->launch;
	int *available;
	char text[256];
	unsigned count;
	int rc;

	if (launch->hosts)
		return hosts_divide_cores(launch->hosts,
					  launch->threads_per_rank, launch->pin,
					  &supervisor->cores);
	available = malloc(CORES_MAX * sizeof(*available));
	if (!available)
		return fail(-ENOMEM, "no memory for the list of cores");
	count = threads_available_cores(available, CORES_MAX);
	rc = cores_divide(available, MIN(count, CORES_MAX), launch->ranks,
			  launch->threads_per_rank, launch->pin,
			  &supervisor->cores);
	free(available);
	if (rc < 0)
		return rc;
	if (!launch->quiet)
		log_info("%s", cores_describe(&supervisor->cores, text,
					      sizeof(text)));
	return 0;
}

static int start_rank(struct supervisor *supervisor, unsigned rank)
{
	char name[64];
	int fds[2], rc;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return fail(-errno, "control socket of rank %u: %s", rank,
			    strerror(errno));
	rc = launch_ranks_start(supervisor->ranks, rank, fds[1]);
	if (rc < 0) {
		close(fds[0]);
		return rc;
	}
	launch_ranks_name(supervisor->ranks, rank, name, sizeof(name));
	return coordinator_add(supervisor->coordinator, rank, fds[0], name);
}

/* What fails here ends the job the way a later failure does. */
static void start_all(struct supervisor *supervisor)
{
	struct hosts *hosts = supervisor->launch->hosts;

	if (hosts)
		hosts_begin_job(hosts, supervisor->coordinator);
	for (unsigned i = 0; i < supervisor->launch->ranks; i++) {
		int rc = 0;

		if (!hosts || hosts_is_local(hosts, i))
			rc = start_rank(supervisor, i);
		if (rc < 0) {
			coordinator_abort(supervisor->coordinator, rc,
					  log_last_error());
			return;
		}
	}
}

static void rank_ended(void *argument, unsigned rank, const char *how)
{
	struct supervisor *supervisor = argument;

	coordinator_rank_ended(supervisor->coordinator, rank, how);
}

/* ---- one line a rank, once all links stand ---- */

static void show_ranks(const struct supervisor *supervisor)
{
	const struct launch *launch = supervisor->launch;

	for (unsigned i = 0; i < launch->ranks; i++) {
		unsigned threads = cores_threads(&supervisor->cores, i);
		char what[128] = "", where[256];

		if (launch->describe)
			launch->describe(launch->describe_argument, i, what,
					 sizeof(what));
		log_info("rank %u: %s%s%s, %u thread%s; %s", i, what,
			 what[0] ? ", " : "",
			 hosts_describe(launch->hosts, i, where, sizeof(where)),
			 threads, threads == 1 ? "" : "s",
			 supervisor->links[i]);
	}
}

/* On this host alone it is one line, unless they differ. */
static void show_links(const struct supervisor *supervisor)
{
	if (supervisor->launch->hosts) {
		show_ranks(supervisor);
	} else if (supervisor->alike[0]) {
		log_info("links: %s", supervisor->alike);
	} else if (supervisor->launch->ranks > 1) {
		for (unsigned i = 0; i < supervisor->launch->ranks; i++)
			log_info("rank %u: %s", i, supervisor->links[i]);
	}
}

static void note_links(struct supervisor *supervisor, unsigned rank,
		       const char *links, const char *alike)
{
	if (supervisor->links[rank][0])
		return; /* later epochs are not told of */
	snprintf(supervisor->links[rank], LINKS_BYTES, "%s", links);
	if (!supervisor->links_known++)
		snprintf(supervisor->alike, LINKS_BYTES, "%s",
			 alike ? alike : "");
	else if (!alike || strcmp(alike, supervisor->alike) != 0)
		supervisor->alike[0] = '\0';
	if (supervisor->links_known == supervisor->launch->ranks)
		show_links(supervisor);
}

static void take_event(void *argument, unsigned rank, const json_t *event)
{
	struct supervisor *supervisor = argument;
	const struct launch *launch = supervisor->launch;
	const char *links = json_string_value(json_object_get(event, "links"));

	if (!links) {
		if (launch->event)
			launch->event(launch->argument, rank, event);
		return;
	}
	if (supervisor->links && links[0])
		note_links(supervisor, rank, links,
			   json_string_value(json_object_get(event, "alike")));
}

static void request_stop(struct supervisor *supervisor)
{
	if (supervisor->stops++ == 0) {
		if (!supervisor->launch->quiet)
			log_info("stopping after this step; checkpointing "
				 "(again to stop at once)");
		coordinator_stop(supervisor->coordinator);
		return;
	}
	supervisor->interrupted = true;
	coordinator_abort(
		supervisor->coordinator, -EINTR,
		"interrupted: stopped at once; what is not in a checkpoint is lost");
}

/* The ranks have groups of their own: Ctrl-Z does not reach them. */
static void suspend(struct supervisor *supervisor)
{
	launch_ranks_signal(supervisor->ranks, SIGSTOP);
	kill(getpid(), SIGSTOP);
	launch_ranks_signal(supervisor->ranks, SIGCONT);
}

static void take_signals(struct supervisor *supervisor)
{
	int number;

	while ((number = launch_signals_next(&supervisor->signals)) != 0) {
		if (number == SIGTSTP)
			suspend(supervisor);
		else if (number == SIGUSR1)
			coordinator_ask_states(supervisor->coordinator);
		else if (number != SIGCHLD)
			request_stop(supervisor);
	}
}

/* A rank that no longer listens needs no time to end by itself. */
static void end_silent(struct supervisor *supervisor)
{
	for (unsigned i = 0; i < supervisor->launch->ranks; i++) {
		if (coordinator_is_silent(supervisor->coordinator, i))
			launch_ranks_kill(supervisor->ranks, i);
	}
}

/* Everyone is gone in time, willing or not. False: give up waiting. */
static bool enforce(struct supervisor *supervisor)
{
	int64_t grace_ns = or_default(supervisor->launch->grace_ns, GRACE_NS);
	int64_t now_ns = clock_now_ns();
	enum coordinator_state state =
		coordinator_state(supervisor->coordinator);

	if (state == COORDINATOR_DONE) {
		supervisor->done_ns = or_default(supervisor->done_ns, now_ns);
		if (now_ns - supervisor->done_ns >= LEAVE_NS)
			coordinator_abort(supervisor->coordinator, -ETIMEDOUT,
					  "a rank did not end after it was "
					  "done");
	}
	if (state != COORDINATOR_ABORTED)
		return true;
	if (!supervisor->aborted_ns)
		end_silent(supervisor);
	supervisor->aborted_ns = or_default(supervisor->aborted_ns, now_ns);
	if (now_ns - supervisor->aborted_ns < grace_ns)
		return true;
	if (launch_ranks_are_threads(supervisor->ranks))
		return false;
	/* Again each tick: one may have been started by SIGCONT since. */
	launch_ranks_signal(supervisor->ranks, SIGKILL);
	if (supervisor->launch->hosts) {
		if (!supervisor->killed)
			hosts_kill(supervisor->launch->hosts);
		if (now_ns - supervisor->aborted_ns >= grace_ns + GIVE_UP_NS)
			hosts_give_up(supervisor->launch->hosts);
	}
	supervisor->killed = true;
	return now_ns - supervisor->aborted_ns < grace_ns + REAP_NS;
}

/* When the loop must look again even if nothing comes. */
static int64_t next_look_ns(const struct supervisor *supervisor)
{
	int64_t look_ns = clock_now_ns() + TICK_NS;

	if (supervisor->aborted_ns && !supervisor->killed)
		look_ns = MIN(look_ns,
			      supervisor->aborted_ns +
				      or_default(supervisor->launch->grace_ns,
						 GRACE_NS));
	return look_ns;
}

/* Our own two descriptors, then those of the hosts. */
static struct pollfd *make_polls(const struct supervisor *supervisor,
				 unsigned *count)
{
	struct hosts *hosts = supervisor->launch->hosts;
	struct pollfd *polls = calloc(2 + (hosts ? hosts_poll_count(hosts) : 0),
				      sizeof(*polls));

	if (!polls)
		return NULL;
	polls[0] = (struct pollfd){.fd = supervisor->signals.read_fd,
				   .events = POLLIN};
	polls[1] =
		(struct pollfd){.fd = launch_ranks_wake_fd(supervisor->ranks),
				.events = POLLIN};
	*count = 2 + (hosts ? hosts_fill_polls(hosts, polls + 2) : 0);
	return polls;
}

static void poll_once(struct supervisor *supervisor)
{
	struct hosts *hosts = supervisor->launch->hosts;
	unsigned count = 0;
	struct pollfd *polls = make_polls(supervisor, &count);
	int rc = -ENOMEM;

	if (polls)
		rc = coordinator_poll(supervisor->coordinator, polls, count,
				      next_look_ns(supervisor));
	if (rc < 0)
		coordinator_abort(supervisor->coordinator, -EIO,
				  log_last_error());
	if (hosts && polls)
		hosts_take_polls(hosts, polls + 2, count - 2);
	if (hosts && hosts_take_stop(hosts) &&
	    !coordinator_stop_requested(supervisor->coordinator)) {
		if (!supervisor->launch->quiet)
			log_info("stopping after this step, as another host "
				 "was asked to; checkpointing");
		coordinator_stop(supervisor->coordinator);
	}
	free(polls);
}

/* Returns how many ranks are still there: 0 but for threads that hang. */
static unsigned supervise(struct supervisor *supervisor)
{
	const struct launch *launch = supervisor->launch;
	unsigned running;

	for (;;) {
		running = launch_ranks_reap(supervisor->ranks, rank_ended,
					    supervisor);
		if (launch->hosts)
			running += hosts_running(launch->hosts);
		if (running == 0 || !enforce(supervisor))
			return running;
		poll_once(supervisor);
		take_signals(supervisor);
		if (launch->stop && !supervisor->stops &&
		    launch->stop(launch->argument))
			request_stop(supervisor);
	}
}

static void note_hanging(const struct supervisor *supervisor)
{
	for (unsigned i = 0; i < supervisor->launch->ranks; i++) {
		if (launch_ranks_running(supervisor->ranks, i))
			log_error("rank %u does not end", i);
	}
}

static void write_result(const struct supervisor *supervisor,
			 struct launch_result *out, unsigned running)
{
	const char *reason;

	out->stopped = coordinator_stop_requested(supervisor->coordinator);
	out->interrupted = supervisor->interrupted;
	out->done = json_incref(coordinator_result(supervisor->coordinator, 0));
	out->abandoned = running > 0;
	if (coordinator_state(supervisor->coordinator) == COORDINATOR_DONE)
		return;
	out->status = coordinator_failure(supervisor->coordinator,
					  &out->failed_rank, &reason);
	snprintf(out->reason, sizeof(out->reason), "%s", reason);
	log_error("%s", out->reason);
	if (running)
		note_hanging(supervisor);
}

static int check(const struct launch *launch)
{
	if (launch->ranks == 0 || launch->ranks > LAUNCH_RANKS_MAX)
		return fail(-EINVAL, "%u ranks: between 1 and %u are possible",
			    launch->ranks, LAUNCH_RANKS_MAX);
	if (launch->transport && strcmp(launch->transport, "inproc") == 0 &&
	    !launch->rank_main)
		return fail(-EINVAL, "transport inproc: no work for the ranks' "
				     "threads was given");
	/* Once here, rather than by every rank. */
	if (launch->transport && strncmp(launch->transport, "fault:", 6) != 0 &&
	    transport_check(launch->transport))
		return -EOPNOTSUPP;
	if (!launch->hosts)
		return 0;
	if (launch->transport && strcmp(launch->transport, "inproc") == 0)
		return fail(-EINVAL, "--transport inproc is for ranks of one "
				     "process, and these are several");
	if (launch->ranks != hosts_size(launch->hosts))
		return fail(-EINVAL,
			    "the job is for %u ranks, but the world has %u: "
			    "start %u (stages times --replicas times --tensor)",
			    launch->ranks, hosts_size(launch->hosts),
			    launch->ranks);
	return 0;
}

/* Protection on this host alone needs no key of the user's. */
static int choose_links(struct supervisor *supervisor,
			struct coordinator_links *links)
{
	const struct launch *launch = supervisor->launch;
	unsigned char key[SECURE_KEY_BYTES];
	int rc;

	if (launch->hosts)
		hosts_links(launch->hosts, links);
	if (!launch->quiet)
		supervisor->links = calloc(launch->ranks, LINKS_BYTES);
	links->wire = launch->wire;
	if (links->key || !launch->wire || strcmp(launch->wire, "auto") == 0 ||
	    strcmp(launch->wire, "checked") == 0)
		return 0;
	rc = secure_key_make(key);
	if (rc < 0)
		return rc;
	secure_key_write(key, supervisor->key);
	supervisor->key[2 * SECURE_KEY_BYTES] = '\0'; /* no line feed */
	links->key = supervisor->key;
	explicit_bzero(key, sizeof(key));
	return 0;
}

static int open_all(struct supervisor *supervisor)
{
	const struct launch *launch = supervisor->launch;
	struct coordinator_config config = {
		.size = launch->ranks,
		.job = launch->job,
		.transport = launch->transport ? launch->transport : "tcp",
		.io = launch->io ? launch->io : "auto",
		.cores = &supervisor->cores,
		.start_timeout_ns =
			or_default(launch->start_timeout_ns, START_TIMEOUT_NS),
		.settle_ns = or_default(launch->settle_ns, SETTLE_NS),
		.silence_ns = or_never(launch->heartbeat_timeout_ns,
				       LIVENESS_SILENCE_DEFAULT_NS),
		.stall_ns =
			or_never(launch->stall_timeout_ns, LIVENESS_STALL_AUTO),
		.event = take_event,
		.argument = supervisor,
	};
	int rc;

	rc = choose_links(supervisor, &config.links);
	if (rc < 0)
		return rc;
	rc = divide_cores(supervisor);
	if (rc < 0)
		return rc;
	rc = coordinator_create(&config, &supervisor->coordinator);
	if (rc < 0)
		return rc;
	rc = launch_ranks_create(launch, &supervisor->ranks);
	if (rc < 0)
		return rc;
	if (launch->keep_signals)
		return 0;
	return launch_signals_open(
		&supervisor->signals,
		!launch_ranks_are_threads(supervisor->ranks));
}

int launch_run(const struct launch *launch, struct launch_result *out)
{
	struct supervisor supervisor = {
		.launch = launch,
		.signals = {.read_fd = -1, .write_fd = -1},
	};
	int rc, priority = 0;

	*out = (struct launch_result){.failed_rank = -1};
	rc = check(launch);
	if (rc == 0)
		rc = open_all(&supervisor);
	if (rc == 0) {
		start_all(&supervisor);
		/* To miss no heartbeat; but not at the cost of rank threads. */
		if (!launch_ranks_are_threads(supervisor.ranks))
			priority = threads_raise_priority();
		write_result(&supervisor, out, supervise(&supervisor));
		if (!launch_ranks_are_threads(supervisor.ranks))
			threads_restore_priority(priority);
	} else {
		out->status = rc;
		snprintf(out->reason, sizeof(out->reason), "%s",
			 log_last_error());
	}
	launch_signals_close(&supervisor.signals);
	if (launch->hosts)
		hosts_end_job(launch->hosts);
	free(supervisor.links);
	coordinator_destroy(supervisor.coordinator);
	launch_ranks_destroy(supervisor.ranks);
	cores_plan_fini(&supervisor.cores);
	return out->status;
}

void launch_result_fini(struct launch_result *result)
{
	json_decref(result->done);
	result->done = NULL;
}
