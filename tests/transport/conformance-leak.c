/*
 * What is built again and again leaves nothing behind. That every case gives
 * back descriptors, heap and pinned memory, the suite checks by itself; here
 * mappings are counted, and registrations.
 */
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "tests/transport/world.h"

#ifdef STAGECOACH_SANITIZED
#define SANITIZED 1
#else
#define SANITIZED 0
#endif
#define LIFE_BYTES ((size_t)1 << 20)

static bool fails(const struct tally *tallies, void *argument)
{
	(void)argument;
	return tallies[0].status < 0;
}

/* Links, a message, one that is never taken; ends in one of three ways. */
static void live_once(const struct conformance_transport *transport,
		      unsigned round)
{
	struct tally tallies[WORLD_MAX] = {0};
	struct world world;
	void *made[2];
	unsigned i;

	world_up(&world, transport, 2);
	for (i = 0; i < 2; i++)
		CHECK_EQUAL(transport_create_region(world.endpoint[i],
						    LIFE_BYTES, &made[i]),
			    0);
	CHECK_EQUAL(transport_post_recv(world.endpoint[1], 0, 1, made[1], 4096,
					NULL),
		    0);
	CHECK_EQUAL(transport_post_send(world.endpoint[0], 1, 1, made[0], 4096,
					NULL),
		    0);
	world_finish(&world, tallies, 0, 1, 1, 1);
	CHECK_EQUAL(transport_post_recv(world.endpoint[0], 1, 2, made[0], 4096,
					NULL),
		    0);
	CHECK_EQUAL(transport_post_send(world.endpoint[0], 1, 2, made[0],
					LIFE_BYTES, NULL),
		    0);
	if (round % 3 == 1) {
		CHECK_EQUAL(transport_cancel(world.endpoint[0], 1, 5 * SECOND),
			    0);
		CHECK_EQUAL(
			transport_release_region(world.endpoint[0], made[0]),
			0);
	} else if (round % 3 == 2) {
		transport_close(world.endpoint[1]);
		world.endpoint[1] = NULL;
		world_drive(&world, tallies, fails, NULL);
	}
	world_close(&world);
}

static void case_lives(const struct conformance_transport *transport)
{
	unsigned long pages_before;
	unsigned long pages;
	unsigned before;
	unsigned now;
	unsigned i;

	/* The first lives leave stacks of threads and the like for the next. */
	for (i = 0; i < 12; i++)
		live_once(transport, i);
	mappings_count(&before, &pages_before);
	for (i = 0; i < 30; i++)
		live_once(transport, i);
	mappings_count(&now, &pages);
	/*
	 * One mapping, or one page, a life would be 30. Sanitizers keep freed
	 * memory for a while, and say themselves what leaks.
	 */
	if (!SANITIZED) {
		CHECK(now < before + 10);
		CHECK(pages < pages_before + 30);
	}
}

/* Far more than may be registered at once, one after the other. */
static void case_registrations(const struct conformance_transport *transport)
{
	struct tally tallies[WORLD_MAX] = {0};
	struct transport_endpoint *endpoint;
	unsigned char *memory;
	unsigned char *other;
	unsigned long pinned;
	struct world world;
	unsigned i;

	world_up(&world, transport, 2);
	endpoint = world.endpoint[0];
	memory = malloc(3 * 8192);
	CHECK(memory);
	pinned = holdings_now().pinned_kb;
	for (i = 0; i < 3 * TRANSPORT_REGIONS_MAX; i++) {
		CHECK_EQUAL(transport_register(endpoint, memory + i % 3 * 8192,
					       8192),
			    0);
		if (i < 2)
			continue;
		CHECK_EQUAL(transport_deregister(endpoint,
						 memory + (i + 1) % 3 * 8192),
			    0);
	}
	/* Two are left, of three pages each at most. */
	CHECK(holdings_now().pinned_kb <= pinned + 24);
	other = region(world.endpoint[1], 8192);
	memory += (i - 1) % 3 * 8192;
	pattern_fill(memory, 8192, 5);
	CHECK_EQUAL(
		transport_post_recv(world.endpoint[1], 0, 1, other, 8192, NULL),
		0);
	CHECK_EQUAL(transport_post_send(endpoint, 1, 1, memory, 8192, NULL), 0);
	world_finish(&world, tallies, 0, 1, 1, 1);
	CHECK(pattern_holds(other, 8192, 5));
	memory -= (i - 1) % 3 * 8192;
	world_close(&world);
	free(memory);
	free(other);
}

const struct conformance_case conformance_leak_cases[] = {
	{"lives", case_lives},
	{"registrations", case_registrations},
	{NULL, NULL},
};
