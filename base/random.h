/*
 * Counter-based random numbers: Philox4x32-10 (Salmon, Moraes, Dror, Shaw,
 * "Parallel random numbers: as easy as 1, 2, 3", SC 2011). A number is a pure
 * function of a key and a counter: there is no state to save, and nothing
 * depends on how the work is split.
 */
#ifndef STAGECOACH_BASE_RANDOM_H
#define STAGECOACH_BASE_RANDOM_H

#include "base/compiler.h"

struct random_key {
	uint32_t word[2];
};

/* A key from a seed and a name ("transformer.wte.weight", "data", ...). */
struct random_key random_key_named(uint64_t seed, const char *name);

/* A key from a seed and up to three numbers (step, layer, site). */
struct random_key random_key_numbered(uint64_t seed, uint64_t a, uint64_t b,
				      uint64_t c);

/* Four independent 32-bit words for the 128-bit counter {high, low}. */
void random_block(struct random_key key, uint64_t high, uint64_t low,
		  uint32_t out[4]);

/* 64 uniform bits, and a uniform double in [0, 1) with 53 bits. */
uint64_t random_u64(struct random_key key, uint64_t counter);
double random_uniform(struct random_key key, uint64_t counter);

/*
 * out[i] = mean + deviation * z(first + i), z standard normal (Box-Muller on
 * base/math.h, hence the same bits everywhere). Pure in (key, first + i).
 */
void random_normal(struct random_key key, uint64_t first, size_t count,
		   float mean, float deviation, float *out);

/* Uniform in [0, bound) without bias; bound > 0. */
uint64_t random_below(struct random_key key, uint64_t counter, uint64_t bound);

/*
 * A permutation of [0, count): position -> index, by a four-round Feistel
 * network with cycle walking. Bijective for every key. count > 0.
 */
uint64_t random_permute(struct random_key key, uint64_t count,
			uint64_t position);

#endif
