/*
 * A table in plain text: columns as wide as they must be, cells to the right.
 */
#ifndef STAGECOACH_TOOLS_TABLE_H
#define STAGECOACH_TOOLS_TABLE_H

#include "base/compiler.h"
#include "base/text.h"

#define TABLE_COLUMNS_MAX 14
#define TABLE_CELL_BYTES  256

struct table {
	struct text_builder *out;
	unsigned columns;
	size_t width[TABLE_COLUMNS_MAX];
	unsigned rows; /* the one being written; the caller counts it up */
	char (*cell)[TABLE_COLUMNS_MAX][TABLE_CELL_BYTES];
};

/* Room for so many rows, heads included. -ENOMEM, logged. */
int table_init(struct table *table, unsigned columns, unsigned rows,
	       struct text_builder *out) MUST_CHECK;
/* Names of all columns, as the first row. */
void table_heads(struct table *table, const char *const *heads);
void table_put(struct table *table, unsigned column, const char *format, ...)
	PRINTF_LIKE(3, 4);
/* Bytes as MiB, "1,234.5". */
void table_put_mib(struct table *table, unsigned column, double bytes);
/* Appends it to `out` and frees it. */
void table_write(struct table *table);

#endif
