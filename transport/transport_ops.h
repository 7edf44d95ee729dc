/*
 * Transport: the contract for implementers.
 *
 * A transport is one table of functions over a struct that begins with
 * struct transport_endpoint. The facade (transport.c) has checked arguments
 * before it calls: ranks are in range and not one's own, the memory of a post
 * lies in a registered region (or is what acquire_send gave out), sizes and
 * config are sane. What each function means, may block and returns is in
 * transport.h; an implementer keeps all of it. A transport that wraps others
 * (one that picks a transport per link, one that injects faults) is one more
 * table.
 *
 * Rules that hold for all of them:
 * - Bytes of a peer are compared with what is expected before anything
 *   else, and never reach an ASSERT.
 * - Nothing is allocated after connect, except in register.
 * - Memory that the kernel or a device may still touch is not given back.
 */
#ifndef STAGECOACH_TRANSPORT_TRANSPORT_OPS_H
#define STAGECOACH_TRANSPORT_TRANSPORT_OPS_H

#include <poll.h>

#include "base/compiler.h"
#include "transport/transport.h"

struct transport_region {
	unsigned char *base;
	size_t bytes;
	bool created;  /* by create_region: unmapped by the facade */
	unsigned slot; /* stable number of the region, below REGIONS_MAX */
};

/* Common to every endpoint; embedded first. Filled in by the facade. */
struct transport_endpoint {
	const struct transport_ops *ops;
	struct transport_config config;   /* strings are copies */
	struct transport_region *regions; /* sorted by base */
	unsigned region_count;
	unsigned region_capacity;
	bool listening;
};

struct transport_ops {
	const char *kind;

	/*
	 * Optional, for auto. Can open() succeed here? If not, `why` says in a
	 * few words what is missing ("no RDMA device"). Logs nothing.
	 */
	bool (*available)(const struct transport_config *config, char *why,
			  size_t size);
	/*
	 * Optional, for auto, after listen. Is this address of a peer reached
	 * from here? May take a second. Logs nothing.
	 */
	bool (*reaches)(struct transport_endpoint *endpoint,
			const char *address, char *why, size_t size);

	/*
	 * Allocates the endpoint (struct transport_endpoint first, zeroed; the
	 * facade fills it in before any other call, but open may read
	 * `config`, whose strings outlive the endpoint).
	 */
	int (*open)(const struct transport_config *config,
		    struct transport_endpoint **out);
	int (*listen)(struct transport_endpoint *endpoint, char *address,
		      size_t size);
	int (*connect)(struct transport_endpoint *endpoint,
		       const unsigned *peers, unsigned count,
		       const char *const *addresses, int64_t timeout_ns);

	/* Optional. Told of a region, and that it goes. */
	int (*add_region)(struct transport_endpoint *endpoint,
			  const struct transport_region *region);
	void (*drop_region)(struct transport_endpoint *endpoint,
			    const struct transport_region *region);
	/* Optional: memory for create_region; default: anonymous mmap. */
	int (*map_region)(struct transport_endpoint *endpoint, size_t bytes,
			  void **out);
	void (*unmap_region)(struct transport_endpoint *endpoint, void *base,
			     size_t bytes);

	/* The peer's send queue, NULL if there is no link: see queue.h. */
	struct transport_queue *(*send_queue)(
		struct transport_endpoint *endpoint, unsigned peer);
	/* Does a posted operation touch [base, base + bytes)? */
	bool (*uses)(const struct transport_endpoint *endpoint,
		     const void *base, size_t bytes);

	int (*acquire_send)(struct transport_endpoint *endpoint, unsigned peer,
			    uint64_t tag, size_t bytes, void *own,
			    void **where);
	int (*release_send)(struct transport_endpoint *endpoint, unsigned peer);
	int (*post_send)(struct transport_endpoint *endpoint, unsigned peer,
			 uint64_t tag, const void *data, size_t bytes,
			 void *cookie);
	int (*post_recv)(struct transport_endpoint *endpoint, unsigned peer,
			 uint64_t tag, void *data, size_t bytes, void *cookie);
	int (*progress)(struct transport_endpoint *endpoint,
			struct transport_completion *out, unsigned capacity);
	int (*wait)(struct transport_endpoint *endpoint, int64_t deadline_ns,
		    int wake_fd);
	/*
	 * Optional, for endpoints that are one of several in a wrapping
	 * endpoint, which sleeps for all of them. begin_sleep writes at most
	 * `capacity` descriptors with the events to poll for; one of them
	 * becomes ready when progress may have something. Returns their
	 * number, 0 when progress may have something already, or negative
	 * errno. end_sleep follows each begin_sleep that did not fail.
	 */
	int (*begin_sleep)(struct transport_endpoint *endpoint,
			   struct pollfd *fds, unsigned capacity);
	void (*end_sleep)(struct transport_endpoint *endpoint);

	int (*cancel)(struct transport_endpoint *endpoint, unsigned peer,
		      int64_t timeout_ns);
	int (*query)(const struct transport_endpoint *endpoint, unsigned peer,
		     struct transport_link_info *out);
	void (*close)(struct transport_endpoint *endpoint); /* frees it */
};

extern const struct transport_ops transport_auto_ops;
extern const struct transport_ops transport_fault_ops; /* fault/fault.h */
extern const struct transport_ops transport_inproc_ops;
extern const struct transport_ops transport_rdma_ops;
extern const struct transport_ops transport_shm_ops;
extern const struct transport_ops transport_tcp_ops;

/* By kind; NULL: this program has no such transport. */
const struct transport_ops *transport_find_ops(const char *kind);

/*
 * config.wake_fd, or -1: whatever blocks in connect polls it as well, and
 * returns -ECANCELED when it is readable. transport_woken() looks, for those
 * that cannot poll.
 */
int transport_wake_fd(const struct transport_endpoint *endpoint);
bool transport_woken(const struct transport_endpoint *endpoint);

/* The region that holds [data, data + bytes), or NULL. */
const struct transport_region *
transport_region_find(const struct transport_endpoint *endpoint,
		      const void *data, size_t bytes);

#endif
