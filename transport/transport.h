/*
 * Transport: messages between ranks, for callers.
 *
 * An endpoint is one rank's door. It has peers, numbered by rank. A message is
 * (64-bit tag, length, bytes) from a registered region of one rank into a
 * registered region of another. The tag is opaque here.
 *
 * Order. A directed link is a FIFO: the k-th post_recv on a link takes the
 * k-th post_send of its peer. Tag and length of both must agree; where they
 * do not, the link has failed and one line names both. There is no matching
 * by tag and no message nobody asked for: a receiver never buffers; what has
 * no posted receive stays with the sender (or in the kernel's socket
 * buffer).
 *
 * Threads. All calls on an endpoint come from one thread at a time, its
 * owner. Two endpoints are independent, also in one process.
 *
 * Blocking. listen, connect, cancel, close and wait may block, each for a
 * bounded time. Nothing else blocks. After connect, acquire, post, progress
 * and wait allocate nothing.
 *
 * Errors. 0 or negative errno, logged once where it was found, with rank,
 * peer, operation and cause. -EAGAIN is back-pressure: no message, not an
 * error; call progress and try again.
 */
#ifndef STAGECOACH_TRANSPORT_TRANSPORT_H
#define STAGECOACH_TRANSPORT_TRANSPORT_H

#include "base/compiler.h"

#define TRANSPORT_ADDRESS_BYTES     512 /* an address, terminator included */
#define TRANSPORT_KIND_BYTES        576 /* with what it wraps, see fault/ */
#define TRANSPORT_KEY_BYTES         32
#define TRANSPORT_FINGERPRINT_BYTES 32
#define TRANSPORT_ALL_PEERS         (~0u)
#define TRANSPORT_RANKS_MAX         4096u
#define TRANSPORT_DEPTH_DEFAULT     64u
#define TRANSPORT_DEPTH_MAX         4096u
#define TRANSPORT_REGIONS_MAX       1024u
#define TRANSPORT_SILENCE_NS        3500000000LL

struct transport_endpoint;
struct transport_hub;

enum transport_zero_copy {
	TRANSPORT_ZERO_COPY_AUTO, /* where the kernel really does not copy */
	TRANSPORT_ZERO_COPY_NEVER,
	TRANSPORT_ZERO_COPY_ALWAYS, /* for tests and measurements */
};

/* What protects the bytes of a link on their way; see docs/SECURITY.md. */
enum transport_wire {
	TRANSPORT_WIRE_AUTO, /* authentic with a key, checked without */
	TRANSPORT_WIRE_CHECKED,
	TRANSPORT_WIRE_AUTHENTIC,
	TRANSPORT_WIRE_ENCRYPTED,
};

/* Zero means the default in every field that has one. */
struct transport_config {
	/* "inproc", "shm", "tcp", "rdma", or "auto": for each link the best of the others */
	const char *kind;
	const char *io; /* tcp: "uring", "sockets" or "auto" (default) */
	unsigned rank;
	unsigned size;
	uint64_t job;   /* not 0; the same on all ranks; in every frame */
	uint32_t epoch; /* rises when a job's links are built anew */
	struct transport_hub *hub; /* inproc: shared by the ranks' threads */

	/*
	 * What both ends must agree on beyond that: a digest of shapes,
	 * schedule and numerics. Compared by connect.
	 */
	unsigned char fingerprint[TRANSPORT_FINGERPRINT_BYTES];

	/*
	 * A CRC-32C over each payload (tcp; inproc has no wire). Headers always
	 * have one. Both ends must agree. On after transport_config_default().
	 */
	bool checksum;

	/*
	 * The job key, TRANSPORT_KEY_BYTES of it, or NULL; copied. With a key
	 * both ends of a link prove that they have it before they talk, and
	 * listening beyond loopback is allowed.
	 */
	const unsigned char *key;
	enum transport_wire wire; /* both ends must agree */

	unsigned depth; /* operations per link and direction, posted at once */
	unsigned spin_ns;    /* wait spins at most this long; 0: default */
	bool no_spin;        /* wait goes to sleep at once */
	const char *host;    /* auto: what names this host (NULL: found out) */
	const char *wrapped; /* set by open: what a kind "fault:..." wraps */

	/*
	 * A peer whose host answers nothing for so long has failed; its link ends
	 * with -ETIMEDOUT. 0: default, 3.5 s; negative: never. Noticed by
	 * progress, which whoever waits is to call a few times a second.
	 */
	int64_t silence_ns;

	/*
	 * Readable from the moment on when nothing is worth waiting for (0 or
	 * -1: none): connect then returns -ECANCELED, silently, and close no
	 * longer waits for bytes to reach peers. Never read from.
	 */
	int wake_fd;

	const char *bind; /* tcp: numeric address to listen on (127.0.0.1) */
	size_t socket_buffer_bytes;         /* tcp: SO_SNDBUF, SO_RCVBUF */
	enum transport_zero_copy zero_copy; /* tcp/uring */
};

/* Fills in every default (checksum on). Set kind, rank, size, job after it. */
void transport_config_default(struct transport_config *config);

/*
 * Can transport_open() succeed here for this kind? -EOPNOTSUPP, logged, with
 * what is missing.
 */
int transport_check(const char *kind) MUST_CHECK;

/*
 * The meeting place of the endpoints of one process; `size` ranks. Outlives its
 * endpoints; thread-safe; may serve any number of epochs one after another.
 */
struct transport_hub *transport_hub_create(unsigned size);
void transport_hub_destroy(struct transport_hub *hub);

/*
 * The config is copied (not the hub). -EINVAL: a field, named.
 * -EOPNOTSUPP: this kind is unknown, or `io` asks for what the kernel refuses.
 */
int transport_open(const struct transport_config *config,
		   struct transport_endpoint **out) MUST_CHECK;

/*
 * Begins to accept, and writes the address that peers connect to:
 * "tcp:127.0.0.1:41233", "tcp:[::1]:41233", "inproc:3", "shm:NAME". Addresses beyond
 * loopback are refused (-EACCES). Once per endpoint.
 */
int transport_listen(struct transport_endpoint *endpoint, char *address,
		     size_t size) MUST_CHECK;

/*
 * Builds the links with exactly these peers. Every rank calls it, after
 * listen, with symmetric sets: a in b's set when b in a's. The lower rank
 * connects, the higher accepts. addresses[] is indexed by rank; entries of
 * other ranks are not read (those of lower ranks only by auto). Blocks until
 * all links stand, at most timeout_ns and not beyond config.wake_fd.
 *
 * The handshake compares version, job, epoch, size, ranks, checksum and
 * fingerprint and names what differs. -EPROTO: a peer differs. -ETIMEDOUT:
 * names the peers that are missing and why. -ECANCELED: wake_fd. After an error
 * only close is of use. May be called again for other peers.
 */
int transport_connect(struct transport_endpoint *endpoint,
		      const unsigned *peers, unsigned count,
		      const char *const *addresses,
		      int64_t timeout_ns) MUST_CHECK;

/*
 * Makes [base, base + bytes) usable for messages; the memory stays the
 * caller's. Regions do not overlap. Registering may allocate and may pin
 * memory: do it before the step path. deregister: -EBUSY while a posted
 * operation lies in it.
 */
int transport_register(struct transport_endpoint *endpoint, void *base,
		       size_t bytes) MUST_CHECK;
int transport_deregister(struct transport_endpoint *endpoint, void *base);

/*
 * A registered region in the memory that suits this transport best (shared
 * between processes where the transport shares memory), zeroed, page-aligned.
 * Released by transport_release_region() or close, not by deregister.
 */
int transport_create_region(struct transport_endpoint *endpoint, size_t bytes,
			    void **out) MUST_CHECK;
int transport_release_region(struct transport_endpoint *endpoint, void *base);

/*
 * Where to compute the next message to `peer`: writes to *where the
 * receiver's own posted slot (inproc, shared memory; the bytes in it are
 * undefined) or `own`, the caller's place for it in a registered region.
 * Takes the next place in the link's order: several may be acquired ahead,
 * and each must be given to post_send, in the order of acquiring, with the
 * same tag and size, before a message that was not acquired. Optional: a
 * message may be posted without.
 * -EAGAIN: queue full. -EPROTO: the posted receive disagrees. -ENOTCONN.
 */
int transport_acquire_send(struct transport_endpoint *endpoint, unsigned peer,
			   uint64_t tag, size_t bytes, void *own,
			   void **where) MUST_CHECK;

/* Gives back the latest acquired place of this link that was not posted. */
int transport_release_send(struct transport_endpoint *endpoint, unsigned peer);

/*
 * data: what acquire wrote to *where, or any registered memory. It must not
 * change until TRANSPORT_SENT, which says that it may be used again, not that
 * the peer has it. 0 bytes are legal (data is not looked at then).
 * -EAGAIN: queue full. -EINVAL: not registered, or not what was acquired.
 * -ENOTCONN: no such link. A failed link gives the code it failed with,
 * without a further message.
 */
int transport_post_send(struct transport_endpoint *endpoint, unsigned peer,
			uint64_t tag, const void *data, size_t bytes,
			void *cookie) MUST_CHECK;

/*
 * The next message of `peer` goes to `data`. The memory belongs to the
 * transport until TRANSPORT_RECEIVED (or cancel). Errors as above.
 */
int transport_post_recv(struct transport_endpoint *endpoint, unsigned peer,
			uint64_t tag, void *data, size_t bytes,
			void *cookie) MUST_CHECK;

enum transport_event {
	TRANSPORT_SENT,
	TRANSPORT_RECEIVED,
};

struct transport_completion {
	enum transport_event event;
	unsigned peer;
	uint64_t tag;
	size_t bytes;
	void *data;
	void *cookie;
};

/*
 * Moves what can move and writes at most `capacity` (at least 1) completions;
 * those of one link and direction come in the order posted. Returns their
 * number, 0 when there are none.
 *
 * When there are no completions and a link has failed: its code
 * (-ECONNRESET: the peer died or closed with something pending;
 * -EBADMSG: a frame or payload was damaged; -EPROTO: tag or length
 * differ; ...), again at each call until transport_cancel() on that link.
 * Operations of a failed link never complete, their memory is released by
 * cancel or close. Other links go on.
 */
int transport_progress(struct transport_endpoint *endpoint,
		       struct transport_completion *out,
		       unsigned capacity) MUST_CHECK;

/*
 * Returns 0 when progress may have something (also spuriously), or when
 * wake_fd (-1: none) is readable; -ETIMEDOUT at deadline_ns (of
 * clock_now_ns()).
 * Spins for a short, adaptive time, then sleeps. 0 or a past deadline: a
 * poll. Never for ever: there is always a deadline.
 */
int transport_wait(struct transport_endpoint *endpoint, int64_t deadline_ns,
		   int wake_fd) MUST_CHECK;

/*
 * Ends the link with `peer` (or TRANSPORT_ALL_PEERS): what is pending, is
 * dropped without completion, and when this returns 0 no buffer of it belongs
 * to the transport or the kernel. The link cannot be used again (posts give
 * -ECANCELED; a new epoch builds new links); the peer sees it as closed.
 * Blocks until the kernel has let go, or the peer rank that writes into
 * a slot it acquired has posted or released it; -ETIMEDOUT (memory not
 * released) after timeout_ns.
 */
int transport_cancel(struct transport_endpoint *endpoint, unsigned peer,
		     int64_t timeout_ns) MUST_CHECK;

struct transport_link_info {
	char transport[16]; /* "inproc", "shm", "tcp" */
	char io[16];        /* "memory", "uring", "sockets" */
	char reason[160];   /* why this one, in words */
	int status;         /* 0, or what the link failed with */
	bool checksum;      /* payloads carry a CRC-32C */
	enum transport_wire wire;
	bool zero_copy;  /* the kernel sends from the caller's memory */
	bool registered; /* buffers are registered with the kernel */
	uint64_t messages_sent, messages_received;
	uint64_t bytes_sent, bytes_received; /* payload */
	uint64_t messages_in_place; /* computed in the receiver's slot */
	unsigned sends_pending, receives_pending;
};

/* -ENOTCONN: no link with this peer. */
int transport_query(const struct transport_endpoint *endpoint, unsigned peer,
		    struct transport_link_info *out) MUST_CHECK;

/*
 * Closes links and listener, with operations pending too (as if cancelled).
 * On a link with nothing pending, what was reported SENT still reaches the
 * peer (bounded wait of 1 s while it does not take it). Regions of
 * create_region are unmapped. NULL is legal.
 */
void transport_close(struct transport_endpoint *endpoint);

#endif
