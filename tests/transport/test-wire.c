/* Frames as pure functions: round trips, every single bit flipped, noise. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "transport/wire.h"

static const struct wire_header sample = {
	.version = WIRE_VERSION,
	.type = WIRE_DATA,
	.job = 0x0123456789abcdef,
	.epoch = 3,
	.source = 4,
	.destination = 5,
	.flags = WIRE_FLAG_CHECKSUM,
	.sequence = 77,
	.tag = 0xfedcba9876543210,
	.length = 1048576,
	.payload_crc = 0xdeadbeef,
};

/* The bytes on the wire do not depend on this machine. */
static void test_layout(void **state)
{
	static const unsigned char start[60] = {
		'S',  'G',  'C',  'H',  2,    0,    1,    0,    0xef, 0xcd,
		0xab, 0x89, 0x67, 0x45, 0x23, 0x01, 3,    0,    0,    0,
		4,    0,    0,    0,    5,    0,    0,    0,    1,    0,
		0,    0,    77,   0,    0,    0,    0,    0,    0,    0,
		0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe, 0,    0,
		0x10, 0,    0,    0,    0,    0,    0xef, 0xbe, 0xad, 0xde,
	};
	unsigned char frame[WIRE_HEADER_BYTES];

	(void)state;
	wire_header_encode(&sample, frame);
	assert_memory_equal(frame, start, sizeof(start));
}

static void test_round_trip(void **state)
{
	unsigned char frame[WIRE_HEADER_BYTES];
	struct wire_header header;

	(void)state;
	wire_header_encode(&sample, frame);
	assert_int_equal(wire_header_decode(frame, &header), WIRE_OK);
	assert_int_equal(wire_header_compare(&sample, &header), WIRE_OK);
	assert_int_equal(header.payload_crc, sample.payload_crc);
}

static void test_every_bit(void **state)
{
	unsigned char frame[WIRE_HEADER_BYTES];
	struct wire_header header;
	enum wire_fault fault;
	unsigned bit;

	(void)state;
	for (bit = 0; bit < 8 * WIRE_HEADER_BYTES; bit++) {
		wire_header_encode(&sample, frame);
		frame[bit / 8] ^= (unsigned char)(1u << bit % 8);
		fault = wire_header_decode(frame, &header);
		assert_int_equal(fault, bit < 32 ? WIRE_BAD_MAGIC
						 : WIRE_BAD_HEADER_CRC);
	}
}

/* A frame that is whole, but of another kind than the one due. */
static void test_every_field(void **state)
{
	static const enum wire_fault order[] = {
		WIRE_BAD_VERSION, WIRE_BAD_JOB,         WIRE_BAD_EPOCH,
		WIRE_BAD_SOURCE,  WIRE_BAD_DESTINATION, WIRE_BAD_TYPE,
		WIRE_BAD_FLAGS,   WIRE_BAD_SEQUENCE,    WIRE_BAD_TAG,
		WIRE_BAD_LENGTH,
	};
	char text[64];
	unsigned i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(order); i++) {
		struct wire_header other = sample;

		other.version += order[i] == WIRE_BAD_VERSION;
		other.job += order[i] == WIRE_BAD_JOB;
		other.epoch += order[i] == WIRE_BAD_EPOCH;
		other.source += order[i] == WIRE_BAD_SOURCE;
		other.destination += order[i] == WIRE_BAD_DESTINATION;
		other.type += order[i] == WIRE_BAD_TYPE;
		other.flags ^= order[i] == WIRE_BAD_FLAGS;
		other.sequence += order[i] == WIRE_BAD_SEQUENCE;
		other.tag += order[i] == WIRE_BAD_TAG;
		other.length += order[i] == WIRE_BAD_LENGTH;
		assert_int_equal(wire_header_compare(&sample, &other),
				 order[i]);
		wire_header_explain(order[i], &sample, &other, text,
				    sizeof(text));
		assert_non_null(strstr(text, " instead of "));
		assert_true(strlen(wire_fault_text(order[i])) > 3);
	}
}

static void test_bad_values(void **state)
{
	unsigned char frame[WIRE_HEADER_BYTES];
	struct wire_header header = sample;
	struct wire_header out;

	(void)state;
	header.version = WIRE_VERSION + 1;
	wire_header_encode(&header, frame);
	assert_int_equal(wire_header_decode(frame, &out), WIRE_BAD_VERSION);
	assert_int_equal(out.version, WIRE_VERSION + 1);
	assert_true(out.job == sample.job);
	header = sample;
	header.type = 0;
	wire_header_encode(&header, frame);
	assert_int_equal(wire_header_decode(frame, &out), WIRE_BAD_TYPE);
	header.type = 9;
	wire_header_encode(&header, frame);
	assert_int_equal(wire_header_decode(frame, &out), WIRE_BAD_TYPE);
	header = sample;
	header.flags = WIRE_FLAG_CHECKSUM | WIRE_FLAG_AUTHENTIC;
	wire_header_encode(&header, frame);
	assert_int_equal(wire_header_decode(frame, &out), WIRE_BAD_FLAGS);
	header.flags = 2 * WIRE_FLAG_ENCRYPTED;
	wire_header_encode(&header, frame);
	assert_int_equal(wire_header_decode(frame, &out), WIRE_BAD_FLAGS);
	header.flags = 0;
	wire_header_encode(&header, frame);
	assert_int_equal(wire_header_decode(frame, &out), WIRE_BAD_PAYLOAD_CRC);
}

static void test_hello(void **state)
{
	unsigned char frame[WIRE_HEADER_BYTES + WIRE_HELLO_BYTES];
	struct wire_hello hello = {.size = 8, .checksum = true};
	struct wire_header like = sample;
	struct wire_header header;
	struct wire_hello out;
	unsigned bit;

	(void)state;
	memset(hello.fingerprint, 0xa5, sizeof(hello.fingerprint));
	like.type = WIRE_HELLO;
	wire_hello_encode(&like, &hello, frame);
	assert_int_equal(wire_header_decode(frame, &header), WIRE_OK);
	assert_int_equal(
		wire_hello_decode(&header, frame + WIRE_HEADER_BYTES, &out),
		WIRE_OK);
	assert_int_equal(out.size, 8);
	assert_true(out.checksum);
	assert_memory_equal(out.fingerprint, hello.fingerprint, 32);
	for (bit = 0; bit < 8 * WIRE_HELLO_BYTES; bit++) {
		frame[WIRE_HEADER_BYTES + bit / 8] ^=
			(unsigned char)(1u << bit % 8);
		assert_int_equal(wire_hello_decode(&header,
						   frame + WIRE_HEADER_BYTES,
						   &out),
				 WIRE_BAD_PAYLOAD_CRC);
		frame[WIRE_HEADER_BYTES + bit / 8] ^=
			(unsigned char)(1u << bit % 8);
	}
	header.length = 63;
	assert_int_equal(
		wire_hello_decode(&header, frame + WIRE_HEADER_BYTES, &out),
		WIRE_BAD_LENGTH);
}

/* Nothing of it is accepted, and nothing crashes. */
static void test_noise(void **state)
{
	struct random_key key = random_key_named(1, "noise");
	unsigned char frame[WIRE_HEADER_BYTES];
	struct wire_header header;
	uint32_t words[4];
	unsigned round;
	unsigned i;

	(void)state;
	for (round = 0; round < 20000; round++) {
		for (i = 0; i < 4; i++) {
			random_block(key, round, i, words);
			memcpy(frame + 16 * i, words, 16);
		}
		if (round & 1)
			memcpy(frame, "SGCH\2\0\1", 8);
		assert_int_not_equal(wire_header_decode(frame, &header),
				     WIRE_OK);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_layout),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_every_bit),
		cmocka_unit_test(test_every_field),
		cmocka_unit_test(test_bad_values),
		cmocka_unit_test(test_hello),
		cmocka_unit_test(test_noise),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
