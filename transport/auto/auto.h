/*
 * auto: a transport a link. One endpoint that holds an endpoint of each
 * transport it may need, and routes every peer to one of them:
 *
 *   shm   between ranks of one host
 *   rdma  between hosts that both have it and can reach each other by it
 *   tcp   otherwise
 *
 * Both ends of a link decide by the same two addresses, so that they agree
 * without asking. Only whether RDMA reaches the other host has to be tried:
 * the two ends tell each other what they found over a tcp link, which is
 * dropped when both found that it does.
 *
 * choose.c reads and writes addresses and decides; connect.c builds the
 * links; wait.c waits for all of them at once; endpoint.c answers the facade.
 */
#ifndef STAGECOACH_TRANSPORT_AUTO_AUTO_H
#define STAGECOACH_TRANSPORT_AUTO_AUTO_H

#include "base/text.h"
#include "transport/spin.h"
#include "transport/transport_ops.h"

#define AUTO_WHY_BYTES  112
#define AUTO_HOST_BYTES 96

/* In the order of preference. */
enum auto_kind {
	AUTO_SHM,
	AUTO_RDMA,
	AUTO_TCP,
	AUTO_KINDS,
	AUTO_NONE = AUTO_KINDS, /* no link with this peer */
};

struct auto_child {
	struct transport_endpoint *endpoint; /* NULL: not to be had here */
	char why_not[AUTO_WHY_BYTES];
	char address[TRANSPORT_ADDRESS_BYTES];
	unsigned links; /* peers routed to it; 0: never polled */
	bool asleep;    /* between begin_sleep and end_sleep */
};

struct auto_route {
	enum auto_kind kind;
	char why[AUTO_WHY_BYTES];
};

struct auto_endpoint {
	struct transport_endpoint base;
	struct auto_child child[AUTO_KINDS];
	struct auto_route *routes; /* by rank */
	bool connected;
	unsigned next; /* whose turn it is in progress */
	char host[AUTO_HOST_BYTES];
	char address[TRANSPORT_ADDRESS_BYTES];
	struct transport_spin spin;
	struct pollfd *polls;
	unsigned poll_capacity;
};

const char *auto_kind_name(enum auto_kind kind);

static inline struct auto_endpoint *auto_of(struct transport_endpoint *endpoint)
{
	return (struct auto_endpoint *)endpoint;
}

/* The endpoint that has the link with `peer`; NULL: there is none. */
static inline struct transport_endpoint *
auto_child_of(const struct auto_endpoint *endpoint, unsigned peer)
{
	enum auto_kind kind = endpoint->routes[peer].kind;

	return kind == AUTO_NONE ? NULL : endpoint->child[kind].endpoint;
}

/* ---- choose.c ---- */

/*
 * What two processes have in common that can share memory: the boot of the
 * kernel, the network namespace (their sockets meet there), the user. "" when
 * it cannot be found out.
 */
void auto_host_identity(char *out, size_t size);

/* "auto:HOST" and "|ADDRESS" for each child there is. -ENAMETOOLONG. */
int auto_address_write(const struct auto_endpoint *endpoint, char *out,
		       size_t size) MUST_CHECK;

/* The part of `address` for this kind, or false when it has none. */
bool auto_address_part(const char *address, enum auto_kind kind, char *out,
		       size_t size);

/* -EINVAL: the peer's address is not one of ours. */
int auto_choose(const struct auto_endpoint *endpoint, unsigned peer,
		const char *address, struct auto_route *out) MUST_CHECK;

/* ---- connect.c ---- */

int auto_connect(struct transport_endpoint *endpoint, const unsigned *peers,
		 unsigned count, const char *const *addresses,
		 int64_t timeout_ns) MUST_CHECK;

/* ---- wait.c ---- */

int auto_wait(struct transport_endpoint *endpoint, int64_t deadline_ns,
	      int wake_fd) MUST_CHECK;

#endif
