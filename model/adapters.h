/*
 * Low-rank adapters in a layer's description: any family's, for they are rows
 * of their own behind the linear maps they belong to.
 */
#ifndef STAGECOACH_MODEL_ADAPTERS_H
#define STAGECOACH_MODEL_ADAPTERS_H

#include "model/families/family.h"

/*
 * Fills in the family's usual targets where none are named. -EINVAL, logged: an
 * absurd rank or alpha, layers divided among slices, a family without targets.
 */
int adapters_complete(const struct family_ops *family,
		      struct model_config *config) MUST_CHECK;

/* Adds an adapter behind each linear map of the description that is a target. */
void adapters_insert(const struct model_adapters *adapters,
		     struct layer_description *description);

/* -EINVAL, logged: a target that is no map of the model whose rows these are. */
int adapters_check_targets(const struct model_adapters *adapters,
			   const struct parameter *parameters,
			   unsigned count) MUST_CHECK;

#endif
