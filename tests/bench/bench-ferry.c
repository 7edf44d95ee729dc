/*
 * How fast tensors pass between the root and a rank without files: the ferry
 * against the bare link, two messages of a piece's size under way, and against
 * filling and emptying the pieces alone. Runs alternate; medians of nine.
 *
 *   bench-ferry [MiB]     (default 256)
 */
#include "base/clock.h"
#include "base/log.h"
#include "base/numbers.h"
#include "base/text.h"
#include "engine/ferry.h"
#include "engine/launch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RUNS 9
#define ROOT 0u

struct bench {
	struct world *world;
	struct exchange *exchange;
	struct ferry *ferry;
	unsigned char *pieces; /* FERRY_BYTES, registered */
	unsigned char *tensor;
	uint64_t bytes;
};

static uint64_t item_bytes(const void *argument, size_t item)
{
	(void)item;
	return ((const struct bench *)argument)->bytes;
}

static int fill(void *argument, size_t item, uint64_t first, void *data,
		size_t bytes)
{
	const struct bench *bench = argument;

	(void)item;
	memcpy(data, bench->tensor + first, bytes);
	return 0;
}

static int empty(void *argument, size_t item, uint64_t first, void *data,
		 size_t bytes)
{
	const struct bench *bench = argument;

	(void)item;
	memcpy(bench->tensor + first, data, bytes);
	return 0;
}

static int by_ferry(struct bench *bench)
{
	bool sends = bench->world->rank != ROOT;
	struct ferry_cargo cargo = {.items = 1,
				    .bytes = item_bytes,
				    .move = sends ? fill : empty,
				    .argument = bench};

	return sends ? ferry_send(bench->ferry, ROOT, &cargo)
		     : ferry_receive(bench->ferry, 1, &cargo);
}

static struct message message_of(struct bench *bench, uint64_t number)
{
	return (struct message){
		.kind = MESSAGE_PIECE,
		.micro_batch = (uint16_t)number,
		.peer = 1 - bench->world->rank,
		.bytes = FERRY_PIECE_BYTES,
		.data = bench->pieces +
			number % FERRY_PIECES * FERRY_PIECE_BYTES,
	};
}

/* The same messages; nobody looks at what is in them. */
static int by_link(struct bench *bench)
{
	bool sends = bench->world->rank != ROOT, busy[FERRY_PIECES] = {false};
	struct message messages[FERRY_PIECES];
	uint64_t count = bench->bytes / FERRY_PIECE_BYTES;
	int rc = 0;

	for (uint64_t i = 0; !rc && i < FERRY_PIECES && !sends; i++) {
		messages[i] = message_of(bench, i);
		rc = exchange_expect(bench->exchange, &messages[i]);
	}
	for (uint64_t i = 0; !rc && i < count; i++) {
		struct message *message = &messages[i % FERRY_PIECES];

		if (sends) {
			*message = message_of(bench, i);
			rc = exchange_await_sent(bench->exchange,
						 &busy[i % FERRY_PIECES]);
			if (!rc)
				rc = exchange_send(bench->exchange, message,
						   message->data,
						   &busy[i % FERRY_PIECES]);
			continue;
		}
		rc = exchange_await_expected(bench->exchange, message);
		if (rc || i + FERRY_PIECES >= count)
			continue;
		*message = message_of(bench, i + FERRY_PIECES);
		rc = exchange_expect(bench->exchange, message);
	}
	return rc ? rc : exchange_flush(bench->exchange);
}

/* What the ends do with each piece, without a link between them. */
static int by_memory(struct bench *bench)
{
	for (uint64_t at = 0; at < bench->bytes; at += FERRY_PIECE_BYTES)
		memcpy(bench->pieces + at % FERRY_BYTES, bench->tensor + at,
		       FERRY_PIECE_BYTES);
	return 0;
}

static int measure(struct bench *bench, int (*run)(struct bench *bench),
		   double *rate)
{
	int64_t begin_ns;
	int rc = world_barrier(bench->world);

	begin_ns = clock_now_ns();
	if (!rc)
		rc = run(bench);
	if (!rc)
		rc = world_barrier(bench->world);
	*rate = (double)bench->bytes /
		clock_seconds(clock_now_ns() - begin_ns) / 1e9;
	return rc;
}

static int measure_all(struct bench *bench)
{
	double ferry[RUNS], link[RUNS], memory[RUNS];
	int rc = 0;

	for (unsigned i = 0; !rc && i < RUNS; i++) {
		rc = measure(bench, by_ferry, &ferry[i]);
		if (!rc)
			rc = measure(bench, by_link, &link[i]);
		if (!rc)
			rc = measure(bench, by_memory, &memory[i]);
	}
	if (rc)
		return rc;
	world_set_result(bench->world,
			 json_pack("{s:f, s:f, s:f}", "ferry",
				   numbers_median(ferry, RUNS), "link",
				   numbers_median(link, RUNS), "memory",
				   numbers_median(memory, RUNS)));
	return 0;
}

static int rank_work(struct world *world)
{
	static const unsigned char print[TRANSPORT_FINGERPRINT_BYTES];
	struct bench bench = {.world = world};
	unsigned peer = 1 - world->rank;
	void *memory = NULL;
	int rc = world_connect(world, &peer, 1, print);

	bench.bytes = (uint64_t)json_integer_value(
			      json_object_get(world->job, "pieces")) *
		      FERRY_PIECE_BYTES;
	bench.tensor = malloc(bench.bytes);
	if (!rc && !bench.tensor)
		rc = fail(-ENOMEM, "no memory for a tensor");
	if (!rc)
		rc = transport_create_region(world->endpoint, FERRY_BYTES,
					     &memory);
	if (!rc)
		rc = exchange_create(world, 2, NULL, NULL, &bench.exchange);
	if (!rc)
		rc = ferry_create(bench.exchange, memory, &bench.ferry);
	bench.pieces = memory;
	if (!rc) {
		memset(bench.tensor, 1, bench.bytes);
		rc = measure_all(&bench);
	}
	ferry_destroy(bench.ferry);
	exchange_destroy(bench.exchange);
	if (memory)
		(void)!transport_release_region(world->endpoint, memory);
	free(bench.tensor);
	return rc;
}

static int bench_one(const char *transport, const char *io, int64_t pieces)
{
	json_t *job = json_pack("{s:I}", "pieces", (json_int_t)pieces);
	struct launch launch = {.ranks = 2,
				.threads_per_rank = 1,
				.transport = transport,
				.io = io,
				.job = job,
				.rank_main = rank_work,
				.quiet = true};
	struct launch_result result;
	double ferry, link;
	int rc = launch_run(&launch, &result);

	ferry = json_number_value(json_object_get(result.done, "ferry"));
	link = json_number_value(json_object_get(result.done, "link"));
	if (!rc)
		printf("%-7s %-8s %8.2f %8.2f %8.2f %8.2f\n", transport, io,
		       ferry, link, ferry / link,
		       json_number_value(
			       json_object_get(result.done, "memory")));
	fflush(stdout);
	launch_result_fini(&result);
	json_decref(job);
	return rc;
}

int main(int count, char **arguments)
{
	static const char *const how[][2] = {
		{"inproc", "auto"}, {"tcp", "uring"}, {"tcp", "sockets"}};
	int64_t fd, pieces = 256;
	int rc = 0;

	if (count == 4 && strcmp(arguments[1], "rank") == 0)
		return text_parse_integer(arguments[3], 3, 1 << 20, &fd) < 0 ||
		       world_rank_main((int)fd, "", rank_work) < 0;
	if (count > 1 &&
	    text_parse_integer(arguments[1], FERRY_PIECES, 1 << 16, &pieces))
		return 2;
	printf("# one way, GB/s, median of %d: %d MiB in pieces of 1 MiB\n",
	       RUNS, (int)pieces);
	printf("#                   ferry     link    share   memory\n");
	for (size_t i = 0; i < ARRAY_SIZE(how); i++)
		rc |= bench_one(how[i][0], how[i][1], pieces);
	return rc ? 1 : 0;
}
