/*
 * A micro-batch: typed columns, each routed to the layers that declare it.
 * The memory belongs to whoever filled the struct in.
 */
#ifndef STAGECOACH_MODEL_MICRO_BATCH_H
#define STAGECOACH_MODEL_MICRO_BATCH_H

#include "base/compiler.h"
#include "model/parameter.h"

enum column {
	COLUMN_TOKENS,    /* int32 [B, T], each in [0, V) */
	COLUMN_LABELS,    /* int32 [B, T]; below 0: not supervised */
	COLUMN_POSITIONS, /* int32 [B, T]; absent: position_offset + t */
	/*
	 * int32 [B, T]: the place in its sample where a token's example
	 * begins, for samples of several examples: attention stays inside
	 * each, and positions count from there. Absent: 0 everywhere.
	 */
	COLUMN_SEGMENTS,
	COLUMN_COUNT
};

#define COLUMN_BIT(column) (1u << (column))

struct micro_batch {
	const void *column[COLUMN_COUNT]; /* NULL: not here */
};

const char *column_name(enum column column); /* "tokens", ... */
enum element_type column_type(enum column column);

/* Bytes of one column of a micro-batch of B samples of T tokens. */
size_t column_bytes(enum column column, size_t batch, size_t time);

/* The column as int32 [B, T]; it must be there (ASSERT). */
const int32_t *micro_batch_i32(const struct micro_batch *micro_batch,
			       enum column column);

#endif
