#include "base/clock.h"
#include "base/log.h"
#include "base/math.h"
#include "base/random.h"
#include "engine/run.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* Which token comes next: the loss rank's choice, from its logits. */
struct choice {
	const struct job *job;
	struct random_key key;
	uint64_t drawn;
	float *heap; /* [V] room for the greatest k, the least first */
};

static int32_t greatest(const float *logits, size_t vocab_size)
{
	size_t best = 0;

	for (size_t i = 1; i < vocab_size; i++)
		if (logits[i] > logits[best])
			best = i;
	return (int32_t)best;
}

/* Puts `value` in place of a heap's root, the least of `count`. */
static void heap_replace(float *heap, size_t count, float value)
{
	size_t at = 0;

	for (;;) {
		size_t child = 2 * at + 1;

		if (child + 1 < count && heap[child + 1] < heap[child])
			child++;
		if (child >= count || heap[child] >= value)
			break;
		heap[at] = heap[child];
		at = child;
	}
	heap[at] = value;
}

/* The k-th greatest logit: whatever is below it is out. */
static float threshold(struct choice *choice, const float *logits,
		       size_t vocab_size)
{
	unsigned k = choice->job->top_k;
	float *greatest_k = choice->heap;

	if (k == 0 || k >= vocab_size)
		return -INFINITY;
	for (size_t i = 0; i < k; i++)
		greatest_k[i] = -INFINITY;
	for (size_t i = 0; i < vocab_size; i++)
		if (logits[i] > greatest_k[0])
			heap_replace(greatest_k, k, logits[i]);
	return greatest_k[0];
}

static double weight(const float *logits, size_t i, float most,
		     double temperature)
{
	return math_exp((double)(logits[i] - most) / temperature);
}

static int32_t choose(void *argument, const float *logits, size_t vocab_size)
{
	struct choice *choice = argument;
	double temperature = choice->job->temperature, total = 0, left;
	int32_t best = greatest(logits, vocab_size);
	float most = logits[best], least;

	if (temperature <= 0)
		return best;
	least = threshold(choice, logits, vocab_size);
	for (size_t i = 0; i < vocab_size; i++)
		if (logits[i] >= least)
			total += weight(logits, i, most, temperature);
	left = total * random_uniform(choice->key, choice->drawn++);
	for (size_t i = 0; i < vocab_size; i++) {
		if (logits[i] < least)
			continue;
		left -= weight(logits, i, most, temperature);
		if (left < 0)
			return (int32_t)i;
	}
	return best;
}

static void fill_tokens(struct pipeline *p, const int32_t *tokens, size_t count,
			bool stop)
{
	int32_t *into = pipeline_tokens(p, 0);

	p->batch->supervised = 1;
	p->batch->stop = stop;
	for (size_t i = 0; i < count; i++)
		into[i] = tokens[i];
}

static void tell(struct pipeline *p, int32_t token)
{
	char text[64];

	snprintf(text, sizeof(text), "{\"token\":%d}", token);
	/* A reader that is slower than the model loses nothing but time. */
	while (world_event_text(p->world, text) == -EAGAIN &&
	       world_check(p->world) == 0)
		clock_sleep_ns(NS_PER_MS);
}

int run_generate(struct pipeline *p)
{
	const struct job *job = p->job;
	struct choice choice = {.job = job,
				.key = random_key_named(job->seed, "generate")};
	bool root = p->world->rank == ROUTE_ROOT, stop = false;
	size_t offset = 0, time = job->prompt_count;
	const int32_t *next = job->prompt;
	int32_t token;
	int rc = 0;

	choice.heap = calloc(job->config.vocab_size, sizeof(float));
	if (!choice.heap)
		return fail(-ENOMEM, "no memory to choose tokens");
	for (unsigned n = 0; n < job->tokens && offset + time <= job->context;
	     n++) {
		if (root)
			fill_tokens(p, next, time, stop);
		rc = pipeline_decode(p, offset, time, choose, &choice, &token);
		/* Everyone sees the root's word with the next token's batch. */
		if (rc || p->batch->stop)
			break;
		stop = token == job->end_token;
		if (root && !stop)
			tell(p, token);
		stop |= world_stop_requested(p->world);
		next = &token;
		offset += time;
		time = 1;
	}
	free(choice.heap);
	return rc;
}
