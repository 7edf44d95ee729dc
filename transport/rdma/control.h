/*
 * What two ends of an RDMA link say to each other besides the payload. Pure
 * functions over bytes; nothing here trusts its input.
 *
 * An offer travels once each way over the bootstrap connection: where the
 * sender's connection manager listens, and the token by which a request is
 * told from a stranger's. 64 bytes, little endian:
 *
 *     offset  bytes  field
 *          0      4  magic "SGRO"
 *          4      2  version
 *          6      2  flags
 *          8      4  depth: receives posted at once
 *         12      2  address family, 4 or 6
 *         14      2  port
 *         16     16  address (the first 4 bytes of it in family 4)
 *         32     16  token
 *         48     12  zero
 *         60      4  CRC-32C of bytes 0 to 59
 *
 * A control message travels over the queue pair, inline. 56 bytes:
 *
 *          0      4  magic "SGRC"
 *          4      2  type
 *          6      2  zero
 *          8      8  sequence of the message it speaks of
 *         16      8  tag
 *         24      8  bytes
 *         32      8  address of the posted receive (CREDIT)
 *         40      4  its key
 *         44      8  zero
 *         52      4  CRC-32C of bytes 0 to 51
 */
#ifndef STAGECOACH_TRANSPORT_RDMA_CONTROL_H
#define STAGECOACH_TRANSPORT_RDMA_CONTROL_H

#include "base/compiler.h"

#define RDMA_VERSION       1
#define RDMA_TOKEN_BYTES   16
#define RDMA_OFFER_BYTES   64
#define RDMA_CONTROL_BYTES 56

/* The device has no immediate data, or is not to use it. */
#define RDMA_OFFER_NO_IMMEDIATE 1u

struct rdma_offer {
	uint16_t version;
	uint16_t flags;
	uint32_t depth;
	uint16_t family; /* 4 or 6 */
	uint16_t port;
	unsigned char address[16];
	unsigned char token[RDMA_TOKEN_BYTES];
};

enum rdma_control_type {
	RDMA_CREDIT = 1, /* a receive is posted: write here */
	RDMA_DONE = 2,   /* without immediate data: the message is written */
	RDMA_FAULT = 3,  /* tag or bytes differ from the posted receive */
};

struct rdma_control {
	uint16_t type;
	uint32_t rkey;
	uint64_t sequence;
	uint64_t tag;
	uint64_t bytes;
	uint64_t address;
};

void rdma_offer_encode(const struct rdma_offer *offer,
		       unsigned char out[RDMA_OFFER_BYTES]);
/* NULL when it is sound, else what is wrong with it, in words. */
const char *rdma_offer_decode(const unsigned char in[RDMA_OFFER_BYTES],
			      struct rdma_offer *offer);

void rdma_control_encode(const struct rdma_control *control,
			 unsigned char out[RDMA_CONTROL_BYTES]);
/* `length`: what arrived. NULL, or what is wrong. */
const char *rdma_control_decode(const unsigned char *in, size_t length,
				struct rdma_control *control);

#endif
