#include "engine/agreement.h"
#include "base/digest.h"
#include "base/log.h"
#include "base/threads.h"
#include "engine/pipeline.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK      ((size_t)1 << 18) /* bytes a thread hashes at a time */
#define NAMES_ROOM 256
#define HEX_BYTES  17

/* What is compared, in this order; each as the one before has been found well. */
enum claim {
	CLAIM_REPLICAS, /* all that is held: with the same place of replica 0 */
	CLAIM_SLICES,   /* what is not split: with slice 0 */
	CLAIM_TIE,      /* a tied parameter's copy: with the target */
	CLAIMS,
};

struct agreement {
	struct pipeline *pipeline;
	struct holders holders;
	bool wanted[CLAIMS];
	unsigned copies;  /* of a row: its weights, and moments not shared */
	uint64_t *hashes; /* [rows of the store][copies] */
	uint64_t *blocks; /* of the copy being hashed */
};

/* ---- what there is to compare ---- */

/* The tied parameter whose target is elsewhere; NULL: none. */
static const struct parameter *find_parted(const struct holders *holders)
{
	for (unsigned i = 0; i < holders->count; i++) {
		const struct parameter *row = &holders->parameters[i];
		unsigned stage =
			partition_stage_of(holders->partition, row->layer);

		if (row->tied_to != PARAMETER_NOT_TIED &&
		    !holders_alias(holders, holders->position_of_stage[stage],
				   row))
			return row;
	}
	return NULL;
}

static unsigned position_of(const struct holders *holders,
			    const struct parameter *row)
{
	return holders->position_of_stage[partition_stage_of(holders->partition,
							     row->layer)];
}

/*
 * The rank whose tensors `rank`'s are to be the same as, of this claim; itself
 * if they are nobody's copy.
 */
static unsigned reference_of(const struct agreement *a, enum claim claim,
			     unsigned rank)
{
	const struct grid *grid = &a->pipeline->grid;
	struct grid_place place = grid_place(grid, rank);
	const struct parameter *copy = find_parted(&a->holders);

	switch (claim) {
	case CLAIM_REPLICAS:
		return grid_rank(grid, 0, place.position, place.slice);
	case CLAIM_SLICES:
		return grid_rank(grid, place.replica, place.position, 0);
	case CLAIM_TIE:
		if (place.position != position_of(&a->holders, copy))
			return rank;
		copy = &a->holders.parameters[copy->tied_to];
		return grid_rank(grid, place.replica,
				 position_of(&a->holders, copy), place.slice);
	case CLAIMS:
		break;
	}
	return rank;
}

/* Whether a row of the store is among what a claim compares. */
static bool is_claimed(enum claim claim, const struct store_row *row)
{
	if (row->target >= 0)
		return false; /* the target's row has it */
	switch (claim) {
	case CLAIM_REPLICAS:
		return true;
	case CLAIM_SLICES:
		return !holding_is_split(row->parameter);
	case CLAIM_TIE:
		return row->elsewhere;
	case CLAIMS:
		break;
	}
	return false;
}

/*
 * Number of a copy among those of all parameters, the same on all ranks: a
 * tied one counts as its target where the two are compared.
 */
static size_t item_of(const struct agreement *a, enum claim claim,
		      const struct store_row *row, unsigned copy)
{
	const struct parameter *parameter = row->parameter;
	bool tied = parameter->tied_to != PARAMETER_NOT_TIED;
	unsigned id = claim == CLAIM_TIE && tied ? (unsigned)parameter->tied_to
						 : parameter->id;

	return (size_t)id * a->copies + copy;
}

/* ---- hashing ---- */

struct hashing {
	const unsigned char *data;
	size_t bytes;
	uint64_t *blocks;
};

static void hash_block(void *argument, size_t index, unsigned thread)
{
	const struct hashing *work = argument;
	size_t first = index * BLOCK;

	(void)thread;
	work->blocks[index] = digest_hash64(work->data + first,
					    MIN(BLOCK, work->bytes - first));
}

static size_t block_count(size_t bytes)
{
	return (bytes + BLOCK - 1) / BLOCK;
}

static uint64_t hash_bytes(struct agreement *a, const void *data, size_t bytes)
{
	struct hashing work = {data, bytes, a->blocks};

	threads_run(a->pipeline->world->team, block_count(bytes), hash_block,
		    &work);
	return digest_hash64(a->blocks, block_count(bytes) * sizeof(uint64_t));
}

static uint64_t hash_floats(struct agreement *a, const float *data,
			    size_t count)
{
	return hash_bytes(a, data, count * sizeof(*data));
}

/* The masters; where there are none all ranks have rounded the same. */
static uint64_t hash_weights(struct agreement *a, const struct store_row *row)
{
	size_t count = row->parameter->count;

	return row->weights ? hash_floats(a, row->weights, count)
			    : hash_bytes(a, row->rounded,
					 count * sizeof(*row->rounded));
}

static bool is_wanted(const struct agreement *a, const struct store_row *row)
{
	bool wanted = false;

	for (unsigned c = 0; c < CLAIMS; c++)
		wanted |= a->wanted[c] && is_claimed(c, row);
	return wanted;
}

static void hash_rows(struct agreement *a)
{
	const struct store *store = a->pipeline->store;

	for (unsigned i = 0; i < store->count; i++) {
		const struct store_row *row = &store->rows[i];
		uint64_t *hashes = a->hashes + (size_t)i * a->copies;

		if (!is_wanted(a, row))
			continue;
		hashes[0] = hash_weights(a, row);
		for (unsigned k = 1; k < a->copies; k++)
			if (row->moments[k - 1])
				hashes[k] = hash_floats(a, row->moments[k - 1],
							row->parameter->count);
		world_note_between(a->pipeline->world);
	}
}

static int agreement_init(struct agreement *out, struct pipeline *p)
{
	const struct store *store = p->store;
	size_t blocks = 1;

	*out = (struct agreement){.pipeline = p};
	pipeline_holders(p, &out->holders);
	out->wanted[CLAIM_REPLICAS] = p->grid.replicas > 1;
	out->wanted[CLAIM_SLICES] = p->grid.slices > 1;
	out->wanted[CLAIM_TIE] = find_parted(&out->holders) != NULL;
	out->copies = 1 + (p->shards ? 0 : store->moments);
	for (unsigned i = 0; i < store->count; i++)
		blocks = MAX(blocks,
			     block_count(store->rows[i].parameter->count *
					 sizeof(float)));
	out->hashes = calloc((size_t)store->count * out->copies + 1,
			     sizeof(*out->hashes));
	out->blocks = calloc(blocks, sizeof(*out->blocks));
	return out->hashes && out->blocks
		       ? 0
		       : fail(-ENOMEM, "no memory to compare weights");
}

static void agreement_fini(struct agreement *a)
{
	free(a->hashes);
	free(a->blocks);
}

/* Of this rank's copies with numbers [first, end) that a claim compares. */
static void fold(const struct agreement *a, enum claim claim, size_t first,
		 size_t end, char hex[HEX_BYTES])
{
	const struct store *store = a->pipeline->store;
	uint64_t pair[2] = {0};

	for (unsigned i = 0; i < store->count; i++) {
		const struct store_row *row = &store->rows[i];

		for (unsigned k = 0; k < a->copies; k++) {
			size_t item = item_of(a, claim, row, k);

			if (!is_claimed(claim, row) || item < first ||
			    item >= end)
				continue;
			pair[1] = a->hashes[(size_t)i * a->copies + k];
			pair[0] = digest_hash64(pair, sizeof(pair));
		}
	}
	snprintf(hex, HEX_BYTES, "%016" PRIx64, pair[0]);
}

/* ---- comparing ---- */

static size_t item_total(const struct agreement *a)
{
	return (size_t)a->holders.count * a->copies;
}

/* [host, a hash a claim], of each rank. */
static int tell_hashes(const struct agreement *a, json_t **all)
{
	struct world *world = a->pipeline->world;
	json_t *mine = json_array();
	char hex[HEX_BYTES];
	int rc = json_array_append_new(mine, json_string(world->host));

	for (unsigned c = 0; !rc && c < CLAIMS; c++) {
		fold(a, c, 0, item_total(a), hex);
		rc = json_array_append_new(mine, json_string(hex));
	}
	rc = rc ? fail(-ENOMEM, "no memory to compare weights")
		: world_all_gather(world, mine, all);
	json_decref(mine);
	return rc;
}

static bool differ(const json_t *a, const json_t *b)
{
	return !json_is_string(a) || !json_equal(a, b);
}

/* The first rank from `from` on that differs from its reference; or size. */
static unsigned next_other(const struct agreement *a, enum claim claim,
			   const json_t *all, unsigned from)
{
	unsigned size = a->pipeline->world->size;

	while (from < size &&
	       !differ(json_array_get(json_array_get(all, from), claim + 1),
		       json_array_get(json_array_get(all, reference_of(a, claim,
								       from)),
				      claim + 1)))
		from++;
	return from;
}

/* Whether two ranks differ in copies [first, end); all ranks ask together. */
static int differ_between(const struct agreement *a, enum claim claim,
			  const unsigned pair[2], size_t first, size_t end,
			  bool *out)
{
	struct world *world = a->pipeline->world;
	json_t *mine = NULL, *all;
	char hex[HEX_BYTES];
	int rc;

	if (world->rank == pair[0] || world->rank == pair[1]) {
		fold(a, claim, first, end, hex);
		mine = json_string(hex);
	}
	rc = world_all_gather(world, mine, &all);
	json_decref(mine);
	if (rc)
		return rc;
	*out = differ(json_array_get(all, pair[0]),
		      json_array_get(all, pair[1]));
	json_decref(all);
	return 0;
}

/* The first copy in which two ranks differ, halving what may hold it. */
static int find_item(const struct agreement *a, enum claim claim,
		     const unsigned pair[2], size_t *out)
{
	size_t first = 0, end = item_total(a);

	while (end - first > 1) {
		size_t middle = first + (end - first) / 2;
		bool before;
		int rc = differ_between(a, claim, pair, first, middle, &before);

		if (rc)
			return rc;
		if (before)
			end = middle;
		else
			first = middle;
	}
	*out = first;
	return 0;
}

/* ---- what the root says ---- */

/* "rank 5 (replica 1, on hostb)" */
static void name_rank(const struct agreement *a, enum claim claim,
		      const json_t *all, unsigned rank, char *out, size_t size)
{
	static const char *const axes[CLAIMS] = {
		"replica",
		"slice",
		"position",
	};
	struct grid_place place = grid_place(&a->pipeline->grid, rank);
	unsigned number = claim == CLAIM_REPLICAS ? place.replica
			  : claim == CLAIM_SLICES ? place.slice
						  : place.position;
	const char *host =
		json_string_value(json_array_get(json_array_get(all, rank), 0));

	snprintf(out, size, "rank %u (%s %u, on %s)", rank, axes[claim], number,
		 host && host[0] ? host : "a host without a name");
}

/* "; so do ranks 6, 7": the others that differ. Cut short without room. */
static void name_others(const struct agreement *a, enum claim claim,
			const json_t *all, unsigned first, char *out,
			size_t size)
{
	size_t used = 0;

	out[0] = '\0';
	for (unsigned r = next_other(a, claim, all, first + 1);
	     r < a->pipeline->world->size && used < size;
	     r = next_other(a, claim, all, r + 1))
		used += (size_t)snprintf(out + used, size - used, "%s%u",
					 used ? ", " : "; so do ranks ", r);
	if (used >= size)
		memcpy(out + size - 4, "...", 4);
}

static void name_tensor(const struct agreement *a, size_t item, char *out,
			size_t size)
{
	const struct job *job = a->pipeline->job;
	const char *name = a->holders.parameters[item / a->copies].name;
	unsigned copy = (unsigned)(item % a->copies);

	if (copy == 0)
		snprintf(out, size, "%s", name);
	else
		snprintf(out, size, "%s.%s",
			 optimizer_moment_name(&job->optimizer, copy - 1),
			 name);
}

static int refuse(const struct agreement *a, enum claim claim,
		  const json_t *all, const unsigned pair[2], size_t item)
{
	const struct job *job = a->pipeline->job;
	char who[NAMES_ROOM], whose[NAMES_ROOM], others[NAMES_ROOM];
	char tensor[NAMES_ROOM];
	const char *source = a->pipeline->reach.source;

	if (a->pipeline->world->rank != ROUTE_ROOT)
		return -ECANCELED; /* the root has found it, too, and says so */
	name_rank(a, claim, all, pair[0], who, sizeof(who));
	name_rank(a, claim, all, pair[1], whose, sizeof(whose));
	name_others(a, claim, all, pair[0], others, sizeof(others));
	name_tensor(a, item, tensor, sizeof(tensor));
	if (!job->resume[0] && !job->model[0])
		return fail(
			-EINVAL,
			"%s has other initial weights than %s, first in %s%s: do these hosts have the same program?",
			who, whose, tensor, others);
	return fail(
		-EINVAL,
		"%s has other %s than %s, first in %s%s: is %s the same on these hosts? Without --store shared rank 0 reads it for those that do not share it",
		who, item % a->copies ? "optimizer state" : "weights", whose,
		tensor, others, source);
}

static int compare(const struct agreement *a, const json_t *all)
{
	for (unsigned c = 0; c < CLAIMS; c++) {
		unsigned pair[2];
		size_t item;
		int rc;

		if (!a->wanted[c])
			continue;
		pair[0] = next_other(a, c, all, 0);
		if (pair[0] == a->pipeline->world->size)
			continue;
		pair[1] = reference_of(a, c, pair[0]);
		rc = find_item(a, c, pair, &item);
		return rc ? rc : refuse(a, c, all, pair, item);
	}
	return 0;
}

int agreement_check(struct pipeline *p)
{
	struct agreement a;
	json_t *all;
	int rc = agreement_init(&a, p);

	if (!rc && (a.wanted[CLAIM_REPLICAS] || a.wanted[CLAIM_SLICES] ||
		    a.wanted[CLAIM_TIE])) {
		hash_rows(&a);
		rc = tell_hashes(&a, &all);
		if (!rc) {
			rc = compare(&a, all);
			json_decref(all);
		}
	}
	agreement_fini(&a);
	return rc;
}

/* ---- what multiplies ---- */

static const char *word_of(const json_t *all, unsigned rank, unsigned index)
{
	const char *text = json_string_value(
		json_array_get(json_array_get(all, rank), index));

	return text ? text : "";
}

static int refuse_library(const struct world *world, const json_t *all,
			  unsigned rank)
{
	if (world->rank != ROUTE_ROOT)
		return -ECANCELED; /* the root has seen it, too, and says so */
	return fail(
		-EINVAL,
		"rank %u on %s multiplies bfloat16 by %s, rank 0 on %s by %s, which round differently: have the same library on all hosts, or set STAGECOACH_BFLOAT16=widened on all, or take --dtype fp32",
		rank, word_of(all, rank, 1), word_of(all, rank, 0),
		word_of(all, ROUTE_ROOT, 1), word_of(all, ROUTE_ROOT, 0));
}

int agreement_check_library(struct world *world, const char *library)
{
	json_t *mine = json_pack("[s, s]", library, world->host), *all;
	int rc = mine ? world_all_gather(world, mine, &all)
		      : fail(-ENOMEM, "no memory to compare libraries");

	json_decref(mine);
	if (rc)
		return rc;
	for (unsigned r = 1; !rc && r < world->size; r++)
		if (strcmp(word_of(all, r, 0), word_of(all, ROUTE_ROOT, 0)))
			rc = refuse_library(world, all, r);
	json_decref(all);
	return rc;
}
