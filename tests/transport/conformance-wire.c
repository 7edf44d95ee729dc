/*
 * A peer made by hand: it connects with a plain socket and says what it
 * likes. Only for transports with frames on a stream.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/digest.h"
#include "tests/transport/world.h"
#include "transport/wire.h"

#define BODY 1000

/* What our end of the link does: rank 1, accepts rank 0. */
struct listening {
	struct world world;
	unsigned char *memory;
	int connected;
	pthread_t thread;
};

static void *accept_peer(void *argument)
{
	static const unsigned zero = 0;
	struct listening *our = argument;

	our->connected = transport_connect(our->world.endpoint[1], &zero, 1,
					   our->world.addresses, 3 * SECOND);
	return NULL;
}

static void listening_start(struct listening *our,
			    const struct conformance_transport *transport)
{
	world_init(&our->world, transport, 2);
	CHECK_EQUAL(
		transport_open(&our->world.config[1], &our->world.endpoint[1]),
		0);
	CHECK_EQUAL(transport_listen(our->world.endpoint[1],
				     our->world.address[1],
				     TRANSPORT_ADDRESS_BYTES),
		    0);
	our->memory = region(our->world.endpoint[1], 2 * BODY);
	CHECK_EQUAL(pthread_create(&our->thread, NULL, accept_peer, our), 0);
}

static void listening_end(struct listening *our)
{
	world_close(&our->world);
	free(our->memory);
}

static int dial(const char *address)
{
	struct sockaddr_in remote = {.sin_family = AF_INET};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	CHECK(fd >= 0);
	remote.sin_port =
		htons((uint16_t)strtoll(strrchr(address, ':') + 1, NULL, 10));
	remote.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	CHECK_EQUAL(connect(fd, (struct sockaddr *)&remote, sizeof(remote)), 0);
	return fd;
}

static struct wire_header header_of_peer(void)
{
	return (struct wire_header){
		.version = WIRE_VERSION,
		.type = WIRE_DATA,
		.job = WORLD_JOB,
		.epoch = 1,
		.source = 0,
		.destination = 1,
		.flags = WIRE_FLAG_CHECKSUM,
	};
}

static void say(int fd, const unsigned char *bytes, size_t length)
{
	/* The other end may have hung up by now, which is its right. */
	while (length) {
		ssize_t moved = send(fd, bytes, length, MSG_NOSIGNAL);

		if (moved < 0)
			return;
		bytes += moved;
		length -= (size_t)moved;
	}
}

static void say_hello(int fd, const struct wire_header *like, bool slowly)
{
	struct wire_hello hello = {
		.size = 2,
		.checksum = true,
		.wire = TRANSPORT_WIRE_CHECKED,
	};
	struct wire_header header = *like;
	unsigned char frame[WIRE_HEADER_BYTES + WIRE_HELLO_BYTES];
	size_t i;

	header.type = WIRE_HELLO;
	wire_hello_encode(&header, &hello, frame);
	if (!slowly) {
		say(fd, frame, sizeof(frame));
		return;
	}
	for (i = 0; i < sizeof(frame); i++) {
		say(fd, frame + i, 1);
		clock_sleep_ns(MS / 10);
	}
}

static void hear_hello(int fd, struct wire_header *header)
{
	unsigned char frame[WIRE_HEADER_BYTES + WIRE_HELLO_BYTES];

	CHECK_EQUAL(recv(fd, frame, sizeof(frame), MSG_WAITALL), sizeof(frame));
	CHECK(wire_header_decode(frame, header) == WIRE_OK);
	CHECK_EQUAL(header->source, 1);
}

static void make_frame(const struct wire_header *like, unsigned char *frame)
{
	struct wire_header header = *like;

	pattern_fill(frame + WIRE_HEADER_BYTES, BODY, 6);
	header.payload_crc = digest_crc32c(0, frame + WIRE_HEADER_BYTES, BODY);
	wire_header_encode(&header, frame);
}

/* Links, posts one receive (tag 5, BODY bytes), lets the peer say `bytes`. */
static int hear(const struct conformance_transport *transport,
		const unsigned char *bytes, size_t length, bool in_pieces)
{
	struct wire_header header = header_of_peer();
	struct transport_completion done;
	struct listening our;
	int status;
	size_t i;
	int fd;

	log_capture();
	listening_start(&our, transport);
	fd = dial(our.world.address[1]);
	say_hello(fd, &header, in_pieces);
	hear_hello(fd, &header);
	pthread_join(our.thread, NULL);
	CHECK_EQUAL(our.connected, 0);
	CHECK_EQUAL(transport_post_recv(our.world.endpoint[1], 0, 5, our.memory,
					BODY, NULL),
		    0);
	for (i = 0; in_pieces && i < length; i++) {
		say(fd, bytes + i, 1);
		CHECK(transport_wait(our.world.endpoint[1],
				     clock_now_ns() + 20000, -1) <= 0);
	}
	if (!in_pieces)
		say(fd, bytes, length);
	do {
		CHECK_EQUAL(transport_wait(our.world.endpoint[1],
					   clock_now_ns() + 5 * SECOND, -1),
			    0);
		status = transport_progress(our.world.endpoint[1], &done, 1);
	} while (status == 0);
	if (status == 1)
		CHECK(pattern_holds(our.memory, BODY, 6));
	close(fd);
	listening_end(&our);
	return status;
}

static void case_two_step_hello(const struct conformance_transport *transport)
{
	unsigned char frame[WIRE_HEADER_BYTES + BODY];
	struct wire_header good = header_of_peer();

	good.tag = 5;
	good.length = BODY;
	make_frame(&good, frame);
	/* The control: the hand-made peer is accepted when it is right. */
	CHECK_EQUAL(hear(transport, frame, sizeof(frame), false), 1);
	CHECK_EQUAL(hear(transport, frame, sizeof(frame), true), 1);
	CHECK_EQUAL(log_count("\n"), 0);
}

static void case_wrong_version(const struct conformance_transport *transport)
{
	struct wire_header header = header_of_peer();
	struct listening our;
	int fd;

	listening_start(&our, transport);
	fd = dial(our.world.address[1]);
	header.version = 99;
	say_hello(fd, &header, false);
	/* It is told our version, so that it can name the difference too. */
	hear_hello(fd, &header);
	CHECK_EQUAL(header.version, WIRE_VERSION);
	pthread_join(our.thread, NULL);
	CHECK_EQUAL(our.connected, -EPROTO);
	CHECK(log_has("version 99, this one 2"));
	close(fd);
	listening_end(&our);
}

static void case_damaged_frames(const struct conformance_transport *transport)
{
	unsigned char frame[WIRE_HEADER_BYTES + BODY];
	struct wire_header good = header_of_peer();
	struct wire_header bad;
	unsigned bit;

	good.tag = 5;
	good.length = BODY;
	/* A sample here; all bits, without sockets, in test-wire. */
	for (bit = 0; bit < 8 * WIRE_HEADER_BYTES; bit += 37) {
		make_frame(&good, frame);
		frame[bit / 8] ^= (unsigned char)(1u << bit % 8);
		CHECK_EQUAL(hear(transport, frame, sizeof(frame), false),
			    -EBADMSG);
	}
	/* Whole, but not the one that is due. */
	bad = good;
	bad.sequence = 1;
	make_frame(&bad, frame);
	CHECK_EQUAL(hear(transport, frame, sizeof(frame), false), -EPROTO);
	CHECK(log_has("sequence"));
	bad = good;
	bad.epoch = 0;
	make_frame(&bad, frame);
	CHECK_EQUAL(hear(transport, frame, sizeof(frame), false), -EPROTO);
	CHECK(log_has("epoch"));
	bad = good;
	bad.length = (uint64_t)1 << 62;
	make_frame(&bad, frame);
	CHECK_EQUAL(hear(transport, frame, sizeof(frame), false), -EPROTO);
	CHECK(log_has("4611686018427387904 bytes"));
	/* A header that promises less, and nothing behind it: no hanging. */
	bad = good;
	bad.tag = 6;
	make_frame(&bad, frame);
	CHECK_EQUAL(hear(transport, frame, WIRE_HEADER_BYTES, false), -EPROTO);
}

static void case_damaged_payload(const struct conformance_transport *transport)
{
	unsigned char frame[WIRE_HEADER_BYTES + BODY];
	struct wire_header good = header_of_peer();
	unsigned at;

	good.tag = 5;
	good.length = BODY;
	for (at = 0; at < BODY; at += 333) {
		make_frame(&good, frame);
		frame[WIRE_HEADER_BYTES + at] ^= 0x10;
		CHECK_EQUAL(hear(transport, frame, sizeof(frame), false),
			    -EBADMSG);
		CHECK(log_has("payload") && log_has("rank 0"));
	}
}

static void case_garbage(const struct conformance_transport *transport)
{
	unsigned char bytes[4096];
	unsigned i;

	for (i = 0; i < 4; i++) {
		pattern_fill(bytes, sizeof(bytes), 100 + i);
		CHECK_EQUAL(hear(transport, bytes, sizeof(bytes), false),
			    -EBADMSG);
	}
}

const struct conformance_case conformance_wire_cases[] = {
	{"two-step hello", case_two_step_hello},
	{"wrong version", case_wrong_version},
	{"damaged frames", case_damaged_frames},
	{"damaged payload", case_damaged_payload},
	{"garbage", case_garbage},
	{NULL, NULL},
};
