/*
 * Builds links: connects to higher ranks, accepts lower ones, and lets each
 * pair compare what it believes before the first message.
 *
 * A greeting is a connection on its way. Both ends send one hello of fixed
 * size and read one; nobody reads further than that. Where there is a job key,
 * both prove first that they have it (transport/secure). Whoever knocks and
 * is not one of ours (random bytes, another job, a stale epoch) gets a slot
 * for a short time and never disturbs the rest.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "transport/hello.h"
#include "transport/tcp/tcp.h"

#define FRAME_BYTES TRANSPORT_HELLO_BYTES
#define ROOM_BYTES  (FRAME_BYTES + SECURE_TAG_BYTES)
#define STRANGERS   128                 /* accepted at once, before a hello */
#define STRANGER_NS (5 * NS_PER_SECOND) /* time to say it */
/* Only then may it have to go for another: an honest one needs less. */
#define PATIENCE_NS (250 * NS_PER_MS)
#define RETRY_NS    (20 * NS_PER_MS)

enum greeting_state {
	GREETING_FREE,
	GREETING_RESTING, /* outgoing: tries again at due_ns */
	GREETING_CONNECTING,
	GREETING_PROVING, /* the job key */
	GREETING_TALKING,
	GREETING_LINKED,
};

struct greeting {
	enum greeting_state state;
	int fd;
	unsigned peer; /* outgoing */
	size_t sent, received;
	int64_t due_ns; /* resting: try again; incoming: drop */
	unsigned char out[ROOM_BYTES];
	unsigned char in[ROOM_BYTES];
	struct secure_session *session; /* with a key; until it is a link */
	struct secure_cipher *seals, *opens; /* the hellos, once it is proved */
	short events;  /* proving: what the handshake waits for */
	char note[96]; /* why it is not linked yet */
};

struct meeting {
	struct tcp_endpoint *endpoint;
	const unsigned *peers;
	unsigned count;
	const char *const *addresses;
	unsigned missing;
	size_t frame_bytes; /* of a hello; with a key it has a MAC */
	unsigned outgoing;  /* greetings[0 .. outgoing) */
	unsigned greeting_count;
	struct greeting *greetings;
	unsigned turned_away;
	struct pollfd
		*polls;     /* the wake_fd's, the listener's, the greetings' */
	char stranger[128]; /* why the last was turned away */
};

int tcp_listen(struct tcp_endpoint *endpoint, char *address, size_t size)
{
	const struct transport_config *config = &endpoint->base.config;
	struct sockaddr_storage local;
	socklen_t length;
	int status;
	int fd;

	status = tcp_address_bind(config->bind, config->key != NULL, &local,
				  &length);
	if (status)
		return status;
	fd = socket(local.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
		    0);
	if (fd < 0)
		return fail(-errno, "tcp: socket: %s", strerror(errno));
	tcp_socket_tune(fd, config->socket_buffer_bytes);
	if (bind(fd, (struct sockaddr *)&local, length) || listen(fd, 1024)) {
		status = fail(-errno, "tcp: listening on %s: %s", config->bind,
			      strerror(errno));
		goto err_close;
	}
	status = tcp_address_of(fd, address, size);
	if (status)
		goto err_close;
	endpoint->listener = fd;
	return 0;

err_close:
	close(fd);
	return status;
}

static void end_session(struct greeting *greeting)
{
	secure_cipher_destroy(greeting->seals);
	secure_cipher_destroy(greeting->opens);
	secure_session_destroy(greeting->session);
	greeting->session = NULL;
	greeting->seals = NULL;
	greeting->opens = NULL;
}

static void greeting_drop(struct greeting *greeting)
{
	end_session(greeting);
	if (greeting->fd >= 0)
		close(greeting->fd);
	greeting->fd = -1;
	greeting->state = GREETING_FREE;
}

/* An outgoing attempt came to nothing; another follows. */
static void greeting_rest(struct greeting *greeting, const char *note)
{
	/* The note may be the session's, which goes now. */
	snprintf(greeting->note, sizeof(greeting->note), "%s", note);
	greeting_drop(greeting);
	greeting->state = GREETING_RESTING;
	greeting->due_ns = clock_now_ns() + RETRY_NS;
}

static int greeting_dial(struct meeting *meeting, struct greeting *greeting)
{
	struct tcp_endpoint *endpoint = meeting->endpoint;
	struct sockaddr_storage remote;
	socklen_t length;
	int status;

	status = tcp_address_parse(meeting->addresses[greeting->peer],
				   endpoint->base.config.key != NULL, &remote,
				   &length);
	if (status)
		return status;
	greeting->fd = socket(remote.ss_family,
			      SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (greeting->fd < 0)
		return fail(-errno, "tcp: socket: %s", strerror(errno));
	tcp_socket_tune(greeting->fd,
			endpoint->base.config.socket_buffer_bytes);
	greeting->sent = 0;
	greeting->received = 0;
	greeting->state = GREETING_CONNECTING;
	if (connect(greeting->fd, (struct sockaddr *)&remote, length) &&
	    errno != EINPROGRESS)
		greeting_rest(greeting, strerror(errno));
	return 0;
}

static int greeting_link(struct meeting *meeting, struct greeting *greeting,
			 unsigned peer)
{
	struct tcp_endpoint *endpoint = meeting->endpoint;
	struct timeval patience = {.tv_usec = TCP_PATIENCE_NS / NS_PER_US};
	struct tcp_link *link;
	int status;
	int flags;

	/* Calls say MSG_DONTWAIT unless they mean to sleep. */
	flags = fcntl(greeting->fd, F_GETFL);
	fcntl(greeting->fd, F_SETFL, flags & ~O_NONBLOCK);
	setsockopt(greeting->fd, SOL_SOCKET, SO_RCVTIMEO, &patience,
		   sizeof(patience));
	link = tcp_link_add(endpoint, peer, greeting->fd);
	if (!link)
		return -ENOMEM;
	greeting->fd = -1;
	if (endpoint->base.config.wire > TRANSPORT_WIRE_CHECKED) {
		status = tcp_shield_create(&link->shield, greeting->session,
					   endpoint->base.config.wire ==
						   TRANSPORT_WIRE_ENCRYPTED);
		if (status)
			return status;
		link->tag_bytes = SECURE_TAG_BYTES;
	}
	end_session(greeting);
	greeting->state = GREETING_LINKED;
	tcp_watch_begin(endpoint, link);
	endpoint->backend->attach(endpoint, link);
	meeting->missing--;
	return 0;
}

static int differ(const struct tcp_endpoint *endpoint, unsigned peer,
		  const char *text)
{
	return fail(-EPROTO, "%s: rank %u and rank %u cannot work together: %s",
		    endpoint->name, endpoint->base.config.rank, peer, text);
}

/* ---- hellos: what an end says of itself, with a MAC where there is a key ---- */

static void write_hello(struct meeting *meeting, struct greeting *greeting,
			unsigned to, enum wire_type type, uint64_t tag)
{
	transport_hello_write(&meeting->endpoint->base.config, to, type, tag,
			      greeting->out);
	if (!greeting->seals)
		return;
	secure_begin(greeting->seals);
	secure_add(greeting->seals, greeting->out, FRAME_BYTES);
	secure_seal(greeting->seals, greeting->out + FRAME_BYTES);
}

static bool hello_is_genuine(struct greeting *greeting)
{
	if (!greeting->opens)
		return true;
	secure_begin(greeting->opens);
	secure_add(greeting->opens, greeting->in, FRAME_BYTES);
	return !secure_open(greeting->opens, greeting->in + FRAME_BYTES);
}

/* Outgoing: the answer is complete. */
static int hear_answer(struct meeting *meeting, struct greeting *greeting)
{
	struct tcp_endpoint *endpoint = meeting->endpoint;
	struct wire_header header;
	enum transport_verdict verdict;
	char text[160];

	if (!hello_is_genuine(greeting))
		return differ(endpoint, greeting->peer,
			      "its hello was changed on its way");
	verdict = transport_hello_judge(&endpoint->base.config, greeting->in,
					&header, text, sizeof(text));
	if (verdict != TRANSPORT_VERDICT_SAME)
		return differ(endpoint, greeting->peer, text);
	if (header.source != greeting->peer) {
		snprintf(text, sizeof(text), "rank %u answers at %s",
			 header.source, meeting->addresses[greeting->peer]);
		return differ(endpoint, greeting->peer, text);
	}
	if (header.type == WIRE_REFUSE) {
		greeting_rest(greeting,
			      header.tag == WIRE_REFUSAL_DUPLICATE
				      ? "it has a link with this rank already"
				      : "it does not wait for this rank");
		return 0;
	}
	return greeting_link(meeting, greeting, greeting->peer);
}

static bool is_awaited(const struct meeting *meeting, unsigned rank)
{
	unsigned i;

	for (i = 0; i < meeting->count; i++) {
		if (meeting->peers[i] == rank &&
		    rank < meeting->endpoint->base.config.rank)
			return true;
	}
	return false;
}

/* A new socket has room for one frame: no need to come back for it. */
static bool answer(struct meeting *meeting, struct greeting *greeting,
		   unsigned to, enum wire_type type, uint64_t tag)
{
	write_hello(meeting, greeting, to, type, tag);
	return send(greeting->fd, greeting->out, meeting->frame_bytes,
		    MSG_NOSIGNAL) == (ssize_t)meeting->frame_bytes;
}

static void turn_away(struct meeting *meeting, const char *why)
{
	meeting->turned_away++;
	snprintf(meeting->stranger, sizeof(meeting->stranger), "%s", why);
}

/* Incoming: somebody has said hello. */
static int hear_hello(struct meeting *meeting, struct greeting *greeting)
{
	struct tcp_endpoint *endpoint = meeting->endpoint;
	struct wire_header header = {.type = 0};
	enum transport_verdict verdict;
	char text[128];
	bool awaited;

	if (!hello_is_genuine(greeting)) {
		turn_away(meeting, "its hello was changed on its way");
		greeting_drop(greeting);
		return 0;
	}
	verdict = transport_hello_judge(&endpoint->base.config, greeting->in,
					&header, text, sizeof(text));
	awaited = is_awaited(meeting, header.source);
	if (verdict == TRANSPORT_VERDICT_SAME && header.type == WIRE_HELLO &&
	    awaited && !endpoint->link_of[header.source]) {
		if (answer(meeting, greeting, header.source, WIRE_HELLO, 0))
			return greeting_link(meeting, greeting, header.source);
		greeting_drop(greeting);
		return 0;
	}
	if (verdict == TRANSPORT_VERDICT_SAME) {
		answer(meeting, greeting, header.source, WIRE_REFUSE,
		       awaited ? WIRE_REFUSAL_DUPLICATE
			       : WIRE_REFUSAL_NOT_EXPECTED);
		greeting_drop(greeting);
		return 0;
	}
	/* Something like us: it shall be able to name the difference. */
	if (header.type)
		answer(meeting, greeting, header.source, WIRE_HELLO, 0);
	greeting_drop(greeting);
	if (verdict == TRANSPORT_VERDICT_DIFFERENT && awaited)
		return differ(endpoint, header.source, text);
	turn_away(meeting, text);
	return 0;
}

/* ---- proving the job key ---- */

static void begin_talk(struct meeting *meeting, struct greeting *greeting,
		       bool outgoing)
{
	greeting->state = GREETING_TALKING;
	if (outgoing)
		write_hello(meeting, greeting, greeting->peer, WIRE_HELLO, 0);
}

static int begin_proof(struct meeting *meeting, struct greeting *greeting,
		       bool outgoing)
{
	const struct transport_config *config = &meeting->endpoint->base.config;

	greeting->events = POLLIN | POLLOUT;
	if (!config->key) {
		begin_talk(meeting, greeting, outgoing);
		return 0;
	}
	greeting->state = GREETING_PROVING;
	return secure_session_create(greeting->fd, !outgoing, config->key,
				     "link", &greeting->session);
}

/*
 * Whoever is called has proved nothing when the key is wrong: only its
 * address says that it is a rank. But no other will answer there.
 */
static int not_proved(struct meeting *meeting, struct greeting *greeting,
		      int status, bool outgoing)
{
	const char *reason = secure_session_reason(greeting->session);

	if (outgoing && status == -EACCES)
		return fail(status, "%s: rank %u: rank %u, at %s, %s",
			    meeting->endpoint->name,
			    meeting->endpoint->base.config.rank, greeting->peer,
			    meeting->addresses[greeting->peer], reason);
	if (outgoing) {
		greeting_rest(greeting, reason);
		return 0;
	}
	if (status == -EACCES)
		secure_refuse(greeting->fd);
	turn_away(meeting, status == -EACCES ? "it has another job key, or "
					       "none"
					     : "it hung up");
	greeting_drop(greeting);
	return 0;
}

static int make_ciphers(struct greeting *greeting)
{
	unsigned char keys[2][SECURE_KEY_BYTES];
	int status;

	status = secure_session_export(greeting->session, "hello", keys[0],
				       keys[1]);
	if (!status)
		status = secure_cipher_create(true, keys[0], &greeting->seals);
	if (!status)
		status = secure_cipher_create(false, keys[1], &greeting->opens);
	explicit_bzero(keys, sizeof(keys));
	return status;
}

static int greeting_prove(struct meeting *meeting, struct greeting *greeting,
			  bool outgoing)
{
	int status = secure_session_step(greeting->session, &greeting->events);

	if (status == -EAGAIN)
		return 0;
	if (status)
		return not_proved(meeting, greeting, status, outgoing);
	status = make_ciphers(greeting);
	if (!status)
		begin_talk(meeting, greeting, outgoing);
	return status;
}

/*
 * One end has a key and the other none. Both can tell by the first bytes, and
 * say so rather than to try again and again.
 */
static bool asks_for_key(const struct greeting *greeting)
{
	return greeting->received >= 3 &&
	       (greeting->in[0] == SECURE_ALERT ||
		greeting->in[0] == SECURE_HANDSHAKE) &&
	       greeting->in[1] == 3;
}

static int no_key_here(struct meeting *meeting, struct greeting *greeting,
		       bool outgoing)
{
	if (outgoing)
		return fail(-EACCES,
			    "%s: rank %u: rank %u, at %s, asks for the job "
			    "key, and this rank has none (--key-file)",
			    meeting->endpoint->name,
			    meeting->endpoint->base.config.rank, greeting->peer,
			    meeting->addresses[greeting->peer]);
	secure_refuse(greeting->fd);
	turn_away(meeting, "it proves a job key, and this rank has none");
	greeting_drop(greeting);
	return 0;
}

static int greeting_talk(struct meeting *meeting, struct greeting *greeting,
			 bool outgoing)
{
	ssize_t moved = 0;

	if (outgoing && greeting->sent < meeting->frame_bytes) {
		moved = send(greeting->fd, greeting->out + greeting->sent,
			     meeting->frame_bytes - greeting->sent,
			     MSG_NOSIGNAL);
		if (moved > 0)
			greeting->sent += (size_t)moved;
	}
	if (moved >= 0) {
		moved = recv(greeting->fd, greeting->in + greeting->received,
			     meeting->frame_bytes - greeting->received, 0);
		if (moved > 0)
			greeting->received += (size_t)moved;
	}
	if (!greeting->session && asks_for_key(greeting))
		return no_key_here(meeting, greeting, outgoing);
	if (moved == 0 || (moved < 0 && errno != EAGAIN && errno != EINTR)) {
		if (outgoing)
			greeting_rest(greeting,
				      moved ? strerror(errno)
					    : "it closed the connection");
		else
			greeting_drop(greeting);
		return 0;
	}
	if (greeting->received < meeting->frame_bytes)
		return 0;
	return outgoing ? hear_answer(meeting, greeting)
			: hear_hello(meeting, greeting);
}

static bool is_stranger(const struct greeting *greeting)
{
	return greeting->state == GREETING_TALKING ||
	       greeting->state == GREETING_PROVING;
}

static int greeting_step(struct meeting *meeting, unsigned index, short events)
{
	struct greeting *greeting = &meeting->greetings[index];
	bool outgoing = index < meeting->outgoing;
	bool due = clock_now_ns() >= greeting->due_ns;
	socklen_t length = sizeof(int);
	int error = 0;

	if (greeting->state == GREETING_RESTING && due)
		return greeting_dial(meeting, greeting);
	/* However busily it trickles. */
	if (is_stranger(greeting) && !outgoing && due) {
		turn_away(meeting, "it said too little in 5 s");
		greeting_drop(greeting);
		return 0;
	}
	if (!events)
		return 0;
	if (greeting->state == GREETING_CONNECTING) {
		getsockopt(greeting->fd, SOL_SOCKET, SO_ERROR, &error, &length);
		if (error) {
			greeting_rest(greeting, strerror(error));
			return 0;
		}
		if (!tcp_socket_is_ours(greeting->fd)) {
			greeting_rest(greeting, "it is of another user");
			return 0;
		}
		error = begin_proof(meeting, greeting, outgoing);
		if (error)
			return error;
	}
	if (greeting->state == GREETING_PROVING) {
		error = greeting_prove(meeting, greeting, outgoing);
		if (error || greeting->state != GREETING_TALKING)
			return error;
		if (!outgoing)
			return 0;
	}
	return greeting_talk(meeting, greeting, outgoing);
}

/*
 * A free slot for a stranger. Where there is none the oldest has to go, if it
 * has had its time; else NULL, and whoever knocks waits in the kernel.
 */
static struct greeting *stranger_slot(struct meeting *meeting)
{
	int64_t latest_ns = clock_now_ns() + STRANGER_NS - PATIENCE_NS;
	struct greeting *oldest = NULL;
	struct greeting *greeting;
	unsigned i;

	for (i = meeting->outgoing; i < meeting->greeting_count; i++) {
		greeting = &meeting->greetings[i];
		if (!is_stranger(greeting))
			return greeting;
		if (!oldest || greeting->due_ns < oldest->due_ns)
			oldest = greeting;
	}
	if (oldest->due_ns > latest_ns)
		return NULL;
	return oldest;
}

static int accept_strangers(struct meeting *meeting)
{
	struct greeting *greeting;
	unsigned i;
	int status;
	int fd;

	/* A few at a time, so that those who wait get their turn. */
	for (i = 0; i < STRANGERS / 8; i++) {
		greeting = stranger_slot(meeting);
		if (!greeting)
			return 0;
		fd = accept4(meeting->endpoint->listener, NULL, NULL,
			     SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0)
			return 0;
		if (!tcp_socket_is_ours(fd)) {
			turn_away(meeting, "it is of another user");
			close(fd);
			continue;
		}
		tcp_socket_tune(
			fd, meeting->endpoint->base.config.socket_buffer_bytes);
		if (is_stranger(greeting)) {
			turn_away(meeting, "others waited");
			greeting_drop(greeting);
		}
		*greeting = (struct greeting){
			.fd = fd,
			.due_ns = clock_now_ns() + STRANGER_NS,
		};
		status = begin_proof(meeting, greeting, false);
		if (status)
			return status;
	}
	return 0;
}

static short greeting_events(const struct meeting *meeting,
			     const struct greeting *greeting, bool outgoing)
{
	bool unsent = outgoing && greeting->sent < meeting->frame_bytes;

	if (greeting->state == GREETING_CONNECTING)
		return POLLOUT;
	if (greeting->state == GREETING_PROVING)
		return greeting->events;
	if (greeting->state != GREETING_TALKING)
		return 0;
	return (short)(POLLIN | (unsent ? POLLOUT : 0));
}

static int wait_for_events(struct meeting *meeting, int64_t deadline_ns)
{
	int64_t left_ns = deadline_ns - clock_now_ns();
	struct greeting *greeting;
	struct pollfd *poller;
	unsigned i;
	int ready;

	meeting->polls[0].fd = transport_wake_fd(&meeting->endpoint->base);
	meeting->polls[0].events = POLLIN;
	meeting->polls[1].fd = meeting->endpoint->listener;
	/* Without a slot nobody is let in: the kernel keeps them waiting. */
	meeting->polls[1].events = stranger_slot(meeting) ? POLLIN : 0;
	for (i = 0; i < meeting->greeting_count; i++) {
		greeting = &meeting->greetings[i];
		poller = &meeting->polls[i + 2];
		poller->revents = 0;
		poller->events = greeting_events(meeting, greeting,
						 i < meeting->outgoing);
		poller->fd = poller->events ? greeting->fd : -1;
	}
	/* Retries and stale strangers are looked after between polls. */
	ready = poll(meeting->polls, meeting->greeting_count + 2,
		     (int)(MAX(MIN(left_ns, RETRY_NS), 0) / NS_PER_MS) + 1);
	if (ready < 0 && errno != EINTR)
		return fail(-errno, "tcp: poll: %s", strerror(errno));
	return 0;
}

/* "; turned away: 3 connections, the last because ..." */
static const char *describe_strangers(const struct meeting *meeting, char *out,
				      size_t size)
{
	out[0] = '\0';
	if (meeting->turned_away)
		snprintf(out, size,
			 "; turned away: %u connection%s, the last because %s",
			 meeting->turned_away,
			 meeting->turned_away == 1 ? "" : "s",
			 meeting->stranger);
	return out;
}

static int time_is_up(const struct meeting *meeting, int64_t timeout_ns)
{
	char strangers[256];
	const struct greeting *greeting;
	char list[512] = "";
	size_t used = 0;
	unsigned peer;
	unsigned i;
	unsigned j;

	for (i = 0; i < meeting->count && used < sizeof(list); i++) {
		peer = meeting->peers[i];
		if (meeting->endpoint->link_of[peer])
			continue;
		greeting = NULL;
		for (j = 0; j < meeting->outgoing; j++) {
			if (meeting->greetings[j].peer == peer)
				greeting = &meeting->greetings[j];
		}
		if (greeting)
			used += (size_t)snprintf(
				list + used, sizeof(list) - used,
				" rank %u at %s (%s)", peer,
				meeting->addresses[peer],
				greeting->note[0] ? greeting->note
						  : "no answer");
		else
			used += (size_t)snprintf(
				list + used, sizeof(list) - used,
				" rank %u (it has not called)", peer);
	}
	return fail(-ETIMEDOUT,
		    "%s: rank %u has tried for %.1f s to connect; "
		    "missing:%s%s%s",
		    meeting->endpoint->name,
		    meeting->endpoint->base.config.rank,
		    clock_seconds(timeout_ns), list,
		    describe_strangers(meeting, strangers, sizeof(strangers)),
		    strcmp(meeting->endpoint->name, "shm") == 0
			    ? "; shm is for ranks of one host (--transport "
			      "auto takes it only there)"
			    : "");
}

/* Once for all of them, however many there were. */
static void tell_of_strangers(const struct meeting *meeting)
{
	char strangers[256];

	if (meeting->turned_away)
		log_info("%s: rank %u has its links%s", meeting->endpoint->name,
			 meeting->endpoint->base.config.rank,
			 describe_strangers(meeting, strangers,
					    sizeof(strangers)));
}

static int meet(struct meeting *meeting, int64_t timeout_ns)
{
	int64_t deadline_ns = clock_now_ns() + timeout_ns;
	unsigned i;
	int status;

	for (;;) {
		for (i = 0; i < meeting->greeting_count; i++) {
			status = greeting_step(meeting, i,
					       meeting->polls[i + 2].revents);
			if (status)
				return status;
		}
		if (meeting->polls[1].revents) {
			status = accept_strangers(meeting);
			if (status)
				return status;
		}
		if (!meeting->missing) {
			tell_of_strangers(meeting);
			return 0;
		}
		if (clock_now_ns() >= deadline_ns)
			return time_is_up(meeting, timeout_ns);
		status = wait_for_events(meeting, deadline_ns);
		if (status)
			return status;
		if (meeting->polls[0].revents)
			return -ECANCELED; /* whoever rang says why */
	}
}

int tcp_connect(struct tcp_endpoint *endpoint, const unsigned *peers,
		unsigned count, const char *const *addresses,
		int64_t timeout_ns)
{
	struct meeting meeting = {
		.endpoint = endpoint,
		.peers = peers,
		.count = count,
		.addresses = addresses,
		.missing = count,
		.frame_bytes =
			endpoint->base.config.key ? ROOM_BYTES : FRAME_BYTES,
	};
	unsigned room = count + STRANGERS;
	unsigned i;
	int status;

	meeting.greetings = calloc(room, sizeof(*meeting.greetings));
	meeting.polls = calloc(room + 2, sizeof(*meeting.polls));
	if (!meeting.greetings || !meeting.polls) {
		status = fail(-ENOMEM, "tcp: no memory to connect");
		goto out_free;
	}
	for (i = 0; i < room; i++)
		meeting.greetings[i].fd = -1;
	for (i = 0; i < count; i++) {
		if (peers[i] < endpoint->base.config.rank)
			continue;
		meeting.greetings[meeting.outgoing].state = GREETING_RESTING;
		meeting.greetings[meeting.outgoing++].peer = peers[i];
	}
	meeting.greeting_count = meeting.outgoing + STRANGERS;
	tcp_strangers_admit(endpoint);
	status = meet(&meeting, timeout_ns);
	tcp_strangers_refuse(endpoint);
	for (i = 0; i < room; i++)
		greeting_drop(&meeting.greetings[i]);
out_free:
	free(meeting.polls);
	free(meeting.greetings);
	return status;
}
