/*
 * Splits for ranks with several stages. Private to the partition.
 */
#ifndef STAGECOACH_ENGINE_PARTITION_SEARCH_H
#define STAGECOACH_ENGINE_PARTITION_SEARCH_H

#include "engine/partition.h"

/* As partition_find(), whose checks are done. */
int partition_search(const struct partition_problem *problem,
		     struct partition *out,
		     struct partition_result *result) MUST_CHECK;

#endif
