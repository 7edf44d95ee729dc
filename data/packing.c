#include "data/packing.h"
#include "data/sft/template.h"

#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NONE UINT32_MAX

/* ---- the examples ---- */

/* Places of a row that example e takes. */
static size_t places(const struct sampler *sampler, uint64_t e)
{
	uint64_t length = sampler->first[e + 1] - sampler->first[e] - 1;

	return (size_t)MIN(length, (uint64_t)sampler->context);
}

static int check_example(struct sampler *sampler, const unsigned char *marks,
			 uint64_t e)
{
	uint64_t first = sampler->first[e], end = sampler->first[e + 1];
	size_t used = places(sampler, e);

	sampler->cut += end - first - 1 > used;
	sampler->cut_tokens += end - first - 1 - used;
	for (size_t i = 1; i <= used; i++)
		if (marks[first + i] & MARK_SUPERVISED)
			return 0;
	return fail(-EINVAL,
		    "example %llu of the %s split has %llu tokens, and what is "
		    "supervised of it lies beyond the context of %zu: use a "
		    "longer context, or leave such examples out (prepare "
		    "--longest)",
		    (unsigned long long)e + 1,
		    corpus_split_name(sampler->split),
		    (unsigned long long)(end - first), sampler->context);
}

/* Where each begins, from the marks. */
static int find_examples(struct sampler *sampler)
{
	const unsigned char *marks =
		corpus_marks(sampler->corpus, sampler->split);
	uint64_t tokens = corpus_tokens(sampler->corpus, sampler->split);
	uint64_t found = 0;
	int err = 0;

	for (uint64_t i = 0; i < tokens; i++)
		if (marks[i] & MARK_FIRST)
			sampler->first[found++] = i;
	sampler->first[found] = tokens;
	for (uint64_t e = 0; e < found && !err; e++)
		err = check_example(sampler, marks, e);
	return err;
}

/* ---- packing ---- */

/*
 * Open windows by the places they have left: a list for each number of them,
 * and a bit a list that is not empty, to find the fullest one that is enough.
 */
struct packer {
	size_t context;
	uint32_t *list;  /* [context + 1] its last window */
	uint32_t *below; /* [windows at most] the one before it in its list */
	uint64_t *some;  /* bits */
	uint32_t *place; /* [examples] the window of each */
	uint32_t windows;
};

static void packer_push(struct packer *packer, uint32_t window, size_t left)
{
	packer->below[window] = packer->list[left];
	packer->list[left] = window;
	packer->some[left / 64] |= 1ull << left % 64;
}

/* The smallest number of places left that is at least `wanted`. */
static size_t packer_find(const struct packer *packer, size_t wanted)
{
	size_t word = wanted / 64, words = packer->context / 64 + 1;
	uint64_t bits = packer->some[word] & ~0ull << wanted % 64;

	while (!bits && ++word < words)
		bits = packer->some[word];
	return bits ? word * 64 + (size_t)__builtin_ctzll(bits) : SIZE_MAX;
}

static uint32_t packer_pop(struct packer *packer, size_t left)
{
	uint32_t window = packer->list[left];

	packer->list[left] = packer->below[window];
	if (packer->list[left] == NONE)
		packer->some[left / 64] &= ~(1ull << left % 64);
	return window;
}

static void packer_put(struct packer *packer, uint32_t example, size_t wanted,
		       bool separate)
{
	size_t left = separate ? SIZE_MAX : packer_find(packer, wanted);
	uint32_t window;

	if (left == SIZE_MAX) {
		window = packer->windows++;
		left = packer->context;
	} else {
		window = packer_pop(packer, left);
	}
	packer->place[example] = window;
	packer_push(packer, window, left - wanted);
}

/* Examples by falling length, among equals in their order. */
static void sort_examples(const struct sampler *sampler, uint64_t *counts,
			  uint32_t *sorted)
{
	uint64_t examples = sampler->examples, before = 0;

	for (uint64_t e = 0; e < examples; e++)
		counts[places(sampler, e)]++;
	for (size_t length = sampler->context + 1; length-- > 0;) {
		uint64_t count = counts[length];

		counts[length] = before;
		before += count;
	}
	for (uint64_t e = 0; e < examples; e++)
		sorted[counts[places(sampler, e)]++] = (uint32_t)e;
}

/* From the window of each example to the examples of each window. */
static int list_members(struct sampler *sampler, const struct packer *packer)
{
	uint32_t *first = calloc((size_t)packer->windows + 2, sizeof(*first));

	if (!first)
		return -ENOMEM;
	/* Counted two places further, so that filling leaves them right. */
	for (uint64_t e = 0; e < sampler->examples; e++)
		first[packer->place[e] + 2]++;
	for (size_t w = 2; w < (size_t)packer->windows + 2; w++)
		first[w] += first[w - 1];
	for (uint64_t e = 0; e < sampler->examples; e++)
		sampler->members[first[packer->place[e] + 1]++] = (uint32_t)e;
	sampler->window_first = first;
	sampler->windows = packer->windows;
	return 0;
}

static int pack(struct sampler *sampler)
{
	size_t examples = (size_t)sampler->examples;
	size_t lists = sampler->context + 1;
	struct packer packer = {
		.context = sampler->context,
		.list = malloc(lists * sizeof(*packer.list)),
		.below = malloc(examples * sizeof(*packer.below)),
		.some = calloc(lists / 64 + 1, sizeof(*packer.some)),
		.place = malloc(examples * sizeof(*packer.place)),
	};
	uint64_t *counts = calloc(lists, sizeof(*counts));
	int err = -ENOMEM;

	if (packer.list && packer.below && packer.some && packer.place &&
	    counts) {
		memset(packer.list, 0xff, lists * sizeof(*packer.list));
		sort_examples(sampler, counts, sampler->members);
		for (size_t i = 0; i < examples; i++)
			packer_put(&packer, sampler->members[i],
				   places(sampler, sampler->members[i]),
				   sampler->separate);
		err = list_members(sampler, &packer);
	}
	free(counts);
	free(packer.place);
	free(packer.some);
	free(packer.below);
	free(packer.list);
	return err;
}

int packing_make(struct sampler *sampler)
{
	uint64_t examples = corpus_examples(sampler->corpus, sampler->split);
	int err;

	if (examples == 0)
		return fail(-EINVAL, "the %s split has no examples",
			    corpus_split_name(sampler->split));
	if (examples >= NONE)
		return fail(-EINVAL, "the %s split has over %u examples",
			    corpus_split_name(sampler->split), NONE - 1);
	sampler->examples = examples;
	sampler->first = calloc(examples + 1, sizeof(*sampler->first));
	sampler->members = calloc(examples, sizeof(*sampler->members));
	err = sampler->first && sampler->members ? find_examples(sampler)
						 : -ENOMEM;
	if (!err)
		err = pack(sampler);
	if (err == -ENOMEM)
		fail(err, "no memory to pack %llu examples",
		     (unsigned long long)examples);
	if (err)
		sampler_fini(sampler);
	return err;
}

/* ---- filling ---- */

static int fill_example(const struct sampler *sampler, uint64_t e, size_t used,
			int32_t *tokens, int32_t *labels)
{
	uint64_t first = sampler->first[e];
	const unsigned char *marks =
		corpus_marks(sampler->corpus, sampler->split) + first;
	int err = corpus_read(sampler->corpus, sampler->split, first, used,
			      tokens);

	if (!err)
		err = corpus_read(sampler->corpus, sampler->split, first + 1,
				  used, labels);
	for (size_t t = 0; t < used && !err; t++)
		if (!(marks[t + 1] & MARK_SUPERVISED))
			labels[t] = -1;
	return err;
}

int packing_fill(const struct sampler *sampler, uint64_t window,
		 int32_t *tokens, int32_t *labels, int32_t *starts)
{
	uint32_t end = sampler->window_first[window + 1];
	size_t at = 0;
	int err;

	for (uint32_t i = sampler->window_first[window]; i < end; i++) {
		uint64_t e = sampler->members[i];
		size_t used = places(sampler, e);

		err = fill_example(sampler, e, used, tokens + at, labels + at);
		if (err)
			return err;
		for (size_t t = 0; t < used; t++)
			starts[at + t] = (int32_t)at;
		at += used;
	}
	for (size_t t = at; t < sampler->context; t++) {
		tokens[t] = 0;
		labels[t] = -1;
		starts[t] = (int32_t)at;
	}
	return 0;
}
