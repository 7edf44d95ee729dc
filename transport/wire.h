/*
 * Frames: what travels on a byte stream between two ranks.
 *
 * A frame is a header of 64 bytes, little endian, `length` bytes of payload,
 * and a MAC where the job has a key (transport/secure). Pure functions over bytes; nothing here trusts its input.
 *
 *     offset  bytes  field
 *          0      4  magic "SGCH"
 *          4      2  version
 *          6      2  type
 *          8      8  job
 *         16      4  epoch
 *         20      4  source rank
 *         24      4  destination rank
 *         28      4  flags
 *         32      8  sequence, from 0, per link and direction
 *         40      8  tag
 *         48      8  length of the payload
 *         56      4  CRC-32C of the payload, 0 without WIRE_FLAG_CHECKSUM
 *         60      4  CRC-32C of bytes 0 to 59
 *
 * With a job key a tag of 16 bytes follows a hello (transport/tcp/connect.c), and
 * each payload where the flags say so.
 *
 * Magic, version and the place of the last checksum stay where they are in
 * every future version, so that two versions can name their difference.
 */
#ifndef STAGECOACH_TRANSPORT_WIRE_H
#define STAGECOACH_TRANSPORT_WIRE_H

#include "base/compiler.h"
#include "transport/transport.h"

#define WIRE_HEADER_BYTES 64
#define WIRE_HELLO_BYTES  64 /* payload of WIRE_HELLO and WIRE_REFUSE */
#define WIRE_MAGIC        0x48434753u
#define WIRE_VERSION      2

#define WIRE_FLAG_CHECKSUM  1u /* the payload's CRC-32C is there */
#define WIRE_FLAG_AUTHENTIC 2u /* a MAC of 16 bytes follows the payload */
#define WIRE_FLAG_ENCRYPTED 4u /* the same, and the payload is ciphertext */

enum wire_type {
	WIRE_DATA = 1,
	WIRE_HELLO = 2,  /* first frame each way */
	WIRE_REFUSE = 3, /* in place of a hello; tag: enum wire_refusal */
};

enum wire_refusal {
	WIRE_REFUSAL_NOT_EXPECTED = 1, /* no link with this rank is wanted */
	WIRE_REFUSAL_DUPLICATE = 2,    /* this rank has a link already */
};

struct wire_header {
	uint16_t version;
	uint16_t type;
	uint64_t job;
	uint32_t epoch;
	uint32_t source;
	uint32_t destination;
	uint32_t flags;
	uint64_t sequence;
	uint64_t tag;
	uint64_t length;
	uint32_t payload_crc;
};

enum wire_fault {
	WIRE_OK,
	WIRE_BAD_MAGIC,
	WIRE_BAD_HEADER_CRC,
	WIRE_BAD_VERSION,
	WIRE_BAD_TYPE,
	WIRE_BAD_FLAGS,
	WIRE_BAD_JOB,
	WIRE_BAD_EPOCH,
	WIRE_BAD_SOURCE,
	WIRE_BAD_DESTINATION,
	WIRE_BAD_SEQUENCE,
	WIRE_BAD_TAG,
	WIRE_BAD_LENGTH,
	WIRE_BAD_PAYLOAD_CRC,
};

/* "the header's checksum", "job", ...: what is wrong, in words. */
const char *wire_fault_text(enum wire_fault fault);

/* "checked", "authentic", "encrypted", as --wire takes them. */
const char *wire_mode_text(enum transport_wire wire);
/* And back, "auto" as well; -EINVAL, silent. */
int wire_mode_parse(const char *text, enum transport_wire *wire) MUST_CHECK;

/* Writes version as it stands in *header (WIRE_VERSION in real life). */
void wire_header_encode(const struct wire_header *header,
			unsigned char out[WIRE_HEADER_BYTES]);

/*
 * Checks magic, header checksum, version, type, flags. *header is filled in
 * unless magic or checksum are wrong.
 */
enum wire_fault wire_header_decode(const unsigned char in[WIRE_HEADER_BYTES],
				   struct wire_header *header) MUST_CHECK;

/* The first field in which `actual` is not what is expected. */
enum wire_fault
wire_header_compare(const struct wire_header *expected,
		    const struct wire_header *actual) MUST_CHECK;

/* The two values of that field, in words: "5 instead of 7". */
void wire_header_explain(enum wire_fault fault,
			 const struct wire_header *expected,
			 const struct wire_header *actual, char *out,
			 size_t size);

/* What an end says of itself: the header's job, epoch and ranks, and this. */
struct wire_hello {
	uint32_t size; /* ranks of the job */
	bool checksum;
	enum transport_wire wire;
	unsigned char fingerprint[TRANSPORT_FINGERPRINT_BYTES];
};

/* header->length, flags and payload_crc are set here. */
void wire_hello_encode(const struct wire_header *header,
		       const struct wire_hello *hello,
		       unsigned char out[WIRE_HEADER_BYTES + WIRE_HELLO_BYTES]);

/*
 * A header that decoded, and the payload behind it: type, length and payload
 * checksum are checked, *hello filled in when WIRE_OK.
 */
enum wire_fault wire_hello_decode(const struct wire_header *header,
				  const unsigned char payload[WIRE_HELLO_BYTES],
				  struct wire_hello *hello) MUST_CHECK;

#endif
