/*
 * inproc: ranks that are threads of one process.
 *
 * Two linked ranks share a pair, which has a lane for each direction. A lane
 * holds the sender's queue and the receiver's queue; the oldest entries of
 * both make a match. Whoever completes a match copies the bytes, outside the
 * lock; nobody copies when the sender has computed into the receiver's slot.
 *
 * Locks: hub->lock before pair->lock. Of a queue, entries and tail are
 * written by the owner under the pair's lock and read by the other under it;
 * the rest is the owner's alone. lane->done takes the place of queue->done
 * between the two.
 */
#ifndef STAGECOACH_TRANSPORT_INPROC_INPROC_H
#define STAGECOACH_TRANSPORT_INPROC_INPROC_H

#include <pthread.h>
#include <stdatomic.h>

#include "transport/queue.h"
#include "transport/spin.h"
#include "transport/transport_ops.h"

/* Wakes one owner thread. */
struct inproc_bell {
	_Atomic uint64_t rings;
	atomic_bool sleeping;
	int fd; /* eventfd */
};

struct inproc_lane {
	struct transport_queue send;
	struct transport_queue receive;
	_Atomic uint64_t done; /* matches completed */
	bool busy;             /* somebody copies, outside the lock */
	unsigned placed;       /* acquired slots of the receiver */
};

struct inproc_side {
	struct inproc_bell *bell; /* NULL before it arrives, after it left */
	struct transport_config config; /* for the handshake; no strings */
	bool arrived;
	bool left;
	atomic_bool closed; /* cancelled: nothing more matches */
};

struct inproc_pair {
	pthread_mutex_t lock;
	struct transport_hub *hub;
	unsigned references; /* under hub->lock */
	unsigned low, high;  /* ranks of sides 0 and 1 */
	struct inproc_side side[2];
	struct inproc_lane lane[2]; /* lane[s] leads away from side s */
	atomic_int status;          /* the two ends disagree: -EPROTO */
	char reason[160];           /* how; written before status */
};

struct inproc_link {
	struct inproc_pair *pair; /* NULL: none */
	unsigned peer;
	unsigned side; /* which of the pair we are */
	int status;    /* 0, or what it failed with (logged) */
	bool cancelled;
	uint64_t messages_sent, messages_received;
	uint64_t bytes_sent, bytes_received;
	uint64_t messages_in_place;
};

struct inproc_endpoint {
	struct transport_endpoint base;
	struct transport_hub *hub;
	struct inproc_link *links; /* by rank, `size` of them */
	struct inproc_bell bell;
	struct transport_spin spin;
	unsigned next; /* whose turn it is in progress */
};

/* hub.c */
int inproc_hub_enter(struct transport_hub *hub, unsigned rank) MUST_CHECK;
void inproc_hub_leave(struct transport_hub *hub, unsigned rank);
unsigned inproc_hub_size(const struct transport_hub *hub);
int inproc_hub_connect(struct inproc_endpoint *endpoint, const unsigned *peers,
		       unsigned count, int64_t timeout_ns) MUST_CHECK;
/* Gives the link's share in its pair back. */
void inproc_hub_part(struct inproc_link *link);

/* bell.c */
int inproc_bell_init(struct inproc_bell *bell) MUST_CHECK;
void inproc_bell_fini(struct inproc_bell *bell);
void inproc_bell_ring(struct inproc_bell *bell);
/*
 * Sleeps until the bell has rung more than `seen` times, or wake_fd is
 * readable (*woken), or the deadline: -ETIMEDOUT.
 */
int inproc_bell_wait(struct inproc_bell *bell, uint64_t seen,
		     int64_t deadline_ns, int wake_fd, bool *woken) MUST_CHECK;

/* lane.c */
static inline struct inproc_lane *
inproc_lane_out(const struct inproc_link *link)
{
	return &link->pair->lane[link->side];
}

static inline struct inproc_lane *inproc_lane_in(const struct inproc_link *link)
{
	return &link->pair->lane[!link->side];
}

/* Under the pair's lock, which is let go while bytes are copied. */
void inproc_lane_match(struct inproc_pair *pair, struct inproc_lane *lane);
/* One end has closed, or the ends disagree: nothing matches any more. */
bool inproc_pair_over(const struct inproc_pair *pair);
/* Under the lock: gives back all acquired slots of the peer, and tells it. */
void inproc_lane_unplace(struct inproc_link *link);
/* Logs why the link failed, once; returns its status. */
int inproc_link_fail(const struct inproc_endpoint *endpoint,
		     struct inproc_link *link);
/* Looks for completions, and for a peer that is gone. */
bool inproc_link_poll(struct inproc_endpoint *endpoint,
		      struct inproc_link *link);
/* Ends the link; inproc_link_settled() when nobody touches our memory. */
void inproc_link_cancel(struct inproc_link *link);
bool inproc_link_settled(struct inproc_link *link);

#endif
