#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "transport/shm/shm.h"
#include "transport/tcp/tcp.h"

/* progress looks at the sockets when idle, and each so many calls. */
#define CALLS_PER_LOOK 64
#define SETTLE_MS      10

static struct shm_endpoint *shm(struct transport_endpoint *base)
{
	return (struct shm_endpoint *)base;
}

static bool shm_available(const struct transport_config *config, char *why,
			  size_t size)
{
	int fd = memfd_create("stagecoach", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	(void)config;
	if (fd >= 0) {
		close(fd);
		return true;
	}
	snprintf(why, size, "no shared memory (memfd_create: %s)",
		 strerror(errno));
	return false;
}

static int open_bootstrap(struct shm_endpoint *endpoint,
			  const struct transport_config *config)
{
	struct transport_config own = *config;

	own.kind = "tcp";
	own.io = "sockets";
	own.bind = TCP_BIND_LOCAL;
	own.socket_buffer_bytes = 0;
	own.silence_ns = -1; /* a host does not fall silent to itself */
	return transport_open(&own, &endpoint->bootstrap);
}

static int shm_open_endpoint(const struct transport_config *config,
			     struct transport_endpoint **out)
{
	struct shm_endpoint *endpoint = calloc(1, sizeof(*endpoint));
	int status = -ENOMEM;

	if (!endpoint)
		return fail(-ENOMEM, "shm: no memory for an endpoint");
	endpoint->links = calloc(config->size, sizeof(struct shm_link *));
	endpoint->link_of = calloc(config->size, sizeof(struct shm_link *));
	endpoint->polls = calloc(config->size + 1, sizeof(*endpoint->polls));
	if (!endpoint->links || !endpoint->link_of || !endpoint->polls) {
		fail(status, "shm: no memory for an endpoint");
		goto err_free;
	}
	transport_spin_init(&endpoint->spin, config->spin_ns, config->no_spin);
	status = open_bootstrap(endpoint, config);
	if (status)
		goto err_free;
	*out = &endpoint->base;
	return 0;

err_free:
	free(endpoint->polls);
	free(endpoint->link_of);
	free(endpoint->links);
	free(endpoint);
	return status;
}

static int shm_listen(struct transport_endpoint *base, char *address,
		      size_t size)
{
	return transport_listen(shm(base)->bootstrap, address, size);
}

static int shm_connect_peers(struct transport_endpoint *base,
			     const unsigned *peers, unsigned count,
			     const char *const *addresses, int64_t timeout_ns)
{
	return shm_connect(shm(base), peers, count, addresses, timeout_ns);
}

/* ---- memory ---- */

static struct shm_memory *find_memory(struct shm_endpoint *endpoint,
				      const void *memory)
{
	unsigned i;

	for (i = 0; i < endpoint->memory_count; i++) {
		if (endpoint->memory[i].base == memory)
			return &endpoint->memory[i];
	}
	return NULL;
}

static int shm_map_region(struct transport_endpoint *base, size_t bytes,
			  void **out)
{
	struct shm_endpoint *endpoint = shm(base);
	struct shm_memory *memory;
	int status;

	if (endpoint->memory_count == TRANSPORT_REGIONS_MAX)
		return fail(-ENOSPC, "shm: more than %u regions",
			    TRANSPORT_REGIONS_MAX);
	memory = &endpoint->memory[endpoint->memory_count];
	status = shm_memory_create(bytes, &memory->fd, out);
	if (status)
		return status;
	memory->base = *out;
	memory->bytes = bytes;
	memory->number = ++endpoint->numbers;
	endpoint->memory_count++;
	return 0;
}

static void shm_unmap_region(struct transport_endpoint *base, void *at,
			     size_t bytes)
{
	struct shm_endpoint *endpoint = shm(base);
	struct shm_memory *memory = find_memory(endpoint, at);

	shm_memory_unmap(at, bytes);
	close(memory->fd);
	*memory = endpoint->memory[--endpoint->memory_count];
}

static int shm_add_region(struct transport_endpoint *base,
			  const struct transport_region *region)
{
	struct shm_endpoint *endpoint = shm(base);
	const struct shm_memory *memory;
	unsigned i;

	if (!region->created)
		return 0;
	memory = find_memory(endpoint, region->base);
	endpoint->number[region->slot] = memory->number;
	for (i = 0; i < endpoint->link_count; i++)
		shm_link_tell_region(endpoint->links[i], region, memory);
	return 0;
}

static void shm_drop_region(struct transport_endpoint *base,
			    const struct transport_region *region)
{
	struct shm_endpoint *endpoint = shm(base);
	unsigned i;

	for (i = 0; i < endpoint->link_count; i++) {
		if (shm_link_live(endpoint->links[i]))
			shm_mail_drop(endpoint->links[i], region->slot);
	}
}

static bool shm_uses(const struct transport_endpoint *base, const void *memory,
		     size_t bytes)
{
	const struct shm_endpoint *endpoint = (const void *)base;
	unsigned i;

	for (i = 0; i < endpoint->link_count; i++) {
		const struct shm_link *link = endpoint->links[i];

		if (transport_queue_uses(&link->send, memory, bytes) ||
		    transport_queue_uses(&link->receive, memory, bytes))
			return true;
	}
	return false;
}

/* ---- messages ---- */

static struct transport_queue *shm_send_queue(struct transport_endpoint *base,
					      unsigned peer)
{
	struct shm_link *link = shm(base)->link_of[peer];

	return link ? &link->send : NULL;
}

static int shm_acquire_send(struct transport_endpoint *base, unsigned peer,
			    uint64_t tag, size_t bytes, void *own, void **where)
{
	struct shm_link *link = shm(base)->link_of[peer];
	int status = shm_link_usable(shm(base), link);

	if (status)
		return status;
	if (transport_queue_full(&link->send))
		return -EAGAIN;
	return shm_link_acquire(shm(base), link, tag, bytes, own, where);
}

static int shm_release_send(struct transport_endpoint *base, unsigned peer)
{
	shm_link_release(shm(base)->link_of[peer]);
	return 0;
}

static int shm_post_send(struct transport_endpoint *base, unsigned peer,
			 uint64_t tag, const void *data, size_t bytes,
			 void *cookie)
{
	struct shm_link *link = shm(base)->link_of[peer];
	struct transport_operation *operation;
	int status = shm_link_usable(shm(base), link);

	if (!status)
		status = transport_queue_post(&link->send, tag, (void *)data,
					      bytes, cookie, &operation);
	if (status)
		return status;
	link->messages_in_place += operation->in_place;
	shm_link_push(shm(base), link);
	return 0;
}

static int shm_post_recv(struct transport_endpoint *base, unsigned peer,
			 uint64_t tag, void *data, size_t bytes, void *cookie)
{
	struct shm_link *link = shm(base)->link_of[peer];
	struct transport_operation *operation;
	int status = shm_link_usable(shm(base), link);

	if (!status)
		status = transport_queue_post(&link->receive, tag, data, bytes,
					      cookie, &operation);
	if (!status)
		shm_link_offer(shm(base), link);
	return status;
}

static int shm_progress(struct transport_endpoint *base,
			struct transport_completion *out, unsigned capacity)
{
	struct shm_endpoint *endpoint = shm(base);
	unsigned links = endpoint->link_count;
	struct shm_link *link;
	unsigned count = 0;
	int status = 0;
	unsigned i;

	for (i = 0; i < links && count < capacity; i++) {
		link = endpoint->links[(endpoint->next + i) % links];
		if (!shm_link_poll(endpoint, link))
			continue;
		if (!status && !link->cancelled)
			status = link->status;
		count += transport_queue_report_link(
			&link->receive, &link->send, link->peer, out + count,
			capacity - count);
	}
	if (links)
		endpoint->next = (endpoint->next + 1) % links;
	if (!count || ++endpoint->calls % CALLS_PER_LOOK == 0)
		shm_mail_look_sometimes(endpoint); /* the next call tells */
	return count ? (int)count : status;
}

/* ---- the end of links, and what is known of them ---- */

/* Until the peer has let go of our slots, or is dead. */
static int settle(struct shm_endpoint *endpoint, struct shm_link *link,
		  int64_t deadline_ns)
{
	struct pollfd bell = {.fd = link->fd, .events = POLLIN};

	while (!shm_link_settle(link)) {
		if (clock_now_ns() >= deadline_ns)
			return fail(-ETIMEDOUT,
				    "shm: rank %u still writes into slots of "
				    "rank %u that it acquired",
				    link->peer, endpoint->base.config.rank);
		poll(&bell, 1, SETTLE_MS);
		shm_mail_read(endpoint, link);
	}
	return transport_cancel(endpoint->bootstrap, link->peer,
				MAX(deadline_ns - clock_now_ns(), 0));
}

static int shm_cancel(struct transport_endpoint *base, unsigned peer,
		      int64_t timeout_ns)
{
	struct shm_endpoint *endpoint = shm(base);
	int64_t deadline_ns = clock_now_ns() + timeout_ns;
	struct shm_link *link;
	int result = 0;
	int status;
	unsigned i;

	/* All are told before any is waited for: no circle of waiting. */
	for (i = 0; i < endpoint->link_count; i++) {
		link = endpoint->links[i];
		if (peer == TRANSPORT_ALL_PEERS || peer == link->peer)
			shm_link_cancel(link);
	}
	for (i = 0; i < endpoint->link_count; i++) {
		link = endpoint->links[i];
		if (peer != TRANSPORT_ALL_PEERS && peer != link->peer)
			continue;
		status = settle(endpoint, link, deadline_ns);
		if (status)
			result = status;
	}
	return result;
}

static int shm_query(const struct transport_endpoint *base, unsigned peer,
		     struct transport_link_info *out)
{
	const struct shm_endpoint *endpoint = (const void *)base;
	const struct shm_link *link = endpoint->link_of[peer];

	if (!link)
		return -ENOTCONN;
	*out = (struct transport_link_info){
		.transport = "shm",
		.io = "memory",
		.reason = "both ranks share memory of one host",
		.status = link->cancelled ? -ECANCELED : link->status,
		.messages_sent = link->messages_sent,
		.messages_received = link->messages_received,
		.bytes_sent = link->bytes_sent,
		.bytes_received = link->bytes_received,
		.messages_in_place = link->messages_in_place,
		.sends_pending = transport_queue_pending(&link->send),
		.receives_pending = transport_queue_pending(&link->receive),
	};
	return 0;
}

/* What a peer may still write into is left mapped, by the facade. */
static void shm_close(struct transport_endpoint *base)
{
	struct shm_endpoint *endpoint = shm(base);
	unsigned i;

	for (i = 0; i < endpoint->link_count; i++)
		shm_link_destroy(endpoint->links[i]);
	for (i = 0; i < endpoint->memory_count; i++)
		close(endpoint->memory[i].fd);
	transport_close(endpoint->bootstrap);
	free(endpoint->polls);
	free(endpoint->link_of);
	free(endpoint->links);
	free(endpoint);
}

const struct transport_ops transport_shm_ops = {
	.kind = "shm",
	.available = shm_available,
	.open = shm_open_endpoint,
	.listen = shm_listen,
	.connect = shm_connect_peers,
	.add_region = shm_add_region,
	.drop_region = shm_drop_region,
	.map_region = shm_map_region,
	.unmap_region = shm_unmap_region,
	.send_queue = shm_send_queue,
	.uses = shm_uses,
	.acquire_send = shm_acquire_send,
	.release_send = shm_release_send,
	.post_send = shm_post_send,
	.post_recv = shm_post_recv,
	.progress = shm_progress,
	.wait = shm_wait,
	.begin_sleep = shm_begin_sleep,
	.end_sleep = shm_end_sleep,
	.cancel = shm_cancel,
	.query = shm_query,
	.close = shm_close,
};
