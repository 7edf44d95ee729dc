/*
 * Adapters folded into the model they belong to: W + s B A for each matrix that
 * has an adapter (Hu et al. 2021, "LoRA", section 4.1), everything else as it
 * is.
 */
#ifndef STAGECOACH_ENGINE_MERGE_H
#define STAGECOACH_ENGINE_MERGE_H

#include "base/compiler.h"
#include "model/model.h"

struct merge {
	const char *adapter;        /* folder */
	const char *base;           /* folder of the model */
	struct model_config config; /* base's, with the adapters */
	const char *out;            /* folder to be made; must not exist */
	unsigned threads;
};

/*
 * Makes `out`: the base's tensors in the types and the order they have there,
 * its other files unchanged. The sum is float, rounded once to the tensor's type.
 * Takes memory for one matrix at a time. Nothing stands at `out` after an
 * error: -EINVAL, logged, where adapters and model do not fit; -EEXIST; -ENOMEM;
 * the system's.
 */
int merge_adapters(const struct merge *merge) MUST_CHECK;

#endif
