#include "transport/wire.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/digest.h"

static void put16(unsigned char *out, uint16_t value)
{
	out[0] = (unsigned char)value;
	out[1] = (unsigned char)(value >> 8);
}

static void put32(unsigned char *out, uint32_t value)
{
	put16(out, (uint16_t)value);
	put16(out + 2, (uint16_t)(value >> 16));
}

static void put64(unsigned char *out, uint64_t value)
{
	put32(out, (uint32_t)value);
	put32(out + 4, (uint32_t)(value >> 32));
}

static uint16_t get16(const unsigned char *in)
{
	return (uint16_t)(in[0] | in[1] << 8);
}

static uint32_t get32(const unsigned char *in)
{
	return get16(in) | (uint32_t)get16(in + 2) << 16;
}

static uint64_t get64(const unsigned char *in)
{
	return get32(in) | (uint64_t)get32(in + 4) << 32;
}

const char *wire_fault_text(enum wire_fault fault)
{
	static const char *const text[] = {
		[WIRE_OK] = "nothing",
		[WIRE_BAD_MAGIC] = "the magic number",
		[WIRE_BAD_HEADER_CRC] = "the header's checksum",
		[WIRE_BAD_VERSION] = "the protocol version",
		[WIRE_BAD_TYPE] = "the frame type",
		[WIRE_BAD_FLAGS] = "the flags",
		[WIRE_BAD_JOB] = "the job",
		[WIRE_BAD_EPOCH] = "the epoch",
		[WIRE_BAD_SOURCE] = "the source rank",
		[WIRE_BAD_DESTINATION] = "the destination rank",
		[WIRE_BAD_SEQUENCE] = "the sequence number",
		[WIRE_BAD_TAG] = "the tag",
		[WIRE_BAD_LENGTH] = "the length",
		[WIRE_BAD_PAYLOAD_CRC] = "the payload's checksum",
	};

	return text[fault];
}

const char *wire_mode_text(enum transport_wire wire)
{
	static const char *const text[] = {
		[TRANSPORT_WIRE_AUTO] = "auto",
		[TRANSPORT_WIRE_CHECKED] = "checked",
		[TRANSPORT_WIRE_AUTHENTIC] = "authentic",
		[TRANSPORT_WIRE_ENCRYPTED] = "encrypted",
	};

	return text[wire];
}

int wire_mode_parse(const char *text, enum transport_wire *wire)
{
	for (unsigned i = 0; i <= TRANSPORT_WIRE_ENCRYPTED; i++) {
		if (strcmp(text, wire_mode_text((enum transport_wire)i)) == 0) {
			*wire = (enum transport_wire)i;
			return 0;
		}
	}
	return -EINVAL;
}

void wire_header_encode(const struct wire_header *header,
			unsigned char out[WIRE_HEADER_BYTES])
{
	put32(out, WIRE_MAGIC);
	put16(out + 4, header->version);
	put16(out + 6, header->type);
	put64(out + 8, header->job);
	put32(out + 16, header->epoch);
	put32(out + 20, header->source);
	put32(out + 24, header->destination);
	put32(out + 28, header->flags);
	put64(out + 32, header->sequence);
	put64(out + 40, header->tag);
	put64(out + 48, header->length);
	put32(out + 56, header->payload_crc);
	put32(out + 60, digest_crc32c(0, out, 60));
}

enum wire_fault wire_header_decode(const unsigned char in[WIRE_HEADER_BYTES],
				   struct wire_header *header)
{
	if (get32(in) != WIRE_MAGIC)
		return WIRE_BAD_MAGIC;
	if (get32(in + 60) != digest_crc32c(0, in, 60))
		return WIRE_BAD_HEADER_CRC;
	*header = (struct wire_header){
		.version = get16(in + 4),
		.type = get16(in + 6),
		.job = get64(in + 8),
		.epoch = get32(in + 16),
		.source = get32(in + 20),
		.destination = get32(in + 24),
		.flags = get32(in + 28),
		.sequence = get64(in + 32),
		.tag = get64(in + 40),
		.length = get64(in + 48),
		.payload_crc = get32(in + 56),
	};
	if (header->version != WIRE_VERSION)
		return WIRE_BAD_VERSION;
	if (header->type < WIRE_DATA || header->type > WIRE_REFUSE)
		return WIRE_BAD_TYPE;
	/* At most one of them. */
	if (header->flags > WIRE_FLAG_ENCRYPTED ||
	    (header->flags & (header->flags - 1)))
		return WIRE_BAD_FLAGS;
	if (!(header->flags & WIRE_FLAG_CHECKSUM) && header->payload_crc)
		return WIRE_BAD_PAYLOAD_CRC;
	return WIRE_OK;
}

enum wire_fault wire_header_compare(const struct wire_header *expected,
				    const struct wire_header *actual)
{
	if (actual->version != expected->version)
		return WIRE_BAD_VERSION;
	if (actual->job != expected->job)
		return WIRE_BAD_JOB;
	if (actual->epoch != expected->epoch)
		return WIRE_BAD_EPOCH;
	if (actual->source != expected->source)
		return WIRE_BAD_SOURCE;
	if (actual->destination != expected->destination)
		return WIRE_BAD_DESTINATION;
	if (actual->type != expected->type)
		return WIRE_BAD_TYPE;
	if (actual->flags != expected->flags)
		return WIRE_BAD_FLAGS;
	if (actual->sequence != expected->sequence)
		return WIRE_BAD_SEQUENCE;
	if (actual->tag != expected->tag)
		return WIRE_BAD_TAG;
	if (actual->length != expected->length)
		return WIRE_BAD_LENGTH;
	return WIRE_OK;
}

static uint64_t header_field(enum wire_fault fault,
			     const struct wire_header *header)
{
	switch (fault) {
	case WIRE_BAD_VERSION:
		return header->version;
	case WIRE_BAD_TYPE:
		return header->type;
	case WIRE_BAD_FLAGS:
		return header->flags;
	case WIRE_BAD_EPOCH:
		return header->epoch;
	case WIRE_BAD_SOURCE:
		return header->source;
	case WIRE_BAD_DESTINATION:
		return header->destination;
	case WIRE_BAD_SEQUENCE:
		return header->sequence;
	case WIRE_BAD_LENGTH:
		return header->length;
	case WIRE_BAD_JOB:
		return header->job;
	case WIRE_BAD_TAG:
		return header->tag;
	default:
		return 0;
	}
}

void wire_header_explain(enum wire_fault fault,
			 const struct wire_header *expected,
			 const struct wire_header *actual, char *out,
			 size_t size)
{
	uint64_t want = header_field(fault, expected);
	uint64_t got = header_field(fault, actual);

	if (fault == WIRE_BAD_JOB || fault == WIRE_BAD_TAG)
		snprintf(out, size, "0x%" PRIx64 " instead of 0x%" PRIx64, got,
			 want);
	else
		snprintf(out, size, "%" PRIu64 " instead of %" PRIu64, got,
			 want);
}

/*
 * Hello: 0 fingerprint, 32 size, 36 checksum (0 or 1), 40 enum transport_wire,
 * the rest zero.
 */
void wire_hello_encode(const struct wire_header *header,
		       const struct wire_hello *hello,
		       unsigned char out[WIRE_HEADER_BYTES + WIRE_HELLO_BYTES])
{
	struct wire_header full = *header;
	unsigned char *payload = out + WIRE_HEADER_BYTES;

	memset(payload, 0, WIRE_HELLO_BYTES);
	memcpy(payload, hello->fingerprint, sizeof(hello->fingerprint));
	put32(payload + 32, hello->size);
	put32(payload + 36, hello->checksum);
	put32(payload + 40, hello->wire);
	full.length = WIRE_HELLO_BYTES;
	full.flags = WIRE_FLAG_CHECKSUM;
	full.payload_crc = digest_crc32c(0, payload, WIRE_HELLO_BYTES);
	wire_header_encode(&full, out);
}

enum wire_fault wire_hello_decode(const struct wire_header *header,
				  const unsigned char payload[WIRE_HELLO_BYTES],
				  struct wire_hello *hello)
{
	uint32_t checksum = get32(payload + 36);
	uint32_t wire = get32(payload + 40);

	if (header->type != WIRE_HELLO && header->type != WIRE_REFUSE)
		return WIRE_BAD_TYPE;
	if (header->length != WIRE_HELLO_BYTES)
		return WIRE_BAD_LENGTH;
	if (!(header->flags & WIRE_FLAG_CHECKSUM))
		return WIRE_BAD_FLAGS;
	if (header->payload_crc != digest_crc32c(0, payload, WIRE_HELLO_BYTES))
		return WIRE_BAD_PAYLOAD_CRC;
	if (checksum > 1 || wire > TRANSPORT_WIRE_ENCRYPTED)
		return WIRE_BAD_FLAGS;
	hello->size = get32(payload + 32);
	hello->checksum = checksum;
	hello->wire = (enum transport_wire)wire;
	memcpy(hello->fingerprint, payload, sizeof(hello->fingerprint));
	return WIRE_OK;
}
