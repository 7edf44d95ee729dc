#include "transport/rdma/control.h"

#include <string.h>

#include "base/digest.h"
#include "transport/transport.h"

#define OFFER_MAGIC   0x4f524753u
#define CONTROL_MAGIC 0x43524753u

static void put(unsigned char *out, uint64_t value, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		out[i] = (unsigned char)(value >> (8 * i));
}

static uint64_t get(const unsigned char *in, unsigned bytes)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < bytes; i++)
		value |= (uint64_t)in[i] << (8 * i);
	return value;
}

static void seal(unsigned char *out, unsigned bytes)
{
	put(out + bytes - 4, digest_crc32c(0, out, bytes - 4), 4);
}

static bool is_sealed(const unsigned char *in, unsigned bytes)
{
	return get(in + bytes - 4, 4) == digest_crc32c(0, in, bytes - 4);
}

void rdma_offer_encode(const struct rdma_offer *offer,
		       unsigned char out[RDMA_OFFER_BYTES])
{
	memset(out, 0, RDMA_OFFER_BYTES);
	put(out, OFFER_MAGIC, 4);
	put(out + 4, offer->version, 2);
	put(out + 6, offer->flags, 2);
	put(out + 8, offer->depth, 4);
	put(out + 12, offer->family, 2);
	put(out + 14, offer->port, 2);
	memcpy(out + 16, offer->address, sizeof(offer->address));
	memcpy(out + 32, offer->token, sizeof(offer->token));
	seal(out, RDMA_OFFER_BYTES);
}

const char *rdma_offer_decode(const unsigned char in[RDMA_OFFER_BYTES],
			      struct rdma_offer *offer)
{
	if (get(in, 4) != OFFER_MAGIC)
		return "the magic number";
	if (!is_sealed(in, RDMA_OFFER_BYTES))
		return "the checksum";
	if (get(in + 4, 2) != RDMA_VERSION)
		return "the protocol version";
	*offer = (struct rdma_offer){
		.version = (uint16_t)get(in + 4, 2),
		.flags = (uint16_t)get(in + 6, 2),
		.depth = (uint32_t)get(in + 8, 4),
		.family = (uint16_t)get(in + 12, 2),
		.port = (uint16_t)get(in + 14, 2),
	};
	if (offer->flags & ~RDMA_OFFER_NO_IMMEDIATE)
		return "the flags";
	if (!offer->depth || offer->depth > TRANSPORT_DEPTH_MAX)
		return "the depth";
	if ((offer->family != 4 && offer->family != 6) || !offer->port)
		return "the address";
	memcpy(offer->address, in + 16, sizeof(offer->address));
	memcpy(offer->token, in + 32, sizeof(offer->token));
	return NULL;
}

void rdma_control_encode(const struct rdma_control *control,
			 unsigned char out[RDMA_CONTROL_BYTES])
{
	memset(out, 0, RDMA_CONTROL_BYTES);
	put(out, CONTROL_MAGIC, 4);
	put(out + 4, control->type, 2);
	put(out + 8, control->sequence, 8);
	put(out + 16, control->tag, 8);
	put(out + 24, control->bytes, 8);
	put(out + 32, control->address, 8);
	put(out + 40, control->rkey, 4);
	seal(out, RDMA_CONTROL_BYTES);
}

const char *rdma_control_decode(const unsigned char *in, size_t length,
				struct rdma_control *control)
{
	if (length != RDMA_CONTROL_BYTES)
		return "the length";
	if (get(in, 4) != CONTROL_MAGIC)
		return "the magic number";
	if (!is_sealed(in, RDMA_CONTROL_BYTES))
		return "the checksum";
	*control = (struct rdma_control){
		.type = (uint16_t)get(in + 4, 2),
		.sequence = get(in + 8, 8),
		.tag = get(in + 16, 8),
		.bytes = get(in + 24, 8),
		.address = get(in + 32, 8),
		.rkey = (uint32_t)get(in + 40, 4),
	};
	if (control->type < RDMA_CREDIT || control->type > RDMA_FAULT)
		return "the type";
	return NULL;
}
