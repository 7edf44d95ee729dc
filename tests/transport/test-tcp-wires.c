/* Which protection a link of tcp has, and ends that do not agree on it. */
#include <errno.h>

#include "tests/transport/world.h"

static const unsigned char key[TRANSPORT_KEY_BYTES] = "of this job";
static const struct conformance_transport tcp = {
	.name = "tcp",
	.kind = "tcp",
	.io = "auto",
};

static void set_up(struct world *world, const unsigned char *with,
		   enum transport_wire a, enum transport_wire b)
{
	log_capture();
	world_init(world, &tcp, 2);
	for (unsigned i = 0; i < 2; i++) {
		world->config[i].key = with;
		world->config[i].wire = i ? b : a;
	}
}

static void expect_wire(const unsigned char *with, enum transport_wire asked,
			enum transport_wire got, bool checksum)
{
	struct transport_link_info info;
	struct world world;

	set_up(&world, with, asked, asked);
	world_open(&world);
	world_connect(&world, 20 * SECOND);
	for (unsigned i = 0; i < 2; i++) {
		CHECK_EQUAL(world.connected[i], 0);
		CHECK_EQUAL(transport_query(world.endpoint[i], !i, &info), 0);
		CHECK_EQUAL(info.wire, got);
		CHECK_EQUAL(info.checksum, checksum);
	}
	world_close(&world);
}

static void test_chosen(void)
{
	expect_wire(NULL, TRANSPORT_WIRE_AUTO, TRANSPORT_WIRE_CHECKED, true);
	expect_wire(key, TRANSPORT_WIRE_AUTO, TRANSPORT_WIRE_AUTHENTIC, false);
	expect_wire(key, TRANSPORT_WIRE_CHECKED, TRANSPORT_WIRE_CHECKED, true);
	expect_wire(key, TRANSPORT_WIRE_ENCRYPTED, TRANSPORT_WIRE_ENCRYPTED,
		    false);
	printf("ok 1 - authentic with a key, checked without, or as asked\n");
}

/* Both say so, whatever the pair. */
static void test_different(void)
{
	static const enum transport_wire all[3] = {
		TRANSPORT_WIRE_CHECKED,
		TRANSPORT_WIRE_AUTHENTIC,
		TRANSPORT_WIRE_ENCRYPTED,
	};
	struct world world;

	for (unsigned i = 0; i < 9; i++) {
		if (i / 3 == i % 3)
			continue;
		set_up(&world, key, all[i / 3], all[i % 3]);
		world_open(&world);
		world_connect(&world, 5 * SECOND);
		CHECK_EQUAL(world.connected[0], -EPROTO);
		CHECK_EQUAL(world.connected[1], -EPROTO);
		CHECK_EQUAL(log_count("its links are"), 2);
		world_close(&world);
	}
	printf("ok 2 - ends that do not agree name the difference\n");
}

static void test_no_key(void)
{
	struct transport_endpoint *endpoint;
	struct world world;

	set_up(&world, NULL, TRANSPORT_WIRE_AUTHENTIC,
	       TRANSPORT_WIRE_ENCRYPTED);
	for (unsigned i = 0; i < 2; i++)
		CHECK(transport_open(&world.config[i], &endpoint) < 0);
	CHECK_EQUAL(log_count("stagecoach key"), 2);
	world_close(&world);
	printf("ok 3 - without a key there is neither MAC nor encryption\n");
}

int main(void)
{
	log_capture();
	printf("1..3\n");
	test_chosen();
	test_different();
	test_no_key();
	return 0;
}
