#include "model/kernels/dropout.h"
#include "model/kernels/values.h"

#include <string.h>

/* Words that one group of blocks makes, and blocks of a group. */
#define GROUP        64
#define GROUP_BLOCKS 16

/* Rows of one task. */
#define ROWS 16

/* Channels whose words stand in a thread's stack at once. */
#define STRIP 1024

struct random_key dropout_key(uint64_t seed, uint64_t step, uint32_t layer,
			      uint32_t site)
{
	/* "drop": apart from whatever else is keyed by three numbers. */
	return random_key_numbered(seed, step, layer,
				   0x64726f7000000000ULL | site);
}

/*
 * Philox4x32-10 (see base/random.h) for GROUP_BLOCKS consecutive counters at
 * once: out[w * 16 + b] is word w of block low + b. low + 15 stays within its
 * lower 32 bits, since low is a multiple of 16.
 *
 * Words stand in 64 bits each, the upper half without meaning: a product's
 * halves then need no shuffling, only a shift.
 */
VECTOR_INLINE void philox_group(struct random_key key, uint64_t high,
				uint64_t low, uint32_t *restrict out)
{
	for (size_t b = 0; b < GROUP_BLOCKS; b++) {
		uint64_t x0 = low + b, x1 = low >> 32;
		uint64_t x2 = high, x3 = high >> 32;
		uint32_t key0 = key.word[0], key1 = key.word[1];

#pragma GCC unroll 10
		for (int round = 0; round < 10; round++) {
			uint64_t p0 = (x0 & 0xffffffff) * 0xD2511F53u;
			uint64_t p1 = (x2 & 0xffffffff) * 0xCD9E8D57u;

			x0 = (p1 >> 32) ^ x1 ^ key0;
			x1 = p1;
			x2 = (p0 >> 32) ^ x3 ^ key1;
			x3 = p0;
			key0 += 0x9E3779B9u;
			key1 += 0xBB67AE85u;
		}
		out[b] = (uint32_t)x0;
		out[GROUP_BLOCKS + b] = (uint32_t)x1;
		out[2 * GROUP_BLOCKS + b] = (uint32_t)x2;
		out[3 * GROUP_BLOCKS + b] = (uint32_t)x3;
	}
}

/* AVX2 has no 64-bit product, and scalar code beats what stands in for it. */
KERNEL_CLONES_AVX512 static void philox_groups(struct random_key key,
					       uint64_t high, uint64_t low,
					       size_t groups,
					       uint32_t *restrict out)
{
	for (size_t group = 0; group < groups; group++)
		philox_group(key, high, low + group * GROUP_BLOCKS,
			     out + group * GROUP);
}

void dropout_words(struct random_key key, uint64_t sample_id,
		   uint64_t coordinate, size_t first, size_t count,
		   uint32_t *out)
{
	uint64_t row = coordinate << 24;

	while (count != 0) {
		uint64_t low = row | (first / GROUP * GROUP_BLOCKS);
		size_t skip = first % GROUP;
		size_t take;

		if (skip == 0 && count >= GROUP) {
			take = count / GROUP * GROUP;
			philox_groups(key, sample_id, low, take / GROUP, out);
		} else {
			uint32_t words[GROUP];

			take = MIN(GROUP - skip, count);
			philox_groups(key, sample_id, low, 1, words);
			memcpy(out, words + skip, take * sizeof(*out));
		}
		first += take;
		count -= take;
		out += take;
	}
}

VECTOR_INLINE void mask(enum element_type type, size_t count,
			uint32_t threshold, float scale, const uint32_t *words,
			const void *in, void *out)
{
	VECTOR_LOOP
	for (size_t i = 0; i < count; i++) {
		float kept = value_load(type, in, i) * scale;

		value_store(type, out, i, words[i] >= threshold ? kept : 0.0f);
	}
}

KERNEL_CLONES static void mask_floats(size_t count, uint32_t threshold,
				      float scale, const uint32_t *words,
				      const void *in, void *out)
{
	mask(ELEMENT_F32, count, threshold, scale, words, in, out);
}

KERNEL_CLONES static void mask_bfloat16(size_t count, uint32_t threshold,
					float scale, const uint32_t *words,
					const void *in, void *out)
{
	mask(ELEMENT_BF16, count, threshold, scale, words, in, out);
}

VECTOR_INLINE void mask_add(enum element_type type, size_t count,
			    uint32_t threshold, float scale,
			    const uint32_t *words, const void *x, const void *p,
			    void *y)
{
	VECTOR_LOOP
	for (size_t i = 0; i < count; i++) {
		float kept = value_load(type, p, i) * scale;

		value_store(type, y, i,
			    value_load(type, x, i) +
				    (words[i] >= threshold ? kept : 0.0f));
	}
}

KERNEL_CLONES static void mask_add_floats(size_t count, uint32_t threshold,
					  float scale, const uint32_t *words,
					  const void *x, const void *p, void *y)
{
	mask_add(ELEMENT_F32, count, threshold, scale, words, x, p, y);
}

KERNEL_CLONES static void mask_add_bfloat16(size_t count, uint32_t threshold,
					    float scale, const uint32_t *words,
					    const void *x, const void *p,
					    void *y)
{
	mask_add(ELEMENT_BF16, count, threshold, scale, words, x, p, y);
}

struct dropout_work {
	enum element_type type;
	const struct dropout *dropout;
	size_t rows;
	size_t channels;
	const void *residual; /* NULL: none is added */
	const void *in;
	void *out;
};

/* `count` values from `at` on, whose words are at hand. */
static void dropout_strip(const struct dropout_work *work, size_t at,
			  size_t count, const uint32_t *words)
{
	uint32_t threshold = dropout_threshold(work->dropout->probability);
	float scale = dropout_scale(work->dropout->probability);
	bool narrow = work->type == ELEMENT_BF16;
	const void *in = values_at(work->type, work->in, at);
	void *out = values_at_mutable(work->type, work->out, at);

	if (work->residual != NULL)
		(narrow ? mask_add_bfloat16 : mask_add_floats)(
			count, threshold, scale, words,
			values_at(work->type, work->residual, at), in, out);
	else
		(narrow ? mask_bfloat16 : mask_floats)(count, threshold, scale,
						       words, in, out);
}

static void dropout_row(const struct dropout_work *work, size_t row)
{
	const struct dropout *dropout = work->dropout;
	uint64_t sample = dropout->sample_ids[row / dropout->rows_per_sample];
	uint64_t coordinate =
		dropout->position_offset + row % dropout->rows_per_sample;
	uint32_t words[STRIP];

	for (size_t first = 0; first < work->channels; first += STRIP) {
		size_t count = MIN((size_t)STRIP, work->channels - first);

		dropout_words(dropout->key, sample, coordinate, first, count,
			      words);
		dropout_strip(work, row * work->channels + first, count, words);
	}
}

static void dropout_task(void *argument, size_t index, unsigned thread)
{
	const struct dropout_work *work = argument;
	size_t first = index * ROWS;
	size_t end = MIN(work->rows, first + ROWS);

	(void)thread;
	for (size_t row = first; row < end; row++)
		dropout_row(work, row);
}

static bool is_identity(const struct dropout *dropout)
{
	return dropout == NULL || dropout->probability == 0.0f;
}

void dropout_apply(struct threads *threads, enum element_type type,
		   const struct dropout *dropout, size_t rows, size_t channels,
		   const void *in, void *out)
{
	struct dropout_work work = {type, dropout, rows, channels,
				    NULL, in,      out};

	if (is_identity(dropout))
		values_copy(threads, type, rows * channels, in, out);
	else
		threads_run(threads, (rows + ROWS - 1) / ROWS, dropout_task,
			    &work);
}

void dropout_residual_add(struct threads *threads, enum element_type type,
			  const struct dropout *dropout, size_t rows,
			  size_t channels, const void *x, const void *p,
			  void *y)
{
	struct dropout_work work = {type, dropout, rows, channels, x, p, y};

	if (is_identity(dropout))
		values_add(threads, type, rows * channels, x, p, y);
	else
		threads_run(threads, (rows + ROWS - 1) / ROWS, dropout_task,
			    &work);
}
