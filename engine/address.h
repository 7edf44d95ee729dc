/*
 * Network addresses: names and interfaces to numbers, and which of this
 * machine's addresses others can reach.
 */
#ifndef STAGECOACH_ENGINE_ADDRESS_H
#define STAGECOACH_ENGINE_ADDRESS_H

#include "base/compiler.h"
#include <netinet/in.h>
#include <sys/socket.h>

#define ADDRESS_HOST_BYTES 256
#define ADDRESS_TEXT_BYTES 96 /* "[fd00::1%enp1s0]:29500" */
#define ADDRESS_MAX        16 /* of one machine or name, taken into account */

struct address {
	union {
		struct sockaddr any;
		struct sockaddr_in four;
		struct sockaddr_in6 six;
	};
	socklen_t length;
};

/*
 * "host:29500", "[fd00::1]:29500", "fd00::1" or "host": *port is 0 if there is
 * none. Ends at a comma; *rest is what follows it, or NULL. -EINVAL, logged.
 */
int address_split(const char *text, char host[ADDRESS_HOST_BYTES],
		  unsigned *port, const char **rest) MUST_CHECK;

/* "10.0.0.2:29500", "[fd00::1]:29500"; port 0 (with_port false): bare. */
char *address_text(const struct address *address, bool with_port, char *buffer,
		   size_t size);

/* A numeric address, with this port; -EINVAL (silent). */
int address_parse(const char *text, unsigned port,
		  struct address *out) MUST_CHECK;

/*
 * What the name means now: 0 and at least one address, or negative with why
 * in `why` (silent: callers try again).
 */
int address_resolve(const char *host, unsigned port,
		    struct address out[ADDRESS_MAX], unsigned *count,
		    const char **why) MUST_CHECK;

/* What a socket for both kinds calls ::ffff:10.0.0.1 becomes 10.0.0.1. */
void address_unmap(struct address *address);

bool address_is_loopback(const struct address *address);
bool address_equal(const struct address *a, const struct address *b);
void address_set_port(struct address *address, unsigned port);
unsigned address_port(const struct address *address);

/* One of this machine's, loopback included? */
bool address_is_local(const struct address *address);

/*
 * The addresses by which others may reach this machine: of interfaces that
 * are up, neither loopback nor link-local. Returns their number.
 */
unsigned address_list(struct address out[ADDRESS_MAX]);

/* The local address that packets to `peer` leave from. -errno, silent. */
int address_route(const struct address *peer, struct address *out) MUST_CHECK;

/*
 * This machine's address on what --interface says: a name (eth0), an address,
 * or a network (10.0.0.0/8, fd00::/64). Of `family` (AF_UNSPEC: either, IPv4
 * first). -ENODEV, logged with what there is.
 */
int address_interface(const char *which, int family,
		      struct address *out) MUST_CHECK;

/* A listening socket; port 0: any. -EADDRINUSE is silent, others logged. */
int address_listen(const struct address *address, bool both_families,
		   int *fd) MUST_CHECK;

#endif
