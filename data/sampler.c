#include "data/sampler.h"
#include "data/packing.h"

#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int init_text(struct sampler *sampler)
{
	uint64_t tokens = corpus_tokens(sampler->corpus, sampler->split);
	size_t context = sampler->context;

	if (tokens <= context)
		return fail(-EINVAL,
			    "the %s split has %llu tokens; a context "
			    "of %zu needs at least %zu: give more "
			    "text or a shorter context",
			    corpus_split_name(sampler->split),
			    (unsigned long long)tokens, context, context + 1);
	sampler->windows = (tokens - 1) / context;
	return 0;
}

static int init(struct sampler *out, const struct sampler *wanted)
{
	struct sampler made = *wanted;
	int err;

	ASSERT(made.context > 0);
	if (corpus_has_examples(made.corpus))
		err = packing_make(&made);
	else
		err = init_text(&made);
	if (err)
		return err;
	*out = made;
	return 0;
}

int sampler_init(struct sampler *sampler, const struct corpus *corpus,
		 enum corpus_split split, enum sampler_order order,
		 uint64_t seed, size_t context)
{
	return init(sampler, &(struct sampler){.corpus = corpus,
					       .split = split,
					       .order = order,
					       .seed = seed,
					       .context = context});
}

int sampler_init_separate(struct sampler *sampler, const struct corpus *corpus,
			  enum corpus_split split, enum sampler_order order,
			  uint64_t seed, size_t context)
{
	return init(sampler, &(struct sampler){.corpus = corpus,
					       .split = split,
					       .order = order,
					       .seed = seed,
					       .context = context,
					       .separate = true});
}

void sampler_fini(struct sampler *sampler)
{
	free(sampler->first);
	free(sampler->members);
	free(sampler->window_first);
	*sampler = (struct sampler){0};
}

uint64_t sampler_epoch_samples(const struct sampler *sampler)
{
	return sampler->windows;
}

/* Apart from every other use of the seed by its name, then by the epoch. */
static struct random_key epoch_key(uint64_t seed, uint64_t epoch)
{
	struct random_key key = random_key_named(seed, "data order");

	return random_key_numbered((uint64_t)key.word[0] << 32 | key.word[1],
				   epoch, 0, 0);
}

uint64_t sampler_window(const struct sampler *sampler, uint64_t sample)
{
	uint64_t epoch = sample / sampler->windows;
	uint64_t position = sample % sampler->windows;

	if (sampler->order == SAMPLER_SEQUENTIAL)
		return position;
	return random_permute(epoch_key(sampler->seed, epoch), sampler->windows,
			      position);
}

/* A window of text. */
static int fill_text(const struct sampler *sampler, uint64_t window,
		     int32_t *tokens, int32_t *labels)
{
	size_t context = sampler->context;
	int err = corpus_read(sampler->corpus, sampler->split, window * context,
			      context, tokens);

	if (!err)
		err = corpus_read(sampler->corpus, sampler->split,
				  (window + 1) * context, 1,
				  labels + context - 1);
	if (err)
		return err;
	memcpy(labels, tokens + 1, (context - 1) * sizeof(*labels));
	return 0;
}

int sampler_fill(const struct sampler *sampler, uint64_t first_sample,
		 size_t count, int32_t *tokens, int32_t *labels,
		 int32_t *starts)
{
	size_t context = sampler->context;
	int err = 0;

	for (size_t i = 0; i < count && !err; i++) {
		uint64_t window = sampler_window(sampler, first_sample + i);
		size_t at = i * context;

		if (sampler->first)
			err = packing_fill(sampler, window, tokens + at,
					   labels + at, starts + at);
		else
			err = fill_text(sampler, window, tokens + at,
					labels + at);
	}
	return err;
}
