/*
 * Frames: what a link makes of the bytes of its peer, however they are cut.
 *
 * Bytes 0 to 3 of the input say which protection the link has, which messages
 * it waits for, how the stream is cut, and what is mended in the stream (so that
 * more than the checksums is reached); the rest is the stream.
 *
 * A message that counts as received has been in the stream, under a header that
 * names it. With a MAC or encryption nothing is ever received: no input knows
 * the key. The same bytes are taken for a hello as well.
 */
#include <errno.h>
#include <string.h>

#include "base/digest.h"
#include "base/log.h"
#include "tests/fuzz/fuzz.h"
#include "transport/hello.h"
#include "transport/tcp/tcp.h"

#define MESSAGES    3
#define SLOT_BYTES  512
#define LEAD_BYTES  4
#define INPUT_BYTES 4096
#define TAG(i)      (0x1000 + (i))

enum mend {
	MEND_CRC = 1,    /* the headers' checksums */
	MEND_HEADER = 2, /* all that the link expects of a header */
	MEND_PAYLOAD = 4 /* the payloads' checksums */
};

static unsigned char slots[MESSAGES][SLOT_BYTES];
static struct tcp_endpoint endpoint;
static struct tcp_link link_storage;
static unsigned link_of[2];

static void swallow(void *argument, enum log_level level, const char *line)
{
	(void)argument;
	(void)level;
	FUZZ_CHECK(line[0] != '\0');
}

static void set_up(enum transport_wire wire, bool checksum)
{
	static const unsigned char key[SECURE_KEY_BYTES] = "nobody knows";
	struct tcp_shield *shield;

	endpoint = (struct tcp_endpoint){
		.name = "tcp",
		.links = &link_storage,
		.link_of = link_of,
	};
	endpoint.base.config = (struct transport_config){
		.rank = 1,
		.size = 2,
		.job = 0x57a6ec0ac4,
		.epoch = 1,
		.depth = 4,
		.checksum = checksum,
		.wire = wire,
	};
	FUZZ_CHECK(tcp_link_add(&endpoint, 0, -1) == &link_storage);
	if (wire == TRANSPORT_WIRE_CHECKED)
		return;
	shield = &link_storage.shield;
	shield->encrypts = wire == TRANSPORT_WIRE_ENCRYPTED;
	FUZZ_CHECK(!secure_cipher_create(false, key, &shield->opens));
	link_storage.tag_bytes = SECURE_TAG_BYTES;
}

/* 0, 1, a few or many bytes, by two bits of the input each. */
static size_t message_bytes(unsigned sizes, unsigned i)
{
	static const size_t bytes[4] = {0, 1, 40, SLOT_BYTES};

	return bytes[sizes >> (2 * i) & 3];
}

static void post_all(unsigned sizes)
{
	struct transport_operation *operation;

	memset(slots, 0xa5, sizeof(slots));
	for (unsigned i = 0; i < MESSAGES; i++)
		FUZZ_CHECK(!transport_queue_post(
			&link_storage.receive, TAG(i), slots[i],
			message_bytes(sizes, i), NULL, &operation));
}

static struct wire_header expected(unsigned i, size_t bytes)
{
	const struct transport_config *config = &endpoint.base.config;

	return (struct wire_header){
		.version = WIRE_VERSION,
		.type = WIRE_DATA,
		.job = config->job,
		.epoch = 1,
		.destination = 1,
		.flags = config->wire == TRANSPORT_WIRE_AUTHENTIC
				 ? WIRE_FLAG_AUTHENTIC
			 : config->wire == TRANSPORT_WIRE_ENCRYPTED
				 ? WIRE_FLAG_ENCRYPTED
			 : config->checksum ? WIRE_FLAG_CHECKSUM
					    : 0,
		.sequence = i,
		.tag = TAG(i),
		.length = bytes,
	};
}

static void put_crc(unsigned char *at, uint32_t crc)
{
	for (unsigned i = 0; i < 4; i++)
		at[i] = (unsigned char)(crc >> (8 * i));
}

/* Makes the stream less wrong, where the expected frames would lie. */
static void mend(unsigned char *stream, size_t length, unsigned sizes,
		 unsigned how)
{
	size_t at = 0;

	for (unsigned i = 0; i < MESSAGES; i++) {
		size_t bytes = message_bytes(sizes, i);
		struct wire_header header = expected(i, bytes);
		unsigned char *frame = stream + at;

		if (at + WIRE_HEADER_BYTES + bytes > length)
			return;
		if (how & MEND_HEADER)
			wire_header_encode(&header, frame);
		if (how & MEND_PAYLOAD && header.flags == WIRE_FLAG_CHECKSUM)
			put_crc(frame + 56,
				digest_crc32c(0, frame + WIRE_HEADER_BYTES,
					      bytes));
		if (how & MEND_CRC)
			put_crc(frame + 60, digest_crc32c(0, frame, 60));
		at += WIRE_HEADER_BYTES + bytes + link_storage.tag_bytes;
	}
}

/* Copies what fits into `parts`, at most `most` bytes, as the kernel would. */
static size_t scatter(const struct iovec *parts, unsigned count,
		      const unsigned char *from, size_t most)
{
	size_t moved = 0;

	for (unsigned i = 0; i < count && moved < most; i++) {
		size_t bytes = MIN(parts[i].iov_len, most - moved);

		memcpy(parts[i].iov_base, from + moved, bytes);
		moved += bytes;
	}
	return moved;
}

/* Until the stream ends, the link fails, or nothing more is waited for. */
static void receive_all(const unsigned char *stream, size_t length,
			unsigned seed)
{
	struct iovec parts[TCP_PARTS];
	size_t at = 0;

	while (at < length && tcp_link_live(&link_storage)) {
		size_t most = seed ? 1 + (seed * (at + 7)) % 97 : length;
		unsigned count = tcp_link_receive_parts(&link_storage, parts);
		size_t moved;
		int status;

		if (!count)
			return;
		FUZZ_CHECK(count <= TCP_PARTS);
		moved = scatter(parts, count, stream + at,
				MIN(most, length - at));
		FUZZ_CHECK(moved > 0);
		at += moved;
		status = tcp_link_received(&endpoint, &link_storage, moved);
		FUZZ_CHECK(status == link_storage.status);
		FUZZ_CHECK(!status || status == -EBADMSG || status == -EPROTO);
	}
}

/* What was received stands in the stream, in its place. */
static void check_received(const unsigned char *stream, unsigned sizes)
{
	uint64_t done = link_storage.receive.done;
	size_t at = 0;

	FUZZ_CHECK(done <= MESSAGES);
	if (link_storage.tag_bytes)
		FUZZ_CHECK(done == 0);
	for (unsigned i = 0; i < done; i++) {
		size_t bytes = message_bytes(sizes, i);
		struct wire_header want = expected(i, bytes), got;

		FUZZ_CHECK(wire_header_decode(stream + at, &got) == WIRE_OK);
		FUZZ_CHECK(wire_header_compare(&want, &got) == WIRE_OK);
		at += WIRE_HEADER_BYTES;
		FUZZ_CHECK(memcmp(slots[i], stream + at, bytes) == 0);
		at += bytes;
	}
	/* And slots that nothing was written to are as they were. */
	for (unsigned i = 0; i < MESSAGES; i++)
		for (size_t j = message_bytes(sizes, i); j < SLOT_BYTES; j++)
			FUZZ_CHECK(slots[i][j] == 0xa5);
}

/* The header alone: what decodes encodes to the same bytes. */
static void check_header(const unsigned char *in)
{
	unsigned char again[WIRE_HEADER_BYTES];
	struct wire_header want = expected(0, 40), got;
	enum wire_fault fault = wire_header_decode(in, &got);
	char text[64];

	FUZZ_CHECK(wire_fault_text(fault)[0] != '\0');
	if (fault == WIRE_BAD_MAGIC || fault == WIRE_BAD_HEADER_CRC)
		return;
	wire_header_encode(&got, again);
	FUZZ_CHECK(memcmp(in, again, sizeof(again)) == 0);
	fault = wire_header_compare(&want, &got);
	wire_header_explain(fault, &want, &got, text, sizeof(text));
	FUZZ_CHECK(strlen(text) < sizeof(text));
}

static void check_hello(const unsigned char *in, bool mends)
{
	unsigned char frame[TRANSPORT_HELLO_BYTES], own[TRANSPORT_HELLO_BYTES];
	enum transport_verdict verdict;
	struct wire_header header;
	char text[128];

	memcpy(frame, in, sizeof(frame));
	if (mends) {
		put_crc(frame + 56, digest_crc32c(0, frame + WIRE_HEADER_BYTES,
						  WIRE_HELLO_BYTES));
		put_crc(frame + 60, digest_crc32c(0, frame, 60));
	}
	verdict = transport_hello_judge(&endpoint.base.config, frame, &header,
					text, sizeof(text));
	if (verdict != TRANSPORT_VERDICT_SAME) {
		FUZZ_CHECK(strlen(text) < sizeof(text) && text[0] != '\0');
		return;
	}
	/* It says what we would say in its place, as far as that is compared. */
	transport_hello_write(&endpoint.base.config, 0,
			      (enum wire_type)header.type, header.tag, own);
	FUZZ_CHECK(memcmp(frame + WIRE_HEADER_BYTES, own + WIRE_HEADER_BYTES,
			  TRANSPORT_FINGERPRINT_BYTES + 8) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct {
		enum transport_wire wire;
		bool checksum;
	} kinds[4] = {
		{TRANSPORT_WIRE_CHECKED, true},
		{TRANSPORT_WIRE_CHECKED, false},
		{TRANSPORT_WIRE_AUTHENTIC, true},
		{TRANSPORT_WIRE_ENCRYPTED, true},
	};
	unsigned char stream[INPUT_BYTES];
	size_t length;

	if (size < LEAD_BYTES || size > INPUT_BYTES)
		return 0;
	log_set_sink(swallow, NULL);
	length = size - LEAD_BYTES;
	memcpy(stream, data + LEAD_BYTES, length);
	set_up(kinds[data[0] & 3].wire, kinds[data[0] & 3].checksum);
	mend(stream, length, data[1], data[3]);
	post_all(data[1]);
	receive_all(stream, length, data[2]);
	check_received(stream, data[1]);
	if (length >= WIRE_HEADER_BYTES)
		check_header(stream);
	if (length >= TRANSPORT_HELLO_BYTES)
		check_hello(stream, data[3] & MEND_CRC);
	tcp_link_fini(&link_storage);
	return 0;
}
