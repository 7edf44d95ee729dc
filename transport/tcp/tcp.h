/*
 * tcp: a connection a link, frames on it (transport/wire.h).
 *
 * connect.c builds the connections, link.c turns queues into bytes and back,
 * shield.c protects them where there is a job key, endpoint.c answers the
 * facade, watch.c looks whether peers still answer, and a back end moves the
 * bytes: uring.c lets the kernel fill the slots by itself, sockets.c works
 * everywhere, direct.c is what they share.
 */
#ifndef STAGECOACH_TRANSPORT_TCP_TCP_H
#define STAGECOACH_TRANSPORT_TCP_TCP_H

#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/clock.h"
#include "transport/queue.h"
#include "transport/secure/secure.h"
#include "transport/spin.h"
#include "transport/transport_ops.h"
#include "transport/wire.h"

#define TCP_STAGE_BYTES ((size_t)4096 + 128) /* a page, and what frames it */
#define TCP_PATIENCE_NS (100 * NS_PER_MS)    /* of a socket: SO_RCVTIMEO */

/* Of a frame on its way: header, payload, tag. */
#define TCP_PARTS 3

/* A link's protection: none (no ciphers), authentic, or encrypted. */
struct tcp_shield {
	bool encrypts;
	struct secure_cipher *seals, *opens;
	unsigned char send_tag[SECURE_TAG_BYTES];
	unsigned char receive_tag[SECURE_TAG_BYTES];
	unsigned char *bounce; /* ciphertext of the payload's bytes */
	size_t bounce_from, bounce_to;
};

struct tcp_link {
	unsigned peer;
	unsigned index; /* in endpoint->links */
	int fd;
	int status; /* 0, or what it failed with (logged) */
	bool cancelled;
	bool orderly; /* cancelled with nothing pending */
	struct transport_queue send;
	struct transport_queue receive;

	/* The frames in hand: [done] of the queues. Bytes include headers. */
	unsigned char send_header[WIRE_HEADER_BYTES];
	unsigned char receive_header[WIRE_HEADER_BYTES];
	bool send_ready; /* send_header is that of the frame in hand */
	size_t sent, received;
	struct tcp_shield shield;
	size_t tag_bytes;     /* behind each payload */
	uint32_t receive_crc; /* what the header promises */
	uint32_t arrived_crc; /* of the payload so far */
	unsigned char *stage; /* TCP_STAGE_BYTES: a short frame, in one piece */

	char host[64];       /* numeric, for messages */
	int64_t answered_ns; /* watch.c: nothing was unanswered then */

	uint64_t messages_sent, messages_received;
	uint64_t bytes_sent, bytes_received;

	/* uring: requests the kernel holds */
	unsigned sends_in_kernel, receives_in_kernel;
	struct msghdr send_message;
	struct iovec send_parts[TCP_PARTS];
	bool zero_copy;    /* large payloads go by SEND_ZC */
	bool probing;      /* the next of them tells whether that pays */
	bool probe_copied; /* it told that the kernel copies */
	bool zero_copy_pending;
	size_t zero_copy_sent;
};

struct tcp_endpoint {
	struct transport_endpoint base;
	const struct tcp_backend *backend;
	const char *name;       /* of what has these links, for messages */
	char reason[104];       /* why this back end */
	struct tcp_link *links; /* room for `size` */
	unsigned link_count;
	unsigned *link_of; /* by rank: 1 + index, 0: none */
	int listener;      /* -1: none */
	struct transport_spin spin;
	int64_t looked_ns; /* when a receive that slept came back; 0: a while */
	unsigned next;     /* whose turn it is in progress */
	int64_t next_look_ns; /* watch.c */
	uint64_t strangers;   /* strangers.c */
	int64_t next_stranger_ns;
	struct tcp_uring *uring;
	struct pollfd *polls; /* size + 2 of them */
};

struct tcp_backend {
	const char *name;
	/* Silent: the caller decides what a refusal means. */
	int (*open)(struct tcp_endpoint *endpoint);
	void (*close)(struct tcp_endpoint *endpoint);
	void (*attach)(struct tcp_endpoint *endpoint, struct tcp_link *link);
	/* There is something new in the queue. */
	void (*kick_send)(struct tcp_endpoint *endpoint, struct tcp_link *link);
	void (*kick_receive)(struct tcp_endpoint *endpoint,
			     struct tcp_link *link);
	/* Moves what can move, without blocking. */
	int (*poll)(struct tcp_endpoint *endpoint);
	/* Spins and sleeps until poll may have something: see transport_wait */
	int (*wait)(struct tcp_endpoint *endpoint, int64_t deadline_ns,
		    int wake_fd);
	/* What to poll for instead of waiting: see transport_ops.h. */
	int (*begin_sleep)(struct tcp_endpoint *endpoint, struct pollfd *fds,
			   unsigned capacity);
	/* Asks for the end of a link's requests; how many the kernel holds. */
	void (*stop)(struct tcp_endpoint *endpoint, struct tcp_link *link);
	unsigned (*in_kernel)(const struct tcp_link *link);
	/* Optional */
	void (*add_region)(struct tcp_endpoint *endpoint,
			   const struct transport_region *region);
	void (*drop_region)(struct tcp_endpoint *endpoint,
			    const struct transport_region *region);
	bool (*registered)(const struct tcp_endpoint *endpoint);
};

extern const struct tcp_backend tcp_uring_backend;
extern const struct tcp_backend tcp_sockets_backend;

/*
 * endpoint.c, for a transport that sets its links up by tcp: the socket of a
 * link, and whether it has ended: 0, -ECONNRESET when the peer has closed it
 * (also when it was killed), -ETIMEDOUT when its host no longer answers.
 */
int tcp_endpoint_socket(const struct transport_endpoint *endpoint,
			unsigned peer);
int tcp_endpoint_peer_ended(const struct transport_endpoint *endpoint,
			    unsigned peer);

/*
 * For shm, which sets its links up by tcp: as config.bind, sockets within the
 * host ("shm:NAME"), which other users may not talk to.
 */
#define TCP_BIND_LOCAL "shm:"

/* connect.c */
int tcp_listen(struct tcp_endpoint *endpoint, char *address,
	       size_t size) MUST_CHECK;
int tcp_connect(struct tcp_endpoint *endpoint, const unsigned *peers,
		unsigned count, const char *const *addresses,
		int64_t timeout_ns) MUST_CHECK;

/* address.c: numeric addresses; without a job key of loopback only */
int tcp_address_parse(const char *address, bool keyed,
		      struct sockaddr_storage *out,
		      socklen_t *length) MUST_CHECK;
int tcp_address_bind(const char *host, bool keyed, struct sockaddr_storage *out,
		     socklen_t *length) MUST_CHECK;
int tcp_address_of(int fd, char *out, size_t size) MUST_CHECK;
/* Of a socket within the host: the peer is a process of this user. */
bool tcp_socket_is_ours(int fd);
/* NODELAY and buffer sizes; before listen and connect. */
void tcp_socket_tune(int fd, size_t buffer_bytes);

/* shield.c */
int tcp_shield_create(struct tcp_shield *shield, struct secure_session *session,
		      bool encrypts) MUST_CHECK;
void tcp_shield_fini(struct tcp_shield *shield);
/* Sending: first, and then what of the payload is ready from byte `skip` on. */
void tcp_shield_begin(struct tcp_shield *shield, const unsigned char *header,
		      const struct transport_operation *operation);
struct iovec tcp_shield_payload(struct tcp_shield *shield,
				const struct transport_operation *operation,
				size_t skip);
/*
 * Receiving: the header is here; so is the next piece of the payload, which is
 * decrypted where it lies; all is here. -EBADMSG (silent): not what was sent.
 */
void tcp_shield_expect(struct tcp_shield *shield, const unsigned char *header);
void tcp_shield_take(struct tcp_shield *shield, unsigned char *piece,
		     size_t bytes);
int tcp_shield_open(struct tcp_shield *shield) MUST_CHECK;

/* link.c. A link takes over fd and, of a connection with a key, the shield. */
struct tcp_link *tcp_link_add(struct tcp_endpoint *endpoint, unsigned peer,
			      int fd); /* NULL: no memory, logged */
void tcp_link_fini(struct tcp_link *link);

/*
 * What is left of the oldest posted frame (encrypted: as much of it as is
 * ready), at most TCP_PARTS; their number, 0 when nothing is posted. Parts of 0 bytes are left out.
 */
unsigned tcp_link_send_parts(const struct tcp_endpoint *endpoint,
			     struct tcp_link *link,
			     struct iovec parts[TCP_PARTS]);
unsigned tcp_link_receive_parts(struct tcp_link *link,
				struct iovec parts[TCP_PARTS]);
/* So many bytes of them have moved. Received: checks what is complete. */
void tcp_link_sent(struct tcp_link *link, size_t bytes);
int tcp_link_received(const struct tcp_endpoint *endpoint,
		      struct tcp_link *link, size_t bytes);
/* The system's answer to a send or receive was an error (0: end of stream). */
void tcp_link_send_failed(const struct tcp_endpoint *endpoint,
			  struct tcp_link *link, int error);
void tcp_link_receive_failed(const struct tcp_endpoint *endpoint,
			     struct tcp_link *link, int error);

/* Nothing has come from the peer's host for so long. */
void tcp_link_silent(const struct tcp_endpoint *endpoint, struct tcp_link *link,
		     int64_t silent_ns);

/* watch.c: links whose host no longer answers fail with -ETIMEDOUT. */
void tcp_watch_begin(const struct tcp_endpoint *endpoint,
		     struct tcp_link *link);
void tcp_watch_look(struct tcp_endpoint *endpoint);

/* direct.c: what the owner's calls have moved */
enum tcp_moved {
	TCP_MOVED_NOTHING,
	TCP_MOVED_BYTES,
	TCP_MOVED_MESSAGE, /* one is complete, or the link has failed */
};

/*
 * The oldest posted frame, as far as it goes without blocking; one frame at
 * most. The link is live, and the kernel has no request of this direction.
 */
enum tcp_moved tcp_direct_send(struct tcp_endpoint *endpoint,
			       struct tcp_link *link);
enum tcp_moved tcp_direct_receive(struct tcp_endpoint *endpoint,
				  struct tcp_link *link);

/*
 * Where the only thing to wait for is a message on one link, and not just for a
 * moment, the shortest way is to sleep in the receive itself: two system
 * calls less than to look, to poll and to look again. True when it slept,
 * until the message came or TCP_PATIENCE_NS had passed.
 */
bool tcp_sleep_in_receive(struct tcp_endpoint *endpoint, int64_t deadline_ns,
			  int wake_fd);

/* ppoll: 0, -ETIMEDOUT, or another error, logged. */
int tcp_poll_for(struct pollfd *polls, unsigned count,
		 int64_t timeout_ns) MUST_CHECK;

/*
 * Calls `move` until a message is complete (0), wake_fd (-1: none) is
 * readable (0), or the time to spin is over (-ETIMEDOUT).
 */
int tcp_spin(struct tcp_endpoint *endpoint, int64_t deadline_ns, int wake_fd,
	     enum tcp_moved (*move)(struct tcp_endpoint *endpoint)) MUST_CHECK;

/*
 * strangers.c: admit before peers are waited for, refuse afterwards; look
 * closes who calls nevertheless, sum_up tells how many did.
 */
void tcp_strangers_admit(struct tcp_endpoint *endpoint);
void tcp_strangers_refuse(struct tcp_endpoint *endpoint);
void tcp_strangers_look(struct tcp_endpoint *endpoint);
void tcp_strangers_sum_up(const struct tcp_endpoint *endpoint);

static inline bool tcp_link_live(const struct tcp_link *link)
{
	return !link->status && !link->cancelled;
}

#endif
