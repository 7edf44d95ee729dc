#include "engine/choice.h"
#include "base/log.h"
#include "base/math.h"
#include "base/random.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

struct choice {
	double temperature;
	unsigned top_k;
	struct random_key key;
	uint64_t drawn;
	size_t vocab_size; /* V */
	float *heap;       /* [V] room for the greatest k, the least first */
	double *weights;   /* [V] of those that may be chosen, in their order */
	int32_t *tokens;   /* [V] which they are */
};

int choice_create(double temperature, unsigned top_k, uint64_t seed,
		  size_t vocab_size, struct choice **out)
{
	struct choice *choice = calloc(1, sizeof(*choice));

	if (!choice)
		return fail(-ENOMEM, "no memory to choose tokens");
	*choice = (struct choice){
		.temperature = temperature,
		.top_k = top_k,
		.key = random_key_named(seed, "generate"),
		.vocab_size = vocab_size,
		.heap = calloc(vocab_size, sizeof(*choice->heap)),
		.weights = calloc(vocab_size, sizeof(*choice->weights)),
		.tokens = calloc(vocab_size, sizeof(*choice->tokens)),
	};
	if (!choice->heap || !choice->weights || !choice->tokens) {
		choice_destroy(choice);
		return fail(-ENOMEM, "no memory to choose among %zu tokens",
			    vocab_size);
	}
	*out = choice;
	return 0;
}

void choice_destroy(struct choice *choice)
{
	if (!choice)
		return;
	free(choice->heap);
	free(choice->weights);
	free(choice->tokens);
	free(choice);
}

static int32_t greatest(const float *logits, size_t vocab_size)
{
	float most = logits[0];
	size_t best = 0;

	for (size_t i = 1; i < vocab_size; i++)
		if (logits[i] > most) {
			most = logits[i];
			best = i;
		}
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
	unsigned k = choice->top_k;
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

int32_t choice_next(void *argument, const float *logits, size_t vocab_size)
{
	struct choice *choice = argument;
	int32_t best = greatest(logits, vocab_size);
	float most = logits[best], least;
	double total = 0, left;
	size_t count = 0;

	ASSERT(vocab_size <= choice->vocab_size);
	if (choice->temperature <= 0)
		return best;
	least = threshold(choice, logits, vocab_size);
	for (size_t i = 0; i < vocab_size; i++) {
		if (logits[i] < least)
			continue;
		choice->tokens[count] = (int32_t)i;
		choice->weights[count] = math_exp((double)(logits[i] - most) /
						  choice->temperature);
		total += choice->weights[count++];
	}
	left = total * random_uniform(choice->key, choice->drawn++);
	for (size_t i = 0; i < count; i++) {
		left -= choice->weights[i];
		if (left < 0)
			return choice->tokens[i];
	}
	return best;
}
