/*
 * rdma: reliable queue pairs of libibverbs, set up by librdmacm.
 *
 * A link has two connections.
 *
 * The *bootstrap* is a link of transport/tcp, on the address of config.bind.
 * It brings what tcp has: the hello that compares job, epoch, ranks, sizes and
 * fingerprints, and with a job key the proof that both ends have it and a MAC
 * on all that travels. Over it the ends exchange an offer (control.h):
 * where the connection manager of each listens, and a random token. Later it
 * carries nothing; that it ends says that the peer has ended, also when the
 * peer was killed.
 *
 * The *queue pair* is made by the connection manager between the two devices.
 * Its request and its answer must carry the token of the other end's
 * offer, so that only who was let in on the bootstrap can have a queue pair. The
 * connection manager listens only while connect lasts.
 *
 * What that protects: nobody without the key gets a queue pair, and the keys
 * of memory (rkeys) are said on queue pairs only. What it does not: a queue
 * pair has neither MAC nor encryption. Who can put packets on the RDMA
 * network can forge them if he guesses or sees queue pair and packet numbers,
 * and who sees them can read payloads. Keep that network to the cluster; a
 * peer that has the key can write to all registered regions.
 *
 * Data. A posted receive is announced to the sender by a CREDIT: sequence,
 * tag, bytes, address, rkey, inline in a SEND. The sender compares tag and
 * bytes with what it has (and tells both ends by FAULT when they differ),
 * then writes from its own registered memory into the posted slot: pieces of
 * at most MAX_PIECE_BYTES, the last with the sequence as immediate data, or
 * followed by a SEND of DONE where the device has no immediate data (iWARP).
 * Nothing is copied. What arrives takes a work request from the receive
 * queue, which holds one for each credit and write the other end may have
 * outstanding and is filled up before credits are given out again: so it never
 * runs dry, and a link asks for no retries of that kind.
 *
 * devices.c finds devices, connect.c builds links, link.c moves messages,
 * sleep.c waits, endpoint.c answers the facade.
 */
#ifndef STAGECOACH_TRANSPORT_RDMA_RDMA_H
#define STAGECOACH_TRANSPORT_RDMA_RDMA_H

#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>

#include "transport/queue.h"
#include "transport/rdma/control.h"
#include "transport/spin.h"
#include "transport/transport_ops.h"

#define RDMA_PREFIX "rdma:"

/* A posted receive of the peer. */
struct rdma_credit {
	uint64_t tag;
	uint64_t bytes;
	uint64_t address;
	uint32_t rkey;
};

struct rdma_link {
	struct rdma_endpoint *endpoint;
	unsigned peer;
	int status; /* 0, or what it failed with (logged) */
	int gone;   /* or how the peer ended; what came before is good */
	bool established;
	bool cancelled;
	bool immediate;  /* writes carry immediate data */
	bool fault_sent; /* the peer is being told; hang up after that */
	bool hung_up;
	bool send_armed, receive_armed; /* completion queues */

	struct rdma_cm_id *id; /* NULL: none (yet, or any more) */
	struct ibv_cq *send_cq, *receive_cq;
	unsigned char token[RDMA_TOKEN_BYTES]; /* that the peer has to say */
	struct rdma_offer offer;               /* of the peer */

	struct transport_queue send, receive;
	struct rdma_credit *credits; /* ring of offer.depth */
	uint64_t credited;           /* receives the peer has announced */
	uint64_t advertised;         /* receives we have announced */
	uint64_t written;            /* sends handed to the device whole */
	size_t written_bytes;        /* of the send after those */

	/* Control messages: slots of the two queues, one registered block. */
	unsigned char *slots;
	struct ibv_mr *slots_mr;
	unsigned receive_slots, send_slots;
	unsigned receives_posted; /* work requests the device holds */
	unsigned sends_posted, next_send_slot;
	unsigned inline_bytes; /* so much fits into a work request */

	uint64_t messages_sent, messages_received;
	uint64_t bytes_sent, bytes_received;
};

struct rdma_endpoint {
	struct transport_endpoint base;
	struct transport_endpoint *bootstrap;
	struct rdma_event_channel *events;
	struct rdma_cm_id *anchor;     /* bound to `local`: holds the device */
	struct rdma_cm_id *listener;   /* while connect lasts */
	struct sockaddr_storage local; /* the device's own address */
	char local_text[64];
	struct ibv_context *device;
	struct ibv_pd *pd;
	struct ibv_comp_channel *completions;
	size_t piece_bytes;   /* a write is at most this long */
	unsigned queue_limit; /* work requests a queue can have */
	bool immediate;
	char reason[120];
	struct ibv_mr *mrs[TRANSPORT_REGIONS_MAX]; /* by region slot */
	struct rdma_link *links;                   /* room for `size` */
	unsigned link_count;
	unsigned *link_of; /* by rank: 1 + index, 0: none */
	struct transport_spin spin;
	int64_t looked_ns; /* when the descriptors were looked at last */
	unsigned next;     /* whose turn it is in progress */
	struct pollfd *polls;
};

static inline struct rdma_endpoint *rdma_of(struct transport_endpoint *base)
{
	return (struct rdma_endpoint *)base;
}

static inline bool rdma_link_live(const struct rdma_link *link)
{
	return link->established && !link->status && !link->cancelled;
}

/* ---- connect.c ---- */

int rdma_endpoint_connect(struct rdma_endpoint *endpoint, const unsigned *peers,
			  unsigned count, const char *const *addresses,
			  int64_t timeout_ns) MUST_CHECK;

/* ---- link.c ---- */

/* Queues of memory, before the queue pair. */
int rdma_link_init(struct rdma_link *link) MUST_CHECK;
/* The queue pair on link->id, its receive queue filled. */
int rdma_link_create_qp(struct rdma_link *link) MUST_CHECK;
/* Sends what can be sent: credits, writes. */
void rdma_link_push(struct rdma_link *link);
/* Takes what the device has done. */
void rdma_link_poll(struct rdma_link *link);
/* The peer's end of the link is gone: a failure if anything is pending. */
void rdma_link_check_gone(struct rdma_link *link);
/* Logs nothing: the caller has. */
void rdma_link_over(struct rdma_link *link, int status);
/*
 * Queue pair to error, drained until deadline_ns, destroyed: after it the
 * device touches no memory of this link.
 */
void rdma_link_destroy_qp(struct rdma_link *link, int64_t deadline_ns);
void rdma_link_fini(struct rdma_link *link);
/* Did something end that progress has to report? */
bool rdma_link_has_news(const struct rdma_link *link);

/* ---- sleep.c ---- */

/* Polls all links; looks at the descriptors when that is due, or `now`. */
void rdma_endpoint_poll(struct rdma_endpoint *endpoint, bool now);
int rdma_endpoint_begin_sleep(struct transport_endpoint *base,
			      struct pollfd *fds, unsigned capacity);
void rdma_endpoint_end_sleep(struct transport_endpoint *base);
int rdma_endpoint_wait(struct transport_endpoint *base, int64_t deadline_ns,
		       int wake_fd);

#endif
