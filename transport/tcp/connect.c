/*
 * Builds links: connects to higher ranks, accepts lower ones, and lets each
 * pair compare what it believes before the first message.
 *
 * A greeting is a connection on its way. Where there is a job key, both ends
 * prove first that they have it (transport/secure/); not a byte of a peer that
 * has not is looked at here, but the first, which tells TLS from anything else.
 * Then both send one hello of fixed size and read one; nobody reads further
 * than that. Whoever knocks and is not one of ours (random bytes, another key,
 * another job, a stale epoch) gets a slot for a short time and never disturbs
 * the rest.
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
#include "transport/tcp/tcp.h"

#define FRAME_BYTES (WIRE_HEADER_BYTES + WIRE_HELLO_BYTES)
#define ROOM_BYTES  (FRAME_BYTES + SECURE_TAG_BYTES)
#define STRANGERS   32                  /* accepted at once, before a hello */
#define STRANGER_NS (5 * NS_PER_SECOND) /* time to say it */
#define RETRY_NS    (20 * NS_PER_MS)
#define PURPOSE     "link"
#define TLS_RECORD  0x16 /* first byte of a TLS handshake: RFC 8446, 5.1 */

enum greeting_state {
	GREETING_FREE,
	GREETING_RESTING, /* outgoing: tries again at due_ns */
	GREETING_CONNECTING,
	GREETING_PROVING, /* that we have the job key */
	GREETING_TALKING,
	GREETING_LINKED,
};

struct greeting {
	enum greeting_state state;
	int fd;
	unsigned peer; /* outgoing */
	size_t sent, received;
	int64_t due_ns; /* resting: try again; incoming: drop */
	short events;   /* proving: what it waits for */
	/* With a key; incoming: from the first byte on. */
	struct secure_session *session;
	struct secure_cipher *seal, *open; /* of the hellos */
	unsigned char out[ROOM_BYTES];
	unsigned char in[ROOM_BYTES];
	char note[96]; /* why it is not linked yet */
};

struct meeting {
	struct tcp_endpoint *endpoint;
	const unsigned *peers;
	unsigned count;
	const char *const *addresses;
	unsigned missing;
	size_t frame_bytes; /* of a hello; with a key it has a tag */
	unsigned outgoing;  /* greetings[0 .. outgoing) */
	unsigned greeting_count;
	struct greeting *greetings;
	struct pollfd
		*polls;     /* the wake_fd's, the listener's, the greetings' */
	char stranger[192]; /* what was turned away last */
};

int tcp_listen(struct tcp_endpoint *endpoint, char *address, size_t size)
{
	const struct transport_config *config = &endpoint->base.config;
	struct sockaddr_storage local;
	socklen_t length;
	int status;
	int fd;

	status = tcp_address_bind(config->bind, config->key, &local, &length);
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

static void encode_hello(const struct tcp_endpoint *endpoint, unsigned to,
			 enum wire_type type, uint64_t tag,
			 unsigned char out[FRAME_BYTES])
{
	const struct transport_config *config = &endpoint->base.config;
	struct wire_header header = {
		.version = WIRE_VERSION,
		.type = (uint16_t)type,
		.job = config->job,
		.epoch = config->epoch,
		.source = config->rank,
		.destination = to,
		.tag = tag,
	};
	struct wire_hello hello = {
		.size = config->size,
		.checksum = config->checksum,
		.wire = config->wire,
	};

	memcpy(hello.fingerprint, config->fingerprint,
	       sizeof(hello.fingerprint));
	wire_hello_encode(&header, &hello, out);
}

static void greeting_drop(struct greeting *greeting)
{
	secure_cipher_destroy(greeting->seal);
	secure_cipher_destroy(greeting->open);
	secure_session_destroy(greeting->session);
	greeting->session = NULL;
	greeting->seal = NULL;
	greeting->open = NULL;
	if (greeting->fd >= 0)
		close(greeting->fd);
	greeting->fd = -1;
	greeting->state = GREETING_FREE;
}

/* An outgoing attempt came to nothing; another follows. */
static void greeting_rest(struct greeting *greeting, const char *note)
{
	greeting_drop(greeting);
	snprintf(greeting->note, sizeof(greeting->note), "%s", note);
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
				   endpoint->base.config.key, &remote, &length);
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
	struct tcp_link *link;
	int flags;

	flags = fcntl(greeting->fd, F_GETFL);
	if (endpoint->backend->blocking)
		fcntl(greeting->fd, F_SETFL, flags & ~O_NONBLOCK);
	link = tcp_link_add(endpoint, peer, greeting->fd, greeting->session);
	if (!link)
		return -ENOMEM;
	greeting->fd = -1;
	greeting_drop(greeting);
	greeting->state = GREETING_LINKED;
	tcp_watch_begin(endpoint, link);
	endpoint->backend->attach(endpoint, link);
	meeting->missing--;
	return 0;
}

enum verdict {
	VERDICT_SAME,
	VERDICT_STRANGER,  /* not of this job and epoch, or not a hello */
	VERDICT_DIFFERENT, /* ours, and it disagrees: no use in waiting */
};

static enum verdict judge_hello(const struct tcp_endpoint *endpoint,
				const struct wire_header *header,
				const unsigned char *in, char *text,
				size_t size)
{
	const struct transport_config *config = &endpoint->base.config;
	struct wire_hello hello;
	enum wire_fault fault;

	fault = wire_hello_decode(header, in + WIRE_HEADER_BYTES, &hello);
	if (fault) {
		snprintf(text, size, "its hello is damaged (%s)",
			 wire_fault_text(fault));
		return VERDICT_STRANGER;
	}
	if (hello.size != config->size) {
		snprintf(text, size, "it counts %u ranks, this one %u",
			 hello.size, config->size);
		return VERDICT_DIFFERENT;
	}
	if (hello.checksum != config->checksum) {
		snprintf(text, size, "its payload checksums are %s, here %s",
			 hello.checksum ? "on" : "off",
			 config->checksum ? "on" : "off");
		return VERDICT_DIFFERENT;
	}
	if (hello.wire != config->wire) {
		snprintf(text, size,
			 "its links are %s, here %s: give both the same --wire",
			 wire_mode_text(hello.wire),
			 wire_mode_text(config->wire));
		return VERDICT_DIFFERENT;
	}
	if (memcmp(hello.fingerprint, config->fingerprint,
		   sizeof(hello.fingerprint)) != 0) {
		snprintf(text, size,
			 "the fingerprints differ: other shapes, schedule or "
			 "numerics (another model, build or processor?)");
		return VERDICT_DIFFERENT;
	}
	return VERDICT_SAME;
}

/* A whole frame: is it a hello of our job, and does it agree with us? */
static enum verdict judge(const struct tcp_endpoint *endpoint,
			  const unsigned char *in, struct wire_header *header,
			  char *text, size_t size)
{
	const struct transport_config *config = &endpoint->base.config;
	enum wire_fault fault = wire_header_decode(in, header);

	if (fault == WIRE_BAD_MAGIC || fault == WIRE_BAD_HEADER_CRC) {
		header->source = TRANSPORT_RANKS_MAX;
		snprintf(text, size, "it does not speak this protocol (%s)",
			 wire_fault_text(fault));
		return VERDICT_STRANGER;
	}
	if (header->job != config->job) {
		snprintf(text, size,
			 "it belongs to job 0x%" PRIx64
			 ", this one to job 0x%" PRIx64,
			 header->job, config->job);
		return VERDICT_STRANGER;
	}
	if (fault == WIRE_BAD_VERSION) {
		snprintf(text, size,
			 "it speaks protocol version %u, this one %u",
			 header->version, WIRE_VERSION);
		return VERDICT_DIFFERENT;
	}
	if (header->epoch != config->epoch) {
		snprintf(text, size, "it is in epoch %u, this one in epoch %u",
			 header->epoch, config->epoch);
		return VERDICT_STRANGER;
	}
	if (header->destination != config->rank) {
		snprintf(text, size, "it looks for rank %u, this is rank %u",
			 header->destination, config->rank);
		return VERDICT_STRANGER;
	}
	if (fault) {
		snprintf(text, size, "its hello is damaged (%s)",
			 wire_fault_text(fault));
		return VERDICT_STRANGER;
	}
	return judge_hello(endpoint, header, in, text, size);
}

/* ---- the job key ---- */

static void seal_hello(struct greeting *greeting)
{
	if (!greeting->seal)
		return;
	secure_begin(greeting->seal);
	secure_add(greeting->seal, greeting->out, FRAME_BYTES);
	secure_seal(greeting->seal, greeting->out + FRAME_BYTES);
}

static bool hello_is_sealed(struct greeting *greeting)
{
	if (!greeting->open)
		return true;
	secure_begin(greeting->open);
	secure_add(greeting->open, greeting->in, FRAME_BYTES);
	return secure_open(greeting->open, greeting->in + FRAME_BYTES) == 0;
}

static int begin_proof(const struct tcp_endpoint *endpoint,
		       struct greeting *greeting, bool server)
{
	greeting->state = GREETING_PROVING;
	return secure_session_create(greeting->fd, server,
				     endpoint->base.config.key, PURPOSE,
				     &greeting->session);
}

/* Both ends have the key: from now on it is the hellos' turn. */
static int end_proof(struct greeting *greeting)
{
	unsigned char keys[2][SECURE_KEY_BYTES];
	int status;

	status = secure_session_export(greeting->session, "hello", keys[0],
				       keys[1]);
	if (!status)
		status = secure_cipher_create(true, keys[0], &greeting->seal);
	if (!status)
		status = secure_cipher_create(false, keys[1], &greeting->open);
	secure_key_wipe(keys, sizeof(keys));
	return status;
}

static int differ(const struct tcp_endpoint *endpoint, unsigned peer,
		  const char *text)
{
	return fail(-EPROTO,
		    "tcp: rank %u and rank %u cannot work together: %s",
		    endpoint->base.config.rank, peer, text);
}

/* A refusal by somebody who does not say more to those without a key. */
static bool wants_key(const unsigned char *in)
{
	struct wire_header header;

	return wire_header_decode(in, &header) == WIRE_OK &&
	       header.type == WIRE_REFUSE && header.tag == WIRE_REFUSAL_KEY;
}

/* Outgoing: the answer is complete. */
static int hear_answer(struct meeting *meeting, struct greeting *greeting)
{
	struct tcp_endpoint *endpoint = meeting->endpoint;
	struct wire_header header;
	enum verdict verdict;
	char text[160];

	if (!hello_is_sealed(greeting))
		return differ(endpoint, greeting->peer,
			      "its hello was changed on its way");
	verdict = judge(endpoint, greeting->in, &header, text, sizeof(text));
	if (wants_key(greeting->in))
		return fail(-EACCES,
			    "tcp: rank %u at %s wants a job key, and rank %u "
			    "has none: give every rank the same --key-file",
			    greeting->peer, meeting->addresses[greeting->peer],
			    endpoint->base.config.rank);
	if (verdict != VERDICT_SAME)
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
	encode_hello(meeting->endpoint, to, type, tag, greeting->out);
	seal_hello(greeting);
	return send(greeting->fd, greeting->out, meeting->frame_bytes,
		    MSG_NOSIGNAL) == (ssize_t)meeting->frame_bytes;
}

/* Told of if time runs out. */
static void forget(struct meeting *meeting, struct greeting *greeting,
		   const char *why)
{
	snprintf(meeting->stranger, sizeof(meeting->stranger),
		 "; turned away: a connection, because %s", why);
	greeting_drop(greeting);
}

/* Told of now, if it is the first. */
static void turn_away(struct meeting *meeting, struct greeting *greeting,
		      const char *why)
{
	tcp_stranger_note(meeting->endpoint, greeting->fd, why);
	forget(meeting, greeting, why);
}

/*
 * With a key, to someone who begins with a hello: no word of the job. Without
 * one, to someone who begins with TLS: enough to see that this is no TLS.
 */
static void answer_misfit(struct greeting *greeting)
{
	static const struct wire_hello nothing = {
		.wire = TRANSPORT_WIRE_CHECKED,
	};
	static const struct wire_header refusal = {
		.version = WIRE_VERSION,
		.type = WIRE_REFUSE,
		.tag = WIRE_REFUSAL_KEY,
	};

	tcp_stranger_drain(greeting->fd);
	wire_hello_encode(&refusal, &nothing, greeting->out);
	(void)!send(greeting->fd, greeting->out, FRAME_BYTES, MSG_NOSIGNAL);
}

/* Incoming: somebody has said hello. */
static int hear_hello(struct meeting *meeting, struct greeting *greeting)
{
	struct tcp_endpoint *endpoint = meeting->endpoint;
	struct wire_header header = {.type = 0};
	enum verdict verdict;
	char text[128];
	bool awaited;

	if (!hello_is_sealed(greeting)) {
		turn_away(meeting, greeting,
			  "its hello was changed on its way");
		return 0;
	}
	if (!greeting->session && greeting->in[0] == TLS_RECORD) {
		answer_misfit(greeting);
		turn_away(meeting, greeting,
			  "it wants to prove a job key (TLS), and this rank "
			  "has none");
		return 0;
	}
	verdict = judge(endpoint, greeting->in, &header, text, sizeof(text));
	awaited = is_awaited(meeting, header.source);
	if (verdict == VERDICT_SAME && header.type == WIRE_HELLO && awaited &&
	    !endpoint->link_of[header.source]) {
		if (answer(meeting, greeting, header.source, WIRE_HELLO, 0))
			return greeting_link(meeting, greeting, header.source);
		greeting_drop(greeting);
		return 0;
	}
	if (verdict == VERDICT_SAME) {
		answer(meeting, greeting, header.source, WIRE_REFUSE,
		       awaited ? WIRE_REFUSAL_DUPLICATE
			       : WIRE_REFUSAL_NOT_EXPECTED);
		greeting_drop(greeting);
		return 0;
	}
	if (!header.type) {
		turn_away(meeting, greeting, text);
		return 0;
	}
	/* Something like us: it shall be able to name the difference. */
	answer(meeting, greeting, header.source, WIRE_HELLO, 0);
	forget(meeting, greeting, text);
	if (verdict == VERDICT_DIFFERENT && awaited)
		return differ(endpoint, header.source, text);
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

static void begin_talk(const struct meeting *meeting, struct greeting *greeting,
		       bool outgoing)
{
	greeting->state = GREETING_TALKING;
	if (!outgoing)
		return;
	encode_hello(meeting->endpoint, greeting->peer, WIRE_HELLO, 0,
		     greeting->out);
	seal_hello(greeting);
}

/*
 * Whoever calls a rank and finds no key, or another one, has the wrong address
 * or the wrong key, and waiting mends neither. Who is called cannot tell such a
 * rank from a stranger.
 */
static int proof_failed(struct meeting *meeting, struct greeting *greeting,
			bool outgoing, int status)
{
	const char *reason = secure_session_reason(greeting->session);
	char text[SECURE_REASON_BYTES + 4];

	if (outgoing && status == -EACCES)
		return fail(-EACCES,
			    "tcp: rank %u: who answers as rank %u at %s %s; "
			    "give every rank the same --key-file",
			    meeting->endpoint->base.config.rank, greeting->peer,
			    meeting->addresses[greeting->peer], reason);
	if (outgoing) {
		greeting_rest(greeting, reason);
		return 0;
	}
	snprintf(text, sizeof(text), "it %s", reason);
	turn_away(meeting, greeting, text);
	return 0;
}

/* Its first byte is here, and stays in the socket. */
static int meet_stranger(struct meeting *meeting, struct greeting *greeting)
{
	unsigned char first = 0;
	ssize_t got = recv(greeting->fd, &first, 1, MSG_PEEK | MSG_DONTWAIT);

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (got == 1 && first == TLS_RECORD)
		return begin_proof(meeting->endpoint, greeting, true);
	if (got == 1 && first == (WIRE_MAGIC & 255))
		answer_misfit(greeting);
	turn_away(meeting, greeting,
		  got == 1 ? "it has no job key" : "it hung up at once");
	return 0;
}

static int greeting_prove(struct meeting *meeting, struct greeting *greeting,
			  bool outgoing)
{
	int status;

	if (!greeting->session) {
		status = meet_stranger(meeting, greeting);
		if (status || !greeting->session)
			return status;
	}
	status = secure_session_step(greeting->session, &greeting->events);
	if (status == -EAGAIN)
		return 0;
	if (status)
		return proof_failed(meeting, greeting, outgoing, status);
	status = end_proof(greeting);
	if (status)
		return status;
	begin_talk(meeting, greeting, outgoing);
	return greeting_talk(meeting, greeting, outgoing);
}

static int greeting_connected(struct meeting *meeting,
			      struct greeting *greeting)
{
	const struct tcp_endpoint *endpoint = meeting->endpoint;
	socklen_t length = sizeof(int);
	int error = 0;

	getsockopt(greeting->fd, SOL_SOCKET, SO_ERROR, &error, &length);
	if (error) {
		greeting_rest(greeting, strerror(error));
		return 0;
	}
	if (endpoint->base.config.key) {
		error = begin_proof(endpoint, greeting, false);
		return error ? error : greeting_prove(meeting, greeting, true);
	}
	begin_talk(meeting, greeting, true);
	return greeting_talk(meeting, greeting, true);
}

static int greeting_step(struct meeting *meeting, unsigned index, short events)
{
	struct greeting *greeting = &meeting->greetings[index];
	bool outgoing = index < meeting->outgoing;
	bool due = clock_now_ns() >= greeting->due_ns;
	bool busy = greeting->state == GREETING_PROVING ||
		    greeting->state == GREETING_TALKING;

	if (greeting->state == GREETING_RESTING && due)
		return greeting_dial(meeting, greeting);
	/* However busily it trickles. */
	if (busy && !outgoing && due) {
		turn_away(meeting, greeting, "it took too long to say hello");
		return 0;
	}
	if (!events)
		return 0;
	if (greeting->state == GREETING_CONNECTING)
		return greeting_connected(meeting, greeting);
	if (greeting->state == GREETING_PROVING)
		return greeting_prove(meeting, greeting, outgoing);
	if (greeting->state == GREETING_TALKING)
		return greeting_talk(meeting, greeting, outgoing);
	return 0;
}

/* Has it shown anything that others would keep it for? */
static bool is_promising(const struct greeting *greeting)
{
	return greeting->session && secure_session_heard(greeting->session);
}

/*
 * A free slot for a stranger. When there is none, the oldest has to go of those
 * that have not shown a key; a thousand that say nothing then drive no peer
 * away.
 */
static struct greeting *stranger_slot(struct meeting *meeting)
{
	struct greeting *oldest = NULL;
	struct greeting *greeting;
	unsigned i;

	for (i = meeting->outgoing; i < meeting->greeting_count; i++) {
		greeting = &meeting->greetings[i];
		if (greeting->state != GREETING_TALKING &&
		    greeting->state != GREETING_PROVING)
			return greeting;
		if (!oldest || is_promising(greeting) < is_promising(oldest) ||
		    (is_promising(greeting) == is_promising(oldest) &&
		     greeting->due_ns < oldest->due_ns))
			oldest = greeting;
	}
	turn_away(meeting, oldest, "too many come at once");
	return oldest;
}

static void accept_strangers(struct meeting *meeting)
{
	struct greeting *greeting;
	unsigned i;
	int fd;

	/* A few at a time, so that those who wait get their turn. */
	for (i = 0; i < STRANGERS / 2; i++) {
		fd = accept4(meeting->endpoint->listener, NULL, NULL,
			     SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0)
			return;
		tcp_socket_tune(
			fd, meeting->endpoint->base.config.socket_buffer_bytes);
		greeting = stranger_slot(meeting);
		*greeting = (struct greeting){
			.state = meeting->endpoint->base.config.key
					 ? GREETING_PROVING
					 : GREETING_TALKING,
			.fd = fd,
			.events = POLLIN,
			.due_ns = clock_now_ns() + STRANGER_NS,
		};
	}
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
	meeting->polls[1].events = POLLIN;
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

static int time_is_up(const struct meeting *meeting, int64_t timeout_ns)
{
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
	return fail(
		-ETIMEDOUT,
		"tcp: rank %u has tried for %.1f s to connect; missing:%s%s",
		meeting->endpoint->base.config.rank, clock_seconds(timeout_ns),
		list, meeting->stranger);
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
		if (meeting->polls[1].revents)
			accept_strangers(meeting);
		if (!meeting->missing)
			return 0;
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
	status = tcp_stranger_begin(endpoint);
	if (status)
		fail(status, "tcp: listening: %s", strerror(-status));
	else
		status = meet(&meeting, timeout_ns);
	tcp_stranger_end(endpoint);
	for (i = 0; i < room; i++)
		greeting_drop(&meeting.greetings[i]);
out_free:
	free(meeting.polls);
	free(meeting.greetings);
	return status;
}
