/*
 * Carries the bytes of connections from one socket to another, and loses,
 * repeats, changes or keeps some of them by the plan. One thread for all
 * connections that an endpoint makes. A reset on one side becomes a reset on
 * the other, an end an end, so that both ends see of each other what they
 * would without it.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "transport/fault/fault.h"
#include "transport/tcp/tcp.h"

#define BUFFER_BYTES (64u << 10)
#define CONNECTIONS  4u /* of one peer at once: attempts that go on */
#define FLUSH_NS     NS_PER_SECOND

/* One direction of a connection. */
struct pipe {
	struct fault_stream stream;
	int from, to; /* the connection's */
	bool ended;   /* `from` has said all */
	bool shut;    /* and `to` has been told */
	bool stalled;
	bool wants_in, wants_out;
	uint64_t position; /* of buffer[begin] in the stream */
	size_t begin, end;
	size_t losing; /* of the next bytes */
	int64_t held_until_ns;
	uint64_t next[FAULT_KINDS], asked[FAULT_KINDS];
	/* The last bytes that passed, and those of them to be said again. */
	unsigned char past[FAULT_RANGE_BYTES];
	size_t past_bytes, again;
	unsigned char buffer[BUFFER_BYTES];
};

struct connection {
	bool dialling;
	bool quiet[2]; /* hung up: not worth polling without a wish */
	int fds[2];    /* our endpoint's, the peer's */
	struct pipe pipes[2];
};

/* What stands for one peer. */
struct port {
	unsigned peer;
	int listener;
	unsigned attempts;
	struct sockaddr_storage remote;
	socklen_t remote_bytes;
	struct connection *connections[CONNECTIONS];
};

struct fault_relay {
	const struct fault_plan *plan;
	unsigned rank;
	unsigned count;
	struct port *ports;
	struct pollfd *polls; /* stop, then for each port 1 + 2 CONNECTIONS */
	int stop_fd;
	pthread_t thread;
	bool running;
	bool stopping; /* the thread's: no more calls are answered */
	atomic_uint_fast64_t connected;
	atomic_uint_fast64_t happened[FAULT_KINDS];
};

/* ---- connections ---- */

static void connection_end(struct port *port, unsigned place, bool reset)
{
	struct connection *connection = port->connections[place];
	struct linger linger = {.l_onoff = 1, .l_linger = 0};
	unsigned i;

	for (i = 0; i < 2; i++) {
		if (reset)
			setsockopt(connection->fds[i], SOL_SOCKET, SO_LINGER,
				   &linger, sizeof(linger));
		close(connection->fds[i]);
	}
	free(connection);
	port->connections[place] = NULL;
}

static void pipe_init(struct pipe *pipe, const struct fault_plan *plan,
		      struct fault_stream stream, int from, int to)
{
	unsigned kind;

	pipe->stream = stream;
	pipe->from = from;
	pipe->to = to;
	for (kind = 0; kind < FAULT_KINDS; kind++)
		pipe->next[kind] = fault_plan_next(plan, kind, &pipe->stream, 0,
						   &pipe->asked[kind]);
}

static int dial(const struct port *port, bool *dialling)
{
	int fd = socket(port->remote.ss_family,
			SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -1;
	tcp_socket_tune(fd, 0);
	*dialling = false;
	if (connect(fd, (const struct sockaddr *)&port->remote,
		    port->remote_bytes) == 0)
		return fd;
	*dialling = errno == EINPROGRESS;
	if (*dialling)
		return fd;
	close(fd);
	return -1;
}

static void hang_up(int fd)
{
	struct linger linger = {.l_onoff = 1, .l_linger = 0};

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(fd);
}

static void port_accept(struct fault_relay *relay, struct port *port)
{
	struct fault_stream there = {.from = relay->rank, .to = port->peer};
	struct fault_stream back = {.from = port->peer, .to = relay->rank};
	struct connection *connection;
	unsigned place = 0;
	int fd;

	fd = accept4(port->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0)
		return;
	while (place < CONNECTIONS && port->connections[place])
		place++;
	connection =
		place < CONNECTIONS ? calloc(1, sizeof(*connection)) : NULL;
	if (!connection) {
		hang_up(fd);
		return;
	}
	tcp_socket_tune(fd, 0);
	connection->fds[0] = fd;
	connection->fds[1] = dial(port, &connection->dialling);
	if (connection->fds[1] < 0) {
		hang_up(fd);
		free(connection);
		return;
	}
	there.attempt = back.attempt = port->attempts++;
	pipe_init(&connection->pipes[0], relay->plan, there, fd,
		  connection->fds[1]);
	pipe_init(&connection->pipes[1], relay->plan, back, connection->fds[1],
		  fd);
	port->connections[place] = connection;
	atomic_fetch_add(&relay->connected, 1);
}

/* ---- one direction ---- */

enum moved {
	MOVED_ALL,   /* as far as it goes for now */
	MOVED_RESET, /* the connection is to be reset */
};

static void remember(struct pipe *pipe, const unsigned char *bytes,
		     size_t count)
{
	size_t keep;

	if (count >= FAULT_RANGE_BYTES) {
		memcpy(pipe->past, bytes + count - FAULT_RANGE_BYTES,
		       FAULT_RANGE_BYTES);
		pipe->past_bytes = FAULT_RANGE_BYTES;
		return;
	}
	keep = MIN(pipe->past_bytes, FAULT_RANGE_BYTES - count);
	memmove(pipe->past, pipe->past + pipe->past_bytes - keep, keep);
	memcpy(pipe->past + keep, bytes, count);
	pipe->past_bytes = keep + count;
}

/* The fault that is due at the next byte, or FAULT_KINDS. */
static enum fault_kind due(const struct fault_relay *relay, struct pipe *pipe,
			   uint64_t *until)
{
	enum fault_kind found = FAULT_KINDS;
	unsigned kind;

	*until = FAULT_NEVER;
	for (kind = 0; kind < FAULT_KINDS; kind++) {
		/* Passed over while bytes were lost, or not looked for yet. */
		while (pipe->next[kind] < pipe->position ||
		       (pipe->next[kind] == FAULT_NEVER &&
			pipe->asked[kind] <= pipe->position))
			pipe->next[kind] = fault_plan_next(
				relay->plan, kind, &pipe->stream,
				pipe->position, &pipe->asked[kind]);
		if (pipe->next[kind] < *until) {
			*until = pipe->next[kind];
			found = kind;
		}
		*until = MIN(*until, pipe->asked[kind]);
	}
	return *until == pipe->position ? found : FAULT_KINDS;
}

static void happen(struct fault_relay *relay, struct pipe *pipe,
		   enum fault_kind kind)
{
	const struct fault_stream *stream = &pipe->stream;
	uint64_t at = pipe->position;
	unsigned range = 1 + fault_plan_draw(relay->plan, kind, stream, at,
					     FAULT_RANGE_BYTES);
	unsigned bit = fault_plan_draw(relay->plan, kind, stream, at, 8);

	if (kind == FAULT_DELAY)
		pipe->held_until_ns = clock_now_ns() + relay->plan->delay_ns;
	else
		log_info("faults: %s at byte %" PRIu64
			 " from rank %u to rank %u",
			 fault_kind_name(kind), at, stream->from, stream->to);
	if (kind == FAULT_CORRUPT)
		pipe->buffer[pipe->begin] ^= (unsigned char)(1u << bit);
	if (kind == FAULT_DROP)
		pipe->losing = range;
	if (kind == FAULT_DUPLICATE)
		pipe->again = MIN(range, pipe->past_bytes);
	if (kind == FAULT_STALL)
		pipe->stalled = true;
	atomic_fetch_add(&relay->happened[kind], 1);
	pipe->next[kind] = fault_plan_next(relay->plan, kind, stream, at + 1,
					   &pipe->asked[kind]);
}

/* Of `count` bytes how many went; -1: the connection is over. */
static ssize_t say(struct pipe *pipe, const unsigned char *bytes, size_t count)
{
	ssize_t said = send(pipe->to, bytes, count, MSG_NOSIGNAL);

	pipe->wants_out = said < (ssize_t)count;
	if (said < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -1;
	return said;
}

/* Passes on what is here, up to the next fault; 0: no more for now. */
static int pass(struct fault_relay *relay, struct pipe *pipe)
{
	enum fault_kind kind;
	uint64_t until;
	size_t count;
	ssize_t said;

	if (pipe->again) {
		said = say(pipe, pipe->past + pipe->past_bytes - pipe->again,
			   pipe->again);
		if (said > 0)
			pipe->again -= (size_t)said;
		return said > 0 ? 1 : (int)said;
	}
	if (pipe->losing) {
		count = MIN(pipe->losing, pipe->end - pipe->begin);
		pipe->losing -= count;
		pipe->begin += count;
		pipe->position += count;
		return 1;
	}
	kind = due(relay, pipe, &until);
	if (kind == FAULT_CUT) {
		happen(relay, pipe, kind);
		return -1;
	}
	if (kind != FAULT_KINDS) {
		happen(relay, pipe, kind);
		return 1;
	}
	count = (size_t)MIN(pipe->end - pipe->begin, until - pipe->position);
	said = say(pipe, pipe->buffer + pipe->begin, count);
	if (said > 0) {
		remember(pipe, pipe->buffer + pipe->begin, (size_t)said);
		pipe->begin += (size_t)said;
		pipe->position += (uint64_t)said;
	}
	return said > 0 ? 1 : (int)said;
}

static enum moved pipe_move(struct fault_relay *relay, struct pipe *pipe)
{
	ssize_t heard;
	int one = 1;
	int status;

	for (;;) {
		pipe->wants_in = false;
		pipe->wants_out = false;
		if (pipe->stalled || pipe->shut ||
		    pipe->held_until_ns > clock_now_ns())
			return MOVED_ALL;
		if (pipe->begin < pipe->end || pipe->again) {
			status = pass(relay, pipe);
			if (status < 0)
				return MOVED_RESET;
			if (status == 0)
				return MOVED_ALL;
			continue;
		}
		if (pipe->ended) {
			shutdown(pipe->to, SHUT_WR);
			pipe->shut = true;
			return MOVED_ALL;
		}
		pipe->begin = 0;
		pipe->end = 0;
		heard = recv(pipe->from, pipe->buffer, BUFFER_BYTES, 0);
		/* Whoever closes waits for it; the kernel forgets it again. */
		setsockopt(pipe->from, IPPROTO_TCP, TCP_QUICKACK, &one,
			   sizeof(one));
		if (heard < 0 && (errno == EAGAIN || errno == EINTR)) {
			pipe->wants_in = true;
			return MOVED_ALL;
		}
		if (heard < 0)
			return MOVED_RESET;
		pipe->end = (size_t)heard;
		pipe->ended = heard == 0;
	}
}

/* ---- the thread ---- */

static bool connection_dialled(struct connection *connection)
{
	socklen_t length = sizeof(int);
	struct pollfd poller = {.fd = connection->fds[1], .events = POLLOUT};
	int error = 0;

	if (poll(&poller, 1, 0) <= 0)
		return true; /* later */
	getsockopt(connection->fds[1], SOL_SOCKET, SO_ERROR, &error, &length);
	connection->dialling = false;
	return !error;
}

static void connection_step(struct fault_relay *relay, struct port *port,
			    unsigned place, const struct pollfd polls[2])
{
	struct connection *connection = port->connections[place];
	bool reset = (polls[0].revents | polls[1].revents) & POLLERR;
	unsigned i;

	if (connection->dialling && !connection_dialled(connection))
		reset = true;
	for (i = 0; i < 2 && !connection->dialling; i++) {
		if (polls[i].revents & POLLHUP && !polls[i].events)
			connection->quiet[i] = true;
		if (!reset)
			reset = pipe_move(relay, &connection->pipes[i]) ==
				MOVED_RESET;
	}
	if (reset || (connection->pipes[0].shut && connection->pipes[1].shut))
		connection_end(port, place, reset);
}

/* What to poll for, and until when. */
static void connection_poll(const struct connection *connection,
			    struct pollfd polls[2], int64_t *wake_ns)
{
	const struct pipe *pipe;
	short events[2] = {0, 0};
	unsigned i;

	for (i = 0; i < 2; i++) {
		pipe = &connection->pipes[i];
		if (pipe->wants_in)
			events[i] |= POLLIN;
		if (pipe->wants_out)
			events[!i] |= POLLOUT;
		if (!pipe->stalled && pipe->held_until_ns > clock_now_ns())
			*wake_ns = MIN(*wake_ns, pipe->held_until_ns);
	}
	if (connection->dialling) {
		events[0] = 0;
		events[1] = POLLOUT;
	}
	for (i = 0; i < 2; i++)
		polls[i] = (struct pollfd){
			.fd = events[i] || !connection->quiet[i]
				      ? connection->fds[i]
				      : -1,
			.events = events[i],
		};
}

static struct pollfd *polls_of(const struct fault_relay *relay, unsigned port)
{
	return relay->polls + 1 + port * (1 + 2 * CONNECTIONS);
}

static void relay_wait(struct fault_relay *relay, int64_t wake_ns)
{
	struct pollfd *polls;
	struct port *port;
	struct timespec timeout;
	int64_t left_ns;
	unsigned i;
	unsigned j;

	relay->polls[0] = (struct pollfd){
		.fd = relay->stopping ? -1 : relay->stop_fd,
		.events = POLLIN,
	};
	for (i = 0; i < relay->count; i++) {
		port = &relay->ports[i];
		polls = polls_of(relay, i);
		polls[0] = (struct pollfd){
			.fd = port->listener,
			.events = POLLIN,
		};
		for (j = 0; j < CONNECTIONS; j++) {
			polls[1 + 2 * j].fd = -1;
			polls[2 + 2 * j].fd = -1;
			if (port->connections[j])
				connection_poll(port->connections[j],
						polls + 1 + 2 * j, &wake_ns);
		}
	}
	left_ns = MAX(wake_ns - clock_now_ns(), 0);
	timeout.tv_sec = left_ns / NS_PER_SECOND;
	timeout.tv_nsec = left_ns % NS_PER_SECOND;
	if (ppoll(relay->polls, 1 + relay->count * (1 + 2 * CONNECTIONS),
		  &timeout, NULL) < 0)
		relay->polls[0].revents = 0; /* a signal */
}

static void relay_step(struct fault_relay *relay)
{
	struct pollfd *polls;
	struct port *port;
	unsigned i;
	unsigned j;

	for (i = 0; i < relay->count; i++) {
		port = &relay->ports[i];
		polls = polls_of(relay, i);
		for (j = 0; j < CONNECTIONS; j++) {
			if (port->connections[j])
				connection_step(relay, port, j,
						polls + 1 + 2 * j);
		}
		if (polls[0].revents)
			port_accept(relay, port);
	}
}

/* Does our endpoint have something on its way that can still arrive? */
static bool has_more(const struct fault_relay *relay)
{
	const struct connection *connection;
	unsigned i;
	unsigned j;

	for (i = 0; i < relay->count; i++) {
		for (j = 0; j < CONNECTIONS; j++) {
			connection = relay->ports[i].connections[j];
			if (connection && !connection->pipes[0].shut &&
			    !connection->pipes[0].stalled)
				return true;
		}
	}
	return false;
}

/* What is under way is finished. */
static void relay_stop(struct fault_relay *relay)
{
	unsigned i;

	relay->stopping = true;
	for (i = 0; i < relay->count; i++) {
		close(relay->ports[i].listener);
		relay->ports[i].listener = -1;
	}
}

static void *relay_run(void *argument)
{
	struct fault_relay *relay = argument;
	int64_t end_ns = INT64_MAX;

	for (;;) {
		relay_wait(relay, MIN(end_ns, clock_now_ns() + NS_PER_SECOND));
		relay_step(relay);
		if (!relay->stopping && relay->polls[0].revents) {
			relay_stop(relay);
			end_ns = clock_now_ns() + FLUSH_NS;
		}
		if (relay->stopping &&
		    (!has_more(relay) || clock_now_ns() >= end_ns))
			return NULL;
	}
}

/* ---- building ---- */

static int port_open(struct port *port, unsigned peer, bool keyed,
		     const char *remote, char *address)
{
	struct sockaddr_storage local;
	socklen_t length;
	int status;

	port->peer = peer;
	status = tcp_address_parse(remote, keyed, &port->remote,
				   &port->remote_bytes);
	if (!status)
		status = tcp_address_bind("127.0.0.1", keyed, &local, &length);
	if (status)
		return status;
	port->listener = socket(local.ss_family,
				SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (port->listener < 0)
		return fail(-errno, "faults: socket: %s", strerror(errno));
	tcp_socket_tune(port->listener, 0);
	if (bind(port->listener, (struct sockaddr *)&local, length) ||
	    listen(port->listener, 16))
		return fail(-errno, "faults: a port for rank %u: %s", peer,
			    strerror(errno));
	return tcp_address_of(port->listener, address, TRANSPORT_ADDRESS_BYTES);
}

static int relay_start(struct fault_relay *relay)
{
	sigset_t all;
	sigset_t old;
	int status;

	/* Signals are for the threads of the program. */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	status = pthread_create(&relay->thread, NULL, relay_run, relay);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (status)
		return fail(-status, "faults: a thread: %s", strerror(status));
	relay->running = true;
	return 0;
}

int fault_relay_create(const struct fault_plan *plan, unsigned rank, bool keyed,
		       const unsigned *peers, unsigned count,
		       const char **addresses,
		       char (*texts)[TRANSPORT_ADDRESS_BYTES],
		       struct fault_relay **out)
{
	struct fault_relay *relay = calloc(1, sizeof(*relay));
	unsigned i;
	int status;

	if (!relay)
		return fail(-ENOMEM, "faults: no memory for a relay");
	relay->plan = plan;
	relay->rank = rank;
	relay->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	relay->ports = calloc(count, sizeof(*relay->ports));
	relay->polls = calloc(1 + count * (1 + 2 * CONNECTIONS),
			      sizeof(*relay->polls));
	if (relay->stop_fd < 0 || !relay->ports || !relay->polls) {
		status = fail(-ENOMEM, "faults: no memory for a relay");
		goto err_destroy;
	}
	for (i = 0; i < count; i++) {
		relay->ports[i].listener = -1;
		relay->count++;
		status = port_open(&relay->ports[i], peers[i], keyed,
				   addresses[peers[i]], texts[i]);
		if (status)
			goto err_destroy;
		addresses[peers[i]] = texts[i];
	}
	status = relay_start(relay);
	if (status)
		goto err_destroy;
	*out = relay;
	return 0;

err_destroy:
	fault_relay_destroy(relay);
	return status;
}

void fault_relay_destroy(struct fault_relay *relay)
{
	unsigned i;
	unsigned j;

	if (relay->running) {
		/* Cannot fail: the counter is 0. */
		(void)!eventfd_write(relay->stop_fd, 1);
		pthread_join(relay->thread, NULL);
	}
	if (relay->stop_fd >= 0)
		close(relay->stop_fd);
	for (i = 0; i < relay->count; i++) {
		for (j = 0; j < CONNECTIONS; j++) {
			if (relay->ports[i].connections[j])
				connection_end(&relay->ports[i], j, false);
		}
		if (relay->ports[i].listener >= 0)
			close(relay->ports[i].listener);
	}
	free(relay->polls);
	free(relay->ports);
	free(relay);
}

void fault_relay_count(const struct fault_relay *relay,
		       struct fault_statistics *sum)
{
	unsigned kind;

	sum->connections += atomic_load(&relay->connected);
	for (kind = 0; kind < FAULT_KINDS; kind++)
		sum->happened[kind] += atomic_load(&relay->happened[kind]);
}
