/*
 * Builds links: the sockets by transport/tcp, which compares hellos and keys;
 * then the lower rank of each pair sends the ring.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "transport/shm/shm.h"
#include "transport/tcp/tcp.h"

#define LOOK_MS 20

static uint64_t slots_for(unsigned depth)
{
	uint64_t slots = 1;

	while (slots < depth)
		slots *= 2;
	return slots;
}

void shm_link_destroy(struct shm_link *link)
{
	unsigned i;

	for (i = 0; i < TRANSPORT_REGIONS_MAX; i++) {
		if (link->map[i].base)
			shm_memory_unmap(link->map[i].base, link->map[i].bytes);
	}
	if (link->ring.head)
		shm_memory_unmap(link->ring.head,
				 shm_ring_bytes(link->ring.slots));
	transport_queue_fini(&link->send);
	transport_queue_fini(&link->receive);
	free(link->shared);
	free(link);
}

static struct shm_link *create(struct shm_endpoint *endpoint, unsigned peer)
{
	const struct transport_config *config = &endpoint->base.config;
	struct shm_link *link = calloc(1, sizeof(*link));

	if (!link)
		goto err_memory;
	link->peer = peer;
	link->side = config->rank > peer;
	link->fd = tcp_endpoint_socket(endpoint->bootstrap, peer);
	link->shared = calloc(TRANSPORT_DEPTH_MAX, sizeof(*link->shared));
	if (!link->shared)
		goto err_destroy;
	if (transport_queue_init(&link->send, config->depth) ||
	    transport_queue_init(&link->receive, config->depth))
		goto err_destroy;
	return link;

err_destroy:
	shm_link_destroy(link);
err_memory:
	fail(-ENOMEM, "shm: no memory for a link");
	return NULL;
}

static int send_ring(struct shm_endpoint *endpoint, struct shm_link *link)
{
	uint64_t slots = slots_for(endpoint->base.config.depth);
	void *base;
	int status;
	int fd;

	status = shm_memory_create(shm_ring_bytes(slots), &fd, &base);
	if (status)
		return status;
	shm_ring_at(&link->ring, base, slots);
	status = shm_mail_ring(link, slots, fd);
	close(fd);
	if (status)
		return fail(status, "shm: rank %u, sending rank %u a ring: %s",
			    endpoint->base.config.rank, link->peer,
			    strerror(-status));
	return 0;
}

/* 0: it has come, or config.wake_fd is readable. */
static int await_ring(struct shm_endpoint *endpoint, struct shm_link *link,
		      int64_t deadline_ns)
{
	struct pollfd polls[2] = {
		{.fd = link->fd, .events = POLLIN},
		{.fd = transport_wake_fd(&endpoint->base), .events = POLLIN},
	};

	for (;;) {
		shm_mail_read(endpoint, link);
		if (link->status || link->ring.head)
			return link->status;
		if (link->hung_up)
			return fail(-ECONNRESET,
				    "shm: rank %u: rank %u is gone before the "
				    "link was built",
				    endpoint->base.config.rank, link->peer);
		if (transport_woken(&endpoint->base))
			return -ECANCELED; /* whoever rang says why */
		if (clock_now_ns() >= deadline_ns)
			return fail(-ETIMEDOUT,
				    "shm: rank %u: no ring from rank %u; does "
				    "it use another transport?",
				    endpoint->base.config.rank, link->peer);
		poll(polls, 2, LOOK_MS);
	}
}

void shm_link_tell_region(struct shm_link *link,
			  const struct transport_region *region,
			  const struct shm_memory *memory)
{
	if (shm_link_live(link) && !link->hung_up)
		shm_mail_region(link, region->slot, memory);
}

static void tell_regions(const struct shm_endpoint *endpoint,
			 struct shm_link *link)
{
	const struct transport_region *region;
	unsigned i;

	for (i = 0; i < endpoint->memory_count; i++) {
		region = transport_region_find(&endpoint->base,
					       endpoint->memory[i].base, 1);
		if (region)
			shm_link_tell_region(link, region,
					     &endpoint->memory[i]);
	}
}

static int build(struct shm_endpoint *endpoint, const unsigned *peers,
		 unsigned count, int64_t deadline_ns)
{
	unsigned first = endpoint->link_count;
	struct shm_link *link;
	unsigned i;
	int status = 0;

	for (i = 0; i < count; i++) {
		link = create(endpoint, peers[i]);
		if (!link)
			return -ENOMEM;
		endpoint->links[endpoint->link_count++] = link;
	}
	/* All are sent before any is waited for. */
	for (i = first; i < endpoint->link_count && !status; i++) {
		if (!endpoint->links[i]->side)
			status = send_ring(endpoint, endpoint->links[i]);
	}
	for (i = first; i < endpoint->link_count && !status; i++) {
		status = await_ring(endpoint, endpoint->links[i], deadline_ns);
		if (!status)
			tell_regions(endpoint, endpoint->links[i]);
	}
	for (i = first; i < endpoint->link_count && !status; i++)
		endpoint->link_of[endpoint->links[i]->peer] =
			endpoint->links[i];
	return status;
}

int shm_connect(struct shm_endpoint *endpoint, const unsigned *peers,
		unsigned count, const char *const *addresses,
		int64_t timeout_ns)
{
	int64_t deadline_ns = clock_now_ns() + timeout_ns;
	unsigned i;
	int status;

	for (i = 0; i < count; i++) {
		if (peers[i] > endpoint->base.config.rank &&
		    strncmp(addresses[peers[i]], "shm:", 4) != 0)
			return fail(-EINVAL,
				    "shm: \"%s\", of rank %u, is not an "
				    "address like shm:stagecoach-0123456789",
				    addresses[peers[i]], peers[i]);
	}
	status = transport_connect(endpoint->bootstrap, peers, count, addresses,
				   timeout_ns);
	return status ? status : build(endpoint, peers, count, deadline_ns);
}
