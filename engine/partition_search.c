/*
 * Splits for ranks with several stages: branch and bound.
 *
 * A search asks whether there is a split under three limits (time of a rank,
 * time of a stage, bytes of a rank), laying stage after stage and beginning
 * with the length that would be even. It turns back where what is left cannot
 * find room any more, by its time or by its number of layers; the second
 * settles models of equal blocks at once, where the first leaves a gap
 * because blocks are not cut. What has failed is remembered. Each limit in
 * turn is then halved down to the least that can be met.
 */
#include "engine/partition_search.h"
#include "base/log.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Steps of one question: some hundredths of a second. */
#define NODES_MAX 30000u
/* A difference smaller than this is none; or is not worth another question
 * once one has gone unanswered. */
#define TOLERANCE       1e-9
#define ROUGH_TOLERANCE 1e-3
/* Failures remembered: a power of two. */
#define MEMORY_SLOTS (1u << 20)
#define HALVINGS     64u

enum answer {
	ANSWER_NO,
	ANSWER_YES,
	ANSWER_UNKNOWN, /* gave up */
};

enum limit {
	LIMIT_RANK,
	LIMIT_STAGE,
	LIMIT_BYTES,
	LIMIT_COUNT,
};

/* What of a rank is laid, and what is still to be. */
struct room {
	double time;
	double bytes;
	double least_bytes; /* of the stages still to come, a layer each */
	unsigned stages;    /* still to come */
};

struct search {
	const struct partition_problem *problem;
	double limits[LIMIT_COUNT];
	double *prefix;   /* [layers + 1] sums of the costs */
	double *cheapest; /* [layers] of the inner layers from there on */
	/* Bytes of a stage with one layer, and of each further inner one. */
	double *least_bytes; /* [stages] */
	double *more_bytes;  /* [stages]; 0: they differ, nothing is known */
	struct room *rooms;  /* [ranks] */
	unsigned *first;     /* [stages + 1] the split under way */
	double costliest;    /* layer */
	unsigned nodes;      /* left, of this question */
	uint64_t *failed;    /* [MEMORY_SLOTS] digests; 0: free */
	size_t failures;
	uint64_t question; /* sets the failures of each apart */
};

static unsigned last_layer(const struct search *search)
{
	return search->problem->layers - 1;
}

static unsigned rank_of(const struct search *search, unsigned stage)
{
	return search->problem->rank_of_stage[stage];
}

static double cost(const struct search *search, unsigned first, unsigned end)
{
	return search->prefix[end] - search->prefix[first];
}

static double stage_bytes(const struct search *search, unsigned stage,
			  unsigned first, unsigned end)
{
	const struct partition_problem *problem = search->problem;

	return problem->bytes
		       ? problem->bytes(problem->argument, stage, first, end)
		       : 0;
}

/* ---- bounds ---- */

/* What the ends of the model take for certain of a rank still to be laid. */
struct reserve {
	double time;
	unsigned stages; /* that need no inner layer */
};

static struct reserve reserve_of(const struct search *search, unsigned rank,
				 unsigned stage)
{
	unsigned stages = search->problem->stages;
	struct reserve reserve = {0};

	if (rank_of(search, stages - 1) == rank) {
		reserve.time += search->problem->costs[last_layer(search)];
		reserve.stages++;
	}
	if (stage == 0 && rank_of(search, 0) == rank) {
		reserve.time += search->problem->costs[0];
		reserve.stages++;
	}
	return reserve;
}

/*
 * Inner layers a rank has room for by its bytes; inner_stages of its stages
 * must have one, and are counted with it.
 */
static double layers_by_bytes(const struct search *search, unsigned rank,
			      unsigned stage, double inner_stages, double most)
{
	const struct room *room = &search->rooms[rank];
	double free_bytes =
		search->limits[LIMIT_BYTES] - room->bytes - room->least_bytes;
	double more = INFINITY;

	if (search->limits[LIMIT_BYTES] == INFINITY)
		return most;
	if (free_bytes < 0)
		return -1;
	for (unsigned s = stage; s < search->problem->stages; s++)
		if (rank_of(search, s) == rank)
			more = MIN(more, search->more_bytes[s]);
	if (!(more > 0))
		return most;
	return MIN(most, floor(free_bytes / more) + inner_stages);
}

/*
 * How much a rank can still take of what lies between the ends: as time, and
 * as a number of layers none of which takes less than `cheapest`. False: not
 * even what it must.
 */
static bool rank_has_room(const struct search *search, unsigned rank,
			  unsigned stage, double cheapest, double *time,
			  double *layers)
{
	const struct room *room = &search->rooms[rank];
	struct reserve reserve = reserve_of(search, rank, stage);
	double inner_stages = (double)room->stages - reserve.stages;
	double most = last_layer(search), by_stage;

	*time = search->limits[LIMIT_RANK] - room->time - reserve.time;
	by_stage = search->limits[LIMIT_STAGE] * room->stages - reserve.time;
	*time = MIN(*time, by_stage);
	if (*time < 0)
		return false;
	if (cheapest > 0) {
		double each = floor(search->limits[LIMIT_STAGE] / cheapest +
				    TOLERANCE);

		most = MIN(most, floor(*time / cheapest + TOLERANCE));
		most = MIN(most, each * room->stages);
	}
	*layers = layers_by_bytes(search, rank, stage, inner_stages, most);
	return *layers >= inner_stages;
}

/* May there be a way to lay the stages from `stage` on, from layer `at`? */
static bool is_hopeful(const struct search *search, unsigned stage, unsigned at)
{
	unsigned inner = MAX(at, 1u), end = last_layer(search);
	double cheapest = inner < end ? search->cheapest[inner] : 0;
	double time = 0, layers = 0;

	if (search->costliest > search->limits[LIMIT_STAGE] ||
	    search->costliest > search->limits[LIMIT_RANK])
		return false;
	for (unsigned r = 0; r < search->problem->ranks; r++) {
		double more_time, more_layers;

		if (search->rooms[r].stages == 0)
			continue;
		if (!rank_has_room(search, r, stage, cheapest, &more_time,
				   &more_layers))
			return false;
		time += more_time;
		layers += more_layers;
	}
	if (inner >= end)
		return true;
	return time * (1 + TOLERANCE) >= cost(search, inner, end) &&
	       layers >= end - inner;
}

/* ---- failures ---- */

static uint64_t mix(uint64_t digest, uint64_t value)
{
	digest = (digest ^ value) * 0x9e3779b97f4a7c15u;
	return digest ^ digest >> 29;
}

/* Sums that differ by rounding alone are the same. */
static uint64_t rounded(double value, double unit)
{
	return unit > 0 && unit < INFINITY
		       ? (uint64_t)llrint(value / unit * 1e9)
		       : 0;
}

static uint64_t digest_of(const struct search *search, unsigned stage,
			  unsigned at)
{
	double time_unit = search->prefix[search->problem->layers];
	uint64_t digest = mix(mix(mix(1, search->question), stage), at);

	for (unsigned r = 0; r < search->problem->ranks; r++) {
		const struct room *room = &search->rooms[r];

		if (room->stages == 0)
			continue;
		digest = mix(digest, rounded(room->time, time_unit));
		digest = mix(digest, (uint64_t)llrint(room->bytes));
	}
	return digest ? digest : 1;
}

/* The slot of this digest, or the free one where it would stand. */
static uint64_t *find_slot(const struct search *search, uint64_t digest)
{
	size_t at = digest % MEMORY_SLOTS;

	while (search->failed[at] && search->failed[at] != digest)
		at = (at + 1) % MEMORY_SLOTS;
	return &search->failed[at];
}

static void remember(struct search *search, uint64_t digest)
{
	if (search->failures >= MEMORY_SLOTS / 2)
		return;
	*find_slot(search, digest) = digest;
	search->failures++;
}

/* ---- laying stages ---- */

static void lay(struct search *search, unsigned stage, unsigned end)
{
	unsigned first = search->first[stage];
	struct room *room = &search->rooms[rank_of(search, stage)];

	search->first[stage + 1] = end;
	room->time += cost(search, first, end);
	room->bytes += stage_bytes(search, stage, first, end);
	room->least_bytes -= search->least_bytes[stage];
	room->stages--;
}

static bool fits(const struct search *search, unsigned stage, unsigned end)
{
	unsigned first = search->first[stage];
	const struct room *room = &search->rooms[rank_of(search, stage)];
	double own = cost(search, first, end);

	if (own > search->limits[LIMIT_STAGE] ||
	    room->time + own > search->limits[LIMIT_RANK])
		return false;
	return search->limits[LIMIT_BYTES] == INFINITY ||
	       room->bytes + room->least_bytes - search->least_bytes[stage] +
			       stage_bytes(search, stage, first, end) <=
		       search->limits[LIMIT_BYTES];
}

/*
 * How much of what lies between the ends a stage would get if that were spread
 * over the ranks as they have room for it.
 */
static double even_share(const struct search *search, unsigned stage)
{
	unsigned inner = MAX(search->first[stage], 1u);
	double limit = search->limits[LIMIT_RANK], all = 0, own = 0;

	if (limit == INFINITY)
		limit = search->prefix[search->problem->layers];
	for (unsigned r = 0; r < search->problem->ranks; r++) {
		const struct room *room = &search->rooms[r];
		double time;

		if (room->stages == 0)
			continue;
		time = limit - room->time - reserve_of(search, r, stage).time;
		all += MAX(time, 0);
		if (r == rank_of(search, stage))
			own = MAX(time, 0) / room->stages;
	}
	return all > 0 ? cost(search, inner, last_layer(search)) * own / all
		       : 0;
}

static unsigned even_end(const struct search *search, unsigned stage,
			 unsigned most)
{
	unsigned at = search->first[stage], end = at + 1;
	double wanted = even_share(search, stage);

	if (stage == 0)
		wanted += search->problem->costs[0];
	while (end < most && cost(search, at, end + 1) <= wanted)
		end++;
	if (end < most &&
	    cost(search, at, end + 1) - wanted < wanted - cost(search, at, end))
		end++;
	return end;
}

static enum answer search_from(struct search *search, unsigned stage);

static enum answer try_end(struct search *search, unsigned stage, unsigned end)
{
	struct room *room = &search->rooms[rank_of(search, stage)];
	struct room before = *room;
	enum answer answer = ANSWER_NO;

	lay(search, stage, end);
	if (stage + 1 == search->problem->stages)
		return ANSWER_YES;
	if (is_hopeful(search, stage + 1, end))
		answer = search_from(search, stage + 1);
	if (answer != ANSWER_YES)
		*room = before;
	return answer;
}

/* All ends in [least, most], those near to `even` first. */
static enum answer try_ends(struct search *search, unsigned stage,
			    unsigned least, unsigned most, unsigned even)
{
	unsigned below = even, above = even + 1;
	enum answer answer = ANSWER_NO;

	while (answer == ANSWER_NO && (below >= least || above <= most)) {
		if (below >= least && even - below <= above - even - 1)
			answer = try_end(search, stage, below--);
		else if (above <= most)
			answer = try_end(search, stage, above++);
		else
			answer = try_end(search, stage, below--);
	}
	return answer;
}

static enum answer search_from(struct search *search, unsigned stage)
{
	const struct partition_problem *problem = search->problem;
	unsigned at = search->first[stage], most = at;
	unsigned behind = problem->stages - 1 - stage;
	unsigned least = behind ? at + 1 : problem->layers;
	uint64_t digest = digest_of(search, stage, at);
	enum answer answer;

	if (search->nodes == 0)
		return ANSWER_UNKNOWN;
	search->nodes--;
	if (*find_slot(search, digest) == digest)
		return ANSWER_NO;
	while (most + 1 + behind <= problem->layers &&
	       fits(search, stage, most + 1))
		most++;
	if (most < least)
		return ANSWER_NO;
	answer = try_ends(search, stage, least, most,
			  behind ? even_end(search, stage, most) : most);
	if (answer == ANSWER_NO)
		remember(search, digest);
	return answer;
}

static void reset_rooms(struct search *search)
{
	const struct partition_problem *problem = search->problem;

	for (unsigned r = 0; r < problem->ranks; r++)
		search->rooms[r] = (struct room){
			.bytes = problem->fixed_bytes ? problem->fixed_bytes[r]
						      : 0,
		};
	for (unsigned s = 0; s < problem->stages; s++) {
		struct room *room = &search->rooms[rank_of(search, s)];

		room->stages++;
		room->least_bytes += search->least_bytes[s];
	}
}

static enum answer ask(struct search *search)
{
	search->question++;
	search->nodes = NODES_MAX;
	if (search->failures >= MEMORY_SLOTS / 4) {
		memset(search->failed, 0,
		       MEMORY_SLOTS * sizeof(*search->failed));
		search->failures = 0;
	}
	reset_rooms(search);
	search->first[0] = 0;
	if (!is_hopeful(search, 0, 0))
		return ANSWER_NO;
	return search_from(search, 0);
}

/* ---- the least limits ---- */

/* What a split needs of each limit. */
static void measure(const struct search *search, const unsigned *first,
		    double needs[LIMIT_COUNT])
{
	const struct partition_problem *problem = search->problem;

	memset(needs, 0, LIMIT_COUNT * sizeof(*needs));
	for (unsigned r = 0; r < problem->ranks; r++) {
		double time = 0, bytes = 0;

		for (unsigned s = 0; s < problem->stages; s++) {
			double own = cost(search, first[s], first[s + 1]);

			if (rank_of(search, s) != r)
				continue;
			needs[LIMIT_STAGE] = MAX(needs[LIMIT_STAGE], own);
			time += own;
			bytes += stage_bytes(search, s, first[s], first[s + 1]);
		}
		if (problem->fixed_bytes)
			bytes += problem->fixed_bytes[r];
		needs[LIMIT_RANK] = MAX(needs[LIMIT_RANK], time);
		needs[LIMIT_BYTES] = MAX(needs[LIMIT_BYTES], bytes);
	}
}

/* The least value of a limit that is not hopeless from the start. */
static double least_hopeful(struct search *search, enum limit which,
			    double most)
{
	double low = 0, high = most;

	reset_rooms(search);
	for (unsigned i = 0; i < HALVINGS; i++) {
		search->limits[which] = (low + high) / 2;
		if (is_hopeful(search, 0, 0))
			high = search->limits[which];
		else
			low = search->limits[which];
	}
	return high;
}

/*
 * Lowers one limit to the least the others allow; best[] is a split that meets
 * all of them and becomes the one that meets them last. False: some question
 * went unanswered, and a better one may exist.
 */
static bool minimise(struct search *search, enum limit which, unsigned *best)
{
	size_t bytes = (search->problem->stages + 1) * sizeof(*best);
	double needs[LIMIT_COUNT], low, high, tolerance = TOLERANCE;
	bool first = true;

	measure(search, best, needs);
	high = needs[which];
	low = least_hopeful(search, which, high);
	while (high - low > tolerance * high) {
		enum answer answer;

		search->limits[which] =
			first ? low * (1 + TOLERANCE / 4) : (low + high) / 2;
		first = false;
		answer = ask(search);
		if (answer == ANSWER_YES) {
			memcpy(best, search->first, bytes);
			measure(search, best, needs);
			high = needs[which];
			continue;
		}
		low = search->limits[which];
		if (answer == ANSWER_UNKNOWN)
			tolerance = ROUGH_TOLERANCE;
	}
	search->limits[which] = high * (1 + TOLERANCE);
	return tolerance == TOLERANCE;
}

/* ---- evenness ---- */

static double squares(const struct search *search, const unsigned *first)
{
	double sum = 0;

	for (unsigned s = 0; s < search->problem->stages; s++) {
		double own = cost(search, first[s], first[s + 1]);

		sum += own * own;
	}
	return sum;
}

static bool is_allowed(const struct search *search, const unsigned *first)
{
	double needs[LIMIT_COUNT];

	measure(search, first, needs);
	for (unsigned i = 0; i < LIMIT_COUNT; i++)
		if (needs[i] > search->limits[i])
			return false;
	return true;
}

/* One layer less for stage `from`, one more for `to`; between, all shift. */
static bool shift(unsigned *first, unsigned from, unsigned to)
{
	if (from == to || first[from + 1] - first[from] < 2)
		return false;
	for (unsigned s = MIN(from, to) + 1; s <= MAX(from, to); s++)
		first[s] += from < to ? -1u : 1u;
	return true;
}

/* Moves that make it more even, until there are none; near ones alone where
 * there are very many. */
static void make_even(const struct search *search, unsigned *best,
		      unsigned *room)
{
	unsigned stages = search->problem->stages;
	unsigned reach = stages > 64 ? 4 : stages;
	size_t bytes = (stages + 1) * sizeof(*best);
	double least = squares(search, best);
	bool better = true;

	while (better) {
		better = false;
		for (unsigned i = 0; i < stages * stages; i++) {
			unsigned from = i / stages, to = i % stages;
			double now;

			memcpy(room, best, bytes);
			if (MAX(from, to) - MIN(from, to) > reach ||
			    !shift(room, from, to))
				continue;
			now = squares(search, room);
			if (now < least * (1 - TOLERANCE) &&
			    is_allowed(search, room)) {
				memcpy(best, room, bytes);
				least = now;
				better = true;
			}
		}
	}
}

/* ---- all of it ---- */

static void find_extremes(struct search *search)
{
	double least = INFINITY;

	for (unsigned i = 0; i < search->problem->layers; i++)
		search->costliest =
			MAX(search->costliest, search->problem->costs[i]);
	for (unsigned i = last_layer(search); i-- > 1;) {
		least = MIN(least, search->problem->costs[i]);
		search->cheapest[i] = least;
	}
}

/*
 * What a further inner layer takes, whichever and wherever it comes; 0 where
 * they are not alike.
 */
static double further_bytes(const struct search *search, unsigned stage)
{
	double more = 0;

	for (unsigned i = 1; i + 2 < search->problem->layers; i++) {
		double both = stage_bytes(search, stage, i, i + 2);
		double behind = both - stage_bytes(search, stage, i, i + 1);
		double before = both - stage_bytes(search, stage, i + 1, i + 2);

		if (behind != before || (more > 0 && behind != more))
			return 0;
		more = behind;
	}
	return more;
}

static void find_bytes(struct search *search)
{
	unsigned stages = search->problem->stages;
	unsigned layers = search->problem->layers;

	for (unsigned s = 0; search->problem->bytes && s < stages; s++) {
		double least = INFINITY;

		for (unsigned i = s; i + stages - s <= layers; i++)
			least = MIN(least, stage_bytes(search, s, i, i + 1));
		if (s == 0)
			least = stage_bytes(search, 0, 0, 1);
		if (s + 1 == stages)
			least = stage_bytes(search, s, layers - 1, layers);
		search->least_bytes[s] = least;
		search->more_bytes[s] = further_bytes(search, s);
	}
}

static int search_init(struct search *search,
		       const struct partition_problem *problem)
{
	unsigned layers = problem->layers, stages = problem->stages;

	*search = (struct search){
		.problem = problem,
		.prefix = calloc(layers + 1, sizeof(*search->prefix)),
		.cheapest = calloc(layers, sizeof(*search->cheapest)),
		.least_bytes = calloc(stages, sizeof(*search->least_bytes)),
		.more_bytes = calloc(stages, sizeof(*search->more_bytes)),
		.rooms = calloc(problem->ranks, sizeof(*search->rooms)),
		.first = calloc(stages + 1, sizeof(*search->first)),
		.failed = calloc(MEMORY_SLOTS, sizeof(*search->failed)),
	};
	if (!search->prefix || !search->cheapest || !search->least_bytes ||
	    !search->more_bytes || !search->rooms || !search->first ||
	    !search->failed)
		return fail(-ENOMEM, "no memory to split %u layers", layers);
	for (unsigned i = 0; i < layers; i++)
		search->prefix[i + 1] = search->prefix[i] + problem->costs[i];
	find_extremes(search);
	find_bytes(search);
	for (unsigned i = 0; i < LIMIT_COUNT; i++)
		search->limits[i] = INFINITY;
	return 0;
}

static void search_fini(struct search *search)
{
	free(search->prefix);
	free(search->cheapest);
	free(search->least_bytes);
	free(search->more_bytes);
	free(search->rooms);
	free(search->first);
	free(search->failed);
}

/* Some split under the cap. Without a limit of time there always is one. */
static int find_any(struct search *search, unsigned *best,
		    struct partition_result *result)
{
	size_t bytes = (search->problem->stages + 1) * sizeof(*best);
	double needs[LIMIT_COUNT];
	enum answer answer;

	if (search->problem->bytes)
		search->limits[LIMIT_BYTES] = search->problem->cap;
	answer = ask(search);
	if (answer == ANSWER_YES) {
		memcpy(best, search->first, bytes);
		return 0;
	}
	search->limits[LIMIT_BYTES] = INFINITY;
	ASSERT(ask(search) == ANSWER_YES);
	memcpy(best, search->first, bytes);
	result->exact = minimise(search, LIMIT_BYTES, best);
	measure(search, best, needs);
	result->least_cap = needs[LIMIT_BYTES];
	/* Giving up may find what the first search did not. */
	return result->least_cap <= search->problem->cap ? 0 : -ENOSPC;
}

static int search_all(struct search *search, unsigned *best, unsigned *room,
		      struct partition_result *result)
{
	double needs[LIMIT_COUNT];
	int rc = find_any(search, best, result);

	if (rc)
		return rc;
	if (search->problem->bytes)
		search->limits[LIMIT_BYTES] = search->problem->cap;
	result->exact = minimise(search, LIMIT_RANK, best);
	result->exact &= minimise(search, LIMIT_STAGE, best);
	make_even(search, best, room);
	measure(search, best, needs);
	result->slowest_rank = needs[LIMIT_RANK];
	result->slowest_stage = needs[LIMIT_STAGE];
	return 0;
}

int partition_search(const struct partition_problem *problem,
		     struct partition *out, struct partition_result *result)
{
	unsigned stages = problem->stages;
	unsigned *best = calloc(stages + 1, sizeof(*best));
	unsigned *room = calloc(stages + 1, sizeof(*room));
	struct search search;
	int rc = search_init(&search, problem);

	*result = (struct partition_result){0};
	if (!rc && (!best || !room))
		rc = fail(-ENOMEM, "no memory to split the model");
	if (!rc)
		rc = search_all(&search, best, room, result);
	if (!rc) {
		out->stages = stages;
		memcpy(out->first, best, (stages + 1) * sizeof(*best));
	}
	search_fini(&search);
	free(best);
	free(room);
	return rc;
}
