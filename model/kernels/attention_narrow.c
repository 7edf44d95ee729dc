#include "model/kernels/attention_narrow.h"
#include "model/kernels/gemm.h"
#include "model/kernels/gemm_dnnl.h"
#include "model/kernels/gemm_pack.h"
#include "model/kernels/values.h"

#include <stdatomic.h>
#include <string.h>

#define NARROW ATTENTION_NARROW
#define LONG   ATTENTION_LONG

_Static_assert(NARROW == GEMM_PACK_COLUMNS, "a block of keys is packed as one");
_Static_assert(NARROW % GEMM_PACK_DEPTH == 0, "blocks begin where packs do");

bool attention_narrow_is_there(void)
{
	return !gemm_bfloat16_is_widened();
}

static size_t rounded_up(size_t size, size_t grain)
{
	return (size + grain - 1) / grain * grain;
}

/* ---- memory ---- */

/* Elements of a right factor [depth, columns], packed. */
static size_t packed_size(size_t depth, size_t columns)
{
	return rounded_up(columns, GEMM_PACK_COLUMNS) * gemm_pack_depth(depth);
}

struct sizes {
	size_t rows;   /* [T, D] */
	size_t deep;   /* [T deep, D wide] */
	size_t keys;   /* [D deep, LONG wide] */
	size_t values; /* the larger of it and [LONG deep, D wide] */
	size_t block;  /* [NARROW deep, D wide] */
};

static struct sizes sizes_of(size_t time, size_t size)
{
	struct sizes sizes = {
		.rows = rounded_up(time, NARROW) * size,
		.deep = packed_size(time, size),
		.keys = packed_size(size, LONG),
		.block = packed_size(NARROW, size),
	};

	sizes.values = MAX(sizes.keys, packed_size(LONG, size));
	/* Each begins a cache line. */
	sizes.rows = rounded_up(sizes.rows, 32);
	return sizes;
}

size_t attention_narrow_bytes(size_t time, size_t size)
{
	struct sizes sizes = sizes_of(time, size);
	size_t elements = 2 * sizes.rows + 2 * sizes.deep + sizes.keys +
			  sizes.values + sizes.block + 2 * NARROW * LONG;

	return elements * sizeof(bfloat16) +
	       LONG * rounded_up(size, GEMM_PACK_COLUMNS) * sizeof(float);
}

struct attention_narrow attention_narrow_place(size_t time, size_t size,
					       void *memory)
{
	struct sizes sizes = sizes_of(time, size);
	struct attention_narrow narrow = {.size = size, .time = time};

	narrow.part = memory;
	narrow.queries =
		(bfloat16 *)(narrow.part +
			     LONG * rounded_up(size, GEMM_PACK_COLUMNS));
	narrow.douts = narrow.queries + sizes.rows;
	narrow.packed_queries = narrow.douts + sizes.rows;
	narrow.packed_douts = narrow.packed_queries + sizes.deep;
	narrow.packed_keys = narrow.packed_douts + sizes.deep;
	narrow.packed_values = narrow.packed_keys + sizes.keys;
	narrow.packed_keys_deep = narrow.packed_values + sizes.values;
	narrow.rounded = narrow.packed_keys_deep + sizes.block;
	narrow.turned = narrow.rounded + NARROW * LONG;
	return narrow;
}

/* ---- products ---- */

static void multiply(size_t rows, size_t columns, size_t k, const bfloat16 *a,
		     const bfloat16 *b, float *c)
{
	int error = gemm_dnnl_prepare(rows, columns, k);

	ASSERT(error == 0); /* prepared, this does nothing */
	gemm_dnnl_tile(rows, columns, k, a, b, c);
}

/* All sizes there may be: rows and keys by NARROW, depths by the pack's. */
static int prepare_thread(size_t time, size_t size)
{
	size_t most = MIN(rounded_up(time, NARROW), (size_t)LONG);
	size_t wide = rounded_up(size, GEMM_PACK_COLUMNS);
	int error = 0;

	for (size_t n = NARROW; n <= most && error == 0; n += NARROW) {
		error = gemm_dnnl_prepare(NARROW, n, size);
		if (error == 0)
			error = gemm_dnnl_prepare(n, NARROW, size);
		if (error == 0)
			error = gemm_dnnl_prepare(n, wide, NARROW);
	}
	for (size_t k = GEMM_PACK_DEPTH; k <= most && error == 0;
	     k += GEMM_PACK_DEPTH) {
		error = gemm_dnnl_prepare(NARROW, wide, k);
		if (error == 0)
			error = gemm_dnnl_prepare(NARROW, NARROW, k);
	}
	return error;
}

struct preparation {
	size_t time, size;
	atomic_int error;
};

static void prepare_task(void *argument, size_t index, unsigned thread)
{
	struct preparation *preparation = argument;
	int error = prepare_thread(preparation->time, preparation->size);

	(void)index;
	(void)thread;
	if (error != 0)
		atomic_store(&preparation->error, error);
}

int attention_narrow_prepare(struct threads *threads, size_t time, size_t size)
{
	struct preparation preparation = {.time = time, .size = size};

	if (!attention_narrow_is_there())
		return 0;
	threads_run_each(threads, prepare_task, &preparation);
	return atomic_load(&preparation.error);
}

/* ---- factors ---- */

/* [D deep, rows wide]: rows of keys or values stand upright. */
static void pack_upright(size_t size, size_t rows, const bfloat16 *from,
			 size_t stride, bfloat16 *out)
{
	for (size_t row = 0; row < rows; row += NARROW)
		gemm_pack_b(GEMM_TRANSPOSED, 0, size,
			    MIN(rows - row, (size_t)NARROW),
			    from + row * stride, stride,
			    out + row / NARROW * gemm_pack_block(size));
}

/* [rows deep, D wide]. */
static void pack_deep(size_t size, size_t rows, const bfloat16 *from,
		      size_t stride, bfloat16 *out)
{
	for (size_t column = 0; column < size; column += GEMM_PACK_COLUMNS)
		gemm_pack_b(GEMM_NORMAL, 0, rows,
			    MIN(size - column, (size_t)GEMM_PACK_COLUMNS),
			    from + column, stride,
			    out + column / GEMM_PACK_COLUMNS *
					    gemm_pack_block(rows));
}

KERNEL_CLONES static void copy_rows(size_t rows, size_t columns,
				    const float *restrict from,
				    size_t from_stride, float *restrict to,
				    size_t to_stride)
{
	for (size_t row = 0; row < rows; row++)
		for (size_t i = 0; i < columns; i++)
			to[row * to_stride + i] = from[row * from_stride + i];
}

KERNEL_CLONES static void add_rows(size_t rows, size_t columns,
				   const float *restrict from,
				   size_t from_stride, float *restrict to,
				   size_t to_stride)
{
	for (size_t row = 0; row < rows; row++)
		for (size_t i = 0; i < columns; i++)
			to[row * to_stride + i] += from[row * from_stride + i];
}

/* A product's part, `columns` of it, to the sums. */
static void put(bool add, size_t rows, size_t columns, const float *part,
		size_t part_stride, float *sums, size_t stride)
{
	(add ? add_rows : copy_rows)(rows, columns, part, part_stride, sums,
				     stride);
}

/* ---- forward ---- */

void attention_narrow_queries(const struct attention_narrow *narrow,
			      size_t queries, const bfloat16 *q, size_t stride)
{
	gemm_pack_a(GEMM_NORMAL, queries, NARROW, narrow->size, q, stride,
		    narrow->queries);
}

void attention_narrow_scores(const struct attention_narrow *narrow, size_t keys,
			     const bfloat16 *k, size_t stride, float *scores)
{
	pack_upright(narrow->size, keys, k, stride, narrow->packed_keys);
	multiply(NARROW, attention_narrow_stride(keys), narrow->size,
		 narrow->queries, narrow->packed_keys, scores);
}

void attention_narrow_values(const struct attention_narrow *narrow,
			     size_t queries, size_t keys, const float *p,
			     const bfloat16 *v, size_t stride, bool add,
			     float *out)
{
	size_t size = narrow->size, depth = gemm_pack_depth(keys);
	size_t wide = rounded_up(size, GEMM_PACK_COLUMNS);
	size_t p_stride = attention_narrow_stride(keys);

	for (size_t row = 0; row < NARROW; row++)
		values_row_round(depth, p + row * p_stride,
				 narrow->rounded + row * depth);
	pack_deep(size, keys, v, stride, narrow->packed_values);
	multiply(NARROW, wide, depth, narrow->rounded, narrow->packed_values,
		 narrow->part);
	put(add, queries, size, narrow->part, wide, out, size);
}

/* ---- backward ---- */

void attention_narrow_head(const struct attention_narrow *narrow,
			   const bfloat16 *q, size_t q_stride,
			   const bfloat16 *dout, size_t dout_stride)
{
	size_t time = narrow->time, size = narrow->size;
	size_t padded = rounded_up(time, NARROW);

	gemm_pack_a(GEMM_NORMAL, time, padded, size, q, q_stride,
		    narrow->queries);
	gemm_pack_a(GEMM_NORMAL, time, padded, size, dout, dout_stride,
		    narrow->douts);
	pack_deep(size, time, q, q_stride, narrow->packed_queries);
	pack_deep(size, time, dout, dout_stride, narrow->packed_douts);
}

void attention_narrow_keys(const struct attention_narrow *narrow, size_t keys,
			   const bfloat16 *k, size_t k_stride,
			   const bfloat16 *v, size_t v_stride)
{
	size_t size = narrow->size;
	size_t block = packed_size(NARROW, size);

	pack_upright(size, keys, k, k_stride, narrow->packed_keys);
	pack_upright(size, keys, v, v_stride, narrow->packed_values);
	/* As deep as a whole block, whose other rows are zero. */
	if (gemm_pack_depth(keys) < NARROW)
		memset(narrow->packed_keys_deep, 0, block * sizeof(bfloat16));
	for (size_t column = 0; column < size; column += GEMM_PACK_COLUMNS)
		gemm_pack_b(GEMM_NORMAL, 0, keys,
			    MIN(size - column, (size_t)GEMM_PACK_COLUMNS),
			    k + column, k_stride,
			    narrow->packed_keys_deep +
				    column / GEMM_PACK_COLUMNS *
					    gemm_pack_block(NARROW));
}

void attention_narrow_both(const struct attention_narrow *narrow, size_t query,
			   size_t queries, float *scores, float *dp)
{
	size_t size = narrow->size, rows = rounded_up(queries, NARROW);

	multiply(rows, NARROW, size, narrow->queries + query * size,
		 narrow->packed_keys, scores);
	multiply(rows, NARROW, size, narrow->douts + query * size,
		 narrow->packed_values, dp);
}

/* Rows of p or ds, and rows of zeros to a whole number of blocks. */
static void round_rows(const struct attention_narrow *narrow, size_t queries,
		       const float *rows)
{
	size_t count = queries * NARROW;
	size_t padded = rounded_up(queries, NARROW) * NARROW;

	values_row_round(count, rows, narrow->rounded);
	memset(narrow->rounded + count, 0, (padded - count) * sizeof(bfloat16));
}

/* sums[keys, D] of rounded^T times what is packed of the head's queries. */
static void multiply_turned(const struct attention_narrow *narrow,
			    const struct attention_narrow_sums *sums,
			    const bfloat16 *packed, float *out)
{
	size_t size = narrow->size, depth = gemm_pack_depth(sums->queries);
	size_t block = gemm_pack_block(narrow->time);

	gemm_pack_a(GEMM_TRANSPOSED, NARROW, NARROW, depth, narrow->rounded,
		    NARROW, narrow->turned);
	for (size_t column = 0; column < size; column += GEMM_PACK_COLUMNS) {
		multiply(NARROW, GEMM_PACK_COLUMNS, depth, narrow->turned,
			 packed + column / GEMM_PACK_COLUMNS * block +
				 sums->query * GEMM_PACK_COLUMNS,
			 narrow->part);
		put(sums->add, sums->keys,
		    MIN(size - column, (size_t)GEMM_PACK_COLUMNS), narrow->part,
		    GEMM_PACK_COLUMNS, out + column, size);
	}
}

void attention_narrow_gradients(const struct attention_narrow *narrow,
				const struct attention_narrow_sums *sums)
{
	size_t size = narrow->size;
	size_t wide = rounded_up(size, GEMM_PACK_COLUMNS);

	round_rows(narrow, sums->queries, sums->p);
	multiply_turned(narrow, sums, narrow->packed_douts, sums->dv);
	round_rows(narrow, sums->queries, sums->ds);
	multiply_turned(narrow, sums, narrow->packed_queries, sums->dk);
	multiply(rounded_up(sums->queries, NARROW), wide, NARROW,
		 narrow->rounded, narrow->packed_keys_deep, narrow->part);
	put(sums->add_dq, sums->queries, size, narrow->part, wide, sums->dq,
	    size);
}
