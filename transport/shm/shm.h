/*
 * shm: ranks of one host, processes or threads, that share memory.
 *
 * A link is a ring (ring.h) and a unix socket. transport_create_region() maps
 * a memfd, whose descriptor each peer gets over the socket (mail.c), so that
 * a sender computes, or copies once, straight into a slot that is posted.
 * Memory that is only registered is private: its messages go through the
 * ring's bounce area, which costs a second copy and always works
 * (process_vm_writev, which would not, is refused in many containers).
 *
 * Links are set up by transport/tcp over a socket with an unguessable name in
 * the abstract namespace, which compares hellos, proves the job key, and
 * turns away other users. The socket stays open: when it hangs up the peer is
 * dead (the kernel tears its memory down before it closes its files, so that
 * nobody writes any more), and a byte on it is the bell of a rank that sleeps.
 * That rather than a futex, because a sleeper has to hear all its links, a
 * hang-up and wake_fd, all of which poll does; rather than an eventfd, which
 * all peers would share and one could set to blocking. What it costs: half a
 * round trip of 8 bytes, asleep, was 4.8 us, by eventfd (inproc) 5.0, by
 * FUTEX_WAIT in a loop that does nothing else 3.2; spinning it is 0.2 to 0.4.
 *
 * memory.c makes and maps memfds, connect.c builds links, link.c moves
 * messages, wait.c spins and sleeps, endpoint.c answers the facade.
 */
#ifndef STAGECOACH_TRANSPORT_SHM_SHM_H
#define STAGECOACH_TRANSPORT_SHM_SHM_H

#include <poll.h>

#include "transport/queue.h"
#include "transport/shm/ring.h"
#include "transport/spin.h"
#include "transport/transport_ops.h"

/* Of a region as we told a peer of it. */
enum shm_told {
	SHM_UNTOLD,
	SHM_TOLD,
	SHM_STUCK, /* that it is gone could not be told: the slot is lost */
};

/* A peer's region, mapped here. */
struct shm_map {
	unsigned char *base; /* NULL: none */
	size_t bytes;
	uint64_t number;
};

struct shm_link {
	unsigned peer;
	unsigned side; /* which of the ring we are: 1 for the higher rank */
	int fd;        /* the bootstrap's */
	int status;    /* 0, or what it failed with (logged) */
	bool cancelled;
	bool hung_up; /* the socket: the peer has closed, or is dead */
	bool settled; /* cancelled, and nobody writes here any more */
	struct shm_ring ring;
	struct transport_queue send;
	struct transport_queue receive;

	uint64_t offered; /* receives that the peer knows of */
	bool *shared;     /* by offer: in a region that the peer knows */
	bool taking;      /* [done] of receives comes by the bounce area */
	size_t taken;     /* ... so much of it is here */
	bool giving;      /* [done] of sends goes by it */
	size_t given;
	uint64_t filled, drained; /* ours of the two counters */
	unsigned placed;          /* slots of the peer that we hold */

	unsigned char told[TRANSPORT_REGIONS_MAX]; /* enum shm_told, by slot */
	struct shm_map map[TRANSPORT_REGIONS_MAX]; /* by the peer's slot */

	uint64_t messages_sent, messages_received;
	uint64_t bytes_sent, bytes_received;
	uint64_t messages_in_place;
};

/* A region of create_region. */
struct shm_memory {
	unsigned char *base;
	size_t bytes;
	uint64_t number; /* tells it from others of the same slot */
	int fd;
};

struct shm_endpoint {
	struct transport_endpoint base;
	struct transport_endpoint *bootstrap; /* builds the sockets */
	struct shm_link **links;              /* `link_count` of them */
	unsigned link_count;
	struct shm_link **link_of; /* by rank */
	struct shm_memory memory[TRANSPORT_REGIONS_MAX];
	unsigned memory_count;
	uint64_t numbers;                       /* given so far */
	uint64_t number[TRANSPORT_REGIONS_MAX]; /* by slot */
	struct transport_spin spin;
	struct pollfd *polls; /* size + 1 of them */
	unsigned next;        /* whose turn it is in progress */
	unsigned calls;
	int64_t next_look_ns; /* at the sockets */
};

/* ---- memory.c ---- */

/* Zeroed, with all its pages; logged. The caller closes fd, and unmaps. */
int shm_memory_create(size_t bytes, int *fd, void **out) MUST_CHECK;
/*
 * What a peer has sent, silent. -EPROTO: it is no memfd, could shrink, or is
 * smaller than the peer says.
 */
int shm_memory_map(int fd, size_t bytes, void **out) MUST_CHECK;
void shm_memory_unmap(void *base, size_t bytes);

/* ---- mail.c ---- */

/* Tells the peer of our region, as far as that goes without blocking. */
void shm_mail_region(struct shm_link *link, unsigned slot,
		     const struct shm_memory *memory);
void shm_mail_drop(struct shm_link *link, unsigned slot);
int shm_mail_ring(struct shm_link *link, uint64_t slots, int fd) MUST_CHECK;
void shm_mail_bell(struct shm_link *link);
/*
 * Takes what has come: regions, bells, a hang-up. A ring only when there is
 * none yet. A mail that cannot be fails the link.
 */
void shm_mail_read(const struct shm_endpoint *endpoint, struct shm_link *link);
/* The next of them only: a bell, if poll says that there is something. */
void shm_mail_read_one(const struct shm_endpoint *endpoint,
		       struct shm_link *link);
/* All sockets of live links, without blocking. */
void shm_mail_look(struct shm_endpoint *endpoint);
/* A look is due: once a millisecond. */
void shm_mail_look_sometimes(struct shm_endpoint *endpoint);

/* ---- connect.c ---- */
int shm_connect(struct shm_endpoint *endpoint, const unsigned *peers,
		unsigned count, const char *const *addresses,
		int64_t timeout_ns) MUST_CHECK;
void shm_link_destroy(struct shm_link *link);
void shm_link_tell_region(struct shm_link *link,
			  const struct transport_region *region,
			  const struct shm_memory *memory);

/* ---- link.c ---- */

static inline bool shm_link_live(const struct shm_link *link)
{
	return !link->status && !link->cancelled;
}

/* Logs, once, and closes our side; returns the link's status. */
int shm_link_fail(struct shm_link *link, int status, const char *format, ...)
	PRINTF_LIKE(3, 4);
/* 0, or why nothing can be posted. */
int shm_link_usable(const struct shm_endpoint *endpoint, struct shm_link *link);
/* Moves what can move. True: progress has something to tell. */
bool shm_link_poll(const struct shm_endpoint *endpoint, struct shm_link *link);
bool shm_links_poll(struct shm_endpoint *endpoint);
/* There is something new in the queue. */
void shm_link_push(const struct shm_endpoint *endpoint, struct shm_link *link);
void shm_link_offer(const struct shm_endpoint *endpoint, struct shm_link *link);
/* Takes the next place of the queue: see transport_acquire_send. */
int shm_link_acquire(const struct shm_endpoint *endpoint, struct shm_link *link,
		     uint64_t tag, size_t bytes, void *own,
		     void **where) MUST_CHECK;
void shm_link_release(struct shm_link *link);
/* Does a send that is acquired or posted lie in this map? */
bool shm_link_uses_map(const struct shm_link *link, const struct shm_map *map);
/* Ends the link; settled when nobody touches our memory. */
void shm_link_cancel(struct shm_link *link);
bool shm_link_settle(struct shm_link *link);

/* ---- wait.c ---- */
int shm_wait(struct transport_endpoint *base, int64_t deadline_ns,
	     int wake_fd) MUST_CHECK;
int shm_begin_sleep(struct transport_endpoint *base, struct pollfd *fds,
		    unsigned capacity) MUST_CHECK;
void shm_end_sleep(struct transport_endpoint *base);

#endif
