/*
 * What two linked ranks share: notices, offers, and a bounce area for each
 * direction, and a few words for each end. It lies in a memfd that the lower
 * rank makes.
 *
 * A direction has a sender and a receiver. The receiver puts an offer into
 * the ring for each receive that is posted: tag, length, and where in its
 * regions the bytes go. The sender puts a notice for each message, the k-th of
 * them answering the k-th offer, when that is there. Where the sender can write
 * into the receiver's region, the notice is all that is left to do, and small
 * messages travel in it; otherwise the bytes go through the bounce area, as a
 * stream.
 *
 * An entry is a cache line, and valid when its sequence is its index + 1, so
 * that a message costs the crossing of one line. An entry is not used again
 * before its reader is done with it: offer k + slots is put up when notice
 * k has been taken, and notice k + slots only after that.
 *
 * All of it is read once, and compared with what is possible: the other end
 * may write there what it likes. The order of accesses where both ends write
 * and then look at what the other has written (messages and sleep, slots and
 * close) is sequentially consistent.
 */
#ifndef STAGECOACH_TRANSPORT_SHM_RING_H
#define STAGECOACH_TRANSPORT_SHM_RING_H

#include <stdalign.h>
#include <stdatomic.h>

#include "base/compiler.h"

#define SHM_BOUNCE_BYTES ((size_t)256 << 10) /* a power of two */
#define SHM_INLINE_BYTES 32
#define SHM_PRIVATE      UINT64_MAX /* the receive is in no shared region */

enum shm_way {
	SHM_IN_SLOT = 1, /* the bytes lie in the receiver's slot */
	SHM_INLINE,      /* in the notice's words */
	SHM_BOUNCE,      /* next in the bounce area */
};

struct shm_entry {
	alignas(CACHE_LINE_BYTES) _Atomic uint64_t sequence;
	_Atomic uint64_t tag;
	_Atomic uint64_t bytes;
	_Atomic uint64_t way; /* of an offer: the region's slot, SHM_PRIVATE */
	_Atomic uint64_t
		words[SHM_INLINE_BYTES /
		      8]; /* offer: [0] offset, [1] the region's number */
};

struct shm_counter {
	alignas(CACHE_LINE_BYTES) _Atomic uint64_t value;
};

/* Of one end. */
struct shm_side {
	struct shm_counter sleeping; /* 1: wants to be rung */
	struct shm_counter closed;   /* 1: takes part in nothing any more */
	struct shm_counter placed; /* slots of the other end it may write to */
};

/* Counts of bytes, of one direction. */
struct shm_bounce {
	struct shm_counter filled;  /* by the sender */
	struct shm_counter drained; /* by the receiver */
};

/* [s]: side s, and what leads away from it. Side 0 is the lower rank. */
struct shm_head {
	struct shm_side side[2];
	struct shm_bounce bounce[2];
};

/* One end's view, by addresses computed from our own numbers. */
struct shm_ring {
	struct shm_head *head; /* NULL: none */
	struct shm_entry *offers[2];
	struct shm_entry *notices[2];
	unsigned char *bytes[2];
	uint64_t slots; /* entries of each ring, a power of two */
};

/* What a memfd for so many slots has to have. */
size_t shm_ring_bytes(uint64_t slots);
/* The ring at `base`, so many bytes long. */
void shm_ring_at(struct shm_ring *ring, void *base, uint64_t slots);

#endif
