/*
 * tcp: a connection a link, frames on it (transport/wire.h).
 *
 * connect.c builds the connections, link.c turns queues into bytes and back,
 * endpoint.c answers the facade, watch.c looks whether peers still answer, and
 * a back end moves the bytes: uring.c lets the kernel fill the slots by itself,
 * sockets.c works everywhere.
 */
#ifndef STAGECOACH_TRANSPORT_TCP_TCP_H
#define STAGECOACH_TRANSPORT_TCP_TCP_H

#include <sys/socket.h>
#include <sys/uio.h>

#include "transport/queue.h"
#include "transport/spin.h"
#include "transport/transport_ops.h"
#include "transport/wire.h"

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

	char host[64];          /* numeric, for messages */
	int64_t waits_since_ns; /* something is unanswered; 0: nothing is */

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
	unsigned next;        /* whose turn it is in progress */
	int64_t next_look_ns; /* watch.c */
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
