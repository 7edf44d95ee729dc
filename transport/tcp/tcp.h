/*
 * tcp: a connection a link, frames on it (transport/wire.h).
 *
 * connect.c builds the connections, link.c turns queues into bytes and back,
 * endpoint.c answers the facade, and a back end moves the bytes: uring.c lets
 * the kernel fill the slots by itself, sockets.c works everywhere, direct.c is
 * what they share.
 */
#ifndef STAGECOACH_TRANSPORT_TCP_TCP_H
#define STAGECOACH_TRANSPORT_TCP_TCP_H

#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/clock.h"
#include "transport/queue.h"
#include "transport/spin.h"
#include "transport/transport_ops.h"
#include "transport/wire.h"

#define TCP_STAGE_BYTES ((size_t)4096)
#define TCP_PATIENCE_NS (100 * NS_PER_MS) /* of a socket: SO_RCVTIMEO */

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
	size_t sent, received;
	uint32_t receive_crc; /* what the header promises */
	uint32_t arrived_crc; /* of the payload so far */
	unsigned char *stage; /* TCP_STAGE_BYTES: a short frame, in one piece */

	uint64_t messages_sent, messages_received;
	uint64_t bytes_sent, bytes_received;

	/* uring: requests the kernel holds */
	unsigned sends_in_kernel, receives_in_kernel;
	struct msghdr send_message;
	struct iovec send_parts[2];
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
	unsigned next; /* whose turn it is in progress */
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

/* connect.c */
int tcp_listen(struct tcp_endpoint *endpoint, char *address,
	       size_t size) MUST_CHECK;
int tcp_connect(struct tcp_endpoint *endpoint, const unsigned *peers,
		unsigned count, const char *const *addresses,
		int64_t timeout_ns) MUST_CHECK;

/* address.c: numeric addresses, loopback only */
int tcp_address_parse(const char *address, struct sockaddr_storage *out,
		      socklen_t *length) MUST_CHECK;
int tcp_address_bind(const char *host, struct sockaddr_storage *out,
		     socklen_t *length) MUST_CHECK;
int tcp_address_of(int fd, char *out, size_t size) MUST_CHECK;
/* NODELAY and buffer sizes; before listen and connect. */
void tcp_socket_tune(int fd, size_t buffer_bytes);

/* link.c */
struct tcp_link *tcp_link_add(struct tcp_endpoint *endpoint, unsigned peer,
			      int fd); /* NULL: no memory, logged */
void tcp_link_fini(struct tcp_link *link);

/*
 * What is left of the oldest posted frame, at most two parts; their number, 0
 * when nothing is posted. Parts of 0 bytes are left out.
 */
unsigned tcp_link_send_parts(const struct tcp_endpoint *endpoint,
			     struct tcp_link *link, struct iovec parts[2]);
unsigned tcp_link_receive_parts(struct tcp_link *link, struct iovec parts[2]);
/* So many bytes of them have moved. Received: checks what is complete. */
void tcp_link_sent(struct tcp_link *link, size_t bytes);
int tcp_link_received(const struct tcp_endpoint *endpoint,
		      struct tcp_link *link, size_t bytes);
/* The system's answer to a send or receive was an error (0: end of stream). */
void tcp_link_send_failed(const struct tcp_endpoint *endpoint,
			  struct tcp_link *link, int error);
void tcp_link_receive_failed(const struct tcp_endpoint *endpoint,
			     struct tcp_link *link, int error);

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

static inline bool tcp_link_live(const struct tcp_link *link)
{
	return !link->status && !link->cancelled;
}

#endif
