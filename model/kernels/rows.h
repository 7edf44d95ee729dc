/*
 * Rows of a table of which few matter: an embedding's gradient is zero but in
 * the rows of the step's tokens. Rows are `width` floats; ids[] ascends without
 * repeating. On the calling thread, since each call is short.
 */
#ifndef STAGECOACH_MODEL_KERNELS_ROWS_H
#define STAGECOACH_MODEL_KERNELS_ROWS_H

#include "base/compiler.h"

struct rows {
	const uint32_t *ids; /* [count] */
	size_t count;
	size_t width;
};

/*
 * The distinct ones among count tokens, ascending, into ids[room]; tokens that
 * are no row of the table (below 0, not below `rows`) are left out. marks[rows]
 * is zero before and after. Returns how many, at most `room` (a bug otherwise).
 */
size_t rows_of_tokens(const int32_t *tokens, size_t count, size_t rows,
		      unsigned char *marks, size_t room, uint32_t *ids);

/* out[i] = table[ids[i]], and table[ids[i]] += in[i]. */
void rows_gather(const struct rows *rows, const float *table, float *out);
void rows_accumulate(const struct rows *rows, const float *in, float *table);

/*
 * in[count] stands for elements [first, first + count) of a table that all its
 * other rows' zeros are added to: of ids[i] they go to aside[i] as they are, of
 * other rows to the table, as 0 + in. aside NULL: ids[] stay where they are.
 * in may be the table's own elements.
 */
void rows_take(const struct rows *rows, size_t first, size_t count,
	       const float *in, float *table, float *aside);

#endif
