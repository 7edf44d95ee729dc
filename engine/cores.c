#include "engine/cores.h"

#include "base/log.h"
#include "base/threads.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

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
	*plan = (struct cores_plan){0};
}

const int *cores_of_rank(const struct cores_plan *plan, unsigned rank)
{
	ASSERT(rank < plan->ranks);
	return plan->core + (size_t)rank * plan->threads;
}

/* snprintf at *used; stops growing at the end of the buffer. */
#define APPEND(...)                                                            \
	do {                                                                   \
		int wrote_ =                                                   \
			snprintf(buffer + used, size - used, __VA_ARGS__);     \
		used = MIN(used + (size_t)MAX(wrote_, 0), size - 1);           \
	} while (0)

char *cores_describe(const struct cores_plan *plan, char *buffer, size_t size)
{
	size_t used = 0;

	ASSERT(size > 0);
	APPEND("%u rank%s x %u thread%s", plan->ranks,
	       plan->ranks == 1 ? "" : "s", plan->threads,
	       plan->threads == 1 ? "" : "s");
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
