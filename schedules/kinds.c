/*
 * The table of built-in schedules, and schedule_generate() on top of it.
 */
#include "schedules/kinds.h"
#include "base/log.h"
#include "base/text.h"
#include "schedules/build.h"
#include <errno.h>
#include <stdio.h>

static int check_one_chunk(unsigned ranks, unsigned micro_batches,
			   unsigned chunks, char *why, size_t size)
{
	(void)ranks;
	(void)micro_batches;
	if (chunks == 1)
		return 0;
	snprintf(why, size, "it has one chunk a rank, not %u", chunks);
	return -EINVAL;
}

static int check_nothing(unsigned ranks, unsigned micro_batches,
			 unsigned chunks, char *why, size_t size)
{
	(void)ranks;
	(void)micro_batches;
	(void)chunks;
	(void)why;
	(void)size;
	return 0;
}

static const struct schedule_kind kinds[] = {
	{
		.name = "gpipe",
		.title = "all forwards, then all backwards",
		.placement = SCHEDULE_PLACEMENT_LOOP,
		.bubble = "(P-1)(F+B)",
		.memory = "M",
		.restrictions = "V = 1",
		.paper = "Huang et al., GPipe, NeurIPS 2019",
		.default_chunks = 1,
		.check = check_one_chunk,
		.fill = schedule_fill_gpipe,
	},
	{
		.name = "1f1b",
		.title = "one forward, one backward in turn",
		.placement = SCHEDULE_PLACEMENT_LOOP,
		.bubble = "(P-1)(F+B)",
		.memory = "min(M, P-r)",
		.restrictions = "V = 1",
		.paper = "Narayanan et al., Memory-Efficient "
			 "Pipeline-Parallel DNN Training, ICML 2021",
		.default_chunks = 1,
		.check = check_one_chunk,
		.fill = schedule_fill_1f1b,
	},
	{
		.name = "forward",
		.title = "forward passes only: evaluation, generation",
		.placement = SCHEDULE_PLACEMENT_LOOP,
		.bubble = "(P-1)F/V",
		.memory = "0",
		.restrictions = "none",
		.paper = "-",
		.default_chunks = 1,
		.check = check_nothing,
		.fill = schedule_fill_forward,
	},
};

size_t schedule_kind_count(void)
{
	return ARRAY_SIZE(kinds);
}

const struct schedule_kind *schedule_kind_at(size_t index)
{
	ASSERT(index < ARRAY_SIZE(kinds));
	return &kinds[index];
}

const struct schedule_kind *schedule_kind_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		const char *a = kinds[i].name;
		const char *b = name;

		while (*a != '\0' && *a == *b) {
			a++;
			b++;
		}
		if (*a == *b)
			return &kinds[i];
	}
	return NULL;
}

static int fail_unknown(const char *name)
{
	const char *names[ARRAY_SIZE(kinds)];
	const char *nearest;

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		names[i] = kinds[i].name;
	nearest = text_nearest(name, names, ARRAY_SIZE(kinds));
	if (nearest)
		return fail(-EINVAL,
			    "no schedule is called '%s'; did you mean "
			    "'%s'?",
			    name, nearest);
	return fail(-EINVAL,
		    "no schedule is called '%s' and no such file "
		    "exists; 'stagecoach schedule list' names the built-in "
		    "ones",
		    name);
}

static int check_sizes(const char *name, unsigned ranks, unsigned micro_batches,
		       unsigned chunks)
{
	uint64_t stages = (uint64_t)ranks * chunks;

	if (ranks == 0 || micro_batches == 0)
		return fail(-EINVAL,
			    "schedule %s: %u stages and %u "
			    "micro-batches; both must be at least 1",
			    name, ranks, micro_batches);
	if (stages > SCHEDULE_MAX_STAGES)
		return fail(-EINVAL,
			    "schedule %s: %u ranks of %u chunks are "
			    "more than %u stages",
			    name, ranks, chunks, SCHEDULE_MAX_STAGES);
	if (micro_batches > SCHEDULE_MAX_MICRO_BATCHES)
		return fail(-EINVAL,
			    "schedule %s: %u micro-batches are more "
			    "than %u",
			    name, micro_batches, SCHEDULE_MAX_MICRO_BATCHES);
	if (stages * micro_batches * 3 > SCHEDULE_MAX_ACTIONS)
		return fail(-EINVAL,
			    "schedule %s: %u stages times %u "
			    "micro-batches are too many actions (limit %u)",
			    name, (unsigned)stages, micro_batches,
			    SCHEDULE_MAX_ACTIONS);
	return 0;
}

int schedule_generate(const char *name, unsigned ranks, unsigned micro_batches,
		      unsigned chunks, struct schedule **out)
{
	const struct schedule_kind *kind = schedule_kind_find(name);
	struct schedule *schedule;
	char why[256] = "";
	int error;

	if (kind == NULL)
		return fail_unknown(name);
	if (chunks == 0)
		chunks = kind->default_chunks;
	error = check_sizes(name, ranks, micro_batches, chunks);
	if (error)
		return error;
	if (kind->check(ranks, micro_batches, chunks, why, sizeof(why)))
		return fail(-EINVAL,
			    "schedule %s does not fit %u ranks, %u "
			    "micro-batches, %u chunks: %s",
			    name, ranks, micro_batches, chunks, why);
	schedule = schedule_create(name, ranks, chunks, micro_batches,
				   kind->placement);
	if (schedule == NULL)
		return -ENOMEM;
	error = kind->fill(schedule);
	if (error) {
		schedule_destroy(schedule);
		return error;
	}
	*out = schedule;
	return 0;
}
