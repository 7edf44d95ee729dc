#include "engine/partition.h"
#include "base/log.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static int check_counts(unsigned layers, unsigned stages)
{
	unsigned blocks = layers > 2 ? layers - 2 : 0;

	if (stages == 0 || stages > PARTITION_STAGES_MAX)
		return fail(-EINVAL, "stages must be between 1 and %d, not %u",
			    PARTITION_STAGES_MAX, stages);
	if (stages > blocks && stages > 1)
		return fail(
			-EINVAL,
			"%u stages need at least %u layers, the model has %u: use fewer --stages (or --chunks) or more --layers",
			stages, stages, blocks);
	return 0;
}

/*
 * best[s][l]: the least possible cost of the costliest of s + 1 stages that
 * hold layers 0 .. l; cut[s][l]: where the last of them begins.
 */
static void fill_tables(const double *prefix, unsigned layers, unsigned stages,
			double *best, unsigned *cut)
{
	for (unsigned last = 0; last < layers; last++)
		best[last] = prefix[last + 1];
	for (unsigned s = 1; s < stages; s++) {
		for (unsigned last = s; last < layers; last++) {
			double least = INFINITY;
			unsigned where = s;

			for (unsigned begin = s; begin <= last; begin++) {
				double before =
					best[(s - 1) * layers + begin - 1];
				double own = prefix[last + 1] - prefix[begin];
				double worst = MAX(before, own);

				if (worst < least) {
					least = worst;
					where = begin;
				}
			}
			best[s * layers + last] = least;
			cut[s * layers + last] = where;
		}
	}
}

int partition_balance(const double *costs, unsigned layers, unsigned stages,
		      struct partition *out)
{
	double *prefix, *best;
	unsigned *cut;
	int rc = check_counts(layers, stages);

	if (rc)
		return rc;
	prefix = calloc(layers + 1, sizeof(*prefix));
	best = calloc((size_t)stages * layers, sizeof(*best));
	cut = calloc((size_t)stages * layers, sizeof(*cut));
	if (!prefix || !best || !cut) {
		rc = fail(-ENOMEM, "no memory to split %u layers", layers);
		goto out;
	}
	for (unsigned i = 0; i < layers; i++)
		prefix[i + 1] = prefix[i] + costs[i];
	fill_tables(prefix, layers, stages, best, cut);
	out->stages = stages;
	out->first[stages] = layers;
	for (unsigned s = stages; s-- > 0;)
		out->first[s] = s ? cut[s * layers + out->first[s + 1] - 1] : 0;
out:
	free(prefix);
	free(best);
	free(cut);
	return rc;
}

int partition_explicit(const int64_t *blocks, size_t count, unsigned layers,
		       unsigned stages, struct partition *out)
{
	unsigned total = layers > 2 ? layers - 2 : 0;
	int64_t sum = 0;
	int rc = check_counts(layers, stages);

	if (rc)
		return rc;
	if (count != stages)
		return fail(
			-EINVAL,
			"--split names %zu stages, but there are %u (stages x chunks)",
			count, stages);
	for (size_t s = 0; s < count; s++) {
		/* The embedding or the head alone is a stage; nothing is not.*/
		if (blocks[s] < (s == 0 || s + 1 == count ? 0 : 1))
			return fail(
				-EINVAL,
				"--split: stage %zu would hold %lld layers; each stage between the first and the last needs at least 1",
				s, (long long)blocks[s]);
		if (blocks[s] > total)
			return fail(
				-EINVAL,
				"--split: stage %zu would hold %lld layers, the model has %u",
				s, (long long)blocks[s], total);
		sum += blocks[s];
	}
	if (sum != total)
		return fail(-EINVAL,
			    "--split adds up to %lld layers, the model has %u",
			    (long long)sum, total);
	out->stages = stages;
	out->first[0] = 0;
	for (unsigned s = 0; s < stages; s++)
		out->first[s + 1] =
			out->first[s] + (unsigned)blocks[s] + (s == 0 ? 1 : 0);
	out->first[stages] = layers;
	return 0;
}

unsigned partition_stage_of(const struct partition *partition, unsigned layer)
{
	unsigned stage = 0;

	while (stage + 1 < partition->stages &&
	       partition->first[stage + 1] <= layer)
		stage++;
	return stage;
}

char *partition_text(const struct partition *partition, char *buffer,
		     size_t size)
{
	size_t used = 0;

	buffer[0] = '\0';
	for (unsigned s = 0; s < partition->stages && used < size; s++) {
		unsigned held = partition->first[s + 1] - partition->first[s];

		held -= s == 0;
		held -= s + 1 == partition->stages;
		used += (size_t)snprintf(buffer + used, size - used, "%s%u",
					 s ? "," : "", held);
	}
	return buffer;
}
