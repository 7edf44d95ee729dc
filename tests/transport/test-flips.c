/*
 * 10,000 single bits flipped on the wire, at seeded places of headers, payloads
 * and handshakes, under a relay between the two sockets: each is noticed, and
 * nobody is ever given bytes that were not sent. The control: without
 * checksums, flips in payloads do arrive.
 */
#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/random.h"
#include "tests/transport/flips.h"

#define KEYED_FLIPS     400u
#define KEYED_HANDSHAKE 800u
#define KEYED_STREAM    600u
#define FLIPS           10000u
#define WORKERS         4u /* a life of a link is mostly waiting */

static uint32_t next_epoch;

/* Half in payloads; few in handshakes, since meeting again takes a moment. */
static uint64_t draw_position(struct random_key key, uint64_t trial,
			      bool payload)
{
	uint64_t counter = trial << 16;
	uint64_t at;

	if (!payload && random_below(key, counter++, 32) == 0)
		return random_below(key, counter, FLIPS_HELLO_BYTES);
	do {
		at = FLIPS_HELLO_BYTES +
		     random_below(key, counter++,
				  FLIPS_STREAM_BYTES - FLIPS_HELLO_BYTES);
	} while (payload && !flips_is_payload(at));
	return at;
}

static _Noreturn void give_up(const char *what, uint64_t trial,
			      const char *kind)
{
	fprintf(stderr, "# trial %" PRIu64 ", %s\n", trial, kind);
	check_failed(what, __FILE__, __LINE__);
}

/* Of a link with a key, whose handshake is longer and differs in length. */
static uint64_t draw_keyed(struct random_key key, uint64_t trial)
{
	return random_below(key, trial << 16, 8)
		       ? KEYED_HANDSHAKE + random_below(key, (trial << 16) + 1,
							KEYED_STREAM)
		       : random_below(key, (trial << 16) + 1, KEYED_HANDSHAKE);
}

/* Until `flips` bits were flipped; of those how many arrived unnoticed. */
static unsigned flip_many(const char *io, enum transport_wire wire,
			  uint64_t seed, unsigned flips, bool checksum)
{
	struct random_key key = random_key_named(seed, "flips");
	struct conformance_transport transport = {
		.name = "flips",
		.io = io,
		.wire = wire,
	};
	bool keyed = wire > TRANSPORT_WIRE_CHECKED;
	struct flips_outcome outcome;
	unsigned handshakes = 0;
	unsigned happened = 0;
	unsigned wrong = 0;
	int64_t start = clock_now_ns();
	uint64_t trial;
	char kind[160];

	for (trial = 0; happened < flips; trial++) {
		CHECK(trial < 4 * (uint64_t)flips);
		snprintf(kind, sizeof(kind),
			 "fault:tcp:seed=%" PRIu64 ",level=wire,links=%s,"
			 "corrupt=after:%" PRIu64,
			 seed + trial, trial & 1 ? "0>1" : "1>0",
			 keyed ? draw_keyed(key, trial)
			       : draw_position(key, trial, !checksum));
		transport.kind = kind;
		outcome = flips_try(&transport, next_epoch++, checksum);
		happened += outcome.flips;
		wrong += outcome.wrong;
		handshakes += !outcome.met || outcome.connections > 1;
		if (!checksum)
			continue;
		if (outcome.flips && flips_unnoticed(&outcome))
			give_up("nobody noticed", trial, kind);
		if (outcome.wrong)
			give_up("wrong bytes were received", trial, kind);
	}
	printf("# %s: %u flips, %u of them in handshakes, %.1f s\n", io,
	       happened, handshakes, clock_seconds(clock_now_ns() - start));
	return wrong;
}

/* In processes of their own; none of them ends in good health otherwise. */
static void flip_at_once(const char *io, enum transport_wire wire,
			 uint64_t seed, unsigned flips)
{
	pid_t workers[WORKERS];
	unsigned i;
	int status;

	fflush(stdout);
	for (i = 0; i < WORKERS; i++) {
		workers[i] = fork();
		assert_true(workers[i] >= 0);
		if (workers[i] == 0) {
			CHECK_EQUAL(flip_many(io, wire, seed + i * FLIPS * 2ull,
					      flips / WORKERS, true),
				    0);
			fflush(stdout);
			_exit(0);
		}
	}
	for (i = 0; i < WORKERS; i++) {
		assert_int_equal(waitpid(workers[i], &status, 0), workers[i]);
		assert_int_equal(status, 0);
	}
}

static void skip_without_uring(void)
{
	if (syscall(SYS_io_uring_setup, 1, NULL) < 0 && errno != EFAULT) {
		printf("# the kernel refuses io_uring (%s)\n", strerror(errno));
		skip();
	}
}

static void test_sockets(void **state)
{
	(void)state;
	flip_at_once("sockets", TRANSPORT_WIRE_CHECKED, 1, FLIPS - FLIPS / 5);
}

static void test_uring(void **state)
{
	(void)state;
	skip_without_uring();
	flip_at_once("uring", TRANSPORT_WIRE_CHECKED, 1000000, FLIPS / 5);
}

static void test_authentic(void **state)
{
	(void)state;
	flip_at_once("sockets", TRANSPORT_WIRE_AUTHENTIC, 2000000, KEYED_FLIPS);
}

static void test_encrypted(void **state)
{
	(void)state;
	flip_at_once("sockets", TRANSPORT_WIRE_ENCRYPTED, 3000000, KEYED_FLIPS);
}

/* The control: it does flip, and only the checksum stands in its way. */
static void test_without_checksum(void **state)
{
	(void)state;
	assert_int_equal(
		flip_many("sockets", TRANSPORT_WIRE_CHECKED, 7, 200, false),
		200);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sockets),
		cmocka_unit_test(test_uring),
		cmocka_unit_test(test_authentic),
		cmocka_unit_test(test_encrypted),
		cmocka_unit_test(test_without_checksum),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
