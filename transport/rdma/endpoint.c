#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "transport/rdma/devices.h"
#include "transport/rdma/rdma.h"

/*
 * One write. Small enough that a cancelled one ends soon, and that devices
 * whose messages are limited to a few MiB take it.
 */
#define MAX_PIECE_BYTES ((size_t)4 << 20)

static struct rdma_link *find_link(const struct rdma_endpoint *endpoint,
				   unsigned peer)
{
	unsigned place = endpoint->link_of[peer];

	return place ? &endpoint->links[place - 1] : NULL;
}

/* ---- opening and closing ---- */

static bool endpoint_available(const struct transport_config *config, char *why,
			       size_t size)
{
	struct sockaddr_storage local;

	if (config->wire == TRANSPORT_WIRE_ENCRYPTED) {
		snprintf(why, size, "RDMA data cannot be encrypted");
		return false;
	}
	return rdma_devices_choose(config->bind, &local, why, size) == 0;
}

static int read_limits(struct rdma_endpoint *endpoint)
{
	struct ibv_device_attr device;
	struct ibv_port_attr port;

	if (ibv_query_device(endpoint->device, &device) ||
	    ibv_query_port(endpoint->device, endpoint->anchor->port_num, &port))
		return fail(-EIO, "rdma: device %s does not say what it can do",
			    ibv_get_device_name(endpoint->device->device));
	endpoint->queue_limit = (unsigned)MIN(device.max_qp_wr, device.max_cqe);
	endpoint->piece_bytes =
		MIN(MAX_PIECE_BYTES, MAX(port.max_msg_sz, 4096u));
	return 0;
}

/* "write-imm" and "write-send" are for tests; all else leaves it to us. */
static void choose_immediate(struct rdma_endpoint *endpoint)
{
	bool iwarp =
		endpoint->device->device->transport_type == IBV_TRANSPORT_IWARP;
	bool asked = strcmp(endpoint->base.config.io, "write-send") == 0;

	endpoint->immediate = !iwarp && !asked;
	snprintf(endpoint->reason, sizeof(endpoint->reason),
		 "device %s port %u, %s",
		 ibv_get_device_name(endpoint->device->device),
		 endpoint->anchor->port_num, endpoint->local_text);
}

static int set_nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return fail(-errno, "rdma: fcntl: %s", strerror(errno));
	return 0;
}

static int open_device(struct rdma_endpoint *endpoint)
{
	struct sockaddr_storage local = endpoint->local;
	int status;

	endpoint->events = rdma_create_event_channel();
	if (!endpoint->events)
		return fail(-errno,
			    "rdma: /dev/infiniband/rdma_cm: %s (modprobe "
			    "rdma_ucm)",
			    strerror(errno));
	if (rdma_create_id(endpoint->events, &endpoint->anchor, NULL,
			   RDMA_PS_TCP) ||
	    rdma_bind_addr(endpoint->anchor, (struct sockaddr *)&local))
		return fail(-errno, "rdma: %s: %s", endpoint->local_text,
			    strerror(errno));
	endpoint->device = endpoint->anchor->verbs;
	endpoint->pd = ibv_alloc_pd(endpoint->device);
	endpoint->completions = ibv_create_comp_channel(endpoint->device);
	if (!endpoint->pd || !endpoint->completions)
		return fail(-errno, "rdma: device %s: %s",
			    ibv_get_device_name(endpoint->device->device),
			    strerror(errno));
	status = set_nonblocking(endpoint->events->fd);
	if (!status)
		status = set_nonblocking(endpoint->completions->fd);
	if (!status)
		status = read_limits(endpoint);
	return status;
}

static int open_bootstrap(struct rdma_endpoint *endpoint)
{
	struct transport_config config = endpoint->base.config;

	config.kind = "tcp";
	config.io = "sockets"; /* it carries next to nothing */
	config.depth = 4;
	config.zero_copy = TRANSPORT_ZERO_COPY_NEVER;
	return transport_open(&config, &endpoint->bootstrap);
}

/* Also of an endpoint that is half open. */
static void endpoint_close(struct transport_endpoint *base)
{
	struct rdma_endpoint *endpoint = rdma_of(base);
	int64_t deadline_ns = clock_now_ns() + NS_PER_SECOND;

	for (unsigned i = 0; i < endpoint->link_count; i++) {
		rdma_link_destroy_qp(&endpoint->links[i], deadline_ns);
		rdma_link_fini(&endpoint->links[i]);
	}
	transport_close(endpoint->bootstrap);
	if (endpoint->completions)
		ibv_destroy_comp_channel(endpoint->completions);
	if (endpoint->pd)
		ibv_dealloc_pd(endpoint->pd);
	if (endpoint->anchor)
		rdma_destroy_id(endpoint->anchor);
	if (endpoint->events)
		rdma_destroy_event_channel(endpoint->events);
	free(endpoint->polls);
	free(endpoint->link_of);
	free(endpoint->links);
	free(endpoint);
}

static int prepare(struct rdma_endpoint *endpoint)
{
	const struct transport_config *config = &endpoint->base.config;
	char why[160];
	int status;

	if (config->wire == TRANSPORT_WIRE_ENCRYPTED)
		return fail(-EOPNOTSUPP,
			    "rdma: RDMA data cannot be encrypted: use "
			    "--transport tcp, or --wire authentic, which "
			    "protects how links are set up");
	endpoint->links = calloc(config->size, sizeof(*endpoint->links));
	endpoint->link_of = calloc(config->size, sizeof(*endpoint->link_of));
	endpoint->polls = calloc(config->size + 3, sizeof(*endpoint->polls));
	if (!endpoint->links || !endpoint->link_of || !endpoint->polls)
		return fail(-ENOMEM, "rdma: no memory for an endpoint");
	status = rdma_devices_choose(config->bind, &endpoint->local, why,
				     sizeof(why));
	if (status)
		return fail(-EOPNOTSUPP,
			    "rdma: %s (stagecoach bench transport --list shows "
			    "the devices; --transport tcp works without)",
			    why);
	getnameinfo((struct sockaddr *)&endpoint->local,
		    sizeof(endpoint->local), endpoint->local_text,
		    sizeof(endpoint->local_text), NULL, 0, NI_NUMERICHOST);
	status = open_device(endpoint);
	if (status)
		return status;
	choose_immediate(endpoint);
	/* Spinning takes the processor from a device that is software. */
	transport_spin_init(
		&endpoint->spin, config->spin_ns,
		config->no_spin ||
			(!config->spin_ns &&
			 rdma_devices_is_software(ibv_get_device_name(
				 endpoint->device->device))));
	return open_bootstrap(endpoint);
}

static int endpoint_open(const struct transport_config *config,
			 struct transport_endpoint **out)
{
	struct rdma_endpoint *endpoint = calloc(1, sizeof(*endpoint));
	int status;

	if (!endpoint)
		return fail(-ENOMEM, "rdma: no memory for an endpoint");
	endpoint->base.config = *config;
	status = prepare(endpoint);
	if (status) {
		endpoint_close(&endpoint->base);
		return status;
	}
	*out = &endpoint->base;
	return 0;
}

/* "tcp:HOST:PORT" of the bootstrap as "rdma:DEVICE@HOST:PORT" */
static int endpoint_listen(struct transport_endpoint *base, char *address,
			   size_t size)
{
	struct rdma_endpoint *endpoint = rdma_of(base);
	char tcp[TRANSPORT_ADDRESS_BYTES];
	char text[TRANSPORT_ADDRESS_BYTES + 80];
	int status;

	status = transport_listen(endpoint->bootstrap, tcp, sizeof(tcp));
	if (status)
		return status;
	snprintf(text, sizeof(text), RDMA_PREFIX "%s@%s", endpoint->local_text,
		 strchr(tcp, ':') + 1);
	if (text_copy(address, size, text))
		return fail(-ENAMETOOLONG, "rdma: no room for %s", text);
	return 0;
}

static int endpoint_connect(struct transport_endpoint *base,
			    const unsigned *peers, unsigned count,
			    const char *const *addresses, int64_t timeout_ns)
{
	return rdma_endpoint_connect(rdma_of(base), peers, count, addresses,
				     timeout_ns);
}

/* The device of a peer, from its address. */
static int device_address(const char *address, struct sockaddr_storage *out)
{
	struct addrinfo hints = {.ai_flags = AI_NUMERICHOST};
	struct addrinfo *found;
	char host[80];
	size_t bytes;

	if (strncmp(address, RDMA_PREFIX, strlen(RDMA_PREFIX)) != 0)
		return -EINVAL;
	address += strlen(RDMA_PREFIX);
	bytes = strcspn(address, "@");
	if (!address[bytes] || bytes >= sizeof(host))
		return -EINVAL;
	memcpy(host, address, bytes);
	host[bytes] = '\0';
	if (getaddrinfo(host, NULL, &hints, &found))
		return -EINVAL;
	memset(out, 0, sizeof(*out));
	memcpy(out, found->ai_addr, found->ai_addrlen);
	freeaddrinfo(found);
	return 0;
}

/* A channel of its own, so that nothing of the endpoint's is disturbed. */
static bool endpoint_reaches(struct transport_endpoint *base,
			     const char *address, char *why, size_t size)
{
	struct rdma_endpoint *endpoint = rdma_of(base);
	struct sockaddr_storage local = endpoint->local;
	struct sockaddr_storage remote;
	struct rdma_cm_id *id;
	bool reached;

	if (device_address(address, &remote)) {
		snprintf(why, size, "its address is not one of rdma");
		return false;
	}
	if (rdma_create_id(NULL, &id, NULL, RDMA_PS_TCP)) {
		snprintf(why, size, "%s", strerror(errno));
		return false;
	}
	/* Without a channel these block, each at most as long as said. */
	reached = rdma_resolve_addr(id, (struct sockaddr *)&local,
				    (struct sockaddr *)&remote, 500) == 0 &&
		  rdma_resolve_route(id, 500) == 0 &&
		  id->verbs == endpoint->device;
	if (!reached)
		snprintf(why, size, "no way from %s: %s", endpoint->local_text,
			 strerror(errno));
	rdma_destroy_id(id);
	return reached;
}

/* ---- memory ---- */

static int endpoint_add_region(struct transport_endpoint *base,
			       const struct transport_region *region)
{
	struct rdma_endpoint *endpoint = rdma_of(base);
	struct ibv_mr *mr;

	mr = ibv_reg_mr(endpoint->pd, region->base, region->bytes,
			IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
	if (!mr)
		return fail(-errno,
			    "rdma: rank %u: registering %zu bytes with the "
			    "device: %s (enough locked memory? ulimit -l, "
			    "LimitMEMLOCK=)",
			    base->config.rank, region->bytes, strerror(errno));
	endpoint->mrs[region->slot] = mr;
	return 0;
}

static void endpoint_drop_region(struct transport_endpoint *base,
				 const struct transport_region *region)
{
	struct rdma_endpoint *endpoint = rdma_of(base);

	if (endpoint->mrs[region->slot])
		ibv_dereg_mr(endpoint->mrs[region->slot]);
	endpoint->mrs[region->slot] = NULL;
}

static bool endpoint_uses(const struct transport_endpoint *base,
			  const void *memory, size_t bytes)
{
	const struct rdma_endpoint *endpoint = (const void *)base;

	for (unsigned i = 0; i < endpoint->link_count; i++) {
		const struct rdma_link *link = &endpoint->links[i];

		if (transport_queue_uses(&link->send, memory, bytes) ||
		    transport_queue_uses(&link->receive, memory, bytes))
			return true;
	}
	return false;
}

/* ---- messages ---- */

static struct transport_queue *
endpoint_send_queue(struct transport_endpoint *base, unsigned peer)
{
	struct rdma_link *link = find_link(rdma_of(base), peer);

	return link && link->send.entries ? &link->send : NULL;
}

static int usable(const struct rdma_link *link)
{
	if (link->cancelled)
		return -ECANCELED;
	return link->established ? link->status : -ENOTCONN;
}

/* The device reads from the caller's memory: that is the place. */
static int endpoint_acquire_send(struct transport_endpoint *base, unsigned peer,
				 uint64_t tag, size_t bytes, void *own,
				 void **where)
{
	struct rdma_link *link = find_link(rdma_of(base), peer);
	int status = usable(link);

	if (status)
		return status;
	return transport_queue_acquire_own(&link->send, tag, bytes, own, where);
}

static int endpoint_release_send(struct transport_endpoint *base, unsigned peer)
{
	find_link(rdma_of(base), peer)->send.reserved--;
	return 0;
}

static int endpoint_post_send(struct transport_endpoint *base, unsigned peer,
			      uint64_t tag, const void *data, size_t bytes,
			      void *cookie)
{
	struct rdma_link *link = find_link(rdma_of(base), peer);
	struct transport_operation *operation;
	int status = usable(link);

	if (status)
		return status;
	status = transport_queue_post(&link->send, tag, (void *)data, bytes,
				      cookie, &operation);
	if (!status)
		rdma_link_push(link);
	return status;
}

static int endpoint_post_recv(struct transport_endpoint *base, unsigned peer,
			      uint64_t tag, void *data, size_t bytes,
			      void *cookie)
{
	struct rdma_link *link = find_link(rdma_of(base), peer);
	struct transport_operation *operation;
	int status = usable(link);

	if (status)
		return status;
	status = transport_queue_post(&link->receive, tag, data, bytes, cookie,
				      &operation);
	if (!status)
		rdma_link_push(link);
	return status;
}

static int endpoint_progress(struct transport_endpoint *base,
			     struct transport_completion *out,
			     unsigned capacity)
{
	struct rdma_endpoint *endpoint = rdma_of(base);
	unsigned links = endpoint->link_count;
	unsigned count = 0;
	int status = 0;

	rdma_endpoint_poll(endpoint, false);
	for (unsigned i = 0; i < links; i++) {
		struct rdma_link *link =
			&endpoint->links[(endpoint->next + i) % links];

		if (!status && !link->cancelled)
			status = link->status;
		count += transport_queue_report_link(
			&link->receive, &link->send, link->peer, out + count,
			capacity - count);
	}
	if (links)
		endpoint->next = (endpoint->next + 1) % links;
	return count ? (int)count : status;
}

/* ---- ends ---- */

static int endpoint_cancel(struct transport_endpoint *base, unsigned peer,
			   int64_t timeout_ns)
{
	struct rdma_endpoint *endpoint = rdma_of(base);
	int64_t deadline_ns = clock_now_ns() + timeout_ns;

	for (unsigned i = 0; i < endpoint->link_count; i++) {
		struct rdma_link *link = &endpoint->links[i];

		if (peer != TRANSPORT_ALL_PEERS && peer != link->peer)
			continue;
		link->cancelled = true;
		rdma_link_destroy_qp(link, deadline_ns);
		transport_queue_drop(&link->send);
		transport_queue_drop(&link->receive);
	}
	return 0;
}

static int endpoint_query(const struct transport_endpoint *base, unsigned peer,
			  struct transport_link_info *out)
{
	const struct rdma_endpoint *endpoint = (const void *)base;
	const struct rdma_link *link = find_link(endpoint, peer);

	if (!link)
		return -ENOTCONN;
	*out = (struct transport_link_info){
		.transport = "rdma",
		.status = usable(link),
		.wire = TRANSPORT_WIRE_CHECKED, /* the data, by the devices */
		.zero_copy = true,
		.registered = true,
		.messages_sent = link->messages_sent,
		.messages_received = link->messages_received,
		.bytes_sent = link->bytes_sent,
		.bytes_received = link->bytes_received,
		.sends_pending = transport_queue_pending(&link->send),
		.receives_pending = transport_queue_pending(&link->receive),
	};
	snprintf(out->io, sizeof(out->io), "%s",
		 link->immediate ? "write-imm" : "write-send");
	snprintf(out->reason, sizeof(out->reason), "%s", endpoint->reason);
	return 0;
}

const struct transport_ops transport_rdma_ops = {
	.kind = "rdma",
	.available = endpoint_available,
	.reaches = endpoint_reaches,
	.open = endpoint_open,
	.listen = endpoint_listen,
	.connect = endpoint_connect,
	.add_region = endpoint_add_region,
	.drop_region = endpoint_drop_region,
	.send_queue = endpoint_send_queue,
	.uses = endpoint_uses,
	.acquire_send = endpoint_acquire_send,
	.release_send = endpoint_release_send,
	.post_send = endpoint_post_send,
	.post_recv = endpoint_post_recv,
	.progress = endpoint_progress,
	.wait = rdma_endpoint_wait,
	.begin_sleep = rdma_endpoint_begin_sleep,
	.end_sleep = rdma_endpoint_end_sleep,
	.cancel = endpoint_cancel,
	.query = endpoint_query,
	.close = endpoint_close,
};
