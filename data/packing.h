/*
 * The examples of a corpus packed into the windows of a sampler (see there): a
 * part of it, in a file of its own.
 */
#ifndef STAGECOACH_DATA_PACKING_H
#define STAGECOACH_DATA_PACKING_H

#include "data/sampler.h"

/*
 * Finds the examples and packs them: windows, examples, cut, first, members
 * and window_first of a sampler whose other fields are set.
 */
int packing_make(struct sampler *sampler) MUST_CHECK;

/* One window: tokens, labels, starts [T] each. */
int packing_fill(const struct sampler *sampler, uint64_t window,
		 int32_t *tokens, int32_t *labels, int32_t *starts) MUST_CHECK;

#endif
