/*
 * What this machine can do, measured beside what the program does: the limits
 * of `bench kernels` and `bench step`.
 */
#ifndef STAGECOACH_TOOLS_BENCH_LIMITS_H
#define STAGECOACH_TOOLS_BENCH_LIMITS_H

#include "base/compiler.h"
#include "base/threads.h"
#include "tools/options.h"

/* On how many threads, and how often: options of all that measures by limits. */
#define BENCH_LIMITS_ROUNDS_MAX 99
#define BENCH_TEAM_OPTIONS                                                     \
	{.name = "threads",                                                    \
	 .kind = OPTION_INTEGER,                                               \
	 .argument = "N",                                                      \
	 .minimum = 1,                                                         \
	 .maximum = THREADS_MAX,                                               \
	 .group = "How",                                                       \
	 .help = "default: one a core"},                                       \
	{                                                                      \
		.name = "rounds", .kind = OPTION_INTEGER, .argument = "N",     \
		.fallback = "5", .minimum = 1,                                 \
		.maximum = BENCH_LIMITS_ROUNDS_MAX,                            \
		.help = "medians of them are shown"                            \
	}

struct bench_limits {
	/* All threads of the team, each with a product of its own that is
	 * 768 x 3072 x 768, in one call of the library. GFLOP/s. */
	double products;
	double products_bfloat16; /* the same product of bfloat16 */
	/* Arrays far larger than the caches: read, and updated in place (read
	 * and written). GB/s of what moves. */
	double read;
	double update;
};

struct bench_limits_memory; /* operands and arrays; made once */

/* -ENOMEM, logged. Readies the team for products. */
int bench_limits_create(struct threads *team,
			struct bench_limits_memory **out) MUST_CHECK;
void bench_limits_destroy(struct bench_limits_memory *memory);

/*
 * GB/s at which the team reads `bytes` of memory, each thread a part of it:
 * what is longer than any cache, from end to end, some 0.1 s long.
 */
double bench_limits_read(struct threads *team, const void *memory,
			 size_t bytes);

/* Takes some 0.4 s. */
void bench_limits_measure(struct bench_limits_memory *memory,
			  struct bench_limits *out);

#endif
