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

static int check_two_chunks(unsigned ranks, unsigned micro_batches,
			    unsigned chunks, char *why, size_t size)
{
	(void)ranks;
	(void)micro_batches;
	if (chunks == 2)
		return 0;
	snprintf(why, size, "it has two chunks a rank, not %u", chunks);
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

#define EQUAL_ROUNDS                                                           \
	"M divides into max(1, M/P) equal rounds (M/P rounded down; "          \
	"multiples of P do, and all M below 2P)"

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
		.memory_brief = "min(M, P)",
		.restrictions = "V = 1",
		.paper = "Narayanan et al., Memory-Efficient "
			 "Pipeline-Parallel DNN Training, ICML 2021",
		.default_chunks = 1,
		.check = check_one_chunk,
		.fill = schedule_fill_1f1b,
	},
	{
		.name = "interleaved",
		.title = "1F1B over several chunks a rank",
		.placement = SCHEDULE_PLACEMENT_LOOP,
		.bubble = "(P-1)(F+B)/V, if M >= P",
		.bubble_brief = "(P-1)(F+B)/V",
		.memory =
			"((V-1)R + 2(P-1-r) + 1)/V, at most M, in rounds of R micro-batches (P if it divides M)",
		.memory_brief = "P + (P-1)/V",
		.restrictions = EQUAL_ROUNDS,
		.restrictions_brief = "M in equal rounds",
		.paper =
			"Narayanan et al., Efficient Large-Scale Language Model Training on GPU Clusters, SC 2021",
		.default_chunks = 2,
		.check = schedule_check_rounds,
		.fill = schedule_fill_interleaved,
	},
	{
		.name = "looped-bfs",
		.title = "all micro-batches through one chunk, then the next",
		.placement = SCHEDULE_PLACEMENT_LOOP,
		.bubble = "(P-1)(F+B)/V, if M >= P",
		.bubble_brief = "(P-1)(F+B)/V",
		.memory = "M",
		.restrictions = "none",
		.paper =
			"Lamy-Poirier, Breadth-First Pipeline Parallelism, MLSys 2023",
		.default_chunks = 2,
		.check = check_nothing,
		.fill = schedule_fill_looped_bfs,
	},
	{
		.name = "zb-h1",
		.title = "zero-bubble at the memory of 1F1B: W apart, behind I",
		.placement = SCHEDULE_PLACEMENT_LOOP,
		.bubble = "(P-1)(F+I-W), if W <= min(F, I) and M >= P",
		.bubble_brief = "(P-1)(F+I-W)",
		.memory = "min(M, P)",
		.restrictions = "V = 1",
		.paper =
			"Qi et al., Zero Bubble Pipeline Parallelism, ICLR 2024",
		.default_chunks = 1,
		.check = check_one_chunk,
		.fill = schedule_fill_zb_h1,
	},
	{
		.name = "zb-h2",
		.title = "zero-bubble at twice the memory",
		.placement = SCHEDULE_PLACEMENT_LOOP,
		.bubble =
			"(P-1) max(F, F+I-2W), if W <= min(F, I) and M >= 2P-1; inside a rank's own window 0, if F = I = W",
		.bubble_brief = "(P-1) max(F, F+I-2W)",
		.memory = "2P-1 (min(M, P) where M < 2P-1: ZB-H1's rows)",
		.memory_brief = "2P-1",
		.restrictions = "V = 1",
		.paper =
			"Qi et al., Zero Bubble Pipeline Parallelism, ICLR 2024",
		.default_chunks = 1,
		.check = check_one_chunk,
		.fill = schedule_fill_zb_h2,
	},
	{
		.name = "interleaved-zb",
		.title = "zero-bubble over several chunks a rank",
		.placement = SCHEDULE_PLACEMENT_LOOP,
		.bubble = "(P-1)(F+I-W)/V, if W <= min(F, I) and M >= P",
		.bubble_brief = "(P-1)(F+I-W)/V",
		.memory =
			"((V-1)R + P)/V, at most M, in rounds of R micro-batches (P if it divides M)",
		.memory_brief = "P",
		.restrictions = EQUAL_ROUNDS,
		.restrictions_brief = "M in equal rounds",
		.paper =
			"Qi et al., Zero Bubble Pipeline Parallelism, ICLR 2024",
		.default_chunks = 2,
		.check = schedule_check_rounds,
		.fill = schedule_fill_interleaved_zb,
	},
	{
		.name = "zb-v",
		.title = "zero-bubble, chunks placed as a V",
		.placement = SCHEDULE_PLACEMENT_V,
		.bubble =
			"(P-1) max(I/2, I-W), of it (P-1)(I-W) inside a rank's own window, if W <= F <= I and M >= 2P-1",
		.bubble_brief = "(P-1) max(I/2, I-W)",
		.memory = "P, less where M < 2P-1",
		.memory_brief = "P",
		.restrictions = "V = 2",
		.paper =
			"Qi et al., Pipeline Parallelism with Controllable Memory, NeurIPS 2024",
		.default_chunks = 2,
		.check = check_two_chunks,
		.fill = schedule_fill_zb_v,
	},
	{
		.name = "v-half",
		.title = "V at half the memory of 1F1B, W apart",
		.placement = SCHEDULE_PLACEMENT_V,
		.bubble = "about half of 1F1B's, if F = I = W",
		.bubble_brief = "about 1/2 of 1f1b's",
		.memory = "about P/2 + 1",
		.restrictions = "V = 2",
		.paper =
			"Qi et al., Pipeline Parallelism with Controllable Memory, NeurIPS 2024",
		.default_chunks = 2,
		.check = check_two_chunks,
		.fill = schedule_fill_v_half,
	},
	{
		.name = "v-min",
		.title = "V at a third of the memory of 1F1B, W apart",
		.placement = SCHEDULE_PLACEMENT_V,
		.bubble =
			"about two thirds of 1F1B's, if F = I = W; unequal costs can make it worse than 1F1B",
		.bubble_brief = "about 2/3 of 1f1b's",
		.memory = "about P/3 + 1",
		.restrictions = "V = 2",
		.paper =
			"Qi et al., Pipeline Parallelism with Controllable Memory, NeurIPS 2024",
		.default_chunks = 2,
		.check = check_two_chunks,
		.fill = schedule_fill_v_min,
	},
	{
		.name = "1f1b-v",
		.title =
			"V with B whole at three quarters of the memory of 1F1B",
		.placement = SCHEDULE_PLACEMENT_V,
		.bubble = "about four fifths of 1F1B's, if F = I = W",
		.bubble_brief = "about 4/5 of 1f1b's",
		.memory = "about 3P/4, at most 3P/4 + 1",
		.memory_brief = "about 3P/4",
		.restrictions = "V = 2",
		.paper =
			"Qi et al., Pipeline Parallelism with Controllable Memory, NeurIPS 2024",
		.default_chunks = 2,
		.check = check_two_chunks,
		.fill = schedule_fill_1f1b_v,
	},
	{
		.name = "dualpipe-v",
		.title =
			"forward of one half overlapped with backward of the other",
		.placement = SCHEDULE_PLACEMENT_V,
		.bubble = "(P-1)(F+I-W)/2, if W <= F = I",
		.bubble_brief = "(P-1)(F+I-W)/2",
		.memory = "P + 1/2",
		.restrictions = "V = 2, M >= 2P",
		.paper = "DeepSeek-AI, DeepSeek-V3 Technical Report, 2024",
		.default_chunks = 2,
		.check = schedule_check_dualpipe_v,
		.fill = schedule_fill_dualpipe_v,
	},
	{
		.name = "forward",
		.title = "forward passes only: evaluation, generation",
		.placement = SCHEDULE_PLACEMENT_LOOP,
		.bubble = "(P-1)F/V, if V = 1 or M >= P",
		.bubble_brief = "(P-1)F/V",
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

static int check_sizes(unsigned ranks, unsigned micro_batches, unsigned chunks,
		       char *why, size_t size)
{
	uint64_t stages = (uint64_t)ranks * chunks;

	if (ranks == 0 || micro_batches == 0)
		snprintf(why, size, "ranks and micro-batches are at least 1");
	else if (stages > SCHEDULE_MAX_STAGES)
		snprintf(why, size,
			 "a schedule has at most %u stages, not %llu",
			 SCHEDULE_MAX_STAGES, (unsigned long long)stages);
	else if (micro_batches > SCHEDULE_MAX_MICRO_BATCHES)
		snprintf(why, size, "a schedule has at most %u micro-batches",
			 SCHEDULE_MAX_MICRO_BATCHES);
	else if (stages * micro_batches * 3 > SCHEDULE_MAX_ACTIONS)
		snprintf(why, size,
			 "%u stages times %u micro-batches are too many "
			 "actions (limit %u)",
			 (unsigned)stages, micro_batches, SCHEDULE_MAX_ACTIONS);
	else
		return 0;
	return -EINVAL;
}

int schedule_kind_check(const struct schedule_kind *kind, unsigned ranks,
			unsigned micro_batches, unsigned chunks, char *why,
			size_t size)
{
	if (chunks == 0)
		chunks = kind->default_chunks;
	if (check_sizes(ranks, micro_batches, chunks, why, size))
		return -EINVAL;
	return kind->check(ranks, micro_batches, chunks, why, size);
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
	if (schedule_kind_check(kind, ranks, micro_batches, chunks, why,
				sizeof(why)))
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
