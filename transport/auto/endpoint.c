#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/log.h"
#include "transport/auto/auto.h"

/* ---- the transports it holds ---- */

static void lacks(struct auto_child *child, const char *format, const char *a)
{
	snprintf(child->why_not, sizeof(child->why_not), format, a);
}

static int open_child(struct auto_endpoint *endpoint, enum auto_kind kind,
		      const struct transport_config *config)
{
	struct auto_child *child = &endpoint->child[kind];
	const struct transport_ops *ops =
		transport_find_ops(auto_kind_name(kind));
	struct transport_config own = *config;
	char why[AUTO_WHY_BYTES - 16] = "";

	if (!ops) {
		lacks(child, "built without %s", auto_kind_name(kind));
		return 0;
	}
	if (ops->available && !ops->available(config, why, sizeof(why))) {
		/* How to get one is for the list of devices to say. */
		why[strcspn(why, "(")] = '\0';
		while (why[0] && why[strlen(why) - 1] == ' ')
			why[strlen(why) - 1] = '\0';
		lacks(child, "%s", why);
		return 0;
	}
	own.kind = ops->kind;
	return transport_open(&own, &child->endpoint);
}

static void close_children(struct auto_endpoint *endpoint)
{
	for (unsigned i = 0; i < AUTO_KINDS; i++)
		transport_close(endpoint->child[i].endpoint);
}

static int endpoint_open(const struct transport_config *config,
			 struct transport_endpoint **out)
{
	struct auto_endpoint *endpoint = calloc(1, sizeof(*endpoint));
	int status;

	if (!endpoint)
		return fail(-ENOMEM, "auto: no memory for an endpoint");
	endpoint->poll_capacity = AUTO_KINDS * (config->size + 2) + 1;
	endpoint->routes = calloc(config->size, sizeof(*endpoint->routes));
	endpoint->polls =
		calloc(endpoint->poll_capacity, sizeof(*endpoint->polls));
	if (!endpoint->routes || !endpoint->polls) {
		status = fail(-ENOMEM, "auto: no memory for an endpoint");
		goto err_free;
	}
	for (unsigned i = 0; i < config->size; i++)
		endpoint->routes[i].kind = AUTO_NONE;
	transport_spin_init(&endpoint->spin, config->spin_ns, config->no_spin);
	if (config->host)
		snprintf(endpoint->host, sizeof(endpoint->host), "%s",
			 config->host);
	else
		auto_host_identity(endpoint->host, sizeof(endpoint->host));
	for (unsigned i = 0; i < AUTO_KINDS; i++) {
		status = open_child(endpoint, i, config);
		if (status)
			goto err_close;
	}
	*out = &endpoint->base;
	return 0;

err_close:
	close_children(endpoint);
err_free:
	free(endpoint->polls);
	free(endpoint->routes);
	free(endpoint);
	return status;
}

static int endpoint_listen(struct transport_endpoint *base, char *address,
			   size_t size)
{
	struct auto_endpoint *endpoint = auto_of(base);
	int status = 0;

	for (unsigned i = 0; !status && i < AUTO_KINDS; i++) {
		struct auto_child *child = &endpoint->child[i];

		if (child->endpoint)
			status = transport_listen(child->endpoint,
						  child->address,
						  sizeof(child->address));
	}
	return status ? status : auto_address_write(endpoint, address, size);
}

static void endpoint_close(struct transport_endpoint *base)
{
	struct auto_endpoint *endpoint = auto_of(base);

	close_children(endpoint);
	free(endpoint->polls);
	free(endpoint->routes);
	free(endpoint);
}

/* ---- memory ---- */

static bool knows(const struct transport_endpoint *child,
		  const struct transport_region *region, bool created)
{
	const struct transport_region *found =
		transport_region_find(child, region->base, region->bytes);

	return found && found->created == created;
}

static void endpoint_drop_region(struct transport_endpoint *base,
				 const struct transport_region *region)
{
	struct auto_endpoint *endpoint = auto_of(base);

	for (unsigned i = 0; i < AUTO_KINDS; i++) {
		struct transport_endpoint *child = endpoint->child[i].endpoint;

		if (child && knows(child, region, false))
			transport_deregister(child, region->base);
	}
}

/* A transport without links learns of it with its first link. */
static int endpoint_add_region(struct transport_endpoint *base,
			       const struct transport_region *region)
{
	struct auto_endpoint *endpoint = auto_of(base);

	for (unsigned i = 0; i < AUTO_KINDS; i++) {
		struct auto_child *child = &endpoint->child[i];
		int status = 0;

		if (child->links && !knows(child->endpoint, region, true))
			status = transport_register(
				child->endpoint, region->base, region->bytes);
		if (status) {
			endpoint_drop_region(base, region);
			return status;
		}
	}
	return 0;
}

/* Shared memory wherever a peer may come to write into it. */
static int endpoint_map_region(struct transport_endpoint *base, size_t bytes,
			       void **out)
{
	struct auto_endpoint *endpoint = auto_of(base);
	struct auto_child *shm = &endpoint->child[AUTO_SHM];
	void *memory;

	if (shm->endpoint && (shm->links || !endpoint->connected))
		return transport_create_region(shm->endpoint, bytes, out);
	memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		return fail(-ENOMEM,
			    "auto: no memory for a region of %zu bytes", bytes);
	*out = memory;
	return 0;
}

static void endpoint_unmap_region(struct transport_endpoint *base, void *memory,
				  size_t bytes)
{
	struct transport_endpoint *shm =
		auto_of(base)->child[AUTO_SHM].endpoint;
	struct transport_region region = {.base = memory, .bytes = bytes};

	if (shm && knows(shm, &region, true))
		transport_release_region(shm, memory);
	else
		munmap(memory, bytes);
}

static bool endpoint_uses(const struct transport_endpoint *base,
			  const void *memory, size_t bytes)
{
	const struct auto_endpoint *endpoint = (const void *)base;

	for (unsigned i = 0; i < AUTO_KINDS; i++) {
		const struct auto_child *child = &endpoint->child[i];

		if (child->links &&
		    child->endpoint->ops->uses(child->endpoint, memory, bytes))
			return true;
	}
	return false;
}

/* ---- messages ---- */

static struct transport_queue *
endpoint_send_queue(struct transport_endpoint *base, unsigned peer)
{
	struct transport_endpoint *child = auto_child_of(auto_of(base), peer);

	return child ? child->ops->send_queue(child, peer) : NULL;
}

static int endpoint_acquire_send(struct transport_endpoint *base, unsigned peer,
				 uint64_t tag, size_t bytes, void *own,
				 void **where)
{
	return transport_acquire_send(auto_child_of(auto_of(base), peer), peer,
				      tag, bytes, own, where);
}

static int endpoint_release_send(struct transport_endpoint *base, unsigned peer)
{
	return transport_release_send(auto_child_of(auto_of(base), peer), peer);
}

static int endpoint_post_send(struct transport_endpoint *base, unsigned peer,
			      uint64_t tag, const void *data, size_t bytes,
			      void *cookie)
{
	return transport_post_send(auto_child_of(auto_of(base), peer), peer,
				   tag, data, bytes, cookie);
}

static int endpoint_post_recv(struct transport_endpoint *base, unsigned peer,
			      uint64_t tag, void *data, size_t bytes,
			      void *cookie)
{
	return transport_post_recv(auto_child_of(auto_of(base), peer), peer,
				   tag, data, bytes, cookie);
}

static int endpoint_progress(struct transport_endpoint *base,
			     struct transport_completion *out,
			     unsigned capacity)
{
	struct auto_endpoint *endpoint = auto_of(base);
	unsigned count = 0;
	int result = 0;

	for (unsigned i = 0; i < AUTO_KINDS && count < capacity; i++) {
		struct auto_child *child =
			&endpoint->child[(endpoint->next + i) % AUTO_KINDS];
		int status;

		if (!child->links)
			continue;
		status = transport_progress(child->endpoint, out + count,
					    capacity - count);
		if (status > 0)
			count += (unsigned)status;
		else if (!result)
			result = status;
	}
	endpoint->next = (endpoint->next + 1) % AUTO_KINDS;
	return count ? (int)count : result;
}

/* ---- the end of links, and what is known of them ---- */

static int endpoint_cancel(struct transport_endpoint *base, unsigned peer,
			   int64_t timeout_ns)
{
	struct auto_endpoint *endpoint = auto_of(base);
	int64_t deadline_ns = clock_now_ns() + timeout_ns;
	int result = 0;

	if (peer != TRANSPORT_ALL_PEERS)
		return transport_cancel(auto_child_of(endpoint, peer), peer,
					timeout_ns);
	for (unsigned i = 0; i < AUTO_KINDS; i++) {
		struct transport_endpoint *child = endpoint->child[i].endpoint;
		int status;

		if (!child)
			continue;
		status = transport_cancel(child, peer,
					  MAX(deadline_ns - clock_now_ns(), 0));
		if (status)
			result = status;
	}
	return result;
}

static int endpoint_query(const struct transport_endpoint *base, unsigned peer,
			  struct transport_link_info *out)
{
	const struct auto_endpoint *endpoint = (const void *)base;
	const struct transport_endpoint *child = auto_child_of(endpoint, peer);
	struct transport_link_info info;
	int status;

	if (!child)
		return -ENOTCONN;
	status = transport_query(child, peer, &info);
	if (status)
		return status;
	*out = info;
	/* Room for both: what the child says is cut off first. */
	snprintf(out->reason, sizeof(out->reason), "%s; %.*s",
		 endpoint->routes[peer].why,
		 (int)(sizeof(out->reason) - AUTO_WHY_BYTES - 2), info.reason);
	return 0;
}

const struct transport_ops transport_auto_ops = {
	.kind = "auto",
	.open = endpoint_open,
	.listen = endpoint_listen,
	.connect = auto_connect,
	.add_region = endpoint_add_region,
	.drop_region = endpoint_drop_region,
	.map_region = endpoint_map_region,
	.unmap_region = endpoint_unmap_region,
	.send_queue = endpoint_send_queue,
	.uses = endpoint_uses,
	.acquire_send = endpoint_acquire_send,
	.release_send = endpoint_release_send,
	.post_send = endpoint_post_send,
	.post_recv = endpoint_post_recv,
	.progress = endpoint_progress,
	.wait = auto_wait,
	.cancel = endpoint_cancel,
	.query = endpoint_query,
	.close = endpoint_close,
};
