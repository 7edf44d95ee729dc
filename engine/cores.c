#include "engine/cores.h"

#include "base/log.h"
#include "base/threads.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int cores_divide(const int *available, unsigned count, unsigned ranks,
		 unsigned threads, bool pin, struct cores_plan *out)
{
	struct cores_plan plan = {.ranks = ranks, .threads = threads};
	size_t total;

	if (ranks == 0)
		return fail(-EINVAL, "a job needs at least one rank");
	if (threads == 0)
		plan.threads = MIN(MAX(count / ranks, 1u), THREADS_MAX);
	if (plan.threads > THREADS_MAX)
		return fail(-EINVAL,
			    "%u threads per rank, at most %d are "
			    "possible",
			    threads, THREADS_MAX);
	total = (size_t)ranks * plan.threads;
	plan.pinned = pin && total <= count;
	plan.core = malloc(total * sizeof(*plan.core));
	if (!plan.core)
		return fail(-ENOMEM, "no memory for the cores of %u ranks",
			    ranks);
	for (size_t i = 0; i < total; i++)
		plan.core[i] = plan.pinned ? available[i] : -1;
	*out = plan;
	return 0;
}

void cores_plan_fini(struct cores_plan *plan)
{
	free(plan->core);
	free(plan->count);
	*plan = (struct cores_plan){0};
}

const int *cores_of_rank(const struct cores_plan *plan, unsigned rank)
{
	ASSERT(rank < plan->ranks);
	return plan->core + (size_t)rank * plan->threads;
}

unsigned cores_threads(const struct cores_plan *plan, unsigned rank)
{
	ASSERT(rank < plan->ranks);
	return plan->count ? plan->count[rank] : plan->threads;
}

/* ---- several machines ---- */

static bool same_machine(const struct cores_site *a, const struct cores_site *b)
{
	return strcmp(a->machine, b->machine) == 0;
}

static bool same_cores(const struct cores_site *a, const struct cores_site *b)
{
	return a->count == b->count &&
	       memcmp(a->available, b->available,
		      a->count * sizeof(*a->available)) == 0;
}

static bool overlap(const struct cores_site *a, const struct cores_site *b)
{
	for (unsigned i = 0; i < a->count; i++)
		for (unsigned j = 0; j < b->count; j++)
			if (a->available[i] == b->available[j])
				return true;
	return false;
}

/* A rank's place among those that share its cores. */
struct share {
	unsigned index, of;
	bool pin;
};

static struct share share_of(const struct cores_site *sites, unsigned ranks,
			     unsigned rank)
{
	const struct cores_site *own = &sites[rank];
	struct share share = {.pin = true};

	for (unsigned i = 0; i < ranks; i++) {
		if (!same_machine(own, &sites[i]))
			continue;
		if (same_cores(own, &sites[i])) {
			share.of++;
			share.index += i < rank;
		} else if (overlap(own, &sites[i])) {
			share.pin = false;
		}
	}
	return share;
}

int cores_divide_sites(const struct cores_site *sites, unsigned ranks,
		       unsigned threads, bool pin, struct cores_plan *out)
{
	struct cores_plan plan = {.ranks = ranks, .pinned = true};
	struct cores_plan *one = calloc(ranks, sizeof(*one));
	int rc = 0;

	plan.count = calloc(ranks, sizeof(*plan.count));
	if (!one || !plan.count)
		rc = -ENOMEM;
	for (unsigned i = 0; !rc && i < ranks; i++) {
		struct share share = share_of(sites, ranks, i);

		rc = cores_divide(sites[i].available, sites[i].count, share.of,
				  threads, pin && share.pin, &one[i]);
		if (rc)
			break;
		plan.count[i] = one[i].threads;
		plan.threads = MAX(plan.threads, one[i].threads);
		plan.pinned &= one[i].pinned;
	}
	plan.core =
		rc ? NULL
		   : calloc((size_t)ranks * plan.threads, sizeof(*plan.core));
	if (!rc && !plan.core)
		rc = -ENOMEM;
	for (unsigned i = 0; !rc && i < ranks; i++) {
		struct share share = share_of(sites, ranks, i);

		memcpy(plan.core + (size_t)i * plan.threads,
		       cores_of_rank(&one[i], share.index),
		       plan.count[i] * sizeof(*plan.core));
	}
	for (unsigned i = 0; one && i < ranks; i++)
		cores_plan_fini(&one[i]);
	free(one);
	if (rc) {
		cores_plan_fini(&plan);
		return rc == -ENOMEM ? fail(rc,
					    "no memory for the cores of %u "
					    "ranks",
					    ranks)
				     : rc;
	}
	*out = plan;
	return 0;
}

/* ---- as text ---- */

#define CORES_MAX 16384

/* snprintf at *used; stops growing at the end of the buffer. */
#define APPEND(...)                                                            \
	do {                                                                   \
		int wrote_ =                                                   \
			snprintf(buffer + used, size - used, __VA_ARGS__);     \
		used = MIN(used + (size_t)MAX(wrote_, 0), size - 1);           \
	} while (0)

char *cores_to_text(const int *cores, unsigned count, char *buffer, size_t size)
{
	size_t used = 0;

	ASSERT(size > 0);
	buffer[0] = '\0';
	for (unsigned i = 0; i < count;) {
		unsigned last = i;

		while (last + 1 < count && cores[last + 1] == cores[last] + 1)
			last++;
		APPEND("%s%d", i ? "," : "", cores[i]);
		if (last > i)
			APPEND("-%d", cores[last]);
		i = last + 1;
	}
	return buffer;
}

int cores_from_text(const char *text, int **cores, unsigned *count)
{
	int *list = NULL;
	unsigned used = 0;

	while (*text) {
		unsigned low, high;
		int length, *grown;

		if (sscanf(text, "%5u%n", &low, &length) != 1)
			goto err_form;
		high = low;
		text += length;
		if (*text == '-') {
			if (sscanf(++text, "%5u%n", &high, &length) != 1)
				goto err_form;
			text += length;
		}
		if (high < low || high >= CORES_MAX ||
		    (*text && *text++ != ',') || used > CORES_MAX)
			goto err_form;
		grown = realloc(list, (used + high - low + 1) * sizeof(*list));
		if (!grown) {
			free(list);
			return -ENOMEM;
		}
		list = grown;
		while (low <= high)
			list[used++] = (int)low++;
	}
	if (used == 0)
		goto err_form;
	*cores = list;
	*count = used;
	return 0;

err_form:
	free(list);
	return -EINVAL;
}

char *cores_describe(const struct cores_plan *plan, char *buffer, size_t size)
{
	size_t used = 0;

	ASSERT(size > 0);
	APPEND("%u rank%s x %u thread%s", plan->ranks,
	       plan->ranks == 1 ? "" : "s", plan->threads,
	       plan->threads == 1 ? "" : "s");
	if (plan->count) {
		for (unsigned i = 0; i < plan->ranks; i++) {
			if (plan->count[i] != plan->threads) {
				APPEND(" at most");
				break;
			}
		}
		if (plan->pinned)
			APPEND(", pinned");
		return buffer;
	}
	if (!plan->pinned) {
		APPEND(", not pinned");
		return buffer;
	}
	APPEND(", pinned to cores");
	for (unsigned rank = 0; rank < plan->ranks; rank++) {
		const int *core = cores_of_rank(plan, rank);

		APPEND("%s %d", rank ? " |" : "", core[0]);
		for (unsigned i = 1; i < plan->threads; i++)
			APPEND(",%d", core[i]);
	}
	return buffer;
}
