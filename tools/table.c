#include "tools/table.h"
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIB 1048576.0

int table_init(struct table *t, unsigned columns, unsigned rows,
	       struct text_builder *out)
{
	ASSERT(columns <= TABLE_COLUMNS_MAX);
	*t = (struct table){.out = out, .columns = columns};
	t->cell = calloc(rows, sizeof(*t->cell));
	return t->cell ? 0 : fail(-ENOMEM, "no memory for a table");
}

void table_put(struct table *t, unsigned column, const char *format, ...)
{
	char *cell = t->cell[t->rows][column];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(cell, TABLE_CELL_BYTES, format, arguments);
	va_end(arguments);
	t->width[column] = MAX(t->width[column], strlen(cell));
}

void table_heads(struct table *t, const char *const *heads)
{
	for (unsigned c = 0; c < t->columns; c++)
		table_put(t, c, "%s", heads[c]);
	t->rows++;
}

void table_put_mib(struct table *t, unsigned column, double bytes)
{
	uint64_t tenths = (uint64_t)(bytes / MIB * 10 + 0.5);
	char whole[32];

	text_grouped(whole, sizeof(whole), tenths / 10);
	table_put(t, column, "%s.%u", whole, (unsigned)(tenths % 10));
}

void table_write(struct table *t)
{
	for (unsigned r = 0; r < t->rows; r++) {
		for (unsigned c = 0; c < t->columns; c++)
			text_builder_append(t->out, "%s%*s", c ? "  " : "",
					    (int)t->width[c], t->cell[r][c]);
		text_builder_append(t->out, "\n");
	}
	free(t->cell);
}
