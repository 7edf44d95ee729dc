/*
 * Hello: the first frame each way on a connection that is to become a link,
 * whatever the transport, and what an end thinks of the other's.
 */
#ifndef STAGECOACH_TRANSPORT_HELLO_H
#define STAGECOACH_TRANSPORT_HELLO_H

#include "transport/transport.h"
#include "transport/wire.h"

#define TRANSPORT_HELLO_BYTES (WIRE_HEADER_BYTES + WIRE_HELLO_BYTES)

void transport_hello_write(const struct transport_config *config, unsigned to,
			   enum wire_type type, uint64_t tag,
			   unsigned char out[TRANSPORT_HELLO_BYTES]);

enum transport_verdict {
	TRANSPORT_VERDICT_SAME,
	/* Not of this job and epoch, or not a hello. */
	TRANSPORT_VERDICT_STRANGER,
	/* Ours, and it disagrees: no use in waiting. */
	TRANSPORT_VERDICT_DIFFERENT,
};

/*
 * A whole frame: is it a hello of our job, and does it agree with us? If not,
 * `text` says why, in words that follow "because". header->source is no rank
 * where it could not be read.
 */
enum transport_verdict
transport_hello_judge(const struct transport_config *config,
		      const unsigned char in[TRANSPORT_HELLO_BYTES],
		      struct wire_header *header, char *text,
		      size_t size) MUST_CHECK;

#endif
