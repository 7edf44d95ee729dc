/* The facade: looks at arguments, keeps the regions, calls the table. */
#include "transport/transport.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/log.h"
#include "transport/queue.h"
#include "transport/transport_ops.h"

static const struct transport_ops *const kinds[] = {
	&transport_auto_ops, &transport_inproc_ops, &transport_rdma_ops,
	&transport_shm_ops,  &transport_tcp_ops,
};

/* close() has no result: it waits this long, then says what it leaves. */
#define CLOSE_TIMEOUT_NS 30000000000LL
#define CLOSE_WOKEN_NS   1000000000LL /* once wake_fd is readable */

void transport_config_default(struct transport_config *config)
{
	*config = (struct transport_config){
		.kind = "tcp",
		.io = "auto",
		.depth = TRANSPORT_DEPTH_DEFAULT,
		.checksum = true,
		.bind = "127.0.0.1",
	};
}

const struct transport_ops *transport_find_ops(const char *kind)
{
	size_t i;

	for (i = 0; kind && i < ARRAY_SIZE(kinds); i++) {
		if (strcmp(kinds[i]->kind, kind) == 0)
			return kinds[i];
	}
	return NULL;
}

/*
 * "fault:tcp:..." is the transport that wraps another one, for tests, and what
 * it wraps; it is not among those that are offered.
 */
static const struct transport_ops *find_ops(const char *kind,
					    const char **wrapped)
{
	*wrapped = NULL;
	if (!kind || strncmp(kind, "fault:", 6) != 0)
		return transport_find_ops(kind);
	*wrapped = kind + 6;
	return &transport_fault_ops;
}

static int refuse_kind(const char *kind)
{
	char names[64] = "";
	size_t used = 0;

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		used += (size_t)snprintf(names + used, sizeof(names) - used,
					 "%s%s", i ? ", " : "", kinds[i]->kind);
	return fail(-EOPNOTSUPP,
		    "transport: no transport named \"%s\" (there are %s)",
		    kind ? kind : "", names);
}

static int check_config(const struct transport_config *config)
{
	if (!config->size || config->size > TRANSPORT_RANKS_MAX)
		return fail(-EINVAL, "transport: size is %u, not in 1 to %u",
			    config->size, TRANSPORT_RANKS_MAX);
	if (config->rank >= config->size)
		return fail(-EINVAL, "transport: rank %u of %u ranks",
			    config->rank, config->size);
	if (!config->job)
		return fail(-EINVAL, "transport: the job number is 0");
	if (config->wire > TRANSPORT_WIRE_CHECKED && !config->key)
		return fail(-EINVAL,
			    "transport: a wire that is authentic or encrypted "
			    "needs a job key; make one with: stagecoach key");
	if (config->depth > TRANSPORT_DEPTH_MAX)
		return fail(-EINVAL, "transport: depth is %u, at most %u",
			    config->depth, TRANSPORT_DEPTH_MAX);
	return 0;
}

/* What the config points to is the endpoint's own copy. */
static void free_copies(const struct transport_config *config)
{
	free((char *)config->io);
	free((char *)config->bind);
	free((char *)config->host);
	free((char *)config->wrapped);
	if (config->key)
		explicit_bzero((unsigned char *)config->key,
			       TRANSPORT_KEY_BYTES);
	free((unsigned char *)config->key);
}

/* false: no memory. */
static bool copy_string(const char **text)
{
	if (*text)
		*text = strdup(*text);
	return *text != NULL;
}

static int copy_all(struct transport_config *config)
{
	const struct transport_config given = *config;
	bool good = copy_string(&config->io);

	good &= copy_string(&config->bind);
	good &= copy_string(&config->host) || !given.host;
	good &= copy_string(&config->wrapped) || !given.wrapped;
	config->key = given.key ? malloc(TRANSPORT_KEY_BYTES) : NULL;
	if (config->key)
		memcpy((unsigned char *)config->key, given.key,
		       TRANSPORT_KEY_BYTES);
	else
		good &= !given.key;
	if (good)
		return 0;
	free_copies(config);
	return fail(-ENOMEM, "transport: no memory for an endpoint");
}

int transport_check(const char *kind)
{
	const struct transport_ops *ops = transport_find_ops(kind);
	struct transport_config config;
	char why[160] = "";

	if (!ops)
		return refuse_kind(kind);
	transport_config_default(&config);
	if (!ops->available || ops->available(&config, why, sizeof(why)))
		return 0;
	return fail(-EOPNOTSUPP,
		    "--transport %s: %s; --transport auto does "
		    "without",
		    kind, why);
}

int transport_open(const struct transport_config *config,
		   struct transport_endpoint **out)
{
	const char *wrapped;
	const struct transport_ops *ops = find_ops(config->kind, &wrapped);
	struct transport_config full = *config;
	struct transport_endpoint *endpoint;
	int status;

	if (!ops)
		return refuse_kind(config->kind);
	status = check_config(config);
	if (status)
		return status;
	full.kind = ops->kind;
	full.wrapped = wrapped;
	full.io = config->io ? config->io : "auto";
	full.bind = config->bind ? config->bind : "127.0.0.1";
	if (!config->silence_ns)
		full.silence_ns = TRANSPORT_SILENCE_NS;
	if (full.wire == TRANSPORT_WIRE_AUTO)
		full.wire = full.key ? TRANSPORT_WIRE_AUTHENTIC
				     : TRANSPORT_WIRE_CHECKED;
	full.depth = config->depth ? config->depth : TRANSPORT_DEPTH_DEFAULT;
	status = copy_all(&full);
	if (status)
		return status;
	status = ops->open(&full, &endpoint);
	if (status)
		goto err_free_copies;
	endpoint->ops = ops;
	endpoint->config = full;
	*out = endpoint;
	return 0;

err_free_copies:
	free_copies(&full);
	return status;
}

int transport_listen(struct transport_endpoint *endpoint, char *address,
		     size_t size)
{
	int status;

	if (endpoint->listening)
		return fail(-EINVAL, "transport: rank %u listens already",
			    endpoint->config.rank);
	status = endpoint->ops->listen(endpoint, address, size);
	if (!status)
		endpoint->listening = true;
	return status;
}

static bool is_peer(const struct transport_endpoint *endpoint, unsigned peer)
{
	return peer < endpoint->config.size && peer != endpoint->config.rank;
}

int transport_connect(struct transport_endpoint *endpoint,
		      const unsigned *peers, unsigned count,
		      const char *const *addresses, int64_t timeout_ns)
{
	unsigned rank = endpoint->config.rank;
	unsigned i;
	unsigned j;

	for (i = 0; i < count; i++) {
		if (!is_peer(endpoint, peers[i]))
			return fail(-EINVAL,
				    "transport: rank %u of %u cannot connect "
				    "to rank %u",
				    rank, endpoint->config.size, peers[i]);
		for (j = 0; j < i; j++) {
			if (peers[i] == peers[j])
				return fail(-EINVAL,
					    "transport: rank %u is to be "
					    "connected twice",
					    peers[i]);
		}
		if (endpoint->ops->send_queue(endpoint, peers[i]))
			return fail(-EISCONN,
				    "transport: rank %u has a link with rank "
				    "%u already",
				    rank, peers[i]);
		if (rank < peers[i] && !addresses[peers[i]])
			return fail(-EINVAL, "transport: no address of rank %u",
				    peers[i]);
	}
	if (!count)
		return 0;
	if (!endpoint->listening)
		return fail(-EINVAL,
			    "transport: rank %u connects before it listens",
			    rank);
	return endpoint->ops->connect(endpoint, peers, count, addresses,
				      timeout_ns);
}

int transport_wake_fd(const struct transport_endpoint *endpoint)
{
	return endpoint->config.wake_fd > 0 ? endpoint->config.wake_fd : -1;
}

bool transport_woken(const struct transport_endpoint *endpoint)
{
	struct pollfd wake = {
		.fd = transport_wake_fd(endpoint),
		.events = POLLIN,
	};

	return poll(&wake, 1, 0) > 0;
}

/* The number of regions that begin at or below `at`. */
static unsigned regions_up_to(const struct transport_endpoint *endpoint,
			      const unsigned char *at)
{
	unsigned low = 0;
	unsigned high = endpoint->region_count;
	unsigned middle;

	while (low < high) {
		middle = low + (high - low) / 2;
		if ((uintptr_t)endpoint->regions[middle].base <= (uintptr_t)at)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

const struct transport_region *
transport_region_find(const struct transport_endpoint *endpoint,
		      const void *data, size_t bytes)
{
	const struct transport_region *region;
	unsigned count = regions_up_to(endpoint, data);
	size_t offset;

	if (!count)
		return NULL;
	region = &endpoint->regions[count - 1];
	offset = (uintptr_t)data - (uintptr_t)region->base;
	if (offset > region->bytes || bytes > region->bytes - offset)
		return NULL;
	return region;
}

static int grow_regions(struct transport_endpoint *endpoint)
{
	struct transport_region *regions;
	unsigned capacity;

	if (endpoint->region_count < endpoint->region_capacity)
		return 0;
	if (endpoint->region_count == TRANSPORT_REGIONS_MAX)
		return fail(-ENOSPC, "transport: more than %u regions",
			    TRANSPORT_REGIONS_MAX);
	capacity =
		endpoint->region_capacity ? endpoint->region_capacity * 2 : 16;
	regions = realloc(endpoint->regions, capacity * sizeof(*regions));
	if (!regions)
		return fail(-ENOMEM, "transport: no memory for %u regions",
			    capacity);
	endpoint->regions = regions;
	endpoint->region_capacity = capacity;
	return 0;
}

static unsigned free_slot(const struct transport_endpoint *endpoint)
{
	unsigned slot = 0;
	unsigned i = 0;

	while (i < endpoint->region_count) {
		if (endpoint->regions[i].slot == slot) {
			slot++;
			i = 0;
		} else {
			i++;
		}
	}
	return slot;
}

static int add_region(struct transport_endpoint *endpoint, void *base,
		      size_t bytes, bool created)
{
	struct transport_region region = {
		.base = base,
		.bytes = bytes,
		.created = created,
		.slot = free_slot(endpoint),
	};
	uintptr_t from = (uintptr_t)base;
	unsigned at = regions_up_to(endpoint, base);
	const struct transport_region *near;
	int status;

	if (!base || !bytes || from + bytes < from)
		return fail(-EINVAL, "transport: a region of %zu bytes at %p",
			    bytes, base);
	near = endpoint->regions + at;
	if ((at && from < (uintptr_t)near[-1].base + near[-1].bytes) ||
	    (at < endpoint->region_count &&
	     (uintptr_t)near->base < from + bytes))
		return fail(-EEXIST,
			    "transport: the region of %zu bytes at %p overlaps "
			    "a registered one",
			    bytes, base);
	status = grow_regions(endpoint);
	if (status)
		return status;
	if (endpoint->ops->add_region) {
		status = endpoint->ops->add_region(endpoint, &region);
		if (status)
			return status;
	}
	memmove(endpoint->regions + at + 1, endpoint->regions + at,
		(endpoint->region_count - at) * sizeof(region));
	endpoint->regions[at] = region;
	endpoint->region_count++;
	return 0;
}

int transport_register(struct transport_endpoint *endpoint, void *base,
		       size_t bytes)
{
	return add_region(endpoint, base, bytes, false);
}

static void unmap_region(struct transport_endpoint *endpoint, void *base,
			 size_t bytes)
{
	if (endpoint->ops->unmap_region)
		endpoint->ops->unmap_region(endpoint, base, bytes);
	else
		munmap(base, bytes);
}

static int remove_region(struct transport_endpoint *endpoint, void *base,
			 bool created)
{
	unsigned at = regions_up_to(endpoint, base);
	struct transport_region region;

	if (!at || endpoint->regions[at - 1].base != base ||
	    endpoint->regions[at - 1].created != created)
		return fail(-ENOENT, "transport: no such region at %p", base);
	region = endpoint->regions[at - 1];
	if (endpoint->ops->uses(endpoint, region.base, region.bytes))
		return fail(-EBUSY,
			    "transport: the region at %p has messages in "
			    "flight",
			    base);
	if (endpoint->ops->drop_region)
		endpoint->ops->drop_region(endpoint, &region);
	endpoint->region_count--;
	memmove(endpoint->regions + at - 1, endpoint->regions + at,
		(endpoint->region_count - at + 1) * sizeof(region));
	if (created)
		unmap_region(endpoint, region.base, region.bytes);
	return 0;
}

int transport_deregister(struct transport_endpoint *endpoint, void *base)
{
	return remove_region(endpoint, base, false);
}

int transport_create_region(struct transport_endpoint *endpoint, size_t bytes,
			    void **out)
{
	void *base;
	int status;

	if (!bytes)
		return fail(-EINVAL, "transport: a region of 0 bytes");
	if (endpoint->ops->map_region) {
		status = endpoint->ops->map_region(endpoint, bytes, &base);
		if (status)
			return status;
	} else {
		base = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (base == MAP_FAILED)
			return fail(-ENOMEM,
				    "transport: no memory for a region of %zu "
				    "bytes",
				    bytes);
	}
	status = add_region(endpoint, base, bytes, true);
	if (status) {
		unmap_region(endpoint, base, bytes);
		return status;
	}
	*out = base;
	return 0;
}

int transport_release_region(struct transport_endpoint *endpoint, void *base)
{
	return remove_region(endpoint, base, true);
}

static int check_memory(const struct transport_endpoint *endpoint,
			unsigned peer, uint64_t tag, const void *data,
			size_t bytes, const char *what)
{
	if (!bytes || transport_region_find(endpoint, data, bytes))
		return 0;
	return fail(-EINVAL,
		    "transport: rank %u, %s rank %u, tag 0x%" PRIx64
		    ": the %zu bytes at %p are in no registered region",
		    endpoint->config.rank, what, peer, tag, bytes, data);
}

int transport_acquire_send(struct transport_endpoint *endpoint, unsigned peer,
			   uint64_t tag, size_t bytes, void *own, void **where)
{
	int status;

	if (!is_peer(endpoint, peer) ||
	    !endpoint->ops->send_queue(endpoint, peer))
		return fail(-ENOTCONN, "transport: no link with rank %u", peer);
	status = check_memory(endpoint, peer, tag, own, bytes, "acquire to");
	if (status)
		return status;
	return endpoint->ops->acquire_send(endpoint, peer, tag, bytes, own,
					   where);
}

int transport_release_send(struct transport_endpoint *endpoint, unsigned peer)
{
	const struct transport_queue *queue = NULL;

	if (is_peer(endpoint, peer))
		queue = endpoint->ops->send_queue(endpoint, peer);
	if (!queue)
		return fail(-ENOTCONN, "transport: no link with rank %u", peer);
	if (!transport_queue_acquired(queue))
		return fail(-ENOENT, "transport: nothing acquired to rank %u",
			    peer);
	return endpoint->ops->release_send(endpoint, peer);
}

int transport_post_send(struct transport_endpoint *endpoint, unsigned peer,
			uint64_t tag, const void *data, size_t bytes,
			void *cookie)
{
	const struct transport_operation *acquired;
	const struct transport_queue *queue = NULL;
	int status;

	if (is_peer(endpoint, peer))
		queue = endpoint->ops->send_queue(endpoint, peer);
	if (!queue)
		return fail(-ENOTCONN, "transport: no link with rank %u", peer);
	acquired = transport_queue_acquired(queue);
	if (acquired) {
		if (acquired->tag != tag || acquired->bytes != bytes ||
		    (bytes && acquired->data != data))
			return fail(-EINVAL,
				    "transport: rank %u posts tag 0x%" PRIx64
				    " (%zu bytes) to rank %u, but the next "
				    "message acquired is tag 0x%" PRIx64
				    " (%zu bytes)",
				    endpoint->config.rank, tag, bytes, peer,
				    acquired->tag, acquired->bytes);
	} else {
		status = check_memory(endpoint, peer, tag, data, bytes,
				      "send to");
		if (status)
			return status;
	}
	return endpoint->ops->post_send(endpoint, peer, tag, data, bytes,
					cookie);
}

int transport_post_recv(struct transport_endpoint *endpoint, unsigned peer,
			uint64_t tag, void *data, size_t bytes, void *cookie)
{
	int status;

	if (!is_peer(endpoint, peer) ||
	    !endpoint->ops->send_queue(endpoint, peer))
		return fail(-ENOTCONN, "transport: no link with rank %u", peer);
	status = check_memory(endpoint, peer, tag, data, bytes, "receive from");
	if (status)
		return status;
	return endpoint->ops->post_recv(endpoint, peer, tag, data, bytes,
					cookie);
}

int transport_progress(struct transport_endpoint *endpoint,
		       struct transport_completion *out, unsigned capacity)
{
	ASSERT(capacity > 0);
	return endpoint->ops->progress(endpoint, out, capacity);
}

int transport_wait(struct transport_endpoint *endpoint, int64_t deadline_ns,
		   int wake_fd)
{
	return endpoint->ops->wait(endpoint, deadline_ns, wake_fd);
}

int transport_cancel(struct transport_endpoint *endpoint, unsigned peer,
		     int64_t timeout_ns)
{
	if (peer != TRANSPORT_ALL_PEERS &&
	    (!is_peer(endpoint, peer) ||
	     !endpoint->ops->send_queue(endpoint, peer)))
		return fail(-ENOTCONN, "transport: no link with rank %u", peer);
	return endpoint->ops->cancel(endpoint, peer, timeout_ns);
}

int transport_query(const struct transport_endpoint *endpoint, unsigned peer,
		    struct transport_link_info *out)
{
	if (!is_peer(endpoint, peer))
		return -ENOTCONN;
	return endpoint->ops->query(endpoint, peer, out);
}

void transport_close(struct transport_endpoint *endpoint)
{
	struct transport_region *regions;
	const struct transport_ops *ops;
	struct transport_config config;
	bool released;
	unsigned i;

	if (!endpoint)
		return;
	ops = endpoint->ops;
	config = endpoint->config;
	regions = endpoint->regions;
	released =
		ops->cancel(endpoint, TRANSPORT_ALL_PEERS,
			    transport_woken(endpoint) ? CLOSE_WOKEN_NS
						      : CLOSE_TIMEOUT_NS) == 0;
	for (i = 0; i < endpoint->region_count; i++) {
		if (ops->drop_region)
			ops->drop_region(endpoint, &regions[i]);
		/* What a peer may still write into stays mapped. */
		if (regions[i].created && released)
			unmap_region(endpoint, regions[i].base,
				     regions[i].bytes);
	}
	ops->close(endpoint);
	free(regions);
	free_copies(&config);
}
