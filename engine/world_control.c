#include "engine/world_control.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/socket_life.h"
#include "base/threads.h"
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define ORIGIN       "the coordinator"
#define ACTION_BYTES 48

static void nudge(struct world_control *control)
{
	uint64_t one = 1;

	if (write(control->nudge_fd, &one, sizeof(one)) < 0)
		log_debug("eventfd: %s", strerror(errno));
}

/* ---- sending ---- */

int world_control_send(struct world_control *control, enum control_kind kind,
		       json_t *message)
{
	size_t bound;
	int rc;

	pthread_mutex_lock(&control->send_lock);
	/* Events are held to the bound; what decides the job is not. */
	bound = control->channel.queue_bytes;
	control->channel.queue_bytes =
		bound + 2 * (size_t)CONTROL_MESSAGE_BYTES;
	rc = control_queue(&control->channel, kind, message);
	control->channel.queue_bytes = bound;
	if (!rc)
		rc = control_flush(&control->channel);
	pthread_mutex_unlock(&control->send_lock);
	if (rc > 0)
		nudge(control);
	if (rc == -EPIPE || rc == -ECONNRESET)
		return 0; /* the reading side finds out and deals with it */
	return MIN(rc, 0);
}

/* What the main thread does, in words fit for JSON. */
static void describe_action(const struct world *world, char *text, size_t size)
{
	const struct world_progress *progress = &world->progress;
	world_describe_fn *describe = world->describe;

	text[0] = '\0';
	if (atomic_load(&progress->between))
		snprintf(text, size, "%s",
			 atomic_load(&progress->step) < 0 ? "start-up"
							  : "between steps");
	else if (describe && atomic_load(&progress->step) >= 0)
		describe(atomic_load(&progress->action), text, size);
	for (char *c = text; *c; c++) {
		if (*c < ' ' || *c > '~' || *c == '"' || *c == '\\')
			*c = '?';
	}
}

static int64_t since_ms(int64_t since_ns)
{
	return since_ns ? (clock_now_ns() - since_ns) / NS_PER_MS : 0;
}

/* A heartbeat that finds the queue full is not missed: bytes still move. */
static void send_progress(struct world_control *control)
{
	const struct world_progress *progress = &control->world->progress;
	uint64_t wait = atomic_load(&progress->wait);
	char action[ACTION_BYTES], text[320];

	describe_action(control->world, action, sizeof(action));
	snprintf(text, sizeof(text),
		 "{\"kind\":\"progress\",\"step\":%" PRId64
		 ",\"action\":\"%s\",\"milliseconds\":%" PRId64
		 ",\"between\":%s,\"moves\":%" PRId64
		 ",\"wait\":%u,\"peer\":%u}",
		 atomic_load(&progress->step), action,
		 since_ms(atomic_load(&progress->since_ns)),
		 atomic_load(&progress->between) ? "true" : "false",
		 (int64_t)(atomic_load(&progress->moves) & INT64_MAX),
		 (unsigned)(wait >> 32), (unsigned)wait);
	pthread_mutex_lock(&control->send_lock);
	if (control_queue_parts(&control->channel, "", text, strlen(text),
				"") == 0 &&
	    control_flush(&control->channel) < 0)
		log_debug("heartbeat: the control connection is broken");
	pthread_mutex_unlock(&control->send_lock);
}

/* ---- the wait state, for people ---- */

static PRINTF_LIKE(3, 4) void append(char *text, size_t size,
				     const char *format, ...)
{
	size_t used = strlen(text);
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text + used, size - used, format, arguments);
	va_end(arguments);
}

static void append_wait(const struct world_progress *progress, char *text,
			size_t size)
{
	uint64_t wait = atomic_load(&progress->wait);
	unsigned peer = (unsigned)wait;
	double seconds =
		(double)since_ms(atomic_load(&progress->wait_since_ns)) / 1000;

	switch ((enum liveness_wait)(wait >> 32)) {
	case LIVENESS_WAITS_DATA:
		append(text, size, ", for %.1f s waiting for data from rank %u",
		       seconds, peer);
		return;
	case LIVENESS_WAITS_ROOM:
		append(text, size,
		       ", for %.1f s waiting for rank %u to take a message",
		       seconds, peer);
		return;
	case LIVENESS_WAITS_ALL:
		append(text, size, ", for %.1f s waiting for all ranks",
		       seconds);
		return;
	case LIVENESS_BUSY:
	case LIVENESS_WAITS:
		break;
	}
	append(text, size, ", waiting for nobody");
}

static void append_links(const struct world *world, char *text, size_t size)
{
	const struct world_link *links = atomic_load(&world->links);

	for (unsigned i = 0; links && i < world->size; i++) {
		uint64_t sent = atomic_load(&links[i].messages_sent);
		uint64_t received = atomic_load(&links[i].messages_received);

		if (!sent && !received)
			continue;
		append(text, size,
		       "; rank %u: %" PRIu64 " messages (%" PRIu64
		       " bytes) sent, %" PRIu64 " (%" PRIu64 ") received",
		       i, sent, atomic_load(&links[i].bytes_sent), received,
		       atomic_load(&links[i].bytes_received));
	}
}

static void write_state(struct world_control *control)
{
	const struct world *world = control->world;
	const struct world_progress *progress = &world->progress;
	int64_t step = atomic_load(&progress->step);
	char action[ACTION_BYTES], text[2048] = "state: ";

	describe_action(world, action, sizeof(action));
	if (step >= 0)
		append(text, sizeof(text), "step %" PRId64 ", ", step);
	append(text, sizeof(text), "%s for %.1f s",
	       action[0] ? action : "at work",
	       (double)since_ms(atomic_load(&progress->since_ns)) / 1000);
	append_wait(progress, text, sizeof(text));
	append_links(world, text, sizeof(text));
	log_info("%s", text);
}

/* ---- what comes ---- */

static void cancel(struct world_control *control, const char *reason)
{
	uint64_t one = 1;

	if (atomic_load(&control->cancelled))
		return;
	pthread_mutex_lock(&control->lock);
	snprintf(control->reason, sizeof(control->reason), "%s", reason);
	atomic_store(&control->cancelled, true);
	pthread_cond_broadcast(&control->changed);
	pthread_mutex_unlock(&control->lock);
	if (write(control->wake_fd, &one, sizeof(one)) < 0)
		log_debug("eventfd: %s", strerror(errno));
	if (control->process)
		control->exit_ns = clock_now_ns() + WORLD_ABORT_GRACE_NS;
}

/*
 * On this host the end of the socket tells for certain that the coordinator is
 * gone; over a network (an agent's, if not ours) it may take minutes to, or
 * never come.
 */
static void watch_coordinator(struct world_control *control,
			      const json_t *welcome)
{
	const json_t *ms = json_object_get(welcome, "silence_ms");
	int64_t silence_ns = json_integer_value(ms) * NS_PER_MS;
	socklen_t length = sizeof(int);
	int domain = AF_UNIX;

	getsockopt(control->channel.fd, SOL_SOCKET, SO_DOMAIN, &domain,
		   &length);
	if ((domain == AF_UNIX &&
	     !json_is_true(json_object_get(welcome, "remote"))) ||
	    silence_ns <= 0)
		return;
	if (liveness_create(1, silence_ns, 0, &control->watch) < 0)
		return;
	liveness_expect(control->watch, 0, clock_now_ns());
}

static void name_thread(const json_t *welcome)
{
	char identity[32];

	snprintf(identity, sizeof(identity), "rank %" JSON_INTEGER_FORMAT,
		 json_integer_value(json_object_get(welcome, "rank")));
	log_set_identity(identity);
}

/* Takes over `message`. False: it means nothing to a rank. */
static bool keep_message(struct world_control *control, enum control_kind kind,
			 json_t *message)
{
	json_t **place = NULL;

	pthread_mutex_lock(&control->lock);
	if (kind == CONTROL_WELCOME && !control->welcome) {
		place = &control->welcome;
	} else if (kind == CONTROL_GATHERED) {
		place = &control->gathered;
		json_decref(*place);
		control->gathered_round =
			json_integer_value(json_object_get(message, "round"));
	} else if (kind == CONTROL_BYE) {
		control->bye = true;
	}
	if (place == &control->welcome) {
		name_thread(message);
		watch_coordinator(control, message);
	}
	if (place)
		*place = message; /* from here on the main thread's */
	pthread_cond_broadcast(&control->changed);
	pthread_mutex_unlock(&control->lock);
	if (!place)
		json_decref(message);
	return place || kind == CONTROL_BYE;
}

static void take_message(struct world_control *control, enum control_kind kind,
			 json_t *message)
{
	const char *reason;

	switch (kind) {
	case CONTROL_STOP:
		atomic_store(&control->stop, true);
		json_decref(message);
		return;
	case CONTROL_BEAT: /* that it came is all it says */
		json_decref(message);
		return;
	case CONTROL_STATE:
		write_state(control);
		json_decref(message);
		return;
	case CONTROL_ABORT:
		reason = json_string_value(json_object_get(message, "reason"));
		cancel(control, reason ? reason : "the coordinator says so");
		json_decref(message);
		return;
	default:
		if (!keep_message(control, kind, message))
			cancel(control, "the coordinator sent what only a "
					"rank may send");
	}
}

/* The coordinator is gone: a process has nobody left to live for. */
static void lost(struct world_control *control)
{
	bool bye;

	pthread_mutex_lock(&control->lock);
	bye = control->bye;
	pthread_mutex_unlock(&control->lock);
	atomic_store(&control->quit, true);
	if (bye || atomic_load(&control->cancelled))
		return;
	if (control->process) {
		log_error("the supervisor is gone: ending at once");
		_exit(1);
	}
	cancel(control, "the control connection was closed");
}

static void read_all(struct world_control *control)
{
	enum control_kind kind;
	json_t *message;
	int filled, rc;

	do {
		filled = control_fill(&control->channel);
		if (filled > 0 && control->watch)
			liveness_heard(control->watch, 0, clock_now_ns());
		while ((rc = control_next(&control->channel, ORIGIN, &kind,
					  &message)) > 0)
			take_message(control, kind, message);
		if (rc < 0) {
			cancel(control, "the coordinator's messages are "
					"damaged");
			atomic_store(&control->quit, true);
			return;
		}
	} while (filled > 0);
	if (filled < 0)
		lost(control);
}

static void check_coordinator(struct world_control *control)
{
	struct liveness_verdict verdict;
	char reason[WORLD_REASON_BYTES];
	bool answers;

	if (!control->watch || atomic_load(&control->cancelled))
		return;
	/*
	 * Its host may answer while it is stopped, or while its terminal is.
	 * Asked once a beat, before the next is sent: the last one is
	 * acknowledged by then. Behind an agent it is the agent that asks.
	 */
	answers = socket_life_answers(control->channel.fd,
				      &control->acknowledged_bytes);
	verdict = liveness_look(control->watch, clock_now_ns());
	if (verdict.finding == LIVENESS_FINE ||
	    (verdict.quiet_ns < WORLD_PATIENCE_NS && answers))
		return;
	snprintf(reason, sizeof(reason),
		 "no sign of life from the coordinator for %.1f s: its host or "
		 "the network between is gone, or it is stopped",
		 clock_seconds(verdict.quiet_ns));
	log_error("%s", reason);
	/* What cannot reach us may hear us. */
	if (world_control_send(
		    control, CONTROL_FAILED,
		    json_pack("{s:i, s:I, s:s}", "code", -ETIMEDOUT, "step",
			      (json_int_t)atomic_load(
				      &control->world->progress.step),
			      "message", reason)) < 0)
		log_debug("that could not be told");
	cancel(control, reason);
}

/* Slurm, or a user, signals a rank: that is meant for the job. */
static void take_signals(struct world_control *control)
{
	struct signalfd_siginfo info;

	while (read(control->signal_fd, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGTSTP)
			continue;
		if (info.ssi_signo == SIGUSR1) {
			write_state(control);
			continue;
		}
		if (world_control_send(control, CONTROL_STOP,
				       json_pack("{s:i}", "signal",
						 (int)info.ssi_signo)) < 0)
			log_warning("signal %u could not be passed on",
				    info.ssi_signo);
	}
}

/* rank_main did not return after the abort: no one else can end it. */
static void check_exit(struct world_control *control)
{
	struct world *world = control->world;
	int64_t step = atomic_load(&world->progress.step);
	char action[ACTION_BYTES];

	if (!control->exit_ns || clock_now_ns() < control->exit_ns)
		return;
	describe_action(world, action, sizeof(action));
	log_error("still busy %.1f s after the job was ended (step %" PRId64
		  "%s%s): ending by force",
		  clock_seconds(WORLD_ABORT_GRACE_NS), step,
		  action[0] ? ", " : "", action);
	_exit(1);
}

/* ---- the thread ---- */

static int poll_once(struct world_control *control, int64_t deadline_ns)
{
	struct pollfd fds[3] = {
		{.fd = control->channel.fd, .events = POLLIN},
		{.fd = control->nudge_fd, .events = POLLIN},
		{.fd = control->signal_fd, .events = POLLIN},
	};
	int64_t left_ns;
	uint64_t nudges;

	pthread_mutex_lock(&control->send_lock);
	if (control_pending(&control->channel))
		fds[0].events |= POLLOUT;
	pthread_mutex_unlock(&control->send_lock);
	left_ns = MAX(deadline_ns - clock_now_ns(), 0);
	if (poll(fds, ARRAY_SIZE(fds),
		 (int)((left_ns + NS_PER_MS - 1) / NS_PER_MS)) < 0)
		return errno == EINTR ? 0 : -errno;
	if (fds[1].revents &&
	    read(control->nudge_fd, &nudges, sizeof(nudges)) < 0)
		log_debug("eventfd: %s", strerror(errno));
	if (fds[0].revents & POLLOUT) {
		pthread_mutex_lock(&control->send_lock);
		/* A broken socket is found by reading it, below. */
		if (control_flush(&control->channel) < 0)
			control->channel.out_start = control->channel.out_end;
		pthread_mutex_unlock(&control->send_lock);
	}
	if (fds[0].revents & ~POLLOUT)
		read_all(control);
	if (fds[2].revents)
		take_signals(control);
	return 0;
}

static void *control_main(void *argument)
{
	struct world_control *control = argument;
	int64_t beat_ns = clock_now_ns() + WORLD_HEARTBEAT_NS;

	prctl(PR_SET_NAME, "control");
	threads_raise_priority();
	while (!atomic_load(&control->quit)) {
		int64_t now_ns = clock_now_ns();

		if (now_ns >= beat_ns) {
			beat_ns = now_ns + WORLD_HEARTBEAT_NS;
			check_coordinator(control);
			if (atomic_load(&control->greeted))
				send_progress(control);
		}
		check_exit(control);
		if (poll_once(control, control->exit_ns
					       ? MIN(beat_ns, control->exit_ns)
					       : beat_ns) < 0)
			cancel(control, "poll of the control connection "
					"failed");
	}
	/* The socket has ended, but rank_main is to end in time too. */
	while (control->exit_ns && !atomic_load(&control->world->finished)) {
		check_exit(control);
		clock_sleep_ns(20 * NS_PER_MS);
	}
	return NULL;
}

/* ---- life ---- */

static int open_fds(struct world_control *control)
{
	sigset_t signals;

	control->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	control->nudge_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (control->wake_fd < 0 || control->nudge_fd < 0)
		return fail(-errno, "eventfd: %s", strerror(errno));
	if (!control->process)
		return 0;
	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGHUP);
	sigaddset(&signals, SIGUSR1);
	control->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
	if (control->signal_fd < 0)
		return fail(-errno, "signalfd: %s", strerror(errno));
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	return 0;
}

static void close_all(struct world_control *control)
{
	control_channel_fini(&control->channel);
	if (control->wake_fd >= 0)
		close(control->wake_fd);
	if (control->nudge_fd >= 0)
		close(control->nudge_fd);
	if (control->signal_fd >= 0)
		close(control->signal_fd);
	json_decref(control->welcome);
	json_decref(control->gathered);
	liveness_destroy(control->watch);
	pthread_cond_destroy(&control->changed);
	pthread_mutex_destroy(&control->lock);
	pthread_mutex_destroy(&control->send_lock);
	free(control);
}

static void init_locks(struct world_control *control)
{
	pthread_condattr_t attributes;

	pthread_mutex_init(&control->send_lock, NULL);
	pthread_mutex_init(&control->lock, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&control->changed, &attributes);
	pthread_condattr_destroy(&attributes);
}

int world_control_create(int fd, bool process, struct world *world,
			 struct world_control **out)
{
	struct world_control *control = calloc(1, sizeof(*control));
	int rc;

	if (!control) {
		close(fd);
		return fail(-ENOMEM, "no memory for a control connection");
	}
	control->world = world;
	control->process = process;
	control->channel.fd = fd;
	control->wake_fd = control->nudge_fd = control->signal_fd = -1;
	control->gathered_round = -1;
	init_locks(control);
	rc = control_channel_init(&control->channel, fd, CONTROL_MESSAGE_BYTES,
				  WORLD_EVENT_QUEUE_BYTES, true);
	if (rc == 0)
		rc = open_fds(control);
	if (rc < 0)
		goto err_close;
	rc = -pthread_create(&control->thread, NULL, control_main, control);
	if (rc < 0) {
		fail(rc, "control thread: %s", strerror(-rc));
		goto err_close;
	}
	*out = control;
	return 0;

err_close:
	close_all(control);
	return rc;
}

void world_control_destroy(struct world_control *control)
{
	if (!control)
		return;
	atomic_store(&control->quit, true);
	nudge(control);
	pthread_join(control->thread, NULL);
	if (control_flush(&control->channel) > 0)
		log_debug("control messages were left unsent");
	close_all(control);
}

int world_control_wait(struct world_control *control,
		       world_control_test_fn *test, int64_t argument,
		       int64_t deadline_ns)
{
	struct timespec until = {
		.tv_sec = deadline_ns / NS_PER_SECOND,
		.tv_nsec = deadline_ns % NS_PER_SECOND,
	};
	int rc = 0;

	pthread_mutex_lock(&control->lock);
	while (!test(control, argument) && rc != -ETIMEDOUT) {
		if (atomic_load(&control->cancelled)) {
			rc = -ECANCELED;
			break;
		}
		rc = -pthread_cond_timedwait(&control->changed, &control->lock,
					     &until);
	}
	if (test(control, argument))
		rc = 0;
	pthread_mutex_unlock(&control->lock);
	return rc;
}
