#include "engine/accumulator.h"
#include "base/log.h"
#include "model/kernels/elementwise.h"

#include <errno.h>

int accumulation_check(const struct accumulation *accumulation)
{
	unsigned groups = accumulation->groups;

	if (groups == 0 || (groups & (groups - 1)) || groups > 65536)
		return fail(-EINVAL,
			    "--gradient-groups must be a power of two, not %u",
			    groups);
	if (accumulation->micro_batches % groups)
		return fail(
			-EINVAL,
			"--gradient-groups %u does not divide --micro-batches %u",
			groups, accumulation->micro_batches);
	return 0;
}

unsigned accumulation_levels(const struct accumulation *accumulation)
{
	return (unsigned)__builtin_ctz(accumulation->groups) + 1;
}

static unsigned group_of(const struct accumulation *accumulation,
			 unsigned micro_batch)
{
	return micro_batch /
	       (accumulation->micro_batches / accumulation->groups);
}

unsigned accumulation_level(const struct accumulation *accumulation,
			    unsigned micro_batch)
{
	return (unsigned)__builtin_popcount(
		group_of(accumulation, micro_batch));
}

unsigned accumulation_merges(const struct accumulation *accumulation,
			     unsigned micro_batch)
{
	unsigned group = group_of(accumulation, micro_batch);

	if (micro_batch + 1 < accumulation->micro_batches &&
	    group_of(accumulation, micro_batch + 1) == group)
		return 0;
	return (unsigned)__builtin_ctz(~group);
}

void accumulator_merge(struct threads *threads,
		       const struct accumulation *accumulation,
		       unsigned micro_batch, const struct store_row *row)
{
	unsigned level = accumulation_level(accumulation, micro_batch);
	unsigned merges = accumulation_merges(accumulation, micro_batch);
	size_t count = row->parameter->count;

	for (; merges > 0; merges--, level--) {
		elementwise_accumulate(threads, count, row->accumulators[level],
				       row->accumulators[level - 1]);
		elementwise_zero(threads, count, row->accumulators[level]);
	}
}

void loss_sum_add(struct loss_sum *sum, const struct accumulation *accumulation,
		  unsigned micro_batch, double loss)
{
	unsigned level = accumulation_level(accumulation, micro_batch);
	unsigned merges = accumulation_merges(accumulation, micro_batch);

	sum->level[level] += loss;
	for (; merges > 0; merges--, level--) {
		sum->level[level - 1] += sum->level[level];
		sum->level[level] = 0;
	}
}
