/*
 * RDMA devices of this host: which there are, which can be used, and why not.
 * Built with and without the libraries; without them there are none, and the
 * reason says how to get them.
 */
#ifndef STAGECOACH_TRANSPORT_RDMA_DEVICES_H
#define STAGECOACH_TRANSPORT_RDMA_DEVICES_H

#include <sys/socket.h>

#include "base/compiler.h"

#define RDMA_GIDS_MAX 16 /* of a port, that a list shows */

struct rdma_gid {
	unsigned index;
	char text[48];
	char type[12]; /* "IB", "RoCE v1", "RoCE v2" */
};

struct rdma_port {
	char device[64];
	unsigned port;
	char transport[16];  /* "InfiniBand" (RoCE too), "iWARP", ... */
	char link_layer[16]; /* "InfiniBand", "Ethernet" */
	char state[16];      /* "active", "down", ... */
	unsigned mtu, mtu_max;
	bool software;    /* soft-RoCE, soft-iWARP: no hardware behind it */
	char netdev[32];  /* "" when not known */
	char address[64]; /* by which librdmacm finds it; "" when none */
	struct rdma_gid gids[RDMA_GIDS_MAX]; /* those that are set */
	unsigned gid_count;
	char why_not[160]; /* why it cannot be used; "" when it can */
};

/*
 * All ports of all devices, to be freed. With none, *out is NULL and `why`
 * says what is missing and how to get it. -ENOMEM.
 */
int rdma_devices_list(struct rdma_port **out, unsigned *count, char *why,
		      size_t size) MUST_CHECK;

/*
 * The address of the device to use for ranks that bind to `bind`: that
 * address itself where it is a device's, else (loopback, another network) that
 * of the first usable port. -ENODEV, silently: `why` says what is missing.
 */
int rdma_devices_choose(const char *bind, struct sockaddr_storage *out,
			char *why, size_t size) MUST_CHECK;

bool rdma_devices_is_software(const char *device);

#endif
