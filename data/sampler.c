#include "data/sampler.h"

#include "base/log.h"

#include <errno.h>
#include <string.h>

int sampler_init(struct sampler *sampler, const struct corpus *corpus,
		 enum corpus_split split, enum sampler_order order,
		 uint64_t seed, size_t context)
{
	uint64_t tokens = corpus_tokens(corpus, split);

	ASSERT(context > 0);
	if (tokens <= context)
		return fail(-EINVAL,
			    "the %s split has %llu tokens; a context "
			    "of %zu needs at least %zu: give more "
			    "text or a shorter context",
			    corpus_split_name(split),
			    (unsigned long long)tokens, context, context + 1);
	*sampler = (struct sampler){
		.corpus = corpus,
		.split = split,
		.order = order,
		.seed = seed,
		.context = context,
		.windows = (tokens - 1) / context,
	};
	return 0;
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

int sampler_fill(const struct sampler *sampler, uint64_t first_sample,
		 size_t count, int32_t *tokens, int32_t *labels)
{
	size_t context = sampler->context, i;
	int err;

	for (i = 0; i < count; i++) {
		uint64_t first =
			sampler_window(sampler, first_sample + i) * context;
		int32_t *row = tokens + i * context;
		int32_t *label = labels + i * context;

		err = corpus_read(sampler->corpus, sampler->split, first,
				  context, row);
		if (!err)
			err = corpus_read(sampler->corpus, sampler->split,
					  first + context, 1,
					  label + context - 1);
		if (err)
			return err;
		memcpy(label, row + 1, (context - 1) * sizeof(*label));
	}
	return 0;
}
