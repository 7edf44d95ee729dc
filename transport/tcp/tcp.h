/*
 * tcp: a connection a link, frames on it (transport/wire.h).
 *
 * connect.c builds the connections, link.c turns queues into bytes and back,
 * guard.c protects them (transport/secure/),
 * endpoint.c answers the facade, watch.c looks whether peers still answer, and
 * a back end moves the bytes: uring.c lets the kernel fill the slots by itself,
 * sockets.c works everywhere.
 */
#ifndef STAGECOACH_TRANSPORT_TCP_TCP_H
#define STAGECOACH_TRANSPORT_TCP_TCP_H

#include <sys/socket.h>
#include <sys/uio.h>

#include "transport/queue.h"
#include "transport/secure/secure.h"
#include "transport/spin.h"
#include "transport/transport_ops.h"
#include "transport/wire.h"

/* The most parts that lie on the wire one behind the other at a time. */
#define TCP_PARTS 3

/* What protects a link's frames, both ways. */
struct tcp_guard {
	enum transport_wire wire; /* not AUTO */
	size_t header_bytes; /* of a frame, with the tag where there is one */
	struct secure_cipher *seal, *open; /* NULL when checked */
	/* encrypted: the record on its way, and how much of a frame is sealed */
	unsigned char *bounce;
	size_t sealed;
	unsigned char tag[SECURE_TAG_BYTES]; /* of the record that comes in */
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
	unsigned char send_header[WIRE_HEADER_BYTES + SECURE_TAG_BYTES];
	unsigned char receive_header[WIRE_HEADER_BYTES + SECURE_TAG_BYTES];
	bool send_ready; /* send_header is that of the frame in hand */
	size_t sent, received;
	struct tcp_guard guard;
	uint32_t receive_crc; /* what the header promises */

	char host[64];          /* numeric, for messages */
	int64_t waits_since_ns; /* something is unanswered; 0: nothing is */

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
	char reason[104];       /* why this back end */
	struct tcp_link *links; /* room for `size` */
	unsigned link_count;
	unsigned *link_of; /* by rank: 1 + index, 0: none */
	int listener;      /* -1: none */
	struct transport_spin spin;
	unsigned next;        /* whose turn it is in progress */
	int64_t next_look_ns; /* watch.c */
	uint64_t strangers;   /* turned away */
	int64_t next_stranger_ns;
	struct tcp_uring *uring;
	struct pollfd *polls; /* sockets: size + 1 of them */
};

struct tcp_backend {
	const char *name;
	bool blocking; /* sockets are to be in blocking mode */
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

/* connect.c */
int tcp_listen(struct tcp_endpoint *endpoint, char *address,
	       size_t size) MUST_CHECK;
int tcp_connect(struct tcp_endpoint *endpoint, const unsigned *peers,
		unsigned count, const char *const *addresses,
		int64_t timeout_ns) MUST_CHECK;

/*
 * strangers.c. begin: we wait for peers; -errno. end: no more. note: one was
 * turned away, which is told of once; sum_up tells how many there were. drain:
 * before an answer and close. look: closes who came meanwhile, now and then.
 */
int tcp_stranger_begin(struct tcp_endpoint *endpoint) MUST_CHECK;
void tcp_stranger_end(struct tcp_endpoint *endpoint);
void tcp_stranger_note(struct tcp_endpoint *endpoint, int fd, const char *why);
void tcp_stranger_drain(int fd);
void tcp_stranger_look(struct tcp_endpoint *endpoint);
void tcp_stranger_sum_up(const struct tcp_endpoint *endpoint);

/* address.c: numeric addresses; those beyond loopback only when keyed */
int tcp_address_parse(const char *address, bool keyed,
		      struct sockaddr_storage *out,
		      socklen_t *length) MUST_CHECK;
int tcp_address_bind(const char *host, bool keyed, struct sockaddr_storage *out,
		     socklen_t *length) MUST_CHECK;
int tcp_address_of(int fd, char *out, size_t size) MUST_CHECK;
/* NODELAY and buffer sizes; before listen and connect. */
void tcp_socket_tune(int fd, size_t buffer_bytes);

/*
 * guard.c. `session` has been proved, or is NULL when wire is checked, and is
 * not kept. `behind` and the like count what lies on the wire behind a frame's
 * header. Errors are silent.
 */
int tcp_guard_init(struct tcp_guard *guard, enum transport_wire wire,
		   struct secure_session *session) MUST_CHECK;
void tcp_guard_fini(struct tcp_guard *guard);
/* A frame as it lies on the wire; and how much payload `moved` of it hold. */
size_t tcp_guard_frame_bytes(const struct tcp_guard *guard, size_t payload);
size_t tcp_guard_payload_bytes(const struct tcp_guard *guard, size_t moved);
/* The encoded header of the next frame: its tag is put behind it. */
void tcp_guard_seal_header(struct tcp_guard *guard, unsigned char *header,
			   const struct transport_operation *of);
/* -EBADMSG: not the peer's. Of an authentic frame only the end tells. */
int tcp_guard_open_header(struct tcp_guard *guard,
			  const unsigned char *header) MUST_CHECK;
/* Where the bytes from `behind` on come from and go to; at most 1 and 2. */
unsigned tcp_guard_send_parts(struct tcp_guard *guard,
			      const struct transport_operation *of,
			      size_t behind, struct iovec *parts);
unsigned tcp_guard_receive_parts(struct tcp_guard *guard,
				 const struct transport_operation *of,
				 size_t behind, struct iovec *parts);
/*
 * The bytes from `before` to `after` have come. -EBADMSG: they are not what the
 * peer sent.
 */
int tcp_guard_received(struct tcp_guard *guard, const unsigned char *header,
		       const struct transport_operation *of, size_t before,
		       size_t after) MUST_CHECK;

/* link.c */
/* NULL: no memory, logged. `session` as in tcp_guard_init(). */
struct tcp_link *tcp_link_add(struct tcp_endpoint *endpoint, unsigned peer,
			      int fd, struct secure_session *session);
void tcp_link_fini(struct tcp_link *link);

/*
 * What comes next of the oldest posted frame: parts that lie on the wire one
 * behind the other. Their number, 0 when nothing is posted. Parts of 0 bytes
 * are left out.
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

static inline bool tcp_link_live(const struct tcp_link *link)
{
	return !link->status && !link->cancelled;
}

#endif
