#include "engine/partition.h"
#include "base/log.h"
#include "engine/partition_search.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static int check_counts(unsigned layers, unsigned stages)
{
	if (stages == 0 || stages > PARTITION_STAGES_MAX)
		return fail(-EINVAL, "stages must be between 1 and %d, not %u",
			    PARTITION_STAGES_MAX, stages);
	if (stages > layers)
		return fail(
			-EINVAL,
			"%u stages need at least %u layers, the model has %u, embedding and head included: use fewer --stages (or --chunks) or more --layers",
			stages, stages, layers);
	return 0;
}

/* ---- one stage a rank ---- */

/* The tables of one split: row s, column l: s + 1 stages hold 0 .. l. */
struct tables {
	const struct partition_problem *problem;
	double *prefix; /* [layers + 1] sums of the costs */
	double *best;   /* [stages][layers] */
	unsigned *cut;  /* [stages][layers]: where the last stage begins */
};

/* What is made least over all splits, and how two parts of a split combine. */
enum aim {
	AIM_SLOWEST,  /* the largest cost of a stage, under the cap */
	AIM_SQUARES,  /* sum of squared costs, none above a limit */
	AIM_HEAVIEST, /* the largest bytes of a rank */
};

static double rank_bytes(const struct partition_problem *problem,
			 unsigned stage, unsigned first, unsigned end)
{
	unsigned rank =
		problem->rank_of_stage ? problem->rank_of_stage[stage] : stage;

	return problem->bytes(problem->argument, stage, first, end) +
	       (problem->fixed_bytes ? problem->fixed_bytes[rank] : 0);
}

/*
 * Of a stage alone; infinite where it may not be. *hopeless: with more layers
 * it cannot become better than `least` either.
 */
static double value_of(const struct tables *tables, enum aim aim, double limit,
		       unsigned stage, unsigned first, unsigned end,
		       double least, bool *hopeless)
{
	const struct partition_problem *problem = tables->problem;
	double cost = tables->prefix[end] - tables->prefix[first];
	double value = aim == AIM_SQUARES ? cost * cost : cost;

	if (aim == AIM_HEAVIEST)
		value = rank_bytes(problem, stage, first, end);
	*hopeless = value > least || (aim == AIM_SQUARES && cost > limit);
	if (*hopeless || aim == AIM_HEAVIEST || !problem->bytes)
		return *hopeless ? INFINITY : value;
	*hopeless = rank_bytes(problem, stage, first, end) > problem->cap;
	return *hopeless ? INFINITY : value;
}

/*
 * Equal sums of squares come out different in the last digits, depending on the
 * order; the rest is compared as it is.
 */
static bool is_no_worse(enum aim aim, double value, double least)
{
	return value <= (aim == AIM_SQUARES ? least * (1 + 1e-12) : least);
}

static void fill_cell(struct tables *tables, enum aim aim, double limit,
		      unsigned stage, unsigned last)
{
	unsigned layers = tables->problem->layers;
	double least = INFINITY;
	unsigned where = stage;
	bool hopeless = false;

	/* Downwards, for the piece only grows; the first begins at layer 0. */
	for (unsigned begin = stage ? last + 1 : 1; begin-- > stage;) {
		double own = value_of(tables, aim, limit, stage, begin,
				      last + 1, least, &hopeless);
		double before = 0, value;

		if (hopeless)
			break;
		if (stage)
			before = tables->best[(stage - 1) * layers + begin - 1];
		value = aim == AIM_SQUARES ? before + own : MAX(before, own);
		if (value < INFINITY && is_no_worse(aim, value, least)) {
			least = value;
			where = begin;
		}
	}
	tables->best[stage * layers + last] = least;
	tables->cut[stage * layers + last] = where;
}

static double fill_tables(struct tables *tables, enum aim aim, double limit)
{
	unsigned layers = tables->problem->layers;
	unsigned stages = tables->problem->stages;

	for (unsigned stage = 0; stage < stages; stage++)
		for (unsigned last = stage; last < layers; last++)
			fill_cell(tables, aim, limit, stage, last);
	return tables->best[stages * layers - 1];
}

static void read_tables(const struct tables *tables, struct partition *out)
{
	unsigned layers = tables->problem->layers;
	unsigned stages = tables->problem->stages;

	out->stages = stages;
	out->first[stages] = layers;
	for (unsigned s = stages; s-- > 0;)
		out->first[s] = tables->cut[s * layers + out->first[s + 1] - 1];
}

static int find_single(struct tables *tables, struct partition *out,
		       struct partition_result *result)
{
	double slowest = fill_tables(tables, AIM_SLOWEST, INFINITY);

	*result = (struct partition_result){
		.slowest_rank = slowest,
		.slowest_stage = slowest,
		.exact = true,
	};
	if (slowest == INFINITY) {
		result->least_cap = fill_tables(tables, AIM_HEAVIEST, INFINITY);
		return -ENOSPC;
	}
	fill_tables(tables, AIM_SQUARES, slowest);
	read_tables(tables, out);
	return 0;
}

static bool is_single(const struct partition_problem *problem)
{
	if (!problem->rank_of_stage)
		return true;
	for (unsigned a = 0; a < problem->stages; a++)
		for (unsigned b = 0; b < a; b++)
			if (problem->rank_of_stage[a] ==
			    problem->rank_of_stage[b])
				return false;
	return true;
}

int partition_find(const struct partition_problem *problem,
		   struct partition *out, struct partition_result *result)
{
	unsigned layers = problem->layers, stages = problem->stages;
	struct tables tables = {.problem = problem};
	int rc = check_counts(layers, stages);

	if (rc)
		return rc;
	if (!is_single(problem))
		return partition_search(problem, out, result);
	tables.prefix = calloc(layers + 1, sizeof(*tables.prefix));
	tables.best = calloc((size_t)stages * layers, sizeof(*tables.best));
	tables.cut = calloc((size_t)stages * layers, sizeof(*tables.cut));
	if (tables.prefix && tables.best && tables.cut) {
		for (unsigned i = 0; i < layers; i++)
			tables.prefix[i + 1] =
				tables.prefix[i] + problem->costs[i];
		rc = find_single(&tables, out, result);
	} else {
		rc = fail(-ENOMEM, "no memory to split %u layers", layers);
	}
	free(tables.prefix);
	free(tables.best);
	free(tables.cut);
	return rc;
}

int partition_balance(const double *costs, unsigned layers, unsigned stages,
		      struct partition *out)
{
	struct partition_problem problem = {
		.layers = layers,
		.stages = stages,
		.costs = costs,
		.ranks = stages,
	};
	struct partition_result result;

	return partition_find(&problem, out, &result);
}

/* ---- as written ---- */

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
	unsigned stage = 0, end = partition->stages;

	while (end - stage > 1) {
		unsigned middle = stage + (end - stage) / 2;

		if (partition->first[middle] <= layer)
			stage = middle;
		else
			end = middle;
	}
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
