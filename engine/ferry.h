/*
 * The ferry: takes tensors between the root and a rank that does not see the
 * root's files, over the link that the two have in any case.
 *
 * A cargo is a row of items whose sizes both ends know. It travels as one string
 * of bytes, cut into pieces of FERRY_PIECE_BYTES (the last one may be shorter),
 * so that small tensors share a piece. Each end has FERRY_PIECES of them, in
 * registered memory: while one travels, the next one is filled or emptied,
 * and that is all that either end ever holds. A sender that is faster
 * than the receiver waits for it.
 *
 * Pieces pass between passes, never during one. A piece's tag tells its cargo
 * and its number, so that ends that disagree find out.
 */
#ifndef STAGECOACH_ENGINE_FERRY_H
#define STAGECOACH_ENGINE_FERRY_H

#include "engine/exchange.h"

#define FERRY_PIECE_BYTES ((size_t)1 << 20)
#define FERRY_PIECES      2
#define FERRY_BYTES       (FERRY_PIECES * FERRY_PIECE_BYTES)

struct ferry;

/* `memory`: registered, FERRY_BYTES of it, until destroy. -ENOMEM. */
int ferry_create(struct exchange *exchange, void *memory,
		 struct ferry **out) MUST_CHECK;
void ferry_destroy(struct ferry *ferry);

struct ferry_cargo {
	uint16_t kind; /* the same at both ends */
	size_t items;
	/* Bytes of an item; 0: it does not travel. The same at both ends. */
	uint64_t (*bytes)(const void *argument, size_t item);
	/*
	 * Part of an item, in ascending order, each byte once: to be written to
	 * `data` where it is sent, to be taken from there where it is
	 * received. 0 or negative errno, logged.
	 */
	int (*move)(void *argument, size_t item, uint64_t first, void *data,
		    size_t bytes);
	void *argument;
};

/*
 * Blocks until all of it has left. What move() fails with is returned at once,
 * and the peer is left waiting: the caller ends the job.
 */
int ferry_send(struct ferry *ferry, unsigned peer,
	       const struct ferry_cargo *cargo) MUST_CHECK;

/*
 * Blocks until all of it is here. After a failure of move() the rest is
 * received and dropped, so that the peer gets through; its code is returned.
 */
int ferry_receive(struct ferry *ferry, unsigned peer,
		  const struct ferry_cargo *cargo) MUST_CHECK;

#endif
