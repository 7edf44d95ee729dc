/*
 * What is to go wrong on which link, and where: a pure function of a seed, the
 * link, and a position in it, so that a failure can be had again.
 *
 *     seed=7,links=0-1,delay=2ms:0.05,corrupt=after:40
 *
 *     seed=N            of every draw; default 1
 *     level=message     positions count messages of a direction (default)
 *     level=wire        positions count bytes of a direction of a connection,
 *                       below checksums and keys; only where there is a wire
 *     links=A-B+C>D     only between A and B, and from C to D; default: all
 *     delay=TIME:WHEN   held back, and what is behind it; TIME as 200us, 5ms
 *     cut=WHEN          the link ends as if the peer had died
 *     drop=WHEN         a message never arrives; of a wire, up to 64 bytes do not
 *     corrupt=WHEN      a message is damaged; on a wire one bit is flipped
 *     duplicate=WHEN    a message comes twice; on a wire up to 64 bytes do
 *     stall=WHEN        nothing comes any more, and nothing is said
 *
 * WHEN is a probability (0.01) for each message, or for each KiB of a wire; or
 * after:N, once, when N messages or bytes of this direction have passed (of a
 * wire: of the first connection; one that is tried again goes through).
 */
#ifndef STAGECOACH_TRANSPORT_FAULT_PLAN_H
#define STAGECOACH_TRANSPORT_FAULT_PLAN_H

#include "base/compiler.h"

#define FAULT_LINKS_MAX   16u
#define FAULT_BLOCK_BYTES 1024u /* of a wire, that a probability is for */
#define FAULT_RANGE_BYTES 64u   /* at most lost or repeated at once */
#define FAULT_NEVER       UINT64_MAX

enum fault_kind {
	FAULT_DELAY,
	FAULT_CUT,
	FAULT_DROP,
	FAULT_CORRUPT,
	FAULT_DUPLICATE,
	FAULT_STALL,
	FAULT_KINDS,
};

struct fault_rule {
	bool once;
	double probability;
	uint64_t after; /* once */
};

struct fault_filter {
	unsigned from, to;
	bool both_ways;
};

struct fault_plan {
	uint64_t seed;
	bool wire;
	int64_t delay_ns;
	struct fault_rule rules[FAULT_KINDS];
	struct fault_filter filters[FAULT_LINKS_MAX];
	unsigned filter_count; /* 0: every link */
};

/* One direction of a link, of one connection of it (wire), at one end. */
struct fault_stream {
	unsigned from, to;
	unsigned attempt;
	bool receiver;
};

/* "" is a plan in which nothing happens. -EINVAL names what is wrong. */
int fault_plan_parse(const char *text, struct fault_plan *out) MUST_CHECK;

/* "delay", "cut", ... */
const char *fault_kind_name(enum fault_kind kind);

/* Does it happen to message `number` (from 0) of this stream? */
bool fault_plan_hits(const struct fault_plan *plan, enum fault_kind kind,
		     const struct fault_stream *stream, uint64_t number);

/*
 * The first byte at or behind `position` that it happens to; FAULT_NEVER if
 * there is none in the next few MiB (then ask again from there, that is:
 * *asked).
 */
uint64_t fault_plan_next(const struct fault_plan *plan, enum fault_kind kind,
			 const struct fault_stream *stream, uint64_t position,
			 uint64_t *asked);

/* A number in [0, bound) of this place: which bit, how many bytes. */
unsigned fault_plan_draw(const struct fault_plan *plan, enum fault_kind kind,
			 const struct fault_stream *stream, uint64_t position,
			 unsigned bound);

#endif
