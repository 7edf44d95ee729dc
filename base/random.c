#include "base/random.h"

#include "base/math.h"

#define PHILOX_ROUNDS       10
#define PHILOX_MULTIPLIER_0 0xD2511F53u
#define PHILOX_MULTIPLIER_1 0xCD9E8D57u
#define PHILOX_WEYL_0       0x9E3779B9u /* golden ratio */
#define PHILOX_WEYL_1       0xBB67AE85u /* sqrt(3) - 1 */

/*
 * The high half of the counter keeps the uses of one key apart: number n of
 * random_normal() has nothing to do with number n of random_u64().
 */
enum random_use {
	USE_UNIFORM = 0,
	USE_NORMAL = 1,
	USE_PERMUTE = 2,
	USE_BELOW = 16, /* and up: one per rejected draw */
};

static uint64_t join(uint32_t low, uint32_t high)
{
	return (uint64_t)high << 32 | low;
}

void random_block(struct random_key key, uint64_t high, uint64_t low,
		  uint32_t out[4])
{
	uint32_t c0 = (uint32_t)low;
	uint32_t c1 = (uint32_t)(low >> 32);
	uint32_t c2 = (uint32_t)high;
	uint32_t c3 = (uint32_t)(high >> 32);
	uint32_t k0 = key.word[0];
	uint32_t k1 = key.word[1];
	int round;

	for (round = 0; round < PHILOX_ROUNDS; round++) {
		uint64_t p0 = (uint64_t)PHILOX_MULTIPLIER_0 * c0;
		uint64_t p1 = (uint64_t)PHILOX_MULTIPLIER_1 * c2;

		c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
		c1 = (uint32_t)p1;
		c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
		c3 = (uint32_t)p0;
		k0 += PHILOX_WEYL_0;
		k1 += PHILOX_WEYL_1;
	}
	out[0] = c0;
	out[1] = c1;
	out[2] = c2;
	out[3] = c3;
}

static struct random_key key_from_u64(uint64_t value)
{
	return (struct random_key){{(uint32_t)value, (uint32_t)(value >> 32)}};
}

/* FNV-1a spreads the name, Philox under the seed mixes it. */
struct random_key random_key_named(uint64_t seed, const char *name)
{
	uint64_t hash = 0xcbf29ce484222325ULL;
	uint64_t length = 0;
	uint32_t out[4];

	for (; name[length] != '\0'; length++) {
		hash ^= (unsigned char)name[length];
		hash *= 0x100000001b3ULL;
	}
	random_block(key_from_u64(seed), length, hash, out);
	return (struct random_key){{out[0], out[1]}};
}

struct random_key random_key_numbered(uint64_t seed, uint64_t a, uint64_t b,
				      uint64_t c)
{
	uint32_t out[4];

	random_block(key_from_u64(seed), a, b, out);
	random_block((struct random_key){{out[0], out[1]}},
		     join(out[2], out[3]), c, out);
	return (struct random_key){{out[0], out[1]}};
}

uint64_t random_u64(struct random_key key, uint64_t counter)
{
	uint32_t out[4];

	random_block(key, USE_UNIFORM, counter, out);
	return join(out[0], out[1]);
}

double random_uniform(struct random_key key, uint64_t counter)
{
	return (double)(random_u64(key, counter) >> 11) * 0x1p-53;
}

/* Numbers 2j and 2j + 1: the cosine and the sine of one Box-Muller pair. */
static void normal_pair(struct random_key key, uint64_t j, double z[2])
{
	uint32_t out[4];
	double radius;
	double angle;

	random_block(key, USE_NORMAL, j, out);
	/* (0, 1]: the logarithm stays finite. */
	radius = (double)((join(out[0], out[1]) >> 11) + 1) * 0x1p-53;
	radius = math_sqrt(-2.0 * math_log(radius));
	angle = 6.283185307179586 *
		((double)(join(out[2], out[3]) >> 11) * 0x1p-53);
	z[0] = radius * math_cos(angle);
	z[1] = radius * math_sin(angle);
}

void random_normal(struct random_key key, uint64_t first, size_t count,
		   float mean, float deviation, float *out)
{
	double z[2];
	size_t i;

	for (i = 0; i < count; i++) {
		uint64_t n = first + i;

		if (i == 0 || n % 2 == 0)
			normal_pair(key, n / 2, z);
		out[i] = (float)((double)mean + (double)deviation * z[n % 2]);
	}
}

/*
 * Lemire, "Fast random integer generation in an interval" (2019): the high
 * word of a product, drawing again where that would be biased.
 */
uint64_t random_below(struct random_key key, uint64_t counter, uint64_t bound)
{
	uint64_t threshold;
	uint64_t draw;

	ASSERT(bound > 0);
	threshold = (0 - bound) % bound;
	for (draw = USE_BELOW;; draw++) {
		unsigned __int128 product;
		uint32_t out[4];

		random_block(key, draw, counter, out);
		product = (unsigned __int128)join(out[0], out[1]) * bound;
		if ((uint64_t)product >= threshold)
			return (uint64_t)(product >> 64);
	}
}

static uint64_t feistel(struct random_key key, unsigned half_bits,
			uint64_t value)
{
	uint64_t mask = ((uint64_t)1 << half_bits) - 1;
	uint64_t left = value >> half_bits;
	uint64_t right = value & mask;
	uint64_t round;

	for (round = 0; round < 4; round++) {
		uint32_t out[4];
		uint64_t mixed;

		random_block(key, USE_PERMUTE | round << 32, right, out);
		mixed = left ^ (out[0] & mask);
		left = right;
		right = mixed;
	}
	return left << half_bits | right;
}

uint64_t random_permute(struct random_key key, uint64_t count,
			uint64_t position)
{
	unsigned half_bits = 1;

	ASSERT(count > 0 && position < count);
	while (half_bits < 32 && count > (uint64_t)1 << (2 * half_bits))
		half_bits++;
	/* The domain is at most four times count: four walks on average. */
	do {
		position = feistel(key, half_bits, position);
	} while (position >= count);
	return position;
}
