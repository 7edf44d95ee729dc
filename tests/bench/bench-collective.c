/*
 * How long the slices of a layer take to sum an array: microseconds a call,
 * median of all and the shortest, and beside it what one rank's copying and
 * adding takes without a link between.
 *
 *   bench-collective [SLICES]     (default 2)
 */
#include "base/clock.h"
#include "base/log.h"
#include "base/numbers.h"
#include "base/text.h"
#include "engine/collective.h"
#include "engine/launch.h"
#include "model/kernels/elementwise.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SLICES_MAX 16
#define RUNS_MAX   400

static const size_t sizes[] = {4u << 10,   16u << 10, 64u << 10,
			       256u << 10, 1u << 20,  8u << 20};
#define LARGEST sizes[ARRAY_SIZE(sizes) - 1]

struct bench {
	struct world *world;
	struct route route;
	struct exchange *exchange;
	struct collective *collective;
	float *values, *others;
};

static unsigned runs_of(size_t bytes)
{
	return bytes > 256u << 10 ? 40 : RUNS_MAX;
}

static void by_links(struct bench *bench, size_t count)
{
	const struct layer_collectives *layers =
		collective_layers(bench->collective);

	layers->sum(layers->argument, bench->values, count);
}

static void by_memory(struct bench *bench, size_t count)
{
	elementwise_copy(bench->world->team, count, bench->values,
			 bench->others);
	elementwise_accumulate(bench->world->team, count, bench->others,
			       bench->values);
}

static json_t *measure(struct bench *bench, size_t bytes,
		       void (*call)(struct bench *bench, size_t count))
{
	double times[RUNS_MAX], shortest = 1e9;
	unsigned runs = runs_of(bytes);

	for (unsigned i = 0; i < runs; i++) {
		int64_t begin_ns = clock_now_ns();

		call(bench, bytes / sizeof(float));
		times[i] = (double)(clock_now_ns() - begin_ns) / 1e3;
		shortest = MIN(shortest, times[i]);
	}
	return json_pack("[f, f]", numbers_median(times, runs), shortest);
}

static int measure_all(struct bench *bench)
{
	json_t *result = json_array();
	int rc = exchange_begin(bench->exchange, &bench->route, 0);

	collective_begin(bench->collective);
	for (size_t i = 0; !rc && i < ARRAY_SIZE(sizes); i++) {
		rc = world_barrier(bench->world);
		json_array_append_new(result,
				      measure(bench, sizes[i], by_links));
		json_array_append_new(result,
				      measure(bench, sizes[i], by_memory));
		if (!rc)
			rc = exchange_error(bench->exchange);
	}
	world_set_result(bench->world, result);
	return rc;
}

static int rank_work(struct world *world)
{
	static const unsigned char print[TRANSPORT_FINGERPRINT_BYTES];
	struct bench bench = {.world = world};
	struct collective_config config = {.threads = world->team,
					   .slices = world->size,
					   .slice = world->rank};
	unsigned peers[SLICES_MAX], count = 0;
	int rc;

	for (unsigned r = 0; r < world->size; r++)
		if (r != world->rank)
			peers[count++] = r;
	rc = world_connect(world, peers, count, print);
	bench.values = calloc(1, LARGEST);
	bench.others = calloc(1, LARGEST);
	if (!rc && (!bench.values || !bench.others))
		rc = fail(-ENOMEM, "no memory for values");
	if (!rc)
		rc = transport_create_region(
			world->endpoint, collective_region_bytes(world->size),
			&config.memory);
	if (!rc)
		rc = exchange_create(world, 2, NULL, NULL, &bench.exchange);
	config.exchange = bench.exchange;
	if (!rc)
		rc = collective_create(&config, &bench.collective);
	if (!rc)
		rc = measure_all(&bench);
	if (!rc)
		rc = world_barrier(world);
	collective_destroy(bench.collective);
	exchange_destroy(bench.exchange);
	if (config.memory)
		(void)!transport_release_region(world->endpoint, config.memory);
	free(bench.values);
	free(bench.others);
	return rc;
}

static double number_at(const json_t *results, size_t i, size_t which)
{
	return json_number_value(
		json_array_get(json_array_get(results, i), which));
}

static int bench_one(const char *transport, int64_t slices)
{
	json_t *job = json_object();
	struct launch launch = {.ranks = (unsigned)slices,
				.threads_per_rank = 1,
				.transport = transport,
				.io = "auto",
				.job = job,
				.rank_main = rank_work,
				.quiet = true};
	struct launch_result result;
	int rc = launch_run(&launch, &result);

	for (size_t i = 0; !rc && i < ARRAY_SIZE(sizes); i++)
		printf("%-7s %8zu %10.1f %10.1f %10.1f\n", transport,
		       sizes[i] >> 10, number_at(result.done, 2 * i, 0),
		       number_at(result.done, 2 * i, 1),
		       number_at(result.done, 2 * i + 1, 0));
	fflush(stdout);
	launch_result_fini(&result);
	json_decref(job);
	return rc;
}

int main(int count, char **arguments)
{
	static const char *const transports[] = {"inproc", "shm", "tcp"};
	int64_t fd, slices = 2;
	int rc = 0;

	if (count == 4 && strcmp(arguments[1], "rank") == 0)
		return text_parse_integer(arguments[3], 3, 1 << 20, &fd) < 0 ||
		       world_rank_main((int)fd, "", rank_work) < 0;
	if (count > 1 &&
	    text_parse_integer(arguments[1], 2, SLICES_MAX, &slices))
		return 2;
	printf("# a sum over %d slices, microseconds\n", (int)slices);
	printf("#            KiB     median   shortest     memory\n");
	for (size_t i = 0; i < ARRAY_SIZE(transports); i++)
		rc |= bench_one(transports[i], slices);
	return rc ? 1 : 0;
}
