#include "model/kernels/rows.h"
#include "model/kernels/vector_math.h"

#include <string.h>

size_t rows_of_tokens(const int32_t *tokens, size_t count, size_t rows,
		      unsigned char *marks, size_t room, uint32_t *ids)
{
	size_t found = 0;

	for (size_t i = 0; i < count; i++)
		if (tokens[i] >= 0 && (size_t)tokens[i] < rows)
			marks[tokens[i]] = 1;
	for (size_t row = 0; row < rows; row++) {
		if (!marks[row])
			continue;
		ASSERT(found < room);
		ids[found++] = (uint32_t)row;
		marks[row] = 0;
	}
	return found;
}

void rows_gather(const struct rows *rows, const float *table, float *out)
{
	for (size_t i = 0; i < rows->count; i++)
		memcpy(out + i * rows->width,
		       table + (size_t)rows->ids[i] * rows->width,
		       rows->width * sizeof(*out));
}

KERNEL_CLONES static void add(size_t count, const float *in, float *out)
{
	VECTOR_LOOP
	for (size_t i = 0; i < count; i++)
		out[i] += in[i];
}

/* Not a copy: what is -0 becomes 0, as when a zero is added. */
KERNEL_CLONES static void add_to_zero(size_t count, const float *in, float *out)
{
	VECTOR_LOOP
	for (size_t i = 0; i < count; i++)
		out[i] = 0.0f + in[i];
}

void rows_accumulate(const struct rows *rows, const float *in, float *table)
{
	for (size_t i = 0; i < rows->count; i++)
		add(rows->width, in + i * rows->width,
		    table + (size_t)rows->ids[i] * rows->width);
}

/* The first of ids[] that is `row` or above. */
static size_t find(const struct rows *rows, size_t row)
{
	size_t low = 0, high = rows->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (rows->ids[middle] < row)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

void rows_take(const struct rows *rows, size_t first, size_t count,
	       const float *in, float *table, float *aside)
{
	size_t width = rows->width, at = first, end = first + count;

	for (size_t i = find(rows, first / width); at < end; i++) {
		size_t row = i < rows->count ? rows->ids[i] * width : end;
		size_t begin = MIN(MAX(row, at), end);
		size_t stop = i < rows->count ? MIN(row + width, end) : end;

		add_to_zero(begin - at, in + (at - first), table + at);
		if (aside && stop > begin)
			memcpy(aside + i * width + (begin - row),
			       in + (begin - first),
			       (stop - begin) * sizeof(*in));
		at = stop;
	}
}
