/*
 * Two ranks that link, send each other a few small messages and part, while
 * something between them changes one bit: has anybody noticed?
 */
#ifndef STAGECOACH_TESTS_TRANSPORT_FLIPS_H
#define STAGECOACH_TESTS_TRANSPORT_FLIPS_H

#include "tests/transport/world.h"

/* Bytes of one direction without keys: the hello, frames and payloads. */
#define FLIPS_HELLO_BYTES  128u
#define FLIPS_STREAM_BYTES (FLIPS_HELLO_BYTES + 4u * 64u + 241u)

struct flips_outcome {
	bool met;             /* both connects were successful */
	bool failed;          /* a link failed behind that, with -EBADMSG */
	bool named;           /* and the log says so, with both ranks */
	bool wrong;           /* a receiver was given bytes that nobody sent */
	unsigned flips;       /* by a relay of transport/fault */
	unsigned connections; /* through it: more than one were tried */
};

/* Does the payload contain this byte of the stream? */
bool flips_is_payload(uint64_t position);

/* One life of a link. Ends by CHECK when it takes more than 20 s. */
struct flips_outcome flips_try(const struct conformance_transport *transport,
			       uint32_t epoch, bool checksum);

/* What must not be: neither refused, nor tried again, nor failed and named. */
bool flips_unnoticed(const struct flips_outcome *outcome);

#endif
