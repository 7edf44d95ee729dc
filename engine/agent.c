#include "engine/agent.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/socket_life.h"
#include "base/text.h"
#include "engine/agent_connect.h"
#include "engine/hosts_internal.h"
#include "engine/launch_ranks.h"
#include "engine/launch_signals.h"
#include "engine/liveness.h"
#include "engine/world_control.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ORIGIN     "the coordinator"
#define TICK_NS    (200 * NS_PER_MS)
#define INPUT_NS   (500 * NS_PER_MS)
#define SILENCE_NS (2 * NS_PER_SECOND)
#define ANSWER_NS  (10 * NS_PER_SECOND) /* from a rank's failure to the end */
#define GRACE_NS   (1500 * NS_PER_MS)   /* a rank's, once nobody needs it */

/* One of our ranks, and the connection it speaks through. */
struct relay {
	unsigned rank;
	struct control_channel child; /* to the process; fd -1: closed */
	struct control_channel up;    /* to the coordinator */
	bool said_end; /* `ended` is queued: close when it is sent */
	uint64_t acknowledged_bytes; /* by the coordinator's host */
};

struct agent {
	const struct agent_config *config;
	struct agent_session session;
	struct launch_signals signals;
	struct relay *relays; /* [count] */
	unsigned count;
	struct launch_ranks *ranks; /* of the running job, or NULL */
	unsigned running;
	bool over;
	int status;
	int64_t kill_ns;   /* when the ranks are ended by force; 0: not yet */
	int64_t heard_ns;  /* when a running job's coordinator last spoke */
	int64_t failed_ns; /* when a rank of ours failed; 0: none yet */
	int64_t input_ns;  /* when our input ended; 0: not yet */
	struct pollfd *polls;
};

/* ---- the ranks of a job ---- */

static void close_relay(struct relay *relay)
{
	control_channel_fini(&relay->child);
	control_channel_fini(&relay->up);
	relay->said_end = false;
}

static int start_rank(struct agent *agent, struct relay *relay, int64_t job)
{
	int fds[2], rc;

	rc = agent_connect_again(agent->config, &agent->session, &relay->up);
	if (rc < 0)
		return rc;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return fail(-errno, "control socket of rank %u: %s",
			    relay->rank, strerror(errno));
	rc = launch_ranks_start(agent->ranks, relay->rank, fds[1]);
	if (rc < 0) {
		close(fds[0]);
		return rc;
	}
	agent->running++;
	rc = control_channel_init(&relay->child, fds[0], CONTROL_MESSAGE_BYTES,
				  2 * (size_t)CONTROL_MESSAGE_BYTES, false);
	relay->up.queue_bytes = 2 * (size_t)CONTROL_MESSAGE_BYTES;
	if (!rc)
		rc = control_queue(
			&relay->up, CONTROL_ATTACH,
			json_pack("{s:s, s:I, s:i, s:I}", "session",
				  agent->session.session, "job",
				  (json_int_t)job, "rank", (int)relay->rank,
				  "pid",
				  (json_int_t)launch_ranks_pid(agent->ranks,
							       relay->rank)));
	return rc;
}

/* All paths of a job are as seen from the coordinator's folder. */
static void enter_folder(const char *folder)
{
	char own[4096];

	if (!folder[0] ||
	    (getcwd(own, sizeof(own)) && strcmp(own, folder) == 0))
		return;
	if (chdir(folder) < 0)
		log_warning("%s, where rank 0 runs, is not here (%s): relative "
			    "paths will not be found",
			    folder, strerror(errno));
}

static int start_job(struct agent *agent, const json_t *message)
{
	struct launch launch = {
		.ranks = agent->config->place->size,
		.transport = "tcp",
		.program = agent->config->program,
	};
	const char *folder;
	int64_t job;
	int rc;

	if (json_get_integer(message, "job", 0, INT64_MAX, ORIGIN, &job) < 0 ||
	    json_get_string(message, "folder", ORIGIN, &folder) < 0)
		return -EPROTO;
	if (agent->ranks)
		return fail(-EPROTO, ORIGIN " begins a job within a job");
	enter_folder(folder);
	agent->heard_ns = clock_now_ns();
	agent->failed_ns = 0;
	rc = launch_ranks_create(&launch, &agent->ranks);
	for (unsigned i = 0; !rc && i < agent->count; i++)
		rc = start_rank(agent, &agent->relays[i], job);
	return rc;
}

static void rank_ended(void *argument, unsigned rank, const char *how)
{
	struct agent *agent = argument;
	struct relay *relay = &agent->relays[rank - agent->config->place->rank];
	int filled = 1;

	/* Its last words, then how it ended. */
	while (relay->child.fd >= 0 && filled > 0) {
		filled = control_fill(&relay->child);
		if (control_forward(&relay->child, &relay->up, "a rank") < 0)
			break;
	}
	control_channel_fini(&relay->child);
	if (how && !agent->failed_ns)
		agent->failed_ns = clock_now_ns();
	if (relay->up.fd < 0)
		return;
	if (control_queue(&relay->up, CONTROL_ENDED,
			  json_pack("{s:s*}", "how", how)) < 0) {
		control_channel_fini(&relay->up);
		return;
	}
	relay->said_end = true;
}

static void flush_relay(struct relay *relay)
{
	int rc;

	if (relay->up.fd >= 0) {
		rc = control_flush(&relay->up);
		if (rc < 0 || (rc == 0 && relay->said_end))
			control_channel_fini(&relay->up);
	}
	/* Where the coordinator does not hear, the rank shall know. */
	if (relay->up.fd < 0)
		control_channel_fini(&relay->child);
	else if (relay->child.fd >= 0 && control_flush(&relay->child) < 0)
		relay->child.out_start = relay->child.out_end;
}

/* False: the job of this agent goes on. */
static bool job_is_over(const struct agent *agent)
{
	for (unsigned i = 0; i < agent->count; i++) {
		if (agent->relays[i].up.fd >= 0)
			return false;
	}
	return agent->running == 0;
}

static void end_job(struct agent *agent)
{
	for (unsigned i = 0; i < agent->count; i++)
		close_relay(&agent->relays[i]);
	launch_ranks_destroy(agent->ranks);
	agent->ranks = NULL;
	agent->running = 0;
}

/* Nobody needs our ranks any more: they learn it by their closed sockets. */
static void let_go(struct agent *agent, int status)
{
	agent->over = true;
	agent->status = status;
	agent->kill_ns = clock_now_ns() + GRACE_NS;
	control_channel_fini(&agent->session.channel);
	for (unsigned i = 0; i < agent->count; i++)
		close_relay(&agent->relays[i]);
}

/* ---- what comes ---- */

static void take_end(struct agent *agent, const json_t *message)
{
	const char *reason;
	int64_t status;

	if (json_get_integer(message, "status", 0, 255, ORIGIN, &status) < 0 ||
	    json_get_string(message, "reason", ORIGIN, &reason) < 0)
		status = 1;
	else if (agent->config->input_fd >= 0)
		log_debug("the job ended: %s", reason); /* as told at home */
	else if (status && reason[0])
		log_error("the job failed: %s", reason);
	else if (status)
		log_error("the job failed; rank 0 says why");
	let_go(agent, (int)status);
}

static void take_message(struct agent *agent, enum control_kind kind,
			 const json_t *message)
{
	switch (kind) {
	case CONTROL_START:
		if (start_job(agent, message) < 0)
			let_go(agent, 1); /* the coordinator sees us go */
		return;
	case CONTROL_KILL:
		if (agent->ranks)
			launch_ranks_signal(agent->ranks, SIGKILL);
		return;
	case CONTROL_END:
		take_end(agent, message);
		return;
	default:
		log_error(ORIGIN " sends '%s' out of turn",
			  control_kind_name(kind));
		let_go(agent, 1);
	}
}

static void read_session(struct agent *agent)
{
	struct control_channel *channel = &agent->session.channel;
	enum control_kind kind;
	json_t *message;
	int filled, rc = 0;

	do {
		filled = control_fill(channel);
		while (!agent->over &&
		       (rc = control_next(channel, ORIGIN, &kind, &message)) >
			       0) {
			take_message(agent, kind, message);
			json_decref(message);
		}
	} while (filled > 0 && !agent->over && rc == 0);
	if (agent->over)
		return;
	if (rc < 0 || filled < 0) {
		log_error("the connection to the coordinator (rank 0) broke "
			  "off: its process was killed, or its host or the "
			  "network is down");
		let_go(agent, 1);
	}
}

static void take_signals(struct agent *agent)
{
	int number;

	while ((number = launch_signals_next(&agent->signals)) != 0) {
		if (number == SIGUSR1 && agent->ranks)
			launch_ranks_signal(agent->ranks, SIGUSR1);
		if (number == SIGCHLD || number == SIGTSTP ||
		    number == SIGUSR1 || agent->over)
			continue;
		if (control_queue(&agent->session.channel, CONTROL_STOP,
				  json_pack("{s:i}", "signal", number)) < 0)
			log_warning("signal %d could not be passed on", number);
	}
}

/* ssh closes our input when its own connection ends. */
static void read_input(struct agent *agent)
{
	char byte[64];
	ssize_t got = read(agent->config->input_fd, byte, sizeof(byte));

	if (got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR)))
		return;
	agent->input_ns = clock_now_ns();
}

/* At the end of a job it ends as well: what the coordinator says comes first. */
static void check_input(struct agent *agent)
{
	if (!agent->input_ns || agent->over ||
	    clock_now_ns() - agent->input_ns < INPUT_NS)
		return;
	log_error("the connection that started this process has ended");
	let_go(agent, 1);
}

/* The job has failed; the coordinator knows, and is to end us. */
static void check_answer(struct agent *agent)
{
	int64_t now_ns = clock_now_ns();

	if (!agent->failed_ns || agent->over ||
	    (now_ns - agent->failed_ns < ANSWER_NS &&
	     now_ns - agent->heard_ns < SILENCE_NS))
		return;
	log_error("the coordinator (rank 0) does not answer: ending");
	let_go(agent, 1);
}

static bool has_room(const struct control_channel *channel)
{
	return channel->out_end - channel->out_start <
	       CONTROL_MESSAGE_BYTES / 4;
}

/* All that has come and that the other side has room for: 1 if any has. */
static int hand_on(struct control_channel *from, struct control_channel *to,
		   const char *origin)
{
	int came = 0, rc;

	for (;;) {
		rc = control_forward(from, to, origin);
		if (rc < 0 || !has_room(to))
			break;
		rc = control_fill(from);
		if (rc <= 0)
			break;
		came = 1;
	}
	return rc < 0 ? rc : came;
}

static void read_relay(struct agent *agent, struct relay *relay)
{
	int rc;

	if (relay->child.fd >= 0 && relay->up.fd >= 0 &&
	    hand_on(&relay->child, &relay->up, "a rank") < 0)
		control_channel_fini(&relay->child); /* reaped soon */
	if (relay->up.fd < 0)
		return;
	if (relay->child.fd >= 0) {
		rc = hand_on(&relay->up, &relay->child, ORIGIN);
		if (rc < 0)
			control_channel_fini(&relay->up);
		else if (rc > 0)
			agent->heard_ns = clock_now_ns();
		return;
	}
	/* Its rank is gone: what comes is for nobody. */
	relay->up.in_start = relay->up.in_end;
	if (control_fill(&relay->up) < 0)
		control_channel_fini(&relay->up);
}

/* ---- the loop ---- */

static short events_of(const struct control_channel *own,
		       const struct control_channel *other)
{
	return (short)((has_room(other) ? POLLIN : 0) |
		       (control_pending(own) ? POLLOUT : 0));
}

/* Negative descriptors are skipped by poll(). */
static unsigned fill_polls(struct agent *agent)
{
	struct control_channel *session = &agent->session.channel;
	unsigned count = 0;

	agent->polls[count++] = (struct pollfd){
		.fd = session->fd,
		.events = (short)(POLLIN |
				  (control_pending(session) ? POLLOUT : 0))};
	agent->polls[count++] =
		(struct pollfd){.fd = agent->signals.read_fd, .events = POLLIN};
	agent->polls[count++] = (struct pollfd){
		.fd = agent->over || agent->input_ns ? -1
						     : agent->config->input_fd,
		.events = POLLIN};
	for (unsigned i = 0; i < agent->count; i++) {
		struct relay *relay = &agent->relays[i];

		agent->polls[count++] = (struct pollfd){
			.fd = relay->child.fd,
			.events = events_of(&relay->child, &relay->up)};
		agent->polls[count++] = (struct pollfd){
			.fd = relay->up.fd,
			.events = events_of(&relay->up, &relay->child)};
	}
	return count;
}

static int poll_once(struct agent *agent)
{
	unsigned count = fill_polls(agent);

	if (poll(agent->polls, count, (int)(TICK_NS / NS_PER_MS)) < 0 &&
	    errno != EINTR)
		return fail(-errno, "poll: %s", strerror(errno));
	take_signals(agent);
	for (unsigned i = 0; i < agent->count; i++)
		read_relay(agent, &agent->relays[i]);
	if (agent->ranks)
		agent->running =
			launch_ranks_reap(agent->ranks, rank_ended, agent);
	for (unsigned i = 0; i < agent->count; i++)
		flush_relay(&agent->relays[i]);
	if (agent->polls[2].revents && !agent->over)
		read_input(agent);
	if (agent->polls[0].revents & ~POLLOUT && !agent->over)
		read_session(agent);
	if (!agent->over && control_flush(&agent->session.channel) < 0)
		log_debug("the session is broken"); /* reading finds out */
	return 0;
}

/*
 * A coordinator that is stopped for a while, or whose terminal takes no output,
 * sends no heartbeat. As long as its host takes what our ranks say we know
 * better than they can, and beat in its place.
 */
static void beat(struct agent *agent)
{
	static const char text[] = "{\"kind\":\"beat\"}";

	for (unsigned i = 0; i < agent->count; i++) {
		struct relay *relay = &agent->relays[i];
		struct socket_life life;

		if (relay->child.fd < 0 || relay->up.fd < 0 ||
		    !socket_life_answers(relay->up.fd,
					 &relay->acknowledged_bytes) ||
		    socket_life_query(relay->up.fd, &life) < 0 ||
		    life.data_silent_ns < LIVENESS_DOUBT_NS ||
		    life.data_silent_ns > WORLD_PATIENCE_NS)
			continue;
		if (control_queue_parts(&relay->child, text, "", 0, "") == 0 &&
		    control_flush(&relay->child) < 0)
			relay->child.out_start = relay->child.out_end;
	}
}

/* Ends our ranks by force once their time is over. */
static void enforce(struct agent *agent)
{
	if (!agent->kill_ns || clock_now_ns() < agent->kill_ns || !agent->ranks)
		return;
	launch_ranks_signal(agent->ranks, SIGKILL);
}

static void serve(struct agent *agent)
{
	read_session(agent); /* what came along with the answer */
	while (!agent->over || agent->running) {
		if (poll_once(agent) < 0)
			let_go(agent, 1);
		if (agent->ranks && job_is_over(agent))
			end_job(agent);
		check_input(agent);
		check_answer(agent);
		beat(agent);
		enforce(agent);
	}
	if (agent->ranks)
		end_job(agent);
}

static int prepare(struct agent *agent)
{
	agent->relays = calloc(agent->count, sizeof(*agent->relays));
	agent->polls =
		calloc(3 + 2 * (size_t)agent->count, sizeof(*agent->polls));
	if (!agent->relays || !agent->polls)
		return fail(-ENOMEM, "no memory for %u ranks", agent->count);
	for (unsigned i = 0; i < agent->count; i++)
		agent->relays[i] = (struct relay){
			.rank = agent->config->place->rank + i,
			.child = {.fd = -1},
			.up = {.fd = -1},
		};
	if (agent->config->input_fd >= 0)
		fcntl(agent->config->input_fd, F_SETFL, O_NONBLOCK);
	return 0;
}

int agent_run(const struct agent_config *config)
{
	struct agent agent = {
		.config = config,
		.count = MAX(config->count, 1),
		.session = {.channel = {.fd = -1}},
		.signals = {.read_fd = -1, .write_fd = -1},
		.status = 1,
	};
	int rc = prepare(&agent);

	if (!rc)
		rc = agent_connect(config, &agent.session);
	if (!rc)
		rc = launch_signals_open(&agent.signals, false);
	if (!rc)
		serve(&agent);
	launch_signals_close(&agent.signals);
	control_channel_fini(&agent.session.channel);
	free(agent.relays);
	free(agent.polls);
	return agent.status;
}
