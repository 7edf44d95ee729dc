/* Offers and control messages as pure functions; no device is needed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/digest.h"
#include "transport/rdma/control.h"
#include "transport/transport.h"

static const struct rdma_offer offer = {
	.version = RDMA_VERSION,
	.flags = RDMA_OFFER_NO_IMMEDIATE,
	.depth = 64,
	.family = 4,
	.port = 4711,
	.address = {10, 9, 0, 1},
	.token = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
};

static const struct rdma_control credit = {
	.type = RDMA_CREDIT,
	.rkey = 0xdeadbeef,
	.sequence = 77,
	.tag = 0xfedcba9876543210,
	.bytes = 1048576,
	.address = 0x7f0123456789,
};

static void seal(unsigned char *bytes, unsigned length)
{
	uint32_t crc = digest_crc32c(0, bytes, length - 4);

	for (unsigned i = 0; i < 4; i++)
		bytes[length - 4 + i] = (unsigned char)(crc >> (8 * i));
}

/* The bytes do not depend on this machine. */
static void test_layout(void **state)
{
	static const unsigned char start[52] = {
		'S',  'G',  'R',  'C',  1,    0,    0,    0,    77,
		0,    0,    0,    0,    0,    0,    0,    0x10, 0x32,
		0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe, 0,    0,    0x10,
		0,    0,    0,    0,    0,    0x89, 0x67, 0x45, 0x23,
		0x01, 0x7f, 0,    0,    0xef, 0xbe, 0xad, 0xde,
	};
	unsigned char bytes[RDMA_CONTROL_BYTES];
	unsigned char said[RDMA_OFFER_BYTES];

	(void)state;
	rdma_control_encode(&credit, bytes);
	assert_memory_equal(bytes, start, sizeof(start));
	rdma_offer_encode(&offer, said);
	assert_memory_equal(said, "SGRO", 4);
	assert_memory_equal(said + 16, offer.address, 16);
	assert_memory_equal(said + 32, offer.token, 16);
}

static void test_round_trip(void **state)
{
	unsigned char bytes[RDMA_CONTROL_BYTES];
	unsigned char said[RDMA_OFFER_BYTES];
	struct rdma_control control;
	struct rdma_offer heard;

	(void)state;
	rdma_control_encode(&credit, bytes);
	assert_null(rdma_control_decode(bytes, sizeof(bytes), &control));
	assert_memory_equal(&control, &credit, sizeof(control));
	rdma_offer_encode(&offer, said);
	assert_null(rdma_offer_decode(said, &heard));
	assert_memory_equal(&heard, &offer, sizeof(heard));
}

static void test_every_bit(void **state)
{
	unsigned char bytes[RDMA_CONTROL_BYTES];
	unsigned char said[RDMA_OFFER_BYTES];
	struct rdma_control control;
	struct rdma_offer heard;

	(void)state;
	rdma_control_encode(&credit, bytes);
	for (unsigned i = 0; i < 8 * sizeof(bytes); i++) {
		bytes[i / 8] ^= (unsigned char)(1u << i % 8);
		assert_non_null(
			rdma_control_decode(bytes, sizeof(bytes), &control));
		bytes[i / 8] ^= (unsigned char)(1u << i % 8);
	}
	rdma_offer_encode(&offer, said);
	for (unsigned i = 0; i < 8 * sizeof(said); i++) {
		said[i / 8] ^= (unsigned char)(1u << i % 8);
		assert_non_null(rdma_offer_decode(said, &heard));
		said[i / 8] ^= (unsigned char)(1u << i % 8);
	}
}

static void expect_offer(unsigned at, unsigned char value, const char *wrong)
{
	unsigned char said[RDMA_OFFER_BYTES];
	struct rdma_offer heard;

	rdma_offer_encode(&offer, said);
	said[at] = value;
	seal(said, sizeof(said));
	assert_string_equal(rdma_offer_decode(said, &heard), wrong);
}

/* Whole, and yet nothing we could use. */
static void test_wrong(void **state)
{
	unsigned char bytes[RDMA_CONTROL_BYTES];
	struct rdma_control control;

	(void)state;
	expect_offer(4, RDMA_VERSION + 1, "the protocol version");
	expect_offer(6, 2, "the flags");
	expect_offer(8, 0, "the depth");
	expect_offer(10, 1, "the depth"); /* 65536 + 64 */
	expect_offer(12, 5, "the address");
	rdma_control_encode(&credit, bytes);
	assert_string_equal(
		rdma_control_decode(bytes, sizeof(bytes) - 1, &control),
		"the length");
	bytes[4] = 9;
	seal(bytes, sizeof(bytes));
	assert_string_equal(rdma_control_decode(bytes, sizeof(bytes), &control),
			    "the type");
	bytes[4] = 0;
	seal(bytes, sizeof(bytes));
	assert_string_equal(rdma_control_decode(bytes, sizeof(bytes), &control),
			    "the type");
}

static void test_noise(void **state)
{
	unsigned char bytes[RDMA_OFFER_BYTES];
	struct rdma_control control;
	struct rdma_offer heard;
	uint64_t x = 1;

	(void)state;
	for (unsigned i = 0; i < 100000; i++) {
		for (unsigned j = 0; j < sizeof(bytes); j++) {
			x = x * 6364136223846793005ull + 1442695040888963407ull;
			bytes[j] = (unsigned char)(x >> 56);
		}
		assert_non_null(rdma_offer_decode(bytes, &heard));
		assert_non_null(rdma_control_decode(bytes, RDMA_CONTROL_BYTES,
						    &control));
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_layout),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_every_bit),
		cmocka_unit_test(test_wrong),
		cmocka_unit_test(test_noise),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
