#include "model/micro_batch.h"

static const struct {
	const char *name;
	enum element_type type;
} columns[COLUMN_COUNT] = {
	[COLUMN_TOKENS] = {"tokens", ELEMENT_I32},
	[COLUMN_LABELS] = {"labels", ELEMENT_I32},
	[COLUMN_POSITIONS] = {"positions", ELEMENT_I32},
	[COLUMN_SEGMENTS] = {"segments", ELEMENT_I32},
};

const char *column_name(enum column column)
{
	ASSERT((unsigned)column < COLUMN_COUNT);
	return columns[column].name;
}

enum element_type column_type(enum column column)
{
	ASSERT((unsigned)column < COLUMN_COUNT);
	return columns[column].type;
}

size_t column_bytes(enum column column, size_t batch, size_t time)
{
	return batch * time * element_type_bytes(column_type(column));
}

const int32_t *micro_batch_i32(const struct micro_batch *micro_batch,
			       enum column column)
{
	ASSERT(column_type(column) == ELEMENT_I32);
	ASSERT(micro_batch && micro_batch->column[column]);
	return micro_batch->column[column];
}
